"""What the decoder families share: a prompt around frames and text, and the last real token's hidden state.

The prompt is the checkpoint's own chat template around the frames, the post's text and a short instruction.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from radar_lib.errors import RadarError
from radar_lib.models import lora
from radar_lib.models.base import INSTRUCTION, Backbone, Encoded, last_real_token, pad
from radar_lib.models.last_layer import narrow_last_layer

_SLOT = "@@TEXT@@"  # stands for the post's text while the chat template is rendered


class CausalBackbone(Backbone):
    """A vision tower in front of a decoder: Qwen3-VL, LLaVA-OneVision, Gemma 3."""

    lora_targets = lora.LANGUAGE_MODEL
    features_cacheable = True
    decodes_as_transformers = True  # its decoder layers are transformers' own
    causal = True  # a token looks at none after it
    image_markup = ""  # how the family's processor writes one frame into a prompt, before expansion

    def _prepare(self) -> None:
        self._takes_features = "mm_encoder_outputs" in inspect.signature(self.model.forward).parameters
        self.image_token_id = self.model.config.image_token_id
        tokens = [str(t) for t in self.tokenizer.added_tokens_decoder.values() if t.special]
        self._special = re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) or r"(?!)")
        self._template = lru_cache(maxsize=64)(self._render_template)
        # deepstack adds visual features after the first layers, to all tokens
        config, levels = self.model.config, getattr(self.model.config.vision_config, "deepstack_visual_indexes", ())
        self._narrow = self.decodes_as_transformers and config._attn_implementation == "sdpa"
        self._narrow &= config.get_text_config().num_hidden_layers > len(levels)
        if self._narrow:
            narrow_last_layer(self.model.language_model)

    @property
    def hidden_size(self) -> int:
        return self.model.config.get_text_config().hidden_size

    def _render_template(self, n_frames: int) -> tuple[str, str]:
        """What stands before and after the text in a prompt with this many frames."""
        content = [{"type": "image"}] * n_frames + [{"type": "text", "text": _SLOT}]
        if self.tokenizer.chat_template:
            prompt = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
        else:
            prompt = self.image_markup * n_frames + _SLOT
        before, after = prompt.split(_SLOT)
        return self._expand_markup(before), after

    def as_read(self, line: str) -> str:
        # Special tokens spelt out in a post must not become real ones: they would forge frames or end the turn.
        return self._special.sub(" ", line)

    def _expand_markup(self, before: str) -> str:
        return before

    def prompts(self, posts: Sequence[Mapping[str, Any]]) -> list[str]:
        """The prompts as text, one image placeholder per frame; text within `max_text_tokens`."""
        out = []
        for post, text in zip(posts, self.texts(posts), strict=True):
            before, after = self._template(len(post["frames"]))
            out.append(before + (text + "\n" if text else "") + INSTRUCTION + after)
        return out

    def encode(self, posts: Sequence[Mapping[str, Any]]) -> list[Encoded]:
        ids = self.tokenizer(self.prompts(posts), add_special_tokens=False, verbose=False)["input_ids"]
        out = []
        for post, row in zip(posts, ids, strict=True):
            frames = self.resized(post)
            counts = tuple(self.visual_tokens(frame) for frame in frames)
            remaining = iter(counts)
            expanded: list[int] = []
            for token in row:
                expanded.extend([token] * (next(remaining) if token == self.image_token_id else 1))
            input_ids = torch.tensor(expanded)
            out.append(Encoded(input_ids, frames, counts, self.positions(input_ids, frames)))
        return out

    def visual_tokens(self, frame: UInt8[Tensor, "3 height width"]) -> int:
        """Placeholder tokens of one frame."""
        raise NotImplementedError

    def positions(self, input_ids: Tensor, frames: Sequence[Tensor]) -> Int[Tensor, "3 token"] | None:
        """Position ids, where the model needs more than the index of a token."""
        return None

    def tower(self, inputs: Mapping[str, Tensor]) -> tuple[Float[Tensor, "visual_token hidden"], ...]:
        """The vision tower's output for `image_inputs`, with gradients: projected output, then deepstack levels."""
        raise NotImplementedError

    def vision_features(self, frames: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return self.tower({key: value.to(self.device) for key, value in self.image_inputs(frames).items()})

    def image_inputs(self, frames: Sequence[UInt8[Tensor, "3 height width"]]) -> dict[str, Tensor]:
        """The model's pixel inputs for some frames."""
        return {"pixel_values": self.frame_processor.normalise(torch.stack(list(frames)))}

    def collate(self, encoded: Sequence[Encoded]) -> dict[str, Tensor]:
        side = self.padding_side
        filler = self.tokenizer.pad_token_id or 0  # any id: padding is masked
        batch = {
            "input_ids": pad([post.input_ids for post in encoded], filler, side),
            "attention_mask": pad([torch.ones_like(post.input_ids) for post in encoded], 0, side),
        }
        if encoded[0].position_ids is not None:
            batch["position_ids"] = pad([post.position_ids for post in encoded], 0, side).transpose(0, 1)
        with_features = [post.features for post in encoded if post.features is not None]
        frames = [frame for post in encoded for frame in post.frames]
        if with_features and frames:
            raise ValueError("a batch holds either frames or cached features, not both")
        if frames:
            batch |= self.image_inputs(frames)
        for level, parts in enumerate(zip(*with_features, strict=True)):
            batch[f"features_{level}"] = torch.cat(parts)
        return batch

    def forward(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "batch hidden"]:
        inputs = {key: value for key, value in batch.items() if not key.startswith("features_")}
        if self.padding_side == "right" and self.causal:  # no token looks at the padding after it
            inputs.pop("attention_mask", None)
        at = self.read_at(batch)
        inputs |= self.extra_inputs(batch) | ({"read_at": at} if self._narrow else {})
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        levels = [batch[f"features_{i}"] for i in range(len(batch)) if f"features_{i}" in batch]
        if levels and not self.features_cacheable:
            raise RadarError("this router adapts the vision tower, whose output was cached before: give it frames.")
        with self._given_features(levels, inputs):
            hidden = self.model(**inputs, use_cache=False).last_hidden_state
        if not self._narrow:
            hidden = hidden[torch.arange(len(hidden), device=hidden.device)[:, None], at.to(hidden.device)]
        return hidden.flatten(0, 1).float()

    def read_at(self, batch: Mapping[str, Tensor]) -> Int[Tensor, "row post"]:
        """The position of the token that stands for each post: its last that is not padding."""
        return last_real_token(batch["attention_mask"])[:, None]

    @contextlib.contextmanager
    def _given_features(self, levels: Sequence[Tensor], inputs: dict[str, Any]) -> Iterator[None]:
        """Let the model take these features for its tower's output, if there are any."""
        if not levels:
            yield
        elif self._takes_features:
            inputs["mm_encoder_outputs"] = {"image": self.wrap_features(levels)}
            yield
        else:  # transformers before it had that argument: the method that would run the tower hands them over
            inputs["pixel_values"] = levels[0]
            self.model.get_image_features = lambda *_, **__: self.wrap_features(levels)
            try:
                yield
            finally:
                del self.model.get_image_features

    def extra_inputs(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        """Inputs that follow from the token ids."""
        return {}

    def wrap_features(self, levels: Sequence[Tensor]) -> Any:
        """Features in the shape of the model's own `get_image_features`."""
        return SimpleNamespace(pooler_output=(levels[0],))
