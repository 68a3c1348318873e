// SPDX-License-Identifier: MIT
/*
 * Memory of the index: a list of chunks for what lives as long as the index
 * (names, keys, strings, part tables), and the growing tables.
 */
#include <stdlib.h>
#include <string.h>

#include "index_build.h"

#define CHUNK_BYTES	(256u << 10)

struct chunk {
	struct chunk *next;
	size_t used;
	size_t size;
	_Alignas(16) unsigned char mem[];
};

void *penstock_index_alloc(void **arena, size_t len)
{
	struct chunk *c = *arena;
	size_t size;
	void *p;

	if (len > SIZE_MAX / 2)
		return NULL;
	len = (len + 7) & ~(size_t)7;
	if (!c || c->size - c->used < len) {
		size = len > CHUNK_BYTES ? len : CHUNK_BYTES;
		c = calloc(1, sizeof(*c) + size);
		if (!c)
			return NULL;
		c->size = size;
		/* a large piece must not hide the room that is left in the chunk before it */
		if (*arena && len > CHUNK_BYTES / 2) {
			c->next = ((struct chunk *)*arena)->next;
			((struct chunk *)*arena)->next = c;
		} else {
			c->next = *arena;
			*arena = c;
		}
	}
	p = c->mem + c->used;
	c->used += len;
	return p;
}

char *penstock_index_strdup(void **arena, const char *s, size_t len)
{
	char *p = len < SIZE_MAX ? penstock_index_alloc(arena, len + 1) : NULL;

	if (p && len)
		memcpy(p, s, len);
	return p;
}

void penstock_index_arena_free(void **arena)
{
	struct chunk *c = *arena, *next;

	for (; c; c = next) {
		next = c->next;
		free(c);
	}
	*arena = NULL;
}

int penstock_index_nomem(struct penstock_index_build *b)
{
	return penstock_err(b->err, -ENOMEM, "index of %s, %u tensors so far", b->ix->path, b->ix->nr_tensors);
}

struct penstock_index_tensor *penstock_index_add_tensor(struct penstock_index_build *b)
{
	struct penstock_index *ix = b->ix;
	struct penstock_index_tensor *t;
	uint32_t cap;

	if (ix->nr_tensors == b->cap_tensors) {
		if (b->cap_tensors > UINT32_MAX / 4) {
			penstock_err(b->err, -EBADMSG, "%s: more than %u tensors", ix->path, b->cap_tensors);
			return NULL;
		}
		cap = b->cap_tensors ? b->cap_tensors * 2 : 256;
		t = reallocarray(ix->tensors, cap, sizeof(*t));
		if (!t) {
			penstock_index_nomem(b);
			return NULL;
		}
		ix->tensors = t;
		b->cap_tensors = cap;
	}
	t = &ix->tensors[ix->nr_tensors++];
	memset(t, 0, sizeof(*t));
	return t;
}

int penstock_index_set_dims(struct penstock_index_build *b, struct penstock_index_tensor *t, const uint64_t *dims,
			    uint32_t nr)
{
	uint64_t *to = t->dims;

	if (nr > PENSTOCK_ARRAY_SIZE(t->dims)) {
		to = penstock_index_alloc(&b->ix->arena, nr * sizeof(*to));
		if (!to)
			return penstock_index_nomem(b);
		t->more_dims = to;
	}
	memcpy(to, dims, nr * sizeof(*to));
	t->nr_dims = (uint8_t)nr;
	return 0;
}

int penstock_index_add_meta(struct penstock_index_build *b, const char *key, size_t key_len,
			    const struct penstock_meta *value)
{
	struct penstock_index *ix = b->ix;
	struct penstock_index_meta *m;
	uint32_t cap;

	if (ix->nr_meta == b->cap_meta) {
		cap = b->cap_meta ? b->cap_meta * 2 : 64;
		m = reallocarray(ix->meta, cap, sizeof(*m));
		if (!m)
			return penstock_index_nomem(b);
		ix->meta = m;
		b->cap_meta = cap;
	}
	m = &ix->meta[ix->nr_meta];
	m->key = penstock_index_strdup(&ix->arena, key, key_len);
	if (!m->key)
		return penstock_index_nomem(b);
	m->value = *value;
	m->order = ix->nr_meta++;
	return 0;
}
