// SPDX-License-Identifier: MIT
/* The operations for AVX-512 F, BW, VL and DQ. */
#if defined(__x86_64__)
#define ISA(name) penstock_avx512_##name
#define ISA_NAME "avx512"
#include "ops_tmpl.h"
#endif
