"""One pass over the frames: size, bytes, perceptual hash and plain features of each, decoded once.

The features are the kind that needs no training: colours, edge directions, sharpness, compression, borders. They are
weak on purpose: what a probe finds with them is there for any model to find.
"""

import hashlib
import multiprocessing
from collections.abc import Collection
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from imagehash import phash
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from radar_lib.data.frames import decode, spread
from radar_lib.data.posts import Posts
from radar_lib.data.schema import FRAMES
from radar_lib.data.shards import read_batches, require_bytes

HASH_BITS = 64
PER_POST = 3  # frames that are looked at: the first, the last, and others evenly between them
_CELLS = 6  # along each side of the picture whose edges are averaged
COLOUR_GRID = slice(64, 112)  # where the mean colours of the 4 x 4 grid stand among the features
_COLOURS = 4  # levels per channel of the colour histogram, two bits
COLUMNS = ["post_id", "split", "pipeline", "frames", "frame", "digest", "width", "height", "n_bytes",
           "brightness", "sharpness"]  # fmt: skip


@dataclass(frozen=True)
class FrameScan:
    """What one pass found. Row i of the three belongs together; rows are in the order of posts and frames."""

    table: pd.DataFrame  # COLUMNS; `frames` of the post, `frame`: place; light in grey levels (0 to 255)
    hashes: Bool[np.ndarray, "frame bit"]  # perceptual hash (DCT), HASH_BITS wide
    features: Float[np.ndarray, "frame feature"]  # float32, see `frame_features`


def frame_features(
    small: UInt8[np.ndarray, "frame 32 32 3"], grey: UInt8[np.ndarray, "frame 96 96"]
) -> Float[np.ndarray, "frame feature"]:
    """Plain features of frames at two sizes, all about 0 to 1, float32.

    Square-rooted colour histogram (4 levels a channel), mean colours on a 4 x 4 grid, edges along four directions on
    a 6 x 6 grid, and five numbers on the recording: brightness, log sharpness (variance of the Laplacian), blockiness
    (steps at every eighth pixel against all steps), darkness of the horizontal and of the vertical border.
    """
    n = len(small)
    two_bits = (small >> 6).reshape(n, -1, 3)
    level = (two_bits[..., 0] << 4 | two_bits[..., 1] << 2 | two_bits[..., 2]).astype(np.intp)
    place = level + _COLOURS**3 * np.arange(n)[:, None]
    counts = np.bincount(place.ravel(), minlength=n * _COLOURS**3).reshape(n, -1)
    colours = np.sqrt(counts / level.shape[1])
    grid = _pooled(small.astype(np.float32).transpose(0, 3, 1, 2), 4).reshape(n, -1) / 255
    grey = grey.astype(np.float32)
    return np.concatenate([colours, grid, _edges(grey), _recording(grey)], axis=1).astype(np.float32)


def _pooled(pictures: np.ndarray, cells: int) -> np.ndarray:
    """Means on a cells x cells grid of (..., side, side); as matrix products, which are faster than sums by axis."""
    side = pictures.shape[-1]
    pool = np.repeat(np.eye(cells, dtype=np.float32), side // cells, axis=1) * (cells / side)
    return pool @ (pictures @ pool.T)


def _edges(grey: np.ndarray) -> np.ndarray:
    coarse = grey[:, ::2, ::2] + grey[:, 1::2, ::2] + grey[:, ::2, 1::2] + grey[:, 1::2, 1::2]
    dy, dx = np.zeros_like(coarse), np.zeros_like(coarse)
    dy[:, 1:-1], dx[:, :, 1:-1] = coarse[:, 2:] - coarse[:, :-2], coarse[:, :, 2:] - coarse[:, :, :-2]
    # How steep along the two axes and the two diagonals.
    steep = [_pooled(np.abs(slope), _CELLS) for slope in (dx, dy, dx + dy, dx - dy)]
    values = np.stack(steep, axis=1).reshape(len(grey), -1)
    return np.sqrt(values / (values.sum(1, keepdims=True) + 1e-6))


def _recording(grey: np.ndarray) -> np.ndarray:
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    laplacian = (4 * grey[:, 1:-1, 1:-1] - around).reshape(len(grey), -1)  # its mean is about 0
    steps = np.abs(grey[:, :, 1:] - grey[:, :, :-1])
    at_eighth = steps[:, :, 7::8].mean((1, 2)) / (steps.reshape(len(grey), -1).mean(1) + 1e-6)
    light = grey.reshape(len(grey), -1).mean(1) / 255
    sharpness = np.log1p(np.einsum("np,np->n", laplacian, laplacian) / laplacian.shape[1]) / 10
    across = 1 - (grey[:, :2].mean((1, 2)) + grey[:, -2:].mean((1, 2))) / 510
    along = 1 - (grey[:, :, :2].mean((1, 2)) + grey[:, :, -2:].mean((1, 2))) / 510
    return np.stack([light, sharpness, at_eighth / 2, across, along], axis=1)


def scan_frames(posts: Posts, *splits: str, keep: Collection[str] | None = None, workers: int = 1) -> FrameScan:
    """Scan `PER_POST` frames of each post of these splits (of all, if none is named), a batch of posts at a time.

    Args:
        keep: ids of the posts to look at; all, if None.
        workers: processes; they share the shards.

    Frames with equal bytes in one shard are decoded once. Large JPEGs are decoded at a fraction of their size, which
    keeps what hashes and features see.
    """
    shards = posts.shards(*splits)
    look = partial(_scan_shard, keep=keep)
    if workers > 1 and len(shards) > 1:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers, len(shards)), mp_context=context) as pool:
            scans = list(pool.map(look, shards))
    else:
        scans = [look(shard) for shard in shards]
    scans = [scan for scan in scans if len(scan.table)] or scans[:1]
    return FrameScan(
        pd.concat([scan.table for scan in scans], ignore_index=True),
        np.concatenate([scan.hashes for scan in scans]),
        np.concatenate([scan.features for scan in scans]),
    )


def _scan_shard(shard: Path, *, keep: Collection[str] | None) -> FrameScan:
    rows: list[dict[str, Any]] = []
    hashes: list[np.ndarray] = []
    parts: list[np.ndarray] = []
    place_of: dict[str, int] = {}
    for batch in read_batches(shard, columns=["post_id", "split", "pipeline", FRAMES]):
        fresh: list[tuple[np.ndarray, np.ndarray]] = []
        for post in require_bytes(batch, shard).to_pylist():
            if keep is not None and post["post_id"] not in keep:
                continue
            frames = post.pop(FRAMES)
            for frame in spread(len(frames), PER_POST):
                data = frames[frame]["bytes"]
                digest = hashlib.sha256(data).hexdigest()[:16]
                if digest not in place_of:
                    place_of[digest] = len(hashes)
                    size, bits, *pictures = _look(data)
                    hashes.append(np.r_[size, bits])
                    fresh.append(tuple(pictures))
                width, height = hashes[place_of[digest]][:2]
                rows.append(post | {"frames": len(frames), "frame": frame, "digest": digest, "width": int(width),
                                    "height": int(height), "n_bytes": len(data)})  # fmt: skip
        if fresh:
            parts.append(frame_features(*(np.stack(pictures) for pictures in zip(*fresh, strict=True))))
    if not rows:
        return FrameScan(pd.DataFrame(columns=COLUMNS), np.empty((0, HASH_BITS), bool), np.empty((0, 0), np.float32))
    table = pd.DataFrame(rows)
    place = table["digest"].map(place_of).to_numpy()
    features = np.concatenate(parts)[place]
    brightness, sharpness = features[:, -5], features[:, -4]
    table["brightness"], table["sharpness"] = 255 * brightness, np.expm1(10 * sharpness)
    return FrameScan(table[COLUMNS], np.stack(hashes)[place, 2:].astype(bool), features)


def _look(data: bytes) -> tuple[tuple[int, int], np.ndarray, np.ndarray, np.ndarray]:
    """Size, hash, and the two pictures that `frame_features` takes."""
    image = decode(data, about=192)
    seen = image.pictures[0]
    grey = seen.convert("L")
    bits = phash(grey.resize((32, 32), Image.Resampling.BOX)).hash.ravel()  # 32 is the size that it looks at
    small = seen.resize((32, 32), Image.Resampling.BOX)
    return image.size, bits, np.asarray(small), np.asarray(grey.resize((96, 96), Image.Resampling.BOX))


def post_features(scan: FrameScan, post_ids: pd.Series) -> Float[np.ndarray, "post feature"]:
    """One row per post, float32: mean and maximum over its frames, mean change from frame to frame, number of frames.

    Posts without frames are rows of zeros; the number of frames tells them apart.
    """
    n_features = scan.features.shape[1]
    out = np.zeros((len(post_ids), 3 * n_features + 1), np.float32)
    if not len(scan.table):
        return out
    owner = scan.table["post_id"].map(pd.Series(np.arange(len(post_ids)), index=post_ids.to_numpy())).to_numpy()
    kept = np.flatnonzero(~np.isnan(owner))
    owner = owner[kept].astype(np.intp)
    starts = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]]) if len(owner) else np.empty(0, np.intp)
    values, who = scan.features[kept], owner[starts]
    counts = np.diff(np.r_[starts, len(owner)])
    change = np.abs(np.diff(values, axis=0, prepend=values[:1]))
    change[starts] = 0
    out[who, :n_features] = np.add.reduceat(values, starts) / counts[:, None]
    out[who, n_features : 2 * n_features] = np.maximum.reduceat(values, starts)
    out[who, 2 * n_features : -1] = np.add.reduceat(change, starts) / np.maximum(counts - 1, 1)[:, None]
    out[who, -1] = counts / 5
    return out
