// SPDX-License-Identifier: MIT
/*
 * Names of expert tensors: in a pattern @ is the prefix, # the layer, ! the
 * expert. A pattern without ! names a tensor of all experts, one slab each.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "extent.h"
#include "fail.h"

#define MAX_PATTERNS 10

/* HF: by role. Mixtral's w1, w3, w2 are gate, up, down. */
static const char *const hf[4][MAX_PATTERNS] = {
	[PENSTOCK_ROLE_GATE] = { "@layers.#.mlp.experts.!.gate_proj", "@layers.#.block_sparse_moe.experts.!.w1",
				 "@layers.#.feed_forward.experts.!.gate_proj", "@layers.#.mlp.experts.gate_proj" },
	[PENSTOCK_ROLE_UP] = { "@layers.#.mlp.experts.!.up_proj", "@layers.#.block_sparse_moe.experts.!.w3",
			       "@layers.#.feed_forward.experts.!.up_proj", "@layers.#.mlp.experts.up_proj" },
	[PENSTOCK_ROLE_DOWN] = { "@layers.#.mlp.experts.!.down_proj", "@layers.#.block_sparse_moe.experts.!.w2",
				 "@layers.#.feed_forward.experts.!.down_proj", "@layers.#.mlp.experts.down_proj",
				 "@layers.#.feed_forward.experts.down_proj" },
	[PENSTOCK_ROLE_GATE_UP] = { "@layers.#.mlp.experts.gate_up_proj", "@layers.#.feed_forward.experts.gate_up_proj",
				    "@layers.#.mlp.experts.!.gate_up_proj" },
};

static const char *const hf_suffixes[3][MAX_PATTERNS] = {
	[PENSTOCK_KIND_WEIGHT] = { ".weight", "", "_blocks", ".weight_packed" },
	[PENSTOCK_KIND_SCALE] = { ".weight_scale_inv", ".weight_scale", "_scales", "_scale_inv", "_scale" },
	[PENSTOCK_KIND_BIAS] = { ".bias", "_bias" },
};

static const char *const gguf[4][MAX_PATTERNS] = {
	[PENSTOCK_ROLE_GATE] = { "blk.#.ffn_gate_exps", "blk.#.ffn_gate.!" },
	[PENSTOCK_ROLE_UP] = { "blk.#.ffn_up_exps", "blk.#.ffn_up.!" },
	[PENSTOCK_ROLE_DOWN] = { "blk.#.ffn_down_exps", "blk.#.ffn_down.!" },
	[PENSTOCK_ROLE_GATE_UP] = { "blk.#.ffn_gate_up_exps" },
};

static const char *const gguf_suffixes[3][MAX_PATTERNS] = {
	[PENSTOCK_KIND_WEIGHT] = { ".weight" },
	[PENSTOCK_KIND_SCALE] = { NULL },
	[PENSTOCK_KIND_BIAS] = { ".bias" },
};

static void expand(const struct decoder_names *n, const char *pattern, uint32_t layer, uint32_t expert,
		   const char *suffix, char *buf, size_t len)
{
	size_t at = 0;

	for (; *pattern && at + 1 < len; pattern++) {
		if (*pattern == '@')
			at += (size_t)snprintf(buf + at, len - at, "%s", n->prefix);
		else if (*pattern == '#' || *pattern == '!')
			at += (size_t)snprintf(buf + at, len - at, "%u", *pattern == '#' ? layer : expert);
		else
			buf[at++] = *pattern;
	}
	if (at >= len)
		at = len - 1;
	snprintf(buf + at, len - at, "%s", suffix);
}

static int64_t find(struct penstock_model *model, const struct decoder_names *n, const struct penstock_part *p,
		    uint32_t layer, uint32_t expert, bool *one)
{
	const char *const *patterns = n->gguf ? gguf[p->role] : hf[p->role];
	const char *const *suffixes = n->gguf ? gguf_suffixes[p->kind] : hf_suffixes[p->kind];
	char name[DECODER_NAME_MAX];
	unsigned int i, j;
	int64_t nr;

	for (i = 0; i < MAX_PATTERNS && patterns[i]; i++)
		for (j = 0; j < MAX_PATTERNS && suffixes[j]; j++) {
			expand(n, patterns[i], layer, expert, suffixes[j], name, sizeof(name));
			nr = penstock_tensor_find(model, name);
			*one = strchr(patterns[i], '!');
			if (nr >= 0)
				return nr;
		}
	return -ENOENT;
}

static int extent(struct penstock_model *model, const struct decoder_names *n, const struct penstock_layer_info *info,
		  uint32_t part, uint32_t layer, uint32_t expert, struct decoder_extent *ext,
		  struct penstock_error *err)
{
	const struct penstock_part *p = &info->parts[part];
	struct penstock_tensor t;
	uint64_t want;
	int64_t nr = -ENOENT;
	bool one;

	if (p->role < 4 && p->kind < 3)
		nr = find(model, n, p, layer, expert, &one);
	if (nr < 0 || penstock_tensor_at(model, (uint32_t)nr, &t))
		return decoder_fail(err, -ENOENT, "layer %u expert %u: no tensor for part %u (role %u, kind %u)", layer,
				    expert, part, p->role, p->kind);
	if (__builtin_mul_overflow(p->bytes, one ? 1u : info->nr_experts, &want) || want != t.bytes)
		return decoder_fail(err, -EINVAL, "tensor %s has %llu bytes, not %llu for each of %u experts", t.name,
				    (unsigned long long)t.bytes, (unsigned long long)p->bytes,
				    one ? 1 : info->nr_experts);
	ext->file = t.file;
	ext->off = t.off + (one ? 0 : expert * p->bytes);
	ext->len = p->bytes;
	return 0;
}

int decoder_extents(struct penstock_model *model, const struct decoder_names *n,
		    const struct penstock_layer_info *info, uint32_t layer, uint32_t expert,
		    struct decoder_extent ext[PENSTOCK_MAX_PARTS], struct penstock_error *err)
{
	uint32_t i;
	int rc = 0;

	if (expert >= info->nr_experts)
		return decoder_fail(err, -EINVAL, "layer %u: expert %u of %u", layer, expert, info->nr_experts);
	for (i = 0; i < info->nr_parts && !rc; i++)
		rc = extent(model, n, info, i, layer, expert, &ext[i], err);
	return rc;
}
