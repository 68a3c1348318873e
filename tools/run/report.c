// SPDX-License-Identifier: MIT
/* The table at the end, and the JSON object. */
#include <errno.h>
#include <math.h>
#include <stdio.h>

#include "report.h"

static double ratio(double a, double b)
{
	return b > 0 ? a / b : NAN;
}

static double seconds(uint64_t ns)
{
	return (double)ns / 1e9;
}

/* Tokens that passed the experts only are counted under another name everywhere. */
static const char *speed_key(bool moe_only, const char *key, const char *moe_key)
{
	return moe_only ? moe_key : key;
}

static void report_phase(struct out *o, const char *label, const char *key, const struct run_phase *ph, bool moe_only)
{
	const struct penstock_stats *st = &ph->stats;

	out_obj_begin(o, label, key);
	out_u64(o, "tokens", "tokens", ph->tokens);
	out_f64(o, "time", "seconds", seconds(ph->ns), 6, "s");
	out_f64(o, speed_key(moe_only, "speed", "speed, experts only"), speed_key(moe_only, "tok_s", "moe_tok_s"),
		ratio((double)ph->tokens, seconds(ph->ns)), 3, "tok/s");
	out_f64(o, "hit rate, slots", "hit_rate_slots", ratio((double)st->experts_hit, (double)st->experts_wanted), 4,
		"");
	out_f64(o, "layers with all present", "layer_all_hit", ratio((double)st->fetches_all_hit, (double)st->fetches),
		4, "");
	out_bytes(o, "wanted", "bytes_wanted", st->bytes_wanted);
	out_bytes(o, "read", "bytes_read", st->bytes_read);
	out_f64(o, "while reading", "read_gb_s", ratio((double)st->bytes_read, (double)st->io_busy_ns), 3, "GB/s");
	out_obj_end(o);
}

static void report_time(struct out *o, const struct run_phase *ph)
{
	uint64_t dense = ph->times.attention_ns + ph->times.dense_ns, known;

	known = ph->stats.wait_ns + ph->stats.compute_ns + dense;
	out_obj_begin(o, "time of decode", "time");
	out_f64(o, "I/O wait", "io_wait_s", seconds(ph->stats.wait_ns), 6, "s");
	out_f64(o, "expert compute", "expert_compute_s", seconds(ph->stats.compute_ns), 6, "s");
	out_f64(o, "attention and dense compute", "dense_compute_s", seconds(dense), 6, "s");
	out_f64(o, "other", "other_s", seconds(ph->ns > known ? ph->ns - known : 0), 6, "s");
	out_obj_end(o);
}

static void report_bound(struct out *o, const struct run_result *res)
{
	const struct run_bound *b = &res->bound;
	bool known = b->rate && b->steps;
	double tokens = (double)b->steps * res->nr_seqs;

	out_obj_begin(o, "bound of decode", "bound");
	out_u64(o, "steps", "bound_steps", b->steps);
	out_f64(o, "bound", speed_key(res->moe_only, "bound_tok_s", "bound_moe_tok_s"),
		known ? ratio(tokens, seconds(b->bound_ns)) : NAN, 3, "tok/s");
	out_f64(o, "drive, for a second", "bound_rate_gb_s", known ? (double)b->rate / RUN_GB : NAN, 3, "GB/s");
	out_f64(o, "drive, a read alone", "bound_latency_us", known ? (double)b->latency_ns / 1e3 : NAN, 1, "us");
	out_f64(o, "least time of reads", "bound_io_s", known ? seconds(b->io_ns) : NAN, 6, "s");
	out_f64(o, "compute beside reads", "bound_compute_s", seconds(b->compute_ns), 6, "s");
	out_f64(o, "layers bound by reads", "bound_io_share",
		known ? ratio((double)b->io_bound_layers, (double)b->nr) : NAN, 4, "");
	out_f64(o, "an expert's compute a layer", "bound_allowance_s", seconds(b->allowance_ns), 6, "s");
	out_obj_end(o);
}

/* What each route gave at open; in text only those that could not be used need words. */
static void report_routes(struct out *o, const struct penstock_status *st)
{
	uint32_t i;

	for (i = 0; i < st->nr_routes; i++)
		if (!st->routes[i].usable) {
			char label[64];

			snprintf(label, sizeof(label), "not route %s", st->routes[i].name);
			out_str(o, label, NULL, st->routes[i].reason);
		}
	out_rows_begin(o, NULL, "routes");
	for (i = 0; i < st->nr_routes; i++) {
		const struct penstock_route_status *r = &st->routes[i];

		out_row_begin(o);
		out_str(o, NULL, "route", r->name);
		out_bool(o, NULL, "usable", r->usable);
		if (r->bytes_per_s)
			out_f64(o, NULL, "gb_s", (double)r->bytes_per_s / RUN_GB, 6, "");
		else
			out_null(o, NULL, "gb_s");
		out_str(o, NULL, "reason", r->reason);
		out_row_end(o);
	}
	out_rows_end(o);
}

static void report_path(struct out *o, const struct run_session *s, const struct penstock_status *st,
			const struct penstock_stats *now)
{
	out_str(o, "device", "device", st->device);
	out_str(o, "route", "route", st->route);
	out_str(o, *st->route_reason ? "route, why" : NULL, "route_reason", st->route_reason);
	report_routes(o, st);
	out_str(o, "I/O engine", "io_engine", st->io_engine);
	out_str(o, *st->io_reason ? "I/O engine, why" : NULL, "io_reason", st->io_reason);
	out_str(o, "files", "direct", st->direct);
	out_str(o, *st->direct_reason ? "files, why" : NULL, "direct_reason", st->direct_reason);
	out_bytes(o, "page size of slots", "page_size", st->page_size);
	out_str(o, "page size, why", "page_reason", st->page_reason);
	out_u64(o, "queue depth", "queue_depth", st->queue_depth);
	out_bytes(o, "largest read", "split_bytes", st->split_bytes);
	out_f64(o, "drive", "drive_gb_s", st->drive_bytes_per_s ? (double)st->drive_bytes_per_s / RUN_GB : NAN, 3,
		"GB/s");
	out_f64(o, "drive, a 4 KiB read", "drive_latency_us",
		st->drive_latency_ns ? (double)st->drive_latency_ns / 1e3 : NAN, 1, "us");
	out_str(o, "policy", "policy", st->policy);
	out_str(o, "cache mode", "cache_mode", st->cache_mode);
	out_bytes(o, "cache", "cache_bytes", now->cache_bytes);
	out_u64(o, "slots", "slots", now->slots);
	out_str(o, "kernels", "isa", penstock_pool_isa_name(s->pool));
	out_u64(o, "threads", "threads", penstock_pool_threads(s->pool));
}

static void report_verified(struct out *o, const struct run_result *res)
{
	char text[160];

	if (res->verified < 0) {
		out_null(o, NULL, "verified");
		return;
	}
	if (res->verified)
		snprintf(text, sizeof(text), "yes: %u steps recomputed with plain reads, the same bits (%.2f s)",
			 res->seen.nr_steps, res->verify_s);
	else if (res->seen.bad_layer >= 0)
		snprintf(text, sizeof(text), "NO: step %u differs, first in the experts of layer %lld",
			 res->seen.bad_step, (long long)res->seen.bad_layer);
	else
		snprintf(text, sizeof(text), "NO: step %u differs after the last layer's experts", res->seen.bad_step);
	out_str(o, "verified", NULL, text);
	out_bool(o, NULL, "verified", res->verified);
	if (res->verified)
		return;
	out_u64(o, NULL, "first_bad_step", res->seen.bad_step);
	if (res->seen.bad_layer >= 0)
		out_u64(o, NULL, "first_bad_layer", (uint64_t)res->seen.bad_layer);
	else
		out_null(o, NULL, "first_bad_layer");
}

/* Ids of each sequence. Those of a run without attention were drawn, not predicted: they say nothing. */
static void report_output(struct out *o, const struct run_session *s, const struct run_pass *p)
{
	char label[32];
	uint32_t i;

	for (i = 0; !s->moe_only && i < s->prompts.nr; i++) {
		snprintf(label, sizeof(label), "output %u", i);
		out_i32s(o, label, NULL, p->out + (size_t)i * p->tokens, p->nr_out);
	}
	out_rows_begin(o, NULL, "output");
	for (i = 0; !s->moe_only && i < s->prompts.nr; i++) {
		out_row_begin(o);
		out_i32s(o, NULL, "ids", p->out + (size_t)i * p->tokens, p->nr_out);
		out_row_end(o);
	}
	out_rows_end(o);
}

int run_report(struct out *o, struct run_session *s, const struct run_pass *p, const struct run_result *res,
	       struct penstock_error *err)
{
	struct penstock_status status = { .size = sizeof(status) };
	struct penstock_stats now = { .size = sizeof(now) };

	if (penstock_status(s->ctx, &status) || penstock_stats(s->ctx, &now))
		return decoder_fail(err, -EIO, "status of the context");
	out_str(o, "model", "model", s->info.path);
	out_str(o, "architecture", "arch", s->info.arch);
	out_bytes(o, "expert bytes", "expert_bytes", s->info.expert_bytes);
	out_bytes(o, "expert bytes a token", "token_bytes", s->info.token_bytes);
	out_bytes(o, "dense weights", "dense_bytes", decoder_dense_bytes(s->dec));
	report_path(o, s, &status, &now);
	report_output(o, s, p);
	report_phase(o, "prefill", "prefill", &res->prefill, res->moe_only);
	report_phase(o, "decode", "decode", &res->decode, res->moe_only);
	report_time(o, &res->decode);
	report_bound(o, res);
	return 0;
}

static void report_limit(struct out *o, const struct run_compare *c)
{
	out_bytes(o, "memory limit of each side", "limit_bytes", c->limit_bytes);
	out_bytes(o, "of it dense weights", "limit_dense_bytes", c->dense_bytes);
	out_bytes(o, "of it slots", "limit_slot_bytes", c->slot_bytes);
	out_bytes(o, "of it KV cache and the rest", "limit_other_bytes", c->other_bytes);
	out_bytes(o, "of it slack", "limit_slack_bytes", c->slack_bytes);
	out_str(o, "set by", "limit_how", c->how);
}

void run_report_compare(struct out *o, const struct run_compare *c, bool moe_only)
{
	char label[64];
	int m;

	if (!c->done)
		return;
	out_obj_begin(o, "comparison with mmap", "mmap");
	out_u64(o, "tokens", "tokens", c->tokens);
	out_u64(o, "rounds", "rounds", c->rounds);
	out_f64(o, "library", speed_key(moe_only, "library_tok_s", "library_moe_tok_s"), c->tok_s, 3, "tok/s");
	out_f64(o, "mmap", speed_key(moe_only, "mmap_tok_s", "mmap_moe_tok_s"), c->mmap_tok_s, 3, "tok/s");
	out_str(o, "fastest way of mmap", "method", run_mmap_method_name(c->method));
	for (m = 0; m < RUN_MMAP_METHODS; m++) {
		static const char *const keys[] = { "trial_fault_tok_s", "trial_populate_tok_s",
						    "trial_willneed_tok_s" };
		static const char *const moe_keys[] = { "trial_fault_moe_tok_s", "trial_populate_moe_tok_s",
							"trial_willneed_moe_tok_s" };

		snprintf(label, sizeof(label), "trial, %s", run_mmap_method_name(m));
		out_f64(o, label, speed_key(moe_only, keys[m], moe_keys[m]), c->trial_tok_s[m], 3, "tok/s");
	}
	out_bytes(o, "kernel's read-ahead", "read_ahead_bytes", c->read_ahead_bytes);
	report_limit(o, c);
	out_bool(o, "the same output", "same_output", c->same_output);
	out_obj_end(o);
}

static void report_ratio_mmap(struct out *o, const struct run_compare *c)
{
	if (c && c->done) {
		out_f64(o, "library / mmap", "ratio_mmap", c->ratio, 3, "");
		return;
	}
	out_null(o, NULL, "ratio_mmap");
	if (c)
		out_str(o, "no comparison with mmap", "mmap_reason", c->reason);
}

void run_report_result(struct out *o, const struct run_result *res, const struct run_compare *c)
{
	const struct run_phase *pre = &res->prefill, *dec = &res->decode;
	/* A run of one token has no decode steps: its speed is the prompt's. */
	const struct run_phase *ph = dec->tokens ? dec : pre;
	double tok_s = ratio((double)ph->tokens, seconds(ph->ns));

	out_heading(o, "result");
	if (res->interrupted)
		out_str(o, "interrupted", NULL, "yes: what follows is of the part that was done");
	out_bool(o, NULL, "interrupted", res->interrupted);
	out_u64(o, "sequences", "batch", res->nr_seqs);
	out_u64(o, "prompt tokens", "prompt_tokens", pre->tokens);
	out_u64(o, "tokens", "tokens", (uint64_t)res->nr_out * res->nr_seqs);
	out_f64(o, res->moe_only ? "speed, experts only" : "speed", res->moe_only ? "moe_tok_s" : "tok_s", tok_s, 3,
		"tok/s");
	out_f64(o, "hit rate, slots", "hit_rate",
		ratio((double)ph->stats.experts_hit, (double)ph->stats.experts_wanted), 4, "");
	out_f64(o, "layers with all present", "layer_all_hit",
		ratio((double)ph->stats.fetches_all_hit, (double)ph->stats.fetches), 4, "");
	out_bytes(o, "bytes wanted", "bytes_wanted", pre->stats.bytes_wanted + dec->stats.bytes_wanted);
	out_bytes(o, "bytes read", "bytes_read", pre->stats.bytes_read + dec->stats.bytes_read);
	out_f64(o, "while reading", "read_gb_s",
		ratio((double)(pre->stats.bytes_read + dec->stats.bytes_read),
		      (double)(pre->stats.io_busy_ns + dec->stats.io_busy_ns)),
		3, "GB/s");
	out_f64(o, "time / bound", "ratio_bound", run_bound_ratio(&res->bound), 3, "");
	out_f64(o, "time / (1.10 bound + an expert a layer)", "ratio_bound_allowed",
		run_bound_ratio_allowed(&res->bound), 3, "");
	report_ratio_mmap(o, c);
	report_verified(o, res);
}
