// SPDX-License-Identifier: MIT
/*
 * Weights outside the experts, made so that decoded tokens visit experts as those
 * of real models do. With plain random weights every token's choice is nearly
 * independent of the last one's, and a cache looks worse than it is; with a
 * router that sees the token only, a loop of tokens makes it look better.
 *
 * The hidden state is divided into
 *   dimension 0    the same in every token: popularity of experts, and the part of
 *                  queries and keys that makes attention look at distances
 *   dimension 1    the token's importance, between -1 and 1, mostly near -1
 *   TOPIC, RECENT  an eighth of the width each: empty in the embedding, written by
 *                  attention
 *   TOKEN          the rest: the token's own random vector; attention reads values here
 * Experts read and write all of it, as random matrices do.
 *
 * Attention heads are of two kinds. A "recent" head has constant queries and
 * keys on the fast pairs of the rotary embedding, so that its weights fall off
 * within two or three tokens. A "topic" head has keys that grow with the token's
 * importance, on pairs too slow to tell distances: it stays on the few most
 * important tokens of the sequence until a more important one comes.
 *
 * The router adds up four parts: popularity (Zipf, by layer), TOPIC, RECENT and
 * TOKEN, each with unit variance times its gain. Reached with the defaults, 128
 * greedy tokens, top-6 of 128 (Qwen3-30B's trace in brackets): of a token's experts
 * 35.7 % (38.0) were chosen by the token before as well, 27.9 (28.9) by the one
 * before that, 27.3 (27.7) and 26.2 (26.7) by the fourth and the eighth; an LRU list
 * of 10, 20, 30 % of the experts hits 52.7, 72.4, 81.2 % (54.3, 74.5, 84.8).
 * Documentation/synth.rst has more. Without popularity (--skew 0) the figures are
 * near those of DeepSeek-V2-Lite over unrelated prompts.
 *
 * The head reads no constant, and little TOPIC, so that no token wins for ever:
 * greedy decoding does not run into a loop.
 */
#include <math.h>
#include <string.h>

#include "synth.h"

/* Standard deviations of the router's parts, beside --skew for popularity. */
#define GAIN_TOPIC	0.6
#define GAIN_RECENT	1.0
#define GAIN_TOKEN	0.1
/* Output of an expert relative to its input, before activation and router. */
#define GAIN_DOWN	0.7
/* What the head reads of TOPIC and RECENT, relative to TOKEN. */
#define HEAD_TOPIC	0.3
#define HEAD_RECENT	0.7
/* What a token's own logit loses, where logits have a standard deviation of about 0.9. */
#define HEAD_AWAY	4.0
/* Largest attention score before the softmax. */
#define SCORE_MAX	8.0
/* Random part of queries and keys. */
#define QK_NOISE	0.3
/* Importance is 2 u^POWER - 1; its weight in a topic head's keys, the rest is constant. */
#define IMPORTANCE_POWER 8
#define IMPORTANCE	0.8
/* Angles a token (radians) of the rotary pairs that the two kinds of heads use. */
#define RECENT_FROM	0.1
#define RECENT_TO	1.1
#define TOPIC_FROM	3e-4
#define TOPIC_TO	3e-3
/* Mean squares that were measured: attention of either kind, and a layer's experts for GAIN_DOWN 1. */
#define POWER_TOPIC	0.35
#define POWER_RECENT	0.6
#define POWER_EXPERTS	0.15

enum section { AT_CONST, AT_IMPORTANCE, AT_TOPIC, AT_RECENT, AT_TOKEN };

static uint64_t topic_dims(const struct synth_config *c)
{
	return c->hidden / 8;
}

static enum section section_of(const struct synth_config *c, uint64_t dim)
{
	if (dim < 2)
		return dim ? AT_IMPORTANCE : AT_CONST;
	if (dim < 2 + topic_dims(c))
		return AT_TOPIC;
	if (dim < 2 + 2 * topic_dims(c))
		return AT_RECENT;
	return AT_TOKEN;
}

static uint64_t token_dims(const struct synth_config *c)
{
	return c->hidden - 2 - 2 * topic_dims(c);
}

/* Dimension 0 holds a sixty-fourth of the embedding's power. */
static double constant(const struct synth_config *c)
{
	return sqrt(c->hidden) / 8;
}

/* Mean square of what @layers layers of experts have added to any dimension. */
static double experts_power(double layers)
{
	return layers * POWER_EXPERTS * GAIN_DOWN * GAIN_DOWN;
}

/* Root mean square of the hidden state after @attn attention blocks and @layers layers of experts. */
static double hidden_rms(const struct synth_config *c, double attn, double layers)
{
	double topic = (double)topic_dims(c) / c->hidden;

	return sqrt((double)token_dims(c) / c->hidden + 1.8 / 64 + attn * topic * (POWER_TOPIC + POWER_RECENT) +
		    experts_power(layers));
}

double synth_routing_gain(const struct synth_config *cfg, uint32_t role)
{
	return role == SYNTH_DOWN ? GAIN_DOWN / sqrt(cfg->inter) : 1 / sqrt(cfg->hidden);
}

/* ---- attention ---- */

static bool topic_kv_head(const struct synth_config *c, uint32_t head)
{
	return c->kv_heads > 1 && head % 2;
}

/* With a single key head, both kinds share it. */
static bool topic_head(const struct synth_config *c, uint32_t head)
{
	return c->kv_heads > 1 ? topic_kv_head(c, head / (c->heads / c->kv_heads)) : head % 2;
}

/* Is rotary pair @pair one of the band's? The nearest pair stands in where there is none. */
static bool in_band(const struct synth_config *c, uint32_t pair, double from, double to, uint32_t *nr)
{
	double base = synth_arch_info(c->arch)->rope_base, angle, middle = sqrt(from * to), best = INFINITY, off;
	uint32_t i, near = 0;
	bool in = false;

	*nr = 0;
	for (i = 0; i < c->head_dim / 2; i++) {
		angle = pow(base, -2.0 * i / c->head_dim);
		if (angle >= from && angle <= to) {
			++*nr;
			in |= i == pair;
		}
		off = fabs(log(angle / middle));
		if (off < best) {
			best = off;
			near = i;
		}
	}
	if (!*nr) {
		*nr = 1;
		in = near == pair;
	}
	return in;
}

/* Element @dim of a head's constant vector: sqrt(head_dim) long, on the first half of each pair. */
static double band(const struct synth_config *c, uint32_t dim, bool topic)
{
	uint32_t nr;

	if (dim >= c->head_dim / 2)
		return 0;
	if (!in_band(c, dim, topic ? TOPIC_FROM : RECENT_FROM, topic ? TOPIC_TO : RECENT_TO, &nr))
		return 0;
	return sqrt((double)c->head_dim / nr);
}

/*
 * With norms on queries and keys, their scale is the norm's weight; without, it
 * is in the matrices. Either way the largest score is SCORE_MAX.
 */
static double qk_scale(const struct synth_config *c)
{
	return sqrt(SCORE_MAX / sqrt(c->head_dim));
}

static bool has_qk_norm(const struct synth_config *c)
{
	return c->arch != SYNTH_MIXTRAL;
}

/* Mixtral in GGUF pairs neighbours where the others pair halves: its converter moves rows, so we do. */
static uint64_t rotary_row(const struct synth_config *c, uint64_t row)
{
	uint64_t in = row % c->head_dim;

	if (c->arch != SYNTH_MIXTRAL || c->format != PENSTOCK_FORMAT_GGUF)
		return row;
	return row - in + in % 2 * (c->head_dim / 2) + in / 2;
}

static void qk_row(const struct synth_model *m, const struct synth_tensor *t, uint64_t row, uint64_t stream, float *out)
{
	const struct synth_config *c = &m->cfg;
	double scale = has_qk_norm(c) ? 1 : qk_scale(c), unit, recent, topic;
	uint32_t head, dim;

	row = rotary_row(c, row);
	head = (uint32_t)(row / c->head_dim);
	dim = (uint32_t)(row % c->head_dim);
	recent = band(c, dim, false);
	topic = band(c, dim, true);
	synth_normals(m, stream, row * t->cols, t->cols, scale * QK_NOISE / sqrt(c->hidden), out);
	/* dimension 0 arrives as constant / rms */
	unit = scale * hidden_rms(c, t->layer, t->layer) / constant(c);
	out[0] = 0;
	out[1] = 0;
	if (t->role == SYNTH_Q) {
		out[0] = (float)(unit * (topic_head(c, head) ? topic : recent));
	} else if (c->kv_heads == 1) {
		out[0] = (float)(unit * recent * IMPORTANCE);
		out[1] = (float)(unit * topic * sqrt(1 - IMPORTANCE * IMPORTANCE));
	} else if (topic_kv_head(c, head)) {
		out[0] = (float)(unit * recent * sqrt(1 - IMPORTANCE * IMPORTANCE));
		out[1] = (float)(unit * topic * IMPORTANCE);
	} else {
		out[0] = (float)(unit * recent);
	}
}

static void o_row(const struct synth_model *m, const struct synth_tensor *t, uint64_t row, uint64_t stream, float *out)
{
	const struct synth_config *c = &m->cfg;
	enum section to = section_of(c, row);
	uint32_t h, nr = 0;
	bool topic;

	memset(out, 0, t->cols * sizeof(*out));
	if (to != AT_TOPIC && to != AT_RECENT)
		return;
	for (h = 0; h < c->heads; h++)
		nr += topic_head(c, h) == (to == AT_TOPIC);
	if (!nr)
		return;
	for (h = 0; h < c->heads; h++) {
		topic = topic_head(c, h);
		if (topic == (to == AT_TOPIC))
			synth_normals(m, stream, row * t->cols + h * c->head_dim, c->head_dim,
				      1 / sqrt((double)nr * c->head_dim), out + (size_t)h * c->head_dim);
	}
}

/* Normal numbers in one section, none elsewhere. */
static void section_normals(const struct synth_model *m, enum section s, uint64_t stream, uint64_t row, double sd,
			    float *out)
{
	uint64_t t = topic_dims(&m->cfg), at, n;

	at = s == AT_TOPIC ? 2 : s == AT_RECENT ? 2 + t : 2 + 2 * t;
	n = s == AT_TOKEN ? token_dims(&m->cfg) : t;
	synth_normals(m, stream, row * m->cfg.hidden + at, n, sd, out + at);
}

/* ---- router, embedding, head ---- */

/* Place of an expert in its layer's order of popularity, 1 first. */
static uint32_t popularity(const struct synth_model *m, uint32_t layer, uint32_t expert)
{
	uint64_t stream = ~synth_stream(m->cfg.seed, SYNTH_ROUTER, layer, 0);
	double mine = synth_uniform(stream, expert);
	uint32_t e, rank = 1;

	for (e = 0; e < m->cfg.experts; e++)
		rank += synth_uniform(stream, e) < mine;
	return rank;
}

static void router_row(const struct synth_model *m, const struct synth_tensor *t, uint64_t row, uint64_t stream,
		       float *out)
{
	const struct synth_config *c = &m->cfg;
	double n = t->layer, rms = hidden_rms(c, n + 1, n), noise = experts_power(n);
	double topic = GAIN_TOPIC / sqrt((n + 1) * POWER_TOPIC + noise);
	double recent = GAIN_RECENT / sqrt((n + 1) * POWER_RECENT + noise);
	double token = GAIN_TOKEN / sqrt(1 + noise);

	memset(out, 0, t->cols * sizeof(*out));
	out[0] = (float)(-c->skew * log(popularity(m, t->layer, (uint32_t)row)) * rms / constant(c));
	section_normals(m, AT_TOPIC, stream, row, topic * rms / sqrt(topic_dims(c)), out);
	section_normals(m, AT_RECENT, stream, row, recent * rms / sqrt(topic_dims(c)), out);
	section_normals(m, AT_TOKEN, stream, row, token * rms / sqrt(token_dims(c)), out);
}

static void embed_row(const struct synth_model *m, const struct synth_tensor *t, uint64_t row, uint64_t stream,
		      float *out)
{
	double c = constant(&m->cfg);

	memset(out, 0, t->cols * sizeof(*out));
	out[0] = (float)c;
	out[1] = (float)(c * (2 * pow(synth_uniform(~stream, row), IMPORTANCE_POWER) - 1));
	section_normals(m, AT_TOKEN, stream, row, 1, out);
}

/*
 * The last token ends a text: it is never the best. A token that is its own best
 * successor would be the end of all change (a random map has one such, on
 * average), so each row leans away from its token's embedding.
 */
static void head_row(const struct synth_model *m, const struct synth_tensor *t, uint64_t row, uint64_t stream,
		     float *out)
{
	const struct synth_config *c = &m->cfg;
	double sd = 1 / sqrt(c->hidden), away = HEAD_AWAY * hidden_rms(c, c->layers, c->layers) / (double)token_dims(c);
	uint64_t embed = synth_stream(c->seed, SYNTH_EMBED, t->layer, 0), at = t->cols - token_dims(c), n, i;
	float piece[256];

	memset(out, 0, t->cols * sizeof(*out));
	if (row + 1 == t->rows)
		return;
	section_normals(m, AT_TOPIC, stream, row, HEAD_TOPIC * sd, out);
	section_normals(m, AT_RECENT, stream, row, HEAD_RECENT * sd, out);
	section_normals(m, AT_TOKEN, stream, row, sd, out);
	for (; at < t->cols; at += n) {
		n = t->cols - at < 256 ? t->cols - at : 256;
		synth_normals(m, embed, row * t->cols + at, n, away, piece);
		for (i = 0; i < n; i++)
			out[at + i] -= piece[i];
	}
}

void synth_routing_row(const struct synth_model *m, const struct synth_tensor *t, uint64_t row, float *out)
{
	uint64_t stream = synth_stream(m->cfg.seed, t->role, t->layer, 0), i;
	double v = 1;

	switch (t->role) {
	case SYNTH_EMBED:
		embed_row(m, t, row, stream, out);
		break;
	case SYNTH_HEAD:
		head_row(m, t, row, stream, out);
		break;
	case SYNTH_Q:
	case SYNTH_K:
		qk_row(m, t, row, stream, out);
		break;
	case SYNTH_V:
		memset(out, 0, t->cols * sizeof(*out));
		section_normals(m, AT_TOKEN, stream, row, 1 / sqrt(token_dims(&m->cfg)), out);
		break;
	case SYNTH_O:
		o_row(m, t, row, stream, out);
		break;
	case SYNTH_ROUTER:
		router_row(m, t, row, stream, out);
		break;
	case SYNTH_Q_NORM:
	case SYNTH_K_NORM:
		v = qk_scale(&m->cfg);
		/* fallthrough */
	default:	/* the norms */
		for (i = 0; i < t->cols; i++)
			out[i] = (float)v;
	}
}
