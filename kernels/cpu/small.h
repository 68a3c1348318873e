/* SPDX-License-Identifier: MIT */
/* The operations on floats between the multiplications: activation, sums, norm, attention. */
#ifndef PENSTOCK_SMALL_H
#define PENSTOCK_SMALL_H

#include <math.h>
#include "vec.h"

/* positions whose scores are kept at a time; heads that share a walk over the cache */
#define ATTN_BLOCK	64
#define ATTN_HEADS	8

static float dot_f32_any(const float *a, const float *b, size_t n)
{
	vf acc[4] = { v_zero(), v_zero(), v_zero(), v_zero() };
	size_t i = 0, j;

	for (; i + 4 * VW <= n; i += 4 * VW)
		for (j = 0; j < 4; j++)
			acc[j] = v_fma(v_load(a + i + j * VW), v_load(b + i + j * VW), acc[j]);
	for (; i + VW <= n; i += VW)
		acc[0] = v_fma(v_load(a + i), v_load(b + i), acc[0]);
	if (i < n)
		acc[1] = v_fma(v_load_part(a + i, n - i, 0), v_load_part(b + i, n - i, 0), acc[1]);
	return v_sum(v_add(v_add(acc[0], acc[1]), v_add(acc[2], acc[3])));
}

INL vf v_sigmoid(vf x)
{
	vf one = v_set1(1.0f);

	return v_div(one, v_add(one, v_exp(v_sub(v_zero(), x))));
}

INL vf v_act(const struct penstock_k_expert *e, vf g, vf u)
{
	vf limit = v_set1(e->limit);

	if (e->act == PENSTOCK_ACT_SWIGLU)
		return v_mul(v_mul(g, v_sigmoid(g)), u);
	/* v_min and v_max give their second operand where it is a NaN */
	g = v_min(limit, g);
	u = v_max(v_set1(-e->limit), v_min(limit, u));
	return v_mul(v_mul(v_add(u, v_set1(1.0f)), g), v_sigmoid(v_mul(v_set1(e->alpha), g)));
}

/* h = act(h, up) */
static void activate(const struct penstock_k_expert *e, size_t n, float *h, const float *up)
{
	size_t i = 0;

	for (; i + VW <= n; i += VW)
		v_store(h + i, v_act(e, v_load(h + i), v_load(up + i)));
	if (i < n)
		v_store_part(h + i, v_act(e, v_load_part(h + i, n - i, 0), v_load_part(up + i, n - i, 0)), n - i);
}

static void combine(const float *y, size_t ldy, const float *w, size_t k, size_t begin, size_t end, float *out)
{
	size_t i, j, n;
	vf sum, v;

	for (i = begin; i < end; i += VW) {
		n = end - i < VW ? end - i : VW;
		sum = v_zero();
		for (j = 0; j < k; j++) {
			v = n == VW ? v_load(y + j * ldy + i) : v_load_part(y + j * ldy + i, n, 0);
			sum = v_fma(v, v_set1(w ? w[j] : 1.0f), sum);
		}
		if (n == VW)
			v_store(out + i, sum);
		else
			v_store_part(out + i, sum, n);
	}
}

static void rmsnorm(const float *x, const float *w, float eps, size_t n, float *y)
{
	float inv = 1.0f / sqrtf(dot_f32_any(x, x, n) / (float)n + eps);
	size_t i = 0;
	vf v;

	for (; i + VW <= n; i += VW) {
		v = v_mul(v_load(x + i), v_set1(inv));
		v_store(y + i, w ? v_mul(v, v_load(w + i)) : v);
	}
	for (; i < n; i++)
		y[i] = x[i] * inv * (w ? w[i] : 1.0f);
}

/* out = out * scale + sum over p of s[p] * v[p] */
static void attn_values(const float *s, size_t nr, const float *v, size_t stride, float scale, size_t n, float *out)
{
	size_t i, p, left;
	vf acc, w;

	for (i = 0; i < n; i += VW) {
		left = n - i < VW ? n - i : VW;
		acc = v_mul(left == VW ? v_load(out + i) : v_load_part(out + i, left, 0), v_set1(scale));
		for (p = 0; p < nr; p++) {
			w = left == VW ? v_load(v + p * stride + i) : v_load_part(v + p * stride + i, left, 0);
			acc = v_fma(v_set1(s[p]), w, acc);
		}
		if (left == VW)
			v_store(out + i, acc);
		else
			v_store_part(out + i, acc, left);
	}
}

/* what the softmax of a head has seen: the largest score, the sum under it */
struct softmax {
	float top;
	float sum;
};

/* e^x; 0 for the difference of two minus infinities */
static float exp_from(float x, float top)
{
	return x == -INFINITY ? 0 : expf(x - top);
}

/* positions [p, p + nr), nr <= ATTN_BLOCK, of one head */
static void attn_block(const struct penstock_k_attn *a, size_t head, size_t kv, size_t p, size_t nr,
		       struct softmax *sm)
{
	const float *q = a->q + head * a->head_dim, *k = a->k + p * a->kv_stride + kv * a->head_dim;
	float s[ATTN_BLOCK], top = sm->top, scale;
	size_t i;

	for (i = 0; i < nr; i++) {
		s[i] = dot_f32_any(q, k + i * a->kv_stride, a->head_dim) * a->scale;
		/* a NaN is taken as the top, and spreads */
		if (!(s[i] <= top))
			top = s[i];
	}
	scale = exp_from(sm->top, top);
	sm->sum *= scale;
	for (i = 0; i < nr; i++) {
		s[i] = exp_from(s[i], top);
		sm->sum += s[i];
	}
	sm->top = top;
	attn_values(s, nr, a->v + p * a->kv_stride + kv * a->head_dim, a->kv_stride, scale, a->head_dim,
		    a->out + head * a->head_dim);
}

/* heads [begin, end) that share one key and value head, at most ATTN_HEADS */
static void attn_heads(const struct penstock_k_attn *a, size_t kv, size_t begin, size_t end)
{
	struct softmax sm[ATTN_HEADS];
	size_t h, p, nr, i;
	float *out;

	memset(a->out + begin * a->head_dim, 0, (end - begin) * a->head_dim * sizeof(float));
	for (h = begin; h < end; h++) {
		sm[h - begin].top = a->sinks ? a->sinks[h] : -INFINITY;
		sm[h - begin].sum = a->sinks ? 1 : 0;
	}
	for (p = a->first; p < a->end; p += nr) {
		nr = a->end - p < ATTN_BLOCK ? a->end - p : ATTN_BLOCK;
		for (h = begin; h < end; h++)
			attn_block(a, h, kv, p, nr, &sm[h - begin]);
	}
	for (h = begin; h < end && a->first < a->end; h++) {
		out = a->out + h * a->head_dim;
		for (i = 0; i < a->head_dim; i++)
			out[i] /= sm[h - begin].sum;
	}
}

static void attn(const struct penstock_k_attn *a, size_t begin, size_t end)
{
	size_t group = a->nr_heads / a->nr_kv_heads, kv, stop;

	for (; begin < end; begin = stop) {
		kv = begin / group;
		stop = (kv + 1) * group;
		stop = stop < end ? stop : end;
		stop = stop - begin < ATTN_HEADS ? stop : begin + ATTN_HEADS;
		attn_heads(a, kv, begin, stop);
	}
}

#endif
