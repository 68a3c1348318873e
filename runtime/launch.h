/* SPDX-License-Identifier: MIT */
/*
 * From an expert's parts in a slot to the kernels' view of it. One description
 * serves all layouts: fused halves and interleaved outputs become row offsets and
 * strides.
 */
#ifndef PENSTOCK_LAUNCH_H
#define PENSTOCK_LAUNCH_H

#include <kabi.h>
#include "flow.h"

/**
 * penstock_launch_view() - describe one expert to the kernels
 * @info: the layer
 * @ptr: address of each part
 * @e: receives the view; borrowed memory
 * @bad_part: receives the number of the part that is at fault
 * Return: 0; -EOPNOTSUPP a part whose dtype or kind does not compute; -EINVAL a matrix is missing, a fused part that is
 * not two equal shares, a scale that covers rows of gate and of up, or as penstock_k_mat_check().
 */
int penstock_launch_view(const struct penstock_layer_info *info, const void *const *ptr,
			 struct penstock_k_expert *e, uint32_t *bad_part);

#endif
