/* SPDX-License-Identifier: MIT */
/*
 * The arena of one size class: memory of slots, in segments of equal slot counts.
 * A segment is one mapping of at most 1 GiB (so that one registered buffer covers
 * it) and the unit in which memory is taken and given back. Slot s lives in
 * segment s / per_segment; the last segment may hold fewer slots, whose numbers
 * then stay unused.
 */
#ifndef PENSTOCK_SLOT_H
#define PENSTOCK_SLOT_H

#include "flow.h"
#include "mem.h"

/**
 * struct penstock_segment - one mapping
 * @mem: base NULL = not there
 * @nr_slots: slots in it
 * @buf: number of the registered buffer, or -1
 * @dying: to be unmapped when the last of its slots is dead
 */
struct penstock_segment {
	struct penstock_mem mem;
	uint32_t nr_slots;
	bool dying;
	int32_t buf;
};

struct penstock_arena {
	uint64_t slot_bytes;
	uint32_t per_segment;
	uint32_t max_segments;
	uint32_t nr_slots;		/* in all segments that are there */
	struct penstock_segment *segments;
};

/**
 * penstock_arena_create() - no segment yet
 * @slot_bytes: a multiple of PENSTOCK_MEM_ALIGN
 * @slots: slots wanted at first; decides the segment size
 * @most: slots ever wanted
 * Return: 0; -ENOMEM.
 */
int penstock_arena_create(struct penstock_arena *a, uint64_t slot_bytes, uint32_t slots, uint32_t most);
void penstock_arena_destroy(struct penstock_arena *a);
/** penstock_arena_max_slots() - slot numbers are below this */
uint32_t penstock_arena_max_slots(const struct penstock_arena *a);
/**
 * penstock_arena_grow() - map one more segment of up to @slots slots
 * @source: of its memory
 * @segment: receives its number
 * Return: 0; -ENOSPC all segments are there; -ENOMEM and others of the source, with text.
 */
int penstock_arena_grow(struct penstock_arena *a, uint32_t slots, const struct penstock_mem_source *source,
			uint32_t *segment, struct penstock_error *err);
/** penstock_arena_shrink() - unmap a segment; its buffer must be unregistered */
void penstock_arena_shrink(struct penstock_arena *a, uint32_t segment);
/** penstock_arena_slot() - address of a slot */
static inline void *penstock_arena_slot(const struct penstock_arena *a, uint32_t slot)
{
	return (char *)a->segments[slot / a->per_segment].mem.base +
	       (uint64_t)(slot % a->per_segment) * a->slot_bytes;
}

/** penstock_arena_mem() - the memory that a slot lies in */
static inline const struct penstock_mem *penstock_arena_mem(const struct penstock_arena *a, uint32_t slot)
{
	return &a->segments[slot / a->per_segment].mem;
}

/** penstock_arena_buf() - registered buffer of a slot, or -1 */
static inline int32_t penstock_arena_buf(const struct penstock_arena *a, uint32_t slot)
{
	return a->segments[slot / a->per_segment].buf;
}

#endif
