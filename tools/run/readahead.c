// SPDX-License-Identifier: MIT
/* Read-ahead of a drive: see readahead.h. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "readahead.h"

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
	unsigned long was = 0;
	struct stat st;
	FILE *f;

	memset(ra, 0, sizeof(*ra));
	if (stat(path, &st))
		return;
	snprintf(ra->path, sizeof(ra->path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(st.st_dev), minor(st.st_dev));
	f = fopen(ra->path, "r");
	if (!f)
		return;
	if (fscanf(f, "%lu", &was) != 1)
		was = 0;
	fclose(f);
	if (was && was != kib && !put(ra->path, kib))
		ra->kib = was;
}

void run_readahead_restore(struct run_readahead *ra)
{
	if (ra->kib)
		(void)put(ra->path, ra->kib);
	ra->kib = 0;
}
