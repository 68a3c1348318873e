// SPDX-License-Identifier: MIT
/*
 * The io_uring engine: see ring.h.
 *
 * What the kernel can do is found by trying (ring_probe.c), never from its version:
 * setup flags fall back step by step, sparse tables of files and buffers are used
 * where they can be made, and a ring of the same kind is tried before this one is
 * trusted (a seccomp filter, a sysctl or a limit on locked memory may forbid any
 * of these steps). The ring is made disabled and enabled at its first use, which
 * makes the using thread its single issuer. liburing returns -errno and leaves
 * errno alone, so texts are made from what it returns.
 */
#include <errno.h>
#include <inttypes.h>
#include <liburing.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "drv.h"
#include "err.h"
#include "ring.h"
#include "ring_probe.h"
#include "util.h"

/* Entries besides the reads: the poll of the wake descriptor, and liburing's timeout on old kernels. */
#define EXTRA_ENTRIES	2u
/* File numbers at or above this are read by their descriptor. */
#define FILE_TABLE	1024u
/* Reads of one submission, of several that are queued: see put_staged(). */
#define STEP		4u
#define BUSY_PAUSE_NS	100000

struct uring {
	struct io_uring ring;
	uint32_t flags;
	bool enabled;
	bool wake_armed;
	/* the wake in the ring was reported by enter; one that pop met unreported is reported by the next */
	bool wake_reported;
	bool wake_late;
	bool file_table;
	bool buf_table;
	int wake_fd;
	int drv;
	uint32_t nr_slots;
	uint32_t nr_fds;
	/* queued, and not in the ring yet; room for the depth */
	struct penstock_read **staged;
	uint32_t nr_staged;
	uint32_t depth;
	int *fds;
	char *why;
	size_t why_len;
	bool has_buf[PENSTOCK_RING_MAX_BUFS];
};

static const struct {
	uint32_t flags;
	const char *lost;
} setups[] = {
	{ IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_R_DISABLED, "" },
	{ IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_R_DISABLED, "no DEFER_TASKRUN" },
	{ IORING_SETUP_COOP_TASKRUN, "no SINGLE_ISSUER, no DEFER_TASKRUN" },
	{ 0, "no SINGLE_ISSUER, no DEFER_TASKRUN, no COOP_TASKRUN" },
};

static void note(struct uring *u, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* One more thing that was refused. */
static void note(struct uring *u, const char *fmt, ...)
{
	size_t len = strlen(u->why);
	va_list ap;

	if (len + 3 >= u->why_len)
		return;
	if (len)
		len += (size_t)snprintf(u->why + len, u->why_len - len, "; ");
	va_start(ap, fmt);
	vsnprintf(u->why + len, u->why_len - len, fmt, ap);
	va_end(ap);
}

/* Bytes of the two rings and the entries, as far as they are charged at all. */
static size_t ring_bytes(uint32_t entries)
{
	size_t n = 1;

	while (n < entries)
		n *= 2;
	return n * sizeof(struct io_uring_sqe) + 2 * n * sizeof(struct io_uring_cqe) + n * sizeof(uint32_t) + 4096;
}

static int setup(struct uring *u, uint32_t entries, uint32_t flags)
{
	struct io_uring_params p = { .flags = flags };

	return io_uring_queue_init_params(entries, &u->ring, &p);
}

/* The first set of flags with which a block can be read. */
static int choose_setup(struct uring *u, uint32_t entries)
{
	/* commands need 80 bytes of an entry, and only a driver takes commands */
	const uint32_t wide = u->drv >= 0 ? IORING_SETUP_SQE128 : 0;
	const char *step = "io_uring_setup";
	int ret = -EINVAL;
	size_t i;

	for (i = 0; i < PENSTOCK_ARRAY_SIZE(setups); i++) {
		ret = penstock_ring_probe(setups[i].flags | wide, u->drv, &step);
		if (!ret) {
			step = "io_uring_setup";
			ret = setup(u, entries, setups[i].flags | wide);
		}
		if (!ret) {
			u->flags = setups[i].flags | wide;
			if (*setups[i].lost)
				note(u, "io_uring: %s", setups[i].lost);
			return 0;
		}
		if (ret != -EINVAL)
			break;
	}
	penstock_uring_refusal(ret, step, PENSTOCK_URING_SYSCTL, ring_bytes(entries), u->why, u->why_len);
	return ret;
}

/* Tables are a gain, not a need. */
static void make_tables(struct uring *u)
{
	struct rlimit lim = { FILE_TABLE, FILE_TABLE };
	int ret;

	getrlimit(RLIMIT_NOFILE, &lim);
	u->nr_slots = (uint32_t)penstock_min_u64(FILE_TABLE, lim.rlim_cur);
	ret = u->nr_slots ? io_uring_register_files_sparse(&u->ring, u->nr_slots) : -EMFILE;
	u->file_table = !ret;
	if (ret)
		note(u, "io_uring: no registered files: %s", strerrordesc_np(-ret));
	ret = io_uring_register_buffers_sparse(&u->ring, PENSTOCK_RING_MAX_BUFS);
	u->buf_table = !ret;
	if (ret)
		note(u, "io_uring: no registered buffers: %s", strerrordesc_np(-ret));
}

static int uring_open(uint32_t depth, int drv, void **engine, char *why, size_t why_len, struct penstock_error *err)
{
	struct uring *u;
	int ret;

	u = calloc(1, sizeof(*u));
	if (!u)
		return penstock_err(err, -ENOMEM, "io_uring: %zu bytes", sizeof(*u));
	u->why = why;
	u->why_len = why_len;
	u->depth = depth;
	u->drv = drv;
	u->staged = calloc(depth, sizeof(struct penstock_read *));
	if (!u->staged) {
		ret = penstock_err(err, -ENOMEM, "io_uring: %u reads", depth);
		goto err_free;
	}
	u->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (u->wake_fd < 0) {
		ret = penstock_err(err, -errno, "io_uring: a descriptor to wake it");
		goto err_free;
	}
	ret = choose_setup(u, depth + EXTRA_ENTRIES);
	if (ret) {
		ret = penstock_err(err, -EOPNOTSUPP, "%s", why);
		goto err_close;
	}
	u->enabled = !(u->flags & IORING_SETUP_R_DISABLED);
	make_tables(u);
	*engine = u;
	return 0;

err_close:
	close(u->wake_fd);
err_free:
	free(u->staged);
	free(u);
	return ret;
}

static void uring_close(void *engine)
{
	struct uring *u = engine;

	io_uring_queue_exit(&u->ring);
	close(u->wake_fd);
	free(u->fds);
	free(u->staged);
	free(u);
}

static int uring_set_files(void *engine, const int *fds, uint32_t nr)
{
	struct uring *u = engine;
	uint32_t i, slots;
	int *copy, ret;

	copy = calloc(penstock_max_u64(penstock_max_u64(nr, u->nr_fds), 1), sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	for (i = 0; i < u->nr_fds; i++)
		copy[i] = -1;
	for (i = 0; i < nr; i++)
		copy[i] = fds[i];
	slots = (uint32_t)penstock_min_u64(penstock_max_u64(nr, u->nr_fds), u->nr_slots);
	/* all of them: a number that is the same may be another file by now */
	ret = u->file_table && slots ? io_uring_register_files_update(&u->ring, 0, copy, slots) : (int)slots;
	if (ret != (int)slots) {
		u->file_table = false;
		note(u, "io_uring: no registered files: %s", ret < 0 ? strerrordesc_np(-ret) : "some were refused");
	}
	free(u->fds);
	u->fds = copy;
	u->nr_fds = nr;
	return 0;
}

static int uring_set_buffer(void *engine, uint32_t nr, void *base, size_t len)
{
	struct uring *u = engine;
	struct iovec iov = { .iov_base = base, .iov_len = base ? len : 0 };
	char text[320];
	__u64 tag = 0;
	int ret;

	if (!u->buf_table)
		return base ? 1 : 0;
	if (!base && !u->has_buf[nr])
		return 0;
	ret = io_uring_register_buffers_update_tag(&u->ring, nr, &iov, &tag, 1);
	u->has_buf[nr] = base && ret == 1;
	if (ret == 1)
		return 0;
	penstock_uring_refusal(ret, "registering a buffer", PENSTOCK_URING_SYSCTL, len, text, sizeof(text));
	/* said once, not a segment */
	if (!strstr(u->why, "registering a buffer"))
		note(u, "%s", text);
	return base ? 1 : 0;
}

static int uring_queue(void *engine, struct penstock_read *r)
{
	struct uring *u = engine;

	if (u->nr_staged == u->depth)
		return -EAGAIN;
	u->staged[u->nr_staged++] = r;
	return 0;
}

/* The driver reads into a region: the entry is all that the kernel sees of the memory. */
static void put_command(const struct uring *u, struct io_uring_sqe *sqe, struct penstock_read *r)
{
	const struct penstock_drv_read d = {
		.target = r->target, .region = r->region, .off = r->off + r->done,
		.region_off = r->region_off + r->done, .len = r->len - r->done,
	};

	memset(sqe, 0, 2 * sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = u->drv;
	sqe->cmd_op = penstock_drv_read_cmd(&d, sqe->cmd);
	io_uring_sqe_set_data(sqe, r);
}

static bool put(struct uring *u, struct penstock_read *r)
{
	struct io_uring_sqe *sqe;
	char *dst = (char *)r->dst + r->done;
	uint32_t len = r->len - r->done;
	bool slot = u->file_table && r->file < u->nr_slots;
	int fd = slot ? (int)r->file : r->file < u->nr_fds ? u->fds[r->file] : -1;

	sqe = io_uring_get_sqe(&u->ring);
	if (!sqe)
		return false;
	if (r->region) {
		put_command(u, sqe, r);
		return true;
	}
	if (r->buf >= 0 && r->buf < (int32_t)PENSTOCK_RING_MAX_BUFS && u->has_buf[r->buf])
		io_uring_prep_read_fixed(sqe, fd, dst, len, r->off + r->done, r->buf);
	else
		io_uring_prep_read(sqe, fd, dst, len, r->off + r->done);
	if (slot)
		sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, r);
	return true;
}

/*
 * The kernel gathers the requests of one submission and hands them to the drive
 * at its end. So many reads go in by steps: the drive works on the first of them
 * while the next are made. The last step is left to the submission that waits.
 */
static int put_staged(struct uring *u)
{
	uint32_t i, left;
	int ret = 0;

	for (i = 0; i < u->nr_staged && put(u, u->staged[i]); ) {
		i++;
		if (i % STEP || i == u->nr_staged)
			continue;
		ret = io_uring_submit(&u->ring);
		if (ret < 0)
			break;
	}
	left = u->nr_staged - i;
	memmove(u->staged, u->staged + i, left * sizeof(*u->staged));
	u->nr_staged = left;
	return ret < 0 ? ret : 0;
}

/* The poll's completion carries the engine's own address. */
static void arm_wake(struct uring *u)
{
	struct io_uring_sqe *sqe;

	if (u->wake_armed)
		return;
	sqe = io_uring_get_sqe(&u->ring);
	if (!sqe)
		return;
	io_uring_prep_poll_add(sqe, u->wake_fd, POLLIN);
	io_uring_sqe_set_data(sqe, u);
	u->wake_armed = true;
}

static bool woken(struct uring *u)
{
	struct io_uring_cqe *cqe;
	unsigned int head;
	bool late = u->wake_late;

	u->wake_late = false;
	io_uring_for_each_cqe(&u->ring, head, cqe) {
		if (io_uring_cqe_get_data(cqe) == u) {
			u->wake_reported = true;
			return true;
		}
	}
	return late;
}

static int submit_and_wait(struct uring *u, uint64_t timeout_ns)
{
	struct __kernel_timespec ts = { .tv_sec = (long long)(timeout_ns / 1000000000u),
					.tv_nsec = (long long)(timeout_ns % 1000000000u) };
	struct io_uring_cqe *cqe;

	if (!timeout_ns)
		return io_uring_submit_and_get_events(&u->ring);
	if (timeout_ns == UINT64_MAX)
		return io_uring_submit_and_wait(&u->ring, 1);
	return io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &ts, NULL);
}

static int uring_enter(void *engine, uint64_t timeout_ns)
{
	static const struct timespec pause = { .tv_nsec = BUSY_PAUSE_NS };
	struct uring *u = engine;
	int ret;

	if (!u->enabled) {
		ret = penstock_ring_enable(&u->ring);
		if (ret) {
			note(u, "io_uring: io_uring_register(ENABLE_RINGS): %s", strerrordesc_np(-ret));
			return ret;
		}
		u->enabled = true;
	}
	arm_wake(u);
	ret = put_staged(u);
	/* what did not fit goes in when there is room again */
	if (!ret)
		ret = submit_and_wait(u, u->wake_late ? 0 : timeout_ns);
	/* EBUSY: completions first; EAGAIN: no memory for requests just now */
	if (ret == -EAGAIN || ret == -EBUSY)
		nanosleep(&pause, NULL);
	else if (ret < 0 && ret != -ETIME && ret != -EINTR) {
		note(u, "io_uring: io_uring_enter: %s", strerrordesc_np(-ret));
		return ret;
	}
	return woken(u);
}

static struct penstock_read *uring_pop(void *engine, int *res)
{
	struct uring *u = engine;
	struct io_uring_cqe *cqe;
	uint64_t count;
	void *data;

	while (!io_uring_peek_cqe(&u->ring, &cqe)) {
		data = io_uring_cqe_get_data(cqe);
		*res = cqe->res;
		io_uring_cqe_seen(&u->ring, cqe);
		if (data != u)
			return data;
		/* drained before it is armed again: a wake between the two is seen by the poll */
		u->wake_armed = false;
		u->wake_late = !u->wake_reported;
		u->wake_reported = false;
		if (read(u->wake_fd, &count, sizeof(count)) < 0)
			continue;
	}
	return NULL;
}

static void uring_wake(void *engine)
{
	struct uring *u = engine;
	uint64_t one = 1;
	int saved = errno;

	/* EAGAIN: the count is full of wakes, so one is under way */
	if (write(u->wake_fd, &one, sizeof(one)) < 0)
		errno = saved;
}

const struct penstock_ring_ops penstock_ring_uring = {
	.name = "io_uring",
	.open = uring_open,
	.close = uring_close,
	.set_files = uring_set_files,
	.set_buffer = uring_set_buffer,
	.queue = uring_queue,
	.enter = uring_enter,
	.pop = uring_pop,
	.wake = uring_wake,
};
