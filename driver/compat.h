/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Kernels differ; what a probe found out at build time (conftest) is used here
 * and nowhere else: all other files are written for one kernel.
 */
#ifndef PENSTOCK_COMPAT_H
#define PENSTOCK_COMPAT_H

#endif
