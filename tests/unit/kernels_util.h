/* SPDX-License-Identifier: MIT */
/*
 * Random matrices of every type and layout for the tests of the kernels, and the
 * one table of tolerances.
 *
 * An output y = sum of w * x is compared by |y - ref| <= tolerance * sum |w * x|
 * (+ the bias): rounding errors are relative to the terms, not to a result that
 * may cancel.
 */
#ifndef PENSTOCK_TESTS_KERNELS_UTIL_H
#define PENSTOCK_TESTS_KERNELS_UTIL_H

#include <kabi.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct tolerance {
	uint32_t dtype;
	double exact;	/* activations in float */
	double fast;	/* PENSTOCK_POOL_F_FAST, relative to sum |w| * max |x| */
};

/*
 * float sums of up to 1000 terms: a few 2^-24 a term chain. Fast: bfloat16 rounds
 * an activation by up to 2^-9, int8 by up to 1/254 of the largest of its block.
 */
static const struct tolerance tolerances[] = {
	{ PENSTOCK_DTYPE_F32, 1e-6, 1e-6 },
	{ PENSTOCK_DTYPE_F16, 1e-6, 1e-6 },
	{ PENSTOCK_DTYPE_BF16, 1e-6, 2e-3 },
	{ PENSTOCK_DTYPE_F8_E4M3, 1e-6, 1e-6 },
	{ PENSTOCK_DTYPE_F4, 1e-6, 1e-6 },
	{ PENSTOCK_DTYPE_INT4, 1e-6, 1e-6 },
	{ PENSTOCK_DTYPE_Q4_0, 1e-6, 4e-3 },
	{ PENSTOCK_DTYPE_Q5_0, 1e-6, 1e-6 },
	{ PENSTOCK_DTYPE_Q8_0, 1e-6, 4e-3 },
	{ PENSTOCK_DTYPE_Q4_K, 1e-6, 1e-6 },
	{ PENSTOCK_DTYPE_Q5_K, 1e-6, 1e-6 },
	{ PENSTOCK_DTYPE_Q6_K, 1e-6, 1e-6 },
	{ PENSTOCK_DTYPE_MXFP4, 1e-6, 1e-6 },
};
#define NR_DTYPES (sizeof(tolerances) / sizeof(tolerances[0]))

static uint64_t rnd_state = 88172645463325252ull;

static inline uint32_t rnd(void)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	rnd_state ^= rnd_state << 17;
	return (uint32_t)(rnd_state >> 16);
}

/* uniform in [-1, 1) */
static inline float rnd_f(void)
{
	return (float)((int32_t)rnd()) * 0x1p-31f;
}

static inline float *rnd_floats(size_t n)
{
	float *x = malloc((n ? n : 1) * sizeof(float));
	size_t i;

	for (i = 0; i < n; i++)
		x[i] = rnd_f();
	return x;
}

static inline uint16_t to_bf16(float f)
{
	uint32_t u;

	memcpy(&u, &f, 4);
	return (uint16_t)(u >> 16);
}

/* a float of moderate size as half precision, truncated */
static inline uint16_t to_f16(float f)
{
	uint32_t u, exp;

	memcpy(&u, &f, 4);
	exp = (u >> 23 & 255);
	if (exp < 113 || exp > 142)
		return (uint16_t)(u >> 16 & 0x8000);
	return (uint16_t)((u >> 16 & 0x8000) | (exp - 112) << 10 | (u >> 13 & 0x3ff));
}

static inline size_t elem_bytes(uint32_t dtype)
{
	return penstock_dtype_info(dtype)->bytes;
}

static inline bool plain(uint32_t dtype)
{
	return penstock_dtype_info(dtype)->elems == 1;
}

/* one random element of a plain type or a scale, positive for scales */
static inline void put_elem(uint32_t dtype, void *p, float f)
{
	uint16_t h;

	switch (dtype) {
	case PENSTOCK_DTYPE_F32:
		memcpy(p, &f, 4);
		break;
	case PENSTOCK_DTYPE_F16:
		h = to_f16(f);
		memcpy(p, &h, 2);
		break;
	case PENSTOCK_DTYPE_BF16:
		h = to_bf16(f);
		memcpy(p, &h, 2);
		break;
	case PENSTOCK_DTYPE_F8_E8M0:
		*(uint8_t *)p = (uint8_t)(120 + rnd() % 8);
		break;
	default:
		/* e4m3: any code but NaN */
		do
			*(uint8_t *)p = (uint8_t)rnd();
		while ((*(uint8_t *)p & 0x7f) == 0x7f);
	}
}

/* a packed row: random bytes, then scales that are finite */
static inline void put_row(uint32_t dtype, uint8_t *p, size_t cols)
{
	const struct penstock_dtype_info *info = penstock_dtype_info(dtype);
	size_t i, b, nr = cols / info->elems;
	uint16_t d, m;

	for (i = 0; i < nr * info->bytes; i++)
		p[i] = (uint8_t)rnd();
	for (b = 0; b < nr; b++, p += info->bytes) {
		d = to_f16(rnd_f() * 0.1f);
		m = to_f16(rnd_f() * 0.1f);
		switch (dtype) {
		case PENSTOCK_DTYPE_Q4_K:
		case PENSTOCK_DTYPE_Q5_K:
			memcpy(p + 2, &m, 2);
			memcpy(p, &d, 2);
			break;
		case PENSTOCK_DTYPE_Q4_0:
		case PENSTOCK_DTYPE_Q5_0:
		case PENSTOCK_DTYPE_Q8_0:
			memcpy(p, &d, 2);
			break;
		case PENSTOCK_DTYPE_Q6_K:
			memcpy(p + 208, &d, 2);
			break;
		case PENSTOCK_DTYPE_MXFP4:
			*p = (uint8_t)(120 + rnd() % 8);
			break;
		}
	}
}

enum layout { ROWS, ROWS_PADDED, TRANSPOSED, INTERLEAVED, SCATTERED, NR_LAYOUTS };

struct shape {
	uint32_t dtype;
	uint32_t rows, cols;
	enum layout layout;
	uint32_t scale_dtype, scale_rows, scale_cols;
	uint32_t bias_dtype;	/* NONE without */
	size_t misalign;	/* bytes added to every pointer */
};

/* a matrix and the memory behind it, exactly as long as it must be */
struct mat {
	struct penstock_k_mat m;
	void *data, *scale, *bias;
};

static inline void mat_free(struct mat *a)
{
	free(a->data);
	free(a->scale);
	free(a->bias);
}

static inline void mat_strides(const struct shape *s, struct penstock_k_mat *m)
{
	const struct penstock_dtype_info *info = penstock_dtype_info(s->dtype);
	uint64_t es = info->bytes;

	m->col_stride = plain(s->dtype) ? es : 0;
	m->row_stride = (uint64_t)s->cols / info->elems * es;
	switch (s->layout) {
	case ROWS_PADDED:
		m->row_stride += es * 3;
		break;
	case TRANSPOSED:
		m->row_stride = es;
		m->col_stride = es * s->rows;
		break;
	case INTERLEAVED:
		m->row_stride = 2 * es;
		m->col_stride = 2 * es * s->rows;
		break;
	case SCATTERED:
		m->row_stride = 3 * es;
		m->col_stride = 3 * es * s->rows + es;
		break;
	default:
		break;
	}
}

static inline void mat_scales(const struct shape *s, struct mat *a)
{
	size_t es, nr_rows, nr_cols, r, c;
	uint8_t *p;

	a->m.scale_dtype = s->scale_dtype;
	if (s->scale_dtype == PENSTOCK_DTYPE_NONE)
		return;
	es = elem_bytes(s->scale_dtype);
	nr_rows = (s->rows + s->scale_rows - 1) / s->scale_rows;
	nr_cols = (s->cols + s->scale_cols - 1) / s->scale_cols;
	a->m.scale_rows = s->scale_rows;
	a->m.scale_cols = s->scale_cols;
	a->m.scale_col_stride = es;
	a->m.scale_row_stride = es * nr_cols;
	a->scale = malloc(es * nr_rows * nr_cols + s->misalign);
	p = (uint8_t *)a->scale + s->misalign;
	a->m.scale = p;
	for (r = 0; r < nr_rows; r++)
		for (c = 0; c < nr_cols; c++)
			put_elem(s->scale_dtype, p + es * (r * nr_cols + c), 0.02f + fabsf(rnd_f()));
}

static inline struct mat mat_make(const struct shape *s)
{
	struct mat a = { .m = { .dtype = s->dtype, .rows = s->rows, .cols = s->cols } };
	const struct penstock_dtype_info *info = penstock_dtype_info(s->dtype);
	size_t row_bytes = (size_t)s->cols / info->elems * info->bytes, r, c, last;
	uint8_t *p;

	mat_strides(s, &a.m);
	last = (s->rows - 1) * a.m.row_stride;
	last += plain(s->dtype) ? (s->cols - 1) * a.m.col_stride + info->bytes : row_bytes;
	a.data = malloc(last + s->misalign);
	p = (uint8_t *)a.data + s->misalign;
	a.m.data = p;
	for (r = 0; r < last; r++)
		p[r] = 0x55;
	for (r = 0; r < s->rows; r++) {
		if (!plain(s->dtype))
			put_row(s->dtype, p + r * a.m.row_stride, s->cols);
		for (c = 0; plain(s->dtype) && c < s->cols; c++)
			put_elem(s->dtype, p + r * a.m.row_stride + c * a.m.col_stride, rnd_f());
	}
	mat_scales(s, &a);
	if (s->bias_dtype != PENSTOCK_DTYPE_NONE) {
		a.m.bias_dtype = s->bias_dtype;
		a.m.bias_stride = elem_bytes(s->bias_dtype) * 2;
		a.bias = malloc(a.m.bias_stride * s->rows + s->misalign);
		p = (uint8_t *)a.bias + s->misalign;
		a.m.bias = p;
		for (r = 0; r < s->rows; r++)
			put_elem(s->bias_dtype, p + r * a.m.bias_stride, rnd_f());
	}
	return a;
}

/* the scales that a type needs, 32 columns each; none for the others */
static inline void shape_scales(struct shape *s)
{
	s->scale_dtype = PENSTOCK_DTYPE_NONE;
	if (s->dtype == PENSTOCK_DTYPE_F4)
		s->scale_dtype = PENSTOCK_DTYPE_F8_E8M0;
	if (s->dtype == PENSTOCK_DTYPE_INT4)
		s->scale_dtype = PENSTOCK_DTYPE_BF16;
	s->scale_rows = 1;
	s->scale_cols = 32;
}

/* columns of a block, 1 for plain types */
static inline uint32_t col_unit(uint32_t dtype)
{
	uint32_t n = penstock_dtype_info(dtype)->elems;

	return n == 2 ? 32 : n;
}

#endif
