// SPDX-License-Identifier: GPL-2.0-only
/*
 * Regions that are not made of host memory: ranges of a BAR, dma-bufs, what is
 * refused; and events.
 */
#include <poll.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <linux/userfaultfd.h>
#include "objects_fixture.h"

TEST_F(objects, kinds_of_peer_regions)
{
	static const uint32_t bad[] = { 0, 4, 5, 0x80000000, 0xffffffff };
	struct penstock_region_peer peer;
	struct penstock_info info;
	uint32_t i;

	ASSERT_EQ(0, info_get(self->node, &info));
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		peer = (struct penstock_region_peer) {
			.size = sizeof(peer), .kind = bad[i], .length = PAGE, .fd = -1 };
		EXPECT_EQ(-EINVAL, penstock(self->node, PENSTOCK_IOC_REGION_PEER, &peer));
	}
	for (i = 0; i < ARRAY_SIZE(bad_lengths); i++) {
		EXPECT_EQ(-EINVAL, region_bar(self->node, 1, bad_lengths[i], &peer));
		EXPECT_EQ(-EINVAL, region_import(self->node, 0, 0, bad_lengths[i], &peer));
	}
	/* No peer has such an id. */
	EXPECT_EQ(info.out_peer_reason ? -EOPNOTSUPP : -ENOENT, region_bar(self->node, 0, PAGE, &peer));
	EXPECT_EQ(info.out_peer_reason, peer.out_reason);
	EXPECT_EQ(info.out_peer_reason ? -EOPNOTSUPP : -ENOENT, region_bar(self->node, UINT32_MAX, PAGE, &peer));
	EXPECT_EQ(info.out_peer_reason, peer.out_reason);

	/* Fields of other kinds. */
	peer = (struct penstock_region_peer) { .size = sizeof(peer), .kind = PENSTOCK_PEER_BAR, .peer_id = 1,
		.addr = 1 << 16, .length = PAGE, .fd = -1 };
	EXPECT_EQ(-EINVAL, penstock(self->node, PENSTOCK_IOC_REGION_PEER, &peer));
	peer = (struct penstock_region_peer) { .size = sizeof(peer), .kind = PENSTOCK_PEER_BAR, .peer_id = 1,
		.offset = PAGE, .length = PAGE, .fd = -1 };
	EXPECT_EQ(-EINVAL, penstock(self->node, PENSTOCK_IOC_REGION_PEER, &peer));
	peer = (struct penstock_region_peer) { .size = sizeof(peer), .kind = PENSTOCK_PEER_BAR, .peer_id = 1,
		.length = PAGE, .fd = self->node };
	EXPECT_EQ(-EINVAL, penstock(self->node, PENSTOCK_IOC_REGION_PEER, &peer));
	peer = (struct penstock_region_peer) { .size = sizeof(peer), .kind = PENSTOCK_PEER_NVIDIA, .peer_id = 1,
		.addr = 1 << 16, .length = 1 << 16, .fd = -1 };
	EXPECT_EQ(-EINVAL, penstock(self->node, PENSTOCK_IOC_REGION_PEER, &peer));
	peer = (struct penstock_region_peer) { .size = sizeof(peer), .kind = PENSTOCK_PEER_NVIDIA,
		.addr = -(1ULL << 16), .length = 1 << 17, .fd = -1 };
	EXPECT_EQ(-EOVERFLOW, penstock(self->node, PENSTOCK_IOC_REGION_PEER, &peer));
}

TEST_F(objects, nvidia_memory_without_its_module)
{
	struct penstock_region_peer peer = { .size = sizeof(peer), .kind = PENSTOCK_PEER_NVIDIA, .addr = 1 << 16,
		.length = 1 << 16, .fd = -1 };
	struct penstock_info info;

	if (access("/sys/module/penstock_nv", F_OK) == 0) {
		SKIP(return, "penstock_nv is loaded");
	}
	ASSERT_EQ(0, info_get(self->node, &info));
	EXPECT_EQ(-EOPNOTSUPP, penstock(self->node, PENSTOCK_IOC_REGION_PEER, &peer));
	EXPECT_EQ(info.out_peer_reason ? info.out_peer_reason : PENSTOCK_REASON_NO_PROVIDER, peer.out_reason);
	EXPECT_EQ(0, peer.out_region_id);
	EXPECT_EQ(ALL_ONES, peer.out_mmap_offset);
}

TEST_F(objects, ranges_of_a_bar)
{
	struct penstock_region_peer a, b;
	struct penstock_peer_enum peer, now;

	if (peer_first(self->node, &peer)) {
		SKIP(return, "no peer");
	}
	ASSERT_EQ(0, region_bar(self->node, peer.out_peer_id, PAGE, &a));
	ASSERT_EQ(0, region_bar(self->other, peer.out_peer_id, 4 * PAGE, &b));
	EXPECT_EQ(1, a.out_nr_segments);
	EXPECT_LE(a.out_peer_offset, peer.out_len - PAGE);
	EXPECT_LE(b.out_peer_offset, peer.out_len - 4 * PAGE);
	EXPECT_TRUE(a.out_peer_offset + PAGE <= b.out_peer_offset || b.out_peer_offset + 4 * PAGE <= a.out_peer_offset);
	now = (struct penstock_peer_enum) { .size = sizeof(now), .after_peer_id = peer.out_peer_id - 1 };
	EXPECT_EQ(0, penstock(self->node, PENSTOCK_IOC_PEER_ENUM, &now));
	EXPECT_EQ(peer.out_available - 5 * PAGE, now.out_available);
	EXPECT_EQ(-ENOSPC, region_bar(self->node, peer.out_peer_id, peer.out_len, &a));
	EXPECT_EQ(-ENOSPC, region_bar(self->node, peer.out_peer_id, peer.out_len + PAGE, &a));
	EXPECT_EQ(-ENOSPC, region_bar(self->node, peer.out_peer_id, self->max_region_len, &a));
}

TEST_F(objects, limit_of_peer_memory)
{
	long long limit = file_value(PARAMETER("peer_limit_mib"));
	struct penstock_region_peer bar, more;
	struct penstock_peer_enum peer;
	struct penstock_info info;
	uint64_t used;

	if (peer_first(self->node, &peer)) {
		SKIP(return, "no peer");
	}
	if (limit < 0 || parameter_set(PARAMETER("peer_limit_mib"), 1)) {
		SKIP(return, "cannot set peer_limit_mib");
	}
	EXPECT_EQ(0, info_get(self->node, &info));
	used = info.out_peer_used;
	EXPECT_EQ(1 << 20, info.out_peer_limit);
	EXPECT_EQ(0, used);
	/* One user's, whatever open they came by. */
	EXPECT_EQ(0, region_bar(self->node, peer.out_peer_id, 3 << 18, &bar));
	EXPECT_EQ(-ENOSPC, region_bar(self->other, peer.out_peer_id, (1 << 18) + PAGE, &more));
	EXPECT_EQ(0, region_bar(self->other, peer.out_peer_id, 1 << 18, &more));
	EXPECT_EQ(-ENOSPC, region_bar(self->node, peer.out_peer_id, PAGE, &more));
	EXPECT_EQ(0, info_get(self->other, &info));
	EXPECT_EQ(1 << 20, info.out_peer_used);
	EXPECT_EQ(0, region_free(self->node, bar.out_region_id, PENSTOCK_REGION_FREE_F_WAIT));
	EXPECT_EQ(0, info_get(self->node, &info));
	EXPECT_EQ(1 << 18, info.out_peer_used);
	EXPECT_EQ(0, parameter_set(PARAMETER("peer_limit_mib"), limit));
}

TEST_F(objects, dmabuf_is_shared)
{
	struct penstock_region_alloc alloc;
	struct penstock_region_peer peer, part;
	volatile char *a, *b;
	int fd, again;

	ASSERT_EQ(0, region_alloc(self->node, 8 * PAGE, &alloc));
	fd = region_export(self->node, alloc.out_region_id);
	ASSERT_LE(0, fd);
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
	again = region_export(self->node, alloc.out_region_id);
	EXPECT_LE(0, again);
	close(again);
	ASSERT_EQ(0, region_import(self->other, fd, 0, 8 * PAGE, &peer));
	EXPECT_EQ(alloc.out_nr_segments, peer.out_nr_segments);
	EXPECT_EQ(ALL_ONES, peer.out_peer_offset);
	ASSERT_EQ(0, region_import(self->other, fd, 3 * PAGE, 2 * PAGE, &part));
	a = region_map(self->node, alloc.out_mmap_offset, 0, 8 * PAGE);
	b = region_map(self->other, part.out_mmap_offset, 0, 2 * PAGE);
	ASSERT_TRUE(a != MAP_FAILED && b != MAP_FAILED);
	a[4 * PAGE + 5] = 77;
	EXPECT_EQ(77, b[PAGE + 5]);
	/* A part must not become the whole. */
	EXPECT_EQ(-EOPNOTSUPP, region_export(self->other, part.out_region_id));

	EXPECT_EQ(-EINVAL, region_import(self->other, fd, 1, PAGE, &part));
	EXPECT_EQ(-EINVAL, region_import(self->other, fd, 7 * PAGE, 2 * PAGE, &part));
	EXPECT_EQ(-EINVAL, region_import(self->other, fd, 8 * PAGE, PAGE, &part));
	EXPECT_EQ(-EINVAL, region_import(self->other, fd, 1ULL << 63, PAGE, &part));
	EXPECT_EQ(-EOVERFLOW, region_import(self->other, fd, -(uint64_t)PAGE, 2 * PAGE, &part));
	EXPECT_EQ(-EOVERFLOW, region_import(self->other, fd, -(uint64_t)PAGE, PAGE, &part));

	/* The memory lives on, and so does its other window. */
	close(fd);
	EXPECT_EQ(0, region_free(self->node, alloc.out_region_id, PENSTOCK_REGION_FREE_F_WAIT));
	EXPECT_EQ(SIGBUS, touch_signal(a));
	EXPECT_EQ(77, b[PAGE + 5]);
	munmap((void *)a, 8 * PAGE);
	munmap((void *)b, 2 * PAGE);
}

/* ---- a descriptor that its caller never learns of ---- */

/**
 * struct lost_export - a REGION_EXPORT whose answer stops at a page that must not be written to
 * @node: the node
 * @cmd: the command, alone in its page
 * @ret: what it returned
 */
struct lost_export {
	int node;
	struct penstock_region_export *cmd;
	int ret;
};

static void *lost_export_run(void *arg)
{
	struct lost_export *lost = arg;

	lost->ret = penstock(lost->node, PENSTOCK_IOC_REGION_EXPORT, lost->cmd);
	return NULL;
}

/* Stores to the page wait for the one who reads from this descriptor; -1 where there is no such thing. */
static int stores_wait(void *page)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP };
	struct uffdio_register whole = { .range = { to_u64(page), PAGE }, .mode = UFFDIO_REGISTER_MODE_WP };
	struct uffdio_writeprotect protect = { .range = { to_u64(page), PAGE }, .mode = UFFDIO_WRITEPROTECT_MODE_WP };
	int fd = (int)syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0 && !ioctl(fd, UFFDIO_API, &api) && !ioctl(fd, UFFDIO_REGISTER, &whole) &&
	    !ioctl(fd, UFFDIO_WRITEPROTECT, &protect))
		return fd;
	close(fd);
	return -1;
}

TEST_F(objects, export_that_fails_names_nothing)
{
	struct lost_export lost = { .node = self->node };
	struct penstock_region_alloc alloc;
	struct uffdio_range range;
	struct pollfd store;
	pthread_t thread;
	int next;

	ASSERT_EQ(0, region_alloc(self->node, PAGE, &alloc));
	lost.cmd = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(lost.cmd != MAP_FAILED);
	*lost.cmd = (struct penstock_region_export) { .size = sizeof(*lost.cmd), .region_id = alloc.out_region_id };
	store.fd = stores_wait(lost.cmd);
	if (store.fd < 0)
		SKIP(return, "no userfaultfd");
	store.events = POLLIN;
	next = fd_next();
	ASSERT_EQ(0, pthread_create(&thread, NULL, lost_export_run, &lost));
	ASSERT_EQ(1, poll(&store, 1, 10000));
	ASSERT_EQ(POLLIN, store.revents);

	/* The answer is about to be copied. Its number is reserved: nobody can use it, nor put another file there. */
	EXPECT_EQ(-1, fcntl(next, F_GETFD));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, dup2(self->other, next));
	EXPECT_EQ(EBUSY, errno);
	ASSERT_EQ(0, mprotect(lost.cmd, PAGE, PROT_READ));
	range = (struct uffdio_range) { to_u64(lost.cmd), PAGE };
	ASSERT_EQ(0, ioctl(store.fd, UFFDIO_WAKE, &range));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(-EFAULT, lost.ret);
	EXPECT_EQ(next, fd_next());
	close(store.fd);
	munmap(lost.cmd, PAGE);
	EXPECT_EQ(0, region_free(self->node, alloc.out_region_id, 0));
}

TEST_F(objects, descriptors_that_are_no_dmabuf_of_ours)
{
	struct penstock_region_peer peer;
	struct penstock_region_pin pin;
	int pipes[2];
	char *p;

	EXPECT_EQ(-EBADF, region_import(self->node, -1, 0, PAGE, &peer));
	EXPECT_EQ(-EBADF, region_import(self->node, 9999, 0, PAGE, &peer));
	ASSERT_EQ(0, pipe(pipes));
	EXPECT_EQ(-EINVAL, region_import(self->node, pipes[0], 0, PAGE, &peer));
	EXPECT_EQ(-EINVAL, region_import(self->node, self->other, 0, PAGE, &peer));
	close(pipes[0]);
	close(pipes[1]);
	/* A user's memory is his process's. */
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_EQ(0, region_pin(self->node, to_u64(p), PAGE, &pin));
	EXPECT_EQ(-EOPNOTSUPP, region_export(self->node, pin.out_region_id));
	munmap(p, PAGE);
}

struct udmabuf_create {
	uint32_t memfd, flags;
	uint64_t offset, size;
};

TEST_F(objects, dmabuf_of_another_module)
{
	struct udmabuf_create create = { .size = PAGE };
	struct penstock_region_peer peer;
	int udmabuf = open("/dev/udmabuf", O_RDWR | O_CLOEXEC), memfd, fd;

	if (udmabuf < 0) {
		SKIP(return, "no /dev/udmabuf");
	}
	memfd = memfd_create("penstock", MFD_ALLOW_SEALING);
	ASSERT_LE(0, memfd);
	ASSERT_EQ(0, ftruncate(memfd, PAGE));
	ASSERT_EQ(0, fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK));
	create.memfd = (uint32_t)memfd;
	fd = ioctl(udmabuf, _IOW('u', 0x42, struct udmabuf_create), &create);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EOPNOTSUPP, region_import(self->node, fd, 0, PAGE, &peer));
	EXPECT_EQ(PENSTOCK_REASON_DMABUF_NO_PAGES, peer.out_reason);
	close(fd);
	close(memfd);
	close(udmabuf);
}

/* ---- events ---- */

static void on_alarm(int sig)
{
}

TEST_F(objects, events)
{
	struct sigaction action = { .sa_handler = on_alarm };
	struct pollfd pfd = { .fd = self->node, .events = POLLIN };
	struct penstock_event events[4];
	int nonblock = node_open(O_CLOEXEC | O_NONBLOCK);
	int64_t ret;

	ASSERT_LE(0, nonblock);
	EXPECT_EQ(0, poll(&pfd, 1, 0));
	EXPECT_EQ(-1, read(nonblock, events, sizeof(events)));
	EXPECT_EQ(EAGAIN, errno);
	/* Only whole records. */
	EXPECT_EQ(-1, read(nonblock, events, sizeof(events[0]) - 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, read(nonblock, events, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, write(nonblock, events, sizeof(events)));
	EXPECT_EQ(EINVAL, errno);
	/* Without O_NONBLOCK it waits, until a signal. */
	sigaction(SIGALRM, &action, NULL);
	alarm(1);
	ret = read(self->node, events, sizeof(events));
	EXPECT_EQ(-1, ret);
	EXPECT_EQ(EINTR, errno);
	close(nonblock);
}

TEST_HARNESS_MAIN
