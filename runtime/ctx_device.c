// SPDX-License-Identifier: MIT
/*
 * The context's device: the host, or a peer that drives read into; the driver's
 * node where it takes part, the model's files as the driver knows them, and host
 * memory on the way for route bounce.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "canary.h"
#include "stream.h"
#include "util.h"

#define BIT_OF(route)	(1u << (route))
/* All that bounce may take of the host's memory, for as many places as reads can be in flight. */
#define STAGE_MOST	(256ull << 20)

/* Routes that a device has, a bit each; those of the driver's own host memory are only for who asks. */
static int routes_of(const char *device, bool peer, const char *route, uint32_t *routes, struct penstock_error *err)
{
	const uint32_t all = peer ? BIT_OF(PENSTOCK_ROUTE_DIRECT) | BIT_OF(PENSTOCK_ROUTE_MAPPED) |
				    BIT_OF(PENSTOCK_ROUTE_BOUNCE) :
				    BIT_OF(PENSTOCK_ROUTE_HOST) | BIT_OF(PENSTOCK_ROUTE_DIRECT) |
				    BIT_OF(PENSTOCK_ROUTE_MAPPED);
	int nr;

	if (!route || !strcmp(route, "auto")) {
		*routes = peer ? all : BIT_OF(PENSTOCK_ROUTE_HOST);
		return 0;
	}
	nr = penstock_route_find(route);
	if (nr < 0)
		return penstock_err(err, -EINVAL, "route %s: there are \"auto\", \"host\", \"direct\", \"mapped\", "
				    "\"bounce\"", route);
	if (!(all >> nr & 1))
		return penstock_err(err, -EOPNOTSUPP, "route %s: device %s has %s", route, device, peer ?
				    "\"direct\", \"mapped\", \"bounce\"" : "\"host\", \"direct\", \"mapped\"");
	*routes = BIT_OF(nr);
	return 0;
}

static int find_peer(struct penstock_ctx *ctx, const char *device, struct penstock_error *err)
{
	int rc = penstock_mem_peer_find(ctx->drv, device, &ctx->peer, err);

	if (rc)
		return rc;
	penstock_mem_peer_name(&ctx->peer, ctx->device, sizeof(ctx->device));
	ctx->source.ops = &penstock_mem_peer;
	ctx->source.peer = ctx->peer.id;
	return 0;
}

int penstock_ctx_open_device(struct penstock_ctx *ctx, const struct penstock_options *o, struct penstock_error *err)
{
	const char *device = o->device ? o->device : "host";
	bool peer = !strcmp(device, "peer") || !strncmp(device, "peer:", 5);
	int rc;

	if (!strncmp(device, "cuda", 4))
		return penstock_err(err, -EOPNOTSUPP, "device %s: this build computes on the host only", device);
	if (!peer && strcmp(device, "host"))
		return penstock_err(err, -EINVAL, "device %s: there are \"host\" and \"peer:DDDD:BB:DD.F\"", device);
	rc = routes_of(device, peer, o->route, &ctx->routes, err);
	if (rc)
		return rc;
	ctx->source.ops = &penstock_mem_host;
	ctx->source.numa_node = o->numa_node;
	ctx->source.no_huge = o->flags & PENSTOCK_F_NO_HUGE;
	snprintf(ctx->device, sizeof(ctx->device), "host");
	if (ctx->routes == BIT_OF(PENSTOCK_ROUTE_HOST))
		return 0;
	rc = penstock_drv_open(PENSTOCK_DRV_NODE, err);
	if (rc < 0)
		return rc;
	ctx->drv = rc;
	ctx->source.drv = rc;
	ctx->source.ops = &penstock_mem_driver;
	rc = peer ? find_peer(ctx, device, err) : 0;
	/* kept, so that it can be looked again when the cache has all the rest */
	return rc ? rc : penstock_mem_get(&ctx->source, PENSTOCK_CANARY_BYTES, &ctx->canary, err);
}

void penstock_ctx_close_device(struct penstock_ctx *ctx)
{
	struct penstock_pair *p;

	while ((p = ctx->pairs)) {
		ctx->pairs = p->next;
		free(p);
	}
	penstock_mem_free(&ctx->stage.mem);
	penstock_mem_free(&ctx->canary);
	penstock_drv_close(ctx->drv);
	ctx->drv = -1;
}

int penstock_model_targets(struct penstock_model *m, struct penstock_error *err)
{
	const struct penstock_store *s = &m->index->store;

	m->targets = calloc(s->nr_files ? s->nr_files : 1, sizeof(*m->targets));
	if (!m->targets)
		return penstock_err(err, -ENOMEM, "%u files", s->nr_files);
	for (uint32_t i = 0; i < s->nr_files; i++) {
		int rc = penstock_route_target_add(m->ctx->drv, &s->files[i], &m->targets[i], err);

		if (rc)
			return rc;
		m->align[i] = (uint32_t)penstock_max_u64(m->align[i], m->targets[i].info.off_align);
	}
	return 0;
}

void penstock_model_targets_drop(struct penstock_model *m)
{
	for (uint32_t i = 0; m->targets && i < m->index->store.nr_files; i++)
		if (m->targets[i].info.id)
			(void)penstock_drv_target_del(m->ctx->drv, m->targets[i].info.id, NULL);
	free(m->targets);
	m->targets = NULL;
}

void penstock_model_pair(const struct penstock_model *m, uint32_t file, struct penstock_route_pair *p)
{
	const struct penstock_ctx *ctx = m->ctx;

	*p = (struct penstock_route_pair){
		.source = &ctx->source,
		.device = ctx->device,
		.flush = ctx->source.ops == &penstock_mem_peer && ctx->peer.needs_flush,
		.no_direct = ctx->flags & PENSTOCK_F_NO_DIRECT,
		.store = &m->index->store,
		.file = file,
		.target = &m->targets[file],
		.ops = ctx->flags & PENSTOCK_F_NO_URING ? &penstock_ring_pread : NULL,
	};
}

bool penstock_model_registers(const struct penstock_model *m)
{
	/* the driver's regions are pinned already, and pages of a peer cannot be registered */
	return m->route == PENSTOCK_ROUTE_HOST ||
	       (m->route == PENSTOCK_ROUTE_MAPPED && m->ctx->source.ops != &penstock_mem_peer);
}

uint32_t penstock_model_split(const struct penstock_model *m)
{
	const struct penstock_ctx *ctx = m->ctx;

	if (m->route == PENSTOCK_ROUTE_BOUNCE)
		return penstock_ctx_place(ctx);
	if (m->route != PENSTOCK_ROUTE_DIRECT || ctx->fixed_split)
		return ctx->split;
	return PENSTOCK_READ_MAX;
}

uint32_t penstock_ctx_place(const struct penstock_ctx *ctx)
{
	uint64_t most = penstock_align_down(STAGE_MOST / ctx->depth, PENSTOCK_MEM_ALIGN);

	return (uint32_t)penstock_min_u64(ctx->split, most);
}

int penstock_model_stage(struct penstock_model *m, struct penstock_error *err)
{
	struct penstock_ctx *ctx = m->ctx;
	uint32_t place = penstock_ctx_place(ctx);
	uint64_t len = (uint64_t)ctx->depth * place;
	int rc;

	if (m->route != PENSTOCK_ROUTE_BOUNCE || ctx->stage.mem.len >= len)
		return 0;
	if (place < ctx->split)
		penstock_ctx_log(ctx, PENSTOCK_LOG_INFO, "route bounce reads at most %u KiB at once, not %u: %u reads "
				 "in flight share %llu MiB of host memory", place >> 10, ctx->split >> 10, ctx->depth,
				 STAGE_MOST >> 20);
	penstock_ctx_unregister(ctx, &ctx->stage);
	penstock_mem_free(&ctx->stage.mem);
	rc = penstock_mem_alloc(len, ctx->source.numa_node, ctx->source.no_huge, &ctx->stage.mem, err);
	if (rc)
		return rc;
	penstock_ctx_register(ctx, &ctx->stage);
	return 0;
}
