"""Frozen features of posts that are drawn, encoded and forgotten: a pool of posts never lies on disk.

A worker draws a slice of a selection, passes it through the frozen backbone and keeps the pooled vectors, one cache
entry per slice, so that a killed study goes on with the slices that are missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from radar_lib.data.frames import picture
from radar_lib.data.posts import FRAMES
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

SLICE = 512  # posts per entry
FILE = "features.npy"

Job = tuple["Place", CorpusConfig, Selection, Entry]


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

    def entry(self, config: CorpusConfig, number: int) -> Entry:
        """Cache entry of one slice of a pool."""
        return self.cache.entry("pools", self.inputs(config) | {"slice": number})

    def inputs(self, config: CorpusConfig) -> dict[str, Any]:
        """What decides the features of a pool with these settings, known before anything is drawn."""
        return {
            "posts": corpus_digest(config), "checkpoint": checkpoint_digest(self.checkpoint),
            "device": self.device.split(":")[0], "code": digest_sources(__name__),
            "packages": {package: version(package) for package in DECIDING_PACKAGES},
        }  # fmt: skip


def frozen_features(
    place: Place, pools: Sequence[tuple[CorpusConfig, Sequence[Selection]]], *, workers: int
) -> list[Float[np.ndarray, "post hidden"]]:
    """Pooled vectors (float32) of each pool's posts, in the order of its selections; from the cache where they are.

    Raises:
        RadarError: a worker died, or the disk is full.
    """
    every: list[list[Job]] = []
    for config, selections in pools:
        parts = [whole.take(slice(i, i + SLICE)) for whole in selections for i in range(0, len(whole), SLICE)]
        every.append([(place, config, part, place.entry(config, number)) for number, part in enumerate(parts)])
    missing = [job for jobs in every for job in jobs if not job[-1].complete]
    total = sum(len(posts) for _, _, posts, _ in missing)
    with tqdm(total=total, desc="posts drawn and encoded", unit=" posts", disable=not missing, mininterval=2) as bar:
        for count in side_by_side(encode_slice, missing, workers=workers if place.device == "cpu" else 1):
            bar.update(count)
    files = [[entry.path(FILE) for *_, entry in jobs] for jobs in every]
    return [np.concatenate([np.load(file, allow_pickle=False) for file in its]) for its in files]


def encode_slice(place: Place, config: CorpusConfig, posts: Selection, entry: Entry) -> int:
    """Keep the pooled vectors of some posts of a selection; returns how many posts."""

    def work(folder: Path) -> dict[str, Any]:
        vectors = pooled_vectors(place, config, posts)
        np.save(folder / FILE, vectors, allow_pickle=False)
        return {"posts": len(vectors), "width": vectors.shape[1], "config": asdict(config)}

    entry.make(work)
    return len(posts)


def pooled_vectors(place: Place, config: CorpusConfig, posts: Selection) -> Float[np.ndarray, "post hidden"]:
    """Draw some posts of a selection and pass them through the frozen backbone (float32)."""
    model = _backbone(place.checkpoint, place.device)
    rows = list(render_posts(config, posts, 0, len(posts)))
    for row in rows:
        row[FRAMES] = [picture(frame) for frame in row[FRAMES]]
    inputs = EncodedPosts.in_memory(model, model.cache_features(model.encode(rows)))
    return predict(model, inputs, batch_size=inputs.at_once, device=place.device).astype(np.float32)


@lru_cache(maxsize=1)
def _backbone(checkpoint: str, device: str) -> Backbone:
    return load_backbone(checkpoint, dtype=weights_dtype(device), device=device)


