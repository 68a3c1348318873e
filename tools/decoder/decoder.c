// SPDX-License-Identifier: MIT
/*
 * The decoder as a whole: opening, steps, the head. A step that fails leaves the
 * sequences where they were.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fail.h"
#include "state.h"

#define ALIGN 64

static int supported(uint32_t family, bool moe_only, const char *arch, struct penstock_error *err)
{
	switch (family) {
	case PENSTOCK_FAMILY_MIXTRAL:
	case PENSTOCK_FAMILY_QWEN3_MOE:
	case PENSTOCK_FAMILY_OLMOE:
	case PENSTOCK_FAMILY_GLM4_MOE:
	case PENSTOCK_FAMILY_LLAMA4:
	case PENSTOCK_FAMILY_GPT_OSS:
		return 0;
	case PENSTOCK_FAMILY_DEEPSEEK2:
	case PENSTOCK_FAMILY_DEEPSEEK3:
		if (moe_only)
			return 0;
		return decoder_fail(err, -EOPNOTSUPP, "%s has multi-head latent attention, which is not computed; its "
				    "experts alone are", arch);
	default:
		return decoder_fail(err, -EOPNOTSUPP, "architecture %s is not known to the decoder", arch);
	}
}

int decoder_supports(struct penstock_model *model, struct penstock_error *err)
{
	struct penstock_model_info info = { .size = sizeof(info) };
	int rc = penstock_model_info(model, &info);

	if (rc)
		return decoder_fail(err, rc, "model information");
	return supported(info.family, false, info.arch ? info.arch : "(none)", err);
}

/* Lazily touched: memory is used for positions that are reached. */
static int make_cache(struct decoder *d, struct penstock_error *err)
{
	size_t row = decoder_kv_dim(d) * sizeof(float), one, all;
	uint32_t i;

	if (__builtin_mul_overflow(row, (size_t)d->opts.max_positions, &one) ||
	    __builtin_mul_overflow(one, (size_t)d->opts.nr_seqs, &one) ||
	    __builtin_mul_overflow(one, (size_t)2 * d->hp.info.nr_layers, &all))
		return decoder_fail(err, -ENOMEM, "KV cache of %u sequences of %u positions", d->opts.nr_seqs,
				    d->opts.max_positions);
	d->kv = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (d->kv == MAP_FAILED) {
		d->kv = NULL;
		return decoder_fail(err, -ENOMEM, "KV cache of %zu bytes", all);
	}
	d->kv_len = all;
	for (i = 0; i < d->hp.info.nr_layers; i++) {
		d->layers[i].k = (float *)((char *)d->kv + 2 * i * one);
		d->layers[i].v = (float *)((char *)d->kv + (2 * i + 1) * one);
	}
	return 0;
}

static int build(struct decoder *d, struct penstock_error *err)
{
	bool whole = !d->opts.moe_only;
	int rc;

	rc = decoder_hparams_read(d->model, whole, &d->hp, err);
	if (rc)
		return rc;
	decoder_names_find(d->model, d->hp.info.format, &d->names);
	decoder_weights_init(&d->weights, d->model);
	d->layers = calloc(d->hp.info.nr_layers, sizeof(*d->layers));
	d->seq_pos = calloc(d->opts.nr_seqs, sizeof(*d->seq_pos));
	if (!d->layers || !d->seq_pos)
		return decoder_fail(err, -ENOMEM, "%u layers, %u sequences", d->hp.info.nr_layers, d->opts.nr_seqs);
	if (whole)
		rc = decoder_rope_create(&d->hp.rope, &d->rope, err);
	if (!rc)
		rc = decoder_load(d, err);
	if (!rc && whole)
		rc = make_cache(d, err);
	return rc;
}

int decoder_open(struct penstock_model *model, struct penstock_queue *q, struct penstock_pool *pool,
		 const struct decoder_options *opts, struct decoder **out, struct penstock_error *err)
{
	struct penstock_model_info info = { .size = sizeof(info) };
	struct decoder *d;
	int rc;

	if (!opts->max_positions || !opts->nr_seqs)
		return decoder_fail(err, -EINVAL, "%u sequences of %u positions", opts->nr_seqs, opts->max_positions);
	rc = penstock_model_info(model, &info);
	if (rc)
		return decoder_fail(err, rc, "model information");
	rc = supported(info.family, opts->moe_only, info.arch ? info.arch : "(none)", err);
	if (rc)
		return rc;
	d = calloc(1, sizeof(*d));
	if (!d)
		return decoder_fail(err, -ENOMEM, "decoder");
	d->model = model;
	d->q = q;
	d->pool = pool;
	d->opts = *opts;
	rc = build(d, err);
	if (rc) {
		decoder_close(d);
		return rc;
	}
	*out = d;
	return 0;
}

void decoder_close(struct decoder *d)
{
	if (!d)
		return;
	free(d->buf.mem);
	if (d->kv)
		munmap(d->kv, d->kv_len);
	decoder_weights_destroy(&d->weights);
	decoder_rope_destroy(&d->rope);
	decoder_hparams_destroy(&d->hp);
	free(d->layers);
	free(d->seq_pos);
	free(d);
}

uint32_t decoder_vocab(const struct decoder *d)
{
	return d->embed.rows;
}

uint64_t decoder_dense_bytes(const struct decoder *d)
{
	return d->weights.bytes;
}

uint64_t decoder_kv_bytes(const struct decoder *d)
{
	return d->kv_len;
}

void decoder_times(const struct decoder *d, struct decoder_times *t)
{
	*t = d->times;
}

void decoder_reset(struct decoder *d)
{
	memset(d->seq_pos, 0, d->opts.nr_seqs * sizeof(*d->seq_pos));
}

/* The widest a layer's router and shared expert need. */
static void widest(const struct decoder *d, size_t rows, size_t *experts, size_t *top_k, size_t *scratch)
{
	const struct decoder_layer *l;
	uint32_t i;
	size_t n;

	*experts = *top_k = *scratch = 1;
	for (i = 0; i < d->hp.info.nr_layers; i++) {
		l = &d->layers[i];
		if (l->info.nr_experts > *experts)
			*experts = l->info.nr_experts;
		if (l->info.top_k > *top_k)
			*top_k = l->info.top_k;
		n = l->has_mlp ? penstock_k_expert_scratch(&l->mlp, rows) : 0;
		if (n > *scratch)
			*scratch = n;
	}
}

/* One allocation, divided. */
int decoder_grow(struct decoder *d, size_t rows, struct penstock_error *err)
{
	struct decoder_buffers *b = &d->buf;
	size_t hidden = d->hp.info.hidden, q = decoder_q_dim(d), kv = decoder_kv_dim(d), half = d->rope.rot / 2;
	size_t experts, top_k, scratch, total = 0, i, n;
	struct { void **where; size_t width; } parts[] = {
		{ (void **)&b->x, hidden }, { (void **)&b->xn, hidden }, { (void **)&b->h, hidden },
		{ (void **)&b->q, q }, { (void **)&b->k, kv }, { (void **)&b->v, kv }, { (void **)&b->att, q },
		{ (void **)&b->cosv, half }, { (void **)&b->sinv, half }, { (void **)&b->moe, hidden },
		{ (void **)&b->logits, 0 }, { (void **)&b->weights, 0 }, { (void **)&b->ids, 0 },
	};
	size_t nr = sizeof(parts) / sizeof(parts[0]);
	char *at;

	if (rows <= b->rows)
		return 0;
	widest(d, rows, &experts, &top_k, &scratch);
	parts[nr - 3].width = experts;
	parts[nr - 2].width = top_k;
	parts[nr - 1].width = top_k;
	for (i = 0; i < nr; i++) {
		if (__builtin_mul_overflow(rows * sizeof(float), parts[i].width, &n) ||
		    __builtin_add_overflow(total, n + 2 * ALIGN, &total))
			return decoder_fail(err, -ENOMEM, "buffers for a step of %zu rows", rows);
	}
	free(b->mem);
	b->rows = 0;
	b->mem = aligned_alloc(ALIGN, (total + scratch + 2 * ALIGN) / ALIGN * ALIGN);
	if (!b->mem)
		return decoder_fail(err, -ENOMEM, "%zu bytes for a step of %zu rows", total + scratch, rows);
	at = b->mem;
	for (i = 0; i < nr; i++) {
		*parts[i].where = at;
		at += (rows * sizeof(float) * parts[i].width + ALIGN - 1) / ALIGN * ALIGN;
	}
	b->scratch = at;
	b->rows = rows;
	return 0;
}

static int check_rows(const struct decoder *d, const struct decoder_row *rows, size_t nr, struct penstock_error *err)
{
	uint32_t next = 0;
	size_t i, j;

	if (!nr || nr > SIZE_MAX / sizeof(float) / 8)
		return decoder_fail(err, -EINVAL, "a step of %zu rows", nr);
	for (i = 0; i < nr; i++) {
		if (rows[i].token < 0 || (uint32_t)rows[i].token >= d->embed.rows)
			return decoder_fail(err, -EINVAL, "token %d is not in a vocabulary of %u", rows[i].token,
					    d->embed.rows);
		if (rows[i].seq >= d->opts.nr_seqs)
			return decoder_fail(err, -EINVAL, "sequence %u of %u", rows[i].seq, d->opts.nr_seqs);
		next = i && rows[i].seq == rows[i - 1].seq ? next + 1 : d->seq_pos[rows[i].seq];
		if (rows[i].pos != next || rows[i].pos >= d->opts.max_positions)
			return decoder_fail(err, -EINVAL, "position %u of sequence %u, where %u is next of %u",
					    rows[i].pos, rows[i].seq, next, d->opts.max_positions);
		/* a sequence's rows stand together, else its positions would repeat */
		for (j = 0; i && rows[i - 1].seq != rows[i].seq && j + 1 < i; j++)
			if (rows[j].seq == rows[i].seq)
				return decoder_fail(err, -EINVAL, "rows of sequence %u are not together", rows[i].seq);
	}
	return 0;
}

static int embed(struct decoder *d, const struct decoder_row *rows, size_t nr, struct penstock_error *err)
{
	size_t half = d->rope.rot / 2, i;
	uint64_t start = decoder_now_ns();
	int rc;

	for (i = 0; i < nr; i++) {
		rc = penstock_k_dequant_row(&d->embed, (size_t)rows[i].token, d->buf.x + i * d->hp.info.hidden);
		if (rc)
			return decoder_fail(err, rc, "embedding of token %d", rows[i].token);
		if (half)
			decoder_rope_angles(&d->rope, rows[i].pos, d->buf.cosv + i * half, d->buf.sinv + i * half);
	}
	d->times.dense_ns += decoder_now_ns() - start;
	return 0;
}

static int make_logits(struct decoder *d, size_t nr, const uint8_t *want, float *logits, struct penstock_error *err)
{
	size_t hidden = d->hp.info.hidden, i, n = 0;
	struct decoder_buffers *b = &d->buf;
	uint64_t start = decoder_now_ns();
	int rc = 0;

	for (i = 0; i < nr; i++)
		if (want ? want[i] : i == nr - 1)
			memcpy(b->h + n++ * hidden, b->x + i * hidden, hidden * sizeof(float));
	if (n) {
		penstock_k_rmsnorm(d->pool, b->h, hidden, d->norm, d->hp.eps, n, hidden, b->xn, hidden);
		rc = penstock_k_matmul(d->pool, &d->head, b->xn, hidden, n, logits, d->head.rows);
		if (rc)
			decoder_fail(err, rc, "head of %u x %u", d->head.rows, d->head.cols);
	}
	d->times.dense_ns += decoder_now_ns() - start;
	return rc;
}

int decoder_step(struct decoder *d, const struct decoder_row *rows, size_t nr, const uint8_t *want,
		 const struct decoder_experts *experts, const struct decoder_router_hook *hook,
		 float *logits, struct penstock_error *err)
{
	uint32_t i;
	size_t r;
	int rc = check_rows(d, rows, nr, err);

	if (!rc)
		rc = decoder_grow(d, nr, err);
	if (!rc)
		rc = embed(d, rows, nr, err);
	for (i = 0; i < d->hp.info.nr_layers && !rc; i++) {
		if (!d->opts.moe_only)
			rc = decoder_attention(d, i, rows, nr, err);
		else if (d->layers[i].info.kind != PENSTOCK_LAYER_MOE)
			continue;
		if (!rc)
			rc = decoder_ffn(d, i, rows, nr, experts, hook, err);
	}
	if (!rc)
		rc = make_logits(d, nr, want, logits, err);
	for (r = 0; r < nr && !rc; r++)
		d->seq_pos[rows[r].seq] = rows[r].pos + 1;
	return rc;
}
