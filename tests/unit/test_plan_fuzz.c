// SPDX-License-Identifier: MIT
/* The fuzz target of the plan on inputs of a fixed generator, so that every run of the tests has it. */
#include "harness.h"
#include "../fuzz/fuzz_plan.c"

static uint64_t seed;

static uint8_t random_byte(void)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint8_t)(seed >> 56);
}

static void run(uint8_t flags, uint8_t high_mask)
{
	uint8_t data[HEADER + PENSTOCK_MAX_PARTS * EXTENT];
	size_t len = HEADER + random_byte() % (PENSTOCK_MAX_PARTS + 1) * EXTENT, i;

	for (i = 0; i < len; i++)
		data[i] = random_byte();
	data[0] = flags;
	/* lengths and offsets near the top, or far from it */
	for (i = HEADER; i + EXTENT <= len; i += EXTENT) {
		data[i + 8] &= high_mask;
		data[i + 16] &= high_mask >> 1;
	}
	fuzz_plan(data, len);
}

TEST(plan_keeps_its_promises_for_neighbours)
{
	int i;

	for (i = 0; i < 100000; i++)
		run(1, 0xff);
}

TEST(plan_keeps_its_promises_near_2_to_the_64)
{
	int i;

	for (i = 0; i < 50000; i++) {
		run(0, 0xff);
		run(0, 0x0f);
	}
}

TEST_HARNESS_MAIN
