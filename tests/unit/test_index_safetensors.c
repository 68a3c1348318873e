// SPDX-License-Identifier: MIT
/* The tables of safetensors checkpoints: each rule of the format, folders, shards, weight maps, config.json. */
#include "index_files.h"

static const char *top(void)
{
	const char *t = getenv("PENSTOCK_TOP");

	return t ? t : ".";
}

/* The files of other projects' tests, each with its right answer. */
TEST(cases_get_their_expected_answers)
{
	char line[256], path[512], name[128], answer[128];
	unsigned long long size;
	struct penstock_error err;
	struct penstock_index *ix;
	uint32_t nr = 0;
	FILE *f;
	int rc;

	snprintf(path, sizeof(path), "%s/tests/cases/safetensors/EXPECTED.tsv", top());
	f = fopen(path, "re");
	ASSERT_TRUE(f);
	while (fgets(line, sizeof(line), f)) {
		ASSERT_EQ(3, sscanf(line, "%127s %llu %127s", name, &size, answer));
		snprintf(path, sizeof(path), "%s/tests/cases/safetensors/%s", top(), name);
		memset(&err, 0, sizeof(err));
		rc = penstock_index_open(path, &ix, &err);
		if (!strncmp(answer, "reject:", 7)) {
			EXPECT_NE(0, rc);
			EXPECT_TRUE(!strncmp(err.text, answer + 7, strlen(answer + 7)));
			EXPECT_TRUE(err.text[strlen(answer + 7)] == ':');
		} else {
			if (rc)
				TEST_FAIL_(0, "%s: %d %s", name, rc, err.text);
			else
				penstock_index_close(ix);
		}
		nr++;
	}
	fclose(f);
	EXPECT_EQ(14u, nr);
}

TEST(header_is_bounded_by_file_and_limit)
{
	char dir[256], raw[16] = { 0 };
	uint64_t len;

	tmp_make(dir);
	file_write(path_in(dir, "a.safetensors"), raw, 7, 7);
	EXPECT_REFUSED(path_in(dir, "a.safetensors"), -EBADMSG, "HeaderTooSmall: ");
	len = 100000001;
	file_write(path_in(dir, "a.safetensors"), &len, 8, 200000000);
	EXPECT_REFUSED(path_in(dir, "a.safetensors"), -EBADMSG, "HeaderTooLarge: ");
	len = UINT64_MAX;
	file_write(path_in(dir, "a.safetensors"), &len, 8, 8);
	EXPECT_REFUSED(path_in(dir, "a.safetensors"), -EBADMSG, "HeaderTooLarge: ");
	len = 9;
	file_write(path_in(dir, "a.safetensors"), &len, 8, 16);
	EXPECT_REFUSED(path_in(dir, "a.safetensors"), -ENODATA, "InvalidHeaderLength: ");
	len = 0;
	file_write(path_in(dir, "a.safetensors"), &len, 8, 8);
	EXPECT_REFUSED(path_in(dir, "a.safetensors"), -EBADMSG, "InvalidHeaderDeserialization: ");
	tmp_remove(dir);
}

#define T(dtype, shape, offsets) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static const struct {
	const char *header;
	uint64_t payload;
	int code;
	const char *text;
} bad[] = {
	/* text and structure */
	{ " {}", 0, -EBADMSG, "InvalidHeaderStart: " },
	{ "[]", 0, -EBADMSG, "InvalidHeaderStart: " },
	{ "{\"a\xff\":1}", 0, -EBADMSG, "InvalidHeader: " },
	{ "{\"\xed\xa0\x80\":1}", 0, -EBADMSG, "InvalidHeader: " },	/* a surrogate in UTF-8 */
	{ "{\"\xc0\xaf\":1}", 0, -EBADMSG, "InvalidHeader: " },		/* overlong */
	{ "{\"a\":" T("F32", "[1]", "[0,4]") "}x", 4, -EBADMSG, "InvalidHeaderDeserialization: " },
	{ "{\"a\":" T("F32", "[1]", "[0,4]") "", 4, -EBADMSG, "InvalidHeaderDeserialization: " },
	{ "{\"a\":1}", 0, -EBADMSG, "InvalidHeaderDeserialization: " },
	{ "{\"a\":[]}", 0, -EBADMSG, "InvalidHeaderDeserialization: " },
	{ "{\"a\":null}", 0, -EBADMSG, "InvalidHeaderDeserialization: " },
	{ "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, -EBADMSG, "no dtype" },
	{ "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, -EBADMSG, "no shape" },
	{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, -EBADMSG, "no data_offsets" },
	{ "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, -EBADMSG,
	  "a field twice" },
	{ "{\"a\":" T("F32", "[-1]", "[0,4]") "}", 4, -EBADMSG, "InvalidHeaderDeserialization: " },
	{ "{\"a\":" T("F32", "[1.0]", "[0,4]") "}", 4, -EBADMSG, "InvalidHeaderDeserialization: " },
	{ "{\"a\":" T("F32", "[1e0]", "[0,4]") "}", 4, -EBADMSG, "InvalidHeaderDeserialization: " },
	{ "{\"a\":" T("F32", "[\"1\"]", "[0,4]") "}", 4, -EBADMSG, "InvalidHeaderDeserialization: " },
	{ "{\"a\":" T("F32", "[[1]]", "[0,4]") "}", 4, -EBADMSG, "InvalidHeaderDeserialization: " },
	{ "{\"a\":" T("F32", "[18446744073709551616]", "[0,4]") "}", 4, -EBADMSG, "InvalidHeaderDeserialization: " },
	{ "{\"a\":" T("F32", "[1]", "[0]") "}", 4, -EBADMSG, "not two numbers" },
	{ "{\"a\":" T("F32", "[1]", "[0,4,4]") "}", 4, -EBADMSG, "more than two" },
	{ "{\"a\":" T("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, -EBADMSG, "more than 8 dimensions" },
	{ "{\"__metadata__\":{\"a\":1}}", 0, -EBADMSG, "InvalidHeaderDeserialization: " },
	{ "{\"__metadata__\":{\"a\":{}}}", 0, -EBADMSG, "InvalidHeaderDeserialization: " },
	{ "{\"__metadata__\":{},\"__metadata__\":{}}", 0, -EBADMSG, "__metadata__ twice" },
	{ "{\"\\ud800\":" T("F32", "[1]", "[0,4]") "}", 4, -EBADMSG, "half a surrogate pair" },
	{ "{\"\\udc00\":" T("F32", "[1]", "[0,4]") "}", 4, -EBADMSG, "half a surrogate pair" },
	{ "{\"\\ud800\\uffff\":" T("F32", "[1]", "[0,4]") "}", 4, -EBADMSG, "half a surrogate pair" },
	{ "{\"\\ud800\\u0041\":" T("F32", "[1]", "[0,4]") "}", 4, -EBADMSG, "half a surrogate pair" },
	{ "{\"a\\u0000b\":" T("F32", "[1]", "[0,4]") "}", 4, -EBADMSG, "NUL" },
	/* offsets */
	{ "{\"a\":" T("F32", "[1]", "[4,8]") "}", 8, -EBADMSG, "InvalidOffset: " },
	{ "{\"a\":" T("F32", "[1]", "[4,0]") "}", 4, -EBADMSG, "InvalidOffset: " },
	{ "{\"a\":" T("F32", "[1]", "[0,4]") ",\"b\":" T("F32", "[1]", "[8,12]") "}", 12, -EBADMSG, "InvalidOffset: " },
	{ "{\"a\":" T("F32", "[1]", "[0,4]") ",\"b\":" T("F32", "[1]", "[2,6]") "}", 6, -EBADMSG, "InvalidOffset: " },
	{ "{\"a\":" T("F32", "[1]", "[0,4]") ",\"b\":" T("F32", "[1]", "[0,4]") "}", 4, -EBADMSG, "InvalidOffset: " },
	/* sizes */
	{ "{\"a\":" T("F32", "[2]", "[0,4]") "}", 4, -EBADMSG, "TensorInvalidInfo: " },
	{ "{\"a\":" T("F32", "[0]", "[0,4]") "}", 4, -EBADMSG, "TensorInvalidInfo: " },
	{ "{\"a\":" T("F32", "[]", "[0,8]") "}", 8, -EBADMSG, "TensorInvalidInfo: " },
	{ "{\"a\":" T("F4", "[3]", "[0,2]") "}", 2, -EBADMSG, "MisalignedSlice: " },
	{ "{\"a\":" T("F6_E2M3", "[3]", "[0,3]") "}", 3, -EBADMSG, "MisalignedSlice: " },
	{ "{\"a\":" T("F32", "[4294967296,4294967296]", "[0,0]") "}", 0, -EBADMSG, "ValidationOverflow: " },
	{ "{\"a\":" T("F64", "[4611686018427387904]", "[0,0]") "}", 0, -EBADMSG, "ValidationOverflow: " },
	{ "{\"a\":" T("X9", "[3]", "[0,4]") "}", 4, -EBADMSG, "type X9 is unknown" },
	{ "{\"a\":" T("X9", "[0]", "[0,4]") "}", 4, -EBADMSG, "type X9 is unknown" },
	/* the file as a whole */
	{ "{\"a\":" T("F32", "[2]", "[0,8]") "}", 7, -ENODATA, "MetadataIncompleteBuffer: " },
	{ "{\"a\":" T("F32", "[2]", "[0,8]") "}", 7, -ENODATA, "1 are missing" },
	{ "{\"a\":" T("F32", "[2]", "[0,8]") "}", 9, -EBADMSG, "1 too many" },
	{ "{}", 1, -EBADMSG, "MetadataIncompleteBuffer: " },
	{ "{\"a\":" T("U8", "[2305843009213693951]", "[0,2305843009213693951]") "}", 8, -ENODATA,
	  "MetadataIncomplete" },
	{ "{\"a\":" T("U8", "[18446744073709551615]", "[0,18446744073709551615]") "}", 8, -EBADMSG,
	  "ValidationOverflow: " },
	{ "{\"a\":" T("F32", "[1]", "[0,4]") ",\"a\":" T("F32", "[1]", "[4,8]") "}", 8, -EBADMSG, "tensor a twice" },
};

TEST(each_fault_has_its_name)
{
	char dir[256];
	size_t i;

	tmp_make(dir);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		st_raw(path_in(dir, "bad.safetensors"), bad[i].header, bad[i].payload);
		printf("# %zu %s\n", i, bad[i].header);
		EXPECT_REFUSED(path_in(dir, "bad.safetensors"), bad[i].code, bad[i].text);
		EXPECT_REFUSED(path_in(dir, "bad.safetensors"), bad[i].code, "bad.safetensors");
	}
	tmp_remove(dir);
}

static const struct {
	const char *header;
	uint64_t payload;
} good[] = {
	{ "{}", 0 },
	{ "{ }  \n", 0 },
	{ "{\"a\":" T("F32", "[0]", "[0,0]") "}", 0 },
	{ "{\"a\":" T("F32", "[0,18446744073709551615]", "[0,0]") "}", 0 },
	{ "{\"a\":" T("F4", "[2,8]", "[0,8]") "}", 8 },
	{ "{\"a\":" T("F6_E3M2", "[4]", "[0,3]") "}", 3 },
	{ "{\"a\":" T("F8_E8M0", "[4]", "[0,4]") "}", 4 },
	{ "{\"a\":" T("F8_E4M3", "[4]", "[0,4]") "}", 4 },
	{ "{\"a\":" T("C64", "[2]", "[0,16]") "}", 16 },
	{ "{\"a\":" T("F8_E4M3FNUZ", "[4]", "[0,4]") "}", 4 },	/* unknown, but its size is plain */
	{ "{\"a\":" T("F32", "[1,1,1,1,1,1,1,2]", "[0,8]") "}", 8 },
	{ "{\"a\":{\"x\":{\"y\":[1,{}]},\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4 },
	{ "{\"__metadata__\":null}", 0 },
	{ "{\"__metadata__\":{\"format\":\"pt\"}}", 0 },
	/* in any order */
	{ "{\"b\":" T("F32", "[1]", "[4,8]") ",\"a\":" T("F32", "[1]", "[0,4]") ",\"c\":" T("F32", "[0]",
	  "[4,4]") "}", 8 },
	{ "{\"\\u00e4\\ud83d\\ude00\":" T("F32", "[1]", "[0,4]") "}", 4 },
};

TEST(valid_files_open)
{
	char dir[256];
	size_t i;

	tmp_make(dir);
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		st_raw(path_in(dir, "good.safetensors"), good[i].header, good[i].payload);
		printf("# %zu %s\n", i, good[i].header);
		penstock_index_close(open_good(path_in(dir, "good.safetensors")));
	}
	tmp_remove(dir);
}

TEST(tensors_are_described)
{
	const struct penstock_index_tensor *t;
	struct penstock_index *ix;
	struct st_file f = { 0 };
	uint64_t data;
	char dir[256];
	uint32_t i;

	tmp_make(dir);
	ST(&f, "z", "F16", 2, 3);
	ST(&f, "scalar", "F32");
	ST(&f, "five", "I8", 1, 2, 3, 1, 5);
	ST(&f, "fp4", "F4", 2, 8);
	st_add_sized(&f, "new", "F3", DIMS(8), 3);
	st_write(&f, path_in(dir, "x.safetensors"));
	ix = open_good(path_in(dir, "x.safetensors"));
	ASSERT_EQ(5u, ix->nr_tensors);
	for (i = 1; i < ix->nr_tensors; i++)
		EXPECT_TRUE(strcmp(ix->tensors[i - 1].name, ix->tensors[i].name) < 0);
	t = tensor(ix, "z");
	data = t->off;
	EXPECT_EQ(0u, (data - 8) % 8);
	EXPECT_EQ(12u, t->bytes);
	EXPECT_EQ((int)PENSTOCK_DTYPE_F16, (int)t->dtype);
	EXPECT_EQ(3u, penstock_index_tensor_dims(t)[1]);
	EXPECT_EQ(0, (int)tensor(ix, "scalar")->nr_dims);
	EXPECT_EQ(data + 12, tensor(ix, "scalar")->off);
	t = tensor(ix, "five");
	EXPECT_EQ(5, (int)t->nr_dims);
	EXPECT_EQ(5u, penstock_index_tensor_dims(t)[4]);
	EXPECT_EQ(8u, tensor(ix, "fp4")->bytes);
	EXPECT_EQ((int)PENSTOCK_DTYPE_NONE, (int)tensor(ix, "new")->dtype);
	EXPECT_EQ(3u, tensor(ix, "new")->bytes);
	EXPECT_EQ(-ENOENT, (int)penstock_index_find(ix, "y"));
	EXPECT_EQ(-ENOENT, (int)penstock_index_find(ix, ""));
	EXPECT_EQ((int)PENSTOCK_FAMILY_NONE, (int)ix->family);
	EXPECT_STREQ("", ix->arch);
	EXPECT_EQ(0u, ix->nr_layers);
	penstock_index_close(ix);
	tmp_remove(dir);
}

/* Two shards a.safetensors (x, shared) and b.safetensors (y, shared). */
static void write_two(const char *dir)
{
	struct st_file f = { 0 };

	ST(&f, "x", "F32", 1);
	ST(&f, "both", "F32", 2);
	st_write(&f, path_in(dir, "a.safetensors"));
	ST(&f, "y", "F32", 1);
	ST(&f, "both", "F32", 3);
	st_write(&f, path_in(dir, "b.safetensors"));
}

TEST(weight_map_decides_for_each_tensor)
{
	struct penstock_index *ix;
	char dir[256];

	tmp_make(dir);
	write_two(dir);
	text_write(path_in(dir, "model.safetensors.index.json"),
		   "{\"metadata\":{\"weight_map\":1},\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"b.safetensors\","
		   "\"both\":\"b.safetensors\"}}");
	ix = open_good(dir);
	EXPECT_EQ(3u, ix->nr_tensors);
	EXPECT_EQ(12u, tensor(ix, "both")->bytes);
	EXPECT_HAS(ix->store.files[tensor(ix, "both")->file].path, "b.safetensors");
	penstock_index_close(ix);
	/* a tensor that the map leaves out is not part of the model */
	text_write(path_in(dir, "other.index.json"),
		   "{\"weight_map\":{\"x\":\"a.safetensors\",\"both\":\"a.safetensors\"}}");
	ix = open_good(path_in(dir, "other.index.json"));
	EXPECT_EQ(2u, ix->nr_tensors);
	EXPECT_EQ(8u, tensor(ix, "both")->bytes);
	EXPECT_EQ(1u, ix->store.nr_files);
	penstock_index_close(ix);
	tmp_remove(dir);
}

TEST(weight_map_is_checked_both_ways)
{
	static const struct {
		const char *json;
		int code;
		const char *text;
	} maps[] = {
		{ "{\"weight_map\":{\"x\":\"a.safetensors\",\"z\":\"a.safetensors\"}}", -EBADMSG,
		  "z is not in a.safetensors" },
		{ "{\"weight_map\":{\"y\":\"a.safetensors\"}}", -EBADMSG, "y is not in a.safetensors" },
		{ "{\"weight_map\":{\"x\":\"a.safetensors\",\"p\":\"c.safetensors\",\"q\":\"d.safetensors\"}}", -ENOENT,
		  "2 of 3 shards missing: c.safetensors, d.safetensors" },
		{ "{\"weight_map\":{\"x\":\"a.safetensors\",\"x\":\"a.safetensors\"}}", -EBADMSG,
		  "x is in weight_map twice" },
		{ "{\"weight_map\":{\"x\":\"../a.safetensors\"}}", -EBADMSG, "bad file name" },
		{ "{\"weight_map\":{\"x\":\"/a.safetensors\"}}", -EBADMSG, "bad file name" },
		{ "{\"weight_map\":{\"x\":\"\"}}", -EBADMSG, "bad file name" },
		{ "{\"weight_map\":{\"x\":1}}", -EBADMSG, "weight_map" },
		{ "{\"weight_map\":{\"x\":{}}}", -EBADMSG, "weight_map" },
		{ "{\"weight_map\":[]}", -EBADMSG, "weight_map" },
		{ "{\"weight_map\":{}}", -EBADMSG, "no weight_map" },
		{ "{}", -EBADMSG, "no weight_map" },
		{ "{\"weight_map\":{\"x\":\"a.safetensors\"}", -EBADMSG, "not JSON" },
		{ "", -EBADMSG, "not JSON" },
	};
	char dir[256];
	size_t i;

	tmp_make(dir);
	write_two(dir);
	for (i = 0; i < sizeof(maps) / sizeof(maps[0]); i++) {
		printf("# %s\n", maps[i].json);
		text_write(path_in(dir, "model.safetensors.index.json"), maps[i].json);
		EXPECT_REFUSED(dir, maps[i].code, maps[i].text);
	}
	tmp_remove(dir);
}

TEST(folders_without_an_index)
{
	struct penstock_index *ix;
	struct st_file f = { 0 };
	char dir[256];

	tmp_make(dir);
	EXPECT_REFUSED(dir, -ENOENT, "no .safetensors");
	write_two(dir);
	EXPECT_REFUSED(dir, -EBADMSG, "tensor both is in");
	unlink(path_in(dir, "b.safetensors"));
	ix = open_good(dir);
	EXPECT_EQ(2u, ix->nr_tensors);
	penstock_index_close(ix);
	/* model.safetensors is the model, whatever lies beside it */
	ST(&f, "m", "F32", 1);
	st_write(&f, path_in(dir, "model.safetensors"));
	ix = open_good(dir);
	EXPECT_EQ(1u, ix->nr_tensors);
	penstock_index_close(ix);
	unlink(path_in(dir, "model.safetensors"));
	unlink(path_in(dir, "a.safetensors"));
	/* a series knows how many it is */
	ST(&f, "p", "F32", 1);
	st_write(&f, path_in(dir, "m-00001-of-00003.safetensors"));
	ST(&f, "q", "F32", 1);
	st_write(&f, path_in(dir, "m-00003-of-00003.safetensors"));
	EXPECT_REFUSED(dir, -ENOENT, "1 of 3 shards missing: m-00002-of-00003.safetensors");
	ST(&f, "r", "F32", 1);
	st_write(&f, path_in(dir, "m-00002-of-00003.safetensors"));
	ix = open_good(dir);
	EXPECT_EQ(3u, ix->nr_tensors);
	EXPECT_EQ(3u, ix->store.nr_files);
	penstock_index_close(ix);
	/* two index files, none of the standard name */
	text_write(path_in(dir, "one.index.json"), "{\"weight_map\":{\"p\":\"m-00001-of-00003.safetensors\"}}");
	text_write(path_in(dir, "two.index.json"), "{\"weight_map\":{\"q\":\"m-00003-of-00003.safetensors\"}}");
	EXPECT_REFUSED(dir, -EINVAL, "open one of them by name");
	unlink(path_in(dir, "two.index.json"));
	text_write(path_in(dir, "pytorch_model.bin.index.json"), "{\"weight_map\":{\"p\":\"x.bin\"}}");
	ix = open_good(dir);
	EXPECT_EQ(1u, ix->nr_tensors);
	penstock_index_close(ix);
	EXPECT_REFUSED(path_in(dir, "absent"), -ENOENT, "absent");
	tmp_remove(dir);
}

/* As the Hugging Face cache keeps files: names are links to blobs elsewhere. */
TEST(links_into_a_cache)
{
	struct penstock_index *ix;
	struct st_file f = { 0 };
	char dir[256], blobs[300], snap[300];

	tmp_make(dir);
	snprintf(blobs, sizeof(blobs), "%s/blobs", dir);
	snprintf(snap, sizeof(snap), "%s/snap", dir);
	ASSERT_EQ(0, mkdir(blobs, 0700));
	ASSERT_EQ(0, mkdir(snap, 0700));
	ST(&f, "x", "F32", 1);
	st_write(&f, path_in(blobs, "0123abcd"));
	text_write(path_in(blobs, "4567"), "{\"weight_map\":{\"x\":\"model-00001-of-00001.safetensors\"}}");
	ASSERT_EQ(0, symlink("../blobs/0123abcd", path_in(snap, "model-00001-of-00001.safetensors")));
	ASSERT_EQ(0, symlink("../blobs/4567", path_in(snap, "model.safetensors.index.json")));
	ix = open_good(snap);
	EXPECT_EQ(1u, ix->nr_tensors);
	penstock_index_close(ix);
	ix = open_good(path_in(snap, "model.safetensors.index.json"));
	penstock_index_close(ix);
	penstock_index_close(open_good(path_in(snap, "model-00001-of-00001.safetensors")));
	tmp_remove(dir);
}

static double number(const struct penstock_index *ix, const char *key)
{
	const struct penstock_meta *m = penstock_index_meta(ix, key);

	return m && m->type == PENSTOCK_META_NUMBER ? m->number : -1;
}

TEST(config_becomes_metadata)
{
	const struct penstock_meta *m;
	struct penstock_index *ix;
	struct st_file f = { 0 };
	char dir[256];

	tmp_make(dir);
	ST(&f, "x", "F32", 1);
	st_write(&f, path_in(dir, "model.safetensors"));
	text_write(
		path_in(dir, "config.json"),
		"{\"a\": 1, \"b\": {\"c\": {\"d\": -2.5e3}, \"e\": true}, \"list\": [1, 2.5, true], \"names\": [\"p\", \"q\"],"
		"\"none\": null, \"empty\": [], \"objects\": [{\"k\": 1}, [2]], \"mixed\": [1, \"a\"], \"s\": \"t\\u00e4\","
		"\"twice\": 1, \"twice\": 2, \"model_type\": \"strange\", \"after\": 7}");
	ix = open_good(dir);
	EXPECT_EQ(1.0, number(ix, "a"));
	EXPECT_EQ(-2500.0, number(ix, "b.c.d"));
	m = penstock_index_meta(ix, "b.e");
	ASSERT_TRUE(m && m->type == PENSTOCK_META_BOOL && m->number == 1);
	m = penstock_index_meta(ix, "list");
	ASSERT_TRUE(m && m->type == PENSTOCK_META_NUMBERS && m->nr == 3 && m->numbers[1] == 2.5);
	m = penstock_index_meta(ix, "names");
	ASSERT_TRUE(m && m->type == PENSTOCK_META_STRINGS && m->nr == 2);
	EXPECT_STREQ("q", m->strings[1]);
	m = penstock_index_meta(ix, "empty");
	ASSERT_TRUE(m && m->type == PENSTOCK_META_NUMBERS && m->nr == 0);
	EXPECT_TRUE(!penstock_index_meta(ix, "none"));
	EXPECT_TRUE(!penstock_index_meta(ix, "objects"));
	EXPECT_TRUE(!penstock_index_meta(ix, "mixed"));
	EXPECT_TRUE(!penstock_index_meta(ix, "k"));
	EXPECT_STREQ("t\xc3\xa4", penstock_index_meta(ix, "s")->string);
	EXPECT_EQ(2.0, number(ix, "twice"));
	EXPECT_EQ(7.0, number(ix, "after"));
	EXPECT_STREQ("strange", ix->arch);
	EXPECT_EQ((int)PENSTOCK_FAMILY_NONE, (int)ix->family);
	penstock_index_close(ix);
	text_write(path_in(dir, "config.json"), "{\"a\": }");
	EXPECT_REFUSED(dir, -EBADMSG, "config.json");
	text_write(path_in(dir, "config.json"), "[1]");
	EXPECT_REFUSED(dir, -EBADMSG, "not a JSON object");
	text_write(path_in(dir, "config.json"), "5");
	EXPECT_REFUSED(dir, -EBADMSG, "config.json");
	tmp_remove(dir);
}

TEST_HARNESS_MAIN
