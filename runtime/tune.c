// SPDX-License-Identifier: MIT
/*
 * The measurement of a drive: see tune.h.
 *
 * Points are measured in the order of the bytes in flight, so that a slow drive is
 * known to be slow before it is given much to do. Reads land in the same memory again
 * and again: nobody looks at the bytes.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "mem.h"
#include "tune.h"
#include "util.h"

#define MAX_DEPTH	64u
/* Much more than a CPU's share of its cache: reads into memory that it holds are faster than those into slots. */
#define SCRATCH		(64u << 20)
#define LATENCY_READS	9u
#define SMALL_READ	4096u
/* Full rounds of a depth that a point takes at least. */
#define LEAST_ROUNDS	2u
#define PASSES		3u

/* 16 MiB in flight are 160 us of the fastest arrays of drives, more than a read's latency. */
static const struct penstock_tune_point grid[] = {
	{ 4, 256u << 10, 0 }, { 4, 512u << 10, 0 }, { 4, 1u << 20, 0 }, { 8, 1u << 20, 0 }, { 16, 1u << 20, 0 },
	{ 8, 2u << 20, 0 },
};

#define NR_GRID PENSTOCK_ARRAY_SIZE(grid)

struct job {
	struct penstock_ring *ring;
	const struct penstock_file *file;
	struct penstock_mem memory;
	char *mem;
	/* reads lie between these, at multiples of the file's alignment */
	uint64_t first;
	uint64_t end;
	uint64_t stop;	/* of the part itself; @end is aligned */
	uint64_t seed;
	uint64_t landed;
	struct penstock_read reads[MAX_DEPTH];
};

static uint64_t product(const struct penstock_tune_point *p)
{
	return (uint64_t)p->depth * p->split;
}

static bool better(const struct penstock_tune_point *a, const struct penstock_tune_point *b)
{
	if (product(a) != product(b))
		return product(a) < product(b);
	if (a->split != b->split)
		return a->split > b->split;
	return a->bytes_per_s > b->bytes_per_s;
}

int penstock_tune_choose(const struct penstock_tune_point *points, uint32_t nr)
{
	uint64_t best = 0;
	int chosen = -1;
	uint32_t i;

	for (i = 0; i < nr; i++)
		best = penstock_max_u64(best, points[i].bytes_per_s);
	for (i = 0; best && i < nr; i++) {
		if ((double)points[i].bytes_per_s < (double)best * (1 - PENSTOCK_TUNE_SLACK))
			continue;
		if (chosen < 0 || better(&points[i], &points[chosen]))
			chosen = (int)i;
	}
	return chosen;
}

/* Another read of @len bytes, or of what there is, from a random place to the next one in memory. */
static void aim(struct job *j, struct penstock_read *r, uint32_t len)
{
	uint64_t align = j->file->align, room = j->end - j->first, off = j->first;

	if (room > len)
		off += penstock_align_down(penstock_random_u64(&j->seed) % (room - len + 1), align);
	else
		len = (uint32_t)room;
	*r = (struct penstock_read){ .buf = 0, .off = off, .len = len };
	r->need = (uint32_t)penstock_min_u64(len, j->stop - off);
	if (j->landed + len > SCRATCH)
		j->landed = 0;
	r->dst = j->mem + j->landed;
	j->landed += penstock_align_up(len, PENSTOCK_MEM_ALIGN);
}

static int reap(struct job *j, struct penstock_read **got, struct penstock_error *err)
{
	struct penstock_read *r;
	int nr = penstock_ring_reap(j->ring, UINT64_MAX, got);

	if (nr < 0)
		return penstock_err(err, nr, "measuring %s: %s: %s", j->file->path, penstock_ring_name(j->ring),
				    penstock_ring_why(j->ring));
	for (r = *got; r; r = r->next)
		if (r->status)
			return penstock_err(err, r->status, "measuring: read %s off %" PRIu64 " len %u", j->file->path,
					    r->off, r->len);
	return nr;
}

/* No read may be in flight when the memory goes. */
static void drain(struct job *j)
{
	struct penstock_read *got;

	while (penstock_ring_in_flight(j->ring))
		if (penstock_ring_reap(j->ring, UINT64_MAX, &got) < 0)
			return;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int measure_latency(struct job *j, uint64_t deadline, uint64_t *latency_ns, struct penstock_error *err)
{
	uint64_t ns[LATENCY_READS], begin;
	struct penstock_read *got;
	uint32_t nr = 0;
	int ret;

	do {
		aim(j, &j->reads[0], SMALL_READ);
		begin = penstock_now_ns();
		penstock_ring_submit(j->ring, &j->reads[0]);
		do {
			ret = reap(j, &got, err);
		} while (!ret);
		if (ret < 0)
			return ret;
		ns[nr++] = penstock_now_ns() - begin;
	} while (nr < LATENCY_READS && penstock_now_ns() < deadline);
	qsort(ns, nr, sizeof(*ns), by_value);
	*latency_ns = ns[nr / 2];
	return 0;
}

/*
 * Keep @depth reads in flight for @window_ns, then let them run out: all that arrived, by
 * the time from the first submission to the last arrival. A cut through the stream would
 * be wrong by up to a round, since reads that are served side by side arrive in bunches.
 */
static int measure_point(struct job *j, struct penstock_tune_point *p, uint64_t window_ns, struct penstock_error *err)
{
	uint64_t begin = penstock_now_ns(), now = begin, bytes = 0, started = p->depth;
	struct penstock_read *got, *next;
	uint32_t i;
	int ret;

	for (i = 0; i < p->depth; i++) {
		aim(j, &j->reads[i], p->split);
		penstock_ring_submit(j->ring, &j->reads[i]);
	}
	while (penstock_ring_in_flight(j->ring)) {
		ret = reap(j, &got, err);
		if (ret < 0)
			return ret;
		now = penstock_now_ns();
		for (; got; got = next) {
			next = got->next;
			bytes += got->need;
			if (now - begin >= window_ns && started >= (uint64_t)LEAST_ROUNDS * p->depth)
				continue;
			started++;
			aim(j, got, p->split);
			penstock_ring_submit(j->ring, got);
		}
	}
	p->bytes_per_s = (uint64_t)((double)bytes * 1e9 / (double)penstock_max_u64(now - begin, 1));
	return 0;
}

/*
 * One pass over the grid. What is left is shared by the points left. One whose rounds
 * would take more than all that is left, at the speed seen so far, ends the series.
 */
static int measure_pass(struct job *j, uint64_t deadline, struct penstock_tune_point *points,
			struct penstock_error *err)
{
	uint64_t now, window, fastest = 0;
	double least_ns;
	uint32_t i;
	int ret;

	for (i = 0; i < NR_GRID; i++) {
		fastest = penstock_max_u64(fastest, points[i].bytes_per_s);
		now = penstock_now_ns();
		least_ns = fastest ? (LEAST_ROUNDS + 1.0) * (double)product(&points[i]) * 1e9 / (double)fastest : 0;
		if (fastest && (now >= deadline || least_ns > (double)(deadline - now)))
			return 0;
		window = now < deadline ? (deadline - now) / (NR_GRID - i) : 0;
		/* the reads in flight at the end of a window run out after it */
		window -= penstock_min_u64(window / 2, (uint64_t)least_ns / (LEAST_ROUNDS + 1));
		ret = measure_point(j, &points[i], window, err);
		if (ret)
			return ret;
	}
	return 0;
}

/* A point's rate is the median of the passes that measured it: drives have lucky and unlucky moments. */
static uint64_t median_of(struct penstock_tune_point passes[PASSES][NR_GRID], uint32_t nr)
{
	uint64_t rates[PASSES];
	uint32_t i, n = 0;

	for (i = 0; i < PASSES; i++)
		if (passes[i][nr].bytes_per_s)
			rates[n++] = passes[i][nr].bytes_per_s;
	if (!n)
		return 0;
	qsort(rates, n, sizeof(*rates), by_value);
	return rates[(n - 1) / 2];
}

/* Passes take turns over all points, so that a bad moment does not fall on one of them alone. */
static int measure_grid(struct job *j, uint64_t begin, uint64_t deadline, struct penstock_tune_point *points,
			struct penstock_error *err)
{
	struct penstock_tune_point passes[PASSES][NR_GRID];
	uint64_t all = deadline > begin ? deadline - begin : 0;
	uint32_t i;
	int ret;

	for (i = 0; i < PASSES; i++) {
		memcpy(passes[i], grid, sizeof(grid));
		ret = measure_pass(j, begin + all * (i + 1) / PASSES, passes[i], err);
		if (ret)
			return ret;
	}
	memcpy(points, grid, sizeof(grid));
	for (i = 0; i < NR_GRID; i++)
		points[i].bytes_per_s = median_of(passes, i);
	return 0;
}

/*
 * The fastest of many short windows was lucky: what is reported is a longer window
 * of its own, with the depth and split that were chosen.
 */
static int measure(struct job *j, uint64_t begin, uint64_t budget_ns, struct penstock_tune *out,
		   struct penstock_error *err)
{
	struct penstock_tune_point points[NR_GRID], confirm;
	int chosen, ret;

	ret = measure_latency(j, begin + budget_ns / 8, &out->latency_ns, err);
	if (!ret)
		ret = measure_grid(j, penstock_now_ns(), begin + budget_ns / 4 * 3, points, err);
	if (ret)
		return ret;
	chosen = penstock_tune_choose(points, NR_GRID);
	if (chosen < 0)
		return penstock_err(err, -EIO, "measuring %s: no read has brought anything", j->file->path);
	confirm = points[chosen];
	ret = measure_point(j, &confirm, budget_ns / 4, err);
	if (ret)
		return ret;
	out->depth = confirm.depth;
	out->split = confirm.split;
	out->bytes_per_s = confirm.bytes_per_s;
	out->spent_ns = penstock_now_ns() - begin;
	return 0;
}

/* Aligned places within the part; its last block may end past the end of the file. */
static int set_part(struct job *j, uint64_t off, uint64_t len, struct penstock_error *err)
{
	uint64_t end;

	if (j->file->dfd < 0)
		return penstock_err(err, -EINVAL, "measuring %s: it has not been probed", j->file->path);
	if (!len || penstock_add_overflows(off, len, &end) || end > j->file->size)
		return penstock_err(err, -EINVAL, "measuring %s off %" PRIu64 " len %" PRIu64 ": the file has %" PRIu64,
				    j->file->path, off, len, j->file->size);
	j->first = penstock_align_down(off, j->file->align);
	j->end = penstock_align_up(end, j->file->align);
	j->stop = end;
	return 0;
}

static void close_job(struct job *j)
{
	if (!j)
		return;
	if (j->ring)
		drain(j);
	penstock_ring_close(j->ring);
	penstock_mem_free(&j->memory);
	free(j);
}

/* Ring and memory to measure with; *out is to be closed in any case. */
static int open_job(const struct penstock_store *s, uint32_t file, uint64_t off, uint64_t len,
		    const struct penstock_ring_ops *ops, int numa_node, struct job **out, struct penstock_error *err)
{
	struct job *j;
	int ret;

	if (file >= s->nr_files)
		return penstock_err(err, -EINVAL, "measuring file %u of %u", file, s->nr_files);
	j = calloc(1, sizeof(*j));
	if (!j)
		return penstock_err(err, -ENOMEM, "measuring: %zu bytes", sizeof(*j));
	*out = j;
	j->file = &s->files[file];
	/* other places each time: what was read before may be in a cache below us */
	j->seed = penstock_now_ns() | 1;
	ret = set_part(j, off, len, err);
	if (!ret)
		ret = penstock_mem_alloc(SCRATCH, numa_node, 0, &j->memory, err);
	if (ret)
		return ret;
	j->mem = j->memory.base;
	ret = penstock_ring_open(ops, MAX_DEPTH, &j->ring, err);
	if (ret)
		return ret;
	ret = penstock_ring_set_files(j->ring, &j->file->dfd, 1);
	if (ret)
		return penstock_err(err, ret, "measuring %s: its descriptor", j->file->path);
	/* refused: the ring reads without */
	(void)penstock_ring_set_buffer(j->ring, 0, j->memory.base, j->memory.len);
	return 0;
}

int penstock_tune_drive(const struct penstock_store *s, uint32_t file, uint64_t off, uint64_t len,
			const struct penstock_ring_ops *ops, int numa_node, uint64_t budget_ns,
			struct penstock_tune *out, struct penstock_error *err)
{
	uint64_t begin = penstock_now_ns();
	struct job *j = NULL;
	int ret;

	ret = open_job(s, file, off, len, ops, numa_node, &j, err);
	if (!ret)
		ret = measure(j, begin, budget_ns ? budget_ns : PENSTOCK_TUNE_BUDGET_NS, out, err);
	close_job(j);
	return ret;
}

int penstock_tune_rate(const struct penstock_store *s, uint32_t file, const struct penstock_ring_ops *ops,
		       int numa_node, uint64_t window_ns, struct penstock_tune *t, struct penstock_error *err)
{
	struct penstock_tune_point p = { .depth = t->depth, .split = t->split };
	uint64_t begin = penstock_now_ns();
	struct job *j = NULL;
	int ret;

	if (!p.depth || p.depth > MAX_DEPTH || !p.split || p.split > SCRATCH || p.split % PENSTOCK_MEM_ALIGN)
		return penstock_err(err, -EINVAL, "measuring at depth %u of %u bytes: up to %u of %u", p.depth, p.split,
				    MAX_DEPTH, SCRATCH);
	ret = open_job(s, file, 0, file < s->nr_files ? s->files[file].size : 0, ops, numa_node, &j, err);
	if (!ret)
		ret = measure_latency(j, begin + window_ns / 8, &t->latency_ns, err);
	if (!ret)
		ret = measure_point(j, &p, window_ns, err);
	if (!ret) {
		t->bytes_per_s = p.bytes_per_s;
		t->spent_ns = penstock_now_ns() - begin;
	}
	close_job(j);
	return ret;
}
