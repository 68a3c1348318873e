// SPDX-License-Identifier: MIT
/*
 * Multiplication: every type, layout and instruction set against the reference,
 * by the tolerances of kernels_util.h; and the same bits with any number of
 * threads.
 */
#include "harness.h"
#include "kernels_util.h"

static struct penstock_pool *ref_pool;

static struct penstock_pool *pool_or_null(unsigned int threads, int isa, unsigned int flags)
{
	struct penstock_pool *pool;
	int rc = penstock_pool_create(threads, isa, flags, &pool);

	if (rc == -EOPNOTSUPP)
		return NULL;
	ASSERT_EQ(0, rc);
	return pool;
}

/* sum |w * x| of an output; @fast: sum |w| * max |x| */
static double weight_of(const struct penstock_k_mat *m, size_t row, const float *x, bool fast)
{
	float *w = malloc(m->cols * sizeof(float));
	double sum = 0, top = 0;
	size_t c;

	ASSERT_EQ(0, penstock_k_dequant_row(m, row, w));
	for (c = 0; c < m->cols; c++) {
		sum += fabs((double)w[c]) * (fast ? 1 : fabs((double)x[c]));
		top = fmax(top, fabs((double)x[c]));
	}
	free(w);
	return fast ? sum * top : sum;
}

static void compare(const struct mat *a, const char *what, const float *x, size_t ldx, size_t nt, const float *y,
		    const float *ref, size_t ldy, double tol, bool fast)
{
	double diff, bound;
	size_t t, r;

	for (t = 0; t < nt; t++) {
		for (r = 0; r < a->m.rows; r++) {
			diff = fabs((double)y[t * ldy + r] - ref[t * ldy + r]);
			if (diff <= tol * 1e-3)
				continue;
			bound = tol * (weight_of(&a->m, r, x + t * ldx, fast) + 1);
			if (!(diff <= bound)) {
				TEST_FAIL_(0, "%s %s %ux%u token %zu row %zu: %g, reference %g, allowed %g", what,
					   penstock_dtype_info(a->m.dtype)->name, a->m.rows, a->m.cols, t, r,
					   y[t * ldy + r], ref[t * ldy + r], bound);
				return;
			}
		}
	}
}

/* @pool against the reference; guards around and between the outputs stay as they were */
static void check_shape(struct penstock_pool *pool, const struct shape *s, size_t nt, double tol, bool fast)
{
	size_t ldx = s->cols + 5, ldy = s->rows + 3, i, touched = 0;
	struct mat a = mat_make(s);
	float *x = rnd_floats(nt * ldx), *y = malloc((nt * ldy + 2) * 4), *ref = malloc(nt * ldy * 4);

	for (i = 0; i < nt * ldy + 2; i++)
		y[i] = 12345;
	ASSERT_EQ(0, penstock_k_matmul(ref_pool, &a.m, x, ldx, nt, ref, ldy));
	ASSERT_EQ(0, penstock_k_matmul(pool, &a.m, x, ldx, nt, y + 1, ldy));
	compare(&a, penstock_pool_isa_name(pool), x, ldx, nt, y + 1, ref, ldy, tol, fast);
	for (i = 0; i < nt * ldy; i++)
		touched += i % ldy >= s->rows && y[1 + i] != 12345;
	EXPECT_EQ(0u, touched);
	EXPECT_TRUE(y[0] == 12345 && y[nt * ldy + 1] == 12345);
	mat_free(&a);
	free(x);
	free(y);
	free(ref);
}

static void check_layouts(struct penstock_pool *pool, const struct tolerance *tol, bool fast)
{
	static const uint32_t plain_cols[] = { 1, 7, 31, 32, 33, 64, 95, 130, 301 };
	static const uint32_t rows[] = { 1, 2, 3, 5, 16, 17, 33, 67 };
	static const uint32_t biases[] = { 0, 0, PENSTOCK_DTYPE_F32, PENSTOCK_DTYPE_BF16, PENSTOCK_DTYPE_F16 };
	struct shape s = { .dtype = tol->dtype };
	unsigned int i, layout;

	shape_scales(&s);
	for (layout = 0; layout < (plain(s.dtype) ? NR_LAYOUTS : TRANSPOSED); layout++) {
		for (i = 0; i < 36; i++) {
			s.layout = layout;
			s.rows = rows[rnd() % 8];
			s.cols = plain(s.dtype) ? plain_cols[i % 9] : col_unit(s.dtype) * (1 + i % 3);
			s.bias_dtype = biases[rnd() % 5];
			s.misalign = s.dtype == PENSTOCK_DTYPE_BF16 ? 2 * (rnd() % 8) : rnd() % 16;
			check_shape(pool, &s, 1 + i % 9, fast ? tol->fast : tol->exact, fast);
		}
	}
}

static void check_isa(int isa, unsigned int flags)
{
	struct penstock_pool *pool = pool_or_null(2, isa, flags);
	size_t i;

	if (!pool)
		SKIP("this CPU lacks it");
	ref_pool = pool_or_null(1, PENSTOCK_ISA_REF, 0);
	for (i = 0; i < NR_DTYPES; i++)
		check_layouts(pool, &tolerances[i], flags);
	penstock_pool_destroy(pool);
	penstock_pool_destroy(ref_pool);
}

TEST(avx2_agrees_with_the_reference)
{
	check_isa(PENSTOCK_ISA_AVX2, 0);
}

TEST(avx512_agrees_with_the_reference)
{
	check_isa(PENSTOCK_ISA_AVX512, 0);
}

TEST(avx2_fast_agrees_with_the_reference)
{
	check_isa(PENSTOCK_ISA_AVX2, PENSTOCK_POOL_F_FAST);
}

TEST(avx512_fast_agrees_with_the_reference)
{
	check_isa(PENSTOCK_ISA_AVX512, PENSTOCK_POOL_F_FAST);
}

/* more outputs than the transposed walk keeps at a time, more inputs than it takes in a block */
static void check_large(int isa)
{
	struct penstock_pool *pool = pool_or_null(2, isa, 0);
	struct shape s = { .rows = 1100, .cols = 141 };
	size_t i;

	if (!pool)
		return;
	for (i = 0; i < NR_DTYPES; i++) {
		s.dtype = tolerances[i].dtype;
		if (!plain(s.dtype))
			continue;
		s.layout = TRANSPOSED;
		check_shape(pool, &s, 1, tolerances[i].exact, false);
		check_shape(pool, &s, 6, tolerances[i].exact, false);
		s.layout = INTERLEAVED;
		check_shape(pool, &s, 5, tolerances[i].exact, false);
	}
	penstock_pool_destroy(pool);
}

TEST(large_transposed_matrices)
{
	ref_pool = pool_or_null(1, PENSTOCK_ISA_REF, 0);
	check_large(PENSTOCK_ISA_AVX2);
	check_large(PENSTOCK_ISA_AVX512);
}

/* FP8: blocks of 128 x 128 with a ragged edge, a scale a channel, scales of each type, both directions */
static void check_fp8(int isa)
{
	static const uint32_t scale_dtypes[] = { PENSTOCK_DTYPE_F32, PENSTOCK_DTYPE_BF16, PENSTOCK_DTYPE_F16,
						 PENSTOCK_DTYPE_F8_E8M0 };
	static const enum layout layouts[] = { ROWS, ROWS_PADDED, TRANSPOSED, INTERLEAVED, SCATTERED };
	static const uint32_t blocks[][2] = { { 128, 128 }, { 1, 1000 }, { 1, 32 }, { 7, 96 }, { 200, 64 } };
	struct penstock_pool *pool = pool_or_null(2, isa, 0);
	unsigned int i, j;
	struct shape s;

	if (!pool)
		return;
	for (i = 0; i < 20; i++) {
		for (j = 0; j < 5; j++) {
			s = (struct shape){ .dtype = PENSTOCK_DTYPE_F8_E4M3, .rows = 150, .cols = i < 10 ? 300 : 384 };
			s.scale_dtype = scale_dtypes[i % 4];
			s.scale_rows = blocks[i % 5][0];
			s.scale_cols = blocks[i % 5][1];
			s.layout = layouts[j];
			s.misalign = s.scale_dtype == PENSTOCK_DTYPE_F8_E8M0 ? 1 : 4;
			check_shape(pool, &s, 1 + i % 5, 1e-6, false);
		}
	}
	penstock_pool_destroy(pool);
}

TEST(fp8_scales_by_block_and_by_channel)
{
	ref_pool = pool_or_null(1, PENSTOCK_ISA_REF, 0);
	check_fp8(PENSTOCK_ISA_AVX2);
	check_fp8(PENSTOCK_ISA_AVX512);
}

static void check_int4(int isa)
{
	static const uint32_t scale_dtypes[] = { PENSTOCK_DTYPE_F32, PENSTOCK_DTYPE_BF16, PENSTOCK_DTYPE_F16 };
	struct penstock_pool *pool = pool_or_null(2, isa, 0);
	struct shape s = { .dtype = PENSTOCK_DTYPE_INT4, .rows = 37, .cols = 320, .scale_rows = 1, .scale_cols = 32 };
	int i;

	if (!pool)
		return;
	for (i = 0; i < 9; i++) {
		s.scale_dtype = scale_dtypes[i % 3];
		s.misalign = (size_t)i;
		check_shape(pool, &s, 1 + (size_t)i, 1e-6, false);
	}
	penstock_pool_destroy(pool);
}

TEST(int4_scales_of_each_type)
{
	ref_pool = pool_or_null(1, PENSTOCK_ISA_REF, 0);
	check_int4(PENSTOCK_ISA_AVX2);
	check_int4(PENSTOCK_ISA_AVX512);
}

static void multiply_with(unsigned int threads, int isa, unsigned int flags, const struct mat *a, const float *x,
			  size_t nt, float *y)
{
	struct penstock_pool *pool = pool_or_null(threads, isa, flags);

	if (!pool)
		return;
	ASSERT_EQ(0, penstock_k_matmul(pool, &a->m, x, a->m.cols, nt, y, a->m.rows));
	penstock_pool_destroy(pool);
}

static void check_threads(int isa, unsigned int flags, uint32_t dtype, enum layout layout, size_t nt)
{
	struct shape s = { .dtype = dtype, .rows = 777, .cols = plain(dtype) ? 333 : 512, .layout = layout };
	unsigned int threads;
	float *x, *y[4];
	struct mat a;

	shape_scales(&s);
	a = mat_make(&s);
	x = rnd_floats(nt * s.cols);
	for (threads = 1; threads <= 3; threads++) {
		y[threads] = calloc(nt * s.rows, sizeof(float));
		multiply_with(threads, isa, flags, &a, x, nt, y[threads]);
	}
	EXPECT_EQ(0, memcmp(y[1], y[2], nt * s.rows * sizeof(float)));
	EXPECT_EQ(0, memcmp(y[1], y[3], nt * s.rows * sizeof(float)));
	/* each token alone gives the bits that it gives in company */
	multiply_with(2, isa, flags, &a, x + (nt - 1) * s.cols, 1, y[2]);
	EXPECT_EQ(0, memcmp(y[1] + (nt - 1) * s.rows, y[2], s.rows * sizeof(float)));
	for (threads = 1; threads <= 3; threads++)
		free(y[threads]);
	free(x);
	mat_free(&a);
}

TEST(same_bits_with_any_number_of_threads_and_tokens)
{
	static const int isas[] = { PENSTOCK_ISA_REF, PENSTOCK_ISA_AVX2, PENSTOCK_ISA_AVX512 };
	unsigned int i, j, layout, flags;

	for (i = 0; i < NR_DTYPES; i++)
		for (j = 0; j < 3; j++)
			for (flags = 0; flags <= PENSTOCK_POOL_F_FAST; flags++)
				for (layout = 0; layout < (plain(tolerances[i].dtype) ? NR_LAYOUTS : 1); layout++)
					check_threads(isas[j], flags, tolerances[i].dtype, layout, 1 + rnd() % 9);
}

/* infinities and NaNs in the activations end in infinities and NaNs, in their token only */
static void check_nan(int isa, unsigned int flags, uint32_t dtype, enum layout layout)
{
	struct shape s = { .dtype = dtype, .rows = 40, .cols = 256, .layout = layout };
	struct penstock_pool *pool = pool_or_null(2, isa, flags);
	float y[3 * 40], *x;
	struct mat a;
	size_t r;

	if (!pool)
		return;
	shape_scales(&s);
	a = mat_make(&s);
	x = rnd_floats(3 * 256);
	x[100] = NAN;
	x[512 + 17] = INFINITY;
	ASSERT_EQ(0, penstock_k_matmul(pool, &a.m, x, 256, 3, y, 40));
	for (r = 0; r < 40; r++) {
		EXPECT_TRUE(isnan(y[r]));
		EXPECT_TRUE(isfinite(y[40 + r]));
		EXPECT_FALSE(isfinite(y[80 + r]));
	}
	mat_free(&a);
	free(x);
	penstock_pool_destroy(pool);
}

TEST(nan_and_infinity_stay_in_their_token)
{
	static const int isas[] = { PENSTOCK_ISA_REF, PENSTOCK_ISA_AVX2, PENSTOCK_ISA_AVX512 };
	unsigned int i, j, flags;

	for (i = 0; i < NR_DTYPES; i++) {
		for (j = 0; j < 3; j++) {
			for (flags = 0; flags <= PENSTOCK_POOL_F_FAST; flags++) {
				check_nan(isas[j], flags, tolerances[i].dtype, ROWS);
				if (plain(tolerances[i].dtype))
					check_nan(isas[j], flags, tolerances[i].dtype, TRANSPOSED);
			}
		}
	}
}

TEST_HARNESS_MAIN
