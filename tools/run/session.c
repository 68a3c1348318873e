// SPDX-License-Identifier: MIT
/*
 * A session: context, model, queue, compute threads, decoder and prompts, opened
 * in this order and closed in the reverse.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../cmd.h"
#include "run.h"

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	/* The second one ends the program as if nobody had caught it. */
	if (interrupted)
		signal(sig, SIG_DFL);
	interrupted = 1;
}

void run_catch_signals(void)
{
	struct sigaction sa = { .sa_handler = on_signal };

	sigemptyset(&sa.sa_mask);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

/* The memory under a kernel's hands went away: there is no way on, but there are words for it. */
static void on_bus_error(int sig)
{
	static const char text[] = "penstock run: the device's memory was taken away while it was computed on "
				   "(SIGBUS): the device was removed, reset or unbound; see the kernel's log\n";
	ssize_t unused;

	unused = write(STDERR_FILENO, text, sizeof(text) - 1);
	(void)unused;
	_exit(CMD_IMPOSSIBLE);
}

static void catch_bus_errors(void)
{
	struct sigaction sa = { .sa_handler = on_bus_error };

	sigemptyset(&sa.sa_mask);
	sigaction(SIGBUS, &sa, NULL);
}

bool run_interrupted(void)
{
	return interrupted;
}

int run_fail_queue(struct penstock_error *e, int code, const struct penstock_queue *q)
{
	if (e) {
		e->code = code;
		snprintf(e->text, sizeof(e->text), "%s", penstock_errmsg(q));
	}
	return code;
}

static void log_line(void *arg, enum penstock_log_level level, const char *line)
{
	if (level <= PENSTOCK_LOG_WARN)
		fprintf(stderr, "penstock run: %s\n", line);
}

/* Bytes of the files around a checkpoint: no cache is larger. UINT64_MAX = unknown. */
static uint64_t size_on_disk(const char *model)
{
	char dir[PATH_MAX], *slash;
	uint64_t sum = 0;
	struct dirent *e;
	struct stat st;
	DIR *d;

	if (stat(model, &st) || snprintf(dir, sizeof(dir), "%s", model) >= (int)sizeof(dir))
		return UINT64_MAX;
	if (!S_ISDIR(st.st_mode)) {
		slash = strrchr(dir, '/');
		if (slash)
			slash[1] = 0;
		else
			dir[0] = 0;
	}
	d = opendir(dir[0] ? dir : ".");
	if (!d)
		return UINT64_MAX;
	while ((e = readdir(d)))
		if (!fstatat(dirfd(d), e->d_name, &st, 0) && S_ISREG(st.st_mode))
			sum += (uint64_t)st.st_size;
	closedir(d);
	return sum;
}

static int check_memory(const struct run_args *args, uint64_t need, const char *what, struct penstock_error *err)
{
	uint64_t available = run_memory_available();

	if (need <= available)
		return 0;
	return decoder_fail(err, -ENOMEM, "model %s: %s takes %.2f GB, this machine has %.2f GB left", args->model,
			    what, (double)need / RUN_GB, (double)available / RUN_GB);
}

/* A number that is no length says nothing; converting it would be undefined. */
static uint64_t positions_of(const struct penstock_meta *meta)
{
	bool known = meta->type == PENSTOCK_META_NUMBER && meta->number >= 1 && meta->number <= UINT32_MAX;

	return known ? (uint64_t)meta->number : UINT64_MAX;
}

/* The longest sequence that the model was made for; UINT64_MAX = it does not say. */
static uint64_t model_positions(const struct run_session *s)
{
	static const char *const keys[] = { "max_position_embeddings", "text_config.max_position_embeddings" };
	struct penstock_meta meta;
	char gguf[128];
	size_t i;

	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (!penstock_meta_find(s->model, keys[i], &meta) && positions_of(&meta) != UINT64_MAX)
			return positions_of(&meta);
	snprintf(gguf, sizeof(gguf), "%s.context_length", s->info.arch);
	return penstock_meta_find(s->model, gguf, &meta) ? UINT64_MAX : positions_of(&meta);
}

static int choose_capacity(struct run_session *s, uint32_t prompt, struct penstock_error *err)
{
	uint64_t need = (uint64_t)prompt + s->args->tokens, most = model_positions(s);

	if (s->args->ctx && need > s->args->ctx)
		return decoder_fail(err, -EINVAL, "prompt of %u and output of %u tokens are longer than --ctx %u",
				    prompt, s->args->tokens, s->args->ctx);
	if (!s->moe_only && need > most)
		return decoder_fail(err, -EINVAL,
				    "prompt of %u and output of %u tokens are longer than the model's %llu positions",
				    prompt, s->args->tokens, (unsigned long long)most);
	if (need > UINT32_MAX)
		return decoder_fail(err, -EINVAL, "prompt of %u and output of %u tokens", prompt, s->args->tokens);
	s->capacity = s->args->ctx ? s->args->ctx : (uint32_t)need;
	return 0;
}

static int open_model(struct run_session *s, uint64_t cache_bytes, struct penstock_error *err)
{
	struct penstock_options opts = PENSTOCK_OPTIONS_INIT;
	int rc;

	if (s->args->device && strcmp(s->args->device, "host"))
		catch_bus_errors();
	opts.cache_bytes = cache_bytes;
	opts.device = s->args->device;
	opts.route = s->args->route;
	opts.policy = s->args->policy;
	/* one thread decodes: it drives the I/O itself, which saves two thread switches a layer */
	opts.flags = PENSTOCK_F_CALLER_PROGRESS;
	opts.log = log_line;
	rc = penstock_open(&opts, &s->ctx, err);
	if (rc)
		return rc;
	rc = penstock_model_open(s->ctx, s->args->model, NULL, &s->model, err);
	if (rc)
		return rc;
	rc = penstock_queue_create(s->ctx, &s->q);
	if (rc)
		return decoder_fail(err, rc, "model %s: no queue", s->args->model);
	s->info.size = sizeof(s->info);
	rc = penstock_model_info(s->model, &s->info);
	if (rc)
		return decoder_fail(err, rc, "model %s: no information", s->args->model);
	return 0;
}

/* Whole models need attention; of the MLA families the experts can run alone. */
static int open_decoder(struct run_session *s, uint32_t nr_seqs, struct penstock_error *err)
{
	struct decoder_options opts = { .max_positions = s->capacity, .nr_seqs = nr_seqs, .moe_only = s->moe_only };
	int rc;

	rc = check_memory(s->args, s->info.dense_bytes, "its dense part", err);
	if (rc)
		return rc;
	rc = decoder_open(s->model, s->q, s->pool, &opts, &s->dec, err);
	if (rc)
		return rc;
	s->vocab = decoder_vocab(s->dec);
	return 0;
}

static int choose_mode(struct run_session *s, struct penstock_error *err)
{
	int rc = decoder_supports(s->model, err);

	s->moe_only = s->info.family == PENSTOCK_FAMILY_DEEPSEEK2 || s->info.family == PENSTOCK_FAMILY_DEEPSEEK3;
	if (!rc || !s->moe_only)
		return rc;
	if (err)
		memset(err, 0, sizeof(*err));
	return 0;
}

static int open_rest(struct run_session *s, struct penstock_error *err)
{
	const struct run_args *args = s->args;
	uint32_t nr_seqs = args->batch ? args->batch : 1, prompt = args->prompt_tokens;
	int rc;

	rc = choose_mode(s, err);
	if (!rc && args->prompt_file) {
		rc = run_prompts_read(args->prompt_file, args->batch, &s->prompts, err);
		nr_seqs = s->prompts.nr;
		prompt = s->prompts.longest;
	}
	if (!rc)
		rc = choose_capacity(s, prompt, err);
	if (!rc)
		rc = open_decoder(s, nr_seqs, err);
	if (rc)
		return rc;
	if (args->prompt_file)
		return run_prompts_check(&s->prompts, s->vocab, err);
	if (run_prompts_random(args->seed, nr_seqs, prompt, s->vocab, &s->prompts))
		return decoder_fail(err, -ENOMEM, "%u prompts of %u tokens", nr_seqs, prompt);
	return 0;
}

int run_session_open(struct run_session *s, const struct run_args *args, uint64_t cache_bytes,
		     struct penstock_error *err)
{
	uint64_t disk = size_on_disk(args->model);
	int rc;

	memset(s, 0, sizeof(*s));
	s->args = args;
	rc = check_memory(args, cache_bytes < disk ? cache_bytes : disk, "its cache", err);
	if (!rc) {
		rc = penstock_pool_create(args->threads, args->isa, args->math_fast ? PENSTOCK_POOL_F_FAST : 0,
					  &s->pool);
		if (rc)
			decoder_fail(err, rc, "compute threads (--threads %u, --isa)", args->threads);
	}
	if (!rc)
		rc = open_model(s, cache_bytes, err);
	if (!rc)
		rc = open_rest(s, err);
	if (rc)
		run_session_close(s);
	return rc;
}

void run_session_close(struct run_session *s)
{
	decoder_close(s->dec);
	run_prompts_free(&s->prompts);
	penstock_queue_destroy(s->q);
	penstock_model_close(s->model);
	penstock_close(s->ctx);
	if (s->pool)
		penstock_pool_destroy(s->pool);
	memset(s, 0, sizeof(*s));
}

/* ---- phases ---- */

int run_phase_begin(struct run_session *s, struct run_phase *ph, struct penstock_error *err)
{
	int rc;

	memset(ph, 0, sizeof(*ph));
	ph->stats.size = sizeof(ph->stats);
	rc = penstock_stats(s->ctx, &ph->stats);
	if (rc)
		return decoder_fail(err, rc, "statistics of the context");
	decoder_times(s->dec, &ph->times);
	ph->ns = run_now_ns();
	return 0;
}

int run_phase_end(struct run_session *s, struct run_phase *ph, uint64_t tokens, struct penstock_error *err)
{
	struct penstock_stats now = { .size = sizeof(now) };
	struct decoder_times times;
	int rc;

	ph->ns = run_now_ns() - ph->ns;
	ph->tokens = tokens;
	rc = penstock_stats(s->ctx, &now);
	if (rc)
		return decoder_fail(err, rc, "statistics of the context");
	decoder_times(s->dec, &times);
	ph->times.attention_ns = times.attention_ns - ph->times.attention_ns;
	ph->times.dense_ns = times.dense_ns - ph->times.dense_ns;
	ph->times.experts_ns = times.experts_ns - ph->times.experts_ns;
#define DIFF(f) (now.f -= ph->stats.f)
	DIFF(fetches);
	DIFF(experts_wanted);
	DIFF(experts_hit);
	DIFF(experts_joined);
	DIFF(fetches_all_hit);
	DIFF(bytes_wanted);
	DIFF(bytes_read);
	DIFF(bytes_buffered);
	DIFF(bytes_prefetch);
	DIFF(reads);
	DIFF(retries);
	DIFF(evictions);
	DIFF(prefetched);
	DIFF(prefetch_used);
	DIFF(io_busy_ns);
	DIFF(wait_ns);
	DIFF(compute_ns);
#undef DIFF
	ph->stats = now;
	return 0;
}
