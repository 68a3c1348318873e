/* SPDX-License-Identifier: MIT */
/*
 * The part of ggml's backend ABI that the backend uses, declared anew: ggml's own
 * header of it (ggml-backend-impl.h) is installed nowhere. A declaration gg_x is
 * ggml's ggml_x, with the same members in the same order; tests/llama compares
 * each with the headers of every llama.cpp at hand.
 *
 * ggml's reg.api_version 2 and 3 are known. They differ in the buffer type only:
 * 3 has alloc_buffer_n and get_alloc_size_n.
 */
#ifndef PENSTOCK_GGML_ABI_H
#define PENSTOCK_GGML_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GG_API_OLDEST		2
#define GG_API_NEWEST		3

#define GG_MAX_DIMS		4
#define GG_MAX_SRC		10
#define GG_MAX_OP_PARAMS	64
#define GG_MAX_NAME		64

struct gg_backend;
struct gg_buffer;
struct gg_buffer_type;
struct gg_cgraph;
struct gg_context;
struct gg_device;
struct gg_event;
struct gg_gguf;
struct gg_reg;
struct gg_tensor;

enum gg_status { GG_STATUS_ALLOC_FAILED = -2, GG_STATUS_FAILED = -1, GG_STATUS_SUCCESS = 0, GG_STATUS_ABORTED = 1 };

/* The two element types that the backend makes tensors of itself. */
enum gg_type { GG_TYPE_F32 = 0, GG_TYPE_I32 = 26 };

/* A node without it is passed over by the CPU backend. */
#define GG_TENSOR_FLAG_COMPUTE	16

struct gg_tensor {
	int type;
	struct gg_buffer *buffer;
	int64_t ne[GG_MAX_DIMS];	/* elements, innermost first */
	size_t nb[GG_MAX_DIMS];		/* strides in bytes */
	int op;
	int32_t op_params[GG_MAX_OP_PARAMS / sizeof(int32_t)];
	int32_t flags;
	struct gg_tensor *src[GG_MAX_SRC];
	struct gg_tensor *view_src;
	size_t view_offs;
	void *data;
	char name[GG_MAX_NAME];
	void *extra;
	char padding[8];
};

/* struct ggml_init_params */
struct gg_init_params {
	size_t mem_size;
	void *mem_buffer;
	bool no_alloc;
};

/* struct gguf_init_params */
struct gg_gguf_params {
	bool no_alloc;
	struct gg_context **ctx;
};

/* enum gguf_type, as far as it is looked for */
enum gg_gguf_type { GG_GGUF_TYPE_UINT32 = 4, GG_GGUF_TYPE_INT32 = 5, GG_GGUF_TYPE_STRING = 8, GG_GGUF_TYPE_ARRAY = 9 };

/* struct ggml_backend_buffer_type_i, api_version 2 */
struct gg_buffer_type_v2_i {
	const char *(*get_name)(struct gg_buffer_type *buft);
	struct gg_buffer *(*alloc_buffer)(struct gg_buffer_type *buft, size_t size);
	size_t (*get_alignment)(struct gg_buffer_type *buft);
	size_t (*get_max_size)(struct gg_buffer_type *buft);
	size_t (*get_alloc_size)(struct gg_buffer_type *buft, const struct gg_tensor *tensor);
	bool (*is_host)(struct gg_buffer_type *buft);
};

/* struct ggml_backend_buffer_type_i, api_version 3 */
struct gg_buffer_type_v3_i {
	const char *(*get_name)(struct gg_buffer_type *buft);
	struct gg_buffer *(*alloc_buffer)(struct gg_buffer_type *buft, size_t size);
	struct gg_buffer *(*alloc_buffer_n)(struct gg_buffer_type *buft, struct gg_tensor **tensors, int n_tensors);
	size_t (*get_alignment)(struct gg_buffer_type *buft);
	size_t (*get_max_size)(struct gg_buffer_type *buft);
	size_t (*get_alloc_size)(struct gg_buffer_type *buft, const struct gg_tensor *tensor);
	size_t (*get_alloc_size_n)(struct gg_buffer_type *buft, struct gg_tensor **tensors, int n_tensors);
	bool (*is_host)(struct gg_buffer_type *buft);
};

/* struct ggml_backend_buffer_type; only its owner looks into it */
struct gg_buffer_type_v2 {
	struct gg_buffer_type_v2_i iface;
	struct gg_device *device;
	void *context;
};

struct gg_buffer_type_v3 {
	struct gg_buffer_type_v3_i iface;
	struct gg_device *device;
	void *context;
};

struct gg_buffer_i {
	void (*free_buffer)(struct gg_buffer *buffer);
	void *(*get_base)(struct gg_buffer *buffer);
	enum gg_status (*init_tensor)(struct gg_buffer *buffer, struct gg_tensor *tensor);
	void (*memset_tensor)(struct gg_buffer *buffer, struct gg_tensor *tensor, uint8_t value, size_t offset,
			      size_t size);
	void (*set_tensor)(struct gg_buffer *buffer, struct gg_tensor *tensor, const void *data, size_t offset,
			   size_t size);
	void (*get_tensor)(struct gg_buffer *buffer, const struct gg_tensor *tensor, void *data, size_t offset,
			   size_t size);
	void (*set_tensor_2d)(struct gg_buffer *buffer, struct gg_tensor *tensor, const void *data, size_t offset,
			      size_t size, size_t n_copies, size_t stride_tensor, size_t stride_data);
	void (*get_tensor_2d)(struct gg_buffer *buffer, const struct gg_tensor *tensor, void *data, size_t offset,
			      size_t size, size_t n_copies, size_t stride_tensor, size_t stride_data);
	bool (*cpy_tensor)(struct gg_buffer *buffer, const struct gg_tensor *src, struct gg_tensor *dst);
	void (*clear)(struct gg_buffer *buffer, uint8_t value);
	void (*reset)(struct gg_buffer *buffer);
};

struct gg_buffer {
	struct gg_buffer_i iface;
	struct gg_buffer_type *buft;
	void *context;
	size_t size;
	int usage;
};

struct gg_backend_i {
	const char *(*get_name)(struct gg_backend *backend);
	void (*free)(struct gg_backend *backend);
	void (*set_tensor_async)(struct gg_backend *backend, struct gg_tensor *tensor, const void *data,
				 size_t offset, size_t size);
	void (*get_tensor_async)(struct gg_backend *backend, const struct gg_tensor *tensor, void *data,
				 size_t offset, size_t size);
	void (*set_tensor_2d_async)(struct gg_backend *backend, struct gg_tensor *tensor, const void *data,
				    size_t offset, size_t size, size_t n_copies, size_t stride_tensor,
				    size_t stride_data);
	void (*get_tensor_2d_async)(struct gg_backend *backend, const struct gg_tensor *tensor, void *data,
				    size_t offset, size_t size, size_t n_copies, size_t stride_tensor,
				    size_t stride_data);
	bool (*cpy_tensor_async)(struct gg_backend *backend_src, struct gg_backend *backend_dst,
				 const struct gg_tensor *src, struct gg_tensor *dst);
	void (*synchronize)(struct gg_backend *backend);
	void *(*graph_plan_create)(struct gg_backend *backend, const struct gg_cgraph *cgraph);
	void (*graph_plan_free)(struct gg_backend *backend, void *plan);
	void (*graph_plan_update)(struct gg_backend *backend, void *plan, const struct gg_cgraph *cgraph);
	enum gg_status (*graph_plan_compute)(struct gg_backend *backend, void *plan);
	enum gg_status (*graph_compute)(struct gg_backend *backend, struct gg_cgraph *cgraph);
	void (*event_record)(struct gg_backend *backend, struct gg_event *event);
	void (*event_wait)(struct gg_backend *backend, struct gg_event *event);
	void *graph_optimize;		/* its arguments differ between versions: left NULL */
};

struct gg_backend {
	void *guid;			/* uint8_t (*)[16] */
	struct gg_backend_i iface;
	struct gg_device *device;
	void *context;
};

enum gg_dev_type { GG_DEVICE_TYPE_CPU = 0, GG_DEVICE_TYPE_GPU, GG_DEVICE_TYPE_IGPU, GG_DEVICE_TYPE_ACCEL };

/*
 * struct ggml_backend_dev_caps. mmap_support came in ggml 0.21 without a new
 * api_version; before, its place was padding of struct ggml_backend_dev_props.
 */
struct gg_dev_caps {
	bool async;
	bool host_buffer;
	bool buffer_from_host_ptr;
	bool events;
	bool mmap_support;
};

struct gg_dev_props {
	const char *name;
	const char *description;
	size_t memory_free;
	size_t memory_total;
	enum gg_dev_type type;
	const char *device_id;
	struct gg_dev_caps caps;
};

struct gg_device_i {
	const char *(*get_name)(struct gg_device *dev);
	const char *(*get_description)(struct gg_device *dev);
	void (*get_memory)(struct gg_device *dev, size_t *free, size_t *total);
	enum gg_dev_type (*get_type)(struct gg_device *dev);
	void (*get_props)(struct gg_device *dev, struct gg_dev_props *props);
	struct gg_backend *(*init_backend)(struct gg_device *dev, const char *params);
	struct gg_buffer_type *(*get_buffer_type)(struct gg_device *dev);
	struct gg_buffer_type *(*get_host_buffer_type)(struct gg_device *dev);
	struct gg_buffer *(*buffer_from_host_ptr)(struct gg_device *dev, void *ptr, size_t size,
						  size_t max_tensor_size);
	bool (*supports_op)(struct gg_device *dev, const struct gg_tensor *op);
	bool (*supports_buft)(struct gg_device *dev, struct gg_buffer_type *buft);
	bool (*offload_op)(struct gg_device *dev, const struct gg_tensor *op);
	struct gg_event *(*event_new)(struct gg_device *dev);
	void (*event_free)(struct gg_device *dev, struct gg_event *event);
	void (*event_synchronize)(struct gg_device *dev, struct gg_event *event);
};

struct gg_device {
	struct gg_device_i iface;
	struct gg_reg *reg;
	void *context;
};

struct gg_reg_i {
	const char *(*get_name)(struct gg_reg *reg);
	size_t (*get_device_count)(struct gg_reg *reg);
	struct gg_device *(*get_device)(struct gg_reg *reg, size_t index);
	void *(*get_proc_address)(struct gg_reg *reg, const char *name);
};

struct gg_reg {
	int api_version;
	struct gg_reg_i iface;
	void *context;
};

/* struct ggml_threadpool_params */
#define GG_MAX_N_THREADS	512

struct gg_threadpool_params {
	bool cpumask[GG_MAX_N_THREADS];
	int n_threads;
	int prio;
	uint32_t poll;
	bool strict_cpu;
	bool paused;
};

#endif
