// SPDX-License-Identifier: MIT
/* Tensor names: see names.h. In a pattern @ is the prefix, # the layer. */
#include <stdio.h>
#include <string.h>

#include "names.h"

struct pattern {
	const char *hf[2];
	const char *gguf[2];
};

static const struct pattern patterns[DECODER_NR_ROLES] = {
	[DECODER_EMBED] = { { "@embed_tokens.weight" }, { "token_embd.weight" } },
	[DECODER_NORM] = { { "@norm.weight" }, { "output_norm.weight" } },
	[DECODER_HEAD] = { { "@lm_head.weight" }, { "output.weight" } },
	[DECODER_ROPE_FREQS] = { { NULL }, { "rope_freqs.weight", "blk.#.rope_freqs.weight" } },
	[DECODER_ATTN_NORM] = { { "@layers.#.input_layernorm.weight" }, { "blk.#.attn_norm.weight" } },
	[DECODER_FFN_NORM] = { { "@layers.#.post_attention_layernorm.weight" },
			       { "blk.#.ffn_norm.weight", "blk.#.post_attention_norm.weight" } },
	[DECODER_QKV] = { { NULL }, { "blk.#.attn_qkv.weight" } },
	[DECODER_QKV_BIAS] = { { NULL }, { "blk.#.attn_qkv.bias" } },
	[DECODER_Q] = { { "@layers.#.self_attn.q_proj.weight" }, { "blk.#.attn_q.weight" } },
	[DECODER_K] = { { "@layers.#.self_attn.k_proj.weight" }, { "blk.#.attn_k.weight" } },
	[DECODER_V] = { { "@layers.#.self_attn.v_proj.weight" }, { "blk.#.attn_v.weight" } },
	[DECODER_O] = { { "@layers.#.self_attn.o_proj.weight" }, { "blk.#.attn_output.weight" } },
	[DECODER_Q_BIAS] = { { "@layers.#.self_attn.q_proj.bias" }, { "blk.#.attn_q.bias" } },
	[DECODER_K_BIAS] = { { "@layers.#.self_attn.k_proj.bias" }, { "blk.#.attn_k.bias" } },
	[DECODER_V_BIAS] = { { "@layers.#.self_attn.v_proj.bias" }, { "blk.#.attn_v.bias" } },
	[DECODER_O_BIAS] = { { "@layers.#.self_attn.o_proj.bias" }, { "blk.#.attn_output.bias" } },
	[DECODER_Q_NORM] = { { "@layers.#.self_attn.q_norm.weight" }, { "blk.#.attn_q_norm.weight" } },
	[DECODER_K_NORM] = { { "@layers.#.self_attn.k_norm.weight" }, { "blk.#.attn_k_norm.weight" } },
	[DECODER_SINKS] = { { "@layers.#.self_attn.sinks" }, { "blk.#.attn_sinks.weight" } },
	[DECODER_GATE] = { { "@layers.#.mlp.gate_proj.weight", "@layers.#.feed_forward.gate_proj.weight" },
			   { "blk.#.ffn_gate.weight" } },
	[DECODER_UP] = { { "@layers.#.mlp.up_proj.weight", "@layers.#.feed_forward.up_proj.weight" },
			 { "blk.#.ffn_up.weight" } },
	[DECODER_DOWN] = { { "@layers.#.mlp.down_proj.weight", "@layers.#.feed_forward.down_proj.weight" },
			   { "blk.#.ffn_down.weight" } },
};

static const char *const prefixes[][2] = {
	{ "model.", "" },
	{ "language_model.model.", "language_model." },
	{ "model.language_model.", "" },
};

void decoder_names_find(struct penstock_model *model, uint32_t format, struct decoder_names *n)
{
	size_t i, best = 0;
	char name[DECODER_NAME_MAX];

	n->gguf = format == PENSTOCK_FORMAT_GGUF;
	for (i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]) && !n->gguf; i++) {
		snprintf(name, sizeof(name), "%sembed_tokens.weight", prefixes[i][0]);
		if (penstock_tensor_find(model, name) >= 0) {
			best = i;
			break;
		}
	}
	snprintf(n->prefix, sizeof(n->prefix), "%s", prefixes[best][0]);
	snprintf(n->head_prefix, sizeof(n->head_prefix), "%s", prefixes[best][1]);
}

bool decoder_name(const struct decoder_names *n, enum decoder_role role, uint32_t layer, unsigned int i,
		  char *buf, size_t len)
{
	const char *p = i < 2 ? (n->gguf ? patterns[role].gguf[i] : patterns[role].hf[i]) : NULL;
	size_t at = 0;

	if (!p)
		return false;
	for (; *p && at + 1 < len; p++) {
		if (*p == '@')
			at += (size_t)snprintf(buf + at, len - at, "%s",
					       role == DECODER_HEAD ? n->head_prefix : n->prefix);
		else if (*p == '#')
			at += (size_t)snprintf(buf + at, len - at, "%u", layer);
		else
			buf[at++] = *p;
	}
	buf[at < len ? at : len - 1] = 0;
	return true;
}

uint32_t decoder_name_tensor(const struct decoder_names *n, struct penstock_model *model, enum decoder_role role,
			     uint32_t layer)
{
	char name[DECODER_NAME_MAX];
	unsigned int i;
	int64_t nr;

	for (i = 0; decoder_name(n, role, layer, i, name, sizeof(name)); i++) {
		nr = penstock_tensor_find(model, name);
		if (nr >= 0)
			return (uint32_t)nr;
	}
	return PENSTOCK_NO_TENSOR;
}
