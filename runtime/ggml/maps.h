/* SPDX-License-Identifier: MIT */
/* From an address in a file mapping of this process to the file and the place in it. */
#ifndef PENSTOCK_GGML_MAPS_H
#define PENSTOCK_GGML_MAPS_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

/** struct gg_mapping - one line of /proc/self/maps */
struct gg_mapping {
	uintptr_t lo;
	uintptr_t hi;
	uint64_t off;		/* of lo, in the file */
	uint32_t major;
	uint32_t minor;
	uint64_t inode;
	bool writable;
	bool shared;
	char path[PATH_MAX];	/* "" where there is none */
};

/**
 * gg_maps_each() - call @fn with each mapping, in order of address
 * @fn: returns false to stop
 * Return: true; false: /proc/self/maps can't be read.
 */
bool gg_maps_each(bool (*fn)(const struct gg_mapping *m, void *arg), void *arg);
/** gg_maps_find() - the mapping that holds an address. Return: false: none. */
bool gg_maps_find(const void *addr, struct gg_mapping *out);
/** gg_maps_same_file() - is the file of that path still the one that is mapped? */
bool gg_maps_same_file(const struct gg_mapping *m);

/** gg_maps_locked() - is it locked in memory (mlock)? */
bool gg_maps_locked(const struct gg_mapping *m);

#endif
