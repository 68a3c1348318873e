// SPDX-License-Identifier: MIT
/*
 * What a hit costs: fetch, hand out, describe and release eight experts that are in
 * the cache, as a decoder does a layer. Prints nanoseconds an expert; with an
 * argument of rounds under `valgrind --tool=callgrind --toggle-collect=one_layer`,
 * instructions. The engine is pread, since valgrind cannot wait in io_uring.
 */
#include <time.h>

#include "../flow/stream_fixture.h"

#define K	8

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

__attribute__((noinline)) static void one_layer(struct fixture *f, uint32_t layer, const int32_t *ids)
{
	struct penstock_ticket *t;
	struct penstock_slot s;
	size_t i;

	ASSERT_EQ(0, penstock_fetch(f->q, f->model, layer, ids, K, &t));
	while (!penstock_next(t, UINT64_MAX, &i))
		ASSERT_EQ(0, penstock_ticket_slot(t, i, &s));
	penstock_release(t);
}

int main(int argc, char **argv)
{
	const int32_t ids[K] = { 0, 2, 4, 6, 8, 10, 12, 14 };
	long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 1000000;
	static const char *const policies[] = { "lru", "lfu" };

	for (size_t p = 0; p < 2; p++) {
		struct fixture f;
		double start;

		setup(&f, PENSTOCK_F_NO_URING, TINY_LAYERS * TINY_EXPERTS, policies[p]);
		for (uint32_t l = 0; l < TINY_LAYERS; l++)
			one_layer(&f, l, ids);
		start = now_s();
		for (long r = 0; r < rounds; r++)
			one_layer(&f, (uint32_t)(r % TINY_LAYERS), ids);
		printf("%s: %.1f ns an expert over %ld fetches of %d\n", policies[p],
		       (now_s() - start) * 1e9 / (double)rounds / K, rounds, K);
		teardown(&f);
	}
	return 0;
}
