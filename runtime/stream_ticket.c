// SPDX-License-Identifier: MIT
/*
 * Tickets: who waits for which experts. A ticket gets all its slots at once or
 * stands in its class's line, so that two half-served tickets never wait for each
 * other; the line is served from its head whenever slots become available.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "stream.h"
#include "util.h"

void penstock_ticket_tell(struct penstock_ticket *t)
{
	if (t->queue->waiting)
		pthread_cond_signal(&t->queue->cond);
	if (t->notify_fd >= 0 && (t->status || (t->served && t->nr_order == t->nr))) {
		/* it cannot fail but for a caller's descriptor that is none: the caller's loss */
		(void)eventfd_write(t->notify_fd, 1);
		t->notify_fd = -1;
	}
}

void penstock_ticket_ready(struct penstock_entry *e, int rc, const struct penstock_error *err)
{
	struct penstock_ticket *t = e->ticket;

	if (rc) {
		if (!t->status) {
			t->status = rc;
			if (err)
				t->err = *err;
			else
				penstock_err(&t->err, rc, "layer %u expert %u", t->layer, e->expert);
		}
	} else {
		e->ready = true;
		t->order[t->nr_order++] = (uint32_t)(e - t->entries);
	}
	penstock_ticket_tell(t);
}

/* Can all of the ticket's experts have a slot now? */
static bool can_serve(const struct penstock_ticket *t)
{
	const struct penstock_cache *c = t->cls->cache;
	uint32_t missing = 0, held = 0;

	for (uint32_t i = 0; i < t->nr; i++) {
		uint32_t slot = penstock_cache_find(c, t->class_layer, t->entries[i].expert);

		if (slot == PENSTOCK_CACHE_NONE)
			missing++;
		else if (!penstock_cache_slot(c, slot)->pins)
			held++;		/* counts as available, but will be pinned */
	}
	return penstock_cache_available(c) - held >= missing;
}

static void pin(struct penstock_ticket *t, struct penstock_entry *e, uint32_t slot)
{
	e->slot = slot;
	penstock_cache_pin(t->cls->cache, slot);
	t->queue->pins++;
	t->cls->model->ctx->pins++;
}

static void serve_present(struct penstock_ticket *t, struct penstock_entry *e, uint32_t slot)
{
	struct penstock_class *cls = t->cls;
	struct penstock_stats *st = &cls->model->ctx->stats;
	struct penstock_load *ld = &cls->loads[slot];

	pin(t, e, slot);
	if (penstock_cache_claim(cls->cache, slot))
		st->prefetch_used++;
	if (penstock_cache_slot(cls->cache, slot)->state == PENSTOCK_SLOT_READY) {
		st->experts_hit++;
		t->nr_hits++;
		penstock_ticket_ready(e, 0, NULL);
		return;
	}
	st->experts_joined++;
	penstock_load_promote(ld);
	e->next_waiter = ld->waiters;
	ld->waiters = e;
}

static void serve_missing(struct penstock_ticket *t, struct penstock_entry *e)
{
	struct penstock_class *cls = t->cls;
	uint32_t slot = penstock_cache_take(cls->cache, t->class_layer, e->expert, false);
	struct penstock_error err;
	int rc;

	pin(t, e, slot);
	cls->model->ctx->stats.bytes_wanted += cls->expert_bytes;
	rc = penstock_load_start(cls, slot, t->layer, e->expert, false, &err);
	if (rc) {
		(void)penstock_cache_loaded(cls->cache, slot, false);
		penstock_ticket_ready(e, rc, &err);
		return;
	}
	e->next_waiter = NULL;
	cls->loads[slot].waiters = e;
}

/* Those that are there are pinned first, so that making room for the others does not evict them. */
static void serve(struct penstock_ticket *t)
{
	struct penstock_class *cls = t->cls;
	struct penstock_ctx *ctx = cls->model->ctx;

	t->served = true;
	penstock_cache_step(cls->cache, t->class_layer);
	for (uint32_t i = 0; i < t->nr; i++) {
		struct penstock_entry *e = &t->entries[i];
		uint32_t slot = penstock_cache_find(cls->cache, t->class_layer, e->expert);

		penstock_cache_use(cls->cache, t->class_layer, e->expert);
		e->slot = PENSTOCK_CACHE_NONE;
		if (slot != PENSTOCK_CACHE_NONE)
			serve_present(t, e, slot);
	}
	for (uint32_t i = 0; i < t->nr; i++)
		if (t->entries[i].slot == PENSTOCK_CACHE_NONE)
			serve_missing(t, &t->entries[i]);
	ctx->stats.fetches++;
	ctx->stats.experts_wanted += t->nr;
	ctx->stats.fetches_all_hit += t->nr_hits == t->nr;
	penstock_load_drop_guesses(t->model, t->layer, false);
	if (t->nr_hits < t->nr)
		penstock_progress_kick(ctx);
}

void penstock_ticket_serve_line(struct penstock_class *cls)
{
	struct penstock_ticket *t;

	while ((t = cls->line)) {
		bool fits = t->nr <= penstock_cache_slots(cls->cache);

		if (fits && !can_serve(t)) {
			/* a guess gives way to a demand; forgetting it has looked at the line already */
			if (!penstock_load_drop_one(cls))
				break;
			continue;
		}
		cls->line = t->next_in_line;
		if (!cls->line)
			cls->line_end = &cls->line;
		if (fits)
			serve(t);
		else	/* the cache shrank while it stood in line */
			t->status = penstock_err(&t->err, -E2BIG,
						 "layer %u, %u distinct experts, the cache now holds %u",
						 t->layer, t->nr, penstock_cache_slots(cls->cache));
		penstock_ticket_tell(t);
	}
}

static struct penstock_ticket *ticket_alloc(struct penstock_queue *q, uint32_t room)
{
	struct penstock_ticket *t = q->spare;
	size_t len;

	q->spare = NULL;
	if (t && t->room >= room)
		return t;
	free(t);
	room = room < 16 ? 16 : room;
	len = sizeof(*t) + room * (sizeof(struct penstock_entry) + sizeof(uint32_t));
	t = calloc(1, len);
	if (!t)
		return NULL;
	t->room = room;
	t->order = (uint32_t *)(t->entries + room);
	return t;
}

/* Distinct ids in order of first appearance; the mark of an expert tells whether it was seen. */
static int take_ids(struct penstock_ticket *t, const int32_t *ids, size_t nr, uint32_t nr_experts)
{
	struct penstock_ctx *ctx = t->cls->model->ctx;
	uint64_t mark = ++ctx->seq;

	t->nr = 0;
	for (size_t i = 0; i < nr; i++) {
		struct penstock_entry *e = &t->entries[t->nr];

		if (ids[i] < 0 || (uint32_t)ids[i] >= nr_experts)
			return penstock_err(&t->queue->err, -EINVAL,
					    "fetch: layer %u has experts 0 to %u, entry %zu asks for %d%s", t->layer,
					    nr_experts - 1, i, ids[i],
					    ids[i] < 0 ? " (a NaN in the router gives this)" : "");
		if (penstock_cache_mark(t->cls->cache, t->class_layer, (uint32_t)ids[i], mark) == mark)
			continue;
		e->ticket = t;
		e->expert = (uint32_t)ids[i];
		e->ready = false;
		e->next_waiter = NULL;
		t->nr++;
	}
	return 0;
}

static void stand_in_line(struct penstock_ticket *t)
{
	t->next_in_line = NULL;
	*t->cls->line_end = t;
	t->cls->line_end = &t->next_in_line;
}

static int fetch_locked(struct penstock_ticket *t, const int32_t *ids, size_t nr, uint32_t nr_experts)
{
	struct penstock_queue *q = t->queue;
	struct penstock_model *m = t->model;
	int rc;

	if (m->status) {
		q->err = m->error;
		return m->status;
	}
	rc = take_ids(t, ids, nr, nr_experts);
	if (rc)
		return rc;
	if (t->nr > penstock_cache_slots(t->cls->cache))
		return penstock_err(&q->err, -E2BIG,
				    "fetch: layer %u, %u distinct experts, the cache of %llu bytes holds %u",
				    t->layer, t->nr, (unsigned long long)m->cache_bytes,
				    penstock_cache_slots(t->cls->cache));
	stand_in_line(t);
	penstock_ticket_serve_line(t->cls);
	return 0;
}

int penstock_fetch(struct penstock_queue *q, struct penstock_model *model, uint32_t layer, const int32_t *ids,
		   size_t nr, struct penstock_ticket **out)
{
	struct penstock_class *cls = penstock_model_class(model, layer);
	struct penstock_ticket *t;
	uint32_t nr_experts;
	bool submit;
	int rc;

	rc = penstock_ctx_check(q->ctx, &q->err);
	if (rc)
		return rc;
	penstock_err_clear(&q->err);
	if (!cls)
		return penstock_err(&q->err, -EINVAL, "fetch: layer %u of %s has no experts", layer,
				    model->index->path);
	if (!nr)
		return penstock_err(&q->err, -EINVAL, "fetch: layer %u, no expert asked for", layer);
	nr_experts = model->index->layers[layer].info.nr_experts;
	t = ticket_alloc(q, (uint32_t)penstock_min_u64(nr, nr_experts) + 1);
	if (!t)
		return penstock_err(&q->err, -ENOMEM, "fetch: a ticket of %zu experts", nr);
	t->queue = q;
	t->model = model;
	t->cls = cls;
	t->layer = layer;
	t->class_layer = model->class_layer[layer];
	t->nr_hits = t->nr_order = t->nr_handed = 0;
	t->served = t->cancelled = false;
	t->notify_fd = -1;
	t->status = 0;
	pthread_mutex_lock(&q->ctx->lock);
	rc = fetch_locked(t, ids, nr, nr_experts);
	submit = !q->ctx->has_thread && q->ctx->demand.head;
	pthread_mutex_unlock(&q->ctx->lock);
	/* so that the drive works while the caller does something else */
	if (submit)
		penstock_progress_once(q->ctx, 0);
	if (rc) {
		q->spare = t;
		return rc;
	}
	*out = t;
	return 0;
}

/* Leaves the line or drops the pins; reads that were submitted run out. */
static void leave(struct penstock_ticket *t)
{
	struct penstock_class *cls = t->cls;
	struct penstock_ticket **at;

	if (!t->served) {
		for (at = &cls->line; *at && *at != t; at = &(*at)->next_in_line)
			;
		if (*at) {
			*at = t->next_in_line;
			if (cls->line_end == &t->next_in_line)
				cls->line_end = at;
		}
		/* it may have stood in the way of smaller ones */
		penstock_ticket_serve_line(cls);
		return;
	}
	for (uint32_t i = 0; i < t->nr; i++) {
		struct penstock_entry *e = &t->entries[i];
		struct penstock_load *ld = &cls->loads[e->slot];
		struct penstock_entry **w;
		bool waited = false;

		for (w = &ld->waiters; !e->ready && *w; w = &(*w)->next_waiter) {
			if (*w == e) {
				*w = e->next_waiter;
				waited = true;
				break;
			}
		}
		if (penstock_cache_unpin(cls->cache, e->slot))
			cls->model->ctx->garbage = true;
		t->queue->pins--;
		cls->model->ctx->pins--;
		if (waited && !ld->waiters)
			penstock_load_forget(ld);
	}
	t->nr = 0;
	penstock_ticket_serve_line(cls);
	if (cls->model->ctx->garbage)
		penstock_progress_kick(cls->model->ctx);
}

void penstock_release(struct penstock_ticket *t)
{
	struct penstock_queue *q;

	if (!t)
		return;
	q = t->queue;
	if (penstock_ctx_check(q->ctx, NULL))
		return;
	pthread_mutex_lock(&q->ctx->lock);
	if (!t->cancelled)
		leave(t);
	pthread_mutex_unlock(&q->ctx->lock);
	if (q->spare)
		free(t);
	else
		q->spare = t;
}

void penstock_cancel(struct penstock_ticket *t)
{
	struct penstock_ctx *ctx = t->queue->ctx;

	if (penstock_ctx_check(ctx, NULL))
		return;
	pthread_mutex_lock(&ctx->lock);
	if (!t->cancelled && (!t->served || t->nr_order < t->nr)) {
		leave(t);
		t->cancelled = true;
		t->status = penstock_err(&t->err, -ECANCELED, "layer %u: the request was cancelled", t->layer);
		penstock_ticket_tell(t);
	}
	pthread_mutex_unlock(&ctx->lock);
}
