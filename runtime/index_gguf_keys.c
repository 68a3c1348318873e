// SPDX-License-Identifier: MIT
/*
 * GGUF's keys: the families and their routers. What a file leaves out, and what
 * its architecture fixes without a key, is as llama.cpp does it.
 */
#include <stdio.h>
#include <string.h>

#include <kabi.h>
#include "index_build.h"

/* Values of expert_gating_func. */
enum { GATING_NONE = 0, GATING_SOFTMAX, GATING_SIGMOID, GATING_SOFTMAX_WEIGHT };

static const struct {
	const char *arch;
	uint32_t family;
	uint32_t gating;	/* where the key is missing */
	int renorm;		/* 1 always, 0 never, -1 by expert_weights_norm */
} archs[] = {
	{ "llama", PENSTOCK_FAMILY_MIXTRAL, GATING_SOFTMAX, 1 },
	{ "qwen3moe", PENSTOCK_FAMILY_QWEN3_MOE, GATING_SOFTMAX, 1 },
	{ "olmoe", PENSTOCK_FAMILY_OLMOE, GATING_SOFTMAX, 0 },
	{ "deepseek2", PENSTOCK_FAMILY_DEEPSEEK2, GATING_SOFTMAX, -1 },
	{ "glm4moe", PENSTOCK_FAMILY_GLM4_MOE, GATING_SIGMOID, -1 },
	{ "llama4", PENSTOCK_FAMILY_LLAMA4, GATING_SIGMOID, 0 },
	{ "gpt-oss", PENSTOCK_FAMILY_GPT_OSS, GATING_SOFTMAX_WEIGHT, 0 },
};

static int read_gating(struct penstock_index_conf *c, size_t arch)
{
	struct penstock_layer_info *r = &c->router;
	uint32_t gating = archs[arch].gating;
	double scale;
	int rc = 0;

	/* only these two architectures leave the choice to the key */
	if (archs[arch].renorm < 0)
		rc = penstock_index_conf_u(c, "expert_gating_func", gating, &gating);
	if (rc)
		return rc;
	switch (gating ? gating : archs[arch].gating) {
	case GATING_SOFTMAX:
		r->score = PENSTOCK_SCORE_SOFTMAX;
		break;
	case GATING_SIGMOID:
		r->score = PENSTOCK_SCORE_SIGMOID;
		if (c->b->ix->family == PENSTOCK_FAMILY_DEEPSEEK2)
			c->b->ix->family = PENSTOCK_FAMILY_DEEPSEEK3;
		break;
	case GATING_SOFTMAX_WEIGHT:
		r->score = PENSTOCK_SCORE_TOPK_SOFTMAX;
		break;
	default:
		return penstock_err(c->b->err, -EBADMSG, "%s: %sexpert_gating_func %u is unknown", c->b->ix->path,
				    c->keys, gating);
	}
	if (archs[arch].renorm > 0 ||
	    (archs[arch].renorm < 0 && penstock_index_conf_f(c, "expert_weights_norm", 0) != 0))
		r->router_flags |= PENSTOCK_ROUTER_F_RENORM;
	scale = penstock_index_conf_f(c, "expert_weights_scale", 0);
	r->router_scale = scale != 0 ? (float)scale : 1.0f;
	r->group_score = PENSTOCK_GROUP_TOP2_SUM;
	rc = penstock_index_conf_u(c, "expert_group_count", 0, &r->nr_groups);
	if (!rc)
		rc = penstock_index_conf_u(c, "expert_group_used_count", 0, &r->top_groups);
	if (r->nr_groups > 1)
		r->router_flags |= PENSTOCK_ROUTER_F_GROUP_MASK_INF;
	return rc;
}

/* The width of an expert. Where experts are the only feed-forward there is, it may have the general key. */
static int read_width(struct penstock_index_conf *c)
{
	int rc;

	rc = penstock_index_conf_u(c, "expert_feed_forward_length", UINT32_MAX, &c->inter);
	if (rc || c->inter != UINT32_MAX)
		return rc;
	return penstock_index_conf_u(c, "feed_forward_length", 0, &c->inter);
}

int penstock_index_gguf(struct penstock_index_conf *c)
{
	const struct penstock_meta *m = penstock_index_meta(c->b->ix, "general.architecture");
	uint32_t blocks, mtp;
	size_t i;
	int rc;

	if (!m || m->type != PENSTOCK_META_STRING)
		return 1;
	c->b->ix->arch = m->string;
	for (i = 0; i < PENSTOCK_ARRAY_SIZE(archs) && strcmp(archs[i].arch, m->string); i++)
		;
	if (i == PENSTOCK_ARRAY_SIZE(archs))
		return 1;
	snprintf(c->keys, sizeof(c->keys), "%s.", m->string);
	strcpy(c->layers, "blk.");
	c->block_rows = 1;
	c->block_cols = 1;
	rc = penstock_index_conf_u(c, "expert_count", 0, &c->nr_experts);
	if (rc)
		return rc;
	if (!c->nr_experts)
		return 1;
	c->b->ix->family = archs[i].family;
	rc = penstock_index_conf_u(c, "block_count", 0, &blocks);
	if (!rc)
		rc = penstock_index_conf_u(c, "nextn_predict_layers", 0, &mtp);
	if (!rc && mtp >= blocks)
		rc = penstock_err(c->b->err, -EBADMSG, "%s: %u blocks, of which %u predict", c->b->ix->path, blocks,
				  mtp);
	if (rc)
		return rc;
	c->nr_layers = blocks - mtp;
	rc = penstock_index_conf_u(c, "embedding_length", 0, &c->hidden);
	if (!rc)
		rc = penstock_index_conf_u(c, "expert_used_count", 0, &c->router.top_k);
	if (!rc)
		rc = penstock_index_conf_u(c, "leading_dense_block_count", 0, &c->first_dense);
	if (!rc)
		rc = penstock_index_conf_u(c, "interleave_moe_layer_step", 1, &c->step);
	if (!rc)
		rc = penstock_index_conf_u(c, "expert_shared_count", 0, &c->nr_shared);
	if (!rc)
		rc = read_width(c);
	if (!rc)
		rc = read_gating(c, i);
	if (archs[i].family == PENSTOCK_FAMILY_LLAMA4) {
		c->router.router_flags |= PENSTOCK_ROUTER_F_INPUT_SCALE;
		c->nr_shared = 1;
	} else if (archs[i].family == PENSTOCK_FAMILY_GPT_OSS) {
		c->router.act = PENSTOCK_ACT_SWIGLU_CLAMPED;
		c->router.act_limit = 7.0f;
		c->router.act_alpha = 1.702f;
	}
	c->shared_required = c->nr_shared != 0;
	return rc;
}
