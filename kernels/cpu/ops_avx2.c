// SPDX-License-Identifier: MIT
/* The operations for AVX2, FMA and F16C. */
#if defined(__x86_64__)
#define ISA(name) penstock_avx2_##name
#define ISA_NAME "avx2"
#include "ops_tmpl.h"
#endif
