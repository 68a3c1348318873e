/* SPDX-License-Identifier: MIT */
/*
 * The reference operations, gathered into penstock_k_ops_ref by ref/ops.c.
 * Each does what struct penstock_k_ops says.
 */
#ifndef PENSTOCK_REF_H
#define PENSTOCK_REF_H

#include "../kimpl.h"

void penstock_ref_rows(const struct penstock_k_mat *m, const struct penstock_k_in *in, size_t nr_tokens,
		       size_t begin, size_t end, float *y, size_t ldy);
void penstock_ref_gate_up(const struct penstock_k_expert *e, const struct penstock_k_in *in, size_t nr_tokens,
			  size_t begin, size_t end, float *h, float *tmp, size_t ldh);
void penstock_ref_combine(const float *y, size_t ldy, const float *w, size_t k, size_t begin, size_t end,
			  float *out);
void penstock_ref_rmsnorm(const float *x, const float *w, float eps, size_t n, float *y);
void penstock_ref_attn(const struct penstock_k_attn *a, size_t begin, size_t end);

#endif
