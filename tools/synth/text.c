// SPDX-License-Identifier: MIT
/* Text, or bytes, that grow: headers are built in memory before they are written. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "writer.h"

static bool reserve(struct synth_text *t, size_t more)
{
	size_t room = t->room ? t->room : 4096;
	char *p;

	if (t->failed)
		return false;
	while (room - t->len < more) {
		if (__builtin_mul_overflow(room, 2, &room)) {
			t->failed = true;
			return false;
		}
	}
	if (room == t->room)
		return true;
	p = realloc(t->p, room);
	if (!p) {
		t->failed = true;
		return false;
	}
	t->p = p;
	t->room = room;
	return true;
}

void synth_text_bytes(struct synth_text *t, const void *data, size_t len)
{
	if (!reserve(t, len + 1))
		return;
	memcpy(t->p + t->len, data, len);
	t->len += len;
	t->p[t->len] = 0;
}

void synth_text_add(struct synth_text *t, const char *fmt, ...)
{
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (len < 0 || !reserve(t, (size_t)len + 1)) {
		t->failed = true;
		return;
	}
	va_start(ap, fmt);
	vsnprintf(t->p + t->len, (size_t)len + 1, fmt, ap);
	va_end(ap);
	t->len += (size_t)len;
}

void synth_text_free(struct synth_text *t)
{
	free(t->p);
	memset(t, 0, sizeof(*t));
}
