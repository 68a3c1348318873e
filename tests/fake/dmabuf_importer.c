// SPDX-License-Identifier: GPL-2.0-only
/*
 * A driver that imports a dma-buf for a device, for tests of the exporter. It
 * transfers nothing. For the kernels of the test machines only.
 *
 * Written to debugfs, penstock_importer/command, as root:
 *	attach FD DEVICE KIND	DEVICE a PCI address, KIND static, dynamic, or peer (dynamic, takes peer memory)
 *	map			as drivers do; kernels without CONFIG_DMABUF_MOVE_NOTIFY pin for it
 *	map-dynamic		as they do with CONFIG_DMABUF_MOVE_NOTIFY, on any kernel
 *	unmap
 *	detach
 * The error of a command is that of the write. Read from penstock_importer/state:
 * "notified N", how often the exporter took the memory away, then one line
 * "ADDRESS LENGTH" for each segment of the mapping. There is one attachment.
 */
#include <linux/debugfs.h>
#include <linux/dma-buf.h>
#include <linux/dma-resv.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/scatterlist.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

/* In the one form that all kernels understand. */
MODULE_INFO(import_ns, "DMA_BUF");

static DEFINE_MUTEX(lock);		/* all of it, but notified */
static struct dma_buf_attachment *attachment;
static struct pci_dev *device;
static struct sg_table *mapping;
static bool mapped_by_core;
static atomic_t notified;
static struct dentry *dir;

/* The reservation lock is held, so nothing can be unmapped here that waits for it. */
static void importer_notify(struct dma_buf_attachment *attach)
{
	dma_resv_assert_held(attach->dmabuf->resv);
	atomic_inc(&notified);
}

static const struct dma_buf_attach_ops dynamic_ops = { .move_notify = importer_notify };
static const struct dma_buf_attach_ops peer_ops = { .allow_peer2peer = true, .move_notify = importer_notify };

static struct pci_dev *find_device(const char *address)
{
	unsigned int domain, bus, slot, function;

	if (sscanf(address, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4)
		return NULL;
	return pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, function));
}

static int importer_attach(int fd, const char *address, const char *kind)
{
	const struct dma_buf_attach_ops *ops = NULL;
	struct dma_buf_attachment *attach;
	struct dma_buf *dmabuf;

	if (attachment)
		return -EBUSY;
	if (!strcmp(kind, "dynamic"))
		ops = &dynamic_ops;
	else if (!strcmp(kind, "peer"))
		ops = &peer_ops;
	else if (strcmp(kind, "static"))
		return -EINVAL;
	dmabuf = dma_buf_get(fd);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	device = find_device(address);
	if (!device) {
		dma_buf_put(dmabuf);
		return -ENXIO;
	}
	atomic_set(&notified, 0);
	attach = dma_buf_dynamic_attach(dmabuf, &device->dev, ops, NULL);
	if (IS_ERR(attach)) {
		pci_dev_put(device);
		dma_buf_put(dmabuf);
		return PTR_ERR(attach);
	}
	attachment = attach;
	return 0;
}

static int importer_map(bool by_core)
{
	struct dma_buf *dmabuf;
	struct sg_table *sgt;

	if (!attachment || mapping)
		return -EBUSY;
	dmabuf = attachment->dmabuf;
	dma_resv_lock(dmabuf->resv, NULL);
	if (by_core)
		sgt = dma_buf_map_attachment(attachment, DMA_BIDIRECTIONAL);
	else
		sgt = dmabuf->ops->map_dma_buf(attachment, DMA_BIDIRECTIONAL);
	dma_resv_unlock(dmabuf->resv);
	if (IS_ERR(sgt))
		return PTR_ERR(sgt);
	mapping = sgt;
	mapped_by_core = by_core;
	return 0;
}

static int importer_unmap(void)
{
	struct dma_buf *dmabuf;

	if (!mapping)
		return -ENOENT;
	dmabuf = attachment->dmabuf;
	dma_resv_lock(dmabuf->resv, NULL);
	if (mapped_by_core)
		dma_buf_unmap_attachment(attachment, mapping, DMA_BIDIRECTIONAL);
	else
		dmabuf->ops->unmap_dma_buf(attachment, mapping, DMA_BIDIRECTIONAL);
	dma_resv_unlock(dmabuf->resv);
	mapping = NULL;
	return 0;
}

static int importer_detach(void)
{
	struct dma_buf *dmabuf;

	if (!attachment)
		return -ENOENT;
	importer_unmap();
	dmabuf = attachment->dmabuf;
	dma_buf_detach(dmabuf, attachment);
	attachment = NULL;
	pci_dev_put(device);
	dma_buf_put(dmabuf);
	return 0;
}

static int importer_command(char *text)
{
	char address[32], kind[16];
	int fd;

	text = strim(text);
	if (sscanf(text, "attach %d %31s %15s", &fd, address, kind) == 3)
		return importer_attach(fd, address, kind);
	if (!strcmp(text, "map"))
		return importer_map(true);
	if (!strcmp(text, "map-dynamic"))
		return importer_map(false);
	if (!strcmp(text, "unmap"))
		return importer_unmap();
	if (!strcmp(text, "detach"))
		return importer_detach();
	return -EINVAL;
}

static ssize_t command_write(struct file *file, const char __user *buf, size_t len, loff_t *pos)
{
	char *text;
	int ret;

	if (len > 128)
		return -E2BIG;
	text = memdup_user_nul(buf, len);
	if (IS_ERR(text))
		return PTR_ERR(text);
	mutex_lock(&lock);
	ret = importer_command(text);
	mutex_unlock(&lock);
	kfree(text);
	return ret ? ret : len;
}

static const struct file_operations command_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = command_write,
};

static int state_show(struct seq_file *file, void *unused)
{
	struct scatterlist *sg;
	int i;

	mutex_lock(&lock);
	seq_printf(file, "notified %d\n", atomic_read(&notified));
	if (mapping)
		for_each_sgtable_dma_sg(mapping, sg, i)
			seq_printf(file, "%#llx %u\n", (u64)sg_dma_address(sg), sg_dma_len(sg));
	mutex_unlock(&lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(state);

static int __init importer_init(void)
{
	dir = debugfs_create_dir("penstock_importer", NULL);
	debugfs_create_file("command", 0200, dir, NULL, &command_fops);
	debugfs_create_file("state", 0400, dir, NULL, &state_fops);
	return 0;
}

static void __exit importer_exit(void)
{
	debugfs_remove(dir);
	importer_detach();
}

module_init(importer_init);
module_exit(importer_exit);
MODULE_DESCRIPTION("Importer of dma-bufs, for tests");
MODULE_LICENSE("GPL");
