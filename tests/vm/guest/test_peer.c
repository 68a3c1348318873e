// SPDX-License-Identifier: MIT
/*
 * Peer memory: what is enumerated, regions of all lengths to the BAR's end,
 * what a user may hold, ranges cleared for each owner, reads by both routes as
 * the guest and the host see them, what is refused, the probe's verdict.
 *
 * test_peer DRIVE PEER VERDICT: a raw drive; the peer's PCI address; what the
 * lane's topology is: bus, bridge, none, or liar (bus addresses, wrong data). Or
 * why its kernel has no peers: off (no P2PDMA), old; or why the peer is of no use: nopages.
 */
#include "peer.h"

#define LIMIT_FILE	"/sys/module/penstock/parameters/peer_limit_mib"
#define USER		1000

static const char *drive, *addr, *verdict;
static int node;
static struct source raw;
static struct penstock_peer_enum peer;

/* Are data read into the peer by the drive where they should be? */
static bool data_arrive(void)
{
	return !strcmp(verdict, "bus") || !strcmp(verdict, "bridge");
}

/* ---- PEER_ENUM, INFO ---- */

static void test_enum(void)
{
	struct penstock_peer_enum last;
	struct penstock_info info;
	uint32_t nr = 0, before = 0;
	bool rising = true;
	int ret;

	tap_eq(info_get(node, &info), 0, "INFO");
	tap(info.out_features & PENSTOCK_FEATURE_PEER && !info.out_peer_reason, "peers are possible");
	tap_eq(peer_at(node, addr, &peer), 0, "the peer is enumerated");
	tap_eq(peer.out_provider, PENSTOCK_PEER_BAR, "provider");
	tap_eq(peer.out_flags, PENSTOCK_PEER_F_TEST | PENSTOCK_PEER_F_MAPPABLE, "flags");
	tap_eq(peer.out_bar, 2, "its largest BAR is taken");
	tap_eq(peer.out_vendor, dev_number(addr, "vendor"), "vendor");
	tap_eq(peer.out_device, dev_number(addr, "device"), "device");
	tap_eq(peer.out_numa_node, dev_number(addr, "numa_node"), "NUMA node");
	tap_eq(peer.out_len, dev_number(addr, "p2pmem/size"), "length");
	tap_eq(peer.out_available, peer.out_len, "all of it is free");
	tap_eq(dev_number(addr, "p2pmem/published"), 0, "it is not offered to other drivers");

	last = (struct penstock_peer_enum) { .size = sizeof(last) };
	while (!(ret = node_ioctl(node, PENSTOCK_IOC_PEER_ENUM, &last))) {
		rising &= last.out_peer_id > before;
		before = last.after_peer_id = last.out_peer_id;
		nr++;
	}
	tap_eq(ret, -ENOENT, "behind the last peer");
	tap(rising && nr == info.out_nr_peers, "ids rise, and their number is INFO's");
	last.__reserved = 1;
	tap_eq(node_ioctl(node, PENSTOCK_IOC_PEER_ENUM, &last), -EOPNOTSUPP, "a reserved field that is not zero");
}

/* ---- what is refused ---- */

static void test_wrong(void)
{
	static const struct {
		const char *name;
		struct penstock_region_peer cmd;
		int ret;
		uint32_t reason;
	} wrong[] = {
		{ "no such kind", { .kind = 99, .length = 4096, .fd = -1 }, -EINVAL, 0 },
		{ "no length", { .kind = PENSTOCK_PEER_BAR, .fd = -1 }, -EINVAL, 0 },
		{ "length not of pages", { .kind = PENSTOCK_PEER_BAR, .length = 5000, .fd = -1 }, -EINVAL, 0 },
		{ "length above all", { .kind = PENSTOCK_PEER_BAR, .length = 1ULL << 60, .fd = -1 }, -EINVAL, 0 },
		{ "longer than the BAR", { .kind = PENSTOCK_PEER_BAR, .length = 1ULL << 36, .fd = -1 }, -ENOSPC, 0 },
		{ "unknown flag", { .kind = PENSTOCK_PEER_BAR, .length = 4096, .fd = -1, .flags = 2 }, -EOPNOTSUPP, 0 },
		{ "reserved field", { .kind = PENSTOCK_PEER_BAR, .length = 4096, .fd = -1, .__reserved = 1 },
		  -EOPNOTSUPP, 0 },
		{ "address for a BAR", { .kind = PENSTOCK_PEER_BAR, .length = 4096, .fd = -1, .addr = 65536 },
		  -EINVAL, 0 },
		{ "offset for a BAR", { .kind = PENSTOCK_PEER_BAR, .length = 4096, .fd = -1, .offset = 4096 },
		  -EINVAL, 0 },
		{ "descriptor for a BAR", { .kind = PENSTOCK_PEER_BAR, .length = 4096, .fd = 0 }, -EINVAL, 0 },
		{ "no NVIDIA provider", { .kind = PENSTOCK_PEER_NVIDIA, .length = 65536, .addr = 65536, .fd = -1 },
		  -EOPNOTSUPP, PENSTOCK_REASON_NO_PROVIDER },
		{ "NVIDIA address that wraps",
		  { .kind = PENSTOCK_PEER_NVIDIA, .length = 131072, .addr = -65536ULL, .fd = -1 }, -EOVERFLOW, 0 },
		{ "dma-buf that is none", { .kind = PENSTOCK_PEER_DMABUF, .length = 4096, .fd = -1 }, -EBADF, 0 },
		{ "dma-buf offset that wraps",
		  { .kind = PENSTOCK_PEER_DMABUF, .length = 8192, .offset = -4096ULL, .fd = -1 }, -EOVERFLOW, 0 },
	};
	unsigned int i;

	for (i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		struct penstock_region_peer cmd = wrong[i].cmd;
		int ret;

		cmd.size = sizeof(cmd);
		if (cmd.kind == PENSTOCK_PEER_BAR)
			cmd.peer_id = peer.out_peer_id;
		ret = node_ioctl(node, PENSTOCK_IOC_REGION_PEER, &cmd);
		if (ret != wrong[i].ret || cmd.out_reason != wrong[i].reason)
			printf("# got %d, reason %u\n", ret, cmd.out_reason);
		tap(ret == wrong[i].ret && cmd.out_reason == wrong[i].reason && !cmd.out_region_id, "refused: %s",
		    wrong[i].name);
	}
	tap_eq(region_bar(node, peer.out_peer_id + 1000, 4096, &(struct penstock_region_peer) {}), -ENOENT,
	       "refused: no such peer");
	tap(peer_is_whole(node, addr), "what is refused takes nothing");
}

/* ---- ranges ---- */

static void test_lengths(void)
{
	const uint64_t lengths[] = { 4096, 3 * 4096, 65536, 2 * MIB, 2 * MIB + 4096, 5 * MIB, peer.out_len / 2,
		peer.out_len };
	struct penstock_region_peer cmd;
	unsigned int i;

	for (i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		bool good = !region_bar(node, peer.out_peer_id, lengths[i], &cmd) && cmd.out_region_id &&
			    cmd.out_nr_segments == 1 && cmd.out_flags == peer.out_flags &&
			    cmd.out_peer_offset + lengths[i] <= peer.out_len &&
			    peer_available(node, addr) == peer.out_len - lengths[i];

		good = !region_free(node, cmd.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL) && good;
		tap(good && peer_available(node, addr) == peer.out_len, "a region of %llu KiB",
		    (unsigned long long)lengths[i] >> 10);
	}
}

static void test_to_the_end(void)
{
	uint32_t nr = 0, want = peer.out_len / MIB, *ids = calloc(want, sizeof(*ids));
	bool *seen = calloc(want, sizeof(*seen)), good = true;
	struct penstock_region_peer cmd;
	int ret;

	while (!(ret = region_bar(node, peer.out_peer_id, MIB, &cmd)) && nr < want) {
		uint64_t at = cmd.out_peer_offset / MIB;

		good &= at < want && !seen[at] && cmd.out_peer_offset % MIB == 0;
		if (at < want)
			seen[at] = true;
		ids[nr++] = cmd.out_region_id;
	}
	tap(good && nr == want && ret == -ENOSPC, "regions to the BAR's end, none over another");
	tap_eq(peer_available(node, addr), 0, "nothing is free then");
	tap_eq(region_bar(node, peer.out_peer_id, 4096, &cmd), -ENOSPC, "no page more");
	/* A hole of one region: no longer one fits. */
	region_free(node, ids[nr / 2], PENSTOCK_REGION_FREE_F_WAIT, NULL);
	ids[nr / 2] = 0;
	tap_eq(region_bar(node, peer.out_peer_id, 2 * MIB, &cmd), -ENOSPC, "a hole is no longer than it is");
	tap_eq(region_bar(node, peer.out_peer_id, MIB, &cmd), 0, "and is filled");
	region_free(node, cmd.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
	while (nr)
		if (ids[--nr])
			region_free(node, ids[nr], 0, NULL);
	tap(peer_is_whole(node, addr), "all of it is free again");
	free(ids);
	free(seen);
}

/* A child's report is its exit status: the line that went wrong, or 0. */
#define NEED(expr) do { if (!(expr)) _exit(__LINE__ & 0xff); } while (0)

/* With another user id. */
static void cap_child(void)
{
	struct penstock_region_peer cmd, second;
	struct penstock_info info;
	int mine = node_open();

	NEED(mine >= 0 && !setgid(USER) && !setuid(USER));
	NEED(!info_get(mine, &info) && info.out_peer_limit == 4 * MIB && !info.out_peer_used);
	NEED(!region_bar(mine, peer.out_peer_id, 3 * MIB, &cmd));
	NEED(region_bar(mine, peer.out_peer_id, MIB + 4096, &second) == -ENOSPC);
	NEED(!region_bar(mine, peer.out_peer_id, MIB, &second));
	NEED(region_bar(mine, peer.out_peer_id, 4096, &(struct penstock_region_peer) {}) == -ENOSPC);
	NEED(!info_get(mine, &info) && info.out_peer_used == 4 * MIB);
	NEED(!region_free(mine, second.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL));
	NEED(!info_get(mine, &info) && info.out_peer_used == 3 * MIB);
	/* The node of another open, which is the same user's. */
	NEED(region_bar(node, peer.out_peer_id, 2 * MIB, &second) == -ENOSPC);
	_exit(0);
}

static void test_cap(void)
{
	struct penstock_region_peer cmd;
	struct penstock_info info;
	int status;
	pid_t pid;

	tap_eq(put_file(LIMIT_FILE, "4"), 0, "a limit for each user");
	pid = fork();
	if (!pid)
		cap_child();
	waitpid(pid, &status, 0);
	tap_eq(WEXITSTATUS(status), 0, "a user has no more than the limit, over all opens");
	tap_eq(region_bar(node, peer.out_peer_id, 4 * MIB, &cmd), 0, "another user has a limit of his own");
	put_file(LIMIT_FILE, "0");
	tap(!info_get(node, &info) && info.out_peer_used == 4 * MIB && info.out_peer_limit > 1ULL << 60,
	    "INFO says what is held, and that there is no limit");
	region_free(node, cmd.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
	tap(!info_get(node, &info) && !info.out_peer_used, "and that nothing is held any more");
	tap(peer_is_whole(node, addr), "what the other process had is free");
}

/* ---- cleared ---- */

static void test_cleared(void)
{
	struct penstock_region_peer cmd;
	struct dest d = { .len = peer.out_len };
	int status;
	pid_t pid = fork();

	if (!pid) {
		int mine = node_open();
		struct dest theirs = { .len = peer.out_len };

		NEED(mine >= 0 && !region_bar(mine, peer.out_peer_id, theirs.len, &cmd));
		NEED(!dest_map(mine, &theirs, cmd.out_mmap_offset));
		memset(theirs.map, 0xa5, theirs.len);
		NEED(theirs.map[theirs.len - 1] == 0xa5);
		/* No word of good-bye. */
		kill(getpid(), SIGKILL);
	}
	waitpid(pid, &status, 0);
	tap(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "a process writes all over the BAR and dies");
	peer_is_whole(node, addr);
	tap(host_is(0, 0, peer.out_len, 0xa5), "the host sees that");
	tap_eq(region_bar(node, peer.out_peer_id, peer.out_len, &cmd), 0, "another process gets that range");
	tap(host_is(0, 0, peer.out_len, 0), "the host sees that it is cleared");
	tap(!dest_map(node, &d, cmd.out_mmap_offset) && first_not(d.map, 0, d.len) < 0, "and so does the process");
	munmap(d.map, d.len);
	region_free(node, cmd.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
	host_fill(0, 0, peer.out_len, 0x77);
}

/* ---- reads ---- */

/* One read into the region; its bytes as the guest and as the host see them, POISON around them. */
static bool read_arrives(struct dest *d, uint64_t peer_offset, int64_t ret, uint64_t at, uint64_t offset, uint64_t len)
{
	if (!strcmp(verdict, "none")) {
		tap_eq(ret, -EREMOTEIO, "the read is refused");
		return first_not(d->map, POISON, d->len) < 0;
	}
	if (ret != (int64_t)len) {
		printf("# result %lld\n", (long long)ret);
		return false;
	}
	/* The liar says that all is well, and nothing has come: that is what the canary is for. */
	if (!data_arrive())
		return first_not(d->map, POISON, d->len) < 0;
	return dest_holds(d, &raw, at, offset, len) && host_sees(0, peer_offset + at, offset, len);
}

static void test_reads(void)
{
	struct dest d = { .name = "BAR", .len = 6 * MIB };
	struct penstock_region_peer cmd, before;
	struct io_uring ring;
	int64_t ret;

	/* Not at the BAR's start: offsets count. */
	tap_eq(region_bar(node, peer.out_peer_id, 3 * MIB, &before), 0, "a region before");
	tap_eq(region_bar(node, peer.out_peer_id, d.len, &cmd), 0, "a region to read into");
	d.id = cmd.out_region_id;
	if (!tap_eq(dest_map(node, &d, cmd.out_mmap_offset), 0, "it can be mapped"))
		return;
	ring_init(&ring, 8, 0);
	memset(d.map, POISON, d.len);

	ret = read_ring(&ring, node, raw.add.out_target_id, d.id, 12 * MIB, MIB, 4 * MIB, 0);
	tap(read_arrives(&d, cmd.out_peer_offset, ret, MIB, 12 * MIB, 4 * MIB), "io_uring, 4 MiB");
	memset(d.map, POISON, d.len);
	ret = read_ioctl(node, raw.add.out_target_id, d.id, 5 * MIB, 65536, 65536);
	tap(read_arrives(&d, cmd.out_peer_offset, ret, 65536, 5 * MIB, 65536), "ioctl, 64 KiB");
	memset(d.map, POISON, d.len);
	ret = pread(raw.fd, d.map + 2 * MIB, MIB, 9 * MIB);
	if (ret < 0)
		ret = -errno;
	tap(read_arrives(&d, cmd.out_peer_offset, ret, 2 * MIB, 9 * MIB, MIB), "O_DIRECT into the mapping, 1 MiB");
	tap_eq(read_ioctl(node, raw.add.out_target_id, d.id, 0, d.len - 4096, 8192), -EINVAL, "not beyond the region");

	io_uring_queue_exit(&ring);
	munmap(d.map, d.len);
	region_free(node, cmd.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
	region_free(node, before.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
	tap(peer_is_whole(node, addr), "the pool has all back after reads");
}

/* ---- mappings ---- */

static void test_mapped(void)
{
	struct penstock_region_peer cmd = { .size = sizeof(cmd), .kind = PENSTOCK_PEER_BAR, .length = MIB,
		.peer_id = peer.out_peer_id, .fd = -1, .flags = PENSTOCK_REGION_PEER_F_MMAP };
	struct penstock_region_pin pin = { .size = sizeof(pin), .flags = PENSTOCK_PIN_F_READ, .length = MIB };
	struct dest d = { .len = MIB };
	struct penstock_info info;
	struct io_uring ring;
	struct iovec iov;

	tap_eq(node_ioctl(node, PENSTOCK_IOC_REGION_PEER, &cmd), 0, "a region that has to be mappable");
	tap(!info_get(node, &info) && info.out_features & PENSTOCK_FEATURE_PEER_MMAP &&
	    (info.out_p2p_page_model == PENSTOCK_P2P_PAGE_MODEL_ONE ||
	     info.out_p2p_page_model == PENSTOCK_P2P_PAGE_MODEL_ZERO), "the model of its pages is known");
	if (!tap_eq(dest_map(node, &d, cmd.out_mmap_offset), 0, "it is mapped"))
		return;
	d.map[0] = 1;

	iov = (struct iovec) { d.map, MIB };
	io_uring_queue_init(4, &ring, 0);
	tap_eq(io_uring_register_buffers(&ring, &iov, 1), -EREMOTEIO, "not as a registered buffer");
	io_uring_queue_exit(&ring);
	pin.addr = (uintptr_t)d.map;
	tap_eq(node_ioctl(node, PENSTOCK_IOC_REGION_PIN, &pin), -EREMOTEIO, "not as pinned memory");

	tap_eq(region_free(node, cmd.out_region_id, 0, NULL), 0, "freed while it is mapped");
	tap(touch_is_sigbus(d.map), "the mapping gives SIGBUS");
	tap(peer_is_whole(node, addr), "the range is free though the mapping is there");
	tap_eq(mmap(NULL, 4096, PROT_READ, MAP_SHARED, node, cmd.out_mmap_offset) == MAP_FAILED ? -errno : 0, -ENOENT,
	       "no new mapping of it");
	munmap(d.map, d.len);
}

/* ---- a late transfer ---- */

static int drive_inflight(const char *path)
{
	char name[128], text[64];

	snprintf(name, sizeof(name), "/sys/block/%s/inflight", strrchr(path, '/') + 1);
	return get_file(name, text, sizeof(text)) ? -1 : atoi(text);
}

/* Has the drive write into a mapping for two seconds, and dies meanwhile. */
static void late_child(const char *path)
{
	struct penstock_region_peer cmd;
	struct dest d = { .len = peer.out_len };
	struct io_uring ring;
	unsigned int i;
	int mine = node_open();

	NEED(mine >= 0 && !region_bar(mine, peer.out_peer_id, d.len, &cmd) && !dest_map(mine, &d, cmd.out_mmap_offset));
	NEED(!io_uring_queue_init(8, &ring, 0));
	for (i = 0; i < 8; i++)
		io_uring_prep_read(io_uring_get_sqe(&ring), raw.fd, d.map + i * 262144, 262144, i * 262144);
	NEED(io_uring_submit(&ring) == 8);
	/* a worker may be the one that hands them to the drive */
	for (i = 0; i < 500 && drive_inflight(path) <= 0; i++)
		usleep(1000);
	NEED(i < 500);
	kill(getpid(), SIGKILL);
}

/* The limit holds from the second request on. */
static void late_prime(void)
{
	void *buf;

	if (posix_memalign(&buf, 4096, 262144))
		return;
	if (pread(raw.fd, buf, 262144, 0) < 0)
		printf("# %s\n", strerror(errno));
	free(buf);
}

static void test_late(const char *path)
{
	struct penstock_region_peer cmd = {};
	struct dest d = { .len = peer.out_len };
	double begin;
	int status;
	pid_t pid;

	if (!data_arrive())
		return;
	tap_eq(system("host throttle raw 1M"), 0, "the drive is throttled");
	late_prime();
	pid = fork();
	if (!pid)
		late_child(path);
	waitpid(pid, &status, 0);
	tap(WIFSIGNALED(status), "reads into the peer are in flight when a process dies");
	tap(drive_inflight(path) > 0, "and the drive still writes for it");
	begin = now();
	while (region_bar(node, peer.out_peer_id, d.len, &cmd) && now() - begin < 30)
		usleep(1000);
	printf("# its range was free after %.2f s\n", now() - begin);
	tap(cmd.out_region_id && !dest_map(node, &d, cmd.out_mmap_offset), "another gets the range");
	/* What is still on its way would come within that time. */
	sleep(3);
	tap(first_not(d.map, 0, d.len) < 0, "nothing is written into it any more");
	tap_eq(system("host throttle raw 0"), 0, "the drive is fast again");
	munmap(d.map, d.len);
	region_free(node, cmd.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
}

/* ---- the probe ---- */

/* A device without a drive of its own. */
static void test_probe_loop(uint32_t region)
{
	struct penstock_region_probe probe;
	struct penstock_target_add add;
	char cmd[96];
	int fd;

	snprintf(cmd, sizeof(cmd), "losetup /dev/loop0 %s", drive);
	tap_eq(system(cmd), 0, "a loop device over the drive");
	fd = open("/dev/loop0", O_RDONLY);
	tap(!target_add(node, fd, &add) && add.out_peer_reason == PENSTOCK_REASON_BDEV_NO_P2P, "is a target");
	tap(!region_probe(node, region, add.out_target_id, &probe) && !probe.out_allowed &&
	    probe.out_map_type == PENSTOCK_MAP_NONE && probe.out_reason == PENSTOCK_REASON_BDEV_NO_P2P,
	    "the probe has the same reason");
	node_ioctl(node, PENSTOCK_IOC_TARGET_DEL,
		   &(struct penstock_target_del) { .size = sizeof(struct penstock_target_del),
						   .target_id = add.out_target_id });
	close(fd);
	tap_eq(system("losetup -d /dev/loop0"), 0, "and goes");
}

static void test_probe(void)
{
	static const struct {
		const char *verdict;
		uint32_t type, allowed, reason;
		bool near;	/* below one switch */
	} wants[] = {
		{ "bus", PENSTOCK_MAP_BUS_ADDRESS, 1, 0, true },
		{ "liar", PENSTOCK_MAP_BUS_ADDRESS, 1, 0, true },
		{ "bridge", PENSTOCK_MAP_HOST_BRIDGE, 1, 0, false },
		{ "none", PENSTOCK_MAP_NONE, 0, PENSTOCK_REASON_UNREACHABLE, false },
	}, *want = wants;
	struct penstock_region_alloc alloc;
	struct penstock_region_probe probe;
	struct penstock_region_peer cmd;
	struct penstock_info info;

	while (strcmp(want->verdict, verdict))
		want++;
	region_bar(node, peer.out_peer_id, 65536, &cmd);
	tap_eq(region_probe(node, cmd.out_region_id, raw.add.out_target_id, &probe), 0, "PROBE");
	tap_eq(probe.out_map_type, want->type, "how it is mapped");
	tap_eq(probe.out_allowed, want->allowed, "allowed");
	tap_eq(probe.out_reason, want->reason, "reason");
	if (want->allowed)
		tap(want->near ? probe.out_distance == 4 : probe.out_distance > 0, "distance %d", probe.out_distance);
	else
		tap_eq(probe.out_distance, -1, "no distance");
	tap(!info_get(node, &info) && probe.out_generation == info.out_generation, "the generation is INFO's");

	region_alloc(node, 65536, 0, &alloc);
	tap(!region_probe(node, alloc.out_region_id, raw.add.out_target_id, &probe) && probe.out_allowed &&
	    probe.out_map_type == PENSTOCK_MAP_HOST_MEMORY && !probe.out_reason, "host memory is always reached");
	region_free(node, alloc.out_region_id, 0, NULL);
	tap_eq(region_probe(node, alloc.out_region_id, raw.add.out_target_id, &probe), -ENOENT, "no such region");
	tap_eq(region_probe(node, cmd.out_region_id, 12345, &probe), -ENOENT, "no such target");
	test_probe_loop(cmd.out_region_id);
	probe = (struct penstock_region_probe) { .size = sizeof(probe), .flags = 1 };
	tap_eq(node_ioctl(node, PENSTOCK_IOC_REGION_PROBE, &probe), -EOPNOTSUPP, "an unknown flag");
	region_free(node, cmd.out_region_id, 0, NULL);
}

/* ---- shared by a dma-buf ---- */

static void test_dmabuf(void)
{
	struct penstock_region_export export = { .size = sizeof(export) };
	struct penstock_region_peer cmd, window;
	struct dest all = { .len = MIB }, part = { .len = 65536 };

	region_bar(node, peer.out_peer_id, MIB, &cmd);
	export.region_id = cmd.out_region_id;
	tap_eq(node_ioctl(node, PENSTOCK_IOC_REGION_EXPORT, &export), 0, "a region is exported");
	window = (struct penstock_region_peer) { .size = sizeof(window), .kind = PENSTOCK_PEER_DMABUF,
		.fd = export.out_fd, .offset = 65536, .length = 65536 };
	tap_eq(node_ioctl(node, PENSTOCK_IOC_REGION_PEER, &window), 0, "a part of it is imported");
	tap(window.out_nr_segments == 1 && window.out_flags == cmd.out_flags &&
	    window.out_peer_offset == cmd.out_peer_offset + 65536, "it lies where it should");
	if (tap(!dest_map(node, &all, cmd.out_mmap_offset) && !dest_map(node, &part, window.out_mmap_offset),
		"both are mapped")) {
		memset(all.map + 65536, 0x42, 65536);
		tap(first_not(part.map, 0x42, part.len) < 0, "both are the same memory");
		munmap(all.map, all.len);
		munmap(part.map, part.len);
	}
	window.offset = MIB - 4096;
	tap_eq(node_ioctl(node, PENSTOCK_IOC_REGION_PEER, &window), -EINVAL, "not beyond its end");
	window.offset = 0;
	region_free(node, cmd.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
	close(export.out_fd);
	tap_eq(peer_available(node, addr), peer.out_len - MIB, "the memory is there while the import is");
}

/* ---- a kernel without peers ---- */

static void test_impossible(uint32_t reason)
{
	struct penstock_region_peer cmd;
	struct penstock_info info;

	tap_eq(info_get(node, &info), 0, "INFO");
	tap(!(info.out_features & (PENSTOCK_FEATURE_PEER | PENSTOCK_FEATURE_PEER_MMAP)), "no peers");
	tap_eq(info.out_peer_reason, reason, "INFO says why");
	tap_eq(peer_at(node, addr, &peer), 0, "the peer is enumerated");
	tap_eq(peer.out_reason, reason, "with the reason");
	tap_eq(peer.out_flags, PENSTOCK_PEER_F_TEST, "it cannot be mapped");
	tap(peer.out_bar == 2 && peer.out_len == 64 * MIB && !peer.out_available, "its BAR is known, nothing is free");
	tap_eq(region_bar(node, peer.out_peer_id, 65536, &cmd), -EOPNOTSUPP, "no region");
	tap_eq(cmd.out_reason, reason, "and why");
	cmd = (struct penstock_region_peer) { .size = sizeof(cmd), .kind = PENSTOCK_PEER_NVIDIA, .addr = 65536,
		.length = 65536, .fd = -1 };
	tap_eq(node_ioctl(node, PENSTOCK_IOC_REGION_PEER, &cmd), -EOPNOTSUPP, "none by address");
	tap_eq(cmd.out_reason, reason, "and why not by address");
	tap_eq(dev_put(addr, "driver/unbind", addr), 0, "it can be unbound");
	tap_eq(peer_at(node, addr, &peer), -ENOENT, "and is gone");
	tap_eq(put_file("/sys/bus/pci/drivers_probe", addr), 0, "and bound");
}

/* Bound, but its BAR is too small for pages. */
static void test_no_pages(void)
{
	struct penstock_region_peer cmd;

	tap(!peer_at(node, addr, &peer) && peer.out_reason == PENSTOCK_REASON_NO_PAGES && !peer.out_available &&
	    !(peer.out_flags & PENSTOCK_PEER_F_MAPPABLE), "a peer without pages");
	tap(region_bar(node, peer.out_peer_id, 4096, &cmd) == -EOPNOTSUPP && cmd.out_reason == PENSTOCK_REASON_NO_PAGES,
	    "gives no region");
}

int main(int argc, char **argv)
{
	int own;

	if (argc != 4) {
		fprintf(stderr, "usage: %s DRIVE PEER bus|bridge|none|liar|off|old|nopages\n", argv[0]);
		return 2;
	}
	drive = argv[1];
	addr = argv[2];
	verdict = argv[3];
	node = own = node_open();
	if (!strcmp(verdict, "off") || !strcmp(verdict, "old")) {
		test_impossible(!strcmp(verdict, "old") ? PENSTOCK_REASON_KERNEL_TOO_OLD :
				PENSTOCK_REASON_P2PDMA_OFF);
		return tap_done();
	}
	if (!strcmp(verdict, "nopages")) {
		test_no_pages();
		return tap_done();
	}
	if (node < 0 || source_open(node, "raw", argv[1], &raw)) {
		printf("# %s, %s: %s\n", NODE, argv[1], strerror(errno));
		return 1;
	}
	fcntl(raw.fd, F_SETFL, fcntl(raw.fd, F_GETFL) | O_DIRECT);
	test_enum();
	test_wrong();
	test_lengths();
	test_to_the_end();
	test_cap();
	test_cleared();
	test_reads();
	test_mapped();
	test_late(argv[1]);
	test_probe();
	test_dmabuf();
	/* With the open goes all that is left in it. */
	node = node_open();
	close(own);
	tap(peer_is_whole(node, addr), "an open that is closed gives all back");
	return tap_done();
}
