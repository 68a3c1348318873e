/* SPDX-License-Identifier: MIT */
/*
 * libpenstock for the whole process: one context, a model for each GGUF whose
 * expert tensors were bound to us, one queue. A layer of libpenstock is here one
 * matrix of all experts of a block (gate, up, down, or gate and up in one), so that
 * each is computed as soon as it is there.
 *
 * All state is guarded by gg_engine_lock(): several llama contexts may compute at
 * once. A ticket that was fetched ahead pins its slots while its owner is outside of
 * the lock; whoever needs the slots may take it away, the owner then fetches again.
 */
#ifndef PENSTOCK_GGML_ENGINE_H
#define PENSTOCK_GGML_ENGINE_H

#include <penstock/penstock.h>

#include "files.h"
#include "ggml_abi.h"

struct gg_model;

/**
 * struct gg_expert_form - which load of an expert was repacked
 * Unknown to be so: @generation 0.
 */
struct gg_expert_form {
	const void *ptr;
	uint64_t generation;
};

/**
 * struct gg_matrix - the matrices of all experts of a block: a tensor of the model
 * @tensor: the weights; its extra points here
 * @off, @stride, @bytes: of expert 0 in the file, from one to the next, of one
 * @group: the same for the matrices of one block, which are asked for with the same experts
 * @rank: its place among them: gate before up before down
 * @layer: libpenstock's number
 * @ahead: experts that are being fetched for its next use, or NULL; @ahead_set has a bit for each
 * @forms: nr_experts entries where experts are repacked, or NULL; @form_buffer and @form_extra
 *	give a shadow the kernels for them
 * @warmed: a batch that asked for all experts was seen
 */
struct gg_matrix {
	struct gg_tensor *tensor;
	struct gg_buffer *buffer;
	char name[GG_MAX_NAME];
	char *path;
	uint64_t off;
	uint64_t stride;
	uint64_t bytes;
	uint32_t nr_experts;
	uint32_t top_k;
	int group;
	int rank;
	struct gg_model *model;
	uint32_t layer;
	uint64_t slot_bytes;
	struct penstock_ticket *ahead;
	uint64_t *ahead_set;
	struct gg_expert_form *forms;
	struct gg_buffer *form_buffer;
	void *form_extra;
	bool warmed;
};

/**
 * struct gg_model - the matrices of one model file
 * @matrices: in the order of groups, within one by rank
 */
struct gg_model {
	struct penstock_model *model;
	struct gg_matrix **matrices;
	uint32_t nr_matrices;
	uint32_t nr_gone;
	bool form_chosen;
	struct gg_model *next;
};

void gg_engine_lock(void);
void gg_engine_unlock(void);

/**
 * gg_engine_bind() - a tensor of experts was given its place in a mapped file
 * @buffer: that holds it
 * Return: true; false with a line on stderr.
 */
bool gg_engine_bind(struct gg_tensor *tensor, struct gg_buffer *buffer);
/** gg_engine_unbind() - a buffer goes; a model whose last one went is closed */
void gg_engine_unbind(struct gg_buffer *buffer);
/**
 * gg_engine_start() - a model was loaded: open it, give it its cache, settle its dense weights
 * Return: true, also when there is nothing to do; false with a line on stderr: the model can't be served.
 */
bool gg_engine_start(void);
/** gg_engine_report() - statistics as asked for, now: on a signal, and when the process ends with models open */
void gg_engine_report(void);

/** gg_engine_capacity() - experts of a matrix that the cache can hold at once */
uint32_t gg_engine_capacity(const struct gg_matrix *m);
/**
 * gg_engine_fetch() - ask for experts; what others fetched ahead gives way
 * Return: the ticket; NULL with a line on stderr.
 */
struct penstock_ticket *gg_engine_fetch(struct gg_matrix *m, const int32_t *ids, uint32_t nr);
/** gg_engine_ahead() - fetch for a later use, if that needs nobody's slots; a failure shows at that use */
void gg_engine_ahead(struct gg_matrix *m, const int32_t *ids, uint32_t nr);
/**
 * gg_engine_take_ahead() - what was fetched ahead, if it is a part of a set
 * @set: a bit an expert; those of the ticket are cleared
 * Return: the ticket, the caller's now; NULL: nothing of use.
 */
struct penstock_ticket *gg_engine_take_ahead(struct gg_matrix *m, uint64_t *set);
/** gg_engine_drop_ahead() - release what was fetched ahead, of all matrices. Return: true if there was any. */
bool gg_engine_drop_ahead(void);
/** gg_engine_next() - the next entry that is there: as penstock_next(), failures said on stderr */
int gg_engine_next(const struct gg_matrix *m, struct penstock_ticket *t, bool block, struct penstock_slot *slot);

/** gg_engine_stats() - libpenstock's counters and state; the lock is held. Return: false: no model is open. */
bool gg_engine_stats(struct penstock_stats *stats, struct penstock_status *status);
/** gg_engine_models() - the open models; the lock is held */
struct gg_model *gg_engine_models(void);

#endif
