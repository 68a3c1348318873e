/* SPDX-License-Identifier: MIT */
/*
 * What the fuzz targets of the index share: an input becomes files, the files are
 * opened, and what an index promises is checked. A target defines fuzz_NAME() and
 * ends with FUZZ_TARGET(fuzz_NAME); tests replay the corpus through the same function.
 */
#ifndef PENSTOCK_TESTS_FUZZ_H
#define PENSTOCK_TESTS_FUZZ_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "index.h"

#ifdef FUZZING
#define FUZZ_TARGET(fn)							\
	int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);	\
	int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)	\
	{								\
		return fn(data, size);					\
	}
#else
#define FUZZ_TARGET(fn)
#endif

#define FUZZ_UNUSED __attribute__((unused))
#define FUZZ_NEED(c) do { if (!(c)) { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #c); abort(); } } while (0)

static FUZZ_UNUSED void fuzz_write(const char *path, const void *p, size_t len, uint64_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	FUZZ_NEED(fd >= 0);
	FUZZ_NEED(write(fd, p, len) == (ssize_t)len);
	FUZZ_NEED(!ftruncate(fd, (off_t)size));
	close(fd);
}

/* What holds of every index that opens. */
static FUZZ_UNUSED void fuzz_check_index(const struct penstock_index *ix)
{
	struct penstock_extent ext[PENSTOCK_MAX_PARTS];
	const struct penstock_layer_info *info;
	uint32_t l, e, i, nr = 0;

	for (i = 0; i < ix->nr_tensors; i++) {
		const struct penstock_index_tensor *t = &ix->tensors[i];

		FUZZ_NEED(t->file < ix->store.nr_files);
		FUZZ_NEED(t->off <= ix->store.files[t->file].size);
		FUZZ_NEED(t->bytes <= ix->store.files[t->file].size - t->off);
		FUZZ_NEED(t->nr_dims <= PENSTOCK_MAX_DIMS);
		FUZZ_NEED(penstock_index_find(ix, t->name) == (int64_t)i);
		FUZZ_NEED(!t->nr_dims || penstock_index_tensor_dims(t));
	}
	for (i = 0; i < ix->nr_meta; i++)
		FUZZ_NEED(penstock_index_meta(ix, ix->meta[i].key) == &ix->meta[i].value);
	for (l = 0; l < ix->nr_layers + ix->nr_mtp_layers; l++) {
		info = &ix->layers[l].info;
		FUZZ_NEED(info->nr_parts <= PENSTOCK_MAX_PARTS);
		FUZZ_NEED(info->kind == PENSTOCK_LAYER_DENSE || !info->nr_experts || info->top_k <= info->nr_experts);
		for (e = 0; e < info->nr_experts && nr < 100000; e++, nr++) {
			FUZZ_NEED(!penstock_index_expert(ix, l, e, ext));
			for (i = 0; i < info->nr_parts; i++) {
				FUZZ_NEED(ext[i].off <= ix->store.files[ext[i].file].size);
				FUZZ_NEED(ext[i].len <= ix->store.files[ext[i].file].size - ext[i].off);
			}
		}
	}
}

static FUZZ_UNUSED void fuzz_open(const char *path)
{
	struct penstock_error err = { 0 };
	struct penstock_index *ix;
	int rc;

	rc = penstock_index_open(path, &ix, &err);
	if (rc) {
		FUZZ_NEED(rc < 0 && err.code == rc && err.text[0]);
		return;
	}
	fuzz_check_index(ix);
	penstock_index_close(ix);
}

/* A folder of this process, made once; in memory, where thousands of files a second are written. */
static FUZZ_UNUSED const char *fuzz_dir(void)
{
	static char dir[64];

	if (!dir[0]) {
		snprintf(dir, sizeof(dir), "%s/penstock-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
		FUZZ_NEED(mkdtemp(dir));
	}
	return dir;
}

static FUZZ_UNUSED const char *fuzz_path(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", fuzz_dir(), name);
	return path;
}

#endif
