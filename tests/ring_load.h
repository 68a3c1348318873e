/* SPDX-License-Identifier: MIT */
/* A load for rings: random reads of a patterned file, each byte of each verified. */
#ifndef PENSTOCK_TESTS_RING_LOAD_H
#define PENSTOCK_TESTS_RING_LOAD_H

#include "files.h"
#include "mem.h"
#include "ring.h"
#include "store.h"
#include "util.h"

#define LOAD_MAX_DEPTH	64u

/**
 * struct ring_load - what to read
 * @store, @file: a probed, patterned file
 * @depth: reads in flight
 * @nr: reads in all
 * @most: largest read
 * @buffer: register the memory
 * @any_status: reads may fail
 * @finished, @failed: counted
 */
struct ring_load {
	struct penstock_store *store;
	uint32_t file;
	uint32_t depth;
	uint32_t nr;
	uint32_t most;
	bool buffer;
	bool any_status;
	uint64_t seed;
	uint32_t finished;
	uint32_t failed;
	char *mem;
	struct penstock_read reads[LOAD_MAX_DEPTH];
	/* the wanted bytes of each */
	uint64_t off[LOAD_MAX_DEPTH];
	uint64_t len[LOAD_MAX_DEPTH];
};

static uint32_t load_random(struct ring_load *l)
{
	l->seed = l->seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(l->seed >> 33);
}

/* Some wanted bytes anywhere in the file, also at its very end, widened to the alignment. */
static void load_aim(struct ring_load *l, uint32_t i)
{
	const struct penstock_file *f = &l->store->files[l->file];
	uint64_t len = 1 + load_random(l) % (l->most - 2 * f->align), off, start, end;

	len = penstock_min_u64(len, f->size);
	off = load_random(l) % (f->size - len + 1);
	if (load_random(l) % 8 == 0)
		off = f->size - len;
	start = penstock_align_down(off, f->align);
	end = penstock_align_up(off + len, f->align);
	l->off[i] = off;
	l->len[i] = len;
	l->reads[i] = (struct penstock_read){
		.buf = l->buffer ? 0 : -1, .off = start, .len = (uint32_t)(end - start),
		.need = (uint32_t)(off + len - start), .dst = l->mem + (uint64_t)i * l->most,
		.cookie = &l->reads[i],
	};
	memset(l->reads[i].dst, 0xa5, end - start);
}

static void load_judge(struct ring_load *l, const struct penstock_read *r)
{
	uint32_t i = (uint32_t)(r - l->reads);
	uint64_t wrong;

	ASSERT_TRUE(r->cookie == r);
	l->finished++;
	if (r->status) {
		l->failed++;
		if (!l->any_status)
			TEST_FAIL_(0, "off %llu len %u: status %d", (unsigned long long)r->off, r->len, r->status);
		return;
	}
	wrong = files_wrong((char *)r->dst + (l->off[i] - r->off), l->off[i], l->len[i]);
	if (wrong != l->len[i])
		TEST_FAIL_(1, "wanted %llu + %llu: byte %llu is wrong (seed %llu)", (unsigned long long)l->off[i],
			   (unsigned long long)l->len[i], (unsigned long long)wrong, (unsigned long long)l->seed);
}

/* An engine may be full for a moment. */
static void load_submit(struct penstock_ring *ring, struct penstock_read *r)
{
	int tries = 1000;

	while (penstock_ring_submit(ring, r) && --tries)
		;
	ASSERT_GT(tries, 0);
}

/* Run the load through a ring, whose file 0 is the load's. */
static void load_run(struct ring_load *l, struct penstock_ring *ring)
{
	struct penstock_read *got, *next;
	uint32_t started = 0, i;
	struct penstock_mem mem;
	int nr;

	ASSERT_EQ(0, penstock_mem_alloc((size_t)l->depth * l->most, -1, 1, &mem, NULL));
	l->mem = mem.base;
	ASSERT_EQ(0, penstock_ring_set_files(ring, &l->store->files[l->file].dfd, 1));
	if (l->buffer)
		ASSERT_GE(penstock_ring_set_buffer(ring, 0, mem.base, mem.len), 0);
	for (i = 0; i < l->depth && started < l->nr; i++, started++) {
		load_aim(l, i);
		load_submit(ring, &l->reads[i]);
	}
	EXPECT_EQ(started, penstock_ring_in_flight(ring));
	while (l->finished < l->nr) {
		nr = penstock_ring_reap(ring, UINT64_MAX, &got);
		ASSERT_GE(nr, 0);
		for (; got; got = next, nr--) {
			next = got->next;
			load_judge(l, got);
			if (started == l->nr)
				continue;
			started++;
			load_aim(l, (uint32_t)(got - l->reads));
			load_submit(ring, got);
		}
		ASSERT_EQ(0, nr);
	}
	EXPECT_EQ(0, penstock_ring_in_flight(ring));
	penstock_ring_set_buffer(ring, 0, NULL, 0);
	penstock_mem_free(&mem);
}

#endif
