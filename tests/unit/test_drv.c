// SPDX-License-Identifier: MIT
/* The driver's node where there is none: what is said, and that the manual says the same. */
#include <ctype.h>
#include <fcntl.h>
#include <sys/stat.h>
#include "../../uapi/linux/penstock.h"
#include "drv.h"
#include "harness.h"
#include "util.h"

/* The last number of the ABI's header; a new one needs a sentence here. */
#define LAST_REASON PENSTOCK_REASON_MERGES

TEST(drv_has_a_sentence_for_each_reason)
{
	uint32_t i, j;

	for (i = 1; i <= LAST_REASON; i++) {
		const char *text = penstock_drv_reason_text(i);

		ASSERT_TRUE(penstock_drv_reason_name(i) != NULL);
		EXPECT_LE(30u, strlen(text));
		EXPECT_LE(strlen(text), 200u);
		/* cause, then remedy or consequence */
		EXPECT_TRUE(strchr(text, ':') || strchr(text, ';'));
		EXPECT_TRUE(text[strlen(text) - 1] != '.');
		for (j = 1; j < i; j++)
			EXPECT_TRUE(strcmp(text, penstock_drv_reason_text(j)) != 0);
	}
	EXPECT_STREQ("UNREACHABLE", penstock_drv_reason_name(PENSTOCK_REASON_UNREACHABLE));
	EXPECT_STREQ("PROVIDER_REFUSED", penstock_drv_reason_name(PENSTOCK_REASON_PROVIDER_REFUSED));
}

TEST(drv_says_so_of_unknown_reasons)
{
	EXPECT_TRUE(penstock_drv_reason_name(0) == NULL);
	EXPECT_TRUE(penstock_drv_reason_name(LAST_REASON + 1) == NULL);
	EXPECT_TRUE(penstock_drv_reason_name(UINT32_MAX) == NULL);
	EXPECT_HAS(penstock_drv_reason_text(LAST_REASON + 1), "older than the module");
	EXPECT_HAS(penstock_drv_reason_text(0), "no reason");
}

/* White space of any kind and length is one blank. */
static char *squeezed(const char *text)
{
	char *out = malloc(strlen(text) + 1), *o = out;

	ASSERT_TRUE(out != NULL);
	for (; *text; text++)
		if (!isspace((unsigned char)*text))
			*o++ = *text;
		else if (o > out && o[-1] != ' ')
			*o++ = ' ';
	*o = 0;
	return out;
}

/* "Will the direct route work on my host?" repeats what the tool prints. */
TEST(drv_reasons_are_in_the_manual)
{
	const char *top = getenv("PENSTOCK_TOP");
	char path[512], *page = calloc(1, 1 << 17), *flat;
	uint32_t i;
	FILE *f;

	snprintf(path, sizeof(path), "%s/Documentation/direct-route.rst", top ? top : ".");
	f = fopen(path, "r");
	ASSERT_TRUE(f && page);
	page[fread(page, 1, (1 << 17) - 1, f)] = 0;
	fclose(f);
	flat = squeezed(page);
	for (i = 1; i <= LAST_REASON; i++) {
		char *text = squeezed(penstock_drv_reason_text(i));

		EXPECT_HAS(flat, text);
		EXPECT_HAS(flat, penstock_drv_reason_name(i));
		free(text);
	}
	free(flat);
	free(page);
}

TEST(drv_open_names_the_remedy)
{
	struct penstock_error err = { 0 };
	char path[] = "/var/tmp/penstock-drv-XXXXXX";
	int fd;

	EXPECT_EQ(-ENODEV, penstock_drv_open("/var/tmp/there-is-no-node", &err));
	EXPECT_HAS(err.text, "modprobe penstock");
	/* a file that is no node of the module */
	fd = mkstemp(path);
	ASSERT_GE(fd, 0);
	close(fd);
	EXPECT_EQ(-EOPNOTSUPP, penstock_drv_open(path, &err));
	EXPECT_HAS(err.text, "no node of the penstock module");
	if (!geteuid() && seteuid(65534))
		TEST_FAIL_(1, "seteuid: %d", errno);
	EXPECT_EQ(0, geteuid() == 65534 ? 0 : chmod(path, 0));
	EXPECT_EQ(-EACCES, penstock_drv_open(path, &err));
	EXPECT_HAS(err.text, "group penstock");
	if (geteuid() == 65534)
		EXPECT_EQ(0, seteuid(0));
	unlink(path);
}

TEST(drv_calls_fail_on_what_is_no_node)
{
	struct penstock_drv_read reads[2] = { { .target = 1, .region = 1, .len = 4096 }, { .target = 1 } };
	struct penstock_drv_region region = { .id = 1, .mmap_off = PENSTOCK_DRV_NOWHERE };
	struct penstock_drv_target target;
	struct penstock_drv_probe probe;
	struct penstock_drv_event event;
	struct penstock_drv_stat stat;
	struct penstock_drv_peer peer;
	struct penstock_drv_info info;
	struct penstock_error err;
	uint32_t reason = 99;
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	EXPECT_EQ(-ENOTTY, penstock_drv_info(fd, &info, &err));
	EXPECT_EQ(-ENOTTY, penstock_drv_peer(fd, 0, &peer, &err));
	EXPECT_EQ(-ENOTTY, penstock_drv_target_add(fd, fd, &target, &reason, &err));
	EXPECT_EQ(0u, reason);
	EXPECT_EQ(-ENOTTY, penstock_drv_target_del(fd, 1, &err));
	EXPECT_EQ(-ENOTTY, penstock_drv_region_alloc(fd, 4096, -1, 0, &region, &err));
	EXPECT_EQ(-ENOTTY, penstock_drv_region_pin(fd, &err, 4096, &region, &err));
	EXPECT_EQ(-ENOTTY, penstock_drv_region_peer(fd, 1, 4096, &region, NULL, &err));
	EXPECT_EQ(-ENOTTY, penstock_drv_region_import(fd, 0, 0, 4096, &region, NULL, &err));
	EXPECT_EQ(-ENOTTY, penstock_drv_region_probe(fd, 1, 1, &probe, &err));
	EXPECT_EQ(-ENOTTY, penstock_drv_region_free(fd, 1, true, &err));
	EXPECT_EQ(-ENOTTY, penstock_drv_region_export(fd, 1, &err));
	EXPECT_EQ(-ENOTTY, penstock_drv_region_stat(fd, 1, &stat, &err));
	EXPECT_EQ(-ENOTTY, penstock_drv_read(fd, reads, 2));
	EXPECT_EQ(-EINTR, reads[1].res);
	EXPECT_TRUE(penstock_drv_map(fd, &region, 4096, &err) == NULL);
	EXPECT_HAS(err.text, "cannot be mapped");
	EXPECT_TRUE(penstock_drv_event(fd, &event) <= 0);
	close(fd);
	penstock_drv_close(-1);
}

TEST(drv_read_command_is_the_abis)
{
	const struct penstock_drv_read r = { .target = 3, .region = 4, .off = 1ull << 40, .region_off = 8192, .len = 4096 };
	struct penstock_uring_read cmd;

	memset(&cmd, 0xff, sizeof(cmd));
	EXPECT_EQ(PENSTOCK_URING_CMD_READ, penstock_drv_read_cmd(&r, &cmd));
	EXPECT_EQ(3u, cmd.target_id);
	EXPECT_EQ(4u, cmd.region_id);
	EXPECT_EQ(1ull << 40, cmd.offset);
	EXPECT_EQ(8192u, cmd.region_offset);
	EXPECT_EQ(4096u, cmd.length);
	EXPECT_EQ(0u, cmd.flags);
	for (unsigned int i = 0; i < PENSTOCK_ARRAY_SIZE(cmd.__reserved); i++)
		EXPECT_EQ(0u, cmd.__reserved[i]);
}

TEST_HARNESS_MAIN
