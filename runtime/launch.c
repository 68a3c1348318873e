// SPDX-License-Identifier: MIT
/* Parts -> matrices: see launch.h. */
#include <errno.h>
#include <string.h>

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

static void apply_part(const struct penstock_part *p, const void *ptr, uint32_t role, struct penstock_k_mat *m)
{
	struct rows r = rows_of(p, role);
	const char *at = (const char *)ptr + r.first * p->row_stride;

	switch (p->kind) {
	case PENSTOCK_KIND_WEIGHT:
		m->dtype = p->dtype;
		m->rows = (uint32_t)r.nr;
		m->cols = (uint32_t)p->cols;
		m->data = at;
		m->row_stride = p->row_stride * r.step;
		m->col_stride = p->col_stride;
		break;
	case PENSTOCK_KIND_SCALE:
		m->scale_dtype = p->dtype;
		m->scale_rows = p->block_rows;
		m->scale_cols = p->block_cols;
		m->scale = at;
		m->scale_row_stride = p->row_stride * r.step;
		m->scale_col_stride = p->col_stride;
		break;
	default:
		m->bias_dtype = p->dtype;
		m->bias = at;
		m->bias_stride = p->row_stride * r.step;
	}
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
	for (uint32_t i = 0; i < info->nr_parts; i++) {
		const struct penstock_part *p = &info->parts[i];

		for (uint32_t role = PENSTOCK_ROLE_GATE; role <= PENSTOCK_ROLE_DOWN; role++) {
			if (p->role == role || (p->role == PENSTOCK_ROLE_GATE_UP && role != PENSTOCK_ROLE_DOWN))
				apply_part(p, ptr[i], role, mats[role]);
		}
	}
	for (uint32_t role = PENSTOCK_ROLE_GATE; role <= PENSTOCK_ROLE_DOWN; role++) {
		if (!mats[role]->data)
			return -EINVAL;
		rc = penstock_k_mat_check(mats[role]);
		if (!rc)
			continue;
		for (*bad_part = 0; *bad_part + 1 < info->nr_parts; (*bad_part)++) {
			const struct penstock_part *p = &info->parts[*bad_part];

			if (p->kind == PENSTOCK_KIND_WEIGHT &&
			    (p->role == role || (p->role == PENSTOCK_ROLE_GATE_UP && role != PENSTOCK_ROLE_DOWN)))
				break;
		}
		return rc;
	}
	return 0;
}
