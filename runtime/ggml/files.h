/* SPDX-License-Identifier: MIT */
/*
 * The GGUF files that this process has mapped, and what in them is dense: brought
 * into memory in large reads and locked there, since every token needs all of it.
 * Experts are left alone.
 */
#ifndef PENSTOCK_GGML_FILES_H
#define PENSTOCK_GGML_FILES_H

#include <stdbool.h>
#include <stdint.h>

/** struct gg_range - a dense tensor. @in_place: it is computed with where it is mapped, not a copy of it */
struct gg_range {
	uint64_t off;
	uint64_t len;
	bool in_place;
	bool locked;
};

/**
 * struct gg_file - one mapped file
 * @base: address of its first byte
 * @top_k: experts a token, from the file or another shard of its set; 0 = not said, or not one number
 */
struct gg_file {
	char *path;
	const char *base;
	uint64_t size;
	uint64_t inode;
	int fd;
	uint32_t top_k;
	bool mapped;		/* seen by the last scan */
	struct gg_range *dense;
	uint32_t nr_dense;
};

/** gg_is_expert() - is it the name of a tensor that holds the matrices of all experts of a layer? */
bool gg_is_expert(const char *name);
/** gg_expert_block() - the layer's number in such a name */
int gg_expert_block(const char *name);

/** gg_files_scan() - learn of GGUF files mapped since, forget those unmapped, start to read the dense parts */
void gg_files_scan(void);
/** gg_files_find() - the file that an address lies in, or NULL */
struct gg_file *gg_files_find(const void *addr);
/** gg_files_in_place() - the tensor at that address is computed with where it is */
void gg_files_in_place(const void *addr);
/**
 * gg_files_settle() - after a load: lock what is computed with in place, let go of what was copied
 * @lock: false: only read it in
 * @locked, @resident: bytes locked, and bytes in place that were not
 */
void gg_files_settle(bool lock, uint64_t *locked, uint64_t *resident);
/** gg_files_end() - forget all */
void gg_files_end(void);

#endif
