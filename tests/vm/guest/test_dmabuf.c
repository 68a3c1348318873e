// SPDX-License-Identifier: MIT
/*
 * dma-bufs of regions inside a virtual machine: export, import by another
 * process, mappings, who keeps the memory alive, and what is refused.
 */
#include "memory.h"
#include <linux/udmabuf.h>
#include <pthread.h>
#include <sys/syscall.h>

static int node;

static bool region_gone(uint32_t id)
{
	return !region_free(node, id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
}

/* A region that is exported: the dma-buf, or -1 with the fault told. */
static int exported(uint64_t len, struct penstock_region_alloc *alloc)
{
	int fd = -1;

	if (!region_alloc(node, len, 4, alloc))
		fd = region_export(node, alloc->out_region_id);
	tap(fd >= 0, "a region is exported (%d)", fd);
	return fd;
}

static unsigned char *map_fd(int fd, uint64_t len, uint64_t offset)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);

	return p == MAP_FAILED ? NULL : p;
}

/* Bytes that tell where they lie. */
static void fill(unsigned char *p, size_t len, unsigned int seed)
{
	for (size_t i = 0; i < len / 4; i++)
		((uint32_t *)p)[i] = (uint32_t)i * 2654435761U + seed;
}

static bool is_filled(const unsigned char *p, size_t from, size_t len, unsigned int seed)
{
	for (size_t i = 0; i < len / 4; i++)
		if (((const uint32_t *)p)[i] != (uint32_t)(from / 4 + i) * 2654435761U + seed)
			return false;
	return true;
}

/* ---- export ---- */

static void test_export(void)
{
	struct penstock_region_alloc alloc;
	struct penstock_region_pin pin;
	struct stat first, second;
	int fd = exported(MIB, &alloc), again, path_only;
	struct penstock_region_peer peer;
	char path[64];
	static char user[2 * PAGE] __attribute__((aligned(PAGE)));

	if (fd < 0)
		return;
	tap(fcntl(fd, F_GETFD) == FD_CLOEXEC, "its descriptor is close-on-exec");
	tap(lseek(fd, 0, SEEK_END) == (off_t)MIB, "it has the region's length");
	again = region_export(node, alloc.out_region_id);
	tap(again >= 0 && again != fd && !fstat(fd, &first) && !fstat(again, &second) &&
	    first.st_ino != second.st_ino && objects_get("dmabufs") == 2, "exported twice, there are two");
	close(again);

	/* The dentry outlives the file: the release comes late, and what is exported meanwhile is not touched by it. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	path_only = open(path, O_PATH | O_CLOEXEC);
	close(fd);
	for (int i = 0; i < 64; i++)
		close(open("/dev/null", O_RDONLY));
	fd = region_export(node, alloc.out_region_id);
	peer = (struct penstock_region_peer) { .size = sizeof(peer), .kind = PENSTOCK_PEER_DMABUF, .fd = fd, .length = MIB };
	tap(path_only >= 0 && fd >= 0 && !node_ioctl(node, PENSTOCK_IOC_REGION_PEER, &peer) &&
	    !region_free(node, peer.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL),
	    "an export after a close whose release is still to come is a dma-buf");
	close(path_only);
	close(fd);
	tap(objects_get("dmabufs") == 0, "closed, it is gone");
	fd = region_export(node, alloc.out_region_id);
	tap(fd >= 0 && objects_get("dmabufs") == 1, "the region can be exported anew");
	close(fd);

	tap(!region_pin(node, user, PAGE, &pin) && region_export(node, pin.out_region_id) == -EOPNOTSUPP,
	    "a user's memory is not exported");
	region_free(node, pin.out_region_id, 0, NULL);
	tap(region_export(node, pin.out_region_id) == -ENOENT, "nor is what does not exist");
	region_gone(alloc.out_region_id);
}

static void test_no_descriptors(void)
{
	struct penstock_region_alloc alloc;
	struct rlimit old, none;
	int ret;

	if (!tap(!region_alloc(node, MIB, 4, &alloc), "a region"))
		return;
	getrlimit(RLIMIT_NOFILE, &old);
	none = (struct rlimit) { 3, old.rlim_max };
	setrlimit(RLIMIT_NOFILE, &none);
	ret = region_export(node, alloc.out_region_id);
	setrlimit(RLIMIT_NOFILE, &old);
	tap(ret == -EMFILE && objects_get("dmabufs") == 0, "no dma-buf is left where there is no descriptor for it (%d)",
	    ret);
	region_gone(alloc.out_region_id);
}

/* ---- import ---- */

static bool send_fd(int sock, int fd)
{
	union { struct cmsghdr align; char buf[CMSG_SPACE(sizeof(int))]; } u = { .buf = { 0 } };
	struct iovec iov = { (char[]){ 1 }, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.buf, .msg_controllen = sizeof(u.buf) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	return sendmsg(sock, &msg, 0) == 1;
}

static int receive_fd(int sock)
{
	union { struct cmsghdr align; char buf[CMSG_SPACE(sizeof(int))]; } u;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.buf, .msg_controllen = sizeof(u.buf) };
	int fd = -1;

	if (recvmsg(sock, &msg, 0) == 1 && CMSG_FIRSTHDR(&msg))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

static bool say(int sock)
{
	return write(sock, "x", 1) == 1;
}

static bool hear(int sock)
{
	char c;

	return read(sock, &c, 1) == 1;
}

#define SHARED (8 * PAGE)

/* The other process; each number is that of a step that went wrong. */
static int importer(int sock)
{
	int mine = node_open(), fd = receive_fd(sock), file = open(DATA_FILE, O_RDONLY);
	struct penstock_region_peer whole, part;
	struct penstock_target_add add;
	unsigned char *p, *q;

	if (mine < 0 || fd < 0 || region_import(mine, fd, 0, SHARED, &whole) ||
	    region_import(mine, fd, 2 * PAGE, 3 * PAGE, &part))
		return 1;
	close(fd);
	p = map_fd(mine, SHARED, whole.out_mmap_offset);
	q = map_fd(mine, 3 * PAGE, part.out_mmap_offset);
	if (!p || !q || !is_filled(p, 0, SHARED, 7) || !is_filled(q, 2 * PAGE, 3 * PAGE, 7))
		return 2;
	fill(p, SHARED, 9);
	if (!is_filled(q, 2 * PAGE, 3 * PAGE, 9) || mmap(NULL, 4 * PAGE, PROT_READ, MAP_SHARED, mine,
							  part.out_mmap_offset) != MAP_FAILED)
		return 3;
	/* A part is not to become the whole, neither by reading nor by exporting. */
	if (region_export(mine, part.out_region_id) != -EOPNOTSUPP)
		return 4;
	if (file >= 0) {
		if (target_add(mine, file, &add) ||
		    read_ioctl(mine, add.out_target_id, part.out_region_id, 0, 2 * PAGE, 2 * PAGE) != -EINVAL ||
		    read_ioctl(mine, add.out_target_id, part.out_region_id, 0, 2 * PAGE, PAGE) != PAGE ||
		    !is_file_data(p + 4 * PAGE, 0, PAGE) || !is_filled(p + 3 * PAGE, 3 * PAGE, PAGE, 9) ||
		    !is_filled(p + 5 * PAGE, 5 * PAGE, 3 * PAGE, 9))
			return 5;
	}
	/* The exporter looks, frees its region, and ends its open. */
	if (!say(sock) || !hear(sock))
		return 6;
	fill(p, SHARED, 11);
	if (!is_filled(q, 2 * PAGE, 3 * PAGE, 11))
		return 7;
	fd = region_export(mine, whole.out_region_id);
	if (fd < 0 || region_free(mine, whole.out_region_id, 0, NULL) || fault_at(p) != SIGBUS ||
	    !is_filled(q, 2 * PAGE, 3 * PAGE, 11))
		return 8;
	if (region_free(mine, part.out_region_id, 0, NULL) || fault_at(q) != SIGBUS)
		return 9;
	/* The dma-buf is all there is now. */
	p = map_fd(fd, SHARED, 0);
	return p && is_filled(p, 0, SHARED, 11) ? 0 : 10;
}

static void test_import(void)
{
	long long memories = objects_get("memories"), pages = objects_get("host_pages");
	struct penstock_region_alloc alloc;
	int fd = exported(SHARED, &alloc), socks[2], status = 0;
	long pinned = pinned_pages();
	unsigned char *p;
	pid_t pid;

	if (fd < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, socks))
		return;
	p = region_map(node, &alloc);
	fill(p, SHARED, 7);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		close(socks[0]);
		/* Of the parent's it has nothing but what is sent. */
		close(node);
		close(fd);
		_exit(importer(socks[1]));
	}
	close(socks[1]);
	tap(send_fd(socks[0], fd) && hear(socks[0]) && p[0] == 9, "another process imports it, reads and writes it");
	close(fd);
	tap(!region_free(node, alloc.out_region_id, 0, NULL) && fault_at(p) == SIGBUS, "the exporter frees its region");
	tap(objects_get("memories") == memories + 1 && objects_get("host_pages") == pages + (long long)(SHARED / PAGE) &&
	    pinned_pages() == pinned, "the memory lives, and its charge");
	say(socks[0]);
	waitpid(pid, &status, 0);
	tap(WIFEXITED(status) && !WEXITSTATUS(status), "the importer keeps all of it (step %d)", WEXITSTATUS(status));
	for (int i = 0; i < 200 && objects_get("memories") != memories; i++)
		usleep(20000);
	tap(objects_get("memories") == memories && objects_get("host_pages") == pages &&
	    pinned_pages() == pinned - (long)(SHARED / PAGE), "with the last of it, memory and charge are given back");
	munmap(p, SHARED);
	close(socks[0]);
}

static void test_import_refusals(void)
{
	struct penstock_region_alloc alloc;
	struct penstock_region_peer peer;
	int fd = exported(4 * PAGE, &alloc), dev, mem, other;
	struct udmabuf_create create;

	if (fd < 0)
		return;
	tap(region_import(node, fd, 0, 5 * PAGE, &peer) == -EINVAL, "no more than the dma-buf has");
	tap(region_import(node, fd, PAGE, 4 * PAGE, &peer) == -EINVAL, "nor beyond its end");
	tap(region_import(node, fd, 100, PAGE, &peer) == -EINVAL && region_import(node, fd, 0, 100, &peer) == -EINVAL &&
	    region_import(node, fd, 0, 0, &peer) == -EINVAL, "whole pages only");
	tap(region_import(node, fd, 0 - PAGE, 2 * PAGE, &peer) == -EOVERFLOW, "an end beyond 2^64");
	tap(region_import(node, -1, 0, PAGE, &peer) == -EBADF, "no descriptor");
	tap(region_import(node, node, 0, PAGE, &peer) == -EINVAL, "a descriptor of something else");
	close(fd);
	region_gone(alloc.out_region_id);

	dev = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	mem = memfd_create("other", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (dev < 0 || mem < 0 || ftruncate(mem, PAGE) || fcntl(mem, F_ADD_SEALS, F_SEAL_SHRINK)) {
		tap_skip("another driver's dma-buf", "no /dev/udmabuf");
		return;
	}
	create = (struct udmabuf_create) { .memfd = mem, .size = PAGE };
	other = ioctl(dev, UDMABUF_CREATE, &create);
	tap(other >= 0 && region_import(node, other, 0, PAGE, &peer) == -EOPNOTSUPP &&
	    peer.out_reason == PENSTOCK_REASON_DMABUF_NO_PAGES, "another driver's dma-buf is refused, with the reason");
	close(other);
	close(mem);
	close(dev);
}

/* ---- mappings of the dma-buf ---- */

static int touch(void *arg)
{
	return fault_at(arg);
}

static void test_mappings(void)
{
	struct penstock_region_alloc alloc;
	int fd = exported(2 * MIB, &alloc), file;
	unsigned char *p, *q;

	if (fd < 0)
		return;
	p = map_fd(fd, 2 * MIB, 0);
	q = region_map(node, &alloc);
	if (!tap(p && q, "the dma-buf and the region are mapped"))
		return;
	fill(q, 2 * MIB, 3);
	tap(is_filled(p, 0, 2 * MIB, 3), "they are the same memory");
	tap(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED && errno == EINVAL, "no private mapping");
	tap(mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EINVAL &&
	    mprotect(p, PAGE, PROT_READ | PROT_EXEC), "no executable mapping");
	tap(mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 2 * MIB - PAGE) == MAP_FAILED &&
	    mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 1ULL << 40) == MAP_FAILED, "none beyond the end");
	tap(in_child(touch, p) == SIGSEGV, "a child does not inherit it");
	file = open(DATA_FILE, O_RDONLY | O_DIRECT);
	if (file >= 0)
		tap(pread(file, p + PAGE, MIB, MIB) == (ssize_t)MIB && is_file_data(q + PAGE, MIB, MIB),
		    "an ordinary direct read into it");
	else
		tap_skip("an ordinary direct read into it", "no " DATA_FILE);
	close(fd);
	tap(region_gone(alloc.out_region_id) && fault_at(q) == SIGBUS && is_file_data(p + PAGE, MIB, MIB),
	    "it outlives the region and the descriptor");
	munmap(p, 2 * MIB);
	munmap(q, 2 * MIB);
	close(file);
	tap(objects_get("memories") == 0 && objects_get("dmabufs") == 0, "with the last mapping the memory is gone");
}

/* The module is there as long as a dma-buf of it. */
static void test_module(void)
{
	struct penstock_region_alloc alloc;
	int fd = exported(PAGE, &alloc);
	long ret;

	if (fd < 0)
		return;
	close(node);
	ret = syscall(SYS_delete_module, "penstock", O_NONBLOCK) ? -errno : 0;
	tap(ret == -EWOULDBLOCK, "the module cannot be unloaded while a dma-buf lives (%ld)", ret);
	close(fd);
	node = node_open();
}

/* ---- the end of one dma-buf and the making of the next ---- */

struct race {
	uint32_t region;
	double end;
	unsigned int done;
	bool good;
};

static void *race(void *arg)
{
	struct race *r = arg;

	while (now() < r->end && r->good) {
		int fd = region_export(node, r->region);
		unsigned char *p = fd < 0 ? NULL : map_fd(fd, PAGE, 0);

		r->good = p && *(volatile unsigned int *)p == 0x600dbeef;
		if (p)
			munmap(p, PAGE);
		close(fd);
		r->done++;
	}
	return NULL;
}

static void test_race(void)
{
	struct penstock_region_alloc alloc;
	unsigned char *p = NULL;
	struct race r[4];
	pthread_t threads[4];
	unsigned int done = 0;
	bool good = true;

	if (region_alloc(node, PAGE, 0, &alloc) || !(p = region_map(node, &alloc)))
		return;
	*(volatile unsigned int *)p = 0x600dbeef;
	for (int i = 0; i < 4; i++) {
		r[i] = (struct race) { .region = alloc.out_region_id, .end = now() + 3, .good = true };
		pthread_create(&threads[i], NULL, race, &r[i]);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		done += r[i].done;
		good = good && r[i].good;
	}
	tap(good && done > 40, "threads that export, map and close the same region: %u times", done);
	munmap(p, PAGE);
	tap(region_gone(alloc.out_region_id) && objects_get("dmabufs") == 0 && objects_get("memories") == 0,
	    "no dma-buf is left of that");
}

/* ---- peer memory ---- */

static void test_peer(void)
{
	struct penstock_region_peer bar, peer;
	struct penstock_peer_enum found;
	unsigned char *p, *q;
	char addr[32];
	int fd, ret;

	if (peer_first(node, &found) || region_bar(node, found.out_peer_id, 2 * MIB, &bar)) {
		tap_skip("a dma-buf of peer memory", "no peer");
		return;
	}
	fd = region_export(node, bar.out_region_id);
	if (!tap(fd >= 0, "peer memory is exported (%d)", fd))
		return;
	ret = region_import(node, fd, PAGE, PAGE, &peer);
	tap(!ret && peer.out_peer_offset != ~0ULL, "and imported (%d)", ret);
	p = map_fd(fd, 2 * MIB, 0);
	q = bar.out_mmap_offset == ~0ULL ? NULL : map_fd(node, 2 * MIB, bar.out_mmap_offset);
	if (!p || !q) {
		tap_skip("a mapping of it", "it cannot be mapped");
	} else {
		memset(p, 0, PAGE);
		fill(q, PAGE, 5);
		tap(is_filled(p, 0, PAGE, 5), "its mapping shows the peer");
	}

	snprintf(addr, sizeof(addr), "%04x:%02x:%02x.%x", found.out_domain, found.out_bus, found.out_devfn >> 3,
		 found.out_devfn & 7);
	tap(!put_file("/sys/bus/pci/drivers/penstock_peer/unbind", addr), "the peer goes away");
	if (p)
		tap(fault_at(p) == SIGBUS && fault_at(p + MIB) == SIGBUS, "the mapping of the dma-buf gives SIGBUS");
	tap(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED, "a new one is refused");
	tap(region_export(node, bar.out_region_id) == -ENODEV, "so is an export");
	ret = region_import(node, fd, 0, PAGE, &peer);
	tap(ret == -ENODEV, "and an import (%d)", ret);
	tap(!put_file("/sys/bus/pci/drivers/penstock_peer/bind", addr), "the peer comes back");
	if (p)
		tap(fault_at(p) == SIGBUS, "what was the old one's remains gone");
	close(fd);
	close(node);
	if (p)
		munmap(p, 2 * MIB);
	if (q)
		munmap(q, 2 * MIB);
	node = node_open();
}

int main(void)
{
	struct objects start;
	long pinned = pinned_pages();

	if (!tap(!objects_read(&start), "counts of objects"))
		return tap_done();
	node = node_open();
	if (!tap(node >= 0, "the node"))
		return tap_done();
	test_export();
	test_no_descriptors();
	test_import();
	test_import_refusals();
	test_mappings();
	test_module();
	test_race();
	test_peer();
	tap(pinned_returns_to(pinned), "nothing is charged in the end");
	close(node);
	tap(objects_return_to(&start), "all objects are gone");
	return tap_done();
}
