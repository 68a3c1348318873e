# SPDX-License-Identifier: MIT
"""What all goldens share: random weights, the reference run, the margins, the files.

The reference is the transformers library in float32 with its plain loops (eager
attention, eager experts). A golden is only accepted when no choice hangs on the
order of a sum: expert scores and output logits must be apart by more than
ROUTE_MARGIN and LOGIT_MARGIN.
"""
import json
import os
import shutil

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, Llama4ForConditionalGeneration

ROUTE_MARGIN = 2e-4
LOGIT_MARGIN = 2e-3
NR_PROMPT = 12
NR_OUTPUT = 24
NR_MOE_TOKENS = 8


class Retry(Exception):
    """This seed does not make a golden: another one must."""


def model_class(config):
    return Llama4ForConditionalGeneration if config.model_type == "llama4" else AutoModelForCausalLM


def text_config(config):
    return config.get_text_config()


def text_model(model):
    """The causal language model inside (Llama 4 has a vision tower beside it)."""
    return getattr(model, "language_model", model)


def decoder_layers(model):
    return text_model(model).model.layers


def moe_blocks(model):
    """{layer: (MoE block, its router)} of all layers that have experts."""
    out = {}
    for i, layer in enumerate(decoder_layers(model)):
        block = getattr(layer, "mlp", None) or layer.feed_forward
        if hasattr(block, "experts"):
            out[i] = (block, getattr(block, "gate", None) or block.router)
    return out


def randomise(model, seed, gains):
    """Random weights large enough that each term of the model matters. Values are bf16's."""
    gen = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in list(model.named_parameters()) + list(model.named_buffers()):
            if not p.is_floating_point() or "inv_freq" in name or "rotary" in name:
                continue
            r = torch.randn(p.shape, generator=gen)
            if "e_score_correction_bias" in name:
                p.copy_(0.45 * r - 0.25)
                continue
            if "norm" in name and name.endswith("weight"):
                v = (1 + 0.3 * r).clamp(0.25, 2.0)
            elif name.endswith("sinks"):
                v = r
            elif "embed_tokens" in name:
                v = r
            elif name.endswith("bias"):
                v = 0.3 * r
            elif "experts." in name and name.endswith("proj") and "shared" not in name:
                # fused in memory: [E, out, in], or [E, in, out] where the model multiplies from the left
                fan = p.shape[1] if model.config.model_type in ("gpt_oss", "llama4") else p.shape[2]
                v = r * gains.get("experts", 1.5) / fan ** 0.5
            elif "gate.weight" in name or "router.weight" in name:
                v = r * gains.get("router", 1.6) / p.shape[-1] ** 0.5
            elif "lm_head" in name:
                v = r * 2.5 / p.shape[-1] ** 0.5
            elif "q_proj" in name or "k_proj" in name:
                v = r * gains.get("qk", 1.6) / p.shape[-1] ** 0.5
            else:
                v = r * 1.3 / max(1, p.shape[-1]) ** 0.5
            p.copy_(v.bfloat16().float())


def save_config(folder, config_json):
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config_json, f, indent=1)
        f.write("\n")


def build(folder, config_json, seed, gains=None):
    """The model of a published-style config.json, with random weights."""
    os.makedirs(folder, exist_ok=True)
    save_config(folder, config_json)
    config = AutoConfig.from_pretrained(folder)
    config._attn_implementation = "eager"
    kw = {} if config.model_type == "llama4" else {"experts_implementation": "eager"}
    cls = model_class(config)
    model = cls._from_config(config, **kw) if cls is Llama4ForConditionalGeneration else cls.from_config(config, **kw)
    model = model.float().eval()
    randomise(model, seed, gains or {})
    return model


def save(model, folder, config_json, shard=None):
    """save_pretrained in bf16 (selection biases stay float32), then the published-style config.json.

    config_json None keeps the config.json that the library writes.
    """
    keep = {n: b.clone() for n, b in model.named_buffers() if "e_score_correction_bias" in n}
    for p in list(model.parameters()) + list(model.buffers()):
        if p.dtype == torch.float32:
            p.data = p.data.bfloat16()
    for n, b in keep.items():
        mod, _, leaf = n.rpartition(".")
        setattr(model.get_submodule(mod), leaf, b)
    for f in os.listdir(folder):
        if f != "config.json":
            os.remove(os.path.join(folder, f))
    kw = {"max_shard_size": shard} if shard else {}
    model.save_pretrained(folder, **kw)
    for f in os.listdir(folder):
        os.chmod(os.path.join(folder, f), 0o644)
    if config_json is not None:
        save_config(folder, config_json)
    for f in ("generation_config.json",):
        if os.path.exists(os.path.join(folder, f)):
            os.remove(os.path.join(folder, f))


def load(folder):
    config = AutoConfig.from_pretrained(folder)
    kw = {} if config.model_type == "llama4" else {"experts_implementation": "eager"}
    model, info = model_class(config).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                                      output_loading_info=True, **kw)
    for k in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[k]:
            raise RuntimeError(f"{folder}: {k}: {sorted(info[k])[:5]}")
    return model.float().eval()


def selection(config, router, logits):
    """The score that experts are chosen by, groups not yet masked."""
    bias = getattr(router, "e_score_correction_bias", None)
    if bias is not None:
        return logits.sigmoid() + bias
    return logits


def sort_choice(config, router, logits, ids, weights):
    """Best first, and the smallest gap that a choice or its place hangs on."""
    sel = selection(config, router, logits)
    k = ids.shape[-1]
    order = torch.gather(sel, 1, ids).argsort(dim=-1, descending=True)
    ids = torch.gather(ids, 1, order)
    weights = torch.gather(weights, 1, order) if weights is not None else None
    groups = getattr(config, "n_group", None) or 1
    kept = getattr(config, "topk_group", None) or 1
    gap = float("inf")
    masked = sel
    if groups > 1 and kept < groups:
        by_group = (sel if config.model_type == "deepseek_v3" else logits.softmax(-1)).view(len(sel), groups, -1)
        score = by_group.topk(2, -1)[0].sum(-1) if config.model_type == "deepseek_v3" else by_group.max(-1).values
        s = score.sort(dim=-1, descending=True)
        gap = min(gap, (s.values[:, kept - 1] - s.values[:, kept]).min().item())
        mask = torch.zeros_like(score).scatter_(1, s.indices[:, :kept], 1).bool()
        masked = sel.masked_fill(~mask.repeat_interleave(sel.shape[1] // groups, 1), float("-inf"))
    s = masked.sort(dim=-1, descending=True).values[:, :k + 1]
    gaps = (s[:, :-1] - s[:, 1:])
    gap = min(gap, gaps.min().item())
    best = masked.topk(k, -1).indices
    if not torch.equal(best, ids):
        raise RuntimeError("the library chose other experts than its own scores say")
    return ids, weights, gap


def route(config, router, out):
    """(logits, weights, ids) of a router's output, whatever the family's order."""
    if config.model_type in ("llama4", "llama4_text"):
        scores, logits = out
        ids = logits.topk(router.top_k, -1).indices
        return logits, torch.gather(scores, 1, ids), ids
    logits, weights, ids = out
    return logits, weights, ids


def run_blocks(model, config, x):
    """ids, weights, output of each MoE block for the rows of x."""
    res, gap = {}, float("inf")
    for i, (block, router) in moe_blocks(model).items():
        seen = []
        hook = router.register_forward_hook(lambda m, a, o: seen.append(o))
        with torch.no_grad():
            y = block(x[None])
        hook.remove()
        y = y[0] if isinstance(y, tuple) else y
        ids, weights, g = sort_choice(config, router, *[route(config, router, seen[0])[j] for j in (0, 2, 1)])
        gap = min(gap, g)
        res[i] = (ids, weights, y.reshape(x.shape))
    return res, gap


def decode(model, config, prompt):
    """Greedy ids, logits after the prompt, choices of each layer and position, smallest margins."""
    seq = list(prompt)
    first, logit_gap = None, float("inf")
    for _ in range(NR_OUTPUT):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([seq]), use_cache=False).logits[0, -1].float()
        top = logits.topk(2).values
        logit_gap = min(logit_gap, (top[0] - top[1]).item())
        if first is None:
            first = logits.clone()
        seq.append(int(logits.argmax()))
    choice, gap, hooks, seen = {}, float("inf"), [], {}
    for i, (_, router) in moe_blocks(model).items():
        hooks.append(router.register_forward_hook(lambda m, a, o, i=i: seen.__setitem__(i, o)))
    with torch.no_grad():
        model(input_ids=torch.tensor([seq[:-1]]), use_cache=False)
    for h in hooks:
        h.remove()
    for i, (_, router) in moe_blocks(model).items():
        logits, weights, ids = route(config, router, seen[i])
        choice[i], _, g = sort_choice(config, router, logits, ids, weights)
        gap = min(gap, g)
    return seq[len(prompt):], first, choice, gap, logit_gap


def check_decode(model, prompt, out):
    """The cached path of the library must agree: it is what users run."""
    with torch.no_grad():
        ids = model.generate(torch.tensor([list(prompt)]), do_sample=False, max_new_tokens=NR_OUTPUT,
                             min_new_tokens=NR_OUTPUT, pad_token_id=0, eos_token_id=None)
    if ids[0].tolist()[len(prompt):] != list(out):
        raise RuntimeError("generate() with its cache gives other ids")


def reference(model, seed, whole, path="."):
    """Everything that expected.txt and the .f32 files say of a model, or Retry."""
    config = text_config(model.config)
    gen = torch.Generator().manual_seed(seed + 1000)
    x = torch.randn(NR_MOE_TOKENS, config.hidden_size, generator=gen) * torch.linspace(0.5, 1.6, NR_MOE_TOKENS)[:, None]
    blocks, gap = run_blocks(model, config, x)
    if gap < ROUTE_MARGIN:
        raise Retry("route")
    lines, files = [], {"moe_in.f32": x}
    lines.append(("arch", model.config.model_type))
    lines.append(("path", path))
    lines.append(("hidden", config.hidden_size))
    lines.append(("moe_layers", list(blocks)))
    lines.append(("top_k", next(iter(blocks.values()))[0].shape[1]))
    lines.append(("moe_tokens", NR_MOE_TOKENS))
    for i, (ids, weights, y) in blocks.items():
        lines.append((f"moe_ids.{i}", ids.flatten().tolist()))
        lines.append((f"moe_weights.{i}", [f"{v:.9g}" for v in weights.flatten().tolist()]))
        files[f"moe_out.{i}.f32"] = y
    if whole:
        prompt = torch.randint(0, config.vocab_size, (NR_PROMPT,), generator=gen).tolist()
        out, logits, choice, g, logit_gap = decode(text_model(model), config, prompt)
        gap = min(gap, g)
        if gap < ROUTE_MARGIN or logit_gap < LOGIT_MARGIN:
            raise Retry("margins")
        if len(set(out)) < 8:
            raise Retry("the output repeats itself")
        check_decode(text_model(model), prompt, out)
        lines.append(("vocab", config.vocab_size))
        lines.append(("prompt", prompt))
        lines.append(("output", out))
        for i, ids in choice.items():
            lines.append((f"choice.{i}", ids.flatten().tolist()))
        files["logits.f32"] = logits
        lines.append(("logit_margin", f"{logit_gap:.3g}"))
    lines.append(("route_margin", f"{gap:.3g}"))
    return lines, files


def need_inf_mask(model, x):
    """Choices must differ from those of a mask of 0 (some kept scores are negative), and from no groups at all."""
    for block, router in moe_blocks(model).values():
        logits, _, ids = router(x)
        sel = logits.sigmoid() + router.e_score_correction_bias
        groups, kept = router.num_group, router.topk_group
        score = sel.view(len(sel), groups, -1).topk(2, -1)[0].sum(-1)
        mask = torch.zeros_like(score).scatter_(1, score.topk(kept, -1).indices, 1).bool()
        zero = sel.masked_fill(~mask.repeat_interleave(sel.shape[1] // groups, 1), 0.0)
        want = ids.sort(-1).values
        if torch.equal(zero.topk(router.top_k, -1).indices.sort(-1).values, want):
            raise Retry("masking with 0 gives the same")
        if torch.equal(sel.topk(router.top_k, -1).indices.sort(-1).values, want):
            raise Retry("groups do not matter")


def write_expected(folder, lines, files):
    with open(os.path.join(folder, "expected.txt"), "w") as f:
        for key, value in lines:
            if isinstance(value, (list, tuple)):
                value = " ".join(str(v) for v in value)
            f.write(f"{key}: {value}\n")
    for name, t in files.items():
        np.ascontiguousarray(t.detach().float().numpy()).astype("<f4").tofile(os.path.join(folder, name))


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)


def first_seed(make, name):
    """The first seed that makes a golden."""
    for seed in range(1, 400):
        try:
            make(seed)
            print(f"{name}: seed {seed}")
            return
        except Retry:
            continue
    raise RuntimeError(f"{name}: no seed gives healthy margins")
