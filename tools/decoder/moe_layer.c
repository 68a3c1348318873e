// SPDX-License-Identifier: MIT
/*
 * The second half of a layer: a dense network, or router, routed experts and
 * shared expert. The shared expert is computed after the source was told the
 * choice and before it is asked for the result, so that reads overlap it.
 */
#include <errno.h>
#include <math.h>

#include "fail.h"
#include "state.h"

static int mlp(struct decoder *d, uint32_t layer, size_t nr, struct penstock_error *err)
{
	const struct decoder_layer *l = &d->layers[layer];
	size_t hidden = d->hp.info.hidden;
	struct decoder_buffers *b = &d->buf;
	uint64_t start = decoder_now_ns();
	int rc;

	rc = penstock_k_expert_ffn(d->pool, &l->mlp, b->xn, hidden, NULL, NULL, nr, b->h, hidden, b->scratch);
	if (rc)
		return decoder_fail(err, rc, "layer %u: %s", layer,
				    l->info.kind == PENSTOCK_LAYER_MOE ? "shared expert" : "dense network");
	d->times.dense_ns += decoder_now_ns() - start;
	return 0;
}

static int refuse_nan(struct decoder *d, uint32_t layer, const struct decoder_row *rows, size_t nr,
		      struct penstock_error *err)
{
	size_t n = d->layers[layer].info.nr_experts, i, j;

	for (i = 0; i < nr; i++)
		for (j = 0; j < n; j++)
			if (isnan(d->buf.logits[i * n + j]))
				return decoder_fail(err, -EINVAL,
						    "layer %u: router gives NaN for expert %zu at position %u "
						    "of sequence %u", layer, j, rows[i].pos, rows[i].seq);
	return decoder_fail(err, -EINVAL, "layer %u: router gives NaN", layer);
}

/* The hook is called once for each run of rows of one sequence. */
static int call_hook(struct decoder *d, uint32_t layer, const struct decoder_row *rows, size_t nr,
		     const struct decoder_router_hook *hook, struct penstock_error *err)
{
	uint32_t k = d->layers[layer].info.top_k;
	size_t i, j;
	int rc = 0;

	for (i = 0; i < nr && !rc; i = j) {
		for (j = i + 1; j < nr && rows[j].seq == rows[i].seq; j++)
			;
		rc = hook->fn(hook->arg, layer, rows[i].seq, rows[i].pos, j - i, k, d->buf.ids + i * k,
			      d->buf.weights + i * k, err);
	}
	return rc;
}

static int route(struct decoder *d, uint32_t layer, const struct decoder_row *rows, size_t nr,
		 const struct decoder_router_hook *hook, struct penstock_error *err)
{
	const struct decoder_layer *l = &d->layers[layer];
	const struct penstock_layer_info *info = &l->info;
	struct penstock_k_router r = {
		.score = info->score, .flags = info->router_flags, .nr_experts = info->nr_experts,
		.top_k = info->top_k, .nr_groups = info->nr_groups, .top_groups = info->top_groups,
		.group_score = info->group_score, .scale = info->router_scale, .select_bias = l->select_bias,
	};
	struct decoder_buffers *b = &d->buf;
	int rc = penstock_k_matmul(d->pool, &l->router, b->xn, l->router.cols, nr, b->logits, l->router.rows);

	if (rc)
		return decoder_fail(err, rc, "layer %u: router logits", layer);
	rc = penstock_k_route(&r, b->logits, info->nr_experts, nr, b->ids, b->weights);
	if (rc < 0)
		return decoder_fail(err, rc, "layer %u: router of %u experts, %u a token, %u of %u groups", layer,
				    info->nr_experts, info->top_k, info->top_groups, info->nr_groups);
	if (rc)
		return refuse_nan(d, layer, rows, nr, err);
	return hook && hook->fn ? call_hook(d, layer, rows, nr, hook, err) : 0;
}

int decoder_moe(struct decoder *d, uint32_t layer, const struct decoder_row *rows, size_t nr,
		const struct decoder_experts *experts, const struct decoder_router_hook *hook,
		struct penstock_error *err)
{
	const struct decoder_layer *l = &d->layers[layer];
	size_t hidden = d->hp.info.hidden, i;
	struct decoder_buffers *b = &d->buf;
	struct penstock_moe moe = {
		.size = sizeof(moe), .layer = layer, .top_k = l->info.top_k, .nr_tokens = nr, .x = b->xn, .ldx = hidden,
		.ids = b->ids, .weights = b->weights, .out = b->moe, .ldout = hidden,
	};
	uint64_t start = decoder_now_ns();
	int rc = route(d, layer, rows, nr, hook, err);

	if (!rc && experts->begin)
		rc = experts->begin(experts->arg, &moe, err);
	d->times.attention_ns += decoder_now_ns() - start;
	if (!rc && l->has_mlp)
		rc = mlp(d, layer, nr, err);
	if (rc)
		return rc;
	start = decoder_now_ns();
	rc = experts->forward(experts->arg, &moe, err);
	d->times.experts_ns += decoder_now_ns() - start;
	for (i = 0; i < nr * hidden && l->has_mlp && !rc; i++)
		b->moe[i] += b->h[i];
	return rc;
}

int decoder_ffn(struct decoder *d, uint32_t layer, const struct decoder_row *rows, size_t nr,
		const struct decoder_experts *experts, const struct decoder_router_hook *hook,
		struct penstock_error *err)
{
	const struct decoder_layer *l = &d->layers[layer];
	bool is_moe = l->info.kind == PENSTOCK_LAYER_MOE;
	size_t hidden = d->hp.info.hidden, i;
	struct decoder_buffers *b = &d->buf;
	const float *add = is_moe ? b->moe : b->h;
	uint64_t start = decoder_now_ns();
	int rc;

	penstock_k_rmsnorm(d->pool, b->x, hidden, l->ffn_norm, d->hp.eps, nr, hidden, b->xn, hidden);
	d->times.attention_ns += decoder_now_ns() - start;
	rc = is_moe ? decoder_moe(d, layer, rows, nr, experts, hook, err) : mlp(d, layer, nr, err);
	if (rc)
		return rc;
	for (i = 0; i < nr * hidden; i++)
		b->x[i] += add[i];
	return 0;
}
