// SPDX-License-Identifier: MIT
/*
 * `penstock bench io`: reads of a file through our ring, and, with --fio, the same
 * reads by fio, in turns, since a drive's speed drifts. Medians are compared.
 */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../runtime/err.h"
#include "bench_io.h"
#include "cmd.h"
#include "out.h"

#define MAX_ROUNDS	100u
#define MAX_BLOCKS	8u
#define MAX_BLOCK	(1ull << 30)
/* What is held to be as fast as fio. */
#define LEAST_THROUGHPUT	0.97
#define MOST_CPU		1.10
#define MOST_CPU_MORE		0.002

struct args {
	struct bench_io_job job;
	uint64_t blocks[MAX_BLOCKS];
	uint32_t nr_blocks;
	uint32_t rounds;
	bool fio;
	bool pread;
	bool buffered;
	bool json;
};

/* All rounds of one size. */
struct series {
	struct bench_io_round ours[MAX_ROUNDS];
	struct bench_io_round fio[MAX_ROUNDS];
};

/* What the rounds were made with: the same for all sizes, so the last one's is told. */
struct setting {
	bool direct;
	char why[160];
	char engine[32];
	char engine_why[512];
	uint64_t page_size;
	const char *page_why;
	uint64_t fio_page_size;
	const char *fio_page_why;
};

static void usage(FILE *f)
{
	fputs("usage: penstock bench io FILE [OPTION]...\n"
	      "\n"
	      "Keep reads of a file in flight, as the library does; throughput, and CPU time of each GB.\n"
	      "\n"
	      "  --block SIZE    bytes of a read, several with commas (64K,1M,4M)\n"
	      "  --depth N       reads in flight (32)\n"
	      "  --jobs N        threads, each with its own ring (1)\n"
	      "  --seconds N     of a round (2)\n"
	      "  --rounds N      rounds of each size (3)\n"
	      "  --sequential    in order, not at random\n"
	      "  --fio           fio's rounds in turn with ours, and the ratios; root fills the huge page pool for it\n"
	      "                  (the default where fio is installed)\n"
	      "  --no-fio        without\n"
	      "  --buffered      read through the page cache\n"
	      "  --pread         without io_uring\n"
	      "  --json          the result as one JSON object\n"
	      "\n"
	      "example: penstock bench io model-00001-of-00016.safetensors\n",
	      f);
}

static struct bench_io_round medians(const struct bench_io_round *rounds, uint32_t nr)
{
	double bytes_per_s[MAX_ROUNDS], cpu[MAX_ROUNDS];
	uint32_t i;

	for (i = 0; i < nr; i++) {
		bytes_per_s[i] = rounds[i].bytes_per_s;
		cpu[i] = rounds[i].cpu_s_per_gb;
	}
	return (struct bench_io_round){ cmd_median(bytes_per_s, nr), cmd_median(cpu, nr) };
}

/* Ours first in one round, fio first in the next. */
static int run_rounds(const struct args *a, const struct bench_io_job *job, struct bench_io_ours *ours,
		      const struct bench_io_fio *fio, struct series *s, struct penstock_error *err)
{
	uint32_t i, half;
	int ret = 0;

	for (i = 0; !ret && i < a->rounds; i++)
		for (half = 0; !ret && half < 2; half++) {
			if (half == i % 2)
				ret = bench_io_ours_run(ours, &s->ours[i], err);
			else if (a->fio)
				ret = bench_io_fio_run(fio, job, &s->fio[i], err);
		}
	return ret;
}

static int run_block(const struct args *a, uint64_t block, struct series *s, struct setting *set,
		     struct penstock_error *err)
{
	struct bench_io_fio fio = { .restore = -1 };
	struct bench_io_job job = a->job;
	struct bench_io_ours *ours;
	int ret;

	job.block = block;
	/* our memory first: the pool is filled for fio, and ours is what the library gets without */
	ret = bench_io_ours_open(&job, a->pread, a->buffered, &ours, err);
	if (ret)
		return ret;
	job.direct = bench_io_ours_direct(ours);
	if (a->fio)
		bench_io_fio_prepare(&fio, block * job.depth * job.jobs);
	ret = run_rounds(a, &job, ours, &fio, s, err);
	if (ret == -EIO && a->fio && bench_io_fio_without_huge(&fio)) {
		penstock_err_clear(err);
		ret = run_rounds(a, &job, ours, &fio, s, err);
	}
	if (a->fio)
		bench_io_fio_restore(&fio);
	set->direct = job.direct;
	snprintf(set->why, sizeof(set->why), "%s", bench_io_ours_why(ours));
	snprintf(set->engine, sizeof(set->engine), "%s", bench_io_ours_engine(ours));
	snprintf(set->engine_why, sizeof(set->engine_why), "%s", bench_io_ours_engine_why(ours));
	set->page_size = bench_io_ours_page_size(ours);
	set->page_why = bench_io_ours_page_why(ours);
	set->fio_page_size = fio.page_size;
	set->fio_page_why = fio.page_why;
	bench_io_ours_close(ours);
	return ret;
}

/* Ours over fio's, of medians. */
static double ratio_throughput(const struct args *a, const struct series *s)
{
	return medians(s->ours, a->rounds).bytes_per_s / medians(s->fio, a->rounds).bytes_per_s;
}

static double ratio_cpu(const struct args *a, const struct series *s)
{
	double fio = medians(s->fio, a->rounds).cpu_s_per_gb;

	return fio > 0 ? medians(s->ours, a->rounds).cpu_s_per_gb / fio : NAN;
}

/* Of all sizes the one where we come off worst; null without fio. */
static void report_worst(struct out *o, const struct args *a, const struct series *series)
{
	double throughput = NAN, cpu = NAN;
	uint32_t i;

	for (i = 0; a->fio && i < a->nr_blocks; i++) {
		throughput = fmin(throughput, ratio_throughput(a, &series[i]));
		cpu = fmax(cpu, ratio_cpu(a, &series[i]));
	}
	out_f64(o, a->fio ? "least throughput/fio" : NULL, "ratio_throughput", throughput, 3, "");
	out_f64(o, a->fio ? "most CPU/fio" : NULL, "ratio_cpu", cpu, 3, "");
}

static void report_block(struct out *o, const struct args *a, uint64_t block, const struct series *s)
{
	struct bench_io_round ours = medians(s->ours, a->rounds), fio;
	double throughput, cpu;

	out_row_begin(o);
	out_bytes(o, "block", "block_bytes", block);
	out_f64(o, "GB/s", "gb_s", ours.bytes_per_s / 1e9, 3, "");
	out_f64(o, "CPU s/GB", "cpu_s_per_gb", ours.cpu_s_per_gb, 4, "");
	if (a->fio) {
		fio = medians(s->fio, a->rounds);
		throughput = ratio_throughput(a, s);
		cpu = ratio_cpu(a, s);
		out_f64(o, "fio GB/s", "fio_gb_s", fio.bytes_per_s / 1e9, 3, "");
		out_f64(o, "fio CPU s/GB", "fio_cpu_s_per_gb", fio.cpu_s_per_gb, 4, "");
		out_f64(o, "throughput/fio", "ratio_throughput", throughput, 3, "");
		out_f64(o, "CPU/fio", "ratio_cpu", cpu, 3, "");
		out_bool(o, "as good", "as_good_as_fio", throughput >= LEAST_THROUGHPUT &&
			 (cpu <= MOST_CPU || ours.cpu_s_per_gb - fio.cpu_s_per_gb <= MOST_CPU_MORE));
	}
	out_row_end(o);
}

static int report(const struct args *a, const struct series *series, const struct setting *set)
{
	struct out *o = out_begin("penstock.bench_io/1", a->json);
	uint32_t i;

	if (!o)
		return cmd_error("bench io", CMD_IMPOSSIBLE, "out of memory");
	out_str(o, "file", "file", a->job.path);
	out_str(o, "order", "order", a->job.sequential ? "sequential" : "random");
	out_u64(o, "depth", "depth", a->job.depth);
	out_u64(o, "jobs", "jobs", a->job.jobs);
	out_u64(o, "rounds", "rounds", a->rounds);
	out_u64(o, "seconds a round", "round_s", a->job.seconds);
	out_rows_begin(o, "medians", "blocks");
	for (i = 0; i < a->nr_blocks; i++)
		report_block(o, a, a->blocks[i], &series[i]);
	out_rows_end(o);
	report_worst(o, a, series);
	out_bool(o, "direct", "direct", set->direct);
	out_str(o, *set->why ? "direct, why not" : NULL, "direct_reason", set->why);
	out_str(o, "I/O engine", "io_engine", set->engine);
	out_str(o, *set->engine_why ? "I/O engine, why" : NULL, "io_reason", set->engine_why);
	out_bytes(o, "page size", "page_size", set->page_size);
	out_str(o, "page size, why", "page_reason", set->page_why);
	if (a->fio) {
		out_bytes(o, "page size of fio", "fio_page_size", set->fio_page_size);
		out_str(o, "page size of fio, why", "fio_page_reason", set->fio_page_why);
	}
	return cmd_out_end("bench io", o, CMD_GOOD);
}

static int parse_blocks(struct args *a, char *text)
{
	char *one, *rest = text;

	a->nr_blocks = 0;
	while ((one = strsep(&rest, ","))) {
		uint64_t *block = &a->blocks[a->nr_blocks];

		if (a->nr_blocks == MAX_BLOCKS)
			return cmd_error("bench io", CMD_USAGE, "--block: more than %u sizes", MAX_BLOCKS);
		if (cmd_parse_size(one, block) || !*block || *block % 4096 || *block > MAX_BLOCK)
			return cmd_error("bench io", CMD_USAGE,
					 "--block %s: a multiple of 4096 bytes up to 1G is wanted", one);
		a->nr_blocks++;
	}
	return 0;
}

static int parse_number(const char *name, const char *text, uint32_t most, uint32_t *v)
{
	uint64_t n;

	if (cmd_parse_u64(text, &n) || !n || n > most)
		return cmd_error("bench io", CMD_USAGE, "--%s %s: a number from 1 to %u is wanted", name, text, most);
	*v = (uint32_t)n;
	return 0;
}

/* Is there a program of this name in the path? */
static bool installed(const char *name)
{
	const char *path = getenv("PATH"), *end;
	char file[4096];

	for (; path && *path; path = *end ? end + 1 : end) {
		end = strchrnul(path, ':');
		if (snprintf(file, sizeof(file), "%.*s/%s", (int)(end - path), path, name) < (int)sizeof(file) &&
		    !access(file, X_OK))
			return true;
	}
	return false;
}

static int parse(int argc, char **argv, struct args *a)
{
	static const struct option options[] = {
		{ "block", required_argument, NULL, 'b' }, { "depth", required_argument, NULL, 'd' },
		{ "jobs", required_argument, NULL, 'n' }, { "seconds", required_argument, NULL, 's' },
		{ "rounds", required_argument, NULL, 'r' }, { "sequential", no_argument, NULL, 'o' },
		{ "fio", no_argument, NULL, 'f' }, { "no-fio", no_argument, NULL, 'F' },
		{ "buffered", no_argument, NULL, 'c' },
		{ "pread", no_argument, NULL, 'p' }, { "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 },
	};
	bool no_fio = false;
	int c, rc = 0;

	*a = (struct args){ .job = { .depth = 32, .jobs = 1, .seconds = 2 }, .rounds = 3,
			    .blocks = { 64 << 10, 1 << 20, 4 << 20 }, .nr_blocks = 3 };
	optind = 0;
	while (!rc && (c = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
		switch (c) {
		case 'b': rc = parse_blocks(a, optarg); break;
		case 'd': rc = parse_number("depth", optarg, BENCH_IO_MAX_DEPTH, &a->job.depth); break;
		case 'n': rc = parse_number("jobs", optarg, BENCH_IO_MAX_JOBS, &a->job.jobs); break;
		case 's': rc = parse_number("seconds", optarg, 3600, &a->job.seconds); break;
		case 'r': rc = parse_number("rounds", optarg, MAX_ROUNDS, &a->rounds); break;
		case 'o': a->job.sequential = true; break;
		case 'f': a->fio = true; break;
		case 'F': no_fio = true; break;
		case 'c': a->buffered = true; break;
		case 'p': a->pread = true; break;
		case 'j': a->json = true; break;
		case 'h':
			usage(stdout);
			return -1;
		default:
			return cmd_error("bench io", CMD_USAGE, "`penstock bench io --help` lists the options");
		}
	}
	if (rc)
		return rc;
	if (optind + 1 != argc)
		return cmd_error("bench io", CMD_USAGE, "one file is wanted");
	a->job.path = argv[optind];
	a->fio = !no_fio && (a->fio || (!a->buffered && !a->pread && installed("fio")));
	return 0;
}

int cmd_bench_io(int argc, char **argv)
{
	struct penstock_error err = { 0 };
	struct setting set = { 0 };
	struct series *series;
	struct args a;
	struct stat st;
	uint32_t i;
	int rc;

	rc = parse(argc, argv, &a);
	if (rc)
		return rc < 0 ? CMD_GOOD : rc;
	series = calloc(MAX_BLOCKS, sizeof(*series));
	if (!series)
		return cmd_error("bench io", CMD_IMPOSSIBLE, "out of memory");
	for (i = 0; !rc && i < a.nr_blocks; i++)
		rc = run_block(&a, a.blocks[i], &series[i], &set, &err);
	if (rc)
		/* ENOENT is fio's, or that of a file which is not there */
		rc = cmd_error("bench io", rc == -ENOENT && a.fio && !stat(a.job.path, &st) ? CMD_IMPOSSIBLE :
			       cmd_exit_code(rc), "%s", err.text);
	else
		rc = report(&a, series, &set);
	free(series);
	return rc;
}
