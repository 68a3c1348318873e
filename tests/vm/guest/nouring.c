// SPDX-License-Identifier: MIT
/*
 * Run a command without io_uring, as the seccomp profiles of containers do.
 *
 * nouring EPERM|ENOSYS COMMAND ARGUMENT...: io_uring_setup, _enter and _register give that.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../../fake/nouring.c"

int main(int argc, char **argv)
{
	int code, rc;

	if (argc < 3 || (strcmp(argv[1], "EPERM") && strcmp(argv[1], "ENOSYS"))) {
		fprintf(stderr, "usage: nouring EPERM|ENOSYS COMMAND ARGUMENT...\n");
		return 2;
	}
	code = strcmp(argv[1], "EPERM") ? ENOSYS : EPERM;
	rc = nouring_refuse(NOURING_SETUP, NOURING_REGISTER, code);
	if (rc) {
		fprintf(stderr, "nouring: no seccomp filter: %s\n", strerror(-rc));
		return 1;
	}
	execvp(argv[2], argv + 2);
	fprintf(stderr, "nouring: %s: %s\n", argv[2], strerror(errno));
	return 1;
}
