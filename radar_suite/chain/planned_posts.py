"""Which posts `radar plan` reckons with: those of a folder, of the built-in corpus, public ones, or the paper's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyarrow.parquet import ParquetFile

from radar_lib.data.posts import FRAMES, LABEL_PREFIX
from radar_lib.data.posts import Posts as CorpusFolder
from radar_suite.world.dials import CorpusConfig

PAPER = {"train": 1_700_000, "validation": 17_000, "test": 75_000}  # validation: not stated, 1 % is assumed
SAMPLE = 256  # posts of a corpus folder whose frames are counted


@dataclass(frozen=True)
class Posts:
    """What is fed in: posts by split, their risks, and the mean shape of a post.

    Attributes:
        splits: number of posts by split.
        categories: number of risks, and so of experts.
        violations: violating test posts per risk.
        frames, px, words: per post, frames, pixels along a frame's side, and tokens besides the visual ones.
        built: drawn by the chain itself, so building counts.
    """

    splits: Mapping[str, int]
    categories: int
    violations: float
    frames: float
    px: int
    words: float
    built: bool = False
    audited: int = 40_000

    def count(self, *splits: str) -> int:
        return sum(self.splits.get(split, 0) for split in splits)


def posts_of(values: Mapping[str, Any], *, paper: bool, train: int | None, stored: CorpusFolder | None) -> Posts:
    """The posts of a run.

    Args:
        values: parameters of all notebooks by name.
        paper: the paper's own posts, which nobody else has: `PAPER`, four 384 px frames and 128 tokens each.
        train: number of training posts instead of the profile's.
        stored: a corpus folder of the user's: risks, split sizes and frames are read from it.
    """
    given = {"train": train} if train else {}
    standins = values.get("checkpoints") == "standins"
    px, audited = 96 if standins else 384, values.get("audited_posts", 0)
    if stored is not None:
        violations = 0.0
        if "test" in stored.splits:
            names = [LABEL_PREFIX + category for category in stored.categories]
            violations = float((stored.table("test", columns=names) == 1).sum().mean())
        frames = frames_per_post(stored)
        return Posts(stored.splits | given, len(stored.categories), violations, frames, px, 128.0, audited=audited)
    rates = CorpusConfig.test_prevalence
    if paper:
        violations = PAPER["test"] * sum(rates) / len(rates) ** 2  # each risk's pipeline owns a third of the posts
        return Posts(PAPER | given, len(rates), violations, 4.0, px, 128.0, audited=audited)
    if values.get("public_sources") or values.get("profile") == "public":
        sizes = {"train": 3 * values["max_train"], "test": 3 * values["max_test"]}
        return Posts(sizes | given, 3, values["max_test"] / 2, 0.0, 96, 45.0)  # at most about half are violating
    names = {field: values[field] for field in CorpusConfig.__dataclass_fields__ if field in values}
    config = CorpusConfig(**names | ({"train_posts": train} if train else {}))
    quotas = {
        split: sum(math.floor(positives / p) for p in config.test_prevalence)
        for split, positives in (("calibration", config.calibration_positives), ("test", config.test_positives))
    }
    sizes = {"train": config.train_posts, "validation": config.validation_posts, **quotas,
             "audit": config.audit_posts, "unlabelled": config.unlabelled_posts}  # fmt: skip
    words = 43.0 if standins else 60.0
    return Posts(sizes, len(config.test_prevalence), config.test_positives, 3.07, config.frame_px, words, True, audited)


def frames_per_post(posts: CorpusFolder) -> float:
    """Mean number of frames of the first posts of a corpus folder; their pixels are not decoded."""
    first = ParquetFile(posts.shards(*[split for split in ("train",) if split in posts.splits])[0])
    batch = next(first.iter_batches(SAMPLE, columns=[FRAMES]))
    return float(np.mean([len(frames) for frames in batch.column(FRAMES)]))
