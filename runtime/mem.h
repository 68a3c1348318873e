/* SPDX-License-Identifier: MIT */
/*
 * Landing memory, of three kinds: the host's own (2 MiB pages where they can be
 * had, prefaulted, on one NUMA node), the driver's host memory, a peer's BAR. All
 * of it is left out of fork.
 */
#ifndef PENSTOCK_MEM_H
#define PENSTOCK_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "flow.h"

struct penstock_mem_ops;

/**
 * struct penstock_mem - a mapping
 * @base: start; 2 MiB aligned, if the host's
 * @len: bytes mapped (>= what was asked for)
 * @page_size: 2097152 or 4096: what the memory really consists of
 * @why: "hugetlbfs", "transparent", or why neither; static storage
 * @ops: the kind of memory
 * @mapped: the CPU can touch it; else @base only stands for it
 * @drv: the driver's node, with @region
 * @region: the driver's id, or 0
 * @peer_off: where it lies in the peer's memory; UINT64_MAX: in none
 */
struct penstock_mem {
	void *base;
	size_t len;
	uint64_t page_size;
	const char *why;
	const struct penstock_mem_ops *ops;
	bool mapped;
	int drv;
	uint32_t region;
	uint64_t peer_off;
};

/**
 * struct penstock_mem_source - where landing memory is to come from
 * @ops: the kind
 * @numa_node: -1 = no preference
 * @no_huge: 4 KiB pages; the host's own memory only
 * @drv: the driver's node, borrowed; for the other kinds
 * @peer: the driver's id of the peer
 */
struct penstock_mem_source {
	const struct penstock_mem_ops *ops;
	int numa_node;
	int no_huge;
	int drv;
	uint32_t peer;
};

/** struct penstock_mem_ops - a kind of landing memory */
struct penstock_mem_ops {
	const char *name;
	int (*alloc)(const struct penstock_mem_source *s, size_t len, struct penstock_mem *m,
		     struct penstock_error *err);
	void (*free)(struct penstock_mem *m);
};

extern const struct penstock_mem_ops penstock_mem_host;
extern const struct penstock_mem_ops penstock_mem_driver;
extern const struct penstock_mem_ops penstock_mem_peer;

/**
 * penstock_mem_get() - landing memory of the source's kind
 * @len: bytes (> 0)
 * Return: 0; -ENOMEM, -ENOSPC there is not as much; -ENODEV the peer is gone; -EOPNOTSUPP with the reason.
 */
int penstock_mem_get(const struct penstock_mem_source *s, size_t len, struct penstock_mem *m,
		     struct penstock_error *err);

/**
 * penstock_mem_alloc() - map and prefault host memory
 * @len: bytes (> 0)
 * @numa_node: -1 = no preference
 * @no_huge: 4 KiB pages
 * Return: 0; -ENOMEM with what was asked and what limits it (memory, cgroup).
 */
int penstock_mem_alloc(size_t len, int numa_node, int no_huge, struct penstock_mem *m, struct penstock_error *err);
/** penstock_mem_free() - memory of any kind; @m may be NULL or empty, and is empty afterwards */
void penstock_mem_free(struct penstock_mem *m);
/** penstock_mem_node_of_file() - NUMA node of the drive under a file, or -1 where unknown */
int penstock_mem_node_of_file(int fd);

#endif
