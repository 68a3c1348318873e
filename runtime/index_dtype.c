// SPDX-License-Identifier: MIT
/* Names and numbers of element types in the two formats, and shapes for messages. */
#include <stdio.h>
#include <string.h>

#include "index_build.h"

static const struct {
	const char *name;
	uint32_t dtype;
} st_names[] = {
	{ "BF16", PENSTOCK_DTYPE_BF16 }, { "F32", PENSTOCK_DTYPE_F32 },
	{ "F16", PENSTOCK_DTYPE_F16 }, { "F64", PENSTOCK_DTYPE_F64 },
	{ "F8_E4M3", PENSTOCK_DTYPE_F8_E4M3 }, { "F8_E5M2", PENSTOCK_DTYPE_F8_E5M2 },
	{ "F8_E8M0", PENSTOCK_DTYPE_F8_E8M0 }, { "F4", PENSTOCK_DTYPE_F4 },
	{ "F6_E2M3", PENSTOCK_DTYPE_F6_E2M3 }, { "F6_E3M2", PENSTOCK_DTYPE_F6_E3M2 },
	{ "I64", PENSTOCK_DTYPE_I64 }, { "I32", PENSTOCK_DTYPE_I32 },
	{ "I16", PENSTOCK_DTYPE_I16 }, { "I8", PENSTOCK_DTYPE_I8 },
	{ "U64", PENSTOCK_DTYPE_U64 }, { "U32", PENSTOCK_DTYPE_U32 },
	{ "U16", PENSTOCK_DTYPE_U16 }, { "U8", PENSTOCK_DTYPE_U8 },
	{ "BOOL", PENSTOCK_DTYPE_BOOL }, { "C64", PENSTOCK_DTYPE_C64 },
};

/* Indexed by ggml's type number. 4 and 5 were Q4_2 and Q4_3, 31 to 33 and 36 to 38 repacked types: all removed. */
static const uint8_t ggml_types[] = {
	[0] = PENSTOCK_DTYPE_F32, [1] = PENSTOCK_DTYPE_F16, [2] = PENSTOCK_DTYPE_Q4_0, [3] = PENSTOCK_DTYPE_Q4_1,
	[6] = PENSTOCK_DTYPE_Q5_0, [7] = PENSTOCK_DTYPE_Q5_1, [8] = PENSTOCK_DTYPE_Q8_0, [9] = PENSTOCK_DTYPE_Q8_1,
	[10] = PENSTOCK_DTYPE_Q2_K, [11] = PENSTOCK_DTYPE_Q3_K, [12] = PENSTOCK_DTYPE_Q4_K,
	[13] = PENSTOCK_DTYPE_Q5_K, [14] = PENSTOCK_DTYPE_Q6_K, [15] = PENSTOCK_DTYPE_Q8_K,
	[16] = PENSTOCK_DTYPE_IQ2_XXS, [17] = PENSTOCK_DTYPE_IQ2_XS, [18] = PENSTOCK_DTYPE_IQ3_XXS,
	[19] = PENSTOCK_DTYPE_IQ1_S, [20] = PENSTOCK_DTYPE_IQ4_NL, [21] = PENSTOCK_DTYPE_IQ3_S,
	[22] = PENSTOCK_DTYPE_IQ2_S, [23] = PENSTOCK_DTYPE_IQ4_XS, [24] = PENSTOCK_DTYPE_I8,
	[25] = PENSTOCK_DTYPE_I16, [26] = PENSTOCK_DTYPE_I32, [27] = PENSTOCK_DTYPE_I64,
	[28] = PENSTOCK_DTYPE_F64, [29] = PENSTOCK_DTYPE_IQ1_M, [30] = PENSTOCK_DTYPE_BF16,
	[34] = PENSTOCK_DTYPE_TQ1_0, [35] = PENSTOCK_DTYPE_TQ2_0, [39] = PENSTOCK_DTYPE_MXFP4,
	[40] = PENSTOCK_DTYPE_NVFP4,
};

uint32_t penstock_index_dtype_st(const char *name, size_t len)
{
	size_t i;

	for (i = 0; i < PENSTOCK_ARRAY_SIZE(st_names); i++)
		if (strlen(st_names[i].name) == len && !memcmp(st_names[i].name, name, len))
			return st_names[i].dtype;
	return PENSTOCK_DTYPE_NONE;
}

uint32_t penstock_index_dtype_ggml(uint32_t type)
{
	return type < PENSTOCK_ARRAY_SIZE(ggml_types) ? ggml_types[type] : PENSTOCK_DTYPE_NONE;
}

const char *penstock_index_dtype_name(uint32_t dtype)
{
	const struct penstock_dtype_info *info = dtype ? penstock_dtype_info(dtype) : NULL;

	return info ? info->name : "unknown type";
}

int penstock_index_elems(const uint64_t *dims, uint32_t nr, uint64_t *elems)
{
	uint64_t n = 1;
	uint32_t i;

	for (i = 0; i < nr; i++)
		if (penstock_mul_overflows(n, dims[i], &n))
			return -EOVERFLOW;
	*elems = n;
	return 0;
}

const char *penstock_index_shape(const uint64_t *dims, uint32_t nr, char *buf, size_t len)
{
	size_t at = 0;
	uint32_t i;

	at += (size_t)snprintf(buf, len, "[");
	for (i = 0; i < nr && at < len; i++)
		at += (size_t)snprintf(buf + at, len - at, "%s%llu", i ? ", " : "", (unsigned long long)dims[i]);
	if (at < len)
		snprintf(buf + at, len - at, "]");
	return buf;
}
