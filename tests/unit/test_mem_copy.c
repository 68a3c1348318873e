// SPDX-License-Identifier: MIT
/* Copies to and from memory that may go away: what arrives, what is said when it has gone, where the kernel refuses. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include "../fake/nouring.c"
#include "harness.h"
#include "mem_copy.h"

#define LEN	(1u << 20)
#define PAGE	4096u

static int file;
static char *view, *src, *dst;

static void make(void)
{
	file = memfd_create("peer", MFD_CLOEXEC);
	ASSERT_TRUE(file >= 0 && !ftruncate(file, LEN));
	view = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	src = malloc(LEN);
	dst = malloc(LEN);
	ASSERT_TRUE(view != MAP_FAILED && src && dst);
	for (uint32_t i = 0; i < LEN; i++)
		src[i] = (char)(i * 7 + (i >> 12));
}

static void both_ways(size_t at, size_t len)
{
	memset(view, 0x55, LEN);
	memset(dst, 0xaa, LEN);
	ASSERT_EQ(0, penstock_mem_copy_in(view + at, src + at, len));
	EXPECT_EQ(0, memcmp(view + at, src + at, len));
	EXPECT_TRUE((!at || view[at - 1] == 0x55) && (at + len == LEN || view[at + len] == 0x55));
	ASSERT_EQ(0, penstock_mem_copy_out(dst + at, view + at, len));
	EXPECT_EQ(0, memcmp(dst + at, src + at, len));
	EXPECT_TRUE((!at || dst[at - 1] == (char)0xaa) && (at + len == LEN || dst[at + len] == (char)0xaa));
}

TEST(mem_copy_brings_all_bytes)
{
	make();
	both_ways(0, LEN);
	both_ways(4093, 70001);
	both_ways(1, 1);
	EXPECT_EQ(0, penstock_mem_copy_in(view, src, 0));
}

TEST(mem_copy_says_that_the_memory_is_gone)
{
	make();
	errno = ENOTTY;
	ASSERT_EQ(0, ftruncate(file, PAGE));
	EXPECT_EQ(-ENODEV, penstock_mem_copy_in(view + PAGE, src, PAGE));
	EXPECT_EQ(-ENODEV, penstock_mem_copy_out(dst, view + PAGE, PAGE));
	/* in the middle of a copy */
	EXPECT_EQ(-ENODEV, penstock_mem_copy_in(view, src, LEN));
	EXPECT_EQ(-ENODEV, penstock_mem_copy_out(dst, view, LEN));
	EXPECT_EQ(0, memcmp(view, src, PAGE));
	EXPECT_EQ(ENOTTY, errno);
}

static void refused(int code)
{
	make();
	if (nouring_refuse(SYS_process_vm_readv, SYS_process_vm_writev, code))
		SKIP("no seccomp filters here: %s", strerror(errno));
	both_ways(0, LEN);
	both_ways(4093, 70001);
}

TEST(mem_copy_where_a_filter_forbids_it)
{
	refused(EPERM);
}
TEST(mem_copy_where_the_kernel_has_none)
{
	refused(ENOSYS);
}

TEST_HARNESS_MAIN
