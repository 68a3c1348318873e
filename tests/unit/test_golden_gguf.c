// SPDX-License-Identifier: MIT
/*
 * GGUF blocks: a row dequantised here holds the floats that the `gguf` library
 * reads in the same bytes, bit for bit; and a product with the matrix is the
 * sum over those floats.
 */
#include <math.h>
#include <kabi.h>
#include "golden.h"

#define ROWS 2
#define COLS 512

static void load(const char *type, uint32_t dtype, struct penstock_k_mat *mat, float **want)
{
	const struct penstock_dtype_info *info = penstock_dtype_info(dtype);
	struct golden g = { 0 };
	char path[GOLDEN_PATH_MAX], name[32];
	size_t len, row;
	void *data;

	ASSERT_TRUE(info != NULL);
	EXPECT_STREQ(info->name, type);
	golden_root(path, sizeof(path));
	golden_join(g.dir, sizeof(g.dir), path, "gguf/blocks");
	snprintf(name, sizeof(name), "%s.bin", type);
	golden_join(path, sizeof(path), g.dir, name);
	data = golden_read(path, &len);
	row = COLS / info->elems * info->bytes;
	ASSERT_EQ(row * ROWS, len);
	*mat = (struct penstock_k_mat){
		.dtype = dtype, .rows = ROWS, .cols = COLS, .data = data, .row_stride = row,
		.col_stride = info->elems == 1 ? info->bytes : 0,
	};
	snprintf(name, sizeof(name), "%s.f32", type);
	*want = golden_floats(&g, name, ROWS * COLS);
}

static void check(const char *type, uint32_t dtype)
{
	struct penstock_k_mat mat;
	float got[COLS], *want;
	size_t r, i, wrong = 0;

	load(type, dtype, &mat, &want);
	ASSERT_EQ(0, penstock_k_mat_check(&mat));
	for (r = 0; r < ROWS; r++) {
		ASSERT_EQ(0, penstock_k_dequant_row(&mat, r, got));
		for (i = 0; i < COLS; i++) {
			/* -0 and 0 are one value */
			if (got[i] == want[r * COLS + i])
				continue;
			if (!wrong++)
				TEST_FAIL_(0, "%s row %zu column %zu: %.9g, not %.9g", type, r, i,
					   got[i], want[r * COLS + i]);
		}
	}
	EXPECT_EQ(0u, wrong);
	free((void *)mat.data);
	free(want);
}

TEST(dequant_f32) { check("F32", PENSTOCK_DTYPE_F32); }
TEST(dequant_f16) { check("F16", PENSTOCK_DTYPE_F16); }
TEST(dequant_bf16) { check("BF16", PENSTOCK_DTYPE_BF16); }
TEST(dequant_q8_0) { check("Q8_0", PENSTOCK_DTYPE_Q8_0); }
TEST(dequant_q4_0) { check("Q4_0", PENSTOCK_DTYPE_Q4_0); }
TEST(dequant_q5_0) { check("Q5_0", PENSTOCK_DTYPE_Q5_0); }
TEST(dequant_q4_k) { check("Q4_K", PENSTOCK_DTYPE_Q4_K); }
TEST(dequant_q5_k) { check("Q5_K", PENSTOCK_DTYPE_Q5_K); }
TEST(dequant_q6_k) { check("Q6_K", PENSTOCK_DTYPE_Q6_K); }
TEST(dequant_mxfp4) { check("MXFP4", PENSTOCK_DTYPE_MXFP4); }

/* Products with the same blocks, in each instruction set, against a sum in double over the golden values. */
TEST(matmul_sums_the_golden_values)
{
	static const struct { const char *type; uint32_t dtype; } types[] = {
		{ "F32", PENSTOCK_DTYPE_F32 }, { "F16", PENSTOCK_DTYPE_F16 }, { "BF16", PENSTOCK_DTYPE_BF16 },
		{ "Q8_0", PENSTOCK_DTYPE_Q8_0 }, { "Q4_0", PENSTOCK_DTYPE_Q4_0 }, { "Q5_0", PENSTOCK_DTYPE_Q5_0 },
		{ "Q4_K", PENSTOCK_DTYPE_Q4_K }, { "Q5_K", PENSTOCK_DTYPE_Q5_K }, { "Q6_K", PENSTOCK_DTYPE_Q6_K },
		{ "MXFP4", PENSTOCK_DTYPE_MXFP4 },
	};
	static const int isas[] = { PENSTOCK_ISA_REF, PENSTOCK_ISA_AUTO };
	struct penstock_pool *pool;
	float x[3 * COLS], y[3 * ROWS], *want;
	struct penstock_k_mat mat;
	size_t i, k, t, r, c;

	for (i = 0; i < 3 * COLS; i++)
		x[i] = sinf((float)(i * i % 997));
	for (k = 0; k < 2; k++) {
		ASSERT_EQ(0, penstock_pool_create(2, isas[k], 0, &pool));
		for (i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
			load(types[i].type, types[i].dtype, &mat, &want);
			ASSERT_EQ(0, penstock_k_matmul(pool, &mat, x, COLS, 3, y, ROWS));
			for (t = 0; t < 3; t++) {
				for (r = 0; r < ROWS; r++) {
					double sum = 0, size = 0;

					for (c = 0; c < COLS; c++) {
						sum += (double)want[r * COLS + c] * x[t * COLS + c];
						size += fabs((double)want[r * COLS + c] * x[t * COLS + c]);
					}
					if (!(fabs(y[t * ROWS + r] - sum) <= 2e-6 * size))
						TEST_FAIL_(0, "%s %s token %zu row %zu: %.9g, not %.9g",
							   penstock_pool_isa_name(pool), types[i].type, t, r,
							   y[t * ROWS + r], sum);
				}
			}
			free((void *)mat.data);
			free(want);
		}
		penstock_pool_destroy(pool);
	}
}

TEST_HARNESS_MAIN
