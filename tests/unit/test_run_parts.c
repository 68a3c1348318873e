// SPDX-License-Identifier: MIT
/* The pure parts of `penstock run`: the bound, the digests of verification, prompts. */
#include <math.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "harness.h"
#include "run/bound.h"
#include "run/cgroup.h"
#include "run/run.h"
#include "run/verify.h"

#define US 1000u

/* A drive of 1 GB/s: a byte a nanosecond. */
#define RATE 1000000000ull
#define LATENCY (100u * US)

TEST(bound_is_the_longer_of_compute_and_reads)
{
	struct run_bound b = { 0 };

	run_bound_step_begin(&b, 0);
	/* reads of 1000 us + 100 us of latency outlast 300 us + 50 us of compute */
	run_bound_layer(&b, &(struct run_bound_layer){ .inside_ns = 1500 * US,
						       .shared_ns = 50 * US,
						       .compute_ns = 300 * US,
						       .missing = 1000 * US,
						       .nr_experts = 3 });
	/* reads of 100 us + 100 us are hidden by 400 us of compute */
	run_bound_layer(&b,
			&(struct run_bound_layer){
				.inside_ns = 500 * US, .compute_ns = 400 * US, .missing = 100 * US, .nr_experts = 4 });
	run_bound_step_end(&b, 3000 * US);
	run_bound_finish(&b, RATE, LATENCY);
	/* 1000 us passed outside of the two layers */
	EXPECT_EQ(3000 * US, b.wall_ns);
	EXPECT_EQ(1000 * US + 1100 * US + 400 * US, b.bound_ns);
	EXPECT_EQ(100 * US + 100 * US, b.allowance_ns);
	EXPECT_EQ(1u, b.io_bound_layers);
	EXPECT_TRUE(fabs(run_bound_ratio(&b) - 3000.0 / 2500.0) < 1e-12);
	EXPECT_TRUE(fabs(run_bound_ratio_allowed(&b) - 3000.0 / (1.10 * 2500 + 200)) < 1e-12);
	/* a drive of ten times the rate: 200 us of reads no longer outlast the compute of 350 us */
	run_bound_finish(&b, 10u * RATE, LATENCY);
	EXPECT_EQ(1000 * US + 350 * US + 400 * US, b.bound_ns);
	EXPECT_EQ(0u, b.io_bound_layers);
	run_bound_free(&b);
}

TEST(bound_of_a_layer_without_misses_has_no_latency)
{
	struct run_bound b = { 0 };

	run_bound_step_begin(&b, 10);
	run_bound_layer(&b, &(struct run_bound_layer){ .inside_ns = 50 * US, .compute_ns = 40 * US, .nr_experts = 2 });
	run_bound_step_end(&b, 10 + 60 * US);
	run_bound_finish(&b, RATE, LATENCY);
	EXPECT_EQ(50 * US, b.bound_ns);
	EXPECT_EQ(0u, b.io_bound_layers);
	run_bound_free(&b);
}

TEST(bound_is_unknown_without_a_rate)
{
	struct run_bound b = { 0 };

	run_bound_step_begin(&b, 0);
	run_bound_layer(&b,
			&(struct run_bound_layer){ .inside_ns = 5, .compute_ns = 4, .missing = 100, .nr_experts = 1 });
	run_bound_step_end(&b, 10);
	run_bound_finish(&b, 0, 0);
	EXPECT_TRUE(isnan(run_bound_ratio(&b)));
	EXPECT_TRUE(isnan(run_bound_ratio_allowed(&b)));
	run_bound_free(&b);
}

/* An interrupted step counts for nothing; nor do steps that there is no room to remember. */
TEST(bound_is_of_whole_steps)
{
	struct run_bound b = { 0 };
	struct run_bound_layer l = { .inside_ns = 8, .compute_ns = 6, .nr_experts = 1 };
	uint32_t i, most = RUN_BOUND_LAYERS / 2;

	run_bound_step_begin(&b, 0);
	run_bound_layer(&b, &l);
	for (i = 0; i < most + 10; i++) {
		run_bound_step_begin(&b, 100);
		run_bound_layer(&b, &l);
		run_bound_layer(&b, &l);
		run_bound_step_end(&b, 120);
	}
	run_bound_finish(&b, RATE, LATENCY);
	EXPECT_TRUE(b.full);
	EXPECT_EQ(most, b.steps);
	EXPECT_EQ(20ull * most, b.wall_ns);
	EXPECT_EQ((20ull - 16 + 12) * most, b.bound_ns);
	run_bound_free(&b);
}

/* Two steps of two layers, as a pass leaves them; @bad_step and @bad_layer get one bit wrong. */
static int leave(struct run_digest *d, int bad_step, int bad_layer, int bad_logits)
{
	struct penstock_error err;
	int rc = 0;

	for (uint32_t step = 0; step < 2 && !rc; step++) {
		float out[2][4] = { { 1, 2, 3, 4 }, { 5, 6, 7, 8 } }, logits[3] = { 1, 2, 3 };

		for (uint32_t layer = 0; layer < 2; layer++) {
			struct penstock_moe moe = { .layer = layer, .nr_tokens = 2, .out = &out[0][0], .ldout = 4 };
			uint32_t *bits = (uint32_t *)&out[1][2];

			*bits ^= (int)step == bad_step && (int)layer == bad_layer;
			ASSERT_EQ(0, run_digest_layer(d, step, &moe, 4, &err));
		}
		if ((int)step == bad_logits)
			logits[1] = nextafterf(logits[1], 9);
		rc = run_digest_logits(d, step, logits, 3, &err);
	}
	return rc;
}

TEST(digest_finds_step_and_layer_of_one_wrong_bit)
{
	struct run_digest good = { .nr_layers = 2 }, same = { .against = &good, .nr_layers = 2 };
	struct run_digest layer = same, logits = same;

	ASSERT_EQ(0, leave(&good, -1, -1, -1));
	EXPECT_EQ(0, leave(&same, -1, -1, -1));
	EXPECT_FALSE(same.differs);
	EXPECT_EQ(-EILSEQ, leave(&layer, 1, 1, -1));
	EXPECT_TRUE(layer.differs);
	EXPECT_EQ(1u, layer.bad_step);
	EXPECT_EQ(1, layer.bad_layer);
	EXPECT_EQ(-EILSEQ, leave(&logits, -1, -1, 0));
	EXPECT_EQ(0u, logits.bad_step);
	EXPECT_EQ(-1, logits.bad_layer);
	run_digest_free(&good);
	run_digest_free(&same);
	run_digest_free(&layer);
	run_digest_free(&logits);
}

static const char *file_with(const char *text)
{
	static char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/var/tmp/penstock-prompt-%d", (int)getpid());
	f = fopen(path, "w");
	ASSERT_TRUE(f != NULL);
	fputs(text, f);
	fclose(f);
	return path;
}

TEST(prompts_are_lines_of_ids)
{
	const char *path = file_with("1, 2,3\n\n  7\t8\r\n9");
	struct penstock_error err = { 0 };
	struct run_prompts p;

	ASSERT_EQ(0, run_prompts_read(path, 0, &p, &err));
	EXPECT_EQ(3u, p.nr);
	EXPECT_EQ(3u, p.longest);
	EXPECT_EQ(3u, p.len[0]);
	EXPECT_EQ(3, p.ids[0][2]);
	EXPECT_EQ(2u, p.len[1]);
	EXPECT_EQ(8, p.ids[1][1]);
	EXPECT_EQ(9, p.ids[2][0]);
	EXPECT_EQ(0, run_prompts_check(&p, 10, &err));
	EXPECT_EQ(-EINVAL, run_prompts_check(&p, 9, &err));
	EXPECT_HAS(err.text, "prompt 2, token 0: id 9");
	run_prompts_free(&p);
	/* more sequences than lines: lines again; fewer: the first ones */
	ASSERT_EQ(0, run_prompts_read(path, 5, &p, &err));
	EXPECT_EQ(5u, p.nr);
	EXPECT_EQ(3u, p.len[3]);
	EXPECT_EQ(7, p.ids[4][0]);
	run_prompts_free(&p);
	ASSERT_EQ(0, run_prompts_read(path, 1, &p, &err));
	EXPECT_EQ(1u, p.nr);
	run_prompts_free(&p);
	unlink(path);
}

TEST(prompts_refuse_what_is_no_id)
{
	static const char *const bad[] = { "1 2\n3 x\n", "-1\n", "2147483648\n", "1.5\n", "" };
	struct penstock_error err = { 0 };
	struct run_prompts p;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const char *path = file_with(bad[i]);

		EXPECT_EQ(-EINVAL, run_prompts_read(path, 0, &p, &err));
		if (!i)
			EXPECT_HAS(err.text, "line 2: \"x");
		unlink(path);
	}
	EXPECT_EQ(-ENOENT, run_prompts_read("/var/tmp/penstock-there-is-no-such-file", 0, &p, &err));
}

TEST(prompts_of_a_seed_are_the_same_and_below_the_vocabulary)
{
	struct run_prompts a, b, c;
	uint32_t i, differs = 0;

	ASSERT_EQ(0, run_prompts_random(7, 2, 50, 11, &a));
	ASSERT_EQ(0, run_prompts_random(7, 2, 50, 11, &b));
	ASSERT_EQ(0, run_prompts_random(8, 2, 50, 11, &c));
	for (i = 0; i < 50; i++) {
		EXPECT_EQ(a.ids[1][i], b.ids[1][i]);
		EXPECT_LT(a.ids[1][i], 11);
		EXPECT_GE(a.ids[1][i], 0);
		differs += a.ids[0][i] != c.ids[0][i];
	}
	EXPECT_GT(differs, 0u);
	run_prompts_free(&a);
	run_prompts_free(&b);
	run_prompts_free(&c);
}

TEST(memory_left_is_known)
{
	EXPECT_GT(run_memory_available(), 1u << 20);
	EXPECT_LT(run_memory_available(), 1ull << 60);
}

TEST(cgroup_limits_a_child)
{
	struct penstock_error err = { 0 };
	struct run_cgroup g = { 0 };
	struct stat st;
	uint64_t used;
	char path[sizeof(g.path)];
	int status;
	pid_t pid;

	if (run_cgroup_create("penstock-test", &g, &err))
		SKIP("%s", err.text);
	snprintf(path, sizeof(path), "%s", g.path);
	pid = fork();
	if (!pid) {
		/* waits for the limit, then takes more than it */
		kill(getpid(), SIGSTOP);
		mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	EXPECT_EQ(0, run_cgroup_add(&g, pid, &err));
	EXPECT_EQ(0, run_cgroup_limit(&g, 16 << 20, &err));
	EXPECT_EQ(0, run_cgroup_usage(&g, &used, &err));
	EXPECT_LE(used, 16u << 20);
	kill(pid, SIGCONT);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	run_cgroup_remove(&g);
	EXPECT_EQ(-1, stat(path, &st));
}

TEST_HARNESS_MAIN
