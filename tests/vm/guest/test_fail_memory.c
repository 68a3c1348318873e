// SPDX-License-Identifier: MIT
/*
 * The first, the second, ... allocation and copy of each command on memory
 * fails: it says so, and leaves nothing behind. Needs CONFIG_FAULT_INJECTION.
 */
#include "fail.h"

static int node;
static struct penstock_region_alloc source;
static int source_fd;
static unsigned char *user;

/* Each runs one command and, when it succeeded, takes it back with faults off. */

static int alloc_once(unsigned int n)
{
	struct penstock_region_alloc alloc = { .size = sizeof(alloc), .length = 24 * PAGE, .numa_node = -1, .order = 2 };
	bool injected;
	int ret;

	set_nth(n);
	ret = node_ioctl(node, PENSTOCK_IOC_REGION_ALLOC, &alloc);
	injected = was_injected();
	set_nth(0);
	if (!ret)
		region_free(node, alloc.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
	return injected ? ret : 1;
}

static int pin_once(unsigned int n)
{
	struct penstock_region_pin pin = { .size = sizeof(pin), .flags = PENSTOCK_PIN_F_READ,
					   .addr = (uintptr_t)user, .length = 600 * PAGE };
	bool injected;
	int ret;

	set_nth(n);
	ret = node_ioctl(node, PENSTOCK_IOC_REGION_PIN, &pin);
	injected = was_injected();
	set_nth(0);
	if (!ret)
		region_free(node, pin.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
	return injected ? ret : 1;
}

static int export_once(unsigned int n)
{
	struct penstock_region_export cmd = { .size = sizeof(cmd), .region_id = source.out_region_id };
	int ret, next = dup(node);
	bool injected;

	close(next);
	set_nth(n);
	ret = node_ioctl(node, PENSTOCK_IOC_REGION_EXPORT, &cmd);
	injected = was_injected();
	set_nth(0);
	/* Also where it was given, but could not be told. */
	close(next);
	return injected ? ret : 1;
}

static int import_once(unsigned int n)
{
	struct penstock_region_peer peer = { .size = sizeof(peer), .kind = PENSTOCK_PEER_DMABUF, .fd = source_fd,
					     .length = PAGE };
	bool injected;
	int ret;

	set_nth(n);
	ret = node_ioctl(node, PENSTOCK_IOC_REGION_PEER, &peer);
	injected = was_injected();
	set_nth(0);
	if (!ret)
		region_free(node, peer.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
	return injected ? ret : 1;
}

int main(void)
{
	struct objects start;

	if (access(DEBUGFS "failslab", F_OK) || !arm()) {
		tap_skip("faults", "no CONFIG_FAULT_INJECTION");
		tap_done();
		return 4;
	}
	node = node_open();
	user = mmap(NULL, 600 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!tap(!objects_read(&start) && node >= 0 && user != MAP_FAILED, "the node"))
		return tap_done();
	memset(user, 1, 600 * PAGE);
	sweep("ALLOC", alloc_once, true);
	sweep("PIN", pin_once, true);
	if (tap(!region_alloc(node, 4 * PAGE, 0, &source), "a region to export")) {
		sweep("EXPORT", export_once, true);
		source_fd = region_export(node, source.out_region_id);
		sweep("import", import_once, true);
		close(source_fd);
		region_free(node, source.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
	}
	tap(pins_are_even(), "not a page stays pinned");
	return tap_done();
}
