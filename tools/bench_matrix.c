// SPDX-License-Identifier: MIT
/*
 * The matrices that `penstock bench gemv` multiplies with: pseudo-random bytes
 * with finite scales. And the read loop that a multiplication is measured
 * against: vector loads in order, summed in registers, nothing else.
 */
#include <stdatomic.h>
#include <string.h>
#include <strings.h>

#include "bench_matrix.h"

/* bytes a piece of the read loop at the least */
#define READ_GRAIN	(64u << 10)
/* how far ahead it asks for memory: of 2, 4, 8 and 16 KiB none was faster */
#define READ_AHEAD	8192

struct layout {
	size_t row_bytes;
	size_t scale_bytes;	/* an element of the scales, 0 without */
	uint32_t scale_dtype;
	uint32_t scale_rows;
	uint32_t scale_cols;
};

uint32_t bench_dtype(const char *name)
{
	const struct penstock_dtype_info *info;
	uint32_t i;

	for (i = 0; i < PENSTOCK_DTYPE_COUNT; i++) {
		info = penstock_dtype_info(i);
		if (info->computes && !strcasecmp(info->name, name))
			return i;
	}
	return PENSTOCK_DTYPE_NONE;
}

/* the scales that checkpoints of the type have: FP8 128 x 128, MXFP4 and int4 1 x 32 */
static int lay_out(uint32_t dtype, uint32_t cols, struct layout *l)
{
	const struct penstock_dtype_info *info = penstock_dtype_info(dtype);
	uint32_t block = info->elems == 2 ? 32 : info->elems;

	if (cols % block)
		return -1;
	*l = (struct layout){ .row_bytes = (size_t)cols / info->elems * info->bytes, .scale_rows = 1 };
	switch (dtype) {
	case PENSTOCK_DTYPE_F8_E4M3:
		l->scale_dtype = PENSTOCK_DTYPE_F32;
		l->scale_bytes = 4;
		l->scale_rows = 128;
		l->scale_cols = 128;
		break;
	case PENSTOCK_DTYPE_F4:
		l->scale_dtype = PENSTOCK_DTYPE_F8_E8M0;
		l->scale_bytes = 1;
		l->scale_cols = 32;
		break;
	case PENSTOCK_DTYPE_INT4:
		l->scale_dtype = PENSTOCK_DTYPE_BF16;
		l->scale_bytes = 2;
		l->scale_cols = 32;
		break;
	}
	return 0;
}

static size_t nr_scales(const struct layout *l, uint32_t rows, uint32_t cols)
{
	if (!l->scale_bytes)
		return 0;
	return ((size_t)rows + l->scale_rows - 1) / l->scale_rows *
	       (((size_t)cols + l->scale_cols - 1) / l->scale_cols);
}

size_t bench_matrix_bytes(uint32_t dtype, uint32_t rows, uint32_t cols)
{
	struct layout l;

	if (lay_out(dtype, cols, &l))
		return 0;
	return l.row_bytes * rows + nr_scales(&l, rows, cols) * l.scale_bytes;
}

/* a block's scales: 2^-8 in half precision where the type has that, else a middle exponent */
static void put_scale(uint32_t dtype, uint8_t *block)
{
	static const uint8_t half[2] = { 0x00, 0x1c };

	switch (dtype) {
	case PENSTOCK_DTYPE_Q4_K:
	case PENSTOCK_DTYPE_Q5_K:
		memcpy(block + 2, half, 2);
		memcpy(block, half, 2);
		break;
	case PENSTOCK_DTYPE_Q6_K:
		memcpy(block + 208, half, 2);
		break;
	case PENSTOCK_DTYPE_MXFP4:
		*block = 120;
		break;
	case PENSTOCK_DTYPE_F4:
	case PENSTOCK_DTYPE_INT4:
		break;
	default:
		memcpy(block, half, 2);
	}
}

/* plain floating types: a sign, an exponent near 1's, any mantissa */
static void put_plain(uint32_t dtype, uint8_t *p)
{
	switch (dtype) {
	case PENSTOCK_DTYPE_F32:
		p[3] = (uint8_t)((p[3] & 0x80) | 0x3e);
		break;
	case PENSTOCK_DTYPE_BF16:
		p[1] = (uint8_t)((p[1] & 0x80) | 0x3e);
		break;
	case PENSTOCK_DTYPE_F16:
		p[1] = (uint8_t)((p[1] & 0x83) | 0x34);
		break;
	default:
		*p &= 0xbf;
	}
}

static void fill_row(uint32_t dtype, uint8_t *row, size_t bytes)
{
	const struct penstock_dtype_info *info = penstock_dtype_info(dtype);
	uint32_t state = 1;
	size_t i;

	for (i = 0; i < bytes; i++) {
		state = state * 1664525 + 1013904223;
		row[i] = (uint8_t)(state >> 24);
	}
	for (i = 0; i < bytes; i += info->bytes) {
		if (info->elems == 1)
			put_plain(dtype, row + i);
		else
			put_scale(dtype, row + i);
	}
}

void bench_matrix_fill(uint32_t dtype, uint32_t rows, uint32_t cols, void *mem, struct penstock_k_mat *m)
{
	uint8_t *base = mem, *scale;
	size_t r, i, nr, grid;
	struct layout l;
	float one = 1;

	if (lay_out(dtype, cols, &l))
		return;
	fill_row(dtype, base, l.row_bytes);
	for (r = 1; r < rows; r++)
		memcpy(base + r * l.row_bytes, base, l.row_bytes);
	*m = (struct penstock_k_mat){ .dtype = dtype, .rows = rows, .cols = cols, .data = base };
	m->row_stride = l.row_bytes;
	m->col_stride = penstock_dtype_info(dtype)->elems == 1 ? penstock_dtype_info(dtype)->bytes : 0;
	nr = nr_scales(&l, rows, cols);
	if (!nr)
		return;
	scale = base + l.row_bytes * rows;
	for (i = 0; i < nr; i++) {
		if (l.scale_bytes == 1)
			scale[i] = 120;
		else
			/* the upper half of a float is the bfloat16 */
			memcpy(scale + i * l.scale_bytes, (uint8_t *)&one + 4 - l.scale_bytes, l.scale_bytes);
	}
	grid = ((size_t)cols + l.scale_cols - 1) / l.scale_cols;
	m->scale_dtype = l.scale_dtype;
	m->scale_rows = l.scale_rows;
	m->scale_cols = l.scale_cols;
	m->scale = scale;
	m->scale_col_stride = l.scale_bytes;
	m->scale_row_stride = l.scale_bytes * grid;
}

struct reading {
	const uint8_t *mem;
	_Atomic uint64_t sum;
	uint64_t (*piece)(const uint8_t *p, size_t bytes);
};

/* @width bytes a load, four sums; the compiler makes one vector of a type where the target has it */
#define READ_LOOP(name, width, target)							\
typedef uint64_t name##_vec __attribute__((vector_size(width), aligned(1), may_alias));	\
target static uint64_t name(const uint8_t *p, size_t bytes)				\
{											\
	const name##_vec *v = (const name##_vec *)p, *end = v + bytes / (width) / 4 * 4;	\
	name##_vec a = { 0 }, b = { 0 }, c = { 0 }, d = { 0 };				\
	const uint8_t *rest = (const uint8_t *)end;					\
	uint64_t total = 0;								\
	size_t i;									\
											\
	for (; v < end; v += 4) {							\
		for (i = 0; i < 4 * (width); i += 64)					\
			__builtin_prefetch((const uint8_t *)v + READ_AHEAD + i);	\
		a += v[0];								\
		b += v[1];								\
		c += v[2];								\
		d += v[3];								\
	}										\
	for (; rest < p + bytes; rest++)						\
		total += *rest;								\
	a += b + c + d;									\
	for (i = 0; i < (width) / 8; i++)						\
		total += a[i];								\
	return total;									\
}

READ_LOOP(read_plain, 16, )
#if defined(__x86_64__)
READ_LOOP(read_avx2, 32, __attribute__((target("avx2"))))
READ_LOOP(read_avx512, 64, __attribute__((target("avx512f"))))
#endif

static void read_piece(void *arg, size_t begin, size_t end)
{
	struct reading *r = arg;

	atomic_fetch_add(&r->sum, r->piece(r->mem + begin, end - begin));
}

uint64_t bench_read(struct penstock_pool *pool, const void *mem, size_t bytes)
{
	struct reading r = { .mem = mem, .piece = read_plain };

#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx512f"))
		r.piece = read_avx512;
	else if (__builtin_cpu_supports("avx2"))
		r.piece = read_avx2;
#endif
	penstock_pool_run(pool, bytes, READ_GRAIN, read_piece, &r);
	return atomic_load(&r.sum);
}
