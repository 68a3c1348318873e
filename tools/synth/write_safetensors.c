// SPDX-License-Identifier: MIT
/*
 * A Hugging Face folder: config.json, generation_config.json, and either
 * model.safetensors or numbered shards with their index. A shard is a length of
 * 8 bytes, a JSON table padded with spaces to a multiple of 8, and the tensors
 * without gaps.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../runtime/err.h"
#include "writer.h"

/* @first_tensor: of each shard; the entry after the last is the number of tensors */
struct folder {
	uint32_t nr_shards;
	uint32_t next;
	uint32_t first_tensor[];
};

static void shard_name(const struct folder *f, uint32_t shard, char *buf, size_t len)
{
	if (f->nr_shards == 1)
		snprintf(buf, len, "model.safetensors");
	else
		snprintf(buf, len, "model-%05u-of-%05u.safetensors", shard + 1, f->nr_shards);
}

/* A text becomes a file in the folder. It frees the text. */
static int put_text(struct synth_writer *w, const char *name, struct synth_text *t, struct penstock_error *err)
{
	struct synth_sink s = { .fd = -1 };
	char *path = NULL;
	int rc = 0;

	if (t->failed || asprintf(&path, "%s/%s", w->tmp, name) < 0) {
		synth_text_free(t);
		return penstock_err(err, -ENOMEM, "%s: text of %s", w->tmp, name);
	}
	rc = synth_sink_open(&s, path, err);
	if (!rc) {
		rc = synth_sink_put(&s, t->p, t->len, err);
		if (!rc)
			rc = synth_sink_close(&s, err);
		else
			synth_sink_abort(&s);
	}
	free(path);
	synth_text_free(t);
	return rc;
}

static const char *torch_dtype(const struct synth_config *c)
{
	return c->dtype == PENSTOCK_DTYPE_F32 ? "float32" : c->dtype == PENSTOCK_DTYPE_F16 ? "float16" : "bfloat16";
}

static void config_experts(struct synth_text *t, const struct synth_config *c)
{
	switch (c->arch) {
	case SYNTH_QWEN3_MOE:
		synth_text_add(t, "  \"attention_bias\": false,\n  \"decoder_sparse_step\": 1,\n  \"head_dim\": %u,\n"
			       "  \"intermediate_size\": %u,\n  \"mlp_only_layers\": [],\n"
			       "  \"moe_intermediate_size\": %u,\n  \"norm_topk_prob\": true,\n"
			       "  \"num_experts\": %u,\n  \"sliding_window\": null,\n  \"use_sliding_window\": false,\n",
			       c->head_dim, c->inter * c->top_k, c->inter, c->experts);
		break;
	case SYNTH_MIXTRAL:
		synth_text_add(t, "  \"head_dim\": %u,\n  \"intermediate_size\": %u,\n  \"num_local_experts\": %u,\n"
			       "  \"sliding_window\": null,\n", c->head_dim, c->inter, c->experts);
		break;
	case SYNTH_OLMOE:
		synth_text_add(t, "  \"attention_bias\": false,\n  \"clip_qkv\": null,\n  \"intermediate_size\": %u,\n"
			       "  \"norm_topk_prob\": false,\n  \"num_experts\": %u,\n", c->inter, c->experts);
		break;
	}
}

static int put_config(struct synth_writer *w, struct penstock_error *err)
{
	const struct synth_config *c = &w->m->cfg;
	const struct synth_arch_info *a = synth_arch_info(c->arch);
	struct synth_text t = { 0 };
	int rc;

	synth_text_add(&t, "{\n  \"architectures\": [\"%s\"],\n  \"attention_dropout\": 0.0,\n"
		       "  \"bos_token_id\": null,\n  \"eos_token_id\": null,\n", a->hf_class);
	config_experts(&t, c);
	synth_text_add(&t, "  \"hidden_act\": \"silu\",\n  \"hidden_size\": %u,\n  \"initializer_range\": 0.02,\n"
		       "  \"max_position_embeddings\": 32768,\n  \"model_type\": \"%s\",\n"
		       "  \"num_attention_heads\": %u,\n  \"num_experts_per_tok\": %u,\n"
		       "  \"num_hidden_layers\": %u,\n  \"num_key_value_heads\": %u,\n"
		       "  \"output_router_logits\": false,\n", c->hidden, a->name, c->heads, c->top_k, c->layers,
		       c->kv_heads);
	if (c->dtype == PENSTOCK_DTYPE_F8_E4M3)
		synth_text_add(&t, "  \"quantization_config\": {\n    \"activation_scheme\": \"dynamic\",\n"
			       "    \"fmt\": \"e4m3\",\n    \"modules_to_not_convert\": [\"lm_head\", \"self_attn\", "
			       "\"mlp.gate\", \"block_sparse_moe.gate\"],\n    \"quant_method\": \"fp8\",\n"
			       "    \"weight_block_size\": [128, 128]\n  },\n");
	synth_text_add(&t, "  \"rms_norm_eps\": %g,\n  \"rope_scaling\": null,\n  \"rope_theta\": %.1f,\n"
		       "  \"router_aux_loss_coef\": 0.001,\n  \"tie_word_embeddings\": false,\n"
		       "  \"torch_dtype\": \"%s\",\n  \"use_cache\": true,\n  \"vocab_size\": %u\n}\n",
		       a->eps, a->rope_base, torch_dtype(c), c->vocab);
	rc = put_text(w, "config.json", &t, err);
	if (rc)
		return rc;
	synth_text_add(&t, "{\n  \"do_sample\": false,\n  \"eos_token_id\": null,\n  \"pad_token_id\": %u\n}\n",
		       c->vocab - 1);
	return put_text(w, "generation_config.json", &t, err);
}

static int put_index(struct synth_writer *w, struct penstock_error *err)
{
	const struct synth_model *m = w->m;
	struct folder *f = w->priv;
	char name[SYNTH_NAME_MAX], shard[64];
	struct synth_text t = { 0 };
	uint32_t s, i;

	synth_text_add(&t, "{\n  \"metadata\": {\n    \"total_size\": %" PRIu64 "\n  },\n  \"weight_map\": {\n",
		       m->total_bytes);
	for (s = 0; s < f->nr_shards; s++) {
		shard_name(f, s, shard, sizeof(shard));
		for (i = f->first_tensor[s]; i < f->first_tensor[s + 1]; i++)
			synth_text_add(&t, "    \"%s\": \"%s\"%s\n",
				       synth_tensor_name(m, &m->tensors[i], name, sizeof(name)), shard,
				       i + 1 < m->nr_tensors ? "," : "");
	}
	synth_text_add(&t, "  }\n}\n");
	return put_text(w, "model.safetensors.index.json", &t, err);
}

/* Counts where @f is NULL. A tensor larger than a shard has one to itself. */
static uint32_t cut(const struct synth_model *m, struct folder *f)
{
	uint64_t bytes = 0;
	uint32_t i, nr = 0;

	for (i = 0; i < m->nr_tensors; i++) {
		if (!i || bytes + m->tensors[i].bytes > m->cfg.shard_bytes) {
			if (f)
				f->first_tensor[nr] = i;
			nr++;
			bytes = 0;
		}
		bytes += m->tensors[i].bytes;
	}
	return nr;
}

static int begin(struct synth_writer *w, struct penstock_error *err)
{
	uint32_t nr = cut(w->m, NULL);
	struct folder *f = calloc(1, sizeof(*f) + (nr + 1ull) * sizeof(f->first_tensor[0]));

	if (!f)
		return penstock_err(err, -ENOMEM, "list of %u shards", nr);
	w->priv = f;
	f->nr_shards = nr;
	f->first_tensor[nr] = w->m->nr_tensors;
	cut(w->m, f);
	return put_config(w, err);
}

static int put_header(struct synth_writer *w, uint32_t shard, struct penstock_error *err)
{
	const struct synth_model *m = w->m;
	struct folder *f = w->priv;
	char name[SYNTH_NAME_MAX];
	struct synth_text t = { 0 };
	uint64_t off = 0, len;
	uint32_t i;
	int rc;

	synth_text_add(&t, "{\"__metadata__\":{\"format\":\"pt\"}");
	for (i = f->first_tensor[shard]; i < f->first_tensor[shard + 1]; i++) {
		const struct synth_tensor *x = &m->tensors[i];

		synth_text_add(&t, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[",
			       synth_tensor_name(m, x, name, sizeof(name)), penstock_dtype_info(x->dtype)->name);
		if (x->nr_dims > 1)
			synth_text_add(&t, "%" PRIu64 ",", x->rows);
		synth_text_add(&t, "%" PRIu64 "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", x->cols, off,
			       off + x->bytes);
		off += x->bytes;
	}
	synth_text_add(&t, "}");
	while (t.len % 8 && !t.failed)
		synth_text_add(&t, " ");
	if (t.failed) {
		synth_text_free(&t);
		return penstock_err(err, -ENOMEM, "header of shard %u", shard + 1);
	}
	/* little endian, as this machine is */
	len = t.len;
	rc = synth_sink_put(&w->sink, &len, sizeof(len), err);
	if (!rc)
		rc = synth_sink_put(&w->sink, t.p, t.len, err);
	synth_text_free(&t);
	return rc;
}

static int tensor(struct synth_writer *w, uint32_t nr, struct penstock_error *err)
{
	struct folder *f = w->priv;
	char shard[64], *path;
	int rc;

	if (f->first_tensor[f->next] != nr)
		return 0;
	rc = nr ? synth_writer_close(w, err) : 0;
	if (rc)
		return rc;
	shard_name(f, f->next, shard, sizeof(shard));
	if (asprintf(&path, "%s/%s", w->tmp, shard) < 0)
		return penstock_err(err, -ENOMEM, "%s", shard);
	rc = synth_sink_open(&w->sink, path, err);
	free(path);
	return rc ? rc : put_header(w, f->next++, err);
}

static int end(struct synth_writer *w, struct penstock_error *err)
{
	int rc = synth_writer_close(w, err);

	if (rc || ((struct folder *)w->priv)->nr_shards == 1)
		return rc;
	return put_index(w, err);
}

const struct synth_writer_ops synth_writer_safetensors = {
	.name = "safetensors",
	.folder = true,
	.begin = begin,
	.tensor = tensor,
	.end = end,
};
