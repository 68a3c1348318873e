// SPDX-License-Identifier: MIT
/*
 * Memory runs out at the n-th allocation, for every n, on the way through the public
 * API: each call must succeed or say -ENOMEM with a text, and everything can be closed.
 */
#include <stdatomic.h>

#include <kabi.h>

#include "stream_fixture.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
TEST(allocations_fail_one_by_one)
{
	SKIP("the sanitizer's allocator cannot be replaced");
}
#else

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t m);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

/* Allocations left until one fails; negative = none fails. */
static atomic_long countdown = -1;
static atomic_int failed;

static bool fail_now(void)
{
	long left = atomic_load(&countdown);

	if (left < 0)
		return false;
	left = atomic_fetch_sub(&countdown, 1);
	if (left)
		return false;
	atomic_store(&failed, 1);
	errno = ENOMEM;
	return true;
}

void *malloc(size_t n)
{
	return fail_now() ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t m)
{
	return fail_now() ? NULL : __libc_calloc(n, m);
}

void *realloc(void *p, size_t n)
{
	return fail_now() ? NULL : __libc_realloc(p, n);
}

void *aligned_alloc(size_t align, size_t n)
{
	return fail_now() ? NULL : __libc_memalign(align, n);
}

/* One trip through the API with the n-th allocation failing. Return: did one fail? */
struct trip {
	struct tiny_model tiny;
	struct penstock_ctx *ctx;
	struct penstock_model *model;
	struct penstock_queue *q;
	struct penstock_pool *pool;
	int rc;
	char text[500];
};

static void explain(struct trip *t, int rc, const char *text)
{
	t->rc = rc;
	if (rc)
		snprintf(t->text, sizeof(t->text), "%s", text);
}

static void compute(struct trip *t)
{
	static float x[4 * TINY_HIDDEN], out[4 * TINY_HIDDEN];
	const int32_t ids[] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	const float weights[] = { 1, 1, 1, 1, 1, 1, 1, 1 };
	struct penstock_moe moe = {
		.size = sizeof(moe), .layer = 1, .top_k = 2, .nr_tokens = 4, .x = x, .ldx = TINY_HIDDEN,
		.ids = ids, .weights = weights, .out = out, .ldout = TINY_HIDDEN,
	};
	struct penstock_ticket *ticket;

	explain(t, penstock_fetch(t->q, t->model, 0, ids, 4, &ticket), penstock_errmsg(t->q));
	if (t->rc)
		return;
	explain(t, penstock_wait(ticket, FOR_EVER), penstock_errmsg(t->q));
	penstock_release(ticket);
	if (!t->rc)
		explain(t, penstock_prefetch(t->q, t->model, 2, ids, NULL, 2), penstock_errmsg(t->q));
	if (!t->rc)
		explain(t, penstock_moe_forward(t->q, t->model, t->pool, &moe), penstock_errmsg(t->q));
}

static void go(struct trip *t)
{
	struct penstock_options o = PENSTOCK_OPTIONS_INIT;
	struct penstock_error err = { 0 };

	o.cache_bytes = 10 * (uint64_t)(TINY_EXPERT + 8192);
	t->ctx = NULL;
	t->model = NULL;
	t->q = NULL;
	t->pool = NULL;
	explain(t, penstock_pool_create(2, PENSTOCK_ISA_AUTO, 0, &t->pool), "the pool has no text");
	if (!t->rc)
		explain(t, penstock_open(&o, &t->ctx, &err), err.text);
	if (!t->rc)
		explain(t, penstock_model_open(t->ctx, t->tiny.dir, NULL, &t->model, &err), err.text);
	if (!t->rc)
		explain(t, penstock_queue_create(t->ctx, &t->q), "the queue has no text");
	if (!t->rc)
		compute(t);
	if (!t->rc)
		explain(t, penstock_resize(t->ctx, 20 * (uint64_t)(TINY_EXPERT + 8192), &err), err.text);
	penstock_queue_destroy(t->q);
	penstock_model_close(t->model);
	penstock_close(t->ctx);
	if (t->pool)
		penstock_pool_destroy(t->pool);
}

TEST(allocations_fail_one_by_one)
{
	static struct trip t;
	long n, refused = 0;

	tiny_model_make(&t.tiny);
	for (n = 0; n < 100000; n++) {
		atomic_store(&failed, 0);
		atomic_store(&countdown, n);
		t.text[0] = 0;
		go(&t);
		atomic_store(&countdown, -1);
		if (!atomic_load(&failed))
			break;
		if (!t.rc)
			continue;
		refused++;
		if (t.rc != -ENOMEM && t.rc != -EAGAIN)
			TEST_FAIL_(0, "allocation %ld: %d, %s", n, t.rc, t.text);
		if (!t.text[0])
			TEST_FAIL_(0, "allocation %ld: %d without a text", n, t.rc);
	}
	printf("# %ld allocations, %ld of them refused the call\n", n, refused);
	/* the last trip had none to fail */
	EXPECT_EQ(0, t.rc);
	EXPECT_GT(refused, 20);
	tiny_model_remove(&t.tiny);
}
#endif

TEST_HARNESS_MAIN
