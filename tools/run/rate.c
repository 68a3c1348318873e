// SPDX-License-Identifier: MIT
/*
 * The library's own figures come from a few milliseconds each, enough to choose
 * a depth; some drives are faster for so long than they are for a second.
 */
#include "../bench_io.h"
#include "rate.h"

#define SMALL_READ 4096u
#define LANDING_MOST (256ull << 20)

/* Bytes a second of one job, or 0. */
static double measure(const struct bench_io_job *job, bool pread)
{
	struct bench_io_ours *ours = NULL;
	struct bench_io_round round = { 0 };
	struct penstock_error err;
	int rc;

	rc = bench_io_ours_open(job, pread, !job->direct, &ours, &err);
	if (rc)
		return 0;
	rc = bench_io_ours_run(ours, &round, &err);
	bench_io_ours_close(ours);
	return rc ? 0 : round.bytes_per_s;
}

/* The file of the largest tensor: routed experts, or as good. */
static const char *largest_file(struct run_session *s)
{
	struct penstock_tensor t, most = { 0 };
	uint32_t i;

	for (i = 0; i < s->info.nr_tensors; i++)
		if (!penstock_tensor_at(s->model, i, &t) && t.bytes > most.bytes)
			most = t;
	return most.file;
}

void run_rate_measure(struct run_session *s, struct run_rate *rate)
{
	struct penstock_status st = { .size = sizeof(st) };
	struct bench_io_job job = { .jobs = 1, .seconds = 1 };
	double rate_now, small_now;
	bool pread;

	*rate = (struct run_rate){ 0 };
	if (penstock_status(s->ctx, &st) || !st.drive_bytes_per_s)
		return;
	*rate = (struct run_rate){ st.drive_bytes_per_s, st.drive_latency_ns };
	job.path = largest_file(s);
	if (!job.path || run_interrupted())
		return;
	pread = st.io_engine[0] == 'p';
	job.direct = st.direct[0] == 'd';
	/* as the slots: not in memory that the CPU's cache still holds */
	job.landing = s->info.cache_bytes < LANDING_MOST ? s->info.cache_bytes : LANDING_MOST;
	job.block = st.split_bytes;
	job.depth = st.queue_depth;
	rate_now = measure(&job, pread);
	job.landing = 0;
	job.block = SMALL_READ;
	job.depth = 1;
	small_now = measure(&job, pread);
	if (rate_now > 0 && small_now > 0)
		*rate = (struct run_rate){ (uint64_t)rate_now, (uint64_t)(SMALL_READ / small_now * 1e9) };
}
