// SPDX-License-Identifier: MIT
/*
 * A tensor's bytes. Random number i of a stream is a hash of i, so that any piece
 * of a tensor can be made alone, and a compiler can make many at once.
 *
 * Experts are independent normal weights, by far the most bytes, and take the
 * fast way: a table of quantiles, already in the tensor's type, is looked up
 * with 12 bits of hash a weight (8 for FP8). The block types get uniform codes
 * and a scale that varies a little. Everything else comes from routing.c as rows
 * of floats that are converted here.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../runtime/err.h"
#include "sink.h"
#include "synth.h"

#define QUANTILES	4096u
#define PIECE		(256u << 10)
/* FP8 weights are N(0, 1) times this; the scales undo it */
#define FP8_SPREAD	64.0

uint64_t synth_stream(uint64_t seed, uint32_t role, uint32_t layer, uint32_t expert)
{
	uint64_t s = synth_mix(seed + SYNTH_GOLDEN);

	s = synth_mix(s ^ ((uint64_t)role << 32 | layer));
	return synth_mix(s + SYNTH_GOLDEN * (expert + 1ull));
}

static inline uint64_t draw(uint64_t stream, uint64_t i)
{
	return synth_mix(stream + (i + 1) * SYNTH_GOLDEN);
}

double synth_uniform(uint64_t stream, uint64_t i)
{
	return (double)(draw(stream, i) >> 11) * 0x1p-53;
}

void synth_normals(const struct synth_model *m, uint64_t stream, uint64_t first, uint64_t n, double sd, float *out)
{
	float s = (float)sd;
	uint64_t i;

	for (i = 0; i < n; i++)
		out[i] = s * m->normals[draw(stream, first + i) % QUANTILES];
}

/* x with P(N(0,1) < x) = p, by bisection: exact enough, and the same everywhere. */
static double quantile(double p)
{
	double lo = -8, hi = 8, mid;
	int i;

	for (i = 0; i < 60; i++) {
		mid = (lo + hi) / 2;
		if (erfc(-mid * M_SQRT1_2) / 2 < p)
			lo = mid;
		else
			hi = mid;
	}
	return (lo + hi) / 2;
}

int synth_gen_init(struct synth_model *m)
{
	double x, power = 0;
	uint32_t i;

	m->normals = malloc(QUANTILES * sizeof(*m->normals));
	if (!m->normals)
		return -ENOMEM;
	for (i = 0; i < QUANTILES / 2; i++) {
		x = quantile((i + 0.5) / QUANTILES);
		m->normals[i] = (float)x;
		m->normals[QUANTILES - 1 - i] = (float)-x;
		power += 2 * x * x;
	}
	/* cutting the tails off took some of the variance */
	for (i = 0; i < QUANTILES; i++)
		m->normals[i] *= (float)sqrt(QUANTILES / power);
	return 0;
}

/*
 * The nearest value, ties to even, of a float type with a sign bit, @ebits of
 * exponent and @mbits of mantissa. Values past @most become @most.
 */
static uint32_t round_to(float v, int ebits, int mbits, float most)
{
	uint32_t sign = signbit(v) ? 1u << (ebits + mbits) : 0;
	int bias = (1 << (ebits - 1)) - 1, e;
	float a = fabsf(v) > most ? most : fabsf(v);
	double unit;
	uint32_t q;

	if (a == 0)
		return sign;
	frexpf(a, &e);		/* a = f * 2^e, f in [0.5, 1) */
	e = e - 1 < 1 - bias ? 1 - bias : e - 1;
	unit = ldexp(1, e - mbits);
	q = (uint32_t)nearbyint(a / unit);
	/* q holds the hidden bit unless subnormal; a carry moves into the exponent by itself */
	if (q >> mbits == 0)
		return sign | q;
	return sign | (((uint32_t)(e + bias) << mbits) + q - (1u << mbits));
}

static uint16_t to_bf16(float v)
{
	uint32_t u;

	memcpy(&u, &v, 4);
	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static uint16_t to_f16(float v)
{
	return (uint16_t)round_to(v, 5, 10, 65504);
}

static void row_to_q8_0(const float *v, uint64_t n, uint8_t *out)
{
	uint64_t b;
	float amax, d;
	uint16_t h;
	int i;

	for (b = 0; b < n / 32; b++, v += 32, out += 34) {
		amax = 0;
		for (i = 0; i < 32; i++)
			amax = fabsf(v[i]) > amax ? fabsf(v[i]) : amax;
		d = amax / 127;
		h = to_f16(d);
		memcpy(out, &h, 2);
		for (i = 0; i < 32; i++)
			out[2 + i] = (uint8_t)(int8_t)(d > 0 ? lrintf(v[i] / d) : 0);
	}
}

/* Return: bytes written */
static size_t row_to(uint32_t dtype, const float *v, uint64_t n, uint8_t *out)
{
	uint64_t i;
	uint16_t h;

	switch (dtype) {
	case PENSTOCK_DTYPE_F32:
		memcpy(out, v, n * 4);
		return n * 4;
	case PENSTOCK_DTYPE_Q8_0:
		row_to_q8_0(v, n, out);
		return n / 32 * 34;
	default:
		for (i = 0; i < n; i++) {
			h = dtype == PENSTOCK_DTYPE_BF16 ? to_bf16(v[i]) : to_f16(v[i]);
			memcpy(out + 2 * i, &h, 2);
		}
		return n * 2;
	}
}

/* ---- experts ---- */

/* Tables of one expert's type and spread. */
struct expert_gen {
	uint32_t dtype;
	uint64_t stream;
	double sd;
	union {
		float f32[QUANTILES];
		uint16_t b16[QUANTILES];
		uint8_t f8[256];
		uint8_t nibbles[256];
	};
};

static void expert_tables(const struct synth_model *m, struct expert_gen *g)
{
	uint32_t i;

	switch (g->dtype) {
	case PENSTOCK_DTYPE_F32:
		for (i = 0; i < QUANTILES; i++)
			g->f32[i] = m->normals[i] * (float)g->sd;
		break;
	case PENSTOCK_DTYPE_BF16:
		for (i = 0; i < QUANTILES; i++)
			g->b16[i] = to_bf16(m->normals[i] * (float)g->sd);
		break;
	case PENSTOCK_DTYPE_F16:
		for (i = 0; i < QUANTILES; i++)
			g->b16[i] = to_f16(m->normals[i] * (float)g->sd);
		break;
	case PENSTOCK_DTYPE_F8_E4M3:
		for (i = 0; i < 256; i++)
			g->f8[i] = (uint8_t)round_to(m->normals[i * 16 + 8] * (float)FP8_SPREAD, 4, 3, 448);
		break;
	case PENSTOCK_DTYPE_Q4_0:
		/* code 0 would be the only -8: with 8, which is zero, in its place the weights have no mean */
		for (i = 0; i < 256; i++)
			g->nibbles[i] = (uint8_t)((i & 15 ? i & 15 : 8) | (i >> 4 ? i >> 4 : 8) << 4);
		break;
	}
}

/* Weights @first .. @first + @n of a stream; both multiples of 4. */
static void fill_f32(const struct expert_gen *g, uint64_t first, uint64_t n, float *out)
{
	uint64_t i, r;

	for (i = 0; i < n; i += 4) {
		r = draw(g->stream, (first + i) / 4);
		out[i] = g->f32[r & 4095];
		out[i + 1] = g->f32[r >> 16 & 4095];
		out[i + 2] = g->f32[r >> 32 & 4095];
		out[i + 3] = g->f32[r >> 48 & 4095];
	}
}

static void fill_b16(const struct expert_gen *g, uint64_t first, uint64_t n, uint16_t *out)
{
	uint64_t i, r;

	for (i = 0; i < n; i += 4) {
		r = draw(g->stream, (first + i) / 4);
		out[i] = g->b16[r & 4095];
		out[i + 1] = g->b16[r >> 16 & 4095];
		out[i + 2] = g->b16[r >> 32 & 4095];
		out[i + 3] = g->b16[r >> 48 & 4095];
	}
}

static void fill_f8(const struct expert_gen *g, uint64_t first, uint64_t n, uint8_t *out)
{
	uint64_t i, r;
	int k;

	for (i = 0; i < n; i += 4) {
		r = draw(g->stream, (first + i) / 4);
		for (k = 0; k < 4; k++)
			out[i + (uint64_t)k] = g->f8[r >> (16 * k) & 255];
	}
}

/* The scale of a block: @d times 0.8 .. 1.2 */
static uint16_t block_scale(const struct expert_gen *g, uint64_t block, double d)
{
	double u = (double)(draw(~g->stream, block) >> 40) * 0x1p-24;

	return to_f16((float)(d * (0.8 + 0.4 * u)));
}

/* Blocks @first .. @first + @n of 32 weights */
static void fill_q8_0(const struct expert_gen *g, uint64_t first, uint64_t n, uint8_t *out)
{
	/* uniform in -128 .. 127 */
	const double d = g->sd / 73.9;
	uint64_t b, r;
	uint16_t h;
	int k;

	for (b = first; b < first + n; b++, out += 34) {
		h = block_scale(g, b, d);
		memcpy(out, &h, 2);
		for (k = 0; k < 4; k++) {
			r = draw(g->stream, b * 4 + (uint64_t)k);
			memcpy(out + 2 + 8 * k, &r, 8);
		}
	}
}

static void fill_q4_0(const struct expert_gen *g, uint64_t first, uint64_t n, uint8_t *out)
{
	/* -7 .. 7, zero twice as often */
	const double d = g->sd / 4.18;
	uint64_t b, r;
	uint16_t h;
	int k, i;

	for (b = first; b < first + n; b++, out += 18) {
		h = block_scale(g, b, d);
		memcpy(out, &h, 2);
		for (k = 0; k < 2; k++) {
			r = draw(g->stream, b * 2 + (uint64_t)k);
			for (i = 0; i < 8; i++)
				out[2 + 8 * k + i] = g->nibbles[r >> (8 * i) & 255];
		}
	}
}

static void fill(const struct expert_gen *g, uint64_t first, uint64_t n, uint8_t *out)
{
	switch (g->dtype) {
	case PENSTOCK_DTYPE_F32:
		fill_f32(g, first, n, (float *)out);
		break;
	case PENSTOCK_DTYPE_F8_E4M3:
		fill_f8(g, first, n, out);
		break;
	case PENSTOCK_DTYPE_Q8_0:
		fill_q8_0(g, first / 32, n / 32, out);
		break;
	case PENSTOCK_DTYPE_Q4_0:
		fill_q4_0(g, first / 32, n / 32, out);
		break;
	default:
		fill_b16(g, first, n, (uint16_t *)out);
	}
}

static int gen_weights(const struct synth_model *m, const struct synth_tensor *t, struct synth_sink *s,
		       struct expert_gen *g, struct penstock_error *err)
{
	const struct penstock_dtype_info *d = penstock_dtype_info(t->dtype);
	uint64_t nr = t->rows * t->cols, at, n, per_piece = PIECE / d->bytes * d->elems / 128 * 128;
	uint8_t *to;
	uint32_t e;

	expert_tables(m, g);
	for (e = 0; e < t->nr; e++) {
		g->stream = synth_stream(m->cfg.seed, t->role, t->layer, t->expert + e);
		for (at = 0; at < nr; at += n) {
			n = nr - at < per_piece ? nr - at : per_piece;
			to = synth_sink_room(s, n / d->elems * d->bytes, err);
			if (!to)
				return err->code;
			/* the buffer is aligned as the file is, and widths are multiples of 8: all types are aligned */
			fill(g, at, n, to);
			synth_sink_add(s, n / d->elems * d->bytes);
		}
	}
	return 0;
}

/* One scale for each 128 x 128 weights: what the spread of the codes needs, times 0.8 .. 1.2. */
static int gen_scales(const struct synth_model *m, const struct synth_tensor *t, struct synth_sink *s, double sd,
		      struct penstock_error *err)
{
	uint64_t stream = ~synth_stream(m->cfg.seed, t->role, t->layer, t->expert), i;
	float v;
	int rc;

	for (i = 0; i < t->rows * t->cols; i++) {
		v = (float)(sd / FP8_SPREAD * (0.8 + 0.4 * synth_uniform(stream, i)));
		rc = synth_sink_put(s, &v, sizeof(v), err);
		if (rc)
			return rc;
	}
	return 0;
}

static int gen_rows(const struct synth_model *m, const struct synth_tensor *t, struct synth_sink *s,
		    struct penstock_error *err)
{
	float *row = malloc(t->cols * sizeof(*row));
	uint64_t r, bytes = t->bytes / t->rows;
	uint8_t *to;
	int rc = 0;

	if (!row)
		return penstock_err(err, -ENOMEM, "a row of %llu floats", (unsigned long long)t->cols);
	for (r = 0; r < t->rows; r++) {
		to = synth_sink_room(s, bytes, err);
		if (!to) {
			rc = err->code;
			break;
		}
		synth_routing_row(m, t, r, row);
		synth_sink_add(s, row_to(t->dtype, row, t->cols, to));
	}
	free(row);
	return rc;
}

int synth_gen_tensor(const struct synth_model *m, const struct synth_tensor *t, struct synth_sink *s,
		     struct penstock_error *err)
{
	struct expert_gen *g;
	int rc;

	if (t->role != SYNTH_GATE && t->role != SYNTH_UP && t->role != SYNTH_DOWN)
		return gen_rows(m, t, s, err);
	if (t->scale)
		return gen_scales(m, t, s, synth_routing_gain(&m->cfg, t->role), err);
	g = malloc(sizeof(*g));
	if (!g)
		return penstock_err(err, -ENOMEM, "tables of an expert");
	g->dtype = t->dtype;
	g->sd = synth_routing_gain(&m->cfg, t->role);
	rc = gen_weights(m, t, s, g, err);
	free(g);
	return rc;
}
