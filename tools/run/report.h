/* SPDX-License-Identifier: MIT */
/* The result of `penstock run`, written through the emitter. */
#ifndef PENSTOCK_RUN_REPORT_H
#define PENSTOCK_RUN_REPORT_H

#include "../out.h"
#include "bound.h"
#include "compare.h"
#include "run.h"
#include "verify.h"

/**
 * struct run_result - what there is to report
 * @prefill, @decode: counters; tokens is 0 for a phase that was not reached
 * @verified: 1 the same bits, 0 not, -1 not asked for or not reached
 */
struct run_result {
	struct run_phase prefill;
	struct run_phase decode;
	struct run_bound bound;
	struct run_digest seen;
	int verified;
	double verify_s;
	bool interrupted;
	bool moe_only;
	uint32_t nr_seqs;
	uint32_t nr_out;
};

/** run_report() - the path, the ids, the phases; the session is still open. Return: 0; -errno with text. */
int run_report(struct out *o, struct run_session *s, const struct run_pass *p, const struct run_result *res,
	       struct penstock_error *err);
/** run_report_compare() - the comparison, if it was done */
void run_report_compare(struct out *o, const struct run_compare *c, bool moe_only);
/** run_report_result() - what to look at first, and so comes last; @c NULL = not asked for */
void run_report_result(struct out *o, const struct run_result *res, const struct run_compare *c);

#endif
