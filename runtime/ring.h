/* SPDX-License-Identifier: MIT */
/*
 * The I/O engine: reads go in, completed reads come out, in any order.
 *
 * ring.c wraps an engine (ring_uring.c, ring_pread.c) and holds what is common:
 * short reads go on from where they stopped, EINTR and EAGAIN are resubmitted,
 * EIO is retried PENSTOCK_RING_EIO_TRIES times, the end of the file before @need
 * bytes is -ENODATA. So a read that is reaped is final.
 *
 * Threads: one thread opens, submits, reaps, registers and closes (it may differ
 * from the thread that opened, if the first submission is its own);
 * penstock_ring_wake() may be called by any thread. After a fork the ring is the
 * parent's: in the child a submit takes nothing, a reap is -ESTALE, a close only
 * frees the record.
 */
#ifndef PENSTOCK_RING_H
#define PENSTOCK_RING_H

#include "flow.h"

#define PENSTOCK_RING_EIO_TRIES	2
/* Registered buffers: one an arena segment (at most 1 GiB each). */
#define PENSTOCK_RING_MAX_BUFS	1024

struct penstock_ring;

/* What an engine does. A completion is (read, res): res >= 0 bytes, or -errno. */
struct penstock_ring_ops {
	const char *name;
	/*
	 * @drv: the driver's node for reads into regions, borrowed, or -1; @why lives as long as the engine, which
	 * may write to it later; -EOPNOTSUPP: refused here, @why says how
	 */
	int (*open)(uint32_t depth, int drv, void **engine, char *why, size_t why_len, struct penstock_error *err);
	void (*close)(void *engine);
	/* the file numbers of reads are indices into @fds; called again when files are added */
	int (*set_files)(void *engine, const int *fds, uint32_t nr);
	/* @base NULL unregisters; a refusal (memlock) is no failure: returns 1, reads then use buf = -1 */
	int (*set_buffer)(void *engine, uint32_t nr, void *base, size_t len);
	/* queue the rest of a read: dst + done, off + done, len - done; -EAGAIN when full */
	int (*queue)(void *engine, struct penstock_read *r);
	/*
	 * hand queued reads to the kernel, wait for at least one completion or a wake, up to timeout
	 * (UINT64_MAX: for ever). 0, also when a signal cut it short; 1 woken; -errno the engine broke
	 */
	int (*enter)(void *engine, uint64_t timeout_ns);
	/* next completion, or NULL */
	struct penstock_read *(*pop)(void *engine, int *res);
	void (*wake)(void *engine);
};

extern const struct penstock_ring_ops penstock_ring_uring;
extern const struct penstock_ring_ops penstock_ring_pread;

/**
 * penstock_ring_open() - start an engine
 * @ops: an engine, or NULL: io_uring, else pread with the reason in penstock_ring_why()
 * @depth: reads in flight, 1 .. 4096
 *
 * io_uring is probed by a real read of one block. Return: 0; -EINVAL depth;
 * -EOPNOTSUPP the engine asked for is refused here; -ENOMEM.
 */
int penstock_ring_open(const struct penstock_ring_ops *ops, uint32_t depth, struct penstock_ring **out,
		       struct penstock_error *err);
/** penstock_ring_open_drv() - the same, for reads into regions too; @drv: the driver's node, borrowed, or -1 */
int penstock_ring_open_drv(const struct penstock_ring_ops *ops, int drv, uint32_t depth, struct penstock_ring **out,
			   struct penstock_error *err);
/** penstock_ring_close() - all reads must have been reaped; @r may be NULL */
void penstock_ring_close(struct penstock_ring *r);
const char *penstock_ring_name(const struct penstock_ring *r);
/** penstock_ring_why() - features or engines that were refused, and why; "" if none */
const char *penstock_ring_why(const struct penstock_ring *r);
uint32_t penstock_ring_depth(const struct penstock_ring *r);
/** penstock_ring_in_flight() - reads submitted and not yet reaped */
uint32_t penstock_ring_in_flight(const struct penstock_ring *r);
uint64_t penstock_ring_retries(const struct penstock_ring *r);

/** penstock_ring_set_files() - descriptors by file number, replacing those before. Return: 0; -ENOMEM. */
int penstock_ring_set_files(struct penstock_ring *r, const int *fds, uint32_t nr);
/**
 * penstock_ring_set_buffer() - register memory as buffer @nr (NULL: unregister)
 * Return: 0; 1 refused, which is no error; -EINVAL @nr or @len out of range; -ESTALE in a child after fork.
 */
int penstock_ring_set_buffer(struct penstock_ring *r, uint32_t nr, void *base, size_t len);

/**
 * penstock_ring_submit() - queue reads, in order
 * @reads: linked by next; the record and its memory belong to the ring until reaped. done, tries, eio_tries and
 * status are reset; a read that cannot be (length 0 or above PENSTOCK_READ_MAX, need > len, no such file, a
 * region in a ring without the driver) is reaped with -EINVAL
 * Return: the first read that was not taken because the ring is full, or NULL.
 * They are handed to the kernel as one batch by the next reap.
 */
struct penstock_read *penstock_ring_submit(struct penstock_ring *r, struct penstock_read *reads);

/**
 * penstock_ring_reap() - collect final reads
 * @timeout_ns: 0 = do not wait, UINT64_MAX = until one is final or a wake
 * @out: receives a list linked by next, or NULL
 * Submits what is queued in any case. Return: number of reads; 0 on timeout or wake; -errno the engine broke
 * (penstock_ring_why() says how; reads in flight are lost, their memory stays in the kernel's hands); -ESTALE
 * in a child after fork.
 */
int penstock_ring_reap(struct penstock_ring *r, uint64_t timeout_ns, struct penstock_read **out);

/** penstock_ring_wake() - make a waiting reap return. Any thread, async-signal-safe. */
void penstock_ring_wake(struct penstock_ring *r);

#endif
