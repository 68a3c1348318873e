/* SPDX-License-Identifier: MIT */
/* What io_uring can do here: for the engine that uses it, and for whoever wants to say so. */
#ifndef PENSTOCK_RING_PROBE_H
#define PENSTOCK_RING_PROBE_H

#include <stddef.h>
#include <stdint.h>

struct io_uring;

/* Where the kernel says whether it lets processes use io_uring. */
#define PENSTOCK_URING_SYSCTL	"/proc/sys/kernel/io_uring_disabled"

/**
 * penstock_uring_refusal() - why io_uring cannot be used here, and what to do about it
 * @code: negative errno of the step that failed
 * @step: that step, such as "io_uring_setup"
 * @sysctl: PENSTOCK_URING_SYSCTL, or a file that stands in for it
 * @needed: bytes of locked memory wanted
 * @why: receives the text
 */
void penstock_uring_refusal(int code, const char *step, const char *sysctl, size_t needed, char *why, size_t why_len);

/**
 * penstock_ring_probe() - does a ring with these flags work?
 * @flags: IORING_SETUP_*
 * @drv: the driver's node, which must take a command of this ring; -1: no commands are wanted
 * @step: receives the step that failed
 *
 * A ring of its own, since enabling one ties it to this thread. Return: 0 when a read through it gives what
 * pread() gives, and the driver answered; -errno of the step.
 */
int penstock_ring_probe(uint32_t flags, int drv, const char **step);
/** penstock_ring_enable() - start a ring that was made disabled; this thread becomes its issuer. Return: 0; -errno. */
int penstock_ring_enable(struct io_uring *ring);
/**
 * penstock_ring_probe_commands() - does the kernel have what reads by command need?
 * Return: 0; -errno with @step: rings of 128-byte entries, or the opcode, are missing (Linux 5.19 has both).
 */
int penstock_ring_probe_commands(const char **step);

#endif
