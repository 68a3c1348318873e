// SPDX-License-Identifier: GPL-2.0-only
/*
 * dma-bufs of memories: another process imports one as a region of its own, a
 * device of another driver attaches to it.
 *
 * Each export is a dma-buf of its own, which holds a reference on the memory
 * and is in mem->exports until its release. That release runs when its dentry
 * goes, which others may hold after the file was freed (O_PATH, readlink in
 * /proc): nothing here reaches for a dma-buf's file, and no dma-buf is given
 * out a second time. What a revocation needs lives until the release: the
 * dma-buf itself, and its inode by a reference of ours.
 *
 * Taken from within others' locks: mem->lock on page faults (in mmap_lock),
 * and nothing in dmabuf_map() and dmabuf_pin(), which run in the reservation
 * lock: that one is taken within mem->lock when a memory is revoked.
 */
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include "penstock_drv.h"

PENSTOCK_IMPORT_NS(DMA_BUF);

static const struct dma_buf_ops dmabuf_ops;

/**
 * struct penstock_export - a dma-buf of a memory, as its priv
 * @node: in mem->exports, or empty
 * @mem: a reference
 * @dmabuf: whose priv this is
 * @inode: of its file, whose mappings are zapped; a reference
 */
struct penstock_export {
	struct list_head node;
	struct penstock_mem *mem;
	struct dma_buf *dmabuf;
	struct inode *inode;
};

static struct penstock_mem *dmabuf_mem(const struct dma_buf *dmabuf)
{
	const struct penstock_export *export = dmabuf->priv;

	return export->mem;
}

/* ---- devices ---- */

static int dmabuf_attach(struct dma_buf *dmabuf, struct dma_buf_attachment *attach)
{
	struct penstock_mem *mem = dmabuf_mem(dmabuf);

	/* One that cannot be told to let go keeps a peer from being taken away. */
	if (!attach->importer_ops)
		return -EOPNOTSUPP;
	if (mem->p2p && !attach->peer2peer)
		return -EOPNOTSUPP;
	return READ_ONCE(mem->dead) ? -ENODEV : 0;
}

/* Host memory stays where it is, and is never revoked; peer memory may have to go at any time. */
static int dmabuf_pin(struct dma_buf_attachment *attach)
{
	struct penstock_mem *mem = dmabuf_mem(attach->dmabuf);

	return mem->p2p ? -EOPNOTSUPP : 0;
}

static void dmabuf_unpin(struct dma_buf_attachment *attach)
{
}

/* Entries of a list of segments of at most @most bytes. */
static int dmabuf_count(const struct penstock_mem *mem, u32 most, u32 *nr)
{
	u32 i;

	*nr = 0;
	for (i = 0; i < mem->nr_bvec; i++)
		if (check_add_overflow(*nr, DIV_ROUND_UP(mem->bvec[i].bv_len, most), nr))
			return -EOVERFLOW;
	return 0;
}

static void dmabuf_fill(const struct penstock_mem *mem, u32 most, struct sg_table *sgt)
{
	struct scatterlist *sg = sgt->sgl;
	u32 i;

	for (i = 0; i < mem->nr_bvec; i++) {
		const struct bio_vec *run = &mem->bvec[i];
		u32 done = 0;

		while (done < run->bv_len) {
			u32 len = min(run->bv_len - done, most);

			sg_set_page(sg, nth_page(run->bv_page, done >> PAGE_SHIFT), len, 0);
			sg = sg_next(sg);
			done += len;
		}
	}
}

static struct sg_table *dmabuf_map(struct dma_buf_attachment *attach, enum dma_data_direction dir)
{
	struct penstock_mem *mem = dmabuf_mem(attach->dmabuf);
	struct sg_table *sgt;
	u32 most, nr;
	int ret;

	/* Set before the revocation asks for the reservation lock, which we have: either sees the other. */
	if (READ_ONCE(mem->dead))
		return ERR_PTR(-ENODEV);
	most = max_t(u32, rounddown(min_t(size_t, dma_get_max_seg_size(attach->dev), SZ_1G), PAGE_SIZE), PAGE_SIZE);
	ret = dmabuf_count(mem, most, &nr);
	if (ret)
		return ERR_PTR(ret);
	sgt = kzalloc(sizeof(*sgt), GFP_KERNEL);
	if (!sgt)
		return ERR_PTR(-ENOMEM);
	ret = sg_alloc_table(sgt, nr, GFP_KERNEL);
	if (ret)
		goto err_table;
	dmabuf_fill(mem, most, sgt);
	ret = dma_map_sgtable(attach->dev, sgt, dir, 0);
	if (ret)
		goto err_entries;
	return sgt;

err_entries:
	sg_free_table(sgt);
err_table:
	kfree(sgt);
	return ERR_PTR(ret);
}

static void dmabuf_unmap(struct dma_buf_attachment *attach, struct sg_table *sgt, enum dma_data_direction dir)
{
	dma_unmap_sgtable(attach->dev, sgt, dir, 0);
	sg_free_table(sgt);
	kfree(sgt);
}

void penstock_dmabuf_zap(struct penstock_mem *mem)
{
	struct penstock_export *export;

	lockdep_assert_held(&mem->lock);
	/* Their releases wait for mem->lock. */
	list_for_each_entry(export, &mem->exports, node) {
		struct dma_buf *dmabuf = export->dmabuf;

		unmap_mapping_range(export->inode->i_mapping, 0, 0, 1);
		dma_resv_lock(dmabuf->resv, NULL);
		dma_buf_move_notify(dmabuf);
		/* Importers may let go in their own time; the fences say when their devices have stopped. */
		dma_resv_wait_timeout(dmabuf->resv, DMA_RESV_USAGE_BOOKKEEP, false, MAX_SCHEDULE_TIMEOUT);
		dma_resv_unlock(dmabuf->resv);
	}
}

/* ---- mappings ---- */

static vm_fault_t dmabuf_vm_fault(struct vm_fault *vmf)
{
	struct penstock_mem *mem = vmf->vma->vm_private_data;
	vm_fault_t ret = VM_FAULT_SIGBUS;

	/* Held over the insertion: a revocation has not begun, or its zap takes away what we insert. */
	mutex_lock(&mem->lock);
	if (!mem->dead)
		ret = penstock_mem_fault(mem, vmf, (u64)vmf->pgoff << PAGE_SHIFT);
	mutex_unlock(&mem->lock);
	return ret;
}

static const struct vm_operations_struct dmabuf_vm_ops = {
	.fault = dmabuf_vm_fault,
};

static int dmabuf_mmap(struct dma_buf *dmabuf, struct vm_area_struct *vma)
{
	struct penstock_mem *mem = dmabuf_mem(dmabuf);

	if (!mem->mappable)
		return -EOPNOTSUPP;
	/* The rules of the node's own mappings. */
	if (!(vma->vm_flags & VM_MAYSHARE) || (vma->vm_flags & VM_EXEC))
		return -EINVAL;
	if (READ_ONCE(mem->dead))
		return -ENODEV;
	vm_flags_mod(vma, VM_MIXEDMAP | VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP, VM_MAYEXEC);
	if (mem->p2p)
		vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
	/* The VMA holds the file, that holds the dma-buf, that holds the memory. */
	vma->vm_private_data = mem;
	vma->vm_ops = &dmabuf_vm_ops;
	return 0;
}

/* ---- life ---- */

static void dmabuf_release(struct dma_buf *dmabuf)
{
	struct penstock_export *export = dmabuf->priv;
	struct penstock_mem *mem = export->mem;

	mutex_lock(&mem->lock);
	list_del(&export->node);
	mutex_unlock(&mem->lock);
	iput(export->inode);
	kfree(export);
	penstock_object_add(PENSTOCK_OBJECT_DMABUF, -1);
	/* Host memory never waits, and who closes the last descriptor finds it given back. */
	if (mem->p2p)
		penstock_mem_put(mem);
	else
		penstock_mem_put_sync(mem);
}

static const struct dma_buf_ops dmabuf_ops = {
	.attach = dmabuf_attach,
	.pin = dmabuf_pin,
	.unpin = dmabuf_unpin,
	.map_dma_buf = dmabuf_map,
	.unmap_dma_buf = dmabuf_unmap,
	.mmap = dmabuf_mmap,
	.release = dmabuf_release,
};

/* A new dma-buf of the memory. The caller keeps the memory alive. */
static struct dma_buf *dmabuf_create(struct penstock_mem *mem)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct penstock_export *export;
	struct dma_buf *dmabuf;
	bool dead;

	export = kzalloc(sizeof(*export), GFP_KERNEL_ACCOUNT);
	if (!export)
		return ERR_PTR(-ENOMEM);
	INIT_LIST_HEAD(&export->node);
	export->mem = mem;
	info.ops = &dmabuf_ops;
	info.size = mem->len;
	info.flags = O_RDWR;
	info.priv = export;
	dmabuf = dma_buf_export(&info);
	if (IS_ERR(dmabuf)) {
		kfree(export);
		return dmabuf;
	}
	/* From here on its release undoes all. */
	penstock_mem_get(mem);
	penstock_object_add(PENSTOCK_OBJECT_DMABUF, 1);
	export->dmabuf = dmabuf;
	export->inode = file_inode(dmabuf->file);
	ihold(export->inode);

	mutex_lock(&mem->lock);
	dead = mem->dead;
	if (!dead)
		list_add_tail(&export->node, &mem->exports);
	mutex_unlock(&mem->lock);
	if (dead) {
		dma_buf_put(dmabuf);
		return ERR_PTR(-ENODEV);
	}
	return dmabuf;
}

int penstock_ioctl_region_export(struct penstock_open *open, void *arg)
{
	struct penstock_export_arg *export = arg;
	struct penstock_region *region;
	struct penstock_mem *mem;
	struct dma_buf *dmabuf;
	int fd;

	if (export->cmd.flags)
		return -EOPNOTSUPP;
	region = penstock_region_begin(open, export->cmd.region_id);
	if (IS_ERR(region))
		return PTR_ERR(region);
	mem = region->mem;
	/* A user's memory is his process's; a part of a memory must not become all of it. */
	if (mem->only_mm || region->mem_offset || region->len != mem->len)
		dmabuf = ERR_PTR(-EOPNOTSUPP);
	else
		dmabuf = dmabuf_create(mem);
	penstock_region_end(region);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	/* Other threads do not see it before the caller has the number: it could not be taken back from them. */
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		dma_buf_put(dmabuf);
		return fd;
	}
	export->cmd.out_fd = fd;
	export->dmabuf = dmabuf;
	return 0;
}

void penstock_export_commit(struct penstock_open *open, void *arg)
{
	struct penstock_export_arg *export = arg;

	fd_install(export->cmd.out_fd, export->dmabuf->file);
}

void penstock_export_undo(struct penstock_open *open, void *arg)
{
	struct penstock_export_arg *export = arg;

	put_unused_fd(export->cmd.out_fd);
	dma_buf_put(export->dmabuf);
}

struct penstock_mem *penstock_dmabuf_import(int fd, u32 *reason)
{
	struct dma_buf *dmabuf = dma_buf_get(fd);
	struct penstock_mem *mem;

	*reason = PENSTOCK_REASON_NONE;
	if (IS_ERR(dmabuf))
		return ERR_CAST(dmabuf);
	if (dmabuf->ops == &dmabuf_ops) {
		mem = dmabuf_mem(dmabuf);
		penstock_mem_get(mem);
	} else {
		*reason = PENSTOCK_REASON_DMABUF_NO_PAGES;
		mem = ERR_PTR(-EOPNOTSUPP);
	}
	dma_buf_put(dmabuf);
	return mem;
}
