// SPDX-License-Identifier: MIT
/*
 * `penstock run` on tiny checkpoints: what it says, what it refuses, and that
 * cache, trace and verification change nothing in the output.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <time.h>
#include <yajl/yajl_tree.h>

#include "harness.h"

/* Above one token's experts of these checkpoints, below a layer's. */
#define SMALL	"96K"
#define MAX_ARGS 48

struct result {
	int status;		/* exit status; 256 + signal */
	char *out;
	char *err;
	yajl_val json;
};

static char dir[64];

static const char *top(void)
{
	const char *t = getenv("PENSTOCK_TOP");

	return t ? t : ".";
}

/* A fresh folder, the same for the whole test. */
static const char *in_dir(const char *name)
{
	static char path[16][256];
	static int nr;

	if (!dir[0]) {
		snprintf(dir, sizeof(dir), "/var/tmp/penstock-run-XXXXXX");
		ASSERT_TRUE(mkdtemp(dir) != NULL);
	}
	nr = (nr + 1) % 16;
	snprintf(path[nr], sizeof(path[nr]), "%s/%s", dir, name);
	return path[nr];
}

static void clean(void)
{
	char cmd[128];

	if (!dir[0])
		return;
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	EXPECT_EQ(0, system(cmd));
	dir[0] = 0;
}

static const char *golden(const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/tests/golden/%s", top(), name);
	if (access(path, R_OK))
		SKIP("no checkpoint %s", path);
	return path;
}

static char *read_all(const char *path)
{
	char *text = calloc(1, 1 << 20);
	FILE *f = fopen(path, "r");

	ASSERT_TRUE(f && text);
	text[fread(text, 1, (1 << 20) - 1, f)] = 0;
	fclose(f);
	return text;
}

static pid_t start_list(const char *out, const char *err, const char *command, va_list ap)
{
	char path[512], *argv[MAX_ARGS] = { (char *)"penstock", (char *)command };
	const char *build = getenv("PENSTOCK_BUILD");
	int nr = 2;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/penstock", build ? build : "build");
	while (nr < MAX_ARGS - 1 && (argv[nr] = va_arg(ap, char *)))
		nr++;
	fflush(stdout);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		if (!freopen(out, "w", stdout) || !freopen(err, "w", stderr))
			_exit(99);
		execv(path, argv);
		_exit(98);
	}
	return pid;
}

static pid_t start(const char *out, const char *err, const char *command, ...)
{
	va_list ap;
	pid_t pid;

	va_start(ap, command);
	pid = start_list(out, err, command, ap);
	va_end(ap);
	return pid;
}

static int finish(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		ASSERT_EQ(EINTR, errno);
	return WIFSIGNALED(status) ? 256 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Run it; parse the output if it is an object. Ends with NULL. */
static struct result tool(const char *command, ...)
{
	char out[256], err[256], why[256] = "";
	struct result r = { 0 };
	va_list ap;

	snprintf(out, sizeof(out), "%s", in_dir("out"));
	snprintf(err, sizeof(err), "%s", in_dir("err"));
	va_start(ap, command);
	r.status = finish(start_list(out, err, command, ap));
	va_end(ap);
	r.out = read_all(out);
	r.err = read_all(err);
	if (r.out[0] == '{') {
		r.json = yajl_tree_parse(r.out, why, sizeof(why));
		if (!r.json)
			printf("# not JSON: %s\n", why);
		ASSERT_TRUE(r.json != NULL);
	}
	if (r.status)
		printf("# status %d: %s", r.status, r.err);
	return r;
}

static void done(struct result *r)
{
	yajl_tree_free(r->json);
	free(r->out);
	free(r->err);
}

static yajl_val get(const struct result *r, const char *key)
{
	const char *path[] = { key, NULL };
	yajl_val v = r->json ? yajl_tree_get(r->json, path, yajl_t_any) : NULL;

	if (!v)
		TEST_FAIL_(1, "no key \"%s\" in %s", key, r->out);
	return v;
}

static double number(const struct result *r, const char *key)
{
	yajl_val v = get(r, key);

	ASSERT_TRUE(YAJL_IS_NUMBER(v));
	return YAJL_GET_DOUBLE(v);
}

/* Output ids of a sequence. Return: how many. */
static size_t ids_of(const struct result *r, size_t seq, int *ids, size_t room)
{
	yajl_val rows = get(r, "output"), list;
	const char *path[] = { "ids", NULL };
	size_t i;

	ASSERT_TRUE(YAJL_IS_ARRAY(rows) && rows->u.array.len > seq);
	list = yajl_tree_get(rows->u.array.values[seq], path, yajl_t_array);
	ASSERT_TRUE(list && list->u.array.len <= room);
	for (i = 0; i < list->u.array.len; i++)
		ids[i] = (int)YAJL_GET_INTEGER(list->u.array.values[i]);
	return i;
}

static void expect_same_ids(const struct result *a, const struct result *b, size_t seq)
{
	int x[256], y[256];
	size_t i, n = ids_of(a, seq, x, 256);

	ASSERT_EQ(n, ids_of(b, seq, y, 256));
	for (i = 0; i < n; i++)
		EXPECT_EQ(x[i], y[i]);
}

/* The line "key: values" of a golden's expected.txt; NULL if there is none. */
static char *expected(const char *model, const char *key)
{
	char path[600], *text, *at, *line = NULL;

	snprintf(path, sizeof(path), "%s/expected.txt", model);
	text = read_all(path);
	for (at = text; at && *at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
		if (!strncmp(at, key, strlen(key)) && at[strlen(key)] == ':') {
			at[strcspn(at, "\n")] = 0;
			line = strdup(at + strlen(key) + 2);
			break;
		}
	free(text);
	return line;
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	ASSERT_TRUE(f != NULL);
	fputs(text, f);
	ASSERT_EQ(0, fclose(f));
}

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

TEST(run_decodes_qwen3_moe) { decode_golden("qwen3_moe", SMALL); }
TEST(run_decodes_mixtral) { decode_golden("mixtral", SMALL); }
TEST(run_decodes_gpt_oss) { decode_golden("gpt_oss", "192K"); }

TEST(run_reports_what_it_did)
{
	static const char *const strings[] = { "route", "io_engine", "io_reason", "direct", "direct_reason", "arch",
					       "policy", "cache_mode", "device", "isa", "model", "page_reason" };
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
	struct result r = tool("run", golden("qwen3_moe"), "--tokens", "4", "--cache", SMALL, "--verify", "--quiet",
			       NULL);

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

TEST(run_refuses_a_routing_that_does_not_fit)
{
	static const struct { const char *text, *why; int status; } cases[] = {
		{ "turn,phase\n", "does not start with", 1 },
		{ "# route_trace v1\n", "no choices", 1 },
		{ "# route_trace v1\n# model=x arch=y n_layer=3 n_expert=8 n_expert_used=4\n",
		  "n_layer=3 is not the model's", 2 },
		{ "# route_trace v1\n0,0,0,0,0,8,0.5,0,0\n", "expert 8, but layer 0 has 8", 2 },
		{ "# route_trace v1\n0,0,0,0,4,1,0.5,0,0\n", "slot 4", 2 },
		{ "# route_trace v1\n0,0,0,2,0,1,0.5,0,0\n", "layer 2 has no experts", 2 },
		{ "# route_trace v1\n0,0,0,0,0,1,nan,0,0\n", "is no number", 1 },
		{ "# route_trace v1\n0,0,0,0,0,1\n", "nine columns", 1 },
		{ "# route_trace v1\n0,0,0,0,0,1,0.5,0,0\n", "each of 4 experts", 2 },
		{ "# route_trace v1\n0,0,0,0,0,1,1,0,0\n0,0,0,0,1,2,1,0,0\n0,0,0,0,2,3,1,0,0\n0,0,0,0,3,2,1,0,0\n",
		  "expert 2 twice", 2 },
		{ "# route_trace v1\n0,0,0,0,0,1,1,0,0\n0,0,0,0,1,2,1,0,0\n0,0,0,0,2,3,1,0,0\n0,0,0,0,3,4,1,0,0\n",
		  "no choice for sequence 0 step 1", 2 },
	};
	const char *model = golden("qwen3_moe");
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *path = in_dir("routing.csv");
		struct result r;

		write_file(path, cases[i].text);
		r = tool("run", model, "--routing", path, "--quiet", NULL);
		EXPECT_EQ(cases[i].status, r.status);
		EXPECT_HAS(r.err, cases[i].why);
		EXPECT_STREQ("", r.out);
		done(&r);
	}
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

TEST(run_bad_arguments_are_usage)
{
	static const char *const bad[][3] = {
		{ "--tokens", "0" }, { "--tokens", "x" }, { "--cache", "12Q" }, { "--batch", "0" }, { "--isa", "mmx" },
		{ "--math", "slow" }, { "--compare", "cat" }, { "--temperature", "-1" }, { "--temperature", "nan" },
		{ "--prompt-tokens", "0" }, { "--policy", "fifo" }, { "--device", "abacus" }, { "--route", "scenic" },
		{ "--no-such-option", "1" }, { "--ctx", "4" }, { "--tokens", "5000" },
		{ "--prompt-ids", "/nowhere/at-all" }, { "--routing", "/nowhere/at-all" },
	};
	const char *model = golden("qwen3_moe");
	struct result r;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		r = tool("run", model, bad[i][0], bad[i][1], NULL);
		if (r.status != 2)
			printf("# %s %s\n", bad[i][0], bad[i][1]);
		EXPECT_EQ(2, r.status);
		EXPECT_HAS(r.err, "penstock");
		EXPECT_STREQ("", r.out);
		done(&r);
	}
	r = tool("run", NULL);
	EXPECT_EQ(2, r.status);
	done(&r);
	r = tool("run", model, model, NULL);
	EXPECT_EQ(2, r.status);
	done(&r);
	r = tool("run", "/nowhere/at-all", NULL);
	EXPECT_EQ(2, r.status);
	EXPECT_HAS(r.err, "/nowhere/at-all");
	done(&r);
	r = tool("run", model, "--compare", "mmap", "--tokens", "8", NULL);
	EXPECT_EQ(2, r.status);
	EXPECT_HAS(r.err, "--tokens 16");
	done(&r);
	r = tool("run", "--help", NULL);
	EXPECT_EQ(0, r.status);
	EXPECT_HAS(r.out, "--prompt-ids");
	done(&r);
	clean();
}

TEST(run_prompt_ids_are_checked)
{
	const char *model = golden("qwen3_moe"), *path = in_dir("prompt");
	struct result r;

	write_file(path, "1 2 128\n");
	r = tool("run", model, "--prompt-ids", path, NULL);
	EXPECT_EQ(2, r.status);
	EXPECT_HAS(r.err, "id 128 is outside of the vocabulary of 128");
	done(&r);
	clean();
}

TEST(run_budget_too_small_says_what_is_needed)
{
	struct result r = tool("run", golden("qwen3_moe"), "--cache", "4K", "--quiet", NULL);
	unsigned long long need = 0;
	const char *at;
	char budget[32];

	EXPECT_EQ(2, r.status);
	EXPECT_HAS(r.err, "4096");
	/* a number in the text opens it */
	for (at = r.err; *at; at++)
		if (strspn(at, "0123456789") && strtoull(at, NULL, 10) > need)
			need = strtoull(at, NULL, 10);
	EXPECT_GT(need, 4096ull);
	done(&r);
	snprintf(budget, sizeof(budget), "%llu", need);
	r = tool("run", golden("qwen3_moe"), "--cache", budget, "--tokens", "4", "--verify", "--quiet", NULL);
	EXPECT_EQ(0, r.status);
	done(&r);
	clean();
}

static void copy_model(const char *from, const char *to)
{
	char cmd[1200];

	snprintf(cmd, sizeof(cmd), "cp -rL %s %s", from, to);
	ASSERT_EQ(0, system(cmd));
}

static void pause_ms(unsigned int ms)
{
	struct timespec ts = { ms / 1000, (ms % 1000) * 1000000l };

	nanosleep(&ts, NULL);
}

/* A long run on a copy, under way when this returns: its trace grows. */
static pid_t start_long(const char *model, const char *err)
{
	char trace[256];
	struct stat st;
	pid_t pid;
	int i;

	snprintf(trace, sizeof(trace), "%s", in_dir("trace"));
	copy_model(golden("deepseek_v2"), model);
	pid = start(in_dir("out"), err, "run", model, "--tokens", "4000000", "--cache", SMALL, "--trace", trace,
		    "--quiet", NULL);
	for (i = 0; i < 1000 && (stat(trace, &st) || st.st_size < 8192); i++) {
		ASSERT_EQ(0, waitpid(pid, NULL, WNOHANG));
		pause_ms(10);
	}
	ASSERT_TRUE(i < 1000);
	return pid;
}

TEST(run_file_that_changes_is_an_error)
{
	char model[256], weights[300], err[256], *text;
	pid_t pid;
	int fd;

	snprintf(model, sizeof(model), "%s", in_dir("model"));
	snprintf(err, sizeof(err), "%s", in_dir("err"));
	pid = start_long(model, err);
	snprintf(weights, sizeof(weights), "%s/model.safetensors", model);
	fd = open(weights, O_WRONLY);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(16, pwrite(fd, "0123456789abcdef", 16, 100000));
	close(fd);
	EXPECT_EQ(1, finish(pid));
	text = read_all(err);
	EXPECT_HAS(text, "model.safetensors");
	EXPECT_HAS(text, "changed");
	free(text);
	clean();
}

TEST(run_file_that_shrinks_is_an_error)
{
	char model[256], weights[300], err[256], *text;
	pid_t pid;

	snprintf(model, sizeof(model), "%s", in_dir("model"));
	snprintf(err, sizeof(err), "%s", in_dir("err"));
	pid = start_long(model, err);
	snprintf(weights, sizeof(weights), "%s/model.safetensors", model);
	EXPECT_EQ(0, truncate(weights, 5000));
	EXPECT_EQ(1, finish(pid));
	text = read_all(err);
	EXPECT_HAS(text, "model.safetensors");
	free(text);
	clean();
}

TEST(run_interrupted_gives_the_part_that_was_done)
{
	char model[256], out[256], *text;
	pid_t pid;

	snprintf(model, sizeof(model), "%s", in_dir("model"));
	pid = start_long(model, in_dir("err"));
	kill(pid, SIGINT);
	EXPECT_EQ(130, finish(pid));
	snprintf(out, sizeof(out), "%s", in_dir("out"));
	text = read_all(out);
	EXPECT_HAS(text, "interrupted");
	EXPECT_HAS(text, "tok/s");
	free(text);
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
