// SPDX-License-Identifier: MIT
/*
 * `penstock run`: arguments, and the order of things: open, decode, verify,
 * report, compare. What each of them is lives in run/.
 */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "out.h"
#include "run/compare.h"
#include "run/progress.h"
#include "run/rate.h"
#include "run/report.h"
#include "run/run.h"
#include "run/source.h"
#include "run/trace.h"
#include "run/verify.h"

#define CMD_INTERRUPTED 130 /* as a shell says it of SIGINT */

static void usage(FILE *f)
{
	fputs("usage: penstock run MODEL [OPTION]...\n"
	      "\n"
	      "Decode with the whole model, its experts streamed from disk through a bounded cache.\n"
	      "Of the MLA families (DeepSeek, Kimi) only router and experts run.\n"
	      "\n"
	      "  --cache SIZE         memory for experts (512M)\n"
	      "  --tokens N           tokens to put out, a sequence (64)\n"
	      "  --batch N            sequences decoded together (1, or the lines of the prompt file)\n"
	      "  --seed N             of the prompt and of sampling (1)\n"
	      "  --prompt-tokens N    length of the prompt drawn from the seed (16)\n"
	      "  --prompt-ids FILE    token ids, one sequence a line\n"
	      "  --ctx N              longest sequence (prompt and tokens)\n"
	      "  --temperature T      sample instead of taking the likeliest token (0)\n"
	      "  --device host|peer:DDDD:BB:DD.F  whose memory experts are read into (host)\n"
	      "  --route auto|host|direct|mapped|bounce  how experts travel; auto: the fastest that works\n"
	      "  --policy lru|lfu     which expert leaves the cache\n"
	      "  --threads N          compute threads (all CPUs)\n"
	      "  --isa ref|avx2|avx512  kernels (the best that the CPU has)\n"
	      "  --math exact|fast    fast: activations rounded to the weights' precision (exact)\n"
	      "  --verify             recompute everything with plain reads, compare bit for bit\n"
	      "  --compare mmap       decode the same over an mmap, in the same memory limit\n"
	      "  --trace FILE         write the routing (route_trace v1)\n"
	      "  --routing FILE       follow a recorded routing\n"
	      "  --json               the result as one JSON object\n"
	      "  --quiet              no progress line\n"
	      "\n"
	      "example: penstock run ~/models/Qwen3-30B-A3B --cache 4G --verify\n",
	      f);
}

enum option_nr {
	OPT_CACHE = 256,
	OPT_TOKENS,
	OPT_BATCH,
	OPT_SEED,
	OPT_PROMPT_IDS,
	OPT_PROMPT_TOKENS,
	OPT_CTX,
	OPT_TEMPERATURE,
	OPT_DEVICE,
	OPT_ROUTE,
	OPT_POLICY,
	OPT_VERIFY,
	OPT_COMPARE,
	OPT_TRACE,
	OPT_ROUTING,
	OPT_THREADS,
	OPT_ISA,
	OPT_MATH,
	OPT_JSON,
	OPT_QUIET,
};

static const struct option options[] = {
	{ "cache", required_argument, NULL, OPT_CACHE },
	{ "tokens", required_argument, NULL, OPT_TOKENS },
	{ "batch", required_argument, NULL, OPT_BATCH },
	{ "seed", required_argument, NULL, OPT_SEED },
	{ "prompt-ids", required_argument, NULL, OPT_PROMPT_IDS },
	{ "prompt-tokens", required_argument, NULL, OPT_PROMPT_TOKENS },
	{ "ctx", required_argument, NULL, OPT_CTX },
	{ "temperature", required_argument, NULL, OPT_TEMPERATURE },
	{ "device", required_argument, NULL, OPT_DEVICE },
	{ "route", required_argument, NULL, OPT_ROUTE },
	{ "policy", required_argument, NULL, OPT_POLICY },
	{ "verify", no_argument, NULL, OPT_VERIFY },
	{ "compare", required_argument, NULL, OPT_COMPARE },
	{ "trace", required_argument, NULL, OPT_TRACE },
	{ "routing", required_argument, NULL, OPT_ROUTING },
	{ "threads", required_argument, NULL, OPT_THREADS },
	{ "isa", required_argument, NULL, OPT_ISA },
	{ "math", required_argument, NULL, OPT_MATH },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "quiet", no_argument, NULL, OPT_QUIET },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static const char *option_name(int nr)
{
	const struct option *o;

	for (o = options; o->name; o++)
		if (o->val == nr)
			return o->name;
	return "?";
}

static int bad_value(int nr, const char *want)
{
	return cmd_error("run", CMD_USAGE, "--%s %s: %s", option_name(nr), optarg, want);
}

static int parse_count(int nr, uint64_t least, uint64_t most, uint32_t *v)
{
	uint64_t n;

	if (cmd_parse_u64(optarg, &n) || n < least || n > most)
		return cmd_error("run", CMD_USAGE, "--%s %s: a number from %llu to %llu is wanted", option_name(nr),
				 optarg, (unsigned long long)least, (unsigned long long)most);
	*v = (uint32_t)n;
	return 0;
}

static int parse_temperature(float *t)
{
	char *end;
	float v = strtof(optarg, &end);

	if (end == optarg || *end || !isfinite(v) || v < 0)
		return bad_value(OPT_TEMPERATURE, "a number, 0 or more, is wanted");
	*t = v;
	return 0;
}

static int parse_isa(int *isa)
{
	static const struct {
		const char *name;
		int isa;
	} names[] = {
		{ "ref", PENSTOCK_ISA_REF },
		{ "avx2", PENSTOCK_ISA_AVX2 },
		{ "avx512", PENSTOCK_ISA_AVX512 },
	};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(optarg, names[i].name)) {
			*isa = names[i].isa;
			return 0;
		}
	return bad_value(OPT_ISA, "ref, avx2 or avx512 is wanted");
}

static int parse_number(int nr, struct run_args *a)
{
	switch (nr) {
	case OPT_CACHE:
		return cmd_parse_size(optarg, &a->cache_bytes) ? bad_value(nr, "a size such as 512M is wanted") : 0;
	case OPT_SEED:
		return cmd_parse_u64(optarg, &a->seed) ? bad_value(nr, "a number is wanted") : 0;
	case OPT_TOKENS:
		return parse_count(nr, 1, 1u << 24, &a->tokens);
	case OPT_BATCH:
		return parse_count(nr, 1, 4096, &a->batch);
	case OPT_PROMPT_TOKENS:
		return parse_count(nr, 1, 1u << 24, &a->prompt_tokens);
	case OPT_CTX:
		return parse_count(nr, 2, 1u << 25, &a->ctx);
	case OPT_THREADS:
		return parse_count(nr, 1, 1024, &a->threads);
	case OPT_TEMPERATURE:
		return parse_temperature(&a->temperature);
	default:
		return CMD_USAGE;
	}
}

static int parse_word(int nr, struct run_args *a)
{
	switch (nr) {
	case OPT_DEVICE:
		a->device = optarg;
		return 0;
	case OPT_ROUTE:
		a->route = optarg;
		return 0;
	case OPT_POLICY:
		a->policy = optarg;
		return 0;
	case OPT_PROMPT_IDS:
		a->prompt_file = optarg;
		return 0;
	case OPT_TRACE:
		a->trace_file = optarg;
		return 0;
	case OPT_ROUTING:
		a->routing_file = optarg;
		return 0;
	case OPT_VERIFY:
		a->verify = true;
		return 0;
	case OPT_JSON:
		a->json = true;
		return 0;
	case OPT_QUIET:
		a->quiet = true;
		return 0;
	case OPT_COMPARE:
		if (strcmp(optarg, "mmap"))
			return bad_value(nr, "mmap is all that there is to compare with");
		a->compare_mmap = true;
		return 0;
	case OPT_MATH:
		if (strcmp(optarg, "exact") && strcmp(optarg, "fast"))
			return bad_value(nr, "exact or fast is wanted");
		a->math_fast = !strcmp(optarg, "fast");
		return 0;
	case OPT_ISA:
		return parse_isa(&a->isa);
	default:
		return parse_number(nr, a);
	}
}

/* Return: 0; CMD_USAGE; -1 help was shown. */
static int parse(int argc, char **argv, struct run_args *a)
{
	int nr, rc;

	*a = (struct run_args){ .cache_bytes = 512ull << 20, .seed = 1, .tokens = 64, .prompt_tokens = 16 };
	optind = 0;
	while ((nr = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
		if (nr == 'h') {
			usage(stdout);
			return -1;
		}
		if (nr == '?')
			return cmd_error("run", CMD_USAGE, "`penstock run --help` lists the options");
		rc = parse_word(nr, a);
		if (rc)
			return rc;
	}
	if (optind + 1 != argc)
		return cmd_error("run", CMD_USAGE, optind < argc ? "one model, not %d" : "which model? (%d given)",
				 argc - optind);
	a->model = argv[optind];
	if (a->compare_mmap && a->tokens < RUN_COMPARE_TOKENS)
		return cmd_error("run", CMD_USAGE, "--compare mmap needs --tokens %u or more", RUN_COMPARE_TOKENS);
	return 0;
}

static int exit_code(int rc)
{
	return rc == -ECANCELED ? CMD_INTERRUPTED : cmd_exit_code(rc);
}

/* ---- the run ---- */

struct job {
	const struct run_args *args;
	struct run_session ses;
	struct run_pass pass;
	struct run_source *source;
	struct run_trace *trace;
	struct run_routing *routing;
	struct decoder_experts experts;
	struct decoder_router_hook hook;
	struct run_digest digest;
	struct run_progress progress;
	struct run_result res;
};

static int open_routing(struct job *j, struct penstock_error *err)
{
	const struct run_prompts *pr = &j->ses.prompts;
	uint32_t i;
	int rc;

	rc = run_routing_read(j->args->routing_file, j->ses.model, &j->routing, err);
	/* The last token put out goes through no layer. */
	for (i = 0; !rc && i < pr->nr; i++)
		rc = run_routing_covers(j->routing, i, pr->len[i] + j->args->tokens - 2, err);
	if (!rc) {
		j->hook = run_routing_hook(j->routing);
		j->pass.hook = &j->hook;
	}
	return rc;
}

static int job_open(struct job *j, struct penstock_error *err)
{
	int rc;

	rc = run_session_open(&j->ses, j->args, j->args->cache_bytes, err);
	if (!rc)
		rc = run_pass_begin(&j->pass, &j->ses, j->args->tokens, err);
	if (!rc && j->args->routing_file)
		rc = open_routing(j, err);
	if (!rc && j->args->trace_file)
		rc = run_trace_create(j->args->trace_file, j->ses.model, &j->trace, err);
	if (!rc)
		rc = run_source_library_create(&j->pass, j->trace, &j->source, err);
	if (rc)
		return rc;
	j->experts = run_source_library_experts(j->source);
	j->pass.experts = &j->experts;
	j->pass.bound = &j->res.bound;
	j->digest.nr_layers = j->ses.info.nr_layers;
	if (j->args->verify)
		j->pass.digest = &j->digest;
	j->pass.tick = run_progress_tick;
	j->pass.tick_arg = &j->progress;
	j->res.verified = -1;
	return 0;
}

static void job_close(struct job *j)
{
	run_source_library_destroy(j->source);
	run_routing_free(j->routing);
	run_bound_free(&j->res.bound);
	run_digest_free(&j->digest);
	free(j->res.seen.layers);
	free(j->res.seen.logits);
	run_pass_end(&j->pass);
	run_session_close(&j->ses);
}

static uint64_t prompt_tokens(const struct run_prompts *p)
{
	uint64_t n = 0;
	uint32_t i;

	for (i = 0; i < p->nr; i++)
		n += p->len[i];
	return n;
}

/* Both phases, with their counters, also of a phase that was interrupted. Return: 0; -ECANCELED; -errno. */
static int job_decode(struct job *j, struct penstock_error *err)
{
	struct run_pass *p = &j->pass;
	struct penstock_error ignored;
	uint64_t nr = j->ses.prompts.nr, done = 0, all = prompt_tokens(&j->ses.prompts);
	uint32_t i;
	int rc;

	run_progress_begin(&j->progress, p, "prefill", all, j->args->quiet);
	rc = run_phase_begin(&j->ses, &j->res.prefill, err);
	if (rc)
		return rc;
	rc = run_pass_prefill(p, err);
	for (i = 0; i < nr; i++)
		done += p->pos[i];
	if (run_phase_end(&j->ses, &j->res.prefill, done, rc ? &ignored : err) && !rc)
		rc = err->code;
	run_progress_end(&j->progress);
	if (rc)
		return rc;

	run_progress_begin(&j->progress, p, "decode", (uint64_t)(p->tokens - 1) * nr, j->args->quiet);
	rc = run_phase_begin(&j->ses, &j->res.decode, err);
	while (!rc && p->nr_out < p->tokens)
		rc = run_pass_step(p, err);
	if (run_phase_end(&j->ses, &j->res.decode, (uint64_t)(p->nr_out - 1) * nr, rc ? &ignored : err) && !rc)
		rc = err->code;
	run_progress_end(&j->progress);
	return rc;
}

static int job_verify(struct job *j, struct penstock_error *err)
{
	uint64_t start = run_now_ns();
	bool same = false;
	int rc;

	run_progress_begin(&j->progress, NULL, "verify", 0, j->args->quiet);
	rc = run_verify(&j->ses, &j->pass, &j->digest, &same, &j->res.seen, &j->progress, err);
	run_progress_end(&j->progress);
	j->res.verify_s = (double)(run_now_ns() - start) / 1e9;
	if (!rc)
		j->res.verified = same;
	return rc;
}

/* The comparison needs the memory of the main run: that is closed by now. Return: the exit code. */
static int finish(const struct run_args *args, const int32_t *ids, const struct run_result *res, uint64_t least_bytes,
		  struct out *o, int code)
{
	struct run_compare *c = NULL;

	if (args->compare_mmap && !run_interrupted()) {
		c = calloc(1, sizeof(*c));
		if (!c)
			code = cmd_error("run", CMD_IMPOSSIBLE, "out of memory");
		else if (run_compare(args, ids, res->nr_seqs, least_bytes, c) == -ECANCELED)
			code = CMD_INTERRUPTED;
	}
	if (c) {
		run_report_compare(o, c, res->moe_only);
		if (c->done && !c->same_output)
			code = cmd_error("run", CMD_FAILED, "the sides of the comparison did not give the same tokens");
	}
	run_report_result(o, res, c);
	free(c);
	return cmd_out_end("run", o, code);
}

/*
 * Run, verify, and write all but the comparison. Return: 0, and *o; -errno of the
 * run itself, and nothing is to be written. *code is the verdict's.
 */
static int job_run(struct job *j, struct out **o, int *code, struct penstock_error *err)
{
	struct run_rate rate;
	int rc, late;

	rc = job_open(j, err);
	if (rc)
		return rc;
	rc = job_decode(j, err);
	j->res.interrupted = rc == -ECANCELED;
	if (j->res.interrupted)
		*code = CMD_INTERRUPTED;
	else if (rc)
		return rc;
	late = run_trace_finish(j->trace, err);
	j->trace = NULL;
	if (late)
		return late;
	run_rate_measure(&j->ses, &rate);
	run_bound_finish(&j->res.bound, rate.bytes_per_s, rate.latency_ns);
	if (j->args->verify && !rc) {
		rc = job_verify(j, err);
		if (rc == -ECANCELED)
			*code = CMD_INTERRUPTED;
		else if (rc)
			return rc;
		else if (j->res.verified == 0)
			*code = CMD_FAILED;
	}
	j->res.moe_only = j->ses.moe_only;
	j->res.nr_seqs = j->ses.prompts.nr;
	j->res.nr_out = j->pass.nr_out;
	*o = out_begin("penstock.run/1", j->args->json);
	if (!*o)
		return decoder_fail(err, -ENOMEM, "the result");
	return run_report(*o, &j->ses, &j->pass, &j->res, err);
}

int cmd_run(int argc, char **argv)
{
	struct penstock_error err = { 0 };
	struct run_result res;
	struct run_args args;
	uint64_t least_bytes;
	struct out *o = NULL;
	struct job *j;
	int32_t *ids;
	int rc, code;

	rc = parse(argc, argv, &args);
	if (rc)
		return rc < 0 ? CMD_GOOD : rc;
	j = calloc(1, sizeof(*j));
	if (!j)
		return cmd_error("run", CMD_IMPOSSIBLE, "out of memory");
	j->args = &args;
	run_catch_signals();
	code = CMD_GOOD;
	rc = job_run(j, &o, &code, &err);
	least_bytes = j->ses.info.least_bytes;
	ids = j->pass.out;
	j->pass.out = NULL;
	(void)run_trace_finish(j->trace, NULL);
	job_close(j);
	res = j->res;
	free(j);
	if (rc)
		code = cmd_error("run", exit_code(rc), "%s", err.text);
	else
		code = finish(&args, ids, &res, least_bytes, o, code);
	free(ids);
	return code;
}
