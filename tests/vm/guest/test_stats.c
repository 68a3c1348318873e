// SPDX-License-Identifier: MIT
/*
 * What the module says about itself: counters of a region, of an open and of
 * all opens add up and never go back; tracepoints fire with what happened.
 *
 * test_stats FOLDER: one with the bench's files data and tail.
 */
#include "read.h"

#define MIB		(1ULL << 20)
#define TOTALS		"/sys/kernel/debug/penstock/totals"
#define OBJECTS		"/sys/kernel/debug/penstock/objects"
#define TRACING		"/sys/kernel/tracing/"
#define TRACE_LEN	(1 << 20)
#define CHURN_SECONDS	3.0

static const char *folder;

/* A line "NAME N"; -1 */
static long long value_of(const char *path, const char *name)
{
	long long value = -1, got;
	char word[64];
	FILE *f = fopen(path, "r");

	while (f && fscanf(f, "%63s %lld", word, &got) == 2)
		if (!strcmp(word, name))
			value = got;
	if (f)
		fclose(f);
	return value;
}

static struct source source_of(int node, const char *name)
{
	struct source s;
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	if (source_open(node, name, path, &s)) {
		tap(false, "%s is a target", path);
		exit(tap_done());
	}
	return s;
}

static uint32_t region_of(int node, uint64_t len)
{
	struct penstock_region_alloc alloc;
	int ret = region_alloc(node, len, 0, &alloc);

	if (ret) {
		tap(false, "a region of %llu bytes (%d)", (unsigned long long)len, ret);
		exit(tap_done());
	}
	return alloc.out_region_id;
}

static struct penstock_region_stat stat_of(int node, uint32_t region)
{
	struct penstock_region_stat stat;

	if (region_stat(node, region, &stat))
		tap(false, "REGION_STAT of %u", region);
	return stat;
}

static void test_counters(void)
{
	long long reads = value_of(TOTALS, "reads"), bytes = value_of(TOTALS, "bytes");
	long long refused = value_of(TOTALS, "refused");
	struct penstock_region_stat one, two, sum;
	int node = node_open();
	struct source data = source_of(node, "data"), tail = source_of(node, "tail");
	uint32_t a = region_of(node, MIB), b = region_of(node, MIB), target = data.add.out_target_id;
	uint64_t end = tail.size / 4096 * 4096;
	struct io_uring ring;

	if (!tap(!ring_init(&ring, 8, 0), "a ring"))
		exit(tap_done());
	for (int i = 0; i < 5; i++)
		tap(read_ring(&ring, node, target, a, i * 65536, 0, 65536, 0) == 65536, "read %d by the ring", i);
	for (int i = 0; i < 3; i++)
		tap(read_ioctl(node, target, b, i * 4096, 0, 4096) == 4096, "read %d by the ioctl", i);
	tap(read_ioctl(node, tail.add.out_target_id, b, end, 0, 65536) == (int64_t)(tail.size - end), "a short read");
	tap(read_ioctl(node, target, b, 1, 0, 4096) == -EINVAL, "a read that is refused");
	tap(read_ioctl(node, target, 12345, 0, 0, 4096) == -ENOENT, "a read into no region");

	one = stat_of(node, a);
	two = stat_of(node, b);
	sum = stat_of(node, 0);
	tap_eq(one.out_reads, 5, "reads of the first region");
	tap_eq(one.out_bytes, 5 * 65536, "bytes of the first region");
	tap_eq(two.out_reads, 4, "reads of the second region");
	tap_eq(two.out_bytes, 3 * 4096 + tail.size - end, "bytes of the second region");
	tap_eq(two.out_short, 1, "short reads of the second region");
	tap_eq(two.out_refused, 1, "refused reads of the second region");
	tap_eq(one.out_refused + one.out_short + one.out_errors + two.out_errors, 0, "nothing else is counted");
	tap_eq(sum.out_reads, one.out_reads + two.out_reads, "the open's reads are those of its regions");
	tap_eq(sum.out_bytes, one.out_bytes + two.out_bytes, "the open's bytes, too");
	tap_eq(sum.out_refused, 2, "the open also counts what had no region");
	tap_eq(one.out_in_flight + two.out_in_flight + sum.out_in_flight, 0, "nothing is in flight");
	tap(!region_free(node, b, PENSTOCK_REGION_FREE_F_WAIT, NULL) && region_stat(node, b, &two) == -ENOENT,
	    "a region that is gone has no counters");
	tap_eq(stat_of(node, 0).out_reads, 9, "the open keeps them");

	tap_eq(value_of(TOTALS, "reads") - reads, 9, "reads in the totals");
	io_uring_queue_exit(&ring);
	close(node);
	tap_eq(value_of(TOTALS, "reads") - reads, 9, "reads in the totals after the open has closed");
	tap_eq(value_of(TOTALS, "bytes") - bytes, sum.out_bytes, "bytes in the totals");
	tap_eq(value_of(TOTALS, "refused") - refused, 2, "refused reads in the totals");
	close(data.fd);
	close(tail.fd);
}

/* Opens, reads once, closes, until it is killed. */
static void churn(void)
{
	for (;;) {
		int node = node_open();
		struct source data = source_of(node, "data");
		uint32_t region = region_of(node, 4096);

		if (read_ioctl(node, data.add.out_target_id, region, 0, 0, 4096) != 4096)
			_exit(1);
		close(node);
		close(data.fd);
	}
}

static void test_totals_grow(void)
{
	long long first = value_of(TOTALS, "reads"), last = first, looked = 0, back = 0;
	pid_t child[2];
	double end;

	for (int i = 0; i < 2; i++) {
		child[i] = fork();
		if (!child[i])
			churn();
	}
	for (end = now() + CHURN_SECONDS; now() < end; looked++) {
		long long got = value_of(TOTALS, "reads");

		back += got < last;
		last = got;
	}
	for (int i = 0; i < 2; i++) {
		tap(waitpid(child[i], NULL, WNOHANG) == 0, "child %d has read to the end", i);
		kill(child[i], SIGKILL);
		waitpid(child[i], NULL, 0);
	}
	printf("# looked %lld times at %lld reads\n", looked, last - first);
	tap(looked > 20 && last > first + 20, "there was something to see");
	tap_eq(back, 0, "totals never go back while opens close");
}

static void test_permissions(void)
{
	static const char * const paths[] = { TOTALS, OBJECTS };
	struct stat st;

	for (unsigned int i = 0; i < sizeof(paths) / sizeof(*paths); i++)
		tap(!stat(paths[i], &st) && (st.st_mode & 07777) == 0400 && !st.st_uid, "%s is for root to read", paths[i]);
}

/* ---- tracepoints ---- */

static char trace[TRACE_LEN];

/* A line of the trace has both words. */
static bool traced(const char *event, const char *what)
{
	char *line, *rest = NULL;
	static char copy[TRACE_LEN];

	memcpy(copy, trace, sizeof(copy));
	for (line = strtok_r(copy, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char *at = strstr(line, event);

		if (at && strstr(at, what))
			return true;
	}
	return false;
}

static void tap_traced(const char *event, const char *fmt, ...)
{
	char what[256];
	va_list args;

	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	tap(traced(event, what), "%s with \"%s\"", event, what);
}

static void test_peer_traced(int node)
{
	struct penstock_peer_enum peer;
	struct penstock_region_peer region;
	char addr[32];

	if (peer_first(node, &peer)) {
		tap_skip("tracepoints of peers", "no peer here");
		return;
	}
	snprintf(addr, sizeof(addr), "%04x:%02x:%02x.%u", peer.out_domain, peer.out_bus, peer.out_devfn >> 3,
		 peer.out_devfn & 7);
	tap(!region_bar(node, peer.out_peer_id, MIB, &region), "a region of the peer");
	tap(!put_file("/sys/bus/pci/drivers/penstock_peer/unbind", addr), "the peer goes away");
	tap(!put_file("/sys/bus/pci/drivers/penstock_peer/bind", addr), "the peer comes back");
	tap(!get_file(TRACING "trace", trace, sizeof(trace)), "the trace can be read");
	tap_traced("penstock_region_create:", "region=%u offset=0 len=1048576 segments=1 p2p=1", region.out_region_id);
	tap_traced("penstock_peer_remove:", "peer=%u provider=%u pci=%s", peer.out_peer_id, PENSTOCK_PEER_BAR, addr);
	tap_traced("penstock_revoke:", "len=1048576 peer=%u peer_offset=%llu reason=%u", peer.out_peer_id,
		   (unsigned long long)region.out_peer_offset, PENSTOCK_REASON_UNBOUND);
	tap_traced("penstock_region_kill:", "region=%u reason=%u", region.out_region_id, PENSTOCK_REASON_UNBOUND);
	tap_traced("penstock_peer_add:", "pci=%s", addr);
}

static void test_traced(void)
{
	static const char * const events[] = { "open", "target_add", "region_create", "region_kill", "region_retire",
		"read_submit", "read_resubmit", "read_complete", "peer_add", "peer_remove", "revoke" };
	struct source data;
	uint32_t region;
	char path[256];
	int node;

	if (put_file(TRACING "events/penstock/enable", "1")) {
		tap_skip("tracepoints", "this kernel has no tracing");
		return;
	}
	for (unsigned int i = 0; i < sizeof(events) / sizeof(*events); i++) {
		snprintf(path, sizeof(path), TRACING "events/penstock/penstock_%s/format", events[i]);
		tap(!access(path, R_OK), "there is a tracepoint penstock_%s", events[i]);
	}
	put_file(TRACING "trace", "");
	node = node_open();
	data = source_of(node, "data");
	region = region_of(node, MIB);
	tap(read_ioctl(node, data.add.out_target_id, region, 8192, 4096, 16384) == 16384, "a read");
	tap(read_ioctl(node, data.add.out_target_id, region, data.size, 0, 4096) == 0, "a read at the end of the file");
	tap(!region_free(node, region, PENSTOCK_REGION_FREE_F_WAIT, NULL), "the region is freed");
	tap(!get_file(TRACING "trace", trace, sizeof(trace)), "the trace can be read");

	tap_traced("penstock_open:", "open=");
	tap_traced("penstock_target_add:", "fd=%d target=%u reason=0 ", data.fd, data.add.out_target_id);
	tap_traced("penstock_region_create:", "region=%u offset=0 len=1048576 segments=", region);
	tap_traced("penstock_read_submit:", "target=%u region=%u offset=8192 region_offset=4096 length=16384",
		   data.add.out_target_id, region);
	tap_traced("penstock_read_complete:", "target=%u region=%u offset=8192 length=16384 result=16384",
		   data.add.out_target_id, region);
	tap_traced("penstock_read_complete:", "offset=%llu length=4096 result=0", (unsigned long long)data.size);
	tap_traced("penstock_region_kill:", "region=%u reason=0 active=1", region);
	tap_traced("penstock_region_retire:", "region=%u", region);
	test_peer_traced(node);
	put_file(TRACING "events/penstock/enable", "0");
	close(node);
	close(data.fd);
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: test_stats FOLDER\n");
		return 2;
	}
	folder = argv[1];
	test_permissions();
	test_counters();
	test_totals_grow();
	test_traced();
	return tap_done();
}
