// SPDX-License-Identifier: MIT
/* The table of the reference operations (PENSTOCK_ISA_REF). It has no fast forms. */
#include "ref.h"

static enum penstock_k_form ref_form(const struct penstock_k_mat *m)
{
	return PENSTOCK_K_FORM_F32;
}

const struct penstock_k_ops penstock_k_ops_ref = {
	.name = "ref",
	.form = ref_form,
	.rows = penstock_ref_rows,
	.gate_up = penstock_ref_gate_up,
	.combine = penstock_ref_combine,
	.rmsnorm = penstock_ref_rmsnorm,
	.attn = penstock_ref_attn,
};
