// SPDX-License-Identifier: MIT
/* The plain expert source: see plain.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "extent.h"
#include "fail.h"
#include "plain.h"

#define ALIGN 64

struct open_file {
	const char *path;
	int fd;
};

/**
 * struct decoder_plain
 * @info: the layer of the last call
 * @slot: an expert's parts, each ALIGN-aligned
 * @y: nr_tokens x top_k rows, by token and choice
 * @part_y, @scratch: of one expert's rows
 * @rows, @places, @scales: of one expert: row of x, row of y, factor on the input
 * @parts: where experts are in memory, or NULL: they are read
 */
struct decoder_plain {
	struct penstock_model *model;
	struct penstock_pool *pool;
	struct decoder_names names;
	struct open_file *files;
	size_t nr_files;
	struct penstock_layer_info info;
	uint32_t layer;
	void *slot;
	size_t slot_len;
	size_t max_rows;
	size_t hidden;
	float *y;
	float *part_y;
	uint32_t *rows;
	uint32_t *places;
	float *scales;
	void *scratch;
	size_t scratch_len;
	uint64_t bytes;
	int (*parts)(void *arg, uint32_t layer, uint32_t expert, const void *ptr[PENSTOCK_MAX_PARTS],
		     struct penstock_error *err);
	void *parts_arg;
};

int decoder_plain_create(struct penstock_model *model, struct penstock_pool *pool, struct decoder_plain **out,
			 struct penstock_error *err)
{
	struct penstock_model_info info = { .size = sizeof(info) };
	struct decoder_plain *p;
	int rc = penstock_model_info(model, &info);

	if (rc)
		return decoder_fail(err, rc, "model information");
	p = calloc(1, sizeof(*p));
	if (!p)
		return decoder_fail(err, -ENOMEM, "plain expert source");
	p->model = model;
	p->pool = pool;
	p->layer = UINT32_MAX;
	decoder_names_find(model, info.format, &p->names);
	*out = p;
	return 0;
}

void decoder_plain_map(struct decoder_plain *p,
		       int (*parts)(void *arg, uint32_t layer, uint32_t expert, const void *ptr[PENSTOCK_MAX_PARTS],
				    struct penstock_error *err),
		       void *arg)
{
	p->parts = parts;
	p->parts_arg = arg;
}

static void free_rows(struct decoder_plain *p)
{
	free(p->y);
	free(p->part_y);
	free(p->rows);
	free(p->places);
	free(p->scales);
	p->y = p->part_y = p->scales = NULL;
	p->rows = p->places = NULL;
	p->max_rows = 0;
}

void decoder_plain_destroy(struct decoder_plain *p)
{
	size_t i;

	if (!p)
		return;
	for (i = 0; i < p->nr_files; i++)
		close(p->files[i].fd);
	free(p->files);
	free_rows(p);
	free(p->slot);
	free(p->scratch);
	free(p);
}

static int descriptor(struct decoder_plain *p, const char *path, int *fd, struct penstock_error *err)
{
	struct open_file *more;
	size_t i;
	int code;

	for (i = 0; i < p->nr_files; i++)
		if (p->files[i].path == path || !strcmp(p->files[i].path, path)) {
			*fd = p->files[i].fd;
			return 0;
		}
	more = realloc(p->files, (p->nr_files + 1) * sizeof(*more));
	if (!more)
		return decoder_fail(err, -ENOMEM, "list of %zu files", p->nr_files + 1);
	p->files = more;
	*fd = open(path, O_RDONLY | O_CLOEXEC);
	if (*fd < 0) {
		code = -errno;
		return decoder_fail(err, code, "open %s", path);
	}
	p->files[p->nr_files++] = (struct open_file){ path, *fd };
	return 0;
}

static int read_extent(struct decoder_plain *p, const struct decoder_extent *e, char *dst, struct penstock_error *err)
{
	uint64_t done = 0;
	ssize_t got;
	int fd = -1, rc = descriptor(p, e->file, &fd, err);

	while (!rc && done < e->len) {
		got = pread(fd, dst + done, e->len - done, (off_t)(e->off + done));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			rc = -errno;
			return decoder_fail(err, rc, "read %s off %llu len %llu", e->file,
					    (unsigned long long)(e->off + done), (unsigned long long)(e->len - done));
		}
		if (!got)
			return decoder_fail(err, -ENODATA, "%s ends at %llu, %llu bytes short", e->file,
					    (unsigned long long)(e->off + done), (unsigned long long)(e->len - done));
		done += (uint64_t)got;
	}
	p->bytes += done;
	return rc;
}

static int room(void **mem, size_t *len, size_t want, struct penstock_error *err)
{
	if (want <= *len)
		return 0;
	free(*mem);
	*len = 0;
	want = (want + ALIGN - 1) / ALIGN * ALIGN;
	*mem = aligned_alloc(ALIGN, want);
	if (!*mem)
		return decoder_fail(err, -ENOMEM, "%zu bytes for an expert", want);
	*len = want;
	return 0;
}

static int read_expert(struct decoder_plain *p, uint32_t expert, struct penstock_k_expert *view,
		       struct penstock_error *err)
{
	struct decoder_extent ext[PENSTOCK_MAX_PARTS];
	const void *ptr[PENSTOCK_MAX_PARTS] = { NULL };
	size_t off = 0;
	uint32_t i;
	int rc;

	if (p->parts) {
		rc = p->parts(p->parts_arg, p->layer, expert, ptr, err);
		return rc ? rc : penstock_expert_view(&p->info, ptr, view, err);
	}
	rc = decoder_extents(p->model, &p->names, &p->info, p->layer, expert, ext, err);
	for (i = 0; i < p->info.nr_parts && !rc; i++)
		if (ext[i].len > SIZE_MAX / 2 - off - ALIGN)
			rc = decoder_fail(err, -EINVAL, "expert of more bytes than there are addresses");
		else
			off += (ext[i].len + ALIGN - 1) / ALIGN * ALIGN;
	if (!rc)
		rc = room(&p->slot, &p->slot_len, off, err);
	for (i = 0, off = 0; i < p->info.nr_parts && !rc; i++) {
		ptr[i] = (char *)p->slot + off;
		rc = read_extent(p, &ext[i], (char *)p->slot + off, err);
		off += (ext[i].len + ALIGN - 1) / ALIGN * ALIGN;
	}
	return rc ? rc : penstock_expert_view(&p->info, ptr, view, err);
}

static int make_rows(struct decoder_plain *p, size_t nr, struct penstock_error *err)
{
	size_t floats;

	if (nr <= p->max_rows && p->hidden == p->info.hidden)
		return 0;
	free_rows(p);
	if (__builtin_mul_overflow(nr, (size_t)p->info.hidden * sizeof(float), &floats))
		return decoder_fail(err, -ENOMEM, "%zu rows of %u", nr, p->info.hidden);
	p->y = malloc(floats);
	p->part_y = malloc(floats);
	p->rows = calloc(nr, sizeof(*p->rows));
	p->places = calloc(nr, sizeof(*p->places));
	p->scales = calloc(nr, sizeof(*p->scales));
	if (!p->y || !p->part_y || !p->rows || !p->places || !p->scales)
		return decoder_fail(err, -ENOMEM, "%zu rows of %u", nr, p->info.hidden);
	p->max_rows = nr;
	p->hidden = p->info.hidden;
	return 0;
}

/* One expert on all its rows, in order of token. */
static int one_expert(struct decoder_plain *p, const struct penstock_moe *moe, int32_t expert, size_t from,
		      struct penstock_error *err)
{
	size_t i, n = 0, nr = moe->nr_tokens * moe->top_k, hidden = p->info.hidden;
	bool in = p->info.router_flags & PENSTOCK_ROUTER_F_INPUT_SCALE;
	struct penstock_k_expert view;
	int rc = read_expert(p, (uint32_t)expert, &view, err);

	for (i = from; i < nr && !rc; i++)
		if (moe->ids[i] == expert) {
			p->rows[n] = (uint32_t)(i / moe->top_k);
			p->places[n] = (uint32_t)i;
			p->scales[n++] = moe->weights[i];
		}
	if (!rc)
		rc = room(&p->scratch, &p->scratch_len, penstock_k_expert_scratch(&view, n) + ALIGN, err);
	if (rc)
		return rc;
	rc = penstock_k_expert_ffn(p->pool, &view, moe->x, moe->ldx, p->rows, in ? p->scales : NULL, n, p->part_y,
				   hidden, p->scratch);
	if (rc)
		return decoder_fail(err, rc, "layer %u expert %d on %zu tokens", p->layer, expert, n);
	for (i = 0; i < n; i++)
		memcpy(p->y + p->places[i] * hidden, p->part_y + i * hidden, hidden * sizeof(float));
	return 0;
}

static int enter_layer(struct decoder_plain *p, const struct penstock_moe *moe, struct penstock_error *err)
{
	int rc;

	if (p->layer != moe->layer) {
		p->layer = UINT32_MAX;
		p->info.size = sizeof(p->info);
		rc = penstock_layer_info(p->model, moe->layer, &p->info);
		if (rc)
			return decoder_fail(err, rc, "layer %u", moe->layer);
		p->layer = moe->layer;
	}
	if (!moe->nr_tokens || !moe->top_k || moe->nr_tokens > UINT32_MAX / moe->top_k)
		return decoder_fail(err, -EINVAL, "layer %u: %zu tokens of %u experts", moe->layer, moe->nr_tokens,
				    moe->top_k);
	return make_rows(p, moe->nr_tokens * moe->top_k, err);
}

int decoder_plain_forward(void *arg, const struct penstock_moe *moe, struct penstock_error *err)
{
	struct decoder_plain *p = arg;
	size_t i, nr = moe->nr_tokens * moe->top_k;
	bool in, *done;
	int rc = enter_layer(p, moe, err);

	if (rc)
		return rc;
	for (i = 0; i < nr; i++)
		if (moe->ids[i] < 0 || (uint32_t)moe->ids[i] >= p->info.nr_experts)
			return decoder_fail(err, -EINVAL, "layer %u: expert id %d of token %zu is not below %u",
					    moe->layer, moe->ids[i], i / moe->top_k, p->info.nr_experts);
	done = calloc(p->info.nr_experts, sizeof(*done));
	if (!done)
		return decoder_fail(err, -ENOMEM, "marks of %u experts", p->info.nr_experts);
	for (i = 0; i < nr && !rc; i++) {
		if (done[moe->ids[i]])
			continue;
		done[moe->ids[i]] = true;
		rc = one_expert(p, moe, moe->ids[i], i, err);
	}
	free(done);
	if (rc)
		return rc;
	in = p->info.router_flags & PENSTOCK_ROUTER_F_INPUT_SCALE;
	penstock_k_combine(p->pool, p->y, p->info.hidden, in ? NULL : moe->weights, moe->nr_tokens, moe->top_k,
			   p->info.hidden, moe->out, moe->ldout);
	return 0;
}

struct decoder_experts decoder_plain_source(struct decoder_plain *p)
{
	return (struct decoder_experts){ .forward = decoder_plain_forward, .arg = p };
}

uint64_t decoder_plain_bytes(const struct decoder_plain *p)
{
	return p->bytes;
}
