/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Two opens of the node, and the count of objects before and after a test:
 * what there was before is there after it, and nothing more.
 */
#ifndef PENSTOCK_OBJECTS_FIXTURE_H
#define PENSTOCK_OBJECTS_FIXTURE_H

#include "penstock_util.h"
#include "kselftest_harness.h"

/* Of regions. */
static const uint64_t bad_lengths[] = { 0, 1, 8, PAGE - 1, PAGE + 1, 2 * PAGE - 1, 1ULL << 63, (1ULL << 63) + PAGE,
	-(uint64_t)PAGE, ALL_ONES, 1ULL << 40, (1ULL << 32) + 1, (1ULL << 52) + PAGE };

FIXTURE(objects) {
	int node, other;
	bool counted;
	struct objects before;
	long long pinned_kib;
	uint64_t max_region_len;
	uint32_t max_order;
};

FIXTURE_SETUP(objects)
{
	struct penstock_info info;

	self->counted = objects_get(&self->before);
	self->pinned_kib = vm_pin_kib();
	self->node = node_open(O_CLOEXEC);
	if (self->node == -ENOENT) {
		SKIP(return, "no %s", node_path());
	}
	ASSERT_LE(0, self->node);
	self->other = node_open(O_CLOEXEC);
	ASSERT_LE(0, self->other);
	ASSERT_EQ(0, info_get(self->node, &info));
	self->max_region_len = info.out_max_region_len;
	self->max_order = info.out_max_order;
}

FIXTURE_TEARDOWN(objects)
{
	close(self->node);
	close(self->other);
	if (self->counted)
		EXPECT_TRUE(objects_settle(&self->before, 10));
	EXPECT_EQ(self->pinned_kib, vm_pin_kib());
}

#endif
