/* SPDX-License-Identifier: MIT */
/*
 * The driver's node, /dev/penstock: one function a command, in plain C records.
 * drv.c alone knows the ABI; it translates error numbers and reasons into text
 * and nothing else. A descriptor of the node stands for all that was made with
 * it: targets (what may be read from), regions (memory to read into).
 *
 * Reasons are numbers of the ABI, 0 for none; penstock_drv_reason_text() says
 * what each means and what can be done.
 */
#ifndef PENSTOCK_DRV_H
#define PENSTOCK_DRV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <penstock/penstock.h>

#define PENSTOCK_DRV_NODE	"/dev/penstock"
/* Bytes of the command area of a 128-byte SQE. */
#define PENSTOCK_DRV_CMD_BYTES	80u
/* No offset: memory that cannot be mapped, or that is in no BAR. */
#define PENSTOCK_DRV_NOWHERE	UINT64_MAX

/**
 * struct penstock_drv_info - what this driver on this kernel can do
 * @uring_read: reads by io_uring commands
 * @region_read: reads by ioctl
 * @peer: regions in peer memory
 * @peer_mmap: such regions can be mapped
 * @dmabuf: regions can be exported
 * @peer_reason: why @peer is false, or 0
 * @page_size: regions are multiples of it
 * @max_order: largest order of driver memory
 * @max_read: longest read, in bytes
 * @max_region: longest region, in bytes
 * @peer_limit: bytes of peer memory that one user may hold; 0 = no limit
 * @peer_used: bytes that this user holds
 * @nr_peers: peers there are
 * @generation: changes whenever a PCI device comes or goes
 */
struct penstock_drv_info {
	bool uring_read;
	bool region_read;
	bool peer;
	bool peer_mmap;
	bool dmabuf;
	uint32_t peer_reason;
	uint32_t page_size;
	uint32_t max_order;
	uint64_t max_read;
	uint64_t max_region;
	uint64_t peer_limit;
	uint64_t peer_used;
	uint32_t nr_peers;
	uint32_t generation;
};

/** struct penstock_drv_pci - where a device is; domain UINT32_MAX = it is no PCI device */
struct penstock_drv_pci {
	uint32_t domain;
	uint32_t bus;
	uint32_t devfn;
};

/** struct penstock_drv_peer - a device whose memory can be read into; @reason: why not, or 0 */
struct penstock_drv_peer {
	uint32_t id;
	uint32_t reason;
	struct penstock_drv_pci pci;
	uint32_t bar;
	uint32_t vendor;
	uint32_t device;
	int32_t numa_node;
	bool is_bar;		/* a BAR that the driver is bound to; else NVIDIA memory, named by address */
	bool needs_flush;
	bool mappable;
	bool for_tests;
	uint64_t len;
	uint64_t available;
};

/**
 * struct penstock_drv_target - a file or block device to read from
 * @peer_reason: why it can be read into host memory only, or 0
 * @nowait_len: longest read that needs no worker thread; 0 = none
 */
struct penstock_drv_target {
	uint32_t id;
	uint32_t peer_reason;
	bool block;
	uint32_t off_align;
	uint32_t mem_align;
	int32_t numa_node;
	struct penstock_drv_pci pci;
	uint32_t nowait_len;
};

/**
 * struct penstock_drv_region - memory to read into
 * @nr_segments: physically contiguous runs
 * @mmap_off: for penstock_drv_map(), or PENSTOCK_DRV_NOWHERE
 * @peer_off: where in the peer's memory, or PENSTOCK_DRV_NOWHERE
 */
struct penstock_drv_region {
	uint32_t id;
	uint32_t nr_segments;
	uint64_t mmap_off;
	uint64_t peer_off;
};

enum penstock_drv_map_type {
	PENSTOCK_DRV_MAP_NONE = 0, PENSTOCK_DRV_MAP_HOST, PENSTOCK_DRV_MAP_BUS, PENSTOCK_DRV_MAP_BRIDGE,
};

/** struct penstock_drv_probe - is there a path? @distance: PCI hops, -1 unknown; @reason: why not, or 0 */
struct penstock_drv_probe {
	enum penstock_drv_map_type map;
	int32_t distance;
	bool allowed;
	uint32_t reason;
	uint32_t generation;
};

/** struct penstock_drv_read - one read; @res: bytes, or -errno */
struct penstock_drv_read {
	uint32_t target;
	uint32_t region;
	uint64_t off;
	uint64_t region_off;
	uint32_t len;
	int res;
};

/** struct penstock_drv_stat - counters of a region, or of all; see struct penstock_region_stat of the ABI */
struct penstock_drv_stat {
	uint32_t in_flight;
	uint64_t reads;
	uint64_t bytes;
	uint64_t shorts;
	uint64_t errors;
	uint64_t refused;
	uint64_t punted;
	uint64_t resubmitted;
	uint64_t fallbacks;
	uint64_t unreachable;
};

enum penstock_drv_event_kind {
	PENSTOCK_DRV_REVOKED = 1, PENSTOCK_DRV_TOPOLOGY, PENSTOCK_DRV_LOST,
};

/** struct penstock_drv_event - what happened; @region and @reason for REVOKED */
struct penstock_drv_event {
	enum penstock_drv_event_kind kind;
	uint32_t region;
	uint32_t reason;
};

/**
 * penstock_drv_reason_name() - "UNREACHABLE", as the ABI's headers have it
 * Return: NULL for a number that has no meaning here.
 */
const char *penstock_drv_reason_name(uint32_t reason);
/** penstock_drv_reason_text() - cause and remedy, one sentence; never NULL, also for unknown numbers */
const char *penstock_drv_reason_text(uint32_t reason);

/**
 * penstock_drv_open() - open the node
 * @path: PENSTOCK_DRV_NODE
 * Return: a descriptor; -ENODEV no node (the module is not loaded); -EACCES not in its group; -EOPNOTSUPP another
 * device is behind that name; others as open(2). The text has the remedy.
 */
int penstock_drv_open(const char *path, struct penstock_error *err);
void penstock_drv_close(int drv);

/** penstock_drv_info() - Return: 0; -ENOTTY the node is of another driver. */
int penstock_drv_info(int drv, struct penstock_drv_info *info, struct penstock_error *err);
/** penstock_drv_peer() - the peer after @after (0: the first). Return: 0; -ENOENT there is none; no text for that. */
int penstock_drv_peer(int drv, uint32_t after, struct penstock_drv_peer *p, struct penstock_error *err);

/**
 * penstock_drv_target_add() - let the driver read from a file
 * @fd: open for reading; the target keeps the file
 * @reason: receives the driver's reason where it refuses, may be NULL
 * Return: 0; -EOPNOTSUPP with the reason; -EBADF; -ENOSPC too many.
 */
int penstock_drv_target_add(int drv, int fd, struct penstock_drv_target *t, uint32_t *reason,
			    struct penstock_error *err);
/** penstock_drv_target_del() - Return: 0; -ENOENT. */
int penstock_drv_target_del(int drv, uint32_t target, struct penstock_error *err);

/**
 * penstock_drv_region_alloc() - host memory of the driver
 * @len: a multiple of the page size; @numa_node: -1 = any
 * Return: 0; -ENOMEM no memory or above RLIMIT_MEMLOCK; -EINVAL; -ENOSPC too many regions.
 */
int penstock_drv_region_alloc(int drv, uint64_t len, int numa_node, uint32_t order, struct penstock_drv_region *r,
			      struct penstock_error *err);
/** penstock_drv_region_pin() - the caller's memory. Return: 0; -EFAULT, -EOPNOTSUPP, -EREMOTEIO what it is; -ENOMEM. */
int penstock_drv_region_pin(int drv, void *addr, uint64_t len, struct penstock_drv_region *r,
			    struct penstock_error *err);
/**
 * penstock_drv_region_peer() - memory in a peer's BAR
 * @reason: receives the driver's reason where it refuses, may be NULL
 * Return: 0; -EOPNOTSUPP with the reason; -ENOENT no such peer; -ENOSPC no such free range, or above the user's limit.
 */
int penstock_drv_region_peer(int drv, uint32_t peer, uint64_t len, struct penstock_drv_region *r, uint32_t *reason,
			     struct penstock_error *err);
/** penstock_drv_region_import() - a region on the memory of an exported one. Return: 0; -EOPNOTSUPP with the reason. */
int penstock_drv_region_import(int drv, int dmabuf, uint64_t off, uint64_t len, struct penstock_drv_region *r,
			       uint32_t *reason, struct penstock_error *err);
/** penstock_drv_region_probe() - is there a path from a target to a region? Return: 0; -ENOENT; -ENODEV revoked. */
int penstock_drv_region_probe(int drv, uint32_t region, uint32_t target, struct penstock_drv_probe *p,
			      struct penstock_error *err);
/**
 * penstock_drv_read() - read, one after the other, until the data is there
 * @nr: 1 to 1024; each read's result is in its @res
 * Return: 0 all were done; -EINTR those not done have res -EINTR; -errno none was done.
 */
int penstock_drv_read(int drv, struct penstock_drv_read *reads, uint32_t nr);
/**
 * penstock_drv_region_free() - give a region back
 * @wait: for I/O in flight; its mappings give SIGBUS afterwards
 * Return: 0; -EBUSY with the number in flight; -ENOENT.
 */
int penstock_drv_region_free(int drv, uint32_t region, bool wait, struct penstock_error *err);
/** penstock_drv_region_export() - Return: a dma-buf's descriptor; -EOPNOTSUPP memory of the user; -ENOENT. */
int penstock_drv_region_export(int drv, uint32_t region, struct penstock_error *err);
/** penstock_drv_region_stat() - counters of a region, or (0) of all of this descriptor. Return: 0; -ENOENT. */
int penstock_drv_region_stat(int drv, uint32_t region, struct penstock_drv_stat *s, struct penstock_error *err);

/** penstock_drv_map() - map a region, shared. Return: the address, or NULL with text. */
void *penstock_drv_map(int drv, const struct penstock_drv_region *r, size_t len, struct penstock_error *err);

/**
 * penstock_drv_event() - the next event, if there is one now
 * Return: 1 and @e; 0 there is none; -errno.
 */
int penstock_drv_event(int drv, struct penstock_drv_event *e);

/**
 * penstock_drv_read_cmd() - a read as an io_uring command
 * @cmd: the SQE's command area, PENSTOCK_DRV_CMD_BYTES; filled
 * Return: the command number for sqe->cmd_op.
 */
uint32_t penstock_drv_read_cmd(const struct penstock_drv_read *r, void *cmd);

#endif
