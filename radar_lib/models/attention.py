"""Two exchanges inside Qwen3-VL's vision tower that give the same numbers in less time on a CPU.

Its attention runs frame by frame in Python unless a flash implementation is asked for, which is then called once with
the frames' boundaries. `attend_within_frames` takes that one call and hands all frames of one size to PyTorch's SDPA
as a batch (bit-equal, tested). Its patch embedding is a Conv3d with stride equal to its kernel: a matrix product.
"""

from __future__ import annotations

import copy
import types
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_NAME = "radar_flash_batched_frames"  # transformers looks for "flash" in the name before it makes the one call


def attend_within_frames(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None, *,
    scaling: float | None = None, dropout: float = 0.0, cu_seq_lens_q: Tensor, **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attention within each frame. `query`, `key`, `value` are (1, head, token, width); frames follow each other."""
    lengths = (cu_seq_lens_q[1:] - cu_seq_lens_q[:-1]).tolist()
    if len(set(lengths)) == 1:
        frames = [x[0].unflatten(1, (len(lengths), lengths[0])).transpose(0, 1) for x in (query, key, value)]
        out = F.scaled_dot_product_attention(*frames, dropout_p=dropout, scale=scaling)
        return out.transpose(1, 2).flatten(0, 1)[None], None
    parts = zip(*(x.split(lengths, dim=2) for x in (query, key, value)), strict=True)
    out = torch.cat([F.scaled_dot_product_attention(*part, dropout_p=dropout, scale=scaling) for part in parts], dim=2)
    return out.transpose(1, 2), None


def _patches_as_rows(self: nn.Module, hidden_states: Tensor) -> Tensor:
    weight = self.proj.weight
    return F.linear(hidden_states.flatten(1).to(weight.dtype), weight.flatten(1), self.proj.bias)


def speed_up_vision_tower(tower: nn.Module) -> None:
    """Exchange attention and patch embedding of a `Qwen3VLVisionModel`, unless a real flash attention is in use."""
    from transformers import AttentionInterface

    if tower.config._attn_implementation == "sdpa":
        AttentionInterface.register(_NAME, attend_within_frames)
        config = copy.copy(tower.config)  # for the attention modules only; the model keeps a name that can be saved
        config._attn_implementation = _NAME
        for block in tower.blocks:
            block.attn.config = config
    tower.patch_embed.forward = types.MethodType(_patches_as_rows, tower.patch_embed)
