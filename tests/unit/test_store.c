// SPDX-License-Identifier: MIT
/* The files: opened without harm, probed by reading, watched for change. */
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <linux/magic.h>
#include "files.h"
#include "store.h"
#include "util.h"

static struct penstock_store store;
static struct penstock_error err;

static uint32_t add(const char *path)
{
	uint32_t nr = UINT32_MAX;
	int ret = penstock_store_add(&store, path, &nr, &err);

	if (ret)
		TEST_FAIL_(1, "%s", err.text);
	return nr;
}

static uint32_t add_new(const char *name, uint64_t size)
{
	const char *path = files_path(name);

	files_make(path, size);
	return add(path);
}

TEST(store_never_creates_a_missing_file)
{
	const char *path = files_path("missing");
	struct stat st;
	uint32_t nr;

	EXPECT_EQ(-ENOENT, penstock_store_add(&store, path, &nr, &err));
	EXPECT_HAS(err.text, "missing");
	EXPECT_EQ(-ENOENT, err.code);
	EXPECT_EQ(-1, stat(path, &st));
	EXPECT_EQ(0, store.nr_files);
	penstock_store_close(&store);
}

TEST(store_takes_only_files_that_can_be_read_anywhere)
{
	const char *fifo = files_path("fifo");
	uint32_t nr;

	ASSERT_EQ(0, mkfifo(fifo, 0600));
	EXPECT_EQ(-EINVAL, penstock_store_add(&store, fifo, &nr, &err));
	EXPECT_HAS(err.text, "neither a regular file nor a block device");
	EXPECT_EQ(-EINVAL, penstock_store_add(&store, files_dir, &nr, &err));
	EXPECT_EQ(-EINVAL, penstock_store_add(&store, "/dev/null", &nr, &err));
}

TEST(store_opens_read_only_and_closed_on_exec)
{
	uint32_t nr = add_new("a", 10000);
	int flags;

	ASSERT_EQ(0, penstock_store_probe(&store, nr, false, &err));
	flags = fcntl(store.files[nr].fd, F_GETFL);
	EXPECT_EQ(O_RDONLY, flags & O_ACCMODE);
	/* io_uring would give EAGAIN where it should wait */
	EXPECT_EQ(0, flags & O_NONBLOCK);
	EXPECT_EQ(FD_CLOEXEC, fcntl(store.files[nr].fd, F_GETFD));
	EXPECT_EQ(FD_CLOEXEC, fcntl(store.files[nr].dfd, F_GETFD));
	EXPECT_EQ(O_RDONLY, fcntl(store.files[nr].dfd, F_GETFL) & O_ACCMODE);
	penstock_store_close(&store);
	EXPECT_EQ(-1, fcntl(3, F_GETFD));
}

TEST(store_numbers_files_in_order)
{
	char name[16];
	uint32_t i;

	for (i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		EXPECT_EQ(i, add_new(name, i));
	}
	for (i = 0; i < 100; i++) {
		EXPECT_EQ(i, store.files[i].size);
		snprintf(name, sizeof(name), "/f%u", i);
		EXPECT_HAS(store.files[i].path, name);
	}
	penstock_store_close(&store);
	EXPECT_EQ(0, store.nr_files);
	penstock_store_close(&store);
	penstock_store_close(NULL);
}

TEST(store_preads_exactly_or_says_what_is_missing)
{
	uint32_t nr = add_new("a", (3u << 20) + 100);
	static char buf[8192];

	EXPECT_EQ(0, penstock_store_pread(&store, nr, 4095, buf, 3, &err));
	EXPECT_EQ(3, files_wrong(buf, 4095, 3));
	EXPECT_EQ(0, penstock_store_pread(&store, nr, 3u << 20, buf, 100, &err));
	EXPECT_EQ(100, files_wrong(buf, 3u << 20, 100));
	EXPECT_EQ(0, penstock_store_pread(&store, nr, 0, buf, 0, &err));
	EXPECT_EQ(-ENODATA, penstock_store_pread(&store, nr, 3u << 20, buf, 101, &err));
	EXPECT_HAS(err.text, "off 3145728 len 101: the file ends after 100 of them");
	EXPECT_EQ(-ENODATA, penstock_store_pread(&store, nr, 1ull << 60, buf, 1, &err));
	EXPECT_EQ(-EINVAL, penstock_store_pread(&store, nr, UINT64_MAX - 31, buf, 64, &err));
	EXPECT_EQ(-EINVAL, penstock_store_pread(&store, nr, INT64_MAX, buf, 64, &err));
	EXPECT_EQ(-EINVAL, penstock_store_pread(&store, nr + 1, 0, buf, 1, &err));
	EXPECT_EQ(-EFAULT, penstock_store_pread(&store, nr, 0, (void *)16, 64, &err));
	penstock_store_close(&store);
}

/* Pages of a file that are in the page cache. */
static uint64_t cached(const struct penstock_file *f)
{
	uint64_t pages = (f->size + 4095) / 4096, i, nr = 0;
	unsigned char *vec = calloc(pages, 1);
	void *map = mmap(NULL, f->size, PROT_READ, MAP_SHARED, f->fd, 0);

	ASSERT_TRUE(map != MAP_FAILED && vec);
	ASSERT_EQ(0, mincore(map, f->size, vec));
	for (i = 0; i < pages; i++)
		nr += vec[i] & 1;
	munmap(map, f->size);
	free(vec);
	return nr;
}

/* What the mode promises, seen from outside. */
static void check_mode(const struct penstock_file *f)
{
	char *buf = NULL;
	uint64_t before, at;
	ssize_t got;

	ASSERT_NE(PENSTOCK_FILE_UNPROBED, f->mode);
	if (f->mode == PENSTOCK_FILE_BUFFERED) {
		EXPECT_EQ(f->fd, f->dfd);
		EXPECT_EQ(1, f->align);
		EXPECT_NE(0, f->why[0]);
		return;
	}
	EXPECT_NE(f->fd, f->dfd);
	EXPECT_EQ(O_DIRECT, fcntl(f->dfd, F_GETFL) & O_DIRECT);
	EXPECT_TRUE(f->align == 512 || f->align == 4096);
	EXPECT_EQ(f->mode == PENSTOCK_FILE_DIRECT_CACHED, f->why[0] != 0);
	ASSERT_EQ(0, posix_memalign((void **)&buf, 4096, 4096));
	before = cached(f);
	for (at = f->align; at < f->size; at += 4096) {
		got = pread(f->dfd, buf, f->align, (off_t)at);
		ASSERT_EQ(penstock_min_u64(f->align, f->size - at), got);
		EXPECT_EQ(got, files_wrong(buf, at, (uint64_t)got));
	}
	free(buf);
	if (f->mode == PENSTOCK_FILE_DIRECT)
		EXPECT_EQ(before, cached(f));
}

TEST(store_probes_by_reading)
{
	static const uint64_t sizes[] = { 1, 100, 511, 512, 513, 612, 1024, 4095, 4096, 4097, 7 * 512, 7 * 512 + 1,
					  7 * 512 + 100, 7 * 512 + 511, 65536, (3u << 20) + 100 };
	size_t i;

	for (i = 0; i < PENSTOCK_ARRAY_SIZE(sizes); i++) {
		ASSERT_EQ(0, add_new("a", sizes[i]));
		EXPECT_EQ(-1, store.files[0].dfd);
		ASSERT_EQ(0, penstock_store_probe(&store, 0, false, &err));
		check_mode(&store.files[0]);
		penstock_store_close(&store);
	}
}

TEST(store_probes_a_file_that_is_cached_already)
{
	static char all[1 << 20];

	ASSERT_EQ(0, add_new("a", sizeof(all)));
	ASSERT_EQ(0, penstock_store_pread(&store, 0, 0, all, sizeof(all), &err));
	ASSERT_EQ(0, penstock_store_probe(&store, 0, false, &err));
	check_mode(&store.files[0]);
	penstock_store_close(&store);
}

TEST(store_probes_a_file_without_a_name)
{
	ASSERT_EQ(0, add_new("a", 10000));
	ASSERT_EQ(0, unlink(store.files[0].path));
	ASSERT_EQ(0, penstock_store_probe(&store, 0, false, &err));
	check_mode(&store.files[0]);
	penstock_store_close(&store);
}

TEST(store_probes_again)
{
	int i;

	ASSERT_EQ(0, add_new("a", 10000));
	for (i = 0; i < 10; i++) {
		ASSERT_EQ(0, penstock_store_probe(&store, 0, i % 2, &err));
		check_mode(&store.files[0]);
		if (i % 2)
			EXPECT_STREQ("not wanted", store.files[0].why);
	}
	penstock_store_close(&store);
	EXPECT_EQ(-1, fcntl(4, F_GETFD));
}

TEST(store_buffers_what_cannot_be_read_directly)
{
	/* no O_DIRECT in /proc, and a size of 0 though there are bytes */
	uint32_t nr = add("/proc/self/maps");

	ASSERT_EQ(0, penstock_store_probe(&store, nr, false, &err));
	EXPECT_EQ(PENSTOCK_FILE_BUFFERED, store.files[nr].mode);
	nr = add_new("empty", 0);
	ASSERT_EQ(0, penstock_store_probe(&store, nr, false, &err));
	EXPECT_EQ(PENSTOCK_FILE_BUFFERED, store.files[nr].mode);
	EXPECT_STREQ("the file is empty", store.files[nr].why);
}

TEST(store_buffers_what_refuses_the_flag)
{
	/* a size, and EINVAL at open */
	const char *path = "/sys/kernel/mm/transparent_hugepage/enabled";
	uint32_t nr;

	if (access(path, R_OK))
		SKIP("no %s to read", path);
	nr = add(path);
	ASSERT_EQ(0, penstock_store_probe(&store, nr, false, &err));
	EXPECT_EQ(PENSTOCK_FILE_BUFFERED, store.files[nr].mode);
	EXPECT_HAS(store.files[nr].why, "open with O_DIRECT");
	EXPECT_EQ(-EINVAL, penstock_store_probe(&store, 99, false, &err));
	penstock_store_close(&store);
}

TEST(store_knows_tmpfs)
{
	char path[] = "/dev/shm/penstock-XXXXXX";
	struct statfs fs;
	int fd;

	if (statfs("/dev/shm", &fs) || (uint32_t)fs.f_type != TMPFS_MAGIC)
		SKIP("/dev/shm is no tmpfs");
	fd = mkstemp(path);
	if (fd < 0)
		SKIP("/dev/shm: %s", strerror(errno));
	ASSERT_EQ(8, write(fd, "penstock", 8));
	close(fd);
	ASSERT_EQ(0, add(path));
	unlink(path);
	ASSERT_EQ(0, penstock_store_probe(&store, 0, false, &err));
	EXPECT_EQ(PENSTOCK_FILE_BUFFERED, store.files[0].mode);
	EXPECT_HAS(store.files[0].why, "tmpfs");
	penstock_store_close(&store);
}

TEST(store_uses_descriptor_0)
{
	static char buf[512];
	const char *path = files_path("a");

	files_make(path, 10000);
	close(0);
	ASSERT_EQ(0, add(path));
	ASSERT_EQ(0, store.files[0].fd);
	EXPECT_EQ(0, penstock_store_pread(&store, 0, 512, buf, 512, &err));
	EXPECT_EQ(512, files_wrong(buf, 512, 512));
	ASSERT_EQ(0, penstock_store_probe(&store, 0, false, &err));
	check_mode(&store.files[0]);
	EXPECT_EQ(0, penstock_store_check(&store, &err));
	penstock_store_close(&store);
	EXPECT_EQ(-1, fcntl(0, F_GETFD));
}

TEST(store_names_the_limit_on_open_files)
{
	struct rlimit before, few;
	const char *path = files_path("a");
	uint32_t nr;

	files_make(path, 1);
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &before));
	few = before;
	few.rlim_cur = 3;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &few));
	EXPECT_EQ(-EMFILE, penstock_store_add(&store, path, &nr, &err));
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &before));
	EXPECT_HAS(err.text, "the process may have 3 files open");
}

static void expect_change(const char *what)
{
	EXPECT_EQ(-ESTALE, penstock_store_check(&store, &err));
	EXPECT_HAS(err.text, what);
	EXPECT_HAS(err.text, store.files[store.nr_files - 1].path);
	penstock_store_close(&store);
}

TEST(store_sees_changes)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 1000000000 } };
	char path[512], other[512];
	int fd;

	snprintf(path, sizeof(path), "%s", files_path("a"));
	snprintf(other, sizeof(other), "%s", files_path("b"));
	add_new("c", 5);
	add_new("a", 10000);
	EXPECT_EQ(0, penstock_store_check(&store, &err));
	ASSERT_EQ(0, truncate(path, 9999));
	expect_change("size was 10000 and is 9999");

	add(path);
	ASSERT_EQ(0, utimensat(AT_FDCWD, path, times, 0));
	expect_change("mtime");

	/* same size, and the old mtime put back */
	add(path);
	usleep(20000);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ASSERT_EQ(1, pwrite(fd, "x", 1, 0));
	close(fd);
	ASSERT_EQ(0, utimensat(AT_FDCWD, path, times, 0));
	expect_change("ctime");

	add(path);
	files_make(other, 9999);
	ASSERT_EQ(0, rename(other, path));
	expect_change("inode");

	add(path);
	ASSERT_EQ(0, unlink(path));
	expect_change("has gone");
}

TEST_HARNESS_MAIN
