// SPDX-License-Identifier: MIT
/* The cache's bookkeeping, by random operations against a plain record of what must hold. */
#include "cache.h"
#include "harness.h"
#include "policy.h"

#define SLOTS	48
#define LAYERS	4
#define EXPERTS	32

static uint64_t rng = 0x9e3779b97f4a7c15ull;

static uint32_t rnd(uint32_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)(rng % n);
}

static struct penstock_cache *make(int policy, uint32_t slots, uint32_t layers)
{
	struct penstock_cache *c;

	ASSERT_EQ(0, penstock_cache_create(policy, slots, layers, EXPERTS, &c));
	for (uint32_t s = 0; s < slots; s++)
		penstock_cache_revive(c, s);
	return c;
}

/* As a fetch does: Return: true on a hit. */
static bool touch(struct penstock_cache *c, uint32_t layer, uint32_t expert)
{
	uint32_t s = penstock_cache_find(c, layer, expert);
	bool hit = s != PENSTOCK_CACHE_NONE;

	penstock_cache_step(c, layer);
	penstock_cache_use(c, layer, expert);
	if (!hit) {
		s = penstock_cache_take(c, layer, expert, false);
		ASSERT_NE(PENSTOCK_CACHE_NONE, s);
		penstock_cache_pin(c, s);
		EXPECT_FALSE(penstock_cache_loaded(c, s, true));
	} else {
		penstock_cache_pin(c, s);
	}
	EXPECT_FALSE(penstock_cache_unpin(c, s));
	return hit;
}

static uint32_t held(const struct penstock_cache *c, uint32_t layer)
{
	uint32_t n = 0;

	for (uint32_t e = 0; e < EXPERTS; e++)
		n += penstock_cache_find(c, layer, e) != PENSTOCK_CACHE_NONE;
	return n;
}

struct pinned {
	uint32_t slot;
	uint32_t layer;
	uint32_t expert;
	bool loading;
};

static void check_all(const struct penstock_cache *c, const struct pinned *p, uint32_t nr)
{
	uint32_t used = 0;

	for (uint32_t i = 0; i < nr; i++) {
		const struct penstock_cache_slot *s = penstock_cache_slot(c, p[i].slot);

		ASSERT_TRUE(s->pins > 0);
		ASSERT_EQ(p[i].expert, s->expert);
		ASSERT_EQ(p[i].layer, s->layer);
		ASSERT_EQ(p[i].slot, penstock_cache_find(c, p[i].layer, p[i].expert));
	}
	for (uint32_t l = 0; l < LAYERS; l++)
		used += held(c, l);
	ASSERT_EQ(used, penstock_cache_used(c));
	ASSERT_LE(penstock_cache_available(c), penstock_cache_slots(c));
}

static void random_operations(int policy)
{
	struct penstock_cache *c = make(policy, SLOTS, LAYERS);
	struct pinned p[SLOTS];
	uint32_t nr = 0;

	for (int i = 0; i < 60000; i++) {
		uint32_t layer = rnd(LAYERS), expert = rnd(EXPERTS), slot, k;

		if (nr && (rnd(2) || nr == SLOTS)) {
			k = rnd(nr);
			if (p[k].loading) {
				(void)penstock_cache_loaded(c, p[k].slot, true);
			} else {
				(void)penstock_cache_unpin(c, p[k].slot);
			}
			p[k] = p[--nr];
			continue;
		}
		penstock_cache_step(c, layer);
		penstock_cache_use(c, layer, expert);
		slot = penstock_cache_find(c, layer, expert);
		if (slot == PENSTOCK_CACHE_NONE) {
			uint32_t available = penstock_cache_available(c);

			slot = penstock_cache_take(c, layer, expert, false);
			ASSERT_EQ(available == 0, slot == PENSTOCK_CACHE_NONE);
			if (slot == PENSTOCK_CACHE_NONE)
				continue;
			p[nr++] = (struct pinned){ slot, layer, expert, true };
		} else {
			penstock_cache_pin(c, slot);
			p[nr++] = (struct pinned){ slot, layer, expert, false };
		}
		if (i % 16 == 0)
			check_all(c, p, nr);
	}
	penstock_cache_destroy(c);
}

TEST(random_operations_lru)
{
	random_operations(PENSTOCK_POLICY_LRU);
}

TEST(random_operations_lfu)
{
	random_operations(PENSTOCK_POLICY_LFU);
}

TEST(one_layer_lru_is_lru)
{
	struct penstock_cache *c = make(PENSTOCK_POLICY_LRU, 8, 1);
	uint64_t last[EXPERTS] = { 0 }, now = 0;

	for (int i = 0; i < 20000; i++) {
		uint32_t e = rnd(4) ? rnd(10) : rnd(EXPERTS), newer = 0;

		/* an expert is there exactly if fewer than eight others were used since */
		for (uint32_t o = 0; o < EXPERTS; o++)
			newer += o != e && last[o] > last[e];
		ASSERT_EQ(last[e] && newer < 8, touch(c, 0, e));
		last[e] = ++now;
	}
	penstock_cache_destroy(c);
}

TEST(pinned_slots_stay)
{
	struct penstock_cache *c = make(PENSTOCK_POLICY_LRU, 4, 1);
	uint32_t s;

	for (uint32_t e = 0; e < 4; e++) {
		s = penstock_cache_take(c, 0, e, false);
		ASSERT_NE(PENSTOCK_CACHE_NONE, s);
	}
	EXPECT_EQ(0u, penstock_cache_available(c));
	EXPECT_EQ(PENSTOCK_CACHE_NONE, penstock_cache_take(c, 0, 9, false));
	s = penstock_cache_find(c, 0, 2);
	EXPECT_FALSE(penstock_cache_loaded(c, s, true));
	EXPECT_EQ(s, penstock_cache_take(c, 0, 9, false));
	EXPECT_EQ(PENSTOCK_CACHE_NONE, penstock_cache_find(c, 0, 2));
	EXPECT_EQ(1u, penstock_cache_evictions(c));
	penstock_cache_destroy(c);
}

TEST(a_busy_layer_does_not_starve_the_others)
{
	struct penstock_cache *c = make(PENSTOCK_POLICY_LRU, 40, LAYERS);

	for (uint32_t l = 1; l < LAYERS; l++)
		for (uint32_t e = 0; e < 8; e++)
			touch(c, l, e);
	/* one layer streams through all its experts again and again */
	for (int i = 0; i < 1000; i++)
		touch(c, 0, (uint32_t)i % EXPERTS);
	/* nine tenths of an even share of 40 slots over 4 layers are safe */
	for (uint32_t l = 1; l < LAYERS; l++)
		EXPECT_EQ(8u, held(c, l));
	EXPECT_EQ(16u, held(c, 0));
	/* and a layer that comes back takes its share from the one above its quota */
	for (uint32_t e = 8; e < 10; e++)
		touch(c, 1, e);
	EXPECT_GE(held(c, 1), 8u);
	penstock_cache_destroy(c);
}

TEST(failed_loads_leave_no_trace)
{
	struct penstock_cache *c = make(PENSTOCK_POLICY_LRU, 4, 1);
	uint32_t a = penstock_cache_take(c, 0, 5, false), b;

	penstock_cache_pin(c, a);
	EXPECT_FALSE(penstock_cache_loaded(c, a, false));
	EXPECT_EQ(PENSTOCK_CACHE_NONE, penstock_cache_find(c, 0, 5));
	/* another try may run while the ticket of the first is not released yet */
	b = penstock_cache_take(c, 0, 5, false);
	EXPECT_NE(a, b);
	EXPECT_FALSE(penstock_cache_unpin(c, a));
	EXPECT_EQ(b, penstock_cache_find(c, 0, 5));
	EXPECT_FALSE(penstock_cache_loaded(c, b, true));
	EXPECT_EQ(4u, penstock_cache_available(c));
	EXPECT_EQ(1u, penstock_cache_used(c));
	penstock_cache_destroy(c);
}

TEST(killed_slots_die_when_unpinned)
{
	struct penstock_cache *c = make(PENSTOCK_POLICY_LFU, 4, 1);
	uint32_t s = penstock_cache_take(c, 0, 1, false), ready;

	(void)touch(c, 0, 2);
	ready = penstock_cache_find(c, 0, 2);
	EXPECT_FALSE(penstock_cache_kill(c, s));
	EXPECT_TRUE(penstock_cache_kill(c, ready));
	EXPECT_EQ(2u, penstock_cache_slots(c));
	EXPECT_EQ(PENSTOCK_CACHE_NONE, penstock_cache_find(c, 0, 2));
	EXPECT_TRUE(penstock_cache_loaded(c, s, true));
	EXPECT_EQ(PENSTOCK_SLOT_DEAD, (int)penstock_cache_slot(c, s)->state);
	EXPECT_EQ(2u, penstock_cache_available(c));
	penstock_cache_revive(c, s);
	EXPECT_EQ(3u, penstock_cache_available(c));
	penstock_cache_destroy(c);
}

TEST(streaming_keeps_nothing_but_guesses)
{
	struct penstock_cache *c = make(PENSTOCK_POLICY_LRU, 4, 1);
	uint32_t g;

	penstock_cache_stream(c, true);
	(void)touch(c, 0, 1);
	EXPECT_EQ(0u, penstock_cache_used(c));
	EXPECT_FALSE(touch(c, 0, 1));
	g = penstock_cache_take(c, 0, 3, true);
	EXPECT_FALSE(penstock_cache_loaded(c, g, true));
	EXPECT_EQ(g, penstock_cache_find(c, 0, 3));
	penstock_cache_pin(c, g);
	EXPECT_TRUE(penstock_cache_claim(c, g));
	EXPECT_FALSE(penstock_cache_claim(c, g));
	EXPECT_FALSE(penstock_cache_unpin(c, g));
	EXPECT_EQ(0u, penstock_cache_used(c));
	penstock_cache_destroy(c);
}

TEST(guesses_go_first)
{
	struct penstock_cache *c = make(PENSTOCK_POLICY_LRU, 3, 1);
	uint32_t g;

	(void)touch(c, 0, 1);
	(void)touch(c, 0, 2);
	g = penstock_cache_take(c, 0, 3, true);
	EXPECT_FALSE(penstock_cache_loaded(c, g, true));
	EXPECT_EQ(g, penstock_cache_take(c, 0, 4, false));
	penstock_cache_destroy(c);
}

/* Whoever changed an expert in its slot sees by the generation that it was loaded anew, in whatever slot. */
TEST(no_two_loads_have_the_same_generation)
{
	struct penstock_cache *c = make(PENSTOCK_POLICY_LRU, 4, 1);
	uint64_t last = 0, now;

	for (uint32_t i = 0; i < 40; i++) {
		uint32_t s;

		EXPECT_FALSE(touch(c, 0, i % 7));
		s = penstock_cache_find(c, 0, i % 7);
		now = penstock_cache_slot(c, s)->generation;
		EXPECT_GT(now, last);
		EXPECT_TRUE(touch(c, 0, i % 7));
		EXPECT_EQ(now, penstock_cache_slot(c, s)->generation);
		last = now;
	}
	penstock_cache_destroy(c);
}

TEST(marks)
{
	struct penstock_cache *c = make(PENSTOCK_POLICY_LRU, 4, 2);

	EXPECT_EQ(0u, penstock_cache_mark(c, 1, 3, 7));
	EXPECT_EQ(7u, penstock_cache_mark(c, 1, 3, 8));
	EXPECT_EQ(0u, penstock_cache_mark(c, 0, 3, 8));
	penstock_cache_destroy(c);
}

TEST_HARNESS_MAIN
