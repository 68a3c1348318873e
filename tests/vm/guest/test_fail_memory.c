// SPDX-License-Identifier: MIT
/*
 * The first, the second, ... allocation and copy of each command on memory
 * fails: it says so, and leaves nothing behind. Needs CONFIG_FAULT_INJECTION.
 */
#include "memory.h"

#define DEBUGFS "/sys/kernel/debug/"
#define MOST 2000

static int node, nth_fd;
static struct penstock_region_alloc source;
static int source_fd;
static unsigned char *user;

/* Faults of all kinds of allocations, without a report of each. */
static bool arm(void)
{
	static const char * const settings[][2] = {
		{ DEBUGFS "failslab/ignore-gfp-wait", "N" }, { DEBUGFS "failslab/verbose", "0" },
		{ DEBUGFS "fail_page_alloc/ignore-gfp-wait", "N" }, { DEBUGFS "fail_page_alloc/ignore-gfp-highmem", "N" },
		{ DEBUGFS "fail_page_alloc/min-order", "0" }, { DEBUGFS "fail_page_alloc/verbose", "0" },
	};

	for (unsigned int i = 0; i < sizeof(settings) / sizeof(*settings); i++)
		if (put_file(settings[i][0], settings[i][1]))
			return false;
	put_file(DEBUGFS "fail_usercopy/verbose", "0");
	nth_fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	return nth_fd >= 0;
}

static bool set_nth(unsigned int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", n);

	return pwrite(nth_fd, text, len, 0) == len;
}

/* Has the fault happened? */
static bool was_injected(void)
{
	char text[16] = "";

	return pread(nth_fd, text, sizeof(text) - 1, 0) > 0 && atoi(text) == 0;
}

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

/* @once: 0 or an error when the nth fault happened, 1 when there are not as many. */
static void sweep(const char *what, int (*once)(unsigned int n))
{
	unsigned int n, survived = 0, failed = 0;
	long pinned = pinned_pages();
	struct objects start;
	bool good = true;
	int ret;

	objects_read(&start);
	for (n = 1; n < MOST && good; n++) {
		ret = once(n);
		if (ret == 1)
			break;
		if (ret && ret != -ENOMEM && ret != -EFAULT && ret != -ENFILE) {
			printf("# fault %u: %d\n", n, ret);
			good = false;
		}
		survived += !ret;
		failed += !!ret;
		if (!objects_return_to(&start) || pinned_pages() != pinned) {
			printf("# fault %u (%d): something is left, %ld pages charged\n", n, ret, pinned_pages());
			good = false;
		}
	}
	tap(good && n < MOST && failed > 0, "%s: %u faults, %u of them survived; nothing is left", what, n - 1, survived);
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
	sweep("ALLOC", alloc_once);
	sweep("PIN", pin_once);
	if (tap(!region_alloc(node, 4 * PAGE, 0, &source), "a region to export")) {
		sweep("EXPORT", export_once);
		source_fd = region_export(node, source.out_region_id);
		sweep("import", import_once);
		close(source_fd);
		region_free(node, source.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
	}
	tap(pins_are_even(), "not a page stays pinned");
	return tap_done();
}
