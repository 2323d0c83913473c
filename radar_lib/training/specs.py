"""What a fine-tune is made of and what it leaves: its specification, the files it reads beside the posts, its run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from radar_lib.errors import RadarError
from radar_lib.files import digest_file, read_json
from radar_lib.training.cache import RECORD, Entry
from radar_lib.training.loop import Recipe
from radar_lib.training.scores import logits_for, read_scores
from radar_lib.training.state import History


@dataclass(frozen=True)
class RunSpec:
    """One fine-tune: which backbone, for which risks, with which objective.

    Attributes:
        backbone: the paper's name, a key of `BACKBONES`.
        categories: risks that the heads predict; one for an expert.
        recipe: objective and optimisation.
        lora_rank, lora_alpha: of the adapter (paper: 128 and 256).
        fold: (i, n) to train on part i of n of the posts only, dealt by a hash of their ids (`folds.part_of`).
    """

    backbone: str
    categories: tuple[str, ...]
    recipe: Recipe
    lora_rank: int = 8
    lora_alpha: int = 16
    fold: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.fold is not None and not 0 <= self.fold[0] < self.fold[1]:
            raise RadarError(f"fold is {self.fold}; it is (i, n) with i from 0 to n - 1.")

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> RunSpec:
        """The specification whose `asdict` went through JSON."""
        recipe, categories = Recipe(**saved["recipe"]), tuple(saved["categories"])
        fold = tuple(saved["fold"]) if saved.get("fold") else None
        return cls(**{**saved, "recipe": recipe, "categories": categories, "fold": fold})

    def with_recipe(self, **changes: Any) -> RunSpec:
        return replace(self, recipe=replace(self.recipe, **changes))


@dataclass(frozen=True)
class SoftLabels:
    """The experts' logits for every training post: a scores file and its digest."""

    path: Path
    digest: str

    @classmethod
    def open(cls, path: str | Path) -> SoftLabels:
        return cls(Path(path), digest_file(path))

    def logits(self, post_ids: Sequence[str], categories: Sequence[str]) -> Float[np.ndarray, "post category"]:
        return logits_for(read_scores(self.path), post_ids, categories)


@dataclass(frozen=True)
class Run:
    """A finished run: `scores`, `history` and the router's folder."""

    spec: RunSpec
    entry: Entry
    record: Mapping[str, Any]

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """A finished run from its cache folder, `<cache>/training/<run hash>`.

        Raises:
            RadarError: there is no finished run.
        """
        folder = Path(folder)
        record = read_json(folder / RECORD)
        spec = RunSpec.from_json(record["inputs"]["spec"])
        return cls(spec, Entry(folder, record["digest"], record["inputs"]), record)

    @property
    def digest(self) -> str:
        """The run hash; equal hashes are one and the same run."""
        return self.entry.digest

    @property
    def scores_path(self) -> Path:
        return self.entry.path("scores.parquet")

    @property
    def router_folder(self) -> Path:
        return self.entry.path("router")

    def scores(self) -> pd.DataFrame:
        return read_scores(self.scores_path)

    @property
    def history(self) -> History:
        return History(**self.record["history"])
