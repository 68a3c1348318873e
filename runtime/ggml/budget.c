// SPDX-License-Identifier: MIT
/* The cache's size: see budget.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "budget.h"
#include "host.h"
#include "settings.h"

/* A read covers whole blocks of the drive, so a slot has some bytes before the expert and behind it. */
#define SLOT_PADDING	4096u

void gg_need_add(struct gg_need *need, const struct gg_matrix *m)
{
	const uint64_t slot = (m->bytes + 2 * SLOT_PADDING - 1) / SLOT_PADDING * SLOT_PADDING;

	need->token += slot * (m->top_k && m->top_k < m->nr_experts ? m->top_k : 1);
	need->all += slot * m->nr_experts;
}

/* The number behind a word in a file of lines, in @unit bytes; UINT64_MAX where there is none. */
static uint64_t read_number(const char *path, const char *word, uint64_t unit)
{
	uint64_t value = UINT64_MAX;
	FILE *f = fopen(path, "re");
	char line[256];

	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, word, strlen(word)) || sscanf(line + strlen(word), "%" SCNu64, &value) != 1)
			continue;
		value *= unit;
		break;
	}
	if (f)
		fclose(f);
	return value;
}

/* What this process's memory cgroup has left, version 1 or 2. */
static uint64_t cgroup_left(void)
{
	uint64_t left = UINT64_MAX;
	FILE *f = fopen("/proc/self/cgroup", "re");
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		char path[512 + 64], *group = strrchr(line, ':');
		const bool v2 = !strncmp(line, "0::", 3);
		uint64_t most, used;

		if (!group || (!v2 && !strstr(line, ":memory:")))
			continue;
		group++;
		group[strcspn(group, "\n")] = 0;
		snprintf(path, sizeof(path), "/sys/fs/cgroup%s%.400s/%s", v2 ? "" : "/memory", group,
			 v2 ? "memory.max" : "memory.limit_in_bytes");
		most = read_number(path, "", 1);
		snprintf(path, sizeof(path), "/sys/fs/cgroup%s%.400s/%s", v2 ? "" : "/memory", group,
			 v2 ? "memory.current" : "memory.usage_in_bytes");
		used = read_number(path, "", 1);
		if (most != UINT64_MAX && used != UINT64_MAX && used < most && most - used < left)
			left = most - used;
	}
	if (f)
		fclose(f);
	return left;
}

static uint64_t half_of_free(void)
{
	const uint64_t host = read_number("/proc/meminfo", "MemAvailable:", 1024), group = cgroup_left();

	return (host < group ? host : group) / 2;
}

static uint64_t in_bytes(const struct gg_budget *b, const struct gg_need *need)
{
	return b->bytes ? b->bytes : (uint64_t)((double)need->all * b->percent / 100);
}

bool gg_budget_get(const struct gg_need *need, uint32_t nr, uint64_t *bytes, uint64_t *all)
{
	const uint32_t given = gg_settings.nr_budgets;

	if (nr && nr >= given) {
		gg_say("%u models share one budget: name one for each, PENSTOCK_CACHE=8G,1G", nr + 1);
		return false;
	}
	*bytes = given ? in_bytes(&gg_settings.budgets[nr], need) : half_of_free();
	if (*bytes > need->all)
		*bytes = need->all;
	if (*bytes < need->token) {
		gg_say("a cache of %" PRIu64 " MiB is less than one token's experts, %" PRIu64
		       " MiB: raise PENSTOCK_CACHE", *bytes >> 20, (need->token >> 20) + 1);
		return false;
	}
	*all = *bytes;
	for (uint32_t i = nr + 1; i < given; i++)
		*all += in_bytes(&gg_settings.budgets[i], need);
	return true;
}
