// SPDX-License-Identifier: MIT
/* The ring over an engine that has bad days: every byte right, or the right errno. */
#include "ring_load.h"
#include "fake/ring_faulty.c"

#define FILE_SIZE	((3u << 20) + 100)
#define READ_MOST	(64u << 10)

static struct penstock_store store;

static void add_file(void)
{
	uint32_t nr;

	files_make(files_path("data"), FILE_SIZE);
	ASSERT_EQ(0, penstock_store_add(&store, files_path("data"), &nr, NULL));
	ASSERT_EQ(0, penstock_store_probe(&store, nr, true, NULL));
	/* ranges as O_DIRECT would have them */
	store.files[nr].align = 512;
}

static struct penstock_ring *faulty_ring(struct ring_faulty_plan plan, uint32_t depth)
{
	struct penstock_ring *r;

	ring_faulty_plan = plan;
	ASSERT_EQ(0, penstock_ring_open(&ring_faulty, depth, &r, NULL));
	ASSERT_EQ(0, penstock_ring_set_files(r, &store.files[0].dfd, 1));
	return r;
}

/* Run a load under a plan; @depth reads in flight. Return: reads that failed. */
static uint32_t run(struct ring_faulty_plan plan, uint32_t depth, uint32_t nr, bool may_fail)
{
	struct penstock_ring *r = faulty_ring(plan, depth);
	struct ring_load l = { .store = &store, .depth = depth, .nr = nr, .most = READ_MOST, .any_status = may_fail,
			       .seed = plan.seed };

	load_run(&l, r);
	EXPECT_EQ(nr, l.finished);
	if (test_failed)
		printf("# seed %llu, depth %u\n", (unsigned long long)plan.seed, depth);
	penstock_ring_close(r);
	return l.failed;
}

TEST(ring_puts_short_reads_together)
{
	uint64_t seed;

	add_file();
	for (seed = 0; seed < 6; seed++) {
		struct ring_faulty_plan plan = { .seed = seed, .short_chance = 200, .idle_chance = 20 };

		EXPECT_EQ(0, run(plan, seed % 2 ? 32 : 1, 200, false));
		EXPECT_GT(ring_faulty_plan.nr_faults, 200);
	}
	penstock_store_close(&store);
}

TEST(ring_goes_on_at_blocks_where_only_blocks_are_taken)
{
	uint64_t seed;

	add_file();
	for (seed = 0; seed < 6; seed++) {
		struct ring_faulty_plan plan = { .seed = seed, .short_chance = 200, .block = 512 };

		EXPECT_EQ(0, run(plan, seed % 2 ? 32 : 1, 200, false));
		EXPECT_GT(ring_faulty_plan.nr_faults, 200);
	}
	penstock_store_close(&store);
}

TEST(ring_goes_back_to_a_block_after_an_end_inside_of_one)
{
	uint64_t seed;

	add_file();
	for (seed = 0; seed < 4; seed++) {
		struct ring_faulty_plan plan = { .seed = seed, .short_chance = 60, .block = 512, .ragged = true };

		EXPECT_EQ(0, run(plan, seed % 2 ? 32 : 1, 200, false));
		EXPECT_GT(ring_faulty_plan.nr_faults, 40);
		EXPECT_LT(ring_faulty_plan.nr_reads, 600);
	}
	penstock_store_close(&store);
}

TEST(ring_ends_with_reads_of_a_few_bytes)
{
	struct ring_faulty_plan plan = { .seed = 7, .short_chance = 256, .short_most = 7 };

	add_file();
	/* each read is thousands, none of which moves a block on */
	EXPECT_EQ(0, run(plan, 4, 8, false));
	EXPECT_GT(ring_faulty_plan.nr_reads, 8000);
	penstock_store_close(&store);
}

TEST(ring_resubmits_after_eintr_and_eagain)
{
	uint64_t seed;

	add_file();
	for (seed = 0; seed < 4; seed++) {
		struct ring_faulty_plan plan = { .seed = seed, .eintr_chance = 80, .eagain_chance = 80, .full = true };

		EXPECT_EQ(0, run(plan, seed % 2 ? 32 : 1, 200, false));
		EXPECT_GT(ring_faulty_plan.nr_faults, 50);
	}
	penstock_store_close(&store);
}

TEST(ring_tries_again_after_eio)
{
	struct ring_faulty_plan plan = { .seed = 1, .eio_chance = 8, .short_chance = 100 };

	add_file();
	EXPECT_EQ(0, run(plan, 16, 300, false));
	penstock_store_close(&store);
}

TEST(ring_gives_up_after_eio_tries)
{
	static char mem[4096];
	struct penstock_read read = { .buf = -1, .len = 4096, .need = 4096, .dst = mem }, *got;
	struct penstock_ring *r;

	add_file();
	r = faulty_ring((struct ring_faulty_plan){ .eio_chance = 256 }, 1);
	ASSERT_TRUE(!penstock_ring_submit(r, &read));
	ASSERT_EQ(1, penstock_ring_reap(r, UINT64_MAX, &got));
	EXPECT_EQ(-EIO, got->status);
	EXPECT_EQ(PENSTOCK_RING_EIO_TRIES, got->eio_tries);
	EXPECT_EQ(1 + PENSTOCK_RING_EIO_TRIES, ring_faulty_plan.nr_reads);
	EXPECT_EQ(PENSTOCK_RING_EIO_TRIES, penstock_ring_retries(r));
	penstock_ring_close(r);
	penstock_store_close(&store);
}

TEST(ring_gives_up_when_eagain_never_ends)
{
	static char mem[4096];
	struct penstock_read read = { .buf = -1, .len = 4096, .need = 4096, .dst = mem }, *got;
	struct penstock_ring *r;

	add_file();
	r = faulty_ring((struct ring_faulty_plan){ .eagain_chance = 256 }, 1);
	ASSERT_TRUE(!penstock_ring_submit(r, &read));
	ASSERT_EQ(1, penstock_ring_reap(r, UINT64_MAX, &got));
	EXPECT_EQ(-EAGAIN, got->status);
	penstock_ring_close(r);
	penstock_store_close(&store);
}

TEST(ring_mixes_all_faults)
{
	uint64_t seed;

	add_file();
	for (seed = 0; seed < 8; seed++) {
		struct ring_faulty_plan plan = { .seed = seed, .short_chance = 128, .eintr_chance = 30,
						 .eagain_chance = 30, .eio_chance = 60, .idle_chance = 60, .full = true,
						 .block = seed % 2 ? 512 : 0 };
		uint32_t failed = run(plan, 16, 200, true);

		/* EIO hits some thrice: those fail, the others are whole (which the load verifies) */
		EXPECT_LT(failed, 200);
	}
	penstock_store_close(&store);
}

TEST(ring_finds_the_end_of_a_file_of_blocks)
{
	static char mem[64 << 10];
	struct penstock_read read, *got;
	struct penstock_ring *r;
	uint64_t seed, ends[] = { 61000, 5000, 4097, 4096, 512, 511, 100, 0 };
	size_t i;

	add_file();
	for (i = 0; i < PENSTOCK_ARRAY_SIZE(ends); i++) {
		ASSERT_EQ(0, truncate(store.files[0].path, (off_t)ends[i]));
		for (seed = 0; seed < 4; seed++) {
			r = faulty_ring((struct ring_faulty_plan){ .seed = seed, .short_chance = seed * 60, .block = 512 }, 1);
			read = (struct penstock_read){ .buf = -1, .len = sizeof(mem), .need = (uint32_t)ends[i] + 1, .dst = mem };
			ASSERT_TRUE(!penstock_ring_submit(r, &read));
			ASSERT_EQ(1, penstock_ring_reap(r, UINT64_MAX, &got));
			EXPECT_EQ(-ENODATA, got->status);
			read.need = (uint32_t)ends[i];
			read.next = NULL;
			ASSERT_TRUE(!penstock_ring_submit(r, &read));
			ASSERT_EQ(1, penstock_ring_reap(r, UINT64_MAX, &got));
			EXPECT_EQ(0, got->status);
			EXPECT_EQ(ends[i], files_wrong(mem, 0, ends[i]));
			penstock_ring_close(r);
		}
	}
	penstock_store_close(&store);
}

TEST(ring_trusts_no_engine_that_counts_wrong)
{
	static char mem[4096];
	struct penstock_read read = { .buf = -1, .len = 4096, .need = 4096, .dst = mem }, *got;
	struct penstock_ring *r;

	add_file();
	r = faulty_ring((struct ring_faulty_plan){ .lies = true }, 1);
	ASSERT_TRUE(!penstock_ring_submit(r, &read));
	ASSERT_EQ(1, penstock_ring_reap(r, UINT64_MAX, &got));
	EXPECT_EQ(-EIO, got->status);
	penstock_ring_close(r);
	penstock_store_close(&store);
}

TEST(ring_says_that_the_engine_broke)
{
	static char mem[4096];
	struct penstock_read read = { .buf = -1, .len = 4096, .need = 4096, .dst = mem }, *got;
	struct penstock_ring *r;

	add_file();
	r = faulty_ring((struct ring_faulty_plan){ .break_at = 1 }, 1);
	ASSERT_TRUE(!penstock_ring_submit(r, &read));
	EXPECT_EQ(-ENXIO, penstock_ring_reap(r, UINT64_MAX, &got));
	EXPECT_TRUE(!got);
	EXPECT_EQ(1, penstock_ring_in_flight(r));
	penstock_ring_close(r);
	penstock_store_close(&store);
}

TEST(ring_times_out_over_idle_rounds)
{
	struct penstock_read *got;
	struct penstock_ring *r;
	uint64_t begin = penstock_now_ns();

	add_file();
	r = faulty_ring((struct ring_faulty_plan){ .idle_chance = 256 }, 1);
	EXPECT_EQ(0, penstock_ring_reap(r, 10000000, &got));
	EXPECT_GE(penstock_now_ns() - begin, 10000000);
	penstock_ring_wake(r);
	EXPECT_EQ(0, penstock_ring_reap(r, UINT64_MAX, &got));
	penstock_ring_close(r);
	penstock_store_close(&store);
}

TEST_HARNESS_MAIN
