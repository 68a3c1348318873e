/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The layout of each struct of the ABI, in numbers: including this checks the
 * header against them, for whatever the compiler compiles for. Numbers here
 * never change; a field that is added at a struct's end adds a line.
 */
#ifndef PENSTOCK_UAPI_LAYOUT_H
#define PENSTOCK_UAPI_LAYOUT_H

#include <linux/penstock.h>

/* STRUCT(name, bytes), FIELD(struct, field, offset, bytes) */
#define PENSTOCK_UAPI_LAYOUT(STRUCT, FIELD)					\
	STRUCT(penstock_info, 80)						\
	FIELD(penstock_info, size, 0, 4)					\
	FIELD(penstock_info, __reserved, 4, 4)					\
	FIELD(penstock_info, out_features, 8, 8)				\
	FIELD(penstock_info, out_page_size, 16, 4)				\
	FIELD(penstock_info, out_max_order, 20, 4)				\
	FIELD(penstock_info, out_peer_reason, 24, 4)				\
	FIELD(penstock_info, out_p2p_page_model, 28, 4)				\
	FIELD(penstock_info, out_max_read_len, 32, 8)				\
	FIELD(penstock_info, out_max_region_len, 40, 8)				\
	FIELD(penstock_info, out_peer_limit, 48, 8)				\
	FIELD(penstock_info, out_peer_used, 56, 8)				\
	FIELD(penstock_info, out_max_regions, 64, 4)				\
	FIELD(penstock_info, out_max_targets, 68, 4)				\
	FIELD(penstock_info, out_nr_peers, 72, 4)				\
	FIELD(penstock_info, out_generation, 76, 4)				\
	STRUCT(penstock_peer_enum, 72)						\
	FIELD(penstock_peer_enum, size, 0, 4)					\
	FIELD(penstock_peer_enum, after_peer_id, 4, 4)				\
	FIELD(penstock_peer_enum, out_peer_id, 8, 4)				\
	FIELD(penstock_peer_enum, out_provider, 12, 4)				\
	FIELD(penstock_peer_enum, out_flags, 16, 4)				\
	FIELD(penstock_peer_enum, out_reason, 20, 4)				\
	FIELD(penstock_peer_enum, out_domain, 24, 4)				\
	FIELD(penstock_peer_enum, out_bus, 28, 4)				\
	FIELD(penstock_peer_enum, out_devfn, 32, 4)				\
	FIELD(penstock_peer_enum, out_bar, 36, 4)				\
	FIELD(penstock_peer_enum, out_vendor, 40, 4)				\
	FIELD(penstock_peer_enum, out_device, 44, 4)				\
	FIELD(penstock_peer_enum, out_numa_node, 48, 4)				\
	FIELD(penstock_peer_enum, __reserved, 52, 4)				\
	FIELD(penstock_peer_enum, out_len, 56, 8)				\
	FIELD(penstock_peer_enum, out_available, 64, 8)				\
	STRUCT(penstock_target_add, 64)						\
	FIELD(penstock_target_add, size, 0, 4)					\
	FIELD(penstock_target_add, flags, 4, 4)					\
	FIELD(penstock_target_add, fd, 8, 4)					\
	FIELD(penstock_target_add, out_target_id, 12, 4)			\
	FIELD(penstock_target_add, out_reason, 16, 4)				\
	FIELD(penstock_target_add, out_peer_reason, 20, 4)			\
	FIELD(penstock_target_add, out_kind, 24, 4)				\
	FIELD(penstock_target_add, out_offset_align, 28, 4)			\
	FIELD(penstock_target_add, out_mem_align, 32, 4)			\
	FIELD(penstock_target_add, out_numa_node, 36, 4)			\
	FIELD(penstock_target_add, out_domain, 40, 4)				\
	FIELD(penstock_target_add, out_bus, 44, 4)				\
	FIELD(penstock_target_add, out_devfn, 48, 4)				\
	FIELD(penstock_target_add, out_nowait_len, 52, 4)			\
	FIELD(penstock_target_add, __reserved, 56, 8)				\
	STRUCT(penstock_target_del, 8)						\
	FIELD(penstock_target_del, size, 0, 4)					\
	FIELD(penstock_target_del, target_id, 4, 4)				\
	STRUCT(penstock_region_alloc, 40)					\
	FIELD(penstock_region_alloc, size, 0, 4)				\
	FIELD(penstock_region_alloc, flags, 4, 4)				\
	FIELD(penstock_region_alloc, length, 8, 8)				\
	FIELD(penstock_region_alloc, numa_node, 16, 4)				\
	FIELD(penstock_region_alloc, order, 20, 4)				\
	FIELD(penstock_region_alloc, out_region_id, 24, 4)			\
	FIELD(penstock_region_alloc, out_nr_segments, 28, 4)			\
	FIELD(penstock_region_alloc, out_mmap_offset, 32, 8)			\
	STRUCT(penstock_region_pin, 32)						\
	FIELD(penstock_region_pin, size, 0, 4)					\
	FIELD(penstock_region_pin, flags, 4, 4)					\
	FIELD(penstock_region_pin, addr, 8, 8)					\
	FIELD(penstock_region_pin, length, 16, 8)				\
	FIELD(penstock_region_pin, out_region_id, 24, 4)			\
	FIELD(penstock_region_pin, out_nr_segments, 28, 4)			\
	STRUCT(penstock_region_peer, 80)					\
	FIELD(penstock_region_peer, size, 0, 4)					\
	FIELD(penstock_region_peer, flags, 4, 4)				\
	FIELD(penstock_region_peer, kind, 8, 4)					\
	FIELD(penstock_region_peer, peer_id, 12, 4)				\
	FIELD(penstock_region_peer, addr, 16, 8)				\
	FIELD(penstock_region_peer, offset, 24, 8)				\
	FIELD(penstock_region_peer, length, 32, 8)				\
	FIELD(penstock_region_peer, fd, 40, 4)					\
	FIELD(penstock_region_peer, __reserved, 44, 4)				\
	FIELD(penstock_region_peer, out_region_id, 48, 4)			\
	FIELD(penstock_region_peer, out_reason, 52, 4)				\
	FIELD(penstock_region_peer, out_nr_segments, 56, 4)			\
	FIELD(penstock_region_peer, out_flags, 60, 4)				\
	FIELD(penstock_region_peer, out_mmap_offset, 64, 8)			\
	FIELD(penstock_region_peer, out_peer_offset, 72, 8)			\
	STRUCT(penstock_region_probe, 40)					\
	FIELD(penstock_region_probe, size, 0, 4)				\
	FIELD(penstock_region_probe, flags, 4, 4)				\
	FIELD(penstock_region_probe, region_id, 8, 4)				\
	FIELD(penstock_region_probe, target_id, 12, 4)				\
	FIELD(penstock_region_probe, out_map_type, 16, 4)			\
	FIELD(penstock_region_probe, out_distance, 20, 4)			\
	FIELD(penstock_region_probe, out_allowed, 24, 4)			\
	FIELD(penstock_region_probe, out_reason, 28, 4)				\
	FIELD(penstock_region_probe, out_generation, 32, 4)			\
	FIELD(penstock_region_probe, __reserved, 36, 4)				\
	STRUCT(penstock_read, 40)						\
	FIELD(penstock_read, target_id, 0, 4)					\
	FIELD(penstock_read, region_id, 4, 4)					\
	FIELD(penstock_read, offset, 8, 8)					\
	FIELD(penstock_read, region_offset, 16, 8)				\
	FIELD(penstock_read, length, 24, 4)					\
	FIELD(penstock_read, flags, 28, 4)					\
	FIELD(penstock_read, out_result, 32, 8)					\
	STRUCT(penstock_region_read, 32)					\
	FIELD(penstock_region_read, size, 0, 4)					\
	FIELD(penstock_region_read, flags, 4, 4)				\
	FIELD(penstock_region_read, reads_uptr, 8, 8)				\
	FIELD(penstock_region_read, nr_reads, 16, 4)				\
	FIELD(penstock_region_read, read_size, 20, 4)				\
	FIELD(penstock_region_read, out_nr_done, 24, 4)				\
	FIELD(penstock_region_read, __reserved, 28, 4)				\
	STRUCT(penstock_uring_read, 80)						\
	FIELD(penstock_uring_read, target_id, 0, 4)				\
	FIELD(penstock_uring_read, flags, 4, 4)					\
	FIELD(penstock_uring_read, region_id, 8, 4)				\
	FIELD(penstock_uring_read, length, 12, 4)				\
	FIELD(penstock_uring_read, offset, 16, 8)				\
	FIELD(penstock_uring_read, region_offset, 24, 8)			\
	FIELD(penstock_uring_read, __reserved, 32, 48)				\
	STRUCT(penstock_region_free, 16)					\
	FIELD(penstock_region_free, size, 0, 4)					\
	FIELD(penstock_region_free, flags, 4, 4)				\
	FIELD(penstock_region_free, region_id, 8, 4)				\
	FIELD(penstock_region_free, out_in_flight, 12, 4)			\
	STRUCT(penstock_region_export, 16)					\
	FIELD(penstock_region_export, size, 0, 4)				\
	FIELD(penstock_region_export, flags, 4, 4)				\
	FIELD(penstock_region_export, region_id, 8, 4)				\
	FIELD(penstock_region_export, out_fd, 12, 4)				\
	STRUCT(penstock_region_stat, 88)					\
	FIELD(penstock_region_stat, size, 0, 4)					\
	FIELD(penstock_region_stat, flags, 4, 4)				\
	FIELD(penstock_region_stat, region_id, 8, 4)				\
	FIELD(penstock_region_stat, out_in_flight, 12, 4)			\
	FIELD(penstock_region_stat, out_reads, 16, 8)				\
	FIELD(penstock_region_stat, out_bytes, 24, 8)				\
	FIELD(penstock_region_stat, out_short, 32, 8)				\
	FIELD(penstock_region_stat, out_errors, 40, 8)				\
	FIELD(penstock_region_stat, out_refused, 48, 8)				\
	FIELD(penstock_region_stat, out_punted, 56, 8)				\
	FIELD(penstock_region_stat, out_resubmitted, 64, 8)			\
	FIELD(penstock_region_stat, out_fallbacks, 72, 8)			\
	FIELD(penstock_region_stat, out_unreachable, 80, 8)			\
	STRUCT(penstock_event, 16)						\
	FIELD(penstock_event, event, 0, 4)					\
	FIELD(penstock_event, region_id, 4, 4)					\
	FIELD(penstock_event, reason, 8, 4)					\
	FIELD(penstock_event, __reserved, 12, 4)

#define PENSTOCK_CHECK_STRUCT(name, bytes)					\
	_Static_assert(sizeof(struct name) == (bytes), #name);
#define PENSTOCK_CHECK_FIELD(name, field, offset, bytes)			\
	_Static_assert(__builtin_offsetof(struct name, field) == (offset) &&	\
		       sizeof(((struct name *)0)->field) == (bytes), #name "." #field);

PENSTOCK_UAPI_LAYOUT(PENSTOCK_CHECK_STRUCT, PENSTOCK_CHECK_FIELD)

#endif
