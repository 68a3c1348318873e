// SPDX-License-Identifier: MIT
/*
 * The parts of a layer's experts: which tensors hold them, with which shape,
 * strides, scales. Every tensor of every expert is held against the shape that
 * the configuration implies, so that extents need no check later.
 */
#include <stdio.h>
#include <string.h>

#include "index_build.h"

/* How a weight lies in its tensor. */
enum layout {
	LAYOUT_PLAIN,		/* [out, in] */
	LAYOUT_TRANSPOSED,	/* [in, out] */
	LAYOUT_PACKED,		/* int4, eight to an I32: [out, in / 8] */
	LAYOUT_BLOCKS,		/* FP4 in bytes, by blocks of 32: [out, in / 32, 16] */
};

/* One part in the making. */
struct make {
	const struct penstock_index_conf *c;
	uint32_t layer;
	uint32_t role;
	uint32_t fuse;
	uint64_t rows;			/* of the weight */
	uint64_t cols;
	const uint32_t *tensors;	/* one an expert, or NULL */
	uint32_t fused;
};

static const struct penstock_index_tensor *tensor_of(const struct make *m, uint32_t expert)
{
	return &m->c->b->ix->tensors[m->tensors ? m->tensors[expert] : m->fused];
}

static int shape_error(const struct make *m, const struct penstock_index_tensor *t, const char *want)
{
	const struct penstock_index *ix = m->c->b->ix;
	char seen[160];

	return penstock_err(m->c->b->err, -EBADMSG, "%s: tensor %s has shape %s, its configuration says %s",
			    ix->store.files[t->file].path, t->name,
			    penstock_index_shape(penstock_index_tensor_dims(t), t->nr_dims, seen, sizeof(seen)), want);
}

/* Dimensions of one expert: without the leading one of a fused tensor. */
static const uint64_t *inner_dims(const struct make *m, const struct penstock_index_tensor *t, uint32_t *nr)
{
	const uint64_t *dims = penstock_index_tensor_dims(t);

	*nr = t->nr_dims;
	if (m->tensors)
		return dims;
	/* ggml leaves out outer dimensions of 1, so a single expert has none */
	if (!m->c->names && m->c->nr_experts == 1 && (t->nr_dims < 2 || dims[0] != 1))
		return dims;
	if (!t->nr_dims || dims[0] != m->c->nr_experts)
		return NULL;
	(*nr)--;
	return dims + 1;
}

/* All tensors of the part have these inner dimensions, and one type. */
static int check_dims(const struct make *m, const uint64_t *want, uint32_t nr)
{
	const struct penstock_index_tensor *t, *first = NULL;
	uint32_t e, seen_nr, count = m->tensors ? m->c->nr_experts : 1;
	uint64_t full[PENSTOCK_MAX_DIMS] = { m->c->nr_experts };
	const uint64_t *dims;
	char text[160];

	if (nr)
		memcpy(full + 1, want, nr * sizeof(*want));
	for (e = 0; e < count; e++) {
		if (m->tensors && m->tensors[e] == PENSTOCK_NO_TENSOR)
			return penstock_err(m->c->b->err, -EBADMSG,
					    "%s: layer %u, expert %u: a tensor like %s is missing", m->c->b->ix->path,
					    m->layer, e, first ? first->name : "those of its other experts");
		t = tensor_of(m, e);
		dims = inner_dims(m, t, &seen_nr);
		if (!dims || seen_nr != nr || (nr && memcmp(dims, want, nr * sizeof(*want))))
			return shape_error(m, t, m->tensors ? penstock_index_shape(want, nr, text, sizeof(text)) :
							      penstock_index_shape(full, nr + 1, text, sizeof(text)));
		first = first ? first : t;
		if (t->dtype != first->dtype || t->bytes != first->bytes)
			return penstock_err(m->c->b->err, -EBADMSG,
					    "tensor %s is of type %s, %s of type %s: one layer, one type", t->name,
					    penstock_index_dtype_name(t->dtype), first->name,
					    penstock_index_dtype_name(first->dtype));
	}
	return 0;
}

/* A new part of the layer with what all kinds have alike, or NULL with the error set. */
static struct penstock_part *add_part(const struct make *m, uint32_t kind, uint32_t dtype)
{
	struct penstock_index_layer *l = &m->c->b->ix->layers[m->layer];
	const struct penstock_index_tensor *t = tensor_of(m, 0);
	struct penstock_index_part *at;
	struct penstock_part *p;

	if (l->info.nr_parts == PENSTOCK_MAX_PARTS) {
		penstock_err(m->c->b->err, -EBADMSG, "layer %u: more than %d parts an expert", m->layer,
			     PENSTOCK_MAX_PARTS);
		return NULL;
	}
	if (!m->tensors && t->bytes % m->c->nr_experts) {
		penstock_err(m->c->b->err, -EBADMSG, "tensor %s: %llu bytes do not divide into %u experts", t->name,
			     (unsigned long long)t->bytes, m->c->nr_experts);
		return NULL;
	}
	p = &l->info.parts[l->info.nr_parts];
	at = &l->parts[l->info.nr_parts++];
	p->role = m->role;
	p->kind = kind;
	p->dtype = dtype;
	p->fuse = m->fuse;
	p->bytes = m->tensors ? t->bytes : t->bytes / m->c->nr_experts;
	at->tensors = (uint32_t *)m->tensors;
	at->fused = m->fused;
	at->stride = m->tensors ? 0 : p->bytes;
	l->info.expert_bytes += p->bytes;
	return p;
}

static int weight_part(const struct make *m, enum layout layout)
{
	const struct penstock_index_tensor *t;
	const struct penstock_dtype_info *info;
	uint64_t dims[3] = { m->rows, m->cols, 0 };
	uint32_t nr = 2, dtype;
	struct penstock_part *p;
	int rc;

	if ((layout == LAYOUT_PACKED && m->cols % 8) || (layout == LAYOUT_BLOCKS && m->cols % 32))
		return penstock_err(m->c->b->err, -EBADMSG, "layer %u: width %llu is no multiple of a packed block",
				    m->layer, (unsigned long long)m->cols);
	if (layout == LAYOUT_TRANSPOSED) {
		dims[0] = m->cols;
		dims[1] = m->rows;
	} else if (layout == LAYOUT_PACKED) {
		dims[1] = m->cols / 8;
	} else if (layout == LAYOUT_BLOCKS) {
		dims[1] = m->cols / 32;
		dims[2] = 16;
		nr = 3;
	}
	rc = check_dims(m, dims, nr);
	if (rc)
		return rc;
	t = tensor_of(m, 0);
	dtype = t->dtype;
	if ((layout == LAYOUT_PACKED && dtype != PENSTOCK_DTYPE_I32) ||
	    (layout == LAYOUT_BLOCKS && dtype != PENSTOCK_DTYPE_U8))
		return penstock_err(m->c->b->err, -EBADMSG, "tensor %s: packed weights are of type %s here, not %s",
				    t->name, layout == LAYOUT_PACKED ? "I32" : "U8", penstock_index_dtype_name(dtype));
	if (layout == LAYOUT_PACKED)
		dtype = PENSTOCK_DTYPE_INT4;
	else if (layout == LAYOUT_BLOCKS)
		dtype = PENSTOCK_DTYPE_F4;
	p = add_part(m, PENSTOCK_KIND_WEIGHT, dtype);
	if (!p)
		return -EBADMSG;
	p->rows = m->rows;
	p->cols = m->cols;
	info = penstock_dtype_info(dtype);
	if (dtype && info && info->elems == 1) {
		p->row_stride = layout == LAYOUT_TRANSPOSED ? info->bytes : info->bytes * m->cols;
		p->col_stride = layout == LAYOUT_TRANSPOSED ? info->bytes * m->rows : info->bytes;
	} else {
		/* packed, or unknown but of known size: rows are contiguous */
		p->row_stride = p->bytes / m->rows;
	}
	return 0;
}

/* Scales of the weight: in blocks, by groups, one a row, or one. */
static int scale_part(const struct make *m, uint32_t dtype, uint32_t block_rows, uint32_t block_cols)
{
	const struct penstock_index_tensor *t = tensor_of(m, 0);
	const struct penstock_dtype_info *info;
	const uint64_t *dims;
	uint64_t rows = 1, cols = 1;
	bool transposed = false;
	struct penstock_part *p;
	char want[160];
	uint32_t nr;
	int rc;

	if (m->tensors && m->tensors[0] == PENSTOCK_NO_TENSOR)
		return check_dims(m, NULL, 0);
	dims = inner_dims(m, t, &nr);
	if (!dims || nr > 2)
		return shape_error(m, t, "scales of two dimensions an expert");
	rc = check_dims(m, dims, nr);
	if (rc)
		return rc;
	if (nr)
		rows = dims[0];
	if (nr == 2)
		cols = dims[1];
	/* fused and transposed, one an output: [1, out] */
	if (!block_rows && nr == 2 && rows == 1 && cols == m->rows && m->rows > 1) {
		transposed = true;
		rows = cols;
		cols = 1;
	}
	if (block_rows) {
		snprintf(want, sizeof(want), "[%llu, %llu]", (unsigned long long)((m->rows - 1) / block_rows + 1),
			 (unsigned long long)((m->cols - 1) / block_cols + 1));
		if (rows != (m->rows - 1) / block_rows + 1 || cols != (m->cols - 1) / block_cols + 1)
			return shape_error(m, t, want);
	} else {
		snprintf(want, sizeof(want), "divisors of [%llu, %llu]", (unsigned long long)m->rows,
			 (unsigned long long)m->cols);
		if (!rows || !cols || m->rows % rows || m->cols % cols)
			return shape_error(m, t, want);
		block_rows = (uint32_t)(m->rows / rows);
		block_cols = (uint32_t)(m->cols / cols);
	}
	p = add_part(m, PENSTOCK_KIND_SCALE, dtype ? dtype : t->dtype);
	if (!p)
		return -EBADMSG;
	p->rows = rows;
	p->cols = cols;
	p->block_rows = block_rows;
	p->block_cols = block_cols;
	info = penstock_dtype_info(p->dtype);
	if (p->dtype && info && info->elems == 1) {
		p->row_stride = transposed ? info->bytes : info->bytes * cols;
		p->col_stride = info->bytes;
	} else {
		p->row_stride = p->bytes / rows;
	}
	return 0;
}

static int bias_part(const struct make *m)
{
	struct penstock_part *p;
	uint64_t dims[1] = { m->rows };
	int rc;

	rc = check_dims(m, dims, 1);
	if (rc)
		return rc;
	p = add_part(m, PENSTOCK_KIND_BIAS, tensor_of(m, 0)->dtype);
	if (!p)
		return -EBADMSG;
	p->rows = m->rows;
	p->cols = 1;
	p->row_stride = p->bytes / m->rows;
	return 0;
}

static void set_role(struct make *m, uint32_t role)
{
	const struct penstock_index_conf *c = m->c;

	m->role = role;
	m->fuse = PENSTOCK_FUSE_NONE;
	m->rows = role == PENSTOCK_ROLE_DOWN ? c->hidden : c->inter;
	m->cols = role == PENSTOCK_ROLE_DOWN ? c->inter : c->hidden;
	if (role == PENSTOCK_ROLE_GATE_UP) {
		m->rows = 2ull * c->inter;
		m->fuse = c->names ? c->names->fuse : PENSTOCK_FUSE_HALVES;
	}
}

/* One tensor an expert. */
static int per_expert(struct make *m, const struct penstock_index_scan *s)
{
	const struct penstock_index_conf *c = m->c;
	enum layout layout;
	uint32_t role;
	int rc = 0;

	for (role = PENSTOCK_ROLE_GATE; role <= PENSTOCK_ROLE_DOWN && !rc; role++) {
		set_role(m, role);
		layout = LAYOUT_PLAIN;
		m->tensors = s->experts[role][PENSTOCK_FORM_WEIGHT];
		if (!m->tensors) {
			layout = LAYOUT_PACKED;
			m->tensors = s->experts[role][PENSTOCK_FORM_PACKED];
		}
		if (!m->tensors)
			return penstock_err(c->b->err, -EBADMSG, "%s: layer %u: its experts have no %s weights",
					    c->b->ix->path, m->layer,
					    role == PENSTOCK_ROLE_GATE ? "gate"
					    : role == PENSTOCK_ROLE_UP ? "up"
								       : "down");
		rc = weight_part(m, layout);
		m->tensors = s->experts[role][PENSTOCK_FORM_SCALE];
		if (!rc && m->tensors)
			rc = scale_part(m, 0, s->scale_inv ? c->block_rows : 0, s->scale_inv ? c->block_cols : 0);
	}
	m->tensors = NULL;
	return rc;
}

/* ---- one tensor for all experts ---- */

static const char *const hf_fused[] = { NULL, NULL, "experts.down_proj", "experts.gate_up_proj" };
static const char *const gguf_fused[] = { "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps", "ffn_gate_up_exps" };

static uint32_t fused_tensor(const struct penstock_index_conf *c, uint32_t layer, const char *base, const char *end)
{
	char name[128];
	uint32_t nr;

	snprintf(name, sizeof(name), "%s%s", base, end);
	penstock_index_want(c, layer, name, NULL, 0, &nr);
	return nr;
}

static uint32_t fused_weight(const struct penstock_index_conf *c, uint32_t layer, uint32_t role, enum layout *layout)
{
	const char *base = c->names ? hf_fused[role] : gguf_fused[role];
	uint32_t nr;

	*layout = c->names && c->names->transposed ? LAYOUT_TRANSPOSED : LAYOUT_PLAIN;
	if (!base)
		return PENSTOCK_NO_TENSOR;
	nr = fused_tensor(c, layer, base, ".weight");
	if (nr != PENSTOCK_NO_TENSOR || !c->names)
		return nr;
	nr = fused_tensor(c, layer, base, "");
	if (nr != PENSTOCK_NO_TENSOR)
		return nr;
	*layout = LAYOUT_BLOCKS;
	return fused_tensor(c, layer, base, "_blocks");
}

bool penstock_index_fused_exists(const struct penstock_index_conf *c, uint32_t layer)
{
	enum layout layout;
	uint32_t role;

	for (role = PENSTOCK_ROLE_GATE; role <= PENSTOCK_ROLE_GATE_UP; role++)
		if (fused_weight(c, layer, role, &layout) != PENSTOCK_NO_TENSOR)
			return true;
	return false;
}

static int fused_scales(struct make *m, enum layout layout, const char *base)
{
	static const char *const ends[] = { "_scale", ".weight_scale", "_scale_inv", ".weight_scale_inv" };
	const struct penstock_index_conf *c = m->c;
	uint32_t i;

	if (layout == LAYOUT_BLOCKS) {
		m->fused = fused_tensor(c, m->layer, base, "_scales");
		if (m->fused == PENSTOCK_NO_TENSOR)
			return penstock_err(c->b->err, -EBADMSG, "%s: layer %u has %s_blocks, but no %s_scales",
					    c->b->ix->path, m->layer, base, base);
		if (tensor_of(m, 0)->dtype != PENSTOCK_DTYPE_U8)
			return penstock_err(c->b->err, -EBADMSG, "tensor %s is of type %s, not U8",
					    tensor_of(m, 0)->name, penstock_index_dtype_name(tensor_of(m, 0)->dtype));
		return scale_part(m, PENSTOCK_DTYPE_F8_E8M0, 1, 32);
	}
	for (i = 0; i < PENSTOCK_ARRAY_SIZE(ends); i++) {
		m->fused = fused_tensor(c, m->layer, base, ends[i]);
		if (m->fused != PENSTOCK_NO_TENSOR)
			return scale_part(m, 0, i >= 2 ? c->block_rows : 0, i >= 2 ? c->block_cols : 0);
	}
	return 0;
}

static int one_fused(struct make *m, uint32_t role)
{
	const struct penstock_index_conf *c = m->c;
	const char *base = c->names ? hf_fused[role] : gguf_fused[role];
	enum layout layout;
	int rc;

	set_role(m, role);
	m->fused = fused_weight(c, m->layer, role, &layout);
	if (m->fused == PENSTOCK_NO_TENSOR)
		return penstock_err(c->b->err, -EBADMSG, "%s: layer %u has experts, but no %s%u.%s%s", c->b->ix->path,
				    m->layer, c->layers, m->layer, c->names ? c->names->block : "", base);
	rc = weight_part(m, layout);
	if (!rc && c->names)
		rc = fused_scales(m, layout, base);
	if (rc)
		return rc;
	m->fused = fused_tensor(c, m->layer, base, c->names ? "_bias" : ".bias");
	if (m->fused != PENSTOCK_NO_TENSOR)
		return bias_part(m);
	if (c->router.act)
		return penstock_err(c->b->err, -EBADMSG, "%s: layer %u has no bias of %s", c->b->ix->path, m->layer,
				    base);
	return 0;
}

/* Weights of one type all have scales, or none has; int4 is nothing without them. */
static int check_scales(const struct penstock_index_conf *c, uint32_t layer)
{
	const struct penstock_layer_info *info = &c->b->ix->layers[layer].info;
	const struct penstock_part *p, *weight[2] = { NULL, NULL };
	uint32_t i, has, bare;

	for (i = 0; i < info->nr_parts; i++) {
		p = &info->parts[i];
		if (p->kind != PENSTOCK_KIND_WEIGHT)
			continue;
		/* a weight's scales come right after it */
		has = i + 1 < info->nr_parts && info->parts[i + 1].kind == PENSTOCK_KIND_SCALE;
		if (!has && p->dtype == PENSTOCK_DTYPE_INT4)
			weight[1] = p;
		weight[has] = p;
		if (!weight[0] || !weight[1] || weight[0]->dtype != weight[1]->dtype)
			continue;
		bare = penstock_index_part_tensor(c->b->ix, layer, 0, (uint32_t)(weight[0] - info->parts));
		return penstock_err(c->b->err, -EBADMSG,
				    "%s: layer %u: scales of some %s weights are missing, such as of %s",
				    c->b->ix->path,
				    layer, penstock_index_dtype_name(weight[0]->dtype), c->b->ix->tensors[bare].name);
	}
	return 0;
}

static int describe_parts(const struct penstock_index_conf *c, uint32_t layer, const struct penstock_index_scan *scan)
{
	struct make m = { .c = c, .layer = layer };
	enum layout layout;
	uint32_t role;
	int rc = 0;

	for (role = PENSTOCK_ROLE_GATE; role <= PENSTOCK_ROLE_DOWN; role++)
		if (scan->experts[role][PENSTOCK_FORM_WEIGHT] || scan->experts[role][PENSTOCK_FORM_PACKED])
			return per_expert(&m, scan);
	if (fused_weight(c, layer, PENSTOCK_ROLE_GATE_UP, &layout) != PENSTOCK_NO_TENSOR || c->names) {
		rc = one_fused(&m, PENSTOCK_ROLE_GATE_UP);
	} else {
		rc = one_fused(&m, PENSTOCK_ROLE_GATE);
		if (!rc)
			rc = one_fused(&m, PENSTOCK_ROLE_UP);
	}
	return rc ? rc : one_fused(&m, PENSTOCK_ROLE_DOWN);
}

int penstock_index_parts(const struct penstock_index_conf *c, uint32_t layer, const struct penstock_index_scan *scan)
{
	int rc = describe_parts(c, layer, scan);

	return rc ? rc : check_scales(c, layer);
}
