/* SPDX-License-Identifier: MIT */
/*
 * The commands of `penstock`. Each is a function in its own cmd_*.c; penstock.c
 * holds the table. Exit codes: 0 good, 1 a check failed, 2 usage, 3 not possible
 * on this machine.
 */
#ifndef PENSTOCK_CMD_H
#define PENSTOCK_CMD_H

#include <stdbool.h>
#include <stdint.h>

enum cmd_exit { CMD_GOOD = 0, CMD_FAILED = 1, CMD_USAGE = 2, CMD_IMPOSSIBLE = 3 };

/* argv[0] is the command's name */
int cmd_run(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_ls(int argc, char **argv);
int cmd_synth(int argc, char **argv);
int cmd_bench(int argc, char **argv);	/* bench io | load | gemv */
int cmd_bench_io(int argc, char **argv);
int cmd_bench_load(int argc, char **argv);
int cmd_bench_gemv(int argc, char **argv);
int cmd_doctor(int argc, char **argv);

/** cmd_error() - "penstock run: text" on stderr; Return: @code */
int cmd_error(const char *cmd, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
struct out;
/** cmd_out_end() - out_end(), and an error text if the result could not be written; Return: @code, or CMD_FAILED */
int cmd_out_end(const char *cmd, struct out *o, int code);
/** cmd_exit_code() - of a failed call: input that does not fit, what this machine cannot do, or a failure */
int cmd_exit_code(int rc);
/** cmd_median() - of nr > 0 values, which are sorted; the mean of the middle two where nr is even */
double cmd_median(double *v, uint64_t nr);
/** cmd_parse_size() - "512M", "4GiB", "1024"; Return: 0 or -EINVAL */
int cmd_parse_size(const char *text, uint64_t *bytes);
/** cmd_parse_u64() - decimal; Return: 0 or -EINVAL */
int cmd_parse_u64(const char *text, uint64_t *v);

#endif
