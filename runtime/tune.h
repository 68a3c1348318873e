/* SPDX-License-Identifier: MIT */
/*
 * How many reads of what size a drive wants: measured at open, not believed. The
 * measurement reads a part of the checkpoint itself, through a ring of its own.
 */
#ifndef PENSTOCK_TUNE_H
#define PENSTOCK_TUNE_H

#include "ring.h"
#include "store.h"

/*
 * What is found best is the least that is within this of the fastest: with little in
 * flight, the experts of a layer arrive one after the other, and each is computed while
 * the next is read; with much, all arrive together at the end.
 */
#define PENSTOCK_TUNE_SLACK	0.10
#define PENSTOCK_TUNE_BUDGET_NS	300000000u

/**
 * struct penstock_tune_point - one measurement
 * @depth: reads in flight
 * @split: bytes of a read
 * @bytes_per_s: throughput; 0 = not measured (the budget was spent)
 */
struct penstock_tune_point {
	uint32_t depth;
	uint32_t split;
	uint64_t bytes_per_s;
};

/**
 * struct penstock_tune - what suits a drive
 * @depth: reads in flight, 4 to 16
 * @split: bytes of a read, 256 KiB to 2 MiB
 * @bytes_per_s: with these
 * @latency_ns: of a single read of 4 KiB (or of what the file has), median
 * @spent_ns: what the measurement took
 */
struct penstock_tune {
	uint32_t depth;
	uint32_t split;
	uint64_t bytes_per_s;
	uint64_t latency_ns;
	uint64_t spent_ns;
};

/**
 * penstock_tune_choose() - the point with the least depth * split within PENSTOCK_TUNE_SLACK of the fastest
 *
 * Among equal products the larger split, which costs less CPU. Pure: the same points, whatever their order, give
 * the same choice. Return: its index, or -1 where none was measured.
 */
int penstock_tune_choose(const struct penstock_tune_point *points, uint32_t nr);

/**
 * penstock_tune_drive() - measure the drive under a file
 * @s: a store whose file @file has been probed
 * @file: its number
 * @off: first byte of the part that may be read
 * @len: its length (> 0); reads go to random places in it
 * @ops: the engine, or NULL as for penstock_ring_open()
 * @numa_node: of the memory read into, -1 = any
 * @budget_ns: how long, about; 0 = PENSTOCK_TUNE_BUDGET_NS. A slow drive gets fewer points, not more time, but at
 * least one.
 *
 * Return: 0; -EINVAL the file is not probed or the part lies outside it; -ENOMEM; -EIO and others of the reads.
 */
int penstock_tune_drive(const struct penstock_store *s, uint32_t file, uint64_t off, uint64_t len,
			const struct penstock_ring_ops *ops, int numa_node, uint64_t budget_ns,
			struct penstock_tune *out, struct penstock_error *err);

/**
 * penstock_tune_rate() - measure a drive at a given depth and read size
 * @file: probed; reads go to random places in all of it
 * @window_ns: how long, about
 * @t: depth (1 to 64) and split (a multiple of PENSTOCK_MEM_ALIGN up to 64 MiB) are taken, the rest is filled
 *
 * Return: 0; -EINVAL depth, split or file; else as penstock_tune_drive().
 */
int penstock_tune_rate(const struct penstock_store *s, uint32_t file, const struct penstock_ring_ops *ops,
		       int numa_node, uint64_t window_ns, struct penstock_tune *t, struct penstock_error *err);

#endif
