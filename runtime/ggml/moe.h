/* SPDX-License-Identifier: MIT */
/* One MUL_MAT_ID: its experts fetched, in waves where they exceed the cache, and computed as they arrive. */
#ifndef PENSTOCK_GGML_MOE_H
#define PENSTOCK_GGML_MOE_H

#include "engine.h"
#include "shadow.h"

/**
 * gg_moe_compute() - compute an operation; the engine's lock is held
 * @m: of its weights; NULL: they are not of a model's file (tests, other tools), and are computed where they are
 */
enum gg_status gg_moe_compute(struct gg_shadow *s, struct gg_tensor *op, struct gg_matrix *m);

#endif
