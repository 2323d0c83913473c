"""One class per model family: its prompt, its visual tokens, its inputs and its pooling.

The three decoder families share `CausalBackbone`: the prompt is the checkpoint's own chat template around the frames,
the post's text and a short instruction; the pooled vector is the last hidden state of the last real token. SigLIP has
two towers and no language model above them, so its pooled vector is the mean of the frame embeddings (a learned vector
when a post has none) joined to the text embedding.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from radar_lib.models.attention import speed_up_vision_tower
from radar_lib.models.base import INSTRUCTION, Backbone, Encoded, last_real_token, pad, post_text
from radar_lib.models.packing import Packing

_SLOT = "@@TEXT@@"  # stands for the post's text while the chat template is rendered


class CausalBackbone(Backbone):
    """A vision tower in front of a decoder: Qwen3-VL, LLaVA-OneVision, Gemma 3."""

    lora_targets = r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    features_cacheable = True
    image_markup = ""  # how the family's processor writes one frame into a prompt, before expansion

    def _prepare(self) -> None:
        self._takes_features = "mm_encoder_outputs" in inspect.signature(self.model.forward).parameters
        self.image_token_id = self.model.config.image_token_id
        tokens = [str(t) for t in self.tokenizer.added_tokens_decoder.values() if t.special]
        self._special = re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) or r"(?!)")
        self._template = lru_cache(maxsize=64)(self._render_template)

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

    def _expand_markup(self, before: str) -> str:
        return before

    def prompts(self, posts: Sequence[Mapping[str, Any]]) -> list[str]:
        """The prompts as text, one image placeholder per frame; text cut at `max_text_tokens`."""
        # Special tokens spelt out in a post must not become real ones: they would forge frames or end the turn.
        texts = [self._special.sub(" ", post_text(post)) for post in posts]
        tokens = self.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        limit = self.max_text_tokens
        texts = [
            text if len(spans) <= limit else text[: spans[limit - 1][1]]
            for text, spans in zip(texts, tokens["offset_mapping"], strict=True)
        ]
        out = []
        for post, text in zip(posts, texts, strict=True):
            before, after = self._template(len(post["frames"]))
            out.append(before + (text + "\n" if text else "") + INSTRUCTION + after)
        return out

    def encode(self, posts: Sequence[Mapping[str, Any]]) -> list[Encoded]:
        ids = self.tokenizer(self.prompts(posts), add_special_tokens=False, verbose=False)["input_ids"]
        out = []
        for post, row in zip(posts, ids, strict=True):
            frames = tuple(self.frame_processor.resize(frame) for frame in post["frames"])
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
        filler = self.tokenizer.pad_token_id
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
        inputs |= self.extra_inputs(batch)
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        levels = [batch[f"features_{i}"] for i in range(len(batch)) if f"features_{i}" in batch]
        with self._given_features(levels, inputs):
            hidden = self.model(**inputs, use_cache=False).last_hidden_state
        return self.pool(hidden, batch).float()

    def pool(
        self, hidden: Float[Tensor, "row token hidden"], batch: Mapping[str, Tensor]
    ) -> Float[Tensor, "post hidden"]:
        """The state that stands for each post."""
        return last_real_token(hidden, batch["attention_mask"])

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


class Qwen3VL(Packing, CausalBackbone):
    """Qwen3-VL: frames of any size, merged patches, deepstack levels, three-row M-RoPE positions."""

    family = "qwen3_vl"
    vision_module = "visual"
    image_markup = "<|vision_start|><|image_pad|><|vision_end|>"

    def _prepare(self) -> None:
        super()._prepare()
        speed_up_vision_tower(self.model.visual)

    def visual_tokens(self, frame: UInt8[Tensor, "3 height width"]) -> int:
        rows, columns = self._merged_grid(frame)
        return rows * columns

    def _merged_grid(self, frame: Tensor) -> tuple[int, int]:
        factor = self.frame_processor.processor.patch_size * self.frame_processor.processor.merge_size
        return frame.shape[1] // factor, frame.shape[2] // factor

    def positions(self, input_ids: Tensor, frames: Sequence[Tensor]) -> Int[Tensor, "3 token"]:
        """M-RoPE: text counts up on all three rows; a frame holds its time, counts its rows and columns, and the text
        after it continues from the larger of the two. Equals `Qwen3VLModel.get_rope_index` (tested)."""
        out = np.empty((3, len(input_ids)), dtype=np.int64)
        image = np.flatnonzero(input_ids.numpy() == self.image_token_id)
        here = i = done = 0  # next position, next token, image tokens placed so far
        for rows, columns in map(self._merged_grid, frames):
            n, first = rows * columns, int(image[done])
            out[:, i:first] = np.arange(here, here + first - i)
            here += first - i
            out[0, first : first + n] = here
            out[1:, first : first + n] = _grid(rows, columns) + here
            here, i, done = here + max(rows, columns), first + n, done + n
        out[:, i:] = np.arange(here, here + len(input_ids) - i)
        return torch.from_numpy(out)

    def image_inputs(self, frames: Sequence[UInt8[Tensor, "3 height width"]]) -> dict[str, Tensor]:
        processor = self.frame_processor.processor
        p, m, t = processor.patch_size, processor.merge_size, processor.temporal_patch_size
        same = len({frame.shape for frame in frames}) == 1
        groups = [torch.stack(list(frames))] if same else [frame[None] for frame in frames]
        patches, grids = [], []
        for group in groups:
            n, _, height, width = group.shape
            x = self.frame_processor.normalise(group)
            x = x.reshape(n, 3, height // p // m, m, p, width // p // m, m, p).permute(0, 2, 5, 3, 6, 1, 4, 7)
            x = x.unsqueeze(6).expand(*x.shape[:6], t, *x.shape[6:])
            patches.append(x.reshape(-1, 3 * t * p * p))
            grids += [[1, height // p, width // p]] * n
        return {"pixel_values": torch.cat(patches), "image_grid_thw": torch.tensor(grids)}

    def tower(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        out = self.model.get_image_features(**inputs, return_dict=True)
        # deepstack levels come frame by frame where `mm_encoder_outputs` exists, and whole before that
        whole = [x if isinstance(x, Tensor) else torch.cat(x) for x in out.deepstack_features]
        return torch.cat(out.pooler_output), *whole

    def wrap_features(self, levels: Sequence[Tensor]) -> Any:
        deepstack = [(level,) if self._takes_features else level for level in levels[1:]]
        return SimpleNamespace(pooler_output=(levels[0],), deepstack_features=deepstack)


@lru_cache(maxsize=256)
def _grid(rows: int, columns: int) -> np.ndarray:
    """Row and column of each cell, in reading order."""
    return np.indices((rows, columns)).reshape(2, -1)


class LlavaOnevision(CausalBackbone):
    """LLaVA-OneVision: each frame is one base tile, with the learned newline vector after it."""

    family = "llava_onevision"
    vision_module = "vision_tower"
    image_markup = "<image>\n"

    def _prepare(self) -> None:
        super()._prepare()
        vision = self.model.config.vision_config
        self._tile_tokens = (vision.image_size // vision.patch_size) ** 2 + 1

    def visual_tokens(self, frame: UInt8[Tensor, "3 height width"]) -> int:
        return self._tile_tokens

    def image_inputs(self, frames: Sequence[UInt8[Tensor, "3 height width"]]) -> dict[str, Tensor]:
        pixels = self.frame_processor.normalise(torch.stack(list(frames)))
        return {
            "pixel_values": pixels[:, None],
            "image_sizes": torch.tensor([frame.shape[1:] for frame in frames]),
            # The model cuts crops for a group of one image; any other count means base tiles. A single frame is
            # therefore announced as a group of two, which the model shortens to the frames there are.
            "batch_num_images": torch.tensor([max(len(frames), 2)]),
        }

    def tower(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        return (torch.cat(list(self.model.get_image_features(**inputs, return_dict=True).pooler_output)),)


class Gemma3(CausalBackbone):
    """Gemma 3: pooled visual tokens that attend to each other in both directions, marked by token types."""

    family = "gemma3"
    vision_module = "vision_tower"
    image_markup = "<start_of_image>"

    def _prepare(self) -> None:
        super()._prepare()
        config, name = self.model.config, self.tokenizer.convert_ids_to_tokens
        self._begin, self._soft = name(config.boi_token_index), name(config.image_token_index)
        self._end = name(config.eoi_token_index)

    def _expand_markup(self, before: str) -> str:
        return before.replace(self._begin, f"\n\n{self._begin}{self._soft}{self._end}\n\n")

    def visual_tokens(self, frame: UInt8[Tensor, "3 height width"]) -> int:
        return self.model.config.mm_tokens_per_image

    def tower(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        pixels = inputs["pixel_values"].to(self.model.dtype)
        return (self.model.get_image_features(pixels, return_dict=True).pooler_output.flatten(0, 1),)

    def extra_inputs(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        return {"token_type_ids": (batch["input_ids"] == self.image_token_id).long()}

    def wrap_features(self, levels: Sequence[Tensor]) -> Any:
        return SimpleNamespace(pooler_output=levels[0].unflatten(0, (-1, self.model.config.mm_tokens_per_image)))


class Siglip(Backbone):
    """SigLIP and fixed-resolution SigLIP 2: one tower for frames, one for text, LoRA on both."""

    family = "siglip"
    lora_targets = r"(text|vision)_model\.encoder\.layers\..*\.(q_proj|k_proj|v_proj|out_proj|fc1|fc2)"
    vision_module = "vision_model"

    def _prepare(self) -> None:
        config = self.model.config
        self._text_length = config.text_config.max_position_embeddings
        self.no_frames = nn.Parameter(torch.zeros(config.vision_config.hidden_size), requires_grad=False)

    @property
    def hidden_size(self) -> int:
        return self.model.config.vision_config.hidden_size + self.model.config.text_config.projection_size

    def own_parameters(self) -> dict[str, nn.Parameter]:
        return {"no_frames": self.no_frames}

    def encode(self, posts: Sequence[Mapping[str, Any]]) -> list[Encoded]:
        # The family is trained on texts padded to full length without a mask, and reads its last position.
        ids = self.tokenizer(
            [post_text(post) for post in posts], padding="max_length", truncation=True, max_length=self._text_length
        )["input_ids"]
        return [
            Encoded(torch.tensor(row), tuple(self.frame_processor.resize(frame) for frame in post["frames"]))
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


FAMILIES: dict[str, type[Backbone]] = {cls.family: cls for cls in (Qwen3VL, LlavaOnevision, Gemma3, Siglip)}
