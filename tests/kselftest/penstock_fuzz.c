// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random commands: several processes with several threads, each with opens,
 * regions and a ring of its own, do anything in any order, also to what is
 * another thread's. Processes end in each way, reads in flight or not, and
 * others begin. Meanwhile root unbinds a test peer and binds it again.
 *
 * penstock_fuzz [SECONDS [SEED]]: the seed that is printed gives each thread
 * the same random numbers again; how they meet is up to the machine.
 *
 * What is checked: nothing hangs, each answer is a documented one, each kind
 * of command was done, all is given back. That nothing breaks is up to the
 * kernel's log.
 */
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include "fuzz_thread.h"
#include "kselftest.h"

#define PROCESSES	3
#define HANG_SECONDS	90	/* more than a drive's time-out */
#define LOCKED_BYTES	(16UL << 20)

/* How a process ends: its threads have given all back, or have not, or it is killed. */
enum ending { END_JOIN, END_EXIT, END_KILL, ENDINGS };

struct shared {
	struct fuzz_counts counts[PROCESSES * THREADS];
	uint64_t processes[ENDINGS], unbound;
};

struct process {
	pid_t pid;
	enum ending ending;
	double end;
};

static struct shared *shared;
static volatile bool stop;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void sleep_until(double when)
{
	while (now() < when)
		usleep(10000);
}

static void on_signal(int sig)
{
}

/* Reads are what it is about; processes are dear. */
static enum fuzz_op choose(struct fuzz_random *r)
{
	uint32_t n = below(r, 100);
	enum fuzz_op op;

	if (n < 45)
		return OP_RING;
	if (n < 60)
		return OP_REAP;
	if (n < 64)
		return n & 1 ? OP_TOUCH : OP_FILE_READ;
	op = below(r, OP_HARMED);
	switch (op) {
	case OP_FORK:
	case OP_REOPEN:
	case OP_SIGNAL:
		return below(r, 6) ? OP_ALLOC : op;
	case OP_RESTART:
		return below(r, 20) ? OP_BAR : op;
	default:
		return op;
	}
}

static void *thread_run(void *arg)
{
	struct thread *t = arg;
	struct fuzz_counts *c = t->random.counts;

	answer_must(&t->random, thread_setup(t), "a thread has no ring");
	while (!stop) {
		enum fuzz_op op = choose(&t->random);
		int ret = do_op(t, op);

		if (ret == NO_ANSWER || ret == -ECANCELED)
			continue;
		c->tried[op]++;
		c->good[op] += !ret;
	}
	while (t->flying && reap(t, HANG_SECONDS))
		;
	answer_must(&t->random, !t->flying, "a read does not end");
	thread_drop(t);
	if (t->child > 0)
		child_wait(t->child, NULL);
	return NULL;
}

/* As somebody whose locked memory has a limit: a random length cannot take all that the machine has. */
static void limit_memory(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	struct rlimit limit;

	if (!syscall(__NR_capget, &header, data)) {
		data[CAP_TO_INDEX(CAP_IPC_LOCK)].effective &= ~CAP_TO_MASK(CAP_IPC_LOCK);
		data[CAP_TO_INDEX(CAP_IPC_LOCK)].permitted &= ~CAP_TO_MASK(CAP_IPC_LOCK);
		syscall(__NR_capset, &header, data);
	}
	getrlimit(RLIMIT_MEMLOCK, &limit);
	if (limit.rlim_cur > LOCKED_BYTES)
		limit.rlim_cur = LOCKED_BYTES;
	setrlimit(RLIMIT_MEMLOCK, &limit);
}

/* No return. @seed: of this process. */
static void process_run(unsigned int nr, uint64_t seed, const struct process *p)
{
	struct sigaction fault = { .sa_handler = on_fault }, noise = { .sa_handler = on_signal };
	struct thread *t;
	struct stat st;
	unsigned int i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	limit_memory();
	sigaction(SIGBUS, &fault, NULL);
	/* Without SA_RESTART: what waits gets EINTR. */
	sigaction(SIGUSR1, &noise, NULL);
	for (i = 0; i < THREADS; i++) {
		t = &threads[i];
		t->file = test_file_open(0);
		if (t->file < 0 || fstat(t->file, &st))
			_exit(2);
		t->file_size = (uint64_t)st.st_size;
		t->reads = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (t->reads == MAP_FAILED ||
		    !random_setup(&t->random, seed + i, &shared->counts[nr * THREADS + i]))
			_exit(2);
		t->id = pthread_self();
	}
	for (i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i].id, NULL, thread_run, &threads[i]))
			_exit(2);
	sleep_until(p->end);
	if (p->ending == END_KILL)
		kill(getpid(), SIGKILL);
	if (p->ending == END_EXIT)
		_exit(0);
	stop = true;
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i].id, NULL);
	_exit(0);
}

static void process_start(unsigned int nr, struct fuzz_random *r, double end, struct process *p)
{
	uint64_t seed = random_u64(r);

	p->ending = below(r, ENDINGS);
	p->end = now() + 2 + below(r, 10000) / 1e3;
	if (p->end > end)
		p->end = end;
	p->pid = fork();
	if (!p->pid)
		process_run(nr, seed, p);
	shared->processes[p->ending]++;
}

/* Whether it ended as it should have. */
static bool process_ended(const struct process *p, int status)
{
	bool good = p->ending == END_KILL ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL : !status;

	if (!good)
		ksft_print_msg("a process ended with %#x\n", status);
	return good;
}

/* No return. The peer is bound when it ends. */
static void unbinder_run(const char *address, uint64_t seed, double end)
{
	struct fuzz_random r = { .state = seed };
	char path[96];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver/unbind", address);
	do {
		usleep(500000 + below(&r, 2000000));
		shared->unbound += !file_write(path, address);
		usleep(below(&r, 300000));
		if (file_write("/sys/bus/pci/drivers_probe", address))
			_exit(1);
	} while (now() < end - 3);
	_exit(0);
}

/* Root may unbind a test peer: its address, or NULL. */
static const char *unbinder_address(int node)
{
	static char address[32];
	struct penstock_peer_enum peer;

	if (geteuid() || peer_first(node, &peer) || !(peer.out_flags & PENSTOCK_PEER_F_TEST))
		return NULL;
	snprintf(address, sizeof(address), "%04x:%02x:%02x.%u", peer.out_domain, peer.out_bus, peer.out_devfn >> 3,
		 peer.out_devfn & 7);
	return address;
}

/* Until the time is up and all have ended; whether all did, and as they should have. */
static bool run(double end, uint64_t seed, const char *address)
{
	struct fuzz_random r = { .state = seed };
	struct process p[PROCESSES + 1] = {};	/* the last one unbinds */
	unsigned int i, running = PROCESSES + !!address;
	bool good = true;
	int status;

	for (i = 0; i < PROCESSES; i++)
		process_start(i, &r, end, &p[i]);
	p[i] = (struct process) { .end = end };
	if (address) {
		p[i].pid = fork();
		if (!p[i].pid)
			unbinder_run(address, seed, end);
	}
	while (running) {
		for (i = 0; i <= PROCESSES; i++) {
			if (p[i].pid <= 0)
				continue;
			if (waitpid(p[i].pid, &status, WNOHANG) == p[i].pid) {
				p[i].pid = 0;
				good = process_ended(&p[i], status) && good;
				if (i < PROCESSES && now() < end - 1)
					process_start(i, &r, end, &p[i]);
				else
					running--;
			} else if (now() > p[i].end + HANG_SECONDS) {
				ksft_print_msg("process %u does not end\n", (unsigned int)p[i].pid);
				kill(p[i].pid, SIGKILL);
				return false;
			}
		}
		usleep(10000);
	}
	return good;
}

/* What was done; whether each kind was that could be. */
static bool print_counts(const struct penstock_info *info, const char *address)
{
	struct fuzz_counts sum = {};
	uint64_t commands = 0;
	unsigned int i, k;
	bool all = true;

	for (i = 0; i < PROCESSES * THREADS; i++) {
		for (k = 0; k < OP_NR; k++) {
			sum.tried[k] += shared->counts[i].tried[k];
			sum.good[k] += shared->counts[i].good[k];
		}
		sum.bytes += shared->counts[i].bytes;
	}
	for (k = 0; k < OP_NR; k++) {
		bool possible = k == OP_BAR || k == OP_ENUM ? info->out_nr_peers : k == OP_EVENT ? !!address :
			k == OP_SHARE || k == OP_EXPORT ? !!(info->out_features & PENSTOCK_FEATURE_DMABUF) : true;

		ksft_print_msg("%s: %" PRIu64 ", %" PRIu64 " done%s\n", fuzz_names[k], sum.tried[k], sum.good[k],
			       possible ? "" : " (there is nothing to do it to)");
		commands += sum.tried[k];
		all = all && (sum.good[k] || !possible);
	}
	ksft_print_msg("%" PRIu64 " commands; %" PRIu64 " by a ring, %" PRIu64 " REGION_READ, %" PRIu64 " bytes\n",
		       commands, sum.good[OP_RING], sum.good[OP_READ], sum.bytes);
	ksft_print_msg("processes: %" PRIu64 " to their end, %" PRIu64 " left, %" PRIu64 " killed\n",
		       shared->processes[END_JOIN], shared->processes[END_EXIT], shared->processes[END_KILL]);
	ksft_print_msg("the peer was unbound %" PRIu64 " times\n", shared->unbound);
	return all && (!address || shared->unbound);
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? strtod(argv[1], NULL) : 20;
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)time(NULL) % 1000000, bad = 0;
	struct objects before;
	bool counted = objects_get(&before), good;
	int node = node_open(O_CLOEXEC), file = test_file_open(0);
	struct penstock_info info;
	const char *address;
	struct uring ring;
	unsigned int i;

	ksft_print_header();
	if (node < 0 || file < 0)
		ksft_exit_skip("no %s\n", file < 0 ? "PENSTOCK_TEST_FILE" : node_path());
	if (uring_init(&ring, IORING_SETUP_SQE128))
		ksft_exit_skip("no io_uring\n");
	uring_exit(&ring);
	ksft_set_plan(4);
	ksft_print_msg("seed %" PRIu64 "\n", seed);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || info_get(node, &info))
		return KSFT_FAIL;
	address = unbinder_address(node);
	close(node);
	close(file);

	good = run(now() + seconds, seed, address);
	for (i = 0; i < PROCESSES * THREADS; i++)
		bad += shared->counts[i].bad;
	ksft_test_result(good, "nothing hangs, nothing dies\n");
	ksft_test_result(!bad, "each answer is a documented one\n");
	ksft_test_result(print_counts(&info, address), "each kind of command was done\n");
	if (counted)
		ksft_test_result(objects_settle(&before, 60), "all is given back\n");
	else
		ksft_test_result_skip("all is given back # SKIP no %s\n", OBJECTS_PATH);
	ksft_finished();
}
