// SPDX-License-Identifier: GPL-2.0-only
/*
 * Targets: the files and block devices that may be read from.
 *
 * A read bypasses the page cache and, in the block layer, the check for peer
 * pages that get_user_pages() makes for ordinary direct I/O. So whatever would
 * fall back to copying by the CPU, or hand peer pages to a driver that does
 * not know them, is refused here, each with its reason. What a user can change
 * later is looked at again at each read.
 *
 * Not seen: an XFS file that was empty and became one of the realtime device
 * after TARGET_ADD. Its reads bring the right bytes, but whether that device
 * takes peer pages was asked of the other one.
 *
 * A target keeps its file open, and with it the mount and the block device
 * busy, like any open descriptor; reads in flight keep the target.
 */
#include <linux/blk-integrity.h>
#include <linux/blkdev.h>
#include <linux/file.h>
#include <linux/fileattr.h>
#include <linux/magic.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <linux/stat.h>
#include "penstock_drv.h"
#include "trace.h"

/* What makes a regular file unreadable for us although its reads would succeed. */
#define TARGET_BAD_IFLAGS (S_DAX | S_VERITY | S_ENCRYPTED)

/* Where pci_dev_put() may sleep. Lookups that still see the target find its count at zero. */
static void target_free(struct work_struct *work)
{
	struct penstock_target *target = container_of(work, struct penstock_target, free_work);

	pci_dev_put(target->pdev);
	penstock_object_add(PENSTOCK_OBJECT_TARGET, -1);
	kfree_rcu(target, rcu);
}

static void target_release(struct kref *ref)
{
	struct penstock_target *target = container_of(ref, struct penstock_target, ref);

	fput(target->file);
	queue_work(penstock_wq, &target->free_work);
}

struct penstock_target *penstock_target_get(struct penstock_open *open, u32 id)
{
	struct penstock_target *target;

	rcu_read_lock();
	target = xa_load(&open->targets, id);
	if (target && !kref_get_unless_zero(&target->ref))
		target = NULL;
	rcu_read_unlock();
	return target;
}

void penstock_target_put(struct penstock_target *target)
{
	kref_put(&target->ref, target_release);
}

static u32 reason_of_iflags(unsigned int iflags)
{
	if (iflags & S_ENCRYPTED)
		return PENSTOCK_REASON_ENCRYPTED;
	if (iflags & S_VERITY)
		return PENSTOCK_REASON_VERITY;
	if (iflags & S_DAX)
		return PENSTOCK_REASON_DAX;
	return PENSTOCK_REASON_NONE;
}

u32 penstock_target_recheck(const struct penstock_target *target)
{
	const struct inode *inode = target->inode;
	unsigned int bad;

	if (target->is_block)
		return PENSTOCK_REASON_NONE;
	bad = READ_ONCE(inode->i_flags) & TARGET_BAD_IFLAGS;
	if (unlikely(bad))
		return reason_of_iflags(bad);
	/* ext4 gives a file other operations when its data begins to be journalled. */
	if (unlikely(READ_ONCE(inode->i_mapping->a_ops) != target->a_ops))
		return PENSTOCK_REASON_DATA_JOURNAL;
	return PENSTOCK_REASON_NONE;
}

/*
 * The PCI device that the disk hangs on, with a reference, or NULL. Parents
 * are held by a disk until it is deleted, which does not begin while its
 * inode is hashed and open_mutex is held.
 */
static struct pci_dev *bdev_pci_dev(struct block_device *bdev)
{
	struct gendisk *disk = bdev->bd_disk;
	struct pci_dev *pdev = NULL;
	struct device *dev;

	mutex_lock(&disk->open_mutex);
	if (!inode_unhashed(penstock_bdev_inode(disk->part0))) {
		for (dev = disk_to_dev(disk)->parent; dev && !pdev; dev = dev->parent) {
			if (dev_is_pci(dev))
				pdev = pci_dev_get(to_pci_dev(dev));
		}
	}
	mutex_unlock(&disk->open_mutex);
	return pdev;
}

struct pci_dev *penstock_target_pci_dev(const struct penstock_target *target)
{
	return pci_dev_get(target->pdev);
}

static u32 check_peer(const struct penstock_target *target)
{
	u32 reason = penstock_peer_kernel_reason();

	if (reason)
		return reason;
	if (!penstock_bdev_takes_p2pdma(target->bdev))
		return PENSTOCK_REASON_BDEV_NO_P2P;
	if (!target->pdev)
		return PENSTOCK_REASON_NOT_PCI;
	return PENSTOCK_REASON_NONE;
}

/*
 * A bio that must not wait and is larger than one request is failed by the
 * block layer. A region may have a segment for each page: assume the worst.
 */
static u32 bdev_nowait_len(struct block_device *bdev, u32 align)
{
	struct request_queue *q = bdev_get_queue(bdev);
	u64 len = (u64)queue_max_sectors(q) << SECTOR_SHIFT;
	u64 segments = mul_u32_u32(queue_max_segments(q), min_t(u32, queue_max_segment_size(q), PAGE_SIZE));

	len = min(len, segments);
	if (q->limits.chunk_sectors)
		len = min(len, (u64)q->limits.chunk_sectors << SECTOR_SHIFT);
	len = min_t(u64, len, MAX_RW_COUNT);
	return round_down((u32)len, align);
}

u32 penstock_target_peer_reason(const struct penstock_target *target)
{
	return target->peer_reason ? target->peer_reason : penstock_bdev_peer_reason(target->bdev);
}

static int refuse(u32 *out_reason, u32 reason)
{
	*out_reason = reason;
	return reason ? -EOPNOTSUPP : 0;
}

static int check_block(struct penstock_target *target, u32 *reason)
{
	struct block_device *bdev = file_bdev(target->file);

	if (!(target->file->f_mode & FMODE_CAN_ODIRECT))
		return refuse(reason, PENSTOCK_REASON_NO_DIRECT_IO);
	target->bdev = bdev;
	target->offset_align = bdev_logical_block_size(bdev);
	target->mem_align = bdev_dma_alignment(bdev) + 1;
	return 0;
}

/* ext2's own driver has the number of ext4. */
static bool is_ext4(const struct super_block *sb)
{
	return sb->s_magic == EXT4_SUPER_MAGIC && strcmp(sb->s_type->name, "ext2");
}

/* Why direct I/O is impossible, when it is not what i_flags say. */
static u32 no_direct_io_reason(const struct super_block *sb, u32 flags)
{
	if (flags & FS_COMPR_FL)
		return PENSTOCK_REASON_COMPRESSED;
	if (flags & FS_INLINE_DATA_FL)
		return PENSTOCK_REASON_INLINE_DATA;
	/* The flag of the file, or else the option of the mount. */
	if ((flags & FS_JOURNAL_DATA_FL) || is_ext4(sb))
		return PENSTOCK_REASON_DATA_JOURNAL;
	return PENSTOCK_REASON_NO_DIRECT_IO;
}

static int check_file(struct penstock_target *target, u32 *reason)
{
	const struct super_block *sb = target->inode->i_sb;
	u32 flags, xflags;
	struct kstat stat;
	int ret;

	if ((!is_ext4(sb) && sb->s_magic != XFS_SUPER_MAGIC) || !sb->s_bdev)
		return refuse(reason, PENSTOCK_REASON_FILESYSTEM);
	target->bdev = sb->s_bdev;
	/* First of all: whatever changes from here on is seen by the reads. */
	target->a_ops = READ_ONCE(target->inode->i_mapping->a_ops);
	if (READ_ONCE(target->inode->i_flags) & TARGET_BAD_IFLAGS)
		return refuse(reason, reason_of_iflags(READ_ONCE(target->inode->i_flags)));
	ret = penstock_fileattr_get(target->file, &flags, &xflags);
	if (ret)
		return ret;
	/* Its data lies on another device than the one looked at here. */
	if (xflags & FS_XFLAG_REALTIME)
		return refuse(reason, PENSTOCK_REASON_XFS_REALTIME);
	ret = vfs_getattr(&target->file->f_path, &stat, STATX_BASIC_STATS | STATX_DIOALIGN, AT_STATX_SYNC_AS_STAT);
	if (ret)
		return ret;
	if ((flags & (FS_COMPR_FL | FS_INLINE_DATA_FL)) || !(stat.result_mask & STATX_DIOALIGN) ||
	    !stat.dio_offset_align || !stat.dio_mem_align)
		return refuse(reason, no_direct_io_reason(sb, flags));
	if (!(target->file->f_mode & FMODE_CAN_ODIRECT))
		return refuse(reason, PENSTOCK_REASON_NO_DIRECT_IO);
	target->offset_align = stat.dio_offset_align;
	target->mem_align = stat.dio_mem_align;
	return 0;
}

static int target_check(struct penstock_target *target, u32 *reason)
{
	struct file *file = target->file;
	const struct inode *inode = file_inode(file);
	int ret;

	if (penstock_is_own_file(file))
		return refuse(reason, PENSTOCK_REASON_OWN_NODE);
	/* Files that lie in no file system, io_uring's among them, are called regular by some kernels. */
	if ((!S_ISREG(inode->i_mode) && !S_ISBLK(inode->i_mode)) || inode->i_sb->s_magic == ANON_INODE_FS_MAGIC)
		return refuse(reason, PENSTOCK_REASON_NOT_A_FILE);
	if (!(file->f_mode & FMODE_READ))
		return refuse(reason, PENSTOCK_REASON_NOT_READABLE);
	target->is_block = S_ISBLK(inode->i_mode);
	/* For a block device not the node's inode: that one has no size. */
	target->inode = file->f_mapping->host;
	ret = target->is_block ? check_block(target, reason) : check_file(target, reason);
	if (ret)
		return ret;

	if (bdev_get_integrity(target->bdev))
		return refuse(reason, PENSTOCK_REASON_INTEGRITY);
	target->pdev = bdev_pci_dev(target->bdev);
	target->peer_reason = check_peer(target);
	if ((file->f_mode & FMODE_NOWAIT) && bdev_nowait(target->bdev))
		target->nowait_len = bdev_nowait_len(target->bdev, target->offset_align);
	return 0;
}

/* Holds @fd's file, checked; it has no id yet. */
static struct penstock_target *target_create(int fd, u32 *reason)
{
	struct penstock_target *target;
	int ret;

	target = kzalloc(sizeof(*target), GFP_KERNEL_ACCOUNT);
	if (!target)
		return ERR_PTR(-ENOMEM);
	kref_init(&target->ref);
	INIT_WORK(&target->free_work, target_free);
	target->file = fget(fd);
	if (!target->file) {
		kfree(target);
		return ERR_PTR(-EBADF);
	}
	penstock_object_add(PENSTOCK_OBJECT_TARGET, 1);
	ret = target_check(target, reason);
	if (ret) {
		penstock_target_put(target);
		return ERR_PTR(ret);
	}
	return target;
}

static int target_publish(struct penstock_open *open, struct penstock_target *target)
{
	int ret = -ENOSPC;

	mutex_lock(&open->lock);
	if (open->nr_targets < penstock_max_targets) {
		/* The id is written before others can see the target. */
		ret = xa_alloc_cyclic(&open->targets, &target->id, target, XA_LIMIT(1, PENSTOCK_MAX_ID),
				      &open->next_target, GFP_KERNEL_ACCOUNT);
		if (ret >= 0) {
			open->nr_targets++;
			ret = 0;
		} else if (ret == -EBUSY) {
			ret = -ENOSPC;
		}
	}
	mutex_unlock(&open->lock);
	return ret;
}

static int target_add(struct penstock_open *open, struct penstock_target_add *add)
{
	struct penstock_target *target;
	int ret;

	if (add->flags || add->__reserved)
		return -EOPNOTSUPP;
	add->out_reason = PENSTOCK_REASON_NONE;
	target = target_create(add->fd, &add->out_reason);
	if (IS_ERR(target))
		return PTR_ERR(target);

	/* All of it beforehand: once it has an id, another thread may free it. */
	add->out_peer_reason = penstock_target_peer_reason(target);
	add->out_kind = target->is_block ? PENSTOCK_TARGET_BLOCK : PENSTOCK_TARGET_FILE;
	add->out_offset_align = target->offset_align;
	add->out_mem_align = target->mem_align;
	add->out_nowait_len = target->nowait_len;
	add->out_numa_node = target->bdev->bd_disk->node_id;
	add->out_domain = U32_MAX;
	add->out_bus = U32_MAX;
	add->out_devfn = U32_MAX;
	if (target->pdev) {
		add->out_numa_node = dev_to_node(&target->pdev->dev);
		add->out_domain = pci_domain_nr(target->pdev->bus);
		add->out_bus = target->pdev->bus->number;
		add->out_devfn = target->pdev->devfn;
	}
	/* Its own reference: the id's may be put before this returns. */
	kref_get(&target->ref);
	ret = target_publish(open, target);
	if (ret)
		penstock_target_put(target);
	else
		add->out_target_id = target->id;
	penstock_target_put(target);
	return ret;
}

int penstock_ioctl_target_add(struct penstock_open *open, void *arg)
{
	struct penstock_target_add *add = arg;
	int ret = target_add(open, add);

	trace_penstock_target_add(open, add, ret);
	return ret;
}

int penstock_ioctl_target_del(struct penstock_open *open, void *arg)
{
	struct penstock_target_del *del = arg;
	struct penstock_target *target;

	mutex_lock(&open->lock);
	target = xa_erase(&open->targets, del->target_id);
	if (target)
		open->nr_targets--;
	mutex_unlock(&open->lock);
	if (!target)
		return -ENOENT;
	penstock_target_put(target);
	return 0;
}

void penstock_target_free_all(struct penstock_open *open)
{
	struct penstock_target *target;
	unsigned long id;

	mutex_lock(&open->lock);
	xa_for_each(&open->targets, id, target) {
		xa_erase(&open->targets, id);
		open->nr_targets--;
		penstock_target_put(target);
	}
	mutex_unlock(&open->lock);
	xa_destroy(&open->targets);
}
