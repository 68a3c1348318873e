/* SPDX-License-Identifier: MIT */
/*
 * Landing memory in the host: 2 MiB pages where they can be had, prefaulted,
 * on one NUMA node, left out of fork.
 */
#ifndef PENSTOCK_MEM_H
#define PENSTOCK_MEM_H

#include <stddef.h>
#include <stdint.h>
#include "flow.h"

/**
 * struct penstock_mem - a mapping
 * @base: start, 2 MiB aligned
 * @len: bytes mapped (>= what was asked for)
 * @page_size: 2097152 or 4096: what the memory really consists of
 * @why: "hugetlbfs", "transparent", or why neither; static storage
 */
struct penstock_mem {
	void *base;
	size_t len;
	uint64_t page_size;
	const char *why;
};

/**
 * penstock_mem_alloc() - map and prefault
 * @len: bytes (> 0)
 * @numa_node: -1 = no preference
 * @no_huge: 4 KiB pages
 * Return: 0; -ENOMEM with what was asked and what limits it (memory, cgroup).
 */
int penstock_mem_alloc(size_t len, int numa_node, int no_huge, struct penstock_mem *m, struct penstock_error *err);
void penstock_mem_free(struct penstock_mem *m);
/** penstock_mem_node_of_file() - NUMA node of the drive under a file, or -1 where unknown */
int penstock_mem_node_of_file(int fd);

#endif
