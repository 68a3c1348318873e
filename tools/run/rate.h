/* SPDX-License-Identifier: MIT */
/* What the drive gives, for the bound: measured as `penstock bench io` measures. */
#ifndef PENSTOCK_RUN_RATE_H
#define PENSTOCK_RUN_RATE_H

#include "run.h"

/**
 * struct run_rate
 * @bytes_per_s: at the depth and read size that the library uses, for a second
 * @latency_ns: of one small read at a time, mean over a second
 */
struct run_rate {
	uint64_t bytes_per_s;
	uint64_t latency_ns;
};

/**
 * run_rate_measure() - read from a file that holds experts, at random places
 * Where the library did not measure the drive (the model is too small for it)
 * nothing is measured either; where it cannot be done, the library's figures stand.
 */
void run_rate_measure(struct run_session *s, struct run_rate *rate);

#endif
