// SPDX-License-Identifier: MIT
/* Answers about an open model: its layers, tensors and configuration. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stream.h"
#include "util.h"

/* Pieces that a tensor is read in, past the page cache. */
#define PIECE	(8u << 20)

int penstock_model_info(struct penstock_model *m, struct penstock_model_info *info)
{
	const struct penstock_index *ix = m->index;
	struct penstock_model_info i = {
		.size = info->size,
		.path = ix->path,
		.arch = ix->arch,
		.family = ix->family,
		.format = ix->format,
		.nr_files = ix->store.nr_files,
		.nr_tensors = ix->nr_tensors,
		.nr_layers = ix->nr_layers,
		.nr_mtp_layers = ix->nr_mtp_layers,
		.nr_size_classes = m->nr_classes,
		.hidden = ix->hidden,
		.expert_bytes = m->expert_bytes,
		.token_bytes = m->token_bytes,
		.dense_bytes = m->dense_bytes,
		.least_bytes = m->least_bytes,
	};

	if (info->size < sizeof(size_t) || info->size > sizeof(i))
		return -EINVAL;
	if (penstock_ctx_check(m->ctx, NULL))
		return -ESTALE;
	for (uint32_t l = 0; l < ix->nr_layers; l++) {
		if (!penstock_model_class(m, l))
			continue;
		i.nr_moe_layers++;
		if (ix->layers[l].info.top_k > i.top_k)
			i.top_k = ix->layers[l].info.top_k;
	}
	pthread_mutex_lock(&m->ctx->lock);
	i.cache_bytes = m->cache_bytes;
	pthread_mutex_unlock(&m->ctx->lock);
	memcpy(info, &i, info->size);
	return 0;
}

int penstock_layer_info(struct penstock_model *m, uint32_t layer, struct penstock_layer_info *info)
{
	size_t asked = info->size;

	if (asked < sizeof(size_t) || asked > sizeof(*info))
		return -EINVAL;
	if (layer >= m->index->nr_layers + m->index->nr_mtp_layers)
		return -ENOENT;
	memcpy(info, &m->index->layers[layer].info, asked);
	info->size = asked;
	return 0;
}

size_t penstock_capacity(struct penstock_model *m, uint32_t layer)
{
	struct penstock_class *c = penstock_model_class(m, layer);
	size_t nr;

	if (!c || penstock_ctx_check(m->ctx, NULL))
		return 0;
	pthread_mutex_lock(&m->ctx->lock);
	nr = penstock_cache_slots(c->cache);
	pthread_mutex_unlock(&m->ctx->lock);
	return penstock_min_u64(nr, c->nr_experts);
}

int penstock_tensor_at(struct penstock_model *m, uint32_t nr, struct penstock_tensor *t)
{
	const struct penstock_index_tensor *x;

	if (nr >= m->index->nr_tensors)
		return -ENOENT;
	x = &m->index->tensors[nr];
	memset(t, 0, sizeof(*t));
	t->name = x->name;
	t->file = m->index->store.files[x->file].path;
	t->dtype = x->dtype;
	t->nr_dims = (uint32_t)penstock_min_u64(x->nr_dims, PENSTOCK_MAX_DIMS);
	memcpy(t->dims, penstock_index_tensor_dims(x), t->nr_dims * sizeof(t->dims[0]));
	t->off = x->off;
	t->bytes = x->bytes;
	return 0;
}

int64_t penstock_tensor_find(struct penstock_model *m, const char *name)
{
	return penstock_index_find(m->index, name);
}

int penstock_meta_find(struct penstock_model *m, const char *key, struct penstock_meta *meta)
{
	const struct penstock_meta *v = penstock_index_meta(m->index, key);

	if (!v)
		return -ENOENT;
	*meta = *v;
	return 0;
}

/* Aligned supersets through the O_DIRECT descriptor into @bounce, and from there to @dst. */
static int read_direct(const struct penstock_file *f, uint64_t off, char *dst, uint64_t len, char *bounce,
		       struct penstock_error *err)
{
	while (len) {
		uint64_t start = penstock_align_down(off, PENSTOCK_MEM_ALIGN), skip = off - start;
		ssize_t n = pread(f->dfd, bounce, PIECE, (off_t)start);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return penstock_err(err, -errno, "read %s off %llu", f->path, (unsigned long long)start);
		if ((uint64_t)n <= skip)
			return penstock_err(err, -ENODATA, "read %s off %llu: the file ends %llu bytes early", f->path,
					    (unsigned long long)off, (unsigned long long)len);
		n = (ssize_t)penstock_min_u64((uint64_t)n - skip, len);
		memcpy(dst, bounce + skip, (size_t)n);
		dst += n;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

int penstock_tensor_read(struct penstock_queue *q, struct penstock_model *m, uint32_t nr, uint64_t off, void *dst,
			 uint64_t len)
{
	const struct penstock_index_tensor *t;
	const struct penstock_file *f;
	uint64_t end;
	char *bounce;
	int rc;

	rc = penstock_ctx_check(q->ctx, &q->err);
	if (rc)
		return rc;
	penstock_err_clear(&q->err);
	if (nr >= m->index->nr_tensors)
		return penstock_err(&q->err, -ENOENT, "tensor %u of %u", nr, m->index->nr_tensors);
	t = &m->index->tensors[nr];
	if (penstock_add_overflows(off, len, &end) || end > t->bytes)
		return penstock_err(&q->err, -EINVAL, "%s has %llu bytes, asked for %llu at %llu", t->name,
				    (unsigned long long)t->bytes, (unsigned long long)len, (unsigned long long)off);
	f = &m->index->store.files[t->file];
	if (f->mode != PENSTOCK_FILE_DIRECT || len < PENSTOCK_MEM_ALIGN)
		return penstock_store_pread(&m->index->store, t->file, t->off + off, dst, len, &q->err);
	bounce = aligned_alloc(PENSTOCK_MEM_ALIGN, PIECE);
	if (!bounce)
		return penstock_err(&q->err, -ENOMEM, "a buffer of %u bytes", PIECE);
	rc = read_direct(f, t->off + off, dst, len, bounce, &q->err);
	free(bounce);
	if (!rc)
		rc = penstock_store_check(&m->index->store, &q->err);
	return rc;
}
