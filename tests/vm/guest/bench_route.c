// SPDX-License-Identifier: MIT
/*
 * What a read costs the CPU, by route and size, in instructions.
 *
 * Under "-icount shift=0" and one CPU the clock of the machine counts
 * instructions, one a nanosecond, and goes on in sleep. So instructions are
 * the time that went by less the time that the CPU was idle, which the kernel
 * keeps to the nanosecond (/proc/timer_list). Without icount the figures are
 * busy nanoseconds of whatever the machine is.
 *
 * bench_route DRIVE: prints one JSON object a line. Rounds of the routes
 * alternate; the median of the rounds is given.
 */
#include "guest.h"

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

/* Nanoseconds that CPU 0 has slept since the machine started. */
static uint64_t idle_ns(void)
{
	static char text[65536];
	const char *at;
	size_t len = 0;
	ssize_t n;
	int fd = open("/proc/timer_list", O_RDONLY);

	while (fd >= 0 && len < sizeof(text) - 1 && (n = read(fd, text + len, sizeof(text) - 1 - len)) > 0)
		len += n;
	close(fd);
	text[len] = '\0';
	at = strstr(text, ".idle_sleeptime");
	if (!at || !(at = strchr(at, ':')))
		die("no idle_sleeptime in /proc/timer_list", -ENODATA);
	return strtoull(at + 1, NULL, 10);
}

static uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

struct busy { uint64_t clock, idle; };

static struct busy busy_start(void)
{
	struct busy b = { .idle = idle_ns() };

	b.clock = clock_ns();
	return b;
}

static double busy_end(struct busy b)
{
	uint64_t clock = clock_ns() - b.clock, idle = idle_ns() - b.idle;

	return clock > idle ? (double)(clock - idle) : 0;
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
	struct busy b;
	int i;

	one_read(route, len, 0);
	b = busy_start();
	for (i = 0; i < nr; i++)
		one_read(route, len, (uint64_t)(i % 8) * len);
	return busy_end(b) / nr;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, int nr)
{
	qsort(v, nr, sizeof(*v), compare);
	return v[nr / 2];
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
			printf(", \"%s\": %.0f", route_names[r], median(v[r], ROUNDS));
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
		struct busy b = busy_start();
		uint32_t id;
		int ret;

		ret = peer_id ? region_bar(node, peer_id, len, &bar) : region_alloc(node, len, 9, &alloc);
		if (ret)
			die(kind, ret);
		reg[round] = busy_end(b);
		id = peer_id ? bar.out_region_id : alloc.out_region_id;
		b = busy_start();
		ret = region_free(node, id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
		if (ret)
			die("REGION_FREE", ret);
		release[round] = busy_end(b);
	}
	printf("BENCH {\"bench\": \"region\", \"kind\": \"%s\", \"len_bytes\": %llu, \"register\": %.0f, \"free\": %.0f}\n",
	       kind, (unsigned long long)len, median(reg, ROUNDS), median(release, ROUNDS));
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
