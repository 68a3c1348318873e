/* SPDX-License-Identifier: MIT */
/*
 * The layout that experts have in their slots: as in the file, or repacked in place
 * for ggml's faster kernels when they come in. One layout for a matrix and a run:
 * the two sum in another order.
 */
#ifndef PENSTOCK_GGML_FORM_H
#define PENSTOCK_GGML_FORM_H

#include "engine.h"
#include "shadow.h"

/**
 * gg_form_choose() - decide for all matrices of a model
 * @s: what computes, with the threads that it will have
 * With PENSTOCK_FORM=auto both are timed on experts of the model.
 */
void gg_form_choose(struct gg_model *o, struct gg_shadow *s);
/** gg_form_apply() - an expert is there: repack it if its matrix wants that and it is not yet */
enum gg_status gg_form_apply(struct gg_matrix *m, const struct penstock_slot *slot);
/** gg_form_extra() - for gg_shadow_compute() */
void *gg_form_extra(const struct gg_matrix *m);

#endif
