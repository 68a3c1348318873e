/* SPDX-License-Identifier: MIT */
/*
 * Files for tests: a folder of the test's own, and files whose every byte follows
 * from its offset, so that what was read can be judged without a copy.
 */
#ifndef PENSTOCK_TESTS_FILES_H
#define PENSTOCK_TESTS_FILES_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "harness.h"

#define FILES_UNUSED __attribute__((unused))

static char files_dir[256];

static void files_remove(void)
{
	char cmd[300];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", files_dir);
	if (system(cmd))
		fprintf(stderr, "# left behind: %s\n", files_dir);
}

/* A path in the test's folder, which is made at the first call and removed at exit; static storage, two at a time. */
FILES_UNUSED static const char *files_path(const char *name)
{
	static char paths[2][512];
	static unsigned int turn;
	const char *top = getenv("TMPDIR");
	char *path = paths[turn++ % 2];

	if (!files_dir[0]) {
		snprintf(files_dir, sizeof(files_dir), "%s/penstock-XXXXXX", top && *top ? top : "/var/tmp");
		if (!mkdtemp(files_dir)) {
			perror(files_dir);
			_exit(1);
		}
		atexit(files_remove);
	}
	snprintf(path, sizeof(paths[0]), "%s/%s", files_dir, name);
	return path;
}

FILES_UNUSED static uint64_t files_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

FILES_UNUSED static uint8_t files_byte(uint64_t off)
{
	return (uint8_t)(files_mix(off / 8) >> (off % 8 * 8));
}

FILES_UNUSED static void files_fill(void *dst, uint64_t off, uint64_t len)
{
	uint8_t *p = dst;
	uint64_t i;

	for (i = 0; i < len; i++)
		p[i] = files_byte(off + i);
}

/* Offset of the first byte that is wrong, or @len. */
FILES_UNUSED static uint64_t files_wrong(const void *got, uint64_t off, uint64_t len)
{
	const uint8_t *p = got;
	uint64_t i = 0, word;

	for (; i < len && (off + i) % 8; i++)
		if (p[i] != files_byte(off + i))
			return i;
	for (; i + 8 <= len; i += 8) {
		memcpy(&word, p + i, 8);
		if (word != files_mix((off + i) / 8))
			break;
	}
	for (; i < len; i++)
		if (p[i] != files_byte(off + i))
			return i;
	return len;
}

/* Write @size pattern bytes to @path, on disk and out of the page cache. */
FILES_UNUSED static void files_make(const char *path, uint64_t size)
{
	static uint8_t buf[1 << 16];
	uint64_t off, len;
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0) {
		perror(path);
		_exit(1);
	}
	for (off = 0; off < size; off += len) {
		len = size - off < sizeof(buf) ? size - off : sizeof(buf);
		files_fill(buf, off, len);
		if (write(fd, buf, len) != (ssize_t)len) {
			perror(path);
			_exit(1);
		}
	}
	fsync(fd);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	close(fd);
}

#endif
