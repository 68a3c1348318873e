// SPDX-License-Identifier: MIT
/* The reading of fio's answer: a comparison is only as good as what is taken from it. */
#include <errno.h>
#include "../../tools/bench_io.h"
#include "harness.h"

#define JOB(error, bytes, ms, usr, sys) \
	"{\"jobname\":\"penstock\",\"error\":" error ",\"job_runtime\":" ms ",\"usr_cpu\":" usr ",\"sys_cpu\":" sys \
	",\"read\":{\"io_bytes\":" bytes ",\"bw\":1,\"runtime\":" ms "},\"write\":{\"io_bytes\":7}}"

static struct penstock_error err;
static struct bench_io_round r;

static bool about(double want, double got)
{
	return got > want * 0.999999 && got < want * 1.000001;
}

TEST(fio_answer_is_read)
{
	ASSERT_EQ(0, bench_io_fio_parse("{\"jobs\":[" JOB("0", "4000000000", "2000", "1.5", "3.5") "]}", 1, &r, &err));
	EXPECT_TRUE(about(2e9, r.bytes_per_s));
	/* 5 % of 2 s for 4 GB */
	EXPECT_TRUE(about(0.025, r.cpu_s_per_gb));
}

TEST(fio_jobs_are_summed)
{
	ASSERT_EQ(0, bench_io_fio_parse("note: a warning\n{\"jobs\":[" JOB("0", "1000000000", "1000", "1", "9") ","
					JOB("0", "3000000000", "2000", "2", "3") "]}", 2, &r, &err));
	EXPECT_TRUE(about(2e9, r.bytes_per_s));
	EXPECT_TRUE(about((0.1 + 0.1) / 4, r.cpu_s_per_gb));
}

TEST(fio_failures_are_seen)
{
	static const char *const bad[] = {
		"", "fio: no such engine", "{", "{}", "{\"jobs\":{}}", "{\"jobs\":[]}", "{\"jobs\":[1]}",
		"{\"jobs\":[" JOB("0", "\"4\"", "2000", "1", "1") "]}", "{\"jobs\":[" JOB("0", "0", "2000", "1", "1") "]}",
		"{\"jobs\":[" JOB("0", "4", "0", "1", "1") "]}",
		"{\"jobs\":[" JOB("0", "4", "1", "1", "1") "," JOB("0", "4", "1", "1", "1") "]}",
	};
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		EXPECT_EQ(-EPROTO, bench_io_fio_parse(bad[i], 1, &r, &err));
	EXPECT_HAS(err.text, "fio: its JSON is not understood");
	EXPECT_EQ(-EIO, bench_io_fio_parse("{\"jobs\":[" JOB("5", "4", "1", "1", "1") "]}", 1, &r, &err));
	EXPECT_HAS(err.text, "a job failed");
}

TEST_HARNESS_MAIN
