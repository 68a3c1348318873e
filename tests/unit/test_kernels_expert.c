// SPDX-License-Identifier: MIT
/* The expert and what is around it: against formulas in double, on every instruction set. */
#include "harness.h"
#include "kernels_util.h"

static const int isas[] = { PENSTOCK_ISA_REF, PENSTOCK_ISA_AVX2, PENSTOCK_ISA_AVX512 };
#define NR_ISAS 3

static struct penstock_pool *pool_or_null(unsigned int threads, int isa, unsigned int flags)
{
	struct penstock_pool *pool;
	int rc = penstock_pool_create(threads, isa, flags, &pool);

	if (rc == -EOPNOTSUPP)
		return NULL;
	ASSERT_EQ(0, rc);
	return pool;
}

struct expert {
	struct penstock_k_expert e;
	struct mat gate, up, down;
};

static struct expert expert_make(uint32_t dtype, enum layout layout, uint32_t h, uint32_t i, uint32_t act)
{
	struct shape s = { .dtype = dtype, .rows = i, .cols = h, .layout = layout };
	struct expert x;

	shape_scales(&s);
	s.bias_dtype = act == PENSTOCK_ACT_SWIGLU_CLAMPED ? PENSTOCK_DTYPE_BF16 : PENSTOCK_DTYPE_NONE;
	s.misalign = 2;
	x.gate = mat_make(&s);
	x.up = mat_make(&s);
	s.rows = h;
	s.cols = i;
	x.down = mat_make(&s);
	x.e = (struct penstock_k_expert){ .gate = x.gate.m, .up = x.up.m, .down = x.down.m, .act = act,
					  .limit = 2.0f, .alpha = 1.702f };
	return x;
}

static void expert_free(struct expert *x)
{
	mat_free(&x->gate);
	mat_free(&x->up);
	mat_free(&x->down);
}

static double row_dot(const struct penstock_k_mat *m, size_t row, const double *x)
{
	float *w = malloc(m->cols * sizeof(float));
	double sum = 0;
	uint32_t bits;
	uint16_t half;
	float bias;
	size_t c;

	ASSERT_EQ(0, penstock_k_dequant_row(m, row, w));
	for (c = 0; c < m->cols; c++)
		sum += w[c] * x[c];
	if (m->bias) {
		/* biases here are bfloat16 */
		memcpy(&half, (const uint8_t *)m->bias + row * m->bias_stride, 2);
		bits = (uint32_t)half << 16;
		memcpy(&bias, &bits, 4);
		sum += bias;
	}
	free(w);
	return sum;
}

/* the formula, in double */
static void expert_formula(const struct penstock_k_expert *e, const float *x, double scale, double *y)
{
	size_t h = e->gate.cols, n = e->gate.rows, i;
	double *in = malloc(h * sizeof(double)), *mid = malloc(n * sizeof(double)), g, u;

	for (i = 0; i < h; i++)
		in[i] = x[i] * scale;
	for (i = 0; i < n; i++) {
		g = row_dot(&e->gate, i, in);
		u = row_dot(&e->up, i, in);
		if (e->act == PENSTOCK_ACT_SWIGLU) {
			mid[i] = g / (1 + exp(-g)) * u;
		} else {
			g = fmin(g, e->limit);
			u = fmax(fmin(u, e->limit), -e->limit);
			mid[i] = (u + 1) * g / (1 + exp(-e->alpha * g));
		}
	}
	for (i = 0; i < h; i++)
		y[i] = row_dot(&e->down, i, mid);
	free(in);
	free(mid);
}

static double norm2(const double *v, size_t n)
{
	double sum = 0;

	for (; n; n--, v++)
		sum += *v * *v;
	return sqrt(sum);
}

/* relative to the length of the output: @tol */
static void check_expert(int isa, unsigned int flags, struct expert *x, size_t nt, bool gathered, bool scaled,
			 double tol)
{
	struct penstock_pool *pool = pool_or_null(2, isa, flags);
	size_t h = x->e.gate.cols, ldx = h + 3, ldy = h + 1, t, i;
	float *in = rnd_floats(12 * ldx), *y = calloc(nt * ldy, sizeof(float)), scale[12];
	double *want = malloc(h * sizeof(double)), *diff = malloc(h * sizeof(double));
	uint32_t rows[12];
	void *scratch;

	if (!pool)
		return;
	for (t = 0; t < 12; t++) {
		rows[t] = (uint32_t)(11 - t);
		scale[t] = 0.25f + 0.1f * (float)t;
	}
	scratch = aligned_alloc(64, (penstock_k_expert_scratch(&x->e, nt) + 63) / 64 * 64);
	ASSERT_EQ(0, penstock_k_expert_ffn(pool, &x->e, in, ldx, gathered ? rows : NULL, scaled ? scale : NULL, nt, y,
					   ldy, scratch));
	for (t = 0; t < nt; t++) {
		expert_formula(&x->e, in + (gathered ? rows[t] : t) * ldx, scaled ? scale[t] : 1, want);
		for (i = 0; i < h; i++)
			diff[i] = y[t * ldy + i] - want[i];
		if (!(norm2(diff, h) <= tol * (norm2(want, h) + 1e-3)))
			TEST_FAIL_(0, "%s %s token %zu: off by %g of %g", penstock_pool_isa_name(pool),
				   penstock_dtype_info(x->gate.m.dtype)->name, t, norm2(diff, h), norm2(want, h));
	}
	penstock_pool_destroy(pool);
	free(in);
	free(y);
	free(want);
	free(diff);
	free(scratch);
}

TEST(expert_of_each_type)
{
	unsigned int i, j, act, flags;
	struct expert x;

	for (i = 0; i < NR_DTYPES; i++) {
		for (act = 0; act <= PENSTOCK_ACT_SWIGLU_CLAMPED; act++) {
			x = expert_make(tolerances[i].dtype, ROWS, 256, 256, act);
			for (j = 0; j < NR_ISAS; j++)
				for (flags = 0; flags <= PENSTOCK_POOL_F_FAST; flags++)
					check_expert(isas[j], flags, &x, 1 + rnd() % 4, rnd() & 1, rnd() & 1,
						     flags ? 3e-2 : 2e-5);
			expert_free(&x);
		}
	}
}

TEST(expert_of_each_layout)
{
	static const uint32_t dtypes[] = { PENSTOCK_DTYPE_BF16, PENSTOCK_DTYPE_F32 };
	unsigned int layout, i, j;
	struct expert x;

	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		for (i = 0; i < 2; i++) {
			x = expert_make(dtypes[i], layout, 93, 57, layout & 1);
			for (j = 0; j < NR_ISAS; j++)
				check_expert(isas[j], 0, &x, 1 + rnd() % 9, j & 1, layout & 1, 2e-5);
			expert_free(&x);
		}
	}
}

/* gate and up of one interleaved matrix, as gpt-oss has them */
TEST(expert_of_interleaved_gate_and_up)
{
	struct shape s = { .dtype = PENSTOCK_DTYPE_BF16, .rows = 2 * 45, .cols = 70, .layout = TRANSPOSED };
	struct mat both = mat_make(&s);
	struct expert x = expert_make(PENSTOCK_DTYPE_BF16, TRANSPOSED, 70, 45, PENSTOCK_ACT_SWIGLU);
	unsigned int j;

	x.e.gate = x.e.up = both.m;
	x.e.gate.rows = x.e.up.rows = 45;
	x.e.gate.row_stride = x.e.up.row_stride = 4;
	x.e.up.data = (const uint8_t *)both.m.data + 2;
	for (j = 0; j < NR_ISAS; j++) {
		check_expert(isas[j], 0, &x, 1, false, false, 2e-5);
		check_expert(isas[j], PENSTOCK_POOL_F_FAST, &x, 7, true, false, 2e-5);
	}
	mat_free(&both);
	expert_free(&x);
}

TEST(expert_same_bits_with_any_number_of_threads)
{
	struct expert x = expert_make(PENSTOCK_DTYPE_BF16, ROWS, 300, 500, PENSTOCK_ACT_SWIGLU);
	float *in = rnd_floats(5 * 300), *y[4];
	unsigned int threads, j, flags;
	void *scratch = aligned_alloc(64, (penstock_k_expert_scratch(&x.e, 5) + 63) / 64 * 64);
	struct penstock_pool *pool;

	for (j = 0; j < NR_ISAS * 2; j++) {
		flags = j >= NR_ISAS ? PENSTOCK_POOL_F_FAST : 0;
		for (threads = 1; threads <= 3; threads++) {
			y[threads] = calloc(5 * 300, sizeof(float));
			pool = pool_or_null(threads, isas[j % NR_ISAS], flags);
			if (!pool)
				continue;
			ASSERT_EQ(0, penstock_k_expert_ffn(pool, &x.e, in, 300, NULL, NULL, 5, y[threads], 300,
							   scratch));
			penstock_pool_destroy(pool);
		}
		EXPECT_EQ(0, memcmp(y[1], y[2], 5 * 300 * sizeof(float)));
		EXPECT_EQ(0, memcmp(y[1], y[3], 5 * 300 * sizeof(float)));
		for (threads = 1; threads <= 3; threads++)
			free(y[threads]);
	}
	free(in);
	free(scratch);
	expert_free(&x);
}

TEST(experts_that_do_not_chain_are_refused)
{
	struct expert x = expert_make(PENSTOCK_DTYPE_BF16, ROWS, 32, 64, PENSTOCK_ACT_SWIGLU);
	struct penstock_pool *pool = pool_or_null(1, PENSTOCK_ISA_AUTO, 0);
	float in[64] = { 0 }, y[64];
	void *scratch = aligned_alloc(64, 1 << 16);

#define BAD(code, change) do { struct penstock_k_expert e = x.e; change; \
	EXPECT_EQ(code, penstock_k_expert_ffn(pool, &e, in, 32, NULL, NULL, 1, y, 32, scratch)); } while (0)
	BAD(0, (void)e);
	BAD(-EINVAL, e.up.rows = 63);
	BAD(-EINVAL, e.up.cols = 31);
	BAD(-EINVAL, e.down.cols = 63);
	BAD(-EINVAL, e.act = 2);
	BAD(-EOPNOTSUPP, e.up.dtype = PENSTOCK_DTYPE_I32);
	BAD(-EOPNOTSUPP, e.down.dtype = PENSTOCK_DTYPE_Q2_K);
#undef BAD
	penstock_pool_destroy(pool);
	expert_free(&x);
	free(scratch);
}

#define NEAR(want, got, tol) do {							\
	double want_ = (want), got_ = (got);						\
	if (!(fabs(want_ - got_) <= (tol) * (1 + fabs(want_))))				\
		TEST_FAIL_(0, "%s on %s: %.9g, not %.9g", #got, penstock_pool_isa_name(pool), got_, want_); \
} while (0)

TEST(combine_in_order_of_the_router)
{
	static const size_t widths[] = { 1, 7, 16, 33, 1024, 2500 };
	unsigned int j, n, k, t, i;
	double want;

	for (j = 0; j < NR_ISAS; j++) {
		struct penstock_pool *pool = pool_or_null(2, isas[j], 0);

		for (n = 0; pool && n < 6; n++) {
			size_t h = widths[n];
			float *y = rnd_floats(3 * 4 * (h + 2)), *w = rnd_floats(12), *out = rnd_floats(3 * (h + 1));

			penstock_k_combine(pool, y, h + 2, n & 1 ? w : NULL, 3, 4, h, out, h + 1);
			for (t = 0; t < 3; t++) {
				for (i = 0; i < h; i++) {
					for (want = 0, k = 0; k < 4; k++)
						want += (n & 1 ? w[t * 4 + k] : 1) * y[(t * 4 + k) * (h + 2) + i];
					NEAR(want, out[t * (h + 1) + i], 1e-6);
				}
			}
			free(y);
			free(w);
			free(out);
		}
		penstock_pool_destroy(pool);
	}
}

TEST(rmsnorm_in_and_out_of_place)
{
	static const size_t widths[] = { 1, 5, 16, 100, 2048 };
	unsigned int j, n, t, i;
	double sum;

	for (j = 0; j < NR_ISAS; j++) {
		struct penstock_pool *pool = pool_or_null(2, isas[j], 0);

		for (n = 0; pool && n < 5; n++) {
			size_t h = widths[n];
			float *x = rnd_floats(3 * h), *w = n & 1 ? NULL : rnd_floats(h), *y = rnd_floats(3 * h);

			penstock_k_rmsnorm(pool, x, h, w, 1e-5f, 3, h, y, h);
			for (t = 0; t < 3; t++) {
				for (sum = 0, i = 0; i < h; i++)
					sum += (double)x[t * h + i] * x[t * h + i];
				for (i = 0; i < h; i++)
					NEAR(x[t * h + i] / sqrt(sum / (double)h + 1e-5) * (w ? w[i] : 1),
					     y[t * h + i], 2e-6);
			}
			penstock_k_rmsnorm(pool, x, h, w, 1e-5f, 3, h, x, h);
			EXPECT_EQ(0, memcmp(x, y, 3 * h * sizeof(float)));
			free(x);
			free(w);
			free(y);
		}
		penstock_pool_destroy(pool);
	}
}

TEST(rope_halves_and_pairs)
{
	/* a quarter turn of the first pair, none of the second */
	static const float c[2] = { 0, 1 }, s[2] = { 1, 0 };
	float x[12] = { 1, 2, 3, 4, 5, 6, 10, 20, 30, 40, 50, 60 }, p[6] = { 1, 2, 3, 4, 5, 6 };

	penstock_k_rope(x, 2, 6, 4, c, s, 0);
	EXPECT_TRUE(x[0] == -3 && x[1] == 2 && x[2] == 1 && x[3] == 4 && x[4] == 5 && x[5] == 6);
	EXPECT_TRUE(x[6] == -30 && x[7] == 20 && x[8] == 10 && x[9] == 40);
	penstock_k_rope(p, 1, 6, 4, c, s, 1);
	EXPECT_TRUE(p[0] == -2 && p[1] == 1 && p[2] == 3 && p[3] == 4 && p[4] == 5);
}

static void attn_formula(const struct penstock_k_attn *a, size_t h, double *out)
{
	size_t kv = h / (a->nr_heads / a->nr_kv_heads), p, i;
	double s, sum = a->sinks ? exp(a->sinks[h]) : 0;

	memset(out, 0, a->head_dim * sizeof(double));
	for (p = a->first; p < a->end; p++) {
		for (s = 0, i = 0; i < a->head_dim; i++)
			s += (double)a->q[h * a->head_dim + i] * a->k[p * a->kv_stride + kv * a->head_dim + i];
		s = exp(s * a->scale);
		sum += s;
		for (i = 0; i < a->head_dim; i++)
			out[i] += s * a->v[p * a->kv_stride + kv * a->head_dim + i];
	}
	for (i = 0; i < a->head_dim; i++)
		out[i] /= sum;
}

static void check_attn(struct penstock_pool *pool, uint32_t heads, uint32_t kv_heads, uint32_t dim, size_t first,
		       size_t end, bool sinks)
{
	size_t stride = (size_t)kv_heads * dim + 3, h, i;
	float *q = rnd_floats(heads * dim), *k = rnd_floats(end * stride), *v = rnd_floats(end * stride);
	float *sink = rnd_floats(heads), *out = rnd_floats(heads * dim);
	double *want = malloc(dim * sizeof(double));
	struct penstock_k_attn a = { .q = q, .k = k, .v = v, .sinks = sinks ? sink : NULL, .out = out,
				     .kv_stride = stride, .first = first, .end = end, .nr_heads = heads,
				     .nr_kv_heads = kv_heads, .head_dim = dim, .scale = 1 / sqrtf((float)dim) };

	penstock_k_attn(pool, &a);
	for (h = 0; h < heads; h++) {
		attn_formula(&a, h, want);
		for (i = 0; i < dim; i++)
			NEAR(want[i], out[h * dim + i], 2e-6);
	}
	free(q);
	free(k);
	free(v);
	free(sink);
	free(out);
	free(want);
}

TEST(attention_over_windows_groups_and_sinks)
{
	unsigned int j;

	for (j = 0; j < NR_ISAS; j++) {
		struct penstock_pool *pool = pool_or_null(2, isas[j], 0);

		if (!pool)
			continue;
		check_attn(pool, 4, 4, 64, 0, 1, false);
		check_attn(pool, 8, 2, 80, 0, 64, false);
		check_attn(pool, 6, 2, 5, 0, 65, true);
		check_attn(pool, 8, 1, 128, 70, 300, false);
		check_attn(pool, 64, 2, 64, 3, 131, true);
		penstock_pool_destroy(pool);
	}
}

TEST(attention_of_nothing_and_of_nan)
{
	float q[8] = { 1, 1, 1, 1, 1, 1, 1, 1 }, k[16] = { 0 }, v[16] = { 0 }, out[8], sinks[2] = { 0, 0 };
	struct penstock_k_attn a = { .q = q, .k = k, .v = v, .out = out, .kv_stride = 8, .nr_heads = 2,
				     .nr_kv_heads = 2, .head_dim = 4, .scale = 1 };
	unsigned int j;

	for (j = 0; j < NR_ISAS; j++) {
		struct penstock_pool *pool = pool_or_null(1, isas[j], 0);

		if (!pool)
			continue;
		a.first = a.end = 1;
		out[0] = 5;
		penstock_k_attn(pool, &a);
		EXPECT_TRUE(out[0] == 0 && out[7] == 0);
		a.sinks = sinks;
		penstock_k_attn(pool, &a);
		EXPECT_TRUE(out[0] == 0 && out[7] == 0);
		a.sinks = NULL;
		a.first = 0;
		a.end = 2;
		k[0] = NAN;
		penstock_k_attn(pool, &a);
		EXPECT_TRUE(isnan(out[0]) && out[4] == 0);
		k[0] = 0;
		/* a position that is masked by its score */
		k[8] = -INFINITY;
		v[0] = 3;
		penstock_k_attn(pool, &a);
		EXPECT_TRUE(out[0] == 3);
		k[8] = v[0] = 0;
		penstock_pool_destroy(pool);
	}
}

/* more masked positions than are walked at a time, then one that is not */
TEST(attention_after_a_masked_start)
{
	float q[1] = { 1 }, k[130], v[130], out[1];
	struct penstock_k_attn a = { .q = q, .k = k, .v = v, .out = out, .kv_stride = 1, .nr_heads = 1,
				     .nr_kv_heads = 1, .head_dim = 1, .end = 130, .scale = 1 };
	unsigned int i, j;

	for (i = 0; i < 130; i++) {
		k[i] = i < 129 ? -INFINITY : 2;
		v[i] = (float)i;
	}
	for (j = 0; j < NR_ISAS; j++) {
		struct penstock_pool *pool = pool_or_null(1, isas[j], 0);

		if (!pool)
			continue;
		penstock_k_attn(pool, &a);
		NEAR(129, out[0], 1e-6);
		penstock_pool_destroy(pool);
	}
}

TEST_HARNESS_MAIN
