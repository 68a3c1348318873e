/* SPDX-License-Identifier: MIT */
/*
 * Writers of small checkpoints for tests: safetensors and GGUF files whose payload
 * is a hole, folders under $TMPDIR or /var/tmp, and what is expected of them.
 */
#ifndef PENSTOCK_TESTS_INDEX_FILES_H
#define PENSTOCK_TESTS_INDEX_FILES_H

#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <sys/stat.h>

#include "harness.h"
#include "index.h"

#define UNUSED __attribute__((unused))

/* ---- bytes ---- */

struct bytes {
	char *p;
	size_t len;
	size_t cap;
};

static UNUSED void bytes_add(struct bytes *b, const void *p, size_t len)
{
	if (b->len + len > b->cap) {
		b->cap = (b->len + len) * 2 + 256;
		b->p = realloc(b->p, b->cap);
		ASSERT_TRUE(b->p);
	}
	if (len)
		memcpy(b->p + b->len, p, len);
	b->len += len;
}

static UNUSED __attribute__((format(printf, 2, 3))) void bytes_printf(struct bytes *b, const char *fmt, ...)
{
	va_list ap;
	char *s;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	ASSERT_TRUE(n >= 0);
	bytes_add(b, s, (size_t)n);
	free(s);
}

static UNUSED void bytes_free(struct bytes *b)
{
	free(b->p);
	memset(b, 0, sizeof(*b));
}

/* ---- folders and files ---- */

static UNUSED void tmp_make(char dir[256])
{
	const char *base = getenv("TMPDIR");

	snprintf(dir, 256, "%s/penstock-index-XXXXXX", base && *base ? base : "/var/tmp");
	ASSERT_TRUE(mkdtemp(dir));
}

static UNUSED int tmp_unlink(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static UNUSED void tmp_remove(const char *dir)
{
	nftw(dir, tmp_unlink, 8, FTW_DEPTH | FTW_PHYS);
}

static UNUSED const char *path_in(const char *dir, const char *name)
{
	static char paths[4][512];
	static unsigned int at;
	char *p = paths[at++ % 4];

	snprintf(p, sizeof(paths[0]), "%s/%s", dir, name);
	return p;
}

/* Write @len bytes, and make the file @size bytes long. */
static UNUSED void file_write(const char *path, const void *p, size_t len, uint64_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ASSERT_GE(fd, 0);
	ASSERT_EQ((ssize_t)len, write(fd, p, len));
	ASSERT_EQ(0, ftruncate(fd, (off_t)size));
	ASSERT_EQ(0, close(fd));
}

static UNUSED void text_write(const char *path, const char *text)
{
	file_write(path, text, strlen(text), strlen(text));
}

/* ---- safetensors ---- */

struct st_file {
	struct bytes header;
	uint64_t off;		/* payload so far */
};

/* Add a tensor; @dims ends with -1. Its payload is @size bytes. */
static UNUSED void st_add_sized(struct st_file *f, const char *name, const char *dtype, const long *dims, uint64_t size)
{
	uint32_t i;

	bytes_printf(&f->header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", f->header.len ? "," : "{", name, dtype);
	for (i = 0; dims[i] >= 0; i++)
		bytes_printf(&f->header, "%s%ld", i ? "," : "", dims[i]);
	bytes_printf(&f->header, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)f->off,
		     (unsigned long long)(f->off + size));
	f->off += size;
}

static UNUSED uint32_t st_bits(const char *dtype)
{
	if (!strcmp(dtype, "F4"))
		return 4;
	return strstr(dtype, "64") ? 64 : strstr(dtype, "32") ? 32 : strstr(dtype, "16") ? 16 : 8;
}

#define ST(f, name, dtype, ...) st_add(f, name, dtype, (const long[]){ __VA_OPT__(__VA_ARGS__,) -1 })

static UNUSED void st_add(struct st_file *f, const char *name, const char *dtype, const long *dims)
{
	uint64_t n = 1;
	uint32_t i;

	for (i = 0; dims[i] >= 0; i++)
		n *= (uint64_t)dims[i];
	st_add_sized(f, name, dtype, dims, n * st_bits(dtype) / 8);
}

/* As ST(), the name made from @fmt by the caller's numbers. */
#define STF(f, dtype, dims, ...) do { char stf_[256]; snprintf(stf_, sizeof(stf_), __VA_ARGS__); \
	st_add(f, stf_, dtype, dims); } while (0)
#define DIMS(...) ((const long[]){ __VA_OPT__(__VA_ARGS__,) -1 })

/* Write the file and forget the tensors. */
static UNUSED void st_write(struct st_file *f, const char *path)
{
	struct bytes out = { 0 };
	uint64_t len;

	bytes_printf(&f->header, "%s}", f->header.len ? "" : "{");
	while (f->header.len % 8)
		bytes_printf(&f->header, " ");
	len = f->header.len;
	bytes_add(&out, &len, 8);
	bytes_add(&out, f->header.p, f->header.len);
	file_write(path, out.p, out.len, out.len + f->off);
	bytes_free(&out);
	bytes_free(&f->header);
	f->off = 0;
}

/* A file from a header's text and a payload of zeros. */
static UNUSED void st_raw(const char *path, const char *header, uint64_t payload)
{
	uint64_t len = strlen(header);
	struct bytes out = { 0 };

	bytes_add(&out, &len, 8);
	bytes_add(&out, header, len);
	file_write(path, out.p, out.len, out.len + payload);
	bytes_free(&out);
}

/* ---- GGUF ---- */

enum { GG_U8 = 0, GG_I8, GG_U16, GG_I16, GG_U32, GG_I32, GG_F32, GG_BOOL, GG_STRING, GG_ARRAY, GG_U64, GG_I64, GG_F64 };
enum { GG_TYPE_F32 = 0, GG_TYPE_F16 = 1, GG_TYPE_Q4_0 = 2, GG_TYPE_Q5_0 = 6, GG_TYPE_Q8_0 = 8, GG_TYPE_Q4_K = 12,
       GG_TYPE_BF16 = 30, GG_TYPE_MXFP4 = 39 };

struct gg_file {
	struct bytes pairs;
	struct bytes tensors;
	uint64_t nr_pairs;
	uint64_t nr_tensors;
	uint64_t off;
	uint32_t align;		/* 0: the default, 32 */
};

static UNUSED void gg_str(struct bytes *b, const char *s)
{
	uint64_t len = strlen(s);

	bytes_add(b, &len, 8);
	bytes_add(b, s, len);
}

static UNUSED void gg_pair(struct gg_file *g, const char *key, uint32_t type, const void *p, size_t len)
{
	gg_str(&g->pairs, key);
	bytes_add(&g->pairs, &type, 4);
	bytes_add(&g->pairs, p, len);
	g->nr_pairs++;
}

static UNUSED void gg_u32(struct gg_file *g, const char *key, uint32_t v)
{
	gg_pair(g, key, GG_U32, &v, 4);
}

static UNUSED void gg_f32(struct gg_file *g, const char *key, float v)
{
	gg_pair(g, key, GG_F32, &v, 4);
}

static UNUSED void gg_bool(struct gg_file *g, const char *key, uint8_t v)
{
	gg_pair(g, key, GG_BOOL, &v, 1);
}

static UNUSED void gg_string(struct gg_file *g, const char *key, const char *v)
{
	struct bytes b = { 0 };

	gg_str(&b, v);
	gg_pair(g, key, GG_STRING, b.p, b.len);
	bytes_free(&b);
}

/* Keys of an architecture: "arch.key". */
static UNUSED void gg_arch_u32(struct gg_file *g, const char *arch, const char *key, uint32_t v)
{
	char full[128];

	snprintf(full, sizeof(full), "%s.%s", arch, key);
	gg_u32(g, full, v);
}

/* Add a tensor's line as it is in the file: @ne innermost first. */
static UNUSED void gg_tensor_raw(struct gg_file *g, const char *name, uint32_t nr, const uint64_t *ne, uint32_t type,
				 uint64_t off)
{
	gg_str(&g->tensors, name);
	bytes_add(&g->tensors, &nr, 4);
	bytes_add(&g->tensors, ne, nr * 8);
	bytes_add(&g->tensors, &type, 4);
	bytes_add(&g->tensors, &off, 8);
	g->nr_tensors++;
}

#define GG(g, name, type, ...) gg_tensor(g, name, type, (const long[]){ __VA_OPT__(__VA_ARGS__,) -1 })
#define GGF(g, type, dims, ...) do { char ggf_[256]; snprintf(ggf_, sizeof(ggf_), __VA_ARGS__); \
	gg_tensor(g, ggf_, type, dims); } while (0)

/* Add a tensor at the next aligned offset; @dims outermost first, ends with -1. */
static UNUSED void gg_tensor(struct gg_file *g, const char *name, uint32_t type, const long *dims)
{
	uint32_t nr = 0, i, block = 1, bytes = 4, align = g->align ? g->align : 32;
	uint64_t ne[8], n = 1;

	switch (type) {
	case GG_TYPE_F16: case GG_TYPE_BF16: bytes = 2; break;
	case GG_TYPE_Q4_0: block = 32, bytes = 18; break;
	case GG_TYPE_Q5_0: block = 32, bytes = 22; break;
	case GG_TYPE_Q8_0: block = 32, bytes = 34; break;
	case GG_TYPE_Q4_K: block = 256, bytes = 144; break;
	case GG_TYPE_MXFP4: block = 32, bytes = 17; break;
	}
	while (dims[nr] >= 0)
		nr++;
	for (i = 0; i < nr; i++) {
		ne[i] = (uint64_t)dims[nr - 1 - i];
		n *= ne[i];
	}
	gg_tensor_raw(g, name, nr, ne, type, g->off);
	g->off += n / block * bytes;
	g->off = (g->off + align - 1) / align * align;
}

/* Write the file and forget its contents. */
static UNUSED void gg_write_as(struct gg_file *g, const char *path, const char *magic, uint32_t version)
{
	uint32_t align = g->align ? g->align : 32;
	struct bytes out = { 0 };
	uint64_t data;

	bytes_add(&out, magic, 4);
	bytes_add(&out, &version, 4);
	bytes_add(&out, &g->nr_tensors, 8);
	bytes_add(&out, &g->nr_pairs, 8);
	bytes_add(&out, g->pairs.p, g->pairs.len);
	bytes_add(&out, g->tensors.p, g->tensors.len);
	data = (out.len + align - 1) / align * align;
	file_write(path, out.p, out.len, g->nr_tensors ? data + g->off : out.len);
	bytes_free(&out);
	bytes_free(&g->pairs);
	bytes_free(&g->tensors);
	memset(g, 0, sizeof(*g));
}

static UNUSED void gg_write(struct gg_file *g, const char *path)
{
	gg_write_as(g, path, "GGUF", 3);
}

/* ---- expectations ---- */

/* The file is refused with the code @expected, and the text has @part in it. */
#define EXPECT_REFUSED(path, expected, part) do {			\
	struct penstock_error err_ = { 0 };				\
	struct penstock_index *ix_ = NULL;				\
	EXPECT_EQ(expected, penstock_index_open(path, &ix_, &err_));	\
	EXPECT_EQ(expected, err_.code);					\
	EXPECT_HAS(err_.text, part);					\
	EXPECT_TRUE(!ix_);						\
	penstock_index_close(ix_);					\
} while (0)

/* The file opens; the test goes on with the index. */
static UNUSED struct penstock_index *open_good(const char *path)
{
	struct penstock_error err = { 0 };
	struct penstock_index *ix = NULL;
	int rc = penstock_index_open(path, &ix, &err);

	if (rc)
		TEST_FAIL_(1, "%s: %d %s", path, rc, err.text);
	return ix;
}

static UNUSED const struct penstock_index_tensor *tensor(const struct penstock_index *ix, const char *name)
{
	int64_t nr = penstock_index_find(ix, name);

	if (nr < 0)
		TEST_FAIL_(1, "no tensor %s", name);
	return &ix->tensors[nr];
}

/* The name of a numbered tensor, for comparing; "-" for none */
static UNUSED const char *name_of(const struct penstock_index *ix, uint32_t nr)
{
	return nr == PENSTOCK_NO_TENSOR ? "-" : ix->tensors[nr].name;
}

#endif
