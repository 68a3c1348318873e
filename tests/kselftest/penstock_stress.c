// SPDX-License-Identifier: GPL-2.0-only
/*
 * 64 reads in flight in 64 regions by several processes, every byte checked:
 * penstock_stress [SECONDS [PROCESSES]]. Half of the regions lie in a peer,
 * where there is one. Each region has one read in flight at a time, of a
 * random length to a random place, with its neighbourhood poisoned.
 *
 * PENSTOCK_TEST_FILE has words of 8 bytes, each its number from 1 times the
 * first one, so that any range is known. That all 64 meet in the drive is
 * seen where a command makes it slow: PENSTOCK_SLOW, and PENSTOCK_FAST for
 * the way back.
 */
#include <sys/prctl.h>
#include "kselftest.h"
#include "penstock_util.h"
#include "uring.h"

#define READS		64
#define LEN		(64 * PAGE)
#define POISON		0xee
#define REAP_SECONDS	90

/* Shared by all. */
struct start {
	unsigned int ready;
	bool go;
};

struct sum {
	uint64_t reads, bytes, peer_bytes, wrong;
	int error;
};

struct slot {
	uint32_t region, len;
	char *map;
	bool in_peer;
	uint64_t offset, at;
};

struct process {
	int node, file;
	uint32_t target;
	uint64_t first, file_size, random;
	unsigned int nr_slots;
	struct uring ring;
	struct slot slots[READS];
	struct sum *sum;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint32_t below(struct process *p, uint32_t n)
{
	p->random = p->random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(p->random >> 32) % n;
}

/* ---- bytes ---- */

/* The first byte of @p that is not the file's from @offset, or -1. */
static int64_t first_wrong(uint64_t first, const char *p, uint64_t offset, uint64_t len)
{
	uint64_t i, have, want;

	for (i = 0; i < len; i += sizeof(have)) {
		want = ((offset + i) / 8 + 1) * first;
		memcpy(&have, p + i, sizeof(have));
		if (have != want)
			return (int64_t)i + __builtin_ctzll(have ^ want) / 8;
	}
	return -1;
}

/* Of the whole region: what was read where it was read to, poison elsewhere. */
static bool slot_is_right(const struct process *p, const struct slot *s)
{
	uint64_t i, poison = 0x0101010101010101ULL * POISON, have;
	int64_t wrong = first_wrong(p->first, s->map + s->at, s->offset, s->len);

	for (i = 0; i < LEN && wrong < 0; i += sizeof(have)) {
		if (i == s->at)
			i += s->len;
		if (i >= LEN)
			break;
		memcpy(&have, s->map + i, sizeof(have));
		if (have != poison)
			wrong = (int64_t)(i - s->at);
	}
	if (wrong >= 0)
		ksft_print_msg("%s, %u bytes from %" PRIu64 " to %" PRIu64 ": byte %" PRId64 " is wrong\n",
			       s->in_peer ? "peer" : "host", s->len, s->offset, s->at, wrong);
	return wrong < 0;
}

/* The file is one of those whose bytes are known. */
static bool file_is_known(int file, uint64_t size, uint64_t *first)
{
	char *buf = aligned_alloc(PAGE, PAGE);
	bool good = buf && pread(file, buf, PAGE, 0) == PAGE;

	if (good) {
		memcpy(first, buf, sizeof(*first));
		good = *first && first_wrong(*first, buf, 0, PAGE) < 0 &&
		       pread(file, buf, PAGE, (off_t)(size / 2 / PAGE * PAGE)) == PAGE &&
		       first_wrong(*first, buf, size / 2 / PAGE * PAGE, PAGE) < 0;
	}
	free(buf);
	return good;
}

/* ---- a process ---- */

static void begin(struct process *p, unsigned int i)
{
	struct slot *s = &p->slots[i];
	struct penstock_uring_read read = { .target_id = p->target, .region_id = s->region };

	s->len = (uint32_t)PAGE * (1 + below(p, LEN / PAGE));
	s->at = PAGE * below(p, (uint32_t)((LEN - s->len) / PAGE) + 1);
	s->offset = PAGE * below(p, (uint32_t)((p->file_size - s->len) / PAGE));
	memset(s->map, POISON, LEN);
	read.length = s->len;
	read.offset = s->offset;
	read.region_offset = s->at;
	uring_queue(&p->ring, p->node, PENSTOCK_URING_CMD_READ, &read, i);
}

/* The slot whose read has ended well, or -errno. */
static int finish(struct process *p)
{
	struct io_uring_cqe cqe;
	int ret = uring_reap(&p->ring, REAP_SECONDS, &cqe);
	struct slot *s;

	if (ret)
		return ret;
	s = &p->slots[cqe.user_data];
	if (cqe.res != (int)s->len) {
		ksft_print_msg("a read of %u bytes gave %d\n", s->len, cqe.res);
		return cqe.res < 0 ? cqe.res : -EIO;
	}
	p->sum->wrong += !slot_is_right(p, s);
	p->sum->reads++;
	p->sum->bytes += s->len;
	p->sum->peer_bytes += s->in_peer ? s->len : 0;
	return (int)cqe.user_data;
}

static int slot_prepare(struct process *p, struct slot *s, uint32_t peer_id)
{
	struct penstock_region_alloc alloc;
	struct penstock_region_peer bar;
	int ret;

	s->in_peer = peer_id;
	ret = peer_id ? region_bar(p->node, peer_id, LEN, &bar) : region_alloc(p->node, LEN, &alloc);
	if (ret)
		return ret;
	s->region = peer_id ? bar.out_region_id : alloc.out_region_id;
	s->map = region_map(p->node, peer_id ? bar.out_mmap_offset : alloc.out_mmap_offset, 0, LEN);
	return s->map == MAP_FAILED ? -errno : 0;
}

static int prepare(struct process *p)
{
	struct penstock_peer_enum peer;
	struct penstock_target_add add;
	bool has_peer;
	unsigned int i;
	int ret;

	p->node = node_open(O_CLOEXEC);
	if (p->node < 0)
		return p->node;
	ret = target_add(p->node, p->file, &add);
	p->target = add.out_target_id;
	has_peer = !peer_first(p->node, &peer) && peer.out_flags & PENSTOCK_PEER_F_MAPPABLE;
	for (i = 0; i < p->nr_slots && !ret; i++)
		ret = slot_prepare(p, &p->slots[i], has_peer && i % 2 ? peer.out_peer_id : 0);
	return ret ? ret : uring_init_entries(&p->ring, READS, IORING_SETUP_SQE128);
}

/* Reads until @seconds are over, counted from when all may begin. */
static int read_all(struct process *p, double seconds, const struct start *start)
{
	unsigned int i, flying;
	double end;
	int ret;

	while (!__atomic_load_n(&start->go, __ATOMIC_SEQ_CST))
		usleep(1000);
	for (i = 0; i < p->nr_slots; i++)
		begin(p, i);
	end = now() + seconds;
	for (flying = p->nr_slots; flying; flying--) {
		if (p->ring.queued && uring_submit(&p->ring) < 0)
			return -EIO;
		ret = finish(p);
		if (ret < 0)
			return ret;
		if (now() < end) {
			begin(p, (unsigned int)ret);
			flying++;
		}
	}
	return 0;
}

static void process_run(struct process *p, double seconds, struct start *start)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	p->sum->error = prepare(p);
	__atomic_add_fetch(&start->ready, 1, __ATOMIC_SEQ_CST);
	if (!p->sum->error)
		p->sum->error = read_all(p, seconds, start);
	fflush(stdout);
	_exit(!!p->sum->error);
}

/* ---- all of them ---- */

/* The most reads that were seen in flight at a time, with a slow drive; -1 where none can be made. */
static long long start_all(struct start *start, unsigned int processes)
{
	const char *slow = getenv("PENSTOCK_SLOW"), *fast = getenv("PENSTOCK_FAST");
	long long most = -1, n;
	double end = now() + 30;

	while (__atomic_load_n(&start->ready, __ATOMIC_SEQ_CST) < processes && now() < end)
		usleep(1000);
	if (slow && fast && system(slow))
		ksft_print_msg("'%s' fails\n", slow);
	__atomic_store_n(&start->go, true, __ATOMIC_SEQ_CST);
	if (!slow || !fast)
		return -1;
	for (end = now() + 20; most < READS && now() < end; usleep(2000)) {
		n = file_number(OBJECTS_PATH, "reads_in_flight");
		if (n > most)
			most = n;
	}
	if (system(fast))
		ksft_print_msg("'%s' fails\n", fast);
	return most;
}

static bool wait_all(unsigned int processes)
{
	bool good = true;
	int status;

	while (processes--)
		good = wait(&status) > 0 && !status && good;
	return good;
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? strtod(argv[1], NULL) : 10;
	unsigned int processes = argc > 2 ? (unsigned int)strtoul(argv[2], NULL, 0) : 8, i;
	struct objects before;
	bool counted = objects_get(&before), good;
	int node = node_open(O_CLOEXEC), file = test_file_open(0);
	struct sum *sums, all = {};
	static struct process p;
	struct start *start;
	long long most;
	struct stat st;

	ksft_print_header();
	if (node < 0 || file < 0)
		ksft_exit_skip("no %s\n", file < 0 ? "PENSTOCK_TEST_FILE" : node_path());
	close(node);
	if (!processes || READS % processes || fstat(file, &st) || st.st_size < 2 * (off_t)LEN ||
	    !file_is_known(file, (uint64_t)st.st_size, &p.first)) {
		fprintf(stderr, "usage: %s [SECONDS [PROCESSES]], a divisor of %d\n", argv[0], READS);
		fprintf(stderr, "PENSTOCK_TEST_FILE is one of the files that test machines have\n");
		return KSFT_FAIL;
	}
	ksft_set_plan(4);
	start = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	sums = mmap(NULL, READS * sizeof(*sums), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (start == MAP_FAILED || sums == MAP_FAILED)
		return KSFT_FAIL;
	p.file = file;
	p.file_size = (uint64_t)st.st_size;
	p.nr_slots = READS / processes;
	for (i = 0; i < processes; i++) {
		p.random = i + 1;
		p.sum = &sums[i];
		if (!fork())
			process_run(&p, seconds, start);
	}
	most = start_all(start, processes);
	good = wait_all(processes);
	for (i = 0; i < processes; i++) {
		all.reads += sums[i].reads;
		all.bytes += sums[i].bytes;
		all.peer_bytes += sums[i].peer_bytes;
		all.wrong += sums[i].wrong;
		if (sums[i].error)
			ksft_print_msg("process %u: %s\n", i, strerror(-sums[i].error));
	}
	ksft_print_msg("%" PRIu64 " reads, %" PRIu64 " bytes, of them %" PRIu64 " into a peer\n", all.reads, all.bytes,
		       all.peer_bytes);
	ksft_test_result(good, "%u processes read for %.0f s\n", processes, seconds);
	ksft_test_result(all.reads && !all.wrong, "every byte is right\n");
	if (most < 0)
		ksft_test_result_skip("reads in flight # SKIP no PENSTOCK_SLOW and PENSTOCK_FAST\n");
	else
		ksft_test_result(most == READS, "%lld reads were in flight at a time, in as many regions\n", most);
	if (counted)
		ksft_test_result(objects_settle(&before, 60), "all is given back\n");
	else
		ksft_test_result_skip("all is given back # SKIP no %s\n", OBJECTS_PATH);
	ksft_finished();
}
