/* SPDX-License-Identifier: MIT */
/*
 * Expert sources of `penstock run`: the library, and an mmap of the same files.
 * The plain source, read by pread without a cache, is the decoder's own.
 */
#ifndef PENSTOCK_RUN_SOURCE_H
#define PENSTOCK_RUN_SOURCE_H

#include "run.h"
#include "trace.h"

struct run_source;

/**
 * run_source_library_create() - experts through penstock_fetch() and penstock_moe_forward()
 * @p: the pass it serves, borrowed: gives the rows, and takes the times
 * @trace: a trace to write, or NULL; borrowed
 * Return: 0; -ENOMEM; errors of the model's calls.
 */
int run_source_library_create(struct run_pass *p, struct run_trace *trace, struct run_source **out,
			      struct penstock_error *err);
struct decoder_experts run_source_library_experts(struct run_source *s);
/** run_source_library_destroy() - @s may be NULL */
void run_source_library_destroy(struct run_source *s);

/* How the pages of wanted experts are brought in. */
enum run_mmap_method {
	RUN_MMAP_FAULT = 0,	/* touch them; the kernel reads ahead */
	RUN_MMAP_POPULATE,	/* MADV_POPULATE_READ, on all compute threads */
	RUN_MMAP_WILLNEED,	/* MADV_WILLNEED in pieces of 1 MiB for the whole set, then touch */
	RUN_MMAP_METHODS,
};

struct run_mmap;

/**
 * run_mmap_create() - map all files of the model read-only
 * Return: 0; -errno of open and mmap, with the file; -ENOMEM; errors of the index.
 */
int run_mmap_create(struct run_session *s, struct run_mmap **out, struct penstock_error *err);
/** run_mmap_use() - choose the method from the next layer on */
void run_mmap_use(struct run_mmap *m, enum run_mmap_method method);
struct decoder_experts run_mmap_experts(struct run_mmap *m);
/** run_mmap_drop() - drop the files from the page cache */
void run_mmap_drop(struct run_mmap *m);
/** run_mmap_read_ahead() - bytes that the kernel reads ahead on the first file's drive; 0 = unknown */
uint64_t run_mmap_read_ahead(const struct run_mmap *m);
/** run_mmap_destroy() - @m may be NULL */
void run_mmap_destroy(struct run_mmap *m);
const char *run_mmap_method_name(enum run_mmap_method method);

#endif
