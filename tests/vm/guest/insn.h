/* SPDX-License-Identifier: MIT */
/*
 * Instructions, on a lane with icount = 0 and one CPU: there the guest's clock goes on
 * by a nanosecond with each instruction. While the CPU is idle the clock goes on by
 * itself; the kernel counts that time, and it is taken off.
 *
 * insn_now() itself takes some ten thousand instructions: put many operations between
 * two calls, and take off what two calls with nothing between them differ by.
 */
#ifndef PENSTOCK_TESTS_VM_INSN_H
#define PENSTOCK_TESTS_VM_INSN_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/** insn_now() - instructions since boot, over all CPUs' busy time; 0 where the kernel does not tell */
static inline uint64_t insn_now(void)
{
	unsigned long long idle = 0, one;
	struct timespec now;
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
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec - idle;
}

#endif
