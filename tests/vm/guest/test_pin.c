// SPDX-License-Identifier: MIT
/*
 * Users' memory and charges inside a virtual machine: what REGION_PIN takes and
 * refuses, whose reads it serves, that limits hold to the page and all is given
 * back.
 */
#include "memory.h"

/* ---- limits ---- */

#define LIMIT 64UL

struct limit_test {
	int node;
	unsigned char *mem;	/* LIMIT pages and more, touched */
	unsigned int nr;
};

static int take(struct limit_test *t, bool pin, unsigned long pages, uint32_t *id)
{
	struct penstock_region_alloc alloc;
	struct penstock_region_pin cmd;
	int ret;

	if (pin) {
		ret = region_pin(t->node, t->mem, pages * PAGE, &cmd);
		*id = cmd.out_region_id;
	} else {
		ret = region_alloc(t->node, pages * PAGE, 4, &alloc);
		*id = alloc.out_region_id;
	}
	return ret;
}

static bool give(struct limit_test *t, uint32_t id)
{
	return !region_free(t->node, id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
}

/* In a child; each number is that of a step that went wrong. */
static int limit_steps(void *arg)
{
	struct limit_test *t = arg;
	uint32_t first, second, none;

	if (!become_member(LIMIT))
		return 1;
	for (int pin = 0; pin < 2; pin++) {
		if (take(t, pin, LIMIT + 1, &none) != -ENOMEM || pinned_pages() != 0)
			return 2;
		if (take(t, pin, LIMIT, &first) || pinned_pages() != (long)LIMIT)
			return 3;
		if (take(t, false, 1, &none) != -ENOMEM || take(t, true, 1, &none) != -ENOMEM)
			return 4;
		if (!give(t, first) || pinned_pages() != 0)
			return 5;
	}
	/* Both kinds come out of one purse. */
	if (take(t, false, 40, &first) || take(t, true, LIMIT - 40, &second))
		return 6;
	if (take(t, false, 1, &none) != -ENOMEM || take(t, true, 1, &none) != -ENOMEM || pinned_pages() != (long)LIMIT)
		return 7;
	if (!give(t, second) || take(t, false, LIMIT - 40, &second) || take(t, true, 1, &none) != -ENOMEM)
		return 8;
	if (!give(t, first) || !give(t, second) || pinned_pages() != 0)
		return 9;
	/* What fails half-way has no price. */
	if (munmap(t->mem + 20 * PAGE, PAGE))
		return 10;
	for (int i = 0; i < 10; i++)
		if (take(t, true, 40, &none) != -EFAULT)
			return 11;
	if (take(t, false, LIMIT, &first) || take(t, false, 1, &none) != -ENOMEM)
		return 12;
	/* Left to the close. */
	return 0;
}

static int limit_closed(void *arg)
{
	struct limit_test *t = arg;
	uint32_t first;

	/* A user's limit is one for all processes of his. */
	return become_member(LIMIT) && !take(t, false, LIMIT, &first) ? 0 : 1;
}

static int limit_race(void *arg)
{
	struct limit_test *t = arg;
	unsigned int got = 0;
	uint32_t id;

	if (!become_member(LIMIT))
		return 127;
	for (unsigned int i = 0; i < LIMIT; i++)
		got += !take(t, i & 1, 1, &id);
	return got;
}

/* Processes of one user that run into the limit together have it exactly. */
static void test_limit_race(struct limit_test *t)
{
	unsigned int sum = 0;
	pid_t pids[4];
	int status;

	fflush(stdout);
	for (int i = 0; i < 4; i++) {
		pids[i] = fork();
		if (!pids[i])
			_exit(limit_race(t));
	}
	for (int i = 0; i < 4; i++)
		if (waitpid(pids[i], &status, 0) == pids[i] && WIFEXITED(status))
			sum += WEXITSTATUS(status);
	tap(sum == LIMIT, "four processes of one user get %u pages of %lu", sum, LIMIT);
}

static void test_limits(const struct objects *start)
{
	struct limit_test t = { .nr = 0 };
	struct objects open_now;
	int ret;

	(void)start;
	t.mem = mmap(NULL, 2 * LIMIT * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(t.mem, 1, 2 * LIMIT * PAGE);
	for (int round = 0; round < 2; round++) {
		t.node = node_open();
		objects_read(&open_now);
		ret = in_child(limit_steps, &t);
		tap(!ret, "RLIMIT_MEMLOCK is exact for ALLOC and PIN (step %d)", ret);
		tap(in_child(limit_closed, &t) == 1, "what the open holds still counts for another process");
		close(t.node);
		objects_return_to(start);
	}
	t.node = node_open();
	tap(!in_child(limit_closed, &t), "after the close all of it is free again");
	close(t.node);
	objects_return_to(start);
	t.node = node_open();
	test_limit_race(&t);
	close(t.node);
	munmap(t.mem, 2 * LIMIT * PAGE);
}

/* ---- kinds of memory ---- */

static int node, target;

/* PIN, read the file into it, compare. The number of segments, or -errno. */
static int pin_and_read(void *p, uint64_t len, uint64_t offset)
{
	struct penstock_region_pin pin;
	int ret = region_pin(node, p, len, &pin);
	long long got;

	if (ret)
		return ret;
	got = read_ioctl(node, target, pin.out_region_id, offset, 0, len);
	if (got != (long long)len || !is_file_data(p, offset, len)) {
		printf("# read %lld of %llu bytes\n", got, (unsigned long long)len);
		ret = -EBADMSG;
	}
	if (region_free(node, pin.out_region_id, 0, NULL))
		ret = -EBUSY;
	return ret ? ret : (int)pin.out_nr_segments;
}

static void test_anonymous(void)
{
	unsigned char *p = mmap(NULL, 8 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char *huge = (unsigned char *)(((uintptr_t)p + 2 * MIB - 1) & ~(2 * MIB - 1));
	int ret;

	/* Not touched before: the pin brings the pages. */
	madvise(p, 8 * MIB, MADV_NOHUGEPAGE);
	ret = pin_and_read(p + PAGE, 3 * MIB, MIB);
	tap(ret > 0, "anonymous memory (%d segments)", ret);
	munmap(p, 8 * MIB);

	p = mmap(huge, 4 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	madvise(p, 4 * MIB, MADV_HUGEPAGE);
	memset(p, 1, 4 * MIB);
	ret = pin_and_read(p, 4 * MIB, 2 * MIB);
	if (ret > 2 && proc_value("/proc/self/smaps_rollup", "AnonHugePages") < 4096)
		tap_skip("huge pages are one segment each", "none were had");
	else
		tap(ret > 0 && ret <= 2, "huge pages are one segment each (%d)", ret);
	/* A part of one, not at its start. */
	ret = pin_and_read(p + 5 * PAGE, MIB, 3 * MIB);
	tap(ret > 0, "a part of a huge page (%d)", ret);
	munmap(p, 4 * MIB);
}

static void test_hugetlb(void)
{
	unsigned char *p;
	int ret;

	put_file("/proc/sys/vm/nr_hugepages", "4");
	p = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (p == MAP_FAILED) {
		tap_skip("hugetlb pages", "none were had");
		return;
	}
	ret = pin_and_read(p, 4 * MIB, 0);
	tap(ret > 0 && ret <= 2, "hugetlb pages, shared (%d segments)", ret);
	munmap(p, 4 * MIB);
	put_file("/proc/sys/vm/nr_hugepages", "0");
}

static void test_files(void)
{
	int fd = open("/mnt/ext4/pinned", O_RDWR | O_CREAT | O_TRUNC, 0600), mem = memfd_create("pinned", MFD_CLOEXEC);
	struct penstock_region_pin pin;
	unsigned char *p, *q;
	long long got;
	int ret;

	if (fd < 0 || ftruncate(fd, MIB) || ftruncate(mem, MIB)) {
		tap_skip("mappings of files", "no file can be made");
		return;
	}
	p = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ret = region_pin(node, p, MIB, &pin);
	tap(ret == -EFAULT, "a shared mapping of a file is refused (%d)", ret);
	memset(p, 1, MIB);
	ret = region_pin(node, p, MIB, &pin);
	tap(ret == -EFAULT, "also when its pages are there and dirty (%d)", ret);
	munmap(p, MIB);
	p = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	tap(pin_and_read(p, MIB, MIB) > 0, "a private mapping of a file is memory of its own");
	munmap(p, MIB);

	/* What was pinned is read into after the munmap, too: seen by another mapping of the same pages. */
	p = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, mem, 0);
	q = mmap(NULL, MIB, PROT_READ, MAP_SHARED, mem, 0);
	ret = region_pin(node, p, MIB, &pin);
	munmap(p, MIB);
	got = ret ? ret : read_ioctl(node, target, pin.out_region_id, 4 * MIB, 0, MIB);
	tap(got == (long long)MIB && is_file_data(q, 4 * MIB, MIB), "shared memory, read into after its munmap (%lld)",
	    got);
	munmap(q, MIB);
	region_free(node, pin.out_region_id, 0, NULL);

	/* Anonymous memory that nobody can see any more. */
	p = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ret = region_pin(node, p, MIB, &pin);
	munmap(p, MIB);
	got = ret ? ret : read_ioctl(node, target, pin.out_region_id, 4 * MIB, 0, MIB);
	tap(got == (long long)MIB, "anonymous memory, read into after its munmap");
	region_free(node, pin.out_region_id, 0, NULL);
	close(fd);
	close(mem);
	unlink("/mnt/ext4/pinned");
}

static void test_own_mappings(void)
{
	struct penstock_region_alloc alloc;
	struct penstock_region_peer bar;
	struct penstock_peer_enum peer;
	struct penstock_region_pin pin;
	void *p;
	int ret;

	if (tap(!region_alloc(node, MIB, 4, &alloc) && (p = region_map(node, &alloc)), "a region to pin")) {
		ret = pin_and_read(p, MIB, 6 * MIB);
		tap(ret > 0, "the mapping of a region of ours can be pinned (%d)", ret);
		munmap(p, MIB);
		region_free(node, alloc.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
	}
	if (peer_first(node, &peer) || region_bar(node, peer.out_peer_id, 2 * MIB, &bar) ||
	    bar.out_mmap_offset == ~0ULL) {
		tap_skip("peer memory is refused", "no peer that can be mapped");
		return;
	}
	p = mmap(NULL, 2 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, node, bar.out_mmap_offset);
	ret = p == MAP_FAILED ? 0 : region_pin(node, p, 2 * MIB, &pin);
	tap(ret == -EREMOTEIO, "peer memory is refused (%d)", ret);
	munmap(p, 2 * MIB);
	tap(!region_free(node, bar.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL), "it keeps no page of it");
}

/* ---- what is refused ---- */

static void test_refusals(void)
{
	unsigned char *p = mmap(NULL, 8 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const unsigned char *rd = mmap(NULL, MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const struct {
		const char *what;
		const void *addr;
		uint64_t len;
		unsigned int flags;
		int want;
	} cases[] = {
		{ "no length", p, 0, 1, -EINVAL },
		{ "a length of no whole pages", p, 100, 1, -EINVAL },
		{ "an address within a page", p + 8, PAGE, 1, -EINVAL },
		{ "a length beyond the longest", p, (1ULL << 38) + PAGE, 1, -EINVAL },
		{ "what ends beyond 2^64", (void *)-PAGE, 2 * PAGE, 1, -EOVERFLOW },
		{ "the kernel's memory", (void *)0xffff888000000000, PAGE, 1, -EFAULT },
		{ "what spans all of a process's addresses", NULL, 1ULL << 38, 1, -EFAULT },
		{ "the page at 0", NULL, PAGE, 1, -EFAULT },
		{ "memory that cannot be written", rd, MIB, 1, -EFAULT },
		{ "no direction", p, PAGE, 0, -EINVAL },
		{ "an unknown flag", p, PAGE, 3, -EOPNOTSUPP },
		{ "memory with a hole in it", p, 16 * PAGE, 1, -EFAULT },
		{ "memory with a hole far in it", p + 16 * PAGE, 6 * MIB, 1, -EFAULT },
	};
	long pinned = pinned_pages();
	struct objects before;

	objects_read(&before);
	munmap(p + 9 * PAGE, PAGE);
	munmap(p + 5 * MIB, PAGE);
	for (unsigned int i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct penstock_region_pin pin = {
			.size = sizeof(pin), .flags = cases[i].flags, .addr = (uintptr_t)cases[i].addr,
			.length = cases[i].len };
		int ret = node_ioctl(node, PENSTOCK_IOC_REGION_PIN, &pin);

		tap(ret == cases[i].want, "PIN of %s is refused (%d)", cases[i].what, ret);
	}
	tap(pinned_pages() == pinned && objects_return_to(&before), "refused pins charge nothing and leave nothing");
	tap(pins_are_even(), "not a page of them stays pinned");
	munmap(p, 8 * MIB);
}

/* ---- whose memory it is ---- */

static int read_as_other(void *arg)
{
	return read_ioctl(node, target, *(uint32_t *)arg, 0, 0, PAGE) == -EPERM ? 0 : 1;
}

static void test_owner(void)
{
	unsigned char *p = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct penstock_region_pin pin;

	memset(p, 3, MIB);
	if (!tap(!region_pin(node, p, MIB, &pin), "memory to read into"))
		return;
	tap(!in_child(read_as_other, &pin.out_region_id), "a child that inherits the descriptor gets EPERM");
	tap(is_all(p, 3, MIB), "and changes nothing");
	tap(read_ioctl(node, target, pin.out_region_id, 0, 0, PAGE) == PAGE && is_file_data(p, 0, PAGE),
	    "its creator may");
	region_free(node, pin.out_region_id, 0, NULL);
	munmap(p, MIB);
}

int main(void)
{
	struct penstock_target_add add;
	struct objects start;
	long pinned = pinned_pages();
	int fd;

	if (!tap(!objects_read(&start), "counts of objects"))
		return tap_done();
	test_limits(&start);
	tap(objects_return_to(&start) && pins_are_even(), "nothing is left of that");

	node = node_open();
	fd = open(DATA_FILE, O_RDONLY);
	if (!tap(node >= 0 && fd >= 0 && !target_add(node, fd, &add), "the node, and a file to read"))
		return tap_done();
	target = add.out_target_id;
	test_anonymous();
	test_hugetlb();
	test_files();
	test_own_mappings();
	test_refusals();
	test_owner();
	tap(pinned_returns_to(pinned), "nothing is charged in the end");
	close(fd);
	close(node);
	tap(objects_return_to(&start), "all objects are gone");
	tap(pins_are_even(), "each page that was pinned was given back");
	return tap_done();
}
