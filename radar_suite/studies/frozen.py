"""Frozen features of posts that are drawn, encoded and forgotten: a pool of posts never lies on disk.

A worker draws a slice of a selection, passes it through the frozen backbone and keeps the pooled vectors, one file per
slice, so that a killed study goes on with the slices that are missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from radar_lib.data.frames import picture
from radar_lib.data.posts import FRAMES
from radar_lib.files import atomic_path
from radar_lib.models.backbones import BACKBONES, Backbone, checkpoint_digest, load_backbone
from radar_lib.sources import digest_sources
from radar_lib.training.cache import Cache, Entry
from radar_lib.training.encoded import EncodedPosts
from radar_lib.training.encoder import DECIDING_PACKAGES
from radar_lib.training.inference import predict, weights_dtype
from radar_lib.training.workers import side_by_side
from radar_suite.world.build import render_posts
from radar_suite.world.dials import CorpusConfig, corpus_digest
from radar_suite.world.pipelines import Selection
from radar_suite.world.standins import resolve

SLICE = 512  # posts per file
FILE = "features.npy"


@dataclass(frozen=True)
class Place:
    """Where and with what features are computed."""

    cache: Cache  # where they are kept
    backbone: str  # the paper's name
    checkpoints: str  # 'standins', 'hub', or a folder of checkpoint folders
    device: str  # 'cpu' or 'cuda'

    @property
    def checkpoint(self) -> str:
        return resolve(BACKBONES[self.backbone], self.checkpoints)

    def entry(self, config: CorpusConfig) -> Entry:
        """Cache entry of the features of a pool with these settings, known before anything is drawn."""
        inputs = {
            "posts": corpus_digest(config), "checkpoint": checkpoint_digest(self.checkpoint),
            "device": self.device.split(":")[0], "code": digest_sources(__name__),
            "packages": {package: version(package) for package in DECIDING_PACKAGES},
        }  # fmt: skip
        return self.cache.entry("pools", inputs)


def frozen_features(
    place: Place, pools: Sequence[tuple[CorpusConfig, Sequence[Selection]]], *, workers: int
) -> list[Float[np.ndarray, "post hidden"]]:
    """Pooled vectors (float32) of each pool's posts, in the order of its selections; from the cache where they are.

    Raises:
        RadarError: a worker died, or the disk is full.
    """
    entries = [place.entry(config) for config, _ in pools]
    jobs: list[tuple[Entry, list[tuple[Place, CorpusConfig, Selection, Path]]]] = []
    for entry, (config, selections) in zip(entries, pools, strict=True):
        if not entry.complete:
            parts = [whole.take(slice(i, i + SLICE)) for whole in selections for i in range(0, len(whole), SLICE)]
            jobs.append((entry, [(place, config, part, entry.path(f"{n:04d}.npy")) for n, part in enumerate(parts)]))
    missing = [job for _, ours in jobs for job in ours if not job[-1].exists()]
    total = sum(len(posts) for _, _, posts, _ in missing)
    with tqdm(total=total, desc="posts drawn and encoded", unit=" posts", disable=not missing, mininterval=2) as bar:
        for count in side_by_side(encode_slice, missing, workers=workers if place.device == "cpu" else 1):
            bar.update(count)
    for entry, ours in jobs:
        files = [path for *_, path in ours]
        joined = np.concatenate([np.load(path, allow_pickle=False) for path in files])
        _save(entry.path(FILE), joined)
        for path in files:
            path.unlink()
        entry.finish({"posts": len(joined), "width": joined.shape[1], "config": asdict(ours[0][1])})
    return [np.load(entry.path(FILE), allow_pickle=False) for entry in entries]


def encode_slice(place: Place, config: CorpusConfig, posts: Selection, path: Path) -> int:
    """Draw some posts of a selection and keep their pooled vectors; returns how many posts."""
    model = _backbone(place.checkpoint, place.device)
    rows = list(render_posts(config, posts, 0, len(posts)))
    for row in rows:
        row[FRAMES] = [picture(frame) for frame in row[FRAMES]]
    inputs = EncodedPosts.in_memory(model, model.cache_features(model.encode(rows)))
    _save(path, predict(model, inputs, batch_size=inputs.at_once, device=place.device))
    return len(rows)


@lru_cache(maxsize=1)
def _backbone(checkpoint: str, device: str) -> Backbone:
    return load_backbone(checkpoint, dtype=weights_dtype(device), device=device)


def _save(path: Path, array: Float[np.ndarray, "post hidden"]) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.save(file, array.astype(np.float32), allow_pickle=False)
