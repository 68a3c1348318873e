// SPDX-License-Identifier: MIT
/* Error texts: see fail.h. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "fail.h"

int decoder_fail(struct penstock_error *err, int code, const char *fmt, ...)
{
	va_list ap;
	size_t len;

	if (!err)
		return code;
	err->code = code;
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	len = strlen(err->text);
	snprintf(err->text + len, sizeof(err->text) - len, ": %s", strerrordesc_np(-code));
	return code;
}
