// SPDX-License-Identifier: MIT
/* The entry points around the experts: weighted sum, norm, attention. */
#include "kimpl.h"

/* least floats a piece: less is not worth waking a thread for */
#define PIECE_FLOATS	(16u << 10)

struct combine {
	const struct penstock_k_ops *ops;
	const float *y, *weights;
	float *out;
	size_t ldy, ldout, k, hidden, chunks;
};

struct norm {
	const struct penstock_k_ops *ops;
	const float *x, *w;
	float *y;
	size_t ldx, ldy, n;
	float eps;
};

struct attn {
	const struct penstock_k_ops *ops;
	const struct penstock_k_attn *a;
};

#define COMBINE_COLS	1024

static void combine_piece(void *arg, size_t begin, size_t end)
{
	const struct combine *c = arg;
	size_t i, t, col, stop;

	for (i = begin; i < end; i++) {
		t = i / c->chunks;
		col = i % c->chunks * COMBINE_COLS;
		stop = c->hidden - col < COMBINE_COLS ? c->hidden : col + COMBINE_COLS;
		c->ops->combine(c->y + t * c->k * c->ldy, c->ldy, c->weights ? c->weights + t * c->k : NULL,
				c->k, col, stop, c->out + t * c->ldout);
	}
}

void penstock_k_combine(struct penstock_pool *pool, const float *y, size_t ldy, const float *weights,
			size_t nr_tokens, size_t k, size_t hidden, float *out, size_t ldout)
{
	struct combine c = {
		.ops = penstock_pool_ops(pool), .y = y, .weights = weights, .out = out,
		.ldy = ldy, .ldout = ldout, .k = k, .hidden = hidden,
		.chunks = (hidden + COMBINE_COLS - 1) / COMBINE_COLS,
	};

	penstock_pool_run(pool, nr_tokens * c.chunks, PIECE_FLOATS / (COMBINE_COLS * (k + 1)) + 1, combine_piece, &c);
}

static void norm_piece(void *arg, size_t begin, size_t end)
{
	const struct norm *n = arg;
	size_t t;

	for (t = begin; t < end; t++)
		n->ops->rmsnorm(n->x + t * n->ldx, n->w, n->eps, n->n, n->y + t * n->ldy);
}

void penstock_k_rmsnorm(struct penstock_pool *pool, const float *x, size_t ldx, const float *w, float eps,
			size_t nr_tokens, size_t n, float *y, size_t ldy)
{
	struct norm j = {
		.ops = penstock_pool_ops(pool), .x = x, .w = w, .y = y,
		.ldx = ldx, .ldy = ldy, .n = n, .eps = eps,
	};

	penstock_pool_run(pool, nr_tokens, PIECE_FLOATS / (n + 1) + 1, norm_piece, &j);
}

static void attn_piece(void *arg, size_t begin, size_t end)
{
	const struct attn *j = arg;

	j->ops->attn(j->a, begin, end);
}

void penstock_k_attn(struct penstock_pool *pool, const struct penstock_k_attn *a)
{
	struct attn j = { .ops = penstock_pool_ops(pool), .a = a };
	size_t len = a->end > a->first ? a->end - a->first : 0, group = a->nr_heads / a->nr_kv_heads;
	size_t grain = PIECE_FLOATS / (len * a->head_dim + 1) + 1;

	/* heads that share keys and values stay in one piece, where there are pieces enough: the cache is read once */
	if (a->nr_kv_heads >= penstock_pool_threads(pool))
		grain = (grain + group - 1) / group * group;
	penstock_pool_run(pool, a->nr_heads, grain, attn_piece, &j);
}
