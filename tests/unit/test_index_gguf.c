// SPDX-License-Identifier: MIT
/* The tables of GGUF files: versions, values, bounds before memory, extents, split sets. */
#include "index_files.h"

#define FILE_IN(dir) path_in(dir, "m.gguf")

static void one_tensor(struct gg_file *g)
{
	gg_string(g, "general.architecture", "none");
	GG(g, "a", GG_TYPE_F32, 2, 4);
}

TEST(versions)
{
	struct gg_file g = { 0 };
	uint32_t v;
	char dir[256];

	tmp_make(dir);
	for (v = 0; v < 6; v++) {
		one_tensor(&g);
		gg_write_as(&g, FILE_IN(dir), "GGUF", v);
		if (v == 2 || v == 3)
			penstock_index_close(open_good(FILE_IN(dir)));
		else
			EXPECT_REFUSED(FILE_IN(dir), -EBADMSG, "version");
	}
	one_tensor(&g);
	gg_write_as(&g, FILE_IN(dir), "GGUF", 0x03000000);
	EXPECT_REFUSED(FILE_IN(dir), -EBADMSG, "big-endian");
	one_tensor(&g);
	gg_write_as(&g, FILE_IN(dir), "GGML", 3);
	EXPECT_REFUSED(FILE_IN(dir), -EBADMSG, "no GGUF");
	file_write(FILE_IN(dir), "GGU", 3, 3);
	EXPECT_REFUSED(FILE_IN(dir), -EBADMSG, "magic");
	/* known by its magic, whatever it is called */
	one_tensor(&g);
	gg_write(&g, path_in(dir, "0123abcd"));
	penstock_index_close(open_good(path_in(dir, "0123abcd")));
	tmp_remove(dir);
}

TEST(values_of_all_types)
{
	static const uint8_t all[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	static const struct { const char *key; uint32_t type; size_t len; double want; } numbers[] = {
		{ "u8", GG_U8, 1, 255 }, { "i8", GG_I8, 1, -1 }, { "u16", GG_U16, 2, 65535 }, { "i16", GG_I16, 2, -1 },
		{ "u32", GG_U32, 4, 4294967295.0 }, { "i32", GG_I32, 4, -1 }, { "u64", GG_U64, 8, 18446744073709551615.0 },
		{ "i64", GG_I64, 8, -1 },
	};
	const uint16_t halves[] = { 1, 2, 65535 };
	const struct penstock_meta *m;
	struct penstock_index *ix;
	struct bytes b = { 0 };
	struct gg_file g = { 0 };
	double d = -0.125;
	uint64_t n;
	uint32_t t;
	char dir[256];
	size_t i;

	tmp_make(dir);
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		gg_pair(&g, numbers[i].key, numbers[i].type, all, numbers[i].len);
	gg_pair(&g, "f64", GG_F64, &d, 8);
	gg_f32(&g, "f32", 0.5f);
	gg_bool(&g, "bool", 1);
	gg_string(&g, "string", "text");
	t = GG_U16, n = 3;
	bytes_add(&b, &t, 4), bytes_add(&b, &n, 8), bytes_add(&b, halves, 6);
	gg_pair(&g, "numbers", GG_ARRAY, b.p, b.len);
	b.len = 0;
	t = GG_STRING, n = 2;
	bytes_add(&b, &t, 4), bytes_add(&b, &n, 8), gg_str(&b, "one"), gg_str(&b, "");
	gg_pair(&g, "strings", GG_ARRAY, b.p, b.len);
	bytes_free(&b);
	gg_write(&g, FILE_IN(dir));
	ix = open_good(FILE_IN(dir));
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		m = penstock_index_meta(ix, numbers[i].key);
		ASSERT_TRUE(m && m->type == PENSTOCK_META_NUMBER && m->nr == 1);
		EXPECT_TRUE(m->number == numbers[i].want);
	}
	EXPECT_TRUE(penstock_index_meta(ix, "f64")->number == -0.125);
	EXPECT_TRUE(penstock_index_meta(ix, "f32")->number == 0.5);
	m = penstock_index_meta(ix, "bool");
	EXPECT_TRUE(m->type == PENSTOCK_META_BOOL && m->number == 1);
	EXPECT_STREQ("text", penstock_index_meta(ix, "string")->string);
	m = penstock_index_meta(ix, "numbers");
	ASSERT_TRUE(m && m->type == PENSTOCK_META_NUMBERS && m->nr == 3);
	EXPECT_TRUE(m->numbers[2] == 65535);
	m = penstock_index_meta(ix, "strings");
	ASSERT_TRUE(m && m->type == PENSTOCK_META_STRINGS && m->nr == 2);
	EXPECT_STREQ("one", m->strings[0]);
	EXPECT_STREQ("", m->strings[1]);
	EXPECT_EQ(0u, ix->nr_tensors);
	penstock_index_close(ix);
	tmp_remove(dir);
}

/* A file of a header and raw bytes after it. */
static void raw(const char *path, uint64_t nr_tensors, uint64_t nr_pairs, const struct bytes *b, uint64_t size)
{
	struct bytes out = { 0 };
	uint32_t version = 3;

	bytes_add(&out, "GGUF", 4);
	bytes_add(&out, &version, 4);
	bytes_add(&out, &nr_tensors, 8);
	bytes_add(&out, &nr_pairs, 8);
	if (b)
		bytes_add(&out, b->p, b->len);
	file_write(path, out.p, out.len, size > out.len ? size : out.len);
	bytes_free(&out);
}

TEST(counts_and_lengths_are_bounded_before_memory)
{
	struct bytes b = { 0 };
	uint64_t n;
	uint32_t t;
	char dir[256];

	tmp_make(dir);
	raw(FILE_IN(dir), UINT64_MAX, 0, NULL, 4096);
	EXPECT_REFUSED(FILE_IN(dir), -EBADMSG, "18446744073709551615 tensors");
	raw(FILE_IN(dir), 0, 1ull << 60, NULL, 4096);
	EXPECT_REFUSED(FILE_IN(dir), -EBADMSG, "keys in a file");
	/* a key of 2^60 bytes; one that only runs over the end */
	n = 1ull << 60;
	bytes_add(&b, &n, 8);
	raw(FILE_IN(dir), 0, 1, &b, 4096);
	EXPECT_REFUSED(FILE_IN(dir), -EBADMSG, "key of 1152921504606846976 bytes");
	b.len = 0, n = 4090;
	bytes_add(&b, &n, 8);
	raw(FILE_IN(dir), 0, 1, &b, 4096);
	EXPECT_REFUSED(FILE_IN(dir), -ENODATA, "key of 4090 bytes");
	/* arrays */
	for (t = GG_U8; t <= GG_F64; t++) {
		uint32_t array = GG_ARRAY;

		b.len = 0, n = UINT64_MAX / 4 + 2;
		gg_str(&b, "k"), bytes_add(&b, &array, 4), bytes_add(&b, &t, 4), bytes_add(&b, &n, 8);
		raw(FILE_IN(dir), 0, 1, &b, 4096);
		EXPECT_REFUSED(FILE_IN(dir), -EBADMSG, t == GG_ARRAY ? "array of arrays" : "array of");
	}
	/* as much as could be had as memory, and is not there either */
	b.len = 0, t = GG_ARRAY, n = 1000000000;
	gg_str(&b, "k"), bytes_add(&b, &t, 4), t = GG_U8, bytes_add(&b, &t, 4), bytes_add(&b, &n, 8);
	raw(FILE_IN(dir), 0, 1, &b, 4096);
	EXPECT_REFUSED(FILE_IN(dir), -EBADMSG, "array of 1000000000 bytes");
	b.len = 0, t = 13;
	gg_str(&b, "k"), bytes_add(&b, &t, 4);
	raw(FILE_IN(dir), 0, 1, &b, 4096);
	EXPECT_REFUSED(FILE_IN(dir), -EBADMSG, "unknown type 13");
	/* a tensor's dimensions */
	b.len = 0, t = 1000000;
	gg_str(&b, "w"), bytes_add(&b, &t, 4);
	raw(FILE_IN(dir), 1, 0, &b, 4096);
	EXPECT_REFUSED(FILE_IN(dir), -EBADMSG, "1000000 dimensions");
	/* names with a NUL in them */
	b.len = 0, n = 3;
	bytes_add(&b, &n, 8), bytes_add(&b, "a\0b", 3);
	raw(FILE_IN(dir), 1, 0, &b, 4096);
	EXPECT_REFUSED(FILE_IN(dir), -EBADMSG, "NUL");
	raw(FILE_IN(dir), 0, 1, &b, 4096);
	EXPECT_REFUSED(FILE_IN(dir), -EBADMSG, "NUL");
	bytes_free(&b);
	tmp_remove(dir);
}

/* Each prefix of a good file is refused: the table ends somewhere inside it. */
TEST(every_cut_is_seen)
{
	struct penstock_error err;
	struct penstock_index *ix;
	struct gg_file g = { 0 };
	char dir[256], *p;
	struct stat st;
	size_t len;
	int fd, rc;

	tmp_make(dir);
	gg_string(&g, "general.architecture", "none");
	gg_u32(&g, "n", 1);
	GG(&g, "a", GG_TYPE_Q8_0, 3, 32);
	GG(&g, "b", GG_TYPE_F32, 2);
	gg_write(&g, FILE_IN(dir));
	fd = open(FILE_IN(dir), O_RDONLY | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(0, fstat(fd, &st));
	/* payload ends at the last tensor's end; what follows is padding */
	len = (size_t)st.st_size - 32 + 8;
	p = malloc(len);
	ASSERT_EQ((ssize_t)len, pread(fd, p, len, 0));
	close(fd);
	file_write(FILE_IN(dir), p, len, len);
	penstock_index_close(open_good(FILE_IN(dir)));
	while (len-- > 0) {
		file_write(FILE_IN(dir), p, len, len);
		memset(&err, 0, sizeof(err));
		rc = penstock_index_open(FILE_IN(dir), &ix, &err);
		if (rc != -ENODATA && rc != -EBADMSG)
			TEST_FAIL_(1, "cut to %zu bytes: %d %s", len, rc, err.text);
	}
	free(p);
	tmp_remove(dir);
}

TEST(alignment)
{
	static const uint32_t bad[] = { 0, 3, 33, 0xffffffff };
	const struct penstock_index_tensor *t;
	struct penstock_index *ix;
	struct gg_file g = { 0 };
	uint64_t ne = 4;
	uint32_t i;
	char dir[256];

	tmp_make(dir);
	for (i = 0; i < 4; i++) {
		gg_u32(&g, "general.alignment", bad[i]);
		one_tensor(&g);
		gg_write(&g, FILE_IN(dir));
		EXPECT_REFUSED(FILE_IN(dir), -EBADMSG, "no power of two");
	}
	gg_string(&g, "general.alignment", "32");
	one_tensor(&g);
	gg_write(&g, FILE_IN(dir));
	EXPECT_REFUSED(FILE_IN(dir), -EBADMSG, "no power of two");
	g.align = 4096;
	gg_u32(&g, "general.alignment", 4096);
	one_tensor(&g);
	GG(&g, "b", GG_TYPE_F32, 4);
	gg_write(&g, FILE_IN(dir));
	ix = open_good(FILE_IN(dir));
	t = tensor(ix, "a");
	EXPECT_EQ(4096u, t->off);
	EXPECT_EQ(8192u, tensor(ix, "b")->off);
	penstock_index_close(ix);
	gg_tensor_raw(&g, "a", 1, &ne, GG_TYPE_F32, 16);
	g.off = 64;
	gg_write(&g, FILE_IN(dir));
	EXPECT_REFUSED(FILE_IN(dir), -EBADMSG, "offset 16 is no multiple of 32");
	tmp_remove(dir);
}

static void refuse_tensor(const char *dir, uint32_t nr, const uint64_t *ne, uint32_t type, uint64_t off, int code,
			  const char *text)
{
	struct gg_file g = { 0 };

	gg_tensor_raw(&g, "w", nr, ne, type, off);
	g.off = 256;
	gg_write(&g, FILE_IN(dir));
	EXPECT_REFUSED(FILE_IN(dir), code, text);
}

TEST(extents)
{
	struct penstock_index *ix;
	struct gg_file g = { 0 };
	uint64_t ne[8] = { 0 };
	char dir[256];

	tmp_make(dir);
	ne[0] = 1ull << 42 | 1;
	ne[1] = 1ull << 42;
	refuse_tensor(dir, 2, ne, GG_TYPE_F32, 0, -EBADMSG, "more than 2^63");
	ne[0] = 1ull << 62;
	refuse_tensor(dir, 1, ne, GG_TYPE_F32, 0, -EBADMSG, "more than 2^63");
	ne[0] = UINT64_MAX;
	refuse_tensor(dir, 1, ne, GG_TYPE_F32, 0, -EBADMSG, "more than 2^63");
	ne[0] = 31;
	ne[1] = 32;
	refuse_tensor(dir, 2, ne, GG_TYPE_Q4_0, 0, -EBADMSG, "no multiple of its block of 32");
	ne[0] = 4;
	refuse_tensor(dir, 1, ne, GG_TYPE_F32, UINT64_MAX - 31, -EBADMSG, "wrap");
	refuse_tensor(dir, 1, ne, GG_TYPE_F32, 1024, -ENODATA, "bytes are missing");
	ne[0] = 65;
	refuse_tensor(dir, 1, ne, GG_TYPE_F32, 0, -ENODATA, "4 bytes are missing");
	ne[0] = 32;
	refuse_tensor(dir, 1, ne, 4, 0, -EBADMSG, "ggml type 4 is unknown");
	refuse_tensor(dir, 1, ne, 31, 0, -EBADMSG, "ggml type 31 is unknown");
	refuse_tensor(dir, 1, ne, 1000, 0, -EBADMSG, "ggml type 1000 is unknown");
	refuse_tensor(dir, 5, ne, GG_TYPE_F32, 0, -EBADMSG, "5 dimensions");
	/* the same bytes twice; the same name twice */
	gg_tensor_raw(&g, "a", 1, ne, GG_TYPE_F32, 0);
	gg_tensor_raw(&g, "b", 1, ne, GG_TYPE_F32, 32);
	g.off = 256;
	gg_write(&g, FILE_IN(dir));
	EXPECT_REFUSED(FILE_IN(dir), -EBADMSG, "b overlaps a");
	GG(&g, "a", GG_TYPE_F32, 2);
	GG(&g, "a", GG_TYPE_F32, 2);
	gg_write(&g, FILE_IN(dir));
	EXPECT_REFUSED(FILE_IN(dir), -EBADMSG, "tensor a twice");
	gg_u32(&g, "k", 1);
	gg_u32(&g, "k", 1);
	gg_write(&g, FILE_IN(dir));
	EXPECT_REFUSED(FILE_IN(dir), -EBADMSG, "key k twice");
	/* no elements: valid, and no division by zero */
	GG(&g, "z", GG_TYPE_Q4_0, 0);
	GG(&g, "y", GG_TYPE_Q4_K, 0, 256);
	GG(&g, "x", GG_TYPE_F32, 1);
	gg_write(&g, FILE_IN(dir));
	ix = open_good(FILE_IN(dir));
	EXPECT_EQ(0u, tensor(ix, "z")->bytes);
	EXPECT_EQ(0u, tensor(ix, "y")->bytes);
	penstock_index_close(ix);
	/* a scalar has no dimensions; a hole between tensors is only a hole */
	gg_tensor_raw(&g, "s", 0, ne, GG_TYPE_F32, 64);
	g.off = 68;
	gg_write(&g, FILE_IN(dir));
	ix = open_good(FILE_IN(dir));
	EXPECT_EQ(4u, tensor(ix, "s")->bytes);
	penstock_index_close(ix);
	tmp_remove(dir);
}

TEST(dimensions_are_outermost_first)
{
	const struct penstock_index_tensor *t;
	struct penstock_index *ix;
	struct gg_file g = { 0 };
	uint64_t ne[3] = { 32, 2, 5 };
	char dir[256];

	tmp_make(dir);
	gg_tensor_raw(&g, "w", 3, ne, GG_TYPE_Q4_0, 0);
	g.off = 2 * 5 * 18;
	gg_write(&g, FILE_IN(dir));
	ix = open_good(FILE_IN(dir));
	t = tensor(ix, "w");
	EXPECT_EQ(3, (int)t->nr_dims);
	EXPECT_EQ(5u, penstock_index_tensor_dims(t)[0]);
	EXPECT_EQ(32u, penstock_index_tensor_dims(t)[2]);
	EXPECT_EQ(180u, t->bytes);
	EXPECT_EQ((int)PENSTOCK_DTYPE_Q4_0, (int)t->dtype);
	penstock_index_close(ix);
	tmp_remove(dir);
}

/* ---- split sets ---- */

static void write_shard(const char *dir, const char *name, uint16_t no, uint16_t count, int32_t total, const char *t)
{
	struct gg_file g = { 0 };

	if (!no)
		gg_string(&g, "general.architecture", "some");
	gg_pair(&g, "split.no", GG_U16, &no, 2);
	gg_pair(&g, "split.count", GG_U16, &count, 2);
	gg_pair(&g, "split.tensors.count", GG_I32, &total, 4);
	if (t)
		GG(&g, t, GG_TYPE_F32, 8);
	gg_write(&g, path_in(dir, name));
}

static void write_set(const char *dir, int32_t total)
{
	write_shard(dir, "m-00001-of-00003.gguf", 0, 3, total, NULL);
	write_shard(dir, "m-00002-of-00003.gguf", 1, 3, total, "b");
	write_shard(dir, "m-00003-of-00003.gguf", 2, 3, total, "a");
}

TEST(any_shard_opens_the_set)
{
	static const char *const names[] = { "m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf",
					     "" };
	struct penstock_index *ix;
	char dir[256];
	size_t i;

	tmp_make(dir);
	write_set(dir, 2);
	for (i = 0; i < 4; i++) {
		ix = open_good(path_in(dir, names[i]));
		EXPECT_EQ(3u, ix->store.nr_files);
		EXPECT_EQ(2u, ix->nr_tensors);
		EXPECT_EQ(2, (int)tensor(ix, "a")->file);
		EXPECT_EQ(1, (int)tensor(ix, "b")->file);
		EXPECT_STREQ("some", penstock_index_meta(ix, "general.architecture")->string);
		penstock_index_close(ix);
	}
	tmp_remove(dir);
}

TEST(split_sets_are_checked)
{
	char dir[256];

	tmp_make(dir);
	write_set(dir, 3);
	EXPECT_REFUSED(path_in(dir, "m-00001-of-00003.gguf"), -EBADMSG, "split.tensors.count is 3, the shards hold 2");
	write_set(dir, 2);
	unlink(path_in(dir, "m-00002-of-00003.gguf"));
	EXPECT_REFUSED(path_in(dir, "m-00003-of-00003.gguf"), -ENOENT, "m-00002-of-00003.gguf");
	EXPECT_REFUSED(path_in(dir, "m-00003-of-00003.gguf"), -ENOENT, "shard 2 of 3 is missing");
	/* a name and a number that differ */
	write_set(dir, 2);
	write_shard(dir, "m-00002-of-00003.gguf", 2, 3, 2, "b");
	EXPECT_REFUSED(path_in(dir, "m-00001-of-00003.gguf"), -EBADMSG, "split.no 2");
	write_shard(dir, "m-00002-of-00003.gguf", 1, 4, 2, "b");
	EXPECT_REFUSED(path_in(dir, "m-00001-of-00003.gguf"), -EBADMSG, "split.count 4");
	/* numbers count from 0, names from 1 */
	write_shard(dir, "n-00000-of-00003.gguf", 0, 3, 2, "b");
	EXPECT_REFUSED(path_in(dir, "n-00000-of-00003.gguf"), -EBADMSG, "is not called ...-00001-of-00003.gguf");
	write_shard(dir, "renamed.gguf", 0, 3, 2, "b");
	EXPECT_REFUSED(path_in(dir, "renamed.gguf"), -EBADMSG, "is not called");
	/* two shards with one tensor */
	write_set(dir, 2);
	write_shard(dir, "m-00003-of-00003.gguf", 2, 3, 2, "b");
	EXPECT_REFUSED(path_in(dir, "m-00001-of-00003.gguf"), -EBADMSG, "tensor b is in");
	tmp_remove(dir);
}

TEST(split_numbers_must_be_counts)
{
	static const char *const keys[] = { "split.no", "split.count", "split.tensors.count" };
	static const double bad[] = { 4.97555e+151, -1, 1.5, 1e300 * 1e300 };
	char dir[256];

	tmp_make(dir);
	for (uint32_t k = 0; k < 3; k++) {
		for (uint32_t i = 0; i < 4; i++) {
			struct gg_file g = { 0 };

			gg_pair(&g, keys[k], GG_F64, &bad[i], sizeof(bad[i]));
			one_tensor(&g);
			gg_write(&g, FILE_IN(dir));
			EXPECT_REFUSED(dir, -EBADMSG, keys[k]);
		}
	}
	tmp_remove(dir);
}

TEST(folder_with_one_gguf)
{
	struct gg_file g = { 0 };
	char dir[256];

	tmp_make(dir);
	one_tensor(&g);
	gg_write(&g, FILE_IN(dir));
	penstock_index_close(open_good(dir));
	one_tensor(&g);
	gg_write(&g, path_in(dir, "n.gguf"));
	EXPECT_REFUSED(dir, -EINVAL, "open one of them by name");
	tmp_remove(dir);
}

TEST_HARNESS_MAIN
