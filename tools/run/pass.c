// SPDX-License-Identifier: MIT
/*
 * A pass: prompts in pieces, one sequence after another, then one token of each
 * sequence a step. Without attention (moe_only) outputs mean nothing, and would
 * soon go in circles: seeded random tokens are fed instead.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bound.h"
#include "run.h"
#include "verify.h"

/* Prompt tokens a step: each expert of a piece's union is read once for all of them. */
#define PIECE 256u

int run_pass_begin(struct run_pass *p, struct run_session *s, uint32_t tokens, struct penstock_error *err)
{
	uint32_t i, rows = s->prompts.nr > PIECE ? s->prompts.nr : PIECE;

	memset(p, 0, sizeof(*p));
	p->s = s;
	p->tokens = tokens;
	p->rows = calloc(rows, sizeof(*p->rows));
	p->pos = calloc(s->prompts.nr, sizeof(*p->pos));
	p->out = calloc((size_t)s->prompts.nr * tokens, sizeof(*p->out));
	p->logits = calloc((size_t)s->prompts.nr * s->vocab, sizeof(*p->logits));
	p->samplers = calloc(s->prompts.nr, sizeof(*p->samplers));
	p->want = malloc(s->prompts.nr);
	if (!p->rows || !p->pos || !p->out || !p->logits || !p->samplers || !p->want) {
		run_pass_end(p);
		return decoder_fail(err, -ENOMEM, "%u sequences of %u tokens", s->prompts.nr, tokens);
	}
	memset(p->want, 1, s->prompts.nr);
	/* Not the prompts' stream: it starts from the seed itself. */
	for (i = 0; i < s->prompts.nr; i++)
		decoder_sampler_seed(&p->samplers[i], s->args->seed + 1 + i, s->args->temperature);
	decoder_reset(s->dec);
	return 0;
}

void run_pass_end(struct run_pass *p)
{
	free(p->rows);
	free(p->pos);
	free(p->out);
	free(p->logits);
	free(p->samplers);
	free(p->want);
	memset(p, 0, sizeof(*p));
}

/* The next id of a sequence, from its logits. */
static int choose(struct run_pass *p, uint32_t seq, const float *logits, struct penstock_error *err)
{
	int32_t id;

	if (p->replay)
		id = p->replay[(size_t)seq * p->tokens + p->nr_out];
	else if (p->s->moe_only)
		id = (int32_t)(decoder_sampler_next(&p->samplers[seq]) % p->s->vocab);
	else
		id = decoder_sample(&p->samplers[seq], logits, p->s->vocab);
	if (id < 0)
		return decoder_fail(err, id, "sequence %u, output %u: the logits hold a NaN or an infinity", seq,
				    p->nr_out);
	p->out[(size_t)seq * p->tokens + p->nr_out] = id;
	return 0;
}

static int step(struct run_pass *p, const uint8_t *want, float *logits, size_t nr_logits, struct penstock_error *err)
{
	int rc;

	if (run_interrupted())
		return decoder_fail(err, -ECANCELED, "interrupted");
	rc = decoder_step(p->s->dec, p->rows, p->nr_rows, want, p->experts, p->hook, logits, err);
	if (rc)
		return rc;
	if (p->digest) {
		rc = run_digest_logits(p->digest, p->steps, logits, nr_logits * p->s->vocab, err);
		if (rc)
			return rc;
	}
	p->steps++;
	if (p->tick)
		p->tick(p->tick_arg);
	return 0;
}

/* One sequence's prompt; its last piece gives the logits of the first output. */
static int prefill_sequence(struct run_pass *p, uint32_t seq, struct penstock_error *err)
{
	const struct run_prompts *pr = &p->s->prompts;
	float *logits = p->logits + (size_t)seq * p->s->vocab;
	uint32_t i;
	int rc;

	while (p->pos[seq] < pr->len[seq]) {
		for (i = 0; i < PIECE && p->pos[seq] + i < pr->len[seq]; i++)
			p->rows[i] = (struct decoder_row){
				.token = pr->ids[seq][p->pos[seq] + i],
				.seq = seq,
				.pos = p->pos[seq] + i,
			};
		p->nr_rows = i;
		rc = step(p, NULL, logits, 1, err);
		if (rc)
			return rc;
		p->pos[seq] += i;
	}
	return 0;
}

int run_pass_prefill(struct run_pass *p, struct penstock_error *err)
{
	uint32_t seq;
	int rc = 0;

	p->decode = false;
	for (seq = 0; !rc && seq < p->s->prompts.nr; seq++)
		rc = prefill_sequence(p, seq, err);
	for (seq = 0; !rc && seq < p->s->prompts.nr; seq++)
		rc = choose(p, seq, p->logits + (size_t)seq * p->s->vocab, err);
	if (!rc)
		p->nr_out = 1;
	return rc;
}

int run_pass_step(struct run_pass *p, struct penstock_error *err)
{
	uint32_t seq, nr = p->s->prompts.nr;
	int rc;

	p->decode = true;
	if (p->bound)
		run_bound_step_begin(p->bound, run_now_ns());
	for (seq = 0; seq < nr; seq++)
		p->rows[seq] = (struct decoder_row){
			.token = p->out[(size_t)seq * p->tokens + p->nr_out - 1],
			.seq = seq,
			.pos = p->pos[seq],
		};
	p->nr_rows = nr;
	rc = step(p, p->want, p->logits, nr, err);
	for (seq = 0; !rc && seq < nr; seq++) {
		p->pos[seq]++;
		rc = choose(p, seq, p->logits + (size_t)seq * p->s->vocab, err);
	}
	if (rc)
		return rc;
	p->nr_out++;
	if (p->bound)
		run_bound_step_end(p->bound, run_now_ns());
	return 0;
}
