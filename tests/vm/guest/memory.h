/* SPDX-License-Identifier: MIT */
/*
 * What tests of memory share: the module's counts of objects, a user's pinned
 * pages, children with a limit, the drives' test files, faults that are caught.
 */
#ifndef MEMORY_H
#define MEMORY_H

#include "guest.h"
#include <grp.h>
#include <setjmp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define PAGE 4096UL
#define KIB 1024UL
#define MIB (1024 * KIB)
#define DATA_FILE "/mnt/ext4/data"
#define MEMBER_UID 1000
#define MEMBER_GID 990

/* ---- counts ---- */

#define NR_OBJECTS 16

struct objects {
	char name[NR_OBJECTS][32];
	long long count[NR_OBJECTS];
	unsigned int nr;
};

static inline int objects_read(struct objects *o)
{
	FILE *f = fopen("/sys/kernel/debug/penstock/objects", "r");

	if (!f)
		return -errno;
	o->nr = 0;
	while (o->nr < NR_OBJECTS && fscanf(f, "%31s %lld", o->name[o->nr], &o->count[o->nr]) == 2)
		o->nr++;
	fclose(f);
	return o->nr ? 0 : -ENODATA;
}

static inline long long objects_get(const char *name)
{
	struct objects o;
	unsigned int i;

	if (objects_read(&o))
		return -1;
	for (i = 0; i < o.nr; i++)
		if (!strcmp(o.name[i], name))
			return o.count[i];
	return -1;
}

/* Closing an open frees what it has soon, not at once. */
static inline bool objects_return_to(const struct objects *start)
{
	double end = now() + 30;
	struct objects o;
	bool good;

	do {
		good = !objects_read(&o) && o.nr == start->nr;
		for (unsigned int i = 0; good && i < o.nr; i++)
			good = o.count[i] <= start->count[i];
		if (!good)
			usleep(20000);
	} while (!good && now() < end);
	for (unsigned int i = 0; !good && i < o.nr && i < start->nr; i++)
		if (o.count[i] > start->count[i])
			printf("# %s: %lld at the start, now %lld\n", o.name[i], start->count[i], o.count[i]);
	return good;
}

/* A line "NAME: N kB" or "NAME N" of a file of /proc; -1 */
static inline long long proc_value(const char *path, const char *name)
{
	long long value = -1;
	char line[256];
	FILE *f = fopen(path, "r");

	if (!f)
		return -1;
	while (value < 0 && fgets(line, sizeof(line), f)) {
		char *at = strstr(line, name);

		if (at && (at == line || at[-1] == ' ') && strchr(": \t", at[strlen(name)]))
			sscanf(at + strlen(name) + 1, "%lld", &value);
	}
	fclose(f);
	return value;
}

/* Pages that this process is charged. */
static inline long pinned_pages(void)
{
	return proc_value("/proc/self/status", "VmPin") / (long long)(PAGE / KIB);
}

/* A ring that is closed gives its buffers back soon, not at once. */
static inline bool pinned_returns_to(long pages)
{
	double end = now() + 10;

	while (pinned_pages() != pages && now() < end)
		usleep(20000);
	if (pinned_pages() == pages)
		return true;
	printf("# %ld pages are charged, %ld were\n", pinned_pages(), pages);
	return false;
}

/* Every page that was pinned was given back; the kernel sums these up with some delay. */
static inline bool pins_are_even(void)
{
	double end = now() + 10;
	long long acquired, released;

	do {
		acquired = proc_value("/proc/vmstat", "nr_foll_pin_acquired");
		released = proc_value("/proc/vmstat", "nr_foll_pin_released");
		if (acquired == released)
			return true;
		usleep(20000);
	} while (now() < end);
	printf("# %lld pages pinned, %lld given back\n", acquired, released);
	return false;
}

/* ---- commands ---- */

static inline int region_pin(int node, const void *addr, uint64_t len, struct penstock_region_pin *pin)
{
	*pin = (struct penstock_region_pin) {
		.size = sizeof(*pin), .flags = PENSTOCK_PIN_F_READ, .addr = (uintptr_t)addr, .length = len };
	return node_ioctl(node, PENSTOCK_IOC_REGION_PIN, pin);
}

static inline int region_export(int node, uint32_t id)
{
	struct penstock_region_export cmd = { .size = sizeof(cmd), .region_id = id };
	int ret = node_ioctl(node, PENSTOCK_IOC_REGION_EXPORT, &cmd);

	return ret ? ret : cmd.out_fd;
}

static inline int region_import(int node, int fd, uint64_t offset, uint64_t len, struct penstock_region_peer *peer)
{
	*peer = (struct penstock_region_peer) {
		.size = sizeof(*peer), .kind = PENSTOCK_PEER_DMABUF, .fd = fd, .offset = offset, .length = len };
	return node_ioctl(node, PENSTOCK_IOC_REGION_PEER, peer);
}

/* A region mapped as a whole, or NULL. */
static inline void *region_map(int node, const struct penstock_region_alloc *alloc)
{
	void *p = mmap(NULL, alloc->length, PROT_READ | PROT_WRITE, MAP_SHARED, node, alloc->out_mmap_offset);

	return p == MAP_FAILED ? NULL : p;
}

/* ---- contents ---- */

/* The bytes of the test file "data": each word is (its offset + 8) times a constant. */
static inline bool is_file_data(const void *p, uint64_t offset, size_t len)
{
	const uint64_t *word = p;

	for (size_t i = 0; i < len / 8; i++)
		if (word[i] != (offset + i * 8 + 8) * 0x9e3779b97f4a7c15ULL)
			return false;
	return true;
}

static inline bool is_all(const void *p, unsigned char value, size_t len)
{
	const unsigned char *byte = p;

	return !len || (byte[0] == value && !memcmp(byte, byte + 1, len - 1));
}

/* ---- faults ---- */

static sigjmp_buf fault_jump;
static volatile sig_atomic_t fault_signal;

static void fault_handler(int sig)
{
	fault_signal = sig;
	siglongjmp(fault_jump, 1);
}

/* The signal that reading a byte there brings, or 0. */
static inline int fault_at(const volatile void *p)
{
	struct sigaction act = { .sa_handler = fault_handler }, bus, segv;

	sigaction(SIGBUS, &act, &bus);
	sigaction(SIGSEGV, &act, &segv);
	fault_signal = 0;
	if (!sigsetjmp(fault_jump, 1))
		(void)*(const volatile char *)p;
	sigaction(SIGBUS, &bus, NULL);
	sigaction(SIGSEGV, &segv, NULL);
	return fault_signal;
}

/* ---- children ---- */

/* Run @fn in a child; what it returns, 0 to 127, or 128 and the signal that ended it. */
static inline int in_child(int (*fn)(void *arg), void *arg)
{
	pid_t pid;
	int status;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(fn(arg));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 127;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Become an ordinary member of the group, who may lock that many pages. */
static inline bool become_member(unsigned long pages)
{
	struct rlimit limit = { pages * PAGE, pages * PAGE };

	return !setrlimit(RLIMIT_MEMLOCK, &limit) && !setgroups(0, NULL) && !setgid(MEMBER_GID) && !setuid(MEMBER_UID);
}

#endif
