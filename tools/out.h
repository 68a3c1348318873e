/* SPDX-License-Identifier: MIT */
/*
 * The one emitter: commands describe their result once, out.c writes it as text
 * for eyes (aligned "label  value") or as JSON (keys lower_snake with unit suffix,
 * numbers never strings, stable order, "schema" first). Data goes to stdout.
 */
#ifndef PENSTOCK_OUT_H
#define PENSTOCK_OUT_H

#include <stdbool.h>
#include <stdint.h>

struct out;

/** out_begin() - @schema such as "penstock.run/1"; @json chooses the form. NULL if out of memory. */
struct out *out_begin(const char *schema, bool json);
/** out_end() - write everything; Return: 0, or -errno of the write (a closed pipe, a full disk) */
int out_end(struct out *o);

/* @label is for text, @key for JSON; a NULL label is left out of text, a NULL key of JSON. */
void out_str(struct out *o, const char *label, const char *key, const char *v);
void out_bool(struct out *o, const char *label, const char *key, bool v);
void out_u64(struct out *o, const char *label, const char *key, uint64_t v);
/* bytes: text in B, KiB, MiB, GiB, JSON in bytes */
void out_bytes(struct out *o, const char *label, const char *key, uint64_t v);
/* a NaN is null in JSON and "-" in text */
void out_f64(struct out *o, const char *label, const char *key, double v, int digits, const char *unit);
void out_null(struct out *o, const char *label, const char *key);

/* nested object: a heading in text */
void out_obj_begin(struct out *o, const char *label, const char *key);
void out_obj_end(struct out *o);
/* heading over the lines that follow, in text only */
void out_heading(struct out *o, const char *label);
/* array of objects: in text a table, whose columns are the labels of the first row */
void out_rows_begin(struct out *o, const char *label, const char *key);
void out_row_begin(struct out *o);
void out_row_end(struct out *o);
void out_rows_end(struct out *o);
/* array of numbers: text "1 2 3" */
void out_i32s(struct out *o, const char *label, const char *key, const int32_t *v, uint64_t nr);
void out_u64s(struct out *o, const char *label, const char *key, const uint64_t *v, uint64_t nr);

/** out_size_text() - "1.5 GiB" into @buf, which is returned */
const char *out_size_text(uint64_t bytes, char *buf, unsigned int len);

#endif
