// SPDX-License-Identifier: MIT
/*
 * Models opened by a layout: two files of a pattern, three layers of two size
 * classes, parts at odd offsets; what is fetched, guessed or read again after a
 * resize is compared with the pattern, and every table that contradicts itself is
 * refused with the numbers.
 */
#include <kabi.h>
#include <penstock/penstock.h>

#include "files.h"

#define LAYERS	3
#define EXPERTS	20
#define TOP_K	2

struct fixture {
	struct penstock_layout layout;
	struct penstock_layout_layer layers[LAYERS];
	const char *files[2];
	char paths[2][512];
	struct penstock_ctx *ctx;
	struct penstock_model *model;
	struct penstock_queue *q;
	struct penstock_error err;
};

static void make_layout(struct fixture *f)
{
	memset(f, 0, sizeof(*f));
	for (int i = 0; i < 2; i++) {
		snprintf(f->paths[i], sizeof(f->paths[i]), "%s", files_path(i ? "b" : "a"));
		files_make(f->paths[i], 1u << 20);
		f->files[i] = f->paths[i];
	}
	f->layers[0] = (struct penstock_layout_layer){ EXPERTS, TOP_K, 2,
		{ { "a.gate", 0, 96, 10000, 9999 }, { "a.down", 1, 1, 5000, 5000 } } };
	f->layers[1] = (struct penstock_layout_layer){ EXPERTS, TOP_K, 1, { { "b.all", 1, 200032, 20480, 20480 } } };
	f->layers[2] = (struct penstock_layout_layer){ EXPERTS, TOP_K, 2,
		{ { "c.gate", 0, 400000, 10000, 9999 }, { "c.down", 0, 700001, 5000, 5000 } } };
	f->layout = (struct penstock_layout){ sizeof(f->layout), "test", 2, f->files, LAYERS, f->layers };
}

static void setup(struct fixture *f, uint64_t cache)
{
	struct penstock_options o = PENSTOCK_OPTIONS_INIT;

	make_layout(f);
	o.cache_bytes = cache;
	ASSERT_EQ(0, penstock_open(&o, &f->ctx, &f->err));
	if (penstock_model_open_layout(f->ctx, &f->layout, NULL, &f->model, &f->err))
		TEST_FAIL_(1, "%s", f->err.text);
	ASSERT_EQ(0, penstock_queue_create(f->ctx, &f->q));
}

static void teardown(struct fixture *f)
{
	penstock_queue_destroy(f->q);
	penstock_model_close(f->model);
	penstock_close(f->ctx);
}

static struct penstock_stats stats_of(struct fixture *f)
{
	struct penstock_stats s = { .size = sizeof(s) };

	ASSERT_EQ(0, penstock_stats(f->ctx, &s));
	return s;
}

static void check(struct fixture *f, uint32_t layer, struct penstock_ticket *t, size_t index)
{
	const struct penstock_layout_layer *l = &f->layers[layer];
	struct penstock_slot s;

	ASSERT_EQ(0, penstock_ticket_slot(t, index, &s));
	ASSERT_EQ(l->nr_parts, s.nr_parts);
	for (uint32_t p = 0; p < s.nr_parts; p++) {
		const uint8_t *at = s.ptr[p];

		for (uint64_t i = 0; i < l->parts[p].bytes; i++)
			if (at[i] != files_byte(l->parts[p].off + (uint64_t)s.id * l->parts[p].stride + i))
				TEST_FAIL_(1, "layer %u expert %d part %u byte %llu", layer, s.id, p,
					   (unsigned long long)i);
	}
}

static bool is_direct(struct fixture *f)
{
	struct penstock_status s = { .size = sizeof(s) };

	ASSERT_EQ(0, penstock_status(f->ctx, &s));
	return !strcmp(s.direct, "direct");
}

/* Every expert of every layer, one after the other. */
static void fetch_all(struct fixture *f)
{
	struct penstock_ticket *t;

	for (uint32_t l = 0; l < LAYERS; l++) {
		for (int32_t e = 0; e < EXPERTS; e++) {
			if (penstock_fetch(f->q, f->model, l, &e, 1, &t) || penstock_wait(t, UINT64_MAX))
				TEST_FAIL_(1, "%s", penstock_errmsg(f->q));
			check(f, l, t, 0);
			penstock_release(t);
		}
	}
}

TEST(every_expert_has_the_bytes_of_its_place)
{
	struct fixture f;
	uint64_t seed = 1;

	setup(&f, 600000);
	for (int i = 0; i < 300; i++) {
		const uint32_t layer = (uint32_t)(files_mix(seed++) % LAYERS);
		struct penstock_ticket *t;
		int32_t ids[TOP_K];

		for (int k = 0; k < TOP_K; k++)
			ids[k] = (int32_t)(files_mix(seed++) % EXPERTS);
		ASSERT_EQ(0, penstock_fetch(f.q, f.model, layer, ids, TOP_K, &t));
		ASSERT_EQ(0, penstock_wait(t, UINT64_MAX));
		for (size_t e = 0; e < penstock_ticket_count(t); e++)
			check(&f, layer, t, e);
		penstock_release(t);
	}
	teardown(&f);
}

/* Alignment is that of the offset in the file, and no slot reaches into another. */
TEST(a_part_lies_in_its_slot_as_in_its_file)
{
	struct penstock_slot s[EXPERTS];
	int32_t ids[EXPERTS];
	struct penstock_ticket *t;
	struct fixture f;
	uint32_t align;

	setup(&f, 4 << 20);
	/* 4096 and 512 with O_DIRECT; nothing is promised of buffered reads */
	align = is_direct(&f) ? 512 : 1;
	for (int32_t e = 0; e < EXPERTS; e++)
		ids[e] = e;
	for (uint32_t l = 0; l < LAYERS; l++) {
		ASSERT_EQ(0, penstock_fetch(f.q, f.model, l, ids, EXPERTS, &t));
		ASSERT_EQ(0, penstock_wait(t, UINT64_MAX));
		for (uint32_t e = 0; e < EXPERTS; e++) {
			ASSERT_EQ(0, penstock_ticket_slot(t, e, &s[e]));
			check(&f, l, t, e);
			for (uint32_t p = 0; p < s[e].nr_parts; p++) {
				const struct penstock_layout_part *part = &f.layers[l].parts[p];

				EXPECT_EQ((part->off + e * part->stride) % align, (uintptr_t)s[e].ptr[p] % align);
				EXPECT_EQ(PENSTOCK_NO_OFFSET, s[e].peer_off[p]);
			}
			/* no slot reaches into another */
			for (uint32_t o = 0; o < e; o++)
				for (uint32_t p = 0; p < s[e].nr_parts; p++)
					EXPECT_TRUE((const char *)s[e].ptr[p] + f.layers[l].parts[p].bytes <=
						    (const char *)s[o].ptr[p] ||
						    (const char *)s[o].ptr[p] + f.layers[l].parts[p].bytes <=
						    (const char *)s[e].ptr[p]);
		}
		penstock_release(t);
	}
	teardown(&f);
}

/* A guess, a demand that finds it, experts handed out as they come, counters. */
TEST(guesses_order_and_counters)
{
	const int32_t guess[] = { 4, 5 }, both[] = { 5, 9, 4 };
	struct penstock_stats s;
	struct penstock_ticket *t;
	struct fixture f;
	uint32_t seen = 0;
	size_t i;
	int rc;

	setup(&f, 4 << 20);
	ASSERT_EQ(0, penstock_prefetch(f.q, f.model, 2, guess, NULL, 2));
	for (int ms = 0; ms < 10000 && stats_of(&f).prefetched < 2; ms++)
		usleep(1000);
	ASSERT_EQ(2u, stats_of(&f).prefetched);
	ASSERT_EQ(0, penstock_fetch(f.q, f.model, 2, both, 3, &t));
	EXPECT_EQ(2u, penstock_ticket_hits(t));
	while (!(rc = penstock_next(t, UINT64_MAX, &i))) {
		check(&f, 2, t, i);
		seen |= 1u << i;
	}
	EXPECT_EQ(-ENOENT, rc);
	EXPECT_EQ(7u, seen);
	penstock_release(t);
	s = stats_of(&f);
	EXPECT_EQ(2u, s.prefetch_used);
	EXPECT_EQ(3u, s.experts_wanted);
	EXPECT_EQ(14999u, s.bytes_wanted);
	EXPECT_GE(s.bytes_read, 3 * 14999u);
	teardown(&f);
}

TEST(the_least_budget_opens_and_resizes)
{
	struct penstock_model_info info = { .size = sizeof(info) };
	struct penstock_options o = PENSTOCK_OPTIONS_INIT;
	struct fixture f;

	setup(&f, 4 << 20);
	ASSERT_EQ(0, penstock_model_info(f.model, &info));
	/* two layers of two parts share a class, the third has one of its own */
	EXPECT_GE(info.least_bytes, (2 * TOP_K * 14999ull) + TOP_K * 20480ull);
	EXPECT_EQ(4ull << 20, info.cache_bytes);
	fetch_all(&f);
	EXPECT_EQ(-ENOSPC, penstock_resize(f.ctx, info.least_bytes - 1, &f.err));
	ASSERT_EQ(0, penstock_resize(f.ctx, info.least_bytes, &f.err));
	fetch_all(&f);
	ASSERT_EQ(0, penstock_resize(f.ctx, 4 << 20, &f.err));
	fetch_all(&f);
	teardown(&f);

	o.cache_bytes = info.least_bytes - 1;
	ASSERT_EQ(0, penstock_open(&o, &f.ctx, &f.err));
	EXPECT_EQ(-ENOSPC, penstock_model_open_layout(f.ctx, &f.layout, NULL, &f.model, &f.err));
	penstock_close(f.ctx);
	o.cache_bytes = info.least_bytes;
	ASSERT_EQ(0, penstock_open(&o, &f.ctx, &f.err));
	ASSERT_EQ(0, penstock_model_open_layout(f.ctx, &f.layout, NULL, &f.model, &f.err));
	ASSERT_EQ(0, penstock_queue_create(f.ctx, &f.q));
	fetch_all(&f);
	teardown(&f);
}

TEST(the_table_is_copied)
{
	struct penstock_layout_layer kept[LAYERS];
	char name[] = "passing", path[512];
	struct penstock_tensor tensor;
	struct penstock_ticket *t;
	const int32_t id = 7;
	struct fixture f;

	setup(&f, 600000);
	penstock_model_close(f.model);
	f.layers[1].parts[0].name = name;
	memcpy(path, f.paths[1], sizeof(path));
	ASSERT_EQ(0, penstock_model_open_layout(f.ctx, &f.layout, NULL, &f.model, &f.err));
	memcpy(kept, f.layers, sizeof(kept));
	memset(f.layers, 0xff, sizeof(f.layers));
	memset(f.files, 0xff, sizeof(f.files));
	memset(f.paths, 'x', sizeof(f.paths));
	memset(name, 'x', sizeof(name) - 1);
	ASSERT_EQ(0, penstock_fetch(f.q, f.model, 1, &id, 1, &t));
	ASSERT_EQ(0, penstock_wait(t, UINT64_MAX));
	memcpy(f.layers, kept, sizeof(kept));
	check(&f, 1, t, 0);
	penstock_release(t);
	ASSERT_EQ(0, penstock_tensor_at(f.model, (uint32_t)penstock_tensor_find(f.model, "passing"), &tensor));
	EXPECT_STREQ("passing", tensor.name);
	EXPECT_STREQ(path, tensor.file);
	teardown(&f);
}

TEST(a_file_that_changes_ends_the_model)
{
	const int32_t id = 1, other = 2;
	struct penstock_ticket *t;
	struct fixture f;
	int fd;

	setup(&f, 600000);
	ASSERT_EQ(0, penstock_fetch(f.q, f.model, 1, &id, 1, &t));
	ASSERT_EQ(0, penstock_wait(t, UINT64_MAX));
	penstock_release(t);
	/* longer than files are left unlooked at */
	usleep(60000);
	fd = open(f.paths[1], O_WRONLY | O_CLOEXEC);
	ASSERT_EQ(1, pwrite(fd, "x", 1, 7));
	close(fd);
	ASSERT_EQ(0, penstock_fetch(f.q, f.model, 1, &other, 1, &t));
	EXPECT_EQ(-ESTALE, penstock_wait(t, UINT64_MAX));
	EXPECT_HAS(penstock_errmsg(f.q), f.paths[1]);
	penstock_release(t);
	EXPECT_EQ(-ESTALE, penstock_fetch(f.q, f.model, 0, &id, 1, &t));
	teardown(&f);
}

TEST(what_is_known_of_the_model_is_told)
{
	struct penstock_model_info info = { .size = sizeof(info) };
	struct penstock_layer_info layer = { .size = sizeof(layer) };
	struct penstock_tensor tensor;
	static uint8_t bytes[9000];
	struct fixture f;
	int64_t nr;

	setup(&f, 600000);
	ASSERT_EQ(0, penstock_model_info(f.model, &info));
	EXPECT_EQ((uint32_t)PENSTOCK_FORMAT_LAYOUT, info.format);
	EXPECT_EQ((uint32_t)LAYERS, info.nr_moe_layers);
	EXPECT_EQ(2u, info.nr_size_classes);
	EXPECT_EQ(EXPERTS * (2 * 14999ull + 20480), info.expert_bytes);
	EXPECT_EQ(TOP_K * (2 * 14999ull + 20480), info.token_bytes);
	ASSERT_EQ(0, penstock_layer_info(f.model, 0, &layer));
	EXPECT_EQ(14999ull, layer.expert_bytes);
	nr = penstock_tensor_find(f.model, "c.down");
	ASSERT_EQ(0, penstock_tensor_at(f.model, (uint32_t)nr, &tensor));
	EXPECT_EQ(700001ull, tensor.off);
	EXPECT_EQ((EXPERTS - 1) * 5000ull + 5000, tensor.bytes);
	ASSERT_EQ(2u, tensor.nr_dims);
	EXPECT_EQ((uint64_t)EXPERTS, tensor.dims[0]);
	EXPECT_EQ(5000ull, tensor.dims[1]);
	ASSERT_EQ(0, penstock_tensor_read(f.q, f.model, (uint32_t)nr, 777, bytes, sizeof(bytes)));
	EXPECT_EQ(sizeof(bytes), files_wrong(bytes, 700001 + 777, sizeof(bytes)));
	EXPECT_STREQ("test", info.path);
	EXPECT_STREQ("", info.arch);
	EXPECT_EQ((uint32_t)PENSTOCK_FAMILY_NONE, info.family);
	EXPECT_EQ(2u, info.nr_files);
	EXPECT_EQ(5u, info.nr_tensors);
	EXPECT_EQ(0, strcmp(f.paths[0], tensor.file));
	teardown(&f);
}

TEST(computing_is_refused)
{
	float x[4] = { 0 }, out[4], weights[TOP_K] = { 0 };
	int32_t ids[TOP_K] = { 0, 1 };
	struct penstock_moe moe = { .size = sizeof(moe), .top_k = TOP_K, .nr_tokens = 1, .x = x, .ldx = 4, .ids = ids,
				    .weights = weights, .out = out, .ldout = 4 };
	struct penstock_layer_info layer = { .size = sizeof(layer) };
	const void *ptr[2] = { x, x };
	struct penstock_k_expert e;
	struct fixture f;

	setup(&f, 600000);
	EXPECT_EQ(-EOPNOTSUPP, penstock_moe_forward(f.q, f.model, NULL, &moe));
	EXPECT_HAS(penstock_errmsg(f.q), "layer 0 of test: opened by a layout");
	/* before anything was read for it */
	EXPECT_EQ(0u, stats_of(&f).fetches);
	ASSERT_EQ(0, penstock_layer_info(f.model, 0, &layer));
	EXPECT_EQ((uint32_t)PENSTOCK_DTYPE_NONE, layer.parts[1].dtype);
	EXPECT_EQ(-EOPNOTSUPP, penstock_expert_view(&layer, ptr, &e, &f.err));
	EXPECT_HAS(f.err.text, "its 2 parts are not known");
	teardown(&f);
}

/* A host may change an expert's bytes in its slot; a new load has the file's again, and a later generation. */
TEST(a_pinned_slot_may_be_rewritten)
{
	struct penstock_ticket *t, *other;
	struct penstock_slot s, again;
	const int32_t id = 3;
	struct fixture f;

	setup(&f, 600000);
	ASSERT_EQ(0, penstock_fetch(f.q, f.model, 1, &id, 1, &t));
	ASSERT_EQ(0, penstock_wait(t, UINT64_MAX));
	ASSERT_EQ(0, penstock_ticket_slot(t, 0, &s));
	memset((void *)(uintptr_t)s.ptr[0], 0x5a, 20480);
	penstock_release(t);
	ASSERT_EQ(0, penstock_fetch(f.q, f.model, 1, &id, 1, &t));
	ASSERT_EQ(0, penstock_wait(t, UINT64_MAX));
	ASSERT_EQ(0, penstock_ticket_slot(t, 0, &again));
	EXPECT_EQ(s.generation, again.generation);
	EXPECT_EQ(0x5a, *(const uint8_t *)again.ptr[0]);
	penstock_release(t);
	/* push it out, then it is read anew */
	for (int32_t e = 0; e < EXPERTS; e++) {
		if (e == id)
			continue;
		for (int times = 0; times < 3; times++) {
			ASSERT_EQ(0, penstock_fetch(f.q, f.model, 1, &e, 1, &other));
			ASSERT_EQ(0, penstock_wait(other, UINT64_MAX));
			penstock_release(other);
		}
	}
	ASSERT_EQ(0, penstock_fetch(f.q, f.model, 1, &id, 1, &t));
	ASSERT_EQ(0, penstock_wait(t, UINT64_MAX));
	ASSERT_EQ(0, penstock_ticket_slot(t, 0, &again));
	EXPECT_GT(again.generation, s.generation);
	check(&f, 1, t, 0);
	penstock_release(t);
	teardown(&f);
}

static void refused(struct fixture *f, int code, const char *what)
{
	struct penstock_model *m;
	int rc = penstock_model_open_layout(f->ctx, &f->layout, NULL, &m, &f->err);

	if (rc != code || !strstr(f->err.text, what))
		TEST_FAIL_(0, "%d \"%s\", expected %d \"%s\"", rc, rc ? f->err.text : "", code, what);
	if (!rc)
		penstock_model_close(m);
}

#define REFUSED(code, what, ...) do {			\
	struct penstock_ctx *ctx_ = f.ctx;		\
	make_layout(&f);				\
	f.ctx = ctx_;					\
	__VA_ARGS__;					\
	refused(&f, code, what);			\
} while (0)

TEST(tables_that_contradict_themselves_are_refused)
{
	struct penstock_options o = PENSTOCK_OPTIONS_INIT;
	struct fixture f;

	make_layout(&f);
	ASSERT_EQ(0, penstock_open(&o, &f.ctx, &f.err));
	REFUSED(-EINVAL, "this library has", f.layout.size--);
	REFUSED(-EINVAL, "needs a name", f.layout.name = NULL);
	REFUSED(-EINVAL, "needs a name", f.layout.nr_layers = 0);
	REFUSED(-EINVAL, "needs a name", f.layout.files = NULL);
	REFUSED(-EINVAL, "4097 layers", f.layout.nr_layers = 4097);
	REFUSED(-EINVAL, "file 1 has no path", f.files[1] = NULL);
	REFUSED(-ENOENT, "gone", f.files[1] = "/nowhere/gone");
	REFUSED(-EINVAL, "layer 1 has 0 experts", f.layers[1].nr_experts = 0);
	REFUSED(-EINVAL, "takes 0 of 20", f.layers[1].top_k = 0);
	REFUSED(-EINVAL, "takes 21 of 20", f.layers[1].top_k = 21);
	REFUSED(-EINVAL, "layer 2 has 13 parts", f.layers[2].nr_parts = 13);
	REFUSED(-EINVAL, "layer 2 has 0 parts", f.layers[2].nr_parts = 0);
	REFUSED(-EINVAL, "part 1 has no name", f.layers[0].parts[1].name = "");
	REFUSED(-EINVAL, "file 2 of 2", f.layers[0].parts[1].file = 2);
	REFUSED(-EINVAL, "experts of 0 bytes", f.layers[0].parts[1].bytes = 0);
	REFUSED(-EINVAL, "experts of 9999 bytes, 9998 apart", f.layers[0].parts[0].stride = 9998);
	REFUSED(-EINVAL, "beyond 2^64", f.layers[0].parts[0].stride = UINT64_MAX / 2);
	REFUSED(-EINVAL, "beyond 2^64", f.layers[0].parts[0].off = UINT64_MAX - 5);
	REFUSED(-EINVAL, "from 96 on", f.layers[0].parts[0].stride = UINT64_MAX / 2);
	REFUSED(-EINVAL, "layer 2 part 1 (c.down)", f.layers[2].parts[1].bytes = 0);
	REFUSED(-ENODATA, "has 1048576 bytes", f.layers[2].parts[1].off = 1 << 20);
	REFUSED(0, "", f.layers[1].nr_experts = f.layers[1].top_k = 1; f.layers[1].parts[0].stride = 0);
	REFUSED(-EINVAL, "65537 experts", f.layers[1].nr_experts = 65537);
	REFUSED(-ENODATA, "ends at 1048577", f.layers[1].parts[0].off = 1048577 - 20 * 20480);
	REFUSED(-EINVAL, "two parts are called a.gate", f.layers[2].parts[0].name = "a.gate");
	REFUSED(0, "", f.layers[1].parts[0].off = 1048576 - 20 * 20480);
	penstock_close(f.ctx);
}

/* 64 layers that share 8 TiB of a hole, beside one of very many experts. */
TEST(sums_that_would_wrap_are_refused)
{
	static struct penstock_layout_layer layers[65];
	static char names[65][16];
	struct penstock_options o = PENSTOCK_OPTIONS_INIT;
	struct fixture f;

	make_layout(&f);
	if (truncate(f.paths[0], 1ll << 43))
		SKIP("no file of 8 TiB here: %s", strerror(errno));
	ASSERT_EQ(0, penstock_open(&o, &f.ctx, &f.err));
	for (uint32_t l = 0; l < 65; l++) {
		snprintf(names[l], sizeof(names[l]), "part %u", l);
		layers[l] = (struct penstock_layout_layer){ 1, 1, 1, { { names[l], 0, 0, 0, 1ull << 43 } } };
	}
	layers[64] = (struct penstock_layout_layer){ 65536, 1, 1, { { names[64], 0, 0, 1, 1 } } };
	f.layout.nr_layers = 65;
	f.layout.layers = layers;
	refused(&f, -EINVAL, "65 layers take more than 2^63 bytes");
	/* with less of them it is the budget that says no */
	f.layout.nr_layers = 2;
	refused(&f, -ENOSPC, "needs a cache of at least");
	penstock_close(f.ctx);
}

TEST_HARNESS_MAIN
