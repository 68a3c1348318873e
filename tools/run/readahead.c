// SPDX-License-Identifier: MIT
/* Read-ahead of a drive: see readahead.h. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "readahead.h"

static void path_of(dev_t dev, char path[64])
{
	snprintf(path, 64, "/sys/class/bdi/%u:%u/read_ahead_kb", major(dev), minor(dev));
}

unsigned long run_readahead_kib(dev_t dev)
{
	unsigned long kib;
	char path[64];
	FILE *f;

	path_of(dev, path);
	f = fopen(path, "r");
	if (!f)
		return 0;
	if (fscanf(f, "%lu", &kib) != 1)
		kib = 0;
	fclose(f);
	return kib;
}

static int put(const char *path, unsigned long kib)
{
	FILE *f = fopen(path, "w");
	int rc;

	if (!f)
		return -1;
	rc = fprintf(f, "%lu\n", kib) < 0;
	return fclose(f) || rc ? -1 : 0;
}

void run_readahead_set(struct run_readahead *ra, const char *path, unsigned long kib)
{
	unsigned long was;
	struct stat st;

	memset(ra, 0, sizeof(*ra));
	if (stat(path, &st))
		return;
	path_of(st.st_dev, ra->path);
	was = run_readahead_kib(st.st_dev);
	if (was && was != kib && !put(ra->path, kib))
		ra->kib = was;
}

void run_readahead_restore(struct run_readahead *ra)
{
	if (ra->kib)
		(void)put(ra->path, ra->kib);
	ra->kib = 0;
}
