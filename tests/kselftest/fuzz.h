/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the random commands are made of: the random numbers of a thread, what
 * was done and how often, which answers are documented, and commands whose
 * struct is harmed in one place: its size, its tail, a field, its address.
 *
 * A harmed command may still be a good one. What it made is taken back at
 * once, so that a caller knows all that there is.
 */
#ifndef PENSTOCK_FUZZ_H
#define PENSTOCK_FUZZ_H

#include <pthread.h>
#include "penstock_util.h"

enum fuzz_op {
	OP_INFO, OP_ENUM, OP_ADD, OP_DEL, OP_ALLOC, OP_PIN, OP_BAR, OP_SHARE, OP_PROBE, OP_READ, OP_FREE, OP_FREE_WAIT,
	OP_FREE_OTHER, OP_EXPORT, OP_STAT, OP_RING, OP_REAP, OP_MAP, OP_TOUCH, OP_FILE_READ, OP_EVENT, OP_FORK,
	OP_REOPEN, OP_RESTART, OP_SIGNAL, OP_UNKNOWN, OP_HARMED, OP_NR
};

static const char *const fuzz_names[OP_NR] = { "info", "enum", "add", "del", "alloc", "pin", "bar", "share", "probe",
	"read", "free", "free-wait", "free-other", "export", "stat", "ring", "reap", "map", "touch", "file-read",
	"event", "fork", "reopen", "restart", "signal", "unknown", "harmed" };

/* Written by each thread for itself, and shared with the process that started all. */
struct fuzz_counts {
	uint64_t tried[OP_NR], good[OP_NR];
	uint64_t bytes;		/* that reads brought */
	uint64_t bad;		/* answers that are not documented */
};

#define HARM_LEN	(2 * PAGE)	/* and a page behind it that is not there */

struct fuzz_random {
	uint64_t state;
	struct fuzz_counts *counts;
	char *harm;
};

/* splitmix64 */
static inline uint64_t random_u64(struct fuzz_random *r)
{
	uint64_t z = r->state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static inline uint32_t below(struct fuzz_random *r, uint32_t n)
{
	return (uint32_t)(random_u64(r) >> 32) % n;
}

/* A word that is @word no more, as a rule. */
static inline uint32_t random_garbage(struct fuzz_random *r, uint32_t word)
{
	static const uint32_t limits[] = { 0, 1, 2, PAGE - 1, PAGE, PAGE + 1, 1U << 24, 0x7fffffff, 0x80000000,
		0xfffff000, 0xffffffff };

	switch (below(r, 4)) {
	case 0:
		return limits[below(r, ARRAY_SIZE(limits))];
	case 1:
		return word ^ 1U << below(r, 32);
	case 2:
		return below(r, 64);
	default:
		return (uint32_t)random_u64(r);
	}
}

static inline bool random_setup(struct fuzz_random *r, uint64_t seed, struct fuzz_counts *counts)
{
	r->state = seed;
	r->counts = counts;
	r->harm = mmap(NULL, HARM_LEN + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return r->harm != MAP_FAILED && !mprotect(r->harm + HARM_LEN, PAGE, PROT_NONE);
}

/* ---- answers ---- */

/* Whatever else a command answers is a fault; prints it. */
static inline bool answer_is_documented(struct fuzz_random *r, const char *what, int64_t ret)
{
	static const int known[] = { EFAULT, ENOTTY, EINVAL, E2BIG, EOPNOTSUPP, ENOENT, EOVERFLOW, ENOMEM, ENOSPC,
		EPERM, EBUSY, ENODEV, EREMOTEIO, EINTR, EBADF };
	size_t i;

	if (ret >= 0)
		return true;
	for (i = 0; i < ARRAY_SIZE(known); i++)
		if (ret == -known[i])
			return true;
	/* At once, and whole, also from a process that is about to be killed. */
	dprintf(1, "# %s: %s (%lld) is not documented\n", what, strerror((int)-ret), (long long)ret);
	r->counts->bad++;
	return false;
}

/* Counts and prints what is not as documented. */
static inline void answer_must(struct fuzz_random *r, bool good, const char *what)
{
	if (good)
		return;
	dprintf(1, "# %s\n", what);
	r->counts->bad++;
}

/* ---- commands ---- */

/* Take back what a harmed command made, its answer is at @arg. */
static inline void harmed_undo(int node, unsigned long cmd, void *arg)
{
	switch (cmd) {
	case PENSTOCK_IOC_TARGET_ADD:
		target_del(node, ((struct penstock_target_add *)arg)->out_target_id);
		break;
	case PENSTOCK_IOC_REGION_ALLOC:
		region_free(node, ((struct penstock_region_alloc *)arg)->out_region_id, PENSTOCK_REGION_FREE_F_WAIT);
		break;
	case PENSTOCK_IOC_REGION_PIN:
		region_free(node, ((struct penstock_region_pin *)arg)->out_region_id, PENSTOCK_REGION_FREE_F_WAIT);
		break;
	case PENSTOCK_IOC_REGION_PEER:
		region_free(node, ((struct penstock_region_peer *)arg)->out_region_id, PENSTOCK_REGION_FREE_F_WAIT);
		break;
	case PENSTOCK_IOC_REGION_EXPORT:
		close(((struct penstock_region_export *)arg)->out_fd);
		break;
	}
}

/* Whether a word may get any value. REGION_READ's address not: what lies there would be any reads. */
static inline bool word_may_change(unsigned long cmd, uint32_t word)
{
	size_t uptr = offsetof(struct penstock_region_read, reads_uptr) / 4;

	return cmd != PENSTOCK_IOC_REGION_READ || (word != uptr && word != uptr + 1);
}

static inline int command_harmed(struct fuzz_random *r, int node, unsigned long cmd, const void *arg, uint32_t size)
{
	const uint32_t sizes[] = { 0, 4, size - 1, size - 4, size - 8, size + 1, size + 8, 256, PAGE - 8, PAGE,
		PAGE + 1, 0x80000000, 0xffffffff };
	char *p = r->harm;
	uint32_t word, given;
	int ret;

	/* What lies behind the struct is zero, or not, or not there. */
	memset(p, below(r, 4) ? 0 : 1, HARM_LEN);
	if (!below(r, 8))
		p += HARM_LEN - size;
	memcpy(p, arg, size);
	switch (below(r, 8)) {
	case 0:
	case 1:
		given = sizes[below(r, ARRAY_SIZE(sizes))];
		memcpy(p, &given, sizeof(given));
		break;
	case 2:
		/* Half of it is there, or nothing is. */
		if (below(r, 2))
			memmove(r->harm + HARM_LEN - size / 2, arg, size / 2);
		p = below(r, 4) ? r->harm + HARM_LEN - size / 2 : below(r, 2) ? NULL : (char *)-PAGE;
		break;
	default:
		word = 1 + below(r, size / 4 - 1);
		if (!word_may_change(cmd, word))
			break;
		memcpy(&given, p + 4ULL * word, sizeof(given));
		given = random_garbage(r, given);
		memcpy(p + 4ULL * word, &given, sizeof(given));
	}
	r->counts->tried[OP_HARMED]++;
	ret = penstock(node, cmd, p);
	if (!ret) {
		r->counts->good[OP_HARMED]++;
		harmed_undo(node, cmd, p);
	}
	return ret;
}

/* Does it, or now and then something like it: then -ECANCELED, since nobody knows whether it was done. */
static inline int command(struct fuzz_random *r, int node, unsigned long cmd, void *arg, uint32_t size)
{
	char what[32];
	bool harmed = !below(r, 6);
	int ret = harmed ? command_harmed(r, node, cmd, arg, size) : penstock(node, cmd, arg);

	snprintf(what, sizeof(what), "%scommand %#lx", harmed ? "harmed " : "", _IOC_NR(cmd));
	answer_is_documented(r, what, ret);
	return harmed ? -ECANCELED : ret;
}

/* A number that is no command, or one for a ring, with any struct. */
static inline bool command_unknown(struct fuzz_random *r, int node)
{
	static const uint32_t numbers[] = { 0x0c, 0x0f, 0x3f, 0x40, 0x41, 0x80, 0xff };
	uint32_t nr = numbers[below(r, ARRAY_SIZE(numbers))];
	unsigned long cmd = _IO(PENSTOCK_IOC_TYPE, nr);

	memset(r->harm, (int)below(r, 256), HARM_LEN);
	/* Also a good number under another type, or with a size in it. */
	if (below(r, 2))
		cmd = below(r, 2) ? _IO(PENSTOCK_IOC_TYPE ^ 1, below(r, 12)) : _IOWR(PENSTOCK_IOC_TYPE, 0, uint64_t);
	return penstock(node, cmd, r->harm) == -ENOTTY;
}

/* ---- reads ---- */

/* Never so that it goes to another read's bytes: the @chunk from its region offset is its own, and there are @len. */
static inline void read_harm(struct fuzz_random *r, struct penstock_uring_read *read, uint32_t chunk, uint64_t len)
{
	uint32_t garbage = random_garbage(r, 0);

	switch (below(r, 8)) {
	case 0:
		read->target_id = garbage;
		break;
	case 1:
		/* None that this open can have. */
		read->region_id = below(r, 2) ? 0 : garbage | 1U << 24;
		break;
	case 2:
		if (below(r, 2))
			read->length = (uint32_t)len + PAGE;
		else
			read->length = garbage < len ? garbage % chunk : garbage;
		break;
	case 3:
		read->offset = below(r, 2) ? random_u64(r) : read->offset + garbage % PAGE;
		break;
	case 4:
		read->region_offset = below(r, 2) ? len + garbage : -(uint64_t)(garbage % (2 * PAGE)) - 1;
		break;
	case 5:
		/* Within the chunk, on any byte. */
		read->region_offset += garbage % PAGE;
		read->length = 512 * (1 + below(r, (chunk - PAGE) / 512));
		break;
	case 6:
		read->flags = garbage;
		break;
	default:
		read->__reserved[below(r, ARRAY_SIZE(read->__reserved))] = below(r, 2) ? garbage : 1ULL << 63;
	}
}

#endif
