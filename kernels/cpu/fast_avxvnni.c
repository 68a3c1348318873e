// SPDX-License-Identifier: MIT
/* Fast forms for AVX2 with AVX_VNNI: int8 dot products for Q8_0 and Q4_0. */
#if defined(__x86_64__)
#include <math.h>
#include "cpu.h"
#define DPBUSD(acc, u, s) _mm256_dpbusd_avx_epi32(acc, u, s)
#include "fast_q8.h"

static enum penstock_k_form fast_form(const struct penstock_k_mat *m)
{
	return q8_takes(m) ? PENSTOCK_K_FORM_Q8 : PENSTOCK_K_FORM_F32;
}

static void fast_convert(enum penstock_k_form form, const float *x, size_t n, uint8_t *out)
{
	q8_convert(x, n, out);
}

static void fast_rows(const struct penstock_k_mat *m, const struct penstock_k_in *in, size_t nr_tokens,
		      size_t begin, size_t end, float *y, size_t ldy)
{
	if (in->form == PENSTOCK_K_FORM_Q8 && q8_takes(m))
		q8_rows(m, in, nr_tokens, begin, end, y, ldy);
	else
		penstock_avx2_rows(m, in, nr_tokens, begin, end, y, ldy);
}

static void fast_gate_up(const struct penstock_k_expert *e, const struct penstock_k_in *in, size_t nr_tokens,
			 size_t begin, size_t end, float *h, float *tmp, size_t ldh)
{
	size_t t;

	if (in->form == PENSTOCK_K_FORM_F32) {
		penstock_avx2_gate_up(e, in, nr_tokens, begin, end, h, tmp, ldh);
		return;
	}
	fast_rows(&e->gate, in, nr_tokens, begin, end, h, ldh);
	fast_rows(&e->up, in, nr_tokens, begin, end, tmp, ldh);
	for (t = 0; t < nr_tokens; t++)
		penstock_avx2_act(e, end - begin, h + t * ldh + begin, tmp + t * ldh + begin);
}

void penstock_avx2_vnni_ops(struct penstock_k_ops *ops)
{
	*ops = penstock_avx2_ops;
	ops->name = "avx2+vnni";
	ops->form = fast_form;
	ops->convert = fast_convert;
	ops->rows = fast_rows;
	ops->gate_up = fast_gate_up;
}
#endif
