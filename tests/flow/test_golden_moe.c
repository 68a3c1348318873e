// SPDX-License-Identifier: MIT
/*
 * Each golden through the public API: the router gives the expert ids of the
 * library that made it, and routed plus shared experts its block's output. Once
 * with the reference kernels, once with the best of this CPU, once with the
 * smallest cache that opens, which must give the same bits.
 *
 * Tolerance: OUT_TOL of the largest output, WEIGHT_TOL of the largest weight. The
 * expected values are float sums in another order.
 */
#include <math.h>
#include <kabi.h>
#include <penstock/penstock.h>
#include "golden.h"

#define OUT_TOL		2e-5
#define WEIGHT_TOL	1e-5
#define MAX_LAYERS	8

struct run {
	struct golden g;
	struct penstock_ctx *ctx;
	struct penstock_model *model;
	struct penstock_queue *q;
	struct penstock_pool *pool;
	struct penstock_model_info info;
};

static void run_open(struct run *r, const char *name, int isa, uint64_t cache_bytes)
{
	struct penstock_options opts = PENSTOCK_OPTIONS_INIT;
	struct penstock_error err = { 0 };
	char path[GOLDEN_PATH_MAX];

	golden_open(&r->g, name);
	golden_model_path(&r->g, path, sizeof(path));
	opts.cache_bytes = cache_bytes;
	opts.queue_depth = 8;
	opts.split_bytes = 1 << 20;
	if (penstock_open(&opts, &r->ctx, &err))
		TEST_FAIL_(1, "%s: open: %s", name, err.text);
	if (penstock_model_open(r->ctx, path, NULL, &r->model, &err))
		TEST_FAIL_(1, "%s: %s", path, err.text);
	ASSERT_EQ(0, penstock_queue_create(r->ctx, &r->q));
	ASSERT_EQ(0, penstock_pool_create(2, isa, 0, &r->pool));
	r->info.size = sizeof(r->info);
	ASSERT_EQ(0, penstock_model_info(r->model, &r->info));
}

static void run_close(struct run *r)
{
	penstock_pool_destroy(r->pool);
	penstock_queue_destroy(r->q);
	penstock_model_close(r->model);
	penstock_close(r->ctx);
	golden_close(&r->g);
}

/* A tensor's bytes; the caller frees. */
static void *tensor(struct run *r, uint32_t nr, struct penstock_tensor *t)
{
	void *data;

	ASSERT_EQ(0, penstock_tensor_at(r->model, nr, t));
	data = malloc(t->bytes);
	ASSERT_TRUE(data != NULL);
	if (penstock_tensor_read(r->q, r->model, nr, 0, data, t->bytes))
		TEST_FAIL_(1, "%s: %s", t->name, penstock_errmsg(r->q));
	return data;
}

static void matrix(struct run *r, uint32_t nr, struct penstock_k_mat *m)
{
	const struct penstock_dtype_info *d;
	struct penstock_tensor t;

	memset(m, 0, sizeof(*m));
	m->data = tensor(r, nr, &t);
	d = penstock_dtype_info(t.dtype);
	ASSERT_TRUE(d != NULL && t.nr_dims <= 2);
	m->dtype = t.dtype;
	m->rows = t.nr_dims == 2 ? (uint32_t)t.dims[0] : 1;
	m->cols = (uint32_t)t.dims[t.nr_dims - 1];
	m->row_stride = t.bytes / m->rows;
	m->col_stride = d->elems == 1 ? d->bytes : 0;
}

/* A vector as floats, or NULL if there is no such tensor; the caller frees. */
static float *vector(struct run *r, uint32_t nr, size_t n)
{
	struct penstock_k_mat m;
	float *out;

	if (nr == PENSTOCK_NO_TENSOR)
		return NULL;
	matrix(r, nr, &m);
	ASSERT_EQ(n, m.cols);
	out = malloc(n * sizeof(float));
	ASSERT_TRUE(out != NULL);
	ASSERT_EQ(0, penstock_k_dequant_row(&m, 0, out));
	free((void *)m.data);
	return out;
}

static void check_close(const char *what, uint32_t layer, const float *want, const float *got, size_t n, double tol)
{
	double size = 0, worst = 0;
	size_t i, at = 0;

	for (i = 0; i < n; i++) {
		double d = fabs((double)want[i] - got[i]);

		size = fmax(size, fabs((double)want[i]));
		if (!(d <= worst)) {
			worst = d;
			at = i;
		}
	}
	if (!(worst <= tol * size))
		TEST_FAIL_(0, "layer %u: %s[%zu] is %.8g, not %.8g; largest is %.3g", layer, what, at, got[at],
			   want[at], size);
}

static size_t route_layer(struct run *r, const struct penstock_layer_info *l, const float *x, size_t n,
			  int32_t *ids, float *weights)
{
	struct penstock_k_router router = {
		.score = l->score, .flags = l->router_flags, .nr_experts = l->nr_experts, .top_k = l->top_k,
		.nr_groups = l->nr_groups, .top_groups = l->top_groups, .group_score = l->group_score,
		.scale = l->router_scale,
	};
	float *bias, *select, *logits;
	struct penstock_k_mat m;
	int rc;

	matrix(r, l->t_router, &m);
	EXPECT_EQ(l->nr_experts, m.rows);
	EXPECT_EQ(l->hidden, m.cols);
	bias = vector(r, l->t_router_bias, l->nr_experts);
	select = vector(r, l->t_select_bias, l->nr_experts);
	if (bias) {
		m.bias = bias;
		m.bias_dtype = PENSTOCK_DTYPE_F32;
		m.bias_stride = sizeof(float);
	}
	router.select_bias = select;
	logits = malloc(n * l->nr_experts * sizeof(float));
	ASSERT_TRUE(logits != NULL);
	ASSERT_EQ(0, penstock_k_matmul(r->pool, &m, x, l->hidden, n, logits, l->nr_experts));
	rc = penstock_k_route(&router, logits, l->nr_experts, n, ids, weights);
	ASSERT_EQ(0, rc);
	free(logits);
	free(select);
	free(bias);
	free((void *)m.data);
	return n * l->top_k;
}

static void add_shared(struct run *r, const struct penstock_layer_info *l, const float *x, size_t n, float *out)
{
	struct penstock_k_expert e = { .act = PENSTOCK_ACT_SWIGLU };
	struct penstock_k_mat *mats[3] = { &e.gate, &e.up, &e.down };
	struct penstock_tensor t;
	void *scratch = NULL;
	size_t i, size;
	float *y;

	if (l->t_shared[0] == PENSTOCK_NO_TENSOR)
		return;
	for (i = 0; i < 3; i++) {
		struct penstock_k_mat *m = mats[i];

		matrix(r, l->t_shared[i], m);
		if (l->t_shared_scale[i] == PENSTOCK_NO_TENSOR)
			continue;
		m->scale = tensor(r, l->t_shared_scale[i], &t);
		ASSERT_EQ(2u, t.nr_dims);
		m->scale_dtype = t.dtype;
		m->scale_rows = t.dims[0] == m->rows ? 1 : 128;
		m->scale_cols = t.dims[1] == 1 && m->scale_rows == 1 ? m->cols : 128;
		m->scale_row_stride = t.bytes / t.dims[0];
		m->scale_col_stride = m->scale_row_stride / t.dims[1];
	}
	size = penstock_k_expert_scratch(&e, n);
	ASSERT_EQ(0, posix_memalign(&scratch, 64, size ? size : 64));
	y = malloc(n * l->hidden * sizeof(float));
	ASSERT_TRUE(y != NULL);
	ASSERT_EQ(0, penstock_k_expert_ffn(r->pool, &e, x, l->hidden, NULL, NULL, n, y, l->hidden, scratch));
	for (i = 0; i < n * l->hidden; i++)
		out[i] += y[i];
	free(y);
	free(scratch);
	for (i = 0; i < 3; i++) {
		free((void *)mats[i]->data);
		free((void *)mats[i]->scale);
	}
}

/* Router and block of one layer; @out: n x hidden, the routed and shared experts' sum. */
static void check_layer(struct run *r, uint32_t layer, const float *x, size_t n, float *out)
{
	struct penstock_layer_info l = { .size = sizeof(l) };
	struct penstock_moe moe = { .size = sizeof(moe) };
	int32_t *ids, *want_ids;
	double *want_w;
	float *weights, *want_out, *wf;
	size_t k, i, wrong = 0;
	char key[40];

	ASSERT_EQ(0, penstock_layer_info(r->model, layer, &l));
	ASSERT_EQ((uint32_t)PENSTOCK_LAYER_MOE, l.kind);
	ASSERT_EQ(golden_int(&r->g, "hidden"), l.hidden);
	ASSERT_EQ(golden_int(&r->g, "top_k"), l.top_k);
	k = n * l.top_k;
	ids = calloc(k, sizeof(*ids));
	want_ids = calloc(k, sizeof(*want_ids));
	want_w = calloc(k, sizeof(*want_w));
	weights = calloc(k, sizeof(*weights));
	wf = calloc(k, sizeof(*wf));
	ASSERT_TRUE(ids && want_ids && want_w && weights && wf);
	route_layer(r, &l, x, n, ids, weights);
	snprintf(key, sizeof(key), "moe_ids.%u", layer);
	ASSERT_EQ(k, golden_ints(&r->g, key, want_ids, k));
	snprintf(key, sizeof(key), "moe_weights.%u", layer);
	ASSERT_EQ(k, golden_numbers(&r->g, key, want_w, k));
	for (i = 0; i < k; i++) {
		wf[i] = (float)want_w[i];
		if (ids[i] != want_ids[i] && !wrong++)
			TEST_FAIL_(0, "layer %u token %zu choice %zu: expert %d, not %d", layer, i / l.top_k,
				   i % l.top_k, ids[i], want_ids[i]);
	}
	EXPECT_EQ(0u, wrong);
	check_close("weight", layer, wf, weights, k, WEIGHT_TOL);
	moe.layer = layer;
	moe.top_k = l.top_k;
	moe.nr_tokens = n;
	moe.x = x;
	moe.ldx = l.hidden;
	moe.ids = ids;
	moe.weights = weights;
	moe.out = out;
	moe.ldout = l.hidden;
	if (penstock_moe_forward(r->q, r->model, r->pool, &moe))
		TEST_FAIL_(1, "layer %u: %s", layer, penstock_errmsg(r->q));
	add_shared(r, &l, x, n, out);
	snprintf(key, sizeof(key), "moe_out.%u.f32", layer);
	want_out = golden_floats(&r->g, key, n * l.hidden);
	check_close("output", layer, want_out, out, n * l.hidden, OUT_TOL);
	free(want_out);
	free(ids);
	free(want_ids);
	free(want_w);
	free(weights);
	free(wf);
}

/* Outputs of all MoE layers, one after another; the caller frees. */
static float *check_run(const char *name, int isa, uint64_t cache_bytes, size_t *nr, uint64_t *least)
{
	int32_t layers[MAX_LAYERS];
	size_t i, n, nr_layers, hidden;
	struct run r = { 0 };
	float *x, *out;

	run_open(&r, name, isa, cache_bytes);
	n = golden_int(&r.g, "moe_tokens");
	hidden = golden_int(&r.g, "hidden");
	nr_layers = golden_ints(&r.g, "moe_layers", layers, MAX_LAYERS);
	ASSERT_EQ(nr_layers, r.info.nr_moe_layers);
	EXPECT_EQ(hidden, r.info.hidden);
	x = golden_floats(&r.g, "moe_in.f32", n * hidden);
	out = calloc(nr_layers * n * hidden, sizeof(*out));
	ASSERT_TRUE(out != NULL);
	for (i = 0; i < nr_layers; i++)
		check_layer(&r, (uint32_t)layers[i], x, n, out + i * n * hidden);
	*nr = nr_layers * n * hidden;
	*least = r.info.least_bytes;
	free(x);
	run_close(&r);
	return out;
}

static void check(const char *name)
{
	float *first, *again;
	uint64_t least;
	size_t nr, nr2;

	free(check_run(name, PENSTOCK_ISA_REF, 64 << 20, &nr, &least));
	first = check_run(name, PENSTOCK_ISA_AUTO, 64 << 20, &nr, &least);
	again = check_run(name, PENSTOCK_ISA_AUTO, least, &nr2, &least);
	ASSERT_EQ(nr, nr2);
	EXPECT_EQ(0, memcmp(first, again, nr * sizeof(*first)));
	free(first);
	free(again);
}

TEST(mixtral) { check("mixtral"); }
TEST(qwen3_moe) { check("qwen3_moe"); }
TEST(olmoe) { check("olmoe"); }
TEST(gpt_oss) { check("gpt_oss"); }
TEST(gpt_oss_bf16) { check("gpt_oss_bf16"); }
TEST(glm4_moe) { check("glm4_moe"); }
TEST(glm4_moe_air) { check("glm4_moe_air"); }
TEST(llama4) { check("llama4"); }
TEST(llama4_fp8) { check("llama4_fp8"); }
TEST(deepseek_v2) { check("deepseek_v2"); }
TEST(deepseek_v3) { check("deepseek_v3"); }
TEST(deepseek_v3_fp8) { check("deepseek_v3_fp8"); }
TEST(kimi_k2) { check("kimi_k2"); }
TEST(kimi_k2_int4) { check("kimi_k2_int4"); }
TEST(gguf_qwen3moe_split) { check("gguf/qwen3moe_split"); }
TEST(gguf_qwen3moe_k) { check("gguf/qwen3moe_k"); }
TEST(gguf_mixtral) { check("gguf/mixtral"); }
TEST(gguf_olmoe) { check("gguf/olmoe"); }
TEST(gguf_glm4moe) { check("gguf/glm4moe"); }
TEST(gguf_llama4) { check("gguf/llama4"); }
TEST(gguf_deepseek2) { check("gguf/deepseek2"); }
TEST(gguf_gpt_oss) { check("gguf/gpt_oss"); }

TEST_HARNESS_MAIN
