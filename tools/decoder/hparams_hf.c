// SPDX-License-Identifier: MIT
/*
 * Configuration of Hugging Face folders: keys of config.json and, for absent
 * ones, the defaults of the family's configuration class in transformers. Both
 * spellings of rotary scaling are read: rope_theta with rope_scaling, and
 * rope_parameters.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fail.h"
#include "hparams.h"

/**
 * struct defaults - of a configuration class
 * @heads, @kv_heads: 0 kv_heads = as many as heads
 * @head_dim: 0 = hidden / heads
 */
struct defaults {
	uint32_t heads;
	uint32_t kv_heads;
	uint32_t head_dim;
	double eps;
	double theta;
	uint32_t max_positions;
};

static const struct defaults defaults[] = {
	[PENSTOCK_FAMILY_MIXTRAL] = { 32, 8, 0, 1e-5, 1e6, 131072 },
	[PENSTOCK_FAMILY_QWEN3_MOE] = { 32, 4, 0, 1e-6, 1e4, 32768 },
	[PENSTOCK_FAMILY_OLMOE] = { 16, 0, 0, 1e-5, 1e4, 4096 },
	[PENSTOCK_FAMILY_DEEPSEEK2] = { 32, 0, 0, 1e-6, 1e4, 2048 },
	[PENSTOCK_FAMILY_DEEPSEEK3] = { 128, 0, 0, 1e-6, 1e4, 4096 },
	[PENSTOCK_FAMILY_GLM4_MOE] = { 96, 8, 0, 1e-5, 1e4, 131072 },
	[PENSTOCK_FAMILY_LLAMA4] = { 40, 8, 128, 1e-5, 5e5, 131072 },
	[PENSTOCK_FAMILY_GPT_OSS] = { 64, 8, 64, 1e-5, 1.5e5, 131072 },
};

/* Where rotary scaling is: "rope_scaling." in older files, "rope_parameters." in newer, or nowhere. */
static const char *rope_base(struct decoder_keys *k)
{
	static const char *const bases[] = { "rope_scaling.", "rope_parameters." };
	static const char *const any[] = { "rope_type", "type", "factor", "rope_theta" };
	struct penstock_meta m;
	unsigned int i, j;
	char key[96];

	for (i = 0; i < 2; i++)
		for (j = 0; j < 4; j++) {
			snprintf(key, sizeof(key), "%s%s", bases[i], any[j]);
			if (decoder_key(k, key, &m))
				return bases[i];
		}
	return NULL;
}

static double rope_number(struct decoder_keys *k, const char *base, const char *key, double def)
{
	char full[96];

	snprintf(full, sizeof(full), "%s%s", base ? base : "rope_parameters.", key);
	return decoder_key_double(k, full, def);
}

static uint32_t rope_type(struct decoder_keys *k, const char *base, uint32_t family)
{
	static const char *const names[] = { "default", "linear", "yarn", "llama3" };
	const char *name = NULL;
	char key[96];
	uint32_t i;

	if (!base)
		return family == PENSTOCK_FAMILY_GPT_OSS ? DECODER_ROPE_YARN : DECODER_ROPE_DEFAULT;
	snprintf(key, sizeof(key), "%srope_type", base);
	name = decoder_key_string(k, key, NULL);
	if (!name) {
		snprintf(key, sizeof(key), "%stype", base);
		name = decoder_key_string(k, key, "default");
	}
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(name, names[i]))
			return i;
	decoder_key_fault(k, -EOPNOTSUPP, key, name);
	return DECODER_ROPE_DEFAULT;
}

static void read_rope(struct decoder_keys *k, struct decoder_hparams *hp)
{
	const struct defaults *def = &defaults[hp->info.family];
	bool gpt_oss = hp->info.family == PENSTOCK_FAMILY_GPT_OSS;
	const char *base = rope_base(k);
	struct decoder_rope_params *r = &hp->rope;
	double partial;
	char key[96];

	if (decoder_key(k, "rope_parameters.full_attention.rope_theta", &(struct penstock_meta){ 0 })) {
		decoder_key_fault(k, -EOPNOTSUPP, "rope_parameters", "differs from layer to layer");
		return;
	}
	r->type = rope_type(k, base, hp->info.family);
	r->theta = rope_number(k, base, "rope_theta", decoder_key_double(k, "rope_theta", def->theta));
	partial = decoder_key_double(k, "partial_rotary_factor",
				     hp->info.family == PENSTOCK_FAMILY_GLM4_MOE ? 0.5 : 1.0);
	partial = rope_number(k, base, "partial_rotary_factor", partial);
	if (!(partial > 0 && partial <= 1)) {
		decoder_key_fault(k, -EINVAL, "partial_rotary_factor", "is not above 0 and up to 1");
		return;
	}
	r->rot = (uint32_t)(hp->head_dim * partial);
	/* gpt-oss without a word on rotation is stretched 32 times */
	r->factor = rope_number(k, base, "factor", gpt_oss && !base ? 32 : 1);
	r->original = decoder_key_u32(k, "max_position_embeddings", def->max_positions, UINT32_MAX);
	r->original = decoder_key_double(k, "original_max_position_embeddings", gpt_oss && !base ? 4096 : r->original);
	r->original = rope_number(k, base, "original_max_position_embeddings", r->original);
	r->attention = rope_number(k, base, "attention_factor", 0);
	r->mscale = rope_number(k, base, "mscale", 0);
	r->mscale_all_dim = rope_number(k, base, "mscale_all_dim", 0);
	r->beta_fast = rope_number(k, base, "beta_fast", 32);
	r->beta_slow = rope_number(k, base, "beta_slow", 1);
	r->low_freq = rope_number(k, base, "low_freq_factor", 1);
	r->high_freq = rope_number(k, base, "high_freq_factor", 4);
	snprintf(key, sizeof(key), "%struncate", base ? base : "rope_parameters.");
	r->truncate = decoder_key_bool(k, key, !(gpt_oss && !base));
}

static void all_windows(struct decoder_hparams *hp, uint32_t window)
{
	uint32_t i;

	for (i = 0; i < hp->info.nr_layers; i++)
		hp->layers[i].window = window;
}

/* layer_types: "full_attention", "sliding_attention", "chunked_attention"; false where there is no such key */
static bool read_layer_types(struct decoder_keys *k, struct decoder_hparams *hp, uint32_t window, uint32_t chunk)
{
	struct penstock_meta m;
	uint32_t i;

	if (!decoder_key(k, "layer_types", &m))
		return false;
	if (m.type != PENSTOCK_META_STRINGS || m.nr < hp->info.nr_layers) {
		decoder_key_fault(k, -EINVAL, "layer_types", "is not a list of one string a layer");
		return true;
	}
	for (i = 0; i < hp->info.nr_layers; i++) {
		if (!strcmp(m.strings[i], "sliding_attention"))
			hp->layers[i].window = window;
		else if (!strcmp(m.strings[i], "chunked_attention"))
			hp->layers[i].chunk = chunk;
		else if (strcmp(m.strings[i], "full_attention"))
			decoder_key_fault(k, -EOPNOTSUPP, "layer_types", m.strings[i]);
	}
	return true;
}

static void read_llama4(struct decoder_keys *k, struct decoder_hparams *hp)
{
	uint32_t chunk = decoder_key_u32(k, "attention_chunk_size", 8192, UINT32_MAX);
	uint32_t every = decoder_key_u32(k, "no_rope_layer_interval", 4, UINT32_MAX), i;
	struct penstock_meta m;
	bool list = decoder_key(k, "no_rope_layers", &m) && m.nr;

	if (list && (m.type != PENSTOCK_META_NUMBERS || m.nr < hp->info.nr_layers)) {
		decoder_key_fault(k, -EINVAL, "no_rope_layers", "is not a list of one number a layer");
		return;
	}
	if (!list && !every) {
		decoder_key_fault(k, -EINVAL, "no_rope_layer_interval", "is 0");
		return;
	}
	for (i = 0; i < hp->info.nr_layers; i++)
		hp->layers[i].rope = list ? m.numbers[i] != 0 : (i + 1) % every != 0;
	if (!read_layer_types(k, hp, 0, chunk))
		for (i = 0; i < hp->info.nr_layers; i++)
			hp->layers[i].chunk = hp->layers[i].rope ? chunk : 0;
	hp->interleaved = true;
	hp->l2_norm = decoder_key_bool(k, "use_qk_norm", true);
	hp->temperature = decoder_key_bool(k, "attn_temperature_tuning", true);
	hp->floor_scale = (float)decoder_key_double(k, "floor_scale", 8192);
	hp->attn_scale = (float)decoder_key_double(k, "attn_scale", 0.1);
}

static void read_gpt_oss(struct decoder_keys *k, struct decoder_hparams *hp)
{
	uint32_t window = decoder_key_u32(k, "sliding_window", 128, UINT32_MAX), i;

	hp->sinks = true;
	if (read_layer_types(k, hp, window, 0))
		return;
	for (i = 0; i < hp->info.nr_layers; i += 2)
		hp->layers[i].window = window;
}

static void read_family(struct decoder_keys *k, struct decoder_hparams *hp)
{
	bool bias = decoder_key_bool(k, "attention_bias", hp->info.family == PENSTOCK_FAMILY_GPT_OSS);

	hp->qkv_bias = bias && hp->info.family != PENSTOCK_FAMILY_MIXTRAL ? DECODER_MUST : DECODER_NEVER;
	hp->o_bias = hp->info.family == PENSTOCK_FAMILY_GLM4_MOE ? DECODER_NEVER : hp->qkv_bias;
	switch (hp->info.family) {
	case PENSTOCK_FAMILY_MIXTRAL:
		all_windows(hp, decoder_key_u32(k, "sliding_window", 0, UINT32_MAX));
		break;
	case PENSTOCK_FAMILY_QWEN3_MOE:
		hp->qk_norm = DECODER_QK_HEAD;
		hp->qk_norm_presence = DECODER_MUST;
		if (decoder_key_bool(k, "use_sliding_window", false))
			all_windows(hp, decoder_key_u32(k, "sliding_window", 4096, UINT32_MAX));
		break;
	case PENSTOCK_FAMILY_OLMOE:
		hp->qk_norm = DECODER_QK_FULL;
		hp->qk_norm_presence = DECODER_MUST;
		hp->clip = (float)decoder_key_double(k, "clip_qkv", 0);
		break;
	case PENSTOCK_FAMILY_GLM4_MOE:
		hp->qk_norm = DECODER_QK_HEAD;
		hp->qk_norm_presence = decoder_key_bool(k, "use_qk_norm", false) ? DECODER_MUST : DECODER_NEVER;
		break;
	case PENSTOCK_FAMILY_LLAMA4:
		read_llama4(k, hp);
		break;
	case PENSTOCK_FAMILY_GPT_OSS:
		read_gpt_oss(k, hp);
		break;
	}
}

static void read_scale_block(struct decoder_keys *k, struct decoder_hparams *hp)
{
	struct penstock_meta m;

	if (!decoder_key(k, "quantization_config.weight_block_size", &m))
		return;
	if (m.type != PENSTOCK_META_NUMBERS || m.nr != 2 || !(m.numbers[0] >= 1 && m.numbers[0] <= DECODER_MAX_DIM) ||
	    !(m.numbers[1] >= 1 && m.numbers[1] <= DECODER_MAX_DIM)) {
		decoder_key_fault(k, -EINVAL, "quantization_config.weight_block_size", "is not two block sides");
		return;
	}
	hp->scale_block[0] = (uint32_t)m.numbers[0];
	hp->scale_block[1] = (uint32_t)m.numbers[1];
}

int decoder_hparams_hf(struct penstock_model *model, bool attention, struct decoder_hparams *hp,
		       struct penstock_error *err)
{
	const struct defaults *def = &defaults[hp->info.family];
	struct decoder_keys k = { .model = model, .err = err };
	struct penstock_meta m;
	const char *act;

	read_scale_block(&k, hp);
	if (decoder_key(&k, "text_config.hidden_size", &m) || decoder_key(&k, "text_config.model_type", &m))
		snprintf(k.prefix, sizeof(k.prefix), "text_config.");
	hp->eps = (float)decoder_key_double(&k, "rms_norm_eps", def->eps);
	hp->tied = decoder_key_bool(&k, "tie_word_embeddings", false);
	act = decoder_key_string(&k, "hidden_act", "silu");
	if (strcmp(act, "silu"))
		decoder_key_fault(&k, -EOPNOTSUPP, "hidden_act", act);
	if (!attention || k.rc)
		return k.rc;
	hp->nr_heads = decoder_key_u32(&k, "num_attention_heads", def->heads, DECODER_MAX_DIM);
	hp->nr_kv_heads = decoder_key_u32(&k, "num_key_value_heads", def->kv_heads ? def->kv_heads : hp->nr_heads,
					  DECODER_MAX_DIM);
	hp->head_dim = decoder_key_u32(&k, "head_dim", def->head_dim, DECODER_MAX_DIM);
	if (!hp->head_dim && hp->nr_heads)
		hp->head_dim = hp->info.hidden / hp->nr_heads;
	read_family(&k, hp);
	read_rope(&k, hp);
	return k.rc;
}
