// SPDX-License-Identifier: MIT
/*
 * Experts through the library. The reads start as soon as the router has chosen
 * (begin), so that the shared expert is computed meanwhile; the routed experts
 * follow as they arrive (forward). Around it: the times that the bound needs,
 * the digests that verification needs, the rows of a trace.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bound.h"
#include "source.h"
#include "verify.h"

/* Where an expert was when it was last used: if it is there still, nothing was read for it. */
struct place {
	const void *ptr;
	uint64_t generation;
};

struct layer {
	uint64_t expert_bytes;
	uint32_t nr_experts;
	struct place *places; /* nr_experts, with a trace only */
};

struct run_source {
	struct run_pass *p;
	struct run_trace *trace;
	struct layer *layers;
	struct penstock_ticket *ticket;
	struct penstock_stats before;
	uint64_t begin_ns;
	uint64_t begun_ns;
	uint8_t *state; /* of each expert in the layer in hand */
};

enum { EXPERT_ABSENT = 0, EXPERT_HIT, EXPERT_READ, EXPERT_COUNTED };

int run_source_library_create(struct run_pass *p, struct run_trace *trace, struct run_source **out,
			      struct penstock_error *err)
{
	struct penstock_layer_info li = { .size = sizeof(li) };
	struct run_source *s = calloc(1, sizeof(*s));
	uint32_t i, most = 1;
	int rc = 0;

	if (!s)
		return decoder_fail(err, -ENOMEM, "expert source");
	s->p = p;
	s->trace = trace;
	s->layers = calloc(p->s->info.nr_layers + 1, sizeof(*s->layers));
	for (i = 0; s->layers && !rc && i < p->s->info.nr_layers; i++) {
		rc = penstock_layer_info(p->s->model, i, &li);
		if (rc || li.kind != PENSTOCK_LAYER_MOE)
			continue;
		s->layers[i].expert_bytes = li.expert_bytes;
		s->layers[i].nr_experts = li.nr_experts;
		most = li.nr_experts > most ? li.nr_experts : most;
		if (trace) {
			s->layers[i].places = calloc(li.nr_experts, sizeof(*s->layers[i].places));
			rc = s->layers[i].places ? 0 : -ENOMEM;
		}
	}
	s->state = malloc(most);
	if (!s->layers || !s->state)
		rc = -ENOMEM;
	if (rc) {
		run_source_library_destroy(s);
		return decoder_fail(err, rc, "expert source of %s", p->s->info.path);
	}
	*out = s;
	return 0;
}

void run_source_library_destroy(struct run_source *s)
{
	uint32_t i;

	if (!s)
		return;
	penstock_release(s->ticket);
	for (i = 0; s->layers && i < s->p->s->info.nr_layers; i++)
		free(s->layers[i].places);
	free(s->layers);
	free(s->state);
	free(s);
}

static int begin(void *arg, const struct penstock_moe *moe, struct penstock_error *err)
{
	struct run_source *s = arg;
	struct run_session *ses = s->p->s;
	int rc;

	if (run_interrupted())
		return decoder_fail(err, -ECANCELED, "interrupted");
	penstock_release(s->ticket);
	s->ticket = NULL;
	s->begin_ns = run_now_ns();
	s->before.size = sizeof(s->before);
	rc = penstock_stats(ses->ctx, &s->before);
	if (rc)
		return decoder_fail(err, rc, "statistics of the context");
	rc = penstock_fetch(ses->q, ses->model, moe->layer, moe->ids, moe->nr_tokens * moe->top_k, &s->ticket);
	if (rc) {
		s->ticket = NULL;
		/* More than the cache holds at once: forward goes in waves, and fetches for itself. */
		if (rc != -E2BIG)
			return run_fail_queue(err, rc, ses->q);
	}
	/* here, since after the layer nothing is in flight any more */
	if (s->p->tick)
		s->p->tick(s->p->tick_arg);
	s->begun_ns = run_now_ns();
	return 0;
}

/* Which experts of the layer in hand were there, and which were read. Without a ticket all count as read. */
static void find_places(struct run_source *s, const struct penstock_moe *moe)
{
	struct layer *l = &s->layers[moe->layer];
	struct penstock_slot slot;
	size_t i, nr = s->ticket ? penstock_ticket_count(s->ticket) : 0;
	struct place *pl;

	memset(s->state, s->ticket ? EXPERT_ABSENT : EXPERT_READ, l->nr_experts);
	for (i = 0; i < nr; i++) {
		if (penstock_ticket_slot(s->ticket, i, &slot) || (uint32_t)slot.id >= l->nr_experts)
			continue;
		pl = &l->places[slot.id];
		s->state[slot.id] =
			pl->ptr == slot.ptr[0] && pl->generation == slot.generation ? EXPERT_HIT : EXPERT_READ;
		*pl = (struct place){ slot.ptr[0], slot.generation };
	}
}

static void write_trace(struct run_source *s, const struct penstock_moe *moe)
{
	const struct layer *l = &s->layers[moe->layer];
	const struct decoder_row *row;
	uint32_t j;
	size_t i;

	find_places(s, moe);
	for (i = 0; i < moe->nr_tokens && i < s->p->nr_rows; i++) {
		row = &s->p->rows[i];
		for (j = 0; j < moe->top_k; j++) {
			int32_t id = moe->ids[i * moe->top_k + j];
			uint8_t *state = &s->state[id];

			run_trace_write(s->trace, &(struct run_trace_row){
							  .turn = row->seq,
							  .phase = s->p->decode,
							  .step = row->pos,
							  .layer = moe->layer,
							  .slot = j,
							  .expert = id,
							  .weight = moe->weights[i * moe->top_k + j],
							  .residency = *state == EXPERT_HIT,
							  .bytes = *state == EXPERT_READ ? l->expert_bytes : 0,
						  });
			/* The batch reads it once: its first row is charged. */
			if (*state == EXPERT_READ)
				*state = EXPERT_COUNTED;
		}
	}
}

static size_t distinct(const struct run_source *s, const struct penstock_moe *moe)
{
	size_t i, n = 0, nr = moe->nr_tokens * moe->top_k;
	uint8_t *seen = s->state;

	if (s->ticket)
		return penstock_ticket_count(s->ticket);
	memset(seen, 0, s->layers[moe->layer].nr_experts);
	for (i = 0; i < nr; i++) {
		n += !seen[moe->ids[i]];
		seen[moe->ids[i]] = 1;
	}
	return n;
}

static int forward(void *arg, const struct penstock_moe *moe, struct penstock_error *err)
{
	struct run_source *s = arg;
	struct run_session *ses = s->p->s;
	struct penstock_stats after = { .size = sizeof(after) };
	struct penstock_moe with = *moe;
	uint64_t start = run_now_ns();
	int rc;

	with.ticket = s->ticket;
	rc = penstock_moe_forward(ses->q, ses->model, ses->pool, &with);
	if (rc)
		return run_fail_queue(err, rc, ses->q);
	if (s->p->bound && s->p->decode) {
		rc = penstock_stats(ses->ctx, &after);
		if (rc)
			return decoder_fail(err, rc, "statistics of the context");
		run_bound_layer(s->p->bound, &(struct run_bound_layer){
						     .inside_ns = run_now_ns() - s->begin_ns,
						     .shared_ns = start - s->begun_ns,
						     .compute_ns = after.compute_ns - s->before.compute_ns,
						     .missing = after.bytes_wanted - s->before.bytes_wanted,
						     .nr_experts = distinct(s, moe),
					     });
	}
	if (s->trace)
		write_trace(s, moe);
	penstock_release(s->ticket);
	s->ticket = NULL;
	if (s->p->digest) {
		rc = run_digest_layer(s->p->digest, s->p->steps, moe, ses->info.hidden, err);
		if (rc)
			return rc;
	}
	return 0;
}

struct decoder_experts run_source_library_experts(struct run_source *s)
{
	return (struct decoder_experts){ .begin = begin, .forward = forward, .arg = s };
}
