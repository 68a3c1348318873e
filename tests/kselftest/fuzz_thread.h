/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A thread of the random commands: what it has, and each thing that it does.
 *
 * Two reads never go to the same bytes at a time, of which the kernel's DMA
 * debugging would complain: a thread reads into memory that it made, by
 * whichever region of it, a chunk a read.
 */
#ifndef PENSTOCK_FUZZ_THREAD_H
#define PENSTOCK_FUZZ_THREAD_H

#include <poll.h>
#include "fuzz.h"
#include "uring.h"

#define THREADS		2
#define NODES		2
#define MEMORIES	6
#define REGIONS		9
#define CHUNK		(4 * PAGE)
#define CHUNKS		8U
#define LEN		(CHUNK * CHUNKS)
#define NO_ANSWER	1	/* there was nothing to do it to */

/* Bytes that regions lead to; a dma-buf's part is a second region of the same. */
struct memory {
	unsigned int regions;
	uint32_t busy;		/* chunks with a read in flight, a bit each */
	char *own;		/* for REGION_PIN */
};

struct region {
	struct memory *memory;
	unsigned int node;
	uint32_t id, first, chunks;
	uint64_t mmap_offset;
	char *map;
	bool whole;		/* not a part of a dma-buf */
};

struct thread {
	struct fuzz_random random;
	unsigned int nr;
	pthread_t id;
	int node[NODES], file;
	uint32_t target[NODES];
	uint64_t file_size;
	struct memory memory[MEMORIES];
	struct region region[REGIONS];
	struct uring ring;
	unsigned int flying;
	struct penstock_read *reads;
	pid_t child;
};

static struct thread threads[THREADS];
static __thread sigjmp_buf fault_env;
static __thread volatile sig_atomic_t fault_wanted;

static void on_fault(int sig)
{
	if (fault_wanted)
		siglongjmp(fault_env, sig);
	signal(sig, SIG_DFL);
}

/* Touches each page; the signal that it gives, or 0. */
static int touch(volatile char *p, size_t len)
{
	size_t i;
	int sig = sigsetjmp(fault_env, 1);

	fault_wanted = !sig;
	for (i = 0; !sig && i < len; i += PAGE)
		p[i + 64] = p[i];
	fault_wanted = false;
	return sig;
}

/* ---- what a thread has ---- */

static struct region *region_pick(struct thread *t)
{
	struct region *r = &t->region[below(&t->random, REGIONS)];

	return r->id ? r : NULL;
}

static void region_unmap(struct region *r)
{
	if (r->map)
		munmap(r->map, r->chunks * CHUNK);
	r->map = NULL;
}

static void region_forget(struct region *r)
{
	region_unmap(r);
	if (r->id)
		r->memory->regions--;
	r->id = 0;
}

/* Somebody else can have freed it. */
static int region_answer(struct region *r, int ret)
{
	if (ret == -ENOENT)
		region_forget(r);
	return ret;
}

static struct region *region_slot(struct thread *t)
{
	unsigned int i;

	for (i = 0; i < REGIONS; i++)
		if (!t->region[i].id)
			return &t->region[i];
	return NULL;
}

/* Neither a region nor a read in flight leads to it. */
static struct memory *memory_slot(struct thread *t)
{
	unsigned int i;

	for (i = 0; i < MEMORIES; i++)
		if (!t->memory[i].regions && !t->memory[i].busy)
			return &t->memory[i];
	return NULL;
}

static void region_set(struct region *r, struct memory *memory, unsigned int node, uint32_t id, uint64_t mmap_offset)
{
	*r = (struct region) { .memory = memory, .node = node, .id = id, .chunks = CHUNKS, .mmap_offset = mmap_offset,
		.whole = true };
	memory->regions++;
}

/* A chunk of the region that no read goes to, or -1. */
static int chunk_pick(struct thread *t, const struct region *r)
{
	uint32_t at = below(&t->random, r->chunks), i;

	for (i = 0; i < r->chunks; i++, at = (at + 1) % r->chunks)
		if (!(r->memory->busy & 1U << (r->first + at)))
			return (int)at;
	return -1;
}

static void node_setup(struct thread *t, unsigned int i)
{
	struct penstock_target_add add;

	t->node[i] = node_open(O_CLOEXEC | O_NONBLOCK);
	t->target[i] = target_add(t->node[i], t->file, &add) ? 0 : add.out_target_id;
}

static void node_drop(struct thread *t, unsigned int i)
{
	unsigned int k;

	/* Mappings keep the open, too: half of them go before. */
	if (below(&t->random, 2))
		for (k = 0; k < REGIONS; k++)
			if (t->region[k].id && t->region[k].node == i)
				region_unmap(&t->region[k]);
	close(t->node[i]);
	for (k = 0; k < REGIONS; k++)
		if (t->region[k].id && t->region[k].node == i)
			region_forget(&t->region[k]);
}

static bool reap(struct thread *t, unsigned int seconds)
{
	struct fuzz_counts *c = t->random.counts;
	struct io_uring_cqe cqe;
	bool harmed;

	if (!t->flying || uring_reap(&t->ring, seconds, &cqe))
		return false;
	t->flying--;
	harmed = cqe.user_data >> 32;
	t->memory[(uint32_t)cqe.user_data / CHUNKS].busy &= ~(1U << cqe.user_data % CHUNKS);
	if (cqe.res > 0) {
		c->good[OP_RING]++;
		c->bytes += (uint32_t)cqe.res;
	}
	answer_must(&t->random, cqe.res <= (int)CHUNK, "a read of more than was asked for");
	return answer_is_documented(&t->random, harmed ? "harmed read" : "read", cqe.res);
}

static bool thread_setup(struct thread *t)
{
	unsigned int i;
	bool good = true;

	for (i = 0; i < MEMORIES; i++) {
		t->memory[i] = (struct memory) {};
		t->memory[i].own = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		good = good && t->memory[i].own != MAP_FAILED;
	}
	for (i = 0; i < NODES; i++)
		node_setup(t, i);
	t->flying = 0;
	return good && !uring_init_entries(&t->ring, 64, IORING_SETUP_SQE128);
}

/* With reads in flight: nothing that they may go to is used again. */
static void thread_drop(struct thread *t)
{
	bool ring_first = below(&t->random, 2);
	unsigned int i;

	if (ring_first)
		uring_exit(&t->ring);
	for (i = 0; i < NODES; i++)
		node_drop(t, i);
	for (i = 0; i < MEMORIES; i++)
		munmap(t->memory[i].own, LEN);
	uring_exit(&t->ring);
}

/* ---- commands; NO_ANSWER, or what the kernel said ---- */

static int do_region(struct thread *t, enum fuzz_op op)
{
	struct fuzz_random *r = &t->random;
	struct region *slot = region_slot(t);
	struct memory *memory = memory_slot(t);
	unsigned int n = below(r, NODES);
	struct penstock_region_alloc alloc = { .size = sizeof(alloc), .length = LEN, .numa_node = -1,
		.order = below(r, 6) };
	struct penstock_region_pin pin = { .size = sizeof(pin), .flags = PENSTOCK_PIN_F_READ, .length = LEN };
	struct penstock_region_peer bar = { .size = sizeof(bar), .kind = PENSTOCK_PEER_BAR, .length = LEN, .fd = -1 };
	struct penstock_peer_enum peer;
	int ret;

	if (!slot || !memory)
		return NO_ANSWER;
	switch (op) {
	case OP_ALLOC:
		ret = command(r, t->node[n], PENSTOCK_IOC_REGION_ALLOC, &alloc, sizeof(alloc));
		if (!ret)
			region_set(slot, memory, n, alloc.out_region_id, alloc.out_mmap_offset);
		return ret;
	case OP_PIN:
		pin.addr = to_u64(memory->own);
		ret = command(r, t->node[n], PENSTOCK_IOC_REGION_PIN, &pin, sizeof(pin));
		if (!ret)
			region_set(slot, memory, n, pin.out_region_id, ALL_ONES);
		return ret;
	default:
		if (peer_first(t->node[n], &peer))
			return NO_ANSWER;
		bar.peer_id = peer.out_peer_id;
		bar.flags = below(r, 2) ? PENSTOCK_REGION_PEER_F_MMAP : 0;
		ret = command(r, t->node[n], PENSTOCK_IOC_REGION_PEER, &bar, sizeof(bar));
		if (!ret)
			region_set(slot, memory, n, bar.out_region_id, bar.out_mmap_offset);
		return ret;
	}
}

/* A dma-buf, mapped; and a part of it as a region of the same or another open. */
static int do_share(struct thread *t, enum fuzz_op op)
{
	struct fuzz_random *r = &t->random;
	struct region *from = region_pick(t), *slot = region_slot(t);
	struct penstock_region_export cmd = { .size = sizeof(cmd), .out_fd = -1 };
	uint32_t first = below(r, CHUNKS), chunks = 1 + below(r, CHUNKS - first);
	struct penstock_region_peer part = { .size = sizeof(part), .kind = PENSTOCK_PEER_DMABUF,
		.offset = first * CHUNK, .length = chunks * CHUNK };
	unsigned int n = below(r, NODES);
	char *p;
	int ret;

	if (!from || !slot || !from->whole)
		return NO_ANSWER;
	cmd.region_id = from->id;
	ret = region_answer(from, command(r, t->node[from->node], PENSTOCK_IOC_REGION_EXPORT, &cmd, sizeof(cmd)));
	if (ret)
		return ret;
	if (op == OP_SHARE) {
		part.fd = cmd.out_fd;
		ret = command(r, t->node[n], PENSTOCK_IOC_REGION_PEER, &part, sizeof(part));
		if (!ret) {
			region_set(slot, from->memory, n, part.out_region_id, part.out_mmap_offset);
			slot->first = first;
			slot->chunks = chunks;
			slot->whole = false;
		}
	} else {
		p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, cmd.out_fd, 0);
		if (p != MAP_FAILED) {
			/* SIGBUS once the peer is gone. */
			touch(p, LEN);
			munmap(p, LEN);
		}
	}
	close(cmd.out_fd);
	return ret;
}

static int do_free(struct thread *t, enum fuzz_op op)
{
	struct fuzz_random *r = &t->random;
	struct thread *other = &threads[below(r, THREADS)];
	struct region *region = op == OP_FREE_OTHER ? &other->region[below(r, REGIONS)] : region_pick(t);
	struct penstock_region_free cmd = { .size = sizeof(cmd) };
	int ret;

	if (!region)
		return NO_ANSWER;
	cmd.flags = op == OP_FREE_WAIT || (op == OP_FREE_OTHER && below(r, 2)) ? PENSTOCK_REGION_FREE_F_WAIT : 0;
	cmd.region_id = region->id;
	/* Its owner finds out. The descriptor may just then be something else, or nothing. */
	if (op == OP_FREE_OTHER)
		return penstock(other->node[region->node % NODES], PENSTOCK_IOC_REGION_FREE, &cmd);
	ret = command(r, t->node[region->node], PENSTOCK_IOC_REGION_FREE, &cmd, sizeof(cmd));
	answer_must(r, ret != -EBUSY || !(cmd.flags & PENSTOCK_REGION_FREE_F_WAIT), "REGION_FREE with WAIT: EBUSY");
	if (!ret && region->map)
		answer_must(r, touch(region->map, PAGE) == SIGBUS, "memory can be touched after REGION_FREE");
	if (!ret)
		region_forget(region);
	return region_answer(region, ret);
}

/* A good read into a free chunk, and the bit of that chunk; false: there is none. */
static bool read_make(struct thread *t, const struct region *r, struct penstock_uring_read *read, uint32_t *bit)
{
	int chunk = chunk_pick(t, r);

	if (chunk < 0)
		return false;
	*bit = r->first + (uint32_t)chunk;
	*read = (struct penstock_uring_read) { .target_id = t->target[r->node], .region_id = r->id,
		.length = 512 * (1 + below(&t->random, CHUNK / 512)), .region_offset = (uint32_t)chunk * CHUNK,
		.offset = PAGE * below(&t->random, (uint32_t)(t->file_size / PAGE) + 16) };
	return true;
}

static int do_ring(struct thread *t)
{
	static const uint32_t wrong_ops[] = { PENSTOCK_URING_CMD_WRITE, PENSTOCK_IOC_INFO, 0, 0xffffffff };
	struct fuzz_random *r = &t->random;
	struct region *region = region_pick(t);
	struct penstock_uring_read read;
	struct io_uring_sqe *sqe;
	uint32_t op = PENSTOCK_URING_CMD_READ, bit;
	bool harmed = !below(r, 10);
	uint64_t data;

	if (!region || !read_make(t, region, &read, &bit))
		return NO_ANSWER;
	data = (uint64_t)(region->memory - t->memory) * CHUNKS + bit;
	if (harmed && below(r, 8))
		read_harm(r, &read, CHUNK, region->chunks * CHUNK);
	else if (harmed)
		op = wrong_ops[below(r, ARRAY_SIZE(wrong_ops))];
	r->counts->tried[OP_RING]++;
	sqe = uring_queue(&t->ring, t->node[region->node], op, &read, data | (uint64_t)harmed << 32);
	if (!below(r, 4))
		sqe->flags |= IOSQE_ASYNC;
	region->memory->busy |= 1U << bit;
	t->flying++;
	/* What the kernel did not take now goes with the next one. */
	uring_submit(&t->ring);
	return NO_ANSWER;
}

static int do_read(struct thread *t)
{
	struct fuzz_random *r = &t->random;
	struct region *region = region_pick(t);
	uint32_t n = 1 + below(r, 4), i, bit;
	struct penstock_region_read cmd = { .size = sizeof(cmd), .reads_uptr = to_u64(t->reads), .nr_reads = n,
		.read_size = sizeof(*t->reads) };
	struct penstock_uring_read read;
	bool good = false;
	int ret;

	for (i = 0; i < n; i++) {
		if (!region || !read_make(t, region, &read, &bit))
			return NO_ANSWER;
		if (!below(r, 8))
			read_harm(r, &read, CHUNK, region->chunks * CHUNK);
		t->reads[i] = (struct penstock_read) { .target_id = read.target_id, .region_id = read.region_id,
			.offset = read.offset, .region_offset = read.region_offset, .length = read.length,
			.flags = read.flags, .out_result = -EINVAL };
	}
	ret = command(r, t->node[region->node], PENSTOCK_IOC_REGION_READ, &cmd, sizeof(cmd));
	for (i = 0; i < n; i++) {
		answer_is_documented(r, "read of REGION_READ", t->reads[i].out_result);
		if (ret || t->reads[i].out_result <= 0)
			continue;
		good = true;
		r->counts->bytes += (uint64_t)t->reads[i].out_result;
	}
	memset(t->reads, 0, n * sizeof(*t->reads));
	return ret ? ret : good ? 0 : -ENODATA;
}

/* A mapping stays until the region goes, or by chance; MAP_PRIVATE and more than there is are refused. */
static int do_map(struct thread *t)
{
	struct fuzz_random *r = &t->random;
	struct region *region = region_pick(t);
	size_t len;
	char *p;

	if (!region || region->mmap_offset == ALL_ONES)
		return NO_ANSWER;
	len = region->chunks * CHUNK;
	if (region->map) {
		/* Half of the time in two steps. */
		if (below(r, 2))
			mmap(region->map, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		region_unmap(region);
		return 0;
	}
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE, t->node[region->node], (off_t)region->mmap_offset);
	answer_must(r, p == MAP_FAILED, "a private mapping");
	p = mmap(NULL, len + PAGE, PROT_READ, MAP_SHARED, t->node[region->node], (off_t)region->mmap_offset);
	answer_must(r, p == MAP_FAILED, "a mapping longer than the region");
	p = region_map(t->node[region->node], region->mmap_offset, 0, len);
	if (p == MAP_FAILED)
		return -errno;
	region->map = p;
	return 0;
}

/* By the CPU, or by an ordinary direct read: the route "mapped". */
static int do_mapped(struct thread *t, enum fuzz_op op)
{
	struct region *region = region_pick(t);
	int chunk, sig;
	ssize_t n;

	if (!region || !region->map)
		return NO_ANSWER;
	if (op == OP_TOUCH) {
		sig = touch(region->map, region->chunks * CHUNK);
		answer_must(&t->random, !sig || sig == SIGBUS, "touching gives another signal than SIGBUS");
		return sig ? -EFAULT : 0;
	}
	chunk = chunk_pick(t, region);
	if (chunk < 0)
		return NO_ANSWER;
	n = pread(t->file, region->map + (uint32_t)chunk * CHUNK, CHUNK, PAGE * below(&t->random, 256));
	return n < 0 ? -errno : 0;
}

static int do_look(struct thread *t, enum fuzz_op op)
{
	struct fuzz_random *r = &t->random;
	unsigned int n = below(r, NODES);
	struct region *region = region_pick(t);
	struct penstock_info info = { .size = sizeof(info) };
	struct penstock_peer_enum peer = { .size = sizeof(peer) };
	struct penstock_region_stat stat = { .size = sizeof(stat) };
	struct penstock_region_probe probe = { .size = sizeof(probe) };

	switch (op) {
	case OP_INFO:
		return command(r, t->node[n], PENSTOCK_IOC_INFO, &info, sizeof(info));
	case OP_ENUM:
		return command(r, t->node[n], PENSTOCK_IOC_PEER_ENUM, &peer, sizeof(peer));
	case OP_STAT:
		n = region ? region->node : n;
		stat.region_id = region ? region->id : 0;
		return command(r, t->node[n], PENSTOCK_IOC_REGION_STAT, &stat, sizeof(stat));
	default:
		if (!region)
			return NO_ANSWER;
		probe.region_id = region->id;
		probe.target_id = t->target[region->node];
		return command(r, t->node[region->node], PENSTOCK_IOC_REGION_PROBE, &probe, sizeof(probe));
	}
}

static int do_target(struct thread *t, enum fuzz_op op)
{
	struct fuzz_random *r = &t->random;
	unsigned int n = below(r, NODES);
	struct penstock_target_add add = { .size = sizeof(add), .fd = t->file };
	struct penstock_target_del del = { .size = sizeof(del), .target_id = t->target[n] };
	int ret;

	if (op == OP_DEL && below(r, 4))
		return NO_ANSWER;
	if (op == OP_DEL)
		return command(r, t->node[n], PENSTOCK_IOC_TARGET_DEL, &del, sizeof(del));
	ret = command(r, t->node[n], PENSTOCK_IOC_TARGET_ADD, &add, sizeof(add));
	if (!ret) {
		target_del(t->node[n], t->target[n]);
		t->target[n] = add.out_target_id;
	}
	return ret;
}

/* ---- what is around the commands ---- */

static int do_event(struct thread *t)
{
	struct penstock_event events[8];
	int node = t->node[below(&t->random, NODES)];
	struct pollfd p = { .fd = node, .events = POLLIN };
	size_t len = below(&t->random, sizeof(events) + 1);
	ssize_t n;

	/* Poll promises, nobody else reads from it. */
	if (poll(&p, 1, 0) != 1)
		return NO_ANSWER;
	n = read(node, events, len);
	if (n < 0)
		return -errno;
	answer_must(&t->random, n > 0 && !((size_t)n % sizeof(*events)) && (size_t)n <= len, "a part of an event");
	return 0;
}

/* A child that keeps all descriptors for a while, and may not read into what its parent pinned. */
static int do_fork(struct thread *t)
{
	struct region *region = region_pick(t);
	useconds_t usec = below(&t->random, 50000);
	bool pinned = region && region->mmap_offset == ALL_ONES && region->whole;
	int64_t ret = -EPERM;

	if (t->child > 0) {
		answer_must(&t->random, !child_wait(t->child, NULL), "a child read into its parent's memory");
		t->child = 0;
		return 0;
	}
	t->child = fork();
	if (t->child)
		return NO_ANSWER;
	if (pinned)
		ret = read_one(t->node[region->node], t->target[region->node], region->id, 0, 0, PAGE);
	usleep(usec);
	_exit(ret >= 0);
}

static int do_reopen(struct thread *t)
{
	unsigned int n = below(&t->random, NODES);

	node_drop(t, n);
	node_setup(t, n);
	return t->node[n] < 0 ? t->node[n] : 0;
}

static int do_op(struct thread *t, enum fuzz_op op)
{
	switch (op) {
	case OP_ADD:
	case OP_DEL:
		return do_target(t, op);
	case OP_ALLOC:
	case OP_PIN:
	case OP_BAR:
		return do_region(t, op);
	case OP_SHARE:
	case OP_EXPORT:
		return do_share(t, op);
	case OP_FREE:
	case OP_FREE_WAIT:
	case OP_FREE_OTHER:
		return do_free(t, op);
	case OP_READ:
		return do_read(t);
	case OP_RING:
		return do_ring(t);
	case OP_REAP:
		return reap(t, below(&t->random, 16) ? 0 : 1) ? 0 : NO_ANSWER;
	case OP_MAP:
		return do_map(t);
	case OP_TOUCH:
	case OP_FILE_READ:
		return do_mapped(t, op);
	case OP_EVENT:
		return do_event(t);
	case OP_FORK:
		return do_fork(t);
	case OP_REOPEN:
		return do_reopen(t);
	case OP_RESTART:
		thread_drop(t);
		return thread_setup(t) ? 0 : -ENOMEM;
	case OP_SIGNAL:
		return -pthread_kill(threads[below(&t->random, THREADS)].id, SIGUSR1);
	case OP_UNKNOWN:
		answer_must(&t->random, command_unknown(&t->random, t->node[0]), "an unknown command is not ENOTTY");
		return 0;
	default:
		return do_look(t, op);
	}
}

#endif
