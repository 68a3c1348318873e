// SPDX-License-Identifier: MIT
/* One MUL_MAT_ID over experts on the drive: see moe.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "form.h"
#include "host.h"
#include "moe.h"
#include "settings.h"

/* llama.cpp's warm-up is a batch of the tokens "begin" and "end". */
#define WARM_UP_TOKENS	2

static enum gg_status compute_unbound(struct gg_shadow *s, const struct gg_rows *rows)
{
	const struct gg_tensor *w = rows->op->src[0];
	const uint32_t wave = gg_settings.wave ? gg_settings.wave : rows->nr_used;
	struct gg_place *places = malloc((wave ? wave : 1) * sizeof(*places));
	enum gg_status rc = GG_STATUS_SUCCESS;

	if (!places)
		return GG_STATUS_ALLOC_FAILED;
	for (uint32_t i = 0; i < rows->nr_used && rc == GG_STATUS_SUCCESS; i += wave) {
		uint32_t nr = 0;

		for (; nr < wave && i + nr < rows->nr_used; nr++) {
			const int32_t id = rows->used[i + nr];

			places[nr].expert = id;
			places[nr].addr = (const char *)w->data + (size_t)id * w->nb[2];
		}
		rc = gg_shadow_compute(s, rows, places, nr, w->nb[2], NULL, NULL);
	}
	free(places);
	return rc;
}

/* --override-kv of the number of experts a token: then a batch with all of them may be real from the first. */
static bool count_overridden(void)
{
	static int known = -1;
	char text[4096];
	size_t len;
	FILE *f;

	if (known >= 0)
		return known;
	known = 0;
	f = fopen("/proc/self/cmdline", "re");
	if (!f)
		return false;
	while (!known && (len = fread(text, 1, sizeof(text) - 1, f)) > 0) {
		for (size_t i = 0; i < len; i++)
			text[i] = text[i] ? text[i] : ' ';
		text[len] = 0;
		known = strstr(text, "expert_used_count") != NULL;
	}
	fclose(f);
	return known;
}

/*
 * llama.cpp's warm-up routes two tokens to every expert and throws the result away:
 * it would read the whole model. Such a batch is answered with zeros, if a token
 * takes fewer by the file, it is the first batch of this matrix, and no more than a
 * warm-up's tokens are in it.
 */
static bool is_warm_up(struct gg_matrix *m, const struct gg_rows *rows)
{
	const bool first = !m->warmed;

	m->warmed = true;
	return first && rows->top_k == m->nr_experts && m->top_k && m->top_k < m->nr_experts &&
	       rows->tokens <= WARM_UP_TOKENS && !count_overridden();
}

static enum gg_status zeros(struct gg_tensor *op)
{
	for (int64_t t = 0; t < op->ne[2]; t++)
		for (int64_t k = 0; k < op->ne[1]; k++)
			memset((char *)op->data + (size_t)k * op->nb[1] + (size_t)t * op->nb[2], 0,
			       (size_t)op->ne[0] * sizeof(float));
	return GG_STATUS_SUCCESS;
}

/* The experts still to be computed: @set has a bit for each. Up to @most of them into @ids, their bits cleared. */
static uint32_t take_wave(const struct gg_rows *rows, uint64_t *set, uint32_t most, int32_t *ids)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < rows->nr_used && nr < most; i++) {
		const int32_t id = rows->used[i];

		if (!(set[id / 64] >> id % 64 & 1))
			continue;
		set[id / 64] &= ~(1ull << id % 64);
		ids[nr++] = id;
	}
	return nr;
}

/*
 * The other matrices of the block will be asked for with the same experts: start
 * their reads as far as they fit beside what is pinned.
 */
static void read_ahead(const struct gg_matrix *m, const struct gg_rows *rows, uint32_t pinned, uint32_t most)
{
	const struct gg_model *o = m->model;

	for (uint32_t i = 0; i < o->nr_matrices; i++) {
		struct gg_matrix *next = o->matrices[i];
		const uint32_t room = gg_engine_capacity(m) - pinned;
		uint32_t nr = rows->nr_used < most ? rows->nr_used : most;

		if (next->group != m->group || next->rank <= m->rank || next->nr_experts != m->nr_experts ||
		    next->ahead)
			continue;
		if (nr > room)
			return;
		pinned += nr;
		gg_engine_ahead(next, rows->used, nr);
	}
}

struct wave {
	struct gg_matrix *m;
	struct gg_shadow *s;
	const struct gg_rows *rows;
	struct gg_place *places;
};

/* Everything that is there at once, then whatever arrives. */
static enum gg_status compute_ticket(struct wave *w, struct penstock_ticket *t)
{
	enum gg_status rc = GG_STATUS_SUCCESS;
	struct penstock_slot slot;
	uint32_t nr = 0;

	while (rc == GG_STATUS_SUCCESS) {
		int got = gg_engine_next(w->m, t, !nr, &slot);

		if (!got) {
			rc = gg_form_apply(w->m, &slot);
			w->places[nr++] = (struct gg_place){ .expert = slot.id, .addr = slot.ptr[0] };
			continue;
		}
		if (got != -ENOENT && got != -ETIMEDOUT && got != -EAGAIN)
			return GG_STATUS_FAILED;
		if (nr)
			rc = gg_shadow_compute(w->s, w->rows, w->places, nr, w->m->slot_bytes, w->m->form_buffer,
					       gg_form_extra(w->m));
		nr = 0;
		if (got == -ENOENT)
			break;
	}
	return rc;
}

static enum gg_status compute_waves(struct wave *w, uint64_t *set, int32_t *ids)
{
	const uint32_t capacity = gg_engine_capacity(w->m), used = w->rows->nr_used;
	/* two waves at a time: one is computed while the other is read */
	const uint32_t most = used <= capacity ? used : capacity > 1 ? capacity / 2 : 1;
	struct penstock_ticket *t = gg_engine_take_ahead(w->m, set), *next;
	enum gg_status rc = GG_STATUS_SUCCESS;
	bool asked = false;
	uint32_t nr;

	do {
		nr = take_wave(w->rows, set, most, ids);
		next = nr ? gg_engine_fetch(w->m, ids, nr) : NULL;
		if (nr && !next)
			rc = GG_STATUS_FAILED;
		/* one wave: all matrices at once; more: the next one's first while the last one here is computed */
		if (rc == GG_STATUS_SUCCESS && !asked && (used <= capacity || !nr)) {
			read_ahead(w->m, w->rows, most, most);
			asked = true;
		}
		if (t && rc == GG_STATUS_SUCCESS)
			rc = compute_ticket(w, t);
		penstock_release(t);
		t = next;
	} while (t && rc == GG_STATUS_SUCCESS);
	penstock_release(t);
	return rc;
}

enum gg_status gg_moe_compute(struct gg_shadow *s, struct gg_tensor *op, struct gg_matrix *m)
{
	struct gg_rows rows;
	enum gg_status rc = gg_shadow_rows(s, op, &rows);
	struct wave w = { .m = m, .s = s, .rows = &rows };
	uint64_t *set;
	int32_t *ids;

	if (rc != GG_STATUS_SUCCESS || !rows.nr_used)
		return rc;
	if (!m || !m->model)
		return compute_unbound(s, &rows);
	if (is_warm_up(m, &rows))
		return zeros(op);
	set = calloc(m->nr_experts / 64 + 1, sizeof(*set));
	ids = malloc(rows.nr_used * sizeof(*ids));
	w.places = malloc(rows.nr_used * sizeof(*w.places));
	rc = GG_STATUS_ALLOC_FAILED;
	if (set && ids && w.places) {
		for (uint32_t i = 0; i < rows.nr_used; i++)
			set[rows.used[i] / 64] |= 1ull << rows.used[i] % 64;
		rc = compute_waves(&w, set, ids);
	}
	free(set);
	free(ids);
	free(w.places);
	return rc;
}
