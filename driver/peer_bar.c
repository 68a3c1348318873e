// SPDX-License-Identifier: GPL-2.0-only
/*
 * Peers that this module is bound to: the memory of one BAR, which the PCI
 * core gives struct pages to (pci_p2pdma_add_resource), from whose pool ranges
 * are taken (pci_alloc_p2pmem).
 *
 * The driver has no devices of its own: a device is given to it by
 * driver_override or new_id. QEMU's ivshmem is taken only when
 * allow_test_peer is set.
 *
 * A page of the pool has a base count of references, 1 or 0, depending on the
 * kernel; see page_model. While a range belongs to a memory each of its pages
 * holds exactly one reference for us: where the base is 0 we add it. Mappings
 * and I/O on them add more. A range goes back to the pool only when those are
 * gone, since a zap does not stop a transfer, and the next owner would get it.
 *
 * A range may hold what somebody wrote before, also before this driver was
 * bound. So each is cleared when it is taken, whoever had it.
 */
#include <linux/delay.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/pci-p2pdma.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include "penstock_drv.h"

#define IVSHMEM_VENDOR	0x1af4
#define IVSHMEM_DEVICE	0x1110

/* struct pages of a BAR come in units of what one memory section's map is split into. */
#define BAR_ALIGN	SZ_2M
/* Longest run of a bio_vec, whose length has 32 bits. */
#define BAR_RUN		SZ_2G
/* Cleared between looks at signals and at the scheduler: below 10 ms for uncached stores. */
#define BAR_CLEAR	SZ_256K
/* After this many seconds of waiting for others' references the log says so. */
#define BAR_WAIT_WARN_S	60

static int penstock_peer_bar = -1;
module_param_named(peer_bar, penstock_peer_bar, int, 0444);
MODULE_PARM_DESC(peer_bar, "BAR of a peer device to use (-1: its largest)");

/**
 * struct penstock_bar - one device that the driver is bound to
 * @pdev: the device
 * @peer: as others see it
 * @used: bytes given to memories
 */
struct penstock_bar {
	struct pci_dev *pdev;
	struct penstock_peer *peer;
	atomic64_t used;
};

/* What pages of the pool look like on this kernel: seen at the first allocation, the same ever after. */
static u32 page_model = PENSTOCK_P2P_PAGE_MODEL_UNSEEN;

u32 penstock_peer_page_model(void)
{
	return READ_ONCE(page_model);
}

static u64 bar_available(struct penstock_peer *peer)
{
	struct penstock_bar *bar = peer->priv;

	return peer->len - min_t(u64, peer->len, atomic64_read(&bar->used));
}

#if IS_ENABLED(CONFIG_PCI_P2PDMA) && PENSTOCK_HAVE_PEERS

static struct page *bar_page(void *kaddr, u64 index)
{
	return virt_to_page(kaddr + (index << PAGE_SHIFT));
}

static void bar_see_model(void *kaddr)
{
	u32 model;

	if (READ_ONCE(page_model) != PENSTOCK_P2P_PAGE_MODEL_UNSEEN)
		return;
	/* Both have to say the same: one page alone may have been left by a user of the pool in another state. */
	if (page_ref_count(virt_to_page(kaddr)) != PENSTOCK_P2P_BASE)
		model = PENSTOCK_P2P_PAGE_MODEL_UNKNOWN;
	else
		model = PENSTOCK_P2P_BASE ? PENSTOCK_P2P_PAGE_MODEL_ONE : PENSTOCK_P2P_PAGE_MODEL_ZERO;
	/* Two first allocations at a time see the same. */
	WRITE_ONCE(page_model, model);
}

/*
 * Our reference to each page, where the pool holds none. Set, not added: some kernels (before 7.0) leave a page whose
 * mapping failed with one that nobody has.
 */
static void bar_take_pages(void *kaddr, u64 len)
{
	u64 i;

	if (page_model != PENSTOCK_P2P_PAGE_MODEL_ZERO)
		return;
	for (i = 0; i < len >> PAGE_SHIFT; i++)
		set_page_count(bar_page(kaddr, i), 1);
}

/* References to a page beside ours. */
static int bar_page_others(struct page *page)
{
	return page_ref_count(page) - 1;
}

/* Give our reference up when it is the only one: not by put_page(), which would give the page back to the pool. */
static bool bar_drop_page(struct page *page)
{
	if (page_model == PENSTOCK_P2P_PAGE_MODEL_ZERO)
		return page_ref_freeze(page, 1);
	return !bar_page_others(page);
}

/* Waits for references that I/O on a mapping holds: that ends by itself, at the latest by the drive's timeout. */
static void bar_wait_page(struct penstock_bar *bar, struct page *page, u64 index)
{
	unsigned long warn_at = jiffies + BAR_WAIT_WARN_S * HZ;
	unsigned int sleep_us = 50;
	bool warned = false;

	while (!bar_drop_page(page)) {
		usleep_range(sleep_us, 2 * sleep_us);
		sleep_us = min(2 * sleep_us, 20000U);
		if (warned || time_before(jiffies, warn_at))
			continue;
		warned = true;
		dev_warn(&bar->pdev->dev, "page %llu of a freed range has %d references that do not go away: waiting\n",
			 index, bar_page_others(page));
	}
}

static void bar_release(struct penstock_mem *mem)
{
	struct penstock_bar *bar = mem->peer->priv;
	void *kaddr = mem->priv;
	u64 i;

	if (page_model == PENSTOCK_P2P_PAGE_MODEL_ONE || page_model == PENSTOCK_P2P_PAGE_MODEL_ZERO) {
		/* A lockless page walk that saw a mapping before its zap may take a reference for a moment. */
		if (mem->mappable)
			synchronize_rcu();
		for (i = 0; i < mem->len >> PAGE_SHIFT; i++) {
			bar_wait_page(bar, bar_page(kaddr, i), i);
			cond_resched();
		}
	}
	pci_free_p2pmem(bar->pdev, kaddr, mem->len);
	atomic64_sub(mem->len, &bar->used);
}

static unsigned long bar_busy(struct penstock_mem *mem)
{
	unsigned long busy = 0;
	u64 i;

	if (!mem->mappable)
		return 0;
	for (i = 0; i < mem->len >> PAGE_SHIFT; i++) {
		struct page *page = bar_page(mem->priv, i);

		/* Each mapping of it holds one; pages of a BAR are never compound. */
		if (bar_page_others(page) > atomic_read(&page->_mapcount) + 1)
			busy++;
		cond_resched();
	}
	return busy;
}

/* A read of the device comes back after all writes that it has taken before. */
static void bar_flush(struct penstock_mem *mem)
{
	(void)readl((void __iomem __force *)mem->priv);
}

static const struct penstock_mem_ops bar_mem_ops = {
	.name = "bar",
	.release = bar_release,
	.busy = bar_busy,
	.flush = bar_flush,
};

static int bar_clear(void *kaddr, u64 len)
{
	u64 done;

	for (done = 0; done < len; done += BAR_CLEAR) {
		memset_io((void __iomem __force *)(kaddr + done), 0, min_t(u64, len - done, BAR_CLEAR));
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	/* The stores must not arrive after what a drive writes. */
	(void)readl((void __iomem __force *)(kaddr + len - sizeof(u32)));
	return 0;
}

static void bar_fill(struct penstock_mem *mem, void *kaddr, u64 len)
{
	u64 start = 0;
	u32 i;

	for (i = 0; i < mem->nr_bvec; i++) {
		u32 run = min_t(u64, len - start, BAR_RUN);

		bvec_set_page(&mem->bvec[i], virt_to_page(kaddr + start), run, 0);
		start += run;
	}
	penstock_mem_finish(mem);
}

static struct penstock_mem *bar_create(struct penstock_peer *peer, const struct penstock_peer_want *want, u32 *reason)
{
	struct penstock_bar *bar = peer->priv;
	struct penstock_mem *mem;
	void *kaddr;
	int ret;

	if (want->len > peer->len)
		return ERR_PTR(-ENOSPC);
	mem = penstock_mem_alloc(DIV_ROUND_UP_ULL(want->len, BAR_RUN));
	if (!mem)
		return ERR_PTR(-ENOMEM);
	mem->len = want->len;
	ret = penstock_peer_join(peer, mem);
	if (ret)
		goto err_mem;

	kaddr = pci_alloc_p2pmem(bar->pdev, want->len);
	if (!kaddr) {
		ret = -ENOSPC;
		goto err_mem;
	}
	atomic64_add(want->len, &bar->used);
	bar_see_model(kaddr);
	bar_take_pages(kaddr, want->len);
	mem->p2p = true;
	mem->mappable = page_model != PENSTOCK_P2P_PAGE_MODEL_UNKNOWN;
	mem->peer_offset = page_to_phys(virt_to_page(kaddr)) - pci_resource_start(bar->pdev, peer->bar);
	mem->priv = kaddr;
	bar_fill(mem, kaddr, want->len);
	/* From here on putting it gives the range back. */
	mem->ops = &bar_mem_ops;

	if (want->mmap && !mem->mappable) {
		*reason = PENSTOCK_REASON_P2P_MODEL;
		ret = -EOPNOTSUPP;
		goto err_mem;
	}
	ret = bar_clear(kaddr, want->len);
	if (ret)
		goto err_mem;
	return mem;

err_mem:
	penstock_mem_put_sync(mem);
	return ERR_PTR(ret);
}

static u32 bar_add_pages(struct pci_dev *pdev, int nr, u64 *len)
{
	int ret;

	*len = round_down(pci_resource_len(pdev, nr), BAR_ALIGN);
	if (!*len)
		return PENSTOCK_REASON_NO_PAGES;
	ret = pci_p2pdma_add_resource(pdev, nr, *len, 0);
	if (!ret)
		return PENSTOCK_REASON_NONE;
	dev_info(&pdev->dev, "no struct pages for BAR %d: %d\n", nr, ret);
	return ret == -EOPNOTSUPP ? PENSTOCK_REASON_P2PDMA_OFF : PENSTOCK_REASON_NO_PAGES;
}

#else

static struct penstock_mem *bar_create(struct penstock_peer *peer, const struct penstock_peer_want *want, u32 *reason)
{
	*reason = penstock_peer_kernel_reason();
	return ERR_PTR(-EOPNOTSUPP);
}

static u32 bar_add_pages(struct pci_dev *pdev, int nr, u64 *len)
{
	*len = pci_resource_len(pdev, nr);
	return penstock_peer_kernel_reason();
}

#endif

static const struct penstock_peer_ops bar_peer_ops = {
	.name = "bar",
	.provider = PENSTOCK_PEER_BAR,
	.owner = THIS_MODULE,
	.create = bar_create,
	.available = bar_available,
};

static bool bar_is_usable(struct pci_dev *pdev, int nr)
{
	return (pci_resource_flags(pdev, nr) & IORESOURCE_MEM) && pci_resource_len(pdev, nr);
}

static int bar_choose(struct pci_dev *pdev)
{
	int nr, best = -ENODEV;

	if (penstock_peer_bar >= 0) {
		nr = penstock_peer_bar;
		return nr < PCI_STD_NUM_BARS && bar_is_usable(pdev, nr) ? nr : -ENODEV;
	}
	for (nr = 0; nr < PCI_STD_NUM_BARS; nr++) {
		if (!bar_is_usable(pdev, nr))
			continue;
		if (best < 0 || pci_resource_len(pdev, nr) > pci_resource_len(pdev, best))
			best = nr;
	}
	return best;
}

static void bar_disable(void *data)
{
	pci_disable_device(data);
}

/* Managed, so that it is undone after the pages are gone, which the PCI core manages, too. */
struct bar_region {
	struct pci_dev *pdev;
	int nr;
};

static void bar_release_region(void *data)
{
	struct bar_region *region = data;

	pci_release_region(region->pdev, region->nr);
}

static int bar_enable(struct pci_dev *pdev, int nr)
{
	struct bar_region *region;
	int ret;

	region = devm_kzalloc(&pdev->dev, sizeof(*region), GFP_KERNEL);
	if (!region)
		return -ENOMEM;
	region->pdev = pdev;
	region->nr = nr;
	ret = pci_enable_device_mem(pdev);
	if (ret)
		return ret;
	ret = devm_add_action_or_reset(&pdev->dev, bar_disable, pdev);
	if (ret)
		return ret;
	ret = pci_request_region(pdev, nr, "penstock_peer");
	if (ret)
		return ret;
	return devm_add_action_or_reset(&pdev->dev, bar_release_region, region);
}

static int bar_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	bool test = pdev->vendor == IVSHMEM_VENDOR && pdev->device == IVSHMEM_DEVICE;
	u32 flags = PENSTOCK_PEER_F_MAPPABLE;
	struct penstock_peer *peer;
	struct penstock_bar *bar;
	u32 reason;
	u64 len;
	int ret, nr;

	if (test && !penstock_allow_test_peer)
		return -ENODEV;
	nr = bar_choose(pdev);
	if (nr < 0)
		return nr;
	bar = devm_kzalloc(&pdev->dev, sizeof(*bar), GFP_KERNEL);
	if (!bar)
		return -ENOMEM;
	bar->pdev = pdev;
	ret = bar_enable(pdev, nr);
	if (ret)
		return ret;
	pci_save_state(pdev);
	reason = bar_add_pages(pdev, nr, &len);
	if (reason)
		flags &= ~PENSTOCK_PEER_F_MAPPABLE;
	if (test)
		flags |= PENSTOCK_PEER_F_TEST;
	peer = penstock_peer_register(&bar_peer_ops, pdev, nr, len, flags, reason, bar);
	if (IS_ERR(peer))
		return PTR_ERR(peer);
	bar->peer = peer;
	pci_set_drvdata(pdev, bar);
	return 0;
}

/* When it returns the core takes the pages away: none may be in use. */
static void bar_remove(struct pci_dev *pdev)
{
	struct penstock_bar *bar = pci_get_drvdata(pdev);

	penstock_peer_unregister(bar->peer, PENSTOCK_REASON_UNBOUND);
}

static pci_ers_result_t bar_error_detected(struct pci_dev *pdev, pci_channel_state_t state)
{
	struct penstock_bar *bar = pci_get_drvdata(pdev);

	/* What was read into it may be lost, whether the link still works or not. */
	penstock_peer_suspend(bar->peer, PENSTOCK_REASON_PCI_ERROR);
	switch (state) {
	case pci_channel_io_normal:
		return PCI_ERS_RESULT_CAN_RECOVER;
	case pci_channel_io_frozen:
		return PCI_ERS_RESULT_NEED_RESET;
	default:
		return PCI_ERS_RESULT_DISCONNECT;
	}
}

static pci_ers_result_t bar_mmio_enabled(struct pci_dev *pdev)
{
	return PCI_ERS_RESULT_RECOVERED;
}

static pci_ers_result_t bar_slot_reset(struct pci_dev *pdev)
{
	pci_restore_state(pdev);
	/* For the next time: a state is restored once. */
	pci_save_state(pdev);
	return pci_device_is_present(pdev) ? PCI_ERS_RESULT_RECOVERED : PCI_ERS_RESULT_DISCONNECT;
}

/* Not called where recovery fails: the peer is dead until it is bound again, or recovers from a later error. */
static void bar_error_resume(struct pci_dev *pdev)
{
	struct penstock_bar *bar = pci_get_drvdata(pdev);

	penstock_peer_resume(bar->peer, PENSTOCK_REASON_PCI_ERROR);
}

static void bar_reset_prepare(struct pci_dev *pdev)
{
	struct penstock_bar *bar = pci_get_drvdata(pdev);

	penstock_peer_suspend(bar->peer, PENSTOCK_REASON_RESET);
}

static void bar_reset_done(struct pci_dev *pdev)
{
	struct penstock_bar *bar = pci_get_drvdata(pdev);

	penstock_peer_resume(bar->peer, PENSTOCK_REASON_RESET);
}

static const struct pci_error_handlers bar_error_handlers = {
	.error_detected = bar_error_detected,
	.mmio_enabled = bar_mmio_enabled,
	.slot_reset = bar_slot_reset,
	.resume = bar_error_resume,
	.reset_prepare = bar_reset_prepare,
	.reset_done = bar_reset_done,
};

/*
 * Before any device is suspended: reads in flight need their drive to end.
 */
static int bar_pm_prepare(struct device *dev)
{
	struct penstock_bar *bar = pci_get_drvdata(to_pci_dev(dev));

	penstock_peer_suspend(bar->peer, PENSTOCK_REASON_SUSPENDED);
	return 0;
}

static void bar_pm_complete(struct device *dev)
{
	struct penstock_bar *bar = pci_get_drvdata(to_pci_dev(dev));

	penstock_peer_resume(bar->peer, PENSTOCK_REASON_SUSPENDED);
}

static const struct dev_pm_ops bar_pm_ops = {
	.prepare = bar_pm_prepare,
	.complete = bar_pm_complete,
};

/* Not for automatic loading: other drivers and users of ivshmem go first. */
static const struct pci_device_id bar_ids[] = {
	{ PCI_DEVICE(IVSHMEM_VENDOR, IVSHMEM_DEVICE) },
	{ }
};

static struct pci_driver bar_driver = {
	.name = "penstock_peer",
	.id_table = bar_ids,
	.probe = bar_probe,
	.remove = bar_remove,
	.err_handler = &bar_error_handlers,
	.driver.pm = &bar_pm_ops,
};

int penstock_peer_bar_init(void)
{
	return pci_register_driver(&bar_driver);
}

void penstock_peer_bar_exit(void)
{
	pci_unregister_driver(&bar_driver);
}
