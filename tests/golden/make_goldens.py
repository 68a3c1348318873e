#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Make the goldens of this folder again: make_goldens.py [NAME ...]  (README.md)."""
import os
import sys

import torch
from safetensors.torch import load_file, save_file

import configs
import goldenlib as g
import quant

HERE = os.path.dirname(os.path.abspath(__file__))


def plain(name, shard=None, whole=True, gains=None, library_config=False, check=None):
    """A bf16 checkpoint, as save_pretrained writes it."""
    folder = os.path.join(HERE, name)
    cfg = configs.ALL[name]

    def make(seed):
        g.fresh(folder)
        model = g.build(folder, cfg, seed, gains)
        g.save(model, folder, None if library_config else cfg, shard)
        model = g.load(folder)
        lines, files = g.reference(model, seed, whole)
        if check:
            check(model, files["moe_in.f32"])
        g.write_expected(folder, lines, files)

    g.first_seed(make, name)


def need_group_max(model, x):
    """DeepSeek-V2: choices must differ from those of V3's group score (sum of the best two)."""
    for block, router in g.moe_blocks(model).values():
        logits, _, ids = router(x)
        scores = logits.softmax(-1)
        groups, kept = router.num_group, router.topk_group
        by = scores.view(len(scores), groups, -1)
        top2 = by.topk(2, -1)[0].sum(-1).topk(kept, -1).indices.sort(-1).values
        if torch.equal(top2, by.max(-1).values.topk(kept, -1).indices.sort(-1).values):
            raise g.Retry("group score does not matter")


def read_tensors(folder):
    return load_file(os.path.join(folder, "model.safetensors"))


def write_tensors(folder, tensors):
    os.remove(os.path.join(folder, "model.safetensors"))
    save_file({k: v.contiguous() for k, v in tensors.items()}, os.path.join(folder, "model.safetensors"),
              metadata={"format": "pt"})
    os.chmod(os.path.join(folder, "model.safetensors"), 0o644)


def quantised(name, change, whole=False, gains=None, check=None):
    """A checkpoint in two steps: saved in bf16, then change() quantises tensors.

    change(tensors) edits the dict of tensors and returns {name: float32 value};
    those values, under the bf16 layout, are what the reference loads.
    """
    folder = os.path.join(HERE, name)
    cfg = configs.ALL[name]
    plain_cfg = {k: v for k, v in cfg.items() if k != "quantization_config"}

    def make(seed):
        g.fresh(folder)
        model = g.build(folder, plain_cfg, seed, gains)
        g.save(model, folder, plain_cfg)
        tensors = read_tensors(folder)
        floats = {k: v.float() for k, v in tensors.items()}
        floats.update(change(tensors))
        write_tensors(folder, floats)
        model = g.load(folder)
        lines, files = g.reference(model, seed, whole)
        if check:
            check(model, files["moe_in.f32"])
        write_tensors(folder, tensors)
        g.save_config(folder, cfg)
        g.write_expected(folder, lines, files)

    g.first_seed(make, name)


def to_mxfp4(tensors):
    """gpt-oss: [E, in, out] -> blocks and scales of the transposed matrices."""
    values = {}
    for key in [k for k in tensors if k.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        blocks, scales, value = quant.mxfp4(tensors.pop(key).float().transpose(1, 2).contiguous())
        tensors[key + "_blocks"] = blocks
        tensors[key + "_scales"] = scales
        values[key] = value.transpose(1, 2).contiguous()
    return values


def to_fp8_blocks(tensors):
    """DeepSeek-V3: every projection, but not router, embedding, head."""
    values = {}
    for key in [k for k in tensors if k.endswith("_proj.weight") or "_proj_with_mqa" in k or "kv_b_proj" in k]:
        code, scale, values[key] = quant.fp8_blocks(tensors[key].float())
        tensors[key] = code
        tensors[key + "_scale_inv"] = scale
    return values


def to_int4(tensors):
    """Kimi-K2-Thinking: routed experts only."""
    values = {}
    for key in [k for k in tensors if ".mlp.experts." in k]:
        w = tensors.pop(key).float()
        packed, scale, values[key] = quant.int4_groups(w)
        stem = key.removesuffix("weight")
        tensors[stem + "weight_packed"] = packed
        tensors[stem + "weight_scale"] = scale
        tensors[stem + "weight_shape"] = torch.tensor(w.shape, dtype=torch.int32)
    return values


def to_fp8_channels(tensors):
    """Llama 4, compressed-tensors: experts unfused into Linear modules, shared expert too."""
    values = {}
    for key in list(tensors):
        if ".feed_forward.experts." in key:
            w = tensors.pop(key).float()
            parts = w.chunk(2, dim=-1) if key.endswith("gate_up_proj") else (w,)
            names = ("gate_proj", "up_proj") if key.endswith("gate_up_proj") else ("down_proj",)
            back = []
            for part, proj in zip(parts, names):
                rows = []
                for e in range(w.shape[0]):
                    code, scale, value = quant.fp8_channels(part[e].T.contiguous())
                    stem = key.rpartition(".")[0] + f".{e}.{proj}."
                    tensors[stem + "weight"], tensors[stem + "weight_scale"] = code, scale
                    rows.append(value.T)
                back.append(torch.stack(rows))
            values[key] = torch.cat(back, dim=-1)
        elif ".feed_forward.shared_expert." in key:
            tensors[key], tensors[key + "_scale"], values[key] = quant.fp8_channels(tensors[key].float())
    return values


GOLDENS = {
    "mixtral": lambda n: plain(n, shard="64KB"),
    "qwen3_moe": lambda n: plain(n),
    "olmoe": lambda n: plain(n, library_config=True),
    "gpt_oss": lambda n: quantised(n, to_mxfp4, whole=True, gains={"experts": 3.0}),
    "gpt_oss_bf16": lambda n: plain(n, gains={"experts": 3.0}),
    "glm4_moe": lambda n: plain(n, library_config=True),
    "glm4_moe_air": lambda n: plain(n),
    "llama4": lambda n: plain(n),
    "deepseek_v2": lambda n: plain(n, whole=False, check=need_group_max),
    "deepseek_v3": lambda n: plain(n, whole=False, check=g.need_inf_mask),
    "kimi_k2": lambda n: plain(n, whole=False),
    "deepseek_v3_fp8": lambda n: quantised(n, to_fp8_blocks),
    "kimi_k2_int4": lambda n: quantised(n, to_int4),
    "llama4_fp8": lambda n: quantised(n, to_fp8_channels),
}


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    names = sys.argv[1:] or list(GOLDENS) + ["gguf"]
    for name in names:
        if name == "gguf":
            import make_gguf
            make_gguf.main()
        else:
            GOLDENS[name](name)


if __name__ == "__main__":
    main()
