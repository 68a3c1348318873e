// SPDX-License-Identifier: MIT
/* The canary: what it lets pass, what it finds, and what it says of it. */
#include "canary.h"
#include "harness.h"
#include "util.h"

#define BLOCK	PENSTOCK_CANARY_BLOCK
#define FILE_BLOCKS 40u

enum lie { HONEST, NOTHING, ONE_BIT, NEIGHBOUR, LAST_HALF, SAME_BLOCK, GUARD_BEFORE, GUARD_BEHIND, FAILS };

static uint64_t file[FILE_BLOCKS][BLOCK / 8];
static uint64_t view[PENSTOCK_CANARY_BYTES / 8];
static enum lie lie;
static uint32_t nr_routed;
static struct penstock_error err;

static int plain(void *arg, uint64_t off, void *block, struct penstock_error *e)
{
	EXPECT_EQ(0u, off % BLOCK);
	EXPECT_TRUE(off / BLOCK < FILE_BLOCKS);
	memcpy(block, file[off / BLOCK], BLOCK);
	return 0;
}

/* The fifth read is the bad one, so that the ones before it are seen to be good. */
static int route(void *arg, uint64_t off, uint32_t at, struct penstock_error *e)
{
	char *to = (char *)view + at;
	const void *from = file[off / BLOCK];
	static const void *first;

	EXPECT_EQ(0u, at % BLOCK);
	EXPECT_TRUE(at + 2 * BLOCK <= PENSTOCK_CANARY_BYTES);
	if (!nr_routed++)
		first = from;
	if (nr_routed != 5 || lie == HONEST) {
		memcpy(to, from, BLOCK);
		return 0;
	}
	switch (lie) {
	case NOTHING:
		break;
	case ONE_BIT:
		memcpy(to, from, BLOCK);
		to[1000] ^= 4;
		break;
	case NEIGHBOUR:
		memcpy(to + BLOCK, from, BLOCK);
		break;
	case LAST_HALF:
		memcpy(to + BLOCK / 2, (const char *)from + BLOCK / 2, BLOCK / 2);
		break;
	case SAME_BLOCK:
		memcpy(to, first, BLOCK);
		break;
	case GUARD_BEFORE:
		memcpy(to, from, BLOCK);
		to[-1] ^= 1;
		break;
	case GUARD_BEHIND:
		memcpy(to, from, BLOCK);
		to[BLOCK] ^= 1;
		break;
	case FAILS:
		return e->code = -EREMOTEIO;
	case HONEST:
		break;
	}
	return 0;
}

static void fill(uint32_t different)
{
	for (uint32_t b = 0; b < FILE_BLOCKS; b++)
		for (uint32_t i = 0; i < BLOCK / 8; i++)
			file[b][i] = (b % different + 1) * 0x0101010101010101u + i;
}

static int run(enum lie how, uint64_t bytes)
{
	struct penstock_canary c = {
		.pair = "a drive into a peer", .view = view, .size = bytes, .seed = 42, .route = route, .plain = plain,
	};

	lie = how;
	nr_routed = 0;
	memset(&err, 0, sizeof(err));
	return penstock_canary_run(&c, &err);
}

TEST(canary_passes_where_the_data_is)
{
	fill(FILE_BLOCKS);
	EXPECT_EQ(0, run(HONEST, sizeof(file)));
	EXPECT_EQ(PENSTOCK_CANARY_BLOCKS, nr_routed);
	/* a ragged end is not looked at */
	EXPECT_EQ(0, run(HONEST, sizeof(file) - 1));
	EXPECT_EQ(0, run(HONEST, 3 * BLOCK));
	EXPECT_EQ(3u, nr_routed);
}

static void refused(enum lie how, const char *text)
{
	fill(FILE_BLOCKS);
	EXPECT_EQ(-EREMOTEIO, run(how, sizeof(file)));
	EXPECT_HAS(err.text, "a drive into a peer");
	EXPECT_HAS(err.text, text);
	EXPECT_HAS(err.text, "expected");
}

TEST(canary_finds_what_did_not_arrive)
{
	refused(NOTHING, "block 4");
	EXPECT_HAS(err.text, "nothing arrived, though the read reported all of it");
	refused(LAST_HALF, "only a part arrived");
}

TEST(canary_finds_one_bit)
{
	refused(ONE_BIT, "block 4");
	EXPECT_HAS(err.text, "byte 1000");
}

TEST(canary_finds_data_elsewhere)
{
	refused(NEIGHBOUR, "nothing arrived");
	refused(SAME_BLOCK, "it is another block");
}

TEST(canary_finds_overwritten_guards)
{
	refused(GUARD_BEFORE, "the guard in page 8 was overwritten at byte 4088");
	refused(GUARD_BEHIND, "the guard in page 10 was overwritten at byte 0");
}

TEST(canary_passes_errors_on)
{
	fill(FILE_BLOCKS);
	EXPECT_EQ(-EREMOTEIO, run(FAILS, sizeof(file)));
}

/* Blocks that are alike would look right in the wrong place: they are not used. */
TEST(canary_wants_blocks_that_differ)
{
	fill(1);
	EXPECT_EQ(-ENODATA, run(HONEST, sizeof(file)));
	EXPECT_HAS(err.text, "1 blocks that differ");
	EXPECT_EQ(0u, nr_routed);
	fill(2);
	EXPECT_EQ(0, run(HONEST, sizeof(file)));
	EXPECT_EQ(2u, nr_routed);
	EXPECT_EQ(-ENODATA, run(HONEST, BLOCK - 1));
	/* of one value each, as cleared memory is */
	for (uint32_t b = 0; b < FILE_BLOCKS; b++)
		memset(file[b], (int)b, BLOCK);
	EXPECT_EQ(-ENODATA, run(HONEST, sizeof(file)));
}

TEST_HARNESS_MAIN
