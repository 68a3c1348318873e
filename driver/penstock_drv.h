/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Private structs of penstock.ko, who owns what, and the order of locks.
 *
 * An open (struct penstock_open) is one open of /dev/penstock. It has targets
 * (files to read from) and regions (memory to read into), each under an id.
 * A region is a window of one open on a memory (struct penstock_mem), which
 * is the pages themselves. An imported dma-buf is a second region on the same
 * memory; that is the only way to have more than one.
 *
 * Lifetime of a region
 *
 *   id in open->regions          --+
 *   each VMA                       |  hold a reference (ref): the struct's bytes, no more
 *   active != 0, until retired   --+
 *
 *   @active is 1 while the region is alive, and 1 more for each READ in flight
 *   and each page fault under way. Killing it takes the 1 away, once. At zero
 *   nothing can use the memory by this region any more: @retire runs on
 *   penstock_wq, takes mappings away, leaves mem->regions, puts the memory and
 *   completes @retired. Dropping active is all that a completion in interrupt
 *   context has to do. Nothing that waits for active depends on a process
 *   reaping completions.
 *
 * Lifetime of a memory
 *
 *   each region that is not retired, and its dma-bufs, hold a reference. With
 *   the last one ops->release() gives the pages back. A revocation (the peer
 *   goes away) does not wait for the dma-buf: it marks the memory dead, kills
 *   the regions, takes mappings away, waits until mem->regions is empty, and
 *   calls ops->release() itself; the struct remains until the last reference.
 *
 * Host pages that a user still has mapped or registered live on by their own
 * page references: nothing waits for those. Peer pages must come back to their
 * base count before the BAR range is given back: ops->release() waits.
 *
 * Order of locks (outer first)
 *
 *   a drive's device lock         REGION_PROBE: the drive's driver stays
 *   penstock_peers_lock (mutex)   the list of peers
 *   open->lock (mutex)            control commands of one open that change its regions' table
 *   mmap_lock                     page faults come in with it
 *   mem->lock (mutex)             mem->{regions,dead,releasing,exports}; no user access under it
 *   peer->lock (mutex)            peer->mems, peer->causes
 *   a dma-buf's reservation lock  revocation; what dma-buf calls in it takes none of ours
 *   i_mmap_rwsem                  unmap_mapping_range()
 *   region->state_lock (spin)     region->dead; taken with interrupts off
 *   open->event_lock (spin)       the ring of events; taken with interrupts off
 *
 * READ takes none of them: ids are looked up under RCU.
 */
#ifndef PENSTOCK_DRV_H
#define PENSTOCK_DRV_H

#include <linux/bvec.h>
#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/percpu.h>
#include <linux/refcount.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>
#include <linux/penstock.h>
#include "compat.h"

struct io_uring_cmd;
struct penstock_open;
struct penstock_mem;
struct penstock_peer;
struct penstock_peer_user;
struct user_struct;

/* ---- limits ---- */

/* mmap offsets: the id, then the offset in the region; ids above 2^24 cannot be mapped, and are never given */
#define PENSTOCK_MMAP_SHIFT	38
#define PENSTOCK_MAX_REGION_LEN	BIT_ULL(PENSTOCK_MMAP_SHIFT)
#define PENSTOCK_MAX_ID		(BIT(24) - 1)
#define PENSTOCK_NO_OFFSET	(~0ULL)
#define PENSTOCK_EVENTS		64

extern unsigned int penstock_max_regions;	/* module parameters */
extern unsigned int penstock_max_targets;
extern unsigned long penstock_peer_limit_mib;	/* bytes of peer memory a user, in MiB; 0: no limit */
extern bool penstock_allow_test_peer;

/* ---- counters (stats.c) ---- */

/*
 * struct penstock_stats - one CPU's share of the counters of an open or a region; see struct penstock_region_stat
 */
struct penstock_stats {
	u64 reads;
	u64 bytes;
	u64 shorts;
	u64 errors;
	u64 refused;
	u64 punted;
	u64 resubmitted;
	u64 fallbacks;
	u64 unreachable;
};

#define penstock_count(object, field, n) this_cpu_add((object)->stats->field, n)

void penstock_stats_sum(const struct penstock_stats __percpu *stats, struct penstock_stats *sum);
int penstock_ioctl_region_stat(struct penstock_open *open, void *arg);

/* Objects of each kind there are now, over all opens: for debugfs and for tests of leaks. */
enum penstock_object {
	PENSTOCK_OBJECT_OPEN,
	PENSTOCK_OBJECT_REGION,
	PENSTOCK_OBJECT_MEM,
	PENSTOCK_OBJECT_TARGET,
	PENSTOCK_OBJECT_PEER,
	PENSTOCK_OBJECT_DMABUF,
	PENSTOCK_OBJECT_IO,		/* reads in flight */
	PENSTOCK_OBJECT_HOST_PAGES,	/* pages of driver allocations */
	PENSTOCK_OBJECT_PINNED_PAGES,	/* pages of users */
	PENSTOCK_OBJECT_PEER_BYTES,
	PENSTOCK_OBJECT_NR,
};

void penstock_object_add(enum penstock_object kind, long n);
s64 penstock_object_read(enum penstock_object kind);
/* The totals of all opens that were, and are: their stats are added here when they close. */
void penstock_stats_fold(const struct penstock_stats __percpu *stats);
int penstock_stats_init(void);
void penstock_stats_exit(void);

/* ---- an open of the node (main.c, event.c) ---- */

/**
 * struct penstock_open - one open of /dev/penstock
 * @ref: the file, and each region that is not yet retired
 * @mapping: the VMAs of this open, so that they can be zapped whatever node they came by
 * @lock: serialises the commands that add to or take from @regions and @targets
 * @regions: id -> struct penstock_region; loaded under RCU
 * @targets: id -> struct penstock_target; loaded under RCU
 * @nr_regions: entries, @lock
 * @nr_targets: entries, @lock
 * @next_region: where the search for a free id goes on
 * @next_target: the same
 * @stats: sums over this open
 * @node: in penstock_opens (main.c)
 * @event_lock: protects the ring of events
 * @events: the ring
 * @event_head: records written, ever
 * @event_tail: records read, ever
 * @event_lost: a record did not fit
 * @event_topology: a TOPOLOGY record is pending (they are merged)
 * @event_wait: readers and pollers
 */
struct penstock_open {
	struct kref ref;
	struct address_space mapping;
	struct mutex lock;		/* the tables and their counts */
	struct xarray regions;
	struct xarray targets;
	u32 nr_regions;
	u32 nr_targets;
	u32 next_region;
	u32 next_target;
	struct penstock_stats __percpu *stats;
	struct list_head node;

	spinlock_t event_lock;		/* the ring of events */
	struct penstock_event events[PENSTOCK_EVENTS];
	u32 event_head;
	u32 event_tail;
	bool event_lost;
	bool event_topology;
	wait_queue_head_t event_wait;
};

void penstock_open_put(struct penstock_open *open);
/* True for a descriptor of the module's own node. */
bool penstock_is_own_file(const struct file *file);
/* For all opens; any context that may sleep. */
void penstock_open_for_each(void (*fn)(struct penstock_open *open, void *arg), void *arg);

/* Events. post: any context. */
void penstock_event_init(struct penstock_open *open);
void penstock_event_post(struct penstock_open *open, u32 event, u32 region_id, u32 reason);
ssize_t penstock_event_read(struct file *file, char __user *buf, size_t len, loff_t *pos);
__poll_t penstock_event_poll(struct file *file, struct poll_table_struct *wait);

/*
 * Releases run here and may wait for I/O. Unbound, many at a time. Module exit drains it.
 * Resubmitted reads have a queue of their own, so that they never stand behind what waits for them.
 */
extern struct workqueue_struct *penstock_wq;

/* ---- ioctls: each gets the struct in kernel memory; 0 or -errno; out_* is copied back in both cases ---- */

int penstock_ioctl_info(struct penstock_open *open, void *arg);			/* main.c */
int penstock_ioctl_peer_enum(struct penstock_open *open, void *arg);		/* peer.c */
int penstock_ioctl_target_add(struct penstock_open *open, void *arg);		/* target.c */
int penstock_ioctl_target_del(struct penstock_open *open, void *arg);
int penstock_ioctl_region_alloc(struct penstock_open *open, void *arg);	/* host.c */
int penstock_ioctl_region_pin(struct penstock_open *open, void *arg);
int penstock_ioctl_region_peer(struct penstock_open *open, void *arg);		/* peer.c */
int penstock_ioctl_region_probe(struct penstock_open *open, void *arg);	/* probe.c */
int penstock_ioctl_region_read(struct penstock_open *open, void *arg);		/* read.c */
int penstock_ioctl_region_free(struct penstock_open *open, void *arg);		/* region.c */
int penstock_ioctl_region_export(struct penstock_open *open, void *arg);	/* dmabuf.c */
int penstock_uring_cmd(struct io_uring_cmd *cmd, unsigned int issue_flags);	/* read.c */

/* ---- memory (mem.c) ---- */

/**
 * struct penstock_mem_ops - what differs between kinds of memory
 * @name: for traces
 * @release: give the pages back. Called once, when nothing reads into them or maps them by us; may sleep, and waits for
 *	page references that others still hold where the kind needs that
 * @busy: pages that somebody beside us and the page tables uses (I/O on a mapping in flight), or NULL when that does
 *	not matter
 * @flush: make what a drive wrote visible to the peer; called at the end of each read, in interrupt context; or NULL
 */
struct penstock_mem_ops {
	const char *name;
	void (*release)(struct penstock_mem *mem);
	unsigned long (*busy)(struct penstock_mem *mem);
	void (*flush)(struct penstock_mem *mem);
};

/**
 * struct penstock_charge - what a user was charged; see host.c
 * @user: whose locked_vm, a reference; NULL when he has no limit (CAP_IPC_LOCK), or nothing is charged
 * @mm: whose pinned_vm, mmgrab'ed; NULL when nothing is charged
 * @pages: how many
 */
struct penstock_charge {
	struct user_struct *user;
	struct mm_struct *mm;
	unsigned long pages;
};

int penstock_charge_pages(struct penstock_charge *charge, unsigned long pages);
/* Any context that may sleep; nothing when nothing is charged. */
void penstock_uncharge(struct penstock_charge *charge);

/**
 * struct penstock_mem - pages to read into
 * @ref: each region that is not retired; the dma-buf
 * @ops: its kind
 * @len: bytes
 * @bvec: physically contiguous runs, in order, together @len bytes; never changes. kvmalloc'ed, freed with the struct
 * @ends: where each run ends, in bytes from the start: for the search; kvmalloc'ed with @bvec
 * @nr_bvec: how many
 * @p2p: the pages are PCI P2PDMA pages
 * @mappable: may be mapped
 * @needs_flush: the runtime must flush before the peer sees the data
 * @only_mm: reads are for this address space only (user memory), or NULL; valid while @charge.mm is held
 * @charge: uncharged when the pages are given back
 * @lock: see the order of locks
 * @regions: regions that are not retired
 * @empty: woken when @regions becomes empty
 * @dead: why the pages are gone, PENSTOCK_REASON_*, or 0
 * @releasing: ops->release() was called
 * @released: completed when it has returned
 * @exports: its dma-bufs (dmabuf.c): each holds a reference on us, and leaves under @lock
 * @peer: whose memory it is, a reference, or NULL
 * @peer_user: who was charged for it, from penstock_peer_join() to penstock_peer_leave()
 * @peer_node: in peer->mems
 * @peer_offset: where in the peer, or PENSTOCK_NO_OFFSET
 * @priv: the kind's own
 * @release_work: runs when the last reference was put where one may not sleep
 */
struct penstock_mem {
	struct kref ref;
	const struct penstock_mem_ops *ops;
	u64 len;
	struct bio_vec *bvec;
	u64 *ends;
	u32 nr_bvec;
	bool p2p;
	bool mappable;
	bool needs_flush;
	struct mm_struct *only_mm;
	struct penstock_charge charge;

	struct mutex lock;		/* what follows, to exports */
	struct list_head regions;
	wait_queue_head_t empty;
	u32 dead;
	bool releasing;
	struct completion released;
	struct list_head exports;

	struct penstock_peer *peer;
	struct penstock_peer_user *peer_user;
	struct list_head peer_node;
	u64 peer_offset;
	void *priv;
	struct work_struct release_work;
};

/*
 * A memory without pages: room for @nr_bvec runs. The caller fills bvec, ops, priv and the flags, then calls
 * penstock_mem_finish(). Until ops is set, putting it frees the struct only.
 */
struct penstock_mem *penstock_mem_alloc(u32 nr_bvec);
/* Sums the runs up into ends and len. */
void penstock_mem_finish(struct penstock_mem *mem);
void penstock_mem_get(struct penstock_mem *mem);
/* False when the last reference was put already: the pages are being given back, without the caller's help. */
bool penstock_mem_tryget(struct penstock_mem *mem);
/* Any context: the pages are given back on penstock_wq. */
void penstock_mem_put(struct penstock_mem *mem);
/* The same, but the pages are given back before it returns when this was the last reference; may sleep long. */
void penstock_mem_put_sync(struct penstock_mem *mem);
/*
 * Take the memory away from all who use it, whoever they are, with @reason; returns when nothing reads into it and the
 * pages were given back. May sleep as long as a drive's timeout. Callable more than once.
 */
void penstock_mem_revoke(struct penstock_mem *mem, u32 reason);
/*
 * Insert the pages around @vmf's address, which lies at @offset bytes into @mem; VM_FAULT_NOPAGE or an error. The
 * caller makes sure that the memory is not released meanwhile.
 */
vm_fault_t penstock_mem_fault(struct penstock_mem *mem, struct vm_fault *vmf, u64 offset);
/* Set an iterator for reading into [offset, offset + len), which lies in @mem: no check. Any context. */
void penstock_mem_iter(struct penstock_mem *mem, u64 offset, size_t len, struct iov_iter *iter);

/* ---- regions (region.c) ---- */

/**
 * struct penstock_region - a window of an open on a memory; see the head of this file
 * @ref: bytes of the struct
 * @active: 1 while alive, and 1 a user of the moment
 * @open: a reference until retired
 * @mem: a reference until retired
 * @mem_offset: where it starts in @mem, bytes
 * @len: bytes
 * @id: its id in @open
 * @node: in mem->regions until retired
 * @state_lock: protects @dead
 * @dead: PENSTOCK_REASON_* + 1 once killed, else 0
 * @retire: what runs when @active is zero
 * @retired: completed when that has run
 * @stats: its counters, always on
 * @rcu: lookups run under RCU
 */
struct penstock_region {
	struct kref ref;
	refcount_t active;
	struct penstock_open *open;
	struct penstock_mem *mem;
	u64 mem_offset;
	u64 len;
	u32 id;
	struct list_head node;
	spinlock_t state_lock;		/* dead */
	u32 dead;
	struct work_struct retire;
	struct completion retired;
	struct penstock_stats __percpu *stats;
	struct rcu_head rcu;
};

/*
 * Make a region of [offset, offset + len) of @mem in @open and give it an id. Takes a reference on @mem of its own;
 * the caller keeps his. @id is written before others can find the region.
 * Return: 0; -ENOMEM; -ENOSPC when the open has its full number; -ENODEV when the memory is dead.
 */
int penstock_region_create(struct penstock_open *open, struct penstock_mem *mem, u64 offset, u64 len, u32 *id);
/* mmap offset of a region, or PENSTOCK_NO_OFFSET where its memory cannot be mapped. */
u64 penstock_region_mmap_offset(const struct penstock_mem *mem, u32 id);
/* The region with a reference, or NULL. */
struct penstock_region *penstock_region_find(struct penstock_open *open, u32 id);
void penstock_region_put(struct penstock_region *region);
/*
 * The region with its active count raised: its memory stays until penstock_region_end(). ERR_PTR(-ENOENT), or -ENODEV
 * when it is dead. Any context.
 */
struct penstock_region *penstock_region_begin(struct penstock_open *open, u32 id);
/* For who has a reference; false when it is dead. */
bool penstock_region_begin_held(struct penstock_region *region);
/* Any context, interrupts too. Do not touch the region afterwards unless a reference is held. */
void penstock_region_end(struct penstock_region *region);
/* No new user from now on; mappings are taken away. Does not wait. @reason 0: freed by its owner. */
void penstock_region_kill(struct penstock_region *region, u32 reason);
/* Users of the moment, for REGION_STAT and EBUSY. */
u32 penstock_region_in_flight(struct penstock_region *region);
/*
 * All regions of an open that closes: kill, forget the ids. Host memory that nothing reads into is given back before
 * it returns; it waits for no I/O.
 */
void penstock_region_free_all(struct penstock_open *open);
int penstock_region_mmap(struct file *file, struct vm_area_struct *vma);

/* ---- targets (target.c) ---- */

/**
 * struct penstock_target - a file or block device that may be read from
 * @ref: its id, and each read in flight
 * @file: held
 * @inode: of the data: a block device's own inode, not that of its node
 * @a_ops: of @inode's pages at the time it was checked
 * @bdev: the block device read from: the file itself, or what its file system lies on
 * @is_block: @file is a block device
 * @peer_reason: why never peer memory, or 0; see penstock_target_peer_reason()
 * @offset_align: of file offsets and lengths, bytes
 * @mem_align: of region offsets, bytes
 * @nowait_len: longest read to try without blocking, bytes; 0: none
 * @id: its id
 * @pdev: the drive, a reference, or NULL when it is no PCI device
 * @free_work: runs when the last reference was put
 * @rcu: lookups run under RCU
 */
struct penstock_target {
	struct kref ref;
	struct file *file;
	struct inode *inode;
	const struct address_space_operations *a_ops;
	struct block_device *bdev;
	bool is_block;
	u32 peer_reason;
	u32 offset_align;
	u32 mem_align;
	u32 nowait_len;
	u32 id;
	struct pci_dev *pdev;
	struct work_struct free_work;
	struct rcu_head rcu;
};

/* The target with a reference, or NULL. Any context. */
struct penstock_target *penstock_target_get(struct penstock_open *open, u32 id);
/* Any context, interrupts too. */
void penstock_target_put(struct penstock_target *target);
/* What may change after TARGET_ADD (verity, journalled data, DAX): PENSTOCK_REASON_* or 0. Cheap; at each read. */
u32 penstock_target_recheck(const struct penstock_target *target);
/* Why it cannot be read into peer memory now, PENSTOCK_REASON_* or 0. Cheap; at each read. */
u32 penstock_target_peer_reason(const struct penstock_target *target);
/* The drive as a PCI device with a reference, or NULL. */
struct pci_dev *penstock_target_pci_dev(const struct penstock_target *target);
void penstock_target_free_all(struct penstock_open *open);

int penstock_read_init(void);
void penstock_read_exit(void);

/* ---- peers (peer.c, probe.c), and what providers implement ---- */

/**
 * struct penstock_peer_want - what REGION_PEER asks a provider for
 * @addr: device address, or 0
 * @len: bytes
 * @mmap: it must be mappable
 */
struct penstock_peer_want {
	u64 addr;
	u64 len;
	bool mmap;
};

/**
 * struct penstock_peer_ops - a provider of peer memory; a new kind of peer is one file that implements this
 * @name: for traces and debugfs
 * @provider: PENSTOCK_PEER_*
 * @owner: its module
 * @create: memory with @want->len bytes, finished (penstock_mem_finish()), joined (penstock_peer_join()), its ops and
 *	priv set; ERR_PTR(-errno) with @reason set where there is one. Called without locks; may sleep. For memory by
 *	address @peer is NULL
 * @available: bytes that are free, for PEER_ENUM
 * @reason: why no region can be had now, or 0, where that changes; or NULL
 *
 * The memory's own ops->release() gives it back. A provider whose memory goes away calls penstock_mem_revoke() or, for
 * all of a device, penstock_peer_unregister().
 */
struct penstock_peer_ops {
	const char *name;
	u32 provider;
	struct module *owner;
	struct penstock_mem *(*create)(struct penstock_peer *peer, const struct penstock_peer_want *want, u32 *reason);
	u64 (*available)(struct penstock_peer *peer);
	u32 (*reason)(struct penstock_peer *peer);
};

/**
 * struct penstock_peer - a device with memory to read into
 * @ref: the list; each memory of it
 * @node: in the list of peers
 * @id: never given to another one
 * @ops: its provider
 * @pdev: the device, a reference; valid to use until dead
 * @bar: number of the BAR
 * @len: bytes
 * @flags: PENSTOCK_PEER_F_*
 * @reason: why no region can be had, or 0
 * @lock: protects @mems, @causes, @creating and @departures
 * @mems: memories of it that are not given back
 * @creating: calls of ops->create() under way
 * @departures: memories that have left @mems, ever
 * @idle: woken when @creating or @mems shrinks
 * @causes: why it is dead, so that there are no new ones: a bit for each PENSTOCK_REASON_*; 0: it lives
 * @priv: the provider's own
 */
struct penstock_peer {
	struct kref ref;
	struct list_head node;
	u32 id;
	const struct penstock_peer_ops *ops;
	struct pci_dev *pdev;
	u32 bar;
	u64 len;
	u32 flags;
	u32 reason;
	struct mutex lock;		/* mems, causes, creating, departures */
	struct list_head mems;
	u32 creating;
	u32 departures;
	wait_queue_head_t idle;
	u32 causes;
	void *priv;
};

/* Exported to provider modules. Takes a reference on @pdev. ERR_PTR(-ENOMEM). */
struct penstock_peer *penstock_peer_register(const struct penstock_peer_ops *ops, struct pci_dev *pdev, u32 bar,
					     u64 len, u32 flags, u32 reason, void *priv);
/* No new regions, all there are revoked with @reason; returns when no page of it is in use. Puts @peer. */
void penstock_peer_unregister(struct penstock_peer *peer, u32 reason);
/*
 * The same, but the peer stays, and takes new regions when penstock_peer_resume() was called with the same reason, and
 * with each other one that it was suspended for (a reset while an error is handled).
 */
void penstock_peer_suspend(struct penstock_peer *peer, u32 reason);
void penstock_peer_resume(struct penstock_peer *peer, u32 reason);
void penstock_peer_put(struct penstock_peer *peer);
/*
 * A memory, whose len is set, joins its peer's list, and the current user is charged for it. -ENODEV: the peer is dead;
 * -ENOSPC: the user holds too much. Within create() of a BAR it may be joined before it is complete: a peer that ends
 * waits for create(). Elsewhere it can be revoked from then on.
 */
int penstock_peer_join(struct penstock_peer *peer, struct penstock_mem *mem);
/* mem.c calls it after ops->release(). */
void penstock_peer_leave(struct penstock_mem *mem);
/* A provider of memory by address (NVIDIA), one at most: -EBUSY. */
int penstock_provider_register(const struct penstock_peer_ops *ops);
/* Returns when no create() of it runs. Its memories must be revoked by itself. */
void penstock_provider_unregister(const struct penstock_peer_ops *ops);

/* Why peers are impossible on this kernel, or 0; the model of page references; peers there are. For INFO. */
u32 penstock_peer_kernel_reason(void);
u32 penstock_peer_page_model(void);				/* peer_bar.c */
u32 penstock_peer_count(void);
/* Bytes of peer memory that the current user holds, and may hold. */
u64 penstock_peer_used(void);
u64 penstock_peer_limit(void);
u32 penstock_peer_generation(void);
int penstock_peer_init(void);
void penstock_peer_exit(void);

int penstock_peer_bar_init(void);
void penstock_peer_bar_exit(void);

/* ---- dma-buf (dmabuf.c) ---- */

/*
 * The memory behind a dma-buf that we exported, with a reference. ERR_PTR(-EBADF): no descriptor; -EINVAL: no dma-buf;
 * -EOPNOTSUPP with @reason: another's.
 */
struct penstock_mem *penstock_dmabuf_import(int fd, u32 *reason);
/**
 * struct penstock_export_arg - the argument of REGION_EXPORT, and what goes with it
 * @cmd: as the caller sees it; out_fd is reserved when the command has succeeded, and names nothing yet
 * @dmabuf: what it is to name; a reference
 *
 * One of the two functions ends it: the caller knows the number, or does not.
 */
struct penstock_export_arg {
	struct penstock_region_export cmd;
	struct dma_buf *dmabuf;
};

void penstock_export_commit(struct penstock_open *open, void *arg);
void penstock_export_undo(struct penstock_open *open, void *arg);
/* Zap the dma-buf's own mappings; mem->lock is held. */
void penstock_dmabuf_zap(struct penstock_mem *mem);

#endif
