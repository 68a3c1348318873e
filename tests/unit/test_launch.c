// SPDX-License-Identifier: MIT
/* From parts to matrices: every way in which gate and up share one, and what is refused, by name. */
#include <penstock/penstock.h>
#include <kabi.h>

#include "harness.h"

#define I	32u
#define H	64u

static const char mem[3];
static const void *const ptr[PENSTOCK_MAX_PARTS] = { mem, mem, mem };
static struct penstock_error err;

static struct penstock_part weight(uint32_t role, uint32_t fuse, uint64_t rows, uint64_t cols)
{
	return (struct penstock_part){
		.role = role, .kind = PENSTOCK_KIND_WEIGHT, .dtype = PENSTOCK_DTYPE_BF16, .fuse = fuse, .rows = rows,
		.cols = cols, .row_stride = 2 * cols, .col_stride = 2, .bytes = 2 * rows * cols,
	};
}

static struct penstock_layer_info fused(uint32_t fuse)
{
	return (struct penstock_layer_info){
		.size = sizeof(struct penstock_layer_info), .nr_parts = 2, .act_limit = 7,
		.parts = { weight(PENSTOCK_ROLE_GATE_UP, fuse, 2 * I, H), weight(PENSTOCK_ROLE_DOWN, 0, H, I) },
	};
}

static void refused(const struct penstock_layer_info *li, int code, const char *word)
{
	struct penstock_k_expert e;

	EXPECT_EQ(code, penstock_expert_view(li, ptr, &e, &err));
	EXPECT_HAS(err.text, word);
}

TEST(separate_matrices)
{
	struct penstock_layer_info li = { .nr_parts = 3, .parts = { weight(PENSTOCK_ROLE_DOWN, 0, H, I),
		weight(PENSTOCK_ROLE_UP, 0, I, H), weight(PENSTOCK_ROLE_GATE, 0, I, H) } };
	const void *const at[PENSTOCK_MAX_PARTS] = { &mem[0], &mem[1], &mem[2] };
	struct penstock_k_expert e;

	ASSERT_EQ(0, penstock_expert_view(&li, at, &e, &err));
	EXPECT_TRUE(e.down.data == &mem[0] && e.up.data == &mem[1] && e.gate.data == &mem[2]);
	EXPECT_EQ(I, e.gate.rows);
	EXPECT_EQ(H, e.down.rows);
}

TEST(fused_halves)
{
	struct penstock_layer_info li = fused(PENSTOCK_FUSE_HALVES);
	struct penstock_k_expert e;

	ASSERT_EQ(0, penstock_expert_view(&li, ptr, &e, &err));
	EXPECT_TRUE(e.gate.data == mem);
	EXPECT_TRUE((uintptr_t)e.up.data == (uintptr_t)mem + I * 2 * H);
	EXPECT_EQ(2u * H, e.up.row_stride);
	EXPECT_EQ(I, e.up.rows);
	EXPECT_TRUE(e.limit == 7);
}

TEST(fused_row_by_row)
{
	struct penstock_layer_info li = fused(PENSTOCK_FUSE_INTERLEAVED);
	struct penstock_k_expert e;

	ASSERT_EQ(0, penstock_expert_view(&li, ptr, &e, &err));
	EXPECT_TRUE((uintptr_t)e.up.data == (uintptr_t)mem + 2 * H);
	EXPECT_EQ(4u * H, e.gate.row_stride);
	EXPECT_EQ(4u * H, e.up.row_stride);
}

TEST(a_fused_part_must_be_two_equal_shares)
{
	struct penstock_layer_info li = fused(PENSTOCK_FUSE_HALVES);

	li.parts[0].rows = 2 * I - 1;
	refused(&li, -EINVAL, "gate_up weight of 63 x 64 BF16");
	li = fused(PENSTOCK_FUSE_NONE);
	refused(&li, -EINVAL, "gate_up weight");
}

TEST(a_scale_must_not_cover_rows_of_both)
{
	struct penstock_layer_info li = fused(PENSTOCK_FUSE_INTERLEAVED);

	li.nr_parts = 3;
	li.parts[2] = (struct penstock_part){
		.role = PENSTOCK_ROLE_GATE_UP, .kind = PENSTOCK_KIND_SCALE, .dtype = PENSTOCK_DTYPE_F32,
		.fuse = PENSTOCK_FUSE_INTERLEAVED, .rows = 2, .cols = 1, .row_stride = 4, .col_stride = 4,
		.block_rows = 32, .block_cols = H,
	};
	refused(&li, -EINVAL, "gate_up scale");
}

TEST(what_is_missing_or_does_not_compute_is_named)
{
	struct penstock_layer_info li = fused(PENSTOCK_FUSE_HALVES);

	li.nr_parts = 1;
	refused(&li, -EINVAL, "no matrix");
	li = fused(PENSTOCK_FUSE_HALVES);
	li.parts[1].dtype = PENSTOCK_DTYPE_I16;
	refused(&li, -EOPNOTSUPP, "down weight of 64 x 32 I16");
	li = fused(PENSTOCK_FUSE_HALVES);
	li.parts[1].kind = 9;
	refused(&li, -EOPNOTSUPP, "down ?");
	li.nr_parts = PENSTOCK_MAX_PARTS + 1;
	refused(&li, -EINVAL, "13 parts");
}

TEST_HARNESS_MAIN
