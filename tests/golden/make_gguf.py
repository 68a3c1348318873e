# SPDX-License-Identifier: MIT
"""GGUF goldens: blocks of each type, and whole models by llama.cpp's names and layout.

The `gguf` library's quantisers and its own dequantisation are the oracle of the
blocks; for a whole model, transformers computes with the dequantised weights.
K types have no quantiser in the library: their blocks are random bits with
sensible scales, and their values are what the library reads in them.
"""
import os

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as T

import goldenlib as g

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "gguf")
K_TYPES = (T.Q4_K, T.Q5_K, T.Q6_K)


def f16_bytes(x):
    return np.asarray(x, dtype=np.float16).reshape(-1, 1).view(np.uint8)


def pack_scales(sc, mn):
    """Eight 6-bit scales and eight 6-bit minima in 12 bytes, as Q4_K and Q5_K keep them."""
    out = np.zeros((len(sc), 12), dtype=np.uint8)
    out[:, 0:4] = (sc[:, :4] & 63) | ((sc[:, 4:] >> 4) << 6)
    out[:, 4:8] = (mn[:, :4] & 63) | ((mn[:, 4:] >> 4) << 6)
    out[:, 8:12] = (sc[:, 4:] & 15) | ((mn[:, 4:] & 15) << 4)
    return out


def random_k(rng, rows, cols, qtype, std):
    """Bytes of random blocks [rows, bytes a row] whose values have about this deviation, mean 0."""
    n = rows * cols // 256
    if qtype == T.Q6_K:
        # value = d * scale * (q - 32): q uniform on 64 values deviates by 18.5, scale by about 70
        d = f16_bytes(std / (18.5 * 70) * rng.uniform(0.7, 1.3, n))
        scales = rng.integers(40, 110, (n, 16)) * rng.choice([-1, 1], (n, 16))
        q = rng.integers(0, 256, (n, 192), dtype=np.uint8)
        blocks = np.concatenate([q, scales.astype(np.int8).view(np.uint8), d], axis=1)
    else:
        top = 15 if qtype == T.Q4_K else 31
        # value = d * scale * q - dmin * min, with dmin * min about d * scale * top / 2
        d = std / (top / 3.46 * 40) * rng.uniform(0.7, 1.3, n)
        sc = rng.integers(17, 62, (n, 8)).astype(np.uint8)
        mn = np.clip(sc + rng.integers(-3, 4, (n, 8)), 0, 63).astype(np.uint8)
        parts = [f16_bytes(d), f16_bytes(d * top / 2), pack_scales(sc, mn)]
        if qtype == T.Q5_K:
            parts.append(rng.integers(0, 256, (n, 32), dtype=np.uint8))
        parts.append(rng.integers(0, 256, (n, 128), dtype=np.uint8))
        blocks = np.concatenate(parts, axis=1)
    return np.ascontiguousarray(blocks.reshape(rows, -1))


def block_goldens():
    """blocks/TYPE.bin and blocks/TYPE.f32: 2 rows of 512 values."""
    folder = os.path.join(HERE, "blocks")
    g.fresh(folder)
    rng = np.random.default_rng(7)
    for qtype in (T.F32, T.F16, T.BF16, T.Q8_0, T.Q4_0, T.Q5_0, T.Q4_K, T.Q5_K, T.Q6_K, T.MXFP4):
        x = (rng.standard_normal((2, 512)) * rng.choice([1e-3, 0.1, 1, 30], (2, 16)).repeat(32, 1)).astype(np.float32)
        x[0, :32] = 0
        if qtype in K_TYPES:
            data = random_k(rng, 2, 512, qtype, 0.5)
            data[1, :64] = rng.integers(0, 120, 64, dtype=np.uint8)    # all bit patterns of scales, no NaN
        else:
            data = gguf.quants.quantize(x, qtype)
        if qtype == T.MXFP4:
            data = data.reshape(-1, 17).copy()
            data[1:5, 0] = (0, 1, 2, 200)    # scales at the ends of their range
            data[1:5, 1:] = rng.integers(0, 256, (4, 16), dtype=np.uint8)
            data = data.reshape(2, -1)
        value = gguf.quants.dequantize(data.copy(), qtype).astype("<f4").reshape(2, 512)
        if not np.isfinite(value).all():
            raise RuntimeError(f"{qtype.name}: not finite")
        data.tofile(os.path.join(folder, f"{qtype.name}.bin"))
        value.tofile(os.path.join(folder, f"{qtype.name}.f32"))


def permute(w, heads):
    """llama.cpp's order of q and k rows for arch llama: rotation pairs lie side by side."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(w.shape)


def unpermute(w, heads):
    return w.reshape(heads, w.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(w.shape)


class Converter:
    """Takes the tensors of a model one by one: quantises, records, writes the values back into the model."""

    def __init__(self, model, arch, types, seed, fused):
        self.model, self.types, self.fused = model, types, fused
        self.config = g.text_config(model.config)
        self.map = gguf.get_tensor_name_map(arch, self.config.num_hidden_layers)
        self.rng = np.random.default_rng(seed)
        self.out = []

    def qtype(self, name, ndim):
        """llama.cpp keeps vectors, biases and routers in float32."""
        if ndim == 1 or name.endswith(".bias") or "ffn_gate_inp" in name:
            return T.F32
        for part, qtype in self.types:
            if part in name:
                return qtype
        return T.BF16

    def put(self, hf_name, w):
        """w: float32 in GGUF's row order. Returns the values that are stored."""
        name = self.map.get_name(hf_name, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise RuntimeError(f"no GGUF name for {hf_name}")
        return self.put_as(name, w)

    def put_as(self, name, w):
        qtype = self.qtype(name, w.ndim)
        w = np.ascontiguousarray(w, dtype=np.float32)
        if qtype in K_TYPES:
            rows = w.size // w.shape[-1]
            data = random_k(self.rng, rows, w.shape[-1], qtype, w.std()).reshape(*w.shape[:-1], -1)
        else:
            data = gguf.quants.quantize(w, qtype)
        self.out.append((name, data, qtype))
        return np.array(gguf.quants.dequantize(data.copy(), qtype), dtype=np.float32).reshape(w.shape)

    def experts(self, layer, prefix, mod):
        """Fused in memory, apart in the file (unless self.fused): gate, up, down [E, out, in]."""
        oss = self.config.model_type == "gpt_oss"
        llama4 = self.config.model_type == "llama4_text"
        gate_up, down = mod.gate_up_proj.data, mod.down_proj.data
        if oss:
            parts = [gate_up[..., 0::2].transpose(1, 2), gate_up[..., 1::2].transpose(1, 2), down.transpose(1, 2)]
        elif llama4:
            parts = [p.transpose(1, 2) for p in (*gate_up.chunk(2, 2), down)]
        else:
            parts = [*gate_up.chunk(2, 1), down]
        if self.fused:
            # gate rows first, as in memory; not every architecture of the library lists the name
            gate_up.copy_(torch.from_numpy(self.put_as(f"blk.{layer}.ffn_gate_up_exps.weight", gate_up.numpy())))
            down.copy_(torch.from_numpy(self.put(f"{prefix}down_proj.weight", down.numpy())))
            return
        mixtral = self.config.model_type == "mixtral"
        names = ("w1", "w3", "w2") if mixtral else ("gate_proj", "up_proj", "down_proj")
        vals = [torch.from_numpy(self.put(f"{prefix}{n}.weight", p.numpy())) for n, p in zip(names, parts)]
        if oss:
            gate_up[..., 0::2] = vals[0].transpose(1, 2)
            gate_up[..., 1::2] = vals[1].transpose(1, 2)
            down.copy_(vals[2].transpose(1, 2))
            bias = mod.gate_up_proj_bias.data
            self.put(f"{prefix}gate_proj.bias", bias[:, 0::2].numpy())
            self.put(f"{prefix}up_proj.bias", bias[:, 1::2].numpy())
            self.put(f"{prefix}down_proj.bias", mod.down_proj_bias.data.numpy())
        elif llama4:
            gate_up.copy_(torch.cat(vals[:2], 1).transpose(1, 2))
            down.copy_(vals[2].transpose(1, 2))
        else:
            gate_up.copy_(torch.cat(vals[:2], 1))
            down.copy_(vals[2])

    def kv_b(self, name, p):
        """DeepSeek: llama.cpp keeps the two halves of kv_b apart, the first transposed. Not computed here."""
        c = self.config
        w = p.data.view(c.num_attention_heads, c.qk_nope_head_dim + c.v_head_dim, c.kv_lora_rank)
        k, v = w.split([c.qk_nope_head_dim, c.v_head_dim], dim=1)
        self.put(name.replace("kv_b_proj", "k_b_proj"), k.transpose(1, 2).numpy())
        self.put(name.replace("kv_b_proj", "v_b_proj"), v.numpy())

    def convert(self):
        heads = {"q_proj": self.config.num_attention_heads, "k_proj": self.config.num_key_value_heads}
        llama = self.config.model_type == "mixtral"
        feed_forward = ".feed_forward." if self.config.model_type == "llama4_text" else ".mlp."
        buffers = [(n, b) for n, b in self.model.named_buffers() if "e_score_correction_bias" in n]
        for name, p in list(self.model.named_parameters()) + buffers:
            if ".experts." in name:
                continue
            if "kv_b_proj" in name:
                self.kv_b(name, p)
                continue
            n = heads.get(name.split(".")[-2], 0) if llama else 0
            hf = name.replace(".mlp.", ".block_sparse_moe.") if llama else name
            if name.endswith("sinks"):
                hf += ".weight"
            hf = hf.replace("e_score_correction_bias", "e_score_correction.bias")
            w = p.data.numpy()
            w = self.put(hf, permute(w, n) if n else w)
            p.data.copy_(torch.from_numpy(unpermute(w, n) if n else w))
        for i, (block, _) in g.moe_blocks(self.model).items():
            prefix = f"layers.{i}.feed_forward.experts." if llama else f"model.layers.{i}{feed_forward}experts."
            self.experts(i, prefix, block.experts)
        return self.out


def write_model(folder, arch_name, config, tensors, extra, split):
    w = gguf.GGUFWriter(os.path.join(folder, "model.gguf"), arch_name, split_max_tensors=split)
    w.add_name("golden")
    w.add_block_count(config.num_hidden_layers)
    w.add_context_length(config.max_position_embeddings)
    w.add_embedding_length(config.hidden_size)
    w.add_feed_forward_length(getattr(config, "intermediate_size_mlp", config.intermediate_size))
    w.add_head_count(config.num_attention_heads)
    w.add_head_count_kv(config.num_key_value_heads)
    w.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    w.add_layer_norm_rms_eps(config.rms_norm_eps)
    w.add_expert_count(next(getattr(config, k) for k in ("n_routed_experts", "num_experts", "num_local_experts")
                            if getattr(config, k, None)))
    w.add_expert_used_count(config.num_experts_per_tok)
    extra(w, config)
    w.add_vocab_size(config.vocab_size)
    w.add_tokenizer_model("gpt2")
    w.add_token_list([f"t{i}" for i in range(config.vocab_size)])
    w.add_quantization_version(2)
    for name, data, qtype in tensors:
        w.add_tensor(name, data, raw_dtype=qtype)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def qwen_keys(w, c):
    w.add_key_length(c.head_dim)
    w.add_value_length(c.head_dim)
    w.add_expert_feed_forward_length(c.moe_intermediate_size)


def llama_keys(w, c):
    w.add_rope_dimension_count(c.hidden_size // c.num_attention_heads)


def oss_keys(w, c):
    w.add_key_length(c.head_dim)
    w.add_value_length(c.head_dim)
    w.add_sliding_window(c.sliding_window)
    w.add_expert_feed_forward_length(c.intermediate_size)
    w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    w.add_rope_scaling_factor(c.rope_parameters["factor"])
    w.add_rope_scaling_orig_ctx_len(c.rope_parameters["original_max_position_embeddings"])


def olmoe_keys(w, c):
    pass


def sigmoid_keys(w, c):
    w.add_expert_feed_forward_length(c.moe_intermediate_size)
    w.add_expert_shared_count(c.n_shared_experts)
    w.add_leading_dense_block_count(c.first_k_dense_replace)
    w.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    w.add_expert_weights_scale(c.routed_scaling_factor)
    w.add_expert_weights_norm(c.norm_topk_prob)


def glm_keys(w, c):
    sigmoid_keys(w, c)
    w.add_key_length(c.head_dim)
    w.add_value_length(c.head_dim)
    w.add_rope_dimension_count(int(c.head_dim * c.rope_parameters["partial_rotary_factor"]))


def deepseek_keys(w, c):
    sigmoid_keys(w, c)
    w.add_expert_group_count(c.n_group)
    w.add_expert_group_used_count(c.topk_group)
    w.add_q_lora_rank(c.q_lora_rank)
    w.add_kv_lora_rank(c.kv_lora_rank)
    w.add_key_length(c.kv_lora_rank + c.qk_rope_head_dim)
    w.add_value_length(c.kv_lora_rank)
    w.add_key_length_mla(c.qk_nope_head_dim + c.qk_rope_head_dim)
    w.add_value_length_mla(c.v_head_dim)
    w.add_rope_dimension_count(c.qk_rope_head_dim)


def llama4_keys(w, c):
    w.add_key_length(c.head_dim)
    w.add_value_length(c.head_dim)
    w.add_rope_dimension_count(c.head_dim)
    w.add_interleave_moe_layer_step(c.interleave_moe_layer_step)
    w.add_expert_feed_forward_length(c.intermediate_size)


def llama3_factors(c):
    """What llama.cpp divides the rotary frequencies by."""
    r = c.rope_parameters
    inv = 1.0 / r["rope_theta"] ** (np.arange(0, c.head_dim, 2) / c.head_dim)
    turns = r["original_max_position_embeddings"] * inv / (2 * np.pi)
    smooth = np.clip((turns - r["low_freq_factor"]) / (r["high_freq_factor"] - r["low_freq_factor"]), 0, 1)
    return (1 / ((1 - smooth) / r["factor"] + smooth)).astype(np.float32)


def whole(name, arch, config_json, types, extra, gains=None, split=0, opened="model.gguf", decoded=True, check=None,
          fused=False):
    folder = os.path.join(HERE, name)

    def make(seed):
        g.fresh(folder)
        model = g.build(folder, config_json, seed, gains)
        text = g.text_model(model)
        tensors = Converter(text, arch, types, seed, fused).convert()
        if arch == gguf.MODEL_ARCH.LLAMA4:
            tensors.append(("rope_freqs.weight", llama3_factors(text.config), T.F32))
        lines, files = g.reference(text, seed, decoded, opened)
        if check:
            check(text, files["moe_in.f32"])
        os.remove(os.path.join(folder, "config.json"))
        write_model(folder, gguf.MODEL_ARCH_NAMES[arch], g.text_config(model.config), tensors, extra, split)
        lines[0] = ("arch", gguf.MODEL_ARCH_NAMES[arch])
        g.write_expected(folder, lines, files)

    g.first_seed(make, "gguf/" + name)


def main():
    import configs
    block_goldens()
    qwen = {**configs.QWEN3_MOE, "num_experts": 5, "num_experts_per_tok": 3, "vocab_size": 64,
            "moe_intermediate_size": 32, "head_dim": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
    whole("qwen3moe_split", gguf.MODEL_ARCH.QWEN3MOE, qwen,
          [("blk.0.ffn_gate_exps", T.Q4_0), ("blk.0.ffn_up_exps", T.Q5_0), ("blk.0.ffn_down_exps", T.Q8_0),
           ("blk.1.ffn_gate_exps", T.Q8_0), ("blk.1.ffn_up_exps", T.BF16), ("blk.1.ffn_down_exps", T.F16),
           ("blk.0.attn", T.F16), ("blk.1.attn_q", T.Q4_0), ("blk.1.attn_k", T.F32), ("blk.1.attn_v", T.Q5_0),
           ("token_embd", T.F16), ("output", T.Q8_0)],
          qwen_keys, split=10, opened="model-00002-of-00003.gguf")
    mixtral = {**configs.MIXTRAL, "intermediate_size": 32, "num_local_experts": 5, "vocab_size": 64}
    whole("mixtral", gguf.MODEL_ARCH.LLAMA, mixtral,
          [("exps", T.Q4_0), ("attn", T.Q8_0), ("token_embd", T.Q8_0), ("output", T.Q8_0)], llama_keys)
    # llama.cpp rounds yarn's correction range to whole dimensions, and takes betas of 32 and 1 where the file has none
    oss = {**configs.GPT_OSS_BF16, "intermediate_size": 64, "num_local_experts": 4, "num_experts_per_tok": 2,
           "vocab_size": 64, "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
                            "original_max_position_embeddings": 4096, "truncate": True}}
    whole("gpt_oss", gguf.MODEL_ARCH.GPT_OSS, oss,
          [("exps", T.MXFP4), ("attn", T.Q8_0), ("token_embd", T.Q8_0), ("output", T.Q8_0)], oss_keys,
          gains={"experts": 3.0})
    k = {**qwen, "hidden_size": 256, "num_hidden_layers": 1, "num_experts": 5, "num_experts_per_tok": 2}
    whole("qwen3moe_k", gguf.MODEL_ARCH.QWEN3MOE, k,
          [("ffn_gate_exps", T.Q4_K), ("ffn_up_exps", T.Q5_K), ("ffn_down_exps", T.Q5_0), ("attn_v", T.Q6_K),
           ("attn_output", T.Q5_0), ("attn_k", T.Q5_K), ("attn_q", T.Q4_K), ("token_embd", T.Q4_K), ("output", T.Q6_K)],
          qwen_keys)
    small = {"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 64}
    olmoe = {**configs.OLMOE, "vocab_size": 64, "num_experts": 5, "num_experts_per_tok": 2, "intermediate_size": 32,
             "num_attention_heads": 2, "num_key_value_heads": 2}
    q4 = [("exps", T.Q4_0), ("attn", T.Q8_0), ("ffn", T.Q5_0), ("token_embd", T.Q8_0), ("output", T.Q8_0)]
    whole("olmoe", gguf.MODEL_ARCH.OLMOE, olmoe, q4, olmoe_keys)
    glm = {**configs.GLM4_MOE, **small, "n_routed_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 64}
    whole("glm4moe", gguf.MODEL_ARCH.GLM4_MOE, glm, q4, glm_keys, fused=True)
    # llama.cpp has chunks of 8192 and no temperature before that; every fourth layer has no rope
    text = {**configs.LLAMA4["text_config"], **small, "num_local_experts": 3, "intermediate_size": 32,
            "intermediate_size_mlp": 64, "attention_chunk_size": 8192, "floor_scale": 8192, "attn_scale": 0.1}
    whole("llama4", gguf.MODEL_ARCH.LLAMA4, {**configs.LLAMA4, "text_config": text}, q4, llama4_keys)
    deepseek = {**configs.DEEPSEEK_V3, "first_k_dense_replace": 0, "num_hidden_layers": 1, "n_routed_experts": 8,
                "num_experts_per_tok": 3, "n_group": 4, "moe_intermediate_size": 32, "vocab_size": 32}
    whole("deepseek2", gguf.MODEL_ARCH.DEEPSEEK2, deepseek, [("exps", T.Q4_0), ("shexp", T.Q8_0)], deepseek_keys,
          decoded=False, check=g.need_inf_mask)


if __name__ == "__main__":
    main()
