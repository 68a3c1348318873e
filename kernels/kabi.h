/* SPDX-License-Identifier: MIT */
/*
 * The kernel interface: plain C parameter structs, and the host kernels.
 *
 * All activations are float, row-major, one row a token; `ld*` is the distance
 * between rows in floats. Weights stay as the checkpoint stores them; a matrix
 * is described by strides, so plain, transposed and interleaved layouts are one
 * case. Results never depend on the number of threads: a row of the output is
 * always summed by one thread in one order.
 */
#ifndef PENSTOCK_KABI_H
#define PENSTOCK_KABI_H

#include <stddef.h>
#include <stdint.h>
#include <penstock/dtype.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* ---- the compute threads ---- */

struct penstock_pool;

enum penstock_isa {
	PENSTOCK_ISA_AUTO = 0,		/* the best that this CPU has */
	PENSTOCK_ISA_REF,		/* plain loops, double accumulation */
	PENSTOCK_ISA_AVX2,		/* AVX2 + FMA + F16C */
	PENSTOCK_ISA_AVX512,		/* F, BW, VL, DQ */
};

/*
 * Activations are rounded to the weights' precision, so that BF16 dot products
 * (AVX512_BF16) and int8 dot products (AVX512_VNNI, AVX_VNNI) can be used where
 * the CPU has them. Without it activations stay float.
 */
#define PENSTOCK_POOL_F_FAST	(1u << 0)

/**
 * penstock_pool_create() - start compute threads, one pool a process
 * @nr_threads: threads that compute, the caller's included; 0 = CPUs allowed to this process
 * @isa: enum penstock_isa
 * @flags: PENSTOCK_POOL_F_*
 * @out: receives the pool; destroy it with penstock_pool_destroy()
 *
 * Threads that wait for work spin for some tens of microseconds, then sleep.
 *
 * Context: any thread may call the kernels with a pool; calls are serialised. A
 * call from inside a piece of work runs in that thread alone. Threads are not
 * inherited over fork: in a child the pool computes in the calling thread.
 * Return: 0; -EINVAL unknown isa or flag; -EOPNOTSUPP the CPU lacks @isa;
 * -ENOMEM or -EAGAIN no memory or no thread.
 */
int penstock_pool_create(unsigned int nr_threads, int isa, unsigned int flags,
			 struct penstock_pool **out);
void penstock_pool_destroy(struct penstock_pool *pool);
/** penstock_pool_threads() - number of computing threads, the caller's included. */
unsigned int penstock_pool_threads(const struct penstock_pool *pool);
/** penstock_pool_isa_name() - "ref", "avx2", "avx512", with "+bf16", "+vnni" where they are used. */
const char *penstock_pool_isa_name(const struct penstock_pool *pool);

/**
 * penstock_pool_run() - run fn(arg, begin, end) over [0, n) in pieces
 * @n: number of items
 * @grain: least items a piece (> 0)
 * Returns when all pieces are done. Pieces are disjoint and cover [0, n).
 */
void penstock_pool_run(struct penstock_pool *pool, size_t n, size_t grain,
		       void (*fn)(void *arg, size_t begin, size_t end), void *arg);

/* ---- matrices ---- */

/**
 * struct penstock_k_mat - a weight matrix, rows = output features, cols = input features
 * @dtype: enum penstock_dtype of @data
 * @rows: output features
 * @cols: input features
 * @data: first element (not necessarily aligned)
 * @row_stride: bytes from a row to the next
 * @col_stride: bytes from a column to the next; 0 for packed types (F4, INT4, GGUF
 *	blocks), whose rows are contiguous
 * @scale_dtype: PENSTOCK_DTYPE_NONE without separate scales; F32, BF16, F16 or F8_E8M0
 * @scale_rows: rows covered by one scale (128 for FP8 blocks, 1 for a scale a channel)
 * @scale_cols: columns covered by one scale (128, 32 for MXFP4 and int4, @cols for a scale a channel)
 * @scale: first scale; weight = element * scale[row / scale_rows][col / scale_cols]
 * @scale_row_stride: bytes between scale rows
 * @scale_col_stride: bytes between scale columns
 * @bias: one value an output row, or NULL
 * @bias_dtype: F32, BF16 or F16
 * @bias_stride: bytes from a row's bias to the next
 *
 * Memory is borrowed for the call.
 */
struct penstock_k_mat {
	uint32_t dtype;
	uint32_t rows;
	uint32_t cols;
	uint32_t scale_dtype;
	uint32_t scale_rows;
	uint32_t scale_cols;
	uint32_t bias_dtype;
	const void *data;
	uint64_t row_stride;
	uint64_t col_stride;
	const void *scale;
	uint64_t scale_row_stride;
	uint64_t scale_col_stride;
	const void *bias;
	uint64_t bias_stride;
};

/**
 * penstock_k_mat_check() - can the kernels multiply with this matrix?
 * Return: 0; -EOPNOTSUPP a dtype that does not compute; -EINVAL strides, block
 * shapes or pointers that do not fit together (cols no multiple of the block, ...).
 */
int penstock_k_mat_check(const struct penstock_k_mat *mat);

/**
 * penstock_k_matmul() - y[t][r] = bias[r] + sum over c of W[r][c] * x[t][c]
 * @x: nr_tokens rows of mat->cols floats
 * @y: nr_tokens rows of mat->rows floats, not overlapping @x
 * Return: 0, or as penstock_k_mat_check().
 */
int penstock_k_matmul(struct penstock_pool *pool, const struct penstock_k_mat *mat,
		      const float *x, size_t ldx, size_t nr_tokens, float *y, size_t ldy);

/**
 * penstock_k_dequant_row() - row @row as cols floats (embedding lookup, tests)
 * Return: 0, or as penstock_k_mat_check(); -EINVAL @row out of range.
 */
int penstock_k_dequant_row(const struct penstock_k_mat *mat, size_t row, float *out);

/* ---- the expert ---- */

enum penstock_act {
	PENSTOCK_ACT_SWIGLU = 0,	/* silu(gate) * up */
	/* gpt-oss: gate <= limit, |up| <= limit, (up + 1) * gate * sigmoid(alpha * gate) */
	PENSTOCK_ACT_SWIGLU_CLAMPED,
};

/** struct penstock_k_expert - gate and up [I x H], down [H x I], and the activation between */
struct penstock_k_expert {
	struct penstock_k_mat gate;
	struct penstock_k_mat up;
	struct penstock_k_mat down;
	uint32_t act;		/* enum penstock_act */
	float limit;		/* clamp of SWIGLU_CLAMPED (7.0) */
	float alpha;		/* sigmoid slope of SWIGLU_CLAMPED (1.702) */
};

/** penstock_k_expert_scratch() - bytes of scratch that penstock_k_expert_ffn() needs for @nr_tokens */
size_t penstock_k_expert_scratch(const struct penstock_k_expert *e, size_t nr_tokens);

/**
 * penstock_k_expert_ffn() - y[t] = down(act(gate(x[t]), up(x[t])))
 * @rows: row of @x for each token, or NULL for 0..nr_tokens-1 (gather)
 * @in_scale: factor on the input of each token (Llama 4 multiplies the router's
 *	score into the expert's input), or NULL
 * @y: nr_tokens rows of hidden floats
 * @scratch: penstock_k_expert_scratch() bytes, 64-byte aligned
 * The router's weight is not applied here: results are combined in router order.
 * Return: 0, or as penstock_k_mat_check(); -EINVAL shapes that do not chain.
 */
int penstock_k_expert_ffn(struct penstock_pool *pool, const struct penstock_k_expert *e,
			  const float *x, size_t ldx, const uint32_t *rows, const float *in_scale,
			  size_t nr_tokens, float *y, size_t ldy, void *scratch);

/**
 * penstock_k_combine() - out[t] = sum over j, in order, of weights[t][j] * y[t * k + j]
 * @weights: nr_tokens x k, or NULL for 1
 * @out: nr_tokens rows of @hidden floats, overwritten
 */
void penstock_k_combine(struct penstock_pool *pool, const float *y, size_t ldy, const float *weights,
			size_t nr_tokens, size_t k, size_t hidden, float *out, size_t ldout);

/* ---- the router ---- */

enum penstock_score {
	PENSTOCK_SCORE_SOFTMAX = 0,	/* softmax over all experts, then top-k */
	PENSTOCK_SCORE_TOPK_SOFTMAX,	/* top-k of the logits, softmax over the k (gpt-oss) */
	PENSTOCK_SCORE_SIGMOID,		/* sigmoid, then top-k */
};

enum penstock_group_score {
	PENSTOCK_GROUP_TOP2_SUM = 0,	/* DeepSeek-V3 */
	PENSTOCK_GROUP_MAX,		/* DeepSeek-V2 */
};

#define PENSTOCK_ROUTER_F_RENORM	(1u << 0)	/* weights divided by their sum */
#define PENSTOCK_ROUTER_F_INPUT_SCALE	(1u << 1)	/* Llama 4: the score multiplies the expert's input */
/* masked groups are -inf (llama.cpp; DeepSeek-V3 in transformers 5), not 0 (transformers 4; DeepSeek-V2) */
#define PENSTOCK_ROUTER_F_GROUP_MASK_INF (1u << 2)

/**
 * struct penstock_k_router - how logits become expert ids and weights
 * @score: enum penstock_score
 * @flags: PENSTOCK_ROUTER_F_*
 * @nr_experts: experts of the layer
 * @top_k: experts a token
 * @nr_groups: groups that the experts are divided into; 0 or 1 = none
 * @top_groups: groups kept
 * @group_score: enum penstock_group_score
 * @scale: factor on the final weights (routed_scaling_factor), 1 without
 * @select_bias: nr_experts floats added to the scores for the selection only, or NULL
 */
struct penstock_k_router {
	uint32_t score;
	uint32_t flags;
	uint32_t nr_experts;
	uint32_t top_k;
	uint32_t nr_groups;
	uint32_t top_groups;
	uint32_t group_score;
	float scale;
	const float *select_bias;
};

/**
 * penstock_k_route() - choose experts
 * @logits: nr_tokens rows of nr_experts floats
 * @ids: nr_tokens x top_k, best first; ties go to the lower id. -1 in all k for
 *	a token whose logits hold a NaN
 * @weights: nr_tokens x top_k
 * A token whose scores become NaN (a logit of +infinity, a NaN in @select_bias)
 * counts as one with NaN logits.
 * Return: number of tokens with NaN logits (0 = good); -EINVAL impossible
 * parameters, or more than 1024 experts.
 */
int penstock_k_route(const struct penstock_k_router *r, const float *logits, size_t ld,
		     size_t nr_tokens, int32_t *ids, float *weights);

/* ---- around the experts: what a decoder needs ---- */

/** penstock_k_rmsnorm() - y = x / sqrt(mean(x^2) + eps) * w; @w NULL = 1. May run in place. */
void penstock_k_rmsnorm(struct penstock_pool *pool, const float *x, size_t ldx, const float *w, float eps,
			size_t nr_tokens, size_t n, float *y, size_t ldy);

/**
 * penstock_k_rope() - rotate the first @rot elements of each head in place
 * @x: nr_heads x head_dim floats of one token
 * @cosv: rot / 2 cosines of this position (attention scaling already in), @sinv likewise
 * @interleaved: 0 pairs (i, i + rot/2), 1 pairs (2i, 2i + 1)
 */
void penstock_k_rope(float *x, size_t nr_heads, size_t head_dim, size_t rot, const float *cosv,
		     const float *sinv, int interleaved);

/**
 * struct penstock_k_attn - one token's attention over its cache, grouped queries
 * @q: nr_heads x head_dim
 * @k: cache: position p, kv head h at k + p * kv_stride + h * head_dim; @v likewise
 * @first: first position seen (sliding window, chunk), @end: one past the last
 * @sinks: one logit a query head that joins the softmax's sum only (gpt-oss), or NULL
 * @out: nr_heads x head_dim
 */
struct penstock_k_attn {
	const float *q;
	const float *k;
	const float *v;
	const float *sinks;
	float *out;
	size_t kv_stride;
	size_t first;
	size_t end;
	uint32_t nr_heads;
	uint32_t nr_kv_heads;
	uint32_t head_dim;
	float scale;
};

void penstock_k_attn(struct penstock_pool *pool, const struct penstock_k_attn *a);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
