/* SPDX-License-Identifier: MIT */
/* Tiny Hugging Face checkpoints, and what is expected of their layers, for tests of the index. */
#ifndef PENSTOCK_TESTS_INDEX_LAYERS_H
#define PENSTOCK_TESTS_INDEX_LAYERS_H

#include <kabi.h>
#include "index_files.h"

#define H 64
#define I 32

static UNUSED const char *const llama[] = { "gate_proj", "up_proj", "down_proj" };
static UNUSED const char *const mixtral[] = { "w1", "w3", "w2" };

/* One tensor an expert and matrix. */
static UNUSED void experts(struct st_file *f, const char *prefix, uint32_t nr, const char *const *proj,
			   const char *dtype)
{
	uint32_t e, p;

	for (e = 0; e < nr; e++)
		for (p = 0; p < 3; p++)
			STF(f, dtype, p == 2 ? DIMS(H, I) : DIMS(I, H), "%sexperts.%u.%s.weight", prefix, e, proj[p]);
}

static UNUSED void shared(struct st_file *f, const char *prefix, long width)
{
	uint32_t p;

	for (p = 0; p < 3; p++)
		STF(f, "BF16", p == 2 ? DIMS(H, width) : DIMS(width, H), "%s%s.weight", prefix, llama[p]);
}

static UNUSED struct penstock_index *finish(const char *dir, struct st_file *f, const char *config)
{
	st_write(f, path_in(dir, "model.safetensors"));
	text_write(path_in(dir, "config.json"), config);
	return open_good(dir);
}

static UNUSED void refused(const char *dir, struct st_file *f, const char *config, int code, const char *text)
{
	st_write(f, path_in(dir, "model.safetensors"));
	text_write(path_in(dir, "config.json"), config);
	EXPECT_REFUSED(dir, code, text);
}

/* A part is where its tensor says, for this expert. */
static UNUSED void expect_at(const struct penstock_index *ix, uint32_t layer, uint32_t expert, uint32_t part,
			     const char *name, uint64_t off, uint64_t len)
{
	struct penstock_extent ext[PENSTOCK_MAX_PARTS];
	const struct penstock_index_tensor *t = tensor(ix, name);

	ASSERT_EQ(0, penstock_index_expert(ix, layer, expert, ext));
	EXPECT_STREQ(name, name_of(ix, penstock_index_part_tensor(ix, layer, expert, part)));
	EXPECT_EQ(t->off + off, ext[part].off);
	EXPECT_EQ(len, ext[part].len);
	EXPECT_EQ((uint32_t)t->file, ext[part].file);
	EXPECT_EQ(part, ext[part].part);
}

static UNUSED void expect_part(const struct penstock_index *ix, uint32_t layer, uint32_t nr, struct penstock_part want)
{
	const struct penstock_part *p = &ix->layers[layer].info.parts[nr];

	printf("# layer %u part %u\n", layer, nr);
	EXPECT_EQ(want.role, p->role);
	EXPECT_EQ(want.kind, p->kind);
	EXPECT_EQ(want.dtype, p->dtype);
	EXPECT_EQ(want.fuse, p->fuse);
	EXPECT_EQ(want.rows, p->rows);
	EXPECT_EQ(want.cols, p->cols);
	EXPECT_EQ(want.row_stride, p->row_stride);
	EXPECT_EQ(want.col_stride, p->col_stride);
	EXPECT_EQ(want.block_rows, p->block_rows);
	EXPECT_EQ(want.block_cols, p->block_cols);
	EXPECT_EQ(want.bytes, p->bytes);
}

#define PART(r, k, t, f, rows, cols, rs, cs, br, bc, bytes) ((struct penstock_part){ PENSTOCK_ROLE_##r, \
	PENSTOCK_KIND_##k, PENSTOCK_DTYPE_##t, PENSTOCK_FUSE_##f, rows, cols, rs, cs, br, bc, bytes })

static UNUSED const struct penstock_layer_info *layer(const struct penstock_index *ix, uint32_t nr, uint32_t kind)
{
	const struct penstock_layer_info *info;

	ASSERT_TRUE(nr < ix->nr_layers + ix->nr_mtp_layers);
	info = &ix->layers[nr].info;
	EXPECT_EQ(kind, info->kind);
	EXPECT_EQ(sizeof(*info), info->size);
	return info;
}

#define MIXTRAL_CONF "{\"model_type\": \"mixtral\", \"num_hidden_layers\": 2, \"hidden_size\": 64," \
	"\"intermediate_size\": 32, \"num_local_experts\": 3, \"hidden_act\": \"silu\"}"

static UNUSED void mixtral_file(struct st_file *f)
{
	uint32_t l;
	char p[64];

	for (l = 0; l < 2; l++) {
		snprintf(p, sizeof(p), "model.layers.%u.block_sparse_moe.", l);
		experts(f, p, 3, mixtral, "BF16");
		STF(f, "BF16", DIMS(3, H), "%sgate.weight", p);
	}
	ST(f, "model.embed_tokens.weight", "BF16", 10, H);
}

#endif
