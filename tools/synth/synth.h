/* SPDX-License-Identifier: MIT */
/*
 * `penstock synth`: complete checkpoints of any shape with random weights.
 *
 *   model.c    which tensors there are, in which order, under which names
 *   routing.c  the weights that decide which experts a token visits
 *   gen.c      a tensor's bytes, from the seed, in pieces of any size
 *   sink.c     a file that is written in large pieces and leaves the page cache alone
 *   writer.c   temporary name, all tensors, publish by rename; the formats are
 *              write_safetensors.c and write_gguf.c
 *
 * The bytes of a tensor depend on the seed, its role, its layer and its expert
 * only: both formats, and any sharding, hold the same model.
 */
#ifndef PENSTOCK_SYNTH_H
#define PENSTOCK_SYNTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <penstock/penstock.h>

enum synth_arch { SYNTH_QWEN3_MOE = 0, SYNTH_MIXTRAL, SYNTH_OLMOE, SYNTH_NR_ARCHS };

/**
 * struct synth_config - what to write
 * @arch: enum synth_arch
 * @format: enum penstock_format
 * @dtype: enum penstock_dtype of the experts: BF16, F16, F32; in safetensors also F8_E4M3, in GGUF Q8_0, Q4_0
 * @skew: exponent of the Zipf law of the experts' popularity, 0 = none
 * @shard_bytes: safetensors: tensor bytes a file
 * @align: GGUF: general.alignment, a power of two
 */
struct synth_config {
	uint32_t arch;
	uint32_t format;
	uint32_t dtype;
	uint32_t layers;
	uint32_t experts;
	uint32_t top_k;
	uint32_t hidden;
	uint32_t inter;
	uint32_t vocab;
	uint32_t heads;
	uint32_t kv_heads;
	uint32_t head_dim;
	uint64_t seed;
	double skew;
	uint64_t shard_bytes;
	uint32_t align;
};

enum synth_role {
	SYNTH_EMBED = 0, SYNTH_HEAD, SYNTH_FINAL_NORM, SYNTH_ATTN_NORM, SYNTH_FFN_NORM,
	SYNTH_Q, SYNTH_K, SYNTH_V, SYNTH_O, SYNTH_Q_NORM, SYNTH_K_NORM, SYNTH_ROUTER,
	SYNTH_GATE, SYNTH_UP, SYNTH_DOWN, SYNTH_NR_ROLES
};

/**
 * struct synth_tensor - one tensor of the checkpoint
 * @role: enum synth_role
 * @layer: UINT32_MAX outside the layers
 * @expert: the first expert, for the three expert roles
 * @nr: experts in it: 1 (safetensors) or all (GGUF)
 * @rows, @cols: of one matrix; vectors have one row
 * @nr_dims: 1, 2, or 3 with the experts outermost
 * @dtype: enum penstock_dtype
 * @scale: the FP8 scales (128 x 128) of the expert, not its weights
 * @bytes: of all of it
 */
struct synth_tensor {
	uint32_t role;
	uint32_t layer;
	uint32_t expert;
	uint32_t nr;
	uint64_t rows;
	uint64_t cols;
	uint32_t nr_dims;
	uint32_t dtype;
	bool scale;
	uint64_t bytes;
};

struct synth_model {
	struct synth_config cfg;
	struct synth_tensor *tensors;
	uint32_t nr_tensors;
	uint64_t total_bytes;
	uint64_t expert_bytes;
	float *normals;		/* gen.c: quantiles of the normal distribution */
};

/** struct synth_arch_info - names of an architecture */
struct synth_arch_info {
	const char *name;	/* model_type of config.json */
	const char *gguf;	/* general.architecture */
	const char *hf_class;
	double rope_base;
	double eps;
};

/** synth_arch_info() - @arch must be valid */
const struct synth_arch_info *synth_arch_info(uint32_t arch);

/**
 * synth_config_size() - choose layers, experts, top_k, hidden and inter that are 0 so that about @bytes are written
 * Widths grow with the size; a model of 4 GiB looks like a small Qwen3-MoE.
 */
void synth_config_size(struct synth_config *cfg, uint64_t bytes);
/** synth_config_default() - fill what is still 0 */
void synth_config_default(struct synth_config *cfg);

/**
 * synth_model_create() - check a configuration and list its tensors
 * Return: 0; -EINVAL a value or combination that no model has, with its name; -EOVERFLOW too large; -ENOMEM.
 */
int synth_model_create(const struct synth_config *cfg, struct synth_model **out, struct penstock_error *err);
void synth_model_destroy(struct synth_model *m);

#define SYNTH_NAME_MAX 128
/** synth_tensor_name() - the name in the model's format; Return: @buf */
const char *synth_tensor_name(const struct synth_model *m, const struct synth_tensor *t, char *buf, size_t len);

/* ---- routing.c ---- */

/**
 * synth_routing_row() - one row of a tensor outside the experts
 * @row: first row is 0
 * @out: t->cols floats
 */
void synth_routing_row(const struct synth_model *m, const struct synth_tensor *t, uint64_t row, float *out);
/** synth_routing_gain() - standard deviation of an expert's weights (role GATE, UP, DOWN) */
double synth_routing_gain(const struct synth_config *cfg, uint32_t role);

/* ---- gen.c ---- */

/** synth_mix() - splitmix64's finaliser: a good hash of 64 bits */
static inline uint64_t synth_mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

#define SYNTH_GOLDEN 0x9e3779b97f4a7c15ull

/** synth_stream() - seed of an independent stream of random numbers */
uint64_t synth_stream(uint64_t seed, uint32_t role, uint32_t layer, uint32_t expert);
/** synth_normals() - n normal floats with standard deviation @sd, those from number @first on of a stream */
void synth_normals(const struct synth_model *m, uint64_t stream, uint64_t first, uint64_t n, double sd, float *out);
/** synth_uniform() - number @i of a stream, in [0, 1) */
double synth_uniform(uint64_t stream, uint64_t i);
/** synth_gen_init() - tables; Return: 0 or -ENOMEM */
int synth_gen_init(struct synth_model *m);

struct synth_sink;
/** synth_gen_tensor() - write a tensor's bytes; Return: 0, -ENOMEM, or the sink's error */
int synth_gen_tensor(const struct synth_model *m, const struct synth_tensor *t, struct synth_sink *s,
		     struct penstock_error *err);

/* ---- writer.c ---- */

/**
 * struct synth_progress - told as bytes are written
 * @fn: called every few MiB; a non-zero return stops with -EINTR
 */
struct synth_progress {
	int (*fn)(void *arg, uint64_t done, uint64_t total);
	void *arg;
};

/** struct synth_result - what was written */
struct synth_result {
	uint32_t nr_files;
	uint64_t file_bytes;
};

/**
 * synth_write() - write a model
 * @path: a folder (safetensors) or a file (GGUF) that does not exist yet
 * @progress: may be NULL
 *
 * Nothing appears at @path before all of it is on disk; after a failure nothing is left behind.
 * Return: 0; -EEXIST; -ENOSPC, also if the file system has too little room to begin with; -EINTR stopped by
 * @progress; else -errno of the system call, with path and offset.
 */
int synth_write(const struct synth_model *m, const char *path, const struct synth_progress *progress,
		struct synth_result *result, struct penstock_error *err);

#endif
