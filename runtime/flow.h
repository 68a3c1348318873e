/* SPDX-License-Identifier: MIT */
/*
 * The records that stages hand to one another. Stages include this, never each
 * other's headers.
 */
#ifndef PENSTOCK_FLOW_H
#define PENSTOCK_FLOW_H

#include <stdbool.h>
#include <stdint.h>
#include <penstock/penstock.h>

/* The largest single read: pread and READ stop at 2^31 - 4096 bytes. */
#define PENSTOCK_READ_MAX	(1u << 30)
/* Slots and ranges start at multiples of this in memory: what any O_DIRECT accepts. */
#define PENSTOCK_MEM_ALIGN	4096u

/**
 * struct penstock_extent - bytes of one part of one expert (index -> plan)
 * @file: file number in the store
 * @part: part number in the layer
 * @off: first byte in the file
 * @len: bytes
 */
struct penstock_extent {
	uint32_t file;
	uint32_t part;
	uint64_t off;
	uint64_t len;
};

/**
 * struct penstock_range - an aligned piece of a file that lands in a slot in one piece (plan -> stream)
 * @file: file number in the store
 * @off: first byte, a multiple of the file's alignment
 * @len: bytes, a multiple of the file's alignment (may end past the end of the file)
 * @need: bytes from @off on that must arrive (what lies past them is padding)
 * @slot_off: where in the slot, a multiple of PENSTOCK_MEM_ALIGN
 */
struct penstock_range {
	uint32_t file;
	uint64_t off;
	uint64_t len;
	uint64_t need;
	uint64_t slot_off;
};

/**
 * struct penstock_read - one read, from request to completion (plan -> ring -> stream)
 *
 * Filled by the requester:
 * @file: file number in the store
 * @buf: number of the registered buffer that holds @dst, or -1
 * @off: first byte in the file
 * @len: bytes asked for (<= PENSTOCK_READ_MAX)
 * @need: of these, bytes that must arrive; @len may reach past the end of the file
 * @dst: where to; belongs to the ring from submit to reap
 * @land: where the bytes belong when @dst is staging: the requester copies them there; NULL: @dst is their place
 * @region: id of the driver's region that is read into, which then says where, not @dst; 0 = none
 * @target: with @region: the driver's id of the file
 * @region_off: with @region: first byte in it
 * @cookie: unchanged
 * Filled by the ring:
 * @done: bytes that have arrived
 * @tries: resubmissions after an error
 * @eio_tries: of these, after EIO
 * @status: at reap: 0, or a negative errno (-ENODATA: end of file before @need)
 * @next: link, free for the owner of the record
 */
struct penstock_read {
	uint32_t file;
	int32_t buf;
	uint64_t off;
	uint32_t len;
	uint32_t need;
	void *dst;
	void *land;
	uint32_t region;
	uint32_t target;
	uint64_t region_off;
	void *cookie;
	uint32_t done;
	uint32_t tries;
	uint32_t eio_tries;
	int status;
	struct penstock_read *next;
};

#endif
