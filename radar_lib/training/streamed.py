"""Posts that are decoded and tokenised when a batch asks for them: for splits whose encoded form is too large to keep.

1.7M posts through an 8B model's tower are tens of terabytes. Streamed, a process holds the batches under way and
nothing else, whatever the number of posts; worker processes decode ahead where the model runs on a GPU. A streamed
batch holds the pixels of the posts that a kept one holds the tower's output of, and batches are made of the same
posts, so both modes give the same logits up to float rounding.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
import torch
from datasets import Dataset
from jaxtyping import Int
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from radar_lib.data.frames import frame_size
from radar_lib.data.posts import FRAMES, TEXT_COLUMNS, open_posts
from radar_lib.models.base import Backbone, Encoded
from radar_lib.training.encoded import CHUNK, EncodedPosts, read_rows

MOST_WORKERS = 16  # per device; 2B inference eats about 200 frames of 1080 px a second, a core decodes some 50
SAMPLE = 32  # posts that tell how large the others will be
DISK_SHARE, MEMORY_SHARE = 0.5, 0.25  # of what is free: the most that one split's encoded posts may take

Retouch = Callable[[list[Image.Image]], list[Image.Image]]


@dataclass(frozen=True)
class Rows:
    """Texts and frames of a split by position; any field may come from another post, or be left empty.

    Attributes:
        sources: for a text column or `frames`, the post that each post takes it from; None leaves it empty.
        retouch: changes each post's frames after decoding; a function of a module, so that workers can import it.
    """

    folder: Path
    split: str
    sources: Mapping[str, Int[np.ndarray, " post"] | None] = field(default_factory=dict)
    retouch: Retouch | None = None

    @cached_property
    def _dataset(self) -> Dataset:
        return open_posts(self.folder).split(self.split)

    def __len__(self) -> int:
        return len(self._dataset)

    def read(self, positions: Sequence[int], *, sizes_only: bool = False) -> list[dict[str, Any]]:
        """Posts as `Backbone.encode` takes them; with `sizes_only`, frames are (width, height) from their headers."""
        posts: list[dict[str, Any]] = [{} for _ in positions]
        for name in ("post_id", *TEXT_COLUMNS, FRAMES):
            source = self.sources.get(name, positions)
            if source is None:
                values: Iterable[Any] = ([] if name == FRAMES else "" for _ in positions)
            else:
                at = np.asarray(positions if name not in self.sources else source[np.asarray(positions)]).tolist()
                if name == FRAMES and sizes_only:
                    stored = self._dataset.select_columns([name]).with_format("arrow")[at][name].to_pylist()
                    values = [[frame_size(frame["bytes"]) for frame in frames] for frames in stored]
                else:
                    values = read_rows(self._dataset, at, name)[name]
            for post, value in zip(posts, values, strict=True):
                post[name] = self.retouch(value) if name == FRAMES and self.retouch and not sizes_only else value
        return posts


def encode_blank(backbone: Backbone, posts: Sequence[Mapping[str, Any]]) -> list[Encoded]:
    """Posts of `Rows.read(sizes_only=True)` with black frames: token ids, positions and counts are the true ones."""
    resized = lru_cache(lambda size: backbone.frame_processor.resize(Image.new("RGB", size)))
    return backbone.encode([{**post, FRAMES: [resized(size) for size in post[FRAMES]]} for post in posts])


@dataclass(frozen=True)
class StreamedPosts(EncodedPosts):
    """As `EncodedPosts`, with `posts` being `Rows` that are read and encoded anew each time.

    Attributes:
        workers: processes that make batches ahead; 0 makes them in this one.
    """

    posts: Rows
    workers: int = 0
    at_once: ClassVar[int] = 32  # float pixels: about 15 MB a post with four frames of 384 px

    @classmethod
    def open(
        cls, backbone: Backbone, rows: Rows, *, positions: Sequence[int] | None = None, workers: int = 0
    ) -> StreamedPosts:
        """Some of the posts, or all. Texts and the headers of frames are read, for the lengths; no pixel is decoded."""
        some = np.arange(len(rows)) if positions is None else np.asarray(positions)
        posts = cls(backbone, rows, np.zeros(len(rows), np.int64), None if positions is None else some, workers)
        chunks = np.split(some, range(CHUNK, len(some), CHUNK))
        posts.all_lengths[some] = np.concatenate(list(posts._each(_lengths, chunks)))
        return posts

    def take(self, positions: Sequence[int]) -> list[Encoded]:
        return self.backbone.encode(self.posts.read(positions))

    def batches(self, plan: Iterable[Sequence[int]]) -> Iterator[dict[str, Tensor]]:
        return self._each(EncodedPosts.batch, plan)

    def _each(self, function: Callable[[StreamedPosts, Sequence[int]], Any], plan: Iterable[Sequence[int]]) -> Any:
        if not self.workers:
            return (function(self, indices) for indices in plan)
        return iter(
            DataLoader(
                list(plan), batch_size=None, collate_fn=partial(function, self), num_workers=self.workers,
                multiprocessing_context="spawn", prefetch_factor=1, pin_memory=self.backbone.device.type == "cuda",
            )
        )  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        """The backbone goes without its weights to processes that only encode and collate: a few 100 KB."""
        backbone = self.backbone
        names = ("checkpoint", "digest", "text", "padding_side")
        shell = {
            "kind": type(backbone), "model": type(backbone.model), "config": backbone.model.config,
            "parts": (backbone.tokenizer, backbone.frame_processor.processor),
            "options": {name: getattr(backbone, name) for name in names},
            "packing": getattr(backbone, "packing", False),
        }  # fmt: skip
        return {**self.__dict__, "backbone": shell}

    def __setstate__(self, state: dict[str, Any]) -> None:
        shell = state["backbone"]
        with torch.device("meta"):
            model = shell["model"](shell["config"])
        backbone = shell["kind"](model, *shell["parts"], **shell["options"])
        if shell["packing"]:
            backbone.pack(True)
        self.__dict__.update(state | {"backbone": backbone})


def _lengths(posts: StreamedPosts, positions: Sequence[int]) -> Int[np.ndarray, " post"]:
    blank = encode_blank(posts.backbone, posts.posts.read(positions, sizes_only=True))
    return np.array([post.n_tokens for post in blank])


def workers_for(device: str) -> int:
    """Processes that decode for a device: on a CPU none, as the model itself takes all cores."""
    each = (os.cpu_count() or 1) // max(1, torch.cuda.device_count())
    return 0 if device == "cpu" else max(1, min(MOST_WORKERS, each))


def encoded_size(backbone: Backbone, rows: Rows) -> int:
    """Bytes that a split takes once encoded (tower's outputs, or frames where it is trained), from a sample of it."""
    sample = np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(int)
    encoded = backbone.cache_features(backbone.encode(rows.read(sample)))
    tensors = [t for post in encoded for t in (post.input_ids, *post.frames, *(post.features or ()))]
    sizes = [t.numel() * (4 if t.is_floating_point() else t.element_size()) for t in tensors]  # kept in float32
    return sum(sizes) * len(rows) // len(sample)


def room_for(backbone: Backbone, folder: Path) -> int:
    """The most bytes that a split may take: half of the cache's free disk, or a quarter of the free memory."""
    if not backbone.features_cacheable:
        return int(MEMORY_SHARE * psutil.virtual_memory().available)
    existing = next(path for path in (folder, *folder.parents) if path.exists())  # the cache's may not exist yet
    return int(DISK_SHARE * psutil.disk_usage(str(existing)).free)
