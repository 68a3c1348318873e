// SPDX-License-Identifier: MIT
/*
 * Loads: one expert's way from the drive into its slot. A load is queued with its
 * reads planned, submitted read by read, and complete when the last one is final;
 * then its waiters are told and its pin on the slot goes. The lock is held here.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"
#include "stream.h"
#include "util.h"

/* How often the files are looked at for a change while experts arrive. */
#define CHECK_EVERY_NS	50000000ull

static struct penstock_load_queue *queue_of(struct penstock_load *ld)
{
	struct penstock_ctx *ctx = ld->cls->model->ctx;

	return ld->guess ? &ctx->guess : &ctx->demand;
}

static void enqueue(struct penstock_load *ld)
{
	struct penstock_load_queue *q = queue_of(ld);

	ld->next = NULL;
	ld->prev = q->tail;
	if (q->tail)
		q->tail->next = ld;
	else
		q->head = ld;
	q->tail = ld;
	ld->queued = true;
}

static void dequeue(struct penstock_load *ld)
{
	struct penstock_load_queue *q = queue_of(ld);

	if (ld->prev)
		ld->prev->next = ld->next;
	else
		q->head = ld->next;
	if (ld->next)
		ld->next->prev = ld->prev;
	else
		q->tail = ld->prev;
	ld->queued = false;
}

int penstock_load_start(struct penstock_class *cls, uint32_t slot, uint32_t layer, uint32_t expert, bool guess,
			struct penstock_error *err)
{
	struct penstock_load *ld = &cls->loads[slot];
	struct penstock_model *m = cls->model;
	struct penstock_extent ext[PENSTOCK_MAX_PARTS];
	uint64_t bytes;
	int rc;

	rc = penstock_index_expert(m->index, layer, expert, ext);
	if (!rc)
		rc = penstock_plan_expert(ext, cls->nr_parts, m->align, ld->ranges, &ld->nr_ranges, ld->part_off,
					  &bytes);
	if (!rc && bytes > cls->slot_bytes)
		rc = -EINVAL;
	if (rc)
		return penstock_err(err, rc, "plan layer %u expert %u", layer, expert);
	ld->cls = cls;
	ld->slot = slot;
	ld->layer = layer;
	ld->expert = expert;
	ld->next_range = 0;
	ld->next_read = 0;
	ld->outstanding = 0;
	ld->outstanding_bytes = 0;
	ld->status = 0;
	ld->guess = guess;
	ld->dropped = false;
	ld->waiters = NULL;
	enqueue(ld);
	return 0;
}

void penstock_load_promote(struct penstock_load *ld)
{
	struct penstock_ctx *ctx = ld->cls->model->ctx;
	bool more = ld->queued || ld->dropped;

	if (ld->queued && ld->guess)
		dequeue(ld);
	if (ld->guess && ld->outstanding) {
		/* its reads in flight are demands from here on */
		ctx->guess_in_flight -= ld->outstanding;
		ctx->guess_bytes_in_flight -= ld->outstanding_bytes;
		if (!ctx->demand_in_flight)
			ctx->busy_since_ns = penstock_now_ns();
		ctx->demand_in_flight += ld->outstanding;
	}
	ld->guess = false;
	ld->dropped = false;
	if (more && !ld->queued && !ld->status)
		enqueue(ld);
}

static void fail_text(struct penstock_load *ld, const struct penstock_read *r)
{
	struct penstock_model *m = ld->cls->model;
	const struct penstock_index *ix = m->index;
	uint32_t file = r->file - m->file_base;
	struct penstock_extent ext[PENSTOCK_MAX_PARTS];
	uint64_t at = r->off + r->done;
	const char *name = "?";

	if (!penstock_index_expert(ix, ld->layer, ld->expert, ext)) {
		for (uint32_t i = 0; i < ld->cls->nr_parts; i++) {
			uint32_t t = penstock_index_part_tensor(ix, ld->layer, ld->expert, i);

			if (ext[i].file != file || t == PENSTOCK_NO_TENSOR)
				continue;
			if (name[0] == '?' || (at >= ext[i].off && at < ext[i].off + ext[i].len))
				name = ix->tensors[t].name;
		}
	}
	ld->error = malloc(sizeof(*ld->error));
	penstock_err(ld->error, r->status, "read %s off %llu len %u (%u arrived, %u tries) for %s, layer %u expert %u",
		     ix->store.files[file].path, (unsigned long long)r->off, r->len, r->done, r->tries + 1, name,
		     ld->layer, ld->expert);
}

/* Bytes of a file that changed since its index was read mean nothing: the model is done for. */
static void check_files(struct penstock_model *m, bool now)
{
	uint64_t t = penstock_now_ns();

	if (m->status || (!now && t - m->checked_ns < CHECK_EVERY_NS))
		return;
	m->checked_ns = t;
	m->status = penstock_store_check(&m->index->store, &m->error);
}

static void finish(struct penstock_load *ld)
{
	struct penstock_class *cls = ld->cls;
	struct penstock_model *m = cls->model;
	struct penstock_entry *e, *next;
	bool good;

	check_files(m, ld->status != 0);
	if (m->status && !ld->dropped) {
		ld->status = m->status;
		free(ld->error);
		ld->error = malloc(sizeof(*ld->error));
		if (ld->error)
			*ld->error = m->error;
	}
	good = !ld->status && !ld->dropped;
	if (good && ld->guess)
		m->ctx->stats.prefetched++;
	for (e = ld->waiters; e; e = next) {
		next = e->next_waiter;
		e->next_waiter = NULL;
		penstock_ticket_ready(e, ld->status, ld->error);
	}
	ld->waiters = NULL;
	free(ld->error);
	ld->error = NULL;
	if (penstock_cache_loaded(cls->cache, ld->slot, good))
		m->ctx->garbage = true;
	penstock_ticket_serve_line(cls);
}

void penstock_load_forget(struct penstock_load *ld)
{
	/* all submitted: it costs nothing more, and the next token may want it */
	if (!ld->queued)
		return;
	ld->dropped = true;
	dequeue(ld);
	if (!ld->outstanding)
		finish(ld);
}

/* May another read of a guess be submitted? A demand that comes now would wait for what is in flight. */
static bool guess_allowed(const struct penstock_ctx *ctx)
{
	uint64_t most = ctx->drive_bytes_per_s / (1000000000u / PENSTOCK_GUESS_NS), next;

	if (ctx->demand.head || ctx->demand_in_flight)
		return false;
	next = penstock_min_u64(penstock_model_split(ctx->guess.head->cls->model),
				penstock_max_u64(ctx->split, ctx->guess.head->cls->slot_bytes));
	return !ctx->guess_in_flight || ctx->guess_bytes_in_flight + next <= most;
}

/* By the model's route; each record has its place in the staging memory. */
static void aim(struct penstock_ctx *ctx, const struct penstock_class *cls, uint32_t slot, struct penstock_read *r)
{
	const struct penstock_model *m = cls->model;
	char *place = NULL;

	if (m->route == PENSTOCK_ROUTE_BOUNCE) {
		place = (char *)ctx->stage.mem.base + (uint64_t)(r - ctx->reads) * penstock_ctx_place(ctx);
		r->buf = ctx->stage.buf;
	}
	penstock_route_aim(r, m->route, penstock_arena_mem(&cls->arena, slot), m->targets[r->file].info.id, place);
}

bool penstock_load_next_read(struct penstock_ctx *ctx, struct penstock_read *r)
{
	struct penstock_load *ld = ctx->demand.head;
	const struct penstock_range *g;
	struct penstock_class *cls;
	uint32_t split;

	if (!ld && ctx->guess.head && guess_allowed(ctx))
		ld = ctx->guess.head;
	if (!ld)
		return false;
	cls = ld->cls;
	split = penstock_model_split(cls->model);
	g = &ld->ranges[ld->next_range];
	penstock_plan_read(g, ld->next_read, split, penstock_arena_slot(&cls->arena, ld->slot), r);
	r->buf = penstock_arena_buf(&cls->arena, ld->slot);
	if (cls->model->route != PENSTOCK_ROUTE_HOST)
		aim(ctx, cls, ld->slot, r);
	r->file += cls->model->file_base;
	r->cookie = ld;
	ld->outstanding++;
	ld->outstanding_bytes += r->len;
	if (++ld->next_read == penstock_plan_nr_reads(g->len, split)) {
		ld->next_read = 0;
		if (++ld->next_range == ld->nr_ranges)
			dequeue(ld);
	}
	if (ld->guess) {
		ctx->guess_in_flight++;
		ctx->guess_bytes_in_flight += r->len;
	} else if (!ctx->demand_in_flight++) {
		ctx->busy_since_ns = penstock_now_ns();
	}
	ctx->stats.in_flight_bytes += r->len;
	cls->model->in_flight++;
	return true;
}

void penstock_load_read_done(struct penstock_ctx *ctx, struct penstock_read *r)
{
	struct penstock_load *ld = r->cookie;
	struct penstock_model *m = ld->cls->model;

	ctx->stats.in_flight_bytes -= r->len;
	ctx->stats.reads++;
	ctx->stats.bytes_read += r->done;
	if (m->index->store.files[r->file - m->file_base].mode != PENSTOCK_FILE_DIRECT)
		ctx->stats.bytes_buffered += r->done;
	if (ld->guess) {
		ctx->guess_in_flight--;
		ctx->guess_bytes_in_flight -= r->len;
		ctx->stats.bytes_prefetch += r->done;
	} else if (!--ctx->demand_in_flight) {
		ctx->stats.io_busy_ns += penstock_now_ns() - ctx->busy_since_ns;
	}
	if (!--m->in_flight)
		pthread_cond_broadcast(&ctx->call_done);
	ld->outstanding--;
	ld->outstanding_bytes -= r->len;
	if (r->status && !ld->status) {
		ld->status = r->status;
		fail_text(ld, r);
		if (ld->queued)
			dequeue(ld);
	}
	if (!ld->outstanding && !ld->queued)
		finish(ld);
}

void penstock_load_drop_guesses(struct penstock_model *model, uint32_t layer, bool started)
{
	struct penstock_load *ld = model->ctx->guess.head;

	while (ld) {
		if (ld->cls->model != model || ld->layer != layer || ld->waiters || (ld->outstanding && !started)) {
			ld = ld->next;
			continue;
		}
		/* which may serve tickets, and so drop others: start again */
		penstock_load_forget(ld);
		ld = model->ctx->guess.head;
	}
}

bool penstock_load_drop_one(struct penstock_class *cls)
{
	struct penstock_load *ld = cls->model->ctx->guess.head;

	while (ld && (ld->cls != cls || ld->waiters || ld->outstanding))
		ld = ld->next;
	if (ld)
		penstock_load_forget(ld);
	return ld;
}
