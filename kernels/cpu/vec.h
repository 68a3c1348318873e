/* SPDX-License-Identifier: MIT */
/*
 * One vocabulary for both vector widths. Included by sources that are compiled
 * for AVX2 or for AVX-512; VW is the number of floats a vector. All loads may be
 * unaligned. Every operation is written out (no contraction by the compiler), so
 * a lane gives the same bits wherever it stands.
 */
#ifndef PENSTOCK_VEC_H
#define PENSTOCK_VEC_H

#include <immintrin.h>
#include "../kimpl.h"

#define INL static inline __attribute__((always_inline, unused))
/* vectors in a unit of 32 columns */
#define UV (32 / VW)

INL __m128i load16(const void *p)
{
	return _mm_loadu_si128(p);
}

INL __m256i load32(const void *p)
{
	return _mm256_loadu_si256(p);
}

/*
 * e4m3 as half precision: sign-extended, shifted to where the exponent stands,
 * the doubled sign bit cleared. The value is too small by E4M3_RAISE, for the
 * exponents' biases differ; the code of a NaN becomes one.
 */
#define E4M3_RAISE 256.0f

INL __m256i e4m3_to_f16(__m128i bytes)
{
	__m256i v = _mm256_slli_epi16(_mm256_cvtepi8_epi16(bytes), 7), nan;

	v = _mm256_and_si256(v, _mm256_set1_epi16((short)0xbfff));
	nan = _mm256_cmpeq_epi16(_mm256_and_si256(v, _mm256_set1_epi16(0x7fff)), _mm256_set1_epi16(0x3f80));
	return _mm256_or_si256(v, _mm256_and_si256(nan, _mm256_set1_epi16(0x7e00)));
}

INL float sum128(__m128 v)
{
	v = _mm_add_ps(v, _mm_movehl_ps(v, v));
	v = _mm_add_ss(v, _mm_movehdup_ps(v));
	return _mm_cvtss_f32(v);
}

INL float sum256(__m256 v)
{
	return sum128(_mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)));
}

#if defined(__AVX512F__)

#define VW 16
#define vf __m512
#define vi __m512i

#define v_zero()	_mm512_setzero_ps()
#define v_set1(f)	_mm512_set1_ps(f)
#define v_load(p)	_mm512_loadu_ps(p)
#define v_store(p, v)	_mm512_storeu_ps(p, v)
#define v_add(a, b)	_mm512_add_ps(a, b)
#define v_sub(a, b)	_mm512_sub_ps(a, b)
#define v_mul(a, b)	_mm512_mul_ps(a, b)
#define v_div(a, b)	_mm512_div_ps(a, b)
#define v_fma(a, b, c)	_mm512_fmadd_ps(a, b, c)
#define v_fms(a, b, c)	_mm512_fmsub_ps(a, b, c)
/* @b where either is a NaN */
#define v_max(a, b)	_mm512_max_ps(a, b)
#define v_min(a, b)	_mm512_min_ps(a, b)

INL float v_sum(vf v)
{
	return sum256(_mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)));
}

INL vf v_bf16(const void *p)
{
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load32(p)), 16));
}

INL vf v_f16(const void *p)
{
	return _mm512_cvtph_ps(load32(p));
}

/* one half-precision number in all lanes */
INL vf v_f16_all(const void *p)
{
	return _mm512_cvtph_ps(_mm256_set1_epi16((short)penstock_get_u16(p)));
}

INL vf v_e4m3(const void *p)
{
	return v_mul(_mm512_cvtph_ps(e4m3_to_f16(load16(p))), v_set1(E4M3_RAISE));
}

/* 32 of them, without the factor E4M3_RAISE */
INL void e4m3_unit(const uint8_t *p, vf *w)
{
	vi v = _mm512_slli_epi16(_mm512_cvtepi8_epi16(load32(p)), 7);
	__mmask32 nan;

	v = _mm512_and_si512(v, _mm512_set1_epi16((short)0xbfff));
	nan = _mm512_cmpeq_epi16_mask(_mm512_and_si512(v, _mm512_set1_epi16(0x7fff)), _mm512_set1_epi16(0x3f80));
	v = _mm512_mask_mov_epi16(v, nan, _mm512_set1_epi16(0x7e00));
	w[0] = _mm512_cvtph_ps(_mm512_castsi512_si256(v));
	w[1] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(v, 1));
}

INL vf v_i8(const void *p)
{
	return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load16(p)));
}

/* elements 0, 2, 4, ...; reads one element more than the last one taken */
INL vf v_even_f32(const void *p)
{
	const vi idx = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);

	return _mm512_permutex2var_ps(v_load(p), idx, v_load((const uint8_t *)p + 64));
}

INL vf v_even_bf16(const void *p)
{
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16));
}

INL vf v_even_f16(const void *p)
{
	return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_loadu_si512(p)));
}

INL vf v_even_e4m3(const void *p)
{
	return v_mul(_mm512_cvtph_ps(e4m3_to_f16(_mm256_cvtepi16_epi8(load32(p)))), v_set1(E4M3_RAISE));
}

/* 2^n * p for integral @n; overflows to infinity, underflows to 0 */
INL vf v_scale2(vf p, vf n)
{
	return _mm512_scalef_ps(p, n);
}

INL vf v_round(vf x)
{
	return _mm512_roundscale_ps(x, 0);
}

/* 32 signed bytes as floats */
INL void i8_unit(__m256i b, vf *w)
{
	w[0] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_castsi256_si128(b)));
	w[1] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_extracti128_si256(b, 1)));
}

#else

#define VW 8
#define vf __m256
#define vi __m256i

#define v_zero()	_mm256_setzero_ps()
#define v_set1(f)	_mm256_set1_ps(f)
#define v_load(p)	_mm256_loadu_ps((const float *)(p))
#define v_store(p, v)	_mm256_storeu_ps(p, v)
#define v_add(a, b)	_mm256_add_ps(a, b)
#define v_sub(a, b)	_mm256_sub_ps(a, b)
#define v_mul(a, b)	_mm256_mul_ps(a, b)
#define v_div(a, b)	_mm256_div_ps(a, b)
#define v_fma(a, b, c)	_mm256_fmadd_ps(a, b, c)
#define v_fms(a, b, c)	_mm256_fmsub_ps(a, b, c)
#define v_max(a, b)	_mm256_max_ps(a, b)
#define v_min(a, b)	_mm256_min_ps(a, b)

INL float v_sum(vf v)
{
	return sum256(v);
}

INL vf v_bf16(const void *p)
{
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load16(p)), 16));
}

INL vf v_f16(const void *p)
{
	return _mm256_cvtph_ps(load16(p));
}

INL vf v_f16_all(const void *p)
{
	return _mm256_cvtph_ps(_mm_set1_epi16((short)penstock_get_u16(p)));
}

INL vf v_e4m3(const void *p)
{
	__m256i v = e4m3_to_f16(_mm_loadl_epi64(p));

	return v_mul(_mm256_cvtph_ps(_mm256_castsi256_si128(v)), v_set1(E4M3_RAISE));
}

INL void e4m3_unit(const uint8_t *p, vf *w)
{
	__m256i v;
	int i;

#pragma GCC unroll 2
	for (i = 0; i < 4; i += 2) {
		v = e4m3_to_f16(load16(p + 8 * i));
		w[i] = _mm256_cvtph_ps(_mm256_castsi256_si128(v));
		w[i + 1] = _mm256_cvtph_ps(_mm256_extracti128_si256(v, 1));
	}
}

INL vf v_i8(const void *p)
{
	return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p)));
}

INL vf v_even_f32(const void *p)
{
	vf v = _mm256_shuffle_ps(v_load(p), v_load((const uint8_t *)p + 32), 0x88);

	return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(v), 0xd8));
}

INL vf v_even_bf16(const void *p)
{
	return _mm256_castsi256_ps(_mm256_slli_epi32(load32(p), 16));
}

INL vf v_even_f16(const void *p)
{
	__m256i v = _mm256_and_si256(load32(p), _mm256_set1_epi32(0xffff));

	v = _mm256_permute4x64_epi64(_mm256_packus_epi32(v, v), 0xd8);
	return _mm256_cvtph_ps(_mm256_castsi256_si128(v));
}

INL vf v_even_e4m3(const void *p)
{
	__m128i v = _mm_and_si128(load16(p), _mm_set1_epi16(0xff));

	v = _mm256_castsi256_si128(e4m3_to_f16(_mm_packus_epi16(v, v)));
	return v_mul(_mm256_cvtph_ps(v), v_set1(E4M3_RAISE));
}

INL vf v_scale2(vf p, vf n)
{
	vi i = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(i, 1), bias = _mm256_set1_epi32(127);
	vi rest = _mm256_sub_epi32(i, half);

	/* in two steps, so that neither power leaves the range of normal floats */
	p = v_mul(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23)));
	return v_mul(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23)));
}

INL vf v_round(vf x)
{
	return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

INL void i8_unit(__m256i b, vf *w)
{
	__m128i lo = _mm256_castsi256_si128(b), hi = _mm256_extracti128_si256(b, 1);

	w[0] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(lo));
	w[1] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(lo, 8)));
	w[2] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(hi));
	w[3] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(hi, 8)));
}

#endif

INL vf v_f32(const void *p)
{
	return v_load(p);
}

/* e^x to about 2 ulp: x = n ln 2 + r, and e^r as a polynomial; a NaN stays one */
INL vf v_exp(vf x)
{
	vf n, r, p;

	x = v_min(v_set1(100.0f), v_max(v_set1(-120.0f), x));
	n = v_round(v_mul(x, v_set1(1.44269504f)));
	r = v_fma(n, v_set1(-0.693359375f), x);
	r = v_fma(n, v_set1(2.12194440e-4f), r);
	p = v_fma(v_set1(1.9875691500e-4f), r, v_set1(1.3981999507e-3f));
	p = v_fma(p, r, v_set1(8.3334519073e-3f));
	p = v_fma(p, r, v_set1(4.1665795894e-2f));
	p = v_fma(p, r, v_set1(1.6666665459e-1f));
	p = v_fma(p, r, v_set1(5.0000001201e-1f));
	p = v_add(v_fma(v_mul(r, r), p, r), v_set1(1.0f));
	return v_scale2(p, n);
}

/* @n (< VW) floats at @p, the other lanes @fill */
INL vf v_load_part(const float *p, size_t n, float fill)
{
	float buf[VW];
	size_t i;

	for (i = 0; i < VW; i++)
		buf[i] = i < n ? p[i] : fill;
	return v_load(buf);
}

INL void v_store_part(float *p, vf v, size_t n)
{
	float buf[VW];

	v_store(buf, v);
	memcpy(p, buf, n * sizeof(float));
}

#endif
