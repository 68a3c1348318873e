// SPDX-License-Identifier: MIT
/*
 * `penstock run` on tiny checkpoints: what it says, and that cache, batch, trace
 * and verification change nothing in the output.
 */
#include "tool.h"

/* The ids of another implementation, and the same bits as plain reads give, under a small cache. */
static void decode_golden(const char *name, const char *cache)
{
	const char *model = golden(name), *prompt = in_dir("prompt");
	char *line = expected(model, "prompt"), *want = expected(model, "output"), *at;
	int ids[256];
	struct result r;
	size_t i, n;

	ASSERT_TRUE(line && want);
	write_file(prompt, line);
	r = tool("run", model, "--prompt-ids", prompt, "--tokens", "24", "--cache", cache, "--verify", "--json",
		 "--quiet", NULL);
	ASSERT_EQ(0, r.status);
	EXPECT_TRUE(YAJL_IS_TRUE(get(&r, "verified")));
	n = ids_of(&r, 0, ids, 256);
	EXPECT_EQ((size_t)24, n);
	for (i = 0, at = want; i < n; i++)
		EXPECT_EQ(strtol(at, &at, 10), ids[i]);
	EXPECT_GT(number(&r, "tok_s"), 0);
	done(&r);
	free(line);
	free(want);
	clean();
}

TEST(run_decodes_qwen3_moe)
{
	decode_golden("qwen3_moe", SMALL);
}
TEST(run_decodes_mixtral)
{
	decode_golden("mixtral", SMALL);
}
TEST(run_decodes_gpt_oss)
{
	decode_golden("gpt_oss", "192K");
}

TEST(run_reports_what_it_did)
{
	static const char *const strings[] = { "route",		"io_engine", "io_reason", "direct",
					       "direct_reason", "arch",	     "policy",	  "cache_mode",
					       "device",	"isa",	     "model",	  "page_reason" };
	static const char *const objects[] = { "prefill", "decode", "time", "bound" };
	struct result r = tool("run", golden("qwen3_moe"), "--tokens", "12", "--prompt-tokens", "5", "--batch", "2",
			       "--cache", SMALL, "--json", "--quiet", NULL);
	size_t i;

	ASSERT_EQ(0, r.status);
	EXPECT_STREQ("penstock.run/1", YAJL_GET_STRING(get(&r, "schema")));
	for (i = 0; i < sizeof(strings) / sizeof(strings[0]); i++)
		EXPECT_TRUE(YAJL_IS_STRING(get(&r, strings[i])));
	for (i = 0; i < sizeof(objects) / sizeof(objects[0]); i++)
		EXPECT_TRUE(YAJL_IS_OBJECT(get(&r, objects[i])));
	EXPECT_TRUE(YAJL_IS_NULL(get(&r, "verified")));
	EXPECT_TRUE(YAJL_IS_NULL(get(&r, "ratio_mmap")));
	EXPECT_EQ(24, (int)number(&r, "tokens"));
	EXPECT_EQ(10, (int)number(&r, "prompt_tokens"));
	EXPECT_GT(number(&r, "tok_s"), 0);
	EXPECT_GE(number(&r, "hit_rate"), 0);
	EXPECT_LE(number(&r, "hit_rate"), 1);
	EXPECT_GT(number(&r, "bytes_wanted"), 0);
	EXPECT_GE(number(&r, "bytes_read"), number(&r, "bytes_wanted"));
	EXPECT_GE(number(&r, "page_size"), 4096);
	if (number(&r, "queue_depth") > 0 && YAJL_IS_NUMBER(get(&r, "drive_gb_s")))
		EXPECT_GT(number(&r, "ratio_bound"), 0);
	EXPECT_STREQ("", r.err);
	done(&r);
	clean();
}

TEST(run_prints_a_table)
{
	struct result r =
		tool("run", golden("qwen3_moe"), "--tokens", "4", "--cache", SMALL, "--verify", "--quiet", NULL);

	ASSERT_EQ(0, r.status);
	EXPECT_HAS(r.out, "tok/s");
	EXPECT_HAS(r.out, "I/O wait");
	EXPECT_HAS(r.out, "time / bound");
	EXPECT_HAS(r.out, "output 0");
	EXPECT_HAS(r.out, "the same bits");
	done(&r);
	clean();
}

/* A cache of everything, of a few experts, other threads, another seed. */
TEST(run_output_depends_on_the_seed_only)
{
	const char *model = golden("qwen3_moe");
	struct result a = tool("run", model, "--tokens", "20", "--json", "--quiet", NULL);
	struct result b = tool("run", model, "--tokens", "20", "--cache", SMALL, "--policy", "lfu", "--threads", "1",
			       "--json", "--quiet", NULL);
	struct result c = tool("run", model, "--tokens", "20", "--seed", "5", "--json", "--quiet", NULL);
	struct result d = tool("run", model, "--tokens", "20", "--temperature", "1.5", "--json", "--quiet", NULL);
	struct result e = tool("run", model, "--tokens", "20", "--temperature", "1.5", "--json", "--quiet", NULL);
	int x[32], y[32];

	ASSERT_EQ(0, a.status + b.status + c.status + d.status + e.status);
	expect_same_ids(&a, &b, 0);
	ids_of(&a, 0, x, 32);
	ids_of(&c, 0, y, 32);
	EXPECT_NE(0, memcmp(x, y, 20 * sizeof(*x)));
	expect_same_ids(&d, &e, 0);
	ids_of(&d, 0, y, 32);
	EXPECT_NE(0, memcmp(x, y, 20 * sizeof(*x)));
	EXPECT_GT(number(&a, "hit_rate"), number(&b, "hit_rate"));
	done(&a);
	done(&b);
	done(&c);
	done(&d);
	done(&e);
	clean();
}

/* A sequence does not see the others of its batch. */
TEST(run_batch_keeps_sequences_apart)
{
	const char *model = golden("qwen3_moe"), *both = in_dir("both"), *second = in_dir("second");
	struct result a, b;
	int x[32], y[32], i;

	write_file(both, "3 27 107 92\n110 125 8, 122, 23 34\n");
	write_file(second, "110 125 8 122 23 34\n");
	a = tool("run", model, "--prompt-ids", both, "--tokens", "10", "--cache", SMALL, "--verify", "--json",
		 "--quiet", NULL);
	b = tool("run", model, "--prompt-ids", second, "--tokens", "10", "--json", "--quiet", NULL);
	ASSERT_EQ(0, a.status + b.status);
	EXPECT_TRUE(YAJL_IS_TRUE(get(&a, "verified")));
	EXPECT_EQ(2, (int)number(&a, "batch"));
	EXPECT_EQ(10, (int)ids_of(&a, 1, x, 32));
	EXPECT_EQ(10, (int)ids_of(&b, 0, y, 32));
	for (i = 0; i < 10; i++)
		EXPECT_EQ(y[i], x[i]);
	done(&a);
	done(&b);
	clean();
}

/* Reads of experts that the trace tells must be what the counters tell. */
static uint64_t trace_bytes(const char *trace, unsigned int *rows, unsigned int *hits)
{
	char *text = read_all(trace), *at = text;
	uint64_t bytes = 0;

	*rows = *hits = 0;
	EXPECT_EQ(0, strncmp(text, "# route_trace v1\n# model=", 25));
	EXPECT_HAS(text, " n_layer=2 n_expert=8 n_expert_used=4\n");
	EXPECT_HAS(text, "# layer=1 expert_bytes=");
	EXPECT_HAS(text, "\nturn,phase,step,layer,slot,expert,weight,residency,expert_bytes\n0,0,0,0,0,");
	for (; at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL) {
		unsigned int resident;
		unsigned long long n;

		if (sscanf(at, "%*u,%*u,%*u,%*u,%*u,%*u,%*f,%u,%llu", &resident, &n) != 2)
			continue;
		bytes += n;
		*hits += resident;
		(*rows)++;
		EXPECT_FALSE(resident && n);
	}
	free(text);
	return bytes;
}

TEST(run_follows_the_trace_that_it_wrote)
{
	const char *model = golden("qwen3_moe");
	char first[256], again[256];
	unsigned int rows, hits;
	struct result a, b;

	snprintf(first, sizeof(first), "%s", in_dir("first.csv"));
	snprintf(again, sizeof(again), "%s", in_dir("again.csv"));
	a = tool("run", model, "--tokens", "16", "--cache", SMALL, "--trace", first, "--json", "--quiet", NULL);
	ASSERT_EQ(0, a.status);
	EXPECT_EQ((uint64_t)number(&a, "bytes_wanted"), trace_bytes(first, &rows, &hits));
	/* 16 prompt tokens and 15 of 16 output tokens, two layers, four experts */
	EXPECT_EQ(31u * 2 * 4, rows);
	EXPECT_GT(hits, 0u);
	b = tool("run", model, "--tokens", "16", "--cache", SMALL, "--routing", first, "--trace", again, "--verify",
		 "--json", "--quiet", NULL);
	ASSERT_EQ(0, b.status);
	expect_same_ids(&a, &b, 0);
	EXPECT_TRUE(YAJL_IS_TRUE(get(&b, "verified")));
	done(&a);
	done(&b);
	a.out = read_all(first);
	b.out = read_all(again);
	EXPECT_STREQ(a.out, b.out);
	free(a.out);
	free(b.out);
	clean();
}

/* Experts 0 to 3 for everything: another output, and after the first layer's fetch nothing but hits. */
TEST(run_forces_a_routing)
{
	const char *model = golden("qwen3_moe"), *path = in_dir("forced.csv");
	struct result a, b;
	int x[32], y[32];
	FILE *f = fopen(path, "w");
	unsigned int i;

	ASSERT_TRUE(f != NULL);
	fputs("# route_trace v1\n", f);
	for (i = 0; i < 40 * 2 * 4; i++)
		fprintf(f, "0,0,%u,%u,%u,%u,0.25,0,0\n", i / 8, i / 4 % 2, i % 4, i % 4);
	fclose(f);
	a = tool("run", model, "--tokens", "20", "--json", "--quiet", NULL);
	b = tool("run", model, "--tokens", "20", "--routing", path, "--verify", "--json", "--quiet", NULL);
	ASSERT_EQ(0, a.status + b.status);
	ids_of(&a, 0, x, 32);
	ids_of(&b, 0, y, 32);
	EXPECT_NE(0, memcmp(x, y, 20 * sizeof(*x)));
	EXPECT_EQ(1, (int)number(&b, "hit_rate"));
	EXPECT_TRUE(YAJL_IS_TRUE(get(&b, "verified")));
	done(&a);
	done(&b);
	clean();
}

/* A budget below one token's experts is said, with what to expect, and gives the same bits. */
TEST(run_streams_below_one_token)
{
	char model[256];
	struct result a, b;

	snprintf(model, sizeof(model), "%s", in_dir("model"));
	/* a token: six layers of two experts of 24 KiB */
	a = tool("synth", model, "--arch", "qwen3_moe", "--layers", "6", "--experts", "8", "--top-k", "2", "--hidden",
		 "64", "--inter", "64", "--heads", "2", "--head-dim", "32", "--kv-heads", "1", "--vocab", "128", NULL);
	ASSERT_EQ(0, a.status);
	done(&a);
	a = tool("run", model, "--tokens", "12", "--cache", "200K", "--verify", "--json", "--quiet", NULL);
	b = tool("run", model, "--tokens", "12", "--json", "--quiet", NULL);
	ASSERT_EQ(0, a.status + b.status);
	EXPECT_HAS(a.err, "below one token's experts");
	EXPECT_STREQ("stream", YAJL_GET_STRING(get(&a, "cache_mode")));
	EXPECT_STREQ("cache", YAJL_GET_STRING(get(&b, "cache_mode")));
	EXPECT_TRUE(YAJL_IS_TRUE(get(&a, "verified")));
	expect_same_ids(&a, &b, 0);
	done(&a);
	done(&b);
	clean();
}

/* Families whose attention is not computed: experts only, and no word of tok_s. */
TEST(run_of_mla_families_gives_moe_tok_s)
{
	const char *path[] = { "tok_s", NULL };
	struct result r = tool("run", golden("deepseek_v2"), "--tokens", "20", "--cache", SMALL, "--verify", "--json",
			       "--quiet", NULL);

	ASSERT_EQ(0, r.status);
	EXPECT_GT(number(&r, "moe_tok_s"), 0);
	EXPECT_TRUE(yajl_tree_get(r.json, path, yajl_t_any) == NULL);
	EXPECT_TRUE(YAJL_IS_TRUE(get(&r, "verified")));
	EXPECT_GT(number(&r, "bytes_read"), 0);
	done(&r);
	clean();
}

/* Where no control group can be had the answer is a reason, not a figure. */
TEST(run_compares_with_mmap)
{
	struct result r = tool("run", golden("qwen3_moe"), "--tokens", "40", "--cache", SMALL, "--compare", "mmap",
			       "--json", "--quiet", NULL);
	const char *same[] = { "mmap", "same_output", NULL }, *limit[] = { "mmap", "limit_bytes", NULL };

	ASSERT_EQ(0, r.status);
	if (YAJL_IS_NULL(get(&r, "ratio_mmap"))) {
		EXPECT_HAS(YAJL_GET_STRING(get(&r, "mmap_reason")), "control group");
	} else {
		EXPECT_GT(number(&r, "ratio_mmap"), 0);
		EXPECT_TRUE(YAJL_IS_TRUE(yajl_tree_get(r.json, same, yajl_t_any)));
		EXPECT_GT(YAJL_GET_DOUBLE(yajl_tree_get(r.json, limit, yajl_t_number)), 0);
	}
	done(&r);
	clean();
}

TEST(bench_load_reads_every_expert_once)
{
	struct result r = tool("bench", "load", golden("qwen3_moe"), "--cache", SMALL, "--rounds", "2", "--json", NULL);

	ASSERT_EQ(0, r.status);
	EXPECT_STREQ("penstock.bench_load/1", YAJL_GET_STRING(get(&r, "schema")));
	/* two layers of eight */
	EXPECT_EQ(16, (int)number(&r, "experts"));
	EXPECT_GT(number(&r, "gb_s"), 0);
	EXPECT_GE(number(&r, "bytes_read"), number(&r, "bytes"));
	EXPECT_EQ(2, (int)get(&r, "rounds")->u.array.len);
	done(&r);
	r = tool("bench", "load", golden("qwen3_moe"), "--rounds", "0", NULL);
	EXPECT_EQ(2, r.status);
	done(&r);
	clean();
}

TEST_HARNESS_MAIN
