// SPDX-License-Identifier: MIT
/* The canary: see canary.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "canary.h"
#include "err.h"
#include "mem_copy.h"
#include "util.h"

#define BLOCK		PENSTOCK_CANARY_BLOCK
#define WORDS		(BLOCK / sizeof(uint64_t))
/* Places of the file that are looked at for blocks that differ. */
#define CANDIDATES	64u

struct chosen {
	uint32_t nr;
	uint64_t off[PENSTOCK_CANARY_BLOCKS];
	uint64_t blocks[PENSTOCK_CANARY_BLOCKS][WORDS];
	/* what is written to the view before, and what is there after */
	uint64_t image[PENSTOCK_CANARY_BYTES / sizeof(uint64_t)];
};

/* Each word of the poison is another one, so that what moved is seen to have moved. */
static uint64_t poison_word(uint64_t seed, uint64_t i)
{
	uint64_t h = seed + (i + 1) * 0x9e3779b97f4a7c15u;

	h ^= h >> 30;
	h *= 0xbf58476d1ce4e5b9u;
	h ^= h >> 27;
	h *= 0x94d049bb133111ebu;
	return h ^ h >> 31;
}

/* The peer may go at any time. */
static int gone(const struct penstock_canary *c, int rc, struct penstock_error *err)
{
	return rc ? penstock_err(err, rc, "canary of %s: look at its memory", c->pair) : 0;
}

static int poison(const struct penstock_canary *c, struct chosen *ch, struct penstock_error *err)
{
	for (uint64_t i = 0; i < PENSTOCK_ARRAY_SIZE(ch->image); i++)
		ch->image[i] = poison_word(c->seed, i);
	return gone(c, penstock_mem_copy_in(c->view, ch->image, sizeof(ch->image)), err);
}

/* A block of one value, as cleared memory is, proves nothing. */
static bool is_plain(const uint64_t *block)
{
	for (uint32_t i = 1; i < WORDS; i++)
		if (block[i] != block[0])
			return false;
	return true;
}

static bool is_known(const struct chosen *ch, const uint64_t *block)
{
	for (uint32_t i = 0; i < ch->nr; i++)
		if (!memcmp(ch->blocks[i], block, BLOCK))
			return true;
	return false;
}

/* Places all over the file, the whole of it if it is short. */
static int choose(const struct penstock_canary *c, struct chosen *ch, struct penstock_error *err)
{
	uint64_t total = c->size / BLOCK, tries = penstock_min_u64(total, CANDIDATES), step, off;
	int rc;

	step = tries ? total / tries : 1;
	for (uint64_t i = 0; i < tries && ch->nr < PENSTOCK_CANARY_BLOCKS; i++) {
		/* a stride through the candidates, so that the first eight are not neighbours */
		off = (i * 29 % CANDIDATES % tries * step + poison_word(c->seed, i) % step) * BLOCK;
		rc = c->plain(c->arg, off, ch->blocks[ch->nr], err);
		if (rc)
			return rc;
		if (is_plain(ch->blocks[ch->nr]) || is_known(ch, ch->blocks[ch->nr]))
			continue;
		ch->off[ch->nr++] = off;
	}
	if (ch->nr < PENSTOCK_CANARY_LEAST)
		return penstock_err(err, -ENODATA, "canary of %s: %u blocks that differ among %" PRIu64
				    " of the file, %u are needed", c->pair, ch->nr, tries, PENSTOCK_CANARY_LEAST);
	return 0;
}

/* Where a block lies in the region; a guard is the page before. */
static uint32_t place(uint32_t i)
{
	return (2 * i + 1) * BLOCK;
}

static bool is_poison(const struct penstock_canary *c, uint64_t word, uint64_t value)
{
	return value == poison_word(c->seed, word);
}

static int wrong_guard(const struct penstock_canary *c, uint32_t page, uint64_t word, uint64_t found,
		       struct penstock_error *err)
{
	return penstock_err(err, -EREMOTEIO, "canary of %s: the guard in page %u was overwritten at byte %" PRIu64
			    ": expected %016" PRIx64 ", found %016" PRIx64, c->pair, page,
			    (word * sizeof(word)) % BLOCK, poison_word(c->seed, word), found);
}

static int wrong_block(const struct penstock_canary *c, const struct chosen *ch, uint32_t nr, const uint64_t *got,
		       uint32_t at, struct penstock_error *err)
{
	uint64_t first = place(nr) / sizeof(*got);
	const char *hint = "";
	uint32_t left = 0;

	for (uint32_t i = 0; i < WORDS; i++)
		left += is_poison(c, first + i, got[i]);
	if (left == WORDS)
		hint = ": nothing arrived, though the read reported all of it";
	else if (is_known(ch, got))
		hint = ": it is another block";
	else if (left)
		hint = ": only a part arrived";
	return penstock_err(err, -EREMOTEIO, "canary of %s: block %u (file offset %" PRIu64 ") differs from byte %u on:"
			    " expected %016" PRIx64 ", found %016" PRIx64 "%s", c->pair, nr, ch->off[nr],
			    (uint32_t)(at * sizeof(*got)), ch->blocks[nr][at], got[at], hint);
}

/* As the owner sees it. Pages of which no block was chosen are guards, too. */
static int look(const struct penstock_canary *c, struct chosen *ch, struct penstock_error *err)
{
	int rc = gone(c, penstock_mem_copy_out(ch->image, c->view, sizeof(ch->image)), err);

	if (rc)
		return rc;
	for (uint32_t page = 0; page < PENSTOCK_CANARY_BYTES / BLOCK; page++) {
		uint64_t first = (uint64_t)page * WORDS;
		const uint64_t *got = ch->image + first;
		uint32_t nr = page / 2;

		for (uint32_t i = 0; i < WORDS; i++) {
			if (page % 2 && nr < ch->nr) {
				if (got[i] != ch->blocks[nr][i])
					return wrong_block(c, ch, nr, got, i, err);
			} else if (!is_poison(c, first + i, got[i])) {
				return wrong_guard(c, page, first + i, got[i], err);
			}
		}
	}
	return 0;
}

int penstock_canary_run(const struct penstock_canary *c, struct penstock_error *err)
{
	struct chosen *ch = calloc(1, sizeof(*ch));
	int rc;

	if (!ch)
		return penstock_err(err, -ENOMEM, "canary of %s: %zu bytes", c->pair, sizeof(*ch));
	rc = choose(c, ch, err);
	if (!rc)
		rc = poison(c, ch, err);
	for (uint32_t i = 0; !rc && i < ch->nr; i++)
		rc = c->route(c->arg, ch->off[i], place(i), err);
	if (!rc)
		rc = look(c, ch, err);
	free(ch);
	return rc;
}
