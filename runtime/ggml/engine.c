// SPDX-License-Identifier: MIT
/* The process's context, its models and its queue: see engine.h. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "budget.h"
#include "engine.h"
#include "host.h"
#include "maps.h"
#include "report.h"
#include "settings.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct penstock_ctx *ctx;
static struct penstock_queue *queue;
static struct gg_model *models;
/* Bound, and not of an open model yet. */
static struct gg_matrix **fresh;
static uint32_t nr_fresh;

void gg_engine_lock(void)
{
	pthread_mutex_lock(&lock);
}

void gg_engine_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

struct gg_model *gg_engine_models(void)
{
	return models;
}

static void free_matrix(struct gg_matrix *m)
{
	if (!m)
		return;
	if (m->form_buffer)
		gg.ggml_backend_buffer_free(m->form_buffer);
	free(m->path);
	free(m->ahead_set);
	free(m->forms);
	free(m);
}

/* In the order that llama.cpp computes them in. */
static int rank_of(const char *name)
{
	static const char *const parts[] = { ".ffn_gate_up_", ".ffn_gate_", ".ffn_up_", ".ffn_down_" };
	int rank = 0;

	while (rank < 3 && !strstr(name, parts[rank]))
		rank++;
	return rank;
}

bool gg_engine_bind(struct gg_tensor *tensor, struct gg_buffer *buffer)
{
	struct gg_file *file = gg_files_find(tensor->data);
	struct gg_matrix **more, *m;

	if (!file) {
		gg_say("%s is in no mapped GGUF file: start with --load-mode mmap (without --no-mmap)", tensor->name);
		return false;
	}
	m = calloc(1, sizeof(*m));
	more = realloc(fresh, (nr_fresh + 1) * sizeof(*fresh));
	if (more)
		fresh = more;
	if (m) {
		m->path = strdup(file->path);
		m->ahead_set = calloc((size_t)tensor->ne[2] / 64 + 1, sizeof(*m->ahead_set));
	}
	if (!m || !more || !m->path || !m->ahead_set) {
		free_matrix(m);
		gg_say("%s: no memory", tensor->name);
		return false;
	}
	m->tensor = tensor;
	m->buffer = buffer;
	snprintf(m->name, sizeof(m->name), "%s", tensor->name);
	m->off = (uint64_t)((const char *)tensor->data - file->base);
	m->stride = tensor->nb[2];
	m->bytes = gg.ggml_row_size(tensor->type, tensor->ne[0]) * (uint64_t)tensor->ne[1];
	m->nr_experts = (uint32_t)tensor->ne[2];
	m->top_k = file->top_k;
	m->group = 2 * gg_expert_block(tensor->name) + (strstr(tensor->name, "_chexps") != NULL);
	m->rank = rank_of(tensor->name);
	tensor->extra = m;
	fresh[nr_fresh++] = m;
	return true;
}

static bool release_ahead(struct gg_matrix *m)
{
	if (!m->ahead)
		return false;
	penstock_release(m->ahead);
	m->ahead = NULL;
	return true;
}

bool gg_engine_drop_ahead(void)
{
	bool any = false;

	for (struct gg_model *o = models; o; o = o->next)
		for (uint32_t i = 0; i < o->nr_matrices; i++)
			any |= release_ahead(o->matrices[i]);
	return any;
}

/* Its size was that of the models that are gone. */
static void close_context(void)
{
	penstock_queue_destroy(queue);
	penstock_close(ctx);
	queue = NULL;
	ctx = NULL;
}

static void close_model(struct gg_model *o)
{
	struct gg_model **at = &models;

	if (!o->next && models == o)
		gg_report_stats();
	while (*at != o)
		at = &(*at)->next;
	*at = o->next;
	for (uint32_t i = 0; i < o->nr_matrices; i++) {
		release_ahead(o->matrices[i]);
		free_matrix(o->matrices[i]);
	}
	penstock_model_close(o->model);
	free(o->matrices);
	free(o);
	if (!models)
		close_context();
}

void gg_engine_unbind(struct gg_buffer *buffer)
{
	struct gg_model *o, *next;
	uint32_t kept = 0;

	gg_engine_lock();
	for (uint32_t i = 0; i < nr_fresh; i++) {
		if (fresh[i]->buffer == buffer)
			free_matrix(fresh[i]);
		else
			fresh[kept++] = fresh[i];
	}
	nr_fresh = kept;
	for (o = models; o; o = next) {
		next = o->next;
		for (uint32_t i = 0; i < o->nr_matrices; i++) {
			if (o->matrices[i]->buffer != buffer)
				continue;
			o->matrices[i]->buffer = NULL;
			o->nr_gone++;
		}
		if (o->nr_gone == o->nr_matrices)
			close_model(o);
	}
	gg_engine_unlock();
}

static void log_line(void *arg, enum penstock_log_level level, const char *line)
{
	if ((int)level <= gg_settings.log_level)
		gg_say("%s", line);
}

static bool open_context(uint64_t bytes)
{
	struct penstock_options opts = PENSTOCK_OPTIONS_INIT;
	struct penstock_error err;

	opts.cache_bytes = bytes;
	opts.policy = gg_settings.policy;
	opts.queue_depth = gg_settings.queue_depth;
	opts.split_bytes = gg_settings.split_bytes;
	opts.flags = (gg_settings.no_uring ? PENSTOCK_F_NO_URING : 0) |
		     (gg_settings.no_direct ? PENSTOCK_F_NO_DIRECT : 0);
	opts.log = log_line;
	if (penstock_open(&opts, &ctx, &err)) {
		gg_say("%s", err.text);
		ctx = NULL;
		return false;
	}
	if (penstock_queue_create(ctx, &queue)) {
		gg_say("a queue: no memory");
		penstock_close(ctx);
		ctx = NULL;
		return false;
	}
	return true;
}

static int by_group(const void *a, const void *b)
{
	const struct gg_matrix *x = *(struct gg_matrix *const *)a, *y = *(struct gg_matrix *const *)b;

	return x->group != y->group ? x->group - y->group : x->rank - y->rank;
}

struct layout {
	struct penstock_layout_layer *layers;
	const char **files;
	uint32_t nr_files;
};

static uint32_t file_number(struct layout *l, const char *path)
{
	uint32_t i = 0;

	while (i < l->nr_files && strcmp(l->files[i], path))
		i++;
	if (i == l->nr_files)
		l->files[l->nr_files++] = path;
	return i;
}

static void fill_layer(struct layout *l, struct gg_matrix *m, uint32_t nr)
{
	struct penstock_layout_layer *layer = &l->layers[nr];

	layer->nr_experts = m->nr_experts;
	layer->top_k = m->top_k && m->top_k < m->nr_experts ? m->top_k : m->top_k ? m->nr_experts : 1;
	layer->nr_parts = 1;
	layer->parts[0].name = m->name;
	layer->parts[0].file = file_number(l, m->path);
	layer->parts[0].off = m->off;
	layer->parts[0].stride = m->stride;
	layer->parts[0].bytes = m->bytes;
	m->layer = nr;
}

static int open_layout(struct gg_model *o, uint64_t bytes, struct penstock_error *err)
{
	struct penstock_model_options opts = { .size = sizeof(opts), .cache_bytes = bytes };
	struct penstock_layout layout = { .size = sizeof(layout), .name = o->matrices[0]->path };
	struct layout l = { .layers = calloc(o->nr_matrices, sizeof(*l.layers)),
			    .files = calloc(o->nr_matrices, sizeof(*l.files)) };
	int rc = -ENOMEM;

	if (l.layers && l.files) {
		for (uint32_t i = 0; i < o->nr_matrices; i++)
			fill_layer(&l, o->matrices[i], i);
		layout.nr_files = l.nr_files;
		layout.files = l.files;
		layout.nr_layers = o->nr_matrices;
		layout.layers = l.layers;
		rc = penstock_model_open_layout(ctx, &layout, &opts, &o->model, err);
	} else {
		snprintf(err->text, sizeof(err->text), "no memory for %u tensors", o->nr_matrices);
	}
	free(l.layers);
	free(l.files);
	return rc;
}

static bool open_model(struct gg_model *o)
{
	struct gg_need need = { 0 };
	struct penstock_error err;
	uint32_t nr_opened = 0;
	uint64_t bytes, all;

	for (const struct gg_model *other = models; other; other = other->next)
		nr_opened++;
	for (uint32_t i = 0; i < o->nr_matrices; i++)
		gg_need_add(&need, o->matrices[i]);
	if (!gg_budget_get(&need, nr_opened, &bytes, &all))
		return false;
	if (!ctx && !open_context(all))
		return false;
	if (open_layout(o, bytes, &err)) {
		gg_say("%s", err.text);
		if (!models)
			close_context();
		return false;
	}
	for (uint32_t i = 0; i < o->nr_matrices; i++) {
		struct penstock_layer_info info = { .size = sizeof(info) };

		o->matrices[i]->model = o;
		if (!penstock_layer_info(o->model, i, &info))
			o->matrices[i]->slot_bytes = info.slot_bytes;
	}
	return true;
}

static bool expert_pages_locked(const struct gg_matrix *m)
{
	struct gg_mapping map;

	return gg_maps_find((const char *)m->tensor->data, &map) && gg_maps_locked(&map);
}

bool gg_engine_start(void)
{
	uint64_t locked, resident;
	struct gg_model *o;
	bool good = true;

	gg_engine_lock();
	if (nr_fresh && expert_pages_locked(fresh[0])) {
		gg_say("the whole model is locked in memory (--mlock): leave that out, dense weights are locked"
		       " anyway");
		good = false;
	} else if (nr_fresh) {
		o = calloc(1, sizeof(*o));
		if (o) {
			o->matrices = fresh;
			o->nr_matrices = nr_fresh;
			qsort(fresh, nr_fresh, sizeof(*fresh), by_group);
			good = open_model(o);
		}
		if (o && good) {
			fresh = NULL;
			nr_fresh = 0;
			o->next = models;
			models = o;
			gg_files_settle(!gg_settings.no_lock, &locked, &resident);
			gg_report_start(o, ctx, locked, resident);
		} else {
			free(o);
			good = false;
		}
	} else if (!models) {
		gg_report_inert();
	}
	gg_engine_unlock();
	return good;
}

void gg_engine_report(void)
{
	struct timespec until;

	/* at exit a thread may still compute, and never come back */
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 2;
	if (pthread_mutex_timedlock(&lock, &until))
		return;
	gg_report_stats();
	gg_engine_unlock();
}

uint32_t gg_engine_capacity(const struct gg_matrix *m)
{
	size_t nr = penstock_capacity(m->model->model, m->layer);

	if (gg_settings.wave && nr > gg_settings.wave)
		nr = gg_settings.wave;
	return (uint32_t)nr;
}

struct penstock_ticket *gg_engine_fetch(struct gg_matrix *m, const int32_t *ids, uint32_t nr)
{
	struct penstock_ticket *t = NULL;

	if (!penstock_fetch(queue, m->model->model, m->layer, ids, nr, &t))
		return t;
	gg_say("%s: %s", m->name, penstock_errmsg(queue));
	return NULL;
}

void gg_engine_ahead(struct gg_matrix *m, const int32_t *ids, uint32_t nr)
{
	release_ahead(m);
	if (penstock_fetch(queue, m->model->model, m->layer, ids, nr, &m->ahead)) {
		m->ahead = NULL;
		return;
	}
	memset(m->ahead_set, 0, (m->nr_experts / 64 + 1) * sizeof(*m->ahead_set));
	for (uint32_t i = 0; i < nr; i++)
		m->ahead_set[ids[i] / 64] |= 1ull << ids[i] % 64;
}

struct penstock_ticket *gg_engine_take_ahead(struct gg_matrix *m, uint64_t *set)
{
	const uint32_t words = m->nr_experts / 64 + 1;
	struct penstock_ticket *t = m->ahead;

	if (!t)
		return NULL;
	for (uint32_t w = 0; w < words; w++) {
		if (m->ahead_set[w] & ~set[w]) {
			release_ahead(m);
			return NULL;
		}
	}
	for (uint32_t w = 0; w < words; w++)
		set[w] &= ~m->ahead_set[w];
	m->ahead = NULL;
	return t;
}

int gg_engine_next(const struct gg_matrix *m, struct penstock_ticket *t, bool block, struct penstock_slot *slot)
{
	size_t index;
	int rc;

	for (;;) {
		rc = penstock_next(t, block ? UINT64_MAX : 0, &index);
		/* all slots are pinned by what was fetched ahead: that gives way */
		if (rc != -EBUSY || !gg_engine_drop_ahead())
			break;
	}
	if (!rc)
		rc = penstock_ticket_slot(t, index, slot);
	if (rc && rc != -ENOENT && rc != -ETIMEDOUT && rc != -EAGAIN)
		gg_say("%s: %s", m->name, penstock_errmsg(queue));
	return rc;
}

bool gg_engine_stats(struct penstock_stats *stats, struct penstock_status *status)
{
	*stats = (struct penstock_stats){ .size = sizeof(*stats) };
	*status = (struct penstock_status){ .size = sizeof(*status) };
	return ctx && !penstock_stats(ctx, stats) && !penstock_status(ctx, status);
}
