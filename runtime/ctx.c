// SPDX-License-Identifier: MIT
/* Contexts and queues: open, close, statistics, status. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "policy.h"
#include "stream.h"
#include "util.h"

/* Reads that the ring can hold when the depth is to be measured. */
#define DEPTH_MOST	256u
#define DEPTH_DEFAULT	32u
#define SPLIT_DEFAULT	(1u << 20)

int penstock_ctx_check(const struct penstock_ctx *ctx, struct penstock_error *err)
{
	if (atomic_load_explicit(ctx->alive, memory_order_relaxed))
		return 0;
	return penstock_err(err, -ESTALE, "this process is a fork of the one that opened the context");
}

void penstock_ctx_log(struct penstock_ctx *ctx, enum penstock_log_level level, const char *fmt, ...)
{
	char line[600];
	va_list ap;

	if (!ctx->log)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	ctx->log(ctx->log_arg, level, line);
}

static int check_options(const struct penstock_options *o, struct penstock_error *err)
{
	const uint32_t known = PENSTOCK_F_CALLER_PROGRESS | PENSTOCK_F_NO_URING | PENSTOCK_F_NO_DIRECT |
			       PENSTOCK_F_NO_HUGE;

	if (o->size != sizeof(*o))
		return penstock_err(err, -EINVAL, "options of %zu bytes, this library has %zu", o->size, sizeof(*o));
	if (o->flags & ~known)
		return penstock_err(err, -EINVAL, "flags 0x%x, known are 0x%x", o->flags, known);
	if (o->policy && penstock_policy_kind(o->policy) < 0)
		return penstock_err(err, -EINVAL, "policy %s: there are \"lru\" and \"lfu\"", o->policy);
	if (o->queue_depth > DEPTH_MOST)
		return penstock_err(err, -EINVAL, "queue depth %u, at most %u", o->queue_depth, DEPTH_MOST);
	if (o->split_bytes > PENSTOCK_READ_MAX || o->split_bytes % PENSTOCK_MEM_ALIGN)
		return penstock_err(err, -EINVAL, "split of %u bytes: a multiple of %u up to %u", o->split_bytes,
				    PENSTOCK_MEM_ALIGN, PENSTOCK_READ_MAX);
	return 0;
}

static int open_ring(struct penstock_ctx *ctx, struct penstock_error *err)
{
	uint32_t most = ctx->fixed_depth ? ctx->depth : DEPTH_MOST;
	int rc;

	rc = penstock_ring_open_drv(ctx->flags & PENSTOCK_F_NO_URING ? &penstock_ring_pread : NULL, ctx->drv, most,
				    &ctx->ring, err);
	if (rc)
		return rc;
	snprintf(ctx->io_reason, sizeof(ctx->io_reason), "%s",
		 ctx->flags & PENSTOCK_F_NO_URING ? "asked for" : penstock_ring_why(ctx->ring));
	ctx->reads = calloc(most, sizeof(*ctx->reads));
	ctx->bufs_used = calloc(PENSTOCK_RING_MAX_BUFS / 64, sizeof(*ctx->bufs_used));
	if (!ctx->reads || !ctx->bufs_used)
		return penstock_err(err, -ENOMEM, "%u read records", most);
	for (uint32_t i = 0; i < ctx->depth; i++) {
		ctx->reads[i].next = ctx->free_reads;
		ctx->free_reads = &ctx->reads[i];
	}
	return 0;
}

/* A page that fork() wipes in the child: reading it costs less than getpid(). */
static int open_alive(struct penstock_ctx *ctx, struct penstock_error *err)
{
	size_t len = (size_t)sysconf(_SC_PAGESIZE);
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return penstock_err(err, -ENOMEM, "a page of memory");
	ctx->alive = p;
	if (madvise(p, len, MADV_WIPEONFORK))
		return penstock_err(err, -EOPNOTSUPP, "MADV_WIPEONFORK: the kernel is older than 4.14");
	atomic_store(ctx->alive, 1);
	return 0;
}

static void destroy(struct penstock_ctx *ctx)
{
	penstock_ring_close(ctx->ring);
	penstock_ctx_close_device(ctx);
	free(ctx->reads);
	free(ctx->bufs_used);
	if (ctx->alive)
		munmap(ctx->alive, (size_t)sysconf(_SC_PAGESIZE));
	pthread_cond_destroy(&ctx->call_done);
	pthread_cond_destroy(&ctx->kicked);
	pthread_mutex_destroy(&ctx->lock);
	pthread_mutex_destroy(&ctx->admin);
	free(ctx);
}

int penstock_open(const struct penstock_options *opts, struct penstock_ctx **out, struct penstock_error *err)
{
	struct penstock_ctx *ctx;
	int rc;

	penstock_err_clear(err);
	rc = check_options(opts, err);
	if (rc)
		return rc;
	ctx = calloc(1, sizeof(*ctx));
	if (!ctx)
		return penstock_err(err, -ENOMEM, "a context");
	pthread_mutex_init(&ctx->admin, NULL);
	pthread_mutex_init(&ctx->lock, NULL);
	pthread_cond_init(&ctx->call_done, NULL);
	pthread_cond_init(&ctx->kicked, NULL);
	ctx->flags = opts->flags;
	ctx->policy = penstock_policy_kind(opts->policy ? opts->policy : "lru");
	ctx->drv = -1;
	ctx->stage.buf = -1;
	ctx->cache_bytes = opts->cache_bytes;
	ctx->fixed_depth = opts->queue_depth != 0;
	ctx->fixed_split = opts->split_bytes != 0;
	ctx->depth = opts->queue_depth ? opts->queue_depth : DEPTH_DEFAULT;
	ctx->split = opts->split_bytes ? opts->split_bytes : SPLIT_DEFAULT;
	ctx->log = opts->log;
	ctx->log_arg = opts->log_arg;
	ctx->page_why = "no slots yet";
	rc = open_alive(ctx, err);
	if (!rc)
		rc = penstock_ctx_open_device(ctx, opts, err);
	if (!rc)
		rc = open_ring(ctx, err);
	if (!rc) {
		rc = penstock_progress_start(ctx);
		if (rc)
			penstock_err(err, rc, "start the I/O thread");
	}
	if (rc) {
		destroy(ctx);
		return rc;
	}
	*out = ctx;
	return 0;
}

void penstock_close(struct penstock_ctx *ctx)
{
	if (!ctx || penstock_ctx_check(ctx, NULL))
		return;
	penstock_progress_stop(ctx);
	destroy(ctx);
}

int penstock_queue_create(struct penstock_ctx *ctx, struct penstock_queue **out)
{
	pthread_condattr_t attr;
	struct penstock_queue *q;
	int rc;

	rc = penstock_ctx_check(ctx, NULL);
	if (rc)
		return rc;
	q = calloc(1, sizeof(*q));
	if (!q)
		return -ENOMEM;
	q->ctx = ctx;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&q->cond, &attr);
	pthread_condattr_destroy(&attr);
	*out = q;
	return 0;
}

void penstock_queue_destroy(struct penstock_queue *q)
{
	if (!q)
		return;
	pthread_cond_destroy(&q->cond);
	free(q->spare);
	free(q->scratch);
	free(q);
}

const char *penstock_errmsg(const struct penstock_queue *q)
{
	return q->err.text;
}

/* A struct that may be smaller or larger in the caller's version: copy what both know. */
static int copy_out(void *dst, const void *src, size_t own)
{
	size_t asked = *(size_t *)dst;

	if (asked < sizeof(size_t) || asked > own)
		return -EINVAL;
	memcpy(dst, src, asked);
	*(size_t *)dst = asked;
	return 0;
}

int penstock_stats(struct penstock_ctx *ctx, struct penstock_stats *stats)
{
	struct penstock_stats s;
	int rc;

	rc = penstock_ctx_check(ctx, NULL);
	if (rc)
		return rc;
	pthread_mutex_lock(&ctx->lock);
	s = ctx->stats;
	if (ctx->demand_in_flight)
		s.io_busy_ns += penstock_now_ns() - ctx->busy_since_ns;
	for (struct penstock_model *m = ctx->models; m; m = m->next) {
		for (uint32_t i = 0; i < m->nr_classes; i++) {
			struct penstock_class *c = &m->classes[i];

			s.evictions += penstock_cache_evictions(c->cache);
			s.slots += penstock_cache_slots(c->cache);
			s.slots_used += penstock_cache_used(c->cache);
			s.cache_bytes += penstock_cache_slots(c->cache) * c->slot_bytes;
		}
	}
	pthread_mutex_unlock(&ctx->lock);
	return copy_out(stats, &s, sizeof(s));
}

/* "direct" if all files are, "buffered" if none is, else "mixed", with the first refusal's reason. */
static void direct_status(struct penstock_ctx *ctx, struct penstock_status *s)
{
	uint32_t direct = 0, other = 0;

	ctx->direct_reason[0] = 0;
	for (struct penstock_model *m = ctx->models; m; m = m->next) {
		for (uint32_t i = 0; i < m->index->store.nr_files; i++) {
			const struct penstock_file *f = &m->index->store.files[i];

			if (f->mode == PENSTOCK_FILE_DIRECT) {
				direct++;
				continue;
			}
			if (!other++)
				snprintf(ctx->direct_reason, sizeof(ctx->direct_reason), "%s", f->why);
		}
	}
	s->direct = !other ? "direct" : direct ? "mixed" : "buffered";
	s->direct_reason = ctx->direct_reason;
}

/* "mixed" where models differ; before there is one, what could be. */
static const char *route_status(const struct penstock_ctx *ctx)
{
	const struct penstock_model *m = ctx->models;

	if (!m)
		return ctx->drv < 0 ? "host" : "none";
	for (const struct penstock_model *o = m->next; o; o = o->next)
		if (o->route != m->route)
			return "mixed";
	return penstock_route_name(m->route);
}

static void routes_status(const struct penstock_ctx *ctx, struct penstock_status *s)
{
	for (uint32_t i = 0; i < PENSTOCK_ROUTES; i++) {
		const struct penstock_route_verdict *v = &ctx->verdicts[i];

		if (!v->examined)
			continue;
		s->routes[s->nr_routes++] = (struct penstock_route_status){
			.name = penstock_route_name((enum penstock_route)i), .usable = !v->code,
			.bytes_per_s = v->bytes_per_s, .reason = v->reason,
		};
	}
}

int penstock_status(struct penstock_ctx *ctx, struct penstock_status *status)
{
	struct penstock_status s = { .cache_mode = "cache" };
	int rc;

	rc = penstock_ctx_check(ctx, NULL);
	if (rc)
		return rc;
	pthread_mutex_lock(&ctx->lock);
	s.device = ctx->device;
	s.route = route_status(ctx);
	s.route_reason = ctx->route_reason;
	routes_status(ctx, &s);
	s.io_engine = penstock_ring_name(ctx->ring);
	s.io_reason = ctx->io_reason;
	direct_status(ctx, &s);
	s.policy = penstock_policy_name(ctx->policy);
	for (struct penstock_model *m = ctx->models; m; m = m->next)
		if (m->stream)
			s.cache_mode = "stream";
	s.page_size = ctx->page_size;
	s.page_reason = ctx->page_why;
	s.queue_depth = ctx->depth;
	s.split_bytes = ctx->split;
	s.drive_bytes_per_s = ctx->drive_bytes_per_s;
	s.drive_latency_ns = ctx->drive_latency_ns;
	s.numa_node = ctx->source.numa_node;
	pthread_mutex_unlock(&ctx->lock);
	return copy_out(status, &s, sizeof(s));
}
