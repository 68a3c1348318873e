/* SPDX-License-Identifier: MIT */
/* Which table of operations an instruction set has, and the tables. */
#ifndef PENSTOCK_CPU_H
#define PENSTOCK_CPU_H

#include "../kimpl.h"

/**
 * penstock_cpu_ops() - the table for an instruction set
 * @isa: enum penstock_isa
 * @fast: activations may be rounded to the weights' precision
 * @out: receives a copy
 * Return: 0; -EINVAL unknown @isa; -EOPNOTSUPP the CPU lacks it.
 */
int penstock_cpu_ops(int isa, bool fast, struct penstock_k_ops *out);

#if defined(__x86_64__)
#define PENSTOCK_CPU_OPS(isa)								\
extern const struct penstock_k_ops penstock_##isa##_ops;				\
void penstock_##isa##_rows(const struct penstock_k_mat *m, const struct penstock_k_in *in, size_t nr_tokens, \
			   size_t begin, size_t end, float *y, size_t ldy);		\
void penstock_##isa##_gate_up(const struct penstock_k_expert *e, const struct penstock_k_in *in, \
			      size_t nr_tokens, size_t begin, size_t end, float *h, float *tmp, size_t ldh); \
void penstock_##isa##_act(const struct penstock_k_expert *e, size_t n, float *h, const float *up);

PENSTOCK_CPU_OPS(avx2)
PENSTOCK_CPU_OPS(avx512)

/* the tables with fast forms, where the CPU has AVX_VNNI; AVX512_VNNI and, for @bf16, AVX512_BF16 */
void penstock_avx2_vnni_ops(struct penstock_k_ops *ops);
void penstock_avx512_fast_ops(struct penstock_k_ops *ops, bool bf16);
#endif

#endif
