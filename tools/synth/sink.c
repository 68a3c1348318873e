// SPDX-License-Identifier: MIT
/* Writing large files without filling the page cache: see sink.h. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../runtime/err.h"
#include "sink.h"

int synth_sink_open(struct synth_sink *s, const char *path, struct penstock_error *err)
{
	s->fd = -1;
	s->len = 0;
	s->off = 0;
	s->dropped = 0;
	s->path = strdup(path);
	s->buf = s->path ? aligned_alloc(4096, SYNTH_SINK_PIECE + SYNTH_SINK_ROOM) : NULL;
	if (!s->buf) {
		synth_sink_abort(s);
		return penstock_err(err, -ENOMEM, "%s: write buffer of %u bytes", path,
				    SYNTH_SINK_PIECE + SYNTH_SINK_ROOM);
	}
	s->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (s->fd < 0) {
		int rc = penstock_err(err, -errno, "%s: create", path);

		synth_sink_abort(s);
		return rc;
	}
	return 0;
}

/* Start write-out of what was just written; wait for, and drop, what lies far enough behind. */
static void drop_behind(struct synth_sink *s, uint64_t fresh)
{
	uint64_t end;

	/* hints: a file system that knows neither still holds the data */
	sync_file_range(s->fd, (off_t)(s->off - fresh), (off_t)fresh, SYNC_FILE_RANGE_WRITE);
	if (s->off < s->dropped + 2 * SYNTH_SINK_BEHIND)
		return;
	end = s->off - SYNTH_SINK_BEHIND;
	sync_file_range(s->fd, (off_t)s->dropped, (off_t)(end - s->dropped),
			SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
	posix_fadvise(s->fd, (off_t)s->dropped, (off_t)(end - s->dropped), POSIX_FADV_DONTNEED);
	s->dropped = end;
}

static int flush(struct synth_sink *s, size_t len, struct penstock_error *err)
{
	size_t at = 0;
	ssize_t n;
	int rc;

	while (at < len) {
		n = write(s->fd, s->buf + at, len - at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return penstock_err(err, -errno, "%s: write of %zu bytes at %" PRIu64, s->path, len - at,
					    s->off + at);
		at += (size_t)n;
	}
	s->off += len;
	s->len -= len;
	memmove(s->buf, s->buf + len, s->len);
	drop_behind(s, len);
	rc = s->written ? s->written(s->arg, len) : 0;
	return rc ? penstock_err(err, rc, "%s: stopped after %" PRIu64 " bytes", s->path, s->off) : 0;
}

void *synth_sink_room(struct synth_sink *s, size_t len, struct penstock_error *err)
{
	if (s->len >= SYNTH_SINK_PIECE && flush(s, SYNTH_SINK_PIECE, err))
		return NULL;
	if (len > SYNTH_SINK_ROOM) {
		penstock_err(err, -EOVERFLOW, "%s: a piece of %zu bytes at once", s->path, len);
		return NULL;
	}
	return s->buf + s->len;
}

int synth_sink_put(struct synth_sink *s, const void *data, size_t len, struct penstock_error *err)
{
	const uint8_t *p = data;
	size_t n;
	void *to;

	while (len) {
		n = len < SYNTH_SINK_ROOM ? len : SYNTH_SINK_ROOM;
		to = synth_sink_room(s, n, err);
		if (!to)
			return err->code;
		memcpy(to, p, n);
		synth_sink_add(s, n);
		p += n;
		len -= n;
	}
	return 0;
}

int synth_sink_pad(struct synth_sink *s, uint64_t align, struct penstock_error *err)
{
	static const uint8_t zeroes[4096];
	uint64_t nr = (align - synth_sink_tell(s) % align) % align, n;
	int rc;

	for (; nr; nr -= n) {
		n = nr < sizeof(zeroes) ? nr : sizeof(zeroes);
		rc = synth_sink_put(s, zeroes, n, err);
		if (rc)
			return rc;
	}
	return 0;
}

int synth_sink_close(struct synth_sink *s, struct penstock_error *err)
{
	int rc = 0, fd;

	while (!rc && s->len)
		rc = flush(s, s->len < SYNTH_SINK_PIECE ? s->len : SYNTH_SINK_PIECE, err);
	if (!rc && fsync(s->fd))
		rc = penstock_err(err, -errno, "%s: fsync after %" PRIu64 " bytes", s->path, s->off);
	if (!rc)
		posix_fadvise(s->fd, 0, 0, POSIX_FADV_DONTNEED);
	fd = s->fd;
	s->fd = -1;
	if (close(fd) && !rc)
		rc = penstock_err(err, -errno, "%s: close", s->path);
	synth_sink_abort(s);
	return rc;
}

void synth_sink_abort(struct synth_sink *s)
{
	if (s->buf && s->fd >= 0)
		close(s->fd);
	free(s->buf);
	free(s->path);
	s->buf = NULL;
	s->path = NULL;
	s->fd = -1;
}
