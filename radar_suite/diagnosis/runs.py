"""The run folder: what a diagnosis reads, whoever wrote it, and what of it may be missing.

    run.json           version, categories, thresholds, recall target, and what the run says of itself (`contract`)
    posts.parquet      one row per scored post of train, validation, audit and serve: post_id, split, label_<c> and
                       logit_<c>; where known pipeline, region, language, month, group, content (equal for copies);
                       with teachers, serving or ablations also teacher_<c>, served_<c>, no_frames_<c>, no_text_<c>
    curve.parquet      optional: step, loss_<c>, validation_<c>, gradient_<c>, update
    relabels.parquet   optional: post_id and gold_<c> of some training posts, from a blind second look

Audit posts are labelled for all categories. Other parts may be absent: signals that need them are left out, by name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Num
from pydantic import BaseModel, ConfigDict, Field, model_validator

from radar_lib.errors import RadarError
from radar_lib.files import atomic_path, read_json, write_json

VERSION = 1
RUN, POSTS, CURVE, RELABELS = "run.json", "posts.parquet", "curve.parquet", "relabels.parquet"
NEEDED = ("post_id", "split")


class About(BaseModel):
    """run.json."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    version: int
    categories: list[str] = Field(min_length=1)
    recall: float = Field(default=0.9, gt=0, lt=1)  # of the deployed thresholds
    thresholds: list[float] | None = None  # deployed, logits, by category
    contract: dict[str, float] = {}  # what training and serving say of themselves; see `signals.CONTRACT`

    @model_validator(mode="after")
    def _one_each(self) -> About:
        if len(set(self.categories)) < len(self.categories):
            raise ValueError("a category is named twice")
        if self.thresholds is not None and len(self.thresholds) != len(self.categories):
            raise ValueError(f"{len(self.thresholds)} thresholds for {len(self.categories)} categories")
        return self


@dataclass(frozen=True)
class RunFolder:
    """A finished run."""

    about: About
    posts: pd.DataFrame
    curve: pd.DataFrame | None = None
    relabels: pd.DataFrame | None = None
    splits: dict[str, pd.DataFrame] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.splits.update({name: part.reset_index(drop=True) for name, part in self.posts.groupby("split")})

    @property
    def categories(self) -> list[str]:
        return self.about.categories

    def matrix(self, split: str, prefix: str) -> Num[np.ndarray, "post category"]:
        """Columns `<prefix>_<category>` of a split.

        Raises:
            KeyError: the run has none, or not of all posts of the split.
        """
        found = self.splits[split][[f"{prefix}_{c}" for c in self.categories]].to_numpy()
        if np.isnan(found).any():
            raise KeyError(prefix)
        return found


def write_run(
    folder: Path, about: dict[str, Any], posts: pd.DataFrame, curve: pd.DataFrame | None, relabels: pd.DataFrame | None
) -> None:
    """Write a run folder, whole or not at all."""
    with atomic_path(folder) as inner:
        inner.mkdir()
        write_json(inner / RUN, {"version": VERSION, **about})
        for name, table in ((POSTS, posts), (CURVE, curve), (RELABELS, relabels)):
            if table is not None:
                table.to_parquet(inner / name, index=False)


def read_run(folder: Path) -> RunFolder:
    """A run folder, checked.

    Raises:
        RadarError: it is no run folder, of another version, or a table has not the columns or values that it needs.
    """
    if not (folder / RUN).is_file():
        raise RadarError(f"{folder} is no run folder: it has no {RUN}. Name a folder with {RUN} and {POSTS}.")
    about = read_json(folder / RUN)
    said = about.get("version") if isinstance(about, dict) else None
    if said != VERSION:
        raise RadarError(f"{folder / RUN}: version {said}; this program reads version {VERSION}. Write the run again.")
    about = About.model_validate(read_json(folder / RUN, About))
    tables = {}
    for name in (POSTS, CURVE, RELABELS):
        try:
            tables[name] = pd.read_parquet(folder / name) if (folder / name).is_file() else None
        except (OSError, pa.ArrowException) as error:
            raise RadarError(f"{folder / name} cannot be read ({error}). Write the run again.") from error
    posts = tables[POSTS]
    needed = [*NEEDED, *(f"{p}_{c}" for p in ("label", "logit") for c in about.categories)]
    missing = needed if posts is None else [name for name in needed if name not in posts]
    if missing:
        raise RadarError(
            f"{folder / POSTS} has no column {missing[0]!r}. Write the run again, with {', '.join(needed)}."
        )
    if not {"train", "audit"} <= set(posts["split"]):
        raise RadarError(f"{folder / POSTS}: train and audit posts are needed. Score both and write the run again.")
    for c in about.categories:
        if not posts[f"label_{c}"].isin((-1, 0, 1)).all():
            raise RadarError(f"{folder / POSTS}: label_{c} holds a value other than 1, 0 and -1. Mend the labels.")
        if not np.isfinite(posts[f"logit_{c}"]).all():
            raise RadarError(f"{folder / POSTS}: logit_{c} holds a value that is not finite. Score these posts again.")
        if not {0, 1} <= set(posts.loc[posts["split"] == "audit", f"label_{c}"]):
            raise RadarError(
                f"{folder / POSTS}: the audit posts hold no violating or no cleared {c}. Audit more posts."
            )
    return RunFolder(about, posts, tables[CURVE], tables[RELABELS])
