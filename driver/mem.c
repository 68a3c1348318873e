// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory to read into, whatever kind it is: how long it lives, how it is taken
 * away, how it is mapped, how a part of it becomes an iterator. The lifetime
 * rules are at the head of penstock_drv.h.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uio.h>
#include "penstock_drv.h"
#include "trace.h"

/* Pages inserted at a time on a fault: forward, to the end of what one page table covers. */
#define FAULT_BATCH 64

/* Gives the pages back once; whoever comes second waits until that is done. */
static void mem_give_back(struct penstock_mem *mem)
{
	bool first;

	mutex_lock(&mem->lock);
	first = !mem->releasing;
	mem->releasing = true;
	mutex_unlock(&mem->lock);
	if (!first) {
		wait_for_completion(&mem->released);
		return;
	}
	if (mem->ops)
		mem->ops->release(mem);
	if (mem->peer)
		penstock_peer_leave(mem);
	penstock_uncharge(&mem->charge);
	complete_all(&mem->released);
}

static void mem_free(struct penstock_mem *mem)
{
	mem_give_back(mem);
	if (mem->peer)
		penstock_peer_put(mem->peer);
	kvfree(mem->bvec);
	kvfree(mem->ends);
	mutex_destroy(&mem->lock);
	kfree(mem);
	penstock_object_add(PENSTOCK_OBJECT_MEM, -1);
}

static void mem_release_work(struct work_struct *work)
{
	mem_free(container_of(work, struct penstock_mem, release_work));
}

static void mem_last_put(struct kref *ref)
{
	struct penstock_mem *mem = container_of(ref, struct penstock_mem, ref);

	queue_work(penstock_wq, &mem->release_work);
}

struct penstock_mem *penstock_mem_alloc(u32 nr_bvec)
{
	struct penstock_mem *mem;

	mem = kzalloc(sizeof(*mem), GFP_KERNEL_ACCOUNT);
	if (!mem)
		return NULL;
	mem->bvec = kvcalloc(nr_bvec, sizeof(*mem->bvec), GFP_KERNEL_ACCOUNT);
	mem->ends = kvcalloc(nr_bvec, sizeof(*mem->ends), GFP_KERNEL_ACCOUNT);
	if (!mem->bvec || !mem->ends) {
		kvfree(mem->bvec);
		kvfree(mem->ends);
		kfree(mem);
		return NULL;
	}
	mem->nr_bvec = nr_bvec;
	mem->peer_offset = PENSTOCK_NO_OFFSET;
	kref_init(&mem->ref);
	mutex_init(&mem->lock);
	INIT_LIST_HEAD(&mem->regions);
	INIT_LIST_HEAD(&mem->exports);
	INIT_LIST_HEAD(&mem->peer_node);
	init_waitqueue_head(&mem->empty);
	init_completion(&mem->released);
	INIT_WORK(&mem->release_work, mem_release_work);
	penstock_object_add(PENSTOCK_OBJECT_MEM, 1);
	return mem;
}
EXPORT_SYMBOL_GPL(penstock_mem_alloc);

void penstock_mem_finish(struct penstock_mem *mem)
{
	u64 end = 0;
	u32 i;

	for (i = 0; i < mem->nr_bvec; i++) {
		end += mem->bvec[i].bv_len;
		mem->ends[i] = end;
	}
	mem->len = end;
}
EXPORT_SYMBOL_GPL(penstock_mem_finish);

void penstock_mem_get(struct penstock_mem *mem)
{
	kref_get(&mem->ref);
}
EXPORT_SYMBOL_GPL(penstock_mem_get);

bool penstock_mem_tryget(struct penstock_mem *mem)
{
	return kref_get_unless_zero(&mem->ref);
}
EXPORT_SYMBOL_GPL(penstock_mem_tryget);

void penstock_mem_put(struct penstock_mem *mem)
{
	kref_put(&mem->ref, mem_last_put);
}
EXPORT_SYMBOL_GPL(penstock_mem_put);

void penstock_mem_put_sync(struct penstock_mem *mem)
{
	if (refcount_dec_and_test(&mem->ref.refcount))
		mem_free(mem);
}
EXPORT_SYMBOL_GPL(penstock_mem_put_sync);

void penstock_mem_revoke(struct penstock_mem *mem, u32 reason)
{
	struct penstock_region *region;

	trace_penstock_revoke(mem, reason);
	mutex_lock(&mem->lock);
	if (!mem->dead)
		mem->dead = reason;
	list_for_each_entry(region, &mem->regions, node)
		penstock_region_kill(region, reason);
	penstock_dmabuf_zap(mem);
	mutex_unlock(&mem->lock);

	/* Regions leave the list when their last read has ended: no process has to do anything for that. */
	wait_event(mem->empty, list_empty_careful(&mem->regions));
	mem_give_back(mem);
}
EXPORT_SYMBOL_GPL(penstock_mem_revoke);

/* The run that holds the byte at @offset. */
static u32 mem_run_at(const struct penstock_mem *mem, u64 offset)
{
	u32 low = 0, high = mem->nr_bvec - 1;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (offset < mem->ends[middle])
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

static u64 mem_run_start(const struct penstock_mem *mem, u32 run)
{
	return run ? mem->ends[run - 1] : 0;
}

void penstock_mem_iter(struct penstock_mem *mem, u64 offset, size_t len, struct iov_iter *iter)
{
	u32 first = mem_run_at(mem, offset);
	u32 last = offset + len <= mem->ends[first] ? first : mem_run_at(mem, offset + len - 1);

	iov_iter_bvec(iter, ITER_DEST, mem->bvec + first, last - first + 1, len);
	iter->iov_offset = offset - mem_run_start(mem, first);
}

vm_fault_t penstock_mem_fault(struct penstock_mem *mem, struct vm_fault *vmf, u64 offset)
{
	struct vm_area_struct *vma = vmf->vma;
	unsigned long addr = vmf->address & PAGE_MASK;
	unsigned long end = min(vma->vm_end, (addr & PMD_MASK) + PMD_SIZE);
	struct page *pages[FAULT_BATCH];
	u32 run;
	int ret = 0;

	offset &= PAGE_MASK;
	if (offset >= mem->len)
		return VM_FAULT_SIGBUS;
	run = mem_run_at(mem, offset);
	while (addr < end && offset < mem->len) {
		unsigned long nr = 0, left;

		while (nr < FAULT_BATCH && addr + nr * PAGE_SIZE < end && offset < mem->len) {
			u64 in_run = offset - mem_run_start(mem, run);

			pages[nr++] = nth_page(mem->bvec[run].bv_page, in_run >> PAGE_SHIFT);
			offset += PAGE_SIZE;
			if (offset == mem->ends[run])
				run++;
		}
		left = nr;
		ret = vm_insert_pages(vma, addr, pages, &left);
		if (ret)
			break;
		addr += nr * PAGE_SIZE;
	}
	/* The page asked for is there when any was inserted; EBUSY: it was there before. */
	if (addr > (vmf->address & PAGE_MASK) || !ret || ret == -EBUSY)
		return VM_FAULT_NOPAGE;
	return ret == -ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
}
