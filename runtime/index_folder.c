// SPDX-License-Identifier: MIT
/*
 * Which safetensors files make up a checkpoint: an index JSON's shards, or what a
 * folder holds. Every shard is looked for before any is read, so that a text can
 * name all that are missing.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "index_build.h"

struct names {
	char **v;
	uint32_t nr;
};

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && !strcmp(s + n - m, end);
}

static void names_free(struct names *n)
{
	uint32_t i;

	for (i = 0; i < n->nr; i++)
		free(n->v[i]);
	free(n->v);
	memset(n, 0, sizeof(*n));
}

static int by_string(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted names in a folder that end with @end; those with @without in them are left out. */
static int names_read(struct penstock_index_build *b, const char *dir, const char *end, const char *without,
		      struct names *out)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	char **v;
	int rc;

	if (!d)
		return penstock_err(b->err, -errno, "open folder %s", dir);
	while (errno = 0, (e = readdir(d))) {
		if (!ends_with(e->d_name, end) || (without && strstr(e->d_name, without)) || e->d_name[0] == '.')
			continue;
		v = reallocarray(out->v, out->nr + 1, sizeof(*v));
		if (v)
			out->v = v;
		if (!v || !(v[out->nr] = strdup(e->d_name))) {
			closedir(d);
			return penstock_index_nomem(b);
		}
		if (++out->nr > PENSTOCK_INDEX_MAX_FILES) {
			closedir(d);
			return penstock_err(b->err, -EBADMSG, "%s: more than %u files *%s", dir,
					    PENSTOCK_INDEX_MAX_FILES, end);
		}
	}
	rc = errno ? penstock_err(b->err, -errno, "read folder %s", dir) : 0;
	closedir(d);
	if (!rc && out->nr)
		qsort(out->v, out->nr, sizeof(*out->v), by_string);
	return rc;
}

static char *join(const char *dir, const char *name)
{
	char *p;

	return asprintf(&p, "%s/%s", dir, name) < 0 ? NULL : p;
}

/* Add and read one file of the folder. */
static int add_file(struct penstock_index_build *b, const char *dir, const char *name)
{
	char *path = join(dir, name);
	uint32_t file;
	int rc;

	if (!path)
		return penstock_index_nomem(b);
	rc = penstock_store_add(&b->ix->store, path, &file, b->err);
	if (!rc)
		rc = penstock_index_st_file(b, file);
	free(path);
	return rc;
}

/* Are all of @names in the folder? The text lists those that are not. */
static int all_there(struct penstock_index_build *b, const char *dir, const char *who, const char *const *names,
		     uint32_t nr)
{
	char list[300] = "", *path;
	uint32_t i, missing = 0;
	size_t at = 0;
	bool there;

	for (i = 0; i < nr; i++) {
		path = join(dir, names[i]);
		if (!path)
			return penstock_index_nomem(b);
		there = !access(path, F_OK);
		free(path);
		if (there)
			continue;
		if (at < sizeof(list) - 1)
			at += (size_t)snprintf(list + at, sizeof(list) - at, "%s%s", missing ? ", " : "", names[i]);
		missing++;
	}
	if (!missing)
		return 0;
	return penstock_err(b->err, -ENOENT, "%s: %u of %u shards missing: %s%s", who, missing, nr, list,
			    at >= sizeof(list) ? "..." : "");
}

static int open_map(struct penstock_index_build *b, const char *dir, const char *json)
{
	uint32_t i;
	int rc;

	rc = penstock_index_map_read(b, json);
	if (!rc)
		rc = all_there(b, dir, json, b->map.files, b->map.nr_files);
	/* file numbers of the store are those of the map from here on */
	for (i = 0; i < b->map.nr_files && !rc; i++)
		rc = add_file(b, dir, b->map.files[i]);
	return rc;
}

/*
 * "prefix-00002-of-00003.safetensors": number and count; false if the name is not
 * of that form. @prefix receives the length of what is before "-00002".
 */
static bool shard_name(const char *name, uint32_t *nr, uint32_t *count, size_t *prefix)
{
	static const char end[] = ".safetensors";
	size_t len = strlen(name), at;
	uint32_t i;

	if (len < sizeof(end) - 1 + 15 || !ends_with(name, end))
		return false;
	at = len - (sizeof(end) - 1) - 15;
	if (name[at] != '-' || memcmp(name + at + 6, "-of-", 4))
		return false;
	*nr = 0;
	*count = 0;
	for (i = 0; i < 5; i++) {
		if (name[at + 1 + i] < '0' || name[at + 1 + i] > '9' || name[at + 10 + i] < '0' ||
		    name[at + 10 + i] > '9')
			return false;
		*nr = *nr * 10 + (uint32_t)(name[at + 1 + i] - '0');
		*count = *count * 10 + (uint32_t)(name[at + 10 + i] - '0');
	}
	*prefix = at;
	return true;
}

/* Shards without an index: is the series that the first name speaks of complete? */
static int series_is_complete(struct penstock_index_build *b, const char *dir, const char *first)
{
	uint32_t nr, count, i;
	struct names want = { 0 };
	size_t prefix;
	int rc = 0;

	if (!shard_name(first, &nr, &count, &prefix) || !count)
		return 0;
	want.v = calloc(count, sizeof(*want.v));
	if (!want.v)
		return penstock_index_nomem(b);
	for (i = 1; i <= count && !rc; i++) {
		if (asprintf(&want.v[i - 1], "%.*s-%05u-of-%05u.safetensors", (int)prefix, first, i, count) < 0)
			rc = penstock_index_nomem(b);
		else
			want.nr++;
	}
	if (!rc)
		rc = all_there(b, dir, dir, (const char *const *)want.v, count);
	names_free(&want);
	return rc;
}

static int open_all(struct penstock_index_build *b, const char *dir, const struct names *files)
{
	uint32_t i;
	int rc;

	for (i = 0; i < files->nr; i++)
		if (!strcmp(files->v[i], "model.safetensors"))
			return add_file(b, dir, files->v[i]);
	rc = series_is_complete(b, dir, files->v[0]);
	for (i = 0; i < files->nr && !rc; i++)
		rc = add_file(b, dir, files->v[i]);
	return rc;
}

/* The only index JSON, the standard one if there are several. 1: there is none. */
static int choose_index(struct penstock_index_build *b, const char *dir, char **json)
{
	struct names n = { 0 };
	const char *pick = NULL;
	uint32_t i;
	int rc;

	rc = names_read(b, dir, ".index.json", ".bin.", &n);
	for (i = 0; i < n.nr && !rc; i++)
		if (!strcmp(n.v[i], "model.safetensors.index.json"))
			pick = n.v[i];
	if (!rc && !pick && n.nr > 1)
		rc = penstock_err(b->err, -EINVAL, "%s: %s and %s: open one of them by name", dir, n.v[0], n.v[1]);
	if (!rc && !pick && n.nr)
		pick = n.v[0];
	if (!rc && pick) {
		*json = join(dir, pick);
		if (!*json)
			rc = penstock_index_nomem(b);
	} else if (!rc) {
		rc = 1;
	}
	names_free(&n);
	return rc;
}

/* A folder of .gguf files: the only one, or the only set. */
static int open_gguf_folder(struct penstock_index_build *b, const char *dir)
{
	struct names n = { 0 };
	char *path;
	int rc;

	rc = names_read(b, dir, ".gguf", NULL, &n);
	if (!rc && !n.nr)
		rc = penstock_err(b->err, -ENOENT, "%s holds no .safetensors and no .gguf file", dir);
	if (!rc && n.nr > 1 && !strstr(n.v[0], "-00001-of-"))
		rc = penstock_err(b->err, -EINVAL, "%s: %s and %s: open one of them by name", dir, n.v[0], n.v[1]);
	if (!rc) {
		path = join(dir, n.v[0]);
		rc = path ? penstock_index_gguf_open(b, path) : penstock_index_nomem(b);
		free(path);
	}
	names_free(&n);
	return rc;
}

static int config_of(struct penstock_index_build *b, const char *dir)
{
	char *path = join(dir, "config.json");
	int rc = path ? penstock_index_config(b, path) : penstock_index_nomem(b);

	free(path);
	return rc;
}

static int open_folder(struct penstock_index_build *b, const char *dir)
{
	struct names files = { 0 };
	char *json = NULL;
	int rc;

	rc = choose_index(b, dir, &json);
	if (rc < 0)
		return rc;
	if (!rc) {
		rc = open_map(b, dir, json);
		free(json);
		return rc ? rc : config_of(b, dir);
	}
	rc = names_read(b, dir, ".safetensors", NULL, &files);
	if (!rc && !files.nr)
		rc = open_gguf_folder(b, dir);
	else if (!rc)
		rc = open_all(b, dir, &files);
	names_free(&files);
	if (rc || b->ix->format == PENSTOCK_FORMAT_GGUF)
		return rc;
	return config_of(b, dir);
}

int penstock_index_st_open(struct penstock_index_build *b, const char *path, bool folder)
{
	uint32_t nr, count, file;
	const char *slash;
	size_t prefix;
	char *dir;
	int rc;

	b->ix->format = PENSTOCK_FORMAT_SAFETENSORS;
	if (folder)
		return open_folder(b, path);
	slash = strrchr(path, '/');
	dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
	if (!dir)
		return penstock_index_nomem(b);
	if (ends_with(path, ".json")) {
		rc = open_map(b, dir, path);
		if (!rc)
			rc = config_of(b, dir);
	} else {
		rc = penstock_store_add(&b->ix->store, path, &file, b->err);
		if (!rc)
			rc = penstock_index_st_file(b, file);
		/* one shard of several is listed as a file: the model's config speaks of more than it holds */
		if (!rc && !(shard_name(slash ? slash + 1 : path, &nr, &count, &prefix) && count > 1))
			rc = config_of(b, dir);
	}
	free(dir);
	return rc;
}
