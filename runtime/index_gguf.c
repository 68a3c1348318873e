// SPDX-License-Identifier: MIT
/*
 * GGUF v2 and v3, little endian: header, key-values, tensor table, aligned data.
 *
 * The table has no length of its own, so it is read through a window. Every
 * length and count is held against what is left of the file before memory is
 * taken for it. A length that no file of this size could hold is -EBADMSG, one
 * that only runs over the end is -ENODATA: the file was cut.
 */
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "index_build.h"

#define WINDOW_BYTES	(1u << 20)
#define NAME_MAX_BYTES	65535u
#define ALIGN_DEFAULT	32u
#define GGUF_MAX_DIMS	4u
/* whole numbers up to here are exact in a double */
#define MOST_COUNT	9007199254740992.0

enum gguf_type {
	GGUF_U8 = 0, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STRING, GGUF_ARRAY,
	GGUF_U64, GGUF_I64, GGUF_F64, GGUF_TYPES,
};

/* Least bytes of a value in the file. */
static const uint8_t type_bytes[GGUF_TYPES] = { 1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8 };

struct gguf {
	struct penstock_index_build *b;
	uint32_t file;
	const char *path;
	uint64_t size;
	uint64_t pos;
	unsigned char *window;
	uint64_t window_off;
	uint64_t window_len;
	bool keep;		/* metadata of this file counts (the first shard's) */
	uint64_t align;
	uint64_t split_no;
	uint64_t split_count;
	int64_t split_tensors;	/* -1: no such key */
};

static int cut(struct gguf *g, uint64_t len, const char *what)
{
	int rc = len > g->size ? -EBADMSG : -ENODATA;

	return penstock_err(g->b->err, rc, "%s: %s of %llu bytes at %llu, the file has %llu", g->path, what,
			    (unsigned long long)len, (unsigned long long)g->pos, (unsigned long long)g->size);
}

static int get(struct gguf *g, void *dst, uint64_t len, const char *what)
{
	unsigned char *to = dst;
	uint64_t n;
	int rc;

	if (len > g->size - g->pos)
		return cut(g, len, what);
	while (len) {
		if (g->pos < g->window_off || g->pos >= g->window_off + g->window_len) {
			n = penstock_min_u64(WINDOW_BYTES, g->size - g->pos);
			rc = penstock_store_pread(&g->b->ix->store, g->file, g->pos, g->window, n, g->b->err);
			if (rc)
				return rc;
			g->window_off = g->pos;
			g->window_len = n;
		}
		n = penstock_min_u64(len, g->window_off + g->window_len - g->pos);
		memcpy(to, g->window + (g->pos - g->window_off), n);
		to += n;
		g->pos += n;
		len -= n;
	}
	return 0;
}

static int get_u32(struct gguf *g, uint32_t *v, const char *what)
{
	int rc = get(g, v, 4, what);

	*v = le32toh(*v);
	return rc;
}

static int get_u64(struct gguf *g, uint64_t *v, const char *what)
{
	int rc = get(g, v, 8, what);

	*v = le64toh(*v);
	return rc;
}

/* A string into the arena. A NUL inside ends it for C; names must have none. */
static int get_string(struct gguf *g, char **out, uint64_t *out_len, const char *what)
{
	uint64_t len;
	int rc;

	rc = get_u64(g, &len, what);
	if (rc)
		return rc;
	if (len > g->size - g->pos)
		return cut(g, len, what);
	*out = penstock_index_alloc(&g->b->ix->arena, len + 1);
	if (!*out)
		return penstock_index_nomem(g->b);
	*out_len = len;
	return get(g, *out, len, what);
}

static int get_name(struct gguf *g, char **out, const char *what)
{
	uint64_t len;
	int rc;

	rc = get_string(g, out, &len, what);
	if (rc)
		return rc;
	if (len > NAME_MAX_BYTES || memchr(*out, 0, len))
		return penstock_err(g->b->err, -EBADMSG, "%s: %s \"%.60s\": %llu bytes, or a NUL in it", g->path, what,
				    *out, (unsigned long long)len);
	return 0;
}

/* One number of type @type. */
static int get_number(struct gguf *g, uint32_t type, double *v)
{
	union { uint8_t b[8]; uint16_t h; uint32_t w; uint64_t d; float f; double lf; } u = { { 0 } };
	int rc;

	rc = get(g, &u, type_bytes[type], "value");
	if (rc)
		return rc;
	u.d = le64toh(u.d);
	switch (type) {
	case GGUF_U8: *v = u.b[0]; break;
	case GGUF_I8: *v = (int8_t)u.b[0]; break;
	case GGUF_U16: *v = u.h; break;
	case GGUF_I16: *v = (int16_t)u.h; break;
	case GGUF_U32: *v = u.w; break;
	case GGUF_I32: *v = (int32_t)u.w; break;
	case GGUF_F32: *v = (double)u.f; break;
	case GGUF_BOOL: *v = u.b[0] != 0; break;
	case GGUF_U64: *v = (double)u.d; break;
	case GGUF_I64: *v = (double)(int64_t)u.d; break;
	default: *v = u.lf; break;
	}
	return 0;
}

static int get_type(struct gguf *g, const char *key, uint32_t *type)
{
	int rc = get_u32(g, type, "type of a value");

	if (!rc && *type >= GGUF_TYPES)
		rc = penstock_err(g->b->err, -EBADMSG, "%s: key %s: value of unknown type %u", g->path, key, *type);
	return rc;
}

static int get_array(struct gguf *g, const char *key, struct penstock_meta *m)
{
	const char **strings;
	double *numbers;
	uint32_t type;
	uint64_t i, len;
	char *s;
	int rc;

	rc = get_type(g, key, &type);
	if (!rc)
		rc = get_u64(g, &m->nr, "length of an array");
	if (rc)
		return rc;
	if (type == GGUF_ARRAY)
		return penstock_err(g->b->err, -EBADMSG, "%s: key %s: an array of arrays", g->path, key);
	if (m->nr > (g->size - g->pos) / type_bytes[type])
		return cut(g, m->nr > UINT64_MAX / 8 ? UINT64_MAX : m->nr * type_bytes[type], "array");
	m->type = type == GGUF_STRING ? PENSTOCK_META_STRINGS : PENSTOCK_META_NUMBERS;
	numbers = penstock_index_alloc(&g->b->ix->arena, m->nr * sizeof(*numbers));
	strings = (const char **)(void *)numbers;
	if (!numbers)
		return penstock_index_nomem(g->b);
	for (i = 0; i < m->nr && !rc; i++) {
		if (type == GGUF_STRING) {
			rc = get_string(g, &s, &len, "string");
			strings[i] = rc ? NULL : s;
		} else {
			rc = get_number(g, type, &numbers[i]);
		}
	}
	if (type == GGUF_STRING)
		m->strings = strings;
	else
		m->numbers = numbers;
	return rc;
}

/* Files may store a count as any type, also as a float: it is one only if it is a whole number that a double holds. */
static int take_count(struct gguf *g, const char *key, const struct penstock_meta *m, uint64_t *v)
{
	if (m->type != PENSTOCK_META_NUMBER || !(m->number >= 0 && m->number <= MOST_COUNT) ||
	    m->number != (double)(uint64_t)m->number)
		return penstock_err(g->b->err, -EBADMSG, "%s: %s %g is no count", g->path, key, m->number);
	*v = (uint64_t)m->number;
	return 0;
}

/* The keys that say how to read the rest. */
static int note_key(struct gguf *g, const char *key, uint32_t type, const struct penstock_meta *m)
{
	uint64_t v;
	int rc;

	if (!strcmp(key, "general.alignment")) {
		if (type != GGUF_U32 || m->number < 1 || ((uint64_t)m->number & ((uint64_t)m->number - 1)))
			return penstock_err(g->b->err, -EBADMSG, "%s: general.alignment %.0f is no power of two",
					    g->path, m->number);
		g->align = (uint64_t)m->number;
	} else if (!strcmp(key, "split.no")) {
		return take_count(g, key, m, &g->split_no);
	} else if (!strcmp(key, "split.count")) {
		return take_count(g, key, m, &g->split_count);
	} else if (!strcmp(key, "split.tensors.count")) {
		rc = take_count(g, key, m, &v);
		if (rc)
			return rc;
		g->split_tensors = (int64_t)v;
	}
	return 0;
}

static int get_pairs(struct gguf *g, uint64_t nr)
{
	struct penstock_meta m;
	uint32_t type;
	uint64_t i, len;
	char *key, *s;
	int rc;

	for (i = 0; i < nr; i++) {
		memset(&m, 0, sizeof(m));
		m.nr = 1;
		rc = get_name(g, &key, "key");
		if (!rc)
			rc = get_type(g, key, &type);
		if (rc)
			return rc;
		if (type == GGUF_ARRAY) {
			rc = get_array(g, key, &m);
		} else if (type == GGUF_STRING) {
			m.type = PENSTOCK_META_STRING;
			rc = get_string(g, &s, &len, "string");
			m.string = rc ? NULL : s;
		} else {
			m.type = type == GGUF_BOOL ? PENSTOCK_META_BOOL : PENSTOCK_META_NUMBER;
			rc = get_number(g, type, &m.number);
		}
		if (!rc)
			rc = note_key(g, key, type, &m);
		if (!rc && g->keep)
			rc = penstock_index_add_meta(g->b, key, strlen(key), &m);
		if (rc)
			return rc;
	}
	return 0;
}

/* Bytes of a tensor, from its type and shape (outermost first). */
static int tensor_bytes(struct gguf *g, struct penstock_index_tensor *t, uint32_t type, const uint64_t *dims,
			uint32_t nr)
{
	const struct penstock_dtype_info *info = t->dtype ? penstock_dtype_info(t->dtype) : NULL;
	uint64_t elems, inner = nr ? dims[nr - 1] : 1;
	char shape[200];

	penstock_index_shape(dims, nr, shape, sizeof(shape));
	if (!info)
		return penstock_err(g->b->err, -EBADMSG, "%s: %s %s: ggml type %u is unknown", g->path, t->name, shape,
				    type);
	if (penstock_index_elems(dims, nr, &elems) || elems > INT64_MAX ||
	    penstock_mul_overflows(elems / info->elems, info->bytes, &t->bytes) || t->bytes > INT64_MAX)
		return penstock_err(g->b->err, -EBADMSG, "%s: %s: %s %s has more than 2^63 bytes", g->path, t->name,
				    info->name, shape);
	if (inner % info->elems)
		return penstock_err(g->b->err, -EBADMSG, "%s: %s: %s rows of %llu are no multiple of its block of %u",
				    g->path, t->name, info->name, (unsigned long long)inner, info->elems);
	return 0;
}

static int get_tensor(struct gguf *g)
{
	struct penstock_index_tensor *t;
	uint64_t dims[GGUF_MAX_DIMS];
	uint32_t nr, i, type;
	char *name;
	int rc;

	rc = get_name(g, &name, "name of a tensor");
	if (!rc)
		rc = get_u32(g, &nr, "dimensions");
	if (rc)
		return rc;
	if (nr > GGUF_MAX_DIMS)
		return penstock_err(g->b->err, -EBADMSG, "%s: %s: %u dimensions, at most %u", g->path, name, nr,
				    GGUF_MAX_DIMS);
	for (i = nr; i-- > 0;) {
		rc = get_u64(g, &dims[i], "dimension");
		if (rc)
			return rc;
	}
	rc = get_u32(g, &type, "type of a tensor");
	if (rc)
		return rc;
	t = penstock_index_add_tensor(g->b);
	if (!t)
		return -ENOMEM;
	t->name = name;
	t->file = (uint16_t)g->file;
	t->dtype = (uint8_t)penstock_index_dtype_ggml(type);
	rc = penstock_index_set_dims(g->b, t, dims, nr);
	if (!rc)
		rc = tensor_bytes(g, t, type, dims, nr);
	if (!rc)
		rc = get_u64(g, &t->off, "offset of a tensor");
	if (!rc && t->off % g->align)
		rc = penstock_err(g->b->err, -EBADMSG, "%s: %s: offset %llu is no multiple of %llu", g->path, name,
				  (unsigned long long)t->off, (unsigned long long)g->align);
	return rc;
}

static int by_offset(const void *a, const void *b, void *ctx)
{
	const struct penstock_index_tensor *t = ctx;
	const struct penstock_index_tensor *x = &t[*(const uint32_t *)a], *y = &t[*(const uint32_t *)b];

	if (x->off != y->off)
		return x->off < y->off ? -1 : 1;
	return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

/* Offsets become those of the file; extents must lie in it and must not overlap. */
static int check_extents(struct gguf *g, uint32_t first)
{
	struct penstock_index *ix = g->b->ix;
	uint32_t nr = ix->nr_tensors - first, i;
	struct penstock_index_tensor *t;
	uint64_t data, end = 0, past = 0;
	uint32_t *order;
	int rc = 0;

	if (!nr)
		return 0;
	if (penstock_add_overflows(g->pos, g->align - 1, &data))
		return penstock_err(g->b->err, -EBADMSG, "%s: alignment %llu", g->path, (unsigned long long)g->align);
	data = penstock_align_down(data, g->align);
	order = malloc(nr * sizeof(*order));
	if (!order)
		return penstock_index_nomem(g->b);
	for (i = 0; i < nr; i++)
		order[i] = first + i;
	qsort_r(order, nr, sizeof(*order), by_offset, ix->tensors);
	for (i = 0; i < nr && !rc; i++) {
		t = &ix->tensors[order[i]];
		if (penstock_add_overflows(t->off, data, &t->off) || penstock_add_overflows(t->off, t->bytes, &end)) {
			rc = penstock_err(g->b->err, -EBADMSG, "%s: %s: offset and size wrap", g->path, t->name);
		} else if (t->bytes && t->off < past) {
			rc = penstock_err(g->b->err, -EBADMSG, "%s: %s overlaps %s at byte %llu", g->path, t->name,
					  ix->tensors[order[i - 1]].name, (unsigned long long)t->off);
		} else if (end > g->size) {
			rc = penstock_err(g->b->err, -ENODATA,
					  "%s: %s ends at %llu, the file has %llu: %llu bytes are missing", g->path,
					  t->name, (unsigned long long)end, (unsigned long long)g->size,
					  (unsigned long long)(end - g->size));
		}
		past = penstock_max_u64(past, end);
	}
	free(order);
	return rc;
}

static int read_header(struct gguf *g)
{
	uint64_t nr_tensors, nr_pairs, i;
	uint32_t version, first = g->b->ix->nr_tensors;
	char magic[4];
	int rc;

	rc = get(g, magic, 4, "magic");
	if (!rc && memcmp(magic, "GGUF", 4))
		rc = penstock_err(g->b->err, -EBADMSG, "%s is no GGUF file", g->path);
	if (!rc)
		rc = get_u32(g, &version, "version");
	if (rc)
		return rc;
	if (!(version & 0xffff) && version)
		return penstock_err(g->b->err, -EBADMSG, "%s is a big-endian GGUF file: not supported", g->path);
	if (version != 2 && version != 3)
		return penstock_err(g->b->err, -EBADMSG, "%s: GGUF version %u: 2 and 3 are supported", g->path,
				    version);
	rc = get_u64(g, &nr_tensors, "number of tensors");
	if (!rc)
		rc = get_u64(g, &nr_pairs, "number of keys");
	if (rc)
		return rc;
	/* the least a tensor takes is 24 bytes, a key-value pair 13 */
	if (nr_tensors > (g->size - g->pos) / 24 || nr_pairs > (g->size - g->pos) / 13)
		return penstock_err(g->b->err, -EBADMSG, "%s: %llu tensors and %llu keys in a file of %llu bytes",
				    g->path, (unsigned long long)nr_tensors, (unsigned long long)nr_pairs,
				    (unsigned long long)g->size);
	rc = get_pairs(g, nr_pairs);
	for (i = 0; i < nr_tensors && !rc; i++)
		rc = get_tensor(g);
	return rc ? rc : check_extents(g, first);
}

/* Read one file's tables; @g receives its split keys. */
static int read_file(struct penstock_index_build *b, const char *path, bool keep, struct gguf *g)
{
	int rc;

	memset(g, 0, sizeof(*g));
	g->b = b;
	g->keep = keep;
	g->align = ALIGN_DEFAULT;
	g->split_tensors = -1;
	rc = penstock_store_add(&b->ix->store, path, &g->file, b->err);
	if (rc)
		return rc;
	if (g->file >= PENSTOCK_INDEX_MAX_FILES)
		return penstock_err(b->err, -EBADMSG, "%s: more than %u files", path, PENSTOCK_INDEX_MAX_FILES);
	g->path = b->ix->store.files[g->file].path;
	g->size = b->ix->store.files[g->file].size;
	g->window = malloc(WINDOW_BYTES);
	if (!g->window)
		return penstock_index_nomem(b);
	rc = read_header(g);
	free(g->window);
	g->window = NULL;
	return rc;
}

/* What a split set's files are called: length of what is before "-00002-of-00005.gguf", or 0. */
static size_t split_prefix(const char *path, uint64_t no, uint64_t count)
{
	char end[32];
	size_t n = strlen(path), m;

	m = (size_t)snprintf(end, sizeof(end), "-%05llu-of-%05llu.gguf", (unsigned long long)no + 1,
			     (unsigned long long)count);
	return m < sizeof(end) && n > m && !strcmp(path + n - m, end) ? n - m : 0;
}

static int read_split(struct penstock_index_build *b, const char *path, size_t prefix, uint64_t count)
{
	int64_t total = -1;
	struct gguf g;
	uint64_t i;
	char *name;
	int rc = 0;

	for (i = 0; i < count && !rc; i++) {
		if (asprintf(&name, "%.*s-%05llu-of-%05llu.gguf", (int)prefix, path, (unsigned long long)i + 1,
			     (unsigned long long)count) < 0)
			return penstock_index_nomem(b);
		if (access(name, F_OK))
			rc = penstock_err(b->err, -errno, "shard %llu of %llu is missing: %s",
					  (unsigned long long)i + 1, (unsigned long long)count, name);
		else
			rc = read_file(b, name, !i, &g);
		if (!rc && (g.split_no != i || g.split_count != count))
			rc = penstock_err(b->err, -EBADMSG,
					  "%s: split.no %llu and split.count %llu, its name says %llu of %llu", name,
					  (unsigned long long)g.split_no, (unsigned long long)g.split_count,
					  (unsigned long long)i + 1, (unsigned long long)count);
		if (!rc && !i)
			total = g.split_tensors;
		free(name);
	}
	if (!rc && total >= 0 && (uint64_t)total != b->ix->nr_tensors)
		rc = penstock_err(b->err, -EBADMSG, "%s: split.tensors.count is %lld, the shards hold %u", path,
				  (long long)total, b->ix->nr_tensors);
	return rc;
}

int penstock_index_gguf_open(struct penstock_index_build *b, const char *path)
{
	struct gguf g;
	size_t prefix;
	int rc;

	b->ix->format = PENSTOCK_FORMAT_GGUF;
	rc = read_file(b, path, true, &g);
	if (rc || g.split_count <= 1)
		return rc;
	if (g.split_count > PENSTOCK_INDEX_MAX_FILES)
		return penstock_err(b->err, -EBADMSG, "%s: split.count %llu", path, (unsigned long long)g.split_count);
	prefix = split_prefix(path, g.split_no, g.split_count);
	if (!prefix)
		return penstock_err(b->err, -EBADMSG,
				    "%s is shard %llu of %llu, but is not called ...-%05llu-of-%05llu.gguf: "
				    "the others cannot be found",
				    path, (unsigned long long)g.split_no + 1, (unsigned long long)g.split_count,
				    (unsigned long long)g.split_no + 1, (unsigned long long)g.split_count);
	/* now all of them, in order, so that file numbers and metadata do not depend on which was named */
	penstock_store_close(&b->ix->store);
	memset(&b->ix->store, 0, sizeof(b->ix->store));
	b->ix->nr_tensors = 0;
	b->ix->nr_meta = 0;
	return read_split(b, path, prefix, g.split_count);
}
