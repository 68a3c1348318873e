// SPDX-License-Identifier: MIT
/* The progress line. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../out.h"
#include "progress.h"

#define TTY_NS 200000000u
#define LINE_NS 2000000000u

void run_progress_begin(struct run_progress *pr, const struct run_pass *pass, const char *phase, uint64_t total,
			bool quiet)
{
	memset(pr, 0, sizeof(*pr));
	pr->off = quiet;
	pr->tty = isatty(STDERR_FILENO);
	pr->pass = pass;
	pr->phase = phase;
	pr->total = total;
	pr->start_ns = pr->last_ns = run_now_ns();
	if (pass) {
		pr->ctx = pass->s->ctx;
		pr->start.size = sizeof(pr->start);
		if (penstock_stats(pr->ctx, &pr->start))
			pr->ctx = NULL;
	}
}

static bool due(struct run_progress *pr)
{
	uint64_t now = run_now_ns();

	if (pr->off || now - pr->last_ns < (pr->tty ? TTY_NS : LINE_NS))
		return false;
	pr->last_ns = now;
	return true;
}

static void show(struct run_progress *pr, const char *text)
{
	if (pr->tty)
		fprintf(stderr, "\r%s\033[K", text);
	else
		fprintf(stderr, "%s\n", text);
	pr->shown = true;
}

void run_progress_line(struct run_progress *pr, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	if (!due(pr))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	show(pr, text);
}

static uint64_t tokens_done(const struct run_pass *p)
{
	uint64_t i, n = 0;

	if (p->decode)
		return (uint64_t)(p->nr_out - 1) * p->s->prompts.nr;
	for (i = 0; i < p->s->prompts.nr; i++)
		n += p->pos[i];
	return n;
}

void run_progress_tick(void *arg)
{
	struct run_progress *pr = arg;
	struct penstock_stats st = { .size = sizeof(st) };
	uint64_t wanted, done, busy;
	char text[256], flight[32];
	double s;

	if (!due(pr) || !pr->ctx || penstock_stats(pr->ctx, &st))
		return;
	s = (double)(pr->last_ns - pr->start_ns) / 1e9;
	done = tokens_done(pr->pass);
	wanted = st.experts_wanted - pr->start.experts_wanted;
	busy = st.io_busy_ns - pr->start.io_busy_ns;
	snprintf(text, sizeof(text), "%s %llu/%llu tokens  %.2f %stok/s  hit %.1f %%  %.2f GB/s  %s in flight",
		 pr->phase, (unsigned long long)done, (unsigned long long)pr->total, (double)done / s,
		 pr->pass->s->moe_only ? "moe " : "",
		 wanted ? 100.0 * (double)(st.experts_hit - pr->start.experts_hit) / (double)wanted : 0,
		 busy ? (double)(st.bytes_read - pr->start.bytes_read) / (double)busy : 0,
		 out_size_text(st.in_flight_bytes, flight, sizeof(flight)));
	show(pr, text);
}

void run_progress_end(struct run_progress *pr)
{
	if (pr->shown && pr->tty)
		fprintf(stderr, "\r\033[K");
	pr->shown = false;
}
