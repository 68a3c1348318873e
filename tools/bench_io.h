/* SPDX-License-Identifier: MIT */
/* `penstock bench io`: one job described once, done by our ring and by fio. */
#ifndef PENSTOCK_BENCH_IO_H
#define PENSTOCK_BENCH_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <penstock/penstock.h>

#define BENCH_IO_MAX_JOBS	16u
#define BENCH_IO_MAX_DEPTH	1024u

/**
 * struct bench_io_job - reads of one size, kept in flight for a time
 * @path: the file
 * @block: bytes of a read; reads start at multiples of it
 * @depth: reads in flight of each job
 * @jobs: threads that do the same at once
 * @seconds: how long
 * @sequential: in order, else at random
 * @direct: past the page cache
 * @landing: bytes that the reads of ours land in, one after the other; 0 = block * depth, as fio does.
 *	As much as a cache has, they land in memory that is in no CPU's cache, which takes longer
 */
struct bench_io_job {
	const char *path;
	uint64_t block;
	uint32_t depth;
	uint32_t jobs;
	uint32_t seconds;
	bool sequential;
	bool direct;
	uint64_t landing;
};

/**
 * struct bench_io_round - what came of it
 * @bytes_per_s: throughput of all jobs
 * @cpu_s_per_gb: user and system time of the jobs' threads, for 10^9 bytes
 */
struct bench_io_round {
	double bytes_per_s;
	double cpu_s_per_gb;
};

struct bench_io_ours;

/** bench_io_ours_open() - the file, a ring and landing memory for each job. Return: 0 or -errno */
int bench_io_ours_open(const struct bench_io_job *job, bool pread, bool buffered, struct bench_io_ours **out,
		       struct penstock_error *err);
/** bench_io_ours_run() - one round. Return: 0 or -errno */
int bench_io_ours_run(struct bench_io_ours *o, struct bench_io_round *r, struct penstock_error *err);
void bench_io_ours_close(struct bench_io_ours *o);
bool bench_io_ours_direct(const struct bench_io_ours *o);
/** bench_io_ours_why() - why the file is not read directly, "" if it is */
const char *bench_io_ours_why(const struct bench_io_ours *o);
const char *bench_io_ours_engine(const struct bench_io_ours *o);
const char *bench_io_ours_engine_why(const struct bench_io_ours *o);
uint64_t bench_io_ours_page_size(const struct bench_io_ours *o);
const char *bench_io_ours_page_why(const struct bench_io_ours *o);

/**
 * struct bench_io_fio - fio, and the memory that it is given
 * @page_size: 2097152 if there are enough pages in the pool, else 4096
 * @page_why: how that came about; static storage
 * @restore: pages that the pool had, to be put back; -1 = unchanged
 */
struct bench_io_fio {
	uint64_t page_size;
	const char *page_why;
	int64_t restore;
};

/** bench_io_fio_prepare() - see that there are 2 MiB pages for @bytes; root fills the pool for it */
void bench_io_fio_prepare(struct bench_io_fio *f, uint64_t bytes);
/** bench_io_fio_without_huge() - fio failed: try 4 KiB pages. Return: whether it had others */
bool bench_io_fio_without_huge(struct bench_io_fio *f);
/** bench_io_fio_restore() - put the pool back as it was */
void bench_io_fio_restore(struct bench_io_fio *f);
/** bench_io_fio_run() - one round. Return: 0; -ENOENT no fio; -EPROTO its answer is not understood; -EIO it failed */
int bench_io_fio_run(const struct bench_io_fio *f, const struct bench_io_job *job, struct bench_io_round *r,
		     struct penstock_error *err);
/** bench_io_fio_parse() - fio's JSON, after whatever it printed before. Return: 0; -EPROTO; -EIO its jobs failed */
int bench_io_fio_parse(const char *text, uint32_t jobs, struct bench_io_round *r, struct penstock_error *err);

#endif
