"""One class per model family: its visual tokens, its inputs, its tower and what of it LoRA adapts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from radar_lib.models import lora
from radar_lib.models.attention import speed_up_vision_tower
from radar_lib.models.base import Backbone
from radar_lib.models.causal import CausalBackbone
from radar_lib.models.packing import Packing
from radar_lib.models.siglip import Siglip


class PatchedFrames(CausalBackbone):
    """Frames of any size as rows of patches, merged after the tower: Qwen-VL's layout."""

    vision_module = "visual"
    image_markup = "<|vision_start|><|image_pad|><|vision_end|>"

    def visual_tokens(self, frame: UInt8[Tensor, "3 height width"]) -> int:
        rows, columns = self._merged_grid(frame)
        return rows * columns

    def _merged_grid(self, frame: Tensor) -> tuple[int, int]:
        factor = self.frame_processor.processor.patch_size * self.frame_processor.processor.merge_size
        return frame.shape[1] // factor, frame.shape[2] // factor

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


class Qwen3VL(Packing, PatchedFrames):
    """Qwen3-VL: deepstack levels, three-row M-RoPE positions."""

    family = "qwen3_vl"
    vision_lora_targets = lora.QWEN3_VL_TOWER

    def _prepare(self) -> None:
        super()._prepare()
        speed_up_vision_tower(self.model.visual)

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


class LlavaOnevision15(PatchedFrames):
    """LLaVA-OneVision-1.5: a RICE-ViT, positions as in any language model. Its repository's own code computes it."""

    family = "llavaonevision1_5"
    key_mapping = {  # the code's `_checkpoint_conversion_mapping`, which transformers 5 no longer reads from a class
        "^visual": "model.visual",
        r"^model(?!\.(language_model|visual))": "model.language_model",
    }
    vision_lora_targets = lora.RICE_TOWER
    decodes_as_transformers = False

    def tower(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        return (self.model.get_image_features(**inputs),)

    def wrap_features(self, levels: Sequence[Tensor]) -> Any:
        return levels[0]


class LlavaOnevision(CausalBackbone):
    """LLaVA-OneVision: each frame is one base tile, with the learned newline vector after it."""

    family = "llava_onevision"
    vision_module = "vision_tower"
    vision_lora_targets = lora.SIGLIP_TOWER
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
    causal = False
    vision_module = "vision_tower"
    vision_lora_targets = lora.SIGLIP_TOWER
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


FAMILIES: dict[str, type[Backbone]] = {
    cls.family: cls for cls in (Qwen3VL, LlavaOnevision, LlavaOnevision15, Gemma3, Siglip)
}
