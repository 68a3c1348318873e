/* SPDX-License-Identifier: MIT */
/*
 * Stored weights to vectors of floats, 32 columns (a unit) at a time. For each
 * type: head_TYPE() prepares what a block's units share, unit_TYPE() expands
 * unit @j of the block. The products scale * element are rounded once, so both
 * widths give the same floats.
 *
 * With 16 lanes a 4-bit element is an index into one register of 16 values that
 * were already multiplied by the scale.
 */
#ifndef PENSTOCK_UNITS_H
#define PENSTOCK_UNITS_H

#include "vec.h"

/* a row of a matrix whose columns are contiguous */
struct src {
	const uint8_t *p;
	const uint8_t *scale;
	uint64_t scale_stride;
	uint32_t scale_dtype;
	uint32_t scale_units;	/* units that share a scale */
};

/* what the units of a block share; a type uses the members it needs */
struct head {
	vf table;
	vf upper;
	vf s;
	uint32_t units_left;	/* that have the scale @s */
	uint32_t bits;
	float sc[16];
	float mn[8];
};

/* scale @i of the row */
INL float row_scale(const struct src *s, size_t i)
{
	const uint8_t *p = s->scale + i * s->scale_stride;

	if (s->scale_dtype == PENSTOCK_DTYPE_F16)
		return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(penstock_get_u16(p))));
	return penstock_elem_f32(s->scale_dtype, p);
}

/* ---- plain types ---- */

#define PLAIN_UNIT(ty, size)							\
INL void head_##ty(struct head *h, const struct src *s, size_t b) { }		\
INL void unit_##ty(const struct head *h, const uint8_t *p, int j, vf *w)	\
{										\
	int i;									\
										\
	_Pragma("GCC unroll 4")						\
	for (i = 0; i < UV; i++)						\
		w[i] = v_##ty(p + (size_t)i * VW * (size));			\
}

PLAIN_UNIT(f32, 4)
PLAIN_UNIT(f16, 2)
PLAIN_UNIT(bf16, 2)

INL void head_e4m3(struct head *h, const struct src *s, size_t b)
{
}

INL void unit_e4m3(const struct head *h, const uint8_t *p, int j, vf *w)
{
	vf s = v_set1(E4M3_RAISE);
	int i;

	e4m3_unit(p, w);
#pragma GCC unroll 4
	for (i = 0; i < UV; i++)
		w[i] = v_mul(w[i], s);
}

/* units come in order, so the scale is looked at where one begins */
INL void head_e4m3s(struct head *h, const struct src *s, size_t b)
{
	if (!h->units_left) {
		h->s = v_set1(row_scale(s, b / s->scale_units) * E4M3_RAISE);
		h->units_left = s->scale_units;
	}
	h->units_left--;
}

INL void unit_e4m3s(const struct head *h, const uint8_t *p, int j, vf *w)
{
	int i;

	e4m3_unit(p, w);
#pragma GCC unroll 4
	for (i = 0; i < UV; i++)
		w[i] = v_mul(w[i], h->s);
}

/* ---- bytes ---- */

INL void scaled_unit(__m256i b, vf s, vf *w)
{
	int i;

	i8_unit(b, w);
#pragma GCC unroll 4
	for (i = 0; i < UV; i++)
		w[i] = v_mul(w[i], s);
}

INL void head_q8_0(struct head *h, const struct src *s, size_t b)
{
	h->s = v_f16_all(s->p + b * 34);
}

INL void unit_q8_0(const struct head *h, const uint8_t *p, int j, vf *w)
{
	int i;

#pragma GCC unroll 4
	for (i = 0; i < UV; i++)
		w[i] = v_mul(v_i8(p + 2 + i * VW), h->s);
}

/* Q6_K: unit j has the low nibbles of bytes 64 * (j / 4) + 32 * (j % 2), upper ones for j % 4 >= 2 */
INL void head_q6_k(struct head *h, const struct src *s, size_t b)
{
	const uint8_t *p = s->p + b * 210;
	vf d = v_f16_all(p + 208);
	int i;

#pragma GCC unroll 4
	for (i = 0; i < 16; i += VW)
		v_store(h->sc + i, v_mul(v_i8(p + 192 + i), d));
}

INL void unit_q6_k(const struct head *h, const uint8_t *p, int j, vf *w)
{
	__m256i ql = load32(p + 64 * (j >> 2) + 32 * (j & 1)), qh = load32(p + 128 + 32 * (j >> 2));
	const float *sc = h->sc + 8 * (j >> 2) + 2 * (j & 3);
	int i;

	ql = _mm256_and_si256(_mm256_srli_epi16(ql, j & 2 ? 4 : 0), _mm256_set1_epi8(15));
	qh = _mm256_and_si256(_mm256_srli_epi16(qh, 2 * (j & 3)), _mm256_set1_epi8(3));
	ql = _mm256_or_si256(ql, _mm256_slli_epi16(qh, 4));
	i8_unit(_mm256_sub_epi8(ql, _mm256_set1_epi8(32)), w);
#pragma GCC unroll 4
	for (i = 0; i < UV; i++)
		w[i] = v_mul(w[i], v_set1(sc[i / (UV / 2)]));
}

/* ---- nibbles ---- */

/* eight unsigned bytes as floats */
INL __m256 bytes8(uint64_t v)
{
	return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)v)));
}

/* one half-precision number eight times */
INL __m256 half8(const uint8_t *p)
{
	return _mm256_cvtph_ps(_mm_set1_epi16((short)penstock_get_u16(p)));
}

INL void head_q4_k(struct head *h, const struct src *s, size_t b)
{
	const uint8_t *p = s->p + b * 144;
	uint32_t a = penstock_get_u32(p + 4), m = penstock_get_u32(p + 8), c = penstock_get_u32(p + 12);
	uint64_t sc, mn;

	/* the fields of penstock_k4_scales(), four bytes at a time */
	sc = (c & 0x0f0f0f0f) | (a >> 2 & 0x30303030);
	sc = sc << 32 | (a & 0x3f3f3f3f);
	mn = (c >> 4 & 0x0f0f0f0f) | (m >> 2 & 0x30303030);
	mn = mn << 32 | (m & 0x3f3f3f3f);
	_mm256_storeu_ps(h->sc, _mm256_mul_ps(bytes8(sc), half8(p)));
	_mm256_storeu_ps(h->mn, _mm256_mul_ps(bytes8(mn), half8(p + 2)));
}

INL void head_q5_k(struct head *h, const struct src *s, size_t b)
{
	struct src k = { .p = s->p + b * 176 };

	head_q4_k(h, &k, 0);
}

/* bytes whose nibbles are an even and an odd column, in the order of the columns */
INL void pair_nibbles(__m128i b, __m128i *lo, __m128i *hi)
{
	__m128i even = _mm_and_si128(b, _mm_set1_epi8(15));
	__m128i odd = _mm_and_si128(_mm_srli_epi16(b, 4), _mm_set1_epi8(15));

	*lo = _mm_unpacklo_epi8(even, odd);
	*hi = _mm_unpackhi_epi8(even, odd);
}

#if VW == 16

#define PICK(table, idx) _mm512_permutexvar_ps(idx, table)

INL vf count16(float from)
{
	vf v = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);

	return v_add(v, v_set1(from));
}

INL vf e2m1_values(void)
{
	return _mm512_setr_ps(0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6);
}

/* an index takes its low 4 bits only, so nothing is masked */
INL void halves_unit(vf table, const uint8_t *q, vf *w)
{
	vi idx = _mm512_cvtepu8_epi32(load16(q));

	w[0] = PICK(table, idx);
	w[1] = PICK(table, _mm512_srli_epi32(idx, 4));
}

INL void pairs_unit(vf table, const uint8_t *q, vf *w)
{
	__m128i lo, hi;

	pair_nibbles(load16(q), &lo, &hi);
	w[0] = PICK(table, _mm512_cvtepu8_epi32(lo));
	w[1] = PICK(table, _mm512_cvtepu8_epi32(hi));
}

INL void head_q4_0(struct head *h, const struct src *s, size_t b)
{
	h->table = v_mul(count16(-8), v_f16_all(s->p + b * 18));
}

INL void unit_q4_0(const struct head *h, const uint8_t *p, int j, vf *w)
{
	halves_unit(h->table, p + 2, w);
}

INL void head_mxfp4(struct head *h, const struct src *s, size_t b)
{
	h->table = v_mul(e2m1_values(), v_set1(penstock_e8m0_f32(s->p[b * 17])));
}

INL void unit_mxfp4(const struct head *h, const uint8_t *p, int j, vf *w)
{
	halves_unit(h->table, p + 1, w);
}

INL void head_f4(struct head *h, const struct src *s, size_t b)
{
	h->table = v_mul(e2m1_values(), v_set1(penstock_e8m0_f32(s->scale[b * s->scale_stride])));
}

INL void unit_f4(const struct head *h, const uint8_t *p, int j, vf *w)
{
	pairs_unit(h->table, p, w);
}

INL void head_int4(struct head *h, const struct src *s, size_t b)
{
	h->table = v_mul(count16(-8), v_set1(row_scale(s, b)));
}

INL void unit_int4(const struct head *h, const uint8_t *p, int j, vf *w)
{
	pairs_unit(h->table, p, w);
}

INL void head_q5_0(struct head *h, const struct src *s, size_t b)
{
	const uint8_t *p = s->p + b * 22;
	vf d = v_f16_all(p);

	h->table = v_mul(count16(-16), d);
	h->upper = v_mul(count16(0), d);
	h->bits = penstock_get_u32(p + 2);
}

INL void unit_q5_0(const struct head *h, const uint8_t *p, int j, vf *w)
{
	vi idx = _mm512_cvtepu8_epi32(load16(p + 6)), top = _mm512_srli_epi32(idx, 4);

	w[0] = _mm512_mask_permutexvar_ps(PICK(h->table, idx), (__mmask16)h->bits, idx, h->upper);
	w[1] = _mm512_mask_permutexvar_ps(PICK(h->table, top), (__mmask16)(h->bits >> 16), top, h->upper);
}

INL void unit_q4_k(const struct head *h, const uint8_t *p, int j, vf *w)
{
	vf table = v_fms(count16(0), v_set1(h->sc[j]), v_set1(h->mn[j]));
	const uint8_t *q = p + 16 + 32 * (j >> 1);
	int i;

#pragma GCC unroll 4
	for (i = 0; i < 2; i++)
		w[i] = PICK(table, _mm512_srli_epi32(_mm512_cvtepu8_epi32(load16(q + 16 * i)), j & 1 ? 4 : 0));
}

INL void unit_q5_k(const struct head *h, const uint8_t *p, int j, vf *w)
{
	vf sc = v_set1(h->sc[j]), mn = v_set1(h->mn[j]);
	vf table = v_fms(count16(0), sc, mn), upper = v_fms(count16(16), sc, mn);
	uint32_t bits = _mm256_test_epi8_mask(load32(p + 16), _mm256_set1_epi8((char)(1 << j)));
	const uint8_t *q = p + 48 + 32 * (j >> 1);
	vi idx;
	int i;

	for (i = 0; i < 2; i++) {
		idx = _mm512_srli_epi32(_mm512_cvtepu8_epi32(load16(q + 16 * i)), j & 1 ? 4 : 0);
		w[i] = _mm512_mask_permutexvar_ps(PICK(table, idx), (__mmask16)(bits >> 16 * i), idx, upper);
	}
}

#else

/* 16 bytes: columns 0-15 in the low nibbles, 16-31 in the high ones */
INL __m256i half_nibbles(const uint8_t *q)
{
	__m128i b = load16(q);

	return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(b, 4), b), _mm256_set1_epi8(15));
}

INL __m256i pair_nibbles32(const uint8_t *q)
{
	__m128i lo, hi;

	pair_nibbles(load16(q), &lo, &hi);
	return _mm256_set_m128i(hi, lo);
}

/* e2m1 codes to twice their value */
INL __m256i e2m1_twice(__m256i code)
{
	const __m256i t = _mm256_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12,
					   0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);

	return _mm256_shuffle_epi8(t, code);
}

/* bit i of @bits as 16 in byte i */
INL __m256i fifth_bits(uint32_t bits)
{
	const __m256i spread = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1,
						2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
	const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201ull);
	__m256i v = _mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), spread);

	v = _mm256_cmpeq_epi8(_mm256_and_si256(v, bit), bit);
	return _mm256_and_si256(v, _mm256_set1_epi8(16));
}

INL void head_q4_0(struct head *h, const struct src *s, size_t b)
{
	h->s = v_f16_all(s->p + b * 18);
}

INL void unit_q4_0(const struct head *h, const uint8_t *p, int j, vf *w)
{
	scaled_unit(_mm256_sub_epi8(half_nibbles(p + 2), _mm256_set1_epi8(8)), h->s, w);
}

/* e2m1_twice() makes up for the half; the half of the least scale is still a float */
INL void head_mxfp4(struct head *h, const struct src *s, size_t b)
{
	h->s = v_set1(penstock_e8m0_f32(s->p[b * 17]) * 0.5f);
}

INL void unit_mxfp4(const struct head *h, const uint8_t *p, int j, vf *w)
{
	scaled_unit(e2m1_twice(half_nibbles(p + 1)), h->s, w);
}

INL void head_f4(struct head *h, const struct src *s, size_t b)
{
	h->s = v_set1(penstock_e8m0_f32(s->scale[b * s->scale_stride]) * 0.5f);
}

INL void unit_f4(const struct head *h, const uint8_t *p, int j, vf *w)
{
	scaled_unit(e2m1_twice(pair_nibbles32(p)), h->s, w);
}

INL void head_int4(struct head *h, const struct src *s, size_t b)
{
	h->s = v_set1(row_scale(s, b));
}

INL void unit_int4(const struct head *h, const uint8_t *p, int j, vf *w)
{
	scaled_unit(_mm256_sub_epi8(pair_nibbles32(p), _mm256_set1_epi8(8)), h->s, w);
}

INL void head_q5_0(struct head *h, const struct src *s, size_t b)
{
	h->s = v_f16_all(s->p + b * 22);
}

INL void unit_q5_0(const struct head *h, const uint8_t *p, int j, vf *w)
{
	__m256i v = _mm256_or_si256(half_nibbles(p + 6), fifth_bits(penstock_get_u32(p + 2)));

	scaled_unit(_mm256_sub_epi8(v, _mm256_set1_epi8(16)), h->s, w);
}

/* 32 bytes, lower or upper nibbles */
INL __m256i k_nibbles(const uint8_t *q, int j)
{
	return _mm256_and_si256(_mm256_srli_epi16(load32(q + 32 * (j >> 1)), j & 1 ? 4 : 0), _mm256_set1_epi8(15));
}

INL void min_unit(const struct head *h, __m256i b, int j, vf *w)
{
	int i;

	i8_unit(b, w);
#pragma GCC unroll 4
	for (i = 0; i < UV; i++)
		w[i] = v_fms(w[i], v_set1(h->sc[j]), v_set1(h->mn[j]));
}

INL void unit_q4_k(const struct head *h, const uint8_t *p, int j, vf *w)
{
	min_unit(h, k_nibbles(p + 16, j), j, w);
}

INL void unit_q5_k(const struct head *h, const uint8_t *p, int j, vf *w)
{
	__m256i bit = _mm256_set1_epi8((char)(1 << j));
	__m256i five = _mm256_cmpeq_epi8(_mm256_and_si256(load32(p + 16), bit), bit);

	five = _mm256_and_si256(five, _mm256_set1_epi8(16));
	min_unit(h, _mm256_or_si256(k_nibbles(p + 48, j), five), j, w);
}

#endif
#endif
