// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who may read into what: memory that a process pinned takes reads from that
 * process alone, whoever else comes to hold the descriptor: by fork, by exec,
 * by SCM_RIGHTS. Memory of the module's own goes with the descriptor.
 */
#include <sys/socket.h>
#include "penstock_util.h"
#include "kselftest_harness.h"

#define LEN (4 * PAGE)

FIXTURE(who) {
	int node, file;
	uint32_t target, pinned, allocated;
	char *memory;
};

FIXTURE_SETUP(who)
{
	struct penstock_target_add add;
	struct penstock_region_pin pin;
	struct penstock_region_alloc alloc;

	self->file = test_file_open(0);
	if (self->file < 0) {
		SKIP(return, "no PENSTOCK_TEST_FILE");
	}
	/* Not close-on-exec: it is to be inherited. */
	self->node = node_open(0);
	ASSERT_LE(0, self->node);
	self->memory = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(self->memory != MAP_FAILED);
	ASSERT_EQ(0, target_add(self->node, self->file, &add));
	ASSERT_EQ(0, region_pin(self->node, to_u64(self->memory), LEN, &pin));
	ASSERT_EQ(0, region_alloc(self->node, LEN, &alloc));
	self->target = add.out_target_id;
	self->pinned = pin.out_region_id;
	self->allocated = alloc.out_region_id;
}

FIXTURE_TEARDOWN(who)
{
	close(self->node);
	close(self->file);
}

/* What a process gets that is not the one who pinned: 0 when it is as documented. */
static int try_as_other(int node, uint32_t target, uint32_t pinned, uint32_t allocated)
{
	struct penstock_region_stat stat;

	if (read_one(node, target, pinned, 0, 0, PAGE) != -EPERM)
		return 1;
	if (read_one(node, target, allocated, 0, 0, PAGE) != PAGE)
		return 2;
	/* To look at the counters is no read. */
	return region_stat(node, pinned, &stat) ? 3 : 0;
}

static int child_status(pid_t pid)
{
	int status = -1;

	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

TEST_F(who, creator_may)
{
	EXPECT_EQ((int64_t)PAGE, read_one(self->node, self->target, self->pinned, 0, 0, PAGE));
	EXPECT_EQ((int64_t)PAGE, read_one(self->node, self->target, self->allocated, 0, 0, PAGE));
}

TEST_F(who, child_may_not)
{
	pid_t pid = fork();

	if (!pid)
		_exit(try_as_other(self->node, self->target, self->pinned, self->allocated));
	EXPECT_EQ(0, child_status(pid));
	/* And the creator still may. */
	EXPECT_EQ((int64_t)PAGE, read_one(self->node, self->target, self->pinned, 0, 0, PAGE));
}

TEST_F(who, program_after_exec_may_not)
{
	char text[4][16];
	pid_t pid;

	snprintf(text[0], sizeof(text[0]), "%d", self->node);
	snprintf(text[1], sizeof(text[1]), "%u", self->target);
	snprintf(text[2], sizeof(text[2]), "%u", self->pinned);
	snprintf(text[3], sizeof(text[3]), "%u", self->allocated);
	pid = fork();
	if (!pid) {
		setenv("PENSTOCK_WHO_EXEC", "1", 1);
		execl("/proc/self/exe", "penstock_who", text[0], text[1], text[2], text[3], NULL);
		_exit(100);
	}
	EXPECT_EQ(0, child_status(pid));
}

/* In the program that was started above, before any test begins. */
__attribute__((constructor)) static void after_exec(int argc, char **argv)
{
	if (!getenv("PENSTOCK_WHO_EXEC"))
		return;
	_exit(argc == 5 ? try_as_other(atoi(argv[1]), (uint32_t)atoi(argv[2]), (uint32_t)atoi(argv[3]),
				       (uint32_t)atoi(argv[4])) : 101);
}

static int send_fd(int sock, int fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {};
	char byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	return sendmsg(sock, &msg, 0) == 1 ? 0 : -errno;
}

static int receive_fd(int sock)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	struct cmsghdr *c;
	int fd;

	if (recvmsg(sock, &msg, 0) != 1)
		return -errno;
	c = CMSG_FIRSTHDR(&msg);
	if (!c || c->cmsg_type != SCM_RIGHTS)
		return -ENODATA;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

TEST_F(who, receiver_of_the_descriptor_may_not)
{
	int pair[2];
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	pid = fork();
	if (!pid) {
		int node;

		/* It has nothing but what it is sent. */
		close(self->node);
		node = receive_fd(pair[1]);
		_exit(node < 0 ? 102 : try_as_other(node, self->target, self->pinned, self->allocated));
	}
	EXPECT_EQ(0, send_fd(pair[0], self->node));
	EXPECT_EQ(0, child_status(pid));
	close(pair[0]);
	close(pair[1]);
}

TEST_HARNESS_MAIN
