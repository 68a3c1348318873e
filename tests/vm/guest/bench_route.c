// SPDX-License-Identifier: MIT
/*
 * What a read costs the CPU, in instructions (insn.h), by route and size.
 *
 * bench_route DRIVE: prints one JSON object a line. Rounds of the routes
 * alternate; the median of the rounds is given.
 */
#include "cmd.h"
#include "guest.h"
#include "insn.h"

#define ROUNDS	9
#define MAX_LEN	(4U << 20)

enum route { DIRECT_BAR, MAPPED_BAR, DIRECT_HOST, FIXED_HOST, NR_ROUTES };
static const char *const route_names[] = { "direct", "mapped", "direct_host", "registered_host" };

struct lane {
	struct io_uring ring;
	uint32_t region;
	void *map;
};

static int node, drive;
static uint32_t target;
static struct lane lanes[NR_ROUTES];

static void die(const char *what, int ret)
{
	fprintf(stderr, "bench_route: %s: %s\n", what, strerror(-ret));
	exit(1);
}

static void one_read(enum route route, uint32_t len, uint64_t offset)
{
	struct lane *l = &lanes[route];
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	int ret;

	switch (route) {
	case DIRECT_BAR:
	case DIRECT_HOST:
		ring_read(&l->ring, node, target, l->region, offset, 0, len, 0);
		break;
	case MAPPED_BAR:
		sqe = io_uring_get_sqe(&l->ring);
		io_uring_prep_read(sqe, drive, l->map, len, offset);
		break;
	default:
		sqe = io_uring_get_sqe(&l->ring);
		io_uring_prep_read_fixed(sqe, drive, l->map, len, offset, 0);
	}
	ret = io_uring_submit_and_wait(&l->ring, 1);
	if (ret < 0)
		die("submit", ret);
	ret = io_uring_peek_cqe(&l->ring, &cqe);
	if (ret)
		die("completion", ret);
	if (cqe->res != (int)len)
		die(route_names[route], cqe->res < 0 ? cqe->res : -EIO);
	io_uring_cqe_seen(&l->ring, cqe);
}

static double round_of(enum route route, uint32_t len, int nr)
{
	struct insn begin;
	int i;

	one_read(route, len, 0);
	begin = insn_start();
	for (i = 0; i < nr; i++)
		one_read(route, len, (uint64_t)(i % 8) * len);
	return (double)insn_since(begin) / nr;
}

static void setup(const char *path)
{
	struct penstock_target_add add;
	struct penstock_peer_enum peer;
	struct penstock_region_peer bar;
	struct penstock_region_alloc alloc;
	struct iovec iov;
	int ret;

	node = node_open();
	if (node < 0)
		die(NODE, node);
	drive = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (drive < 0)
		die(path, -errno);
	ret = target_add(node, drive, &add);
	if (ret)
		die("TARGET_ADD", ret);
	target = add.out_target_id;
	ret = peer_first(node, &peer);
	if (ret)
		die("PEER_ENUM", ret);

	for (int r = 0; r < NR_ROUTES; r++) {
		uint64_t offset;
		bool bar_route = r == DIRECT_BAR || r == MAPPED_BAR;

		ret = bar_route ? region_bar(node, peer.out_peer_id, MAX_LEN, &bar)
				: region_alloc(node, MAX_LEN, 9, &alloc);
		if (ret)
			die("region", ret);
		lanes[r].region = bar_route ? bar.out_region_id : alloc.out_region_id;
		offset = bar_route ? bar.out_mmap_offset : alloc.out_mmap_offset;
		lanes[r].map = mmap(NULL, MAX_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, node, offset);
		if (lanes[r].map == MAP_FAILED)
			die("mmap", -errno);
		memset(lanes[r].map, 0, MAX_LEN);
		ret = ring_init(&lanes[r].ring, 8, 0);
		if (ret)
			die("ring", ret);
		iov = (struct iovec) { lanes[r].map, MAX_LEN };
		ret = r == FIXED_HOST ? io_uring_register_buffers(&lanes[r].ring, &iov, 1) : 0;
		if (ret)
			die("register buffers", ret);
	}
}

static void bench_reads(void)
{
	for (uint32_t len = 4096; len <= MAX_LEN; len *= 4) {
		double v[NR_ROUTES][ROUNDS];
		int nr = len >= (1U << 20) ? 32 : 64;

		for (int round = 0; round < ROUNDS; round++)
			for (int r = 0; r < NR_ROUTES; r++)
				v[r][round] = round_of(r, len, nr);
		printf("BENCH {\"bench\": \"read\", \"len_bytes\": %u", len);
		for (int r = 0; r < NR_ROUTES; r++)
			printf(", \"%s\": %.0f", route_names[r], cmd_median(v[r], ROUNDS));
		printf("}\n");
		fflush(stdout);
	}
}

static void bench_register(const char *kind, uint32_t peer_id, uint64_t len)
{
	double reg[ROUNDS], release[ROUNDS];

	for (int round = 0; round < ROUNDS; round++) {
		struct penstock_region_peer bar;
		struct penstock_region_alloc alloc;
		struct insn begin = insn_start();
		uint32_t id;
		int ret;

		ret = peer_id ? region_bar(node, peer_id, len, &bar) : region_alloc(node, len, 9, &alloc);
		if (ret)
			die(kind, ret);
		reg[round] = (double)insn_since(begin);
		id = peer_id ? bar.out_region_id : alloc.out_region_id;
		begin = insn_start();
		ret = region_free(node, id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
		if (ret)
			die("REGION_FREE", ret);
		release[round] = (double)insn_since(begin);
	}
	printf("BENCH {\"bench\": \"region\", \"kind\": \"%s\", \"len_bytes\": %llu, \"register\": %.0f, \"free\": %.0f}\n",
	       kind, (unsigned long long)len, cmd_median(reg, ROUNDS), cmd_median(release, ROUNDS));
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct penstock_peer_enum peer;

	if (argc != 2) {
		fprintf(stderr, "usage: %s DRIVE\n", argv[0]);
		return 2;
	}
	setup(argv[1]);
	bench_reads();
	if (!peer_first(node, &peer))
		bench_register("bar", peer.out_peer_id, 16ull << 20);
	bench_register("host", 0, 256ull << 20);
	return 0;
}
