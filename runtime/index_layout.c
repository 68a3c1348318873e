// SPDX-License-Identifier: MIT
/*
 * An index from a table that the caller gives: which bytes of which file each
 * expert has. No file is parsed; every range is checked against its file's size.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index_build.h"

static int check_layer(const struct penstock_layout *lo, uint32_t l, struct penstock_error *err)
{
	const struct penstock_layout_layer *layer = &lo->layers[l];

	if (!layer->nr_experts || layer->nr_experts > PENSTOCK_INDEX_MAX_EXPERTS)
		return penstock_err(err, -EINVAL, "layout %s: layer %u has %u experts, 1 to %u can be", lo->name, l,
				    layer->nr_experts, PENSTOCK_INDEX_MAX_EXPERTS);
	if (!layer->top_k || layer->top_k > layer->nr_experts)
		return penstock_err(err, -EINVAL, "layout %s: layer %u takes %u of %u experts a token", lo->name, l,
				    layer->top_k, layer->nr_experts);
	if (!layer->nr_parts || layer->nr_parts > PENSTOCK_MAX_PARTS)
		return penstock_err(err, -EINVAL, "layout %s: layer %u has %u parts, 1 to %u can be", lo->name, l,
				    layer->nr_parts, PENSTOCK_MAX_PARTS);
	return 0;
}

static int bad_part(const struct penstock_layout *lo, uint32_t l, uint32_t p, struct penstock_error *err, int code,
		    const char *fmt, ...) __attribute__((format(printf, 6, 7)));

static int bad_part(const struct penstock_layout *lo, uint32_t l, uint32_t p, struct penstock_error *err, int code,
		    const char *fmt, ...)
{
	const char *name = lo->layers[l].parts[p].name;
	bool named = name && *name;
	char what[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	return penstock_err(err, code, "layout %.128s: layer %u part %u%s%.100s%s %s", lo->name, l, p,
			    named ? " (" : "", named ? name : "", named ? ")" : "", what);
}

static int check_part(const struct penstock_index *ix, const struct penstock_layout *lo, uint32_t l, uint32_t p,
		      struct penstock_error *err)
{
	const struct penstock_layout_part *part = &lo->layers[l].parts[p];
	const uint64_t last = lo->layers[l].nr_experts - 1;
	uint64_t end;

	if (!part->name || !*part->name)
		return bad_part(lo, l, p, err, -EINVAL, "has no name");
	if (part->file >= lo->nr_files)
		return bad_part(lo, l, p, err, -EINVAL, "is in file %u of %u", part->file, lo->nr_files);
	if (!part->bytes || (last && part->stride < part->bytes))
		return bad_part(lo, l, p, err, -EINVAL, "has experts of %llu bytes, %llu apart",
				(unsigned long long)part->bytes, (unsigned long long)part->stride);
	if (penstock_mul_overflows(last, part->stride, &end) ||
	    penstock_add_overflows(end, part->bytes, &end) || penstock_add_overflows(end, part->off, &end))
		return bad_part(lo, l, p, err, -EINVAL,
				"ends beyond 2^64 bytes: %u experts of %llu bytes, %llu apart, from %llu on",
				lo->layers[l].nr_experts, (unsigned long long)part->bytes,
				(unsigned long long)part->stride, (unsigned long long)part->off);
	if (end > ix->store.files[part->file].size)
		return bad_part(lo, l, p, err, -ENODATA, "ends at %llu, file %u (%.128s) has %llu bytes",
				(unsigned long long)end, part->file, ix->store.files[part->file].path,
				(unsigned long long)ix->store.files[part->file].size);
	return 0;
}

/* Tensors are sorted by name later; until then the third dimension says whose part this one is. */
static int add_part(struct penstock_index_build *b, const struct penstock_layout_layer *layer, uint32_t l, uint32_t p)
{
	const struct penstock_layout_part *part = &layer->parts[p];
	struct penstock_layer_info *info = &b->ix->layers[l].info;
	struct penstock_index_tensor *t = penstock_index_add_tensor(b);

	if (!t)
		return -ENOMEM;
	t->name = penstock_index_strdup(&b->ix->arena, part->name, strlen(part->name));
	if (!t->name)
		return penstock_index_nomem(b);
	t->off = part->off;
	t->bytes = (layer->nr_experts - 1) * part->stride + part->bytes;
	t->file = (uint16_t)part->file;
	t->nr_dims = 2;
	t->dims[0] = layer->nr_experts;
	t->dims[1] = part->bytes;
	t->dims[2] = (uint64_t)l * PENSTOCK_MAX_PARTS + p;
	b->ix->layers[l].parts[p].stride = part->stride;
	info->parts[p].bytes = part->bytes;
	info->expert_bytes += part->bytes;
	return 0;
}

/* Budgets are sums over all experts, with padding: they must not wrap, however much of the files is shared. */
static int check_sum(const struct penstock_index *ix, struct penstock_error *err)
{
	uint64_t sum = 0, most = 0;
	bool wraps = false;

	for (uint32_t l = 0; l < ix->nr_layers; l++) {
		const struct penstock_layer_info *info = &ix->layers[l].info;

		for (uint32_t p = 0; p < info->nr_parts; p++)
			wraps |= penstock_add_overflows(sum, info->parts[p].bytes, &sum) ||
				 penstock_add_overflows(sum, 2 * PENSTOCK_MEM_ALIGN, &sum);
		most = penstock_max_u64(most, info->nr_experts);
	}
	if (wraps || penstock_mul_overflows(sum, most, &sum) || sum > INT64_MAX)
		return penstock_err(err, -EINVAL, "layout %s: the experts of its %u layers take more than 2^63 bytes",
				    ix->path, ix->nr_layers);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	const struct penstock_index_tensor *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static int sort_parts(struct penstock_index *ix, struct penstock_error *err)
{
	qsort(ix->tensors, ix->nr_tensors, sizeof(*ix->tensors), by_name);
	for (uint32_t i = 0; i < ix->nr_tensors; i++) {
		struct penstock_index_tensor *t = &ix->tensors[i];

		if (i && !strcmp(t[-1].name, t->name))
			return penstock_err(err, -EINVAL, "layout %s: two parts are called %s", ix->path, t->name);
		ix->layers[t->dims[2] / PENSTOCK_MAX_PARTS].parts[t->dims[2] % PENSTOCK_MAX_PARTS].fused = i;
		t->dims[2] = 0;
	}
	return 0;
}

static int fill(struct penstock_index_build *b, const struct penstock_layout *lo)
{
	struct penstock_index *ix = b->ix;
	uint32_t file;
	int rc = 0;

	for (uint32_t i = 0; i < lo->nr_files && !rc; i++)
		rc = lo->files[i] ? penstock_store_add(&ix->store, lo->files[i], &file, b->err) :
				    penstock_err(b->err, -EINVAL, "layout %s: file %u has no path", lo->name, i);
	for (uint32_t l = 0; l < lo->nr_layers && !rc; l++) {
		const struct penstock_layout_layer *layer = &lo->layers[l];
		struct penstock_layer_info *info = &ix->layers[l].info;

		rc = check_layer(lo, l, b->err);
		if (rc)
			break;
		info->size = sizeof(*info);
		info->kind = PENSTOCK_LAYER_MOE;
		info->nr_experts = layer->nr_experts;
		info->top_k = layer->top_k;
		info->nr_parts = layer->nr_parts;
		info->t_router = info->t_router_bias = info->t_select_bias = PENSTOCK_NO_TENSOR;
		for (uint32_t i = 0; i < 3; i++)
			info->t_shared[i] = info->t_shared_scale[i] = PENSTOCK_NO_TENSOR;
		for (uint32_t p = 0; p < layer->nr_parts && !rc; p++) {
			rc = check_part(ix, lo, l, p, b->err);
			if (!rc)
				rc = add_part(b, layer, l, p);
		}
	}
	if (!rc)
		rc = check_sum(ix, b->err);
	return rc ? rc : sort_parts(ix, b->err);
}

int penstock_index_layout(const struct penstock_layout *lo, struct penstock_index **out, struct penstock_error *err)
{
	struct penstock_index_build b = { .err = err };
	int rc;

	if (!lo || lo->size != sizeof(*lo))
		return penstock_err(err, -EINVAL, "a layout of %zu bytes, this library has %zu", lo ? lo->size : 0,
				    sizeof(*lo));
	if (!lo->name || !lo->nr_files || !lo->files || !lo->nr_layers || !lo->layers)
		return penstock_err(err, -EINVAL, "a layout needs a name, files and layers");
	if (lo->nr_layers > PENSTOCK_INDEX_MAX_LAYERS || lo->nr_files > PENSTOCK_INDEX_MAX_FILES)
		return penstock_err(err, -EINVAL, "layout %s: %u layers and %u files, at most %u and %u can be",
				    lo->name, lo->nr_layers, lo->nr_files, PENSTOCK_INDEX_MAX_LAYERS,
				    PENSTOCK_INDEX_MAX_FILES);
	b.ix = calloc(1, sizeof(*b.ix));
	if (b.ix) {
		b.ix->path = strdup(lo->name);
		b.ix->layers = calloc(lo->nr_layers, sizeof(*b.ix->layers));
	}
	if (!b.ix || !b.ix->path || !b.ix->layers) {
		penstock_index_close(b.ix);
		return penstock_err(err, -ENOMEM, "layout of %u layers", lo->nr_layers);
	}
	b.ix->arch = "";
	b.ix->format = PENSTOCK_FORMAT_LAYOUT;
	b.ix->nr_layers = lo->nr_layers;
	rc = fill(&b, lo);
	if (rc) {
		penstock_index_close(b.ix);
		return rc;
	}
	*out = b.ix;
	return 0;
}
