// SPDX-License-Identifier: MIT
/*
 * REGION_READ: many reads in one call, good and bad ones among each other;
 * signals; who may read into pinned memory. What is refused:
 * tests/kselftest/penstock_read.c.
 *
 * test_read_ioctl FOLDER DRIVE: a folder with the bench's file data; the raw
 * drive "raw", which the host throttles for us.
 */
#include <sys/time.h>
#include "read.h"

#define MIB		(1ULL << 20)
#define UNTOUCHED	(-12345)

static int node;
static struct source file, raw;
static struct dest host;

static int read_many(struct penstock_read *reads, uint32_t nr, uint32_t size, uint32_t *nr_done)
{
	struct penstock_region_read cmd = { .size = sizeof(cmd), .nr_reads = nr, .read_size = size,
		.reads_uptr = (uintptr_t)reads, .out_nr_done = 77 };
	int ret = node_ioctl(node, PENSTOCK_IOC_REGION_READ, &cmd);

	*nr_done = cmd.out_nr_done;
	return ret;
}

static struct penstock_read one(const struct source *s, uint64_t offset, uint64_t region_offset, uint32_t len)
{
	return (struct penstock_read) { .target_id = s->add.out_target_id, .region_id = host.id, .offset = offset,
		.region_offset = region_offset, .length = len, .out_result = UNTOUCHED };
}

static void test_mixed(void)
{
	struct penstock_read reads[] = {
		one(&file, 8192, 0, 4096),
		one(&file, 1, 0, 4096),
		one(&raw, 4096, 4096, 8192),
		one(&file, 0, host.len, 4096),
		one(&file, 0, 0, 4096),
		one(&file, 0, 0, 4096),
		one(&file, 0, UINT64_MAX - 511, 512),
		one(&raw, raw.size - 4096, 16384, 8192),
		one(&file, 4096, 65536, 65536),
	};
	static const int64_t want[] = { 4096, -EINVAL, 8192, -EINVAL, -ENOENT, -EOPNOTSUPP, -EOVERFLOW, 4096, 65536 };
	uint32_t nr = sizeof(reads) / sizeof(*reads), done;
	bool good = true;

	reads[4].target_id += 999;
	reads[5].flags = 1;
	memset(host.map, POISON, host.len);
	tap(!read_many(reads, nr, sizeof(*reads), &done) && done == nr, "good and bad reads in one call (%u)", done);
	for (uint32_t i = 0; i < nr; i++) {
		if (reads[i].out_result != want[i]) {
			printf("# read %u: %lld, want %lld\n", i, (long long)reads[i].out_result, (long long)want[i]);
			good = false;
		}
	}
	tap(good, "each has its own result");
	tap(first_wrong(&file, host.map, 8192, 4096) < 0 && first_wrong(&raw, host.map + 4096, 4096, 8192) < 0 &&
	    first_not(host.map + 12288, POISON, 4096) < 0 &&
	    first_wrong(&raw, host.map + 16384, raw.size - 4096, 4096) < 0 &&
	    first_not(host.map + 20480, POISON, 45056) < 0 &&
	    first_wrong(&file, host.map + 65536, 4096, 65536) < 0,
	    "the good ones bring their bytes, the bad ones nothing");
}

/* ---- signals ---- */

static volatile sig_atomic_t alarms;

static void on_alarm(int signal)
{
	(void)signal;
	alarms++;
}

static void test_signal(int sa_flags, const char *how)
{
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = sa_flags };
	struct itimerval timer = { .it_value.tv_usec = 700000 };
	struct penstock_read reads[64];
	uint32_t done, untouched = 0;
	bool good = true;
	int ret;

	for (int i = 0; i < 64; i++)
		reads[i] = one(&raw, i * 262144ULL, i % 8 * 262144ULL, 262144);
	if (system("host throttle raw 1048576"))
		tap(false, "the host throttles the drive");
	alarms = 0;
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	ret = read_many(reads, 64, sizeof(*reads), &done);
	for (uint32_t i = 0; i < 64; i++) {
		good &= i >= done || reads[i].out_result == 262144;
		untouched += reads[i].out_result == UNTOUCHED;
	}
	tap(ret == -EINTR && alarms == 1 && done > 0 && done < 64 && good && untouched == 64 - done,
	    "%s: a signal ends the call between two reads (%d, %u done)", how, ret, done);
	tap_eq(read_many(reads, 1, sizeof(*reads), &done), 0, "the next call goes on");
	if (system("host throttle raw 0"))
		tap(false, "the drive is released");
}

/* ---- who may ---- */

static int64_t read_in_child(const struct dest *d, bool by_ring)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		struct io_uring ring;
		int64_t ret;

		if (by_ring)
			ret = ring_init(&ring, 4, 0)
				      ?: read_ring(&ring, node, file.add.out_target_id, d->id, 0, 0, 4096, 0);
		else
			ret = read_ioctl(node, file.add.out_target_id, d->id, 0, 0, 4096);
		_exit(ret == 4096 ? 0 : -ret);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EINTR;
}

static void test_who(void)
{
	struct penstock_region_stat stat;
	struct dest pinned;

	if (!tap(!dest_pin(node, 65536, &pinned), "a pinned region"))
		return;
	tap_eq(read_in_child(&pinned, false), -EPERM, "another process may not read into it");
	tap_eq(read_in_child(&pinned, true), -EPERM, "nor by a ring");
	region_stat(node, pinned.id, &stat);
	tap(stat.out_refused == 2 && !stat.out_reads, "which counts as refused");
	tap_eq(read_in_child(&host, false), 0, "into the driver's memory it may");
	tap_eq(read_in_child(&host, true), 0, "also by a ring");
	tap_eq(read_ioctl(node, file.add.out_target_id, pinned.id, 0, 0, 4096), 4096, "its owner may");
}

int main(int argc, char **argv)
{
	char path[256];

	node = node_open();
	if (argc != 3 || node < 0) {
		tap_skip("REGION_READ", "no module, or no file and drive");
		return tap_done() ? 1 : 4;
	}
	snprintf(path, sizeof(path), "%s/data", argv[1]);
	if (!tap(!source_open(node, "file", path, &file) && !source_open(node, "drive", argv[2], &raw) &&
		 !dest_alloc(node, "host", 2 * MIB, 0, &host), "targets and a region"))
		return tap_done();
	test_mixed();
	test_signal(0, "EINTR");
	test_signal(SA_RESTART, "not restarted");
	test_who();
	return tap_done();
}
