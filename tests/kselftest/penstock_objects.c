// SPDX-License-Identifier: GPL-2.0-only
/*
 * Objects of /dev/penstock: ids, limits, lengths and offsets, what a user is
 * charged.
 *
 * What there was before a test is there after it: each counts the objects.
 */
#include <grp.h>
#include <sys/resource.h>
#include "objects_fixture.h"

#define NOBODY 65534

/* ---- ids ---- */

/* What each command says to an id that is no region. */
static void check_no_region(struct __test_metadata *_metadata, int node, uint32_t id)
{
	struct penstock_region_probe probe;
	struct penstock_region_stat stat;

	EXPECT_EQ(-ENOENT, region_free(node, id, 0));
	EXPECT_EQ(-ENOENT, region_free(node, id, PENSTOCK_REGION_FREE_F_WAIT));
	EXPECT_EQ(-ENOENT, region_export(node, id));
	EXPECT_EQ(-ENOENT, region_probe(node, id, id, &probe));
	EXPECT_EQ(-ENOENT, read_one(node, id, id, 0, 0, PAGE));
	/* 0 is the sum of all. */
	if (id)
		EXPECT_EQ(-ENOENT, region_stat(node, id, &stat));
}

TEST_F(objects, wrong_ids)
{
	static const uint32_t ids[] = { 0, 2, 1 << 23, (1 << 24) - 1, 1 << 24, 1U << 31, 0xfffffffe, 0xffffffff };
	struct penstock_region_alloc alloc;
	uint32_t i;

	ASSERT_EQ(0, region_alloc(self->node, PAGE, &alloc));
	EXPECT_EQ(1, alloc.out_region_id);
	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		check_no_region(_metadata, self->node, ids[i]);
		EXPECT_EQ(-ENOENT, target_del(self->node, ids[i]));
	}
	/* A region's id is no target's, and is another open's only by accident. */
	EXPECT_EQ(-ENOENT, target_del(self->node, alloc.out_region_id));
	check_no_region(_metadata, self->other, alloc.out_region_id);
	EXPECT_EQ(0, region_free(self->node, alloc.out_region_id, 0));
	check_no_region(_metadata, self->node, alloc.out_region_id);
}

TEST_F(objects, ids_are_not_soon_given_again)
{
	struct penstock_region_alloc alloc;
	uint32_t i, last = 0;

	for (i = 0; i < 300; i++) {
		ASSERT_EQ(0, region_alloc(self->node, PAGE, &alloc));
		EXPECT_LT(last, alloc.out_region_id);
		last = alloc.out_region_id;
		ASSERT_EQ(0, region_free(self->node, last, i & 1 ? PENSTOCK_REGION_FREE_F_WAIT : 0));
	}
}

TEST_F(objects, two_opens_have_their_own_ids)
{
	struct penstock_region_alloc a, b;

	ASSERT_EQ(0, region_alloc(self->node, PAGE, &a));
	ASSERT_EQ(0, region_alloc(self->other, 2 * PAGE, &b));
	EXPECT_EQ(a.out_region_id, b.out_region_id);
	EXPECT_EQ(0, region_free(self->node, a.out_region_id, 0));
	EXPECT_EQ(0, region_free(self->other, b.out_region_id, 0));
}

static void check_limit_of_regions(struct __test_metadata *_metadata, int node, int other)
{
	struct penstock_region_alloc alloc;
	struct penstock_region_pin pin;
	struct penstock_info info;
	uint32_t ids[3], i;
	char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	EXPECT_EQ(0, info_get(node, &info));
	EXPECT_EQ(3, info.out_max_regions);
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(0, region_alloc(node, PAGE, &alloc));
		ids[i] = alloc.out_region_id;
	}
	EXPECT_EQ(-ENOSPC, region_alloc(node, PAGE, &alloc));
	EXPECT_EQ(-ENOSPC, region_pin(node, to_u64(page), PAGE, &pin));
	/* It is a limit of each open. */
	EXPECT_EQ(0, region_alloc(other, PAGE, &alloc));
	EXPECT_EQ(0, region_free(node, ids[1], 0));
	EXPECT_EQ(0, region_pin(node, to_u64(page), PAGE, &pin));
	EXPECT_EQ(-ENOSPC, region_alloc(node, PAGE, &alloc));
	munmap(page, PAGE);
}

TEST_F(objects, limit_of_regions)
{
	long long limit = file_value(PARAMETER("max_regions"));

	if (limit < 0 || parameter_set(PARAMETER("max_regions"), 3)) {
		SKIP(return, "cannot set max_regions");
	}
	check_limit_of_regions(_metadata, self->node, self->other);
	EXPECT_EQ(0, parameter_set(PARAMETER("max_regions"), limit));
}

TEST_F(objects, limit_of_targets)
{
	long long limit = file_value(PARAMETER("max_targets"));
	struct penstock_target_add add, more;
	int fd = test_file_open(0);

	if (fd < 0) {
		SKIP(return, "no PENSTOCK_TEST_FILE");
	}
	if (limit < 0 || parameter_set(PARAMETER("max_targets"), 2)) {
		SKIP(return, "cannot set max_targets");
	}
	EXPECT_EQ(0, target_add(self->node, fd, &add));
	EXPECT_EQ(0, target_add(self->node, fd, &more));
	EXPECT_NE(add.out_target_id, more.out_target_id);
	EXPECT_EQ(-ENOSPC, target_add(self->node, fd, &more));
	EXPECT_EQ(0, target_add(self->other, fd, &more));
	EXPECT_EQ(0, target_del(self->node, add.out_target_id));
	EXPECT_EQ(-ENOENT, target_del(self->node, add.out_target_id));
	EXPECT_EQ(0, target_add(self->node, fd, &more));
	EXPECT_LT(add.out_target_id, more.out_target_id);
	EXPECT_EQ(0, parameter_set(PARAMETER("max_targets"), limit));
	close(fd);
}

/* ---- lengths, addresses, orders, nodes ---- */

TEST_F(objects, lengths_of_alloc)
{
	struct penstock_region_alloc alloc;
	uint32_t i;

	for (i = 0; i < ARRAY_SIZE(bad_lengths); i++)
		EXPECT_EQ(-EINVAL, region_alloc(self->node, bad_lengths[i], &alloc));
	EXPECT_EQ(-EINVAL, region_alloc(self->node, self->max_region_len + PAGE, &alloc));
	/* More than any machine for this has: it must not drive others out to find that. */
	EXPECT_EQ(-ENOMEM, region_alloc(self->node, self->max_region_len, &alloc));
	for (i = 1; i < 20; i++) {
		EXPECT_EQ(0, region_alloc(self->node, i * PAGE, &alloc));
		EXPECT_LE(1, alloc.out_nr_segments);
		EXPECT_GE(i, alloc.out_nr_segments);
	}
}

TEST_F(objects, orders_of_alloc)
{
	struct penstock_region_alloc alloc = { .size = sizeof(alloc), .length = 1 << 20, .numa_node = -1 };
	static const uint32_t bad[] = { 31, 32, 63, 64, 0x7fffffff, 0x80000000, 0xffffffff };
	uint32_t order;

	for (order = 0; order <= self->max_order; order++) {
		alloc.order = order;
		EXPECT_EQ(0, penstock(self->node, PENSTOCK_IOC_REGION_ALLOC, &alloc));
		EXPECT_LE(1, alloc.out_nr_segments);
		EXPECT_GE((1 << 20) / PAGE, alloc.out_nr_segments);
		EXPECT_EQ(0, region_free(self->node, alloc.out_region_id, 0));
	}
	alloc.order = self->max_order + 1;
	EXPECT_EQ(-EINVAL, penstock(self->node, PENSTOCK_IOC_REGION_ALLOC, &alloc));
	for (order = 0; order < ARRAY_SIZE(bad); order++) {
		alloc.order = bad[order];
		EXPECT_EQ(-EINVAL, penstock(self->node, PENSTOCK_IOC_REGION_ALLOC, &alloc));
	}
}

TEST_F(objects, numa_nodes_of_alloc)
{
	struct penstock_region_alloc alloc = { .size = sizeof(alloc), .length = 8 * PAGE, .order = 3 };
	static const int32_t bad[] = { -2, -1000, 1023, 1024, 1 << 20, INT32_MAX, INT32_MIN };
	uint32_t i;

	EXPECT_EQ(0, penstock(self->node, PENSTOCK_IOC_REGION_ALLOC, &alloc));
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		alloc.numa_node = bad[i];
		EXPECT_EQ(-EINVAL, penstock(self->node, PENSTOCK_IOC_REGION_ALLOC, &alloc));
	}
}

TEST_F(objects, addresses_of_pin)
{
	const size_t len = 16 * PAGE;
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct penstock_region_pin pin;
	uint32_t i;

	ASSERT_TRUE(p != MAP_FAILED);
	for (i = 0; i < ARRAY_SIZE(bad_lengths); i++)
		EXPECT_EQ(-EINVAL, region_pin(self->node, to_u64(p), bad_lengths[i], &pin));
	EXPECT_EQ(-EINVAL, region_pin(self->node, to_u64(p), self->max_region_len + PAGE, &pin));
	EXPECT_EQ(-EINVAL, region_pin(self->node, to_u64(p) + 1, PAGE, &pin));
	EXPECT_EQ(-EINVAL, region_pin(self->node, to_u64(p) + PAGE - 1, PAGE, &pin));
	EXPECT_EQ(-EINVAL, region_pin(self->node, ALL_ONES, PAGE, &pin));
	EXPECT_EQ(-EOVERFLOW, region_pin(self->node, -(uint64_t)PAGE, 2 * PAGE, &pin));
	EXPECT_EQ(-EOVERFLOW, region_pin(self->node, -(uint64_t)PAGE, self->max_region_len, &pin));
	/* Addresses of the kernel's, of nobody's, of more than 32 bits. */
	EXPECT_EQ(-EFAULT, region_pin(self->node, 1ULL << 63, PAGE, &pin));
	EXPECT_EQ(-EFAULT, region_pin(self->node, 0xffff888000000000ULL, PAGE, &pin));
	EXPECT_EQ(-EFAULT, region_pin(self->node, 0, PAGE, &pin));
	EXPECT_EQ(-EFAULT, region_pin(self->node, to_u64(p) + (1ULL << 46), PAGE, &pin));
	/* A hole in the middle: nothing is pinned then. */
	EXPECT_EQ(0, munmap(p + 7 * PAGE, PAGE));
	EXPECT_EQ(-EFAULT, region_pin(self->node, to_u64(p), len, &pin));
	EXPECT_EQ(self->pinned_kib, vm_pin_kib());
	EXPECT_EQ(0, mprotect(p + 8 * PAGE, PAGE, PROT_READ));
	EXPECT_EQ(-EFAULT, region_pin(self->node, to_u64(p) + 8 * PAGE, PAGE, &pin));
	EXPECT_EQ(0, region_pin(self->node, to_u64(p), 7 * PAGE, &pin));
	EXPECT_EQ(self->pinned_kib < 0 ? -1 : self->pinned_kib + 28, vm_pin_kib());
	/* A direction has to be said. */
	pin.flags = 0;
	EXPECT_EQ(-EINVAL, penstock(self->node, PENSTOCK_IOC_REGION_PIN, &pin));
}

TEST_F(objects, pin_of_a_file)
{
	struct penstock_region_pin pin;
	char path[256], *p;
	int fd;

	if (!test_file_beside("penstock-pin", path, sizeof(path))) {
		SKIP(return, "no PENSTOCK_TEST_FILE");
	}
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0) {
		SKIP(return, "no file can be made beside PENSTOCK_TEST_FILE: %d", errno);
	}
	EXPECT_EQ(0, ftruncate(fd, 2 * PAGE));
	p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	EXPECT_TRUE(p != MAP_FAILED);
	EXPECT_EQ(-EFAULT, region_pin(self->node, to_u64(p), 2 * PAGE, &pin));
	memset(p, 1, 2 * PAGE);
	EXPECT_EQ(-EFAULT, region_pin(self->node, to_u64(p), 2 * PAGE, &pin));
	munmap(p, 2 * PAGE);
	/* A private mapping is the process's own memory once it is written. */
	p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	EXPECT_TRUE(p != MAP_FAILED);
	EXPECT_EQ(0, region_pin(self->node, to_u64(p), 2 * PAGE, &pin));
	munmap(p, 2 * PAGE);
	close(fd);
	unlink(path);
}

/* ---- what a user is charged ---- */

static void check_memlock(struct __test_metadata *_metadata, int node, int other)
{
	struct penstock_region_alloc alloc, small;
	struct penstock_region_pin pin;
	long long before = vm_pin_kib();
	char *p = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int i, fd;

	/* Twice: all that was charged comes back. */
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(-ENOMEM, region_alloc(node, 9 * PAGE, &alloc));
		EXPECT_EQ(-ENOMEM, region_pin(node, to_u64(p), 9 * PAGE, &pin));
		EXPECT_EQ(before, vm_pin_kib());
		EXPECT_EQ(0, region_alloc(node, 8 * PAGE, &alloc));
		EXPECT_EQ(before + 32, vm_pin_kib());
		EXPECT_EQ(-ENOMEM, region_alloc(node, PAGE, &small));
		EXPECT_EQ(-ENOMEM, region_pin(node, to_u64(p), PAGE, &pin));
		EXPECT_EQ(0, region_free(node, alloc.out_region_id, PENSTOCK_REGION_FREE_F_WAIT));
		EXPECT_EQ(before, vm_pin_kib());

		EXPECT_EQ(0, region_pin(node, to_u64(p), 8 * PAGE, &pin));
		EXPECT_EQ(before + 32, vm_pin_kib());
		EXPECT_EQ(-ENOMEM, region_alloc(other, PAGE, &small));
		EXPECT_EQ(0, region_free(node, pin.out_region_id, PENSTOCK_REGION_FREE_F_WAIT));

		/* The sum counts, over opens and kinds. */
		EXPECT_EQ(0, region_alloc(node, 5 * PAGE, &alloc));
		EXPECT_EQ(-ENOMEM, region_pin(other, to_u64(p), 4 * PAGE, &pin));
		EXPECT_EQ(0, region_pin(other, to_u64(p), 3 * PAGE, &pin));
		EXPECT_EQ(-ENOMEM, region_alloc(node, PAGE, &small));
		EXPECT_EQ(0, region_free(other, pin.out_region_id, PENSTOCK_REGION_FREE_F_WAIT));

		/* A dma-buf keeps memory and charge. */
		fd = region_export(node, alloc.out_region_id);
		EXPECT_LE(0, fd);
		EXPECT_EQ(0, region_free(node, alloc.out_region_id, PENSTOCK_REGION_FREE_F_WAIT));
		EXPECT_EQ(-ENOMEM, region_alloc(node, 4 * PAGE, &small));
		close(fd);
		EXPECT_EQ(before, vm_pin_kib());
	}
	munmap(p, 16 * PAGE);
}

/* In a process of its own, since there is no way back from it. */
static void become_nobody(struct __test_metadata *_metadata)
{
	struct rlimit limit = { .rlim_cur = 8 * PAGE, .rlim_max = 8 * PAGE };

	EXPECT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	EXPECT_EQ(0, setgroups(0, NULL));
	EXPECT_EQ(0, setresgid(NOBODY, NOBODY, NOBODY));
	EXPECT_EQ(0, setresuid(NOBODY, NOBODY, NOBODY));
}

TEST_F(objects, memlock)
{
	struct penstock_region_alloc alloc;
	pid_t pid;

	if (geteuid()) {
		SKIP(return, "needs root");
	}
	pid = fork();
	ASSERT_LE(0, pid);
	if (pid == 0) {
		int node = node_open(O_CLOEXEC), other = node_open(O_CLOEXEC);

		become_nobody(_metadata);
		check_memlock(_metadata, node, other);
		/* What the end of the process frees is given back, too. */
		EXPECT_EQ(0, region_alloc(node, 8 * PAGE, &alloc));
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(pid, NULL));
	pid = fork();
	ASSERT_LE(0, pid);
	if (pid == 0) {
		int node = node_open(O_CLOEXEC), i;

		become_nobody(_metadata);
		/* The end of the process before is not waited for by those who wait for the process. */
		for (i = 0; i < 500 && region_alloc(node, 8 * PAGE, &alloc); i++)
			usleep(10000);
		EXPECT_GT(500, i);
		EXPECT_EQ(-ENOMEM, region_alloc(node, PAGE, &alloc));
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(pid, NULL));
}

/* CAP_IPC_LOCK lifts the limit; what is pinned is told all the same. */
TEST_F(objects, memlock_does_not_bind_root)
{
	struct rlimit limit = { .rlim_cur = 0, .rlim_max = 0 };
	struct penstock_region_alloc alloc;

	if (geteuid()) {
		SKIP(return, "needs root");
	}
	EXPECT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	EXPECT_EQ(0, region_alloc(self->node, 1 << 20, &alloc));
	EXPECT_EQ(self->pinned_kib + 1024, vm_pin_kib());
	EXPECT_EQ(0, region_free(self->node, alloc.out_region_id, PENSTOCK_REGION_FREE_F_WAIT));
}

TEST_HARNESS_MAIN
