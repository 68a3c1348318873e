// SPDX-License-Identifier: MIT
/* The bound of decode steps: pure arithmetic on measured times. */
#include <math.h>

#include "bound.h"

#define BOUND_FACTOR 1.10

void run_bound_step_begin(struct run_bound *b, uint64_t now_ns)
{
	b->step_start_ns = now_ns;
	b->step_inside_ns = 0;
	b->step_least_ns = 0;
}

void run_bound_layer(struct run_bound *b, const struct run_bound_layer *l)
{
	uint64_t compute = l->shared_ns + l->compute_ns, io = 0;

	/* A layer without misses waits for nothing, not even for the latency. */
	if (l->missing && b->rate)
		io = b->latency_ns + (uint64_t)((double)l->missing / (double)b->rate * 1e9);
	b->step_inside_ns += l->inside_ns;
	b->step_least_ns += io > compute ? io : compute;
	b->allowance_ns += l->nr_experts ? l->compute_ns / l->nr_experts : 0;
	b->io_ns += io;
	b->compute_ns += compute;
	b->io_bound_layers += io > compute;
	b->layers++;
}

void run_bound_step_end(struct run_bound *b, uint64_t now_ns)
{
	uint64_t wall = now_ns - b->step_start_ns;

	b->wall_ns += wall;
	b->bound_ns += wall - (b->step_inside_ns < wall ? b->step_inside_ns : wall) + b->step_least_ns;
}

double run_bound_ratio(const struct run_bound *b)
{
	if (!b->rate || !b->bound_ns)
		return NAN;
	return (double)b->wall_ns / (double)b->bound_ns;
}

double run_bound_ratio_allowed(const struct run_bound *b)
{
	if (!b->rate || !b->bound_ns)
		return NAN;
	return (double)b->wall_ns / (BOUND_FACTOR * (double)b->bound_ns + (double)b->allowance_ns);
}
