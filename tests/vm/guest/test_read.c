// SPDX-License-Identifier: MIT
/*
 * Reads bring the right bytes and nothing else: all lengths, from a file and
 * from a raw drive, into each kind of region, by both ways of asking; ends of
 * files, holes, and requests that are wrong.
 *
 * test_read FOLDER... DRIVE: folders with the bench's files data, tail and
 * hole; a raw drive.
 */
#include "read.h"

#define MIB		(1ULL << 20)
#define DEST_LEN	(6 * MIB)
#define NR_DESTS	4

static int node;
static struct io_uring ring;
static struct dest dests[NR_DESTS];
static int nr_dests;

static const uint32_t lengths[] = { 512, 1024, 3584, 4096, 12800, 16384, 65536, 66048, 131072, 524288, 525312,
	1048064, 1048576, 2097152, 4194304 };

/* All lengths; the way alternates, and where it is read from and to moves. */
static bool read_lengths(const struct source *s, struct dest *d, unsigned int sqe_flags, bool by_ioctl)
{
	uint32_t align = s->add.out_offset_align;
	bool good = true;

	for (unsigned int i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		uint32_t len = lengths[i];
		uint64_t offset = ((i * 1234567ULL) % (s->size - len)) / align * align;
		uint64_t at = (GUARD + i * 7680ULL) / align * align;
		int64_t ret;

		if (len % align)
			continue;
		dest_poison(d, at, len);
		if (by_ioctl)
			ret = read_ioctl(node, s->add.out_target_id, d->id, offset, at, len);
		else
			ret = read_ring(&ring, node, s->add.out_target_id, d->id, offset, at, len, sqe_flags);
		if (ret != len) {
			printf("# length %u: result %lld\n", len, (long long)ret);
			good = false;
			continue;
		}
		good &= dest_holds(d, s, at, offset, len);
	}
	return good;
}

static void test_lengths(const struct source *s)
{
	for (int i = 0; i < nr_dests; i++) {
		tap(read_lengths(s, &dests[i], 0, false), "%s into %s: all lengths, io_uring", s->name, dests[i].name);
		tap(read_lengths(s, &dests[i], IOSQE_ASYNC, false), "%s into %s: all lengths, io_uring in a worker",
		    s->name, dests[i].name);
		tap(read_lengths(s, &dests[i], 0, true), "%s into %s: all lengths, ioctl", s->name, dests[i].name);
	}
}

/* 64 reads in flight, each into its own part. */
static void test_many(const struct source *s)
{
	for (int k = 0; k < nr_dests; k++) {
		struct dest *d = &dests[k];
		bool good = true;

		memset(d->map, POISON, d->len);
		for (uint64_t i = 0; i < 64; i++)
			ring_read(&ring, node, s->add.out_target_id, d->id, i * 128 * 1024 + 4096, i * 80 * 1024,
				  64 * 1024, i);
		good &= io_uring_submit(&ring) == 64;
		for (int i = 0; i < 64; i++) {
			struct io_uring_cqe cqe = { 0 };

			if (ring_reap(&ring, 20, &cqe) || cqe.res != 64 * 1024) {
				printf("# read %llu: %d\n", (unsigned long long)cqe.user_data, cqe.res);
				good = false;
			}
		}
		for (uint64_t i = 0; i < 64; i++) {
			good &= first_wrong(s, d->map + i * 80 * 1024, i * 128 * 1024 + 4096, 64 * 1024) < 0;
			good &= first_not(d->map + i * 80 * 1024 + 64 * 1024, POISON, 16 * 1024) < 0;
		}
		tap(good, "%s into %s: 64 in flight", s->name, d->name);
	}
}

/* @offset lies before the end by less than what is asked for. */
static void test_end(const struct source *s, uint64_t offset)
{
	uint32_t align = s->add.out_offset_align, len = 64 * 1024;
	uint64_t rest = s->size - offset, touched = (rest + align - 1) / align * align;

	for (int i = 0; i < nr_dests; i++) {
		struct dest *d = &dests[i];
		struct penstock_region_stat before, after;
		int64_t ret[3];

		region_stat(node, d->id, &before);
		memset(d->map, POISON, GUARD + 2 * len);
		ret[0] = read_ring(&ring, node, s->add.out_target_id, d->id, offset, GUARD, len, 0);
		ret[1] = first_wrong(s, d->map + GUARD, offset, rest);
		ret[2] = first_not(d->map + GUARD + touched, POISON, 2 * len - touched);
		if (ret[0] != (int64_t)rest || ret[1] >= 0 || ret[2] >= 0)
			printf("# result %lld, want %llu; wrong byte %lld, harmed %lld\n", (long long)ret[0],
			       (unsigned long long)rest, (long long)ret[1], (long long)ret[2]);
		tap(ret[0] == (int64_t)rest && ret[1] < 0 && ret[2] < 0, "%s into %s: the end cuts it short", s->name,
		    d->name);
		tap_eq(read_ioctl(node, s->add.out_target_id, d->id, offset, GUARD, len), rest,
		       "the same by the ioctl");
		offset += touched;
		tap_eq(read_ring(&ring, node, s->add.out_target_id, d->id, offset, 0, len, 0), 0, "0 bytes at the end");
		tap_eq(read_ring(&ring, node, s->add.out_target_id, d->id, 1ULL << 40, 0, len, 0), 0,
		       "0 bytes far behind it");
		tap_eq(read_ioctl(node, s->add.out_target_id, d->id, 1ULL << 62, 0, len), 0,
		       "0 bytes there by the ioctl");
		tap_eq(first_not(d->map, POISON, GUARD), -1, "which changes nothing");
		offset -= touched;
		region_stat(node, d->id, &after);
		tap(after.out_short - before.out_short == 5 && after.out_reads - before.out_reads == 5 &&
		    after.out_bytes - before.out_bytes == 2 * rest, "short reads and their bytes are counted");
	}
}

static void test_hole(const char *name, const char *path)
{
	struct source s = { .name = name, .fd = open(path, O_RDONLY) };

	if (target_add(node, s.fd, &s.add)) {
		tap(false, "%s: a file that is a hole is a target", name);
		return;
	}
	for (int i = 0; i < nr_dests; i++) {
		struct dest *d = &dests[i];

		dest_poison(d, GUARD, MIB);
		tap(read_ring(&ring, node, s.add.out_target_id, d->id, 4096, GUARD, MIB, 0) == MIB &&
		    first_not(d->map + GUARD, 0, MIB) < 0 && first_not(d->map, POISON, GUARD) < 0 &&
		    first_not(d->map + GUARD + MIB, POISON, GUARD) < 0, "%s into %s: a hole is zeros", name, d->name);
	}
	close(s.fd);
}

struct wrong {
	const char *what;
	uint64_t offset, region_offset;
	uint32_t len;
	int want;
};

static void test_wrong(const struct source *s)
{
	struct dest *d = &dests[0];
	uint32_t t = s->add.out_target_id;
	const struct wrong wrongs[] = {
		{ "no length", 0, 0, 0, -EINVAL },
		{ "length not aligned", 0, 0, 513, -EINVAL },
		{ "file offset not aligned", 1, 0, 4096, -EINVAL },
		{ "region offset not aligned", 0, 2, 4096, -EINVAL },
		{ "above the longest read", 0, 0, 0x80000000U, -EINVAL },
		{ "end of the region passed by one block", 0, DEST_LEN - 3584, 4096, -EINVAL },
		{ "behind the region", 0, DEST_LEN, 4096, -EINVAL },
		{ "region offset overflows", 0, UINT64_MAX - 4095, 4096, -EOVERFLOW },
		{ "file offset overflows", UINT64_MAX - 4095, 0, 4096, -EOVERFLOW },
		{ "file offset is negative", 1ULL << 63, 0, 4096, -EOVERFLOW },
		{ "file offset ends at the largest", INT64_MAX - 4095, 0, 4096, -EOVERFLOW },
	};
	struct penstock_region_stat before, after;
	unsigned int i, nr = sizeof(wrongs) / sizeof(*wrongs);

	memset(d->map, POISON, d->len);
	region_stat(node, d->id, &before);
	for (i = 0; i < nr; i++) {
		const struct wrong *w = &wrongs[i];
		int64_t by_ring = read_ring(&ring, node, t, d->id, w->offset, w->region_offset, w->len, 0);
		int64_t by_ioctl = read_ioctl(node, t, d->id, w->offset, w->region_offset, w->len);

		if (by_ring != w->want || by_ioctl != w->want)
			printf("# %lld and %lld, want %d\n", (long long)by_ring, (long long)by_ioctl, w->want);
		tap(by_ring == w->want && by_ioctl == w->want, "%s: %s is refused", s->name, w->what);
	}
	region_stat(node, d->id, &after);
	tap_eq(after.out_refused - before.out_refused, 2 * nr, "each refusal is counted");
	tap_eq(after.out_errors - before.out_errors, 0, "and none as an error");
	tap_eq(first_not(d->map, POISON, d->len), -1, "and nothing was read");
	tap_eq(read_ring(&ring, node, t + 1000, d->id, 0, 0, 4096, 0), -ENOENT, "no such target");
	tap_eq(read_ring(&ring, node, t, d->id + 1000, 0, 0, 4096, 0), -ENOENT, "no such region");
	tap_eq(read_ring(&ring, node, 0, 0, 0, 0, 4096, 0), -ENOENT, "id 0 is none");
	tap_eq(read_ring(&ring, node, t, d->id, 0, DEST_LEN - 4096, 4096, 0), 4096, "up to the region's last byte");
}

/* Addresses within a sector, where the memory is contiguous. */
static void test_mem_align(const struct source *s)
{
	for (int i = 0; i < nr_dests; i++) {
		struct dest *d = &dests[i];
		uint64_t at = GUARD + 64;

		if (d->nr_segments != 1 || 64 % s->add.out_mem_align)
			continue;
		dest_poison(d, at, 8192);
		tap(read_ring(&ring, node, s->add.out_target_id, d->id, 8192, at, 8192, 0) == 8192 &&
		    dest_holds(d, s, at, 8192, 8192), "%s into %s: memory aligned to %u bytes", s->name, d->name,
		    s->add.out_mem_align);
	}
}

static void open_dests(void)
{
	struct penstock_info info = { .size = sizeof(info) };

	tap(!node_ioctl(node, PENSTOCK_IOC_INFO, &info), "INFO");
	tap(!dest_alloc(node, "single pages", DEST_LEN, 0, &dests[0]), "a region of single pages");
	tap(!dest_alloc(node, "large pages", DEST_LEN, info.out_max_order, &dests[1]), "a region of large pages");
	tap(!dest_pin(node, DEST_LEN, &dests[2]), "a pinned region");
	nr_dests = 3;
	if (!(info.out_features & PENSTOCK_FEATURE_PEER))
		tap_skip("a region in the BAR", "no peers on this kernel");
	else if (tap(!dest_bar(node, DEST_LEN, &dests[3]), "a region in the BAR"))
		nr_dests = 4;
}

int main(int argc, char **argv)
{
	struct source s;
	char path[256];
	int i;

	node = node_open();
	if (node < 0 || ring_init(&ring, 128, 0)) {
		tap_skip("reads", "no module or no ring");
		return tap_done() ? 1 : 4;
	}
	open_dests();
	for (i = 1; i < argc; i++) {
		bool raw = i == argc - 1;

		snprintf(path, sizeof(path), raw ? "%s" : "%s/data", argv[i]);
		if (!tap(!source_open(node, argv[i], path, &s), "%s is a target", path))
			continue;
		test_lengths(&s);
		test_many(&s);
		test_mem_align(&s);
		test_wrong(&s);
		if (raw) {
			test_end(&s, s.size - 16384);
			continue;
		}
		snprintf(path, sizeof(path), "%s/tail", argv[i]);
		if (tap(!source_open(node, argv[i], path, &s), "%s is a target", path))
			test_end(&s, s.size / 4096 * 4096);
		snprintf(path, sizeof(path), "%s/hole", argv[i]);
		test_hole(argv[i], path);
	}
	return tap_done();
}
