// SPDX-License-Identifier: MIT
/* Bytes that grow, and strings that can break neither JSON nor a terminal: see out_buf.h. */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "out_buf.h"

static bool reserve(struct out_buf *b, size_t more)
{
	size_t room = b->room ? b->room : 4096;
	char *p;

	if (b->err)
		return false;
	if (more <= b->room - b->len)
		return true;
	while (room - b->len < more) {
		if (__builtin_mul_overflow(room, 2, &room)) {
			b->err = -ENOMEM;
			return false;
		}
	}
	p = realloc(b->p, room);
	if (!p) {
		b->err = -ENOMEM;
		return false;
	}
	b->p = p;
	b->room = room;
	return true;
}

void out_buf_put(struct out_buf *b, const void *data, size_t len)
{
	if (!reserve(b, len + 1))
		return;
	memcpy(b->p + b->len, data, len);
	b->len += len;
	b->p[b->len] = 0;
}

void out_buf_puts(struct out_buf *b, const char *s)
{
	out_buf_put(b, s, strlen(s));
}

void out_buf_pad(struct out_buf *b, size_t nr)
{
	while (nr--)
		out_buf_put(b, " ", 1);
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

void out_buf_json(struct out_buf *b, const char *str)
{
	static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
	const unsigned char *s = (const unsigned char *)str;
	const char *esc;
	char hex[8];
	size_t len;

	out_buf_put(b, "\"", 1);
	for (; *s; s += len ? len : 1) {
		len = utf8_len(s);
		esc = strchr(from, *s);
		if (!len) {
			out_buf_puts(b, "\xef\xbf\xbd");
		} else if (esc) {
			hex[0] = '\\';
			hex[1] = to[esc - from];
			out_buf_put(b, hex, 2);
		} else if (*s < 0x20 || *s == 0x7f) {
			snprintf(hex, sizeof(hex), "\\u%04x", *s);
			out_buf_puts(b, hex);
		} else {
			out_buf_put(b, (const char *)s, len);
		}
	}
	out_buf_put(b, "\"", 1);
}

size_t out_buf_visible(struct out_buf *b, const char *str)
{
	const unsigned char *s = (const unsigned char *)str;
	size_t at = b->len, len;
	char hex[8];

	for (; *s; s += len ? len : 1) {
		len = utf8_len(s);
		if (!len || *s < 0x20 || *s == 0x7f || (len == 2 && s[0] == 0xc2 && s[1] < 0xa0)) {
			snprintf(hex, sizeof(hex), "\\x%02x", *s);
			out_buf_puts(b, hex);
			len = 1;
		} else {
			out_buf_put(b, (const char *)s, len);
		}
	}
	out_buf_put(b, "", 1);
	return at;
}

size_t out_buf_width(const char *s)
{
	size_t nr = 0;

	for (; *s; s++)
		nr += (*s & 0xc0) != 0x80;
	return nr;
}
