// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the io_uring command READ and REGION_READ take and what they refuse:
 * every field wrong one by one. Nothing that was refused is read, and it
 * counts as refused.
 *
 * Built for 32 bits, too: the answers are the same.
 */
#include "penstock_util.h"
#include "uring.h"
#include "kselftest_harness.h"

#define LEN		(64 * PAGE)
#define POISON		0xee
#define UNTOUCHED	(-12345)

/* How a read is given to the module. */
enum way { BY_RING, BY_WORKER, BY_IOCTL };

FIXTURE(reading) {
	int node, file;
	struct uring ring;
	struct penstock_info info;
	struct penstock_target_add target;
	struct penstock_uring_read good;
	uint32_t region;
	char *map, *want;	/* of the region, and the first bytes of the file */
	bool counted;
	struct objects before;
};

FIXTURE_VARIANT(reading) {
	enum way way;
};
FIXTURE_VARIANT_ADD(reading, ring) { .way = BY_RING };
FIXTURE_VARIANT_ADD(reading, worker) { .way = BY_WORKER };
FIXTURE_VARIANT_ADD(reading, ioctl) { .way = BY_IOCTL };

FIXTURE_SETUP(reading)
{
	struct penstock_region_alloc alloc;

	self->counted = objects_get(&self->before);
	self->ring.fd = -1;
	self->file = test_file_open(0);
	self->node = node_open(O_CLOEXEC);
	if (self->node == -ENOENT || self->file < 0) {
		SKIP(return, "no %s", self->file < 0 ? "PENSTOCK_TEST_FILE" : node_path());
	}
	ASSERT_LE(0, self->node);
	ASSERT_EQ(0, info_get(self->node, &self->info));
	ASSERT_EQ(0, target_add(self->node, self->file, &self->target));
	ASSERT_EQ(0, region_alloc(self->node, LEN, &alloc));
	self->region = alloc.out_region_id;
	self->map = region_map(self->node, alloc.out_mmap_offset, 0, LEN);
	self->want = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(self->map != MAP_FAILED && self->want != MAP_FAILED);
	ASSERT_EQ(PAGE, pread(self->file, self->want, PAGE, 0));
	memset(self->map, POISON, LEN);
	self->good = (struct penstock_uring_read) { .target_id = self->target.out_target_id,
		.region_id = self->region, .length = PAGE };
	if (variant->way != BY_IOCTL && uring_init(&self->ring, IORING_SETUP_SQE128))
		SKIP(return, "no io_uring");
}

FIXTURE_TEARDOWN(reading)
{
	uring_exit(&self->ring);
	if (self->map)
		munmap(self->map, LEN);
	close(self->node);
	close(self->file);
	if (self->counted)
		EXPECT_TRUE(objects_settle(&self->before, 10));
}

/* Bytes or -errno. */
static int64_t issue(FIXTURE_DATA(reading) *self, const FIXTURE_VARIANT(reading) *variant,
		     const struct penstock_uring_read *read)
{
	struct penstock_read one = { .target_id = read->target_id, .region_id = read->region_id, .offset = read->offset,
		.region_offset = read->region_offset, .length = read->length, .flags = read->flags,
		.out_result = UNTOUCHED };
	int ret;

	if (variant->way == BY_IOCTL) {
		ret = region_read(self->node, &one, 1);
		return ret ? ret : one.out_result;
	}
	uring_queue(&self->ring, self->node, PENSTOCK_URING_CMD_READ, read, 1)->flags =
		variant->way == BY_WORKER ? IOSQE_ASYNC : 0;
	return uring_result(&self->ring, 1);
}

static bool is_poison(const char *p, size_t len)
{
	return *(const unsigned char *)p == POISON && !memcmp(p, p + 1, len - 1);
}

static uint64_t refused(FIXTURE_DATA(reading) *self)
{
	struct penstock_region_stat stat;

	return region_stat(self->node, 0, &stat) ? 0 : stat.out_refused;
}

/* A good read with @field set to @value is answered by @result: an error before anything was read. */
#define CHECK_FIELD(field, value, result) do {					\
	struct penstock_uring_read read_ = self->good;				\
	uint64_t refused_ = refused(self);					\
	int64_t ret_;								\
										\
	read_.field = (value);							\
	ret_ = issue(self, variant, &read_);					\
	if (ret_ != (result) || refused(self) != refused_ + 1) {		\
		TH_LOG(#field " %llu: %lld, not " #result "; %llu refused", (unsigned long long)read_.field, \
		       (long long)ret_, (unsigned long long)(refused(self) - refused_)); \
		th_fail(_metadata, false);					\
	}									\
} while (0)

TEST_F(reading, what_is_good)
{
	ASSERT_EQ(PAGE, issue(self, variant, &self->good));
	EXPECT_EQ(0, memcmp(self->map, self->want, PAGE));
	EXPECT_TRUE(is_poison(self->map + PAGE, LEN - PAGE));
	EXPECT_EQ(0, refused(self));
}

TEST_F(reading, wrong_ids)
{
	struct penstock_region_alloc alloc, others, free;
	struct penstock_target_add add, other_add, free_add;
	struct penstock_region_stat stat;
	int i, other;

	other = node_open(O_CLOEXEC);
	ASSERT_LE(0, other);
	/* The numbers of two opens begin alike: go beyond those that we have ourselves. */
	for (i = 0; i < 20; i++) {
		ASSERT_EQ(0, region_alloc(other, PAGE, &others));
		ASSERT_EQ(0, target_add(other, self->file, &other_add));
	}
	ASSERT_EQ(0, region_alloc(self->node, PAGE, &free));
	ASSERT_EQ(0, region_free(self->node, free.out_region_id, 0));
	ASSERT_EQ(0, target_add(self->node, self->file, &free_add));
	ASSERT_EQ(0, target_del(self->node, free_add.out_target_id));

	CHECK_FIELD(target_id, 0, -ENOENT);
	CHECK_FIELD(target_id, UINT32_MAX, -ENOENT);
	CHECK_FIELD(target_id, INT32_MAX, -ENOENT);
	CHECK_FIELD(target_id, free_add.out_target_id, -ENOENT);
	CHECK_FIELD(target_id, other_add.out_target_id, -ENOENT);
	CHECK_FIELD(region_id, 0, -ENOENT);
	CHECK_FIELD(region_id, UINT32_MAX, -ENOENT);
	CHECK_FIELD(region_id, INT32_MAX, -ENOENT);
	CHECK_FIELD(region_id, free.out_region_id, -ENOENT);
	CHECK_FIELD(region_id, others.out_region_id, -ENOENT);

	/* A target whose number is no region's, and the reverse. */
	do
		ASSERT_EQ(0, target_add(self->node, self->file, &add));
	while (!region_stat(self->node, add.out_target_id, &stat));
	CHECK_FIELD(region_id, add.out_target_id, -ENOENT);
	do
		ASSERT_EQ(0, region_alloc(self->node, PAGE, &alloc));
	while (alloc.out_region_id <= add.out_target_id);
	CHECK_FIELD(target_id, alloc.out_region_id, -ENOENT);
	EXPECT_TRUE(is_poison(self->map, LEN));
	close(other);
}

TEST_F(reading, flags)
{
	int i;

	for (i = 0; i < 32; i++)
		CHECK_FIELD(flags, 1U << i, -EOPNOTSUPP);
	CHECK_FIELD(flags, UINT32_MAX, -EOPNOTSUPP);
	EXPECT_TRUE(is_poison(self->map, LEN));
}

TEST_F(reading, lengths)
{
	uint32_t align = self->target.out_offset_align, most = (uint32_t)self->info.out_max_read_len;

	ASSERT_LE(512, align);
	ASSERT_EQ(self->info.out_max_read_len, most);
	CHECK_FIELD(length, 0, -EINVAL);
	CHECK_FIELD(length, 1, -EINVAL);
	CHECK_FIELD(length, align - 1, -EINVAL);
	CHECK_FIELD(length, align + 1, -EINVAL);
	CHECK_FIELD(length, align / 2, -EINVAL);
	CHECK_FIELD(length, PAGE + 1, -EINVAL);
	/* Longer than the region, than the longest read, than an int. */
	CHECK_FIELD(length, LEN + align, -EINVAL);
	CHECK_FIELD(length, most, -EINVAL);
	CHECK_FIELD(length, most + align, -EINVAL);
	CHECK_FIELD(length, 1U << 31, -EINVAL);
	CHECK_FIELD(length, -align, -EINVAL);
	CHECK_FIELD(length, UINT32_MAX, -EINVAL);
	EXPECT_TRUE(is_poison(self->map, LEN));
	self->good.length = align;
	EXPECT_EQ(align, issue(self, variant, &self->good));
	EXPECT_EQ(0, memcmp(self->map, self->want, align));
	EXPECT_TRUE(is_poison(self->map + align, LEN - align));
}

TEST_F(reading, offsets_into_the_file)
{
	const uint64_t end = 1ULL << 63;
	uint64_t align = self->target.out_offset_align;

	CHECK_FIELD(offset, 1, -EINVAL);
	CHECK_FIELD(offset, align - 1, -EINVAL);
	CHECK_FIELD(offset, align / 2, -EINVAL);
	CHECK_FIELD(offset, align + 1, -EINVAL);
	CHECK_FIELD(offset, end - 1, -EINVAL);
	CHECK_FIELD(offset, ALL_ONES, -EINVAL);
	/* Together with the length, which is a page. */
	CHECK_FIELD(offset, end - PAGE, -EOVERFLOW);
	CHECK_FIELD(offset, end - align, -EOVERFLOW);
	CHECK_FIELD(offset, end, -EOVERFLOW);
	CHECK_FIELD(offset, -(uint64_t)PAGE - align, -EOVERFLOW);
	CHECK_FIELD(offset, -(uint64_t)PAGE, -EOVERFLOW);
	CHECK_FIELD(offset, -align, -EOVERFLOW);
	/* The last that can be expressed lies behind the end of any file. */
	self->good.offset = end - PAGE - align;
	EXPECT_EQ(0, issue(self, variant, &self->good));
	EXPECT_TRUE(is_poison(self->map, LEN));
}

TEST_F(reading, offsets_into_the_region)
{
	uint64_t align = self->target.out_mem_align, i;

	ASSERT_LE(1, align);
	for (i = 1; i < align; i++)
		CHECK_FIELD(region_offset, i, -EINVAL);
	CHECK_FIELD(region_offset, LEN - PAGE + align, -EINVAL);
	CHECK_FIELD(region_offset, LEN - align, -EINVAL);
	CHECK_FIELD(region_offset, LEN, -EINVAL);
	CHECK_FIELD(region_offset, LEN + PAGE, -EINVAL);
	CHECK_FIELD(region_offset, 1ULL << 32, -EINVAL);
	CHECK_FIELD(region_offset, 1ULL << 63, -EINVAL);
	CHECK_FIELD(region_offset, -(uint64_t)PAGE - align, -EINVAL);
	CHECK_FIELD(region_offset, -(uint64_t)PAGE, -EOVERFLOW);
	CHECK_FIELD(region_offset, -align, -EOVERFLOW);
	EXPECT_TRUE(is_poison(self->map, LEN));
	self->good.region_offset = LEN - PAGE;
	EXPECT_EQ(PAGE, issue(self, variant, &self->good));
	EXPECT_EQ(0, memcmp(self->map + LEN - PAGE, self->want, PAGE));
	EXPECT_TRUE(is_poison(self->map, LEN - PAGE));
}

/* ---- the entry of the ring ---- */

TEST_F(reading, reserved_words_of_the_entry)
{
	unsigned int i;
	int bit;

	if (variant->way == BY_IOCTL)
		SKIP(return, "not of this command");
	for (i = 0; i < ARRAY_SIZE(self->good.__reserved); i++)
		for (bit = 0; bit < 64; bit += 21)
			CHECK_FIELD(__reserved[i], 1ULL << bit, -EOPNOTSUPP);
	EXPECT_TRUE(is_poison(self->map, LEN));
}

TEST_F(reading, other_commands_of_the_ring)
{
	static const struct {
		uint32_t op;
		int want;
	} ops[] = {
		{ PENSTOCK_URING_CMD_WRITE, -EOPNOTSUPP },
		{ PENSTOCK_URING_CMD_READ + 2, -ENOTTY },
		{ PENSTOCK_IOC_INFO, -ENOTTY },
		{ PENSTOCK_IOC_REGION_READ, -ENOTTY },
		{ PENSTOCK_URING_CMD_READ | 1U << 16, -ENOTTY },
		{ PENSTOCK_URING_CMD_READ | 1U << 31, -ENOTTY },
		{ PENSTOCK_URING_CMD_READ & 0xff, -ENOTTY },
		{ 0, -ENOTTY }, { UINT32_MAX, -ENOTTY },
	};
	unsigned int i;

	if (variant->way == BY_IOCTL)
		SKIP(return, "not of this command");
	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		uring_queue(&self->ring, self->node, ops[i].op, &self->good, i)->flags =
			variant->way == BY_WORKER ? IOSQE_ASYNC : 0;
		EXPECT_EQ(ops[i].want, uring_result(&self->ring, i));
	}
	EXPECT_EQ(ARRAY_SIZE(ops), refused(self));
	EXPECT_TRUE(is_poison(self->map, LEN));
}

TEST_F(reading, rings_that_lack_something)
{
	static const uint32_t flags[] = { 0, IORING_SETUP_SQE128 | IORING_SETUP_IOPOLL };
	struct iovec iov = { .iov_base = self->want, .iov_len = PAGE };
	struct uring ring;
	unsigned int i;

	if (variant->way == BY_IOCTL)
		SKIP(return, "not of this command");
	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		ASSERT_EQ(0, uring_init(&ring, flags[i]));
		uring_queue(&ring, self->node, PENSTOCK_URING_CMD_READ, &self->good, i)->flags =
			variant->way == BY_WORKER ? IOSQE_ASYNC : 0;
		EXPECT_EQ(-EOPNOTSUPP, uring_result(&ring, i));
		uring_exit(&ring);
	}
	ASSERT_EQ(0, syscall(__NR_io_uring_register, self->ring.fd, IORING_REGISTER_BUFFERS, &iov, 1));
	uring_queue(&self->ring, self->node, PENSTOCK_URING_CMD_READ, &self->good, 7)->rw_flags =
		1;	/* IORING_URING_CMD_FIXED */
	EXPECT_EQ(-EOPNOTSUPP, uring_result(&self->ring, 7));
	EXPECT_TRUE(is_poison(self->map, LEN));
}

/* ---- the array of the ioctl ---- */

FIXTURE(array) {
	FIXTURE_DATA(reading) of;
	struct penstock_read good;
};

/* The same without a ring. */
static const FIXTURE_VARIANT(reading) by_ioctl = { .way = BY_IOCTL };

FIXTURE_SETUP(array)
{
	reading_setup(_metadata, &self->of, &by_ioctl);
	self->good = (struct penstock_read) { .target_id = self->of.good.target_id, .region_id = self->of.region,
		.length = PAGE, .out_result = UNTOUCHED };
}

FIXTURE_TEARDOWN(array)
{
	reading_teardown(_metadata, &self->of, &by_ioctl);
}

static int read_array(FIXTURE_DATA(array) *self, uint64_t reads, uint32_t nr, uint32_t size, uint32_t *done)
{
	struct penstock_region_read cmd = { .size = sizeof(cmd), .reads_uptr = reads, .nr_reads = nr, .read_size = size,
		.out_nr_done = 77 };
	int ret = penstock(self->of.node, PENSTOCK_IOC_REGION_READ, &cmd);

	*done = cmd.out_nr_done;
	return ret;
}

#define CHECK_ARRAY(result, nr_done, reads, nr, size) do {			\
	uint32_t done_;								\
	int ret_ = read_array(self, reads, nr, size, &done_);			\
										\
	if (ret_ != (result) || done_ != (nr_done)) {				\
		TH_LOG("%u reads of %u bytes: %d and %u done, not " #result " and " #nr_done, (unsigned int)(nr), \
		       (unsigned int)(size), ret_, done_);			\
		th_fail(_metadata, false);					\
	}									\
} while (0)

TEST_F(array, numbers_of_reads)
{
	const uint32_t most = PENSTOCK_REGION_READ_MAX, size = sizeof(struct penstock_read);
	struct penstock_read *reads = calloc(most + 1, size);
	uint32_t i;

	ASSERT_TRUE(reads);
	for (i = 0; i <= most; i++)
		reads[i] = self->good;
	CHECK_ARRAY(-EINVAL, 0, to_u64(reads), 0, size);
	CHECK_ARRAY(-EINVAL, 0, to_u64(reads), most + 1, size);
	CHECK_ARRAY(-EINVAL, 0, to_u64(reads), 1U << 31, size);
	CHECK_ARRAY(-EINVAL, 0, to_u64(reads), UINT32_MAX, size);
	for (i = 0; i <= most; i++)
		ASSERT_EQ(UNTOUCHED, reads[i].out_result);
	EXPECT_TRUE(is_poison(self->of.map, LEN));
	CHECK_ARRAY(0, most, to_u64(reads), most, size);
	for (i = 0; i < most; i++)
		ASSERT_EQ(PAGE, reads[i].out_result);
	EXPECT_EQ(UNTOUCHED, reads[most].out_result);
	free(reads);
}

TEST_F(array, sizes_of_a_read)
{
	const uint32_t size = sizeof(struct penstock_read), more[] = { 1, 8, 16, PAGE - size };
	char *wide = calloc(3, PAGE);
	uint32_t i, at;

	ASSERT_TRUE(wide);
	memcpy(wide, &self->good, size);
	for (i = 0; i < size; i++)
		CHECK_ARRAY(-EINVAL, 0, to_u64(wide), 1, i);
	CHECK_ARRAY(-E2BIG, 0, to_u64(wide), 1, PAGE + 1);
	CHECK_ARRAY(-E2BIG, 0, to_u64(wide), 1, UINT32_MAX);
	EXPECT_EQ(0, memcmp(wide, &self->good, size));
	EXPECT_TRUE(is_poison(self->of.map, LEN));
	for (i = 0; i < ARRAY_SIZE(more); i++) {
		const uint32_t step = size + more[i];

		memset(wide, 0, 3 * PAGE);
		for (at = 0; at < 3; at++)
			memcpy(wide + at * step, &self->good, size);
		CHECK_ARRAY(0, 3, to_u64(wide), 3, step);
		/* What is not known of the second one: its first byte, its last. */
		wide[step + size] = 1;
		CHECK_ARRAY(-E2BIG, 1, to_u64(wide), 3, step);
		wide[step + size] = 0;
		wide[2 * step - 1] = 1;
		CHECK_ARRAY(-E2BIG, 1, to_u64(wide), 3, step);
	}
	free(wide);
}

TEST_F(array, addresses)
{
	const uint32_t size = sizeof(struct penstock_read);
	char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct penstock_read *edge = (struct penstock_read *)(void *)(pages + PAGE) - 3;
	uint32_t i;

	ASSERT_TRUE(pages != MAP_FAILED);
	ASSERT_EQ(0, mprotect(pages + PAGE, PAGE, PROT_NONE));
	CHECK_ARRAY(-EFAULT, 0, 0, 1, size);
	CHECK_ARRAY(-EFAULT, 0, 16, 1, size);
	CHECK_ARRAY(-EFAULT, 0, to_u64(pages + PAGE), 1, size);
	CHECK_ARRAY(-EFAULT, 0, 1ULL << 47, 1, size);
	CHECK_ARRAY(-EFAULT, 0, 0xffff888000000000ULL, 1, size);
	CHECK_ARRAY(-EFAULT, 0, -(uint64_t)size, 1, size);
	CHECK_ARRAY(-EFAULT, 0, ALL_ONES, 1, size);
	/* Nothing of an address is cut off. */
	if (sizeof(long) == 4)
		CHECK_ARRAY(-EFAULT, 0, to_u64(edge) | 1ULL << 32, 1, size);
	EXPECT_TRUE(is_poison(self->of.map, LEN));
	for (i = 0; i < 3; i++)
		edge[i] = self->good;
	CHECK_ARRAY(-EFAULT, 3, to_u64(edge), 4, size);
	EXPECT_EQ(PAGE, edge[2].out_result);
	/* Any alignment will do. */
	memmove((char *)edge - 1, edge, 3 * size);
	CHECK_ARRAY(0, 3, to_u64(edge) - 1, 3, size);
	ASSERT_EQ(0, mprotect(pages, PAGE, PROT_READ));
	CHECK_ARRAY(-EFAULT, 0, to_u64(edge) - 1, 3, size);
	munmap(pages, 2 * PAGE);
}

TEST_F(array, only_results_are_written)
{
	struct penstock_read reads[4], want[4];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(reads); i++)
		reads[i] = self->good;
	reads[1].flags = 1;
	reads[2].region_id = 0;
	memcpy(want, reads, sizeof(want));
	want[0].out_result = PAGE;
	want[1].out_result = -EOPNOTSUPP;
	want[2].out_result = -ENOENT;
	/* The last one is behind the end of the array. */
	CHECK_ARRAY(0, 3, to_u64(reads), 3, sizeof(reads[0]));
	EXPECT_EQ(0, memcmp(reads, want, sizeof(want)));
}

TEST_HARNESS_MAIN
