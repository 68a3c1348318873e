// SPDX-License-Identifier: MIT
/*
 * What each stored element means, written for reading. Everything else is
 * compared with this file.
 */
#include "../kimpl.h"

static const float e2m1[16] = { 0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6 };

/* element @i of a block of the type */
static double q4_0(const uint8_t *b, size_t i)
{
	const uint8_t *qs = b + 2;
	int q = i < 16 ? qs[i] & 15 : qs[i - 16] >> 4;

	return (double)penstock_f16_f32(penstock_get_u16(b)) * (q - 8);
}

static double q5_0(const uint8_t *b, size_t i)
{
	const uint8_t *qs = b + 6;
	int q = i < 16 ? qs[i] & 15 : qs[i - 16] >> 4;

	q |= ((penstock_get_u32(b + 2) >> i) & 1) << 4;
	return (double)penstock_f16_f32(penstock_get_u16(b)) * (q - 16);
}

static double q8_0(const uint8_t *b, size_t i)
{
	return (double)penstock_f16_f32(penstock_get_u16(b)) * (int8_t)b[2 + i];
}

static double mxfp4(const uint8_t *b, size_t i)
{
	const uint8_t *qs = b + 1;
	int q = i < 16 ? qs[i] & 15 : qs[i - 16] >> 4;

	return (double)penstock_e8m0_f32(b[0]) * e2m1[q];
}

/* Q4_K: d, dmin, 12 bytes of scales, 128 of nibbles; Q5_K: 32 bytes of fifth bits before the nibbles */
static double q45_k(const uint8_t *b, size_t i, bool five)
{
	double d = penstock_f16_f32(penstock_get_u16(b)), dmin = penstock_f16_f32(penstock_get_u16(b + 2));
	const uint8_t *qh = b + 16, *qs = five ? b + 48 : b + 16;
	size_t j = i / 32, l = i % 32;
	uint8_t sc[8], mn[8];
	int q;

	penstock_k4_scales(b + 4, sc, mn);
	q = j & 1 ? qs[j / 2 * 32 + l] >> 4 : qs[j / 2 * 32 + l] & 15;
	if (five)
		q |= ((qh[l] >> j) & 1) << 4;
	return d * sc[j] * q - dmin * mn[j];
}

/* Q6_K: 128 bytes of low nibbles, 64 of upper bit pairs, 16 signed scales, d */
static double q6_k(const uint8_t *b, size_t i)
{
	const uint8_t *ql = b, *qh = b + 128, *sc = b + 192;
	size_t half = i / 128, k = i % 128 / 32, l = i % 32;
	int low, high;

	low = ql[64 * half + 32 * (k & 1) + l] >> (k >= 2 ? 4 : 0) & 15;
	high = qh[32 * half + l] >> (2 * k) & 3;
	return (double)penstock_f16_f32(penstock_get_u16(b + 208)) * (int8_t)sc[8 * half + 2 * k + l / 16] *
	       ((low | high << 4) - 32);
}

static double block_elem(uint32_t dtype, const uint8_t *b, size_t i)
{
	switch (dtype) {
	case PENSTOCK_DTYPE_Q4_0:
		return q4_0(b, i);
	case PENSTOCK_DTYPE_Q5_0:
		return q5_0(b, i);
	case PENSTOCK_DTYPE_Q8_0:
		return q8_0(b, i);
	case PENSTOCK_DTYPE_MXFP4:
		return mxfp4(b, i);
	case PENSTOCK_DTYPE_Q4_K:
		return q45_k(b, i, false);
	case PENSTOCK_DTYPE_Q5_K:
		return q45_k(b, i, true);
	case PENSTOCK_DTYPE_Q6_K:
		return q6_k(b, i);
	default:
		/* F4 and INT4: two a byte, the even column low */
		i = i & 1 ? *b >> 4 : *b & 15;
		return dtype == PENSTOCK_DTYPE_F4 ? (double)e2m1[i] : (double)i - 8;
	}
}

double penstock_ref_scale(const struct penstock_k_mat *m, size_t row, size_t col)
{
	const uint8_t *s = m->scale;

	if (m->scale_dtype == PENSTOCK_DTYPE_NONE)
		return 1;
	s += row / m->scale_rows * m->scale_row_stride + col / m->scale_cols * m->scale_col_stride;
	return penstock_elem_f32(m->scale_dtype, s);
}

double penstock_ref_bias(const struct penstock_k_mat *m, size_t row)
{
	if (!m->bias)
		return 0;
	return penstock_elem_f32(m->bias_dtype, (const uint8_t *)m->bias + row * m->bias_stride);
}

void penstock_ref_dequant(const struct penstock_k_mat *m, size_t row, size_t c0, size_t n, double *out)
{
	const struct penstock_dtype_info *info = penstock_dtype_info(m->dtype);
	const uint8_t *p = (const uint8_t *)m->data + row * m->row_stride;
	size_t c, i;

	for (i = 0; i < n; i++) {
		c = c0 + i;
		if (info->elems == 1)
			out[i] = penstock_elem_f32(m->dtype, p + c * m->col_stride);
		else
			out[i] = block_elem(m->dtype, p + c / info->elems * info->bytes, c % info->elems);
		if (m->scale_dtype != PENSTOCK_DTYPE_NONE)
			out[i] *= penstock_ref_scale(m, row, c);
	}
}
