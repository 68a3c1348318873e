# SPDX-License-Identifier: MIT
"""config.json of each golden: the published models' keys, with small numbers.

Old keys (rope_theta, rope_scaling) on purpose: that is what is published. The
goldens marked library_config in make_goldens.py have what the library of today
writes instead (rope_parameters).
"""

MIXTRAL = {
    "architectures": ["MixtralForCausalLM"], "model_type": "mixtral",
    "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 28, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 8, "num_experts_per_tok": 2,
    "vocab_size": 128, "max_position_embeddings": 512, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0,
    "sliding_window": None, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "bos_token_id": 1, "eos_token_id": 2,
}

QWEN3_MOE = {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe",
    "attention_bias": False, "decoder_sparse_step": 1, "head_dim": 24, "hidden_act": "silu", "hidden_size": 64,
    "intermediate_size": 96, "max_position_embeddings": 512, "max_window_layers": 2, "mlp_only_layers": [],
    "moe_intermediate_size": 20, "norm_topk_prob": True, "num_attention_heads": 4, "num_experts": 8,
    "num_experts_per_tok": 4, "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
    "rope_scaling": None, "rope_theta": 1000000.0, "sliding_window": None, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "use_sliding_window": False, "vocab_size": 128,
    "bos_token_id": 1, "eos_token_id": 2,
}

OLMOE = {
    "architectures": ["OlmoeForCausalLM"], "model_type": "olmoe",
    "attention_bias": False, "clip_qkv": None, "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 20,
    "max_position_embeddings": 512, "norm_topk_prob": False, "num_attention_heads": 4, "num_experts": 8,
    "num_experts_per_tok": 4, "num_hidden_layers": 2, "num_key_value_heads": 4, "rms_norm_eps": 1e-05,
    "rope_scaling": None, "rope_theta": 10000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "vocab_size": 128, "pad_token_id": 1, "eos_token_id": 2,
}

GPT_OSS = {
    "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss",
    "attention_bias": True, "attention_dropout": 0.0, "experts_per_token": 3, "head_dim": 16, "hidden_act": "silu",
    "hidden_size": 64, "initial_context_length": 64, "intermediate_size": 64,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "max_position_embeddings": 512, "num_attention_heads": 4, "num_experts_per_tok": 3, "num_hidden_layers": 3,
    "num_key_value_heads": 2, "num_local_experts": 6, "rms_norm_eps": 1e-05,
    "rope_scaling": {"beta_fast": 8.0, "beta_slow": 1.0, "factor": 8.0, "original_max_position_embeddings": 64,
                     "rope_type": "yarn", "truncate": False},
    "rope_theta": 150000.0, "sliding_window": 8, "swiglu_limit": 7.0, "tie_word_embeddings": False,
    "vocab_size": 128, "eos_token_id": 2, "pad_token_id": 1,
    "quantization_config": {"modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router",
                                                       "model.embed_tokens", "lm_head"], "quant_method": "mxfp4"},
}

GPT_OSS_BF16 = {**{k: v for k, v in GPT_OSS.items() if k != "quantization_config"},
                "intermediate_size": 36, "num_hidden_layers": 2, "num_local_experts": 5, "num_experts_per_tok": 3,
                "layer_types": ["sliding_attention", "full_attention"], "torch_dtype": "bfloat16"}

GLM4_MOE = {
    "architectures": ["Glm4MoeForCausalLM"], "model_type": "glm4_moe",
    "attention_bias": True, "attention_dropout": 0.0, "first_k_dense_replace": 1, "head_dim": 16, "hidden_act": "silu",
    "hidden_size": 64, "intermediate_size": 80, "max_position_embeddings": 512, "moe_intermediate_size": 32,
    "n_group": 1, "n_routed_experts": 6, "n_shared_experts": 1, "norm_topk_prob": True, "num_attention_heads": 4,
    "num_experts_per_tok": 3, "num_hidden_layers": 2, "num_key_value_heads": 2, "num_nextn_predict_layers": 0,
    "partial_rotary_factor": 0.5, "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 1000000,
    "routed_scaling_factor": 2.5, "tie_word_embeddings": False, "topk_group": 1, "torch_dtype": "bfloat16",
    "use_qk_norm": True, "vocab_size": 128, "eos_token_id": [2, 3], "pad_token_id": 1,
}

GLM4_MOE_AIR = {**GLM4_MOE, "num_hidden_layers": 2, "use_qk_norm": False, "routed_scaling_factor": 1.0,
                "n_routed_experts": 4, "num_experts_per_tok": 2}

LLAMA4 = {
    "architectures": ["Llama4ForConditionalGeneration"], "model_type": "llama4",
    "boi_token_index": 120, "eoi_token_index": 121, "image_token_index": 122, "tie_word_embeddings": False,
    "text_config": {
        "attention_bias": False, "attention_chunk_size": 8, "attn_scale": 0.3, "attn_temperature_tuning": True,
        "bos_token_id": 1, "eos_token_id": [2, 3], "floor_scale": 6, "head_dim": 16, "hidden_act": "silu",
        "hidden_size": 64, "interleave_moe_layer_step": 2, "intermediate_size": 36, "intermediate_size_mlp": 56,
        "max_position_embeddings": 512, "model_type": "llama4_text",
        "no_rope_layers": [1, 1, 1, 0], "num_attention_heads": 4, "num_experts_per_tok": 1,
        "num_hidden_layers": 4, "num_key_value_heads": 2, "num_local_experts": 4, "pad_token_id": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                         "original_max_position_embeddings": 64, "rope_type": "llama3"},
        "rope_theta": 500000.0, "torch_dtype": "bfloat16", "use_qk_norm": True, "vocab_size": 128,
    },
    "torch_dtype": "bfloat16",
    "vision_config": {
        "model_type": "llama4_vision_model", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 28, "patch_size": 14, "vision_output_dim": 16,
        "projector_input_dim": 16, "projector_output_dim": 16, "pixel_shuffle_ratio": 0.5, "rope_theta": 10000,
    },
}

LLAMA4_FP8 = {
    **LLAMA4,
    "text_config": {**LLAMA4["text_config"], "interleave_moe_layer_step": 1, "num_hidden_layers": 1,
                    "no_rope_layers": [1], "num_local_experts": 6, "intermediate_size": 40, "vocab_size": 64},
    "boi_token_index": 60, "eoi_token_index": 61, "image_token_index": 62,
    "quantization_config": {
        "config_groups": {"group_0": {
            "targets": ["Linear"],
            "weights": {"type": "float", "num_bits": 8, "strategy": "channel", "symmetric": True, "dynamic": False},
            "input_activations": {"type": "float", "num_bits": 8, "strategy": "token", "symmetric": True,
                                  "dynamic": True}}},
        "format": "float-quantized", "quant_method": "compressed-tensors", "quantization_status": "compressed"},
}

MLA = {"kv_lora_rank": 16, "q_lora_rank": 24, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8,
       "num_attention_heads": 2, "num_key_value_heads": 2, "attention_bias": False, "hidden_act": "silu",
       "max_position_embeddings": 512, "rms_norm_eps": 1e-06, "rope_theta": 10000, "rope_scaling": None,
       "tie_word_embeddings": False, "torch_dtype": "bfloat16", "vocab_size": 64, "bos_token_id": 0,
       "eos_token_id": 1}

DEEPSEEK_V2 = {
    "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2", **MLA,
    "first_k_dense_replace": 1, "hidden_size": 64, "intermediate_size": 48, "moe_intermediate_size": 16,
    "moe_layer_freq": 1, "n_group": 4, "n_routed_experts": 16, "n_shared_experts": 2, "norm_topk_prob": False,
    "num_experts_per_tok": 4, "num_hidden_layers": 2, "routed_scaling_factor": 16.0, "scoring_func": "softmax",
    "topk_group": 2, "topk_method": "group_limited_greedy",
}

DEEPSEEK_V3 = {
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", **MLA,
    "first_k_dense_replace": 1, "hidden_size": 64, "intermediate_size": 48, "moe_intermediate_size": 16,
    "moe_layer_freq": 1, "n_group": 4, "n_routed_experts": 16, "n_shared_experts": 1, "norm_topk_prob": True,
    "num_experts_per_tok": 5, "num_hidden_layers": 2, "num_nextn_predict_layers": 0, "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid", "topk_group": 2, "topk_method": "noaux_tc",
}

KIMI_K2 = {**DEEPSEEK_V3, "n_group": 1, "topk_group": 1, "n_routed_experts": 8, "num_experts_per_tok": 3,
           "routed_scaling_factor": 2.827}

DEEPSEEK_V3_FP8 = {
    **DEEPSEEK_V3, "first_k_dense_replace": 0, "num_hidden_layers": 1, "hidden_size": 132,
    "moe_intermediate_size": 132, "intermediate_size": 132, "n_group": 2, "topk_group": 1, "n_routed_experts": 4,
    "num_experts_per_tok": 2, "vocab_size": 32,
    "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
                            "weight_block_size": [128, 128]},
}

KIMI_K2_INT4 = {
    **KIMI_K2, "first_k_dense_replace": 0, "num_hidden_layers": 1, "moe_intermediate_size": 96,
    "n_routed_experts": 6,
    "quantization_config": {
        "config_groups": {"group_0": {
            "targets": ["Linear"], "input_activations": None,
            "weights": {"type": "int", "num_bits": 4, "strategy": "group", "group_size": 32, "symmetric": True}}},
        "format": "pack-quantized", "quant_method": "compressed-tensors", "quantization_status": "compressed",
        "ignore": ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*",
                   "re:.*mlp\\.(gate|up|gate_up|down)_proj.*"]},
}

ALL = {
    "mixtral": MIXTRAL, "qwen3_moe": QWEN3_MOE, "olmoe": OLMOE, "gpt_oss": GPT_OSS, "gpt_oss_bf16": GPT_OSS_BF16,
    "glm4_moe": GLM4_MOE, "glm4_moe_air": GLM4_MOE_AIR, "llama4": LLAMA4, "llama4_fp8": LLAMA4_FP8,
    "deepseek_v2": DEEPSEEK_V2, "deepseek_v3": DEEPSEEK_V3, "kimi_k2": KIMI_K2,
    "deepseek_v3_fp8": DEEPSEEK_V3_FP8, "kimi_k2_int4": KIMI_K2_INT4,
}
