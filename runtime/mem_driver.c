// SPDX-License-Identifier: MIT
/*
 * Host memory of the driver: pinned once, in large runs, and read into by region
 * and offset, so that no read looks pages up. It is charged to RLIMIT_MEMLOCK.
 */
#include <errno.h>
#include <sys/mman.h>

#include "err.h"
#include "mem_driver.h"
#include "util.h"

/* 2 MiB runs on x86; what there is of them is the kernel's luck. */
#define WANTED_ORDER 9u

int penstock_mem_region_len(int drv, size_t *len, struct penstock_drv_info *info, struct penstock_error *err)
{
	int rc = penstock_drv_info(drv, info, err);

	if (rc)
		return rc;
	if (!*len || *len > SIZE_MAX / 2)
		return penstock_err(err, -EINVAL, "%zu bytes of the driver's memory", *len);
	*len = penstock_align_up(*len, info->page_size);
	return 0;
}

int penstock_mem_region_take(int drv, const struct penstock_drv_region *r, size_t len, struct penstock_mem *m,
			     struct penstock_error *err)
{
	bool mapped = r->mmap_off != PENSTOCK_DRV_NOWHERE;
	int rc = -EIO;
	void *base;

	if (mapped) {
		base = penstock_drv_map(drv, r, len, err);
		if (!base && err)
			rc = err->code;
	} else {
		base = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (base == MAP_FAILED) {
			rc = penstock_err(err, -ENOMEM, "%zu bytes of addresses", len);
			base = NULL;
		}
	}
	if (!base) {
		(void)penstock_drv_region_free(drv, r->id, true, NULL);
		return rc;
	}
	*m = (struct penstock_mem){
		.base = base, .len = len, .page_size = 4096, .drv = drv, .region = r->id, .mapped = mapped,
		.peer_off = r->peer_off,
	};
	return 0;
}

void penstock_mem_region_free(struct penstock_mem *m)
{
	munmap(m->base, m->len);
	/* it can only fail for a region that is gone already */
	(void)penstock_drv_region_free(m->drv, m->region, true, NULL);
}

static int driver_alloc(const struct penstock_mem_source *s, size_t len, struct penstock_mem *m,
			struct penstock_error *err)
{
	struct penstock_drv_region r;
	struct penstock_drv_info info;
	int rc;

	rc = penstock_mem_region_len(s->drv, &len, &info, err);
	if (rc)
		return rc;
	rc = penstock_drv_region_alloc(s->drv, len, s->numa_node,
				       (uint32_t)penstock_min_u64(info.max_order, WANTED_ORDER), &r, err);
	if (!rc)
		rc = penstock_mem_region_take(s->drv, &r, len, m, err);
	if (rc)
		return rc;
	m->ops = &penstock_mem_driver;
	m->why = "the driver's host memory";
	return 0;
}

const struct penstock_mem_ops penstock_mem_driver = {
	.name = "driver",
	.alloc = driver_alloc,
	.free = penstock_mem_region_free,
};
