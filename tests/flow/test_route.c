// SPDX-License-Identifier: MIT
/*
 * Routes into a device's memory, over a driver that is none (tests/fake/drv.c):
 * each brings the same bytes, a bad one is refused with its reason and never
 * replaced unasked, and what happens to the device later is told.
 */
#include "../fake/drv.c"
#include "stream_fixture.h"

#define DEVICE "peer:0000:05:01.0"

static struct penstock_error err;

/* Return: of the call that failed, or 0; the fixture is to be closed in any case. */
static int try_open(struct fixture *f, const char *device, const char *route, uint32_t flags, uint32_t slots)
{
	struct penstock_options o = PENSTOCK_OPTIONS_INIT;
	int rc;

	memset(f, 0, sizeof(*f));
	tiny_model_make(&f->tiny);
	o.cache_bytes = slots * (uint64_t)(TINY_EXPERT + 2 * 4096);
	o.device = device;
	o.route = route;
	o.flags = flags;
	rc = penstock_open(&o, &f->ctx, &err);
	if (!rc)
		rc = penstock_model_open(f->ctx, f->tiny.dir, NULL, &f->model, &err);
	if (!rc)
		rc = penstock_queue_create(f->ctx, &f->q);
	return rc;
}

static void open_good(struct fixture *f, const char *device, const char *route, uint32_t flags)
{
	if (try_open(f, device, route, flags, 40))
		TEST_FAIL_(1, "%s", err.text);
}

static void close_all(struct fixture *f)
{
	teardown(f);
	/* what was taken from the driver was given back */
	EXPECT_EQ(0u, fake_drv.nr_regions);
	EXPECT_EQ(0u, fake_drv.nr_targets);
}

static struct penstock_status status_of(struct fixture *f)
{
	struct penstock_status s = { .size = sizeof(s) };

	EXPECT_EQ(0, penstock_status(f->ctx, &s));
	return s;
}

static const struct penstock_route_status *route_of(const struct penstock_status *s, const char *name)
{
	for (uint32_t i = 0; i < s->nr_routes; i++)
		if (!strcmp(s->routes[i].name, name))
			return &s->routes[i];
	TEST_FAIL_(1, "no route %s in the status", name);
	return NULL;
}

static void fetch_everything(struct fixture *f)
{
	int32_t ids[TINY_EXPERTS];

	for (uint32_t l = 0; l < TINY_LAYERS; l++) {
		for (uint32_t i = 0; i < TINY_EXPERTS; i++)
			ids[i] = (int32_t)i;
		fetch_and_check(f, f->q, l, ids, TINY_EXPERTS);
	}
}

/* The bytes lie in the device, at the place that the slot names. */
static void check_in_bar(struct fixture *f)
{
	struct penstock_ticket *t;
	struct penstock_slot s;
	int32_t id = 3;

	ASSERT_EQ(0, penstock_fetch(f->q, f->model, 1, &id, 1, &t));
	ASSERT_EQ(0, penstock_wait(t, FOR_EVER));
	ASSERT_EQ(0, penstock_ticket_slot(t, 0, &s));
	for (uint32_t p = 0; p < 3; p++) {
		ASSERT_TRUE(s.peer_off[p] + 2 * TINY_ELEMS <= FAKE_BAR);
		EXPECT_EQ(0, memcmp(fake_drv.view + s.peer_off[p], s.ptr[p], 2 * TINY_ELEMS));
	}
	penstock_release(t);
}

static void route_works(const char *route, uint32_t flags)
{
	struct penstock_status s;
	struct fixture f;

	open_good(&f, DEVICE, route, flags);
	fetch_everything(&f);
	check_in_bar(&f);
	s = status_of(&f);
	EXPECT_STREQ(DEVICE, s.device);
	EXPECT_STREQ(route, s.route);
	EXPECT_HAS(s.route_reason, "asked for");
	EXPECT_EQ(1u, s.nr_routes);
	EXPECT_TRUE(route_of(&s, route)->usable);
	EXPECT_TRUE(route_of(&s, route)->bytes_per_s > 0);
	close_all(&f);
}

TEST(route_direct_brings_the_bytes)
{
	route_works("direct", 0);
}
TEST(route_direct_brings_the_bytes_to_a_caller_that_drives)
{
	route_works("direct", PENSTOCK_F_CALLER_PROGRESS);
}
TEST(route_mapped_brings_the_bytes)
{
	route_works("mapped", 0);
}
TEST(route_bounce_brings_the_bytes)
{
	route_works("bounce", 0);
}
/* The fake has no command, as a driver that is older has none: what is used instead has a name. */
TEST(route_direct_without_commands_names_the_ioctl)
{
	struct penstock_status s;
	struct fixture f;

	open_good(&f, DEVICE, "direct", 0);
	fetch_everything(&f);
	s = status_of(&f);
	EXPECT_STREQ("pread", s.io_engine);
	EXPECT_HAS(s.io_reason, "io_uring: ");
	EXPECT_HAS(s.io_reason, "; regions are read by the ioctl REGION_READ on 8 threads");
	close_all(&f);
}
TEST(route_bounce_brings_the_bytes_without_io_uring)
{
	route_works("bounce", PENSTOCK_F_NO_URING | PENSTOCK_F_CALLER_PROGRESS);
}

/* gate, up and down follow one another in the file: one range, one read, whatever the split. */
TEST(route_direct_reads_a_merged_extent_at_once)
{
	struct fixture f;
	uint32_t before;

	open_good(&f, DEVICE, "direct", 0);
	before = fake_drv.nr_reads;
	fetch_everything(&f);
	EXPECT_EQ(TINY_LAYERS * TINY_EXPERTS, (uint32_t)stats_of(&f).reads);
	EXPECT_EQ(TINY_LAYERS * TINY_EXPERTS, fake_drv.nr_reads - before);
	close_all(&f);
}

/* The driver's own memory, for the host. */
TEST(route_direct_into_host_memory_of_the_driver)
{
	struct penstock_status s;
	struct fixture f;

	open_good(&f, "host", "direct", 0);
	fetch_everything(&f);
	s = status_of(&f);
	EXPECT_STREQ("host", s.device);
	EXPECT_STREQ("direct", s.route);
	EXPECT_HAS(s.page_reason, "driver's host memory");
	close_all(&f);
	open_good(&f, "host", "mapped", 0);
	fetch_everything(&f);
	close_all(&f);
}

TEST(route_host_needs_no_driver)
{
	struct penstock_status s;
	struct fixture f;

	fake_drv.open_error = -ENODEV;
	open_good(&f, "host", NULL, 0);
	fetch_everything(&f);
	s = status_of(&f);
	EXPECT_STREQ("host", s.route);
	EXPECT_EQ(0u, s.nr_routes);
	close_all(&f);
}

TEST(route_auto_takes_the_fastest_and_says_so)
{
	struct penstock_status s;
	struct fixture f;

	/* 1 MiB reads of a file of a few MiB from the page cache take less */
	fake_drv.read_ns = 30000000;
	open_good(&f, "peer", "auto", 0);
	fetch_everything(&f);
	s = status_of(&f);
	EXPECT_TRUE(strcmp(s.route, "direct") != 0);
	EXPECT_EQ(3u, s.nr_routes);
	EXPECT_TRUE(route_of(&s, "direct")->usable);
	EXPECT_TRUE(route_of(&s, "direct")->bytes_per_s < route_of(&s, s.route)->bytes_per_s);
	EXPECT_HAS(s.route_reason, "the fastest");
	EXPECT_HAS(s.route_reason, "direct");
	close_all(&f);
}

/* Each kind of lie: asked for, it is an error with the reason; not asked for, another route, and the reason. */
static void liar(enum fake_lie lie, const char *text)
{
	struct penstock_status s;
	struct fixture f;

	fake_drv.lie = lie;
	EXPECT_EQ(-EREMOTEIO, try_open(&f, DEVICE, "direct", 0, 40));
	EXPECT_HAS(err.text, "canary");
	EXPECT_HAS(err.text, text);
	EXPECT_HAS(err.text, DEVICE);
	close_all(&f);
	open_good(&f, DEVICE, NULL, 0);
	fetch_everything(&f);
	s = status_of(&f);
	EXPECT_TRUE(strcmp(s.route, "direct") != 0);
	EXPECT_FALSE(route_of(&s, "direct")->usable);
	EXPECT_HAS(route_of(&s, "direct")->reason, text);
	EXPECT_TRUE(route_of(&s, "bounce")->usable);
	close_all(&f);
}

TEST(route_direct_that_brings_nothing_is_refused)
{
	liar(FAKE_NOTHING, "nothing arrived");
}
TEST(route_direct_that_brings_it_elsewhere_is_refused)
{
	liar(FAKE_ELSEWHERE, "canary");
}
TEST(route_direct_that_brings_a_part_is_refused)
{
	liar(FAKE_SHORT, "only a part arrived");
}
TEST(route_direct_that_mixes_up_is_refused)
{
	liar(FAKE_MIXED_UP, "only");
}

TEST(route_refused_by_the_probe_says_why)
{
	struct penstock_status s;
	struct fixture f;

	fake_drv.probe_reason = 7;
	EXPECT_EQ(-EREMOTEIO, try_open(&f, DEVICE, "direct", 0, 40));
	EXPECT_HAS(err.text, "reason 7");
	EXPECT_EQ(0u, fake_drv.nr_reads);
	close_all(&f);
	EXPECT_EQ(-EREMOTEIO, try_open(&f, DEVICE, "mapped", 0, 40));
	close_all(&f);
	open_good(&f, DEVICE, "auto", 0);
	s = status_of(&f);
	EXPECT_STREQ("bounce", s.route);
	EXPECT_HAS(route_of(&s, "mapped")->reason, "reason 7");
	close_all(&f);
}

TEST(route_refused_for_the_file_says_why)
{
	struct penstock_status s;
	struct fixture f;

	fake_drv.target_reason = 14;
	EXPECT_EQ(-EOPNOTSUPP, try_open(&f, DEVICE, "direct", 0, 40));
	EXPECT_HAS(err.text, "reason 14");
	close_all(&f);
	fake_drv.target_reason = 0;
	fake_drv.target_peer_reason = 10;
	EXPECT_EQ(-EOPNOTSUPP, try_open(&f, DEVICE, "direct", 0, 40));
	EXPECT_HAS(err.text, "reason 10");
	close_all(&f);
	open_good(&f, DEVICE, NULL, 0);
	s = status_of(&f);
	EXPECT_STREQ("bounce", s.route);
	close_all(&f);
}

TEST(route_to_a_peer_that_needs_a_flush_is_bounce)
{
	struct penstock_status s;
	struct fixture f;

	fake_drv.needs_flush = true;
	open_good(&f, DEVICE, NULL, 0);
	s = status_of(&f);
	EXPECT_STREQ("bounce", s.route);
	EXPECT_HAS(route_of(&s, "direct")->reason, "flush");
	close_all(&f);
}

/* Nobody can look, so nothing is believed. */
TEST(route_to_memory_that_cannot_be_mapped_is_refused)
{
	struct fixture f;

	fake_drv.unmappable = true;
	EXPECT_TRUE(try_open(&f, DEVICE, NULL, 0, 40) < 0);
	EXPECT_HAS(err.text, "no route");
	EXPECT_HAS(err.text, "nobody can look at its memory");
	close_all(&f);
}

TEST(route_through_the_page_cache_is_bounce)
{
	struct penstock_status s;
	struct fixture f;

	open_good(&f, DEVICE, NULL, PENSTOCK_F_NO_DIRECT);
	fetch_everything(&f);
	s = status_of(&f);
	EXPECT_STREQ("bounce", s.route);
	EXPECT_HAS(route_of(&s, "direct")->reason, "page cache");
	close_all(&f);
}

static void fetch_fails(struct fixture *f, int code, const char *text)
{
	int32_t ids[] = { 0, 5 };
	struct penstock_ticket *t;
	int rc;

	rc = penstock_fetch(f->q, f->model, 2, ids, 2, &t);
	if (!rc) {
		rc = penstock_wait(t, FOR_EVER);
		EXPECT_HAS(penstock_errmsg(f->q), text);
		penstock_release(t);
	}
	EXPECT_EQ(code, rc);
	EXPECT_HAS(penstock_errmsg(f->q), text);
}

/* Some drives say EREMOTEIO of their own errors: the driver knows better. */
TEST(remote_io_error_with_a_path_is_an_io_error)
{
	struct fixture f;

	open_good(&f, DEVICE, "direct", 0);
	fake_drv.read_error = -EREMOTEIO;
	fake_drv.fail_after = 0;
	fetch_fails(&f, -EIO, "read ");
	/* the verdict stands: the drive may be better next time */
	fake_drv.read_error = 0;
	fetch_everything(&f);
	close_all(&f);
}

TEST(remote_io_error_without_a_path_ends_the_route)
{
	struct fixture f;

	open_good(&f, DEVICE, "direct", 0);
	fake_drv.read_error = -EREMOTEIO;
	fake_drv.probe_reason = 7;
	fetch_fails(&f, -EREMOTEIO, "the drive cannot reach it any more: reason 7");
	/* for good, and by no other route */
	fake_drv.read_error = 0;
	fetch_fails(&f, -EREMOTEIO, "cannot reach");
	close_all(&f);
}

TEST(revoked_memory_is_told_with_the_reason)
{
	struct fixture f;
	uint32_t region;

	open_good(&f, DEVICE, "direct", 0);
	/* the canary's is the first, the slots' the last */
	for (region = FAKE_MAX - 1; region && !fake_drv.regions[region].used; region--)
		;
	fake_drv.read_error = -ENODEV;
	fake_drv_event(PENSTOCK_DRV_REVOKED, region, 25);
	fetch_fails(&f, -ENODEV, "its memory was taken away: reason 25");
	fetch_fails(&f, -ENODEV, "reason 25");
	close_all(&f);
}

/* The peer goes while the library's own thread writes to it or looks at it. */
static void peer_vanishes(const char *route, uint32_t flags)
{
	struct fixture f;
	uint32_t region;
	int32_t id = 9;

	open_good(&f, DEVICE, route, flags);
	fetch_and_check(&f, f.q, 1, &id, 1);
	for (region = FAKE_MAX - 1; region && !fake_drv.regions[region].used; region--)
		;
	fake_drv_vanish();
	fake_drv_event(PENSTOCK_DRV_REVOKED, region, 25);
	fetch_fails(&f, -ENODEV, "its memory was taken away: reason 25");
	close_all(&f);
}

TEST(vanished_peer_is_an_error_to_route_bounce)
{
	peer_vanishes("bounce", 0);
	peer_vanishes("bounce", PENSTOCK_F_CALLER_PROGRESS);
	peer_vanishes("bounce", PENSTOCK_F_NO_URING);
}
TEST(vanished_peer_is_an_error_to_route_mapped)
{
	peer_vanishes("mapped", 0);
	peer_vanishes("mapped", PENSTOCK_F_NO_URING);
}

/* Before its reason is heard: the read has failed for the device, all the same. */
TEST(vanished_peer_without_a_word_is_enodev)
{
	struct fixture f;

	open_good(&f, DEVICE, "bounce", 0);
	fake_drv_vanish();
	fetch_fails(&f, -ENODEV, "read ");
	close_all(&f);
	open_good(&f, DEVICE, "mapped", 0);
	fake_drv_vanish();
	fetch_fails(&f, -ENODEV, "read ");
	close_all(&f);
}

TEST(peer_that_vanishes_under_the_canary_is_an_error)
{
	struct fixture f;

	fake_drv.lie = FAKE_GONE;
	EXPECT_EQ(-ENODEV, try_open(&f, DEVICE, "direct", 0, 40));
	EXPECT_HAS(err.text, "canary of ");
	close_all(&f);
}

/* Staging for all reads would be more than bounce may take: they become smaller. */
TEST(route_bounce_reads_in_pieces_that_fit_its_staging)
{
	struct penstock_options o = PENSTOCK_OPTIONS_INIT;
	struct fixture f;

	memset(&f, 0, sizeof(f));
	tiny_model_make(&f.tiny);
	o.cache_bytes = 40 * (uint64_t)(TINY_EXPERT + 2 * 4096);
	o.device = DEVICE;
	o.route = "bounce";
	o.queue_depth = 192;
	o.split_bytes = 64u << 20;
	if (penstock_open(&o, &f.ctx, &err) || penstock_model_open(f.ctx, f.tiny.dir, NULL, &f.model, &err))
		TEST_FAIL_(1, "%s", err.text);
	ASSERT_EQ(0, penstock_queue_create(f.ctx, &f.q));
	fetch_everything(&f);
	close_all(&f);
}

static void topology_changes(void)
{
	fake_drv.generation++;
	fake_drv_event(PENSTOCK_DRV_TOPOLOGY, 0, 0);
}

TEST(changed_topology_runs_the_canary_again)
{
	struct fixture f;
	int32_t id = 1;
	uint32_t before;

	open_good(&f, DEVICE, "direct", PENSTOCK_F_CALLER_PROGRESS);
	fetch_and_check(&f, f.q, 0, &id, 1);
	before = fake_drv.nr_reads;
	topology_changes();
	usleep(2000);
	id = 2;
	fetch_and_check(&f, f.q, 0, &id, 1);
	/* eight blocks and the expert */
	EXPECT_EQ(before + 9, fake_drv.nr_reads);
	topology_changes();
	fake_drv.lie = FAKE_NOTHING;
	usleep(2000);
	fetch_fails(&f, -EREMOTEIO, "after a change on the PCI bus its route is no longer good");
	EXPECT_HAS(penstock_errmsg(f.q), "nothing arrived");
	close_all(&f);
}

TEST(second_model_on_the_drive_is_not_examined_again)
{
	struct penstock_model *second;
	struct fixture f;
	uint32_t before;
	struct penstock_model_options o = { .size = sizeof(o), .cache_bytes = 20 * (TINY_EXPERT + 2 * 4096) };
	struct penstock_options opts = PENSTOCK_OPTIONS_INIT;

	memset(&f, 0, sizeof(f));
	tiny_model_make(&f.tiny);
	opts.cache_bytes = 2 * o.cache_bytes;
	opts.device = DEVICE;
	opts.route = "direct";
	ASSERT_EQ(0, penstock_open(&opts, &f.ctx, &err));
	ASSERT_EQ(0, penstock_model_open(f.ctx, f.tiny.dir, &o, &f.model, &err));
	ASSERT_EQ(0, penstock_queue_create(f.ctx, &f.q));
	before = fake_drv.nr_reads;
	EXPECT_TRUE(before > 0);
	if (penstock_model_open(f.ctx, f.tiny.dir, &o, &second, &err))
		TEST_FAIL_(1, "%s", err.text);
	EXPECT_EQ(before, fake_drv.nr_reads);
	penstock_model_close(second);
	/* a card came: what was found is void */
	fake_drv.generation++;
	ASSERT_EQ(0, penstock_model_open(f.ctx, f.tiny.dir, &o, &second, &err));
	EXPECT_TRUE(fake_drv.nr_reads > before);
	penstock_model_close(second);
	close_all(&f);
}

TEST(resize_gives_peer_memory_back)
{
	uint64_t small = 12 * (uint64_t)(TINY_EXPERT + 2 * 4096);
	struct fixture f;

	open_good(&f, DEVICE, "direct", 0);
	fetch_everything(&f);
	ASSERT_EQ(0, penstock_resize(f.ctx, small, &err));
	ASSERT_EQ(0, penstock_resize(f.ctx, 3 * small, &err));
	fetch_everything(&f);
	close_all(&f);
}

TEST(peer_memory_that_is_too_small_says_so)
{
	struct fixture f;

	fake_drv.bar_bytes = 256 << 10;
	EXPECT_EQ(-ENOSPC, try_open(&f, DEVICE, "bounce", 0, 40));
	EXPECT_HAS(err.text, "of the fake BAR");
	close_all(&f);
}

static void open_fails(const char *device, const char *route, int code, const char *text)
{
	struct penstock_options o = PENSTOCK_OPTIONS_INIT;
	struct penstock_ctx *ctx;

	o.device = device;
	o.route = route;
	EXPECT_EQ(code, penstock_open(&o, &ctx, &err));
	EXPECT_HAS(err.text, text);
}

TEST(devices_and_routes_that_are_none)
{
	open_fails("peer:0000:06:00.0", NULL, -ENODEV, "it has " DEVICE);
	open_fails("peer:nonsense", NULL, -EINVAL, "PCI address");
	open_fails("peer:00:1f.9", NULL, -EINVAL, "PCI address");
	open_fails("peer", "host", -EOPNOTSUPP, "\"bounce\"");
	open_fails("peer", "fast", -EINVAL, "there are");
	open_fails("host", "bounce", -EOPNOTSUPP, "\"mapped\"");
	open_fails("peers", NULL, -EINVAL, "there are");
	fake_drv.no_peer = true;
	open_fails("peer", NULL, -EOPNOTSUPP, "reason 2");
	fake_drv.open_error = -EACCES;
	open_fails("peer", NULL, -EACCES, PENSTOCK_DRV_NODE);
	fake_drv.open_error = -ENODEV;
	open_fails("host", "direct", -ENODEV, PENSTOCK_DRV_NODE);
}

TEST_HARNESS_MAIN
