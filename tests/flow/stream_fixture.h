/* SPDX-License-Identifier: MIT */
/* A tiny model in a context, and fetches whose every byte is looked at. */
#ifndef PENSTOCK_TESTS_STREAM_FIXTURE_H
#define PENSTOCK_TESTS_STREAM_FIXTURE_H

#include <pthread.h>

#include <penstock/penstock.h>

#include "tiny_model.h"

#define FOR_EVER	UINT64_MAX

struct fixture {
	struct tiny_model tiny;
	struct penstock_ctx *ctx;
	struct penstock_model *model;
	struct penstock_queue *q;
};

static inline void setup(struct fixture *f, uint32_t flags, uint32_t slots, const char *policy)
{
	struct penstock_options o = PENSTOCK_OPTIONS_INIT;
	struct penstock_error err = { 0 };

	tiny_model_make(&f->tiny);
	/* an expert is one range in the file: its bytes, and at most a unit of alignment at both ends */
	o.cache_bytes = slots * (uint64_t)(TINY_EXPERT + 2 * 4096);
	o.flags = flags;
	o.policy = policy;
	if (penstock_open(&o, &f->ctx, &err) || penstock_model_open(f->ctx, f->tiny.dir, NULL, &f->model, &err))
		TEST_FAIL_(1, "%s", err.text);
	ASSERT_EQ(0, penstock_queue_create(f->ctx, &f->q));
}

static inline void teardown(struct fixture *f)
{
	penstock_queue_destroy(f->q);
	penstock_model_close(f->model);
	penstock_close(f->ctx);
	tiny_model_remove(&f->tiny);
}

static inline void check_slot(struct penstock_ticket *t, size_t index, uint32_t layer)
{
	struct penstock_slot s;

	ASSERT_EQ(0, penstock_ticket_slot(t, index, &s));
	ASSERT_EQ(3u, s.nr_parts);
	for (uint32_t p = 0; p < 3; p++) {
		for (uint32_t i = 0; i < TINY_ELEMS; i++) {
			uint16_t is;

			memcpy(&is, (const char *)s.ptr[p] + 2 * i, sizeof(is));
			if (is != tiny_value(layer, (uint32_t)s.id, p, i))
				TEST_FAIL_(1, "layer %u expert %d part %u element %u", layer, s.id, p, i);
		}
	}
}

static inline struct penstock_stats stats_of(struct fixture *f)
{
	struct penstock_stats s = { .size = sizeof(s) };

	ASSERT_EQ(0, penstock_stats(f->ctx, &s));
	return s;
}

static inline uint32_t lcg(uint32_t *state, uint32_t n)
{
	*state = *state * 1664525u + 1013904223u;
	return (*state >> 8) % n;
}

static inline void fetch_and_check(struct fixture *f, struct penstock_queue *q, uint32_t layer, const int32_t *ids,
				   size_t nr)
{
	struct penstock_ticket *t;

	if (penstock_fetch(q, f->model, layer, ids, nr, &t) || penstock_wait(t, FOR_EVER))
		TEST_FAIL_(1, "%s", penstock_errmsg(q));
	for (size_t i = 0; i < penstock_ticket_count(t); i++)
		check_slot(t, i, layer);
	penstock_release(t);
}

#endif
