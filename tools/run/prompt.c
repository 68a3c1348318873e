// SPDX-License-Identifier: MIT
/*
 * Prompts are token ids: read from a file, or drawn from a seed. A line of the
 * file is a sequence; sequences may differ in length.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"

static int prompts_alloc(struct run_prompts *p, uint32_t nr)
{
	p->ids = calloc(nr, sizeof(*p->ids));
	p->len = calloc(nr, sizeof(*p->len));
	p->longest = 0;
	p->nr = nr;
	if (p->ids && p->len)
		return 0;
	run_prompts_free(p);
	return -ENOMEM;
}

void run_prompts_free(struct run_prompts *p)
{
	uint32_t i;

	for (i = 0; p->ids && i < p->nr; i++)
		free(p->ids[i]);
	free(p->ids);
	free(p->len);
	memset(p, 0, sizeof(*p));
}

int run_prompts_random(uint64_t seed, uint32_t batch, uint32_t len, uint32_t vocab, struct run_prompts *p)
{
	struct decoder_sampler draw;
	uint32_t i, j;

	if (prompts_alloc(p, batch))
		return -ENOMEM;
	decoder_sampler_seed(&draw, seed, 0);
	for (i = 0; i < batch; i++) {
		p->ids[i] = malloc(len * sizeof(**p->ids));
		if (!p->ids[i]) {
			run_prompts_free(p);
			return -ENOMEM;
		}
		p->len[i] = len;
		for (j = 0; j < len; j++)
			p->ids[i][j] = (int32_t)(decoder_sampler_next(&draw) % vocab);
	}
	p->longest = len;
	return 0;
}

/* Ids of one line. Return: how many, or -errno. */
static int64_t line_ids(const char *path, unsigned int nr, char *line, int32_t **out, struct penstock_error *err)
{
	size_t n = 0, room = 0;
	int32_t *ids = NULL, *more;
	char *at = line, *end;
	long v;

	for (;;) {
		while (isspace((unsigned char)*at) || *at == ',')
			at++;
		if (!*at)
			break;
		errno = 0;
		v = strtol(at, &end, 10);
		if (end == at || errno || v < 0 || v > INT32_MAX ||
		    (*end && *end != ',' && !isspace((unsigned char)*end))) {
			free(ids);
			return decoder_fail(err, -EINVAL, "prompt file %s, line %u: \"%.20s\" is no token id", path, nr,
					    at);
		}
		if (n == room) {
			room = room ? room * 2 : 64;
			more = realloc(ids, room * sizeof(*ids));
			if (!more) {
				free(ids);
				return decoder_fail(err, -ENOMEM, "prompt file %s", path);
			}
			ids = more;
		}
		ids[n++] = (int32_t)v;
		at = end;
	}
	*out = ids;
	return (int64_t)n;
}

static int prompts_append(struct run_prompts *p, int32_t *ids, uint32_t len)
{
	int32_t **more = realloc(p->ids, (p->nr + 1) * sizeof(*more));
	uint32_t *lens;

	if (!more)
		return -ENOMEM;
	p->ids = more;
	lens = realloc(p->len, (p->nr + 1) * sizeof(*lens));
	if (!lens)
		return -ENOMEM;
	p->len = lens;
	p->ids[p->nr] = ids;
	p->len[p->nr++] = len;
	return 0;
}

/* Make it @batch sequences: lines are repeated in turn, or left off. */
static int prompts_fit(struct run_prompts *p, uint32_t batch)
{
	uint32_t lines = p->nr;
	int32_t *copy;

	while (p->nr > batch)
		free(p->ids[--p->nr]);
	while (p->nr < batch) {
		uint32_t from = p->nr % lines;

		copy = malloc(p->len[from] * sizeof(*copy));
		if (!copy)
			return -ENOMEM;
		memcpy(copy, p->ids[from], p->len[from] * sizeof(*copy));
		if (prompts_append(p, copy, p->len[from])) {
			free(copy);
			return -ENOMEM;
		}
	}
	return 0;
}

int run_prompts_read(const char *path, uint32_t batch, struct run_prompts *p, struct penstock_error *err)
{
	unsigned int nr = 0;
	char *line = NULL;
	size_t room = 0;
	int rc = 0;
	uint32_t i;
	FILE *f;

	memset(p, 0, sizeof(*p));
	f = fopen(path, "r");
	if (!f)
		return decoder_fail(err, -errno, "prompt file %s", path);
	while (getline(&line, &room, f) >= 0) {
		int32_t *ids = NULL;
		int64_t n;

		n = line_ids(path, ++nr, line, &ids, err);
		if (n < 0) {
			rc = (int)n;
			break;
		}
		if (!n)
			continue;
		if (prompts_append(p, ids, (uint32_t)n)) {
			free(ids);
			rc = decoder_fail(err, -ENOMEM, "prompt file %s", path);
			break;
		}
	}
	if (!rc && ferror(f))
		rc = decoder_fail(err, -EIO, "prompt file %s", path);
	if (!rc && !p->nr)
		rc = decoder_fail(err, -EINVAL, "prompt file %s: no token ids in it", path);
	if (!rc && batch && prompts_fit(p, batch))
		rc = decoder_fail(err, -ENOMEM, "prompt file %s", path);
	free(line);
	fclose(f);
	if (rc) {
		run_prompts_free(p);
		return rc;
	}
	for (i = 0; i < p->nr; i++)
		if (p->len[i] > p->longest)
			p->longest = p->len[i];
	return 0;
}

int run_prompts_check(const struct run_prompts *p, uint32_t vocab, struct penstock_error *err)
{
	uint32_t i, j;

	for (i = 0; i < p->nr; i++)
		for (j = 0; j < p->len[i]; j++)
			if ((uint32_t)p->ids[i][j] >= vocab)
				return decoder_fail(err, -EINVAL,
						    "prompt %u, token %u: id %d is outside of the vocabulary of %u", i,
						    j, p->ids[i][j], vocab);
	return 0;
}
