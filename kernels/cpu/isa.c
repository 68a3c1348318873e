// SPDX-License-Identifier: MIT
/* The choice of the table of operations. */
#include <errno.h>
#include "cpu.h"
#include "cpus.h"

int penstock_cpu_ops(int isa, bool fast, const struct penstock_k_ops **out)
{
	struct penstock_cpus_has has;

	penstock_cpus_probe(&has);
	switch (isa) {
	case PENSTOCK_ISA_AUTO:
	case PENSTOCK_ISA_REF:
		*out = &penstock_k_ops_ref;
		return 0;
	default:
		return -EINVAL;
	}
}
