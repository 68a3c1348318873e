// SPDX-License-Identifier: MIT
/*
 * Memory by device address: penstock_nv.ko over a module that stands in for
 * NVIDIA's (tests/fake/nvidia_p2p.c). Persistent pages and such that are taken
 * back: while reads are in flight, inside get_pages(), while they are put, after
 * they were; refusals; a device without struct pages.
 *
 * test_nv DRIVE PEER MODE: a raw drive; the device's PCI address; persistent,
 * callback or nopages. nv.sh loads the modules and sets the mode.
 */
#include <pthread.h>
#include "peer.h"

#define VA		0x700000000000ULL
#define FAKE		"/sys/module/nvidia_p2p/parameters/"
#define REVOKE		"/sys/kernel/debug/nvidia_p2p/revoke"
#define COUNTS		"/sys/kernel/debug/nvidia_p2p/counts"
#define LIMIT_FILE	"/sys/module/penstock/parameters/peer_limit_mib"
#define PIECE		65536ULL
#define READ_LEN	(256U << 10)
#define NR_READS	8

static const char *addr, *mode;
static int node;
static struct source raw;

struct counts {
	int gets, puts, callbacks, live;
};

static struct counts counts_get(void)
{
	struct counts c = { -1, -1, -1, -1 };
	char text[128];

	if (!get_file(COUNTS, text, sizeof(text)))
		sscanf(text, "%d %d %d %d", &c.gets, &c.puts, &c.callbacks, &c.live);
	return c;
}

/* Nothing is given away. Pages are put by a worker, which may come late. */
static bool all_put(void)
{
	double begin = now();
	struct counts c;

	do {
		c = counts_get();
		if (!c.live)
			return true;
		usleep(20000);
	} while (now() - begin < 20);
	printf("# %d gets, %d puts, %d callbacks, %d live\n", c.gets, c.puts, c.callbacks, c.live);
	return false;
}

static bool set(const char *name, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), FAKE "%s", name);
	return !put_file(path, value);
}

static int region_nv(int fd, uint64_t at, uint64_t len, struct penstock_region_peer *cmd)
{
	*cmd = (struct penstock_region_peer) { .size = sizeof(*cmd), .kind = PENSTOCK_PEER_NVIDIA, .addr = VA + at,
		.length = len, .fd = -1 };
	return node_ioctl(fd, PENSTOCK_IOC_REGION_PEER, cmd);
}

static bool refused(uint64_t at, uint64_t len, int want, uint32_t reason)
{
	struct penstock_region_peer cmd;
	int ret = region_nv(node, at, len, &cmd);

	if (ret != want || cmd.out_reason != reason)
		printf("# got %d, reason %u\n", ret, cmd.out_reason);
	return ret == want && cmd.out_reason == reason && !cmd.out_region_id;
}

static bool is_mode(const char *name)
{
	return !strcmp(mode, name);
}

/* ---- both modes ---- */

static void test_refused(void)
{
	struct penstock_region_peer cmd = { .size = sizeof(cmd), .kind = PENSTOCK_PEER_NVIDIA, .addr = VA,
		.length = PIECE, .fd = -1, .flags = PENSTOCK_REGION_PEER_F_MMAP };

	tap(refused(4096, PIECE, -EINVAL, 0), "an address that is not aligned");
	tap(refused(0, PIECE + 4096, -EINVAL, 0), "a length that is not aligned");
	tap(refused(1ULL << 40, PIECE, -EOPNOTSUPP, PENSTOCK_REASON_PROVIDER_REFUSED), "an address of nothing");
	tap(node_ioctl(node, PENSTOCK_IOC_REGION_PEER, &cmd) == -EOPNOTSUPP &&
	    cmd.out_reason == PENSTOCK_REASON_NOT_MAPPABLE, "it cannot be mapped");
	set("refuse", "95");
	tap(refused(0, PIECE, -EOPNOTSUPP, PENSTOCK_REASON_PROVIDER_REFUSED), "the owner refuses");
	set("refuse", "12");
	tap(refused(0, PIECE, -ENOMEM, PENSTOCK_REASON_PROVIDER_REFUSED), "the owner has no room");
	set("refuse", "0");
	set("version", "0x20000");
	tap(refused(0, PIECE, -EOPNOTSUPP, PENSTOCK_REASON_PROVIDER_REFUSED), "a table of another major version");
	set("version", "0x10001");
	tap(refused(0, PIECE, -EOPNOTSUPP, PENSTOCK_REASON_PROVIDER_REFUSED), "a table of an older version");
	set("version", "0x10003");
	tap(!region_nv(node, 0, PIECE, &cmd), "a table with more in it");
	region_free(node, cmd.out_region_id, 0, NULL);
	set("version", "0x10002");
	put_file(LIMIT_FILE, "1");
	tap(refused(0, 2 * MIB, -ENOSPC, 0), "more than a user may hold");
	put_file(LIMIT_FILE, "0");
	tap(all_put(), "what is refused is put");
}

/* The device by its address, as a provider's peer. */
static void test_enum(void)
{
	struct penstock_peer_enum peer;
	struct penstock_region_peer cmd;

	tap(!region_nv(node, 0, 2 * MIB, &cmd), "a region");
	tap(!peer_at(node, addr, &peer) && peer.out_provider == PENSTOCK_PEER_NVIDIA && peer.out_bar == 2 &&
	    peer.out_flags == (PENSTOCK_PEER_F_NEEDS_FLUSH | PENSTOCK_PEER_F_TEST) && !peer.out_reason &&
	    peer.out_len == 64 * MIB && peer.out_available == 62 * MIB, "its device is enumerated");
	tap(cmd.out_flags == peer.out_flags && cmd.out_mmap_offset == ~0ULL && cmd.out_peer_offset == ~0ULL &&
	    cmd.out_nr_segments == 1, "what is said of the region");
	tap(mmap(NULL, 4096, PROT_READ, MAP_SHARED, node, (off_t)cmd.out_region_id << 38) == MAP_FAILED &&
	    errno == EOPNOTSUPP, "no mapping");
	tap_eq(region_bar(node, peer.out_peer_id, 65536, &(struct penstock_region_peer) {}), -ENOENT,
	       "it is none to take a BAR's range from");
	region_free(node, cmd.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
	tap(!peer_at(node, addr, &peer) && peer.out_available == peer.out_len, "all is free");
	tap(all_put(), "all is put");
}

static void test_read(void)
{
	struct penstock_region_probe probe;
	struct penstock_region_peer cmd;
	struct io_uring ring;
	bool good = true;
	unsigned int i;

	ring_init(&ring, 8, 0);
	host_fill(0, 0, 16 * MIB, POISON);
	tap(!region_nv(node, 3 * MIB, 4 * MIB, &cmd), "a region to read into");
	tap(read_ring(&ring, node, raw.add.out_target_id, cmd.out_region_id, 7 * MIB, MIB, 2 * MIB, 0) == 2 * MIB &&
	    host_sees(0, 4 * MIB, 7 * MIB, 2 * MIB), "io_uring, 2 MiB");
	tap(read_ioctl(node, raw.add.out_target_id, cmd.out_region_id, 1 * MIB, 3 * MIB, 65536) == 65536 &&
	    host_sees(0, 6 * MIB, 1 * MIB, 65536), "ioctl, 64 KiB");
	tap(host_is(0, 0, 4 * MIB, POISON) && host_is(0, 6 * MIB + 65536, MIB, POISON), "nothing beside them");
	tap(!region_probe(node, cmd.out_region_id, raw.add.out_target_id, &probe) && probe.out_allowed &&
	    probe.out_map_type == PENSTOCK_MAP_BUS_ADDRESS && probe.out_distance == 4, "the probe knows the way");
	region_free(node, cmd.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);

	set("scatter", "Y");
	tap(!region_nv(node, 8 * MIB, 8 * PIECE, &cmd) && cmd.out_nr_segments == 8, "pieces in reverse order");
	good = read_ring(&ring, node, raw.add.out_target_id, cmd.out_region_id, 0, 0, 8 * PIECE, 0) == 8 * PIECE;
	for (i = 0; i < 8; i++)
		good &= host_sees(0, 8 * MIB + (7 - i) * PIECE, i * PIECE, PIECE);
	tap(good, "each gets its part");
	region_free(node, cmd.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
	set("scatter", "N");
	io_uring_queue_exit(&ring);
	tap(all_put(), "all is put after reads");
}

/* The owner's driver is unbound: it must not wait for us for ever. */
static void test_unbind(void)
{
	struct penstock_region_peer cmd;
	struct penstock_event event = {};
	struct penstock_peer_enum peer;
	double begin;

	tap(!region_nv(node, 0, MIB, &cmd), "a region");
	begin = now();
	tap_eq(dev_put(addr, "driver/unbind", addr), 0, "its device is unbound");
	tap(now() - begin < 10, "at once");
	tap(event_wait(node, PENSTOCK_EVENT_REVOKED, cmd.out_region_id, &event) &&
	    event.reason == PENSTOCK_REASON_UNBOUND, "the region is revoked");
	tap(counts_get().live == 0, "its pages were put before");
	tap_eq(peer_at(node, addr, &peer), -ENOENT, "the device is no peer any more");
	tap(refused(0, PIECE, -EOPNOTSUPP, PENSTOCK_REASON_PROVIDER_REFUSED), "no region meanwhile");
	region_free(node, cmd.out_region_id, 0, NULL);
	put_file("/sys/bus/pci/drivers_probe", addr);
	tap(!region_nv(node, 0, MIB, &cmd), "bound again it has memory again");
	region_free(node, cmd.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
}

/* The provider goes while it has memory. */
static void test_unload(void)
{
	struct penstock_region_peer cmd;
	struct penstock_event event = {};
	const char *load = is_mode("callback") ? "insmod /modules/ours/penstock_nv.ko callback=1" :
		"insmod /modules/ours/penstock_nv.ko";

	tap(!region_nv(node, 0, MIB, &cmd), "a region");
	tap_eq(system("rmmod penstock_nv"), 0, "the provider is unloaded");
	tap(event_wait(node, PENSTOCK_EVENT_REVOKED, cmd.out_region_id, &event) &&
	    event.reason == PENSTOCK_REASON_UNBOUND, "the region is revoked");
	tap(counts_get().live == 0, "its pages are put");
	tap(read_ioctl(node, raw.add.out_target_id, cmd.out_region_id, 0, 0, 4096) == -ENODEV, "no read any more");
	region_free(node, cmd.out_region_id, 0, NULL);
	tap(refused(0, PIECE, -EOPNOTSUPP, PENSTOCK_REASON_NO_PROVIDER), "no provider");
	tap_eq(system(load), 0, "loaded again");
}

/* ---- reads in flight ---- */

struct flight {
	struct io_uring ring;
	uint32_t region;
};

/* Reads that are in flight for seconds. The drive is throttled; the limit holds from the second request on. */
static bool flight_start(struct flight *f, uint32_t region)
{
	struct penstock_region_stat stat;
	unsigned int i;

	f->region = region;
	ring_init(&f->ring, NR_READS, 0);
	for (i = 0; i < NR_READS; i++)
		ring_read(&f->ring, node, raw.add.out_target_id, region, i * READ_LEN, i * READ_LEN, READ_LEN, i);
	io_uring_submit(&f->ring);
	return !region_stat(node, region, &stat) && stat.out_in_flight > 0;
}

static unsigned int flight_good(struct flight *f)
{
	struct io_uring_cqe cqe;
	unsigned int i, good = 0;

	for (i = 0; i < NR_READS && !ring_reap(&f->ring, 30, &cqe); i++)
		good += cqe.res == READ_LEN;
	io_uring_queue_exit(&f->ring);
	return good;
}

static void throttle(const char *bps)
{
	char cmd[64];
	ssize_t n;
	void *buf;

	snprintf(cmd, sizeof(cmd), "host throttle raw %s", bps);
	if (system(cmd) || posix_memalign(&buf, 4096, READ_LEN))
		return;
	n = pread(raw.fd, buf, READ_LEN, 0);
	free(buf);
	(void)n;
}

static void test_revoke_in_flight(void)
{
	struct penstock_region_stat stat = { .out_in_flight = 1 };
	struct penstock_event event = {};
	struct penstock_region_peer cmd;
	struct flight f;
	double begin;

	tap(!region_nv(node, 0, NR_READS * READ_LEN, &cmd), "a region");
	throttle("2M");
	tap(flight_start(&f, cmd.out_region_id), "reads are in flight");
	begin = now();
	tap_eq(put_file(REVOKE, "1"), 0, "it is taken back meanwhile");
	printf("# that took %.2f s\n", now() - begin);
	/* The owner uses the memory now: nothing may be written by us. */
	host_fill(0, 0, NR_READS * READ_LEN, 0x66);
	region_stat(node, cmd.out_region_id, &stat);
	tap(!stat.out_in_flight && now() - begin > 0.1, "the callback waited for the reads");
	tap(event_wait(node, PENSTOCK_EVENT_REVOKED, cmd.out_region_id, &event) &&
	    event.reason == PENSTOCK_REASON_PROVIDER_FREED, "there is an event");
	tap_eq(flight_good(&f), NR_READS, "the reads had ended well");
	throttle("0");
	tap(host_is(0, 0, NR_READS * READ_LEN, 0x66), "nothing was written afterwards");
	tap(read_ioctl(node, raw.add.out_target_id, cmd.out_region_id, 0, 0, 4096) == -ENODEV, "no read any more");
	tap_eq(region_free(node, cmd.out_region_id, 0, NULL), 0, "freed");
	tap(all_put() && counts_get().puts == counts_get().gets - counts_get().callbacks,
	    "taken back or put, each once");
}

/* A read by the ioctl, in a thread of its own. */
struct slow_read {
	uint32_t region;
	int64_t ret;
};

static void *slow_read_run(void *arg)
{
	struct slow_read *read = arg;

	read->ret = read_ioctl(node, raw.add.out_target_id, read->region, 0, 0, NR_READS * READ_LEN);
	return NULL;
}

static bool becomes_busy(uint32_t region)
{
	struct penstock_region_stat stat;

	for (double begin = now(); now() - begin < 10; usleep(1000))
		if (!region_stat(node, region, &stat) && stat.out_in_flight)
			return true;
	return false;
}

static void test_revoke_under_ioctl(void)
{
	struct penstock_region_stat stat = { .out_in_flight = 1 };
	struct penstock_event event = {};
	struct penstock_region_peer cmd;
	struct slow_read read = {};
	pthread_t thread;
	double begin;

	tap(!region_nv(node, 0, NR_READS * READ_LEN, &cmd), "a region for the ioctl");
	throttle("1M");
	read.region = cmd.out_region_id;
	pthread_create(&thread, NULL, slow_read_run, &read);
	tap(becomes_busy(cmd.out_region_id), "REGION_READ is in flight");
	begin = now();
	tap_eq(put_file(REVOKE, "1"), 0, "its memory is taken back meanwhile");
	printf("# that took %.2f s\n", now() - begin);
	host_fill(0, 0, NR_READS * READ_LEN, 0x66);
	region_stat(node, cmd.out_region_id, &stat);
	tap(!stat.out_in_flight && now() - begin > 0.1, "the callback waited for REGION_READ");
	pthread_join(thread, NULL);
	tap_eq(read.ret, NR_READS * READ_LEN, "REGION_READ had ended well");
	throttle("0");
	tap(host_is(0, 0, NR_READS * READ_LEN, 0x66), "and wrote nothing afterwards");
	tap(event_wait(node, PENSTOCK_EVENT_REVOKED, cmd.out_region_id, &event) &&
	    event.reason == PENSTOCK_REASON_PROVIDER_FREED, "there is an event of it");
	tap_eq(read_ioctl(node, raw.add.out_target_id, cmd.out_region_id, 0, 0, 4096), -ENODEV, "the next one is refused");
	region_free(node, cmd.out_region_id, 0, NULL);
	tap(all_put(), "nothing is left of it");
}

static void test_revoke_in_get(void)
{
	struct penstock_region_peer cmd;

	set("revoke_in_get", "Y");
	tap(refused(0, PIECE, -ENODEV, PENSTOCK_REASON_PROVIDER_FREED), "taken back inside get_pages()");
	tap(refused(0, 4 * MIB, -ENODEV, PENSTOCK_REASON_PROVIDER_FREED), "and more of it");
	set("revoke_in_get", "N");
	tap(!region_nv(node, 0, PIECE, &cmd) && !region_free(node, cmd.out_region_id, 0, NULL), "the next one stays");
	tap(all_put(), "all is put");
}

/* ---- at the same time ---- */

static void *revoke_thread(void *arg)
{
	put_file(REVOKE, arg);
	return NULL;
}

static void test_revoke_at_close(void)
{
	unsigned int i, k;
	bool good = true;

	for (i = 0; i < 100 && good; i++) {
		struct penstock_region_peer cmd;
		pthread_t thread;
		int own = node_open();

		for (k = 0; k < 4; k++)
			good &= !region_nv(own, k * MIB, MIB, &cmd);
		pthread_create(&thread, NULL, revoke_thread, "1");
		usleep(i % 10 * 50);
		if (i % 2)
			region_free(own, cmd.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
		close(own);
		pthread_join(thread, NULL);
	}
	tap(good, "taken back while the node is closed, 100 times");
	tap(all_put(), "all is put");
}

/*
 * More regions than workers can be: if those that put pages kept the callback's
 * own work from running, nothing would go on.
 */
static void test_revoke_many(void)
{
	struct penstock_region_peer cmd;
	int own = node_open();
	pthread_t thread;
	unsigned int i;
	bool good = true;

	/* A workqueue runs at most 512 at a time, or 2048. The owner does not mind that they lie over each other. */
	for (i = 0; i < 2500 && good; i++)
		good = !region_nv(own, i % 1000 * PIECE, PIECE, &cmd);
	tap(good, "2500 regions");
	/* All are freed while the owner holds his lock, for as long as so many workers need to be made; then he calls. */
	set("revoke_delay_ms", "4000");
	pthread_create(&thread, NULL, revoke_thread, "3");
	usleep(100000);
	close(own);
	pthread_join(thread, NULL);
	set("revoke_delay_ms", "500");
	tap(all_put(), "taken back while all of them are freed");
}

/* The owner has unlinked the pages and calls back later; by then they are put, and others are there. */
static void test_revoke_late(void)
{
	struct penstock_region_peer cmd, next;
	pthread_t thread;

	tap(!region_nv(node, 0, MIB, &cmd), "a region");
	pthread_create(&thread, NULL, revoke_thread, "2");
	usleep(200000);
	tap_eq(region_free(node, cmd.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL), 0,
	       "freed after the owner took it back, before he said so");
	tap(!region_nv(node, 0, MIB, &next), "another one");
	pthread_join(thread, NULL);
	tap(read_ioctl(node, raw.add.out_target_id, next.out_region_id, 0, 0, 65536) == 65536,
	    "the late callback is not for that one");
	region_free(node, next.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
	tap(all_put(), "all is put");
}

/* ---- persistent pages, no pages ---- */

static void test_persistent(void)
{
	struct counts before = counts_get(), after;
	struct penstock_region_peer cmd;
	struct flight f;

	tap(!region_nv(node, 0, NR_READS * READ_LEN, &cmd), "a region");
	put_file(REVOKE, "1");
	after = counts_get();
	tap(after.callbacks == before.callbacks && after.live == 1, "it is not taken back");
	throttle("2M");
	tap(flight_start(&f, cmd.out_region_id), "reads are in flight");
	tap_eq(dev_put(addr, "driver/unbind", addr), 0, "the device is unbound meanwhile");
	tap(counts_get().live == 0, "its pages are put");
	tap_eq(flight_good(&f), NR_READS, "after the reads had ended");
	throttle("0");
	region_free(node, cmd.out_region_id, 0, NULL);
	put_file("/sys/bus/pci/drivers_probe", addr);
}

static void test_no_pages(void)
{
	struct counts before = counts_get(), after;
	struct penstock_peer_enum peer;

	tap(refused(0, PIECE, -EOPNOTSUPP, PENSTOCK_REASON_WRITE_COMBINED), "no struct pages");
	tap(refused(4 * MIB, 8 * MIB, -EOPNOTSUPP, PENSTOCK_REASON_WRITE_COMBINED), "anywhere");
	after = counts_get();
	tap(after.gets == before.gets + 2 && !after.live, "what was given is put");
	tap_eq(peer_at(node, addr, &peer), -ENOENT, "the device is no peer");
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: %s DRIVE PEER persistent|callback|nopages\n", argv[0]);
		return 2;
	}
	addr = argv[2];
	mode = argv[3];
	node = node_open();
	if (node < 0 || source_open(node, "raw", argv[1], &raw)) {
		printf("# %s, %s: %s\n", NODE, argv[1], strerror(errno));
		return 1;
	}
	fcntl(raw.fd, F_SETFL, fcntl(raw.fd, F_GETFL) | O_DIRECT);
	if (is_mode("nopages")) {
		test_no_pages();
		return tap_done();
	}
	test_refused();
	test_enum();
	test_read();
	if (is_mode("callback")) {
		test_revoke_in_flight();
		test_revoke_under_ioctl();
		test_revoke_in_get();
		test_revoke_at_close();
		test_revoke_many();
		test_revoke_late();
	} else {
		test_persistent();
	}
	test_unbind();
	test_unload();
	return tap_done();
}
