// SPDX-License-Identifier: MIT
/* Hugging Face checkpoints with all experts in one tensor: strides, fusion, scales and biases. */
#include "index_layers.h"

/* The layout that the transformers library has in memory, saved as it is. */
TEST(qwen3_moe_and_olmoe_fused_in_order)
{
	const struct penstock_layer_info *l;
	struct penstock_index *ix;
	struct st_file f = { 0 };
	char dir[256];

	tmp_make(dir);
	ST(&f, "model.layers.0.mlp.experts.gate_up_proj", "BF16", 5, 2 * I, H);
	ST(&f, "model.layers.0.mlp.experts.down_proj", "BF16", 5, H, I);
	ST(&f, "model.layers.0.mlp.gate.weight", "BF16", 5, H);
	ix = finish(dir, &f, "{\"model_type\": \"olmoe\", \"num_hidden_layers\": 1, \"hidden_size\": 64,"
		    "\"intermediate_size\": 32, \"num_experts\": 5, \"num_experts_per_tok\": 3}");
	EXPECT_EQ((int)PENSTOCK_FAMILY_OLMOE, (int)ix->family);
	l = layer(ix, 0, PENSTOCK_LAYER_MOE);
	EXPECT_EQ(0u, l->router_flags);		/* norm_topk_prob is false unless it is said */
	EXPECT_EQ(2u, l->nr_parts);
	expect_part(ix, 0, 0, PART(GATE_UP, WEIGHT, BF16, HALVES, 2 * I, H, H * 2, 2, 0, 0, 2 * H * I * 2));
	expect_part(ix, 0, 1, PART(DOWN, WEIGHT, BF16, NONE, H, I, I * 2, 2, 0, 0, H * I * 2));
	expect_at(ix, 0, 3, 0, "model.layers.0.mlp.experts.gate_up_proj", 3 * 2 * H * I * 2, 2 * H * I * 2);
	penstock_index_close(ix);
	tmp_remove(dir);
}

static void llama4_file(struct st_file *f, const char *prefix, uint32_t l)
{
	char p[128];

	snprintf(p, sizeof(p), "%s%u.feed_forward.", prefix, l);
	STF(f, "BF16", DIMS(3, H, 2 * I), "%sexperts.gate_up_proj", p);
	STF(f, "BF16", DIMS(3, I, H), "%sexperts.down_proj", p);
	STF(f, "BF16", DIMS(3, H), "%srouter.weight", p);
	strcat(p, "shared_expert.");
	shared(f, p, I);
}

static void expect_llama4(const struct penstock_index *ix, const char *prefix)
{
	const struct penstock_layer_info *l;
	char name[128];

	EXPECT_EQ((int)PENSTOCK_FAMILY_LLAMA4, (int)ix->family);
	layer(ix, 0, PENSTOCK_LAYER_DENSE);
	l = layer(ix, 1, PENSTOCK_LAYER_MOE);
	EXPECT_EQ(1u, l->top_k);
	EXPECT_EQ((int)PENSTOCK_SCORE_SIGMOID, (int)l->score);
	EXPECT_EQ(PENSTOCK_ROUTER_F_INPUT_SCALE, l->router_flags);
	snprintf(name, sizeof(name), "%s1.feed_forward.router.weight", prefix);
	EXPECT_STREQ(name, name_of(ix, l->t_router));
	snprintf(name, sizeof(name), "%s1.feed_forward.shared_expert.up_proj.weight", prefix);
	EXPECT_STREQ(name, name_of(ix, l->t_shared[1]));
	EXPECT_EQ(2u, l->nr_parts);
	expect_part(ix, 1, 0, PART(GATE_UP, WEIGHT, BF16, HALVES, 2 * I, H, 2, 2 * I * 2, 0, 0, 2 * H * I * 2));
	expect_part(ix, 1, 1, PART(DOWN, WEIGHT, BF16, NONE, H, I, 2, H * 2, 0, 0, H * I * 2));
	snprintf(name, sizeof(name), "%s1.feed_forward.experts.down_proj", prefix);
	expect_at(ix, 1, 2, 1, name, 2 * H * I * 2, H * I * 2);
}

TEST(llama4_alone_and_inside_a_multimodal_model)
{
	struct penstock_index *ix;
	struct st_file f = { 0 };
	char dir[256];

	tmp_make(dir);
	llama4_file(&f, "model.layers.", 1);
	ix = finish(dir, &f, "{\"model_type\": \"llama4_text\", \"num_hidden_layers\": 2, \"hidden_size\": 64,"
		    "\"intermediate_size\": 32, \"num_local_experts\": 3, \"interleave_moe_layer_step\": 2}");
	expect_llama4(ix, "model.layers.");
	penstock_index_close(ix);
	llama4_file(&f, "language_model.model.layers.", 1);
	ST(&f, "vision_model.model.layers.0.mlp.fc1.weight", "BF16", 4, 4);
	ix = finish(
		dir, &f,
		"{\"model_type\": \"llama4\", \"hidden_size\": 1, \"text_config\": {\"model_type\": \"llama4_text\","
		"\"num_hidden_layers\": 2, \"hidden_size\": 64, \"intermediate_size\": 32, \"num_local_experts\": 3,"
		"\"moe_layers\": [1]}, \"vision_config\": {\"hidden_size\": 4}}");
	EXPECT_STREQ("llama4", ix->arch);
	expect_llama4(ix, "language_model.model.layers.");
	penstock_index_close(ix);
	tmp_remove(dir);
}

TEST(llama4_fp8_scale_a_channel)
{
	struct penstock_index *ix;
	struct st_file f = { 0 };
	uint32_t e, p;
	char dir[256];

	tmp_make(dir);
	experts(&f, "model.layers.0.feed_forward.", 3, llama, "F8_E4M3");
	for (e = 0; e < 3; e++)
		for (p = 0; p < 3; p++)
			STF(&f, "BF16", p == 2 ? DIMS(H, 1) : DIMS(I, 1),
			    "model.layers.0.feed_forward.experts.%u.%s.weight_scale", e, llama[p]);
	ST(&f, "model.layers.0.feed_forward.router.weight", "BF16", 3, H);
	shared(&f, "model.layers.0.feed_forward.shared_expert.", I);
	ix = finish(dir, &f, "{\"model_type\": \"llama4_text\", \"num_hidden_layers\": 1, \"hidden_size\": 64,"
		    "\"intermediate_size\": 32, \"num_local_experts\": 3}");
	expect_part(ix, 0, 1, PART(GATE, SCALE, BF16, NONE, I, 1, 2, 2, 1, H, I * 2));
	expect_part(ix, 0, 5, PART(DOWN, SCALE, BF16, NONE, H, 1, 2, 2, 1, I, H * 2));
	penstock_index_close(ix);
	/* fused: the scales are [E, 1, out] */
	ST(&f, "model.layers.0.feed_forward.experts.gate_up_proj", "F8_E4M3", 3, H, 4 * I);
	ST(&f, "model.layers.0.feed_forward.experts.gate_up_proj_scale", "F32", 3, 1, 4 * I);
	ST(&f, "model.layers.0.feed_forward.experts.down_proj", "F8_E4M3", 3, 2 * I, H);
	ST(&f, "model.layers.0.feed_forward.experts.down_proj_scale", "F32", 3, H, 1);
	ST(&f, "model.layers.0.feed_forward.router.weight", "BF16", 3, H);
	shared(&f, "model.layers.0.feed_forward.shared_expert.", 2 * I);
	ix = finish(dir, &f, "{\"model_type\": \"llama4_text\", \"num_hidden_layers\": 1, \"hidden_size\": 64,"
		    "\"intermediate_size\": 64, \"num_local_experts\": 3}");
	expect_part(ix, 0, 0, PART(GATE_UP, WEIGHT, F8_E4M3, HALVES, 4 * I, H, 1, 4 * I, 0, 0, 4 * I * H));
	expect_part(ix, 0, 1, PART(GATE_UP, SCALE, F32, HALVES, 4 * I, 1, 4, 4, 1, H, 4 * I * 4));
	expect_part(ix, 0, 3, PART(DOWN, SCALE, F32, NONE, H, 1, 4, 4, 1, 2 * I, H * 4));
	penstock_index_close(ix);
	tmp_remove(dir);
}

#define GPT_OSS_CONF "{\"model_type\": \"gpt_oss\", \"num_hidden_layers\": 1, \"hidden_size\": 64," \
	"\"intermediate_size\": 32, \"num_local_experts\": 5, \"num_experts_per_tok\": 3"
#define GPT "model.layers.0.mlp.experts."

static void gpt_oss_router(struct st_file *f)
{
	ST(f, "model.layers.0.mlp.router.weight", "BF16", 5, H);
	ST(f, "model.layers.0.mlp.router.bias", "BF16", 5);
	ST(f, GPT "gate_up_proj_bias", "BF16", 5, 2 * I);
	ST(f, GPT "down_proj_bias", "BF16", 5, H);
}

TEST(gpt_oss_mxfp4)
{
	const struct penstock_layer_info *l;
	struct penstock_index *ix;
	struct st_file f = { 0 };
	char dir[256];

	tmp_make(dir);
	ST(&f, GPT "gate_up_proj_blocks", "U8", 5, 2 * I, H / 32, 16);
	ST(&f, GPT "gate_up_proj_scales", "U8", 5, 2 * I, H / 32);
	ST(&f, GPT "down_proj_blocks", "U8", 5, H, I / 32, 16);
	ST(&f, GPT "down_proj_scales", "U8", 5, H, I / 32);
	gpt_oss_router(&f);
	ix = finish(dir, &f, GPT_OSS_CONF "}");
	EXPECT_EQ((int)PENSTOCK_FAMILY_GPT_OSS, (int)ix->family);
	l = layer(ix, 0, PENSTOCK_LAYER_MOE);
	EXPECT_EQ((int)PENSTOCK_SCORE_TOPK_SOFTMAX, (int)l->score);
	EXPECT_EQ((int)PENSTOCK_ACT_SWIGLU_CLAMPED, (int)l->act);
	EXPECT_TRUE(l->act_limit == 7.0f);
	EXPECT_TRUE(l->act_alpha == 1.702f);
	EXPECT_STREQ("model.layers.0.mlp.router.bias", name_of(ix, l->t_router_bias));
	EXPECT_EQ(6u, l->nr_parts);
	expect_part(ix, 0, 0, PART(GATE_UP, WEIGHT, F4, INTERLEAVED, 2 * I, H, H / 2, 0, 0, 0, 2 * I * H / 2));
	expect_part(ix, 0, 1,
		    PART(GATE_UP, SCALE, F8_E8M0, INTERLEAVED, 2 * I, H / 32, H / 32, 1, 1, 32, 2 * I * H / 32));
	expect_part(ix, 0, 2, PART(GATE_UP, BIAS, BF16, INTERLEAVED, 2 * I, 1, 2, 0, 0, 0, 2 * I * 2));
	expect_part(ix, 0, 3, PART(DOWN, WEIGHT, F4, NONE, H, I, I / 2, 0, 0, 0, H * I / 2));
	expect_part(ix, 0, 5, PART(DOWN, BIAS, BF16, NONE, H, 1, 2, 0, 0, 0, H * 2));
	expect_at(ix, 0, 4, 1, GPT "gate_up_proj_scales", 4 * 2 * I * H / 32, 2 * I * H / 32);
	expect_at(ix, 0, 4, 2, GPT "gate_up_proj_bias", 4 * 2 * I * 2, 2 * I * 2);
	penstock_index_close(ix);
	tmp_remove(dir);
}

TEST(gpt_oss_bf16)
{
	struct penstock_index *ix;
	struct st_file f = { 0 };
	char dir[256];

	tmp_make(dir);
	ST(&f, GPT "gate_up_proj", "BF16", 5, H, 2 * I);
	ST(&f, GPT "down_proj", "BF16", 5, I, H);
	gpt_oss_router(&f);
	ix = finish(dir, &f, GPT_OSS_CONF ", \"swiglu_limit\": 5.5}");
	EXPECT_TRUE(layer(ix, 0, PENSTOCK_LAYER_MOE)->act_limit == 5.5f);
	expect_part(ix, 0, 0, PART(GATE_UP, WEIGHT, BF16, INTERLEAVED, 2 * I, H, 2, 2 * I * 2, 0, 0, 2 * I * H * 2));
	expect_part(ix, 0, 2, PART(DOWN, WEIGHT, BF16, NONE, H, I, 2, H * 2, 0, 0, H * I * 2));
	penstock_index_close(ix);
	tmp_remove(dir);
}

/* An expert's parts may be in any shards. */
TEST(parts_in_several_shards)
{
	struct penstock_extent ext[PENSTOCK_MAX_PARTS];
	struct penstock_index *ix;
	struct st_file f = { 0 };
	char dir[256];

	tmp_make(dir);
	ST(&f, GPT "gate_up_proj_bias", "BF16", 5, 2 * I);
	st_write(&f, path_in(dir, "model-00001-of-00002.safetensors"));
	ST(&f, GPT "gate_up_proj", "BF16", 5, H, 2 * I);
	ST(&f, GPT "down_proj", "BF16", 5, I, H);
	ST(&f, GPT "down_proj_bias", "BF16", 5, H);
	ST(&f, "model.layers.0.mlp.router.weight", "BF16", 5, H);
	ST(&f, "model.layers.0.mlp.router.bias", "BF16", 5);
	st_write(&f, path_in(dir, "model-00002-of-00002.safetensors"));
	text_write(path_in(dir, "config.json"), GPT_OSS_CONF "}");
	ix = open_good(dir);
	ASSERT_EQ(0, penstock_index_expert(ix, 0, 1, ext));
	EXPECT_EQ(1u, ext[0].file);
	EXPECT_EQ(0u, ext[1].file);
	EXPECT_EQ(1u, ext[2].file);
	penstock_index_close(ix);
	/* one shard alone is listed as a file */
	ix = open_good(path_in(dir, "model-00001-of-00002.safetensors"));
	EXPECT_EQ(1u, ix->nr_tensors);
	EXPECT_EQ(0u, ix->nr_layers);
	penstock_index_close(ix);
	tmp_remove(dir);
}

TEST_HARNESS_MAIN
