// SPDX-License-Identifier: MIT
/* Digests, and the second pass with plain reads. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "../decoder/plain.h"
#include "verify.h"

static int room_for(struct run_digest *d, uint32_t step, struct penstock_error *err)
{
	uint32_t room = d->room ? d->room : 64;
	uint64_t *layers, *logits;

	while (room <= step)
		room *= 2;
	if (room == d->room)
		return 0;
	layers = realloc(d->layers, (size_t)room * d->nr_layers * sizeof(*layers));
	if (layers)
		d->layers = layers;
	logits = realloc(d->logits, room * sizeof(*logits));
	if (logits)
		d->logits = logits;
	if (!layers || !logits)
		return decoder_fail(err, -ENOMEM, "digests of %u steps", room);
	memset(layers + (size_t)d->room * d->nr_layers, 0, (size_t)(room - d->room) * d->nr_layers * sizeof(*layers));
	memset(logits + d->room, 0, (room - d->room) * sizeof(*logits));
	d->room = room;
	return 0;
}

int run_digest_layer(struct run_digest *d, uint32_t step, const struct penstock_moe *moe, uint32_t hidden,
		     struct penstock_error *err)
{
	uint64_t *digest;
	size_t i;
	int rc;

	rc = room_for(d, step, err);
	if (rc)
		return rc;
	digest = &d->layers[(size_t)step * d->nr_layers + moe->layer];
	for (i = 0; i < moe->nr_tokens; i++)
		*digest = XXH3_64bits_withSeed(moe->out + i * moe->ldout, hidden * sizeof(float), *digest);
	return 0;
}

static void compare_step(struct run_digest *d, uint32_t step)
{
	const uint64_t *mine = d->layers + (size_t)step * d->nr_layers;
	const uint64_t *theirs = d->against->layers + (size_t)step * d->nr_layers;
	uint32_t i;

	d->bad_step = step;
	for (i = 0; i < d->nr_layers; i++) {
		if (mine[i] == theirs[i])
			continue;
		d->bad_layer = i;
		d->differs = true;
		return;
	}
	d->bad_layer = -1;
	d->differs = d->logits[step] != d->against->logits[step];
}

int run_digest_logits(struct run_digest *d, uint32_t step, const float *logits, size_t nr, struct penstock_error *err)
{
	int rc;

	rc = room_for(d, step, err);
	if (rc)
		return rc;
	d->logits[step] = XXH3_64bits(logits, nr * sizeof(*logits));
	d->nr_steps = step + 1;
	if (!d->against)
		return 0;
	if (step < d->against->nr_steps)
		compare_step(d, step);
	if (d->differs)
		return decoder_fail(err, -EILSEQ, "step %u differs", step);
	return 0;
}

void run_digest_free(struct run_digest *d)
{
	free(d->layers);
	free(d->logits);
	memset(d, 0, sizeof(*d));
}

/* The plain source, leaving digests. */
struct checked {
	struct decoder_plain *plain;
	struct run_pass *p;
	struct run_progress *progress;
};

static int forward(void *arg, const struct penstock_moe *moe, struct penstock_error *err)
{
	struct checked *c = arg;
	int rc;

	if (run_interrupted())
		return decoder_fail(err, -ECANCELED, "interrupted");
	rc = decoder_plain_forward(c->plain, moe, err);
	if (rc)
		return rc;
	run_progress_line(c->progress, "verify %u/%u tokens", c->p->nr_out, c->p->tokens);
	return run_digest_layer(c->p->digest, c->p->steps, moe, c->p->s->info.hidden, err);
}

/* Tokens come from the main run, so that one wrong token does not make all that follow differ. */
static int replay(struct run_pass *p, const struct run_pass *main, struct penstock_error *err)
{
	int rc;

	rc = run_pass_prefill(p, err);
	while (!rc && p->nr_out < main->nr_out)
		rc = run_pass_step(p, err);
	return rc;
}

int run_verify(struct run_session *s, const struct run_pass *main, const struct run_digest *digest, bool *same,
	       struct run_digest *seen, struct run_progress *progress, struct penstock_error *err)
{
	struct run_pass p;
	struct checked c = { .p = &p, .progress = progress };
	struct decoder_experts experts = { .forward = forward, .arg = &c };
	int rc;

	*seen = (struct run_digest){ .against = digest, .nr_layers = s->info.nr_layers };
	rc = decoder_plain_create(s->model, s->pool, &c.plain, err);
	if (rc)
		return rc;
	rc = run_pass_begin(&p, s, main->tokens, err);
	if (rc)
		goto err_plain;
	p.experts = &experts;
	p.hook = main->hook;
	p.digest = seen;
	p.replay = main->out;
	rc = replay(&p, main, err);
	*same = !rc && seen->nr_steps == digest->nr_steps;
	if (rc == -EILSEQ)
		rc = 0;
	run_pass_end(&p);
err_plain:
	decoder_plain_destroy(c.plain);
	return rc;
}
