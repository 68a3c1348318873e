// SPDX-License-Identifier: MIT
/* Shadows of weights over slots: see shadow.h. */
#include <stdlib.h>
#include <string.h>

#include "host.h"
#include "shadow.h"

/* Shadows in one graph; the rest goes into the next. */
#define MAX_NODES	64
/*
 * Kernels walk over all experts of a shadow, a cache line each; a shadow more costs
 * two barriers. They break even at about this many slots between two experts.
 */
#define MAX_GAP		1024
/* The kernels' list of rows has a place for each expert and row, most of it never touched. */
#define MAX_ROW_LIST	(256ull << 20)
/* Rows that are gathered for a part of the experts, and their results. */
#define MAX_GATHER	(16ull << 20)

struct node {
	struct gg_tensor weights;
	struct gg_tensor input;
	struct gg_tensor ids;
	struct gg_tensor out;
};

struct table {
	void *mem;
	size_t len;
};

struct gg_shadow {
	struct gg_backend *cpu;
	struct gg_context *ctx;
	struct gg_cgraph *graph;
	struct node nodes[MAX_NODES];
	uint32_t nr_nodes;
	void *pool;
	int pool_threads;
	struct table rows;		/* of struct gg_rows */
	struct table ids;		/* of the shadows */
	struct table gather;
};

/* Contents are not kept. */
static void *table_get(struct table *t, size_t len)
{
	if (t->len >= len)
		return t->mem;
	free(t->mem);
	t->mem = aligned_alloc(64, (len + len / 4 + 63) / 64 * 64);
	t->len = t->mem ? len + len / 4 : 0;
	return t->mem;
}

struct gg_shadow *gg_shadow_create(void)
{
	struct gg_shadow *s = calloc(1, sizeof(*s));
	struct gg_init_params params = { .no_alloc = true };

	if (!s)
		return NULL;
	params.mem_size = gg.ggml_graph_overhead_custom(MAX_NODES, false) + 4096;
	s->cpu = gg.ggml_backend_dev_init(gg.cpu, NULL);
	s->ctx = gg.ggml_init(params);
	s->graph = s->ctx ? gg.ggml_new_graph_custom(s->ctx, MAX_NODES, false) : NULL;
	if (s->cpu && s->graph)
		return s;
	gg_shadow_destroy(s);
	return NULL;
}

static void drop_pool(struct gg_shadow *s)
{
	void (*set)(struct gg_backend *, void *) =
		(void (*)(struct gg_backend *, void *))(uintptr_t)
		gg.ggml_backend_reg_get_proc_address(gg.cpu_reg, "ggml_backend_cpu_set_threadpool");
	void (*end)(void *) = (void (*)(void *))(uintptr_t)
			      gg.ggml_backend_reg_get_proc_address(gg.cpu_reg, "ggml_threadpool_free");

	if (!s->pool || !set || !end)
		return;
	set(s->cpu, NULL);
	end(s->pool);
	s->pool = NULL;
}

void gg_shadow_destroy(struct gg_shadow *s)
{
	if (!s)
		return;
	drop_pool(s);
	if (s->cpu)
		gg.ggml_backend_free(s->cpu);
	if (s->ctx)
		gg.ggml_free(s->ctx);
	free(s->rows.mem);
	free(s->ids.mem);
	free(s->gather.mem);
	free(s);
}

/* Without a pool of its own the CPU backend makes one, threads included, for each graph. */
static void make_pool(struct gg_shadow *s, int threads)
{
	void (*set)(struct gg_backend *, void *) =
		(void (*)(struct gg_backend *, void *))(uintptr_t)
		gg.ggml_backend_reg_get_proc_address(gg.cpu_reg, "ggml_backend_cpu_set_threadpool");
	void *(*make)(struct gg_threadpool_params *) =
		(void *(*)(struct gg_threadpool_params *))(uintptr_t)
		gg.ggml_backend_reg_get_proc_address(gg.cpu_reg, "ggml_threadpool_new");
	struct gg_threadpool_params params;

	if (s->pool_threads >= threads || !set || !make)
		return;
	drop_pool(s);
	gg.ggml_threadpool_params_init(&params, threads);
	s->pool = make(&params);
	s->pool_threads = s->pool ? threads : 0;
	if (s->pool)
		set(s->cpu, s->pool);
}

void gg_shadow_threads(struct gg_shadow *s, int threads)
{
	void (*set)(struct gg_backend *, int) =
		(void (*)(struct gg_backend *, int))(uintptr_t)
		gg.ggml_backend_reg_get_proc_address(gg.cpu_reg, "ggml_backend_set_n_threads");

	make_pool(s, threads);
	if (set)
		set(s->cpu, threads);
}

enum gg_status gg_shadow_rows(struct gg_shadow *s, const struct gg_tensor *op, struct gg_rows *rows)
{
	const struct gg_tensor *ids = op->src[2];
	const int64_t experts = op->src[0]->ne[2], nr = ids->ne[0] * ids->ne[1];
	int32_t *mem = table_get(&s->rows, (size_t)(3 * experts + 2 * nr) * sizeof(*mem));

	if (!mem)
		return GG_STATUS_ALLOC_FAILED;
	*rows = (struct gg_rows){ .op = op, .top_k = ids->ne[0], .tokens = ids->ne[1], .nr_experts = experts };
	rows->first = mem;
	rows->count = mem + experts;
	rows->used = mem + 2 * experts;
	rows->next = mem + 3 * experts;
	rows->ids = mem + 3 * experts + nr;
	memset(rows->first, 0xff, (size_t)experts * sizeof(*mem));
	memset(rows->count, 0, (size_t)experts * sizeof(*mem));
	/* backwards, so that each list is in the order of tokens */
	for (int64_t r = nr - 1; r >= 0; r--) {
		const int64_t token = r / rows->top_k, rank = r % rows->top_k;
		const int32_t id = *(const int32_t *)((const char *)ids->data + (size_t)token * ids->nb[1] +
						      (size_t)rank * ids->nb[0]);

		if (id < 0 || id >= experts) {
			gg_say("%s: token %lld was routed to expert %d of %lld: NaN in the activations?",
			       op->src[0]->name, (long long)token, id, (long long)experts);
			return GG_STATUS_FAILED;
		}
		rows->ids[r] = id;
		rows->next[r] = rows->first[id];
		rows->first[id] = (int32_t)r;
		rows->count[id]++;
	}
	for (int64_t r = 0; r < nr; r++)
		if (rows->first[rows->ids[r]] == r)
			rows->used[rows->nr_used++] = rows->ids[r];
	return GG_STATUS_SUCCESS;
}

void gg_tensor_shape(struct gg_tensor *t, int type, int64_t ne0, int64_t ne1, int64_t ne2, void *data)
{
	const size_t size = 4;

	t->type = type;
	t->ne[0] = ne0;
	t->ne[1] = ne1;
	t->ne[2] = ne2;
	t->ne[3] = 1;
	t->nb[0] = size;
	t->nb[1] = size * (size_t)ne0;
	t->nb[2] = t->nb[1] * (size_t)ne1;
	t->nb[3] = t->nb[2] * (size_t)ne2;
	t->data = data;
}

/* A shadow over experts base, base + stride, ...; its input, ids and result are still to be given. */
static struct node *new_node(struct gg_shadow *s, const struct gg_tensor *op, const char *base, uint64_t stride,
			     int64_t experts, struct gg_buffer *form, void *extra)
{
	struct node *n = &s->nodes[s->nr_nodes++];

	n->weights = *op->src[0];
	n->weights.data = (void *)(uintptr_t)base;
	n->weights.ne[2] = experts;
	n->weights.nb[2] = stride;
	n->weights.nb[3] = stride * (uint64_t)experts;
	n->weights.view_src = NULL;
	n->weights.extra = extra;
	if (form)
		n->weights.buffer = form;
	n->input = *op->src[1];
	n->input.view_src = NULL;
	n->ids = *op->src[2];
	n->ids.view_src = NULL;
	n->out = *op;
	n->out.view_src = NULL;
	n->out.flags |= GG_TENSOR_FLAG_COMPUTE;
	memset(n->out.src, 0, sizeof(n->out.src));
	n->out.src[0] = &n->weights;
	n->out.src[1] = &n->input;
	n->out.src[2] = &n->ids;
	return n;
}

static enum gg_status run(struct gg_shadow *s)
{
	if (!s->nr_nodes)
		return GG_STATUS_SUCCESS;
	gg.ggml_graph_clear(s->graph);
	for (uint32_t i = 0; i < s->nr_nodes; i++)
		gg.ggml_graph_add_node(s->graph, &s->nodes[i].out);
	s->nr_nodes = 0;
	return gg.ggml_backend_graph_compute(s->cpu, s->graph);
}

/* All experts of the operation are there, and one shadow covers them: input and result stay where they are. */
static enum gg_status compute_in_place(struct gg_shadow *s, const struct gg_rows *rows, const struct gg_place *places,
				       uint32_t nr, uint64_t stride, struct gg_buffer *form, void *extra)
{
	const int64_t pairs = rows->top_k * rows->tokens;
	const uint64_t span = (uint64_t)(places[nr - 1].addr - places[0].addr) / stride + 1;
	int32_t *ids = table_get(&s->ids, (size_t)pairs * sizeof(*ids));
	struct node *n;

	if (!ids)
		return GG_STATUS_ALLOC_FAILED;
	for (uint32_t i = 0; i < nr; i++) {
		const int32_t at = (int32_t)((uint64_t)(places[i].addr - places[0].addr) / stride);

		for (int32_t r = rows->first[places[i].expert]; r >= 0; r = rows->next[r])
			ids[r] = at;
	}
	n = new_node(s, rows->op, places[0].addr, stride, (int64_t)span, form, extra);
	gg_tensor_shape(&n->ids, GG_TYPE_I32, rows->top_k, rows->tokens, 1, ids);
	return run(s);
}

static const char *input_row(const struct gg_rows *rows, int64_t row)
{
	const struct gg_tensor *in = rows->op->src[1];
	const int64_t token = row / rows->top_k, rank = row % rows->top_k;

	return (const char *)in->data + (size_t)(rank % in->ne[1]) * in->nb[1] + (size_t)token * in->nb[2];
}

static char *result_row(const struct gg_rows *rows, int64_t row)
{
	return (char *)rows->op->data + (size_t)(row % rows->top_k) * rows->op->nb[1] +
	       (size_t)(row / rows->top_k) * rows->op->nb[2];
}

/* Places are sorted: those that one shadow can cover, from @i on. */
static uint32_t group_end(const struct gg_place *places, uint32_t nr, uint32_t i, uint64_t stride, uint64_t pairs)
{
	const char *base = places[i].addr;
	uint32_t end = i + 1;

	while (end < nr && (uintptr_t)places[end].addr % stride == (uintptr_t)base % stride &&
	       (uint64_t)(places[end].addr - places[end - 1].addr) / stride <= MAX_GAP &&
	       ((uint64_t)(places[end].addr - base) / stride + 1) * pairs * 8 <= MAX_ROW_LIST)
		end++;
	return end;
}

/* Experts places[lo..hi): gather their input, compute a shadow each group, put the results where they belong. */
static enum gg_status compute_gathered(struct gg_shadow *s, const struct gg_rows *rows, const struct gg_place *places,
				       uint32_t nr, uint64_t stride, struct gg_buffer *form, void *extra)
{
	const struct gg_tensor *op = rows->op;
	const size_t in_len = (size_t)op->src[1]->ne[0] * sizeof(float), out_len = (size_t)op->ne[0] * sizeof(float);
	/* one token's input is the same for all experts, or a row each; more tokens become a row each */
	const bool shared = rows->tokens == 1 && op->src[1]->ne[1] == 1;
	uint64_t pairs = 0, at = 0;
	enum gg_status rc = GG_STATUS_SUCCESS;
	char *in, *out;
	int32_t *ids;

	for (uint32_t i = 0; i < nr; i++)
		pairs += (uint64_t)rows->count[places[i].expert];
	in = table_get(&s->gather, pairs * (in_len + out_len));
	ids = table_get(&s->ids, pairs * sizeof(*ids));
	if (!in || !ids)
		return GG_STATUS_ALLOC_FAILED;
	out = in + pairs * in_len;
	for (uint32_t i = 0, end; i < nr && rc == GG_STATUS_SUCCESS; i = end) {
		const uint64_t first = at;
		int64_t span, nr_rows, ranks;
		struct node *n;

		end = group_end(places, nr, i, stride, pairs);
		span = (int64_t)((uint64_t)(places[end - 1].addr - places[i].addr) / stride + 1);
		for (uint32_t p = i; p < end; p++) {
			for (int32_t r = rows->first[places[p].expert]; r >= 0; r = rows->next[r], at++) {
				ids[at] = (int32_t)((uint64_t)(places[p].addr - places[i].addr) / stride);
				if (!shared)
					memcpy(in + at * in_len, input_row(rows, r), in_len);
			}
		}
		n = new_node(s, op, places[i].addr, stride, span, form, extra);
		/* one token's rows lie in the second dimension, those of more in the third, each of a top 1 */
		nr_rows = (int64_t)(at - first);
		ranks = rows->tokens == 1 ? nr_rows : 1;
		gg_tensor_shape(&n->ids, GG_TYPE_I32, ranks, nr_rows / ranks, 1, ids + first);
		if (!shared)
			gg_tensor_shape(&n->input, GG_TYPE_F32, n->input.ne[0], ranks, nr_rows / ranks,
					in + first * in_len);
		gg_tensor_shape(&n->out, GG_TYPE_F32, op->ne[0], ranks, nr_rows / ranks, out + first * out_len);
		if (s->nr_nodes == MAX_NODES)
			rc = run(s);
	}
	if (rc == GG_STATUS_SUCCESS)
		rc = run(s);
	s->nr_nodes = 0;
	at = 0;
	for (uint32_t i = 0; i < nr; i++)
		for (int32_t r = rows->first[places[i].expert]; r >= 0; r = rows->next[r], at++)
			memcpy(result_row(rows, r), out + at * out_len, out_len);
	return rc;
}

static int by_address(const void *a, const void *b, void *arg)
{
	const struct gg_place *x = a, *y = b;
	const uint64_t stride = *(const uint64_t *)arg;
	const uint64_t rx = (uintptr_t)x->addr % stride, ry = (uintptr_t)y->addr % stride;

	if (rx != ry)
		return rx < ry ? -1 : 1;
	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

enum gg_status gg_shadow_compute(struct gg_shadow *s, const struct gg_rows *rows, struct gg_place *places, uint32_t nr,
				 uint64_t stride, struct gg_buffer *form, void *extra)
{
	const uint64_t row_len = (uint64_t)(rows->op->src[1]->ne[0] + rows->op->ne[0]) * sizeof(float);
	const uint64_t all = (uint64_t)(rows->top_k * rows->tokens);
	enum gg_status rc = GG_STATUS_SUCCESS;
	uint64_t pairs = 0;

	if (!nr)
		return GG_STATUS_SUCCESS;
	qsort_r(places, nr, sizeof(*places), by_address, &stride);
	if (nr == rows->nr_used && group_end(places, nr, 0, stride, all) == nr)
		return compute_in_place(s, rows, places, nr, stride, form, extra);
	for (uint32_t i = 0, lo = 0; i < nr && rc == GG_STATUS_SUCCESS; i++) {
		pairs += (uint64_t)rows->count[places[i].expert];
		if (i + 1 < nr && (pairs + (uint64_t)rows->count[places[i + 1].expert]) * row_len <= MAX_GATHER)
			continue;
		rc = compute_gathered(s, rows, places + lo, i + 1 - lo, stride, form, extra);
		lo = i + 1;
		pairs = 0;
	}
	return rc;
}
