// SPDX-License-Identifier: GPL-2.0-only
/*
 * The n-th failure: of the allocations and copies that a command makes, the
 * first fails, then the second, and so on until there are not as many. Each
 * time the command says so by a documented error or does its work all the same,
 * and nothing is left behind: no object, no pinned page, no descriptor.
 *
 * With PENSTOCK_TEST_NV, the PCI address of a device that has the module which
 * stands in for NVIDIA's as its driver, also over memory by device address.
 *
 * Needs root, debugfs and CONFIG_FAULT_INJECTION with FAILSLAB,
 * FAIL_PAGE_ALLOC and FAULT_INJECTION_USERCOPY; without the latter, commands
 * that only copy have nothing that can fail.
 */
#include "penstock_util.h"
#include "uring.h"
#include "kselftest_harness.h"

#define DEBUGFS		"/sys/kernel/debug/"
#define MOST		2000	/* faults; no command comes near */
#define READ_LEN	(4 * PAGE)
#define LEN		(16 * PAGE)
#define PIN_LEN		(600 * PAGE)
#define POISON		0xee
/* The module that stands in for NVIDIA's: where it has its memory. */
#define NV		"/sys/bus/pci/drivers/nvidia_p2p/"
#define NV_VA		0x700000000000ULL
#define NV_LEN		(4ULL << 16)

/* Without a report of each fault, nor an exception of some allocations. */
static const struct {
	const char *path, *value;
} settings[] = {
	{ DEBUGFS "failslab/ignore-gfp-wait", "N" }, { DEBUGFS "failslab/verbose", "0" },
	{ DEBUGFS "fail_page_alloc/ignore-gfp-wait", "N" }, { DEBUGFS "fail_page_alloc/ignore-gfp-highmem", "N" },
	{ DEBUGFS "fail_page_alloc/min-order", "0" }, { DEBUGFS "fail_page_alloc/verbose", "0" },
	{ DEBUGFS "fail_usercopy/verbose", "0" },
};

FIXTURE(faults) {
	int node, file, nth;
	bool usercopy;		/* copies fail, too */
	bool armed, happened;	/* the fault */
	uint32_t target, host, bar, peer, nv, made;	/* bar and peer: 0 when there is none */
	char *host_map, *bar_map, *user, *want;
	uint64_t host_offset, bar_offset;
	int dmabuf, made_fd;
	struct uring ring;
	char was[ARRAY_SIZE(settings)][16];
	struct objects before, within;
	long long pinned_kib;
};

/**
 * struct step - one command under faults
 * @before: makes what the command is to be applied to
 * @call: the command, 0 or -errno; it alone is under faults, up to nth_end() where it has that
 * @after: gives back what it made, knowing what it returned; 0, or what is wrong with its work
 * @copies_only: it allocates nothing: only its copies can fail
 * @repeated: a worker does again what had no memory, without faults: it may go through all of them
 */
struct step {
	const char *name;
	int (*before)(FIXTURE_DATA(faults) *self);
	int (*call)(FIXTURE_DATA(faults) *self);
	int (*after)(FIXTURE_DATA(faults) *self, int ret);
	bool copies_only, repeated;
};

static bool nth_set(int fd, unsigned int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", n);

	return pwrite(fd, text, (size_t)len, 0) == len;
}

/* No faults from here on. Has the one happened? What remains is told, 0 when it has. */
static void nth_end(FIXTURE_DATA(faults) *self)
{
	char text[16] = "";

	if (!self->armed)
		return;
	self->happened = pread(self->nth, text, sizeof(text) - 1, 0) > 0 && !strtoul(text, NULL, 10);
	nth_set(self->nth, 0);
	self->armed = false;
}

FIXTURE_SETUP(faults)
{
	struct penstock_region_alloc alloc;
	struct penstock_target_add add;
	struct penstock_peer_enum peer;
	struct penstock_region_peer bar;
	unsigned int i;
	int fd;

	self->ring.fd = -1;
	self->node = node_open(O_CLOEXEC);
	if (self->node == -ENOENT) {
		SKIP(return, "no %s", node_path());
	}
	close(self->node);
	self->file = test_file_open(0);
	if (self->file < 0)
		SKIP(return, "no PENSTOCK_TEST_FILE");
	self->nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	if (self->nth < 0 || access(settings[0].path, W_OK) || !objects_get(&self->before))
		SKIP(return, "no fault injection, or no debugfs");
	self->usercopy = !access(DEBUGFS "fail_usercopy", F_OK);
	for (i = 0; i < ARRAY_SIZE(settings); i++) {
		fd = open(settings[i].path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		ASSERT_LT(0, read(fd, self->was[i], sizeof(self->was[i]) - 1));
		close(fd);
		ASSERT_EQ(0, file_write(settings[i].path, settings[i].value));
	}

	self->node = node_open(O_CLOEXEC);
	ASSERT_LE(0, self->node);
	ASSERT_EQ(0, target_add(self->node, self->file, &add));
	self->target = add.out_target_id;
	ASSERT_EQ(0, region_alloc(self->node, LEN, &alloc));
	self->host = alloc.out_region_id;
	self->host_offset = alloc.out_mmap_offset;
	self->host_map = region_map(self->node, self->host_offset, 0, LEN);
	self->dmabuf = region_export(self->node, self->host);
	ASSERT_LE(0, self->dmabuf);
	if (!peer_first(self->node, &peer) && peer.out_provider == PENSTOCK_PEER_BAR) {
		self->peer = peer.out_peer_id;
		ASSERT_EQ(0, region_bar(self->node, self->peer, LEN, &bar));
		self->bar = bar.out_region_id;
		self->bar_offset = bar.out_mmap_offset;
		self->bar_map = region_map(self->node, self->bar_offset, 0, LEN);
		ASSERT_TRUE(self->bar_map != MAP_FAILED);
	}
	self->user = mmap(NULL, PIN_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	self->want = mmap(NULL, READ_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(self->host_map != MAP_FAILED && self->user != MAP_FAILED && self->want != MAP_FAILED);
	memset(self->user, 1, PIN_LEN);
	ASSERT_EQ(READ_LEN, pread(self->file, self->want, READ_LEN, 0));
	self->pinned_kib = vm_pin_kib();
	ASSERT_TRUE(objects_get(&self->within));
}

FIXTURE_TEARDOWN(faults)
{
	unsigned int i;

	uring_exit(&self->ring);
	for (i = 0; i < ARRAY_SIZE(settings); i++)
		if (self->was[i][0])
			EXPECT_EQ(0, file_write(settings[i].path, self->was[i]));
	if (!self->host)
		return;
	munmap(self->host_map, LEN);
	if (self->bar)
		munmap(self->bar_map, LEN);
	close(self->dmabuf);
	close(self->node);
	EXPECT_TRUE(objects_settle(&self->before, 10));
}

/* The errors that a want of memory and an address that cannot be copied have, by the ABI. */
static bool is_documented(int ret)
{
	return !ret || ret == -ENOMEM || ret == -EFAULT;
}

static void sweep(struct __test_metadata *_metadata, FIXTURE_DATA(faults) *self, const struct step *step)
{
	unsigned int n, failed = 0;
	int ret, wrong, next;

	self->happened = true;
	for (n = 1; self->happened && n < MOST; n++) {
		if (step->before)
			ASSERT_EQ(0, step->before(self));
		next = fd_next();
		self->armed = nth_set(self->nth, n);
		ASSERT_TRUE(self->armed);
		ret = step->call(self);
		nth_end(self);
		wrong = step->after ? step->after(self, ret) : 0;
		failed += !!ret;
		if (wrong || !is_documented(ret) || (!self->happened && ret)) {
			TH_LOG("%s, fault %u%s: %d, %d", step->name, n, self->happened ? "" : " not reached", ret,
			       wrong);
			th_fail(_metadata, true);
		}
		if (next != fd_next() || vm_pin_kib() != self->pinned_kib || !objects_settle(&self->within, 10)) {
			TH_LOG("%s, fault %u: %d; left: descriptor %d, was %d; %lld KiB pinned, were %lld",
			       step->name, n, ret, fd_next(), next, vm_pin_kib(), self->pinned_kib);
			th_fail(_metadata, true);
		}
	}
	EXPECT_FALSE(self->happened);
	printf("# %s: %u faults, %u of them failed it\n", step->name, n - 2, failed);
	if (!step->repeated && (!step->copies_only || self->usercopy))
		EXPECT_LT(0, failed);
}

#define SWEEP(_name, ...) do {							\
	const struct step step_ = { .name = _name, ##__VA_ARGS__ };		\
										\
	sweep(_metadata, self, &step_);						\
} while (0)

/* ---- opens, what only looks ---- */

static int call_open(FIXTURE_DATA(faults) *self)
{
	self->made_fd = node_open(O_CLOEXEC);
	return self->made_fd < 0 ? self->made_fd : 0;
}

static int call_info(FIXTURE_DATA(faults) *self)
{
	struct penstock_info info;

	return info_get(self->node, &info);
}

static int call_enum(FIXTURE_DATA(faults) *self)
{
	struct penstock_peer_enum peer = { .size = sizeof(peer) };
	int ret = penstock(self->node, PENSTOCK_IOC_PEER_ENUM, &peer);

	return ret == -ENOENT && !self->peer ? 0 : ret;
}

static int call_stat(FIXTURE_DATA(faults) *self)
{
	struct penstock_region_stat stat;

	return region_stat(self->node, self->host, &stat);
}

static int after_fd(FIXTURE_DATA(faults) *self, int ret)
{
	if (!ret)
		close(self->made_fd);
	return 0;
}

TEST_F_TIMEOUT(faults, open_and_look, 300)
{
	SWEEP("open", .call = call_open, .after = after_fd);
	SWEEP("INFO", .call = call_info, .copies_only = true);
	SWEEP("PEER_ENUM", .call = call_enum, .copies_only = true);
	SWEEP("REGION_STAT", .call = call_stat, .copies_only = true);
}

/* ---- targets ---- */

static int call_target_add(FIXTURE_DATA(faults) *self)
{
	struct penstock_target_add add;
	int ret = target_add(self->node, self->file, &add);

	self->made = add.out_target_id;
	return ret;
}

static int call_target_del(FIXTURE_DATA(faults) *self)
{
	return target_del(self->node, self->made);
}

static int after_target(FIXTURE_DATA(faults) *self, int ret)
{
	return ret ? 0 : target_del(self->node, self->made);
}

/* Where it was taken away and only the answer got lost, it is no more. */
static int after_target_del(FIXTURE_DATA(faults) *self, int ret)
{
	int again = target_del(self->node, self->made);

	return again == -ENOENT || (ret && !again) ? 0 : -EPROTO;
}

TEST_F_TIMEOUT(faults, targets, 300)
{
	SWEEP("TARGET_ADD", .call = call_target_add, .after = after_target);
	SWEEP("TARGET_DEL", .before = call_target_add, .call = call_target_del, .after = after_target_del,
	      .copies_only = true);
}

/* ---- regions ---- */

static int call_alloc(FIXTURE_DATA(faults) *self)
{
	struct penstock_region_alloc alloc = {
		.size = sizeof(alloc), .length = 24 * PAGE, .numa_node = -1, .order = 2 };
	int ret = penstock(self->node, PENSTOCK_IOC_REGION_ALLOC, &alloc);

	self->made = alloc.out_region_id;
	return ret;
}

static int pin(FIXTURE_DATA(faults) *self, uint64_t len)
{
	struct penstock_region_pin cmd;
	int ret = region_pin(self->node, to_u64(self->user), len, &cmd);

	self->made = cmd.out_region_id;
	return ret;
}

static int call_pin(FIXTURE_DATA(faults) *self)
{
	return pin(self, PIN_LEN);
}

/* Memory that is not there yet: pinning it allocates it. */
static int before_pin_absent(FIXTURE_DATA(faults) *self)
{
	return madvise(self->user, 8 * PAGE, MADV_DONTNEED) ? -errno : 0;
}

static int call_pin_absent(FIXTURE_DATA(faults) *self)
{
	return pin(self, 8 * PAGE);
}

static int call_bar(FIXTURE_DATA(faults) *self)
{
	struct penstock_region_peer cmd = { .size = sizeof(cmd), .flags = PENSTOCK_REGION_PEER_F_MMAP,
		.kind = PENSTOCK_PEER_BAR, .peer_id = self->peer, .length = LEN, .fd = -1 };
	int ret = penstock(self->node, PENSTOCK_IOC_REGION_PEER, &cmd);

	self->made = cmd.out_region_id;
	return ret;
}

static int call_import(FIXTURE_DATA(faults) *self)
{
	struct penstock_region_peer cmd;
	int ret = region_import(self->node, self->dmabuf, PAGE, 2 * PAGE, &cmd);

	self->made = cmd.out_region_id;
	return ret;
}

static int call_export(FIXTURE_DATA(faults) *self)
{
	self->made_fd = region_export(self->node, self->made);
	return self->made_fd < 0 ? self->made_fd : 0;
}

static int call_free(FIXTURE_DATA(faults) *self)
{
	return region_free(self->node, self->made, PENSTOCK_REGION_FREE_F_WAIT);
}

static int after_region(FIXTURE_DATA(faults) *self, int ret)
{
	return ret ? 0 : region_free(self->node, self->made, 0);
}

static int after_export(FIXTURE_DATA(faults) *self, int ret)
{
	if (!ret)
		close(self->made_fd);
	return region_free(self->node, self->made, 0);
}

static int after_free(FIXTURE_DATA(faults) *self, int ret)
{
	int again = region_free(self->node, self->made, 0);

	return again == -ENOENT || (ret && !again) ? 0 : -EPROTO;
}

TEST_F_TIMEOUT(faults, host_memory, 300)
{
	SWEEP("REGION_ALLOC", .call = call_alloc, .after = after_region);
	SWEEP("REGION_FREE", .before = call_alloc, .call = call_free, .after = after_free, .copies_only = true);
	SWEEP("REGION_PIN", .call = call_pin, .after = after_region);
	SWEEP("REGION_PIN of absent memory", .before = before_pin_absent, .call = call_pin_absent,
	      .after = after_region);
	SWEEP("REGION_FREE of pinned memory", .before = call_pin, .call = call_free, .after = after_free,
	      .copies_only = true);
}

TEST_F_TIMEOUT(faults, dmabuf, 300)
{
	SWEEP("REGION_EXPORT", .before = call_alloc, .call = call_export, .after = after_export);
	SWEEP("REGION_PEER, a dma-buf", .call = call_import, .after = after_region);
	SWEEP("REGION_FREE of a dma-buf", .before = call_import, .call = call_free, .after = after_free,
	      .copies_only = true);
}

TEST_F_TIMEOUT(faults, peer_memory, 300)
{
	if (!self->peer)
		SKIP(return, "no peer");
	SWEEP("REGION_PEER, a BAR", .call = call_bar, .after = after_region);
	SWEEP("REGION_FREE of a BAR", .before = call_bar, .call = call_free, .after = after_free, .copies_only = true);
	SWEEP("REGION_EXPORT of a BAR", .before = call_bar, .call = call_export, .after = after_export);
}

/* ---- mappings ---- */

/* The first touch faults, and is done once more by the kernel until it succeeds. */
static int map_and_touch(FIXTURE_DATA(faults) *self, uint64_t offset)
{
	volatile char *p = region_map(self->node, offset, 0, LEN);
	size_t i;

	if (p == MAP_FAILED)
		return -errno;
	for (i = 0; i < LEN; i += PAGE)
		p[i] = 1;
	munmap((void *)p, LEN);
	return 0;
}

static int call_map_host(FIXTURE_DATA(faults) *self)
{
	return map_and_touch(self, self->host_offset);
}

static int call_map_bar(FIXTURE_DATA(faults) *self)
{
	return map_and_touch(self, self->bar_offset);
}

TEST_F_TIMEOUT(faults, mappings, 300)
{
	SWEEP("mmap", .call = call_map_host);
	if (self->peer)
		SWEEP("mmap of a BAR", .call = call_map_bar);
}

/* ---- probes and reads ---- */

static int probe(FIXTURE_DATA(faults) *self, uint32_t region)
{
	struct penstock_region_probe cmd;
	int ret = region_probe(self->node, region, self->target, &cmd);

	/* A trial mapping that found no memory is a reason, not an error. */
	if (!ret && cmd.out_reason)
		return cmd.out_reason == PENSTOCK_REASON_MAP_FAILED ? -ENOMEM : -EPROTO;
	return ret;
}

static int call_probe_host(FIXTURE_DATA(faults) *self)
{
	return probe(self, self->host);
}

static int call_probe_bar(FIXTURE_DATA(faults) *self)
{
	return probe(self, self->bar);
}

static int before_read_host(FIXTURE_DATA(faults) *self)
{
	memset(self->host_map, POISON, LEN);
	return 0;
}

static int before_read_bar(FIXTURE_DATA(faults) *self)
{
	memset(self->bar_map, POISON, LEN);
	return 0;
}

/* @ret: of a read of the whole length or of none. */
static int read_ended(int64_t ret)
{
	return ret == READ_LEN ? 0 : ret < 0 ? (int)ret : -EPROTO;
}

static int call_read_host(FIXTURE_DATA(faults) *self)
{
	return read_ended(read_one(self->node, self->target, self->host, 0, PAGE, READ_LEN));
}

static int call_read_bar(FIXTURE_DATA(faults) *self)
{
	return read_ended(read_one(self->node, self->target, self->bar, 0, PAGE, READ_LEN));
}

static bool is_poison(const char *p)
{
	return *(const unsigned char *)p == POISON && !memcmp(p, p + 1, PAGE - 1);
}

/* A read that says so has brought its bytes; any other has not gone beyond its range. */
static int after_read(FIXTURE_DATA(faults) *self, const char *map, int ret)
{
	if (!ret && memcmp(map + PAGE, self->want, READ_LEN))
		return -EILSEQ;
	return is_poison(map) && is_poison(map + PAGE + READ_LEN) ? 0 : -ERANGE;
}

static int after_read_host(FIXTURE_DATA(faults) *self, int ret)
{
	return after_read(self, self->host_map, ret);
}

static int after_read_bar(FIXTURE_DATA(faults) *self, int ret)
{
	return after_read(self, self->bar_map, ret);
}

TEST_F_TIMEOUT(faults, probes_and_reads, 300)
{
	SWEEP("REGION_PROBE", .call = call_probe_host, .copies_only = true);
	SWEEP("REGION_READ", .before = before_read_host, .call = call_read_host, .after = after_read_host);
	if (self->peer) {
		SWEEP("REGION_PROBE of a BAR", .call = call_probe_bar);
		SWEEP("REGION_READ into a BAR", .before = before_read_bar, .call = call_read_bar,
		      .after = after_read_bar);
	}
}

/* ---- READ ---- */

/*
 * The submission is under faults, the wait is not. What io_uring itself had no
 * memory for remains in the ring, and is taken then.
 */
static int ring_read(FIXTURE_DATA(faults) *self, uint32_t region)
{
	const struct penstock_uring_read read = { .target_id = self->target, .region_id = region,
		.region_offset = PAGE, .length = READ_LEN };
	struct io_uring_cqe cqe;

	uring_queue(&self->ring, self->node, PENSTOCK_URING_CMD_READ, &read, 1);
	uring_submit(&self->ring);
	nth_end(self);
	if ((self->ring.queued && uring_submit(&self->ring) != 1) || uring_reap(&self->ring, 30, &cqe))
		return -EPROTO;
	return read_ended(cqe.res);
}

static int call_ring_host(FIXTURE_DATA(faults) *self)
{
	return ring_read(self, self->host);
}

static int call_ring_bar(FIXTURE_DATA(faults) *self)
{
	return ring_read(self, self->bar);
}

TEST_F_TIMEOUT(faults, ring_reads, 300)
{
	struct penstock_region_stat stat;

	if (uring_init(&self->ring, IORING_SETUP_SQE128))
		SKIP(return, "no io_uring");
	SWEEP("READ", .before = before_read_host, .call = call_ring_host, .after = after_read_host);
	if (self->peer)
		SWEEP("READ into a BAR", .before = before_read_bar, .call = call_ring_bar, .after = after_read_bar);
	ASSERT_EQ(0, region_stat(self->node, 0, &stat));
	EXPECT_EQ(0, stat.out_in_flight);
}

/* ---- memory by device address ---- */

static int call_nv(FIXTURE_DATA(faults) *self)
{
	struct penstock_region_peer cmd = { .size = sizeof(cmd), .kind = PENSTOCK_PEER_NVIDIA, .addr = NV_VA,
		.length = NV_LEN, .fd = -1 };
	int ret = penstock(self->node, PENSTOCK_IOC_REGION_PEER, &cmd);

	self->made = cmd.out_region_id;
	return ret;
}

/* Bound again, it is a device of which nothing is known. */
static int before_nv_unknown(FIXTURE_DATA(faults) *self)
{
	const char *device = getenv("PENSTOCK_TEST_NV");
	int ret = file_write(NV "unbind", device);

	return ret ? ret : file_write(NV "bind", device);
}

static int after_nv_unknown(FIXTURE_DATA(faults) *self, int ret)
{
	int wrong = after_region(self, ret);

	return wrong ? wrong : before_nv_unknown(self);
}

static int call_probe_nv(FIXTURE_DATA(faults) *self)
{
	return probe(self, self->nv);
}

static int call_read_nv(FIXTURE_DATA(faults) *self)
{
	return read_ended(read_one(self->node, self->target, self->nv, 0, PAGE, READ_LEN));
}

static int call_ring_nv(FIXTURE_DATA(faults) *self)
{
	return ring_read(self, self->nv);
}

/* So many pages are given away by the owner; they are put by a worker, which may come late. */
static bool nv_live(int want)
{
	int gets, puts, callbacks, live = -1, i;
	FILE *f;

	for (i = 0; i < 100 && live != want; i++) {
		usleep(i ? 100000 : 0);
		f = fopen(DEBUGFS "nvidia_p2p/counts", "r");
		if (!f || fscanf(f, "%d %d %d %d", &gets, &puts, &callbacks, &live) != 4)
			live = -1;
		if (f)
			fclose(f);
	}
	return live == want;
}

TEST_F_TIMEOUT(faults, nv_memory, 300)
{
	if (!getenv("PENSTOCK_TEST_NV"))
		SKIP(return, "no PENSTOCK_TEST_NV");
	SWEEP("REGION_PEER of a device not known", .before = before_nv_unknown, .call = call_nv,
	      .after = after_nv_unknown);
	EXPECT_TRUE(nv_live(0));
	ASSERT_EQ(0, call_nv(self));
	self->nv = self->made;
	ASSERT_TRUE(objects_get(&self->within));
	SWEEP("REGION_PEER by address", .call = call_nv, .after = after_region);
	SWEEP("REGION_FREE of it", .before = call_nv, .call = call_free, .after = after_free, .copies_only = true);
	SWEEP("REGION_PROBE of it", .call = call_probe_nv);
	SWEEP("REGION_READ into it", .call = call_read_nv);
	if (!uring_init(&self->ring, IORING_SETUP_SQE128))
		SWEEP("READ into it", .call = call_ring_nv, .repeated = true);
	EXPECT_TRUE(nv_live(1));
	EXPECT_EQ(0, region_free(self->node, self->nv, PENSTOCK_REGION_FREE_F_WAIT));
	EXPECT_TRUE(nv_live(0));
	/* What is known of the device goes, too. */
	EXPECT_EQ(0, before_nv_unknown(self));
}

TEST_HARNESS_MAIN
