// SPDX-License-Identifier: MIT
/*
 * What all commands share: how an error reads, and how sizes and numbers on the
 * command line are understood. Nothing here knows a command.
 */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "out.h"

int cmd_error(const char *cmd, int code, const char *fmt, ...)
{
	va_list ap;

	/* data that is already written comes first where both go to one terminal */
	fflush(stdout);
	fputs("penstock ", stderr);
	if (cmd)
		fprintf(stderr, "%s", cmd);
	fputs(": ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return code;
}

int cmd_out_end(const char *cmd, struct out *o, int code)
{
	int rc = out_end(o);

	/* whoever closed the pipe knows */
	if (rc == -EPIPE)
		return CMD_FAILED;
	if (rc)
		return cmd_error(cmd, CMD_FAILED, "cannot write the result: %s", strerror(-rc));
	return code;
}

int cmd_parse_u64(const char *text, uint64_t *v)
{
	uint64_t n = 0;

	if (!text || !*text)
		return -EINVAL;
	for (; *text; text++) {
		if (!isdigit((unsigned char)*text))
			return -EINVAL;
		if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, (uint64_t)(*text - '0'), &n))
			return -EINVAL;
	}
	*v = n;
	return 0;
}

/* The shift that a suffix means, or -EINVAL: K, KB, KiB are all 1024. */
static int size_shift(const char *suffix)
{
	static const char units[] = "KMGTPE";
	const char *u;

	if (!*suffix || !strcasecmp(suffix, "B"))
		return 0;
	u = strchr(units, toupper((unsigned char)*suffix));
	if (!u)
		return -EINVAL;
	suffix++;
	if (*suffix && strcasecmp(suffix, "B") && strcasecmp(suffix, "iB"))
		return -EINVAL;
	return 10 * ((int)(u - units) + 1);
}

int cmd_parse_size(const char *text, uint64_t *bytes)
{
	uint64_t whole = 0, part = 0, div = 1, v;
	const char *p = text;
	int shift;

	if (!p || !isdigit((unsigned char)*p))
		return -EINVAL;
	for (; isdigit((unsigned char)*p); p++)
		if (__builtin_mul_overflow(whole, 10, &whole) ||
		    __builtin_add_overflow(whole, (uint64_t)(*p - '0'), &whole))
			return -EINVAL;
	if (*p == '.') {
		p++;
		if (!isdigit((unsigned char)*p))
			return -EINVAL;
		for (; isdigit((unsigned char)*p); p++) {
			if (div > 100000)	/* digits that no size needs */
				return -EINVAL;
			part = part * 10 + (uint64_t)(*p - '0');
			div *= 10;
		}
	}
	while (*p == ' ')
		p++;
	shift = size_shift(p);
	if (shift < 0 || (part && !shift))
		return -EINVAL;
	if (whole > (UINT64_MAX >> shift))
		return -EINVAL;
	v = whole << shift;
	/* part < 10^6, so that this wraps in no unit */
	if (__builtin_add_overflow(v, (uint64_t)(((unsigned __int128)part << shift) / div), &v))
		return -EINVAL;
	*bytes = v;
	return 0;
}

int cmd_exit_code(int rc)
{
	switch (rc) {
	case -EINVAL:
	case -ENOENT:
	case -EACCES:
	case -ENOTDIR:
	case -ENOSPC:
		return CMD_USAGE;
	case -EOPNOTSUPP:
	case -ENODEV:
	case -ENOMEM:
		return CMD_IMPOSSIBLE;
	default:
		return CMD_FAILED;
	}
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

double cmd_median(double *v, uint64_t nr)
{
	qsort(v, nr, sizeof(*v), by_value);
	return nr % 2 ? v[nr / 2] : (v[nr / 2 - 1] + v[nr / 2]) / 2;
}
