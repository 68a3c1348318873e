/* SPDX-License-Identifier: MIT */
/* How much cache a model gets, and whether that is enough. */
#ifndef PENSTOCK_GGML_BUDGET_H
#define PENSTOCK_GGML_BUDGET_H

#include "engine.h"

/** struct gg_need - bytes of slots: of one token's experts, and of all */
struct gg_need {
	uint64_t token;
	uint64_t all;
};

/** gg_need_add() - one more matrix */
void gg_need_add(struct gg_need *need, const struct gg_matrix *m);
/**
 * gg_budget_get() - the budget of a model
 * @nr: models opened before it
 * @bytes: receives it
 * @all: receives that of all models for which there is one
 * Return: true; false with a line on stderr: none is left, or it holds less than one token's experts.
 */
bool gg_budget_get(const struct gg_need *need, uint32_t nr, uint64_t *bytes, uint64_t *all);

#endif
