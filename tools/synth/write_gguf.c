// SPDX-License-Identifier: MIT
/*
 * One GGUF file, version 3: keys, tensor table, tensors at multiples of
 * general.alignment. The keys are what llama.cpp asks of the architecture, and a
 * byte-level vocabulary, so that it can tokenise: the 256 bytes, filler tokens,
 * and an end token that the head never chooses.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../runtime/err.h"
#include "../../runtime/util.h"
#include "writer.h"

#define GGUF_VERSION	3u

enum gguf_type {
	GGUF_U32 = 4, GGUF_I32 = 5, GGUF_F32 = 6, GGUF_BOOL = 7, GGUF_STRING = 8, GGUF_ARRAY = 9,
};

enum token_type { TOKEN_NORMAL = 1, TOKEN_CONTROL = 3 };

struct keys {
	struct synth_text text;
	uint64_t nr;
	const char *arch;
};

static uint32_t ggml_type(uint32_t dtype)
{
	switch (dtype) {
	case PENSTOCK_DTYPE_F32:
		return 0;
	case PENSTOCK_DTYPE_F16:
		return 1;
	case PENSTOCK_DTYPE_Q4_0:
		return 2;
	case PENSTOCK_DTYPE_Q8_0:
		return 8;
	default:
		return 30;	/* BF16 */
	}
}

/* llama.cpp's number for "mostly of this type" */
static uint32_t file_type(uint32_t dtype)
{
	switch (dtype) {
	case PENSTOCK_DTYPE_F32:
		return 0;
	case PENSTOCK_DTYPE_F16:
		return 1;
	case PENSTOCK_DTYPE_Q4_0:
		return 2;
	case PENSTOCK_DTYPE_Q8_0:
		return 7;
	default:
		return 32;
	}
}

static void put_u32(struct synth_text *t, uint32_t v)
{
	synth_text_bytes(t, &v, sizeof(v));
}

static void put_u64(struct synth_text *t, uint64_t v)
{
	synth_text_bytes(t, &v, sizeof(v));
}

static void put_string(struct synth_text *t, const char *s)
{
	put_u64(t, strlen(s));
	synth_text_bytes(t, s, strlen(s));
}

/* A key's name: "%" stands for the architecture */
static void key(struct keys *k, const char *name, uint32_t type)
{
	char full[128];

	if (*name == '%')
		snprintf(full, sizeof(full), "%s%s", k->arch, name + 1);
	else
		snprintf(full, sizeof(full), "%s", name);
	put_string(&k->text, full);
	put_u32(&k->text, type);
	k->nr++;
}

static void key_u32(struct keys *k, const char *name, uint32_t v)
{
	key(k, name, GGUF_U32);
	put_u32(&k->text, v);
}

static void key_f32(struct keys *k, const char *name, float v)
{
	key(k, name, GGUF_F32);
	synth_text_bytes(&k->text, &v, sizeof(v));
}

static void key_bool(struct keys *k, const char *name, bool v)
{
	uint8_t b = v;

	key(k, name, GGUF_BOOL);
	synth_text_bytes(&k->text, &b, 1);
}

static void key_string(struct keys *k, const char *name, const char *v)
{
	key(k, name, GGUF_STRING);
	put_string(&k->text, v);
}

static void key_array(struct keys *k, const char *name, uint32_t type, uint64_t nr)
{
	key(k, name, GGUF_ARRAY);
	put_u32(&k->text, type);
	put_u64(&k->text, nr);
}

/*
 * The letter that stands for a byte in byte-level vocabularies: itself where it
 * prints, else the letters from U+0100 on, in order.
 */
static void byte_letter(unsigned int byte, char *out)
{
	unsigned int code = byte, b, skipped = 0;

#define PRINTS(x) (((x) >= 33 && (x) <= 126) || ((x) >= 161 && (x) <= 172) || (x) >= 174)
	if (!PRINTS(byte)) {
		for (b = 0; b < byte; b++)
			skipped += !PRINTS(b);
		code = 256 + skipped;
	}
#undef PRINTS
	if (code < 0x80) {
		out[0] = (char)code;
		out[1] = 0;
	} else {
		out[0] = (char)(0xc0 | code >> 6);
		out[1] = (char)(0x80 | (code & 0x3f));
		out[2] = 0;
	}
}

static void put_vocabulary(struct keys *k, uint32_t vocab)
{
	char token[32];
	uint32_t i;

	key_string(k, "tokenizer.ggml.model", "gpt2");
	key_string(k, "tokenizer.ggml.pre", "gpt-2");
	key_array(k, "tokenizer.ggml.tokens", GGUF_STRING, vocab);
	for (i = 0; i < vocab; i++) {
		if (i + 1 == vocab)
			snprintf(token, sizeof(token), "<|end|>");
		else if (i < 256)
			byte_letter(i, token);
		else
			snprintf(token, sizeof(token), "<%u>", i);
		put_string(&k->text, token);
	}
	key_array(k, "tokenizer.ggml.token_type", GGUF_I32, vocab);
	for (i = 0; i < vocab; i++)
		put_u32(&k->text, i + 1 == vocab ? TOKEN_CONTROL : TOKEN_NORMAL);
	/* bytes are never merged; the key must be there */
	key_array(k, "tokenizer.ggml.merges", GGUF_STRING, 0);
	key_u32(k, "tokenizer.ggml.bos_token_id", vocab - 1);
	key_u32(k, "tokenizer.ggml.eos_token_id", vocab - 1);
	key_bool(k, "tokenizer.ggml.add_bos_token", false);
}

static void put_keys(struct keys *k, const struct synth_config *c)
{
	const struct synth_arch_info *a = synth_arch_info(c->arch);

	key_string(k, "general.architecture", k->arch);
	key_string(k, "general.name", "synthetic");
	key_u32(k, "general.alignment", c->align);
	key_u32(k, "general.file_type", file_type(c->dtype));
	key_u32(k, "general.quantization_version", 2);
	key_u32(k, "%.block_count", c->layers);
	key_u32(k, "%.context_length", 32768);
	key_u32(k, "%.embedding_length", c->hidden);
	key_u32(k, "%.feed_forward_length", c->arch == SYNTH_QWEN3_MOE ? c->inter * c->top_k : c->inter);
	if (c->arch == SYNTH_QWEN3_MOE)
		key_u32(k, "%.expert_feed_forward_length", c->inter);
	key_u32(k, "%.attention.head_count", c->heads);
	key_u32(k, "%.attention.head_count_kv", c->kv_heads);
	key_u32(k, "%.attention.key_length", c->head_dim);
	key_u32(k, "%.attention.value_length", c->head_dim);
	key_u32(k, "%.rope.dimension_count", c->head_dim);
	key_f32(k, "%.rope.freq_base", (float)a->rope_base);
	key_f32(k, "%.attention.layer_norm_rms_epsilon", (float)a->eps);
	key_u32(k, "%.expert_count", c->experts);
	key_u32(k, "%.expert_used_count", c->top_k);
	key_u32(k, "%.vocab_size", c->vocab);
	put_vocabulary(k, c->vocab);
}

static void put_table(struct synth_text *t, const struct synth_model *m)
{
	char name[SYNTH_NAME_MAX];
	uint64_t off = 0;
	uint32_t i;

	for (i = 0; i < m->nr_tensors; i++) {
		const struct synth_tensor *x = &m->tensors[i];

		put_string(t, synth_tensor_name(m, x, name, sizeof(name)));
		put_u32(t, x->nr_dims);
		/* innermost first */
		put_u64(t, x->cols);
		if (x->nr_dims > 1)
			put_u64(t, x->rows);
		if (x->nr_dims > 2)
			put_u64(t, x->nr);
		put_u32(t, ggml_type(x->dtype));
		put_u64(t, off);
		off = penstock_align_up(off + x->bytes, m->cfg.align);
	}
}

static int begin(struct synth_writer *w, struct penstock_error *err)
{
	const struct synth_model *m = w->m;
	struct keys k = { .arch = synth_arch_info(m->cfg.arch)->gguf };
	struct synth_text head = { 0 };
	int rc;

	put_keys(&k, &m->cfg);
	synth_text_bytes(&head, "GGUF", 4);
	put_u32(&head, GGUF_VERSION);
	put_u64(&head, m->nr_tensors);
	put_u64(&head, k.nr);
	if (!k.text.failed)
		synth_text_bytes(&head, k.text.p, k.text.len);
	put_table(&head, m);
	if (k.text.failed || head.failed)
		rc = penstock_err(err, -ENOMEM, "table of %u tensors", m->nr_tensors);
	else
		rc = synth_sink_open(&w->sink, w->tmp, err);
	if (!rc)
		rc = synth_sink_put(&w->sink, head.p, head.len, err);
	synth_text_free(&k.text);
	synth_text_free(&head);
	return rc;
}

static int tensor(struct synth_writer *w, uint32_t nr, struct penstock_error *err)
{
	return synth_sink_pad(&w->sink, w->m->cfg.align, err);
}

/* llama.cpp wants the padding after the last tensor too */
static int end(struct synth_writer *w, struct penstock_error *err)
{
	int rc = synth_sink_pad(&w->sink, w->m->cfg.align, err);

	return rc ? rc : synth_writer_close(w, err);
}

const struct synth_writer_ops synth_writer_gguf = {
	.name = "gguf",
	.folder = false,
	.begin = begin,
	.tensor = tensor,
	.end = end,
};
