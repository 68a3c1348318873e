// SPDX-License-Identifier: MIT
/*
 * What stored bytes mean: vectors worked out by hand from the formats'
 * definitions, the table of types, and matrices that must be refused.
 */
#include "harness.h"
#include <math.h>
#include "kernels_util.h"

#define HALF_1		0x00, 0x3c	/* 1.0 in half precision, little endian */
#define HALF_2		0x00, 0x40
#define HALF_M05	0x00, 0xb8	/* -0.5 */

static struct penstock_k_mat row_of(uint32_t dtype, const void *data, uint32_t cols)
{
	struct penstock_k_mat m = { .dtype = dtype, .rows = 1, .cols = cols, .data = data };

	if (plain(dtype))
		m.col_stride = elem_bytes(dtype);
	return m;
}

static void expect_row(const struct penstock_k_mat *m, const float *want)
{
	static const int isas[] = { PENSTOCK_ISA_REF, PENSTOCK_ISA_AVX2, PENSTOCK_ISA_AVX512 };
	float got[256], x[256] = { 0 }, y;
	struct penstock_pool *pool;
	uint32_t c;
	int i;

	ASSERT_EQ(0, penstock_k_dequant_row(m, 0, got));
	for (c = 0; c < m->cols; c++)
		if (got[c] != want[c])
			TEST_FAIL_(0, "column %u: %g, not %g", c, got[c], want[c]);
	/* the same through every multiplication: one column at a time */
	for (i = 0; i < 3; i++) {
		if (penstock_pool_create(1, isas[i], 0, &pool))
			continue;
		for (c = 0; c < m->cols; c++) {
			x[c] = 1;
			ASSERT_EQ(0, penstock_k_matmul(pool, m, x, m->cols, 1, &y, 1));
			x[c] = 0;
			if (y != want[c])
				TEST_FAIL_(0, "%s, column %u: %g, not %g", penstock_pool_isa_name(pool), c, y, want[c]);
		}
		penstock_pool_destroy(pool);
	}
}

TEST(plain_types)
{
	static const uint8_t f16[] = { HALF_1, HALF_M05, 0x01, 0x00, 0xff, 0x7b, 0x00, 0x04, 0x01, 0x80 };
	static const float f16_want[] = { 1, -0.5f, 0x1p-24f, 65504, 0x1p-14f, -0x1p-24f };
	static const uint8_t bf16[] = { 0x80, 0x3f, 0x20, 0xc0, 0x01, 0x00 };
	static const float bf16_want[] = { 1, -2.5f, 0x1p-133f };
	struct penstock_k_mat m;

	m = row_of(PENSTOCK_DTYPE_F16, f16, 6);
	expect_row(&m, f16_want);
	m = row_of(PENSTOCK_DTYPE_BF16, bf16, 3);
	expect_row(&m, bf16_want);
}

/* all codes of e4m3fn: bias 7, no infinity, 0x7f and 0xff are NaN */
TEST(fp8_e4m3_all_codes)
{
	uint8_t codes[256] = { 0 };
	float got[256], x[256] = { 0 }, y, want;
	struct penstock_k_mat m = row_of(PENSTOCK_DTYPE_F8_E4M3, codes, 254);
	float row[254];
	int i, n = 0;

	for (i = 0; i < 256; i++) {
		if ((i & 0x7f) == 0x7f)
			continue;
		codes[n] = (uint8_t)i;
		want = i & 0x78 ? ldexpf(8 + (i & 7), (i >> 3 & 15) - 10) : ldexpf(i & 7, -9);
		row[n++] = i & 0x80 ? -want : want;
	}
	EXPECT_TRUE(row[1] == 0x1p-9f && row[0x38] == 1 && row[0x7e] == 448);
	expect_row(&m, row);
	memset(codes, 0x38, sizeof(codes));
	codes[3] = 0x7f;
	codes[40] = 0xff;
	ASSERT_EQ(0, penstock_k_dequant_row(&m, 0, got));
	EXPECT_TRUE(isnan(got[3]) && isnan(got[40]));
	/* an infinity in the NaN's place would show as one */
	for (i = 0; i < 254; i++)
		x[i] = 1;
	for (i = PENSTOCK_ISA_REF; i <= PENSTOCK_ISA_AVX512; i++) {
		struct penstock_pool *pool;

		if (penstock_pool_create(1, i, 0, &pool))
			continue;
		ASSERT_EQ(0, penstock_k_matmul(pool, &m, x, 254, 1, &y, 1));
		EXPECT_TRUE(isnan(y));
		penstock_pool_destroy(pool);
	}
}

TEST(mxfp4_pairs)
{
	/* low nibble first: byte 0x21 is codes 1, 2 = 0.5, 1 */
	static const uint8_t codes[16] = { 0x21, 0x43, 0x65, 0x07, 0xa9, 0xcb, 0xed, 0x8f };
	static const float unscaled[16] = { 0.5f, 1, 1.5f, 2, 3, 4, 6, 0, -0.5f, -1, -1.5f, -2, -3, -4, -6, -0.0f };
	static const uint8_t scale[] = { 128 };
	struct penstock_k_mat m = row_of(PENSTOCK_DTYPE_F4, codes, 32);
	float want[32] = { 0 };
	int i;

	m.scale_dtype = PENSTOCK_DTYPE_F8_E8M0;
	m.scale_rows = 1;
	m.scale_cols = 32;
	m.scale = scale;
	for (i = 0; i < 16; i++)
		want[i] = 2 * unscaled[i];
	expect_row(&m, want);
}

TEST(int4_pairs)
{
	static const uint8_t codes[16] = { 0x10, 0x8f, 0x7a, 0x88, 0x88, 0x88, 0x88, 0x88,
					   0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x98 };
	static const float scale[] = { 0.25f };
	struct penstock_k_mat m = row_of(PENSTOCK_DTYPE_INT4, codes, 32);
	float want[32] = { -2, -1.75f, 1.75f, 0, 0.5f, -0.25f };

	want[31] = 0.25f;
	m.scale_dtype = PENSTOCK_DTYPE_F32;
	m.scale_rows = 1;
	m.scale_cols = 32;
	m.scale = scale;
	expect_row(&m, want);
}

TEST(q8_0_block)
{
	uint8_t b[34] = { HALF_M05, 0x01, 0x80, 0x7f };
	float want[32] = { -0.5f, 64, -63.5f };

	b[33] = 0xff;
	want[31] = 0.5f;
	struct penstock_k_mat m = row_of(PENSTOCK_DTYPE_Q8_0, b, 32);

	expect_row(&m, want);
}

/* element j is the low nibble of byte j, element j + 16 the high one */
TEST(q4_0_block)
{
	uint8_t b[18] = { HALF_2, 0xf0, 0x19 };
	float want[32];
	struct penstock_k_mat m = row_of(PENSTOCK_DTYPE_Q4_0, b, 32);
	int i;

	for (i = 2; i < 16; i++)
		b[2 + i] = 0x88;
	for (i = 0; i < 32; i++)
		want[i] = 0;
	want[0] = -16;
	want[16] = 14;
	want[1] = 2;
	want[17] = -14;
	expect_row(&m, want);
}

TEST(q5_0_block)
{
	/* fifth bits: of elements 0 and 17 */
	uint8_t b[22] = { HALF_2, 0x01, 0x00, 0x02, 0x00, 0xf0, 0x19 };
	float want[32];
	struct penstock_k_mat m = row_of(PENSTOCK_DTYPE_Q5_0, b, 32);
	int i;

	for (i = 0; i < 32; i++)
		want[i] = -32;
	want[0] = 0;		/* 16 + 0 - 16 */
	want[16] = -2;		/* 15 - 16 */
	want[1] = -14;		/* 9 - 16 */
	want[17] = 2;		/* 16 + 1 - 16 */
	expect_row(&m, want);
}

TEST(mxfp4_block)
{
	uint8_t b[17] = { 126, 0x71, 0xf9 };
	float want[32] = { 0.25f, -0.25f };
	struct penstock_k_mat m = row_of(PENSTOCK_DTYPE_MXFP4, b, 32);

	want[16] = 3;
	want[17] = -3;
	expect_row(&m, want);
	/* the least scale is a subnormal float, the code 255 a NaN */
	b[0] = 0;
	want[0] = 0x1p-128f;
	want[1] = -0x1p-128f;
	want[16] = 6 * 0x1p-127f;
	want[17] = -6 * 0x1p-127f;
	expect_row(&m, want);
	b[0] = 255;
	ASSERT_EQ(0, penstock_k_dequant_row(&m, 0, want));
	EXPECT_TRUE(isnan(want[0]));
}

/*
 * 6-bit fields: scale j < 4 in byte j, minimum j < 4 in byte j + 4; for j >= 4 the
 * low four bits in byte j + 4 (scale low, minimum high nibble), the upper two in
 * the upper bits of bytes j - 4 and j.
 */
static void k4_fields(uint8_t *b)
{
	static const uint8_t scales[12] = {
		0x01, 0x3f, 0x40 | 0x02, 0x80 | 0x03,	/* scales 1, 63, 2, 3; upper bits of 4-7: 0, 0, 1, 2 */
		0x05, 0xc0, 0x06, 0x07,			/* minima 5, 0, 6, 7; upper bits: 0, 3, 0, 0 */
		0x21, 0x43, 0x65, 0x87,			/* low bits 1, 3, 5, 7; minima's 2, 4, 6, 8 */
	};

	memcpy(b + 4, scales, 12);
}

static const int k4_scale[8] = { 1, 63, 2, 3, 1, 3, 16 + 5, 32 + 7 };
static const int k4_min[8] = { 5, 0, 6, 7, 2, 48 + 4, 6, 8 };

TEST(q4_k_block)
{
	uint8_t b[144] = { HALF_2, HALF_1 };
	float want[256];
	struct penstock_k_mat m = row_of(PENSTOCK_DTYPE_Q4_K, b, 256);
	int i;

	k4_fields(b);
	for (i = 0; i < 256; i++)
		want[i] = (float)-k4_min[i / 32];
	for (i = 0; i < 8; i++) {
		b[16 + i / 2 * 32 + 7] = 0x11;
		want[i * 32 + 7] = (float)(2 * k4_scale[i] - k4_min[i]);
	}
	/* units 0 and 1 are the low and the high nibbles of the first 32 bytes, and so on */
	b[16 + 3] = 0xa5;
	want[3] = 2 * 1 * 5 - 5;
	want[32 + 3] = 2 * 63 * 10 - 0;
	b[16 + 96 + 31] = 0x3f;
	want[192 + 31] = 2 * 21 * 15 - 6;
	want[224 + 31] = 2 * 39 * 3 - 8;
	expect_row(&m, want);
}

TEST(q5_k_block)
{
	uint8_t b[176] = { HALF_2, HALF_M05 };
	float want[256];
	struct penstock_k_mat m = row_of(PENSTOCK_DTYPE_Q5_K, b, 256);
	int i;

	k4_fields(b);
	for (i = 0; i < 256; i++)
		want[i] = 0.5f * (float)k4_min[i / 32];
	/* bit j of byte l is the fifth bit of column l of unit j */
	b[16 + 3] = 0x02;
	b[16 + 31] = 0x80;
	b[48 + 3] = 0xa5;
	want[3] = 2 * 1 * 5 + 2.5f;
	want[32 + 3] = 2 * 63 * (16 + 10);
	want[224 + 31] = 2 * 39 * 16 + 4;
	expect_row(&m, want);
}

TEST(q6_k_block)
{
	uint8_t b[210] = { 0 };
	float want[256];
	struct penstock_k_mat m = row_of(PENSTOCK_DTYPE_Q6_K, b, 256);
	int i;

	b[208] = 0;
	b[209] = 0xb8;	/* -0.5 */
	for (i = 0; i < 16; i++)
		b[192 + i] = (uint8_t)(i - 8);
	for (i = 0; i < 256; i++)
		want[i] = -0.5f * (float)(i / 16 - 8) * -32;
	/* first half: byte 5 of the low nibbles is columns 5 and 69; upper pairs at bits 0, 2, 4, 6 of byte 5 */
	b[5] = 0xc3;
	b[128 + 5] = 0x80 | 0x20 | 0x04 | 0x03;
	want[5] = -0.5f * -8 * (0x33 - 32);
	want[32 + 5] = -0.5f * -6 * (0x10 - 32);
	want[64 + 5] = -0.5f * -4 * (0x2c - 32);
	want[96 + 5] = -0.5f * -2 * (0x20 - 32);
	/* second half: byte 64 + 32 + 17 is columns 128 + 32 + 17 and 128 + 96 + 17 */
	b[64 + 32 + 17] = 0x9f;
	want[128 + 32 + 17] = -0.5f * 3 * (15 - 32);
	want[128 + 96 + 17] = -0.5f * 7 * (9 - 32);
	expect_row(&m, want);
}

TEST(scales_by_block_and_by_channel)
{
	static const float scale[] = { 2, 4, 8, 16 };
	uint8_t data[3 * 40];
	struct penstock_k_mat m = { .dtype = PENSTOCK_DTYPE_F8_E4M3, .rows = 3, .cols = 40, .data = data };
	float row[40];

	memset(data, 0x38, sizeof(data));
	m.row_stride = 40;
	m.col_stride = 1;
	m.scale_dtype = PENSTOCK_DTYPE_F32;
	m.scale_rows = 2;
	m.scale_cols = 32;
	m.scale = scale;
	m.scale_row_stride = 8;
	m.scale_col_stride = 4;
	ASSERT_EQ(0, penstock_k_dequant_row(&m, 1, row));
	EXPECT_TRUE(row[0] == 2 && row[31] == 2 && row[32] == 4 && row[39] == 4);
	ASSERT_EQ(0, penstock_k_dequant_row(&m, 2, row));
	EXPECT_TRUE(row[0] == 8 && row[39] == 16);
	m.scale_rows = 1;
	m.scale_cols = 40;
	m.scale_row_stride = 4;
	ASSERT_EQ(0, penstock_k_dequant_row(&m, 2, row));
	EXPECT_TRUE(row[0] == 8 && row[39] == 8);
	EXPECT_EQ(-EINVAL, penstock_k_dequant_row(&m, 3, row));
}

/* sizes of ggml's block structures, and of the safetensors types */
TEST(table_of_types)
{
	static const struct { uint32_t dtype, elems, bytes; const char *name; } sizes[] = {
		{ PENSTOCK_DTYPE_F32, 1, 4, "F32" }, { PENSTOCK_DTYPE_F16, 1, 2, "F16" },
		{ PENSTOCK_DTYPE_BF16, 1, 2, "BF16" }, { PENSTOCK_DTYPE_F64, 1, 8, "F64" },
		{ PENSTOCK_DTYPE_F8_E4M3, 1, 1, "F8_E4M3" }, { PENSTOCK_DTYPE_F8_E5M2, 1, 1, "F8_E5M2" },
		{ PENSTOCK_DTYPE_F8_E8M0, 1, 1, "F8_E8M0" }, { PENSTOCK_DTYPE_F4, 2, 1, "F4" },
		{ PENSTOCK_DTYPE_F6_E2M3, 4, 3, "F6_E2M3" }, { PENSTOCK_DTYPE_F6_E3M2, 4, 3, "F6_E3M2" },
		{ PENSTOCK_DTYPE_I64, 1, 8, "I64" }, { PENSTOCK_DTYPE_I32, 1, 4, "I32" },
		{ PENSTOCK_DTYPE_I16, 1, 2, "I16" }, { PENSTOCK_DTYPE_I8, 1, 1, "I8" },
		{ PENSTOCK_DTYPE_U64, 1, 8, "U64" }, { PENSTOCK_DTYPE_U32, 1, 4, "U32" },
		{ PENSTOCK_DTYPE_U16, 1, 2, "U16" }, { PENSTOCK_DTYPE_U8, 1, 1, "U8" },
		{ PENSTOCK_DTYPE_BOOL, 1, 1, "BOOL" }, { PENSTOCK_DTYPE_C64, 1, 8, "C64" },
		{ PENSTOCK_DTYPE_INT4, 2, 1, "INT4" },
		{ PENSTOCK_DTYPE_Q4_0, 32, 18, "Q4_0" }, { PENSTOCK_DTYPE_Q4_1, 32, 20, "Q4_1" },
		{ PENSTOCK_DTYPE_Q5_0, 32, 22, "Q5_0" }, { PENSTOCK_DTYPE_Q5_1, 32, 24, "Q5_1" },
		{ PENSTOCK_DTYPE_Q8_0, 32, 34, "Q8_0" }, { PENSTOCK_DTYPE_Q8_1, 32, 36, "Q8_1" },
		{ PENSTOCK_DTYPE_Q2_K, 256, 84, "Q2_K" }, { PENSTOCK_DTYPE_Q3_K, 256, 110, "Q3_K" },
		{ PENSTOCK_DTYPE_Q4_K, 256, 144, "Q4_K" }, { PENSTOCK_DTYPE_Q5_K, 256, 176, "Q5_K" },
		{ PENSTOCK_DTYPE_Q6_K, 256, 210, "Q6_K" }, { PENSTOCK_DTYPE_Q8_K, 256, 292, "Q8_K" },
		{ PENSTOCK_DTYPE_IQ2_XXS, 256, 66, "IQ2_XXS" }, { PENSTOCK_DTYPE_IQ2_XS, 256, 74, "IQ2_XS" },
		{ PENSTOCK_DTYPE_IQ3_XXS, 256, 98, "IQ3_XXS" }, { PENSTOCK_DTYPE_IQ1_S, 256, 50, "IQ1_S" },
		{ PENSTOCK_DTYPE_IQ4_NL, 32, 18, "IQ4_NL" }, { PENSTOCK_DTYPE_IQ3_S, 256, 110, "IQ3_S" },
		{ PENSTOCK_DTYPE_IQ2_S, 256, 82, "IQ2_S" }, { PENSTOCK_DTYPE_IQ4_XS, 256, 136, "IQ4_XS" },
		{ PENSTOCK_DTYPE_IQ1_M, 256, 56, "IQ1_M" }, { PENSTOCK_DTYPE_TQ1_0, 256, 54, "TQ1_0" },
		{ PENSTOCK_DTYPE_TQ2_0, 256, 66, "TQ2_0" }, { PENSTOCK_DTYPE_MXFP4, 32, 17, "MXFP4" },
		{ PENSTOCK_DTYPE_NVFP4, 64, 36, "NVFP4" },
	};
	const struct penstock_dtype_info *info;
	uint32_t i, computes = 0;

	/* every value of the enum but NONE is above */
	EXPECT_EQ((size_t)PENSTOCK_DTYPE_COUNT - 1, sizeof(sizes) / sizeof(sizes[0]));
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		info = penstock_dtype_info(sizes[i].dtype);
		ASSERT_TRUE(info);
		EXPECT_EQ(sizes[i].elems, info->elems);
		EXPECT_EQ(sizes[i].bytes, info->bytes);
		EXPECT_STREQ(sizes[i].name, info->name);
		computes += (uint32_t)info->computes;
	}
	EXPECT_EQ((uint32_t)NR_DTYPES, computes);
	for (i = 0; i < NR_DTYPES; i++)
		EXPECT_EQ(1, penstock_dtype_info(tolerances[i].dtype)->computes);
	EXPECT_TRUE(!penstock_dtype_info(PENSTOCK_DTYPE_COUNT));
	EXPECT_TRUE(!penstock_dtype_info(UINT32_MAX));
}

/* ---- what is refused ---- */

static uint8_t bytes[64];

static struct penstock_k_mat good_plain(void)
{
	return (struct penstock_k_mat){ .dtype = PENSTOCK_DTYPE_BF16, .rows = 4, .cols = 4, .data = bytes,
					.row_stride = 8, .col_stride = 2 };
}

static struct penstock_k_mat good_packed(uint32_t dtype)
{
	struct penstock_k_mat m = { .dtype = dtype, .rows = 2, .cols = 32, .data = bytes, .row_stride = 18 };

	m.scale_dtype = dtype == PENSTOCK_DTYPE_F4 ? PENSTOCK_DTYPE_F8_E8M0 :
			dtype == PENSTOCK_DTYPE_INT4 ? PENSTOCK_DTYPE_BF16 : PENSTOCK_DTYPE_NONE;
	if (m.scale_dtype != PENSTOCK_DTYPE_NONE) {
		m.scale_rows = 1;
		m.scale_cols = 32;
		m.scale = bytes;
		m.scale_row_stride = 2;
	}
	return m;
}

#define REFUSED(code, change) do {				\
	struct penstock_k_mat m = good;				\
	float y[4], x[32] = { 0 };				\
								\
	change;							\
	EXPECT_EQ(code, penstock_k_mat_check(&m));		\
	EXPECT_EQ(code, penstock_k_matmul(pool, &m, x, 32, 1, y, 4)); \
	EXPECT_EQ(code, penstock_k_dequant_row(&m, 0, x));	\
} while (0)

TEST(malformed_plain_matrices_are_refused)
{
	struct penstock_k_mat good = good_plain();
	struct penstock_pool *pool;
	uint32_t i;

	ASSERT_EQ(0, penstock_pool_create(1, PENSTOCK_ISA_AUTO, 0, &pool));
	EXPECT_EQ(0, penstock_k_mat_check(&good));
	for (i = 0; i < PENSTOCK_DTYPE_COUNT; i++)
		if (!penstock_dtype_info(i)->computes)
			REFUSED(-EOPNOTSUPP, m.dtype = i);
	REFUSED(-EOPNOTSUPP, m.dtype = 12345);
	REFUSED(-EINVAL, m.rows = 0);
	REFUSED(-EINVAL, m.cols = 0);
	REFUSED(-EINVAL, m.data = NULL);
	REFUSED(-EINVAL, m.col_stride = 1);
	REFUSED(-EINVAL, m.col_stride = 0);
	REFUSED(-EINVAL, m.row_stride = 1);
	REFUSED(-EINVAL, m.row_stride = UINT64_MAX / 2);
	REFUSED(-EINVAL, m.col_stride = UINT64_MAX);
	REFUSED(-EINVAL, (m.bias = bytes, m.bias_dtype = PENSTOCK_DTYPE_F8_E4M3, m.bias_stride = 4));
	REFUSED(-EINVAL, (m.bias = bytes, m.bias_dtype = PENSTOCK_DTYPE_F32, m.bias_stride = 0));
	REFUSED(-EINVAL, (m.bias = bytes, m.bias_dtype = PENSTOCK_DTYPE_F32, m.bias_stride = UINT64_MAX / 2));
	/* scales with a type that has none */
	REFUSED(-EINVAL, (m.scale_dtype = PENSTOCK_DTYPE_F32, m.scale = bytes, m.scale_rows = 4, m.scale_cols = 4));
	penstock_pool_destroy(pool);
}

TEST(malformed_packed_matrices_are_refused)
{
	struct penstock_k_mat good = good_packed(PENSTOCK_DTYPE_Q4_0);
	struct penstock_pool *pool;

	ASSERT_EQ(0, penstock_pool_create(1, PENSTOCK_ISA_AUTO, 0, &pool));
	EXPECT_EQ(0, penstock_k_mat_check(&good));
	REFUSED(-EINVAL, m.cols = 33);
	REFUSED(-EINVAL, m.cols = 16);
	REFUSED(-EINVAL, m.col_stride = 1);
	REFUSED(-EINVAL, m.row_stride = 17);
	REFUSED(-EINVAL, (m.dtype = PENSTOCK_DTYPE_Q4_K, m.row_stride = 144));
	penstock_pool_destroy(pool);
}

TEST(malformed_scales_are_refused)
{
	struct penstock_k_mat good = good_packed(PENSTOCK_DTYPE_F4);
	struct penstock_pool *pool;

	ASSERT_EQ(0, penstock_pool_create(1, PENSTOCK_ISA_AUTO, 0, &pool));
	EXPECT_EQ(0, penstock_k_mat_check(&good));
	REFUSED(-EINVAL, m.scale_dtype = PENSTOCK_DTYPE_NONE);
	REFUSED(-EINVAL, m.scale_dtype = PENSTOCK_DTYPE_F32);
	REFUSED(-EINVAL, m.scale_cols = 16);
	REFUSED(-EINVAL, m.scale_cols = 0);
	REFUSED(-EINVAL, m.scale_rows = 2);
	REFUSED(-EINVAL, m.scale_rows = 0);
	REFUSED(-EINVAL, m.scale = NULL);
	REFUSED(-EINVAL, m.scale_row_stride = 0);
	REFUSED(-EINVAL, m.scale_row_stride = UINT64_MAX / 2 + 1);
	REFUSED(-EINVAL, m.cols = 34);
	good = good_packed(PENSTOCK_DTYPE_INT4);
	EXPECT_EQ(0, penstock_k_mat_check(&good));
	REFUSED(-EINVAL, m.scale_dtype = PENSTOCK_DTYPE_F8_E8M0);
	REFUSED(-EINVAL, m.scale_dtype = PENSTOCK_DTYPE_NONE);
	REFUSED(-EINVAL, m.scale_cols = 64);
	good = good_plain();
	good.dtype = PENSTOCK_DTYPE_F8_E4M3;
	good.scale_dtype = PENSTOCK_DTYPE_F32;
	good.scale_rows = good.scale_cols = 4;
	good.scale = bytes;
	EXPECT_EQ(0, penstock_k_mat_check(&good));
	REFUSED(-EINVAL, m.scale_cols = 2);
	REFUSED(-EINVAL, m.scale_dtype = PENSTOCK_DTYPE_U8);
	penstock_pool_destroy(pool);
}

TEST_HARNESS_MAIN
