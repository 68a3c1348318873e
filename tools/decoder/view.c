// SPDX-License-Identifier: MIT
/*
 * Expert views: see view.h. A fused part holds gate and up in one, as halves or
 * row by row in turn; it becomes two matrices over the same memory.
 */
#include <errno.h>
#include <string.h>

#include "fail.h"
#include "view.h"

static const char *const role_names[] = { "gate", "up", "down", "gate_up" };
static const char *const kind_names[] = { "weight", "scale", "bias" };

static int refuse(const struct penstock_part *p, int code, const char *why, struct penstock_error *err)
{
	const struct penstock_dtype_info *d = penstock_dtype_info(p->dtype);

	return decoder_fail(err, code, "expert part %s %s of dtype %s: %s", p->role < 4 ? role_names[p->role] : "?",
			    p->kind < 3 ? kind_names[p->kind] : "?", d ? d->name : "?", why);
}

/*
 * Which rows of a part belong to one of its matrices: the first, and how many
 * rows on the next is.
 */
struct rows {
	uint64_t first;
	uint64_t step;
	uint64_t nr;
};

static struct rows rows_of(const struct penstock_part *p, int up)
{
	struct rows r = { 0, 1, p->rows };

	if (p->role != PENSTOCK_ROLE_GATE_UP)
		return r;
	r.nr = p->rows / 2;
	if (p->fuse == PENSTOCK_FUSE_INTERLEAVED) {
		r.first = up ? 1 : 0;
		r.step = 2;
	} else {
		r.first = up ? r.nr : 0;
	}
	return r;
}

static int set(const struct penstock_part *p, int up, const void *ptr, struct penstock_k_mat *m,
	       struct penstock_error *err)
{
	struct rows r = rows_of(p, up);
	const char *at = (const char *)ptr + r.first * p->row_stride;

	if (p->role == PENSTOCK_ROLE_GATE_UP && (p->rows % 2 || p->fuse == PENSTOCK_FUSE_NONE))
		return refuse(p, -EINVAL, "fused, but not in two equal shares", err);
	if (r.nr > UINT32_MAX || p->cols > UINT32_MAX)
		return refuse(p, -EINVAL, "too large a matrix", err);
	switch (p->kind) {
	case PENSTOCK_KIND_WEIGHT:
		m->dtype = p->dtype;
		m->rows = (uint32_t)r.nr;
		m->cols = (uint32_t)p->cols;
		m->data = at;
		m->row_stride = r.step * p->row_stride;
		m->col_stride = p->col_stride;
		return 0;
	case PENSTOCK_KIND_SCALE:
		/* rows of scales alternate with rows of weights only where each weight row has its own */
		if (r.step == 2 && p->block_rows != 1)
			return refuse(p, -EINVAL, "one scale for rows of gate and of up", err);
		m->scale_dtype = p->dtype;
		m->scale_rows = p->block_rows;
		m->scale_cols = p->block_cols;
		m->scale = at;
		m->scale_row_stride = r.step * p->row_stride;
		m->scale_col_stride = p->col_stride;
		return 0;
	case PENSTOCK_KIND_BIAS:
		m->bias_dtype = p->dtype;
		m->bias = at;
		m->bias_stride = r.step * p->row_stride;
		return 0;
	}
	return refuse(p, -EOPNOTSUPP, "no matrix is made of it", err);
}

static int set_part(const struct penstock_part *p, const void *ptr, struct penstock_k_expert *e,
		    struct penstock_error *err)
{
	int rc;

	switch (p->role) {
	case PENSTOCK_ROLE_GATE:
		return set(p, 0, ptr, &e->gate, err);
	case PENSTOCK_ROLE_UP:
		return set(p, 0, ptr, &e->up, err);
	case PENSTOCK_ROLE_DOWN:
		return set(p, 0, ptr, &e->down, err);
	case PENSTOCK_ROLE_GATE_UP:
		rc = set(p, 0, ptr, &e->gate, err);
		return rc ? rc : set(p, 1, ptr, &e->up, err);
	}
	return refuse(p, -EOPNOTSUPP, "no matrix is made of it", err);
}

int decoder_view(const struct penstock_layer_info *info, const void *const ptr[PENSTOCK_MAX_PARTS],
		 struct penstock_k_expert *e, struct penstock_error *err)
{
	const struct penstock_k_mat *mats[3] = { &e->gate, &e->up, &e->down };
	const struct penstock_dtype_info *d;
	uint32_t i;
	int rc;

	memset(e, 0, sizeof(*e));
	e->act = info->act;
	e->limit = info->act_limit;
	e->alpha = info->act_alpha;
	for (i = 0; i < info->nr_parts; i++) {
		rc = set_part(&info->parts[i], ptr[i], e, err);
		if (rc)
			return rc;
	}
	for (i = 0; i < 3; i++) {
		if (!mats[i]->data)
			return decoder_fail(err, -EINVAL, "expert without %s weights", role_names[i]);
		rc = penstock_k_mat_check(mats[i]);
		d = penstock_dtype_info(mats[i]->dtype);
		if (rc)
			return decoder_fail(err, rc, "expert's %s of %u x %u %s", role_names[i], mats[i]->rows,
					    mats[i]->cols, d ? d->name : "?");
	}
	return 0;
}
