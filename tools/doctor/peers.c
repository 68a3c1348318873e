// SPDX-License-Identifier: MIT
/*
 * Peers: devices whose memory drives could read into. The module names those that
 * it has; without it, sysfs names the devices that could be ones.
 */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../out.h"
#include "doctor.h"

#define PART "peers"

/* PCI classes: display controllers, processing accelerators. */
#define CLASS_DISPLAY		0x03
#define CLASS_ACCELERATOR	0x12
#define VENDOR_NVIDIA		0x10de
/* ivshmem, what virtual machines have for tests */
#define VENDOR_QUMRANET		0x1af4
#define DEVICE_IVSHMEM		0x1110

static void say_peer(struct doctor *d, const struct penstock_drv_peer *p)
{
	char pci[16], id[64], what[64], len[32], left[32];

	doctor_pci_name(&p->pci, pci, sizeof(pci));
	snprintf(id, sizeof(id), "peer.%s", pci);
	snprintf(what, sizeof(what), "%s", pci);
	out_size_text(p->len, len, sizeof(len));
	out_size_text(p->available, left, sizeof(left));
	if (p->reason)
		doctor_say(d, PART, id, what, DOCTOR_NO, "what the reason says", "%04x:%04x BAR %u: %s", p->vendor,
			   p->device, p->bar, penstock_drv_reason_text(p->reason));
	else
		doctor_say(d, PART, id, what, DOCTOR_OK, "",
			   "%04x:%04x BAR %u, %s, %s free, NUMA node %d, %s%s%s", p->vendor, p->device, p->bar, len,
			   left, p->numa_node, p->mappable ? "mappable" : "not mappable",
			   p->needs_flush ? ", needs a flush" : "", p->for_tests ? ", a device for tests" : "");
}

static void ask_module(struct doctor *d)
{
	struct penstock_drv_peer p = { 0 }, *peers;
	struct penstock_error err = { 0 };

	while (!penstock_drv_peer(d->drv, p.id, &p, &err)) {
		peers = reallocarray(d->peers, d->nr_peers + 1u, sizeof(*peers));
		if (!peers) {
			d->no_memory = true;
			return;
		}
		d->peers = peers;
		peers[d->nr_peers++] = p;
		say_peer(d, &p);
	}
	if (err.code)
		doctor_say(d, PART, "peers", "peers", DOCTOR_NO, "", "%s", err.text);
}

static unsigned long hex_in(const struct doctor *d, const char *device, const char *attribute)
{
	char text[32];

	doctor_read(doctor_path(d, "/sys/bus/pci/devices/%s/%s", device, attribute), text, sizeof(text));
	return strtoul(text, NULL, 16);
}

static int not_dots(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

/* Return: whether it could be a peer. */
static bool examine(struct doctor *d, const char *device)
{
	unsigned long vendor = hex_in(d, device, "vendor"), id = hex_in(d, device, "device");
	unsigned long class = hex_in(d, device, "class") >> 16;
	bool test = vendor == VENDOR_QUMRANET && id == DEVICE_IVSHMEM;
	bool pages = !access(doctor_path(d, "/sys/bus/pci/devices/%s/p2pmem", device), F_OK);
	char line[64];

	if (class != CLASS_DISPLAY && class != CLASS_ACCELERATOR && !test && !pages)
		return false;
	snprintf(line, sizeof(line), "peer.%.50s", device);
	doctor_say(d, PART, line, device, DOCTOR_NO,
		   vendor == VENDOR_NVIDIA ? "modprobe penstock penstock_nv (it needs NVIDIA's open kernel modules)" :
		   test ? "modprobe penstock allow_test_peer=1" :
		   "modprobe penstock, and bind the device to it where it has no driver",
		   "%04lx:%04lx: %s, but the module does not have it", vendor, id,
		   pages ? "its driver publishes peer-to-peer memory" :
		   test ? "a device for tests" :
		   class == CLASS_DISPLAY ? "a display controller" : "an accelerator");
	return true;
}

static void look_in_sysfs(struct doctor *d)
{
	struct dirent **list;
	bool any = false;
	char dir[1024];
	int i, nr;

	snprintf(dir, sizeof(dir), "%s", doctor_path(d, "/sys/bus/pci/devices"));
	nr = scandir(dir, &list, not_dots, alphasort);
	for (i = 0; i < nr; i++) {
		any |= examine(d, list[i]->d_name);
		free(list[i]);
	}
	if (nr >= 0)
		free(list);
	if (!any)
		doctor_say(d, PART, "peers", "peers", DOCTOR_NO,
			   "routes to peers need a GPU or another device with memory",
			   "no device that could be one below %s", dir);
}

void doctor_peers(struct doctor *d)
{
	if (d->drv >= 0 && d->info.peer)
		ask_module(d);
	if (!d->nr_peers)
		look_in_sysfs(d);
}
