// SPDX-License-Identifier: MIT
/* NVMe drives, as sysfs describes them. Nothing is read from a drive here. */
#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../out.h"
#include "doctor.h"

#define PART "drives"

/* nvme0n1: a namespace; not nvme0c0n1, a hidden path of one, nor nvme0n1p1. */
static int is_namespace(const struct dirent *e)
{
	int end = 0;

	return sscanf(e->d_name, "nvme%*un%*u%n", &end) == 0 && end > 0 && !e->d_name[end];
}

/* The last PCI address in a path of sysfs, or "". */
static void pci_of(const char *path, char *pci, size_t len)
{
	unsigned int a, b, c, f;
	const char *p;
	int end;

	pci[0] = 0;
	for (p = path; p; p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL) {
		end = 0;
		if (sscanf(p, "%x:%x:%x.%x%n", &a, &b, &c, &f, &end) == 4 && end && (p[end] == '/' || !p[end]))
			snprintf(pci, len, "%04x:%02x:%02x.%x", a, b, c, f);
	}
}

static uint64_t number_in(const struct doctor *d, const char *name, const char *attribute)
{
	char text[64];

	doctor_read(doctor_path(d, "/sys/block/%s/%s", name, attribute), text, sizeof(text));
	return strtoull(text, NULL, 0);
}

static void examine(struct doctor *d, const char *name)
{
	static const char remedy[] = "boot with nvme_core.multipath=N";
	struct doctor_drive *drives = reallocarray(d->drives, d->nr_drives + 1u, sizeof(*drives)), *v;
	char target[PATH_MAX], model[64], size[32], id[64], numa[16];
	const char *dir = doctor_path(d, "/sys/block/%s", name);
	ssize_t n = readlink(dir, target, sizeof(target) - 1);
	bool multipath;

	if (!drives) {
		d->no_memory = true;
		return;
	}
	d->drives = drives;
	v = &drives[d->nr_drives++];
	*v = (struct doctor_drive){ 0 };
	snprintf(v->name, sizeof(v->name), "%.31s", name);
	target[n > 0 ? n : 0] = 0;
	multipath = strstr(target, "nvme-subsystem");
	pci_of(target, v->pci, sizeof(v->pci));
	v->bad = multipath || !*v->pci;
	doctor_read(doctor_path(d, "/sys/block/%s/device/model", name), model, sizeof(model));
	doctor_read(doctor_path(d, "/sys/block/%s/device/numa_node", name), numa, sizeof(numa));
	out_size_text(number_in(d, name, "size") * 512, size, sizeof(size));
	snprintf(id, sizeof(id), "drive.%.50s", name);
	doctor_say(d, PART, id, name, v->bad ? DOCTOR_NO : DOCTOR_OK,
		   multipath ? remedy : v->bad ? "use an NVMe drive in a PCIe slot" : "",
		   "%s, %s, %s, NUMA node %s, blocks of %" PRIu64 " bytes%s", *model ? model : "no model name", size,
		   *v->pci ? v->pci : "no PCI device", *numa ? numa : "unknown",
		   number_in(d, name, "queue/logical_block_size"),
		   multipath ? ": NVMe multipath takes no peer pages (before Linux 7.2)" : "");
}

void doctor_drives(struct doctor *d)
{
	struct dirent **list;
	char dir[1024];
	int i, nr;

	snprintf(dir, sizeof(dir), "%s", doctor_path(d, "/sys/block"));
	nr = scandir(dir, &list, is_namespace, versionsort);
	for (i = 0; i < nr; i++) {
		examine(d, list[i]->d_name);
		free(list[i]);
	}
	if (nr >= 0)
		free(list);
	if (nr <= 0)
		doctor_say(d, PART, "drives", "drives", DOCTOR_NO, "routes to peers need an NVMe drive in a PCIe slot",
			   "no NVMe drive below %s", dir);
}
