// SPDX-License-Identifier: MIT
/*
 * The tool as its users meet it: the built program is run, and its exit code,
 * stdout and stderr are looked at.
 */
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <yajl/yajl_tree.h>

#include "harness.h"

static char dir[4000];
static char out[1 << 20];
static char errors[65536];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void clean(void)
{
	if (*dir)
		nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void make_dir(void)
{
	const char *tmp = getenv("TMPDIR");

	if (*dir)
		return;
	snprintf(dir, sizeof(dir), "%s/penstock-tool-XXXXXX", tmp && *tmp ? tmp : "/var/tmp");
	ASSERT_TRUE(mkdtemp(dir));
	atexit(clean);
}

static void slurp(const char *name, char *buf, size_t len)
{
	char path[4200];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY);
	ASSERT_GE(fd, 0);
	n = read(fd, buf, len - 1);
	close(fd);
	buf[n < 0 ? 0 : n] = 0;
}

/* Runs "penstock " + the arguments in the shell, in the test's folder; Return: the exit code. */
static int run(const char *fmt, ...)
{
	const char *build = getenv("PENSTOCK_BUILD");
	char args[2000], top[2000], cmd[9000], *tool;
	va_list ap;
	int status;

	make_dir();
	va_start(ap, fmt);
	vsnprintf(args, sizeof(args), fmt, ap);
	va_end(ap);
	snprintf(top, sizeof(top), "%s/penstock", build && *build ? build : "build");
	tool = realpath(top, NULL);
	if (!tool)
		TEST_FAIL_(1, "no %s", top);
	snprintf(cmd, sizeof(cmd), "cd '%s' && '%s' %s >.out 2>.err", dir, tool, args);
	free(tool);
	status = system(cmd);
	slurp(".out", out, sizeof(out));
	slurp(".err", errors, sizeof(errors));
	ASSERT_TRUE(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void put_file(const char *name, const void *data, size_t len)
{
	char path[4200];
	int fd;

	make_dir();
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
	ASSERT_GE(fd, 0);
	ASSERT_EQ((ssize_t)len, write(fd, data, len));
	close(fd);
}

/* A safetensors file: length, header, @extra zero bytes */
static void put_safetensors(const char *name, const char *header, size_t extra)
{
	uint64_t len = strlen(header);
	char buf[4096] = { 0 };

	memcpy(buf, &len, 8);
	memcpy(buf + 8, header, len);
	put_file(name, buf, 8 + len + extra);
}

static yajl_val json;

static void forget(void)
{
	yajl_tree_free(json);
	json = NULL;
}

static yajl_val at(const char *a, const char *b)
{
	const char *path[] = { a, b, NULL };

	return yajl_tree_get(json, path, yajl_t_any);
}

static long long number(const char *key)
{
	yajl_val v = at(key, NULL);

	if (!YAJL_IS_INTEGER(v))
		TEST_FAIL_(1, "no number \"%s\" in %.200s", key, out);
	return YAJL_GET_INTEGER(v);
}

/* The whole of stdout is one JSON object of that schema. */
static void parse(const char *schema)
{
	char why[200];
	const char *s;

	if (!json)
		atexit(forget);
	forget();
	json = yajl_tree_parse(out, why, sizeof(why));
	if (!json)
		TEST_FAIL_(1, "%s in %.200s", why, out);
	s = YAJL_GET_STRING(at("schema", NULL));
	EXPECT_STREQ(s ? s : "none", schema);
}

TEST(tool_explains_itself)
{
	EXPECT_EQ(2, run(""));
	EXPECT_STREQ(out, "");
	EXPECT_HAS(errors, "usage: penstock");
	EXPECT_EQ(0, run("--help"));
	EXPECT_HAS(out, "  ls ");
	EXPECT_HAS(out, "  synth ");
	EXPECT_STREQ(errors, "");
	EXPECT_EQ(0, run("--version"));
	EXPECT_HAS(out, "penstock 0.");
}

TEST(each_command_explains_itself)
{
	static const char *const commands[] = { "run", "ls", "synth", "bench" };
	static const char *const benches[] = { "io", "load", "gemv" };
	char twice[sizeof(out)];
	size_t i;

	for (i = 0; i < sizeof(benches) / sizeof(benches[0]); i++) {
		EXPECT_EQ(0, run("bench %s --help", benches[i]));
		EXPECT_HAS(out, "usage: penstock bench");
		EXPECT_EQ(2, run("bench %s --frobnicate", benches[i]));
		EXPECT_EQ(0, run("bench --help"));
		EXPECT_HAS(out, benches[i]);
	}
	run("--help");
	memcpy(twice, out, sizeof(out));
	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		EXPECT_HAS(twice, commands[i]);
		EXPECT_EQ(0, run("%s --help", commands[i]));
		EXPECT_HAS(out, "usage: penstock");
		EXPECT_HAS(out, "example");
		EXPECT_STREQ(errors, "");
	}
	run("ls --help");
	memcpy(twice, out, sizeof(out));
	EXPECT_EQ(0, run("help ls"));
	EXPECT_STREQ(out, twice);
	EXPECT_EQ(2, run("help nothing"));
}

TEST(wrong_words_are_usage_errors)
{
	EXPECT_EQ(2, run("lss"));
	EXPECT_HAS(errors, "did you mean 'ls'?");
	EXPECT_EQ(2, run("snyth"));
	EXPECT_HAS(errors, "did you mean 'synth'?");
	EXPECT_EQ(2, run("frobnicate"));
	EXPECT_HAS(errors, "no command 'frobnicate'; `penstock --help`");
	EXPECT_EQ(2, run("ls"));
	EXPECT_EQ(2, run("ls --frob x"));
	EXPECT_EQ(2, run("ls a b"));
	EXPECT_EQ(2, run("synth"));
	EXPECT_EQ(2, run("synth x --layers many"));
	EXPECT_HAS(errors, "--layers many: a whole number");
	EXPECT_EQ(2, run("synth x --layers 4294967296"));
	EXPECT_EQ(2, run("synth x --dtype int2"));
	EXPECT_HAS(errors, "--dtype int2: bf16,");
	EXPECT_EQ(2, run("synth x --dtype q8_0"));
	EXPECT_HAS(errors, "Q8_0 in safetensors");
	EXPECT_EQ(2, run("synth x --size 0"));
	EXPECT_EQ(2, run("synth x --skew -1"));
	EXPECT_EQ(2, run("synth x --top-k 9 --experts 8"));
	EXPECT_EQ(2, run("bench"));
	EXPECT_EQ(2, run("bench nothing"));
	EXPECT_STREQ(out, "");
}

TEST(a_full_disk_is_no_success)
{
	make_dir();
	if (access("/dev/full", W_OK))
		SKIP("no /dev/full");
	put_safetensors("a.safetensors", "{}", 0);
	EXPECT_EQ(0, run("ls -t a.safetensors >/dev/full 2>.why; echo code $?"));
	EXPECT_STREQ(out, "code 1\n");
	slurp(".why", errors, sizeof(errors));
	EXPECT_HAS(errors, "penstock ls: cannot write the result: No space left");
}

TEST(ls_tensors_of_good_files)
{
	const char *gguf = "GGUF\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

	put_safetensors("a.safetensors",
			"{\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[0,12]},"
			"\"a\\u001b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[12,16]}}", 16);
	EXPECT_EQ(0, run("ls --tensors --json a.safetensors"));
	parse("penstock.ls.tensors/1");
	EXPECT_EQ(2, number("nr_tensors"));
	EXPECT_EQ(0, run("ls --tensors a.safetensors"));
	EXPECT_HAS(out, "b      BF16   2x3");
	EXPECT_HAS(out, "a\\x1b  F32    scalar");
	put_safetensors("empty.safetensors", "{}", 0);
	EXPECT_EQ(0, run("ls -t empty.safetensors"));
	put_file("empty.gguf", gguf, 24);
	EXPECT_EQ(0, run("ls -tj empty.gguf"));
	parse("penstock.ls.tensors/1");
	EXPECT_EQ(0, number("nr_tensors"));
	/* valid, but nothing for a command about experts */
	EXPECT_EQ(1, run("ls a.safetensors"));
	EXPECT_HAS(errors, "no experts in it");
	EXPECT_STREQ(out, "");
}

TEST(ls_tensors_of_bad_files)
{
	EXPECT_EQ(1, run("ls -t nothing.safetensors"));
	EXPECT_HAS(errors, "nothing.safetensors");
	put_file("short.safetensors", "abc", 3);
	EXPECT_EQ(1, run("ls -t short.safetensors"));
	EXPECT_HAS(errors, "HeaderTooSmall");
	put_safetensors("cut.safetensors", "{\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[0,12]}}", 11);
	EXPECT_EQ(1, run("ls -t cut.safetensors"));
	EXPECT_HAS(errors, "cut.safetensors");
	put_safetensors("json.safetensors", "{\"b\":", 0);
	EXPECT_EQ(1, run("ls -t --json json.safetensors"));
	EXPECT_HAS(errors, "InvalidHeaderDeserialization");
	EXPECT_STREQ(out, "");
	put_file("magic.gguf", "GGUX\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24);
	EXPECT_EQ(1, run("ls -t magic.gguf"));
	put_file("cut.gguf", "GGUF\3\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24);
	EXPECT_EQ(1, run("ls -t cut.gguf"));
	EXPECT_HAS(errors, "penstock ls: ");
}

TEST(synth_then_ls)
{
	const char *shape = "--layers 2 --experts 4 --top-k 2 --hidden 64 --inter 32 --heads 2 --head-dim 32 --vocab 300";
	yajl_val layers, classes;

	EXPECT_EQ(0, run("synth m %s --json", shape));
	parse("penstock.synth/1");
	EXPECT_EQ(2, number("layers"));
	/* 2 layers of 4 experts of 3 matrices */
	EXPECT_EQ(2 * 4 * 3 * 64 * 32 * 2, number("expert_bytes"));
	EXPECT_EQ(0, run("ls m --json"));
	parse("penstock.ls/1");
	EXPECT_STREQ(YAJL_GET_STRING(at("family", NULL)), "qwen3_moe");
	EXPECT_EQ(2 * 4 * 3 * 64 * 32 * 2, number("expert_bytes"));
	EXPECT_EQ(2 * 2 * 3 * 64 * 32 * 2, number("token_bytes"));
	EXPECT_EQ(2, number("nr_moe_layers"));
	EXPECT_EQ(2, number("top_k"));
	EXPECT_EQ(number("total_bytes"), number("expert_bytes") + number("dense_bytes"));
	layers = at("layers", NULL);
	classes = at("size_classes", NULL);
	ASSERT_TRUE(YAJL_IS_ARRAY(layers) && YAJL_IS_ARRAY(classes));
	EXPECT_EQ(2u, YAJL_GET_ARRAY(layers)->len);
	EXPECT_EQ(1u, YAJL_GET_ARRAY(classes)->len);
	EXPECT_EQ(0, run("ls m"));
	EXPECT_HAS(out, "gate BF16 32x64, up BF16 32x64, down BF16 64x32");
	EXPECT_EQ(1, run("synth m %s", shape));
	EXPECT_HAS(errors, "m: will not be overwritten");
	EXPECT_EQ(0, run("synth g.gguf %s --format gguf --dtype q8_0 --align 4096", shape));
	EXPECT_EQ(0, run("ls g.gguf"));
	EXPECT_HAS(out, "gate Q8_0 32x64");
	EXPECT_EQ(0, run("ls -t g.gguf"));
	EXPECT_HAS(out, "blk.1.ffn_down_exps.weight");
}

TEST_HARNESS_MAIN
