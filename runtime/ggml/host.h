/* SPDX-License-Identifier: MIT */
/*
 * The ggml that loaded us: its functions, found by name in the process, its
 * version, its CPU device. Nothing here links against ggml.
 */
#ifndef PENSTOCK_GGML_HOST_H
#define PENSTOCK_GGML_HOST_H

#include "ggml_abi.h"

/* One line a function: result, name, arguments. All must be there. */
#define GG_FUNCTIONS(X) \
	X(const char *, ggml_version, (void)) \
	X(size_t, ggml_tensor_overhead, (void)) \
	X(const char *, ggml_op_name, (int op)) \
	X(const char *, ggml_type_name, (int type)) \
	X(size_t, ggml_type_size, (int type)) \
	X(size_t, ggml_row_size, (int type, int64_t ne)) \
	X(size_t, ggml_nbytes, (const struct gg_tensor *tensor)) \
	X(struct gg_context *, ggml_init, (struct gg_init_params params)) \
	X(void, ggml_free, (struct gg_context *ctx)) \
	X(struct gg_cgraph *, ggml_new_graph_custom, (struct gg_context *ctx, size_t size, bool grads)) \
	X(size_t, ggml_graph_overhead_custom, (size_t size, bool grads)) \
	X(void, ggml_graph_clear, (struct gg_cgraph *cgraph)) \
	X(void, ggml_graph_add_node, (struct gg_cgraph *cgraph, struct gg_tensor *tensor)) \
	X(int, ggml_graph_n_nodes, (struct gg_cgraph *cgraph)) \
	X(struct gg_tensor *, ggml_graph_node, (struct gg_cgraph *cgraph, int i)) \
	X(void, ggml_threadpool_params_init, (struct gg_threadpool_params *p, int n_threads)) \
	X(struct gg_device *, ggml_backend_dev_by_type, (enum gg_dev_type type)) \
	X(struct gg_reg *, ggml_backend_dev_backend_reg, (struct gg_device *device)) \
	X(struct gg_backend *, ggml_backend_dev_init, (struct gg_device *device, const char *params)) \
	X(bool, ggml_backend_dev_supports_op, (struct gg_device *device, const struct gg_tensor *op)) \
	X(void *, ggml_backend_reg_get_proc_address, (struct gg_reg *reg, const char *name)) \
	X(void, ggml_backend_free, (struct gg_backend *backend)) \
	X(enum gg_status, ggml_backend_graph_compute, (struct gg_backend *backend, struct gg_cgraph *cgraph)) \
	X(void, ggml_backend_tensor_set, (struct gg_tensor *tensor, const void *data, size_t offset, size_t size)) \
	X(struct gg_buffer_type *, ggml_backend_cpu_buffer_type, (void)) \
	X(struct gg_buffer *, ggml_backend_cpu_buffer_from_ptr, (void *ptr, size_t size)) \
	X(struct gg_buffer *, ggml_backend_buft_alloc_buffer, (struct gg_buffer_type *buft, size_t size)) \
	X(const char *, ggml_backend_buft_name, (struct gg_buffer_type *buft)) \
	X(bool, ggml_backend_buft_is_host, (struct gg_buffer_type *buft)) \
	X(size_t, ggml_backend_buft_get_alignment, (struct gg_buffer_type *buft)) \
	X(void, ggml_backend_buffer_free, (struct gg_buffer *buffer)) \
	X(struct gg_gguf *, gguf_init_from_file, (const char *path, struct gg_gguf_params params)) \
	X(void, gguf_free, (struct gg_gguf *gguf)) \
	X(size_t, gguf_get_data_offset, (const struct gg_gguf *gguf)) \
	X(int64_t, gguf_get_n_tensors, (const struct gg_gguf *gguf)) \
	X(const char *, gguf_get_tensor_name, (const struct gg_gguf *gguf, int64_t nr)) \
	X(size_t, gguf_get_tensor_offset, (const struct gg_gguf *gguf, int64_t nr)) \
	X(size_t, gguf_get_tensor_size, (const struct gg_gguf *gguf, int64_t nr)) \
	X(int64_t, gguf_find_key, (const struct gg_gguf *gguf, const char *key)) \
	X(int, gguf_get_kv_type, (const struct gg_gguf *gguf, int64_t key)) \
	X(int, gguf_get_arr_type, (const struct gg_gguf *gguf, int64_t key)) \
	X(size_t, gguf_get_arr_n, (const struct gg_gguf *gguf, int64_t key)) \
	X(const void *, gguf_get_arr_data, (const struct gg_gguf *gguf, int64_t key)) \
	X(uint32_t, gguf_get_val_u32, (const struct gg_gguf *gguf, int64_t key)) \
	X(const char *, gguf_get_val_str, (const struct gg_gguf *gguf, int64_t key))

/**
 * struct gg_host - what was found
 * @cpu: the CPU device, and @cpu_reg its registration
 * @api_version: of @cpu_reg: the layout that the host expects of ours
 * @op_none, @op_mul_mat_id, ...: numbers of operations; they move as ggml gets new ones
 */
struct gg_host {
#define GG_MEMBER(ret, name, args) ret (*name) args;
	GG_FUNCTIONS(GG_MEMBER)
#undef GG_MEMBER
	struct gg_device *cpu;
	struct gg_reg *cpu_reg;
	int api_version;
	int op_none;
	int op_mul_mat_id;
	int op_view;
	int op_reshape;
	int op_permute;
	int op_transpose;
};

extern struct gg_host gg;

/**
 * gg_host_find() - fill gg from the object that holds @caller
 * @caller: an address in the library of ggml that called ggml_backend_init()
 *
 * Return: true; false with a line on stderr when a function is missing, the version is outside
 * the range that was tested, or structures have another size.
 */
bool gg_host_find(const void *caller);

/** gg_say() - one line to stderr, "penstock: " before it */
void gg_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
