// SPDX-License-Identifier: MIT
/*
 * Eviction order: see policy.h. Lists are circular and doubly linked over one
 * array of nodes; the node of slot s is s, the sentinel of list b of layer l is
 * nr_slots + l * nr_lists + b.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "policy.h"
#include "util.h"

#define LISTS_LFU	64u	/* one bit each in struct layer_order.filled */
#define LISTS_A_POWER	4	/* lists a power of two of heat */
/* Lists below the present: what has faded 2^-10 is as good as never used. */
#define LISTS_BELOW	(10 * LISTS_A_POWER)

struct node {
	uint32_t prev;
	uint32_t next;
	uint32_t layer;
	float heat;		/* LFU: log2, as of the last use */
	uint64_t step;		/* of its layer, at the last use */
};

struct layer_order {
	uint64_t step;
	int64_t base;		/* LFU: absolute number of the coldest list */
	uint64_t filled;	/* LFU: bit b: list b may hold slots */
};

struct penstock_policy {
	int kind;
	uint32_t nr_slots;
	uint32_t nr_experts;
	uint32_t nr_lists;
	struct node *nodes;
	struct layer_order *layers;
	float *heat;		/* LFU: layer * nr_experts + expert */
};

static const char *const names[] = { "lru", "lfu" };

int penstock_policy_kind(const char *name)
{
	for (size_t i = 0; i < PENSTOCK_ARRAY_SIZE(names); i++)
		if (!strcmp(names[i], name))
			return (int)i;
	return -1;
}

const char *penstock_policy_name(int kind)
{
	return names[kind];
}

int penstock_policy_create(int kind, uint32_t nr_slots, uint32_t nr_layers, uint32_t nr_experts,
			   struct penstock_policy **out)
{
	struct penstock_policy *p;
	uint64_t nr_nodes;

	if (kind < 0 || (size_t)kind >= PENSTOCK_ARRAY_SIZE(names))
		return -EINVAL;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->kind = kind;
	p->nr_slots = nr_slots;
	p->nr_experts = nr_experts;
	p->nr_lists = kind == PENSTOCK_POLICY_LFU ? LISTS_LFU : 1;
	nr_nodes = nr_slots + (uint64_t)nr_layers * p->nr_lists;
	p->nodes = calloc(nr_nodes, sizeof(*p->nodes));
	p->layers = calloc(nr_layers, sizeof(*p->layers));
	p->heat = calloc(kind == PENSTOCK_POLICY_LFU ? (size_t)nr_layers * nr_experts : 1, sizeof(*p->heat));
	if (!p->nodes || !p->layers || !p->heat) {
		penstock_policy_destroy(p);
		return -ENOMEM;
	}
	for (uint64_t i = 0; i < nr_nodes; i++)
		p->nodes[i].prev = p->nodes[i].next = (uint32_t)i;
	for (uint32_t l = 0; l < nr_layers; l++)
		p->layers[l].base = -LISTS_BELOW;
	for (uint64_t i = 0; kind == PENSTOCK_POLICY_LFU && i < (uint64_t)nr_layers * nr_experts; i++)
		p->heat[i] = -INFINITY;
	*out = p;
	return 0;
}

void penstock_policy_destroy(struct penstock_policy *p)
{
	if (!p)
		return;
	free(p->nodes);
	free(p->layers);
	free(p->heat);
	free(p);
}

static uint32_t sentinel(const struct penstock_policy *p, uint32_t layer, int64_t list)
{
	return p->nr_slots + layer * p->nr_lists + (uint32_t)(list & (p->nr_lists - 1));
}

static void link_before(struct penstock_policy *p, uint32_t at, uint32_t slot)
{
	struct node *n = &p->nodes[slot];

	n->next = at;
	n->prev = p->nodes[at].prev;
	p->nodes[n->prev].next = slot;
	p->nodes[at].prev = slot;
}

/* The list that has faded out of the window goes in front of the next warmer one. */
static void advance_base(struct penstock_policy *p, uint32_t layer)
{
	struct layer_order *lo = &p->layers[layer];
	uint32_t from = sentinel(p, layer, lo->base), to = sentinel(p, layer, lo->base + 1);
	struct node *f = &p->nodes[from], *t = &p->nodes[to];
	uint64_t bit = 1ull << (lo->base & (LISTS_LFU - 1));

	if (f->next != from) {
		p->nodes[f->prev].next = t->next;
		p->nodes[t->next].prev = f->prev;
		t->next = f->next;
		p->nodes[f->next].prev = to;
		f->next = f->prev = from;
		lo->filled |= 1ull << ((lo->base + 1) & (LISTS_LFU - 1));
	}
	lo->filled &= ~bit;
	lo->base++;
}

void penstock_policy_step(struct penstock_policy *p, uint32_t layer)
{
	struct layer_order *lo = &p->layers[layer];

	lo->step++;
	if (p->kind != PENSTOCK_POLICY_LFU)
		return;
	while (lo->base < (int64_t)(lo->step * LISTS_A_POWER / PENSTOCK_POLICY_HALF_LIFE) - LISTS_BELOW)
		advance_base(p, layer);
}

void penstock_policy_use(struct penstock_policy *p, uint32_t layer, uint32_t expert)
{
	float now, *h;

	if (p->kind != PENSTOCK_POLICY_LFU)
		return;
	h = &p->heat[(uint64_t)layer * p->nr_experts + expert];
	now = (float)p->layers[layer].step / PENSTOCK_POLICY_HALF_LIFE;
	/* log2(2^h + 2^now) without overflow */
	*h = fmaxf(*h, now) + log2f(1.0f + exp2f(-fabsf(*h - now)));
}

void penstock_policy_add(struct penstock_policy *p, uint32_t slot, uint32_t layer, uint32_t expert, bool cold)
{
	struct layer_order *lo = &p->layers[layer];
	struct node *n = &p->nodes[slot];
	int64_t list = lo->base;

	n->layer = layer;
	n->step = cold ? 0 : lo->step;
	n->heat = -INFINITY;
	if (p->kind == PENSTOCK_POLICY_LFU && !cold) {
		n->heat = p->heat[(uint64_t)layer * p->nr_experts + expert];
		if (n->heat > (float)lo->base / LISTS_A_POWER)
			list = (int64_t)(n->heat * LISTS_A_POWER);
		if (list < lo->base)
			list = lo->base;
		if (list > lo->base + (int64_t)LISTS_LFU - 1)
			list = lo->base + (int64_t)LISTS_LFU - 1;
	}
	if (p->kind == PENSTOCK_POLICY_LFU)
		lo->filled |= 1ull << (list & (LISTS_LFU - 1));
	else
		list = 0;
	link_before(p, cold ? p->nodes[sentinel(p, layer, list)].next : sentinel(p, layer, list), slot);
}

void penstock_policy_remove(struct penstock_policy *p, uint32_t slot)
{
	struct node *n = &p->nodes[slot];

	p->nodes[n->prev].next = n->next;
	p->nodes[n->next].prev = n->prev;
	n->prev = n->next = slot;
}

uint32_t penstock_policy_victim(struct penstock_policy *p, uint32_t layer)
{
	struct layer_order *lo = &p->layers[layer];
	uint32_t s, turn;

	if (p->kind != PENSTOCK_POLICY_LFU) {
		s = sentinel(p, layer, 0);
		return p->nodes[s].next == s ? PENSTOCK_POLICY_NONE : p->nodes[s].next;
	}
	turn = (uint32_t)(lo->base & (LISTS_LFU - 1));
	while (lo->filled) {
		/* rotated, so that bit 0 is the coldest list */
		uint64_t rot = turn ? lo->filled >> turn | lo->filled << (LISTS_LFU - turn) : lo->filled;
		int64_t list = lo->base + __builtin_ctzll(rot);

		s = sentinel(p, layer, list);
		if (p->nodes[s].next != s)
			return p->nodes[s].next;
		lo->filled &= ~(1ull << (list & (LISTS_LFU - 1)));
	}
	return PENSTOCK_POLICY_NONE;
}

bool penstock_policy_colder(const struct penstock_policy *p, uint32_t a, uint32_t b)
{
	const struct node *x = &p->nodes[a], *y = &p->nodes[b];
	/* layers step one after the other: what counts is the age in steps of its own layer */
	uint64_t age_x = p->layers[x->layer].step - x->step, age_y = p->layers[y->layer].step - y->step;
	float hx, hy;

	if (p->kind != PENSTOCK_POLICY_LFU)
		return age_x > age_y + age_y / 4 + 1;
	hx = x->heat - (float)p->layers[x->layer].step / PENSTOCK_POLICY_HALF_LIFE;
	hy = y->heat - (float)p->layers[y->layer].step / PENSTOCK_POLICY_HALF_LIFE;
	return hx < hy - 0.5f;
}
