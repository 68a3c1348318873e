// SPDX-License-Identifier: MIT
/*
 * The thread that owns the ring: takes reads from the loads in line, submits them
 * as one batch, waits, hands what is final back to the loads. With
 * PENSTOCK_F_CALLER_PROGRESS the caller's thread does the same from within its waits.
 */
#include <errno.h>
#include <string.h>
#include <sys/prctl.h>

#include "stream.h"
#include "util.h"

static void run_calls(struct penstock_ctx *ctx)
{
	struct penstock_call *c;

	while ((c = ctx->calls)) {
		ctx->calls = c->next;
		pthread_mutex_unlock(&ctx->lock);
		c->rc = c->fn(ctx, c->arg);
		pthread_mutex_lock(&ctx->lock);
		c->done = true;
		pthread_cond_broadcast(&ctx->call_done);
	}
}

/* Reads for every free record; linked in order. */
static struct penstock_read *take_reads(struct penstock_ctx *ctx)
{
	struct penstock_read *first = NULL, **end = &first, *r;

	while ((r = ctx->free_reads)) {
		struct penstock_read *next = r->next;

		if (!penstock_load_next_read(ctx, r))
			break;
		ctx->free_reads = next;
		r->next = NULL;
		*end = r;
		end = &r->next;
	}
	return first;
}

static void complete_reads(struct penstock_ctx *ctx, struct penstock_read *done)
{
	struct penstock_read *next;

	for (; done; done = next) {
		next = done->next;
		penstock_load_read_done(ctx, done);
		done->cookie = NULL;
		done->next = ctx->free_reads;
		ctx->free_reads = done;
	}
}

/* The engine is gone, with what it held: what was in flight and what is queued fails with its error. */
static void fail_all(struct penstock_ctx *ctx)
{
	struct penstock_read *r;

	for (uint32_t i = 0; i < ctx->depth; i++) {
		r = &ctx->reads[i];
		if (!r->cookie)
			continue;
		r->status = ctx->broken;
		r->next = NULL;
		complete_reads(ctx, r);
	}

	while ((r = take_reads(ctx))) {
		for (struct penstock_read *i = r; i; i = i->next)
			i->status = ctx->broken;
		complete_reads(ctx, r);
	}
}

void penstock_progress_once(struct penstock_ctx *ctx, uint64_t timeout_ns)
{
	struct penstock_read *reads, *done = NULL;
	int rc;

	if (ctx->drv >= 0)
		penstock_device_poll(ctx);
	pthread_mutex_lock(&ctx->lock);
	/* a resize that is under way collects itself */
	if (ctx->garbage && !pthread_mutex_trylock(&ctx->admin)) {
		penstock_ctx_collect(ctx);
		pthread_mutex_unlock(&ctx->admin);
	}
	if (ctx->broken) {
		/* what the engine still holds may come back at any time: it is not asked again */
		fail_all(ctx);
		if (ctx->has_thread && !ctx->calls && !ctx->stop)
			pthread_cond_wait(&ctx->kicked, &ctx->lock);
		pthread_mutex_unlock(&ctx->lock);
		return;
	}
	reads = take_reads(ctx);
	if (ctx->calls || ctx->stop)
		timeout_ns = 0;
	ctx->sleeping = true;
	pthread_mutex_unlock(&ctx->lock);

	/* the ring holds as many reads as there are records: nothing is left over */
	penstock_ring_submit(ctx->ring, reads);
	rc = penstock_ring_reap(ctx->ring, timeout_ns, &done);
	if (ctx->drv >= 0)
		penstock_device_judge(ctx, done);

	pthread_mutex_lock(&ctx->lock);
	ctx->sleeping = false;
	if (rc < 0 && !ctx->broken) {
		ctx->broken = rc;
		penstock_ctx_log(ctx, PENSTOCK_LOG_ERR, "the I/O engine broke: %s", strerrordesc_np(-rc));
	}
	complete_reads(ctx, done);
	if (rc < 0)
		fail_all(ctx);
	ctx->stats.retries = penstock_ring_retries(ctx->ring);
	pthread_mutex_unlock(&ctx->lock);
}

static void *progress_main(void *arg)
{
	struct penstock_ctx *ctx = arg;

	prctl(PR_SET_NAME, "penstock-io");
	pthread_mutex_lock(&ctx->lock);
	for (;;) {
		run_calls(ctx);
		if (ctx->stop && (ctx->broken || !penstock_ring_in_flight(ctx->ring)))
			break;
		pthread_mutex_unlock(&ctx->lock);
		penstock_progress_once(ctx, UINT64_MAX);
		pthread_mutex_lock(&ctx->lock);
	}
	pthread_mutex_unlock(&ctx->lock);
	return NULL;
}

void penstock_progress_kick(struct penstock_ctx *ctx)
{
	if (ctx->broken)
		pthread_cond_signal(&ctx->kicked);
	else if (ctx->sleeping && ctx->has_thread)
		penstock_ring_wake(ctx->ring);
}

int penstock_progress_call(struct penstock_ctx *ctx, int (*fn)(struct penstock_ctx *ctx, void *arg), void *arg)
{
	struct penstock_call call = { .fn = fn, .arg = arg }, **end;

	if (!ctx->has_thread)
		return fn(ctx, arg);
	pthread_mutex_lock(&ctx->lock);
	for (end = &ctx->calls; *end; end = &(*end)->next)
		;
	*end = &call;
	penstock_progress_kick(ctx);
	while (!call.done)
		pthread_cond_wait(&ctx->call_done, &ctx->lock);
	pthread_mutex_unlock(&ctx->lock);
	return call.rc;
}

int penstock_progress_start(struct penstock_ctx *ctx)
{
	int rc;

	if (ctx->flags & PENSTOCK_F_CALLER_PROGRESS)
		return 0;
	rc = pthread_create(&ctx->thread, NULL, progress_main, ctx);
	ctx->has_thread = !rc;
	return -rc;
}

void penstock_progress_stop(struct penstock_ctx *ctx)
{
	if (!ctx->has_thread) {
		while (ctx->ring && penstock_ring_in_flight(ctx->ring) && !ctx->broken)
			penstock_progress_once(ctx, UINT64_MAX);
		return;
	}
	pthread_mutex_lock(&ctx->lock);
	ctx->stop = true;
	penstock_progress_kick(ctx);
	pthread_mutex_unlock(&ctx->lock);
	pthread_join(ctx->thread, NULL);
	ctx->has_thread = false;
}
