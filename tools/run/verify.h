/* SPDX-License-Identifier: MIT */
/*
 * Verification: the main run leaves digests of each layer's expert outputs and
 * of each step's logits; a second pass over the same tokens, its experts read by
 * plain pread without a cache, must leave the same.
 */
#ifndef PENSTOCK_RUN_VERIFY_H
#define PENSTOCK_RUN_VERIFY_H

#include <stdbool.h>
#include "progress.h"
#include "run.h"

/**
 * struct run_digest - 64-bit digests, or the comparison with those of another pass
 * @against: NULL = record; else compare with it
 * @differs: compare: step @bad_step differs, first in the experts of @bad_layer;
 *	@bad_layer is -1 if only the logits do
 */
struct run_digest {
	const struct run_digest *against;
	uint32_t nr_layers;
	uint32_t nr_steps;
	uint32_t room;
	uint64_t *layers;	/* nr_steps x nr_layers */
	uint64_t *logits;	/* nr_steps */
	bool differs;
	uint32_t bad_step;
	int64_t bad_layer;
};

/** run_digest_layer() - outputs of a layer's experts in @step. Return: 0; -ENOMEM. */
int run_digest_layer(struct run_digest *d, uint32_t step, const struct penstock_moe *moe, uint32_t hidden,
		     struct penstock_error *err);
/** run_digest_logits() - the end of @step. Return: 0; -ENOMEM; -EILSEQ comparing, the step differs. */
int run_digest_logits(struct run_digest *d, uint32_t step, const float *logits, size_t nr,
		      struct penstock_error *err);
void run_digest_free(struct run_digest *d);

/**
 * run_verify() - do the main run's steps again with plain reads
 * @main: the pass to check, ended or not; its output is fed again
 * @digest: what it left
 * @same: receives the verdict
 * @seen: receives step and layer of the first difference
 * @progress: a line to show meanwhile
 * Return: 0 with a verdict; -ECANCELED interrupted; -errno of reads, with text.
 */
int run_verify(struct run_session *s, const struct run_pass *main, const struct run_digest *digest, bool *same,
	       struct run_digest *seen, struct run_progress *progress, struct penstock_error *err);

#endif
