// SPDX-License-Identifier: MIT
/* The emitter's two forms, letter for letter: JSON is a contract, text is for eyes but must not break. */
#include <fcntl.h>
#include <math.h>

#include "harness.h"
#include "cmd.h"
#include "out.h"

/* Everything that out_end() writes to stdout, as a string. */
static char seen[65536];
static int saved_stdout = -1;
static FILE *sink;

static struct out *begin(bool json)
{
	fflush(stdout);
	saved_stdout = dup(STDOUT_FILENO);
	sink = tmpfile();
	ASSERT_TRUE(sink && saved_stdout >= 0);
	dup2(fileno(sink), STDOUT_FILENO);
	return out_begin("penstock.test/1", json);
}

static int end(struct out *o)
{
	int rc = out_end(o);
	ssize_t n;

	dup2(saved_stdout, STDOUT_FILENO);
	n = pread(fileno(sink), seen, sizeof(seen) - 1, 0);
	seen[n < 0 ? 0 : n] = 0;
	fclose(sink);
	return rc;
}

static void everything(struct out *o)
{
	static const int32_t ids[] = { 5, -1, 2147483647 };

	out_str(o, "name", "name", "Qwen");
	out_u64(o, "tokens", "tokens", 18446744073709551615ull);
	out_bool(o, "verified", "verified", true);
	out_bytes(o, "read", "read_bytes", 1536);
	out_f64(o, "speed", "tok_s", 12.3456, 2, "tok/s");
	out_f64(o, "ratio", "ratio_mmap", NAN, 2, "");
	out_str(o, "only text", NULL, "t");
	out_str(o, NULL, "only_json", "j");
	out_i32s(o, "ids", "ids", ids, 3);
	out_obj_begin(o, "time", "time");
	out_u64(o, "wait", "wait_ns", 7);
	out_null(o, "other", "other_ns");
	out_obj_end(o);
	out_rows_begin(o, "layers", "layers");
	out_row_begin(o);
	out_u64(o, "layer", "layer", 0);
	out_str(o, "kind", "kind", "moe");
	out_rows_begin(o, NULL, "parts");
	out_row_begin(o);
	out_str(o, "role", "role", "gate");
	out_row_end(o);
	out_rows_end(o);
	out_row_end(o);
	out_row_begin(o);
	out_u64(o, "layer", "layer", 10);
	out_str(o, "kind", "kind", "dense");
	out_row_end(o);
	out_rows_end(o);
	out_rows_begin(o, "empty", "empty");
	out_rows_end(o);
}

TEST(out_json_is_stable)
{
	struct out *o = begin(true);

	everything(o);
	EXPECT_EQ(0, end(o));
	EXPECT_STREQ(seen,
		     "{\"schema\":\"penstock.test/1\",\"name\":\"Qwen\",\"tokens\":18446744073709551615,"
		     "\"verified\":true,\"read_bytes\":1536,\"tok_s\":12.35,\"ratio_mmap\":null,"
		     "\"only_json\":\"j\",\"ids\":[5,-1,2147483647],"
		     "\"time\":{\"wait_ns\":7,\"other_ns\":null},"
		     "\"layers\":[{\"layer\":0,\"kind\":\"moe\",\"parts\":[{\"role\":\"gate\"}]},"
		     "{\"layer\":10,\"kind\":\"dense\"}],\"empty\":[]}\n");
}

TEST(out_text_lines_up)
{
	struct out *o = begin(false);

	everything(o);
	EXPECT_EQ(0, end(o));
	EXPECT_STREQ(seen,
		     "name       Qwen\n"
		     "tokens     18446744073709551615\n"
		     "verified   yes\n"
		     "read       1.5 KiB\n"
		     "speed      12.35 tok/s\n"
		     "ratio      -\n"
		     "only text  t\n"
		     "ids        5 -1 2147483647\n"
		     "\n"
		     "time:\n"
		     "  wait   7\n"
		     "  other  -\n"
		     "\n"
		     "layers:\n"
		     "layer  kind\n"
		     "    0  moe\n"
		     "   10  dense\n"
		     "\n"
		     "empty:\n"
		     "  none\n");
}

TEST(out_json_escapes)
{
	struct out *o = begin(true);

	out_str(o, NULL, "a\"b", "q\" b\\ n\n t\t r\r \b\f \x01 \x7f / é € 😀");
	/* a stray continuation, an overlong slash, a surrogate, a cut sequence, past U+10FFFF */
	out_str(o, NULL, "bad", "\x80|\xc0\xaf|\xed\xa0\x80|\xe2\x82|\xf4\x90\x80\x80|\xff");
	EXPECT_EQ(0, end(o));
	EXPECT_STREQ(seen,
		     "{\"schema\":\"penstock.test/1\",\"a\\\"b\":\"q\\\" b\\\\ n\\n t\\t r\\r \\b\\f \\u0001 \\u007f / é € 😀\","
		     "\"bad\":\"\xef\xbf\xbd|\xef\xbf\xbd\xef\xbf\xbd|\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd|"
		     "\xef\xbf\xbd\xef\xbf\xbd|\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd|\xef\xbf\xbd\"}\n");
}

TEST(out_text_cannot_drive_a_terminal)
{
	struct out *o = begin(false);

	out_str(o, "x", "x", "\x1b[2J\n\xc2\x9b \xff é");
	EXPECT_EQ(0, end(o));
	EXPECT_STREQ(seen, "x  \\x1b[2J\\x0a\\xc2\\x9b \\xff é\n");
}

TEST(out_calls_that_do_not_nest_are_refused)
{
	struct out *o = begin(true);

	out_obj_begin(o, "a", "a");
	EXPECT_EQ(-EINVAL, end(o));
	EXPECT_STREQ(seen, "");
	o = begin(true);
	out_rows_begin(o, "a", "a");
	out_u64(o, "no", "no", 1);
	out_rows_end(o);
	EXPECT_EQ(-EINVAL, end(o));
	o = begin(true);
	out_row_begin(o);
	EXPECT_EQ(-EINVAL, end(o));
	o = begin(false);
	out_obj_end(o);
	EXPECT_EQ(-EINVAL, end(o));
}

TEST(out_reports_a_full_disk)
{
	int fd = open("/dev/full", O_WRONLY), saved = dup(STDOUT_FILENO), rc;
	struct out *o;

	if (fd < 0)
		SKIP("no /dev/full");
	fflush(stdout);
	dup2(fd, STDOUT_FILENO);
	o = out_begin("penstock.test/1", true);
	rc = out_end(o);
	dup2(saved, STDOUT_FILENO);
	EXPECT_EQ(-ENOSPC, rc);
}

TEST(out_holds_large_tables)
{
	struct out *o = begin(true);
	uint64_t i;
	size_t len;

	out_rows_begin(o, "t", "t");
	for (i = 0; i < 3000; i++) {
		out_row_begin(o);
		out_u64(o, "i", "i", i);
		out_row_end(o);
	}
	out_rows_end(o);
	EXPECT_EQ(0, end(o));
	len = strlen(seen);
	ASSERT_GT(len, 4u);
	EXPECT_STREQ(seen + len - 14, ",{\"i\":2999}]}\n");
}

TEST(sizes_for_eyes)
{
	char b[24];

	EXPECT_STREQ(out_size_text(0, b, sizeof(b)), "0 B");
	EXPECT_STREQ(out_size_text(1023, b, sizeof(b)), "1023 B");
	EXPECT_STREQ(out_size_text(1024, b, sizeof(b)), "1.0 KiB");
	EXPECT_STREQ(out_size_text(1048575, b, sizeof(b)), "1.0 MiB");
	EXPECT_STREQ(out_size_text(4ull << 30, b, sizeof(b)), "4.0 GiB");
	EXPECT_STREQ(out_size_text(UINT64_MAX, b, sizeof(b)), "16.0 EiB");
}

TEST(sizes_are_parsed)
{
	static const struct { const char *text; uint64_t v; } good[] = {
		{ "0", 0 }, { "1024", 1024 }, { "7B", 7 }, { "512M", 512ull << 20 }, { "512m", 512ull << 20 },
		{ "4GiB", 4ull << 30 }, { "4 GB", 4ull << 30 }, { "1.5G", 3ull << 29 }, { "0.25K", 256 },
		{ "2.5T", 5ull << 39 }, { "1.5E", 3ull << 59 }, { "18446744073709551615", UINT64_MAX }, { "15E", 15ull << 60 },
	};
	static const char *const bad[] = {
		"", " 1", "-1", "+1", "G", "1Q", "1GiBs", "1..5G", "1.G", "1.5", "16E", "18446744073709551616",
		"1.12345678G", "0x10", "1e3",
	};
	uint64_t v;
	size_t i;

	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		v = 12345;
		EXPECT_EQ(0, cmd_parse_size(good[i].text, &v));
		EXPECT_EQ(good[i].v, v);
	}
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (cmd_parse_size(bad[i], &v) != -EINVAL)
			TEST_FAIL_(0, "'%s' was taken as a size", bad[i]);
	EXPECT_EQ(-EINVAL, cmd_parse_size(NULL, &v));
}

TEST(numbers_are_parsed)
{
	uint64_t v = 1;

	EXPECT_EQ(0, cmd_parse_u64("0", &v));
	EXPECT_EQ(0u, v);
	EXPECT_EQ(0, cmd_parse_u64("18446744073709551615", &v));
	EXPECT_EQ(UINT64_MAX, v);
	EXPECT_EQ(-EINVAL, cmd_parse_u64("18446744073709551616", &v));
	EXPECT_EQ(-EINVAL, cmd_parse_u64("", &v));
	EXPECT_EQ(-EINVAL, cmd_parse_u64("-1", &v));
	EXPECT_EQ(-EINVAL, cmd_parse_u64("1 ", &v));
	EXPECT_EQ(-EINVAL, cmd_parse_u64(NULL, &v));
}

TEST_HARNESS_MAIN
