// SPDX-License-Identifier: MIT
/* The kernel: io_uring by making a ring and reading through it, P2PDMA, locked memory, huge pages. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include "../../runtime/ring.h"
#include "../../runtime/ring_probe.h"

#include "../out.h"
#include "doctor.h"

#define PART		"kernel"
/* The cache of `penstock run` without --cache: what should be lockable. */
#define USUAL_CACHE	(512ull << 20)
#define CAP_IPC_LOCK	14

static void check_uring(struct doctor *d)
{
	static const char remedy[] =
		"sysctl kernel.io_uring_disabled=0, or a seccomp profile that lets io_uring pass; reads go by threads until then";
	struct penstock_error err = { 0 };
	struct penstock_ring *ring;
	const char *why;

	if (penstock_ring_open(&penstock_ring_uring, 8, &ring, &err)) {
		doctor_say(d, PART, "kernel.io_uring", "io_uring", DOCTOR_NO, remedy, "%s", err.text);
		return;
	}
	why = penstock_ring_why(ring);
	if (*why)
		doctor_say(d, PART, "kernel.io_uring", "io_uring", DOCTOR_DEGRADED, "use Linux 6.1 or later",
			   "a ring was made and a block read through it, but %s", why);
	else
		doctor_say(d, PART, "kernel.io_uring", "io_uring", DOCTOR_OK, "",
			   "a ring was made and a block read through it, with all features that are used");
	penstock_ring_close(ring);
}

static void check_commands(struct doctor *d)
{
	const char *step;
	int rc = penstock_ring_probe_commands(&step);

	if (rc)
		doctor_say(d, PART, "kernel.uring_cmd", "io_uring commands", DOCTOR_DEGRADED,
			   "use Linux 5.19 or later; the driver is asked by ioctl until then", "%s: %s", step,
			   strerrordesc_np(-rc));
	else
		doctor_say(d, PART, "kernel.uring_cmd", "io_uring commands", DOCTOR_OK, "",
			   "rings of 128-byte entries and the opcode URING_CMD are there");
}

/* Return: 1 set, 0 not set, -1 the file does not say. */
static int config_says(const char *path, const char *option)
{
	char line[512];
	size_t len = strlen(option);
	int says = -1;
	FILE *f = fopen(path, "re");

	if (!f)
		return -1;
	while (says < 0 && fgets(line, sizeof(line), f)) {
		if (!strncmp(line, option, len) && line[len] == '=')
			says = line[len + 1] != 'n';
		else if (!strncmp(line, "# ", 2) && !strncmp(line + 2, option, len) && line[2 + len] == ' ')
			says = 0;
	}
	fclose(f);
	return says;
}

static bool symbol_is_there(const char *path, const char *name)
{
	char line[512], symbol[256];
	bool found = false;
	FILE *f = fopen(path, "re");

	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f))
		found = sscanf(line, "%*s %*s %255s", symbol) == 1 && !strcmp(symbol, name);
	fclose(f);
	return found;
}

/* Without the module: what the kernel's configuration says, or its symbols. */
static void check_p2pdma(struct doctor *d)
{
	static const char option[] = "CONFIG_PCI_P2PDMA", id[] = "kernel.p2pdma", what[] = "P2PDMA";
	static const char remedy[] = "boot a kernel with CONFIG_PCI_P2PDMA=y (Debian's stock kernels do not have it)";
	const char *const paths[] = {
		doctor_path(d, "/boot/config-%s", d->kernel),
		doctor_path(d, "/lib/modules/%s/config", d->kernel),
		doctor_path(d, "/lib/modules/%s/build/.config", d->kernel),
	};
	char text[1024];
	size_t i;

	for (i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		int says = config_says(paths[i], option);

		if (says < 0)
			continue;
		doctor_say(d, PART, id, what, says ? DOCTOR_OK : DOCTOR_NO, says ? "" : remedy, "%s is%s set in %s",
			   option, says ? "" : " not", paths[i]);
		return;
	}
	snprintf(text, sizeof(text), "%s", doctor_path(d, "/proc/kallsyms"));
	if (symbol_is_there(text, "pci_p2pdma_add_resource"))
		doctor_say(d, PART, id, what, DOCTOR_OK, "", "%s has pci_p2pdma_add_resource", text);
	else
		doctor_say(d, PART, id, what, DOCTOR_NO, remedy,
			   "no configuration of this kernel is at hand, and %s has no pci_p2pdma_add_resource", text);
}

/* Of the effective capabilities in /proc/self/status. */
static bool may_lock_all(void)
{
	unsigned long long caps = 0;
	char line[256];
	FILE *f = fopen("/proc/self/status", "re");

	if (!f)
		return false;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "CapEff: %llx", &caps) == 1)
			break;
	fclose(f);
	return caps >> CAP_IPC_LOCK & 1;
}

static void check_memlock(struct doctor *d)
{
	static const char id[] = "kernel.memlock", what[] = "locked memory";
	struct rlimit lim = { 0 };
	char text[32];

	getrlimit(RLIMIT_MEMLOCK, &lim);
	if (may_lock_all()) {
		doctor_say(d, PART, id, what, DOCTOR_OK, "", "CAP_IPC_LOCK: no limit");
		return;
	}
	if (lim.rlim_cur == RLIM_INFINITY) {
		doctor_say(d, PART, id, what, DOCTOR_OK, "", "RLIMIT_MEMLOCK is unlimited");
		return;
	}
	out_size_text(lim.rlim_cur, text, sizeof(text));
	doctor_say(d, PART, id, what, lim.rlim_cur >= USUAL_CACHE ? DOCTOR_OK : DOCTOR_DEGRADED,
		   lim.rlim_cur >= USUAL_CACHE ? "" :
		   "raise it to the cache's size by ulimit -l, LimitMEMLOCK= or limits.conf",
		   "RLIMIT_MEMLOCK is %s: no more than that can be registered, or had from the driver", text);
}

static uint64_t meminfo(const char *path, const char *key)
{
	char line[256];
	uint64_t v = 0;
	FILE *f = fopen(path, "re");

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)) && sscanf(line + strlen(key), ": %" SCNu64, &v) == 1)
			break;
	fclose(f);
	return v;
}

static void check_huge(struct doctor *d)
{
	static const char id[] = "kernel.huge_pages", what[] = "huge pages";
	char thp[128], mode[16] = "";
	uint64_t total = meminfo(doctor_path(d, "/proc/meminfo"), "HugePages_Total");
	uint64_t left = meminfo(doctor_path(d, "/proc/meminfo"), "HugePages_Free");
	const char *at;

	doctor_read(doctor_path(d, "/sys/kernel/mm/transparent_hugepage/enabled"), thp, sizeof(thp));
	at = strchr(thp, '[');
	if (at)
		sscanf(at, "[%15[a-z]", mode);
	if (left || (*mode && strcmp(mode, "never")))
		doctor_say(d, PART, id, what, DOCTOR_OK, "", "%" PRIu64 " of %" PRIu64 " in the pool are free, "
			   "transparent ones are \"%s\"", left, total, *mode ? mode : "not there");
	else
		doctor_say(d, PART, id, what, DOCTOR_DEGRADED,
			   "sysctl vm.nr_hugepages=N (2 MiB each), or transparent_hugepage/enabled = madvise",
			   "%" PRIu64 " of %" PRIu64 " in the pool are free, and transparent ones are \"%s\"", left,
			   total, *mode ? mode : "not there");
}

void doctor_kernel(struct doctor *d)
{
	struct utsname u;

	if (*d->root)
		doctor_read(doctor_path(d, "/proc/sys/kernel/osrelease"), d->kernel, sizeof(d->kernel));
	else if (!uname(&u))
		snprintf(d->kernel, sizeof(d->kernel), "%.127s", u.release);
	doctor_say(d, PART, "kernel.release", "release", DOCTOR_OK, "", "%s", *d->kernel ? d->kernel : "unknown");
	check_uring(d);
	check_commands(d);
	check_p2pdma(d);
	check_memlock(d);
	check_huge(d);
}
