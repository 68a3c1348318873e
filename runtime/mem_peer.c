// SPDX-License-Identifier: MIT
/* Landing memory in a peer's BAR: see mem_peer.h and mem.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "err.h"
#include "mem.h"
#include "mem_driver.h"
#include "mem_peer.h"
#include "util.h"

/* Regions in a BAR are contiguous there; what is left between them is too small for others. */
static int peer_alloc(const struct penstock_mem_source *s, size_t len, struct penstock_mem *m,
		      struct penstock_error *err)
{
	struct penstock_drv_region r;
	struct penstock_drv_info info;
	int rc;

	rc = penstock_mem_region_len(s->drv, &len, &info, err);
	if (rc)
		return rc;
	rc = penstock_drv_region_peer(s->drv, s->peer, len, &r, NULL, err);
	if (!rc)
		rc = penstock_mem_region_take(s->drv, &r, len, m, err);
	if (rc)
		return rc;
	m->ops = &penstock_mem_peer;
	m->why = m->mapped ? "the peer's memory, mapped" : "the peer's memory, which the CPU cannot map";
	return 0;
}

const struct penstock_mem_ops penstock_mem_peer = {
	.name = "peer",
	.alloc = peer_alloc,
	.free = penstock_mem_region_free,
};

const char *penstock_mem_peer_name(const struct penstock_drv_peer *p, char *buf, size_t len)
{
	snprintf(buf, len, "peer:%04x:%02x:%02x.%u", p->pci.domain, p->pci.bus, p->pci.devfn >> 3, p->pci.devfn & 7);
	return buf;
}

/* Return: whether @name is a PCI address. */
static bool parse(const char *name, struct penstock_drv_pci *pci)
{
	unsigned int domain = 0, bus, dev, fn;
	int end = 0;

	if (sscanf(name, "%x:%x:%x.%x%n", &domain, &bus, &dev, &fn, &end) != 4 || !end || name[end]) {
		domain = 0;
		end = 0;
		if (sscanf(name, "%x:%x.%x%n", &bus, &dev, &fn, &end) != 3 || !end || name[end])
			return false;
	}
	if (bus > 255 || dev > 31 || fn > 7)
		return false;
	*pci = (struct penstock_drv_pci){ domain, bus, dev << 3 | fn };
	return true;
}

static bool same(const struct penstock_drv_pci *a, const struct penstock_drv_pci *b)
{
	return a->domain == b->domain && a->bus == b->bus && a->devfn == b->devfn;
}

static int none(int drv, const char *name, const char *there, struct penstock_error *err)
{
	struct penstock_drv_info info;

	if (!penstock_drv_info(drv, &info, NULL) && !info.peer)
		return penstock_err(err, -EOPNOTSUPP, "device %s: %s", name,
				    penstock_drv_reason_text(info.peer_reason));
	return penstock_err(err, -ENODEV, "device %s: the module has no such peer; it has %s", name,
			    *there ? there : "none");
}

int penstock_mem_peer_find(int drv, const char *name, struct penstock_drv_peer *p, struct penstock_error *err)
{
	struct penstock_drv_pci want = { 0 };
	bool any = !strcmp(name, "peer"), found = false;
	struct penstock_drv_peer at = { 0 };
	char there[256] = "", one[32];
	uint32_t nr = 0;
	int rc;

	if (!any && (strncmp(name, "peer:", 5) || !parse(name + 5, &want)))
		return penstock_err(err, -EINVAL, "device %s: \"peer:DDDD:BB:DD.F\", a PCI address, or \"peer\"", name);
	while (!(rc = penstock_drv_peer(drv, at.id, &at, err))) {
		size_t len = strlen(there);

		nr++;
		snprintf(there + len, sizeof(there) - len, "%s%s", len ? ", " : "",
			 penstock_mem_peer_name(&at, one, sizeof(one)));
		if (!found && at.is_bar && (any || same(&want, &at.pci))) {
			*p = at;
			found = true;
		}
	}
	if (rc != -ENOENT)
		return rc;
	if (!found)
		return none(drv, name, there, err);
	if (any && nr > 1)
		return penstock_err(err, -EINVAL, "device %s: which? There are %s", name, there);
	if (p->reason)
		return penstock_err(err, -EOPNOTSUPP, "device %s: %s (%s)", name, penstock_drv_reason_text(p->reason),
				    penstock_drv_reason_name(p->reason) ? penstock_drv_reason_name(p->reason) : "?");
	return 0;
}
