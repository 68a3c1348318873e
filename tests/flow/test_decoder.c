// SPDX-License-Identifier: MIT
/*
 * The decoder against goldens: the same greedy tokens, the same expert choices
 * and the same logits as the reference implementation, from experts read plainly
 * and from the library under a small cache, which must agree bit for bit.
 */
#include "decoder_golden.h"
#include "decoder/state.h"

/* ---- whole models ---- */

struct choices {
	const char *name;
	uint32_t wrong;
	uint32_t seen;
};

/* Compares the router's choice with the golden's choice.L, position by position. */
static int compare_choice(void *arg, uint32_t layer, uint32_t seq, uint32_t pos, size_t nr, uint32_t k, int32_t *ids,
			  float *weights, struct penstock_error *err)
{
	struct choices *c = arg;
	char key[32];
	double *want;
	size_t n, i;

	snprintf(key, sizeof(key), "choice.%u", layer);
	n = golden_numbers(c->name, key, &want);
	for (i = 0; i < nr * k && pos * k + i < n; i++, c->seen++)
		c->wrong += ids[i] != (int32_t)want[pos * k + i];
	free(want);
	return 0;
}

static void decode_golden(const char *name)
{
	size_t nr, nr_out, i;
	int32_t *prompt = golden_ids(name, "prompt", &nr), *want = golden_ids(name, "output", &nr_out);
	int32_t *out = calloc(nr_out, sizeof(*out));
	struct choices c = { .name = name };
	struct decoder_router_hook hook = { compare_choice, &c };
	struct decoder_experts plain, library;
	float *logits, *again, *last;
	struct opened o;
	uint32_t vocab;

	ASSERT_GT(nr, (size_t)0);
	ASSERT_GT(nr_out, (size_t)0);
	open_model(&o, golden_model(name), 64 << 20);
	open_decoder(&o, (uint32_t)(nr + nr_out), 1, 0);
	vocab = decoder_vocab(o.d);
	EXPECT_EQ((uint32_t)golden_number(name, "vocab"), vocab);
	logits = calloc(vocab, sizeof(float));
	again = calloc(vocab, sizeof(float));
	last = golden_floats(name, "logits.f32", vocab);
	ASSERT_TRUE(out && logits && again && last);

	plain = decoder_plain_source(o.plain);
	greedy(&o, &plain, &hook, prompt, nr, out, nr_out, logits);
	for (i = 0; i < nr_out; i++)
		EXPECT_EQ(want[i], out[i]);
	EXPECT_LE(golden_distance(logits, last, vocab), 1e-4);
	EXPECT_GT(c.seen, 0u);
	EXPECT_EQ(0u, c.wrong);

	library = library_source(&o);
	decoder_reset(o.d);
	greedy(&o, &library, NULL, prompt, nr, out, nr_out, again);
	for (i = 0; i < nr_out; i++)
		EXPECT_EQ(want[i], out[i]);
	EXPECT_EQ(0, memcmp(logits, again, vocab * sizeof(float)));

	close_all(&o);
	free(prompt);
	free(want);
	free(out);
	free(logits);
	free(again);
	free(last);
}

TEST(decoder_mixtral) { decode_golden("mixtral"); }
TEST(decoder_qwen3_moe) { decode_golden("qwen3_moe"); }
TEST(decoder_olmoe) { decode_golden("olmoe"); }
TEST(decoder_gpt_oss) { decode_golden("gpt_oss"); }
TEST(decoder_gpt_oss_bf16) { decode_golden("gpt_oss_bf16"); }
TEST(decoder_glm4_moe) { decode_golden("glm4_moe"); }
TEST(decoder_glm4_moe_air) { decode_golden("glm4_moe_air"); }
TEST(decoder_llama4) { decode_golden("llama4"); }
TEST(decoder_gguf_mixtral) { decode_golden("gguf/mixtral"); }
TEST(decoder_gguf_qwen3moe_split) { decode_golden("gguf/qwen3moe_split"); }
TEST(decoder_gguf_qwen3moe_k) { decode_golden("gguf/qwen3moe_k"); }
TEST(decoder_gguf_gpt_oss) { decode_golden("gguf/gpt_oss"); }
TEST(decoder_gguf_olmoe) { decode_golden("gguf/olmoe"); }
TEST(decoder_gguf_glm4moe) { decode_golden("gguf/glm4moe"); }
TEST(decoder_gguf_llama4) { decode_golden("gguf/llama4"); }

/* ---- MoE blocks: router, routed experts, shared expert ---- */

static void one_block(struct opened *o, const char *name, uint32_t layer, const float *in, size_t nr)
{
	struct decoder_experts plain = decoder_plain_source(o->plain), library = library_source(o);
	uint32_t k = o->d->layers[layer].info.top_k;
	size_t hidden = o->d->hp.info.hidden, i;
	struct decoder_row *rows = calloc(nr, sizeof(*rows));
	float *first = calloc(nr * hidden, sizeof(float)), *want;
	struct penstock_error err = { 0 };
	double *ids, *weights;
	char key[32];

	ASSERT_TRUE(rows && first);
	ASSERT_GOOD(decoder_grow(o->d, nr, &err), &err);
	memcpy(o->d->buf.xn, in, nr * hidden * sizeof(float));
	ASSERT_GOOD(decoder_moe(o->d, layer, rows, nr, &plain, NULL, &err), &err);
	memcpy(first, o->d->buf.moe, nr * hidden * sizeof(float));

	snprintf(key, sizeof(key), "moe_ids.%u", layer);
	ASSERT_EQ(nr * k, golden_numbers(name, key, &ids));
	snprintf(key, sizeof(key), "moe_weights.%u", layer);
	ASSERT_EQ(nr * k, golden_numbers(name, key, &weights));
	for (i = 0; i < nr * k; i++) {
		EXPECT_EQ((int32_t)ids[i], o->d->buf.ids[i]);
		EXPECT_LE(fabs(weights[i] - (double)o->d->buf.weights[i]), 2e-5 * fmax(1, weights[i]));
	}
	snprintf(key, sizeof(key), "moe_out.%u.f32", layer);
	want = golden_floats(name, key, nr * hidden);
	ASSERT_TRUE(want);
	EXPECT_LE(golden_distance(first, want, nr * hidden), 1e-4);

	ASSERT_GOOD(decoder_moe(o->d, layer, rows, nr, &library, NULL, &err), &err);
	EXPECT_EQ(0, memcmp(first, o->d->buf.moe, nr * hidden * sizeof(float)));
	free(rows);
	free(first);
	free(want);
	free(ids);
	free(weights);
}

static void moe_golden(const char *name, int moe_only)
{
	size_t nr = (size_t)golden_number(name, "moe_tokens"), hidden = (size_t)golden_number(name, "hidden"), n, i;
	float *in = golden_floats(name, "moe_in.f32", nr * hidden);
	struct opened o;
	double *layers;

	ASSERT_TRUE(in);
	open_model(&o, golden_model(name), 64 << 20);
	open_decoder(&o, 64, 1, moe_only);
	n = golden_numbers(name, "moe_layers", &layers);
	ASSERT_GT(n, (size_t)0);
	for (i = 0; i < n; i++)
		one_block(&o, name, (uint32_t)layers[i], in, nr);
	close_all(&o);
	free(layers);
	free(in);
}

TEST(moe_mixtral) { moe_golden("mixtral", 0); }
TEST(moe_qwen3_moe) { moe_golden("qwen3_moe", 0); }
TEST(moe_olmoe) { moe_golden("olmoe", 0); }
TEST(moe_gpt_oss) { moe_golden("gpt_oss", 0); }
TEST(moe_gpt_oss_bf16) { moe_golden("gpt_oss_bf16", 0); }
TEST(moe_glm4_moe) { moe_golden("glm4_moe", 0); }
TEST(moe_llama4) { moe_golden("llama4", 0); }
TEST(moe_llama4_fp8) { moe_golden("llama4_fp8", 1); }
TEST(moe_deepseek_v2) { moe_golden("deepseek_v2", 1); }
TEST(moe_deepseek_v3) { moe_golden("deepseek_v3", 1); }
TEST(moe_deepseek_v3_fp8) { moe_golden("deepseek_v3_fp8", 1); }
TEST(moe_kimi_k2) { moe_golden("kimi_k2", 1); }
TEST(moe_kimi_k2_int4) { moe_golden("kimi_k2_int4", 1); }

TEST(moe_gguf_mixtral) { moe_golden("gguf/mixtral", 0); }
TEST(moe_gguf_qwen3moe_split) { moe_golden("gguf/qwen3moe_split", 0); }
TEST(moe_gguf_qwen3moe_k) { moe_golden("gguf/qwen3moe_k", 0); }
TEST(moe_gguf_gpt_oss) { moe_golden("gguf/gpt_oss", 0); }
TEST(moe_gguf_olmoe) { moe_golden("gguf/olmoe", 0); }
TEST(moe_gguf_glm4moe) { moe_golden("gguf/glm4moe", 0); }
TEST(moe_gguf_llama4) { moe_golden("gguf/llama4", 0); }
TEST(moe_gguf_deepseek2) { moe_golden("gguf/deepseek2", 1); }

/* The experts-only pass of an MLA family gives finite logits, and depends on the token. */
TEST(decoder_experts_only_pass)
{
	struct decoder_row rows[2] = { { 5, 0, 0 }, { 9, 0, 1 } };
	struct penstock_error err = { 0 };
	struct decoder_experts library;
	uint8_t want[2] = { 1, 1 };
	struct opened o;
	uint32_t vocab, i;
	float *logits;

	open_model(&o, golden_model("deepseek_v3"), 64 << 20);
	EXPECT_EQ(-EOPNOTSUPP, decoder_supports(o.model, &err));
	EXPECT_HAS(err.text, "latent");
	open_decoder(&o, 8, 1, 1);
	vocab = decoder_vocab(o.d);
	logits = calloc(2 * vocab, sizeof(float));
	library = library_source(&o);
	ASSERT_GOOD(decoder_step(o.d, rows, 2, want, &library, NULL, logits, &err), &err);
	for (i = 0; i < 2 * vocab; i++)
		ASSERT_TRUE(isfinite(logits[i]));
	EXPECT_NE(0, memcmp(logits, logits + vocab, vocab * sizeof(float)));
	free(logits);
	close_all(&o);
}

/* OLMoE's clip_qkv bounds what enters the cache. */
TEST(decoder_clips_queries_keys_and_values)
{
	struct decoder_row rows[3] = { { 5, 0, 0 }, { 9, 0, 1 }, { 7, 0, 2 } };
	struct penstock_error err = { 0 };
	struct decoder_experts plain;
	size_t kv, i, at_bound = 0;
	struct opened o;
	float *logits;

	open_model(&o, golden_model("olmoe"), 64 << 20);
	open_decoder(&o, 8, 1, 0);
	plain = decoder_plain_source(o.plain);
	logits = calloc(decoder_vocab(o.d), sizeof(float));
	o.d->hp.clip = 0.02f;
	ASSERT_GOOD(decoder_step(o.d, rows, 3, NULL, &plain, NULL, logits, &err), &err);
	kv = 3 * decoder_kv_dim(o.d);
	for (i = 0; i < kv; i++) {
		ASSERT_LE(fabsf(o.d->layers[0].v[i]), 0.02f);
		at_bound += fabsf(o.d->layers[0].v[i]) == 0.02f;
	}
	EXPECT_GT(at_bound, (size_t)0);
	/* a rotated pair of bounded values is no longer than the bound's diagonal */
	for (i = 0; i < kv; i++)
		ASSERT_LE(fabsf(o.d->layers[0].k[i]), 0.02f * 1.4143f);
	free(logits);
	close_all(&o);
}

/* ---- faults ---- */

TEST(decoder_names_the_layer_and_position_of_a_nan)
{
	struct decoder_row rows[3] = { { 5, 0, 0 }, { 9, 0, 1 }, { 7, 0, 2 } };
	struct decoder_experts plain;
	struct penstock_error err = { 0 };
	struct opened o;
	float *logits;
	uint32_t i;

	open_model(&o, golden_model("qwen3_moe"), 64 << 20);
	open_decoder(&o, 8, 1, 0);
	plain = decoder_plain_source(o.plain);
	logits = calloc(decoder_vocab(o.d), sizeof(float));
	/* the third token's embedding becomes NaN: nothing before its position does */
	ASSERT_EQ((uint32_t)PENSTOCK_DTYPE_BF16, o.d->embed.dtype);
	for (i = 0; i < o.d->embed.cols; i++)
		((uint16_t *)(uintptr_t)o.d->embed.data)[7 * o.d->embed.cols + i] = 0x7fc0;
	EXPECT_EQ(-EINVAL, decoder_step(o.d, rows, 3, NULL, &plain, NULL, logits, &err));
	EXPECT_HAS(err.text, "layer 0");
	EXPECT_HAS(err.text, "NaN");
	EXPECT_HAS(err.text, "position 2");
	/* a failed step moved nothing */
	ASSERT_GOOD(decoder_step(o.d, rows, 2, NULL, &plain, NULL, logits, &err), &err);
	free(logits);
	close_all(&o);
}

static int out_of_range(void *arg, uint32_t layer, uint32_t seq, uint32_t pos, size_t nr, uint32_t k, int32_t *ids,
			float *weights, struct penstock_error *err)
{
	if (layer == 1)
		ids[0] = 1000;
	return 0;
}

TEST(decoder_refuses_bad_rows_and_ids)
{
	struct decoder_router_hook hook = { out_of_range, NULL };
	struct decoder_row row = { 5, 0, 0 }, apart[3] = { { 5, 0, 0 }, { 5, 1, 0 }, { 5, 0, 1 } };
	struct decoder_experts plain, library;
	struct penstock_error err = { 0 };
	struct opened o;
	float *logits;

	open_model(&o, golden_model("qwen3_moe"), 64 << 20);
	open_decoder(&o, 2, 2, 0);
	plain = decoder_plain_source(o.plain);
	library = library_source(&o);
	logits = calloc(decoder_vocab(o.d), sizeof(float));
	row.token = (int32_t)decoder_vocab(o.d);
	EXPECT_EQ(-EINVAL, decoder_step(o.d, &row, 1, NULL, &plain, NULL, logits, &err));
	EXPECT_HAS(err.text, "token 128");
	row.token = -1;
	EXPECT_EQ(-EINVAL, decoder_step(o.d, &row, 1, NULL, &plain, NULL, logits, &err));
	row = (struct decoder_row){ 5, 2, 0 };
	EXPECT_EQ(-EINVAL, decoder_step(o.d, &row, 1, NULL, &plain, NULL, logits, &err));
	EXPECT_HAS(err.text, "sequence 2");
	row = (struct decoder_row){ 5, 0, 1 };
	EXPECT_EQ(-EINVAL, decoder_step(o.d, &row, 1, NULL, &plain, NULL, logits, &err));
	EXPECT_HAS(err.text, "position 1");
	EXPECT_EQ(-EINVAL, decoder_step(o.d, apart, 3, NULL, &plain, NULL, logits, &err));
	EXPECT_EQ(-EINVAL, decoder_step(o.d, apart, 0, NULL, &plain, NULL, logits, &err));
	EXPECT_EQ(-EINVAL, decoder_step(o.d, apart, 1, NULL, &plain, &hook, logits, &err));
	EXPECT_HAS(err.text, "layer 1");
	EXPECT_HAS(err.text, "1000");
	EXPECT_EQ(-EINVAL, decoder_step(o.d, apart, 1, NULL, &library, &hook, logits, &err));
	EXPECT_HAS(err.text, "1000");
	free(logits);
	close_all(&o);
}

/* A golden's file with one text replaced, after the first @anchor. Same length where offsets must hold. */
static void changed_file(const char *name, const char *file, const char *anchor, const char *from, const char *to,
			 const char *dir)
{
	char path[600], *at;
	size_t len, before;
	char *text = golden_slurp(golden_dir(name, file), &len);
	FILE *f;

	ASSERT_TRUE(text);
	at = memmem(text, len, anchor, strlen(anchor));
	ASSERT_TRUE(at);
	at = memmem(at, len - (size_t)(at - text), from, strlen(from));
	ASSERT_TRUE(at);
	before = (size_t)(at - text);
	snprintf(path, sizeof(path), "%s/%s", dir, file);
	f = fopen(path, "wb");
	ASSERT_TRUE(f);
	fwrite(text, 1, before, f);
	fwrite(to, 1, strlen(to), f);
	fwrite(at + strlen(from), 1, len - before - strlen(from), f);
	ASSERT_EQ(0, fclose(f));
	free(text);
}

static void linked_file(const char *name, const char *file, const char *dir)
{
	char real[4096], path[600];

	ASSERT_TRUE(realpath(golden_dir(name, file), real));
	snprintf(path, sizeof(path), "%s/%s", dir, file);
	ASSERT_EQ(0, symlink(real, path));
}

static void refused(const char *dir, int code, const char *said)
{
	static const char *const files[] = { "config.json", "model.safetensors" };
	struct decoder_options opts = { 8, 1, 0 };
	struct penstock_error err = { 0 };
	struct decoder *d = NULL;
	char path[600];
	struct opened o;
	int i;

	open_model(&o, dir, 64 << 20);
	EXPECT_EQ(code, decoder_open(o.model, o.q, o.pool, &opts, &d, &err));
	EXPECT_TRUE(!d);
	EXPECT_HAS(err.text, said);
	close_all(&o);
	for (i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
		unlink(path);
	}
	rmdir(dir);
}

static void new_folder(char *dir, size_t len)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(dir, len, "%s/penstock-decoder-XXXXXX", tmp ? tmp : "/var/tmp");
	ASSERT_TRUE(mkdtemp(dir));
}

/* One text of config.json replaced. */
static void expect_refusal(const char *name, const char *from, const char *to, int code, const char *said)
{
	char dir[512];

	new_folder(dir, sizeof(dir));
	changed_file(name, "config.json", "{", from, to, dir);
	linked_file(name, "model.safetensors", dir);
	refused(dir, code, said);
}

TEST(decoder_open_says_what_is_missing)
{
	expect_refusal("glm4_moe_air", "\"use_qk_norm\": false", "\"use_qk_norm\": true", -ENOENT,
		       "model.layers.0.self_attn.q_norm.weight");
	expect_refusal("qwen3_moe", "\"attention_bias\": false", "\"attention_bias\": true", -ENOENT,
		       "model.layers.0.self_attn.q_proj.bias");
}

TEST(decoder_open_says_what_does_not_fit)
{
	expect_refusal("qwen3_moe", "\"head_dim\": 24", "\"head_dim\": 16", -EINVAL,
		       "model.layers.0.self_attn.q_proj.weight");
	expect_refusal("qwen3_moe", "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", -EINVAL, "3 key heads");
	expect_refusal("qwen3_moe", "\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": \"no\"", -EINVAL, "rms_norm_eps");
}

TEST(decoder_open_says_what_is_not_computed)
{
	char dir[512];

	new_folder(dir, sizeof(dir));
	linked_file("olmoe", "config.json", dir);
	changed_file("olmoe", "model.safetensors", "model.layers.1.self_attn.o_proj.weight", "\"BF16\"", "\"I16\" ", dir);
	refused(dir, -EOPNOTSUPP, "model.layers.1.self_attn.o_proj.weight is I16");
	expect_refusal("gpt_oss_bf16", "\"rope_type\": \"yarn\"", "\"rope_type\": \"dynamic\"", -EOPNOTSUPP, "dynamic");
	expect_refusal("gpt_oss_bf16", "\"sliding_attention\"", "\"linear_attention\"", -EOPNOTSUPP, "linear_attention");
}

TEST_HARNESS_MAIN
