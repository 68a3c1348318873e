// SPDX-License-Identifier: MIT
/*
 * Large checkpoints, all of them holes: the number of tensors and shards of the
 * largest models, files over 4 GiB, tensors over 2^31 bytes.
 */
#define TEST_TIMEOUT 60
#include <sys/resource.h>
#include <sys/time.h>

#include "index_files.h"
#include "util.h"

/* 60 layers of 384 experts, three matrices with a packed weight, a scale and a shape each: 207,360 tensors. */
#define LAYERS	60
#define EXPERTS	384
#define SHARDS	200u
#define HIDDEN	256
#define INTER	64

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

struct shards {
	struct st_file file;
	struct bytes map;
	uint32_t shard;
	uint32_t in_shard;
	uint32_t per_shard;
	const char *dir;
};

static void end_shard(struct shards *s)
{
	char name[64];

	snprintf(name, sizeof(name), "model-%05u-of-%05u.safetensors", s->shard + 1, SHARDS);
	st_write(&s->file, path_in(s->dir, name));
	s->shard++;
	s->in_shard = 0;
}

static void add(struct shards *s, const char *dtype, const long *dims, const char *name)
{
	st_add(&s->file, name, dtype, dims);
	bytes_printf(&s->map, "%s\n    \"%s\": \"model-%05u-of-%05u.safetensors\"", s->map.len ? "," : "", name,
		     s->shard + 1, SHARDS);
	if (++s->in_shard == s->per_shard && s->shard < SHARDS - 1)
		end_shard(s);
}

#define ADD(s, dtype, dims, ...) do { char add_[256]; snprintf(add_, sizeof(add_), __VA_ARGS__); \
	add(s, dtype, dims, add_); } while (0)

static void write_kimi(const char *dir)
{
	static const char *const proj[] = { "down_proj", "gate_proj", "up_proj" };
	struct shards s = { .dir = dir };
	struct bytes json = { 0 };
	uint32_t l, e, p;
	char base[128];

	s.per_shard = (LAYERS * (EXPERTS * 9 + 2) + SHARDS - 1) / SHARDS;
	for (l = 0; l < LAYERS; l++) {
		for (e = 0; e < EXPERTS; e++) {
			for (p = 0; p < 3; p++) {
				long rows = p ? INTER : HIDDEN, cols = p ? HIDDEN : INTER;

				snprintf(base, sizeof(base), "model.layers.%u.mlp.experts.%u.%s", l, e, proj[p]);
				ADD(&s, "I32", DIMS(rows, cols / 8), "%s.weight_packed", base);
				ADD(&s, "BF16", DIMS(rows, cols / 32), "%s.weight_scale", base);
				ADD(&s, "I32", DIMS(2), "%s.weight_shape", base);
			}
		}
		ADD(&s, "F32", DIMS(EXPERTS), "model.layers.%u.mlp.gate.e_score_correction_bias", l);
		ADD(&s, "BF16", DIMS(EXPERTS, HIDDEN), "model.layers.%u.mlp.gate.weight", l);
	}
	end_shard(&s);
	ASSERT_EQ(SHARDS, s.shard);
	bytes_printf(&json, "{\n  \"metadata\": {\"total_size\": 1},\n  \"weight_map\": {");
	bytes_add(&json, s.map.p, s.map.len);
	bytes_printf(&json, "\n  }\n}\n");
	file_write(path_in(dir, "model.safetensors.index.json"), json.p, json.len, json.len);
	bytes_free(&json);
	bytes_free(&s.map);
	text_write(path_in(dir, "config.json"),
		   "{\"model_type\": \"kimi_k2\", \"num_hidden_layers\": 60, \"n_routed_experts\": 384,"
		   "\"num_experts_per_tok\": 8, \"hidden_size\": 256, \"moe_intermediate_size\": 64,"
		   "\"first_k_dense_replace\": 0, \"n_shared_experts\": 0, \"n_group\": 1, \"topk_group\": 1}");
}

static uint64_t status_kib(const char *key)
{
	FILE *f = fopen("/proc/self/status", "re");
	unsigned long long v = 0;
	char line[256];

	ASSERT_TRUE(f);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			sscanf(line + strlen(key), ": %llu", &v);
	fclose(f);
	return v;
}

/* In a process of its own, so that what the test wrote before is not counted. */
static void open_and_measure(const char *dir)
{
	uint64_t start, ns, rss, peak, begin;
	struct penstock_extent ext[PENSTOCK_MAX_PARTS];
	struct penstock_index *ix;
	struct rusage ru;

	begin = status_kib("VmRSS");
	start = penstock_now_ns();
	ix = open_good(dir);
	ns = penstock_now_ns() - start;
	rss = status_kib("VmRSS");
	peak = status_kib("VmHWM");
	getrusage(RUSAGE_SELF, &ru);
	printf("# %u tensors in %u shards: %.0f ms (%.0f ms user), %llu MiB resident (%llu before), peak %llu\n",
	       ix->nr_tensors, ix->store.nr_files, (double)ns / 1e6,
	       (double)ru.ru_utime.tv_sec * 1e3 + (double)ru.ru_utime.tv_usec / 1e3, (unsigned long long)rss >> 10,
	       (unsigned long long)begin >> 10, (unsigned long long)peak >> 10);
	EXPECT_EQ(LAYERS * (EXPERTS * 9 + 2), (int)ix->nr_tensors);
	EXPECT_EQ(SHARDS, ix->store.nr_files);
	EXPECT_EQ(LAYERS, (int)ix->nr_layers);
	EXPECT_EQ(0, penstock_index_expert(ix, LAYERS - 1, EXPERTS - 1, ext));
	EXPECT_STREQ("model.layers.59.mlp.experts.383.down_proj.weight_packed",
		     name_of(ix, penstock_index_part_tensor(ix, LAYERS - 1, EXPERTS - 1, 4)));
	EXPECT_EQ(SHARDS - 1, ext[4].file);
	EXPECT_EQ((uint64_t)HIDDEN * INTER / 2, ext[4].len);
	/* the aim is a second on an idle machine; a busy one gets time */
	EXPECT_LT(ns, SANITIZED ? 30000000000ull : 5000000000ull);
	if (!SANITIZED) {
		EXPECT_LT(rss, 100ull << 10);
		EXPECT_LT(peak, 300ull << 10);
	}
	penstock_index_close(ix);
}

TEST(two_hundred_thousand_tensors)
{
	struct rlimit lim;
	char dir[256];
	int status;
	pid_t pid;

	/* two descriptors a shard at most */
	getrlimit(RLIMIT_NOFILE, &lim);
	if (lim.rlim_max < 2 * SHARDS + 64)
		SKIP("RLIMIT_NOFILE is %llu", (unsigned long long)lim.rlim_max);
	lim.rlim_cur = lim.rlim_max < 4096 ? lim.rlim_max : 4096;
	setrlimit(RLIMIT_NOFILE, &lim);
	tmp_make(dir);
	/* what writing takes stays with the writer */
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		write_kimi(dir);
		fflush(stdout);
		_exit(test_failed);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		open_and_measure(dir);
		fflush(stdout);
		_exit(test_failed);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	tmp_remove(dir);
}

TEST(tensor_over_2_gib_in_a_file_over_4_gib)
{
	struct penstock_extent ext[PENSTOCK_MAX_PARTS];
	const struct penstock_index_tensor *t;
	struct penstock_index *ix;
	struct st_file f = { 0 };
	char dir[256];

	tmp_make(dir);
	/* two experts of 3 * 4096 * 131072 * 2 bytes: 1 GiB a matrix, fused 2 and 4 GiB */
	ST(&f, "model.layers.0.feed_forward.experts.gate_up_proj", "BF16", 2, 4096, 262144);
	ST(&f, "model.layers.0.feed_forward.experts.down_proj", "BF16", 2, 131072, 4096);
	ST(&f, "model.layers.0.feed_forward.router.weight", "BF16", 2, 4096);
	ST(&f, "model.layers.0.feed_forward.shared_expert.gate_proj.weight", "BF16", 131072, 4096);
	ST(&f, "model.layers.0.feed_forward.shared_expert.up_proj.weight", "BF16", 131072, 4096);
	ST(&f, "model.layers.0.feed_forward.shared_expert.down_proj.weight", "BF16", 4096, 131072);
	st_write(&f, path_in(dir, "model.safetensors"));
	text_write(path_in(dir, "config.json"),
		   "{\"model_type\": \"llama4_text\", \"num_hidden_layers\": 1, \"num_local_experts\": 2,"
		   "\"hidden_size\": 4096, \"intermediate_size\": 131072}");
	ix = open_good(dir);
	t = tensor(ix, "model.layers.0.feed_forward.experts.gate_up_proj");
	EXPECT_EQ(4ull << 30, t->bytes);
	ASSERT_EQ(0, penstock_index_expert(ix, 0, 1, ext));
	EXPECT_EQ(t->off + (2ull << 30), ext[0].off);
	EXPECT_EQ(2ull << 30, ext[0].len);
	t = tensor(ix, "model.layers.0.feed_forward.experts.down_proj");
	EXPECT_GT(t->off, 4ull << 30);
	EXPECT_EQ(t->off + (1ull << 30), ext[1].off);
	penstock_index_close(ix);
	tmp_remove(dir);
}

TEST(gguf_tensor_over_4_gib)
{
	struct penstock_extent ext[PENSTOCK_MAX_PARTS];
	const struct penstock_index_tensor *t;
	struct penstock_index *ix;
	struct gg_file g = { 0 };
	char dir[256];

	tmp_make(dir);
	gg_string(&g, "general.architecture", "qwen3moe");
	gg_arch_u32(&g, "qwen3moe", "block_count", 1);
	gg_arch_u32(&g, "qwen3moe", "embedding_length", 4096);
	gg_arch_u32(&g, "qwen3moe", "expert_count", 64);
	gg_arch_u32(&g, "qwen3moe", "expert_used_count", 2);
	gg_arch_u32(&g, "qwen3moe", "expert_feed_forward_length", 16384);
	GG(&g, "blk.0.ffn_gate_inp.weight", GG_TYPE_F32, 64, 4096);
	GG(&g, "blk.0.ffn_gate_exps.weight", GG_TYPE_Q8_0, 64, 16384, 4096);
	GG(&g, "blk.0.ffn_up_exps.weight", GG_TYPE_Q8_0, 64, 16384, 4096);
	GG(&g, "blk.0.ffn_down_exps.weight", GG_TYPE_Q8_0, 64, 4096, 16384);
	gg_write(&g, path_in(dir, "m.gguf"));
	ix = open_good(path_in(dir, "m.gguf"));
	t = tensor(ix, "blk.0.ffn_down_exps.weight");
	EXPECT_EQ(64ull * 4096 * 16384 / 32 * 34, t->bytes);
	EXPECT_GT(t->off, 8ull << 30);
	ASSERT_EQ(0, penstock_index_expert(ix, 0, 63, ext));
	EXPECT_EQ(t->off + t->bytes, ext[2].off + ext[2].len);
	penstock_index_close(ix);
	tmp_remove(dir);
}

TEST_HARNESS_MAIN
