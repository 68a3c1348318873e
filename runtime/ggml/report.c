// SPDX-License-Identifier: MIT
/* Lines and statistics: see report.h. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "host.h"
#include "report.h"
#include "settings.h"

#define GIB	(1024.0 * 1024 * 1024)
#define MIB	(1024.0 * 1024)

void gg_report_start(const struct gg_model *o, struct penstock_ctx *ctx, uint64_t locked, uint64_t resident)
{
	struct penstock_model_info info = { .size = sizeof(info) };
	struct penstock_status status = { .size = sizeof(status) };

	if (penstock_model_info(o->model, &info) || penstock_status(ctx, &status))
		return;
	gg_say("%s: %u expert tensors, %.2f GiB; cache %.2f GiB, %.0f MiB a token; %s I/O%s%s%s by %s,"
	       " drive %.2f GB/s; dense weights: %.0f MiB locked, %.0f MiB not",
	       o->matrices[0]->path, o->nr_matrices, (double)info.expert_bytes / GIB, (double)info.cache_bytes / GIB,
	       (double)info.token_bytes / MIB, status.direct, *status.direct_reason ? " (" : "", status.direct_reason,
	       *status.direct_reason ? ")" : "", status.io_engine, (double)status.drive_bytes_per_s / 1e9,
	       (double)locked / MIB, (double)resident / MIB);
	if (resident && !gg_settings.no_lock)
		gg_say("%.0f MiB of dense weights could not be locked and may be evicted: raise the limit"
		       " (ulimit -l unlimited)", (double)resident / MIB);
}

void gg_report_form(const struct gg_model *o, uint32_t repacked_matrices, double plain, double repacked)
{
	char why[128] = "";

	if (plain > 0)
		snprintf(why, sizeof(why), ", measured %.1f us an expert plain, %.1f us repacked", plain * 1e6,
			 repacked * 1e6);
	if (!repacked_matrices)
		gg_say("experts are computed plain, as llama.cpp does with --no-repack%s", why);
	else
		gg_say("experts are repacked when they come in (%u of %u tensors), as llama.cpp does by default%s",
		       repacked_matrices, o->nr_matrices, why);
}

void gg_report_inert(void)
{
	static bool said;

	if (said)
		return;
	said = true;
	gg_say("no expert tensor came to this backend: load a mixture-of-experts GGUF with --load-mode mmap; with a GPU"
	       " add --cpu-moe");
}

static void text(FILE *f, const struct penstock_stats *s, const struct penstock_status *st)
{
	const double wanted = s->experts_wanted ? (double)s->experts_wanted : 1;

	fprintf(f, "penstock: %" PRIu64 " expert matrices wanted, %.1f %% in the cache, %.1f %% on their way;"
		" %.2f GiB read (%.2f of it wanted) in %" PRIu64 " reads, %" PRIu64 " retries; waited %.2f s;"
		" %s, %s",
		s->experts_wanted, 100 * (double)s->experts_hit / wanted, 100 * (double)s->experts_joined / wanted,
		(double)s->bytes_read / GIB, s->bytes_read ? (double)s->bytes_wanted / (double)s->bytes_read : 1.0,
		s->reads, s->retries, (double)s->wait_ns * 1e-9, st->direct, st->io_engine);
	if (s->slots)
		fprintf(f, "; cache %.2f GiB, %" PRIu64 " of %" PRIu64 " slots used", (double)s->cache_bytes / GIB,
			s->slots_used, s->slots);
	fputc('\n', f);
}

static void json(FILE *f, const struct penstock_stats *s, const struct penstock_status *st)
{
	const struct {
		const char *name;
		uint64_t value;
	} rows[] = {
		{ "fetches", s->fetches }, { "experts_wanted", s->experts_wanted }, { "experts_hit", s->experts_hit },
		{ "experts_joined", s->experts_joined }, { "bytes_wanted", s->bytes_wanted },
		{ "bytes_read", s->bytes_read }, { "bytes_buffered", s->bytes_buffered },
		{ "bytes_prefetch", s->bytes_prefetch }, { "reads", s->reads }, { "retries", s->retries },
		{ "evictions", s->evictions }, { "io_busy_ns", s->io_busy_ns }, { "wait_ns", s->wait_ns },
		{ "slots", s->slots }, { "slots_used", s->slots_used }, { "cache_bytes", s->cache_bytes },
		{ "drive_bytes_per_s", st->drive_bytes_per_s }, { "queue_depth", st->queue_depth },
		{ "split_bytes", st->split_bytes },
	};

	/* these two are words of the library, without anything to escape */
	fprintf(f, "{\"io_engine\":\"%s\",\"direct\":\"%s\"", st->io_engine, st->direct);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		fprintf(f, ",\"%s\":%" PRIu64, rows[i].name, rows[i].value);
	fprintf(f, "}\n");
}

void gg_report_stats(void)
{
	struct penstock_stats stats;
	struct penstock_status status;
	FILE *f = stderr;

	if (gg_settings.stats == GG_STATS_NONE || !gg_engine_stats(&stats, &status))
		return;
	if (gg_settings.stats_file)
		f = fopen(gg_settings.stats_file, "ae");
	if (!f) {
		gg_say("PENSTOCK_STATS_FILE=%s: %s", gg_settings.stats_file, strerror(errno));
		return;
	}
	if (gg_settings.stats == GG_STATS_JSON)
		json(f, &stats, &status);
	else
		text(f, &stats, &status);
	if (f != stderr)
		fclose(f);
	else
		fflush(f);
}

static int signal_pipe[2] = { -1, -1 };

static void on_signal(int nr)
{
	const int saved = errno;
	ssize_t n = write(signal_pipe[1], "", 1);

	(void)n;
	errno = saved;
}

static void *tell(void *arg)
{
	char byte;

	while (read(signal_pipe[0], &byte, 1) > 0 || errno == EINTR)
		gg_engine_report();
	return NULL;
}

void gg_report_on_signal(void)
{
	struct sigaction old, new = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	sigset_t all, before;
	pthread_attr_t attr;
	pthread_t thread;

	if (gg_settings.stats == GG_STATS_NONE || sigaction(SIGUSR1, NULL, &old) || old.sa_handler != SIG_DFL ||
	    pipe2(signal_pipe, O_CLOEXEC))
		return;
	/* the thread takes no signals of the program's */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	if (!pthread_create(&thread, &attr, tell, NULL))
		sigaction(SIGUSR1, &new, NULL);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}
