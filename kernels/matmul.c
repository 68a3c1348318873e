// SPDX-License-Identifier: MIT
/*
 * The entry point of the multiplication: checks, the activations' form, and the
 * cut of the output rows into pieces.
 */
#include <errno.h>
#include <stdlib.h>
#include "kimpl.h"

/* activations of this size are converted or aligned on the stack, larger ones in allocated memory or not at all */
#define STACK_BYTES	(64u << 10)
/* a piece is worth waking a thread for from about this many products on */
#define PIECE_WORK	(32u << 10)

struct job {
	const struct penstock_k_ops *ops;
	const struct penstock_k_mat *mat;
	const struct penstock_k_in *in;
	size_t nr_tokens;
	float *y;
	size_t ldy;
};

size_t penstock_k_form_bytes(enum penstock_k_form form, size_t n)
{
	switch (form) {
	case PENSTOCK_K_FORM_BF16:
		return (n * 2 + 63) / 64 * 64;
	case PENSTOCK_K_FORM_Q8:
		return (n / 32 * sizeof(struct penstock_k_q8) + 63) / 64 * 64;
	default:
		return 0;
	}
}

size_t penstock_k_grain(const struct penstock_k_mat *m, size_t nr_tokens)
{
	size_t work = (size_t)m->cols * nr_tokens, grain = PIECE_WORK / work + 1;

	/* whole vectors and lines for layouts whose rows lie side by side */
	return (grain + 15) / 16 * 16;
}

static void piece(void *arg, size_t begin, size_t end)
{
	const struct job *j = arg;

	j->ops->rows(j->mat, j->in, j->nr_tokens, begin, end, j->y, j->ldy);
}

static void run(struct penstock_pool *pool, struct job *j)
{
	penstock_pool_run(pool, j->mat->rows, penstock_k_grain(j->mat, j->nr_tokens), piece, j);
}

/* the same with converted activations, as many tokens at a time as fit @buf */
static void run_form(struct penstock_pool *pool, struct job *j, struct penstock_k_in *in, uint8_t *buf,
		     size_t tokens_a_pass)
{
	size_t t0, t, total = j->nr_tokens;
	const float *x = in->x;
	float *y = j->y;

	for (t0 = 0; t0 < total; t0 += j->nr_tokens) {
		j->nr_tokens = total - t0 < tokens_a_pass ? total - t0 : tokens_a_pass;
		in->x = x + t0 * in->ldx;
		in->q = buf;
		j->y = y + t0 * j->ldy;
		for (t = 0; t < j->nr_tokens; t++)
			j->ops->convert(in->form, in->x + t * in->ldx, j->mat->cols, buf + t * in->ldq);
		run(pool, j);
	}
}

/*
 * Copies few activations to where vectors do not straddle lines: each is loaded
 * once a row, and a straddling load costs two.
 */
static void align_inputs(struct penstock_k_in *in, size_t cols, size_t nr_tokens, float *buf)
{
	size_t row = (cols + 15) / 16 * 16, t;

	if (!(((uintptr_t)in->x | in->ldx * sizeof(float)) % 64) || nr_tokens > STACK_BYTES / sizeof(float) / row)
		return;
	for (t = 0; t < nr_tokens; t++)
		memcpy(buf + t * row, in->x + t * in->ldx, cols * sizeof(float));
	in->x = buf;
	in->ldx = row;
}

int penstock_k_matmul(struct penstock_pool *pool, const struct penstock_k_mat *mat,
		      const float *x, size_t ldx, size_t nr_tokens, float *y, size_t ldy)
{
	const struct penstock_k_ops *ops = penstock_pool_ops(pool);
	struct penstock_k_in in = { .x = x, .ldx = ldx };
	struct job j = { .ops = ops, .mat = mat, .in = &in, .nr_tokens = nr_tokens, .y = y, .ldy = ldy };
	uint8_t stack[STACK_BYTES] __attribute__((aligned(64)));
	uint8_t *heap;
	size_t bytes;
	int rc;

	rc = penstock_k_mat_check(mat);
	if (rc || !nr_tokens)
		return rc;
	in.form = ops->form(mat);
	in.ldq = penstock_k_form_bytes(in.form, mat->cols);
	if (in.form == PENSTOCK_K_FORM_F32) {
		align_inputs(&in, mat->cols, nr_tokens, (float *)stack);
		run(pool, &j);
		return 0;
	}
	if (__builtin_mul_overflow(in.ldq, nr_tokens, &bytes))
		return -EINVAL;
	if (bytes <= sizeof(stack)) {
		run_form(pool, &j, &in, stack, nr_tokens);
		return 0;
	}
	heap = aligned_alloc(64, bytes);
	if (heap)
		run_form(pool, &j, &in, heap, nr_tokens);
	else if (in.ldq <= sizeof(stack))
		/* the same bits, with more passes over the weights */
		run_form(pool, &j, &in, stack, sizeof(stack) / in.ldq);
	else
		return -ENOMEM;
	free(heap);
	return 0;
}
