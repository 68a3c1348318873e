// SPDX-License-Identifier: MIT
/* One side of a comparison: a child that opens the model, and decodes when told to. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xxhash.h>

#include "compare.h"

struct side {
	const struct run_args *args;
	bool mmap_side;
	uint64_t cache_bytes;
	struct run_session ses;
	struct run_pass pass;
	struct run_source *library;
	struct run_mmap *map;
	struct run_routing *routing;
	struct decoder_experts experts;
	struct decoder_router_hook hook;
};

uint64_t run_side_ids(const int32_t *ids, uint32_t nr_seqs, uint32_t tokens, uint32_t from, uint32_t n)
{
	uint64_t digest = 0;
	uint32_t i;

	for (i = 0; i < nr_seqs; i++)
		digest = XXH3_64bits_withSeed(ids + (size_t)i * tokens + from, n * sizeof(*ids), digest);
	return digest;
}

static int side_open(struct side *sd, struct penstock_error *err)
{
	int rc;

	rc = run_session_open(&sd->ses, sd->args, sd->cache_bytes, err);
	if (!rc && sd->args->routing_file) {
		rc = run_routing_read(sd->args->routing_file, sd->ses.model, &sd->routing, err);
		if (!rc)
			sd->hook = run_routing_hook(sd->routing);
	}
	if (!rc)
		rc = run_pass_begin(&sd->pass, &sd->ses, sd->args->tokens, err);
	if (rc)
		return rc;
	if (sd->mmap_side) {
		rc = run_mmap_create(&sd->ses, &sd->map, err);
		if (!rc)
			sd->experts = run_mmap_experts(sd->map);
	} else {
		rc = run_source_library_create(&sd->pass, NULL, &sd->library, err);
		if (!rc)
			sd->experts = run_source_library_experts(sd->library);
	}
	sd->pass.experts = &sd->experts;
	sd->pass.hook = sd->routing ? &sd->hook : NULL;
	return rc;
}

static void side_close(struct side *sd)
{
	run_source_library_destroy(sd->library);
	run_mmap_destroy(sd->map);
	run_routing_free(sd->routing);
	run_pass_end(&sd->pass);
	run_session_close(&sd->ses);
}

static int side_prefill(struct side *sd, struct penstock_error *err)
{
	if (sd->map)
		run_mmap_drop(sd->map);
	return run_pass_prefill(&sd->pass, err);
}

static int side_steps(struct side *sd, const struct run_side_cmd *cmd, struct penstock_error *err)
{
	uint32_t i;
	int rc = 0;

	if (sd->map)
		run_mmap_use(sd->map, cmd->method);
	for (i = 0; !rc && i < cmd->steps; i++)
		rc = run_pass_step(&sd->pass, err);
	return rc;
}

static int side_memory(struct side *sd, struct run_side_reply *r, struct penstock_error *err)
{
	struct penstock_stats stats = { .size = sizeof(stats) };
	struct penstock_status status = { .size = sizeof(status) };

	if (penstock_stats(sd->ses.ctx, &stats) || penstock_status(sd->ses.ctx, &status))
		return decoder_fail(err, -EIO, "statistics of the context");
	r->dense_bytes = decoder_dense_bytes(sd->ses.dec);
	r->kv_bytes = decoder_kv_bytes(sd->ses.dec);
	r->slot_bytes = stats.cache_bytes;
	/* The memory controller does not count pages of hugetlbfs. */
	r->slots_charged = strcmp(status.page_reason, "hugetlbfs") != 0;
	r->read_ahead_bytes = sd->map ? run_mmap_read_ahead(sd->map) : 0;
	return 0;
}

static void side_do(struct side *sd, const struct run_side_cmd *cmd, struct run_side_reply *r)
{
	struct penstock_error err = { 0 };
	uint32_t from = sd->pass.nr_out;
	uint64_t start = run_now_ns();

	switch (cmd->op) {
	case RUN_SIDE_OPEN:
		r->rc = side_open(sd, &err);
		break;
	case RUN_SIDE_PREFILL:
		r->rc = side_prefill(sd, &err);
		break;
	default:
		r->rc = side_steps(sd, cmd, &err);
		break;
	}
	r->ns = run_now_ns() - start;
	if (!r->rc)
		r->rc = side_memory(sd, r, &err);
	if (!r->rc)
		r->ids = run_side_ids(sd->pass.out, sd->ses.prompts.nr, sd->pass.tokens, from, sd->pass.nr_out - from);
	memcpy(r->text, err.text, sizeof(r->text));
}

int run_side_main(int fd, const struct run_args *args, bool mmap_side, uint64_t cache_bytes)
{
	struct side sd = { .args = args, .mmap_side = mmap_side, .cache_bytes = cache_bytes };
	struct run_side_reply reply;
	struct run_side_cmd cmd;
	int rc = 0;

	while (!rc && recv(fd, &cmd, sizeof(cmd), 0) == sizeof(cmd) && cmd.op != RUN_SIDE_QUIT) {
		memset(&reply, 0, sizeof(reply));
		side_do(&sd, &cmd, &reply);
		rc = reply.rc;
		if (send(fd, &reply, sizeof(reply), MSG_NOSIGNAL) != sizeof(reply))
			break;
	}
	side_close(&sd);
	return rc ? 1 : 0;
}
