// SPDX-License-Identifier: MIT
/*
 * What io_uring can do here, found by trying: see ring_probe.h. A ring of the kind
 * that is wanted reads one block, and asks the driver for a read that it must refuse
 * in its own words, before such a ring is trusted. liburing returns -errno and leaves
 * errno alone, so texts are made from what it returns.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "drv.h"
#include "ring_probe.h"
#include "util.h"

#define PROBE_LEN	512u
#define PROBE_ENTRIES	2u

/* The sysctl's value, or -1 where there is none. */
static int read_sysctl(const char *path)
{
	char text[16] = "";
	ssize_t len;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	return len > 0 ? atoi(text) : -1;
}

static void limit_text(rlim_t v, char *buf, size_t len)
{
	if (v == RLIM_INFINITY)
		snprintf(buf, len, "unlimited");
	else
		snprintf(buf, len, "%" PRIu64, (uint64_t)v);
}

static void memlock_refusal(int code, const char *step, size_t needed, char *why, size_t why_len)
{
	struct rlimit lim = { 0 };
	char soft[24], hard[24];

	getrlimit(RLIMIT_MEMLOCK, &lim);
	limit_text(lim.rlim_cur, soft, sizeof(soft));
	limit_text(lim.rlim_max, hard, sizeof(hard));
	snprintf(why, why_len, "io_uring: %s: %s: it needs %zu bytes of locked memory, RLIMIT_MEMLOCK is %s (hard limit"
		 " %s): raise it by ulimit -l, LimitMEMLOCK= or limits.conf, give CAP_IPC_LOCK, or use less",
		 step, strerrordesc_np(-code), needed, soft, hard);
}

void penstock_uring_refusal(int code, const char *step, const char *sysctl, size_t needed, char *why, size_t why_len)
{
	int disabled = read_sysctl(sysctl);

	if (code == -ENOMEM)
		memlock_refusal(code, step, needed, why, why_len);
	else if (code == -EPERM && disabled == 1)
		snprintf(why, why_len, "io_uring: %s: %s: %s is 1: only for CAP_SYS_ADMIN and the group in "
			 "kernel.io_uring_group", step, strerrordesc_np(-code), sysctl);
	else if (code == -EPERM && disabled > 1)
		snprintf(why, why_len, "io_uring: %s: %s: %s is %d: off for everybody", step, strerrordesc_np(-code),
			 sysctl, disabled);
	else if (code == -EPERM)
		snprintf(why, why_len, "io_uring: %s: %s: a seccomp filter (as in the default profile of containers) "
			 "or a security module refuses it (%s is %d)", step, strerrordesc_np(-code), sysctl, disabled);
	else if (code == -ENOSYS)
		snprintf(why, why_len, "io_uring: %s: %s: the kernel has none, or a seccomp filter hides it", step,
			 strerrordesc_np(-code));
	else
		snprintf(why, why_len, "io_uring: %s: %s", step, strerrordesc_np(-code));
}

/* liburing 2.3 declares io_uring_enable_rings(), but Debian's build does not export it. */
int penstock_ring_enable(struct io_uring *ring)
{
	return io_uring_register((unsigned int)ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

/* Some bytes that any process can read from a file. */
static int open_probe_file(void)
{
	static const char bytes[PROBE_LEN] = "penstock";
	int fd;

	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	fd = memfd_create("penstock-probe", MFD_CLOEXEC);
	if (fd >= 0 && write(fd, bytes, sizeof(bytes)) != (ssize_t)sizeof(bytes)) {
		close(fd);
		return -EIO;
	}
	return fd < 0 ? -errno : fd;
}

/* Submit what was put, and wait for its completion. Return: 0 with @cqe to be marked as seen; -errno. */
static int submit_one(struct io_uring *ring, struct io_uring_cqe **cqe)
{
	int ret;

	do {
		ret = io_uring_submit_and_wait(ring, 1);
	} while (ret == -EINTR);
	if (ret < 0)
		return ret;
	do {
		ret = io_uring_wait_cqe(ring, cqe);
	} while (ret == -EINTR);
	return ret;
}

/* Return: 0 when a read through the ring gives what pread() gives; -errno with the step. */
static int probe_read(struct io_uring *ring, int fd, const char **step)
{
	char got[PROBE_LEN], want[PROBE_LEN];
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	int ret;

	*step = "io_uring_enter";
	sqe = io_uring_get_sqe(ring);
	if (!sqe)
		return -EIO;
	io_uring_prep_read(sqe, fd, got, sizeof(got), 0);
	ret = submit_one(ring, &cqe);
	if (ret < 0)
		return ret;
	*step = "a read of one block through it";
	ret = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	if (ret < 0)
		return ret;
	if (ret != (int)sizeof(got) || pread(fd, want, sizeof(want), 0) != (ssize_t)sizeof(want) ||
	    memcmp(got, want, sizeof(got)))
		return -EIO;
	return 0;
}

/* A read of target 0, which is never one. Return: 0 when the driver says so; -errno with the step. */
static int probe_command(struct io_uring *ring, int drv, const char **step)
{
	const struct penstock_drv_read none = { .len = 4096 };
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	int ret;

	*step = "a command to the driver";
	sqe = io_uring_get_sqe(ring);
	if (!sqe)
		return -EIO;
	memset(sqe, 0, 2 * sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = drv;
	sqe->cmd_op = penstock_drv_read_cmd(&none, sqe->cmd);
	ret = submit_one(ring, &cqe);
	if (ret < 0)
		return ret;
	ret = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return ret == -ENOENT ? 0 : ret < 0 ? ret : -EIO;
}

int penstock_ring_probe(uint32_t flags, int drv, const char **step)
{
	struct io_uring ring;
	struct io_uring_params p = { .flags = flags };
	int fd, ret;

	*step = "io_uring_setup";
	ret = io_uring_queue_init_params(PROBE_ENTRIES, &ring, &p);
	if (ret)
		return ret;
	*step = "io_uring_register(ENABLE_RINGS)";
	ret = flags & IORING_SETUP_R_DISABLED ? penstock_ring_enable(&ring) : 0;
	if (ret)
		goto exit_ring;
	*step = "opening a file to read";
	fd = open_probe_file();
	if (fd < 0) {
		ret = fd;
		goto exit_ring;
	}
	ret = probe_read(&ring, fd, step);
	close(fd);
	if (!ret && drv >= 0)
		ret = probe_command(&ring, drv, step);
exit_ring:
	io_uring_queue_exit(&ring);
	return ret;
}

int penstock_ring_probe_commands(const char **step)
{
	struct io_uring_params p = { .flags = IORING_SETUP_SQE128 };
	struct io_uring_probe *probe;
	struct io_uring ring;
	int ret;

	*step = "io_uring_setup with entries of 128 bytes";
	ret = io_uring_queue_init_params(PROBE_ENTRIES, &ring, &p);
	if (ret)
		return ret;
	*step = "the opcode URING_CMD";
	probe = io_uring_get_probe_ring(&ring);
	if (!probe || !io_uring_opcode_supported(probe, IORING_OP_URING_CMD))
		ret = -EOPNOTSUPP;
	io_uring_free_probe(probe);
	io_uring_queue_exit(&ring);
	return ret;
}
