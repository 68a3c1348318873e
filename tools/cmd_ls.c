// SPDX-License-Identifier: MIT
/*
 * `penstock ls`: what a checkpoint holds. It reads the index and nothing else, so
 * it needs no cache budget, no device and no room for an expert. Slot bytes and
 * size classes are those that a context would make on these files.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <penstock/penstock.h>

#include "../runtime/index.h"
#include "../runtime/plan.h"
#include "cmd.h"
#include "out.h"

/* Starts of extents are counted by the largest of these that they are a multiple of. */
static const uint32_t aligns[] = { 4096, 512, 64, 16, 8, 4, 2, 1 };

#define NR_ALIGNS (sizeof(aligns) / sizeof(aligns[0]))

/* Layers whose experts have one size, as a context groups them. */
struct ls_class {
	uint64_t expert_bytes;
	uint64_t slot_bytes;
	uint32_t nr_parts;
	uint32_t nr_layers;
	uint64_t nr_experts;
};

struct ls {
	struct penstock_index *ix;
	struct ls_class *classes;
	uint32_t nr_classes;
	uint32_t *file_align;
	uint64_t *file_experts;		/* expert bytes in each file */
	uint64_t *file_tensors;
	uint64_t starts[NR_ALIGNS];
	uint64_t nr_extents;
	uint64_t expert_bytes;		/* decoder layers */
	uint64_t mtp_bytes;
	uint64_t token_bytes;
	uint64_t tensor_bytes;
	uint32_t nr_moe;
	uint32_t top_k;
};

static void usage(FILE *f)
{
	fputs("usage: penstock ls [--json] MODEL\n"
	      "       penstock ls --tensors [--json] FILE\n"
	      "\n"
	      "List a checkpoint: a Hugging Face folder, a .safetensors file, its index JSON,\n"
	      "or a .gguf file (any shard of a split set).\n"
	      "\n"
	      "  -t, --tensors  every tensor of any safetensors or GGUF file, with or without\n"
	      "                 experts; exits with 0 exactly when the file is valid\n"
	      "  -j, --json     one JSON object\n"
	      "  -h, --help     this text\n"
	      "\n"
	      "examples:\n"
	      "  penstock ls /models/Qwen3-30B-A3B\n"
	      "  penstock ls --tensors model-00001-of-00016.safetensors\n", f);
}

static const char *family_name(uint32_t family)
{
	static const char *const names[] = {
		[PENSTOCK_FAMILY_NONE] = "none",
		[PENSTOCK_FAMILY_MIXTRAL] = "mixtral",
		[PENSTOCK_FAMILY_QWEN3_MOE] = "qwen3_moe",
		[PENSTOCK_FAMILY_OLMOE] = "olmoe",
		[PENSTOCK_FAMILY_DEEPSEEK2] = "deepseek2",
		[PENSTOCK_FAMILY_DEEPSEEK3] = "deepseek3",
		[PENSTOCK_FAMILY_GLM4_MOE] = "glm4_moe",
		[PENSTOCK_FAMILY_LLAMA4] = "llama4",
		[PENSTOCK_FAMILY_GPT_OSS] = "gpt_oss",
	};

	return family < sizeof(names) / sizeof(names[0]) && names[family] ? names[family] : "unknown";
}

static const char *format_name(uint32_t format)
{
	return format == PENSTOCK_FORMAT_GGUF ? "gguf" : "safetensors";
}

static const char *dtype_name(uint32_t dtype)
{
	const struct penstock_dtype_info *d = penstock_dtype_info(dtype);

	return d ? d->name : "unknown";
}

static const char *layer_kind_name(uint32_t kind)
{
	return kind == PENSTOCK_LAYER_MOE ? "moe" : kind == PENSTOCK_LAYER_MTP ? "mtp" : "dense";
}

static const char *role_name(uint32_t role)
{
	static const char *const names[] = { "gate", "up", "down", "gate_up" };

	return role < sizeof(names) / sizeof(names[0]) ? names[role] : "unknown";
}

static const char *kind_name(uint32_t kind)
{
	static const char *const names[] = { "weight", "scale", "bias" };

	return kind < sizeof(names) / sizeof(names[0]) ? names[kind] : "unknown";
}

static const char *fuse_name(uint32_t fuse)
{
	return fuse == PENSTOCK_FUSE_HALVES ? "halves" : fuse == PENSTOCK_FUSE_INTERLEAVED ? "interleaved" : "none";
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* ---- gathering ---- */

static struct ls_class *class_of(struct ls *s, const struct penstock_layer_info *info)
{
	struct ls_class *c;
	uint32_t i;

	for (i = 0; i < s->nr_classes; i++) {
		c = &s->classes[i];
		if (c->expert_bytes == info->expert_bytes && c->nr_parts == info->nr_parts)
			return c;
	}
	c = &s->classes[s->nr_classes++];
	c->expert_bytes = info->expert_bytes;
	c->nr_parts = info->nr_parts;
	return c;
}

static void count_start(struct ls *s, uint64_t off)
{
	size_t i = 0;

	while (off % aligns[i])
		i++;
	s->starts[i]++;
	s->nr_extents++;
}

static int add_expert(struct ls *s, uint32_t layer, uint32_t expert, uint64_t *slot_bytes, struct penstock_error *err)
{
	const struct penstock_layer_info *info = &s->ix->layers[layer].info;
	struct penstock_range ranges[PENSTOCK_MAX_PARTS];
	struct penstock_extent ext[PENSTOCK_MAX_PARTS];
	uint64_t part_off[PENSTOCK_MAX_PARTS];
	uint32_t nr_ranges, i;
	int rc;

	rc = penstock_index_expert(s->ix, layer, expert, ext);
	if (rc)
		return rc;
	for (i = 0; i < info->nr_parts; i++) {
		if (!ext[i].len)
			continue;
		s->file_experts[ext[i].file] += ext[i].len;
		count_start(s, ext[i].off);
	}
	rc = penstock_plan_expert(ext, info->nr_parts, s->file_align, ranges, &nr_ranges, part_off, slot_bytes);
	if (rc)
		snprintf(err->text, sizeof(err->text), "layer %u, expert %u cannot be laid out: %s", layer, expert,
			 strerror(-rc));
	return rc;
}

static int add_layer(struct ls *s, uint32_t layer, struct penstock_error *err)
{
	struct penstock_layer_info *info = &s->ix->layers[layer].info;
	uint64_t bytes, most = 0;
	struct ls_class *c;
	uint32_t e;
	int rc;

	for (e = 0; e < info->nr_experts; e++) {
		rc = add_expert(s, layer, e, &bytes, err);
		if (rc)
			return rc;
		most = bytes > most ? bytes : most;
	}
	if (info->kind == PENSTOCK_LAYER_MTP) {
		s->mtp_bytes += info->nr_experts * info->expert_bytes;
		info->slot_bytes = most;
		return 0;
	}
	c = class_of(s, info);
	c->slot_bytes = most > c->slot_bytes ? most : c->slot_bytes;
	c->nr_layers++;
	c->nr_experts += info->nr_experts;
	info->size_class = (uint32_t)(c - s->classes);
	s->nr_moe++;
	s->top_k = info->top_k > s->top_k ? info->top_k : s->top_k;
	s->expert_bytes += info->nr_experts * info->expert_bytes;
	s->token_bytes += info->top_k * info->expert_bytes;
	return 0;
}

static int gather(struct ls *s, struct penstock_error *err)
{
	struct penstock_index *ix = s->ix;
	uint32_t i;
	int rc;

	s->classes = calloc(ix->nr_layers ? ix->nr_layers : 1, sizeof(*s->classes));
	s->file_align = calloc(ix->store.nr_files + 1, sizeof(*s->file_align));
	s->file_experts = calloc(ix->store.nr_files + 1, sizeof(*s->file_experts));
	s->file_tensors = calloc(ix->store.nr_files + 1, sizeof(*s->file_tensors));
	if (!s->classes || !s->file_align || !s->file_experts || !s->file_tensors) {
		snprintf(err->text, sizeof(err->text), "out of memory");
		return -ENOMEM;
	}
	for (i = 0; i < ix->nr_tensors; i++) {
		s->tensor_bytes += ix->tensors[i].bytes;
		s->file_tensors[ix->tensors[i].file]++;
	}
	for (i = 0; i < ix->store.nr_files; i++) {
		rc = penstock_store_probe(&ix->store, i, false, err);
		if (rc)
			return rc;
		s->file_align[i] = ix->store.files[i].align;
	}
	for (i = 0; i < ix->nr_layers + ix->nr_mtp_layers; i++) {
		if (!ix->layers[i].info.nr_experts)
			continue;
		rc = add_layer(s, i, err);
		if (rc)
			return rc;
	}
	return 0;
}

/* ---- writing ---- */

static void put_parts_text(struct out *o, const struct penstock_layer_info *info)
{
	char text[512] = "-";
	size_t len = 0;
	uint32_t i;

	for (i = 0; i < info->nr_parts && len < sizeof(text); i++) {
		const struct penstock_part *p = &info->parts[i];

		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s%s%s %s %" PRIu64 "x%" PRIu64,
					i ? ", " : "", role_name(p->role), p->kind ? " " : "",
					p->kind ? kind_name(p->kind) : "", dtype_name(p->dtype), p->rows, p->cols);
	}
	out_str(o, "parts", NULL, text);
}

static void put_parts(struct out *o, const struct penstock_layer_info *info)
{
	uint32_t i;

	put_parts_text(o, info);
	out_rows_begin(o, NULL, "parts");
	for (i = 0; i < info->nr_parts; i++) {
		const struct penstock_part *p = &info->parts[i];

		out_row_begin(o);
		out_str(o, NULL, "role", role_name(p->role));
		out_str(o, NULL, "kind", kind_name(p->kind));
		out_str(o, NULL, "dtype", dtype_name(p->dtype));
		out_str(o, NULL, "fuse", fuse_name(p->fuse));
		out_u64(o, NULL, "rows", p->rows);
		out_u64(o, NULL, "cols", p->cols);
		out_u64(o, NULL, "row_stride_bytes", p->row_stride);
		out_u64(o, NULL, "col_stride_bytes", p->col_stride);
		out_u64(o, NULL, "block_rows", p->block_rows);
		out_u64(o, NULL, "block_cols", p->block_cols);
		out_u64(o, NULL, "bytes", p->bytes);
		out_row_end(o);
	}
	out_rows_end(o);
}

static void put_layers(struct out *o, const struct ls *s)
{
	const struct penstock_index *ix = s->ix;
	uint32_t i;

	out_rows_begin(o, "layers", "layers");
	for (i = 0; i < ix->nr_layers + ix->nr_mtp_layers; i++) {
		const struct penstock_layer_info *info = &ix->layers[i].info;
		bool moe = info->kind == PENSTOCK_LAYER_MOE;

		out_row_begin(o);
		out_u64(o, "layer", "layer", i);
		out_str(o, "kind", "kind", layer_kind_name(info->kind));
		out_u64(o, "experts", "experts", info->nr_experts);
		out_u64(o, "top-k", "top_k", info->top_k);
		out_u64(o, "inter", "inter", info->inter);
		out_bytes(o, "expert", "expert_bytes", info->expert_bytes);
		if (moe)
			out_u64(o, "class", "size_class", info->size_class);
		else
			out_null(o, "class", "size_class");
		out_bytes(o, "slot", "slot_bytes", moe ? s->classes[info->size_class].slot_bytes : info->slot_bytes);
		put_parts(o, info);
		out_row_end(o);
	}
	out_rows_end(o);
}

static void put_classes(struct out *o, const struct ls *s)
{
	uint32_t i;

	out_rows_begin(o, "size classes", "size_classes");
	for (i = 0; i < s->nr_classes; i++) {
		const struct ls_class *c = &s->classes[i];

		out_row_begin(o);
		out_u64(o, "class", "size_class", i);
		out_u64(o, "layers", "layers", c->nr_layers);
		out_u64(o, "experts", "experts", c->nr_experts);
		out_u64(o, "parts", "parts", c->nr_parts);
		out_bytes(o, "expert", "expert_bytes", c->expert_bytes);
		out_bytes(o, "slot", "slot_bytes", c->slot_bytes);
		out_row_end(o);
	}
	out_rows_end(o);
}

static void put_starts(struct out *o, const struct ls *s)
{
	size_t i;

	out_rows_begin(o, "where parts of experts start (largest alignment)", "expert_starts");
	for (i = 0; i < NR_ALIGNS; i++) {
		out_row_begin(o);
		out_u64(o, "multiple of", "align_bytes", aligns[i]);
		out_u64(o, "parts", "parts", s->starts[i]);
		out_f64(o, "share", "share_pct",
			s->nr_extents ? 100.0 * (double)s->starts[i] / (double)s->nr_extents : 0, 1, "%");
		out_row_end(o);
	}
	out_rows_end(o);
}

static void put_shards(struct out *o, const struct ls *s)
{
	const struct penstock_store *st = &s->ix->store;
	uint32_t i;

	out_rows_begin(o, "shards", "shards");
	for (i = 0; i < st->nr_files; i++) {
		out_row_begin(o);
		out_str(o, "file", "file", base_name(st->files[i].path));
		out_bytes(o, "size", "size_bytes", st->files[i].size);
		out_u64(o, "tensors", "tensors", s->file_tensors[i]);
		out_bytes(o, "experts", "expert_bytes", s->file_experts[i]);
		out_u64(o, "read alignment", "align_bytes", st->files[i].align);
		out_row_end(o);
	}
	out_rows_end(o);
}

static int list_model(struct penstock_index *ix, const char *path, bool json)
{
	struct penstock_error err = { 0 };
	struct ls s = { .ix = ix };
	struct out *o = NULL;
	int rc, code;

	rc = gather(&s, &err);
	if (rc) {
		code = cmd_error("ls", CMD_FAILED, "%s", err.text);
	} else if (!s.nr_extents) {
		code = cmd_error("ls", CMD_FAILED,
				 "%s: valid, but no experts in it (%u tensors, architecture %s); "
				 "`penstock ls --tensors` lists tensors", path, ix->nr_tensors,
				 ix->arch ? ix->arch : "unknown");
	} else if (!(o = out_begin("penstock.ls/1", json))) {
		code = cmd_error("ls", CMD_FAILED, "out of memory");
	} else {
		out_str(o, "model", "model", path);
		out_str(o, "architecture", "arch", ix->arch);
		out_str(o, "family", "family", family_name(ix->family));
		out_str(o, "format", "format", format_name(ix->format));
		out_u64(o, "files", "files", ix->store.nr_files);
		out_u64(o, "tensors", "tensors", ix->nr_tensors);
		out_u64(o, "hidden", "hidden", ix->hidden);
		out_u64(o, "top-k", "top_k", s.top_k);
		out_u64(o, "layers", "nr_layers", ix->nr_layers);
		out_u64(o, "layers with experts", "nr_moe_layers", s.nr_moe);
		out_u64(o, "MTP layers", "nr_mtp_layers", ix->nr_mtp_layers);
		out_bytes(o, "all bytes", "total_bytes", s.tensor_bytes);
		out_bytes(o, "expert bytes", "expert_bytes", s.expert_bytes);
		out_bytes(o, "MTP expert bytes", "mtp_expert_bytes", s.mtp_bytes);
		out_bytes(o, "other bytes", "dense_bytes", s.tensor_bytes - s.expert_bytes - s.mtp_bytes);
		out_bytes(o, "expert bytes a token", "token_bytes", s.token_bytes);
		put_layers(o, &s);
		put_classes(o, &s);
		put_starts(o, &s);
		put_shards(o, &s);
		code = cmd_out_end("ls", o, CMD_GOOD);
	}
	free(s.classes);
	free(s.file_align);
	free(s.file_experts);
	free(s.file_tensors);
	return code;
}

static int list_tensors(struct penstock_index *ix, const char *path, bool json)
{
	struct out *o = out_begin("penstock.ls.tensors/1", json);
	char shape[PENSTOCK_MAX_DIMS * 21 + 8];
	uint32_t i, d;
	size_t len;

	if (!o)
		return cmd_error("ls", CMD_FAILED, "out of memory");
	out_str(o, "file", "file", path);
	out_str(o, "format", "format", format_name(ix->format));
	out_str(o, "architecture", "arch", ix->arch);
	out_u64(o, "files", "files", ix->store.nr_files);
	out_u64(o, "metadata keys", "metadata_keys", ix->nr_meta);
	out_u64(o, "tensors", "nr_tensors", ix->nr_tensors);
	out_rows_begin(o, "tensors", "tensors");
	for (i = 0; i < ix->nr_tensors; i++) {
		const struct penstock_index_tensor *t = &ix->tensors[i];
		const uint64_t *dims = penstock_index_tensor_dims(t);

		len = 0;
		shape[0] = 0;
		for (d = 0; d < t->nr_dims && len + 22 < sizeof(shape); d++)
			len += (size_t)snprintf(shape + len, sizeof(shape) - len, "%s%" PRIu64, d ? "x" : "", dims[d]);
		out_row_begin(o);
		out_str(o, "name", "name", t->name);
		out_str(o, "dtype", "dtype", dtype_name(t->dtype));
		out_str(o, "shape", NULL, *shape ? shape : "scalar");
		out_u64s(o, NULL, "dims", dims, t->nr_dims);
		out_u64(o, "offset", "off_bytes", t->off);
		out_u64(o, "bytes", "len_bytes", t->bytes);
		out_str(o, ix->store.nr_files > 1 ? "in" : NULL, "in", base_name(ix->store.files[t->file].path));
		out_row_end(o);
	}
	out_rows_end(o);
	return cmd_out_end("ls", o, CMD_GOOD);
}

int cmd_ls(int argc, char **argv)
{
	static const struct option options[] = {
		{ "tensors", no_argument, NULL, 't' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct penstock_error err = { 0 };
	bool json = false, tensors = false;
	struct penstock_index *ix;
	int c, rc;

	optind = 0;
	while ((c = getopt_long(argc, argv, "tjh", options, NULL)) != -1) {
		switch (c) {
		case 't':
			tensors = true;
			break;
		case 'j':
			json = true;
			break;
		case 'h':
			usage(stdout);
			return CMD_GOOD;
		default:
			return CMD_USAGE;
		}
	}
	if (argc - optind != 1) {
		usage(stderr);
		return CMD_USAGE;
	}
	/* a file is valid or not whatever the model it belongs to looks like */
	rc = (tensors ? penstock_index_open_tables : penstock_index_open)(argv[optind], &ix, &err);
	if (rc)
		return cmd_error("ls", CMD_FAILED, "%s", err.text);
	rc = tensors ? list_tensors(ix, argv[optind], json) : list_model(ix, argv[optind], json);
	penstock_index_close(ix);
	return rc;
}
