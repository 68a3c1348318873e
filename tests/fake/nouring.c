// SPDX-License-Identifier: MIT
/*
 * A machine without io_uring: from here on the calling process gets an errno from
 * its system calls, as containers' seccomp profiles do. Included by tests.
 */
#ifndef PENSTOCK_TESTS_NOURING_C
#define PENSTOCK_TESTS_NOURING_C

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

/* The three have the same numbers on all architectures. */
#define NOURING_SETUP		425
#define NOURING_ENTER		426
#define NOURING_REGISTER	427

/** nouring_refuse() - calls @first to @last give @code from now on. Return: 0 or -errno, -EINVAL without seccomp. */
static inline int nouring_refuse(int first, int last, int code)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (unsigned int)first, 0, 2),
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, (unsigned int)last, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned int)code),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(filter) / sizeof(*filter), filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
		return -errno;
	return 0;
}

#endif
