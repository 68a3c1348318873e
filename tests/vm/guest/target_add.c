// SPDX-License-Identifier: MIT
/*
 * What TARGET_ADD says of a file: target_add PATH
 * prints "REASON peer=REASON kind=K offset_align=N mem_align=N nowait=N pci=ADDR"
 * for a target, the reason alone (or the errno) for what is none. A target is
 * also read, and compared with what an ordinary read brings: else "wrong data".
 */
#include "read.h"

#define LEN	(256U << 10)

static const char *const names[] = { "NONE", "P2PDMA_OFF", "KERNEL_TOO_OLD", "P2P_MODEL", "NO_PAGES", "WRITE_COMBINED",
	"NOT_MAPPABLE", "UNREACHABLE", "MAP_FAILED", "NOT_PCI", "BDEV_NO_P2P", "NOT_READABLE", "NOT_A_FILE", "OWN_NODE",
	"FILESYSTEM", "NO_DIRECT_IO", "ENCRYPTED", "VERITY", "COMPRESSED", "INLINE_DATA", "DATA_JOURNAL", "DAX",
	"XFS_REALTIME", "INTEGRITY" };

static const char *name_of(uint32_t reason)
{
	return reason < sizeof(names) / sizeof(*names) ? names[reason] : "unknown";
}

/* The first bytes, by the module and by the page cache. */
static bool reads_alike(int node, int fd, uint32_t target)
{
	static uint8_t want[LEN];
	ssize_t len = pread(fd, want, LEN, 0);
	struct dest d;

	if (len < 0 || dest_alloc(node, "host", LEN, 0, &d))
		return false;
	return read_ioctl(node, target, d.id, 0, 0, LEN) == len && !memcmp(want, d.map, len);
}

int main(int argc, char **argv)
{
	struct penstock_target_add add;
	int node = node_open(), fd, ret;

	if (argc != 2 || node < 0)
		return 2;
	fd = open(argv[1], O_RDONLY | O_NONBLOCK);
	if (fd < 0) {
		printf("open: %s\n", strerror(errno));
		return 1;
	}
	ret = target_add(node, fd, &add);
	if (ret) {
		printf("%s\n", ret == -EOPNOTSUPP ? name_of(add.out_reason) : strerror(-ret));
		return 0;
	}
	if (!reads_alike(node, fd, add.out_target_id)) {
		printf("wrong data\n");
		return 1;
	}
	printf("%s peer=%s kind=%u offset_align=%u mem_align=%u nowait=%u", name_of(add.out_reason),
	       name_of(add.out_peer_reason), add.out_kind, add.out_offset_align, add.out_mem_align, add.out_nowait_len);
	if (add.out_bus == UINT32_MAX)
		printf(" pci=none\n");
	else
		printf(" pci=%04x:%02x:%02x.%u\n", add.out_domain, add.out_bus, add.out_devfn >> 3, add.out_devfn & 7);
	return 0;
}
