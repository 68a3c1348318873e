// SPDX-License-Identifier: MIT
/* Rotary position embedding. A few thousand multiplications a token: one version for all. */
#include "../kimpl.h"

void penstock_k_rope(float *x, size_t nr_heads, size_t head_dim, size_t rot, const float *cosv,
		     const float *sinv, int interleaved)
{
	size_t h, i, half = rot / 2, a, b;
	float xa, xb;

	for (h = 0; h < nr_heads; h++, x += head_dim) {
		for (i = 0; i < half; i++) {
			a = interleaved ? 2 * i : i;
			b = interleaved ? a + 1 : i + half;
			xa = x[a];
			xb = x[b];
			x[a] = xa * cosv[i] - xb * sinv[i];
			x[b] = xb * cosv[i] + xa * sinv[i];
		}
	}
}
