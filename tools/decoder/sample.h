/* SPDX-License-Identifier: MIT */
/*
 * From logits to a token: the largest, or a seeded draw. The same seed,
 * temperature and logits give the same tokens on every machine with an IEEE
 * exp(): splitmix64 fills the state of xoshiro256**, a draw uses its upper 53
 * bits, and probabilities are summed in double in order of token id.
 */
#ifndef PENSTOCK_DECODER_SAMPLE_H
#define PENSTOCK_DECODER_SAMPLE_H

#include <stdint.h>

struct decoder_sampler {
	uint64_t state[4];
	double temperature;	/* 0 = greedy */
};

/** decoder_sampler_seed() - start a sequence of draws; @temperature 0 = greedy */
void decoder_sampler_seed(struct decoder_sampler *s, uint64_t seed, double temperature);
/** decoder_sampler_next() - 64 random bits */
uint64_t decoder_sampler_next(struct decoder_sampler *s);
/** decoder_argmax() - the largest logit, the lower id among equals. Return: id; -EINVAL a NaN, or no logits. */
int32_t decoder_argmax(const float *logits, uint32_t n);
/** decoder_sample() - the next token. Return: id; -EINVAL a NaN, an infinite logit, or no logits. */
int32_t decoder_sample(struct decoder_sampler *s, const float *logits, uint32_t n);

#endif
