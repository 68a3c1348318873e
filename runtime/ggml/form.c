// SPDX-License-Identifier: MIT
/* Plain or repacked experts: see form.h. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "form.h"
#include "host.h"
#include "report.h"
#include "settings.h"

/* Rounds of a timing; the fastest counts, as other work of the host only ever adds. */
#define ROUNDS	5

/* Under the engine's lock. */
static char *scratch;
static uint64_t scratch_len;

static void *get_scratch(uint64_t len)
{
	char *more;

	if (len <= scratch_len)
		return scratch;
	more = realloc(scratch, len);
	if (!more)
		return NULL;
	scratch = more;
	scratch_len = len;
	return scratch;
}

/* What the kernels of a buffer type are asked for: an operation over all experts. */
static bool supports(const struct gg_tensor *weights)
{
	struct gg_tensor w = *weights, input = { 0 }, ids = { 0 };
	struct gg_tensor op = { .op = gg.op_mul_mat_id, .src = { &w, &input, &ids } };
	const int64_t top_k = w.ne[2] < 2 ? 1 : 2;

	gg_tensor_shape(&input, GG_TYPE_F32, w.ne[0], 1, 1, NULL);
	gg_tensor_shape(&ids, GG_TYPE_I32, top_k, 1, 1, NULL);
	gg_tensor_shape(&op, GG_TYPE_F32, w.ne[1], top_k, 1, NULL);
	return gg.ggml_backend_dev_supports_op(gg.cpu, &op);
}

/* A buffer of the first type that takes these weights when llama.cpp loads them; @extra: their kernels. */
static struct gg_buffer *find_buffer(const struct gg_matrix *m, void **extra)
{
	struct gg_buffer_type **(*list)(struct gg_device *) =
		(struct gg_buffer_type **(*)(struct gg_device *))(uintptr_t)
		gg.ggml_backend_reg_get_proc_address(gg.cpu_reg, "ggml_backend_dev_get_extra_bufts");
	struct gg_buffer_type **types = list ? list(gg.cpu) : NULL;

	for (; types && *types; types++) {
		struct gg_buffer *b = gg.ggml_backend_buft_alloc_buffer(*types, 4096);
		struct gg_tensor w = *m->tensor;

		if (!b)
			continue;
		w.buffer = b;
		w.view_src = NULL;
		w.extra = NULL;
		if (b->iface.init_tensor && b->iface.set_tensor && supports(&w) &&
		    b->iface.init_tensor(b, &w) == GG_STATUS_SUCCESS && w.extra) {
			*extra = w.extra;
			return b;
		}
		gg.ggml_backend_buffer_free(b);
	}
	return NULL;
}

void *gg_form_extra(const struct gg_matrix *m)
{
	return m->form_buffer ? m->form_extra : NULL;
}

static bool repack(const struct gg_matrix *m, void *expert)
{
	struct gg_tensor w = *m->tensor;
	char *copy = get_scratch(m->bytes);

	if (!copy)
		return false;
	memcpy(copy, expert, m->bytes);
	w.ne[2] = 1;
	w.nb[2] = m->bytes;
	w.nb[3] = m->bytes;
	w.view_src = NULL;
	w.buffer = m->form_buffer;
	w.extra = m->form_extra;
	w.data = expert;
	gg.ggml_backend_tensor_set(&w, copy, 0, m->bytes);
	return true;
}

enum gg_status gg_form_apply(struct gg_matrix *m, const struct penstock_slot *slot)
{
	struct gg_expert_form *f = m->forms ? &m->forms[slot->id] : NULL;

	if (!f || (f->ptr == slot->ptr[0] && f->generation == slot->generation))
		return GG_STATUS_SUCCESS;
	/* a half repacked expert must not pass for one of either kind */
	f->ptr = NULL;
	if (!repack(m, (void *)(uintptr_t)slot->ptr[0])) {
		gg_say("%s: no memory to repack an expert", m->name);
		return GG_STATUS_ALLOC_FAILED;
	}
	f->ptr = slot->ptr[0];
	f->generation = slot->generation;
	return GG_STATUS_SUCCESS;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* A token's experts of one matrix, in memory of their own. */
struct trial {
	struct gg_matrix *m;
	struct gg_shadow *s;
	char *experts;
	float *input;
	float *output;
	int32_t *ids;
	uint32_t nr;
};

static double time_compute(struct trial *t, bool repacked)
{
	const struct gg_tensor *w = t->m->tensor;
	struct gg_tensor weights = *w, input = { 0 }, ids = { 0 };
	struct gg_tensor op = { .op = gg.op_mul_mat_id, .src = { &weights, &input, &ids } };
	double best = 1e9;

	gg_tensor_shape(&input, GG_TYPE_F32, w->ne[0], 1, 1, t->input);
	gg_tensor_shape(&ids, GG_TYPE_I32, t->nr, 1, 1, t->ids);
	gg_tensor_shape(&op, GG_TYPE_F32, w->ne[1], t->nr, 1, t->output);
	for (int round = 0; round < ROUNDS; round++) {
		struct gg_place places[64];
		struct gg_rows rows;
		double start = now();

		for (uint32_t i = 0; i < t->nr; i++)
			places[i] = (struct gg_place){ .expert = (int32_t)i, .addr = t->experts + i * t->m->bytes };
		if (gg_shadow_rows(t->s, &op, &rows) != GG_STATUS_SUCCESS ||
		    gg_shadow_compute(t->s, &rows, places, t->nr, t->m->bytes, repacked ? t->m->form_buffer : NULL,
				      repacked ? t->m->form_extra : NULL) != GG_STATUS_SUCCESS)
			return 1e9;
		if (now() - start < best)
			best = now() - start;
	}
	return best / t->nr;
}

static bool fill_trial(struct trial *t)
{
	struct penstock_ticket *ticket;
	struct penstock_slot slot;
	bool good = true;

	for (uint32_t i = 0; i < t->nr; i++)
		t->ids[i] = (int32_t)i;
	for (int64_t i = 0; i < t->m->tensor->ne[0]; i++)
		t->input[i] = (float)(i % 17) * 0.1f - 0.8f;
	ticket = gg_engine_fetch(t->m, t->ids, t->nr);
	for (uint32_t i = 0; ticket && i < t->nr && good; i++) {
		good = !gg_engine_next(t->m, ticket, true, &slot);
		if (good)
			memcpy(t->experts + (uint64_t)slot.id * t->m->bytes, slot.ptr[0], t->m->bytes);
	}
	penstock_release(ticket);
	return ticket && good;
}

/*
 * Seconds of an expert's use in each form: compute, and for the repacked one also the
 * repacking of what is not in the cache, as if experts were asked for evenly.
 */
static bool time_forms(struct gg_matrix *m, struct gg_shadow *s, double missing, double *plain, double *repacked)
{
	struct trial t = { .m = m, .s = s, .nr = m->top_k && m->top_k < 64 ? m->top_k : 8 };
	double start;
	bool good;

	if (t.nr > m->nr_experts)
		t.nr = m->nr_experts;
	t.experts = aligned_alloc(64, (t.nr * m->bytes + 63) / 64 * 64);
	t.input = malloc((size_t)m->tensor->ne[0] * sizeof(float));
	t.output = malloc((size_t)m->tensor->ne[1] * t.nr * sizeof(float));
	t.ids = malloc(t.nr * sizeof(int32_t));
	good = t.experts && t.input && t.output && t.ids && fill_trial(&t);
	if (good) {
		*plain = time_compute(&t, false);
		start = now();
		for (uint32_t i = 0; i < t.nr && good; i++)
			good = repack(m, t.experts + i * m->bytes);
		*repacked = (now() - start) / t.nr * missing + time_compute(&t, true);
	}
	free(t.experts);
	free(t.input);
	free(t.output);
	free(t.ids);
	return good;
}

static void leave_plain(struct gg_matrix *m)
{
	if (m->form_buffer)
		gg.ggml_backend_buffer_free(m->form_buffer);
	m->form_buffer = NULL;
	m->form_extra = NULL;
}

void gg_form_choose(struct gg_model *o, struct gg_shadow *s)
{
	struct penstock_model_info info = { .size = sizeof(info) };
	double plain = 0, repacked = 0, missing = 0;
	uint32_t able = 0;
	bool timed = false;

	o->form_chosen = true;
	if (gg_settings.form == GG_FORM_PLAIN) {
		gg_report_form(o, 0, 0, 0);
		return;
	}
	for (uint32_t i = 0; i < o->nr_matrices; i++) {
		struct gg_matrix *m = o->matrices[i];

		m->form_buffer = find_buffer(m, &m->form_extra);
		able += m->form_buffer != NULL;
	}
	if (!penstock_model_info(o->model, &info) && info.cache_bytes < info.expert_bytes)
		missing = 1 - (double)info.cache_bytes / (double)info.expert_bytes;
	for (uint32_t i = 0; able && gg_settings.form == GG_FORM_AUTO && i < o->nr_matrices && !timed; i++)
		if (o->matrices[i]->form_buffer)
			timed = time_forms(o->matrices[i], s, missing, &plain, &repacked);
	if (gg_settings.form == GG_FORM_AUTO && (!timed || plain <= repacked))
		able = 0;
	for (uint32_t i = 0; i < o->nr_matrices; i++) {
		struct gg_matrix *m = o->matrices[i];

		if (able && m->form_buffer)
			m->forms = calloc(m->nr_experts, sizeof(*m->forms));
		if (!m->forms)
			leave_plain(m);
	}
	gg_report_form(o, able, plain, repacked);
}
