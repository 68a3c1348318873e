// SPDX-License-Identifier: MIT
/*
 * The router's forms on examples small enough to work out by hand: logits are
 * logarithms of simple numbers, so that softmax gives simple fractions.
 */
#include "harness.h"
#include <kabi.h>
#include <math.h>

#define NEAR(want, got) do {							\
	double want_ = (want), got_ = (got);					\
	if (!(fabs(want_ - got_) <= 1e-6 * (1 + fabs(want_))))			\
		TEST_FAIL_(0, "%s: %.9g, not %.9g", #got, got_, want_);		\
} while (0)

static int route1(const struct penstock_k_router *r, const float *logits, int32_t *ids, float *w)
{
	return penstock_k_route(r, logits, r->nr_experts, 1, ids, w);
}

static void expect_ids(const int32_t *want, const int32_t *got, int n)
{
	int i;

	for (i = 0; i < n; i++)
		EXPECT_EQ(want[i], got[i]);
}

#define IDS(...) ((const int32_t[]){ __VA_ARGS__ })

/* logarithms of 1, 4, 2, 3: softmax is a tenth of each */
static const float tenths[4] = { 0, 1.38629436f, 0.693147181f, 1.09861229f };

TEST(softmax_without_renormalisation)
{
	struct penstock_k_router r = { .score = PENSTOCK_SCORE_SOFTMAX, .nr_experts = 4, .top_k = 2, .scale = 1 };
	int32_t ids[2];
	float w[2];

	EXPECT_EQ(0, route1(&r, tenths, ids, w));
	expect_ids(IDS(1, 3), ids, 2);
	NEAR(0.4, w[0]);
	NEAR(0.3, w[1]);
	r.scale = 16;
	EXPECT_EQ(0, route1(&r, tenths, ids, w));
	NEAR(6.4, w[0]);
}

TEST(softmax_renormalised)
{
	struct penstock_k_router r = { .score = PENSTOCK_SCORE_SOFTMAX, .flags = PENSTOCK_ROUTER_F_RENORM,
				       .nr_experts = 4, .top_k = 2, .scale = 1 };
	int32_t ids[4];
	float w[4];

	EXPECT_EQ(0, route1(&r, tenths, ids, w));
	NEAR(4.0 / 7, w[0]);
	NEAR(3.0 / 7, w[1]);
	r.top_k = 4;
	EXPECT_EQ(0, route1(&r, tenths, ids, w));
	expect_ids(IDS(1, 3, 2, 0), ids, 4);
	NEAR(0.1, w[3]);
}

TEST(softmax_over_the_chosen)
{
	struct penstock_k_router r = { .score = PENSTOCK_SCORE_TOPK_SOFTMAX, .nr_experts = 4, .top_k = 3, .scale = 1 };
	int32_t ids[3];
	float w[3];

	EXPECT_EQ(0, route1(&r, tenths, ids, w));
	expect_ids(IDS(1, 3, 2), ids, 3);
	NEAR(4.0 / 9, w[0]);
	NEAR(3.0 / 9, w[1]);
	NEAR(2.0 / 9, w[2]);
}

/* logits of which the sigmoids are 1/2, 3/4, 1/4, 2/3 */
static const float sigmoids[4] = { 0, 1.09861229f, -1.09861229f, 0.693147181f };

TEST(sigmoid_bias_selects_but_does_not_weigh)
{
	static const float bias[4] = { 0.3f, 0, 0.45f, 0 };
	struct penstock_k_router r = { .score = PENSTOCK_SCORE_SIGMOID, .flags = PENSTOCK_ROUTER_F_RENORM,
				       .nr_experts = 4, .top_k = 2, .scale = 2.5f, .select_bias = bias };
	int32_t ids[2];
	float w[2];

	/* biased: 0.8, 0.75, 0.7, 0.667; the weights are 1/2 and 3/4, over 5/4, times 2.5 */
	EXPECT_EQ(0, route1(&r, sigmoids, ids, w));
	expect_ids(IDS(0, 1), ids, 2);
	NEAR(1, w[0]);
	NEAR(1.5, w[1]);
	r.flags = 0;
	r.scale = 1;
	EXPECT_EQ(0, route1(&r, sigmoids, ids, w));
	NEAR(0.5, w[0]);
	NEAR(0.75, w[1]);
	r.select_bias = NULL;
	EXPECT_EQ(0, route1(&r, sigmoids, ids, w));
	expect_ids(IDS(1, 3), ids, 2);
	NEAR(2.0 / 3, w[1]);
}

TEST(llama4_chooses_by_logit)
{
	/* both sigmoids are 1 in float */
	static const float logits[4] = { -3, 30, 40, 0 };
	struct penstock_k_router r = { .score = PENSTOCK_SCORE_SIGMOID, .flags = PENSTOCK_ROUTER_F_INPUT_SCALE,
				       .nr_experts = 4, .top_k = 1, .scale = 1 };
	int32_t ids[1];
	float w[1];

	EXPECT_EQ(0, route1(&r, logits, ids, w));
	EXPECT_EQ(2, ids[0]);
	NEAR(1, w[0]);
	EXPECT_EQ(0, route1(&r, sigmoids, ids, w));
	EXPECT_EQ(1, ids[0]);
	NEAR(0.75, w[0]);
}

/* three groups of two; scores are sigmoids */
static const float groups[6] = {
	2.19722458f, -2.19722458f,	/* 0.9, 0.1: sum 1.0, max 0.9 */
	0.405465108f, 0.847297860f,	/* 0.6, 0.7: sum 1.3, max 0.7 */
	-0.405465108f, 1.38629436f,	/* 0.4, 0.8: sum 1.2, max 0.8 */
};

TEST(groups_by_the_sum_of_two_and_by_the_largest)
{
	struct penstock_k_router r = { .score = PENSTOCK_SCORE_SIGMOID, .nr_experts = 6, .top_k = 3, .nr_groups = 3,
				       .top_groups = 2, .group_score = PENSTOCK_GROUP_TOP2_SUM, .scale = 1 };
	int32_t ids[3];
	float w[3];

	EXPECT_EQ(0, route1(&r, groups, ids, w));
	expect_ids(IDS(5, 3, 2), ids, 3);
	NEAR(0.8, w[0]);
	r.group_score = PENSTOCK_GROUP_MAX;
	EXPECT_EQ(0, route1(&r, groups, ids, w));
	expect_ids(IDS(0, 5, 4), ids, 3);
	r.top_groups = 1;
	r.top_k = 2;
	EXPECT_EQ(0, route1(&r, groups, ids, w));
	expect_ids(IDS(0, 1), ids, 2);
}

TEST(deepseek_v2_groups_of_a_softmax)
{
	struct penstock_k_router r = { .score = PENSTOCK_SCORE_SOFTMAX, .nr_experts = 4, .top_k = 2, .nr_groups = 2,
				       .top_groups = 1, .group_score = PENSTOCK_GROUP_MAX, .scale = 16 };
	int32_t ids[2];
	float w[2];

	EXPECT_EQ(0, route1(&r, tenths, ids, w));
	/* the group of 0.1 and 0.4; masking comes after the softmax */
	expect_ids(IDS(1, 0), ids, 2);
	NEAR(6.4, w[0]);
	NEAR(1.6, w[1]);
}

TEST(mask_of_zero_beats_a_negative_score)
{
	/* all scores 1/2; biased: -0.1, -0.2 | -0.3, -0.4: the first group is kept */
	static const float bias[4] = { -0.6f, -0.7f, -0.8f, -0.9f };
	static const float logits[4] = { 0 };
	struct penstock_k_router r = { .score = PENSTOCK_SCORE_SIGMOID, .nr_experts = 4, .top_k = 2, .nr_groups = 2,
				       .top_groups = 1, .scale = 1, .select_bias = bias };
	int32_t ids[2];
	float w[2];

	EXPECT_EQ(0, route1(&r, logits, ids, w));
	expect_ids(IDS(2, 3), ids, 2);
	NEAR(0.5, w[0]);
	r.flags = PENSTOCK_ROUTER_F_GROUP_MASK_INF;
	EXPECT_EQ(0, route1(&r, logits, ids, w));
	expect_ids(IDS(0, 1), ids, 2);
}

TEST(ties_go_to_the_lower_id)
{
	static const float logits[6] = { 1, 2, 2, 1, 2, 1 };
	static const float same[6] = { 0 };
	int32_t ids[4];
	float w[4];
	uint32_t score;

	for (score = PENSTOCK_SCORE_SOFTMAX; score <= PENSTOCK_SCORE_SIGMOID; score++) {
		struct penstock_k_router r = { .score = score, .nr_experts = 6, .top_k = 4, .scale = 1 };

		EXPECT_EQ(0, route1(&r, logits, ids, w));
		expect_ids(IDS(1, 2, 4, 0), ids, 4);
		EXPECT_EQ(0, route1(&r, same, ids, w));
		expect_ids(IDS(0, 1, 2, 3), ids, 4);
		r.nr_groups = 3;
		r.top_groups = 2;
		EXPECT_EQ(0, route1(&r, same, ids, w));
		expect_ids(IDS(0, 1, 2, 3), ids, 4);
	}
}

TEST(nan_tokens_are_counted_and_get_no_expert)
{
	float logits[4][5] = { { 0, 1, 2, 3 }, { 0, NAN, 2, 3 }, { 3, 2, 1, 0 }, { 0, 0, 0, NAN } };
	int32_t ids[8];
	float w[8];
	uint32_t score;

	for (score = PENSTOCK_SCORE_SOFTMAX; score <= PENSTOCK_SCORE_SIGMOID; score++) {
		struct penstock_k_router r = { .score = score, .nr_experts = 4, .top_k = 2, .scale = 1 };

		EXPECT_EQ(2, penstock_k_route(&r, logits[0], 5, 4, ids, w));
		expect_ids(IDS(3, 2, -1, -1, 0, 1, -1, -1), ids, 8);
		EXPECT_TRUE(w[2] == 0 && w[3] == 0);
	}
}

TEST(infinite_logits)
{
	static const float one[4] = { 0, -INFINITY, 1, -INFINITY };
	static const float none[4] = { -INFINITY, -INFINITY, -INFINITY, -INFINITY };
	static const float plus[4] = { 0, INFINITY, 1, 2 };
	static const float nan_bias[4] = { 0, NAN, 0, 0 };
	struct penstock_k_router r = { .score = PENSTOCK_SCORE_SOFTMAX, .nr_experts = 4, .top_k = 3, .scale = 1 };
	int32_t ids[3];
	float w[3];

	EXPECT_EQ(0, route1(&r, one, ids, w));
	expect_ids(IDS(2, 0, 1), ids, 3);
	NEAR(0, w[2]);
	EXPECT_EQ(1, route1(&r, none, ids, w));
	expect_ids(IDS(-1, -1, -1), ids, 3);
	EXPECT_EQ(1, route1(&r, plus, ids, w));
	r.score = PENSTOCK_SCORE_TOPK_SOFTMAX;
	EXPECT_EQ(1, route1(&r, plus, ids, w));
	r.score = PENSTOCK_SCORE_SIGMOID;
	EXPECT_EQ(0, route1(&r, plus, ids, w));
	EXPECT_EQ(1, ids[0]);
	r.select_bias = nan_bias;
	EXPECT_EQ(1, route1(&r, one, ids, w));
	expect_ids(IDS(-1, -1, -1), ids, 3);
}

TEST(impossible_parameters_are_refused)
{
	const struct penstock_k_router good = { .score = PENSTOCK_SCORE_SIGMOID, .nr_experts = 6, .top_k = 2,
						.nr_groups = 3, .top_groups = 2, .scale = 1 };
	int32_t ids[8];
	float w[8];

#define BAD(change) do {						\
	struct penstock_k_router r = good;				\
	change;								\
	EXPECT_EQ(-EINVAL, route1(&r, groups, ids, w));			\
} while (0)
	EXPECT_EQ(0, route1(&good, groups, ids, w));
	BAD(r.score = 3);
	BAD(r.group_score = 2);
	BAD(r.flags = 8);
	BAD(r.nr_experts = 0);
	BAD(r.nr_experts = 1025);
	BAD(r.top_k = 0);
	BAD(r.top_k = 7);
	BAD(r.nr_groups = 4);
	BAD(r.top_groups = 0);
	BAD(r.top_groups = 4);
	BAD(r.nr_groups = 6);	/* no second best in a group of one */
	BAD((r.flags = PENSTOCK_ROUTER_F_GROUP_MASK_INF, r.top_groups = 1, r.top_k = 3));
#undef BAD
}

TEST_HARNESS_MAIN
