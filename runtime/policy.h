/* SPDX-License-Identifier: MIT */
/*
 * Eviction order of the slots of one pool. Pure: slot numbers only, no memory,
 * no clock but its own. Every call is O(1) (decayed LFU: amortised).
 *
 * A slot is in the order while it may be evicted: ready and not pinned. Each
 * layer has its own order, so that the cache can choose between layers.
 *
 * LRU: one list a layer. Decayed LFU: an expert's heat is the sum of 2^(t/H) over
 * the times t at which its layer asked for it; only log2(heat) is kept, which
 * makes old uses fade by half every H steps of the layer without touching the
 * others. Experts of like heat (a quarter of a power of two) share a list, least
 * recently used first; lists of heat that has faded below the window are joined.
 */
#ifndef PENSTOCK_POLICY_H
#define PENSTOCK_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#define PENSTOCK_POLICY_NONE	UINT32_MAX
/* Steps of a layer after which a use counts half. */
#define PENSTOCK_POLICY_HALF_LIFE	64

enum penstock_policy_kind { PENSTOCK_POLICY_LRU = 0, PENSTOCK_POLICY_LFU };

struct penstock_policy;

/** penstock_policy_kind() - by name; -1 if there is no such policy */
int penstock_policy_kind(const char *name);
const char *penstock_policy_name(int kind);

/**
 * penstock_policy_create() - an empty order
 * @nr_slots: slots are 0 .. nr_slots - 1
 * @nr_layers: layers are 0 .. nr_layers - 1
 * @nr_experts: experts of a layer
 * Return: 0; -ENOMEM; -EINVAL unknown kind.
 */
int penstock_policy_create(int kind, uint32_t nr_slots, uint32_t nr_layers, uint32_t nr_experts,
			   struct penstock_policy **out);
void penstock_policy_destroy(struct penstock_policy *p);

/** penstock_policy_step() - a layer begins a new step (its clock advances) */
void penstock_policy_step(struct penstock_policy *p, uint32_t layer);
/** penstock_policy_use() - an expert was asked for, present or not */
void penstock_policy_use(struct penstock_policy *p, uint32_t layer, uint32_t expert);
/** penstock_policy_add() - a slot may be evicted from now on; @cold: it is the next to go */
void penstock_policy_add(struct penstock_policy *p, uint32_t slot, uint32_t layer, uint32_t expert, bool cold);
/** penstock_policy_remove() - a slot may not be evicted (pinned, or gone) */
void penstock_policy_remove(struct penstock_policy *p, uint32_t slot);
/** penstock_policy_victim() - the layer's slot that should go first, or PENSTOCK_POLICY_NONE */
uint32_t penstock_policy_victim(struct penstock_policy *p, uint32_t layer);
/**
 * penstock_policy_colder() - is slot @a's expert clearly worth less than slot @b's, both in the order?
 * Clearly: unused for a quarter longer and more than a step, or less than 0.7 times as hot. Without
 * the margin two layers would take a slot from each other at every token.
 */
bool penstock_policy_colder(const struct penstock_policy *p, uint32_t a, uint32_t b);

#endif
