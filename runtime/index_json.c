// SPDX-License-Identifier: MIT
/*
 * JSON beside the tensors: config.json is flattened into metadata.
 * Files are read whole (they are bounded) and parsed as events, so that no document
 * tree is ever built.
 */
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yajl/yajl_parse.h>

#include "index_build.h"

/* Nesting that is followed; serde_json, and so the safetensors library, stops at 128 too. */
#define DEPTH_MAX	128
#define PATH_MAX_LEN	1024

int penstock_index_read_whole(const char *path, char **text, size_t *len, struct penstock_error *err)
{
	struct stat st;
	size_t done = 0;
	ssize_t n = 0;
	char *buf;
	int fd, rc;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return penstock_err(err, -errno, "open %s", path);
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		close(fd);
		return penstock_err(err, -EINVAL, "%s is not a regular file", path);
	}
	if ((uint64_t)st.st_size > PENSTOCK_INDEX_HEADER_MAX) {
		close(fd);
		return penstock_err(err, -EBADMSG, "%s: %lld bytes of JSON, at most %u are read", path,
				    (long long)st.st_size, PENSTOCK_INDEX_HEADER_MAX);
	}
	buf = malloc((size_t)st.st_size + 1);
	if (!buf) {
		close(fd);
		return penstock_err(err, -ENOMEM, "%lld bytes for %s", (long long)st.st_size, path);
	}
	while (done < (size_t)st.st_size) {
		n = pread(fd, buf + done, (size_t)st.st_size - done, (off_t)done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	rc = n < 0 ? -errno : -ENODATA;
	close(fd);
	if (done < (size_t)st.st_size) {
		free(buf);
		return penstock_err(err, rc, "read %s: %zu of %lld bytes", path, done, (long long)st.st_size);
	}
	buf[done] = 0;
	*text = buf;
	*len = done;
	return 0;
}

size_t penstock_index_utf8_valid(const unsigned char *s, size_t len)
{
	size_t i = 0, k, n;
	uint64_t word;
	uint32_t c;

	while (i < len) {
		if (len - i >= 8) {
			memcpy(&word, s + i, 8);
			if (!(word & 0x8080808080808080ull)) {
				i += 8;
				continue;
			}
		}
		if (s[i] < 0x80) {
			i++;
			continue;
		}
		n = s[i] >= 0xf0 ? 3 : s[i] >= 0xe0 ? 2 : 1;
		if (s[i] < 0xc2 || s[i] > 0xf4 || len - i <= n)
			return i;
		c = s[i] & (0x3fu >> n);
		for (k = 1; k <= n; k++) {
			if ((s[i + k] & 0xc0) != 0x80)
				return i;
			c = c << 6 | (s[i + k] & 0x3f);
		}
		if ((n == 2 && (c < 0x800 || (c >= 0xd800 && c < 0xe000))) || (n == 3 && (c < 0x10000 || c > 0x10ffff)))
			return i;
		i += n + 1;
	}
	return len;
}

static int hex4(const unsigned char *s, uint32_t *v)
{
	uint32_t n = 0, i;

	for (i = 0; i < 4; i++) {
		unsigned int c = s[i] | 0x20u;

		if (c >= '0' && c <= '9')
			n = n << 4 | (c - '0');
		else if (c >= 'a' && c <= 'f')
			n = n << 4 | (c - 'a' + 10);
		else
			return -EINVAL;
	}
	*v = n;
	return 0;
}

bool penstock_index_escapes_valid(const unsigned char *s, size_t len)
{
	uint32_t c, low;
	size_t i;

	for (i = 0; i + 1 < len; i++) {
		if (s[i] != '\\')
			continue;
		if (s[++i] != 'u')
			continue;
		if (len - i < 5 || hex4(s + i + 1, &c) || !c)
			return false;
		i += 4;
		if (c < 0xd800 || c >= 0xe000)
			continue;
		if (c >= 0xdc00 || len - i < 7 || s[i + 1] != '\\' || s[i + 2] != 'u' || hex4(s + i + 3, &low) ||
		    low < 0xdc00 || low >= 0xe000)
			return false;
		i += 6;
	}
	return true;
}

int penstock_index_u64(const char *s, size_t len, uint64_t *v)
{
	uint64_t n = 0;
	size_t i;

	if (!len || (len > 1 && s[0] == '0'))
		return -EINVAL;
	for (i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return -EINVAL;
		if (penstock_mul_overflows(n, 10, &n) || penstock_add_overflows(n, (uint64_t)(s[i] - '0'), &n))
			return -ERANGE;
	}
	*v = n;
	return 0;
}

/* ---- config.json ---- */

struct conf {
	struct penstock_index_build *b;
	const char *file;
	locale_t c_locale;
	int rc;
	uint32_t depth;			/* open maps */
	uint16_t base[DEPTH_MAX];	/* path length at each */
	char path[PATH_MAX_LEN];
	size_t path_len;
	uint32_t skip;			/* open maps and arrays inside an array: not recorded */
	bool in_array;
	bool mixed;			/* this array holds something that has no form in the metadata */
	double *numbers;
	const char **strings;
	uint64_t nr_numbers, cap_numbers;
	uint64_t nr_strings, cap_strings;
};

static int conf_fail(struct conf *c, int rc)
{
	c->rc = rc;
	return 0;
}

static int conf_no_object(struct conf *c)
{
	return conf_fail(c, penstock_err(c->b->err, -EBADMSG, "%s: not a JSON object", c->file));
}

static int conf_add(struct conf *c, const struct penstock_meta *m)
{
	int rc;

	if (!c->depth)
		return conf_no_object(c);
	rc = penstock_index_add_meta(c->b, c->path, c->path_len, m);
	return rc ? conf_fail(c, rc) : 1;
}

/* Room for one more element of @size bytes. */
static int conf_room(struct conf *c, void *array, uint64_t nr, uint64_t *cap, size_t size)
{
	void **p = array;
	uint64_t want;
	void *mem;

	if (nr < *cap)
		return 0;
	want = *cap ? *cap * 2 : 64;
	mem = reallocarray(*p, want, size);
	if (!mem)
		return penstock_index_nomem(c->b);
	*p = mem;
	*cap = want;
	return 0;
}

static int conf_number_value(struct conf *c, double v, uint32_t type)
{
	struct penstock_meta m = { .type = type, .nr = 1, .number = v };
	int rc;

	if (c->skip)
		return 1;
	if (!c->in_array)
		return conf_add(c, &m);
	rc = conf_room(c, &c->numbers, c->nr_numbers, &c->cap_numbers, sizeof(double));
	if (rc)
		return conf_fail(c, rc);
	c->numbers[c->nr_numbers++] = v;
	return 1;
}

/* A key without a value is a key that is not there. */
static int conf_null(void *ctx)
{
	struct conf *c = ctx;

	if (!c->depth)
		return conf_no_object(c);
	if (c->in_array)
		c->mixed = true;
	return 1;
}

static int conf_boolean(void *ctx, int v)
{
	return conf_number_value(ctx, !!v, PENSTOCK_META_BOOL);
}

static int conf_number(void *ctx, const char *s, size_t len)
{
	struct conf *c = ctx;
	char buf[512];

	if (len >= sizeof(buf))
		return conf_fail(c, penstock_err(c->b->err, -EBADMSG, "%s: key %s: a number of %zu digits", c->file,
						 c->path, len));
	memcpy(buf, s, len);
	buf[len] = 0;
	return conf_number_value(c, strtod_l(buf, NULL, c->c_locale), PENSTOCK_META_NUMBER);
}

static int conf_string(void *ctx, const unsigned char *s, size_t len)
{
	struct penstock_meta m = { .type = PENSTOCK_META_STRING, .nr = 1 };
	struct conf *c = ctx;
	int rc;

	if (c->skip)
		return 1;
	m.string = penstock_index_strdup(&c->b->ix->arena, (const char *)s, len);
	if (!m.string)
		return conf_fail(c, penstock_index_nomem(c->b));
	if (!c->in_array)
		return conf_add(c, &m);
	rc = conf_room(c, &c->strings, c->nr_strings, &c->cap_strings, sizeof(char *));
	if (rc)
		return conf_fail(c, rc);
	c->strings[c->nr_strings++] = m.string;
	return 1;
}

static int conf_key(void *ctx, const unsigned char *key, size_t len)
{
	struct conf *c = ctx;
	size_t base;

	if (c->in_array)
		return 1;
	base = c->base[c->depth - 1];
	if (base + len + 2 > sizeof(c->path))
		return conf_fail(c, penstock_err(c->b->err, -EBADMSG, "%s: a key of %zu bytes below %.*s", c->file,
						 len, (int)base, c->path));
	if (base)
		c->path[base++] = '.';
	memcpy(c->path + base, key, len);
	c->path_len = base + len;
	c->path[c->path_len] = 0;
	return 1;
}

static int conf_start_map(void *ctx)
{
	struct conf *c = ctx;

	if (c->in_array) {
		c->mixed = true;
		c->skip++;
		return 1;
	}
	if (c->depth == DEPTH_MAX)
		return conf_fail(c, penstock_err(c->b->err, -EBADMSG, "%s: nested deeper than %d", c->file, DEPTH_MAX));
	c->base[c->depth++] = (uint16_t)c->path_len;
	return 1;
}

static int conf_end_map(void *ctx)
{
	struct conf *c = ctx;

	if (c->in_array) {
		c->skip--;
		return 1;
	}
	c->path_len = c->base[--c->depth];
	return 1;
}

static int conf_start_array(void *ctx)
{
	struct conf *c = ctx;

	if (!c->depth)
		return conf_no_object(c);
	if (c->in_array) {
		c->mixed = true;
		c->skip++;
		return 1;
	}
	c->in_array = true;
	c->mixed = false;
	c->nr_numbers = 0;
	c->nr_strings = 0;
	return 1;
}

static int conf_end_array(void *ctx)
{
	struct penstock_meta m = { .type = PENSTOCK_META_NUMBERS };
	struct conf *c = ctx;
	size_t size;
	void *copy;

	if (c->skip) {
		c->skip--;
		return 1;
	}
	c->in_array = false;
	if (c->mixed || (c->nr_numbers && c->nr_strings))
		return 1;
	m.nr = c->nr_numbers + c->nr_strings;
	size = m.nr * (c->nr_strings ? sizeof(char *) : sizeof(double));
	copy = penstock_index_alloc(&c->b->ix->arena, size);
	if (!copy)
		return conf_fail(c, penstock_index_nomem(c->b));
	if (c->nr_strings) {
		m.type = PENSTOCK_META_STRINGS;
		memcpy(copy, c->strings, size);
		m.strings = copy;
	} else {
		if (size)
			memcpy(copy, c->numbers, size);
		m.numbers = copy;
	}
	return conf_add(c, &m);
}

static const yajl_callbacks conf_callbacks = {
	.yajl_null = conf_null, .yajl_boolean = conf_boolean, .yajl_number = conf_number,
	.yajl_string = conf_string, .yajl_start_map = conf_start_map, .yajl_map_key = conf_key,
	.yajl_end_map = conf_end_map, .yajl_start_array = conf_start_array, .yajl_end_array = conf_end_array,
};

int penstock_index_json(struct penstock_error *err, const char *path, const void *callbacks, void *ctx,
			int *rc, const char *text, size_t len)
{
	yajl_handle h = yajl_alloc(callbacks, NULL, ctx);
	yajl_status st;
	size_t at;

	if (!h)
		return penstock_err(err, -ENOMEM, "JSON parser for %s", path);
	st = yajl_parse(h, (const unsigned char *)text, len);
	at = yajl_get_bytes_consumed(h);
	if (st == yajl_status_ok)
		st = yajl_complete_parse(h);
	yajl_free(h);
	if (*rc)
		return *rc;
	if (st != yajl_status_ok)
		return penstock_err(err, -EBADMSG, "%s: not JSON at byte %zu of %zu", path, at, len);
	return 0;
}

int penstock_index_config(struct penstock_index_build *b, const char *path)
{
	struct conf *c;
	size_t len;
	char *text;
	int rc;

	if (b->tables_only || access(path, F_OK))
		return 0;
	rc = penstock_index_read_whole(path, &text, &len, b->err);
	if (rc)
		return rc;
	c = calloc(1, sizeof(*c));
	if (!c) {
		free(text);
		return penstock_index_nomem(b);
	}
	c->b = b;
	c->file = path;
	c->c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	if (c->c_locale)
		rc = penstock_index_json(b->err, path, &conf_callbacks, c, &c->rc, text, len);
	else
		rc = penstock_index_nomem(b);
	if (c->c_locale)
		freelocale(c->c_locale);
	free(c->numbers);
	free(c->strings);
	free(c);
	free(text);
	return rc;
}
