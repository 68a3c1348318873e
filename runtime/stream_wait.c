// SPDX-License-Identifier: MIT
/* Waiting on tickets, and handing out their experts in order of arrival. */
#include <errno.h>
#include <time.h>

#include "stream.h"
#include "util.h"

static struct timespec deadline_of(uint64_t at_ns)
{
	struct timespec ts = { .tv_sec = (time_t)(at_ns / 1000000000u), .tv_nsec = (long)(at_ns % 1000000000u) };

	return ts;
}

/*
 * In line, while nothing is under way and all pins are this queue's own, or, with caller
 * progress, any queue's: there is one thread, and it would wait for itself.
 */
static bool waits_for_itself(const struct penstock_ticket *t)
{
	const struct penstock_ctx *ctx = t->queue->ctx;

	return !t->served && !t->cancelled && (ctx->pins == t->queue->pins || !ctx->has_thread) &&
	       !ctx->demand.head && !ctx->demand_in_flight && !ctx->guess.head && !ctx->guess_in_flight;
}

/*
 * Sleep until the ticket's state changes or the time is up. The lock is held, and
 * dropped meanwhile. With caller progress this is where the I/O happens.
 * Return: 0; -ETIMEDOUT.
 */
static int sleep_once(struct penstock_ticket *t, uint64_t end_ns)
{
	struct penstock_queue *q = t->queue;
	struct penstock_ctx *ctx = q->ctx;
	uint64_t now = penstock_now_ns(), left = end_ns - now;
	struct timespec ts;
	int rc = 0;

	if (end_ns != UINT64_MAX && end_ns <= now)
		left = 0;
	if (!ctx->has_thread) {
		pthread_mutex_unlock(&ctx->lock);
		penstock_progress_once(ctx, end_ns == UINT64_MAX ? UINT64_MAX : left);
		pthread_mutex_lock(&ctx->lock);
		return left ? 0 : -ETIMEDOUT;
	}
	if (!left)
		return -ETIMEDOUT;
	q->waiting = true;
	if (end_ns == UINT64_MAX) {
		pthread_cond_wait(&q->cond, &ctx->lock);
	} else {
		ts = deadline_of(end_ns);
		rc = -pthread_cond_timedwait(&q->cond, &ctx->lock, &ts);
	}
	q->waiting = false;
	return rc == -ETIMEDOUT ? rc : 0;
}

/* Wait until @enough entries are there, or the ticket failed. The lock is held. */
static int wait_for(struct penstock_ticket *t, uint32_t enough, uint64_t timeout_ns)
{
	uint64_t start, end;
	int rc = 0;

	if (t->served && !t->status && t->nr_order >= enough)
		return 0;
	start = penstock_now_ns();
	end = timeout_ns > UINT64_MAX - start ? UINT64_MAX : start + timeout_ns;
	while (!t->status && (!t->served || t->nr_order < enough) && !rc) {
		if (waits_for_itself(t)) {
			rc = penstock_err(&t->queue->err, -EBUSY,
					  "layer %u needs %u slots, all that could serve are pinned by tickets of this queue%s",
					  t->layer, t->nr, t->queue->ctx->has_thread ? "" : " or of its thread");
			break;
		}
		rc = sleep_once(t, end);
		/* the last look may have completed it */
		if (rc == -ETIMEDOUT && t->served && t->nr_order >= enough)
			rc = 0;
	}
	t->queue->ctx->stats.wait_ns += penstock_now_ns() - start;
	if (t->status) {
		t->queue->err = t->err;
		return t->status;
	}
	if (rc == -ETIMEDOUT)
		penstock_err(&t->queue->err, rc, "layer %u: %u of %u experts are there", t->layer, t->nr_order, t->nr);
	return rc;
}

int penstock_wait(struct penstock_ticket *t, uint64_t timeout_ns)
{
	struct penstock_ctx *ctx = t->queue->ctx;
	int rc;

	rc = penstock_ctx_check(ctx, &t->queue->err);
	if (rc)
		return rc;
	pthread_mutex_lock(&ctx->lock);
	rc = wait_for(t, t->nr, timeout_ns);
	pthread_mutex_unlock(&ctx->lock);
	return rc;
}

int penstock_poll(struct penstock_ticket *t)
{
	int rc = penstock_wait(t, 0);

	return rc == -ETIMEDOUT ? -EAGAIN : rc;
}

int penstock_notify(struct penstock_ticket *t, int fd)
{
	struct penstock_ctx *ctx = t->queue->ctx;
	int rc;

	rc = penstock_ctx_check(ctx, &t->queue->err);
	if (rc)
		return rc;
	if (!ctx->has_thread)
		return penstock_err(&t->queue->err, -EINVAL,
				    "notify: the caller drives this context, nothing moves by itself");
	pthread_mutex_lock(&ctx->lock);
	t->notify_fd = fd;
	penstock_ticket_tell(t);
	pthread_mutex_unlock(&ctx->lock);
	return 0;
}

int penstock_next(struct penstock_ticket *t, uint64_t timeout_ns, size_t *index)
{
	struct penstock_ctx *ctx = t->queue->ctx;
	bool submit;
	int rc;

	rc = penstock_ctx_check(ctx, &t->queue->err);
	if (rc)
		return rc;
	pthread_mutex_lock(&ctx->lock);
	if (t->nr_handed == t->nr && !t->status)
		rc = -ENOENT;
	else
		rc = wait_for(t, t->nr_handed + 1, timeout_ns);
	if (!rc)
		*index = t->order[t->nr_handed++];
	submit = !ctx->has_thread && ctx->demand.head;
	pthread_mutex_unlock(&ctx->lock);
	/* the caller goes off to compute: the drive must not run dry meanwhile */
	if (submit)
		penstock_progress_once(ctx, 0);
	return rc;
}

size_t penstock_ticket_count(const struct penstock_ticket *t)
{
	return t->nr;
}

size_t penstock_ticket_hits(const struct penstock_ticket *t)
{
	return t->nr_hits;
}

int penstock_ticket_slot(struct penstock_ticket *t, size_t index, struct penstock_slot *slot)
{
	struct penstock_class *cls = t->cls;
	const struct penstock_mem *mem;
	struct penstock_entry *e;
	const char *base;
	int rc;

	rc = penstock_ctx_check(t->queue->ctx, &t->queue->err);
	if (rc)
		return rc;
	if (index >= t->nr)
		return penstock_err(&t->queue->err, -EINVAL, "ticket of layer %u has %u entries, asked for number %zu",
				    t->layer, t->nr, index);
	e = &t->entries[index];
	pthread_mutex_lock(&t->queue->ctx->lock);
	if (!e->ready) {
		pthread_mutex_unlock(&t->queue->ctx->lock);
		return -EAGAIN;
	}
	base = penstock_arena_slot(&cls->arena, e->slot);
	slot->id = (int32_t)e->expert;
	slot->nr_parts = cls->nr_parts;
	slot->generation = penstock_cache_slot(cls->cache, e->slot)->generation;
	mem = penstock_arena_mem(&cls->arena, e->slot);
	for (uint32_t i = 0; i < cls->nr_parts; i++) {
		slot->ptr[i] = base + cls->loads[e->slot].part_off[i];
		slot->peer_off[i] = mem->peer_off == UINT64_MAX ? PENSTOCK_NO_OFFSET :
				    mem->peer_off + (uint64_t)((const char *)slot->ptr[i] - (const char *)mem->base);
	}
	pthread_mutex_unlock(&t->queue->ctx->lock);
	return 0;
}
