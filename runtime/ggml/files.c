// SPDX-License-Identifier: MIT
/* Mapped GGUF files and their dense tensors: see files.h. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"
#include "host.h"
#include "maps.h"

/* The kernel reads no more at one request than the drive's read-ahead, 128 KiB as a rule. */
#define READ_AHEAD	(128u << 10)
#define PAGE		4096u

static struct gg_file *files;
static uint32_t nr_files;

bool gg_is_expert(const char *name)
{
	const size_t len = strlen(name);

	if (gg_expert_block(name) < 0)
		return false;
	return (len > 12 && !strcmp(name + len - 12, "_exps.weight")) ||
	       (len > 14 && !strcmp(name + len - 14, "_chexps.weight"));
}

int gg_expert_block(const char *name)
{
	char *end;
	long nr;

	if (strncmp(name, "blk.", 4) || !isdigit((unsigned char)name[4]))
		return -1;
	nr = strtol(name + 4, &end, 10);
	return *end == '.' && nr <= INT_MAX ? (int)nr : -1;
}

/* "set-00002-of-00005.gguf": the length of "set", else of the whole name */
static size_t set_length(const char *path)
{
	const size_t len = strlen(path);
	unsigned int shard, shards;
	int end = 0;

	if (len > 20 && sscanf(path + len - 20, "-%5u-of-%5u.gguf%n", &shard, &shards, &end) == 2 && end == 20)
		return len - 20;
	return len;
}

static uint32_t read_top_k(const struct gg_gguf *gguf)
{
	int64_t key = gg.gguf_find_key(gguf, "general.architecture");
	char name[160];
	uint32_t most = 0;
	const uint32_t *values;

	if (key < 0 || gg.gguf_get_kv_type(gguf, key) != GG_GGUF_TYPE_STRING)
		return 0;
	snprintf(name, sizeof(name), "%s.expert_used_count", gg.gguf_get_val_str(gguf, key));
	key = gg.gguf_find_key(gguf, name);
	if (key < 0)
		return 0;
	if (gg.gguf_get_kv_type(gguf, key) == GG_GGUF_TYPE_UINT32)
		return gg.gguf_get_val_u32(gguf, key);
	if (gg.gguf_get_kv_type(gguf, key) != GG_GGUF_TYPE_ARRAY ||
	    (gg.gguf_get_arr_type(gguf, key) != GG_GGUF_TYPE_UINT32 &&
	     gg.gguf_get_arr_type(gguf, key) != GG_GGUF_TYPE_INT32))
		return 0;
	values = gg.gguf_get_arr_data(gguf, key);
	for (size_t i = 0; i < gg.gguf_get_arr_n(gguf, key); i++)
		most = values[i] > most ? values[i] : most;
	return most;
}

static bool add_range(struct gg_file *f, uint64_t off, uint64_t len)
{
	struct gg_range *more = realloc(f->dense, (f->nr_dense + 1) * sizeof(*more));

	if (!more)
		return false;
	f->dense = more;
	f->dense[f->nr_dense++] = (struct gg_range){ .off = off, .len = len };
	return true;
}

/* Shards after the first one say nothing of the model. */
static void share_top_k(struct gg_file *f)
{
	const size_t len = set_length(f->path);

	for (uint32_t i = 0; i < nr_files; i++) {
		struct gg_file *o = &files[i];

		if (set_length(o->path) != len || strncmp(o->path, f->path, len))
			continue;
		if (!f->top_k)
			f->top_k = o->top_k;
		if (!o->top_k)
			o->top_k = f->top_k;
	}
}

static bool read_tables(struct gg_file *f)
{
	struct gg_gguf *gguf = gg.gguf_init_from_file(f->path, (struct gg_gguf_params){ .no_alloc = true });
	bool good = true;
	uint64_t data;

	if (!gguf)
		return false;
	f->top_k = read_top_k(gguf);
	data = gg.gguf_get_data_offset(gguf);
	for (int64_t i = 0; good && i < gg.gguf_get_n_tensors(gguf); i++) {
		const uint64_t off = data + gg.gguf_get_tensor_offset(gguf, i), len = gg.gguf_get_tensor_size(gguf, i);

		if (!gg_is_expert(gg.gguf_get_tensor_name(gguf, i)) && off <= f->size && len <= f->size - off)
			good = add_range(f, off, len);
	}
	gg.gguf_free(gguf);
	share_top_k(f);
	return good;
}

/* Exactly these bytes: faults would read ahead into the experts behind, or, told not to, page by page. */
static void read_in(const struct gg_file *f, const struct gg_range *r)
{
	const uint64_t lo = r->off / PAGE * PAGE, hi = r->off + r->len;

	madvise((char *)f->base + lo, hi - lo, MADV_NORMAL);
	for (uint64_t at = lo; at < hi; at += READ_AHEAD)
		posix_fadvise(f->fd, (off_t)at, (off_t)(hi - at < READ_AHEAD ? hi - at : READ_AHEAD),
			      POSIX_FADV_WILLNEED);
}

static bool is_gguf(int fd)
{
	char magic[4];

	return pread(fd, magic, 4, 0) == 4 && !memcmp(magic, "GGUF", 4);
}

static void drop_file(uint32_t i)
{
	close(files[i].fd);
	free(files[i].path);
	free(files[i].dense);
	files[i] = files[--nr_files];
}

static bool add_file(const struct gg_mapping *m, void *arg)
{
	struct gg_file f = { .base = (const char *)m->lo, .inode = m->inode, .fd = -1 }, *more;
	struct stat st;

	if (m->off || !m->shared || m->writable || !m->inode || !gg_maps_same_file(m))
		return true;
	for (uint32_t i = 0; i < nr_files; i++)
		if (files[i].base == f.base && files[i].inode == f.inode)
			return true;
	f.fd = open(m->path, O_RDONLY | O_CLOEXEC);
	if (f.fd < 0)
		return true;
	f.path = strdup(m->path);
	more = realloc(files, (nr_files + 1) * sizeof(*files));
	if (more)
		files = more;
	if (!f.path || !more || fstat(f.fd, &st) || !is_gguf(f.fd)) {
		close(f.fd);
		free(f.path);
		return true;
	}
	f.size = (uint64_t)st.st_size;
	files[nr_files++] = f;
	if (!read_tables(&files[nr_files - 1])) {
		drop_file(nr_files - 1);
		return true;
	}
	for (uint32_t i = 0; i < files[nr_files - 1].nr_dense; i++)
		read_in(&files[nr_files - 1], &files[nr_files - 1].dense[i]);
	return true;
}

/* The loader unmaps head and tail, so a file may begin later than its first byte did. */
static bool mark_mapped(const struct gg_mapping *m, void *arg)
{
	for (uint32_t i = 0; i < nr_files; i++)
		if (files[i].inode == m->inode && m->lo >= (uintptr_t)files[i].base &&
		    m->lo < (uintptr_t)files[i].base + files[i].size)
			files[i].mapped = true;
	return true;
}

void gg_files_scan(void)
{
	for (uint32_t i = 0; i < nr_files; i++)
		files[i].mapped = false;
	gg_maps_each(mark_mapped, NULL);
	for (uint32_t i = nr_files; i-- > 0;)
		if (!files[i].mapped)
			drop_file(i);
	gg_maps_each(add_file, NULL);
}

struct gg_file *gg_files_find(const void *addr)
{
	const char *p = addr;

	for (uint32_t i = 0; i < nr_files; i++)
		if (p >= files[i].base && p < files[i].base + files[i].size)
			return &files[i];
	return NULL;
}

void gg_files_in_place(const void *addr)
{
	struct gg_file *f = gg_files_find(addr);
	const uint64_t off = f ? (uint64_t)((const char *)addr - f->base) : 0;

	for (uint32_t i = 0; f && i < f->nr_dense; i++)
		if (f->dense[i].off == off)
			f->dense[i].in_place = true;
}

/* Only whole pages that no tensor in place shares. */
static void let_go(const struct gg_file *f, const struct gg_range *r)
{
	const uint64_t lo = (r->off + PAGE - 1) / PAGE * PAGE, hi = (r->off + r->len) / PAGE * PAGE;

	if (hi <= lo)
		return;
	madvise((char *)f->base + lo, hi - lo, MADV_DONTNEED);
	posix_fadvise(f->fd, (off_t)lo, (off_t)(hi - lo), POSIX_FADV_DONTNEED);
}

static void settle(struct gg_file *f, struct gg_range *r, bool lock, uint64_t *locked, uint64_t *resident)
{
	const uint64_t lo = r->off / PAGE * PAGE, hi = r->off + r->len;

	if (!r->in_place) {
		let_go(f, r);
		return;
	}
	if (lock && !r->locked)
		r->locked = !mlock(f->base + lo, hi - lo);
	if (!r->locked)
		madvise((char *)f->base + lo, hi - lo, MADV_WILLNEED);
	*(r->locked ? locked : resident) += r->len;
}

void gg_files_settle(bool lock, uint64_t *locked, uint64_t *resident)
{
	*locked = 0;
	*resident = 0;
	for (uint32_t i = 0; i < nr_files; i++)
		for (uint32_t r = 0; r < files[i].nr_dense; r++)
			settle(&files[i], &files[i].dense[r], lock, locked, resident);
}

void gg_files_end(void)
{
	while (nr_files)
		drop_file(nr_files - 1);
	free(files);
	files = NULL;
}
