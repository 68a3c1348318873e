// SPDX-License-Identifier: MIT
/* The reference expert: gate, up and the activation; and the weighted sum of experts' outputs. */
#include <math.h>
#include "ref.h"

static double act(const struct penstock_k_expert *e, double g, double u)
{
	if (e->act == PENSTOCK_ACT_SWIGLU)
		return g / (1 + exp(-g)) * u;
	/* comparisons, so that a NaN stays one */
	if (g > e->limit)
		g = e->limit;
	if (u > e->limit)
		u = e->limit;
	if (u < -(double)e->limit)
		u = -(double)e->limit;
	return (u + 1) * g / (1 + exp(-(double)e->alpha * g));
}

void penstock_ref_gate_up(const struct penstock_k_expert *e, const struct penstock_k_in *in, size_t nr_tokens,
			  size_t begin, size_t end, float *h, float *tmp, size_t ldh)
{
	size_t t, r;

	penstock_ref_rows(&e->gate, in, nr_tokens, begin, end, h, ldh);
	penstock_ref_rows(&e->up, in, nr_tokens, begin, end, tmp, ldh);
	for (t = 0; t < nr_tokens; t++)
		for (r = begin; r < end; r++)
			h[t * ldh + r] = (float)act(e, h[t * ldh + r], tmp[t * ldh + r]);
}

void penstock_ref_combine(const float *y, size_t ldy, const float *w, size_t k, size_t begin, size_t end,
			  float *out)
{
	double sum;
	size_t i, j;

	for (i = begin; i < end; i++) {
		sum = 0;
		for (j = 0; j < k; j++)
			sum += (double)y[j * ldy + i] * (w ? w[j] : 1.0f);
		out[i] = (float)sum;
	}
}
