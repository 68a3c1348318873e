// SPDX-License-Identifier: MIT
/*
 * Does the clock count instructions? A loop of known length, and a sleep that costs
 * next to nothing. Prints TAP.
 */
#include <stdlib.h>
#include <unistd.h>

#include "insn.h"

#define LOOPS 20000000ull

/* Two instructions a round. */
static uint64_t loop(uint64_t rounds)
{
	struct insn begin = insn_start();

	__asm__ volatile("1: dec %0; jnz 1b" : "+r"(rounds) : : "cc");
	return insn_since(begin);
}

int main(void)
{
	const char *icount = getenv("ICOUNT");
	struct insn begin;
	uint64_t got;
	int64_t slept;
	int bad = 0;

	if (!icount || !*icount) {
		printf("ok 1 the clock counts instructions # SKIP not on a lane with icount\n1..1\n");
		return 4;
	}
	got = loop(LOOPS);
	/* The timer's interrupts come on top. */
	bad += got < 2 * LOOPS || got > 2 * LOOPS * 11 / 10;
	printf("# %llu rounds of two: %llu\n", LOOPS, (unsigned long long)got);
	printf("%s 1 a loop has the instructions that it has\n", bad ? "not ok" : "ok");
	begin = insn_start();
	usleep(300000);
	slept = insn_since(begin);
	printf("# 300 ms of sleep: %lld\n", (long long)slept);
	printf("%s 2 sleeping is not counted\n", llabs(slept) > 10000000 ? "not ok" : "ok");
	bad += llabs(slept) > 10000000;
	printf("1..2\n");
	return bad != 0;
}
