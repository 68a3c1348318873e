/* SPDX-License-Identifier: MIT */
/* Which table of operations an instruction set has, and the tables. */
#ifndef PENSTOCK_CPU_H
#define PENSTOCK_CPU_H

#include "../kimpl.h"

/**
 * penstock_cpu_ops() - the table for an instruction set
 * @isa: enum penstock_isa
 * @fast: activations may be rounded to the weights' precision
 * Return: 0; -EINVAL unknown @isa; -EOPNOTSUPP the CPU lacks it.
 */
int penstock_cpu_ops(int isa, bool fast, const struct penstock_k_ops **out);

#if defined(__x86_64__)
#define PENSTOCK_CPU_OPS(isa)								\
extern const struct penstock_k_ops penstock_##isa##_ops;				\
void penstock_##isa##_rows(const struct penstock_k_mat *m, const struct penstock_k_in *in, size_t nr_tokens, \
			   size_t begin, size_t end, float *y, size_t ldy);		\
void penstock_##isa##_gate_up(const struct penstock_k_expert *e, const struct penstock_k_in *in, \
			      size_t nr_tokens, size_t begin, size_t end, float *h, float *tmp, size_t ldh);

PENSTOCK_CPU_OPS(avx2)
PENSTOCK_CPU_OPS(avx512)
#endif

#endif
