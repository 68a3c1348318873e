// SPDX-License-Identifier: MIT
/* Guesses: experts brought in while the drive is idle, never before a demand. */
#include <errno.h>

#include "stream.h"

/* Guesses taken of one call: more would push out what is known to be used. */
#define GUESSES_MOST	8

static int guess_one(struct penstock_model *m, struct penstock_class *cls, uint32_t layer, uint32_t expert)
{
	uint32_t slot, class_layer = m->class_layer[layer];
	int rc;

	if (penstock_cache_find(cls->cache, class_layer, expert) != PENSTOCK_CACHE_NONE)
		return 0;
	/* tickets in line come first */
	if (cls->line || !penstock_cache_available(cls->cache))
		return -EBUSY;
	slot = penstock_cache_take(cls->cache, class_layer, expert, true);
	rc = penstock_load_start(cls, slot, layer, expert, true, NULL);
	if (rc)
		(void)penstock_cache_loaded(cls->cache, slot, false);
	return rc;
}

/* Index of the likeliest id not taken yet; the first without weights. Few ids: a scan each is cheapest. */
static size_t next_best(const float *weights, size_t nr, const uint8_t *taken)
{
	size_t best = nr;

	for (size_t i = 0; i < nr; i++)
		if (!taken[i] && (best == nr || (weights && weights[i] > weights[best])))
			best = i;
	return best;
}

int penstock_prefetch(struct penstock_queue *q, struct penstock_model *model, uint32_t layer, const int32_t *ids,
		      const float *weights, size_t nr)
{
	struct penstock_class *cls = penstock_model_class(model, layer);
	uint8_t taken[256] = { 0 };
	uint32_t nr_experts;
	int rc;

	rc = penstock_ctx_check(q->ctx, &q->err);
	if (rc)
		return rc;
	penstock_err_clear(&q->err);
	if (!cls)
		return penstock_err(&q->err, -EINVAL, "prefetch: layer %u of %s has no experts", layer,
				    model->index->path);
	nr_experts = model->index->layers[layer].info.nr_experts;
	for (size_t i = 0; i < nr; i++)
		if (ids[i] < 0 || (uint32_t)ids[i] >= nr_experts)
			return penstock_err(&q->err, -EINVAL,
					    "prefetch: layer %u has experts 0 to %u, entry %zu asks for %d",
					    layer, nr_experts - 1, i, ids[i]);
	if (nr > sizeof(taken))
		nr = sizeof(taken);
	pthread_mutex_lock(&q->ctx->lock);
	for (size_t n = 0; n < nr && n < GUESSES_MOST && !model->status; n++) {
		size_t best = next_best(weights, nr, taken);

		taken[best] = 1;
		if (guess_one(model, cls, layer, (uint32_t)ids[best]))
			break;
	}
	penstock_progress_kick(q->ctx);
	pthread_mutex_unlock(&q->ctx->lock);
	/* with caller progress guesses move within calls only: this one starts them */
	if (!q->ctx->has_thread)
		penstock_progress_once(q->ctx, 0);
	return 0;
}
