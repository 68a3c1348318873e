// SPDX-License-Identifier: MIT
/*
 * Experts over an mmap of the checkpoint's files: what a program without a
 * cache of its own does. The advice is given when the choice is known, or the
 * pages are populated before the kernels touch them; the sums are the plain
 * source's, and so the same as the library's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../decoder/extent.h"
#include "../decoder/names.h"
#include "../decoder/plain.h"
#include "readahead.h"
#include "source.h"

/* Longer requests are cut down to the drive's read-ahead. */
#define WILLNEED_LEN (1u << 20)

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

struct map_file {
	const char *path;
	char *at;
	size_t len;
	int fd;
};

struct map_layer {
	uint32_t nr_experts;
	uint32_t nr_parts;
	uint64_t part_bytes[PENSTOCK_MAX_PARTS];
	const char **ptr; /* nr_experts x nr_parts */
};

struct piece {
	char *at;
	size_t len;
};

struct run_mmap {
	struct run_session *s;
	struct decoder_plain *plain;
	struct map_file *files;
	size_t nr_files;
	struct map_layer *layers;
	enum run_mmap_method method;
	struct piece *pieces; /* of the layer in hand */
	size_t nr_pieces;
	size_t room;
	size_t page;
};

const char *run_mmap_method_name(enum run_mmap_method method)
{
	static const char *const names[] = { "faults", "populate", "willneed" };

	return method < RUN_MMAP_METHODS ? names[method] : "?";
}

static int map_path(struct run_mmap *m, const char *path, struct map_file **out, struct penstock_error *err)
{
	struct map_file *f;
	struct stat st;
	size_t i;
	int rc;

	for (i = 0; i < m->nr_files; i++)
		if (m->files[i].path == path || !strcmp(m->files[i].path, path)) {
			*out = &m->files[i];
			return 0;
		}
	f = realloc(m->files, (m->nr_files + 1) * sizeof(*f));
	if (!f)
		return decoder_fail(err, -ENOMEM, "map of %s", path);
	m->files = f;
	f += m->nr_files;
	f->path = path;
	f->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (f->fd < 0)
		return decoder_fail(err, -errno, "open %s", path);
	if (fstat(f->fd, &st)) {
		rc = -errno;
		close(f->fd);
		return decoder_fail(err, rc, "stat %s", path);
	}
	f->len = (size_t)st.st_size;
	f->at = mmap(NULL, f->len, PROT_READ, MAP_SHARED, f->fd, 0);
	if (f->at == MAP_FAILED) {
		rc = -errno;
		close(f->fd);
		return decoder_fail(err, rc, "mmap of %s, %zu bytes", path, f->len);
	}
	m->nr_files++;
	*out = f;
	return 0;
}

static int find_expert(struct run_mmap *m, const struct decoder_names *names, const struct penstock_layer_info *li,
		       uint32_t layer, uint32_t expert, struct penstock_error *err)
{
	struct map_layer *l = &m->layers[layer];
	struct decoder_extent ext[PENSTOCK_MAX_PARTS];
	struct map_file *f = NULL;
	uint32_t i;
	int rc;

	rc = decoder_extents(m->s->model, names, li, layer, expert, ext, err);
	for (i = 0; !rc && i < li->nr_parts; i++) {
		rc = map_path(m, ext[i].file, &f, err);
		if (!rc && (ext[i].off > f->len || ext[i].len > f->len - ext[i].off))
			rc = decoder_fail(err, -ENODATA, "%s ends before offset %llu", f->path,
					  (unsigned long long)(ext[i].off + ext[i].len));
		if (!rc)
			l->ptr[(size_t)expert * l->nr_parts + i] = f->at + ext[i].off;
	}
	return rc;
}

static int find_layer(struct run_mmap *m, const struct decoder_names *names, uint32_t layer, struct penstock_error *err)
{
	struct penstock_layer_info li = { .size = sizeof(li) };
	struct map_layer *l = &m->layers[layer];
	uint32_t i;
	int rc;

	rc = penstock_layer_info(m->s->model, layer, &li);
	if (rc)
		return decoder_fail(err, rc, "layer %u", layer);
	if (li.kind != PENSTOCK_LAYER_MOE)
		return 0;
	l->nr_parts = li.nr_parts;
	l->nr_experts = li.nr_experts;
	l->ptr = calloc((size_t)li.nr_experts * li.nr_parts, sizeof(*l->ptr));
	if (!l->ptr)
		return decoder_fail(err, -ENOMEM, "table of layer %u", layer);
	for (i = 0; i < li.nr_parts; i++)
		l->part_bytes[i] = li.parts[i].bytes;
	for (i = 0; !rc && i < li.nr_experts; i++)
		rc = find_expert(m, names, &li, layer, i, err);
	return rc;
}

static int parts(void *arg, uint32_t layer, uint32_t expert, const void *ptr[PENSTOCK_MAX_PARTS],
		 struct penstock_error *err)
{
	struct run_mmap *m = arg;
	struct map_layer *l = &m->layers[layer];
	uint32_t i;

	for (i = 0; i < l->nr_parts; i++)
		ptr[i] = l->ptr[(size_t)expert * l->nr_parts + i];
	return 0;
}

int run_mmap_create(struct run_session *s, struct run_mmap **out, struct penstock_error *err)
{
	struct run_mmap *m = calloc(1, sizeof(*m));
	struct decoder_names names;
	uint32_t i;
	int rc = 0;

	if (!m)
		return decoder_fail(err, -ENOMEM, "mmap source");
	m->s = s;
	m->page = (size_t)sysconf(_SC_PAGESIZE);
	decoder_names_find(s->model, s->info.format, &names);
	m->layers = calloc(s->info.nr_layers + 1, sizeof(*m->layers));
	if (!m->layers)
		rc = decoder_fail(err, -ENOMEM, "mmap source");
	for (i = 0; !rc && i < s->info.nr_layers; i++)
		rc = find_layer(m, &names, i, err);
	if (!rc)
		rc = decoder_plain_create(s->model, s->pool, &m->plain, err);
	if (rc) {
		run_mmap_destroy(m);
		return rc;
	}
	decoder_plain_map(m->plain, parts, m);
	*out = m;
	return 0;
}

void run_mmap_destroy(struct run_mmap *m)
{
	size_t i;

	if (!m)
		return;
	decoder_plain_destroy(m->plain);
	for (i = 0; m->layers && i < m->s->info.nr_layers; i++)
		free(m->layers[i].ptr);
	for (i = 0; i < m->nr_files; i++) {
		munmap(m->files[i].at, m->files[i].len);
		close(m->files[i].fd);
	}
	free(m->layers);
	free(m->files);
	free(m->pieces);
	free(m);
}

void run_mmap_use(struct run_mmap *m, enum run_mmap_method method)
{
	m->method = method;
}

void run_mmap_drop(struct run_mmap *m)
{
	size_t i;

	for (i = 0; i < m->nr_files; i++)
		posix_fadvise(m->files[i].fd, 0, 0, POSIX_FADV_DONTNEED);
}

uint64_t run_mmap_read_ahead(const struct run_mmap *m)
{
	struct stat st;

	if (!m->nr_files || fstat(m->files[0].fd, &st))
		return 0;
	return (uint64_t)run_readahead_kib(st.st_dev) << 10;
}

/* ---- a layer ---- */

static int add_pieces(struct run_mmap *m, const char *at, uint64_t len, size_t most, struct penstock_error *err)
{
	uintptr_t from = (uintptr_t)at / m->page * m->page, end = (uintptr_t)at + len;
	struct piece *more;
	size_t n;

	for (; from < end; from += n) {
		n = end - from < most ? end - from : most;
		if (m->nr_pieces == m->room) {
			m->room = m->room ? m->room * 2 : 256;
			more = realloc(m->pieces, m->room * sizeof(*more));
			if (!more)
				return decoder_fail(err, -ENOMEM, "%zu pieces", m->room);
			m->pieces = more;
		}
		m->pieces[m->nr_pieces++] = (struct piece){ (char *)from, n };
	}
	return 0;
}

/* The wanted experts' bytes, each once, in the order of the choice. */
static int make_pieces(struct run_mmap *m, const struct penstock_moe *moe, struct penstock_error *err)
{
	const struct map_layer *l = &m->layers[moe->layer];
	size_t i, j, nr = moe->nr_tokens * moe->top_k;
	uint8_t *seen = calloc(l->nr_experts, 1);
	int rc = 0;

	if (!seen)
		return decoder_fail(err, -ENOMEM, "marks of %u experts", l->nr_experts);
	m->nr_pieces = 0;
	for (i = 0; !rc && i < nr; i++) {
		int32_t id = moe->ids[i];

		/* what is out of range is refused by the plain source */
		if (id < 0 || (uint32_t)id >= l->nr_experts || seen[id])
			continue;
		seen[id] = 1;
		for (j = 0; !rc && j < l->nr_parts; j++)
			rc = add_pieces(m, l->ptr[(size_t)id * l->nr_parts + j], l->part_bytes[j], WILLNEED_LEN, err);
	}
	free(seen);
	return rc;
}

/* Advice may be refused, as when memory is short: the pages are then brought in by the touch. */
static void populate(void *arg, size_t begin, size_t end)
{
	struct run_mmap *m = arg;
	size_t i;

	for (i = begin; i < end; i++)
		(void)madvise(m->pieces[i].at, m->pieces[i].len, MADV_POPULATE_READ);
}

static int begin(void *arg, const struct penstock_moe *moe, struct penstock_error *err)
{
	struct run_mmap *m = arg;
	size_t i;
	int rc;

	if (run_interrupted())
		return decoder_fail(err, -ECANCELED, "interrupted");
	if (m->method == RUN_MMAP_FAULT)
		return 0;
	rc = make_pieces(m, moe, err);
	if (rc)
		return rc;
	if (m->method == RUN_MMAP_WILLNEED)
		for (i = 0; i < m->nr_pieces; i++)
			(void)madvise(m->pieces[i].at, m->pieces[i].len, MADV_WILLNEED);
	return 0;
}

static int forward(void *arg, const struct penstock_moe *moe, struct penstock_error *err)
{
	struct run_mmap *m = arg;

	if (m->method == RUN_MMAP_POPULATE)
		penstock_pool_run(m->s->pool, m->nr_pieces, 1, populate, m);
	return decoder_plain_forward(m->plain, moe, err);
}

struct decoder_experts run_mmap_experts(struct run_mmap *m)
{
	return (struct decoder_experts){ .begin = begin, .forward = forward, .arg = m };
}
