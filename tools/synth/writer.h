/* SPDX-License-Identifier: MIT */
/*
 * What a format does for writer.c. A format opens and closes its files in
 * struct synth_writer's sink; the tensors' bytes pass it by.
 */
#ifndef PENSTOCK_SYNTH_WRITER_H
#define PENSTOCK_SYNTH_WRITER_H

#include "sink.h"
#include "synth.h"

/**
 * struct synth_writer - a checkpoint being written
 * @tmp: name of the folder or file until all of it is there
 * @sink: the file that is open
 * @nr_files, @file_bytes: finished files of tensors
 * @priv: the format's own, freed by writer.c
 */
struct synth_writer {
	const struct synth_model *m;
	char *tmp;
	struct synth_sink sink;
	uint32_t nr_files;
	uint64_t file_bytes;
	void *priv;
};

/**
 * struct synth_writer_ops - a format
 * @folder: the checkpoint is a folder
 * @begin: before the first tensor
 * @tensor: tensor @nr comes next: open its file, pad
 * @end: after the last tensor: close, write what describes the whole
 * All return 0 or -errno with text in @err.
 */
struct synth_writer_ops {
	const char *name;
	bool folder;
	int (*begin)(struct synth_writer *w, struct penstock_error *err);
	int (*tensor)(struct synth_writer *w, uint32_t nr, struct penstock_error *err);
	int (*end)(struct synth_writer *w, struct penstock_error *err);
};

extern const struct synth_writer_ops synth_writer_safetensors;
extern const struct synth_writer_ops synth_writer_gguf;

/** synth_writer_close() - finish the open file and count it. Return: 0 or the sink's error. */
int synth_writer_close(struct synth_writer *w, struct penstock_error *err);

/**
 * struct synth_text - text that grows; an allocation that fails is remembered
 */
struct synth_text {
	char *p;
	size_t len;
	size_t room;
	bool failed;
};

void synth_text_add(struct synth_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void synth_text_bytes(struct synth_text *t, const void *data, size_t len);
void synth_text_free(struct synth_text *t);

#endif
