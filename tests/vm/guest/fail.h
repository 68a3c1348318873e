/* SPDX-License-Identifier: MIT */
/*
 * The n-th failure: of the allocations and copies that this thread makes in the
 * kernel the n-th fails (/proc/thread-self/fail-nth). Needs
 * CONFIG_FAULT_INJECTION.
 */
#ifndef GUEST_FAIL_H
#define GUEST_FAIL_H

#include "memory.h"

#define DEBUGFS "/sys/kernel/debug/"
#define MOST 2000

static int nth_fd;

/* Faults of all kinds of allocations, without a report of each. */
static inline bool arm(void)
{
	static const char * const settings[][2] = {
		{ DEBUGFS "failslab/ignore-gfp-wait", "N" }, { DEBUGFS "failslab/verbose", "0" },
		{ DEBUGFS "fail_page_alloc/ignore-gfp-wait", "N" }, { DEBUGFS "fail_page_alloc/ignore-gfp-highmem", "N" },
		{ DEBUGFS "fail_page_alloc/min-order", "0" }, { DEBUGFS "fail_page_alloc/verbose", "0" },
	};

	for (unsigned int i = 0; i < sizeof(settings) / sizeof(*settings); i++)
		if (put_file(settings[i][0], settings[i][1]))
			return false;
	put_file(DEBUGFS "fail_usercopy/verbose", "0");
	nth_fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	return nth_fd >= 0;
}

static inline bool set_nth(unsigned int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", n);

	return pwrite(nth_fd, text, len, 0) == len;
}

/* Has the fault happened? */
static inline bool was_injected(void)
{
	char text[16] = "";

	return pread(nth_fd, text, sizeof(text) - 1, 0) > 0 && atoi(text) == 0;
}

/*
 * @once: 0 or an error when the nth fault happened, 1 when there are not as many.
 * @allocates: at least one fault must have been answered by an error.
 */
static inline void sweep(const char *what, int (*once)(unsigned int n), bool allocates)
{
	unsigned int n, survived = 0, failed = 0;
	long pinned = pinned_pages();
	struct objects start;
	bool good = true;
	int ret;

	objects_read(&start);
	for (n = 1; n < MOST && good; n++) {
		ret = once(n);
		if (ret == 1)
			break;
		if (ret && ret != -ENOMEM && ret != -EFAULT && ret != -ENFILE) {
			printf("# fault %u: %d\n", n, ret);
			good = false;
		}
		survived += !ret;
		failed += !!ret;
		if (!objects_return_to(&start) || pinned_pages() != pinned) {
			printf("# fault %u (%d): something is left, %ld pages charged\n", n, ret, pinned_pages());
			good = false;
		}
	}
	tap(good && n < MOST && (failed > 0 || !allocates), "%s: %u faults, %u of them survived; nothing is left", what, n - 1, survived);
}

#endif
