/* SPDX-License-Identifier: MIT */
/*
 * Which expert is in which slot: one cache a size class of a model. Pure
 * bookkeeping: no memory of experts, no I/O; the caller holds a lock.
 *
 * A slot is dead (has no memory), free, loading or ready. It is pinned while
 * tickets use it or a load fills it; a ready slot without pins is in the policy's
 * order. Layers share the slots: each has a quota (nine tenths of an even share),
 * the rest is slack that goes to the layers whose experts are worth most. A layer
 * below its quota takes slots from layers above theirs; at or above it, it gives up
 * its own coldest expert, or that of another layer above its quota if it is clearly colder.
 */
#ifndef PENSTOCK_CACHE_H
#define PENSTOCK_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#define PENSTOCK_CACHE_NONE	UINT32_MAX

enum penstock_slot_state {
	PENSTOCK_SLOT_DEAD = 0,
	PENSTOCK_SLOT_FREE,
	PENSTOCK_SLOT_LOADING,
	PENSTOCK_SLOT_READY,
	PENSTOCK_SLOT_FAILED,	/* its load failed; free when the last pin goes */
};

struct penstock_cache;

/**
 * struct penstock_cache_slot - what a slot holds
 * @layer: layer within the class
 * @expert: expert id
 * @pins: users; the load counts as one
 * @state: enum penstock_slot_state
 * @guess: loaded by a prefetch and not asked for since
 * @dying: becomes dead instead of free when its last pin goes
 * @generation: number of the load that filled it; no two loads of a cache have the same
 */
struct penstock_cache_slot {
	uint32_t layer;
	uint32_t expert;
	uint32_t pins;
	uint8_t state;
	bool guess;
	bool dying;
	uint64_t generation;
};

/**
 * penstock_cache_create() - all @max_slots slots are dead
 * @policy: enum penstock_policy_kind. Return: 0; -ENOMEM; -EINVAL.
 */
int penstock_cache_create(int policy, uint32_t max_slots, uint32_t nr_layers, uint32_t nr_experts,
			  struct penstock_cache **out);
void penstock_cache_destroy(struct penstock_cache *c);

/** penstock_cache_revive() - a dead slot got memory: it is free now */
void penstock_cache_revive(struct penstock_cache *c, uint32_t slot);
/**
 * penstock_cache_kill() - a slot is to lose its memory: its expert is dropped
 * Return: true if it is dead now; false if it dies when its last pin goes.
 */
bool penstock_cache_kill(struct penstock_cache *c, uint32_t slot);

/** penstock_cache_stream() - keep nothing: a slot is free as soon as it is unpinned */
void penstock_cache_stream(struct penstock_cache *c, bool stream);

/** penstock_cache_slots() - slots that are not dead */
uint32_t penstock_cache_slots(const struct penstock_cache *c);
/** penstock_cache_used() - slots that hold an expert or load one */
uint32_t penstock_cache_used(const struct penstock_cache *c);
/** penstock_cache_available() - slots that penstock_cache_take() could give now */
uint32_t penstock_cache_available(const struct penstock_cache *c);
uint64_t penstock_cache_evictions(const struct penstock_cache *c);

/** penstock_cache_step() - a layer asks for experts: once a fetch, before penstock_cache_use() */
void penstock_cache_step(struct penstock_cache *c, uint32_t layer);
/** penstock_cache_use() - an expert is asked for by a caller (not by a guess) */
void penstock_cache_use(struct penstock_cache *c, uint32_t layer, uint32_t expert);
/** penstock_cache_find() - slot of an expert, loading or ready, or PENSTOCK_CACHE_NONE */
uint32_t penstock_cache_find(const struct penstock_cache *c, uint32_t layer, uint32_t expert);
/** penstock_cache_mark() - set an expert's mark; Return: its mark before (to merge duplicates) */
uint64_t penstock_cache_mark(struct penstock_cache *c, uint32_t layer, uint32_t expert, uint64_t mark);
const struct penstock_cache_slot *penstock_cache_slot(const struct penstock_cache *c, uint32_t slot);

/** penstock_cache_pin() - one more user */
void penstock_cache_pin(struct penstock_cache *c, uint32_t slot);
/** penstock_cache_unpin() - Return: true if the slot died of it and its memory may go */
bool penstock_cache_unpin(struct penstock_cache *c, uint32_t slot);
/**
 * penstock_cache_take() - a slot for an expert that is not there; evicts if it must
 * The slot is loading and has one pin, the load's.
 * Return: the slot, or PENSTOCK_CACHE_NONE if all are pinned.
 */
uint32_t penstock_cache_take(struct penstock_cache *c, uint32_t layer, uint32_t expert, bool guess);
/**
 * penstock_cache_loaded() - the load of a slot ended; the expert is there, or (@good false) is not
 * Drops the load's pin. Return: as penstock_cache_unpin().
 */
bool penstock_cache_loaded(struct penstock_cache *c, uint32_t slot, bool good);
/** penstock_cache_claim() - a guess was asked for; Return: true the first time */
bool penstock_cache_claim(struct penstock_cache *c, uint32_t slot);

#endif
