// SPDX-License-Identifier: MIT
/* Families of Hugging Face checkpoints with a tensor an expert: names, shapes, scales, routers, defaults. */
#include "index_layers.h"

TEST(mixtral_names_and_defaults)
{
	const struct penstock_layer_info *l;
	struct penstock_extent ext[PENSTOCK_MAX_PARTS];
	struct penstock_index *ix;
	struct st_file f = { 0 };
	char dir[256];

	tmp_make(dir);
	mixtral_file(&f);
	ix = finish(dir, &f, MIXTRAL_CONF);
	EXPECT_EQ((int)PENSTOCK_FAMILY_MIXTRAL, (int)ix->family);
	EXPECT_STREQ("mixtral", ix->arch);
	EXPECT_EQ(2u, ix->nr_layers);
	EXPECT_EQ(0u, ix->nr_mtp_layers);
	EXPECT_EQ(64u, ix->hidden);
	l = layer(ix, 1, PENSTOCK_LAYER_MOE);
	EXPECT_EQ(3u, l->nr_experts);
	EXPECT_EQ(2u, l->top_k);	/* the library's default */
	EXPECT_EQ(32u, l->inter);
	EXPECT_EQ(3u, l->nr_parts);
	EXPECT_EQ(3u * H * I * 2, l->expert_bytes);
	EXPECT_EQ((int)PENSTOCK_SCORE_SOFTMAX, (int)l->score);
	EXPECT_EQ(PENSTOCK_ROUTER_F_RENORM, l->router_flags);
	EXPECT_TRUE(l->router_scale == 1.0f);
	EXPECT_EQ((int)PENSTOCK_ACT_SWIGLU, (int)l->act);
	EXPECT_STREQ("model.layers.1.block_sparse_moe.gate.weight", name_of(ix, l->t_router));
	EXPECT_STREQ("-", name_of(ix, l->t_shared[0]));
	EXPECT_STREQ("-", name_of(ix, l->t_select_bias));
	expect_part(ix, 1, 0, PART(GATE, WEIGHT, BF16, NONE, I, H, H * 2, 2, 0, 0, H * I * 2));
	expect_part(ix, 1, 1, PART(UP, WEIGHT, BF16, NONE, I, H, H * 2, 2, 0, 0, H * I * 2));
	expect_part(ix, 1, 2, PART(DOWN, WEIGHT, BF16, NONE, H, I, I * 2, 2, 0, 0, H * I * 2));
	expect_at(ix, 1, 2, 0, "model.layers.1.block_sparse_moe.experts.2.w1.weight", 0, H * I * 2);
	expect_at(ix, 1, 2, 1, "model.layers.1.block_sparse_moe.experts.2.w3.weight", 0, H * I * 2);
	expect_at(ix, 0, 0, 2, "model.layers.0.block_sparse_moe.experts.0.w2.weight", 0, H * I * 2);
	EXPECT_EQ(-ENOENT, penstock_index_expert(ix, 2, 0, ext));
	EXPECT_EQ(-ENOENT, penstock_index_expert(ix, 1, 3, ext));
	EXPECT_EQ(-ENOENT, penstock_index_expert(ix, UINT32_MAX, 0, ext));
	penstock_index_close(ix);
	tmp_remove(dir);
}

TEST(qwen3_moe_with_dense_layers)
{
	const struct penstock_layer_info *l;
	struct penstock_index *ix;
	struct st_file f = { 0 };
	char dir[256];

	tmp_make(dir);
	experts(&f, "model.layers.1.mlp.", 4, llama, "F32");
	ST(&f, "model.layers.1.mlp.gate.weight", "F32", 4, H);
	experts(&f, "model.layers.5.mlp.", 4, llama, "F32");
	ST(&f, "model.layers.5.mlp.gate.weight", "F32", 4, H);
	ix = finish(
		dir, &f,
		"{\"model_type\": \"qwen3_moe\", \"num_hidden_layers\": 6, \"hidden_size\": 64,"
		"\"moe_intermediate_size\": 32, \"intermediate_size\": 100, \"num_experts\": 4, \"num_experts_per_tok\": 3,"
		"\"decoder_sparse_step\": 2, \"mlp_only_layers\": [3], \"norm_topk_prob\": true}");
	EXPECT_EQ((int)PENSTOCK_FAMILY_QWEN3_MOE, (int)ix->family);
	layer(ix, 0, PENSTOCK_LAYER_DENSE);
	layer(ix, 2, PENSTOCK_LAYER_DENSE);
	layer(ix, 3, PENSTOCK_LAYER_DENSE);
	l = layer(ix, 5, PENSTOCK_LAYER_MOE);
	EXPECT_EQ(PENSTOCK_ROUTER_F_RENORM, l->router_flags);
	EXPECT_EQ(3u, l->top_k);
	EXPECT_EQ(0u, layer(ix, 0, PENSTOCK_LAYER_DENSE)->nr_experts);
	EXPECT_STREQ("-", name_of(ix, layer(ix, 0, PENSTOCK_LAYER_DENSE)->t_router));
	expect_part(ix, 5, 0, PART(GATE, WEIGHT, F32, NONE, I, H, H * 4, 4, 0, 0, H * I * 4));
	penstock_index_close(ix);
	tmp_remove(dir);
}

TEST(deepseek_v2_groups)
{
	const struct penstock_layer_info *l;
	struct penstock_index *ix;
	struct st_file f = { 0 };
	uint32_t grouped;
	char dir[256];

	tmp_make(dir);
	for (grouped = 0; grouped < 2; grouped++) {
		experts(&f, "model.layers.1.mlp.", 8, llama, "BF16");
		ST(&f, "model.layers.1.mlp.gate.weight", "BF16", 8, H);
		shared(&f, "model.layers.1.mlp.shared_experts.", 2 * I);
		ix = finish(
			dir, &f,
			grouped ? "{\"model_type\": \"deepseek_v2\", \"num_hidden_layers\": 2, \"hidden_size\": 64,"
				  "\"moe_intermediate_size\": 32, \"n_routed_experts\": 8, \"num_experts_per_tok\": 3, \"n_group\": 4,"
				  "\"topk_group\": 2, \"topk_method\": \"group_limited_greedy\", \"routed_scaling_factor\": 16.0,"
				  "\"first_k_dense_replace\": 1, \"norm_topk_prob\": true}"
				: "{\"model_type\": \"deepseek_v2\", \"num_hidden_layers\": 2, \"hidden_size\": 64,"
				  "\"moe_intermediate_size\": 32, \"n_routed_experts\": 8, \"num_experts_per_tok\": 3, \"n_group\": 4,"
				  "\"topk_group\": 2, \"first_k_dense_replace\": 1}");
		EXPECT_EQ((int)PENSTOCK_FAMILY_DEEPSEEK2, (int)ix->family);
		layer(ix, 0, PENSTOCK_LAYER_DENSE);
		l = layer(ix, 1, PENSTOCK_LAYER_MOE);
		EXPECT_EQ((int)PENSTOCK_SCORE_SOFTMAX, (int)l->score);
		EXPECT_EQ(0u, l->router_flags);
		EXPECT_EQ(grouped ? 4u : 0u, l->nr_groups);
		EXPECT_EQ(grouped ? 2u : 0u, l->top_groups);
		EXPECT_EQ((int)PENSTOCK_GROUP_MAX, (int)l->group_score);
		EXPECT_TRUE(l->router_scale == (grouped ? 16.0f : 1.0f));
		EXPECT_STREQ("model.layers.1.mlp.shared_experts.gate_proj.weight", name_of(ix, l->t_shared[0]));
		EXPECT_STREQ("model.layers.1.mlp.shared_experts.up_proj.weight", name_of(ix, l->t_shared[1]));
		EXPECT_STREQ("model.layers.1.mlp.shared_experts.down_proj.weight", name_of(ix, l->t_shared[2]));
		penstock_index_close(ix);
	}
	tmp_remove(dir);
}

#define V3_CONF "{\"model_type\": \"deepseek_v3\", \"num_hidden_layers\": 2, \"hidden_size\": 64," \
	"\"moe_intermediate_size\": 32, \"n_routed_experts\": 16, \"first_k_dense_replace\": 1"

static void v3_layer(struct st_file *f, uint32_t l, const char *dtype)
{
	char p[64];

	snprintf(p, sizeof(p), "model.layers.%u.mlp.", l);
	experts(f, p, 16, llama, dtype);
	STF(f, "BF16", DIMS(16, H), "%sgate.weight", p);
	STF(f, "F32", DIMS(16), "%sgate.e_score_correction_bias", p);
	strcat(p, "shared_experts.");
	shared(f, p, I);
}

static void v3_scales(struct st_file *f, uint32_t l, long block)
{
	uint32_t e, p;

	for (e = 0; e < 16; e++)
		for (p = 0; p < 3; p++)
			STF(f, "F32", p == 2 ? DIMS((H + block - 1) / block, (I + block - 1) / block) :
			    DIMS((I + block - 1) / block, (H + block - 1) / block),
			    "model.layers.%u.mlp.experts.%u.%s.weight_scale_inv", l, e, llama[p]);
}

TEST(deepseek_v3_fp8_blocks_and_prediction_layer)
{
	const struct penstock_layer_info *l;
	struct penstock_index *ix;
	struct st_file f = { 0 };
	char dir[256];

	tmp_make(dir);
	v3_layer(&f, 1, "F8_E4M3");
	v3_scales(&f, 1, 24);
	v3_layer(&f, 2, "F8_E4M3");
	v3_scales(&f, 2, 24);
	ST(&f, "model.layers.1.mlp.shared_experts.down_proj.weight_scale_inv", "F32", 3, 2);
	ix = finish(dir, &f,
		    V3_CONF ", \"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [24, 24]}}");
	EXPECT_EQ((int)PENSTOCK_FAMILY_DEEPSEEK3, (int)ix->family);
	EXPECT_EQ(2u, ix->nr_layers);
	EXPECT_EQ(1u, ix->nr_mtp_layers);
	l = layer(ix, 1, PENSTOCK_LAYER_MOE);
	EXPECT_EQ((int)PENSTOCK_SCORE_SIGMOID, (int)l->score);
	EXPECT_EQ(PENSTOCK_ROUTER_F_RENORM | PENSTOCK_ROUTER_F_GROUP_MASK_INF, l->router_flags);
	EXPECT_EQ(8u, l->nr_groups);
	EXPECT_EQ(4u, l->top_groups);
	EXPECT_EQ(8u, l->top_k);
	EXPECT_EQ((int)PENSTOCK_GROUP_TOP2_SUM, (int)l->group_score);
	EXPECT_TRUE(l->router_scale == 2.5f);
	EXPECT_STREQ("model.layers.1.mlp.gate.e_score_correction_bias", name_of(ix, l->t_select_bias));
	EXPECT_STREQ("model.layers.1.mlp.shared_experts.down_proj.weight_scale_inv", name_of(ix, l->t_shared_scale[2]));
	EXPECT_STREQ("-", name_of(ix, l->t_shared_scale[0]));
	EXPECT_EQ(6u, l->nr_parts);
	EXPECT_EQ(3u * (H * I + 6 * 4), l->expert_bytes);
	expect_part(ix, 1, 0, PART(GATE, WEIGHT, F8_E4M3, NONE, I, H, H, 1, 0, 0, H * I));
	expect_part(ix, 1, 1, PART(GATE, SCALE, F32, NONE, 2, 3, 12, 4, 24, 24, 24));
	expect_part(ix, 1, 5, PART(DOWN, SCALE, F32, NONE, 3, 2, 8, 4, 24, 24, 24));
	expect_at(ix, 1, 15, 1, "model.layers.1.mlp.experts.15.gate_proj.weight_scale_inv", 0, 24);
	l = layer(ix, 2, PENSTOCK_LAYER_MTP);
	EXPECT_EQ(16u, l->nr_experts);
	expect_at(ix, 2, 3, 0, "model.layers.2.mlp.experts.3.gate_proj.weight", 0, H * I);
	penstock_index_close(ix);
	/* without the configuration's word, blocks are 128 x 128 */
	v3_layer(&f, 1, "F8_E4M3");
	v3_scales(&f, 1, 128);
	ix = finish(dir, &f, V3_CONF ", \"norm_topk_prob\": false, \"n_group\": 1, \"topk_group\": 1}");
	expect_part(ix, 1, 1, PART(GATE, SCALE, F32, NONE, 1, 1, 4, 4, 128, 128, 4));
	EXPECT_EQ(PENSTOCK_ROUTER_F_GROUP_MASK_INF, layer(ix, 1, PENSTOCK_LAYER_MOE)->router_flags);
	penstock_index_close(ix);
	v3_layer(&f, 1, "F8_E4M3");
	v3_scales(&f, 1, 24);
	refused(dir, &f, V3_CONF "}", -EBADMSG, "has shape [2, 3], its configuration says [1, 1]");
	tmp_remove(dir);
}

TEST(kimi_int4_packed)
{
	struct penstock_index *ix;
	struct st_file f = { 0 };
	uint32_t e, p;
	char dir[256];

	tmp_make(dir);
	for (e = 0; e < 4; e++) {
		for (p = 0; p < 3; p++) {
			STF(&f, "I32", p == 2 ? DIMS(H, I / 8) : DIMS(I, H / 8),
			    "model.layers.0.mlp.experts.%u.%s.weight_packed", e, llama[p]);
			STF(&f, "BF16", p == 2 ? DIMS(H, I / 32) : DIMS(I, H / 32),
			    "model.layers.0.mlp.experts.%u.%s.weight_scale", e, llama[p]);
			STF(&f, "I32", DIMS(2), "model.layers.0.mlp.experts.%u.%s.weight_shape", e, llama[p]);
		}
	}
	ST(&f, "model.layers.0.mlp.gate.weight", "BF16", 4, H);
	ST(&f, "model.layers.0.mlp.gate.e_score_correction_bias", "F32", 4);
	shared(&f, "model.layers.0.mlp.shared_experts.", I);
	ix = finish(
		dir, &f,
		"{\"model_type\": \"kimi_k2\", \"num_hidden_layers\": 1, \"hidden_size\": 64,"
		"\"moe_intermediate_size\": 32, \"n_routed_experts\": 4, \"num_experts_per_tok\": 2, \"n_group\": 1,"
		"\"topk_group\": 1, \"first_k_dense_replace\": 0, \"routed_scaling_factor\": 2.827}");
	EXPECT_EQ((int)PENSTOCK_FAMILY_DEEPSEEK3, (int)ix->family);
	EXPECT_STREQ("kimi_k2", ix->arch);
	expect_part(ix, 0, 0, PART(GATE, WEIGHT, INT4, NONE, I, H, H / 2, 0, 0, 0, H * I / 2));
	expect_part(ix, 0, 1, PART(GATE, SCALE, BF16, NONE, I, H / 32, H / 32 * 2, 2, 1, 32, I * H / 32 * 2));
	expect_part(ix, 0, 5, PART(DOWN, SCALE, BF16, NONE, H, 1, 2, 2, 1, 32, H * 2));
	penstock_index_close(ix);
	tmp_remove(dir);
}

TEST(glm4_moe)
{
	const struct penstock_layer_info *l;
	struct penstock_index *ix;
	struct st_file f = { 0 };
	char dir[256];

	tmp_make(dir);
	v3_layer(&f, 1, "BF16");
	v3_layer(&f, 2, "BF16");
	ix = finish(dir, &f, "{\"model_type\": \"glm4_moe\", \"num_hidden_layers\": 2, \"hidden_size\": 64,"
		    "\"moe_intermediate_size\": 32, \"n_routed_experts\": 16, \"num_nextn_predict_layers\": 1}");
	EXPECT_EQ((int)PENSTOCK_FAMILY_GLM4_MOE, (int)ix->family);
	layer(ix, 0, PENSTOCK_LAYER_DENSE);
	l = layer(ix, 1, PENSTOCK_LAYER_MOE);
	EXPECT_EQ((int)PENSTOCK_SCORE_SIGMOID, (int)l->score);
	EXPECT_TRUE(l->router_flags & PENSTOCK_ROUTER_F_RENORM);
	EXPECT_EQ(1u, l->nr_groups);
	EXPECT_TRUE(l->router_scale == 1.0f);
	EXPECT_TRUE(l->t_select_bias != PENSTOCK_NO_TENSOR);
	layer(ix, 2, PENSTOCK_LAYER_MTP);
	EXPECT_EQ(1u, ix->nr_mtp_layers);
	penstock_index_close(ix);
	tmp_remove(dir);
}

TEST_HARNESS_MAIN
