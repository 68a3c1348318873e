/* SPDX-License-Identifier: MIT */
/*
 * Computing MUL_MAT_ID by ggml's own kernels over experts that lie anywhere.
 *
 * ggml finds expert i at data + i * nb[2]. A shadow of the weights gets the address
 * of the lowest expert, the distance of slots as nb[2], and the router's ids turned
 * into distances; experts whose distance is no multiple of it, or far, get a shadow
 * of their own. An expert's rows are always computed in one go, in the order of the
 * tokens: kernels are chosen by their number, and so the bits are those of ggml alone.
 */
#ifndef PENSTOCK_GGML_SHADOW_H
#define PENSTOCK_GGML_SHADOW_H

#include "ggml_abi.h"

struct gg_shadow;

/** struct gg_place - an expert that is there */
struct gg_place {
	int32_t expert;
	const char *addr;
};

/**
 * struct gg_rows - which expert computes which rows of an operation
 * A row is a place of the ids: token * top_k + rank.
 * @first: per expert the first of its rows, or -1; @next: per row the next one, or -1
 * @count: per expert; @used: the experts that have any, in order of appearance
 */
struct gg_rows {
	const struct gg_tensor *op;
	int64_t top_k;
	int64_t tokens;
	int64_t nr_experts;
	int32_t *ids;
	int32_t *first;
	int32_t *next;
	int32_t *count;
	int32_t *used;
	uint32_t nr_used;
};

/** gg_tensor_shape() - make @t a contiguous tensor of F32 or I32 (both of 4 bytes) over @data */
void gg_tensor_shape(struct gg_tensor *t, int type, int64_t ne0, int64_t ne1, int64_t ne2, void *data);

/** gg_shadow_create() - a worker of one llama context. Return: NULL: no memory, or no CPU backend. */
struct gg_shadow *gg_shadow_create(void);
void gg_shadow_destroy(struct gg_shadow *s);
/** gg_shadow_threads() - as many as llama.cpp computes with */
void gg_shadow_threads(struct gg_shadow *s, int threads);

/**
 * gg_shadow_rows() - sort the rows of an operation by expert
 * @op: MUL_MAT_ID with its ids computed
 * @rows: filled; its tables are the worker's, until the next call
 * Return: GG_STATUS_SUCCESS; GG_STATUS_FAILED an id out of range (a router that gave NaN), said on stderr;
 * GG_STATUS_ALLOC_FAILED.
 */
enum gg_status gg_shadow_rows(struct gg_shadow *s, const struct gg_tensor *op, struct gg_rows *rows);
/**
 * gg_shadow_compute() - compute the rows of some experts
 * @stride: distance of slots
 * @form: buffer that gives the shadows the kernels of its layout, with @extra; NULL: the plain ones
 */
enum gg_status gg_shadow_compute(struct gg_shadow *s, const struct gg_rows *rows, struct gg_place *places, uint32_t nr,
				 uint64_t stride, struct gg_buffer *form, void *extra);

#endif
