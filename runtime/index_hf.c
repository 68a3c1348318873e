// SPDX-License-Identifier: MIT
/*
 * config.json: the families, the names of their tensors, and their routers. What a
 * configuration leaves out has the default of the transformers library's
 * configuration class; how scores become weights is its modelling code's.
 */
#include <string.h>

#include <kabi.h>
#include "index_build.h"

#define LLAMA_PROJ	{ "gate_proj", "up_proj", "down_proj" }

static const struct penstock_index_names families[] = {
	{
		.family = PENSTOCK_FAMILY_MIXTRAL,
		.block = "block_sparse_moe.",
		.router = "gate",
		.proj = { "w1", "w3", "w2" },
		.fuse = PENSTOCK_FUSE_HALVES,
		.inter_key = "intermediate_size",
		.inter = 14336,
		.hidden = 4096,
		.layers = 32,
		.experts = 8,
		.top_k = 2,
	},
	{
		.family = PENSTOCK_FAMILY_QWEN3_MOE,
		.block = "mlp.",
		.router = "gate",
		.proj = LLAMA_PROJ,
		.fuse = PENSTOCK_FUSE_HALVES,
		.inter_key = "moe_intermediate_size",
		.inter = 768,
		.hidden = 2048,
		.layers = 24,
		.experts = 128,
		.top_k = 8,
	},
	{
		.family = PENSTOCK_FAMILY_OLMOE,
		.block = "mlp.",
		.router = "gate",
		.proj = LLAMA_PROJ,
		.fuse = PENSTOCK_FUSE_HALVES,
		.inter_key = "intermediate_size",
		.inter = 2048,
		.hidden = 2048,
		.layers = 16,
		.experts = 64,
		.top_k = 8,
	},
	{
		.family = PENSTOCK_FAMILY_DEEPSEEK2,
		.block = "mlp.",
		.router = "gate",
		.shared = "shared_experts.",
		.proj = LLAMA_PROJ,
		.fuse = PENSTOCK_FUSE_HALVES,
		.inter_key = "moe_intermediate_size",
		.inter = 1407,
		.hidden = 4096,
		.layers = 32,
		.experts = 64,
		.top_k = 0,
	},
	{
		.family = PENSTOCK_FAMILY_DEEPSEEK3,
		.block = "mlp.",
		.router = "gate",
		.shared = "shared_experts.",
		.proj = LLAMA_PROJ,
		.fuse = PENSTOCK_FUSE_HALVES,
		.inter_key = "moe_intermediate_size",
		.inter = 2048,
		.hidden = 7168,
		.layers = 61,
		.experts = 256,
		.top_k = 8,
	},
	{
		.family = PENSTOCK_FAMILY_GLM4_MOE,
		.block = "mlp.",
		.router = "gate",
		.shared = "shared_experts.",
		.proj = LLAMA_PROJ,
		.fuse = PENSTOCK_FUSE_HALVES,
		.inter_key = "moe_intermediate_size",
		.inter = 1408,
		.hidden = 4096,
		.layers = 46,
		.experts = 128,
		.top_k = 8,
	},
	{
		.family = PENSTOCK_FAMILY_LLAMA4,
		.block = "feed_forward.",
		.router = "router",
		.shared = "shared_expert.",
		.proj = LLAMA_PROJ,
		.transposed = true,
		.fuse = PENSTOCK_FUSE_HALVES,
		.inter_key = "intermediate_size",
		.inter = 8192,
		.hidden = 5120,
		.layers = 48,
		.experts = 16,
		.top_k = 1,
	},
	{
		.family = PENSTOCK_FAMILY_GPT_OSS,
		.block = "mlp.",
		.router = "router",
		.proj = LLAMA_PROJ,
		.transposed = true,
		.fuse = PENSTOCK_FUSE_INTERLEAVED,
		.inter_key = "intermediate_size",
		.inter = 2880,
		.hidden = 2880,
		.layers = 36,
		.experts = 128,
		.top_k = 4,
	},
};

static const struct {
	const char *model_type;
	uint32_t family;
} model_types[] = {
	{ "mixtral", PENSTOCK_FAMILY_MIXTRAL }, { "qwen3_moe", PENSTOCK_FAMILY_QWEN3_MOE },
	{ "olmoe", PENSTOCK_FAMILY_OLMOE }, { "deepseek_v2", PENSTOCK_FAMILY_DEEPSEEK2 },
	{ "deepseek_v3", PENSTOCK_FAMILY_DEEPSEEK3 }, { "kimi_k2", PENSTOCK_FAMILY_DEEPSEEK3 },
	{ "glm4_moe", PENSTOCK_FAMILY_GLM4_MOE }, { "llama4", PENSTOCK_FAMILY_LLAMA4 },
	{ "llama4_text", PENSTOCK_FAMILY_LLAMA4 }, { "gpt_oss", PENSTOCK_FAMILY_GPT_OSS },
};

/* Where the text model's layers are: alone, or inside a multimodal one. */
static const char *const layer_prefixes[] = {
	"model.layers.", "language_model.model.layers.", "model.language_model.layers.",
};

static const struct penstock_index_names *names_of(const struct penstock_meta *m)
{
	size_t i, k;

	if (!m || m->type != PENSTOCK_META_STRING)
		return NULL;
	for (i = 0; i < PENSTOCK_ARRAY_SIZE(model_types); i++)
		if (!strcmp(model_types[i].model_type, m->string))
			for (k = 0; k < PENSTOCK_ARRAY_SIZE(families); k++)
				if (families[k].family == model_types[i].family)
					return &families[k];
	return NULL;
}

/* Is there a tensor whose name starts so? */
static bool prefix_exists(const struct penstock_index *ix, const char *prefix)
{
	size_t n = strlen(prefix);
	uint32_t low = 0, high = ix->nr_tensors, mid;

	while (low < high) {
		mid = low + (high - low) / 2;
		if (strcmp(ix->tensors[mid].name, prefix) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low < ix->nr_tensors && !strncmp(ix->tensors[low].name, prefix, n);
}

static int read_groups(struct penstock_index_conf *c, uint32_t groups, uint32_t top)
{
	int rc;

	rc = penstock_index_conf_u(c, "n_group", groups, &c->router.nr_groups);
	if (!rc)
		rc = penstock_index_conf_u(c, "topk_group", top, &c->router.top_groups);
	return rc;
}

static void read_renorm(struct penstock_index_conf *c, bool def)
{
	if (penstock_index_conf_f(c, "norm_topk_prob", def) != 0)
		c->router.router_flags |= PENSTOCK_ROUTER_F_RENORM;
}

static int read_router(struct penstock_index_conf *c)
{
	struct penstock_layer_info *r = &c->router;
	const struct penstock_meta *m;
	int rc = 0;

	r->score = PENSTOCK_SCORE_SOFTMAX;
	switch (c->names->family) {
	case PENSTOCK_FAMILY_MIXTRAL:
		r->router_flags |= PENSTOCK_ROUTER_F_RENORM;
		break;
	case PENSTOCK_FAMILY_QWEN3_MOE:
	case PENSTOCK_FAMILY_OLMOE:
		read_renorm(c, false);
		break;
	case PENSTOCK_FAMILY_DEEPSEEK2:
		/* norm_topk_prob exists in this configuration, but the modelling code does not look at it */
		m = penstock_index_conf_meta(c, "topk_method");
		if (m && m->type == PENSTOCK_META_STRING && !strcmp(m->string, "group_limited_greedy"))
			rc = read_groups(c, 1, 1);
		r->group_score = PENSTOCK_GROUP_MAX;
		r->router_scale = (float)penstock_index_conf_f(c, "routed_scaling_factor", 1.0);
		break;
	case PENSTOCK_FAMILY_DEEPSEEK3:
	case PENSTOCK_FAMILY_GLM4_MOE:
		r->score = PENSTOCK_SCORE_SIGMOID;
		r->group_score = PENSTOCK_GROUP_TOP2_SUM;
		r->router_flags |= PENSTOCK_ROUTER_F_GROUP_MASK_INF;
		read_renorm(c, true);
		c->select_bias_required = true;
		if (c->names->family == PENSTOCK_FAMILY_DEEPSEEK3) {
			rc = read_groups(c, 8, 4);
			r->router_scale = (float)penstock_index_conf_f(c, "routed_scaling_factor", 2.5);
		} else {
			rc = read_groups(c, 1, 1);
			r->router_scale = (float)penstock_index_conf_f(c, "routed_scaling_factor", 1.0);
		}
		break;
	case PENSTOCK_FAMILY_LLAMA4:
		r->score = PENSTOCK_SCORE_SIGMOID;
		r->router_flags |= PENSTOCK_ROUTER_F_INPUT_SCALE;
		break;
	case PENSTOCK_FAMILY_GPT_OSS:
		r->score = PENSTOCK_SCORE_TOPK_SOFTMAX;
		r->act = PENSTOCK_ACT_SWIGLU_CLAMPED;
		r->act_limit = (float)penstock_index_conf_f(c, "swiglu_limit", 7.0);
		r->act_alpha = (float)penstock_index_conf_f(c, "swiglu_alpha", 1.702);
		break;
	}
	return rc;
}

/* Which layers have experts, and how many shared ones. */
static int read_layout(struct penstock_index_conf *c)
{
	const struct penstock_meta *m;
	int rc = 0;

	c->step = 1;
	switch (c->names->family) {
	case PENSTOCK_FAMILY_QWEN3_MOE:
		rc = penstock_index_conf_u(c, "decoder_sparse_step", 1, &c->step);
		m = penstock_index_conf_meta(c, "mlp_only_layers");
		c->dense_only = m && m->type == PENSTOCK_META_NUMBERS ? m : NULL;
		break;
	case PENSTOCK_FAMILY_DEEPSEEK2:
		rc = penstock_index_conf_u(c, "first_k_dense_replace", 0, &c->first_dense);
		if (!rc)
			rc = penstock_index_conf_u(c, "n_shared_experts", 2, &c->nr_shared);
		break;
	case PENSTOCK_FAMILY_DEEPSEEK3:
		rc = penstock_index_conf_u(c, "first_k_dense_replace", 3, &c->first_dense);
		if (!rc)
			rc = penstock_index_conf_u(c, "n_shared_experts", 1, &c->nr_shared);
		break;
	case PENSTOCK_FAMILY_GLM4_MOE:
		rc = penstock_index_conf_u(c, "first_k_dense_replace", 1, &c->first_dense);
		if (!rc)
			rc = penstock_index_conf_u(c, "n_shared_experts", 1, &c->nr_shared);
		break;
	case PENSTOCK_FAMILY_LLAMA4:
		c->nr_shared = 1;
		rc = penstock_index_conf_u(c, "interleave_moe_layer_step", 1, &c->step);
		m = penstock_index_conf_meta(c, "moe_layers");
		c->moe_only = m && m->type == PENSTOCK_META_NUMBERS ? m : NULL;
		break;
	}
	c->shared_required = c->nr_shared != 0;
	return rc;
}

/* quantization_config.weight_block_size: [rows, cols] of a weight_scale_inv. */
static int read_blocks(struct penstock_index_conf *c)
{
	const struct penstock_meta *m = penstock_index_meta(c->b->ix, "quantization_config.weight_block_size");

	if (!m)
		m = penstock_index_conf_meta(c, "quantization_config.weight_block_size");
	c->block_rows = 128;
	c->block_cols = 128;
	if (!m)
		return 0;
	if (m->type != PENSTOCK_META_NUMBERS || m->nr != 2 || !(m->numbers[0] >= 1 && m->numbers[0] <= 65536) ||
	    !(m->numbers[1] >= 1 && m->numbers[1] <= 65536))
		return penstock_err(c->b->err, -EBADMSG, "%s: config.json: weight_block_size is not two block sizes",
				    c->b->ix->path);
	c->block_rows = (uint32_t)m->numbers[0];
	c->block_cols = (uint32_t)m->numbers[1];
	return 0;
}

static int read_activation(const struct penstock_index_conf *c)
{
	const struct penstock_meta *m = penstock_index_conf_meta(c, "hidden_act");

	if (!m || (m->type == PENSTOCK_META_STRING && (!strcmp(m->string, "silu") || !strcmp(m->string, "swish"))))
		return 0;
	return penstock_err(c->b->err, -EOPNOTSUPP, "%s: config.json: hidden_act %s, only silu is known",
			    c->b->ix->path, m->type == PENSTOCK_META_STRING ? m->string : "is no string");
}

int penstock_index_hf(struct penstock_index_conf *c)
{
	static const char *const experts[] = { "n_routed_experts", "num_local_experts", "num_experts" };
	const struct penstock_index *ix = c->b->ix;
	const struct penstock_meta *m = penstock_index_meta(ix, "model_type");
	uint32_t i, found;
	int rc;

	if (m && m->type == PENSTOCK_META_STRING)
		c->b->ix->arch = m->string;
	c->names = names_of(penstock_index_meta(ix, "text_config.model_type"));
	if (c->names)
		strcpy(c->keys, "text_config.");
	else
		c->names = names_of(m);
	if (!c->names)
		return 1;
	strcpy(c->layers, layer_prefixes[0]);
	for (i = 0; i < PENSTOCK_ARRAY_SIZE(layer_prefixes); i++)
		if (prefix_exists(ix, layer_prefixes[i]))
			strcpy(c->layers, layer_prefixes[i]);
	rc = penstock_index_conf_u(c, "num_hidden_layers", c->names->layers, &c->nr_layers);
	if (!rc)
		rc = penstock_index_conf_u(c, "hidden_size", c->names->hidden, &c->hidden);
	if (!rc)
		rc = penstock_index_conf_u(c, c->names->inter_key, c->names->inter, &c->inter);
	if (!rc)
		rc = penstock_index_conf_u(c, "num_experts_per_tok", c->names->top_k, &c->router.top_k);
	c->nr_experts = c->names->experts;
	for (i = 0; i < PENSTOCK_ARRAY_SIZE(experts) && !rc; i++) {
		rc = penstock_index_conf_u(c, experts[i], UINT32_MAX, &found);
		if (rc || found == UINT32_MAX)
			continue;
		c->nr_experts = found;
		break;
	}
	if (!rc)
		rc = read_router(c);
	if (!rc)
		rc = read_layout(c);
	if (!rc)
		rc = read_blocks(c);
	return rc ? rc : read_activation(c);
}
