// SPDX-License-Identifier: MIT
/*
 * Which dense tensors a layer has, and where they go. A tensor that the
 * configuration promises and the checkpoint lacks is named.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fail.h"
#include "state.h"

static int missing(const struct decoder *d, enum decoder_role role, uint32_t layer, struct penstock_error *err)
{
	char name[DECODER_NAME_MAX], other[DECODER_NAME_MAX];

	if (!decoder_name(&d->names, role, layer, 0, name, sizeof(name)))
		return decoder_fail(err, -ENOENT, "%s: no tensor of role %d", d->hp.info.path, (int)role);
	if (!decoder_name(&d->names, role, layer, 1, other, sizeof(other)))
		return decoder_fail(err, -ENOENT, "%s: no tensor %s", d->hp.info.path, name);
	return decoder_fail(err, -ENOENT, "%s: no tensor %s, nor %s", d->hp.info.path, name, other);
}

/* The scales of a matrix: its name with _scale_inv (a block each) or _scale (a channel each) behind it. */
static uint32_t scale_of(const struct decoder *d, uint32_t tensor)
{
	static const char *const suffixes[] = { "_scale_inv", "_scale" };
	struct penstock_tensor t;
	char name[DECODER_NAME_MAX];
	unsigned int i;
	int64_t nr;

	if (d->names.gguf || penstock_tensor_at(d->model, tensor, &t))
		return PENSTOCK_NO_TENSOR;
	for (i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), "%s%s", t.name, suffixes[i]);
		nr = penstock_tensor_find(d->model, name);
		if (nr >= 0)
			return (uint32_t)nr;
	}
	return PENSTOCK_NO_TENSOR;
}

static int matrix(struct decoder *d, enum decoder_role role, uint32_t layer, uint64_t rows, uint64_t cols,
		  struct penstock_k_mat *mat, struct penstock_error *err)
{
	uint32_t t = decoder_name_tensor(&d->names, d->model, role, layer);

	if (t == PENSTOCK_NO_TENSOR)
		return missing(d, role, layer, err);
	return decoder_weights_matrix(&d->weights, t, rows, cols, scale_of(d, t), d->hp.scale_block, mat, err);
}

static int vector(struct decoder *d, enum decoder_role role, uint32_t layer, uint64_t n, uint32_t presence,
		  const float **where, struct penstock_error *err)
{
	uint32_t t;

	if (presence == DECODER_NEVER)
		return 0;
	t = decoder_name_tensor(&d->names, d->model, role, layer);
	if (t == PENSTOCK_NO_TENSOR)
		return presence == DECODER_MUST ? missing(d, role, layer, err) : 0;
	return decoder_weights_floats(&d->weights, t, n, where, err);
}

static int bias(struct decoder *d, enum decoder_role role, uint32_t layer, uint32_t presence,
		struct penstock_k_mat *mat, struct penstock_error *err)
{
	uint32_t t;

	if (presence == DECODER_NEVER)
		return 0;
	t = decoder_name_tensor(&d->names, d->model, role, layer);
	if (t == PENSTOCK_NO_TENSOR)
		return presence == DECODER_MUST ? missing(d, role, layer, err) : 0;
	return decoder_weights_bias(&d->weights, t, mat, err);
}

/* Queries, keys and values as rows of one matrix. */
static int fused_projections(struct decoder *d, uint32_t i, uint32_t tensor, struct decoder_layer *l,
			     struct penstock_error *err)
{
	uint64_t q = decoder_q_dim(d), kv = decoder_kv_dim(d), all = q + 2 * kv, hidden = d->hp.info.hidden;
	uint32_t b = decoder_name_tensor(&d->names, d->model, DECODER_QKV_BIAS, i);
	int rc = decoder_weights_rows(&d->weights, tensor, all, 0, q, hidden, &l->q, err);

	if (!rc)
		rc = decoder_weights_rows(&d->weights, tensor, all, q, kv, hidden, &l->kproj, err);
	if (!rc)
		rc = decoder_weights_rows(&d->weights, tensor, all, q + kv, kv, hidden, &l->vproj, err);
	if (rc || b == PENSTOCK_NO_TENSOR)
		return rc;
	rc = decoder_weights_bias_rows(&d->weights, b, all, 0, &l->q, err);
	if (!rc)
		rc = decoder_weights_bias_rows(&d->weights, b, all, q, &l->kproj, err);
	if (!rc)
		rc = decoder_weights_bias_rows(&d->weights, b, all, q + kv, &l->vproj, err);
	return rc;
}

static int projections(struct decoder *d, uint32_t i, struct decoder_layer *l, struct penstock_error *err)
{
	uint32_t fused = decoder_name_tensor(&d->names, d->model, DECODER_QKV, i), hidden = d->hp.info.hidden;
	size_t q = decoder_q_dim(d), kv = decoder_kv_dim(d);
	uint32_t presence = d->hp.qkv_bias;
	int rc;

	if (fused != PENSTOCK_NO_TENSOR)
		return fused_projections(d, i, fused, l, err);
	rc = matrix(d, DECODER_Q, i, q, hidden, &l->q, err);
	if (!rc)
		rc = matrix(d, DECODER_K, i, kv, hidden, &l->kproj, err);
	if (!rc)
		rc = matrix(d, DECODER_V, i, kv, hidden, &l->vproj, err);
	if (!rc)
		rc = bias(d, DECODER_Q_BIAS, i, presence, &l->q, err);
	if (!rc)
		rc = bias(d, DECODER_K_BIAS, i, presence, &l->kproj, err);
	if (!rc)
		rc = bias(d, DECODER_V_BIAS, i, presence, &l->vproj, err);
	return rc;
}

static int attention(struct decoder *d, uint32_t i, struct decoder_layer *l, struct penstock_error *err)
{
	const struct decoder_hparams *hp = &d->hp;
	size_t q = decoder_q_dim(d), kv = decoder_kv_dim(d);
	bool head = hp->qk_norm == DECODER_QK_HEAD;
	int rc = vector(d, DECODER_ATTN_NORM, i, hp->info.hidden, DECODER_MUST, &l->attn_norm, err);

	if (!rc)
		rc = projections(d, i, l, err);
	if (!rc)
		rc = matrix(d, DECODER_O, i, hp->info.hidden, q, &l->o, err);
	if (!rc)
		rc = bias(d, DECODER_O_BIAS, i, hp->o_bias, &l->o, err);
	if (!rc)
		rc = vector(d, DECODER_Q_NORM, i, head ? hp->head_dim : q, hp->qk_norm_presence, &l->q_norm, err);
	if (!rc)
		rc = vector(d, DECODER_K_NORM, i, head ? hp->head_dim : kv, hp->qk_norm_presence, &l->k_norm, err);
	if (!rc && hp->sinks)
		rc = vector(d, DECODER_SINKS, i, hp->nr_heads, DECODER_MUST, &l->sinks, err);
	return rc;
}

static int dense(struct decoder *d, uint32_t i, struct decoder_layer *l, struct penstock_error *err)
{
	uint32_t hidden = d->hp.info.hidden;
	int rc = matrix(d, DECODER_GATE, i, 0, hidden, &l->mlp.gate, err);

	if (!rc)
		rc = matrix(d, DECODER_UP, i, l->mlp.gate.rows, hidden, &l->mlp.up, err);
	if (!rc)
		rc = matrix(d, DECODER_DOWN, i, hidden, l->mlp.gate.rows, &l->mlp.down, err);
	l->has_mlp = true;
	return rc;
}

static int shared(struct decoder *d, struct decoder_layer *l, struct penstock_error *err)
{
	struct penstock_k_mat *mats[3] = { &l->mlp.gate, &l->mlp.up, &l->mlp.down };
	uint32_t hidden = d->hp.info.hidden, p;
	uint64_t rows, cols;
	int rc = 0;

	if (l->info.t_shared[0] == PENSTOCK_NO_TENSOR)
		return 0;
	for (p = 0; p < 3 && !rc; p++) {
		rows = p == 0 ? 0 : p == 1 ? l->mlp.gate.rows : hidden;
		cols = p == 2 ? l->mlp.gate.rows : hidden;
		rc = decoder_weights_matrix(&d->weights, l->info.t_shared[p], rows, cols, l->info.t_shared_scale[p],
					    d->hp.scale_block, mats[p], err);
	}
	l->has_mlp = true;
	return rc;
}

static int moe(struct decoder *d, uint32_t i, struct decoder_layer *l, struct penstock_error *err)
{
	const struct penstock_layer_info *info = &l->info;
	int rc;

	if (info->hidden != d->hp.info.hidden || !info->nr_experts || !info->top_k)
		return decoder_fail(err, -EINVAL,
				    "layer %u: %u experts of width %u, %u a token, in a model of width %u", i,
				    info->nr_experts, info->hidden, info->top_k, d->hp.info.hidden);
	if (info->t_router == PENSTOCK_NO_TENSOR)
		return decoder_fail(err, -ENOENT, "layer %u: no router", i);
	rc = decoder_weights_matrix(&d->weights, info->t_router, info->nr_experts, info->hidden,
				    scale_of(d, info->t_router), d->hp.scale_block, &l->router, err);
	if (!rc && info->t_router_bias != PENSTOCK_NO_TENSOR)
		rc = decoder_weights_bias(&d->weights, info->t_router_bias, &l->router, err);
	if (!rc && info->t_select_bias != PENSTOCK_NO_TENSOR)
		rc = decoder_weights_floats(&d->weights, info->t_select_bias, info->nr_experts, &l->select_bias, err);
	if (!rc)
		rc = shared(d, l, err);
	return rc;
}

static int ask_layer(struct decoder *d, uint32_t i, struct penstock_error *err)
{
	struct decoder_layer *l = &d->layers[i];
	bool is_moe;
	int rc;

	l->info.size = sizeof(l->info);
	rc = penstock_layer_info(d->model, i, &l->info);
	if (rc)
		return decoder_fail(err, rc, "layer %u", i);
	is_moe = l->info.kind == PENSTOCK_LAYER_MOE;
	if (!is_moe && d->opts.moe_only)
		return 0;
	rc = vector(d, DECODER_FFN_NORM, i, d->hp.info.hidden, DECODER_MUST, &l->ffn_norm, err);
	if (!rc && !d->opts.moe_only)
		rc = attention(d, i, l, err);
	if (!rc)
		rc = is_moe ? moe(d, i, l, err) : dense(d, i, l, err);
	return rc;
}

static int ask_outer(struct decoder *d, struct penstock_error *err)
{
	uint32_t hidden = d->hp.info.hidden;
	int rc = matrix(d, DECODER_EMBED, 0, 0, hidden, &d->embed, err);

	if (!rc)
		rc = vector(d, DECODER_NORM, 0, hidden, DECODER_MUST, &d->norm, err);
	if (!rc)
		rc = matrix(d, d->hp.tied ? DECODER_EMBED : DECODER_HEAD, 0, d->embed.rows, hidden, &d->head, err);
	if (!rc && !d->opts.moe_only && d->names.gguf)
		rc = vector(d, DECODER_ROPE_FREQS, 0, d->rope.rot / 2, DECODER_MAY, &d->rope_freqs, err);
	return rc;
}

int decoder_load(struct decoder *d, struct penstock_error *err)
{
	uint32_t i;
	int rc = ask_outer(d, err);

	for (i = 0; i < d->hp.info.nr_layers && !rc; i++)
		rc = ask_layer(d, i, err);
	if (!rc)
		rc = decoder_weights_load(&d->weights, d->q, err);
	if (!rc && d->rope_freqs)
		for (i = 0; i < d->rope.rot / 2; i++)
			d->rope.inv_freq[i] /= d->rope_freqs[i];
	return rc;
}
