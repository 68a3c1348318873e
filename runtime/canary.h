/* SPDX-License-Identifier: MIT */
/*
 * The canary: is the data there that a route says it brought? A path that the
 * kernel's model of the topology allows may carry nothing, or carry it elsewhere,
 * and report the full byte count all the same.
 *
 * The region's owner poisons it, blocks of the file that all differ are read into
 * every second page through the route, and the owner looks: each block must be the
 * one that an ordinary read of the file gives, and each page between them must be
 * poison still. Pure but for the two ways to read, which are the caller's.
 */
#ifndef PENSTOCK_CANARY_H
#define PENSTOCK_CANARY_H

#include <stdint.h>
#include <penstock/penstock.h>

#define PENSTOCK_CANARY_BLOCK	4096u
#define PENSTOCK_CANARY_BLOCKS	8u
/* What a file must have of different blocks; all of one kind would look the same in the wrong place. */
#define PENSTOCK_CANARY_LEAST	2u
/* A guard before, between and behind the blocks. */
#define PENSTOCK_CANARY_BYTES	((2 * PENSTOCK_CANARY_BLOCKS + 1) * PENSTOCK_CANARY_BLOCK)

/**
 * struct penstock_canary - what is tried
 * @pair: for texts: what is read, where to, by which route
 * @view: the region as its owner sees it, PENSTOCK_CANARY_BYTES
 * @size: bytes of the file
 * @seed: of the choice of blocks and of the poison
 * @route: a block of the file at @off to byte @at of the region, by the route. Return: 0; -errno with text
 * @plain: the same block by an ordinary read, to @block. Return: 0; -errno with text
 */
struct penstock_canary {
	const char *pair;
	void *view;
	uint64_t size;
	uint64_t seed;
	int (*route)(void *arg, uint64_t off, uint32_t at, struct penstock_error *err);
	int (*plain)(void *arg, uint64_t off, void *block, struct penstock_error *err);
	void *arg;
};

/**
 * penstock_canary_run() - try it
 *
 * Return: 0 the route carries the data; -EREMOTEIO it does not: which block or guard, what was expected and
 * what was found; -ENODATA the file has too few different blocks to tell; -ENOMEM; others of the two reads.
 */
int penstock_canary_run(const struct penstock_canary *c, struct penstock_error *err);

#endif
