// SPDX-License-Identifier: MIT
/*
 * 64 reads in flight in 64 regions by 8 processes, every byte checked.
 * test_stress FILE SECONDS: half of the regions lie in a peer, where there is
 * one. Each region has one read at a time in flight, of a random length. The
 * first of them are held up on a slow drive until all 64 are seen in flight.
 */
#include <sys/prctl.h>
#include "memory.h"
#include "read.h"

#define PROCESSES	8
#define REGIONS		8
#define LEN		(256U << 10)
#define UNIT		4096U

/* Shared by all: processes that are ready to begin; then they may. */
struct start {
	unsigned int ready;
	bool go;
};

struct sum {
	uint64_t reads, bytes, wrong, bar_bytes;
	int error;
};

struct slot {
	struct dest dest;
	bool bar;
	uint64_t offset, at;
	uint32_t len;
};

struct process {
	int node;
	struct source source;
	struct io_uring ring;
	struct slot slot[REGIONS];
	unsigned int seed;
	struct sum *sum;
};

static uint32_t below(struct process *p, uint32_t n)
{
	return (uint32_t)rand_r(&p->seed) % n;
}

static bool start(struct process *p, unsigned int i)
{
	struct slot *s = &p->slot[i];

	s->len = UNIT * (1 + below(p, LEN / UNIT / 2));
	s->at = UNIT * (uint64_t)below(p, (LEN - s->len) / UNIT + 1);
	s->offset = UNIT * (uint64_t)below(p, (p->source.size - s->len) / UNIT);
	dest_poison(&s->dest, s->at, s->len);
	return ring_read(&p->ring, p->node, p->source.add.out_target_id, s->dest.id, s->offset, s->at, s->len, i);
}

static bool finish_one(struct process *p, unsigned int *i)
{
	struct io_uring_cqe cqe;
	struct slot *s;

	if (ring_reap(&p->ring, 60, &cqe)) {
		p->sum->error = -ETIME;
		return false;
	}
	*i = cqe.user_data;
	s = &p->slot[*i];
	if (cqe.res != (int)s->len) {
		printf("# a read of %u bytes gave %d\n", s->len, cqe.res);
		p->sum->error = cqe.res < 0 ? cqe.res : -EIO;
		return false;
	}
	if (!dest_holds(&s->dest, &p->source, s->at, s->offset, s->len))
		p->sum->wrong++;
	p->sum->reads++;
	p->sum->bytes += s->len;
	if (s->bar)
		p->sum->bar_bytes += s->len;
	return true;
}

static int prepare(struct process *p, const char *path)
{
	struct penstock_peer_enum peer;
	bool has_peer;
	int ret;

	p->node = node_open();
	if (p->node < 0)
		return p->node;
	ret = source_open(p->node, "file", path, &p->source);
	if (ret)
		return ret;
	has_peer = !peer_first(p->node, &peer);
	for (unsigned int i = 0; i < REGIONS && !ret; i++) {
		p->slot[i].bar = has_peer && i % 2;
		ret = p->slot[i].bar ? dest_bar(p->node, LEN, &p->slot[i].dest)
				     : dest_alloc(p->node, "host", LEN, i % 4, &p->slot[i].dest);
	}
	return ret ? ret : ring_init(&p->ring, REGIONS, 0);
}

static void run(const char *path, double seconds, unsigned int nr, struct start *begin, struct sum *sum)
{
	static struct process p;
	unsigned int i, flying = 0;
	double end;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	p.seed = nr + 1;
	p.sum = sum;
	sum->error = prepare(&p, path);
	__atomic_add_fetch(&begin->ready, 1, __ATOMIC_SEQ_CST);
	if (sum->error)
		_exit(1);
	while (!__atomic_load_n(&begin->go, __ATOMIC_SEQ_CST))
		usleep(1000);
	for (i = 0; i < REGIONS; i++)
		flying += start(&p, i);
	io_uring_submit(&p.ring);
	end = now() + seconds;
	while (flying) {
		if (!finish_one(&p, &i))
			_exit(1);
		flying--;
		if (now() < end) {
			flying += start(&p, i);
			io_uring_submit(&p.ring);
		}
	}
	_exit(0);
}

/* Let them begin on a drive so slow that their first reads meet; how many were in flight at a time. */
static long long first_batch(struct start *begin)
{
	long long most = 0, n;
	double end;

	while (__atomic_load_n(&begin->ready, __ATOMIC_SEQ_CST) < PROCESSES)
		usleep(1000);
	if (system("host throttle ext4 1M"))
		return -1;
	__atomic_store_n(&begin->go, true, __ATOMIC_SEQ_CST);
	for (end = now() + 20; most < PROCESSES * REGIONS && now() < end; usleep(2000)) {
		n = objects_get("reads_in_flight");
		if (n > most)
			most = n;
	}
	return system("host throttle ext4 0") ? -1 : most;
}

int main(int argc, char **argv)
{
	struct start *begin = mmap(NULL, sizeof(*begin), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct sum *sums = mmap(NULL, PROCESSES * sizeof(*sums), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct sum all = {};
	struct objects before;
	bool good = true;
	long long most;
	double seconds;

	if (argc != 3 || sums == MAP_FAILED || begin == MAP_FAILED) {
		fprintf(stderr, "usage: %s FILE SECONDS\n", argv[0]);
		return 2;
	}
	seconds = atof(argv[2]);
	objects_read(&before);
	for (unsigned int i = 0; i < PROCESSES; i++)
		if (!fork())
			run(argv[1], seconds, i, begin, &sums[i]);
	most = first_batch(begin);
	for (unsigned int i = 0; i < PROCESSES; i++) {
		int status = 1;

		wait(&status);
		good = good && !status;
	}
	for (unsigned int i = 0; i < PROCESSES; i++) {
		all.reads += sums[i].reads;
		all.bytes += sums[i].bytes;
		all.bar_bytes += sums[i].bar_bytes;
		all.wrong += sums[i].wrong;
		if (sums[i].error)
			printf("# process %u: %s\n", i, strerror(-sums[i].error));
	}
	printf("# %llu reads, %llu bytes, of them %llu into a BAR\n", (unsigned long long)all.reads,
	       (unsigned long long)all.bytes, (unsigned long long)all.bar_bytes);
	tap(good, "8 processes read for %.0f s", seconds);
	tap(all.reads > 0 && !all.wrong, "every byte is right");
	tap(most == PROCESSES * REGIONS, "%lld reads were in flight at a time, in as many regions", most);
	tap(objects_return_to(&before), "all is given back");
	return tap_done();
}
