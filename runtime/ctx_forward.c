// SPDX-License-Identifier: MIT
/*
 * A layer's experts on some tokens: fetch, compute each expert when it is there,
 * combine in router order. Each expert is one kernel call over all tokens that
 * chose it, in order of token, whatever came first from the drive; outputs go to
 * row token * k + j and are summed in that order. So the bits depend on the input
 * only.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "launch.h"
#include "stream.h"
#include "util.h"

#define SCRATCH_ALIGN	64u

/*
 * The tokens of each distinct expert: rows[first[i] .. first[i + 1]) are positions
 * in ids (token * k + j) that hold distinct[i].
 */
struct groups {
	uint32_t nr;
	int32_t *distinct;
	uint32_t *first;
	uint32_t *rows;
};

/* Everything that one call works on, carved out of the queue's scratch. */
struct work {
	struct penstock_queue *q;
	struct penstock_model *m;
	struct penstock_pool *pool;
	const struct penstock_moe *moe;
	const struct penstock_layer_info *info;
	struct groups g;
	/* of one expert, nr_tokens at most: rows of x, factors on the input, outputs */
	uint32_t *tokens;
	float *scales;
	float *one;
	float *y;		/* nr_tokens * k x hidden */
	void *ffn;		/* the kernel's own scratch */
};

/*
 * Counting sort by expert; distinct experts in order of first appearance, as in a ticket.
 * Return: 0; -EINVAL an id out of range, -EEXIST an expert twice for one token, at ids[*bad].
 */
static int group(struct groups *g, const struct penstock_moe *moe, uint32_t nr_experts, int32_t *number, size_t *bad)
{
	const int32_t *ids = moe->ids;
	size_t nr = moe->nr_tokens * moe->top_k;

	memset(number, 0xff, nr_experts * sizeof(*number));
	g->nr = 0;
	for (size_t i = 0; i < nr; i++) {
		*bad = i;
		if (ids[i] < 0 || (uint32_t)ids[i] >= nr_experts)
			return -EINVAL;
		for (size_t j = i - i % moe->top_k; j < i; j++)
			if (ids[j] == ids[i])
				return -EEXIST;
		if (number[ids[i]] < 0) {
			number[ids[i]] = (int32_t)g->nr;
			g->distinct[g->nr] = ids[i];
			g->first[g->nr++] = 0;
		}
		g->first[number[ids[i]]]++;
	}
	for (uint32_t i = 0, sum = 0; i < g->nr; i++) {
		uint32_t n = g->first[i];

		g->first[i] = sum;
		sum += n;
	}
	for (size_t i = 0; i < nr; i++)
		g->rows[g->first[number[ids[i]]]++] = (uint32_t)i;
	/* each first[] now is its group's end, which is the next group's start */
	for (uint32_t i = g->nr; i > 0; i--)
		g->first[i] = g->first[i - 1];
	g->first[0] = 0;
	return 0;
}

static size_t carve(size_t *at, size_t bytes)
{
	size_t here = *at;

	*at += penstock_align_up(bytes, SCRATCH_ALIGN);
	return here;
}

static int need_scratch(struct penstock_queue *q, size_t bytes)
{
	void *p;

	if (q->scratch_len >= bytes)
		return 0;
	bytes += bytes / 4;
	p = aligned_alloc(SCRATCH_ALIGN, penstock_align_up(bytes, SCRATCH_ALIGN));
	if (!p)
		return penstock_err(&q->err, -ENOMEM, "%zu bytes of scratch", bytes);
	free(q->scratch);
	q->scratch = p;
	q->scratch_len = bytes;
	return 0;
}

/* Widths are the layer's, whatever the expert: a view over no memory tells the kernel's scratch. */
static size_t ffn_scratch(const struct work *w, size_t nr_tokens)
{
	struct penstock_k_expert e;

	memset(&e, 0, sizeof(e));
	e.gate.rows = e.up.rows = e.down.cols = w->info->inter;
	e.gate.cols = e.up.cols = e.down.rows = w->info->hidden;
	return penstock_k_expert_scratch(&e, nr_tokens);
}

static int prepare(struct work *w)
{
	const struct penstock_moe *moe = w->moe;
	size_t nr = moe->nr_tokens * moe->top_k, hidden = w->info->hidden, nr_experts = w->info->nr_experts;
	size_t distinct_most = penstock_min_u64(nr, nr_experts), at = 0, bad = 0;
	size_t o_number = carve(&at, nr_experts * sizeof(int32_t));
	size_t o_distinct = carve(&at, distinct_most * sizeof(int32_t));
	size_t o_first = carve(&at, (distinct_most + 1) * sizeof(uint32_t));
	size_t o_rows = carve(&at, nr * sizeof(uint32_t));
	size_t o_tokens = carve(&at, moe->nr_tokens * sizeof(uint32_t));
	size_t o_scales = carve(&at, moe->nr_tokens * sizeof(float));
	size_t o_one = carve(&at, moe->nr_tokens * hidden * sizeof(float));
	size_t o_y = carve(&at, nr * hidden * sizeof(float));
	size_t o_ffn = carve(&at, ffn_scratch(w, moe->nr_tokens));
	char *base;
	int rc;

	rc = need_scratch(w->q, at);
	if (rc)
		return rc;
	base = w->q->scratch;
	w->g.distinct = (int32_t *)(base + o_distinct);
	w->g.first = (uint32_t *)(base + o_first);
	w->g.rows = (uint32_t *)(base + o_rows);
	w->tokens = (uint32_t *)(base + o_tokens);
	w->scales = (float *)(base + o_scales);
	w->one = (float *)(base + o_one);
	w->y = (float *)(base + o_y);
	w->ffn = base + o_ffn;
	rc = group(&w->g, moe, (uint32_t)nr_experts, (int32_t *)(base + o_number), &bad);
	if (rc == -EEXIST)
		return penstock_err(&w->q->err, -EINVAL, "layer %u: token %zu names expert %d twice", moe->layer,
				    bad / moe->top_k, moe->ids[bad]);
	if (rc)
		return penstock_err(&w->q->err, rc,
				    "layer %u has experts 0 to %zu, token %zu asks for %d%s", moe->layer,
				    nr_experts - 1, bad / moe->top_k, moe->ids[bad],
				    moe->ids[bad] < 0 ? " (a NaN in the router gives this)" : "");
	return 0;
}

static int view_of(struct work *w, struct penstock_ticket *t, size_t index, struct penstock_k_expert *e)
{
	struct penstock_slot slot;
	uint32_t bad = 0, tensor;
	int rc;

	rc = penstock_ticket_slot(t, index, &slot);
	if (rc)
		return rc;
	rc = penstock_launch_view(w->info, slot.ptr, e, &bad);
	if (!rc)
		return 0;
	tensor = penstock_index_part_tensor(w->m->index, w->moe->layer, (uint32_t)slot.id, bad);
	return penstock_err(&w->q->err, rc, "compute with %s of type %s",
			    tensor == PENSTOCK_NO_TENSOR ? "an expert" : w->m->index->tensors[tensor].name,
			    penstock_dtype_info(w->info->parts[bad].dtype)->name);
}

/* One expert over all its tokens. @group: its number among the distinct ones. */
static int compute(struct work *w, struct penstock_ticket *t, size_t index, uint32_t group_nr)
{
	const struct penstock_moe *moe = w->moe;
	const uint32_t *rows = w->g.rows + w->g.first[group_nr];
	uint32_t n = w->g.first[group_nr + 1] - w->g.first[group_nr], hidden = w->info->hidden;
	bool scaled = w->info->router_flags & PENSTOCK_ROUTER_F_INPUT_SCALE;
	/* a single row can be written where it belongs */
	float *out = n == 1 ? w->y + (size_t)rows[0] * hidden : w->one;
	struct penstock_k_expert e;
	uint64_t start = penstock_now_ns();
	int rc;

	for (uint32_t i = 0; i < n; i++) {
		w->tokens[i] = rows[i] / moe->top_k;
		w->scales[i] = moe->weights[rows[i]];
	}
	rc = view_of(w, t, index, &e);
	if (!rc) {
		rc = penstock_k_expert_ffn(w->pool, &e, moe->x, moe->ldx, w->tokens, scaled ? w->scales : NULL, n, out,
					   hidden, w->ffn);
		if (rc)
			penstock_err(&w->q->err, rc, "compute layer %u expert %d", moe->layer, w->g.distinct[group_nr]);
	}
	for (uint32_t i = 0; i < n && n > 1 && !rc; i++)
		memcpy(w->y + (size_t)rows[i] * hidden, w->one + (size_t)i * hidden, hidden * sizeof(float));
	pthread_mutex_lock(&w->q->ctx->lock);
	w->q->ctx->stats.compute_ns += penstock_now_ns() - start;
	pthread_mutex_unlock(&w->q->ctx->lock);
	return rc;
}

/* All experts of a ticket, as they arrive; entry i of it is distinct expert @first + i. */
static int compute_ticket(struct work *w, struct penstock_ticket *t, uint32_t first)
{
	size_t index;
	int rc;

	while (!(rc = penstock_next(t, UINT64_MAX, &index))) {
		rc = compute(w, t, index, first + (uint32_t)index);
		if (rc)
			return rc;
	}
	return rc == -ENOENT ? 0 : rc;
}

/* The set is larger than the cache: one wave is read while the one before it is computed. */
static int compute_waves(struct work *w, uint32_t wave)
{
	struct penstock_ticket *now = NULL, *next = NULL;
	uint32_t first = 0, len = (uint32_t)penstock_min_u64(wave, w->g.nr);
	int rc;

	rc = penstock_fetch(w->q, w->m, w->moe->layer, w->g.distinct, len, &now);
	while (!rc) {
		uint32_t then = first + len, more = (uint32_t)penstock_min_u64(wave, w->g.nr - then);

		if (more)
			rc = penstock_fetch(w->q, w->m, w->moe->layer, w->g.distinct + then, more, &next);
		if (!rc)
			rc = compute_ticket(w, now, first);
		penstock_release(now);
		now = next;
		next = NULL;
		first = then;
		len = more;
		if (!more)
			break;
	}
	penstock_release(now);
	return rc;
}

static int check_args(struct penstock_queue *q, struct penstock_model *m, const struct penstock_moe *moe)
{
	const struct penstock_layer_info *info;
	struct penstock_class *c = penstock_model_class(m, moe->layer);

	if (moe->size != sizeof(*moe))
		return penstock_err(&q->err, -EINVAL, "a moe of %zu bytes, this library has %zu", moe->size,
				    sizeof(*moe));
	if (!c)
		return penstock_err(&q->err, -EINVAL, "layer %u has no experts", moe->layer);
	if (m->index->format == PENSTOCK_FORMAT_LAYOUT)
		return penstock_err(&q->err, -EOPNOTSUPP,
				    "compute with layer %u of %s: opened by a layout, types and shapes of its weights are not known",
				    moe->layer, m->index->path);
	info = &m->index->layers[moe->layer].info;
	if (!moe->nr_tokens || !moe->top_k || moe->top_k > info->nr_experts || moe->ldx < info->hidden ||
	    moe->ldout < info->hidden || moe->nr_tokens > UINT32_MAX / moe->top_k)
		return penstock_err(&q->err, -EINVAL,
				    "layer %u: %zu tokens, k %u of %u, rows of %zu and %zu for hidden %u",
				    moe->layer, moe->nr_tokens, moe->top_k, info->nr_experts, moe->ldx, moe->ldout,
				    info->hidden);
	return 0;
}

/* A ticket of the caller's must be for exactly these experts; all of it is handed out again. */
static int take_ticket(struct work *w)
{
	struct penstock_ticket *t = w->moe->ticket;
	bool same = t->queue == w->q && t->model == w->m && t->layer == w->moe->layer && t->nr == w->g.nr;

	for (uint32_t i = 0; same && i < w->g.nr; i++)
		same = t->entries[i].expert == (uint32_t)w->g.distinct[i];
	/* a cancelled one has no entries; its wait says what happened */
	if (!same && !t->cancelled)
		return penstock_err(&w->q->err, -EINVAL,
				    "layer %u: the ticket is for %u experts of layer %u, not for the %u that the ids name",
				    w->moe->layer, t->nr, t->layer, w->g.nr);
	t->nr_handed = 0;
	return 0;
}

int penstock_moe_forward(struct penstock_queue *q, struct penstock_model *m, struct penstock_pool *pool,
			 const struct penstock_moe *moe)
{
	struct work w = { .q = q, .m = m, .pool = pool, .moe = moe };
	size_t fits;
	int rc;

	rc = penstock_ctx_check(q->ctx, &q->err);
	if (rc)
		return rc;
	penstock_err_clear(&q->err);
	rc = check_args(q, m, moe);
	if (rc)
		return rc;
	w.info = &m->index->layers[moe->layer].info;
	rc = prepare(&w);
	if (rc)
		return rc;
	fits = penstock_capacity(m, moe->layer);
	if (moe->ticket) {
		rc = take_ticket(&w);
		if (!rc)
			rc = compute_ticket(&w, moe->ticket, 0);
	} else {
		/* half, so that two waves fit */
		rc = compute_waves(&w, w.g.nr <= fits ? w.g.nr : (uint32_t)penstock_max_u64(fits / 2, 1));
	}
	if (rc)
		return rc;
	penstock_k_combine(pool, w.y, w.info->hidden,
			   w.info->router_flags & PENSTOCK_ROUTER_F_INPUT_SCALE ? NULL : moe->weights, moe->nr_tokens,
			   moe->top_k, w.info->hidden, moe->out, moe->ldout);
	return 0;
}
