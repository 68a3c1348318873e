# SPDX-License-Identifier: MIT
"""Quantised layouts of published checkpoints, written from their definitions.

Each function takes float32 and returns what is stored plus the float32 that it
stands for; the reference model computes with the latter.
"""
import numpy as np
import torch

E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def mxfp4(w):
    """[..., n] -> blocks u8 [..., n/32, 16] (even element in the low nibble), scales u8 [..., n/32], values."""
    g = w.reshape(*w.shape[:-1], -1, 32)
    peak = g.abs().amax(-1)
    exp = torch.floor(torch.log2(peak.clamp(min=2.0 ** -120))) - 2
    scale = torch.exp2(exp)
    code = (g / scale[..., None]).unsqueeze(-1).sub(E2M1).abs().argmin(-1)
    value = E2M1[code] * scale[..., None]
    code = code.to(torch.uint8)
    blocks = code[..., 0::2] | (code[..., 1::2] << 4)
    return blocks, (exp + 127).to(torch.uint8), value.reshape(w.shape)


def fp8_blocks(w, size=128):
    """[r, c] -> F8_E4M3, scale_inv f32 [ceil(r/128), ceil(c/128)], values; value = code * scale_inv."""
    r, c = w.shape
    nr, nc = -(-r // size), -(-c // size)
    scale = torch.empty(nr, nc)
    code = torch.empty(r, c, dtype=torch.float8_e4m3fn)
    value = torch.empty(r, c)
    for i in range(nr):
        for j in range(nc):
            s = np.s_[i * size:(i + 1) * size, j * size:(j + 1) * size]
            scale[i, j] = w[s].abs().max() / 448
            code[s] = (w[s] / scale[i, j]).to(torch.float8_e4m3fn)
            value[s] = code[s].float() * scale[i, j]
    return code, scale, value


def fp8_channels(w):
    """[r, c] -> F8_E4M3, weight_scale bf16 [r, 1], values."""
    scale = (w.abs().amax(1, keepdim=True) / 448).bfloat16()
    code = (w / scale.float()).clamp(-448, 448).to(torch.float8_e4m3fn)
    return code, scale, code.float() * scale.float()


def int4_groups(w, size=32):
    """[r, c] -> weight_packed i32 [r, c/8] (nibble + 8, low first), weight_scale bf16 [r, c/32], values."""
    r, c = w.shape
    g = w.reshape(r, c // size, size)
    scale = (g.abs().amax(-1) / 7.5).bfloat16()
    q = torch.round(g / scale.float()[..., None]).clamp(-8, 7)
    value = (q * scale.float()[..., None]).reshape(r, c)
    n = (q.reshape(r, c // 8, 8).numpy().astype(np.int64) + 8).astype(np.uint32)
    packed = np.zeros((r, c // 8), dtype=np.uint32)
    for i in range(8):
        packed |= n[..., i] << np.uint32(4 * i)
    return torch.from_numpy(packed.view(np.int32).copy()), scale, value
