// SPDX-License-Identifier: MIT
/*
 * The choice of a model's route. Each of its files is judged; what each of its drives
 * can do with the context's device is examined once and kept, as far as it does not
 * come from the file it was examined with. A route must be good for all of them, and
 * the slowest drive counts. Who asked for one route gets that or the reason why not.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream.h"
#include "util.h"

/* Of each route, in three passes. */
#define WINDOW_NS	30000000u
/* Files that a drive is examined with, when the first of them tell nothing about it. */
#define FILES_TRIED	4u

dev_t penstock_file_drive(const struct penstock_file *f)
{
	struct stat st;

	return !fstat(f->fd, &st) && S_ISBLK(st.st_mode) ? st.st_rdev : f->dev;
}

static struct penstock_pair *pair_of(struct penstock_ctx *ctx, dev_t dev)
{
	struct penstock_pair *p = ctx->pairs;

	while (p && p->dev != dev)
		p = p->next;
	return p;
}

/* Which says more about its drive: a file that the driver reads, the larger one, the first. */
static bool says_more(const struct penstock_model *m, uint32_t file, uint32_t than)
{
	const struct penstock_file *a = &m->index->store.files[file], *b = &m->index->store.files[than];
	bool read_a = m->targets[file].info.id, read_b = m->targets[than].info.id;

	if (read_a != read_b)
		return read_a;
	return a->size != b->size ? a->size > b->size : file < than;
}

/* Of a drive's files the one that says most of those that say less than @last. Return: nr_files = none. */
static uint32_t next_file(const struct penstock_model *m, const dev_t *devs, dev_t dev, uint32_t last)
{
	uint32_t nr = m->index->store.nr_files, best = nr;

	for (uint32_t i = 0; i < nr; i++)
		if (devs[i] == dev && (last == nr || says_more(m, last, i)) && (best == nr || says_more(m, i, best)))
			best = i;
	return best;
}

/* Examine a drive with one of its files. What is no verdict about the drive is not kept. */
static int examine(struct penstock_model *m, uint32_t file, uint32_t routes, struct penstock_pair *p,
		   struct penstock_error *err)
{
	struct penstock_route_pair pair;
	int rc;

	p->routes = 0;
	penstock_model_pair(m, file, &pair);
	rc = penstock_route_examine(&pair, routes, WINDOW_NS, &p->found, err);
	if (!rc && p->found.lasting)
		p->routes = routes;
	return rc;
}

/* What is known of a drive already counts until a PCI device comes or goes. */
static int examine_drive(struct penstock_model *m, const dev_t *devs, dev_t dev, uint32_t routes, uint32_t generation,
			 struct penstock_pair **out, struct penstock_error *err)
{
	struct penstock_ctx *ctx = m->ctx;
	struct penstock_pair *p = pair_of(ctx, dev);
	uint32_t nr = m->index->store.nr_files, file = nr;
	int rc = 0;

	if (!p) {
		p = calloc(1, sizeof(*p));
		if (!p)
			return penstock_err(err, -ENOMEM, "a pair of drive and device");
		p->dev = dev;
		p->next = ctx->pairs;
		ctx->pairs = p;
	}
	*out = p;
	if (p->found.generation == generation && (p->routes & routes) == routes)
		return 0;
	/* a hole, say, proves nothing: the next file may */
	for (uint32_t i = 0; i < FILES_TRIED && !rc; i++) {
		file = next_file(m, devs, dev, file);
		if (file == nr)
			break;
		rc = examine(m, file, routes, p, err);
		if (p->routes)
			break;
	}
	return rc;
}

static void merge(struct penstock_route_verdict *all, const struct penstock_route_verdict *one)
{
	bool first = !all->examined;

	if (!one->examined || all->code)
		return;
	if (one->code || first) {
		*all = *one;
		return;
	}
	all->bytes_per_s = penstock_min_u64(all->bytes_per_s, one->bytes_per_s);
}

/* What one of the files cannot take is refused for the model. Return: the routes that are left. */
static uint32_t judge_files(const struct penstock_model *m, struct penstock_route_verdict *all)
{
	uint32_t routes = m->ctx->routes;
	struct penstock_route_pair pair;

	for (uint32_t i = 0; i < m->index->store.nr_files; i++) {
		struct penstock_route_verdict of[PENSTOCK_ROUTES] = { 0 };

		penstock_model_pair(m, i, &pair);
		penstock_route_judge_file(&pair, of);
		for (uint32_t r = 0; r < PENSTOCK_ROUTES; r++) {
			if (!of[r].code || !(routes >> r & 1))
				continue;
			routes &= ~(1u << r);
			all[r] = (struct penstock_route_verdict){ .examined = true, .code = of[r].code };
			snprintf(all[r].reason, sizeof(all[r].reason), "%.120s: %.255s", m->index->store.files[i].path,
				 of[r].reason);
		}
	}
	return routes;
}

static int examine_drives(struct penstock_model *m, const dev_t *devs, uint32_t routes,
			  struct penstock_route_verdict *all, struct penstock_error *err)
{
	struct penstock_drv_info info;
	struct penstock_pair *p = NULL;
	int rc;

	rc = penstock_drv_info(m->ctx->drv, &info, err);
	for (uint32_t i = 0; i < m->index->store.nr_files && !rc; i++) {
		uint32_t first = 0;

		while (devs[first] != devs[i])
			first++;
		if (first < i)
			continue;
		rc = examine_drive(m, devs, devs[i], routes, info.generation, &p, err);
		for (uint32_t r = 0; r < PENSTOCK_ROUTES && !rc && p; r++)
			merge(&all[r], &p->found.of[r]);
	}
	return rc;
}

static int examine_all(struct penstock_model *m, struct penstock_route_verdict *all, struct penstock_error *err)
{
	const struct penstock_store *s = &m->index->store;
	uint32_t routes = judge_files(m, all);
	dev_t *devs;
	int rc;

	if (!routes)
		return 0;
	devs = calloc(s->nr_files ? s->nr_files : 1, sizeof(*devs));
	if (!devs)
		return penstock_err(err, -ENOMEM, "the drives of %u files", s->nr_files);
	for (uint32_t i = 0; i < s->nr_files; i++)
		devs[i] = penstock_file_drive(&s->files[i]);
	rc = examine_drives(m, devs, routes, all, err);
	free(devs);
	return rc;
}

static void append(char *text, size_t len, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void append(char *text, size_t len, const char *fmt, ...)
{
	size_t used = strlen(text);
	va_list ap;

	if (used + 1 >= len)
		return;
	va_start(ap, fmt);
	vsnprintf(text + used, len - used, fmt, ap);
	va_end(ap);
}

/* "the fastest: direct 3.10 GB/s, bounce 2.20 GB/s; mapped not: why" */
static void reason_text(const struct penstock_route_verdict *all, bool asked, char *text, size_t len)
{
	const char *sep = " ";

	snprintf(text, len, "%s", asked ? "asked for:" : "the fastest:");
	for (uint32_t r = 0; r < PENSTOCK_ROUTES; r++) {
		if (!all[r].examined || all[r].code)
			continue;
		append(text, len, "%s%s %.3f GB/s", sep, penstock_route_name((enum penstock_route)r),
		       (double)all[r].bytes_per_s / 1e9);
		sep = ", ";
	}
}

/* One that was asked for: its reason as it is. Several: all of them, in short. */
static int none_works(const struct penstock_model *m, const struct penstock_route_verdict *all,
		      struct penstock_error *err)
{
	const char *device = m->ctx->device, *path = m->index->path;
	char text[400] = "";
	int code = 0, only = -1, nr = 0;

	for (int r = 0; r < (int)PENSTOCK_ROUTES; r++) {
		if (!all[r].examined)
			continue;
		nr++;
		only = r;
		code = code ? code : all[r].code;
		append(text, sizeof(text), "%s%s: %.180s", *text ? "; " : "",
		       penstock_route_name((enum penstock_route)r), all[r].reason);
	}
	if (nr == 1)
		return penstock_err(err, code, "route %s from %.80s to device %s: %.360s",
				    penstock_route_name((enum penstock_route)only), path, device, all[only].reason);
	return penstock_err(err, code ? code : -EOPNOTSUPP, "no route from %.60s to device %s: %s", path, device, text);
}

/* Never silently slower: what is refused is told, and can be read from the status. */
static void tell(struct penstock_model *m, const struct penstock_route_verdict *all)
{
	struct penstock_ctx *ctx = m->ctx;

	pthread_mutex_lock(&ctx->lock);
	memcpy(ctx->verdicts, all, sizeof(ctx->verdicts));
	reason_text(all, !(ctx->routes & (ctx->routes - 1)), ctx->route_reason, sizeof(ctx->route_reason));
	pthread_mutex_unlock(&ctx->lock);
	for (uint32_t r = 0; r < PENSTOCK_ROUTES; r++)
		if (all[r].examined && all[r].code)
			penstock_ctx_log(ctx, PENSTOCK_LOG_WARN, "route %s to device %s cannot be used: %s",
					 penstock_route_name((enum penstock_route)r), ctx->device, all[r].reason);
	penstock_ctx_log(ctx, PENSTOCK_LOG_INFO, "route %s to device %s, %s", penstock_route_name(m->route),
			 ctx->device, ctx->route_reason);
}

int penstock_model_choose_route(struct penstock_model *m, struct penstock_error *err)
{
	struct penstock_route_verdict all[PENSTOCK_ROUTES] = { 0 };
	int best, rc;

	m->route = PENSTOCK_ROUTE_HOST;
	if (m->ctx->drv < 0)
		return 0;
	rc = examine_all(m, all, err);
	if (rc)
		return rc;
	best = penstock_route_fastest(all);
	if (best < 0)
		return none_works(m, all, err);
	m->route = (enum penstock_route)best;
	tell(m, all);
	return 0;
}
