// SPDX-License-Identifier: MIT
/* `penstock doctor`: will the direct route work on this host? Arguments and order; the looking is in doctor/. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "doctor/doctor.h"
#include "out.h"

static void usage(FILE *f)
{
	fputs("usage: penstock doctor [OPTION]... [FILE]...\n"
	      "\n"
	      "Say what this machine can do for the reads, and why not more: the kernel, the module, each\n"
	      "drive, each peer, each pair of them; one line a capability: state, evidence, remedy.\n"
	      "FILEs stand for the drives that they lie on; without any, block devices are read, by root.\n"
	      "Exit status: 0 the direct route works, 1 no pair works, 3 something is missing here.\n"
	      "\n"
	      "  --root DIR   look at copies of /proc, /sys, /boot, /lib and /dev below DIR\n"
	      "  --json       the result as one JSON object\n"
	      "\n"
	      "example: sudo penstock doctor\n",
	      f);
}

enum option_nr { OPT_ROOT = 256, OPT_JSON };

static const struct option options[] = {
	{ "root", required_argument, NULL, OPT_ROOT },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static int examine(struct doctor *d, bool json)
{
	struct out *o;
	int code;

	doctor_kernel(d);
	doctor_module(d);
	doctor_drives(d);
	doctor_peers(d);
	doctor_pairs(d);
	code = doctor_verdict(d);
	o = d->no_memory ? NULL : out_begin("penstock.doctor/1", json);
	if (!o)
		return cmd_error("doctor", CMD_IMPOSSIBLE, "out of memory");
	doctor_report(d, o);
	return cmd_out_end("doctor", o, code);
}

int cmd_doctor(int argc, char **argv)
{
	struct doctor d = { .root = "", .drv = -1 };
	bool json = false;
	int nr, code;

	optind = 0;
	while ((nr = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
		switch (nr) {
		case 'h':
			usage(stdout);
			return CMD_GOOD;
		case OPT_ROOT:
			d.root = optarg;
			break;
		case OPT_JSON:
			json = true;
			break;
		default:
			return cmd_error("doctor", CMD_USAGE, "`penstock doctor --help` lists the options");
		}
	}
	d.files = argv + optind;
	d.nr_files = argc - optind;
	code = examine(&d, json);
	doctor_free(&d);
	return code;
}
