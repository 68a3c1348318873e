// SPDX-License-Identifier: MIT
/*
 * What all engines share: see ring.h.
 *
 * A completion is judged here and nowhere else. A short read goes on at a multiple
 * of 4096 below where it stopped, since O_DIRECT takes no other offset; only when
 * that brings nothing does it go on at the very byte, which the page cache takes,
 * and where the end of a file shows as 0 bytes (or EINVAL with O_DIRECT). So every
 * read ends: each round makes progress or counts a try.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "err.h"
#include "ring.h"
#include "util.h"

#define MAX_DEPTH	4096u
/* EINTR and EAGAIN: after the first few, each further try waits a little; in all some 0.2 s. */
#define QUICK_TRIES	16u
#define MAX_TRIES	4096u
#define TRY_PAUSE_NS	50000
/* Returns to a block from an unaligned place that O_DIRECT refuses: a ragged end now and then is no end of the file. */
#define STUCK_TRIES	16u

struct penstock_ring {
	const struct penstock_ring_ops *ops;
	void *engine;
	uint32_t depth;
	uint32_t nr_files;
	uint32_t in_flight;
	uint64_t retries;
	pid_t pid;
	/* reads to be queued again: the engine was full */
	struct penstock_read *again;
	/* final reads, oldest first */
	struct penstock_read *final;
	struct penstock_read **final_tail;
	int nr_final;
	bool has_drv;
	char why[512];
};

static int open_engine(struct penstock_ring *r, const struct penstock_ring_ops *ops, int drv,
		       struct penstock_error *err)
{
	char *why = r->why + strlen(r->why);
	int ret;

	ret = ops->open(r->depth, drv, &r->engine, why, sizeof(r->why) - (size_t)(why - r->why), err);
	if (!ret)
		r->ops = ops;
	return ret;
}

int penstock_ring_open(const struct penstock_ring_ops *ops, uint32_t depth, struct penstock_ring **out,
		       struct penstock_error *err)
{
	return penstock_ring_open_drv(ops, -1, depth, out, err);
}

int penstock_ring_open_drv(const struct penstock_ring_ops *ops, int drv, uint32_t depth, struct penstock_ring **out,
			   struct penstock_error *err)
{
	struct penstock_ring *r;
	int ret;

	if (!depth || depth > MAX_DEPTH)
		return penstock_err(err, -EINVAL, "ring of depth %u: 1 to %u", depth, MAX_DEPTH);
	r = calloc(1, sizeof(*r));
	if (!r)
		return penstock_err(err, -ENOMEM, "ring: %zu bytes", sizeof(*r));
	r->depth = depth;
	r->has_drv = drv >= 0;
	r->pid = getpid();
	r->final_tail = &r->final;
	ret = open_engine(r, ops ? ops : &penstock_ring_uring, drv, err);
	if (ret == -EOPNOTSUPP && !ops) {
		penstock_err_clear(err);
		if (strlen(r->why) + 2 < sizeof(r->why))
			strcat(r->why, "; ");
		ret = open_engine(r, &penstock_ring_pread, drv, err);
		if (!ret && strlen(r->why) >= 2 && !strcmp(r->why + strlen(r->why) - 2, "; "))
			r->why[strlen(r->why) - 2] = 0;
	}
	if (ret) {
		free(r);
		return ret;
	}
	*out = r;
	return 0;
}

/* A child has the record, but neither the engine's threads nor a right to its ring. */
static bool forked(const struct penstock_ring *r)
{
	return r->pid != getpid();
}

void penstock_ring_close(struct penstock_ring *r)
{
	if (!r)
		return;
	if (!forked(r))
		r->ops->close(r->engine);
	free(r);
}

const char *penstock_ring_name(const struct penstock_ring *r)
{
	return r->ops->name;
}

const char *penstock_ring_why(const struct penstock_ring *r)
{
	return r->why;
}

uint32_t penstock_ring_depth(const struct penstock_ring *r)
{
	return r->depth;
}

uint32_t penstock_ring_in_flight(const struct penstock_ring *r)
{
	return r->in_flight;
}

uint64_t penstock_ring_retries(const struct penstock_ring *r)
{
	return r->retries;
}

int penstock_ring_set_files(struct penstock_ring *r, const int *fds, uint32_t nr)
{
	int ret = forked(r) ? -ESTALE : r->ops->set_files(r->engine, fds, nr);

	if (!ret)
		r->nr_files = nr;
	return ret;
}

int penstock_ring_set_buffer(struct penstock_ring *r, uint32_t nr, void *base, size_t len)
{
	if (forked(r))
		return -ESTALE;
	if (nr >= PENSTOCK_RING_MAX_BUFS || (base && (!len || len > PENSTOCK_READ_MAX)))
		return -EINVAL;
	return r->ops->set_buffer(r->engine, nr, base, len);
}

static void finish(struct penstock_ring *r, struct penstock_read *read, int status)
{
	read->status = status;
	read->next = NULL;
	*r->final_tail = read;
	r->final_tail = &read->next;
	r->nr_final++;
}

static bool sane(const struct penstock_ring *r, const struct penstock_read *read)
{
	return read->len && read->len <= PENSTOCK_READ_MAX && read->need <= read->len && read->file < r->nr_files &&
	       (r->has_drv || !read->region) && read->off <= INT64_MAX - (uint64_t)read->len;
}

struct penstock_read *penstock_ring_submit(struct penstock_ring *r, struct penstock_read *reads)
{
	struct penstock_read *read, *next;

	if (forked(r))
		return reads;
	for (read = reads; read && r->in_flight < r->depth; read = next) {
		next = read->next;
		read->done = 0;
		read->tries = 0;
		read->eio_tries = 0;
		read->status = 0;
		if (!sane(r, read))
			finish(r, read, -EINVAL);
		else if (r->ops->queue(r->engine, read))
			break;
		r->in_flight++;
	}
	return read;
}

static void again(struct penstock_ring *r, struct penstock_read *read)
{
	r->retries++;
	read->next = r->again;
	r->again = read;
}

static void again_after_error(struct penstock_ring *r, struct penstock_read *read)
{
	static const struct timespec pause = { .tv_nsec = TRY_PAUSE_NS };

	if (++read->tries > QUICK_TRIES)
		nanosleep(&pause, NULL);
	again(r, read);
}

static void failed(struct penstock_ring *r, struct penstock_read *read, int code)
{
	if ((code == -EINTR || code == -EAGAIN) && read->tries < MAX_TRIES) {
		again_after_error(r, read);
		return;
	}
	if (code == -EIO && read->eio_tries < PENSTOCK_RING_EIO_TRIES) {
		read->eio_tries++;
		again_after_error(r, read);
		return;
	}
	if (code == -EINVAL && read->done % PENSTOCK_MEM_ALIGN) {
		if (read->tries >= STUCK_TRIES) {
			finish(r, read, -ENODATA);
			return;
		}
		read->done = (uint32_t)penstock_align_down(read->done, PENSTOCK_MEM_ALIGN);
		again_after_error(r, read);
		return;
	}
	finish(r, read, code);
}

static void arrived(struct penstock_ring *r, struct penstock_read *read, uint32_t got)
{
	uint32_t start = read->done, aligned;

	if (got > read->len - start) {
		/* the engine lies: nothing of the memory can be trusted */
		finish(r, read, -EIO);
		return;
	}
	read->done = start + got;
	if (read->done >= read->need) {
		finish(r, read, 0);
		return;
	}
	if (!got) {
		finish(r, read, -ENODATA);
		return;
	}
	aligned = (uint32_t)penstock_align_down(read->done, PENSTOCK_MEM_ALIGN);
	if (aligned > start)
		read->done = aligned;
	again(r, read);
}

static void collect(struct penstock_ring *r)
{
	struct penstock_read *read;
	int res;

	while ((read = r->ops->pop(r->engine, &res))) {
		if (res < 0)
			failed(r, read, res);
		else
			arrived(r, read, (uint32_t)res);
	}
}

static void requeue(struct penstock_ring *r)
{
	struct penstock_read *read;

	while ((read = r->again)) {
		r->again = read->next;
		if (r->ops->queue(r->engine, read)) {
			r->again = read;
			return;
		}
	}
}

static int hand_out(struct penstock_ring *r, struct penstock_read **out)
{
	int nr = r->nr_final;

	*out = r->final;
	r->final = NULL;
	r->final_tail = &r->final;
	r->nr_final = 0;
	r->in_flight -= (uint32_t)nr;
	return nr;
}

int penstock_ring_reap(struct penstock_ring *r, uint64_t timeout_ns, struct penstock_read **out)
{
	uint64_t now = 0, end = UINT64_MAX, wait;
	int ret;

	*out = NULL;
	if (forked(r))
		return -ESTALE;
	if (timeout_ns && timeout_ns != UINT64_MAX) {
		now = penstock_now_ns();
		if (penstock_add_overflows(now, timeout_ns, &end))
			end = UINT64_MAX;
	}
	for (;;) {
		requeue(r);
		wait = !timeout_ns || r->nr_final ? 0 : end == UINT64_MAX ? UINT64_MAX : end - now;
		ret = r->ops->enter(r->engine, wait);
		if (ret < 0)
			return ret;
		collect(r);
		if (r->nr_final || ret || !timeout_ns)
			break;
		if (end == UINT64_MAX)
			continue;
		now = penstock_now_ns();
		if (now >= end)
			break;
	}
	return hand_out(r, out);
}

void penstock_ring_wake(struct penstock_ring *r)
{
	r->ops->wake(r->engine);
}
