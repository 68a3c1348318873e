// SPDX-License-Identifier: MIT
/* Reading /proc/self/maps: see maps.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "maps.h"

/* The kernel writes a newline in a path as \012; a path with one can't be opened by that text and is refused there. */
static bool parse_line(const char *line, struct gg_mapping *m)
{
	char perms[5];
	int path = 0;
	size_t len;

	if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s %" SCNx64 " %x:%x %" SCNu64 " %n", &m->lo, &m->hi, perms,
		   &m->off, &m->major, &m->minor, &m->inode, &path) < 7 || !path)
		return false;
	m->writable = perms[1] == 'w';
	m->shared = perms[3] == 's';
	len = strcspn(line + path, "\n");
	if (len >= sizeof(m->path))
		return false;
	memcpy(m->path, line + path, len);
	m->path[len] = 0;
	return true;
}

bool gg_maps_each(bool (*fn)(const struct gg_mapping *m, void *arg), void *arg)
{
	FILE *f = fopen("/proc/self/maps", "re");
	struct gg_mapping m;
	char *line = NULL;
	size_t cap = 0;

	if (!f)
		return false;
	while (getline(&line, &cap, f) > 0)
		if (parse_line(line, &m) && !fn(&m, arg))
			break;
	free(line);
	fclose(f);
	return true;
}

struct search {
	uintptr_t addr;
	struct gg_mapping *out;
	bool found;
};

static bool look(const struct gg_mapping *m, void *arg)
{
	struct search *s = arg;

	if (s->addr < m->lo || s->addr >= m->hi)
		return true;
	*s->out = *m;
	s->found = true;
	return false;
}

bool gg_maps_find(const void *addr, struct gg_mapping *out)
{
	struct search s = { .addr = (uintptr_t)addr, .out = out };

	return gg_maps_each(look, &s) && s.found;
}

bool gg_maps_same_file(const struct gg_mapping *m)
{
	struct stat st;

	/* overlayfs and btrfs show other device numbers in stat than in maps: the inode decides */
	return m->path[0] == '/' && !stat(m->path, &st) && S_ISREG(st.st_mode) && st.st_ino == m->inode;
}

bool gg_maps_locked(const struct gg_mapping *m)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	bool here = false, locked = false;
	char line[PATH_MAX + 128], head[64];
	const int len = snprintf(head, sizeof(head), "%08" PRIxPTR "-%08" PRIxPTR " ", m->lo, m->hi);

	while (f && fgets(line, sizeof(line), f)) {
		if (!strncmp(line, head, (size_t)len))
			here = true;
		if (!here || strncmp(line, "VmFlags:", 8))
			continue;
		locked = strstr(line, " lo") != NULL;
		break;
	}
	if (f)
		fclose(f);
	return locked;
}
