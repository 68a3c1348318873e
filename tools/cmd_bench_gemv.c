// SPDX-License-Identifier: MIT
/*
 * `penstock bench gemv`: matrix times vector on the host, against the bandwidth
 * of a plain read loop over the same memory with the same threads. The two take
 * turns, so that whatever else the machine does falls on both; medians are
 * reported.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench_matrix.h"
#include "cmd.h"
#include "../runtime/mem.h"
#include "out.h"

#define MAX_ROUNDS	1000u
#define MAX_TOKENS	4096u
#define MAX_DTYPES	32u

struct args {
	uint32_t dtypes[MAX_DTYPES];
	uint32_t nr_dtypes;
	uint64_t mib;
	uint64_t rows;	/* 0: as many as make @mib */
	uint64_t cols;
	uint64_t threads;
	uint64_t rounds;
	uint64_t tokens;
	int isa;
	bool fast;
	bool json;
};

struct result {
	uint32_t dtype;
	uint32_t rows;
	uint64_t bytes;
	double read_gb_s;
	double gemv_gb_s;
	double gemv_us;
	double ratio;
};

struct bench {
	const struct args *args;
	struct penstock_pool *pool;
	float *x;
	float *y;
	double read_s[MAX_ROUNDS];
	double gemv_s[MAX_ROUNDS];
	volatile uint64_t sink;	/* what was read must be used */
};

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int rounds(struct bench *b, const struct penstock_k_mat *m, const struct penstock_mem *mem, struct result *r)
{
	const struct args *a = b->args;
	double start;
	uint64_t i;
	int rc;

	/* the first round warms up, and counts in neither */
	for (i = 0; i <= a->rounds; i++) {
		start = now_s();
		b->sink = bench_read(b->pool, mem->base, r->bytes);
		if (i)
			b->read_s[i - 1] = now_s() - start;
		start = now_s();
		rc = penstock_k_matmul(b->pool, m, b->x, m->cols, a->tokens, b->y, m->rows);
		if (rc)
			return rc;
		if (i)
			b->gemv_s[i - 1] = now_s() - start;
	}
	r->read_gb_s = (double)r->bytes / cmd_median(b->read_s, a->rounds) / 1e9;
	r->gemv_us = cmd_median(b->gemv_s, a->rounds) * 1e6;
	r->gemv_gb_s = (double)r->bytes / r->gemv_us / 1e3;
	r->ratio = r->gemv_gb_s / r->read_gb_s;
	return 0;
}

static int measure(struct bench *b, struct result *r, struct penstock_error *err)
{
	const struct args *a = b->args;
	uint64_t row = bench_matrix_bytes(r->dtype, 128, (uint32_t)a->cols) / 128, i;
	struct penstock_k_mat m;
	struct penstock_mem mem;
	int rc;

	r->rows = (uint32_t)(a->rows ? a->rows : (a->mib << 20) / row);
	r->rows = r->rows ? r->rows : 1;
	r->bytes = bench_matrix_bytes(r->dtype, r->rows, (uint32_t)a->cols);
	rc = penstock_mem_alloc(r->bytes, -1, 0, &mem, err);
	if (rc)
		return rc;
	bench_matrix_fill(r->dtype, r->rows, (uint32_t)a->cols, mem.base, &m);
	b->x = malloc(a->cols * a->tokens * sizeof(float));
	b->y = malloc((size_t)r->rows * a->tokens * sizeof(float));
	rc = b->x && b->y ? 0 : -ENOMEM;
	for (i = 0; !rc && i < a->cols * a->tokens; i++)
		b->x[i] = (float)(i % 17) / 16 - 0.5f;
	if (!rc)
		rc = rounds(b, &m, &mem, r);
	free(b->x);
	free(b->y);
	penstock_mem_free(&mem);
	return rc;
}

static int report(const struct bench *b, const struct result *r)
{
	const struct args *a = b->args;
	struct out *o = out_begin("penstock.bench_gemv/1", a->json);
	uint32_t i;

	if (!o)
		return cmd_error("bench gemv", CMD_IMPOSSIBLE, "out of memory");
	out_str(o, "instructions", "isa", penstock_pool_isa_name(b->pool));
	out_u64(o, "threads", "threads", penstock_pool_threads(b->pool));
	out_u64(o, "columns", "cols", a->cols);
	out_u64(o, "tokens", "tokens", a->tokens);
	out_u64(o, "rounds", "rounds", a->rounds);
	out_rows_begin(o, "medians", "dtypes");
	for (i = 0; i < a->nr_dtypes; i++) {
		out_row_begin(o);
		out_str(o, "type", "dtype", penstock_dtype_info(r[i].dtype)->name);
		out_u64(o, "rows", "rows", r[i].rows);
		out_bytes(o, "weights", "bytes", r[i].bytes);
		out_f64(o, "read GB/s", "read_gb_s", r[i].read_gb_s, 2, "");
		out_f64(o, "GEMV GB/s", "gemv_gb_s", r[i].gemv_gb_s, 2, "");
		out_f64(o, "GEMV us", "gemv_us", r[i].gemv_us, 0, "");
		out_f64(o, "ratio", "ratio_bandwidth", r[i].ratio, 3, "");
		out_row_end(o);
	}
	out_rows_end(o);
	return cmd_out_end("bench gemv", o, CMD_GOOD);
}

static void usage(FILE *f)
{
	fputs("usage: penstock bench gemv [OPTION]...\n"
	      "\n"
	      "Multiply matrices of each type with a vector, in turns with a plain read of\n"
	      "the same memory by the same threads.\n"
	      "\n"
	      "  --dtype LIST    types, by commas, or `all` (bf16,q8_0)\n"
	      "  --mib N         size of a matrix in MiB (256); stay well above the last cache\n"
	      "  --rows N        rows, instead of --mib\n"
	      "  --cols N        columns (4096)\n"
	      "  --tokens N      vectors at once (1)\n"
	      "  --threads N     threads (the CPUs allowed)\n"
	      "  --rounds N      rounds (15)\n"
	      "  --isa NAME      auto, ref, avx2 or avx512 (auto)\n"
	      "  --fast          round activations to the weights' precision\n"
	      "  --json          the result as one JSON object\n"
	      "\n"
	      "example: penstock bench gemv --dtype bf16,q8_0,q4_k --fast\n", f);
}

static int parse_dtypes(char *list, struct args *a)
{
	char *name, *save = NULL;
	uint32_t i;

	a->nr_dtypes = 0;
	if (!strcmp(list, "all")) {
		for (i = 0; i < PENSTOCK_DTYPE_COUNT; i++)
			if (penstock_dtype_info(i)->computes)
				a->dtypes[a->nr_dtypes++] = i;
		return 0;
	}
	for (name = strtok_r(list, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
		if (a->nr_dtypes == MAX_DTYPES)
			return cmd_error("bench gemv", CMD_USAGE, "--dtype: more than %u types", MAX_DTYPES);
		a->dtypes[a->nr_dtypes] = bench_dtype(name);
		if (a->dtypes[a->nr_dtypes] == PENSTOCK_DTYPE_NONE)
			return cmd_error("bench gemv", CMD_USAGE, "--dtype %s: no type of this name computes", name);
		a->nr_dtypes++;
	}
	return a->nr_dtypes ? 0 : cmd_error("bench gemv", CMD_USAGE, "--dtype: no type is named");
}

static int parse_isa(const char *name, struct args *a)
{
	static const char *const names[] = { "auto", "ref", "avx2", "avx512" };
	int i;

	for (i = 0; i < 4; i++) {
		if (!strcmp(name, names[i])) {
			a->isa = PENSTOCK_ISA_AUTO + i;
			return 0;
		}
	}
	return cmd_error("bench gemv", CMD_USAGE, "--isa %s: auto, ref, avx2 or avx512 is wanted", name);
}

static int parse_number(const char *option, const char *text, uint64_t most, uint64_t *v)
{
	if (cmd_parse_u64(text, v) || !*v || *v > most)
		return cmd_error("bench gemv", CMD_USAGE, "--%s %s: a number from 1 to %llu is wanted", option, text,
				 (unsigned long long)most);
	return 0;
}

static int parse_option(int c, struct args *a)
{
	switch (c) {
	case 'd':
		return parse_dtypes(optarg, a);
	case 'm':
		return parse_number("mib", optarg, 1u << 16, &a->mib);
	case 'r':
		return parse_number("rows", optarg, 1u << 24, &a->rows);
	case 'c':
		return parse_number("cols", optarg, 1u << 20, &a->cols);
	case 't':
		return parse_number("threads", optarg, 1024, &a->threads);
	case 'n':
		return parse_number("rounds", optarg, MAX_ROUNDS, &a->rounds);
	case 'k':
		return parse_number("tokens", optarg, MAX_TOKENS, &a->tokens);
	case 'i':
		return parse_isa(optarg, a);
	case 'f':
		a->fast = true;
		return 0;
	case 'j':
		a->json = true;
		return 0;
	case 'h':
		usage(stdout);
		return -1;
	default:
		return cmd_error("bench gemv", CMD_USAGE, "`penstock bench gemv --help` lists the options");
	}
}

/* 0, an exit code, or -1 after --help */
static int parse(int argc, char **argv, struct args *a)
{
	static const struct option options[] = {
		{ "dtype", required_argument, NULL, 'd' }, { "mib", required_argument, NULL, 'm' },
		{ "rows", required_argument, NULL, 'r' },  { "cols", required_argument, NULL, 'c' },
		{ "threads", required_argument, NULL, 't' }, { "rounds", required_argument, NULL, 'n' },
		{ "tokens", required_argument, NULL, 'k' }, { "isa", required_argument, NULL, 'i' },
		{ "fast", no_argument, NULL, 'f' },	   { "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },	   { NULL, 0, NULL, 0 },
	};
	uint32_t i;
	int c, rc;

	*a = (struct args){ .mib = 256, .cols = 4096, .rounds = 15, .tokens = 1, .isa = PENSTOCK_ISA_AUTO };
	a->dtypes[0] = PENSTOCK_DTYPE_BF16;
	a->dtypes[1] = PENSTOCK_DTYPE_Q8_0;
	a->nr_dtypes = 2;
	optind = 0;
	while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
		rc = parse_option(c, a);
		if (rc)
			return rc;
	}
	if (optind != argc)
		return cmd_error("bench gemv", CMD_USAGE, "%s: no argument is wanted", argv[optind]);
	for (i = 0; i < a->nr_dtypes; i++)
		if (!bench_matrix_bytes(a->dtypes[i], 1, (uint32_t)a->cols))
			return cmd_error("bench gemv", CMD_USAGE, "--cols %llu: no multiple of the block of %s",
					 (unsigned long long)a->cols, penstock_dtype_info(a->dtypes[i])->name);
	return 0;
}

int cmd_bench_gemv(int argc, char **argv)
{
	struct result results[MAX_DTYPES] = { 0 };
	struct penstock_error err = { 0 };
	struct args args;
	struct bench *b;
	uint32_t i;
	int rc;

	rc = parse(argc, argv, &args);
	if (rc)
		return rc < 0 ? CMD_GOOD : rc;
	b = calloc(1, sizeof(*b));
	if (!b)
		return cmd_error("bench gemv", CMD_IMPOSSIBLE, "out of memory");
	b->args = &args;
	rc = penstock_pool_create((unsigned int)args.threads, args.isa, args.fast ? PENSTOCK_POOL_F_FAST : 0,
				  &b->pool);
	if (rc) {
		free(b);
		return cmd_error("bench gemv", CMD_IMPOSSIBLE, "compute threads: %s", strerror(-rc));
	}
	for (i = 0; !rc && i < args.nr_dtypes; i++) {
		results[i].dtype = args.dtypes[i];
		rc = measure(b, &results[i], &err);
	}
	if (rc)
		rc = cmd_error("bench gemv", CMD_IMPOSSIBLE, "%s", err.text[0] ? err.text : strerror(-rc));
	else
		rc = report(b, results);
	penstock_pool_destroy(b->pool);
	free(b);
	return rc;
}
