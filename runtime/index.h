/* SPDX-License-Identifier: MIT */
/*
 * The index: what a checkpoint holds, and where each expert's bytes are.
 *
 * index_safetensors.c and index_gguf.c read the files' tables into tensors and
 * metadata, index_folder.c and index_map.c find the files, index_json.c reads the
 * configuration; index_hf.c and index_gguf_keys.c recognise the architecture,
 * index_family.c and index_parts.c describe the layers; index.c opens, sorts,
 * checks and answers. The index is immutable once open.
 */
#ifndef PENSTOCK_INDEX_H
#define PENSTOCK_INDEX_H

#include "flow.h"
#include "store.h"

/*
 * One tensor; compact, since models have 210,000 of them. @dims outermost first.
 * More than four dimensions live behind @more_dims (nr_dims of them).
 */
struct penstock_index_tensor {
	const char *name;
	uint64_t off;		/* in the file */
	uint64_t bytes;
	uint16_t file;
	uint8_t dtype;
	uint8_t nr_dims;
	union {
		uint64_t dims[4];
		uint64_t *more_dims;
	};
};

struct penstock_index_meta {
	const char *key;
	uint32_t order;		/* of appearance: where a JSON file has a key twice, the last one counts */
	struct penstock_meta value;
};

/*
 * Where a part's bytes are: one tensor holding all experts, or one tensor each.
 * @tensors: nr_experts tensor numbers, or NULL
 * @fused: tensor number; expert e starts at e * stride
 */
struct penstock_index_part {
	uint32_t *tensors;
	uint32_t fused;
	uint64_t stride;
};

struct penstock_index_layer {
	struct penstock_layer_info info;	/* slot_bytes and size_class are filled by the context */
	struct penstock_index_part parts[PENSTOCK_MAX_PARTS];
};

struct penstock_index {
	char *path;
	const char *arch;
	uint32_t family;
	uint32_t format;
	struct penstock_store store;
	struct penstock_index_tensor *tensors;	/* sorted by name */
	uint32_t nr_tensors;
	struct penstock_index_meta *meta;	/* sorted by key */
	uint32_t nr_meta;
	struct penstock_index_layer *layers;	/* decoder layers, then MTP layers */
	uint32_t nr_layers;
	uint32_t nr_mtp_layers;
	uint32_t hidden;
	void *arena;				/* names, keys, strings */
};

/**
 * penstock_index_open() - read a checkpoint's tables
 * @path: folder, .safetensors, index JSON, .gguf (any shard)
 *
 * A valid file without experts opens too: layers have no experts then, family
 * may be NONE. Return: 0; -ENOENT, -EACCES ...; -EBADMSG malformed (the text
 * starts with the safetensors library's name of the fault where it has one, such
 * as "HeaderTooLarge"), or tensors and configuration do not fit; -ENODATA a file
 * shorter than its table says; -EOPNOTSUPP an activation or a quantisation of
 * experts that is not known; -EINVAL a folder of several checkpoints; -ENOMEM.
 */
int penstock_index_open(const char *path, struct penstock_index **out, struct penstock_error *err);
/**
 * penstock_index_open_tables() - read and check the files' tables, and nothing else
 * No config.json is read and no layer is described, so that a valid file opens
 * whatever model it belongs to. Return: as penstock_index_open().
 */
int penstock_index_open_tables(const char *path, struct penstock_index **out, struct penstock_error *err);
/**
 * penstock_index_layout() - an index from the caller's own table
 * Return: 0; -EINVAL a table that contradicts itself, with layer, part and numbers; -ENODATA a file
 * shorter than it says; -ENOENT, -EACCES ... of a file; -ENOMEM.
 */
int penstock_index_layout(const struct penstock_layout *layout, struct penstock_index **out,
			  struct penstock_error *err);
/** penstock_index_close() - @ix may be NULL */
void penstock_index_close(struct penstock_index *ix);
/** penstock_index_find() - tensor number, or -ENOENT */
int64_t penstock_index_find(const struct penstock_index *ix, const char *name);
/** penstock_index_meta() - NULL if there is no such key */
const struct penstock_meta *penstock_index_meta(const struct penstock_index *ix, const char *key);
/** penstock_index_tensor_dims() - nr_dims values, outermost first */
const uint64_t *penstock_index_tensor_dims(const struct penstock_index_tensor *t);
/**
 * penstock_index_expert() - the extents of one expert, one a part, in the order of the layer's parts
 * @ext: info.nr_parts records
 * Return: 0; -ENOENT no such layer or expert.
 */
int penstock_index_expert(const struct penstock_index *ix, uint32_t layer, uint32_t expert,
			  struct penstock_extent *ext);
/** penstock_index_part_tensor() - number of the tensor that holds a part of an expert (for messages) */
uint32_t penstock_index_part_tensor(const struct penstock_index *ix, uint32_t layer, uint32_t expert, uint32_t part);

#endif
