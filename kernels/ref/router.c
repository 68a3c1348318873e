// SPDX-License-Identifier: MIT
/*
 * The router: logits to expert ids and weights. One version for all instruction
 * sets, in float as the models' own code is, so that equal scores stay equal.
 *
 * Selection is k rounds of "the largest not yet taken, the lower id first";
 * nothing depends on the order of a sort.
 */
#include <errno.h>
#include <math.h>
#include "../kimpl.h"

/* bounds the stack; the largest model known has 384 */
#define MAX_EXPERTS	1024
#define MAX_GROUPS	MAX_EXPERTS

static int check(const struct penstock_k_router *r)
{
	uint32_t per_group;

	if (r->score > PENSTOCK_SCORE_SIGMOID || r->group_score > PENSTOCK_GROUP_MAX)
		return -EINVAL;
	if (r->flags & ~(PENSTOCK_ROUTER_F_RENORM | PENSTOCK_ROUTER_F_INPUT_SCALE | PENSTOCK_ROUTER_F_GROUP_MASK_INF))
		return -EINVAL;
	if (!r->nr_experts || r->nr_experts > MAX_EXPERTS || !r->top_k || r->top_k > r->nr_experts)
		return -EINVAL;
	if (r->nr_groups <= 1)
		return 0;
	if (r->nr_experts % r->nr_groups || !r->top_groups || r->top_groups > r->nr_groups)
		return -EINVAL;
	per_group = r->nr_experts / r->nr_groups;
	if (r->group_score == PENSTOCK_GROUP_TOP2_SUM && per_group < 2)
		return -EINVAL;
	/* what is masked with -inf can never be chosen */
	if (r->flags & PENSTOCK_ROUTER_F_GROUP_MASK_INF && r->top_k > r->top_groups * per_group)
		return -EINVAL;
	return 0;
}

/* @out may be @x */
static void softmax(const float *x, size_t n, float *out)
{
	float top = x[0], sum = 0;
	size_t i;

	for (i = 1; i < n; i++)
		if (x[i] > top)
			top = x[i];
	for (i = 0; i < n; i++) {
		out[i] = expf(x[i] - top);
		sum += out[i];
	}
	for (i = 0; i < n; i++)
		out[i] /= sum;
}

static bool has_nan(const float *x, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (x[i] != x[i])
			return true;
	return false;
}

/* the @k largest of x[0..n), best first, ties to the lower index; @taken: n bytes of scratch */
static void top_k(const float *x, size_t n, size_t k, int32_t *ids, uint8_t *taken)
{
	size_t i, j, best;

	memset(taken, 0, n);
	for (j = 0; j < k; j++) {
		best = n;
		for (i = 0; i < n; i++)
			if (!taken[i] && (best == n || x[i] > x[best]))
				best = i;
		taken[best] = 1;
		ids[j] = (int32_t)best;
	}
}

static float group_value(const struct penstock_k_router *r, const float *x, size_t n)
{
	float first = -INFINITY, second = -INFINITY;
	size_t i;

	for (i = 0; i < n; i++) {
		if (x[i] > first) {
			second = first;
			first = x[i];
		} else if (x[i] > second) {
			second = x[i];
		}
	}
	return r->group_score == PENSTOCK_GROUP_MAX ? first : first + second;
}

/* overwrites the scores of groups that are not among the best */
static void mask_groups(const struct penstock_k_router *r, float *choice, uint8_t *taken)
{
	float value[MAX_GROUPS], mask = r->flags & PENSTOCK_ROUTER_F_GROUP_MASK_INF ? -INFINITY : 0;
	size_t n = r->nr_experts / r->nr_groups, g, i;
	int32_t ids[MAX_GROUPS];

	for (g = 0; g < r->nr_groups; g++)
		value[g] = group_value(r, choice + g * n, n);
	top_k(value, r->nr_groups, r->top_groups, ids, taken);
	for (g = 0; g < r->nr_groups; g++)
		for (i = 0; !taken[g] && i < n; i++)
			choice[g * n + i] = mask;
}

static void weigh(const struct penstock_k_router *r, const float *score, const int32_t *ids, float *weights)
{
	float sum = 0;
	size_t j;

	for (j = 0; j < r->top_k; j++)
		weights[j] = score[ids[j]];
	if (r->score == PENSTOCK_SCORE_TOPK_SOFTMAX)
		softmax(weights, r->top_k, weights);
	if (r->flags & PENSTOCK_ROUTER_F_RENORM) {
		for (j = 0; j < r->top_k; j++)
			sum += weights[j];
		/* the models' guard against a sum of 0; it changes no other sum */
		for (j = 0; j < r->top_k; j++)
			weights[j] /= sum + 1e-20f;
	}
	for (j = 0; j < r->top_k; j++)
		weights[j] *= r->scale;
}

/* 0, or 1 where the scores hold a NaN */
static int route_one(const struct penstock_k_router *r, const float *logits, int32_t *ids, float *weights)
{
	float score[MAX_EXPERTS], choice[MAX_EXPERTS];
	uint8_t taken[MAX_EXPERTS];
	size_t n = r->nr_experts, i;

	if (has_nan(logits, n))
		return 1;
	if (r->score == PENSTOCK_SCORE_SOFTMAX)
		softmax(logits, n, score);
	else if (r->score == PENSTOCK_SCORE_SIGMOID)
		for (i = 0; i < n; i++)
			score[i] = 1 / (1 + expf(-logits[i]));
	else
		memcpy(score, logits, n * sizeof(float));
	/* Llama 4 chooses by logit, which a saturated sigmoid no longer tells apart */
	memcpy(choice, r->flags & PENSTOCK_ROUTER_F_INPUT_SCALE ? logits : score, n * sizeof(float));
	for (i = 0; r->select_bias && i < n; i++)
		choice[i] += r->select_bias[i];
	if (has_nan(score, n) || has_nan(choice, n))
		return 1;
	if (r->nr_groups > 1)
		mask_groups(r, choice, taken);
	top_k(choice, n, r->top_k, ids, taken);
	weigh(r, score, ids, weights);
	return has_nan(weights, r->top_k);
}

int penstock_k_route(const struct penstock_k_router *r, const float *logits, size_t ld,
		     size_t nr_tokens, int32_t *ids, float *weights)
{
	int rc, bad = 0;
	size_t t, j;

	rc = check(r);
	if (rc)
		return rc;
	for (t = 0; t < nr_tokens; t++, ids += r->top_k, weights += r->top_k) {
		if (!route_one(r, logits + t * ld, ids, weights))
			continue;
		bad++;
		for (j = 0; j < r->top_k; j++) {
			ids[j] = -1;
			weights[j] = 0;
		}
	}
	return bad;
}
