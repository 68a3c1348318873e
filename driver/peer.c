// SPDX-License-Identifier: GPL-2.0-only
/*
 * Peers: devices with memory to read into. The list of them, what a user may
 * hold of their memory, how a peer ends, PEER_ENUM and REGION_PEER.
 *
 * A peer that ends (or is reset, or suspended) is marked dead first: no
 * create() begins any more. Then those under way are waited for, and after that
 * the list of its memories only shrinks: each is revoked. What is being given
 * back by somebody else is waited for, too.
 *
 * The generation counts changes on the PCI bus: whatever was found out about
 * the way from a drive to a peer is void when it has changed.
 */
#include <linux/cred.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <linux/uidgid.h>
#include "penstock_drv.h"
#include "trace.h"

static DEFINE_MUTEX(penstock_peers_lock);
static LIST_HEAD(penstock_peers);
static u32 peers_last_id;	/* penstock_peers_lock */
static u32 peers_nr;		/* penstock_peers_lock */

/* The provider of memory by address, and create() calls of it under way; penstock_peers_lock. */
static const struct penstock_peer_ops *provider;
static unsigned int provider_users;
static DECLARE_WAIT_QUEUE_HEAD(provider_idle);

static atomic_t peers_generation = ATOMIC_INIT(1);

/* ---- what a user holds ---- */

/**
 * struct penstock_peer_user - the peer memory of one user, over all opens
 * @node: in peer_users
 * @uid: whose
 * @bytes: how much; never 0 in the list
 */
struct penstock_peer_user {
	struct list_head node;
	kuid_t uid;
	u64 bytes;
};

static DEFINE_MUTEX(peer_users_lock);	/* peer_users, what is in it */
static LIST_HEAD(peer_users);

static struct penstock_peer_user *peer_user_find(kuid_t uid)
{
	struct penstock_peer_user *user;

	list_for_each_entry(user, &peer_users, node)
		if (uid_eq(user->uid, uid))
			return user;
	return NULL;
}

u64 penstock_peer_limit(void)
{
	unsigned long mib = READ_ONCE(penstock_peer_limit_mib);

	return mib && mib <= (U64_MAX >> 20) ? (u64)mib << 20 : U64_MAX;
}

u64 penstock_peer_used(void)
{
	struct penstock_peer_user *user;
	u64 used;

	mutex_lock(&peer_users_lock);
	user = peer_user_find(current_uid());
	used = user ? user->bytes : 0;
	mutex_unlock(&peer_users_lock);
	return used;
}

static int peer_user_charge(struct penstock_mem *mem)
{
	struct penstock_peer_user *user;
	u64 sum;
	int ret = 0;

	mutex_lock(&peer_users_lock);
	user = peer_user_find(current_uid());
	if (check_add_overflow(user ? user->bytes : 0, mem->len, &sum) || sum > penstock_peer_limit()) {
		ret = -ENOSPC;
		goto out;
	}
	if (!user) {
		user = kzalloc(sizeof(*user), GFP_KERNEL_ACCOUNT);
		if (!user) {
			ret = -ENOMEM;
			goto out;
		}
		user->uid = current_uid();
		list_add(&user->node, &peer_users);
	}
	user->bytes = sum;
	mem->peer_user = user;
	penstock_object_add(PENSTOCK_OBJECT_PEER_BYTES, mem->len);
out:
	mutex_unlock(&peer_users_lock);
	return ret;
}

static void peer_user_uncharge(struct penstock_mem *mem)
{
	struct penstock_peer_user *user = mem->peer_user;

	mutex_lock(&peer_users_lock);
	mem->peer_user = NULL;
	user->bytes -= mem->len;
	if (!user->bytes) {
		list_del(&user->node);
		kfree(user);
	}
	mutex_unlock(&peer_users_lock);
	penstock_object_add(PENSTOCK_OBJECT_PEER_BYTES, -(long)mem->len);
}

/* ---- the life of a peer ---- */

static void peer_release(struct kref *ref)
{
	struct penstock_peer *peer = container_of(ref, struct penstock_peer, ref);

	pci_dev_put(peer->pdev);
	mutex_destroy(&peer->lock);
	kfree(peer);
	penstock_object_add(PENSTOCK_OBJECT_PEER, -1);
}

void penstock_peer_put(struct penstock_peer *peer)
{
	kref_put(&peer->ref, peer_release);
}
EXPORT_SYMBOL_GPL(penstock_peer_put);

struct penstock_peer *penstock_peer_register(const struct penstock_peer_ops *ops, struct pci_dev *pdev, u32 bar,
					     u64 len, u32 flags, u32 reason, void *priv)
{
	struct penstock_peer *peer;

	peer = kzalloc(sizeof(*peer), GFP_KERNEL);
	if (!peer)
		return ERR_PTR(-ENOMEM);
	kref_init(&peer->ref);
	peer->ops = ops;
	peer->pdev = pci_dev_get(pdev);
	peer->bar = bar;
	peer->len = len;
	peer->flags = flags;
	peer->reason = reason;
	peer->priv = priv;
	mutex_init(&peer->lock);
	INIT_LIST_HEAD(&peer->mems);
	init_waitqueue_head(&peer->idle);
	penstock_object_add(PENSTOCK_OBJECT_PEER, 1);

	mutex_lock(&penstock_peers_lock);
	/* Ids are not given again, and the list is in their order. */
	peer->id = ++peers_last_id;
	list_add_tail(&peer->node, &penstock_peers);
	peers_nr++;
	trace_penstock_peer_add(peer, reason);
	mutex_unlock(&penstock_peers_lock);
	return peer;
}
EXPORT_SYMBOL_GPL(penstock_peer_register);

/*
 * A memory of the peer; NULL: there is none left. @held: with a reference, else somebody gives it back, and it is not
 * to be looked into. @departures: as of now.
 */
static struct penstock_mem *peer_first_mem(struct penstock_peer *peer, bool *held, u32 *departures)
{
	struct penstock_mem *mem;

	mutex_lock(&peer->lock);
	mem = list_first_entry_or_null(&peer->mems, struct penstock_mem, peer_node);
	*held = mem && penstock_mem_tryget(mem);
	*departures = peer->departures;
	mutex_unlock(&peer->lock);
	return mem;
}

/* Why a peer is dead is a set: what began for one cause does not end with another. */
static u32 peer_cause(u32 reason)
{
	BUILD_BUG_ON(PENSTOCK_REASON_SUSPENDED > 31);
	return 1U << reason;
}

/* One of the causes, or 0. peer->lock is held. */
static u32 peer_dead(const struct penstock_peer *peer)
{
	return peer->causes ? __ffs(peer->causes) : PENSTOCK_REASON_NONE;
}

void penstock_peer_suspend(struct penstock_peer *peer, u32 reason)
{
	struct penstock_mem *mem;
	u32 departures;
	bool held;

	trace_penstock_peer_remove(peer, reason);
	mutex_lock(&peer->lock);
	peer->causes |= peer_cause(reason);
	mutex_unlock(&peer->lock);
	wait_event(peer->idle, !READ_ONCE(peer->creating));

	while ((mem = peer_first_mem(peer, &held, &departures))) {
		if (held) {
			penstock_mem_revoke(mem, reason);
			penstock_mem_put(mem);
		} else {
			wait_event(peer->idle, READ_ONCE(peer->departures) != departures);
		}
	}
}
EXPORT_SYMBOL_GPL(penstock_peer_suspend);

void penstock_peer_resume(struct penstock_peer *peer, u32 reason)
{
	mutex_lock(&peer->lock);
	peer->causes &= ~peer_cause(reason);
	mutex_unlock(&peer->lock);
}
EXPORT_SYMBOL_GPL(penstock_peer_resume);

void penstock_peer_unregister(struct penstock_peer *peer, u32 reason)
{
	mutex_lock(&penstock_peers_lock);
	list_del(&peer->node);
	peers_nr--;
	mutex_unlock(&penstock_peers_lock);
	penstock_peer_suspend(peer, reason);
	penstock_peer_put(peer);
}
EXPORT_SYMBOL_GPL(penstock_peer_unregister);

int penstock_peer_join(struct penstock_peer *peer, struct penstock_mem *mem)
{
	int ret = peer_user_charge(mem);

	if (ret)
		return ret;
	mutex_lock(&peer->lock);
	/* What began before the peer was marked dead is waited for, see penstock_peer_suspend(). */
	if (peer->causes && !peer->creating) {
		mutex_unlock(&peer->lock);
		peer_user_uncharge(mem);
		return -ENODEV;
	}
	kref_get(&peer->ref);
	mem->peer = peer;
	list_add_tail(&mem->peer_node, &peer->mems);
	mutex_unlock(&peer->lock);
	return 0;
}
EXPORT_SYMBOL_GPL(penstock_peer_join);

void penstock_peer_leave(struct penstock_mem *mem)
{
	struct penstock_peer *peer = mem->peer;

	peer_user_uncharge(mem);
	mutex_lock(&peer->lock);
	list_del_init(&mem->peer_node);
	WRITE_ONCE(peer->departures, peer->departures + 1);
	mutex_unlock(&peer->lock);
	/* The memory's reference on the peer is put with the memory. */
	wake_up_all(&peer->idle);
}
EXPORT_SYMBOL_GPL(penstock_peer_leave);

int penstock_provider_register(const struct penstock_peer_ops *ops)
{
	int ret = 0;

	mutex_lock(&penstock_peers_lock);
	if (provider)
		ret = -EBUSY;
	else
		provider = ops;
	mutex_unlock(&penstock_peers_lock);
	return ret;
}
EXPORT_SYMBOL_GPL(penstock_provider_register);

void penstock_provider_unregister(const struct penstock_peer_ops *ops)
{
	mutex_lock(&penstock_peers_lock);
	if (provider == ops)
		provider = NULL;
	mutex_unlock(&penstock_peers_lock);
	wait_event(provider_idle, !READ_ONCE(provider_users));
	/* All that the last one did is done: it held the lock when it counted itself out. */
	mutex_lock(&penstock_peers_lock);
	mutex_unlock(&penstock_peers_lock);
}
EXPORT_SYMBOL_GPL(penstock_provider_unregister);

/* ---- what the kernel can do ---- */

u32 penstock_peer_kernel_reason(void)
{
	if (!PENSTOCK_HAVE_PEERS)
		return PENSTOCK_REASON_KERNEL_TOO_OLD;
	if (!IS_ENABLED(CONFIG_PCI_P2PDMA))
		return PENSTOCK_REASON_P2PDMA_OFF;
	return PENSTOCK_REASON_NONE;
}

u32 penstock_peer_count(void)
{
	return READ_ONCE(peers_nr);
}

u32 penstock_peer_generation(void)
{
	return atomic_read(&peers_generation);
}

static void peer_post_topology(struct penstock_open *open, void *arg)
{
	penstock_event_post(open, PENSTOCK_EVENT_TOPOLOGY, 0, PENSTOCK_REASON_NONE);
}

static int peer_pci_notify(struct notifier_block *nb, unsigned long action, void *data)
{
	switch (action) {
	case BUS_NOTIFY_ADD_DEVICE:
	case BUS_NOTIFY_REMOVED_DEVICE:
	case BUS_NOTIFY_BOUND_DRIVER:
	case BUS_NOTIFY_UNBOUND_DRIVER:
		atomic_inc(&peers_generation);
		penstock_open_for_each(peer_post_topology, NULL);
		return NOTIFY_OK;
	default:
		return NOTIFY_DONE;
	}
}

static struct notifier_block peer_pci_nb = {
	.notifier_call = peer_pci_notify,
};

int penstock_peer_init(void)
{
	return bus_register_notifier(&pci_bus_type, &peer_pci_nb);
}

void penstock_peer_exit(void)
{
	bus_unregister_notifier(&pci_bus_type, &peer_pci_nb);
}

/* ---- PEER_ENUM ---- */

static void peer_describe(struct penstock_peer *peer, struct penstock_peer_enum *cmd)
{
	struct pci_dev *pdev = peer->pdev;

	cmd->out_peer_id = peer->id;
	cmd->out_provider = peer->ops->provider;
	cmd->out_flags = peer->flags;
	if (penstock_peer_page_model() == PENSTOCK_P2P_PAGE_MODEL_UNKNOWN)
		cmd->out_flags &= ~PENSTOCK_PEER_F_MAPPABLE;
	mutex_lock(&peer->lock);
	cmd->out_reason = peer->causes ? peer_dead(peer) : peer->reason;
	mutex_unlock(&peer->lock);
	if (!cmd->out_reason && peer->ops->reason)
		cmd->out_reason = peer->ops->reason(peer);
	cmd->out_domain = pci_domain_nr(pdev->bus);
	cmd->out_bus = pdev->bus->number;
	cmd->out_devfn = pdev->devfn;
	cmd->out_bar = peer->bar;
	cmd->out_vendor = pdev->vendor;
	cmd->out_device = pdev->device;
	cmd->out_numa_node = dev_to_node(&pdev->dev);
	cmd->out_len = peer->len;
	cmd->out_available = cmd->out_reason ? 0 : peer->ops->available(peer);
}

int penstock_ioctl_peer_enum(struct penstock_open *open, void *arg)
{
	struct penstock_peer_enum *cmd = arg;
	struct penstock_peer *peer;
	int ret = -ENOENT;

	if (cmd->__reserved)
		return -EOPNOTSUPP;
	mutex_lock(&penstock_peers_lock);
	list_for_each_entry(peer, &penstock_peers, node) {
		if (peer->id <= cmd->after_peer_id)
			continue;
		peer_describe(peer, cmd);
		ret = 0;
		break;
	}
	mutex_unlock(&penstock_peers_lock);
	return ret;
}

/* ---- REGION_PEER ---- */

/* The peer, held, with a create() accounted for; ERR_PTR with a reason where there is one. */
static struct penstock_peer *peer_begin_create(u32 id, u32 *reason)
{
	struct penstock_peer *peer, *found = ERR_PTR(-ENOENT);

	mutex_lock(&penstock_peers_lock);
	list_for_each_entry(peer, &penstock_peers, node) {
		if (peer->id != id || peer->ops->provider != PENSTOCK_PEER_BAR)
			continue;
		mutex_lock(&peer->lock);
		if (peer->causes) {
			*reason = peer_dead(peer);
			found = ERR_PTR(-ENODEV);
		} else if (peer->reason) {
			*reason = peer->reason;
			found = ERR_PTR(-EOPNOTSUPP);
		} else {
			kref_get(&peer->ref);
			WRITE_ONCE(peer->creating, peer->creating + 1);
			found = peer;
		}
		mutex_unlock(&peer->lock);
		break;
	}
	mutex_unlock(&penstock_peers_lock);
	return found;
}

static void peer_end_create(struct penstock_peer *peer)
{
	mutex_lock(&peer->lock);
	WRITE_ONCE(peer->creating, peer->creating - 1);
	mutex_unlock(&peer->lock);
	wake_up_all(&peer->idle);
	penstock_peer_put(peer);
}

static struct penstock_mem *region_peer_bar(struct penstock_region_peer *cmd, const struct penstock_peer_want *want)
{
	struct penstock_peer *peer;
	struct penstock_mem *mem;

	if (cmd->addr || cmd->offset || cmd->fd != -1)
		return ERR_PTR(-EINVAL);
	cmd->out_reason = penstock_peer_kernel_reason();
	if (cmd->out_reason)
		return ERR_PTR(-EOPNOTSUPP);
	peer = peer_begin_create(cmd->peer_id, &cmd->out_reason);
	if (IS_ERR(peer))
		return ERR_CAST(peer);
	mem = peer->ops->create(peer, want, &cmd->out_reason);
	peer_end_create(peer);
	return mem;
}

static struct penstock_mem *region_peer_by_address(struct penstock_region_peer *cmd,
						   const struct penstock_peer_want *want)
{
	const struct penstock_peer_ops *ops;
	struct penstock_mem *mem;
	u64 end;

	if (cmd->peer_id || cmd->offset || cmd->fd != -1)
		return ERR_PTR(-EINVAL);
	if (check_add_overflow(want->addr, want->len, &end))
		return ERR_PTR(-EOVERFLOW);
	cmd->out_reason = penstock_peer_kernel_reason();
	if (cmd->out_reason)
		return ERR_PTR(-EOPNOTSUPP);

	mutex_lock(&penstock_peers_lock);
	ops = provider;
	if (ops)
		WRITE_ONCE(provider_users, provider_users + 1);
	mutex_unlock(&penstock_peers_lock);
	if (!ops) {
		cmd->out_reason = PENSTOCK_REASON_NO_PROVIDER;
		return ERR_PTR(-EOPNOTSUPP);
	}
	mem = ops->create(NULL, want, &cmd->out_reason);
	mutex_lock(&penstock_peers_lock);
	WRITE_ONCE(provider_users, provider_users - 1);
	mutex_unlock(&penstock_peers_lock);
	wake_up_all(&provider_idle);
	return mem;
}

static struct penstock_mem *region_peer_dmabuf(struct penstock_region_peer *cmd)
{
	struct penstock_mem *mem;
	u64 end;

	if (cmd->peer_id || cmd->addr || !IS_ALIGNED(cmd->offset, PAGE_SIZE))
		return ERR_PTR(-EINVAL);
	if (check_add_overflow(cmd->offset, cmd->length, &end))
		return ERR_PTR(-EOVERFLOW);
	mem = penstock_dmabuf_import(cmd->fd, &cmd->out_reason);
	if (IS_ERR(mem))
		return mem;
	if (end > mem->len) {
		penstock_mem_put(mem);
		return ERR_PTR(-EINVAL);
	}
	if ((cmd->flags & PENSTOCK_REGION_PEER_F_MMAP) && !mem->mappable) {
		penstock_mem_put(mem);
		cmd->out_reason = PENSTOCK_REASON_NOT_MAPPABLE;
		return ERR_PTR(-EOPNOTSUPP);
	}
	return mem;
}

static struct penstock_mem *region_peer_mem(struct penstock_region_peer *cmd)
{
	struct penstock_peer_want want = {
		.addr = cmd->addr,
		.len = cmd->length,
		.mmap = cmd->flags & PENSTOCK_REGION_PEER_F_MMAP,
	};

	switch (cmd->kind) {
	case PENSTOCK_PEER_BAR:
		return region_peer_bar(cmd, &want);
	case PENSTOCK_PEER_NVIDIA:
		return region_peer_by_address(cmd, &want);
	case PENSTOCK_PEER_DMABUF:
		return region_peer_dmabuf(cmd);
	default:
		return ERR_PTR(-EINVAL);
	}
}

/* Runs that [offset, offset + len) touches. */
static u32 mem_count_runs(const struct penstock_mem *mem, u64 offset, u64 len)
{
	u64 start = 0;
	u32 i, nr = 0;

	for (i = 0; i < mem->nr_bvec && start < offset + len; i++) {
		if (mem->ends[i] > offset)
			nr++;
		start = mem->ends[i];
	}
	return nr;
}

int penstock_ioctl_region_peer(struct penstock_open *open, void *arg)
{
	struct penstock_region_peer *cmd = arg;
	struct penstock_mem *mem;
	int ret;

	cmd->out_region_id = 0;
	cmd->out_reason = PENSTOCK_REASON_NONE;
	cmd->out_nr_segments = 0;
	cmd->out_flags = 0;
	cmd->out_mmap_offset = PENSTOCK_NO_OFFSET;
	cmd->out_peer_offset = PENSTOCK_NO_OFFSET;
	if (cmd->flags & ~PENSTOCK_REGION_PEER_F_MMAP || cmd->__reserved)
		return -EOPNOTSUPP;
	if (!cmd->length || !IS_ALIGNED(cmd->length, PAGE_SIZE) || cmd->length > PENSTOCK_MAX_REGION_LEN)
		return -EINVAL;

	mem = region_peer_mem(cmd);
	if (IS_ERR(mem))
		return PTR_ERR(mem);
	ret = penstock_region_create(open, mem, cmd->offset, cmd->length, &cmd->out_region_id);
	if (ret) {
		if (ret == -ENODEV)
			cmd->out_reason = READ_ONCE(mem->dead);
		penstock_mem_put_sync(mem);
		return ret;
	}
	cmd->out_nr_segments = mem_count_runs(mem, cmd->offset, cmd->length);
	cmd->out_mmap_offset = penstock_region_mmap_offset(mem, cmd->out_region_id);
	if (mem->peer_offset != PENSTOCK_NO_OFFSET)
		cmd->out_peer_offset = mem->peer_offset + cmd->offset;
	if (mem->peer)
		cmd->out_flags = mem->peer->flags;
	if (!mem->mappable)
		cmd->out_flags &= ~PENSTOCK_PEER_F_MAPPABLE;
	penstock_mem_put(mem);
	return 0;
}
