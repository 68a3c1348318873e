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

#define BF_TOKENS	4
/* vectors whose sums run side by side; how far ahead memory is asked for */
#define BF_SUMS		4
#define BF_AHEAD	8192

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

/* 32 columns from @c, of which the row has @n */
INL void bf16_add(const uint8_t *w, const uint8_t *q, size_t ldq, size_t c, size_t n, const int T, const int k,
		  __m512 (*acc)[BF_SUMS])
{
	__m512bh v = n < 32 ? bf16_load_part(w + c * 2, n) : bf16_load(w + c * 2);
	int t;

#pragma GCC unroll 4
	for (t = 0; t < T; t++)
		acc[t][k] = _mm512_dpbf16_ps(acc[t][k], v, bf16_load(q + t * ldq + c * 2));
}

INL void bf16_dot(const uint8_t *w, const uint8_t *q, size_t ldq, size_t cols, const int T, float *sum)
{
	__m512 acc[BF_TOKENS][BF_SUMS];
	size_t c;
	int t, k;

#pragma GCC unroll 4
	for (t = 0; t < T; t++)
#pragma GCC unroll 4
		for (k = 0; k < BF_SUMS; k++)
			acc[t][k] = _mm512_setzero_ps();
	for (c = 0; c + 32 * BF_SUMS <= cols; c += 32 * BF_SUMS) {
#pragma GCC unroll 4
		for (k = 0; k < BF_SUMS; k++) {
			_mm_prefetch((const char *)w + c * 2 + 64 * k + BF_AHEAD, _MM_HINT_T0);
			bf16_add(w, q, ldq, c + 32 * k, 32, T, k, acc);
		}
	}
	for (; c < cols; c += 32)
		bf16_add(w, q, ldq, c, cols - c, T, 0, acc);
#pragma GCC unroll 4
	for (t = 0; t < T; t++)
		sum[t] = v_sum(_mm512_add_ps(_mm512_add_ps(acc[t][0], acc[t][1]), _mm512_add_ps(acc[t][2], acc[t][3])));
}

static void bf16_rows(const struct penstock_k_mat *m, const struct penstock_k_in *in, size_t nr_tokens,
		      size_t begin, size_t end, float *y, size_t ldy)
{
	size_t row, t, nt, i;
	float sum[BF_TOKENS];
	const uint8_t *w, *q;

	for (row = begin; row < end; row++) {
		w = (const uint8_t *)m->data + row * m->row_stride;
		for (t = 0; t < nr_tokens; t += nt) {
			nt = nr_tokens - t >= BF_TOKENS ? BF_TOKENS : 1;
			q = in->q + t * in->ldq;
			if (nt == 1)
				bf16_dot(w, q, in->ldq, m->cols, 1, sum);
			else
				bf16_dot(w, q, in->ldq, m->cols, BF_TOKENS, sum);
			for (i = 0; i < nt; i++)
				y[(t + i) * ldy + row] = sum[i] + (float)penstock_ref_bias(m, row);
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
