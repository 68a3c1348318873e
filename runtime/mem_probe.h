/* SPDX-License-Identifier: MIT */
/* What /proc, /sys and the cgroup say of memory: how much there is, of which pages, near which drive. */
#ifndef PENSTOCK_MEM_PROBE_H
#define PENSTOCK_MEM_PROBE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/** penstock_mem_available() - bytes that can be allocated now without swapping or the OOM killer; UINT64_MAX unknown */
uint64_t penstock_mem_available(void);

/**
 * penstock_cgroup_available() - the same, as far as the memory cgroups go; UINT64_MAX without a limit
 * @root: where the tree is mounted: "/sys/fs/cgroup", or "/sys/fs/cgroup/memory" of version 1
 * @path: the group in it, "/a/b"; its parents count too
 */
uint64_t penstock_cgroup_available(const char *root, const char *path);

/** penstock_mem_limits_text() - "N bytes are available (M by the cgroup ...)" into @buf */
void penstock_mem_limits_text(char *buf, size_t len);

/** penstock_mem_huge_bytes() - bytes of a range that are mapped by 2 MiB pages now; 0 also where nobody tells */
uint64_t penstock_mem_huge_bytes(void *base, size_t len);

/**
 * penstock_mem_node_of_device() - NUMA node of a block device, or -1
 * @dev: the device, or a partition, or a volume (then the node of its first drive)
 * @sys: where sysfs is mounted, "/sys"
 */
int penstock_mem_node_of_device(dev_t dev, const char *sys);

#endif
