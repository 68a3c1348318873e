// SPDX-License-Identifier: MIT
/* Reading the environment variables: see settings.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"
#include "settings.h"

struct gg_settings gg_settings;

/* A number with K, M, G or T (binary), an optional B or iB, or %. Return: what follows it; NULL: not a size. */
static const char *parse_size(const char *text, struct gg_budget *b)
{
	static const char units[] = "KMGT";
	const char *unit;
	double value, scale = 1;
	char *end;

	b->bytes = 0;
	b->percent = 0;
	errno = 0;
	value = strtod(text, &end);
	if (end == text || errno || !(value > 0))
		return NULL;
	if (*end == '%') {
		b->percent = value;
		return value <= 100 ? end + 1 : NULL;
	}
	unit = *end ? strchr(units, *end & ~0x20) : NULL;
	if (unit) {
		for (const char *u = units; u <= unit; u++)
			scale *= 1024;
		end++;
		if (*end == 'i')
			end++;
		if (*end == 'B' || *end == 'b')
			end++;
	}
	if (value * scale >= 9e18)
		return NULL;
	b->bytes = (uint64_t)(value * scale);
	return b->bytes ? end : NULL;
}

static bool refuse(const char *name, const char *value, const char *takes)
{
	gg_say("%s=%s: takes %s", name, value, takes);
	return false;
}

static bool read_budgets(void)
{
	static const char takes[] = "a size (8G, 512M), a share of the experts (50%), or one for each model (8G,1G)";
	const char *text = getenv("PENSTOCK_CACHE"), *at = text;

	while (at && *at) {
		if (gg_settings.nr_budgets == GG_MAX_BUDGETS)
			return refuse("PENSTOCK_CACHE", text, takes);
		at = parse_size(at, &gg_settings.budgets[gg_settings.nr_budgets++]);
		if (!at || (*at && *at != ','))
			return refuse("PENSTOCK_CACHE", text, takes);
		at += *at == ',';
	}
	return true;
}

static bool read_number(const char *name, uint32_t *value)
{
	const char *text = getenv(name), *end;
	struct gg_budget b;

	if (!text || !strcmp(text, "0"))
		return true;
	end = parse_size(text, &b);
	if (!end || *end || !b.bytes || b.bytes > UINT32_MAX)
		return refuse(name, text, "a number above 0");
	*value = (uint32_t)b.bytes;
	return true;
}

/* One of @words, which end with NULL. */
static bool read_word(const char *name, const char *const *words, const char *takes, int *value)
{
	const char *text = getenv(name);

	if (!text || !*text)
		return true;
	for (int i = 0; words[i]; i++) {
		if (!strcmp(text, words[i])) {
			*value = i;
			return true;
		}
	}
	return refuse(name, text, takes);
}

bool gg_settings_read(void)
{
	static const char *const forms[] = { "auto", "plain", "repacked", NULL };
	static const char *const stats[] = { "none", "text", "json", NULL };
	static const char *const logs[] = { "error", "warn", "info", "debug", NULL };
	static const char *const ios[] = { "auto", "pread", "buffered", NULL };
	static const char *const locks[] = { "0", "1", NULL };
	int form = GG_FORM_AUTO, stat = GG_STATS_TEXT, log = 1, io = 0, lock = 1;

	gg_settings = (struct gg_settings){ .policy = getenv("PENSTOCK_POLICY"),
					    .stats_file = getenv("PENSTOCK_STATS_FILE") };
	if (!read_budgets() ||
	    !read_word("PENSTOCK_FORM", forms, "auto, plain or repacked", &form) ||
	    !read_word("PENSTOCK_STATS", stats, "none, text or json", &stat) ||
	    !read_word("PENSTOCK_LOG", logs, "error, warn, info or debug", &log) ||
	    !read_word("PENSTOCK_IO", ios, "auto, pread or buffered", &io) ||
	    !read_word("PENSTOCK_LOCK", locks, "0 or 1", &lock) ||
	    !read_number("PENSTOCK_QUEUE_DEPTH", &gg_settings.queue_depth) ||
	    !read_number("PENSTOCK_SPLIT", &gg_settings.split_bytes) ||
	    !read_number("PENSTOCK_WAVE", &gg_settings.wave))
		return false;
	gg_settings.form = form;
	gg_settings.stats = stat;
	gg_settings.log_level = log;
	gg_settings.no_uring = io == 1;
	gg_settings.no_direct = io == 2;
	gg_settings.no_lock = !lock;
	return true;
}
