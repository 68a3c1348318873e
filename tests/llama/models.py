#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Small mixture-of-experts GGUFs with random weights and a tokenizer, for llama.cpp.

models.py LLAMA FOLDER: with LLAMA/bin's own tools, makes in FOLDER one model of each kind
that differs for the backend, in several quantisations, one of them split into files, and
prints their paths, one a line. Seconds each; what is there already is left alone.

Needs nothing but Python. The weights are normally distributed, with 256 values, so that
greedy decoding goes on through different tokens and a wrong expert shows at once.
"""
import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile

U32, F32, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9
TYPE_F32, TYPE_F16 = 0, 1
EMBD, FF, LAYERS, EXPERTS, USED, VOCAB = 256, 256, 3, 16, 4, 640
HEADS, KV_HEADS, HEAD = 4, 2, 64


def text(s):
    raw = s.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(v):
    if isinstance(v, bool):
        return BOOL, struct.pack("<B", v)
    if isinstance(v, int):
        return U32, struct.pack("<I", v)
    if isinstance(v, float):
        return F32, struct.pack("<f", v)
    if isinstance(v, str):
        return STRING, text(v)
    kind = value(v[0])[0]
    if kind == U32:
        kind = 5  # token types are INT32
    return ARRAY, struct.pack("<IQ", kind, len(v)) + b"".join(value(x)[1] for x in v)


class Gguf:
    """What is to be written: keys, and tensors as (name, ggml's dimensions, type, bytes)."""

    def __init__(self, arch, seed):
        self.arch = arch
        self.random = random.Random(seed)
        self.keys = {"general.architecture": arch, "general.name": f"{arch} with random weights"}
        self.tensors = []
        normal = statistics.NormalDist()
        self.levels = [normal.inv_cdf((i + 0.5) / 256) for i in range(256)]

    def key(self, **keys):
        for name, v in keys.items():
            self.keys[f"{self.arch}.{name.replace('__', '.')}"] = v

    def matrix(self, name, *dims, gain=1.0):
        """F16, each row of unit length times gain."""
        scale = gain / dims[0] ** 0.5
        table = [struct.pack("<e", x * scale) for x in self.levels]
        count = 1
        for d in dims:
            count *= d
        raw = b"".join(map(table.__getitem__, self.random.randbytes(count)))
        self.tensors.append((name, dims, TYPE_F16, raw))

    def vector(self, name, *dims, mean=0.0, gain=0.0):
        """F32, normally distributed."""
        count = 1
        for d in dims:
            count *= d
        raw = struct.pack(f"<{count}f", *(mean + gain * self.levels[b] for b in self.random.randbytes(count)))
        self.tensors.append((name, dims, TYPE_F32, raw))

    def vocabulary(self):
        """SentencePiece's kind: three special tokens, each byte, syllables."""
        tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
        types = [2, 3, 3] + [6] * 256
        syllables = [space + a + b for space in ("", "\u2581") for a in "bdfghklmnprstvz" for b in "aeiouy"]
        singles = ["\u2581"] + [chr(c) for c in range(ord("a"), ord("z") + 1)]
        for word in singles + syllables + [f"\u2581w{i}" for i in range(VOCAB)]:
            if len(tokens) < VOCAB:
                tokens.append(word)
                types.append(1)
        self.keys.update({
            "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.scores": [-float(i) for i in range(VOCAB)], "tokenizer.ggml.token_type": types,
            "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2,
            "tokenizer.ggml.unknown_token_id": 0})

    def write(self, path):
        out = [b"GGUF", struct.pack("<IQQ", 3, len(self.tensors), len(self.keys))]
        for name, v in self.keys.items():
            kind, raw = value(v)
            out.append(text(name) + struct.pack("<I", kind) + raw)
        offset = 0
        for name, dims, kind, raw in self.tensors:
            out.append(text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset))
            offset += -(-len(raw) // 32) * 32
        head = b"".join(out)
        with open(path, "wb") as f:
            f.write(head + bytes(-len(head) % 32))
            for _, _, _, raw in self.tensors:
                f.write(raw + bytes(-len(raw) % 32))


def common(g):
    g.vocabulary()
    g.key(block_count=LAYERS, context_length=2048, embedding_length=EMBD, feed_forward_length=2 * FF,
          expert_feed_forward_length=FF, attention__head_count=HEADS, attention__head_count_kv=KV_HEADS,
          attention__key_length=HEAD, attention__value_length=HEAD, expert_count=EXPERTS, expert_used_count=USED,
          attention__layer_norm_rms_epsilon=1e-6, rope__freq_base=10000.0, rope__dimension_count=HEAD)
    g.matrix("token_embd.weight", EMBD, VOCAB, gain=EMBD ** 0.5)
    g.matrix("output.weight", EMBD, VOCAB, gain=4.0)
    g.vector("output_norm.weight", EMBD, mean=1.0)


def attention(g, p, bias=False):
    g.vector(p + "attn_norm.weight", EMBD, mean=1.0)
    for name, rows in ("attn_q", HEADS * HEAD), ("attn_k", KV_HEADS * HEAD), ("attn_v", KV_HEADS * HEAD):
        g.matrix(p + name + ".weight", EMBD, rows)
        if bias:
            g.vector(p + name + ".bias", rows, gain=0.1)
    g.matrix(p + "attn_output.weight", HEADS * HEAD, EMBD)
    if bias:
        g.vector(p + "attn_output.bias", EMBD, gain=0.1)


def experts(g, p, fused=False, bias=False):
    g.matrix(p + "ffn_gate_inp.weight", EMBD, EXPERTS, gain=2.0)
    if fused:
        g.matrix(p + "ffn_gate_up_exps.weight", EMBD, 2 * FF, EXPERTS)
    else:
        g.matrix(p + "ffn_gate_exps.weight", EMBD, FF, EXPERTS)
        g.matrix(p + "ffn_up_exps.weight", EMBD, FF, EXPERTS)
    g.matrix(p + "ffn_down_exps.weight", FF, EMBD, EXPERTS, gain=2.0)
    if bias:
        g.vector(p + "ffn_gate_inp.bias", EXPERTS, gain=0.1)
        g.vector(p + "ffn_gate_exps.bias", FF, EXPERTS, gain=0.2)
        g.vector(p + "ffn_up_exps.bias", FF, EXPERTS, gain=0.2)
        g.vector(p + "ffn_down_exps.bias", EMBD, EXPERTS, gain=0.2)


def dense(g, p, suffix, ff):
    g.matrix(p + f"ffn_gate{suffix}.weight", EMBD, ff)
    g.matrix(p + f"ffn_up{suffix}.weight", EMBD, ff)
    g.matrix(p + f"ffn_down{suffix}.weight", ff, EMBD)


def qwen3moe():
    g = Gguf("qwen3moe", 1)
    common(g)
    for i in range(LAYERS):
        p = f"blk.{i}."
        attention(g, p)
        g.vector(p + "attn_q_norm.weight", HEAD, mean=1.0)
        g.vector(p + "attn_k_norm.weight", HEAD, mean=1.0)
        g.vector(p + "ffn_norm.weight", EMBD, mean=1.0)
        experts(g, p)
    return g


def gpt_oss():
    g = Gguf("gpt-oss", 2)
    common(g)
    g.key(attention__sliding_window=128)
    for i in range(LAYERS):
        p = f"blk.{i}."
        attention(g, p, bias=True)
        g.vector(p + "post_attention_norm.weight", EMBD, mean=1.0)
        g.vector(p + "attn_sinks.weight", HEADS, gain=1.0)
        experts(g, p, bias=True)
    return g


def deepseek2(fused):
    """A dense layer first, multi-head latent attention, shared experts, grouped by sigmoid."""
    nope, rope, lora, value_length = 64, 32, 128, 64
    g = Gguf("deepseek2", 4 if fused else 3)
    common(g)
    g.key(leading_dense_block_count=1, expert_shared_count=1, expert_gating_func=2, expert_weights_scale=1.5,
          expert_weights_norm=True, attention__kv_lora_rank=lora, attention__q_lora_rank=lora,
          attention__head_count_kv=1,
          attention__key_length=lora + rope, attention__value_length=lora, attention__key_length_mla=nope + rope,
          attention__value_length_mla=value_length, rope__dimension_count=rope)
    for i in range(LAYERS):
        p = f"blk.{i}."
        g.vector(p + "attn_norm.weight", EMBD, mean=1.0)
        g.matrix(p + "attn_q_a.weight", EMBD, lora)
        g.vector(p + "attn_q_a_norm.weight", lora, mean=1.0)
        g.matrix(p + "attn_q_b.weight", lora, HEADS * (nope + rope))
        g.matrix(p + "attn_kv_a_mqa.weight", EMBD, lora + rope)
        g.vector(p + "attn_kv_a_norm.weight", lora, mean=1.0)
        g.matrix(p + "attn_k_b.weight", nope, lora, HEADS)
        g.matrix(p + "attn_v_b.weight", lora, value_length, HEADS)
        g.matrix(p + "attn_output.weight", HEADS * value_length, EMBD)
        g.vector(p + "ffn_norm.weight", EMBD, mean=1.0)
        if i == 0:
            dense(g, p, "", 2 * FF)
            continue
        experts(g, p, fused=fused)
        g.vector(p + "exp_probs_b.bias", EXPERTS, gain=0.05)
        dense(g, p, "_shexp", FF)
    return g


def llama4():
    """One expert a token and a shared one, in every second layer."""
    g = Gguf("llama4", 5)
    common(g)
    g.key(expert_used_count=1, interleave_moe_layer_step=2, block_count=4)
    for i in range(4):
        p = f"blk.{i}."
        attention(g, p)
        g.vector(p + "ffn_norm.weight", EMBD, mean=1.0)
        if i % 2:
            experts(g, p)
            dense(g, p, "_shexp", FF)
        else:
            dense(g, p, "", 2 * FF)
    return g


# name: how it is made, the quantisations, whether it is also split
MODELS = {
    "qwen3moe": (qwen3moe, ("F16", "Q8_0", "Q4_0", "Q4_K_M", "IQ4_NL"), "Q4_0"),
    "gpt-oss": (gpt_oss, ("MXFP4_MOE",), None),
    "deepseek2": (lambda: deepseek2(False), ("Q5_K_M",), "Q5_K_M"),
    "deepseek2-fused": (lambda: deepseek2(True), ("Q8_0", "Q4_0"), None),
    "llama4": (llama4, ("Q6_K", "Q2_K"), None),
}


def tool(llama, *command):
    done = subprocess.run([os.path.join(llama, "bin", command[0]), *command[1:]], capture_output=True, text=True,
                          check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def make(llama, folder, name, scratch):
    """The files of one model: yields their paths."""
    build, quantisations, split = MODELS[name]
    source = os.path.join(scratch, name)
    for quantisation in quantisations:
        path = os.path.join(folder, f"{name}-{quantisation}.gguf")
        first = path.replace(".gguf", "-split-00001-of-00003.gguf")
        new = os.path.join(scratch, "new")
        if not os.path.exists(path):
            if not os.path.exists(source):
                build().write(source)
            tool(llama, "llama-quantize", source, new, quantisation, "2")
            os.rename(new, path)
        yield path
        if quantisation == split:
            if not os.path.exists(first):
                # By number of tensors: the experts of one layer come into two files.
                tool(llama, "llama-gguf-split", "--split-max-tensors", str(-(-count(path) // 3)), path,
                     first.replace("-00001-of-00003.gguf", ""))
            yield first


def count(path):
    with open(path, "rb") as f:
        return struct.unpack("<8xQ", f.read(16))[0]


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    llama, folder = sys.argv[1:]
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for name in MODELS:
            for path in make(llama, folder, name, scratch):
                print(path)


if __name__ == "__main__":
    main()
