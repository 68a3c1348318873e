/* SPDX-License-Identifier: MIT */
/*
 * Routing traces, `route_trace v1`: a CSV of expert choices. Columns: turn (the
 * sequence), phase (0 prefill, 1 decode), step (the token's position), layer,
 * slot (rank in router order), expert, weight, residency (1 = it was in the
 * cache when asked for), expert_bytes (read for this row; 0 for an expert that
 * was there, or that an earlier row of the same batch brought).
 */
#ifndef PENSTOCK_RUN_TRACE_H
#define PENSTOCK_RUN_TRACE_H

#include <penstock/penstock.h>
#include "../decoder/decoder.h"

struct run_trace_row {
	uint32_t turn;
	uint32_t phase;
	uint32_t step;
	uint32_t layer;
	uint32_t slot;
	int32_t expert;
	float weight;
	uint32_t residency;
	uint64_t bytes;
};

struct run_trace;	/* being written */

/** run_trace_create() - start the file with its header. Return: 0; -errno of open or of the model's calls. */
int run_trace_create(const char *path, struct penstock_model *model, struct run_trace **out,
		     struct penstock_error *err);
void run_trace_write(struct run_trace *t, const struct run_trace_row *row);
/** run_trace_finish() - close; @t may be NULL. Return: 0; -errno of the writes (a full disk), with text. */
int run_trace_finish(struct run_trace *t, struct penstock_error *err);

struct run_routing;	/* a trace that was read, to be followed */

/**
 * run_routing_read() - read a trace and check that it fits the model
 * Return: 0; -ENOENT, -EACCES as open(2); -EBADMSG no such trace, or a line in it
 * that is none, with its number; -EINVAL its layers, experts or k are not the model's; -ENOMEM.
 */
int run_routing_read(const char *path, struct penstock_model *model, struct run_routing **out,
		     struct penstock_error *err);
/** run_routing_covers() - has it choices of sequence @seq up to position @last? Return: 0; -EINVAL with what it has. */
int run_routing_covers(const struct run_routing *r, uint32_t seq, uint32_t last, struct penstock_error *err);
/** run_routing_hook() - the hook that replaces the model's choices by the trace's */
struct decoder_router_hook run_routing_hook(const struct run_routing *r);
void run_routing_free(struct run_routing *r);

#endif
