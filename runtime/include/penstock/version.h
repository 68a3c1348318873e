/* SPDX-License-Identifier: MIT */
/* The version, checked against the Makefile by the build. */
#ifndef PENSTOCK_VERSION_H
#define PENSTOCK_VERSION_H

#define PENSTOCK_VERSION_MAJOR 0
#define PENSTOCK_VERSION_MINOR 1
#define PENSTOCK_VERSION_PATCH 0
#define PENSTOCK_VERSION "0.1.0"

#endif
