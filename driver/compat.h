/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Kernels differ; what a probe found out at build time (conftest.sh) is used
 * here and nowhere else: all other files are written for 6.12. Names that 6.12
 * has are given to kernels without them; where 6.12's own form cannot be had
 * everywhere, there is a penstock_*() for it.
 */
#ifndef PENSTOCK_COMPAT_H
#define PENSTOCK_COMPAT_H

#include <linux/blkdev.h>
#include <linux/fileattr.h>
#include <linux/fs.h>
#include <linux/log2.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/scatterlist.h>
#include <linux/stat.h>
#include <linux/uio.h>
#include "conftest.h"
#if PENSTOCK_HAVE_IO_URING_CMD_H
#include <linux/io_uring/cmd.h>
#else
#include <linux/io_uring.h>
#endif

/*
 * Whether peers are compiled in: get_user_pages() must know P2PDMA pages, or a
 * mapping of them would be refused or, worse, pinned for another's use.
 */
#define PENSTOCK_HAVE_PEERS PENSTOCK_HAVE_GUP_P2PDMA

/* ---- io_uring commands ---- */

/* The bytes of the command in its entry of the ring; read each once. */
#if PENSTOCK_HAVE_URING_SQE128_CMD
#define penstock_uring_payload(cmd, type) ((const type *)io_uring_sqe128_cmd((cmd)->sqe, type))
#elif PENSTOCK_HAVE_URING_CMD_SQE
#define penstock_uring_payload(cmd, type) ((const type *)io_uring_sqe_cmd((cmd)->sqe))
#else
#define penstock_uring_payload(cmd, type) ((const type *)(cmd)->cmd)
#endif

#if !PENSTOCK_HAVE_URING_CMD_TO_PDU
#define io_uring_cmd_to_pdu(cmd, pdu_type)					\
	((pdu_type *)((cmd)->pdu +						\
		      BUILD_BUG_ON_ZERO(sizeof(pdu_type) > sizeof_field(struct io_uring_cmd, pdu))))
#endif

static inline void penstock_uring_done(struct io_uring_cmd *cmd, ssize_t ret, unsigned int issue_flags)
{
#if PENSTOCK_HAVE_URING_CMD_DONE_FLAGS
	io_uring_cmd_done(cmd, ret, issue_flags);
#elif PENSTOCK_HAVE_URING_CMD_DONE_4
	io_uring_cmd_done(cmd, ret, 0, issue_flags);
#else
	io_uring_cmd_done(cmd, ret, 0);
#endif
}

/*
 * Task work of a command: PENSTOCK_URING_TASK_WORK(name, fn) defines @name as
 * the kernel wants it, which calls fn(struct io_uring_cmd *, unsigned int
 * issue_flags); @name goes to penstock_uring_in_task(). A macro, since three
 * kinds of functions are wanted by three kernels.
 */
#if PENSTOCK_HAVE_URING_TASK_WORK_REQ
#define PENSTOCK_URING_TASK_WORK(name, fn)					\
static void name(struct io_tw_req req, io_tw_token_t tw)			\
{										\
	fn(io_uring_cmd_from_tw(req), IO_URING_CMD_TASK_WORK_ISSUE_FLAGS);	\
}
#elif PENSTOCK_HAVE_URING_TASK_WORK_FLAGS
#define PENSTOCK_URING_TASK_WORK(name, fn)					\
static void name(struct io_uring_cmd *cmd, unsigned int issue_flags)		\
{										\
	fn(cmd, issue_flags);							\
}
#else
#define PENSTOCK_URING_TASK_WORK(name, fn)					\
static void name(struct io_uring_cmd *cmd)					\
{										\
	fn(cmd, 0);								\
}
#endif

/* Any context. The lazy form may wait for the ring's owner to have enough completions: fewer wake-ups. */
#if PENSTOCK_HAVE_URING_CMD_LAZY
#define penstock_uring_in_task(cmd, work) io_uring_cmd_do_in_task_lazy(cmd, work)
#else
#define penstock_uring_in_task(cmd, work) io_uring_cmd_complete_in_task(cmd, work)
#endif

/* ---- memory ---- */

/* Once exclusive, then inclusive, then renamed: what it is derived from has kept its meaning. */
#ifndef MAX_PAGE_ORDER
#define MAX_PAGE_ORDER ilog2(MAX_ORDER_NR_PAGES)
#endif

/* The memory map is virtually contiguous wherever that was removed. */
#ifndef nth_page
#define nth_page(page, n) ((page) + (n))
#endif

#ifndef ITER_DEST
#define ITER_DEST READ
#endif

#if !PENSTOCK_HAVE_VM_FLAGS_MOD
static inline void vm_flags_mod(struct vm_area_struct *vma, vm_flags_t set, vm_flags_t clear)
{
	vma->vm_flags = (vma->vm_flags | set) & ~clear;
}

static inline void vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags |= flags;
}
#endif

/*
 * References that an allocated, unused page of P2PDMA has (mm/memremap.c, drivers/pci/p2pdma.c). It had one until 6.14;
 * since then it has none, and its allocator is told when the count comes back to zero.
 */
#define PENSTOCK_P2P_BASE (PENSTOCK_HAVE_PAGE_PGMAP ? 0 : 1)

#if PENSTOCK_HAVE_GET_DEV_PAGEMAP_PFN_ONLY
#define get_dev_pagemap(pfn, pgmap) ((void)(pgmap), (get_dev_pagemap)(pfn))
#endif

#if !PENSTOCK_HAVE_SG_DMA_IS_BUS_ADDRESS
#define sg_dma_is_bus_address(sg) sg_is_dma_bus_address(sg)
#endif

/* ---- dma-buf ---- */

#if PENSTOCK_HAVE_DMA_BUF_INVALIDATE_MAPPINGS
#define dma_buf_move_notify(dmabuf) dma_buf_invalidate_mappings(dmabuf)
#endif

/* ---- files, block devices ---- */

#if !PENSTOCK_HAVE_FILE_BDEV
static inline struct block_device *file_bdev(struct file *bdev_file)
{
	return I_BDEV(bdev_file->f_mapping->host);
}
#endif

#if PENSTOCK_HAVE_FILE_KATTR
#define fileattr file_kattr
#endif

/* FS_*_FL and FS_XFLAG_* of a file; -EOPNOTSUPP where a module cannot ask. */
static inline int penstock_fileattr_get(struct file *file, u32 *flags, u32 *xflags)
{
#if PENSTOCK_HAVE_VFS_FILEATTR_GET
	struct fileattr fa = { .flags_valid = true };
	int ret = vfs_fileattr_get(file->f_path.dentry, &fa);

	*flags = fa.flags;
	*xflags = fa.fsx_xflags;
	return ret;
#else
	*flags = 0;
	*xflags = 0;
	return -EOPNOTSUPP;
#endif
}

/* The inode that is hashed for as long as the block device can be opened. */
static inline struct inode *penstock_bdev_inode(struct block_device *bdev)
{
#if PENSTOCK_HAVE_BDEV_MAPPING
	return bdev->bd_mapping->host;
#else
	return bdev->bd_inode;
#endif
}

/* bios from the CPU's own cache; freed to it by interrupts, which 6.1 could not, a kernel without cmd.h. */
#if PENSTOCK_HAVE_IO_URING_CMD_H
#define PENSTOCK_IOCB_ALLOC_CACHE IOCB_ALLOC_CACHE
#else
#define PENSTOCK_IOCB_ALLOC_CACHE 0
#endif

/* Block devices take peer pages only where they say so; a kernel without the word has none that do. */
static inline bool penstock_bdev_takes_p2pdma(struct block_device *bdev)
{
#if PENSTOCK_HAVE_BLK_QUEUE_PCI_P2PDMA
	return blk_queue_pci_p2pdma(bdev_get_queue(bdev));
#else
	return false;
#endif
}

/*
 * Why a read of ours into peer pages would be mapped wrongly: for the kernel, or for a setting of the queue.
 *
 * Our iterators have bio_vecs of their own, which bio_iov_bvec_set() (block/bio.c) takes over as they are. Until 6.16
 * the nvme driver makes a scatterlist of a request, each entry of which is mapped by its own page. Since 6.17
 * blk_rq_dma_map_iter_start() (block/blk-mq-dma.c) looks at the first page of a request and maps all by that. So no
 * request may have pages of two kinds. Pages that are added one by one see to that (__bio_add_page() and its like):
 * they set REQ_NOMERGE, and in 6.17 REQ_P2PDMA, without which not even the first page is looked at.
 * bio_iov_bvec_set() does neither, and nothing that a kiocb has does. In 6.17 a peer's memory would so be mapped as
 * the host's. Since 6.18 it is mapped as what it is, as long as no read of other memory is merged with it.
 */
static inline u32 penstock_bdev_peer_reason(struct block_device *bdev)
{
	if (PENSTOCK_HAVE_REQ_P2PDMA)
		return PENSTOCK_REASON_UNMARKED;
	if (PENSTOCK_HAVE_BLK_MQ_DMA_H && !blk_queue_nomerges(bdev_get_queue(bdev)))
		return PENSTOCK_REASON_MERGES;
	return PENSTOCK_REASON_NONE;
}

/* ---- modules ---- */

/* Namespaces of symbols were tokens, and became strings. */
#if PENSTOCK_HAVE_IMPORT_NS_TOKEN
#define PENSTOCK_IMPORT_NS(ns) MODULE_IMPORT_NS(ns)
#else
#define PENSTOCK_IMPORT_NS(ns) MODULE_IMPORT_NS(#ns)
#endif

#endif
