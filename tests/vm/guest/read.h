/* SPDX-License-Identifier: MIT */
/*
 * What the tests of reads share: sources whose every byte is known, regions of
 * each kind to read into, and the comparison of both.
 *
 * Each 8-byte word of a source is its number, from 1, times the first word, so
 * any range can be computed. What must not change is filled with POISON.
 */
#ifndef GUEST_READ_H
#define GUEST_READ_H

#include <linux/fs.h>
#include "guest.h"

#define POISON	0xee
#define GUARD	(64U << 10)

struct source {
	const char *name;
	int fd;
	uint64_t first;		/* word */
	uint64_t size;
	struct penstock_target_add add;
};

struct dest {
	const char *name;
	uint32_t id;
	uint8_t *map;
	uint64_t len;
	uint32_t nr_segments;
};

static inline int source_open(int node, const char *name, const char *path, struct source *s)
{
	struct stat st;
	int ret;

	*s = (struct source) { .name = name, .fd = open(path, O_RDONLY | O_CLOEXEC) };
	if (s->fd < 0)
		return -errno;
	if (pread(s->fd, &s->first, 8, 0) != 8 || fstat(s->fd, &st))
		return -EIO;
	s->size = st.st_size;
	if (S_ISBLK(st.st_mode) && ioctl(s->fd, BLKGETSIZE64, &s->size))
		return -errno;
	ret = target_add(node, s->fd, &s->add);
	if (ret)
		printf("# %s: TARGET_ADD: %d, reason %u\n", path, ret, s->add.out_reason);
	return ret;
}

static inline int dest_map(int node, struct dest *d, uint64_t offset)
{
	d->map = mmap(NULL, d->len, PROT_READ | PROT_WRITE, MAP_SHARED, node, offset);
	return d->map == MAP_FAILED ? -errno : 0;
}

static inline int dest_alloc(int node, const char *name, uint64_t len, unsigned int order, struct dest *d)
{
	struct penstock_region_alloc alloc;
	int ret = region_alloc(node, len, order, &alloc);

	*d = (struct dest){ .name = name, .id = alloc.out_region_id, .len = len, .nr_segments = alloc.out_nr_segments };
	return ret ? ret : dest_map(node, d, alloc.out_mmap_offset);
}

static inline int dest_pin(int node, uint64_t len, struct dest *d)
{
	struct penstock_region_pin pin = { .size = sizeof(pin), .flags = PENSTOCK_PIN_F_READ, .length = len };
	int ret;

	*d = (struct dest) { .name = "pinned", .len = len };
	d->map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (d->map == MAP_FAILED)
		return -errno;
	pin.addr = (uintptr_t)d->map;
	ret = node_ioctl(node, PENSTOCK_IOC_REGION_PIN, &pin);
	d->id = pin.out_region_id;
	d->nr_segments = pin.out_nr_segments;
	return ret;
}

static inline int dest_bar(int node, uint64_t len, struct dest *d)
{
	struct penstock_peer_enum peer;
	struct penstock_region_peer cmd;
	int ret = peer_first(node, &peer);

	*d = (struct dest) { .name = "BAR", .len = len };
	if (!ret)
		ret = region_bar(node, peer.out_peer_id, len, &cmd);
	if (ret)
		return ret;
	d->id = cmd.out_region_id;
	d->nr_segments = cmd.out_nr_segments;
	return dest_map(node, d, cmd.out_mmap_offset);
}

/* The first byte of [at, at + len) that is not the source's from @offset, or -1. */
static inline int64_t first_wrong(const struct source *s, const uint8_t *at, uint64_t offset, uint64_t len)
{
	for (uint64_t i = 0; i < len; i += 8) {
		uint64_t want = s->first * ((offset + i) / 8 + 1);
		uint64_t n = len - i < 8 ? len - i : 8;

		if (!memcmp(at + i, &want, n))
			continue;
		for (uint64_t k = 0; k < n; k++) {
			if (at[i + k] != ((uint8_t *)&want)[k])
				return i + k;
		}
	}
	return -1;
}

/* The first byte of [at, at + len) that is not @byte, or -1. */
static inline int64_t first_not(const uint8_t *at, uint8_t byte, uint64_t len)
{
	uint64_t want = 0x0101010101010101ULL * byte, word;
	uint64_t i = 0;

	for (; i + 8 <= len; i += 8) {
		memcpy(&word, at + i, 8);
		if (word != want)
			break;
	}
	for (; i < len; i++) {
		if (at[i] != byte)
			return i;
	}
	return -1;
}

/* One read by a ring; sqe_flags as IOSQE_ASYNC. */
static inline int64_t read_ring(struct io_uring *ring, int node, uint32_t target, uint32_t region, uint64_t offset,
				uint64_t region_offset, uint32_t len, unsigned int sqe_flags)
{
	struct io_uring_sqe *sqe = ring_read(ring, node, target, region, offset, region_offset, len, 1);
	struct io_uring_cqe cqe;
	int ret;

	sqe->flags |= sqe_flags;
	ret = io_uring_submit(ring);
	if (ret != 1)
		return ret < 0 ? ret : -EIO;
	ret = ring_reap(ring, 20, &cqe);
	return ret ? ret : cqe.res;
}

/* A range with its guards: filled before, looked at afterwards. */
static inline void dest_poison(struct dest *d, uint64_t at, uint64_t len)
{
	uint64_t low = at < GUARD ? 0 : at - GUARD;
	uint64_t high = at + len + GUARD > d->len ? d->len : at + len + GUARD;

	memset(d->map + low, POISON, high - low);
}

/* The source's bytes in [at, at + len), POISON around them; says what is wrong. */
static inline bool dest_holds(const struct dest *d, const struct source *s, uint64_t at, uint64_t offset, uint64_t len)
{
	uint64_t low = at < GUARD ? 0 : at - GUARD;
	uint64_t high = at + len + GUARD > d->len ? d->len : at + len + GUARD;
	int64_t wrong = first_wrong(s, d->map + at, offset, len);
	int64_t before = first_not(d->map + low, POISON, at - low);
	int64_t after = first_not(d->map + at + len, POISON, high - at - len);

	if (wrong >= 0)
		printf("# %s into %s: offset %llu, region offset %llu, length %llu: byte %lld is wrong\n", s->name,
		       d->name, (unsigned long long)offset, (unsigned long long)at, (unsigned long long)len,
		       (long long)wrong);
	if (before >= 0 || after >= 0)
		printf("# %s into %s: offset %llu, region offset %llu, length %llu: guard is harmed at %lld, %lld\n",
		       s->name, d->name, (unsigned long long)offset, (unsigned long long)at, (unsigned long long)len,
		       (long long)before, (long long)after);
	return wrong < 0 && before < 0 && after < 0;
}

/* tap() for a number that must be another. */
static inline bool tap_eq(int64_t got, int64_t want, const char *what)
{
	if (got != want)
		printf("# %s: got %lld, want %lld\n", what, (long long)got, (long long)want);
	return tap(got == want, "%s", what);
}

#endif
