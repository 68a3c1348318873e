/* SPDX-License-Identifier: MIT */
/* What the user is told: one line when a model starts, its form, statistics at the end and on SIGUSR1. */
#ifndef PENSTOCK_GGML_REPORT_H
#define PENSTOCK_GGML_REPORT_H

#include "engine.h"

/** gg_report_start() - the model, its budget, the route and the drive; the engine's lock is held */
void gg_report_start(const struct gg_model *o, struct penstock_ctx *ctx, uint64_t locked, uint64_t resident);
/** gg_report_form() - the layout of experts, and the microseconds an expert that decided it, or 0 */
void gg_report_form(const struct gg_model *o, uint32_t repacked_matrices, double plain, double repacked);
/** gg_report_inert() - a llama context begins and no expert tensor is ours: once a process */
void gg_report_inert(void);
/** gg_report_stats() - as PENSTOCK_STATS asks for; the engine's lock is held */
void gg_report_stats(void);
/** gg_report_on_signal() - statistics whenever SIGUSR1 comes, unless the program has its own use for it */
void gg_report_on_signal(void);

#endif
