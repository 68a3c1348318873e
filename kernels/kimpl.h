/* SPDX-License-Identifier: MIT */
/*
 * What the files of kernels/ share: the table of functions that an instruction
 * set provides, and element conversions. The entry points (matmul.c, expert.c,
 * around.c) cut work into pieces for the pool; the table's functions do a piece.
 *
 * Invariant: what a table's function writes for a row and a token depends on
 * that row and that token only, never on the limits of the piece or on the
 * other tokens, so that the cut is free.
 */
#ifndef PENSTOCK_KIMPL_H
#define PENSTOCK_KIMPL_H

#include <stdbool.h>
#include <string.h>
#include <kabi.h>

/* how the activations of a multiplication are held */
enum penstock_k_form {
	PENSTOCK_K_FORM_F32 = 0,
	PENSTOCK_K_FORM_BF16,	/* bfloat16, rounded to nearest even */
	PENSTOCK_K_FORM_Q8,	/* struct penstock_k_q8 a 32 columns */
};

/* 32 activations as signed bytes times a scale; a block with an infinity or a NaN has a NaN scale */
struct penstock_k_q8 {
	float d;
	int8_t q[32];
};

/*
 * Activations: @x always valid; @q is the same in @form, rows @ldq bytes apart.
 */
struct penstock_k_in {
	const float *x;
	size_t ldx;
	const uint8_t *q;
	size_t ldq;
	enum penstock_k_form form;
};

struct penstock_k_ops {
	const char *name;
	/* the form that @m multiplies with in fast mode */
	enum penstock_k_form (*form)(const struct penstock_k_mat *m);
	/* @n floats to @form (not F32) */
	void (*convert)(enum penstock_k_form form, const float *x, size_t n, uint8_t *out);
	/* y[t * ldy + r] for r in [begin, end) */
	void (*rows)(const struct penstock_k_mat *m, const struct penstock_k_in *in, size_t nr_tokens,
		     size_t begin, size_t end, float *y, size_t ldy);
	/*
	 * h[t * ldh + r] = act(gate, up) for r in [begin, end); @h has room for
	 * nr_tokens rows, @tmp (same shape) is scratch.
	 */
	void (*gate_up)(const struct penstock_k_expert *e, const struct penstock_k_in *in, size_t nr_tokens,
			size_t begin, size_t end, float *h, float *tmp, size_t ldh);
	/* columns [begin, end) of one token; @w NULL = 1 */
	void (*combine)(const float *y, size_t ldy, const float *w, size_t k, size_t begin, size_t end,
			float *out);
	void (*rmsnorm)(const float *x, const float *w, float eps, size_t n, float *y);
	/* query heads [begin, end) */
	void (*attn)(const struct penstock_k_attn *a, size_t begin, size_t end);
};

/** penstock_pool_ops() - the table that a pool computes with */
const struct penstock_k_ops *penstock_pool_ops(const struct penstock_pool *pool);
/** penstock_k_form_bytes() - bytes of @n activations in @form, whole 64-byte lines; 0 for F32 */
size_t penstock_k_form_bytes(enum penstock_k_form form, size_t n);
/** penstock_k_grain() - least rows of a piece of @m's multiplication */
size_t penstock_k_grain(const struct penstock_k_mat *m, size_t nr_tokens);

extern const struct penstock_k_ops penstock_k_ops_ref;

/* plain (one element a block, any strides) as opposed to packed rows */
static inline bool penstock_k_plain(uint32_t dtype)
{
	return penstock_dtype_info(dtype)->elems == 1;
}

/** penstock_ref_dequant() - columns [c0, c0 + n) of @row; packed types: any c0 and n */
void penstock_ref_dequant(const struct penstock_k_mat *m, size_t row, size_t c0, size_t n, double *out);
/** penstock_ref_bias() - the bias of @row, 0 without one */
double penstock_ref_bias(const struct penstock_k_mat *m, size_t row);
/** penstock_ref_scale() - the separate scale of an element, 1 without one */
double penstock_ref_scale(const struct penstock_k_mat *m, size_t row, size_t col);

/* ---- elements ---- */

static inline uint16_t penstock_get_u16(const void *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint32_t penstock_get_u32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline float penstock_bits_f32(uint32_t bits)
{
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

static inline float penstock_bf16_f32(uint16_t v)
{
	return penstock_bits_f32((uint32_t)v << 16);
}

static inline float penstock_f16_f32(uint16_t v)
{
	uint32_t sign = (uint32_t)(v & 0x8000) << 16, exp = (v >> 10) & 31, man = v & 0x3ff;
	float f;

	if (exp == 31)
		return penstock_bits_f32(sign | 0x7f800000 | man << 13);
	if (exp)
		return penstock_bits_f32(sign | (exp + 112) << 23 | man << 13);
	f = (float)man * 0x1p-24f;
	return sign ? -f : f;
}

/* power of two; the codes 255, the format's NaN, and 0, a subnormal float, have a mantissa bit set */
static inline float penstock_e8m0_f32(uint8_t v)
{
	return penstock_bits_f32((uint32_t)v << 23 | (uint32_t)((uint8_t)(v + 1) < 2) << 22);
}

static inline float penstock_e4m3_f32(uint8_t v)
{
	uint32_t sign = (uint32_t)(v & 0x80) << 24, exp = (v >> 3) & 15, man = v & 7;
	float f;

	if ((v & 0x7f) == 0x7f)
		return penstock_bits_f32(sign | 0x7fc00000);
	if (exp)
		return penstock_bits_f32(sign | (exp + 120) << 23 | man << 20);
	f = (float)man * 0x1p-9f;
	return sign ? -f : f;
}

/* one element of a plain type or a scale */
static inline float penstock_elem_f32(uint32_t dtype, const void *p)
{
	switch (dtype) {
	case PENSTOCK_DTYPE_F32:
		return penstock_bits_f32(penstock_get_u32(p));
	case PENSTOCK_DTYPE_F16:
		return penstock_f16_f32(penstock_get_u16(p));
	case PENSTOCK_DTYPE_BF16:
		return penstock_bf16_f32(penstock_get_u16(p));
	case PENSTOCK_DTYPE_F8_E4M3:
		return penstock_e4m3_f32(*(const uint8_t *)p);
	case PENSTOCK_DTYPE_F8_E8M0:
		return penstock_e8m0_f32(*(const uint8_t *)p);
	default:
		return 1.0f;
	}
}

/* the eight scales and minima of a Q4_K or Q5_K block, from its 12 bytes of 6-bit fields */
static inline void penstock_k4_scales(const uint8_t *q, uint8_t *sc, uint8_t *mn)
{
	int j;

	for (j = 0; j < 4; j++) {
		sc[j] = q[j] & 63;
		mn[j] = q[j + 4] & 63;
		sc[j + 4] = (q[j + 8] & 15) | (q[j] >> 6) << 4;
		mn[j + 4] = q[j + 8] >> 4 | (q[j + 4] >> 6) << 4;
	}
}

#endif
