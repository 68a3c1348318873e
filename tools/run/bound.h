/* SPDX-License-Identifier: MIT */
/*
 * The bound of decode steps: what they would have taken if nothing but the drive
 * and the kernels cost time, and both ran at once wherever they may.
 *
 *   bound = serial + sum over MoE layers of max(compute, latency + missing bytes / rate)
 *
 * serial: outside of the layers' expert work. A layer's reads are not known
 * before its router has chosen, so attention and router can hide nothing of it.
 * compute: shared expert and expert kernels, which may run while reads do.
 * rate and latency: of the drive, at the depth and read size in use. They are
 * measured when the steps are done, under the conditions that the steps had.
 */
#ifndef PENSTOCK_RUN_BOUND_H
#define PENSTOCK_RUN_BOUND_H

#include <stdbool.h>
#include <stdint.h>

/* Layers that are remembered, at most; the bound is of the steps that they make up. */
#define RUN_BOUND_LAYERS	(1u << 19)

/**
 * struct run_bound_layer - what was measured of one layer's expert work
 * @inside_ns: from the choice to the end of the experts
 * @shared_ns: from the start of the reads to the start of the experts: the shared expert
 * @compute_ns: expert kernels
 * @missing: bytes wanted that were not in the cache
 * @nr_experts: distinct experts computed
 */
struct run_bound_layer {
	uint64_t inside_ns;
	uint64_t shared_ns;
	uint64_t compute_ns;
	uint64_t missing;
	uint32_t nr_experts;
};

/**
 * struct run_bound - steps, and what came of them
 * @nr: layers of the steps that ended; those up to @nr_now are of the step in hand
 * @steps: that ended
 * @full: steps came that are not remembered
 * By run_bound_finish(), sums in nanoseconds:
 * @rate: bytes a second, 0 = not known: there is no bound then
 * @wall_ns: what the steps took
 * @bound_ns: what they would have taken at the bound
 * @allowance_ns: one expert's compute in each layer: the last to arrive is computed when no read can hide it
 * @io_ns: the layers' least read times
 * @compute_ns: the layers' compute
 * @io_bound_layers: layers where reading took longer
 */
struct run_bound {
	struct run_bound_layer *layers;
	uint32_t nr;
	uint32_t nr_now;
	uint32_t room;
	uint64_t steps;
	bool full;
	uint64_t step_start_ns;
	uint64_t wall_ns;
	uint64_t rate;
	uint64_t latency_ns;
	uint64_t bound_ns;
	uint64_t allowance_ns;
	uint64_t io_ns;
	uint64_t compute_ns;
	uint64_t io_bound_layers;
};

/** run_bound_step_begin() - a step starts; one that did not end is forgotten */
void run_bound_step_begin(struct run_bound *b, uint64_t now_ns);
void run_bound_layer(struct run_bound *b, const struct run_bound_layer *l);
void run_bound_step_end(struct run_bound *b, uint64_t now_ns);

/** run_bound_finish() - the sums, at a rate (0 = not known) and a latency; may be called again with others */
void run_bound_finish(struct run_bound *b, uint64_t rate, uint64_t latency_ns);
/** run_bound_ratio() - wall / bound; NaN without a rate or a step */
double run_bound_ratio(const struct run_bound *b);
/** run_bound_ratio_allowed() - wall / (1.10 * bound + allowance): at most 1 is good; NaN as above */
double run_bound_ratio_allowed(const struct run_bound *b);
/** run_bound_free() - forget the layers; sums and ratios stay */
void run_bound_free(struct run_bound *b);

#endif
