// SPDX-License-Identifier: GPL-2.0-only
/*
 * The same from a program of 32 bits, by the compat entry of the kernel.
 */
#define _FILE_OFFSET_BITS 64
#include "penstock_read.c"
