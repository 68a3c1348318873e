// SPDX-License-Identifier: MIT
/*
 * A model whose layers hold experts of different sizes and types, one of which does not
 * compute: size classes, budgets in bytes, and a refusal that names tensor and type.
 */
#include <math.h>

#include <kabi.h>
#include <penstock/penstock.h>

#include "index_layers.h"

#define LAYERS	6
#define EXPERTS	8
#define K	2
#define FOR_EVER UINT64_MAX

/* Layers 0 to 3 are BF16 and F32 by turns; of the last two, which nothing computes, one is F64. */
static const char *const types[LAYERS] = { "BF16", "F32", "BF16", "F32", "I16", "F64" };

struct mixed {
	char dir[256];
	struct penstock_ctx *ctx;
	struct penstock_model *model;
	struct penstock_queue *q;
};

/* The first bytes of each matrix say which it is; the rest are zeros. */
static void mark(const char *dir)
{
	struct penstock_index *ix = open_good(dir);
	int fd = open(path_in(dir, "model.safetensors"), O_WRONLY | O_CLOEXEC);
	struct penstock_extent ext[PENSTOCK_MAX_PARTS];

	ASSERT_GE(fd, 0);
	for (uint32_t l = 0; l < LAYERS; l++) {
		for (uint32_t e = 0; e < EXPERTS; e++) {
			ASSERT_EQ(0, penstock_index_expert(ix, l, e, ext));
			for (uint32_t p = 0; p < 3; p++) {
				const uint8_t m[4] = { 0, 0, (uint8_t)(l * 32 + e * 3 + p), 0x3f };

				ASSERT_EQ(4, pwrite(fd, m, sizeof(m), (off_t)ext[p].off));
			}
		}
	}
	close(fd);
	penstock_index_close(ix);
}

static void open_mixed(struct mixed *m, uint64_t cache)
{
	struct penstock_options o = PENSTOCK_OPTIONS_INIT;
	struct penstock_error err = { 0 };
	struct st_file f = { 0 };

	tmp_make(m->dir);
	for (uint32_t l = 0; l < LAYERS; l++) {
		char prefix[64];

		snprintf(prefix, sizeof(prefix), "model.layers.%u.mlp.", l);
		STF(&f, "BF16", DIMS(EXPERTS, H), "%sgate.weight", prefix);
		experts(&f, prefix, EXPERTS, llama, types[l]);
	}
	st_write(&f, path_in(m->dir, "model.safetensors"));
	text_write(path_in(m->dir, "config.json"),
		   "{\"model_type\": \"qwen3_moe\", \"num_hidden_layers\": 6, \"num_experts\": 8, \"num_experts_per_tok\": 2,"
		   " \"hidden_size\": 64, \"moe_intermediate_size\": 32, \"norm_topk_prob\": true}");
	mark(m->dir);
	o.cache_bytes = cache;
	if (penstock_open(&o, &m->ctx, &err) || penstock_model_open(m->ctx, m->dir, NULL, &m->model, &err))
		TEST_FAIL_(1, "%s", err.text);
	ASSERT_EQ(0, penstock_queue_create(m->ctx, &m->q));
}

static void close_mixed(struct mixed *m)
{
	penstock_queue_destroy(m->q);
	penstock_model_close(m->model);
	penstock_close(m->ctx);
	tmp_remove(m->dir);
}

static void check_experts(struct mixed *m, uint32_t layer, const int32_t *ids, size_t nr)
{
	struct penstock_ticket *t;
	struct penstock_slot s;

	if (penstock_fetch(m->q, m->model, layer, ids, nr, &t) || penstock_wait(t, FOR_EVER))
		TEST_FAIL_(1, "%s", penstock_errmsg(m->q));
	for (size_t i = 0; i < penstock_ticket_count(t); i++) {
		ASSERT_EQ(0, penstock_ticket_slot(t, i, &s));
		for (uint32_t p = 0; p < 3; p++)
			EXPECT_EQ(layer * 32 + (uint32_t)s.id * 3 + p, ((const uint8_t *)s.ptr[p])[2]);
	}
	penstock_release(t);
}

TEST(layers_of_different_sizes_share_a_budget)
{
	struct penstock_model_info mi = { .size = sizeof(mi) };
	struct penstock_layer_info li = { .size = sizeof(li) };
	struct penstock_stats st = { .size = sizeof(st) };
	struct mixed m;
	uint32_t seed = 5;

	open_mixed(&m, 600000);
	ASSERT_EQ(0, penstock_model_info(m.model, &mi));
	/* BF16 and I16 are of one size: three classes, of 2, 4 and 8 bytes an element */
	EXPECT_EQ(3u, mi.nr_size_classes);
	EXPECT_EQ((uint64_t)EXPERTS * 3 * H * I * (3 * 2 + 2 * 4 + 8), mi.expert_bytes);
	EXPECT_EQ((uint64_t)K * 3 * H * I * (3 * 2 + 2 * 4 + 8), mi.token_bytes);
	ASSERT_EQ(0, penstock_layer_info(m.model, 5, &li));
	EXPECT_EQ(3u * H * I * 8, li.expert_bytes);
	for (int i = 0; i < 400; i++) {
		int32_t ids[K];

		for (int j = 0; j < K; j++) {
			seed = seed * 1664525u + 1013904223u;
			ids[j] = (int32_t)((seed >> 9) % EXPERTS);
		}
		check_experts(&m, (seed >> 20) % LAYERS, ids, K);
	}
	ASSERT_EQ(0, penstock_stats(m.ctx, &st));
	EXPECT_LE(st.cache_bytes, 600000u);
	EXPECT_GT(st.evictions, 0u);
	EXPECT_GT(st.experts_hit, 0u);
	close_mixed(&m);
}

TEST(a_type_that_does_not_compute_is_fetched_and_named)
{
	static float x[H], out[H];
	const int32_t ids[K] = { 3, 6 };
	const float weights[K] = { 0.5f, 0.5f };
	struct penstock_moe moe = {
		.size = sizeof(moe), .top_k = K, .nr_tokens = 1, .x = x, .ldx = H,
		.ids = ids, .weights = weights, .out = out, .ldout = H,
	};
	struct penstock_pool *pool;
	struct mixed m;

	open_mixed(&m, 8 << 20);
	ASSERT_EQ(0, penstock_pool_create(1, PENSTOCK_ISA_AUTO, 0, &pool));
	x[0] = 1;
	for (moe.layer = 0; moe.layer < 4; moe.layer++) {
		if (penstock_moe_forward(m.q, m.model, pool, &moe))
			TEST_FAIL_(1, "%s", penstock_errmsg(m.q));
		EXPECT_TRUE(isfinite(out[0]));
	}
	check_experts(&m, 4, ids, K);
	EXPECT_EQ(-EOPNOTSUPP, penstock_moe_forward(m.q, m.model, pool, &moe));
	EXPECT_HAS(penstock_errmsg(m.q), "model.layers.4.mlp.experts.3.gate_proj.weight");
	EXPECT_HAS(penstock_errmsg(m.q), "I16");
	moe.layer = 5;
	EXPECT_EQ(-EOPNOTSUPP, penstock_moe_forward(m.q, m.model, pool, &moe));
	EXPECT_HAS(penstock_errmsg(m.q), "F64");
	penstock_pool_destroy(pool);
	close_mixed(&m);
}

TEST_HARNESS_MAIN
