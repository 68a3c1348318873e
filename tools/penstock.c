// SPDX-License-Identifier: MIT
/*
 * `penstock`: the table of commands, and what happens before one runs. A command
 * parses its own arguments; this file only finds it.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <penstock/version.h>

#include "cmd.h"

struct command {
	const char *name;
	const char *help;
	int (*fn)(int argc, char **argv);
};

static const struct command commands[] = {
	{ "run", "decode with a whole model, its experts streamed from disk", cmd_run },
	{ "serve", "start llama-server with a model's experts left on the drive", cmd_serve },
	{ "ls", "list a checkpoint: layers, experts, parts, tensors", cmd_ls },
	{ "synth", "write a complete checkpoint of any shape", cmd_synth },
	{ "bench", "measure the drive, the loader or the kernels", cmd_bench },
	{ "doctor", "say what this machine can do, and why not more", cmd_doctor },
};

#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void usage(FILE *f)
{
	size_t i;

	fputs("usage: penstock COMMAND [OPTION]...\n"
	      "       penstock help COMMAND\n"
	      "\n"
	      "Stream the experts of a mixture-of-experts model from disk.\n"
	      "\n"
	      "commands:\n", f);
	for (i = 0; i < NR_COMMANDS; i++)
		fprintf(f, "  %-8s %s\n", commands[i].name, commands[i].help);
	fputs("\n"
	      "  -h, --help     this text; after a command, that command's\n"
	      "  -V, --version  version\n"
	      "\n"
	      "Results go to stdout (--json: as one JSON object), diagnostics to stderr.\n"
	      "Exit status: 0 good, 1 a check failed, 2 usage, 3 not possible on this machine.\n", f);
}

static const struct command *find(const char *name)
{
	size_t i;

	for (i = 0; i < NR_COMMANDS; i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

/* Letters to insert, drop or change on the way from @a to @b, or more than @most. */
static unsigned int distance(const char *a, const char *b, unsigned int most)
{
	unsigned int one;

	for (; *a && *a == *b; a++, b++)
		;
	if (!*a && !*b)
		return 0;
	if (!most)
		return 1;
	one = most;
	if (*a && *b) {
		unsigned int d = distance(a + 1, b + 1, most - 1);

		one = d < one ? d : one;
	}
	if (*a) {
		unsigned int d = distance(a + 1, b, most - 1);

		one = d < one ? d : one;
	}
	if (*b) {
		unsigned int d = distance(a, b + 1, most - 1);

		one = d < one ? d : one;
	}
	return one + 1;
}

static int unknown(const char *name)
{
	unsigned int best = 3, d;
	const char *near = NULL;
	size_t i;

	for (i = 0; i < NR_COMMANDS; i++) {
		d = distance(name, commands[i].name, 2);
		if (d < best) {
			best = d;
			near = commands[i].name;
		}
	}
	if (near)
		fprintf(stderr, "penstock: no command '%s'; did you mean '%s'?\n", name, near);
	else
		fprintf(stderr, "penstock: no command '%s'; `penstock --help` lists them\n", name);
	return CMD_USAGE;
}

static int help(int argc, char **argv)
{
	static char flag[] = "--help";
	const struct command *c;
	char *args[3];

	if (argc < 2) {
		usage(stdout);
		return CMD_GOOD;
	}
	c = find(argv[1]);
	if (!c)
		return unknown(argv[1]);
	args[0] = argv[1];
	args[1] = flag;
	args[2] = NULL;
	return c->fn(2, args);
}

int main(int argc, char **argv)
{
	const struct command *c;

	/* a closed pipe is an error of write(2), which commands report or pass over */
	signal(SIGPIPE, SIG_IGN);
	if (argc < 2) {
		usage(stderr);
		return CMD_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		usage(stdout);
		return fflush(stdout) ? CMD_FAILED : CMD_GOOD;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		puts("penstock " PENSTOCK_VERSION);
		return fflush(stdout) ? CMD_FAILED : CMD_GOOD;
	}
	if (!strcmp(argv[1], "help"))
		return help(argc - 1, argv + 1);
	c = find(argv[1]);
	if (!c)
		return unknown(argv[1]);
	return c->fn(argc - 1, argv + 1);
}
