// SPDX-License-Identifier: MIT
/*
 * A small client: open a checkpoint, bring three experts of its first MoE layer
 * into the cache, show where they are, let them go.
 *
 *   cc minimal.c $(pkg-config --cflags --libs penstock) && ./a.out MODEL
 */
#include <stdio.h>
#include <string.h>
#include <penstock/penstock.h>

static int show_experts(struct penstock_queue *queue, struct penstock_model *model, uint32_t layer,
			const struct penstock_layer_info *info)
{
	const int32_t ids[] = { 2, 0, 1 };
	struct penstock_ticket *ticket;
	struct penstock_slot slot;
	size_t i;
	int rc;

	rc = penstock_fetch(queue, model, layer, ids, 3, &ticket);
	if (rc)
		return rc;
	rc = penstock_wait(ticket, UINT64_MAX);
	for (i = 0; !rc && i < penstock_ticket_count(ticket); i++) {
		rc = penstock_ticket_slot(ticket, i, &slot);
		if (!rc)
			printf("layer %u expert %d: %s, %llu bytes, first part at %p\n", layer, slot.id,
			       penstock_dtype_info(info->parts[0].dtype)->name,
			       (unsigned long long)info->expert_bytes, slot.ptr[0]);
	}
	/* Until here the three slots could not be given to other experts. */
	penstock_release(ticket);
	return rc;
}

static int first_moe_layer(struct penstock_model *model, uint32_t *layer, struct penstock_layer_info *info)
{
	int rc;

	for (*layer = 0; ; (*layer)++) {
		memset(info, 0, sizeof(*info));
		info->size = sizeof(*info);
		rc = penstock_layer_info(model, *layer, info);
		if (rc || info->kind == PENSTOCK_LAYER_MOE)
			return rc;
	}
}

int main(int argc, char **argv)
{
	struct penstock_options opts = PENSTOCK_OPTIONS_INIT;
	struct penstock_error err = { 0, "" };
	struct penstock_queue *queue = NULL;
	struct penstock_model *model = NULL;
	struct penstock_layer_info info;
	struct penstock_ctx *ctx = NULL;
	uint32_t layer;
	int rc;

	if (argc != 2) {
		fprintf(stderr, "usage: %s MODEL\n", argv[0]);
		return 2;
	}
	opts.cache_bytes = 64 << 20;
	rc = penstock_open(&opts, &ctx, &err);
	if (!rc)
		rc = penstock_model_open(ctx, argv[1], NULL, &model, &err);
	if (rc) {
		fprintf(stderr, "%s\n", err.text);
		goto close;
	}
	rc = penstock_queue_create(ctx, &queue);
	if (!rc)
		rc = first_moe_layer(model, &layer, &info);
	if (!rc)
		rc = show_experts(queue, model, layer, &info);
	if (rc)
		fprintf(stderr, "%s: %s\n", strerror(-rc), queue ? penstock_errmsg(queue) : "");
close:
	penstock_queue_destroy(queue);
	penstock_model_close(model);
	penstock_close(ctx);
	return rc ? 1 : 0;
}
