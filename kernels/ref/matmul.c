// SPDX-License-Identifier: MIT
/*
 * The reference multiplication: a double sum over the columns in order. The
 * weights of a row are expanded once for all tokens.
 */
#include "ref.h"

#define CHUNK 512

void penstock_ref_rows(const struct penstock_k_mat *m, const struct penstock_k_in *in, size_t nr_tokens,
		       size_t begin, size_t end, float *y, size_t ldy)
{
	double w[CHUNK], acc[32];
	size_t r, c, n, i, t, t0, nt;

	for (r = begin; r < end; r++) {
		for (t0 = 0; t0 < nr_tokens; t0 += nt) {
			nt = nr_tokens - t0 < 32 ? nr_tokens - t0 : 32;
			memset(acc, 0, sizeof(acc));
			for (c = 0; c < m->cols; c += n) {
				n = m->cols - c < CHUNK ? m->cols - c : CHUNK;
				penstock_ref_dequant(m, r, c, n, w);
				for (t = 0; t < nt; t++)
					for (i = 0; i < n; i++)
						acc[t] += w[i] * in->x[(t0 + t) * in->ldx + c + i];
			}
			for (t = 0; t < nt; t++)
				y[(t0 + t) * ldy + r] = (float)(acc[t] + penstock_ref_bias(m, r));
		}
	}
}
