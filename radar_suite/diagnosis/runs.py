"""The run folder: what a diagnosis reads, whoever wrote it, and what of it may be missing.

    run.json           version, categories, thresholds, recall target, and what the run says of itself (`contract`)
    posts.parquet      one row per scored post of train, validation, audit and serve: post_id, split, label_<c> and
                       logit_<c>; where known pipeline, region, language, month, group, content (equal for copies);
                       with teachers, serving or ablations also teacher_<c>, served_<c>, no_frames_<c>, no_text_<c>
    curve.parquet      optional: step, loss_<c>, validation_<c>, gradient_<c>, update
    relabels.parquet   optional: post_id and gold_<c> of some training posts, from a blind second look

Audit posts are labelled for all categories. Other parts may be absent: signals that need them are left out, by name. A
post without a group or content is alone in its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
SCORES = ("logit", "teacher", "served", "no_frames", "no_text")


class Absent(Exception):
    """A run has not the part that a signal needs."""


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


@dataclass(frozen=True, eq=False)
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

    def columns(self, part: str, names: Sequence[str]) -> pd.DataFrame:
        """Columns of a split, of `curve` or of `relabels`.

        Raises:
            Absent: the run has not that part, or the part has not all of them.
        """
        table = {"curve": self.curve, "relabels": self.relabels, **self.splits}.get(part)
        if table is None or (missing := [name for name in names if name not in table]):
            raise Absent(part if table is None else f"{part}: {missing[0]}")
        return table[list(names)]

    def column(self, part: str, name: str) -> pd.Series:
        """One of `columns`."""
        return self.columns(part, [name])[name]

    def matrix(self, split: str, prefix: str) -> Num[np.ndarray, "post category"]:
        """Columns `<prefix>_<category>` of a split.

        Raises:
            Absent: the run has none, or not of all posts of the split.
        """
        found = self.columns(split, [f"{prefix}_{c}" for c in self.categories]).to_numpy()
        if np.isnan(found).any():
            raise Absent(f"{split}: {prefix}")
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
    if posts[list(NEEDED)].isna().any(axis=None) or posts.duplicated(list(NEEDED)).any():
        raise RadarError(f"{folder / POSTS}: a post has no split or post_id, or that of another. Give each its own.")
    of_posts = [f"{p}_{c}" for p in ("label", *SCORES) for c in about.categories]
    curve, relabels = (None if one is None or one.empty else one for one in (tables[CURVE], tables[RELABELS]))
    posts = _with_numbers(posts, of_posts, folder / POSTS)
    if curve is not None:
        curve = _with_numbers(curve, list(curve), folder / CURVE)
    if relabels is not None:
        if "post_id" not in relabels or relabels["post_id"].dtype != posts["post_id"].dtype:
            raise RadarError(f"{folder / RELABELS}: no post_id as in {POSTS}. Write it with the posts' own.")
        if relabels["post_id"].duplicated().any():
            raise RadarError(f"{folder / RELABELS}: a post_id is there twice. Keep one row per post.")
        relabels = _with_numbers(relabels, [f"gold_{c}" for c in about.categories], folder / RELABELS)
    for name in of_posts:
        if name.startswith("label") and not posts[name].isin((-1, 0, 1)).all():
            raise RadarError(f"{folder / POSTS}: {name} holds a value other than 1, 0 and -1. Mend the labels.")
        bad = ~np.isfinite(posts[name]) if name.startswith("logit") else np.isinf(posts.get(name, 0.0))
        if np.any(bad):
            raise RadarError(f"{folder / POSTS}: {name} holds a value that is not finite. Score these posts again.")
    check_audit(posts[posts["split"] == "audit"], about.categories, folder / POSTS)
    return RunFolder(about, _each_alone(posts.dropna(axis=1, how="all")), curve, relabels)


def check_audit(audit: pd.DataFrame, categories: Sequence[str], place: Path) -> None:
    """Refuse audit posts of which some are not labelled for all categories, or none violates or is cleared of one."""
    for c in categories:
        if set(audit[f"label_{c}"]) != {0, 1}:
            raise RadarError(f"{place}: of the audit posts none is violating or none cleared of {c}, or some are "
                             "not labelled. Audit more posts, and label them for every category.")  # fmt: skip


def _with_numbers(table: pd.DataFrame, names: Iterable[str], place: Path) -> pd.DataFrame:
    """A table whose columns of these names, where they are there, are numbers as NumPy has them."""
    changed = {}
    for name in (name for name in names if name in table):
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise RadarError(f"{place}: {name} holds something other than numbers. Write the run again.")
        if not isinstance(table[name].dtype, np.dtype) or table[name].dtype == bool:
            changed[name] = table[name].to_numpy(dtype=float, na_value=np.nan)
    return table.assign(**changed)


def _each_alone(posts: pd.DataFrame) -> pd.DataFrame:
    """Posts of which those without a group or content share it with no other: a missing value is no copy of another."""
    changed = {}
    for name in ("group", "content"):
        if name in posts and (missing := posts[name].isna()).any():
            alone = "post " + posts["split"].astype(str) + " " + posts["post_id"].astype(str)
            changed[name] = posts[name].astype(object).where(~missing, alone)
    return posts.assign(**changed)
