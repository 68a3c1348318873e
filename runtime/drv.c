// SPDX-License-Identifier: MIT
/*
 * The driver's node: see drv.h. Each function fills the ABI's struct, calls, and
 * copies what came back. Texts are made here, since only here the command, its
 * object and the driver's reason are known together.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../uapi/linux/penstock.h"
#include "drv.h"
#include "err.h"
#include "util.h"

_Static_assert(sizeof(struct penstock_uring_read) == PENSTOCK_DRV_CMD_BYTES, "the command area of an SQE128");

/* What stands in the way, and what to do about it. The manual repeats these sentences. */
static const struct {
	const char *name;
	const char *text;
} reasons[] = {
#define REASON(n, t) [PENSTOCK_REASON_##n] = { #n, t }
	REASON(P2PDMA_OFF, "the kernel was built without CONFIG_PCI_P2PDMA: boot one that has it (Debian's stock "
	       "kernels do not)"),
	REASON(KERNEL_TOO_OLD, "the module was built for a kernel that lacks what peers need: use Linux 6.2 or "
	       "later"),
	REASON(P2P_MODEL, "the reference counts of this kernel's P2PDMA pages are none that the module knows: use a "
	       "newer module, or route direct"),
	REASON(NO_PAGES, "the peer's memory has no struct pages, or not over its whole range: its driver must "
	       "publish them; use route bounce"),
	REASON(WRITE_COMBINED, "the peer's driver maps its BAR write-combined, so it has no struct pages: for "
	       "NVIDIA set NVreg_RegistryDwords=\"RMForceStaticBar1=1;RmForceDisableIomapWC=1\" and reload it"),
	REASON(NOT_MAPPABLE, "memory that the module does not own cannot be mapped: use route direct"),
	REASON(UNREACHABLE, "the PCI topology has no path from the drive to the peer: put both below one PCIe "
	       "switch, or use a CPU whose host bridge the kernel lists for peer-to-peer"),
	REASON(MAP_FAILED, "a trial mapping of the peer's memory for the drive failed: look for IOMMU messages in "
	       "the kernel's log"),
	REASON(NOT_PCI, "the drive is no PCI device: use an NVMe drive in a PCIe slot"),
	REASON(BDEV_NO_P2P, "the block device does not take peer pages (md, dm, LVM, NVMe multipath): put the files "
	       "on a plain NVMe namespace, or boot with nvme_core.multipath=N"),
	REASON(NOT_READABLE, "the file is not open for reading: open it with O_RDONLY or O_RDWR"),
	REASON(NOT_A_FILE, "neither a regular file nor a block device: name one of these"),
	REASON(OWN_NODE, "a descriptor of the module's own node: name a file or a block device"),
	REASON(FILESYSTEM, "a file system other than ext4 and xfs: move the files to one of these"),
	REASON(NO_DIRECT_IO, "the file cannot be read with O_DIRECT: copy it to an ordinary file on ext4 or xfs"),
	REASON(ENCRYPTED, "the file is encrypted by its file system, so the CPU must touch each byte: copy it to a "
	       "folder without encryption"),
	REASON(VERITY, "the file is under fs-verity, so the CPU must check each byte: copy it to a file without"),
	REASON(COMPRESSED, "the file is compressed by its file system: copy it to a folder without compression"),
	REASON(INLINE_DATA, "the file's data lies in its inode: the file is too small to be read directly"),
	REASON(DATA_JOURNAL, "the file's data goes through the journal: mount without data=journal, clear the "
	       "file's flag by chattr -j"),
	REASON(DAX, "the file is memory mapped straight to its medium (DAX): there is no drive to read it from"),
	REASON(XFS_REALTIME, "the file lies on the realtime device of its XFS: clear the realtime flag and copy it"),
	REASON(INTEGRITY, "the namespace has integrity metadata, which the CPU must check: format it without"),
	REASON(DMABUF_NO_PAGES, "a dma-buf that the module did not export: importers may not use its pages"),
	REASON(UNBOUND, "the peer's driver was unbound, or the device was removed: bind it again, then open again"),
	REASON(RESET, "the peer was reset: open again"),
	REASON(PCI_ERROR, "the peer had a PCI error: look into the kernel's log, then open again"),
	REASON(SUSPENDED, "the peer was suspended: open again, and keep it from suspending while in use"),
	REASON(PROVIDER_FREED, "the memory's owner took it back: open again"),
	REASON(NO_PROVIDER, "no provider for that kind of memory is loaded: modprobe penstock_nv beside NVIDIA's "
	       "open kernel modules"),
	REASON(PROVIDER_REFUSED, "the memory's owner refused (MIG, vGPU, confidential computing, a bad address): "
	       "use a whole device, without these, or route bounce"),
	REASON(UNMARKED, "this kernel's block layer would take peer pages of the module's reads for memory of the "
	       "host: use another kernel than 6.17, or route mapped"),
	REASON(MERGES, "the block layer may merge the read with one into other memory, and maps both alike: "
	       "echo 2 >/sys/block/DRIVE/queue/nomerges, or route mapped"),
#undef REASON
};

const char *penstock_drv_reason_name(uint32_t reason)
{
	return reason < PENSTOCK_ARRAY_SIZE(reasons) ? reasons[reason].name : NULL;
}

const char *penstock_drv_reason_text(uint32_t reason)
{
	if (!reason)
		return "no reason was given";
	if (!penstock_drv_reason_name(reason))
		return "a reason that this library does not know: it is older than the module";
	return reasons[reason].text;
}

/* One command. Return: 0 or more; -errno. */
static int call(int drv, unsigned long cmd, void *arg)
{
	int rc = ioctl(drv, cmd, arg);

	return rc < 0 ? -errno : rc;
}

/* The text of a refusal with a reason, or of an error number. */
static int refused(struct penstock_error *err, int rc, uint32_t reason, uint32_t *out, const char *what)
{
	if (out)
		*out = reason;
	if (reason)
		return penstock_err(err, rc, "%s: %s (%s)", what, penstock_drv_reason_text(reason),
				    penstock_drv_reason_name(reason) ? penstock_drv_reason_name(reason) : "?");
	if (rc == -ENODEV)
		return penstock_err(err, rc, "%s: the peer, or the memory behind the region, is gone", what);
	return penstock_err(err, rc, "%s", what);
}

int penstock_drv_open(const char *path, struct penstock_error *err)
{
	struct penstock_info info = { .size = sizeof(info) };
	int fd = open(path, O_RDWR | O_CLOEXEC), rc;

	if (fd < 0 && (errno == ENOENT || errno == ENODEV || errno == ENXIO))
		return penstock_err(err, -ENODEV, "%s: the module is not loaded: modprobe penstock", path);
	if (fd < 0 && errno == EACCES)
		return penstock_err(err, -EACCES, "%s: only root and the group penstock may open it: "
				    "usermod -aG penstock USER, then log in again", path);
	if (fd < 0)
		return penstock_err(err, -errno, "open %s", path);
	rc = call(fd, PENSTOCK_IOC_INFO, &info);
	if (!rc)
		return fd;
	close(fd);
	return penstock_err(err, -EOPNOTSUPP, "%s: it is no node of the penstock module (INFO gives %s)", path,
			    strerrordesc_np(-rc));
}

void penstock_drv_close(int drv)
{
	if (drv >= 0)
		close(drv);
}

int penstock_drv_info(int drv, struct penstock_drv_info *info, struct penstock_error *err)
{
	struct penstock_info i = { .size = sizeof(i) };
	int rc = call(drv, PENSTOCK_IOC_INFO, &i);

	if (rc)
		return penstock_err(err, rc, "INFO of the module");
	*info = (struct penstock_drv_info){
		.uring_read = i.out_features & PENSTOCK_FEATURE_URING_READ,
		.region_read = i.out_features & PENSTOCK_FEATURE_REGION_READ,
		.peer = i.out_features & PENSTOCK_FEATURE_PEER,
		.peer_mmap = i.out_features & PENSTOCK_FEATURE_PEER_MMAP,
		.dmabuf = i.out_features & PENSTOCK_FEATURE_DMABUF,
		.peer_reason = i.out_peer_reason,
		.page_size = i.out_page_size,
		.max_order = i.out_max_order,
		.max_read = i.out_max_read_len,
		.max_region = i.out_max_region_len,
		.peer_limit = i.out_peer_limit,
		.peer_used = i.out_peer_used,
		.nr_peers = i.out_nr_peers,
		.generation = i.out_generation,
	};
	return 0;
}

int penstock_drv_peer(int drv, uint32_t after, struct penstock_drv_peer *p, struct penstock_error *err)
{
	struct penstock_peer_enum e = { .size = sizeof(e), .after_peer_id = after };
	int rc = call(drv, PENSTOCK_IOC_PEER_ENUM, &e);

	if (rc == -ENOENT)
		return rc;
	if (rc)
		return penstock_err(err, rc, "PEER_ENUM after peer %u", after);
	*p = (struct penstock_drv_peer){
		.id = e.out_peer_id,
		.reason = e.out_reason,
		.pci = { e.out_domain, e.out_bus, e.out_devfn },
		.bar = e.out_bar,
		.vendor = e.out_vendor,
		.device = e.out_device,
		.numa_node = e.out_numa_node,
		.is_bar = e.out_provider == PENSTOCK_PEER_BAR,
		.needs_flush = e.out_flags & PENSTOCK_PEER_F_NEEDS_FLUSH,
		.mappable = e.out_flags & PENSTOCK_PEER_F_MAPPABLE,
		.for_tests = e.out_flags & PENSTOCK_PEER_F_TEST,
		.len = e.out_len,
		.available = e.out_available,
	};
	return 0;
}

int penstock_drv_target_add(int drv, int fd, struct penstock_drv_target *t, uint32_t *reason,
			    struct penstock_error *err)
{
	struct penstock_target_add a = { .size = sizeof(a), .fd = fd };
	int rc = call(drv, PENSTOCK_IOC_TARGET_ADD, &a);

	if (rc)
		return refused(err, rc, a.out_reason, reason, "the driver cannot read the file");
	*t = (struct penstock_drv_target){
		.id = a.out_target_id,
		.peer_reason = a.out_peer_reason,
		.block = a.out_kind == PENSTOCK_TARGET_BLOCK,
		.off_align = a.out_offset_align,
		.mem_align = a.out_mem_align,
		.numa_node = a.out_numa_node,
		.pci = { a.out_domain, a.out_bus, a.out_devfn },
		.nowait_len = a.out_nowait_len,
	};
	return 0;
}

int penstock_drv_target_del(int drv, uint32_t target, struct penstock_error *err)
{
	struct penstock_target_del d = { .size = sizeof(d), .target_id = target };
	int rc = call(drv, PENSTOCK_IOC_TARGET_DEL, &d);

	return rc ? penstock_err(err, rc, "TARGET_DEL of target %u", target) : 0;
}

int penstock_drv_region_alloc(int drv, uint64_t len, int numa_node, uint32_t order, struct penstock_drv_region *r,
			      struct penstock_error *err)
{
	struct penstock_region_alloc a = {
		.size = sizeof(a), .length = len, .numa_node = numa_node, .order = order,
	};
	int rc = call(drv, PENSTOCK_IOC_REGION_ALLOC, &a);

	if (rc)
		return penstock_err(err, rc, "%" PRIu64 " bytes of the driver's memory%s", len, rc == -ENOMEM ?
				    ": raise RLIMIT_MEMLOCK by ulimit -l, or use less" : "");
	*r = (struct penstock_drv_region){ a.out_region_id, a.out_nr_segments, a.out_mmap_offset,
					   PENSTOCK_DRV_NOWHERE };
	return 0;
}

int penstock_drv_region_pin(int drv, void *addr, uint64_t len, struct penstock_drv_region *r,
			    struct penstock_error *err)
{
	struct penstock_region_pin p = {
		.size = sizeof(p), .flags = PENSTOCK_PIN_F_READ, .addr = (uintptr_t)addr, .length = len,
	};
	int rc = call(drv, PENSTOCK_IOC_REGION_PIN, &p);

	if (rc)
		return penstock_err(err, rc, "pin %" PRIu64 " bytes at %p", len, addr);
	*r = (struct penstock_drv_region){ p.out_region_id, p.out_nr_segments, PENSTOCK_DRV_NOWHERE,
					   PENSTOCK_DRV_NOWHERE };
	return 0;
}

static int region_of(int drv, struct penstock_region_peer *p, struct penstock_drv_region *r, uint32_t *reason,
		     const char *what, struct penstock_error *err)
{
	int rc = call(drv, PENSTOCK_IOC_REGION_PEER, p);

	if (rc)
		return refused(err, rc, p->out_reason, reason, what);
	*r = (struct penstock_drv_region){ p->out_region_id, p->out_nr_segments, p->out_mmap_offset,
					   p->out_peer_offset };
	return 0;
}

int penstock_drv_region_peer(int drv, uint32_t peer, uint64_t len, struct penstock_drv_region *r, uint32_t *reason,
			     struct penstock_error *err)
{
	struct penstock_region_peer p = {
		.size = sizeof(p), .kind = PENSTOCK_PEER_BAR, .peer_id = peer, .length = len, .fd = -1,
	};
	char what[64];

	snprintf(what, sizeof(what), "%" PRIu64 " bytes of the peer's memory", len);
	return region_of(drv, &p, r, reason, what, err);
}

int penstock_drv_region_import(int drv, int dmabuf, uint64_t off, uint64_t len, struct penstock_drv_region *r,
			       uint32_t *reason, struct penstock_error *err)
{
	struct penstock_region_peer p = {
		.size = sizeof(p), .kind = PENSTOCK_PEER_DMABUF, .offset = off, .length = len, .fd = dmabuf,
	};

	return region_of(drv, &p, r, reason, "import of a dma-buf", err);
}

int penstock_drv_region_probe(int drv, uint32_t region, uint32_t target, struct penstock_drv_probe *out,
			      struct penstock_error *err)
{
	struct penstock_region_probe p = { .size = sizeof(p), .region_id = region, .target_id = target };
	int rc;

	/* A signal while the drive is being reset is no verdict. */
	do {
		rc = call(drv, PENSTOCK_IOC_REGION_PROBE, &p);
	} while (rc == -EINTR);
	if (rc)
		return penstock_err(err, rc, "REGION_PROBE of region %u, target %u", region, target);
	*out = (struct penstock_drv_probe){
		.map = p.out_map_type == PENSTOCK_MAP_HOST_MEMORY ? PENSTOCK_DRV_MAP_HOST :
		       p.out_map_type == PENSTOCK_MAP_BUS_ADDRESS ? PENSTOCK_DRV_MAP_BUS :
		       p.out_map_type == PENSTOCK_MAP_HOST_BRIDGE ? PENSTOCK_DRV_MAP_BRIDGE : PENSTOCK_DRV_MAP_NONE,
		.distance = p.out_distance,
		.allowed = p.out_allowed,
		.reason = p.out_reason,
		.generation = p.out_generation,
	};
	return 0;
}

int penstock_drv_read(int drv, struct penstock_drv_read *reads, uint32_t nr)
{
	struct penstock_read batch[32];
	struct penstock_region_read call_arg;
	uint32_t done = 0, n, i;
	int rc;

	for (i = 0; i < nr; i++)
		reads[i].res = -EINTR;
	while (done < nr) {
		n = (uint32_t)penstock_min_u64(nr - done, PENSTOCK_ARRAY_SIZE(batch));
		for (i = 0; i < n; i++)
			batch[i] = (struct penstock_read){
				.target_id = reads[done + i].target, .region_id = reads[done + i].region,
				.offset = reads[done + i].off, .region_offset = reads[done + i].region_off,
				.length = reads[done + i].len,
			};
		call_arg = (struct penstock_region_read){
			.size = sizeof(call_arg), .reads_uptr = (uintptr_t)batch, .nr_reads = n,
			.read_size = sizeof(batch[0]),
		};
		rc = call(drv, PENSTOCK_IOC_REGION_READ, &call_arg);
		n = rc ? (uint32_t)penstock_min_u64(call_arg.out_nr_done, n) : n;
		for (i = 0; i < n; i++)
			reads[done + i].res = (int)batch[i].out_result;
		if (rc)
			return rc;
		done += n;
	}
	return 0;
}

int penstock_drv_region_free(int drv, uint32_t region, bool wait, struct penstock_error *err)
{
	struct penstock_region_free f = {
		.size = sizeof(f), .flags = wait ? PENSTOCK_REGION_FREE_F_WAIT : 0, .region_id = region,
	};
	int rc = call(drv, PENSTOCK_IOC_REGION_FREE, &f);

	if (rc == -EBUSY)
		return penstock_err(err, rc, "free region %u: %u reads are in flight", region,
				    f.out_in_flight);
	return rc ? penstock_err(err, rc, "free region %u", region) : 0;
}

int penstock_drv_region_export(int drv, uint32_t region, struct penstock_error *err)
{
	struct penstock_region_export e = { .size = sizeof(e), .region_id = region };
	int rc = call(drv, PENSTOCK_IOC_REGION_EXPORT, &e);

	return rc ? penstock_err(err, rc, "export region %u", region) : e.out_fd;
}

int penstock_drv_region_stat(int drv, uint32_t region, struct penstock_drv_stat *out, struct penstock_error *err)
{
	struct penstock_region_stat s = { .size = sizeof(s), .region_id = region };
	int rc = call(drv, PENSTOCK_IOC_REGION_STAT, &s);

	if (rc)
		return penstock_err(err, rc, "counters of region %u", region);
	*out = (struct penstock_drv_stat){
		.in_flight = s.out_in_flight, .reads = s.out_reads, .bytes = s.out_bytes, .shorts = s.out_short,
		.errors = s.out_errors, .refused = s.out_refused, .punted = s.out_punted,
		.resubmitted = s.out_resubmitted, .fallbacks = s.out_fallbacks, .unreachable = s.out_unreachable,
	};
	return 0;
}

void *penstock_drv_map(int drv, const struct penstock_drv_region *r, size_t len, struct penstock_error *err)
{
	void *p;

	if (r->mmap_off == PENSTOCK_DRV_NOWHERE) {
		penstock_err(err, -EOPNOTSUPP, "region %u: %s", r->id,
			     penstock_drv_reason_text(PENSTOCK_REASON_NOT_MAPPABLE));
		return NULL;
	}
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, drv, (off_t)r->mmap_off);
	if (p == MAP_FAILED) {
		penstock_err(err, -errno, "map region %u, %zu bytes", r->id, len);
		return NULL;
	}
	return p;
}

int penstock_drv_event(int drv, struct penstock_drv_event *e)
{
	struct pollfd pfd = { .fd = drv, .events = POLLIN };
	struct penstock_event ev;
	ssize_t n;

	if (poll(&pfd, 1, 0) <= 0 || !(pfd.revents & POLLIN))
		return 0;
	n = read(drv, &ev, sizeof(ev));
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n != (ssize_t)sizeof(ev))
		return -EIO;
	*e = (struct penstock_drv_event){
		.kind = ev.event == PENSTOCK_EVENT_REVOKED ? PENSTOCK_DRV_REVOKED :
			ev.event == PENSTOCK_EVENT_TOPOLOGY ? PENSTOCK_DRV_TOPOLOGY : PENSTOCK_DRV_LOST,
		.region = ev.region_id,
		.reason = ev.reason,
	};
	return 1;
}

uint32_t penstock_drv_read_cmd(const struct penstock_drv_read *r, void *cmd)
{
	struct penstock_uring_read c = {
		.target_id = r->target, .region_id = r->region, .length = r->len, .offset = r->off,
		.region_offset = r->region_off,
	};

	memcpy(cmd, &c, sizeof(c));
	return PENSTOCK_URING_CMD_READ;
}
