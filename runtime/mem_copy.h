/* SPDX-License-Identifier: MIT */
/*
 * Copies between host memory and a mapping of a peer's memory that outlive the peer.
 *
 * When the device goes away the driver takes the mapping's pages, and who touches it
 * gets SIGBUS: a library can neither catch that nor ask its program to. So the kernel
 * copies, from the process to itself: it meets the same fault and returns an error.
 * It pins the host's pages for that, which costs little where they are large.
 */
#ifndef PENSTOCK_MEM_COPY_H
#define PENSTOCK_MEM_COPY_H

#include <stddef.h>

/**
 * penstock_mem_copy_in() - copy into a mapping of a peer's memory
 * @view: in the mapping
 * @src: host memory
 *
 * Where the kernel refuses to copy (a seccomp filter, no CONFIG_CROSS_MEMORY_ATTACH) the CPU
 * does, and SIGBUS is possible.
 * Return: 0; -ENODEV the memory under the mapping is gone; -ENOMEM.
 */
int penstock_mem_copy_in(void *view, const void *src, size_t len);
/** penstock_mem_copy_out() - copy out of a mapping of a peer's memory into @dst; else as penstock_mem_copy_in() */
int penstock_mem_copy_out(void *dst, const void *view, size_t len);

#endif
