// SPDX-License-Identifier: MIT
/* The decoder's pure parts: rotary frequencies, sampling, expert views. */
#include <math.h>

#include "harness.h"
#include "decoder/rope.h"
#include "decoder/sample.h"

/* Frequencies that transformers works out for the same parameters. */
struct sample_freq {
	uint32_t i;
	double freq;
};

static void expect_freqs(const struct decoder_rope_params *p, const struct sample_freq *f, size_t n, double scale)
{
	struct decoder_rope r = { 0 };
	struct penstock_error err = { 0 };
	size_t i;

	ASSERT_EQ(0, decoder_rope_create(p, &r, &err));
	for (i = 0; i < n; i++)
		if (fabs(r.inv_freq[f[i].i] - f[i].freq) > 1e-6 * f[i].freq)
			TEST_FAIL_(0, "frequency %u is %.9g, not %.9g", f[i].i, (double)r.inv_freq[f[i].i], f[i].freq);
	if (fabs(r.scale - scale) > 1e-6)
		TEST_FAIL_(0, "scale is %.9g, not %.9g", (double)r.scale, scale);
	decoder_rope_destroy(&r);
}

TEST(rope_yarn_without_rounding)
{
	struct decoder_rope_params p = {
		.type = DECODER_ROPE_YARN, .rot = 64, .theta = 150000, .factor = 32, .original = 4096,
		.extra_attention = 1, .beta_fast = 32, .beta_slow = 1,
	};
	struct sample_freq f[] = {
		{ 0, 1.0 }, { 5, 0.15532298386096954 }, { 10, 0.019334999844431877 }, { 15, 0.00105260219424963 },
		{ 20, 1.818833698052913e-05 }, { 31, 3.023511396804679e-07 },
	};

	expect_freqs(&p, f, 6, 1.3465735902799727);
}

TEST(rope_yarn_rounds_its_ramp_and_weighs_mscale)
{
	struct decoder_rope_params p = {
		.type = DECODER_ROPE_YARN, .rot = 64, .theta = 10000, .factor = 4, .original = 2048, .truncate = true,
		.extra_attention = 1, .beta_fast = 32, .beta_slow = 1, .mscale = 0.7, .mscale_all_dim = 0.5,
	};
	struct sample_freq f[] = {
		{ 0, 1.0 }, { 5, 0.23713736236095428 }, { 10, 0.049745574593544006 }, { 15, 0.00794983934611082 },
		{ 20, 0.0009730085730552673 }, { 31, 3.333803761051968e-05 },
	};

	expect_freqs(&p, f, 6, 1.0259286501478284);
}

TEST(rope_llama3_by_wavelength)
{
	struct decoder_rope_params p = {
		.type = DECODER_ROPE_LLAMA3, .rot = 128, .theta = 500000, .factor = 8, .original = 8192,
		.low_freq = 1, .high_freq = 4,
	};
	struct sample_freq f[] = {
		{ 0, 1.0 }, { 20, 0.016560440883040428 }, { 28, 0.0032114461064338684 }, { 31, 0.0008567514596506953 },
		{ 34, 0.0001785077911335975 }, { 40, 3.428102354519069e-05 }, { 63, 3.068925877869333e-07 },
	};

	expect_freqs(&p, f, 7, 1);
}

TEST(rope_linear_divides)
{
	struct decoder_rope_params p = { .type = DECODER_ROPE_LINEAR, .rot = 128, .theta = 500000, .factor = 4 };
	struct sample_freq f[] = { { 0, 0.25 }, { 20, 0.004140110220760107 }, { 63, 6.137851755738666e-07 } };

	expect_freqs(&p, f, 3, 1);
}

TEST(rope_angles_are_scaled)
{
	float inv[2] = { 1, 0.5 }, c[2], s[2];
	struct decoder_rope r = { .rot = 4, .scale = 2, .inv_freq = inv };

	decoder_rope_angles(&r, 3, c, s);
	EXPECT_LE(fabs(c[0] - 2 * cos(3)), 1e-6);
	EXPECT_LE(fabs(s[1] - 2 * sin(1.5)), 1e-6);
}

TEST(rope_refuses_nonsense)
{
	struct decoder_rope_params p = { .rot = 7, .theta = 10000, .factor = 1 };
	struct decoder_rope r = { 0 };
	struct penstock_error err = { 0 };

	EXPECT_EQ(-EINVAL, decoder_rope_create(&p, &r, &err));
	EXPECT_HAS(err.text, "7");
	p.rot = 8;
	p.factor = 0;
	EXPECT_EQ(-EINVAL, decoder_rope_create(&p, &r, &err));
	p.factor = 1;
	p.type = DECODER_ROPE_YARN;
	p.beta_fast = p.beta_slow = 1;
	EXPECT_EQ(-EINVAL, decoder_rope_create(&p, &r, &err));
	EXPECT_HAS(err.text, "original");
}

TEST(sample_greedy_takes_the_lower_of_equals)
{
	float logits[] = { -3, 2, 7, 7, 1 }, nan[] = { 0, NAN }, low[] = { -INFINITY, -INFINITY };
	struct decoder_sampler s;

	EXPECT_EQ(2, decoder_argmax(logits, 5));
	EXPECT_EQ(-EINVAL, decoder_argmax(nan, 2));
	EXPECT_EQ(-EINVAL, decoder_argmax(logits, 0));
	EXPECT_EQ(0, decoder_argmax(low, 2));
	decoder_sampler_seed(&s, 1, 0);
	EXPECT_EQ(2, decoder_sample(&s, logits, 5));
	decoder_sampler_seed(&s, 1, 1);
	EXPECT_EQ(-EINVAL, decoder_sample(&s, low, 2));
}

TEST(sample_generator_is_the_published_one)
{
	struct decoder_sampler s;

	/* splitmix64 from 0, then xoshiro256** on the state 1, 2, 3, 4 */
	decoder_sampler_seed(&s, 0, 1);
	EXPECT_TRUE(s.state[0] == 0xe220a8397b1dcdafu);
	EXPECT_TRUE(s.state[1] == 0x6e789e6aa1b965f4u);
	s = (struct decoder_sampler){ .state = { 1, 2, 3, 4 } };
	EXPECT_TRUE(decoder_sampler_next(&s) == 11520u);
	EXPECT_TRUE(decoder_sampler_next(&s) == 0u);
	EXPECT_TRUE(decoder_sampler_next(&s) == 1509978240u);
	EXPECT_TRUE(decoder_sampler_next(&s) == 1215971899390074240u);
}

TEST(sample_follows_the_probabilities)
{
	/* probabilities 1/8, 1/8, 1/4, 1/2, 0 at temperature 2 */
	float logits[] = { 0, 0, 2 * M_LN2, 4 * M_LN2, -INFINITY };
	double want[] = { 0.125, 0.125, 0.25, 0.5, 0 };
	int32_t first[16], i;
	int seen[5] = { 0 };
	struct decoder_sampler s;

	decoder_sampler_seed(&s, 7, 2);
	for (i = 0; i < 80000; i++) {
		int32_t id = decoder_sample(&s, logits, 5);

		ASSERT_TRUE(id >= 0 && id < 5);
		seen[id]++;
		if (i < 16)
			first[i] = id;
	}
	for (i = 0; i < 5; i++)
		EXPECT_LE(fabs(seen[i] / 80000.0 - want[i]), 0.01);
	decoder_sampler_seed(&s, 7, 2);
	for (i = 0; i < 16; i++)
		EXPECT_EQ(first[i], decoder_sample(&s, logits, 5));
}

TEST_HARNESS_MAIN
