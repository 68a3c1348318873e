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

#endif
