"""Teachers made from other teachers: shuffled, hardened, cross-fitted. Each isolates one thing that a teacher gives.

A teacher is a table of logits as `radar_lib.training.teachers.soft_labels` writes it: post_id, split and one float32
`logit_<category>` per risk. The functions here map such tables to such tables; `keep_teacher` writes one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from radar_lib.errors import RadarError
from radar_lib.files import atomic_path
from radar_lib.training.scores import LOGIT_PREFIX
from radar_lib.training.specs import SoftLabels

CERTAIN = 1e4  # a logit; finite, as files of scores hold no infinity


def shuffle(teacher: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """The logits of each category dealt anew to the posts, each category by a permutation of its own.

    Every column keeps its values, so how sure the teacher is and how often stay the same; about a post it says nothing.
    """
    generator = np.random.default_rng(seed)
    return teacher.assign(**{column: generator.permutation(teacher[column].to_numpy()) for column in _columns(teacher)})


def harden(teacher: pd.DataFrame) -> pd.DataFrame:
    """Pseudo-labels: t = 1 where the teacher's probability is above one half, else 0.

    As logits these are `CERTAIN` and its negative, whose probabilities are 1 and 0 to the last bit.
    """
    return _with_logits(teacher, np.where(teacher[_columns(teacher)] > 0, CERTAIN, -CERTAIN))


def cross_fit(
    halves: Sequence[pd.DataFrame], *, own: Bool[np.ndarray, "post category"], fold: Int[np.ndarray, " post"]
) -> pd.DataFrame:
    """Two experts per risk, each trained on one half of its pipeline's posts, as one teacher.

    A cell that one of the two was trained on gets the logit of the other. All other cells, which neither has seen, get
    the mean of both logits.

    Args:
        halves: what the experts of fold 0 and those of fold 1 say of the same posts, in the same order.
        own: cells that were verified, so that the expert of this post's fold was trained on them.
        fold: 0 or 1, the half that each post belongs to.

    Raises:
        RadarError: the two tables are not about the same posts and categories.
    """
    first, second = halves
    columns = _columns(first)
    if columns != _columns(second) or first["post_id"].tolist() != second["post_id"].tolist():
        raise RadarError("the two halves of a cross-fitted teacher must be about the same posts and categories.")
    logits = np.stack([first[columns].to_numpy(), second[columns].to_numpy()])
    unseen = logits[1 - fold, np.arange(len(fold))]
    return _with_logits(first, np.where(own, unseen, logits.mean(axis=0)))


def keep_teacher(teacher: pd.DataFrame, path: Path) -> SoftLabels:
    """Write a teacher's table, to train with; equal tables give equal files, and so the same runs.

    Raises:
        RadarError: a logit is NaN.
    """
    if teacher[_columns(teacher)].isna().any(axis=None):
        raise RadarError(f"{path}: a teacher with NaN among its logits teaches nothing.")
    with atomic_path(path) as temporary:
        teacher.to_parquet(temporary, index=False)
    return SoftLabels.open(path)


def _columns(teacher: pd.DataFrame) -> list[str]:
    return [column for column in teacher.columns if column.startswith(LOGIT_PREFIX)]


def _with_logits(teacher: pd.DataFrame, logits: np.ndarray) -> pd.DataFrame:
    return teacher.assign(**dict(zip(_columns(teacher), logits.astype(np.float32).T, strict=True)))
