// SPDX-License-Identifier: MIT
/*
 * The table of element types. A block of `elems` elements takes `bytes` bytes;
 * the sizes of the GGUF types are those of ggml's block structures.
 */
#include <penstock/dtype.h>

#define PLAIN(type, size, comp)		[PENSTOCK_DTYPE_##type] = { #type, 1, size, comp }
#define BLOCK(type, n, size, comp)	[PENSTOCK_DTYPE_##type] = { #type, n, size, comp }

static const struct penstock_dtype_info dtypes[PENSTOCK_DTYPE_COUNT] = {
	[PENSTOCK_DTYPE_NONE] = { "none", 1, 0, 0 },
	PLAIN(F64, 8, 0),
	PLAIN(F32, 4, 1),
	PLAIN(F16, 2, 1),
	PLAIN(BF16, 2, 1),
	PLAIN(F8_E4M3, 1, 1),
	PLAIN(F8_E5M2, 1, 0),
	PLAIN(F8_E8M0, 1, 0),
	BLOCK(F4, 2, 1, 1),
	BLOCK(F6_E2M3, 4, 3, 0),
	BLOCK(F6_E3M2, 4, 3, 0),
	PLAIN(I64, 8, 0),
	PLAIN(I32, 4, 0),
	PLAIN(I16, 2, 0),
	PLAIN(I8, 1, 0),
	PLAIN(U64, 8, 0),
	PLAIN(U32, 4, 0),
	PLAIN(U16, 2, 0),
	PLAIN(U8, 1, 0),
	PLAIN(BOOL, 1, 0),
	PLAIN(C64, 8, 0),
	BLOCK(INT4, 2, 1, 1),
	BLOCK(Q4_0, 32, 18, 1),
	BLOCK(Q4_1, 32, 20, 0),
	BLOCK(Q5_0, 32, 22, 1),
	BLOCK(Q5_1, 32, 24, 0),
	BLOCK(Q8_0, 32, 34, 1),
	BLOCK(Q8_1, 32, 36, 0),
	BLOCK(Q2_K, 256, 84, 0),
	BLOCK(Q3_K, 256, 110, 0),
	BLOCK(Q4_K, 256, 144, 1),
	BLOCK(Q5_K, 256, 176, 1),
	BLOCK(Q6_K, 256, 210, 1),
	BLOCK(Q8_K, 256, 292, 0),
	BLOCK(IQ2_XXS, 256, 66, 0),
	BLOCK(IQ2_XS, 256, 74, 0),
	BLOCK(IQ3_XXS, 256, 98, 0),
	BLOCK(IQ1_S, 256, 50, 0),
	BLOCK(IQ4_NL, 32, 18, 0),
	BLOCK(IQ3_S, 256, 110, 0),
	BLOCK(IQ2_S, 256, 82, 0),
	BLOCK(IQ4_XS, 256, 136, 0),
	BLOCK(IQ1_M, 256, 56, 0),
	BLOCK(TQ1_0, 256, 54, 0),
	BLOCK(TQ2_0, 256, 66, 0),
	BLOCK(MXFP4, 32, 17, 1),
	BLOCK(NVFP4, 64, 36, 0),
};

const struct penstock_dtype_info *penstock_dtype_info(uint32_t dtype)
{
	return dtype < PENSTOCK_DTYPE_COUNT ? &dtypes[dtype] : NULL;
}
