/* SPDX-License-Identifier: MIT */
/*
 * The plain expert source: each distinct expert of a call is read by pread() from
 * files that it opens itself, computed, and forgotten. No cache, no library I/O:
 * what `penstock run --verify` compares with. The sums are taken as the library
 * takes them (one call of the expert kernel for all rows of an expert, in order
 * of token; combined in router order), so that results are equal bit for bit.
 */
#ifndef PENSTOCK_DECODER_PLAIN_H
#define PENSTOCK_DECODER_PLAIN_H

#include <penstock/penstock.h>
#include <kabi.h>
#include "decoder.h"

struct decoder_plain;

/** decoder_plain_create() - Return: 0; -ENOMEM; errors of penstock_layer_info(). */
int decoder_plain_create(struct penstock_model *model, struct penstock_pool *pool, struct decoder_plain **out,
			 struct penstock_error *err);
void decoder_plain_destroy(struct decoder_plain *p);

/**
 * decoder_plain_map() - take experts' parts from memory instead of reading them
 * @parts: gives the address of each part of an expert (a valid id), good until the next call; 0, or -errno with text
 * @arg: handed to @parts
 */
void decoder_plain_map(struct decoder_plain *p,
		       int (*parts)(void *arg, uint32_t layer, uint32_t expert, const void *ptr[PENSTOCK_MAX_PARTS],
				    struct penstock_error *err),
		       void *arg);

/**
 * decoder_plain_forward() - for struct decoder_experts.forward, @arg a struct decoder_plain
 * Return: 0; -EINVAL an id out of range, with layer and token; -errno of open and read, with file and offset;
 * -ENODATA a file ends too early; errors of decoder_extents() and penstock_expert_view(); -ENOMEM.
 */
int decoder_plain_forward(void *arg, const struct penstock_moe *moe, struct penstock_error *err);

/** decoder_plain_source() - the source made of @p; it has no begin */
struct decoder_experts decoder_plain_source(struct decoder_plain *p);

/** decoder_plain_bytes() - expert bytes read so far */
uint64_t decoder_plain_bytes(const struct decoder_plain *p);

#endif
