// SPDX-License-Identifier: MIT
/* Routes: see route.h. Names, the probe, the order of what is asked; the measurement is in route_measure.c. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "canary.h"
#include "err.h"
#include "mem_copy.h"
#include "route.h"
#include "route_measure.h"
#include "util.h"

#define PASSES 3u

static const char *const names[PENSTOCK_ROUTES] = { "host", "direct", "mapped", "bounce" };

/* What is tried for scratch memory of the device, in this order: more makes the measurement better. */
static const size_t scratch_sizes[] = { 8u << 20, 2u << 20, 512u << 10, 128u << 10 };

_Static_assert(128u << 10 >= PENSTOCK_CANARY_BYTES, "the least scratch memory holds the canary");

const char *penstock_route_name(enum penstock_route route)
{
	return names[route];
}

int penstock_route_find(const char *name)
{
	for (uint32_t i = 0; i < PENSTOCK_ROUTES; i++)
		if (!strcmp(names[i], name))
			return (int)i;
	return -1;
}

int penstock_route_fastest(const struct penstock_route_verdict *all)
{
	int best = -1;

	for (int r = 0; r < (int)PENSTOCK_ROUTES; r++)
		if (all[r].examined && !all[r].code && (best < 0 || all[r].bytes_per_s > all[best].bytes_per_s))
			best = r;
	return best;
}

int penstock_route_target_add(int drv, const struct penstock_file *f, struct penstock_route_target *t,
			      struct penstock_error *err)
{
	struct penstock_error why = { 0 };
	int rc;

	*t = (struct penstock_route_target){ 0 };
	rc = penstock_drv_target_add(drv, f->fd, &t->info, &t->reason, &why);
	if (!rc && t->info.off_align > PENSTOCK_MEM_ALIGN) {
		snprintf(t->text, sizeof(t->text), "reads of it must be aligned to %u bytes", t->info.off_align);
		(void)penstock_drv_target_del(drv, t->info.id, NULL);
		t->info.id = 0;
	} else if (rc == -ENOSPC || rc == -ENOMEM) {
		return penstock_err(err, rc, "hand %s to the driver: %.300s", f->path, why.text);
	} else if (rc) {
		snprintf(t->text, sizeof(t->text), "%.255s", why.text);
	}
	return 0;
}

void penstock_route_aim(struct penstock_read *r, enum penstock_route route, const struct penstock_mem *mem,
			uint32_t target, void *staging)
{
	if (route == PENSTOCK_ROUTE_DIRECT) {
		r->region = mem->region;
		r->region_off = (uint64_t)((char *)r->dst - (char *)mem->base);
		r->target = target;
	} else if (route == PENSTOCK_ROUTE_BOUNCE) {
		r->land = r->dst;
		r->dst = staging;
	}
}

void penstock_route_land(struct penstock_read *r)
{
	if (r->land && !r->status)
		r->status = penstock_mem_copy_in(r->land, r->dst, r->done);
}

static void refuse(struct penstock_route_verdict *v, int code, const char *text)
{
	if (v->code)
		return;
	v->code = code;
	v->bytes_per_s = 0;
	snprintf(v->reason, sizeof(v->reason), "%.399s", text);
}

void penstock_route_judge_file(const struct penstock_route_pair *p, struct penstock_route_verdict *of)
{
	const struct penstock_file *f = &p->store->files[p->file];
	const struct penstock_drv_target *t = &p->target->info;
	bool peer = p->source->ops == &penstock_mem_peer;
	char text[256];

	if (!t->id)
		refuse(&of[PENSTOCK_ROUTE_DIRECT], -EOPNOTSUPP, p->target->text);
	if (peer && t->peer_reason) {
		refuse(&of[PENSTOCK_ROUTE_DIRECT], -EOPNOTSUPP, penstock_drv_reason_text(t->peer_reason));
		refuse(&of[PENSTOCK_ROUTE_MAPPED], -EOPNOTSUPP, penstock_drv_reason_text(t->peer_reason));
	}
	if (f->mode == PENSTOCK_FILE_DIRECT)
		return;
	snprintf(text, sizeof(text), "the file is read through the page cache: %s", f->why);
	refuse(&of[PENSTOCK_ROUTE_MAPPED], -EOPNOTSUPP, text);
	if (p->no_direct)
		refuse(&of[PENSTOCK_ROUTE_DIRECT], -EOPNOTSUPP, text);
}

/* Would another file get the same? The word of the driver, the peer and the canary would; no other error. */
static bool lasts(const struct penstock_route_pair *p, const struct penstock_route_found *found)
{
	if (!p->target->info.id || p->store->files[p->file].mode != PENSTOCK_FILE_DIRECT)
		return false;
	if (p->source->ops == &penstock_mem_peer && p->target->info.peer_reason)
		return false;
	for (uint32_t i = 0; i < PENSTOCK_ROUTES; i++) {
		int code = found->of[i].code;

		if (found->of[i].examined && code && code != -EREMOTEIO && code != -EOPNOTSUPP)
			return false;
	}
	return true;
}

/* What is known before anything is read. */
static void judge_unread(const struct penstock_route_pair *p, const struct penstock_mem *mem,
			 struct penstock_route_found *found)
{
	struct penstock_route_verdict *direct = &found->of[PENSTOCK_ROUTE_DIRECT];
	struct penstock_route_verdict *mapped = &found->of[PENSTOCK_ROUTE_MAPPED];
	struct penstock_route_verdict *bounce = &found->of[PENSTOCK_ROUTE_BOUNCE];
	bool peer = p->source->ops == &penstock_mem_peer;
	struct penstock_error err;

	penstock_route_judge_file(p, found->of);
	if (p->flush) {
		refuse(direct, -EOPNOTSUPP, "the peer sees the data only after a flush, which this build cannot give");
		refuse(mapped, -EOPNOTSUPP, "the peer sees the data only after a flush, which this build cannot give");
	}
	if (!mem->mapped) {
		refuse(mapped, -EOPNOTSUPP, "the peer's memory cannot be mapped");
		refuse(bounce, -EOPNOTSUPP, "the peer's memory cannot be mapped, and there is no other way to copy");
	}
	if (!peer || !p->target->info.id)
		return;
	if (penstock_drv_region_probe(p->source->drv, mem->region, p->target->info.id, &found->probe, &err)) {
		refuse(direct, err.code, err.text);
		refuse(mapped, err.code, err.text);
	} else if (!found->probe.allowed) {
		refuse(direct, -EREMOTEIO, penstock_drv_reason_text(found->probe.reason));
		refuse(mapped, -EREMOTEIO, penstock_drv_reason_text(found->probe.reason));
	}
}

/* One block by the route, or by an ordinary read. */
struct canary_arg {
	const struct penstock_route_pair *pair;
	enum penstock_route route;
	const struct penstock_mem *mem;
	struct penstock_ring *ring;
};

static int read_by_route(void *arg, uint64_t off, uint32_t at, struct penstock_error *err)
{
	struct canary_arg *a = arg;
	struct penstock_read r = {
		.buf = -1, .off = off, .len = PENSTOCK_CANARY_BLOCK, .need = PENSTOCK_CANARY_BLOCK,
		.dst = (char *)a->mem->base + at,
	}, *done = NULL;
	int rc;

	penstock_route_aim(&r, a->route, a->mem, a->pair->target->info.id, NULL);
	penstock_ring_submit(a->ring, &r);
	do {
		rc = penstock_ring_reap(a->ring, UINT64_MAX, &done);
	} while (!rc);
	if (rc > 0)
		rc = r.status;
	if (rc)
		return penstock_err(err, rc, "a read of %s off %" PRIu64 " by route %s into %s",
				    a->pair->store->files[a->pair->file].path, off, names[a->route], a->pair->device);
	return 0;
}

static int read_plainly(void *arg, uint64_t off, void *block, struct penstock_error *err)
{
	struct canary_arg *a = arg;

	return penstock_store_pread(a->pair->store, a->pair->file, off, block, PENSTOCK_CANARY_BLOCK, err);
}

int penstock_route_canary(const struct penstock_route_pair *p, enum penstock_route route,
			  const struct penstock_mem *mem, struct penstock_error *err)
{
	const struct penstock_file *f = &p->store->files[p->file];
	struct canary_arg arg = { .pair = p, .route = route, .mem = mem };
	struct penstock_canary c = {
		.view = mem->base, .size = f->size, .seed = penstock_now_ns(), .route = read_by_route,
		.plain = read_plainly, .arg = &arg,
	};
	char pair[256];
	int rc;

	if (!mem->mapped)
		return penstock_err(err, -EOPNOTSUPP, "canary of %s: nobody can look at its memory", p->device);
	snprintf(pair, sizeof(pair), "%.160s into %.40s by route %s", f->path, p->device, names[route]);
	c.pair = pair;
	rc = penstock_ring_open_drv(p->ops, p->source->drv, 1, &arg.ring, err);
	if (rc)
		return rc;
	rc = penstock_ring_set_files(arg.ring, &f->dfd, 1);
	if (rc)
		penstock_err(err, rc, "hand %s to the I/O engine", f->path);
	else
		rc = penstock_canary_run(&c, err);
	penstock_ring_close(arg.ring);
	return rc;
}

/* -EREMOTEIO of a drive may be its word for another error: the canary has failed then, but the path may be good. */
static void try_canary(const struct penstock_route_pair *p, enum penstock_route route, const struct penstock_mem *mem,
		       struct penstock_route_found *found)
{
	struct penstock_route_verdict *v = &found->of[route];
	struct penstock_error err = { 0 };
	int rc;

	if (!v->examined || v->code)
		return;
	rc = penstock_route_canary(p, route, mem, &err);
	if (rc)
		refuse(v, rc, err.text);
	if (route == PENSTOCK_ROUTE_DIRECT)
		found->canary = !rc;
}

static int scratch(const struct penstock_route_pair *p, struct penstock_mem *mem, struct penstock_error *err)
{
	int rc = 0;

	for (size_t i = 0; i < PENSTOCK_ARRAY_SIZE(scratch_sizes); i++) {
		rc = penstock_mem_get(p->source, scratch_sizes[i], mem, err);
		if (rc != -ENOSPC && rc != -ENOMEM)
			return rc;
	}
	return rc;
}

static uint64_t median(const uint64_t *v)
{
	uint64_t low = penstock_min_u64(v[0], v[1]), high = penstock_max_u64(v[0], v[1]);

	return penstock_max_u64(low, penstock_min_u64(high, v[2]));
}

/* Passes take turns over all routes, so that a bad moment, or a cold one, does not fall on one of them alone. */
static void measure(const struct penstock_route_pair *p, const struct penstock_mem *mem, uint64_t window_ns,
		    struct penstock_route_found *found)
{
	uint64_t rates[PENSTOCK_ROUTES][PASSES] = { 0 };
	struct penstock_route_verdict *v;
	struct penstock_error why;
	int code;

	for (uint32_t pass = 0; pass < PASSES; pass++) {
		for (uint32_t i = 0; i < PENSTOCK_ROUTES; i++) {
			v = &found->of[i];
			if (!v->examined || v->code)
				continue;
			code = penstock_route_measure(p, (enum penstock_route)i, mem, window_ns / PASSES,
						      &rates[i][pass], &why);
			if (code)
				refuse(v, code, why.text);
		}
	}
	for (uint32_t i = 0; i < PENSTOCK_ROUTES; i++)
		found->of[i].bytes_per_s = found->of[i].code ? 0 : median(rates[i]);
}

int penstock_route_examine(const struct penstock_route_pair *p, uint32_t routes, uint64_t window_ns,
			   struct penstock_route_found *found, struct penstock_error *err)
{
	struct penstock_mem mem = { 0 };
	struct penstock_drv_info info;
	int rc;

	*found = (struct penstock_route_found){ .canary = -1, .probe = { .distance = -1 } };
	rc = penstock_drv_info(p->source->drv, &info, err);
	if (rc)
		return rc;
	/* before the probe: what changes from here on is noticed later */
	found->generation = info.generation;
	rc = scratch(p, &mem, err);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < PENSTOCK_ROUTES; i++)
		found->of[i].examined = i != PENSTOCK_ROUTE_HOST && routes >> i & 1;
	judge_unread(p, &mem, found);
	try_canary(p, PENSTOCK_ROUTE_DIRECT, &mem, found);
	try_canary(p, PENSTOCK_ROUTE_MAPPED, &mem, found);
	if (window_ns)
		measure(p, &mem, window_ns, found);
	found->lasting = lasts(p, found);
	penstock_mem_free(&mem);
	return 0;
}
