// SPDX-License-Identifier: MIT
/*
 * A peer's memory from the guest's side, through sysfs: barpeek sum|fill FILE OFF LEN [BYTE].
 * sum prints the SHA-256, by the kernel-independent sha256sum program.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(const char *what)
{
	fprintf(stderr, "barpeek: %s: %s\n", what, strerror(errno));
	return 1;
}

/* Word by word: a BAR is no place for instructions of other widths. */
static int sum(const volatile uint64_t *bar, size_t len)
{
	FILE *pipe = popen("sha256sum | cut -d ' ' -f 1", "w");
	size_t i;

	if (!pipe)
		return fail("sha256sum");
	for (i = 0; i < len / 8; i++) {
		uint64_t word = bar[i];

		if (fwrite(&word, 8, 1, pipe) != 1)
			return fail("pipe");
	}
	return pclose(pipe) ? 1 : 0;
}

int main(int argc, char **argv)
{
	size_t off, len, i;
	struct stat st;
	uint8_t *map;
	int fd;

	if (argc < 5) {
		fprintf(stderr, "usage: barpeek sum|fill FILE OFF LEN [BYTE]\n");
		return 2;
	}
	off = strtoull(argv[3], NULL, 0);
	len = strtoull(argv[4], NULL, 0);
	fd = open(argv[2], O_RDWR | O_SYNC | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		return fail(argv[2]);
	if (off % 8 || len % 8 || off > (size_t)st.st_size || len > (size_t)st.st_size - off) {
		errno = EINVAL;
		return fail("range");
	}
	map = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return fail("mmap");
	if (!strcmp(argv[1], "sum"))
		return sum((const volatile uint64_t *)(map + off), len);
	if (!strcmp(argv[1], "fill") && argc == 6) {
		for (i = 0; i < len; i++)
			((volatile uint8_t *)map)[off + i] = strtoul(argv[5], NULL, 0);
		return 0;
	}
	errno = EINVAL;
	return fail(argv[1]);
}
