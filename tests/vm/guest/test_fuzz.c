// SPDX-License-Identifier: MIT
/*
 * Random commands: several processes with several threads, each with opens,
 * regions and a ring of its own, do anything in any order, also to what is
 * another thread's. test_fuzz FILE SECONDS SEED PEER: PEER, or "-", is unbound
 * and bound again all the time.
 *
 * What is checked is that nothing breaks (the kernel's log), nothing hangs,
 * and all is given back. Two reads never go to the same bytes, of which the
 * kernel's DMA debugging would complain: a thread reads into regions that it
 * made, a chunk a read; into those that share memory not at all.
 */
#include <poll.h>
#include <pthread.h>
#include "memory.h"
#include "read.h"

#define PROCESSES	3
#define THREADS		2
#define NODES		2
#define REGIONS		6
#define CHUNK		(16U << 10)
#define CHUNKS		8
#define LEN		((uint64_t)CHUNK * CHUNKS)

enum op { ALLOC, PIN, BAR, SHARE, FREE, FREE_WAIT, FREE_ANY, STAT, PROBE, RING, REAP, READ_IOCTL, MAP, INFO, ENUM, ADD,
	DEL, EVENT, FORK, REOPEN, SIGNAL, GARBAGE, NR_OPS };
static const char *const op_names[] = { "alloc", "pin", "bar", "share", "free", "free-wait", "free-any", "stat", "probe",
	"ring", "reap", "read", "map", "info", "enum", "add", "del", "event", "fork", "reopen", "signal", "garbage" };

struct counts {
	uint64_t tried[NR_OPS], good[NR_OPS];
	uint64_t read_bytes;
};

struct region {
	int node;
	uint32_t id;
	uint64_t mmap_offset;
	unsigned int busy;	/* chunks with a read in flight, a bit each */
	bool shared;
};

struct thread {
	unsigned int seed, nr;
	int node[NODES];
	uint32_t target[NODES];
	int file;
	uint64_t file_size;
	struct region region[REGIONS];
	struct io_uring ring;
	unsigned int flying;
	uint8_t *own;		/* for PIN */
	bool pinned;
	struct counts *counts;
};

static const char *file_path;
static double end_at;
static struct thread threads[THREADS];
static struct counts *counts;

static uint32_t below(struct thread *t, uint32_t n)
{
	return (uint32_t)rand_r(&t->seed) % n;
}

static void on_signal(int nr)
{
}

/* ---- what a thread has ---- */

static bool reap_one(struct thread *t, double seconds)
{
	struct io_uring_cqe cqe;

	if (!t->flying || ring_reap(&t->ring, seconds, &cqe))
		return false;
	t->flying--;
	t->region[cqe.user_data / CHUNKS].busy &= ~(1U << cqe.user_data % CHUNKS);
	if (cqe.res > 0)
		t->counts->read_bytes += cqe.res;
	return cqe.res > 0;
}

static void reap_all(struct thread *t)
{
	while (t->flying)
		if (!reap_one(t, 1) && now() > end_at + 100)
			_exit(3);	/* a read that never ends */
}

static struct region *region_free_slot(struct thread *t)
{
	for (unsigned int i = 0; i < REGIONS; i++)
		if (!t->region[i].id && !t->region[i].busy)
			return &t->region[i];
	return NULL;
}

static struct region *region_any(struct thread *t)
{
	struct region *r = &t->region[below(t, REGIONS)];

	return r->id ? r : NULL;
}

static bool region_set(struct region *r, int node, uint32_t id, uint64_t mmap_offset, bool shared)
{
	*r = (struct region) { .node = node, .id = id, .mmap_offset = mmap_offset, .shared = shared };
	return true;
}

static void node_setup(struct thread *t, unsigned int i)
{
	struct penstock_target_add add;

	t->node[i] = node_open();
	t->target[i] = target_add(t->node[i], t->file, &add) ? 0 : add.out_target_id;
}

/* ---- operations: true when the kernel did it ---- */

static bool do_region(struct thread *t, enum op op)
{
	struct region *r = region_free_slot(t);
	unsigned int n = below(t, NODES);
	struct penstock_region_alloc alloc;
	struct penstock_region_peer bar;
	struct penstock_peer_enum peer;
	struct penstock_region_pin pin = { .size = sizeof(pin), .flags = PENSTOCK_PIN_F_READ,
		.addr = (uintptr_t)t->own, .length = LEN };

	if (!r)
		return false;
	switch (op) {
	case ALLOC:
		return !region_alloc(t->node[n], LEN, below(t, 6), &alloc) &&
		       region_set(r, t->node[n], alloc.out_region_id, alloc.out_mmap_offset, false);
	case PIN:
		/* Of all pins of the same pages only the first is read into. */
		if (node_ioctl(t->node[n], PENSTOCK_IOC_REGION_PIN, &pin))
			return false;
		region_set(r, t->node[n], pin.out_region_id, ~0ull, t->pinned);
		t->pinned = true;
		return true;
	default:
		return !peer_first(t->node[n], &peer) && !region_bar(t->node[n], peer.out_peer_id, LEN, &bar) &&
		       region_set(r, t->node[n], bar.out_region_id, bar.out_mmap_offset, false);
	}
}

static bool do_share(struct thread *t)
{
	struct region *from = region_any(t), *r = region_free_slot(t);
	struct penstock_region_export cmd = { .size = sizeof(cmd), .out_fd = -1 };
	struct penstock_region_peer peer = { .size = sizeof(peer), .kind = PENSTOCK_PEER_DMABUF,
		.length = LEN / 2, .offset = below(t, 2) * LEN / 2 };
	bool good = false;

	if (!from || !r)
		return false;
	cmd.region_id = from->id;
	if (node_ioctl(from->node, PENSTOCK_IOC_REGION_EXPORT, &cmd))
		return false;
	peer.fd = cmd.out_fd;
	if (!node_ioctl(t->node[below(t, NODES)], PENSTOCK_IOC_REGION_PEER, &peer))
		good = true;
	if (good) {
		/* Whose it is does not matter: it is freed with its node, or by chance. */
		void *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, cmd.out_fd, 0);

		if (p != MAP_FAILED)
			munmap(p, LEN);
	}
	close(cmd.out_fd);
	return good;
}

static bool do_free(struct thread *t, enum op op)
{
	struct region *r = region_any(t);
	int ret;

	if (op == FREE_ANY) {
		struct thread *other = &threads[below(t, THREADS)];

		return !region_free(other->node[below(t, NODES)], 1 + below(t, 64), below(t, 2), NULL);
	}
	if (!r)
		return false;
	ret = region_free(r->node, r->id, op == FREE_WAIT ? PENSTOCK_REGION_FREE_F_WAIT : 0, NULL);
	/* Chunks remain busy until their completions are seen. */
	if (!ret || ret == -ENOENT)
		r->id = 0;
	return !ret;
}

static uint64_t random_offset(struct thread *t)
{
	return 4096ull * below(t, (t->file_size + (64 << 10)) / 4096);
}

static bool do_ring(struct thread *t)
{
	struct region *r = region_any(t);
	unsigned int chunk = below(t, CHUNKS), n;
	struct io_uring_sqe *sqe;

	if (!r || r->shared || r->busy & (1U << chunk))
		return false;
	for (n = 0; n < NODES && t->node[n] != r->node; n++)
		;
	if (n == NODES)
		return false;
	sqe = ring_read(&t->ring, r->node, t->target[n], r->id, random_offset(t), (uint64_t)chunk * CHUNK,
			512u * (1 + below(t, CHUNK / 512)), (r - t->region) * CHUNKS + chunk);
	if (!sqe)
		return false;
	if (!below(t, 4))
		sqe->flags |= IOSQE_ASYNC;
	r->busy |= 1U << chunk;
	t->flying++;
	return io_uring_submit(&t->ring) == 1;
}

static bool do_read(struct thread *t)
{
	struct region *r = region_any(t);
	struct penstock_read reads[3];
	struct penstock_region_read cmd = { .size = sizeof(cmd), .reads_uptr = (uintptr_t)reads, .nr_reads = 3,
		.read_size = sizeof(reads[0]) };
	unsigned int n;

	if (!r || r->shared)
		return false;
	for (n = 0; n < NODES && t->node[n] != r->node; n++)
		;
	for (unsigned int i = 0; i < 3; i++) {
		unsigned int chunk = below(t, CHUNKS);

		reads[i] = (struct penstock_read) { .target_id = n < NODES && !(r->busy & 1U << chunk) ? t->target[n] : 0,
			.region_id = r->id, .offset = random_offset(t), .region_offset = (uint64_t)chunk * CHUNK,
			.length = 4096u * (1 + below(t, CHUNK / 4096)) };
	}
	return !node_ioctl(r->node, PENSTOCK_IOC_REGION_READ, &cmd) && reads[0].out_result > 0;
}

/* Touched in a child: a region that is freed meanwhile gives SIGBUS. */
static bool do_map(struct thread *t)
{
	struct region *r = region_any(t);
	int status = 1;
	uint8_t *p;
	pid_t pid;

	if (!r || r->mmap_offset == ~0ull)
		return false;
	p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, r->node, r->mmap_offset);
	if (p == MAP_FAILED)
		return false;
	pid = fork();
	if (!pid) {
		/* Mappings are not inherited: one of its own. */
		uint8_t *mine = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, r->node, r->mmap_offset);

		for (uint64_t i = 0; mine != MAP_FAILED && i < LEN; i += 4096)
			mine[i + 8] = 1;
		_exit(mine == MAP_FAILED);
	}
	if (pid > 0)
		waitpid(pid, &status, 0);
	munmap(p, LEN);
	return !status;
}

static bool do_fork(struct thread *t)
{
	int status = 1;
	pid_t pid = fork();

	if (!pid) {
		struct region *r = region_any(t);
		struct penstock_region_stat stat;

		/* Of pinned memory EPERM; either way it ends. */
		if (r)
			region_stat(r->node, r->id, &stat);
		_exit(0);
	}
	if (pid > 0)
		waitpid(pid, &status, 0);
	return !status;
}

static bool do_reopen(struct thread *t)
{
	unsigned int n = below(t, NODES);
	int old = t->node[n];

	/* Half of the time with reads in flight: their requests keep the open. */
	if (below(t, 2))
		reap_all(t);
	for (unsigned int i = 0; i < REGIONS; i++)
		if (t->region[i].node == old)
			t->region[i].id = 0;
	close(old);
	reap_all(t);
	node_setup(t, n);
	return t->node[n] >= 0;
}

/* Any command with any bytes; never a read, which could go to bytes that another one goes to. */
static bool do_garbage(struct thread *t)
{
	static const uint32_t sizes[] = { 0, 4, 8, 16, 24, 32, 40, 48, 64, 72, 80, 88, 96, 4096, 4100 };
	unsigned int nr = below(t, 14), fields;
	uint32_t buf[1100];

	for (unsigned int i = 0; i < 1100; i++) {
		switch (below(t, 4)) {
		case 0:
			buf[i] = (uint32_t)rand_r(&t->seed) * 2654435761u;
			break;
		case 1:
			buf[i] = 1 + below(t, 16);
			break;
		default:
			buf[i] = 0;
		}
	}
	buf[0] = below(t, 3) ? sizes[below(t, sizeof(sizes) / 4)] : below(t, 5000);
	if (nr == _IOC_NR(PENSTOCK_IOC_REGION_READ))
		buf[2] = buf[3] = 0;
	/* What lies behind the first version is zero, as a rule. */
	fields = buf[0] / 4;
	if (fields > 24 && below(t, 4))
		memset(buf + 24, 0, sizeof(buf) - 24 * 4);
	return ioctl(t->node[below(t, NODES)], _IO(PENSTOCK_IOC_TYPE, nr), buf) == 0;
}

static bool do_simple(struct thread *t, enum op op)
{
	unsigned int n = below(t, NODES);
	struct region *r = region_any(t);
	struct penstock_info info = { .size = sizeof(info) };
	struct penstock_peer_enum peer = { .size = sizeof(peer), .after_peer_id = below(t, 3) };
	struct penstock_region_stat stat;
	struct penstock_region_probe probe = { .size = sizeof(probe), .target_id = t->target[n] };
	struct penstock_target_add add;
	struct penstock_target_del del = { .size = sizeof(del), .target_id = t->target[n] };
	struct penstock_event event;
	struct pollfd p = { .fd = t->node[n], .events = POLLIN };

	switch (op) {
	case INFO:
		return !node_ioctl(t->node[n], PENSTOCK_IOC_INFO, &info);
	case ENUM:
		return !node_ioctl(t->node[n], PENSTOCK_IOC_PEER_ENUM, &peer);
	case STAT:
		return !region_stat(t->node[n], r ? r->id : 0, &stat);
	case PROBE:
		probe.region_id = r ? r->id : 0;
		return r && r->node == t->node[n] && !node_ioctl(r->node, PENSTOCK_IOC_REGION_PROBE, &probe);
	case ADD:
		if (t->target[n] || target_add(t->node[n], t->file, &add))
			return false;
		t->target[n] = add.out_target_id;
		return true;
	case DEL:
		t->target[n] = 0;
		return !node_ioctl(t->node[n], PENSTOCK_IOC_TARGET_DEL, &del);
	case EVENT:
		return poll(&p, 1, 0) == 1 && read(t->node[n], &event, sizeof(event)) == sizeof(event);
	default:
		return !pthread_kill(pthread_self(), SIGUSR1);
	}
}

static bool do_op(struct thread *t, enum op op)
{
	switch (op) {
	case ALLOC:
	case PIN:
	case BAR:
		return do_region(t, op);
	case SHARE:
		return do_share(t);
	case FREE:
	case FREE_WAIT:
	case FREE_ANY:
		return do_free(t, op);
	case RING:
		return do_ring(t);
	case REAP:
		return reap_one(t, below(t, 2) ? 0.01 : 0);
	case READ_IOCTL:
		return do_read(t);
	case MAP:
		return do_map(t);
	case FORK:
		return do_fork(t);
	case REOPEN:
		return do_reopen(t);
	case GARBAGE:
		return do_garbage(t);
	default:
		return do_simple(t, op);
	}
}

/* Reads are what it is about; processes are dear. */
static enum op choose(struct thread *t)
{
	uint32_t n = below(t, 100);
	enum op op;

	if (n < 30)
		return RING;
	if (n < 40)
		return REAP;
	op = below(t, NR_OPS);
	return (op == MAP || op == FORK || op == REOPEN) && below(t, 4) ? ALLOC : op;
}

static void *thread_run(void *arg)
{
	struct thread *t = arg;
	struct stat st;

	t->file = open(file_path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	fstat(t->file, &st);
	t->file_size = st.st_size;
	t->own = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(t->own, 1, LEN);
	for (unsigned int i = 0; i < NODES; i++)
		node_setup(t, i);
	if (ring_init(&t->ring, 64, 0))
		_exit(2);
	while (now() < end_at) {
		enum op op = choose(t);

		t->counts->tried[op]++;
		t->counts->good[op] += do_op(t, op);
	}
	/* Half of the rings close over their reads. */
	if (t->nr % 2)
		reap_all(t);
	return NULL;
}

static void process_run(unsigned int nr, unsigned int seed)
{
	pthread_t id[THREADS];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGUSR1, on_signal);
	for (unsigned int i = 0; i < THREADS; i++) {
		threads[i].nr = nr * THREADS + i;
		threads[i].seed = seed * 1000 + threads[i].nr;
		threads[i].counts = &counts[threads[i].nr];
		pthread_create(&id[i], NULL, thread_run, &threads[i]);
	}
	for (unsigned int i = 0; i < THREADS; i++)
		pthread_join(id[i], NULL);
	_exit(0);
}

/* Unbinds the peer and binds it again, at random times; at the end it is bound. */
static void unbinder_run(const char *peer, unsigned int seed)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver/unbind", peer);
	while (now() < end_at - 2) {
		usleep(500000 + (useconds_t)rand_r(&seed) % 3000000);
		put_file(path, peer);
		put_file("/sys/bus/pci/drivers_probe", peer);
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	struct objects before;
	struct counts all = {};
	unsigned int seed;
	bool good = true;
	int nr = 0;

	if (argc != 5) {
		fprintf(stderr, "usage: %s FILE SECONDS SEED PEER\n", argv[0]);
		return 2;
	}
	file_path = argv[1];
	end_at = now() + atof(argv[2]);
	seed = strtoul(argv[3], NULL, 0);
	printf("# seed %u\n", seed);
	fflush(stdout);
	counts = mmap(NULL, PROCESSES * THREADS * sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	objects_read(&before);
	for (unsigned int i = 0; i < PROCESSES; i++, nr++)
		if (!fork())
			process_run(i, seed);
	if (strcmp(argv[4], "-")) {
		nr++;
		if (!fork())
			unbinder_run(argv[4], seed);
	}
	while (nr--) {
		int status = 1;

		wait(&status);
		if (status)
			printf("# a process ended with %#x\n", status);
		good = good && !status;
	}
	for (unsigned int i = 0; i < PROCESSES * THREADS; i++) {
		for (unsigned int k = 0; k < NR_OPS; k++) {
			all.tried[k] += counts[i].tried[k];
			all.good[k] += counts[i].good[k];
		}
		all.read_bytes += counts[i].read_bytes;
	}
	for (unsigned int k = 0; k < NR_OPS; k++) {
		bool possible = all.good[k] || ((k == BAR || k == ENUM) && !strcmp(argv[4], "-"));

		printf("# %s: %llu, %llu done\n", op_names[k], (unsigned long long)all.tried[k],
		       (unsigned long long)all.good[k]);
		if (!possible)
			tap(false, "%s was done at least once", op_names[k]);
	}
	printf("# %llu bytes read\n", (unsigned long long)all.read_bytes);
	tap(good, "no process hung or died");
	tap(all.read_bytes > 0, "there were reads");
	tap(objects_return_to(&before), "all is given back");
	return tap_done();
}
