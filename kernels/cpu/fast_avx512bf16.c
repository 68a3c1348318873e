// SPDX-License-Identifier: MIT
/*
 * Fast forms for AVX-512: bfloat16 dot products (AVX512_BF16) for BF16 weights,
 * int8 dot products (AVX512_VNNI) for Q8_0 and Q4_0. A dot instruction adds two
 * products a lane, rounds as it likes, and flushes subnormals.
 */
#if defined(__x86_64__)
#include <math.h>
#include "cpu.h"
#define DPBUSD(acc, u, s) _mm256_dpbusd_epi32(acc, u, s)
#include "fast_q8.h"

#define BF_ROWS		2
#define BF_TOKENS	8

static bool bf16_takes(const struct penstock_k_mat *m)
{
	return m->dtype == PENSTOCK_DTYPE_BF16 && m->col_stride == 2;
}

/* zeros up to a whole vector of 32 */
static void bf16_convert(const float *x, size_t n, uint8_t *out)
{
	__m256bh v;
	size_t i;

	for (i = 0; i + 16 <= n; i += 16) {
		v = _mm512_cvtneps_pbh(_mm512_loadu_ps(x + i));
		memcpy(out + i * 2, &v, sizeof(v));
	}
	if (i < n) {
		v = _mm512_cvtneps_pbh(v_load_part(x + i, n - i, 0));
		memcpy(out + i * 2, &v, sizeof(v));
		i += 16;
	}
	if (i % 32)
		memset(out + i * 2, 0, 32);
}

INL __m512bh bf16_load(const void *p)
{
	__m512bh v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* the first @n of 32 elements, zeros behind them; nothing behind them is read */
INL __m512bh bf16_load_part(const void *p, size_t n)
{
	return (__m512bh)_mm512_maskz_loadu_epi16((__mmask32)((1u << n) - 1), p);
}

INL void bf16_dot(const uint8_t *const *w, const uint8_t *q, size_t ldq, size_t cols, const int R, const int T,
		  float *sum)
{
	__m512 acc[BF_ROWS][BF_TOKENS][2];
	__m512bh v, u;
	size_t c;
	int r, t;

#pragma GCC unroll 8
	for (r = 0; r < R; r++)
#pragma GCC unroll 8
		for (t = 0; t < T; t++)
			acc[r][t][0] = acc[r][t][1] = _mm512_setzero_ps();
	for (c = 0; c + 64 <= cols; c += 64) {
#pragma GCC unroll 8
		for (r = 0; r < R; r++) {
			v = bf16_load(w[r] + c * 2);
			u = bf16_load(w[r] + c * 2 + 64);
			_mm_prefetch((const char *)w[r] + c * 2 + 1024, _MM_HINT_T0);
			_mm_prefetch((const char *)w[r] + c * 2 + 1088, _MM_HINT_T0);
#pragma GCC unroll 8
			for (t = 0; t < T; t++) {
				acc[r][t][0] = _mm512_dpbf16_ps(acc[r][t][0], v, bf16_load(q + t * ldq + c * 2));
				acc[r][t][1] = _mm512_dpbf16_ps(acc[r][t][1], u, bf16_load(q + t * ldq + c * 2 + 64));
			}
		}
	}
	for (; c < cols; c += 32) {
#pragma GCC unroll 8
		for (r = 0; r < R; r++) {
			v = cols - c < 32 ? bf16_load_part(w[r] + c * 2, cols - c) : bf16_load(w[r] + c * 2);
#pragma GCC unroll 8
			for (t = 0; t < T; t++)
				acc[r][t][0] = _mm512_dpbf16_ps(acc[r][t][0], v, bf16_load(q + t * ldq + c * 2));
		}
	}
#pragma GCC unroll 8
	for (r = 0; r < R; r++)
#pragma GCC unroll 8
		for (t = 0; t < T; t++)
			sum[r * T + t] = v_sum(_mm512_add_ps(acc[r][t][0], acc[r][t][1]));
}

static void bf16_rows(const struct penstock_k_mat *m, const struct penstock_k_in *in, size_t nr_tokens,
		      size_t begin, size_t end, float *y, size_t ldy)
{
	float sum[BF_ROWS * BF_TOKENS];
	size_t row, t, nr, nt, r, i;
	const uint8_t *w[BF_ROWS], *q;

	for (row = begin; row < end; row += nr) {
		nr = nr_tokens == 1 && end - row >= BF_ROWS ? BF_ROWS : 1;
		for (r = 0; r < nr; r++)
			w[r] = (const uint8_t *)m->data + (row + r) * m->row_stride;
		for (t = 0; t < nr_tokens; t += nt) {
			nt = nr_tokens - t >= 8 ? 8 : nr_tokens - t >= 2 ? 2 : 1;
			q = in->q + t * in->ldq;
			if (nr == BF_ROWS)
				bf16_dot(w, q, in->ldq, m->cols, BF_ROWS, 1, sum);
			else if (nt == 8)
				bf16_dot(w, q, in->ldq, m->cols, 1, 8, sum);
			else if (nt == 2)
				bf16_dot(w, q, in->ldq, m->cols, 1, 2, sum);
			else
				bf16_dot(w, q, in->ldq, m->cols, 1, 1, sum);
			for (r = 0; r < nr; r++)
				for (i = 0; i < nt; i++)
					y[(t + i) * ldy + row + r] = sum[r * nt + i] +
								     (float)penstock_ref_bias(m, row + r);
		}
	}
}

static enum penstock_k_form vnni_form(const struct penstock_k_mat *m)
{
	return q8_takes(m) ? PENSTOCK_K_FORM_Q8 : PENSTOCK_K_FORM_F32;
}

static enum penstock_k_form bf16_vnni_form(const struct penstock_k_mat *m)
{
	return bf16_takes(m) ? PENSTOCK_K_FORM_BF16 : vnni_form(m);
}

static void fast_convert(enum penstock_k_form form, const float *x, size_t n, uint8_t *out)
{
	if (form == PENSTOCK_K_FORM_BF16)
		bf16_convert(x, n, out);
	else
		q8_convert(x, n, out);
}

static void fast_rows(const struct penstock_k_mat *m, const struct penstock_k_in *in, size_t nr_tokens,
		      size_t begin, size_t end, float *y, size_t ldy)
{
	if (in->form == PENSTOCK_K_FORM_BF16 && bf16_takes(m))
		bf16_rows(m, in, nr_tokens, begin, end, y, ldy);
	else if (in->form == PENSTOCK_K_FORM_Q8 && q8_takes(m))
		q8_rows(m, in, nr_tokens, begin, end, y, ldy);
	else
		penstock_avx512_rows(m, in, nr_tokens, begin, end, y, ldy);
}

static void fast_gate_up(const struct penstock_k_expert *e, const struct penstock_k_in *in, size_t nr_tokens,
			 size_t begin, size_t end, float *h, float *tmp, size_t ldh)
{
	size_t t;

	if (in->form == PENSTOCK_K_FORM_F32) {
		penstock_avx512_gate_up(e, in, nr_tokens, begin, end, h, tmp, ldh);
		return;
	}
	fast_rows(&e->gate, in, nr_tokens, begin, end, h, ldh);
	fast_rows(&e->up, in, nr_tokens, begin, end, tmp, ldh);
	for (t = 0; t < nr_tokens; t++)
		penstock_avx512_act(e, end - begin, h + t * ldh + begin, tmp + t * ldh + begin);
}

void penstock_avx512_fast_ops(struct penstock_k_ops *ops, bool bf16)
{
	*ops = penstock_avx512_ops;
	ops->name = bf16 ? "avx512+bf16+vnni" : "avx512+vnni";
	ops->form = bf16 ? bf16_vnni_form : vnni_form;
	ops->convert = fast_convert;
	ops->rows = fast_rows;
	ops->gate_up = fast_gate_up;
}
#endif
