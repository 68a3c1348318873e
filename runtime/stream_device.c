// SPDX-License-Identifier: MIT
/*
 * What happens to a device while it is read into: its memory is revoked, PCI devices
 * come and go, a drive says that it cannot reach it. All on the thread that owns the
 * ring, without the lock. A model whose route is lost fails from then on, with the
 * reason: nothing goes on by another route unasked.
 */
#include <errno.h>
#include <stdio.h>

#include "stream.h"
#include "util.h"

/* Asking costs a system call. */
#define POLL_EVERY_NS	1000000u

static void lose(struct penstock_model *m, int code, const char *what, const char *why)
{
	struct penstock_ctx *ctx = m->ctx;

	pthread_mutex_lock(&ctx->lock);
	if (!m->status) {
		m->status = penstock_err(&m->error, code, "device %s: %s: %.380s", ctx->device, what, why);
		penstock_ctx_log(ctx, PENSTOCK_LOG_ERR, "%s", m->error.text);
	}
	pthread_mutex_unlock(&ctx->lock);
}

static bool lies_in(const struct penstock_model *m, uint32_t region)
{
	for (uint32_t i = 0; i < m->nr_classes; i++) {
		const struct penstock_arena *a = &m->classes[i].arena;

		for (uint32_t seg = 0; a->segments && seg < a->max_segments; seg++)
			if (a->segments[seg].mem.base && a->segments[seg].mem.region == region)
				return true;
	}
	return false;
}

static void revoked(struct penstock_ctx *ctx, const struct penstock_drv_event *e)
{
	struct penstock_model *m, *hit[16];
	uint32_t nr = 0;

	pthread_mutex_lock(&ctx->lock);
	for (m = ctx->models; m && nr < PENSTOCK_ARRAY_SIZE(hit); m = m->next)
		if (lies_in(m, e->region))
			hit[nr++] = m;
	pthread_mutex_unlock(&ctx->lock);
	/* models go only by calls that this thread runs */
	while (nr)
		lose(hit[--nr], -ENODEV, "its memory was taken away", penstock_drv_reason_text(e->reason));
}

/* The path, as the driver sees it, then the canary. Return: 0 it is good; -ENODATA the file cannot prove it. */
static int try_file(struct penstock_model *m, uint32_t file, struct penstock_error *err)
{
	struct penstock_ctx *ctx = m->ctx;
	struct penstock_route_pair pair;
	struct penstock_drv_probe probe;
	int rc;

	if (m->targets[file].info.id) {
		rc = penstock_drv_region_probe(ctx->drv, ctx->canary.region, m->targets[file].info.id, &probe, err);
		if (rc)
			return rc;
		if (!probe.allowed)
			return penstock_err(err, -EREMOTEIO, "%s", penstock_drv_reason_text(probe.reason));
	}
	penstock_model_pair(m, file, &pair);
	return penstock_route_canary(&pair, m->route, &ctx->canary, err);
}

/* All of its files; for one that proves nothing (a hole, a few bytes) another one on its drive can. */
static int try_model(struct penstock_model *m, struct penstock_error *err)
{
	const struct penstock_store *s = &m->index->store;
	struct penstock_error other;
	int rc = 0;

	for (uint32_t i = 0; i < s->nr_files && !rc; i++) {
		rc = try_file(m, i, err);
		for (uint32_t k = 0; k < s->nr_files && rc == -ENODATA; k++)
			if (k != i && penstock_file_drive(&s->files[k]) == penstock_file_drive(&s->files[i]) &&
			    !try_file(m, k, &other))
				rc = 0;
	}
	return rc;
}

/* Of models that are open; verdicts have the generation that they were found in. Return: false when not now. */
static bool look_again(struct penstock_ctx *ctx)
{
	struct penstock_error err;
	int rc;

	if (pthread_mutex_trylock(&ctx->admin))
		return false;
	for (struct penstock_model *m = ctx->models; m; m = m->next) {
		if (ctx->source.ops != &penstock_mem_peer || m->status ||
		    (m->route != PENSTOCK_ROUTE_DIRECT && m->route != PENSTOCK_ROUTE_MAPPED))
			continue;
		rc = try_model(m, &err);
		if (rc)
			lose(m, rc, "after a change on the PCI bus its route is no longer good", err.text);
	}
	pthread_mutex_unlock(&ctx->admin);
	return true;
}

static void hear(struct penstock_ctx *ctx)
{
	struct penstock_drv_event e;

	while (penstock_drv_event(ctx->drv, &e) == 1) {
		if (e.kind == PENSTOCK_DRV_REVOKED)
			revoked(ctx, &e);
		else
			ctx->look_again = true;
	}
}

void penstock_device_poll(struct penstock_ctx *ctx)
{
	uint64_t now = penstock_now_ns();

	if (now - ctx->polled_ns < POLL_EVERY_NS)
		return;
	ctx->polled_ns = now;
	hear(ctx);
	if (ctx->look_again)
		ctx->look_again = !look_again(ctx);
}

/* Some of a drive's own errors look the same. */
static void ask_driver(struct penstock_ctx *ctx, struct penstock_read *r)
{
	struct penstock_load *ld = r->cookie;
	struct penstock_model *m = ld->cls->model;
	const struct penstock_mem *mem = penstock_arena_mem(&ld->cls->arena, ld->slot);
	uint32_t target = m->targets ? m->targets[r->file - m->file_base].info.id : 0;
	struct penstock_drv_probe probe = { 0 };

	/* By way of the host's memory the drive cannot have missed the peer. */
	if (m->route == PENSTOCK_ROUTE_BOUNCE) {
		r->status = -EIO;
		return;
	}
	if (!mem->region || !target)
		return;
	if (penstock_drv_region_probe(ctx->drv, mem->region, target, &probe, NULL))
		return;
	if (probe.allowed) {
		penstock_ctx_log(ctx, PENSTOCK_LOG_WARN, "the drive reported EREMOTEIO, but the path to device %s is "
				 "there: an I/O error", ctx->device);
		r->status = -EIO;
		return;
	}
	lose(m, -EREMOTEIO, "the drive cannot reach it any more", penstock_drv_reason_text(probe.reason));
}

static enum penstock_route route_of(const struct penstock_read *r)
{
	const struct penstock_load *ld = r->cookie;

	return ld->cls->model->route;
}

void penstock_device_judge(struct penstock_ctx *ctx, struct penstock_read *done)
{
	bool gone = false;

	for (struct penstock_read *r = done; r; r = r->next) {
		penstock_route_land(r);
		if (r->status == -EREMOTEIO)
			ask_driver(ctx, r);
		/* the kernel's word for a mapping whose pages were taken */
		if (r->status == -EFAULT && route_of(r) == PENSTOCK_ROUTE_MAPPED)
			r->status = -ENODEV;
		gone |= r->status == -ENODEV;
	}
	/* so that the event's reason is known before the reads are told to have failed */
	if (gone)
		hear(ctx);
}
