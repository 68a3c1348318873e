// SPDX-License-Identifier: MIT
/* Writing route_trace v1. Weights have nine digits, so that a float survives the trip. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"
#include "trace.h"

struct run_trace {
	FILE *f;
	char *path;
	int failed; /* first errno of a write */
};

/* Which layer a tensor belongs to, from its name; -1 = none, or not of the language model. */
static int64_t name_layer(const char *name)
{
	const char *at;
	char *end;
	long v;

	if (!strncmp(name, "vision", 6))
		return -1;
	if (!strncmp(name, "blk.", 4)) {
		at = name + 4;
	} else {
		at = strstr(name, "layers.");
		if (!at || (at != name && at[-1] != '.'))
			return -1;
		at += 7;
	}
	v = strtol(at, &end, 10);
	return end == at || *end != '.' || v < 0 ? -1 : v;
}

/* A layer's bytes without its routed experts. */
static int layer_dense_bytes(struct penstock_model *model, const struct penstock_model_info *info, uint64_t *dense,
			     struct penstock_error *err)
{
	struct penstock_layer_info li = { .size = sizeof(li) };
	struct penstock_tensor t;
	uint64_t experts;
	int64_t layer;
	uint32_t i;

	for (i = 0; i < info->nr_tensors; i++) {
		if (penstock_tensor_at(model, i, &t))
			return decoder_fail(err, -ENOENT, "model %s: tensor %u is not there", info->path, i);
		layer = name_layer(t.name);
		if (layer >= 0 && layer < info->nr_layers)
			dense[layer] += t.bytes;
	}
	for (i = 0; i < info->nr_layers; i++) {
		if (penstock_layer_info(model, i, &li))
			return decoder_fail(err, -ENOENT, "model %s: layer %u is not there", info->path, i);
		experts = li.kind == PENSTOCK_LAYER_MOE ? li.nr_experts * li.expert_bytes : 0;
		dense[i] -= experts < dense[i] ? experts : dense[i];
	}
	return 0;
}

static int write_header(struct run_trace *t, struct penstock_model *model, struct penstock_error *err)
{
	struct penstock_model_info info = { .size = sizeof(info) };
	struct penstock_layer_info li = { .size = sizeof(li) };
	uint32_t i, nr_experts = 0, top_k = 0;
	uint64_t *dense;
	int rc;

	rc = penstock_model_info(model, &info);
	if (rc)
		return decoder_fail(err, rc, "trace %s: the model has no information", t->path);
	dense = calloc(info.nr_layers + 1, sizeof(*dense));
	if (!dense)
		return decoder_fail(err, -ENOMEM, "trace %s", t->path);
	rc = layer_dense_bytes(model, &info, dense, err);
	for (i = 0; !rc && i < info.nr_layers; i++) {
		if (penstock_layer_info(model, i, &li) || li.kind != PENSTOCK_LAYER_MOE)
			continue;
		nr_experts = li.nr_experts > nr_experts ? li.nr_experts : nr_experts;
		top_k = li.top_k > top_k ? li.top_k : top_k;
	}
	if (!rc) {
		fprintf(t->f, "# route_trace v1\n# model=%s arch=%s n_layer=%u n_expert=%u n_expert_used=%u\n",
			info.path, info.arch, info.nr_layers, nr_experts, top_k);
		for (i = 0; i < info.nr_layers; i++) {
			if (penstock_layer_info(model, i, &li))
				continue;
			fprintf(t->f, "# layer=%u expert_bytes=%llu dense_bytes=%llu\n", i,
				(unsigned long long)(li.kind == PENSTOCK_LAYER_MOE ? li.expert_bytes : 0),
				(unsigned long long)dense[i]);
		}
		fprintf(t->f, "turn,phase,step,layer,slot,expert,weight,residency,expert_bytes\n");
	}
	free(dense);
	return rc;
}

int run_trace_create(const char *path, struct penstock_model *model, struct run_trace **out, struct penstock_error *err)
{
	struct run_trace *t = calloc(1, sizeof(*t));
	int rc;

	if (!t)
		return decoder_fail(err, -ENOMEM, "trace %s", path);
	t->path = strdup(path);
	if (!t->path) {
		rc = decoder_fail(err, -ENOMEM, "trace %s", path);
		goto err_free;
	}
	t->f = fopen(path, "w");
	if (!t->f) {
		rc = decoder_fail(err, -errno, "trace %s", path);
		goto err_path;
	}
	rc = write_header(t, model, err);
	if (rc)
		goto err_file;
	*out = t;
	return 0;

err_file:
	fclose(t->f);
err_path:
	free(t->path);
err_free:
	free(t);
	return rc;
}

void run_trace_write(struct run_trace *t, const struct run_trace_row *r)
{
	if (fprintf(t->f, "%u,%u,%u,%u,%u,%d,%.9g,%u,%llu\n", r->turn, r->phase, r->step, r->layer, r->slot, r->expert,
		    (double)r->weight, r->residency, (unsigned long long)r->bytes) < 0 &&
	    !t->failed)
		t->failed = errno;
}

int run_trace_finish(struct run_trace *t, struct penstock_error *err)
{
	int rc = 0;

	if (!t)
		return 0;
	if (fclose(t->f) && !t->failed)
		t->failed = errno;
	if (t->failed)
		rc = decoder_fail(err, -t->failed, "trace %s", t->path);
	free(t->path);
	free(t);
	return rc;
}
