/* SPDX-License-Identifier: MIT */
/* How fast a route is: for route.c. */
#ifndef PENSTOCK_ROUTE_MEASURE_H
#define PENSTOCK_ROUTE_MEASURE_H

#include "route.h"

/**
 * penstock_route_measure() - a few reads in flight, for a short while, from random places of the file
 * @mem: of the device: what is read lands there
 * @window_ns: how long, about; each of the places is read to once at least
 * Return: 0; -ENODATA nothing was read; others of the reads.
 */
int penstock_route_measure(const struct penstock_route_pair *p, enum penstock_route route,
			   const struct penstock_mem *mem, uint64_t window_ns, uint64_t *bytes_per_s,
			   struct penstock_error *err);

#endif
