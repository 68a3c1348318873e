/* SPDX-License-Identifier: MIT */
/* Landing memory that is a region of the driver: what host memory and peer memory of that kind share. */
#ifndef PENSTOCK_MEM_DRIVER_H
#define PENSTOCK_MEM_DRIVER_H

#include "drv.h"
#include "mem.h"

/**
 * penstock_mem_region_len() - what a region of at least that many bytes takes
 * @len: bytes; rounded up to the driver's pages
 * @info: receives what the driver says of itself
 * Return: 0; -EINVAL no length.
 */
int penstock_mem_region_len(int drv, size_t *len, struct penstock_drv_info *info, struct penstock_error *err);
/**
 * penstock_mem_region_take() - turn a region into landing memory
 * @r: taken over, also on failure
 * @len: its length
 *
 * Memory that the CPU cannot map gets addresses that nobody can touch, so that slots have places all the same.
 * Return: 0; -ENOMEM, -EACCES and others of mmap(2).
 */
int penstock_mem_region_take(int drv, const struct penstock_drv_region *r, size_t len, struct penstock_mem *m,
			     struct penstock_error *err);
/** penstock_mem_region_free() - unmap it and give it back; waits for reads in flight */
void penstock_mem_region_free(struct penstock_mem *m);

#endif
