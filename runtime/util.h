/* SPDX-License-Identifier: MIT */
/* Small helpers that every room may use: rounding, checked arithmetic, time. */
#ifndef PENSTOCK_UTIL_H
#define PENSTOCK_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define PENSTOCK_ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

static inline uint64_t penstock_align_down(uint64_t v, uint64_t align)
{
	return v - v % align;
}

/* Caller makes sure that v + align does not wrap. */
static inline uint64_t penstock_align_up(uint64_t v, uint64_t align)
{
	return penstock_align_down(v + align - 1, align);
}

static inline bool penstock_add_overflows(uint64_t a, uint64_t b, uint64_t *sum)
{
	return __builtin_add_overflow(a, b, sum);
}

static inline bool penstock_mul_overflows(uint64_t a, uint64_t b, uint64_t *product)
{
	return __builtin_mul_overflow(a, b, product);
}

static inline uint64_t penstock_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Places to read at: xorshift (Marsaglia, 13 7 17). @seed: not 0 */
static inline uint64_t penstock_random_u64(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static inline uint64_t penstock_min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t penstock_max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

#endif
