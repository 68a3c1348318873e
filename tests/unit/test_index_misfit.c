// SPDX-License-Identifier: MIT
/* Checkpoints whose tensors and configuration do not fit, are unknown, or are not there. */
#include "index_layers.h"

/* A type that is new, but of known size, streams as bytes. */
TEST(unknown_types_are_described)
{
	struct penstock_index *ix;
	struct st_file f = { 0 };
	uint32_t e, p;
	char dir[256], name[128];

	tmp_make(dir);
	for (e = 0; e < 2; e++) {
		for (p = 0; p < 3; p++) {
			snprintf(name, sizeof(name), "model.layers.0.mlp.experts.%u.%s.weight", e, llama[p]);
			st_add_sized(&f, name, "F12", p == 2 ? DIMS(H, I) : DIMS(I, H), H * I * 12 / 8);
		}
	}
	ST(&f, "model.layers.0.mlp.gate.weight", "BF16", 2, H);
	ix = finish(dir, &f, "{\"model_type\": \"qwen3_moe\", \"num_hidden_layers\": 1, \"hidden_size\": 64,"
		    "\"moe_intermediate_size\": 32, \"num_experts\": 2, \"num_experts_per_tok\": 1}");
	expect_part(ix, 0, 0, PART(GATE, WEIGHT, NONE, NONE, I, H, H * 12 / 8, 0, 0, 0, H * I * 12 / 8));
	penstock_index_close(ix);
	tmp_remove(dir);
}

TEST(without_experts_layers_are_dense)
{
	struct penstock_index *ix;
	struct st_file f = { 0 };
	char dir[256];

	tmp_make(dir);
	ST(&f, "model.layers.0.self_attn.q_proj.weight", "BF16", H, H);
	ix = finish(dir, &f, MIXTRAL_CONF);
	EXPECT_EQ(2u, ix->nr_layers);
	layer(ix, 0, PENSTOCK_LAYER_DENSE);
	penstock_index_close(ix);
	ST(&f, "model.layers.0.self_attn.q_proj.weight", "BF16", H, H);
	ix = finish(dir, &f, "{\"model_type\": \"llama\", \"num_hidden_layers\": 2}");
	EXPECT_EQ((int)PENSTOCK_FAMILY_NONE, (int)ix->family);
	EXPECT_STREQ("llama", ix->arch);
	penstock_index_close(ix);
	tmp_remove(dir);
}

/* Replace in the Mixtral file one tensor by what @change adds. */
TEST(what_does_not_fit_is_refused)
{
	static const struct {
		const char *drop;	/* tensors with this in their name are left out */
		const char *dtype;	/* and this one of this type and shape comes instead */
		long dims[3];
		const char *text;
	} cases[] = {
		{ "1.block_sparse_moe.experts.1.w3", NULL, { 0 }, "layer 1, expert 1" },
		{ "1.block_sparse_moe.experts.1.w3", "BF16", { I, H + 1, -1 },
		  "has shape [32, 65], its configuration says [32, 64]" },
		{ "1.block_sparse_moe.experts.1.w3", "BF16", { H, I, -1 }, "its configuration says [32, 64]" },
		{ "1.block_sparse_moe.experts.1.w3", "BF16", { I * H, -1 }, "its configuration says [32, 64]" },
		{ "1.block_sparse_moe.experts.1.w3", "F16", { I, H, -1 }, "one layer, one type" },
		{ ".w2.", NULL, { 0 }, "have no down weights" },
		{ "1.block_sparse_moe.gate", NULL, { 0 }, "no router" },
		{ "1.block_sparse_moe.gate", "BF16", { 4, H, -1 }, "its configuration says [3, 64]" },
		{ "layers.0.", NULL, { 0 }, "layer 0 has no experts" },
	};
	struct st_file f = { 0 }, all = { 0 };
	uint32_t e, p, l;
	char dir[256], name[128];
	size_t i;

	tmp_make(dir);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		printf("# %zu: %s\n", i, cases[i].text);
		for (l = 0; l < 2; l++) {
			for (e = 0; e < 4; e++) {
				for (p = 0; p < 3; p++) {
					if (e == 3 && p)
						continue;
					if (e < 3)
						snprintf(name, sizeof(name),
							 "model.layers.%u.block_sparse_moe.experts.%u.%s.weight", l, e,
							 mixtral[p]);
					else
						snprintf(name, sizeof(name),
							 "model.layers.%u.block_sparse_moe.gate.weight", l);
					if (!strstr(name, cases[i].drop))
						st_add(&f, name, "BF16",
						       e == 3	? DIMS(3, H)
						       : p == 2 ? DIMS(H, I)
								: DIMS(I, H));
					else if (cases[i].dtype)
						st_add(&f, name, cases[i].dtype, cases[i].dims);
				}
			}
		}
		refused(dir, &f, MIXTRAL_CONF, -EBADMSG, cases[i].text);
	}
	mixtral_file(&all);
	ST(&all, "model.layers.1.block_sparse_moe.experts.3.w1.weight", "BF16", I, H);
	refused(dir, &all, MIXTRAL_CONF, -EBADMSG, "expert 3 of 3");
	mixtral_file(&all);
	ST(&all, "model.layers.4000000.block_sparse_moe.experts.0.w1.weight", "BF16", I, H);
	refused(dir, &all, MIXTRAL_CONF, -EBADMSG, "layer 4000000 of 2");
	mixtral_file(&all);
	ST(&all, "model.layers.1.block_sparse_moe.experts.0.w1.weight_zero_point", "BF16", I, H);
	refused(dir, &all, MIXTRAL_CONF, -EOPNOTSUPP, "zero points");
	tmp_remove(dir);
}

/* FP8 with the scales of one matrix gone; int4 without any; a shared expert's scales of another shape. */
TEST(scales_are_all_there)
{
	static const char v3[] = "{\"model_type\": \"deepseek_v3\", \"num_hidden_layers\": 1, \"hidden_size\": 64,"
		"\"moe_intermediate_size\": 32, \"n_routed_experts\": 2, \"num_experts_per_tok\": 1, \"n_group\": 1,"
		"\"topk_group\": 1, \"first_k_dense_replace\": 0, \"n_shared_experts\": 1}";
	struct st_file f = { 0 };
	uint32_t e, p, what;
	char dir[256];

	tmp_make(dir);
	for (what = 0; what < 5; what++) {
		if (what == 3) {
			for (e = 0; e < 2; e++)
				for (p = 0; p < 3; p++)
					STF(&f, "I32", p == 2 ? DIMS(H, I / 8) : DIMS(I, H / 8),
					    "model.layers.0.mlp.experts.%u.%s.weight_packed", e, llama[p]);
		} else {
			experts(&f, "model.layers.0.mlp.", 2, llama, "F8_E4M3");
		}
		for (e = 0; e < 2 && what != 3; e++)
			for (p = 0; p < 3; p++)
				if (what == 0 || what == 4 || (what == 1 && p != 1) || (what == 2 && (p || e)))
					STF(&f, "F32", DIMS(1, 1), "model.layers.0.mlp.experts.%u.%s.weight_scale_inv", e,
					    llama[p]);
		ST(&f, "model.layers.0.mlp.gate.weight", "BF16", 2, H);
		ST(&f, "model.layers.0.mlp.gate.e_score_correction_bias", "F32", 2);
		shared(&f, "model.layers.0.mlp.shared_experts.", I);
		ST(&f, "model.layers.0.mlp.shared_experts.up_proj.weight_scale_inv", "F32", 1, what == 4 ? 2 : 1);
		if (what == 0)
			penstock_index_close(finish(dir, &f, v3));
		else
			refused(dir, &f, v3, -EBADMSG, what == 1 ? "such as of model.layers.0.mlp.experts.0.up_proj.weight" :
				what == 2 ? "expert 0: a tensor like" : what == 3 ? "scales of some INT4 weights" :
				"has shape [1, 2], its configuration says [1, 1]");
	}
	tmp_remove(dir);
}

/* A valid file is listed whatever its configuration says. */
TEST(tables_alone_know_no_configuration)
{
	struct penstock_error err = { 0 };
	struct penstock_index *ix;
	struct st_file f = { 0 };
	char dir[256];

	tmp_make(dir);
	mixtral_file(&f);
	refused(dir, &f, "{\"model_type\": \"mixtral\", \"hidden_size\": 1}", -EBADMSG, "its configuration says");
	ASSERT_EQ(0, penstock_index_open_tables(dir, &ix, &err));
	EXPECT_EQ(21u, ix->nr_tensors);
	EXPECT_EQ(0u, ix->nr_layers);
	EXPECT_EQ(0u, ix->nr_meta);
	penstock_index_close(ix);
	st_raw(path_in(dir, "model.safetensors"), "{}", 1);
	EXPECT_EQ(-EBADMSG, penstock_index_open_tables(dir, &ix, &err));
	tmp_remove(dir);
}

TEST(impossible_configurations_are_refused)
{
	static const struct {
		const char *config;
		int code;
		const char *text;
	} cases[] = {
		{ "{\"model_type\": \"mixtral\", \"num_hidden_layers\": 0}", -EBADMSG, "number of layers" },
		{ "{\"model_type\": \"mixtral\", \"num_hidden_layers\": 1e9}", -EBADMSG, "number of layers" },
		{ "{\"model_type\": \"mixtral\", \"num_hidden_layers\": -1}", -EBADMSG,
		  "num_hidden_layers is no count" },
		{ "{\"model_type\": \"mixtral\", \"num_hidden_layers\": 1.5}", -EBADMSG,
		  "num_hidden_layers is no count" },
		{ "{\"model_type\": \"mixtral\", \"num_hidden_layers\": \"2\"}", -EBADMSG,
		  "num_hidden_layers is no count" },
		{ "{\"model_type\": \"mixtral\", \"num_local_experts\": 1e30}", -EBADMSG,
		  "num_local_experts is no count" },
		{ "{\"model_type\": \"mixtral\", \"num_local_experts\": 0}", -EBADMSG, "number of experts" },
		{ "{\"model_type\": \"mixtral\", \"num_experts_per_tok\": 9}", -EBADMSG, "experts a token" },
		{ "{\"model_type\": \"mixtral\", \"hidden_size\": 0}", -EBADMSG, "width" },
		{ "{\"model_type\": \"mixtral\", \"hidden_act\": \"gelu\"}", -EOPNOTSUPP, "gelu" },
		{ "{\"model_type\": \"deepseek_v2\"}", -EBADMSG, "experts a token" },
		{ "{\"model_type\": \"deepseek_v3\", \"n_group\": 7}", -EBADMSG, "grouping" },
		{ "{\"model_type\": \"deepseek_v3\", \"topk_group\": 9}", -EBADMSG, "grouping" },
		{ "{\"model_type\": \"deepseek_v3\", \"n_group\": 256, \"topk_group\": 4}", -EBADMSG, "grouping" },
		{ "{\"model_type\": \"deepseek_v3\", \"quantization_config\": {\"weight_block_size\": [0, 128]}}",
		  -EBADMSG,
		  "weight_block_size" },
		{ "{\"model_type\": \"deepseek_v3\", \"quantization_config\": {\"weight_block_size\": [128]}}", -EBADMSG,
		  "weight_block_size" },
	};
	struct st_file f = { 0 };
	char dir[256];
	size_t i;

	tmp_make(dir);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		printf("# %s\n", cases[i].config);
		ST(&f, "x", "F32", 1);
		refused(dir, &f, cases[i].config, cases[i].code, cases[i].text);
	}
	tmp_remove(dir);
}

TEST_HARNESS_MAIN
