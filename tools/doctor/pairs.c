// SPDX-License-Identifier: MIT
/*
 * Pairs: each drive with each peer. A file that was named, else the block device
 * itself, which takes root, is examined as the library does it at open: the driver's
 * probe, the canary, a measurement of each route.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../runtime/route.h"

#include "doctor.h"

#define PART "pairs"
#define WINDOW_NS 50000000u

static const char *const map_names[] = { "none", "host", "bus address", "host bridge" };

/* What is to be read from: a block device by its drive, or a file. */
struct source {
	const char *drive;
	char path[512];
	struct penstock_store store;
	uint32_t file;
	struct penstock_route_target target;
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

static const char *verdict_text(const struct penstock_route_verdict *v, char *buf, size_t len)
{
	if (v->code)
		snprintf(buf, len, "not (%.255s)", v->reason);
	else
		snprintf(buf, len, "%.3f GB/s", (double)v->bytes_per_s / 1e9);
	return buf;
}

/* One line: the path, the canary, each route's speed or its reason, the choice. */
static void tell(struct doctor *d, struct doctor_pair *p, const struct penstock_route_found *f)
{
	const struct penstock_route_verdict *direct = &f->of[PENSTOCK_ROUTE_DIRECT];
	char text[1200], one[3][300];
	int best = penstock_route_fastest(f->of);

	p->distance = f->probe.distance;
	p->allowed = f->probe.allowed;
	p->canary = f->canary;
	p->direct_works = !direct->code;
	p->direct_bytes_per_s = direct->bytes_per_s;
	p->mapped_bytes_per_s = f->of[PENSTOCK_ROUTE_MAPPED].bytes_per_s;
	p->bounce_bytes_per_s = f->of[PENSTOCK_ROUTE_BOUNCE].bytes_per_s;
	snprintf(p->map, sizeof(p->map), "%s", map_names[f->probe.map]);
	if (best >= 0)
		snprintf(p->route, sizeof(p->route), "%s", penstock_route_name((enum penstock_route)best));
	snprintf(text, sizeof(text), "path: %s, distance %d; canary: %s; direct %s, mapped %s, bounce %s; chosen: %s",
		 p->map, p->distance, p->canary > 0 ? "passed" : p->canary ? "not run" : "FAILED",
		 verdict_text(direct, one[0], sizeof(one[0])),
		 verdict_text(&f->of[PENSTOCK_ROUTE_MAPPED], one[1], sizeof(one[1])),
		 verdict_text(&f->of[PENSTOCK_ROUTE_BOUNCE], one[2], sizeof(one[2])), best >= 0 ? p->route : "none");
	say_pair(d, p, p->direct_works ? DOCTOR_OK : best >= 0 ? DOCTOR_DEGRADED : DOCTOR_NO, "", text);
}

static void examine(struct doctor *d, struct source *s, const struct penstock_drv_peer *peer)
{
	const uint32_t routes = 1u << PENSTOCK_ROUTE_DIRECT | 1u << PENSTOCK_ROUTE_MAPPED |
				1u << PENSTOCK_ROUTE_BOUNCE;
	const struct penstock_mem_source source = {
		.ops = &penstock_mem_peer, .numa_node = -1, .drv = d->drv, .peer = peer->id,
	};
	struct penstock_route_pair pair = {
		.source = &source, .flush = peer->needs_flush, .store = &s->store, .file = s->file,
		.target = &s->target,
	};
	struct penstock_error err = { 0 };
	struct penstock_route_found found;
	struct doctor_pair *p;
	char name[32];

	p = add_pair(d, s, doctor_pci_name(&peer->pci, name, sizeof(name)));
	if (!p)
		return;
	pair.device = name;
	if (penstock_route_examine(&pair, routes, WINDOW_NS, &found, &err))
		say_pair(d, p, DOCTOR_NO, "", err.text);
	else
		tell(d, p, &found);
}

static void examine_source(struct doctor *d, struct source *s)
{
	struct penstock_error err = { 0 };
	struct doctor_pair named = { 0 };
	uint32_t i;
	int rc;

	snprintf(named.drive, sizeof(named.drive), "%s", s->drive);
	snprintf(named.peer, sizeof(named.peer), "any peer");
	rc = penstock_store_add(&s->store, s->path, &s->file, &err);
	if (!rc)
		rc = penstock_store_probe(&s->store, s->file, false, &err);
	if (!rc)
		rc = penstock_route_target_add(d->drv, &s->store.files[s->file], &s->target, &err);
	if (rc)
		say_pair(d, &named, DOCTOR_NO, rc == -EACCES ? "run it as root, or name a file on the drive" : "",
			 err.text);
	for (i = 0; !rc && i < d->nr_peers; i++)
		if (d->peers[i].is_bar && !d->peers[i].reason)
			examine(d, s, &d->peers[i]);
	if (!rc && s->target.info.id)
		(void)penstock_drv_target_del(d->drv, s->target.info.id, NULL);
	penstock_store_close(&s->store);
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
