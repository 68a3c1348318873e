/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */
/*
 * The ABI of /dev/penstock: ioctls, the io_uring command READ, events.
 *
 * Words: a target is a file or block device to read from. A region is memory
 * to read into: host memory or the BAR of a peer device. A peer is a PCI
 * device whose memory can be such a region.
 */
#ifndef _UAPI_LINUX_PENSTOCK_H
#define _UAPI_LINUX_PENSTOCK_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * DOC: General rules
 *
 * Each ioctl takes one struct whose first field is its size, as the caller knows it. A shorter struct than that of the
 * first version is refused, a longer one is taken when all bytes that this kernel does not know are zero. Unknown flags
 * and non-zero reserved fields are refused, so that they can get a meaning later. Fields named out_* are written by the
 * kernel, also when the call fails with a reason; all others are left alone. Pointers are __u64. The layout is the same
 * for 32-bit and 64-bit callers. Features are probed by PENSTOCK_IOC_INFO, there is no version to compare.
 *
 * Objects are named by ids, which belong to one open of the device node; they are never zero and are not soon given
 * again. Closing the last descriptor of an open frees all that belongs to it.
 *
 * Errors mean the same in every command:
 *
 *  - EFAULT: an address of the caller cannot be read or written
 *  - ENOTTY: no such command
 *  - EINVAL: the size is below that of the first version, a value is out of range, an offset or length is not aligned
 *  - E2BIG: bytes that this kernel does not know are not zero; or the size is above one page
 *  - EOPNOTSUPP: an unknown flag, a reserved field that is not zero, something that this kernel, machine, file or peer
 *    cannot do; where there is an out_reason, it says which
 *  - ENOENT: no such id, or the id is of another kind
 *  - EOVERFLOW: an offset and a length add up beyond what can be expressed
 *  - ENOMEM: no memory, or RLIMIT_MEMLOCK is exceeded
 *  - ENOSPC: the limit on objects or on BAR bytes is reached, or the peer has no free range of that length
 *  - EPERM: the caller is not the one who may (see PENSTOCK_IOC_REGION_PIN)
 *  - EBUSY: I/O is in flight
 *  - ENODEV: the peer, or the memory behind a region, is gone
 *  - EREMOTEIO: the drive cannot reach the peer (the drive itself may report this for some of its errors, too)
 *  - ERESTARTSYS, seen as EINTR: a signal came while waiting
 */

#define PENSTOCK_IOC_TYPE 0xBE

/*
 * Numbers carry no size: a grown struct remains the same command.
 */
#define PENSTOCK_IOC_INFO		_IO(PENSTOCK_IOC_TYPE, 0x00)
#define PENSTOCK_IOC_PEER_ENUM		_IO(PENSTOCK_IOC_TYPE, 0x01)
#define PENSTOCK_IOC_TARGET_ADD		_IO(PENSTOCK_IOC_TYPE, 0x02)
#define PENSTOCK_IOC_TARGET_DEL		_IO(PENSTOCK_IOC_TYPE, 0x03)
#define PENSTOCK_IOC_REGION_ALLOC	_IO(PENSTOCK_IOC_TYPE, 0x04)
#define PENSTOCK_IOC_REGION_PIN		_IO(PENSTOCK_IOC_TYPE, 0x05)
#define PENSTOCK_IOC_REGION_PEER	_IO(PENSTOCK_IOC_TYPE, 0x06)
#define PENSTOCK_IOC_REGION_PROBE	_IO(PENSTOCK_IOC_TYPE, 0x07)
#define PENSTOCK_IOC_REGION_READ	_IO(PENSTOCK_IOC_TYPE, 0x08)
#define PENSTOCK_IOC_REGION_FREE	_IO(PENSTOCK_IOC_TYPE, 0x09)
#define PENSTOCK_IOC_REGION_EXPORT	_IO(PENSTOCK_IOC_TYPE, 0x0a)
#define PENSTOCK_IOC_REGION_STAT	_IO(PENSTOCK_IOC_TYPE, 0x0b)

/* cmd_op of an io_uring command on the device node; WRITE is reserved. */
#define PENSTOCK_URING_CMD_READ		_IO(PENSTOCK_IOC_TYPE, 0x40)
#define PENSTOCK_URING_CMD_WRITE	_IO(PENSTOCK_IOC_TYPE, 0x41)

/**
 * DOC: Reasons
 *
 * Why something is not possible. A reason is never given again for another meaning; zero is none.
 *
 *  - PENSTOCK_REASON_P2PDMA_OFF: the kernel was built without CONFIG_PCI_P2PDMA
 *  - PENSTOCK_REASON_KERNEL_TOO_OLD: the module was built for a kernel that lacks what peers need
 *  - PENSTOCK_REASON_P2P_MODEL: the base reference count of P2PDMA pages is none that the module knows
 *  - PENSTOCK_REASON_NO_PAGES: the peer's memory has no struct pages, or not over its whole range
 *  - PENSTOCK_REASON_WRITE_COMBINED: no pages, since the owner maps the BAR write-combined (NVIDIA's default)
 *  - PENSTOCK_REASON_NOT_MAPPABLE: memory that the module does not own cannot be mapped
 *  - PENSTOCK_REASON_UNREACHABLE: the PCI topology has no path from the drive to the peer
 *  - PENSTOCK_REASON_MAP_FAILED: a trial mapping for the drive failed
 *  - PENSTOCK_REASON_NOT_PCI: the drive is no PCI device
 *  - PENSTOCK_REASON_BDEV_NO_P2P: the block device does not take peer pages (stacked: md, dm, multipath)
 *  - PENSTOCK_REASON_NOT_READABLE: the file is not open for reading
 *  - PENSTOCK_REASON_NOT_A_FILE: neither a regular file nor a block device (pipe, socket, directory, device, io_uring)
 *  - PENSTOCK_REASON_OWN_NODE: a descriptor of the module's own
 *  - PENSTOCK_REASON_FILESYSTEM: a file system other than ext4 and xfs
 *  - PENSTOCK_REASON_NO_DIRECT_IO: the file cannot be read with O_DIRECT (encrypted, verity, inline and journalled
 *    data have reasons of their own where they can be told)
 *  - PENSTOCK_REASON_ENCRYPTED, PENSTOCK_REASON_VERITY, PENSTOCK_REASON_COMPRESSED, PENSTOCK_REASON_INLINE_DATA,
 *    PENSTOCK_REASON_DATA_JOURNAL, PENSTOCK_REASON_DAX, PENSTOCK_REASON_XFS_REALTIME: what the file is
 *  - PENSTOCK_REASON_INTEGRITY: the namespace has integrity metadata
 *  - PENSTOCK_REASON_DMABUF_NO_PAGES: a dma-buf that the module did not export; importers may not use its pages
 *  - PENSTOCK_REASON_UNBOUND: the peer's driver was unbound, or the device removed
 *  - PENSTOCK_REASON_RESET, PENSTOCK_REASON_PCI_ERROR, PENSTOCK_REASON_SUSPENDED: what happened to the peer
 *  - PENSTOCK_REASON_PROVIDER_FREED: the memory's owner took it back
 *  - PENSTOCK_REASON_NO_PROVIDER: no provider for that kind of memory is loaded
 *  - PENSTOCK_REASON_PROVIDER_REFUSED: the provider's owner refused (MIG, vGPU, confidential computing, a bad address)
 *  - PENSTOCK_REASON_UNMARKED: this kernel (6.17) would take peer pages of a READ for memory of the host, since its
 *    block layer marks only those that it gathers itself. Direct reads of a mapping of the region work
 *  - PENSTOCK_REASON_MERGES: this kernel (6.18 and later) maps all pages of a request as the first, and the drive's
 *    queue may merge a READ with one into other memory. It is looked at again at each READ
 */
#define PENSTOCK_REASON_NONE			0
#define PENSTOCK_REASON_P2PDMA_OFF		1
#define PENSTOCK_REASON_KERNEL_TOO_OLD		2
#define PENSTOCK_REASON_P2P_MODEL		3
#define PENSTOCK_REASON_NO_PAGES		4
#define PENSTOCK_REASON_WRITE_COMBINED		5
#define PENSTOCK_REASON_NOT_MAPPABLE		6
#define PENSTOCK_REASON_UNREACHABLE		7
#define PENSTOCK_REASON_MAP_FAILED		8
#define PENSTOCK_REASON_NOT_PCI			9
#define PENSTOCK_REASON_BDEV_NO_P2P		10
#define PENSTOCK_REASON_NOT_READABLE		11
#define PENSTOCK_REASON_NOT_A_FILE		12
#define PENSTOCK_REASON_OWN_NODE		13
#define PENSTOCK_REASON_FILESYSTEM		14
#define PENSTOCK_REASON_NO_DIRECT_IO		15
#define PENSTOCK_REASON_ENCRYPTED		16
#define PENSTOCK_REASON_VERITY			17
#define PENSTOCK_REASON_COMPRESSED		18
#define PENSTOCK_REASON_INLINE_DATA		19
#define PENSTOCK_REASON_DATA_JOURNAL		20
#define PENSTOCK_REASON_DAX			21
#define PENSTOCK_REASON_XFS_REALTIME		22
#define PENSTOCK_REASON_INTEGRITY		23
#define PENSTOCK_REASON_DMABUF_NO_PAGES		24
#define PENSTOCK_REASON_UNBOUND			25
#define PENSTOCK_REASON_RESET			26
#define PENSTOCK_REASON_PCI_ERROR		27
#define PENSTOCK_REASON_SUSPENDED		28
#define PENSTOCK_REASON_PROVIDER_FREED		29
#define PENSTOCK_REASON_NO_PROVIDER		30
#define PENSTOCK_REASON_PROVIDER_REFUSED	31
#define PENSTOCK_REASON_UNMARKED		32
#define PENSTOCK_REASON_MERGES			33

/* struct penstock_info.out_features */
#define PENSTOCK_FEATURE_URING_READ	(1ULL << 0)	/* PENSTOCK_URING_CMD_READ */
#define PENSTOCK_FEATURE_REGION_READ	(1ULL << 1)	/* PENSTOCK_IOC_REGION_READ */
#define PENSTOCK_FEATURE_PEER		(1ULL << 2)	/* regions in peer memory */
#define PENSTOCK_FEATURE_PEER_MMAP	(1ULL << 3)	/* such regions can be mapped (route mapped) */
#define PENSTOCK_FEATURE_DMABUF		(1ULL << 4)	/* REGION_EXPORT, and REGION_PEER of our own exports */
#define PENSTOCK_FEATURE_WRITE		(1ULL << 5)	/* reserved: PENSTOCK_URING_CMD_WRITE */

/* struct penstock_info.out_p2p_page_model: the reference count of an allocated, unused P2PDMA page */
#define PENSTOCK_P2P_PAGE_MODEL_UNSEEN	0	/* no peer page was allocated yet */
#define PENSTOCK_P2P_PAGE_MODEL_ONE	1
#define PENSTOCK_P2P_PAGE_MODEL_ZERO	2
#define PENSTOCK_P2P_PAGE_MODEL_UNKNOWN	3	/* neither: route mapped is off */

/**
 * struct penstock_info - ioctl(PENSTOCK_IOC_INFO)
 * @size: sizeof(struct penstock_info)
 * @__reserved: must be 0
 * @out_features: PENSTOCK_FEATURE_*
 * @out_page_size: bytes; lengths and offsets of regions are multiples of it
 * @out_max_order: largest order of a driver allocation (its pages are out_page_size << order)
 * @out_peer_reason: why PENSTOCK_FEATURE_PEER is not there, or 0
 * @out_p2p_page_model: PENSTOCK_P2P_PAGE_MODEL_*
 * @out_max_read_len: longest READ, in bytes
 * @out_max_region_len: longest region, in bytes
 * @out_peer_limit: bytes of peer memory that one user may hold, over all peers
 * @out_peer_used: bytes of peer memory that the caller's user holds
 * @out_max_regions: regions that one open may have
 * @out_max_targets: targets that one open may have
 * @out_nr_peers: peers there are now
 * @out_generation: changes whenever a PCI device comes or goes: verdicts on routes that were found before are void then
 *
 * Never fails but for a bad size or address.
 */
struct penstock_info {
	__u32 size;
	__u32 __reserved;
	__aligned_u64 out_features;
	__u32 out_page_size;
	__u32 out_max_order;
	__u32 out_peer_reason;
	__u32 out_p2p_page_model;
	__aligned_u64 out_max_read_len;
	__aligned_u64 out_max_region_len;
	__aligned_u64 out_peer_limit;
	__aligned_u64 out_peer_used;
	__u32 out_max_regions;
	__u32 out_max_targets;
	__u32 out_nr_peers;
	__u32 out_generation;
};

/* struct penstock_peer_enum.out_provider, struct penstock_region_peer.kind */
#define PENSTOCK_PEER_BAR	1	/* a BAR that the module is bound to */
#define PENSTOCK_PEER_NVIDIA	2	/* memory of the NVIDIA driver, by its device address */
#define PENSTOCK_PEER_DMABUF	3	/* a dma-buf of PENSTOCK_IOC_REGION_EXPORT; never enumerated */

/* struct penstock_peer_enum.out_flags */
#define PENSTOCK_PEER_F_NEEDS_FLUSH	(1U << 0)	/* data is visible to the peer only after a flush */
#define PENSTOCK_PEER_F_MAPPABLE	(1U << 1)	/* regions can be mapped */
#define PENSTOCK_PEER_F_TEST		(1U << 2)	/* a device for tests (ivshmem) */

/**
 * struct penstock_peer_enum - ioctl(PENSTOCK_IOC_PEER_ENUM)
 * @size: sizeof(struct penstock_peer_enum)
 * @after_peer_id: 0 for the first peer, or the out_peer_id of the one before
 * @out_peer_id: id of this peer, never given to another one
 * @out_provider: PENSTOCK_PEER_BAR or PENSTOCK_PEER_NVIDIA
 * @out_flags: PENSTOCK_PEER_F_*
 * @out_reason: why no region can be had from it, or 0
 * @out_domain: PCI domain
 * @out_bus: PCI bus
 * @out_devfn: PCI device << 3 | function
 * @out_bar: number of the BAR
 * @out_vendor: PCI vendor
 * @out_device: PCI device id
 * @out_numa_node: NUMA node, or -1
 * @__reserved: must be 0
 * @out_len: bytes of memory
 * @out_available: bytes not given to any region
 *
 * Fails with ENOENT when there is no further peer.
 */
struct penstock_peer_enum {
	__u32 size;
	__u32 after_peer_id;
	__u32 out_peer_id;
	__u32 out_provider;
	__u32 out_flags;
	__u32 out_reason;
	__u32 out_domain;
	__u32 out_bus;
	__u32 out_devfn;
	__u32 out_bar;
	__u32 out_vendor;
	__u32 out_device;
	__s32 out_numa_node;
	__u32 __reserved;
	__aligned_u64 out_len;
	__aligned_u64 out_available;
};

/* struct penstock_target_add.out_kind */
#define PENSTOCK_TARGET_FILE	1
#define PENSTOCK_TARGET_BLOCK	2

/**
 * struct penstock_target_add - ioctl(PENSTOCK_IOC_TARGET_ADD)
 * @size: sizeof(struct penstock_target_add)
 * @flags: must be 0
 * @fd: a regular file on ext4 or xfs, or a block device, open for reading; O_DIRECT need not be set
 * @out_target_id: id of the target
 * @out_reason: why the file cannot be read by the module (with EOPNOTSUPP), or 0
 * @out_peer_reason: why it cannot be read into peer memory, or 0; it can then be read into host memory only
 * @out_kind: PENSTOCK_TARGET_*
 * @out_offset_align: file offsets and lengths of reads are multiples of this, in bytes
 * @out_mem_align: offsets into regions are multiples of this, in bytes; where a read crosses from one segment of a
 *	region to the next, of @out_offset_align (EINVAL)
 * @out_numa_node: NUMA node of the drive, or -1
 * @out_domain: PCI domain of the drive; with out_bus, out_devfn: all ones where the drive is no PCI device
 * @out_bus: PCI bus of the drive
 * @out_devfn: PCI device << 3 | function of the drive
 * @out_nowait_len: longest read, in bytes, that is submitted without a worker thread, given that it begins at a page of
 *	the region; 0: none is
 * @__reserved: must be 0
 *
 * The target keeps the file open, so that its file system stays mounted; what @fd names later does not matter. Also
 * fails with EBADF, as it does for a descriptor opened with O_PATH.
 */
struct penstock_target_add {
	__u32 size;
	__u32 flags;
	__s32 fd;
	__u32 out_target_id;
	__u32 out_reason;
	__u32 out_peer_reason;
	__u32 out_kind;
	__u32 out_offset_align;
	__u32 out_mem_align;
	__s32 out_numa_node;
	__u32 out_domain;
	__u32 out_bus;
	__u32 out_devfn;
	__u32 out_nowait_len;
	__aligned_u64 __reserved;
};

/**
 * struct penstock_target_del - ioctl(PENSTOCK_IOC_TARGET_DEL)
 * @size: sizeof(struct penstock_target_del)
 * @target_id: the target
 *
 * Reads in flight keep the file until they end.
 */
struct penstock_target_del {
	__u32 size;
	__u32 target_id;
};

/**
 * struct penstock_region_alloc - ioctl(PENSTOCK_IOC_REGION_ALLOC)
 * @size: sizeof(struct penstock_region_alloc)
 * @flags: must be 0
 * @length: bytes, a multiple of the page size
 * @numa_node: where the memory is to lie, or -1 for the caller's node. Memory of another node is taken only for -1
 * @order: largest order of physically contiguous memory to try, up to out_max_order
 * @out_region_id: id of the region
 * @out_nr_segments: physically contiguous runs it consists of
 * @out_mmap_offset: offset for mmap() of the device node, shared and at most @length long
 *
 * The memory is zeroed, charged to RLIMIT_MEMLOCK and to the memory cgroup. It can be mapped; O_DIRECT works on the
 * mapping, and so do registered buffers of io_uring (which refuses them before Linux 6.5, with EOPNOTSUPP). After
 * REGION_FREE the memory lives for as long as a mapping, a registered buffer or an exported dma-buf uses it.
 */
struct penstock_region_alloc {
	__u32 size;
	__u32 flags;
	__aligned_u64 length;
	__s32 numa_node;
	__u32 order;
	__u32 out_region_id;
	__u32 out_nr_segments;
	__aligned_u64 out_mmap_offset;
};

/* struct penstock_region_pin.flags: the direction, as the memory sees it */
#define PENSTOCK_PIN_F_READ	(1U << 0)	/* drives are read into it; required */

/**
 * struct penstock_region_pin - ioctl(PENSTOCK_IOC_REGION_PIN)
 * @size: sizeof(struct penstock_region_pin)
 * @flags: PENSTOCK_PIN_F_READ
 * @addr: address of the caller's memory, a multiple of the page size
 * @length: bytes, a multiple of the page size
 * @out_region_id: id of the region
 * @out_nr_segments: physically contiguous runs it consists of
 *
 * The pages are pinned for long, charged to RLIMIT_MEMLOCK. Reads into the region are for the process that pinned it:
 * others that hold the descriptor (by fork or by SCM_RIGHTS, or after exec) get EPERM. After munmap() the region keeps
 * the old pages. Refused: a shared mapping of a file (EFAULT), file system DAX (EOPNOTSUPP), peer memory (EREMOTEIO).
 */
struct penstock_region_pin {
	__u32 size;
	__u32 flags;
	__aligned_u64 addr;
	__aligned_u64 length;
	__u32 out_region_id;
	__u32 out_nr_segments;
};

/* struct penstock_region_peer.flags */
#define PENSTOCK_REGION_PEER_F_MMAP	(1U << 0)	/* fail when the region cannot be mapped */

/**
 * struct penstock_region_peer - ioctl(PENSTOCK_IOC_REGION_PEER)
 * @size: sizeof(struct penstock_region_peer)
 * @flags: PENSTOCK_REGION_PEER_F_MMAP
 * @kind: PENSTOCK_PEER_BAR, PENSTOCK_PEER_NVIDIA or PENSTOCK_PEER_DMABUF
 * @peer_id: the peer (BAR; NVIDIA: 0, the address says which)
 * @addr: device address of the memory (NVIDIA), a multiple of 64 KiB; else 0
 * @offset: bytes into the dma-buf, a multiple of the page size; else 0
 * @length: bytes, a multiple of the page size (NVIDIA: of 64 KiB)
 * @fd: the dma-buf; else -1
 * @__reserved: must be 0
 * @out_region_id: id of the region
 * @out_reason: why there is none, or 0
 * @out_nr_segments: physically contiguous runs it consists of
 * @out_flags: PENSTOCK_PEER_F_* of its peer
 * @out_mmap_offset: offset for mmap() of the device node, or all ones where it cannot be mapped
 * @out_peer_offset: where it lies in the peer's memory, in bytes (BAR), else all ones
 *
 * A range of a BAR that had another owner before is cleared. An imported dma-buf shares the memory of the region that
 * it was exported from; neither is freed before the other.
 */
struct penstock_region_peer {
	__u32 size;
	__u32 flags;
	__u32 kind;
	__u32 peer_id;
	__aligned_u64 addr;
	__aligned_u64 offset;
	__aligned_u64 length;
	__s32 fd;
	__u32 __reserved;
	__u32 out_region_id;
	__u32 out_reason;
	__u32 out_nr_segments;
	__u32 out_flags;
	__aligned_u64 out_mmap_offset;
	__aligned_u64 out_peer_offset;
};

/* struct penstock_region_probe.out_map_type */
#define PENSTOCK_MAP_NONE		0	/* not reachable */
#define PENSTOCK_MAP_HOST_MEMORY	1	/* the region is host memory */
#define PENSTOCK_MAP_BUS_ADDRESS	2	/* directly through a switch */
#define PENSTOCK_MAP_HOST_BRIDGE	3	/* through the host bridge */

/**
 * struct penstock_region_probe - ioctl(PENSTOCK_IOC_REGION_PROBE)
 * @size: sizeof(struct penstock_region_probe)
 * @flags: must be 0
 * @region_id: the region
 * @target_id: the target
 * @out_map_type: PENSTOCK_MAP_*, as found by mapping a page of the region for the drive
 * @out_distance: PCI hops between drive and peer, or -1
 * @out_allowed: 1 when a READ from this target into this region is not refused beforehand
 * @out_reason: why it is, or 0
 * @out_generation: struct penstock_info.out_generation at the time
 * @__reserved: must be 0
 *
 * A path that the kernel allows may still not carry the right data: only reading known data through it tells.
 */
struct penstock_region_probe {
	__u32 size;
	__u32 flags;
	__u32 region_id;
	__u32 target_id;
	__u32 out_map_type;
	__s32 out_distance;
	__u32 out_allowed;
	__u32 out_reason;
	__u32 out_generation;
	__u32 __reserved;
};

/**
 * struct penstock_read - one read of PENSTOCK_IOC_REGION_READ
 * @target_id: read from here
 * @region_id: into this
 * @offset: bytes into the file or block device
 * @region_offset: bytes into the region
 * @length: bytes, as for PENSTOCK_URING_CMD_READ
 * @flags: must be 0
 * @out_result: bytes read (fewer than @length only at the end of the file), or a negative errno as for
 *	PENSTOCK_URING_CMD_READ
 */
struct penstock_read {
	__u32 target_id;
	__u32 region_id;
	__aligned_u64 offset;
	__aligned_u64 region_offset;
	__u32 length;
	__u32 flags;
	__s64 out_result;
};

/* reads that one PENSTOCK_IOC_REGION_READ takes */
#define PENSTOCK_REGION_READ_MAX 1024

/**
 * struct penstock_region_read - ioctl(PENSTOCK_IOC_REGION_READ)
 * @size: sizeof(struct penstock_region_read)
 * @flags: must be 0
 * @reads_uptr: address of @nr_reads struct penstock_read
 * @nr_reads: 1 to PENSTOCK_REGION_READ_MAX
 * @read_size: sizeof(struct penstock_read): the distance from one to the next; a longer one ends in zeros (E2BIG)
 * @out_nr_done: reads whose out_result was written, from the first
 * @__reserved: must be 0
 *
 * Reads are done one after the other and return when the data has arrived. Returns 0 when all were done, whatever their
 * results: an error of a single read does not end the call. A signal between two reads does (EINTR; a read that has
 * begun is waited for), and a struct that cannot be read or written (EFAULT, E2BIG). out_nr_done says how far it came.
 */
struct penstock_region_read {
	__u32 size;
	__u32 flags;
	__aligned_u64 reads_uptr;
	__u32 nr_reads;
	__u32 read_size;
	__u32 out_nr_done;
	__u32 __reserved;
};

/**
 * struct penstock_uring_read - the command area of an SQE with cmd_op PENSTOCK_URING_CMD_READ
 * @target_id: read from here
 * @flags: must be 0
 * @region_id: into this
 * @length: bytes, 1 to out_max_read_len
 * @offset: bytes into the file or block device
 * @region_offset: bytes into the region
 * @__reserved: must be 0
 *
 * The ring needs IORING_SETUP_SQE128, and neither IORING_SETUP_IOPOLL nor IORING_URING_CMD_FIXED. The result is the
 * number of bytes, fewer than @length only at the end of the file, or a negative errno: EINVAL for what is not aligned,
 * ENODATA never; EOPNOTSUPP also when the file system fell back to buffered reads; ENODEV when the region was revoked;
 * EREMOTEIO when the drive cannot reach the peer; ECANCELED never, since a READ in flight cannot be cancelled; EIO and
 * others from the drive. Holes of a file are filled with zeros by the CPU. A short read leaves the range from the next
 * multiple of out_offset_align as it was; one that fails may have written any of it. The completion proves that the
 * data has left the drive: see PENSTOCK_PEER_F_NEEDS_FLUSH.
 */
struct penstock_uring_read {
	__u32 target_id;
	__u32 flags;
	__u32 region_id;
	__u32 length;
	__aligned_u64 offset;
	__aligned_u64 region_offset;
	__aligned_u64 __reserved[6];
};

/* struct penstock_region_free.flags */
#define PENSTOCK_REGION_FREE_F_WAIT	(1U << 0)	/* wait for I/O in flight */

/**
 * struct penstock_region_free - ioctl(PENSTOCK_IOC_REGION_FREE)
 * @size: sizeof(struct penstock_region_free)
 * @flags: PENSTOCK_REGION_FREE_F_WAIT
 * @region_id: the region
 * @out_in_flight: reads in flight (with EBUSY)
 *
 * Without the flag EBUSY says that I/O is in flight, and nothing has changed. With it no new I/O is taken, mappings are
 * taken away, and the call returns when all I/O has ended, at the latest by the drive's timeout: no signal but a fatal
 * one ends the wait before. Mappings give SIGBUS afterwards.
 */
struct penstock_region_free {
	__u32 size;
	__u32 flags;
	__u32 region_id;
	__u32 out_in_flight;
};

/**
 * struct penstock_region_export - ioctl(PENSTOCK_IOC_REGION_EXPORT)
 * @size: sizeof(struct penstock_region_export)
 * @flags: must be 0
 * @region_id: the region: not one made by REGION_PIN, nor a part of a dma-buf (EOPNOTSUPP)
 * @out_fd: a dma-buf, close-on-exec
 *
 * Each export is a dma-buf of its own on the same memory. Devices may attach to it only if they can give the memory up
 * (dynamic importers); peer memory cannot be pinned by them, host memory can. The memory and its charge live until the
 * last of region and dma-bufs is gone. Its mappings are shared (EINVAL for private and executable ones), no longer than
 * the memory, and give SIGBUS once the peer is gone.
 */
struct penstock_region_export {
	__u32 size;
	__u32 flags;
	__u32 region_id;
	__s32 out_fd;
};

/**
 * struct penstock_region_stat - ioctl(PENSTOCK_IOC_REGION_STAT)
 * @size: sizeof(struct penstock_region_stat)
 * @flags: must be 0
 * @region_id: the region, or 0 for the sum over this open since it was opened
 * @out_in_flight: reads in flight now
 * @out_reads: reads that ended well, short ones included
 * @out_bytes: bytes they brought
 * @out_short: of them, those that ended at the end of the file
 * @out_errors: reads that failed in the drive or the file system
 * @out_refused: reads refused before they were submitted
 * @out_punted: reads that io_uring was told to repeat in a worker thread
 * @out_resubmitted: reads that came back unfinished (EAGAIN) and were submitted again by the module
 * @out_fallbacks: reads that the file system did not do directly, and which were failed
 * @out_unreachable: of the errors, EREMOTEIO
 *
 * Counters only grow; in flight is a state.
 */
struct penstock_region_stat {
	__u32 size;
	__u32 flags;
	__u32 region_id;
	__u32 out_in_flight;
	__aligned_u64 out_reads;
	__aligned_u64 out_bytes;
	__aligned_u64 out_short;
	__aligned_u64 out_errors;
	__aligned_u64 out_refused;
	__aligned_u64 out_punted;
	__aligned_u64 out_resubmitted;
	__aligned_u64 out_fallbacks;
	__aligned_u64 out_unreachable;
};

/* struct penstock_event.event */
#define PENSTOCK_EVENT_REVOKED	1	/* region_id: its memory is gone, reason says why; the id remains */
#define PENSTOCK_EVENT_TOPOLOGY	2	/* PCI devices came or went: out_generation has changed */
#define PENSTOCK_EVENT_LOST	3	/* events were dropped, since nobody read them */

/**
 * struct penstock_event - what read() on the device node returns, whole records only
 * @event: PENSTOCK_EVENT_*
 * @region_id: the region, or 0
 * @reason: PENSTOCK_REASON_*
 * @__reserved: 0
 *
 * poll() reports EPOLLIN while there are any. read() waits for one unless O_NONBLOCK is set (EAGAIN).
 */
struct penstock_event {
	__u32 event;
	__u32 region_id;
	__u32 reason;
	__u32 __reserved;
};

#endif
