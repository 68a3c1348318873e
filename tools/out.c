// SPDX-License-Identifier: MIT
/*
 * The emitter: see out.h. Everything is gathered in memory and written by
 * out_end(), so that a command that fails half-way leaves no half object on
 * stdout. In the text form the lines of a block ("label  value") are held back
 * until the block ends, and the cells of a table until the table ends, since
 * only then are their widths known. A failure to allocate, or calls that do not
 * nest, are remembered and reported by out_end().
 *
 * Strings may come from a file: JSON replaces what is not UTF-8 by U+FFFD, and
 * text shows control characters as \xNN, so that no file name can drive a terminal.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "out.h"

#define OUT_DEPTH	16
#define OUT_COLUMNS	48

struct buf {
	char *p;
	size_t len;
	size_t room;
};

/* A line of a block, or a cell of a table: offsets into the pool of strings. */
struct cell {
	size_t label;
	size_t value;
	bool right;	/* a number: aligned to the right in a table */
	bool first;	/* of its row */
};

enum level { LEVEL_OBJ, LEVEL_ROWS, LEVEL_ROW };

struct out {
	bool json;
	int err;
	struct buf text;	/* the finished part */
	struct buf pool;	/* strings of the cells */
	struct cell *cells;
	size_t nr_cells;
	size_t room_cells;
	bool row_started;
	int depth;
	enum level level[OUT_DEPTH];
	bool used[OUT_DEPTH];	/* the level has a member: JSON needs a comma */
	int table;		/* text: depth of the table being gathered, or -1 */
	int silent;		/* text: depth below which nothing is shown, or -1 */
};

static void fail(struct out *o, int err)
{
	if (!o->err)
		o->err = err;
}

static bool reserve(struct out *o, struct buf *b, size_t more)
{
	size_t room = b->room ? b->room : 4096;
	char *p;

	if (o->err)
		return false;
	if (more <= b->room - b->len)
		return true;
	while (room - b->len < more) {
		if (__builtin_mul_overflow(room, 2, &room)) {
			fail(o, -ENOMEM);
			return false;
		}
	}
	p = realloc(b->p, room);
	if (!p) {
		fail(o, -ENOMEM);
		return false;
	}
	b->p = p;
	b->room = room;
	return true;
}

static void put(struct out *o, struct buf *b, const char *s, size_t len)
{
	if (!reserve(o, b, len + 1))
		return;
	memcpy(b->p + b->len, s, len);
	b->len += len;
	b->p[b->len] = 0;
}

static void puts_to(struct out *o, struct buf *b, const char *s)
{
	put(o, b, s, strlen(s));
}

static void pad(struct out *o, struct buf *b, size_t nr)
{
	while (nr--)
		put(o, b, " ", 1);
}

/* Bytes of the valid UTF-8 sequence at @s, or 0. */
static size_t utf8_len(const unsigned char *s)
{
	size_t len, i;
	uint32_t c;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		len = 2;
	else if ((s[0] & 0xf0) == 0xe0)
		len = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		len = 4;
	else
		return 0;
	c = s[0] & (0xff >> (len + 1));
	for (i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)	/* the terminating NUL stops here too */
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (len == 3 && (c < 0x800 || (c >= 0xd800 && c <= 0xdfff)))
		return 0;
	if (len == 4 && (c < 0x10000 || c > 0x10ffff))
		return 0;
	return len;
}

static void put_json_string(struct out *o, const char *str)
{
	static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
	const unsigned char *s = (const unsigned char *)str;
	const char *esc;
	char hex[8];
	size_t len;

	put(o, &o->text, "\"", 1);
	for (; *s; s += len ? len : 1) {
		len = utf8_len(s);
		esc = strchr(from, *s);
		if (!len) {
			puts_to(o, &o->text, "\xef\xbf\xbd");
		} else if (esc) {
			hex[0] = '\\';
			hex[1] = to[esc - from];
			put(o, &o->text, hex, 2);
		} else if (*s < 0x20 || *s == 0x7f) {
			snprintf(hex, sizeof(hex), "\\u%04x", *s);
			puts_to(o, &o->text, hex);
		} else {
			put(o, &o->text, (const char *)s, len);
		}
	}
	put(o, &o->text, "\"", 1);
}

/* Text form of a string, into the pool; Return: its offset there. */
static size_t pool_string(struct out *o, const char *str)
{
	const unsigned char *s = (const unsigned char *)str;
	size_t at = o->pool.len, len;
	char hex[8];

	for (; *s; s += len ? len : 1) {
		len = utf8_len(s);
		if (!len || *s < 0x20 || *s == 0x7f || (len == 2 && s[0] == 0xc2 && s[1] < 0xa0)) {
			snprintf(hex, sizeof(hex), "\\x%02x", *s);
			puts_to(o, &o->pool, hex);
			len = 1;
		} else {
			put(o, &o->pool, (const char *)s, len);
		}
	}
	put(o, &o->pool, "", 1);
	return at;
}

static size_t width(const char *s)
{
	size_t nr = 0;

	for (; *s; s++)
		nr += (*s & 0xc0) != 0x80;
	return nr;
}

static const char *pooled(const struct out *o, size_t at)
{
	return o->pool.p + at;
}

static void add_cell(struct out *o, const char *label, const char *value, bool right)
{
	size_t room = o->room_cells ? o->room_cells * 2 : 64;
	struct cell *c;

	if (o->err)
		return;
	if (o->nr_cells == o->room_cells) {
		c = reallocarray(o->cells, room, sizeof(*c));
		if (!c) {
			fail(o, -ENOMEM);
			return;
		}
		o->cells = c;
		o->room_cells = room;
	}
	c = &o->cells[o->nr_cells];
	c->label = pool_string(o, label);
	c->value = pool_string(o, value);
	c->right = right;
	c->first = o->row_started;
	o->row_started = false;
	if (!o->err)
		o->nr_cells++;
}

static void forget_cells(struct out *o)
{
	o->nr_cells = 0;
	o->pool.len = 0;
}

/* Objects inside the top level are indented. */
static size_t indent(const struct out *o)
{
	return o->depth > 1 ? 2 * (size_t)(o->depth - 1) : 0;
}

/* The lines gathered so far, their values in one column. */
static void flush_block(struct out *o)
{
	size_t i, w, wide = 0;

	if (o->err || o->table >= 0)
		return;
	for (i = 0; i < o->nr_cells; i++) {
		w = width(pooled(o, o->cells[i].label));
		wide = w > wide ? w : wide;
	}
	for (i = 0; i < o->nr_cells; i++) {
		const char *label = pooled(o, o->cells[i].label);

		pad(o, &o->text, indent(o));
		puts_to(o, &o->text, label);
		pad(o, &o->text, wide - width(label) + 2);
		puts_to(o, &o->text, pooled(o, o->cells[i].value));
		puts_to(o, &o->text, "\n");
	}
	forget_cells(o);
}

static void put_cell(struct out *o, const char *s, size_t wide, bool right, bool last)
{
	size_t gap = wide - width(s);

	if (right)
		pad(o, &o->text, gap);
	puts_to(o, &o->text, s);
	if (!last)
		pad(o, &o->text, (right ? 0 : gap) + 2);
}

/* The number of columns of the row that starts at cell @i. */
static size_t row_columns(const struct out *o, size_t i)
{
	size_t nr = 1;

	while (i + nr < o->nr_cells && !o->cells[i + nr].first)
		nr++;
	return nr;
}

static void flush_table(struct out *o)
{
	size_t wide[OUT_COLUMNS] = { 0 }, nr, i, k, w;
	bool right[OUT_COLUMNS];

	if (o->err || !o->nr_cells)
		return;
	nr = row_columns(o, 0);
	if (nr > OUT_COLUMNS) {
		fail(o, -EINVAL);
		return;
	}
	for (k = 0; k < nr; k++) {
		wide[k] = width(pooled(o, o->cells[k].label));
		right[k] = o->cells[k].right;
	}
	for (i = 0, k = 0; i < o->nr_cells; i++, k++) {
		if (o->cells[i].first)
			k = 0;
		if (k >= nr)
			continue;
		w = width(pooled(o, o->cells[i].value));
		wide[k] = w > wide[k] ? w : wide[k];
	}
	pad(o, &o->text, indent(o));
	for (k = 0; k < nr; k++)
		put_cell(o, pooled(o, o->cells[k].label), wide[k], right[k], k + 1 == nr);
	puts_to(o, &o->text, "\n");
	for (i = 0; i < o->nr_cells; i += row_columns(o, i)) {
		w = row_columns(o, i);
		pad(o, &o->text, indent(o));
		for (k = 0; k < w && k < nr; k++)
			put_cell(o, pooled(o, o->cells[i + k].value), wide[k], right[k], k + 1 == w || k + 1 == nr);
		puts_to(o, &o->text, "\n");
	}
	forget_cells(o);
}

/* A heading after other text is set apart by an empty line. */
static void heading(struct out *o, const char *label)
{
	size_t at;

	if (o->err)
		return;
	if (o->text.len && o->depth <= 1)
		puts_to(o, &o->text, "\n");
	pad(o, &o->text, indent(o));
	at = pool_string(o, label);
	if (o->err)
		return;
	puts_to(o, &o->text, pooled(o, at));
	puts_to(o, &o->text, ":\n");
	o->pool.len = at;
}

/* JSON: comma and key of the next member. False if the member has no key. */
static bool json_key(struct out *o, const char *key)
{
	int d = o->depth - 1;

	if (o->level[d] != LEVEL_ROWS && !key)
		return false;
	if (o->used[d])
		put(o, &o->text, ",", 1);
	o->used[d] = true;
	if (o->level[d] == LEVEL_ROWS)
		return true;
	put_json_string(o, key);
	put(o, &o->text, ":", 1);
	return true;
}

static bool text_wants(const struct out *o, const char *label)
{
	return label && o->silent < 0;
}

/* A single value, already formatted for either form. */
static void value(struct out *o, const char *label, const char *key, const char *json, const char *text, bool right)
{
	if (o->err)
		return;
	if (o->level[o->depth - 1] == LEVEL_ROWS) {	/* a value needs a row around it */
		fail(o, -EINVAL);
		return;
	}
	if (o->json) {
		if (json_key(o, key))
			puts_to(o, &o->text, json);
	} else if (text_wants(o, label)) {
		add_cell(o, label, text, right);
	}
}

static bool push(struct out *o, enum level level)
{
	if (o->err)
		return false;
	if (o->depth == OUT_DEPTH) {
		fail(o, -EINVAL);
		return false;
	}
	o->level[o->depth] = level;
	o->used[o->depth] = false;
	o->depth++;
	return true;
}

static bool pop(struct out *o, enum level level)
{
	if (o->err)
		return false;
	if (o->depth < 2 || o->level[o->depth - 1] != level) {
		fail(o, -EINVAL);
		return false;
	}
	o->depth--;
	return true;
}

struct out *out_begin(const char *schema, bool json)
{
	struct out *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->json = json;
	o->table = -1;
	o->silent = -1;
	push(o, LEVEL_OBJ);
	if (json) {
		put(o, &o->text, "{", 1);
		out_str(o, NULL, "schema", schema);
	}
	return o;
}

int out_end(struct out *o)
{
	size_t at = 0;
	ssize_t n;
	int rc;

	if (o->json)
		puts_to(o, &o->text, "}\n");
	else
		flush_block(o);
	if (o->depth != 1)
		fail(o, -EINVAL);
	/* what the command printed by stdio comes first */
	if (!o->err && fflush(stdout))
		fail(o, -errno);
	while (!o->err && at < o->text.len) {
		n = write(STDOUT_FILENO, o->text.p + at, o->text.len - at);
		if (n >= 0)
			at += (size_t)n;
		else if (errno != EINTR)
			fail(o, -errno);
	}
	rc = o->err;
	free(o->text.p);
	free(o->pool.p);
	free(o->cells);
	free(o);
	return rc;
}

void out_str(struct out *o, const char *label, const char *key, const char *v)
{
	if (!v) {
		out_null(o, label, key);
		return;
	}
	if (o->err)
		return;
	if (o->json) {
		if (o->level[o->depth - 1] == LEVEL_ROWS)
			fail(o, -EINVAL);
		else if (json_key(o, key))
			put_json_string(o, v);
		return;
	}
	value(o, label, key, "", v, false);
}

void out_null(struct out *o, const char *label, const char *key)
{
	value(o, label, key, "null", "-", false);
}

void out_bool(struct out *o, const char *label, const char *key, bool v)
{
	value(o, label, key, v ? "true" : "false", v ? "yes" : "no", false);
}

void out_u64(struct out *o, const char *label, const char *key, uint64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, v);
	value(o, label, key, text, text, true);
}

void out_bytes(struct out *o, const char *label, const char *key, uint64_t v)
{
	char json[24], text[24];

	snprintf(json, sizeof(json), "%" PRIu64, v);
	value(o, label, key, json, out_size_text(v, text, sizeof(text)), true);
}

void out_f64(struct out *o, const char *label, const char *key, double v, int digits, const char *unit)
{
	/* the largest double has 309 digits before the point */
	char json[360], text[400];

	if (!isfinite(v)) {
		value(o, label, key, "null", "-", true);
		return;
	}
	digits = digits < 0 ? 0 : digits > 20 ? 20 : digits;
	snprintf(json, sizeof(json), "%.*f", digits, v);
	snprintf(text, sizeof(text), "%s%s%.24s", json, unit && *unit ? " " : "", unit ? unit : "");
	value(o, label, key, json, text, true);
}

void out_heading(struct out *o, const char *label)
{
	if (o->json || o->err || o->silent >= 0 || o->table >= 0)
		return;
	flush_block(o);
	heading(o, label);
}

void out_obj_begin(struct out *o, const char *label, const char *key)
{
	if (o->err)
		return;
	if (o->json) {
		if (o->level[o->depth - 1] == LEVEL_ROWS || !key)
			fail(o, -EINVAL);
		else if (json_key(o, key))
			put(o, &o->text, "{", 1);
	} else if (o->silent < 0 && !label) {
		o->silent = o->depth;
	} else if (o->silent < 0 && o->table < 0) {
		flush_block(o);
		heading(o, label);
	}
	push(o, LEVEL_OBJ);
}

void out_obj_end(struct out *o)
{
	if (o->json) {
		put(o, &o->text, "}", 1);
		pop(o, LEVEL_OBJ);
		return;
	}
	flush_block(o);
	if (pop(o, LEVEL_OBJ) && o->silent == o->depth)
		o->silent = -1;
}

void out_rows_begin(struct out *o, const char *label, const char *key)
{
	if (o->err)
		return;
	if (o->json) {
		if (o->level[o->depth - 1] == LEVEL_ROWS || !key)
			fail(o, -EINVAL);
		else if (json_key(o, key))
			put(o, &o->text, "[", 1);
	} else if (o->silent < 0 && (!label || o->table >= 0)) {
		/* a table within a table has no place in text */
		o->silent = o->depth;
	} else if (o->silent < 0) {
		flush_block(o);
		heading(o, label);
		o->table = o->depth;
	}
	push(o, LEVEL_ROWS);
}

void out_row_begin(struct out *o)
{
	if (o->err)
		return;
	if (o->level[o->depth - 1] != LEVEL_ROWS) {
		fail(o, -EINVAL);
		return;
	}
	if (o->json) {
		json_key(o, NULL);
		put(o, &o->text, "{", 1);
	}
	if (o->silent < 0)
		o->row_started = true;
	push(o, LEVEL_ROW);
}

void out_row_end(struct out *o)
{
	if (o->json)
		put(o, &o->text, "}", 1);
	pop(o, LEVEL_ROW);
}

void out_rows_end(struct out *o)
{
	if (o->json)
		put(o, &o->text, "]", 1);
	if (!pop(o, LEVEL_ROWS) || o->json)
		return;
	if (o->silent == o->depth) {
		o->silent = -1;
	} else if (o->table == o->depth) {
		if (!o->nr_cells) {
			pad(o, &o->text, indent(o));
			puts_to(o, &o->text, "  none\n");
		}
		flush_table(o);
		o->table = -1;
		o->row_started = false;
	}
}

/* One of @small and @large is given. */
static void numbers(struct out *o, const char *label, const char *key, const int32_t *small,
		    const uint64_t *large, uint64_t nr)
{
	struct buf list = { 0 };
	char num[24];
	uint64_t i;

	if (o->err || (o->json ? !key : !text_wants(o, label)))
		return;
	puts_to(o, &list, o->json ? "[" : "");
	for (i = 0; i < nr; i++) {
		if (i)
			puts_to(o, &list, o->json ? "," : " ");
		if (small)
			snprintf(num, sizeof(num), "%" PRId32, small[i]);
		else
			snprintf(num, sizeof(num), "%" PRIu64, large[i]);
		puts_to(o, &list, num);
	}
	puts_to(o, &list, o->json ? "]" : "");
	if (!o->err)
		value(o, label, key, list.p, nr ? list.p : "-", false);
	free(list.p);
}

void out_i32s(struct out *o, const char *label, const char *key, const int32_t *v, uint64_t nr)
{
	numbers(o, label, key, v, NULL, nr);
}

void out_u64s(struct out *o, const char *label, const char *key, const uint64_t *v, uint64_t nr)
{
	numbers(o, label, key, NULL, v, nr);
}

const char *out_size_text(uint64_t bytes, char *buf, unsigned int len)
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double v = (double)bytes;
	size_t u = 0;

	if (bytes < 1024) {
		snprintf(buf, len, "%" PRIu64 " B", bytes);
		return buf;
	}
	/* 1023.95 would print as 1024.0 */
	for (v /= 1024; v >= 1023.95 && u + 1 < sizeof(units) / sizeof(units[0]); u++)
		v /= 1024;
	snprintf(buf, len, "%.1f %s", v, units[u]);
	return buf;
}
