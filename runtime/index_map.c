// SPDX-License-Identifier: MIT
/*
 * The weight map of an index JSON: name of a tensor -> shard that it is read
 * from. It is the authority: a shard may hold other tensors of the same name.
 */
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <yajl/yajl_parse.h>

#include "index_build.h"

struct map_parse {
	struct penstock_index_build *b;
	const char *path;
	int rc;
	uint32_t depth;
	bool wanted;		/* the value of "weight_map" comes next */
	bool inside;		/* between its braces */
	bool found;
	const char *key;
	uint32_t last;		/* shard of the line before: mostly the same */
	struct hsearch_data by_name;
};

static int map_fail(struct map_parse *m, int rc)
{
	m->rc = rc;
	return 0;
}

/* weight_map is a map of strings, nothing else. */
static int map_other(struct map_parse *m)
{
	if (!m->inside && !(m->wanted && m->depth == 1))
		return 1;
	return map_fail(m, penstock_err(m->b->err, -EBADMSG, "%s: weight_map is not a map of names to file names",
					m->path));
}

static int map_null(void *ctx)
{
	return map_other(ctx);
}

static int map_boolean(void *ctx, int v)
{
	return map_other(ctx);
}

static int map_number(void *ctx, const char *s, size_t len)
{
	return map_other(ctx);
}

static int map_start_array(void *ctx)
{
	struct map_parse *m = ctx;

	if (!map_other(m))
		return 0;
	m->depth++;
	return 1;
}

static int map_end(void *ctx)
{
	struct map_parse *m = ctx;

	m->depth--;
	if (m->inside && m->depth == 1)
		m->inside = false;
	return 1;
}

static int map_start(void *ctx)
{
	struct map_parse *m = ctx;

	if (m->inside)
		return map_other(m);
	if (m->depth == 1 && m->wanted) {
		if (m->found)
			return map_fail(m, penstock_err(m->b->err, -EBADMSG, "%s: weight_map twice", m->path));
		m->inside = true;
		m->found = true;
		m->wanted = false;
	}
	m->depth++;
	return 1;
}

static int map_key(void *ctx, const unsigned char *key, size_t len)
{
	struct map_parse *m = ctx;

	if (!m->inside) {
		m->wanted = m->depth == 1 && len == 10 && !memcmp(key, "weight_map", 10);
		return 1;
	}
	if (memchr(key, 0, len))
		return map_fail(m, penstock_err(m->b->err, -EBADMSG, "%s: a NUL in the name of tensor %s", m->path,
						(const char *)key));
	m->key = penstock_index_strdup(&m->b->map.arena, (const char *)key, len);
	return m->key ? 1 : map_fail(m, penstock_index_nomem(m->b));
}

static bool file_name_is_safe(const char *s, size_t len)
{
	const char *p;

	if (!len || s[0] == '/' || memchr(s, 0, len))
		return false;
	for (p = s; p; p = strchr(p, '/')) {
		p += *p == '/';
		if (!strncmp(p, "..", 2) && (!p[2] || p[2] == '/'))
			return false;
	}
	return true;
}

/* Number of a shard, which is added if it is new. */
static int map_file(struct map_parse *m, const char *name, uint32_t *nr)
{
	struct penstock_index_map *map = &m->b->map;
	ENTRY e = { .key = (char *)name }, *seen;
	const char **files;
	uint32_t cap;

	if (hsearch_r(e, FIND, &seen, &m->by_name)) {
		*nr = (uint32_t)(uintptr_t)seen->data;
		return 0;
	}
	if (map->nr_files == PENSTOCK_INDEX_MAX_FILES)
		return penstock_err(m->b->err, -EBADMSG, "%s: more than %u files", m->path, PENSTOCK_INDEX_MAX_FILES);
	if (map->nr_files == map->cap_files) {
		cap = map->cap_files ? map->cap_files * 2 : 64;
		files = reallocarray(map->files, cap, sizeof(*files));
		if (!files)
			return penstock_index_nomem(m->b);
		map->files = files;
		map->cap_files = cap;
	}
	e.data = (void *)(uintptr_t)map->nr_files;
	if (!hsearch_r(e, ENTER, &seen, &m->by_name))
		return penstock_index_nomem(m->b);
	*nr = map->nr_files;
	map->files[map->nr_files++] = name;
	return 0;
}

static int map_string(void *ctx, const unsigned char *s, size_t len)
{
	struct map_parse *m = ctx;
	struct penstock_index_map *map = &m->b->map;
	struct penstock_index_assign *a;
	uint32_t cap;
	char *name;
	int rc;

	if (!m->inside)
		return map_other(m);
	if (map->nr_assigns == map->cap_assigns) {
		cap = map->cap_assigns ? map->cap_assigns * 2 : 256;
		a = reallocarray(map->assigns, cap, sizeof(*a));
		if (!a)
			return map_fail(m, penstock_index_nomem(m->b));
		map->assigns = a;
		map->cap_assigns = cap;
	}
	if (!map->nr_files || strlen(map->files[m->last]) != len || memcmp(map->files[m->last], s, len)) {
		name = penstock_index_strdup(&map->arena, (const char *)s, len);
		if (!name)
			return map_fail(m, penstock_index_nomem(m->b));
		if (!file_name_is_safe(name, len))
			return map_fail(m, penstock_err(m->b->err, -EBADMSG, "%s: tensor %s: bad file name \"%s\"",
							m->path, m->key, name));
		rc = map_file(m, name, &m->last);
		if (rc)
			return map_fail(m, rc);
	}
	a = &map->assigns[map->nr_assigns++];
	a->name = m->key;
	a->file = m->last;
	a->seen = false;
	return 1;
}

static const yajl_callbacks map_callbacks = {
	.yajl_null = map_null, .yajl_boolean = map_boolean, .yajl_number = map_number, .yajl_string = map_string,
	.yajl_start_map = map_start, .yajl_map_key = map_key, .yajl_end_map = map_end,
	.yajl_start_array = map_start_array, .yajl_end_array = map_end,
};

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct penstock_index_assign *)a)->name, ((const struct penstock_index_assign *)b)->name);
}

/* Sorted by name, each name once: index JSONs are mostly sorted already. */
static int map_sort(struct penstock_index_build *b, const char *path)
{
	struct penstock_index_map *map = &b->map;
	uint32_t i;

	for (i = 1; i < map->nr_assigns && by_name(&map->assigns[i - 1], &map->assigns[i]) < 0; i++)
		;
	if (i >= map->nr_assigns)
		return 0;
	qsort(map->assigns, map->nr_assigns, sizeof(*map->assigns), by_name);
	for (i = 1; i < map->nr_assigns; i++)
		if (!by_name(&map->assigns[i - 1], &map->assigns[i]))
			return penstock_err(b->err, -EBADMSG, "%s: tensor %s is in weight_map twice", path,
					    map->assigns[i].name);
	return 0;
}

int penstock_index_map_read(struct penstock_index_build *b, const char *path)
{
	struct map_parse m = { .b = b, .path = path };
	size_t len;
	char *text;
	int rc;

	rc = penstock_index_read_whole(path, &text, &len, b->err);
	if (rc)
		return rc;
	if (!hcreate_r(PENSTOCK_INDEX_MAX_FILES + 1, &m.by_name)) {
		free(text);
		return penstock_index_nomem(b);
	}
	rc = penstock_index_json(b->err, path, &map_callbacks, &m, &m.rc, text, len);
	hdestroy_r(&m.by_name);
	free(text);
	if (rc)
		return rc;
	if (!m.found || !b->map.nr_assigns)
		return penstock_err(b->err, -EBADMSG, "%s: no weight_map in it", path);
	b->has_map = true;
	return map_sort(b, path);
}

void penstock_index_map_free(struct penstock_index_map *map)
{
	free(map->assigns);
	free(map->files);
	penstock_index_arena_free(&map->arena);
	memset(map, 0, sizeof(*map));
}
