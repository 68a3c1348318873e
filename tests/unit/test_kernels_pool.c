// SPDX-License-Identifier: MIT
/* The compute threads: every item once, nested calls, many callers, fork, sleep, CPU quotas. */
#include "harness.h"
#include <kabi.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include "../../kernels/cpu/cpus.h"

static struct penstock_pool *pool_of(unsigned int nr)
{
	struct penstock_pool *pool;

	ASSERT_EQ(0, penstock_pool_create(nr, PENSTOCK_ISA_REF, 0, &pool));
	return pool;
}

struct count {
	struct penstock_pool *pool;
	atomic_uint seen[5000];
	size_t n;
	atomic_uint small;
	size_t grain;
};

static void count_piece(void *arg, size_t begin, size_t end)
{
	struct count *c = arg;
	size_t i;

	if (end - begin < c->grain && end != c->n)
		atomic_fetch_add(&c->small, 1);
	if (begin % c->grain)
		atomic_fetch_add(&c->small, 1);
	for (i = begin; i < end; i++)
		atomic_fetch_add(&c->seen[i], 1);
}

static void expect_each_once(struct penstock_pool *pool, size_t n, size_t grain)
{
	static struct count c;
	size_t i, wrong = 0;

	memset(&c, 0, sizeof(c));
	c.n = n;
	c.grain = grain;
	penstock_pool_run(pool, n, grain, count_piece, &c);
	for (i = 0; i < 5000; i++)
		wrong += atomic_load(&c.seen[i]) != (i < n);
	EXPECT_EQ(0u, wrong);
	EXPECT_EQ(0u, atomic_load(&c.small));
}

TEST(pool_covers_each_item_once)
{
	static const size_t sizes[] = { 0, 1, 2, 7, 63, 64, 65, 1000, 4999, 5000 };
	static const size_t grains[] = { 1, 3, 16, 64, 6000 };
	unsigned int nr;
	size_t i, j;

	for (nr = 1; nr <= 5; nr++) {
		struct penstock_pool *pool = pool_of(nr);

		EXPECT_EQ(nr, penstock_pool_threads(pool));
		for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
			for (j = 0; j < sizeof(grains) / sizeof(*grains); j++)
				expect_each_once(pool, sizes[i], grains[j]);
		penstock_pool_destroy(pool);
	}
}

TEST(pool_survives_many_small_jobs)
{
	struct penstock_pool *pool = pool_of(3);
	int i;

	for (i = 0; i < 20000; i++)
		expect_each_once(pool, 1 + i % 40, 1);
	penstock_pool_destroy(pool);
}

static void nested_piece(void *arg, size_t begin, size_t end)
{
	struct count *c = arg;

	for (; begin < end; begin++)
		penstock_pool_run(c->pool, 100, 1, count_piece, c);
}

TEST(pool_runs_nested_calls_inline)
{
	static struct count c;
	size_t i;

	c.pool = pool_of(3);
	c.n = 100;
	c.grain = 1;
	penstock_pool_run(c.pool, 50, 1, nested_piece, &c);
	for (i = 0; i < 100; i++)
		EXPECT_EQ(50u, atomic_load(&c.seen[i]));
	penstock_pool_destroy(c.pool);
}

static void *caller(void *arg)
{
	struct count *c = arg;
	int i;

	for (i = 0; i < 300; i++)
		penstock_pool_run(c->pool, 200, 4, count_piece, c);
	return NULL;
}

TEST(pool_serves_several_callers)
{
	static struct count c;
	pthread_t t[4];
	size_t i;

	c.pool = pool_of(3);
	c.n = 200;
	c.grain = 4;
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, pthread_create(&t[i], NULL, caller, &c));
	for (i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	for (i = 0; i < 200; i++)
		EXPECT_EQ(1200u, atomic_load(&c.seen[i]));
	penstock_pool_destroy(c.pool);
}

TEST(pool_computes_in_a_forked_child)
{
	struct penstock_pool *pool = pool_of(3);
	int status;
	pid_t pid;

	expect_each_once(pool, 5000, 1);
	pid = fork();
	if (!pid) {
		expect_each_once(pool, 5000, 1);
		penstock_pool_destroy(pool);
		_exit(test_failed);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	penstock_pool_destroy(pool);
}

TEST(pool_without_work_takes_no_cpu)
{
	struct penstock_pool *pool = pool_of(4);
	struct timespec pause = { .tv_nsec = 300000000 };
	struct rusage a, b;
	long us;

	expect_each_once(pool, 5000, 1);
	getrusage(RUSAGE_SELF, &a);
	nanosleep(&pause, NULL);
	getrusage(RUSAGE_SELF, &b);
	us = (b.ru_utime.tv_sec - a.ru_utime.tv_sec + b.ru_stime.tv_sec - a.ru_stime.tv_sec) * 1000000 +
	     b.ru_utime.tv_usec - a.ru_utime.tv_usec + b.ru_stime.tv_usec - a.ru_stime.tv_usec;
	EXPECT_LT(us, 10000);
	penstock_pool_destroy(pool);
}

TEST(pool_refuses_what_it_does_not_know)
{
	struct penstock_pool *pool;

	EXPECT_EQ(-EINVAL, penstock_pool_create(1, 99, 0, &pool));
	EXPECT_EQ(-EINVAL, penstock_pool_create(1, -1, 0, &pool));
	EXPECT_EQ(-EINVAL, penstock_pool_create(1, PENSTOCK_ISA_REF, 2, &pool));
	EXPECT_EQ(-EINVAL, penstock_pool_create(100000, PENSTOCK_ISA_REF, 0, &pool));
	penstock_pool_destroy(NULL);
}

static void put(const char *dir, const char *name, const char *text)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	ASSERT_TRUE(f);
	fputs(text, f);
	fclose(f);
}

static char *put_dir(char *buf, size_t len, const char *top, const char *name)
{
	snprintf(buf, len, "%s/%s", top, name);
	ASSERT_EQ(0, mkdir(buf, 0700));
	return buf;
}

static void remove_tree(const char *top)
{
	char cmd[300];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", top);
	EXPECT_EQ(0, system(cmd));
}

TEST(cpu_quota_is_the_least_of_the_groups_above)
{
	char top[] = "/var/tmp/penstock-cpus-XXXXXX", a[256], b[256], proc[256];

	ASSERT_TRUE(mkdtemp(top));
	snprintf(proc, sizeof(proc), "%s/proc", top);
	put_dir(a, sizeof(a), top, "a");
	put_dir(b, sizeof(b), a, "b");
	put(top, "proc", "0::/a/b\n");
	EXPECT_EQ(0u, penstock_cpus_quota(proc, top));
	put(b, "cpu.max", "max 100000\n");
	EXPECT_EQ(0u, penstock_cpus_quota(proc, top));
	put(a, "cpu.max", "250000 100000\n");
	EXPECT_EQ(3u, penstock_cpus_quota(proc, top));
	put(b, "cpu.max", "100000 100000\n");
	EXPECT_EQ(1u, penstock_cpus_quota(proc, top));
	put(b, "cpu.max", "800000 100000\n");
	EXPECT_EQ(3u, penstock_cpus_quota(proc, top));
	EXPECT_EQ(0u, penstock_cpus_quota("/nonexistent", top));
	remove_tree(top);
}

TEST(cpu_quota_of_version_one_groups)
{
	char top[] = "/var/tmp/penstock-cpus-XXXXXX", a[256], b[256], proc[256];

	ASSERT_TRUE(mkdtemp(top));
	snprintf(proc, sizeof(proc), "%s/proc", top);
	put_dir(a, sizeof(a), top, "cpu,cpuacct");
	put_dir(b, sizeof(b), a, "job");
	put(top, "proc", "7:memory:/x\n4:cpu,cpuacct:/job\n");
	put(b, "cpu.cfs_quota_us", "-1\n");
	put(b, "cpu.cfs_period_us", "100000\n");
	EXPECT_EQ(0u, penstock_cpus_quota(proc, top));
	put(b, "cpu.cfs_quota_us", "150000\n");
	EXPECT_EQ(2u, penstock_cpus_quota(proc, top));
	remove_tree(top);
}

TEST_HARNESS_MAIN
