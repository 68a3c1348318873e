// SPDX-License-Identifier: MIT
/*
 * The compute threads. One job at a time: [0, n) cut into pieces that the
 * threads and the caller take from a shared counter. A thread that wakes up too
 * late finds nothing left and is not waited for, so that a busy machine costs
 * the caller no more than the pieces that others really took.
 *
 * `claim` holds the job's number and the next piece. A piece is taken by compare
 * and exchange of both, so that a thread with fields of an older job never gets
 * a piece of a newer one: between reading the fields and the exchange the job
 * cannot change unnoticed, and once the exchange succeeded the job cannot end.
 *
 * Lock: `lock` is held by the caller for the whole job; nothing is taken inside.
 */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "../kimpl.h"
#include "cpu.h"
#include "cpus.h"

#define SPIN_NS		30000
#define PIECES_A_THREAD	8
#define MAX_THREADS	1024

struct penstock_pool {
	struct penstock_k_ops ops;
	unsigned int nr_threads;
	unsigned int nr_started;
	pid_t owner;
	pthread_t *threads;
	pthread_mutex_t lock;

	/* the job: written under `lock` while `claim` shows no piece */
	_Atomic(void (*)(void *arg, size_t begin, size_t end)) fn;
	_Atomic(void *) arg;
	atomic_size_t n;
	atomic_size_t piece;
	_Atomic uint32_t nr_pieces;

	_Atomic uint64_t claim __attribute__((aligned(64)));	/* job << 32 | next piece */
	_Atomic uint32_t done __attribute__((aligned(64)));	/* pieces done; futex of the caller */
	_Atomic uint32_t caller_sleeps;
	_Atomic uint32_t job __attribute__((aligned(64)));	/* futex of the threads */
	_Atomic uint32_t nr_asleep;
	atomic_bool stop;
};

/* the pool whose piece this thread is computing */
static __thread const struct penstock_pool *inside;

static void futex_wait(_Atomic uint32_t *word, uint32_t seen)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int nr)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, nr, NULL, NULL, 0);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#endif
}

/* until *@word differs from @seen, at most SPIN_NS; true if it does */
static bool spin(_Atomic uint32_t *word, uint32_t seen)
{
	uint64_t start = now_ns();
	int i;

	do {
		for (i = 0; i < 64; i++) {
			if (atomic_load_explicit(word, memory_order_acquire) != seen)
				return true;
			relax();
		}
	} while (now_ns() - start < SPIN_NS);
	return false;
}

/* take pieces of job @job until none is left */
static void work(struct penstock_pool *pool, uint32_t job)
{
	void (*fn)(void *arg, size_t begin, size_t end);
	size_t n, piece, begin, end;
	uint32_t nr, idx;
	uint64_t claim;
	const struct penstock_pool *outer;
	void *arg;

	claim = atomic_load(&pool->claim);
	for (;;) {
		fn = atomic_load_explicit(&pool->fn, memory_order_relaxed);
		arg = atomic_load_explicit(&pool->arg, memory_order_relaxed);
		n = atomic_load_explicit(&pool->n, memory_order_relaxed);
		piece = atomic_load_explicit(&pool->piece, memory_order_relaxed);
		nr = atomic_load_explicit(&pool->nr_pieces, memory_order_relaxed);
		idx = (uint32_t)claim;
		if ((uint32_t)(claim >> 32) != job || idx >= nr)
			return;
		if (!atomic_compare_exchange_weak(&pool->claim, &claim, claim + 1))
			continue;
		claim++;
		begin = idx * piece;
		end = n - begin < piece ? n : begin + piece;
		outer = inside;
		inside = pool;
		fn(arg, begin, end);
		inside = outer;
		if (atomic_fetch_add(&pool->done, 1) + 1 == nr && atomic_load(&pool->caller_sleeps))
			futex_wake(&pool->done, 1);
	}
}

static void *thread_main(void *arg)
{
	struct penstock_pool *pool = arg;
	uint32_t seen = 0, job;

	for (;;) {
		if (!spin(&pool->job, seen)) {
			atomic_fetch_add(&pool->nr_asleep, 1);
			while (atomic_load(&pool->job) == seen)
				futex_wait(&pool->job, seen);
			atomic_fetch_sub(&pool->nr_asleep, 1);
		}
		job = atomic_load(&pool->job);
		if (atomic_load(&pool->stop))
			return NULL;
		work(pool, job);
		seen = job;
	}
}

static void wait_done(struct penstock_pool *pool, uint32_t nr)
{
	uint32_t done;

	while ((done = atomic_load(&pool->done)) != nr) {
		if (spin(&pool->done, done))
			continue;
		atomic_store(&pool->caller_sleeps, 1);
		/* only the last piece wakes, so a count that moved on is read again */
		while ((done = atomic_load(&pool->done)) != nr)
			futex_wait(&pool->done, done);
		atomic_store(&pool->caller_sleeps, 0);
	}
}

void penstock_pool_run(struct penstock_pool *pool, size_t n, size_t grain,
		       void (*fn)(void *arg, size_t begin, size_t end), void *arg)
{
	size_t piece, nr;
	uint32_t job;
	int asleep;

	if (!n)
		return;
	if (!grain)
		grain = 1;
	piece = n / ((size_t)pool->nr_threads * PIECES_A_THREAD);
	/* whole grains, so that a piece begins on one */
	piece = piece < grain ? grain : piece / grain * grain;
	nr = (n - 1) / piece + 1;
	if (nr == 1 || pool->nr_threads == 1 || inside == pool || nr > UINT32_MAX || getpid() != pool->owner) {
		fn(arg, 0, n);
		return;
	}
	pthread_mutex_lock(&pool->lock);
	job = atomic_load(&pool->job) + 1;
	/* job's own number with no piece left: nobody takes one while the fields change */
	atomic_store(&pool->claim, (uint64_t)job << 32 | UINT32_MAX);
	atomic_store(&pool->done, 0);
	atomic_store_explicit(&pool->fn, fn, memory_order_relaxed);
	atomic_store_explicit(&pool->arg, arg, memory_order_relaxed);
	atomic_store_explicit(&pool->n, n, memory_order_relaxed);
	atomic_store_explicit(&pool->piece, piece, memory_order_relaxed);
	atomic_store_explicit(&pool->nr_pieces, (uint32_t)nr, memory_order_relaxed);
	atomic_store(&pool->claim, (uint64_t)job << 32);
	atomic_store(&pool->job, job);
	asleep = (int)atomic_load(&pool->nr_asleep);
	if (asleep)
		futex_wake(&pool->job, (size_t)asleep < nr - 1 ? asleep : (int)(nr - 1));
	work(pool, job);
	wait_done(pool, (uint32_t)nr);
	pthread_mutex_unlock(&pool->lock);
}

static void stop_threads(struct penstock_pool *pool)
{
	unsigned int i;

	atomic_store(&pool->stop, true);
	atomic_fetch_add(&pool->job, 1);
	futex_wake(&pool->job, INT32_MAX);
	for (i = 0; i < pool->nr_started; i++)
		pthread_join(pool->threads[i], NULL);
}

int penstock_pool_create(unsigned int nr_threads, int isa, unsigned int flags, struct penstock_pool **out)
{
	struct penstock_k_ops ops;
	struct penstock_pool *pool;
	int rc;

	if (flags & ~PENSTOCK_POOL_F_FAST || nr_threads > MAX_THREADS)
		return -EINVAL;
	rc = penstock_cpu_ops(isa, flags & PENSTOCK_POOL_F_FAST, &ops);
	if (rc)
		return rc;
	if (!nr_threads)
		nr_threads = penstock_cpus_allowed();
	if (nr_threads > MAX_THREADS)
		nr_threads = MAX_THREADS;
	pool = aligned_alloc(64, (sizeof(*pool) + 63) / 64 * 64);
	if (!pool)
		return -ENOMEM;
	memset(pool, 0, sizeof(*pool));
	pool->threads = calloc(nr_threads, sizeof(*pool->threads));
	if (!pool->threads) {
		free(pool);
		return -ENOMEM;
	}
	pool->ops = ops;
	pool->nr_threads = nr_threads;
	pool->owner = getpid();
	pthread_mutex_init(&pool->lock, NULL);
	while (pool->nr_started + 1 < nr_threads) {
		rc = pthread_create(&pool->threads[pool->nr_started], NULL, thread_main, pool);
		if (rc) {
			penstock_pool_destroy(pool);
			return -rc;
		}
		pool->nr_started++;
	}
	*out = pool;
	return 0;
}

void penstock_pool_destroy(struct penstock_pool *pool)
{
	if (!pool)
		return;
	/* a child of fork has the memory, not the threads */
	if (getpid() == pool->owner)
		stop_threads(pool);
	pthread_mutex_destroy(&pool->lock);
	free(pool->threads);
	free(pool);
}

unsigned int penstock_pool_threads(const struct penstock_pool *pool)
{
	return pool->nr_threads;
}

const char *penstock_pool_isa_name(const struct penstock_pool *pool)
{
	return pool->ops.name;
}

const struct penstock_k_ops *penstock_pool_ops(const struct penstock_pool *pool)
{
	return &pool->ops;
}
