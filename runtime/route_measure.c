// SPDX-License-Identifier: MIT
/* The measurement of a route: see route_measure.h. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "err.h"
#include "route_measure.h"
#include "util.h"

/* As many as the drive's own measurement likes best, mostly; all routes are given the same. */
#define DEPTH		4u
#define READ_MOST	(1u << 20)

struct job {
	const struct penstock_route_pair *pair;
	const struct penstock_file *file;
	enum penstock_route route;
	const struct penstock_mem *mem;
	struct penstock_mem staging;
	struct penstock_ring *ring;
	uint32_t len;		/* of a read */
	uint64_t align;
	uint64_t seed;
	struct penstock_read reads[DEPTH];
};

static void submit(struct job *j, uint32_t nr)
{
	uint64_t end = penstock_align_up(j->file->size, j->align), off;
	struct penstock_read *r = &j->reads[nr];
	char *staging = NULL;

	off = end > j->len ? penstock_align_down(penstock_random_u64(&j->seed) % (end - j->len + 1), j->align) : 0;
	*r = (struct penstock_read){ .buf = -1, .off = off, .len = j->len };
	r->need = (uint32_t)penstock_min_u64(j->len, j->file->size - off);
	r->dst = (char *)j->mem->base + (uint64_t)nr * j->len;
	if (j->route == PENSTOCK_ROUTE_BOUNCE) {
		r->buf = 0;
		staging = (char *)j->staging.base + (uint64_t)nr * j->len;
	}
	penstock_route_aim(r, j->route, j->mem, j->pair->target->info.id, staging);
	penstock_ring_submit(j->ring, r);
}

/* Return: reads that came back; -errno of one, or of the engine. */
static int collect(struct job *j, struct penstock_read **got, struct penstock_error *err)
{
	int nr = penstock_ring_reap(j->ring, UINT64_MAX, got);

	if (nr < 0)
		return penstock_err(err, nr, "measuring route %s: the I/O engine: %s", penstock_route_name(j->route),
				    penstock_ring_why(j->ring));
	for (struct penstock_read *r = *got; r; r = r->next) {
		penstock_route_land(r);
		if (r->status)
			return penstock_err(err, r->status, "measuring route %s: read %s off %" PRIu64 " len %u",
					    penstock_route_name(j->route), j->file->path, r->off, r->len);
	}
	return nr;
}

static int measure(struct job *j, uint64_t window_ns, uint64_t *bytes_per_s, struct penstock_error *err)
{
	uint64_t begin = penstock_now_ns(), now = begin, bytes = 0;
	struct penstock_read *got, *next;
	int rc;

	for (uint32_t i = 0; i < DEPTH; i++)
		submit(j, i);
	while (penstock_ring_in_flight(j->ring)) {
		rc = collect(j, &got, err);
		if (rc < 0)
			return rc;
		now = penstock_now_ns();
		for (; got; got = next) {
			next = got->next;
			bytes += got->need;
			if (now - begin < window_ns)
				submit(j, (uint32_t)(got - j->reads));
		}
	}
	*bytes_per_s = (uint64_t)((double)bytes * 1e9 / (double)penstock_max_u64(now - begin, 1));
	return *bytes_per_s ? 0 : penstock_err(err, -ENODATA, "measuring route %s: nothing was read",
					       penstock_route_name(j->route));
}

/* No read may be in flight when the memory goes. */
static void drain(struct job *j)
{
	struct penstock_read *got;

	while (penstock_ring_in_flight(j->ring))
		if (penstock_ring_reap(j->ring, UINT64_MAX, &got) < 0)
			return;
}

int penstock_route_measure(const struct penstock_route_pair *p, enum penstock_route route,
			   const struct penstock_mem *mem, uint64_t window_ns, uint64_t *bytes_per_s,
			   struct penstock_error *err)
{
	struct job j = { .pair = p, .file = &p->store->files[p->file], .route = route, .mem = mem };
	int rc;

	j.seed = penstock_now_ns() | 1;
	j.align = penstock_max_u64(j.file->align, p->target->info.off_align);
	j.len = (uint32_t)penstock_min_u64(READ_MOST, penstock_align_down(mem->len / DEPTH, PENSTOCK_MEM_ALIGN));
	j.len = (uint32_t)penstock_min_u64(j.len, penstock_align_up(j.file->size, PENSTOCK_MEM_ALIGN));
	if (!j.len)
		return penstock_err(err, -ENODATA, "measuring route %s: %s is empty", penstock_route_name(route),
				    j.file->path);
	rc = penstock_ring_open_drv(p->ops, p->source->drv, DEPTH, &j.ring, err);
	if (rc)
		return rc;
	rc = penstock_ring_set_files(j.ring, &j.file->dfd, 1);
	if (rc)
		penstock_err(err, rc, "measuring %s: its descriptor", j.file->path);
	if (!rc && route == PENSTOCK_ROUTE_BOUNCE) {
		rc = penstock_mem_alloc((size_t)DEPTH * j.len, p->source->numa_node, 0, &j.staging, err);
		if (!rc)
			(void)penstock_ring_set_buffer(j.ring, 0, j.staging.base, j.staging.len);
	}
	if (!rc)
		rc = measure(&j, window_ns, bytes_per_s, err);
	drain(&j);
	penstock_ring_close(j.ring);
	penstock_mem_free(&j.staging);
	return rc;
}
