"""What a fine-tune is made of and what it leaves: its specification, the files it reads beside the posts, its run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from radar_lib.errors import RadarError
from radar_lib.files import digest_file, digest_json, read_sealed
from radar_lib.partial_losses import SideInformation
from radar_lib.ranges import COUNT, POSITIVE, check_ranges
from radar_lib.training.cache import RECORD, Cache, Entry, damage
from radar_lib.training.loop import Recipe
from radar_lib.training.scores import logits_for, read_scores
from radar_lib.training.state import History

SCORES, ROUTER = "scores.parquet", "router"  # of a run's folder


@dataclass(frozen=True)
class RunSpec:
    """One fine-tune: which backbone, for which risks, with which objective.

    Attributes:
        backbone: the paper's name, a key of `BACKBONES`.
        categories: risks that the heads predict; one for an expert.
        recipe: objective and optimisation.
        lora_rank, lora_alpha: of the adapter (paper: 128 and 256).
        fold: (i, n) to train on part i of n of the posts only, dealt by a hash of their ids (`batches.part_of`).
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
        check_ranges(vars(self), {"lora_rank": COUNT, "lora_alpha": POSITIVE})

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
    """The experts' logits for every training post, or another table of logits by cell: a scores file and its digest."""

    path: Path
    digest: str

    @classmethod
    def open(cls, path: str | Path, *, digest: str | None = None) -> SoftLabels:
        """The file at `path`.

        Raises:
            RadarError: it does not exist, or its digest is not the one that was recorded for it.
        """
        if not Path(path).is_file():
            raise RadarError(f"{path} does not exist: write the soft labels first (`teachers.soft_labels`).")
        found = digest_file(path)
        if digest not in (None, found):
            raise RadarError(f"{path} is not what was written (digest {digest}). Run the step that writes it again.")
        return cls(Path(path), found)

    def logits(self, post_ids: Sequence[str], categories: Sequence[str]) -> Float[np.ndarray, "post category"]:
        """Logits of posts.

        Raises:
            RadarError: the file has changed since it was opened, or as `logits_for`.
        """
        return logits_for(read_scores(self.path, digest=self.digest), post_ids, categories)


@dataclass(frozen=True)
class SideFiles:
    """Where a run's `SideInformation` is from; what its objective does not need is neither read nor hashed.

    Attributes:
        prior: share of violations among the unverified cells, by category.
        propensity: file of the logits of P(verified for k | post), for every training post.
        imputed: file of an outcome model's logits, such as the experts' soft labels.
    """

    prior: Mapping[str, float] = field(default_factory=dict)
    propensity: SoftLabels | None = None
    imputed: SoftLabels | None = None

    def digests(self, needs: Sequence[str], categories: Sequence[str]) -> dict[str, Any]:
        """What of it decides the result of a run that needs these fields.

        Raises:
            RadarError: one of them is not there.
        """
        absent = [name for name in needs if not getattr(self, name)]
        absent += [f"prior of {c}" for c in categories if "prior" in needs and self.prior and c not in self.prior]
        if absent:
            raise RadarError(f"the objective needs {' and '.join(absent)}: name it in SideFiles (side=...).")
        return {name: [float(self.prior[c]) for c in categories] if name == "prior" else getattr(self, name).digest
                for name in needs}  # fmt: skip

    def read(self, needs: Sequence[str], post_ids: Sequence[str], categories: Sequence[str]) -> SideInformation:
        """The fields that a run needs, for these posts."""
        found: dict[str, torch.Tensor] = {}
        for name in needs:
            if name == "prior":
                found[name] = torch.tensor([self.prior[category] for category in categories], dtype=torch.float32)
                continue
            logits = torch.tensor(getattr(self, name).logits(post_ids, categories))
            found[name] = torch.sigmoid(logits) if name == "propensity" else logits
        return SideInformation(**found)


@dataclass(frozen=True)
class Run:
    """A finished run: `scores`, `history` and the router's folder.

    Attributes:
        splits: that it is, or is to be, scored on.
    """

    spec: RunSpec
    entry: Entry
    record: Mapping[str, Any]
    splits: tuple[str, ...] = ()

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """A finished run from its cache folder, `<cache>/training/<run hash>`; which splits it was scored on is not
        said there.

        Raises:
            RadarError: there is no finished run, a file of it is not what was written, or its record is not that of a
                run.
        """
        folder = Path(folder)
        record = read_sealed(folder / RECORD)
        if wrong := damage(folder):
            raise RadarError(f"{folder / wrong} is not what was written. Run the notebook that trains it again.")
        try:
            spec = RunSpec.from_json(record["inputs"]["spec"])
            sound = record["digest"] == digest_json({"kind": "training", **record["inputs"]})
        except (KeyError, TypeError, ValueError):
            sound = False
        if not sound:  # files are named by it
            raise RadarError(f"{folder / RECORD}: its hash is not that of a run with these inputs. Train it again.")
        return cls(spec, Entry(folder, record["digest"], record["inputs"]), record)

    @property
    def digest(self) -> str:
        """The run hash; equal hashes are one and the same run."""
        return self.entry.digest

    @property
    def router_folder(self) -> Path:
        return self.entry.path(ROUTER)

    def scores_entry(self, split: str) -> Entry:
        """Cache entry of its scores of a split; the run's hash covers all else that decides them."""
        return Cache(self.entry.folder.parents[1]).entry("scores", {"run": self.digest, "split": split})

    def unscored(self) -> list[str]:
        """Its splits whose scores are not there, or not what was written."""
        return [split for split in self.splits if not self.scores_entry(split).complete]

    def scores(self, *splits: str) -> pd.DataFrame:
        """Scores of these splits, or of all its own, one after the other.

        Raises:
            RadarError: it was not scored on one of them, or a file is not what was written.
        """
        if not (entries := [self.scores_entry(split) for split in splits or self.splits]):
            raise RadarError(f"run {self.digest}: name the splits; one that was loaded does not know them.")
        if absent := [one.inputs["split"] for one in entries if not one.folder.exists()]:
            raise RadarError(f"run {self.digest} was not scored on {', '.join(absent)}: `Lab.score` does it.")
        tables = [read_scores(one.path(SCORES), digest=one.record()["files"][SCORES]) for one in entries]
        return pd.concat(tables, ignore_index=True)

    @property
    def history(self) -> History:
        return History(**self.record["history"])
