// SPDX-License-Identifier: GPL-2.0-only
/*
 * The rules that all commands of /dev/penstock have in common, by a table of
 * commands: what each takes as its size, reserved fields, flags, addresses.
 *
 * Built for 32 bits, too: the layout and the answers are the same.
 */
#include "penstock_util.h"
#include "uapi_numbers.h"
#include "../../driver/uapi_layout.h"	/* including it is the check of sizes and offsets */
#include "kselftest_harness.h"

#define BUF_LEN 8192

FIXTURE(uapi) {
	int node;
	uint32_t region, target;	/* target: 0 when there is no file to read from */
	int dmabuf, file;
	struct penstock_read read;
	char *page, *ro;		/* a page followed by none; one that can only be read */
	char *pinned;
	bool counted;
	struct objects before, within;	/* without the fixture, and with it */
};

/**
 * struct command - one ioctl
 * @fill: makes the argument valid
 * @undo: gives back what the call made
 * @want: what a valid call returns without a target
 * @want_target: the same, with one
 * @flags: offset of the flags, 0: none
 * @known: flags that there are
 * @out: offsets of fields that the kernel writes, from and to, ended by zeros
 * @reserved: the same of reserved fields
 */
struct command {
	const char *name;
	unsigned long nr;
	uint32_t size;
	void (*fill)(FIXTURE_DATA(uapi) *self, void *arg);
	void (*undo)(FIXTURE_DATA(uapi) *self, void *arg);
	int want, want_target;
	uint32_t flags, known;
	uint32_t out[8];
	uint32_t reserved[4];
};

#define SPAN(s, first, last) \
	offsetof(struct s, first), offsetof(struct s, last) + sizeof(((struct s *)0)->last)
#define COMMAND(_nr, _struct) .name = #_struct, .nr = _nr, .size = sizeof(struct _struct)

static void fill_nothing(FIXTURE_DATA(uapi) *self, void *arg)
{
}

static void fill_target_add(FIXTURE_DATA(uapi) *self, void *arg)
{
	((struct penstock_target_add *)arg)->fd = self->file;
}

static void undo_target_add(FIXTURE_DATA(uapi) *self, void *arg)
{
	target_del(self->node, ((struct penstock_target_add *)arg)->out_target_id);
}

static void fill_target_del(FIXTURE_DATA(uapi) *self, void *arg)
{
	struct penstock_target_add add;

	((struct penstock_target_del *)arg)->target_id = 0x7ffffff0;
	if (self->file >= 0 && !target_add(self->node, self->file, &add))
		((struct penstock_target_del *)arg)->target_id = add.out_target_id;
}

static void undo_target_del(FIXTURE_DATA(uapi) *self, void *arg)
{
	target_del(self->node, ((struct penstock_target_del *)arg)->target_id);
}

static void fill_region_alloc(FIXTURE_DATA(uapi) *self, void *arg)
{
	struct penstock_region_alloc *cmd = arg;

	cmd->length = PAGE;
	cmd->numa_node = -1;
}

static void undo_region_alloc(FIXTURE_DATA(uapi) *self, void *arg)
{
	region_free(self->node, ((struct penstock_region_alloc *)arg)->out_region_id, PENSTOCK_REGION_FREE_F_WAIT);
}

static void fill_region_pin(FIXTURE_DATA(uapi) *self, void *arg)
{
	struct penstock_region_pin *cmd = arg;

	cmd->flags = PENSTOCK_PIN_F_READ;
	cmd->addr = to_u64(self->pinned);
	cmd->length = PAGE;
}

static void undo_region_pin(FIXTURE_DATA(uapi) *self, void *arg)
{
	region_free(self->node, ((struct penstock_region_pin *)arg)->out_region_id, PENSTOCK_REGION_FREE_F_WAIT);
}

static void fill_region_peer(FIXTURE_DATA(uapi) *self, void *arg)
{
	struct penstock_region_peer *cmd = arg;

	cmd->kind = PENSTOCK_PEER_DMABUF;
	cmd->length = PAGE;
	cmd->fd = self->dmabuf;
}

static void undo_region_peer(FIXTURE_DATA(uapi) *self, void *arg)
{
	region_free(self->node, ((struct penstock_region_peer *)arg)->out_region_id, PENSTOCK_REGION_FREE_F_WAIT);
}

static void fill_region_probe(FIXTURE_DATA(uapi) *self, void *arg)
{
	((struct penstock_region_probe *)arg)->region_id = self->region;
	((struct penstock_region_probe *)arg)->target_id = self->target;
}

static void fill_region_read(FIXTURE_DATA(uapi) *self, void *arg)
{
	struct penstock_region_read *cmd = arg;

	self->read = (struct penstock_read) { .region_id = self->region, .length = PAGE };
	cmd->reads_uptr = to_u64(&self->read);
	cmd->nr_reads = 1;
	cmd->read_size = sizeof(self->read);
}

static void fill_region_free(FIXTURE_DATA(uapi) *self, void *arg)
{
	struct penstock_region_alloc alloc = {};

	region_alloc(self->node, PAGE, &alloc);
	((struct penstock_region_free *)arg)->region_id = alloc.out_region_id;
}

static void undo_region_free(FIXTURE_DATA(uapi) *self, void *arg)
{
	region_free(self->node, ((struct penstock_region_free *)arg)->region_id, PENSTOCK_REGION_FREE_F_WAIT);
}

static void fill_region_export(FIXTURE_DATA(uapi) *self, void *arg)
{
	((struct penstock_region_export *)arg)->region_id = self->region;
}

static void undo_region_export(FIXTURE_DATA(uapi) *self, void *arg)
{
	close(((struct penstock_region_export *)arg)->out_fd);
}

static const struct command commands[] = {
	{ COMMAND(PENSTOCK_IOC_INFO, penstock_info), .fill = fill_nothing,
	  .out = { SPAN(penstock_info, out_features, out_generation) },
	  .reserved = { SPAN(penstock_info, __reserved, __reserved) } },
	/* Behind the last peer there is none. */
	{ COMMAND(PENSTOCK_IOC_PEER_ENUM, penstock_peer_enum), .fill = fill_nothing, .want = 1, .want_target = 1,
	  .out = { SPAN(penstock_peer_enum, out_peer_id, out_numa_node),
		   SPAN(penstock_peer_enum, out_len, out_available) },
	  .reserved = { SPAN(penstock_peer_enum, __reserved, __reserved) } },
	{ COMMAND(PENSTOCK_IOC_TARGET_ADD, penstock_target_add), .fill = fill_target_add, .undo = undo_target_add,
	  .want = -EBADF, .flags = offsetof(struct penstock_target_add, flags),
	  .out = { SPAN(penstock_target_add, out_target_id, out_nowait_len) },
	  .reserved = { SPAN(penstock_target_add, __reserved, __reserved) } },
	{ COMMAND(PENSTOCK_IOC_TARGET_DEL, penstock_target_del), .fill = fill_target_del, .undo = undo_target_del,
	  .want = -ENOENT },
	{ COMMAND(PENSTOCK_IOC_REGION_ALLOC, penstock_region_alloc), .fill = fill_region_alloc,
	  .undo = undo_region_alloc, .flags = offsetof(struct penstock_region_alloc, flags),
	  .out = { SPAN(penstock_region_alloc, out_region_id, out_mmap_offset) } },
	{ COMMAND(PENSTOCK_IOC_REGION_PIN, penstock_region_pin), .fill = fill_region_pin, .undo = undo_region_pin,
	  .flags = offsetof(struct penstock_region_pin, flags), .known = PENSTOCK_PIN_F_READ,
	  .out = { SPAN(penstock_region_pin, out_region_id, out_nr_segments) } },
	{ COMMAND(PENSTOCK_IOC_REGION_PEER, penstock_region_peer), .fill = fill_region_peer,
	  .undo = undo_region_peer, .flags = offsetof(struct penstock_region_peer, flags),
	  .known = PENSTOCK_REGION_PEER_F_MMAP,
	  .out = { SPAN(penstock_region_peer, out_region_id, out_peer_offset) },
	  .reserved = { SPAN(penstock_region_peer, __reserved, __reserved) } },
	{ COMMAND(PENSTOCK_IOC_REGION_PROBE, penstock_region_probe), .fill = fill_region_probe, .want = -ENOENT,
	  .flags = offsetof(struct penstock_region_probe, flags),
	  .out = { SPAN(penstock_region_probe, out_map_type, out_generation) },
	  .reserved = { SPAN(penstock_region_probe, __reserved, __reserved) } },
	{ COMMAND(PENSTOCK_IOC_REGION_READ, penstock_region_read), .fill = fill_region_read,
	  .flags = offsetof(struct penstock_region_read, flags),
	  .out = { SPAN(penstock_region_read, out_nr_done, out_nr_done) },
	  .reserved = { SPAN(penstock_region_read, __reserved, __reserved) } },
	{ COMMAND(PENSTOCK_IOC_REGION_FREE, penstock_region_free), .fill = fill_region_free,
	  .undo = undo_region_free, .flags = offsetof(struct penstock_region_free, flags),
	  .known = PENSTOCK_REGION_FREE_F_WAIT,
	  .out = { SPAN(penstock_region_free, out_in_flight, out_in_flight) } },
	{ COMMAND(PENSTOCK_IOC_REGION_EXPORT, penstock_region_export), .fill = fill_region_export,
	  .undo = undo_region_export, .flags = offsetof(struct penstock_region_export, flags),
	  .out = { SPAN(penstock_region_export, out_fd, out_fd) } },
	{ COMMAND(PENSTOCK_IOC_REGION_STAT, penstock_region_stat), .fill = fill_nothing,
	  .flags = offsetof(struct penstock_region_stat, flags),
	  .out = { SPAN(penstock_region_stat, out_in_flight, out_unreachable) } },
};

#define for_each_command(c) for ((c) = commands; (c) < commands + ARRAY_SIZE(commands); (c)++)

FIXTURE_SETUP(uapi)
{
	struct penstock_target_add add;
	struct penstock_region_alloc alloc;

	self->counted = objects_get(&self->before);
	self->node = node_open(O_CLOEXEC);
	if (self->node == -ENOENT) {
		SKIP(return, "no %s", node_path());
	}
	ASSERT_LE(0, self->node);
	self->page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	self->ro = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	self->pinned = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(self->page != MAP_FAILED && self->ro != MAP_FAILED && self->pinned != MAP_FAILED);
	ASSERT_EQ(0, mprotect(self->page + PAGE, PAGE, PROT_NONE));
	ASSERT_EQ(0, region_alloc(self->node, PAGE, &alloc));
	self->region = alloc.out_region_id;
	self->dmabuf = region_export(self->node, self->region);
	ASSERT_LE(0, self->dmabuf);
	self->file = test_file_open(0);
	if (self->file >= 0) {
		ASSERT_EQ(0, target_add(self->node, self->file, &add));
		self->target = add.out_target_id;
	}
	if (self->counted)
		objects_get(&self->within);
}

/* Whatever the calls did, everything was undone, and not only by the end of the open. */
FIXTURE_TEARDOWN(uapi)
{
	if (self->counted)
		EXPECT_TRUE(objects_settle(&self->within, 10));
	close(self->dmabuf);
	close(self->file);
	close(self->node);
	if (self->counted)
		EXPECT_TRUE(objects_settle(&self->before, 10));
}

/* @len bytes at @arg hold a valid struct followed by zeros, outputs with rubbish. */
static void prepare(FIXTURE_DATA(uapi) *self, const struct command *c, void *arg, uint32_t size)
{
	const uint32_t *out;

	memset(arg, 0, size > c->size ? size : c->size);
	for (out = c->out; out[1]; out += 2)
		memset((char *)arg + out[0], 0xa5, out[1] - out[0]);
	c->fill(self, arg);
	*(uint32_t *)arg = size;
}

/* Call it with @size bytes of a valid struct at @arg. */
static int call(FIXTURE_DATA(uapi) *self, const struct command *c, void *arg)
{
	return penstock(self->node, c->nr, arg);
}

static bool is_valid_result(const FIXTURE_DATA(uapi) *self, const struct command *c, int ret)
{
	int want = self->target ? c->want_target : c->want;

	return want == 1 ? ret == 0 || ret == -ENOENT : ret == want;
}

static void undo(FIXTURE_DATA(uapi) *self, const struct command *c, void *arg, int ret)
{
	if (!ret && c->undo && c->undo != undo_region_free && c->undo != undo_target_del)
		c->undo(self, arg);
	/* What a command was to take away is there still when it failed. */
	if (ret && (c->undo == undo_region_free || c->undo == undo_target_del))
		c->undo(self, arg);
}

#define CALL_VALID(c, arg) do {							\
	int ret_ = call(self, c, arg);						\
	if (!is_valid_result(self, c, ret_)) {					\
		TH_LOG("%s: %d", (c)->name, ret_);				\
		th_fail(_metadata, false);					\
	}									\
	undo(self, c, arg, ret_);						\
} while (0)

#define CALL_FAILS(want, c, arg, fmt, ...) do {					\
	int ret_ = call(self, c, arg);						\
	if (ret_ != -(want)) {							\
		TH_LOG("%s: %d, not " #want "; " fmt, (c)->name, ret_, ##__VA_ARGS__); \
		th_fail(_metadata, false);					\
	}									\
	undo(self, c, arg, ret_);						\
} while (0)

TEST_F(uapi, size_of_the_first_version_is_the_least)
{
	const struct command *c;
	uint32_t size;
	char buf[256];

	for_each_command(c) {
		ASSERT_GE(sizeof(buf), c->size);
		for (size = 0; size < c->size; size++) {
			prepare(self, c, buf, c->size);
			*(uint32_t *)buf = size;
			CALL_FAILS(EINVAL, c, buf, "size %u", size);
		}
		prepare(self, c, buf, c->size);
		CALL_VALID(c, buf);
	}
}

TEST_F(uapi, longer_struct_is_taken_with_zeros_only)
{
	static const uint32_t more[] = { 1, 4, 8, 100, 1000 };
	const struct command *c;
	char buf[BUF_LEN];
	uint32_t i, at, size;

	for_each_command(c) {
		for (i = 0; i < ARRAY_SIZE(more); i++) {
			size = c->size + more[i];
			prepare(self, c, buf, size);
			CALL_VALID(c, buf);
			for (at = c->size; at < size; at += more[i] > 8 ? 97 : 1) {
				prepare(self, c, buf, size);
				buf[at] = 0x40;
				CALL_FAILS(E2BIG, c, buf, "byte %u of %u", at, size);
			}
			prepare(self, c, buf, size);
			buf[size - 1] = 1;
			CALL_FAILS(E2BIG, c, buf, "last byte of %u", size);
			/* What follows the struct is not looked at. */
			prepare(self, c, buf, size);
			buf[size] = 1;
			CALL_VALID(c, buf);
		}
	}
}

TEST_F(uapi, size_is_at_most_a_page)
{
	static const uint32_t over[] = { PAGE + 1, PAGE + 8, 2 * PAGE, 0x7fffffff, 0x80000000, 0xffffffff };
	const struct command *c;
	char buf[BUF_LEN];
	uint32_t i;

	for_each_command(c) {
		prepare(self, c, buf, PAGE);
		CALL_VALID(c, buf);
		prepare(self, c, buf, PAGE);
		buf[PAGE - 1] = 1;
		CALL_FAILS(E2BIG, c, buf, "last byte of a page");
		for (i = 0; i < ARRAY_SIZE(over); i++) {
			prepare(self, c, buf, 2 * PAGE);
			*(uint32_t *)buf = over[i];
			CALL_FAILS(E2BIG, c, buf, "size %u", over[i]);
		}
	}
}

TEST_F(uapi, bad_address)
{
	const struct command *c;
	uint32_t lack;

	for_each_command(c) {
		EXPECT_EQ(-EFAULT, call(self, c, NULL));
		EXPECT_EQ(-EFAULT, call(self, c, (void *)8));
		EXPECT_EQ(-EFAULT, call(self, c, self->page + PAGE));
		EXPECT_EQ(-EFAULT, call(self, c, (void *)-PAGE));
		EXPECT_EQ(-EFAULT, call(self, c, (void *)-2UL));
		/* Some of it is there, in words and in bytes. */
		for (lack = 1; lack < c->size; lack += lack < 8 ? 1 : 7) {
			char *arg = self->page + PAGE - c->size + lack;
			char buf[256];

			prepare(self, c, buf, c->size);
			memcpy(arg, buf, c->size - lack);
			if (call(self, c, arg) != -EFAULT) {
				TH_LOG("%s: not EFAULT with %u bytes missing", c->name, lack);
				th_fail(_metadata, false);
			}
			undo(self, c, buf, -EFAULT);
		}
	}
}

TEST_F(uapi, nothing_behind_the_struct_is_touched)
{
	const struct command *c;
	char *arg;

	for_each_command(c) {
		arg = self->page + PAGE - c->size;
		prepare(self, c, arg, c->size);
		CALL_VALID(c, arg);
		/* A longer one: what the kernel does not know is not written. */
		arg = self->page + PAGE - c->size - 16;
		prepare(self, c, arg, c->size + 8);
		memset(arg + c->size + 8, 0x77, 8);
		CALL_VALID(c, arg);
		EXPECT_EQ(0, memcmp(arg + c->size, "\0\0\0\0\0\0\0\0wwwwwwww", 16));
	}
}

/* A result that cannot be written is as good as lost: what was made is not kept. The fixture counts objects. */
TEST_F(uapi, struct_that_cannot_be_written)
{
	const struct command *c;
	int ret, fd;

	for_each_command(c) {
		fd = fd_next();
		ASSERT_EQ(0, mprotect(self->ro, PAGE, PROT_READ | PROT_WRITE));
		prepare(self, c, self->ro, c->size);
		ASSERT_EQ(0, mprotect(self->ro, PAGE, PROT_READ));
		ret = call(self, c, self->ro);
		if (ret != -EFAULT) {
			TH_LOG("%s: %d", c->name, ret);
			th_fail(_metadata, false);
		}
		undo(self, c, self->ro, ret);
		EXPECT_EQ(fd, fd_next());
	}
}

static bool is_output(const struct command *c, uint32_t at)
{
	const uint32_t *out;

	for (out = c->out; out[1]; out += 2)
		if (at >= out[0] && at < out[1])
			return true;
	return false;
}

TEST_F(uapi, inputs_are_left_alone)
{
	const struct command *c;
	char buf[256], before[256];
	uint32_t at;

	for_each_command(c) {
		prepare(self, c, buf, c->size);
		memcpy(before, buf, sizeof(buf));
		CALL_VALID(c, buf);
		for (at = 0; at < c->size; at++) {
			if (!is_output(c, at) && buf[at] != before[at]) {
				TH_LOG("%s: byte %u was written", c->name, at);
				th_fail(_metadata, false);
			}
		}
	}
}

TEST_F(uapi, reserved_fields_are_zero)
{
	const struct command *c;
	const uint32_t *span;
	char buf[256];
	uint32_t at, bit;

	for_each_command(c) {
		for (span = c->reserved; span[1]; span += 2) {
			for (at = span[0]; at < span[1]; at++) {
				for (bit = 0; bit < 8; bit++) {
					prepare(self, c, buf, c->size);
					buf[at] = (char)(1 << bit);
					CALL_FAILS(EOPNOTSUPP, c, buf, "bit %u of byte %u", bit, at);
				}
			}
		}
	}
}

TEST_F(uapi, unknown_flags)
{
	const struct command *c;
	char buf[256];
	uint32_t bit;

	for_each_command(c) {
		for (bit = 0; c->flags && bit < 32; bit++) {
			prepare(self, c, buf, c->size);
			*(uint32_t *)(buf + c->flags) |= 1U << bit;
			if (c->known & (1U << bit))
				CALL_VALID(c, buf);
			else
				CALL_FAILS(EOPNOTSUPP, c, buf, "flag %#x", 1U << bit);
		}
	}
}

TEST_F(uapi, unknown_commands)
{
	char buf[256] = { (char)sizeof(buf) };
	const struct command *c;
	unsigned int nr, type;

	for (nr = 0; nr < 256; nr++) {
		for (type = 0; type < 256; type++) {
			int ret;

			/* 'T' and 'f' have commands that the kernel itself answers for every file. */
			if (type == 'T' || type == 'f' || type == 'v' || type == 0)
				continue;
			if (type == PENSTOCK_IOC_TYPE && nr < ARRAY_SIZE(commands))
				continue;
			*(uint32_t *)buf = sizeof(buf);
			ret = penstock(self->node, _IOC(_IOC_NONE, type, nr, 0), buf);
			if (ret != -ENOTTY) {
				TH_LOG("type %#x, number %#x: %d", type, nr, ret);
				th_fail(_metadata, false);
			}
		}
	}
	for_each_command(c) {
		prepare(self, c, buf, c->size);
		EXPECT_EQ(-ENOTTY, penstock(self->node, _IOC(_IOC_READ, PENSTOCK_IOC_TYPE, _IOC_NR(c->nr), 0), buf));
		EXPECT_EQ(-ENOTTY, penstock(self->node, _IOC(_IOC_NONE, PENSTOCK_IOC_TYPE, _IOC_NR(c->nr), 8), buf));
		EXPECT_EQ(-ENOTTY, penstock(self->node, _IOC(_IOC_READ | _IOC_WRITE, PENSTOCK_IOC_TYPE, _IOC_NR(c->nr),
							     c->size), buf));
		undo(self, c, buf, -ENOTTY);
	}
	EXPECT_EQ(-ENOTTY, penstock(self->node, PENSTOCK_URING_CMD_READ, buf));
	EXPECT_EQ(-ENOTTY, penstock(self->node, PENSTOCK_URING_CMD_WRITE, buf));
}

TEST_F(uapi, info_says_what_there_is)
{
	struct penstock_info info;

	ASSERT_EQ(0, info_get(self->node, &info));
	EXPECT_EQ(sysconf(_SC_PAGESIZE), info.out_page_size);
	EXPECT_EQ(PAGE, info.out_page_size);
	EXPECT_EQ(0, info.out_features & ~(PENSTOCK_FEATURE_URING_READ | PENSTOCK_FEATURE_REGION_READ |
					   PENSTOCK_FEATURE_PEER | PENSTOCK_FEATURE_PEER_MMAP |
					   PENSTOCK_FEATURE_DMABUF));
	EXPECT_TRUE(info.out_features & PENSTOCK_FEATURE_REGION_READ);
	/* There is a reason exactly where there are no peers. */
	EXPECT_EQ(!(info.out_features & PENSTOCK_FEATURE_PEER), info.out_peer_reason != PENSTOCK_REASON_NONE);
	EXPECT_EQ(0x7ffff000, info.out_max_read_len);
	EXPECT_LE(1ULL << 30, info.out_max_region_len);
	EXPECT_EQ(0, info.out_max_region_len % info.out_page_size);
	EXPECT_LE(1, info.out_max_regions);
	EXPECT_LE(1, info.out_max_targets);
	EXPECT_LE(9, info.out_max_order);
	EXPECT_GE(PENSTOCK_P2P_PAGE_MODEL_UNKNOWN, info.out_p2p_page_model);
	EXPECT_LE(info.out_peer_used, info.out_peer_limit);
}

/* Peers come in the order of their ids, as many as INFO says, and what is said of each fits together. */
TEST_F(uapi, peers_are_enumerated)
{
	struct penstock_peer_enum peer = { .size = sizeof(peer) };
	struct penstock_info info;
	uint32_t nr = 0;

	ASSERT_EQ(0, info_get(self->node, &info));
	while (!penstock(self->node, PENSTOCK_IOC_PEER_ENUM, &peer)) {
		EXPECT_LT(peer.after_peer_id, peer.out_peer_id);
		EXPECT_EQ(PENSTOCK_PEER_BAR, peer.out_provider);
		EXPECT_GE(peer.out_len, peer.out_available);
		EXPECT_GT(6, peer.out_bar);
		EXPECT_GT(256, peer.out_bus);
		EXPECT_GT(256, peer.out_devfn);
		if (info.out_peer_reason)
			EXPECT_EQ(info.out_peer_reason, peer.out_reason);
		if (peer.out_reason)
			EXPECT_EQ(0, peer.out_available);
		peer.after_peer_id = peer.out_peer_id;
		nr++;
	}
	EXPECT_EQ(info.out_nr_peers, nr);
	peer.after_peer_id = UINT32_MAX;
	EXPECT_EQ(-ENOENT, penstock(self->node, PENSTOCK_IOC_PEER_ENUM, &peer));
}

TEST_HARNESS_MAIN
