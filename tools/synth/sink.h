/* SPDX-License-Identifier: MIT */
/*
 * A file that is written from start to end. Bytes gather in a buffer and go out
 * in pieces of SYNTH_SINK_PIECE; pages are sent to the drive at once and dropped
 * from the page cache once they are there, so that a checkpoint larger than
 * memory pushes nothing else out.
 */
#ifndef PENSTOCK_SYNTH_SINK_H
#define PENSTOCK_SYNTH_SINK_H

#include <stddef.h>
#include <stdint.h>
#include <penstock/penstock.h>

#define SYNTH_SINK_PIECE	(8u << 20)
/* Largest reservation: a row, or a piece of an expert. */
#define SYNTH_SINK_ROOM		(1u << 20)
/* Bytes that may be under way to the drive before the writer waits. */
#define SYNTH_SINK_BEHIND	(4 * (uint64_t)SYNTH_SINK_PIECE)

/**
 * struct synth_sink - one file
 * @off: bytes handed to the kernel
 * @len: bytes in @buf
 * @dropped: bytes whose pages were given back
 * @written: told after every piece; a non-zero return ends the write with it
 */
struct synth_sink {
	int fd;
	char *path;
	uint8_t *buf;
	size_t len;
	uint64_t off;
	uint64_t dropped;
	int (*written)(void *arg, uint64_t bytes);
	void *arg;
};

/** synth_sink_open() - create a file that must not exist. Return: 0; -errno of open; -ENOMEM. */
int synth_sink_open(struct synth_sink *s, const char *path, struct penstock_error *err);
/** synth_sink_room() - memory for the next @len <= SYNTH_SINK_ROOM bytes, or NULL after an error */
void *synth_sink_room(struct synth_sink *s, size_t len, struct penstock_error *err);
/** synth_sink_add() - the @len bytes at synth_sink_room() are filled */
static inline void synth_sink_add(struct synth_sink *s, size_t len)
{
	s->len += len;
}

/** synth_sink_put() - copy bytes in; Return: 0 or -errno of write */
int synth_sink_put(struct synth_sink *s, const void *data, size_t len, struct penstock_error *err);
/** synth_sink_tell() - bytes so far */
static inline uint64_t synth_sink_tell(const struct synth_sink *s)
{
	return s->off + s->len;
}

/** synth_sink_pad() - zeroes up to a multiple of @align */
int synth_sink_pad(struct synth_sink *s, uint64_t align, struct penstock_error *err);
/** synth_sink_close() - everything to the drive. Return: 0; -errno of write, fsync or close. */
int synth_sink_close(struct synth_sink *s, struct penstock_error *err);
/** synth_sink_abort() - close without a word; @s may be zeroed or closed */
void synth_sink_abort(struct synth_sink *s);

#endif
