// SPDX-License-Identifier: MIT
/*
 * Layouts of dense weights that no golden has: a golden's tensors are read
 * through the library, stored in another way with the same values, and the
 * decoder must give the same logits.
 */
#include "decoder_golden.h"

#define MAX_TENSORS 512
#define NR_IDS 9

static const int32_t ids[NR_IDS] = { 9, 3, 27, 41, 8, 3, 8, 51, 23 };

struct copy {
	char name[160];
	uint32_t dtype;
	uint32_t nr_dims;
	uint64_t dims[4];
	unsigned char *data;
	uint64_t bytes;
};

struct copies {
	uint32_t nr;
	struct copy t[MAX_TENSORS];
};

static void read_copies(struct opened *o, struct copies *c)
{
	struct penstock_tensor t;
	uint32_t i;

	for (c->nr = 0; !penstock_tensor_at(o->model, c->nr, &t); c->nr++) {
		struct copy *to = &c->t[c->nr];

		ASSERT_TRUE(c->nr < MAX_TENSORS && t.nr_dims <= 4);
		snprintf(to->name, sizeof(to->name), "%s", t.name);
		to->dtype = t.dtype;
		to->nr_dims = t.nr_dims;
		for (i = 0; i < t.nr_dims; i++)
			to->dims[i] = t.dims[i];
		to->bytes = t.bytes;
		to->data = malloc(t.bytes);
		ASSERT_TRUE(to->data);
		ASSERT_EQ(0, penstock_tensor_read(o->q, o->model, c->nr, 0, to->data, t.bytes));
	}
}

static void free_copies(struct copies *c)
{
	uint32_t i;

	for (i = 0; i < c->nr; i++)
		free(c->t[i].data);
	free(c);
}

static struct copy *copy_of(struct copies *c, const char *name)
{
	uint32_t i;

	for (i = 0; i < c->nr; i++)
		if (!strcmp(c->t[i].name, name))
			return &c->t[i];
	return NULL;
}

/* ---- safetensors ---- */

static void write_safetensors(const char *path, const struct copies *c)
{
	char *head = malloc(MAX_TENSORS * 400);
	uint64_t off = 0, len = 0;
	uint32_t i, j;
	FILE *f = fopen(path, "wb");

	ASSERT_TRUE(head && f);
	len += (uint64_t)sprintf(head, "{");
	for (i = 0; i < c->nr; i++) {
		const struct copy *t = &c->t[i];

		len += (uint64_t)sprintf(head + len, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "", t->name,
					 penstock_dtype_info(t->dtype)->name);
		for (j = 0; j < t->nr_dims; j++)
			len += (uint64_t)sprintf(head + len, "%s%llu", j ? "," : "", (unsigned long long)t->dims[j]);
		len += (uint64_t)sprintf(head + len, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)off,
					 (unsigned long long)(off + t->bytes));
		off += t->bytes;
	}
	len += (uint64_t)sprintf(head + len, "}");
	fwrite(&len, 8, 1, f);
	fwrite(head, 1, len, f);
	for (i = 0; i < c->nr; i++)
		fwrite(c->t[i].data, 1, c->t[i].bytes, f);
	ASSERT_EQ(0, fclose(f));
	free(head);
}

/* ---- GGUF ---- */

static uint32_t ggml_type(uint32_t dtype)
{
	switch (dtype) {
	case PENSTOCK_DTYPE_F32: return 0;
	case PENSTOCK_DTYPE_F16: return 1;
	case PENSTOCK_DTYPE_Q4_0: return 2;
	case PENSTOCK_DTYPE_Q5_0: return 6;
	case PENSTOCK_DTYPE_Q8_0: return 8;
	case PENSTOCK_DTYPE_Q4_K: return 12;
	case PENSTOCK_DTYPE_Q5_K: return 13;
	case PENSTOCK_DTYPE_Q6_K: return 14;
	case PENSTOCK_DTYPE_BF16: return 30;
	case PENSTOCK_DTYPE_MXFP4: return 39;
	}
	TEST_FAIL_(1, "no GGUF number for dtype %u", dtype);
	return 0;
}

static void put_string(FILE *f, const char *s)
{
	uint64_t len = strlen(s);

	fwrite(&len, 8, 1, f);
	fwrite(s, 1, len, f);
}

static void pad(FILE *f)
{
	while (ftell(f) % 32)
		fputc(0, f);
}

/* Keys of the source under its architecture's name, whole numbers as u32, others as f32. */
static uint64_t put_keys(FILE *f, struct penstock_model *model, const char *arch)
{
	static const char *const keys[] = {
		"block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count",
		"attention.head_count_kv", "attention.key_length", "attention.value_length",
		"attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.dimension_count", "vocab_size",
		"expert_count", "expert_used_count", "expert_shared_count", "expert_feed_forward_length",
		"expert_weights_scale", "expert_weights_norm", "expert_gating_func", "leading_dense_block_count",
		"nextn_predict_layers", "attention.sliding_window", "rope.scaling.type", "rope.scaling.factor",
		"rope.scaling.original_context_length",
	};
	struct penstock_meta m;
	uint64_t nr = 0, i;
	uint32_t type, whole;
	char key[128];
	float real;

	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		snprintf(key, sizeof(key), "%s.%s", arch, keys[i]);
		if (penstock_meta_find(model, key, &m))
			continue;
		type = m.type == PENSTOCK_META_STRING ? 8 : m.type == PENSTOCK_META_BOOL ? 7 :
		       m.number == floor(m.number) ? 4 : 6;
		whole = (uint32_t)m.number;
		real = (float)m.number;
		put_string(f, key);
		fwrite(&type, 4, 1, f);
		if (type == 8)
			put_string(f, m.string);
		else
			fwrite(type == 6 ? (void *)&real : (void *)&whole, type == 7 ? 1 : 4, 1, f);
		nr++;
	}
	return nr;
}

static void write_gguf(const char *path, struct penstock_model *model, const struct copies *c)
{
	struct penstock_model_info info = { .size = sizeof(info) };
	uint64_t nr_tensors = c->nr, nr_keys = 0, off = 0;
	uint32_t version = 3, type = 8, i, j;
	FILE *f = fopen(path, "wb");

	ASSERT_TRUE(f);
	ASSERT_EQ(0, penstock_model_info(model, &info));
	fwrite("GGUF", 1, 4, f);
	fwrite(&version, 4, 1, f);
	fwrite(&nr_tensors, 8, 1, f);
	fwrite(&nr_keys, 8, 1, f);
	put_string(f, "general.architecture");
	fwrite(&type, 4, 1, f);
	put_string(f, info.arch);
	nr_keys = 1 + put_keys(f, model, info.arch);
	for (i = 0; i < c->nr; i++) {
		const struct copy *t = &c->t[i];

		type = ggml_type(t->dtype);
		put_string(f, t->name);
		fwrite(&t->nr_dims, 4, 1, f);
		for (j = t->nr_dims; j-- > 0;)
			fwrite(&t->dims[j], 8, 1, f);
		fwrite(&type, 4, 1, f);
		fwrite(&off, 8, 1, f);
		off += (t->bytes + 31) / 32 * 32;
	}
	pad(f);
	for (i = 0; i < c->nr; i++) {
		fwrite(c->t[i].data, 1, c->t[i].bytes, f);
		pad(f);
	}
	fseek(f, 16, SEEK_SET);
	fwrite(&nr_keys, 8, 1, f);
	ASSERT_EQ(0, fclose(f));
}

/* ---- comparing ---- */

static float *logits_of(const char *path, uint32_t *vocab)
{
	struct decoder_row rows[NR_IDS];
	struct penstock_error err = { 0 };
	struct decoder_experts plain;
	struct opened o;
	float *logits;
	uint32_t i;

	open_model(&o, path, 64 << 20);
	open_decoder(&o, NR_IDS, 1, 0);
	*vocab = decoder_vocab(o.d);
	logits = calloc(*vocab, sizeof(float));
	ASSERT_TRUE(logits);
	plain = decoder_plain_source(o.plain);
	for (i = 0; i < NR_IDS; i++)
		rows[i] = (struct decoder_row){ ids[i], 0, i };
	ASSERT_GOOD(decoder_step(o.d, rows, NR_IDS, NULL, &plain, NULL, logits, &err), &err);
	close_all(&o);
	return logits;
}

static void same_logits(const char *a, const char *b)
{
	uint32_t na, nb;
	float *x = logits_of(a, &na), *y = logits_of(b, &nb);

	ASSERT_EQ(na, nb);
	EXPECT_LE(golden_distance(x, y, na), 1e-5);
	free(x);
	free(y);
}

struct folder {
	char dir[512];
	char path[600];
};

static void new_folder(struct folder *d)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(d->dir, sizeof(d->dir), "%s/penstock-decoder-XXXXXX", tmp ? tmp : "/var/tmp");
	ASSERT_TRUE(mkdtemp(d->dir));
}

static const char *in_folder(struct folder *d, const char *name)
{
	snprintf(d->path, sizeof(d->path), "%s/%s", d->dir, name);
	return d->path;
}

static void remove_folder(struct folder *d)
{
	static const char *const files[] = { "config.json", "model.safetensors", "model.gguf" };
	unsigned int i;

	for (i = 0; i < 3; i++)
		unlink(in_folder(d, files[i]));
	rmdir(d->dir);
}

/* @more goes in front of the first key */
static void copy_config(const char *name, const char *more, struct folder *d)
{
	size_t len;
	char *text = golden_slurp(golden_dir(name, "config.json"), &len);
	FILE *f = fopen(in_folder(d, "config.json"), "w");

	ASSERT_TRUE(text && f && text[0] == '{');
	fprintf(f, "{%s%s", more, text + 1);
	ASSERT_EQ(0, fclose(f));
	free(text);
}

/* ---- FP8 attention and dense layers ---- */

static float e4m3(unsigned int code)
{
	int exponent = (int)(code >> 3 & 15), mantissa = (int)(code & 7);
	float v = exponent ? ldexpf(1 + mantissa / 8.0f, exponent - 7) : ldexpf(mantissa / 8.0f, -6);

	return code & 128 ? -v : v;
}

static unsigned char to_e4m3(float v)
{
	unsigned int code, best = 0;

	for (code = 0; code < 256; code++)
		if ((code & 127) != 127 && fabsf(e4m3(code) - v) < fabsf(e4m3(best) - v))
			best = code;
	return (unsigned char)best;
}

static float from_bf16(const unsigned char *p)
{
	uint32_t bits = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 24;
	float v;

	memcpy(&v, &bits, 4);
	return v;
}

static void to_bf16(float v, unsigned char *p)
{
	uint32_t bits;

	memcpy(&bits, &v, 4);
	p[0] = (unsigned char)(bits >> 16);
	p[1] = (unsigned char)(bits >> 24);
}

/*
 * Make a bf16 matrix FP8, with a scale (a power of two) for each block of
 * rows x cols; the bf16 one is rounded to the same values, which it can hold.
 */
static void split(struct copy *bf, struct copy *f8, struct copy *scale, uint64_t rows, uint64_t cols, bool inverse)
{
	uint64_t h = bf->dims[0], w = bf->dims[1], i, j, across = (w + cols - 1) / cols;
	float s;

	*f8 = *bf;
	f8->dtype = PENSTOCK_DTYPE_F8_E4M3;
	f8->bytes = h * w;
	f8->data = malloc(f8->bytes);
	*scale = *bf;
	scale->dtype = PENSTOCK_DTYPE_F32;
	scale->dims[0] = (h + rows - 1) / rows;
	scale->dims[1] = across;
	scale->bytes = scale->dims[0] * across * 4;
	scale->data = malloc(scale->bytes);
	ASSERT_TRUE(f8->data && scale->data);
	snprintf(scale->name, sizeof(scale->name), "%.140s%s", bf->name, inverse ? "_scale_inv" : "_scale");
	for (i = 0; i < h; i++)
		for (j = 0; j < w; j++) {
			/* differs from block to block, so that a wrong one shows */
			s = ldexpf(1, -10 - (int)((i / rows + j / cols) % 3));
			memcpy(scale->data + (i / rows * across + j / cols) * 4, &s, 4);
			f8->data[i * w + j] = to_e4m3(from_bf16(bf->data + (i * w + j) * 2) / s);
			to_bf16(e4m3(f8->data[i * w + j]) * s, bf->data + (i * w + j) * 2);
		}
}

static bool is_dense_matrix(const struct copy *t)
{
	const char *end = strstr(t->name, "_proj.weight");

	return end && !end[strlen("_proj.weight")] && !strstr(t->name, "experts") && t->dtype == PENSTOCK_DTYPE_BF16;
}

static void fp8_as_bf16(const char *name, uint64_t rows, uint64_t cols, bool inverse)
{
	struct copies *bf = calloc(1, sizeof(*bf)), *f8 = calloc(1, sizeof(*f8));
	struct folder a = { 0 }, b = { 0 };
	uint32_t i, j, changed = 0;
	struct opened o;
	char more[128] = "";

	ASSERT_TRUE(bf && f8);
	if (cols)
		snprintf(more, sizeof(more), "\"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": "
			 "[%u, %u]}, ", (unsigned int)rows, (unsigned int)cols);
	open_model(&o, golden_model(name), 64 << 20);
	read_copies(&o, bf);
	close_all(&o);
	for (i = 0; i < bf->nr; i++) {
		ASSERT_TRUE(f8->nr + 2 <= MAX_TENSORS);
		if (is_dense_matrix(&bf->t[i])) {
			split(&bf->t[i], &f8->t[f8->nr], &f8->t[f8->nr + 1], rows, cols ? cols : bf->t[i].dims[1], inverse);
			f8->nr += 2;
			changed++;
			continue;
		}
		f8->t[f8->nr] = bf->t[i];
		f8->t[f8->nr].data = malloc(bf->t[i].bytes);
		memcpy(f8->t[f8->nr++].data, bf->t[i].data, bf->t[i].bytes);
	}
	EXPECT_GT(changed, 4u);
	for (j = 0; j < 2; j++) {
		new_folder(j ? &b : &a);
		copy_config(name, j ? more : "", j ? &b : &a);
		write_safetensors(in_folder(j ? &b : &a, "model.safetensors"), j ? f8 : bf);
	}
	same_logits(b.dir, a.dir);
	remove_folder(&a);
	remove_folder(&b);
	free_copies(bf);
	free_copies(f8);
}

TEST(fp8_with_a_scale_a_channel) { fp8_as_bf16("glm4_moe", 1, 0, false); }
TEST(fp8_with_a_scale_a_block) { fp8_as_bf16("glm4_moe", 16, 32, true); }
TEST(fp8_with_one_short_block) { fp8_as_bf16("glm4_moe", 128, 128, true); }

/* ---- GGUF: queries, keys and values in one tensor ---- */

/* Replaces three tensors of a layer by one that has their rows one after another. */
static void join(struct copies *c, uint32_t layer, const char *suffix)
{
	static const char *const parts[] = { "attn_q", "attn_k", "attn_v" };
	struct copy *t[3], joined = { 0 };
	char name[160];
	uint64_t at = 0;
	uint32_t i;

	for (i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "blk.%u.%s.%s", layer, parts[i], suffix);
		t[i] = copy_of(c, name);
		if (!t[i])
			return;
		ASSERT_EQ(t[0]->dtype, t[i]->dtype);
		joined.bytes += t[i]->bytes;
	}
	joined.dtype = t[0]->dtype;
	joined.nr_dims = t[0]->nr_dims;
	joined.dims[0] = t[0]->dims[0] + t[1]->dims[0] + t[2]->dims[0];
	joined.dims[1] = t[0]->dims[1];
	joined.data = malloc(joined.bytes);
	ASSERT_TRUE(joined.data);
	snprintf(joined.name, sizeof(joined.name), "blk.%u.attn_qkv.%s", layer, suffix);
	for (i = 0; i < 3; i++) {
		memcpy(joined.data + at, t[i]->data, t[i]->bytes);
		at += t[i]->bytes;
		free(t[i]->data);
		/* renamed and emptied: no longer found, and not written */
		t[i]->data = NULL;
		t[i]->name[0] = 0;
	}
	*t[0] = joined;
}

static void drop_empty(struct copies *c)
{
	uint32_t i, n = 0;

	for (i = 0; i < c->nr; i++)
		if (c->t[i].data)
			c->t[n++] = c->t[i];
	c->nr = n;
}

static void rewritten_gguf(const char *name, bool fused)
{
	struct copies *c = calloc(1, sizeof(*c));
	struct folder d = { 0 };
	struct opened o;
	uint32_t i;

	ASSERT_TRUE(c);
	open_model(&o, golden_model(name), 64 << 20);
	read_copies(&o, c);
	for (i = 0; i < 8 && fused; i++) {
		join(c, i, "weight");
		join(c, i, "bias");
	}
	drop_empty(c);
	EXPECT_EQ(fused, copy_of(c, "blk.0.attn_q.weight") == NULL);
	EXPECT_EQ(fused, copy_of(c, "blk.0.attn_qkv.weight") != NULL);
	new_folder(&d);
	write_gguf(in_folder(&d, "model.gguf"), o.model, c);
	close_all(&o);
	same_logits(in_folder(&d, "model.gguf"), golden_model(name));
	remove_folder(&d);
	free_copies(c);
}

TEST(gguf_rewritten_as_it_was) { rewritten_gguf("gguf/glm4moe", false); }
TEST(gguf_fused_projections_with_biases) { rewritten_gguf("gguf/glm4moe", true); }
TEST(gguf_fused_projections_without_biases) { rewritten_gguf("gguf/mixtral", true); }

TEST_HARNESS_MAIN
