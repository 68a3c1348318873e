// SPDX-License-Identifier: MIT
/*
 * Giving memory back: resizing the cache, closing models. Memory goes in whole
 * segments: their slots are killed, and when the last pin on them is gone the ring's
 * thread unregisters the buffer and unmaps it.
 */
#include <errno.h>

#include "stream.h"
#include "util.h"

/* Slots of a segment that live and are not about to die. */
static uint32_t live_slots(const struct penstock_class *c, uint32_t seg)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < c->arena.segments[seg].nr_slots; i++) {
		const struct penstock_cache_slot *s = penstock_cache_slot(c->cache, seg * c->arena.per_segment + i);

		nr += s->state != PENSTOCK_SLOT_DEAD && !s->dying;
	}
	return nr;
}

static bool all_dead(const struct penstock_class *c, uint32_t seg)
{
	for (uint32_t i = 0; i < c->arena.segments[seg].nr_slots; i++)
		if (penstock_cache_slot(c->cache, seg * c->arena.per_segment + i)->state != PENSTOCK_SLOT_DEAD)
			return false;
	return true;
}

/* On the ring's thread. */
static void unregister(struct penstock_ctx *ctx, struct penstock_segment *s)
{
	if (s->buf < 0)
		return;
	(void)penstock_ring_set_buffer(ctx->ring, (uint32_t)s->buf, NULL, 0);
	ctx->bufs_used[s->buf / 64] &= ~(1ull << s->buf % 64);
	s->buf = -1;
}

static int unregister_call(struct penstock_ctx *ctx, void *arg)
{
	unregister(ctx, arg);
	return 0;
}

void penstock_ctx_unregister(struct penstock_ctx *ctx, struct penstock_segment *s)
{
	(void)penstock_progress_call(ctx, unregister_call, s);
}

void penstock_ctx_collect(struct penstock_ctx *ctx)
{
	ctx->garbage = false;
	/* nobody knows what a broken engine still writes to: its memory stays mapped */
	if (ctx->broken)
		return;
	for (struct penstock_model *m = ctx->models; m; m = m->next) {
		for (uint32_t i = 0; i < m->nr_classes; i++) {
			struct penstock_class *c = &m->classes[i];

			for (uint32_t seg = 0; seg < c->arena.max_segments; seg++) {
				if (!c->arena.segments[seg].dying || !all_dead(c, seg))
					continue;
				unregister(ctx, &c->arena.segments[seg]);
				penstock_arena_shrink(&c->arena, seg);
			}
		}
	}
}

void penstock_ctx_admin_end(struct penstock_ctx *ctx)
{
	pthread_mutex_unlock(&ctx->admin);
	pthread_mutex_lock(&ctx->lock);
	if (ctx->garbage)
		penstock_progress_kick(ctx);
	pthread_mutex_unlock(&ctx->lock);
}

static int collect_call(struct penstock_ctx *ctx, void *unused)
{
	pthread_mutex_lock(&ctx->lock);
	penstock_ctx_collect(ctx);
	pthread_mutex_unlock(&ctx->lock);
	return 0;
}

/*
 * Kill slots from the last segment on until @slots are left. A segment that loses all
 * its slots goes; of the one that keeps some, the dead ones wait for a later growth.
 */
static void shrink_class(struct penstock_class *c, uint32_t slots)
{
	struct penstock_ctx *ctx = c->model->ctx;

	pthread_mutex_lock(&ctx->lock);
	for (uint32_t seg = c->arena.max_segments; seg-- && penstock_cache_slots(c->cache) > slots;) {
		struct penstock_segment *s = &c->arena.segments[seg];

		if (!s->mem.base || s->dying)
			continue;
		for (uint32_t i = s->nr_slots; i-- && penstock_cache_slots(c->cache) > slots;)
			(void)penstock_cache_kill(c->cache, seg * c->arena.per_segment + i);
		s->dying = !live_slots(c, seg);
	}
	penstock_ticket_serve_line(c);
	pthread_mutex_unlock(&ctx->lock);
}

static int resize_model(struct penstock_model *m, uint64_t bytes, struct penstock_error *err)
{
	struct penstock_ctx *ctx = m->ctx;
	int rc = 0;

	for (uint32_t i = 0; i < m->nr_classes; i++)
		shrink_class(&m->classes[i], penstock_class_slots(m, &m->classes[i], bytes));
	(void)penstock_progress_call(ctx, collect_call, NULL);
	for (uint32_t i = 0; i < m->nr_classes && !rc; i++)
		rc = penstock_class_grow(&m->classes[i], penstock_class_slots(m, &m->classes[i], bytes), err);
	pthread_mutex_lock(&ctx->lock);
	if (!rc) {
		m->cache_bytes = bytes;
		m->stream = bytes < m->token_bytes;
	}
	for (uint32_t i = 0; i < m->nr_classes; i++) {
		penstock_cache_stream(m->classes[i].cache, m->stream);
		penstock_ticket_serve_line(&m->classes[i]);
	}
	pthread_mutex_unlock(&ctx->lock);
	return rc;
}

int penstock_resize(struct penstock_ctx *ctx, uint64_t cache_bytes, struct penstock_error *err)
{
	uint64_t least = 0, old;
	struct penstock_model *m;
	int rc;

	penstock_err_clear(err);
	rc = penstock_ctx_check(ctx, err);
	if (rc)
		return rc;
	pthread_mutex_lock(&ctx->admin);
	old = ctx->cache_bytes;
	for (m = ctx->models; m; m = m->next)
		least += m->least_bytes;
	if (cache_bytes < least) {
		rc = penstock_err(err, -ENOSPC, "resize to %llu bytes: the open models need %llu",
				  (unsigned long long)cache_bytes, (unsigned long long)least);
	}
	/* each model keeps its least, and of the rest the share that it had */
	for (m = ctx->models; m && !rc; m = m->next) {
		double share = old > least ? (double)(m->cache_bytes - m->least_bytes) / (double)(old - least) :
					     (double)m->least_bytes / (double)least;

		rc = resize_model(m, m->least_bytes + (uint64_t)(share * (double)(cache_bytes - least)), err);
	}
	if (!rc)
		ctx->cache_bytes = cache_bytes;
	penstock_ctx_admin_end(ctx);
	return rc;
}

static int close_call(struct penstock_ctx *ctx, void *arg)
{
	struct penstock_model *m = arg, **at;

	for (uint32_t i = 0; i < m->nr_classes; i++)
		for (uint32_t seg = 0; m->classes[i].arena.segments && seg < m->classes[i].arena.max_segments; seg++)
			if (m->classes[i].arena.segments[seg].mem.base)
				unregister(ctx, &m->classes[i].arena.segments[seg]);
	pthread_mutex_lock(&ctx->lock);
	for (at = &ctx->models; *at && *at != m; at = &(*at)->next)
		;
	if (*at)
		*at = m->next;
	for (uint32_t i = 0; i < m->nr_classes; i++)
		if (m->classes[i].cache)
			ctx->stats.evictions += penstock_cache_evictions(m->classes[i].cache);
	pthread_mutex_unlock(&ctx->lock);
	return penstock_ctx_set_files(ctx, NULL);
}

void penstock_model_shut(struct penstock_model *m)
{
	struct penstock_ctx *ctx = m->ctx;

	pthread_mutex_lock(&ctx->lock);
	for (uint32_t l = 0; l < m->index->nr_layers; l++)
		penstock_load_drop_guesses(m, l, true);
	while (m->in_flight) {
		if (ctx->has_thread) {
			pthread_cond_wait(&ctx->call_done, &ctx->lock);
			continue;
		}
		pthread_mutex_unlock(&ctx->lock);
		penstock_progress_once(ctx, UINT64_MAX);
		pthread_mutex_lock(&ctx->lock);
	}
	pthread_mutex_unlock(&ctx->lock);
	(void)penstock_progress_call(ctx, close_call, m);
	penstock_model_destroy(m);
}

void penstock_model_close(struct penstock_model *m)
{
	struct penstock_ctx *ctx;

	if (!m || penstock_ctx_check(m->ctx, NULL))
		return;
	ctx = m->ctx;
	pthread_mutex_lock(&ctx->admin);
	penstock_model_shut(m);
	penstock_ctx_admin_end(ctx);
}
