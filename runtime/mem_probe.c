// SPDX-License-Identifier: MIT
/* Memory as /proc, /sys and the cgroups describe it: see mem_probe.h. What cannot be read limits nothing. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "mem.h"
#include "mem_probe.h"
#include "util.h"

#define HUGE		(2ul << 20)
/* Volumes on volumes on volumes: enough, and no loop. */
#define MAX_STACK	8

/* PAGEMAP_SCAN came with Linux 6.7, after many a header. */
struct scan_arg {
	uint64_t size;
	uint64_t flags;
	uint64_t start;
	uint64_t end;
	uint64_t walk_end;
	uint64_t vec;
	uint64_t vec_len;
	uint64_t max_pages;
	uint64_t category_inverted;
	uint64_t category_mask;
	uint64_t category_anyof_mask;
	uint64_t return_mask;
};

struct scan_region {
	uint64_t start;
	uint64_t end;
	uint64_t categories;
};

#define SCAN_IOCTL	_IOWR('f', 16, struct scan_arg)
#define SCAN_IS_HUGE	(1u << 6)

/* The number after @key at the start of a line ("" = the first line), or UINT64_MAX. */
static uint64_t file_number(const char *path, const char *key)
{
	uint64_t v = UINT64_MAX;
	size_t len = strlen(key);
	char line[256];
	FILE *f;

	f = fopen(path, "re");
	if (!f)
		return v;
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, key, len) || (len && line[len] != ' ' && line[len] != ':'))
			continue;
		if (sscanf(line + len + (len && line[len] == ':'), "%" SCNu64, &v) != 1)
			v = UINT64_MAX;
		break;
	}
	fclose(f);
	return v;
}

static uint64_t group_number(const char *dir, const char *file, const char *key)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/%s", dir, file) >= (int)sizeof(path))
		return UINT64_MAX;
	return file_number(path, key);
}

static uint64_t or_zero(uint64_t v)
{
	return v == UINT64_MAX ? 0 : v;
}

/* One group. Its page cache of files goes when memory is wanted, so it counts as free. */
static uint64_t one_group(const char *dir)
{
	uint64_t max, used, cached;

	max = group_number(dir, "memory.max", "");
	if (max != UINT64_MAX) {
		used = or_zero(group_number(dir, "memory.current", ""));
		cached = or_zero(group_number(dir, "memory.stat", "inactive_file")) +
			 or_zero(group_number(dir, "memory.stat", "active_file"));
	} else {
		max = group_number(dir, "memory.limit_in_bytes", "");
		used = or_zero(group_number(dir, "memory.usage_in_bytes", ""));
		cached = or_zero(group_number(dir, "memory.stat", "total_inactive_file")) +
			 or_zero(group_number(dir, "memory.stat", "total_active_file"));
	}
	/* version 1 writes "no limit" as a number near 2^63 */
	if (max >= INT64_MAX - (1u << 20))
		return UINT64_MAX;
	used -= penstock_min_u64(used, cached);
	return max - penstock_min_u64(max, used);
}

uint64_t penstock_cgroup_available(const char *root, const char *path)
{
	uint64_t least = UINT64_MAX;
	char dir[PATH_MAX];
	size_t root_len = strlen(root);
	char *slash;

	if (snprintf(dir, sizeof(dir), "%s%s", root, path) >= (int)sizeof(dir))
		return UINT64_MAX;
	for (;;) {
		least = penstock_min_u64(least, one_group(dir));
		slash = strrchr(dir, '/');
		if (!slash || (size_t)(slash - dir) < root_len)
			return least;
		*slash = 0;
	}
}

static uint64_t own_cgroup_available(void)
{
	uint64_t least = UINT64_MAX;
	char line[PATH_MAX + 64];
	FILE *f = fopen("/proc/self/cgroup", "re");

	if (!f)
		return least;
	while (fgets(line, sizeof(line), f)) {
		char *ctrl = strchr(line, ':'), *path = ctrl ? strchr(ctrl + 1, ':') : NULL;

		if (!path)
			continue;
		*path++ = 0;
		path[strcspn(path, "\n")] = 0;
		if (!ctrl[1])
			least = penstock_min_u64(least, penstock_cgroup_available("/sys/fs/cgroup", path));
		else if (!strcmp(ctrl + 1, "memory"))
			least = penstock_min_u64(least, penstock_cgroup_available("/sys/fs/cgroup/memory", path));
	}
	fclose(f);
	return least;
}

static uint64_t system_available(void)
{
	uint64_t kib = file_number("/proc/meminfo", "MemAvailable");

	return kib > UINT64_MAX / 1024 ? UINT64_MAX : kib * 1024;
}

uint64_t penstock_mem_available(void)
{
	return penstock_min_u64(system_available(), own_cgroup_available());
}

void penstock_mem_limits_text(char *buf, size_t len)
{
	uint64_t group = own_cgroup_available();
	int n;

	n = snprintf(buf, len, "%" PRIu64 " bytes are available on this machine", system_available());
	if (group != UINT64_MAX && n > 0 && (size_t)n < len)
		snprintf(buf + n, len - (size_t)n, ", %" PRIu64 " to its cgroup", group);
}

/* Return: bytes, or -1 where the kernel cannot scan. */
static int64_t scan_huge(void *base, size_t len)
{
	struct scan_region regions[64];
	struct scan_arg arg = {
		.size = sizeof(arg), .start = (uintptr_t)base, .end = (uintptr_t)base + len,
		.vec = (uintptr_t)regions, .vec_len = PENSTOCK_ARRAY_SIZE(regions),
		.category_mask = SCAN_IS_HUGE, .return_mask = SCAN_IS_HUGE,
	};
	int64_t bytes = 0;
	int fd, i, nr;

	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	while (arg.start < arg.end) {
		nr = ioctl(fd, SCAN_IOCTL, &arg);
		if (nr < 0 || arg.walk_end <= arg.start) {
			bytes = nr < 0 ? -1 : bytes;
			break;
		}
		for (i = 0; i < nr; i++)
			bytes += (int64_t)(regions[i].end - regions[i].start);
		arg.start = arg.walk_end;
	}
	close(fd);
	return bytes;
}

/* Mappings may have been merged with their neighbours: only wholly huge ones are counted. */
static uint64_t smaps_huge(void *base, size_t len)
{
	uint64_t start = (uintptr_t)base, end = start + len, from = 0, to = 0, lo, hi, kib, bytes = 0;
	char line[512];
	FILE *f = fopen("/proc/self/smaps", "re");

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &lo, &hi) == 2) {
			from = lo;
			to = hi;
		} else if (sscanf(line, "AnonHugePages: %" SCNu64 " kB", &kib) == 1 && kib * 1024 == to - from) {
			lo = penstock_max_u64(from, start);
			hi = penstock_min_u64(to, end);
			bytes += lo < hi ? hi - lo : 0;
		}
	}
	fclose(f);
	return bytes;
}

uint64_t penstock_mem_huge_bytes(void *base, size_t len)
{
	int64_t bytes = scan_huge(base, len);

	return bytes >= 0 ? (uint64_t)bytes : smaps_huge(base, len);
}

/* The first name in a folder's slaves/, which volumes have. Return: whether there is one. */
static bool first_slave(const char *dev_dir, char *slave, size_t len)
{
	char pattern[PATH_MAX];
	bool found = false;
	struct dirent *e;
	DIR *d;

	if (snprintf(pattern, sizeof(pattern), "%s/slaves", dev_dir) >= (int)sizeof(pattern))
		return false;
	d = opendir(pattern);
	if (!d)
		return false;
	while (!found && (e = readdir(d)))
		found = e->d_name[0] != '.' &&
			snprintf(slave, len, "%s/%s", pattern, e->d_name) < (int)len;
	closedir(d);
	return found;
}

int penstock_mem_node_of_device(dev_t dev, const char *sys)
{
	char name[PATH_MAX], dir[PATH_MAX], *slash;
	uint64_t node;
	int i;

	if (snprintf(name, sizeof(name), "%s/dev/block/%u:%u", sys, major(dev), minor(dev)) >= (int)sizeof(name))
		return -1;
	for (i = 0; i < MAX_STACK; i++) {
		if (!realpath(name, dir))
			return -1;
		if (!first_slave(dir, name, sizeof(name)))
			break;
	}
	/* up from the drive: the first device that has a node is its controller */
	while ((slash = strrchr(dir, '/')) && slash != dir) {
		node = group_number(dir, "numa_node", "");
		if (node < INT_MAX)
			return (int)node;
		*slash = 0;
	}
	return -1;
}

int penstock_mem_node_of_file(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -1;
	return penstock_mem_node_of_device(S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev, "/sys");
}
