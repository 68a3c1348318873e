/* SPDX-License-Identifier: MIT */
/*
 * The whole-model decoder of `penstock run`: embedding, attention with a KV
 * cache, dense layers, router, experts, shared experts, final norm, head. A
 * client of the public API and of the kernels, as a serving stack is. Dense
 * weights are loaded once and stay; experts come from an expert source.
 */
#ifndef PENSTOCK_DECODER_H
#define PENSTOCK_DECODER_H

#include <stddef.h>
#include <stdint.h>
#include <penstock/penstock.h>
#include <kabi.h>

struct decoder;

/**
 * struct decoder_experts - where a layer's expert outputs come from
 * @begin: the choice of a layer is known; start reading. May be NULL
 * @forward: compute; the arguments are those of struct penstock_moe. Returns 0 or -errno with text in @err
 * @arg: handed to both
 *
 * `penstock run` has sources for the library, for plain pread and for mmap.
 */
struct decoder_experts {
	int (*begin)(void *arg, const struct penstock_moe *moe, struct penstock_error *err);
	int (*forward)(void *arg, const struct penstock_moe *moe, struct penstock_error *err);
	void *arg;
};

/**
 * struct decoder_router_hook - see, or replace, a layer's choices before they are used
 * @fn: ids and weights are nr_tokens x top_k, in router order, and may be overwritten;
 *	@pos is the position of the first token; returns 0 or -errno with text in @err
 */
struct decoder_router_hook {
	int (*fn)(void *arg, uint32_t layer, uint32_t seq, uint32_t pos, size_t nr_tokens, uint32_t top_k,
		  int32_t *ids, float *weights, struct penstock_error *err);
	void *arg;
};

/**
 * struct decoder_options
 * @max_positions: longest sequence, prompt and output together
 * @nr_seqs: independent sequences (the batch)
 * @moe_only: MLA families: no attention, the embedding passes through router, experts and
 *	shared experts only (residual and norms as the model has them)
 */
struct decoder_options {
	uint32_t max_positions;
	uint32_t nr_seqs;
	int moe_only;
};

/** struct decoder_times - nanoseconds since decoder_open() */
struct decoder_times {
	uint64_t attention_ns;	/* norms, projections, rope, attention, router */
	uint64_t dense_ns;	/* dense layers, shared experts, head, embedding */
	uint64_t experts_ns;	/* inside decoder_experts.forward */
};

/**
 * decoder_supports() - can this model be decoded whole?
 * Return: 0; -EOPNOTSUPP with the reason (an MLA family: moe_only works; an unknown one).
 */
int decoder_supports(struct penstock_model *model, struct penstock_error *err);

/**
 * decoder_open() - read the configuration, load the dense weights
 * @model, @q, @pool: borrowed until decoder_close()
 * Return: 0; -EOPNOTSUPP a dtype or variant that is not computed, with the tensor; -ENOENT a tensor or key is
 * missing, with its name; -ENOMEM; errors of penstock_tensor_read().
 */
int decoder_open(struct penstock_model *model, struct penstock_queue *q, struct penstock_pool *pool,
		 const struct decoder_options *opts, struct decoder **out, struct penstock_error *err);
void decoder_close(struct decoder *d);

/** decoder_vocab() - size of the vocabulary */
uint32_t decoder_vocab(const struct decoder *d);
uint64_t decoder_dense_bytes(const struct decoder *d);
/** decoder_kv_bytes() - of the KV cache when all sequences are full; touched as positions are reached */
uint64_t decoder_kv_bytes(const struct decoder *d);
void decoder_times(const struct decoder *d, struct decoder_times *t);

/* One row of a step: a token of a sequence at a position (the sequence's next). */
struct decoder_row {
	int32_t token;
	uint32_t seq;
	uint32_t pos;
};

/**
 * decoder_step() - run rows through the model
 * @rows: nr rows: a piece of one sequence's prompt in order, or one token of each of several sequences
 * @experts: source of expert outputs
 * @hook: may be NULL
 * @logits: vocab floats a row for which @want is non-zero, in order of rows; @want NULL = the last row only
 *
 * Return: 0; -EINVAL token or position out of range; errors of the source, with text.
 */
int decoder_step(struct decoder *d, const struct decoder_row *rows, size_t nr, const uint8_t *want,
		 const struct decoder_experts *experts, const struct decoder_router_hook *hook,
		 float *logits, struct penstock_error *err);

/** decoder_reset() - forget all sequences' positions */
void decoder_reset(struct decoder *d);

#endif
