// SPDX-License-Identifier: MIT
/*
 * The expert: two parallel regions, gate and up with the activation, then down.
 *
 * Scratch, in this order, each part on a 64-byte line: the gathered input rows,
 * the activation's output, the up rows, the converted input of either region.
 */
#include <errno.h>
#include "kimpl.h"

struct layout {
	size_t x;	/* floats a row of the gathered input */
	size_t h;	/* floats a row between the regions */
	size_t q;	/* bytes a row of converted input */
	size_t bytes;
};

struct job {
	const struct penstock_k_ops *ops;
	const struct penstock_k_expert *e;
	const struct penstock_k_in *in;
	size_t nr_tokens;
	float *h;
	float *tmp;
	size_t ldh;
	float *y;
	size_t ldy;
};

static int lay_out(const struct penstock_k_expert *e, size_t nr_tokens, struct layout *l)
{
	size_t widest = e->gate.cols > e->down.cols ? e->gate.cols : e->down.cols, row;

	l->x = ((size_t)e->gate.cols + 15) / 16 * 16;
	l->h = ((size_t)e->gate.rows + 15) / 16 * 16;
	/* bfloat16 is the wider of the two forms */
	l->q = penstock_k_form_bytes(PENSTOCK_K_FORM_BF16, widest);
	row = (l->x + 2 * l->h) * sizeof(float) + l->q;
	return __builtin_mul_overflow(row, nr_tokens, &l->bytes) ? -EINVAL : 0;
}

size_t penstock_k_expert_scratch(const struct penstock_k_expert *e, size_t nr_tokens)
{
	struct layout l;

	return lay_out(e, nr_tokens, &l) ? SIZE_MAX : l.bytes;
}

static int check(const struct penstock_k_expert *e)
{
	int rc;

	rc = penstock_k_mat_check(&e->gate);
	if (!rc)
		rc = penstock_k_mat_check(&e->up);
	if (!rc)
		rc = penstock_k_mat_check(&e->down);
	if (rc)
		return rc;
	if (e->gate.rows != e->up.rows || e->gate.cols != e->up.cols || e->down.cols != e->gate.rows)
		return -EINVAL;
	return e->act <= PENSTOCK_ACT_SWIGLU_CLAMPED ? 0 : -EINVAL;
}

static void gather(const float *x, size_t ldx, const uint32_t *rows, const float *in_scale, size_t nr_tokens,
		   size_t n, float *out, size_t ldo)
{
	const float *src;
	size_t t, i;

	for (t = 0; t < nr_tokens; t++, out += ldo) {
		src = x + (rows ? rows[t] : t) * ldx;
		if (!in_scale) {
			memcpy(out, src, n * sizeof(float));
			continue;
		}
		for (i = 0; i < n; i++)
			out[i] = src[i] * in_scale[t];
	}
}

static void piece_gate_up(void *arg, size_t begin, size_t end)
{
	const struct job *j = arg;

	j->ops->gate_up(j->e, j->in, j->nr_tokens, begin, end, j->h, j->tmp, j->ldh);
}

static void piece_down(void *arg, size_t begin, size_t end)
{
	const struct job *j = arg;

	j->ops->rows(&j->e->down, j->in, j->nr_tokens, begin, end, j->y, j->ldy);
}

/* the form that @m wants; converts all tokens to @q for it */
static void prepare(const struct penstock_k_ops *ops, const struct penstock_k_mat *m, struct penstock_k_in *in,
		    size_t nr_tokens, uint8_t *q)
{
	size_t t;

	in->form = ops->form(m);
	if (in->form == PENSTOCK_K_FORM_F32)
		return;
	in->q = q;
	in->ldq = penstock_k_form_bytes(in->form, m->cols);
	for (t = 0; t < nr_tokens; t++)
		ops->convert(in->form, in->x + t * in->ldx, m->cols, q + t * in->ldq);
}

int penstock_k_expert_ffn(struct penstock_pool *pool, const struct penstock_k_expert *e,
			  const float *x, size_t ldx, const uint32_t *rows, const float *in_scale,
			  size_t nr_tokens, float *y, size_t ldy, void *scratch)
{
	struct job j = { .ops = penstock_pool_ops(pool), .e = e, .nr_tokens = nr_tokens, .y = y, .ldy = ldy };
	struct penstock_k_in in = { .x = x, .ldx = ldx };
	float *gathered = scratch;
	struct layout l;
	uint8_t *q;
	int rc;

	rc = check(e);
	if (!rc)
		rc = lay_out(e, nr_tokens, &l);
	if (rc || !nr_tokens)
		return rc;
	j.h = gathered + l.x * nr_tokens;
	j.tmp = j.h + l.h * nr_tokens;
	j.ldh = l.h;
	j.in = &in;
	q = (uint8_t *)(j.tmp + l.h * nr_tokens);
	/* also where vectors would straddle lines: each is loaded once a row */
	if (rows || in_scale || ((uintptr_t)x | ldx * sizeof(float)) % 64) {
		gather(x, ldx, rows, in_scale, nr_tokens, e->gate.cols, gathered, l.x);
		in.x = gathered;
		in.ldx = l.x;
	}
	prepare(j.ops, &e->gate, &in, nr_tokens, q);
	penstock_pool_run(pool, e->gate.rows, penstock_k_grain(&e->gate, 2 * nr_tokens), piece_gate_up, &j);
	in.x = j.h;
	in.ldx = l.h;
	prepare(j.ops, &e->down, &in, nr_tokens, q);
	penstock_pool_run(pool, e->down.rows, penstock_k_grain(&e->down, nr_tokens), piece_down, &j);
	return 0;
}
