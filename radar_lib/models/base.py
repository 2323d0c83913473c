"""What every backbone offers: posts in, one vector per post out.

A `Backbone` wraps one transformers model with its tokenizer and its image processor:

    encode    posts -> `Encoded` (token ids and uint8 frames: what can be kept in memory)
    cache_features    frames -> output of the frozen vision tower, once and for all (exact while the tower is frozen)
    collate   list of `Encoded` -> one padded batch of tensors
    forward   batch -> pooled vectors, float32

`causal.py`, `families.py` and `siglip.py` have the model families. Each class states its LoRA targets and how it pools.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor, nn

from radar_lib.data.frames import as_seen
from radar_lib.errors import RadarError
from radar_lib.models.text import (
    DEFAULT_TEXT_TOKENS,
    SHARED,
    TEXT_FIELDS,
    TextLimit,
    allot,
    cut,
    field_tokens,
    join_lines,
    text_lines,
)  # fmt: skip

INSTRUCTION = "Content risk:"
CHUNK = 1024  # texts tokenised at a time where only their lengths are wanted


@dataclass(frozen=True)
class Encoded:
    """One post, ready to be batched. All tensors are on the CPU.

    Attributes:
        input_ids: token ids, image placeholders already expanded.
        frames: resized frames, uint8, channels first; empty once `features` holds the tower's output.
        frame_tokens: number of placeholder tokens of each frame.
        position_ids: three rows of M-RoPE positions (Qwen3-VL only).
        features: the vision tower's output, one tensor per level (the projected output, then any deepstack levels).
    """

    input_ids: Int[Tensor, " token"]
    frames: tuple[UInt8[Tensor, "3 height width"], ...] = ()
    frame_tokens: tuple[int, ...] = ()
    position_ids: Int[Tensor, "3 token"] | None = None
    features: tuple[Float[Tensor, "visual_token hidden"], ...] | None = None

    @property
    def n_tokens(self) -> int:
        """Length of the sequence; batches of similar lengths waste little on padding."""
        return len(self.input_ids)


def pad(rows: Sequence[Tensor], value: int, side: str) -> Tensor:
    """Stack tensors of different last dimension, filling up with `value` on the given side ("left" or "right")."""
    length = max(row.shape[-1] for row in rows)
    gaps = [length - row.shape[-1] for row in rows]
    sides = [(gap, 0) if side == "left" else (0, gap) for gap in gaps]
    return torch.stack([F.pad(row, both, value=value) for row, both in zip(rows, sides, strict=True)])


def last_real_token(attention_mask: Int[Tensor, "batch token"]) -> Int[Tensor, " batch"]:
    """The position of each row's last token that is not padding, on whichever side the padding is."""
    positions = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    return (attention_mask * (positions + 1)).argmax(dim=1)


class FrameProcessor:
    """Runs frames through a checkpoint's own image processor, in two halves that together equal it bit for bit.

    `resize` gives uint8 frames (a quarter of the memory of float pixels). A frame that already has the size that the
    processor would give it only changes layout, which saves the processor's 1 to 3 ms per frame. `normalise` looks each
    channel value up in a table of 256 that the processor itself has computed.
    """

    def __init__(self, processor: Any, *, nested: bool = False):
        self.processor = processor
        self.nested = nested  # LLaVA-OneVision: a post's several frames are base tiles, a single one would be cropped
        self._native: dict[tuple[int, int], bool] = {}
        ramp = np.arange(256, dtype=np.uint8).reshape(1, 1, 256).repeat(3, axis=0)
        if processor.do_rescale:
            ramp = processor.rescale(ramp, processor.rescale_factor)
        if processor.do_normalize:
            ramp = processor.normalize(ramp, processor.image_mean, processor.image_std)
        self._table = np.ascontiguousarray(ramp.reshape(3, 256), dtype=np.float32)

    def resize(self, frame: Image.Image | Tensor) -> UInt8[Tensor, "3 height width"]:
        """One frame at the size that the model sees. A uint8 tensor is taken as a result of this function."""
        if isinstance(frame, Tensor):
            return frame
        frame = as_seen(frame)
        if self._native.get(frame.size):
            return _channels_first(frame)
        out = self._run(frame)
        if frame.size not in self._native:
            raw = _channels_first(frame)
            self._native[frame.size] = raw.shape == out.shape and torch.equal(raw, out)
        return out

    def _run(self, frame: Image.Image) -> UInt8[Tensor, "3 height width"]:
        images = [[frame, frame]] if self.nested else [frame]
        out = self.processor(images, do_rescale=False, do_normalize=False, return_tensors="pt")
        pixels = out["pixel_values"]
        if "image_grid_thw" in out:
            pixels = self._unpatchify(pixels, out["image_grid_thw"][0].tolist())
        return pixels.reshape(-1, *pixels.shape[-3:])[0].to(torch.uint8)

    def _unpatchify(self, patches: Tensor, grid: Sequence[int]) -> Tensor:
        p, m, t = self.processor.patch_size, self.processor.merge_size, self.processor.temporal_patch_size
        _, rows, columns = grid
        x = patches.reshape(rows // m, columns // m, m, m, 3, t, p, p)[:, :, :, :, :, 0]
        return x.permute(4, 0, 2, 5, 1, 3, 6).reshape(3, rows * p, columns * p)

    def normalise(self, frames: UInt8[Tensor, "frame 3 height width"]) -> Float[Tensor, "frame 3 height width"]:
        """Float pixels, as the processor computes them."""
        pixels = frames.numpy()
        out = np.empty(pixels.shape, dtype=np.float32)
        for channel in range(3):
            np.take(self._table[channel], pixels[:, channel], out=out[:, channel], mode="clip")
        return torch.from_numpy(out)


def _channels_first(frame: Image.Image) -> UInt8[Tensor, "3 height width"]:
    return torch.from_numpy(np.array(frame)).permute(2, 0, 1).contiguous()


class Backbone(nn.Module):
    """A transformers model that turns posts into vectors. See the module's docstring; build one with `load_backbone`.

    Attributes:
        checkpoint: what it was loaded from, in a form that `load_backbone` accepts.
        digest: hash of the checkpoint's files (or `id@commit` for a Hub checkpoint).
        text: how much of a post's text is read, as asked for.
        max_text_tokens: what comes of that on this checkpoint, in tokens.
        hidden_size: width of the pooled vector.
        lora_targets: regular expression over module names of `model`: the linear layers that LoRA adapts by default.
        vision_lora_targets: the vision tower's, adapted as well by option; empty where `lora_targets` has them.
        unused_weights: tensors of the files that the model has no place for, such as a language-model head.
        key_mapping: tensor names of the checkpoint's files to the model's, where transformers does not know them.
        features_cacheable: whether the vision tower stays frozen under `lora_targets`, so its output can be cached.
    """

    family = ""
    lora_targets = ""
    vision_lora_targets = ""
    vision_module = ""
    key_mapping: Mapping[str, str] | None = None
    features_cacheable = False
    unused_weights: tuple[str, ...] = ()

    def __init__(
        self, model: nn.Module, tokenizer: Any, image_processor: Any, *, checkpoint: str, digest: str,
        text: TextLimit = SHARED, padding_side: str = "right",
    ):  # fmt: skip
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.frame_processor = FrameProcessor(image_processor, nested=self.family == "llava_onevision")
        self.checkpoint = checkpoint
        self.digest = digest
        self.text = text
        own = min(tokenizer.model_max_length, DEFAULT_TEXT_TOKENS)
        self.max_text_tokens = min(text.tokens or own, self.text_positions())
        self.padding_side = padding_side
        self._prepare()

    def _prepare(self) -> None:
        """Family-specific set-up after construction."""

    def text_positions(self) -> int:
        """The most tokens of text that the checkpoint has positions for."""
        return self.model.config.get_text_config().max_position_embeddings

    def as_read(self, line: str) -> str:
        """A line of a post's text in the form that its tokens are made from."""
        return line

    @property
    def hidden_size(self) -> int:
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def own_parameters(self) -> dict[str, nn.Parameter]:
        """Parameters that pooling adds to the checkpoint's own; trained and saved with the router."""
        return {}

    def train(self, mode: bool = True) -> Backbone:
        """As usual, but a frozen vision tower stays in evaluation mode."""
        super().train(mode)
        if self.features_cacheable:
            self.model.get_submodule(self.vision_module).eval()
        return self

    def texts(self, posts: Sequence[Mapping[str, Any]]) -> list[str]:
        """What is read of each post's text."""
        texts = []
        for lines, spans in self._tokens(posts):
            whole = len(spans) <= self.max_text_tokens
            texts.append(join_lines(lines) if whole else cut(lines, self._allot(field_tokens(lines, spans)), spans))
        return texts

    def tokens_read(
        self, posts: Sequence[Mapping[str, Any]]
    ) -> tuple[Int[np.ndarray, "post field"], Int[np.ndarray, "post field"]]:
        """Tokens of each field of each post, and how many of them are read."""
        chunks = (posts[start : start + CHUNK] for start in range(0, len(posts), CHUNK))  # spans take much memory
        counts = np.array([field_tokens(*both) for chunk in chunks for both in self._tokens(chunk)])
        counts = counts.reshape(len(posts), len(TEXT_FIELDS))
        return counts, self._allot(counts)

    def _allot(self, counts: Int[np.ndarray, "*post field"]) -> Int[np.ndarray, "*post field"]:
        return allot(counts, self.max_text_tokens, self.text.shares)

    def _tokens(self, posts: Sequence[Mapping[str, Any]]) -> Iterator[tuple[list[str], list[tuple[int, int]]]]:
        """Each post's lines, and where in them, joined, its tokens begin and end."""
        rows = [[self.as_read(line) for line in text_lines(post)] for post in posts]
        texts = [join_lines(lines) for lines in rows]
        found = self.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return zip(rows, found["offset_mapping"], strict=True)

    def encode(self, posts: Sequence[Mapping[str, Any]]) -> list[Encoded]:
        """Tokenise and resize. A post has `title`, `ocr_text`, `asr_text` and `frames` (PIL images, may be empty)."""
        raise NotImplementedError

    def resized(self, post: Mapping[str, Any]) -> tuple[UInt8[Tensor, "3 height width"], ...]:
        """A post's frames at the size that the model sees.

        Raises:
            RadarError: the checkpoint's image processor fails; names the post, by its `post_id`, and the frame.
        """
        out = []
        for number, frame in enumerate(post["frames"], start=1):
            try:
                out.append(self.frame_processor.resize(frame))
            except Exception as error:  # of any kind: the processor is the checkpoint's
                kind = type(self.frame_processor.processor).__name__
                what = f"post {post.get('post_id')!r}, frame {number} of {frame.size}: {kind} fails ({error!s:.200})"
                raise RadarError(f"{what}. Take the frame out, or another checkpoint.") from error
        return tuple(out)

    def collate(self, encoded: Sequence[Encoded]) -> dict[str, Tensor]:
        """One padded batch. Rows keep their order."""
        raise NotImplementedError

    def vision_features(
        self, frames: Sequence[UInt8[Tensor, "3 height width"]]
    ) -> tuple[Float[Tensor, "visual_token hidden"], ...]:
        """The tower's output for some frames, levels as in `Encoded.features`."""
        raise NotImplementedError

    @torch.no_grad()
    def cache_features(self, encoded: Sequence[Encoded], *, batch_size: int = 64) -> list[Encoded]:
        """Replace pixels by the frozen vision tower's output, so that no later epoch computes it again.

        Exact while the tower is frozen. A backbone whose tower is trained (`features_cacheable` is False) returns the
        posts unchanged.

        Args:
            batch_size: posts per pass through the tower.
        """
        if not self.features_cacheable:
            return list(encoded)
        out = []
        for start in range(0, len(encoded), batch_size):
            chunk = encoded[start : start + batch_size]
            frames = [frame for post in chunk for frame in post.frames]
            if not frames:
                out.extend(chunk)
                continue
            levels = [level.cpu() for level in self.vision_features(frames)]
            sizes = [sum(post.frame_tokens) for post in chunk]
            parts = list(zip(*(level.split(sizes) for level in levels), strict=True))
            for post, features in zip(chunk, parts, strict=True):
                # clone: a view would keep the whole chunk's output alive
                cached = tuple(feature.clone() for feature in features) if post.frames else None
                out.append(replace(post, frames=(), features=cached))
        return out

    def forward(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "batch hidden"]:
        """Pooled vectors, float32."""
        raise NotImplementedError
