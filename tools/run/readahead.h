/* SPDX-License-Identifier: MIT */
/*
 * The kernel's read-ahead on a drive, for as long as a comparison takes: page faults
 * are at their best with 128 KiB. Only root may set it; where it cannot be set it
 * stays, and the report has what it was.
 */
#ifndef PENSTOCK_RUN_READAHEAD_H
#define PENSTOCK_RUN_READAHEAD_H

#include <sys/types.h>

/** struct run_readahead - what to put back; kib 0 = nothing was changed */
struct run_readahead {
	char path[64];
	unsigned long kib;
};

/** run_readahead_kib() - what the kernel reads ahead on a drive; 0 = unknown */
unsigned long run_readahead_kib(dev_t dev);
/** run_readahead_set() - @kib on the drive below @path; files opened from now on have it */
void run_readahead_set(struct run_readahead *ra, const char *path, unsigned long kib);
/** run_readahead_restore() - put it back as it was */
void run_readahead_restore(struct run_readahead *ra);

#endif
