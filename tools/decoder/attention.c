// SPDX-License-Identifier: MIT
/*
 * Grouped-query attention over a float KV cache. All rows of a step write their
 * keys and values first; a row then sees its sequence up to its own position, so
 * a prompt in one piece and token by token are the same sums.
 */
#include <math.h>

#include "fail.h"
#include "state.h"

static int project(struct decoder *d, const struct penstock_k_mat *mat, const float *x, size_t nr, float *y,
		   uint32_t layer, const char *what, struct penstock_error *err)
{
	int rc = penstock_k_matmul(d->pool, mat, x, mat->cols, nr, y, mat->rows);

	return rc ? decoder_fail(err, rc, "layer %u: %s projection", layer, what) : 0;
}

static void clip(float *x, size_t n, float bound)
{
	size_t i;

	for (i = 0; i < n; i++)
		x[i] = fminf(fmaxf(x[i], -bound), bound);
}

/* Weighted norms before rotation. */
static void norm_heads(struct decoder *d, const struct decoder_layer *l, size_t nr)
{
	const struct decoder_hparams *hp = &d->hp;
	size_t q = decoder_q_dim(d), kv = decoder_kv_dim(d), hd = hp->head_dim;
	struct decoder_buffers *b = &d->buf;

	if (hp->qk_norm == DECODER_QK_HEAD) {
		q = hd;
		kv = hd;
	}
	if (l->q_norm)
		penstock_k_rmsnorm(d->pool, b->q, q, l->q_norm, hp->eps, nr * decoder_q_dim(d) / q, q, b->q, q);
	if (l->k_norm)
		penstock_k_rmsnorm(d->pool, b->k, kv, l->k_norm, hp->eps, nr * decoder_kv_dim(d) / kv, kv, b->k, kv);
}

static void rotate(struct decoder *d, uint32_t layer, const struct decoder_row *rows, size_t nr)
{
	const struct decoder_hparams *hp = &d->hp;
	size_t q = decoder_q_dim(d), kv = decoder_kv_dim(d), hd = hp->head_dim, half = d->rope.rot / 2, i, j;
	struct decoder_buffers *b = &d->buf;
	float grow;

	if (hp->layers[layer].rope) {
		for (i = 0; i < nr; i++) {
			penstock_k_rope(b->q + i * q, hp->nr_heads, hd, d->rope.rot, b->cosv + i * half,
					b->sinv + i * half, hp->interleaved);
			penstock_k_rope(b->k + i * kv, hp->nr_kv_heads, hd, d->rope.rot, b->cosv + i * half,
					b->sinv + i * half, hp->interleaved);
		}
		if (hp->l2_norm) {
			penstock_k_rmsnorm(d->pool, b->q, hd, NULL, hp->eps, nr * hp->nr_heads, hd, b->q, hd);
			penstock_k_rmsnorm(d->pool, b->k, hd, NULL, hp->eps, nr * hp->nr_kv_heads, hd, b->k, hd);
		}
		return;
	}
	for (i = 0; i < nr && hp->temperature; i++) {
		grow = log1pf(floorf(((float)rows[i].pos + 1) / hp->floor_scale)) * hp->attn_scale + 1;
		for (j = 0; j < q; j++)
			b->q[i * q + j] *= grow;
	}
}

static size_t first_seen(const struct decoder_layer_hp *lp, size_t pos)
{
	size_t first = 0;

	if (lp->window && pos + 1 > lp->window)
		first = pos + 1 - lp->window;
	if (lp->chunk && pos - pos % lp->chunk > first)
		first = pos - pos % lp->chunk;
	return first;
}

static void attend(struct decoder *d, uint32_t layer, const struct decoder_row *rows, size_t nr)
{
	const struct decoder_layer *l = &d->layers[layer];
	const struct decoder_hparams *hp = &d->hp;
	size_t q = decoder_q_dim(d), kv = decoder_kv_dim(d), seq, i, j;
	struct decoder_buffers *b = &d->buf;

	for (i = 0; i < nr; i++) {
		seq = ((size_t)rows[i].seq * d->opts.max_positions + rows[i].pos) * kv;
		for (j = 0; j < kv; j++) {
			l->k[seq + j] = b->k[i * kv + j];
			l->v[seq + j] = b->v[i * kv + j];
		}
	}
	for (i = 0; i < nr; i++) {
		seq = (size_t)rows[i].seq * d->opts.max_positions * kv;
		penstock_k_attn(d->pool, &(struct penstock_k_attn){
			.q = b->q + i * q, .k = l->k + seq, .v = l->v + seq, .sinks = l->sinks, .out = b->att + i * q,
			.kv_stride = kv, .first = first_seen(&hp->layers[layer], rows[i].pos), .end = rows[i].pos + 1,
			.nr_heads = hp->nr_heads, .nr_kv_heads = hp->nr_kv_heads, .head_dim = hp->head_dim,
			.scale = 1 / sqrtf((float)hp->head_dim),
		});
	}
}

int decoder_attention(struct decoder *d, uint32_t layer, const struct decoder_row *rows, size_t nr,
		      struct penstock_error *err)
{
	const struct decoder_layer *l = &d->layers[layer];
	const struct decoder_hparams *hp = &d->hp;
	size_t hidden = hp->info.hidden, q = decoder_q_dim(d), kv = decoder_kv_dim(d), i;
	struct decoder_buffers *b = &d->buf;
	uint64_t start = decoder_now_ns();
	int rc;

	penstock_k_rmsnorm(d->pool, b->x, hidden, l->attn_norm, hp->eps, nr, hidden, b->xn, hidden);
	rc = project(d, &l->q, b->xn, nr, b->q, layer, "query", err);
	if (!rc)
		rc = project(d, &l->kproj, b->xn, nr, b->k, layer, "key", err);
	if (!rc)
		rc = project(d, &l->vproj, b->xn, nr, b->v, layer, "value", err);
	if (rc)
		return rc;
	norm_heads(d, l, nr);
	if (hp->clip > 0) {
		clip(b->q, nr * q, hp->clip);
		clip(b->k, nr * kv, hp->clip);
		clip(b->v, nr * kv, hp->clip);
	}
	rotate(d, layer, rows, nr);
	attend(d, layer, rows, nr);
	rc = project(d, &l->o, b->att, nr, b->h, layer, "output", err);
	if (rc)
		return rc;
	for (i = 0; i < nr * hidden; i++)
		b->x[i] += b->h[i];
	d->times.attention_ns += decoder_now_ns() - start;
	return 0;
}
