// SPDX-License-Identifier: MIT
/* The store built with reads of at most 7 bytes: what is true of every length above the kernel's limit on one read. */
#define PENSTOCK_STORE_CHUNK 7
#include "../../runtime/store.c"

#include <sys/time.h>
#include "files.h"

static void nothing(int sig)
{
}

TEST(store_reads_on_after_its_largest_read)
{
	struct sigaction sa = { .sa_handler = nothing };
	struct itimerval every = { { 0, 1000 }, { 0, 1000 } };
	struct penstock_store s = { 0 };
	struct penstock_error e = { 0 };
	static char buf[20000];
	uint32_t nr;

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
	files_make(files_path("a"), 20000);
	ASSERT_EQ(0, penstock_store_add(&s, files_path("a"), &nr, &e));
	ASSERT_EQ(0, penstock_store_pread(&s, nr, 0, buf, 20000, &e));
	EXPECT_EQ(20000, files_wrong(buf, 0, 20000));
	ASSERT_EQ(0, penstock_store_pread(&s, nr, 13, buf, 7, &e));
	EXPECT_EQ(7, files_wrong(buf, 13, 7));
	EXPECT_EQ(-ENODATA, penstock_store_pread(&s, nr, 19990, buf, 11, &e));
	EXPECT_HAS(e.text, "the file ends after 10 of them");
	penstock_store_close(&s);
}

TEST_HARNESS_MAIN
