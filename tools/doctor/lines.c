// SPDX-License-Identifier: MIT
/* The examination's lines, and how they are written: text for eyes, JSON for programs. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../out.h"
#include "doctor.h"

static const char *const state_names[] = { "ok", "degraded", "no" };
static const char *const parts[] = { "kernel", "module", "drives", "peers", "pairs", "verdict" };

struct doctor_line *doctor_say(struct doctor *d, const char *part, const char *id, const char *what,
			       enum doctor_state state, const char *remedy, const char *fmt, ...)
{
	struct doctor_line *lines = reallocarray(d->lines, d->nr_lines + 1u, sizeof(*lines)), *l;
	va_list ap;

	if (!lines) {
		d->no_memory = true;
		return NULL;
	}
	d->lines = lines;
	l = &lines[d->nr_lines++];
	*l = (struct doctor_line){ .part = part, .state = state };
	snprintf(l->id, sizeof(l->id), "%s", id);
	snprintf(l->what, sizeof(l->what), "%s", what);
	snprintf(l->remedy, sizeof(l->remedy), "%s", remedy);
	va_start(ap, fmt);
	vsnprintf(l->evidence, sizeof(l->evidence), fmt, ap);
	va_end(ap);
	return l;
}

const char *doctor_path(const struct doctor *d, const char *fmt, ...)
{
	static char paths[4][1024];
	static unsigned int nr;
	char *p = paths[nr++ % 4];
	int n = snprintf(p, sizeof(paths[0]), "%s", d->root);
	va_list ap;

	if (n < 0 || n >= (int)sizeof(paths[0]))
		return "";
	va_start(ap, fmt);
	vsnprintf(p + n, sizeof(paths[0]) - (size_t)n, fmt, ap);
	va_end(ap);
	return p;
}

void doctor_read(const char *path, char *text, uint32_t len)
{
	FILE *f = fopen(path, "re");

	text[0] = 0;
	if (!f)
		return;
	if (!fgets(text, (int)len, f))
		text[0] = 0;
	fclose(f);
	text[strcspn(text, "\n")] = 0;
	while (*text && text[strlen(text) - 1] == ' ')
		text[strlen(text) - 1] = 0;
}

const char *doctor_pci_name(const struct penstock_drv_pci *pci, char *buf, uint32_t len)
{
	if (pci->domain == UINT32_MAX)
		snprintf(buf, len, "no PCI device");
	else
		snprintf(buf, len, "%04x:%02x:%02x.%u", pci->domain, pci->bus, pci->devfn >> 3, pci->devfn & 7);
	return buf;
}

static void text_line(const struct doctor_line *l, struct out *o)
{
	char text[sizeof(l->evidence) + sizeof(l->remedy) + 32];

	snprintf(text, sizeof(text), "%s: %s%s%s", state_names[l->state], l->evidence,
		 *l->remedy ? "; remedy: " : "", l->remedy);
	out_str(o, l->what, NULL, text);
}

static void rate(struct out *o, const char *key, uint64_t bytes_per_s)
{
	if (bytes_per_s)
		out_u64(o, NULL, key, bytes_per_s);
	else
		out_null(o, NULL, key);
}

static void json_pair(const struct doctor_pair *p, struct out *o)
{
	out_row_begin(o);
	out_str(o, NULL, "drive", p->drive);
	out_str(o, NULL, "file", p->file);
	out_str(o, NULL, "peer", p->peer);
	out_str(o, NULL, "map", p->map);
	if (p->distance < 0)
		out_null(o, NULL, "distance");
	else
		out_u64(o, NULL, "distance", (uint64_t)p->distance);
	out_bool(o, NULL, "probe", p->allowed);
	if (p->canary < 0)
		out_null(o, NULL, "canary");
	else
		out_bool(o, NULL, "canary", p->canary);
	out_str(o, NULL, "route", p->route);
	rate(o, "direct_bytes_per_s", p->direct_bytes_per_s);
	rate(o, "mapped_bytes_per_s", p->mapped_bytes_per_s);
	rate(o, "bounce_bytes_per_s", p->bounce_bytes_per_s);
	out_row_end(o);
}

void doctor_report(const struct doctor *d, struct out *o)
{
	uint32_t i, p;

	for (p = 0; p < sizeof(parts) / sizeof(parts[0]); p++) {
		out_heading(o, parts[p]);
		for (i = 0; i < d->nr_lines; i++)
			if (!strcmp(d->lines[i].part, parts[p]))
				text_line(&d->lines[i], o);
	}
	out_str(o, NULL, "kernel", d->kernel);
	out_rows_begin(o, NULL, "checks");
	for (i = 0; i < d->nr_lines; i++) {
		const struct doctor_line *l = &d->lines[i];

		out_row_begin(o);
		out_str(o, NULL, "id", l->id);
		out_str(o, NULL, "what", l->what);
		out_str(o, NULL, "state", state_names[l->state]);
		out_str(o, NULL, "evidence", l->evidence);
		out_str(o, NULL, "remedy", l->remedy);
		out_row_end(o);
	}
	out_rows_end(o);
	out_rows_begin(o, NULL, "pairs");
	for (i = 0; i < d->nr_pairs; i++)
		json_pair(&d->pairs[i], o);
	out_rows_end(o);
	out_bool(o, NULL, "direct_route", d->nr_lines && d->lines[d->nr_lines - 1].state == DOCTOR_OK);
}

void doctor_free(struct doctor *d)
{
	penstock_drv_close(d->drv);
	free(d->lines);
	free(d->drives);
	free(d->peers);
	free(d->pairs);
}
