// SPDX-License-Identifier: MIT
/* The last line: will the direct route work here? From what the other parts found, in the order of the remedies. */
#include <stdio.h>
#include <string.h>

#include "../cmd.h"
#include "doctor.h"

#define PART "verdict"

static const struct doctor_line *line_of(const struct doctor *d, const char *id)
{
	uint32_t i;

	for (i = 0; i < d->nr_lines; i++)
		if (!strcmp(d->lines[i].id, id))
			return &d->lines[i];
	return NULL;
}

static bool is_bad(const struct doctor *d, const char *id)
{
	const struct doctor_line *l = line_of(d, id);

	return l && l->state == DOCTOR_NO;
}

static int say(struct doctor *d, enum doctor_state state, int code, const char *text)
{
	doctor_say(d, PART, "verdict.direct", "route direct", state, "", "%s", text);
	return code;
}

/* What is missing first in the order in which it is to be had. */
int doctor_verdict(struct doctor *d)
{
	char text[256];
	uint32_t i, good = 0, drives = 0, peers = 0;

	for (i = 0; i < d->nr_drives; i++)
		drives += !d->drives[i].bad;
	for (i = 0; i < d->nr_peers; i++)
		peers += !d->peers[i].reason;
	for (i = 0; i < d->nr_pairs; i++)
		good += d->pairs[i].direct_works;
	if (is_bad(d, "kernel.p2pdma") && (d->drv < 0 || !d->info.peer))
		return say(d, DOCTOR_NO, CMD_IMPOSSIBLE, "not on this kernel: it has no P2PDMA");
	if (d->drv < 0)
		return say(d, DOCTOR_NO, CMD_IMPOSSIBLE, is_bad(d, "module.loaded") ?
			   "not yet: the module is not loaded" :
			   "not for this user: the module's node cannot be opened");
	if (!d->info.peer)
		return say(d, DOCTOR_NO, CMD_IMPOSSIBLE, "not on this kernel: the module has no peer memory");
	if (!drives && !d->nr_files)
		return say(d, DOCTOR_NO, CMD_IMPOSSIBLE, "not on this machine: no NVMe drive that takes peer pages");
	if (!peers)
		return say(d, DOCTOR_NO, CMD_IMPOSSIBLE, "not on this machine: no peer with memory to read into");
	if (!good)
		return say(d, DOCTOR_NO, CMD_FAILED, "no pair of a drive and a peer works: the pairs above say why");
	snprintf(text, sizeof(text), "it works for %u of %u pairs", good, d->nr_pairs);
	return say(d, DOCTOR_OK, CMD_GOOD, text);
}
