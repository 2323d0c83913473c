"""Posts encoded for one backbone and kept on disk: token ids, positions, and the frozen vision tower's output.

The tower is most of the work of a forward pass and the same in every epoch, run and notebook, so each split passes
through it once per checkpoint. The arrays are memory-mapped: all runs and processes share one copy, and a run holds
only the batches that it reads.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from jaxtyping import Int
from torch import Tensor

from radar_lib.data.frames import frame_fault
from radar_lib.data.schema import FRAMES
from radar_lib.errors import RadarError
from radar_lib.files import read_json, read_sealed, remove_folder
from radar_lib.models.base import Backbone, Encoded
from radar_lib.training.cache import RECORD, Entry
from radar_lib.training.ranks import rank_and_size, sum_over_processes

CHUNK = 128  # posts per pass through the tower; fixed, because the last bits of its output depend on it
STALE_S = 86_400.0  # what nobody has opened for so long, and nothing will ask for again, is removed


@dataclass(frozen=True)
class EncodedPosts:
    """Posts as one backbone takes them; a batch is padded when it is asked for.

    Attributes:
        posts: the encoded posts, in memory or on disk.
        all_lengths: number of tokens of each of them.
        rows: which of them these are, in order; None for all.
    """

    backbone: Backbone
    posts: Sequence[Encoded]
    all_lengths: Int[np.ndarray, " post"]
    rows: Int[np.ndarray, " row"] | None = None
    at_once: ClassVar[int] = 128  # posts per batch where nothing is trained

    @classmethod
    def in_memory(cls, backbone: Backbone, posts: Sequence[Encoded]) -> EncodedPosts:
        return cls(backbone, posts, np.array([post.n_tokens for post in posts]))

    @classmethod
    def stored(cls, backbone: Backbone, folder: Path) -> EncodedPosts:
        return cls(backbone, posts := StoredPosts(folder), posts.lengths)

    @property
    def lengths(self) -> Int[np.ndarray, " row"]:
        return self.all_lengths if self.rows is None else self.all_lengths[self.rows]

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Padded model inputs of these posts."""
        return self.backbone.collate(self.take(indices if self.rows is None else self.rows[np.asarray(indices)]))

    def batches(self, plan: Iterable[Sequence[int]]) -> Iterator[dict[str, Tensor]]:
        """The batch of each entry of `plan`, in order; in processes of its own where posts are streamed."""
        return map(self.batch, plan)

    def take(self, positions: Sequence[int]) -> list[Encoded]:
        """Posts by position among all, whatever `rows` says."""
        return [self.posts[int(i)] for i in positions]

    def subset(self, rows: Sequence[int]) -> EncodedPosts:
        """Some of the posts, by position; nothing is copied."""
        rows = np.asarray(rows)
        return replace(self, rows=rows if self.rows is None else self.rows[rows])


def chunks(backbone: Backbone, dataset: Dataset) -> Iterator[list[Encoded]]:
    """Encode a `datasets` split chunk by chunk, with the tower's output where the tower is frozen."""
    for rows in row_chunks(dataset):
        yield backbone.cache_features(backbone.encode(rows))


def row_chunks(dataset: Dataset) -> Iterator[list[dict[str, Any]]]:
    """A split's rows, `CHUNK` at a time, their frames decoded."""
    for start in range(0, len(dataset), CHUNK):
        batch = read_rows(dataset, range(start, min(start + CHUNK, len(dataset))))
        yield [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]


def read_rows(dataset: Dataset, at: Sequence[int], *columns: str) -> dict[str, list[Any]]:
    """Rows of a split by position, in some columns (in all, if none is named).

    Raises:
        RadarError: a frame cannot be decoded; names the post and the frame.
    """
    try:
        return (dataset.select_columns(list(columns)) if columns else dataset)[at]
    except RadarError:
        stored = dataset.select_columns(["post_id", FRAMES]).with_format("arrow")
        for post in itertools.chain.from_iterable(stored[[int(i)]].to_pylist() for i in at):
            for number, frame in enumerate(post[FRAMES], start=1):
                if what := frame_fault(frame["bytes"]):
                    raise RadarError(f"post {post['post_id']!r}, frame {number}: {what}.") from None
        raise


class StoredPosts(Sequence[Encoded]):
    """Encoded posts in a finished cache entry, read by position from memory-mapped arrays."""

    def __init__(self, folder: Path):
        shapes = read_sealed(folder / RECORD)["arrays"]
        self._arrays = {name: _map(folder / f"{name}.bin", **about) for name, about in shapes.items()}
        counts = (self._arrays[name] for name in ("n_tokens", "n_visual", "n_frames"))
        self._tokens, self._visual, self._frames = (np.concatenate([[0], np.cumsum(count)]) for count in counts)
        self._levels = [self._arrays[name] for name in sorted(shapes) if name.startswith("features_")]

    @property
    def lengths(self) -> Int[np.ndarray, " post"]:
        return np.diff(self._tokens)

    def __len__(self) -> int:
        return len(self._tokens) - 1

    def __getitem__(self, i: int) -> Encoded:
        tokens, visual = slice(*self._tokens[i : i + 2]), slice(*self._visual[i : i + 2])
        positions = self._arrays.get("position_ids")
        has_frames = self._frames[i + 1] > self._frames[i]
        return Encoded(
            torch.from_numpy(self._arrays["input_ids"][tokens]),
            frame_tokens=tuple(self._arrays["frame_tokens"][slice(*self._frames[i : i + 2])].tolist()),
            position_ids=None if positions is None else torch.from_numpy(positions[tokens].T),
            features=tuple(torch.from_numpy(level[visual]) for level in self._levels) if has_frames else None,
        )


def _map(path: Path, *, dtype: str, shape: list[int]) -> np.ndarray:
    if 0 in shape:  # an empty file cannot be mapped
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, mode="c", shape=tuple(shape))  # c: writable for torch, never written back


class Store(ExitStack):
    """Writes encoded posts to a folder, chunk by chunk, until it is closed.

    Attributes:
        arrays: what the folder's record says of them, so far.
    """

    def __init__(self, folder: Path):
        super().__init__()
        self.arrays: dict[str, dict[str, Any]] = {}
        self._folder, self._files = folder, {}

    def add(self, chunk: Sequence[Encoded]) -> None:
        for name, array in _arrays(chunk).items():
            if name not in self._files:
                self._files[name] = self.enter_context(open(self._folder / f"{name}.bin", "wb"))
            array.tofile(self._files[name])
            seen = self.arrays.setdefault(name, {"dtype": array.dtype.str, "shape": [0, *array.shape[1:]]})
            seen["shape"][0] += len(array)


def store(posts: Iterable[Sequence[Encoded]], folder: Path) -> dict[str, Any]:
    """Write encoded posts, given chunk by chunk, to a folder; returns what its record says of the arrays."""
    with Store(folder) as kept:
        for chunk in posts:
            kept.add(chunk)
    return {"arrays": kept.arrays}


def _arrays(chunk: Sequence[Encoded]) -> dict[str, np.ndarray]:
    """A chunk's posts end to end, with the counts that take them apart again."""
    out = {
        "input_ids": torch.cat([post.input_ids for post in chunk]).numpy(),
        "n_tokens": np.array([post.n_tokens for post in chunk]),
        "n_frames": np.array([len(post.frame_tokens) for post in chunk]),
        "n_visual": np.array([sum(post.frame_tokens) for post in chunk]),
        "frame_tokens": np.array([n for post in chunk for n in post.frame_tokens], dtype=np.int64),
    }
    if chunk[0].position_ids is not None:
        out["position_ids"] = torch.cat([post.position_ids for post in chunk], dim=1).T.contiguous().numpy()
    features = [post.features for post in chunk if post.features is not None]
    for level, parts in enumerate(zip(*features, strict=True)):
        out[f"features_{level}"] = torch.cat(parts).float().numpy()  # exact for bfloat16, which numpy lacks
    return out


def keep(
    backbone: Backbone, read: Callable[[], Iterator[list[Encoded]]], entry: Entry, *, fits: Callable[[int], bool],
    device: str,
) -> EncodedPosts | None:  # fmt: skip
    """A split's encoded posts: on disk, or in memory where the tower is trained; None where they do not fit there.

    Args:
        read: encodes the posts, chunk by chunk.
        entry: where they are kept on disk; once written it serves all runs and processes.
        fits: whether there is room where so many processes each keep them.
    """
    rank, processes = rank_and_size()
    if not backbone.features_cacheable:
        # one streams, all do: they share batches, whose size depends on it
        if sum_over_processes(np.array([not fits(processes)], np.int64), device=device)[0]:
            return None
        return EncodedPosts.in_memory(backbone, [post for chunk in read() for post in chunk])
    kept = False
    if rank == 0:  # it alone decides; the others wait
        with suppress(FileNotFoundError):
            os.utime(entry.path(RECORD))  # in use
        kept = entry.complete
        if not kept and fits(1):
            kept = bool(entry.make(lambda folder: store(read(), folder)))
            forget_stale(entry)
    if not sum_over_processes(np.array([kept], np.int64), device=device)[0]:
        return None
    return EncodedPosts.stored(backbone, entry.folder)


def forget_stale(entry: Entry) -> None:
    """Remove what older code or packages left for the same posts and checkpoint, unless somebody still works with it.

    Two chains with different code may share a cache, so what was opened a short while ago stays.
    """
    same = {key: entry.inputs[key] for key in ("posts", "text", "split", "checkpoint", "device")}
    for record in entry.folder.parent.glob(f"*/{RECORD}"):
        with suppress(RadarError, KeyError, FileNotFoundError):  # of another shape, or removed meanwhile
            other, idle = read_json(record)["inputs"], time.time() - record.stat().st_mtime
            alike = all(other.get(key, value) == value for key, value in same.items())
            if alike and idle > STALE_S and record.parent != entry.folder:
                remove_folder(record.parent)
