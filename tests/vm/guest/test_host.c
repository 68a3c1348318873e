// SPDX-License-Identifier: MIT
/*
 * Host memory inside a virtual machine: what REGION_ALLOC gives, whose bytes it
 * must not show, who may still use it after REGION_FREE, NUMA nodes.
 */
#include "memory.h"
#include <sched.h>

static unsigned int max_order;

/* ---- contents ---- */

static bool check_one(int node, unsigned int order, uint64_t len)
{
	struct penstock_region_alloc alloc;
	unsigned char *p;
	bool good;

	if (region_alloc(node, len, order, &alloc) || !alloc.out_nr_segments || alloc.out_nr_segments > len / PAGE)
		return false;
	p = region_map(node, &alloc);
	good = p && is_all(p, 0, len);
	if (good) {
		memset(p, 0x5a, len);
		good = is_all(p, 0x5a, len) && !munmap(p, len);
		/* Mapped anew, it is still the same memory; the last page alone, too. */
		p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, node, alloc.out_mmap_offset + len - PAGE);
		good = good && p != MAP_FAILED && is_all(p, 0x5a, PAGE) && !munmap(p, PAGE);
	}
	return !region_free(node, alloc.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL) && good;
}

static void test_lengths(int node)
{
	static const uint64_t lens[] = { PAGE, 3 * PAGE, 64 * KIB, 300 * KIB, MIB, 4 * MIB + PAGE, 17 * MIB };
	struct penstock_region_alloc alloc;
	bool good = true;

	for (unsigned int order = 0; order <= max_order; order++)
		for (unsigned int i = 0; i < sizeof(lens) / sizeof(*lens); i++)
			if (!check_one(node, order, lens[i])) {
				printf("# order %u, %llu bytes\n", order, (unsigned long long)lens[i]);
				good = false;
			}
	tap(good, "each order and length: zeroed, mapped, written");

	if (tap(!region_alloc(node, 32 * MIB, max_order, &alloc), "32 MiB of the largest order")) {
		printf("# %u segments\n", alloc.out_nr_segments);
		tap(alloc.out_nr_segments <= 64, "they are long runs");
		region_free(node, alloc.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
	}
}

static void test_refusals(int node)
{
	static const struct {
		const char *what;
		uint64_t len;
		int numa_node;
		unsigned int order, flags;
		int want;
	} cases[] = {
		{ "no length", 0, -1, 0, 0, -EINVAL },
		{ "a length of no whole pages", PAGE + 1, -1, 0, 0, -EINVAL },
		{ "a length beyond the longest", (1ULL << 38) + PAGE, -1, 0, 0, -EINVAL },
		{ "a length near 2^64", 0 - PAGE, -1, 0, 0, -EINVAL },
		{ "an order beyond the largest", PAGE, -1, 64, 0, -EINVAL },
		{ "a node below -1", PAGE, -2, 0, 0, -EINVAL },
		{ "a node that cannot be", PAGE, 1 << 30, 0, 0, -EINVAL },
		{ "a node without memory", PAGE, 63, 0, 0, -EINVAL },
		{ "a flag", PAGE, -1, 0, 1, -EOPNOTSUPP },
		{ "more than the machine has", 1ULL << 38, -1, 0, 0, -ENOMEM },
	};
	long pinned = pinned_pages();

	for (unsigned int i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct penstock_region_alloc alloc = {
			.size = sizeof(alloc), .length = cases[i].len, .numa_node = cases[i].numa_node,
			.order = cases[i].order, .flags = cases[i].flags };
		int ret = node_ioctl(node, PENSTOCK_IOC_REGION_ALLOC, &alloc);

		tap(ret == cases[i].want, "ALLOC of %s is refused (%d)", cases[i].what, ret);
	}
	tap(pinned_pages() == pinned, "refused allocations charge nothing");
}

/* ---- nobody sees the bytes of another ---- */

#define REUSE_LEN (128 * MIB)

struct reuse {
	uint64_t *pfns;		/* shared between the two processes */
	unsigned int again;	/* pages that both had */
	bool zeroed;
};

/* On one CPU: memory comes from its node, and the pages that were freed last come first. */
static void stay_here(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* Where the pages lie: root sees that in pagemap. */
static bool read_pfns(const void *p, uint64_t *pfns, unsigned int nr)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	bool good = fd >= 0 && pread(fd, pfns, nr * 8, (uintptr_t)p / PAGE * 8) == (ssize_t)(nr * 8);

	if (fd >= 0)
		close(fd);
	for (unsigned int i = 0; good && i < nr; i++)
		pfns[i] &= (1ULL << 55) - 1;
	return good;
}

static int reuse_first(void *arg)
{
	struct penstock_region_alloc alloc;
	struct reuse *reuse = arg;
	int node = node_open();
	unsigned char *p;

	stay_here();
	if (node < 0 || region_alloc(node, REUSE_LEN, max_order, &alloc))
		return 1;
	p = region_map(node, &alloc);
	if (!p)
		return 1;
	memset(p, 0xa5, REUSE_LEN);
	return read_pfns(p, reuse->pfns, REUSE_LEN / PAGE) ? 0 : 1;
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int reuse_second(void *arg)
{
	unsigned int nr = REUSE_LEN / PAGE;
	struct penstock_region_alloc alloc;
	struct reuse *reuse = arg;
	int node = node_open();
	uint64_t *pfns = calloc(nr, sizeof(*pfns));
	unsigned char *p;

	stay_here();
	/* Another order than before: the blocks are cut differently. */
	if (node < 0 || !pfns || region_alloc(node, REUSE_LEN, 3, &alloc))
		return 1;
	p = region_map(node, &alloc);
	if (!p)
		return 1;
	reuse->zeroed = is_all(p, 0, REUSE_LEN);
	if (!read_pfns(p, pfns, nr))
		return 1;
	qsort(reuse->pfns, nr, sizeof(*pfns), compare_u64);
	for (unsigned int i = 0; i < nr; i++)
		reuse->again += !!bsearch(&pfns[i], reuse->pfns, nr, sizeof(*pfns), compare_u64);
	return 0;
}

static void test_reuse(const struct objects *start)
{
	struct reuse *reuse = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	reuse->pfns = mmap(NULL, REUSE_LEN / PAGE * 8, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	tap(!in_child(reuse_first, reuse), "a process fills a region and ends");
	objects_return_to(start);
	tap(!in_child(reuse_second, reuse), "another one takes as much");
	printf("# %u pages are the same\n", reuse->again);
	tap(reuse->again > 0 && reuse->zeroed, "it gets pages of the first, and none of its bytes");
	munmap(reuse->pfns, REUSE_LEN / PAGE * 8);
	munmap(reuse, PAGE);
}

/* ---- what works on a mapping ---- */

static void test_direct(int node)
{
	int fd = open(DATA_FILE, O_RDONLY | O_DIRECT);
	struct penstock_region_alloc alloc;
	unsigned char *p = NULL;

	if (fd < 0) {
		tap_skip("an ordinary direct read into a mapping", "no " DATA_FILE);
		return;
	}
	if (!region_alloc(node, 2 * MIB, max_order, &alloc))
		p = region_map(node, &alloc);
	tap(p && pread(fd, p + PAGE, MIB, 3 * MIB) == (ssize_t)MIB && is_file_data(p + PAGE, 3 * MIB, MIB) &&
	    is_all(p, 0, PAGE) && is_all(p + PAGE + MIB, 0, MIB - PAGE), "an ordinary direct read into a mapping");
	close(fd);
	if (p)
		munmap(p, 2 * MIB);
	region_free(node, alloc.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
}

/* One request on a fixed buffer: its result. */
static int ring_fixed(struct io_uring *ring, bool write, int fd, void *p, unsigned int len, uint64_t offset)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct io_uring_cqe *cqe;
	int ret;

	if (write)
		io_uring_prep_write_fixed(sqe, fd, p, len, offset, 0);
	else
		io_uring_prep_read_fixed(sqe, fd, p, len, offset, 0);
	ret = io_uring_submit_and_wait(ring, 1);
	if (ret < 0)
		return ret;
	ret = io_uring_peek_cqe(ring, &cqe);
	if (ret)
		return ret;
	ret = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return ret;
}

/* A registered buffer keeps its pages: they take reads after the region is gone, and nobody else gets them. */
static void test_registered(int node)
{
	int fd = open(DATA_FILE, O_RDONLY | O_DIRECT), out = memfd_create("out", MFD_CLOEXEC);
	struct penstock_region_alloc alloc, other;
	unsigned char *p, *copy = malloc(MIB);
	struct io_uring ring;
	struct iovec iov;
	int ret;

	if (fd < 0 || out < 0 || io_uring_queue_init(4, &ring, 0)) {
		tap_skip("registered buffers", "no file, or no ring");
		return;
	}
	if (!tap(!region_alloc(node, MIB, max_order, &alloc) && (p = region_map(node, &alloc)), "a region to register"))
		return;
	iov = (struct iovec) { p, MIB };
	ret = io_uring_register_buffers(&ring, &iov, 1);
	if (ret == -EOPNOTSUPP) {
		tap_skip("registered buffers", "this kernel registers no mapping of a device");
		io_uring_queue_exit(&ring);
		munmap(p, MIB);
		region_free(node, alloc.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
		return;
	}
	tap(!ret, "a mapping can be registered (%d)", ret);
	tap(ring_fixed(&ring, false, fd, p, MIB, 5 * MIB) == (int)MIB && is_file_data(p, 5 * MIB, MIB),
	    "a fixed read into it");
	tap(!region_free(node, alloc.out_region_id, 0, NULL), "the region is freed without waiting for the buffer");
	tap(fault_at(p) == SIGBUS, "the mapping gives SIGBUS then");
	/* What is taken now must not be the buffer's pages. */
	region_alloc(node, 64 * MIB, 0, &other);
	tap(ring_fixed(&ring, false, fd, p, MIB, 7 * MIB) == (int)MIB, "a fixed read after that");
	tap(ring_fixed(&ring, true, out, p, MIB, 0) == (int)MIB && pread(out, copy, MIB, 0) == (ssize_t)MIB &&
	    is_file_data(copy, 7 * MIB, MIB), "it arrived in the old pages");
	p = region_map(node, &other);
	tap(p && is_all(p, 0, 64 * MIB), "and in no others");
	region_free(node, other.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
	io_uring_queue_exit(&ring);
	munmap(iov.iov_base, MIB);
	munmap(p, 64 * MIB);
	close(fd);
	close(out);
	free(copy);
}

static void test_mapping_rules(int node)
{
	struct penstock_region_alloc alloc, second;
	unsigned char *p, *q;

	if (!tap(!region_alloc(node, 4 * PAGE, 0, &alloc) && !region_alloc(node, 4 * PAGE, 0, &second), "two regions"))
		return;
	tap(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, node, alloc.out_mmap_offset) == MAP_FAILED && errno == EINVAL,
	    "a private mapping is refused");
	tap(mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, node, alloc.out_mmap_offset) == MAP_FAILED &&
	    errno == EINVAL, "an executable mapping is refused");
	tap(mmap(NULL, 5 * PAGE, PROT_READ, MAP_SHARED, node, alloc.out_mmap_offset) == MAP_FAILED && errno == EINVAL,
	    "a mapping longer than the region is refused");
	p = region_map(node, &alloc);
	q = region_map(node, &second);
	tap(p && q && mprotect(p, PAGE, PROT_READ | PROT_EXEC), "a mapping cannot be made executable");
	memset(p, 1, 4 * PAGE);
	memset(q, 2, 4 * PAGE);
	tap(!region_free(node, alloc.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL) && fault_at(p + PAGE) == SIGBUS &&
	    is_all(q, 2, 4 * PAGE), "freeing one takes its mapping away, and no other's");
	munmap(p, 4 * PAGE);
	region_free(node, second.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
	munmap(q, 4 * PAGE);
}

/* ---- NUMA ---- */

static long long node_meminfo(int numa_node, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/meminfo", numa_node);
	return proc_value(path, name);
}

static int alloc_on(int node, int numa_node, uint64_t len, struct penstock_region_alloc *alloc)
{
	*alloc = (struct penstock_region_alloc) {
		.size = sizeof(*alloc), .length = len, .numa_node = numa_node, .order = max_order };
	return node_ioctl(node, PENSTOCK_IOC_REGION_ALLOC, alloc);
}

static void test_numa(int node)
{
	struct penstock_region_alloc alloc;
	long long total, before, other;
	bool good = true;

	if (node_meminfo(1, "MemTotal") <= 0) {
		tap_skip("memory of a node", "one node only");
		return;
	}
	for (int n = 0; n < 2; n++) {
		before = node_meminfo(n, "MemFree");
		if (alloc_on(node, n, 48 * MIB, &alloc)) {
			good = false;
			continue;
		}
		printf("# node %d: %lld kB free, then %lld\n", n, before, node_meminfo(n, "MemFree"));
		good = good && before - node_meminfo(n, "MemFree") > 40 * 1024;
		region_free(node, alloc.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
	}
	tap(good, "memory comes from the node that was named");

	/* More than the node has, less than the machine has: refused, and nobody is killed for it. */
	total = node_meminfo(1, "MemTotal");
	other = node_meminfo(0, "MemFree");
	tap(alloc_on(node, 1, (total + 1024) * KIB / PAGE * PAGE, &alloc) == -ENOMEM, "no more than the node has");
	tap(other - node_meminfo(0, "MemFree") < 32 * 1024, "none of it was taken from the other one");
}

/* ---- interrupted ---- */

static int alloc_for_ever(void *arg)
{
	struct penstock_region_alloc alloc;
	int node = node_open();

	(void)arg;
	if (!become_member(160 * MIB / PAGE) || node < 0)
		return 1;
	for (;;)
		if (region_alloc(node, 160 * MIB, 0, &alloc) ||
		    region_free(node, alloc.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL))
			return 2;
}

static int alloc_once(void *arg)
{
	struct penstock_region_alloc alloc;
	int node = node_open();

	(void)arg;
	return become_member(160 * MIB / PAGE) && node >= 0 && !region_alloc(node, 160 * MIB, 0, &alloc) ? 0 : 1;
}

/*
 * A signal that kills ends a long allocation; what it had is back before the process is gone, to the last page of the
 * user's charge: the next one starts with his limit free, or it could not allocate.
 */
static void test_killed(const struct objects *start)
{
	bool good = true;

	for (unsigned int i = 1; i <= 8 && good; i++) {
		pid_t pid = fork();
		int status;

		if (!pid)
			_exit(alloc_for_ever(NULL));
		usleep(i * 17000);
		kill(pid, SIGKILL);
		good = waitpid(pid, &status, 0) == pid && WIFSIGNALED(status);
	}
	tap(good, "processes killed while they allocate end");
	tap(objects_return_to(start), "what they had comes back");
	tap(!in_child(alloc_once, NULL), "their user is charged nothing any more");
	tap(objects_return_to(start), "nor is anything left of that");
}

int main(void)
{
	struct penstock_info info = { .size = sizeof(info) };
	struct objects start;
	long pinned = pinned_pages();
	int node;

	if (!tap(!objects_read(&start), "counts of objects"))
		return tap_done();
	node = node_open();
	if (!tap(node >= 0 && !node_ioctl(node, PENSTOCK_IOC_INFO, &info), "the node"))
		return tap_done();
	max_order = info.out_max_order;
	test_lengths(node);
	test_refusals(node);
	test_direct(node);
	test_registered(node);
	test_mapping_rules(node);
	test_numa(node);
	tap(pinned_returns_to(pinned), "nothing is charged in the end");
	close(node);
	tap(objects_return_to(&start), "all objects are gone");
	test_reuse(&start);
	test_killed(&start);
	return tap_done();
}
