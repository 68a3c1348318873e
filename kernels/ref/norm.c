// SPDX-License-Identifier: MIT
/* The reference RMS norm. */
#include <math.h>
#include "ref.h"

void penstock_ref_rmsnorm(const float *x, const float *w, float eps, size_t n, float *y)
{
	double sum = 0, inv;
	size_t i;

	for (i = 0; i < n; i++)
		sum += (double)x[i] * x[i];
	inv = 1 / sqrt(sum / (double)n + eps);
	for (i = 0; i < n; i++)
		y[i] = (float)(x[i] * inv * (w ? w[i] : 1.0f));
}
