/* SPDX-License-Identifier: MIT */
/*
 * `penstock run`: what its files share. A session is an open model with its
 * dense weights; a pass is one walk of the batch's tokens through the model,
 * with experts from one source. The main run, the verification and both sides
 * of a comparison are passes.
 */
#ifndef PENSTOCK_RUN_H
#define PENSTOCK_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <penstock/penstock.h>
#include <kabi.h>
#include "../decoder/decoder.h"
#include "../decoder/fail.h"
#include "../decoder/sample.h"

#define RUN_GB	1e9

struct run_bound;
struct run_digest;

static inline uint64_t run_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/** run_fail_queue() - take over the text of a queue's failure; Return: @code */
int run_fail_queue(struct penstock_error *e, int code, const struct penstock_queue *q);

/** run_interrupted() - has SIGINT or SIGTERM come since run_catch_signals()? */
bool run_interrupted(void);
void run_catch_signals(void);

/* ---- arguments ---- */

/**
 * struct run_args - the command line
 * @batch: sequences; 0 = as many as the prompt file has lines, else 1
 * @ctx: longest sequence; 0 = as long as needed
 * @isa: enum penstock_isa
 */
struct run_args {
	const char *model;
	const char *device;
	const char *route;
	const char *policy;
	const char *prompt_file;
	const char *trace_file;
	const char *routing_file;
	uint64_t cache_bytes;
	uint64_t seed;
	uint32_t tokens;
	uint32_t batch;
	uint32_t prompt_tokens;
	uint32_t ctx;
	unsigned int threads;
	int isa;
	bool math_fast;
	float temperature;
	bool verify;
	bool compare_mmap;
	bool json;
	bool quiet;
};

/* ---- prompts ---- */

/** struct run_prompts - token ids of each sequence */
struct run_prompts {
	uint32_t nr;
	uint32_t longest;
	uint32_t *len;
	int32_t **ids;
};

/**
 * run_prompts_read() - one sequence a line, ids between white space or commas
 * @batch: sequences wanted, lines are repeated in turn; 0 = one a line
 * Return: 0; -ENOENT, -EACCES as open(2); -EINVAL no number, or an id that is no
 * 31-bit number, with the line; -ENOMEM.
 */
int run_prompts_read(const char *path, uint32_t batch, struct run_prompts *p, struct penstock_error *err);
/** run_prompts_random() - @len ids below @vocab in each sequence, from @seed. Return: 0; -ENOMEM. */
int run_prompts_random(uint64_t seed, uint32_t batch, uint32_t len, uint32_t vocab, struct run_prompts *p);
/** run_prompts_check() - Return: 0; -EINVAL an id at or above @vocab, with sequence and place. */
int run_prompts_check(const struct run_prompts *p, uint32_t vocab, struct penstock_error *err);
void run_prompts_free(struct run_prompts *p);

/* ---- session ---- */

/**
 * struct run_session - the model, open and loaded
 * @moe_only: an MLA family: tokens pass through router and experts only
 * @capacity: positions a sequence
 */
struct run_session {
	const struct run_args *args;
	struct penstock_ctx *ctx;
	struct penstock_model *model;
	struct penstock_queue *q;
	struct penstock_pool *pool;
	struct decoder *dec;
	struct penstock_model_info info;
	struct run_prompts prompts;
	bool moe_only;
	uint32_t vocab;
	uint32_t capacity;
};

/**
 * run_session_open() - open the context and the model, load the dense weights, make the prompts
 * @cache_bytes: budget for slots
 * Return: 0; -errno of the library or the decoder, with its text; -ENOMEM the
 * memory of this machine cannot hold it, with the numbers; -EINVAL prompt or
 * context do not fit.
 */
int run_session_open(struct run_session *s, const struct run_args *args, uint64_t cache_bytes,
		     struct penstock_error *err);
void run_session_close(struct run_session *s);

/** run_memory_available() - bytes that this process can still get (system and cgroup v2); UINT64_MAX = unknown */
uint64_t run_memory_available(void);

/* ---- a pass ---- */

/**
 * struct run_pass - one walk of all sequences through the model
 * @experts: the source
 * @hook: forced choices, or NULL
 * @bound: fed with each decode step's times, or NULL
 * @digest: what the outputs of each step and layer were, or NULL
 * @replay: nr_seqs x tokens ids to feed instead of what is sampled, or NULL
 * @tick: called after each step and each layer, or NULL
 * The rest is kept by the pass:
 * @rows: rows of the step in hand, @nr_rows of them; @decode: 0 in prefill
 * @pos: positions done, a sequence
 * @out: nr_seqs x tokens output ids; @nr_out: done in each sequence
 * @steps: calls of the decoder so far
 */
struct run_pass {
	struct run_session *s;
	const struct decoder_experts *experts;
	const struct decoder_router_hook *hook;
	struct run_bound *bound;
	struct run_digest *digest;
	const int32_t *replay;
	void (*tick)(void *arg);
	void *tick_arg;
	struct decoder_row *rows;
	uint32_t nr_rows;
	bool decode;
	uint32_t *pos;
	int32_t *out;
	uint32_t nr_out;
	uint32_t tokens;
	uint32_t steps;
	float *logits;
	uint8_t *want;				/* all ones: every row's logits */
	struct decoder_sampler *samplers;	/* one a sequence */
};

/** run_pass_begin() - @tokens output ids a sequence are wanted. Return: 0; -ENOMEM. */
int run_pass_begin(struct run_pass *p, struct run_session *s, uint32_t tokens, struct penstock_error *err);
/** run_pass_prefill() - the prompts, in pieces; gives the first output id. Return: 0; -ECANCELED; -errno. */
int run_pass_prefill(struct run_pass *p, struct penstock_error *err);
/** run_pass_step() - one more id for each sequence. Return: 0; -ECANCELED interrupted; -errno. */
int run_pass_step(struct run_pass *p, struct penstock_error *err);
void run_pass_end(struct run_pass *p);

/* ---- counters of a phase ---- */

/** struct run_phase - what changed between two snapshots */
struct run_phase {
	uint64_t tokens;
	uint64_t ns;
	struct penstock_stats stats;	/* differences; gauges as at the end */
	struct decoder_times times;	/* differences */
};

/** run_phase_begin() - remember the counters; Return: 0 or -errno with text */
int run_phase_begin(struct run_session *s, struct run_phase *ph, struct penstock_error *err);
/** run_phase_end() - turn @ph into differences; @tokens were done in it */
int run_phase_end(struct run_session *s, struct run_phase *ph, uint64_t tokens, struct penstock_error *err);

#endif
