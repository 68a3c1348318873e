/* SPDX-License-Identifier: MIT */
/*
 * Template: rows of one element type times tokens. Before each inclusion:
 *
 *   TY	type, as in head_TY() and unit_TY()
 *   UB	units a block (1 or even)
 *   BB	bytes a block
 *
 * A sum runs over the units in order, in four accumulators (even and odd vectors
 * of even and odd units, so that additions need not wait for each other), and is
 * the same whatever the number of tokens that share a pass. One row at a time:
 * memory is one stream, which the hardware fetches best.
 */
#define CAT2_(a, b)	a##_##b
#define CAT2(a, b)	CAT2_(a, b)
#define F(name)		CAT2(name, TY)

/* unit @j of the block at @p, whose columns begin at @x */
INL void F(add)(vf (*acc)[4], const struct head *h, const uint8_t *p, int j, const int odd, const float *x,
		size_t ldx, const int T)
{
	vf w[UV];
	int t, i;

	F(unit)(h, p, j, w);
#pragma GCC unroll 4
	for (t = 0; t < T; t++)
#pragma GCC unroll 4
		for (i = 0; i < UV; i++)
			acc[t][2 * odd + (i & 1)] = v_fma(w[i], v_load(x + t * ldx + i * VW),
							  acc[t][2 * odd + (i & 1)]);
}

/* the columns after the last whole unit, as floats and zeros */
INL void F(add_tail)(vf (*acc)[4], const struct tail *tail, const int T)
{
	int t, i;

#pragma GCC unroll 4
	for (t = 0; t < T; t++)
#pragma GCC unroll 4
		for (i = 0; i < UV; i++)
			acc[t][i & 1] = v_fma(v_load(tail->w + i * VW), v_load(tail->x[t] + i * VW), acc[t][i & 1]);
}

INL void F(dot)(const struct src *s, size_t units, const struct tail *tail, const float *x, size_t ldx, const int T,
		float *sum)
{
	vf acc[TOKENS_MAX][4];
	struct head h = { 0 };
	const uint8_t *p = s->p;
	size_t u = 0;
	int t, j;

#pragma GCC unroll 4
	for (t = 0; t < T; t++)
		acc[t][0] = acc[t][1] = acc[t][2] = acc[t][3] = v_zero();
#if UB == 1
	for (; u + 2 <= units; u += 2, p += 2 * BB) {
#pragma GCC unroll 4
		for (j = 0; j < 2 * BB; j += 64)
			_mm_prefetch((const char *)p + AHEAD + j, _MM_HINT_T0);
		F(head)(&h, s, u);
		F(add)(acc, &h, p, 0, 0, x + u * 32, ldx, T);
		F(head)(&h, s, u + 1);
		F(add)(acc, &h, p + BB, 0, 1, x + u * 32 + 32, ldx, T);
	}
	if (u < units) {
		F(head)(&h, s, u);
		F(add)(acc, &h, p, 0, 0, x + u * 32, ldx, T);
	}
	if (tail->nr)
		F(add_tail)(acc, tail, T);
#else
	for (; u < units; u += UB, p += BB) {
#pragma GCC unroll 4
		for (j = 0; j < BB; j += 64)
			_mm_prefetch((const char *)p + AHEAD + j, _MM_HINT_T0);
		F(head)(&h, s, u / UB);
#pragma GCC unroll 8
		for (j = 0; j < UB; j++)
			F(add)(acc, &h, p, j, j & 1, x + (u + j) * 32, ldx, T);
	}
#endif
#pragma GCC unroll 4
	for (t = 0; t < T; t++)
		sum[t] = v_sum(v_add(v_add(acc[t][0], acc[t][1]), v_add(acc[t][2], acc[t][3])));
}

static void F(rows)(const struct penstock_k_mat *m, const struct penstock_k_in *in, size_t nr_tokens,
		    size_t begin, size_t end, float *y, size_t ldy)
{
	size_t row, t, i, nt, units = m->cols / 32;
	float sum[TOKENS_MAX];
	struct tail tail;
	const float *x;
	struct src s;

	for (row = begin; row < end; row++) {
		src_init(&s, m, row);
		tail_weights(&tail, m, row);
		for (t = 0; t < nr_tokens; t += nt) {
			nt = tokens_of(nr_tokens - t);
			x = in->x + t * in->ldx;
			tail_inputs(&tail, x + units * 32, in->ldx, nt);
			if (nt == 1)
				F(dot)(&s, units, &tail, x, in->ldx, 1, sum);
			else if (nt == 2)
				F(dot)(&s, units, &tail, x, in->ldx, 2, sum);
#if TOKENS_MAX == 4
			else
				F(dot)(&s, units, &tail, x, in->ldx, 4, sum);
#endif
			for (i = 0; i < nt; i++)
				y[(t + i) * ldy + row] = add_bias(m, row, sum[i]);
		}
	}
}

#undef TY
#undef UB
#undef BB
#undef F
