/* SPDX-License-Identifier: MIT */
/*
 * The plan: an expert's extents become aligned, merged ranges with a place in its
 * slot, and ranges become reads of bounded size. Pure: no I/O, no allocation.
 */
#ifndef PENSTOCK_PLAN_H
#define PENSTOCK_PLAN_H

#include "flow.h"

/**
 * penstock_plan_expert() - lay an expert out in its slot
 * @ext: nr extents, any order, any files; lengths of 0 are allowed (their part gets offset 0)
 * @align: alignment of each file, indexed by file number (power of two, <= PENSTOCK_MEM_ALIGN)
 * @ranges: room for @nr ranges
 * @nr_ranges: receives the number of ranges
 * @part_off: receives nr offsets: extent i is at slot + part_off[i]
 * @slot_bytes: receives the slot memory used, a multiple of PENSTOCK_MEM_ALIGN
 *
 * Extents whose aligned supersets touch or overlap are one range. Reading costs
 * at most one alignment unit at either end of a range.
 * Return: 0; -EINVAL more than PENSTOCK_MAX_PARTS extents, or a bad alignment; -EOVERFLOW off + len wraps.
 */
int penstock_plan_expert(const struct penstock_extent *ext, uint32_t nr, const uint32_t *align,
			 struct penstock_range *ranges, uint32_t *nr_ranges, uint64_t *part_off,
			 uint64_t *slot_bytes);

/** penstock_plan_reads() - number of reads that a range of @len bytes is split into */
static inline uint64_t penstock_plan_nr_reads(uint64_t len, uint32_t split)
{
	return len ? (len - 1) / split + 1 : 0;
}

/**
 * penstock_plan_read() - the i-th read of a range
 * @split: largest read, a multiple of PENSTOCK_MEM_ALIGN
 * @slot: address of the slot
 * @out: file, off, len, need and dst are filled, the rest is zeroed (buf = -1)
 */
void penstock_plan_read(const struct penstock_range *r, uint64_t i, uint32_t split, void *slot,
			struct penstock_read *out);

#endif
