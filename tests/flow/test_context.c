// SPDX-License-Identifier: MIT
/* Contexts and models through the public API: budgets, options, changed files, forks, information. */
#include "stream_fixture.h"

TEST(a_budget_too_small_says_what_is_needed)
{
	struct penstock_options o = PENSTOCK_OPTIONS_INIT;
	struct penstock_error err = { 0 };
	struct penstock_model *m;
	struct penstock_ctx *ctx;
	struct tiny_model tiny;
	unsigned long long need;
	const char *at;

	tiny_model_make(&tiny);
	o.cache_bytes = TINY_EXPERT;
	ASSERT_EQ(0, penstock_open(&o, &ctx, &err));
	EXPECT_EQ(-ENOSPC, penstock_model_open(ctx, tiny.dir, NULL, &m, &err));
	EXPECT_HAS(err.text, "two layers");
	at = strstr(err.text, "at least ");
	ASSERT_TRUE(at);
	need = strtoull(at + 9, NULL, 10);
	penstock_close(ctx);
	/* the number named is enough, one byte less is not */
	o.cache_bytes = need;
	ASSERT_EQ(0, penstock_open(&o, &ctx, &err));
	EXPECT_EQ(0, penstock_model_open(ctx, tiny.dir, NULL, &m, &err));
	penstock_model_close(m);
	penstock_close(ctx);
	o.cache_bytes = need - 1;
	ASSERT_EQ(0, penstock_open(&o, &ctx, &err));
	EXPECT_EQ(-ENOSPC, penstock_model_open(ctx, tiny.dir, NULL, &m, &err));
	penstock_close(ctx);
	tiny_model_remove(&tiny);
}

TEST(unknown_options_are_refused)
{
	struct penstock_options o = PENSTOCK_OPTIONS_INIT;
	struct penstock_error err = { 0 };
	struct penstock_ctx *ctx;

	o.policy = "best";
	EXPECT_EQ(-EINVAL, penstock_open(&o, &ctx, &err));
	EXPECT_HAS(err.text, "best");
	o.policy = NULL;
	o.device = "cuda:0";
	EXPECT_EQ(-EOPNOTSUPP, penstock_open(&o, &ctx, &err));
	o.device = NULL;
	o.route = "bounce";
	EXPECT_EQ(-EOPNOTSUPP, penstock_open(&o, &ctx, &err));
	EXPECT_HAS(err.text, "device host has");
	if (access("/dev/penstock", F_OK)) {
		o.route = "direct";
		EXPECT_EQ(-ENODEV, penstock_open(&o, &ctx, &err));
		EXPECT_HAS(err.text, "modprobe penstock");
		o.device = "peer:0000:01:00.0";
		EXPECT_EQ(-ENODEV, penstock_open(&o, &ctx, &err));
		EXPECT_HAS(err.text, "modprobe penstock");
		o.device = NULL;
	}
	o.route = NULL;
	o.flags = 1u << 30;
	EXPECT_EQ(-EINVAL, penstock_open(&o, &ctx, &err));
	o.flags = 0;
	o.size = 8;
	EXPECT_EQ(-EINVAL, penstock_open(&o, &ctx, &err));
}

TEST(the_path_in_use_is_named)
{
	struct penstock_status st = { .size = sizeof(st) };
	struct fixture f;

	setup(&f, PENSTOCK_F_NO_URING | PENSTOCK_F_NO_DIRECT | PENSTOCK_F_NO_HUGE, 8, "lfu");
	ASSERT_EQ(0, penstock_status(f.ctx, &st));
	EXPECT_STREQ("host", st.route);
	EXPECT_STREQ("pread", st.io_engine);
	EXPECT_NE('\0', st.io_reason[0]);
	EXPECT_STREQ("buffered", st.direct);
	EXPECT_NE('\0', st.direct_reason[0]);
	EXPECT_STREQ("lfu", st.policy);
	EXPECT_STREQ("cache", st.cache_mode);
	EXPECT_EQ(4096u, st.page_size);
	EXPECT_GT(st.queue_depth, 0u);
	teardown(&f);
}

TEST(the_drive_can_be_measured)
{
	uint64_t rate = 0, latency = 0;
	struct penstock_error err;
	struct fixture f;

	setup(&f, 0, 8, NULL);
	if (penstock_measure(f.model, 20000000, &rate, &latency, &err))
		TEST_FAIL_(1, "%s", err.text);
	EXPECT_GT(rate, 1000000u);
	EXPECT_GT(latency, 1000u);
	EXPECT_LT(latency, 10000000000u);
	teardown(&f);
}

TEST(a_forked_child_is_told)
{
	const int32_t ids[] = { 1 };
	struct penstock_ticket *t;
	struct fixture f;
	int status;
	pid_t pid;

	setup(&f, 0, 8, NULL);
	pid = fork();
	if (!pid) {
		struct penstock_stats s = { .size = sizeof(s) };

		_exit(penstock_fetch(f.q, f.model, 0, ids, 1, &t) == -ESTALE && penstock_stats(f.ctx, &s) == -ESTALE ? 0 : 1);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	fetch_and_check(&f, f.q, 0, ids, 1);
	teardown(&f);
}

/* After the change: the next miss must fail, with the file named. */
static void expect_failure(struct fixture *f, const char *word)
{
	const int32_t ids[] = { 11, 12, 13 };
	struct penstock_ticket *t;
	int rc;

	ASSERT_EQ(0, penstock_fetch(f->q, f->model, 2, ids, 3, &t));
	rc = penstock_wait(t, FOR_EVER);
	EXPECT_TRUE(rc == -ESTALE || rc == -ENODATA);
	EXPECT_HAS(penstock_errmsg(f->q), "model.safetensors");
	EXPECT_HAS(penstock_errmsg(f->q), word);
	penstock_release(t);
	/* and it stays failed: what is in memory may mix old and new */
	EXPECT_EQ(-ESTALE, penstock_fetch(f->q, f->model, 2, ids, 3, &t));
}

TEST(a_file_that_shrinks_is_an_error)
{
	const int32_t ids[] = { 1 };
	struct fixture f;

	setup(&f, 0, 8, NULL);
	fetch_and_check(&f, f.q, 0, ids, 1);
	usleep(60000);
	ASSERT_EQ(0, truncate(f.tiny.file, 200000));
	expect_failure(&f, "size");
	teardown(&f);
}

TEST(a_file_that_is_written_to_is_an_error)
{
	const int32_t ids[] = { 1 };
	struct fixture f;
	int fd;

	setup(&f, 0, 8, NULL);
	fetch_and_check(&f, f.q, 0, ids, 1);
	usleep(60000);
	fd = open(f.tiny.file, O_WRONLY);
	ASSERT_EQ(1, pwrite(fd, "x", 1, 300000));
	close(fd);
	expect_failure(&f, "changed");
	teardown(&f);
}

TEST(two_models_share_a_context)
{
	struct penstock_model_options half = { .size = sizeof(half), .cache_bytes = 8 * (TINY_EXPERT + 8192) };
	struct penstock_options o = PENSTOCK_OPTIONS_INIT;
	struct penstock_error err = { 0 };
	const int32_t ids[] = { 1, 2 };
	struct penstock_model *third;
	struct fixture a, b;

	tiny_model_make(&a.tiny);
	tiny_model_make(&b.tiny);
	o.cache_bytes = 16 * (TINY_EXPERT + 8192);
	ASSERT_EQ(0, penstock_open(&o, &a.ctx, &err));
	b.ctx = a.ctx;
	ASSERT_EQ(0, penstock_model_open(a.ctx, a.tiny.dir, &half, &a.model, &err));
	ASSERT_EQ(0, penstock_model_open(b.ctx, b.tiny.dir, NULL, &b.model, &err));
	EXPECT_EQ(-ENOSPC, penstock_model_open(b.ctx, b.tiny.dir, NULL, &third, &err));
	ASSERT_EQ(0, penstock_queue_create(a.ctx, &a.q));
	for (uint32_t i = 0; i < 20; i++) {
		fetch_and_check(&a, a.q, i % TINY_LAYERS, ids, 2);
		fetch_and_check(&b, a.q, i % TINY_LAYERS, ids, 2);
	}
	penstock_model_close(a.model);
	fetch_and_check(&b, a.q, 2, ids, 2);
	penstock_queue_destroy(a.q);
	penstock_model_close(b.model);
	penstock_close(a.ctx);
	tiny_model_remove(&a.tiny);
	tiny_model_remove(&b.tiny);
}

TEST(a_resize_keeps_a_models_share)
{
	struct penstock_model_options half = { .size = sizeof(half), .cache_bytes = 10 * (TINY_EXPERT + 8192) };
	struct penstock_model_info mi = { .size = sizeof(mi) };
	struct penstock_options o = PENSTOCK_OPTIONS_INIT;
	struct penstock_error err = { 0 };
	struct fixture f;

	tiny_model_make(&f.tiny);
	o.cache_bytes = 20 * (TINY_EXPERT + 8192);
	ASSERT_EQ(0, penstock_open(&o, &f.ctx, &err));
	ASSERT_EQ(0, penstock_model_open(f.ctx, f.tiny.dir, &half, &f.model, &err));
	ASSERT_EQ(0, penstock_queue_create(f.ctx, &f.q));
	/* the other half belongs to nobody yet: a resize to the same must not give it away */
	ASSERT_EQ(0, penstock_resize(f.ctx, o.cache_bytes, &err));
	ASSERT_EQ(0, penstock_model_info(f.model, &mi));
	EXPECT_LE(mi.cache_bytes, half.cache_bytes);
	EXPECT_GE(mi.cache_bytes + 1, half.cache_bytes);
	teardown(&f);
}

TEST(information_about_the_model)
{
	struct penstock_model_info mi = { .size = sizeof(mi) };
	struct penstock_layer_info li = { .size = sizeof(li) };
	struct penstock_tensor t;
	struct penstock_meta meta;
	struct fixture f;
	uint16_t *buf;
	int64_t nr;

	setup(&f, 0, 8, NULL);
	ASSERT_EQ(0, penstock_model_info(f.model, &mi));
	EXPECT_EQ(TINY_LAYERS, mi.nr_moe_layers);
	EXPECT_EQ(TINY_HIDDEN, mi.hidden);
	EXPECT_EQ(TINY_TOP_K, mi.top_k);
	EXPECT_EQ((uint64_t)TINY_LAYERS * TINY_EXPERTS * TINY_EXPERT, mi.expert_bytes);
	EXPECT_EQ((uint64_t)TINY_LAYERS * TINY_TOP_K * TINY_EXPERT, mi.token_bytes);
	EXPECT_STREQ("qwen3_moe", mi.arch);
	ASSERT_EQ(0, penstock_layer_info(f.model, 1, &li));
	EXPECT_EQ(TINY_EXPERT, li.expert_bytes);
	EXPECT_EQ(TINY_INTER, li.inter);
	EXPECT_GE(li.slot_bytes, li.expert_bytes);
	EXPECT_EQ(-ENOENT, penstock_layer_info(f.model, TINY_LAYERS, &li));
	nr = penstock_tensor_find(f.model, "model.layers.1.mlp.experts.3.up_proj.weight");
	ASSERT_GE(nr, 0);
	ASSERT_EQ(0, penstock_tensor_at(f.model, (uint32_t)nr, &t));
	EXPECT_EQ(2u * TINY_ELEMS, t.bytes);
	buf = malloc(t.bytes);
	ASSERT_EQ(0, penstock_tensor_read(f.q, f.model, (uint32_t)nr, 2, buf, t.bytes - 2));
	for (uint32_t i = 1; i < TINY_ELEMS; i++)
		ASSERT_EQ(tiny_value(1, 3, 1, i), buf[i - 1]);
	EXPECT_EQ(-EINVAL, penstock_tensor_read(f.q, f.model, (uint32_t)nr, 4, buf, t.bytes));
	EXPECT_EQ(-EINVAL, penstock_tensor_read(f.q, f.model, (uint32_t)nr, UINT64_MAX, buf, 8));
	free(buf);
	EXPECT_EQ(-ENOENT, (int)penstock_tensor_find(f.model, "nothing"));
	ASSERT_EQ(0, penstock_meta_find(f.model, "num_experts", &meta));
	EXPECT_EQ(16.0, meta.number);
	EXPECT_EQ(-ENOENT, penstock_meta_find(f.model, "nothing", &meta));
	teardown(&f);
}

TEST_HARNESS_MAIN
