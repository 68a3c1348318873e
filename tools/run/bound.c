// SPDX-License-Identifier: MIT
/* The bound of decode steps: arithmetic on measured times. */
#include <math.h>
#include <stdlib.h>

#include "bound.h"

#define BOUND_FACTOR 1.10

void run_bound_step_begin(struct run_bound *b, uint64_t now_ns)
{
	b->step_start_ns = now_ns;
	b->nr_now = b->nr;
}

void run_bound_layer(struct run_bound *b, const struct run_bound_layer *l)
{
	struct run_bound_layer *more;

	if (b->full)
		return;
	if (b->nr_now == b->room) {
		uint32_t room = b->room ? b->room * 2 : 1024;

		more = room <= RUN_BOUND_LAYERS ? realloc(b->layers, room * sizeof(*more)) : NULL;
		if (!more) {
			b->full = true;
			return;
		}
		b->layers = more;
		b->room = room;
	}
	b->layers[b->nr_now++] = *l;
}

void run_bound_step_end(struct run_bound *b, uint64_t now_ns)
{
	/* A step with a part missing says nothing. */
	if (b->full)
		return;
	b->nr = b->nr_now;
	b->wall_ns += now_ns - b->step_start_ns;
	b->steps++;
}

static void add_layer(struct run_bound *b, const struct run_bound_layer *l)
{
	uint64_t compute = l->shared_ns + l->compute_ns, io = 0;

	/* A layer without misses waits for nothing, not even for the latency. */
	if (l->missing && b->rate)
		io = b->latency_ns + (uint64_t)((double)l->missing / (double)b->rate * 1e9);
	b->bound_ns += io > compute ? io : compute;
	b->allowance_ns += l->nr_experts ? l->compute_ns / l->nr_experts : 0;
	b->io_ns += io;
	b->compute_ns += compute;
	b->io_bound_layers += io > compute;
}

void run_bound_finish(struct run_bound *b, uint64_t rate, uint64_t latency_ns)
{
	uint64_t inside = 0;
	uint32_t i;

	b->rate = rate;
	b->latency_ns = latency_ns;
	b->bound_ns = b->allowance_ns = b->io_ns = b->compute_ns = b->io_bound_layers = 0;
	for (i = 0; i < b->nr; i++) {
		add_layer(b, &b->layers[i]);
		inside += b->layers[i].inside_ns;
	}
	b->bound_ns += b->wall_ns > inside ? b->wall_ns - inside : 0;
}

double run_bound_ratio(const struct run_bound *b)
{
	if (!b->rate || !b->steps)
		return NAN;
	return (double)b->wall_ns / (double)b->bound_ns;
}

double run_bound_ratio_allowed(const struct run_bound *b)
{
	if (!b->rate || !b->steps)
		return NAN;
	return (double)b->wall_ns / (BOUND_FACTOR * (double)b->bound_ns + (double)b->allowance_ns);
}

void run_bound_free(struct run_bound *b)
{
	free(b->layers);
	b->layers = NULL;
	b->nr = b->nr_now = b->room = 0;
}
