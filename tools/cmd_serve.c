// SPDX-License-Identifier: MIT
/*
 * `penstock serve`: a llama-server whose experts stay on the drive. It looks at the
 * model, the memory and that llama-server, says in one line what it starts, and
 * execs: signals and the exit code are the server's.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cmd.h"
#include "run/run.h"
#include "serve/serve.h"

/* Buffers of a computation and what the process itself takes; and the least for the KV cache. */
#define BUFFERS		((uint64_t)256 << 20)
#define KV_LEAST	((uint64_t)256 << 20)
/* No context that nobody asked for is made shorter than this. */
#define CONTEXT_LEAST	4096u
#define MIB(bytes)	(((bytes) + (1u << 20) - 1) >> 20)

struct serve {
	const char *model_path;
	const char *cache;
	const char *form;
	const char *stats;
	const char *server_flag;
	const char *backend_flag;
	bool dry_run;
	char **rest;		/* the user's flags for llama-server */
	uint32_t nr_rest;

	struct serve_model model;
	struct serve_host host;
	struct serve_flags flags;
	char *server;
	char *backend;
	uint64_t context;	/* 0 = llama-server's own choice */
	uint64_t kv;
	uint64_t memory;	/* that this process can get */
	uint64_t budget;
	char cache_text[160];
	char context_text[24];
	char **argv;		/* of llama-server */
};

static void usage(FILE *f)
{
	fputs("usage: penstock serve MODEL.gguf [OPTION]... [LLAMA-SERVER FLAG]...\n"
	      "\n"
	      "Start llama-server with the experts of MODEL left on the drive, behind a cache.\n"
	      "Flags that are not listed here go to llama-server as they are, as does all that\n"
	      "stands behind a lone \"--\". MODEL may be any shard of a split set.\n"
	      "\n"
	      "      --cache SIZE       memory for experts, as 8G, or as 50% of all of them; with a\n"
	      "                         draft model one for each, 8G,1G (what is free, at most all)\n"
	      "      --form auto|plain|repacked\n"
	      "                         how experts lie in the cache (auto: what is faster here)\n"
	      "      --stats text|json|none\n"
	      "                         statistics at exit and on SIGUSR1 (text)\n"
	      "      --llama-server PATH  (LLAMA_SERVER, then PATH)\n"
	      "      --backend PATH     libggml-penstock.so (beside this tool, then installed)\n"
	      "      --dry-run          say what would be started, and start nothing\n"
	      "  -h, --help             this text\n"
	      "\n"
	      "example: penstock serve Qwen3-30B-A3B-Q4_0.gguf --cache 8G -np 4 -c 16384\n", f);
}

/* ---- arguments ---- */

/* Return: 1 it was ours, 0 it is not, or -EINVAL */
static int take_option(struct serve *s, int argc, char **argv, int *i)
{
	const struct {
		const char *name;
		const char **to;
	} options[] = {
		{ "--cache", &s->cache }, { "--form", &s->form }, { "--stats", &s->stats },
		{ "--llama-server", &s->server_flag }, { "--backend", &s->backend_flag },
	};
	const char *arg = argv[*i];
	size_t j, len;

	if (!strcmp(arg, "--dry-run")) {
		s->dry_run = true;
		return 1;
	}
	for (j = 0; j < sizeof(options) / sizeof(options[0]); j++) {
		len = strlen(options[j].name);
		if (strncmp(arg, options[j].name, len) || (arg[len] && arg[len] != '='))
			continue;
		if (arg[len] == '=')
			*options[j].to = arg + len + 1;
		else if (*i + 1 < argc)
			*options[j].to = argv[++*i];
		else
			return -EINVAL;
		return 1;
	}
	return 0;
}

static int is_word(const char *text, const char *const *words)
{
	for (; *words; words++)
		if (!strcmp(text, *words))
			return 1;
	return 0;
}

static int check_words(struct serve *s)
{
	static const char *const forms[] = { "auto", "plain", "repacked", NULL };
	static const char *const stats[] = { "text", "json", "none", NULL };

	/* what stands in the environment counts where no option does */
	s->cache = s->cache ? s->cache : getenv("PENSTOCK_CACHE");
	s->form = s->form ? s->form : getenv("PENSTOCK_FORM");
	s->stats = s->stats ? s->stats : getenv("PENSTOCK_STATS");
	s->form = s->form && *s->form ? s->form : "auto";
	s->stats = s->stats && *s->stats ? s->stats : "text";
	if (!is_word(s->form, forms))
		return cmd_error("serve", CMD_USAGE, "--form takes auto, plain or repacked, not '%s'", s->form);
	if (!is_word(s->stats, stats))
		return cmd_error("serve", CMD_USAGE, "--stats takes text, json or none, not '%s'", s->stats);
	return CMD_GOOD;
}

/* Return: CMD_GOOD; else what to exit with; -1: help was asked for */
static int parse(struct serve *s, int argc, char **argv)
{
	int i, rc;

	for (i = 1; i < argc; i++) {
		rc = take_option(s, argc, argv, &i);
		if (rc < 0)
			return cmd_error("serve", CMD_USAGE, "%s takes a value", argv[i]);
		if (rc)
			continue;
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
			return -1;
		if (!strcmp(argv[i], "--")) {
			for (i++; i < argc; i++)
				s->rest[s->nr_rest++] = argv[i];
			break;
		}
		if (s->model_path) {
			s->rest[s->nr_rest++] = argv[i];
		} else if (*argv[i] == '-') {
			return cmd_error("serve", CMD_USAGE,
					 "'%s' before the model: flags of llama-server stand behind it", argv[i]);
		} else {
			s->model_path = argv[i];
		}
	}
	if (!s->model_path) {
		usage(stderr);
		return CMD_USAGE;
	}
	return check_words(s);
}

/* ---- memory ---- */

/* The KV cache that llama-server will make: for its context without -c the model's whole one would be taken. */
static void choose_context(struct serve *s)
{
	const struct serve_model *m = &s->model;
	uint64_t tokens = s->flags.context ? s->flags.context : m->context;

	if (!s->flags.has_context && m->kv_bytes && m->context > CONTEXT_LEAST) {
		while (tokens / 2 >= CONTEXT_LEAST && tokens > s->memory / 8 / m->kv_bytes)
			tokens /= 2;
		s->context = tokens < m->context ? tokens : 0;
	}
	if (__builtin_mul_overflow(tokens, m->kv_bytes, &s->kv))
		s->kv = UINT64_MAX / 4;
	s->kv = s->kv > KV_LEAST ? s->kv : KV_LEAST;
}

/* One entry of --cache. Return: 0 or -EINVAL */
static int parse_budget(const char *text, uint64_t all, uint64_t *bytes)
{
	const size_t len = strlen(text);
	double share;
	char *end;

	if (len && text[len - 1] == '%') {
		share = strtod(text, &end);
		if (end != text + len - 1 || !(share > 0) || share > 100)
			return -EINVAL;
		*bytes = (uint64_t)((double)all * share / 100);
		return 0;
	}
	return cmd_parse_size(text, bytes) || !*bytes ? -EINVAL : 0;
}

/* The first entry is this model's; @others those of draft models. */
static int parse_cache(struct serve *s, uint64_t *others)
{
	char text[sizeof(s->cache_text)], *entry, *rest = NULL;
	uint64_t bytes;
	int nr = 0;

	if (strlen(s->cache) >= sizeof(text))
		return -EINVAL;
	strcpy(text, s->cache);
	for (entry = strtok_r(text, ",", &rest); entry; entry = strtok_r(NULL, ",", &rest), nr++) {
		/* a share of a model that is not looked at is not known */
		if (parse_budget(entry, nr ? 0 : s->model.cache_all, &bytes))
			return -EINVAL;
		if (!nr)
			s->budget = bytes;
		else if (__builtin_add_overflow(*others, bytes, others))
			return -EINVAL;
	}
	if (nr > 1)
		strcpy(s->cache_text, s->cache);
	return nr ? 0 : -EINVAL;
}

static int too_little(const struct serve *s, uint64_t budget)
{
	return cmd_error("serve", CMD_IMPOSSIBLE,
			 "%" PRIu64 " MiB of memory can be had, but %" PRIu64 " MiB are needed: %" PRIu64
			 " of dense weights, %" PRIu64 " of cache (one token's experts are %" PRIu64 "), %" PRIu64
			 " of KV cache, %" PRIu64 " of buffers; a smaller %s, or a higher memory limit",
			 s->memory >> 20, MIB(s->model.dense_bytes + budget + s->kv + BUFFERS),
			 MIB(s->model.dense_bytes), MIB(budget), MIB(s->model.cache_token), MIB(s->kv), BUFFERS >> 20,
			 budget > s->model.cache_token ? "--cache or context (-c)" : "context (-c)");
}

static int choose_cache(struct serve *s)
{
	const struct serve_model *m = &s->model;
	uint64_t others = 0, rest, left;

	if (s->cache && *s->cache && parse_cache(s, &others))
		return cmd_error("serve", CMD_USAGE,
				 "--cache takes a size (8G, 512M) or a share of the experts (50%%), not '%s'",
				 s->cache);
	rest = m->dense_bytes + s->kv + BUFFERS;
	left = s->memory > rest ? s->memory - rest : 0;
	if (!s->budget) {
		s->budget = left < m->cache_all ? left : m->cache_all;
		if (s->budget < m->cache_token)
			return too_little(s, m->cache_token);
	}
	if (s->budget > m->cache_all)
		s->budget = m->cache_all;
	if (s->budget < m->cache_token)
		return cmd_error("serve", CMD_USAGE,
				 "a cache of %" PRIu64 " MiB is less than one token's experts, %" PRIu64
				 " MiB (all are %" PRIu64 " MiB): raise --cache", s->budget >> 20,
				 MIB(m->cache_token), MIB(m->cache_all));
	if (s->budget > left || others > left - s->budget) {
		/* a GPU takes dense weights, how many is llama-server's affair */
		if (!*s->host.gpu)
			return too_little(s, s->budget + others);
		fprintf(stderr, "penstock serve: only %" PRIu64
			" MiB of memory can be had: this works if %s takes dense weights\n", s->memory >> 20,
			s->host.gpu);
	}
	if (!*s->cache_text)
		snprintf(s->cache_text, sizeof(s->cache_text), "%" PRIu64, s->budget);
	return CMD_GOOD;
}

/* Dense weights are locked in memory, or the cache's reads push them out. */
static void raise_memlock(const struct serve *s)
{
	const char *lock = getenv("PENSTOCK_LOCK");
	struct rlimit lim;

	if (getrlimit(RLIMIT_MEMLOCK, &lim))
		return;
	if (lim.rlim_cur < lim.rlim_max) {
		lim.rlim_cur = lim.rlim_max;
		if (setrlimit(RLIMIT_MEMLOCK, &lim))
			getrlimit(RLIMIT_MEMLOCK, &lim);
	}
	if (lim.rlim_cur >= s->model.dense_bytes || !geteuid() || (lock && !strcmp(lock, "0")))
		return;
	fprintf(stderr, "penstock serve: %" PRIu64 " MiB of dense weights cannot be locked in memory (the limit is %"
		PRIu64 " MiB) and may be read again and again: raise it by `ulimit -l`, or LimitMEMLOCK=infinity of "
		"the unit\n",
		MIB(s->model.dense_bytes), (uint64_t)lim.rlim_cur >> 20);
}

/* ---- starting ---- */

static int make_argv(struct serve *s)
{
	uint32_t n = 0, i;

	/* name, -m and model, four additions of two words, the end */
	s->argv = calloc(s->nr_rest + 12, sizeof(*s->argv));
	if (!s->argv)
		return cmd_error("serve", CMD_FAILED, "out of memory");
	s->argv[n++] = s->server;
	s->argv[n++] = (char *)"-m";
	s->argv[n++] = s->model.path;
	if (s->host.load_mode && !s->flags.load_mode) {
		s->argv[n++] = (char *)"--load-mode";
		s->argv[n++] = (char *)"mmap";
	}
	if (s->host.fit && !s->flags.fit) {
		s->argv[n++] = (char *)"-fit";
		s->argv[n++] = (char *)"off";
	}
	if (*s->host.gpu && s->host.cpu_moe && !s->flags.placement)
		s->argv[n++] = (char *)"--cpu-moe";
	if (s->context) {
		snprintf(s->context_text, sizeof(s->context_text), "%" PRIu64, s->context);
		s->argv[n++] = (char *)"-c";
		s->argv[n++] = s->context_text;
	}
	for (i = 0; i < s->nr_rest; i++)
		s->argv[n++] = s->rest[i];
	return CMD_GOOD;
}

/* As a shell takes it back. */
static void put_quoted(const char *text)
{
	const char *plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=.,:/@%";

	if (*text && !text[strspn(text, plain)]) {
		fputs(text, stdout);
		return;
	}
	putchar('\'');
	for (; *text; text++) {
		if (*text == '\'')
			fputs("'\\''", stdout);
		else
			putchar(*text);
	}
	putchar('\'');
}

static int show(const struct serve *s)
{
	const char *const env[][2] = { { "GGML_BACKEND_PATH=", s->backend }, { "PENSTOCK_CACHE=", s->cache_text },
				       { "PENSTOCK_FORM=", s->form }, { "PENSTOCK_STATS=", s->stats } };
	size_t i;

	for (i = 0; i < sizeof(env) / sizeof(env[0]); i++) {
		fputs(env[i][0], stdout);
		put_quoted(env[i][1]);
		fputs(" \\\n", stdout);
	}
	for (i = 0; s->argv[i]; i++) {
		if (i)
			putchar(' ');
		put_quoted(s->argv[i]);
	}
	putchar('\n');
	if (fflush(stdout))
		return cmd_error("serve", CMD_FAILED, "cannot write the result: %s", strerror(errno));
	return CMD_GOOD;
}

static int start(const struct serve *s)
{
	fprintf(stderr, "penstock serve: %s: cache of %" PRIu64 " MiB for %" PRIu64 " MiB of experts, %" PRIu64
		" MiB of dense weights", s->model.path, s->budget >> 20, MIB(s->model.expert_bytes),
		MIB(s->model.dense_bytes));
	if (s->context)
		fprintf(stderr, ", context of %" PRIu64 " of %" PRIu64 " tokens (-c for another)", s->context,
			s->model.context);
	fprintf(stderr, "; %s\n", s->server);
	if (s->dry_run)
		return show(s);
	if (setenv("GGML_BACKEND_PATH", s->backend, 1) || setenv("PENSTOCK_CACHE", s->cache_text, 1) ||
	    setenv("PENSTOCK_FORM", s->form, 1) || setenv("PENSTOCK_STATS", s->stats, 1))
		return cmd_error("serve", CMD_FAILED, "the environment: %s", strerror(errno));
	/* ignored signals stay ignored over an exec */
	signal(SIGPIPE, SIG_DFL);
	execv(s->server, s->argv);
	return cmd_error("serve", CMD_FAILED, "%s cannot be run: %s", s->server, strerror(errno));
}

static int prepare(struct serve *s)
{
	struct penstock_error err = { 0 };
	int rc;

	rc = serve_flags_read(s->rest, s->nr_rest, &s->flags, &err);
	if (!rc)
		rc = serve_model_read(s->model_path, &s->model, &err);
	if (!rc)
		rc = serve_find_server(s->server_flag, &s->server, &err);
	if (!rc)
		rc = serve_find_backend(s->backend_flag, &s->backend, &err);
	if (!rc)
		rc = serve_ask_host(s->server, &s->host, &err);
	if (rc)
		return cmd_error("serve", cmd_exit_code(rc), "%s", err.text);
	s->memory = run_memory_available();
	choose_context(s);
	rc = choose_cache(s);
	return rc ? rc : make_argv(s);
}

int cmd_serve(int argc, char **argv)
{
	struct serve s = { .rest = calloc((size_t)argc, sizeof(char *)) };
	int code;

	if (!s.rest)
		return cmd_error("serve", CMD_FAILED, "out of memory");
	code = parse(&s, argc, argv);
	if (code < 0) {
		usage(stdout);
		code = CMD_GOOD;
	} else if (!code) {
		code = prepare(&s);
		if (!code) {
			raise_memlock(&s);
			code = start(&s);
		}
	}
	serve_model_free(&s.model);
	free(s.server);
	free(s.backend);
	free(s.argv);
	free(s.rest);
	return code;
}
