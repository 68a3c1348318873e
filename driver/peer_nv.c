// SPDX-License-Identifier: GPL-2.0-only
/*
 * penstock_nv.ko: memory of NVIDIA devices, by device address. A module of its
 * own: it links against NVIDIA's open kernel module, and loads only beside it.
 *
 * Pages of such memory are their owner's: their reference counts are never
 * touched and they are never mapped. While we use them we hold a reference on
 * their pagemap, which makes the owner's unbind wait: it is dropped with the
 * memory, and all memories of a device are revoked before it is unbound.
 *
 * Taking back. Where pages are not persistent the owner's callback can come at
 * any time: inside get_pages(), before it, while we put the pages, even after.
 * So it is given an id to look up, not a pointer. When it returns the owner
 * reuses pages and table:
 *  - the table is read in one place, under nv->lock, after a look at revoked;
 *  - a memory that is published is revoked within the callback, which waits for
 *    reads in flight;
 *  - one that is not yet, is not published any more.
 * nv->lock is held neither across get_pages() nor put_pages(). The owner may
 * hold a lock in its callback that its put_pages() waits for, so nothing that
 * the callback waits for may put pages: that has a workqueue of its own.
 */
#include <linux/memremap.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include "peer_nv.h"

/* BAR1 is how device memory is seen from outside. */
#define NV_BAR	1
/* Addresses and lengths are multiples of this. */
#define NV_ALIGN SZ_64K

/* Older drivers lack these: then all pages are of the other kind. */
#pragma weak nvidia_p2p_get_pages_persistent
#pragma weak nvidia_p2p_put_pages_persistent

static bool callback;
module_param(callback, bool, 0644);
MODULE_PARM_DESC(callback, "use pages that the NVIDIA driver may take back, not persistent ones (0)");

/**
 * struct nv_peer - a device whose memory was asked for, or could be
 * @node: in nv_peers
 * @peer: as others see it; NULL while its driver is being unbound
 * @pdev: a device that is bound
 * @start: physical address of its BAR
 * @len: bytes
 * @used: bytes in memories of ours
 */
struct nv_peer {
	struct list_head node;
	struct penstock_peer *peer;
	struct pci_dev *pdev;
	phys_addr_t start;
	u64 len;
	atomic64_t used;
};

/**
 * struct nv_pages - pages that NVIDIA's module has given us
 * @ref: nv_ids; a callback that runs
 * @id: what the callback gets
 * @va: device address
 * @len: bytes
 * @persistent: no callback will come
 * @table: the owner's; see the head of this file
 * @lock: protects @revoked and @mem; and @table, while it is not @revoked
 * @revoked: the callback has come
 * @mem: the memory, from when it is published until it is released
 * @peer: whose memory
 * @pgmap: a reference
 * @put_work: puts the pages
 */
struct nv_pages {
	struct kref ref;
	u32 id;
	u64 va;
	u64 len;
	bool persistent;
	struct nvidia_p2p_page_table *table;
	struct mutex lock;		/* revoked, mem, use of table */
	bool revoked;
	struct penstock_mem *mem;
	struct nv_peer *peer;
	struct dev_pagemap *pgmap;
	struct work_struct put_work;
};

static DEFINE_MUTEX(nv_peers_lock);	/* nv_peers */
static LIST_HEAD(nv_peers);
static DEFINE_XARRAY_ALLOC1(nv_ids);	/* id -> struct nv_pages; xa_lock makes a lookup and its reference one */
static u32 nv_next_id;
static struct workqueue_struct *nv_wq;
static atomic_t nv_callbacks = ATOMIC_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(nv_callbacks_idle);

/* ---- pages ---- */

static void nv_pages_free(struct kref *ref)
{
	struct nv_pages *nv = container_of(ref, struct nv_pages, ref);

	mutex_destroy(&nv->lock);
	kfree(nv);
}

/* No callback finds it any more. */
static void nv_pages_forget(struct nv_pages *nv)
{
	xa_erase(&nv_ids, nv->id);
	kref_put(&nv->ref, nv_pages_free);
}

/* Not under nv->lock. A callback that comes meanwhile finds nothing published. */
static void nv_pages_put(struct nv_pages *nv)
{
	int ret;

	if (nv->persistent)
		ret = nvidia_p2p_put_pages_persistent(nv->va, nv->table, 0);
	else
		ret = nvidia_p2p_put_pages(0, 0, nv->va, nv->table);
	if (ret)
		pr_warn_once("penstock_nv: the NVIDIA driver did not take pages back: %d\n", ret);
	nv_pages_forget(nv);
}

static void nv_put_work(struct work_struct *work)
{
	nv_pages_put(container_of(work, struct nv_pages, put_work));
}

static struct nv_pages *nv_pages_alloc(const struct penstock_peer_want *want)
{
	struct nv_pages *nv = kzalloc(sizeof(*nv), GFP_KERNEL_ACCOUNT);
	int ret;

	if (!nv)
		return ERR_PTR(-ENOMEM);
	kref_init(&nv->ref);
	mutex_init(&nv->lock);
	INIT_WORK(&nv->put_work, nv_put_work);
	nv->va = want->addr;
	nv->len = want->len;
	/* Cyclic: an id that a late callback still knows is not soon another's. */
	ret = xa_alloc_cyclic(&nv_ids, &nv->id, nv, XA_LIMIT(1, INT_MAX), &nv_next_id, GFP_KERNEL_ACCOUNT);
	if (ret < 0) {
		kref_put(&nv->ref, nv_pages_free);
		return ERR_PTR(ret);
	}
	return nv;
}

/* The owner takes the pages back; what holds of them ends before this returns. */
static void nv_free_callback(void *data)
{
	struct penstock_mem *mem = NULL;
	struct nv_pages *nv;

	atomic_inc(&nv_callbacks);
	xa_lock(&nv_ids);
	nv = xa_load(&nv_ids, (unsigned long)data);
	if (nv)
		kref_get(&nv->ref);
	xa_unlock(&nv_ids);
	if (nv) {
		mutex_lock(&nv->lock);
		nv->revoked = true;
		/* Without a reference to be had nothing reads any more: the release is on its way. */
		if (nv->mem && penstock_mem_tryget(nv->mem))
			mem = nv->mem;
		mutex_unlock(&nv->lock);
		if (mem) {
			penstock_mem_revoke(mem, PENSTOCK_REASON_PROVIDER_FREED);
			penstock_mem_put(mem);
		}
		kref_put(&nv->ref, nv_pages_free);
	}
	if (atomic_dec_and_test(&nv_callbacks))
		wake_up_all(&nv_callbacks_idle);
}

/* A copy of the table, while it is there. */
static struct nv_layout *nv_pages_layout(struct nv_pages *nv, u32 *reason)
{
	struct nv_layout *layout;

	mutex_lock(&nv->lock);
	if (nv->revoked) {
		layout = ERR_PTR(-ENODEV);
		*reason = PENSTOCK_REASON_PROVIDER_FREED;
	} else {
		layout = nv_layout_copy(nv->table, nv->len);
		if (layout == ERR_PTR(-EOPNOTSUPP))
			*reason = PENSTOCK_REASON_PROVIDER_REFUSED;
	}
	mutex_unlock(&nv->lock);
	return layout;
}

static int nv_pages_get(struct nv_pages *nv)
{
	nv->persistent = !READ_ONCE(callback) && nvidia_p2p_get_pages_persistent && nvidia_p2p_put_pages_persistent;
	if (nv->persistent)
		return nvidia_p2p_get_pages_persistent(nv->va, nv->len, &nv->table, 0);
	return nvidia_p2p_get_pages(0, 0, nv->va, nv->len, &nv->table, nv_free_callback,
				    (void *)(unsigned long)nv->id);
}

/* ---- peers ---- */

static u64 nv_available(struct penstock_peer *peer)
{
	struct nv_peer *p = peer->priv;

	return p->len - min_t(u64, p->len, atomic64_read(&p->used));
}

/* Pages come and go with NVIDIA's modules: asked each time. */
static u32 nv_reason(struct penstock_peer *peer)
{
	struct nv_peer *p = peer->priv;
	struct dev_pagemap *pgmap = get_dev_pagemap(PHYS_PFN(p->start), NULL);
	u32 reason = PENSTOCK_REASON_NONE;

	if (!pgmap)
		return nv_layout_no_pages();
	if (pgmap->type != MEMORY_DEVICE_PCI_P2PDMA)
		reason = PENSTOCK_REASON_NO_PAGES;
	put_dev_pagemap(pgmap);
	return reason;
}

static struct penstock_mem *nv_create(struct penstock_peer *peer, const struct penstock_peer_want *want, u32 *reason);

static const struct penstock_peer_ops nv_peer_ops = {
	.name = "nvidia",
	.provider = PENSTOCK_PEER_NVIDIA,
	.owner = THIS_MODULE,
	.create = nv_create,
	.available = nv_available,
	.reason = nv_reason,
};

/* Under nv_peers_lock. */
static struct nv_peer *nv_peer_add(struct pci_dev *pdev, int bar)
{
	u32 flags = PENSTOCK_PEER_F_NEEDS_FLUSH;
	struct nv_peer *p = kzalloc(sizeof(*p), GFP_KERNEL);

	if (!p)
		return NULL;
	p->pdev = pdev;
	p->start = pci_resource_start(pdev, bar);
	p->len = pci_resource_len(pdev, bar);
	if (pdev->vendor != PCI_VENDOR_ID_NVIDIA)
		flags |= PENSTOCK_PEER_F_TEST;
	p->peer = penstock_peer_register(&nv_peer_ops, pdev, bar, p->len, flags, 0, p);
	if (IS_ERR(p->peer)) {
		kfree(p);
		return NULL;
	}
	list_add_tail(&p->node, &nv_peers);
	return p;
}

/* Under nv_peers_lock. */
static struct nv_peer *nv_peer_by_dev(const struct pci_dev *pdev)
{
	struct nv_peer *p;

	list_for_each_entry(p, &nv_peers, node)
		if (p->pdev == pdev)
			return p;
	return NULL;
}

/* Not under nv_peers_lock. Afterwards its memories are revoked, its pages put, and there are no new ones. */
static void nv_peer_end(struct nv_peer *p)
{
	struct penstock_peer *peer;

	mutex_lock(&nv_peers_lock);
	peer = p->peer;
	p->peer = NULL;
	mutex_unlock(&nv_peers_lock);
	if (peer)
		penstock_peer_unregister(peer, PENSTOCK_REASON_UNBOUND);
	flush_workqueue(nv_wq);
}

static void nv_peers_free(void)
{
	struct nv_peer *p, *next;

	list_for_each_entry_safe(p, next, &nv_peers, node) {
		nv_peer_end(p);
		list_del(&p->node);
		kfree(p);
	}
}

static int nv_bar_with(struct pci_dev *pdev, u64 addr)
{
	int nr;

	for (nr = 0; nr < PCI_STD_NUM_BARS; nr++) {
		if (!(pci_resource_flags(pdev, nr) & IORESOURCE_MEM) || !pci_resource_len(pdev, nr))
			continue;
		if (addr >= pci_resource_start(pdev, nr) && addr <= pci_resource_end(pdev, nr))
			return nr;
	}
	return -ENODEV;
}

/*
 * The device that has @addr in a BAR, made known if need be. ERR_PTR(-EOPNOTSUPP): none, or it is being unbound;
 * -ENOMEM. Under nv_peers_lock.
 */
static struct nv_peer *nv_peer_by_addr(u64 addr)
{
	struct pci_dev *pdev = NULL;
	struct nv_peer *p;
	int bar;

	list_for_each_entry(p, &nv_peers, node)
		if (addr >= p->start && addr - p->start < p->len)
			return p->peer ? p : ERR_PTR(-EOPNOTSUPP);
	for_each_pci_dev(pdev) {
		bar = nv_bar_with(pdev, addr);
		if (bar < 0 || !pdev->dev.driver)
			continue;
		p = nv_peer_add(pdev, bar);
		pci_dev_put(pdev);
		return p ? p : ERR_PTR(-ENOMEM);
	}
	return ERR_PTR(-EOPNOTSUPP);
}

static void nv_peer_scan(struct pci_dev *pdev)
{
	if (pdev->vendor != PCI_VENDOR_ID_NVIDIA || pdev->class >> 16 != PCI_BASE_CLASS_DISPLAY)
		return;
	if (!pdev->dev.driver || !pci_resource_len(pdev, NV_BAR))
		return;
	mutex_lock(&nv_peers_lock);
	/* It can be done without: then it becomes known when its memory is asked for. */
	if (!nv_peer_by_dev(pdev))
		nv_peer_add(pdev, NV_BAR);
	mutex_unlock(&nv_peers_lock);
}

static int nv_pci_notify(struct notifier_block *nb, unsigned long action, void *data)
{
	struct pci_dev *pdev = to_pci_dev(data);
	struct nv_peer *p;

	switch (action) {
	case BUS_NOTIFY_BOUND_DRIVER:
		nv_peer_scan(pdev);
		return NOTIFY_OK;
	case BUS_NOTIFY_UNBIND_DRIVER:
		/* It stays in the list, so that nobody makes it known anew while its driver goes. */
		mutex_lock(&nv_peers_lock);
		p = nv_peer_by_dev(pdev);
		mutex_unlock(&nv_peers_lock);
		if (p)
			nv_peer_end(p);
		return NOTIFY_OK;
	case BUS_NOTIFY_UNBOUND_DRIVER:
		mutex_lock(&nv_peers_lock);
		p = nv_peer_by_dev(pdev);
		if (p)
			list_del(&p->node);
		mutex_unlock(&nv_peers_lock);
		kfree(p);
		return NOTIFY_OK;
	default:
		return NOTIFY_DONE;
	}
}

static struct notifier_block nv_pci_nb = {
	.notifier_call = nv_pci_notify,
};

/* ---- memory ---- */

static void nv_release(struct penstock_mem *mem)
{
	struct nv_pages *nv = mem->priv;
	bool revoked;

	mutex_lock(&nv->lock);
	nv->mem = NULL;
	revoked = nv->revoked;
	mutex_unlock(&nv->lock);

	atomic64_sub(mem->len, &nv->peer->used);
	put_dev_pagemap(nv->pgmap);
	if (revoked)
		nv_pages_forget(nv);
	else
		queue_work(nv_wq, &nv->put_work);
}

static const struct penstock_mem_ops nv_mem_ops = {
	.name = "nvidia",
	.release = nv_release,
};

/*
 * Join the peer and let the callback know. Under nv_peers_lock, so that the
 * peer stays until then; afterwards it waits for the memory.
 */
static int nv_publish(struct nv_pages *nv, struct penstock_mem *mem, u64 addr, u32 *reason)
{
	struct nv_peer *p = nv_peer_by_addr(addr);
	int ret;

	if (IS_ERR(p)) {
		if (p == ERR_PTR(-EOPNOTSUPP))
			*reason = PENSTOCK_REASON_PROVIDER_REFUSED;
		return PTR_ERR(p);
	}
	mutex_lock(&nv->lock);
	if (nv->revoked) {
		mutex_unlock(&nv->lock);
		*reason = PENSTOCK_REASON_PROVIDER_FREED;
		return -ENODEV;
	}
	nv->peer = p;
	mem->priv = nv;
	mem->ops = &nv_mem_ops;
	atomic64_add(mem->len, &p->used);
	/* From here on it can be revoked by the peer, which comes to nv_release() and waits for nv->lock. */
	ret = penstock_peer_join(p->peer, mem);
	if (ret) {
		/* Nobody has seen it. */
		atomic64_sub(mem->len, &p->used);
		mem->ops = NULL;
	} else {
		nv->mem = mem;
	}
	mutex_unlock(&nv->lock);
	return ret;
}

static struct penstock_mem *nv_build(struct nv_pages *nv, u32 *reason)
{
	struct nv_layout *layout = nv_pages_layout(nv, reason);
	struct penstock_mem *mem;
	int ret;

	if (IS_ERR(layout))
		return ERR_CAST(layout);
	ret = -EOPNOTSUPP;
	nv->pgmap = nv_layout_find_pgmap(layout, reason);
	if (!nv->pgmap)
		goto err_layout;
	ret = -ENOMEM;
	mem = penstock_mem_alloc(nv_layout_count_runs(layout));
	if (!mem)
		goto err_pgmap;
	nv_layout_fill(layout, mem);
	mem->p2p = true;
	mem->needs_flush = true;

	mutex_lock(&nv_peers_lock);
	ret = nv_publish(nv, mem, layout->addr[0], reason);
	mutex_unlock(&nv_peers_lock);
	if (ret)
		goto err_mem;
	kvfree(layout);
	return mem;

err_mem:
	penstock_mem_put_sync(mem);
err_pgmap:
	put_dev_pagemap(nv->pgmap);
err_layout:
	kvfree(layout);
	return ERR_PTR(ret);
}

static struct penstock_mem *nv_create(struct penstock_peer *peer, const struct penstock_peer_want *want, u32 *reason)
{
	struct penstock_mem *mem;
	struct nv_pages *nv;
	int ret;

	if (!IS_ALIGNED(want->addr, NV_ALIGN) || !IS_ALIGNED(want->len, NV_ALIGN))
		return ERR_PTR(-EINVAL);
	if (want->mmap) {
		*reason = PENSTOCK_REASON_NOT_MAPPABLE;
		return ERR_PTR(-EOPNOTSUPP);
	}
	nv = nv_pages_alloc(want);
	if (IS_ERR(nv))
		return ERR_CAST(nv);
	ret = nv_pages_get(nv);
	if (ret) {
		nv_pages_forget(nv);
		*reason = PENSTOCK_REASON_PROVIDER_REFUSED;
		return ERR_PTR(ret == -ENOMEM ? -ENOMEM : -EOPNOTSUPP);
	}
	mem = nv_build(nv, reason);
	/* Of pages that were taken back there is nothing to put; the owner knows that itself. */
	if (IS_ERR(mem))
		nv_pages_put(nv);
	return mem;
}

/* ---- module ---- */

static int __init penstock_nv_init(void)
{
	struct pci_dev *pdev = NULL;
	int ret;

	nv_wq = alloc_workqueue("penstock_nv", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	if (!nv_wq)
		return -ENOMEM;
	ret = bus_register_notifier(&pci_bus_type, &nv_pci_nb);
	if (ret)
		goto err_wq;
	for_each_pci_dev(pdev)
		nv_peer_scan(pdev);
	ret = penstock_provider_register(&nv_peer_ops);
	if (ret)
		goto err_peers;
	return 0;

err_peers:
	bus_unregister_notifier(&pci_bus_type, &nv_pci_nb);
	nv_peers_free();
err_wq:
	destroy_workqueue(nv_wq);
	return ret;
}

static void __exit penstock_nv_exit(void)
{
	penstock_provider_unregister(&nv_peer_ops);
	bus_unregister_notifier(&pci_bus_type, &nv_pci_nb);
	nv_peers_free();
	/* All pages are put: no callback begins any more. Wait for those that run, and for their last instructions. */
	wait_event(nv_callbacks_idle, !atomic_read(&nv_callbacks));
	synchronize_rcu_tasks();
	destroy_workqueue(nv_wq);
}

module_init(penstock_nv_init);
module_exit(penstock_nv_exit);
MODULE_DESCRIPTION("Penstock: memory of NVIDIA devices");
MODULE_LICENSE("GPL");
