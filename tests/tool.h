/* SPDX-License-Identifier: MIT */
/*
 * Running `penstock` from a test: arguments in, exit status, text and parsed
 * JSON out, in a folder of the test's own.
 */
#ifndef PENSTOCK_TESTS_TOOL_H
#define PENSTOCK_TESTS_TOOL_H

#include <stdarg.h>
#include <yajl/yajl_tree.h>

#include "harness.h"

/* Above one token's experts of these checkpoints, below a layer's. */
#define SMALL	"96K"
#define MAX_ARGS 48

struct result {
	int status;		/* exit status; 256 + signal */
	char *out;
	char *err;
	yajl_val json;
};

static char dir[64];

static inline const char *top(void)
{
	const char *t = getenv("PENSTOCK_TOP");

	return t ? t : ".";
}

/* A fresh folder, the same for the whole test. */
static inline const char *in_dir(const char *name)
{
	static char path[16][256];
	static int nr;

	if (!dir[0]) {
		snprintf(dir, sizeof(dir), "/var/tmp/penstock-run-XXXXXX");
		ASSERT_TRUE(mkdtemp(dir) != NULL);
	}
	nr = (nr + 1) % 16;
	snprintf(path[nr], sizeof(path[nr]), "%s/%s", dir, name);
	return path[nr];
}

static inline void clean(void)
{
	char cmd[128];

	if (!dir[0])
		return;
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	EXPECT_EQ(0, system(cmd));
	dir[0] = 0;
}

static inline const char *golden(const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/tests/golden/%s", top(), name);
	if (access(path, R_OK))
		SKIP("no checkpoint %s", path);
	return path;
}

static inline char *read_all(const char *path)
{
	char *text = calloc(1, 1 << 20);
	FILE *f = fopen(path, "r");

	ASSERT_TRUE(f && text);
	text[fread(text, 1, (1 << 20) - 1, f)] = 0;
	fclose(f);
	return text;
}

static inline pid_t start_list(const char *out, const char *err, const char *command, va_list ap)
{
	char path[512], *argv[MAX_ARGS] = { (char *)"penstock", (char *)command };
	const char *build = getenv("PENSTOCK_BUILD");
	int nr = 2;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/penstock", build ? build : "build");
	while (nr < MAX_ARGS - 1 && (argv[nr] = va_arg(ap, char *)))
		nr++;
	fflush(stdout);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		if (!freopen(out, "w", stdout) || !freopen(err, "w", stderr))
			_exit(99);
		execv(path, argv);
		_exit(98);
	}
	return pid;
}

static inline pid_t start(const char *out, const char *err, const char *command, ...)
{
	va_list ap;
	pid_t pid;

	va_start(ap, command);
	pid = start_list(out, err, command, ap);
	va_end(ap);
	return pid;
}

static inline int finish(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		ASSERT_EQ(EINTR, errno);
	return WIFSIGNALED(status) ? 256 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Run it; parse the output if it is an object. Ends with NULL. */
static inline struct result tool(const char *command, ...)
{
	char out[256], err[256], why[256] = "";
	struct result r = { 0 };
	va_list ap;

	snprintf(out, sizeof(out), "%s", in_dir("out"));
	snprintf(err, sizeof(err), "%s", in_dir("err"));
	va_start(ap, command);
	r.status = finish(start_list(out, err, command, ap));
	va_end(ap);
	r.out = read_all(out);
	r.err = read_all(err);
	if (r.out[0] == '{') {
		r.json = yajl_tree_parse(r.out, why, sizeof(why));
		if (!r.json)
			printf("# not JSON: %s\n", why);
		ASSERT_TRUE(r.json != NULL);
	}
	if (r.status)
		printf("# status %d: %s", r.status, r.err);
	return r;
}

static inline void done(struct result *r)
{
	yajl_tree_free(r->json);
	free(r->out);
	free(r->err);
}

static inline yajl_val get(const struct result *r, const char *key)
{
	const char *path[] = { key, NULL };
	yajl_val v = r->json ? yajl_tree_get(r->json, path, yajl_t_any) : NULL;

	if (!v)
		TEST_FAIL_(1, "no key \"%s\" in %s", key, r->out);
	return v;
}

static inline double number(const struct result *r, const char *key)
{
	yajl_val v = get(r, key);

	ASSERT_TRUE(YAJL_IS_NUMBER(v));
	return YAJL_GET_DOUBLE(v);
}

/* Output ids of a sequence. Return: how many. */
static inline size_t ids_of(const struct result *r, size_t seq, int *ids, size_t room)
{
	yajl_val rows = get(r, "output"), list;
	const char *path[] = { "ids", NULL };
	size_t i;

	ASSERT_TRUE(YAJL_IS_ARRAY(rows) && rows->u.array.len > seq);
	list = yajl_tree_get(rows->u.array.values[seq], path, yajl_t_array);
	ASSERT_TRUE(list && list->u.array.len <= room);
	for (i = 0; i < list->u.array.len; i++)
		ids[i] = (int)YAJL_GET_INTEGER(list->u.array.values[i]);
	return i;
}

static inline void expect_same_ids(const struct result *a, const struct result *b, size_t seq)
{
	int x[256], y[256];
	size_t i, n = ids_of(a, seq, x, 256);

	ASSERT_EQ(n, ids_of(b, seq, y, 256));
	for (i = 0; i < n; i++)
		EXPECT_EQ(x[i], y[i]);
}

/* The line "key: values" of a golden's expected.txt; NULL if there is none. */
static inline char *expected(const char *model, const char *key)
{
	char path[600], *text, *at, *line = NULL;

	snprintf(path, sizeof(path), "%s/expected.txt", model);
	text = read_all(path);
	for (at = text; at && *at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
		if (!strncmp(at, key, strlen(key)) && at[strlen(key)] == ':') {
			at[strcspn(at, "\n")] = 0;
			line = strdup(at + strlen(key) + 2);
			break;
		}
	free(text);
	return line;
}

static inline void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	ASSERT_TRUE(f != NULL);
	fputs(text, f);
	ASSERT_EQ(0, fclose(f));
}

#endif
