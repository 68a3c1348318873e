// SPDX-License-Identifier: MIT
/*
 * The pread engine, for where io_uring is refused: a few threads that read, by pread()
 * into memory and by the driver's ioctl into its regions: see ring.h.
 *
 * The ring's thread stages reads and publishes them as one batch at enter; workers
 * take them in order and append completions. @lock guards both lists. The ring's
 * thread sleeps on an eventfd, never on a condition variable, so that a wake may
 * come from a signal handler. One pread a round: what is left is ring.c's decision.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "drv.h"
#include "err.h"
#include "ring.h"
#include "util.h"

#define MAX_WORKERS	8u
#define STACK_SIZE	(256u << 10)

struct item {
	struct penstock_read *read;
	struct item *next;
	int fd;
	int res;
};

struct list {
	struct item *head;
	struct item **tail;
};

struct pool {
	/* only the ring's thread */
	struct item *items;
	struct item *spare;
	struct list staged;
	struct list popping;
	int *fds;
	uint32_t nr_fds;
	int drv;

	pthread_mutex_t lock;
	pthread_cond_t more;
	struct list todo;
	struct list done;
	bool stop;

	atomic_bool woken;
	int event_fd;
	uint32_t nr_workers;
	pthread_t workers[MAX_WORKERS];
};

static void list_clear(struct list *l)
{
	l->head = NULL;
	l->tail = &l->head;
}

static void list_add(struct list *l, struct item *it)
{
	it->next = NULL;
	*l->tail = it;
	l->tail = &it->next;
}

static struct item *list_take(struct list *l)
{
	struct item *it = l->head;

	if (it) {
		l->head = it->next;
		if (!l->head)
			l->tail = &l->head;
	}
	return it;
}

/* Append all of @from, which is empty afterwards. */
static void list_move(struct list *l, struct list *from)
{
	if (!from->head)
		return;
	*l->tail = from->head;
	l->tail = from->tail;
	list_clear(from);
}

/* Async-signal-safe. EAGAIN: the count is full, so the reader is being woken already. */
static void ring_bell(struct pool *p)
{
	uint64_t one = 1;
	int saved = errno;

	if (write(p->event_fd, &one, sizeof(one)) < 0)
		errno = saved;
}

/* By ioctl, into a region of the driver. */
static int read_region(int drv, const struct penstock_read *r)
{
	struct penstock_drv_read d = {
		.target = r->target, .region = r->region, .off = r->off + r->done,
		.region_off = r->region_off + r->done, .len = r->len - r->done,
	};
	int rc;

	do {
		rc = penstock_drv_read(drv, &d, 1);
	} while (rc == -EINTR);
	return rc ? rc : d.res;
}

static int read_item(int drv, const struct item *it)
{
	const struct penstock_read *r = it->read;
	ssize_t got;

	if (r->region)
		return read_region(drv, r);
	do {
		got = pread(it->fd, (char *)r->dst + r->done, penstock_min_u64(r->len - r->done, PENSTOCK_READ_MAX),
			    (off_t)(r->off + r->done));
	} while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : (int)got;
}

static void *work(void *arg)
{
	struct pool *p = arg;
	struct item *it;
	bool first;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (!p->stop && !p->todo.head)
			pthread_cond_wait(&p->more, &p->lock);
		it = list_take(&p->todo);
		if (!it)
			break;
		pthread_mutex_unlock(&p->lock);
		it->res = read_item(p->drv, it);
		pthread_mutex_lock(&p->lock);
		first = !p->done.head;
		list_add(&p->done, it);
		if (first)
			ring_bell(p);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static void stop_workers(struct pool *p)
{
	uint32_t i;

	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->more);
	pthread_mutex_unlock(&p->lock);
	for (i = 0; i < p->nr_workers; i++)
		pthread_join(p->workers[i], NULL);
}

/* Signals are the program's business: workers take none. Fewer workers than wanted are still an engine. */
static int start_workers(struct pool *p, uint32_t nr)
{
	sigset_t all, before;
	pthread_attr_t attr;
	int ret;

	ret = -pthread_attr_init(&attr);
	if (ret)
		return ret;
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (p->nr_workers < nr) {
		ret = -pthread_create(&p->workers[p->nr_workers], &attr, work, p);
		if (ret)
			break;
		p->nr_workers++;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return ret;
}

static int pread_open(uint32_t depth, int drv, void **engine, char *why, size_t why_len, struct penstock_error *err)
{
	uint32_t i, wanted = depth < MAX_WORKERS ? depth : MAX_WORKERS;
	struct pool *p;
	int ret;

	p = calloc(1, sizeof(*p));
	if (!p)
		return penstock_err(err, -ENOMEM, "pread ring: %zu bytes", sizeof(*p));
	p->drv = drv;
	p->items = calloc(depth, sizeof(*p->items));
	if (!p->items) {
		ret = penstock_err(err, -ENOMEM, "pread ring: %u records", depth);
		goto err_pool;
	}
	for (i = 0; i < depth; i++) {
		p->items[i].next = p->spare;
		p->spare = &p->items[i];
	}
	list_clear(&p->staged);
	list_clear(&p->popping);
	list_clear(&p->todo);
	list_clear(&p->done);
	p->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->event_fd < 0) {
		ret = penstock_err(err, -errno, "pread ring: a descriptor to wake it");
		goto err_items;
	}
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->more, NULL);
	ret = start_workers(p, wanted);
	if (!p->nr_workers) {
		ret = penstock_err(err, ret, "pread ring: none of %u threads could be started", wanted);
		goto err_event;
	}
	if (ret)
		snprintf(why, why_len, "pread: %u of %u threads could be started: %s", p->nr_workers, wanted,
			 strerrordesc_np(-ret));
	else if (drv >= 0)
		snprintf(why, why_len, "regions are read by the ioctl REGION_READ on %u threads", p->nr_workers);
	*engine = p;
	return 0;

err_event:
	close(p->event_fd);
err_items:
	free(p->items);
err_pool:
	free(p);
	return ret;
}

static void pread_close(void *engine)
{
	struct pool *p = engine;

	stop_workers(p);
	pthread_cond_destroy(&p->more);
	pthread_mutex_destroy(&p->lock);
	close(p->event_fd);
	free(p->fds);
	free(p->items);
	free(p);
}

static int pread_set_files(void *engine, const int *fds, uint32_t nr)
{
	struct pool *p = engine;
	int *copy = calloc(nr ? nr : 1, sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	if (nr)
		memcpy(copy, fds, nr * sizeof(*copy));
	free(p->fds);
	p->fds = copy;
	p->nr_fds = nr;
	return 0;
}

/* Threads read into any memory; there is nothing to register. */
static int pread_set_buffer(void *engine, uint32_t nr, void *base, size_t len)
{
	return base ? 1 : 0;
}

static int pread_queue(void *engine, struct penstock_read *r)
{
	struct pool *p = engine;
	struct item *it = p->spare;

	if (!it)
		return -EAGAIN;
	p->spare = it->next;
	it->read = r;
	it->fd = p->fds[r->file];
	list_add(&p->staged, it);
	return 0;
}

/* Hand over what is staged, take what is done. Return: whether there is something to pop. */
static bool exchange(struct pool *p)
{
	bool any = p->staged.head;

	pthread_mutex_lock(&p->lock);
	list_move(&p->todo, &p->staged);
	list_move(&p->popping, &p->done);
	if (any)
		pthread_cond_broadcast(&p->more);
	pthread_mutex_unlock(&p->lock);
	return p->popping.head;
}

static int pread_enter(void *engine, uint64_t timeout_ns)
{
	struct timespec ts = { .tv_sec = (time_t)(timeout_ns / 1000000000u),
			       .tv_nsec = (long)(timeout_ns % 1000000000u) };
	struct pool *p = engine;
	struct pollfd pfd = { .fd = p->event_fd, .events = POLLIN };
	uint64_t count;
	bool some;

	some = exchange(p);
	if (!some && timeout_ns && !atomic_load(&p->woken)) {
		if (ppoll(&pfd, 1, timeout_ns == UINT64_MAX ? NULL : &ts, NULL) < 0 && errno != EINTR)
			return -errno;
	}
	/* the bell first, then what it was rung for: nothing rung after this is missed by the next poll */
	if (read(p->event_fd, &count, sizeof(count)) < 0 && errno != EAGAIN && errno != EINTR)
		return -errno;
	exchange(p);
	return atomic_exchange(&p->woken, false);
}

static struct penstock_read *pread_pop(void *engine, int *res)
{
	struct pool *p = engine;
	struct item *it = list_take(&p->popping);
	struct penstock_read *r;

	if (!it)
		return NULL;
	r = it->read;
	*res = it->res;
	it->next = p->spare;
	p->spare = it;
	return r;
}

static void pread_wake(void *engine)
{
	struct pool *p = engine;

	atomic_store(&p->woken, true);
	ring_bell(p);
}

const struct penstock_ring_ops penstock_ring_pread = {
	.name = "pread",
	.open = pread_open,
	.close = pread_close,
	.set_files = pread_set_files,
	.set_buffer = pread_set_buffer,
	.queue = pread_queue,
	.enter = pread_enter,
	.pop = pread_pop,
	.wake = pread_wake,
};
