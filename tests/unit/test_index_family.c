// SPDX-License-Identifier: MIT
/* Families of Hugging Face checkpoints: names, shapes, strides, routers, defaults, and what does not fit. */
#include <kabi.h>
#include "index_files.h"

#define H 64
#define I 32

static const char *const llama[] = { "gate_proj", "up_proj", "down_proj" };
static const char *const mixtral[] = { "w1", "w3", "w2" };

/* One tensor an expert and matrix. */
static void experts(struct st_file *f, const char *prefix, uint32_t nr, const char *const *proj, const char *dtype)
{
	uint32_t e, p;

	for (e = 0; e < nr; e++)
		for (p = 0; p < 3; p++)
			STF(f, dtype, p == 2 ? DIMS(H, I) : DIMS(I, H), "%sexperts.%u.%s.weight", prefix, e, proj[p]);
}

static void shared(struct st_file *f, const char *prefix, long width)
{
	uint32_t p;

	for (p = 0; p < 3; p++)
		STF(f, "BF16", p == 2 ? DIMS(H, width) : DIMS(width, H), "%s%s.weight", prefix, llama[p]);
}

static struct penstock_index *finish(const char *dir, struct st_file *f, const char *config)
{
	st_write(f, path_in(dir, "model.safetensors"));
	text_write(path_in(dir, "config.json"), config);
	return open_good(dir);
}

static void refused(const char *dir, struct st_file *f, const char *config, int code, const char *text)
{
	st_write(f, path_in(dir, "model.safetensors"));
	text_write(path_in(dir, "config.json"), config);
	EXPECT_REFUSED(dir, code, text);
}

/* A part is where its tensor says, for this expert. */
static void expect_at(const struct penstock_index *ix, uint32_t layer, uint32_t expert, uint32_t part, const char *name,
		      uint64_t off, uint64_t len)
{
	struct penstock_extent ext[PENSTOCK_MAX_PARTS];
	const struct penstock_index_tensor *t = tensor(ix, name);

	ASSERT_EQ(0, penstock_index_expert(ix, layer, expert, ext));
	EXPECT_STREQ(name, name_of(ix, penstock_index_part_tensor(ix, layer, expert, part)));
	EXPECT_EQ(t->off + off, ext[part].off);
	EXPECT_EQ(len, ext[part].len);
	EXPECT_EQ((uint32_t)t->file, ext[part].file);
	EXPECT_EQ(part, ext[part].part);
}

static void expect_part(const struct penstock_index *ix, uint32_t layer, uint32_t nr, struct penstock_part want)
{
	const struct penstock_part *p = &ix->layers[layer].info.parts[nr];

	printf("# layer %u part %u\n", layer, nr);
	EXPECT_EQ(want.role, p->role);
	EXPECT_EQ(want.kind, p->kind);
	EXPECT_EQ(want.dtype, p->dtype);
	EXPECT_EQ(want.fuse, p->fuse);
	EXPECT_EQ(want.rows, p->rows);
	EXPECT_EQ(want.cols, p->cols);
	EXPECT_EQ(want.row_stride, p->row_stride);
	EXPECT_EQ(want.col_stride, p->col_stride);
	EXPECT_EQ(want.block_rows, p->block_rows);
	EXPECT_EQ(want.block_cols, p->block_cols);
	EXPECT_EQ(want.bytes, p->bytes);
}

#define PART(r, k, t, f, rows, cols, rs, cs, br, bc, bytes) ((struct penstock_part){ PENSTOCK_ROLE_##r, \
	PENSTOCK_KIND_##k, PENSTOCK_DTYPE_##t, PENSTOCK_FUSE_##f, rows, cols, rs, cs, br, bc, bytes })

static const struct penstock_layer_info *layer(const struct penstock_index *ix, uint32_t nr, uint32_t kind)
{
	const struct penstock_layer_info *info;

	ASSERT_TRUE(nr < ix->nr_layers + ix->nr_mtp_layers);
	info = &ix->layers[nr].info;
	EXPECT_EQ(kind, info->kind);
	EXPECT_EQ(sizeof(*info), info->size);
	return info;
}

#define MIXTRAL_CONF "{\"model_type\": \"mixtral\", \"num_hidden_layers\": 2, \"hidden_size\": 64," \
	"\"intermediate_size\": 32, \"num_local_experts\": 3, \"hidden_act\": \"silu\"}"

static void mixtral_file(struct st_file *f)
{
	uint32_t l;
	char p[64];

	for (l = 0; l < 2; l++) {
		snprintf(p, sizeof(p), "model.layers.%u.block_sparse_moe.", l);
		experts(f, p, 3, mixtral, "BF16");
		STF(f, "BF16", DIMS(3, H), "%sgate.weight", p);
	}
	ST(f, "model.embed_tokens.weight", "BF16", 10, H);
}

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
	ix = finish(dir, &f, "{\"model_type\": \"qwen3_moe\", \"num_hidden_layers\": 6, \"hidden_size\": 64,"
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
		ix = finish(dir, &f, grouped ?
			    "{\"model_type\": \"deepseek_v2\", \"num_hidden_layers\": 2, \"hidden_size\": 64,"
			    "\"moe_intermediate_size\": 32, \"n_routed_experts\": 8, \"num_experts_per_tok\": 3, \"n_group\": 4,"
			    "\"topk_group\": 2, \"topk_method\": \"group_limited_greedy\", \"routed_scaling_factor\": 16.0,"
			    "\"first_k_dense_replace\": 1, \"norm_topk_prob\": true}" :
			    "{\"model_type\": \"deepseek_v2\", \"num_hidden_layers\": 2, \"hidden_size\": 64,"
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
	ix = finish(dir, &f, V3_CONF ", \"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [24, 24]}}");
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
			STF(&f, "I32", p == 2 ? DIMS(H, I / 8) : DIMS(I, H / 8), "model.layers.0.mlp.experts.%u.%s.weight_packed",
			    e, llama[p]);
			STF(&f, "BF16", p == 2 ? DIMS(H, I / 32) : DIMS(I, H / 32), "model.layers.0.mlp.experts.%u.%s.weight_scale",
			    e, llama[p]);
			STF(&f, "I32", DIMS(2), "model.layers.0.mlp.experts.%u.%s.weight_shape", e, llama[p]);
		}
	}
	ST(&f, "model.layers.0.mlp.gate.weight", "BF16", 4, H);
	ST(&f, "model.layers.0.mlp.gate.e_score_correction_bias", "F32", 4);
	shared(&f, "model.layers.0.mlp.shared_experts.", I);
	ix = finish(dir, &f, "{\"model_type\": \"kimi_k2\", \"num_hidden_layers\": 1, \"hidden_size\": 64,"
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
	ix = finish(dir, &f, "{\"model_type\": \"llama4\", \"hidden_size\": 1, \"text_config\": {\"model_type\": \"llama4_text\","
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
			STF(&f, "BF16", p == 2 ? DIMS(H, 1) : DIMS(I, 1), "model.layers.0.feed_forward.experts.%u.%s.weight_scale",
			    e, llama[p]);
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
	expect_part(ix, 0, 1, PART(GATE_UP, SCALE, F8_E8M0, INTERLEAVED, 2 * I, H / 32, H / 32, 1, 1, 32, 2 * I * H / 32));
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

/* A type that is new, but of known size, streams as bytes. */
TEST(unknown_types_are_described)
{
	struct penstock_index *ix;
	struct st_file f = { 0 };
	uint32_t e, p;
	char dir[256], name[128];

	tmp_make(dir);
	for (e = 0; e < 2; e++) {
		for (p = 0; p < 3; p++) {
			snprintf(name, sizeof(name), "model.layers.0.mlp.experts.%u.%s.weight", e, llama[p]);
			st_add_sized(&f, name, "F12", p == 2 ? DIMS(H, I) : DIMS(I, H), H * I * 12 / 8);
		}
	}
	ST(&f, "model.layers.0.mlp.gate.weight", "BF16", 2, H);
	ix = finish(dir, &f, "{\"model_type\": \"qwen3_moe\", \"num_hidden_layers\": 1, \"hidden_size\": 64,"
		    "\"moe_intermediate_size\": 32, \"num_experts\": 2, \"num_experts_per_tok\": 1}");
	expect_part(ix, 0, 0, PART(GATE, WEIGHT, NONE, NONE, I, H, H * 12 / 8, 0, 0, 0, H * I * 12 / 8));
	penstock_index_close(ix);
	tmp_remove(dir);
}

TEST(without_experts_layers_are_dense)
{
	struct penstock_index *ix;
	struct st_file f = { 0 };
	char dir[256];

	tmp_make(dir);
	ST(&f, "model.layers.0.self_attn.q_proj.weight", "BF16", H, H);
	ix = finish(dir, &f, MIXTRAL_CONF);
	EXPECT_EQ(2u, ix->nr_layers);
	layer(ix, 0, PENSTOCK_LAYER_DENSE);
	penstock_index_close(ix);
	ST(&f, "model.layers.0.self_attn.q_proj.weight", "BF16", H, H);
	ix = finish(dir, &f, "{\"model_type\": \"llama\", \"num_hidden_layers\": 2}");
	EXPECT_EQ((int)PENSTOCK_FAMILY_NONE, (int)ix->family);
	EXPECT_STREQ("llama", ix->arch);
	penstock_index_close(ix);
	tmp_remove(dir);
}

/* Replace in the Mixtral file one tensor by what @change adds. */
TEST(what_does_not_fit_is_refused)
{
	static const struct {
		const char *drop;	/* tensors with this in their name are left out */
		const char *dtype;	/* and this one of this type and shape comes instead */
		long dims[3];
		const char *text;
	} cases[] = {
		{ "1.block_sparse_moe.experts.1.w3", NULL, { 0 }, "layer 1, expert 1" },
		{ "1.block_sparse_moe.experts.1.w3", "BF16", { I, H + 1, -1 }, "has shape [32, 65], its configuration says [32, 64]" },
		{ "1.block_sparse_moe.experts.1.w3", "BF16", { H, I, -1 }, "its configuration says [32, 64]" },
		{ "1.block_sparse_moe.experts.1.w3", "BF16", { I * H, -1 }, "its configuration says [32, 64]" },
		{ "1.block_sparse_moe.experts.1.w3", "F16", { I, H, -1 }, "one layer, one type" },
		{ ".w2.", NULL, { 0 }, "have no down weights" },
		{ "1.block_sparse_moe.gate", NULL, { 0 }, "no router" },
		{ "1.block_sparse_moe.gate", "BF16", { 4, H, -1 }, "its configuration says [3, 64]" },
		{ "layers.0.", NULL, { 0 }, "layer 0 has no experts" },
	};
	struct st_file f = { 0 }, all = { 0 };
	uint32_t e, p, l;
	char dir[256], name[128];
	size_t i;

	tmp_make(dir);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		printf("# %zu: %s\n", i, cases[i].text);
		for (l = 0; l < 2; l++) {
			for (e = 0; e < 4; e++) {
				for (p = 0; p < 3; p++) {
					if (e == 3 && p)
						continue;
					if (e < 3)
						snprintf(name, sizeof(name), "model.layers.%u.block_sparse_moe.experts.%u.%s.weight",
							 l, e, mixtral[p]);
					else
						snprintf(name, sizeof(name), "model.layers.%u.block_sparse_moe.gate.weight", l);
					if (!strstr(name, cases[i].drop))
						st_add(&f, name, "BF16", e == 3 ? DIMS(3, H) : p == 2 ? DIMS(H, I) : DIMS(I, H));
					else if (cases[i].dtype)
						st_add(&f, name, cases[i].dtype, cases[i].dims);
				}
			}
		}
		refused(dir, &f, MIXTRAL_CONF, -EBADMSG, cases[i].text);
	}
	mixtral_file(&all);
	ST(&all, "model.layers.1.block_sparse_moe.experts.3.w1.weight", "BF16", I, H);
	refused(dir, &all, MIXTRAL_CONF, -EBADMSG, "expert 3 of 3");
	mixtral_file(&all);
	ST(&all, "model.layers.4000000.block_sparse_moe.experts.0.w1.weight", "BF16", I, H);
	refused(dir, &all, MIXTRAL_CONF, -EBADMSG, "layer 4000000 of 2");
	mixtral_file(&all);
	ST(&all, "model.layers.1.block_sparse_moe.experts.0.w1.weight_zero_point", "BF16", I, H);
	refused(dir, &all, MIXTRAL_CONF, -EOPNOTSUPP, "zero points");
	tmp_remove(dir);
}

TEST(impossible_configurations_are_refused)
{
	static const struct {
		const char *config;
		int code;
		const char *text;
	} cases[] = {
		{ "{\"model_type\": \"mixtral\", \"num_hidden_layers\": 0}", -EBADMSG, "number of layers" },
		{ "{\"model_type\": \"mixtral\", \"num_hidden_layers\": 1e9}", -EBADMSG, "number of layers" },
		{ "{\"model_type\": \"mixtral\", \"num_hidden_layers\": -1}", -EBADMSG, "num_hidden_layers is no count" },
		{ "{\"model_type\": \"mixtral\", \"num_hidden_layers\": 1.5}", -EBADMSG, "num_hidden_layers is no count" },
		{ "{\"model_type\": \"mixtral\", \"num_hidden_layers\": \"2\"}", -EBADMSG, "num_hidden_layers is no count" },
		{ "{\"model_type\": \"mixtral\", \"num_local_experts\": 1e30}", -EBADMSG, "num_local_experts is no count" },
		{ "{\"model_type\": \"mixtral\", \"num_local_experts\": 0}", -EBADMSG, "number of experts" },
		{ "{\"model_type\": \"mixtral\", \"num_experts_per_tok\": 9}", -EBADMSG, "experts a token" },
		{ "{\"model_type\": \"mixtral\", \"hidden_size\": 0}", -EBADMSG, "width" },
		{ "{\"model_type\": \"mixtral\", \"hidden_act\": \"gelu\"}", -EOPNOTSUPP, "gelu" },
		{ "{\"model_type\": \"deepseek_v2\"}", -EBADMSG, "experts a token" },
		{ "{\"model_type\": \"deepseek_v3\", \"n_group\": 7}", -EBADMSG, "grouping" },
		{ "{\"model_type\": \"deepseek_v3\", \"topk_group\": 9}", -EBADMSG, "grouping" },
		{ "{\"model_type\": \"deepseek_v3\", \"n_group\": 256, \"topk_group\": 4}", -EBADMSG, "grouping" },
		{ "{\"model_type\": \"deepseek_v3\", \"quantization_config\": {\"weight_block_size\": [0, 128]}}", -EBADMSG,
		  "weight_block_size" },
		{ "{\"model_type\": \"deepseek_v3\", \"quantization_config\": {\"weight_block_size\": [128]}}", -EBADMSG,
		  "weight_block_size" },
	};
	struct st_file f = { 0 };
	char dir[256];
	size_t i;

	tmp_make(dir);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		printf("# %s\n", cases[i].config);
		ST(&f, "x", "F32", 1);
		refused(dir, &f, cases[i].config, cases[i].code, cases[i].text);
	}
	tmp_remove(dir);
}

TEST_HARNESS_MAIN
