/* SPDX-License-Identifier: MIT */
/*
 * What the decoder must know of a model beyond its tensors: read from
 * config.json (with the defaults that transformers has for absent keys) or from
 * GGUF metadata (with llama.cpp's).
 */
#ifndef PENSTOCK_DECODER_HPARAMS_H
#define PENSTOCK_DECODER_HPARAMS_H

#include <stdbool.h>
#include <stdint.h>
#include <penstock/penstock.h>
#include "rope.h"

enum decoder_qk_norm {
	DECODER_QK_NONE = 0,
	DECODER_QK_HEAD,	/* each head by itself, one weight for all */
	DECODER_QK_FULL,	/* the whole projection */
};

enum decoder_presence { DECODER_NEVER = 0, DECODER_MUST, DECODER_MAY };

/**
 * struct decoder_layer_hp - one layer's attention
 * @window: positions seen, the own one included; 0 = all
 * @chunk: only positions of the same chunk of this length are seen; 0 = all
 * @rope: positions are rotated in
 */
struct decoder_layer_hp {
	uint32_t window;
	uint32_t chunk;
	bool rope;
};

/**
 * struct decoder_hparams
 * @interleaved: rotation pairs (2i, 2i + 1) instead of (i, i + rot / 2)
 * @l2_norm: queries and keys are normalised without a weight after rotation, on rotated layers
 * @temperature: on layers without rotation queries grow with the position:
 *	log1p(floor((pos + 1) / floor_scale)) * attn_scale + 1
 * @clip: bound on queries, keys and values; 0 = none
 * @qk_norm_presence: is the norm there (MAY: where the checkpoint has it)
 * @tied: the head is the embedding
 */
struct decoder_hparams {
	struct penstock_model_info info;
	uint32_t nr_heads;
	uint32_t nr_kv_heads;
	uint32_t head_dim;
	float eps;
	bool interleaved;
	bool sinks;
	bool l2_norm;
	bool temperature;
	bool tied;
	float floor_scale;
	float attn_scale;
	float clip;
	uint32_t qk_norm;		/* enum decoder_qk_norm */
	uint32_t qk_norm_presence;	/* enum decoder_presence */
	uint32_t qkv_bias;		/* enum decoder_presence */
	uint32_t o_bias;		/* enum decoder_presence */
	uint32_t scale_block[2];	/* rows and columns that a scale of a dense FP8 matrix covers */
	struct decoder_rope_params rope;
	struct decoder_layer_hp *layers;
};

/**
 * decoder_hparams_read() - fill @hp; destroy it with decoder_hparams_destroy()
 * @attention: the model's attention is wanted too (not for the experts-only pass)
 * Return: 0; -EINVAL impossible values; -ENOENT a key without default is missing; -EOPNOTSUPP a variant that is not
 * computed; each with the key. -ENOMEM.
 */
int decoder_hparams_read(struct penstock_model *model, bool attention, struct decoder_hparams *hp,
			 struct penstock_error *err);
void decoder_hparams_destroy(struct decoder_hparams *hp);

/* Sources of the values, one file each. */
int decoder_hparams_hf(struct penstock_model *model, bool attention, struct decoder_hparams *hp,
		       struct penstock_error *err);
int decoder_hparams_gguf(struct penstock_model *model, bool attention, struct decoder_hparams *hp,
			 struct penstock_error *err);

/**
 * struct decoder_keys - looking keys up under a prefix, the first fault kept
 * @prefix: in front of each key ("text_config.", "qwen3moe.")
 * @rc: 0, or the first fault; later calls do nothing
 */
struct decoder_keys {
	struct penstock_model *model;
	struct penstock_error *err;
	char prefix[64];
	int rc;
};

/** decoder_key() - Return: true and @m where the key is present and not null */
bool decoder_key(struct decoder_keys *k, const char *key, struct penstock_meta *m);
/** decoder_key_double() - the value, or @def where absent; a fault for another type */
double decoder_key_double(struct decoder_keys *k, const char *key, double def);
/** decoder_key_u32() - as decoder_key_double(), for whole numbers 0 .. @max; an array of equal numbers counts as one */
uint32_t decoder_key_u32(struct decoder_keys *k, const char *key, uint32_t def, uint32_t max);
/** decoder_key_bool() - true, false or a number */
bool decoder_key_bool(struct decoder_keys *k, const char *key, bool def);
/** decoder_key_string() - static until the model is closed */
const char *decoder_key_string(struct decoder_keys *k, const char *key, const char *def);
/** decoder_key_fault() - note a fault of @key's value @v; Return: @code */
int decoder_key_fault(struct decoder_keys *k, int code, const char *key, const char *why);

#define DECODER_MAX_DIM (1u << 24)

#endif
