// SPDX-License-Identifier: MIT
/* The cache's size: see budget.h. */
#include <inttypes.h>

#include "budget.h"
#include "../mem_probe.h"
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
	*bytes = given ? in_bytes(&gg_settings.budgets[nr], need) : penstock_mem_available() / 2;
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
