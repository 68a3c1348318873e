/* SPDX-License-Identifier: MIT */
/*
 * Reading the goldens of tests/golden: its README.md describes the files. A
 * missing or malformed golden ends the test.
 */
#ifndef PENSTOCK_TESTS_GOLDEN_H
#define PENSTOCK_TESTS_GOLDEN_H

#include "harness.h"

#define GOLDEN_PATH_MAX 1024

struct golden {
	char dir[GOLDEN_PATH_MAX];
	char *text;		/* expected.txt, with a newline before its first line */
};

/* The whole file and a zero byte; the caller frees. */
static inline void *golden_read(const char *path, size_t *len)
{
	FILE *f = fopen(path, "rb");
	char *buf = NULL;
	size_t n = 0, cap = 0;

	if (!f)
		TEST_FAIL_(1, "%s: %s", path, strerror(errno));
	for (;;) {
		if (n + 1 >= cap) {
			cap = cap ? cap * 2 : 4096;
			buf = realloc(buf, cap);
			ASSERT_TRUE(buf != NULL);
		}
		size_t got = fread(buf + n, 1, cap - n - 1, f);

		if (!got)
			break;
		n += got;
	}
	fclose(f);
	buf[n] = 0;
	*len = n;
	return buf;
}

static inline void golden_join(char *out, size_t size, const char *dir, const char *name)
{
	int len = snprintf(out, size, "%s/%s", dir, name);

	ASSERT_GT((long)size, (long)len);
}

static inline void golden_root(char *path, size_t size)
{
	const char *top = getenv("PENSTOCK_TOP");

	golden_join(path, size, top ? top : ".", "tests/golden");
}

static inline void golden_open(struct golden *g, const char *name)
{
	char path[GOLDEN_PATH_MAX];
	char *text;
	size_t len;

	golden_root(path, sizeof(path));
	golden_join(g->dir, sizeof(g->dir), path, name);
	golden_join(path, sizeof(path), g->dir, "expected.txt");
	text = golden_read(path, &len);
	g->text = malloc(len + 2);
	ASSERT_TRUE(g->text != NULL);
	g->text[0] = '\n';
	memcpy(g->text + 1, text, len + 1);
	free(text);
}

static inline void golden_close(struct golden *g)
{
	free(g->text);
}

/* The values of a key, up to the end of its line, or NULL. */
static inline const char *golden_find(const struct golden *g, const char *key)
{
	char pattern[80];
	const char *at;

	snprintf(pattern, sizeof(pattern), "\n%s: ", key);
	at = strstr(g->text, pattern);
	return at ? at + strlen(pattern) : NULL;
}

static inline void golden_word(const struct golden *g, const char *key, char *out, size_t size)
{
	const char *at = golden_find(g, key);
	size_t len = at ? strcspn(at, " \n") : 0;

	if (!at || len >= size)
		TEST_FAIL_(1, "%s: no %s", g->dir, key);
	memcpy(out, at, len);
	out[len] = 0;
}

/* All numbers of a key; returns how many, 0 without the key. */
static inline size_t golden_numbers(const struct golden *g, const char *key, double *out, size_t max)
{
	const char *at = golden_find(g, key);
	size_t n = 0;
	char *end;

	while (at && *at && *at != '\n') {
		double v = strtod(at, &end);

		if (end == at || n == max)
			TEST_FAIL_(1, "%s: %s: bad or more than %zu values", g->dir, key, max);
		out[n++] = v;
		at = end + strspn(end, " ");
	}
	return n;
}

static inline size_t golden_ints(const struct golden *g, const char *key, int32_t *out, size_t max)
{
	double *v = malloc(max * sizeof(*v));
	size_t i, n;

	ASSERT_TRUE(v != NULL);
	n = golden_numbers(g, key, v, max);
	for (i = 0; i < n; i++)
		out[i] = (int32_t)v[i];
	free(v);
	return n;
}

static inline uint32_t golden_int(const struct golden *g, const char *key)
{
	double v = 0;

	if (golden_numbers(g, key, &v, 1) != 1)
		TEST_FAIL_(1, "%s: no %s", g->dir, key);
	return (uint32_t)v;
}

/* A .f32 file of exactly @n floats; the caller frees. */
static inline float *golden_floats(const struct golden *g, const char *file, size_t n)
{
	char path[GOLDEN_PATH_MAX];
	size_t len;
	void *data;

	golden_join(path, sizeof(path), g->dir, file);
	data = golden_read(path, &len);
	if (len != n * sizeof(float))
		TEST_FAIL_(1, "%s: %zu bytes, not %zu", path, len, n * sizeof(float));
	return data;
}

static inline void golden_model_path(const struct golden *g, char *out, size_t size)
{
	char rel[128];

	golden_word(g, "path", rel, sizeof(rel));
	golden_join(out, size, g->dir, rel);
}

#endif
