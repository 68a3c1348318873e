// SPDX-License-Identifier: MIT
/*
 * Models opened by a layout: two files of a pattern, three layers of two size
 * classes, parts at odd offsets; what is fetched is compared with the pattern, and
 * every table that contradicts itself is refused with the numbers.
 */
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

TEST(what_is_known_of_the_model_is_told)
{
	struct penstock_model_info info = { .size = sizeof(info) };
	struct penstock_layer_info layer = { .size = sizeof(layer) };
	struct penstock_tensor tensor;
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
	EXPECT_EQ(0, strcmp(f.paths[0], tensor.file));
	teardown(&f);
}

TEST(computing_is_refused)
{
	float x[4] = { 0 }, out[4], weights[TOP_K] = { 0 };
	int32_t ids[TOP_K] = { 0, 1 };
	struct penstock_moe moe = { .size = sizeof(moe), .top_k = TOP_K, .nr_tokens = 1, .x = x, .ldx = 4, .ids = ids,
				    .weights = weights, .out = out, .ldout = 4 };
	struct fixture f;

	setup(&f, 600000);
	EXPECT_NE(0, penstock_moe_forward(f.q, f.model, NULL, &moe));
	EXPECT_NE(0, strlen(penstock_errmsg(f.q)));
	teardown(&f);
}

/* A host may change an expert's bytes in its slot; a new load has the file's again, and another generation. */
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
	EXPECT_EQ(1, again.ptr[0] != s.ptr[0] || again.generation != s.generation);
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
	REFUSED(-ENODATA, "ends at 1048577", f.layers[1].parts[0].off = 1048577 - 20 * 20480);
	REFUSED(-EINVAL, "two parts are called a.gate", f.layers[2].parts[0].name = "a.gate");
	REFUSED(0, "", f.layers[1].parts[0].off = 1048576 - 20 * 20480);
	penstock_close(f.ctx);
}

TEST_HARNESS_MAIN
