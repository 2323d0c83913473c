"""Posts end to end in one row instead of padded rows (Qwen3-VL): no token is padding, and attention needs no mask.

Each post keeps its own positions, and attention runs within each post. transformers can do the latter with one mask
over the whole row (exact only with four-row positions and no cache), at a cost that grows with the square of the row;
here each post's tokens are handed to SDPA by themselves, as in the vision tower (`attention.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from radar_lib.models.base import Encoded

_NAME = "radar_packed"


def join(posts: Sequence[Encoded]) -> Encoded:
    """Several posts as one long one; their positions stay as they are, so they restart with each post."""
    levels = [post.features for post in posts if post.features is not None]
    return Encoded(
        torch.cat([post.input_ids for post in posts]),
        tuple(frame for post in posts for frame in post.frames),
        tuple(count for post in posts for count in post.frame_tokens),
        torch.cat([post.position_ids for post in posts], dim=1),
        tuple(torch.cat(parts) for parts in zip(*levels, strict=True)) if levels else None,
    )


def attention_within_posts(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *,
    segments: Sequence[int] | None = None, **options: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """transformers' SDPA; where `segments` gives the posts' lengths, within each of them, causal and without a mask."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if segments is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    posts = zip(*(x.split(segments, dim=2) for x in (query, key, value)), strict=True)
    return torch.cat([sdpa_attention_forward(module, *post, None, **options)[0] for post in posts], dim=1), None


class Packing:
    """For a `CausalBackbone` with explicit positions: `packing` decides how `collate` lays a batch out.

    A packed batch has one row, no attention mask, and `segments`, the lengths of its posts.
    """

    packing = False

    def pack(self, on: bool) -> None:
        """Switch packing on or off. The weights, and what an unpacked batch gives, do not change."""
        from transformers import AttentionInterface
        from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

        self.packing = on
        text = self.model.language_model
        if on and text.config._attn_implementation == "sdpa":
            AttentionInterface.register(_NAME, attention_within_posts)
            AttentionMaskInterface.register(_NAME, sdpa_mask)
            text.config = copy.copy(text.config)  # the model's own keeps a name that can be saved
            text.config._attn_implementation = _NAME
            for layer in text.layers:
                layer.self_attn.config = text.config

    def collate(self, encoded: Sequence[Encoded]) -> dict[str, Tensor]:
        if not self.packing:
            return super().collate(encoded)
        batch = super().collate([join(encoded)])
        del batch["attention_mask"]
        return {**batch, "segments": torch.tensor([post.n_tokens for post in encoded])}

    def extra_inputs(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        return {"segments": batch["segments"].tolist()} if "segments" in batch else super().extra_inputs(batch)

    def read_at(self, batch: Mapping[str, Tensor]) -> Int[Tensor, "row post"]:
        return batch["segments"].cumsum(0)[None] - 1 if "segments" in batch else super().read_at(batch)
