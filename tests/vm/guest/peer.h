/* SPDX-License-Identifier: MIT */
/*
 * What the tests of peers share: the peer as the module and as sysfs show it,
 * what the host sees of its memory, mappings that give SIGBUS, events.
 */
#ifndef GUEST_PEER_H
#define GUEST_PEER_H

#include <poll.h>
#include <setjmp.h>
#include "read.h"

#define MIB	(1ULL << 20)

/* A command's output, one line; false when it fails. */
static inline bool run_line(char *out, size_t len, const char *fmt, ...)
{
	char cmd[256];
	va_list args;
	FILE *pipe;
	bool good;

	va_start(args, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, args);
	va_end(args);
	out[0] = '\0';
	pipe = popen(cmd, "r");
	if (!pipe)
		return false;
	good = fgets(out, len, pipe);
	out[strcspn(out, "\n")] = '\0';
	return pclose(pipe) == 0 && good;
}

/* The host sees that a range of the peer's memory is a range of the raw drive. */
static inline bool host_sees(unsigned int peer, uint64_t at, uint64_t offset, uint64_t len)
{
	char have[128], want[128];

	if (!run_line(have, sizeof(have), "host peer-sum %llu %llu %u", (unsigned long long)at,
		      (unsigned long long)len, peer) ||
	    !run_line(want, sizeof(want), "host file-sum raw %llu %llu", (unsigned long long)offset,
		      (unsigned long long)len))
		return false;
	if (strcmp(have, want))
		printf("# the host sees %.16s, not %.16s\n", have, want);
	return !strcmp(have, want);
}

static inline bool host_fill(unsigned int peer, uint64_t at, uint64_t len, unsigned int byte)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "host peer-fill %llu %llu %u %u", (unsigned long long)at, (unsigned long long)len,
		 byte, peer);
	return !system(cmd);
}

static inline bool host_is(unsigned int peer, uint64_t at, uint64_t len, unsigned int byte)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "host peer-is %llu %llu %u %u", (unsigned long long)at, (unsigned long long)len,
		 byte, peer);
	return !system(cmd);
}

/* A number in a file of the device, or -1. */
static inline long long dev_number(const char *addr, const char *name)
{
	char path[192], text[64];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", addr, name);
	return get_file(path, text, sizeof(text)) ? -1 : strtoll(text, NULL, 0);
}

static inline int dev_put(const char *addr, const char *name, const char *text)
{
	char path[192];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", addr, name);
	return put_file(path, text);
}

/* The peer at a PCI address. */
static inline int peer_at(int node, const char *addr, struct penstock_peer_enum *peer)
{
	char name[64];
	int ret;

	*peer = (struct penstock_peer_enum) { .size = sizeof(*peer) };
	while (!(ret = node_ioctl(node, PENSTOCK_IOC_PEER_ENUM, peer))) {
		snprintf(name, sizeof(name), "%04x:%02x:%02x.%u", peer->out_domain, peer->out_bus,
			 peer->out_devfn >> 3, peer->out_devfn & 7);
		if (!strcmp(name, addr))
			return 0;
		peer->after_peer_id = peer->out_peer_id;
	}
	return ret;
}

static inline uint64_t peer_available(int node, const char *addr)
{
	struct penstock_peer_enum peer;

	return peer_at(node, addr, &peer) ? 0 : peer.out_available;
}

/* Nothing of the peer is given away: by us, and by the kernel's pool. What is freed by a process's end comes late. */
static inline bool peer_is_whole(int node, const char *addr)
{
	struct penstock_peer_enum peer;

	for (double begin = now(); now() - begin < 10; usleep(20000))
		if (!peer_at(node, addr, &peer) && peer.out_available == peer.out_len &&
		    dev_number(addr, "p2pmem/available") == dev_number(addr, "p2pmem/size"))
			return true;
	printf("# available %llu of %llu, in the pool %lld of %lld\n", (unsigned long long)peer.out_available,
	       (unsigned long long)peer.out_len, dev_number(addr, "p2pmem/available"), dev_number(addr, "p2pmem/size"));
	return false;
}

static inline int info_get(int node, struct penstock_info *info)
{
	*info = (struct penstock_info) { .size = sizeof(*info) };
	return node_ioctl(node, PENSTOCK_IOC_INFO, info);
}

static inline int region_probe(int node, uint32_t region, uint32_t target, struct penstock_region_probe *probe)
{
	*probe = (struct penstock_region_probe) {
		.size = sizeof(*probe), .region_id = region, .target_id = target };
	return node_ioctl(node, PENSTOCK_IOC_REGION_PROBE, probe);
}

/* Mappings are not inherited, so this process itself has to touch: SIGBUS is caught. */
static sigjmp_buf touch_env;

static inline void touch_caught(int sig)
{
	siglongjmp(touch_env, sig);
}

static inline bool touch_is_sigbus(const volatile uint8_t *at)
{
	bool caught = true;

	signal(SIGBUS, touch_caught);
	if (!sigsetjmp(touch_env, 1)) {
		(void)*at;
		caught = false;
	}
	signal(SIGBUS, SIG_DFL);
	return caught;
}

/* Wait for an event of a kind; others are passed over. */
static inline bool event_wait(int node, uint32_t kind, uint32_t region, struct penstock_event *event)
{
	struct pollfd p = { .fd = node, .events = POLLIN };
	double begin = now();

	while (now() - begin < 10 && poll(&p, 1, 1000) >= 0) {
		if (!(p.revents & POLLIN))
			continue;
		if (read(node, event, sizeof(*event)) != sizeof(*event))
			return false;
		if (event->event == kind && (!region || event->region_id == region))
			return true;
	}
	return false;
}

#endif
