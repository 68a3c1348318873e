// SPDX-License-Identifier: MIT
/*
 * Opening a model in a context: size classes, their share of the budget, slots,
 * and what the ring must know of files and memory. Resizing is here as well, since
 * it gives and takes the same segments.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "plan.h"
#include "stream.h"
#include "util.h"

struct penstock_class *penstock_model_class(const struct penstock_model *m, uint32_t layer)
{
	const struct penstock_index *ix = m->index;

	if (layer >= ix->nr_layers || ix->layers[layer].info.kind != PENSTOCK_LAYER_MOE)
		return NULL;
	return &m->classes[ix->layers[layer].info.size_class];
}

/* The most slot memory that any expert of a layer takes: offsets, and so padding, differ. */
static int layer_slot_bytes(struct penstock_model *m, uint32_t layer, uint64_t *most, struct penstock_error *err)
{
	const struct penstock_layer_info *info = &m->index->layers[layer].info;
	struct penstock_range ranges[PENSTOCK_MAX_PARTS];
	struct penstock_extent ext[PENSTOCK_MAX_PARTS];
	uint64_t part_off[PENSTOCK_MAX_PARTS], bytes;
	uint32_t nr;
	int rc;

	*most = 0;
	for (uint32_t e = 0; e < info->nr_experts; e++) {
		rc = penstock_index_expert(m->index, layer, e, ext);
		if (!rc)
			rc = penstock_plan_expert(ext, info->nr_parts, m->align, ranges, &nr, part_off, &bytes);
		if (rc)
			return penstock_err(err, rc, "%s: plan layer %u expert %u", m->index->path, layer, e);
		if (!nr)
			return penstock_err(err, -EBADMSG, "%s: layer %u expert %u has no bytes", m->index->path,
					    layer, e);
		*most = penstock_max_u64(*most, bytes);
	}
	return 0;
}

static struct penstock_class *class_for(struct penstock_model *m, const struct penstock_layer_info *info)
{
	struct penstock_class *c;

	for (uint32_t i = 0; i < m->nr_classes; i++) {
		c = &m->classes[i];
		if (c->expert_bytes == info->expert_bytes && c->nr_parts == info->nr_parts)
			return c;
	}
	c = &m->classes[m->nr_classes++];
	c->model = m;
	c->expert_bytes = info->expert_bytes;
	c->nr_parts = info->nr_parts;
	c->line_end = &c->line;
	return c;
}

static int no_experts(const struct penstock_index *ix, struct penstock_error *err)
{
	if (ix->family != PENSTOCK_FAMILY_NONE)
		return penstock_err(err, -EINVAL, "%s: no layer with experts (architecture \"%s\")", ix->path,
				    ix->arch);
	if (!ix->arch || !*ix->arch)
		return penstock_err(err, -EINVAL, "%s: %u tensors, but no config.json beside them that names the"
				    " architecture", ix->path, ix->nr_tensors);
	return penstock_err(err, -EINVAL, "%s: architecture \"%s\" is not one with experts that is known here (Mixtral,"
			    " Qwen3-MoE, OLMoE, DeepSeek V2 and V3, Kimi K2, GLM-4.5, Llama 4, gpt-oss)", ix->path,
			    ix->arch);
}

/* Layers with experts of one size form a class; two layers' choices of one token must fit into it. */
static int make_classes(struct penstock_model *m, struct penstock_error *err)
{
	struct penstock_index *ix = m->index;
	uint32_t nr_experts = 0;

	m->classes = calloc(ix->nr_layers ? ix->nr_layers : 1, sizeof(*m->classes));
	m->class_layer = calloc(ix->nr_layers ? ix->nr_layers : 1, sizeof(*m->class_layer));
	if (!m->classes || !m->class_layer)
		return penstock_err(err, -ENOMEM, "%s: %u layers", ix->path, ix->nr_layers);
	for (uint32_t l = 0; l < ix->nr_layers; l++) {
		struct penstock_layer_info *info = &ix->layers[l].info;
		struct penstock_class *c;
		int rc;

		if (info->kind != PENSTOCK_LAYER_MOE)
			continue;
		rc = layer_slot_bytes(m, l, &info->slot_bytes, err);
		if (rc)
			return rc;
		c = class_for(m, info);
		info->size_class = (uint32_t)(c - m->classes);
		m->class_layer[l] = c->nr_layers++;
		c->slot_bytes = penstock_max_u64(c->slot_bytes, info->slot_bytes);
		c->nr_experts = info->nr_experts > c->nr_experts ? info->nr_experts : c->nr_experts;
		if (c->least_slots < 2 * info->top_k)
			c->least_slots = (c->nr_layers > 1 ? 2 : 1) * info->top_k;
		nr_experts += info->nr_experts;
		m->expert_bytes += info->nr_experts * info->expert_bytes;
		m->token_bytes += info->top_k * info->expert_bytes;
	}
	if (!nr_experts)
		return no_experts(ix, err);
	for (uint32_t l = 0; l < ix->nr_layers; l++)
		if (penstock_model_class(m, l))
			ix->layers[l].info.slot_bytes = penstock_model_class(m, l)->slot_bytes;
	for (uint32_t i = 0; i < m->nr_classes; i++) {
		struct penstock_class *c = &m->classes[i];

		c->total_bytes = c->slot_bytes * c->nr_experts * c->nr_layers;
		m->least_bytes += c->slot_bytes * c->least_slots;
	}
	return 0;
}

uint32_t penstock_class_slots(const struct penstock_model *m, const struct penstock_class *c, uint64_t budget)
{
	uint64_t total = 0, extra = budget - m->least_bytes, slots;

	for (uint32_t i = 0; i < m->nr_classes; i++)
		total += m->classes[i].total_bytes;
	slots = c->least_slots + (uint64_t)((double)extra * ((double)c->total_bytes / (double)total)) / c->slot_bytes;
	return (uint32_t)penstock_min_u64(slots, (uint64_t)c->nr_experts * c->nr_layers);
}

struct buffer_call {
	struct penstock_segment *segment;
	uint32_t nr;
};

static int register_buffer(struct penstock_ctx *ctx, void *arg)
{
	struct buffer_call *b = arg;
	int rc = penstock_ring_set_buffer(ctx->ring, b->nr, b->segment->mem.base, b->segment->mem.len);

	if (!rc)
		b->segment->buf = (int32_t)b->nr;
	return rc;
}

/* Fixed buffers save pinning pages at every read; without one (memlock, no number left) reads are plain. */
void penstock_ctx_register(struct penstock_ctx *ctx, struct penstock_segment *s)
{
	struct buffer_call b = { .segment = s };

	pthread_mutex_lock(&ctx->lock);
	while (b.nr < PENSTOCK_RING_MAX_BUFS && ctx->bufs_used[b.nr / 64] >> b.nr % 64 & 1)
		b.nr++;
	if (b.nr < PENSTOCK_RING_MAX_BUFS)
		ctx->bufs_used[b.nr / 64] |= 1ull << b.nr % 64;
	pthread_mutex_unlock(&ctx->lock);
	if (b.nr == PENSTOCK_RING_MAX_BUFS)
		return;
	if (!penstock_progress_call(ctx, register_buffer, &b))
		return;
	pthread_mutex_lock(&ctx->lock);
	ctx->bufs_used[b.nr / 64] &= ~(1ull << b.nr % 64);
	if (!(ctx->flags & PENSTOCK_F_NO_URING))
		snprintf(ctx->io_reason, sizeof(ctx->io_reason), "%s", penstock_ring_why(ctx->ring));
	pthread_mutex_unlock(&ctx->lock);
}

/* Slots that a shrink killed in segments that stayed; the lock is held. */
static void revive(struct penstock_class *c, uint32_t slots)
{
	for (uint32_t seg = 0; seg < c->arena.max_segments; seg++) {
		const struct penstock_segment *s = &c->arena.segments[seg];

		for (uint32_t i = 0; s->mem.base && !s->dying && i < s->nr_slots; i++) {
			uint32_t slot = seg * c->arena.per_segment + i;

			if (penstock_cache_slots(c->cache) >= slots)
				return;
			if (penstock_cache_slot(c->cache, slot)->state == PENSTOCK_SLOT_DEAD)
				penstock_cache_revive(c->cache, slot);
		}
	}
}

int penstock_class_grow(struct penstock_class *c, uint32_t slots, struct penstock_error *err)
{
	struct penstock_ctx *ctx = c->model->ctx;
	uint32_t have;

	pthread_mutex_lock(&ctx->lock);
	revive(c, slots);
	pthread_mutex_unlock(&ctx->lock);
	/* only opening and resizing change the number, and they exclude each other */
	while ((have = penstock_cache_slots(c->cache)) < slots) {
		struct penstock_segment *s;
		uint32_t seg;
		int rc = penstock_arena_grow(&c->arena, slots - have, &ctx->source, &seg, err);

		if (rc)
			return rc;
		s = &c->arena.segments[seg];
		if (penstock_model_registers(c->model))
			penstock_ctx_register(ctx, s);
		pthread_mutex_lock(&ctx->lock);
		if (!ctx->page_size || s->mem.page_size < ctx->page_size) {
			ctx->page_size = s->mem.page_size;
			ctx->page_why = s->mem.why;
		}
		for (uint32_t i = 0; i < s->nr_slots; i++)
			penstock_cache_revive(c->cache, seg * c->arena.per_segment + i);
		pthread_mutex_unlock(&ctx->lock);
	}
	return 0;
}

static int make_slots(struct penstock_model *m, struct penstock_error *err)
{
	for (uint32_t i = 0; i < m->nr_classes; i++) {
		struct penstock_class *c = &m->classes[i];
		uint32_t slots = penstock_class_slots(m, c, m->cache_bytes), max;
		int rc;

		rc = penstock_arena_create(&c->arena, c->slot_bytes, slots, c->nr_experts * c->nr_layers);
		if (rc)
			return penstock_err(err, rc, "%u slots", slots);
		max = penstock_arena_max_slots(&c->arena);
		rc = penstock_cache_create(m->ctx->policy, max, c->nr_layers, c->nr_experts, &c->cache);
		c->loads = calloc(max, sizeof(*c->loads));
		if (rc || !c->loads)
			return penstock_err(err, -ENOMEM, "%u slots", max);
		penstock_cache_stream(c->cache, m->stream);
		rc = penstock_class_grow(c, slots, err);
		if (rc)
			return rc;
	}
	return 0;
}

int penstock_ctx_set_files(struct penstock_ctx *ctx, void *unused)
{
	struct penstock_model *m;
	uint32_t nr = 0;
	int *fds, rc;

	for (m = ctx->models; m; m = m->next)
		nr = m->file_base + m->index->store.nr_files > nr ? m->file_base + m->index->store.nr_files : nr;
	fds = malloc((nr ? nr : 1) * sizeof(*fds));
	if (!fds)
		return -ENOMEM;
	memset(fds, 0xff, nr * sizeof(*fds));
	for (m = ctx->models; m; m = m->next)
		for (uint32_t i = 0; i < m->index->store.nr_files; i++)
			fds[m->file_base + i] = m->index->store.files[i].dfd;
	rc = penstock_ring_set_files(ctx->ring, fds, nr);
	free(fds);
	return rc;
}

static int probe_files(struct penstock_model *m, struct penstock_error *err)
{
	struct penstock_store *s = &m->index->store;

	m->align = calloc(s->nr_files ? s->nr_files : 1, sizeof(*m->align));
	if (!m->align)
		return penstock_err(err, -ENOMEM, "%u files", s->nr_files);
	for (uint32_t i = 0; i < s->nr_files; i++) {
		int rc = penstock_store_probe(s, i, m->ctx->flags & PENSTOCK_F_NO_DIRECT, err);

		if (rc)
			return rc;
		m->align[i] = s->files[i].align;
		m->dense_bytes += s->files[i].size;
		if (s->files[i].mode != PENSTOCK_FILE_DIRECT)
			penstock_ctx_log(m->ctx, PENSTOCK_LOG_WARN, "%s is read through the page cache: %s",
					 s->files[i].path, s->files[i].why);
	}
	return m->ctx->drv >= 0 ? penstock_model_targets(m, err) : 0;
}

static int take_budget(struct penstock_model *m, const struct penstock_model_options *opts, struct penstock_error *err)
{
	struct penstock_ctx *ctx = m->ctx;
	uint64_t taken = 0, left;

	for (struct penstock_model *o = ctx->models; o; o = o->next)
		taken += o->cache_bytes;
	left = ctx->cache_bytes - penstock_min_u64(taken, ctx->cache_bytes);
	m->cache_bytes = opts && opts->cache_bytes ? opts->cache_bytes : left;
	if (m->cache_bytes > left)
		return penstock_err(err, -ENOSPC, "%s asks for %llu of the cache's %llu bytes, other models have %llu",
				    m->index->path, (unsigned long long)m->cache_bytes,
				    (unsigned long long)ctx->cache_bytes, (unsigned long long)taken);
	if (m->cache_bytes < m->least_bytes)
		return penstock_err(err, -ENOSPC,
				    "%s needs a cache of at least %llu bytes (two layers' experts of one token), has %llu",
				    m->index->path, (unsigned long long)m->least_bytes,
				    (unsigned long long)m->cache_bytes);
	m->stream = m->cache_bytes < m->token_bytes;
	return 0;
}

void penstock_model_destroy(struct penstock_model *m)
{
	for (uint32_t i = 0; m->classes && i < m->nr_classes; i++) {
		if (!m->ctx->broken)
			penstock_arena_destroy(&m->classes[i].arena);
		penstock_cache_destroy(m->classes[i].cache);
		free(m->classes[i].loads);
	}
	free(m->classes);
	free(m->class_layer);
	free(m->align);
	penstock_model_targets_drop(m);
	penstock_index_close(m->index);
	free(m);
}

/* From here on others see it: it has all its slots. */
static int link_model(struct penstock_model *m, struct penstock_error *err)
{
	struct penstock_ctx *ctx = m->ctx;
	int rc;

	pthread_mutex_lock(&ctx->lock);
	m->next = ctx->models;
	ctx->models = m;
	pthread_mutex_unlock(&ctx->lock);
	rc = penstock_progress_call(ctx, penstock_ctx_set_files, NULL);
	return rc ? penstock_err(err, rc, "hand %u files to the I/O engine", m->index->store.nr_files) : 0;
}

static void tell_budget(struct penstock_model *m)
{
	struct penstock_ctx *ctx = m->ctx;

	penstock_ctx_log(ctx, PENSTOCK_LOG_INFO, "%s: cache %llu of %llu expert bytes, %s, %llu a token",
			 m->index->path, (unsigned long long)m->cache_bytes, (unsigned long long)m->expert_bytes,
			 m->stream ? "streaming through" : "caching", (unsigned long long)m->token_bytes);
	if (!m->stream)
		return;
	penstock_ctx_log(ctx, PENSTOCK_LOG_WARN,
			 "the budget of %llu bytes is below one token's experts (%llu): nothing is kept, expect %.2f tokens/s",
			 (unsigned long long)m->cache_bytes, (unsigned long long)m->token_bytes,
			 (double)ctx->drive_bytes_per_s / (double)m->token_bytes);
}

/* With the index there: takes it, whatever comes. */
static int open_indexed(struct penstock_ctx *ctx, struct penstock_index *ix, const struct penstock_model_options *opts,
			struct penstock_model **out, struct penstock_error *err)
{
	struct penstock_model *m = calloc(1, sizeof(*m));
	int rc;

	if (!m) {
		penstock_index_close(ix);
		return penstock_err(err, -ENOMEM, "a model");
	}
	m->ctx = ctx;
	m->index = ix;
	rc = probe_files(m, err);
	if (!rc)
		rc = make_classes(m, err);
	if (rc) {
		penstock_model_destroy(m);
		return rc;
	}
	m->dense_bytes -= penstock_min_u64(m->expert_bytes, m->dense_bytes);
	if (ctx->source.numa_node < 0)
		ctx->source.numa_node = penstock_mem_node_of_file(m->index->store.files[0].fd);
	pthread_mutex_lock(&ctx->admin);
	pthread_mutex_lock(&ctx->lock);
	rc = take_budget(m, opts, err);
	for (struct penstock_model *o = ctx->models; o; o = o->next)
		if (m->file_base < o->file_base + o->index->store.nr_files)
			m->file_base = o->file_base + o->index->store.nr_files;
	pthread_mutex_unlock(&ctx->lock);
	if (!rc)
		rc = penstock_model_choose_route(m, err);
	if (!rc)
		rc = make_slots(m, err);
	if (!rc)
		rc = link_model(m, err);
	if (!rc)
		rc = penstock_model_tune(m, err);
	if (!rc)
		rc = penstock_model_stage(m, err);
	if (rc)
		penstock_model_shut(m);
	penstock_ctx_admin_end(ctx);
	if (rc)
		return rc;
	tell_budget(m);
	*out = m;
	return 0;
}

static int check_options(struct penstock_ctx *ctx, const struct penstock_model_options *opts,
			 struct penstock_error *err)
{
	int rc;

	penstock_err_clear(err);
	rc = penstock_ctx_check(ctx, err);
	if (!rc && opts && opts->size != sizeof(*opts))
		rc = penstock_err(err, -EINVAL, "model options of %zu bytes, this library has %zu", opts->size,
				  sizeof(*opts));
	return rc;
}

int penstock_model_open(struct penstock_ctx *ctx, const char *path, const struct penstock_model_options *opts,
			struct penstock_model **out, struct penstock_error *err)
{
	struct penstock_index *ix;
	int rc = check_options(ctx, opts, err);

	if (!rc)
		rc = penstock_index_open(path, &ix, err);
	return rc ? rc : open_indexed(ctx, ix, opts, out, err);
}

int penstock_model_open_layout(struct penstock_ctx *ctx, const struct penstock_layout *layout,
			       const struct penstock_model_options *opts, struct penstock_model **out,
			       struct penstock_error *err)
{
	struct penstock_index *ix;
	int rc = check_options(ctx, opts, err);

	if (!rc)
		rc = penstock_index_layout(layout, &ix, err);
	return rc ? rc : open_indexed(ctx, ix, opts, out, err);
}
