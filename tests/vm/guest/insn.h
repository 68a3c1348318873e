/* SPDX-License-Identifier: MIT */
/*
 * Instructions, on a lane with icount = 0 and one CPU: there the guest's clock goes on
 * by a nanosecond with each instruction. While the CPU is idle the clock goes on by
 * itself; the kernel counts that time, and it is taken off. Elsewhere the figures are
 * busy nanoseconds of whatever the machine is.
 */
#ifndef PENSTOCK_TESTS_VM_INSN_H
#define PENSTOCK_TESTS_VM_INSN_H

#include <stdint.h>
#include <stdio.h>
#include <time.h>

/** struct insn - a moment: the clock, and how long the CPUs had been idle */
struct insn {
	uint64_t clock, idle;
};

static inline uint64_t insn_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_RAW, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static inline uint64_t insn_idle(void)
{
	unsigned long long idle = 0, one;
	char line[256];
	FILE *f;

	f = fopen("/proc/timer_list", "r");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "  .idle_sleeptime : %llu", &one) == 1)
			idle += one;
	}
	fclose(f);
	return idle;
}

/** insn_start() - from here on. To ask for the idle time takes long: it lies outside, here and at the end. */
static inline struct insn insn_start(void)
{
	struct insn i = { .idle = insn_idle() };

	i.clock = insn_clock();
	return i;
}

/** insn_since() - instructions since then; what was idle for less than the clock's error may come out below 0 */
static inline int64_t insn_since(struct insn start)
{
	uint64_t clock = insn_clock() - start.clock;

	return (int64_t)(clock - (insn_idle() - start.idle));
}

#endif
