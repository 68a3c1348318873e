/* SPDX-License-Identifier: MIT */
/*
 * Dense weights in memory: tensors are asked for one by one, then one mapping
 * (2 MiB pages where the system gives them) receives all of them, each read
 * once. Pointers that were asked for are set by decoder_weights_load() and live
 * until decoder_weights_destroy(). A tensor asked for twice is read once.
 */
#ifndef PENSTOCK_DECODER_WEIGHTS_H
#define PENSTOCK_DECODER_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <penstock/penstock.h>
#include <kabi.h>

struct decoder_load;

struct decoder_weights {
	struct penstock_model *model;
	struct decoder_load *loads;
	size_t nr_loads;
	size_t max_loads;
	void *base;
	size_t len;
	uint64_t bytes;		/* of tensors */
};

void decoder_weights_init(struct decoder_weights *w, struct penstock_model *model);
void decoder_weights_destroy(struct decoder_weights *w);

/**
 * decoder_weights_floats() - ask for a vector, converted to float
 * @tensor: number
 * @n: elements it must have
 * @where: receives the address at load; must stay where it is until then
 * Return: 0; -EINVAL another shape; -EOPNOTSUPP the dtype; -ENOMEM; with the tensor's name.
 */
int decoder_weights_floats(struct decoder_weights *w, uint32_t tensor, uint64_t n, const float **where,
			   struct penstock_error *err);

/**
 * decoder_weights_matrix() - ask for a matrix as it is stored
 * @tensor: number
 * @rows, @cols: what it must have; 0 rows = any
 * @scale: tensor number of its scales, or PENSTOCK_NO_TENSOR
 * @block: rows and columns that a scale covers, where the scales' shape leaves it open
 * @mat: filled; data and scale are set at load; must stay where it is until then
 * Return: as decoder_weights_floats().
 */
int decoder_weights_matrix(struct decoder_weights *w, uint32_t tensor, uint64_t rows, uint64_t cols, uint32_t scale,
			   const uint32_t block[2], struct penstock_k_mat *mat, struct penstock_error *err);

/** decoder_weights_bias() - ask for a bias of @mat's rows, as it is stored */
int decoder_weights_bias(struct decoder_weights *w, uint32_t tensor, struct penstock_k_mat *mat,
			 struct penstock_error *err);

/**
 * decoder_weights_rows() - ask for some rows of a matrix without separate scales
 * @total: rows that the tensor must have
 * @first, @rows: which of them are @mat's
 * Return: as decoder_weights_matrix().
 */
int decoder_weights_rows(struct decoder_weights *w, uint32_t tensor, uint64_t total, uint64_t first, uint64_t rows,
			 uint64_t cols, struct penstock_k_mat *mat, struct penstock_error *err);

/** decoder_weights_bias_rows() - the same of a bias of @total elements, for @mat's rows from @first on */
int decoder_weights_bias_rows(struct decoder_weights *w, uint32_t tensor, uint64_t total, uint64_t first,
			      struct penstock_k_mat *mat, struct penstock_error *err);

/**
 * decoder_weights_load() - map, read, set pointers, check matrices
 * Return: 0; -ENOMEM; errors of penstock_tensor_read(); -EOPNOTSUPP, -EINVAL a matrix that the kernels refuse.
 */
int decoder_weights_load(struct decoder_weights *w, struct penstock_queue *q, struct penstock_error *err);

#endif
