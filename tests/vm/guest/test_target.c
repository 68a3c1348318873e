// SPDX-License-Identifier: MIT
/*
 * Targets by descriptor, and files that change after they became one.
 *
 * test_target FOLDER JOURNALLED: folders on ext4 file systems; the first with
 * the features verity, encrypt and inline_data, the second mounted without
 * delayed allocation, so that the flag of a file has its data journalled.
 */
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <linux/fscrypt.h>
#include <linux/fsverity.h>
#include "read.h"

#define LEN	65536

static int node;
static struct io_uring ring;
static struct dest host;

static int open_in(const char *folder, const char *name, int flags)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return open(path, flags, 0600);
}

/* A file of @byte, written back and open for reading. */
static int make_file(const char *folder, const char *name, uint8_t byte, uint32_t len)
{
	static uint8_t buf[LEN];
	int fd = open_in(folder, name, O_RDWR | O_CREAT | O_TRUNC);

	memset(buf, byte, len);
	if (fd < 0 || write(fd, buf, len) != (ssize_t)len || fsync(fd))
		tap(false, "%s/%s is made: %s", folder, name, strerror(errno));
	close(fd);
	return open_in(folder, name, O_RDONLY);
}

static int64_t read_by_ring(uint32_t target, uint32_t len)
{
	memset(host.map, POISON, host.len);
	return read_ring(&ring, node, target, host.id, 0, 0, len, 0);
}

static bool reads(uint32_t target, uint8_t byte, uint32_t len)
{
	int64_t ret = read_by_ring(target, len);

	if (ret != len)
		printf("# result %lld\n", (long long)ret);
	return ret == len && first_not(host.map, byte, len) < 0 &&
	       first_not(host.map + len, POISON, host.len - len) < 0;
}

static struct penstock_region_stat stat_now(void)
{
	struct penstock_region_stat stat;

	region_stat(node, host.id, &stat);
	return stat;
}

/* ---- descriptors ---- */

static void refused(const char *what, int fd, int ret, uint32_t reason)
{
	struct penstock_target_add add;
	int got = target_add(node, fd, &add);

	if (got != ret || add.out_reason != reason || add.out_target_id)
		printf("# %d, reason %u, id %u; want %d, %u\n", got, add.out_reason, add.out_target_id, ret, reason);
	tap(got == ret && add.out_reason == reason && !add.out_target_id, "%s is refused", what);
}

static void test_descriptors(const char *folder)
{
	struct penstock_target_add add = { .size = sizeof(add), .flags = 1 };
	int pair[2] = { -1, -1 }, fd;

	fd = make_file(folder, "descriptor", 1, 4096);
	refused("our own node", node, -EOPNOTSUPP, PENSTOCK_REASON_OWN_NODE);
	refused("another open of it", node_open(), -EOPNOTSUPP, PENSTOCK_REASON_OWN_NODE);
	refused("a ring", ring.ring_fd, -EOPNOTSUPP, PENSTOCK_REASON_NOT_A_FILE);
	if (!pipe(pair)) {
		refused("the end of a pipe to read from", pair[0], -EOPNOTSUPP, PENSTOCK_REASON_NOT_A_FILE);
		refused("the end to write to", pair[1], -EOPNOTSUPP, PENSTOCK_REASON_NOT_A_FILE);
	}
	refused("a socket", socket(AF_UNIX, SOCK_STREAM, 0), -EOPNOTSUPP, PENSTOCK_REASON_NOT_A_FILE);
	refused("an eventfd", eventfd(0, 0), -EOPNOTSUPP, PENSTOCK_REASON_NOT_A_FILE);
	refused("an epoll descriptor", epoll_create1(0), -EOPNOTSUPP, PENSTOCK_REASON_NOT_A_FILE);
	refused("memory of memfd_create", memfd_create("x", 0), -EOPNOTSUPP, PENSTOCK_REASON_FILESYSTEM);
	refused("a folder", open(folder, O_RDONLY | O_DIRECTORY), -EOPNOTSUPP, PENSTOCK_REASON_NOT_A_FILE);
	refused("a character device", open("/dev/null", O_RDONLY), -EOPNOTSUPP, PENSTOCK_REASON_NOT_A_FILE);
	refused("a path without a file", open_in(folder, "descriptor", O_PATH), -EBADF, PENSTOCK_REASON_NONE);
	refused("a file to write to", open_in(folder, "descriptor", O_WRONLY), -EOPNOTSUPP,
		PENSTOCK_REASON_NOT_READABLE);
	refused("a descriptor that is none", 4000, -EBADF, PENSTOCK_REASON_NONE);
	refused("a negative one", -1, -EBADF, PENSTOCK_REASON_NONE);
	add.fd = fd;
	tap_eq(node_ioctl(node, PENSTOCK_IOC_TARGET_ADD, &add), -EOPNOTSUPP, "an unknown flag is refused");
	add.flags = 0;
	add.__reserved = 1ULL << 40;
	tap_eq(node_ioctl(node, PENSTOCK_IOC_TARGET_ADD, &add), -EOPNOTSUPP, "a reserved field is refused");
	tap_eq(target_add(node, fd, &add), 0, "the file itself is none of these");
	close(fd);
}

static void test_ids(const char *folder)
{
	struct penstock_info info = { .size = sizeof(info) };
	struct penstock_target_del del = { .size = sizeof(del) };
	struct penstock_target_add add;
	int fd = make_file(folder, "ids", 2, 4096), mine = node_open(), ret;
	uint32_t nr = 0, first = 0, last = 0;
	bool rises = true;

	node_ioctl(mine, PENSTOCK_IOC_INFO, &info);
	while (!(ret = target_add(mine, fd, &add))) {
		first = nr++ ? first : add.out_target_id;
		rises &= add.out_target_id > last;
		last = add.out_target_id;
	}
	tap(ret == -ENOSPC && nr == info.out_max_targets, "as many targets as INFO says, then ENOSPC (%u, %d)", nr,
	    ret);
	tap(rises, "each with an id of its own");
	del.target_id = first;
	tap_eq(node_ioctl(mine, PENSTOCK_IOC_TARGET_DEL, &del), 0, "one goes");
	tap(!target_add(mine, fd, &add) && add.out_target_id > last, "its id is not given again");
	tap_eq(read_by_ring(last, 4096), -ENOENT, "ids of another open are none of ours");
	close(mine);
	close(fd);
}

/* ---- files that change ---- */

static void test_replaced(const char *folder)
{
	struct penstock_target_add add;
	uint8_t buf[4096];
	char from[256], to[256];
	int fd = make_file(folder, "old", 3, LEN), other;

	close(make_file(folder, "new", 4, LEN));
	tap(!target_add(node, fd, &add) && reads(add.out_target_id, 3, LEN), "a file is read");
	close(fd);
	tap(reads(add.out_target_id, 3, LEN), "also when its descriptor is closed");
	other = open_in(folder, "old", O_RDWR);
	snprintf(from, sizeof(from), "%s/new", folder);
	snprintf(to, sizeof(to), "%s/old", folder);
	rename(from, to);
	tap(reads(add.out_target_id, 3, LEN), "also when another one has its name");
	unlink(to);
	tap(reads(add.out_target_id, 3, LEN), "also when it has none");
	memset(buf, 5, sizeof(buf));
	tap(pwrite(other, buf, sizeof(buf), 0) == sizeof(buf) && reads(add.out_target_id, 5, sizeof(buf)),
	    "what was just written is read, though the page cache has it");
	tap(!ftruncate(other, 1024) && read_by_ring(add.out_target_id, 4096) == 1024 &&
	    first_not(host.map, 5, 1024) < 0 && first_not(host.map + 1024, POISON, LEN - 1024) < 0,
	    "a file that became shorter ends sooner");
	close(other);
}

static void test_verity(const char *folder)
{
	struct fsverity_enable_arg arg = { .version = 1,
					   .hash_algorithm = FS_VERITY_HASH_ALG_SHA256,
					   .block_size = 4096 };
	struct penstock_region_stat before, after;
	struct penstock_target_add add;
	int fd = make_file(folder, "verity", 6, LEN);

	tap(!target_add(node, fd, &add) && reads(add.out_target_id, 6, LEN), "a file before it is verified");
	if (ioctl(fd, FS_IOC_ENABLE_VERITY, &arg)) {
		tap_skip("a verified file", strerror(errno));
		return;
	}
	before = stat_now();
	tap_eq(read_by_ring(add.out_target_id, LEN), -EOPNOTSUPP, "a file that became verified is not read");
	tap_eq(read_ioctl(node, add.out_target_id, host.id, 0, 0, LEN), -EOPNOTSUPP, "nor by the ioctl");
	after = stat_now();
	tap_eq(after.out_refused - before.out_refused, 2, "which counts as refused");
	tap_eq(first_not(host.map, POISON, LEN), -1, "and brings nothing");
	refused("a verified file", fd, -EOPNOTSUPP, PENSTOCK_REASON_VERITY);
	close(fd);
}

static void test_encrypted(const char *folder)
{
	struct { struct fscrypt_add_key_arg arg; uint8_t raw[64]; } key = {
		.arg = { .key_spec.type = FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER, .raw_size = 64 } };
	struct fscrypt_policy_v2 policy = { .version = FSCRYPT_POLICY_V2, .flags = FSCRYPT_POLICY_FLAGS_PAD_32,
		.contents_encryption_mode = FSCRYPT_MODE_AES_256_XTS,
		.filenames_encryption_mode = FSCRYPT_MODE_AES_256_CTS };
	char path[200];
	int dir;

	memset(key.raw, 7, sizeof(key.raw));
	snprintf(path, sizeof(path), "%s/encrypted", folder);
	mkdir(path, 0700);
	dir = open(path, O_RDONLY);
	if (ioctl(dir, FS_IOC_ADD_ENCRYPTION_KEY, &key.arg)) {
		tap_skip("an encrypted file", strerror(errno));
		return;
	}
	memcpy(policy.master_key_identifier, key.arg.key_spec.u.identifier, sizeof(policy.master_key_identifier));
	if (tap(!ioctl(dir, FS_IOC_SET_ENCRYPTION_POLICY, &policy), "a folder is encrypted"))
		refused("an encrypted file", make_file(path, "file", 8, LEN), -EOPNOTSUPP, PENSTOCK_REASON_ENCRYPTED);
	close(dir);
}

/* ext4 keeps the flag and compresses nothing: what the flag says is believed. */
static void test_compressed(const char *folder)
{
	struct penstock_target_add add;
	int fd = make_file(folder, "compressed", 10, LEN), flags = 0;

	tap(!ioctl(fd, FS_IOC_GETFLAGS, &flags), "flags of a file");
	flags |= FS_COMPR_FL;
	tap(!ioctl(fd, FS_IOC_SETFLAGS, &flags), "it is to be compressed");
	refused("a compressed file", fd, -EOPNOTSUPP, PENSTOCK_REASON_COMPRESSED);
	flags &= ~FS_COMPR_FL;
	tap(!ioctl(fd, FS_IOC_SETFLAGS, &flags) && !target_add(node, fd, &add) && reads(add.out_target_id, 10, LEN),
	    "without the flag it is read");
	close(fd);
}

/* Nothing tells beforehand that these bytes go into the inode: the file system does, by falling back. */
static void test_fallback(const char *folder)
{
	struct penstock_region_stat before, after;
	struct penstock_target_add add;
	int fd = open_in(folder, "becomes-inline", O_RDWR | O_CREAT | O_TRUNC), flags = 0;

	if (!tap(!target_add(node, fd, &add), "an empty file"))
		return;
	tap(pwrite(fd, "little", 6, 0) == 6 && !ioctl(fd, FS_IOC_GETFLAGS, &flags) && (flags & FS_INLINE_DATA_FL),
	    "its data goes into the inode");
	before = stat_now();
	tap_eq(read_by_ring(add.out_target_id, 512), -EOPNOTSUPP, "a read that the page cache would serve fails");
	tap_eq(read_ioctl(node, add.out_target_id, host.id, 0, 0, 512), -EOPNOTSUPP, "also by the ioctl");
	after = stat_now();
	tap(after.out_fallbacks - before.out_fallbacks == 2 && after.out_reads == before.out_reads &&
	    !after.out_in_flight, "and counts as a fallback (%llu)",
	    (unsigned long long)(after.out_fallbacks - before.out_fallbacks));
	refused("the file with data in its inode", fd, -EOPNOTSUPP, PENSTOCK_REASON_INLINE_DATA);
	close(fd);
}

static void test_journalled(const char *folder)
{
	struct penstock_target_add add;
	int fd = make_file(folder, "journalled", 9, LEN), flags = 0;

	tap(!target_add(node, fd, &add) && reads(add.out_target_id, 9, LEN), "a file before its data is journalled");
	tap(!ioctl(fd, FS_IOC_GETFLAGS, &flags), "it has flags");
	flags |= FS_JOURNAL_DATA_FL;
	tap(!ioctl(fd, FS_IOC_SETFLAGS, &flags), "its data becomes journalled");
	tap_eq(read_by_ring(add.out_target_id, LEN), -EOPNOTSUPP, "it is not read then");
	tap_eq(first_not(host.map, POISON, LEN), -1, "and nothing is copied");
	refused("it", fd, -EOPNOTSUPP, PENSTOCK_REASON_DATA_JOURNAL);
	flags &= ~FS_JOURNAL_DATA_FL;
	tap(!ioctl(fd, FS_IOC_SETFLAGS, &flags) && reads(add.out_target_id, 9, LEN), "afterwards it is read again");
	close(fd);
}

int main(int argc, char **argv)
{
	node = node_open();
	if (argc != 3 || node < 0 || ring_init(&ring, 8, 0)) {
		tap_skip("targets", "no module, or no folders");
		return tap_done() ? 1 : 4;
	}
	if (!tap(!dest_alloc(node, "host", LEN, 0, &host), "a region"))
		return tap_done();
	test_descriptors(argv[1]);
	test_ids(argv[1]);
	test_replaced(argv[1]);
	test_verity(argv[1]);
	test_encrypted(argv[1]);
	test_compressed(argv[1]);
	test_fallback(argv[1]);
	test_journalled(argv[2]);
	return tap_done();
}
