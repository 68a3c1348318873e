// SPDX-License-Identifier: MIT
/*
 * Parts -> matrices: see launch.h. A fused part holds gate and up in one, as halves or
 * row by row in turn; it becomes two matrices over the same memory.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "err.h"
#include "launch.h"

/* Where one of the two outputs of a fused part starts, and how far apart its rows are, in rows of the part. */
struct rows {
	uint64_t first;
	uint64_t step;
	uint64_t nr;
};

static struct rows rows_of(const struct penstock_part *p, uint32_t role)
{
	struct rows r = { 0, 1, p->rows };

	if (p->role != PENSTOCK_ROLE_GATE_UP)
		return r;
	r.nr = p->rows / 2;
	if (p->fuse == PENSTOCK_FUSE_INTERLEAVED) {
		r.first = role == PENSTOCK_ROLE_UP;
		r.step = 2;
	} else if (role == PENSTOCK_ROLE_UP) {
		r.first = r.nr;
	}
	return r;
}

/* Does the part belong to the matrix of that role? */
static bool serves(const struct penstock_part *p, uint32_t role)
{
	return p->role == role || (p->role == PENSTOCK_ROLE_GATE_UP && role != PENSTOCK_ROLE_DOWN);
}

static int apply_part(const struct penstock_part *p, const void *ptr, uint32_t role, struct penstock_k_mat *m)
{
	struct rows r = rows_of(p, role);
	const char *at = (const char *)ptr + r.first * p->row_stride;

	if (p->role == PENSTOCK_ROLE_GATE_UP && (p->rows % 2 || p->fuse == PENSTOCK_FUSE_NONE))
		return -EINVAL;
	if (r.nr > UINT32_MAX || p->cols > UINT32_MAX)
		return -EINVAL;
	switch (p->kind) {
	case PENSTOCK_KIND_WEIGHT:
		m->dtype = p->dtype;
		m->rows = (uint32_t)r.nr;
		m->cols = (uint32_t)p->cols;
		m->data = at;
		m->row_stride = p->row_stride * r.step;
		m->col_stride = p->col_stride;
		return 0;
	case PENSTOCK_KIND_SCALE:
		/* rows of scales alternate with rows of weights only where each weight row has its own */
		if (r.step == 2 && p->block_rows != 1)
			return -EINVAL;
		m->scale_dtype = p->dtype;
		m->scale_rows = p->block_rows;
		m->scale_cols = p->block_cols;
		m->scale = at;
		m->scale_row_stride = p->row_stride * r.step;
		m->scale_col_stride = p->col_stride;
		return 0;
	case PENSTOCK_KIND_BIAS:
		m->bias_dtype = p->dtype;
		m->bias = at;
		m->bias_stride = p->row_stride * r.step;
		return 0;
	}
	return -EOPNOTSUPP;
}

int penstock_launch_view(const struct penstock_layer_info *info, const void *const *ptr,
			 struct penstock_k_expert *e, uint32_t *bad_part)
{
	struct penstock_k_mat *mats[] = { &e->gate, &e->up, &e->down };
	int rc;

	memset(e, 0, sizeof(*e));
	e->act = info->act;
	e->limit = info->act_limit;
	e->alpha = info->act_alpha;
	for (uint32_t role = PENSTOCK_ROLE_GATE; role <= PENSTOCK_ROLE_DOWN; role++) {
		*bad_part = 0;
		for (uint32_t i = 0; i < info->nr_parts; i++) {
			if (!serves(&info->parts[i], role))
				continue;
			rc = apply_part(&info->parts[i], ptr[i], role, mats[role]);
			if (rc || info->parts[i].kind == PENSTOCK_KIND_WEIGHT)
				*bad_part = i;
			if (rc)
				return rc;
		}
		rc = mats[role]->data ? penstock_k_mat_check(mats[role]) : -EINVAL;
		if (rc)
			return rc;
	}
	return 0;
}

int penstock_expert_view(const struct penstock_layer_info *info, const void *const *ptr,
			 struct penstock_k_expert *e, struct penstock_error *err)
{
	static const char *const roles[] = { "gate", "up", "down", "gate_up" };
	static const char *const kinds[] = { "weight", "scale", "bias" };
	const struct penstock_dtype_info *d;
	const struct penstock_part *p;
	uint32_t bad;
	int rc;

	penstock_err_clear(err);
	if (info->nr_parts > PENSTOCK_MAX_PARTS)
		return penstock_err(err, -EINVAL, "an expert of %u parts", info->nr_parts);
	/* a part of no type that was read from a checkpoint has a shape at least */
	if (info->nr_parts && !info->parts[0].dtype && !info->parts[0].rows)
		return penstock_err(err, -EOPNOTSUPP,
				    "an expert of a model opened by a layout: types and shapes of its %u parts are not known",
				    info->nr_parts);
	rc = penstock_launch_view(info, ptr, e, &bad);
	if (!rc)
		return 0;
	p = &info->parts[bad];
	d = penstock_dtype_info(p->dtype);
	return penstock_err(err, rc, "no matrix is made of an expert's %s %s of %llu x %llu %s",
			    p->role < 4 ? roles[p->role] : "?", p->kind < 3 ? kinds[p->kind] : "?",
			    (unsigned long long)p->rows, (unsigned long long)p->cols, d ? d->name : "?");
}
