/* SPDX-License-Identifier: MIT */
/*
 * The decoder's own state, shared by its files: parameters, dense weights, the
 * KV cache, and the buffers of a step.
 */
#ifndef PENSTOCK_DECODER_STATE_H
#define PENSTOCK_DECODER_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include "decoder.h"
#include "hparams.h"
#include "names.h"
#include "rope.h"
#include "weights.h"

/**
 * struct decoder_layer - weights of a layer
 * @info: experts, router, shared expert
 * @attn_norm ... @sinks: attention; NULL or empty where the model has none
 * @q_norm, @k_norm: of a head or of the projection
 * @mlp: of a dense layer, or the shared expert (@has_mlp)
 * @router: logits; with the bias where there is one
 * @select_bias: for the choice only, or NULL
 * @k, @v: KV cache: nr_seqs x max_positions rows of kv_dim floats
 */
struct decoder_layer {
	struct penstock_layer_info info;
	const float *attn_norm;
	const float *ffn_norm;
	struct penstock_k_mat q;
	struct penstock_k_mat kproj;
	struct penstock_k_mat vproj;
	struct penstock_k_mat o;
	const float *q_norm;
	const float *k_norm;
	const float *sinks;
	bool has_mlp;
	struct penstock_k_expert mlp;
	struct penstock_k_mat router;
	const float *select_bias;
	float *k;
	float *v;
};

/**
 * struct decoder_buffers - one row a token, grown as steps need it
 * @x: the residual stream; @xn: normalised; @h: what a block adds
 * @q, @k, @v, @att: attention
 * @cosv, @sinv: rot / 2 a row
 * @moe: the routed experts' output
 * @logits: of the router
 */
struct decoder_buffers {
	size_t rows;
	float *x;
	float *xn;
	float *h;
	float *q;
	float *k;
	float *v;
	float *att;
	float *cosv;
	float *sinv;
	float *moe;
	float *logits;
	float *weights;
	int32_t *ids;
	void *scratch;
	void *mem;
};

struct decoder {
	struct penstock_model *model;
	struct penstock_queue *q;
	struct penstock_pool *pool;
	struct decoder_options opts;
	struct decoder_hparams hp;
	struct decoder_names names;
	struct decoder_weights weights;
	struct decoder_rope rope;
	struct penstock_k_mat embed;
	struct penstock_k_mat head;
	const float *norm;
	const float *rope_freqs;
	struct decoder_layer *layers;
	uint32_t *seq_pos;	/* next position of each sequence */
	void *kv;
	size_t kv_len;
	struct decoder_buffers buf;
	struct decoder_times times;
};

static inline uint64_t decoder_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/** decoder_q_dim() - width of the queries of a token; decoder_kv_dim() of its keys */
static inline size_t decoder_q_dim(const struct decoder *d)
{
	return (size_t)d->hp.nr_heads * d->hp.head_dim;
}

static inline size_t decoder_kv_dim(const struct decoder *d)
{
	return (size_t)d->hp.nr_kv_heads * d->hp.head_dim;
}

/** decoder_load() - find and read all dense weights (load.c) */
int decoder_load(struct decoder *d, struct penstock_error *err);
/** decoder_attention() - x += attention(norm(x)) of a layer; rows are in buf.x (attention.c) */
int decoder_attention(struct decoder *d, uint32_t layer, const struct decoder_row *rows, size_t nr,
		      struct penstock_error *err);
/** decoder_grow() - make room for steps of @rows rows (decoder.c). Return: 0; -ENOMEM. */
int decoder_grow(struct decoder *d, size_t rows, struct penstock_error *err);
/** decoder_moe() - buf.moe = routed and shared experts of buf.xn (moe_layer.c) */
int decoder_moe(struct decoder *d, uint32_t layer, const struct decoder_row *rows, size_t nr,
		const struct decoder_experts *experts, const struct decoder_router_hook *hook,
		struct penstock_error *err);
/** decoder_ffn() - x += experts or dense layer of norm(x) (moe_layer.c) */
int decoder_ffn(struct decoder *d, uint32_t layer, const struct decoder_row *rows, size_t nr,
		const struct decoder_experts *experts, const struct decoder_router_hook *hook,
		struct penstock_error *err);

#endif
