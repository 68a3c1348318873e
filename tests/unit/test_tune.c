// SPDX-License-Identifier: MIT
/* The measurement of a drive: the choice, and that it keeps to its part of the file and its time. */
#include <sys/resource.h>
#include "files.h"
#include "tune.h"
#include "util.h"

#define MIB (1u << 20)

TEST(tune_chooses_the_least_within_10_percent)
{
	const struct penstock_tune_point points[] = {
		{ 4, MIB / 4, 500 }, { 8, MIB, 899 }, { 16, MIB, 900 }, { 32, MIB, 935 }, { 64, MIB, 1000 }, { 64, 4 * MIB, 0 },
	};

	EXPECT_EQ(2, penstock_tune_choose(points, 6));
	EXPECT_EQ(1, penstock_tune_choose(points, 4));
	EXPECT_EQ(0, penstock_tune_choose(points, 1));
}

TEST(tune_chooses_the_same_in_any_order)
{
	const struct penstock_tune_point a[] = { { 8, MIB / 2, 990 }, { 4, MIB, 980 }, { 2, 2 * MIB, 100 } };
	const struct penstock_tune_point b[] = { { 4, MIB, 980 }, { 2, 2 * MIB, 100 }, { 8, MIB / 2, 990 } };

	/* as much in flight, in fewer reads */
	EXPECT_EQ(1, penstock_tune_choose(a, 3));
	EXPECT_EQ(0, penstock_tune_choose(b, 3));
}

TEST(tune_chooses_nothing_from_nothing)
{
	const struct penstock_tune_point none[] = { { 4, MIB, 0 }, { 8, MIB, 0 } };

	EXPECT_EQ(-1, penstock_tune_choose(none, 2));
	EXPECT_EQ(-1, penstock_tune_choose(NULL, 0));
}

static struct penstock_store store;
static struct penstock_error err;

static void add_file(uint64_t size)
{
	uint32_t nr;

	files_make(files_path("data"), size);
	ASSERT_EQ(0, penstock_store_add(&store, files_path("data"), &nr, &err));
}

static void measure(uint64_t off, uint64_t len, const struct penstock_ring_ops *ops)
{
	struct penstock_tune t = { 0 };
	uint64_t begin = penstock_now_ns();
	int ret = penstock_tune_drive(&store, 0, off, len, ops, -1, 60000000, &t, &err);

	if (ret == -EOPNOTSUPP)
		SKIP("%s", err.text);
	if (ret)
		TEST_FAIL_(1, "%s", err.text);
	EXPECT_TRUE(t.depth >= 4 && t.depth <= 16);
	EXPECT_TRUE(t.split >= 256 << 10 && t.split <= 4 * MIB);
	EXPECT_GT(t.bytes_per_s, 0);
	EXPECT_GT(t.latency_ns, 0);
	EXPECT_LT(t.latency_ns, t.spent_ns);
	EXPECT_LE(t.spent_ns, penstock_now_ns() - begin);
}

TEST(tune_measures_with_both_engines)
{
	add_file(20u * MIB + 100);
	ASSERT_EQ(0, penstock_store_probe(&store, 0, false, &err));
	measure(0, store.files[0].size, &penstock_ring_pread);
	measure(100, store.files[0].size - 100, NULL);
	penstock_store_close(&store);
}

TEST(tune_measures_small_files)
{
	static const uint64_t sizes[] = { 1, 511, 4097, 300000 };
	size_t i;

	for (i = 0; i < PENSTOCK_ARRAY_SIZE(sizes); i++) {
		add_file(sizes[i]);
		ASSERT_EQ(0, penstock_store_probe(&store, 0, i % 2, &err));
		measure(0, sizes[i], NULL);
		measure(sizes[i] - 1, 1, NULL);
		penstock_store_close(&store);
	}
}

TEST(tune_reads_only_its_part)
{
	struct penstock_tune t;

	add_file(8u * MIB);
	ASSERT_EQ(0, penstock_store_probe(&store, 0, false, &err));
	/* what lies past the part is gone: a read of it would be -ENODATA */
	ASSERT_EQ(0, truncate(store.files[0].path, 3 * MIB + 100));
	EXPECT_EQ(0, penstock_tune_drive(&store, 0, 0, 3 * MIB + 100, NULL, -1, 30000000, &t, &err));
	EXPECT_EQ(-ENODATA, penstock_tune_drive(&store, 0, 4 * MIB, MIB, NULL, -1, 30000000, &t, &err));
	EXPECT_HAS(err.text, store.files[0].path);
	penstock_store_close(&store);
}

TEST(tune_refuses_parts_outside_the_file)
{
	struct penstock_tune t;

	add_file(8192);
	EXPECT_EQ(-EINVAL, penstock_tune_drive(&store, 0, 0, 8192, NULL, -1, 0, &t, &err));
	EXPECT_HAS(err.text, "not been probed");
	ASSERT_EQ(0, penstock_store_probe(&store, 0, false, &err));
	EXPECT_EQ(-EINVAL, penstock_tune_drive(&store, 0, 0, 8193, NULL, -1, 0, &t, &err));
	EXPECT_EQ(-EINVAL, penstock_tune_drive(&store, 0, 100, 0, NULL, -1, 0, &t, &err));
	EXPECT_EQ(-EINVAL, penstock_tune_drive(&store, 0, UINT64_MAX, 2, NULL, -1, 0, &t, &err));
	EXPECT_EQ(-EINVAL, penstock_tune_drive(&store, 1, 0, 1, NULL, -1, 0, &t, &err));
	penstock_store_close(&store);
}

TEST_HARNESS_MAIN
