/* SPDX-License-Identifier: MIT */
/*
 * Comparison with mmap: two child processes, each in a control group with the
 * same memory limit, decode the same tokens in turns: one through the library,
 * one over an mmap of the same files.
 *
 * The limit is measured, not guessed: what the library's side holds after the
 * prompt (dense weights, slots, KV cache, overhead), the KV cache's growth, and
 * a slack. What the mmap side does not spend on slots is its page cache.
 */
#ifndef PENSTOCK_RUN_COMPARE_H
#define PENSTOCK_RUN_COMPARE_H

#include <stdbool.h>
#include "run.h"
#include "source.h"

/* Output tokens that a comparison needs: a trial of each method, and some rounds. */
#define RUN_COMPARE_TOKENS	16u

/**
 * struct run_compare - its result
 * @done: else @reason says why not
 * @ratio: tokens a second, library over mmap, on the same tokens
 * @trial_tok_s: of each method
 * @same_output: all sides gave the ids of the main run
 * @limit_bytes: the limit, made of @dense_bytes, @slot_bytes, @other_bytes, @slack_bytes
 * @how: the control groups
 */
struct run_compare {
	bool done;
	bool same_output;
	char reason[600];
	char how[1200];
	double ratio;
	double tok_s;
	double mmap_tok_s;
	double trial_tok_s[RUN_MMAP_METHODS];
	enum run_mmap_method method;
	uint64_t read_ahead_bytes;
	uint64_t limit_bytes;
	uint64_t dense_bytes;
	uint64_t slot_bytes;
	uint64_t other_bytes;
	uint64_t slack_bytes;
	uint32_t rounds;
	uint64_t tokens;
};

/**
 * run_compare() - run both sides
 * @ids: the main run's output, nr_seqs x args->tokens
 * @least_bytes: the smallest cache that opens this model
 * No context of this process may be open: it forks.
 * Return: 0, also where it cannot be done; -ECANCELED interrupted.
 */
int run_compare(const struct run_args *args, const int32_t *ids, uint32_t nr_seqs, uint64_t least_bytes,
		struct run_compare *res);

/* ---- one side: compare_side.c ---- */

enum run_side_op { RUN_SIDE_OPEN = 1, RUN_SIDE_PREFILL, RUN_SIDE_STEPS, RUN_SIDE_QUIT };

struct run_side_cmd {
	uint32_t op;
	uint32_t steps;
	uint32_t method;
};

/**
 * struct run_side_reply
 * @rc: 0, or -errno with @text
 * @ns: what the command took
 * @ids: digest of the ids that it gave
 * @slot_bytes: memory in slots; @slots_charged: to the control group
 * @kv_bytes: that the KV cache can still grow by
 */
struct run_side_reply {
	int32_t rc;
	uint32_t slots_charged;
	uint64_t ns;
	uint64_t ids;
	uint64_t dense_bytes;
	uint64_t slot_bytes;
	uint64_t kv_bytes;
	uint64_t read_ahead_bytes;
	char text[500];
};

/** run_side_main() - a child's life: commands come and replies go over @fd. Return: exit status. */
int run_side_main(int fd, const struct run_args *args, bool mmap_side, uint64_t cache_bytes);
/** run_side_ids() - digest of ids @from .. @from + @n - 1 of each sequence */
uint64_t run_side_ids(const int32_t *ids, uint32_t nr_seqs, uint32_t tokens, uint32_t from, uint32_t n);

#endif
