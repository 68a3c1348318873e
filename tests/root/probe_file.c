// SPDX-License-Identifier: MIT
/*
 * probe_file FILE: how a file is read here, and that it reads right. Prints
 * "mode=direct align=512 bytes=N grown=P why=..." (grown: pages that the reads left
 * in the page cache) and compares random unaligned ranges, read through each ring,
 * with pread(). Exit: 0 right, 1 a byte is wrong or an error.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "mem.h"
#include "ring.h"
#include "store.h"
#include "util.h"

#define NR_READS	200u
#define MOST		(256u << 10)

static const char *const modes[] = { "unprobed", "direct", "buffered", "direct_cached" };

static int fail(const char *what, int code)
{
	printf("%s: %s\n", what, strerrordesc_np(-code));
	return 1;
}

static uint64_t cached(const struct penstock_file *f)
{
	uint64_t pages = (f->size + 4095) / 4096, i, nr = 0;
	unsigned char *vec = calloc(pages, 1);
	void *map = mmap(NULL, f->size, PROT_READ, MAP_SHARED, f->fd, 0);

	if (vec && map != MAP_FAILED && !mincore(map, f->size, vec))
		for (i = 0; i < pages; i++)
			nr += vec[i] & 1;
	if (map != MAP_FAILED)
		munmap(map, f->size);
	free(vec);
	return nr;
}

static uint64_t next_random(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return *seed >> 33;
}

/* One wanted range, widened to the alignment. The copy to compare with is read first, from @copy. */
static int read_one(struct penstock_ring *ring, const struct penstock_file *f, const char *copy, char *mem,
		    uint64_t *seed)
{
	uint64_t len = penstock_min_u64(1 + next_random(seed) % (MOST - 2 * 4096), f->size);
	uint64_t off = next_random(seed) % (f->size - len + 1), start, end;
	struct penstock_read read, *got;
	int ret;

	if (next_random(seed) % 8 == 0)
		off = f->size - len;
	start = penstock_align_down(off, f->align);
	end = penstock_align_up(off + len, f->align);
	read = (struct penstock_read){ .buf = -1, .off = start, .len = (uint32_t)(end - start),
				       .need = (uint32_t)(off + len - start), .dst = mem };
	memset(mem, 0xa5, MOST);
	if (penstock_ring_submit(ring, &read))
		return -EBUSY;
	ret = penstock_ring_reap(ring, 10000000000u, &got);
	if (ret != 1)
		return ret < 0 ? ret : -ETIMEDOUT;
	if (read.status)
		return read.status;
	return memcmp(mem + (off - start), copy + off, len) ? -EBADMSG : 0;
}

static int read_through(const struct penstock_ring_ops *ops, const struct penstock_file *f, const char *copy, char *mem)
{
	struct penstock_error err = { 0 };
	struct penstock_ring *ring;
	uint64_t seed = 1;
	uint32_t i;
	int ret;

	ret = penstock_ring_open(ops, 4, &ring, &err);
	if (ret == -EOPNOTSUPP)
		return 0;
	if (!ret)
		ret = penstock_ring_set_files(ring, &f->dfd, 1);
	for (i = 0; !ret && i < NR_READS; i++)
		ret = read_one(ring, f, copy, mem, &seed);
	penstock_ring_close(ring);
	return ret;
}

/* The file by plain reads of another descriptor, which leave no page behind. */
static char *read_copy(const char *path, uint64_t size)
{
	char *copy = malloc(size);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t done = 0;
	ssize_t got = 1;

	for (; copy && done < size && got > 0; done += (uint64_t)got)
		got = pread(fd, copy + done, size - done, (off_t)done);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	close(fd);
	return got > 0 ? copy : NULL;
}

int main(int argc, char **argv)
{
	struct penstock_error err = { 0 };
	struct penstock_store store = { 0 };
	struct penstock_file *f;
	struct penstock_mem mem;
	uint64_t before;
	uint32_t nr;
	char *copy;
	int ret;

	if (argc != 2)
		return fail("usage: probe_file FILE", -EINVAL);
	if (penstock_store_add(&store, argv[1], &nr, &err) || !store.files[nr].size)
		return fail(err.text, err.code);
	f = &store.files[nr];
	copy = read_copy(argv[1], f->size);
	if (!copy)
		return fail("reading a copy", -EIO);
	if (penstock_store_probe(&store, nr, false, &err) || penstock_mem_alloc(MOST, -1, 1, &mem, &err))
		return fail(err.text, err.code);
	before = cached(f);
	ret = read_through(&penstock_ring_uring, f, copy, mem.base);
	if (!ret)
		ret = read_through(&penstock_ring_pread, f, copy, mem.base);
	if (ret)
		return fail("reading through the ring", ret);
	printf("mode=%s align=%u bytes=%" PRIu64 " grown=%" PRId64 " why=%s\n", modes[f->mode], f->align, f->size,
	       (int64_t)(cached(f) - before), f->why);
	penstock_mem_free(&mem);
	penstock_store_close(&store);
	free(copy);
	return 0;
}
