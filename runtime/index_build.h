/* SPDX-License-Identifier: MIT */
/*
 * What the files of the index share while it is being built: the arena, the
 * growing tables, the weight map. Nothing outside runtime/index*.c includes this.
 */
#ifndef PENSTOCK_INDEX_BUILD_H
#define PENSTOCK_INDEX_BUILD_H

#include <errno.h>

#include "err.h"
#include "index.h"
#include "util.h"

/* Largest safetensors header, index JSON and config.json: the safetensors library's own limit. */
#define PENSTOCK_INDEX_HEADER_MAX	100000000u
/* Most layers and experts that are believed; the largest models have 126 and 512. */
#define PENSTOCK_INDEX_MAX_LAYERS	4096u
#define PENSTOCK_INDEX_MAX_EXPERTS	65536u
/* Files are numbered in 16 bits. */
#define PENSTOCK_INDEX_MAX_FILES	65535u

/* One line of an index JSON's weight_map. */
struct penstock_index_assign {
	const char *name;
	uint32_t file;		/* number in files[] */
	bool seen;		/* the file does hold it */
};

/*
 * struct penstock_index_map - weight_map: which shard holds which tensor
 * @files: names of shards as written, distinct, in order of first mention
 * @arena: names; freed with the map
 */
struct penstock_index_map {
	struct penstock_index_assign *assigns;
	uint32_t nr_assigns;
	uint32_t cap_assigns;
	const char **files;
	uint32_t nr_files;
	uint32_t cap_files;
	void *arena;
};

/* An index in the making. */
struct penstock_index_build {
	struct penstock_index *ix;
	uint32_t cap_tensors;
	uint32_t cap_meta;
	struct penstock_index_map map;
	bool has_map;
	bool tables_only;	/* no configuration, no layers */
	struct penstock_error *err;
};

/* ---- index_arena.c ---- */

/** penstock_index_alloc() - zeroed memory that lives as long as the arena; NULL: no memory */
void *penstock_index_alloc(void **arena, size_t len);
/** penstock_index_strdup() - a terminated copy of @len bytes */
char *penstock_index_strdup(void **arena, const char *s, size_t len);
void penstock_index_arena_free(void **arena);
/** penstock_index_add_tensor() - a zeroed record at the end of the table, or NULL with the error set */
struct penstock_index_tensor *penstock_index_add_tensor(struct penstock_index_build *b);
/** penstock_index_set_dims() - store @nr dimensions, outermost first. Return: 0; -ENOMEM. */
int penstock_index_set_dims(struct penstock_index_build *b, struct penstock_index_tensor *t, const uint64_t *dims,
			    uint32_t nr);
/** penstock_index_add_meta() - @value's strings must live in the index' arena. Return: 0; -ENOMEM. */
int penstock_index_add_meta(struct penstock_index_build *b, const char *key, size_t key_len,
			    const struct penstock_meta *value);
/** penstock_index_nomem() - record -ENOMEM and return it */
int penstock_index_nomem(struct penstock_index_build *b);

/* ---- index_dtype.c ---- */

/** penstock_index_dtype_st() - by safetensors name; PENSTOCK_DTYPE_NONE if unknown */
uint32_t penstock_index_dtype_st(const char *name, size_t len);
/** penstock_index_dtype_ggml() - by ggml number; PENSTOCK_DTYPE_NONE if unknown */
uint32_t penstock_index_dtype_ggml(uint32_t type);
/** penstock_index_dtype_name() - never NULL */
const char *penstock_index_dtype_name(uint32_t dtype);
/** penstock_index_elems() - product of dimensions. Return: 0; -EOVERFLOW. */
int penstock_index_elems(const uint64_t *dims, uint32_t nr, uint64_t *elems);
/** penstock_index_shape() - "[2, 3]" into @buf, for messages; returns @buf */
const char *penstock_index_shape(const uint64_t *dims, uint32_t nr, char *buf, size_t len);

/* ---- index_json.c ---- */

/** penstock_index_read_whole() - a small file into malloc()ed, terminated memory. Return: 0; -errno; -EBADMSG large. */
int penstock_index_read_whole(const char *path, char **text, size_t *len, struct penstock_error *err);
/** penstock_index_config() - config.json's values into the metadata; a missing file is no error */
int penstock_index_config(struct penstock_index_build *b, const char *path);
/**
 * penstock_index_json() - parse a text as events
 * @callbacks: yajl_callbacks, called with @ctx
 * @rc: where a callback that returns 0 has left its error code
 * Return: 0; *@rc; -EBADMSG not JSON; -ENOMEM.
 */
int penstock_index_json(struct penstock_error *err, const char *path, const void *callbacks, void *ctx, int *rc,
			const char *text, size_t len);

/* ---- index_map.c ---- */

/** penstock_index_map_read() - an index JSON into b->map */
int penstock_index_map_read(struct penstock_index_build *b, const char *path);
void penstock_index_map_free(struct penstock_index_map *map);
/** penstock_index_utf8_valid() - offset of the first bad byte, or @len */
size_t penstock_index_utf8_valid(const unsigned char *s, size_t len);
/** penstock_index_escapes_valid() - no half surrogate pairs and no \u0000 in a JSON text */
bool penstock_index_escapes_valid(const unsigned char *s, size_t len);
/** penstock_index_u64() - digits of a JSON number, nothing else. Return: 0; -EINVAL; -ERANGE. */
int penstock_index_u64(const char *s, size_t len, uint64_t *v);

/* ---- the formats ---- */

/** penstock_index_st_file() - add the tensors of one safetensors file */
int penstock_index_st_file(struct penstock_index_build *b, uint32_t file);
/** penstock_index_st_open() - a folder, an index JSON, or one file */
int penstock_index_st_open(struct penstock_index_build *b, const char *path, bool folder);
/** penstock_index_gguf_open() - a GGUF file, and the other shards of its set */
int penstock_index_gguf_open(struct penstock_index_build *b, const char *path);

/* ---- index_family.c, index_hf.c, index_parts.c ---- */

/* How one family's Hugging Face checkpoints name things, and what its configuration leaves out. */
struct penstock_index_names {
	uint32_t family;
	const char *block;		/* within a layer */
	const char *router;		/* within the block */
	const char *shared;		/* shared expert within the block, or NULL */
	const char *proj[3];		/* gate, up, down */
	bool transposed;		/* fused tensors are [E, in, out] */
	uint32_t fuse;			/* of fused gate and up */
	const char *inter_key;
	uint32_t inter;
	uint32_t hidden;
	uint32_t layers;
	uint32_t experts;
	uint32_t top_k;			/* 0: the configuration must say it */
};

/*
 * The configuration, understood.
 * @keys: what comes before a key: "", "text_config.", "qwen3moe."
 * @layers: what comes before a layer's number: "model.layers.", "blk."
 * @block_rows: weights that one scale covers, from quantization_config
 * @router: fields that all MoE layers have alike
 */
struct penstock_index_conf {
	struct penstock_index_build *b;
	const struct penstock_index_names *names;	/* NULL: GGUF */
	char keys[96];
	char layers[64];
	uint32_t nr_layers;
	uint32_t nr_experts;
	uint32_t nr_shared;		/* 0: none, or unknown width */
	bool shared_required;
	bool select_bias_required;
	uint32_t hidden;
	uint32_t inter;
	uint32_t first_dense;		/* layers before this one are dense */
	uint32_t step;			/* of the others, every @step-th is MoE, (i + 1) % step == 0 */
	const struct penstock_meta *dense_only;	/* numbers of layers that are dense all the same, or NULL */
	const struct penstock_meta *moe_only;	/* numbers of all MoE layers, or NULL */
	uint32_t block_rows;
	uint32_t block_cols;
	struct penstock_layer_info router;
};

/** penstock_index_family() - recognise the architecture and describe all layers */
int penstock_index_family(struct penstock_index_build *b);
/** penstock_index_conf_u() - an integer of the configuration; @def where it is missing. Return: 0; -EBADMSG. */
int penstock_index_conf_u(const struct penstock_index_conf *c, const char *key, uint32_t def, uint32_t *v);
/** penstock_index_conf_f() - a number or boolean of the configuration; @def where it is missing */
double penstock_index_conf_f(const struct penstock_index_conf *c, const char *key, double def);
/** penstock_index_conf_meta() - a value of the configuration, or NULL */
const struct penstock_meta *penstock_index_conf_meta(const struct penstock_index_conf *c, const char *key);
/** penstock_index_hf() - understand config.json. Return: 0; 1 unknown architecture; -EBADMSG. */
int penstock_index_hf(struct penstock_index_conf *c);
/** penstock_index_gguf() - understand GGUF's keys. Return: 0; 1 unknown architecture; -EBADMSG. */
int penstock_index_gguf(struct penstock_index_conf *c);

/* Per-expert tensors as found on disk: [role][form][expert], NULL where there are none. */
enum penstock_index_form { PENSTOCK_FORM_WEIGHT = 0, PENSTOCK_FORM_PACKED, PENSTOCK_FORM_SCALE, PENSTOCK_FORMS };

struct penstock_index_scan {
	uint32_t *experts[3][PENSTOCK_FORMS];
	bool scale_inv;		/* scales are weight_scale_inv: in blocks of the configured size */
	bool any;		/* some expert, fused or not */
};

/**
 * penstock_index_parts() - describe the experts of one layer
 * @scan: its per-expert tensors
 * Return: 0; -EBADMSG a shape or type that does not fit; -ENOMEM.
 */
int penstock_index_parts(const struct penstock_index_conf *c, uint32_t layer, const struct penstock_index_scan *scan);
/** penstock_index_fused_exists() - does the layer have tensors that hold all its experts? */
bool penstock_index_fused_exists(const struct penstock_index_conf *c, uint32_t layer);
/**
 * penstock_index_want() - a tensor of a layer with the shape that the configuration implies
 * @dims: nr_dims dimensions, outermost first; NULL: not checked
 * @nr: receives its number, or PENSTOCK_NO_TENSOR
 * Return: 0, also when there is none; -EBADMSG another shape.
 */
int penstock_index_want(const struct penstock_index_conf *c, uint32_t layer, const char *name, const uint64_t *dims,
			uint32_t nr_dims, uint32_t *nr);

#endif
