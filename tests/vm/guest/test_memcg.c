// SPDX-License-Identifier: MIT
/*
 * What memory cgroups are charged for memory of the driver's own: its pages as
 * long as they are there, and above memory.max ENOMEM, for which nobody is
 * killed. In a cgroup of version 2 that the test makes, with a child in it.
 */
#include "memory.h"

#define ROOT	"/sys/fs/cgroup"
#define GROUP	ROOT "/penstock-test"
#define LEN	(64 * MIB)
#define LIMIT	(40 * MIB)
/* What the kernel keeps charged for each CPU, and its bookkeeping. */
#define SLACK	(2 * MIB)

static long long group_value(const char *name)
{
	char text[64];

	return get_file(name, text, sizeof(text)) ? -1 : strtoll(text, NULL, 10);
}

static bool charged(long long low, long long high)
{
	double end = now() + 10;
	long long value;

	do {
		value = group_value(GROUP "/memory.current");
		if (value >= low && value <= high)
			return true;
		usleep(20000);
	} while (now() < end);
	printf("# memory.current %lld, not in %lld to %lld\n", value, low, high);
	return false;
}

static bool enter(void)
{
	return !put_file(GROUP "/cgroup.procs", "0");
}

/* A region of each order comes and goes; the number of the step that fails. */
static int come_and_go(void *arg)
{
	const unsigned int *order = arg;
	struct penstock_region_alloc alloc;
	int node = node_open();
	long long before;

	if (node < 0 || !enter())
		return 1;
	before = group_value(GROUP "/memory.current");
	if (before < 0 || region_alloc(node, LEN, *order, &alloc))
		return 2;
	/* what was charged in advance for a CPU is used up first */
	if (!charged(before + (long long)(LEN - SLACK), before + (long long)(LEN + SLACK)))
		return 3;
	if (region_free(node, alloc.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL))
		return 4;
	return charged(0, before + (long long)SLACK) ? 0 : 5;
}

/* Above the limit, also where the limit is met at another place each time; then as much as it allows. */
static int too_much(void *arg)
{
	struct penstock_region_alloc alloc;
	int node = node_open();

	(void)arg;
	if (node < 0 || !enter())
		return 1;
	for (unsigned int i = 0; i < 24; i++) {
		unsigned int order = i % 4 ? 0 : 9;

		if (region_alloc(node, LEN + i * 7 * PAGE, order, &alloc) != -ENOMEM)
			return 2;
	}
	if (region_alloc(node, LIMIT / 2, 0, &alloc))
		return 3;
	/* The process ends with it: that is given back, too. */
	return 0;
}

static void test_limit(void)
{
	char text[32];
	int ret;

	snprintf(text, sizeof(text), "%llu", (unsigned long long)LIMIT);
	if (!tap(!put_file(GROUP "/memory.max", text), "a limit"))
		return;
	ret = in_child(too_much, NULL);
	tap(!ret, "above it ENOMEM, below it memory (%d)", ret);
	tap(proc_value(GROUP "/memory.events", "max") > 0, "the limit was met");
	tap(!proc_value(GROUP "/memory.events", "oom_kill"), "nobody was killed for it");
	tap(charged(0, SLACK), "nothing is charged in the end");
}

int main(void)
{
	static const unsigned int orders[] = { 0, 3, 9 };
	struct objects start;

	put_file(ROOT "/cgroup.subtree_control", "+memory");
	if (objects_read(&start) || mkdir(GROUP, 0755) || group_value(GROUP "/memory.current") < 0) {
		tap_skip("memory cgroups", "no module, or no cgroup of version 2 with memory");
		return tap_done() ? 1 : 4;
	}
	for (unsigned int i = 0; i < sizeof(orders) / sizeof(*orders); i++) {
		int ret = in_child(come_and_go, (void *)&orders[i]);

		tap(!ret, "order %u: the cgroup is charged for a region, and no more when it is freed (step %d)", orders[i],
		    ret);
	}
	test_limit();
	tap(objects_return_to(&start), "all objects are gone");
	tap(!rmdir(GROUP), "the cgroup can go");
	return tap_done();
}
