// SPDX-License-Identifier: MIT
/*
 * expert_reads MODEL DEVICE ROUTE LOW HIGH: read every expert twice by a route, the
 * second time under QEMU's trace, and print what was read and what the trace counts:
 * of the second pass nothing but experts. The digest is that of all their bytes, as
 * the host sees them in the device's memory.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <penstock/penstock.h>

static struct penstock_ctx *ctx;
static struct penstock_model *model;
static struct penstock_queue *q;
static struct penstock_error err;

static int fail(const char *what, const char *text)
{
	printf("%s: %s\n", what, text);
	return 1;
}

/* The digest of an expert's parts; the same whatever the route. */
static uint64_t digest(const struct penstock_layer_info *info, const struct penstock_slot *s, uint64_t h)
{
	for (uint32_t p = 0; p < info->nr_parts; p++) {
		const uint8_t *b = s->ptr[p];

		for (uint64_t i = 0; i < info->parts[p].bytes; i += 8) {
			uint64_t v;

			memcpy(&v, b + i, sizeof(v));
			h = (h ^ v) * 0x100000001b3u;
		}
	}
	return h;
}

/* One after the other, all of them; the cache holds a few, so that each is read each time. */
static int pass(uint32_t nr_layers, uint64_t *bytes, uint64_t *h)
{
	struct penstock_layer_info info = { .size = sizeof(info) };
	struct penstock_ticket *t;
	struct penstock_slot s;

	for (uint32_t l = 0; l < nr_layers; l++) {
		if (penstock_layer_info(model, l, &info) || info.kind != PENSTOCK_LAYER_MOE)
			continue;
		for (uint32_t e = 0; e < info.nr_experts; e++) {
			int32_t id = (int32_t)e;

			if (penstock_fetch(q, model, l, &id, 1, &t) || penstock_wait(t, UINT64_MAX) ||
			    penstock_ticket_slot(t, 0, &s))
				return fail("fetch", penstock_errmsg(q));
			*h = digest(&info, &s, *h);
			*bytes += info.expert_bytes;
			penstock_release(t);
		}
	}
	return 0;
}

static int ask_host(const char *command, char *answer, int len)
{
	FILE *f = popen(command, "r");
	int got;

	if (!f)
		return -1;
	got = (int)fread(answer, 1, (size_t)len - 1, f);
	answer[got > 0 ? got : 0] = 0;
	answer[strcspn(answer, "\n")] = 0;
	return pclose(f);
}

static int run(char **argv)
{
	struct penstock_options o = PENSTOCK_OPTIONS_INIT;
	struct penstock_model_info info = { .size = sizeof(info) };
	struct penstock_stats before = { .size = sizeof(before) }, after = { .size = sizeof(after) };
	uint64_t bytes = 0, h1 = 0, h2 = 0;
	char command[128], counts[512];

	o.device = argv[2];
	o.route = argv[3];
	o.flags = PENSTOCK_F_CALLER_PROGRESS;
	o.cache_bytes = 3u << 20;
	if (penstock_open(&o, &ctx, &err) || penstock_model_open(ctx, argv[1], NULL, &model, &err))
		return fail("open", err.text);
	if (penstock_queue_create(ctx, &q) || penstock_model_info(model, &info))
		return fail("open", "no queue");
	/* the first pass brings what the file system has to read about the file */
	if (pass(info.nr_layers, &bytes, &h1) || penstock_stats(ctx, &before))
		return 1;
	if (ask_host("host trace-start", counts, sizeof(counts)))
		return fail("trace-start", counts);
	bytes = 0;
	if (pass(info.nr_layers, &bytes, &h2) || penstock_stats(ctx, &after))
		return 1;
	snprintf(command, sizeof(command), "host trace-check %s %s", argv[4], argv[5]);
	if (ask_host(command, counts, sizeof(counts)))
		return fail("trace-check", counts);
	printf("wanted=%llu library_reads=%llu library_bytes=%llu digest=%016llx same=%d %s\n", (unsigned long long)bytes,
	       (unsigned long long)(after.reads - before.reads),
	       (unsigned long long)(after.bytes_read - before.bytes_read), (unsigned long long)h2, h1 == h2, counts);
	return 0;
}

int main(int argc, char **argv)
{
	int rc = argc == 6 ? run(argv) : fail("usage", "expert_reads MODEL DEVICE ROUTE LOW HIGH");

	penstock_queue_destroy(q);
	penstock_model_close(model);
	penstock_close(ctx);
	return rc;
}
