// SPDX-License-Identifier: MIT
/*
 * Our half of `penstock bench io`: the library's own ring and landing memory, used
 * as the conductor uses them. Each job is a thread that opens its ring for a round;
 * memory is kept. Time counts from the first submission to the last completion, CPU
 * for the whole process meanwhile, whichever threads the kernel or the engine adds.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "../runtime/err.h"
#include "../runtime/mem.h"
#include "../runtime/ring.h"
#include "../runtime/store.h"
#include "../runtime/util.h"
#include "bench_io.h"

struct worker {
	struct bench_io_ours *o;
	struct penstock_ring *ring;
	struct penstock_mem mem;
	struct penstock_read *reads;
	uint64_t seed;
	uint64_t next;
	uint64_t nr_places; /* blocks of the landing memory */
	uint64_t place;
	/* of the last round */
	uint64_t bytes;
	uint64_t ns;
	struct penstock_error err;
};

struct bench_io_ours {
	struct bench_io_job job;
	const struct penstock_ring_ops *ops;
	struct penstock_store store;
	uint64_t nr_blocks;
	/* held while threads are started: all of them reach the barrier, or none */
	pthread_mutex_t gate;
	bool abandoned;
	/* all workers and the caller meet here: ready, go, done, leave */
	pthread_barrier_t meet;
	char engine[32];
	char engine_why[512];
	uint32_t nr_workers;
	struct worker workers[BENCH_IO_MAX_JOBS];
};

static struct penstock_file *file_of(const struct bench_io_ours *o)
{
	return &o->store.files[0];
}

static int add_worker(struct bench_io_ours *o, struct penstock_error *err)
{
	struct worker *w = &o->workers[o->nr_workers];

	w->o = o;
	w->seed = 0x9e3779b97f4a7c15u + o->nr_workers;
	w->next = o->nr_blocks / o->job.jobs * o->nr_workers;
	w->reads = calloc(o->job.depth, sizeof(*w->reads));
	if (!w->reads)
		return penstock_err(err, -ENOMEM, "%u reads", o->job.depth);
	o->nr_workers++;
	w->nr_places = penstock_max_u64(o->job.landing / o->job.block, o->job.depth);
	return penstock_mem_alloc(o->job.block * w->nr_places, penstock_mem_node_of_file(file_of(o)->fd), 0, &w->mem,
				  err);
}

int bench_io_ours_open(const struct bench_io_job *job, bool pread, bool buffered, struct bench_io_ours **out,
		       struct penstock_error *err)
{
	struct bench_io_ours *o = calloc(1, sizeof(*o));
	uint32_t file, i;
	int ret;

	if (!o)
		return penstock_err(err, -ENOMEM, "bench io: %zu bytes", sizeof(*o));
	o->job = *job;
	pthread_mutex_init(&o->gate, NULL);
	o->ops = pread ? &penstock_ring_pread : NULL;
	ret = penstock_store_add(&o->store, job->path, &file, err);
	if (!ret)
		ret = penstock_store_probe(&o->store, file, buffered, err);
	if (ret)
		goto err_close;
	o->nr_blocks = file_of(o)->size / job->block;
	if (!o->nr_blocks || job->block % file_of(o)->align) {
		ret = penstock_err(err, -EINVAL, "%s: %" PRIu64 " bytes in blocks of %" PRIu64 " at multiples of %u",
				   job->path, file_of(o)->size, job->block, file_of(o)->align);
		goto err_close;
	}
	for (i = 0; !ret && i < job->jobs; i++)
		ret = add_worker(o, err);
	if (ret)
		goto err_close;
	*out = o;
	return 0;

err_close:
	bench_io_ours_close(o);
	return ret;
}

void bench_io_ours_close(struct bench_io_ours *o)
{
	uint32_t i;

	if (!o)
		return;
	for (i = 0; i < o->nr_workers; i++) {
		penstock_mem_free(&o->workers[i].mem);
		free(o->workers[i].reads);
	}
	penstock_store_close(&o->store);
	pthread_mutex_destroy(&o->gate);
	free(o);
}

/* Registered buffers hold whole blocks. */
static uint64_t piece_of(const struct bench_io_job *job)
{
	return PENSTOCK_READ_MAX / job->block * job->block;
}

/* A ring for one round. Memory is registered in pieces that the kernel takes, cut at reads. */
static int open_ring(struct worker *w)
{
	const struct bench_io_job *job = &w->o->job;
	uint64_t len = job->block * w->nr_places, piece = piece_of(job), at;
	uint32_t i, nr = 0;
	int ret;

	ret = penstock_ring_open(w->o->ops, job->depth, &w->ring, &w->err);
	if (ret)
		return ret;
	ret = penstock_ring_set_files(w->ring, &file_of(w->o)->dfd, 1);
	if (ret)
		return penstock_err(&w->err, ret, "ring: its file");
	/* a refusal is in penstock_ring_why() */
	for (at = 0; at < len; at += piece)
		(void)penstock_ring_set_buffer(w->ring, nr++, (char *)w->mem.base + at,
					       penstock_min_u64(len - at, piece));
	for (i = 0; i < job->depth; i++)
		w->reads[i].next = i + 1 < job->depth ? &w->reads[i + 1] : NULL;
	return 0;
}

static uint64_t next_block(struct worker *w)
{
	if (w->o->job.sequential)
		return w->next++ % w->o->nr_blocks;
	return penstock_random_u64(&w->seed) % w->o->nr_blocks;
}

static void aim(struct worker *w, struct penstock_read *r)
{
	r->off = next_block(w) * w->o->job.block;
	r->len = (uint32_t)w->o->job.block;
	r->need = r->len;
	r->dst = (char *)w->mem.base + w->place * r->len;
	r->buf = (int32_t)(w->place * r->len / piece_of(&w->o->job));
	w->place = (w->place + 1) % w->nr_places;
}

/* Account for what came, and send all of it out again while there is time. */
static int turn(struct worker *w, struct penstock_read *got, bool more)
{
	struct penstock_read *r;

	for (r = got; r; r = r->next) {
		if (r->status)
			return penstock_err(&w->err, r->status, "read %s off %" PRIu64 " len %u", w->o->job.path,
					    r->off, r->len);
		w->bytes += r->done;
		if (more)
			aim(w, r);
	}
	if (more && penstock_ring_submit(w->ring, got))
		return penstock_err(&w->err, -EBUSY, "the ring took less than its depth");
	return 0;
}

static void do_round(struct worker *w)
{
	uint64_t begin = penstock_now_ns(), end = begin + w->o->job.seconds * 1000000000ull, now = begin;
	struct penstock_read *got;
	uint32_t i;
	int nr;

	for (i = 0; i < w->o->job.depth; i++)
		aim(w, &w->reads[i]);
	if (penstock_ring_submit(w->ring, w->reads)) {
		penstock_err(&w->err, -EBUSY, "the ring took less than its depth");
		return;
	}
	while (penstock_ring_in_flight(w->ring)) {
		nr = penstock_ring_reap(w->ring, UINT64_MAX, &got);
		if (nr < 0) {
			penstock_err(&w->err, nr, "ring: %s", penstock_ring_why(w->ring));
			return;
		}
		now = penstock_now_ns();
		/* after an error what is in flight runs out */
		turn(w, got, now < end && !w->err.code);
	}
	w->ns = now - begin;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	bool abandoned;
	int ret;

	pthread_mutex_lock(&w->o->gate);
	abandoned = w->o->abandoned;
	pthread_mutex_unlock(&w->o->gate);
	if (abandoned)
		return NULL;
	penstock_err_clear(&w->err);
	w->bytes = 0;
	w->ns = 1;
	w->ring = NULL;
	ret = open_ring(w);
	pthread_barrier_wait(&w->o->meet);
	pthread_barrier_wait(&w->o->meet);
	if (!ret)
		do_round(w);
	pthread_barrier_wait(&w->o->meet);
	pthread_barrier_wait(&w->o->meet);
	if (w == &w->o->workers[0] && !ret) {
		snprintf(w->o->engine, sizeof(w->o->engine), "%s", penstock_ring_name(w->ring));
		snprintf(w->o->engine_why, sizeof(w->o->engine_why), "%s", penstock_ring_why(w->ring));
	}
	penstock_ring_close(w->ring);
	return NULL;
}

static double cpu_s(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* All jobs at once. Return: CPU seconds of the process while they read. */
static double run_jobs(struct bench_io_ours *o, const pthread_t *threads)
{
	double cpu;
	uint32_t i;

	pthread_barrier_wait(&o->meet);
	cpu = cpu_s();
	pthread_barrier_wait(&o->meet);
	pthread_barrier_wait(&o->meet);
	cpu = cpu_s() - cpu;
	pthread_barrier_wait(&o->meet);
	for (i = 0; i < o->job.jobs; i++)
		pthread_join(threads[i], NULL);
	return cpu;
}

static int start_jobs(struct bench_io_ours *o, pthread_t *threads, struct penstock_error *err)
{
	uint32_t nr = 0;
	int ret = 0;

	pthread_mutex_lock(&o->gate);
	while (nr < o->job.jobs && !ret) {
		ret = -pthread_create(&threads[nr], NULL, work, &o->workers[nr]);
		nr += !ret;
	}
	o->abandoned = ret;
	pthread_mutex_unlock(&o->gate);
	if (!ret)
		return 0;
	penstock_err(err, ret, "thread %u of %u", nr, o->job.jobs);
	while (nr)
		pthread_join(threads[--nr], NULL);
	return ret;
}

int bench_io_ours_run(struct bench_io_ours *o, struct bench_io_round *r, struct penstock_error *err)
{
	pthread_t threads[BENCH_IO_MAX_JOBS];
	uint64_t bytes = 0, ns = 1;
	double cpu;
	uint32_t i;
	int ret;

	ret = -pthread_barrier_init(&o->meet, NULL, o->job.jobs + 1);
	if (ret)
		return penstock_err(err, ret, "bench io: a barrier");
	ret = start_jobs(o, threads, err);
	cpu = ret ? 0 : run_jobs(o, threads);
	pthread_barrier_destroy(&o->meet);
	for (i = 0; !ret && i < o->job.jobs; i++) {
		bytes += o->workers[i].bytes;
		ns = penstock_max_u64(ns, o->workers[i].ns);
		ret = o->workers[i].err.code;
		if (ret && err)
			*err = o->workers[i].err;
	}
	if (ret)
		return ret;
	if (!bytes)
		return penstock_err(err, -EIO, "nothing was read of %s", o->job.path);
	r->bytes_per_s = (double)bytes * 1e9 / (double)ns;
	r->cpu_s_per_gb = cpu / ((double)bytes / 1e9);
	return 0;
}

bool bench_io_ours_direct(const struct bench_io_ours *o)
{
	return file_of(o)->mode != PENSTOCK_FILE_BUFFERED;
}

const char *bench_io_ours_why(const struct bench_io_ours *o)
{
	return file_of(o)->why;
}

const char *bench_io_ours_engine(const struct bench_io_ours *o)
{
	return o->engine;
}

const char *bench_io_ours_engine_why(const struct bench_io_ours *o)
{
	return o->engine_why;
}

uint64_t bench_io_ours_page_size(const struct bench_io_ours *o)
{
	return o->workers[0].mem.page_size;
}

const char *bench_io_ours_page_why(const struct bench_io_ours *o)
{
	return o->workers[0].mem.why;
}
