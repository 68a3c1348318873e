// SPDX-License-Identifier: MIT
/* The plan: see plan.h. Pure: no I/O, no allocation, every sum is checked. */
#include <errno.h>
#include <string.h>

#include "plan.h"
#include "util.h"

/* One extent widened to its file's alignment. */
struct span {
	uint64_t start;
	uint64_t end;
	uint32_t file;
	uint32_t ext;
};

static bool before(const struct span *a, const struct span *b)
{
	if (a->file != b->file)
		return a->file < b->file;
	if (a->start != b->start)
		return a->start < b->start;
	return a->ext < b->ext;
}

static int widen(const struct penstock_extent *e, uint32_t align, struct span *s)
{
	uint64_t end;

	if (!align || align > PENSTOCK_MEM_ALIGN || (align & (align - 1)))
		return -EINVAL;
	if (penstock_add_overflows(e->off, e->len, &end) || end > UINT64_MAX - (align - 1))
		return -EOVERFLOW;
	s->start = penstock_align_down(e->off, align);
	s->end = penstock_align_up(end, align);
	s->file = e->file;
	return 0;
}

/* Insertion sort: a handful of extents, usually in order already. */
static int sorted_spans(const struct penstock_extent *ext, uint32_t nr, const uint32_t *align, struct span *spans,
			uint32_t *nr_spans)
{
	struct span s;
	uint32_t i, j, n = 0;
	int ret;

	for (i = 0; i < nr; i++) {
		if (!ext[i].len)
			continue;
		ret = widen(&ext[i], align[ext[i].file], &s);
		if (ret)
			return ret;
		s.ext = i;
		for (j = n++; j && before(&s, &spans[j - 1]); j--)
			spans[j] = spans[j - 1];
		spans[j] = s;
	}
	*nr_spans = n;
	return 0;
}

int penstock_plan_expert(const struct penstock_extent *ext, uint32_t nr, const uint32_t *align,
			 struct penstock_range *ranges, uint32_t *nr_ranges, uint64_t *part_off,
			 uint64_t *slot_bytes)
{
	struct span spans[PENSTOCK_MAX_PARTS];
	uint32_t nr_spans, i, j, n = 0;
	uint64_t used = 0, end, need;
	struct penstock_range *r;
	int ret;

	if (nr > PENSTOCK_MAX_PARTS)
		return -EINVAL;
	ret = sorted_spans(ext, nr, align, spans, &nr_spans);
	if (ret)
		return ret;
	memset(part_off, 0, nr * sizeof(*part_off));
	for (i = 0; i < nr_spans; i = j) {
		r = &ranges[n++];
		*r = (struct penstock_range){ .file = spans[i].file, .off = spans[i].start, .slot_off = used };
		end = spans[i].end;
		for (j = i; j < nr_spans && spans[j].file == r->file && spans[j].start <= end; j++) {
			const struct penstock_extent *e = &ext[spans[j].ext];

			end = penstock_max_u64(end, spans[j].end);
			need = e->off + e->len - r->off;
			r->need = penstock_max_u64(r->need, need);
			/* used <= UINT64_MAX - len is known only below; a wrapped value is never handed out */
			part_off[spans[j].ext] = used + (e->off - r->off);
		}
		r->len = end - r->off;
		if (penstock_add_overflows(used, r->len, &used) || used > UINT64_MAX - (PENSTOCK_MEM_ALIGN - 1))
			return -EOVERFLOW;
		used = penstock_align_up(used, PENSTOCK_MEM_ALIGN);
	}
	*nr_ranges = n;
	*slot_bytes = used;
	return 0;
}

void penstock_plan_read(const struct penstock_range *r, uint64_t i, uint32_t split, void *slot,
			struct penstock_read *out)
{
	uint64_t skip = i * split;

	*out = (struct penstock_read){
		.file = r->file,
		.buf = -1,
		.off = r->off + skip,
		.len = (uint32_t)penstock_min_u64(split, r->len - skip),
		/* an integer sum: a plan may be made for a slot that is not there */
		.dst = (void *)((uintptr_t)slot + r->slot_off + skip),
	};
	out->need = r->need > skip ? (uint32_t)penstock_min_u64(out->len, r->need - skip) : 0;
}
