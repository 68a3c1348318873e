// SPDX-License-Identifier: MIT
/*
 * Configuration of GGUF files: metadata keys under the architecture's name, with
 * llama.cpp's defaults. Architectures "llama" (Mixtral) and "llama4" hold their
 * queries and keys in the order of interleaved rotation.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fail.h"
#include "hparams.h"

/* Positions that llama.cpp has built in for llama4. */
#define LLAMA4_CHUNK 8192
#define LLAMA4_NOPE_EVERY 4

static void read_rope(struct decoder_keys *k, struct decoder_hparams *hp)
{
	const char *type = decoder_key_string(k, "rope.scaling.type", "linear");
	struct decoder_rope_params *r = &hp->rope;

	if (!strcmp(type, "none"))
		r->type = DECODER_ROPE_DEFAULT;
	else if (!strcmp(type, "linear"))
		r->type = DECODER_ROPE_LINEAR;
	else if (!strcmp(type, "yarn"))
		r->type = DECODER_ROPE_YARN;
	else
		decoder_key_fault(k, -EOPNOTSUPP, "rope.scaling.type", type);
	r->rot = decoder_key_u32(k, "rope.dimension_count", hp->head_dim, DECODER_MAX_DIM);
	r->theta = decoder_key_double(k, "rope.freq_base", 1e4);
	r->factor = decoder_key_double(k, "rope.scaling.factor", decoder_key_double(k, "rope.scale_linear", 0));
	if (r->factor == 0)
		r->factor = 1;
	r->original = decoder_key_double(k, "context_length", 0);
	r->original = decoder_key_double(k, "rope.scaling.original_context_length", r->original);
	r->extra_attention = decoder_key_double(k, "rope.scaling.attn_factor", 1);
	r->extra_attention = decoder_key_double(k, "rope.scaling.yarn_attn_factor", r->extra_attention);
	r->beta_fast = decoder_key_double(k, "rope.scaling.yarn_beta_fast", 32);
	r->beta_slow = decoder_key_double(k, "rope.scaling.yarn_beta_slow", 1);
	if (decoder_key_double(k, "rope.scaling.yarn_ext_factor", 1) != 1)
		decoder_key_fault(k, -EOPNOTSUPP, "rope.scaling.yarn_ext_factor", "is not 1");
}

static void read_llama4(struct decoder_keys *k, struct decoder_hparams *hp)
{
	struct penstock_meta m;
	bool whole = decoder_key(k, "attention.sliding_window", &m) && m.number == 0;
	uint32_t every = whole ? hp->info.nr_layers : LLAMA4_NOPE_EVERY, i;

	for (i = 0; i < hp->info.nr_layers; i++) {
		hp->layers[i].rope = (i + 1) % every != 0;
		hp->layers[i].chunk = !whole && hp->layers[i].rope ? LLAMA4_CHUNK : 0;
	}
	/* the model of 128 experts (Maverick) was trained without the norm */
	hp->l2_norm = decoder_key_u32(k, "expert_count", 0, DECODER_MAX_DIM) != 128;
	hp->temperature = !whole;
	hp->floor_scale = 8192;
	hp->attn_scale = 0.1f;
}

static void read_family(struct decoder_keys *k, struct decoder_hparams *hp)
{
	uint32_t window, i;

	hp->qkv_bias = DECODER_MAY;
	hp->o_bias = DECODER_MAY;
	hp->interleaved = hp->info.family == PENSTOCK_FAMILY_MIXTRAL || hp->info.family == PENSTOCK_FAMILY_LLAMA4;
	switch (hp->info.family) {
	case PENSTOCK_FAMILY_QWEN3_MOE:
		hp->qk_norm = DECODER_QK_HEAD;
		hp->qk_norm_presence = DECODER_MUST;
		break;
	case PENSTOCK_FAMILY_OLMOE:
		hp->qk_norm = DECODER_QK_FULL;
		hp->qk_norm_presence = DECODER_MUST;
		hp->clip = (float)decoder_key_double(k, "attention.clamp_kqv", 0);
		break;
	case PENSTOCK_FAMILY_GLM4_MOE:
		hp->qk_norm = DECODER_QK_HEAD;
		hp->qk_norm_presence = DECODER_MAY;
		break;
	case PENSTOCK_FAMILY_LLAMA4:
		read_llama4(k, hp);
		break;
	case PENSTOCK_FAMILY_GPT_OSS:
		hp->sinks = true;
		window = decoder_key_u32(k, "attention.sliding_window", 0, UINT32_MAX);
		for (i = 0; i < hp->info.nr_layers; i += 2)
			hp->layers[i].window = window;
		break;
	}
}

int decoder_hparams_gguf(struct penstock_model *model, bool attention, struct decoder_hparams *hp,
			 struct penstock_error *err)
{
	struct decoder_keys k = { .model = model, .err = err };
	struct penstock_meta m;

	snprintf(k.prefix, sizeof(k.prefix), "%s.", hp->info.arch);
	if (!decoder_key(&k, "attention.layer_norm_rms_epsilon", &m))
		return decoder_key_fault(&k, -ENOENT, "attention.layer_norm_rms_epsilon", "no such key");
	hp->eps = (float)decoder_key_double(&k, "attention.layer_norm_rms_epsilon", 0);
	/* a GGUF file without an output tensor has the embedding as its head */
	hp->tied = penstock_tensor_find(model, "output.weight") < 0;
	if (!attention || k.rc)
		return k.rc;
	if (!decoder_key(&k, "attention.head_count", &m))
		return decoder_key_fault(&k, -ENOENT, "attention.head_count", "no such key");
	hp->nr_heads = decoder_key_u32(&k, "attention.head_count", 0, DECODER_MAX_DIM);
	hp->nr_kv_heads = decoder_key_u32(&k, "attention.head_count_kv", hp->nr_heads, DECODER_MAX_DIM);
	hp->head_dim = decoder_key_u32(&k, "attention.key_length", hp->nr_heads ? hp->info.hidden / hp->nr_heads : 0,
				       DECODER_MAX_DIM);
	if (decoder_key_u32(&k, "attention.value_length", hp->head_dim, DECODER_MAX_DIM) != hp->head_dim)
		return decoder_key_fault(&k, -EOPNOTSUPP, "attention.value_length", "differs from key_length");
	read_family(&k, hp);
	read_rope(&k, hp);
	return k.rc;
}
