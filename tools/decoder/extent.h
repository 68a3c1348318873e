/* SPDX-License-Identifier: MIT */
/*
 * Where an expert's bytes are, found from tensor names alone: independent of the
 * library's index of experts, so that a comparison of both means something.
 */
#ifndef PENSTOCK_DECODER_EXTENT_H
#define PENSTOCK_DECODER_EXTENT_H

#include <stdint.h>
#include <penstock/penstock.h>
#include "names.h"

/**
 * struct decoder_extent - bytes of one part of one expert
 * @file: path; lives as long as the model
 * @off: first byte in the file
 * @len: bytes
 */
struct decoder_extent {
	const char *file;
	uint64_t off;
	uint64_t len;
};

/**
 * decoder_extents() - the parts of an expert, in the order of info->parts
 * Return: 0; -ENOENT no tensor of a known name holds the part, with its role; -EINVAL a tensor of another size.
 */
int decoder_extents(struct penstock_model *model, const struct decoder_names *n,
		    const struct penstock_layer_info *info, uint32_t layer, uint32_t expert,
		    struct decoder_extent ext[PENSTOCK_MAX_PARTS], struct penstock_error *err);

#endif
