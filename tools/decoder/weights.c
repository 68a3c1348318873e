// SPDX-License-Identifier: MIT
/* Dense weights: see weights.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fail.h"
#include "weights.h"

#define HUGE_BYTES ((size_t)2 << 20)
#define ALIGN 64

/*
 * A tensor to be read.
 * @where: pointer to set
 * @floats: elements to convert to float; 0 = kept as stored
 * @mat: matrix to check when all pointers are set, or NULL
 * @off: place in the mapping
 * @skip: bytes of the tensor in front of what is wanted
 */
struct decoder_load {
	uint32_t tensor;
	uint64_t floats;
	const void **where;
	const struct penstock_k_mat *mat;
	uint64_t off;
	uint64_t skip;
};

void decoder_weights_init(struct decoder_weights *w, struct penstock_model *model)
{
	memset(w, 0, sizeof(*w));
	w->model = model;
}

void decoder_weights_destroy(struct decoder_weights *w)
{
	free(w->loads);
	if (w->base)
		munmap(w->base, w->len);
	memset(w, 0, sizeof(*w));
}

static int get(struct decoder_weights *w, uint32_t tensor, struct penstock_tensor *t, struct penstock_error *err)
{
	int rc = penstock_tensor_at(w->model, tensor, t);

	return rc ? decoder_fail(err, rc, "tensor number %u", tensor) : 0;
}

static int add(struct decoder_weights *w, const struct decoder_load *load, struct penstock_error *err)
{
	size_t max = w->max_loads ? 2 * w->max_loads : 256;
	struct decoder_load *more;

	if (w->nr_loads == w->max_loads) {
		more = realloc(w->loads, max * sizeof(*more));
		if (!more)
			return decoder_fail(err, -ENOMEM, "list of %zu dense tensors", max);
		w->loads = more;
		w->max_loads = max;
	}
	w->loads[w->nr_loads++] = *load;
	return 0;
}

static uint64_t elements(const struct penstock_tensor *t)
{
	uint64_t n = 1;
	uint32_t i;

	for (i = 0; i < t->nr_dims; i++)
		if (__builtin_mul_overflow(n, t->dims[i], &n))
			return UINT64_MAX;
	return n;
}

static bool is_float(uint32_t dtype)
{
	return dtype == PENSTOCK_DTYPE_F32 || dtype == PENSTOCK_DTYPE_F16 || dtype == PENSTOCK_DTYPE_BF16;
}

static int refuse_dtype(const struct penstock_tensor *t, const char *as, struct penstock_error *err)
{
	const struct penstock_dtype_info *d = penstock_dtype_info(t->dtype);

	return decoder_fail(err, -EOPNOTSUPP, "tensor %s is %s, which is not computed as %s", t->name,
			    d ? d->name : "of unknown dtype", as);
}

int decoder_weights_floats(struct decoder_weights *w, uint32_t tensor, uint64_t n, const float **where,
			   struct penstock_error *err)
{
	struct decoder_load load = { .tensor = tensor, .floats = n, .where = (const void **)where };
	struct penstock_tensor t;
	int rc = get(w, tensor, &t, err);

	if (rc)
		return rc;
	if (!is_float(t.dtype))
		return refuse_dtype(&t, "a vector", err);
	if (elements(&t) != n || !n)
		return decoder_fail(err, -EINVAL, "tensor %s has %llu elements where the configuration has %llu",
				    t.name, (unsigned long long)elements(&t), (unsigned long long)n);
	return add(w, &load, err);
}

static int shape(const struct penstock_tensor *t, uint64_t rows, uint64_t cols, struct penstock_error *err)
{
	if (t->nr_dims != 2 || !t->dims[0] || t->dims[0] > UINT32_MAX || !t->dims[1] || t->dims[1] > UINT32_MAX ||
	    (rows && t->dims[0] != rows) || t->dims[1] != cols)
		return decoder_fail(err, -EINVAL,
				    "tensor %s of %u dimensions, %llu x %llu, where %llu x %llu is wanted",
				    t->name, t->nr_dims, (unsigned long long)t->dims[0],
				    (unsigned long long)(t->nr_dims > 1 ? t->dims[1] : 1), (unsigned long long)rows,
				    (unsigned long long)cols);
	return 0;
}

/* One scale for all, one a row, or one a block: the scales' shape says which, @block how large a block is. */
static int add_scale(struct decoder_weights *w, uint32_t tensor, const uint32_t block[2], struct penstock_k_mat *mat,
		     struct penstock_error *err)
{
	struct decoder_load load = { .tensor = tensor, .where = &mat->scale };
	const struct penstock_dtype_info *d;
	struct penstock_tensor t;
	uint64_t rows, cols;
	int rc = get(w, tensor, &t, err);

	if (rc)
		return rc;
	if (!is_float(t.dtype) && t.dtype != PENSTOCK_DTYPE_F8_E8M0)
		return refuse_dtype(&t, "scales", err);
	d = penstock_dtype_info(t.dtype);
	rows = t.nr_dims ? t.dims[0] : 1;
	cols = t.nr_dims > 1 ? t.dims[1] : 1;
	mat->scale_rows = rows == 1 ? mat->rows : rows == mat->rows ? 1 : block[0];
	mat->scale_cols = cols == 1 ? mat->cols : block[1];
	if (t.nr_dims > 2 || rows != (mat->rows + (uint64_t)mat->scale_rows - 1) / mat->scale_rows ||
	    cols != (mat->cols + (uint64_t)mat->scale_cols - 1) / mat->scale_cols)
		return decoder_fail(err, -EINVAL,
				    "tensor %s: %llu x %llu scales for a matrix of %u x %u in blocks of %u x %u",
				    t.name, (unsigned long long)rows, (unsigned long long)cols, mat->rows, mat->cols,
				    mat->scale_rows, mat->scale_cols);
	mat->scale_dtype = t.dtype;
	mat->scale_row_stride = cols * d->bytes;
	mat->scale_col_stride = d->bytes;
	return add(w, &load, err);
}

int decoder_weights_matrix(struct decoder_weights *w, uint32_t tensor, uint64_t rows, uint64_t cols, uint32_t scale,
			   const uint32_t block[2], struct penstock_k_mat *mat, struct penstock_error *err)
{
	struct decoder_load load = { .tensor = tensor, .where = &mat->data, .mat = mat };
	const struct penstock_dtype_info *d;
	struct penstock_tensor t;
	int rc = get(w, tensor, &t, err);

	if (!rc)
		rc = shape(&t, rows, cols, err);
	if (rc)
		return rc;
	d = penstock_dtype_info(t.dtype);
	if (!d || !d->computes)
		return refuse_dtype(&t, "a matrix", err);
	if (t.dims[1] % d->elems)
		return decoder_fail(err, -EINVAL, "tensor %s: rows of %llu elements in blocks of %u", t.name,
				    (unsigned long long)t.dims[1], d->elems);
	memset(mat, 0, sizeof(*mat));
	mat->dtype = t.dtype;
	mat->rows = (uint32_t)t.dims[0];
	mat->cols = (uint32_t)t.dims[1];
	mat->row_stride = t.dims[1] / d->elems * d->bytes;
	mat->col_stride = d->elems == 1 ? d->bytes : 0;
	rc = add(w, &load, err);
	if (!rc && scale != PENSTOCK_NO_TENSOR)
		rc = add_scale(w, scale, block, mat, err);
	return rc;
}

int decoder_weights_rows(struct decoder_weights *w, uint32_t tensor, uint64_t total, uint64_t first, uint64_t rows,
			 uint64_t cols, struct penstock_k_mat *mat, struct penstock_error *err)
{
	int rc = decoder_weights_matrix(w, tensor, total, cols, PENSTOCK_NO_TENSOR, NULL, mat, err);

	if (rc)
		return rc;
	mat->rows = (uint32_t)rows;
	w->loads[w->nr_loads - 1].skip = first * mat->row_stride;
	return 0;
}

int decoder_weights_bias_rows(struct decoder_weights *w, uint32_t tensor, uint64_t total, uint64_t first,
			      struct penstock_k_mat *mat, struct penstock_error *err)
{
	struct decoder_load load = { .tensor = tensor, .where = &mat->bias };
	struct penstock_tensor t;
	int rc = get(w, tensor, &t, err);

	if (rc)
		return rc;
	if (!is_float(t.dtype))
		return refuse_dtype(&t, "a bias", err);
	if (elements(&t) != total)
		return decoder_fail(err, -EINVAL, "tensor %s has %llu elements for a matrix of %llu rows", t.name,
				    (unsigned long long)elements(&t), (unsigned long long)total);
	mat->bias_dtype = t.dtype;
	mat->bias_stride = penstock_dtype_info(t.dtype)->bytes;
	load.skip = first * mat->bias_stride;
	return add(w, &load, err);
}

int decoder_weights_bias(struct decoder_weights *w, uint32_t tensor, struct penstock_k_mat *mat,
			 struct penstock_error *err)
{
	return decoder_weights_bias_rows(w, tensor, mat->rows, 0, mat, err);
}

static int by_tensor(const void *a, const void *b)
{
	const struct decoder_load *x = a, *y = b;

	if (x->tensor != y->tensor)
		return x->tensor < y->tensor ? -1 : 1;
	return x->floats < y->floats ? -1 : x->floats > y->floats;
}

static bool same(const struct decoder_load *a, const struct decoder_load *b)
{
	return a->tensor == b->tensor && !a->floats == !b->floats;
}

/* Give each tensor its place. Return: bytes of the mapping, or 0 if they overflow. */
static uint64_t place(struct decoder_weights *w)
{
	struct penstock_tensor t;
	uint64_t off = 0, bytes;
	size_t i;

	qsort(w->loads, w->nr_loads, sizeof(*w->loads), by_tensor);
	for (i = 0; i < w->nr_loads; i++) {
		if (i && same(&w->loads[i], &w->loads[i - 1])) {
			w->loads[i].off = w->loads[i - 1].off;
			continue;
		}
		if (penstock_tensor_at(w->model, w->loads[i].tensor, &t))
			return 0;
		bytes = w->loads[i].floats ? w->loads[i].floats * sizeof(float) : t.bytes;
		w->loads[i].off = off;
		w->bytes += bytes;
		if (__builtin_add_overflow(off, bytes, &off) || off > SIZE_MAX / 2)
			return 0;
		off = (off + ALIGN - 1) & ~(uint64_t)(ALIGN - 1);
	}
	return off ? off : ALIGN;
}

static int map(struct decoder_weights *w, uint64_t bytes, struct penstock_error *err)
{
	w->len = (bytes + HUGE_BYTES - 1) & ~(uint64_t)(HUGE_BYTES - 1);
	w->base = mmap(NULL, w->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (w->base == MAP_FAILED) {
		w->base = NULL;
		return decoder_fail(err, -ENOMEM, "%llu bytes of dense weights", (unsigned long long)bytes);
	}
	/* a refusal only means small pages */
	(void)madvise(w->base, w->len, MADV_HUGEPAGE);
	return 0;
}

static int read_whole(struct decoder_weights *w, struct penstock_queue *q, const struct penstock_tensor *t,
		      uint32_t nr, void *dst, struct penstock_error *err)
{
	int rc = penstock_tensor_read(q, w->model, nr, 0, dst, t->bytes);

	if (!rc)
		return 0;
	if (err) {
		err->code = rc;
		strncpy(err->text, penstock_errmsg(q), sizeof(err->text) - 1);
		err->text[sizeof(err->text) - 1] = 0;
	}
	return rc;
}

static int read_floats(struct decoder_weights *w, struct penstock_queue *q, const struct penstock_tensor *t,
		       const struct decoder_load *load, float *dst, struct penstock_error *err)
{
	const struct penstock_dtype_info *d = penstock_dtype_info(t->dtype);
	struct penstock_k_mat mat = {
		.dtype = t->dtype, .rows = 1, .cols = (uint32_t)load->floats,
		.row_stride = t->bytes, .col_stride = d->bytes,
	};
	void *raw = malloc(t->bytes);
	int rc;

	if (!raw)
		return decoder_fail(err, -ENOMEM, "%llu bytes to convert %s", (unsigned long long)t->bytes, t->name);
	rc = read_whole(w, q, t, load->tensor, raw, err);
	mat.data = raw;
	if (!rc) {
		rc = penstock_k_dequant_row(&mat, 0, dst);
		if (rc)
			decoder_fail(err, rc, "tensor %s as floats", t->name);
	}
	free(raw);
	return rc;
}

int decoder_weights_load(struct decoder_weights *w, struct penstock_queue *q, struct penstock_error *err)
{
	uint64_t bytes = place(w);
	struct penstock_tensor t;
	struct decoder_load *l;
	char *at;
	size_t i;
	int rc;

	if (!bytes)
		return decoder_fail(err, -EINVAL, "dense weights of more bytes than there are addresses");
	rc = map(w, bytes, err);
	for (i = 0; i < w->nr_loads && !rc; i++) {
		l = &w->loads[i];
		at = (char *)w->base + l->off;
		*l->where = at + l->skip;
		if (i && same(l, &w->loads[i - 1]))
			continue;
		rc = get(w, l->tensor, &t, err);
		if (!rc && l->floats)
			rc = read_floats(w, q, &t, l, (float *)at, err);
		else if (!rc)
			rc = read_whole(w, q, &t, l->tensor, at, err);
	}
	for (i = 0; i < w->nr_loads && !rc; i++) {
		l = &w->loads[i];
		rc = l->mat ? penstock_k_mat_check(l->mat) : 0;
		if (rc && !penstock_tensor_at(w->model, l->tensor, &t))
			decoder_fail(err, rc, "tensor %s as a matrix of %u x %u %s", t.name, l->mat->rows, l->mat->cols,
				     penstock_dtype_info(t.dtype)->name);
	}
	free(w->loads);
	w->loads = NULL;
	w->nr_loads = 0;
	w->max_loads = 0;
	return rc;
}
