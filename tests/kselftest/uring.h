/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A ring of io_uring by its system calls, for one thread: the tests need no
 * library.
 */
#ifndef PENSTOCK_URING_H
#define PENSTOCK_URING_H

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/io_uring.h>
#include <linux/penstock.h>
#include <linux/time_types.h>

struct uring {
	int fd;
	uint32_t queued;	/* entries that the kernel has not taken */
	size_t sqe_size, ring_len, sqes_len;
	char *ring, *sqes;
	uint32_t *sq_tail, *sq_array, *cq_head, *cq_tail;
	uint32_t sq_mask, cq_mask;
	struct io_uring_cqe *cqes;
};

static inline uint32_t *uring_at(const struct uring *ring, uint32_t offset)
{
	return (uint32_t *)(void *)(ring->ring + offset);
}

static inline void uring_exit(struct uring *ring)
{
	if (ring->fd < 0)
		return;
	if (ring->sqes != MAP_FAILED)
		munmap(ring->sqes, ring->sqes_len);
	if (ring->ring != MAP_FAILED)
		munmap(ring->ring, ring->ring_len);
	close(ring->fd);
	ring->fd = -1;
}

/* A ring of @entries, a power of two; or -errno. No more are queued before they are submitted. */
static inline int uring_init_entries(struct uring *ring, uint32_t entries, uint32_t flags)
{
	struct io_uring_params params = { .flags = flags };
	size_t sq_len, cq_len;
	int ret;

	*ring = (struct uring) { .fd = (int)syscall(__NR_io_uring_setup, entries, &params), .ring = MAP_FAILED,
		.sqes = MAP_FAILED };
	if (ring->fd < 0)
		return -errno;
	sq_len = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
	cq_len = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
	ring->ring_len = sq_len > cq_len ? sq_len : cq_len;
	ring->sqe_size = flags & IORING_SETUP_SQE128 ? 128 : 64;
	ring->sqes_len = params.sq_entries * ring->sqe_size;
	ring->ring = mmap(NULL, ring->ring_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd,
			  IORING_OFF_SQ_RING);
	ring->sqes = mmap(NULL, ring->sqes_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd,
			  IORING_OFF_SQES);
	if (ring->ring == MAP_FAILED || ring->sqes == MAP_FAILED || !(params.features & IORING_FEAT_SINGLE_MMAP)) {
		ret = ring->ring == MAP_FAILED || ring->sqes == MAP_FAILED ? -errno : -EOPNOTSUPP;
		uring_exit(ring);
		return ret;
	}
	ring->sq_tail = uring_at(ring, params.sq_off.tail);
	ring->sq_array = uring_at(ring, params.sq_off.array);
	ring->sq_mask = *uring_at(ring, params.sq_off.ring_mask);
	ring->cq_head = uring_at(ring, params.cq_off.head);
	ring->cq_tail = uring_at(ring, params.cq_off.tail);
	ring->cq_mask = *uring_at(ring, params.cq_off.ring_mask);
	ring->cqes = (struct io_uring_cqe *)(void *)(ring->ring + params.cq_off.cqes);
	return 0;
}

static inline int uring_init(struct uring *ring, uint32_t flags)
{
	return uring_init_entries(ring, 8, flags);
}

/* Queues a command on @node with @read in it, as far as the entries have room for it; uring_submit() hands it over. */
static inline struct io_uring_sqe *uring_queue(struct uring *ring, int node, uint32_t op,
					       const struct penstock_uring_read *read, uint64_t data)
{
	uint32_t tail = *ring->sq_tail, at = tail & ring->sq_mask;
	struct io_uring_sqe *sqe = (struct io_uring_sqe *)(void *)(ring->sqes + at * ring->sqe_size);

	memset(sqe, 0, ring->sqe_size);
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = node;
	sqe->cmd_op = op;
	sqe->user_data = data;
	if (ring->sqe_size == 128)
		memcpy(sqe->cmd, read, sizeof(*read));
	else
		memcpy(sqe->cmd, read, 16);
	ring->sq_array[at] = at;
	__atomic_store_n(ring->sq_tail, tail + 1, __ATOMIC_RELEASE);
	ring->queued++;
	return sqe;
}

/* How many entries the kernel has taken, or -errno. */
static inline int uring_submit(struct uring *ring)
{
	int ret = (int)syscall(__NR_io_uring_enter, ring->fd, ring->queued, 0, 0, NULL, 0);

	if (ret < 0)
		return -errno;
	ring->queued -= (uint32_t)ret;
	return ret;
}

/* The next completion; -ETIME after @seconds without one. */
static inline int uring_reap(struct uring *ring, unsigned int seconds, struct io_uring_cqe *cqe)
{
	struct __kernel_timespec ts = { .tv_sec = seconds };
	struct io_uring_getevents_arg arg = { .ts = (uintptr_t)&ts };
	uint32_t head = *ring->cq_head;

	while (__atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE) == head) {
		if (syscall(__NR_io_uring_enter, ring->fd, 0, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg,
			    sizeof(arg)) < 0 && errno != EINTR)
			return -errno;
	}
	*cqe = ring->cqes[head & ring->cq_mask];
	__atomic_store_n(ring->cq_head, head + 1, __ATOMIC_RELEASE);
	return 0;
}

/* Hands over what is queued and waits for its result; -EPROTO where the ring itself did not do as it should. */
static inline int uring_result(struct uring *ring, uint64_t data)
{
	struct io_uring_cqe cqe;

	if (uring_submit(ring) != 1 || uring_reap(ring, 30, &cqe) || cqe.user_data != data)
		return -EPROTO;
	return cqe.res;
}

#endif
