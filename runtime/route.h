/* SPDX-License-Identifier: MIT */
/*
 * Routes from a drive into a device's memory: which there are, whether they can be
 * used between a given drive and device, and how fast each is.
 *
 *   host    into the device, when that is the host: nothing to choose
 *   direct  the driver reads into its region
 *   mapped  an ordinary O_DIRECT read to where the region is mapped
 *   bounce  a read into host memory, and a copy to where the region is mapped
 *
 * Nothing is believed: direct and mapped are used after the driver's probe and the
 * canary (canary.h), and the choice is by a measurement.
 */
#ifndef PENSTOCK_ROUTE_H
#define PENSTOCK_ROUTE_H

#include "drv.h"
#include "mem.h"
#include "ring.h"
#include "store.h"

enum penstock_route { PENSTOCK_ROUTE_HOST = 0, PENSTOCK_ROUTE_DIRECT, PENSTOCK_ROUTE_MAPPED, PENSTOCK_ROUTE_BOUNCE };

#define PENSTOCK_ROUTES	4u

/**
 * struct penstock_route_target - a file as the driver sees it
 * @info: id 0 = the driver does not read it
 * @reason: why not, the driver's number, or 0
 * @text: why not, in words
 */
struct penstock_route_target {
	struct penstock_drv_target info;
	uint32_t reason;
	char text[256];
};

/**
 * struct penstock_route_pair - a drive, known by a file on it, and a device
 * @source: of the device's memory
 * @device: its name, for texts
 * @flush: the device sees the data only after a flush, which nobody can give here
 * @no_direct: reads are to go through the page cache
 * @file: probed; its number in @store
 * @target: that file
 * @ops: the I/O engine, or NULL for the best
 */
struct penstock_route_pair {
	const struct penstock_mem_source *source;
	const char *device;
	bool flush;
	bool no_direct;
	const struct penstock_store *store;
	uint32_t file;
	const struct penstock_route_target *target;
	const struct penstock_ring_ops *ops;
};

/**
 * struct penstock_route_verdict - one route between a drive and a device
 * @examined: it was asked for
 * @code: 0 it can be used; -errno why not
 * @bytes_per_s: measured; 0 = it was not
 * @reason: why not; "" where it can be used
 */
struct penstock_route_verdict {
	bool examined;
	int code;
	uint64_t bytes_per_s;
	char reason[400];
};

/**
 * struct penstock_route_found - all routes of a pair
 * @canary: of route direct, 1 passed, 0 failed, -1 not run
 * @lasting: it holds for every file on the drive: nothing in it comes from this file, or from a bad moment
 */
struct penstock_route_found {
	struct penstock_route_verdict of[PENSTOCK_ROUTES];
	struct penstock_drv_probe probe;
	int canary;
	bool lasting;
	uint32_t generation;
};

/** penstock_route_name() - "direct" */
const char *penstock_route_name(enum penstock_route route);
/** penstock_route_find() - by name; -1 = none */
int penstock_route_find(const char *name);

/** penstock_route_fastest() - of PENSTOCK_ROUTES verdicts; the first of those that are as fast; -1 = none works */
int penstock_route_fastest(const struct penstock_route_verdict *all);

/** penstock_route_target_add() - hand a file to the driver; if it refuses, @t says why. Return: 0; -ENOSPC, -ENOMEM. */
int penstock_route_target_add(int drv, const struct penstock_file *f, struct penstock_route_target *t,
			      struct penstock_error *err);

/**
 * penstock_route_judge_file() - refuse the routes that this file cannot take, whatever the drive under it can do
 * @of: PENSTOCK_ROUTES verdicts; one that is refused already keeps its reason
 */
void penstock_route_judge_file(const struct penstock_route_pair *p, struct penstock_route_verdict *of);

/**
 * penstock_route_examine() - which routes can be used, how fast is each
 * @routes: those to look at, a bit each
 * @window_ns: of each measurement, about; 0 = none
 *
 * Return: 0, also when none can be used; -ENOSPC, -ENOMEM no memory of the device to try with; -ENODEV it is gone.
 */
int penstock_route_examine(const struct penstock_route_pair *p, uint32_t routes, uint64_t window_ns,
			   struct penstock_route_found *found, struct penstock_error *err);
/**
 * penstock_route_canary() - the canary alone, into given memory
 * @mem: of the device, PENSTOCK_CANARY_BYTES at least
 * Return: as penstock_canary_run(); -EOPNOTSUPP nobody can look at the memory.
 */
int penstock_route_canary(const struct penstock_route_pair *p, enum penstock_route route,
			  const struct penstock_mem *mem, struct penstock_error *err);
/**
 * penstock_route_aim() - point a read at its place in the device's memory, by a route
 * @r: its dst is the place; off, len, need and file are set
 * @mem: that the place lies in
 * @target: the driver's id of the file
 * @staging: for bounce: r->len bytes of host memory
 */
void penstock_route_aim(struct penstock_read *r, enum penstock_route route, const struct penstock_mem *mem,
			uint32_t target, void *staging);

/** penstock_route_land() - after a read: copy what is in staging to its place; its status is -ENODEV if that is gone */
void penstock_route_land(struct penstock_read *r);

#endif
