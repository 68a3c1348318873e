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
#include "out_buf.h"

#define OUT_DEPTH	16
#define OUT_COLUMNS	48

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
	struct out_buf text;	/* the finished part */
	struct out_buf pool;	/* strings of the cells */
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

/* The first failure, of whichever part. */
static int error_of(const struct out *o)
{
	return o->err ? o->err : o->text.err ? o->text.err : o->pool.err;
}

static void fail(struct out *o, int err)
{
	if (!o->err)
		o->err = err;
}

static const char *pooled(const struct out *o, size_t at)
{
	return o->pool.p + at;
}

static void add_cell(struct out *o, const char *label, const char *value, bool right)
{
	size_t room = o->room_cells ? o->room_cells * 2 : 64;
	struct cell *c;

	if (error_of(o))
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
	c->label = out_buf_visible(&o->pool, label);
	c->value = out_buf_visible(&o->pool, value);
	c->right = right;
	c->first = o->row_started;
	o->row_started = false;
	if (!error_of(o))
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

	if (error_of(o) || o->table >= 0)
		return;
	for (i = 0; i < o->nr_cells; i++) {
		w = out_buf_width(pooled(o, o->cells[i].label));
		wide = w > wide ? w : wide;
	}
	for (i = 0; i < o->nr_cells; i++) {
		const char *label = pooled(o, o->cells[i].label);

		out_buf_pad(&o->text, indent(o));
		out_buf_puts(&o->text, label);
		out_buf_pad(&o->text, wide - out_buf_width(label) + 2);
		out_buf_puts(&o->text, pooled(o, o->cells[i].value));
		out_buf_puts(&o->text, "\n");
	}
	forget_cells(o);
}

static void put_cell(struct out *o, const char *s, size_t wide, bool right, bool last)
{
	size_t gap = wide - out_buf_width(s);

	if (right)
		out_buf_pad(&o->text, gap);
	out_buf_puts(&o->text, s);
	if (!last)
		out_buf_pad(&o->text, (right ? 0 : gap) + 2);
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

	if (error_of(o) || !o->nr_cells)
		return;
	nr = row_columns(o, 0);
	if (nr > OUT_COLUMNS) {
		fail(o, -EINVAL);
		return;
	}
	for (k = 0; k < nr; k++) {
		wide[k] = out_buf_width(pooled(o, o->cells[k].label));
		right[k] = o->cells[k].right;
	}
	for (i = 0, k = 0; i < o->nr_cells; i++, k++) {
		if (o->cells[i].first)
			k = 0;
		if (k >= nr)
			continue;
		w = out_buf_width(pooled(o, o->cells[i].value));
		wide[k] = w > wide[k] ? w : wide[k];
	}
	out_buf_pad(&o->text, indent(o));
	for (k = 0; k < nr; k++)
		put_cell(o, pooled(o, o->cells[k].label), wide[k], right[k], k + 1 == nr);
	out_buf_puts(&o->text, "\n");
	for (i = 0; i < o->nr_cells; i += row_columns(o, i)) {
		w = row_columns(o, i);
		out_buf_pad(&o->text, indent(o));
		for (k = 0; k < w && k < nr; k++)
			put_cell(o, pooled(o, o->cells[i + k].value), wide[k], right[k], k + 1 == w || k + 1 == nr);
		out_buf_puts(&o->text, "\n");
	}
	forget_cells(o);
}

/* A heading after other text is set apart by an empty line. */
static void heading(struct out *o, const char *label)
{
	size_t at;

	if (error_of(o))
		return;
	if (o->text.len && o->depth <= 1)
		out_buf_puts(&o->text, "\n");
	out_buf_pad(&o->text, indent(o));
	at = out_buf_visible(&o->pool, label);
	if (error_of(o))
		return;
	out_buf_puts(&o->text, pooled(o, at));
	out_buf_puts(&o->text, ":\n");
	o->pool.len = at;
}

/* JSON: comma and key of the next member. False if the member has no key. */
static bool json_key(struct out *o, const char *key)
{
	int d = o->depth - 1;

	if (o->level[d] != LEVEL_ROWS && !key)
		return false;
	if (o->used[d])
		out_buf_put(&o->text, ",", 1);
	o->used[d] = true;
	if (o->level[d] == LEVEL_ROWS)
		return true;
	out_buf_json(&o->text, key);
	out_buf_put(&o->text, ":", 1);
	return true;
}

static bool text_wants(const struct out *o, const char *label)
{
	return label && o->silent < 0;
}

/* A single value, already formatted for either form. */
static void value(struct out *o, const char *label, const char *key, const char *json, const char *text, bool right)
{
	if (error_of(o))
		return;
	if (o->level[o->depth - 1] == LEVEL_ROWS) {	/* a value needs a row around it */
		fail(o, -EINVAL);
		return;
	}
	if (o->json) {
		if (json_key(o, key))
			out_buf_puts(&o->text, json);
	} else if (text_wants(o, label)) {
		add_cell(o, label, text, right);
	}
}

static bool push(struct out *o, enum level level)
{
	if (error_of(o))
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
	if (error_of(o))
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
		out_buf_put(&o->text, "{", 1);
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
		out_buf_puts(&o->text, "}\n");
	else
		flush_block(o);
	if (o->depth != 1)
		fail(o, -EINVAL);
	/* what the command printed by stdio comes first */
	if (!error_of(o) && fflush(stdout))
		fail(o, -errno);
	while (!error_of(o) && at < o->text.len) {
		n = write(STDOUT_FILENO, o->text.p + at, o->text.len - at);
		if (n >= 0)
			at += (size_t)n;
		else if (errno != EINTR)
			fail(o, -errno);
	}
	rc = error_of(o);
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
	if (error_of(o))
		return;
	if (o->json) {
		if (o->level[o->depth - 1] == LEVEL_ROWS)
			fail(o, -EINVAL);
		else if (json_key(o, key))
			out_buf_json(&o->text, v);
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
	if (o->json || error_of(o) || o->silent >= 0 || o->table >= 0)
		return;
	flush_block(o);
	heading(o, label);
}

void out_obj_begin(struct out *o, const char *label, const char *key)
{
	if (error_of(o))
		return;
	if (o->json) {
		if (o->level[o->depth - 1] == LEVEL_ROWS || !key)
			fail(o, -EINVAL);
		else if (json_key(o, key))
			out_buf_put(&o->text, "{", 1);
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
		out_buf_put(&o->text, "}", 1);
		pop(o, LEVEL_OBJ);
		return;
	}
	flush_block(o);
	if (pop(o, LEVEL_OBJ) && o->silent == o->depth)
		o->silent = -1;
}

void out_rows_begin(struct out *o, const char *label, const char *key)
{
	if (error_of(o))
		return;
	if (o->json) {
		if (o->level[o->depth - 1] == LEVEL_ROWS || !key)
			fail(o, -EINVAL);
		else if (json_key(o, key))
			out_buf_put(&o->text, "[", 1);
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
	if (error_of(o))
		return;
	if (o->level[o->depth - 1] != LEVEL_ROWS) {
		fail(o, -EINVAL);
		return;
	}
	if (o->json) {
		json_key(o, NULL);
		out_buf_put(&o->text, "{", 1);
	}
	if (o->silent < 0)
		o->row_started = true;
	push(o, LEVEL_ROW);
}

void out_row_end(struct out *o)
{
	if (o->json)
		out_buf_put(&o->text, "}", 1);
	pop(o, LEVEL_ROW);
}

void out_rows_end(struct out *o)
{
	if (o->json)
		out_buf_put(&o->text, "]", 1);
	if (!pop(o, LEVEL_ROWS) || o->json)
		return;
	if (o->silent == o->depth) {
		o->silent = -1;
	} else if (o->table == o->depth) {
		if (!o->nr_cells) {
			out_buf_pad(&o->text, indent(o));
			out_buf_puts(&o->text, "  none\n");
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
	struct out_buf list = { 0 };
	char num[24];
	uint64_t i;

	if (error_of(o) || (o->json ? !key : !text_wants(o, label)))
		return;
	out_buf_puts(&list, o->json ? "[" : "");
	for (i = 0; i < nr; i++) {
		if (i)
			out_buf_puts(&list, o->json ? "," : " ");
		if (small)
			snprintf(num, sizeof(num), "%" PRId32, small[i]);
		else
			snprintf(num, sizeof(num), "%" PRIu64, large[i]);
		out_buf_puts(&list, num);
	}
	out_buf_puts(&list, o->json ? "]" : "");
	if (list.err)
		fail(o, list.err);
	else
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
