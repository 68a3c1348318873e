/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tests as functions, under the names of the kernel tree's own
 * kselftest_harness.h, so that they move there unchanged. What differs: a
 * handler block after ASSERT_*() is not known, so there must be none.
 *
 *   FIXTURE(box) { int fd; };
 *   FIXTURE_SETUP(box) { self->fd = open(...); ASSERT_LE(0, self->fd); }
 *   FIXTURE_TEARDOWN(box) { close(self->fd); }
 *   TEST_F(box, takes_things) { EXPECT_EQ(0, put(self->fd)); }
 *   TEST_HARNESS_MAIN
 *
 * Each test runs in a process group of its own, which is killed when it ends
 * or takes longer than its timeout. ASSERT_*() ends a test, and the fixture is
 * torn down; EXPECT_*() goes on. Both need a variable _metadata: functions
 * that use them get it as an argument. SKIP(return, "why") leaves a test.
 * Arguments name the tests to run, as FIXTURE.TEST or FIXTURE.VARIANT.TEST.
 */
#ifndef KSELFTEST_HARNESS_H
#define KSELFTEST_HARNESS_H

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "kselftest.h"

#ifndef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 60
#endif

#define TH_MAX_TESTS	512

/* What a test's process tells the one that waits for it. */
struct th_result {
	bool skipped;
	bool failed;
	char why[256];
};

struct __test_metadata {
	const char *fixture;
	const char *variant_name;
	const char *name;
	const void *variant;
	void (*run)(struct __test_metadata *_metadata);
	unsigned int timeout;
	struct th_result *result;
	jmp_buf bail;
};

struct th_variant {
	const char *fixture;
	const char *name;
	const void *data;
};

static struct __test_metadata th_tests[TH_MAX_TESTS];
static unsigned int th_nr_tests;
static struct th_variant th_variants[64];
static unsigned int th_nr_variants;

static inline void th_add_variant(const char *fixture, const char *name, const void *data)
{
	if (th_nr_variants == sizeof(th_variants) / sizeof(th_variants[0]))
		abort();
	th_variants[th_nr_variants++] = (struct th_variant) { fixture, name, data };
}

/* Constructors run in the order of the file: a variant has to stand before the tests of its fixture. */
static inline void th_add_test(const char *fixture, const char *name, void (*run)(struct __test_metadata *_metadata),
			unsigned int timeout)
{
	struct __test_metadata test = { .fixture = fixture, .name = name, .run = run, .timeout = timeout };
	unsigned int i, nr = 0;

	for (i = 0; i <= th_nr_variants; i++) {
		if (i < th_nr_variants) {
			if (strcmp(th_variants[i].fixture, fixture))
				continue;
			test.variant_name = th_variants[i].name;
			test.variant = th_variants[i].data;
			nr++;
		} else if (nr) {
			return;
		}
		if (th_nr_tests == TH_MAX_TESTS)
			abort();
		th_tests[th_nr_tests++] = test;
	}
}

#define TH_LOG(fmt, ...) do {							\
	printf("# %s:%d:%s: " fmt "\n", __FILE__, __LINE__, _metadata->name, ##__VA_ARGS__); \
	fflush(stdout);								\
} while (0)

/* @statement leaves the test: return, or goto. */
#define SKIP(statement, fmt, ...) do {						\
	snprintf(_metadata->result->why, sizeof(_metadata->result->why), fmt, ##__VA_ARGS__); \
	_metadata->result->skipped = true;					\
	statement;								\
} while (0)

/* What is in registers when setjmp() returns a second time is undefined. */
#define TH_NOINLINE __attribute__((noinline))

#define FIXTURE_DATA(fixture_name) struct _test_data_##fixture_name
#define FIXTURE(fixture_name) FIXTURE_DATA(fixture_name)
#define FIXTURE_VARIANT(fixture_name) struct _fixture_variant_##fixture_name
#define FIXTURE_VARIANT_ADD(fixture_name, variant_name)				\
	extern const FIXTURE_VARIANT(fixture_name) _variant_##fixture_name##_##variant_name; \
	__attribute__((constructor)) static void _add_variant_##fixture_name##_##variant_name(void) \
	{									\
		th_add_variant(#fixture_name, #variant_name, &_variant_##fixture_name##_##variant_name); \
	}									\
	const FIXTURE_VARIANT(fixture_name) _variant_##fixture_name##_##variant_name =

/* A fixture without variants has none of that type's members: the type stays incomplete. */
#define FIXTURE_SETUP(fixture_name)						\
	FIXTURE_VARIANT(fixture_name);						\
	static TH_NOINLINE void fixture_name##_setup(struct __test_metadata *_metadata,	\
		__attribute__((unused)) FIXTURE_DATA(fixture_name) *self,	\
		__attribute__((unused)) const FIXTURE_VARIANT(fixture_name) *variant)
#define FIXTURE_TEARDOWN(fixture_name)						\
	static TH_NOINLINE void fixture_name##_teardown(struct __test_metadata *_metadata __attribute__((unused)), \
		__attribute__((unused)) FIXTURE_DATA(fixture_name) *self,	\
		__attribute__((unused)) const FIXTURE_VARIANT(fixture_name) *variant)

#define TEST_F_TIMEOUT(fixture_name, test_name, timeout_s)			\
	static TH_NOINLINE void fixture_name##_##test_name(struct __test_metadata *_metadata, \
		FIXTURE_DATA(fixture_name) *self, const FIXTURE_VARIANT(fixture_name) *variant); \
	static void wrapper_##fixture_name##_##test_name(struct __test_metadata *_metadata) \
	{									\
		static FIXTURE_DATA(fixture_name) self;				\
		const FIXTURE_VARIANT(fixture_name) *variant = _metadata->variant; \
		static volatile bool ready;					\
										\
		if (!setjmp(_metadata->bail)) {					\
			fixture_name##_setup(_metadata, &self, variant);	\
			ready = true;						\
			if (!_metadata->result->skipped)			\
				fixture_name##_##test_name(_metadata, &self, variant); \
		}								\
		if (ready && !setjmp(_metadata->bail))				\
			fixture_name##_teardown(_metadata, &self, variant);	\
	}									\
	__attribute__((constructor)) static void _add_##fixture_name##_##test_name(void) \
	{									\
		th_add_test(#fixture_name, #test_name, wrapper_##fixture_name##_##test_name, timeout_s); \
	}									\
	static void fixture_name##_##test_name(struct __test_metadata *_metadata __attribute__((unused)), \
		__attribute__((unused)) FIXTURE_DATA(fixture_name) *self,	\
		__attribute__((unused)) const FIXTURE_VARIANT(fixture_name) *variant)
#define TEST_F(fixture_name, test_name) TEST_F_TIMEOUT(fixture_name, test_name, TEST_TIMEOUT_DEFAULT)

#define TEST(test_name)								\
	static TH_NOINLINE void test_name(struct __test_metadata *_metadata);		\
	static void wrapper_##test_name(struct __test_metadata *_metadata)	\
	{									\
		if (!setjmp(_metadata->bail))					\
			test_name(_metadata);					\
	}									\
	__attribute__((constructor)) static void _add_##test_name(void)		\
	{									\
		th_add_test("global", #test_name, wrapper_##test_name, TEST_TIMEOUT_DEFAULT); \
	}									\
	static void test_name(__attribute__((unused)) struct __test_metadata *_metadata)

static inline void th_fail(struct __test_metadata *_metadata, bool fatal)
{
	_metadata->result->failed = true;
	fflush(stdout);
	if (fatal)
		longjmp(_metadata->bail, 1);
}

/* Literals are int and what is tested often is not: that comparison is meant. */
#define TH_COMPARE(fatal, expected, op, seen) do {				\
	__typeof__(expected) exp_ = (expected);					\
	__typeof__(seen) seen_ = (seen);					\
	_Pragma("GCC diagnostic push")						\
	_Pragma("GCC diagnostic ignored \"-Wsign-compare\"")			\
	bool good_ = exp_ op seen_;						\
	_Pragma("GCC diagnostic pop")						\
	if (!good_) {								\
		TH_LOG("Expected %s (%lld) %s %s (%lld)", #expected, (long long)(intmax_t)exp_, #op, #seen, \
		       (long long)(intmax_t)seen_);				\
		th_fail(_metadata, fatal);					\
	}									\
} while (0)

#define TH_TRUE(fatal, seen, wanted) do {					\
	bool seen_ = (seen);							\
	if (seen_ != (wanted)) {						\
		TH_LOG("Expected %s to be %s", #seen, (wanted) ? "true" : "false"); \
		th_fail(_metadata, fatal);					\
	}									\
} while (0)

#define ASSERT_EQ(expected, seen) TH_COMPARE(true, expected, ==, seen)
#define ASSERT_NE(expected, seen) TH_COMPARE(true, expected, !=, seen)
#define ASSERT_LT(expected, seen) TH_COMPARE(true, expected, <, seen)
#define ASSERT_LE(expected, seen) TH_COMPARE(true, expected, <=, seen)
#define ASSERT_GT(expected, seen) TH_COMPARE(true, expected, >, seen)
#define ASSERT_GE(expected, seen) TH_COMPARE(true, expected, >=, seen)
#define ASSERT_TRUE(seen) TH_TRUE(true, seen, true)
#define ASSERT_FALSE(seen) TH_TRUE(true, seen, false)
#define EXPECT_EQ(expected, seen) TH_COMPARE(false, expected, ==, seen)
#define EXPECT_NE(expected, seen) TH_COMPARE(false, expected, !=, seen)
#define EXPECT_LT(expected, seen) TH_COMPARE(false, expected, <, seen)
#define EXPECT_LE(expected, seen) TH_COMPARE(false, expected, <=, seen)
#define EXPECT_GT(expected, seen) TH_COMPARE(false, expected, >, seen)
#define EXPECT_GE(expected, seen) TH_COMPARE(false, expected, >=, seen)
#define EXPECT_TRUE(seen) TH_TRUE(false, seen, true)
#define EXPECT_FALSE(seen) TH_TRUE(false, seen, false)

/* The status of @pid, or of its killing at @timeout; what it has started is killed in any case. */
static inline int th_wait(pid_t pid, unsigned int timeout, bool *late)
{
	struct timespec tick = { .tv_nsec = 20000000 };
	time_t end = time(NULL) + timeout + 1;
	sigset_t chld;
	int status;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	*late = false;
	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (!*late && time(NULL) >= end) {
			*late = true;
			kill(-pid, SIGKILL);
		}
		sigtimedwait(&chld, NULL, &tick);
	}
	kill(-pid, SIGKILL);
	return status;
}

static inline const char *th_full_name(const struct __test_metadata *test, char *buf, size_t len)
{
	if (test->variant_name)
		snprintf(buf, len, "%s.%s.%s", test->fixture, test->variant_name, test->name);
	else
		snprintf(buf, len, "%s.%s", test->fixture, test->name);
	return buf;
}

static inline int th_run_one(struct __test_metadata *test, unsigned int nr)
{
	struct th_result *result = test->result;
	char name[160];
	int status;
	bool late;
	pid_t pid;

	th_full_name(test, name, sizeof(name));
	memset(result, 0, sizeof(*result));
	fflush(stdout);
	pid = fork();
	if (pid < 0) {
		printf("not ok %u %s # fork: %d\n", nr, name, errno);
		return KSFT_FAIL;
	}
	if (!pid) {
		sigset_t none;

		setpgid(0, 0);
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		test->run(test);
		fflush(stdout);
		_exit(KSFT_PASS);
	}
	setpgid(pid, pid);
	status = th_wait(pid, test->timeout, &late);
	if (late)
		printf("# %s: killed after %u s\n", name, test->timeout);
	else if (WIFSIGNALED(status))
		printf("# %s: ended by signal %d\n", name, WTERMSIG(status));
	else if (WEXITSTATUS(status))
		printf("# %s: exited with %d\n", name, WEXITSTATUS(status));
	if (late || status || result->failed) {
		printf("not ok %u %s\n", nr, name);
		return KSFT_FAIL;
	}
	if (result->skipped) {
		printf("ok %u %s # SKIP %s\n", nr, name, result->why);
		return KSFT_SKIP;
	}
	printf("ok %u %s\n", nr, name);
	return KSFT_PASS;
}

static inline bool th_wanted(const struct __test_metadata *test, int argc, char **argv)
{
	char name[160];
	int i;

	th_full_name(test, name, sizeof(name));
	for (i = 1; i < argc; i++)
		if (!strcmp(argv[i], name))
			return true;
	return argc < 2;
}

static inline int test_harness_run(int argc, char **argv)
{
	unsigned int i, nr = 0, failed = 0, skipped = 0;
	struct th_result *result;
	sigset_t chld;
	int ret;

	setvbuf(stdout, NULL, _IOLBF, 0);
	result = mmap(NULL, sizeof(*result), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (result == MAP_FAILED)
		return KSFT_FAIL;
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	for (i = 0; i < th_nr_tests; i++)
		nr += th_wanted(&th_tests[i], argc, argv);
	printf("TAP version 13\n1..%u\n", nr);
	if (!nr)
		return KSFT_FAIL;
	nr = 0;
	for (i = 0; i < th_nr_tests; i++) {
		if (!th_wanted(&th_tests[i], argc, argv))
			continue;
		th_tests[i].result = result;
		ret = th_run_one(&th_tests[i], ++nr);
		failed += ret == KSFT_FAIL;
		skipped += ret == KSFT_SKIP;
	}
	printf("# Totals: pass:%u fail:%u skip:%u\n", nr - failed - skipped, failed, skipped);
	return failed ? KSFT_FAIL : skipped == nr ? KSFT_SKIP : KSFT_PASS;
}

#define TEST_HARNESS_MAIN							\
	int main(int argc, char **argv)						\
	{									\
		return test_harness_run(argc, argv);				\
	}

#endif
