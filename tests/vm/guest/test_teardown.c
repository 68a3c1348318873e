// SPDX-License-Identifier: MIT
/*
 * Teardown with reads in flight: a worker process puts reads in flight on a
 * throttled drive by one of the routes, proves that they are in flight, and
 * then something is taken away under them: a mapping, the ring, the process,
 * the region, the peer, the drive. Nothing may hang longer than the drive's
 * timeout, and everything is given back.
 *
 * test_teardown DRIVE PEER [CASE...]: block device to read from; PCI address of
 * the peer, or "-"; which cases run, none: all. teardown.sh has the host
 * throttle the drive, and does what happens to the machine from outside.
 */
#include <dirent.h>
#include <pthread.h>
#include <sys/poll.h>
#include <sys/syscall.h>
#include "memory.h"

#define TEARDOWN	"busybox sh /tests/teardown.sh"
#define READ_LEN	(256U << 10)
#define NR_READS	8
#define REGION_LEN	((uint64_t)READ_LEN * NR_READS)
/* The NVMe timeout is 30 s; a case that takes longer hung. */
#define LIMIT_S		45

enum route { DIRECT_HOST, DIRECT_BAR, IOCTL_HOST, IOCTL_BAR, MAPPED_BAR, NR_ROUTES };
static const char *const route_names[] = { "uring into host", "uring into BAR", "ioctl into host", "ioctl into BAR",
	"O_DIRECT into a mapped BAR" };

/* What the worker itself does once its reads are in flight. */
enum act { ACT_REAP, ACT_REAP_EVENT, ACT_MUNMAP, ACT_CLOSE_RING, ACT_FREE, ACT_FREE_WAIT, ACT_CLOSE_NODE, ACT_PAUSE };

struct worker {
	enum route route;
	int node, drive;
	uint32_t target, region;
	void *map;
	struct io_uring ring;
	pthread_t thread;
	struct penstock_read reads[NR_READS];
	int ioctl_ret;
};

/* What it reports at the end. */
struct report {
	int failed_at;		/* line of what went wrong before the reads, or 0 */
	int error;
	int nr_good, nr_bad, first_bad;
	int act_ret;
	uint32_t act_in_flight;
	double act_s;
	int revoked_reason;
};

static const char *drive_path, *peer_addr;
static char drive_name[64];

static void *ioctl_thread(void *arg)
{
	struct worker *w = arg;
	struct penstock_region_read cmd = { .size = sizeof(cmd), .nr_reads = NR_READS,
		.read_size = sizeof(w->reads[0]), .reads_uptr = (uintptr_t)w->reads };

	w->ioctl_ret = node_ioctl(w->node, PENSTOCK_IOC_REGION_READ, &cmd);
	return NULL;
}

/* Reads in flight on the drive, as the block layer counts them. */
static int drive_inflight(void)
{
	char path[128], text[64];

	snprintf(path, sizeof(path), "/sys/block/%s/inflight", drive_name);
	return get_file(path, text, sizeof(text)) ? -1 : atoi(text);
}

static bool route_is_bar(enum route route)
{
	return route == DIRECT_BAR || route == IOCTL_BAR || route == MAPPED_BAR;
}

static int worker_open(struct worker *w, struct report *r)
{
	struct penstock_target_add add;
	struct penstock_peer_enum peer;
	struct penstock_region_alloc alloc;
	struct penstock_region_peer bar;
	uint64_t mmap_offset;
	int ret;

#define CHECK(expr) do { ret = (expr); if (ret < 0) { r->failed_at = __LINE__; r->error = ret; return ret; } } while (0)
	CHECK(w->node = node_open());
	w->drive = open(drive_path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	CHECK(w->drive < 0 ? -errno : 0);
	CHECK(target_add(w->node, w->drive, &add));
	w->target = add.out_target_id;
	if (route_is_bar(w->route)) {
		CHECK(peer_first(w->node, &peer));
		CHECK(region_bar(w->node, peer.out_peer_id, REGION_LEN, &bar));
		w->region = bar.out_region_id;
		mmap_offset = bar.out_mmap_offset;
	} else {
		CHECK(region_alloc(w->node, REGION_LEN, 9, &alloc));
		w->region = alloc.out_region_id;
		mmap_offset = alloc.out_mmap_offset;
	}
	w->map = mmap(NULL, REGION_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, w->node, mmap_offset);
	CHECK(w->map == MAP_FAILED ? -errno : 0);
	memset(w->map, 0x5a, REGION_LEN);
	return 0;
}

static int worker_submit(struct worker *w, struct report *r)
{
	int ret, i;

	switch (w->route) {
	case IOCTL_HOST:
	case IOCTL_BAR:
		for (i = 0; i < NR_READS; i++)
			w->reads[i] = (struct penstock_read) { .target_id = w->target, .region_id = w->region,
				.offset = (uint64_t)i * READ_LEN, .region_offset = (uint64_t)i * READ_LEN,
				.length = READ_LEN, .out_result = -1000 };
		CHECK(-pthread_create(&w->thread, NULL, ioctl_thread, w));
		return 0;
	case MAPPED_BAR:
		CHECK(io_uring_queue_init(NR_READS, &w->ring, 0));
		for (i = 0; i < NR_READS; i++) {
			struct io_uring_sqe *sqe = io_uring_get_sqe(&w->ring);

			io_uring_prep_read(sqe, w->drive, (char *)w->map + (size_t)i * READ_LEN, READ_LEN,
					   (uint64_t)i * READ_LEN);
		}
		break;
	default:
		CHECK(ring_init(&w->ring, NR_READS, 0));
		for (i = 0; i < NR_READS; i++)
			ring_read(&w->ring, w->node, w->target, w->region, (uint64_t)i * READ_LEN,
				  (uint64_t)i * READ_LEN, READ_LEN, i);
	}
	CHECK(io_uring_submit(&w->ring));
	return 0;
}

static int worker_in_flight(struct worker *w)
{
	struct penstock_region_stat stat;

	if (w->route == MAPPED_BAR)
		return drive_inflight();
	return region_stat(w->node, w->region, &stat) ? -1 : (int)stat.out_in_flight;
}

static void count_result(struct report *r, long result)
{
	if (result == READ_LEN) {
		r->nr_good++;
	} else {
		if (!r->nr_bad)
			r->first_bad = (int)result;
		r->nr_bad++;
	}
}

static void worker_reap(struct worker *w, struct report *r)
{
	struct io_uring_cqe cqe;
	int i;

	if (w->route == IOCTL_HOST || w->route == IOCTL_BAR) {
		pthread_join(w->thread, NULL);
		for (i = 0; i < NR_READS; i++)
			count_result(r, w->reads[i].out_result);
		return;
	}
	for (i = 0; i < NR_READS; i++) {
		if (ring_reap(&w->ring, LIMIT_S, &cqe)) {
			r->failed_at = __LINE__;
			return;
		}
		count_result(r, cqe.res);
	}
}

static void worker_event(struct worker *w, struct report *r)
{
	struct pollfd p = { .fd = w->node, .events = POLLIN };
	struct penstock_event event;

	while (poll(&p, 1, LIMIT_S * 1000) == 1 && read(w->node, &event, sizeof(event)) == sizeof(event))
		if (event.event == PENSTOCK_EVENT_REVOKED && event.region_id == w->region) {
			r->revoked_reason = event.reason;
			return;
		}
}

/* The worker process: to the end, or until it is killed. @ready: written to when the reads are in flight. */
static void worker_run(enum route route, enum act act, int ready, int result)
{
	static struct worker w;
	struct report r = {};
	double begin;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	w.route = route;
	if (!worker_open(&w, &r) && !worker_submit(&w, &r)) {
		int flying;

		/* Seen once: the ioctl's reads come one after the other, with nothing in flight in between. */
		for (begin = now(); (flying = worker_in_flight(&w)) <= 0 && now() - begin < 5;)
			usleep(1000);
		if (flying <= 0) {
			r.failed_at = __LINE__;	/* vacuous: nothing was in flight */
			r.error = -ENODATA;
		}
	}
	if (write(ready, r.failed_at ? "f" : "r", 1) != 1)
		_exit(2);
	begin = now();
	if (!r.failed_at)
		switch (act) {
		case ACT_MUNMAP:
			r.act_ret = munmap(w.map, REGION_LEN);
			worker_reap(&w, &r);
			break;
		case ACT_CLOSE_RING:
			io_uring_queue_exit(&w.ring);
			break;
		case ACT_FREE:
		case ACT_FREE_WAIT:
			r.act_ret = region_free(w.node, w.region,
						act == ACT_FREE_WAIT ? PENSTOCK_REGION_FREE_F_WAIT : 0, &r.act_in_flight);
			r.act_s = now() - begin;
			worker_reap(&w, &r);
			break;
		case ACT_CLOSE_NODE:
			close(w.node);
			worker_reap(&w, &r);
			break;
		case ACT_PAUSE:
			for (;;)
				pause();
		case ACT_REAP:
			worker_reap(&w, &r);
			break;
		case ACT_REAP_EVENT:
			worker_reap(&w, &r);
			worker_event(&w, &r);
			break;
		}
	if (!r.act_s)
		r.act_s = now() - begin;
	if (write(result, &r, sizeof(r)) != sizeof(r))
		_exit(2);
	_exit(0);
}

struct run {
	pid_t pid;
	int ready, result;
	double begin;
};

static bool run_start(struct run *run, enum route route, enum act act)
{
	int ready[2], result[2];
	char c = 0;

	if (pipe(ready) || pipe(result))
		return false;
	run->pid = fork();
	if (!run->pid) {
		close(ready[0]);
		close(result[0]);
		worker_run(route, act, ready[1], result[1]);
	}
	close(ready[1]);
	close(result[1]);
	run->ready = ready[0];
	run->result = result[0];
	run->begin = now();
	return read(run->ready, &c, 1) == 1 && c == 'r';
}

/* False when it hung. */
static bool run_end(struct run *run, struct report *report)
{
	struct pollfd p = { .fd = run->result, .events = POLLIN };
	bool good = true;

	memset(report, 0, sizeof(*report));
	if (poll(&p, 1, LIMIT_S * 1000) != 1) {
		printf("# hangs after %d s\n", LIMIT_S);
		good = false;
	} else if (read(run->result, report, sizeof(*report)) == sizeof(*report) && report->failed_at) {
		printf("# worker failed at line %d: %s\n", report->failed_at, strerror(-report->error));
		good = false;
	}
	kill(run->pid, SIGKILL);
	waitpid(run->pid, NULL, 0);
	close(run->ready);
	close(run->result);
	return good;
}

/* ---- all given back ---- */

static const char *const objects[] = { "opens", "regions", "memories", "targets", "dmabufs", "reads_in_flight",
	"host_pages", "pinned_pages", "peer_bytes" };

static bool all_given_back(void)
{
	double begin = now();
	unsigned int i;

	for (i = 0; i < sizeof(objects) / sizeof(objects[0]);) {
		long long n = objects_get(objects[i]);

		if (!n) {
			i++;
		} else if (n < 0 || now() - begin > LIMIT_S) {
			printf("# %s: %lld are left\n", objects[i], n);
			return false;
		} else {
			usleep(20000);
		}
	}
	return true;
}

/* ---- the cases ---- */

static bool wanted(int argc, char **argv, const char *name)
{
	int i;

	for (i = 3; i < argc; i++)
		if (!strcmp(argv[i], name))
			return true;
	return argc <= 3;
}

static bool route_possible(enum route route)
{
	return !route_is_bar(route) || strcmp(peer_addr, "-");
}

#define for_each_route(route) \
	for (enum route route = 0; route < NR_ROUTES; route++) if (route_possible(route))

static void case_self(const char *name, enum act act, bool (*good)(enum route, const struct report *))
{
	for_each_route(route) {
		struct report report;
		struct run run;
		bool ok;

		/* An ioctl has no ring; a mapping is what munmap() takes away. */
		if (act == ACT_CLOSE_RING && (route == IOCTL_HOST || route == IOCTL_BAR))
			continue;
		ok = run_start(&run, route, act);
		ok = run_end(&run, &report) && ok && good(route, &report);
		if (!ok)
			printf("# good %d bad %d (%d) act %d, %u in flight, %.1f s\n", report.nr_good, report.nr_bad,
			       report.first_bad, report.act_ret, report.act_in_flight, report.act_s);
		ok = all_given_back() && ok;
		tap(ok, "%s, %s", name, route_names[route]);
	}
}

static bool good_munmap(enum route route, const struct report *r)
{
	return !r->act_ret && r->nr_good == NR_READS;
}

static bool good_close(enum route route, const struct report *r)
{
	return true;
}

static bool good_close_node(enum route route, const struct report *r)
{
	return r->nr_good == NR_READS;
}

static bool good_free(enum route route, const struct report *r)
{
	return r->act_ret == -EBUSY && r->act_in_flight > 0 && r->nr_good == NR_READS;
}

static bool good_free_wait(enum route route, const struct report *r)
{
	/* REGION_READ does its reads one after the other: those that come after the free do not start. */
	if (route == IOCTL_HOST || route == IOCTL_BAR)
		return !r->act_ret && r->nr_good >= 1 && r->nr_good + r->nr_bad == NR_READS &&
		       (r->first_bad == -ENOENT || r->first_bad == -ENODEV);
	return !r->act_ret && r->nr_good == NR_READS && r->act_s > 0.05;
}

static void case_kill(void)
{
	for_each_route(route) {
		struct run run;
		double begin;
		int status;
		bool ok = run_start(&run, route, ACT_PAUSE);

		begin = now();
		kill(run.pid, SIGKILL);
		waitpid(run.pid, &status, 0);
		close(run.ready);
		close(run.result);
		ok = ok && now() - begin < LIMIT_S;
		ok = all_given_back() && ok;
		tap(ok, "SIGKILL, %s", route_names[route]);
	}
}

/* Does something to the machine while reads are in flight. */
struct outer {
	const char *name;
	const char *path;	/* written to, or NULL: @command is run */
	const char *text;
	const char *command;
	const char *prepare;	/* command to be run before the reads, or NULL */
	bool peer;		/* takes the peer away */
	bool drive;		/* takes the drive away */
	bool harmless;		/* reads end well */
	bool slow;		/* takes as long as the drive's timeout: two routes are enough */
	const char *restore;	/* command that brings back what was taken away */
	unsigned int reason;	/* of the event, or 0 */
};

static bool good_outer(const struct outer *o, enum route route, const struct report *r)
{
	bool all = r->nr_good + r->nr_bad == NR_READS;

	if (o->harmless)
		return r->nr_good == NR_READS;
	if (o->peer && route_is_bar(route)) {
		bool event = r->revoked_reason == (int)o->reason;

		/* Reads in flight run out; the ioctl's later ones are refused. */
		if (route == IOCTL_BAR)
			return all && event && r->nr_good >= 1 && (r->first_bad == -ENODEV || !r->nr_bad);
		return all && event && r->nr_good == NR_READS;
	}
	/* They may have ended before, or be repeated when the drive's driver has reset it. */
	if (o->drive)
		return all;
	return r->nr_good == NR_READS;
}

static void case_outer(const struct outer *o)
{
	for_each_route(route) {
		struct report report;
		struct run run;
		double begin;
		int ret = 0;
		bool ok;

		if (o->slow && route != DIRECT_BAR && route != IOCTL_HOST)
			continue;
		ok = !o->prepare || !system(o->prepare);
		ok = ok && run_start(&run, route, o->peer && route_is_bar(route) ? ACT_REAP_EVENT : ACT_REAP);
		begin = now();
		if (ok)
			ret = o->path ? put_file(o->path, o->text) : system(o->command);
		if (ret)
			printf("# %s: %d\n", o->path ? o->path : o->command, ret);
		if (now() - begin > LIMIT_S) {
			printf("# took %.1f s\n", now() - begin);
			ok = false;
		}
		ok = run_end(&run, &report) && ok && !ret && good_outer(o, route, &report);
		if (!ok)
			printf("# good %d bad %d (%d), event %d\n", report.nr_good, report.nr_bad, report.first_bad,
			       report.revoked_reason);
		ok = all_given_back() && ok;
		if (o->restore && system(o->restore)) {
			printf("# could not be brought back: %s\n", o->restore);
			ok = false;
		}
		tap(ok, "%s, %s", o->name, route_names[route]);
	}
}

static int rmmod(void)
{
	return syscall(SYS_delete_module, "penstock", O_NONBLOCK) ? -errno : 0;
}

/* Not while reads are in flight; at once when their process is gone. */
static void case_rmmod(void)
{
	for_each_route(route) {
		struct run run;
		double begin;
		int early, late;
		bool ok = run_start(&run, route, ACT_PAUSE);

		early = rmmod();
		kill(run.pid, SIGKILL);
		waitpid(run.pid, NULL, 0);
		close(run.ready);
		close(run.result);
		begin = now();
		/* The exit of a ring closes the node, and waits for its reads, in a worker. */
		while ((late = rmmod()) && now() - begin < LIMIT_S)
			usleep(1000);
		if (early != -EAGAIN && early != -EBUSY) {
			printf("# with reads in flight: %d\n", early);
			ok = false;
		}
		if (late || system(TEARDOWN " insmod")) {
			printf("# afterwards: %d\n", late);
			ok = false;
		}
		tap(ok, "rmmod, %s", route_names[route]);
	}
}

/* The controller of a block device: /sys/block/NAME/device/reset_controller */
static void case_controller_reset(void)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/block/%s/device/reset_controller", drive_name);
	/* With native multipath the parent is the subsystem; the controller has the same number here. */
	if (access(path, W_OK))
		snprintf(path, sizeof(path), "/sys/class/nvme/%.*s/reset_controller",
			 (int)strcspn(drive_name + 4, "n") + 4, drive_name);
	case_outer(&(struct outer) { .name = "controller reset", .path = path, .text = "1", .harmless = true });
}

int main(int argc, char **argv)
{
	char unbind[128], reset[128], rebind[160];

	if (argc < 3) {
		fprintf(stderr, "usage: %s DRIVE PEER [CASE...]\n", argv[0]);
		return 2;
	}
	drive_path = argv[1];
	peer_addr = argv[2];
	snprintf(drive_name, sizeof(drive_name), "%s", strrchr(drive_path, '/') + 1);
	snprintf(unbind, sizeof(unbind), "/sys/bus/pci/devices/%s/driver/unbind", peer_addr);
	snprintf(reset, sizeof(reset), "/sys/bus/pci/devices/%s/reset", peer_addr);
	snprintf(rebind, sizeof(rebind), TEARDOWN " peer-rebind %s", peer_addr);

	if (wanted(argc, argv, "munmap"))
		case_self("munmap", ACT_MUNMAP, good_munmap);
	if (wanted(argc, argv, "close-ring"))
		case_self("ring close", ACT_CLOSE_RING, good_close);
	if (wanted(argc, argv, "close-node"))
		case_self("node close", ACT_CLOSE_NODE, good_close_node);
	if (wanted(argc, argv, "free"))
		case_self("REGION_FREE says EBUSY", ACT_FREE, good_free);
	if (wanted(argc, argv, "free-wait"))
		case_self("REGION_FREE waits", ACT_FREE_WAIT, good_free_wait);
	if (wanted(argc, argv, "kill"))
		case_kill();
	if (wanted(argc, argv, "rmmod"))
		case_rmmod();
	if (wanted(argc, argv, "controller-reset"))
		case_controller_reset();
	if (strcmp(peer_addr, "-") && wanted(argc, argv, "unbind"))
		case_outer(&(struct outer) { .name = "unbind of the peer", .path = unbind, .text = peer_addr, .peer = true,
			   .restore = rebind, .reason = PENSTOCK_REASON_UNBOUND });
	if (strcmp(peer_addr, "-") && wanted(argc, argv, "reset")) {
		if (access(reset, W_OK))
			tap_skip("reset of the peer", "the kernel has no way to reset it");
		else
			case_outer(&(struct outer) { .name = "reset of the peer", .path = reset, .text = "1", .peer = true,
				   .reason = PENSTOCK_REASON_RESET });
	}
	if (strcmp(peer_addr, "-") && wanted(argc, argv, "peer-del"))
		case_outer(&(struct outer) { .name = "device_del of the peer", .command = TEARDOWN " peer-del",
			   .prepare = TEARDOWN " slow", .peer = true, .restore = TEARDOWN " peer-add",
			   .reason = PENSTOCK_REASON_UNBOUND });
	if (wanted(argc, argv, "drive-del"))
		case_outer(&(struct outer) { .name = "device_del of the drive", .command = TEARDOWN " drive-del",
			   .prepare = TEARDOWN " slow", .drive = true, .restore = TEARDOWN " drive-add" });
	if (wanted(argc, argv, "drive-silent"))
		case_outer(&(struct outer) { .name = "the drive is silent", .command = TEARDOWN " drive-silent",
			   .prepare = TEARDOWN " slow", .drive = true, .slow = true,
			   .restore = TEARDOWN " drive-wake" });
	return tap_done();
}
