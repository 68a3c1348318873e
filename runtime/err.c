// SPDX-License-Identifier: MIT
/* Error texts: see err.h. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "err.h"

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
	snprintf(e->text + len, sizeof(e->text) - len, ": %s", strerrordesc_np(-code));
	return code;
}

void penstock_err_clear(struct penstock_error *e)
{
	if (!e)
		return;
	e->code = 0;
	e->text[0] = 0;
}
