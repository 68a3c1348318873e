/* SPDX-License-Identifier: MIT */
/*
 * Multiplication with matrices whose columns are contiguous: every type's rows,
 * and what the template's instances share.
 */
#ifndef PENSTOCK_ROWS_H
#define PENSTOCK_ROWS_H

#include "units.h"

#define ROWS_MAX	4
/* tokens a pass: as many as leave registers for the weights */
#define TOKENS_MAX	(VW / 2)

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
	s->scale_shift = s->scale_units & (s->scale_units - 1) ? -1 : __builtin_ctz(s->scale_units);
}

/* the columns after the last whole unit, filled up with zeros */
static void tail_weights(const struct penstock_k_mat *m, size_t row, size_t tail, float *out)
{
	double w[32];
	size_t i;

	penstock_ref_dequant(m, row, m->cols - tail, tail, w);
	for (i = 0; i < 32; i++)
		out[i] = i < tail ? (float)w[i] : 0;
}

static void tail_inputs(const float *x, size_t tail, float *out)
{
	size_t i;

	for (i = 0; i < 32; i++)
		out[i] = i < tail ? x[i] : 0;
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
	return left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

#define TY f32
#define UB 1
#define BB 128
#define ROWS1 1
#include "rows_tmpl.h"
#define TY f16
#define UB 1
#define BB 64
#define ROWS1 2
#include "rows_tmpl.h"
#define TY bf16
#define UB 1
#define BB 64
#define ROWS1 2
#include "rows_tmpl.h"
#define TY e4m3
#define UB 1
#define BB 32
#define ROWS1 2
#include "rows_tmpl.h"
#define TY e4m3s
#define UB 1
#define BB 32
#define ROWS1 2
#include "rows_tmpl.h"
#define TY f4
#define UB 1
#define BB 16
#define ROWS1 4
#include "rows_tmpl.h"
#define TY int4
#define UB 1
#define BB 16
#define ROWS1 4
#include "rows_tmpl.h"
#define TY q4_0
#define UB 1
#define BB 18
#define ROWS1 4
#include "rows_tmpl.h"
#define TY q5_0
#define UB 1
#define BB 22
#define ROWS1 4
#include "rows_tmpl.h"
#define TY q8_0
#define UB 1
#define BB 34
#define ROWS1 2
#include "rows_tmpl.h"
#define TY mxfp4
#define UB 1
#define BB 17
#define ROWS1 4
#include "rows_tmpl.h"
#define TY q4_k
#define UB 8
#define BB 144
#define ROWS1 2
#include "rows_tmpl.h"
#define TY q5_k
#define UB 8
#define BB 176
#define ROWS1 2
#include "rows_tmpl.h"
#define TY q6_k
#define UB 8
#define BB 210
#define ROWS1 2
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
