// SPDX-License-Identifier: MIT
/*
 * What synthetic checkpoints are for: decoded by `penstock run`, their tokens visit
 * experts with about the locality of real models, and never fall into a loop. The
 * two formats decode to the same tokens.
 */
#include <ftw.h>
#include <stdarg.h>
#include <sys/stat.h>

#include "harness.h"

#define LAYERS	4
#define TOKENS	80
#define TOP_K	8

static char dir[4000];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void clean(void)
{
	if (*dir)
		nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Runs the tool in the test's folder; it must succeed. */
static void run(const char *fmt, ...)
{
	const char *tmp = getenv("TMPDIR"), *build = getenv("PENSTOCK_BUILD");
	char args[2000], cmd[9000], top[2000], *tool;
	va_list ap;

	if (!*dir) {
		snprintf(dir, sizeof(dir), "%s/penstock-routing-XXXXXX", tmp && *tmp ? tmp : "/var/tmp");
		ASSERT_TRUE(mkdtemp(dir));
		atexit(clean);
	}
	snprintf(top, sizeof(top), "%s/penstock", build && *build ? build : "build");
	tool = realpath(top, NULL);
	if (!tool)
		TEST_FAIL_(1, "no %s", top);
	va_start(ap, fmt);
	vsnprintf(args, sizeof(args), fmt, ap);
	va_end(ap);
	snprintf(cmd, sizeof(cmd), "cd '%s' && '%s' %s 2>err", dir, tool, args);
	free(tool);
	if (system(cmd)) {
		snprintf(cmd, sizeof(cmd), "sed 's/^/# /' '%s/err'", dir);
		if (system(cmd))
			printf("# no text\n");
		TEST_FAIL_(1, "penstock %s", args);
	}
}

static FILE *open_in_dir(const char *name)
{
	char path[4200];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "r");
	ASSERT_TRUE(f);
	return f;
}

/* The expert choices of decode, and how many of a layer's tokens there are. */
static int chosen[LAYERS][TOKENS][TOP_K];
static int nr_steps;

static void read_trace(const char *name)
{
	int turn, phase, step, layer, slot, expert, first = -1;
	FILE *f = open_in_dir(name);
	char line[256];

	nr_steps = 0;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%d,%d,%d,%d,%d,%d", &turn, &phase, &step, &layer, &slot, &expert) != 6 || !phase)
			continue;
		if (first < 0)
			first = step;
		step -= first;
		ASSERT_TRUE(step >= 0 && step < TOKENS && layer >= 0 && layer < LAYERS && slot >= 0 && slot < TOP_K);
		chosen[layer][step][slot] = expert;
		nr_steps = step + 1 > nr_steps ? step + 1 : nr_steps;
	}
	fclose(f);
	ASSERT_GE(nr_steps, TOKENS - 2);
}

/* Per cent of a token's experts that the token @lag before had, too. */
static double overlap(int lag)
{
	int l, t, i, j, same = 0, of = 0;

	for (l = 0; l < LAYERS; l++) {
		for (t = lag; t < nr_steps; t++) {
			for (i = 0; i < TOP_K; i++) {
				for (j = 0; j < TOP_K; j++)
					same += chosen[l][t][i] == chosen[l][t - lag][j];
				of++;
			}
		}
	}
	return 100.0 * same / of;
}

static void expect_between(const char *what, double v, double least, double most)
{
	printf("# %s: %.1f\n", what, v);
	if (!(v >= least && v <= most))
		TEST_FAIL_(0, "%s: %.1f is not in %.1f .. %.1f", what, v, least, most);
}

#define SHAPE "--layers 4 --experts 128 --top-k 8 --hidden 256 --inter 32 --vocab 4096"

TEST(tokens_visit_experts_as_in_real_models)
{
	double one, eight;

	run("synth m %s >/dev/null", SHAPE);
	run("run m --cache 32M --tokens %d --seed 3 --quiet --trace t.csv >/dev/null", TOKENS);
	read_trace("t.csv");
	one = overlap(1);
	eight = overlap(8);
	/* Qwen3-30B: 38.0, 28.9, 26.7; chance gives 6.2 */
	expect_between("overlap with the token before", one, 30, 58);
	expect_between("with the one before that", overlap(2), 20, 50);
	expect_between("with the eighth before", eight, 17, 48);
	expect_between("recency", one - eight, 4, 20);
}

TEST(skew_makes_experts_popular)
{
	double flat;

	run("synth flat %s --skew 0 >/dev/null", SHAPE);
	run("run flat --cache 32M --tokens %d --quiet --trace t.csv >/dev/null", TOKENS);
	read_trace("t.csv");
	flat = overlap(8);
	expect_between("overlap with the eighth before, no skew", flat, 6, 25);
	run("synth hot %s --skew 1.2 >/dev/null", SHAPE);
	run("run hot --cache 32M --tokens %d --quiet --trace t.csv >/dev/null", TOKENS);
	read_trace("t.csv");
	expect_between("with skew 1.2", overlap(8), flat + 15, 90);
}

/* The ids of "output 0" in the result */
static int read_output(const char *name, int *ids, int most)
{
	FILE *f = open_in_dir(name);
	int c, nr = 0;
	char word[64];

	while (fscanf(f, "%63s", word) == 1) {
		if (strcmp(word, "output"))
			continue;
		ASSERT_EQ(1, fscanf(f, "%d", &c));
		while (nr < most && fscanf(f, "%d", &ids[nr]) == 1)
			nr++;
		break;
	}
	fclose(f);
	return nr;
}

TEST(greedy_decoding_runs_into_no_loop)
{
	int ids[256], nr, i, j, distinct, at;

	run("synth m %s >/dev/null", SHAPE);
	run("run m --cache 32M --tokens 256 --quiet >out");
	nr = read_output("out", ids, 256);
	ASSERT_EQ(256, nr);
	for (at = 0; at < nr; at += 64) {
		for (i = at, distinct = 0; i < at + 64; i++) {
			for (j = at; j < i && ids[j] != ids[i]; j++)
				;
			distinct += j == i;
		}
		EXPECT_GE(distinct, 48);
	}
}

TEST(both_formats_decode_to_the_same_tokens)
{
	static const char *const archs[] = { "qwen3_moe", "mixtral", "olmoe" };
	const char *shape = "--layers 3 --experts 16 --top-k 4 --hidden 128 --inter 64 --heads 4 --head-dim 32 --vocab 600";
	int a[32], b[32];
	size_t i;

	for (i = 0; i < 3; i++) {
		run("synth %s %s --dtype f32 --arch %s >/dev/null", archs[i], shape, archs[i]);
		run("synth %s.gguf %s --dtype f32 --arch %s --format gguf >/dev/null", archs[i], shape, archs[i]);
		run("run %s --cache 8M --tokens 32 --quiet >out", archs[i]);
		ASSERT_EQ(32, read_output("out", a, 32));
		run("run %s.gguf --cache 8M --tokens 32 --quiet >out", archs[i]);
		ASSERT_EQ(32, read_output("out", b, 32));
		EXPECT_EQ(0, memcmp(a, b, sizeof(a)));
	}
}

TEST_HARNESS_MAIN
