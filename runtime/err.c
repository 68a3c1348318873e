// SPDX-License-Identifier: MIT
/* Error texts: see err.h. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "err.h"

/* What the code means in this library, where that is not what it means to a system call. */
static const char *meaning(int code)
{
	switch (code) {
	case -ENOSPC: return "too little cache";
	case -E2BIG: return "too many at once";
	case -EBADMSG: return "malformed";
	case -ENODATA: return "too short";
	case -ESTALE: return "stale";
	case -EINVAL: return "invalid";
	case -EOPNOTSUPP: return "not supported here";
	default: return strerrordesc_np(-code);
	}
}

int penstock_err(struct penstock_error *e, int code, const char *fmt, ...)
{
	va_list ap;
	size_t len;

	if (!e)
		return code;
	e->code = code;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	len = strlen(e->text);
	snprintf(e->text + len, sizeof(e->text) - len, ": %s", meaning(code));
	return code;
}

void penstock_err_clear(struct penstock_error *e)
{
	if (!e)
		return;
	e->code = 0;
	e->text[0] = 0;
}
