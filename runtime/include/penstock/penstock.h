/* SPDX-License-Identifier: MIT */
/*
 * libpenstock: stream the experts of a mixture-of-experts model from NVMe.
 *
 * A context owns one device, its expert cache and one I/O engine. A model is a
 * checkpoint opened in a context. A queue belongs to one caller's thread and
 * carries the text of its last error. A ticket stands for a set of experts that
 * were asked for; while it lives, their slots are pinned.
 *
 * Errors: every int function returns 0 or a negative errno, never touches
 * errno's meaning for the caller, never prints and never exits. Meanings:
 *   EINVAL     caller's fault: a bad argument, an expert id out of range
 *   ENOENT     no such file, tensor, layer or key
 *   EBADMSG    the checkpoint is malformed, or fails its checksum
 *   ENODATA    a file is shorter than its index says
 *   ESTALE     a file changed under us; or the call is made in a forked child
 *   ENOSPC     the budget cannot hold what was asked for, at all
 *   E2BIG      one request names more experts than the cache can hold at once
 *   EBUSY      every slot that could serve is pinned
 *   ECANCELED  the request was cancelled
 *   ETIMEDOUT  the wait ended before the request did
 *   EOPNOTSUPP not on this machine, or not with this dtype
 *   ENODEV     no driver, no GPU; or the device went away
 *   EREMOTEIO  the drive cannot reach the peer, or its data does not arrive there
 *   EIO        the drive reported an error, retries included
 *   ENOMEM     out of memory
 *
 * Threads: a context and its models may be used by any number of threads at
 * once; a queue, and the tickets made with it, by one thread at a time. After
 * fork() every call made by the child that does something returns -ESTALE (those that
 * only look at a model's index still answer); the arena is not copied.
 */
#ifndef PENSTOCK_PENSTOCK_H
#define PENSTOCK_PENSTOCK_H

#include <stddef.h>
#include <stdint.h>
#include <penstock/dtype.h>
#include <penstock/version.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PENSTOCK_API __attribute__((visibility("default")))
#define PENSTOCK_MUST_CHECK __attribute__((warn_unused_result))

struct penstock_ctx;
struct penstock_model;
struct penstock_queue;
struct penstock_ticket;
struct penstock_pool;		/* penstock/kabi.h */

/** struct penstock_error - a code and its explanation: what, which object, the numbers, the cause */
struct penstock_error {
	int code;		/* negative errno, 0 = none */
	char text[500];
};

/* ---- context ---- */

/* One thread makes all calls and drives the I/O itself inside wait and poll: no progress thread. */
#define PENSTOCK_F_CALLER_PROGRESS	(1u << 0)
#define PENSTOCK_F_NO_URING		(1u << 1)	/* use the pread engine */
#define PENSTOCK_F_NO_DIRECT		(1u << 2)	/* read through the page cache */
#define PENSTOCK_F_NO_HUGE		(1u << 3)	/* slots from 4 KiB pages */

enum penstock_log_level { PENSTOCK_LOG_ERR = 0, PENSTOCK_LOG_WARN, PENSTOCK_LOG_INFO, PENSTOCK_LOG_DEBUG };

/**
 * struct penstock_options - how to open a context
 * @size: sizeof(struct penstock_options), set by the caller
 * @cache_bytes: budget for expert slots, all models and size classes together
 * @device: "host" (NULL), or a PCI device whose memory the experts are read into by
 *	the module penstock: "peer:DDDD:BB:DD.F", or "peer" where there is one only. The
 *	host computes on its mapping, which raises SIGBUS in the computing thread when the
 *	device goes away: that is the program's to catch. What the library itself copies
 *	to and from the mapping (route "bounce", the canary) fails with -ENODEV instead,
 *	unless the kernel refuses process_vm_readv() and process_vm_writev() to the process
 * @route: "auto" (NULL), or the one to take: "host"; with the module "direct" (the
 *	module reads into its own memory, or the peer's), "mapped" (an ordinary read to
 *	where that is mapped); for peers "bounce" (a read into host memory, then a copy).
 *	"auto" is "host" for the host, and for a peer the fastest that can be used
 * @policy: eviction, "lru" (NULL) or "lfu"
 * @flags: PENSTOCK_F_*
 * @queue_depth: reads in flight; 0 = chosen by a short measurement at the first model
 * @split_bytes: largest single read; 0 = measured
 * @numa_node: node for slots; -1 = the drive's, where known
 * @log: called with one line, no newline; NULL = silent. May run on any thread
 * @log_arg: handed to @log
 */
struct penstock_options {
	size_t size;
	uint64_t cache_bytes;
	const char *device;
	const char *route;
	const char *policy;
	uint32_t flags;
	uint32_t queue_depth;
	uint32_t split_bytes;
	int32_t numa_node;
	void (*log)(void *arg, enum penstock_log_level level, const char *line);
	void *log_arg;
};

/** PENSTOCK_OPTIONS_INIT - defaults: 512 MiB, host */
#define PENSTOCK_OPTIONS_INIT \
	{ sizeof(struct penstock_options), 512ull << 20, NULL, NULL, NULL, 0, 0, 0, -1, NULL, NULL }

/**
 * penstock_open() - create a context
 * @opts: options, copied
 * @out: receives the context
 * @err: text of a failure, may be NULL
 *
 * Return: 0; -EINVAL unknown device, route, policy or flag; -EOPNOTSUPP device
 * or route not on this machine; -ENODEV no module, no such peer; -EACCES the module's
 * node; -ENOSPC the peer's memory is full; -ENOMEM; -EAGAIN no thread.
 */
PENSTOCK_API PENSTOCK_MUST_CHECK int penstock_open(const struct penstock_options *opts,
						   struct penstock_ctx **out,
						   struct penstock_error *err);

/**
 * penstock_close() - destroy a context
 * @ctx: may be NULL. All its tickets, queues and models must be gone; reads in
 * flight for prefetches are waited for.
 */
PENSTOCK_API void penstock_close(struct penstock_ctx *ctx);

/**
 * penstock_resize() - change the cache budget while requests run
 * @cache_bytes: the new budget
 *
 * Shrinking evicts unpinned experts and gives their memory back to the system, in
 * segments of about a sixteenth of the budget at open (32 MiB at least, 1 GiB at
 * most); slots that are pinned go when they are released.
 * Return: 0; -ENOSPC below the least budget of the open models; -ENOMEM.
 */
PENSTOCK_API PENSTOCK_MUST_CHECK int penstock_resize(struct penstock_ctx *ctx, uint64_t cache_bytes,
						     struct penstock_error *err);

/* ---- model ---- */

/**
 * struct penstock_model_options - how to open a model
 * @size: sizeof
 * @cache_bytes: this model's part of the context's budget; 0 = all that is left
 */
struct penstock_model_options {
	size_t size;
	uint64_t cache_bytes;
};

/**
 * penstock_model_open() - open a checkpoint and give it slots
 * @path: a Hugging Face folder, a .safetensors file, its index JSON, or a .gguf
 *	file (any shard of a split set)
 * @opts: may be NULL
 *
 * The index is read and checked against the files; no expert is read. Return: 0;
 * -ENOENT, -EACCES as open(2); -EBADMSG malformed; -ENODATA truncated; -EINVAL
 * no experts in it, or unknown architecture; -ENOSPC the budget is below two
 * layers' experts (the text has the number needed), or the peer's memory is full;
 * -EREMOTEIO, -EOPNOTSUPP no route to the peer that may be taken can be used (the
 * text says of each why); -ENOMEM.
 */
PENSTOCK_API PENSTOCK_MUST_CHECK int penstock_model_open(struct penstock_ctx *ctx, const char *path,
							 const struct penstock_model_options *opts,
							 struct penstock_model **out,
							 struct penstock_error *err);
/** penstock_model_close() - @model may be NULL; its tickets must be released. */
PENSTOCK_API void penstock_model_close(struct penstock_model *model);

enum penstock_family {
	PENSTOCK_FAMILY_NONE = 0,
	PENSTOCK_FAMILY_MIXTRAL,
	PENSTOCK_FAMILY_QWEN3_MOE,
	PENSTOCK_FAMILY_OLMOE,
	PENSTOCK_FAMILY_DEEPSEEK2,	/* DeepSeek-V2 (softmax router) */
	PENSTOCK_FAMILY_DEEPSEEK3,	/* DeepSeek-V3, R1, Kimi-K2 */
	PENSTOCK_FAMILY_GLM4_MOE,
	PENSTOCK_FAMILY_LLAMA4,
	PENSTOCK_FAMILY_GPT_OSS,
};

enum penstock_format {
	PENSTOCK_FORMAT_SAFETENSORS = 1,
	PENSTOCK_FORMAT_GGUF,
	PENSTOCK_FORMAT_LAYOUT,		/* none that was read: penstock_model_open_layout() */
};

#define PENSTOCK_MAX_PARTS 12

/**
 * struct penstock_layout_part - where a part of every expert of a layer is
 * @name: for messages, and penstock_tensor_find(); no two parts have the same
 * @file: number in the layout's files
 * @off: first byte of expert 0 in the file
 * @stride: bytes from an expert to the next, @bytes at least; of no meaning with one expert
 * @bytes: of one expert's part
 */
struct penstock_layout_part {
	const char *name;
	uint32_t file;
	uint64_t off;
	uint64_t stride;
	uint64_t bytes;
};

/**
 * struct penstock_layout_layer - a layer of experts
 * @nr_experts: 1 to 65536
 * @top_k: experts that one token takes; the least budget and the figures a token depend on it
 * @nr_parts: of each expert
 * @parts: where they are, in any order; that of struct penstock_slot
 */
struct penstock_layout_layer {
	uint32_t nr_experts;
	uint32_t top_k;
	uint32_t nr_parts;
	struct penstock_layout_part parts[PENSTOCK_MAX_PARTS];
};

/**
 * struct penstock_layout - where the experts of a model are, by one who knows
 * @size: sizeof
 * @name: of the model, for messages and as penstock_model_info.path
 * @nr_files: 1 to 65535
 * @files: paths; each is opened for reading, and watched for change
 * @nr_layers: 1 to 4096
 * @layers: they are numbered from 0
 */
struct penstock_layout {
	size_t size;
	const char *name;
	uint32_t nr_files;
	const char *const *files;
	uint32_t nr_layers;
	const struct penstock_layout_layer *layers;
};

/**
 * penstock_model_open_layout() - open a model of which the caller knows the layout
 * @layout: copied
 *
 * For serving stacks with a loader of their own, for any architecture and element
 * type: no checkpoint is parsed. A layer here is whatever is asked for together; it
 * need not be a layer of the model (a stack may give each matrix one). All layers
 * have experts. Everything works as with penstock_model_open() but for computing:
 * penstock_moe_forward() and penstock_expert_view() refuse with -EOPNOTSUPP, as nothing is known of the weights
 * (their dtype is PENSTOCK_DTYPE_NONE). As tensors, parts have two dimensions, experts and bytes.
 * Return: 0; -EINVAL a table that contradicts itself, with layer, part and numbers; -ENODATA a file is
 * shorter than it says; else as penstock_model_open().
 */
PENSTOCK_API PENSTOCK_MUST_CHECK int penstock_model_open_layout(struct penstock_ctx *ctx,
								const struct penstock_layout *layout,
								const struct penstock_model_options *opts,
								struct penstock_model **out,
								struct penstock_error *err);

/** struct penstock_model_info - the model as a whole; strings live as long as the model */
struct penstock_model_info {
	size_t size;
	const char *path;
	const char *arch;		/* model_type of config.json, general.architecture of GGUF */
	uint32_t family;		/* enum penstock_family */
	uint32_t format;		/* enum penstock_format */
	uint32_t nr_files;
	uint32_t nr_tensors;
	uint32_t nr_layers;		/* decoder layers, MTP layers not counted */
	uint32_t nr_moe_layers;		/* of these, with experts */
	uint32_t nr_mtp_layers;		/* on disk, outside decode and budgets */
	uint32_t nr_size_classes;
	uint32_t hidden;
	uint32_t top_k;
	uint64_t expert_bytes;		/* all routed experts of all MoE layers */
	uint64_t token_bytes;		/* sum over MoE layers of top_k * bytes an expert */
	uint64_t dense_bytes;		/* everything else */
	uint64_t cache_bytes;		/* budget given to this model */
	uint64_t least_bytes;		/* smallest budget that opens */
};

PENSTOCK_API PENSTOCK_MUST_CHECK int penstock_model_info(struct penstock_model *model,
							 struct penstock_model_info *info);

/* What a part of an expert is. */
enum penstock_role { PENSTOCK_ROLE_GATE = 0, PENSTOCK_ROLE_UP, PENSTOCK_ROLE_DOWN, PENSTOCK_ROLE_GATE_UP };
enum penstock_kind { PENSTOCK_KIND_WEIGHT = 0, PENSTOCK_KIND_SCALE, PENSTOCK_KIND_BIAS };

/* How gate and up share a GATE_UP part. */
enum penstock_fuse {
	PENSTOCK_FUSE_NONE = 0,		/* not fused */
	PENSTOCK_FUSE_HALVES,		/* gate's outputs first, then up's */
	PENSTOCK_FUSE_INTERLEAVED,	/* output 2i is gate i, 2i + 1 is up i */
};

/**
 * struct penstock_part - one part of every expert of a layer
 * @role: enum penstock_role
 * @kind: enum penstock_kind
 * @dtype: enum penstock_dtype
 * @fuse: enum penstock_fuse
 * @rows: output features (scales: scale rows; biases: values)
 * @cols: input features (scales: scale columns; biases: 1)
 * @row_stride: bytes from an output feature to the next
 * @col_stride: bytes from an input feature to the next; 0 for packed types.
 *	row_stride < col_stride means transposed
 * @block_rows: scales: weight rows that one scale covers
 * @block_cols: scales: weight columns that one scale covers
 * @bytes: bytes of this part in one expert
 */
struct penstock_part {
	uint32_t role;
	uint32_t kind;
	uint32_t dtype;
	uint32_t fuse;
	uint64_t rows;
	uint64_t cols;
	uint64_t row_stride;
	uint64_t col_stride;
	uint32_t block_rows;
	uint32_t block_cols;
	uint64_t bytes;
};

enum penstock_layer_kind { PENSTOCK_LAYER_DENSE = 0, PENSTOCK_LAYER_MOE, PENSTOCK_LAYER_MTP };

#define PENSTOCK_NO_TENSOR UINT32_MAX

/**
 * struct penstock_layer_info - one layer: its experts, router and shared expert
 *
 * Tensor numbers (t_*) are for penstock_tensor_at(); PENSTOCK_NO_TENSOR = none.
 * Router fields are those of struct penstock_k_router (penstock/kabi.h), where
 * they are explained. The three shared parts are gate, up, down.
 */
struct penstock_layer_info {
	size_t size;
	uint32_t kind;			/* enum penstock_layer_kind */
	uint32_t nr_experts;
	uint32_t top_k;
	uint32_t hidden;
	uint32_t inter;			/* expert's intermediate width */
	uint32_t act;			/* enum penstock_act */
	float act_limit;
	float act_alpha;
	uint32_t size_class;
	uint32_t nr_parts;
	uint64_t expert_bytes;		/* wanted bytes of one expert */
	uint64_t slot_bytes;		/* memory that one expert occupies in the cache */
	uint32_t score;
	uint32_t router_flags;
	uint32_t nr_groups;
	uint32_t top_groups;
	uint32_t group_score;
	float router_scale;
	uint32_t t_router;		/* [nr_experts, hidden] */
	uint32_t t_router_bias;		/* [nr_experts], added to the logits */
	uint32_t t_select_bias;		/* [nr_experts], for the selection only */
	uint32_t t_shared[3];
	uint32_t t_shared_scale[3];	/* FP8 scales of the shared parts */
	struct penstock_part parts[PENSTOCK_MAX_PARTS];
};

/** penstock_layer_info() - Return: 0; -ENOENT no such layer (MTP layers follow the decoder's). */
PENSTOCK_API PENSTOCK_MUST_CHECK int penstock_layer_info(struct penstock_model *model, uint32_t layer,
							 struct penstock_layer_info *info);

#define PENSTOCK_MAX_DIMS 8

/** struct penstock_tensor - a tensor on disk; the name lives as long as the model */
struct penstock_tensor {
	const char *name;
	const char *file;
	uint32_t dtype;
	uint32_t nr_dims;
	uint64_t dims[PENSTOCK_MAX_DIMS];	/* outermost first, in both formats */
	uint64_t off;			/* in the file */
	uint64_t bytes;
};

/** penstock_tensor_at() - by number, 0 .. nr_tensors - 1, in order of name. Return: 0; -ENOENT. */
PENSTOCK_API PENSTOCK_MUST_CHECK int penstock_tensor_at(struct penstock_model *model, uint32_t nr,
							struct penstock_tensor *t);
/** penstock_tensor_find() - number of the tensor of that name, or -ENOENT. */
PENSTOCK_API PENSTOCK_MUST_CHECK int64_t penstock_tensor_find(struct penstock_model *model, const char *name);
/**
 * penstock_tensor_read() - read a tensor, or a piece of it, into the caller's memory
 * @off: first byte within the tensor
 * @len: bytes
 *
 * Reads past the page cache where the file permits. Return: 0; -ENOENT; -EINVAL
 * range outside the tensor; -ENODATA, -EIO, -ESTALE as fetch.
 */
PENSTOCK_API PENSTOCK_MUST_CHECK int penstock_tensor_read(struct penstock_queue *q, struct penstock_model *model,
							  uint32_t nr, uint64_t off, void *dst, uint64_t len);

enum penstock_meta_type {
	PENSTOCK_META_NONE = 0, PENSTOCK_META_NUMBER, PENSTOCK_META_BOOL, PENSTOCK_META_STRING,
	PENSTOCK_META_NUMBERS, PENSTOCK_META_STRINGS,
};

/**
 * struct penstock_meta - a value of the checkpoint's configuration
 *
 * Keys are GGUF's own ("qwen3moe.expert_count"), or the path in config.json with
 * dots ("rope_scaling.factor", "text_config.hidden_size"). Pointers live as long
 * as the model. @nr is 1 for single values.
 */
struct penstock_meta {
	uint32_t type;			/* enum penstock_meta_type */
	uint64_t nr;
	double number;			/* NUMBER, BOOL (0 or 1) */
	const char *string;
	const double *numbers;
	const char *const *strings;
};

/** penstock_meta_find() - Return: 0; -ENOENT no such key. */
PENSTOCK_API PENSTOCK_MUST_CHECK int penstock_meta_find(struct penstock_model *model, const char *key,
							struct penstock_meta *meta);

/* ---- queue ---- */

/** penstock_queue_create() - one a caller's thread. Return: 0; -ENOMEM; -ESTALE after fork. */
PENSTOCK_API PENSTOCK_MUST_CHECK int penstock_queue_create(struct penstock_ctx *ctx, struct penstock_queue **out);
/** penstock_queue_destroy() - @q may be NULL; its tickets must be released. */
PENSTOCK_API void penstock_queue_destroy(struct penstock_queue *q);
/** penstock_errmsg() - text of the last failure on this queue, valid until the next call on it; never NULL. */
PENSTOCK_API const char *penstock_errmsg(const struct penstock_queue *q);

/* ---- experts ---- */

/**
 * penstock_fetch() - ask for experts of a layer
 * @ids: nr expert ids, borrowed for the call; duplicates are merged, order is kept
 * @nr: 1 .. nr_experts ids (before merging, any number)
 * @out: receives the ticket; entry i of it is the i-th distinct id
 *
 * Returns at once. The ticket gets slots for all its experts or for none; while
 * none can be had, it waits in line, first come first served. It pins its slots
 * until penstock_release().
 * Return: 0; -EINVAL an id out of range (a NaN router gives those), with the
 * layer and the id, or no MoE layer; -E2BIG more distinct experts than the cache
 * can hold, with the number that fits (split the set with penstock_capacity());
 * -ENOMEM; -ESTALE.
 */
PENSTOCK_API PENSTOCK_MUST_CHECK int penstock_fetch(struct penstock_queue *q, struct penstock_model *model,
						    uint32_t layer, const int32_t *ids, size_t nr,
						    struct penstock_ticket **out);

/** penstock_capacity() - most distinct experts that one ticket of this layer can hold; 0 if no MoE layer. */
PENSTOCK_API size_t penstock_capacity(struct penstock_model *model, uint32_t layer);

/** penstock_ticket_count() - distinct experts of the ticket. */
PENSTOCK_API size_t penstock_ticket_count(const struct penstock_ticket *t);
/** penstock_ticket_hits() - of these, experts that were in the cache when asked for. */
PENSTOCK_API size_t penstock_ticket_hits(const struct penstock_ticket *t);

/**
 * penstock_wait() - wait until all experts of the ticket are there
 * @timeout_ns: UINT64_MAX = for ever
 * Return: 0; -ETIMEDOUT (also while in line: the ticket stays valid); -EIO,
 * -ENODATA, -ESTALE a read failed, with file, offset and tensor; -ECANCELED;
 * -EBUSY the ticket is in line, all slots that could serve are pinned by tickets of
 * this queue (with caller progress: of any queue), and nothing is under way.
 */
PENSTOCK_API PENSTOCK_MUST_CHECK int penstock_wait(struct penstock_ticket *t, uint64_t timeout_ns);
/** penstock_poll() - as penstock_wait() with timeout 0; -EAGAIN instead of -ETIMEDOUT. */
PENSTOCK_API PENSTOCK_MUST_CHECK int penstock_poll(struct penstock_ticket *t);
/**
 * penstock_notify() - have an eventfd written to when penstock_wait() would return
 * @fd: an eventfd, borrowed until the ticket is released; -1 = none. It gets 1 added
 *	once: when all experts are there, or the ticket failed; at once if that is so already
 *
 * Not for contexts with PENSTOCK_F_CALLER_PROGRESS, where nothing moves outside of calls.
 * Return: 0; -EINVAL a caller-driven context; -ESTALE.
 */
PENSTOCK_API PENSTOCK_MUST_CHECK int penstock_notify(struct penstock_ticket *t, int fd);
/**
 * penstock_next() - the next entry that is there and was not handed out yet
 * @index: receives the entry
 *
 * Experts found in the cache come first, the others as they arrive, so that they
 * can be computed while the rest is read. Return: 0; -ENOENT all were handed out;
 * else as penstock_wait().
 */
PENSTOCK_API PENSTOCK_MUST_CHECK int penstock_next(struct penstock_ticket *t, uint64_t timeout_ns, size_t *index);

/* No place in a peer's memory. */
#define PENSTOCK_NO_OFFSET UINT64_MAX

/**
 * struct penstock_slot - where an expert is
 * @id: expert id
 * @generation: grows with each load: an expert that was read anew has another one, wherever it is
 * @nr_parts: as in the layer's info, same order
 * @ptr: address of each part; parts are described by the layer's info. Alignment
 *	is that of the part's offset in its file. On the device "host" the caller may
 *	rewrite the bytes while its ticket pins them, into another layout of the same
 *	size: they stay so until the expert is read anew, which @generation shows
 * @peer_off: where each part is in the peer's memory, bytes from its start; PENSTOCK_NO_OFFSET for the host
 */
struct penstock_slot {
	int32_t id;
	uint32_t nr_parts;
	uint64_t generation;
	const void *ptr[PENSTOCK_MAX_PARTS];
	uint64_t peer_off[PENSTOCK_MAX_PARTS];
};

/** penstock_ticket_slot() - entry @index. Return: 0; -EINVAL index; -EAGAIN not there yet. */
PENSTOCK_API PENSTOCK_MUST_CHECK int penstock_ticket_slot(struct penstock_ticket *t, size_t index,
							  struct penstock_slot *slot);

/**
 * penstock_release() - unpin and destroy a ticket
 * @t: may be NULL. Reads in flight run out and hold their slot; nothing is waited for.
 */
PENSTOCK_API void penstock_release(struct penstock_ticket *t);
/**
 * penstock_cancel() - drop what was not submitted yet
 * The ticket must still be released; waits on it return -ECANCELED unless it was complete.
 */
PENSTOCK_API void penstock_cancel(struct penstock_ticket *t);

/**
 * penstock_prefetch() - a guess: bring experts in when the drive is idle
 * @weights: how likely each is, or NULL; higher first
 *
 * Never evicts what is pinned, never goes before a demand, pins nothing. Guesses
 * enter at the cold end of the cache. Return: 0 (also when nothing was done);
 * -EINVAL as fetch.
 */
PENSTOCK_API PENSTOCK_MUST_CHECK int penstock_prefetch(struct penstock_queue *q, struct penstock_model *model,
						       uint32_t layer, const int32_t *ids, const float *weights,
						       size_t nr);

/* ---- compute ---- */

struct penstock_k_expert;	/* penstock/kabi.h */

/**
 * penstock_expert_view() - from the addresses of an expert's parts to the matrices that the kernels take
 * @info: the expert's layer
 * @ptr: address of each part, in the order of info->parts (those of a struct penstock_slot)
 * @e: filled, for penstock_k_expert_ffn(); borrows @ptr's memory
 *
 * Return: 0; -EOPNOTSUPP a part whose dtype or kind does not compute, or the model was opened by a
 * layout; -EINVAL a matrix is missing, a fused part that is not two equal shares, a scale that covers
 * rows of gate and of up, or strides and shapes that penstock_k_mat_check() refuses. The text names the part.
 */
PENSTOCK_API PENSTOCK_MUST_CHECK int penstock_expert_view(const struct penstock_layer_info *info,
							  const void *const *ptr, struct penstock_k_expert *e,
							  struct penstock_error *err);

/**
 * struct penstock_moe - a layer's routed experts on some tokens
 * @size: sizeof
 * @layer: decoder layer
 * @nr_tokens: rows
 * @x: nr_tokens rows of hidden floats, distance @ldx floats
 * @ids: nr_tokens x top_k expert ids
 * @weights: nr_tokens x top_k. They multiply the outputs; with
 *	PENSTOCK_ROUTER_F_INPUT_SCALE in the layer's router_flags, the inputs
 * @out: nr_tokens rows of hidden floats, overwritten
 * @ticket: made by penstock_fetch() for exactly these ids, to overlap the reads
 *	with other work; it is not released. NULL = fetch inside
 */
struct penstock_moe {
	size_t size;
	uint32_t layer;
	uint32_t top_k;
	size_t nr_tokens;
	const float *x;
	size_t ldx;
	const int32_t *ids;
	const float *weights;
	float *out;
	size_t ldout;
	struct penstock_ticket *ticket;
};

/**
 * penstock_moe_forward() - fetch, compute experts as they arrive, combine in router order
 *
 * The same input gives the same bits whatever the cache held. A set larger than
 * the cache is computed in waves, each expert read once.
 * Return: 0; -EOPNOTSUPP a dtype that does not compute, with the tensor's name, or a
 * model opened by a layout; else as penstock_fetch() and penstock_wait().
 */
PENSTOCK_API PENSTOCK_MUST_CHECK int penstock_moe_forward(struct penstock_queue *q, struct penstock_model *model,
							  struct penstock_pool *pool,
							  const struct penstock_moe *moe);

/* ---- statistics ---- */

/** struct penstock_stats - counters since open, monotonic unless said otherwise */
struct penstock_stats {
	size_t size;
	uint64_t fetches;		/* tickets */
	uint64_t experts_wanted;	/* distinct experts over all tickets */
	uint64_t experts_hit;		/* in the cache when asked for */
	uint64_t experts_joined;	/* already being read */
	uint64_t fetches_all_hit;	/* tickets whose experts were all there */
	uint64_t bytes_wanted;		/* expert bytes of all misses */
	uint64_t bytes_read;		/* by the drive for them, alignment included */
	uint64_t bytes_buffered;	/* of these, through the page cache */
	uint64_t bytes_prefetch;	/* of these, for guesses */
	uint64_t reads;			/* read requests completed */
	uint64_t retries;		/* after EIO, EAGAIN, EINTR or a short read */
	uint64_t evictions;
	uint64_t prefetched;		/* guesses read */
	uint64_t prefetch_used;		/* guesses that were asked for later */
	uint64_t io_busy_ns;		/* time with a demand read in flight */
	uint64_t wait_ns;		/* time callers spent waiting */
	uint64_t compute_ns;		/* time in expert kernels */
	uint64_t in_flight_bytes;	/* now */
	uint64_t slots;			/* now */
	uint64_t slots_used;		/* now */
	uint64_t cache_bytes;		/* now, of all slots */
};

PENSTOCK_API PENSTOCK_MUST_CHECK int penstock_stats(struct penstock_ctx *ctx, struct penstock_stats *stats);

#define PENSTOCK_MAX_ROUTES 4

/** struct penstock_route_status - a route from the drives of the model opened last to the device */
struct penstock_route_status {
	const char *name;
	uint32_t usable;		/* 0 or 1 */
	uint64_t bytes_per_s;		/* measured at open; 0 = not measured */
	const char *reason;		/* why not usable; "" */
};

/**
 * struct penstock_status - the path in use, and why no better one is; strings live as long as the context
 */
struct penstock_status {
	size_t size;
	const char *device;		/* "host", "peer:0000:01:00.0" */
	const char *route;		/* "host", "direct", "mapped", "bounce", "mixed", "none" (no model) */
	const char *io_engine;		/* "io_uring", "pread" */
	const char *io_reason;		/* why not io_uring, and what reads regions; or what it lacks; "" = all used */
	const char *direct;		/* "direct", "buffered", "mixed" */
	const char *direct_reason;	/* why not direct everywhere; "" */
	const char *policy;
	const char *cache_mode;		/* "cache", "stream" (budget below one token's experts) */
	uint64_t page_size;		/* of slot memory: 2097152 or 4096 */
	const char *page_reason;	/* "hugetlbfs", "transparent", or why neither */
	uint32_t queue_depth;
	uint32_t split_bytes;
	uint64_t drive_bytes_per_s;	/* measured at open at that depth and split; 0 = not measured */
	uint64_t drive_latency_ns;	/* of a single read of 4 KiB; 0 = not measured */
	int32_t numa_node;
	uint32_t nr_routes;
	const char *route_reason;	/* why this route: asked for, or the fastest of these; "" for "host" */
	struct penstock_route_status routes[PENSTOCK_MAX_ROUTES]; /* those that were examined */
};

PENSTOCK_API PENSTOCK_MUST_CHECK int penstock_status(struct penstock_ctx *ctx, struct penstock_status *status);

/**
 * penstock_measure() - what the drive gives now, at the queue depth and split in use
 * @window_ns: how long to measure, about (100 ms is enough)
 * @bytes_per_s: receives the throughput of random reads of split bytes
 * @latency_ns: receives the median latency of a single read of 4 KiB
 *
 * Uses an engine and memory of its own; other requests share the drive with it.
 * Return: 0; -EIO and others of the reads; -ENOMEM; -ESTALE after fork.
 */
PENSTOCK_API PENSTOCK_MUST_CHECK int penstock_measure(struct penstock_model *model, uint64_t window_ns,
						      uint64_t *bytes_per_s, uint64_t *latency_ns,
						      struct penstock_error *err);

#ifdef __cplusplus
}
#endif
#endif
