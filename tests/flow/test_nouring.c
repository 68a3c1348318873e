// SPDX-License-Identifier: MIT
/* Where io_uring is refused: reads go through pread, every byte right, and the reason can be read. */
#include "ring_load.h"
#include "fake/nouring.c"
#include "ring_probe.h"

static struct penstock_store store;

static void add_file(void)
{
	uint32_t nr;

	files_make(files_path("data"), (3u << 20) + 100);
	ASSERT_EQ(0, penstock_store_add(&store, files_path("data"), &nr, NULL));
	ASSERT_EQ(0, penstock_store_probe(&store, nr, false, NULL));
}

/* A load through whatever ring can be had after this refusal. */
static struct penstock_ring *refused_ring(int first, int last, int code)
{
	struct ring_load l = { .store = &store, .depth = 16, .nr = 200, .most = 64 << 10, .buffer = true };
	struct penstock_error err = { 0 };
	struct penstock_ring *r;

	add_file();
	if (nouring_refuse(first, last, code))
		SKIP("no seccomp filters here: %s", strerror(errno));
	ASSERT_EQ(0, penstock_ring_open(NULL, 16, &r, &err));
	EXPECT_EQ(0, err.code);
	load_run(&l, r);
	EXPECT_EQ(200, l.finished);
	EXPECT_EQ(0, l.failed);
	return r;
}

static void close_all(struct penstock_ring *r)
{
	penstock_ring_close(r);
	penstock_store_close(&store);
}

TEST(eperm_falls_back_to_pread_and_says_why)
{
	struct penstock_ring *r = refused_ring(NOURING_SETUP, NOURING_REGISTER, EPERM);
	struct penstock_error err = { 0 };
	struct penstock_ring *none = NULL;

	EXPECT_STREQ("pread", penstock_ring_name(r));
	EXPECT_HAS(penstock_ring_why(r), "io_uring_setup: Operation not permitted");
	EXPECT_HAS(penstock_ring_why(r), "/proc/sys/kernel/io_uring_disabled");
	/* asked for by name it is an error */
	EXPECT_EQ(-EOPNOTSUPP, penstock_ring_open(&penstock_ring_uring, 16, &none, &err));
	EXPECT_HAS(err.text, "io_uring_setup: Operation not permitted");
	EXPECT_TRUE(!none);
	close_all(r);
}

TEST(enosys_falls_back_to_pread_and_says_why)
{
	struct penstock_ring *r = refused_ring(NOURING_SETUP, NOURING_REGISTER, ENOSYS);

	EXPECT_STREQ("pread", penstock_ring_name(r));
	EXPECT_HAS(penstock_ring_why(r), "io_uring_setup: Function not implemented");
	EXPECT_HAS(penstock_ring_why(r), "the kernel has none, or a seccomp filter hides it");
	close_all(r);
}

TEST(a_ring_that_cannot_be_entered_is_no_ring)
{
	struct penstock_ring *r = refused_ring(NOURING_ENTER, NOURING_ENTER, EPERM);

	EXPECT_STREQ("pread", penstock_ring_name(r));
	EXPECT_HAS(penstock_ring_why(r), "io_uring_enter: Operation not permitted");
	close_all(r);
}

TEST(a_ring_that_cannot_be_enabled_is_no_ring)
{
	struct penstock_ring *r = refused_ring(NOURING_REGISTER, NOURING_REGISTER, EPERM);

	EXPECT_STREQ("pread", penstock_ring_name(r));
	EXPECT_HAS(penstock_ring_why(r), "io_uring_register(ENABLE_RINGS): Operation not permitted");
	close_all(r);
}

TEST(a_kernel_that_knows_no_flag_gets_a_ring_without)
{
	/* EINVAL from every register call: the flags that need one fall away, and so do the tables */
	struct penstock_ring *r = refused_ring(NOURING_REGISTER, NOURING_REGISTER, EINVAL);

	EXPECT_STREQ("io_uring", penstock_ring_name(r));
	EXPECT_HAS(penstock_ring_why(r), "no SINGLE_ISSUER");
	EXPECT_HAS(penstock_ring_why(r), "no registered files");
	EXPECT_HAS(penstock_ring_why(r), "no registered buffers");
	close_all(r);
}

TEST(no_memory_names_the_limit_and_the_ways_out)
{
	struct penstock_ring *r = refused_ring(NOURING_SETUP, NOURING_SETUP, ENOMEM);

	EXPECT_STREQ("pread", penstock_ring_name(r));
	EXPECT_HAS(penstock_ring_why(r), "io_uring_setup: Cannot allocate memory");
	EXPECT_HAS(penstock_ring_why(r), "bytes of locked memory, RLIMIT_MEMLOCK is ");
	EXPECT_HAS(penstock_ring_why(r), "ulimit -l");
	EXPECT_HAS(penstock_ring_why(r), "LimitMEMLOCK=");
	EXPECT_HAS(penstock_ring_why(r), "CAP_IPC_LOCK");
	close_all(r);
}

static void expect_sysctl(const char *value, int code, const char *text)
{
	char path[512], why[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s", files_path("io_uring_disabled"));
	f = fopen(path, "w");
	fputs(value, f);
	fclose(f);
	errno = ENOTTY;
	penstock_uring_refusal(code, "io_uring_setup", path, 0, why, sizeof(why));
	EXPECT_HAS(why, text);
	if (code == -EPERM)
		EXPECT_HAS(why, path);
	/* the text is of the code that was passed, not of errno */
	EXPECT_HAS(why, strerrordesc_np(-code));
}

TEST(refusals_name_the_sysctl_and_its_value)
{
	char why[512];

	expect_sysctl("2\n", -EPERM, "is 2: off for everybody");
	expect_sysctl("1\n", -EPERM, "is 1: only for CAP_SYS_ADMIN and the group in kernel.io_uring_group");
	expect_sysctl("0\n", -EPERM, "a seccomp filter");
	expect_sysctl("0\n", -ENFILE, "io_uring_setup: Too many open files in system");
	penstock_uring_refusal(-EPERM, "io_uring_setup", "/nothing/here", 0, why, sizeof(why));
	EXPECT_HAS(why, "a seccomp filter");
	/* too little room cuts the text, no more */
	penstock_uring_refusal(-EPERM, "io_uring_setup", "/nothing/here", 0, why, 10);
	EXPECT_STREQ("io_uring:", why);
}

TEST_HARNESS_MAIN
