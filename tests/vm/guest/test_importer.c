// SPDX-License-Identifier: MIT
/*
 * Devices of other drivers that attach to a dma-buf of ours: who is let in,
 * which addresses he gets, that he is told when the memory goes away. The other
 * driver is tests/fake/dmabuf_importer.c.
 */
#include "memory.h"

#define IMPORTER "/sys/kernel/debug/penstock_importer/"

static int node;
static char drive[32];		/* PCI addresses */
static char peer_addr[32];

static int command(const char *fmt, ...)
{
	char text[128];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	return put_file(IMPORTER "command", text);
}

struct segment {
	unsigned long long addr;
	unsigned int len;
};

/* What the importer has mapped: how many segments. */
static unsigned int segments(struct segment *seg, unsigned int room, int *notified)
{
	FILE *f = fopen(IMPORTER "state", "r");
	unsigned int nr = 0;

	if (!f)
		return 0;
	if (fscanf(f, "notified %d", notified) == 1)
		while (nr < room && fscanf(f, "%llx %u", &seg[nr].addr, &seg[nr].len) == 2)
			nr++;
	fclose(f);
	return nr;
}

static bool find_drive(void)
{
	char path[64];
	ssize_t n;

	/* .../nvme0/device is a link to the PCI device. */
	n = readlink("/sys/class/nvme/nvme0/device", path, sizeof(path) - 1);
	if (n < 12)
		return false;
	path[n] = '\0';
	snprintf(drive, sizeof(drive), "%s", path + n - 12);
	return true;
}

/* Each page of the mapping lies where the segments say, without an IOMMU between. */
static bool segments_match(const unsigned char *p, uint64_t len, const struct segment *seg, unsigned int nr)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t at = 0, entry;
	bool good = fd >= 0;

	for (unsigned int i = 0; i < nr && good; i++)
		for (unsigned int j = 0; j < seg[i].len && good; j += PAGE, at += PAGE)
			good = at < len && *(volatile const unsigned char *)(p + at) == (unsigned char)(at / PAGE) &&
			       pread(fd, &entry, 8, (uintptr_t)(p + at) / PAGE * 8) == 8 &&
			       (entry & ((1ULL << 55) - 1)) * PAGE == seg[i].addr + j;
	if (fd >= 0)
		close(fd);
	return good && at == len;
}

#define LEN (6 * MIB + 3 * PAGE)
#define ROOM (LEN / PAGE)

static struct segment seg[ROOM];

static void test_host_memory(void)
{
	struct penstock_region_alloc alloc;
	int fd = -1, notified = -1, ret;
	unsigned int nr, longest = 0;
	unsigned char *p;

	if (!tap(!region_alloc(node, LEN, 10, &alloc) && (fd = region_export(node, alloc.out_region_id)) >= 0 &&
		 (p = region_map(node, &alloc)), "a region is exported"))
		return;
	for (uint64_t at = 0; at < LEN; at += PAGE)
		p[at] = at / PAGE;
	ret = command("attach %d %s static", fd, drive);
	tap(ret == -EOPNOTSUPP, "a device that cannot let go is refused (%d)", ret);
	ret = command("attach %d %s dynamic", fd, drive);
	if (!tap(!ret, "one that can is let in (%d)", ret))
		return;
	ret = command("map");
	nr = segments(seg, ROOM, &notified);
	tap(!ret && nr > 0 && nr <= alloc.out_nr_segments, "it maps the memory in %u segments of %u (%d)", nr,
	    alloc.out_nr_segments, ret);
	tap(segments_match(p, LEN, seg, nr), "each page lies where they say");
	/* All else goes; what the device has remains. */
	tap(!region_free(node, alloc.out_region_id, 0, NULL) && !close(fd) && objects_get("memories") == 1,
	    "the memory lives for the device alone");
	munmap(p, LEN);
	tap(!command("unmap") && !command("map-dynamic") && segments(seg, ROOM, &notified) == nr && notified == 0,
	    "it may map again, and was never told to let go");
	tap(!command("detach") && objects_get("memories") == 0 && objects_get("dmabufs") == 0,
	    "with the device the memory is gone");

	if (!peer_addr[0])
		return;
	/* A device of small segments: 64 KiB, as any that did not say. */
	if (region_alloc(node, LEN, 10, &alloc) || (fd = region_export(node, alloc.out_region_id)) < 0 ||
	    !(p = region_map(node, &alloc)))
		return;
	for (uint64_t at = 0; at < LEN; at += PAGE)
		p[at] = at / PAGE;
	ret = command("attach %d %s dynamic", fd, peer_addr);
	ret = ret ? ret : command("map");
	nr = segments(seg, ROOM, &notified);
	for (unsigned int i = 0; i < nr; i++)
		longest = seg[i].len > longest ? seg[i].len : longest;
	tap(!ret && longest == 64 * KIB && segments_match(p, LEN, seg, nr), "no segment is longer than the device takes (%u)",
	    longest);
	command("detach");
	close(fd);
	munmap(p, LEN);
	region_free(node, alloc.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
}

static void test_peer_memory(const struct penstock_peer_enum *found)
{
	struct penstock_region_peer bar;
	unsigned long long start = 0, end = 0;
	int fd = -1, notified = -1, ret;
	char path[80], text[512];
	uint64_t sum = 0;
	unsigned int nr;
	bool inside = true;

	if (!tap(!region_bar(node, found->out_peer_id, 2 * MIB, &bar) &&
		 (fd = region_export(node, bar.out_region_id)) >= 0, "peer memory is exported"))
		return;
	ret = command("attach %d %s dynamic", fd, drive);
	tap(ret == -EOPNOTSUPP, "a device that takes no peer memory is refused (%d)", ret);
	ret = command("attach %d %s static", fd, drive);
	tap(ret == -EOPNOTSUPP, "so is one that cannot let go (%d)", ret);
	if (!tap(!command("attach %d %s peer", fd, drive), "one that can do both is let in"))
		return;
	/* Kernels without CONFIG_DMABUF_MOVE_NOTIFY pin where others map. */
	if (!command("map"))
		command("unmap");
	ret = command("map-dynamic");
	nr = segments(seg, ROOM, &notified);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource", peer_addr);
	if (!get_file(path, text, sizeof(text))) {
		const char *line = text;

		for (unsigned int i = 0; i < found->out_bar && line; i++)
			line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL;
		if (line)
			sscanf(line, "%llx %llx", &start, &end);
	}
	for (unsigned int i = 0; i < nr; i++) {
		inside = inside && seg[i].addr >= start && seg[i].addr + seg[i].len - 1 <= end;
		sum += seg[i].len;
	}
	if (ret == -EREMOTEIO)
		tap_skip("its addresses lie in the BAR", "the drive cannot reach the peer here");
	else
		tap(!ret && nr && inside && sum == 2 * MIB && seg[0].addr == start + bar.out_peer_offset,
		    "its addresses lie in the BAR (%d)", ret);

	tap(!put_file("/sys/bus/pci/drivers/penstock_peer/unbind", peer_addr), "the peer goes away");
	segments(seg, ROOM, &notified);
	tap(notified == 1, "the device is told once (%d)", notified);
	command("unmap");
	ret = command("map-dynamic");
	tap(ret == -ENODEV, "it cannot map again (%d)", ret);
	tap(!command("detach"), "it leaves");
	ret = command("attach %d %s peer", fd, drive);
	tap(ret == -ENODEV, "it cannot come back (%d)", ret);
	close(fd);
	tap(!put_file("/sys/bus/pci/drivers/penstock_peer/bind", peer_addr), "the peer comes back");
}

int main(void)
{
	struct penstock_peer_enum found;
	struct objects start;

	if (access(IMPORTER "command", W_OK) || !find_drive()) {
		tap_skip("devices that attach", "no importer, or no drive");
		tap_done();
		return 4;
	}
	if (!tap(!objects_read(&start), "counts of objects"))
		return tap_done();
	node = node_open();
	if (!tap(node >= 0, "the node"))
		return tap_done();
	if (!peer_first(node, &found))
		snprintf(peer_addr, sizeof(peer_addr), "%04x:%02x:%02x.%x", found.out_domain, found.out_bus,
			 found.out_devfn >> 3, found.out_devfn & 7);
	test_host_memory();
	if (peer_addr[0])
		test_peer_memory(&found);
	else
		tap_skip("devices that attach to peer memory", "no peer");
	close(node);
	tap(objects_return_to(&start), "all objects are gone");
	return tap_done();
}
