"""SigLIP and fixed-resolution SigLIP 2: two towers and no language model above them.

The pooled vector is the mean of the frame embeddings (a learned vector when a post has none) joined to the text
embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from radar_lib.models import lora
from radar_lib.models.base import Backbone, Encoded


class Siglip(Backbone):
    """SigLIP and fixed-resolution SigLIP 2: one tower for frames, one for text, LoRA on both."""

    family = "siglip"
    lora_targets = lora.DUAL_ENCODER
    vision_module = "vision_model"

    def _prepare(self) -> None:
        config = self.model.config
        # SigLIP 2 was trained on lower-case text. Its fixed-resolution checkpoints name Gemma's tokenizer, which leaves
        # case alone; transformers has the lower-casing one for the other checkpoints only.
        self._lower = type(self.tokenizer).__name__.startswith("Gemma")
        self.no_frames = nn.Parameter(torch.zeros(config.vision_config.hidden_size), requires_grad=False)

    @property
    def hidden_size(self) -> int:
        return self.model.config.vision_config.hidden_size + self.model.config.text_config.projection_size

    def text_positions(self) -> int:
        return self._text_length - self.tokenizer.num_special_tokens_to_add()

    @property
    def _text_length(self) -> int:
        return self.model.config.text_config.max_position_embeddings

    def as_read(self, line: str) -> str:
        return line.lower() if self._lower else line

    def own_parameters(self) -> dict[str, nn.Parameter]:
        return {"no_frames": self.no_frames}

    def encode(self, posts: Sequence[Mapping[str, Any]]) -> list[Encoded]:
        # The family is trained on texts padded to full length without a mask, and reads its last position.
        # Truncation is for a cut within a character, which keeps all of its tokens.
        ids = self.tokenizer(
            self.texts(posts), padding="max_length", truncation=True, max_length=self._text_length
        )["input_ids"]  # fmt: skip
        return [
            Encoded(torch.tensor(row), self.resized(post))
            for post, row in zip(posts, ids, strict=True)
        ]

    def collate(self, encoded: Sequence[Encoded]) -> dict[str, Tensor]:
        batch = {"input_ids": torch.stack([post.input_ids for post in encoded])}
        batch["frame_counts"] = torch.tensor([len(post.frames) for post in encoded])
        frames = [frame for post in encoded for frame in post.frames]
        if frames:
            batch["pixel_values"] = self.frame_processor.normalise(torch.stack(frames))
        return batch

    def embed_text(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "batch text"]:
        """The text tower's pooled output."""
        return self.model.text_model(input_ids=batch["input_ids"]).pooler_output.float()

    def embed_frames(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "batch vision"]:
        """Mean of the vision tower's pooled outputs over each post's frames."""
        counts = batch["frame_counts"]
        out = self.no_frames.expand(len(counts), -1)
        if "pixel_values" not in batch:
            return out
        pooled = self.model.vision_model(batch["pixel_values"].to(self.model.dtype)).pooler_output.float()
        owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
        total = torch.zeros_like(out).index_add(0, owner, pooled)
        return torch.where(counts[:, None] > 0, total / counts.clamp(min=1)[:, None], out)

    def forward(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "batch hidden"]:
        return torch.cat([self.embed_frames(batch), self.embed_text(batch)], dim=1)
