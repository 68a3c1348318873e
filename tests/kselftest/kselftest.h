/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Exit codes and TAP for programs that are no lists of functions, under the
 * names of tools/testing/selftests/kselftest.h, so that they work there, too.
 */
#ifndef KSELFTEST_H
#define KSELFTEST_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define KSFT_PASS	0
#define KSFT_FAIL	1
#define KSFT_SKIP	4

static unsigned int ksft_nr, ksft_failed, ksft_skipped;

static inline void ksft_print_header(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("TAP version 13\n");
}

static inline void ksft_set_plan(unsigned int plan)
{
	printf("1..%u\n", plan);
}

static inline void __attribute__((format(printf, 1, 2))) ksft_print_msg(const char *msg, ...)
{
	va_list args;

	va_start(args, msg);
	printf("# ");
	vprintf(msg, args);
	va_end(args);
}

static inline void ksft_result(const char *verdict, const char *end, const char *msg, va_list args)
{
	printf("%s %u ", verdict, ++ksft_nr);
	vprintf(msg, args);
	printf("%s", end);
	fflush(stdout);
}

static inline void __attribute__((format(printf, 2, 3))) ksft_test_result(int good, const char *msg, ...)
{
	va_list args;

	va_start(args, msg);
	ksft_result(good ? "ok" : "not ok", "", msg, args);
	va_end(args);
	ksft_failed += !good;
}

/* @msg says what was to be tested, " # SKIP", and why it was not. */
static inline void __attribute__((format(printf, 1, 2))) ksft_test_result_skip(const char *msg, ...)
{
	va_list args;

	va_start(args, msg);
	ksft_result("ok", "", msg, args);
	va_end(args);
	ksft_skipped++;
}

static inline void __attribute__((noreturn)) ksft_finished(void)
{
	exit(ksft_failed ? KSFT_FAIL : ksft_skipped == ksft_nr ? KSFT_SKIP : KSFT_PASS);
}

/* Instead of any result. */
static inline void __attribute__((noreturn, format(printf, 1, 2))) ksft_exit_skip(const char *msg, ...)
{
	va_list args;

	va_start(args, msg);
	printf("1..1\nok 1 # SKIP ");
	vprintf(msg, args);
	va_end(args);
	exit(KSFT_SKIP);
}

#endif
