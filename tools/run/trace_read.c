// SPDX-License-Identifier: MIT
/*
 * Reading route_trace v1, and following it. Rows are kept sorted by sequence,
 * position, layer and rank, k rows a choice, so that a choice is found by a
 * binary search wherever the run's pieces begin.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"
#include "trace.h"

struct choice {
	uint32_t turn;
	uint32_t step;
	uint32_t layer;
	uint32_t slot;
	int32_t expert;
	float weight;
};

struct run_routing {
	struct choice *rows;
	size_t nr;
	size_t room;
	uint32_t first_layer; /* the first with experts */
	uint32_t nr_layers;
	uint32_t *top_k; /* a layer; 0 = dense */
	uint32_t *nr_experts;
	char *path;
};

static int choice_cmp(const void *a, const void *b)
{
	const struct choice *x = a, *y = b;

	if (x->turn != y->turn)
		return x->turn < y->turn ? -1 : 1;
	if (x->step != y->step)
		return x->step < y->step ? -1 : 1;
	if (x->layer != y->layer)
		return x->layer < y->layer ? -1 : 1;
	return x->slot < y->slot ? -1 : x->slot > y->slot;
}

static int model_shape(struct run_routing *r, struct penstock_model *model, struct penstock_error *err)
{
	struct penstock_model_info info = { .size = sizeof(info) };
	struct penstock_layer_info li = { .size = sizeof(li) };
	uint32_t i;
	int rc;

	rc = penstock_model_info(model, &info);
	if (rc)
		return decoder_fail(err, rc, "routing %s: the model has no information", r->path);
	r->nr_layers = info.nr_layers;
	r->top_k = calloc(info.nr_layers + 1, sizeof(*r->top_k));
	r->nr_experts = calloc(info.nr_layers + 1, sizeof(*r->nr_experts));
	if (!r->top_k || !r->nr_experts)
		return decoder_fail(err, -ENOMEM, "routing %s", r->path);
	r->first_layer = UINT32_MAX;
	for (i = 0; i < info.nr_layers; i++) {
		if (penstock_layer_info(model, i, &li) || li.kind != PENSTOCK_LAYER_MOE)
			continue;
		r->top_k[i] = li.top_k;
		r->nr_experts[i] = li.nr_experts;
		if (r->first_layer == UINT32_MAX)
			r->first_layer = i;
	}
	return 0;
}

/* "# model=... n_layer=48 n_expert=128 n_expert_used=6"; other comment lines say nothing that binds. */
static int check_header(const struct run_routing *r, const char *line, struct penstock_error *err)
{
	static const char *const key[] = { " n_layer=", " n_expert=", " n_expert_used=" };
	const uint32_t model[] = { r->nr_layers, r->nr_experts[r->first_layer], r->top_k[r->first_layer] };
	const char *at;
	uint32_t i;

	for (i = 0; i < 3; i++) {
		at = strstr(line, key[i]);
		if (!at || strtoul(at + strlen(key[i]), NULL, 10) == model[i])
			continue;
		return decoder_fail(err, -EINVAL, "routing %s:%s%lu is not the model's, which has %u", r->path, key[i],
				    strtoul(at + strlen(key[i]), NULL, 10), model[i]);
	}
	return 0;
}

static int parse_row(const struct run_routing *r, const char *line, unsigned int nr, struct choice *c,
		     struct penstock_error *err)
{
	unsigned int phase, residency;
	unsigned long long bytes;
	char weight[32], tail, *end;

	if (sscanf(line, "%" SCNu32 ",%u,%" SCNu32 ",%" SCNu32 ",%" SCNu32 ",%" SCNd32 ",%31[^,],%u,%llu %c", &c->turn,
		   &phase, &c->step, &c->layer, &c->slot, &c->expert, weight, &residency, &bytes, &tail) != 9)
		return decoder_fail(err, -EBADMSG, "routing %s, line %u: no row of nine columns", r->path, nr);
	c->weight = strtof(weight, &end);
	if (end == weight || *end || !isfinite(c->weight))
		return decoder_fail(err, -EBADMSG, "routing %s, line %u: weight \"%s\" is no number", r->path, nr,
				    weight);
	if (c->layer >= r->nr_layers || !r->top_k[c->layer])
		return decoder_fail(err, -EINVAL,
				    "routing %s, line %u: layer %u has no experts in this model of %u layers", r->path,
				    nr, c->layer, r->nr_layers);
	if (c->slot >= r->top_k[c->layer])
		return decoder_fail(err, -EINVAL, "routing %s, line %u: slot %u, but layer %u chooses %u experts",
				    r->path, nr, c->slot, c->layer, r->top_k[c->layer]);
	if (c->expert < 0 || (uint32_t)c->expert >= r->nr_experts[c->layer])
		return decoder_fail(err, -EINVAL, "routing %s, line %u: expert %d, but layer %u has %u", r->path, nr,
				    c->expert, c->layer, r->nr_experts[c->layer]);
	return 0;
}

static int read_lines(struct run_routing *r, FILE *f, struct penstock_error *err)
{
	unsigned int nr = 0;
	char *line = NULL;
	size_t room = 0;
	int rc = 0;

	while (!rc && getline(&line, &room, f) >= 0) {
		struct choice *more;

		nr++;
		line[strcspn(line, "\r\n")] = 0;
		if (nr == 1 && strcmp(line, "# route_trace v1"))
			rc = decoder_fail(err, -EBADMSG, "routing %s: does not start with \"# route_trace v1\"",
					  r->path);
		else if (line[0] == '#')
			rc = check_header(r, line, err);
		if (rc || line[0] == '#' || !line[0] || !strncmp(line, "turn,", 5))
			continue;
		if (r->nr == r->room) {
			r->room = r->room ? r->room * 2 : 4096;
			more = realloc(r->rows, r->room * sizeof(*more));
			if (!more) {
				rc = decoder_fail(err, -ENOMEM, "routing %s, line %u", r->path, nr);
				continue;
			}
			r->rows = more;
		}
		rc = parse_row(r, line, nr, &r->rows[r->nr], err);
		if (!rc)
			r->nr++;
	}
	if (!rc && ferror(f))
		rc = decoder_fail(err, -EIO, "routing %s", r->path);
	if (!rc && !r->nr)
		rc = decoder_fail(err, -EBADMSG, "routing %s: no choices in it", r->path);
	free(line);
	return rc;
}

/* Each choice must have all its ranks, once. */
static int check_choices(const struct run_routing *r, struct penstock_error *err)
{
	const struct choice *c = r->rows;
	size_t i, j, h;

	for (i = 0; i < r->nr; i += j) {
		uint32_t k = r->top_k[c[i].layer];

		for (j = 0; j < k; j++)
			if (i + j >= r->nr || c[i + j].slot != j || c[i + j].layer != c[i].layer ||
			    c[i + j].step != c[i].step || c[i + j].turn != c[i].turn)
				return decoder_fail(
					err, -EINVAL,
					"routing %s: turn %u step %u layer %u has not each of %u experts once", r->path,
					c[i].turn, c[i].step, c[i].layer, k);
		for (j = 1; j < k; j++)
			for (h = 0; h < j; h++)
				if (c[i + h].expert == c[i + j].expert)
					return decoder_fail(
						err, -EINVAL,
						"routing %s: turn %u step %u layer %u names expert %d twice", r->path,
						c[i].turn, c[i].step, c[i].layer, c[i + j].expert);
	}
	return 0;
}

int run_routing_read(const char *path, struct penstock_model *model, struct run_routing **out,
		     struct penstock_error *err)
{
	struct run_routing *r = calloc(1, sizeof(*r));
	FILE *f;
	int rc;

	if (!r)
		return decoder_fail(err, -ENOMEM, "routing %s", path);
	r->path = strdup(path);
	if (!r->path) {
		free(r);
		return decoder_fail(err, -ENOMEM, "routing %s", path);
	}
	rc = model_shape(r, model, err);
	if (rc)
		goto err_free;
	f = fopen(path, "r");
	if (!f) {
		rc = decoder_fail(err, -errno, "routing %s", path);
		goto err_free;
	}
	rc = read_lines(r, f, err);
	fclose(f);
	if (!rc) {
		qsort(r->rows, r->nr, sizeof(*r->rows), choice_cmp);
		rc = check_choices(r, err);
	}
	if (rc)
		goto err_free;
	*out = r;
	return 0;

err_free:
	run_routing_free(r);
	return rc;
}

void run_routing_free(struct run_routing *r)
{
	if (!r)
		return;
	free(r->rows);
	free(r->top_k);
	free(r->nr_experts);
	free(r->path);
	free(r);
}

static const struct choice *find(const struct run_routing *r, uint32_t seq, uint32_t pos, uint32_t layer)
{
	const struct choice key = { .turn = seq, .step = pos, .layer = layer };

	return bsearch(&key, r->rows, r->nr, sizeof(key), choice_cmp);
}

int run_routing_covers(const struct run_routing *r, uint32_t seq, uint32_t last, struct penstock_error *err)
{
	const struct choice *end = &r->rows[r->nr - 1];
	uint32_t pos;

	for (pos = 0; pos <= last; pos++)
		if (!find(r, seq, pos, r->first_layer))
			return decoder_fail(
				err, -EINVAL,
				"routing %s: no choice for sequence %u step %u of 0 to %u (it ends at turn %u step %u)",
				r->path, seq, pos, last, end->turn, end->step);
	return 0;
}

static int follow(void *arg, uint32_t layer, uint32_t seq, uint32_t pos, size_t nr_tokens, uint32_t top_k, int32_t *ids,
		  float *weights, struct penstock_error *err)
{
	const struct run_routing *r = arg;
	const struct choice *c;
	uint32_t j;
	size_t i;

	for (i = 0; i < nr_tokens; i++) {
		c = find(r, seq, pos + (uint32_t)i, layer);
		if (!c || top_k != r->top_k[layer])
			return decoder_fail(err, -EINVAL,
					    "routing %s: no choice of %u experts for sequence %u step %u layer %u",
					    r->path, top_k, seq, pos + (uint32_t)i, layer);
		for (j = 0; j < top_k; j++) {
			ids[i * top_k + j] = c[j].expert;
			weights[i * top_k + j] = c[j].weight;
		}
	}
	return 0;
}

struct decoder_router_hook run_routing_hook(const struct run_routing *r)
{
	return (struct decoder_router_hook){ .fn = follow, .arg = (void *)r };
}
