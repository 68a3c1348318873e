/* SPDX-License-Identifier: MIT */
/* Peers: devices whose memory is landing memory. */
#ifndef PENSTOCK_MEM_PEER_H
#define PENSTOCK_MEM_PEER_H

#include "drv.h"

/**
 * penstock_mem_peer_find() - the peer that a device's name means
 * @name: "peer:DDDD:BB:DD.F" (the domain may be left out), or "peer": the only one
 *
 * Return: 0; -EINVAL no such name; -ENODEV no such peer, with those there are; -EOPNOTSUPP there is one, but no
 * region can be had from it, with the reason.
 */
int penstock_mem_peer_find(int drv, const char *name, struct penstock_drv_peer *p, struct penstock_error *err);
/** penstock_mem_peer_name() - "peer:DDDD:BB:DD.F" into @buf, of at least 32 bytes. Return: @buf. */
const char *penstock_mem_peer_name(const struct penstock_drv_peer *p, char *buf, size_t len);

#endif
