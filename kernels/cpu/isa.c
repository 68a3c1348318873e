// SPDX-License-Identifier: MIT
/* The choice of the table of operations. */
#include <errno.h>
#include "cpu.h"
#include "cpus.h"

#if defined(__x86_64__)

static void avx512_ops(const struct penstock_cpus_has *has, bool fast, struct penstock_k_ops *out)
{
	if (fast && has->avx512_vnni)
		penstock_avx512_fast_ops(out, has->avx512_bf16);
	else
		*out = penstock_avx512_ops;
}

static void avx2_ops(const struct penstock_cpus_has *has, bool fast, struct penstock_k_ops *out)
{
	if (fast && has->avx_vnni)
		penstock_avx2_vnni_ops(out);
	else
		*out = penstock_avx2_ops;
}

static int vector_ops(int isa, bool fast, struct penstock_k_ops *out)
{
	struct penstock_cpus_has has;

	penstock_cpus_probe(&has);
	if (isa == PENSTOCK_ISA_AUTO)
		isa = has.avx512 ? PENSTOCK_ISA_AVX512 : has.avx2 ? PENSTOCK_ISA_AVX2 : PENSTOCK_ISA_REF;
	if (isa == PENSTOCK_ISA_AVX512 && has.avx512)
		avx512_ops(&has, fast, out);
	else if (isa == PENSTOCK_ISA_AVX2 && has.avx2)
		avx2_ops(&has, fast, out);
	else if (isa == PENSTOCK_ISA_REF)
		*out = penstock_k_ops_ref;
	else
		return -EOPNOTSUPP;
	return 0;
}

#else

static int vector_ops(int isa, bool fast, struct penstock_k_ops *out)
{
	if (isa != PENSTOCK_ISA_AUTO)
		return -EOPNOTSUPP;
	*out = penstock_k_ops_ref;
	return 0;
}

#endif

int penstock_cpu_ops(int isa, bool fast, struct penstock_k_ops *out)
{
	switch (isa) {
	case PENSTOCK_ISA_REF:
		*out = penstock_k_ops_ref;
		return 0;
	case PENSTOCK_ISA_AUTO:
	case PENSTOCK_ISA_AVX2:
	case PENSTOCK_ISA_AVX512:
		return vector_ops(isa, fast, out);
	default:
		return -EINVAL;
	}
}
