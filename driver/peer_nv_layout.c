// SPDX-License-Identifier: GPL-2.0-only
/*
 * Page tables of NVIDIA's module: read once, then looked at as a copy, for the
 * owner may free a table at any time. Most systems have no struct pages for
 * that memory, and a look into where they would be faults: get_dev_pagemap()
 * says whether there are, and over which range, before any is touched.
 */
#include <linux/memremap.h>
#include <linux/overflow.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include "peer_nv.h"

/* Longest run of a bio_vec, whose length has 32 bits. */
#define NV_RUN	SZ_2G

static u64 nv_page_size(u32 code)
{
	switch (code) {
	case NVIDIA_P2P_PAGE_SIZE_4KB:
		return SZ_4K;
	case NVIDIA_P2P_PAGE_SIZE_64KB:
		return SZ_64K;
	case NVIDIA_P2P_PAGE_SIZE_128KB:
		return SZ_128K;
	default:
		return 0;
	}
}

struct nv_layout *nv_layout_copy(const struct nvidia_p2p_page_table *table, u64 len)
{
	struct nv_layout *layout;
	u64 size;
	u32 i;

	if (!table || !NVIDIA_P2P_PAGE_TABLE_VERSION_COMPATIBLE(table))
		return ERR_PTR(-EOPNOTSUPP);
	size = nv_page_size(table->page_size);
	if (!size || !IS_ALIGNED(size, PAGE_SIZE) || !table->entries || table->entries != div64_u64(len, size) ||
	    !IS_ALIGNED(len, size))
		return ERR_PTR(-EOPNOTSUPP);
	layout = kvmalloc(struct_size(layout, addr, table->entries), GFP_KERNEL_ACCOUNT);
	if (!layout)
		return ERR_PTR(-ENOMEM);
	layout->size = size;
	layout->nr = table->entries;
	for (i = 0; i < layout->nr; i++)
		layout->addr[i] = table->pages[i]->physical_address;
	return layout;
}

/* On x86 the usual cause is that the BAR is mapped write-combined. */
u32 nv_layout_no_pages(void)
{
	return IS_ENABLED(CONFIG_X86) ? PENSTOCK_REASON_WRITE_COMBINED : PENSTOCK_REASON_NO_PAGES;
}

static bool nv_pgmap_covers(const struct dev_pagemap *pgmap, u64 addr, u64 size)
{
	u64 end;

	return pgmap->type == MEMORY_DEVICE_PCI_P2PDMA && pgmap->nr_range == 1 && IS_ALIGNED(addr, PAGE_SIZE) &&
	       addr >= pgmap->range.start && !check_add_overflow(addr, size - 1, &end) && end <= pgmap->range.end;
}

struct dev_pagemap *nv_layout_find_pgmap(const struct nv_layout *layout, u32 *reason)
{
	struct dev_pagemap *pgmap = get_dev_pagemap(PHYS_PFN(layout->addr[0]), NULL);
	u32 i;

	if (!pgmap) {
		*reason = nv_layout_no_pages();
		return NULL;
	}
	for (i = 0; i < layout->nr; i++) {
		if (nv_pgmap_covers(pgmap, layout->addr[i], layout->size))
			continue;
		put_dev_pagemap(pgmap);
		*reason = PENSTOCK_REASON_NO_PAGES;
		return NULL;
	}
	return pgmap;
}

/* Does piece @i go on where the one before ends, in a run that has @run bytes? */
static bool nv_joins(const struct nv_layout *layout, u32 i, u64 run)
{
	return i && layout->addr[i] == layout->addr[i - 1] + layout->size && run + layout->size <= NV_RUN;
}

u32 nv_layout_count_runs(const struct nv_layout *layout)
{
	u64 run = 0;
	u32 i, nr = 0;

	for (i = 0; i < layout->nr; i++) {
		if (nv_joins(layout, i, run)) {
			run += layout->size;
		} else {
			run = layout->size;
			nr++;
		}
	}
	return nr;
}

void nv_layout_fill(const struct nv_layout *layout, struct penstock_mem *mem)
{
	struct bio_vec *bv = NULL;
	u32 i, nr = 0;

	for (i = 0; i < layout->nr; i++) {
		if (bv && nv_joins(layout, i, bv->bv_len)) {
			bv->bv_len += layout->size;
		} else {
			bv = &mem->bvec[nr++];
			bvec_set_page(bv, pfn_to_page(PHYS_PFN(layout->addr[i])), layout->size, 0);
		}
	}
	penstock_mem_finish(mem);
}
