// SPDX-License-Identifier: MIT
/*
 * How many CPUs this process may use: its affinity mask, and the CPU quota of
 * its control groups (v2: cpu.max, v1: cpu.cfs_quota_us), rounded up. A group's
 * quota binds all groups below it, so each ancestor is looked at.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cpus.h"

static unsigned int ceil_quota(long long quota, long long period)
{
	if (quota <= 0 || period <= 0)
		return 0;
	return (unsigned int)((quota + period - 1) / period);
}

static int read_line(const char *path, char *buf, int len)
{
	FILE *f = fopen(path, "re");
	int rc = -1;

	if (!f)
		return -1;
	if (fgets(buf, len, f))
		rc = 0;
	fclose(f);
	return rc;
}

/* the quota that the group @dir itself states, in whole CPUs; 0 = none */
static unsigned int quota_of(const char *dir)
{
	char path[4200], buf[64];
	long long quota, period;

	snprintf(path, sizeof(path), "%s/cpu.max", dir);
	if (!read_line(path, buf, sizeof(buf)))
		return sscanf(buf, "%lld %lld", &quota, &period) == 2 ? ceil_quota(quota, period) : 0;
	snprintf(path, sizeof(path), "%s/cpu.cfs_quota_us", dir);
	if (read_line(path, buf, sizeof(buf)))
		return 0;
	quota = atoll(buf);
	snprintf(path, sizeof(path), "%s/cpu.cfs_period_us", dir);
	if (read_line(path, buf, sizeof(buf)))
		return 0;
	return ceil_quota(quota, atoll(buf));
}

static void take_least(unsigned int *least, unsigned int v)
{
	if (v && (!*least || v < *least))
		*least = v;
}

/* @root/@group and every directory above it, down to @root */
static void walk_up(const char *root, const char *group, unsigned int *least)
{
	char dir[4096];
	size_t root_len = strlen(root);
	char *slash;

	if (snprintf(dir, sizeof(dir), "%s%s", root, group) >= (int)sizeof(dir))
		return;
	for (;;) {
		take_least(least, quota_of(dir));
		slash = strrchr(dir, '/');
		if (!slash || (size_t)(slash - dir) < root_len)
			return;
		*slash = '\0';
	}
}

static bool has_cpu(const char *controllers)
{
	const char *p = controllers;

	while (p) {
		if (!strncmp(p, "cpu", 3) && (p[3] == ',' || !p[3]))
			return true;
		p = strchr(p, ',');
		if (p)
			p++;
	}
	return false;
}

unsigned int penstock_cpus_quota(const char *proc_cgroup, const char *sys_root)
{
	char line[4096], root[512], *controllers, *group;
	FILE *f = fopen(proc_cgroup, "re");
	unsigned int least = 0;

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		controllers = strchr(line, ':');
		group = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!group)
			continue;
		controllers++;
		*group++ = '\0';
		if (!*controllers)
			snprintf(root, sizeof(root), "%s", sys_root);
		else if (has_cpu(controllers))
			snprintf(root, sizeof(root), "%s/%s", sys_root, controllers);
		else
			continue;
		/* the root group is written "/" */
		walk_up(root, strcmp(group, "/") ? group : "", &least);
	}
	fclose(f);
	return least;
}

unsigned int penstock_cpus_allowed(void)
{
	unsigned int n = 1, quota;
	cpu_set_t *set;
	int cpus;

	/* the kernel refuses a mask shorter than its own: try longer ones */
	for (cpus = 1024; cpus <= 1 << 16; cpus *= 2) {
		set = CPU_ALLOC(cpus);
		if (!set)
			break;
		if (!sched_getaffinity(0, CPU_ALLOC_SIZE(cpus), set)) {
			n = (unsigned int)CPU_COUNT_S(CPU_ALLOC_SIZE(cpus), set);
			CPU_FREE(set);
			break;
		}
		CPU_FREE(set);
	}
	quota = penstock_cpus_quota("/proc/self/cgroup", "/sys/fs/cgroup");
	if (quota && quota < n)
		n = quota;
	return n ? n : 1;
}
