// SPDX-License-Identifier: MIT
/* Expert -> slot, and who gives up a slot: see cache.h. */
#include <errno.h>
#include <stdlib.h>

#include "cache.h"
#include "policy.h"

struct expert {
	uint32_t slot;
	uint64_t mark;
};

struct layer_share {
	uint32_t used;
	uint32_t evictable;
	/* ring of layers above their quota; linked to itself while not in it */
	uint32_t over_next;
	uint32_t over_prev;
	bool over;
};

struct penstock_cache {
	uint32_t max_slots;
	uint32_t nr_layers;
	uint32_t nr_experts;
	uint32_t nr_slots;	/* not dead */
	uint32_t nr_used;
	uint32_t nr_evictable;
	uint32_t quota;
	uint32_t over_head;	/* a layer of the ring, or NONE */
	uint64_t evictions;
	uint64_t generation;	/* of the last load */
	bool stream;
	struct penstock_policy *policy;
	struct penstock_cache_slot *slots;
	struct expert *experts;
	struct layer_share *layers;
	uint32_t *free;		/* stack of free slots */
	uint32_t nr_free;
};

int penstock_cache_create(int policy, uint32_t max_slots, uint32_t nr_layers, uint32_t nr_experts,
			  struct penstock_cache **out)
{
	struct penstock_cache *c = calloc(1, sizeof(*c));
	int rc = -ENOMEM;

	if (!c)
		return rc;
	c->max_slots = max_slots;
	c->nr_layers = nr_layers;
	c->nr_experts = nr_experts;
	c->over_head = PENSTOCK_CACHE_NONE;
	c->slots = calloc(max_slots, sizeof(*c->slots));
	c->free = calloc(max_slots, sizeof(*c->free));
	c->experts = calloc((size_t)nr_layers * nr_experts, sizeof(*c->experts));
	c->layers = calloc(nr_layers, sizeof(*c->layers));
	if (!c->slots || !c->free || !c->experts || !c->layers)
		goto err;
	rc = penstock_policy_create(policy, max_slots, nr_layers, nr_experts, &c->policy);
	if (rc)
		goto err;
	for (size_t i = 0; i < (size_t)nr_layers * nr_experts; i++)
		c->experts[i].slot = PENSTOCK_CACHE_NONE;
	*out = c;
	return 0;
err:
	penstock_cache_destroy(c);
	return rc;
}

void penstock_cache_destroy(struct penstock_cache *c)
{
	if (!c)
		return;
	penstock_policy_destroy(c->policy);
	free(c->slots);
	free(c->free);
	free(c->experts);
	free(c->layers);
	free(c);
}

static struct expert *expert_of(const struct penstock_cache *c, uint32_t layer, uint32_t expert)
{
	return &c->experts[(uint64_t)layer * c->nr_experts + expert];
}

static void over_add(struct penstock_cache *c, uint32_t layer)
{
	struct layer_share *l = &c->layers[layer];

	l->over = true;
	if (c->over_head == PENSTOCK_CACHE_NONE) {
		l->over_next = l->over_prev = layer;
		c->over_head = layer;
		return;
	}
	l->over_next = c->over_head;
	l->over_prev = c->layers[c->over_head].over_prev;
	c->layers[l->over_prev].over_next = layer;
	c->layers[c->over_head].over_prev = layer;
}

static void over_remove(struct penstock_cache *c, uint32_t layer)
{
	struct layer_share *l = &c->layers[layer];

	l->over = false;
	if (l->over_next == layer) {
		c->over_head = PENSTOCK_CACHE_NONE;
		return;
	}
	c->layers[l->over_prev].over_next = l->over_next;
	c->layers[l->over_next].over_prev = l->over_prev;
	if (c->over_head == layer)
		c->over_head = l->over_next;
}

static void share_changed(struct penstock_cache *c, uint32_t layer)
{
	bool over = c->layers[layer].used > c->quota;

	if (over && !c->layers[layer].over)
		over_add(c, layer);
	else if (!over && c->layers[layer].over)
		over_remove(c, layer);
}

static void slots_changed(struct penstock_cache *c)
{
	c->quota = (uint32_t)((uint64_t)c->nr_slots * 9 / 10 / c->nr_layers);
	for (uint32_t l = 0; l < c->nr_layers; l++)
		share_changed(c, l);
}

static void order_add(struct penstock_cache *c, uint32_t slot, bool cold)
{
	struct penstock_cache_slot *s = &c->slots[slot];

	penstock_policy_add(c->policy, slot, s->layer, s->expert, cold);
	c->layers[s->layer].evictable++;
	c->nr_evictable++;
}

static void order_remove(struct penstock_cache *c, uint32_t slot)
{
	penstock_policy_remove(c->policy, slot);
	c->layers[c->slots[slot].layer].evictable--;
	c->nr_evictable--;
}

/* The slot's expert leaves; the slot is in no order and has no pins. */
static void vacate(struct penstock_cache *c, uint32_t slot)
{
	struct penstock_cache_slot *s = &c->slots[slot];

	/* after a failed load another slot may hold the expert by now */
	if (expert_of(c, s->layer, s->expert)->slot == slot)
		expert_of(c, s->layer, s->expert)->slot = PENSTOCK_CACHE_NONE;
	c->layers[s->layer].used--;
	c->nr_used--;
	share_changed(c, s->layer);
	s->guess = false;
	if (s->dying) {
		s->state = PENSTOCK_SLOT_DEAD;
		return;
	}
	s->state = PENSTOCK_SLOT_FREE;
	c->free[c->nr_free++] = slot;
}

void penstock_cache_revive(struct penstock_cache *c, uint32_t slot)
{
	struct penstock_cache_slot *s = &c->slots[slot];

	s->dying = false;
	s->state = PENSTOCK_SLOT_FREE;
	c->free[c->nr_free++] = slot;
	c->nr_slots++;
	slots_changed(c);
}

bool penstock_cache_kill(struct penstock_cache *c, uint32_t slot)
{
	struct penstock_cache_slot *s = &c->slots[slot];

	if (s->state == PENSTOCK_SLOT_DEAD || s->dying)
		return s->state == PENSTOCK_SLOT_DEAD;
	c->nr_slots--;
	s->dying = true;
	if (s->state == PENSTOCK_SLOT_FREE) {
		/* rare (a resize): a scan of the free stack is fine */
		for (uint32_t i = 0; i < c->nr_free; i++) {
			if (c->free[i] == slot) {
				c->free[i] = c->free[--c->nr_free];
				break;
			}
		}
		s->state = PENSTOCK_SLOT_DEAD;
	} else if (!s->pins) {
		order_remove(c, slot);
		vacate(c, slot);
		c->evictions++;
	}
	slots_changed(c);
	return s->state == PENSTOCK_SLOT_DEAD;
}

void penstock_cache_stream(struct penstock_cache *c, bool stream)
{
	c->stream = stream;
}

uint32_t penstock_cache_slots(const struct penstock_cache *c)
{
	return c->nr_slots;
}

uint32_t penstock_cache_used(const struct penstock_cache *c)
{
	return c->nr_used;
}

uint32_t penstock_cache_available(const struct penstock_cache *c)
{
	return c->nr_free + c->nr_evictable;
}

uint64_t penstock_cache_evictions(const struct penstock_cache *c)
{
	return c->evictions;
}

void penstock_cache_step(struct penstock_cache *c, uint32_t layer)
{
	penstock_policy_step(c->policy, layer);
}

void penstock_cache_use(struct penstock_cache *c, uint32_t layer, uint32_t expert)
{
	penstock_policy_use(c->policy, layer, expert);
}

uint32_t penstock_cache_find(const struct penstock_cache *c, uint32_t layer, uint32_t expert)
{
	return expert_of(c, layer, expert)->slot;
}

uint64_t penstock_cache_mark(struct penstock_cache *c, uint32_t layer, uint32_t expert, uint64_t mark)
{
	struct expert *e = expert_of(c, layer, expert);
	uint64_t before = e->mark;

	e->mark = mark;
	return before;
}

const struct penstock_cache_slot *penstock_cache_slot(const struct penstock_cache *c, uint32_t slot)
{
	return &c->slots[slot];
}

void penstock_cache_pin(struct penstock_cache *c, uint32_t slot)
{
	struct penstock_cache_slot *s = &c->slots[slot];

	if (!s->pins++ && s->state == PENSTOCK_SLOT_READY)
		order_remove(c, slot);
}

bool penstock_cache_unpin(struct penstock_cache *c, uint32_t slot)
{
	struct penstock_cache_slot *s = &c->slots[slot];

	if (--s->pins)
		return false;
	if (s->dying || s->state == PENSTOCK_SLOT_FAILED || (c->stream && !s->guess)) {
		vacate(c, slot);
		return s->state == PENSTOCK_SLOT_DEAD;
	}
	order_add(c, slot, s->guess);
	return false;
}

/* Coldest expert of a layer above its quota, or NONE; the ring is turned so that the layers take turns. */
static uint32_t over_victim(struct penstock_cache *c)
{
	uint32_t first = c->over_head;

	if (first == PENSTOCK_CACHE_NONE)
		return PENSTOCK_CACHE_NONE;
	do {
		uint32_t layer = c->over_head;

		c->over_head = c->layers[layer].over_next;
		if (c->layers[layer].evictable)
			return penstock_policy_victim(c->policy, layer);
	} while (c->over_head != first);
	return PENSTOCK_CACHE_NONE;
}

static uint32_t choose_victim(struct penstock_cache *c, uint32_t layer)
{
	uint32_t own = penstock_policy_victim(c->policy, layer);
	uint32_t other = over_victim(c);

	if (own != PENSTOCK_CACHE_NONE && other != PENSTOCK_CACHE_NONE) {
		if (c->layers[layer].used < c->quota)
			return other;
		return penstock_policy_colder(c->policy, other, own) ? other : own;
	}
	if (own != PENSTOCK_CACHE_NONE || other != PENSTOCK_CACHE_NONE)
		return own != PENSTOCK_CACHE_NONE ? own : other;
	/* all that is left belongs to layers within their quota: rare, any will do */
	for (uint32_t l = 0; c->nr_evictable && l < c->nr_layers; l++)
		if (c->layers[l].evictable)
			return penstock_policy_victim(c->policy, l);
	return PENSTOCK_CACHE_NONE;
}

uint32_t penstock_cache_take(struct penstock_cache *c, uint32_t layer, uint32_t expert, bool guess)
{
	struct penstock_cache_slot *s;
	uint32_t slot;

	if (!c->nr_free) {
		slot = choose_victim(c, layer);
		if (slot == PENSTOCK_CACHE_NONE)
			return slot;
		order_remove(c, slot);
		vacate(c, slot);
		c->evictions++;
	}
	slot = c->free[--c->nr_free];
	s = &c->slots[slot];
	s->layer = layer;
	s->expert = expert;
	s->pins = 1;
	s->state = PENSTOCK_SLOT_LOADING;
	s->guess = guess;
	/* one count for all slots: after a resize another slot may lie where this one did */
	s->generation = ++c->generation;
	expert_of(c, layer, expert)->slot = slot;
	c->layers[layer].used++;
	c->nr_used++;
	share_changed(c, layer);
	return slot;
}

bool penstock_cache_loaded(struct penstock_cache *c, uint32_t slot, bool good)
{
	struct penstock_cache_slot *s = &c->slots[slot];

	if (good) {
		s->state = PENSTOCK_SLOT_READY;
		return penstock_cache_unpin(c, slot);
	}
	/* tickets that still pin it see the failure; nobody else may find it */
	expert_of(c, s->layer, s->expert)->slot = PENSTOCK_CACHE_NONE;
	s->state = PENSTOCK_SLOT_FAILED;
	return penstock_cache_unpin(c, slot);
}

bool penstock_cache_claim(struct penstock_cache *c, uint32_t slot)
{
	bool first = c->slots[slot].guess;

	c->slots[slot].guess = false;
	return first;
}
