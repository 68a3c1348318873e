// SPDX-License-Identifier: MIT
/* Eviction orders, against naive implementations that look at everything. */
#include <math.h>

#include "harness.h"
#include "policy.h"

#define SLOTS	40
#define LAYERS	3
#define EXPERTS	64

/* What the order should know, kept plainly. */
struct naive {
	bool in[SLOTS];
	uint32_t layer[SLOTS];
	uint32_t expert[SLOTS];
	uint64_t used[SLOTS];
	double added[SLOTS];		/* heat when it joined the order */
	double heat[LAYERS][EXPERTS];	/* log2 */
	uint64_t step[LAYERS];
	uint64_t clock;
};

static uint64_t rng = 88172645463325252ull;

static uint32_t rnd(uint32_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)(rng % n);
}

static uint32_t naive_lru(const struct naive *n, uint32_t layer)
{
	uint32_t best = PENSTOCK_POLICY_NONE;

	for (uint32_t s = 0; s < SLOTS; s++)
		if (n->in[s] && n->layer[s] == layer && (best == PENSTOCK_POLICY_NONE || n->used[s] < n->used[best]))
			best = s;
	return best;
}

static void naive_use(struct naive *n, uint32_t layer, uint32_t expert)
{
	double now = (double)n->step[layer] / PENSTOCK_POLICY_HALF_LIFE;

	n->clock++;
	n->heat[layer][expert] = log2(exp2(n->heat[layer][expert]) + exp2(now));
}

TEST(names_and_kinds)
{
	EXPECT_EQ(PENSTOCK_POLICY_LRU, penstock_policy_kind("lru"));
	EXPECT_EQ(PENSTOCK_POLICY_LFU, penstock_policy_kind("lfu"));
	EXPECT_EQ(-1, penstock_policy_kind("fifo"));
	EXPECT_STREQ("lfu", penstock_policy_name(PENSTOCK_POLICY_LFU));
}

TEST(lru_victim_is_the_one_used_longest_ago)
{
	static struct naive n;
	struct penstock_policy *p;

	ASSERT_EQ(0, penstock_policy_create(PENSTOCK_POLICY_LRU, SLOTS, LAYERS, EXPERTS, &p));
	for (int i = 0; i < 200000; i++) {
		uint32_t s = rnd(SLOTS), layer = rnd(LAYERS);

		if (n.in[s]) {
			penstock_policy_remove(p, s);
			n.in[s] = false;
		} else {
			penstock_policy_use(p, layer, 1);
			penstock_policy_add(p, s, layer, 1, false);
			n.in[s] = true;
			n.layer[s] = layer;
			n.used[s] = ++n.clock;
		}
		layer = rnd(LAYERS);
		ASSERT_EQ(naive_lru(&n, layer), penstock_policy_victim(p, layer));
	}
	penstock_policy_destroy(p);
}

TEST(lru_cold_goes_first)
{
	struct penstock_policy *p;

	ASSERT_EQ(0, penstock_policy_create(PENSTOCK_POLICY_LRU, 4, 1, 4, &p));
	penstock_policy_step(p, 0);
	penstock_policy_step(p, 0);
	penstock_policy_use(p, 0, 0);
	penstock_policy_add(p, 0, 0, 0, false);
	penstock_policy_use(p, 0, 1);
	penstock_policy_add(p, 1, 0, 1, true);
	EXPECT_EQ(1u, penstock_policy_victim(p, 0));
	EXPECT_TRUE(penstock_policy_colder(p, 1, 0));
	penstock_policy_destroy(p);
}

/* The order keeps heat to a quarter of a power of two: the victim must be within that of the coldest. */
TEST(lfu_victim_is_among_the_coldest)
{
	static struct naive n;
	struct penstock_policy *p;

	for (int l = 0; l < LAYERS; l++)
		for (int e = 0; e < EXPERTS; e++)
			n.heat[l][e] = -1000;
	ASSERT_EQ(0, penstock_policy_create(PENSTOCK_POLICY_LFU, SLOTS, LAYERS, EXPERTS, &p));
	for (int i = 0; i < 100000; i++) {
		uint32_t s = rnd(SLOTS), layer = rnd(LAYERS), victim;
		double faded, coldest = 1e9;

		if (!rnd(3)) {
			n.step[layer]++;
			penstock_policy_step(p, layer);
		}
		if (n.in[s]) {
			penstock_policy_remove(p, s);
			n.in[s] = false;
		} else {
			/* a few experts are asked for far more often */
			uint32_t e = rnd(2) ? rnd(6) : rnd(EXPERTS);

			naive_use(&n, layer, e);
			penstock_policy_use(p, layer, e);
			penstock_policy_add(p, s, layer, e, false);
			n.in[s] = true;
			n.layer[s] = layer;
			n.expert[s] = e;
			n.added[s] = n.heat[layer][e];
		}
		layer = rnd(LAYERS);
		victim = penstock_policy_victim(p, layer);
		for (s = 0; s < SLOTS; s++)
			if (n.in[s] && n.layer[s] == layer && n.added[s] < coldest)
				coldest = n.added[s];
		ASSERT_EQ(coldest == 1e9, victim == PENSTOCK_POLICY_NONE);
		if (victim == PENSTOCK_POLICY_NONE)
			continue;
		ASSERT_TRUE(n.in[victim] && n.layer[victim] == layer);
		/* what has faded to 2^-10 of a use now is all alike */
		faded = (double)n.step[layer] / PENSTOCK_POLICY_HALF_LIFE - 10 + 0.25;
		if (n.added[victim] > fmax(coldest, faded) + 0.26)
			TEST_FAIL_(1, "step %d: victim's heat %f, coldest %f", i, n.added[victim], coldest);
	}
	penstock_policy_destroy(p);
}

TEST(lfu_keeps_the_frequent_over_the_recent)
{
	struct penstock_policy *p;

	ASSERT_EQ(0, penstock_policy_create(PENSTOCK_POLICY_LFU, 4, 1, 8, &p));
	for (int i = 0; i < 10; i++) {
		penstock_policy_step(p, 0);
		penstock_policy_use(p, 0, 0);
	}
	penstock_policy_add(p, 0, 0, 0, false);
	penstock_policy_step(p, 0);
	penstock_policy_use(p, 0, 1);
	penstock_policy_add(p, 1, 0, 1, false);
	EXPECT_EQ(1u, penstock_policy_victim(p, 0));
	EXPECT_TRUE(penstock_policy_colder(p, 1, 0));
	penstock_policy_destroy(p);
}

TEST(lfu_forgets_with_time)
{
	struct penstock_policy *p;

	ASSERT_EQ(0, penstock_policy_create(PENSTOCK_POLICY_LFU, 4, 1, 8, &p));
	for (int i = 0; i < 10; i++) {
		penstock_policy_step(p, 0);
		penstock_policy_use(p, 0, 0);
	}
	penstock_policy_add(p, 0, 0, 0, false);
	/* ten uses fade below two after three half-lives */
	for (int i = 0; i < 4 * PENSTOCK_POLICY_HALF_LIFE; i++)
		penstock_policy_step(p, 0);
	penstock_policy_use(p, 0, 1);
	penstock_policy_use(p, 0, 1);
	penstock_policy_add(p, 1, 0, 1, false);
	EXPECT_EQ(0u, penstock_policy_victim(p, 0));
	/* and after a long time nothing is left of a slot's place but the slot itself */
	for (int i = 0; i < 100 * PENSTOCK_POLICY_HALF_LIFE; i++)
		penstock_policy_step(p, 0);
	EXPECT_EQ(0u, penstock_policy_victim(p, 0));
	penstock_policy_remove(p, 0);
	EXPECT_EQ(1u, penstock_policy_victim(p, 0));
	penstock_policy_remove(p, 1);
	EXPECT_EQ(PENSTOCK_POLICY_NONE, penstock_policy_victim(p, 0));
	penstock_policy_destroy(p);
}

TEST_HARNESS_MAIN
