// SPDX-License-Identifier: MIT
/* Sampling: see sample.h. */
#include <errno.h>
#include <math.h>

#include "sample.h"

static uint64_t splitmix64(uint64_t *x)
{
	uint64_t z = (*x += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint64_t rotl(uint64_t x, unsigned int k)
{
	return x << k | x >> (64 - k);
}

void decoder_sampler_seed(struct decoder_sampler *s, uint64_t seed, double temperature)
{
	unsigned int i;

	for (i = 0; i < 4; i++)
		s->state[i] = splitmix64(&seed);
	s->temperature = temperature;
}

uint64_t decoder_sampler_next(struct decoder_sampler *s)
{
	uint64_t *x = s->state, out = rotl(x[1] * 5, 7) * 9, t = x[1] << 17;

	x[2] ^= x[0];
	x[3] ^= x[1];
	x[1] ^= x[2];
	x[0] ^= x[3];
	x[2] ^= t;
	x[3] = rotl(x[3], 45);
	return out;
}

int32_t decoder_argmax(const float *logits, uint32_t n)
{
	uint32_t i, best = 0;

	if (!n)
		return -EINVAL;
	for (i = 0; i < n; i++) {
		if (isnan(logits[i]))
			return -EINVAL;
		if (logits[i] > logits[best])
			best = i;
	}
	return (int32_t)best;
}

int32_t decoder_sample(struct decoder_sampler *s, const float *logits, uint32_t n)
{
	int32_t best = decoder_argmax(logits, n), last;
	double sum = 0, u, p;
	uint32_t i;

	if (best < 0 || !(s->temperature > 0))
		return best;
	if (!isfinite(logits[best]))
		return -EINVAL;
	for (i = 0; i < n; i++)
		sum += exp(((double)logits[i] - logits[best]) / s->temperature);
	u = (double)(decoder_sampler_next(s) >> 11) * 0x1p-53 * sum;
	for (i = 0, last = best; i < n; i++) {
		p = exp(((double)logits[i] - logits[best]) / s->temperature);
		if (p > 0)
			last = (int32_t)i;
		if (u < p)
			return (int32_t)i;
		u -= p;
	}
	/* rounding left u at the very end: the last token that can be drawn */
	return last;
}
