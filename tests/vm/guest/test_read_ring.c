// SPDX-License-Identifier: MIT
/*
 * READ on every kind of ring, and what happens to reads in flight: rings that
 * are never reaped, polled by the kernel, closed; entries that run in workers,
 * in chains, that are cancelled or changed; queues that are full. What is
 * refused: tests/kselftest/penstock_read.c.
 *
 * test_read_ring FOLDER DRIVE: a folder with the bench's file data; the raw
 * drive "raw", which the host throttles for us.
 */
#include <pthread.h>
#include <stdatomic.h>
#include "read.h"

#define MIB	(1ULL << 20)

static int node;
static const char *raw_path;
static struct source file, raw;

static void throttle(unsigned long bps)
{
	char command[64];

	snprintf(command, sizeof(command), "host throttle raw %lu", bps);
	if (system(command))
		tap(false, "the host throttles the drive");
}

static uint32_t in_flight(uint32_t region)
{
	struct penstock_region_stat stat;

	return region_stat(node, region, &stat) ? 0 : stat.out_in_flight;
}

/* The drive takes one request before its throttle bites. */
static void prime(struct io_uring *ring, const struct dest *d)
{
	read_ring(ring, node, raw.add.out_target_id, d->id, 0, 0, 262144, 0);
}

static void queue_reads(struct io_uring *ring, const struct source *s, const struct dest *d, unsigned int nr,
			uint32_t len, unsigned int sqe_flags)
{
	for (unsigned int i = 0; i < nr; i++)
		ring_read(ring, node, s->add.out_target_id, d->id, (uint64_t)i * len, (uint64_t)i * len, len, i)
			->flags |= sqe_flags;
}

/* All @nr completions, each of @len bytes, and the bytes. */
static bool reap_reads(struct io_uring *ring, const struct source *s, const struct dest *d, unsigned int nr,
		       uint32_t len)
{
	bool good = true;

	for (unsigned int i = 0; i < nr; i++) {
		struct io_uring_cqe cqe = { 0 };
		int ret = ring_reap(ring, 40, &cqe);

		if (ret || cqe.res != (int)len) {
			printf("# read %llu: %d, result %d\n", (unsigned long long)cqe.user_data, ret, cqe.res);
			good = false;
		}
	}
	if (d && d->map) {
		int64_t wrong = first_wrong(s, d->map, 0, (uint64_t)nr * len);

		if (wrong >= 0)
			printf("# byte %lld is wrong\n", (long long)wrong);
		good &= wrong < 0;
	}
	return good;
}

static bool some_reads(struct io_uring *ring, const struct source *s, const struct dest *d, unsigned int sqe_flags)
{
	memset(d->map, POISON, d->len);
	queue_reads(ring, s, d, 32, 32768, sqe_flags);
	return io_uring_submit(ring) == 32 && reap_reads(ring, s, d, 32, 32768);
}

/* ---- kinds of rings, flags of entries ---- */

static void test_kinds(struct dest *d, struct dest *pinned)
{
	static const struct { const char *name; unsigned int flags; } kinds[] = {
		{ "ordinary ring", 0 },
		{ "SQPOLL", IORING_SETUP_SQPOLL },
		{ "DEFER_TASKRUN", IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN },
		{ "COOP_TASKRUN", IORING_SETUP_COOP_TASKRUN },
		{ "CQE32", IORING_SETUP_CQE32 },
	};
	struct io_uring ring;

	for (unsigned int i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		if (!tap(!ring_init(&ring, 64, kinds[i].flags), "%s", kinds[i].name))
			continue;
		tap(some_reads(&ring, &file, d, 0), "%s: file", kinds[i].name);
		tap(some_reads(&ring, &raw, d, 0), "%s: drive", kinds[i].name);
		tap(some_reads(&ring, &raw, pinned, 0), "%s: into pinned memory", kinds[i].name);
		tap(some_reads(&ring, &raw, pinned, IOSQE_ASYNC), "%s: from a worker", kinds[i].name);
		io_uring_queue_exit(&ring);
	}
}

static void test_chains(struct dest *d)
{
	uint32_t t = file.add.out_target_id;
	struct io_uring_cqe cqe;
	struct io_uring ring;
	int results[6] = { 0 };

	ring_init(&ring, 64, 0);
	tap(some_reads(&ring, &file, d, IOSQE_IO_LINK), "a chain");
	ring_read(&ring, node, t, d->id, 0, 0, 4096, 0)->flags |= IOSQE_IO_LINK;
	ring_read(&ring, node, t, d->id, 1, 0, 4096, 1)->flags |= IOSQE_IO_LINK;
	ring_read(&ring, node, t, d->id, 0, 0, 4096, 2);
	ring_read(&ring, node, t, d->id, 0, 65536, 8192, 3);
	io_uring_submit(&ring);
	for (int i = 0; i < 4 && !ring_reap(&ring, 5, &cqe); i++)
		results[cqe.user_data] = cqe.res;
	tap_eq(results[0], 4096, "before the break");
	tap_eq(results[1], -EINVAL, "a read that fails breaks the chain");
	tap_eq(results[2], -ECANCELED, "the one behind it is cancelled");
	tap_eq(results[3], 8192, "the one outside of it is not");
	io_uring_queue_exit(&ring);

	ring_init(&ring, 16, 0);
	queue_reads(&ring, &raw, d, 8, 131072, 0);
	ring_read(&ring, node, t, d->id, 0, 0, 4096, 99)->flags |= IOSQE_IO_DRAIN;
	io_uring_submit(&ring);
	for (int i = 0; i < 9 && !ring_reap(&ring, 5, &cqe); i++)
		results[0] = cqe.user_data == 99 ? i : results[0];
	tap_eq(results[0], 8, "a draining read comes last");
	io_uring_queue_exit(&ring);
}

/* ---- reads in flight ---- */

/* A throttled drive, @nr reads of 256 KiB in flight; false (and a failed test) if they are not. */
static bool begin_slow(struct io_uring *ring, unsigned int ring_flags, struct dest *d, unsigned int nr,
		       unsigned int sqe_flags)
{
	if (!tap(!ring_init(ring, 32, ring_flags), "a ring"))
		return false;
	throttle(2 * MIB);
	prime(ring, d);
	memset(d->map, POISON, d->len);
	queue_reads(ring, &raw, d, nr, 262144, sqe_flags);
	if (io_uring_submit(ring) != (int)nr)
		return tap(false, "reads are submitted");
	for (int i = 0; i < 50 && in_flight(d->id) < 2; i++)
		usleep(10000);
	return tap(in_flight(d->id) > 1, "reads are in flight (%u)", in_flight(d->id));
}

static void test_never_reaped(const char *kind, unsigned int ring_flags)
{
	struct dest d;
	struct io_uring ring;
	double begin;
	int ret;

	if (dest_alloc(node, "unreaped", 2 * MIB, 9, &d) || !begin_slow(&ring, ring_flags, &d, 6, 0))
		return;
	tap_eq(region_free(node, d.id, 0, NULL), -EBUSY, "free without waiting is refused");
	begin = now();
	ret = region_free(node, d.id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
	tap(!ret && now() - begin < 20, "%s: a region is freed while nobody reaps (%d, %.1f s)", kind, ret,
	    now() - begin);
	tap(reap_reads(&ring, &raw, NULL, 6, 262144), "completions and results are there afterwards");
	io_uring_queue_exit(&ring);
	munmap(d.map, d.len);
	throttle(0);
}

/* A read that has begun is not cancelled. One that a worker has not yet taken up is none. */
static void test_cancel(struct dest *d, unsigned int sqe_flags, const char *how)
{
	unsigned int whole = 0, unbegun = 0, refusals = 0, other = 0, began;
	struct io_uring_cqe cqe;
	struct io_uring ring;
	bool bytes = true;

	if (!begin_slow(&ring, 0, d, 6, sqe_flags))
		return;
	began = in_flight(d->id);
	for (unsigned int i = 0; i < 6; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

		memset(sqe, 0, 128);
		io_uring_prep_cancel64(sqe, i, 0);
		sqe->user_data = 100;
	}
	io_uring_submit(&ring);
	for (int i = 0; i < 12 && !ring_reap(&ring, 20, &cqe); i++) {
		uint64_t at = cqe.user_data * 262144;

		if (cqe.user_data == 100) {
			refusals += cqe.res == -ENOENT || cqe.res == -EALREADY;
		} else if (cqe.res == 262144) {
			whole++;
			bytes &= first_wrong(&raw, d->map + at, at, 262144) < 0;
		} else {
			unbegun += cqe.res == -ECANCELED;
			other += cqe.res != -ECANCELED;
		}
	}
	/* a worker that has not begun to read when it is told may be refused and cancelled all the same */
	tap(began && whole >= began && !other && (sqe_flags ? refusals >= whole : refusals == whole && !unbegun) &&
	    whole + unbegun == 6,
	    "%s: reads in flight are not cancelled (%u whole of %u, %u refusals)", how, whole, began, refusals);
	tap(bytes, "and they bring their bytes");
	io_uring_queue_exit(&ring);
	throttle(0);
}

static void test_closed_ring(void)
{
	struct io_uring ring;
	struct dest d;

	if (dest_alloc(node, "closed", 2 * MIB, 9, &d) || !begin_slow(&ring, 0, &d, 6, 0))
		return;
	io_uring_queue_exit(&ring);
	tap_eq(region_free(node, d.id, PENSTOCK_REGION_FREE_F_WAIT, NULL), 0,
	       "a region is freed after its ring was closed");
	tap_eq(in_flight(0), 0, "nothing is in flight then");
	munmap(d.map, d.len);
	throttle(0);
}

static void test_target_del(struct dest *d)
{
	struct penstock_target_del del = { .size = sizeof(del) };
	struct penstock_target_add add;
	struct io_uring_cqe cqe;
	struct io_uring ring;
	uint32_t id = raw.add.out_target_id;
	unsigned int whole = 0;

	target_add(node, raw.fd, &add);
	raw.add.out_target_id = add.out_target_id;
	if (begin_slow(&ring, 0, d, 6, 0)) {
		del.target_id = add.out_target_id;
		tap_eq(node_ioctl(node, PENSTOCK_IOC_TARGET_DEL, &del), 0, "a target goes while it is read");
		tap_eq(node_ioctl(node, PENSTOCK_IOC_TARGET_DEL, &del), -ENOENT, "once");
		ring_read(&ring, node, add.out_target_id, d->id, 0, 0, 4096, 100);
		io_uring_submit(&ring);
		for (int i = 0; i < 7 && !ring_reap(&ring, 20, &cqe); i++) {
			if (cqe.user_data == 100)
				tap_eq(cqe.res, -ENOENT, "and cannot be read any more");
			else
				whole += cqe.res == 262144;
		}
		tap(whole == 6 && first_wrong(&raw, d->map, 0, 6 * 262144) < 0, "its reads end as if it were there");
		io_uring_queue_exit(&ring);
	}
	raw.add.out_target_id = id;
	throttle(0);
}

/* ---- entries that change ---- */

static atomic_bool stop;
static atomic_uint changes;

/* Flips between what may be read and what must not be. */
static void *changer(void *arg)
{
	struct io_uring *ring = arg;

	for (unsigned int i = 0; !stop; i++) {
		struct penstock_uring_read *cmd = (void *)ring->sq.sqes[(i % 8) * 2].cmd;

		/* Each entry has a page of its own: two drives' writes to one are an error of their own. */
		cmd->region_offset = i & 16 ? 4096 + i % 8 * 4096 : 65536 - 2048;
		cmd->length = i & 32 ? 4096 : 0x7ffff000;
		cmd->region_id ^= i & 64 ? 0x4000 : 0;
		changes++;
	}
	return NULL;
}

static void test_changed(void)
{
	unsigned int whole = 0, refused = 0, other = 0;
	struct io_uring ring;
	pthread_t thread;
	struct dest d;

	if (dest_alloc(node, "changed", 65536, 0, &d) || ring_init(&ring, 8, IORING_SETUP_SQPOLL))
		return;
	memset(d.map, POISON, d.len);
	pthread_create(&thread, NULL, changer, &ring);
	for (int i = 0; i < 400; i++) {
		struct io_uring_cqe cqe = { 0 };

		for (int k = 0; k < 4; k++) {
			struct penstock_uring_read *cmd;
			struct io_uring_sqe *sqe;

			while (!(sqe = ring_read(&ring, node, file.add.out_target_id, d.id, 0, 65536 - 2048, 4096, 0)))
				usleep(100);
			cmd = (void *)sqe->cmd;
			cmd->region_offset = 4096 + (sqe - ring.sq.sqes) / 2 * 4096;
			sqe->flags |= k & 1 ? IOSQE_ASYNC : 0;
		}
		io_uring_submit(&ring);
		for (int k = 0; k < 4 && !ring_reap(&ring, 20, &cqe); k++) {
			whole += cqe.res == 4096;
			refused += cqe.res == -EINVAL || cqe.res == -ENOENT;
			other += cqe.res != 4096 && cqe.res != -EINVAL && cqe.res != -ENOENT;
		}
	}
	stop = true;
	pthread_join(thread, NULL);
	printf("# %u whole, %u refused, %u changes\n", whole, refused, changes);
	tap(whole && !other && whole + refused == 1600 && changes > 1000,
	    "entries that change are read once, and checked");
	tap(first_not(d.map, POISON, 4096) < 0 && first_not(d.map + 9 * 4096, POISON, 65536 - 9 * 4096) < 0,
	    "nothing is read but where it may be");
	io_uring_queue_exit(&ring);
	munmap(d.map, d.len);
	region_free(node, d.id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
}

/* ---- what a drive cannot take at once ---- */

static int drive_tags(void)
{
	char path[128], text[32];

	snprintf(path, sizeof(path), "/sys/block/%s/queue/nr_requests", strrchr(raw_path, '/') + 1);
	return get_file(path, text, sizeof(text)) ? 0 : atoi(text);
}

static void test_full_queue(void)
{
	struct penstock_region_stat stat;
	struct io_uring ring;
	struct dest d;

	if (drive_tags() > 32) {
		tap_skip("a full queue", "the drive's is too long");
		return;
	}
	if (dest_alloc(node, "full queue", 64 * 524288, 10, &d) || ring_init(&ring, 64, 0))
		return;
	/* Slow enough that the first ones still hold their tags when the last one comes. */
	throttle(16 * MIB);
	prime(&ring, &d);
	memset(d.map, POISON, d.len);
	queue_reads(&ring, &raw, &d, 64, 524288, 0);
	tap(io_uring_submit(&ring) == 64 && reap_reads(&ring, &raw, &d, 64, 524288), "64 reads into a queue of 16");
	region_stat(node, d.id, &stat);
	throttle(0);
	tap(stat.out_resubmitted && !stat.out_errors && stat.out_reads == 65,
	    "reads that found no tag were submitted again (%llu)", (unsigned long long)stat.out_resubmitted);

	memset(d.map, POISON, d.len);
	queue_reads(&ring, &raw, &d, 8, 4 * MIB, 0);
	tap(io_uring_submit(&ring) == 8 && reap_reads(&ring, &raw, &d, 8, 4 * MIB),
	    "8 reads of 4 MiB, larger than a request");
	region_stat(node, d.id, &stat);
	tap(stat.out_punted >= 8 && !stat.out_errors, "were given to workers (%llu)",
	    (unsigned long long)stat.out_punted);
	io_uring_queue_exit(&ring);
	munmap(d.map, d.len);
	tap_eq(region_free(node, d.id, 0, NULL), 0, "and nothing of them is left");
}

int main(int argc, char **argv)
{
	struct dest host, pinned;
	char path[256];

	node = node_open();
	if (argc != 3 || node < 0) {
		tap_skip("rings", "no module, or no file and drive");
		return tap_done() ? 1 : 4;
	}
	raw_path = argv[2];
	snprintf(path, sizeof(path), "%s/data", argv[1]);
	if (!tap(!source_open(node, "file", path, &file) && !source_open(node, "drive", argv[2], &raw) &&
			 !dest_alloc(node, "host", 2 * MIB, 0, &host) && !dest_pin(node, 2 * MIB, &pinned),
		 "targets and regions"))
		return tap_done();
	test_kinds(&host, &pinned);
	test_chains(&host);
	test_full_queue();
	test_never_reaped("DEFER_TASKRUN", IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
	test_never_reaped("ordinary ring", 0);
	test_cancel(&host, 0, "in the drive");
	test_cancel(&host, IOSQE_ASYNC, "from a worker");
	test_closed_ring();
	test_target_del(&host);
	test_changed();
	tap_eq(in_flight(0), 0, "at the end nothing is in flight");
	return tap_done();
}
