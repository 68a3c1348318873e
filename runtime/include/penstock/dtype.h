/* SPDX-License-Identifier: MIT */
/*
 * Element types of checkpoint tensors: names, sizes, block shapes.
 *
 * A type is a block of `elems` elements stored in `bytes` bytes (1 and the
 * element size for plain types). Every type listed here has a known size, so
 * tensors of it can be listed, fetched and benchmarked; `computes` says
 * whether the kernels multiply with it.
 */
#ifndef PENSTOCK_DTYPE_H
#define PENSTOCK_DTYPE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

enum penstock_dtype {
	PENSTOCK_DTYPE_NONE = 0,
	/* plain types, safetensors names */
	PENSTOCK_DTYPE_F64,
	PENSTOCK_DTYPE_F32,
	PENSTOCK_DTYPE_F16,
	PENSTOCK_DTYPE_BF16,
	PENSTOCK_DTYPE_F8_E4M3,		/* e4m3fn: no infinity, S.1111.111 is NaN */
	PENSTOCK_DTYPE_F8_E5M2,
	PENSTOCK_DTYPE_F8_E8M0,		/* power-of-two scale, 2^(code - 127) */
	PENSTOCK_DTYPE_F4,		/* e2m1, two a byte, low nibble first */
	PENSTOCK_DTYPE_F6_E2M3,		/* four elements in three bytes */
	PENSTOCK_DTYPE_F6_E3M2,
	PENSTOCK_DTYPE_I64,
	PENSTOCK_DTYPE_I32,
	PENSTOCK_DTYPE_I16,
	PENSTOCK_DTYPE_I8,
	PENSTOCK_DTYPE_U64,
	PENSTOCK_DTYPE_U32,
	PENSTOCK_DTYPE_U16,
	PENSTOCK_DTYPE_U8,
	PENSTOCK_DTYPE_BOOL,
	PENSTOCK_DTYPE_C64,
	/* int4 in groups: unsigned nibbles biased by 8, low nibble first */
	PENSTOCK_DTYPE_INT4,
	/* GGUF block types, ggml names and layouts */
	PENSTOCK_DTYPE_Q4_0,
	PENSTOCK_DTYPE_Q4_1,
	PENSTOCK_DTYPE_Q5_0,
	PENSTOCK_DTYPE_Q5_1,
	PENSTOCK_DTYPE_Q8_0,
	PENSTOCK_DTYPE_Q8_1,
	PENSTOCK_DTYPE_Q2_K,
	PENSTOCK_DTYPE_Q3_K,
	PENSTOCK_DTYPE_Q4_K,
	PENSTOCK_DTYPE_Q5_K,
	PENSTOCK_DTYPE_Q6_K,
	PENSTOCK_DTYPE_Q8_K,
	PENSTOCK_DTYPE_IQ2_XXS,
	PENSTOCK_DTYPE_IQ2_XS,
	PENSTOCK_DTYPE_IQ3_XXS,
	PENSTOCK_DTYPE_IQ1_S,
	PENSTOCK_DTYPE_IQ4_NL,
	PENSTOCK_DTYPE_IQ3_S,
	PENSTOCK_DTYPE_IQ2_S,
	PENSTOCK_DTYPE_IQ4_XS,
	PENSTOCK_DTYPE_IQ1_M,
	PENSTOCK_DTYPE_TQ1_0,
	PENSTOCK_DTYPE_TQ2_0,
	PENSTOCK_DTYPE_MXFP4,		/* ggml block: 1 scale byte, 16 bytes of nibbles */
	PENSTOCK_DTYPE_NVFP4,
	PENSTOCK_DTYPE_COUNT
};

/**
 * struct penstock_dtype_info - what is known of an element type
 * @name: printable name, static storage ("BF16", "Q4_K")
 * @elems: elements a block
 * @bytes: bytes a block
 * @computes: 1 if the kernels multiply with it (alone or with separate scales)
 */
struct penstock_dtype_info {
	const char *name;
	uint32_t elems;
	uint32_t bytes;
	int computes;
};

/**
 * penstock_dtype_info() - look a type up
 * @dtype: enum penstock_dtype
 * Return: the entry (static storage), or NULL for a value outside the enum.
 */
const struct penstock_dtype_info *penstock_dtype_info(uint32_t dtype);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
