/* SPDX-License-Identifier: MIT */
/*
 * The test harness: kselftest's macro names, TAP output, one process a test.
 *
 *   TEST(plan_merges_adjacent_reads) { EXPECT_EQ(1, nr); }
 *   TEST_HARNESS_MAIN
 *
 * ASSERT_* ends the test, EXPECT_* goes on. SKIP("why") leaves a test. Each test
 * runs in a child with a timeout of TEST_TIMEOUT seconds (30). Arguments name
 * the tests to run. Exit: 0 good, 1 failed, 4 all skipped.
 */
#ifndef PENSTOCK_TESTS_HARNESS_H
#define PENSTOCK_TESTS_HARNESS_H

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef TEST_TIMEOUT
#ifdef __SANITIZE_THREAD__
#define TEST_TIMEOUT 180	/* ThreadSanitizer is that much slower */
#else
#define TEST_TIMEOUT 30
#endif
#endif

#define TEST_MAX 256

struct test_case {
	const char *name;
	void (*fn)(void);
};

static struct test_case test_cases[TEST_MAX];
static int test_nr;
static int test_failed __attribute__((unused));

#define TEST(tname)							\
	static void test_fn_##tname(void);				\
	__attribute__((constructor)) static void test_reg_##tname(void)	\
	{								\
		if (test_nr < TEST_MAX)					\
			test_cases[test_nr++] = (struct test_case){ #tname, test_fn_##tname }; \
	}								\
	static void test_fn_##tname(void)

#define TEST_FAIL_(fatal, ...) do {					\
	printf("# %s:%d: ", __FILE__, __LINE__);			\
	printf(__VA_ARGS__);						\
	printf("\n");							\
	test_failed = 1;						\
	if (fatal) {							\
		fflush(stdout);						\
		_exit(1);						\
	}								\
} while (0)

/* Literals are int and what is tested often is not: that comparison is meant. */
#define TEST_CMP_(fatal, exp, seen, op) do {				\
	__typeof__(exp) exp_ = (exp);					\
	__typeof__(seen) seen_ = (seen);				\
	_Pragma("GCC diagnostic push")					\
	_Pragma("GCC diagnostic ignored \"-Wsign-compare\"")		\
	bool good_ = exp_ op seen_;					\
	_Pragma("GCC diagnostic pop")					\
	if (!good_)							\
		TEST_FAIL_(fatal, "%s %s %s: %lld, %lld", #exp, #op, #seen, \
			   (long long)exp_, (long long)seen_);		\
} while (0)

#define EXPECT_EQ(exp, seen) TEST_CMP_(0, exp, seen, ==)
#define EXPECT_NE(exp, seen) TEST_CMP_(0, exp, seen, !=)
#define EXPECT_LE(exp, seen) TEST_CMP_(0, exp, seen, <=)
#define EXPECT_LT(exp, seen) TEST_CMP_(0, exp, seen, <)
#define EXPECT_GE(exp, seen) TEST_CMP_(0, exp, seen, >=)
#define EXPECT_GT(exp, seen) TEST_CMP_(0, exp, seen, >)
#define ASSERT_EQ(exp, seen) TEST_CMP_(1, exp, seen, ==)
#define ASSERT_NE(exp, seen) TEST_CMP_(1, exp, seen, !=)
#define ASSERT_LE(exp, seen) TEST_CMP_(1, exp, seen, <=)
#define ASSERT_GE(exp, seen) TEST_CMP_(1, exp, seen, >=)
#define ASSERT_GT(exp, seen) TEST_CMP_(1, exp, seen, >)
#define EXPECT_TRUE(c) do { if (!(c)) TEST_FAIL_(0, "not true: %s", #c); } while (0)
#define EXPECT_FALSE(c) do { if (c) TEST_FAIL_(0, "not false: %s", #c); } while (0)
#define ASSERT_TRUE(c) do { if (!(c)) TEST_FAIL_(1, "not true: %s", #c); } while (0)
#define ASSERT_FALSE(c) do { if (c) TEST_FAIL_(1, "not false: %s", #c); } while (0)
#define EXPECT_STREQ(a, b) do {						\
	const char *a_ = (a), *b_ = (b);				\
	if (strcmp(a_, b_))						\
		TEST_FAIL_(0, "\"%s\" is not \"%s\"", b_, a_);		\
} while (0)
/* @text holds @part */
#define EXPECT_HAS(text, part) do {					\
	const char *t_ = (text);					\
	if (!strstr(t_, (part)))					\
		TEST_FAIL_(0, "\"%s\" does not say \"%s\"", t_, (part));	\
} while (0)
#define SKIP(...) do {							\
	printf("#SKIP ");						\
	printf(__VA_ARGS__);						\
	printf("\n");							\
	fflush(stdout);							\
	_exit(4);							\
} while (0)

static int test_run_one(const struct test_case *t, int nr)
{
	int status, rc;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		return 1;
	if (!pid) {
		alarm(TEST_TIMEOUT);
		t->fn();
		fflush(stdout);
		/* exit, not _exit: LeakSanitizer looks at exit */
		exit(test_failed ? 1 : 0);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status)) {
		printf("# %s by signal %d\n", WTERMSIG(status) == SIGALRM ? "timed out, ended" : "ended",
		       WTERMSIG(status));
		rc = 1;
	} else {
		rc = WEXITSTATUS(status);
	}
	printf("%s %d %s%s\n", rc == 0 || rc == 4 ? "ok" : "not ok", nr, t->name, rc == 4 ? " # SKIP" : "");
	return rc;
}

static int test_wanted(const char *name, int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++)
		if (!strcmp(argv[i], name))
			return 1;
	return argc < 2;
}

__attribute__((unused)) static int test_main(int argc, char **argv)
{
	int i, rc, nr = 0, failed = 0, skipped = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("TAP version 13\n");
	for (i = 0; i < test_nr; i++) {
		if (!test_wanted(test_cases[i].name, argc, argv))
			continue;
		rc = test_run_one(&test_cases[i], ++nr);
		if (rc == 4)
			skipped++;
		else if (rc)
			failed++;
	}
	printf("1..%d\n", nr);
	if (failed || !nr)
		return 1;
	return skipped == nr ? 4 : 0;
}

#define TEST_HARNESS_MAIN int main(int argc, char **argv) { return test_main(argc, argv); }

#endif
