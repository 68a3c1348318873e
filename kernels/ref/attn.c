// SPDX-License-Identifier: MIT
/*
 * The reference attention of one head: the largest score first, then the sum.
 * Scores are computed again for every 64 columns of the output, so that no memory is needed.
 */
#include <math.h>
#include "ref.h"

static double score(const struct penstock_k_attn *a, size_t head, size_t kv, size_t p)
{
	const float *q = a->q + head * a->head_dim, *k = a->k + p * a->kv_stride + kv * a->head_dim;
	double s = 0;
	size_t i;

	for (i = 0; i < a->head_dim; i++)
		s += (double)q[i] * k[i];
	return s * a->scale;
}

static void one_head(const struct penstock_k_attn *a, size_t head)
{
	size_t kv = head / (a->nr_heads / a->nr_kv_heads), p, i, i0, n;
	double top = a->sinks ? a->sinks[head] : -INFINITY, sum, s, acc[64];
	float *out = a->out + head * a->head_dim;
	const float *v;

	for (p = a->first; p < a->end; p++) {
		s = score(a, head, kv, p);
		if (!(s <= top))
			top = s;
	}
	for (i0 = 0; i0 < a->head_dim; i0 += n) {
		n = a->head_dim - i0 < 64 ? a->head_dim - i0 : 64;
		memset(acc, 0, sizeof(acc));
		sum = a->sinks ? exp(a->sinks[head] - top) : 0;
		for (p = a->first; p < a->end; p++) {
			s = exp(score(a, head, kv, p) - top);
			v = a->v + p * a->kv_stride + kv * a->head_dim + i0;
			sum += s;
			for (i = 0; i < n; i++)
				acc[i] += s * v[i];
		}
		for (i = 0; i < n; i++)
			out[i0 + i] = a->first < a->end ? (float)(acc[i] / sum) : 0;
	}
}

void penstock_ref_attn(const struct penstock_k_attn *a, size_t begin, size_t end)
{
	for (; begin < end; begin++)
		one_head(a, begin);
}
