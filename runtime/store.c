// SPDX-License-Identifier: MIT
/*
 * The files of a checkpoint: see store.h.
 *
 * Whether a file takes O_DIRECT is decided by reading from it, never by what
 * open() or statx() say: both promise what a read then refuses (sectors of 4 KiB,
 * FUSE), and some file systems accept it and fill the page cache all the same
 * (compressed btrfs). A refusal is no failure: the file is read through the page
 * cache and @why says so. Descriptor 0 is a descriptor like any other.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "err.h"
#include "store.h"
#include "util.h"

/* Tests build this file with a few bytes, so that every read is many. */
#ifndef PENSTOCK_STORE_CHUNK
#define PENSTOCK_STORE_CHUNK	PENSTOCK_READ_MAX
#endif

#define BLOCK		4096u
#define SECTOR		512u
/* Blocks read to see whether the page cache grows: extents of one file may differ. */
#define NR_PROBES	4u
/* cachestat() has one number on all architectures; older headers lack it. */
#ifndef SYS_cachestat
#define SYS_cachestat	451
#endif

struct cachestat_range_arg {
	uint64_t off;
	uint64_t len;
};

struct cachestat_result {
	uint64_t nr_cache;
	uint64_t nr_dirty;
	uint64_t nr_writeback;
	uint64_t nr_evicted;
	uint64_t nr_recently_evicted;
};

static int open_failed(const char *path, int code, struct penstock_error *err)
{
	struct rlimit lim;

	if (code == -EMFILE && !getrlimit(RLIMIT_NOFILE, &lim))
		return penstock_err(err, code, "open %s: the process may have %" PRIu64
				    " files open (RLIMIT_NOFILE; hard limit %" PRIu64 ")", path,
				    (uint64_t)lim.rlim_cur, (uint64_t)lim.rlim_max);
	return penstock_err(err, code, "open %s for reading", path);
}

/* A FIFO must not block the open, and io_uring must not see O_NONBLOCK later: it would not wait for the disk. */
static int open_quietly(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	if (fcntl(fd, F_SETFL, 0) < 0) {
		int code = -errno;

		close(fd);
		return code;
	}
	return fd;
}

static int file_size(int fd, const struct stat *st, uint64_t *size)
{
	if (S_ISBLK(st->st_mode))
		return ioctl(fd, BLKGETSIZE64, size) < 0 ? -errno : 0;
	*size = (uint64_t)st->st_size;
	return 0;
}

int penstock_store_add(struct penstock_store *s, const char *path, uint32_t *file, struct penstock_error *err)
{
	struct penstock_file *files, *f;
	struct stat st;
	int fd, ret;

	fd = open_quietly(path);
	if (fd < 0)
		return open_failed(path, fd, err);
	if (fstat(fd, &st) < 0) {
		ret = penstock_err(err, -errno, "stat %s", path);
		goto err_close;
	}
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		ret = penstock_err(err, -EINVAL, "open %s: neither a regular file nor a block device (mode %o)",
				   path, st.st_mode);
		goto err_close;
	}
	files = s->nr_files == UINT32_MAX ? NULL : realloc(s->files, (s->nr_files + 1ul) * sizeof(*files));
	if (!files) {
		ret = penstock_err(err, -ENOMEM, "open %s: record of file %u", path, s->nr_files);
		goto err_close;
	}
	s->files = files;
	f = &files[s->nr_files];
	*f = (struct penstock_file){ .fd = fd, .dfd = -1, .align = 1, .dev = st.st_dev, .ino = st.st_ino,
				     .mtime = st.st_mtim, .ctime = st.st_ctim };
	ret = file_size(fd, &st, &f->size);
	if (ret) {
		penstock_err(err, ret, "size of %s", path);
		goto err_close;
	}
	f->path = strdup(path);
	if (!f->path) {
		ret = penstock_err(err, -ENOMEM, "open %s: its name", path);
		goto err_close;
	}
	*file = s->nr_files++;
	return 0;

err_close:
	close(fd);
	return ret;
}

/* One read that signals cannot stop. Return: bytes, or -errno. */
static int64_t pread_once(int fd, void *dst, size_t len, uint64_t off)
{
	ssize_t got;

	do {
		got = pread(fd, dst, len, (off_t)off);
	} while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : got;
}

int penstock_store_pread(const struct penstock_store *s, uint32_t file, uint64_t off, void *dst, uint64_t len,
			 struct penstock_error *err)
{
	const struct penstock_file *f;
	uint64_t done = 0, end;
	int64_t got;

	if (file >= s->nr_files)
		return penstock_err(err, -EINVAL, "read of file %u of %u", file, s->nr_files);
	f = &s->files[file];
	if (penstock_add_overflows(off, len, &end) || end > INT64_MAX)
		return penstock_err(err, -EINVAL, "read %s off %" PRIu64 " len %" PRIu64 ": wraps", f->path, off, len);
	while (done < len) {
		got = pread_once(f->fd, (char *)dst + done, penstock_min_u64(len - done, PENSTOCK_STORE_CHUNK),
				 off + done);
		if (got < 0)
			return penstock_err(err, (int)got, "read %s off %" PRIu64 " len %" PRIu64 " after %" PRIu64
					    " bytes", f->path, off, len, done);
		if (!got)
			return penstock_err(err, -ENODATA, "read %s off %" PRIu64 " len %" PRIu64
					    ": the file ends after %" PRIu64 " of them", f->path, off, len, done);
		done += (uint64_t)got;
	}
	return 0;
}

static int refuse(struct penstock_file *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Read this file through the page cache from now on. */
static int refuse(struct penstock_file *f, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(f->why, sizeof(f->why), fmt, ap);
	va_end(ap);
	f->mode = PENSTOCK_FILE_BUFFERED;
	f->align = 1;
	f->dfd = f->fd;
	return 0;
}

/* The same inode, whatever its name leads to by now. Return: a descriptor, or -errno. */
static int reopen_direct(const struct penstock_file *f)
{
	struct stat st;
	char name[32];
	int fd, code;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", f->fd);
	fd = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_DIRECT);
	if (fd < 0 && (errno == ENOENT || errno == EACCES || errno == ENOTDIR))
		fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_DIRECT);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || st.st_dev != f->dev || st.st_ino != f->ino) {
		code = -ESTALE;
		close(fd);
		return code;
	}
	return fd;
}

/* Pages of a range that are in the page cache, or -1 where nobody tells. */
static int64_t cached_pages(const struct penstock_file *f, uint64_t off, uint64_t len)
{
	struct cachestat_range_arg range = { off, len };
	struct cachestat_result res;
	unsigned char vec[1];
	void *map;
	int64_t nr;

	if (!syscall(SYS_cachestat, f->fd, &range, &res, 0))
		return (int64_t)res.nr_cache;
	if (len > BLOCK || sysconf(_SC_PAGESIZE) < (long)BLOCK)
		return -1;
	map = mmap(NULL, len, PROT_READ, MAP_SHARED, f->fd, (off_t)off);
	if (map == MAP_FAILED)
		return -1;
	nr = mincore(map, len, vec) < 0 ? -1 : vec[0] & 1;
	munmap(map, len);
	return nr;
}

/*
 * Read a few blocks that are not in the page cache. Return: 1 they are now, 0 they
 * are not or nobody can tell (all of them were in it before), or -errno.
 */
static int cache_grows(const struct penstock_file *f, int fd, void *block)
{
	uint64_t blocks = (f->size - 1) / BLOCK + 1, off, want, i;
	int64_t got;

	for (i = 0; i < NR_PROBES; i++) {
		off = (blocks - 1) / (NR_PROBES - 1) * i * BLOCK;
		if (i && !off)
			break;
		if (cached_pages(f, off, BLOCK))
			continue;
		want = penstock_min_u64(BLOCK, f->size - off);
		got = pread_once(fd, block, BLOCK, off);
		if (got < 0)
			return (int)got;
		if ((uint64_t)got < want)
			return -ENODATA;
		if (cached_pages(f, off, BLOCK) > 0)
			return 1;
	}
	return 0;
}

/* The alignment that the kernel names for file offsets, or 0 where it names none. */
static uint32_t dio_hint(int fd)
{
#ifdef STATX_DIOALIGN
	struct statx stx;

	if (!statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) && (stx.stx_mask & STATX_DIOALIGN))
		return stx.stx_dio_offset_align;
#endif
	return 0;
}

/*
 * The first block, or all of a smaller file, must come back whole. Sectors are only
 * used where the kernel names them and a read of the second one works: without a
 * hint a file system may take them and still handle them badly.
 */
static int probe_reads(struct penstock_file *f, int fd, void *block)
{
	uint32_t hint = dio_hint(fd);
	int64_t got;
	int ret;

	got = pread_once(fd, block, BLOCK, 0);
	if (got < 0)
		return (int)got;
	if ((uint64_t)got < penstock_min_u64(BLOCK, f->size))
		return -ENODATA;
	f->align = BLOCK;
	if (hint && hint <= SECTOR && f->size > SECTOR) {
		got = pread_once(fd, block, SECTOR, SECTOR);
		if (got == (int64_t)penstock_min_u64(SECTOR, f->size - SECTOR))
			f->align = SECTOR;
	}
	ret = cache_grows(f, fd, block);
	if (ret < 0)
		return ret;
	f->mode = ret ? PENSTOCK_FILE_DIRECT_CACHED : PENSTOCK_FILE_DIRECT;
	if (ret) {
		f->align = BLOCK;
		snprintf(f->why, sizeof(f->why), "O_DIRECT is accepted, but the reads went through the page cache");
	}
	return 0;
}

static int probe_direct(struct penstock_file *f, void *block, struct penstock_error *err)
{
	int fd, ret;

	fd = reopen_direct(f);
	if (fd == -ESTALE)
		return penstock_err(err, fd, "open %s: another file has taken its place", f->path);
	if (fd < 0)
		return refuse(f, "open with O_DIRECT: %s", strerrordesc_np(-fd));
	ret = probe_reads(f, fd, block);
	if (!ret) {
		f->dfd = fd;
		return 0;
	}
	close(fd);
	/* A bad drive fails both ways; a file system without direct reads only this one. */
	if (pread_once(f->fd, block, BLOCK, 0) < 0)
		return penstock_err(err, ret, "read %s off 0 len %u, with and without O_DIRECT", f->path, BLOCK);
	return refuse(f, "open with O_DIRECT is accepted, a read of %u bytes is not: %s", BLOCK, strerrordesc_np(-ret));
}

static void forget_probe(struct penstock_file *f)
{
	if (f->dfd >= 0 && f->dfd != f->fd)
		close(f->dfd);
	f->dfd = -1;
	f->why[0] = 0;
	f->mode = PENSTOCK_FILE_UNPROBED;
}

/* tmpfs takes O_DIRECT since Linux 6.6 and copies from its own pages. The nodes of block devices lie in one, too. */
static bool in_tmpfs(int fd)
{
	struct statfs fs;
	struct stat st;

	return !fstatfs(fd, &fs) && (uint32_t)fs.f_type == TMPFS_MAGIC && !fstat(fd, &st) && S_ISREG(st.st_mode);
}

int penstock_store_probe(struct penstock_store *s, uint32_t file, bool no_direct, struct penstock_error *err)
{
	struct penstock_file *f;
	void *block;
	int ret;

	if (file >= s->nr_files)
		return penstock_err(err, -EINVAL, "probe of file %u of %u", file, s->nr_files);
	f = &s->files[file];
	forget_probe(f);
	if (no_direct)
		return refuse(f, "not wanted");
	if (!f->size)
		return refuse(f, "the file is empty");
	if (in_tmpfs(f->fd))
		return refuse(f, "tmpfs: the file is in memory already");
	if (posix_memalign(&block, BLOCK, BLOCK))
		return penstock_err(err, -ENOMEM, "probe %s: %u bytes", f->path, BLOCK);
	ret = probe_direct(f, block, err);
	free(block);
	return ret;
}

static int changed(const struct penstock_file *f, const char *what, uint64_t was, uint64_t is,
		   struct penstock_error *err)
{
	return penstock_err(err, -ESTALE, "%s has changed since it was opened: its %s was %" PRIu64 " and is %" PRIu64,
			    f->path, what, was, is);
}

static uint64_t stamp(const struct timespec *t)
{
	return (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec;
}

static int check_file(const struct penstock_file *f, struct penstock_error *err)
{
	struct stat st;
	uint64_t size;
	int ret;

	if (stat(f->path, &st) < 0)
		return penstock_err(err, -ESTALE, "%s has gone since it was opened: %s", f->path,
				    strerrordesc_np(errno));
	if (st.st_dev != f->dev)
		return changed(f, "device", f->dev, st.st_dev, err);
	if (st.st_ino != f->ino)
		return changed(f, "inode", f->ino, st.st_ino, err);
	ret = file_size(f->fd, &st, &size);
	if (ret)
		return penstock_err(err, ret, "size of %s", f->path);
	if (size != f->size)
		return changed(f, "size", f->size, size, err);
	/* the times of a device node say nothing about what is on the device */
	if (S_ISBLK(st.st_mode))
		return 0;
	if (stamp(&st.st_mtim) != stamp(&f->mtime))
		return changed(f, "mtime (ns)", stamp(&f->mtime), stamp(&st.st_mtim), err);
	if (stamp(&st.st_ctim) != stamp(&f->ctime))
		return changed(f, "ctime (ns)", stamp(&f->ctime), stamp(&st.st_ctim), err);
	return 0;
}

int penstock_store_check(const struct penstock_store *s, struct penstock_error *err)
{
	uint32_t i;
	int ret;

	for (i = 0; i < s->nr_files; i++) {
		ret = check_file(&s->files[i], err);
		if (ret)
			return ret;
	}
	return 0;
}

void penstock_store_close(struct penstock_store *s)
{
	uint32_t i;

	if (!s)
		return;
	for (i = 0; i < s->nr_files; i++) {
		forget_probe(&s->files[i]);
		close(s->files[i].fd);
		free(s->files[i].path);
	}
	free(s->files);
	s->files = NULL;
	s->nr_files = 0;
}
