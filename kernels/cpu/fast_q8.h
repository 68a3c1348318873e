/* SPDX-License-Identifier: MIT */
/*
 * Int8 dot products: Q8_0 and Q4_0 weights with activations as signed bytes in
 * blocks of 32. The including source defines DPBUSD (four products of unsigned
 * and signed bytes a lane, summed). Signs move from the weights to the
 * activations, for the weights must be unsigned; -128 becomes 128.
 */
#ifndef PENSTOCK_FAST_Q8_H
#define PENSTOCK_FAST_Q8_H

#include "vec.h"

#define Q8_TOKENS	4
/* blocks whose sums run side by side; how far ahead memory is asked for */
#define Q8_SUMS		4
#define Q8_AHEAD	8192

static bool q8_takes(const struct penstock_k_mat *m)
{
	return m->dtype == PENSTOCK_DTYPE_Q8_0 || m->dtype == PENSTOCK_DTYPE_Q4_0;
}

/* the largest magnitude's bits; those of an infinity or a NaN are above every finite one's */
INL uint32_t largest_bits(const float *x)
{
	__m256i top = _mm256_setzero_si256(), abs = _mm256_set1_epi32(0x7fffffff);
	uint32_t lanes[8], most = 0;
	int i;

	for (i = 0; i < 32; i += 8)
		top = _mm256_max_epi32(top, _mm256_and_si256(load32(x + i), abs));
	_mm256_storeu_si256((__m256i *)lanes, top);
	for (i = 0; i < 8; i++)
		most = lanes[i] > most ? lanes[i] : most;
	return most;
}

static void q8_convert(const float *x, size_t n, uint8_t *out)
{
	struct penstock_k_q8 *b = (struct penstock_k_q8 *)out;
	__m256i v[4], p;
	float top, inv;
	int i;

	for (; n; n -= 32, x += 32, b++) {
		top = penstock_bits_f32(largest_bits(x));
		if (!(top < INFINITY)) {
			memset(b->q, 0, 32);
			b->d = NAN;
			continue;
		}
		b->d = top / 127;
		inv = b->d > 0 ? 127 / top : 0;
		/* a subnormal block: the inverse has overflowed */
		inv = inv < INFINITY ? inv : 0;
		for (i = 0; i < 4; i++)
			v[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), _mm256_set1_ps(inv)));
		p = _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
		p = _mm256_permutevar8x32_epi32(p, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
		_mm256_storeu_si256((__m256i *)b->q, p);
	}
}

/* a block's bytes and scale; Q4_0 has columns 0-15 in its low nibbles */
INL __m256i q8_weights(const uint8_t *p, bool four, float *d)
{
	__m128i b;

	*d = _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(penstock_get_u16(p))));
	if (!four)
		return load32(p + 2);
	b = load16(p + 2);
	return _mm256_sub_epi8(_mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(b, 4), b), _mm256_set1_epi8(15)),
			       _mm256_set1_epi8(8));
}

/* block @b of a row with @T tokens */
INL void q8_add(const uint8_t *w, const uint8_t *q, size_t ldq, size_t b, bool four, const int T, const int k,
		__m256 (*acc)[Q8_SUMS])
{
	const struct penstock_k_q8 *x;
	__m256i v, mag, prod;
	float d;
	int t;

	v = q8_weights(w + b * (four ? 18 : 34), four, &d);
	mag = _mm256_abs_epi8(v);
#pragma GCC unroll 4
	for (t = 0; t < T; t++) {
		x = (const struct penstock_k_q8 *)(q + t * ldq) + b;
		prod = DPBUSD(_mm256_setzero_si256(), mag, _mm256_sign_epi8(load32(x->q), v));
		acc[t][k] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(prod), _mm256_set1_ps(d * x->d), acc[t][k]);
	}
}

INL void q8_dot(const uint8_t *w, const uint8_t *q, size_t ldq, size_t blocks, bool four, const int T, float *sum)
{
	__m256 acc[Q8_TOKENS][Q8_SUMS];
	size_t b, o, bytes = Q8_SUMS * (four ? 18 : 34);
	int t, k;

#pragma GCC unroll 4
	for (t = 0; t < T; t++)
#pragma GCC unroll 4
		for (k = 0; k < Q8_SUMS; k++)
			acc[t][k] = _mm256_setzero_ps();
	for (b = 0; b + Q8_SUMS <= blocks; b += Q8_SUMS) {
#pragma GCC unroll 4
		for (o = 0; o < bytes; o += 64)
			_mm_prefetch((const char *)w + b / Q8_SUMS * bytes + Q8_AHEAD + o, _MM_HINT_T0);
#pragma GCC unroll 4
		for (k = 0; k < Q8_SUMS; k++)
			q8_add(w, q, ldq, b + k, four, T, k, acc);
	}
	for (; b < blocks; b++)
		q8_add(w, q, ldq, b, four, T, 0, acc);
#pragma GCC unroll 4
	for (t = 0; t < T; t++)
		sum[t] = sum256(_mm256_add_ps(_mm256_add_ps(acc[t][0], acc[t][1]),
					      _mm256_add_ps(acc[t][2], acc[t][3])));
}

INL void q8_rows_of(const struct penstock_k_mat *m, const struct penstock_k_in *in, size_t nr_tokens,
		    size_t begin, size_t end, float *y, size_t ldy, bool four)
{
	size_t row, t, nt, i, blocks = m->cols / 32;
	float sum[Q8_TOKENS];
	const uint8_t *w, *q;

	for (row = begin; row < end; row++) {
		w = (const uint8_t *)m->data + row * m->row_stride;
		for (t = 0; t < nr_tokens; t += nt) {
			nt = nr_tokens - t >= Q8_TOKENS ? Q8_TOKENS : 1;
			q = in->q + t * in->ldq;
			if (nt == 1)
				q8_dot(w, q, in->ldq, blocks, four, 1, sum);
			else
				q8_dot(w, q, in->ldq, blocks, four, Q8_TOKENS, sum);
			for (i = 0; i < nt; i++)
				y[(t + i) * ldy + row] = sum[i] + (float)penstock_ref_bias(m, row);
		}
	}
}

static void q8_rows(const struct penstock_k_mat *m, const struct penstock_k_in *in, size_t nr_tokens,
		    size_t begin, size_t end, float *y, size_t ldy)
{
	if (m->dtype == PENSTOCK_DTYPE_Q4_0)
		q8_rows_of(m, in, nr_tokens, begin, end, y, ldy, true);
	else
		q8_rows_of(m, in, nr_tokens, begin, end, y, ldy, false);
}

#endif
