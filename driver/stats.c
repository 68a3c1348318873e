// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counters: of a region, of an open, of all opens that were and are, and how
 * many objects there are. Always on: a count is one addition on the CPU's own
 * share. Shown by REGION_STAT, and to root in debugfs, penstock/totals and
 * penstock/objects, one "name value" a line; lines are only ever added.
 */
#include <linux/debugfs.h>
#include <linux/seq_file.h>
#include "penstock_drv.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

struct penstock_objects {
	long nr[PENSTOCK_OBJECT_NR];
};

/* One may be taken on a CPU and given back on another: only the sum says anything. */
static DEFINE_PER_CPU(struct penstock_objects, penstock_objects);

static DEFINE_MUTEX(folded_lock);	/* the two that follow */
static struct penstock_stats folded;
static unsigned long nr_folded;

static struct dentry *stats_dir;

void penstock_object_add(enum penstock_object kind, long n)
{
	this_cpu_add(penstock_objects.nr[kind], n);
}
EXPORT_SYMBOL_GPL(penstock_object_add);

s64 penstock_object_read(enum penstock_object kind)
{
	s64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(per_cpu(penstock_objects, cpu).nr[kind]);
	return sum;
}

static void stats_add(struct penstock_stats *sum, const struct penstock_stats *stats)
{
	sum->reads += READ_ONCE(stats->reads);
	sum->bytes += READ_ONCE(stats->bytes);
	sum->shorts += READ_ONCE(stats->shorts);
	sum->errors += READ_ONCE(stats->errors);
	sum->refused += READ_ONCE(stats->refused);
	sum->punted += READ_ONCE(stats->punted);
	sum->resubmitted += READ_ONCE(stats->resubmitted);
	sum->fallbacks += READ_ONCE(stats->fallbacks);
	sum->unreachable += READ_ONCE(stats->unreachable);
}

void penstock_stats_sum(const struct penstock_stats __percpu *stats, struct penstock_stats *sum)
{
	int cpu;

	memset(sum, 0, sizeof(*sum));
	for_each_possible_cpu(cpu)
		stats_add(sum, per_cpu_ptr(stats, cpu));
}

void penstock_stats_fold(const struct penstock_stats __percpu *stats)
{
	struct penstock_stats sum;

	penstock_stats_sum(stats, &sum);
	mutex_lock(&folded_lock);
	stats_add(&folded, &sum);
	nr_folded++;
	mutex_unlock(&folded_lock);
}

static void add_open(struct penstock_open *open, void *arg)
{
	struct penstock_stats sum;

	penstock_stats_sum(open->stats, &sum);
	stats_add(arg, &sum);
}

/*
 * An open is folded in and leaves the list under one lock, which is held for
 * the walk of the list, but not since the folded ones were read: those that
 * were folded in between would be missed, so look again.
 */
static void stats_totals(struct penstock_stats *totals)
{
	unsigned long before, after;

	do {
		mutex_lock(&folded_lock);
		*totals = folded;
		before = nr_folded;
		mutex_unlock(&folded_lock);
		penstock_open_for_each(add_open, totals);
		mutex_lock(&folded_lock);
		after = nr_folded;
		mutex_unlock(&folded_lock);
	} while (before != after);
}

/* Reads in flight into any region that has an id. */
static u32 open_in_flight(struct penstock_open *open)
{
	struct penstock_region *region;
	unsigned long id;
	u32 sum = 0;

	rcu_read_lock();
	xa_for_each(&open->regions, id, region)
		sum += penstock_region_in_flight(region);
	rcu_read_unlock();
	return sum;
}

int penstock_ioctl_region_stat(struct penstock_open *open, void *arg)
{
	struct penstock_region_stat *cmd = arg;
	struct penstock_region *region;
	struct penstock_stats sum;

	if (cmd->flags)
		return -EOPNOTSUPP;
	if (cmd->region_id) {
		region = penstock_region_find(open, cmd->region_id);
		if (!region)
			return -ENOENT;
		penstock_stats_sum(region->stats, &sum);
		cmd->out_in_flight = penstock_region_in_flight(region);
		penstock_region_put(region);
	} else {
		penstock_stats_sum(open->stats, &sum);
		cmd->out_in_flight = open_in_flight(open);
	}
	cmd->out_reads = sum.reads;
	cmd->out_bytes = sum.bytes;
	cmd->out_short = sum.shorts;
	cmd->out_errors = sum.errors;
	cmd->out_refused = sum.refused;
	cmd->out_punted = sum.punted;
	cmd->out_resubmitted = sum.resubmitted;
	cmd->out_fallbacks = sum.fallbacks;
	cmd->out_unreachable = sum.unreachable;
	return 0;
}

static int objects_show(struct seq_file *file, void *unused)
{
	static const char * const names[] = {
		[PENSTOCK_OBJECT_OPEN] = "opens",
		[PENSTOCK_OBJECT_REGION] = "regions",
		[PENSTOCK_OBJECT_MEM] = "memories",
		[PENSTOCK_OBJECT_TARGET] = "targets",
		[PENSTOCK_OBJECT_PEER] = "peers",
		[PENSTOCK_OBJECT_DMABUF] = "dmabufs",
		[PENSTOCK_OBJECT_IO] = "reads_in_flight",
		[PENSTOCK_OBJECT_HOST_PAGES] = "host_pages",
		[PENSTOCK_OBJECT_PINNED_PAGES] = "pinned_pages",
		[PENSTOCK_OBJECT_PEER_BYTES] = "peer_bytes",
	};
	int i;

	static_assert(ARRAY_SIZE(names) == PENSTOCK_OBJECT_NR);
	for (i = 0; i < PENSTOCK_OBJECT_NR; i++)
		seq_printf(file, "%s %lld\n", names[i], penstock_object_read(i));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(objects);

static int totals_show(struct seq_file *file, void *unused)
{
	struct penstock_stats totals;

	stats_totals(&totals);
	seq_printf(file, "reads %llu\n", totals.reads);
	seq_printf(file, "bytes %llu\n", totals.bytes);
	seq_printf(file, "short %llu\n", totals.shorts);
	seq_printf(file, "errors %llu\n", totals.errors);
	seq_printf(file, "refused %llu\n", totals.refused);
	seq_printf(file, "punted %llu\n", totals.punted);
	seq_printf(file, "resubmitted %llu\n", totals.resubmitted);
	seq_printf(file, "fallbacks %llu\n", totals.fallbacks);
	seq_printf(file, "unreachable %llu\n", totals.unreachable);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(totals);

/* No debugfs is no reason to fail: REGION_STAT works without it. */
int penstock_stats_init(void)
{
	stats_dir = debugfs_create_dir("penstock", NULL);
	debugfs_create_file("objects", 0400, stats_dir, NULL, &objects_fops);
	debugfs_create_file("totals", 0400, stats_dir, NULL, &totals_fops);
	return 0;
}

void penstock_stats_exit(void)
{
	debugfs_remove(stats_dir);
}
