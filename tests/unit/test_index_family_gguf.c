// SPDX-License-Identifier: MIT
/* Families of GGUF files: names, shapes, strides, and what keys and architectures say of the router. */
#include <kabi.h>
#include "index_files.h"

#define H 256
#define I 64
#define E 6

static void keys(struct gg_file *g, const char *arch, uint32_t layers)
{
	gg_string(g, "general.architecture", arch);
	gg_arch_u32(g, arch, "block_count", layers);
	gg_arch_u32(g, arch, "embedding_length", H);
	gg_arch_u32(g, arch, "expert_count", E);
	gg_arch_u32(g, arch, "expert_used_count", 2);
}

static void experts(struct gg_file *g, uint32_t layer, uint32_t type)
{
	GGF(g, type, DIMS(E, I, H), "blk.%u.ffn_gate_exps.weight", layer);
	GGF(g, type, DIMS(E, I, H), "blk.%u.ffn_up_exps.weight", layer);
	GGF(g, GG_TYPE_Q8_0, DIMS(E, H, I), "blk.%u.ffn_down_exps.weight", layer);
	GGF(g, GG_TYPE_F32, DIMS(E, H), "blk.%u.ffn_gate_inp.weight", layer);
}

static void shared(struct gg_file *g, uint32_t layer, long width)
{
	GGF(g, GG_TYPE_Q8_0, DIMS(width, H), "blk.%u.ffn_gate_shexp.weight", layer);
	GGF(g, GG_TYPE_Q8_0, DIMS(width, H), "blk.%u.ffn_up_shexp.weight", layer);
	GGF(g, GG_TYPE_Q8_0, DIMS(H, width), "blk.%u.ffn_down_shexp.weight", layer);
}

static struct penstock_index *finish(const char *dir, struct gg_file *g, uint32_t family)
{
	struct penstock_index *ix;

	gg_write(g, path_in(dir, "m.gguf"));
	ix = open_good(path_in(dir, "m.gguf"));
	EXPECT_EQ(family, ix->family);
	EXPECT_EQ((uint32_t)H, ix->hidden);
	EXPECT_EQ((int)PENSTOCK_FORMAT_GGUF, (int)ix->format);
	return ix;
}

static void refused(const char *dir, struct gg_file *g, const char *text)
{
	gg_write(g, path_in(dir, "m.gguf"));
	EXPECT_REFUSED(path_in(dir, "m.gguf"), -EBADMSG, text);
}

static const struct penstock_layer_info *layer(const struct penstock_index *ix, uint32_t nr, uint32_t kind)
{
	ASSERT_TRUE(nr < ix->nr_layers + ix->nr_mtp_layers);
	EXPECT_EQ(kind, ix->layers[nr].info.kind);
	return &ix->layers[nr].info;
}

static void expect_weight(const struct penstock_index *ix, uint32_t l, uint32_t part, uint32_t role, uint32_t dtype,
			  uint64_t rows, uint64_t cols, uint64_t row_stride, uint64_t col_stride)
{
	const struct penstock_part *p = &ix->layers[l].info.parts[part];
	struct penstock_extent ext[PENSTOCK_MAX_PARTS];
	const struct penstock_index_tensor *t;

	printf("# layer %u part %u\n", l, part);
	EXPECT_EQ(role, p->role);
	EXPECT_EQ((int)PENSTOCK_KIND_WEIGHT, (int)p->kind);
	EXPECT_EQ(dtype, p->dtype);
	EXPECT_EQ(rows, p->rows);
	EXPECT_EQ(cols, p->cols);
	EXPECT_EQ(row_stride, p->row_stride);
	EXPECT_EQ(col_stride, p->col_stride);
	EXPECT_EQ(rows * row_stride, p->bytes);
	ASSERT_EQ(0, penstock_index_expert(ix, l, E - 1, ext));
	t = &ix->tensors[penstock_index_part_tensor(ix, l, E - 1, part)];
	EXPECT_EQ(p->bytes, ext[part].len);
	EXPECT_EQ(t->off + t->bytes, ext[part].off + ext[part].len);
}

static double scale_of(const struct penstock_layer_info *l)
{
	return (double)l->router_scale;
}

TEST(qwen3moe)
{
	const struct penstock_layer_info *l;
	struct penstock_index *ix;
	struct gg_file g = { 0 };
	char dir[256];

	tmp_make(dir);
	keys(&g, "qwen3moe", 2);
	gg_arch_u32(&g, "qwen3moe", "expert_feed_forward_length", I);
	gg_arch_u32(&g, "qwen3moe", "feed_forward_length", 1000);
	experts(&g, 0, GG_TYPE_Q4_K);
	experts(&g, 1, GG_TYPE_F16);
	ix = finish(dir, &g, PENSTOCK_FAMILY_QWEN3_MOE);
	EXPECT_STREQ("qwen3moe", ix->arch);
	l = layer(ix, 0, PENSTOCK_LAYER_MOE);
	EXPECT_EQ((uint32_t)E, l->nr_experts);
	EXPECT_EQ(2u, l->top_k);
	EXPECT_EQ((uint32_t)I, l->inter);
	EXPECT_EQ((int)PENSTOCK_SCORE_SOFTMAX, (int)l->score);
	EXPECT_EQ(PENSTOCK_ROUTER_F_RENORM, l->router_flags);
	EXPECT_TRUE(scale_of(l) == 1.0);
	EXPECT_STREQ("blk.0.ffn_gate_inp.weight", name_of(ix, l->t_router));
	EXPECT_EQ(3u, l->nr_parts);
	expect_weight(ix, 0, 0, PENSTOCK_ROLE_GATE, PENSTOCK_DTYPE_Q4_K, I, H, 144, 0);
	expect_weight(ix, 0, 1, PENSTOCK_ROLE_UP, PENSTOCK_DTYPE_Q4_K, I, H, 144, 0);
	expect_weight(ix, 0, 2, PENSTOCK_ROLE_DOWN, PENSTOCK_DTYPE_Q8_0, H, I, 68, 0);
	expect_weight(ix, 1, 0, PENSTOCK_ROLE_GATE, PENSTOCK_DTYPE_F16, I, H, 512, 2);
	EXPECT_EQ(2ull * I * H * 2 + H * 68ull, layer(ix, 1, PENSTOCK_LAYER_MOE)->expert_bytes);
	penstock_index_close(ix);
	tmp_remove(dir);
}

TEST(mixtral_is_llama_with_experts)
{
	const struct penstock_layer_info *l;
	struct penstock_index *ix;
	struct gg_file g = { 0 };
	uint32_t e;
	char dir[256];

	tmp_make(dir);
	keys(&g, "llama", 1);
	gg_arch_u32(&g, "llama", "feed_forward_length", I);
	experts(&g, 0, GG_TYPE_Q4_0);
	ix = finish(dir, &g, PENSTOCK_FAMILY_MIXTRAL);
	l = layer(ix, 0, PENSTOCK_LAYER_MOE);
	EXPECT_EQ(PENSTOCK_ROUTER_F_RENORM, l->router_flags);
	penstock_index_close(ix);
	/* an old file: one tensor an expert */
	keys(&g, "llama", 1);
	gg_arch_u32(&g, "llama", "feed_forward_length", I);
	for (e = 0; e < E; e++) {
		GGF(&g, GG_TYPE_Q4_0, DIMS(I, H), "blk.0.ffn_gate.%u.weight", e);
		GGF(&g, GG_TYPE_Q4_0, DIMS(H, I), "blk.0.ffn_down.%u.weight", e);
		GGF(&g, GG_TYPE_Q4_0, DIMS(I, H), "blk.0.ffn_up.%u.weight", e);
	}
	GG(&g, "blk.0.ffn_gate_inp.weight", GG_TYPE_F32, E, H);
	ix = finish(dir, &g, PENSTOCK_FAMILY_MIXTRAL);
	layer(ix, 0, PENSTOCK_LAYER_MOE);
	expect_weight(ix, 0, 2, PENSTOCK_ROLE_DOWN, PENSTOCK_DTYPE_Q4_0, H, I, 36, 0);
	EXPECT_STREQ("blk.0.ffn_down.5.weight", name_of(ix, penstock_index_part_tensor(ix, 0, 5, 2)));
	penstock_index_close(ix);
	/* and without experts it is another model */
	gg_string(&g, "general.architecture", "llama");
	gg_arch_u32(&g, "llama", "block_count", 1);
	gg_write(&g, path_in(dir, "m.gguf"));
	ix = open_good(path_in(dir, "m.gguf"));
	EXPECT_EQ((int)PENSTOCK_FAMILY_NONE, (int)ix->family);
	EXPECT_STREQ("llama", ix->arch);
	penstock_index_close(ix);
	tmp_remove(dir);
}

TEST(olmoe_fused_gate_and_up)
{
	const struct penstock_layer_info *l;
	struct penstock_index *ix;
	struct gg_file g = { 0 };
	char dir[256];

	tmp_make(dir);
	keys(&g, "olmoe", 1);
	gg_arch_u32(&g, "olmoe", "feed_forward_length", I);
	GG(&g, "blk.0.ffn_gate_up_exps.weight", GG_TYPE_Q4_0, E, 2 * I, H);
	GG(&g, "blk.0.ffn_down_exps.weight", GG_TYPE_Q5_0, E, H, I);
	GG(&g, "blk.0.ffn_gate_inp.weight", GG_TYPE_F32, E, H);
	ix = finish(dir, &g, PENSTOCK_FAMILY_OLMOE);
	l = layer(ix, 0, PENSTOCK_LAYER_MOE);
	EXPECT_EQ(0u, l->router_flags);
	EXPECT_EQ(2u, l->nr_parts);
	EXPECT_EQ((int)PENSTOCK_FUSE_HALVES, (int)l->parts[0].fuse);
	expect_weight(ix, 0, 0, PENSTOCK_ROLE_GATE_UP, PENSTOCK_DTYPE_Q4_0, 2 * I, H, 144, 0);
	expect_weight(ix, 0, 1, PENSTOCK_ROLE_DOWN, PENSTOCK_DTYPE_Q5_0, H, I, 44, 0);
	penstock_index_close(ix);
	tmp_remove(dir);
}

static void deepseek(struct gg_file *g, uint32_t layers)
{
	uint32_t i;

	keys(g, "deepseek2", layers);
	gg_arch_u32(g, "deepseek2", "expert_feed_forward_length", I);
	gg_arch_u32(g, "deepseek2", "leading_dense_block_count", 1);
	gg_arch_u32(g, "deepseek2", "expert_shared_count", 2);
	for (i = 1; i < layers; i++) {
		experts(g, i, GG_TYPE_Q4_0);
		shared(g, i, 2 * I);
	}
}

TEST(deepseek2_router_by_its_keys)
{
	const struct penstock_layer_info *l;
	struct penstock_index *ix;
	struct gg_file g = { 0 };
	char dir[256];

	tmp_make(dir);
	/* V2: no gating function is softmax */
	deepseek(&g, 2);
	gg_f32(&g, "deepseek2.expert_weights_scale", 16.0f);
	ix = finish(dir, &g, PENSTOCK_FAMILY_DEEPSEEK2);
	layer(ix, 0, PENSTOCK_LAYER_DENSE);
	l = layer(ix, 1, PENSTOCK_LAYER_MOE);
	EXPECT_EQ((int)PENSTOCK_SCORE_SOFTMAX, (int)l->score);
	EXPECT_EQ(0u, l->router_flags);
	EXPECT_EQ(0u, l->nr_groups);
	EXPECT_TRUE(scale_of(l) == 16.0);
	EXPECT_STREQ("blk.1.ffn_down_shexp.weight", name_of(ix, l->t_shared[2]));
	penstock_index_close(ix);
	/* V3, with groups and a prediction layer */
	deepseek(&g, 3);
	gg_arch_u32(&g, "deepseek2", "nextn_predict_layers", 1);
	gg_arch_u32(&g, "deepseek2", "expert_gating_func", 2);
	gg_arch_u32(&g, "deepseek2", "expert_group_count", 3);
	gg_arch_u32(&g, "deepseek2", "expert_group_used_count", 2);
	gg_bool(&g, "deepseek2.expert_weights_norm", 1);
	gg_f32(&g, "deepseek2.expert_weights_scale", 2.5f);
	GG(&g, "blk.1.exp_probs_b.bias", GG_TYPE_F32, E);
	ix = finish(dir, &g, PENSTOCK_FAMILY_DEEPSEEK3);
	EXPECT_EQ(2u, ix->nr_layers);
	EXPECT_EQ(1u, ix->nr_mtp_layers);
	l = layer(ix, 1, PENSTOCK_LAYER_MOE);
	EXPECT_EQ((int)PENSTOCK_SCORE_SIGMOID, (int)l->score);
	EXPECT_EQ(PENSTOCK_ROUTER_F_RENORM | PENSTOCK_ROUTER_F_GROUP_MASK_INF, l->router_flags);
	EXPECT_EQ(3u, l->nr_groups);
	EXPECT_EQ(2u, l->top_groups);
	EXPECT_EQ((int)PENSTOCK_GROUP_TOP2_SUM, (int)l->group_score);
	EXPECT_TRUE(scale_of(l) == 2.5);
	EXPECT_STREQ("blk.1.exp_probs_b.bias", name_of(ix, l->t_select_bias));
	layer(ix, 2, PENSTOCK_LAYER_MTP);
	penstock_index_close(ix);
	deepseek(&g, 2);
	gg_arch_u32(&g, "deepseek2", "expert_gating_func", 9);
	refused(dir, &g, "expert_gating_func 9");
	deepseek(&g, 2);
	gg_arch_u32(&g, "deepseek2", "nextn_predict_layers", 2);
	refused(dir, &g, "2 blocks, of which 2 predict");
	tmp_remove(dir);
}

TEST(glm4moe)
{
	const struct penstock_layer_info *l;
	struct penstock_index *ix;
	struct gg_file g = { 0 };
	char dir[256];

	tmp_make(dir);
	keys(&g, "glm4moe", 3);
	gg_arch_u32(&g, "glm4moe", "expert_feed_forward_length", I);
	gg_arch_u32(&g, "glm4moe", "leading_dense_block_count", 1);
	gg_arch_u32(&g, "glm4moe", "expert_shared_count", 1);
	gg_arch_u32(&g, "glm4moe", "nextn_predict_layers", 1);
	gg_bool(&g, "glm4moe.expert_weights_norm", 1);
	gg_f32(&g, "glm4moe.expert_weights_scale", 1.0f);
	experts(&g, 1, GG_TYPE_Q4_0);
	shared(&g, 1, I);
	experts(&g, 2, GG_TYPE_Q4_0);
	shared(&g, 2, I);
	GG(&g, "blk.1.exp_probs_b.bias", GG_TYPE_F32, E);
	ix = finish(dir, &g, PENSTOCK_FAMILY_GLM4_MOE);
	l = layer(ix, 1, PENSTOCK_LAYER_MOE);
	EXPECT_EQ((int)PENSTOCK_SCORE_SIGMOID, (int)l->score);
	EXPECT_EQ(PENSTOCK_ROUTER_F_RENORM, l->router_flags);
	layer(ix, 2, PENSTOCK_LAYER_MTP);
	penstock_index_close(ix);
	tmp_remove(dir);
}

TEST(llama4)
{
	const struct penstock_layer_info *l;
	struct penstock_index *ix;
	struct gg_file g = { 0 };
	char dir[256];

	tmp_make(dir);
	keys(&g, "llama4", 2);
	gg_arch_u32(&g, "llama4", "expert_feed_forward_length", I);
	gg_arch_u32(&g, "llama4", "interleave_moe_layer_step", 2);
	experts(&g, 1, GG_TYPE_Q4_0);
	shared(&g, 1, I);
	ix = finish(dir, &g, PENSTOCK_FAMILY_LLAMA4);
	layer(ix, 0, PENSTOCK_LAYER_DENSE);
	l = layer(ix, 1, PENSTOCK_LAYER_MOE);
	EXPECT_EQ((int)PENSTOCK_SCORE_SIGMOID, (int)l->score);
	EXPECT_EQ(PENSTOCK_ROUTER_F_INPUT_SCALE, l->router_flags);
	EXPECT_STREQ("blk.1.ffn_gate_shexp.weight", name_of(ix, l->t_shared[0]));
	penstock_index_close(ix);
	tmp_remove(dir);
}

static void gpt_oss(struct gg_file *g, bool with_bias)
{
	keys(g, "gpt-oss", 1);
	gg_arch_u32(g, "gpt-oss", "expert_feed_forward_length", I);
	experts(g, 0, GG_TYPE_MXFP4);
	GG(g, "blk.0.ffn_gate_inp.bias", GG_TYPE_F32, E);
	GG(g, "blk.0.ffn_gate_exps.bias", GG_TYPE_F32, E, I);
	GG(g, "blk.0.ffn_up_exps.bias", GG_TYPE_F32, E, I);
	if (with_bias)
		GG(g, "blk.0.ffn_down_exps.bias", GG_TYPE_F32, E, H);
}

TEST(gpt_oss_with_biases)
{
	struct penstock_extent ext[PENSTOCK_MAX_PARTS];
	const struct penstock_layer_info *l;
	const struct penstock_index_tensor *t;
	struct penstock_index *ix;
	struct gg_file g = { 0 };
	char dir[256];

	tmp_make(dir);
	gpt_oss(&g, true);
	ix = finish(dir, &g, PENSTOCK_FAMILY_GPT_OSS);
	l = layer(ix, 0, PENSTOCK_LAYER_MOE);
	EXPECT_EQ((int)PENSTOCK_SCORE_TOPK_SOFTMAX, (int)l->score);
	EXPECT_EQ((int)PENSTOCK_ACT_SWIGLU_CLAMPED, (int)l->act);
	EXPECT_TRUE(l->act_limit == 7.0f);
	EXPECT_TRUE(l->act_alpha == 1.702f);
	EXPECT_STREQ("blk.0.ffn_gate_inp.bias", name_of(ix, l->t_router_bias));
	EXPECT_EQ(6u, l->nr_parts);
	expect_weight(ix, 0, 0, PENSTOCK_ROLE_GATE, PENSTOCK_DTYPE_MXFP4, I, H, 136, 0);
	EXPECT_EQ((int)PENSTOCK_KIND_BIAS, (int)l->parts[1].kind);
	EXPECT_EQ((int)PENSTOCK_ROLE_GATE, (int)l->parts[1].role);
	EXPECT_EQ((int)PENSTOCK_DTYPE_F32, (int)l->parts[1].dtype);
	EXPECT_EQ((uint64_t)I, l->parts[1].rows);
	EXPECT_EQ(1u, l->parts[1].cols);
	EXPECT_EQ(4u, l->parts[1].row_stride);
	EXPECT_EQ((int)PENSTOCK_FUSE_NONE, (int)l->parts[1].fuse);
	EXPECT_EQ(4u * H, l->parts[5].bytes);
	ASSERT_EQ(0, penstock_index_expert(ix, 0, 3, ext));
	t = tensor(ix, "blk.0.ffn_up_exps.bias");
	EXPECT_EQ(t->off + 3 * 4 * I, ext[3].off);
	penstock_index_close(ix);
	gpt_oss(&g, false);
	refused(dir, &g, "no bias of ffn_down_exps");
	tmp_remove(dir);
}

TEST(what_does_not_fit_is_refused)
{
	struct gg_file g = { 0 };
	char dir[256];

	tmp_make(dir);
	keys(&g, "qwen3moe", 1);
	gg_arch_u32(&g, "qwen3moe", "expert_feed_forward_length", I + 32);
	experts(&g, 0, GG_TYPE_Q4_0);
	refused(dir, &g, "has shape [6, 64, 256], its configuration says [6, 96, 256]");
	keys(&g, "qwen3moe", 2);
	gg_arch_u32(&g, "qwen3moe", "expert_feed_forward_length", I);
	experts(&g, 0, GG_TYPE_Q4_0);
	refused(dir, &g, "layer 1 has no experts");
	keys(&g, "qwen3moe", 1);
	gg_arch_u32(&g, "qwen3moe", "expert_feed_forward_length", I);
	experts(&g, 0, GG_TYPE_Q4_0);
	experts(&g, 100, GG_TYPE_Q4_0);
	gg_write(&g, path_in(dir, "m.gguf"));
	penstock_index_close(open_good(path_in(dir, "m.gguf")));	/* no layer of this model: only tensors */
	keys(&g, "qwen3moe", 1);
	experts(&g, 0, GG_TYPE_Q4_0);
	refused(dir, &g, "width");
	keys(&g, "deepseek2", 1);
	gg_arch_u32(&g, "deepseek2", "expert_feed_forward_length", I);
	gg_arch_u32(&g, "deepseek2", "expert_shared_count", 1);
	experts(&g, 0, GG_TYPE_Q4_0);
	refused(dir, &g, "no shared expert ffn_gate_shexp");
	keys(&g, "qwen3moe", 1);
	gg_arch_u32(&g, "qwen3moe", "expert_feed_forward_length", I);
	GG(&g, "blk.0.ffn_gate_exps.weight", GG_TYPE_Q4_0, E, I, H);
	GG(&g, "blk.0.ffn_down_exps.weight", GG_TYPE_Q4_0, E, H, I);
	refused(dir, &g, "no blk.0.ffn_up_exps");
	tmp_remove(dir);
}

TEST_HARNESS_MAIN
