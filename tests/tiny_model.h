/* SPDX-License-Identifier: MIT */
/*
 * A tiny checkpoint for tests: Qwen3-MoE names, bf16, one safetensors file, whose
 * every expert byte can be told from its place. Only routers and experts: enough
 * for the library, not for a decoder.
 */
#ifndef PENSTOCK_TESTS_TINY_MODEL_H
#define PENSTOCK_TESTS_TINY_MODEL_H

#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <sys/stat.h>

#include "harness.h"

#define TINY_LAYERS	3u
#define TINY_EXPERTS	16u
#define TINY_TOP_K	2u
#define TINY_HIDDEN	64u
#define TINY_INTER	96u
/* elements of one matrix, and bytes of one expert */
#define TINY_ELEMS	(TINY_HIDDEN * TINY_INTER)
#define TINY_EXPERT	(3u * 2u * TINY_ELEMS)

struct tiny_model {
	char dir[PATH_MAX];
	char file[PATH_MAX];
};

/* A small bf16 number that depends on where it is. */
static inline uint16_t tiny_value(uint32_t layer, uint32_t expert, uint32_t part, uint32_t i)
{
	uint32_t h = (layer * 31 + expert) * 2654435761u + part * 40503u + i * 2246822519u;

	h ^= h >> 15;
	h *= 2654435769u;
	h ^= h >> 13;
	/* sign, exponent of 2^-6 .. 2^-3, seven bits */
	return (uint16_t)((h & 0x8000u) | ((121u + (h >> 16 & 3u)) << 7) | (h & 0x7fu));
}

static inline void tiny_put(FILE *f, const void *p, size_t len)
{
	ASSERT_EQ(len, fwrite(p, 1, len, f));
}

static inline void tiny_config(const struct tiny_model *m)
{
	char path[PATH_MAX + 16];
	FILE *f;

	snprintf(path, sizeof(path), "%s/config.json", m->dir);
	f = fopen(path, "w");
	ASSERT_TRUE(f);
	fprintf(f,
		"{\"model_type\": \"qwen3_moe\", \"architectures\": [\"Qwen3MoeForCausalLM\"], \"num_hidden_layers\": %u,"
		" \"num_experts\": %u, \"num_experts_per_tok\": %u, \"hidden_size\": %u, \"moe_intermediate_size\": %u,"
		" \"intermediate_size\": %u, \"norm_topk_prob\": true, \"decoder_sparse_step\": 1, \"mlp_only_layers\": [],"
		" \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"head_dim\": 32, \"vocab_size\": 32,"
		" \"hidden_act\": \"silu\", \"rms_norm_eps\": 1e-6}\n",
		TINY_LAYERS, TINY_EXPERTS, TINY_TOP_K, TINY_HIDDEN, TINY_INTER, TINY_INTER);
	ASSERT_EQ(0, fclose(f));
}

static inline void tiny_header(char **text, size_t *len)
{
	static const char *const names[] = { "gate", "up", "down" };
	FILE *f = open_memstream(text, len);
	uint64_t off = 0;

	fprintf(f, "{");
	for (uint32_t l = 0; l < TINY_LAYERS; l++) {
		fprintf(f, "%s\"model.layers.%u.mlp.gate.weight\":{\"dtype\":\"BF16\",\"shape\":[%u,%u],\"data_offsets\":[%llu,%llu]}",
			l ? "," : "", l, TINY_EXPERTS, TINY_HIDDEN, (unsigned long long)off,
			(unsigned long long)(off + 2 * TINY_EXPERTS * TINY_HIDDEN));
		off += 2 * TINY_EXPERTS * TINY_HIDDEN;
		for (uint32_t e = 0; e < TINY_EXPERTS; e++) {
			for (uint32_t p = 0; p < 3; p++, off += 2 * TINY_ELEMS)
				fprintf(f, ",\"model.layers.%u.mlp.experts.%u.%s_proj.weight\":{\"dtype\":\"BF16\",\"shape\":[%u,%u],"
					"\"data_offsets\":[%llu,%llu]}",
					l, e, names[p], p < 2 ? TINY_INTER : TINY_HIDDEN, p < 2 ? TINY_HIDDEN : TINY_INTER,
					(unsigned long long)off, (unsigned long long)(off + 2 * TINY_ELEMS));
		}
	}
	fprintf(f, "}");
	ASSERT_EQ(0, fclose(f));
}

static inline void tiny_model_make(struct tiny_model *m)
{
	const char *tmp = getenv("TMPDIR");
	static uint16_t v[TINY_ELEMS];
	uint64_t len64;
	size_t len;
	char *text;
	FILE *f;

	snprintf(m->dir, sizeof(m->dir), "%s/penstock-tiny-XXXXXX", tmp ? tmp : "/var/tmp");
	ASSERT_TRUE(mkdtemp(m->dir));
	ASSERT_TRUE(snprintf(m->file, sizeof(m->file), "%s/model.safetensors", m->dir) < (int)sizeof(m->file));
	tiny_config(m);
	tiny_header(&text, &len);
	f = fopen(m->file, "w");
	ASSERT_TRUE(f);
	len64 = len;
	tiny_put(f, &len64, sizeof(len64));
	tiny_put(f, text, len);
	free(text);
	for (uint32_t l = 0; l < TINY_LAYERS; l++) {
		for (uint32_t i = 0; i < TINY_EXPERTS * TINY_HIDDEN; i++) {
			uint16_t w = tiny_value(l, 99, 9, i);

			tiny_put(f, &w, sizeof(w));
		}
		for (uint32_t e = 0; e < TINY_EXPERTS; e++) {
			for (uint32_t p = 0; p < 3; p++) {
				for (uint32_t i = 0; i < TINY_ELEMS; i++)
					v[i] = tiny_value(l, e, p, i);
				tiny_put(f, v, sizeof(v));
			}
		}
	}
	ASSERT_EQ(0, fclose(f));
}

static inline void tiny_model_remove(struct tiny_model *m)
{
	char path[PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s/config.json", m->dir);
	unlink(path);
	unlink(m->file);
	rmdir(m->dir);
}

#endif
