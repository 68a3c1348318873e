/* SPDX-License-Identifier: MIT */
/*
 * The files of a checkpoint: opened read-only, watched for change, probed for
 * O_DIRECT by a real read each. Files are numbered in the order they were added.
 */
#ifndef PENSTOCK_STORE_H
#define PENSTOCK_STORE_H

#include <stdint.h>
#include <sys/stat.h>
#include "flow.h"

enum penstock_file_mode {
	PENSTOCK_FILE_UNPROBED = 0,
	PENSTOCK_FILE_DIRECT,
	PENSTOCK_FILE_BUFFERED,		/* O_DIRECT refused; @why says how */
	PENSTOCK_FILE_DIRECT_CACHED,	/* O_DIRECT accepted, but the page cache grew */
};

/**
 * struct penstock_file - one file
 * @path: as opened
 * @size: bytes
 * @fd: buffered descriptor (O_RDONLY | O_CLOEXEC)
 * @dfd: descriptor for expert reads: O_DIRECT where it works, else @fd itself; -1 before the probe
 * @align: reads through @dfd start at, and have lengths of, multiples of this: 4096 or 512; 1 through the page cache
 * @mode: enum penstock_file_mode
 * @why: why not direct; "" where it is
 * @dev, @ino, @mtime, @ctime: as at open, to see a change
 */
struct penstock_file {
	char *path;
	uint64_t size;
	int fd;
	int dfd;
	uint32_t align;
	uint32_t mode;
	char why[160];
	dev_t dev;
	ino_t ino;
	struct timespec mtime;
	struct timespec ctime;
};

struct penstock_store {
	struct penstock_file *files;
	uint32_t nr_files;
};

/**
 * penstock_store_add() - open a file, never create one
 * @s: the store; zeroed memory is an empty one
 * @file: receives its number
 * Return: 0; -errno of open (-EMFILE with the limit); -EINVAL not a regular file or block device; -ENOMEM.
 */
int penstock_store_add(struct penstock_store *s, const char *path, uint32_t *file, struct penstock_error *err);
/**
 * penstock_store_probe() - decide how a file's experts are read
 * @no_direct: do not try O_DIRECT
 * Return: 0, with mode, align, dfd and why set (a refusal is no failure); -EIO the drive failed both ways;
 * -ESTALE another file has taken its place; -ENOMEM.
 */
int penstock_store_probe(struct penstock_store *s, uint32_t file, bool no_direct, struct penstock_error *err);
/**
 * penstock_store_pread() - exactly @len bytes, buffered; EINTR and short reads go on
 * Return: 0; -ENODATA the file ends before; -EINVAL no such file, or off + len wraps; -errno of the read, as -EIO.
 */
int penstock_store_pread(const struct penstock_store *s, uint32_t file, uint64_t off, void *dst, uint64_t len,
			 struct penstock_error *err);
/**
 * penstock_store_check() - has any file changed since it was added?
 *
 * Compares device, inode, size, mtime and ctime of what the path leads to now.
 * Return: 0; -ESTALE with the file and what changed.
 */
int penstock_store_check(const struct penstock_store *s, struct penstock_error *err);
/** penstock_store_close() - close all files; @s may be zeroed memory. */
void penstock_store_close(struct penstock_store *s);

#endif
