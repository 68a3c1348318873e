/* SPDX-License-Identifier: MIT */
/*
 * `penstock serve`: what it knows of the model (model.c), of the llama-server and
 * the backend on this machine (host.c), and of the flags that the user gives to
 * llama-server (flags.c). cmd_serve.c puts them together and execs.
 */
#ifndef PENSTOCK_SERVE_H
#define PENSTOCK_SERVE_H

#include <stdbool.h>
#include <stdint.h>
#include <penstock/penstock.h>

/**
 * serve_err() - a text of its own, without the errno's description behind it
 * Return: @code
 */
int serve_err(struct penstock_error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/**
 * struct serve_model - a GGUF, counted as the backend counts it
 * @path: what llama-server is given: the first shard of a split set; malloc'd
 * @expert_bytes: of the files, experts alone
 * @dense_bytes: all else
 * @cache_all: a cache that holds every expert, its slots padded to the drive's blocks
 * @cache_token: the least: one token's experts in every layer
 * @context: tokens that the model was trained for; 0 = unknown
 * @kv_bytes: of a token in the KV cache, in f16; 0 = unknown
 */
struct serve_model {
	char *path;
	uint64_t expert_bytes;
	uint64_t dense_bytes;
	uint64_t cache_all;
	uint64_t cache_token;
	uint64_t context;
	uint64_t kv_bytes;
};

/**
 * serve_model_read() - Return: 0; -errno of the index with its text (missing shards are named); -EINVAL no GGUF,
 * or no experts in it; -ENOMEM
 */
int serve_model_read(const char *path, struct serve_model *m, struct penstock_error *err);
/** serve_model_free() - what it holds */
void serve_model_free(struct serve_model *m);

/**
 * struct serve_host - a llama-server
 * @load_mode, @fit, @cpu_moe: it knows --load-mode, -fit, --cpu-moe
 * @gpu: a backend for GPUs is in it and sees a device, whose name this is; "" = none
 */
struct serve_host {
	bool load_mode;
	bool fit;
	bool cpu_moe;
	char gpu[64];
};

/** serve_find_server() - by @flag, $LLAMA_SERVER, PATH. Return: 0 and a malloc'd path; -ENOENT, -EACCES with text */
int serve_find_server(const char *flag, char **path, struct penstock_error *err);
/** serve_find_backend() - by @flag, beside the tool, below ../lib. Return: 0 and a malloc'd path; -ENOENT with text */
int serve_find_backend(const char *flag, char **path, struct penstock_error *err);
/** serve_ask_host() - by its --help and --list-devices. Return: 0; -EIO it does not run, with what it said */
int serve_ask_host(const char *server, struct serve_host *h, struct penstock_error *err);

/**
 * struct serve_flags - the user's flags for llama-server, as far as they matter here
 * @load_mode: one is given, and it is mmap
 * @fit, @placement: -fit; -ot, --cpu-moe or --n-cpu-moe are given
 * @context: of -c, 0 = not given or the model's own
 * @has_context: -c is given
 */
struct serve_flags {
	bool load_mode;
	bool fit;
	bool placement;
	bool has_context;
	uint64_t context;
};

/**
 * serve_flags_read() - look at the flags, and at LLAMA_ARG_* of the environment
 * Return: 0; -EINVAL one cannot work with experts on the drive, with the reason
 */
int serve_flags_read(char *const *args, uint32_t nr, struct serve_flags *f, struct penstock_error *err);

#endif
