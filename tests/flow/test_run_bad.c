// SPDX-License-Identifier: MIT
/* What `penstock run` refuses, files that change under it, and its end by a signal. */
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include "tool.h"

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

	snprintf(cmd, sizeof(cmd), "cp -rL '%s' '%s'", from, to);
	ASSERT_EQ(0, system(cmd));
}

/* A budget above the model is no need of memory; one below it that this machine has not is said at once. */
TEST(run_cache_larger_than_memory)
{
	const char *model = in_dir("model"), *padding = in_dir("model/padding");
	struct result r;
	int fd;

	copy_model(golden("qwen3_moe"), model);
	r = tool("run", model, "--cache", "900T", "--tokens", "4", "--quiet", NULL);
	EXPECT_EQ(0, r.status);
	done(&r);
	fd = open(padding, O_WRONLY | O_CREAT, 0600);
	if (fd < 0 || ftruncate(fd, 4ll << 40)) {
		clean();
		SKIP("no sparse file of 4 TiB here");
	}
	close(fd);
	r = tool("run", model, "--cache", "3T", "--tokens", "4", "--quiet", NULL);
	EXPECT_EQ(3, r.status);
	EXPECT_HAS(r.err, "its cache takes 3298.53 GB");
	done(&r);
	clean();
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

TEST_HARNESS_MAIN
