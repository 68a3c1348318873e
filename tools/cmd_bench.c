// SPDX-License-Identifier: MIT
/* `penstock bench`: finds the benchmark; each parses its own arguments. */
#include <stdio.h>
#include <string.h>

#include "cmd.h"

static const struct {
	const char *name;
	const char *help;
	int (*fn)(int argc, char **argv);
} benches[] = {
	{ "io", "our reads against fio's, on the same file", cmd_bench_io },
	{ "load", "read all experts of a model once, in order", cmd_bench_load },
	{ "gemv", "matrix times vector on the host, against its memory bandwidth", cmd_bench_gemv },
};

#define NR_BENCHES (sizeof(benches) / sizeof(benches[0]))

static void usage(FILE *f)
{
	size_t i;

	fputs("usage: penstock bench NAME [OPTION]...\n\n", f);
	for (i = 0; i < NR_BENCHES; i++)
		fprintf(f, "  %-8s %s\n", benches[i].name, benches[i].help);
	fputs("\n`penstock bench NAME --help` lists a benchmark's options.\n"
	      "example: penstock bench gemv --json\n", f);
}

int cmd_bench(int argc, char **argv)
{
	size_t i;

	if (argc < 2) {
		usage(stderr);
		return CMD_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		usage(stdout);
		return CMD_GOOD;
	}
	for (i = 0; i < NR_BENCHES; i++)
		if (!strcmp(argv[1], benches[i].name))
			return benches[i].fn(argc - 1, argv + 1);
	return cmd_error("bench", CMD_USAGE, "no benchmark '%s'; `penstock bench --help` lists them", argv[1]);
}
