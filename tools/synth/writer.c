// SPDX-License-Identifier: MIT
/*
 * Writing a checkpoint: everything goes under a temporary name beside the final
 * one, reaches the drive, and is then renamed, so that @path either does not
 * exist or is complete. Whatever fails, the temporary files are removed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "../../runtime/err.h"
#include "../out.h"
#include "writer.h"

/* Headers, configuration and padding, generously. */
#define OVERHEAD_A_TENSOR	256u

struct progress {
	const struct synth_progress *p;
	uint64_t done;
	uint64_t total;
};

static int written(void *arg, uint64_t bytes)
{
	struct progress *pr = arg;

	pr->done += bytes;
	if (pr->p && pr->p->fn(pr->p->arg, pr->done, pr->total))
		return -EINTR;
	return 0;
}

int synth_writer_close(struct synth_writer *w, struct penstock_error *err)
{
	uint64_t bytes = synth_sink_tell(&w->sink);
	int rc = synth_sink_close(&w->sink, err);

	if (rc)
		return rc;
	w->nr_files++;
	w->file_bytes += bytes;
	return 0;
}

/* The folder that holds @path; to be freed. */
static char *parent_of(const char *path)
{
	char *copy = strdup(path), *dir = copy ? strdup(dirname(copy)) : NULL;

	free(copy);
	return dir;
}

static int check_room(const struct synth_model *m, const char *path, const char *parent, struct penstock_error *err)
{
	uint64_t need = m->total_bytes + (uint64_t)m->nr_tensors * OVERHEAD_A_TENSOR, room;
	char a[24], b[24];
	struct statvfs v;

	if (statvfs(parent, &v))
		return penstock_err(err, -errno, "%s: file system of %s", path, parent);
	if (__builtin_mul_overflow((uint64_t)v.f_bavail, (uint64_t)v.f_frsize, &room))
		return 0;
	if (need > room)
		return penstock_err(err, -ENOSPC, "%s: needs %s, the file system of %s has %s left", path,
				    out_size_text(need, a, sizeof(a)), parent, out_size_text(room, b, sizeof(b)));
	return 0;
}

/* A new folder, or the name of a new file, beside @path. */
static int make_tmp(struct synth_writer *w, const char *path, bool folder, struct penstock_error *err)
{
	size_t len = strlen(path);

	while (len > 1 && path[len - 1] == '/')
		len--;
	if (asprintf(&w->tmp, "%.*s.partial-%ld", (int)len, path, (long)getpid()) < 0) {
		w->tmp = NULL;
		return penstock_err(err, -ENOMEM, "%s", path);
	}
	/* a file is made by the sink */
	if (!folder || !mkdir(w->tmp, 0777))
		return 0;
	len = (size_t)errno;
	free(w->tmp);
	w->tmp = NULL;
	return penstock_err(err, -(int)len, "%s: make a folder beside it", path);
}

static void remove_tmp(const char *tmp, bool folder)
{
	struct dirent *e;
	DIR *d;

	if (!folder) {
		unlink(tmp);
		return;
	}
	d = opendir(tmp);
	if (!d)
		return;
	/* the folder is ours and holds files only */
	while ((e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
	rmdir(tmp);
}

static int sync_folder(const char *path, struct penstock_error *err)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;

	if (fd < 0)
		return penstock_err(err, -errno, "%s: open to sync", path);
	/* some file systems cannot sync folders; they say EINVAL */
	if (fsync(fd) && errno != EINVAL)
		rc = penstock_err(err, -errno, "%s: fsync", path);
	close(fd);
	return rc;
}

static int publish(const char *tmp, const char *path, const char *parent, bool folder, struct penstock_error *err)
{
	int rc = folder ? sync_folder(tmp, err) : 0;

	if (rc)
		return rc;
	if (renameat2(AT_FDCWD, tmp, AT_FDCWD, path, RENAME_NOREPLACE)) {
		/* not every file system knows the flag; that nothing is there was checked at the start */
		if ((errno != EINVAL && errno != ENOSYS) || !access(path, F_OK) || rename(tmp, path))
			return penstock_err(err, errno == EINVAL ? -EEXIST : -errno, "%s: give %s its name", path, tmp);
	}
	return sync_folder(parent, err);
}

static int write_all(struct synth_writer *w, const struct synth_writer_ops *ops, struct penstock_error *err)
{
	int rc = ops->begin(w, err);
	uint32_t i;

	for (i = 0; !rc && i < w->m->nr_tensors; i++) {
		rc = ops->tensor(w, i, err);
		if (!rc)
			rc = synth_gen_tensor(w->m, &w->m->tensors[i], &w->sink, err);
	}
	return rc ? rc : ops->end(w, err);
}

int synth_write(const struct synth_model *m, const char *path, const struct synth_progress *progress,
		struct synth_result *result, struct penstock_error *err)
{
	const struct synth_writer_ops *ops =
		m->cfg.format == PENSTOCK_FORMAT_GGUF ? &synth_writer_gguf : &synth_writer_safetensors;
	struct progress pr = { .p = progress, .total = m->total_bytes };
	struct synth_writer w = { .m = m, .sink = { .fd = -1, .written = written, .arg = &pr } };
	struct stat st;
	char *parent;
	int rc;

	if (!lstat(path, &st))
		return penstock_err(err, -EEXIST, "%s: will not be overwritten", path);
	if (errno != ENOENT)
		return penstock_err(err, -errno, "%s", path);
	parent = parent_of(path);
	if (!parent)
		return penstock_err(err, -ENOMEM, "%s", path);
	rc = check_room(m, path, parent, err);
	if (rc)
		goto err_parent;
	rc = make_tmp(&w, path, ops->folder, err);
	if (rc)
		goto err_parent;
	rc = write_all(&w, ops, err);
	if (!rc)
		rc = publish(w.tmp, path, parent, ops->folder, err);
	if (rc) {
		synth_sink_abort(&w.sink);
		remove_tmp(w.tmp, ops->folder);
	} else if (result) {
		result->nr_files = w.nr_files;
		result->file_bytes = w.file_bytes;
	}
	free(w.priv);
	free(w.tmp);
err_parent:
	free(parent);
	return rc;
}
