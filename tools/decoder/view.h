/* SPDX-License-Identifier: MIT */
/* From the addresses of an expert's parts to the matrices that the kernels take. */
#ifndef PENSTOCK_DECODER_VIEW_H
#define PENSTOCK_DECODER_VIEW_H

#include <penstock/penstock.h>
#include <kabi.h>

/**
 * decoder_view() - describe one expert
 * @info: its layer
 * @ptr: address of each part, in the order of info->parts
 * @e: filled; borrows @ptr's memory
 * Return: 0; -EOPNOTSUPP a part that no matrix is made of; -EINVAL a fused scale block that reaches over both halves,
 * or a role without weights; -EOPNOTSUPP, -EINVAL as penstock_k_mat_check(); with the layer's part.
 */
int decoder_view(const struct penstock_layer_info *info, const void *const ptr[PENSTOCK_MAX_PARTS],
		 struct penstock_k_expert *e, struct penstock_error *err);

#endif
