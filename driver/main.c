// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device node: module start and end, opens, the table of ioctls.
 */
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include "penstock_drv.h"
#include "trace.h"
#include "uapi_layout.h"

unsigned int penstock_max_regions = 4096;
module_param_named(max_regions, penstock_max_regions, uint, 0644);
MODULE_PARM_DESC(max_regions, "regions that one open of the node may have (4096)");

unsigned int penstock_max_targets = 4096;
module_param_named(max_targets, penstock_max_targets, uint, 0644);
MODULE_PARM_DESC(max_targets, "files that one open of the node may have (4096)");

unsigned long penstock_peer_limit_mib;
module_param_named(peer_limit_mib, penstock_peer_limit_mib, ulong, 0644);
MODULE_PARM_DESC(peer_limit_mib, "peer memory that one user may hold, in MiB (0: no limit)");

bool penstock_allow_test_peer;
module_param_named(allow_test_peer, penstock_allow_test_peer, bool, 0444);
MODULE_PARM_DESC(allow_test_peer, "bind to QEMU's ivshmem devices, for tests (0)");

struct workqueue_struct *penstock_wq;

static const struct file_operations penstock_fops;
static DEFINE_MUTEX(penstock_opens_lock);
static LIST_HEAD(penstock_opens);

bool penstock_is_own_file(const struct file *file)
{
	return file->f_op == &penstock_fops;
}

void penstock_open_for_each(void (*fn)(struct penstock_open *open, void *arg), void *arg)
{
	struct penstock_open *open;

	mutex_lock(&penstock_opens_lock);
	list_for_each_entry(open, &penstock_opens, node)
		fn(open, arg);
	mutex_unlock(&penstock_opens_lock);
}

static void open_release(struct kref *ref)
{
	struct penstock_open *open = container_of(ref, struct penstock_open, ref);

	free_percpu(open->stats);
	mutex_destroy(&open->lock);
	kfree(open);
	penstock_object_add(PENSTOCK_OBJECT_OPEN, -1);
}

void penstock_open_put(struct penstock_open *open)
{
	kref_put(&open->ref, open_release);
}

static int penstock_fop_open(struct inode *inode, struct file *file)
{
	struct penstock_open *open;

	open = kzalloc(sizeof(*open), GFP_KERNEL_ACCOUNT);
	if (!open)
		return -ENOMEM;
	open->stats = alloc_percpu_gfp(struct penstock_stats, GFP_KERNEL_ACCOUNT);
	if (!open->stats) {
		kfree(open);
		return -ENOMEM;
	}
	kref_init(&open->ref);
	mutex_init(&open->lock);
	xa_init_flags(&open->regions, XA_FLAGS_ALLOC1 | XA_FLAGS_ACCOUNT);
	xa_init_flags(&open->targets, XA_FLAGS_ALLOC1 | XA_FLAGS_ACCOUNT);
	penstock_event_init(open);
	penstock_object_add(PENSTOCK_OBJECT_OPEN, 1);

	/*
	 * The inode's own mapping is shared by all opens of it, and a node made
	 * by mknod() is another inode: neither tells whose VMAs are whose.
	 */
	address_space_init_once(&open->mapping);
	open->mapping.a_ops = &empty_aops;
	open->mapping.host = inode;
	file->f_mapping = &open->mapping;
	file->private_data = open;

	mutex_lock(&penstock_opens_lock);
	list_add_tail(&open->node, &penstock_opens);
	mutex_unlock(&penstock_opens_lock);
	trace_penstock_open(open);
	return stream_open(inode, file);
}

/* No VMA, no request of io_uring and no ioctl is left: each holds the file. */
static int penstock_fop_release(struct inode *inode, struct file *file)
{
	struct penstock_open *open = file->private_data;

	/* Nothing counts any more. Under one lock, so that the totals never go back. */
	mutex_lock(&penstock_opens_lock);
	penstock_stats_fold(open->stats);
	list_del(&open->node);
	mutex_unlock(&penstock_opens_lock);
	penstock_region_free_all(open);
	penstock_target_free_all(open);
	penstock_open_put(open);
	return 0;
}

int penstock_ioctl_info(struct penstock_open *open, void *arg)
{
	struct penstock_info *info = arg;

	if (info->__reserved)
		return -EOPNOTSUPP;
	info->out_peer_reason = penstock_peer_kernel_reason();
	info->out_p2p_page_model = penstock_peer_page_model();
	info->out_features = PENSTOCK_FEATURE_REGION_READ | PENSTOCK_FEATURE_DMABUF;
	if (IS_ENABLED(CONFIG_IO_URING))
		info->out_features |= PENSTOCK_FEATURE_URING_READ;
	if (!info->out_peer_reason) {
		info->out_features |= PENSTOCK_FEATURE_PEER;
		if (info->out_p2p_page_model != PENSTOCK_P2P_PAGE_MODEL_UNKNOWN)
			info->out_features |= PENSTOCK_FEATURE_PEER_MMAP;
	}
	info->out_page_size = PAGE_SIZE;
	info->out_max_order = MAX_PAGE_ORDER;
	info->out_max_read_len = MAX_RW_COUNT;
	info->out_max_region_len = PENSTOCK_MAX_REGION_LEN;
	info->out_peer_limit = penstock_peer_limit();
	info->out_peer_used = penstock_peer_used();
	info->out_max_regions = READ_ONCE(penstock_max_regions);
	info->out_max_targets = READ_ONCE(penstock_max_targets);
	info->out_nr_peers = penstock_peer_count();
	info->out_generation = penstock_peer_generation();
	return 0;
}

/* The caller never learnt the id, since its struct could not be written. */
static void undo_target_add(struct penstock_open *open, void *arg)
{
	struct penstock_target_add *add = arg;
	struct penstock_target_del del = { .size = sizeof(del), .target_id = add->out_target_id };

	penstock_ioctl_target_del(open, &del);
}

static void undo_region(struct penstock_open *open, u32 region_id)
{
	struct penstock_region_free cmd = {
		.size = sizeof(cmd),
		.flags = PENSTOCK_REGION_FREE_F_WAIT,
		.region_id = region_id,
	};

	penstock_ioctl_region_free(open, &cmd);
}

static void undo_region_alloc(struct penstock_open *open, void *arg)
{
	undo_region(open, ((struct penstock_region_alloc *)arg)->out_region_id);
}

static void undo_region_pin(struct penstock_open *open, void *arg)
{
	undo_region(open, ((struct penstock_region_pin *)arg)->out_region_id);
}

static void undo_region_peer(struct penstock_open *open, void *arg)
{
	undo_region(open, ((struct penstock_region_peer *)arg)->out_region_id);
}

union penstock_ioctl_arg {
	u32 size;
	struct penstock_info info;
	struct penstock_peer_enum peer_enum;
	struct penstock_target_add target_add;
	struct penstock_target_del target_del;
	struct penstock_region_alloc region_alloc;
	struct penstock_region_pin region_pin;
	struct penstock_region_peer region_peer;
	struct penstock_region_probe region_probe;
	struct penstock_region_read region_read;
	struct penstock_region_free region_free;
	struct penstock_export_arg region_export;
	struct penstock_region_stat region_stat;
};

struct penstock_ioctl {
	unsigned int cmd;
	u32 size;		/* as this kernel knows it */
	u32 min_size;		/* of the first version */
	int (*fn)(struct penstock_open *open, void *arg);
	/* After success: the answer has arrived, or has not. */
	void (*commit)(struct penstock_open *open, void *arg);
	void (*undo)(struct penstock_open *open, void *arg);
};

/* @_last: the last field of the first version; behind @_fn, more fields */
#define PENSTOCK_IOCTL(_cmd, _struct, _last, _fn, ...)			\
	[_IOC_NR(_cmd)] = {						\
		.cmd = _cmd,						\
		.size = sizeof(struct _struct) +			\
			BUILD_BUG_ON_ZERO(sizeof(union penstock_ioctl_arg) < sizeof(struct _struct)), \
		.min_size = offsetofend(struct _struct, _last),		\
		.fn = _fn,						\
		__VA_ARGS__						\
	}

static const struct penstock_ioctl penstock_ioctls[] = {
	PENSTOCK_IOCTL(PENSTOCK_IOC_INFO, penstock_info, out_generation, penstock_ioctl_info),
	PENSTOCK_IOCTL(PENSTOCK_IOC_PEER_ENUM, penstock_peer_enum, out_available, penstock_ioctl_peer_enum),
	PENSTOCK_IOCTL(PENSTOCK_IOC_TARGET_ADD, penstock_target_add, __reserved, penstock_ioctl_target_add,
		       .undo = undo_target_add),
	PENSTOCK_IOCTL(PENSTOCK_IOC_TARGET_DEL, penstock_target_del, target_id, penstock_ioctl_target_del),
	PENSTOCK_IOCTL(PENSTOCK_IOC_REGION_ALLOC, penstock_region_alloc, out_mmap_offset, penstock_ioctl_region_alloc,
		       .undo = undo_region_alloc),
	PENSTOCK_IOCTL(PENSTOCK_IOC_REGION_PIN, penstock_region_pin, out_nr_segments, penstock_ioctl_region_pin,
		       .undo = undo_region_pin),
	PENSTOCK_IOCTL(PENSTOCK_IOC_REGION_PEER, penstock_region_peer, out_peer_offset, penstock_ioctl_region_peer,
		       .undo = undo_region_peer),
	PENSTOCK_IOCTL(PENSTOCK_IOC_REGION_PROBE, penstock_region_probe, __reserved, penstock_ioctl_region_probe),
	PENSTOCK_IOCTL(PENSTOCK_IOC_REGION_READ, penstock_region_read, __reserved, penstock_ioctl_region_read),
	PENSTOCK_IOCTL(PENSTOCK_IOC_REGION_FREE, penstock_region_free, out_in_flight, penstock_ioctl_region_free),
	PENSTOCK_IOCTL(PENSTOCK_IOC_REGION_EXPORT, penstock_region_export, out_fd, penstock_ioctl_region_export,
		       .commit = penstock_export_commit, .undo = penstock_export_undo),
	PENSTOCK_IOCTL(PENSTOCK_IOC_REGION_STAT, penstock_region_stat, out_unreachable, penstock_ioctl_region_stat),
};

static long penstock_fop_ioctl(struct file *file, unsigned int cmd, unsigned long uptr)
{
	struct penstock_open *open = file->private_data;
	void __user *user = (void __user *)uptr;
	unsigned int nr = _IOC_NR(cmd);
	const struct penstock_ioctl *ioctl;
	union penstock_ioctl_arg arg;
	u32 size;
	int ret;

	if (nr >= ARRAY_SIZE(penstock_ioctls))
		return -ENOTTY;
	ioctl = &penstock_ioctls[array_index_nospec(nr, ARRAY_SIZE(penstock_ioctls))];
	if (ioctl->cmd != cmd)
		return -ENOTTY;
	if (get_user(size, (u32 __user *)user))
		return -EFAULT;
	if (size < ioctl->min_size)
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	ret = copy_struct_from_user(&arg, ioctl->size, user, size);
	if (ret)
		return ret;
	/* It may have changed between the two reads; no handler uses it. */
	arg.size = size;

	ret = ioctl->fn(open, &arg);
	/* Reasons go back with errors, too. */
	if (copy_to_user(user, &arg, min(size, ioctl->size))) {
		if (!ret && ioctl->undo)
			ioctl->undo(open, &arg);
		return -EFAULT;
	}
	if (!ret && ioctl->commit)
		ioctl->commit(open, &arg);
	return ret;
}

static const struct file_operations penstock_fops = {
	.owner = THIS_MODULE,
	.open = penstock_fop_open,
	.release = penstock_fop_release,
	.unlocked_ioctl = penstock_fop_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = penstock_region_mmap,
	.read = penstock_event_read,
	.poll = penstock_event_poll,
	.uring_cmd = penstock_uring_cmd,
	.llseek = noop_llseek,
};

static struct miscdevice penstock_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "penstock",
	.fops = &penstock_fops,
	/* The udev rule gives it to group penstock, 0660; never to the world. */
	.mode = 0600,
};

static int __init penstock_init(void)
{
	int ret;

	penstock_wq = alloc_workqueue("penstock", WQ_UNBOUND | WQ_MEM_RECLAIM, WQ_MAX_ACTIVE);
	if (!penstock_wq)
		return -ENOMEM;
	ret = penstock_stats_init();
	if (ret)
		goto err_wq;
	ret = penstock_read_init();
	if (ret)
		goto err_stats;
	ret = penstock_peer_init();
	if (ret)
		goto err_read;
	ret = penstock_peer_bar_init();
	if (ret)
		goto err_peer;
	ret = misc_register(&penstock_misc);
	if (ret)
		goto err_bar;
	return 0;

err_bar:
	penstock_peer_bar_exit();
err_peer:
	penstock_peer_exit();
err_read:
	penstock_read_exit();
err_stats:
	penstock_stats_exit();
err_wq:
	destroy_workqueue(penstock_wq);
	return ret;
}

static void __exit penstock_exit(void)
{
	misc_deregister(&penstock_misc);
	/* No open is left. What was freed last may still wait for I/O on a mapping: it needs the peer. */
	flush_workqueue(penstock_wq);
	penstock_peer_bar_exit();
	penstock_peer_exit();
	penstock_read_exit();
	destroy_workqueue(penstock_wq);
	penstock_stats_exit();
}

module_init(penstock_init);
module_exit(penstock_exit);
MODULE_DESCRIPTION("Reads of files into pinned and peer device memory");
MODULE_LICENSE("GPL");
