// SPDX-License-Identifier: MIT
/*
 * The plan of one expert, from any extents. Input: a byte of flags, a byte that
 * chooses the split, one of alignments (2 bits a file), then 17 bytes an extent
 * (file, offset, length). Flag 1 keeps offsets and lengths small, so that extents
 * meet. What a plan promises is checked with wider integers.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"
#include "util.h"

#define NEED(c) do { if (!(c)) { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #c); abort(); } } while (0)

#define NR_FILES	4u
#define HEADER		3u
#define EXTENT		17u

__extension__ typedef unsigned __int128 wide;

struct expert {
	struct penstock_extent ext[PENSTOCK_MAX_PARTS];
	struct penstock_range ranges[PENSTOCK_MAX_PARTS];
	uint64_t part_off[PENSTOCK_MAX_PARTS];
	uint32_t align[NR_FILES];
	uint32_t nr;
	uint32_t nr_ranges;
	uint64_t slot_bytes;
	uint32_t split;
};

static void decode(struct expert *x, const uint8_t *data, size_t size)
{
	static const uint32_t aligns[] = { 1, 512, 1024, 4096 };
	uint32_t i;

	memset(x, 0, sizeof(*x));
	x->split = (1 + data[1]) * PENSTOCK_MEM_ALIGN;
	for (i = 0; i < NR_FILES; i++)
		x->align[i] = aligns[data[2] >> 2 * i & 3];
	for (i = 0; i < PENSTOCK_MAX_PARTS && HEADER + (i + 1) * EXTENT <= size; i++) {
		const uint8_t *p = data + HEADER + i * EXTENT;

		x->ext[i].file = p[0] % NR_FILES;
		x->ext[i].part = i;
		memcpy(&x->ext[i].off, p + 1, 8);
		memcpy(&x->ext[i].len, p + 9, 8);
		if (data[0] & 1) {
			x->ext[i].off %= 1 << 16;
			x->ext[i].len %= 1 << 15;
		}
	}
	x->nr = i;
}

/* Would an honest plan wrap? */
static bool wraps(const struct expert *x)
{
	wide sum = 0;
	uint32_t i;

	for (i = 0; i < x->nr; i++) {
		uint64_t align = x->align[x->ext[i].file];
		wide end = (wide)x->ext[i].off + x->ext[i].len;

		if (!x->ext[i].len)
			continue;
		if (end + align - 1 > UINT64_MAX)
			return true;
		sum += (wide)x->ext[i].len + 2 * align + PENSTOCK_MEM_ALIGN;
	}
	return sum > UINT64_MAX;
}

static void check_read(const struct expert *x, const struct penstock_range *r, uint64_t i, uint64_t nr)
{
	struct penstock_read read;

	/* the lowest address that is none: what is at a slot is never touched */
	penstock_plan_read(r, i, x->split, (void *)1, &read);
	NEED(read.file == r->file && read.buf == -1);
	NEED(read.off - r->off == i * x->split);
	NEED((uintptr_t)read.dst == 1 + r->slot_off + i * x->split);
	NEED(read.len == (i + 1 < nr ? x->split : r->len - (nr - 1) * x->split));
	NEED(read.len && read.need && read.need <= read.len);
	NEED(i + 1 == nr ? read.off + read.need == r->off + r->need : read.need == read.len);
}

static void check_range(const struct expert *x, uint32_t n)
{
	const struct penstock_range *r = &x->ranges[n], *prev = r - 1;
	uint64_t align = x->align[r->file], nr = penstock_plan_nr_reads(r->len, x->split);

	NEED(r->len && r->off % align == 0 && r->len % align == 0);
	NEED((wide)r->off + r->len <= UINT64_MAX);
	NEED(r->need && r->need <= r->len && r->len - r->need < align);
	NEED(r->slot_off % PENSTOCK_MEM_ALIGN == 0);
	NEED((wide)r->slot_off + r->len <= x->slot_bytes);
	if (n) {
		NEED(r->slot_off >= prev->slot_off + prev->len);
		NEED(r->file > prev->file || (r->file == prev->file && r->off > prev->off + prev->len));
	}
	check_read(x, r, 0, nr);
	check_read(x, r, nr - 1, nr);
	check_read(x, r, nr / 2, nr);
}

/* Every extent lies in one range, where part_off says; every range begins in the block of an extent. */
static void check_parts(const struct expert *x)
{
	bool begun[PENSTOCK_MAX_PARTS] = { false };
	uint32_t i, n;

	for (i = 0; i < x->nr; i++) {
		const struct penstock_extent *e = &x->ext[i];
		uint32_t homes = 0;

		for (n = 0; e->len && n < x->nr_ranges; n++) {
			const struct penstock_range *r = &x->ranges[n];

			if (r->file != e->file || e->off < r->off || e->off - r->off >= r->need)
				continue;
			homes++;
			NEED((wide)e->off + e->len <= (wide)r->off + r->need);
			NEED(x->part_off[i] == r->slot_off + (e->off - r->off));
			begun[n] |= e->off - r->off < x->align[e->file];
		}
		NEED(homes == (e->len ? 1 : 0));
		NEED(e->len || !x->part_off[i]);
	}
	for (n = 0; n < x->nr_ranges; n++)
		NEED(begun[n]);
}

static int fuzz_plan(const uint8_t *data, size_t size)
{
	struct expert x;
	uint32_t n;
	int ret;

	if (size < HEADER)
		return 0;
	decode(&x, data, size);
	ret = penstock_plan_expert(x.ext, x.nr, x.align, x.ranges, &x.nr_ranges, x.part_off, &x.slot_bytes);
	if (ret) {
		NEED(ret == -EOVERFLOW && wraps(&x));
		return 0;
	}
	NEED(x.nr_ranges <= x.nr);
	NEED(x.slot_bytes % PENSTOCK_MEM_ALIGN == 0);
	for (n = 0; n < x.nr_ranges; n++)
		check_range(&x, n);
	check_parts(&x);
	return 0;
}

#ifdef FUZZING
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_plan(data, size);
}
#endif
