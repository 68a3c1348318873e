/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints, all in the group penstock. Opens are shown as hashed addresses:
 * enough to tell them apart. stats.c creates them; only penstock.ko may use
 * them, providers are traced where they call it.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM penstock

#if !defined(PENSTOCK_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define PENSTOCK_TRACE_H

#include <linux/tracepoint.h>
#include "penstock_drv.h"

/* The node was opened. */
TRACE_EVENT(penstock_open,
	TP_PROTO(const struct penstock_open *open),
	TP_ARGS(open),
	TP_STRUCT__entry(
		__field(const void *, open)
	),
	TP_fast_assign(
		__entry->open = open;
	),
	TP_printk("open=%p", __entry->open)
);

/* TARGET_ADD has ended, with @ret. */
TRACE_EVENT(penstock_target_add,
	TP_PROTO(const struct penstock_open *open, const struct penstock_target_add *cmd, int ret),
	TP_ARGS(open, cmd, ret),
	TP_STRUCT__entry(
		__field(const void *, open)
		__field(s32, fd)
		__field(u32, target_id)
		__field(u32, reason)
		__field(u32, peer_reason)
		__field(int, ret)
	),
	TP_fast_assign(
		__entry->open = open;
		__entry->fd = cmd->fd;
		__entry->target_id = cmd->out_target_id;
		__entry->reason = cmd->out_reason;
		__entry->peer_reason = cmd->out_peer_reason;
		__entry->ret = ret;
	),
	TP_printk("open=%p fd=%d target=%u reason=%u peer_reason=%u ret=%d", __entry->open, __entry->fd,
		  __entry->target_id, __entry->reason, __entry->peer_reason, __entry->ret)
);

/* A region that is not retired: its memory may be looked at. */
TRACE_EVENT(penstock_region_create,
	TP_PROTO(const struct penstock_region *region),
	TP_ARGS(region),
	TP_STRUCT__entry(
		__field(const void *, open)
		__field(u32, region_id)
		__field(u64, offset)
		__field(u64, len)
		__field(u32, segments)
		__field(bool, p2p)
	),
	TP_fast_assign(
		__entry->open = region->open;
		__entry->region_id = region->id;
		__entry->offset = region->mem_offset;
		__entry->len = region->len;
		__entry->segments = region->mem->nr_bvec;
		__entry->p2p = region->mem->p2p;
	),
	TP_printk("open=%p region=%u offset=%llu len=%llu segments=%u p2p=%d", __entry->open, __entry->region_id,
		  __entry->offset, __entry->len, __entry->segments, __entry->p2p)
);

/* No user of the region begins from now on; @reason is 0 when its owner freed it. */
TRACE_EVENT(penstock_region_kill,
	TP_PROTO(const struct penstock_region *region, u32 reason),
	TP_ARGS(region, reason),
	TP_STRUCT__entry(
		__field(const void *, open)
		__field(u32, region_id)
		__field(u32, reason)
		__field(u32, active)
	),
	TP_fast_assign(
		__entry->open = region->open;
		__entry->region_id = region->id;
		__entry->reason = reason;
		__entry->active = refcount_read(&region->active);
	),
	TP_printk("open=%p region=%u reason=%u active=%u", __entry->open, __entry->region_id, __entry->reason,
		  __entry->active)
);

/* The last user of the region has ended; its hold on the memory is about to be put. */
TRACE_EVENT(penstock_region_retire,
	TP_PROTO(const struct penstock_region *region),
	TP_ARGS(region),
	TP_STRUCT__entry(
		__field(const void *, open)
		__field(u32, region_id)
	),
	TP_fast_assign(
		__entry->open = region->open;
		__entry->region_id = region->id;
	),
	TP_printk("open=%p region=%u", __entry->open, __entry->region_id)
);

/* A read goes to the file; @nowait: it may come back with EAGAIN. */
TRACE_EVENT(penstock_read_submit,
	TP_PROTO(const struct penstock_open *open, u32 target_id, u32 region_id, u64 offset, u64 region_offset,
		 u32 length, bool nowait),
	TP_ARGS(open, target_id, region_id, offset, region_offset, length, nowait),
	TP_STRUCT__entry(
		__field(const void *, open)
		__field(u32, target_id)
		__field(u32, region_id)
		__field(u64, offset)
		__field(u64, region_offset)
		__field(u32, length)
		__field(bool, nowait)
	),
	TP_fast_assign(
		__entry->open = open;
		__entry->target_id = target_id;
		__entry->region_id = region_id;
		__entry->offset = offset;
		__entry->region_offset = region_offset;
		__entry->length = length;
		__entry->nowait = nowait;
	),
	TP_printk("open=%p target=%u region=%u offset=%llu region_offset=%llu length=%u nowait=%d", __entry->open,
		  __entry->target_id, __entry->region_id, __entry->offset, __entry->region_offset, __entry->length,
		  __entry->nowait)
);

DECLARE_EVENT_CLASS(penstock_read_end,
	TP_PROTO(const struct penstock_open *open, u32 target_id, u32 region_id, u64 offset, u32 length, long result),
	TP_ARGS(open, target_id, region_id, offset, length, result),
	TP_STRUCT__entry(
		__field(const void *, open)
		__field(u32, target_id)
		__field(u32, region_id)
		__field(u64, offset)
		__field(u32, length)
		__field(long, result)
	),
	TP_fast_assign(
		__entry->open = open;
		__entry->target_id = target_id;
		__entry->region_id = region_id;
		__entry->offset = offset;
		__entry->length = length;
		__entry->result = result;
	),
	TP_printk("open=%p target=%u region=%u offset=%llu length=%u result=%ld", __entry->open, __entry->target_id,
		  __entry->region_id, __entry->offset, __entry->length, __entry->result)
);

/* A read has ended, with what its submitter will see. Any context. */
DEFINE_EVENT(penstock_read_end, penstock_read_complete,
	TP_PROTO(const struct penstock_open *open, u32 target_id, u32 region_id, u64 offset, u32 length, long result),
	TP_ARGS(open, target_id, region_id, offset, length, result)
);

/* A read came back unfinished, with @result, and is submitted again by the module. */
DEFINE_EVENT(penstock_read_end, penstock_read_resubmit,
	TP_PROTO(const struct penstock_open *open, u32 target_id, u32 region_id, u64 offset, u32 length, long result),
	TP_ARGS(open, target_id, region_id, offset, length, result)
);

DECLARE_EVENT_CLASS(penstock_peer_class,
	TP_PROTO(const struct penstock_peer *peer, u32 reason),
	TP_ARGS(peer, reason),
	TP_STRUCT__entry(
		__field(u32, peer_id)
		__field(u32, provider)
		__field(int, domain)
		__field(u8, bus)
		__field(u8, devfn)
		__field(u32, bar)
		__field(u64, len)
		__field(u32, flags)
		__field(u32, reason)
	),
	TP_fast_assign(
		__entry->peer_id = peer->id;
		__entry->provider = peer->ops->provider;
		__entry->domain = pci_domain_nr(peer->pdev->bus);
		__entry->bus = peer->pdev->bus->number;
		__entry->devfn = peer->pdev->devfn;
		__entry->bar = peer->bar;
		__entry->len = peer->len;
		__entry->flags = peer->flags;
		__entry->reason = reason;
	),
	TP_printk("peer=%u provider=%u pci=%04x:%02x:%02x.%u bar=%u len=%llu flags=%#x reason=%u", __entry->peer_id,
		  __entry->provider, __entry->domain, __entry->bus, PCI_SLOT(__entry->devfn), PCI_FUNC(__entry->devfn),
		  __entry->bar, __entry->len, __entry->flags, __entry->reason)
);

/* A peer was registered; @reason: why no region can be had from it, or 0. */
DEFINE_EVENT(penstock_peer_class, penstock_peer_add,
	TP_PROTO(const struct penstock_peer *peer, u32 reason),
	TP_ARGS(peer, reason)
);

/* A peer goes away (or is suspended) for @reason; its memories are about to be revoked. */
DEFINE_EVENT(penstock_peer_class, penstock_peer_remove,
	TP_PROTO(const struct penstock_peer *peer, u32 reason),
	TP_ARGS(peer, reason)
);

/* A memory is taken away from all who use it. */
TRACE_EVENT(penstock_revoke,
	TP_PROTO(const struct penstock_mem *mem, u32 reason),
	TP_ARGS(mem, reason),
	TP_STRUCT__entry(
		__field(u64, len)
		__field(u32, peer_id)
		__field(u64, peer_offset)
		__field(u32, reason)
	),
	TP_fast_assign(
		__entry->len = mem->len;
		__entry->peer_id = mem->peer ? mem->peer->id : 0;
		__entry->peer_offset = mem->peer_offset;
		__entry->reason = reason;
	),
	TP_printk("len=%llu peer=%u peer_offset=%llu reason=%u", __entry->len, __entry->peer_id,
		  __entry->peer_offset, __entry->reason)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
