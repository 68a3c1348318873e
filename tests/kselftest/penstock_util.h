/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of /dev/penstock share: its commands as functions that
 * return 0 or -errno, the numbers of objects that the module has, files of
 * /proc and /sys.
 *
 * From the environment: PENSTOCK_NODE (/dev/penstock), and PENSTOCK_TEST_FILE,
 * a file that the module can read from; its folder must be writable.
 */
#ifndef PENSTOCK_UTIL_H
#define PENSTOCK_UTIL_H

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/penstock.h>

#define ARRAY_SIZE(x) (sizeof(x) / sizeof((x)[0]))
#define ALL_ONES (~0ULL)

/* Page size of the only machine that the module is built for so far; checked against INFO. */
#define PAGE 4096UL

static inline const char *node_path(void)
{
	const char *path = getenv("PENSTOCK_NODE");

	return path ? path : "/dev/penstock";
}

/* A descriptor, or -errno. */
static inline int node_open(int flags)
{
	int fd = open(node_path(), O_RDWR | flags);

	return fd < 0 ? -errno : fd;
}

static inline int penstock(int node, unsigned long cmd, void *arg)
{
	return ioctl(node, cmd, arg) < 0 ? -errno : 0;
}

static inline uint64_t to_u64(const void *p)
{
	return (uintptr_t)p;
}

/* ---- commands ---- */

static inline int info_get(int node, struct penstock_info *info)
{
	*info = (struct penstock_info) { .size = sizeof(*info) };
	return penstock(node, PENSTOCK_IOC_INFO, info);
}

static inline int target_add(int node, int fd, struct penstock_target_add *add)
{
	*add = (struct penstock_target_add) { .size = sizeof(*add), .fd = fd };
	return penstock(node, PENSTOCK_IOC_TARGET_ADD, add);
}

static inline int target_del(int node, uint32_t id)
{
	struct penstock_target_del del = { .size = sizeof(del), .target_id = id };

	return penstock(node, PENSTOCK_IOC_TARGET_DEL, &del);
}

static inline int region_alloc(int node, uint64_t length, struct penstock_region_alloc *alloc)
{
	*alloc = (struct penstock_region_alloc) { .size = sizeof(*alloc), .length = length, .numa_node = -1 };
	return penstock(node, PENSTOCK_IOC_REGION_ALLOC, alloc);
}

static inline int region_pin(int node, uint64_t addr, uint64_t length, struct penstock_region_pin *pin)
{
	*pin = (struct penstock_region_pin) {
		.size = sizeof(*pin), .flags = PENSTOCK_PIN_F_READ, .addr = addr, .length = length };
	return penstock(node, PENSTOCK_IOC_REGION_PIN, pin);
}

static inline int region_bar(int node, uint32_t peer_id, uint64_t length, struct penstock_region_peer *peer)
{
	*peer = (struct penstock_region_peer) {
		.size = sizeof(*peer), .kind = PENSTOCK_PEER_BAR, .peer_id = peer_id, .length = length, .fd = -1 };
	return penstock(node, PENSTOCK_IOC_REGION_PEER, peer);
}

static inline int region_import(int node, int fd, uint64_t offset, uint64_t length, struct penstock_region_peer *peer)
{
	*peer = (struct penstock_region_peer) {
		.size = sizeof(*peer), .kind = PENSTOCK_PEER_DMABUF, .offset = offset, .length = length, .fd = fd };
	return penstock(node, PENSTOCK_IOC_REGION_PEER, peer);
}

static inline int region_free(int node, uint32_t id, uint32_t flags)
{
	struct penstock_region_free cmd = { .size = sizeof(cmd), .flags = flags, .region_id = id };

	return penstock(node, PENSTOCK_IOC_REGION_FREE, &cmd);
}

/* A descriptor of the dma-buf, or -errno. */
static inline int region_export(int node, uint32_t id)
{
	struct penstock_region_export cmd = { .size = sizeof(cmd), .region_id = id, .out_fd = -1 };
	int ret = penstock(node, PENSTOCK_IOC_REGION_EXPORT, &cmd);

	return ret ? ret : cmd.out_fd;
}

static inline int region_stat(int node, uint32_t id, struct penstock_region_stat *stat)
{
	*stat = (struct penstock_region_stat) { .size = sizeof(*stat), .region_id = id };
	return penstock(node, PENSTOCK_IOC_REGION_STAT, stat);
}

static inline int region_probe(int node, uint32_t region, uint32_t target, struct penstock_region_probe *probe)
{
	*probe = (struct penstock_region_probe) { .size = sizeof(*probe), .region_id = region, .target_id = target };
	return penstock(node, PENSTOCK_IOC_REGION_PROBE, probe);
}

/* The first peer that can be used; -ENOENT: there is none. */
static inline int peer_first(int node, struct penstock_peer_enum *peer)
{
	int ret;

	*peer = (struct penstock_peer_enum) { .size = sizeof(*peer) };
	for (;;) {
		ret = penstock(node, PENSTOCK_IOC_PEER_ENUM, peer);
		if (ret || !peer->out_reason)
			return ret;
		peer->after_peer_id = peer->out_peer_id;
	}
}

/* Reads one after the other; results are in @reads. */
static inline int region_read(int node, struct penstock_read *reads, uint32_t nr)
{
	struct penstock_region_read cmd = {
		.size = sizeof(cmd), .reads_uptr = to_u64(reads), .nr_reads = nr, .read_size = sizeof(*reads) };

	return penstock(node, PENSTOCK_IOC_REGION_READ, &cmd);
}

/* One read by REGION_READ: bytes or -errno. */
static inline int64_t read_one(int node, uint32_t target, uint32_t region, uint64_t offset, uint64_t region_offset,
			       uint32_t length)
{
	struct penstock_read read = {
		.target_id = target, .region_id = region, .offset = offset, .region_offset = region_offset,
		.length = length, .out_result = INT64_MIN };
	int ret = region_read(node, &read, 1);

	return ret ? ret : read.out_result;
}

/* @length bytes from @offset, counted from the mmap offset of the region. MAP_FAILED, and errno. */
static inline void *region_map(int node, uint64_t mmap_offset, uint64_t offset, size_t length)
{
	return mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, node, (off_t)(mmap_offset + offset));
}

/* ---- files ---- */

/* The number after @key and blanks or a colon; -1 when there is none. */
static inline long long file_number(const char *path, const char *key)
{
	char line[256];
	long long n = -1;
	size_t len = strlen(key);
	FILE *f = fopen(path, "re");

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, key, len) || !strchr(": \t", line[len]))
			continue;
		n = strtoll(line + len + 1, NULL, 10);
		break;
	}
	fclose(f);
	return n;
}

static inline int file_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/* The whole file as a number, -1 when it cannot be read. */
static inline long long file_value(const char *path)
{
	char text[64] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	return n > 0 ? strtoll(text, NULL, 10) : -1;
}

#define PARAMETER(name) "/sys/module/penstock/parameters/" name

static inline int parameter_set(const char *path, long long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld", value);
	return file_write(path, text);
}

/* Pages that the process has pinned, in KiB. */
static inline long long vm_pin_kib(void)
{
	return file_number("/proc/self/status", "VmPin");
}

/* ---- objects of the module ---- */

#define OBJECTS_PATH "/sys/kernel/debug/penstock/objects"

struct objects {
	char text[1024];
};

/* False where debugfs cannot be read. */
static inline bool objects_get(struct objects *objects)
{
	int fd = open(OBJECTS_PATH, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	memset(objects, 0, sizeof(*objects));
	if (fd < 0)
		return false;
	n = read(fd, objects->text, sizeof(objects->text) - 1);
	close(fd);
	return n > 0;
}

/* Prints the lines that differ. */
static inline void objects_print_change(const struct objects *before, const struct objects *now)
{
	const char *a = before->text, *b = now->text;

	while (*a && *b) {
		int na = (int)strcspn(a, "\n"), nb = (int)strcspn(b, "\n");

		if (na != nb || strncmp(a, b, (size_t)na))
			printf("# objects: %.*s, before: %.*s\n", nb, b, na, a);
		a += na + !!a[na];
		b += nb + !!b[nb];
	}
}

/* Giving back is done by workers and after grace periods: wait until all is as it was, at most @seconds. */
static inline bool objects_settle(const struct objects *before, unsigned int seconds)
{
	struct objects now;
	unsigned int i;

	for (i = 0; i < seconds * 50; i++) {
		if (!objects_get(&now))
			return false;
		if (!strcmp(before->text, now.text))
			return true;
		usleep(20000);
	}
	objects_print_change(before, &now);
	return false;
}

/* ---- the file to read from ---- */

/* A descriptor with O_DIRECT, -1 without PENSTOCK_TEST_FILE. */
static inline int test_file_open(int flags)
{
	const char *path = getenv("PENSTOCK_TEST_FILE");

	return path ? open(path, O_RDONLY | O_DIRECT | O_CLOEXEC | flags) : -1;
}

/* A path beside that file; false when there is none or it is too long. */
static inline bool test_file_beside(const char *name, char *buf, size_t len)
{
	const char *path = getenv("PENSTOCK_TEST_FILE");
	const char *slash = path ? strrchr(path, '/') : NULL;

	if (!slash)
		return false;
	return (size_t)snprintf(buf, len, "%.*s/%s", (int)(slash - path), path, name) < len;
}

/* ---- processes ---- */

/* The descriptor that would be given next. */
static inline int fd_next(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

/* The exit status of a child; -1 when a signal ended it, @sig says which. */
static inline int child_wait(pid_t pid, int *sig)
{
	int status;

	if (sig)
		*sig = 0;
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -1;
	}
	if (WIFSIGNALED(status)) {
		if (sig)
			*sig = WTERMSIG(status);
		return -1;
	}
	return WEXITSTATUS(status);
}

static sigjmp_buf touch_env;

static inline void touch_caught(int sig)
{
	siglongjmp(touch_env, sig);
}

/* The signal that reading the byte at @p gives, or 0. Not in a child, which does not have our mappings. */
static inline int touch_signal(const volatile char *p)
{
	struct sigaction action = { .sa_handler = touch_caught }, bus, segv;
	int sig;

	sigaction(SIGBUS, &action, &bus);
	sigaction(SIGSEGV, &action, &segv);
	sig = sigsetjmp(touch_env, 1);
	if (!sig)
		(void)*p;
	sigaction(SIGBUS, &bus, NULL);
	sigaction(SIGSEGV, &segv, NULL);
	return sig;
}

#endif
