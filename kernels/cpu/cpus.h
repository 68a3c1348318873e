/* SPDX-License-Identifier: MIT */
/* CPUs allowed to this process, and what those CPUs can do. */
#ifndef PENSTOCK_CPUS_H
#define PENSTOCK_CPUS_H

#include <stdbool.h>

/** penstock_cpus_allowed() - affinity and control group quota; at least 1 */
unsigned int penstock_cpus_allowed(void);

/**
 * penstock_cpus_quota() - least CPU quota of the control groups
 * @proc_cgroup: a file in the form of /proc/self/cgroup
 * @sys_root: where control groups are mounted
 * Return: CPUs, rounded up; 0 = no quota
 */
unsigned int penstock_cpus_quota(const char *proc_cgroup, const char *sys_root);

/**
 * struct penstock_cpus_has - instruction sets that the CPU and the system allow
 * @avx2: AVX2, FMA, F16C
 * @avx512: AVX512 F, BW, VL, DQ
 * @avx512_bf16: dot products of bfloat16
 * @avx512_vnni: dot products of bytes, 512-bit encoding
 * @avx_vnni: the same, 256-bit encoding
 */
struct penstock_cpus_has {
	bool avx2;
	bool avx512;
	bool avx512_bf16;
	bool avx512_vnni;
	bool avx_vnni;
};

/** penstock_cpus_probe() - ask the CPU */
void penstock_cpus_probe(struct penstock_cpus_has *has);

#endif
