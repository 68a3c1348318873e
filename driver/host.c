// SPDX-License-Identifier: GPL-2.0-only
/*
 * Host memory to read into: the driver's own (REGION_ALLOC) and a user's
 * (REGION_PIN), and what users are charged for both.
 *
 * A page is charged before it is taken, and the charge belongs to the memory
 * from the moment that there is one: penstock_uncharge() gives it back when
 * the pages were. Pages are given back by dropping our references or pins, so
 * nothing waits for those who still have them mapped or registered.
 */
#include <linux/backing-dev.h>
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/nodemask.h>
#include <linux/nospec.h>
#include <linux/overflow.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/user.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include "penstock_drv.h"

/* A run's length has 32 bits; this leaves none of them to think about. */
#define RUN_MAX_PAGES	(SZ_1G >> PAGE_SHIFT)
/* Pages pinned, and given back, between two looks at the scheduler. */
#define PIN_BATCH	(PAGE_SIZE / sizeof(struct page *))

static_assert(PENSTOCK_MAX_REGION_LEN >> PAGE_SHIFT <= U32_MAX, "the number of runs has 32 bits");

/* ---- charges ---- */

/* Add to what the user has locked, within the limit; as io_uring and iommufd do, so that the sums add up. */
static int charge_user(struct user_struct *user, unsigned long pages)
{
	unsigned long limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;
	long old = atomic_long_read(&user->locked_vm);
	unsigned long sum;

	do {
		if (check_add_overflow((unsigned long)old, pages, &sum) || sum > limit)
			return -ENOMEM;
	} while (!atomic_long_try_cmpxchg(&user->locked_vm, &old, sum));
	return 0;
}

/**
 * penstock_charge_pages() - charge the current user and address space
 * @charge: what to give back later; nothing when this fails
 * @pages: how many
 *
 * Return: 0; -ENOMEM when RLIMIT_MEMLOCK does not allow as many.
 */
int penstock_charge_pages(struct penstock_charge *charge, unsigned long pages)
{
	struct user_struct *user = NULL;
	int ret;

	memset(charge, 0, sizeof(*charge));
	if (!capable(CAP_IPC_LOCK)) {
		user = get_uid(current_user());
		ret = charge_user(user, pages);
		if (ret) {
			free_uid(user);
			return ret;
		}
	}
	mmgrab(current->mm);
	atomic64_add(pages, &current->mm->pinned_vm);
	charge->user = user;
	charge->mm = current->mm;
	charge->pages = pages;
	return 0;
}

void penstock_uncharge(struct penstock_charge *charge)
{
	if (charge->user) {
		atomic_long_sub(charge->pages, &charge->user->locked_vm);
		free_uid(charge->user);
	}
	if (charge->mm) {
		atomic64_sub(charge->pages, &charge->mm->pinned_vm);
		mmdrop(charge->mm);
	}
	memset(charge, 0, sizeof(*charge));
}

/* ---- runs of pages, while their number is not known ---- */

struct run_chunk {
	struct list_head node;
	u32 nr;
	struct bio_vec bvec[];
};

#define RUNS_IN_CHUNK	((PAGE_SIZE - sizeof(struct run_chunk)) / sizeof(struct bio_vec))

/**
 * struct runs - physically contiguous runs, in order
 * @chunks: struct run_chunk, each of one page
 * @nr: runs
 */
struct runs {
	struct list_head chunks;
	u32 nr;
};

static void runs_init(struct runs *runs)
{
	INIT_LIST_HEAD(&runs->chunks);
	runs->nr = 0;
}

static struct run_chunk *runs_last_chunk(struct runs *runs)
{
	return list_empty(&runs->chunks) ? NULL : list_last_entry(&runs->chunks, struct run_chunk, node);
}

/* Add @nr pages, at most RUN_MAX_PAGES; to the last run where they follow it in memory. */
static int runs_add(struct runs *runs, struct page *page, u32 nr)
{
	struct run_chunk *chunk = runs_last_chunk(runs);

	if (chunk) {
		struct bio_vec *last = &chunk->bvec[chunk->nr - 1];
		u32 pages = last->bv_len >> PAGE_SHIFT;

		if (pages + nr <= RUN_MAX_PAGES && page_to_pfn(last->bv_page) + pages == page_to_pfn(page)) {
			last->bv_len += nr << PAGE_SHIFT;
			return 0;
		}
	}
	if (!chunk || chunk->nr == RUNS_IN_CHUNK) {
		chunk = kmalloc(PAGE_SIZE, GFP_KERNEL_ACCOUNT);
		if (!chunk)
			return -ENOMEM;
		chunk->nr = 0;
		list_add_tail(&chunk->node, &runs->chunks);
	}
	chunk->bvec[chunk->nr++] = (struct bio_vec) { .bv_page = page, .bv_len = nr << PAGE_SHIFT };
	runs->nr++;
	return 0;
}

/* Forget the runs; with @give, give their pages back. */
static void runs_end(struct runs *runs, void (*give)(struct page *page, u32 nr))
{
	struct run_chunk *chunk, *next;
	u32 i;

	list_for_each_entry_safe(chunk, next, &runs->chunks, node) {
		for (i = 0; give && i < chunk->nr; i++)
			give(chunk->bvec[i].bv_page, chunk->bvec[i].bv_len >> PAGE_SHIFT);
		kfree(chunk);
		cond_resched();
	}
	runs_init(runs);
}

/* A memory of these runs, whose pages become its own. NULL: no memory, and the runs are as they were. */
static struct penstock_mem *runs_to_mem(struct runs *runs, const struct penstock_mem_ops *ops)
{
	struct penstock_mem *mem = penstock_mem_alloc(runs->nr);
	struct run_chunk *chunk;
	u32 at = 0;

	if (!mem)
		return NULL;
	list_for_each_entry(chunk, &runs->chunks, node) {
		memcpy(mem->bvec + at, chunk->bvec, chunk->nr * sizeof(*chunk->bvec));
		at += chunk->nr;
		cond_resched();
	}
	runs_end(runs, NULL);
	penstock_mem_finish(mem);
	mem->ops = ops;
	return mem;
}

/*
 * Make a region of a finished memory whose only reference is the caller's, and
 * drop that. Whatever goes wrong, pages and charge are given back in time.
 */
static int host_region(struct penstock_open *open, struct penstock_mem *mem, u32 *id, u32 *nr_segments,
		       u64 *mmap_offset)
{
	int ret = penstock_region_create(open, mem, 0, mem->len, id);

	if (!ret) {
		*nr_segments = mem->nr_bvec;
		if (mmap_offset)
			*mmap_offset = penstock_region_mmap_offset(mem, *id);
	}
	penstock_mem_put_sync(mem);
	return ret;
}

/* ---- memory of the driver's own ---- */

/* The run consists of blocks as they were allocated, of whatever order each was. */
static void alloc_give_back(struct page *page, u32 nr)
{
	while (nr) {
		u32 block = compound_nr(page);

		put_page(page);
		page = nth_page(page, block);
		nr -= block;
		cond_resched();
	}
}

static void alloc_release(struct penstock_mem *mem)
{
	u32 i;

	for (i = 0; i < mem->nr_bvec; i++)
		alloc_give_back(mem->bvec[i].bv_page, mem->bvec[i].bv_len >> PAGE_SHIFT);
	penstock_object_add(PENSTOCK_OBJECT_HOST_PAGES, -(long)(mem->len >> PAGE_SHIFT));
}

static const struct penstock_mem_ops alloc_ops = {
	.name = "alloc",
	.release = alloc_release,
};

/* Zeroed pages of up to *@order, which is lowered to what there was. */
static struct page *alloc_block(int node, unsigned int *order)
{
	gfp_t gfp = GFP_USER | __GFP_ACCOUNT | __GFP_ZERO | __GFP_COMP | __GFP_NOWARN;
	struct page *page;

	/* Within the caller's cpuset, and as his memory policy says; a node that he named is meant. */
	if (node != NUMA_NO_NODE)
		gfp |= __GFP_THISNODE;
	for (;;) {
		/* What one asks for in bulk is not worth another's life: no OOM killer for the last order either. */
		gfp_t how = *order ? __GFP_NORETRY : __GFP_RETRY_MAYFAIL;

		if (node == NUMA_NO_NODE)
			page = alloc_pages(gfp | how, *order);
		else
			page = alloc_pages_node(node, gfp | how, *order);
		if (page || !*order)
			return page;
		--*order;
	}
}

/* Once an order could not be had it is not tried again: that would cost a search of memory each time. */
static int alloc_runs(struct runs *runs, unsigned long pages, int node, unsigned int order)
{
	while (pages) {
		struct page *page;
		int ret;

		if (fatal_signal_pending(current))
			return -EINTR;
		order = min_t(unsigned int, order, ilog2(pages));
		page = alloc_block(node, &order);
		if (!page)
			return -ENOMEM;
		ret = runs_add(runs, page, 1U << order);
		if (ret) {
			put_page(page);
			return ret;
		}
		pages -= 1UL << order;
		cond_resched();
	}
	return 0;
}

static int alloc_node(s32 wanted, int *node)
{
	*node = NUMA_NO_NODE;
	if (wanted == -1)
		return 0;
	if (wanted < 0 || wanted >= MAX_NUMNODES)
		return -EINVAL;
	wanted = array_index_nospec(wanted, MAX_NUMNODES);
	if (!node_state(wanted, N_MEMORY))
		return -EINVAL;
	*node = wanted;
	return 0;
}

int penstock_ioctl_region_alloc(struct penstock_open *open, void *arg)
{
	struct penstock_region_alloc *cmd = arg;
	struct penstock_charge charge;
	struct penstock_mem *mem;
	unsigned long pages;
	struct runs runs;
	int node, ret;

	if (cmd->flags)
		return -EOPNOTSUPP;
	if (!cmd->length || !PAGE_ALIGNED(cmd->length) || cmd->length > PENSTOCK_MAX_REGION_LEN ||
	    cmd->order > MAX_PAGE_ORDER)
		return -EINVAL;
	ret = alloc_node(cmd->numa_node, &node);
	if (ret)
		return ret;
	pages = cmd->length >> PAGE_SHIFT;
	/* Do not drive everything else out to find this in the end. */
	if (pages > totalram_pages())
		return -ENOMEM;

	ret = penstock_charge_pages(&charge, pages);
	if (ret)
		return ret;
	runs_init(&runs);
	ret = alloc_runs(&runs, pages, node, cmd->order);
	if (ret)
		goto err_runs;
	mem = runs_to_mem(&runs, &alloc_ops);
	if (!mem) {
		ret = -ENOMEM;
		goto err_runs;
	}
	penstock_object_add(PENSTOCK_OBJECT_HOST_PAGES, pages);
	mem->charge = charge;
	mem->mappable = true;
	return host_region(open, mem, &cmd->out_region_id, &cmd->out_nr_segments, &cmd->out_mmap_offset);

err_runs:
	runs_end(&runs, alloc_give_back);
	penstock_uncharge(&charge);
	return ret;
}

/* ---- memory of a user ---- */

static void pin_unpin(struct page *page, u32 nr, bool dirty)
{
	while (nr) {
		u32 part = min_t(u32, nr, PIN_BATCH);

		unpin_user_page_range_dirty_lock(page, part, dirty);
		page = nth_page(page, part);
		nr -= part;
		cond_resched();
	}
}

static void pin_give_back(struct page *page, u32 nr)
{
	pin_unpin(page, nr, false);
}

static void pin_release(struct penstock_mem *mem)
{
	u32 i;

	/* A drive may have written to any of them without a trace in page tables. */
	for (i = 0; i < mem->nr_bvec; i++)
		pin_unpin(mem->bvec[i].bv_page, mem->bvec[i].bv_len >> PAGE_SHIFT, true);
	penstock_object_add(PENSTOCK_OBJECT_PINNED_PAGES, -(long)(mem->len >> PAGE_SHIFT));
}

static const struct penstock_mem_ops pin_ops = {
	.name = "pin",
	.release = pin_release,
};

/*
 * A page of a file that is written back: its file system must be told before
 * each write, which a drive does not do. Newer kernels refuse these when they
 * pin; older ones leave it to the caller. tmpfs and hugetlbfs have no such rule.
 */
static bool pin_is_written_back(struct page *page)
{
	struct address_space *mapping;
	bool written_back;

	if (PageAnon(page))
		return false;
	/* A truncation may be under way: the page stays, the file may not. */
	rcu_read_lock();
	mapping = folio_mapping(page_folio(page));
	written_back = mapping && mapping_can_writeback(mapping);
	rcu_read_unlock();
	return written_back;
}

/* Take over the pins of @nr pages, all or none. */
static int pin_add(struct runs *runs, struct page **pages, unsigned int nr)
{
	struct page *head = NULL;
	unsigned int i;
	int ret = 0;

	for (i = 0; i < nr; i++) {
		if (compound_head(pages[i]) == head)
			continue;
		head = compound_head(pages[i]);
		if (pin_is_written_back(head)) {
			unpin_user_pages(pages, nr);
			return -EFAULT;
		}
	}
	for (i = 0; i < nr; i++) {
		ret = runs_add(runs, pages[i], 1);
		if (ret) {
			/* Those before are in the runs, and go with them. */
			unpin_user_pages(pages + i, nr - i);
			break;
		}
	}
	return ret;
}

static int pin_runs(struct runs *runs, unsigned long addr, unsigned long pages)
{
	struct page **batch = kmalloc_array(PIN_BATCH, sizeof(*batch), GFP_KERNEL_ACCOUNT);
	int ret = 0;

	if (!batch)
		return -ENOMEM;
	while (pages) {
		int nr = min_t(unsigned long, pages, PIN_BATCH);

		if (fatal_signal_pending(current)) {
			ret = -EINTR;
			break;
		}
		nr = pin_user_pages_fast(addr, nr, FOLL_WRITE | FOLL_LONGTERM, batch);
		if (nr <= 0) {
			ret = nr ?: -EFAULT;
			break;
		}
		ret = pin_add(runs, batch, nr);
		if (ret)
			break;
		addr += (unsigned long)nr << PAGE_SHIFT;
		pages -= nr;
		cond_resched();
	}
	kfree(batch);
	return ret;
}

static int pin_check(const struct penstock_region_pin *cmd)
{
	u64 end;

	if (cmd->flags & ~PENSTOCK_PIN_F_READ)
		return -EOPNOTSUPP;
	if (!(cmd->flags & PENSTOCK_PIN_F_READ) || !cmd->length || !PAGE_ALIGNED(cmd->length) ||
	    !PAGE_ALIGNED(cmd->addr) || cmd->length > PENSTOCK_MAX_REGION_LEN)
		return -EINVAL;
	if (check_add_overflow(cmd->addr, cmd->length, &end) || end > ULONG_MAX)
		return -EOVERFLOW;
	if (!access_ok(u64_to_user_ptr(cmd->addr), cmd->length))
		return -EFAULT;
	return 0;
}

int penstock_ioctl_region_pin(struct penstock_open *open, void *arg)
{
	struct penstock_region_pin *cmd = arg;
	struct penstock_charge charge;
	struct penstock_mem *mem;
	unsigned long pages;
	struct runs runs;
	int ret;

	ret = pin_check(cmd);
	if (ret)
		return ret;
	pages = cmd->length >> PAGE_SHIFT;
	ret = penstock_charge_pages(&charge, pages);
	if (ret)
		return ret;
	runs_init(&runs);
	ret = pin_runs(&runs, cmd->addr, pages);
	if (ret)
		goto err_runs;
	mem = runs_to_mem(&runs, &pin_ops);
	if (!mem) {
		ret = -ENOMEM;
		goto err_runs;
	}
	penstock_object_add(PENSTOCK_OBJECT_PINNED_PAGES, pages);
	mem->charge = charge;
	mem->only_mm = charge.mm;
	return host_region(open, mem, &cmd->out_region_id, &cmd->out_nr_segments, NULL);

err_runs:
	runs_end(&runs, pin_give_back);
	penstock_uncharge(&charge);
	return ret;
}
