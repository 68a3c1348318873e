/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Between the files of penstock_nv.ko: a copy of what is needed of a page table
 * of NVIDIA's module, and what is found out about the pages in it.
 */
#ifndef PENSTOCK_PEER_NV_H
#define PENSTOCK_PEER_NV_H

#include "penstock_drv.h"
#include "nvidia_p2p.h"

/**
 * struct nv_layout - where pieces of device memory are; kvfree() it
 * @size: of each piece, bytes
 * @nr: pieces
 * @addr: where each is
 */
struct nv_layout {
	u64 size;
	u32 nr;
	u64 addr[];
};

/*
 * Copy a table, which the caller makes sure stays; it has to have @len bytes. ERR_PTR(-ENOMEM), or -EOPNOTSUPP for a
 * table that is not understood.
 */
struct nv_layout *nv_layout_copy(const struct nvidia_p2p_page_table *table, u64 len);
/* The one pagemap, held, that has struct pages for all of it; NULL with the reason. No page is touched. */
struct dev_pagemap *nv_layout_find_pgmap(const struct nv_layout *layout, u32 *reason);
/* The reason where there is no pagemap at all. */
u32 nv_layout_no_pages(void);
/* Physically contiguous runs, in order. */
u32 nv_layout_count_runs(const struct nv_layout *layout);
/* Fill and finish a memory with that many. There must be pages. */
void nv_layout_fill(const struct nv_layout *layout, struct penstock_mem *mem);

#endif
