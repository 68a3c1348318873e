/* SPDX-License-Identifier: MIT */
/*
 * Memory limits by control groups: version 2 where its memory controller is
 * there and may be used, else version 1. A group that was made is empty of
 * processes when it is removed.
 */
#ifndef PENSTOCK_RUN_CGROUP_H
#define PENSTOCK_RUN_CGROUP_H

#include <stdint.h>
#include <sys/types.h>
#include <penstock/penstock.h>

/** struct run_cgroup - @path "" = none; @version 1 or 2 */
struct run_cgroup {
	char path[512];
	int version;
};

/** run_cgroup_create() - make a group below this process'. Return: 0; -EOPNOTSUPP with the reason. */
int run_cgroup_create(const char *name, struct run_cgroup *g, struct penstock_error *err);
/** run_cgroup_add() - move a process into it. Return: 0; -errno of the write. */
int run_cgroup_add(const struct run_cgroup *g, pid_t pid, struct penstock_error *err);
/** run_cgroup_limit() - most memory, page cache included, swap not used. Return: 0; -errno of the write. */
int run_cgroup_limit(const struct run_cgroup *g, uint64_t bytes, struct penstock_error *err);
/** run_cgroup_usage() - memory charged to it without the page cache. Return: 0; -errno of the reads. */
int run_cgroup_usage(const struct run_cgroup *g, uint64_t *bytes, struct penstock_error *err);
/** run_cgroup_limit_name() - the file that holds the limit, static storage */
const char *run_cgroup_limit_name(const struct run_cgroup *g);
/** run_cgroup_remove() - its processes have ended; waits for the kernel to notice */
void run_cgroup_remove(struct run_cgroup *g);

#endif
