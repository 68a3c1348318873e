// SPDX-License-Identifier: MIT
/*
 * Whether a matrix can be multiplied with, and its rows as floats. Everything
 * that the kernels rely on is refused here: they check nothing themselves.
 */
#include <errno.h>
#include "kimpl.h"

static bool scale_dtype_known(uint32_t dtype)
{
	return dtype == PENSTOCK_DTYPE_F32 || dtype == PENSTOCK_DTYPE_BF16 ||
	       dtype == PENSTOCK_DTYPE_F16 || dtype == PENSTOCK_DTYPE_F8_E8M0;
}

/* the furthest byte of @n steps of @stride stays within an address */
static bool reach(uint64_t n, uint64_t stride)
{
	uint64_t bytes;

	return !__builtin_mul_overflow(n, stride, &bytes) && bytes <= INT64_MAX;
}

/* a scale covers whole runs of 32 columns, or all columns */
static int check_scale(const struct penstock_k_mat *m)
{
	uint64_t nr_rows, nr_cols;

	if (!scale_dtype_known(m->scale_dtype) || !m->scale || !m->scale_rows || !m->scale_cols)
		return -EINVAL;
	if (m->scale_cols < m->cols && m->scale_cols % 32)
		return -EINVAL;
	nr_rows = ((uint64_t)m->rows + m->scale_rows - 1) / m->scale_rows;
	nr_cols = ((uint64_t)m->cols + m->scale_cols - 1) / m->scale_cols;
	if (nr_rows > 1 && !m->scale_row_stride)
		return -EINVAL;
	if (nr_cols > 1 && !m->scale_col_stride)
		return -EINVAL;
	return reach(nr_rows, m->scale_row_stride) && reach(nr_cols, m->scale_col_stride) ? 0 : -EINVAL;
}

static int check_scales(const struct penstock_k_mat *m)
{
	int rc;

	if (m->dtype == PENSTOCK_DTYPE_F4 || m->dtype == PENSTOCK_DTYPE_INT4) {
		rc = check_scale(m);
		if (rc)
			return rc;
		if (m->scale_rows != 1 || (m->dtype == PENSTOCK_DTYPE_F4) != (m->scale_dtype == PENSTOCK_DTYPE_F8_E8M0))
			return -EINVAL;
		return m->scale_cols == 32 ? 0 : -EINVAL;
	}
	if (m->scale_dtype == PENSTOCK_DTYPE_NONE)
		return 0;
	if (m->dtype != PENSTOCK_DTYPE_F8_E4M3)
		return -EINVAL;
	return check_scale(m);
}

int penstock_k_mat_check(const struct penstock_k_mat *m)
{
	const struct penstock_dtype_info *info = penstock_dtype_info(m->dtype);
	uint32_t per_block;
	uint64_t row_bytes;

	if (!info || !info->computes)
		return -EOPNOTSUPP;
	if (!m->rows || !m->cols || !m->data)
		return -EINVAL;
	if (info->elems == 1) {
		if (m->cols > 1 && m->col_stride < info->bytes)
			return -EINVAL;
		if (m->rows > 1 && m->row_stride < info->bytes)
			return -EINVAL;
	} else {
		per_block = info->elems == 2 ? 32 : info->elems;
		row_bytes = (uint64_t)m->cols / info->elems * info->bytes;
		if (m->col_stride || m->cols % per_block)
			return -EINVAL;
		if (m->rows > 1 && m->row_stride < row_bytes)
			return -EINVAL;
	}
	if (!reach(m->rows, m->row_stride) || !reach(m->cols, m->col_stride))
		return -EINVAL;
	if (m->bias) {
		if (m->bias_dtype != PENSTOCK_DTYPE_F32 && m->bias_dtype != PENSTOCK_DTYPE_BF16 &&
		    m->bias_dtype != PENSTOCK_DTYPE_F16)
			return -EINVAL;
		if (m->rows > 1 && !m->bias_stride)
			return -EINVAL;
		if (!reach(m->rows, m->bias_stride))
			return -EINVAL;
	}
	return check_scales(m);
}

int penstock_k_dequant_row(const struct penstock_k_mat *m, size_t row, float *out)
{
	double w[256];
	size_t c, n, i;
	int rc;

	rc = penstock_k_mat_check(m);
	if (rc)
		return rc;
	if (row >= m->rows)
		return -EINVAL;
	for (c = 0; c < m->cols; c += n) {
		n = m->cols - c < 256 ? m->cols - c : 256;
		penstock_ref_dequant(m, row, c, n, w);
		for (i = 0; i < n; i++)
			out[c + i] = (float)w[i];
	}
	return 0;
}
