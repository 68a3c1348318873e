// SPDX-License-Identifier: MIT
/*
 * What REGION_PROBE says of the way from a drive into the first peer that can be
 * used, and into host memory: target_probe PATH prints "REASON host=ok", where
 * the reason is NONE or BDEV_NO_P2P, or else a number.
 */
#include "read.h"

static const char *name_of(uint32_t reason, char *buf, size_t len)
{
	if (!reason)
		return "NONE";
	if (reason == PENSTOCK_REASON_BDEV_NO_P2P)
		return "BDEV_NO_P2P";
	snprintf(buf, len, "reason-%u", reason);
	return buf;
}

static int probe(int node, uint32_t region, uint32_t target, struct penstock_region_probe *probe)
{
	*probe = (struct penstock_region_probe) { .size = sizeof(*probe), .region_id = region, .target_id = target };
	return node_ioctl(node, PENSTOCK_IOC_REGION_PROBE, probe);
}

int main(int argc, char **argv)
{
	int node = node_open(), fd = argc == 2 ? open(argv[1], O_RDONLY) : -1, ret;
	struct penstock_region_probe to_bar, to_host;
	struct penstock_target_add add;
	struct dest bar, host;
	char buf[32];

	if (node < 0 || fd < 0)
		return 2;
	ret = target_add(node, fd, &add);
	if (!ret)
		ret = dest_bar(node, GUARD, &bar);
	if (!ret)
		ret = dest_alloc(node, "host", GUARD, 0, &host);
	if (!ret)
		ret = probe(node, bar.id, add.out_target_id, &to_bar);
	if (!ret)
		ret = probe(node, host.id, add.out_target_id, &to_host);
	if (ret) {
		printf("%s\n", strerror(-ret));
		return 1;
	}
	if (!to_bar.out_allowed != !!to_bar.out_reason) {
		printf("allowed %u with reason %u\n", to_bar.out_allowed, to_bar.out_reason);
		return 1;
	}
	printf("%s host=%s\n", name_of(to_bar.out_reason, buf, sizeof(buf)),
	       to_host.out_allowed && !to_host.out_reason ? "ok" : "refused");
	return 0;
}
