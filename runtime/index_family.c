// SPDX-License-Identifier: MIT
/*
 * From tensors and configuration to layers: one pass over the names finds the
 * per-expert tensors, then each layer is described and held against what the
 * configuration says.
 *
 * A checkpoint without any expert tensor, or of an unknown architecture, is still
 * a valid index: its layers have no experts.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kabi.h>
#include "index_build.h"

/* Layers past the decoder's that are believed to be there for prediction. */
#define MTP_MAX	64u

const struct penstock_meta *penstock_index_conf_meta(const struct penstock_index_conf *c, const char *key)
{
	char full[256];

	if ((size_t)snprintf(full, sizeof(full), "%s%s", c->keys, key) >= sizeof(full))
		return NULL;
	return penstock_index_meta(c->b->ix, full);
}

int penstock_index_conf_u(const struct penstock_index_conf *c, const char *key, uint32_t def, uint32_t *v)
{
	const struct penstock_meta *m = penstock_index_conf_meta(c, key);
	double d;

	*v = def;
	if (!m)
		return 0;
	/* GGUF may give a value a layer (feed_forward_length); they are alike where experts are */
	d = m->type == PENSTOCK_META_NUMBERS && m->nr ? m->numbers[m->nr - 1] : m->number;
	if ((m->type != PENSTOCK_META_NUMBER && m->type != PENSTOCK_META_NUMBERS) || !(d >= 0 && d <= INT32_MAX) ||
	    d != (double)(uint32_t)d)
		return penstock_err(c->b->err, -EBADMSG, "%s: %s%s is no count", c->b->ix->path, c->keys, key);
	*v = (uint32_t)d;
	return 0;
}

double penstock_index_conf_f(const struct penstock_index_conf *c, const char *key, double def)
{
	const struct penstock_meta *m = penstock_index_conf_meta(c, key);

	return m && (m->type == PENSTOCK_META_NUMBER || m->type == PENSTOCK_META_BOOL) ? m->number : def;
}

static bool in_list(const struct penstock_meta *list, uint32_t layer)
{
	uint64_t i;

	for (i = 0; list && i < list->nr; i++)
		if (list->numbers[i] == layer)
			return true;
	return false;
}

/* What the configuration says of a decoder layer. */
static bool is_moe(const struct penstock_index_conf *c, uint32_t layer)
{
	if (c->moe_only)
		return in_list(c->moe_only, layer);
	return layer >= c->first_dense && !in_list(c->dense_only, layer) && c->step && (layer + 1) % c->step == 0;
}

static int check_conf(const struct penstock_index_conf *c)
{
	const struct penstock_layer_info *r = &c->router;
	const char *what = NULL;

	if (!c->nr_layers || c->nr_layers > PENSTOCK_INDEX_MAX_LAYERS)
		what = "number of layers";
	else if (!c->nr_experts || c->nr_experts > PENSTOCK_INDEX_MAX_EXPERTS)
		what = "number of experts";
	else if (!r->top_k || r->top_k > c->nr_experts)
		what = "number of experts a token";
	else if (!c->hidden || !c->inter)
		what = "width of the model or of its experts";
	else if (c->nr_shared > 1024)
		what = "number of shared experts";
	else if ((c->dense_only && c->dense_only->nr > PENSTOCK_INDEX_MAX_LAYERS) ||
		 (c->moe_only && c->moe_only->nr > PENSTOCK_INDEX_MAX_LAYERS))
		what = "list of layers";
	else if (r->nr_groups > 1 && (c->nr_experts % r->nr_groups || !r->top_groups || r->top_groups > r->nr_groups ||
				      c->nr_experts / r->nr_groups * r->top_groups < r->top_k))
		what = "grouping of experts";
	if (!what)
		return 0;
	return penstock_err(
		c->b->err, -EBADMSG,
		"%s: impossible %s: %u layers, %u experts, %u a token, %u of %u groups, width %u, experts' %u",
		c->b->ix->path, what, c->nr_layers, c->nr_experts, r->top_k, r->top_groups, r->nr_groups, c->hidden,
		c->inter);
}

/* ---- one pass over the names ---- */

/* A number without leading zeros; NULL if there is none, or it does not fit. */
static const char *parse_number(const char *s, uint32_t *v)
{
	uint64_t n = 0;

	if (*s < '0' || *s > '9' || (*s == '0' && s[1] >= '0' && s[1] <= '9'))
		return NULL;
	for (; *s >= '0' && *s <= '9'; s++) {
		n = n * 10 + (uint64_t)(*s - '0');
		if (n > INT32_MAX)
			return NULL;
	}
	*v = (uint32_t)n;
	return s;
}

static const char *skip_prefix(const char *s, const char *prefix)
{
	size_t n = strlen(prefix);

	return s && !strncmp(s, prefix, n) ? s + n : NULL;
}

struct found {
	uint32_t layer;
	uint32_t expert;
	uint32_t role;
	enum penstock_index_form form;
	bool scale_inv;
};

/* "model.layers.3.mlp.experts.17.up_proj.weight". Return: 0; 1 something else; -1 an expert's, but of no known form. */
static int parse_hf(const struct penstock_index_conf *c, const char *name, struct found *f)
{
	const char *s = skip_prefix(name, c->layers), *rest = NULL;
	uint32_t i;

	s = s ? parse_number(s, &f->layer) : NULL;
	s = skip_prefix(skip_prefix(skip_prefix(s, "."), c->names->block), "experts.");
	s = s ? parse_number(s, &f->expert) : NULL;
	s = skip_prefix(s, ".");
	for (i = 0; i < 3 && s; i++) {
		rest = skip_prefix(skip_prefix(s, c->names->proj[i]), ".");
		if (rest)
			break;
	}
	if (!rest)
		return 1;
	f->role = i;
	f->scale_inv = !strcmp(rest, "weight_scale_inv");
	if (!strcmp(rest, "weight"))
		f->form = PENSTOCK_FORM_WEIGHT;
	else if (!strcmp(rest, "weight_packed"))
		f->form = PENSTOCK_FORM_PACKED;
	else if (f->scale_inv || !strcmp(rest, "weight_scale"))
		f->form = PENSTOCK_FORM_SCALE;
	else if (!strcmp(rest, "weight_zero_point") || !strcmp(rest, "weight_g_idx") || !strcmp(rest, "bias"))
		return -1;
	else
		return 1;
	return 0;
}

/* "blk.3.ffn_up.17.weight" */
static int parse_gguf(const struct penstock_index_conf *c, const char *name, struct found *f)
{
	static const char *const roles[] = { "ffn_gate.", "ffn_up.", "ffn_down." };
	const char *s = skip_prefix(name, c->layers), *rest = NULL;
	uint32_t i;

	s = s ? parse_number(s, &f->layer) : NULL;
	s = skip_prefix(s, ".");
	for (i = 0; i < 3 && s; i++) {
		rest = skip_prefix(s, roles[i]);
		if (rest)
			break;
	}
	rest = rest ? parse_number(rest, &f->expert) : NULL;
	if (!rest || strcmp(rest, ".weight"))
		return 1;
	f->role = i;
	f->form = PENSTOCK_FORM_WEIGHT;
	f->scale_inv = false;
	return 0;
}

static int note_expert(const struct penstock_index_conf *c, struct penstock_index_scan *scans, uint32_t tensor,
		       const struct found *f, uint32_t *nr_found)
{
	const char *name = c->b->ix->tensors[tensor].name;
	struct penstock_index_scan *s;
	uint32_t **list;
	uint32_t i;

	if (f->layer >= c->nr_layers + MTP_MAX)
		return penstock_err(c->b->err, -EBADMSG, "%s: layer %u of %u", name, f->layer, c->nr_layers);
	if (f->expert >= c->nr_experts)
		return penstock_err(c->b->err, -EBADMSG, "%s: expert %u of %u", name, f->expert, c->nr_experts);
	s = &scans[f->layer];
	list = &s->experts[f->role][f->form];
	if (!*list) {
		/* more experts than tensors are not all there; not to be found out by filling memory */
		if (c->nr_experts > c->b->ix->nr_tensors)
			return penstock_err(c->b->err, -EBADMSG, "%s: %u experts, but %u tensors in all", name,
					    c->nr_experts, c->b->ix->nr_tensors);
		*list = penstock_index_alloc(&c->b->ix->arena, c->nr_experts * sizeof(**list));
		if (!*list)
			return penstock_index_nomem(c->b);
		for (i = 0; i < c->nr_experts; i++)
			(*list)[i] = PENSTOCK_NO_TENSOR;
	}
	(*list)[f->expert] = tensor;
	s->scale_inv |= f->scale_inv;
	s->any = true;
	if (f->layer >= *nr_found)
		*nr_found = f->layer + 1;
	return 0;
}

/* Fill @scans; *@nr_found becomes the number of layers that have experts, or names, past the decoder's too. */
static int scan(const struct penstock_index_conf *c, struct penstock_index_scan *scans, uint32_t *nr_found)
{
	const struct penstock_index *ix = c->b->ix;
	struct found f;
	uint32_t i;
	int rc;

	for (i = 0; i < ix->nr_tensors; i++) {
		rc = c->names ? parse_hf(c, ix->tensors[i].name, &f) : parse_gguf(c, ix->tensors[i].name, &f);
		if (rc < 0)
			return penstock_err(c->b->err, -EOPNOTSUPP,
					    "%s: experts with zero points, group indices or biases",
					    ix->tensors[i].name);
		if (!rc)
			rc = note_expert(c, scans, i, &f, nr_found);
		if (rc < 0)
			return rc;
	}
	for (i = 0; i < c->nr_layers + MTP_MAX; i++) {
		if (!penstock_index_fused_exists(c, i))
			continue;
		scans[i].any = true;
		if (i >= *nr_found)
			*nr_found = i + 1;
	}
	return 0;
}

/* ---- layers ---- */

int penstock_index_want(const struct penstock_index_conf *c, uint32_t layer, const char *name, const uint64_t *dims,
			uint32_t nr_dims, uint32_t *nr)
{
	const struct penstock_index *ix = c->b->ix;
	const struct penstock_index_tensor *t;
	char full[256], seen[160], want[160];
	int64_t found;

	*nr = PENSTOCK_NO_TENSOR;
	if ((size_t)snprintf(full, sizeof(full), "%s%u.%s%s", c->layers, layer, c->names ? c->names->block : "",
			     name) >= sizeof(full))
		return 0;
	found = penstock_index_find(ix, full);
	if (found < 0)
		return 0;
	t = &ix->tensors[found];
	if (dims && (t->nr_dims != nr_dims || memcmp(penstock_index_tensor_dims(t), dims, nr_dims * sizeof(*dims))))
		return penstock_err(c->b->err, -EBADMSG, "%s: tensor %s has shape %s, its configuration says %s",
				    ix->store.files[t->file].path, full,
				    penstock_index_shape(penstock_index_tensor_dims(t), t->nr_dims, seen, sizeof(seen)),
				    penstock_index_shape(dims, nr_dims, want, sizeof(want)));
	*nr = (uint32_t)found;
	return 0;
}

/* One matrix of the shared expert, and its scales. */
static int want_shared(const struct penstock_index_conf *c, uint32_t layer, uint32_t role,
		       struct penstock_layer_info *info)
{
	static const char *const gguf[] = { "ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp" };
	uint64_t width = (uint64_t)c->inter * c->nr_shared;
	uint64_t dims[2] = { role == PENSTOCK_ROLE_DOWN ? c->hidden : width,
			     role == PENSTOCK_ROLE_DOWN ? width : c->hidden };
	const uint64_t *want = c->nr_shared ? dims : NULL;
	uint64_t blocks[2] = { (dims[0] + c->block_rows - 1) / c->block_rows,
			       (dims[1] + c->block_cols - 1) / c->block_cols };
	uint32_t *t = &info->t_shared[role], *scale = &info->t_shared_scale[role];
	char base[96], name[128];
	int rc;

	if (c->names && !c->names->shared)
		return 0;
	if (c->names)
		snprintf(base, sizeof(base), "%s%s", c->names->shared, c->names->proj[role]);
	else
		snprintf(base, sizeof(base), "%s", gguf[role]);
	snprintf(name, sizeof(name), "%s.weight", base);
	rc = penstock_index_want(c, layer, name, want, 2, t);
	if (!rc && *t == PENSTOCK_NO_TENSOR) {
		snprintf(name, sizeof(name), "%s.weight_packed", base);
		rc = penstock_index_want(c, layer, name, NULL, 0, t);
	}
	if (!rc && *t != PENSTOCK_NO_TENSOR) {
		snprintf(name, sizeof(name), "%s.weight_scale_inv", base);
		rc = penstock_index_want(c, layer, name, want ? blocks : NULL, 2, scale);
		if (!rc && *scale == PENSTOCK_NO_TENSOR) {
			snprintf(name, sizeof(name), "%s.weight_scale", base);
			rc = penstock_index_want(c, layer, name, NULL, 0, scale);
		}
	}
	if (!rc && *t == PENSTOCK_NO_TENSOR && c->shared_required)
		rc = penstock_err(c->b->err, -EBADMSG, "%s: layer %u has no shared expert %s", c->b->ix->path, layer,
				  base);
	return rc;
}

static int router_tensors(const struct penstock_index_conf *c, uint32_t layer, struct penstock_layer_info *info)
{
	uint64_t dims[2] = { c->nr_experts, c->hidden };
	const char *router = c->names ? c->names->router : "ffn_gate_inp";
	char name[128];
	uint32_t i;
	int rc;

	snprintf(name, sizeof(name), "%s.weight", router);
	rc = penstock_index_want(c, layer, name, dims, 2, &info->t_router);
	if (!rc && info->t_router == PENSTOCK_NO_TENSOR)
		rc = penstock_err(c->b->err, -EBADMSG, "%s: layer %u has experts, but no router %s%u.%s%s",
				  c->b->ix->path, layer, c->layers, layer, c->names ? c->names->block : "", name);
	snprintf(name, sizeof(name), "%s.bias", router);
	if (!rc)
		rc = penstock_index_want(c, layer, name, dims, 1, &info->t_router_bias);
	if (!rc && info->score == PENSTOCK_SCORE_TOPK_SOFTMAX && info->t_router_bias == PENSTOCK_NO_TENSOR)
		rc = penstock_err(c->b->err, -EBADMSG, "%s: layer %u has no router bias %s", c->b->ix->path, layer,
				  name);
	snprintf(name, sizeof(name), "%s", c->names ? "gate.e_score_correction_bias" : "exp_probs_b.bias");
	if (!rc)
		rc = penstock_index_want(c, layer, name, dims, 1, &info->t_select_bias);
	if (!rc && c->select_bias_required && info->t_select_bias == PENSTOCK_NO_TENSOR)
		rc = penstock_err(c->b->err, -EBADMSG, "%s: layer %u has no selection bias %s", c->b->ix->path, layer,
				  name);
	for (i = 0; i < 3 && !rc; i++)
		rc = want_shared(c, layer, i, info);
	return rc;
}

static void empty_layer(struct penstock_layer_info *info, uint32_t kind, uint32_t hidden)
{
	uint32_t i;

	memset(info, 0, sizeof(*info));
	info->size = sizeof(*info);
	info->kind = kind;
	info->hidden = hidden;
	info->router_scale = 1.0f;
	info->t_router = PENSTOCK_NO_TENSOR;
	info->t_router_bias = PENSTOCK_NO_TENSOR;
	info->t_select_bias = PENSTOCK_NO_TENSOR;
	for (i = 0; i < 3; i++) {
		info->t_shared[i] = PENSTOCK_NO_TENSOR;
		info->t_shared_scale[i] = PENSTOCK_NO_TENSOR;
	}
}

static int describe_layer(const struct penstock_index_conf *c, uint32_t layer, const struct penstock_index_scan *s)
{
	struct penstock_layer_info *info = &c->b->ix->layers[layer].info;
	bool mtp = layer >= c->nr_layers;

	if (!mtp && s->any != is_moe(c, layer))
		return penstock_err(c->b->err, -EBADMSG,
				    "%s: layer %u has %s experts, its configuration says it has %s", c->b->ix->path,
				    layer, s->any ? "" : "no", s->any ? "none" : "some");
	if (!s->any) {
		empty_layer(info, mtp ? PENSTOCK_LAYER_MTP : PENSTOCK_LAYER_DENSE, c->hidden);
		return 0;
	}
	*info = c->router;
	info->kind = mtp ? PENSTOCK_LAYER_MTP : PENSTOCK_LAYER_MOE;
	info->nr_experts = c->nr_experts;
	info->inter = c->inter;
	if (penstock_index_parts(c, layer, s))
		return c->b->err ? c->b->err->code : -EBADMSG;
	return router_tensors(c, layer, info);
}

static int describe(struct penstock_index_conf *c, struct penstock_index_scan *scans)
{
	struct penstock_index *ix = c->b->ix;
	uint32_t nr = 0, i;
	bool any = false;
	int rc;

	rc = scan(c, scans, &nr);
	if (rc)
		return rc;
	for (i = 0; i < nr; i++)
		any |= scans[i].any;
	ix->nr_layers = c->nr_layers;
	ix->nr_mtp_layers = nr > c->nr_layers ? nr - c->nr_layers : 0;
	ix->layers = calloc(ix->nr_layers + ix->nr_mtp_layers, sizeof(*ix->layers));
	if (!ix->layers)
		return penstock_index_nomem(c->b);
	for (i = 0; i < ix->nr_layers + ix->nr_mtp_layers && !rc; i++) {
		if (any)
			rc = describe_layer(c, i, &scans[i]);
		else
			empty_layer(&ix->layers[i].info, PENSTOCK_LAYER_DENSE, c->hidden);
	}
	return rc;
}

int penstock_index_family(struct penstock_index_build *b)
{
	struct penstock_index_conf c = { .b = b };
	struct penstock_index_scan *scans;
	int rc;

	empty_layer(&c.router, PENSTOCK_LAYER_MOE, 0);
	rc = b->ix->format == PENSTOCK_FORMAT_GGUF ? penstock_index_gguf(&c) : penstock_index_hf(&c);
	if (rc)
		return rc < 0 ? rc : 0;
	if (c.names)
		b->ix->family = c.names->family;
	rc = check_conf(&c);
	if (rc)
		return rc;
	b->ix->hidden = c.hidden;
	c.router.hidden = c.hidden;
	scans = calloc(c.nr_layers + MTP_MAX, sizeof(*scans));
	if (!scans)
		return penstock_index_nomem(b);
	rc = describe(&c, scans);
	free(scans);
	return rc;
}
