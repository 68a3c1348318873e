// SPDX-License-Identifier: MIT
/*
 * Steps of many rows: sequences of a batch do not see one another, a prompt may
 * come in pieces, a reset forgets, and a cache that holds little changes nothing.
 */
#include "decoder_golden.h"

#define NR_SEQS 3
#define NR_OUT 10
#define MAX_POS 32

static const int32_t prompts[NR_SEQS][11] = {
	{ 9, 3, 27, 41, 8, 3, 8, 51, 23, 34, 12 }, { 44, 5, 6, 7 }, { 2, 61, 2, 30, 2, 19, 2, 8, 2 },
};
static const size_t lengths[NR_SEQS] = { 11, 4, 9 };

static void step(struct opened *o, const struct decoder_experts *src, const struct decoder_row *rows, size_t nr,
		 const uint8_t *want, float *logits)
{
	struct penstock_error err = { 0 };

	ASSERT_GOOD(decoder_step(o->d, rows, nr, want, src, NULL, logits, &err), &err);
}

static void prompt_rows(uint32_t i, uint32_t seq, uint32_t from, uint32_t to, struct decoder_row *rows)
{
	uint32_t p;

	for (p = from; p < to; p++)
		*rows++ = (struct decoder_row){ prompts[i][p], seq, p };
}

/* ---- batches ---- */

static void batch_as_singles(const char *name, bool prompts_together)
{
	int32_t want[NR_SEQS][NR_OUT], out[NR_SEQS][NR_OUT];
	struct decoder_row rows[NR_SEQS * 11];
	uint8_t mask[NR_SEQS * 11] = { 0 }, all[NR_SEQS] = { 1, 1, 1 };
	struct decoder_experts src;
	uint32_t vocab, i, j;
	struct opened o;
	float *logits;
	size_t nr = 0;

	open_model(&o, golden_model(name), 64 << 20);
	open_decoder(&o, MAX_POS, NR_SEQS, 0);
	src = library_source(&o);
	vocab = decoder_vocab(o.d);
	logits = calloc(NR_SEQS * vocab, sizeof(float));
	for (i = 0; i < NR_SEQS; i++) {
		decoder_reset(o.d);
		greedy(&o, &src, NULL, prompts[i], lengths[i], want[i], NR_OUT, NULL);
	}
	decoder_reset(o.d);
	for (i = 0; i < NR_SEQS; i++) {
		prompt_rows(i, i, 0, (uint32_t)lengths[i], rows + nr);
		nr += lengths[i];
		mask[nr - 1] = 1;
		if (!prompts_together) {
			step(&o, &src, rows, nr, NULL, logits + i * vocab);
			nr = 0;
		}
	}
	if (prompts_together)
		step(&o, &src, rows, nr, mask, logits);
	for (j = 0; j < NR_OUT; j++) {
		/* in another order each time */
		for (i = 0; i < NR_SEQS; i++)
			out[i][j] = decoder_argmax(logits + (j ? (i + j) % NR_SEQS : i) * vocab, vocab);
		for (i = 0; i < NR_SEQS; i++)
			rows[(i + j + 1) % NR_SEQS] = (struct decoder_row){ out[i][j], i, (uint32_t)lengths[i] + j };
		step(&o, &src, rows, NR_SEQS, all, logits);
	}
	for (i = 0; i < NR_SEQS; i++)
		for (j = 0; j < NR_OUT; j++)
			EXPECT_EQ(want[i][j], out[i][j]);
	EXPECT_NE(0, memcmp(want[0], want[1], sizeof(want[0])));
	free(logits);
	close_all(&o);
}

TEST(batch_gives_what_singles_give_qwen3_moe) { batch_as_singles("qwen3_moe", false); }
TEST(batch_gives_what_singles_give_gpt_oss) { batch_as_singles("gpt_oss", true); }
TEST(batch_gives_what_singles_give_llama4) { batch_as_singles("llama4", true); }
TEST(batch_gives_what_singles_give_glm4_moe) { batch_as_singles("glm4_moe", false); }

/* ---- pieces ---- */

static void pieces(const char *name)
{
	struct decoder_row rows[11];
	struct decoder_experts src;
	float *whole, *part, *every;
	struct opened o;
	uint32_t vocab, i;
	uint8_t all[11];

	memset(all, 1, sizeof(all));
	open_model(&o, golden_model(name), 64 << 20);
	open_decoder(&o, MAX_POS, 1, 0);
	src = decoder_plain_source(o.plain);
	vocab = decoder_vocab(o.d);
	whole = calloc(vocab, sizeof(float));
	part = calloc(vocab, sizeof(float));
	every = calloc(11 * vocab, sizeof(float));
	prompt_rows(0, 0, 0, 11, rows);
	step(&o, &src, rows, 11, NULL, whole);

	/* all rows wanted: the last is the same, the others are what shorter prompts give */
	decoder_reset(o.d);
	step(&o, &src, rows, 11, all, every);
	EXPECT_LE(golden_distance(every + 10 * vocab, whole, vocab), 1e-5);
	decoder_reset(o.d);
	for (i = 0; i < 11; i++) {
		step(&o, &src, rows + i, 1, NULL, part);
		EXPECT_LE(golden_distance(part, every + i * vocab, vocab), 1e-5);
	}
	decoder_reset(o.d);
	step(&o, &src, rows, 4, NULL, part);
	EXPECT_LE(golden_distance(part, every + 3 * vocab, vocab), 1e-5);
	step(&o, &src, rows + 4, 7, NULL, part);
	EXPECT_LE(golden_distance(part, whole, vocab), 1e-5);

	/* what came before is forgotten: the same bits again, over a cache full of other values */
	decoder_reset(o.d);
	step(&o, &src, rows, 11, NULL, part);
	EXPECT_EQ(0, memcmp(part, whole, vocab * sizeof(float)));
	/* and not forgotten without a reset */
	rows[0].pos = 11;
	step(&o, &src, rows, 1, NULL, part);
	EXPECT_GT(golden_distance(part, every, vocab), 1e-3);
	free(whole);
	free(part);
	free(every);
	close_all(&o);
}

TEST(prompt_in_pieces_mixtral) { pieces("mixtral"); }
TEST(prompt_in_pieces_olmoe) { pieces("olmoe"); }
TEST(prompt_in_pieces_gpt_oss) { pieces("gpt_oss"); }
TEST(prompt_in_pieces_llama4) { pieces("llama4"); }

/* ---- the router hook ---- */

struct calls {
	uint32_t seq[8];
	uint32_t pos[8];
	size_t nr[8];
	uint32_t n;
};

static int note(void *arg, uint32_t layer, uint32_t seq, uint32_t pos, size_t nr, uint32_t k, int32_t *ids,
		float *weights, struct penstock_error *err)
{
	struct calls *c = arg;

	if (layer || c->n >= 8)
		return 0;
	c->seq[c->n] = seq;
	c->pos[c->n] = pos;
	c->nr[c->n++] = nr;
	return 0;
}

TEST(hook_is_called_for_each_run_of_a_sequence)
{
	struct calls c = { .n = 0 };
	struct decoder_router_hook hook = { note, &c };
	struct decoder_row rows[5];
	struct penstock_error err = { 0 };
	struct decoder_experts src;
	struct opened o;
	float *logits;

	open_model(&o, golden_model("qwen3_moe"), 64 << 20);
	open_decoder(&o, MAX_POS, 2, 0);
	src = decoder_plain_source(o.plain);
	logits = calloc(decoder_vocab(o.d), sizeof(float));
	prompt_rows(0, 1, 0, 3, rows);
	prompt_rows(1, 0, 0, 2, rows + 3);
	ASSERT_GOOD(decoder_step(o.d, rows, 5, NULL, &src, &hook, logits, &err), &err);
	EXPECT_EQ(2u, c.n);
	EXPECT_EQ(1u, c.seq[0]);
	EXPECT_EQ(0u, c.pos[0]);
	EXPECT_EQ((size_t)3, c.nr[0]);
	EXPECT_EQ(0u, c.seq[1]);
	EXPECT_EQ((size_t)2, c.nr[1]);
	prompt_rows(0, 1, 3, 5, rows);
	ASSERT_GOOD(decoder_step(o.d, rows, 2, NULL, &src, &hook, logits, &err), &err);
	EXPECT_EQ(3u, c.n);
	EXPECT_EQ(3u, c.pos[2]);
	free(logits);
	close_all(&o);
}

static int always(void *arg, uint32_t layer, uint32_t seq, uint32_t pos, size_t nr, uint32_t k, int32_t *ids,
		  float *weights, struct penstock_error *err)
{
	size_t i;

	for (i = 0; i < nr * k; i++)
		ids[i] = (int32_t)(i % k);
	return 0;
}

TEST(hook_forces_the_choice)
{
	struct decoder_router_hook hook = { always, NULL };
	struct decoder_experts plain, library;
	struct penstock_error err = { 0 };
	struct decoder_row rows[11];
	float *own, *forced, *again;
	struct opened o;
	uint32_t vocab;

	open_model(&o, golden_model("qwen3_moe"), 64 << 20);
	open_decoder(&o, MAX_POS, 1, 0);
	plain = decoder_plain_source(o.plain);
	library = library_source(&o);
	vocab = decoder_vocab(o.d);
	own = calloc(vocab, sizeof(float));
	forced = calloc(vocab, sizeof(float));
	again = calloc(vocab, sizeof(float));
	prompt_rows(0, 0, 0, 11, rows);
	step(&o, &plain, rows, 11, NULL, own);
	decoder_reset(o.d);
	ASSERT_GOOD(decoder_step(o.d, rows, 11, NULL, &plain, &hook, forced, &err), &err);
	EXPECT_GT(golden_distance(forced, own, vocab), 1e-3);
	decoder_reset(o.d);
	ASSERT_GOOD(decoder_step(o.d, rows, 11, NULL, &library, &hook, again, &err), &err);
	EXPECT_EQ(0, memcmp(forced, again, vocab * sizeof(float)));
	free(own);
	free(forced);
	free(again);
	close_all(&o);
}

/* ---- the cache does not change bits ---- */

static void smallest_cache(const char *name)
{
	struct penstock_model_info info = { .size = sizeof(info) };
	struct penstock_stats stats = { .size = sizeof(stats) };
	int32_t out[NR_OUT], want[NR_OUT];
	struct decoder_experts plain, library;
	float *first, *last;
	struct opened o;

	open_model(&o, golden_model(name), 64 << 20);
	ASSERT_EQ(0, penstock_model_info(o.model, &info));
	close_all(&o);
	open_model(&o, golden_model(name), info.least_bytes);
	open_decoder(&o, MAX_POS, 1, 0);
	plain = decoder_plain_source(o.plain);
	library = library_source(&o);
	first = calloc(decoder_vocab(o.d), sizeof(float));
	last = calloc(decoder_vocab(o.d), sizeof(float));
	greedy(&o, &plain, NULL, prompts[0], lengths[0], want, NR_OUT, first);
	decoder_reset(o.d);
	greedy(&o, &library, NULL, prompts[0], lengths[0], out, NR_OUT, last);
	EXPECT_EQ(0, memcmp(want, out, sizeof(out)));
	EXPECT_EQ(0, memcmp(first, last, decoder_vocab(o.d) * sizeof(float)));
	ASSERT_EQ(0, penstock_stats(o.ctx, &stats));
	EXPECT_GT(stats.evictions, (uint64_t)0);
	EXPECT_GT(stats.experts_wanted, stats.experts_hit);
	free(first);
	free(last);
	close_all(&o);
}

TEST(smallest_cache_qwen3_moe) { smallest_cache("qwen3_moe"); }
TEST(smallest_cache_mixtral) { smallest_cache("mixtral"); }
TEST(smallest_cache_gguf_qwen3moe_split) { smallest_cache("gguf/qwen3moe_split"); }

TEST_HARNESS_MAIN
