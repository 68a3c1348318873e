// SPDX-License-Identifier: MIT
/*
 * Rotary positions: see rope.h. Frequencies are worked out in double and kept as
 * float; an angle is position times frequency in float, as the models' own code
 * rounds it.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "fail.h"
#include "rope.h"

static double mscale_of(double factor, double weight)
{
	return factor <= 1 ? 1 : 0.1 * weight * log(factor) + 1;
}

static double attention_of(const struct decoder_rope_params *p)
{
	if (p->attention > 0)
		return p->attention;
	if (p->type != DECODER_ROPE_YARN)
		return 1;
	if (p->mscale > 0 && p->mscale_all_dim > 0)
		return mscale_of(p->factor, p->mscale) / mscale_of(p->factor, p->mscale_all_dim);
	return p->extra_attention * mscale_of(p->factor, 1);
}

/* The dimension whose frequency makes @rotations turns within the original context. */
static double yarn_dim(const struct decoder_rope_params *p, double rotations)
{
	return p->rot * log(p->original / (rotations * 2 * M_PI)) / (2 * log(p->theta));
}

static void yarn(const struct decoder_rope_params *p, struct decoder_rope *r)
{
	double low = yarn_dim(p, p->beta_fast), high = yarn_dim(p, p->beta_slow), ramp, keep;
	uint32_t i;

	if (p->truncate) {
		low = floor(low);
		high = ceil(high);
	}
	low = fmax(low, 0);
	high = fmin(high, p->rot - 1.0);
	if (low == high)
		high += 0.001;
	for (i = 0; i < p->rot / 2; i++) {
		ramp = fmin(fmax((i - low) / (high - low), 0), 1);
		keep = 1 - ramp;
		r->inv_freq[i] = (float)(r->inv_freq[i] / p->factor * ramp + r->inv_freq[i] * keep);
	}
}

static void llama3(const struct decoder_rope_params *p, struct decoder_rope *r)
{
	double wavelen, smooth, f;
	uint32_t i;

	for (i = 0; i < p->rot / 2; i++) {
		f = r->inv_freq[i];
		wavelen = 2 * M_PI / f;
		if (wavelen > p->original / p->low_freq) {
			f /= p->factor;
		} else if (wavelen >= p->original / p->high_freq) {
			smooth = (p->original / wavelen - p->low_freq) / (p->high_freq - p->low_freq);
			f = (1 - smooth) * f / p->factor + smooth * f;
		}
		r->inv_freq[i] = (float)f;
	}
}

static int check(const struct decoder_rope_params *p, struct penstock_error *err)
{
	if (!p->rot || p->rot % 2)
		return decoder_fail(err, -EINVAL, "rope: %u rotated elements a head are not an even number", p->rot);
	if (!(p->theta > 1) || !isfinite(p->theta))
		return decoder_fail(err, -EINVAL, "rope: theta %g", p->theta);
	if (!(p->factor > 0) || !isfinite(p->factor))
		return decoder_fail(err, -EINVAL, "rope: scaling factor %g", p->factor);
	if (p->type >= DECODER_ROPE_YARN && !(p->original > 0))
		return decoder_fail(err, -EINVAL, "rope: original context of %g positions", p->original);
	if (p->type == DECODER_ROPE_YARN && !(p->beta_fast > 0 && p->beta_slow > 0))
		return decoder_fail(err, -EINVAL, "rope: yarn betas %g and %g", p->beta_fast, p->beta_slow);
	if (p->type == DECODER_ROPE_LLAMA3 && !(p->low_freq > 0 && p->high_freq > p->low_freq))
		return decoder_fail(err, -EINVAL, "rope: llama3 frequency factors %g and %g", p->low_freq,
				    p->high_freq);
	return 0;
}

int decoder_rope_create(const struct decoder_rope_params *p, struct decoder_rope *r, struct penstock_error *err)
{
	int rc = check(p, err);
	uint32_t i;

	if (rc)
		return rc;
	r->inv_freq = malloc(p->rot / 2 * sizeof(float));
	if (!r->inv_freq)
		return decoder_fail(err, -ENOMEM, "rope: %u frequencies", p->rot / 2);
	r->rot = p->rot;
	r->scale = (float)attention_of(p);
	for (i = 0; i < p->rot / 2; i++)
		r->inv_freq[i] = (float)(1 / pow(p->theta, 2.0 * i / p->rot));
	if (p->type == DECODER_ROPE_LINEAR)
		for (i = 0; i < p->rot / 2; i++)
			r->inv_freq[i] /= (float)p->factor;
	else if (p->type == DECODER_ROPE_YARN)
		yarn(p, r);
	else if (p->type == DECODER_ROPE_LLAMA3)
		llama3(p, r);
	return 0;
}

void decoder_rope_destroy(struct decoder_rope *r)
{
	free(r->inv_freq);
	r->inv_freq = NULL;
}

void decoder_rope_angles(const struct decoder_rope *r, uint32_t pos, float *cosv, float *sinv)
{
	uint32_t i;
	float angle;

	for (i = 0; i < r->rot / 2; i++) {
		angle = (float)pos * r->inv_freq[i];
		cosv[i] = cosf(angle) * r->scale;
		sinv[i] = sinf(angle) * r->scale;
	}
}
