/* SPDX-License-Identifier: MIT */
/* Matrices of a given size and type for `penstock bench gemv`, and a plain read of their memory. */
#ifndef PENSTOCK_BENCH_MATRIX_H
#define PENSTOCK_BENCH_MATRIX_H

#include <stddef.h>
#include <stdint.h>
#include <kabi.h>

/**
 * bench_dtype() - a type by its name ("bf16", "q8_0", "Q4_K"), case ignored
 * Return: enum penstock_dtype, PENSTOCK_DTYPE_NONE where no type that computes has the name
 */
uint32_t bench_dtype(const char *name);

/**
 * bench_matrix_bytes() - bytes of a matrix' weights and scales
 * @rows: output features
 * @cols: input features, a multiple of the type's block
 * Return: bytes; 0 where @cols is no multiple
 */
size_t bench_matrix_bytes(uint32_t dtype, uint32_t rows, uint32_t cols);

/** bench_matrix_fill() - contiguous rows, then scales, with finite values, in @mem of bench_matrix_bytes() */
void bench_matrix_fill(uint32_t dtype, uint32_t rows, uint32_t cols, void *mem, struct penstock_k_mat *m);

/** bench_read() - load each byte of @mem once with all threads of @pool; Return: a sum of what was read */
uint64_t bench_read(struct penstock_pool *pool, const void *mem, size_t bytes);

#endif
