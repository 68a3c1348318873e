/* SPDX-License-Identifier: MIT */
/*
 * The operations of one vector width, gathered into a table. The including
 * source defines ISA (avx2, avx512) and is compiled with that ISA's flags.
 */
#include "small.h"
#include "trans.h"
#include "cpu.h"

/* columns gathered at a time */
#define GATHER	256

/* columns of any stride, gathered into a row of floats; a row at a time for all tokens */
static void gathered_rows(const struct penstock_k_mat *m, const struct penstock_k_in *in, size_t nr_tokens,
			  size_t begin, size_t end, float *y, size_t ldy)
{
	float w[GATHER], sum;
	double d[GATHER];
	size_t r, t, c, n, i;

	for (r = begin; r < end; r++) {
		for (t = 0; t < nr_tokens; t++)
			y[t * ldy + r] = 0;
		for (c = 0; c < m->cols; c += n) {
			n = m->cols - c < GATHER ? m->cols - c : GATHER;
			penstock_ref_dequant(m, r, c, n, d);
			for (i = 0; i < n; i++)
				w[i] = (float)d[i];
			for (t = 0; t < nr_tokens; t++) {
				sum = dot_f32_any(w, in->x + t * in->ldx + c, n);
				y[t * ldy + r] += sum;
			}
		}
		for (t = 0; t < nr_tokens; t++)
			y[t * ldy + r] = add_bias(m, r, y[t * ldy + r]);
	}
}

void ISA(rows)(const struct penstock_k_mat *m, const struct penstock_k_in *in, size_t nr_tokens,
	       size_t begin, size_t end, float *y, size_t ldy)
{
	if (is_transposed(m))
		transposed_rows(&m, &y, 1, in, nr_tokens, begin, end, ldy);
	else if (penstock_k_plain(m->dtype) && m->cols > 1 && m->col_stride != penstock_dtype_info(m->dtype)->bytes)
		gathered_rows(m, in, nr_tokens, begin, end, y, ldy);
	else
		contiguous_rows(m, in, nr_tokens, begin, end, y, ldy);
}

/* whether two transposed matrices can be walked in turns */
static bool walk_together(const struct penstock_k_mat *a, const struct penstock_k_mat *b)
{
	return is_transposed(a) && is_transposed(b) && a->scale_dtype == b->scale_dtype &&
	       a->scale_cols == b->scale_cols;
}

void ISA(act)(const struct penstock_k_expert *e, size_t n, float *h, const float *up)
{
	activate(e, n, h, up);
}

void ISA(gate_up)(const struct penstock_k_expert *e, const struct penstock_k_in *in, size_t nr_tokens,
		  size_t begin, size_t end, float *h, float *tmp, size_t ldh)
{
	const struct penstock_k_mat *mats[2] = { &e->gate, &e->up };
	float *ys[2] = { h, tmp };
	size_t t;

	if (walk_together(&e->gate, &e->up)) {
		transposed_rows(mats, ys, 2, in, nr_tokens, begin, end, ldh);
	} else {
		ISA(rows)(&e->gate, in, nr_tokens, begin, end, h, ldh);
		ISA(rows)(&e->up, in, nr_tokens, begin, end, tmp, ldh);
	}
	for (t = 0; t < nr_tokens; t++)
		activate(e, end - begin, h + t * ldh + begin, tmp + t * ldh + begin);
}

static enum penstock_k_form float_form(const struct penstock_k_mat *m)
{
	return PENSTOCK_K_FORM_F32;
}

const struct penstock_k_ops ISA(ops) = {
	.name = ISA_NAME,
	.form = float_form,
	.rows = ISA(rows),
	.gate_up = ISA(gate_up),
	.combine = combine,
	.rmsnorm = rmsnorm,
	.attn = attn,
};
