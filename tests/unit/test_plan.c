// SPDX-License-Identifier: MIT
/* The plan, against the offsets and sizes that broke others, and against a map that holds a note for every byte. */
#include "harness.h"
#include "plan.h"
#include "util.h"

struct plan {
	struct penstock_range ranges[PENSTOCK_MAX_PARTS];
	uint64_t part_off[PENSTOCK_MAX_PARTS];
	uint64_t slot_bytes;
	uint32_t nr;
};

static int make(const struct penstock_extent *ext, uint32_t nr, const uint32_t *align, struct plan *p)
{
	memset(p, 0xee, sizeof(*p));
	return penstock_plan_expert(ext, nr, align, p->ranges, &p->nr, p->part_off, &p->slot_bytes);
}

TEST(plan_lays_out_every_offset_and_size)
{
	static const uint64_t offs[] = { 0, 512, 4096, 8192, 1, 100, 240, 511, 513, 2848, 4095, 4097,
					 (3u << 20) + 100, (1ull << 40) + 7 };
	static const uint64_t lens[] = { 1, 64, 100, 200, 511, 512, 513, 4095, 4096, 4097, 8192, 512 * 7 + 1,
					 512 * 7 + 100, 512 * 7 + 511, (3u << 20) + 100 };
	static const uint32_t aligns[] = { 1, 512, 4096 };
	struct plan p;
	size_t a, i, j;

	for (a = 0; a < PENSTOCK_ARRAY_SIZE(aligns); a++)
		for (i = 0; i < PENSTOCK_ARRAY_SIZE(offs); i++)
			for (j = 0; j < PENSTOCK_ARRAY_SIZE(lens); j++) {
				struct penstock_extent e = { .off = offs[i], .len = lens[j] };

				ASSERT_EQ(0, make(&e, 1, &aligns[a], &p));
				ASSERT_EQ(1, p.nr);
				EXPECT_EQ(0, p.ranges[0].off % aligns[a]);
				EXPECT_EQ(0, p.ranges[0].len % aligns[a]);
				EXPECT_LE(p.ranges[0].off, e.off);
				EXPECT_LT(e.off - p.ranges[0].off, aligns[a]);
				EXPECT_EQ(e.off + e.len, p.ranges[0].off + p.ranges[0].need);
				EXPECT_LT(p.ranges[0].len - p.ranges[0].need, aligns[a]);
				EXPECT_EQ(e.off - p.ranges[0].off, p.part_off[0] - p.ranges[0].slot_off);
				EXPECT_EQ(0, p.slot_bytes % PENSTOCK_MEM_ALIGN);
				EXPECT_GE(p.slot_bytes, p.ranges[0].len);
				EXPECT_LT(p.slot_bytes - p.ranges[0].len, PENSTOCK_MEM_ALIGN);
			}
}

TEST(plan_merges_extents_whose_blocks_touch)
{
	static const uint32_t align = 4096;
	/* out of order; 0 and 2 share a block, 1 begins where 2's last block ends */
	const struct penstock_extent ext[] = {
		{ .off = 100, .len = 5000 }, { .off = 12288, .len = 10 }, { .off = 6000, .len = 3000 },
	};
	struct plan p;

	ASSERT_EQ(0, make(ext, 3, &align, &p));
	ASSERT_EQ(1, p.nr);
	EXPECT_EQ(0, p.ranges[0].off);
	EXPECT_EQ(16384, p.ranges[0].len);
	EXPECT_EQ(12298, p.ranges[0].need);
	EXPECT_EQ(100, p.part_off[0]);
	EXPECT_EQ(12288, p.part_off[1]);
	EXPECT_EQ(6000, p.part_off[2]);
}

TEST(plan_keeps_extents_apart_that_a_block_separates)
{
	static const uint32_t align = 4096;
	const struct penstock_extent ext[] = { { .off = 8192, .len = 4096 }, { .off = 0, .len = 4096 } };
	struct plan p;

	ASSERT_EQ(0, make(ext, 2, &align, &p));
	ASSERT_EQ(2, p.nr);
	EXPECT_EQ(0, p.ranges[0].off);
	EXPECT_EQ(8192, p.ranges[1].off);
	EXPECT_EQ(0, p.part_off[1]);
	EXPECT_EQ(4096, p.part_off[0]);
	EXPECT_EQ(8192, p.slot_bytes);
}

TEST(plan_merges_nested_and_equal_extents)
{
	static const uint32_t align = 512;
	const struct penstock_extent ext[] = {
		{ .off = 0, .len = 9000 }, { .off = 600, .len = 10 }, { .off = 600, .len = 10 },
	};
	struct plan p;

	ASSERT_EQ(0, make(ext, 3, &align, &p));
	ASSERT_EQ(1, p.nr);
	EXPECT_EQ(9216, p.ranges[0].len);
	EXPECT_EQ(9000, p.ranges[0].need);
	EXPECT_EQ(600, p.part_off[1]);
	EXPECT_EQ(600, p.part_off[2]);
}

TEST(plan_never_merges_across_files)
{
	static const uint32_t align[] = { 512, 4096, 1 };
	const struct penstock_extent ext[] = {
		{ .file = 1, .off = 5000, .len = 100 }, { .file = 0, .off = 5000, .len = 100 },
		{ .file = 2, .off = 5000, .len = 100 },
	};
	struct plan p;

	ASSERT_EQ(0, make(ext, 3, align, &p));
	ASSERT_EQ(3, p.nr);
	EXPECT_EQ(0, p.ranges[0].file);
	EXPECT_EQ(4608, p.ranges[0].off);
	EXPECT_EQ(1, p.ranges[1].file);
	EXPECT_EQ(4096, p.ranges[1].off);
	EXPECT_EQ(2, p.ranges[2].file);
	EXPECT_EQ(5000, p.ranges[2].off);
	EXPECT_EQ(3 * 4096, p.slot_bytes);
}

TEST(plan_of_empty_parts_reads_nothing)
{
	static const uint32_t align = 4096;
	const struct penstock_extent ext[] = {
		{ .off = 77, .len = 0 }, { .off = 5000, .len = 1 }, { .off = UINT64_MAX, .len = 0 },
	};
	struct plan p;

	ASSERT_EQ(0, make(ext, 1, &align, &p));
	EXPECT_EQ(0, p.nr);
	EXPECT_EQ(0, p.slot_bytes);
	EXPECT_EQ(0, p.part_off[0]);
	ASSERT_EQ(0, make(ext, 0, &align, &p));
	EXPECT_EQ(0, p.nr);
	ASSERT_EQ(0, make(ext, 3, &align, &p));
	EXPECT_EQ(1, p.nr);
	EXPECT_EQ(0, p.part_off[0]);
	EXPECT_EQ(904, p.part_off[1]);
	EXPECT_EQ(0, p.part_off[2]);
}

TEST(plan_refuses_what_wraps)
{
	static const uint32_t align[] = { 4096, 1 };
	const struct penstock_extent wraps[] = { { .off = UINT64_MAX - 31, .len = 64 } };
	const struct penstock_extent no_block_left[] = { { .off = UINT64_MAX - 100, .len = 64 } };
	const struct penstock_extent two[] = { { .off = 0, .len = UINT64_MAX - 4096 },
					       { .file = 1, .off = 0, .len = 8192 } };
	struct plan p;

	EXPECT_EQ(-EOVERFLOW, make(wraps, 1, align, &p));
	EXPECT_EQ(-EOVERFLOW, make(no_block_left, 1, align, &p));
	EXPECT_EQ(-EOVERFLOW, make(two, 2, align, &p));
}

TEST(plan_refuses_bad_alignments_and_too_many_parts)
{
	static const uint32_t bad[] = { 0, 3, 8192, 768 };
	const struct penstock_extent e = { .off = 0, .len = 64 };
	struct penstock_extent many[PENSTOCK_MAX_PARTS + 1] = { 0 };
	static const uint32_t align = 4096;
	struct plan p;
	size_t i;

	for (i = 0; i < PENSTOCK_ARRAY_SIZE(bad); i++)
		EXPECT_EQ(-EINVAL, make(&e, 1, &bad[i], &p));
	EXPECT_EQ(-EINVAL, make(many, PENSTOCK_MAX_PARTS + 1, &align, &p));
	EXPECT_EQ(0, make(many, PENSTOCK_MAX_PARTS, &align, &p));
}

TEST(plan_splits_a_range_into_reads)
{
	const struct penstock_range r = { .file = 3, .off = 8192, .len = 10000 * 4096ull, .need = 10000 * 4096ull - 5,
					  .slot_off = 4096 };
	char *slot = (char *)0x10000000;
	uint64_t nr = penstock_plan_nr_reads(r.len, 1 << 20), i, at = 0;
	struct penstock_read read;

	EXPECT_EQ(40, nr);
	EXPECT_EQ(0, penstock_plan_nr_reads(0, 4096));
	EXPECT_EQ(1, penstock_plan_nr_reads(4096, 4096));
	EXPECT_EQ(2, penstock_plan_nr_reads(4097, 4096));
	for (i = 0; i < nr; i++) {
		penstock_plan_read(&r, i, 1 << 20, slot, &read);
		EXPECT_EQ(3, read.file);
		EXPECT_EQ(-1, read.buf);
		EXPECT_EQ(r.off + at, read.off);
		EXPECT_TRUE(read.dst == slot + r.slot_off + at);
		EXPECT_EQ(i + 1 < nr ? 1u << 20 : (10000 * 4096u) % (1u << 20), read.len);
		EXPECT_EQ(i + 1 < nr ? read.len : read.len - 5, read.need);
		EXPECT_EQ(0, read.done | read.tries | read.status);
		EXPECT_TRUE(!read.cookie && !read.next);
		at += read.len;
	}
	EXPECT_EQ(r.len, at);
}

/* The model: what every byte of the slot holds, and how often every byte of the files was read. */

#define MODEL_FILES	3
#define MODEL_SIZE	65536u
#define MODEL_SLOT	(PENSTOCK_MAX_PARTS * (MODEL_SIZE + 8192u))

static uint32_t model_slot[MODEL_SLOT];
static uint8_t model_read[MODEL_FILES][MODEL_SIZE + 4096];
static uint8_t model_wanted[MODEL_FILES][MODEL_SIZE + 4096];

static uint64_t model_seed;

static uint32_t below(uint32_t n)
{
	model_seed = model_seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(model_seed >> 33) % n;
}

static uint32_t tag(uint32_t file, uint64_t off)
{
	return 1 + file * (MODEL_SIZE + 4096) + (uint32_t)off;
}

/* Do the reads of a plan. Return: bytes read. */
static uint64_t model_do_reads(const struct plan *p, uint32_t split, const uint32_t *align)
{
	uint64_t total = 0, i, k, to;
	struct penstock_read r;
	uint32_t n;

	for (n = 0; n < p->nr; n++)
		for (i = 0; i < penstock_plan_nr_reads(p->ranges[n].len, split); i++) {
			penstock_plan_read(&p->ranges[n], i, split, NULL, &r);
			to = (uintptr_t)r.dst;
			ASSERT_EQ(0, to % PENSTOCK_MEM_ALIGN);
			ASSERT_EQ(0, r.off % align[r.file]);
			ASSERT_EQ(0, r.len % align[r.file]);
			ASSERT_LE(to + r.len, p->slot_bytes);
			ASSERT_LE(r.need, r.len);
			for (k = 0; k < r.len; k++) {
				ASSERT_EQ(0, model_read[r.file][r.off + k]++);
				ASSERT_EQ(0, model_slot[to + k]);
				if (k < r.need)
					model_slot[to + k] = tag(r.file, r.off + k);
			}
			total += r.len;
		}
	return total;
}

static void model_round(void)
{
	static const uint32_t aligns[] = { 1, 512, 1024, 4096 };
	struct penstock_extent ext[PENSTOCK_MAX_PARTS];
	uint32_t align[MODEL_FILES], nr = below(PENSTOCK_MAX_PARTS + 1), i, f;
	uint64_t k, total, wanted = 0, spare = 0;
	struct plan p;

	memset(model_slot, 0, sizeof(model_slot));
	memset(model_read, 0, sizeof(model_read));
	memset(model_wanted, 0, sizeof(model_wanted));
	for (f = 0; f < MODEL_FILES; f++)
		align[f] = aligns[below(4)];
	for (i = 0; i < nr; i++) {
		ext[i] = (struct penstock_extent){ .file = below(MODEL_FILES), .part = i, .off = below(MODEL_SIZE) };
		/* neighbours, often */
		if (i && below(3) == 0) {
			ext[i].file = ext[i - 1].file;
			ext[i].off = ext[i - 1].off + ext[i - 1].len;
		}
		ext[i].len = ext[i].off >= MODEL_SIZE ? 0 : below(below(2) ? 600 : MODEL_SIZE) % (MODEL_SIZE - ext[i].off);
		memset(&model_wanted[ext[i].file][ext[i].off], 1, ext[i].len);
	}
	ASSERT_EQ(0, make(ext, nr, align, &p));
	ASSERT_LE(p.nr, nr);
	total = model_do_reads(&p, 4096 * (1 + below(5)), align);
	for (i = 0; i < nr; i++)
		for (k = 0; k < ext[i].len; k++)
			ASSERT_EQ(tag(ext[i].file, ext[i].off + k), model_slot[p.part_off[i] + k]);
	for (f = 0; f < MODEL_FILES; f++)
		for (k = 0; k < MODEL_SIZE; k++)
			wanted += model_wanted[f][k];
	for (i = 0; i < p.nr; i++)
		spare += 2 * (align[p.ranges[i].file] - 1);
	/* between extents of one range less than two blocks lie, and every extent but the first can have such a gap */
	for (i = 1; i < nr; i++)
		spare += 2 * (align[ext[i].file] - 1);
	ASSERT_LE(total, wanted + spare);
}

TEST(plan_puts_every_wanted_byte_where_it_says)
{
	int i;

	for (i = 0; i < 400; i++) {
		model_seed = (uint64_t)i;
		model_round();
	}
}

TEST_HARNESS_MAIN
