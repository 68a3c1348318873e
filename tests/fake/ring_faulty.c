// SPDX-License-Identifier: MIT
/*
 * An engine that reads by pread() and does what drives and kernels do on bad days:
 * short reads, EINTR, EAGAIN, EIO, completions in any order, rounds without any.
 * Included by tests; all follows from the seed in ring_faulty_plan, which a test
 * prints when it fails.
 */
#ifndef PENSTOCK_TESTS_RING_FAULTY_C
#define PENSTOCK_TESTS_RING_FAULTY_C

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "ring.h"

/* Chances are in 256. */
struct ring_faulty_plan {
	uint64_t seed;
	uint32_t short_chance;
	uint32_t eintr_chance;
	uint32_t eagain_chance;
	uint32_t eio_chance;
	/* a round in which nothing completes */
	uint32_t idle_chance;
	/* as O_DIRECT: offsets and results are multiples of this, else EINVAL; 0 = any */
	uint32_t block;
	/* with @block: short reads may end inside of one */
	bool ragged;
	/* a short read brings at most this much; 0 = up to all */
	uint32_t short_most;
	/* claim one byte more than was asked for */
	bool lies;
	/* queue refuses now and then */
	bool full;
	/* enter fails from this round on; 0 = never */
	uint32_t break_at;
	/* counted by the engine */
	uint32_t nr_reads;
	uint32_t nr_faults;
};

static struct ring_faulty_plan ring_faulty_plan;

struct ring_faulty {
	struct penstock_read **queue;
	uint32_t nr_queued;
	struct penstock_read **done;
	int *res;
	uint32_t nr_done;
	uint32_t depth;
	uint32_t round;
	bool woken;
	int fds[64];
};

static uint32_t ring_faulty_random(void)
{
	ring_faulty_plan.seed = ring_faulty_plan.seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(ring_faulty_plan.seed >> 33);
}

static bool ring_faulty_chance(uint32_t in_256)
{
	bool hit = ring_faulty_random() % 256 < in_256;

	ring_faulty_plan.nr_faults += hit;
	return hit;
}

static int ring_faulty_open(uint32_t depth, int drv, void **engine, char *why, size_t why_len, struct penstock_error *err)
{
	struct ring_faulty *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->depth = depth;
	f->queue = calloc(depth, sizeof(*f->queue));
	f->done = calloc(depth, sizeof(*f->done));
	f->res = calloc(depth, sizeof(*f->res));
	*engine = f;
	return f->queue && f->done && f->res ? 0 : -ENOMEM;
}

static void ring_faulty_close(void *engine)
{
	struct ring_faulty *f = engine;

	free(f->queue);
	free(f->done);
	free(f->res);
	free(f);
}

static int ring_faulty_set_files(void *engine, const int *fds, uint32_t nr)
{
	struct ring_faulty *f = engine;

	if (nr > sizeof(f->fds) / sizeof(*f->fds))
		return -ENOMEM;
	memcpy(f->fds, fds, nr * sizeof(*fds));
	return 0;
}

static int ring_faulty_set_buffer(void *engine, uint32_t nr, void *base, size_t len)
{
	return base ? 1 : 0;
}

static int ring_faulty_queue(void *engine, struct penstock_read *r)
{
	struct ring_faulty *f = engine;

	if (f->nr_queued + f->nr_done == f->depth || (ring_faulty_plan.full && ring_faulty_chance(32)))
		return -EAGAIN;
	f->queue[f->nr_queued++] = r;
	return 0;
}

static int ring_faulty_do(struct ring_faulty *f, const struct penstock_read *r)
{
	struct ring_faulty_plan *p = &ring_faulty_plan;
	uint64_t off = r->off + r->done;
	uint32_t len = r->len - r->done, most = p->short_most ? p->short_most : len;
	ssize_t got;

	p->nr_reads++;
	if (ring_faulty_chance(p->eintr_chance))
		return -EINTR;
	if (ring_faulty_chance(p->eagain_chance))
		return -EAGAIN;
	if (ring_faulty_chance(p->eio_chance))
		return -EIO;
	if (p->block && off % p->block)
		return -EINVAL;
	if (p->lies)
		return (int)len + 1;
	if (ring_faulty_chance(p->short_chance)) {
		if (len > most)
			len = most;
		len = 1 + ring_faulty_random() % len;
		if (p->block && !p->ragged)
			len = (len + p->block - 1) / p->block * p->block;
	}
	got = pread(f->fds[r->file], (char *)r->dst + r->done, len, (off_t)off);
	return got < 0 ? -errno : (int)got;
}

static int ring_faulty_enter(void *engine, uint64_t timeout_ns)
{
	struct ring_faulty *f = engine;
	uint32_t i, nr;
	bool woken = f->woken;

	f->woken = false;
	f->round++;
	if (ring_faulty_plan.break_at && f->round >= ring_faulty_plan.break_at)
		return -ENXIO;
	if (!f->nr_queued || ring_faulty_chance(ring_faulty_plan.idle_chance))
		return woken;
	for (nr = 1 + ring_faulty_random() % f->nr_queued; nr; nr--) {
		i = ring_faulty_random() % f->nr_queued;
		f->res[f->nr_done] = ring_faulty_do(f, f->queue[i]);
		f->done[f->nr_done++] = f->queue[i];
		f->queue[i] = f->queue[--f->nr_queued];
	}
	return woken;
}

static struct penstock_read *ring_faulty_pop(void *engine, int *res)
{
	struct ring_faulty *f = engine;

	if (!f->nr_done)
		return NULL;
	*res = f->res[--f->nr_done];
	return f->done[f->nr_done];
}

static void ring_faulty_wake(void *engine)
{
	struct ring_faulty *f = engine;

	f->woken = true;
}

static const struct penstock_ring_ops ring_faulty = {
	.name = "faulty",
	.open = ring_faulty_open,
	.close = ring_faulty_close,
	.set_files = ring_faulty_set_files,
	.set_buffer = ring_faulty_set_buffer,
	.queue = ring_faulty_queue,
	.enter = ring_faulty_enter,
	.pop = ring_faulty_pop,
	.wake = ring_faulty_wake,
};

#endif
