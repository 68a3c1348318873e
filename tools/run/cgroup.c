// SPDX-License-Identifier: MIT
/* Control groups: found in /proc/self/mounts and /proc/self/cgroup. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../decoder/fail.h"
#include "cgroup.h"
#include "run.h"

static int write_text(const char *dir, const char *file, const char *text)
{
	char path[640];
	FILE *f;
	int rc = 0;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	f = fopen(path, "w");
	if (!f)
		return -errno;
	if (fputs(text, f) < 0)
		rc = -errno;
	/* The kernel answers when the buffer is flushed. */
	if (fclose(f) && !rc)
		rc = -errno;
	return rc;
}

static int read_u64(const char *dir, const char *file, uint64_t *v)
{
	char path[640], text[64];
	char *end;
	FILE *f;
	int rc = 0;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	f = fopen(path, "r");
	if (!f)
		return -errno;
	if (!fgets(text, sizeof(text), f)) {
		rc = -EIO;
	} else if (!strncmp(text, "max", 3)) {
		*v = UINT64_MAX;
	} else {
		*v = strtoull(text, &end, 10);
		rc = end == text ? -EIO : 0;
	}
	fclose(f);
	return rc;
}

/* The value of "key value" in memory.stat; 0 if there is none. */
static uint64_t stat_value(const char *dir, const char *key)
{
	char path[640], line[128];
	size_t len = strlen(key);
	uint64_t v = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/memory.stat", dir);
	f = fopen(path, "r");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, key, len) && line[len] == ' ')
			v = strtoull(line + len, NULL, 10);
	fclose(f);
	return v;
}

/* Where the hierarchy is mounted. */
static int find_mount(int version, char *dir, size_t room)
{
	char line[1024], at[512], type[32], opts[512];
	int rc = -ENOENT;
	FILE *f = fopen("/proc/self/mounts", "r");

	if (!f)
		return -errno;
	while (rc && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*s %511s %31s %511s", at, type, opts) != 3)
			continue;
		if (version == 2 ? strcmp(type, "cgroup2") : strcmp(type, "cgroup") || !strstr(opts, ",memory"))
			continue;
		rc = snprintf(dir, room, "%s", at) < (int)room ? 0 : -ENAMETOOLONG;
	}
	fclose(f);
	return rc;
}

/* This process' own group. A container may show a path that is not there: then the mount is all it has. */
static int own_group(int version, char *dir, size_t room)
{
	char line[1024], mount[256], *path;
	int rc = find_mount(version, mount, sizeof(mount));
	FILE *f;

	if (rc)
		return rc;
	f = fopen("/proc/self/cgroup", "r");
	if (!f)
		return -errno;
	rc = -ENOENT;
	while (rc && fgets(line, sizeof(line), f)) {
		if (version == 2 ? strncmp(line, "0::", 3) : !strstr(line, ":memory:") && !strstr(line, ",memory:"))
			continue;
		path = strchr(strchr(line, ':') + 1, ':') + 1;
		path[strcspn(path, "\n")] = 0;
		if (snprintf(dir, room, "%s%s", mount, strcmp(path, "/") ? path : "") >= (int)room)
			rc = -ENAMETOOLONG;
		else
			rc = 0;
	}
	fclose(f);
	if (!rc && access(dir, F_OK))
		snprintf(dir, room, "%s", mount);
	return rc;
}

static int create_below(const char *dir, const char *name, int version, struct run_cgroup *g)
{
	char path[640];
	int rc;

	rc = snprintf(g->path, sizeof(g->path), "%s/%s", dir, name);
	if (rc >= (int)sizeof(g->path))
		return -ENAMETOOLONG;
	if (mkdir(g->path, 0755))
		return -errno;
	g->version = version;
	snprintf(path, sizeof(path), "%s/%s", g->path, run_cgroup_limit_name(g));
	if (!access(path, W_OK))
		return 0;
	rmdir(g->path);
	return -EOPNOTSUPP;
}

int run_cgroup_create(const char *name, struct run_cgroup *g, struct penstock_error *err)
{
	char dir[480] = "", why[2][256] = { "not mounted", "not mounted" };
	char *slash;
	int rc, v;

	for (v = 2; v >= 1; v--) {
		if (own_group(v, dir, sizeof(dir)))
			continue;
		rc = create_below(dir, name, v, g);
		/* Version 2 gives no controllers below a group with processes: beside it, then. */
		slash = strrchr(dir, '/');
		if (rc && v == 2 && slash && strstr(slash, ".scope")) {
			*slash = 0;
			rc = create_below(dir, name, v, g);
		}
		if (!rc)
			return 0;
		snprintf(why[v - 1], sizeof(why[0]), "%.200s: %s", dir,
			 rc == -EOPNOTSUPP ? "no memory controller in it" : strerrordesc_np(-rc));
	}
	g->path[0] = 0;
	return decoder_fail(err, -EOPNOTSUPP, "no control group with a memory limit: version 2 %s; version 1 %s",
			    why[1], why[0]);
}

const char *run_cgroup_limit_name(const struct run_cgroup *g)
{
	return g->version == 2 ? "memory.max" : "memory.limit_in_bytes";
}

int run_cgroup_add(const struct run_cgroup *g, pid_t pid, struct penstock_error *err)
{
	char text[32];
	int rc;

	snprintf(text, sizeof(text), "%d\n", (int)pid);
	rc = write_text(g->path, "cgroup.procs", text);
	return rc ? decoder_fail(err, rc, "control group %s: process %d", g->path, (int)pid) : 0;
}

int run_cgroup_limit(const struct run_cgroup *g, uint64_t bytes, struct penstock_error *err)
{
	char text[32];
	int rc;

	/* Swapped slots would be read back by faults: another experiment. Where it cannot be set there is no swap. */
	if (g->version == 2)
		(void)write_text(g->path, "memory.swap.max", "0\n");
	else
		(void)write_text(g->path, "memory.swappiness", "0\n");
	snprintf(text, sizeof(text), "%llu\n", (unsigned long long)bytes);
	rc = write_text(g->path, run_cgroup_limit_name(g), text);
	return rc ? decoder_fail(err, rc, "control group %s: limit of %llu bytes", g->path, (unsigned long long)bytes)
		  : 0;
}

static uint64_t file_pages(const char *dir, int version)
{
	return version == 2 ? stat_value(dir, "file") : stat_value(dir, "total_cache");
}

int run_cgroup_usage(const struct run_cgroup *g, uint64_t *bytes, struct penstock_error *err)
{
	uint64_t used, cache;
	int rc;

	rc = read_u64(g->path, g->version == 2 ? "memory.current" : "memory.usage_in_bytes", &used);
	if (rc)
		return decoder_fail(err, rc, "control group %s: memory in use", g->path);
	cache = file_pages(g->path, g->version);
	*bytes = used > cache ? used - cache : 0;
	return 0;
}

void run_cgroup_remove(struct run_cgroup *g)
{
	struct timespec pause = { .tv_nsec = 10000000 };
	int i;

	if (!g->path[0])
		return;
	for (i = 0; i < 100 && rmdir(g->path) && errno == EBUSY; i++)
		nanosleep(&pause, NULL);
	g->path[0] = 0;
}

/* What the own group, or one above it, leaves. */
static uint64_t group_available(int version)
{
	const char *const most = version == 2 ? "memory.max" : "memory.limit_in_bytes";
	const char *const used = version == 2 ? "memory.current" : "memory.usage_in_bytes";
	uint64_t left = UINT64_MAX, limit, now, mine;
	char dir[512], *slash;

	if (own_group(version, dir, sizeof(dir)))
		return UINT64_MAX;
	while (!read_u64(dir, most, &limit)) {
		/* Version 1 writes a number near 2^63 for "no limit". */
		if (limit < INT64_MAX / 2 && !read_u64(dir, used, &now)) {
			mine = now - (file_pages(dir, version) < now ? file_pages(dir, version) : now);
			mine = limit > mine ? limit - mine : 0;
			left = mine < left ? mine : left;
		}
		slash = strrchr(dir, '/');
		if (!slash || slash == dir)
			break;
		*slash = 0;
	}
	return left;
}

uint64_t run_memory_available(void)
{
	uint64_t left = UINT64_MAX, group;
	char line[128];
	FILE *f = fopen("/proc/meminfo", "r");
	int v;

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "MemAvailable:", 13))
			left = strtoull(line + 13, NULL, 10) * 1024;
	if (f)
		fclose(f);
	for (v = 1; v <= 2; v++) {
		group = group_available(v);
		left = group < left ? group : left;
	}
	return left;
}
