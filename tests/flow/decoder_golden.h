/* SPDX-License-Identifier: MIT */
/*
 * What the decoder's tests share: reading a golden's expected values, opening a
 * checkpoint with everything around it, and the library as an expert source.
 */
#ifndef PENSTOCK_TESTS_DECODER_GOLDEN_H
#define PENSTOCK_TESTS_DECODER_GOLDEN_H

#include <math.h>
#include <sys/stat.h>

#include "harness.h"
#include "decoder/decoder.h"
#include "decoder/plain.h"
#include "decoder/sample.h"

/* ---- expected values ---- */

static inline const char *golden_dir(const char *name, const char *file)
{
	static char paths[4][512];
	static unsigned int turn;
	const char *top = getenv("PENSTOCK_TOP");
	char *path = paths[turn++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/tests/golden/%s/%s", top ? top : ".", name, file);
	return path;
}

static inline char *golden_slurp(const char *path, size_t *len)
{
	FILE *f = fopen(path, "rb");
	struct stat st;
	char *text;

	if (!f || fstat(fileno(f), &st))
		return NULL;
	text = malloc((size_t)st.st_size + 1);
	if (text && fread(text, 1, (size_t)st.st_size, f) == (size_t)st.st_size)
		text[st.st_size] = 0;
	fclose(f);
	if (len)
		*len = (size_t)st.st_size;
	return text;
}

/* Values of "key: 1 2 3" in expected.txt; 0 if there is no such key. The caller frees *@out. */
static inline size_t golden_numbers(const char *name, const char *key, double **out)
{
	char *text = golden_slurp(golden_dir(name, "expected.txt"), NULL), *line, *end;
	size_t n = 0, len = strlen(key);

	*out = NULL;
	ASSERT_TRUE(text);
	for (line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
		if (!strncmp(line, key, len) && line[len] == ':')
			break;
	if (line) {
		*out = calloc(strlen(line) + 1, sizeof(**out));
		ASSERT_TRUE(*out);
		for (line += len + 1; *line && *line != '\n'; line = end) {
			(*out)[n] = strtod(line, &end);
			if (end == line)
				break;
			n++;
		}
	}
	free(text);
	return n;
}

/* What to open: the golden's folder, or the file that its "path" names. */
static inline const char *golden_model(const char *name)
{
	char *text = golden_slurp(golden_dir(name, "expected.txt"), NULL), *line;
	const char *path;

	ASSERT_TRUE(text);
	line = strstr(text, "\npath: ");
	ASSERT_TRUE(line);
	line += strlen("\npath: ");
	line[strcspn(line, "\n")] = 0;
	path = golden_dir(name, line);
	free(text);
	return path;
}

static inline double golden_number(const char *name, const char *key)
{
	double *v, one;

	ASSERT_EQ(1, (int)golden_numbers(name, key, &v));
	one = v[0];
	free(v);
	return one;
}

static inline float *golden_floats(const char *name, const char *file, size_t want)
{
	size_t len = 0;
	char *data = golden_slurp(golden_dir(name, file), &len);

	if (data)
		ASSERT_EQ(want * sizeof(float), len);
	return (float *)data;
}

/* Largest distance, by the size of the largest expected value. */
static inline double golden_distance(const float *a, const float *want, size_t n)
{
	double worst = 0, size = 1e-30;
	size_t i;

	for (i = 0; i < n; i++) {
		if (!(fabs((double)a[i] - want[i]) <= worst))
			worst = fabs((double)a[i] - want[i]);
		if (fabs((double)want[i]) > size)
			size = fabs((double)want[i]);
	}
	return worst / size;
}

/* ---- a checkpoint, opened ---- */

struct opened {
	struct penstock_ctx *ctx;
	struct penstock_model *model;
	struct penstock_queue *q;
	struct penstock_pool *pool;
	struct decoder *d;
	struct decoder_plain *plain;
	struct penstock_ticket *ticket;
};

#define ASSERT_GOOD(rc, err) do { int rc_ = (rc); if (rc_) TEST_FAIL_(1, "%d: %s", rc_, (err)->text); } while (0)

static inline void open_model(struct opened *o, const char *path, uint64_t cache_bytes)
{
	struct penstock_options opts = PENSTOCK_OPTIONS_INIT;
	struct penstock_error err = { 0 };

	memset(o, 0, sizeof(*o));
	opts.cache_bytes = cache_bytes;
	/* given, so that no test waits for the drive to be measured */
	opts.queue_depth = 8;
	opts.split_bytes = 1 << 20;
	ASSERT_GOOD(penstock_open(&opts, &o->ctx, &err), &err);
	ASSERT_GOOD(penstock_model_open(o->ctx, path, NULL, &o->model, &err), &err);
	ASSERT_EQ(0, penstock_queue_create(o->ctx, &o->q));
	ASSERT_EQ(0, penstock_pool_create(2, PENSTOCK_ISA_AUTO, 0, &o->pool));
	ASSERT_GOOD(decoder_plain_create(o->model, o->pool, &o->plain, &err), &err);
}

static inline void open_decoder(struct opened *o, uint32_t positions, uint32_t seqs, int moe_only)
{
	struct decoder_options opts = { positions, seqs, moe_only };
	struct penstock_error err = { 0 };

	ASSERT_GOOD(decoder_open(o->model, o->q, o->pool, &opts, &o->d, &err), &err);
}

static inline void close_all(struct opened *o)
{
	decoder_close(o->d);
	decoder_plain_destroy(o->plain);
	penstock_pool_destroy(o->pool);
	penstock_queue_destroy(o->q);
	penstock_model_close(o->model);
	penstock_close(o->ctx);
}

/* ---- the library as a source ---- */

static inline int library_fail(struct opened *o, int rc, struct penstock_error *err)
{
	err->code = rc;
	snprintf(err->text, sizeof(err->text), "%s", penstock_errmsg(o->q));
	return rc;
}

static inline int library_begin(void *arg, const struct penstock_moe *moe, struct penstock_error *err)
{
	struct opened *o = arg;
	int rc = penstock_fetch(o->q, o->model, moe->layer, moe->ids, moe->nr_tokens * moe->top_k, &o->ticket);

	/* more than the cache holds: computed in waves inside */
	if (rc == -E2BIG) {
		o->ticket = NULL;
		return 0;
	}
	return rc ? library_fail(o, rc, err) : 0;
}

static inline int library_forward(void *arg, const struct penstock_moe *moe, struct penstock_error *err)
{
	struct opened *o = arg;
	struct penstock_moe with = *moe;
	int rc;

	with.ticket = o->ticket;
	rc = penstock_moe_forward(o->q, o->model, o->pool, &with);
	if (rc)
		library_fail(o, rc, err);
	penstock_release(o->ticket);
	o->ticket = NULL;
	return rc;
}

static inline struct decoder_experts library_source(struct opened *o)
{
	return (struct decoder_experts){ library_begin, library_forward, o };
}

/* ---- decoding ---- */

/* Run a prompt (in one step) and take nr_out tokens greedily; @last, if not NULL, receives the prompt's last logits. */
static inline void greedy(struct opened *o, const struct decoder_experts *src, const struct decoder_router_hook *hook,
			  const int32_t *prompt, size_t nr, int32_t *out, size_t nr_out, float *last)
{
	uint32_t vocab = decoder_vocab(o->d), seq = 0;
	struct decoder_row *rows = calloc(nr, sizeof(*rows));
	float *logits = malloc(vocab * sizeof(float));
	struct penstock_error err = { 0 };
	size_t i;

	ASSERT_TRUE(rows && logits);
	for (i = 0; i < nr; i++)
		rows[i] = (struct decoder_row){ prompt[i], seq, (uint32_t)i };
	ASSERT_GOOD(decoder_step(o->d, rows, nr, NULL, src, hook, logits, &err), &err);
	if (last)
		memcpy(last, logits, vocab * sizeof(float));
	for (i = 0; i < nr_out; i++) {
		out[i] = decoder_argmax(logits, vocab);
		if (i + 1 == nr_out)
			break;
		rows[0] = (struct decoder_row){ out[i], seq, (uint32_t)(nr + i) };
		ASSERT_GOOD(decoder_step(o->d, rows, 1, NULL, src, hook, logits, &err), &err);
	}
	free(rows);
	free(logits);
}

/* Prompt or output of a golden as ids. The caller frees. */
static inline int32_t *golden_ids(const char *name, const char *key, size_t *n)
{
	double *v;
	int32_t *ids;
	size_t i;

	*n = golden_numbers(name, key, &v);
	ids = calloc(*n + 1, sizeof(*ids));
	ASSERT_TRUE(ids);
	for (i = 0; i < *n; i++)
		ids[i] = (int32_t)v[i];
	free(v);
	return ids;
}

#endif
