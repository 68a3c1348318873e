/* SPDX-License-Identifier: MIT */
/*
 * What test programs inside a virtual machine share: TAP, the module's
 * commands, rings with large submission entries, files of sysfs, the host.
 */
#ifndef GUEST_H
#define GUEST_H

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/penstock.h>

#define NODE "/dev/penstock"

static unsigned int tap_nr, tap_failed;

static inline bool tap(bool good, const char *fmt, ...)
{
	va_list args;

	printf("%sok %u - ", good ? "" : "not ", ++tap_nr);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	tap_failed += !good;
	return good;
}

static inline void tap_skip(const char *what, const char *why)
{
	printf("ok %u - %s # SKIP %s\n", ++tap_nr, what, why);
	fflush(stdout);
}

static inline int tap_done(void)
{
	printf("1..%u\n", tap_nr);
	return tap_failed ? 1 : 0;
}

static inline double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* ---- sysfs, debugfs, the host ---- */

static inline int put_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY), ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

static inline int get_file(const char *path, char *buf, size_t len)
{
	int fd = open(path, O_RDONLY);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, buf, len - 1);
	close(fd);
	if (n < 0)
		return -EIO;
	buf[n] = '\0';
	return 0;
}

/* ---- the module's commands: 0 or -errno ---- */

static inline int node_open(void)
{
	int fd = open(NODE, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static inline int node_ioctl(int fd, unsigned long cmd, void *arg)
{
	return ioctl(fd, cmd, arg) < 0 ? -errno : 0;
}

static inline int target_add(int node, int fd, struct penstock_target_add *add)
{
	*add = (struct penstock_target_add) { .size = sizeof(*add), .fd = fd };
	return node_ioctl(node, PENSTOCK_IOC_TARGET_ADD, add);
}

static inline int region_alloc(int node, uint64_t len, unsigned int order, struct penstock_region_alloc *alloc)
{
	*alloc = (struct penstock_region_alloc) {
		.size = sizeof(*alloc), .length = len, .numa_node = -1, .order = order };
	return node_ioctl(node, PENSTOCK_IOC_REGION_ALLOC, alloc);
}

static inline int region_bar(int node, uint32_t peer_id, uint64_t len, struct penstock_region_peer *peer)
{
	*peer = (struct penstock_region_peer) {
		.size = sizeof(*peer), .kind = PENSTOCK_PEER_BAR, .peer_id = peer_id, .length = len, .fd = -1 };
	return node_ioctl(node, PENSTOCK_IOC_REGION_PEER, peer);
}

static inline int region_free(int node, uint32_t id, unsigned int flags, uint32_t *in_flight)
{
	struct penstock_region_free cmd = { .size = sizeof(cmd), .flags = flags, .region_id = id };
	int ret = node_ioctl(node, PENSTOCK_IOC_REGION_FREE, &cmd);

	if (in_flight)
		*in_flight = cmd.out_in_flight;
	return ret;
}

static inline int region_stat(int node, uint32_t id, struct penstock_region_stat *stat)
{
	*stat = (struct penstock_region_stat) { .size = sizeof(*stat), .region_id = id };
	return node_ioctl(node, PENSTOCK_IOC_REGION_STAT, stat);
}

/* The first peer that can be used. */
static inline int peer_first(int node, struct penstock_peer_enum *peer)
{
	int ret;

	*peer = (struct penstock_peer_enum) { .size = sizeof(*peer) };
	for (;;) {
		ret = node_ioctl(node, PENSTOCK_IOC_PEER_ENUM, peer);
		if (ret || !peer->out_reason)
			return ret;
		peer->after_peer_id = peer->out_peer_id;
	}
}

/* ---- reads ---- */

/* One read by the ioctl: bytes, or -errno. */
static inline int64_t read_ioctl(int node, uint32_t target, uint32_t region, uint64_t offset, uint64_t region_offset,
				 uint32_t len)
{
	struct penstock_read read = { .target_id = target, .region_id = region, .offset = offset,
		.region_offset = region_offset, .length = len, .out_result = -12345 };
	struct penstock_region_read cmd = { .size = sizeof(cmd), .nr_reads = 1, .read_size = sizeof(read),
		.reads_uptr = (uintptr_t)&read };
	int ret = node_ioctl(node, PENSTOCK_IOC_REGION_READ, &cmd);

	return ret ? ret : read.out_result;
}

static inline int ring_init(struct io_uring *ring, unsigned int entries, unsigned int flags)
{
	return io_uring_queue_init(entries, ring, flags | IORING_SETUP_SQE128);
}

/* An entry for one read; the caller submits. */
static inline struct io_uring_sqe *ring_read(struct io_uring *ring, int node, uint32_t target, uint32_t region,
					     uint64_t offset, uint64_t region_offset, uint32_t len, uint64_t data)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct penstock_uring_read *cmd;

	if (!sqe)
		return NULL;
	memset(sqe, 0, 128);
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = node;
	sqe->cmd_op = PENSTOCK_URING_CMD_READ;
	sqe->user_data = data;
	cmd = (void *)sqe->cmd;
	*cmd = (struct penstock_uring_read) {
		.target_id = target, .region_id = region, .length = len, .offset = offset,
		.region_offset = region_offset };
	return sqe;
}

/* Wait at most @seconds for one completion; -ETIME. */
static inline int ring_reap(struct io_uring *ring, double seconds, struct io_uring_cqe *copy)
{
	struct __kernel_timespec ts = { .tv_sec = (long)seconds, .tv_nsec = (long)((seconds - (long)seconds) * 1e9) };
	struct io_uring_cqe *cqe;
	int ret = io_uring_wait_cqe_timeout(ring, &cqe, &ts);

	if (ret)
		return ret;
	*copy = *cqe;
	io_uring_cqe_seen(ring, cqe);
	return 0;
}

#endif
