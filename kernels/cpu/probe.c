// SPDX-License-Identifier: MIT
/*
 * What the CPU can do, by CPUID; and whether the system saves the registers, by
 * XGETBV: a CPU with AVX-512 under a system that does not save it has none.
 */
#include <stdint.h>
#include "cpus.h"

#if defined(__x86_64__)
#include <cpuid.h>

#define XCR0_AVX	0x06	/* SSE and the upper halves of YMM */
#define XCR0_AVX512	0xe6	/* also masks and ZMM */

static uint32_t xcr0(void)
{
	uint32_t eax, edx;

	__asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
	return eax;
}

void penstock_cpus_probe(struct penstock_cpus_has *has)
{
	unsigned int a, b, c, d, leaf7_max, saved;

	*has = (struct penstock_cpus_has){ 0 };
	if (!__get_cpuid(1, &a, &b, &c, &d))
		return;
	/* OSXSAVE, FMA, F16C */
	if (!(c & 1u << 27) || !(c & 1u << 12) || !(c & 1u << 29))
		return;
	saved = xcr0();
	if ((saved & XCR0_AVX) != XCR0_AVX)
		return;
	if (!__get_cpuid_count(7, 0, &leaf7_max, &b, &c, &d))
		return;
	has->avx2 = b & 1u << 5;
	if (has->avx2 && (saved & XCR0_AVX512) == XCR0_AVX512) {
		/* F, DQ, BW, VL */
		has->avx512 = b & 1u << 16 && b & 1u << 17 && b & 1u << 30 && b & 1u << 31;
		has->avx512_vnni = has->avx512 && c & 1u << 11;
	}
	if (leaf7_max < 1 || !__get_cpuid_count(7, 1, &a, &b, &c, &d))
		return;
	has->avx_vnni = has->avx2 && a & 1u << 4;
	has->avx512_bf16 = has->avx512 && a & 1u << 5;
}

#else

void penstock_cpus_probe(struct penstock_cpus_has *has)
{
	*has = (struct penstock_cpus_has){ 0 };
}

#endif
