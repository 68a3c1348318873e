// SPDX-License-Identifier: GPL-2.0-only
/*
 * REGION_PROBE: what the kernel says about the way from a drive to a region.
 * A page of the region is mapped for the drive, as a read would map it, and
 * unmapped again. Nothing is kept: each call asks anew.
 */
#include <linux/dma-mapping.h>
#include <linux/pci-p2pdma.h>
#include <linux/scatterlist.h>
#include <linux/sched/mm.h>
#include <linux/uio.h>
#include "penstock_drv.h"

#if IS_ENABLED(CONFIG_PCI_P2PDMA) && PENSTOCK_HAVE_PEERS

static struct page *probe_page(struct penstock_region *region)
{
	struct iov_iter iter;

	penstock_mem_iter(region->mem, region->mem_offset, PAGE_SIZE, &iter);
	return nth_page(iter.bvec->bv_page, (iter.bvec->bv_offset + iter.iov_offset) >> PAGE_SHIFT);
}

/* PENSTOCK_MAP_*; with MAP_NONE and a reason when the drive cannot have the page. */
static u32 probe_map(struct pci_dev *drive, struct page *page, u32 *reason)
{
	struct sg_table table;
	u32 type;
	int ret;

	if (sg_alloc_table(&table, 1, GFP_KERNEL)) {
		*reason = PENSTOCK_REASON_MAP_FAILED;
		return PENSTOCK_MAP_NONE;
	}
	sg_set_page(table.sgl, page, PAGE_SIZE, 0);
	/* A read into the page may be in flight: the trial leaves its data alone, and says so. */
	ret = dma_map_sgtable(&drive->dev, &table, DMA_FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC);
	if (ret) {
		*reason = ret == -EREMOTEIO ? PENSTOCK_REASON_UNREACHABLE : PENSTOCK_REASON_MAP_FAILED;
		type = PENSTOCK_MAP_NONE;
	} else {
		type = sg_dma_is_bus_address(table.sgl) ? PENSTOCK_MAP_BUS_ADDRESS : PENSTOCK_MAP_HOST_BRIDGE;
		dma_unmap_sgtable(&drive->dev, &table, DMA_FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC);
	}
	sg_free_table(&table);
	return type;
}

/* The drive's device lock is held, so that its driver stays. */
static u32 probe_peer(struct penstock_region_probe *cmd, struct penstock_region *region, struct pci_dev *drive)
{
	u32 reason = PENSTOCK_REASON_NONE;

	if (!drive->dev.driver)
		return PENSTOCK_REASON_NOT_PCI;
	/* This also renews what the PCI core remembers about the two: the mapping goes by that. */
	cmd->out_distance = pci_p2pdma_distance(region->mem->peer->pdev, &drive->dev, false);
	cmd->out_map_type = probe_map(drive, probe_page(region), &reason);
	return reason;
}

#else

static u32 probe_peer(struct penstock_region_probe *cmd, struct penstock_region *region, struct pci_dev *drive)
{
	return penstock_peer_kernel_reason();
}

#endif

/* The reason why a READ is refused, or 0. */
static u32 probe_region(struct penstock_region_probe *cmd, struct penstock_region *region,
			const struct penstock_target *target, struct pci_dev *drive)
{
	u32 reason = penstock_target_recheck(target);

	if (!region->mem->p2p) {
		cmd->out_map_type = PENSTOCK_MAP_HOST_MEMORY;
		return reason;
	}
	if (!reason)
		reason = penstock_target_peer_reason(target);
	/* A disk of several paths has none; the better reason is its own. */
	if (!drive)
		return reason ? reason : PENSTOCK_REASON_NOT_PCI;
	/* The way to the drive itself is told also where a stacked device refuses. */
	cmd->out_reason = probe_peer(cmd, region, drive);
	return reason ? reason : cmd->out_reason;
}

int penstock_ioctl_region_probe(struct penstock_open *open, void *arg)
{
	struct penstock_region_probe *cmd = arg;
	struct penstock_region *region;
	struct penstock_target *target;
	struct pci_dev *drive;
	int ret = 0;

	if (cmd->flags || cmd->__reserved)
		return -EOPNOTSUPP;
	cmd->out_map_type = PENSTOCK_MAP_NONE;
	cmd->out_distance = -1;
	cmd->out_allowed = 0;
	cmd->out_reason = PENSTOCK_REASON_NONE;
	/* Before the look: what changes meanwhile makes the verdict void. */
	cmd->out_generation = penstock_peer_generation();

	target = penstock_target_get(open, cmd->target_id);
	if (!target)
		return -ENOENT;
	drive = penstock_target_pci_dev(target);
	/*
	 * Outside of the region's count: whoever resets a whole bus holds all
	 * its device locks while the peer waits for that count.
	 */
	if (drive && device_lock_interruptible(&drive->dev)) {
		ret = -ERESTARTSYS;
		goto out_drive;
	}
	region = penstock_region_begin(open, cmd->region_id);
	if (IS_ERR(region)) {
		ret = PTR_ERR(region);
		goto out_unlock;
	}
	if (region->mem->only_mm && region->mem->only_mm != current->mm) {
		ret = -EPERM;
	} else {
		cmd->out_reason = probe_region(cmd, region, target, drive);
		cmd->out_allowed = !cmd->out_reason;
	}
	penstock_region_end(region);
out_unlock:
	if (drive)
		device_unlock(&drive->dev);
out_drive:
	pci_dev_put(drive);
	penstock_target_put(target);
	return ret;
}
