// SPDX-License-Identifier: MIT
/*
 * What the module refuses on kernels later than this one: it was built with the
 * answers that probes of those kernels give (the lane's key pretend).
 *
 * test_later_kernels DRIVE PEER MODE: a raw drive; the peer's PCI address;
 * unmarked: peer pages would not be known as such; merges: only while a request
 * has no other pages; model: pages have not the references that they should.
 */
#include "peer.h"

static const char *addr, *drive;
static int node;
static struct io_uring ring;
static struct source raw;
static struct dest host;
static uint32_t peer_id;

/* What TARGET_ADD, PROBE and reads say of a region of the peer, all the same. */
static void check_reads(uint32_t region, uint32_t reason, const char *when)
{
	struct penstock_region_probe probe;
	struct penstock_target_add add;
	int64_t want = reason ? -EOPNOTSUPP : 65536;
	uint32_t target = raw.add.out_target_id;

	tap(!target_add(node, raw.fd, &add) && add.out_peer_reason == reason && !add.out_reason, "%s: TARGET_ADD",
	    when);
	tap(!region_probe(node, region, target, &probe) && probe.out_reason == reason && probe.out_allowed == !reason &&
	    probe.out_map_type == PENSTOCK_MAP_BUS_ADDRESS, "%s: PROBE", when);
	host_fill(0, 0, MIB, POISON);
	tap_eq(read_ioctl(node, target, region, 65536, 0, 65536), want, when);
	tap_eq(read_ring(&ring, node, target, region, 2 * 65536, 65536, 65536, 0), want, when);
	tap(reason ? host_is(0, 0, MIB, POISON) : host_sees(0, 0, 65536, 2 * 65536), "%s: what the host sees", when);
	dest_poison(&host, 0, host.len);
	tap(read_ioctl(node, target, host.id, 0, 0, 65536) == 65536 && dest_holds(&host, &raw, 0, 0, 65536),
	    "%s: host memory is read into", when);
}

/* Route mapped: pages that the kernel finds by itself. */
static void check_mapped(const struct penstock_region_peer *cmd)
{
	struct dest d = { .name = "BAR", .len = MIB };
	int fd = open(drive, O_RDONLY | O_DIRECT);

	if (tap(!dest_map(node, &d, cmd->out_mmap_offset), "the region is mapped"))
		tap(pread(fd, d.map, MIB, MIB) == MIB && host_sees(0, cmd->out_peer_offset, MIB, MIB),
		    "direct reads of the mapping work");
	munmap(d.map, d.len);
	close(fd);
}

static void test_unmarked(void)
{
	struct penstock_region_peer cmd;

	tap_eq(region_bar(node, peer_id, MIB, &cmd), 0, "a region");
	check_reads(cmd.out_region_id, PENSTOCK_REASON_UNMARKED, "unmarked");
	check_mapped(&cmd);
}

static bool nomerges(const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/block/%s/queue/nomerges", strrchr(drive, '/') + 1);
	return !put_file(path, value);
}

static void test_merges(void)
{
	struct penstock_region_peer cmd;

	tap_eq(region_bar(node, peer_id, MIB, &cmd), 0, "a region");
	check_reads(cmd.out_region_id, PENSTOCK_REASON_MERGES, "merges");
	tap(nomerges("2"), "nothing is merged any more");
	check_reads(cmd.out_region_id, PENSTOCK_REASON_NONE, "no merges");
	tap(nomerges("1"), "only what is easily found is merged");
	check_reads(cmd.out_region_id, PENSTOCK_REASON_MERGES, "some merges");
	tap(nomerges("0"), "as at first");
	check_mapped(&cmd);
}

static void test_model(void)
{
	struct penstock_region_peer cmd;
	struct penstock_peer_enum peer;
	struct penstock_info info;

	tap_eq(region_bar(node, peer_id, MIB, &cmd), 0, "a region");
	tap(!info_get(node, &info) && info.out_p2p_page_model == PENSTOCK_P2P_PAGE_MODEL_UNKNOWN &&
	    !(info.out_features & PENSTOCK_FEATURE_PEER_MMAP), "the model is unknown, nothing is mappable");
	tap(!(cmd.out_flags & PENSTOCK_PEER_F_MAPPABLE) && cmd.out_mmap_offset == ~0ULL && !peer_at(node, addr, &peer) &&
	    !(peer.out_flags & PENSTOCK_PEER_F_MAPPABLE), "nor does the region say so");
	tap(mmap(NULL, 4096, PROT_READ, MAP_SHARED, node, (off_t)cmd.out_region_id << 38) == MAP_FAILED &&
	    errno == EOPNOTSUPP, "no mapping");
	check_reads(cmd.out_region_id, PENSTOCK_REASON_NONE, "unmapped");
	region_free(node, cmd.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
	cmd = (struct penstock_region_peer) { .size = sizeof(cmd), .flags = PENSTOCK_REGION_PEER_F_MMAP,
		.kind = PENSTOCK_PEER_BAR, .peer_id = peer_id, .length = MIB, .fd = -1 };
	tap(node_ioctl(node, PENSTOCK_IOC_REGION_PEER, &cmd) == -EOPNOTSUPP &&
	    cmd.out_reason == PENSTOCK_REASON_P2P_MODEL, "a region that must be mappable is refused");
}

int main(int argc, char **argv)
{
	struct penstock_peer_enum peer;

	if (argc != 4) {
		fprintf(stderr, "usage: %s DRIVE PEER unmarked|merges|model\n", argv[0]);
		return 2;
	}
	drive = argv[1];
	addr = argv[2];
	node = node_open();
	if (node < 0 || source_open(node, "raw", argv[1], &raw) || peer_at(node, addr, &peer) ||
	    ring_init(&ring, 8, 0) || dest_alloc(node, "host", MIB, 0, &host)) {
		printf("# %s, %s, %s: %s\n", NODE, argv[1], addr, strerror(errno));
		return 1;
	}
	peer_id = peer.out_peer_id;
	if (!strcmp(argv[3], "unmarked"))
		test_unmarked();
	else if (!strcmp(argv[3], "merges"))
		test_merges();
	else
		test_model();
	io_uring_queue_exit(&ring);
	munmap(host.map, host.len);
	close(node);
	node = node_open();
	tap(peer_is_whole(node, addr), "all is given back");
	return tap_done();
}
