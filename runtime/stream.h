/* SPDX-License-Identifier: MIT */
/*
 * The conductor's objects: context, model, size class, load, ticket, queue.
 *
 * Files: stream_load.c (an expert's way from the drive into its slot), stream_progress.c
 * (the thread that owns the ring), stream_ticket.c (who waits for what). ctx*.c hold
 * the public entry points.
 *
 * Locks, in this order: penstock_ctx.admin makes opening and closing models and
 * resizing exclude one another; it is held over slow work. penstock_ctx.lock protects
 * everything below except what is marked otherwise; it is never held over a system
 * call that can block (except unmapping after a resize).
 *
 * Pins: a slot is pinned once by its load while that runs, and once by each ticket
 * that was served with it. Who took a pin drops it.
 */
#ifndef PENSTOCK_STREAM_H
#define PENSTOCK_STREAM_H

#include <pthread.h>
#include <stdatomic.h>

#include "cache.h"
#include "err.h"
#include "flow.h"
#include "index.h"
#include "mem_peer.h"
#include "ring.h"
#include "route.h"
#include "slot.h"

/* Reads of guesses that may be in flight at once, beyond the first: a demand waits for them. */
#define PENSTOCK_GUESS_NS	1000000u

struct penstock_class;

/* A ticket's interest in one expert. */
struct penstock_entry {
	struct penstock_ticket *ticket;
	struct penstock_entry *next_waiter;	/* of the same load */
	uint32_t expert;
	uint32_t slot;
	bool ready;
};

/*
 * One expert on its way into its slot; each slot has one, reused. @ranges and
 * @part_off stay valid while the slot holds the expert.
 */
struct penstock_load {
	struct penstock_class *cls;
	uint32_t slot;
	uint32_t layer;			/* of the model */
	uint32_t expert;
	uint32_t nr_ranges;
	uint32_t next_range;		/* next read to submit: range, and read in it */
	uint64_t next_read;
	uint32_t outstanding;		/* reads submitted, not complete */
	uint64_t outstanding_bytes;
	int status;
	bool guess;			/* in the queue of guesses */
	bool queued;			/* in a queue: has reads to submit */
	bool dropped;			/* nobody wants it: submit no more */
	struct penstock_error *error;	/* of the first failed read; NULL if out of memory */
	struct penstock_entry *waiters;
	struct penstock_load *next;	/* in the queue */
	struct penstock_load *prev;
	struct penstock_range ranges[PENSTOCK_MAX_PARTS];
	uint64_t part_off[PENSTOCK_MAX_PARTS];
};

struct penstock_load_queue {
	struct penstock_load *head;
	struct penstock_load *tail;
};

/* Layers of one model whose experts have the same size, and their slots. */
struct penstock_class {
	struct penstock_model *model;
	struct penstock_cache *cache;
	struct penstock_arena arena;
	struct penstock_load *loads;	/* by slot */
	uint64_t expert_bytes;
	uint64_t slot_bytes;
	uint64_t total_bytes;		/* slot_bytes of all its experts */
	uint32_t nr_experts;		/* most experts of a layer */
	uint32_t nr_layers;
	uint32_t least_slots;
	uint32_t nr_parts;
	struct penstock_ticket *line;	/* tickets waiting for slots, oldest first */
	struct penstock_ticket **line_end;
};

struct penstock_model {
	struct penstock_ctx *ctx;
	struct penstock_model *next;
	struct penstock_index *index;
	uint32_t *align;		/* by file */
	struct penstock_route_target *targets; /* by file; NULL without the driver */
	enum penstock_route route;
	uint32_t file_base;		/* ring's number of file 0 */
	struct penstock_class *classes;
	uint32_t nr_classes;
	uint32_t *class_layer;		/* by layer: number within its class */
	uint64_t cache_bytes;
	uint64_t least_bytes;
	uint64_t expert_bytes;
	uint64_t token_bytes;
	uint64_t dense_bytes;
	bool stream;
	uint32_t in_flight;		/* reads */
	int status;			/* sticky: -ESTALE */
	struct penstock_error error;
	uint64_t checked_ns;
	/* part descriptions never change: read without the lock */
};

struct penstock_queue {
	struct penstock_ctx *ctx;
	struct penstock_error err;	/* the owner's thread only */
	pthread_cond_t cond;
	bool waiting;
	uint32_t pins;			/* held by its tickets */
	struct penstock_ticket *spare;	/* one released ticket, reused */
	void *scratch;			/* the owner's thread only: penstock_moe_forward() */
	size_t scratch_len;
};

struct penstock_ticket {
	struct penstock_queue *queue;
	struct penstock_model *model;
	struct penstock_class *cls;
	uint32_t layer;
	uint32_t class_layer;
	uint32_t nr;
	uint32_t room;			/* entries allocated */
	uint32_t nr_hits;
	uint32_t nr_order;		/* entries that are there, in order[] */
	uint32_t nr_handed;		/* of these, handed out by penstock_next() */
	bool served;			/* has its slots; else it stands in line */
	bool cancelled;
	int notify_fd;			/* eventfd to write to once, or -1 */
	int status;
	struct penstock_error err;
	struct penstock_ticket *next_in_line;
	uint32_t *order;
	struct penstock_entry entries[];
};

/* Work for the thread that owns the ring; the caller sleeps until it is done. */
struct penstock_call {
	int (*fn)(struct penstock_ctx *ctx, void *arg);
	void *arg;
	int rc;
	bool done;
	struct penstock_call *next;
};

/* What was found out about a drive and the context's device. */
struct penstock_pair {
	dev_t dev;
	uint32_t routes;		/* that were looked at, a bit each */
	struct penstock_route_found found;
	struct penstock_pair *next;
};

struct penstock_ctx {
	pthread_mutex_t admin;
	pthread_mutex_t lock;
	pthread_cond_t call_done;	/* a call ended; a closing model's last read ended */
	pthread_cond_t kicked;		/* the thread's work, once the ring is broken */
	pthread_t thread;
	bool has_thread;
	bool stop;
	bool garbage;			/* a slot died: some segment may be free to go */
	bool sleeping;			/* the ring's thread waits in reap: wake it */
	int broken;			/* the ring failed: every load fails with this */
	uint32_t flags;
	int policy;
	char device[32];
	struct penstock_mem_source source; /* of slots */
	struct penstock_drv_peer peer;	/* the device, if it is one */
	int drv;			/* the driver's node, or -1 */
	uint32_t routes;		/* that may be chosen, a bit each */
	struct penstock_pair *pairs;	/* under admin */
	struct penstock_mem canary;	/* of the device, to look again */
	uint64_t polled_ns;		/* the ring's thread only: when events were last asked for */
	bool look_again;		/* the ring's thread only: verdicts are void */
	struct penstock_segment stage;	/* bounce: host memory, one place a read record */
	uint64_t cache_bytes;
	uint64_t seq;			/* marks of fetches */
	uint32_t pins;			/* held by tickets, all queues */
	atomic_uint *alive;		/* wiped by fork */
	struct penstock_ring *ring;	/* the ring's thread only */
	uint32_t depth;			/* reads in flight at most */
	uint32_t split;
	bool fixed_depth;
	bool fixed_split;
	bool tuned;
	uint64_t drive_bytes_per_s;
	uint64_t drive_latency_ns;
	struct penstock_read *reads;	/* records, depth of them */
	struct penstock_read *free_reads;
	struct penstock_load_queue demand;
	struct penstock_load_queue guess;
	uint32_t demand_in_flight;
	uint32_t guess_in_flight;
	uint64_t guess_bytes_in_flight;
	uint64_t busy_since_ns;
	struct penstock_call *calls;
	struct penstock_model *models;
	uint64_t *bufs_used;		/* bitmap of the ring's buffer numbers */
	const char *page_why;
	uint64_t page_size;
	struct penstock_stats stats;
	struct penstock_status status;
	char io_reason[256];
	char direct_reason[256];
	char route_reason[256];
	struct penstock_route_verdict verdicts[PENSTOCK_ROUTES]; /* of the model opened last */
	void (*log)(void *arg, enum penstock_log_level level, const char *line);
	void *log_arg;
};

/* ---- stream_load.c; the lock is held ---- */

/**
 * penstock_load_start() - plan a taken slot's expert and put it into a queue
 * Return: 0; -errno with text: the slot must be given up.
 */
int penstock_load_start(struct penstock_class *cls, uint32_t slot, uint32_t layer, uint32_t expert, bool guess,
			struct penstock_error *err);
/** penstock_load_promote() - a guess, or a dropped load, is wanted now: it goes on with the demands */
void penstock_load_promote(struct penstock_load *ld);
/** penstock_load_forget() - its last waiter left: submit no more of it; frees the slot if nothing is in flight */
void penstock_load_forget(struct penstock_load *ld);
/** penstock_load_next_read() - fill @r with the next read to submit. Return: false if there is none to submit now. */
bool penstock_load_next_read(struct penstock_ctx *ctx, struct penstock_read *r);
/** penstock_load_read_done() - account a final read; completes the load with its last one */
void penstock_load_read_done(struct penstock_ctx *ctx, struct penstock_read *r);
/** penstock_load_drop_guesses() - forget guesses of a layer: those of which nothing was submitted, or (@started) all */
void penstock_load_drop_guesses(struct penstock_model *model, uint32_t layer, bool started);
/**
 * penstock_load_drop_one() - forget one guess of a class, so that a ticket can have its slot
 * Return: false if there is none that can go.
 */
bool penstock_load_drop_one(struct penstock_class *cls);

/* ---- stream_progress.c ---- */

/** penstock_progress_start() - start the thread, unless the caller drives. Return: 0; -EAGAIN; -ENOMEM. */
int penstock_progress_start(struct penstock_ctx *ctx);
/** penstock_progress_stop() - wait for reads in flight, end the thread */
void penstock_progress_stop(struct penstock_ctx *ctx);
/** penstock_progress_call() - run fn on the thread that owns the ring. Lock not held. Return: fn's. */
int penstock_progress_call(struct penstock_ctx *ctx, int (*fn)(struct penstock_ctx *ctx, void *arg), void *arg);
/** penstock_progress_once() - submit, wait, complete; for the owner of the ring. Lock not held. */
void penstock_progress_once(struct penstock_ctx *ctx, uint64_t timeout_ns);
/** penstock_progress_kick() - there is something to submit. Lock held. */
void penstock_progress_kick(struct penstock_ctx *ctx);

/* ---- stream_ticket.c; the lock is held unless said otherwise ---- */

/** penstock_ticket_ready() - an entry's expert is there (@rc 0), or failed */
void penstock_ticket_ready(struct penstock_entry *e, int rc, const struct penstock_error *err);
/** penstock_ticket_tell() - the ticket's state changed: wake who waits for it */
void penstock_ticket_tell(struct penstock_ticket *t);
/** penstock_ticket_serve_line() - slots became available: serve tickets in line */
void penstock_ticket_serve_line(struct penstock_class *cls);

/* ---- ctx.c, ctx_model.c ---- */

/** penstock_ctx_check() - Return: 0, or -ESTALE in a forked child */
int penstock_ctx_check(const struct penstock_ctx *ctx, struct penstock_error *err);
void penstock_ctx_log(struct penstock_ctx *ctx, enum penstock_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/** penstock_model_class() - class of a MoE layer, or NULL */
struct penstock_class *penstock_model_class(const struct penstock_model *m, uint32_t layer);
/**
 * penstock_class_slots() - a class's share of a model's budget
 * By the bytes of its experts; at least its least, at most all.
 */
uint32_t penstock_class_slots(const struct penstock_model *m, const struct penstock_class *c, uint64_t budget);
/**
 * penstock_class_grow() - map segments until the class has @slots slots
 * Admin lock held, lock not. Return: 0; -ENOMEM, -ENOSPC.
 */
int penstock_class_grow(struct penstock_class *c, uint32_t slots, struct penstock_error *err);
/**
 * penstock_ctx_register() - make a segment one of the ring's buffers
 * A refusal (locked memory, no number left) is no failure: its reads are plain then. Admin lock held, lock not.
 */
void penstock_ctx_register(struct penstock_ctx *ctx, struct penstock_segment *s);
/** penstock_ctx_unregister() - undo it; locks as above */
void penstock_ctx_unregister(struct penstock_ctx *ctx, struct penstock_segment *s);
/** penstock_ctx_set_files() - tell the ring all models' files; for penstock_progress_call() */
int penstock_ctx_set_files(struct penstock_ctx *ctx, void *unused);
/** penstock_model_shut() - take a model, linked or not, out of its context and destroy it. Admin lock held. */
void penstock_model_shut(struct penstock_model *m);
/** penstock_model_destroy() - everything but the link in the context's list; buffers are unregistered */
void penstock_model_destroy(struct penstock_model *m);
/**
 * penstock_model_tune() - measure the drive of the first large model; sets depth and split
 * No read may be in flight. Return: 0; -errno of the reads.
 */
int penstock_model_tune(struct penstock_model *m, struct penstock_error *err);

/* ---- ctx_device.c, ctx_route.c, stream_device.c: devices that are reached by a route ---- */

/**
 * penstock_ctx_open_device() - take device and route from the options
 * Opens the driver's node where they need it. Return: 0; -EINVAL unknown; -EOPNOTSUPP, -ENODEV, -EACCES not here.
 */
int penstock_ctx_open_device(struct penstock_ctx *ctx, const struct penstock_options *o, struct penstock_error *err);
void penstock_ctx_close_device(struct penstock_ctx *ctx);
/** penstock_model_targets() - hand the files to the driver; aligns by what it wants. Return: 0; -ENOSPC. */
int penstock_model_targets(struct penstock_model *m, struct penstock_error *err);
void penstock_model_targets_drop(struct penstock_model *m);
/**
 * penstock_model_choose_route() - examine the model's drives, choose
 * Admin lock held. Return: 0; -EREMOTEIO, -EOPNOTSUPP and others: no route that is allowed can be used, and why.
 */
int penstock_model_choose_route(struct penstock_model *m, struct penstock_error *err);
/** penstock_file_drive() - the device number of the drive (partition, volume) that a file lies on, or is */
dev_t penstock_file_drive(const struct penstock_file *f);
/** penstock_model_stage() - staging, if its route needs it. No read of it is in flight. Return: 0; -errno. */
int penstock_model_stage(struct penstock_model *m, struct penstock_error *err);
/** penstock_model_registers() - are its slots of use as registered buffers? */
bool penstock_model_registers(const struct penstock_model *m);
/** penstock_model_pair() - the pair of one of its files and the device, as route.h wants it */
void penstock_model_pair(const struct penstock_model *m, uint32_t file, struct penstock_route_pair *p);
/** penstock_model_split() - largest read. With route direct a merged extent is one read. */
uint32_t penstock_model_split(const struct penstock_model *m);
/** penstock_ctx_place() - staging of one read of route bounce: its split, or what the host's memory allows, if less */
uint32_t penstock_ctx_place(const struct penstock_ctx *ctx);
/** penstock_device_poll() - hear what happened to the device; on the ring's thread. Lock not held. */
void penstock_device_poll(struct penstock_ctx *ctx);
/** penstock_device_judge() - final reads: copy from staging, ask the driver about those that did not reach it */
void penstock_device_judge(struct penstock_ctx *ctx, struct penstock_read *done);

/** penstock_ctx_admin_end() - drop the admin lock; what died meanwhile is the ring's thread's to unmap */
void penstock_ctx_admin_end(struct penstock_ctx *ctx);
/**
 * penstock_ctx_collect() - unmap segments whose slots are all dead
 * On the ring's thread, both locks held (admin by whoever asked).
 */
void penstock_ctx_collect(struct penstock_ctx *ctx);

#endif
