/* SPDX-License-Identifier: MIT */
/*
 * The progress line on stderr: rewritten in place on a terminal, at most five
 * times a second; else one line every two seconds.
 */
#ifndef PENSTOCK_RUN_PROGRESS_H
#define PENSTOCK_RUN_PROGRESS_H

#include "run.h"

/**
 * struct run_progress
 * @phase: "prefill", "decode", "verify"
 * @total: tokens of this phase
 */
struct run_progress {
	struct penstock_ctx *ctx;
	const struct run_pass *pass;
	const char *phase;
	uint64_t total;
	uint64_t start_ns;
	uint64_t last_ns;
	struct penstock_stats start;
	bool off;
	bool tty;
	bool shown;
};

/** run_progress_begin() - a phase of @pass starts; @total tokens are to be done */
void run_progress_begin(struct run_progress *pr, const struct run_pass *pass, const char *phase, uint64_t total,
			bool quiet);
/** run_progress_tick() - show it, if it is time; for run_pass.tick */
void run_progress_tick(void *pr);
/** run_progress_line() - show any line, if it is time */
void run_progress_line(struct run_progress *pr, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/** run_progress_end() - wipe the line from a terminal */
void run_progress_end(struct run_progress *pr);

#endif
