/* SPDX-License-Identifier: MIT */
/*
 * Tensor names: from what a tensor is (its role) to what a checkpoint calls it,
 * for Hugging Face folders and for GGUF. The prefix in front of "layers." is
 * found once, since text models inside multimodal ones have a longer one.
 */
#ifndef PENSTOCK_DECODER_NAMES_H
#define PENSTOCK_DECODER_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <penstock/penstock.h>

enum decoder_role {
	DECODER_EMBED = 0,
	DECODER_NORM,		/* before the head */
	DECODER_HEAD,
	DECODER_ROPE_FREQS,	/* divisors of the rotary frequencies (GGUF) */
	DECODER_ATTN_NORM,
	DECODER_FFN_NORM,	/* between attention and experts */
	DECODER_QKV,		/* all three in one, in this order (GGUF) */
	DECODER_QKV_BIAS,
	DECODER_Q,
	DECODER_K,
	DECODER_V,
	DECODER_O,
	DECODER_Q_BIAS,
	DECODER_K_BIAS,
	DECODER_V_BIAS,
	DECODER_O_BIAS,
	DECODER_Q_NORM,
	DECODER_K_NORM,
	DECODER_SINKS,
	DECODER_GATE,		/* of a dense layer */
	DECODER_UP,
	DECODER_DOWN,
	DECODER_NR_ROLES,
};

#define DECODER_NAME_MAX 160

/**
 * struct decoder_names - how this checkpoint names things
 * @gguf: GGUF names
 * @prefix: in front of "layers.", "embed_tokens.", "norm." ("model.")
 * @head_prefix: in front of "lm_head."
 */
struct decoder_names {
	bool gguf;
	char prefix[40];
	char head_prefix[40];
};

/** decoder_names_find() - recognise the prefix; a checkpoint without a known one gets "model." */
void decoder_names_find(struct penstock_model *model, uint32_t format, struct decoder_names *n);
/** decoder_name() - candidate @i of a role's name. Return: false: there are no more. */
bool decoder_name(const struct decoder_names *n, enum decoder_role role, uint32_t layer, unsigned int i,
		  char *buf, size_t len);
/** decoder_name_tensor() - number of the first candidate that exists, or PENSTOCK_NO_TENSOR */
uint32_t decoder_name_tensor(const struct decoder_names *n, struct penstock_model *model, enum decoder_role role,
			     uint32_t layer);

#endif
