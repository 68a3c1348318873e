// SPDX-License-Identifier: MIT
/* A comparison seen from above: children, control groups, turns. */
#include <errno.h>
#include <malloc.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cgroup.h"
#include "compare.h"
#include "progress.h"
#include "readahead.h"

/* Rounds end after this long: on a slow drive mmap can take minutes a token. */
#define LIMIT_NS 60000000000u
#define LIMIT_ROUNDS 3u
#define SLACK (16ull << 20)
#define READ_AHEAD_KIB 128u

enum { OURS = 0, MMAP = 1 };

struct child {
	const char *name;
	struct run_cgroup group;
	struct run_side_reply at_open;
	pid_t pid;
	int fd;
	uint64_t ns; /* of the rounds */
	uint32_t nr_out;
};

struct compare {
	const struct run_args *args;
	const int32_t *ids;
	uint32_t nr_seqs;
	struct run_compare *res;
	struct child side[2];
	struct run_progress progress;
};

static int child_start(struct compare *c, int nr, uint64_t cache_bytes, struct penstock_error *err)
{
	struct child *ch = &c->side[nr];
	char name[64];
	int fds[2], rc;

	snprintf(name, sizeof(name), "penstock-%d-%s", (int)getpid(), ch->name);
	rc = run_cgroup_create(name, &ch->group, err);
	if (rc)
		return rc;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
		return decoder_fail(err, -errno, "socket to a child");
	fflush(stdout);
	fflush(stderr);
	ch->pid = fork();
	if (ch->pid < 0) {
		rc = -errno;
		close(fds[0]);
		close(fds[1]);
		ch->pid = 0;
		return decoder_fail(err, rc, "a child for the %s side", ch->name);
	}
	if (!ch->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(fds[0]);
		_exit(run_side_main(fds[1], c->args, nr == MMAP, cache_bytes));
	}
	close(fds[1]);
	ch->fd = fds[0];
	return run_cgroup_add(&ch->group, ch->pid, err);
}

static void child_stop(struct child *ch)
{
	const struct run_side_cmd cmd = { .op = RUN_SIDE_QUIT };

	if (ch->pid > 0) {
		if (run_interrupted() || send(ch->fd, &cmd, sizeof(cmd), MSG_NOSIGNAL) < 0)
			kill(ch->pid, SIGKILL);
		close(ch->fd);
		while (waitpid(ch->pid, NULL, 0) < 0 && errno == EINTR)
			;
		ch->pid = 0;
	}
	run_cgroup_remove(&ch->group);
}

/* The child said nothing more: tell from what it died. */
static int child_lost(struct child *ch, struct penstock_error *err)
{
	int status = 0;

	kill(ch->pid, SIGKILL);
	close(ch->fd);
	while (waitpid(ch->pid, &status, 0) < 0 && errno == EINTR)
		;
	ch->pid = 0;
	if (WIFSIGNALED(status))
		return decoder_fail(err, -ECHILD, "the %s side ended by signal %d%s", ch->name, WTERMSIG(status),
				    WTERMSIG(status) == SIGKILL ? ", perhaps at its memory limit" : "");
	return decoder_fail(err, -ECHILD, "the %s side ended with status %d", ch->name, WEXITSTATUS(status));
}

static int child_do(struct compare *c, int nr, const struct run_side_cmd *cmd, struct run_side_reply *reply,
		    struct penstock_error *err)
{
	struct child *ch = &c->side[nr];
	ssize_t n = -1;

	if (send(ch->fd, cmd, sizeof(*cmd), MSG_NOSIGNAL) == sizeof(*cmd))
		do {
			n = recv(ch->fd, reply, sizeof(*reply), 0);
		} while (n < 0 && errno == EINTR && !run_interrupted());
	if (run_interrupted())
		return decoder_fail(err, -ECANCELED, "interrupted");
	if (n != sizeof(*reply))
		return child_lost(ch, err);
	if (reply->rc) {
		err->code = reply->rc;
		snprintf(err->text, sizeof(err->text), "%s side: %.480s", ch->name, reply->text);
		return reply->rc;
	}
	return 0;
}

/* @n more ids of one side; they must be the main run's. */
static int child_ids(struct compare *c, int nr, uint32_t op, uint32_t n, enum run_mmap_method method, uint64_t *ns,
		     struct penstock_error *err)
{
	const struct run_side_cmd cmd = { .op = op, .steps = n, .method = method };
	struct child *ch = &c->side[nr];
	struct run_side_reply reply;
	int rc;

	rc = child_do(c, nr, &cmd, &reply, err);
	if (rc)
		return rc;
	if (reply.ids != run_side_ids(c->ids, c->nr_seqs, c->args->tokens, ch->nr_out, n))
		c->res->same_output = false;
	ch->nr_out += n;
	*ns += reply.ns;
	return 0;
}

/* Both limits, from what our side holds after the prompt. */
static int set_limits(struct compare *c, struct penstock_error *err)
{
	struct run_side_reply *ours = &c->side[OURS].at_open, *theirs = &c->side[MMAP].at_open;
	struct run_compare *res = c->res;
	uint64_t used, slots_charged = ours->slots_charged ? ours->slot_bytes : 0, known;
	int rc;

	rc = run_cgroup_usage(&c->side[OURS].group, &used, err);
	if (rc)
		return rc;
	known = ours->dense_bytes + slots_charged;
	res->dense_bytes = ours->dense_bytes;
	res->slot_bytes = ours->slot_bytes;
	res->other_bytes = (used > known ? used - known : 0) + ours->kv_bytes;
	res->slack_bytes = SLACK;
	res->limit_bytes = res->dense_bytes + res->slot_bytes + res->other_bytes + res->slack_bytes;
	rc = run_cgroup_limit(&c->side[OURS].group, res->limit_bytes - (ours->slot_bytes - slots_charged), err);
	if (rc)
		return rc;
	/* The library under the mmap side has slots too, which serve nothing: they do not count. */
	return run_cgroup_limit(&c->side[MMAP].group,
				res->limit_bytes + (theirs->slots_charged ? theirs->slot_bytes : 0), err);
}

static int open_sides(struct compare *c, uint64_t least_bytes, struct penstock_error *err)
{
	const struct run_side_cmd cmd = { .op = RUN_SIDE_OPEN };
	uint64_t ns = 0;
	int rc, i;

	rc = child_start(c, OURS, c->args->cache_bytes, err);
	if (!rc)
		rc = child_start(c, MMAP, least_bytes, err);
	for (i = 0; !rc && i < 2; i++)
		rc = child_do(c, i, &cmd, &c->side[i].at_open, err);
	if (!rc)
		rc = child_ids(c, OURS, RUN_SIDE_PREFILL, 1, 0, &ns, err);
	if (!rc)
		rc = set_limits(c, err);
	if (!rc)
		rc = child_ids(c, MMAP, RUN_SIDE_PREFILL, 1, 0, &ns, err);
	return rc;
}

/* Forth and back, so that a warming page cache favours no method; then our side over the same tokens. */
static int trial(struct compare *c, uint32_t steps, struct penstock_error *err)
{
	struct run_compare *res = c->res;
	uint64_t ns[RUN_MMAP_METHODS] = { 0 }, ours = 0;
	int i, m, rc = 0;

	for (i = 0; !rc && i < 2 * RUN_MMAP_METHODS; i++) {
		m = i < RUN_MMAP_METHODS ? i : 2 * RUN_MMAP_METHODS - 1 - i;
		rc = child_ids(c, MMAP, RUN_SIDE_STEPS, steps, m, &ns[m], err);
	}
	if (rc)
		return rc;
	for (m = 0; m < RUN_MMAP_METHODS; m++) {
		res->trial_tok_s[m] = 2.0 * steps * c->nr_seqs / ((double)ns[m] / 1e9);
		if (ns[m] < ns[res->method])
			res->method = m;
	}
	return child_ids(c, OURS, RUN_SIDE_STEPS, 2 * RUN_MMAP_METHODS * steps, 0, &ours, err);
}

static int rounds(struct compare *c, uint32_t most, struct penstock_error *err)
{
	struct child *ours = &c->side[OURS], *theirs = &c->side[MMAP];
	struct run_compare *res = c->res;
	uint32_t left, n;
	int rc = 0;

	while (!rc && ours->nr_out < c->args->tokens) {
		if (res->rounds >= LIMIT_ROUNDS && ours->ns + theirs->ns > LIMIT_NS)
			break;
		left = c->args->tokens - ours->nr_out;
		n = left < most ? left : most;
		rc = child_ids(c, OURS, RUN_SIDE_STEPS, n, 0, &ours->ns, err);
		if (!rc)
			rc = child_ids(c, MMAP, RUN_SIDE_STEPS, n, res->method, &theirs->ns, err);
		if (rc)
			break;
		res->rounds++;
		res->tokens += (uint64_t)n * c->nr_seqs;
		run_progress_line(&c->progress, "compare %u/%u tokens  ours %.2f tok/s  mmap (%s) %.2f tok/s",
				  ours->nr_out, c->args->tokens, (double)res->tokens / ((double)ours->ns / 1e9),
				  run_mmap_method_name(res->method), (double)res->tokens / ((double)theirs->ns / 1e9));
	}
	return rc;
}

static void set_by(struct compare *c)
{
	struct run_compare *res = c->res;

	/* Both groups' names differ in the last word only. */
	snprintf(res->how, sizeof(res->how), "%s of cgroup v%d %.*s{%s,%s}",
		 run_cgroup_limit_name(&c->side[OURS].group), c->side[OURS].group.version,
		 (int)(strlen(c->side[MMAP].group.path) - strlen(c->side[MMAP].name)), c->side[MMAP].group.path,
		 c->side[OURS].name, c->side[MMAP].name);
}

int run_compare(const struct run_args *args, const int32_t *ids, uint32_t nr_seqs, uint64_t least_bytes,
		struct run_compare *res)
{
	struct compare c = { .args = args,
			     .ids = ids,
			     .nr_seqs = nr_seqs,
			     .res = res,
			     .side = { { .name = "library" }, { .name = "mmap" } } };
	struct penstock_error err = { 0 };
	struct run_readahead ra;
	uint32_t steps = args->tokens - 1, t = steps / 30 ? steps / 30 : 1;
	int rc;

	memset(res, 0, sizeof(*res));
	res->same_output = true;
	malloc_trim(0);
	run_progress_begin(&c.progress, NULL, "compare", args->tokens, args->quiet);
	run_readahead_set(&ra, args->model, READ_AHEAD_KIB);
	rc = open_sides(&c, least_bytes, &err);
	if (!rc)
		rc = trial(&c, t, &err);
	if (!rc)
		rc = rounds(&c, steps / 16 ? steps / 16 : 1, &err);
	run_progress_end(&c.progress);
	res->read_ahead_bytes = c.side[MMAP].at_open.read_ahead_bytes;
	if (!rc) {
		set_by(&c);
		res->tok_s = (double)res->tokens / ((double)c.side[OURS].ns / 1e9);
		res->mmap_tok_s = (double)res->tokens / ((double)c.side[MMAP].ns / 1e9);
		res->ratio = res->tok_s / res->mmap_tok_s;
		res->done = true;
	} else {
		snprintf(res->reason, sizeof(res->reason), "%s", err.text);
	}
	child_stop(&c.side[OURS]);
	child_stop(&c.side[MMAP]);
	run_readahead_restore(&ra);
	return rc == -ECANCELED ? rc : 0;
}
