// SPDX-License-Identifier: MIT
/*
 * fio's half of `penstock bench io`: the same reads with the options that make fio
 * fastest: registered files and buffers, huge pages where the pool has them, no
 * clock a read, no map of the blocks that were read. CPU is what fio reports for its
 * own threads while they read.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <yajl/yajl_tree.h>

#include "../runtime/err.h"
#include "bench_io.h"

#define POOL		"/proc/sys/vm/nr_hugepages"
#define HUGE		(2u << 20)
/* fio rounds each job's buffers up, and shares some pages. */
#define SPARE_PAGES	8u
#define MAX_OUTPUT	(16u << 20)
#define NR_ARGS		32

static int64_t meminfo(const char *key)
{
	char line[128];
	int64_t v = -1;
	FILE *f = fopen("/proc/meminfo", "re");

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)) && sscanf(line + strlen(key), ": %" SCNd64, &v) != 1)
			v = -1;
	if (f)
		fclose(f);
	return v;
}

static int write_pool(int64_t pages)
{
	FILE *f = fopen(POOL, "we");

	if (!f)
		return -errno;
	fprintf(f, "%" PRId64 "\n", pages);
	return fclose(f) ? -errno : 0;
}

void bench_io_fio_prepare(struct bench_io_fio *f, uint64_t bytes)
{
	int64_t want = (int64_t)((bytes + HUGE - 1) / HUGE) + SPARE_PAGES, free_pages, total;

	*f = (struct bench_io_fio){ .page_size = 4096, .restore = -1 };
	if (meminfo("Hugepagesize") != HUGE / 1024) {
		f->page_why = "no 2 MiB pages on this machine";
		return;
	}
	free_pages = meminfo("HugePages_Free");
	total = meminfo("HugePages_Total");
	if (free_pages < want) {
		f->page_why = "too few pages in the pool (vm.nr_hugepages), and only root can fill it";
		if (write_pool(total + want - free_pages))
			return;
		f->restore = total;
		f->page_why = "the pool could not be filled: memory is fragmented";
		if (meminfo("HugePages_Free") < want)
			return;
	}
	f->page_size = HUGE;
	f->page_why = f->restore < 0 ? "pool of huge pages" : "pool of huge pages, filled for this run";
}

void bench_io_fio_restore(struct bench_io_fio *f)
{
	if (f->restore >= 0)
		write_pool(f->restore);
	f->restore = -1;
}

bool bench_io_fio_without_huge(struct bench_io_fio *f)
{
	if (f->page_size != HUGE)
		return false;
	f->page_size = 4096;
	f->page_why = "fio failed with huge pages: others have taken them from the pool";
	return true;
}

struct arguments {
	char text[NR_ARGS][300];
	char *argv[NR_ARGS + 1];
	int nr;
};

static void arg(struct arguments *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void arg(struct arguments *a, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(a->text[a->nr], sizeof(a->text[0]), fmt, ap);
	va_end(ap);
	a->argv[a->nr] = a->text[a->nr];
	a->argv[++a->nr] = NULL;
}

static void describe(struct arguments *a, const struct bench_io_fio *f, const struct bench_io_job *job, char *file)
{
	a->nr = 0;
	arg(a, "fio");
	arg(a, "--name=penstock");
	a->argv[a->nr++] = file;
	arg(a, "--readonly");
	arg(a, "--rw=%s", job->sequential ? "read" : "randread");
	arg(a, "--norandommap");
	arg(a, "--ioengine=io_uring");
	arg(a, "--fixedbufs");
	arg(a, "--registerfiles");
	arg(a, "--direct=%d", job->direct);
	/* else fio drops the file's pages before it reads what we have just read through them */
	arg(a, "--invalidate=%d", job->direct);
	arg(a, "--bs=%" PRIu64, job->block);
	arg(a, "--iodepth=%u", job->depth);
	arg(a, "--iomem=%s", f->page_size == HUGE ? "shmhuge" : "mmap");
	arg(a, "--gtod_reduce=1");
	arg(a, "--time_based");
	arg(a, "--runtime=%u", job->seconds);
	arg(a, "--thread");
	arg(a, "--numjobs=%u", job->jobs);
	arg(a, "--output-format=json");
}

/* "--filename=PATH": a colon would begin another file. Return: text to be freed, or NULL. */
static char *file_argument(const char *path)
{
	static const char option[] = "--filename=";
	char *text = malloc(sizeof(option) + 2 * strlen(path)), *to;

	if (!text)
		return NULL;
	to = stpcpy(text, option);
	for (; *path; path++) {
		if (*path == ':' || *path == '\\')
			*to++ = '\\';
		*to++ = *path;
	}
	*to = 0;
	return text;
}

/* All that comes through a pipe. Return: text to be freed, or NULL. */
static char *read_all(int fd)
{
	size_t len = 0, room = 0;
	char *text = NULL, *more;
	ssize_t got;

	for (;;) {
		if (len + 1 >= room) {
			room = room ? room * 2 : 1 << 16;
			more = room > MAX_OUTPUT ? NULL : realloc(text, room);
			if (!more)
				break;
			text = more;
		}
		got = read(fd, text + len, room - len - 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			text[len] = 0;
			return text;
		}
		len += (size_t)got;
	}
	free(text);
	return NULL;
}

static int run_fio(char **argv, char **text, struct penstock_error *err)
{
	posix_spawn_file_actions_t actions;
	int fds[2], status, ret;
	extern char **environ;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return penstock_err(err, -errno, "fio: a pipe");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
	ret = -posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	if (ret) {
		close(fds[0]);
		return penstock_err(err, ret, "fio");
	}
	*text = read_all(fds[0]);
	close(fds[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!*text)
		return penstock_err(err, -ENOMEM, "fio: its output");
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		ret = penstock_err(err, WIFEXITED(status) && WEXITSTATUS(status) == 127 ? -ENOENT : -EIO,
				   "fio: it ended with status %d: %.200s", status, *text);
		free(*text);
		return ret;
	}
	return 0;
}

static double number(yajl_val v, const char *a, const char *b, int *ret)
{
	const char *path[] = { a, b, NULL };
	yajl_val n = yajl_tree_get(v, path, yajl_t_number);

	if (!n) {
		*ret = -EPROTO;
		return 0;
	}
	return YAJL_GET_DOUBLE(n);
}

/* Sum up the jobs. CPU comes as a share of each job's time. */
static int sum_jobs(yajl_val jobs, uint32_t nr, struct bench_io_round *r)
{
	double bytes = 0, cpu = 0, longest = 0, ms;
	int ret = 0;
	size_t i;

	if (!jobs || jobs->u.array.len != nr)
		return -EPROTO;
	for (i = 0; i < nr; i++) {
		yajl_val job = jobs->u.array.values[i];

		if (number(job, "error", NULL, &ret) != 0)
			return -EIO;
		bytes += number(job, "read", "io_bytes", &ret);
		ms = number(job, "read", "runtime", &ret);
		longest = ms > longest ? ms : longest;
		cpu += (number(job, "usr_cpu", NULL, &ret) + number(job, "sys_cpu", NULL, &ret)) / 100 *
		       number(job, "job_runtime", NULL, &ret) / 1e3;
	}
	if (ret || bytes <= 0 || longest <= 0)
		return -EPROTO;
	r->bytes_per_s = bytes / (longest / 1e3);
	r->cpu_s_per_gb = cpu / (bytes / 1e9);
	return 0;
}

int bench_io_fio_parse(const char *text, uint32_t jobs, struct bench_io_round *r, struct penstock_error *err)
{
	const char *path[] = { "jobs", NULL };
	/* warnings come first, on the same stream */
	const char *json = strchr(text, '{');
	char why[128] = "";
	yajl_val tree;
	int ret;

	tree = json ? yajl_tree_parse(json, why, sizeof(why)) : NULL;
	ret = tree ? sum_jobs(yajl_tree_get(tree, path, yajl_t_array), jobs, r) : -EPROTO;
	yajl_tree_free(tree);
	if (ret)
		return penstock_err(err, ret, "fio: %s: %s%.200s",
				    ret == -EIO ? "a job failed" : "its JSON is not understood", why, text);
	return 0;
}

int bench_io_fio_run(const struct bench_io_fio *f, const struct bench_io_job *job, struct bench_io_round *r,
		     struct penstock_error *err)
{
	struct arguments *a = calloc(1, sizeof(*a));
	char *text = NULL, *file = file_argument(job->path);
	int ret = -ENOMEM;

	if (a && file) {
		describe(a, f, job, file);
		ret = run_fio(a->argv, &text, err);
		if (!ret)
			ret = bench_io_fio_parse(text, job->jobs, r, err);
	} else {
		penstock_err(err, ret, "fio: its arguments");
	}
	free(text);
	free(file);
	free(a);
	return ret;
}
