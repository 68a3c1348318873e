// SPDX-License-Identifier: MIT
/*
 * Opening a checkpoint, and answering from the finished index: tables are sorted
 * by name, names are unique, and every tensor lies inside its file.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "index_build.h"

static int by_name(const void *a, const void *b)
{
	const struct penstock_index_tensor *x = a, *y = b;
	int rc = strcmp(x->name, y->name);

	if (rc)
		return rc;
	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	return x->off < y->off ? -1 : x->off > y->off;
}

static int by_key(const void *a, const void *b)
{
	const struct penstock_index_meta *x = a, *y = b;
	int rc = strcmp(x->key, y->key);

	return rc ? rc : x->order < y->order ? -1 : x->order > y->order;
}

static int duplicate(struct penstock_index_build *b, const struct penstock_index_tensor *x,
		     const struct penstock_index_tensor *y)
{
	const struct penstock_file *f = b->ix->store.files;
	const char *how = b->ix->format == PENSTOCK_FORMAT_SAFETENSORS ? "InvalidHeaderDeserialization: " : "";

	if (x->file == y->file)
		return penstock_err(b->err, -EBADMSG, "%s%s: tensor %s twice", how, f[x->file].path, x->name);
	return penstock_err(b->err, -EBADMSG, "tensor %s is in %s and in %s, and no index says which counts", x->name,
			    f[x->file].path, f[y->file].path);
}

/*
 * Keep the tensors that the weight map assigns to the file they are in. Both
 * tables are sorted by name.
 */
static int apply_map(struct penstock_index_build *b)
{
	struct penstock_index *ix = b->ix;
	struct penstock_index_map *map = &b->map;
	const struct penstock_index_assign *lost = NULL;
	uint32_t i, at = 0, kept = 0, nr_lost = 0;
	int cmp;

	for (i = 0; i < ix->nr_tensors; i++) {
		for (cmp = -1; at < map->nr_assigns; at++) {
			cmp = strcmp(map->assigns[at].name, ix->tensors[i].name);
			if (cmp >= 0)
				break;
		}
		if (at == map->nr_assigns || cmp || map->assigns[at].file != ix->tensors[i].file)
			continue;
		if (map->assigns[at].seen)
			return duplicate(b, &ix->tensors[kept - 1], &ix->tensors[i]);
		map->assigns[at].seen = true;
		ix->tensors[kept++] = ix->tensors[i];
	}
	ix->nr_tensors = kept;
	for (i = 0; i < map->nr_assigns; i++) {
		if (map->assigns[i].seen)
			continue;
		lost = lost ? lost : &map->assigns[i];
		nr_lost++;
	}
	if (!lost)
		return 0;
	return penstock_err(b->err, -EBADMSG,
			    "%s: %u tensors of the weight_map are not in their shards: %s is not in %s%s", ix->path,
			    nr_lost, lost->name, map->files[lost->file], nr_lost > 1 ? ", ..." : "");
}

static int sort_tensors(struct penstock_index_build *b)
{
	struct penstock_index *ix = b->ix;
	uint32_t i;
	void *p;
	int rc;

	for (i = 1; i < ix->nr_tensors && by_name(&ix->tensors[i - 1], &ix->tensors[i]) < 0; i++)
		;
	if (i < ix->nr_tensors)
		qsort(ix->tensors, ix->nr_tensors, sizeof(*ix->tensors), by_name);
	if (b->has_map) {
		rc = apply_map(b);
		if (rc)
			return rc;
	}
	for (i = 1; i < ix->nr_tensors; i++)
		if (!strcmp(ix->tensors[i - 1].name, ix->tensors[i].name))
			return duplicate(b, &ix->tensors[i - 1], &ix->tensors[i]);
	p = ix->nr_tensors ? realloc(ix->tensors, ix->nr_tensors * sizeof(*ix->tensors)) : NULL;
	if (p)
		ix->tensors = p;
	return 0;
}

static int sort_meta(struct penstock_index_build *b)
{
	struct penstock_index *ix = b->ix;
	uint32_t i, kept = 0;

	if (!ix->nr_meta)
		return 0;
	qsort(ix->meta, ix->nr_meta, sizeof(*ix->meta), by_key);
	for (i = 0; i < ix->nr_meta; i++) {
		if (kept && !strcmp(ix->meta[kept - 1].key, ix->meta[i].key)) {
			if (ix->format == PENSTOCK_FORMAT_GGUF)
				return penstock_err(b->err, -EBADMSG, "%s: key %s twice", ix->path, ix->meta[i].key);
			kept--;
		}
		ix->meta[kept++] = ix->meta[i];
	}
	ix->nr_meta = kept;
	return 0;
}

/* GGUF by its magic, anything else is taken for safetensors or an index JSON. */
static bool looks_like_gguf(struct penstock_index_build *b, const char *path)
{
	size_t n = strlen(path);
	struct penstock_store probe = { 0 };
	char magic[4];
	uint32_t file;
	bool yes;

	if (n >= 5 && !strcmp(path + n - 5, ".gguf"))
		return true;
	yes = !penstock_store_add(&probe, path, &file, NULL) && probe.files[file].size >= 4 &&
	      !penstock_store_pread(&probe, file, 0, magic, 4, NULL) && !memcmp(magic, "GGUF", 4);
	penstock_store_close(&probe);
	return yes;
}

static int build(struct penstock_index_build *b)
{
	struct penstock_index *ix = b->ix;
	struct stat st;
	int rc;

	if (stat(ix->path, &st))
		return penstock_err(b->err, -errno, "open %s", ix->path);
	if (!S_ISDIR(st.st_mode) && looks_like_gguf(b, ix->path))
		rc = penstock_index_gguf_open(b, ix->path);
	else
		rc = penstock_index_st_open(b, ix->path, S_ISDIR(st.st_mode));
	if (!rc)
		rc = sort_tensors(b);
	if (!rc)
		rc = sort_meta(b);
	if (!rc && !b->tables_only)
		rc = penstock_index_family(b);
	return rc;
}

static int open_index(const char *path, bool tables_only, struct penstock_index **out, struct penstock_error *err)
{
	struct penstock_index_build b = { .tables_only = tables_only, .err = err };
	int rc;

	if (!path || !*path)
		return penstock_err(err, -EINVAL, "no path of a checkpoint");
	b.ix = calloc(1, sizeof(*b.ix));
	if (b.ix)
		b.ix->path = strdup(path);
	if (!b.ix || !b.ix->path) {
		free(b.ix);
		return penstock_err(err, -ENOMEM, "index of %s", path);
	}
	b.ix->arch = "";
	rc = build(&b);
	penstock_index_map_free(&b.map);
	if (rc) {
		penstock_index_close(b.ix);
		return rc;
	}
	*out = b.ix;
	return 0;
}

int penstock_index_open(const char *path, struct penstock_index **out, struct penstock_error *err)
{
	return open_index(path, false, out, err);
}

int penstock_index_open_tables(const char *path, struct penstock_index **out, struct penstock_error *err)
{
	return open_index(path, true, out, err);
}

void penstock_index_close(struct penstock_index *ix)
{
	if (!ix)
		return;
	penstock_store_close(&ix->store);
	penstock_index_arena_free(&ix->arena);
	free(ix->tensors);
	free(ix->meta);
	free(ix->layers);
	free(ix->path);
	free(ix);
}

int64_t penstock_index_find(const struct penstock_index *ix, const char *name)
{
	uint32_t low = 0, high = ix->nr_tensors, mid;
	int cmp;

	while (low < high) {
		mid = low + (high - low) / 2;
		cmp = strcmp(ix->tensors[mid].name, name);
		if (!cmp)
			return mid;
		if (cmp < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return -ENOENT;
}

const struct penstock_meta *penstock_index_meta(const struct penstock_index *ix, const char *key)
{
	uint32_t low = 0, high = ix->nr_meta, mid;
	int cmp;

	while (low < high) {
		mid = low + (high - low) / 2;
		cmp = strcmp(ix->meta[mid].key, key);
		if (!cmp)
			return &ix->meta[mid].value;
		if (cmp < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

const uint64_t *penstock_index_tensor_dims(const struct penstock_index_tensor *t)
{
	return t->nr_dims > PENSTOCK_ARRAY_SIZE(t->dims) ? t->more_dims : t->dims;
}

int penstock_index_expert(const struct penstock_index *ix, uint32_t layer, uint32_t expert,
			  struct penstock_extent *ext)
{
	const struct penstock_index_layer *l;
	const struct penstock_index_tensor *t;
	uint32_t i;

	if (layer >= ix->nr_layers + ix->nr_mtp_layers || expert >= ix->layers[layer].info.nr_experts)
		return -ENOENT;
	l = &ix->layers[layer];
	for (i = 0; i < l->info.nr_parts; i++) {
		t = &ix->tensors[penstock_index_part_tensor(ix, layer, expert, i)];
		ext[i].file = t->file;
		ext[i].part = i;
		/* the products were checked when the layer was described: the last expert ends inside its tensor */
		ext[i].off = t->off + (l->parts[i].tensors ? 0 : expert * l->parts[i].stride);
		ext[i].len = l->info.parts[i].bytes;
	}
	return 0;
}

uint32_t penstock_index_part_tensor(const struct penstock_index *ix, uint32_t layer, uint32_t expert, uint32_t part)
{
	const struct penstock_index_part *p = &ix->layers[layer].parts[part];

	return p->tensors ? p->tensors[expert] : p->fused;
}
