/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The part of the interface of NVIDIA's open kernel module that penstock_nv
 * uses: how another module gets at pages of device memory. Only fields up to
 * the last used one are declared: each struct is the owner's, and is reached by
 * pointer.
 */
#ifndef PENSTOCK_NVIDIA_P2P_H
#define PENSTOCK_NVIDIA_P2P_H

#include <linux/types.h>

/* A version is major << 16 | minor: the same major has the same layout, a higher minor has more behind it. */
#define NVIDIA_P2P_PAGE_TABLE_VERSION	0x00010002
#define NVIDIA_P2P_PAGE_TABLE_VERSION_COMPATIBLE(table) \
	nvidia_p2p_version_compatible((table)->version, NVIDIA_P2P_PAGE_TABLE_VERSION)

static inline bool nvidia_p2p_version_compatible(u32 have, u32 want)
{
	return have >> 16 == want >> 16 && (have & 0xffff) >= (want & 0xffff);
}

/* struct nvidia_p2p_page_table.page_size */
#define NVIDIA_P2P_PAGE_SIZE_4KB	0
#define NVIDIA_P2P_PAGE_SIZE_64KB	1
#define NVIDIA_P2P_PAGE_SIZE_128KB	2

/**
 * struct nvidia_p2p_page - a piece of device memory
 * @physical_address: where the CPU sees it, in a BAR
 */
struct nvidia_p2p_page {
	u64 physical_address;
};

/**
 * struct nvidia_p2p_page_table - the pieces of an address range
 * @version: of this struct
 * @page_size: of each piece, NVIDIA_P2P_PAGE_SIZE_*
 * @pages: pointers to @entries pieces
 * @entries: how many
 * @gpu_uuid: whose memory
 */
struct nvidia_p2p_page_table {
	u32 version;
	u32 page_size;
	struct nvidia_p2p_page **pages;
	u32 entries;
	u8 *gpu_uuid;
};

/*
 * Pages that the owner may take back at any time, also before this returns: it calls @free_callback, reuses the pages
 * and frees the table once that has returned.
 */
int nvidia_p2p_get_pages(u64 p2p_token, u32 va_space, u64 virtual_address, u64 length,
			 struct nvidia_p2p_page_table **page_table, void (*free_callback)(void *data), void *data);
/* 0 also when the owner has taken them back, or is about to. */
int nvidia_p2p_put_pages(u64 p2p_token, u32 va_space, u64 virtual_address, struct nvidia_p2p_page_table *page_table);

/* Pages that stay until they are put. */
int nvidia_p2p_get_pages_persistent(u64 virtual_address, u64 length, struct nvidia_p2p_page_table **page_table,
				    u32 flags);
int nvidia_p2p_put_pages_persistent(u64 virtual_address, struct nvidia_p2p_page_table *page_table, u32 flags);

#endif
