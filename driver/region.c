// SPDX-License-Identifier: GPL-2.0-only
/*
 * Regions: windows of an open on a memory. Ids, the count of users, how a
 * region ends, mappings. The lifetime rules are at the head of penstock_drv.h.
 */
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include "penstock_drv.h"
#include "trace.h"

static void region_release(struct kref *ref)
{
	struct penstock_region *region = container_of(ref, struct penstock_region, ref);

	penstock_object_add(PENSTOCK_OBJECT_REGION, -1);
	free_percpu(region->stats);
	kfree_rcu(region, rcu);
}

void penstock_region_put(struct penstock_region *region)
{
	kref_put(&region->ref, region_release);
}

static void region_unmap(struct penstock_region *region)
{
	unmap_mapping_range(&region->open->mapping, (loff_t)region->id << PENSTOCK_MMAP_SHIFT, region->len, 1);
}

/* Nothing uses the memory by this region any more, and nothing will. */
static void region_retire(struct work_struct *work)
{
	struct penstock_region *region = container_of(work, struct penstock_region, retire);
	struct penstock_mem *mem = region->mem;

	trace_penstock_region_retire(region);
	/*
	 * A page fault that had begun before the kill may have inserted pages
	 * after its zap; faults count as users, so none is under way now.
	 */
	region_unmap(region);
	mutex_lock(&mem->lock);
	list_del_init(&region->node);
	if (list_empty(&mem->regions))
		wake_up_all(&mem->empty);
	mutex_unlock(&mem->lock);
	penstock_mem_put_sync(mem);
	penstock_open_put(region->open);
	complete_all(&region->retired);
	penstock_region_put(region);
}

void penstock_region_end(struct penstock_region *region)
{
	if (refcount_dec_and_test(&region->active))
		queue_work(penstock_wq, &region->retire);
}

bool penstock_region_begin_held(struct penstock_region *region)
{
	return refcount_inc_not_zero(&region->active);
}

struct penstock_region *penstock_region_begin(struct penstock_open *open, u32 id)
{
	struct penstock_region *region;

	rcu_read_lock();
	region = xa_load(&open->regions, id);
	if (!region)
		region = ERR_PTR(-ENOENT);
	else if (READ_ONCE(region->dead) || !refcount_inc_not_zero(&region->active))
		region = ERR_PTR(-ENODEV);
	rcu_read_unlock();
	return region;
}

struct penstock_region *penstock_region_find(struct penstock_open *open, u32 id)
{
	struct penstock_region *region;

	rcu_read_lock();
	region = xa_load(&open->regions, id);
	if (region && !kref_get_unless_zero(&region->ref))
		region = NULL;
	rcu_read_unlock();
	return region;
}

u32 penstock_region_in_flight(struct penstock_region *region)
{
	unsigned int active = refcount_read(&region->active);

	return active && !READ_ONCE(region->dead) ? active - 1 : active;
}

/* Mark it dead; true for the one caller who then has to drop the count that kept it alive. */
static bool region_mark_dead(struct penstock_region *region, u32 reason)
{
	unsigned long flags;
	bool first;

	spin_lock_irqsave(&region->state_lock, flags);
	first = !region->dead;
	if (first) {
		/* Before any read can be refused: who gets ENODEV finds the event that says why. */
		if (reason)
			penstock_event_post(region->open, PENSTOCK_EVENT_REVOKED, region->id, reason);
		/* Pairs with the reads of dead in penstock_region_begin(), whose caller then reads the event. */
		smp_store_release(&region->dead, reason + 1);
	}
	spin_unlock_irqrestore(&region->state_lock, flags);
	return first;
}

void penstock_region_kill(struct penstock_region *region, u32 reason)
{
	if (!region_mark_dead(region, reason))
		return;
	trace_penstock_region_kill(region, reason);
	region_unmap(region);
	penstock_region_end(region);
}

u64 penstock_region_mmap_offset(const struct penstock_mem *mem, u32 id)
{
	return mem->mappable ? (u64)id << PENSTOCK_MMAP_SHIFT : PENSTOCK_NO_OFFSET;
}

static struct penstock_region *region_alloc(struct penstock_open *open, struct penstock_mem *mem, u64 offset, u64 len)
{
	struct penstock_region *region = kzalloc(sizeof(*region), GFP_KERNEL_ACCOUNT);

	if (!region)
		return NULL;
	region->stats = alloc_percpu_gfp(struct penstock_stats, GFP_KERNEL_ACCOUNT);
	if (!region->stats) {
		kfree(region);
		return NULL;
	}
	kref_init(&region->ref);
	/* The reference of the users of the moment as a whole, put by region_retire(). */
	kref_get(&region->ref);
	refcount_set(&region->active, 1);
	region->open = open;
	region->mem = mem;
	region->mem_offset = offset;
	region->len = len;
	INIT_LIST_HEAD(&region->node);
	spin_lock_init(&region->state_lock);
	INIT_WORK(&region->retire, region_retire);
	init_completion(&region->retired);
	penstock_object_add(PENSTOCK_OBJECT_REGION, 1);
	return region;
}

/* For a region that nobody has seen. */
static void region_discard(struct penstock_region *region)
{
	penstock_region_put(region);
	penstock_region_put(region);
}

/* Under open->lock. */
static int region_publish(struct penstock_open *open, struct penstock_region *region)
{
	struct penstock_mem *mem = region->mem;
	int ret;

	if (open->nr_regions >= penstock_max_regions)
		return -ENOSPC;
	ret = xa_alloc_cyclic(&open->regions, &region->id, NULL, XA_LIMIT(1, PENSTOCK_MAX_ID), &open->next_region,
			      GFP_KERNEL_ACCOUNT);
	if (ret < 0)
		return ret == -EBUSY ? -ENOSPC : ret;

	mutex_lock(&mem->lock);
	if (mem->dead) {
		mutex_unlock(&mem->lock);
		xa_erase(&open->regions, region->id);
		return -ENODEV;
	}
	penstock_mem_get(mem);
	kref_get(&open->ref);
	list_add_tail(&region->node, &mem->regions);
	/* The entry is reserved: storing needs no memory and cannot fail. */
	xa_store(&open->regions, region->id, region, GFP_KERNEL_ACCOUNT);
	trace_penstock_region_create(region);
	mutex_unlock(&mem->lock);
	open->nr_regions++;
	return 0;
}

int penstock_region_create(struct penstock_open *open, struct penstock_mem *mem, u64 offset, u64 len, u32 *id)
{
	struct penstock_region *region = region_alloc(open, mem, offset, len);
	int ret;

	if (!region)
		return -ENOMEM;
	mutex_lock(&open->lock);
	ret = region_publish(open, region);
	if (ret)
		region_discard(region);
	else
		*id = region->id;
	mutex_unlock(&open->lock);
	return ret;
}

/* Pages of a memory that is alive which others use, in I/O on a mapping. */
static u32 region_busy_pages(struct penstock_region *region)
{
	struct penstock_mem *mem = region->mem;
	unsigned long busy = 0;

	if (!penstock_region_begin_held(region))
		return 0;
	if (mem->ops->busy)
		busy = mem->ops->busy(mem);
	penstock_region_end(region);
	return min_t(unsigned long, busy, U32_MAX);
}

/* End a region that nothing uses; the number of users otherwise, and nothing has changed. */
static u32 region_kill_idle(struct penstock_region *region)
{
	u32 users = region_busy_pages(region);
	unsigned long flags;
	bool last = false;

	if (users)
		return users;
	spin_lock_irqsave(&region->state_lock, flags);
	if (!region->dead) {
		last = refcount_dec_if_one(&region->active);
		if (last)
			WRITE_ONCE(region->dead, 1);
		else
			users = max(refcount_read(&region->active), 2U) - 1;
	} else {
		/* Revoked: what was in flight then may still be. */
		users = refcount_read(&region->active);
	}
	spin_unlock_irqrestore(&region->state_lock, flags);
	if (last) {
		trace_penstock_region_kill(region, 0);
		queue_work(penstock_wq, &region->retire);
	}
	return users;
}

/* False for what is dead already, and may have no memory any more. */
static bool region_is_host_memory(struct penstock_region *region)
{
	bool host;

	if (!penstock_region_begin_held(region))
		return false;
	host = !region->mem->p2p;
	penstock_region_end(region);
	return host;
}

int penstock_ioctl_region_free(struct penstock_open *open, void *arg)
{
	struct penstock_region_free *cmd = arg;
	struct penstock_region *region;
	u32 users = 0;
	int ret = 0;
	bool host;

	if (cmd->flags & ~PENSTOCK_REGION_FREE_F_WAIT)
		return -EOPNOTSUPP;
	cmd->out_in_flight = 0;

	mutex_lock(&open->lock);
	region = xa_load(&open->regions, cmd->region_id);
	if (!region) {
		mutex_unlock(&open->lock);
		return -ENOENT;
	}
	host = region_is_host_memory(region);
	if (!(cmd->flags & PENSTOCK_REGION_FREE_F_WAIT))
		users = region_kill_idle(region);
	if (users) {
		mutex_unlock(&open->lock);
		cmd->out_in_flight = users;
		return -EBUSY;
	}
	/* From here on the id's reference is ours. */
	xa_erase(&open->regions, cmd->region_id);
	open->nr_regions--;
	mutex_unlock(&open->lock);

	penstock_region_kill(region, 0);
	/*
	 * The id is gone: there is no call to restart after a signal, and task
	 * work of io_uring comes as one. So only what ends the process ends the
	 * wait; the memory is then given back without us, with the last user.
	 * Host memory without users is being given back now: see
	 * penstock_region_free_all().
	 */
	if (host && !refcount_read(&region->active))
		wait_for_completion(&region->retired);
	else if (wait_for_completion_killable(&region->retired))
		ret = -EINTR;
	penstock_region_put(region);
	return ret;
}

void penstock_region_free_all(struct penstock_open *open)
{
	struct penstock_region *region;
	unsigned long id;

	xa_for_each(&open->regions, id, region) {
		bool host = region_is_host_memory(region);

		penstock_region_kill(region, 0);
		if (host && !refcount_read(&region->active))
			continue;
		/* Reads in flight, or pages of a peer that others use: that may take as long as a drive's time-out. */
		xa_erase(&open->regions, id);
		penstock_region_put(region);
	}
	/*
	 * What is left is being given back, many at a time, and waits for
	 * nobody. A process that is started again after its end must not find
	 * its memory taken and its limit used up by what it had before.
	 */
	xa_for_each(&open->regions, id, region) {
		wait_for_completion(&region->retired);
		xa_erase(&open->regions, id);
		penstock_region_put(region);
	}
	xa_destroy(&open->regions);
}

static vm_fault_t region_vm_fault(struct vm_fault *vmf)
{
	struct penstock_region *region = vmf->vma->vm_private_data;
	u64 offset = (u64)(vmf->pgoff & ((1UL << (PENSTOCK_MMAP_SHIFT - PAGE_SHIFT)) - 1)) << PAGE_SHIFT;
	vm_fault_t ret;

	if (offset >= region->len || READ_ONCE(region->dead) || !penstock_region_begin_held(region))
		return VM_FAULT_SIGBUS;
	ret = penstock_mem_fault(region->mem, vmf, region->mem_offset + offset);
	penstock_region_end(region);
	return ret;
}

static void region_vm_open(struct vm_area_struct *vma)
{
	struct penstock_region *region = vma->vm_private_data;

	kref_get(&region->ref);
}

static void region_vm_close(struct vm_area_struct *vma)
{
	penstock_region_put(vma->vm_private_data);
}

static const struct vm_operations_struct region_vm_ops = {
	.open = region_vm_open,
	.close = region_vm_close,
	.fault = region_vm_fault,
};

int penstock_region_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct penstock_open *open = file->private_data;
	unsigned long pgoff_mask = (1UL << (PENSTOCK_MMAP_SHIFT - PAGE_SHIFT)) - 1;
	u64 offset = (u64)(vma->vm_pgoff & pgoff_mask) << PAGE_SHIFT;
	unsigned long id = vma->vm_pgoff >> (PENSTOCK_MMAP_SHIFT - PAGE_SHIFT);
	struct penstock_region *region;
	bool mappable, peer;
	u64 end;

	/*
	 * A private mapping would be copied on write, and reads into it would be
	 * lost. Of a descriptor that cannot write a shared one has MAYSHARE only.
	 */
	if (!(vma->vm_flags & VM_MAYSHARE) || (vma->vm_flags & VM_EXEC))
		return -EINVAL;
	if (id > PENSTOCK_MAX_ID)
		return -ENOENT;
	region = penstock_region_find(open, id);
	if (!region)
		return -ENOENT;
	if (!penstock_region_begin_held(region)) {
		penstock_region_put(region);
		return -ENODEV;
	}
	mappable = region->mem->mappable;
	peer = region->mem->p2p;
	penstock_region_end(region);
	if (!mappable) {
		penstock_region_put(region);
		return -EOPNOTSUPP;
	}
	if (check_add_overflow(offset, (u64)(vma->vm_end - vma->vm_start), &end) || end > region->len) {
		penstock_region_put(region);
		return -EINVAL;
	}
	/* Pages come by faults, so that a zap at any time is final. */
	vm_flags_mod(vma, VM_MIXEDMAP | VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP, VM_MAYEXEC);
	/* As the kernel's own mapping of a BAR is. */
	if (peer)
		vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
	vma->vm_private_data = region;
	vma->vm_ops = &region_vm_ops;
	return 0;
}
