/* SPDX-License-Identifier: MIT */
/*
 * Template: rows of one element type times tokens. Before each inclusion:
 *
 *   TY	type, as in head_TY() and unit_TY()
 *   UB	units a block, BB bytes a block
 *   ROWS1	rows that one token walks at once, so that sums do not wait for each other
 *
 * A sum runs over the units in order, in two accumulators (even and odd vectors
 * of a unit), whatever the number of rows and tokens that share a pass.
 */
#define CAT2_(a, b)	a##_##b
#define CAT2(a, b)	CAT2_(a, b)
#define F(name)		CAT2(name, TY)

/* how far ahead of the sum memory is asked for */
#ifndef AHEAD
#define AHEAD	1024
#endif

INL void F(dot)(const struct src *s, size_t blocks, size_t tail, const float *wtail, const float *xtail,
		const float *x, size_t ldx, const int R, const int T, float *sum)
{
	vf acc[ROWS_MAX][TOKENS_MAX][2], w[UV];
	const uint8_t *p;
	struct head h[ROWS_MAX];
	size_t b;
	int r, t, j, i;

#pragma GCC unroll 8
	for (r = 0; r < R; r++)
#pragma GCC unroll 8
		for (t = 0; t < T; t++)
			acc[r][t][0] = acc[r][t][1] = v_zero();
	for (b = 0; b < blocks; b++) {
#pragma GCC unroll 8
		for (r = 0; r < R; r++)
			F(head)(&h[r], &s[r], b);
#pragma GCC unroll 8
		for (j = 0; j < UB; j++) {
#pragma GCC unroll 8
			for (r = 0; r < R; r++) {
				p = s[r].p + b * BB;
				_mm_prefetch((const char *)p + j * (BB / UB) + AHEAD, _MM_HINT_T0);
				F(unit)(&h[r], p, j, w);
#pragma GCC unroll 8
				for (t = 0; t < T; t++)
#pragma GCC unroll 4
					for (i = 0; i < UV; i++)
						acc[r][t][i & 1] = v_fma(w[i], v_load(x + t * ldx + (b * UB + j) * 32 +
										      i * VW), acc[r][t][i & 1]);
			}
		}
	}
	if (tail)
#pragma GCC unroll 8
		for (r = 0; r < R; r++)
#pragma GCC unroll 8
			for (t = 0; t < T; t++)
#pragma GCC unroll 4
				for (i = 0; i < UV; i++)
					acc[r][t][i & 1] = v_fma(v_load(wtail + r * 32 + i * VW),
								 v_load(xtail + t * 32 + i * VW), acc[r][t][i & 1]);
#pragma GCC unroll 8
	for (r = 0; r < R; r++)
#pragma GCC unroll 8
		for (t = 0; t < T; t++)
			sum[r * T + t] = v_sum(v_add(acc[r][t][0], acc[r][t][1]));
}

/* @nt tokens, one of the constants below, times @nr_rows (1 or ROWS1) rows from @row */
static void F(pass)(const struct penstock_k_mat *m, const float *x, size_t ldx, size_t nt, size_t row,
		    size_t nr_rows, float *y, size_t ldy)
{
	float wtail[ROWS_MAX * 32], xtail[TOKENS_MAX * 32], sum[ROWS_MAX * TOKENS_MAX];
	size_t blocks = m->cols / (UB * 32), tail = UB == 1 ? m->cols % 32 : 0, r, t;
	struct src s[ROWS_MAX];

	for (r = 0; r < nr_rows; r++) {
		src_init(&s[r], m, row + r);
		if (tail)
			tail_weights(m, row + r, tail, wtail + r * 32);
	}
	for (t = 0; tail && t < nt; t++)
		tail_inputs(x + t * ldx + blocks * 32, tail, xtail + t * 32);
	if (nr_rows == ROWS1 && nt == 1)
		F(dot)(s, blocks, tail, wtail, xtail, x, ldx, ROWS1, 1, sum);
	else if (nt == 1)
		F(dot)(s, blocks, tail, wtail, xtail, x, ldx, 1, 1, sum);
	else if (nt == 2)
		F(dot)(s, blocks, tail, wtail, xtail, x, ldx, 1, 2, sum);
	else if (nt == 4)
		F(dot)(s, blocks, tail, wtail, xtail, x, ldx, 1, 4, sum);
#if TOKENS_MAX == 8
	else
		F(dot)(s, blocks, tail, wtail, xtail, x, ldx, 1, 8, sum);
#endif
	for (r = 0; r < nr_rows; r++)
		for (t = 0; t < nt; t++)
			y[t * ldy + row + r] = add_bias(m, row + r, sum[r * nt + t]);
}

static void F(rows)(const struct penstock_k_mat *m, const struct penstock_k_in *in, size_t nr_tokens,
		    size_t begin, size_t end, float *y, size_t ldy)
{
	size_t row, t, nt, nr_rows;

	for (row = begin; row < end; row += nr_rows) {
		nr_rows = nr_tokens == 1 && end - row >= ROWS1 ? ROWS1 : 1;
		for (t = 0; t < nr_tokens; t += nt) {
			nt = tokens_of(nr_tokens - t);
			F(pass)(m, in->x + t * in->ldx, in->ldx, nt, row, nr_rows, y + t * ldy, ldy);
		}
	}
}

#undef TY
#undef UB
#undef BB
#undef ROWS1
#undef F
