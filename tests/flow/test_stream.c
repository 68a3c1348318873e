// SPDX-License-Identifier: MIT
/* Fetching experts through the public API: bytes, order, limits, threads, failures. */
#include <poll.h>
#include <sys/eventfd.h>

#include <kabi.h>

#include "stream_fixture.h"

static void random_fetches(uint32_t flags, const char *policy)
{
	struct penstock_stats s;
	struct fixture f;
	uint32_t seed = 7;

	setup(&f, flags, 8, policy);
	for (int i = 0; i < 300; i++) {
		int32_t ids[4];

		for (int j = 0; j < 4; j++)
			ids[j] = (int32_t)lcg(&seed, TINY_EXPERTS);
		fetch_and_check(&f, f.q, lcg(&seed, TINY_LAYERS), ids, 1 + lcg(&seed, 4));
	}
	s = stats_of(&f);
	EXPECT_EQ(300u, s.fetches);
	EXPECT_GT(s.experts_hit, 0u);
	EXPECT_EQ((s.experts_wanted - s.experts_hit - s.experts_joined) * TINY_EXPERT, s.bytes_wanted);
	EXPECT_GE(s.bytes_read, s.bytes_wanted);
	EXPECT_LE(s.bytes_read, s.bytes_wanted + s.reads * 2 * 4096);
	EXPECT_EQ(0u, s.in_flight_bytes);
	EXPECT_LE(s.slots_used, s.slots);
	teardown(&f);
}

TEST(every_byte_is_right)
{
	random_fetches(0, NULL);
}

TEST(every_byte_is_right_lfu)
{
	random_fetches(0, "lfu");
}

TEST(every_byte_is_right_pread)
{
	random_fetches(PENSTOCK_F_NO_URING, NULL);
}

TEST(every_byte_is_right_buffered)
{
	random_fetches(PENSTOCK_F_NO_DIRECT | PENSTOCK_F_NO_HUGE, NULL);
}

TEST(every_byte_is_right_caller_progress)
{
	random_fetches(PENSTOCK_F_CALLER_PROGRESS, NULL);
	random_fetches(PENSTOCK_F_CALLER_PROGRESS | PENSTOCK_F_NO_URING, NULL);
}

TEST(duplicates_are_merged_in_order)
{
	const int32_t ids[] = { 5, 3, 5, 9, 3 };
	struct penstock_ticket *t;
	struct penstock_slot s;
	struct fixture f;

	setup(&f, 0, 8, NULL);
	ASSERT_EQ(0, penstock_fetch(f.q, f.model, 1, ids, 5, &t));
	ASSERT_EQ(3u, penstock_ticket_count(t));
	ASSERT_EQ(0, penstock_wait(t, FOR_EVER));
	ASSERT_EQ(0, penstock_ticket_slot(t, 0, &s));
	EXPECT_EQ(5, s.id);
	ASSERT_EQ(0, penstock_ticket_slot(t, 2, &s));
	EXPECT_EQ(9, s.id);
	EXPECT_EQ(-EINVAL, penstock_ticket_slot(t, 3, &s));
	penstock_release(t);
	teardown(&f);
}

TEST(hits_are_handed_out_first)
{
	const int32_t first[] = { 7 }, both[] = { 8, 7 };
	struct penstock_ticket *t;
	struct fixture f;
	size_t i;

	setup(&f, 0, 8, NULL);
	fetch_and_check(&f, f.q, 0, first, 1);
	ASSERT_EQ(0, penstock_fetch(f.q, f.model, 0, both, 2, &t));
	EXPECT_EQ(1u, penstock_ticket_hits(t));
	ASSERT_EQ(0, penstock_next(t, FOR_EVER, &i));
	EXPECT_EQ(1u, i);
	ASSERT_EQ(0, penstock_next(t, FOR_EVER, &i));
	EXPECT_EQ(0u, i);
	check_slot(t, 0, 0);
	EXPECT_EQ(-ENOENT, penstock_next(t, FOR_EVER, &i));
	EXPECT_EQ(0, penstock_poll(t));
	penstock_release(t);
	teardown(&f);
}

TEST(bad_requests_explain_themselves)
{
	const int32_t low[] = { 1, -1 }, high[] = { TINY_EXPERTS }, good[] = { 1 };
	struct penstock_ticket *t;
	struct fixture f;
	int32_t all[TINY_EXPERTS];

	setup(&f, 0, 6, NULL);
	EXPECT_EQ(-EINVAL, penstock_fetch(f.q, f.model, 2, low, 2, &t));
	EXPECT_HAS(penstock_errmsg(f.q), "layer 2");
	EXPECT_HAS(penstock_errmsg(f.q), "NaN");
	EXPECT_EQ(-EINVAL, penstock_fetch(f.q, f.model, 0, high, 1, &t));
	EXPECT_HAS(penstock_errmsg(f.q), "16");
	EXPECT_EQ(-EINVAL, penstock_fetch(f.q, f.model, TINY_LAYERS, good, 1, &t));
	EXPECT_EQ(-EINVAL, penstock_fetch(f.q, f.model, 0, good, 0, &t));
	for (uint32_t i = 0; i < TINY_EXPERTS; i++)
		all[i] = (int32_t)i;
	EXPECT_EQ(-E2BIG, penstock_fetch(f.q, f.model, 0, all, TINY_EXPERTS, &t));
	EXPECT_HAS(penstock_errmsg(f.q), "16 distinct experts");
	EXPECT_GE(penstock_capacity(f.model, 0), 6u);
	EXPECT_EQ(0u, penstock_capacity(f.model, TINY_LAYERS));
	EXPECT_EQ(-EINVAL, penstock_prefetch(f.q, f.model, 0, high, NULL, 1));
	/* and nothing is left behind */
	fetch_and_check(&f, f.q, 0, good, 1);
	EXPECT_STREQ("", penstock_errmsg(f.q));
	teardown(&f);
}

static void line_is_served_in_order(uint32_t flags)
{
	const int32_t a[] = { 0, 1, 2, 3, 4 }, b[] = { 5, 6, 7, 8, 9 };
	struct penstock_ticket *ta, *tb;
	struct fixture f;

	setup(&f, flags, 8, NULL);
	ASSERT_EQ(0, penstock_fetch(f.q, f.model, 0, a, 5, &ta));
	ASSERT_EQ(0, penstock_wait(ta, FOR_EVER));
	ASSERT_EQ(0, penstock_fetch(f.q, f.model, 0, b, 5, &tb));
	/* all pins are this queue's: it would wait for itself */
	EXPECT_EQ(-EBUSY, penstock_wait(tb, FOR_EVER));
	EXPECT_HAS(penstock_errmsg(f.q), "pinned");
	penstock_release(ta);
	EXPECT_EQ(0, penstock_wait(tb, FOR_EVER));
	for (size_t i = 0; i < 5; i++)
		check_slot(tb, i, 0);
	penstock_release(tb);
	teardown(&f);
}

TEST(line_is_served_in_order_thread)
{
	line_is_served_in_order(0);
}

TEST(line_is_served_in_order_caller)
{
	line_is_served_in_order(PENSTOCK_F_CALLER_PROGRESS);
}

TEST(one_thread_with_two_queues_does_not_wait_for_itself)
{
	const int32_t a[] = { 0, 1, 2, 3, 4 }, b[] = { 5, 6, 7, 8, 9 };
	struct penstock_ticket *ta, *tb;
	struct penstock_queue *other;
	struct fixture f;

	setup(&f, PENSTOCK_F_CALLER_PROGRESS, 8, NULL);
	ASSERT_EQ(0, penstock_queue_create(f.ctx, &other));
	ASSERT_EQ(0, penstock_fetch(f.q, f.model, 0, a, 5, &ta));
	ASSERT_EQ(0, penstock_wait(ta, FOR_EVER));
	ASSERT_EQ(0, penstock_fetch(other, f.model, 0, b, 5, &tb));
	EXPECT_EQ(-EBUSY, penstock_wait(tb, FOR_EVER));
	penstock_release(ta);
	EXPECT_EQ(0, penstock_wait(tb, FOR_EVER));
	penstock_release(tb);
	penstock_queue_destroy(other);
	teardown(&f);
}

TEST(a_ticket_in_line_can_be_released_and_cancelled)
{
	const int32_t a[] = { 0, 1, 2, 3, 4 }, b[] = { 5, 6, 7, 8, 9 }, c[] = { 1 };
	struct penstock_ticket *ta, *tb, *tc;
	struct fixture f;

	setup(&f, 0, 8, NULL);
	ASSERT_EQ(0, penstock_fetch(f.q, f.model, 0, a, 5, &ta));
	ASSERT_EQ(0, penstock_fetch(f.q, f.model, 0, b, 5, &tb));
	ASSERT_EQ(0, penstock_fetch(f.q, f.model, 0, c, 1, &tc));
	/* first come, first served: the small one waits behind the large one */
	ASSERT_EQ(0, penstock_wait(ta, FOR_EVER));
	EXPECT_EQ(-EBUSY, penstock_poll(tc));
	penstock_cancel(tb);
	EXPECT_EQ(-ECANCELED, penstock_wait(tb, FOR_EVER));
	EXPECT_EQ(0, penstock_wait(tc, FOR_EVER));
	penstock_release(tb);
	penstock_release(tc);
	penstock_release(ta);
	fetch_and_check(&f, f.q, 0, b, 5);
	teardown(&f);
}

TEST(an_eventfd_tells_when_it_is_all_there)
{
	const int32_t ids[] = { 1, 2, 3 }, others[] = { 4, 5, 6, 7, 8, 9, 10 };
	struct penstock_ticket *t, *line;
	int fd = eventfd(0, EFD_NONBLOCK);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	eventfd_t n = 0;
	struct fixture f;

	setup(&f, 0, 8, NULL);
	ASSERT_EQ(0, penstock_fetch(f.q, f.model, 0, ids, 3, &t));
	ASSERT_EQ(0, penstock_notify(t, fd));
	ASSERT_EQ(1, poll(&p, 1, 10000));
	EXPECT_EQ(0, penstock_poll(t));
	ASSERT_EQ(0, eventfd_read(fd, &n));
	EXPECT_EQ(1u, n);
	/* one that stands in line is told when it was cancelled */
	ASSERT_EQ(0, penstock_fetch(f.q, f.model, 0, others, 7, &line));
	ASSERT_EQ(0, penstock_notify(line, fd));
	EXPECT_EQ(0, poll(&p, 1, 20));
	penstock_cancel(line);
	EXPECT_EQ(1, poll(&p, 1, 1000));
	penstock_release(line);
	penstock_release(t);
	close(fd);
	teardown(&f);
}

TEST(cancel_while_reading)
{
	struct fixture f;
	uint32_t seed = 3;

	setup(&f, 0, 8, NULL);
	for (int i = 0; i < 200; i++) {
		int32_t ids[4] = { (int32_t)lcg(&seed, 4), (int32_t)(4 + lcg(&seed, 4)), (int32_t)(8 + lcg(&seed, 4)), 12 };
		struct penstock_ticket *t;

		ASSERT_EQ(0, penstock_fetch(f.q, f.model, (uint32_t)i % TINY_LAYERS, ids, 4, &t));
		if (i % 3)
			penstock_cancel(t);
		penstock_release(t);
		if (i % 7 == 0)
			fetch_and_check(&f, f.q, (uint32_t)i % TINY_LAYERS, ids, 4);
	}
	teardown(&f);
}

TEST(guesses_become_hits)
{
	const int32_t ids[] = { 3, 4 };
	const float weights[] = { 0.1f, 0.9f };
	struct penstock_stats s = { 0 };
	struct fixture f;

	setup(&f, 0, 12, NULL);
	ASSERT_EQ(0, penstock_prefetch(f.q, f.model, 1, ids, weights, 2));
	for (int i = 0; i < 2000 && s.prefetched < 2; i++) {
		usleep(1000);
		s = stats_of(&f);
	}
	ASSERT_EQ(2u, s.prefetched);
	EXPECT_GT(s.bytes_prefetch, 0u);
	fetch_and_check(&f, f.q, 1, ids, 2);
	s = stats_of(&f);
	EXPECT_EQ(2u, s.experts_hit);
	EXPECT_EQ(2u, s.prefetch_used);
	EXPECT_EQ(1u, s.fetches_all_hit);
	teardown(&f);
}

TEST(guesses_and_demands_mix)
{
	struct fixture f;
	uint32_t seed = 11;

	setup(&f, 0, 8, "lfu");
	for (int i = 0; i < 400; i++) {
		int32_t want[2] = { (int32_t)lcg(&seed, TINY_EXPERTS), (int32_t)lcg(&seed, TINY_EXPERTS) };
		int32_t guess[3] = { (int32_t)lcg(&seed, TINY_EXPERTS), want[1], (int32_t)lcg(&seed, TINY_EXPERTS) };
		uint32_t layer = lcg(&seed, TINY_LAYERS);

		ASSERT_EQ(0, penstock_prefetch(f.q, f.model, layer, guess, NULL, 3));
		fetch_and_check(&f, f.q, layer, want, 2);
	}
	teardown(&f);
}

static void guesses_give_way(uint32_t flags)
{
	const int32_t guesses[] = { 0, 1, 2, 3, 4, 5, 6, 7 }, want[] = { 9, 10, 11 };
	struct fixture f;

	setup(&f, flags, 8, NULL);
	for (int i = 0; i < 50; i++) {
		/* as many as there are slots, and then a demand of another layer */
		ASSERT_EQ(0, penstock_prefetch(f.q, f.model, 1, guesses, NULL, 8));
		fetch_and_check(&f, f.q, i % 2 ? 0 : 2, want, 3);
	}
	teardown(&f);
}

TEST(guesses_give_way_to_demands)
{
	guesses_give_way(0);
}

TEST(guesses_give_way_to_demands_of_the_caller)
{
	guesses_give_way(PENSTOCK_F_CALLER_PROGRESS);
}

TEST(a_model_closes_while_guesses_are_read)
{
	const int32_t guesses[] = { 0, 1, 2, 3, 4, 5, 6, 7 };

	for (int i = 0; i < 30; i++) {
		struct penstock_options o = PENSTOCK_OPTIONS_INIT;
		struct penstock_error err = { 0 };
		struct fixture f;

		tiny_model_make(&f.tiny);
		o.cache_bytes = 8 * (uint64_t)(TINY_EXPERT + 2 * 4096);
		/* several reads an expert: a guess is under way when the model goes */
		o.split_bytes = 8192;
		o.queue_depth = 4;
		ASSERT_EQ(0, penstock_open(&o, &f.ctx, &err));
		ASSERT_EQ(0, penstock_model_open(f.ctx, f.tiny.dir, NULL, &f.model, &err));
		ASSERT_EQ(0, penstock_queue_create(f.ctx, &f.q));
		ASSERT_EQ(0, penstock_prefetch(f.q, f.model, (uint32_t)i % TINY_LAYERS, guesses, NULL, 8));
		usleep((useconds_t)(i * 20));
		teardown(&f);
	}
}

TEST(the_second_in_line_is_told_too)
{
	const int32_t a[] = { 0, 1, 2, 3, 4 }, b[] = { 5, 6, 7, 8, 9 };
	struct penstock_ticket *ta, *tb, *tc;
	struct fixture f;

	setup(&f, PENSTOCK_F_CALLER_PROGRESS, 8, NULL);
	ASSERT_EQ(0, penstock_fetch(f.q, f.model, 0, a, 5, &ta));
	ASSERT_EQ(0, penstock_wait(ta, FOR_EVER));
	ASSERT_EQ(0, penstock_fetch(f.q, f.model, 0, b, 5, &tb));
	ASSERT_EQ(0, penstock_fetch(f.q, f.model, 0, b, 5, &tc));
	EXPECT_EQ(-EBUSY, penstock_wait(tc, FOR_EVER));
	penstock_release(ta);
	EXPECT_EQ(0, penstock_wait(tc, FOR_EVER));
	penstock_release(tb);
	penstock_release(tc);
	teardown(&f);
}

TEST(a_ticket_serves_a_forward_again_but_no_other_experts)
{
	static float x[TINY_HIDDEN], first[TINY_HIDDEN], again[TINY_HIDDEN];
	const int32_t ids[] = { 3, 4 }, others[] = { 3, 5 };
	const float weights[] = { 0.25f, 0.75f };
	struct penstock_moe moe = {
		.size = sizeof(moe), .layer = 1, .top_k = 2, .nr_tokens = 1, .x = x, .ldx = TINY_HIDDEN,
		.ids = ids, .weights = weights, .out = first, .ldout = TINY_HIDDEN,
	};
	struct penstock_pool *pool;
	struct fixture f;
	size_t index;

	for (uint32_t i = 0; i < TINY_HIDDEN; i++)
		x[i] = (float)i / 7;
	setup(&f, 0, 8, NULL);
	ASSERT_EQ(0, penstock_pool_create(1, PENSTOCK_ISA_AUTO, 0, &pool));
	ASSERT_EQ(0, penstock_moe_forward(f.q, f.model, pool, &moe));
	EXPECT_NE(0, (int)(first[0] != 0));
	ASSERT_EQ(0, penstock_fetch(f.q, f.model, 1, ids, 2, &moe.ticket));
	ASSERT_EQ(0, penstock_next(moe.ticket, FOR_EVER, &index));
	moe.out = again;
	for (int i = 0; i < 2; i++) {
		memset(again, 0, sizeof(again));
		ASSERT_EQ(0, penstock_moe_forward(f.q, f.model, pool, &moe));
		EXPECT_EQ(0, memcmp(first, again, sizeof(first)));
	}
	moe.ids = others;
	EXPECT_EQ(-EINVAL, penstock_moe_forward(f.q, f.model, pool, &moe));
	penstock_release(moe.ticket);
	penstock_pool_destroy(pool);
	teardown(&f);
}

TEST(a_resize_down_to_the_least_and_up_again)
{
	struct penstock_model_info mi = { .size = sizeof(mi) };
	struct penstock_error err = { 0 };
	struct fixture f;
	uint64_t slots;

	setup(&f, 0, 20, NULL);
	slots = stats_of(&f).slots;
	ASSERT_EQ(0, penstock_model_info(f.model, &mi));
	ASSERT_EQ(0, penstock_resize(f.ctx, mi.least_bytes, &err));
	EXPECT_EQ(2 * TINY_TOP_K, stats_of(&f).slots);
	ASSERT_EQ(0, penstock_resize(f.ctx, mi.cache_bytes, &err));
	EXPECT_EQ(slots, stats_of(&f).slots);
	teardown(&f);
}

struct worker {
	struct fixture *f;
	uint32_t seed;
	pthread_t thread;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct penstock_queue *q;

	ASSERT_EQ(0, penstock_queue_create(w->f->ctx, &q));
	for (int i = 0; i < 150; i++) {
		int32_t ids[3];

		for (int j = 0; j < 3; j++)
			ids[j] = (int32_t)lcg(&w->seed, TINY_EXPERTS);
		fetch_and_check(w->f, q, lcg(&w->seed, TINY_LAYERS), ids, 3);
	}
	penstock_queue_destroy(q);
	return NULL;
}

static void run_workers(struct fixture *f, struct worker *w, int nr)
{
	for (int i = 0; i < nr; i++) {
		w[i].f = f;
		w[i].seed = (uint32_t)i + 1;
		ASSERT_EQ(0, pthread_create(&w[i].thread, NULL, work, &w[i]));
	}
}

TEST(threads_share_a_context)
{
	struct worker w[4];
	struct fixture f;

	setup(&f, 0, 7, NULL);
	run_workers(&f, w, 4);
	for (int i = 0; i < 4; i++)
		pthread_join(w[i].thread, NULL);
	EXPECT_EQ(600u, stats_of(&f).fetches);
	teardown(&f);
}

TEST(resize_while_threads_fetch)
{
	const uint64_t slot = TINY_EXPERT + 2 * 4096;
	struct penstock_error err = { 0 };
	struct worker w[3];
	struct fixture f;

	setup(&f, 0, 20, NULL);
	run_workers(&f, w, 3);
	for (uint32_t i = 0; i < 40; i++) {
		uint32_t slots = i % 2 ? 40 : 10 + i % 5;

		if (penstock_resize(f.ctx, slots * slot, &err))
			TEST_FAIL_(1, "%s", err.text);
		usleep(2000);
	}
	for (int i = 0; i < 3; i++)
		pthread_join(w[i].thread, NULL);
	ASSERT_EQ(0, penstock_resize(f.ctx, 10 * slot, &err));
	EXPECT_LE(stats_of(&f).cache_bytes, 10 * slot);
	EXPECT_EQ(-ENOSPC, penstock_resize(f.ctx, 10, &err));
	EXPECT_HAS(err.text, "need");
	teardown(&f);
}

TEST(a_small_budget_streams_through)
{
	struct penstock_status st = { .size = sizeof(st) };
	const int32_t ids[] = { 1, 2 };
	struct fixture f;

	/* two layers' experts fit, one token's (three layers') do not */
	setup(&f, 0, 4, NULL);
	ASSERT_EQ(0, penstock_status(f.ctx, &st));
	EXPECT_STREQ("stream", st.cache_mode);
	fetch_and_check(&f, f.q, 0, ids, 2);
	fetch_and_check(&f, f.q, 0, ids, 2);
	EXPECT_EQ(0u, stats_of(&f).experts_hit);
	EXPECT_EQ(0u, stats_of(&f).slots_used);
	teardown(&f);
}

TEST_HARNESS_MAIN
