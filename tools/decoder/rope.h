/* SPDX-License-Identifier: MIT */
/*
 * Rotary positions: from a checkpoint's scaling to the frequencies, and from
 * those to the cosines and sines of a position.
 */
#ifndef PENSTOCK_DECODER_ROPE_H
#define PENSTOCK_DECODER_ROPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <penstock/penstock.h>

enum decoder_rope_type {
	DECODER_ROPE_DEFAULT = 0,
	DECODER_ROPE_LINEAR,	/* positions divided by the factor */
	DECODER_ROPE_YARN,	/* low frequencies divided, high kept, a ramp between */
	DECODER_ROPE_LLAMA3,	/* the same by wavelength */
};

/**
 * struct decoder_rope_params - what the configuration says
 * @rot: elements of a head that are rotated (even)
 * @theta: base
 * @factor: by how much the context was stretched
 * @original: positions before stretching (yarn, llama3)
 * @attention: factor on cosines and sines; 0 = yarn's own, from @factor and the mscales
 * @extra_attention: factor on top of yarn's own (GGUF), 1 without
 * @mscale, @mscale_all_dim: yarn: weights of log(factor); 0 = not given
 * @beta_fast, @beta_slow, @truncate: ends of yarn's ramp in rotations, rounded outwards or not
 * @low_freq, @high_freq: llama3: wavelengths original / low and original / high bound the ramp
 */
struct decoder_rope_params {
	uint32_t type;
	uint32_t rot;
	double theta;
	double factor;
	double original;
	double attention;
	double extra_attention;
	double mscale;
	double mscale_all_dim;
	double beta_fast;
	double beta_slow;
	bool truncate;
	double low_freq;
	double high_freq;
};

/**
 * struct decoder_rope - ready frequencies
 * @inv_freq: rot / 2 angles a position
 * @scale: factor on cosines and sines
 */
struct decoder_rope {
	uint32_t rot;
	float scale;
	float *inv_freq;
};

/** decoder_rope_create() - Return: 0; -EINVAL impossible parameters; -ENOMEM. */
int decoder_rope_create(const struct decoder_rope_params *p, struct decoder_rope *r, struct penstock_error *err);
void decoder_rope_destroy(struct decoder_rope *r);
/** decoder_rope_angles() - rot / 2 cosines and sines of a position, scaled */
void decoder_rope_angles(const struct decoder_rope *r, uint32_t pos, float *cosv, float *sinv);

#endif
