// SPDX-License-Identifier: MIT
/*
 * Landing memory in the host: see mem.h.
 *
 * 2 MiB pages are what makes direct reads cheap: from the hugetlbfs pool if it has
 * them, else transparent ones, and @page_size is what was got, not what was asked
 * for. Everything is prefaulted by MADV_POPULATE_WRITE, which fails where a touch
 * would end the process by SIGBUS. What would not fit is refused beforehand: an
 * overcommitted mapping would be paid for by the OOM killer.
 */
#include <errno.h>
#include <inttypes.h>
#include <numaif.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "err.h"
#include "mem.h"
#include "mem_probe.h"
#include "util.h"

#define HUGE		(2ul << 20)
#define SMALL		4096ul
#define MAX_NODES	1024u

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)
#endif

/* Preferred, not bound: a full node must not end the process. A refusal costs speed only. */
static void prefer_node(void *base, size_t len, int node)
{
	unsigned long mask[MAX_NODES / (8 * sizeof(unsigned long))] = { 0 };
	const unsigned int bits = 8 * sizeof(unsigned long);

	if (node < 0 || (unsigned int)node >= MAX_NODES)
		return;
	mask[(unsigned int)node / bits] = 1ul << ((unsigned int)node % bits);
	mbind(base, len, MPOL_PREFERRED, mask, MAX_NODES, 0);
}

/* Return: 0; -errno, -EINVAL where the kernel has no such advice (before 5.14). */
static int populate(void *base, size_t len)
{
	int ret;

	do {
		ret = madvise(base, len, MADV_POPULATE_WRITE);
	} while (ret && (errno == EINTR || errno == EAGAIN));
	return ret ? -errno : 0;
}

/* Ordinary pages only: touching them cannot raise SIGBUS. */
static void touch(void *base, size_t len)
{
	volatile char *p = base;
	size_t i;

	for (i = 0; i < len; i += SMALL)
		p[i] = 0;
}

static void *map_hugetlb(size_t len, int node)
{
	void *base;

	base = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_2MB, -1, 0);
	if (base == MAP_FAILED)
		return NULL;
	prefer_node(base, len, node);
	if (!populate(base, len))
		return base;
	munmap(base, len);
	return NULL;
}

/* A mapping that starts at a multiple of 2 MiB. */
static void *map_aligned(size_t len)
{
	char *raw, *base;
	size_t head;

	raw = mmap(NULL, len + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (raw == MAP_FAILED)
		return NULL;
	base = (char *)penstock_align_up((uintptr_t)raw, HUGE);
	head = (size_t)(base - raw);
	if (head)
		munmap(raw, head);
	if (HUGE - head)
		munmap(base + len, HUGE - head);
	return base;
}

/* Are transparent huge pages switched off for all? */
static bool thp_never(void)
{
	char text[64] = "";
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");

	if (!f)
		return true;
	if (!fgets(text, sizeof(text), f))
		text[0] = 0;
	fclose(f);
	return strstr(text, "[never]");
}

static void name_pages(struct penstock_mem *m)
{
	uint64_t huge = penstock_mem_huge_bytes(m->base, m->len);

	if (huge < m->len && huge && !madvise(m->base, m->len, MADV_COLLAPSE))
		huge = penstock_mem_huge_bytes(m->base, m->len);
	m->page_size = huge == m->len ? HUGE : SMALL;
	if (huge == m->len)
		m->why = "transparent";
	else if (huge)
		m->why = "4 KiB pages among transparent ones: memory is fragmented, and hugetlbfs has too few";
	else if (thp_never())
		m->why = "hugetlbfs has too few pages, and transparent huge pages are off";
	else
		m->why = "hugetlbfs has too few pages, and no transparent huge page was to be had";
}

static int too_much(size_t len, int code, struct penstock_error *err)
{
	char limits[256];

	penstock_mem_limits_text(limits, sizeof(limits));
	return penstock_err(err, code, "%zu bytes of host memory: %s", len, limits);
}

int penstock_mem_alloc(size_t len, int numa_node, int no_huge, struct penstock_mem *m, struct penstock_error *err)
{
	struct penstock_mem got = { .ops = &penstock_mem_host, .mapped = true, .drv = -1, .peer_off = UINT64_MAX };
	int ret;

	if (!len)
		return penstock_err(err, -EINVAL, "0 bytes of host memory");
	if (len > SIZE_MAX / 2)
		return penstock_err(err, -ENOMEM, "%zu bytes of host memory", len);
	got.len = penstock_align_up(len, HUGE);
	if (!no_huge)
		got.base = map_hugetlb(got.len, numa_node);
	if (got.base) {
		got.page_size = HUGE;
		got.why = "hugetlbfs";
	} else {
		if (got.len > penstock_mem_available())
			return too_much(got.len, -ENOMEM, err);
		got.base = map_aligned(got.len);
		if (!got.base)
			return too_much(got.len, -errno, err);
		prefer_node(got.base, got.len, numa_node);
		madvise(got.base, got.len, no_huge ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
		ret = populate(got.base, got.len);
		if (ret == -EINVAL)
			touch(got.base, got.len);
		else if (ret) {
			munmap(got.base, got.len);
			return too_much(got.len, -ENOMEM, err);
		}
		got.page_size = SMALL;
		got.why = "huge pages not wanted";
		if (!no_huge)
			name_pages(&got);
	}
	madvise(got.base, got.len, MADV_DONTFORK);
	madvise(got.base, got.len, MADV_DONTDUMP);
	*m = got;
	return 0;
}

static int host_alloc(const struct penstock_mem_source *s, size_t len, struct penstock_mem *m,
		      struct penstock_error *err)
{
	return penstock_mem_alloc(len, s->numa_node, s->no_huge, m, err);
}

static void host_free(struct penstock_mem *m)
{
	munmap(m->base, m->len);
}

const struct penstock_mem_ops penstock_mem_host = {
	.name = "host",
	.alloc = host_alloc,
	.free = host_free,
};
