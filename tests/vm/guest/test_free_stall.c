// SPDX-License-Identifier: MIT
/*
 * Does freeing a large region stall others?
 *
 * test_free_stall, on a lane with icount (insn.h): a thread of real-time
 * priority wakes every 20 us on the only CPU, while another one frees a region
 * that is mapped. A window is such a free, or as long a loop; counted is how
 * late the thread was at most: the longest that freeing keeps the CPU to itself.
 * Reads into other regions wait for no more than that, since they take no lock.
 *
 * No drive is in it, for its answers come when the host's scheduler lets them.
 * Windows are compared by the median of their worst; kinds of windows alternate.
 */
#include <pthread.h>
#include <sched.h>
#include "cmd.h"
#include "memory.h"
#include "read.h"
#include "insn.h"

#define ROUNDS		25
#define TICK_NS	20000
#define LOOP_NS	2000000
#define SAMPLES		(1U << 16)
/* Instructions that others may wait for it, whatever all of it takes: millions. */
#define WAIT		100000

enum kind { LOOP, HOST, BAR, NR_KINDS };
static const char *const kind_names[] = { "loop", "host", "bar" };
static const uint64_t kind_len[] = { 0, 256 * MIB, 16 * MIB };

static int node;
static bool stop;
/* Times that the thread woke, and how late the last ones were. */
static uint64_t nr_woken;
static uint32_t late[SAMPLES];

static void *wake_for_ever(void *arg)
{
	const struct timespec pause = { .tv_nsec = TICK_NS };

	while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST)) {
		uint64_t begin = insn_clock(), nr = nr_woken;

		clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
		late[nr % SAMPLES] = (uint32_t)(insn_clock() - begin - TICK_NS);
		__atomic_store_n(&nr_woken, nr + 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static uint64_t woken(void)
{
	return __atomic_load_n(&nr_woken, __ATOMIC_SEQ_CST);
}

/* Until the thread has woken twice: what is late then was late for what came before, or is over. */
static void wait_twice(void)
{
	uint64_t first = woken();

	while (woken() < first + 2)
		;
}

/* A region of that kind, each page of it mapped. */
static int region_make(enum kind kind, struct dest *d)
{
	int ret = kind == BAR ? dest_bar(node, kind_len[kind], d)
			      : dest_alloc(node, "host", kind_len[kind], 9, d);

	for (uint64_t at = 0; !ret && at < d->len; at += PAGE)
		*(volatile uint8_t *)(d->map + at) = 1;
	return ret;
}

static int region_end(struct dest *d)
{
	return region_free(node, d->id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
}

/* What freeing one costs when nothing else runs. */
static double cost_of(enum kind kind)
{
	struct insn begin;
	struct dest d;

	if (region_make(kind, &d))
		return -1;
	begin = insn_start();
	if (region_end(&d))
		return -1;
	munmap(d.map, d.len);
	return (double)insn_since(begin);
}

/* How late it was at most in one window. */
static int window(enum kind kind, double *latest, uint64_t *wakes)
{
	struct dest d = {};
	uint64_t first, last, begin;
	int ret = 0;

	if (kind != LOOP)
		ret = region_make(kind, &d);
	if (ret)
		return ret;
	wait_twice();
	first = woken();
	begin = insn_clock();
	while (kind == LOOP && insn_clock() - begin < LOOP_NS)
		;
	if (kind != LOOP)
		ret = region_end(&d);
	last = woken();
	wait_twice();
	*latest = 0;
	for (uint64_t i = first; i <= last; i++)
		if (late[i % SAMPLES] > *latest)
			*latest = late[i % SAMPLES];
	*wakes += last - first;
	if (kind != LOOP)
		munmap(d.map, d.len);
	return last - first < SAMPLES ? ret : -EOVERFLOW;
}

static int start(pthread_t *thread)
{
	struct sched_param priority = { .sched_priority = 10 };
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
	pthread_attr_setschedpolicy(&attr, SCHED_FIFO);
	pthread_attr_setschedparam(&attr, &priority);
	return -pthread_create(thread, &attr, wake_for_ever, NULL);
}

static void judge(double latest[NR_KINDS][ROUNDS], const double *cost, const uint64_t *wakes)
{
	double median[NR_KINDS];

	for (int k = 0; k < NR_KINDS; k++) {
		double most = 0;

		for (int i = 0; i < ROUNDS; i++)
			most = latest[k][i] > most ? latest[k][i] : most;
		median[k] = cmd_median(latest[k], ROUNDS);
		printf("# BENCH {\"bench\": \"free_stall\", \"kind\": \"%s\", \"len_bytes\": %llu, \"free\": %.0f, "
		       "\"wakes\": %llu, \"late_median\": %.0f, \"late_most\": %.0f}\n", kind_names[k],
		       (unsigned long long)kind_len[k], cost[k], (unsigned long long)wakes[k], median[k], most);
	}
	for (int k = HOST; k < NR_KINDS; k++) {
		tap(wakes[k] >= 2 * ROUNDS, "%s: another thread runs while a region is freed", kind_names[k]);
		tap(median[k] - median[LOOP] <= WAIT && cost[k] > 4 * WAIT,
		    "%s: it waits for no more than %d of its %.0f instructions", kind_names[k], WAIT, cost[k]);
	}
}

int main(void)
{
	static double latest[NR_KINDS][ROUNDS];
	double cost[NR_KINDS] = {};
	uint64_t wakes[NR_KINDS] = {};
	const char *icount = getenv("ICOUNT");
	pthread_t thread;
	int ret = 0;

	if (!icount || !*icount) {
		tap_skip("others while regions are freed", "not on a lane with icount");
		return tap_done() ? 1 : 4;
	}
	node = node_open();
	if (!tap(node >= 0, "the node"))
		return tap_done();
	for (int k = HOST; !ret && k < NR_KINDS; k++) {
		cost[k] = cost_of(k);
		ret = cost[k] < 0 ? -EIO : 0;
	}
	if (!ret)
		ret = start(&thread);
	if (!tap(!ret, "a thread wakes again and again (%d)", ret))
		return tap_done();
	for (int i = 0; i < ROUNDS && !ret; i++)
		for (int k = 0; k < NR_KINDS && !ret; k++)
			ret = window(k, &latest[k][i], &wakes[k]);
	__atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
	pthread_join(thread, NULL);
	if (tap(!ret, "regions are freed meanwhile (%d)", ret))
		judge(latest, cost, wakes);
	return tap_done();
}
