// SPDX-License-Identifier: MIT
/*
 * `penstock synth`: arguments, progress and the result of writing a checkpoint.
 * What is written is tools/synth's matter.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../runtime/util.h"
#include "cmd.h"
#include "out.h"
#include "synth/synth.h"

#define DEFAULT_SKEW	0.6
#define DEFAULT_SEED	1u

static const char text_usage[] =
	"usage: penstock synth OUT [OPTION]...\n"
	"\n"
	"Write a complete mixture-of-experts checkpoint with random weights, whose tokens\n"
	"visit experts about as those of real models do. OUT must not exist.\n"
	"\n"
	"      --arch NAME       qwen3_moe (default), mixtral, olmoe\n"
	"      --format NAME     safetensors (default; OUT is a folder) or gguf (a file)\n"
	"      --dtype NAME      of the experts: bf16 (default), f16, f32, fp8 (safetensors);\n"
	"                        bf16, f16, f32, q8_0, q4_0 (gguf)\n"
	"      --size SIZE       choose layers and widths that are not given so that about\n"
	"                        SIZE bytes are written, as 256M or 4G\n"
	"      --layers N  --experts N  --top-k N  --hidden N  --inter N\n"
	"                        shape of the experts (8, 128, 8, 1024, hidden / 2)\n"
	"      --heads N  --kv-heads N  --head-dim N  --vocab N\n"
	"                        shape of the rest\n"
	"      --skew S          popularity of experts follows rank^-S in the router's\n"
	"                        odds (default 0.6, 0 = all alike)\n"
	"      --seed N          the same seed gives the same bytes (default 1)\n"
	"      --shard-size SIZE safetensors: tensor bytes a file (default 1G)\n"
	"      --align N         gguf: general.alignment (default 32)\n"
	"      --json            one JSON object\n"
	"  -h, --help            this text\n"
	"\n"
	"examples:\n"
	"  penstock synth demo-model --size 4G\n"
	"  penstock synth small.gguf --format gguf --dtype q4_0 --layers 4 --experts 32 --hidden 256\n";

static volatile sig_atomic_t stopped;

static void stop(int sig)
{
	stopped = sig;
}

/* ---- progress ---- */

struct bar {
	bool tty;
	uint64_t start_ns;
	uint64_t last_ns;
	uint32_t last_tenth;
};

static void bar_draw(const struct bar *b, uint64_t done, uint64_t total, uint64_t now)
{
	double s = (double)(now - b->start_ns) / 1e9, share = total ? (double)done / (double)total : 1;
	char have[24], all[24], line[41];
	int full;

	share = share > 1 ? 1 : share;
	full = (int)(share * 40);
	out_size_text(done, have, sizeof(have));
	out_size_text(total, all, sizeof(all));
	if (b->tty) {
		memset(line, '#', (size_t)full);
		memset(line + full, '.', (size_t)(40 - full));
		line[40] = 0;
		fprintf(stderr, "\r[%s] %3.0f %%  %s of %s  %.2f GB/s ", line, share * 100, have, all,
			s > 0 ? (double)done / s / 1e9 : 0);
	} else {
		fprintf(stderr, "synth: %.0f %%, %s of %s, %.2f GB/s\n", share * 100, have, all,
			s > 0 ? (double)done / s / 1e9 : 0);
	}
	fflush(stderr);
}

/* A terminal sees a bar move, a file gets a line every tenth. */
static int progress(void *arg, uint64_t done, uint64_t total)
{
	struct bar *b = arg;
	uint64_t now = penstock_now_ns();
	uint32_t tenth = total ? (uint32_t)(10.0 * (double)done / (double)total) : 10;

	if (stopped)
		return 1;
	if (b->tty ? now - b->last_ns > 100000000 : tenth > b->last_tenth) {
		bar_draw(b, done, total, now);
		b->last_ns = now;
		b->last_tenth = tenth;
	}
	return 0;
}

/* ---- arguments ---- */

enum opt {
	OPT_ARCH = 256, OPT_FORMAT, OPT_DTYPE, OPT_SIZE, OPT_LAYERS, OPT_EXPERTS, OPT_TOP_K, OPT_HIDDEN, OPT_INTER,
	OPT_HEADS, OPT_KV_HEADS, OPT_HEAD_DIM, OPT_VOCAB, OPT_SKEW, OPT_SEED, OPT_SHARD_SIZE, OPT_ALIGN, OPT_JSON,
};

static const struct option options[] = {
	{ "arch", required_argument, NULL, OPT_ARCH },
	{ "format", required_argument, NULL, OPT_FORMAT },
	{ "dtype", required_argument, NULL, OPT_DTYPE },
	{ "size", required_argument, NULL, OPT_SIZE },
	{ "layers", required_argument, NULL, OPT_LAYERS },
	{ "experts", required_argument, NULL, OPT_EXPERTS },
	{ "top-k", required_argument, NULL, OPT_TOP_K },
	{ "hidden", required_argument, NULL, OPT_HIDDEN },
	{ "inter", required_argument, NULL, OPT_INTER },
	{ "heads", required_argument, NULL, OPT_HEADS },
	{ "kv-heads", required_argument, NULL, OPT_KV_HEADS },
	{ "head-dim", required_argument, NULL, OPT_HEAD_DIM },
	{ "vocab", required_argument, NULL, OPT_VOCAB },
	{ "skew", required_argument, NULL, OPT_SKEW },
	{ "seed", required_argument, NULL, OPT_SEED },
	{ "shard-size", required_argument, NULL, OPT_SHARD_SIZE },
	{ "align", required_argument, NULL, OPT_ALIGN },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

struct args {
	struct synth_config cfg;
	uint64_t size;
	const char *path;
	bool json;
};

static const struct { const char *name; uint32_t dtype; } dtypes[] = {
	{ "bf16", PENSTOCK_DTYPE_BF16 }, { "f16", PENSTOCK_DTYPE_F16 }, { "f32", PENSTOCK_DTYPE_F32 },
	{ "fp8", PENSTOCK_DTYPE_F8_E4M3 }, { "q8_0", PENSTOCK_DTYPE_Q8_0 }, { "q4_0", PENSTOCK_DTYPE_Q4_0 },
};

static int parse_name(struct args *a, int opt, const char *text)
{
	uint32_t i;

	if (opt == OPT_ARCH) {
		for (i = 0; i < SYNTH_NR_ARCHS; i++) {
			if (!strcmp(text, synth_arch_info(i)->name)) {
				a->cfg.arch = i;
				return 0;
			}
		}
		return cmd_error("synth", CMD_USAGE, "--arch %s: qwen3_moe, mixtral or olmoe", text);
	}
	if (opt == OPT_FORMAT) {
		if (!strcmp(text, "safetensors"))
			a->cfg.format = PENSTOCK_FORMAT_SAFETENSORS;
		else if (!strcmp(text, "gguf"))
			a->cfg.format = PENSTOCK_FORMAT_GGUF;
		else
			return cmd_error("synth", CMD_USAGE, "--format %s: safetensors or gguf", text);
		return 0;
	}
	for (i = 0; i < PENSTOCK_ARRAY_SIZE(dtypes); i++) {
		if (!strcmp(text, dtypes[i].name)) {
			a->cfg.dtype = dtypes[i].dtype;
			return 0;
		}
	}
	return cmd_error("synth", CMD_USAGE, "--dtype %s: bf16, f16, f32, fp8, q8_0 or q4_0", text);
}

static uint32_t *number_field(struct synth_config *c, int opt)
{
	switch (opt) {
	case OPT_LAYERS:
		return &c->layers;
	case OPT_EXPERTS:
		return &c->experts;
	case OPT_TOP_K:
		return &c->top_k;
	case OPT_HIDDEN:
		return &c->hidden;
	case OPT_INTER:
		return &c->inter;
	case OPT_HEADS:
		return &c->heads;
	case OPT_KV_HEADS:
		return &c->kv_heads;
	case OPT_HEAD_DIM:
		return &c->head_dim;
	case OPT_VOCAB:
		return &c->vocab;
	default:
		return &c->align;
	}
}

static int parse_value(struct args *a, int opt, const char *name, const char *text)
{
	uint64_t v;
	char *end;

	switch (opt) {
	case OPT_ARCH:
	case OPT_FORMAT:
	case OPT_DTYPE:
		return parse_name(a, opt, text);
	case OPT_SIZE:
	case OPT_SHARD_SIZE:
		if (cmd_parse_size(text, &v) || !v)
			return cmd_error("synth", CMD_USAGE, "--%s %s: a size, as 256M or 4G", name, text);
		*(opt == OPT_SIZE ? &a->size : &a->cfg.shard_bytes) = v;
		return 0;
	case OPT_SKEW:
		a->cfg.skew = strtod(text, &end);
		if (end == text || *end || !(a->cfg.skew >= 0 && a->cfg.skew <= 10))
			return cmd_error("synth", CMD_USAGE, "--skew %s: a number, 0 .. 10", text);
		return 0;
	case OPT_SEED:
		if (cmd_parse_u64(text, &a->cfg.seed))
			return cmd_error("synth", CMD_USAGE, "--seed %s: a whole number", text);
		return 0;
	default:
		if (cmd_parse_u64(text, &v) || !v || v > UINT32_MAX)
			return cmd_error("synth", CMD_USAGE, "--%s %s: a whole number from 1 on", name, text);
		*number_field(&a->cfg, opt) = (uint32_t)v;
		return 0;
	}
}

/* Return: 0 go on, else the exit code + 1 */
static int parse(int argc, char **argv, struct args *a)
{
	int c, rc, nr = 0;

	optind = 0;
	while ((c = getopt_long(argc, argv, "h", options, &nr)) != -1) {
		if (c == 'h') {
			fputs(text_usage, stdout);
			return CMD_GOOD + 1;
		}
		if (c == '?')
			return CMD_USAGE + 1;
		if (c == OPT_JSON) {
			a->json = true;
			continue;
		}
		rc = parse_value(a, c, options[nr].name, optarg);
		if (rc)
			return rc + 1;
	}
	if (argc - optind != 1) {
		fputs(text_usage, stderr);
		return CMD_USAGE + 1;
	}
	a->path = argv[optind];
	return 0;
}

/* ---- the command ---- */

static int report(const struct args *a, const struct synth_model *m, const struct synth_result *r, uint64_t ns)
{
	struct out *o = out_begin("penstock.synth/1", a->json);
	const struct synth_config *c = &m->cfg;
	const char *dtype = "";
	double s = (double)ns / 1e9;
	size_t i;

	if (!o)
		return cmd_error("synth", CMD_FAILED, "out of memory");
	for (i = 0; i < PENSTOCK_ARRAY_SIZE(dtypes); i++)
		if (dtypes[i].dtype == c->dtype)
			dtype = dtypes[i].name;
	out_str(o, "written", "path", a->path);
	out_str(o, "architecture", "arch", synth_arch_info(c->arch)->name);
	out_str(o, "format", "format", c->format == PENSTOCK_FORMAT_GGUF ? "gguf" : "safetensors");
	out_str(o, "dtype", "dtype", dtype);
	out_u64(o, "layers", "layers", c->layers);
	out_u64(o, "experts", "experts", c->experts);
	out_u64(o, "top-k", "top_k", c->top_k);
	out_u64(o, "hidden", "hidden", c->hidden);
	out_u64(o, "inter", "inter", c->inter);
	out_u64(o, "heads", "heads", c->heads);
	out_u64(o, "kv heads", "kv_heads", c->kv_heads);
	out_u64(o, "head dim", "head_dim", c->head_dim);
	out_u64(o, "vocabulary", "vocab", c->vocab);
	out_f64(o, "skew", "skew", c->skew, 3, NULL);
	out_u64(o, "seed", "seed", c->seed);
	out_u64(o, "tensors", "tensors", m->nr_tensors);
	out_u64(o, "files", "files", r->nr_files);
	out_bytes(o, "size", "file_bytes", r->file_bytes);
	out_bytes(o, "of it experts", "expert_bytes", m->expert_bytes);
	out_f64(o, "time", "time_s", s, 2, "s");
	out_f64(o, "rate", "write_gb_s", s > 0 ? (double)r->file_bytes / s / 1e9 : 0, 2, "GB/s");
	return cmd_out_end("synth", o, CMD_GOOD);
}

int cmd_synth(int argc, char **argv)
{
	struct args a = { .cfg = { .skew = DEFAULT_SKEW, .seed = DEFAULT_SEED } };
	struct sigaction act = { .sa_handler = stop }, int_was, term_was;
	struct bar bar = { .tty = isatty(STDERR_FILENO), .start_ns = penstock_now_ns() };
	const struct synth_progress p = { progress, &bar };
	struct penstock_error err = { 0 };
	struct synth_result r = { 0 };
	struct synth_model *m;
	int rc;

	rc = parse(argc, argv, &a);
	if (rc)
		return rc - 1;
	if (a.size)
		synth_config_size(&a.cfg, a.size);
	synth_config_default(&a.cfg);
	rc = synth_model_create(&a.cfg, &m, &err);
	if (rc)
		return cmd_error("synth", rc == -EINVAL || rc == -EOVERFLOW ? CMD_USAGE : CMD_FAILED, "%s", err.text);
	/* partial output is removed on the way out, also when interrupted; a file size limit is an error of write */
	sigaction(SIGINT, &act, &int_was);
	sigaction(SIGTERM, &act, &term_was);
	signal(SIGXFSZ, SIG_IGN);
	rc = synth_write(m, a.path, &p, &r, &err);
	sigaction(SIGINT, &int_was, NULL);
	sigaction(SIGTERM, &term_was, NULL);
	if (bar.tty) {
		if (!rc)
			bar_draw(&bar, r.file_bytes, r.file_bytes, penstock_now_ns());
		fputc('\n', stderr);
	}
	if (rc)
		rc = cmd_error("synth", CMD_FAILED, "%s", err.text);
	else
		rc = report(&a, m, &r, penstock_now_ns() - bar.start_ns);
	synth_model_destroy(m);
	return rc;
}
