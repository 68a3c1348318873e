// SPDX-License-Identifier: MIT
/*
 * Routes of models whose files differ: each file is judged, one that a route cannot
 * take refuses it for the model, one that proves nothing leaves it to the others on its
 * drive, and what comes from a file says nothing about the next model's.
 */
#include "../fake/drv.c"
#include "route.h"
#include "stream_fixture.h"

#define DEVICE		"peer:0000:05:01.0"
#define MODEL_BYTES	(40 * (uint64_t)(TINY_EXPERT + 2 * 4096))

static struct penstock_error err;

/* A second shard; its one tensor is the output matrix, which nothing reads. */
struct shard {
	char path[PATH_MAX + 64];
	uint64_t size;
};

/* @data: of the tensor; 0 = a hole of a length that no other file has */
static void split(struct tiny_model *m, struct shard *s, uint64_t data)
{
	uint64_t bytes = data ? data : 8u << 20, len;
	char header[200], first[PATH_MAX + 64];
	FILE *f;

	snprintf(first, sizeof(first), "%s/model-00001-of-00002.safetensors", m->dir);
	ASSERT_EQ(0, rename(m->file, first));
	snprintf(m->file, sizeof(m->file), "%.4000s/model-00001-of-00002.safetensors", m->dir);
	snprintf(s->path, sizeof(s->path), "%s/model-00002-of-00002.safetensors", m->dir);
	snprintf(header, sizeof(header), "{\"lm_head.weight\":{\"dtype\":\"U8\",\"shape\":[%llu],\"data_offsets\":[0,%llu]}}",
		 (unsigned long long)bytes, (unsigned long long)bytes);
	len = strlen(header);
	s->size = sizeof(len) + len + bytes;
	f = fopen(s->path, "w");
	ASSERT_TRUE(f);
	tiny_put(f, &len, sizeof(len));
	tiny_put(f, header, len);
	for (uint64_t i = 0; i < data; i++)
		fputc((int)(i * 31 >> 3 & 0xff), f);
	ASSERT_EQ(0, fclose(f));
	ASSERT_EQ(0, truncate(s->path, (off_t)s->size));
}

static void open_ctx(struct fixture *f, const char *route)
{
	struct penstock_options o = PENSTOCK_OPTIONS_INIT;

	memset(f, 0, sizeof(*f));
	o.cache_bytes = 2 * MODEL_BYTES;
	o.device = DEVICE;
	o.route = route;
	o.flags = PENSTOCK_F_CALLER_PROGRESS;
	if (penstock_open(&o, &f->ctx, &err))
		TEST_FAIL_(1, "%s", err.text);
	ASSERT_EQ(0, penstock_queue_create(f->ctx, &f->q));
	tiny_model_make(&f->tiny);
}

static int open_model(struct fixture *f)
{
	struct penstock_model_options o = { .size = sizeof(o), .cache_bytes = MODEL_BYTES };

	return penstock_model_open(f->ctx, f->tiny.dir, &o, &f->model, &err);
}

/* The fixture's model is another one from here on; the first is closed, its files are gone. */
static void next_model(struct fixture *f, struct shard *s)
{
	penstock_model_close(f->model);
	f->model = NULL;
	if (s)
		unlink(s->path);
	tiny_model_remove(&f->tiny);
	tiny_model_make(&f->tiny);
	if (open_model(f))
		TEST_FAIL_(1, "%s", err.text);
}

static void close_all(struct fixture *f, struct shard *s)
{
	if (s)
		unlink(s->path);
	teardown(f);
	EXPECT_EQ(0u, fake_drv.nr_regions);
	EXPECT_EQ(0u, fake_drv.nr_targets);
}

static void fetch_good(struct fixture *f)
{
	int32_t ids[] = { 0, 7, 15 };

	for (uint32_t l = 0; l < TINY_LAYERS; l++)
		fetch_and_check(f, f->q, l, ids, 3);
}

static bool usable(struct fixture *f, const char *route)
{
	struct penstock_status s = { .size = sizeof(s) };

	EXPECT_EQ(0, penstock_status(f->ctx, &s));
	for (uint32_t i = 0; i < s.nr_routes; i++)
		if (!strcmp(s.routes[i].name, route))
			return s.routes[i].usable;
	TEST_FAIL_(1, "no route %s in the status", route);
	return false;
}

TEST(refused_file_says_nothing_about_the_next_model)
{
	struct fixture f;

	open_ctx(&f, NULL);
	fake_drv.target_reason = 16;
	ASSERT_EQ(0, open_model(&f));
	EXPECT_FALSE(usable(&f, "direct"));
	fake_drv.target_reason = 0;
	next_model(&f, NULL);
	EXPECT_TRUE(usable(&f, "direct"));
	EXPECT_TRUE(usable(&f, "mapped"));
	/* the other way round: what is known of the drive is no word for the file */
	fake_drv.target_peer_reason = 10;
	next_model(&f, NULL);
	EXPECT_FALSE(usable(&f, "direct"));
	EXPECT_FALSE(usable(&f, "mapped"));
	EXPECT_TRUE(usable(&f, "bounce"));
	fetch_good(&f);
	close_all(&f, NULL);
}

/* Of a small file, which does not stand for the drive. */
static void small_file_refuses(const char *route, uint32_t reason, uint32_t peer_reason, const char *text)
{
	struct fixture f;
	struct shard s;

	open_ctx(&f, route);
	split(&f.tiny, &s, 100000);
	fake_drv.target_reason = reason;
	fake_drv.target_peer_reason = peer_reason;
	fake_drv.target_size = s.size;
	EXPECT_EQ(-EOPNOTSUPP, open_model(&f));
	EXPECT_HAS(err.text, "model-00002-of-00002.safetensors");
	EXPECT_HAS(err.text, text);
	fake_drv.target_size = 1;
	ASSERT_EQ(0, open_model(&f));
	EXPECT_TRUE(usable(&f, route));
	fetch_good(&f);
	close_all(&f, &s);
}

TEST(every_file_is_judged_for_route_direct)
{
	small_file_refuses("direct", 16, 0, "reason 16");
	small_file_refuses("direct", 0, 10, "reason 10");
}
TEST(every_file_is_judged_for_route_mapped)
{
	small_file_refuses("mapped", 0, 10, "reason 10");
}

/* What the kernel would copy through the page cache is no route of the drive's. */
TEST(file_on_another_file_system_is_named)
{
	char there[] = "/dev/shm/penstock-shard-XXXXXX";
	char cmd[2 * PATH_MAX + 256];
	struct fixture f;
	struct shard s;
	int fd;

	fd = mkstemp(there);
	if (fd < 0)
		SKIP("no /dev/shm: %s", strerror(errno));
	close(fd);
	open_ctx(&f, "mapped");
	split(&f.tiny, &s, 100000);
	snprintf(cmd, sizeof(cmd), "mv '%s' %s && ln -s %s '%s'", s.path, there, there, s.path);
	ASSERT_EQ(0, system(cmd));
	EXPECT_EQ(-EOPNOTSUPP, open_model(&f));
	EXPECT_HAS(err.text, "model-00002-of-00002.safetensors: the file is read through the page cache: tmpfs");
	unlink(there);
	close_all(&f, &s);
}

/* The largest file on the drive, and no block in it can be told from cleared memory. */
TEST(hole_leaves_the_verdict_to_other_files)
{
	struct fixture f;
	struct shard s;

	open_ctx(&f, "direct");
	split(&f.tiny, &s, 0);
	if (open_model(&f))
		TEST_FAIL_(1, "%s", err.text);
	fetch_good(&f);
	/* and so it is when a PCI device comes */
	fake_drv.generation++;
	fake_drv_event(PENSTOCK_DRV_TOPOLOGY, 0, 0);
	usleep(2000);
	fetch_and_check(&f, f.q, 1, (int32_t[]){ 3 }, 1);
	next_model(&f, &s);
	EXPECT_TRUE(usable(&f, "direct"));
	fetch_good(&f);
	close_all(&f, NULL);
}

/* The canary's read failed in a bad moment. */
TEST(bad_moment_says_nothing_about_the_next_model)
{
	struct fixture f;

	open_ctx(&f, NULL);
	fake_drv.read_error = -ENOMEM;
	ASSERT_EQ(0, open_model(&f));
	EXPECT_FALSE(usable(&f, "direct"));
	fake_drv.read_error = 0;
	next_model(&f, NULL);
	EXPECT_TRUE(usable(&f, "direct"));
	/* but what the canary found is */
	close_all(&f, NULL);
	open_ctx(&f, NULL);
	fake_drv.lie = FAKE_NOTHING;
	ASSERT_EQ(0, open_model(&f));
	fake_drv.lie = FAKE_HONEST;
	next_model(&f, NULL);
	EXPECT_FALSE(usable(&f, "direct"));
	close_all(&f, NULL);
}

/* A file that O_DIRECT copies through the page cache, on the drive of files where it does not. */
TEST(mapped_is_refused_to_files_in_the_page_cache)
{
	struct penstock_mem_source source = { .ops = &penstock_mem_peer };
	struct penstock_file file = { .mode = PENSTOCK_FILE_DIRECT_CACHED, .why = "compressed" };
	struct penstock_store store = { .files = &file, .nr_files = 1 };
	struct penstock_route_target target = { .info = { .id = 3 } };
	struct penstock_route_pair pair = { .source = &source, .store = &store, .target = &target };
	struct penstock_route_verdict of[PENSTOCK_ROUTES] = { 0 };

	penstock_route_judge_file(&pair, of);
	EXPECT_EQ(-EOPNOTSUPP, of[PENSTOCK_ROUTE_MAPPED].code);
	EXPECT_HAS(of[PENSTOCK_ROUTE_MAPPED].reason, "page cache: compressed");
	/* the driver said that it reads it directly */
	EXPECT_EQ(0, of[PENSTOCK_ROUTE_DIRECT].code);
	EXPECT_EQ(0, of[PENSTOCK_ROUTE_BOUNCE].code);
	file.mode = PENSTOCK_FILE_DIRECT;
	memset(of, 0, sizeof(of));
	penstock_route_judge_file(&pair, of);
	EXPECT_EQ(0, of[PENSTOCK_ROUTE_MAPPED].code);
}

TEST_HARNESS_MAIN
