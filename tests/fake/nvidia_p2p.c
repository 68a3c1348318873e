// SPDX-License-Identifier: GPL-2.0-only
/*
 * Stands in for NVIDIA's module: gives parts of an ivshmem BAR away as device
 * memory, by the same functions and the same rules. A device address is
 * FAKE_VA + offset in the BAR. The device is chosen by driver_override.
 *
 * What it does as the real one does, for that is what a user gets wrong:
 *  - the lock that is held in callbacks is taken by put_pages(), too;
 *  - a page table is freed by the owner when the callback has returned;
 *  - put_pages() of what was taken back finds nothing, and returns 0;
 *  - the callback may come before get_pages() returns.
 * Tables are poisoned when they are freed: a user who looks into one gets an
 * address where no BAR is.
 *
 * In debugfs, nvidia_p2p/: revoke (write 1: take all back that is not
 * persistent; 2: unlink all, call back revoke_delay_ms later without the lock;
 * 3: hold the lock that long, then take back), counts (gets puts callbacks live), bar (its contents, to read and
 * write).
 */
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/io.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/pci-p2pdma.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include "nvidia_p2p.h"

#define FAKE_VA		0x700000000000ULL
#define FAKE_BAR	2
#define FAKE_PAGE	SZ_64K
#define FAKE_POISON	0xdead000000000000ULL

static bool pages = true;
module_param(pages, bool, 0444);
MODULE_PARM_DESC(pages, "the BAR has struct pages (1)");

static int refuse;
module_param(refuse, int, 0644);
MODULE_PARM_DESC(refuse, "get_pages() fails with this errno (0: it does not)");

static bool revoke_in_get;
module_param(revoke_in_get, bool, 0644);
MODULE_PARM_DESC(revoke_in_get, "pages are taken back before get_pages() returns (0)");

static bool scatter;
module_param(scatter, bool, 0644);
MODULE_PARM_DESC(scatter, "the pieces of a range lie in reverse order (0)");

static uint version = NVIDIA_P2P_PAGE_TABLE_VERSION;
module_param(version, uint, 0644);
MODULE_PARM_DESC(version, "of page tables");

static uint revoke_delay_ms = 500;
module_param(revoke_delay_ms, uint, 0644);
MODULE_PARM_DESC(revoke_delay_ms, "for revoke 2 and 3 (500)");

/**
 * struct fake_range - pages given away
 * @node: in fake_ranges while they are
 * @table: what the user got
 * @array: all its pieces
 * @free_callback: NULL for persistent ones
 * @data: for it
 */
struct fake_range {
	struct list_head node;
	struct nvidia_p2p_page_table table;
	struct nvidia_p2p_page *array;
	void (*free_callback)(void *data);
	void *data;
};

/* fake_ranges, fake_dev; held in callbacks, as the real one's locks are. */
static DEFINE_MUTEX(fake_lock);
static LIST_HEAD(fake_ranges);
static struct pci_dev *fake_dev;
static void __iomem *fake_bar;
static atomic_t fake_gets, fake_puts, fake_callbacks, fake_live;
static struct dentry *fake_dir;

static void fake_range_free(struct fake_range *range)
{
	u32 i;

	for (i = 0; i < range->table.entries; i++)
		range->array[i].physical_address = FAKE_POISON;
	range->table.entries = U32_MAX;
	kvfree(range->array);
	kvfree(range->table.pages);
	kfree(range);
	atomic_dec(&fake_live);
}

static struct fake_range *fake_range_alloc(u64 offset, u64 len)
{
	u32 i, nr = len / FAKE_PAGE;
	struct fake_range *range;

	range = kzalloc(sizeof(*range), GFP_KERNEL);
	if (!range)
		return NULL;
	range->array = kvcalloc(nr, sizeof(*range->array), GFP_KERNEL);
	range->table.pages = kvcalloc(nr, sizeof(*range->table.pages), GFP_KERNEL);
	if (!range->array || !range->table.pages) {
		kvfree(range->array);
		kvfree(range->table.pages);
		kfree(range);
		return NULL;
	}
	for (i = 0; i < nr; i++) {
		u32 piece = scatter ? nr - 1 - i : i;

		range->array[i].physical_address = pci_resource_start(fake_dev, FAKE_BAR) + offset + piece * FAKE_PAGE;
		range->table.pages[i] = &range->array[i];
	}
	range->table.version = version;
	range->table.page_size = NVIDIA_P2P_PAGE_SIZE_64KB;
	range->table.entries = nr;
	atomic_inc(&fake_live);
	return range;
}

/* fake_lock is held, but for late callbacks. */
static void fake_call_back(struct fake_range *range)
{
	atomic_inc(&fake_callbacks);
	range->free_callback(range->data);
	fake_range_free(range);
}

static int fake_get(u64 va, u64 len, struct nvidia_p2p_page_table **table, void (*free_callback)(void *data),
		    void *data)
{
	struct fake_range *range;
	u64 offset = va - FAKE_VA;
	int ret = 0;

	*table = NULL;
	if (refuse)
		return -refuse;
	if (!IS_ALIGNED(va, FAKE_PAGE) || !IS_ALIGNED(len, FAKE_PAGE) || !len)
		return -EINVAL;
	mutex_lock(&fake_lock);
	if (!fake_dev || va < FAKE_VA || offset >= pci_resource_len(fake_dev, FAKE_BAR) ||
	    len > pci_resource_len(fake_dev, FAKE_BAR) - offset) {
		ret = -EINVAL;
		goto out;
	}
	range = fake_range_alloc(offset, len);
	if (!range) {
		ret = -ENOMEM;
		goto out;
	}
	range->free_callback = free_callback;
	range->data = data;
	*table = &range->table;
	atomic_inc(&fake_gets);
	if (free_callback && revoke_in_get)
		fake_call_back(range);
	else
		list_add_tail(&range->node, &fake_ranges);
out:
	mutex_unlock(&fake_lock);
	return ret;
}

/* The table is compared, not looked into: it may be freed. */
static int fake_put(const struct nvidia_p2p_page_table *table, bool persistent)
{
	struct fake_range *range;
	int ret = persistent ? -EINVAL : 0;

	mutex_lock(&fake_lock);
	list_for_each_entry(range, &fake_ranges, node) {
		if (&range->table != table || persistent == !!range->free_callback)
			continue;
		list_del(&range->node);
		fake_range_free(range);
		atomic_inc(&fake_puts);
		ret = 0;
		break;
	}
	mutex_unlock(&fake_lock);
	return ret;
}

int nvidia_p2p_get_pages(u64 p2p_token, u32 va_space, u64 virtual_address, u64 length,
			 struct nvidia_p2p_page_table **page_table, void (*free_callback)(void *data), void *data)
{
	if (p2p_token || va_space || !free_callback || !data)
		return -EINVAL;
	return fake_get(virtual_address, length, page_table, free_callback, data);
}
EXPORT_SYMBOL_GPL(nvidia_p2p_get_pages);

int nvidia_p2p_put_pages(u64 p2p_token, u32 va_space, u64 virtual_address, struct nvidia_p2p_page_table *page_table)
{
	if (p2p_token || va_space)
		return -EINVAL;
	return fake_put(page_table, false);
}
EXPORT_SYMBOL_GPL(nvidia_p2p_put_pages);

int nvidia_p2p_get_pages_persistent(u64 virtual_address, u64 length, struct nvidia_p2p_page_table **page_table,
				    u32 flags)
{
	if (flags)
		return -EINVAL;
	return fake_get(virtual_address, length, page_table, NULL, NULL);
}
EXPORT_SYMBOL_GPL(nvidia_p2p_get_pages_persistent);

int nvidia_p2p_put_pages_persistent(u64 virtual_address, struct nvidia_p2p_page_table *page_table, u32 flags)
{
	if (flags)
		return -EINVAL;
	return fake_put(page_table, true);
}
EXPORT_SYMBOL_GPL(nvidia_p2p_put_pages_persistent);

/* ---- taking back ---- */

/* What can be taken back, unlinked. fake_lock is held. */
static void fake_unlink(struct list_head *taken)
{
	struct fake_range *range, *next;

	list_for_each_entry_safe(range, next, &fake_ranges, node)
		if (range->free_callback)
			list_move_tail(&range->node, taken);
}

static void fake_call_back_all(struct list_head *taken)
{
	struct fake_range *range, *next;

	list_for_each_entry_safe(range, next, taken, node) {
		list_del(&range->node);
		fake_call_back(range);
	}
}

static void fake_revoke(bool late, bool slow)
{
	LIST_HEAD(taken);

	mutex_lock(&fake_lock);
	if (slow)
		msleep(revoke_delay_ms);
	fake_unlink(&taken);
	if (!late)
		fake_call_back_all(&taken);
	mutex_unlock(&fake_lock);
	if (late) {
		msleep(revoke_delay_ms);
		fake_call_back_all(&taken);
	}
}

static ssize_t fake_revoke_write(struct file *file, const char __user *buf, size_t len, loff_t *pos)
{
	unsigned int how;
	int ret = kstrtouint_from_user(buf, len, 0, &how);

	if (ret)
		return ret;
	if (how < 1 || how > 3)
		return -EINVAL;
	fake_revoke(how == 2, how == 3);
	return len;
}

static const struct file_operations fake_revoke_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = fake_revoke_write,
};

static ssize_t fake_counts_read(struct file *file, char __user *buf, size_t len, loff_t *pos)
{
	char text[64];
	int n = scnprintf(text, sizeof(text), "%d %d %d %d\n", atomic_read(&fake_gets), atomic_read(&fake_puts),
			  atomic_read(&fake_callbacks), atomic_read(&fake_live));

	return simple_read_from_buffer(buf, len, pos, text, n);
}

static const struct file_operations fake_counts_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.read = fake_counts_read,
};

/* ---- the BAR's contents ---- */

static ssize_t fake_bar_io(char __user *buf, size_t len, loff_t *pos, bool write)
{
	char *bounce;
	ssize_t ret;
	u64 total;

	mutex_lock(&fake_lock);
	ret = -ENODEV;
	if (!fake_bar)
		goto out;
	total = pci_resource_len(fake_dev, FAKE_BAR);
	ret = 0;
	if (*pos < 0 || *pos >= total)
		goto out;
	len = min3(len, (size_t)(total - *pos), (size_t)SZ_64K);
	ret = -ENOMEM;
	bounce = kvmalloc(len, GFP_KERNEL);
	if (!bounce)
		goto out;
	ret = -EFAULT;
	if (!write) {
		memcpy_fromio(bounce, fake_bar + *pos, len);
		if (!copy_to_user(buf, bounce, len))
			ret = len;
	} else if (!copy_from_user(bounce, buf, len)) {
		memcpy_toio(fake_bar + *pos, bounce, len);
		ret = len;
	}
	kvfree(bounce);
	if (ret > 0)
		*pos += ret;
out:
	mutex_unlock(&fake_lock);
	return ret;
}

static ssize_t fake_bar_read(struct file *file, char __user *buf, size_t len, loff_t *pos)
{
	return fake_bar_io(buf, len, pos, false);
}

static ssize_t fake_bar_write(struct file *file, const char __user *buf, size_t len, loff_t *pos)
{
	return fake_bar_io((char __user *)buf, len, pos, true);
}

static const struct file_operations fake_bar_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.read = fake_bar_read,
	.write = fake_bar_write,
	.llseek = default_llseek,
};

/* ---- the device ---- */

static int fake_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	int ret;

	if (fake_dev)
		return -EBUSY;
	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	if (pages) {
		ret = pci_p2pdma_add_resource(pdev, FAKE_BAR, 0, 0);
		if (ret)
			return ret;
	}
	fake_bar = devm_ioremap(&pdev->dev, pci_resource_start(pdev, FAKE_BAR), pci_resource_len(pdev, FAKE_BAR));
	if (!fake_bar)
		return -ENOMEM;
	fake_dev = pdev;
	return 0;
}

static void fake_remove(struct pci_dev *pdev)
{
	/* A user that could not be told is one that pins the device for good. */
	WARN_ON_ONCE(!list_empty(&fake_ranges));
	mutex_lock(&fake_lock);
	fake_dev = NULL;
	fake_bar = NULL;
	mutex_unlock(&fake_lock);
}

static const struct pci_device_id fake_ids[] = {
	{
		.vendor = PCI_ANY_ID,
		.device = PCI_ANY_ID,
		.subvendor = PCI_ANY_ID,
		.subdevice = PCI_ANY_ID,
		.override_only = 1,
	},
	{ }
};

static struct pci_driver fake_driver = {
	.name = "nvidia_p2p",
	.id_table = fake_ids,
	.probe = fake_probe,
	.remove = fake_remove,
};

static int __init fake_init(void)
{
	int ret = pci_register_driver(&fake_driver);

	if (ret)
		return ret;
	fake_dir = debugfs_create_dir("nvidia_p2p", NULL);
	debugfs_create_file("revoke", 0200, fake_dir, NULL, &fake_revoke_fops);
	debugfs_create_file("counts", 0400, fake_dir, NULL, &fake_counts_fops);
	debugfs_create_file("bar", 0600, fake_dir, NULL, &fake_bar_fops);
	return 0;
}

static void __exit fake_exit(void)
{
	debugfs_remove(fake_dir);
	pci_unregister_driver(&fake_driver);
}

module_init(fake_init);
module_exit(fake_exit);
MODULE_DESCRIPTION("Stands in for the NVIDIA driver, for tests of Penstock");
MODULE_LICENSE("GPL");
