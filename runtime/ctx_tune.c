// SPDX-License-Identifier: MIT
/* Queue depth and read size: chosen by a measurement on the first model's drive. */
#include <errno.h>

#include "stream.h"
#include "tune.h"
#include "util.h"

/* A smaller file is read in less time than the measurement takes, and tells little. */
#define TUNE_LEAST_BYTES	(64ull << 20)

static uint32_t largest_file(const struct penstock_store *s)
{
	uint32_t best = 0;

	for (uint32_t i = 1; i < s->nr_files; i++)
		if (s->files[i].size > s->files[best].size)
			best = i;
	return best;
}

/* On the ring's thread, with no read in flight: the records in use are those of the depth. */
static int set_depth(struct penstock_ctx *ctx, void *arg)
{
	const struct penstock_tune *t = arg;

	pthread_mutex_lock(&ctx->lock);
	if (!ctx->fixed_split)
		ctx->split = t->split;
	if (!ctx->fixed_depth) {
		ctx->depth = t->depth;
		ctx->free_reads = NULL;
		for (uint32_t i = 0; i < ctx->depth; i++) {
			ctx->reads[i].next = ctx->free_reads;
			ctx->free_reads = &ctx->reads[i];
		}
	}
	ctx->drive_bytes_per_s = t->bytes_per_s;
	ctx->drive_latency_ns = t->latency_ns;
	pthread_mutex_unlock(&ctx->lock);
	return 0;
}

static const struct penstock_ring_ops *engine(const struct penstock_ctx *ctx)
{
	return ctx->flags & PENSTOCK_F_NO_URING ? &penstock_ring_pread : NULL;
}

int penstock_measure(struct penstock_model *m, uint64_t window_ns, uint64_t *bytes_per_s, uint64_t *latency_ns,
		     struct penstock_error *err)
{
	struct penstock_ctx *ctx = m->ctx;
	struct penstock_tune t = { 0 };
	int rc;

	penstock_err_clear(err);
	rc = penstock_ctx_check(ctx, err);
	if (rc)
		return rc;
	pthread_mutex_lock(&ctx->lock);
	t.depth = (uint32_t)penstock_min_u64(ctx->depth, 64);
	t.split = (uint32_t)penstock_min_u64(ctx->split, 16u << 20);
	pthread_mutex_unlock(&ctx->lock);
	rc = penstock_tune_rate(&m->index->store, largest_file(&m->index->store), engine(ctx), ctx->source.numa_node,
				window_ns, &t, err);
	if (rc)
		return rc;
	*bytes_per_s = t.bytes_per_s;
	*latency_ns = t.latency_ns;
	return 0;
}

int penstock_model_tune(struct penstock_model *m, struct penstock_error *err)
{
	struct penstock_ctx *ctx = m->ctx;
	const struct penstock_store *s = &m->index->store;
	uint32_t file = largest_file(s);
	struct penstock_tune t;
	int rc;

	/* with another model open reads may be in flight, counted in the split that they began with */
	if (ctx->tuned || ctx->models != m || m->next || s->files[file].size < TUNE_LEAST_BYTES)
		return 0;
	rc = penstock_tune_drive(s, file, 0, s->files[file].size, engine(ctx), ctx->source.numa_node, 0, &t, err);
	if (rc)
		return rc;
	ctx->tuned = true;
	rc = penstock_progress_call(ctx, set_depth, &t);
	penstock_ctx_log(ctx, PENSTOCK_LOG_INFO,
			 "drive: %.2f GB/s at depth %u of %u KiB, %llu us for 4 KiB (measured in %llu ms)",
			 (double)t.bytes_per_s / 1e9, t.depth, t.split >> 10, (unsigned long long)(t.latency_ns / 1000),
			 (unsigned long long)(t.spent_ns / 1000000));
	return rc;
}
