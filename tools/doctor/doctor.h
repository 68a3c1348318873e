/* SPDX-License-Identifier: MIT */
/*
 * `penstock doctor`: what its files share. An examination is a list of lines, one
 * a capability: its state, the evidence for that, the remedy where it is not good.
 * kernel.c, module.c, drives.c and peers.c each look at one part of the machine
 * and add their lines; pairs.c puts drives and peers together.
 */
#ifndef PENSTOCK_DOCTOR_H
#define PENSTOCK_DOCTOR_H

#include <stdbool.h>
#include <stdint.h>
#include "../../runtime/drv.h"

struct out;

/* DEGRADED: it works, slower than it could. */
enum doctor_state { DOCTOR_OK = 0, DOCTOR_DEGRADED, DOCTOR_NO };

/**
 * struct doctor_line - one capability
 * @part: "kernel", "module", "drives", "peers", "pairs", "verdict"
 * @id: "kernel.io_uring", "drive.nvme0n1": stable, for programs
 * @what: for eyes
 */
struct doctor_line {
	const char *part;
	char id[64];
	char what[64];
	enum doctor_state state;
	char evidence[1200];
	char remedy[400];
};

/** struct doctor_drive - an NVMe namespace; @bad: reads into peers cannot be, and its line says why */
struct doctor_drive {
	char name[32];
	char pci[16];
	bool bad;
};

/** struct doctor_pair - a drive and a peer, examined; rates are 0 where nothing was measured */
struct doctor_pair {
	char drive[32];
	char file[256];
	char peer[32];
	char map[16];
	int distance;
	bool allowed;
	bool direct_works;
	int canary;		/* 1 passed, 0 failed, -1 not run */
	char route[16];		/* "" none */
	uint64_t direct_bytes_per_s;
	uint64_t mapped_bytes_per_s;
	uint64_t bounce_bytes_per_s;
};

/**
 * struct doctor - an examination
 * @root: "" or a folder with copies of /proc, /sys, /boot, /lib, /dev
 * @files: arguments: files whose drives are to be paired with peers
 * @drv: the driver's node, or -1
 * @kernel: release
 */
struct doctor {
	const char *root;
	char **files;
	int nr_files;
	int drv;
	struct penstock_drv_info info;
	char kernel[128];
	struct doctor_line *lines;
	uint32_t nr_lines;
	struct doctor_drive *drives;
	uint32_t nr_drives;
	struct penstock_drv_peer *peers;
	uint32_t nr_peers;
	struct doctor_pair *pairs;
	uint32_t nr_pairs;
	bool no_memory;
};

/** doctor_say() - add a line; @remedy "" where nothing is to be done. Return: the line, or NULL (out of memory). */
struct doctor_line *doctor_say(struct doctor *d, const char *part, const char *id, const char *what,
			       enum doctor_state state, const char *remedy, const char *fmt, ...)
	__attribute__((format(printf, 7, 8)));

/** doctor_path() - @path below the root; static storage, valid for three more calls */
const char *doctor_path(const struct doctor *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/** doctor_read() - the first line of a file, without its newline, or "" */
void doctor_read(const char *path, char *text, uint32_t len);
/** doctor_pci_name() - "0000:01:00.0" into @buf (16 bytes), or "no PCI device" */
const char *doctor_pci_name(const struct penstock_drv_pci *pci, char *buf, uint32_t len);

void doctor_kernel(struct doctor *d);
/** doctor_module() - opens the node, if there is one */
void doctor_module(struct doctor *d);
void doctor_drives(struct doctor *d);
void doctor_peers(struct doctor *d);
void doctor_pairs(struct doctor *d);
/** doctor_verdict() - the last line: will the direct route work? Return: the exit code. */
int doctor_verdict(struct doctor *d);
void doctor_report(const struct doctor *d, struct out *o);
void doctor_free(struct doctor *d);

#endif
