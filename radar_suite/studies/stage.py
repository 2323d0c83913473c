"""What a study works with: the posts, experts, settings and cache that a finished chain left, and where it writes.

A study trains through the cache like any notebook, so a study that was killed goes on where it was, and a run that is a
table row already is not trained again. It leaves figures and tables in `runs/<profile>/studies/figures/` and its
runs in the record (`radar_suite.report.record`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd
from jaxtyping import Int8
from numpy import ndarray

from radar_lib.data.posts import Posts
from radar_lib.errors import RadarError
from radar_lib.intervals import Groups
from radar_lib.metrics import score_table
from radar_lib.training.lab import Lab, Run, SoftLabels
from radar_lib.training.scores import logits_for
from radar_suite.intake.texts import text_limit
from radar_suite.report import record
from radar_suite.report.experiments import Settings, kept_teacher, set_up
from radar_suite.report.manifest import read_manifest
from radar_suite.report.row_scores import labelled_test_posts
from radar_suite.report.workspace import Workspace
from radar_suite.world.build import CorpusConfig, build_corpus, corpus_digest

NAME = "studies"


@dataclass
class StudiesWorkspace(Workspace):
    """The studies' folder of a profile; its manifest keeps what other studies entered. `written`: entered here."""

    written: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, workspace: Workspace) -> StudiesWorkspace:
        """With the entries that earlier studies left."""
        entries = read_manifest(workspace.path("figures"))["entries"]
        own = {one.name: getattr(workspace, one.name) for one in fields(workspace)}
        return cls(**own | {"_entries": entries})

    def stamp(self) -> dict[str, Any]:
        return super().stamp() | {"command": f"radar studies --profile {self.profile}"}

    def enter(self, name: str, files: Iterable[Path], **about: Any) -> None:
        super().enter(name, files, **about)
        self.written.append(name)


@dataclass(frozen=True)
class Stage:
    """A finished chain, opened for a study."""

    workspace: StudiesWorkspace  # runs/<profile>/studies
    lab: Lab  # posts, cache, checkpoints and device
    settings: Settings  # of the routers, as notebook 05 had them
    teacher: SoftLabels  # what the first seed's experts say of every training post
    seeds: int  # runs of each row of a study, at the settings' seed and the next ones
    workers: int  # runs trained side by side; 0 for one per core
    parameters: Mapping[str, Mapping[str, Any]]  # complete, by notebook name, as the chain ran with

    @property
    def posts(self) -> Posts:
        return self.lab.posts

    @property
    def record_path(self) -> Path:
        return self.workspace.runs_dir / self.workspace.profile / record.FILE

    @property
    def lam(self) -> float:
        """Lambda of the distilled table rows."""
        return float(self.parameters["05_router_training"]["lambda_tables"])

    @property
    def expert_settings(self) -> Settings:
        """Of the experts, as notebook 03 had them."""
        given = self.parameters["03_expert_training"]
        names = ("batch_size", "learning_rate", "lora_rank", "lora_alpha", "seed")
        return Settings(epochs=given["expert_epochs"], **{name: given[name] for name in names})

    @property
    def corpus(self) -> CorpusConfig:
        """Settings of the chain's built-in corpus, also where the chain was run on other posts."""
        values = self.parameters["01_data_audit"]
        return CorpusConfig(**{one.name: values[one.name] for one in fields(CorpusConfig) if one.name in values})

    def lab_on(self, config: CorpusConfig) -> Lab:
        """A lab like the chain's on another built-in corpus, which is built unless it is there; its own test streams
        are scored too."""
        cache = self.lab.cache
        posts = build_corpus(config, cache.root / "corpus" / corpus_digest(config),
                             workers=self.workers or os.cpu_count() or 1)  # fmt: skip
        splits = tuple(dict.fromkeys([*self.lab.score_splits, "test_own"]))
        return Lab(posts, cache, checkpoints=self.lab.checkpoints, device=self.lab.device, score_splits=splits,
                   checkpoint_seconds=self.lab.checkpoint_seconds, execution=self.lab.execution,
                   text=text_limit(posts, self.parameters["05_router_training"]["text_tokens"]))  # fmt: skip

    def test(self) -> tuple[list[str], Int8[ndarray, "post category"], Groups]:
        """Ids, labels and groups of the test posts, as `row_scores.labelled_test_posts`."""
        return labelled_test_posts(self.posts)

    def test_counts(self) -> str:
        """For captions: violating and all test posts of each risk."""
        pairs = zip(self.posts.categories, self.test()[1].T, strict=True)
        return ", ".join(f"{risk} {int((y == 1).sum()):,} of {int((y >= 0).sum()):,}" for risk, y in pairs)

    def record_row(self, study: str, row: str, runs: Sequence[Run], **config: Any) -> None:
        """Enter a row's runs, one per seed and scored on the test posts, in the record; its lines of before go."""
        ids, truth, _ = self.test()
        lines = []
        for run in runs:
            logits = logits_for(run.scores("test"), ids, self.posts.categories)
            scores = score_table(truth, logits, self.posts.categories)
            about = {"backbone": run.spec.backbone, "objective": run.spec.recipe.objective} | config
            lines.append(record.run_lines(
                study, row, run.spec.recipe.seed, scores, run=run.digest, config=about,
                seconds=run.record["history"]["seconds"], workspace=self.workspace,
            ))  # fmt: skip
        record.record(self.record_path, pd.concat(lines, ignore_index=True))

    def record_lines(self, study: str, lines: pd.DataFrame, *, seed: int, about: Sequence[str], **config: Any) -> None:
        """Enter rows of heads, or of runs on other posts than the stage's, in the record.

        Args:
            lines: one per row, category and metric: `row`, `by_seed` (values), `run` (hashes), `posts` (digest), and
                `seconds`, of which `share` is this row's.
            seed: first seed.
            about: columns that are part of the configuration.
            config: more of it.
        """
        parts = []
        for row, own in lines.groupby("row", sort=False):
            first, told = own.iloc[0], own[list(about)].to_dict("records")[0]
            seeds = len(first["by_seed"])
            for n in range(seeds):
                scores: dict[str, dict[str, float]] = {}
                for line in own.to_dict("records"):
                    scores.setdefault(line["category"], {})[line["metric"]] = line["by_seed"][n]
                one = record.run_lines(
                    study, row, seed + n, scores, run=first["run"], config=told | config,
                    seconds=first["seconds"] * first["share"] / seeds, workspace=self.workspace,
                )  # fmt: skip
                parts.append(one.assign(posts_digest=first["posts"]))
        record.record(self.record_path, pd.concat(parts, ignore_index=True))


def open_stage(
    runs_dir: Path, profile: str, parameters: Mapping[str, Mapping[str, Any]], *, seeds: int, workers: int = 0
) -> Stage:
    """Open what the chain of a profile left.

    Args:
        parameters: complete parameters by notebook name, as the chain ran with.

    Raises:
        RadarError: a notebook from 01 to 05 has not finished.
    """
    if seeds < 1:
        raise RadarError(f"seeds is {seeds}; it counts the runs of each row, so it is at least 1.")
    places = {"runs_dir": str(runs_dir), "profile": profile, "seeds": seeds}
    ws, _, lab, settings = set_up(NAME, {**parameters["05_router_training"], **places})
    for notebook, index in (("03_expert_training", "experts.json"), ("05_router_training", "routers.json")):
        ws.upstream(f"{notebook}/{index}")
    teacher = kept_teacher(ws)
    ws.uses(soft_labels=teacher.digest)
    return Stage(StudiesWorkspace.of(ws), lab, settings, teacher, seeds, workers, parameters)
