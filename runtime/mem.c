// SPDX-License-Identifier: MIT
/* Landing memory of any kind: see mem.h. */
#include "mem.h"

int penstock_mem_get(const struct penstock_mem_source *s, size_t len, struct penstock_mem *m,
		     struct penstock_error *err)
{
	return s->ops->alloc(s, len, m, err);
}

void penstock_mem_free(struct penstock_mem *m)
{
	if (!m || !m->base)
		return;
	m->ops->free(m);
	*m = (struct penstock_mem){ 0 };
}
