// SPDX-License-Identifier: MIT
/*
 * Copies that outlive the peer: see mem_copy.h. The host's memory is always the
 * remote side, whose pages the kernel pins: those of a peer it would refuse to pin.
 */
#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "mem_copy.h"

typedef ssize_t vm_call(pid_t pid, const struct iovec *local, unsigned long nr_local, const struct iovec *remote,
			unsigned long nr_remote, unsigned long flags);

static int copy(vm_call *call, char *view, char *host, size_t len)
{
	size_t done = 0;

	while (done < len) {
		struct iovec local = { view + done, len - done }, remote = { host + done, len - done };
		ssize_t got = call(getpid(), &local, 1, &remote, 1, 0);

		if (got < 0)
			return -errno;
		if (!got)
			return -EIO;
		done += (size_t)got;
	}
	return 0;
}

/* The first error: EFAULT can only be the view's, since the host's side is memory of this library. */
static int by_kernel(vm_call *call, void *view, void *host, size_t len)
{
	int saved = errno, rc = copy(call, view, host, len);

	errno = saved;
	return rc == -EFAULT ? -ENODEV : rc;
}

int penstock_mem_copy_in(void *view, const void *src, size_t len)
{
	int rc = by_kernel(process_vm_readv, view, (void *)src, len);

	if (rc != -ENOSYS && rc != -EPERM)
		return rc;
	memcpy(view, src, len);
	return 0;
}

int penstock_mem_copy_out(void *dst, const void *view, size_t len)
{
	int rc = by_kernel(process_vm_writev, (void *)view, dst, len);

	if (rc != -ENOSYS && rc != -EPERM)
		return rc;
	memcpy(dst, view, len);
	return 0;
}
