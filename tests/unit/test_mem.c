// SPDX-License-Identifier: MIT
/* Landing memory: what was got is what is said, and no more than was asked for. */
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include "files.h"
#include "mem.h"
#include "mem_probe.h"
#include "util.h"

#define HUGE (2ul << 20)

static struct penstock_error err;

static uint64_t proc_kib(const char *path, const char *key)
{
	char line[256];
	uint64_t v = 0;
	FILE *f = fopen(path, "re");

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			sscanf(line + strlen(key), "%" SCNu64, &v);
	if (f)
		fclose(f);
	return v;
}

/* A field of the mapping that holds @p, in KiB. */
static uint64_t smaps_kib(const void *p, const char *key)
{
	uint64_t lo = 0, hi = 0, a, b, v = 0;
	char line[512];
	FILE *f = fopen("/proc/self/smaps", "re");

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &a, &b) == 2) {
			lo = a;
			hi = b;
		} else if ((uintptr_t)p >= lo && (uintptr_t)p < hi && !strncmp(line, key, strlen(key))) {
			sscanf(line + strlen(key), "%" SCNu64, &v);
		}
	}
	if (f)
		fclose(f);
	return v;
}

static void alloc(size_t len, int no_huge, struct penstock_mem *m)
{
	if (penstock_mem_alloc(len, -1, no_huge, m, &err))
		TEST_FAIL_(1, "%s", err.text);
	EXPECT_EQ(0, (uintptr_t)m->base % HUGE);
	EXPECT_GE(m->len, len);
	EXPECT_LT(m->len - len, HUGE);
	EXPECT_TRUE(m->page_size == HUGE || m->page_size == 4096);
	EXPECT_NE(0, m->why[0]);
}

TEST(mem_is_prefaulted_and_writable)
{
	struct penstock_mem m;
	unsigned char *vec;
	size_t i;
	int no_huge;

	for (no_huge = 0; no_huge < 2; no_huge++) {
		alloc(5 << 20, no_huge, &m);
		vec = calloc(m.len / 4096, 1);
		ASSERT_EQ(0, mincore(m.base, m.len, vec));
		for (i = 0; i < m.len / 4096; i++)
			ASSERT_EQ(1, vec[i] & 1);
		free(vec);
		memset(m.base, 0x5a, m.len);
		penstock_mem_free(&m);
		EXPECT_TRUE(!m.base);
		penstock_mem_free(&m);
	}
	penstock_mem_free(NULL);
}

TEST(mem_says_what_pages_it_got)
{
	struct penstock_mem m;

	alloc(8 << 20, 0, &m);
	if (!strcmp(m.why, "transparent")) {
		EXPECT_EQ(HUGE, m.page_size);
		EXPECT_GE(smaps_kib(m.base, "AnonHugePages:"), 8 << 10);
	} else if (!strcmp(m.why, "hugetlbfs")) {
		EXPECT_EQ(2048, smaps_kib(m.base, "KernelPageSize:"));
	} else {
		EXPECT_EQ(4096, m.page_size);
	}
	penstock_mem_free(&m);
	alloc(8 << 20, 1, &m);
	EXPECT_EQ(4096, m.page_size);
	EXPECT_HAS(m.why, "not wanted");
	EXPECT_EQ(0, penstock_mem_huge_bytes(m.base, m.len));
	EXPECT_EQ(4, smaps_kib(m.base, "KernelPageSize:"));
	penstock_mem_free(&m);
}

TEST(mem_takes_pages_of_hugetlbfs_first)
{
	struct penstock_mem m;
	uint64_t pages = proc_kib("/proc/meminfo", "HugePages_Free:");

	if (pages < 4 || proc_kib("/proc/meminfo", "Hugepagesize:") != 2048)
		SKIP("fewer than 4 free huge pages of 2 MiB (vm.nr_hugepages)");
	alloc(8 << 20, 0, &m);
	EXPECT_STREQ("hugetlbfs", m.why);
	EXPECT_EQ(HUGE, m.page_size);
	EXPECT_EQ(2048, smaps_kib(m.base, "KernelPageSize:"));
	penstock_mem_free(&m);
	/* more than the pool has */
	alloc((pages + 1) * HUGE, 0, &m);
	EXPECT_NE(0, strcmp(m.why, "hugetlbfs"));
	penstock_mem_free(&m);
}

TEST(mem_is_not_rounded_up_to_powers_of_two)
{
	const size_t len = 135790592;	/* 129.5 MiB */
	struct penstock_mem m[3];
	uint64_t before = proc_kib("/proc/self/status", "VmRSS:") + proc_kib("/proc/self/status", "HugetlbPages:"), grown;
	int i;

	for (i = 0; i < 3; i++)
		alloc(len, 0, &m[i]);
	grown = proc_kib("/proc/self/status", "VmRSS:") + proc_kib("/proc/self/status", "HugetlbPages:") - before;
	EXPECT_GE(grown, 3 * len / 1024);
	EXPECT_LE(grown, 3 * len / 1024 * 105 / 100);
	for (i = 0; i < 3; i++)
		penstock_mem_free(&m[i]);
}

TEST(mem_is_left_out_of_children_and_dumps)
{
	struct penstock_mem m;
	int status;
	pid_t pid;

	alloc(4 << 20, 0, &m);
	memset(m.base, 1, m.len);
	pid = fork();
	if (!pid) {
		/* sanitizers would catch it */
		signal(SIGSEGV, SIG_DFL);
		_exit(*(volatile char *)m.base);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	penstock_mem_free(&m);
}

TEST(mem_refuses_what_does_not_fit)
{
	struct penstock_mem m = { 0 };

	EXPECT_EQ(-EINVAL, penstock_mem_alloc(0, -1, 0, &m, &err));
	EXPECT_EQ(-ENOMEM, penstock_mem_alloc(1ul << 45, -1, 0, &m, &err));
	EXPECT_HAS(err.text, "35184372088832 bytes of host memory");
	EXPECT_HAS(err.text, "are available on this machine");
	EXPECT_EQ(-ENOMEM, penstock_mem_alloc(SIZE_MAX, -1, 0, &m, &err));
	EXPECT_EQ(-ENOMEM, penstock_mem_alloc(SIZE_MAX / 2, -1, 1, &m, &err));
	EXPECT_TRUE(!m.base);
}

TEST(mem_takes_any_node_number)
{
	struct penstock_mem m;
	int node;

	for (node = -1; node < 3000; node += 333) {
		ASSERT_EQ(0, penstock_mem_alloc(2 << 20, node, 0, &m, &err));
		memset(m.base, 1, m.len);
		penstock_mem_free(&m);
	}
}

static void put(const char *name, const char *text)
{
	char cmd[1200];
	const char *path = files_path(name);
	FILE *f;

	snprintf(cmd, sizeof(cmd), "mkdir -p \"$(dirname '%s')\"", path);
	ASSERT_EQ(0, system(cmd));
	f = fopen(path, "w");
	ASSERT_TRUE(f);
	fputs(text, f);
	fclose(f);
}

TEST(cgroup_limits_count_with_their_parents)
{
	char root[512];

	/* version 2: 1000 allowed, 700 used, 300 of them page cache; the parent has less */
	put("cg/a/b/memory.max", "1000\n");
	put("cg/a/b/memory.current", "700\n");
	put("cg/a/b/memory.stat", "anon 400\nfile 300\ninactive_file 200\nactive_file 100\n");
	put("cg/a/memory.max", "max\n");
	snprintf(root, sizeof(root), "%s", files_path("cg"));
	EXPECT_EQ(600, penstock_cgroup_available(root, "/a/b"));
	put("cg/a/memory.max", "900\n");
	put("cg/a/memory.current", "850\n");
	EXPECT_EQ(50, penstock_cgroup_available(root, "/a/b"));
	EXPECT_EQ(50, penstock_cgroup_available(root, "/a"));
	put("cg/a/memory.current", "950\n");
	EXPECT_EQ(0, penstock_cgroup_available(root, "/a/b"));
	EXPECT_EQ(UINT64_MAX, penstock_cgroup_available(root, "/"));
	EXPECT_EQ(UINT64_MAX, penstock_cgroup_available(root, "/not/there"));
	/* version 1 */
	put("v1/c/memory.limit_in_bytes", "5000\n");
	put("v1/c/memory.usage_in_bytes", "4000\n");
	put("v1/c/memory.stat", "cache 1\ninactive_file 7\ntotal_inactive_file 400\ntotal_active_file 100\n");
	put("v1/memory.limit_in_bytes", "9223372036854771712\n");
	snprintf(root, sizeof(root), "%s", files_path("v1"));
	EXPECT_EQ(1500, penstock_cgroup_available(root, "/c"));
	EXPECT_EQ(UINT64_MAX, penstock_cgroup_available(root, ""));
}

/* /sys/dev/block/8:1 -> @device, a folder of the fake tree */
static void link_device(const char *device, const char *number)
{
	char from[512], to[512], name[64];

	snprintf(name, sizeof(name), "sys/dev/block/%s", number);
	put("sys/dev/block/x", "");
	snprintf(from, sizeof(from), "%s", files_path(device));
	snprintf(to, sizeof(to), "%s", files_path(name));
	ASSERT_EQ(0, symlink(from, to));
}

TEST(mem_finds_the_node_of_a_drive)
{
	char sys[512], from[512], to[512];

	put("sys/devices/pci0/0000:01:00.0/numa_node", "1\n");
	put("sys/devices/pci0/0000:01:00.0/nvme/nvme0/nvme0n1/nvme0n1p1/size", "8\n");
	put("sys/devices/pci0/0000:02:00.0/numa_node", "-1\n");
	put("sys/devices/pci0/0000:02:00.0/nvme/nvme1/nvme1n1/size", "8\n");
	put("sys/devices/virtual/block/dm-0/slaves/.keep", "");
	put("sys/devices/virtual/block/loop0/size", "8\n");
	link_device("sys/devices/pci0/0000:01:00.0/nvme/nvme0/nvme0n1/nvme0n1p1", "259:1");
	link_device("sys/devices/pci0/0000:02:00.0/nvme/nvme1/nvme1n1", "259:2");
	link_device("sys/devices/virtual/block/dm-0", "253:0");
	link_device("sys/devices/virtual/block/loop0", "7:0");
	snprintf(from, sizeof(from), "%s", files_path("sys/devices/pci0/0000:01:00.0/nvme/nvme0/nvme0n1/nvme0n1p1"));
	snprintf(to, sizeof(to), "%s", files_path("sys/devices/virtual/block/dm-0/slaves/nvme0n1p1"));
	ASSERT_EQ(0, symlink(from, to));
	snprintf(sys, sizeof(sys), "%s", files_path("sys"));
	EXPECT_EQ(1, penstock_mem_node_of_device(makedev(259, 1), sys));
	EXPECT_EQ(-1, penstock_mem_node_of_device(makedev(259, 2), sys));
	EXPECT_EQ(1, penstock_mem_node_of_device(makedev(253, 0), sys));
	EXPECT_EQ(-1, penstock_mem_node_of_device(makedev(7, 0), sys));
	EXPECT_EQ(-1, penstock_mem_node_of_device(makedev(9, 9), sys));
	EXPECT_EQ(-1, penstock_mem_node_of_file(-1));
	EXPECT_GE(penstock_mem_node_of_file(open("/proc/self/exe", O_RDONLY | O_CLOEXEC)), -1);
}

TEST_HARNESS_MAIN
