// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mappings of regions: what is refused, what they hold, when they end.
 *
 * Each kind of memory that can be mapped is a variant; the rules are the same.
 */
#include <sys/sysmacros.h>
#include "penstock_util.h"
#include "kselftest_harness.h"

#define NR_PAGES 8
#define LEN (NR_PAGES * PAGE)

FIXTURE(mapping) {
	int node, other, dmabuf;
	uint32_t id;
	uint64_t offset;
	bool counted;
	struct objects before;
};

enum kind { HOST, BAR, IMPORTED };

FIXTURE_VARIANT(mapping) {
	enum kind kind;
};
FIXTURE_VARIANT_ADD(mapping, host) { .kind = HOST };
FIXTURE_VARIANT_ADD(mapping, bar) { .kind = BAR };
FIXTURE_VARIANT_ADD(mapping, imported) { .kind = IMPORTED };

static void make_bar(struct __test_metadata *_metadata, FIXTURE_DATA(mapping) *self)
{
	struct penstock_peer_enum peer;
	struct penstock_region_peer bar;

	if (peer_first(self->node, &peer) || !(peer.out_flags & PENSTOCK_PEER_F_MAPPABLE)) {
		SKIP(return, "no peer that can be mapped");
	}
	ASSERT_EQ(0, region_bar(self->node, peer.out_peer_id, LEN, &bar));
	self->id = bar.out_region_id;
	self->offset = bar.out_mmap_offset;
}

static void make_imported(struct __test_metadata *_metadata, FIXTURE_DATA(mapping) *self)
{
	struct penstock_region_alloc alloc;
	struct penstock_region_peer peer;

	ASSERT_EQ(0, region_alloc(self->other, LEN + 4 * PAGE, &alloc));
	self->dmabuf = region_export(self->other, alloc.out_region_id);
	ASSERT_LE(0, self->dmabuf);
	ASSERT_EQ(0, region_import(self->node, self->dmabuf, 3 * PAGE, LEN, &peer));
	self->id = peer.out_region_id;
	self->offset = peer.out_mmap_offset;
}

FIXTURE_SETUP(mapping)
{
	struct penstock_region_alloc alloc;

	self->dmabuf = -1;
	self->counted = objects_get(&self->before);
	self->node = node_open(O_CLOEXEC);
	if (self->node == -ENOENT) {
		SKIP(return, "no %s", node_path());
	}
	ASSERT_LE(0, self->node);
	self->other = node_open(O_CLOEXEC);
	ASSERT_LE(0, self->other);
	switch (variant->kind) {
	case HOST:
		ASSERT_EQ(0, region_alloc(self->node, LEN, &alloc));
		self->id = alloc.out_region_id;
		self->offset = alloc.out_mmap_offset;
		break;
	case BAR:
		make_bar(_metadata, self);
		break;
	case IMPORTED:
		make_imported(_metadata, self);
		break;
	}
}

FIXTURE_TEARDOWN(mapping)
{
	close(self->dmabuf);
	close(self->other);
	close(self->node);
	if (self->counted)
		EXPECT_TRUE(objects_settle(&self->before, 10));
}

static char *map(FIXTURE_DATA(mapping) *self, uint64_t offset, size_t len)
{
	return region_map(self->node, self->offset, offset, len);
}

/* errno of an mmap() that is to fail, 0 when it did not. */
static int map_error(int node, size_t len, int prot, int flags, uint64_t offset)
{
	void *p = mmap(NULL, len, prot, flags, node, (off_t)offset);

	if (p == MAP_FAILED)
		return errno;
	munmap(p, len);
	return 0;
}

TEST_F(mapping, what_is_refused)
{
	const int rw = PROT_READ | PROT_WRITE;
	const uint64_t o = self->offset;
	int node = self->node;

	EXPECT_EQ(EINVAL, map_error(node, LEN, rw, MAP_PRIVATE, o));
	EXPECT_EQ(EINVAL, map_error(node, LEN, PROT_READ, MAP_PRIVATE, o));
	EXPECT_EQ(EINVAL, map_error(node, LEN, rw | PROT_EXEC, MAP_SHARED, o));
	EXPECT_EQ(EINVAL, map_error(node, LEN, PROT_EXEC, MAP_SHARED, o));
	/* Beyond the end, by length, by offset, by both. */
	EXPECT_EQ(EINVAL, map_error(node, LEN + 1, rw, MAP_SHARED, o));
	EXPECT_EQ(EINVAL, map_error(node, LEN + PAGE, rw, MAP_SHARED, o));
	EXPECT_EQ(EINVAL, map_error(node, LEN, rw, MAP_SHARED, o + PAGE));
	EXPECT_EQ(EINVAL, map_error(node, PAGE, rw, MAP_SHARED, o + LEN));
	EXPECT_EQ(EINVAL, map_error(node, 2 * PAGE, rw, MAP_SHARED, o + LEN - PAGE));
	EXPECT_EQ(EINVAL, map_error(node, PAGE, rw, MAP_SHARED, o + (1ULL << 37)));
	/* Not at a page. */
	EXPECT_EQ(EINVAL, map_error(node, PAGE, rw, MAP_SHARED, o + 1));
	EXPECT_EQ(EINVAL, map_error(node, PAGE, rw, MAP_SHARED, o + PAGE / 2));
	/* Offsets of nothing. */
	EXPECT_EQ(ENOENT, map_error(node, PAGE, rw, MAP_SHARED, 0));
	EXPECT_EQ(ENOENT, map_error(node, PAGE, rw, MAP_SHARED, 2 * o));
	EXPECT_EQ(ENOENT, map_error(self->other, PAGE, rw, MAP_SHARED, 5 * o));
	if (sizeof(long) == 8) {
		EXPECT_EQ(ENOENT, map_error(node, PAGE, rw, MAP_SHARED, 1ULL << 62));
		EXPECT_NE(0, map_error(node, PAGE, rw, MAP_SHARED, 1ULL << 63));
		EXPECT_NE(0, map_error(node, PAGE, rw, MAP_SHARED, -(uint64_t)PAGE));
	}
	EXPECT_EQ(0, map_error(node, LEN, rw, MAP_SHARED, o));
	EXPECT_EQ(0, map_error(node, LEN - 1, rw, MAP_SHARED, o));
}

TEST_F(mapping, memory_of_a_user_cannot_be_mapped)
{
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct penstock_region_pin pin;

	ASSERT_TRUE(p != MAP_FAILED);
	ASSERT_EQ(0, region_pin(self->node, to_u64(p), PAGE, &pin));
	/* Its offset would be where that of the region after it would be. */
	EXPECT_EQ(EOPNOTSUPP, map_error(self->node, PAGE, PROT_READ, MAP_SHARED,
					self->offset / self->id * pin.out_region_id));
}

TEST_F(mapping, descriptor_decides_who_may_write)
{
	int node = open(node_path(), O_RDONLY | O_CLOEXEC);
	struct penstock_region_alloc alloc;
	void *p;

	ASSERT_LE(0, node);
	ASSERT_EQ(0, region_alloc(node, PAGE, &alloc));
	EXPECT_EQ(EACCES, map_error(node, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, alloc.out_mmap_offset));
	p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, node, (off_t)alloc.out_mmap_offset);
	ASSERT_TRUE(p != MAP_FAILED);
	EXPECT_EQ(-1, mprotect(p, PAGE, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	munmap(p, PAGE);
	close(node);
}

TEST_F(mapping, shows_zeros_first_and_what_is_written_then)
{
	volatile uint32_t *p = (void *)map(self, 0, LEN), *part;
	size_t i;

	ASSERT_TRUE(p != MAP_FAILED);
	for (i = 0; i < LEN / 4; i++) {
		if (p[i]) {
			TH_LOG("%#x at %zu", p[i], i * 4);
			th_fail(_metadata, true);
		}
	}
	for (i = 0; i < LEN / 4; i++)
		p[i] = (uint32_t)i * 2654435761U;
	/* A second mapping of a part, from the middle of a table's range. */
	part = (void *)map(self, 3 * PAGE, 2 * PAGE);
	ASSERT_TRUE(part != MAP_FAILED);
	for (i = 0; i < 2 * PAGE / 4; i++)
		EXPECT_EQ((uint32_t)(i + 3 * PAGE / 4) * 2654435761U, part[i]);
	munmap((void *)part, 2 * PAGE);
	/* Taken away and looked at again. */
	EXPECT_EQ(0, madvise((void *)p, LEN, MADV_DONTNEED));
	for (i = 0; i < LEN / 4; i += 97)
		EXPECT_EQ((uint32_t)i * 2654435761U, p[i]);
	munmap((void *)p, LEN);
}

TEST_F(mapping, memory_is_zeroed_for_its_next_owner)
{
	struct penstock_region_alloc alloc;
	int round;

	if (variant->kind != HOST) {
		SKIP(return, "others are tested with the peer");
	}
	for (round = 0; round < 20; round++) {
		volatile char *p;
		size_t i;

		ASSERT_EQ(0, region_alloc(self->node, LEN, &alloc));
		p = region_map(self->node, alloc.out_mmap_offset, 0, LEN);
		ASSERT_TRUE(p != MAP_FAILED);
		for (i = 0; i < LEN; i++)
			ASSERT_EQ(0, p[i]);
		memset((void *)p, 0xee, LEN);
		munmap((void *)p, LEN);
		ASSERT_EQ(0, region_free(self->node, alloc.out_region_id, PENSTOCK_REGION_FREE_F_WAIT));
	}
}

TEST_F(mapping, bar_is_cleared_for_its_next_owner)
{
	struct penstock_peer_enum peer;
	struct penstock_region_peer bar;
	int round;

	if (variant->kind != BAR) {
		SKIP(return, "not a BAR");
	}
	ASSERT_EQ(0, peer_first(self->node, &peer));
	for (round = 0; round < 4; round++) {
		volatile uint32_t *p;
		size_t i;

		ASSERT_EQ(0, region_bar(self->other, peer.out_peer_id, LEN, &bar));
		p = region_map(self->other, bar.out_mmap_offset, 0, LEN);
		ASSERT_TRUE(p != MAP_FAILED);
		for (i = 0; i < LEN / 4; i++)
			ASSERT_EQ(0, p[i]);
		for (i = 0; i < LEN / 4; i++)
			p[i] = 0xeeeeeeee;
		munmap((void *)p, LEN);
		ASSERT_EQ(0, region_free(self->other, bar.out_region_id, PENSTOCK_REGION_FREE_F_WAIT));
	}
}

TEST_F(mapping, may_shrink_split_and_move_but_not_grow)
{
	char *p = map(self, 0, LEN), *q, *to;
	int i;

	ASSERT_TRUE(p != MAP_FAILED);
	for (i = 0; i < NR_PAGES; i++)
		p[i * PAGE] = (char)(i + 1);
	EXPECT_TRUE(mremap(p, LEN, LEN + PAGE, MREMAP_MAYMOVE) == MAP_FAILED);
	EXPECT_EQ(EFAULT, errno);
	EXPECT_TRUE(mremap(p, LEN, 16 * LEN, MREMAP_MAYMOVE) == MAP_FAILED);
	/* An old length of zero would double it. */
	EXPECT_TRUE(mremap(p, 0, LEN + PAGE, MREMAP_MAYMOVE) == MAP_FAILED);

	to = mmap(NULL, LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	q = mremap(p, LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	ASSERT_TRUE(q == to);
	EXPECT_EQ(SIGSEGV, touch_signal(p));
	for (i = 0; i < NR_PAGES; i++)
		EXPECT_EQ(i + 1, q[i * PAGE]);
	EXPECT_TRUE(mremap(q, LEN, LEN - 2 * PAGE, 0) == q);
	EXPECT_EQ(SIGSEGV, touch_signal(q + LEN - PAGE));
	/* A hole: two mappings, and each still knows its place. */
	EXPECT_EQ(0, munmap(q + 2 * PAGE, PAGE));
	EXPECT_EQ(SIGSEGV, touch_signal(q + 2 * PAGE));
	EXPECT_EQ(0, madvise(q, 2 * PAGE, MADV_DONTNEED));
	EXPECT_EQ(0, madvise(q + 3 * PAGE, 3 * PAGE, MADV_DONTNEED));
	EXPECT_EQ(2, q[PAGE]);
	EXPECT_EQ(4, q[3 * PAGE]);
	EXPECT_EQ(6, q[5 * PAGE]);
	/* All of them end with the region. */
	EXPECT_EQ(0, region_free(self->node, self->id, PENSTOCK_REGION_FREE_F_WAIT));
	EXPECT_EQ(SIGBUS, touch_signal(q));
	EXPECT_EQ(SIGBUS, touch_signal(q + 5 * PAGE));
	munmap(q, LEN);
}

TEST_F(mapping, protection_changes_but_never_to_exec)
{
	char *p = map(self, 0, LEN);

	ASSERT_TRUE(p != MAP_FAILED);
	p[0] = 1;
	EXPECT_EQ(-1, mprotect(p, LEN, PROT_READ | PROT_EXEC));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(0, mprotect(p, LEN, PROT_NONE));
	EXPECT_EQ(SIGSEGV, touch_signal(p));
	EXPECT_EQ(0, mprotect(p, PAGE, PROT_READ));
	EXPECT_EQ(1, p[0]);
	EXPECT_EQ(0, mprotect(p, LEN, PROT_READ | PROT_WRITE));
	p[LEN - 1] = 1;
	munmap(p, LEN);
}

TEST_F(mapping, child_does_not_have_it)
{
	char *p = map(self, 0, LEN);
	pid_t pid;

	ASSERT_TRUE(p != MAP_FAILED);
	p[0] = 1;
	pid = fork();
	ASSERT_LE(0, pid);
	if (pid == 0)
		_exit(touch_signal(p));
	EXPECT_EQ(SIGSEGV, child_wait(pid, NULL));
	munmap(p, LEN);
}

/* A process may want it in its children. They lose it with all others. */
TEST_F(mapping, child_that_has_it_loses_it_too)
{
	char *p = map(self, 0, LEN);
	int to_child[2], to_parent[2], status;
	char c;
	pid_t pid;

	ASSERT_TRUE(p != MAP_FAILED);
	memset(p, 5, LEN);
	if (madvise(p, LEN, MADV_DOFORK)) {
		SKIP(return, "the kernel refuses MADV_DOFORK");
	}
	ASSERT_EQ(0, pipe(to_child));
	ASSERT_EQ(0, pipe(to_parent));
	pid = fork();
	ASSERT_LE(0, pid);
	if (pid == 0) {
		status = touch_signal(p) || p[LEN - 1] != 5;
		if (write(to_parent[1], "x", 1) != 1 || read(to_child[0], &c, 1) != 1)
			_exit(100);
		_exit(status ? 101 : touch_signal(p));
	}
	EXPECT_EQ(1, read(to_parent[0], &c, 1));
	EXPECT_EQ(0, region_free(self->node, self->id, PENSTOCK_REGION_FREE_F_WAIT));
	EXPECT_EQ(1, write(to_child[1], "x", 1));
	EXPECT_EQ(SIGBUS, child_wait(pid, NULL));
	EXPECT_EQ(SIGBUS, touch_signal(p));
	munmap(p, LEN);
}

/* Pages that were touched and pages that were not; whether anybody waited or not. */
TEST_F(mapping, free_takes_it_away)
{
	char *p = map(self, 0, LEN), *q = map(self, 4 * PAGE, PAGE);
	int i;

	ASSERT_TRUE(p != MAP_FAILED && q != MAP_FAILED);
	p[PAGE] = 1;
	EXPECT_EQ(0, region_free(self->node, self->id, 0));
	for (i = 0; i < NR_PAGES; i++)
		EXPECT_EQ(SIGBUS, touch_signal(p + i * PAGE));
	EXPECT_EQ(SIGBUS, touch_signal(q));
	EXPECT_EQ(ENOENT, map_error(self->node, PAGE, PROT_READ, MAP_SHARED, self->offset));
	munmap(p, LEN);
	munmap(q, PAGE);
}

TEST_F(mapping, free_leaves_other_regions_alone)
{
	struct penstock_region_alloc a, b, c;
	volatile char *p, *q, *r, *mine;

	mine = map(self, 0, LEN);
	ASSERT_EQ(0, region_alloc(self->node, LEN, &a));
	ASSERT_EQ(0, region_alloc(self->node, LEN, &b));
	/* The other open has regions of the same ids. */
	do {
		ASSERT_EQ(0, region_alloc(self->other, LEN, &c));
	} while (c.out_region_id < a.out_region_id);
	p = region_map(self->node, a.out_mmap_offset, 0, LEN);
	q = region_map(self->node, b.out_mmap_offset, 0, LEN);
	r = region_map(self->other, c.out_mmap_offset, 0, LEN);
	ASSERT_TRUE(mine != MAP_FAILED && p != MAP_FAILED && q != MAP_FAILED && r != MAP_FAILED);
	mine[5] = 4;
	p[5] = 1;
	q[5] = 2;
	r[5] = 3;
	EXPECT_EQ(0, region_free(self->node, a.out_region_id, PENSTOCK_REGION_FREE_F_WAIT));
	EXPECT_EQ(SIGBUS, touch_signal(p));
	EXPECT_EQ(4, mine[5]);
	EXPECT_EQ(2, q[5]);
	EXPECT_EQ(3, r[5]);
	munmap((void *)mine, LEN);
	munmap((void *)p, LEN);
	munmap((void *)q, LEN);
	munmap((void *)r, LEN);
}

/* A mapping keeps the open. */
TEST_F(mapping, outlives_the_descriptor)
{
	char *p = map(self, 0, LEN);

	ASSERT_TRUE(p != MAP_FAILED);
	p[0] = 9;
	close(self->node);
	self->node = -1;
	EXPECT_EQ(9, p[0]);
	EXPECT_EQ(0, touch_signal(p + LEN - 1));
	munmap(p, LEN);
}

/* A second node for the device is another inode: its mappings are the open's all the same. */
TEST_F(mapping, second_node)
{
	char path[] = "/tmp/penstock-node-XXXXXX";
	struct penstock_region_alloc alloc;
	struct stat st;
	int node;
	char *p, *mine = map(self, 0, LEN);

	ASSERT_TRUE(mine != MAP_FAILED && mkdtemp(path));
	ASSERT_EQ(0, fstat(self->node, &st));
	ASSERT_EQ(0, rmdir(path));
	if (mknod(path, S_IFCHR | 0600, st.st_rdev)) {
		SKIP(return, "mknod: %d", errno);
	}
	node = open(path, O_RDWR | O_CLOEXEC);
	unlink(path);
	if (node < 0) {
		SKIP(return, "no devices in /tmp");
	}
	ASSERT_EQ(0, region_alloc(node, LEN, &alloc));
	p = region_map(node, alloc.out_mmap_offset, 0, LEN);
	ASSERT_TRUE(p != MAP_FAILED);
	p[0] = 1;
	mine[0] = 2;
	EXPECT_EQ(0, region_free(node, alloc.out_region_id, PENSTOCK_REGION_FREE_F_WAIT));
	EXPECT_EQ(SIGBUS, touch_signal(p));
	EXPECT_EQ(2, mine[0]);
	munmap(p, LEN);
	munmap(mine, LEN);
	close(node);
}

TEST_F(mapping, dmabuf_has_the_same_rules)
{
	const int rw = PROT_READ | PROT_WRITE;
	char *p, *q;
	int fd;

	if (variant->kind == IMPORTED) {
		SKIP(return, "a part of a dma-buf is not exported");
	}
	fd = region_export(self->node, self->id);
	ASSERT_LE(0, fd);
	EXPECT_EQ(EINVAL, map_error(fd, LEN, rw, MAP_PRIVATE, 0));
	EXPECT_EQ(EINVAL, map_error(fd, LEN, rw | PROT_EXEC, MAP_SHARED, 0));
	EXPECT_EQ(EINVAL, map_error(fd, LEN + PAGE, rw, MAP_SHARED, 0));
	EXPECT_EQ(EINVAL, map_error(fd, PAGE, rw, MAP_SHARED, LEN));
	p = map(self, 0, LEN);
	q = mmap(NULL, 2 * PAGE, rw, MAP_SHARED, fd, PAGE);
	ASSERT_TRUE(p != MAP_FAILED && q != MAP_FAILED);
	p[2 * PAGE] = 42;
	EXPECT_EQ(42, q[PAGE]);
	close(fd);
	/* The region's mappings end with it, the dma-buf's with the memory. */
	EXPECT_EQ(0, region_free(self->node, self->id, PENSTOCK_REGION_FREE_F_WAIT));
	EXPECT_EQ(SIGBUS, touch_signal(p));
	EXPECT_EQ(42, q[PAGE]);
	EXPECT_EQ(0, madvise(q, 2 * PAGE, MADV_DONTNEED));
	EXPECT_EQ(42, q[PAGE]);
	munmap(p, LEN);
	munmap(q, 2 * PAGE);
}

TEST_HARNESS_MAIN
