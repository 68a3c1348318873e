/* SPDX-License-Identifier: MIT */
/* The emitter's strings: bytes that grow, and the two ways in which it shows strings of files. */
#ifndef PENSTOCK_OUT_BUF_H
#define PENSTOCK_OUT_BUF_H

#include <stddef.h>

/**
 * struct out_buf - bytes, followed by a NUL
 * @err: 0 or -ENOMEM, once and for all; nothing is added after that
 */
struct out_buf {
	char *p;
	size_t len;
	size_t room;
	int err;
};

void out_buf_put(struct out_buf *b, const void *data, size_t len);
void out_buf_puts(struct out_buf *b, const char *s);
/** out_buf_pad() - @nr spaces */
void out_buf_pad(struct out_buf *b, size_t nr);
/** out_buf_json() - a JSON string with its quotes; what is not UTF-8 becomes U+FFFD */
void out_buf_json(struct out_buf *b, const char *s);
/**
 * out_buf_visible() - a string and its NUL, control characters and what is not UTF-8 as \xNN
 * Return: the offset where it starts
 */
size_t out_buf_visible(struct out_buf *b, const char *s);
/** out_buf_width() - characters of a UTF-8 string */
size_t out_buf_width(const char *s);

#endif
