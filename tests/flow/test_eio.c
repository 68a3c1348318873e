// SPDX-License-Identifier: MIT
/*
 * A drive that fails: read errors on the way of experts, by a pread() of our own in front
 * of the C library's. Passing errors are retried, lasting ones are reported with file,
 * offset and tensor, and nothing else suffers.
 */
#include <stdatomic.h>
#include <sys/syscall.h>

#include "stream_fixture.h"

/* Reads that touch [bad_begin, bad_end) of any file fail while there are errors left. */
static atomic_llong bad_begin = -1, bad_end = -1;
static atomic_int errors_left;

ssize_t pread(int fd, void *buf, size_t len, off_t off)
{
	if (off < atomic_load(&bad_end) && off + (off_t)len > atomic_load(&bad_begin) &&
	    atomic_fetch_sub(&errors_left, 1) > 0) {
		errno = EIO;
		return -1;
	}
	return syscall(SYS_pread64, fd, buf, len, off);
}

/* Offset in the file of an expert's up projection. */
static long long place_of(struct fixture *f, uint32_t layer, uint32_t expert)
{
	struct penstock_tensor t;
	char name[128];
	int64_t nr;

	snprintf(name, sizeof(name), "model.layers.%u.mlp.experts.%u.up_proj.weight", layer, expert);
	nr = penstock_tensor_find(f->model, name);
	ASSERT_GE(nr, 0);
	ASSERT_EQ(0, penstock_tensor_at(f->model, (uint32_t)nr, &t));
	return (long long)t.off;
}

static void break_drive(struct fixture *f, uint32_t layer, uint32_t expert, int errors)
{
	long long at = place_of(f, layer, expert);

	atomic_store(&bad_begin, at + 1000);
	atomic_store(&bad_end, at + 1001);
	atomic_store(&errors_left, errors);
}

TEST(a_passing_error_is_retried)
{
	const int32_t ids[] = { 3, 5 };
	struct fixture f;

	setup(&f, PENSTOCK_F_NO_URING, 8, NULL);
	break_drive(&f, 1, 5, 2);
	fetch_and_check(&f, f.q, 1, ids, 2);
	EXPECT_EQ(2u, stats_of(&f).retries);
	teardown(&f);
}

static void lasting_error(uint32_t flags)
{
	const int32_t ids[] = { 3, 5, 7 }, others[] = { 3, 7 };
	struct penstock_ticket *t;
	struct fixture f;
	char off[32];

	setup(&f, PENSTOCK_F_NO_URING | flags, 8, NULL);
	break_drive(&f, 1, 5, 1000000);
	ASSERT_EQ(0, penstock_fetch(f.q, f.model, 1, ids, 3, &t));
	EXPECT_EQ(-EIO, penstock_wait(t, FOR_EVER));
	EXPECT_HAS(penstock_errmsg(f.q), f.tiny.file);
	EXPECT_HAS(penstock_errmsg(f.q), "model.layers.1.mlp.experts.5.");
	/* the read began at the block below the expert's first byte */
	snprintf(off, sizeof(off), "off %lld", (place_of(&f, 1, 5) - 2 * (long long)TINY_ELEMS) / 512 * 512);
	EXPECT_HAS(penstock_errmsg(f.q), off);
	penstock_release(t);
	/* the others are whole, the bad one fails again, and is there once the drive is well */
	fetch_and_check(&f, f.q, 1, others, 2);
	ASSERT_EQ(0, penstock_fetch(f.q, f.model, 1, ids, 3, &t));
	EXPECT_EQ(-EIO, penstock_wait(t, FOR_EVER));
	penstock_release(t);
	atomic_store(&errors_left, 0);
	fetch_and_check(&f, f.q, 1, ids, 3);
	EXPECT_EQ(0u, stats_of(&f).in_flight_bytes);
	teardown(&f);
}

TEST(a_lasting_error_is_reported_and_does_not_stay)
{
	lasting_error(0);
}

TEST(a_lasting_error_with_caller_progress)
{
	lasting_error(PENSTOCK_F_CALLER_PROGRESS);
}

TEST(a_guess_that_fails_is_forgotten)
{
	const int32_t ids[] = { 5 };
	struct fixture f;

	setup(&f, PENSTOCK_F_NO_URING, 8, NULL);
	break_drive(&f, 1, 5, 3);
	ASSERT_EQ(0, penstock_prefetch(f.q, f.model, 1, ids, NULL, 1));
	for (int i = 0; i < 2000 && atomic_load(&errors_left) > 0; i++)
		usleep(1000);
	atomic_store(&errors_left, 0);
	fetch_and_check(&f, f.q, 1, ids, 1);
	teardown(&f);
}

TEST_HARNESS_MAIN
