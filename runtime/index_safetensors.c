// SPDX-License-Identifier: MIT
/*
 * One safetensors file: 8 bytes of header length, a JSON header, the payload.
 *
 * The rules are those of the safetensors library, and so are the names of the
 * faults that texts start with: offsets cover the payload without holes in order
 * of offset, a tensor's bytes are its elements' bits, the file ends with the last
 * tensor. Stricter than the library: a name given twice is refused, the header
 * starts with '{' as the format's definition says, a tensor has at most
 * PENSTOCK_MAX_DIMS dimensions. Wider: an unknown type whose size follows from the
 * offsets is listed. Only the header is read.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <yajl/yajl_parse.h>

#include "index_build.h"

#define DEPTH_MAX	128

enum st_state {
	ST_ROOT,	/* before the first brace */
	ST_TOP,		/* names of tensors */
	ST_METADATA,	/* in __metadata__ */
	ST_TENSOR,	/* fields of a tensor */
	ST_SHAPE,
	ST_OFFSETS,
	ST_END,
};

enum st_field { FIELD_NONE, FIELD_DTYPE, FIELD_SHAPE, FIELD_OFFSETS, FIELD_OTHER };

/* A type that has no number here; its name is kept for messages. */
struct st_unknown {
	struct st_unknown *next;
	uint32_t tensor;
	const char *dtype;
};

struct st_parse {
	struct penstock_index_build *b;
	const char *path;
	uint32_t file;
	uint32_t first;		/* number of this file's first tensor */
	enum st_state state;
	enum st_field field;
	bool key_is_metadata;
	bool seen_metadata;
	uint32_t seen;		/* fields of this tensor: 1 << enum st_field */
	uint32_t skip;		/* open brackets of a value that is not looked at */
	const char *name;
	uint32_t dtype;
	const char *dtype_name;	/* of an unknown type */
	uint64_t dims[PENSTOCK_MAX_DIMS];
	uint32_t nr_dims;
	uint64_t offsets[2];
	uint32_t nr_offsets;
	struct st_unknown *unknown;
	void *arena;
	int rc;
};

static int st_fail(struct st_parse *p, const char *why)
{
	const char *what = p->name ? p->name : "header";

	p->rc = penstock_err(p->b->err, -EBADMSG, "InvalidHeaderDeserialization: %s: %s: %s", p->path, what, why);
	return 0;
}

static int st_nomem(struct st_parse *p)
{
	p->rc = penstock_index_nomem(p->b);
	return 0;
}

static int st_scalar(struct st_parse *p, const char *kind)
{
	if (p->skip || (p->state == ST_TENSOR && p->field == FIELD_OTHER))
		return 1;
	return st_fail(p, kind);
}

static int st_null(void *ctx)
{
	struct st_parse *p = ctx;

	if (p->state == ST_TOP && p->key_is_metadata)
		return 1;
	return st_scalar(p, "null where a value belongs");
}

static int st_boolean(void *ctx, int v)
{
	return st_scalar(ctx, "a boolean where another value belongs");
}

static int st_number(void *ctx, const char *s, size_t len)
{
	struct st_parse *p = ctx;
	uint64_t v;

	if (p->skip || (p->state != ST_SHAPE && p->state != ST_OFFSETS))
		return st_scalar(p, "a number where another value belongs");
	if (penstock_index_u64(s, len, &v))
		return st_fail(p, "a dimension or offset is no integer of 64 bits");
	if (p->state == ST_OFFSETS) {
		if (p->nr_offsets == 2)
			return st_fail(p, "more than two data_offsets");
		p->offsets[p->nr_offsets++] = v;
		return 1;
	}
	if (p->nr_dims == PENSTOCK_MAX_DIMS)
		return st_fail(p, "more than 8 dimensions");
	p->dims[p->nr_dims++] = v;
	return 1;
}

static int st_string(void *ctx, const unsigned char *s, size_t len)
{
	struct st_parse *p = ctx;

	if (p->skip || p->state == ST_METADATA)
		return 1;
	if (p->state != ST_TENSOR || p->field != FIELD_DTYPE)
		return st_scalar(p, "a string where another value belongs");
	p->dtype = penstock_index_dtype_st((const char *)s, len);
	p->dtype_name = NULL;
	if (p->dtype == PENSTOCK_DTYPE_NONE) {
		p->dtype_name = penstock_index_strdup(&p->arena, (const char *)s, len);
		if (!p->dtype_name)
			return st_nomem(p);
	}
	return 1;
}

static int st_key(void *ctx, const unsigned char *key, size_t len)
{
	struct st_parse *p = ctx;

	if (p->skip || p->state == ST_METADATA)
		return 1;
	if (p->state == ST_TOP) {
		p->key_is_metadata = len == 12 && !memcmp(key, "__metadata__", 12);
		if (p->key_is_metadata) {
			p->name = NULL;
			if (p->seen_metadata)
				return st_fail(p, "__metadata__ twice");
			p->seen_metadata = true;
			return 1;
		}
		p->name = penstock_index_strdup(&p->b->ix->arena, (const char *)key, len);
		return p->name ? 1 : st_nomem(p);
	}
	if (len == 5 && !memcmp(key, "dtype", 5))
		p->field = FIELD_DTYPE;
	else if (len == 5 && !memcmp(key, "shape", 5))
		p->field = FIELD_SHAPE;
	else if (len == 12 && !memcmp(key, "data_offsets", 12))
		p->field = FIELD_OFFSETS;
	else
		p->field = FIELD_OTHER;
	if (p->field != FIELD_OTHER && p->seen & 1u << p->field)
		return st_fail(p, "a field twice");
	p->seen |= 1u << p->field;
	return 1;
}

static int st_open_bracket(struct st_parse *p)
{
	if (++p->skip > DEPTH_MAX)
		return st_fail(p, "nested deeper than 128");
	return 1;
}

static int st_start_map(void *ctx)
{
	struct st_parse *p = ctx;

	if (p->skip || (p->state == ST_TENSOR && p->field == FIELD_OTHER))
		return st_open_bracket(p);
	switch (p->state) {
	case ST_ROOT:
		p->state = ST_TOP;
		return 1;
	case ST_TOP:
		if (p->key_is_metadata) {
			p->state = ST_METADATA;
			return 1;
		}
		p->state = ST_TENSOR;
		p->field = FIELD_NONE;
		p->seen = 0;
		p->nr_dims = 0;
		p->nr_offsets = 0;
		return 1;
	case ST_METADATA:
		return st_fail(p, "__metadata__ holds something else than strings");
	default:
		return st_fail(p, "a map where another value belongs");
	}
}

static int st_start_array(void *ctx)
{
	struct st_parse *p = ctx;

	if (p->skip || (p->state == ST_TENSOR && p->field == FIELD_OTHER))
		return st_open_bracket(p);
	if (p->state == ST_TENSOR && p->field == FIELD_SHAPE)
		p->state = ST_SHAPE;
	else if (p->state == ST_TENSOR && p->field == FIELD_OFFSETS)
		p->state = ST_OFFSETS;
	else
		return st_fail(p, "an array where another value belongs");
	return 1;
}

static int st_end_array(void *ctx)
{
	struct st_parse *p = ctx;

	if (p->skip) {
		p->skip--;
		return 1;
	}
	if (p->state == ST_OFFSETS && p->nr_offsets != 2)
		return st_fail(p, "data_offsets are not two numbers");
	p->state = ST_TENSOR;
	return 1;
}

static int st_end_tensor(struct st_parse *p)
{
	struct penstock_index_tensor *t;
	struct st_unknown *u;

	if (!(p->seen & 1u << FIELD_DTYPE))
		return st_fail(p, "no dtype");
	if (!(p->seen & 1u << FIELD_SHAPE))
		return st_fail(p, "no shape");
	if (!(p->seen & 1u << FIELD_OFFSETS))
		return st_fail(p, "no data_offsets");
	t = penstock_index_add_tensor(p->b);
	if (!t || penstock_index_set_dims(p->b, t, p->dims, p->nr_dims)) {
		p->rc = p->b->err ? p->b->err->code : -ENOMEM;
		return 0;
	}
	t->name = p->name;
	t->file = (uint16_t)p->file;
	t->dtype = (uint8_t)p->dtype;
	/* the end, until st_check() has seen all of them */
	t->off = p->offsets[0];
	t->bytes = p->offsets[1];
	if (p->dtype == PENSTOCK_DTYPE_NONE) {
		u = penstock_index_alloc(&p->arena, sizeof(*u));
		if (!u)
			return st_nomem(p);
		u->tensor = p->b->ix->nr_tensors - 1;
		u->dtype = p->dtype_name;
		u->next = p->unknown;
		p->unknown = u;
	}
	p->name = NULL;
	return 1;
}

static int st_end_map(void *ctx)
{
	struct st_parse *p = ctx;

	if (p->skip) {
		p->skip--;
		return 1;
	}
	switch (p->state) {
	case ST_METADATA:
		p->state = ST_TOP;
		return 1;
	case ST_TENSOR:
		p->state = ST_TOP;
		return st_end_tensor(p);
	default:
		p->state = ST_END;
		return 1;
	}
}

static const yajl_callbacks st_callbacks = {
	.yajl_null = st_null, .yajl_boolean = st_boolean, .yajl_number = st_number, .yajl_string = st_string,
	.yajl_start_map = st_start_map, .yajl_map_key = st_key, .yajl_end_map = st_end_map,
	.yajl_start_array = st_start_array, .yajl_end_array = st_end_array,
};

static const char *st_dtype_name(const struct st_parse *p, uint32_t tensor)
{
	const struct st_unknown *u;

	for (u = p->unknown; u; u = u->next)
		if (u->tensor == tensor)
			return u->dtype;
	return penstock_index_dtype_name(p->b->ix->tensors[tensor].dtype);
}

/* Does a tensor's type and shape give the bytes between its offsets? */
static int st_check_size(struct st_parse *p, uint32_t nr, uint64_t bytes)
{
	struct penstock_index_tensor *t = &p->b->ix->tensors[nr];
	const uint64_t *dims = penstock_index_tensor_dims(t);
	const struct penstock_dtype_info *info = t->dtype ? penstock_dtype_info(t->dtype) : NULL;
	uint64_t elems, bits, have;
	char shape[200];

	penstock_index_shape(dims, t->nr_dims, shape, sizeof(shape));
	if (penstock_index_elems(dims, t->nr_dims, &elems))
		return penstock_err(p->b->err, -EBADMSG,
				    "ValidationOverflow: %s: %s: shape %s has more than 2^64 elements", p->path,
				    t->name, shape);
	if (!info) {
		if (!penstock_mul_overflows(bytes, 8, &have) && (elems ? have % elems == 0 : !bytes))
			return 0;
		return penstock_err(
			p->b->err, -EBADMSG,
			"TensorInvalidInfo: %s: %s: type %s is unknown, and %llu bytes for shape %s do not tell its size",
			p->path, t->name, st_dtype_name(p, nr), (unsigned long long)bytes, shape);
	}
	if (penstock_mul_overflows(elems, info->bytes * 8u / info->elems, &bits))
		return penstock_err(p->b->err, -EBADMSG, "ValidationOverflow: %s: %s: %s %s has more than 2^64 bits",
				    p->path, t->name, info->name, shape);
	if (bits % 8)
		return penstock_err(p->b->err, -EBADMSG, "MisalignedSlice: %s: %s: %s %s is no whole number of bytes",
				    p->path, t->name, info->name, shape);
	if (bits / 8 != bytes)
		return penstock_err(p->b->err, -EBADMSG,
				    "TensorInvalidInfo: %s: %s: %s %s takes %llu bytes, its offsets say %llu",
				    p->path, t->name, info->name, shape, (unsigned long long)(bits / 8),
				    (unsigned long long)bytes);
	return 0;
}

static int by_offset(const void *a, const void *b, void *ctx)
{
	const struct penstock_index_tensor *t = ctx;
	const struct penstock_index_tensor *x = &t[*(const uint32_t *)a], *y = &t[*(const uint32_t *)b];

	if (x->off != y->off)
		return x->off < y->off ? -1 : 1;
	if (x->bytes != y->bytes)
		return x->bytes < y->bytes ? -1 : 1;
	return 0;
}

/* Check all tensors of the file in order of offset; off and bytes get their meaning. */
static int st_check(struct st_parse *p, uint64_t header)
{
	struct penstock_index *ix = p->b->ix;
	uint64_t size = ix->store.files[p->file].size, at = 0, end;
	uint32_t nr = ix->nr_tensors - p->first, i;
	struct penstock_index_tensor *t;
	uint32_t *order;
	int rc = 0;

	order = malloc(((size_t)nr + 1) * sizeof(*order));
	if (!order)
		return penstock_index_nomem(p->b);
	for (i = 0; i < nr; i++)
		order[i] = p->first + i;
	for (i = 1; i < nr && by_offset(&order[i - 1], &order[i], ix->tensors) <= 0; i++)
		;
	if (i < nr)
		qsort_r(order, nr, sizeof(*order), by_offset, ix->tensors);
	for (i = 0; i < nr && !rc; i++) {
		t = &ix->tensors[order[i]];
		if (t->off != at || t->bytes < t->off) {
			rc = penstock_err(p->b->err, -EBADMSG,
					  "InvalidOffset: %s: %s: offsets %llu to %llu, the next byte is %llu", p->path,
					  t->name, (unsigned long long)t->off, (unsigned long long)t->bytes,
					  (unsigned long long)at);
			break;
		}
		end = t->bytes;
		rc = st_check_size(p, order[i], end - at);
		t->off = at + 8 + header;
		t->bytes = end - at;
		at = end;
	}
	free(order);
	if (rc)
		return rc;
	/* header is bounded, so that this cannot wrap unless at is near 2^64 */
	if (penstock_add_overflows(at, 8 + header, &end) || end > size)
		return penstock_err(
			p->b->err, -ENODATA,
			"MetadataIncompleteBuffer: %s has %llu bytes, its header says %llu: %llu are missing", p->path,
			(unsigned long long)size, (unsigned long long)end, (unsigned long long)(end - size));
	if (end < size)
		return penstock_err(p->b->err, -EBADMSG,
				    "MetadataIncompleteBuffer: %s has %llu bytes, its header says %llu: %llu too many",
				    p->path, (unsigned long long)size, (unsigned long long)end,
				    (unsigned long long)(size - end));
	return 0;
}

static int st_header(struct st_parse *p, const char *text, uint64_t len)
{
	yajl_status st;
	yajl_handle h;
	size_t at;

	at = penstock_index_utf8_valid((const unsigned char *)text, len);
	if (at < len)
		return penstock_err(p->b->err, -EBADMSG, "InvalidHeader: %s: no UTF-8 at byte %zu of the header",
				    p->path, at);
	if (len && text[0] != '{')
		return penstock_err(p->b->err, -EBADMSG,
				    "InvalidHeaderStart: %s: the header starts with 0x%02x, not with {", p->path,
				    (unsigned char)text[0]);
	if (memchr(text, '\\', len) && !penstock_index_escapes_valid((const unsigned char *)text, len))
		return penstock_err(p->b->err, -EBADMSG,
				    "InvalidHeaderDeserialization: %s: half a surrogate pair or a NUL in a string",
				    p->path);
	h = yajl_alloc(&st_callbacks, NULL, p);
	if (!h)
		return penstock_index_nomem(p->b);
	yajl_config(h, yajl_dont_validate_strings, 1);
	st = yajl_parse(h, (const unsigned char *)text, len);
	at = yajl_get_bytes_consumed(h);
	if (st == yajl_status_ok)
		st = yajl_complete_parse(h);
	yajl_free(h);
	if (p->rc)
		return p->rc;
	if (st != yajl_status_ok || p->state != ST_END)
		return penstock_err(p->b->err, -EBADMSG,
				    "InvalidHeaderDeserialization: %s: not JSON at byte %zu of %llu", p->path, at,
				    (unsigned long long)len);
	return 0;
}

int penstock_index_st_file(struct penstock_index_build *b, uint32_t file)
{
	struct penstock_index *ix = b->ix;
	struct st_parse p = { .b = b, .file = file, .first = ix->nr_tensors, .path = ix->store.files[file].path };
	uint64_t size = ix->store.files[file].size, len;
	char *text;
	int rc;

	if (size < 8)
		return penstock_err(b->err, -EBADMSG, "HeaderTooSmall: %s has %llu bytes, a header takes 8", p.path,
				    (unsigned long long)size);
	rc = penstock_store_pread(&ix->store, file, 0, &len, 8, b->err);
	if (rc)
		return rc;
	len = le64toh(len);
	if (len > PENSTOCK_INDEX_HEADER_MAX)
		return penstock_err(b->err, -EBADMSG,
				    "HeaderTooLarge: %s: header of %llu bytes, at most %u are allowed", p.path,
				    (unsigned long long)len, PENSTOCK_INDEX_HEADER_MAX);
	if (len > size - 8)
		return penstock_err(b->err, -ENODATA, "InvalidHeaderLength: %s has %llu bytes, its header alone %llu",
				    p.path, (unsigned long long)size, (unsigned long long)len + 8);
	text = malloc(len + 1);
	if (!text)
		return penstock_index_nomem(b);
	rc = penstock_store_pread(&ix->store, file, 8, text, len, b->err);
	if (!rc)
		rc = st_header(&p, text, len);
	free(text);
	if (!rc)
		rc = st_check(&p, len);
	penstock_index_arena_free(&p.arena);
	return rc;
}
