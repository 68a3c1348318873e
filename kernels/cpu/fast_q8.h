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

#define Q8_ROWS		4
#define Q8_TOKENS	4

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

INL void q8_dot(const uint8_t *const *w, const uint8_t *q, size_t ldq, size_t blocks, bool four, const int R,
		const int T, float *sum)
{
	const struct penstock_k_q8 *x;
	__m256 acc[Q8_ROWS][Q8_TOKENS];
	size_t b, bytes = four ? 18 : 34;
	__m256i v, mag, prod;
	float d;
	int r, t;

#pragma GCC unroll 4
	for (r = 0; r < R; r++)
#pragma GCC unroll 4
		for (t = 0; t < T; t++)
			acc[r][t] = _mm256_setzero_ps();
	for (b = 0; b < blocks; b++) {
#pragma GCC unroll 4
		for (r = 0; r < R; r++) {
			v = q8_weights(w[r] + b * bytes, four, &d);
			_mm_prefetch((const char *)w[r] + b * bytes + 1024, _MM_HINT_T0);
			mag = _mm256_abs_epi8(v);
#pragma GCC unroll 4
			for (t = 0; t < T; t++) {
				x = (const struct penstock_k_q8 *)(q + t * ldq) + b;
				prod = DPBUSD(_mm256_setzero_si256(), mag, _mm256_sign_epi8(load32(x->q), v));
				acc[r][t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(prod), _mm256_set1_ps(d * x->d),
							    acc[r][t]);
			}
		}
	}
#pragma GCC unroll 4
	for (r = 0; r < R; r++)
#pragma GCC unroll 4
		for (t = 0; t < T; t++)
			sum[r * T + t] = sum256(acc[r][t]);
}

static void q8_pass(const uint8_t *const *w, const struct penstock_k_in *in, size_t t, size_t blocks, bool four,
		    size_t nr, size_t nt, float *sum)
{
	const uint8_t *q = in->q + t * in->ldq;

	if (nr == Q8_ROWS)
		four ? q8_dot(w, q, in->ldq, blocks, true, Q8_ROWS, 1, sum) :
		       q8_dot(w, q, in->ldq, blocks, false, Q8_ROWS, 1, sum);
	else if (nt == Q8_TOKENS)
		four ? q8_dot(w, q, in->ldq, blocks, true, 1, Q8_TOKENS, sum) :
		       q8_dot(w, q, in->ldq, blocks, false, 1, Q8_TOKENS, sum);
	else
		four ? q8_dot(w, q, in->ldq, blocks, true, 1, 1, sum) :
		       q8_dot(w, q, in->ldq, blocks, false, 1, 1, sum);
}

static void q8_rows(const struct penstock_k_mat *m, const struct penstock_k_in *in, size_t nr_tokens,
		    size_t begin, size_t end, float *y, size_t ldy)
{
	bool four = m->dtype == PENSTOCK_DTYPE_Q4_0;
	size_t row, t, nr, nt, r, i;
	const uint8_t *w[Q8_ROWS];
	float sum[Q8_ROWS * Q8_TOKENS];

	for (row = begin; row < end; row += nr) {
		nr = nr_tokens == 1 && end - row >= Q8_ROWS ? Q8_ROWS : 1;
		for (r = 0; r < nr; r++)
			w[r] = (const uint8_t *)m->data + (row + r) * m->row_stride;
		for (t = 0; t < nr_tokens; t += nt) {
			nt = nr_tokens - t >= Q8_TOKENS ? Q8_TOKENS : 1;
			q8_pass(w, in, t, m->cols / 32, four, nr, nt, sum);
			for (r = 0; r < nr; r++)
				for (i = 0; i < nt; i++)
					y[(t + i) * ldy + row + r] = sum[r * nt + i] +
								     (float)penstock_ref_bias(m, row + r);
		}
	}
}

#endif
