// SPDX-License-Identifier: MIT
/*
 * What `penstock serve` reads of a GGUF: its tables. Slots are counted as the
 * backend counts them (a matrix of an expert with whole blocks of the drive around
 * it), so that a budget that passes here passes there.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../runtime/err.h"
#include "../../runtime/index.h"
#include "serve.h"

#define SLOT_PADDING	4096u

static bool ends_with(const char *name, const char *end)
{
	const size_t n = strlen(name), e = strlen(end);

	return n > e && !strcmp(name + n - e, end);
}

/* The index of tables alone recognises none. */
static const char *arch_of(const struct penstock_index *ix)
{
	const struct penstock_meta *m = penstock_index_meta(ix, "general.architecture");

	return m && m->type == PENSTOCK_META_STRING ? m->string : "unknown";
}

/* A number among the keys of the architecture; 0 where there is none or it differs between layers. */
static uint64_t arch_key(const struct penstock_index *ix, const char *key)
{
	const struct penstock_meta *m;
	char full[160];

	if (snprintf(full, sizeof(full), "%s.%s", arch_of(ix), key) >= (int)sizeof(full))
		return 0;
	m = penstock_index_meta(ix, full);
	if (!m || m->type != PENSTOCK_META_NUMBER || !(m->number >= 1) || m->number > UINT32_MAX)
		return 0;
	return (uint64_t)m->number;
}

static uint64_t kv_bytes(const struct penstock_index *ix)
{
	const uint64_t layers = arch_key(ix, "block_count"), heads = arch_key(ix, "attention.head_count");
	const uint64_t hidden = arch_key(ix, "embedding_length");
	uint64_t kv_heads = arch_key(ix, "attention.head_count_kv");
	uint64_t key = arch_key(ix, "attention.key_length");
	uint64_t value = arch_key(ix, "attention.value_length"), bytes;

	kv_heads = kv_heads ? kv_heads : heads;
	key = key ? key : heads ? hidden / heads : 0;
	value = value ? value : key;
	if (__builtin_mul_overflow(layers, kv_heads, &bytes) ||
	    __builtin_mul_overflow(bytes, 2 * (key + value), &bytes))
		return 0;
	return bytes;
}

static int add_tensor(struct serve_model *m, const struct penstock_index_tensor *t, uint64_t top_k,
		      struct penstock_error *err)
{
	const uint64_t nr = t->nr_dims ? penstock_index_tensor_dims(t)[0] : 0;
	uint64_t slot, all, token;

	if (!ends_with(t->name, "_exps.weight") && !ends_with(t->name, "_chexps.weight")) {
		m->dense_bytes += t->bytes;	/* a file's size bounds the sum */
		return 0;
	}
	if (!nr || !t->bytes)
		return 0;
	m->expert_bytes += t->bytes;
	slot = (t->bytes / nr + 2 * SLOT_PADDING - 1) / SLOT_PADDING * SLOT_PADDING;
	if (__builtin_mul_overflow(slot, nr, &all) ||
	    __builtin_mul_overflow(slot, top_k && top_k < nr ? top_k : 1, &token) ||
	    __builtin_add_overflow(m->cache_all, all, &m->cache_all) ||
	    __builtin_add_overflow(m->cache_token, token, &m->cache_token))
		return penstock_err(err, -EBADMSG, "%s: %s has %" PRIu64 " experts of %" PRIu64 " bytes", m->path,
				    t->name, nr, t->bytes / nr);
	return 0;
}

static int count(struct serve_model *m, const struct penstock_index *ix, const char *path, struct penstock_error *err)
{
	const uint64_t top_k = arch_key(ix, "expert_used_count");
	uint32_t i;
	int rc;

	if (ix->format != PENSTOCK_FORMAT_GGUF)
		return serve_err(err, -EINVAL, "%s: it is no GGUF, and llama-server opens nothing else; "
				 "`penstock run` decodes with safetensors", path);
	m->path = strdup(ix->store.files[0].path);
	if (!m->path)
		return penstock_err(err, -ENOMEM, "%s", path);
	for (i = 0; i < ix->nr_tensors; i++) {
		rc = add_tensor(m, &ix->tensors[i], top_k, err);
		if (rc)
			return rc;
	}
	if (!m->expert_bytes)
		return serve_err(err, -EINVAL, "%s: no experts in it (%u tensors, architecture %s), so there is "
				 "nothing to stream: run llama-server itself", path, ix->nr_tensors, arch_of(ix));
	m->context = arch_key(ix, "context_length");
	m->kv_bytes = kv_bytes(ix);
	return 0;
}

int serve_model_read(const char *path, struct serve_model *m, struct penstock_error *err)
{
	struct penstock_index *ix;
	int rc;

	*m = (struct serve_model){ 0 };
	rc = penstock_index_open_tables(path, &ix, err);
	if (rc)
		return rc;
	rc = count(m, ix, path, err);
	penstock_index_close(ix);
	if (rc)
		serve_model_free(m);
	return rc;
}

void serve_model_free(struct serve_model *m)
{
	free(m->path);
	m->path = NULL;
}
