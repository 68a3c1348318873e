// SPDX-License-Identifier: MIT
/*
 * A driver that is none: the functions of runtime/drv.h over a memory file that
 * stands for a BAR. Included by tests, which then link these instead of the
 * library's. Reads are copies; what goes wrong on bad days is set in fake_drv.
 */
#ifndef PENSTOCK_TESTS_FAKE_DRV_C
#define PENSTOCK_TESTS_FAKE_DRV_C

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "drv.h"
#include "err.h"
#include "util.h"

#define FAKE_BAR	(64u << 20)
#define FAKE_PEER	7u
#define FAKE_MAX	64u

enum fake_lie { FAKE_HONEST = 0, FAKE_NOTHING, FAKE_ELSEWHERE, FAKE_SHORT, FAKE_MIXED_UP, FAKE_GONE };

struct fake_drv {
	/* what it is like */
	int open_error;			/* of open, or 0 */
	uint64_t bar_bytes;		/* to be had */
	bool no_peer;
	bool unmappable;
	bool needs_flush;
	uint32_t target_reason;		/* TARGET_ADD refuses */
	uint32_t target_peer_reason;	/* host memory only */
	uint64_t target_size;		/* of the file that these two are about; 0 = of every file */
	uint32_t probe_reason;		/* REGION_PROBE refuses */
	enum fake_lie lie;		/* of reads by the driver */
	int read_error;			/* of all of them, or 0 */
	uint32_t fail_after;		/* reads that are good before @read_error or @lie comes; 0 = none */
	uint64_t read_ns;		/* each takes this long */
	/* what was seen */
	atomic_uint nr_reads;
	atomic_uint nr_targets;
	atomic_uint nr_regions;
	uint32_t generation;
	/* its state */
	pthread_mutex_t lock;
	int bar;
	char *view;
	struct { bool used; uint64_t off, len; } regions[FAKE_MAX];
	int targets[FAKE_MAX];
	struct penstock_drv_event events[8];
	uint32_t nr_events;
};

static struct fake_drv fake_drv = {
	.bar_bytes = FAKE_BAR, .generation = 1, .lock = PTHREAD_MUTEX_INITIALIZER, .bar = -1,
};

static void fake_drv_event(enum penstock_drv_event_kind kind, uint32_t region, uint32_t reason)
{
	pthread_mutex_lock(&fake_drv.lock);
	fake_drv.events[fake_drv.nr_events++] = (struct penstock_drv_event){ kind, region, reason };
	pthread_mutex_unlock(&fake_drv.lock);
}

/* Whoever touches its memory from now on gets SIGBUS. */
static void fake_drv_vanish(void)
{
	if (ftruncate(fake_drv.bar, 0))
		abort();
}

const char *penstock_drv_reason_name(uint32_t reason)
{
	return reason ? "FAKE" : NULL;
}

const char *penstock_drv_reason_text(uint32_t reason)
{
	static char text[4][32];
	static unsigned int nr;
	char *t = text[nr++ % 4];

	snprintf(t, sizeof(text[0]), "reason %u", reason);
	return t;
}

int penstock_drv_open(const char *path, struct penstock_error *err)
{
	if (fake_drv.open_error)
		return penstock_err(err, fake_drv.open_error, "%s: fake", path);
	fake_drv.bar = memfd_create("fake-bar", MFD_CLOEXEC);
	if (fake_drv.bar < 0 || ftruncate(fake_drv.bar, FAKE_BAR))
		return penstock_err(err, -errno, "memory file");
	fake_drv.view = mmap(NULL, FAKE_BAR, PROT_READ | PROT_WRITE, MAP_SHARED, fake_drv.bar, 0);
	return fake_drv.bar;
}

void penstock_drv_close(int drv)
{
	if (drv < 0)
		return;
	munmap(fake_drv.view, FAKE_BAR);
	close(drv);
	fake_drv.bar = -1;
}

int penstock_drv_info(int drv, struct penstock_drv_info *info, struct penstock_error *err)
{
	*info = (struct penstock_drv_info){
		.region_read = true, .peer = !fake_drv.no_peer, .peer_mmap = true, .page_size = 4096, .max_order = 9,
		.max_read = 1u << 30, .max_region = 1u << 30, .nr_peers = !fake_drv.no_peer, .peer_reason = 2,
		.generation = fake_drv.generation,
	};
	return 0;
}

int penstock_drv_peer(int drv, uint32_t after, struct penstock_drv_peer *p, struct penstock_error *err)
{
	if (after || fake_drv.no_peer)
		return -ENOENT;
	*p = (struct penstock_drv_peer){
		.id = FAKE_PEER, .pci = { 0, 5, 1 << 3 }, .bar = 2, .vendor = 0x1af4, .device = 0x1110, .numa_node = -1,
		.is_bar = true, .needs_flush = fake_drv.needs_flush, .mappable = !fake_drv.unmappable, .for_tests = true,
		.len = FAKE_BAR, .available = fake_drv.bar_bytes,
	};
	return 0;
}

int penstock_drv_target_add(int drv, int fd, struct penstock_drv_target *t, uint32_t *reason,
			    struct penstock_error *err)
{
	bool meant = !fake_drv.target_size || lseek(fd, 0, SEEK_END) == (off_t)fake_drv.target_size;
	uint32_t i = 1, refused = meant ? fake_drv.target_reason : 0;

	if (reason)
		*reason = refused;
	if (refused)
		return penstock_err(err, -EOPNOTSUPP, "target: reason %u", refused);
	while (i < FAKE_MAX && fake_drv.targets[i] > 0)
		i++;
	if (i == FAKE_MAX)
		return penstock_err(err, -ENOSPC, "targets");
	fake_drv.targets[i] = dup(fd);
	fake_drv.nr_targets++;
	*t = (struct penstock_drv_target){
		.id = i, .peer_reason = meant ? fake_drv.target_peer_reason : 0, .off_align = 512, .mem_align = 4,
		.numa_node = -1, .pci = { 0, 1, 0 },
	};
	return 0;
}

int penstock_drv_target_del(int drv, uint32_t target, struct penstock_error *err)
{
	close(fake_drv.targets[target]);
	fake_drv.targets[target] = 0;
	fake_drv.nr_targets--;
	return 0;
}

/* First fit. */
static int fake_region(uint64_t len, struct penstock_drv_region *r, struct penstock_error *err)
{
	uint64_t off = 0;
	uint32_t i, id = 0;
	int rc = 0;

	pthread_mutex_lock(&fake_drv.lock);
	for (i = 1; i < FAKE_MAX && !id; i++)
		id = fake_drv.regions[i].used ? 0 : i;
	for (i = 1; i < FAKE_MAX; i++)
		if (fake_drv.regions[i].used && off < fake_drv.regions[i].off + fake_drv.regions[i].len &&
		    off + len > fake_drv.regions[i].off) {
			off = fake_drv.regions[i].off + fake_drv.regions[i].len;
			i = 0;
		}
	if (!id || off + len > fake_drv.bar_bytes) {
		rc = penstock_err(err, -ENOSPC, "%llu bytes of the fake BAR", (unsigned long long)len);
	} else {
		fake_drv.regions[id].used = true;
		fake_drv.regions[id].off = off;
		fake_drv.regions[id].len = len;
		fake_drv.nr_regions++;
		memset(fake_drv.view + off, 0, len);
		*r = (struct penstock_drv_region){ id, 1, fake_drv.unmappable ? PENSTOCK_DRV_NOWHERE : off, off };
	}
	pthread_mutex_unlock(&fake_drv.lock);
	return rc;
}

int penstock_drv_region_alloc(int drv, uint64_t len, int numa_node, uint32_t order, struct penstock_drv_region *r,
			      struct penstock_error *err)
{
	int rc = fake_region(len, r, err);

	r->peer_off = PENSTOCK_DRV_NOWHERE;
	return rc;
}

int penstock_drv_region_pin(int drv, void *addr, uint64_t len, struct penstock_drv_region *r,
			    struct penstock_error *err)
{
	return penstock_err(err, -EOPNOTSUPP, "not in the fake");
}

int penstock_drv_region_peer(int drv, uint32_t peer, uint64_t len, struct penstock_drv_region *r, uint32_t *reason,
			     struct penstock_error *err)
{
	if (peer != FAKE_PEER)
		return penstock_err(err, -ENOENT, "peer %u", peer);
	return fake_region(len, r, err);
}

int penstock_drv_region_import(int drv, int dmabuf, uint64_t off, uint64_t len, struct penstock_drv_region *r,
			       uint32_t *reason, struct penstock_error *err)
{
	return penstock_err(err, -EOPNOTSUPP, "not in the fake");
}

int penstock_drv_region_probe(int drv, uint32_t region, uint32_t target, struct penstock_drv_probe *p,
			      struct penstock_error *err)
{
	if (region >= FAKE_MAX || !fake_drv.regions[region].used || target >= FAKE_MAX || !fake_drv.targets[target])
		return penstock_err(err, -ENOENT, "region %u target %u", region, target);
	*p = (struct penstock_drv_probe){
		.map = fake_drv.probe_reason ? PENSTOCK_DRV_MAP_NONE : PENSTOCK_DRV_MAP_BUS, .distance = 4,
		.allowed = !fake_drv.probe_reason, .reason = fake_drv.probe_reason, .generation = fake_drv.generation,
	};
	return 0;
}

static int fake_read_one(struct penstock_drv_read *r)
{
	uint64_t at = fake_drv.regions[r->region].off + r->region_off;
	const struct timespec ts = { .tv_nsec = (long)fake_drv.read_ns };
	bool bad = ++fake_drv.nr_reads > fake_drv.fail_after;
	char *data;
	ssize_t n;

	if (r->off % 512 || r->len % 512 || r->region_off + r->len > fake_drv.regions[r->region].len)
		return -EINVAL;
	if (fake_drv.read_ns)
		nanosleep(&ts, NULL);
	if (bad && fake_drv.read_error)
		return fake_drv.read_error;
	data = malloc(r->len);
	if (!data)
		return -ENOMEM;
	n = pread(fake_drv.targets[r->target], data, r->len, (off_t)r->off);
	if (n < 0)
		n = -errno;
	else if (bad && fake_drv.lie == FAKE_GONE)
		fake_drv_vanish();
	else if (!bad || fake_drv.lie == FAKE_HONEST)
		memcpy(fake_drv.view + at, data, (size_t)n);
	else if (fake_drv.lie == FAKE_ELSEWHERE)
		memcpy(fake_drv.view + at + 4096, data, (size_t)n);
	else if (fake_drv.lie == FAKE_SHORT)
		memcpy(fake_drv.view + at, data, (size_t)n / 2);
	else if (fake_drv.lie == FAKE_MIXED_UP && n > 8)
		fake_drv.view[at + (uint64_t)n / 2] = (char)(data[n / 2] ^ 1);
	free(data);
	return (int)n;
}

int penstock_drv_read(int drv, struct penstock_drv_read *reads, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++)
		reads[i].res = fake_read_one(&reads[i]);
	return 0;
}

int penstock_drv_region_free(int drv, uint32_t region, bool wait, struct penstock_error *err)
{
	pthread_mutex_lock(&fake_drv.lock);
	fake_drv.regions[region].used = false;
	fake_drv.nr_regions--;
	pthread_mutex_unlock(&fake_drv.lock);
	return 0;
}

int penstock_drv_region_export(int drv, uint32_t region, struct penstock_error *err)
{
	return penstock_err(err, -EOPNOTSUPP, "not in the fake");
}

int penstock_drv_region_stat(int drv, uint32_t region, struct penstock_drv_stat *s, struct penstock_error *err)
{
	*s = (struct penstock_drv_stat){ .reads = fake_drv.nr_reads };
	return 0;
}

void *penstock_drv_map(int drv, const struct penstock_drv_region *r, size_t len, struct penstock_error *err)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, drv, (off_t)r->mmap_off);

	if (p != MAP_FAILED)
		return p;
	penstock_err(err, -errno, "map the fake BAR");
	return NULL;
}

int penstock_drv_event(int drv, struct penstock_drv_event *e)
{
	int rc = 0;

	pthread_mutex_lock(&fake_drv.lock);
	if (fake_drv.nr_events) {
		*e = fake_drv.events[0];
		memmove(fake_drv.events, fake_drv.events + 1, --fake_drv.nr_events * sizeof(*e));
		rc = 1;
	}
	pthread_mutex_unlock(&fake_drv.lock);
	return rc;
}

/* No such command: a ring of commands is refused, and reads go by penstock_drv_read(). */
uint32_t penstock_drv_read_cmd(const struct penstock_drv_read *r, void *cmd)
{
	memset(cmd, 0, PENSTOCK_DRV_CMD_BYTES);
	return 0;
}

#endif
