// SPDX-License-Identifier: MIT
/*
 * The llama-server and the backend of this machine: where they are, and what that
 * llama-server knows, asked of itself, since no two releases have the same flags.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../runtime/err.h"
#include "../../runtime/util.h"
#include "serve.h"

#define BACKEND		"libggml-penstock.so"
#define ANSWER_MAX	(256u << 10)	/* --help has some 60 KiB */
#define ANSWER_MS	30000

static bool is_file(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode);
}

static int keep(const char *path, char **out, struct penstock_error *err)
{
	/* not realpath(): a name that is a link may be what the program goes by */
	if (*path == '/') {
		*out = strdup(path);
	} else {
		char *dir = getcwd(NULL, 0);

		if (!dir || asprintf(out, "%s/%s", dir, path) < 0)
			*out = NULL;
		free(dir);
	}
	return *out ? 0 : penstock_err(err, -ENOMEM, "%s", path);
}

/* Said by the user, so that it is this one or none. */
static int named(const char *path, const char *by, char **out, struct penstock_error *err)
{
	if (!is_file(path))
		return serve_err(err, -ENOENT, "%s %s: no such file", by, path);
	if (access(path, X_OK))
		return serve_err(err, -EACCES, "%s %s: it may not be run", by, path);
	return keep(path, out, err);
}

int serve_find_server(const char *flag, char **path, struct penstock_error *err)
{
	const char *by_env = getenv("LLAMA_SERVER"), *at = getenv("PATH");
	char full[PATH_MAX];

	*path = NULL;
	if (flag)
		return named(flag, "--llama-server", path, err);
	if (by_env && *by_env)
		return named(by_env, "LLAMA_SERVER", path, err);
	for (; at; at = strchr(at, ':') ? strchr(at, ':') + 1 : NULL) {
		const int len = (int)strcspn(at, ":");

		if (snprintf(full, sizeof(full), "%.*s%sllama-server", len, at, len ? "/" : "") < (int)sizeof(full) &&
		    is_file(full) && !access(full, X_OK))
			return keep(full, path, err);
	}
	return serve_err(err, -ENOENT, "no llama-server in PATH: install llama.cpp (built with shared "
			 "libraries), or name it by --llama-server PATH or LLAMA_SERVER");
}

int serve_find_backend(const char *flag, char **path, struct penstock_error *err)
{
	/* the build tree, then where `make install` and the packages put it */
	static const char *const places[] = { "", "../lib/penstock/", "../lib64/penstock/",
					      "../lib/x86_64-linux-gnu/penstock/", "../lib/" };
	char self[PATH_MAX], full[PATH_MAX + 64];
	ssize_t len;
	size_t i;

	*path = NULL;
	if (flag) {
		if (!is_file(flag))
			return serve_err(err, -ENOENT, "--backend %s: no such file", flag);
		return keep(flag, path, err);
	}
	len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (len < 0)
		return penstock_err(err, -errno, "/proc/self/exe, beside which " BACKEND " is looked for");
	self[len] = 0;
	*(strrchr(self, '/') + 1) = 0;
	for (i = 0; i < PENSTOCK_ARRAY_SIZE(places); i++) {
		snprintf(full, sizeof(full), "%s%s" BACKEND, self, places[i]);
		if (!is_file(full))
			continue;
		*path = realpath(full, NULL);
		return *path ? 0 : penstock_err(err, -errno, "%s", full);
	}
	return serve_err(err, -ENOENT, "no " BACKEND " beside %spenstock, nor in %s../lib/penstock: "
			 "`make && make install` puts it there, or name it by --backend PATH", self, self);
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void run_child(const char *server, const char *flag, int out)
{
	const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	dup2(null, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	signal(SIGPIPE, SIG_DFL);
	/* what it has by itself, not what somebody's environment adds */
	unsetenv("GGML_BACKEND_PATH");
	execl(server, server, flag, (char *)NULL);
	_exit(127);
}

/* What it says to one flag, both streams. Return: 0; -EIO it failed, said too much, or took too long. */
static int ask(const char *server, const char *flag, char *text, struct penstock_error *err)
{
	const uint64_t end = now_ms() + ANSWER_MS;
	int fds[2], status = 0;
	bool late = false;
	size_t len = 0;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return penstock_err(err, -errno, "a pipe to %s", server);
	pid = fork();
	if (!pid)
		run_child(server, flag, fds[1]);
	close(fds[1]);
	while (pid > 0 && len < ANSWER_MAX - 1) {
		struct pollfd p = { .fd = fds[0], .events = POLLIN };
		const uint64_t t = now_ms();
		ssize_t n;

		late = t >= end || !poll(&p, 1, (int)(end - t));
		if (late)
			break;
		n = read(fds[0], text + len, ANSWER_MAX - 1 - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	text[len] = 0;
	close(fds[0]);
	if (pid < 0)
		return penstock_err(err, -errno, "%s %s", server, flag);
	if (late)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (late)
		return serve_err(err, -EIO, "%s %s: no end after %d seconds", server, flag, ANSWER_MS / 1000);
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		text[strcspn(text, "\n")] = 0;
		return serve_err(err, -EIO, "%s %s failed (%s %d): %.200s", server, flag,
				 WIFSIGNALED(status) ? "signal" : "status",
				 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
				 *text ? text : "it said nothing");
	}
	return 0;
}

/* Is @flag named at the start of a line, or behind a comma there? */
static bool knows(const char *help, const char *flag)
{
	const size_t len = strlen(flag);
	const char *at = help;

	while ((at = strstr(at, flag))) {
		const bool starts = at == help || at[-1] == '\n' || at[-1] == ' ';

		at += len;
		if (starts && (*at == ' ' || *at == ',' || *at == '\n' || !*at))
			return true;
	}
	return false;
}

/* Devices are lines of two spaces, a name and a colon. */
static void find_gpu(char *list, struct serve_host *h)
{
	static const char *const others[] = { "CPU", "PENSTOCK", "BLAS" };
	char *line, *rest = NULL;
	size_t i, len;

	for (line = strtok_r(list, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		len = strcspn(line, ":");
		if (strncmp(line, "  ", 2) || line[2] == ' ' || line[2] == '(' || !line[len])
			continue;
		line += 2;
		len -= 2;
		for (i = 0; i < PENSTOCK_ARRAY_SIZE(others); i++)
			if (len == strlen(others[i]) && !strncmp(line, others[i], len))
				break;
		if (i < PENSTOCK_ARRAY_SIZE(others))
			continue;
		snprintf(h->gpu, sizeof(h->gpu), "%.*s", (int)(len < sizeof(h->gpu) ? len : sizeof(h->gpu) - 1), line);
		return;
	}
}

int serve_ask_host(const char *server, struct serve_host *h, struct penstock_error *err)
{
	struct penstock_error ignored;
	char *text = malloc(ANSWER_MAX);
	int rc;

	*h = (struct serve_host){ 0 };
	if (!text)
		return penstock_err(err, -ENOMEM, "%s", server);
	rc = ask(server, "--help", text, err);
	if (!rc) {
		h->load_mode = knows(text, "--load-mode");
		h->fit = knows(text, "-fit");
		h->cpu_moe = knows(text, "--cpu-moe");
		/* one that is too old for the list is taken for one without GPUs */
		if (knows(text, "--list-devices") && !ask(server, "--list-devices", text, &ignored))
			find_gpu(text, h);
	}
	free(text);
	return rc;
}
