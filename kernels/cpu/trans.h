/* SPDX-License-Identifier: MIT */
/*
 * Multiplication with transposed matrices, [input][output]: the outputs of an
 * input lie side by side (step 1) or alternate with another matrix' (step 2).
 * Memory is walked once, in order, along the outputs; eight inputs at a time are
 * summed in registers and added to the outputs' sums, which stay in the first
 * cache. An output's order of summation depends on the input's number only.
 */
#ifndef PENSTOCK_TRANS_H
#define PENSTOCK_TRANS_H

#include "rows.h"

/* inputs summed in registers, inputs walked before the next tokens, outputs at a time, tokens a pass */
#define TR_INPUTS	8
#define TR_BLOCK	64
#define TR_OUTPUTS	1024
#define TR_TOKENS	4

/* inputs [c, c + nr_in) of outputs [row, row + nr_out), added to y[t * ldy + row...] */
struct tr_block {
	const struct penstock_k_mat *m;
	const struct penstock_k_in *in;
	size_t nr_tokens;
	size_t row;
	size_t nr_out;
	size_t c;
	size_t nr_in;
	float *y;
	size_t ldy;
	/* scales of the outputs for these inputs, if there are any */
	float scale[TR_OUTPUTS + VW];
};

INL vf tr_load(uint32_t dtype, int step, const uint8_t *p)
{
	switch (dtype) {
	case PENSTOCK_DTYPE_F32:
		return step == 1 ? v_f32(p) : v_even_f32(p);
	case PENSTOCK_DTYPE_F16:
		return step == 1 ? v_f16(p) : v_even_f16(p);
	case PENSTOCK_DTYPE_BF16:
		return step == 1 ? v_bf16(p) : v_even_bf16(p);
	default:
		return step == 1 ? v_e4m3(p) : v_even_e4m3(p);
	}
}

/* @n elements of one input, one by one: nothing is read behind the last */
INL vf tr_part(const struct penstock_k_mat *m, const uint8_t *p, size_t n)
{
	float buf[VW];
	size_t i;

	for (i = 0; i < VW; i++)
		buf[i] = i < n ? penstock_elem_f32(m->dtype, p + i * m->row_stride) : 0;
	return v_load(buf);
}

INL void tr_add(float *y, vf sum, vf scale, bool scaled, size_t left)
{
	vf old = left >= VW ? v_load(y) : v_load_part(y, left, 0);

	sum = scaled ? v_fma(sum, scale, old) : v_add(sum, old);
	if (left >= VW)
		v_store(y, sum);
	else
		v_store_part(y, sum, left);
}

/* one pass: @nc inputs from @c for @T tokens, whose values are xs[input][token] */
INL void tr_pass(const struct tr_block *b, size_t c, const int nc, const float (*xs)[TR_TOKENS], size_t nt,
		 const int T, float *y, uint32_t dtype, int step, bool scaled)
{
	const uint8_t *base = (const uint8_t *)b->m->data + b->row * b->m->row_stride + c * b->m->col_stride;
	size_t es = penstock_dtype_info(dtype)->bytes, o, left, stride = b->m->col_stride;
	vf w, sum[TR_TOKENS], s;
	const uint8_t *p;
	int i, t;

	for (o = 0; o < b->nr_out; o += VW) {
		left = b->nr_out - o;
#pragma GCC unroll 4
		for (t = 0; t < T; t++)
			sum[t] = v_zero();
#pragma GCC unroll 8
		for (i = 0; i < nc; i++) {
			p = base + o * es * step + i * stride;
			_mm_prefetch((const char *)p + TR_INPUTS * stride, _MM_HINT_T0);
			/* a vector of step 2 holds the neighbour of its last element */
			if (left > VW || (left == VW && step == 1))
				w = tr_load(dtype, step, p);
			else
				w = tr_part(b->m, p, left);
#pragma GCC unroll 4
			for (t = 0; t < T; t++)
				sum[t] = v_fma(w, v_set1(xs[i][t]), sum[t]);
		}
		s = scaled ? v_load(b->scale + o) : v_zero();
		for (t = 0; t < T && (size_t)t < nt; t++)
			tr_add(y + t * b->ldy + o, sum[t], s, scaled, left);
	}
}

INL void tr_walk(const struct tr_block *b, uint32_t dtype, int step, bool scaled)
{
	float xs[TR_INPUTS][TR_TOKENS];
	size_t t, c, nt, nc, i, j;
	float *y;

	for (t = 0; t < b->nr_tokens; t += nt) {
		nt = b->nr_tokens - t < TR_TOKENS ? b->nr_tokens - t : TR_TOKENS;
		y = b->y + t * b->ldy + b->row;
		for (c = 0; c < b->nr_in; c += nc) {
			nc = b->nr_in - c < TR_INPUTS ? b->nr_in - c : TR_INPUTS;
			for (i = 0; i < TR_INPUTS; i++)
				for (j = 0; j < TR_TOKENS; j++)
					xs[i][j] = i < nc && j < nt ? b->in->x[(t + j) * b->in->ldx + b->c + c + i] : 0;
			if (nc == TR_INPUTS && nt == 1)
				tr_pass(b, b->c + c, TR_INPUTS, xs, 1, 1, y, dtype, step, scaled);
			else if (nc == TR_INPUTS)
				tr_pass(b, b->c + c, TR_INPUTS, xs, nt, TR_TOKENS, y, dtype, step, scaled);
			else
				tr_pass(b, b->c + c, (int)nc, xs, nt, TR_TOKENS, y, dtype, step, scaled);
		}
	}
}

#define TR_WALK(name, type, step, scaled)				\
static void tr_##name(const struct tr_block *b)				\
{									\
	tr_walk(b, PENSTOCK_DTYPE_##type, step, scaled);		\
}
TR_WALK(f32_1, F32, 1, false)
TR_WALK(f32_2, F32, 2, false)
TR_WALK(f16_1, F16, 1, false)
TR_WALK(f16_2, F16, 2, false)
TR_WALK(bf16_1, BF16, 1, false)
TR_WALK(bf16_2, BF16, 2, false)
TR_WALK(e4m3_1, F8_E4M3, 1, false)
TR_WALK(e4m3_2, F8_E4M3, 2, false)
TR_WALK(e4m3s_1, F8_E4M3, 1, true)
TR_WALK(e4m3s_2, F8_E4M3, 2, true)
#undef TR_WALK

typedef void (*tr_fn)(const struct tr_block *b);

static tr_fn tr_choose(const struct penstock_k_mat *m)
{
	bool two = m->row_stride != penstock_dtype_info(m->dtype)->bytes;

	switch (m->dtype) {
	case PENSTOCK_DTYPE_F32:
		return two ? tr_f32_2 : tr_f32_1;
	case PENSTOCK_DTYPE_F16:
		return two ? tr_f16_2 : tr_f16_1;
	case PENSTOCK_DTYPE_BF16:
		return two ? tr_bf16_2 : tr_bf16_1;
	default:
		if (m->scale_dtype == PENSTOCK_DTYPE_NONE)
			return two ? tr_e4m3_2 : tr_e4m3_1;
		return two ? tr_e4m3s_2 : tr_e4m3s_1;
	}
}

/* inputs from @c on that share their scales, at most TR_BLOCK; fills the scales in */
static size_t tr_prepare(struct tr_block *b, const struct penstock_k_mat *m, size_t c)
{
	size_t n = m->cols - c < TR_BLOCK ? m->cols - c : TR_BLOCK, end, i;

	b->m = m;
	b->c = c;
	if (m->scale_dtype != PENSTOCK_DTYPE_NONE) {
		end = (c / m->scale_cols + 1) * m->scale_cols;
		n = end - c < n ? end - c : n;
		for (i = 0; i < b->nr_out; i++)
			b->scale[i] = (float)penstock_ref_scale(m, b->row + i, c);
		memset(b->scale + i, 0, VW * sizeof(float));
	}
	b->nr_in = n;
	return n;
}

static void tr_clear(const struct tr_block *b, float *y)
{
	size_t t;

	for (t = 0; t < b->nr_tokens; t++)
		memset(y + t * b->ldy + b->row, 0, b->nr_out * sizeof(float));
}

static void tr_bias(const struct tr_block *b, const struct penstock_k_mat *m, float *y)
{
	size_t t, i;

	for (t = 0; m->bias && t < b->nr_tokens; t++)
		for (i = 0; i < b->nr_out; i++)
			y[t * b->ldy + b->row + i] = add_bias(m, b->row + i, y[t * b->ldy + b->row + i]);
}

/* one matrix, or two of the same shape in turns, so that interleaved ones are read from memory once */
static void transposed_rows(const struct penstock_k_mat *const *mats, float *const *ys, int nr_mats,
			    const struct penstock_k_in *in, size_t nr_tokens, size_t begin, size_t end, size_t ldy)
{
	struct tr_block b = { .in = in, .nr_tokens = nr_tokens, .ldy = ldy };
	size_t c, n;
	int i;

	for (b.row = begin; b.row < end; b.row += b.nr_out) {
		b.nr_out = end - b.row < TR_OUTPUTS ? end - b.row : TR_OUTPUTS;
		for (i = 0; i < nr_mats; i++)
			tr_clear(&b, ys[i]);
		for (c = 0; c < mats[0]->cols; c += n) {
			n = 0;
			for (i = 0; i < nr_mats; i++) {
				n = tr_prepare(&b, mats[i], c);
				b.y = ys[i];
				tr_choose(mats[i])(&b);
			}
		}
		for (i = 0; i < nr_mats; i++)
			tr_bias(&b, mats[i], ys[i]);
	}
}

/* @m is one that transposed_rows() takes: an input's outputs side by side or every second */
static bool is_transposed(const struct penstock_k_mat *m)
{
	size_t es = penstock_dtype_info(m->dtype)->bytes;

	return penstock_k_plain(m->dtype) && m->col_stride != es && m->rows > 1 &&
	       (m->row_stride == es || m->row_stride == 2 * es);
}

#endif
