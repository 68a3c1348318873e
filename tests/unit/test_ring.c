// SPDX-License-Identifier: MIT
/* Both engines against a file whose bytes are known, with signals, truncation, wakes, threads and forks. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/time.h>
#include "ring_load.h"

#define FILE_SIZE	((3u << 20) + 100)
#define READ_MOST	(256u << 10)

static const struct penstock_ring_ops *const engines[] = { &penstock_ring_uring, &penstock_ring_pread };

static struct penstock_store store;

static void add_file(uint64_t size, bool no_direct)
{
	struct penstock_error err = { 0 };
	const char *path = files_path("data");
	uint32_t nr;

	files_make(path, size);
	ASSERT_EQ(0, penstock_store_add(&store, path, &nr, &err));
	ASSERT_EQ(0, penstock_store_probe(&store, nr, no_direct, &err));
}

static struct penstock_ring *open_ring(const struct penstock_ring_ops *ops, uint32_t depth)
{
	struct penstock_error err = { 0 };
	struct penstock_ring *r;
	int ret = penstock_ring_open(ops, depth, &r, &err);

	if (ret == -EOPNOTSUPP)
		SKIP("%s", err.text);
	if (ret)
		TEST_FAIL_(1, "%s", err.text);
	EXPECT_STREQ(ops->name, penstock_ring_name(r));
	EXPECT_EQ(depth, penstock_ring_depth(r));
	return r;
}

static void run_load(const struct penstock_ring_ops *ops, uint32_t depth, uint32_t nr, bool buffer)
{
	struct penstock_ring *r = open_ring(ops, depth);
	struct ring_load l = { .store = &store, .depth = depth, .nr = nr, .most = READ_MOST, .buffer = buffer,
			       .seed = depth };

	load_run(&l, r);
	EXPECT_EQ(nr, l.finished);
	penstock_ring_close(r);
}

TEST(uring_reads_every_byte_right)
{
	add_file(FILE_SIZE, false);
	run_load(&penstock_ring_uring, 1, 200, false);
	run_load(&penstock_ring_uring, 64, 1000, false);
	penstock_store_close(&store);
}

TEST(uring_reads_into_registered_memory)
{
	add_file(FILE_SIZE, false);
	run_load(&penstock_ring_uring, 1, 200, true);
	run_load(&penstock_ring_uring, 64, 1000, true);
	penstock_store_close(&store);
}

TEST(pread_reads_every_byte_right)
{
	add_file(FILE_SIZE, false);
	run_load(&penstock_ring_pread, 1, 200, false);
	run_load(&penstock_ring_pread, 64, 1000, true);
	penstock_store_close(&store);
}

TEST(rings_read_through_the_page_cache)
{
	add_file(FILE_SIZE, true);
	EXPECT_EQ(1, store.files[0].align);
	run_load(&penstock_ring_pread, 16, 300, false);
	run_load(&penstock_ring_uring, 16, 300, false);
	penstock_store_close(&store);
}

TEST(rings_read_files_of_odd_sizes)
{
	static const uint64_t sizes[] = { 1, 100, 511, 512, 513, 612, 1023, 4095, 4096, 4097, 7 * 512 + 1, 7 * 512 + 511 };
	struct penstock_ring *r;
	size_t e, i;

	for (e = 0; e < PENSTOCK_ARRAY_SIZE(engines); e++)
		for (i = 0; i < PENSTOCK_ARRAY_SIZE(sizes); i++) {
			struct ring_load l = { .store = &store, .depth = 4, .nr = 20, .most = READ_MOST, .seed = i };

			add_file(sizes[i], false);
			r = open_ring(engines[e], 4);
			load_run(&l, r);
			penstock_ring_close(r);
			penstock_store_close(&store);
		}
}

static volatile sig_atomic_t nr_alarms;

static void count_alarm(int sig)
{
	nr_alarms++;
}

TEST(rings_are_not_stopped_by_signals)
{
	struct sigaction sa = { .sa_handler = count_alarm };
	struct itimerval every = { { 0, 1000 }, { 0, 1000 } }, off = { 0 };
	size_t e;

	add_file(FILE_SIZE, false);
	sigaction(SIGALRM, &sa, NULL);
	for (e = 0; e < PENSTOCK_ARRAY_SIZE(engines); e++) {
		nr_alarms = 0;
		setitimer(ITIMER_REAL, &every, NULL);
		while (nr_alarms < 50)
			run_load(engines[e], 8, 100, true);
		setitimer(ITIMER_REAL, &off, NULL);
	}
	penstock_store_close(&store);
}

TEST(rings_wait_out_signals)
{
	struct sigaction sa = { .sa_handler = count_alarm };
	struct itimerval every = { { 0, 1000 }, { 0, 1000 } }, off = { 0 };
	struct penstock_read *got;
	struct penstock_ring *r;
	uint64_t begin;
	size_t e;

	sigaction(SIGALRM, &sa, NULL);
	for (e = 0; e < PENSTOCK_ARRAY_SIZE(engines); e++) {
		r = open_ring(engines[e], 4);
		setitimer(ITIMER_REAL, &every, NULL);
		begin = penstock_now_ns();
		EXPECT_EQ(0, penstock_ring_reap(r, 30000000, &got));
		EXPECT_GE(penstock_now_ns() - begin, 30000000);
		setitimer(ITIMER_REAL, &off, NULL);
		penstock_ring_close(r);
	}
}

TEST(ring_reports_a_file_that_became_shorter)
{
	struct penstock_ring *r;
	size_t e;

	for (e = 0; e < PENSTOCK_ARRAY_SIZE(engines); e++) {
		struct ring_load l = { .store = &store, .depth = 16, .nr = 300, .most = READ_MOST, .any_status = true };

		add_file(FILE_SIZE, false);
		r = open_ring(engines[e], 16);
		ASSERT_EQ(0, truncate(store.files[0].path, (1 << 20) + 100));
		load_run(&l, r);
		EXPECT_GT(l.failed, 100);
		EXPECT_LT(l.failed, 300);
		penstock_ring_close(r);
		penstock_store_close(&store);
	}
}

/* One read of @need of @len bytes at 0 of a file that ends after @size. Return: its status. */
static int read_short_file(const struct penstock_ring_ops *ops, uint64_t size, uint32_t len, uint32_t need,
			   bool no_direct)
{
	static char mem[64 << 10] __attribute__((aligned(4096)));
	struct penstock_read read = { .buf = -1, .len = len, .need = need, .dst = mem }, *got;
	struct penstock_ring *r = open_ring(ops, 1);

	add_file(64 << 10, no_direct);
	ASSERT_EQ(0, penstock_ring_set_files(r, &store.files[0].dfd, 1));
	ASSERT_EQ(0, truncate(store.files[0].path, (off_t)size));
	ASSERT_TRUE(!penstock_ring_submit(r, &read));
	ASSERT_EQ(1, penstock_ring_reap(r, 5000000000u, &got));
	penstock_ring_close(r);
	penstock_store_close(&store);
	return got->status;
}

TEST(ring_ends_at_need_not_at_len)
{
	size_t e, direct;

	for (e = 0; e < PENSTOCK_ARRAY_SIZE(engines); e++)
		for (direct = 0; direct < 2; direct++) {
			EXPECT_EQ(0, read_short_file(engines[e], 5000, 8192, 5000, !direct));
			EXPECT_EQ(-ENODATA, read_short_file(engines[e], 5000, 8192, 5001, !direct));
			EXPECT_EQ(-ENODATA, read_short_file(engines[e], 100, 8192, 8000, !direct));
			EXPECT_EQ(-ENODATA, read_short_file(engines[e], 8192, 16384, 8193, !direct));
			EXPECT_EQ(-ENODATA, read_short_file(engines[e], 0, 4096, 1, !direct));
			EXPECT_EQ(0, read_short_file(engines[e], 0, 4096, 0, !direct));
		}
}

static atomic_bool truncating;

static void *truncate_and_back(void *arg)
{
	while (atomic_load(&truncating)) {
		if (truncate(arg, 4096 + 100))
			break;
		files_make(arg, FILE_SIZE);
	}
	return NULL;
}

TEST(ring_survives_a_file_that_shrinks_while_it_loads)
{
	struct ring_load l = { .store = &store, .depth = 32, .nr = 1500, .most = READ_MOST, .any_status = true };
	char path[512];
	struct penstock_read *got;
	struct penstock_ring *r;
	pthread_t thread;
	size_t e;

	add_file(FILE_SIZE, false);
	snprintf(path, sizeof(path), "%s", store.files[0].path);
	for (e = 0; e < PENSTOCK_ARRAY_SIZE(engines); e++) {
		static char mem[LOAD_MAX_DEPTH][64 << 10] __attribute__((aligned(4096)));
		uint32_t i, round;

		r = open_ring(engines[e], 32);
		ASSERT_EQ(0, penstock_ring_set_files(r, &store.files[0].dfd, 1));
		atomic_store(&truncating, true);
		ASSERT_EQ(0, pthread_create(&thread, NULL, truncate_and_back, path));
		for (round = 0; round < 20; round++) {
			for (i = 0; i < 32; i++) {
				l.reads[i] = (struct penstock_read){ .buf = -1, .off = i * (96u << 10), .len = 64 << 10,
								     .need = 64 << 10, .dst = mem[i] };
				ASSERT_TRUE(!penstock_ring_submit(r, &l.reads[i]));
			}
			while (penstock_ring_in_flight(r)) {
				ASSERT_GT(penstock_ring_reap(r, 10000000000u, &got), 0);
				for (; got; got = got->next)
					EXPECT_TRUE(!got->status || got->status == -ENODATA);
			}
		}
		atomic_store(&truncating, false);
		pthread_join(thread, NULL);
		penstock_ring_close(r);
	}
	penstock_store_close(&store);
}

static void *wake_soon(void *arg)
{
	usleep(20000);
	penstock_ring_wake(arg);
	return NULL;
}

TEST(ring_wakes_from_another_thread)
{
	struct penstock_read *got;
	struct penstock_ring *r;
	pthread_t thread;
	size_t e;
	int i;

	for (e = 0; e < PENSTOCK_ARRAY_SIZE(engines); e++) {
		r = open_ring(engines[e], 4);
		for (i = 0; i < 5; i++) {
			ASSERT_EQ(0, pthread_create(&thread, NULL, wake_soon, r));
			EXPECT_EQ(0, penstock_ring_reap(r, UINT64_MAX, &got));
			EXPECT_TRUE(!got);
			pthread_join(thread, NULL);
		}
		penstock_ring_close(r);
	}
}

TEST(ring_keeps_a_wake_that_comes_early)
{
	struct penstock_read *got;
	struct penstock_ring *r;
	size_t e;

	for (e = 0; e < PENSTOCK_ARRAY_SIZE(engines); e++) {
		r = open_ring(engines[e], 4);
		penstock_ring_wake(r);
		penstock_ring_wake(r);
		EXPECT_EQ(0, penstock_ring_reap(r, UINT64_MAX, &got));
		/* both wakes were one */
		EXPECT_EQ(0, penstock_ring_reap(r, 5000000, &got));
		penstock_ring_wake(r);
		EXPECT_EQ(0, penstock_ring_reap(r, UINT64_MAX, &got));
		penstock_ring_close(r);
	}
}

static struct penstock_ring *alarm_ring;

static void wake_on_alarm(int sig)
{
	penstock_ring_wake(alarm_ring);
}

TEST(ring_wakes_from_a_signal_handler)
{
	struct sigaction sa = { .sa_handler = wake_on_alarm };
	struct itimerval once = { { 0, 0 }, { 0, 20000 } };
	struct penstock_read *got;
	size_t e;

	sigaction(SIGALRM, &sa, NULL);
	for (e = 0; e < PENSTOCK_ARRAY_SIZE(engines); e++) {
		alarm_ring = open_ring(engines[e], 4);
		setitimer(ITIMER_REAL, &once, NULL);
		EXPECT_EQ(0, penstock_ring_reap(alarm_ring, UINT64_MAX, &got));
		penstock_ring_close(alarm_ring);
	}
}

struct handoff {
	struct ring_load load;
	struct penstock_ring *ring;
};

static void *use_ring(void *arg)
{
	struct handoff *h = arg;

	load_run(&h->load, h->ring);
	penstock_ring_close(h->ring);
	return NULL;
}

TEST(ring_may_be_used_by_another_thread_than_opened_it)
{
	pthread_t thread;
	size_t e;

	add_file(FILE_SIZE, false);
	for (e = 0; e < PENSTOCK_ARRAY_SIZE(engines); e++) {
		struct handoff h = { .load = { .store = &store, .depth = 8, .nr = 100, .most = READ_MOST,
					       .buffer = true } };

		h.ring = open_ring(engines[e], 8);
		ASSERT_EQ(0, penstock_ring_set_files(h.ring, &store.files[0].dfd, 1));
		ASSERT_EQ(0, pthread_create(&thread, NULL, use_ring, &h));
		pthread_join(thread, NULL);
		EXPECT_EQ(100, h.load.finished);
	}
	penstock_store_close(&store);
}

TEST(ring_takes_no_more_than_its_depth)
{
	static char mem[4][4096] __attribute__((aligned(4096)));
	struct penstock_read reads[4], *got;
	struct penstock_ring *r;
	size_t e, i;

	add_file(FILE_SIZE, false);
	for (e = 0; e < PENSTOCK_ARRAY_SIZE(engines); e++) {
		r = open_ring(engines[e], 3);
		ASSERT_EQ(0, penstock_ring_set_files(r, &store.files[0].dfd, 1));
		for (i = 0; i < 4; i++)
			reads[i] = (struct penstock_read){ .buf = -1, .off = i * 4096, .len = 4096, .need = 4096,
							   .dst = mem[i], .next = i < 3 ? &reads[i + 1] : NULL };
		EXPECT_TRUE(penstock_ring_submit(r, reads) == &reads[3]);
		EXPECT_EQ(3, penstock_ring_in_flight(r));
		for (i = 0; i < 3;)
			i += (size_t)penstock_ring_reap(r, UINT64_MAX, &got);
		EXPECT_TRUE(!penstock_ring_submit(r, &reads[3]));
		EXPECT_EQ(1, penstock_ring_reap(r, UINT64_MAX, &got));
		EXPECT_TRUE(got == &reads[3]);
		penstock_ring_close(r);
	}
	penstock_store_close(&store);
}

TEST(ring_refuses_reads_that_cannot_be)
{
	static char mem[8192];
	struct penstock_read bad[] = {
		{ .buf = -1, .len = 0 }, { .buf = -1, .len = 4096, .need = 4097 }, { .buf = -1, .file = 1, .len = 512 },
		{ .buf = -1, .len = PENSTOCK_READ_MAX + 4096u }, { .buf = -1, .off = INT64_MAX - 100, .len = 512 },
	};
	struct penstock_read *got;
	struct penstock_ring *r;
	size_t e, i;

	add_file(FILE_SIZE, false);
	for (e = 0; e < PENSTOCK_ARRAY_SIZE(engines); e++) {
		r = open_ring(engines[e], 4);
		ASSERT_EQ(0, penstock_ring_set_files(r, &store.files[0].dfd, 1));
		for (i = 0; i < PENSTOCK_ARRAY_SIZE(bad); i++) {
			bad[i].dst = mem;
			bad[i].next = NULL;
			ASSERT_TRUE(!penstock_ring_submit(r, &bad[i]));
			ASSERT_EQ(1, penstock_ring_reap(r, 0, &got));
			EXPECT_EQ(-EINVAL, got->status);
		}
		penstock_ring_close(r);
	}
	penstock_store_close(&store);
}

TEST(ring_passes_errors_of_the_file_on)
{
	static char mem[4096];
	struct penstock_read read, *got;
	struct penstock_ring *r;
	size_t e;
	int fd = open(files_path("w"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	ASSERT_GE(fd, 0);
	for (e = 0; e < PENSTOCK_ARRAY_SIZE(engines); e++) {
		r = open_ring(engines[e], 4);
		ASSERT_EQ(0, penstock_ring_set_files(r, &fd, 1));
		read = (struct penstock_read){ .buf = -1, .len = 512, .need = 512, .dst = mem };
		ASSERT_TRUE(!penstock_ring_submit(r, &read));
		ASSERT_EQ(1, penstock_ring_reap(r, UINT64_MAX, &got));
		EXPECT_EQ(-EBADF, got->status);
		penstock_ring_close(r);
	}
	close(fd);
}

TEST(ring_adds_files_as_it_goes)
{
	static char mem[512];
	int fds[40], i;
	char name[16];
	struct penstock_read read, *got;
	struct penstock_ring *r;
	size_t e;

	for (i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		fds[i] = open(files_path(name), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		memset(mem, i, sizeof(mem));
		ASSERT_EQ(512, write(fds[i], mem, 512));
	}
	for (e = 0; e < PENSTOCK_ARRAY_SIZE(engines); e++) {
		r = open_ring(engines[e], 4);
		for (i = 0; i < 80; i++) {
			ASSERT_EQ(0, penstock_ring_set_files(r, fds, i < 40 ? (uint32_t)i + 1 : 40));
			read = (struct penstock_read){ .file = (uint32_t)i % 40, .buf = -1, .len = 512, .need = 512, .dst = mem };
			ASSERT_TRUE(!penstock_ring_submit(r, &read));
			ASSERT_EQ(1, penstock_ring_reap(r, UINT64_MAX, &got));
			ASSERT_EQ(0, got->status);
			EXPECT_EQ(i % 40, mem[511]);
		}
		penstock_ring_close(r);
	}
	for (i = 0; i < 40; i++)
		close(fds[i]);
}

TEST(ring_belongs_to_the_parent_after_fork)
{
	static char mem[4096] __attribute__((aligned(4096)));
	struct penstock_read read = { .buf = -1, .len = 4096, .need = 4096, .dst = mem }, *got;
	struct penstock_ring *r;
	size_t e;
	int status;
	pid_t pid;

	add_file(FILE_SIZE, false);
	for (e = 0; e < PENSTOCK_ARRAY_SIZE(engines); e++) {
		r = open_ring(engines[e], 4);
		ASSERT_EQ(0, penstock_ring_set_files(r, &store.files[0].dfd, 1));
		fflush(stdout);
		pid = fork();
		if (!pid) {
			if (penstock_ring_submit(r, &read) != &read || penstock_ring_reap(r, UINT64_MAX, &got) != -ESTALE ||
			    penstock_ring_set_files(r, &store.files[0].dfd, 1) != -ESTALE)
				_exit(1);
			penstock_ring_close(r);
			_exit(0);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status);
		/* and the parent's goes on */
		ASSERT_TRUE(!penstock_ring_submit(r, &read));
		ASSERT_EQ(1, penstock_ring_reap(r, UINT64_MAX, &got));
		EXPECT_EQ(0, got->status);
		EXPECT_EQ(4096, files_wrong(mem, 0, 4096));
		penstock_ring_close(r);
	}
	penstock_store_close(&store);
}

TEST(ring_checks_buffers_and_depth)
{
	struct penstock_error err = { 0 };
	struct penstock_ring *r;
	static char mem[8192] __attribute__((aligned(4096)));

	EXPECT_EQ(-EINVAL, penstock_ring_open(NULL, 0, &r, &err));
	EXPECT_HAS(err.text, "depth 0");
	EXPECT_EQ(-EINVAL, penstock_ring_open(NULL, 4097, &r, NULL));
	r = open_ring(&penstock_ring_pread, 4);
	EXPECT_EQ(-EINVAL, penstock_ring_set_buffer(r, PENSTOCK_RING_MAX_BUFS, mem, 4096));
	EXPECT_EQ(-EINVAL, penstock_ring_set_buffer(r, 0, mem, (1ul << 30) + 1));
	EXPECT_EQ(-EINVAL, penstock_ring_set_buffer(r, 0, mem, 0));
	EXPECT_EQ(1, penstock_ring_set_buffer(r, 0, mem, 4096));
	EXPECT_EQ(0, penstock_ring_set_buffer(r, 0, NULL, 0));
	penstock_ring_close(r);
	penstock_ring_close(NULL);
}

TEST(uring_replaces_registered_buffers)
{
	struct penstock_ring *r = open_ring(&penstock_ring_uring, 4);
	static char mem[2][8192] __attribute__((aligned(4096)));
	struct penstock_read read, *got;
	uint32_t i;

	add_file(FILE_SIZE, false);
	ASSERT_EQ(0, penstock_ring_set_files(r, &store.files[0].dfd, 1));
	for (i = 0; i < 6; i++) {
		if (penstock_ring_set_buffer(r, PENSTOCK_RING_MAX_BUFS - 1, mem[i % 2], 8192))
			SKIP("%s", penstock_ring_why(r));
		read = (struct penstock_read){ .buf = PENSTOCK_RING_MAX_BUFS - 1, .off = i * 8192, .len = 8192, .need = 8192,
					       .dst = mem[i % 2] };
		ASSERT_TRUE(!penstock_ring_submit(r, &read));
		ASSERT_EQ(1, penstock_ring_reap(r, UINT64_MAX, &got));
		ASSERT_EQ(0, got->status);
		EXPECT_EQ(8192, files_wrong(mem[i % 2], i * 8192, 8192));
	}
	/* a number without memory is read without it */
	ASSERT_EQ(0, penstock_ring_set_buffer(r, PENSTOCK_RING_MAX_BUFS - 1, NULL, 0));
	ASSERT_TRUE(!penstock_ring_submit(r, &read));
	ASSERT_EQ(1, penstock_ring_reap(r, UINT64_MAX, &got));
	EXPECT_EQ(0, got->status);
	penstock_ring_close(r);
	penstock_store_close(&store);
}

TEST(uring_goes_on_without_buffers_that_are_refused)
{
	struct rlimit little = { 64 << 10, 64 << 10 };
	struct penstock_ring *r;
	struct penstock_mem mem;
	struct ring_load l = { .store = &store, .depth = 8, .nr = 100, .most = READ_MOST, .buffer = true };

	add_file(FILE_SIZE, false);
	ASSERT_EQ(0, penstock_mem_alloc(4 << 20, -1, 1, &mem, NULL));
	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &little));
	/* root's CAP_IPC_LOCK knows no limit; files are open, and the folder must stay removable */
	if (!geteuid() && (chown(files_dir, 65534, 65534) || setresuid(65534, 65534, 65534)))
		SKIP("cannot give up root: %s", strerror(errno));
	r = open_ring(&penstock_ring_uring, 8);
	if (!penstock_ring_set_buffer(r, 1, mem.base, mem.len))
		SKIP("the kernel charges no locked memory");
	EXPECT_HAS(penstock_ring_why(r), "registering a buffer");
	EXPECT_HAS(penstock_ring_why(r), "4194304 bytes of locked memory");
	EXPECT_HAS(penstock_ring_why(r), "RLIMIT_MEMLOCK is 65536 (hard limit 65536)");
	load_run(&l, r);
	EXPECT_EQ(100, l.finished);
	EXPECT_EQ(0, l.failed);
	penstock_ring_close(r);
	penstock_mem_free(&mem);
	penstock_store_close(&store);
}

TEST_HARNESS_MAIN
