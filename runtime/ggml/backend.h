/* SPDX-License-Identifier: MIT */
/* What libggml-penstock.so exports; ggml looks these two up. */
#ifndef PENSTOCK_GGML_BACKEND_H
#define PENSTOCK_GGML_BACKEND_H

#include "ggml_abi.h"

#define GG_EXPORT __attribute__((visibility("default")))

/** ggml_backend_init() - the registration, the same at each call; NULL with a line on stderr: not in this ggml */
GG_EXPORT struct gg_reg *ggml_backend_init(void);
/** ggml_backend_score() - how well it suits this machine: above 0 */
GG_EXPORT int ggml_backend_score(void);

#endif
