// SPDX-License-Identifier: MIT
/*
 * The first, the second, ... allocation and copy of opens, targets, peers,
 * probes and reads fails: it says so, and leaves nothing behind. Needs
 * CONFIG_FAULT_INJECTION. test_fail_read FILE
 */
#include "fail.h"
#include "read.h"

static int node;
static struct source source;
static struct dest host, bar;
static struct io_uring ring;
static uint32_t peer_id;
static struct penstock_region_alloc mapped;

static int open_once(unsigned int n)
{
	bool injected;
	int fd;

	set_nth(n);
	fd = node_open();
	injected = was_injected();
	set_nth(0);
	if (fd >= 0)
		close(fd);
	return injected ? (fd < 0 ? fd : 0) : 1;
}

static int target_once(unsigned int n)
{
	struct penstock_target_add add = { .size = sizeof(add), .fd = source.fd };
	struct penstock_target_del del = { .size = sizeof(del) };
	bool injected;
	int ret;

	set_nth(n);
	ret = node_ioctl(node, PENSTOCK_IOC_TARGET_ADD, &add);
	injected = was_injected();
	set_nth(0);
	del.target_id = add.out_target_id;
	if (!ret)
		ret = node_ioctl(node, PENSTOCK_IOC_TARGET_DEL, &del);
	return injected ? ret : 1;
}

static int bar_once(unsigned int n)
{
	struct penstock_region_peer cmd = { .size = sizeof(cmd), .kind = PENSTOCK_PEER_BAR, .peer_id = peer_id,
		.length = 16 * PAGE, .fd = -1 };
	bool injected;
	int ret;

	set_nth(n);
	ret = node_ioctl(node, PENSTOCK_IOC_REGION_PEER, &cmd);
	injected = was_injected();
	set_nth(0);
	if (!ret)
		region_free(node, cmd.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
	return injected ? ret : 1;
}

static int probe_once(unsigned int n)
{
	struct penstock_region_probe probe = { .size = sizeof(probe), .region_id = bar.id ? bar.id : host.id,
		.target_id = source.add.out_target_id };
	bool injected;
	int ret;

	set_nth(n);
	ret = node_ioctl(node, PENSTOCK_IOC_REGION_PROBE, &probe);
	injected = was_injected();
	set_nth(0);
	/* A trial that found no memory is a reason, not an error. */
	if (!ret && injected && probe.out_reason && probe.out_reason != PENSTOCK_REASON_MAP_FAILED)
		ret = -EINVAL;
	return injected ? ret : 1;
}

/* A read either fails and says so, or brings the right bytes. */
static int read_result(struct dest *d, int64_t ret, uint64_t offset)
{
	if (ret == PAGE * 4)
		return dest_holds(d, &source, GUARD, offset, PAGE * 4) ? 0 : -EILSEQ;
	return ret < 0 ? (int)ret : -EIO;
}

static int ioctl_read_once(unsigned int n)
{
	struct dest *d = n % 2 && bar.id ? &bar : &host;
	bool injected;
	int64_t ret;

	dest_poison(d, GUARD, PAGE * 4);
	set_nth(n);
	ret = read_ioctl(node, source.add.out_target_id, d->id, PAGE * n, GUARD, PAGE * 4);
	injected = was_injected();
	set_nth(0);
	return injected ? read_result(d, ret, PAGE * n) : 1;
}

/* The submission alone is under faults; the entry is either taken or remains. */
static int ring_read_once(unsigned int n)
{
	struct dest *d = n % 2 && bar.id ? &bar : &host;
	struct io_uring_cqe cqe;
	bool injected;
	int ret;

	dest_poison(d, GUARD, PAGE * 4);
	ring_read(&ring, node, source.add.out_target_id, d->id, PAGE * n, GUARD, PAGE * 4, n);
	set_nth(n);
	ret = io_uring_submit(&ring);
	injected = was_injected();
	set_nth(0);
	if (ret != 1)
		ret = io_uring_submit(&ring);
	if (ret != 1 || ring_reap(&ring, 30, &cqe) || cqe.user_data != n)
		return -EPROTO;
	return injected ? read_result(d, cqe.res, PAGE * n) : 1;
}

/* mmap() and the first touch, in the kernel by read() into it. */
static int map_once(unsigned int n)
{
	uint8_t *p;
	bool injected;
	int ret = 0;

	set_nth(n);
	p = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, node, mapped.out_mmap_offset);
	if (p == MAP_FAILED)
		ret = -errno;
	else if (pread(source.fd, p, 16 * PAGE, 0) < 0)
		ret = -errno;
	injected = was_injected();
	set_nth(0);
	if (p != MAP_FAILED)
		munmap(p, 16 * PAGE);
	return injected ? ret : 1;
}

/* Commands that look: only the copies of their struct can fail. */
static int look_once(unsigned int n)
{
	struct penstock_info info = { .size = sizeof(info) };
	struct penstock_peer_enum peer = { .size = sizeof(peer) };
	struct penstock_region_stat stat;
	bool injected;
	int ret;

	set_nth(n);
	ret = node_ioctl(node, PENSTOCK_IOC_INFO, &info);
	if (!ret)
		ret = node_ioctl(node, PENSTOCK_IOC_PEER_ENUM, &peer);
	if (!ret || ret == -ENOENT)
		ret = region_stat(node, host.id, &stat);
	injected = was_injected();
	set_nth(0);
	return injected ? ret : 1;
}

static int free_once(unsigned int n)
{
	struct penstock_region_alloc alloc;
	struct penstock_region_free cmd = { .size = sizeof(cmd), .flags = PENSTOCK_REGION_FREE_F_WAIT };
	bool injected;
	int ret;

	if (region_alloc(node, 4 * PAGE, 0, &alloc))
		return -ENOMEM;
	cmd.region_id = alloc.out_region_id;
	set_nth(n);
	ret = node_ioctl(node, PENSTOCK_IOC_REGION_FREE, &cmd);
	injected = was_injected();
	set_nth(0);
	/* Where only the answer was lost, it is gone. */
	if (ret && region_free(node, alloc.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL) != -ENOENT && ret != -EFAULT)
		return -EPROTO;
	return injected ? ret : 1;
}

int main(int argc, char **argv)
{
	struct penstock_peer_enum peer;

	if (argc != 2) {
		fprintf(stderr, "usage: %s FILE\n", argv[0]);
		return 2;
	}
	if (access(DEBUGFS "failslab", F_OK) || !arm()) {
		tap_skip("faults", "no CONFIG_FAULT_INJECTION");
		tap_done();
		return 4;
	}
	node = node_open();
	if (!tap(node >= 0 && !source_open(node, "file", argv[1], &source) &&
		 !dest_alloc(node, "host", 1 << 20, 0, &host) && !region_alloc(node, 16 * PAGE, 2, &mapped) &&
		 !ring_init(&ring, 8, 0), "node, file, memory and ring"))
		return tap_done();
	if (!peer_first(node, &peer)) {
		peer_id = peer.out_peer_id;
		tap(!dest_bar(node, 1 << 20, &bar), "a region in the peer");
	}
	sweep("open", open_once, true);
	sweep("INFO, PEER_ENUM, REGION_STAT", look_once, false);
	sweep("TARGET_ADD, TARGET_DEL", target_once, true);
	if (peer_id)
		sweep("REGION_PEER", bar_once, true);
	else
		tap_skip("REGION_PEER", "no peer");
	sweep("REGION_PROBE", probe_once, true);
	sweep("REGION_READ", ioctl_read_once, true);
	sweep("READ", ring_read_once, true);
	sweep("REGION_FREE", free_once, false);
	sweep("mmap and faults", map_once, true);
	return tap_done();
}
