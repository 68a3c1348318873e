// SPDX-License-Identifier: MIT
/* Segments of slots: see slot.h. */
#include <errno.h>
#include <stdlib.h>

#include "err.h"
#include "slot.h"
#include "util.h"

/* A resize moves in steps of this share of the first budget. */
#define SEGMENTS_AT_FIRST	16
#define SEGMENT_MOST		(1ull << 30)
/* Small segments would each waste a part of a 2 MiB page. */
#define SEGMENT_LEAST		(32ull << 20)

int penstock_arena_create(struct penstock_arena *a, uint64_t slot_bytes, uint32_t slots, uint32_t most)
{
	uint64_t bytes = (uint64_t)slots * slot_bytes / SEGMENTS_AT_FIRST;

	bytes = penstock_min_u64(penstock_max_u64(bytes, SEGMENT_LEAST), SEGMENT_MOST);
	a->slot_bytes = slot_bytes;
	a->per_segment = (uint32_t)penstock_max_u64(bytes / slot_bytes, 1);
	/* as many again, and some: segments cut short leave numbers unused, dying ones linger while pinned */
	a->max_segments = 2 * (most / a->per_segment + 1) + SEGMENTS_AT_FIRST;
	a->nr_slots = 0;
	a->segments = calloc(a->max_segments, sizeof(*a->segments));
	return a->segments ? 0 : -ENOMEM;
}

void penstock_arena_destroy(struct penstock_arena *a)
{
	if (!a->segments)
		return;
	for (uint32_t i = 0; i < a->max_segments; i++)
		if (a->segments[i].mem.base)
			penstock_arena_shrink(a, i);
	free(a->segments);
	a->segments = NULL;
}

uint32_t penstock_arena_max_slots(const struct penstock_arena *a)
{
	return a->max_segments * a->per_segment;
}

int penstock_arena_grow(struct penstock_arena *a, uint32_t slots, const struct penstock_mem_source *source,
			uint32_t *segment, struct penstock_error *err)
{
	uint32_t nr = (uint32_t)penstock_min_u64(slots, a->per_segment);
	struct penstock_segment *s;
	uint32_t i = 0;
	int rc;

	while (i < a->max_segments && a->segments[i].mem.base)
		i++;
	if (i == a->max_segments)
		return penstock_err(err, -ENOSPC, "grow the cache: all %u segments are in use", a->max_segments);
	s = &a->segments[i];
	rc = penstock_mem_get(source, nr * a->slot_bytes, &s->mem, err);
	if (rc)
		return rc;
	s->nr_slots = nr;
	s->buf = -1;
	a->nr_slots += nr;
	*segment = i;
	return 0;
}

void penstock_arena_shrink(struct penstock_arena *a, uint32_t segment)
{
	struct penstock_segment *s = &a->segments[segment];

	a->nr_slots -= s->nr_slots;
	penstock_mem_free(&s->mem);
	s->nr_slots = 0;
	s->dying = false;
}
