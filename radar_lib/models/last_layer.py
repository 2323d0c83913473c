"""The last decoder layer, computed for the tokens that stand for posts only.

Nothing after that layer reads any other token. It needs the keys and values of all tokens, and queries, output
projection and MLP of one per post: with two layers that is almost half of a decoder, with 36 a thirty-sixth. The same
function up to rounding, gradients included.
"""

from __future__ import annotations

import inspect
import types
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class KeysAndValues:
    """Of all tokens, in the place of a cache: an attention module that has projected its own tokens asks it for them.

    Projected, normalised and rotated as the attention modules of Qwen2, Qwen3, Qwen3-VL and Gemma 3 do it.
    """

    def __init__(self, attention: nn.Module, hidden: Float[Tensor, "row token hidden"], cos: Tensor, sin: Tensor):
        shape = (*hidden.shape[:-1], -1, attention.head_dim)
        key = attention.k_proj(hidden).view(shape)
        key = (attention.k_norm(key) if hasattr(attention, "k_norm") else key).transpose(1, 2)
        self.key = inspect.getmodule(type(attention)).apply_rotary_pos_emb(key, key, cos, sin)[1]
        self.value = attention.v_proj(hidden).view(shape).transpose(1, 2)

    def update(self, *_: Any) -> tuple[Tensor, Tensor]:
        return self.key, self.value


def seen_from(at: Int[Tensor, "row post"], tokens: int) -> Bool[Tensor, "row 1 post token"]:
    """Tokens of a row that the token at each position attends to: of its own post, those up to it."""
    token, before = torch.arange(tokens, device=at.device), F.pad(at[:, :-1], (1, 0), value=-1)
    return ((token > before[..., None]) & (token <= at[..., None]))[:, None]


def narrow_last_layer(text: nn.Module) -> None:
    """Let a language model given `read_at`, positions (row, post), return the states of those tokens only.

    Without it, the model is as it was. Its attention must be SDPA.
    """
    last = text.layers[-1]
    last.forward, last._can_checkpoint_with_cache = types.MethodType(_read_tokens, last), True  # ours is never written


def _read_tokens(
    self: nn.Module, hidden_states: Tensor, attention_mask: Tensor | None = None, *,
    position_embeddings: tuple[Tensor, Tensor], read_at: Int[Tensor, "row post"] | None = None, **options: Any,
) -> Tensor:  # fmt: skip
    forward = types.MethodType(type(self).forward, self)
    if read_at is None:
        return forward(hidden_states, attention_mask=attention_mask, position_embeddings=position_embeddings, **options)
    row = torch.arange(len(hidden_states), device=hidden_states.device)[:, None]
    if attention_mask is None:
        mask = seen_from(read_at, hidden_states.shape[1])
    else:
        mask = attention_mask.expand(len(row), -1, -1, -1)[row, :, read_at].transpose(1, 2)
    given = KeysAndValues(self.self_attn, self.input_layernorm(hidden_states), *position_embeddings)
    own = tuple(part.expand(len(row), -1, -1)[row, read_at] for part in position_embeddings)
    options |= {"past_key_values": given, "segments": None}
    return forward(hidden_states[row, read_at], attention_mask=mask, position_embeddings=own, **options)
