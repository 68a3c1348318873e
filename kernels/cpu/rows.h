/* SPDX-License-Identifier: MIT */
/*
 * Multiplication with matrices whose columns are contiguous: every type's rows,
 * and what the template's instances share.
 */
#ifndef PENSTOCK_ROWS_H
#define PENSTOCK_ROWS_H

#include "units.h"

/* tokens a pass: as many as leave registers for the weights */
#define TOKENS_MAX	(VW / 4)
/* how far ahead of the sum memory is asked for: what a core has on its way at full speed */
#define AHEAD		8192

/* the last @nr columns, filled up with zeros to a unit */
struct tail {
	size_t nr;
	float w[32];
	float x[TOKENS_MAX][32];
};

static void src_init(struct src *s, const struct penstock_k_mat *m, size_t row)
{
	s->p = (const uint8_t *)m->data + row * m->row_stride;
	s->scale = NULL;
	s->scale_dtype = m->scale_dtype;
	if (m->scale_dtype == PENSTOCK_DTYPE_NONE)
		return;
	s->scale = (const uint8_t *)m->scale + row / m->scale_rows * m->scale_row_stride;
	s->scale_stride = m->scale_col_stride;
	s->scale_units = (m->scale_cols < m->cols ? m->scale_cols : (m->cols + 31) / 32 * 32) / 32;
}

static void tail_weights(struct tail *tail, const struct penstock_k_mat *m, size_t row)
{
	double w[32];
	size_t i;

	tail->nr = m->cols % 32;
	if (!tail->nr)
		return;
	penstock_ref_dequant(m, row, m->cols - tail->nr, tail->nr, w);
	for (i = 0; i < 32; i++)
		tail->w[i] = i < tail->nr ? (float)w[i] : 0;
}

static void tail_inputs(struct tail *tail, const float *x, size_t ldx, size_t nt)
{
	size_t t, i;

	for (t = 0; tail->nr && t < nt; t++)
		for (i = 0; i < 32; i++)
			tail->x[t][i] = i < tail->nr ? x[t * ldx + i] : 0;
}

INL float add_bias(const struct penstock_k_mat *m, size_t row, float sum)
{
	if (!m->bias)
		return sum;
	return sum + penstock_elem_f32(m->bias_dtype, (const uint8_t *)m->bias + row * m->bias_stride);
}

/* tokens of the next pass, of @left */
INL size_t tokens_of(size_t left)
{
	if (left >= TOKENS_MAX)
		return TOKENS_MAX;
	return left >= 2 ? 2 : 1;
}

#define TY f32
#define UB 1
#define BB 128
#include "rows_tmpl.h"
#define TY f16
#define UB 1
#define BB 64
#include "rows_tmpl.h"
#define TY bf16
#define UB 1
#define BB 64
#include "rows_tmpl.h"
#define TY e4m3
#define UB 1
#define BB 32
#include "rows_tmpl.h"
#define TY e4m3s
#define UB 1
#define BB 32
#include "rows_tmpl.h"
#define TY f4
#define UB 1
#define BB 16
#include "rows_tmpl.h"
#define TY int4
#define UB 1
#define BB 16
#include "rows_tmpl.h"
#define TY q4_0
#define UB 1
#define BB 18
#include "rows_tmpl.h"
#define TY q5_0
#define UB 1
#define BB 22
#include "rows_tmpl.h"
#define TY q8_0
#define UB 1
#define BB 34
#include "rows_tmpl.h"
#define TY mxfp4
#define UB 1
#define BB 17
#include "rows_tmpl.h"
#define TY q4_k
#define UB 8
#define BB 144
#include "rows_tmpl.h"
#define TY q5_k
#define UB 8
#define BB 176
#include "rows_tmpl.h"
#define TY q6_k
#define UB 8
#define BB 210
#include "rows_tmpl.h"

static void contiguous_rows(const struct penstock_k_mat *m, const struct penstock_k_in *in, size_t nr_tokens,
			    size_t begin, size_t end, float *y, size_t ldy)
{
	switch (m->dtype) {
	case PENSTOCK_DTYPE_F32:
		return rows_f32(m, in, nr_tokens, begin, end, y, ldy);
	case PENSTOCK_DTYPE_F16:
		return rows_f16(m, in, nr_tokens, begin, end, y, ldy);
	case PENSTOCK_DTYPE_BF16:
		return rows_bf16(m, in, nr_tokens, begin, end, y, ldy);
	case PENSTOCK_DTYPE_F8_E4M3:
		if (m->scale_dtype == PENSTOCK_DTYPE_NONE)
			return rows_e4m3(m, in, nr_tokens, begin, end, y, ldy);
		return rows_e4m3s(m, in, nr_tokens, begin, end, y, ldy);
	case PENSTOCK_DTYPE_F4:
		return rows_f4(m, in, nr_tokens, begin, end, y, ldy);
	case PENSTOCK_DTYPE_INT4:
		return rows_int4(m, in, nr_tokens, begin, end, y, ldy);
	case PENSTOCK_DTYPE_Q4_0:
		return rows_q4_0(m, in, nr_tokens, begin, end, y, ldy);
	case PENSTOCK_DTYPE_Q5_0:
		return rows_q5_0(m, in, nr_tokens, begin, end, y, ldy);
	case PENSTOCK_DTYPE_Q8_0:
		return rows_q8_0(m, in, nr_tokens, begin, end, y, ldy);
	case PENSTOCK_DTYPE_MXFP4:
		return rows_mxfp4(m, in, nr_tokens, begin, end, y, ldy);
	case PENSTOCK_DTYPE_Q4_K:
		return rows_q4_k(m, in, nr_tokens, begin, end, y, ldy);
	case PENSTOCK_DTYPE_Q5_K:
		return rows_q5_k(m, in, nr_tokens, begin, end, y, ldy);
	default:
		return rows_q6_k(m, in, nr_tokens, begin, end, y, ldy);
	}
}

#endif
