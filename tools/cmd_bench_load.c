// SPDX-License-Identifier: MIT
/*
 * `penstock bench load`: read all experts of a model once, in order, through
 * fetch and release, with several tickets on their way at a time. Each round
 * opens the model anew, so that nothing of it is in the slots; the drive's cache
 * and, where files cannot be read past it, the page cache are as they are.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <penstock/penstock.h>

#include "cmd.h"
#include "out.h"

#define MAX_TICKETS 64u
#define MAX_ROUNDS 100u
#define DEFAULT_TICKET (32ull << 20)
#define GB 1e9

struct args {
	const char *model;
	uint64_t cache_bytes;
	uint64_t ticket_bytes;
	uint32_t rounds;
	uint32_t depth;
	uint64_t split;
	bool no_direct;
	bool no_uring;
	bool json;
};

/* One round, measured around the reads only. */
struct round {
	double open_s;
	double read_s;
	double user_s;
	double system_s;
	uint64_t bytes; /* wanted */
	uint64_t bytes_read;
	uint64_t experts;
	uint64_t faults; /* minor, while reading: a destination that was not prefaulted takes one a page */
	uint64_t reads;
	double busy_s;
};

struct load {
	const struct args *args;
	struct penstock_ctx *ctx;
	struct penstock_model *model;
	struct penstock_queue *q;
	struct penstock_model_info info;
	struct penstock_ticket *ring[MAX_TICKETS]; /* oldest first, from @head */
	size_t pinned[MAX_TICKETS];
	uint32_t head;
	uint32_t nr;
	size_t pinned_sum;
	struct penstock_error err;
};

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double tv_s(struct timeval tv)
{
	return (double)tv.tv_sec + (double)tv.tv_usec / 1e6;
}

static int queue_fail(struct load *l, int rc)
{
	l->err.code = rc;
	snprintf(l->err.text, sizeof(l->err.text), "%s", penstock_errmsg(l->q));
	return rc;
}

/* The oldest ticket: wait for it, unpin it. */
static int finish_one(struct load *l)
{
	struct penstock_ticket *t = l->ring[l->head];
	int rc;

	rc = penstock_wait(t, UINT64_MAX);
	if (rc)
		queue_fail(l, rc);
	penstock_release(t);
	l->pinned_sum -= l->pinned[l->head];
	l->head = (l->head + 1) % MAX_TICKETS;
	l->nr--;
	return rc;
}

static int start_one(struct load *l, uint32_t layer, const int32_t *ids, size_t nr)
{
	uint32_t at = (l->head + l->nr) % MAX_TICKETS;
	int rc;

	rc = penstock_fetch(l->q, l->model, layer, ids, nr, &l->ring[at]);
	if (rc)
		return queue_fail(l, rc);
	l->pinned[at] = nr;
	l->pinned_sum += nr;
	l->nr++;
	return 0;
}

/*
 * Tickets of about ticket_bytes, as many as the slots hold. Slots are counted as
 * if all layers had the size of this one; where that is too many, a ticket waits
 * in line for the ones before it, and is waited for in that order.
 */
static int read_layer(struct load *l, uint32_t layer, uint64_t *experts)
{
	struct penstock_layer_info li = { .size = sizeof(li) };
	size_t fits, want, n;
	int32_t *ids;
	uint32_t i;
	int rc;

	rc = penstock_layer_info(l->model, layer, &li);
	if (rc || li.kind != PENSTOCK_LAYER_MOE)
		return rc == -ENOENT ? 0 : rc;
	fits = penstock_capacity(l->model, layer);
	want = l->args->ticket_bytes / li.expert_bytes;
	/* Two tickets must fit, or there is nothing to overlap. */
	want = want > fits / 2 ? fits / 2 : want;
	want = want ? want : 1;
	ids = malloc(li.nr_experts * sizeof(*ids));
	if (!ids)
		return -ENOMEM;
	for (i = 0; i < li.nr_experts; i++)
		ids[i] = (int32_t)i;
	for (i = 0; !rc && i < li.nr_experts; i += n) {
		n = li.nr_experts - i < want ? li.nr_experts - i : want;
		while (!rc && l->nr && (l->nr == MAX_TICKETS || l->pinned_sum + n > fits))
			rc = finish_one(l);
		if (!rc)
			rc = start_one(l, layer, ids + i, n);
	}
	*experts += li.nr_experts;
	free(ids);
	return rc;
}

static void load_close(struct load *l)
{
	for (; l->nr; l->nr--, l->head = (l->head + 1) % MAX_TICKETS)
		penstock_release(l->ring[l->head]);
	penstock_queue_destroy(l->q);
	penstock_model_close(l->model);
	penstock_close(l->ctx);
}

static int load_open(struct load *l, const struct args *args)
{
	struct penstock_options opts = PENSTOCK_OPTIONS_INIT;
	int rc;

	memset(l, 0, sizeof(*l));
	l->args = args;
	opts.cache_bytes = args->cache_bytes;
	opts.queue_depth = args->depth;
	opts.split_bytes = (uint32_t)args->split;
	opts.flags = (args->no_direct ? PENSTOCK_F_NO_DIRECT : 0) | (args->no_uring ? PENSTOCK_F_NO_URING : 0);
	rc = penstock_open(&opts, &l->ctx, &l->err);
	if (!rc)
		rc = penstock_model_open(l->ctx, args->model, NULL, &l->model, &l->err);
	if (!rc)
		rc = penstock_queue_create(l->ctx, &l->q);
	l->info.size = sizeof(l->info);
	if (!rc)
		rc = penstock_model_info(l->model, &l->info);
	return rc;
}

static int measure(struct load *l, struct round *r)
{
	struct penstock_stats st = { .size = sizeof(st) };
	struct rusage before, after;
	double start;
	uint32_t i;
	int rc = 0;

	getrusage(RUSAGE_SELF, &before);
	start = now_s();
	for (i = 0; !rc && i < l->info.nr_layers; i++)
		rc = read_layer(l, i, &r->experts);
	while (!rc && l->nr)
		rc = finish_one(l);
	r->read_s = now_s() - start;
	getrusage(RUSAGE_SELF, &after);
	if (!rc)
		rc = penstock_stats(l->ctx, &st);
	if (rc)
		return rc;
	r->user_s = tv_s(after.ru_utime) - tv_s(before.ru_utime);
	r->system_s = tv_s(after.ru_stime) - tv_s(before.ru_stime);
	r->faults = (uint64_t)(after.ru_minflt - before.ru_minflt);
	r->bytes = st.bytes_wanted;
	r->bytes_read = st.bytes_read;
	r->reads = st.reads;
	r->busy_s = (double)st.io_busy_ns / 1e9;
	return 0;
}

static double speed(const struct round *r)
{
	return (double)r->bytes / r->read_s / GB;
}

static double cpu(const struct round *r)
{
	return (r->user_s + r->system_s) / ((double)r->bytes / GB);
}

static void report_rounds(struct out *o, const struct round *rounds, uint32_t nr)
{
	uint32_t i;

	out_rows_begin(o, "rounds", "rounds");
	for (i = 0; i < nr; i++) {
		out_row_begin(o);
		out_f64(o, "open s", "open_s", rounds[i].open_s, 3, "");
		out_f64(o, "read s", "read_s", rounds[i].read_s, 3, "");
		out_f64(o, "GB/s", "gb_s", speed(&rounds[i]), 3, "");
		out_f64(o, "user s/GB", "user_s_per_gb", rounds[i].user_s / ((double)rounds[i].bytes / GB), 4, "");
		out_f64(o, "system s/GB", "system_s_per_gb", rounds[i].system_s / ((double)rounds[i].bytes / GB), 4,
			"");
		out_u64(o, "faults", "minor_faults", rounds[i].faults);
		out_row_end(o);
	}
	out_rows_end(o);
}

static int report(struct load *l, const struct round *rounds, uint32_t nr)
{
	struct penstock_status st = { .size = sizeof(st) };
	const struct round *last = &rounds[nr - 1];
	double gb_s[MAX_ROUNDS], cpu_s[MAX_ROUNDS];
	struct out *o;
	uint32_t i;

	if (penstock_status(l->ctx, &st))
		return cmd_error("bench load", CMD_FAILED, "no status of the context");
	o = out_begin("penstock.bench_load/1", l->args->json);
	if (!o)
		return cmd_error("bench load", CMD_IMPOSSIBLE, "out of memory");
	for (i = 0; i < nr; i++) {
		gb_s[i] = speed(&rounds[i]);
		cpu_s[i] = cpu(&rounds[i]);
	}
	out_str(o, "model", "model", l->info.path);
	out_u64(o, "experts", "experts", last->experts);
	out_bytes(o, "bytes", "bytes", last->bytes);
	out_bytes(o, "bytes read", "bytes_read", last->bytes_read);
	out_u64(o, "reads", "reads", last->reads);
	report_rounds(o, rounds, nr);
	out_f64(o, "speed, median", "gb_s", cmd_median(gb_s, nr), 3, "GB/s");
	out_f64(o, "CPU, median", "cpu_s_per_gb", cmd_median(cpu_s, nr), 4, "s/GB");
	/* Not prefaulted, even huge pages would take a fault each; 256 are for what else a process does. */
	out_bool(o, "destinations prefaulted", "prefaulted", last->faults < last->bytes / (2u << 20) / 8 + 256);
	out_bytes(o, "page size of slots", "page_size", st.page_size);
	out_str(o, "page size, why", "page_reason", st.page_reason);
	out_str(o, "I/O engine", "io_engine", st.io_engine);
	out_str(o, *st.io_reason ? "I/O engine, why" : NULL, "io_reason", st.io_reason);
	out_str(o, "files", "direct", st.direct);
	out_str(o, *st.direct_reason ? "files, why" : NULL, "direct_reason", st.direct_reason);
	out_u64(o, "queue depth", "queue_depth", st.queue_depth);
	out_bytes(o, "largest read", "split_bytes", st.split_bytes);
	out_f64(o, "drive", "drive_gb_s", (double)st.drive_bytes_per_s / GB, 3, "GB/s");
	return cmd_out_end("bench load", o, CMD_GOOD);
}

static void usage(FILE *f)
{
	fputs("usage: penstock bench load MODEL [OPTION]...\n"
	      "\n"
	      "Read all experts of a model once, in order; each round opens it anew.\n"
	      "\n"
	      "  --rounds N      rounds (1)\n"
	      "  --cache SIZE    memory for slots (512M)\n"
	      "  --ticket SIZE   experts asked for at once, in bytes (32M)\n"
	      "  --depth N       reads in flight (measured)\n"
	      "  --split SIZE    largest read (measured)\n"
	      "  --buffered      read through the page cache\n"
	      "  --pread         without io_uring\n"
	      "  --json          the result as one JSON object\n"
	      "\n"
	      "example: penstock bench load ~/models/OLMoE-1B-7B --rounds 5\n",
	      f);
}

static int parse(int argc, char **argv, struct args *a)
{
	static const struct option options[] = {
		{ "rounds", required_argument, NULL, 'r' }, { "cache", required_argument, NULL, 'c' },
		{ "ticket", required_argument, NULL, 't' }, { "buffered", no_argument, NULL, 'b' },
		{ "pread", no_argument, NULL, 'p' },	    { "json", no_argument, NULL, 'j' },
		{ "depth", required_argument, NULL, 'd' },  { "split", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },	    { NULL, 0, NULL, 0 },
	};
	uint64_t n;
	int c;

	*a = (struct args){ .cache_bytes = 512ull << 20, .ticket_bytes = DEFAULT_TICKET, .rounds = 1 };
	optind = 0;
	while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
		switch (c) {
		case 'r':
			if (cmd_parse_u64(optarg, &n) || !n || n > MAX_ROUNDS)
				return cmd_error("bench load", CMD_USAGE,
						 "--rounds %s: a number from 1 to %u is wanted", optarg, MAX_ROUNDS);
			a->rounds = (uint32_t)n;
			break;
		case 'c':
		case 't':
		case 's':
			if (cmd_parse_size(optarg, c == 'c'   ? &a->cache_bytes
						   : c == 't' ? &a->ticket_bytes
							      : &a->split) ||
			    a->split > UINT32_MAX)
				return cmd_error("bench load", CMD_USAGE, "%s: a size such as 512M is wanted", optarg);
			break;
		case 'd':
			if (cmd_parse_u64(optarg, &n) || !n || n > 4096)
				return cmd_error("bench load", CMD_USAGE,
						 "--depth %s: a number from 1 to 4096 is wanted", optarg);
			a->depth = (uint32_t)n;
			break;
		case 'b':
			a->no_direct = true;
			break;
		case 'p':
			a->no_uring = true;
			break;
		case 'j':
			a->json = true;
			break;
		case 'h':
			usage(stdout);
			return -1;
		default:
			return cmd_error("bench load", CMD_USAGE, "`penstock bench load --help` lists the options");
		}
	}
	if (optind + 1 != argc)
		return cmd_error("bench load", CMD_USAGE, "one model is wanted");
	a->model = argv[optind];
	return 0;
}

int cmd_bench_load(int argc, char **argv)
{
	struct round rounds[MAX_ROUNDS] = { 0 };
	struct args args;
	struct load *l;
	double start;
	uint32_t i;
	int rc;

	rc = parse(argc, argv, &args);
	if (rc)
		return rc < 0 ? CMD_GOOD : rc;
	l = malloc(sizeof(*l));
	if (!l)
		return cmd_error("bench load", CMD_IMPOSSIBLE, "out of memory");
	for (i = 0; !rc && i < args.rounds; i++) {
		start = now_s();
		rc = load_open(l, &args);
		rounds[i].open_s = now_s() - start;
		if (!rc)
			rc = measure(l, &rounds[i]);
		if (rc || i + 1 < args.rounds)
			load_close(l);
	}
	if (rc) {
		rc = cmd_error("bench load", cmd_exit_code(rc), "%s", l->err.text[0] ? l->err.text : strerror(-rc));
	} else {
		rc = report(l, rounds, args.rounds);
		load_close(l);
	}
	free(l);
	return rc;
}
