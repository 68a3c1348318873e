// SPDX-License-Identifier: MIT
/*
 * What ggml sees: one registration, one device PENSTOCK of the kind "accelerator",
 * its buffer type, and a backend for each llama context. The buffer type is host
 * memory, so tensors pass between us and ggml's CPU backend without a copy; of
 * operations only MUL_MAT_ID over our weights is taken.
 */
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "engine.h"
#include "files.h"
#include "form.h"
#include "host.h"
#include "maps.h"
#include "moe.h"
#include "report.h"
#include "settings.h"
#include "shadow.h"

#define NAME	"PENSTOCK"

static bool settings_good;
static struct gg_reg reg;
static struct gg_device device;
static union {
	struct gg_buffer_type_v2 v2;
	struct gg_buffer_type_v3 v3;
} buffer_type;

static struct gg_buffer_type *our_type(void)
{
	return (struct gg_buffer_type *)&buffer_type;
}

/* ---- buffers ---- */

/*
 * Buffers are those of ggml's CPU backend, under our type: ordinary memory for what
 * is computed, or a piece of a mapped model file whose experts are bound to us.
 */

static void free_mapped(struct gg_buffer *buffer)
{
	gg_engine_unbind(buffer);
}

static enum gg_status init_mapped(struct gg_buffer *buffer, struct gg_tensor *tensor)
{
	bool good = true;

	if (tensor->view_src || tensor->extra)
		return GG_STATUS_SUCCESS;
	gg_engine_lock();
	if (gg_is_expert(tensor->name) && tensor->ne[2] > 1)
		good = gg_engine_bind(tensor, buffer);
	else
		gg_files_in_place(tensor->data);
	gg_engine_unlock();
	return good ? GG_STATUS_SUCCESS : GG_STATUS_FAILED;
}

/* Weights in ordinary memory were read as a whole by the loader: that is not what this backend is for. */
static enum gg_status init_plain(struct gg_buffer *buffer, struct gg_tensor *tensor)
{
	if (tensor->view_src || tensor->op != gg.op_none || !gg_is_expert(tensor->name))
		return GG_STATUS_SUCCESS;
	gg_say("%s would be read into memory as a whole: load with --load-mode mmap (without --no-mmap, --mlock, dio)",
	       tensor->name);
	return GG_STATUS_FAILED;
}

static const char *type_name(struct gg_buffer_type *buft)
{
	return NAME;
}

static struct gg_buffer *type_alloc(struct gg_buffer_type *buft, size_t size)
{
	struct gg_buffer *b = gg.ggml_backend_buft_alloc_buffer(gg.ggml_backend_cpu_buffer_type(), size);

	if (b) {
		b->buft = our_type();
		b->iface.init_tensor = init_plain;
	}
	return b;
}

static size_t type_alignment(struct gg_buffer_type *buft)
{
	return gg.ggml_backend_buft_get_alignment(gg.ggml_backend_cpu_buffer_type());
}

static bool type_is_host(struct gg_buffer_type *buft)
{
	return true;
}

static void look_at_files(void)
{
	gg_engine_lock();
	gg_files_scan();
	gg_engine_unlock();
}

static struct gg_buffer *map_weights(struct gg_device *dev, void *ptr, size_t size, size_t max_tensor_size)
{
	struct gg_buffer *b;

	look_at_files();
	b = gg.ggml_backend_cpu_buffer_from_ptr(ptr, size);
	if (b) {
		b->buft = our_type();
		b->iface.init_tensor = init_mapped;
		b->iface.free_buffer = free_mapped;
	}
	return b;
}

/* ---- the CPU backend's loading, observed ---- */

static void *(*cpu_proc_address)(struct gg_reg *r, const char *name);
static struct gg_buffer *(*cpu_map)(struct gg_device *dev, void *ptr, size_t size, size_t max_tensor_size);

static bool yes(void)
{
	return true;
}

/*
 * llama.cpp maps a model with MAP_POPULATE, which reads all of it, unless the CPU
 * backend says that the machine has several NUMA nodes.
 */
static void *say_numa(struct gg_reg *r, const char *name)
{
	if (!strcmp(name, "ggml_backend_cpu_is_numa"))
		return (void *)(uintptr_t)yes;
	return cpu_proc_address(r, name);
}

static enum gg_status init_in_place(struct gg_buffer *buffer, struct gg_tensor *tensor)
{
	if (tensor->view_src)
		return GG_STATUS_SUCCESS;
	gg_engine_lock();
	gg_files_in_place(tensor->data);
	gg_engine_unlock();
	return GG_STATUS_SUCCESS;
}

/* Which dense tensors are computed with where they are mapped, and which are copied elsewhere? */
static struct gg_buffer *map_dense(struct gg_device *dev, void *ptr, size_t size, size_t max_tensor_size)
{
	struct gg_buffer *b;

	look_at_files();
	b = cpu_map(dev, ptr, size, max_tensor_size);
	if (b && !b->iface.init_tensor)
		b->iface.init_tensor = init_in_place;
	return b;
}

static bool is_writable(const void *addr)
{
	struct gg_mapping m;

	return gg_maps_find(addr, &m) && m.writable;
}

static void observe_loading(void)
{
	if (cpu_proc_address)
		return;
	if (!is_writable(gg.cpu_reg) || !is_writable(gg.cpu)) {
		gg_say("ggml's CPU backend can't be observed: a load reads the whole model once");
		return;
	}
	cpu_proc_address = gg.cpu_reg->iface.get_proc_address;
	gg.cpu_reg->iface.get_proc_address = say_numa;
	cpu_map = gg.cpu->iface.buffer_from_host_ptr;
	gg.cpu->iface.buffer_from_host_ptr = map_dense;
}

/* ---- backend ---- */

static const char *backend_name(struct gg_backend *b)
{
	return NAME;
}

static void backend_free(struct gg_backend *b)
{
	gg_shadow_destroy(b->context);
	free(b);
}

static struct gg_matrix *matrix_of(const struct gg_tensor *weights)
{
	const struct gg_buffer *b = weights->buffer;

	return b && b->buft == our_type() && b->iface.init_tensor == init_mapped ? weights->extra : NULL;
}

static enum gg_status backend_compute(struct gg_backend *b, struct gg_cgraph *graph)
{
	const int nr = gg.ggml_graph_n_nodes(graph);
	enum gg_status rc = GG_STATUS_SUCCESS;

	gg_engine_lock();
	for (int i = 0; i < nr && rc == GG_STATUS_SUCCESS; i++) {
		struct gg_tensor *op = gg.ggml_graph_node(graph, i);
		struct gg_matrix *m;

		if (op->op != gg.op_mul_mat_id)
			continue;
		m = matrix_of(op->src[0]);
		if (m && m->model && !m->model->form_chosen)
			gg_form_choose(m->model, b->context);
		rc = gg_moe_compute(b->context, op, m);
	}
	gg_engine_unlock();
	return rc;
}

static void set_threads(struct gg_backend *b, int threads)
{
	gg_shadow_threads(b->context, threads);
}

static uint8_t guid[16] = "penstock-ggml-01";

static struct gg_backend *device_init(struct gg_device *dev, const char *params)
{
	struct gg_backend *b;

	/* llama.cpp goes on without a backend that does not load, but stops at one that does not start */
	if (!settings_good) {
		gg_say("not started: a setting was refused");
		return NULL;
	}
	if (!gg_engine_start())
		return NULL;
	b = calloc(1, sizeof(*b));
	if (!b)
		return NULL;
	b->guid = guid;
	b->iface.get_name = backend_name;
	b->iface.free = backend_free;
	b->iface.graph_compute = backend_compute;
	b->device = dev;
	b->context = gg_shadow_create();
	if (b->context)
		return b;
	gg_say("ggml's CPU backend did not start");
	free(b);
	return NULL;
}

/* ---- device ---- */

static const char *device_name(struct gg_device *dev)
{
	return NAME;
}

static const char *device_description(struct gg_device *dev)
{
	return "experts streamed from the drive";
}

static void device_memory(struct gg_device *dev, size_t *free_bytes, size_t *total)
{
	*free_bytes = 0;
	*total = 0;
}

static enum gg_dev_type device_type(struct gg_device *dev)
{
	return GG_DEVICE_TYPE_ACCEL;
}

static void device_props(struct gg_device *dev, struct gg_dev_props *props)
{
	props->name = device_name(dev);
	props->description = device_description(dev);
	props->memory_free = 0;
	props->memory_total = 0;
	props->type = GG_DEVICE_TYPE_ACCEL;
	props->device_id = NULL;
	props->caps = (struct gg_dev_caps){ .buffer_from_host_ptr = true, .mmap_support = true };
}

static struct gg_buffer_type *device_buffer_type(struct gg_device *dev)
{
	return our_type();
}

static bool device_supports_op(struct gg_device *dev, const struct gg_tensor *op)
{
	if (op->op == gg.op_none || op->op == gg.op_view || op->op == gg.op_reshape || op->op == gg.op_permute ||
	    op->op == gg.op_transpose)
		return true;
	/* the scheduler must not hand us operations over other weights; a test asks before there are buffers */
	return op->op == gg.op_mul_mat_id && op->src[1]->type == GG_TYPE_F32 && op->type == GG_TYPE_F32 &&
	       (!op->src[0]->buffer || op->src[0]->buffer->buft == our_type()) &&
	       gg.ggml_backend_dev_supports_op(gg.cpu, op);
}

static bool device_supports_buft(struct gg_device *dev, struct gg_buffer_type *buft)
{
	return buft == our_type() || gg.ggml_backend_buft_is_host(buft);
}

/* ---- registration ---- */

static const char *reg_name(struct gg_reg *r)
{
	return NAME;
}

static size_t reg_count(struct gg_reg *r)
{
	return 1;
}

static struct gg_device *reg_device(struct gg_reg *r, size_t index)
{
	return index ? NULL : &device;
}

static void *reg_proc_address(struct gg_reg *r, const char *name)
{
	return strcmp(name, "ggml_backend_set_n_threads") ? NULL : (void *)(uintptr_t)set_threads;
}

static void fill_buffer_type(void)
{
	if (gg.api_version == 2) {
		buffer_type.v2 = (struct gg_buffer_type_v2){
			.iface = { .get_name = type_name, .alloc_buffer = type_alloc, .get_alignment = type_alignment,
				   .is_host = type_is_host },
			.device = &device,
		};
		return;
	}
	buffer_type.v3 = (struct gg_buffer_type_v3){
		.iface = { .get_name = type_name, .alloc_buffer = type_alloc, .get_alignment = type_alignment,
			   .is_host = type_is_host },
		.device = &device,
	};
}

static void fill_device(void)
{
	device.iface.get_name = device_name;
	device.iface.get_description = device_description;
	device.iface.get_memory = device_memory;
	device.iface.get_type = device_type;
	device.iface.get_props = device_props;
	device.iface.init_backend = device_init;
	device.iface.get_buffer_type = device_buffer_type;
	device.iface.buffer_from_host_ptr = map_weights;
	device.iface.supports_op = device_supports_op;
	device.iface.supports_buft = device_supports_buft;
	device.reg = &reg;
}

/*
 * The calls are made by several threads at most in turn: ggml loads backends under
 * a lock of its own, and asks more than once; the answer must be the same.
 */
struct gg_reg *ggml_backend_init(void)
{
	static bool tried, good;

	if (tried)
		return good ? &reg : NULL;
	tried = true;
	if (!gg_host_find(__builtin_return_address(0)))
		return NULL;
	settings_good = gg_settings_read();
	fill_buffer_type();
	fill_device();
	reg.api_version = gg.api_version;
	reg.iface.get_name = reg_name;
	reg.iface.get_device_count = reg_count;
	reg.iface.get_device = reg_device;
	reg.iface.get_proc_address = reg_proc_address;
	observe_loading();
	gg_report_on_signal();
	atexit(gg_engine_report);
	good = true;
	return &reg;
}

/* 0 would keep it from being loaded; it runs wherever it was built for. */
int ggml_backend_score(void)
{
	return 1;
}
