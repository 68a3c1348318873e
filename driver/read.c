// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reads into regions: the io_uring command READ and the ioctl REGION_READ.
 *
 * Both are an ordinary direct read of the target's file, whose destination is
 * the region's pages: nothing is pinned, mapped or looked up page by page.
 *
 * The life of an asynchronous read (struct penstock_io): made by
 * penstock_uring_cmd(), it holds the region's active count and a reference on
 * the target. penstock_io_complete(), in interrupt context as a rule, drops
 * them, and only then queues the task work that posts the CQE: a ring that is
 * never reaped keeps no memory busy. File systems look at the kiocb and at its
 * file even after they have handed the read on, when it may be complete: so
 * the submitter holds the struct, and by it the target, until their return.
 * The request holds the file of the device node until its CQE, and by it this
 * module.
 *
 * A read that must not wait may come back with EAGAIN after it was accepted,
 * when io_uring can no longer repeat it in a worker of its own. It is repeated
 * from our workqueue, once, where it may wait, with the credentials of the
 * submitter, after his return; it remains in flight meanwhile. What it reads
 * there is accounted to the root cgroup.
 *
 * A synchronous read waits in the file system, which cannot be interrupted,
 * like any direct read; signals are looked at between two reads.
 */
#include <linux/blkdev.h>
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/ioprio.h>
#include <linux/overflow.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include "penstock_drv.h"
#include "trace.h"

/**
 * struct penstock_read_args - one read, copied from where its caller could change it
 * @target_id: read from here
 * @region_id: into this
 * @offset: bytes into the file
 * @region_offset: bytes into the region
 * @length: bytes
 */
struct penstock_read_args {
	u32 target_id;
	u32 region_id;
	u64 offset;
	u64 region_offset;
	u32 length;
};

/**
 * struct penstock_rd - a read that was found valid
 * @open: whose
 * @target: a reference
 * @region: active
 * @pos: bytes into the file
 * @mem_offset: bytes into the region's memory
 * @len: bytes to read: less than asked for when the file ends before
 * @asked: bytes asked for
 */
struct penstock_rd {
	struct penstock_open *open;
	struct penstock_target *target;
	struct penstock_region *region;
	u64 pos;
	u64 mem_offset;
	u32 len;
	u32 asked;
};

/**
 * struct penstock_io - an asynchronous read
 * @iocb: what the file system completes
 * @ref: 1 until it has completed, and 1 until its submission has returned
 * @again: it has completed with EAGAIN, and is to be repeated
 * @rd: what is read
 * @cmd: the io_uring command, which waits for us
 * @cred: for repeating it, a reference; NULL when it is not repeated
 * @work: the repetition
 */
struct penstock_io {
	struct kiocb iocb;
	refcount_t ref;
	bool again;
	struct penstock_rd rd;
	struct io_uring_cmd *cmd;
	const struct cred *cred;
	struct work_struct work;
};

static struct kmem_cache *penstock_io_cache;
static struct workqueue_struct *penstock_read_wq;

/* Every event counts twice: for the region, and for the open, which outlives it. */
static inline void count_at(const struct penstock_rd *rd, size_t offset, u64 n)
{
	this_cpu_add(*(u64 __percpu *)((void __percpu *)rd->region->stats + offset), n);
	this_cpu_add(*(u64 __percpu *)((void __percpu *)rd->open->stats + offset), n);
}

#define count(rd, field, n) count_at(rd, offsetof(struct penstock_stats, field), n)

/* Errors that depend on the request alone. */
static int check_range(const struct penstock_read_args *args, const struct penstock_target *target,
		       const struct penstock_region *region)
{
	u64 end;

	if (!args->length || args->length > MAX_RW_COUNT)
		return -EINVAL;
	if ((args->offset | args->length) & (target->offset_align - 1))
		return -EINVAL;
	if (args->region_offset & (target->mem_align - 1))
		return -EINVAL;
	if (check_add_overflow(args->offset, (u64)args->length, &end) || end > LLONG_MAX)
		return -EOVERFLOW;
	if (check_add_overflow(args->region_offset, (u64)args->length, &end))
		return -EOVERFLOW;
	return end > region->len ? -EINVAL : 0;
}

static int check_allowed(const struct penstock_target *target, const struct penstock_mem *mem)
{
	/* Workers of io_uring share the submitter's address space. */
	if (mem->only_mm && mem->only_mm != current->mm)
		return -EPERM;
	if (mem->p2p && penstock_target_peer_reason(target))
		return -EOPNOTSUPP;
	return penstock_target_recheck(target) ? -EOPNOTSUPP : 0;
}

/*
 * Only up to the end of the file: file systems fill what lies behind it with
 * zeros. The last block is read as a whole.
 */
static void trim_to_eof(struct penstock_rd *rd)
{
	u64 size = i_size_read(rd->target->inode);

	if (likely(rd->pos + rd->len <= size))
		return;
	rd->len = rd->pos >= size ? 0 :
		  min_t(u64, rd->len, round_up(size - rd->pos, (u64)rd->target->offset_align));
}

/* Whatever was checked before is checked again: nothing is remembered between two attempts. */
static int rd_begin(struct penstock_rd *rd, struct penstock_open *open, const struct penstock_read_args *args)
{
	int ret;

	rd->open = open;
	rd->target = penstock_target_get(open, args->target_id);
	if (!rd->target) {
		ret = -ENOENT;
		goto err_count;
	}
	rd->region = penstock_region_begin(open, args->region_id);
	if (IS_ERR(rd->region)) {
		ret = PTR_ERR(rd->region);
		goto err_target;
	}
	ret = check_range(args, rd->target, rd->region);
	if (!ret)
		ret = check_allowed(rd->target, rd->region->mem);
	if (ret)
		goto err_region;

	rd->pos = args->offset;
	rd->mem_offset = rd->region->mem_offset + args->region_offset;
	rd->len = args->length;
	rd->asked = args->length;
	trim_to_eof(rd);
	penstock_object_add(PENSTOCK_OBJECT_IO, 1);
	return 0;

err_region:
	penstock_count(rd->region, refused, 1);
	penstock_region_end(rd->region);
err_target:
	penstock_target_put(rd->target);
err_count:
	penstock_count(open, refused, 1);
	return ret;
}

/* It was not submitted. The caller has counted why. */
static void rd_drop(struct penstock_rd *rd)
{
	penstock_object_add(PENSTOCK_OBJECT_IO, -1);
	penstock_region_end(rd->region);
	penstock_target_put(rd->target);
}

/*
 * The read has ended with @res, and is in flight no more; the target is still
 * held. Returns what the caller is told. Any context.
 */
static long rd_end(struct penstock_rd *rd, long res, bool direct)
{
	struct penstock_mem *mem = rd->region->mem;

	if (unlikely(!direct)) {
		/* The CPU has copied: a slow path is not taken silently. */
		res = -EOPNOTSUPP;
		count(rd, fallbacks, 1);
	} else if (unlikely(res < 0)) {
		/* A signal in a hook of the file system: there is no system call to restart. */
		if (res == -ERESTARTSYS || res == -ERESTARTNOINTR || res == -ERESTARTNOHAND ||
		    res == -ERESTART_RESTARTBLOCK)
			res = -EINTR;
		if (res == -EREMOTEIO)
			count(rd, unreachable, 1);
		count(rd, errors, 1);
	} else {
		if (mem->ops->flush && res)
			mem->ops->flush(mem);
		count(rd, reads, 1);
		count(rd, bytes, res);
		if (res < rd->asked)
			count(rd, shorts, 1);
	}
	trace_penstock_read_complete(rd->open, rd->target->id, rd->region->id, rd->pos, rd->asked, res);
	penstock_object_add(PENSTOCK_OBJECT_IO, -1);
	penstock_region_end(rd->region);
	return res;
}

/* Nothing lies there to read. */
static int rd_end_empty(struct penstock_rd *rd)
{
	rd_end(rd, 0, true);
	penstock_target_put(rd->target);
	return 0;
}

static ssize_t rd_submit(struct penstock_rd *rd, struct kiocb *iocb)
{
	struct blk_plug plug;
	struct iov_iter iter;
	ssize_t ret;

	trace_penstock_read_submit(rd->open, rd->target->id, rd->region->id, rd->pos,
				   rd->mem_offset - rd->region->mem_offset, rd->len, iocb->ki_flags & IOCB_NOWAIT);
	/* It is gone when this returns; what lies behind it belongs to the memory. */
	penstock_mem_iter(rd->region->mem, rd->mem_offset, rd->len, &iter);
	if (rd->len <= rd->target->nowait_len)
		return vfs_iocb_iter_read(rd->target->file, iocb, &iter);
	/* More than one request: the drive is told once of all. */
	blk_start_plug(&plug);
	ret = vfs_iocb_iter_read(rd->target->file, iocb, &iter);
	blk_finish_plug(&plug);
	return ret;
}

static void rd_init_kiocb(const struct penstock_rd *rd, struct kiocb *iocb, int flags)
{
	*iocb = (struct kiocb) {
		.ki_filp = rd->target->file,
		.ki_pos = rd->pos,
		.ki_flags = IOCB_DIRECT | flags,
		.ki_ioprio = get_current_ioprio(),
	};
}

/* ---- the io_uring command ---- */

static void io_free(struct penstock_io *io)
{
	penstock_target_put(io->rd.target);
	if (io->cred)
		put_cred(io->cred);
	kmem_cache_free(penstock_io_cache, io);
}

static void io_put(struct penstock_io *io)
{
	if (!refcount_dec_and_test(&io->ref))
		return;
	if (likely(!io->again)) {
		io_free(io);
		return;
	}
	io->again = false;
	refcount_set(&io->ref, 2);
	queue_work(penstock_read_wq, &io->work);
}

static long io_end(struct penstock_io *io, long res)
{
	return rd_end(&io->rd, res, io->iocb.ki_flags & IOCB_DIRECT);
}

static void io_post(struct io_uring_cmd *cmd, unsigned int issue_flags)
{
	penstock_uring_done(cmd, *io_uring_cmd_to_pdu(cmd, int), issue_flags);
}

PENSTOCK_URING_TASK_WORK(io_task_work, io_post)

/* All that the read holds is given back here, before anything waits for the submitter. */
static void io_finish(struct penstock_io *io, long res)
{
	struct io_uring_cmd *cmd = io->cmd;

	*io_uring_cmd_to_pdu(cmd, int) = io_end(io, res);
	io_put(io);
	penstock_uring_in_task(cmd, io_task_work);
}

static void io_repeat(struct work_struct *work)
{
	struct penstock_io *io = container_of(work, struct penstock_io, work);
	const struct cred *old;
	ssize_t ret;

	io->iocb.ki_flags &= ~IOCB_NOWAIT;
	io->iocb.ki_pos = io->rd.pos;
	old = override_creds(io->cred);
	ret = rd_submit(&io->rd, &io->iocb);
	revert_creds(old);
	if (ret != -EIOCBQUEUED)
		io_finish(io, ret);
	io_put(io);
}

static void penstock_io_complete(struct kiocb *iocb, long res)
{
	struct penstock_io *io = container_of(iocb, struct penstock_io, iocb);

	/* Without NOWAIT it does not come here a second time. A stacked device may say that it knows no NOWAIT. */
	if (unlikely((res == -EAGAIN || res == -EOPNOTSUPP) && (iocb->ki_flags & IOCB_NOWAIT))) {
		count(&io->rd, resubmitted, 1);
		trace_penstock_read_resubmit(io->rd.open, io->rd.target->id, io->rd.region->id, io->rd.pos,
					     io->rd.asked, res);
		io->again = true;
		io_put(io);
		return;
	}
	io_finish(io, res);
}

static struct penstock_io *io_alloc(const struct penstock_rd *rd, struct io_uring_cmd *cmd, int flags)
{
	struct penstock_io *io = kmem_cache_alloc(penstock_io_cache, GFP_KERNEL);

	if (!io)
		return NULL;
	refcount_set(&io->ref, 2);
	io->again = false;
	io->rd = *rd;
	io->cmd = cmd;
	io->cred = NULL;
	rd_init_kiocb(rd, &io->iocb, flags | PENSTOCK_IOCB_ALLOC_CACHE);
	io->iocb.ki_complete = penstock_io_complete;
	if (flags & IOCB_NOWAIT) {
		io->cred = get_current_cred();
		INIT_WORK(&io->work, io_repeat);
	}
	return io;
}

/* The entry of the ring is the submitter's memory, and may change at any time: each field is read once. */
static int copy_sqe(struct io_uring_cmd *cmd, struct penstock_read_args *args)
{
	const struct penstock_uring_read *sqe = penstock_uring_payload(cmd, struct penstock_uring_read);
	u64 unused = READ_ONCE(sqe->flags);
	int i;

	args->target_id = READ_ONCE(sqe->target_id);
	args->region_id = READ_ONCE(sqe->region_id);
	args->offset = READ_ONCE(sqe->offset);
	args->region_offset = READ_ONCE(sqe->region_offset);
	args->length = READ_ONCE(sqe->length);
	for (i = 0; i < ARRAY_SIZE(sqe->__reserved); i++)
		unused |= READ_ONCE(sqe->__reserved[i]);
	return unused ? -EOPNOTSUPP : 0;
}

static int uring_args(struct io_uring_cmd *cmd, unsigned int issue_flags, struct penstock_read_args *args)
{
	if (cmd->cmd_op != PENSTOCK_URING_CMD_READ)
		return cmd->cmd_op == PENSTOCK_URING_CMD_WRITE ? -EOPNOTSUPP : -ENOTTY;
	if (!(issue_flags & IO_URING_F_SQE128) || (issue_flags & IO_URING_F_IOPOLL))
		return -EOPNOTSUPP;
	if (cmd->flags & IORING_URING_CMD_FIXED)
		return -EOPNOTSUPP;
	return copy_sqe(cmd, args);
}

/*
 * A read that has ended already. io_uring of 6.1 loses a positive result that
 * is returned in one of its workers: the CQE never comes.
 */
static int uring_result(struct io_uring_cmd *cmd, long res, unsigned int issue_flags)
{
	if (res <= 0)
		return res;
	penstock_uring_done(cmd, res, issue_flags);
	return -EIOCBQUEUED;
}

int penstock_uring_cmd(struct io_uring_cmd *cmd, unsigned int issue_flags)
{
	struct penstock_open *open = cmd->file->private_data;
	bool nonblock = issue_flags & IO_URING_F_NONBLOCK;
	struct penstock_read_args args;
	struct penstock_io *io;
	struct penstock_rd rd;
	ssize_t ret;

	ret = uring_args(cmd, issue_flags, &args);
	if (unlikely(ret)) {
		penstock_count(open, refused, 1);
		return ret;
	}
	ret = rd_begin(&rd, open, &args);
	if (unlikely(ret))
		return ret;
	if (unlikely(!rd.len))
		return rd_end_empty(&rd);
	/* A read that begins in the middle of a page has a segment more. */
	if (nonblock && offset_in_page(rd.mem_offset) + rd.len > rd.target->nowait_len) {
		count(&rd, punted, 1);
		rd_drop(&rd);
		return -EAGAIN;
	}
	io = io_alloc(&rd, cmd, nonblock ? IOCB_NOWAIT : 0);
	if (unlikely(!io)) {
		count(&rd, refused, 1);
		rd_drop(&rd);
		return -ENOMEM;
	}
	ret = rd_submit(&rd, &io->iocb);
	if (likely(ret == -EIOCBQUEUED)) {
		io_put(io);
		return ret;
	}
	/* It has not been handed on, or has ended: both references are ours. */
	if (ret == -EAGAIN && nonblock && (io->iocb.ki_flags & IOCB_DIRECT)) {
		/* io_uring repeats it where it may wait. */
		count(&rd, punted, 1);
		penstock_object_add(PENSTOCK_OBJECT_IO, -1);
		penstock_region_end(rd.region);
	} else {
		ret = io_end(io, ret);
	}
	io_free(io);
	return uring_result(cmd, ret, issue_flags);
}

/* ---- the ioctl ---- */

static long read_sync(struct penstock_open *open, const struct penstock_read *read)
{
	const struct penstock_read_args args = {
		.target_id = read->target_id,
		.region_id = read->region_id,
		.offset = read->offset,
		.region_offset = read->region_offset,
		.length = read->length,
	};
	struct penstock_rd rd;
	struct kiocb iocb;
	long ret;

	if (read->flags) {
		penstock_count(open, refused, 1);
		return -EOPNOTSUPP;
	}
	ret = rd_begin(&rd, open, &args);
	if (ret)
		return ret;
	if (!rd.len)
		return rd_end_empty(&rd);
	rd_init_kiocb(&rd, &iocb, 0);
	ret = rd_submit(&rd, &iocb);
	ret = rd_end(&rd, ret, iocb.ki_flags & IOCB_DIRECT);
	penstock_target_put(rd.target);
	return ret;
}

/* Each descriptor is fetched once, and shortly before its turn: an array of any length needs no memory. */
static int read_one(struct penstock_open *open, void __user *user, u32 size)
{
	struct penstock_read read;
	int ret;

	ret = copy_struct_from_user(&read, sizeof(read), user, size);
	if (ret)
		return ret;
	read.out_result = read_sync(open, &read);
	if (copy_to_user(user + offsetof(struct penstock_read, out_result), &read.out_result,
			 sizeof(read.out_result)))
		return -EFAULT;
	return 0;
}

int penstock_ioctl_region_read(struct penstock_open *open, void *arg)
{
	struct penstock_region_read *reads = arg;
	void __user *user = u64_to_user_ptr(reads->reads_uptr);
	u32 i;
	int ret;

	if (reads->flags || reads->__reserved)
		return -EOPNOTSUPP;
	reads->out_nr_done = 0;
	if (!reads->nr_reads || reads->nr_reads > PENSTOCK_REGION_READ_MAX ||
	    reads->read_size < sizeof(struct penstock_read))
		return -EINVAL;
	if (reads->read_size > PAGE_SIZE)
		return -E2BIG;

	for (i = 0; i < reads->nr_reads; i++) {
		/*
		 * Not ERESTARTSYS: the call must not begin anew by itself. Task
		 * work of io_uring is no signal that a caller would know of.
		 */
		if (task_sigpending(current))
			return -EINTR;
		ret = read_one(open, user + (size_t)i * reads->read_size, reads->read_size);
		if (ret)
			return ret;
		reads->out_nr_done++;
		cond_resched();
	}
	return 0;
}

int penstock_read_init(void)
{
	penstock_io_cache = KMEM_CACHE(penstock_io, SLAB_HWCACHE_ALIGN);
	if (!penstock_io_cache)
		return -ENOMEM;
	penstock_read_wq = alloc_workqueue("penstock_read", WQ_UNBOUND, 0);
	if (!penstock_read_wq) {
		kmem_cache_destroy(penstock_io_cache);
		return -ENOMEM;
	}
	return 0;
}

void penstock_read_exit(void)
{
	destroy_workqueue(penstock_read_wq);
	kmem_cache_destroy(penstock_io_cache);
}
