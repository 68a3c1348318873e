// SPDX-License-Identifier: MIT
/*
 * Pairs: each drive with each peer. The driver is asked for a target on the drive
 * (a file that was named, else the block device itself, which takes root), a region
 * in the peer, and whether there is a path between them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "doctor.h"

#define PART "pairs"
#define SCRATCH (64u << 10)

static const char *const map_names[] = { "none", "host", "bus address", "host bridge" };

/* What is to be read from: a block device by its drive, or a file. */
struct source {
	const char *drive;
	char path[512];
	int fd;
	struct penstock_drv_target target;
	bool has_target;
};

static struct doctor_pair *add_pair(struct doctor *d, const struct source *s, const char *peer)
{
	struct doctor_pair *pairs = reallocarray(d->pairs, d->nr_pairs + 1u, sizeof(*pairs)), *p;

	if (!pairs) {
		d->no_memory = true;
		return NULL;
	}
	d->pairs = pairs;
	p = &pairs[d->nr_pairs++];
	*p = (struct doctor_pair){ .distance = -1, .canary = -1, .map = "none" };
	snprintf(p->drive, sizeof(p->drive), "%s", s->drive);
	snprintf(p->file, sizeof(p->file), "%.255s", s->path);
	snprintf(p->peer, sizeof(p->peer), "%s", peer);
	return p;
}

static void say_pair(struct doctor *d, const struct doctor_pair *p, enum doctor_state state, const char *remedy,
		     const char *evidence)
{
	char id[64], what[64];

	snprintf(id, sizeof(id), "pair.%.20s.%.20s", p->drive, p->peer);
	snprintf(what, sizeof(what), "%.20s > %.20s", p->drive, p->peer);
	doctor_say(d, PART, id, what, state, remedy, "%s", evidence);
}

static void examine(struct doctor *d, struct source *s, const struct penstock_drv_peer *peer)
{
	struct penstock_error err = { 0 };
	struct penstock_drv_region region;
	struct penstock_drv_probe probe;
	struct doctor_pair *p;
	char name[32], text[256];

	p = add_pair(d, s, doctor_pci_name(&peer->pci, name, sizeof(name)));
	if (!p)
		return;
	if (s->target.peer_reason) {
		say_pair(d, p, DOCTOR_NO, "", penstock_drv_reason_text(s->target.peer_reason));
		return;
	}
	if (penstock_drv_region_peer(d->drv, peer->id, SCRATCH, &region, NULL, &err)) {
		say_pair(d, p, DOCTOR_NO, "", err.text);
		return;
	}
	if (penstock_drv_region_probe(d->drv, region.id, s->target.id, &probe, &err)) {
		say_pair(d, p, DOCTOR_NO, "", err.text);
	} else {
		p->distance = probe.distance;
		p->allowed = probe.allowed;
		snprintf(p->map, sizeof(p->map), "%s", map_names[probe.map]);
		if (!probe.allowed)
			say_pair(d, p, DOCTOR_NO, "", penstock_drv_reason_text(probe.reason));
		else {
			snprintf(text, sizeof(text), "path by %s, distance %d", p->map, p->distance);
			say_pair(d, p, DOCTOR_OK, "", text);
		}
	}
	(void)penstock_drv_region_free(d->drv, region.id, true, NULL);
}

static void examine_source(struct doctor *d, struct source *s)
{
	struct penstock_error err = { 0 };
	struct doctor_pair named = { 0 };
	uint32_t i;

	snprintf(named.drive, sizeof(named.drive), "%s", s->drive);
	snprintf(named.peer, sizeof(named.peer), "any peer");
	s->fd = open(s->path, O_RDONLY | O_CLOEXEC);
	if (s->fd < 0) {
		snprintf(err.text, sizeof(err.text), "%.400s cannot be read: %s", s->path, strerrordesc_np(errno));
		say_pair(d, &named, DOCTOR_NO, errno == EACCES ? "run it as root, or name a file on the drive" : "",
			 err.text);
		return;
	}
	s->has_target = !penstock_drv_target_add(d->drv, s->fd, &s->target, NULL, &err);
	if (!s->has_target)
		say_pair(d, &named, DOCTOR_NO, "", err.text);
	for (i = 0; s->has_target && i < d->nr_peers; i++)
		if (!d->peers[i].reason)
			examine(d, s, &d->peers[i]);
	if (s->has_target)
		(void)penstock_drv_target_del(d->drv, s->target.id, NULL);
	close(s->fd);
}

void doctor_pairs(struct doctor *d)
{
	struct source s;
	uint32_t i;
	int k;

	if (d->drv < 0 || !d->nr_peers) {
		doctor_say(d, PART, "pairs", "pairs", DOCTOR_NO, "", "none was examined: %s",
			   d->drv < 0 ? "only the module can tell" : "the module has no peer");
		return;
	}
	for (k = 0; k < d->nr_files; k++) {
		s = (struct source){ .drive = "file" };
		snprintf(s.path, sizeof(s.path), "%.511s", d->files[k]);
		examine_source(d, &s);
	}
	for (i = 0; !d->nr_files && i < d->nr_drives; i++) {
		s = (struct source){ .drive = d->drives[i].name };
		snprintf(s.path, sizeof(s.path), "/dev/%s", d->drives[i].name);
		examine_source(d, &s);
	}
}
