"""What a study works with: the posts, experts, settings and cache that a finished chain left, and where it writes.

A study trains through the cache like any notebook, so a study that was killed goes on where it was, and a run that is a
table row already is not trained again. It leaves figures and tables in `runs/<profile>/studies/figures/` and its
runs in the record (`radar_suite.report.record`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int8

from radar_lib.data.posts import Posts
from radar_lib.errors import RadarError
from radar_lib.metrics import score_table
from radar_lib.training.cache import Cache
from radar_lib.training.lab import Lab, Run, SoftLabels
from radar_lib.training.loop import Execution
from radar_lib.training.scores import logits_for
from radar_suite.report import record
from radar_suite.report.experiments import Settings, by_seed
from radar_suite.report.row_scores import labelled_test_posts
from radar_suite.report.workspace import Workspace
from radar_suite.world.standins import checkpoints_named

NAME = "studies"


@dataclass(frozen=True)
class Stage:
    """A finished chain, opened for a study.

    Attributes:
        workspace: `runs/<profile>/studies`.
        lab: posts, cache, checkpoints and device.
        settings: of the routers, as notebook 05 had them.
        expert_settings: of the experts, as notebook 03 had them.
        experts: the first seed's expert of each category.
        teacher: what they say of every training post.
        lam: lambda of the distilled table rows.
        seeds: runs of each row of a study, at the settings' seed and the next ones.
        workers: runs trained side by side; 0 for one per core.
        parameters: complete parameters by notebook name, as the chain ran with.
    """

    workspace: Workspace
    lab: Lab
    settings: Settings
    expert_settings: Settings
    experts: Mapping[str, Run]
    teacher: SoftLabels
    lam: float
    seeds: int
    workers: int = 0
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def posts(self) -> Posts:
        return self.lab.posts

    def keep(self, study: str, row: str, runs: Sequence[Run], **config: Any) -> None:
        """Enter a row's runs, one per seed and scored on the test posts, in the record; its lines of before go."""
        ids, truth = self.test()
        lines = []
        for run in runs:
            scored = score_table(truth, logits_for(run.scores(), ids, self.posts.categories), self.posts.categories)
            about = {"backbone": run.spec.backbone, "objective": run.spec.recipe.objective} | config
            lines.append(record.run_lines(
                study, row, run.spec.recipe.seed, scored, run=run.digest, config=about,
                seconds=run.record["history"]["seconds"], workspace=self.workspace,
            ))  # fmt: skip
        record.record(self.record_path, pd.concat(lines, ignore_index=True))

    def test(self) -> tuple[list[str], Int8[np.ndarray, "post category"]]:
        """Ids and labels of the test posts, as `row_scores.labelled_test_posts`."""
        return labelled_test_posts(self.posts)

    @property
    def record_path(self) -> Path:
        return self.workspace.runs_dir / self.workspace.profile / record.FILE


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
    router, expert = parameters["05_router_training"], parameters["03_expert_training"]
    ws = Workspace.open(
        NAME, runs_dir=runs_dir, profile=profile, seed=router["seed"], device=router["device"],
        parameters={"seeds": seeds},
    )  # fmt: skip
    posts = ws.open_corpus("01_data_audit/corpus.json")
    teacher = SoftLabels.open(ws.upstream("04_teacher_inference/soft_labels.parquet"))
    ws.read("05_router_training/routers.json")
    ws.uses(soft_labels=teacher.digest)
    execution = Execution(*(router[name] for name in ("accumulate", "gradient_checkpointing", "packing")))
    lab = Lab(posts, Cache(ws.cache_dir), checkpoints=checkpoints_named(router["checkpoints"]), device=ws.device,
              checkpoint_seconds=router["checkpoint_seconds"], execution=execution)  # fmt: skip
    index = by_seed(ws.read("03_expert_training/experts.json"))[0]
    experts = {entry["category"]: Run.load(ws.cache_dir / "training" / entry["run"]) for entry in index}
    shared = {name: router[name] for name in ("batch_size", "learning_rate", "lora_rank", "lora_alpha", "seed")}
    own = {name: expert[name] for name in shared}
    return Stage(
        ws, lab, Settings(epochs=router["epochs"], **shared), Settings(epochs=expert["expert_epochs"], **own),
        experts, teacher, router["lambda_tables"], seeds, workers, parameters,
    )  # fmt: skip
