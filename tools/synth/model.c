// SPDX-License-Identifier: MIT
/*
 * The description of a model: its shape, checked, and the list of its tensors in
 * the order in which they are written. Both formats are written from this list.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../runtime/err.h"
#include "../../runtime/util.h"
#include "synth.h"

#define NO_LAYER UINT32_MAX

static const struct synth_arch_info archs[SYNTH_NR_ARCHS] = {
	[SYNTH_QWEN3_MOE] = { "qwen3_moe", "qwen3moe", "Qwen3MoeForCausalLM", 1e6, 1e-6 },
	[SYNTH_MIXTRAL] = { "mixtral", "llama", "MixtralForCausalLM", 1e6, 1e-5 },
	[SYNTH_OLMOE] = { "olmoe", "olmoe", "OlmoeForCausalLM", 1e4, 1e-5 },
};

const struct synth_arch_info *synth_arch_info(uint32_t arch)
{
	return &archs[arch];
}

/* ---- shapes ---- */

/* Dtype of what is neither expert, norm nor router. */
static uint32_t dense_dtype(const struct synth_config *c)
{
	switch (c->dtype) {
	case PENSTOCK_DTYPE_F8_E4M3:
		return PENSTOCK_DTYPE_BF16;
	case PENSTOCK_DTYPE_Q8_0:
	case PENSTOCK_DTYPE_Q4_0:
		return PENSTOCK_DTYPE_F16;
	default:
		return c->dtype;
	}
}

static uint32_t dtype_of(const struct synth_config *c, uint32_t role)
{
	bool gguf = c->format == PENSTOCK_FORMAT_GGUF;

	switch (role) {
	case SYNTH_GATE:
	case SYNTH_UP:
	case SYNTH_DOWN:
		return c->dtype;
	case SYNTH_EMBED:
	case SYNTH_HEAD:
		return dense_dtype(c) == PENSTOCK_DTYPE_F16 && gguf && c->dtype != PENSTOCK_DTYPE_F16 ?
			PENSTOCK_DTYPE_Q8_0 : dense_dtype(c);
	case SYNTH_Q:
	case SYNTH_K:
	case SYNTH_V:
	case SYNTH_O:
		return dense_dtype(c);
	default:
		/* ggml adds and routes in float */
		return gguf ? PENSTOCK_DTYPE_F32 : dense_dtype(c);
	}
}

static uint64_t bytes_of(uint32_t dtype, uint64_t elems)
{
	const struct penstock_dtype_info *d = penstock_dtype_info(dtype);

	return elems / d->elems * d->bytes;
}

static double layer_bytes(const struct synth_config *c)
{
	double attn = 2.0 * c->heads * c->head_dim * c->hidden + 2.0 * c->kv_heads * c->head_dim * c->hidden;
	double expert = 3.0 * c->hidden * c->inter;
	const struct penstock_dtype_info *d = penstock_dtype_info(c->dtype), *a = penstock_dtype_info(dense_dtype(c));

	return c->experts * expert * d->bytes / d->elems + attn * a->bytes / a->elems;
}

void synth_config_default(struct synth_config *c)
{
	if (!c->dtype)
		c->dtype = PENSTOCK_DTYPE_BF16;
	if (!c->format)
		c->format = PENSTOCK_FORMAT_SAFETENSORS;
	if (!c->experts)
		c->experts = c->arch == SYNTH_MIXTRAL ? 8 : 128;
	if (!c->top_k)
		c->top_k = c->experts >= 32 ? 8 : c->experts >= 4 ? 2 : 1;
	if (!c->hidden)
		c->hidden = 1024;
	if (!c->inter)
		c->inter = c->hidden / 2;
	if (!c->layers)
		c->layers = 8;
	if (!c->head_dim)
		c->head_dim = c->heads ? c->hidden / c->heads : c->hidden < 256 ? 16 : c->hidden < 2048 ? 64 : 128;
	if (!c->heads)
		c->heads = c->head_dim ? c->hidden / c->head_dim : 1;
	if (!c->kv_heads)
		c->kv_heads = c->heads % 4 == 0 ? c->heads / 4 : c->heads;
	if (!c->vocab)
		c->vocab = c->hidden < 128 ? 512 : c->hidden < 512 ? 4096 : c->hidden < 2048 ? 16384 : 32768;
	if (!c->shard_bytes)
		c->shard_bytes = 1ull << 30;
	if (!c->align)
		c->align = 32;
}

void synth_config_size(struct synth_config *cfg, uint64_t bytes)
{
	static const struct { uint32_t hidden, inter; } shapes[] = {
		{ 4096, 1536 }, { 2048, 1024 }, { 2048, 768 }, { 1024, 768 }, { 1024, 512 }, { 512, 256 }, { 512, 128 },
		{ 256, 128 }, { 256, 64 }, { 128, 64 }, { 64, 32 },
	};
	uint32_t least = bytes >= 1ull << 30 ? 8 : 4;
	struct synth_config c = *cfg;
	double room, layers;
	size_t i;

	if (cfg->layers && cfg->hidden && cfg->inter)
		return;
	for (i = 0; i < PENSTOCK_ARRAY_SIZE(shapes); i++) {
		c = *cfg;
		if (!c.hidden)
			c.hidden = shapes[i].hidden;
		if (!c.inter)
			c.inter = shapes[i].inter;
		synth_config_default(&c);
		room = (double)bytes - 2.0 * (double)bytes_of(dtype_of(&c, SYNTH_EMBED), (uint64_t)c.vocab * c.hidden);
		layers = room / layer_bytes(&c);
		if (!cfg->layers)
			c.layers = layers < 1.5 ? 1 : layers > 1e6 ? 1000000 : (uint32_t)(layers + 0.5);
		if (layers >= (cfg->layers ? cfg->layers : least))
			break;
	}
	cfg->hidden = c.hidden;
	cfg->inter = c.inter;
	cfg->layers = c.layers;
}

static int check_dtype(const struct synth_config *c, struct penstock_error *err)
{
	const struct penstock_dtype_info *d = penstock_dtype_info(c->dtype);

	switch (c->dtype) {
	case PENSTOCK_DTYPE_BF16:
	case PENSTOCK_DTYPE_F16:
	case PENSTOCK_DTYPE_F32:
		return 0;
	case PENSTOCK_DTYPE_F8_E4M3:
		if (c->format == PENSTOCK_FORMAT_SAFETENSORS)
			return 0;
		break;
	case PENSTOCK_DTYPE_Q8_0:
	case PENSTOCK_DTYPE_Q4_0:
		if (c->format == PENSTOCK_FORMAT_GGUF)
			return 0;
		break;
	}
	return penstock_err(err, -EINVAL, "experts of type %s in %s", d ? d->name : "unknown",
			    c->format == PENSTOCK_FORMAT_GGUF ? "GGUF" : "safetensors");
}

#define CHECK(cond, ...) do {						\
	if (!(cond))							\
		return penstock_err(err, -EINVAL, __VA_ARGS__);		\
} while (0)

static int check(const struct synth_config *c, struct penstock_error *err)
{
	CHECK(c->arch < SYNTH_NR_ARCHS, "architecture number %u", c->arch);
	CHECK(c->format == PENSTOCK_FORMAT_SAFETENSORS || c->format == PENSTOCK_FORMAT_GGUF, "format number %u",
	      c->format);
	CHECK(c->layers >= 1 && c->layers <= 1000000, "%u layers: 1 .. 1000000", c->layers);
	CHECK(c->experts >= 1 && c->experts <= 65536, "%u experts: 1 .. 65536", c->experts);
	CHECK(c->top_k >= 1 && c->top_k <= c->experts, "top-k %u of %u experts", c->top_k, c->experts);
	CHECK(c->hidden >= 32 && c->hidden % 32 == 0 && c->hidden <= 65536,
	      "hidden %u: a multiple of 32 up to 65536", c->hidden);
	CHECK(c->inter >= 32 && c->inter % 32 == 0 && c->inter <= 262144,
	      "inter %u: a multiple of 32 up to 262144", c->inter);
	CHECK(c->vocab >= 2 && c->vocab <= 1u << 24, "vocabulary of %u tokens: 2 .. 2^24", c->vocab);
	CHECK(c->head_dim >= 2 && c->head_dim % 2 == 0 && c->head_dim <= 1024, "head-dim %u: even, 2 .. 1024",
	      c->head_dim);
	CHECK(c->heads >= 1 && c->kv_heads >= 1 && c->heads % c->kv_heads == 0 && c->heads <= 1024,
	      "%u heads on %u kv-heads: at most 1024, and a multiple", c->heads, c->kv_heads);
	CHECK(c->heads * c->head_dim % 32 == 0 && c->kv_heads * c->head_dim % 32 == 0,
	      "heads of %u: widths of %u and %u, which must be multiples of 32", c->head_dim, c->heads * c->head_dim,
	      c->kv_heads * c->head_dim);
	CHECK(c->arch != SYNTH_OLMOE || c->heads * c->head_dim == c->hidden,
	      "olmoe with %u heads of %u: their product must be hidden, %u", c->heads, c->head_dim, c->hidden);
	CHECK(c->skew >= 0 && c->skew <= 10, "skew %g: 0 .. 10", c->skew);
	CHECK(c->shard_bytes >= 1, "shards of no bytes");
	CHECK(c->align >= 8 && c->align <= 1u << 20 && !(c->align & (c->align - 1)),
	      "alignment %u: a power of two, 8 .. 2^20", c->align);
	return check_dtype(c, err);
}

/* ---- the list ---- */

struct list {
	struct synth_model *m;
	uint32_t nr;
	bool overflow;
};

/* Counts where there is no room yet. */
static void add(struct list *l, uint32_t role, uint32_t layer, uint32_t expert, uint32_t nr, uint64_t rows,
		uint64_t cols, uint32_t nr_dims, bool scale)
{
	struct synth_model *m = l->m;
	struct synth_tensor t = {
		.role = role, .layer = layer, .expert = expert, .nr = nr, .rows = rows, .cols = cols,
		.nr_dims = nr_dims, .dtype = scale ? PENSTOCK_DTYPE_F32 : dtype_of(&m->cfg, role), .scale = scale,
	};
	uint64_t elems;

	if (penstock_mul_overflows(rows * cols, nr, &elems) || elems > INT64_MAX / 4)
		l->overflow = true;
	t.bytes = bytes_of(t.dtype, elems);
	if (m->tensors)
		m->tensors[l->nr] = t;
	else if (penstock_add_overflows(m->total_bytes, t.bytes, &m->total_bytes) || m->total_bytes > INT64_MAX)
		l->overflow = true;
	if (!m->tensors && role >= SYNTH_GATE)
		m->expert_bytes += t.bytes;
	l->nr++;
}

static void add_matrix(struct list *l, uint32_t role, uint32_t layer, uint64_t rows, uint64_t cols)
{
	add(l, role, layer, 0, 1, rows, cols, 2, false);
}

static void add_vector(struct list *l, uint32_t role, uint32_t layer, uint64_t cols)
{
	add(l, role, layer, 0, 1, 1, cols, 1, false);
}

static void add_expert_part(struct list *l, uint32_t role, uint32_t layer, uint32_t expert)
{
	const struct synth_config *c = &l->m->cfg;
	uint64_t rows = role == SYNTH_DOWN ? c->hidden : c->inter, cols = role == SYNTH_DOWN ? c->inter : c->hidden;

	if (c->format == PENSTOCK_FORMAT_GGUF) {
		add(l, role, layer, 0, c->experts, rows, cols, 3, false);
		return;
	}
	add(l, role, layer, expert, 1, rows, cols, 2, false);
	if (c->dtype == PENSTOCK_DTYPE_F8_E4M3)
		add(l, role, layer, expert, 1, (rows + 127) / 128, (cols + 127) / 128, 2, true);
}

static void add_layer(struct list *l, uint32_t layer)
{
	const struct synth_config *c = &l->m->cfg;
	uint32_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim, e;
	/* Qwen norms a head, OLMoE all heads together */
	bool one = c->arch == SYNTH_QWEN3_MOE;

	add_vector(l, SYNTH_ATTN_NORM, layer, c->hidden);
	add_matrix(l, SYNTH_Q, layer, q, c->hidden);
	add_matrix(l, SYNTH_K, layer, kv, c->hidden);
	add_matrix(l, SYNTH_V, layer, kv, c->hidden);
	add_matrix(l, SYNTH_O, layer, c->hidden, q);
	if (c->arch != SYNTH_MIXTRAL) {
		add_vector(l, SYNTH_Q_NORM, layer, one ? c->head_dim : q);
		add_vector(l, SYNTH_K_NORM, layer, one ? c->head_dim : kv);
	}
	add_vector(l, SYNTH_FFN_NORM, layer, c->hidden);
	add_matrix(l, SYNTH_ROUTER, layer, c->experts, c->hidden);
	for (e = 0; e < (c->format == PENSTOCK_FORMAT_GGUF ? 1 : c->experts); e++) {
		add_expert_part(l, SYNTH_GATE, layer, e);
		add_expert_part(l, SYNTH_UP, layer, e);
		add_expert_part(l, SYNTH_DOWN, layer, e);
	}
}

static void add_all(struct list *l)
{
	const struct synth_config *c = &l->m->cfg;
	uint32_t i;

	l->nr = 0;
	add_matrix(l, SYNTH_EMBED, NO_LAYER, c->vocab, c->hidden);
	for (i = 0; i < c->layers; i++)
		add_layer(l, i);
	add_vector(l, SYNTH_FINAL_NORM, NO_LAYER, c->hidden);
	add_matrix(l, SYNTH_HEAD, NO_LAYER, c->vocab, c->hidden);
}

int synth_model_create(const struct synth_config *cfg, struct synth_model **out, struct penstock_error *err)
{
	struct synth_model *m;
	struct list l = { 0 };
	int rc;

	rc = check(cfg, err);
	if (rc)
		return rc;
	if ((uint64_t)cfg->layers * cfg->experts > 1u << 26)
		return penstock_err(err, -EOVERFLOW, "%u layers of %u experts", cfg->layers, cfg->experts);
	m = calloc(1, sizeof(*m));
	if (!m)
		return penstock_err(err, -ENOMEM, "model");
	m->cfg = *cfg;
	l.m = m;
	add_all(&l);
	if (l.overflow) {
		rc = penstock_err(err, -EOVERFLOW, "a model of more than 2^63 bytes");
		goto err_model;
	}
	m->tensors = calloc(l.nr, sizeof(*m->tensors));
	if (!m->tensors || synth_gen_init(m)) {
		rc = penstock_err(err, -ENOMEM, "list of %u tensors", l.nr);
		goto err_model;
	}
	m->nr_tensors = l.nr;
	add_all(&l);
	*out = m;
	return 0;

err_model:
	synth_model_destroy(m);
	return rc;
}

void synth_model_destroy(struct synth_model *m)
{
	if (!m)
		return;
	free(m->normals);
	free(m->tensors);
	free(m);
}

/* ---- names ---- */

static const char *const hf_names[SYNTH_NR_ROLES] = {
	[SYNTH_EMBED] = "model.embed_tokens.weight",
	[SYNTH_HEAD] = "lm_head.weight",
	[SYNTH_FINAL_NORM] = "model.norm.weight",
	[SYNTH_ATTN_NORM] = "input_layernorm.weight",
	[SYNTH_FFN_NORM] = "post_attention_layernorm.weight",
	[SYNTH_Q] = "self_attn.q_proj.weight",
	[SYNTH_K] = "self_attn.k_proj.weight",
	[SYNTH_V] = "self_attn.v_proj.weight",
	[SYNTH_O] = "self_attn.o_proj.weight",
	[SYNTH_Q_NORM] = "self_attn.q_norm.weight",
	[SYNTH_K_NORM] = "self_attn.k_norm.weight",
	[SYNTH_ROUTER] = "gate.weight",
	[SYNTH_GATE] = "gate_proj",
	[SYNTH_UP] = "up_proj",
	[SYNTH_DOWN] = "down_proj",
};

static const char *const gguf_names[SYNTH_NR_ROLES] = {
	[SYNTH_EMBED] = "token_embd.weight",
	[SYNTH_HEAD] = "output.weight",
	[SYNTH_FINAL_NORM] = "output_norm.weight",
	[SYNTH_ATTN_NORM] = "attn_norm.weight",
	[SYNTH_FFN_NORM] = "ffn_norm.weight",
	[SYNTH_Q] = "attn_q.weight",
	[SYNTH_K] = "attn_k.weight",
	[SYNTH_V] = "attn_v.weight",
	[SYNTH_O] = "attn_output.weight",
	[SYNTH_Q_NORM] = "attn_q_norm.weight",
	[SYNTH_K_NORM] = "attn_k_norm.weight",
	[SYNTH_ROUTER] = "ffn_gate_inp.weight",
	[SYNTH_GATE] = "ffn_gate_exps.weight",
	[SYNTH_UP] = "ffn_up_exps.weight",
	[SYNTH_DOWN] = "ffn_down_exps.weight",
};

const char *synth_tensor_name(const struct synth_model *m, const struct synth_tensor *t, char *buf, size_t len)
{
	static const char *const mixtral[] = { "w1", "w3", "w2" };
	bool is_mixtral = m->cfg.arch == SYNTH_MIXTRAL;
	const char *block = is_mixtral ? "block_sparse_moe" : "mlp";

	if (m->cfg.format == PENSTOCK_FORMAT_GGUF) {
		if (t->layer == NO_LAYER)
			snprintf(buf, len, "%s", gguf_names[t->role]);
		else
			snprintf(buf, len, "blk.%u.%s", t->layer, gguf_names[t->role]);
	} else if (t->layer == NO_LAYER) {
		snprintf(buf, len, "%s", hf_names[t->role]);
	} else if (t->role >= SYNTH_GATE) {
		snprintf(buf, len, "model.layers.%u.%s.experts.%u.%s.%s", t->layer, block, t->expert,
			 is_mixtral ? mixtral[t->role - SYNTH_GATE] : hf_names[t->role],
			 t->scale ? "weight_scale_inv" : "weight");
	} else if (t->role == SYNTH_ROUTER) {
		snprintf(buf, len, "model.layers.%u.%s.%s", t->layer, block, hf_names[t->role]);
	} else {
		snprintf(buf, len, "model.layers.%u.%s", t->layer, hf_names[t->role]);
	}
	return buf;
}
