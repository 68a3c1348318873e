// SPDX-License-Identifier: MIT
/* The module: is it loaded, may its node be opened, what can it do? */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../out.h"
#include "doctor.h"

#define PART "module"

static void check_loaded(struct doctor *d)
{
	const char *sys = doctor_path(d, "/sys/module/penstock");

	if (!access(sys, F_OK))
		doctor_say(d, PART, "module.loaded", "penstock.ko", DOCTOR_OK, "", "%s is there", sys);
	else
		doctor_say(d, PART, "module.loaded", "penstock.ko", DOCTOR_NO,
			   "modprobe penstock (packages: penstock-dkms); what needs no peer works without it",
			   "it is not loaded: %s is not there", sys);
}

/* Errors that the node's permissions or its absence give have remedies; others are told as they are. */
static void check_node(struct doctor *d)
{
	const char *path = doctor_path(d, PENSTOCK_DRV_NODE);
	struct penstock_error err = { 0 };
	int fd = penstock_drv_open(path, &err);

	if (fd >= 0) {
		d->drv = fd;
		doctor_say(d, PART, "module.node", "node", DOCTOR_OK, "", "%s can be opened", path);
		return;
	}
	doctor_say(d, PART, "module.node", "node", DOCTOR_NO,
		   fd == -ENODEV ? "modprobe penstock" :
		   fd == -EACCES ? "usermod -aG penstock USER, then log in again" : "", "%s", err.text);
}

static void check_features(struct doctor *d)
{
	const struct penstock_drv_info *i = &d->info;
	struct penstock_error err = { 0 };
	char most[32];

	if (penstock_drv_info(d->drv, &d->info, &err)) {
		doctor_say(d, PART, "module.features", "features", DOCTOR_NO, "", "%s", err.text);
		return;
	}
	out_size_text(i->max_read, most, sizeof(most));
	doctor_say(d, PART, "module.features", "features", i->region_read ? DOCTOR_OK : DOCTOR_NO, "",
		   "reads by io_uring command: %s, by ioctl: %s, of up to %s; dma-buf: %s", i->uring_read ? "yes" : "no",
		   i->region_read ? "yes" : "no", most, i->dmabuf ? "yes" : "no");
	if (i->peer)
		doctor_say(d, PART, "module.peers", "peer memory", i->peer_mmap ? DOCTOR_OK : DOCTOR_DEGRADED,
			   i->peer_mmap ? "" : "route mapped is off, route direct is not concerned",
			   "regions in peer memory can be had, and %s mapped", i->peer_mmap ? "can be" : "cannot be");
	else
		doctor_say(d, PART, "module.peers", "peer memory", DOCTOR_NO,
			   "what the reason says; host memory of the driver works all the same", "%s",
			   penstock_drv_reason_text(i->peer_reason));
}

void doctor_module(struct doctor *d)
{
	check_loaded(d);
	check_node(d);
	if (d->drv >= 0)
		check_features(d);
}
