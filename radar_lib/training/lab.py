"""Fine-tuning runs by specification: posts in, a trained router with its curves and its scores out, each trained once.

A `Lab` holds what all runs of a chain share. `Lab.train` looks a run up in the cache by the hash of everything that
decides its result, and trains it only where it is absent or partial. Its scores of a split are an entry of their own,
so that whoever asks for one more split trains nothing again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int8
from torch import nn

from radar_lib.data.posts import Posts, valid_mask
from radar_lib.errors import RadarError
from radar_lib.files import write_json
from radar_lib.metrics import average_precision
from radar_lib.models.router import RadarRouter, RouterConfig
from radar_lib.sources import digest_sources
from radar_lib.training import scores
from radar_lib.training.batches import part_of
from radar_lib.training.cache import Cache, Entry
from radar_lib.training.encoder import Encoder
from radar_lib.training.inference import predict, spare_casts
from radar_lib.training.loop import Execution, TrainingSet
from radar_lib.training.loop import train as run_loop
from radar_lib.training.ranks import make_together, rank_and_size
from radar_lib.training.specs import ROUTER, SCORES, Run, RunSpec, SideFiles, SoftLabels
from radar_lib.training.state import CHECKPOINT


class Lab(Encoder):
    """What the runs of a chain share.

    Args:
        score_splits: splits that each trained model is scored on; missing ones are passed over.
        checkpoint_seconds: at most this much training is lost when the process is killed.
        execution: how steps are computed.
        others: of `Encoder`.
    """

    def __init__(
        self, posts: Posts, cache: Cache, *, score_splits: Sequence[str] = ("validation", "test"),
        checkpoint_seconds: float = 30.0, execution: Execution | None = None, **others: Any,
    ) -> None:  # fmt: skip
        self.execution, self.checkpoint_seconds = execution or Execution(), checkpoint_seconds
        super().__init__(posts, cache, packing=self.execution.packing, **others)
        self.score_splits = tuple(split for split in score_splits if split in posts.splits)

    def steps(self, spec: RunSpec) -> int:
        """Optimiser steps of a run."""
        return spec.recipe.steps(int(self._trained_on(spec)[1].sum()))

    def entry(self, spec: RunSpec, *, teacher: SoftLabels | None = None, side: SideFiles | None = None) -> Entry:
        """Cache entry of a run: its hash covers posts, checkpoint, specification, teacher, side, device and code."""
        if spec.recipe.distils and teacher is None:
            raise RadarError(f"{spec.backbone} with a lambda above 0 needs the experts' soft labels.")
        inputs = self.deciding(spec.backbone, code=digest_sources(__name__)) | {
            "spec": {**asdict(spec), "categories": list(spec.categories)},
            "teacher": teacher.digest if teacher is not None and spec.recipe.distils else None,
        }
        if spec.recipe.needs:
            inputs["side"] = (side or SideFiles()).digests(spec.recipe.needs, spec.categories)
        if self.execution != Execution():  # it changes the last bits
            inputs["execution"] = asdict(self.execution)
        return self.cache.entry("training", inputs)

    def train(
        self, spec: RunSpec, *, teacher: SoftLabels | None = None, side: SideFiles | None = None, title: str = ""
    ) -> Run:
        """The run of this specification, with its scores: from the cache, else trained now (or continued) and scored.

        Args:
            teacher: read where the recipe distils.
            side: what the recipe's objective reads beside the labels, where it needs anything.

        Raises:
            RadarError: no training post carries a verified label of these categories, teacher or side information is
                missing, or the loss is not finite.
        """
        run = self.fit(spec, teacher=teacher, side=side, title=title)
        self.score(run)
        return run

    def fit(
        self, spec: RunSpec, *, teacher: SoftLabels | None = None, side: SideFiles | None = None, title: str = ""
    ) -> Run:
        """As `train`, without scoring."""
        entry = self.entry(spec, teacher=teacher, side=side)

        def work(folder: Path) -> dict[str, Any]:
            return self._fine_tune(spec, folder, teacher=teacher, side=side, title=title or spec.backbone)

        record = make_together(entry, work, scratch=(CHECKPOINT,), device=self.device)
        return Run(spec, entry, record, self.score_splits)

    def finished(self, spec: RunSpec, *, teacher: SoftLabels | None = None, side: SideFiles | None = None) -> bool:
        """Whether `train` has nothing left to do."""
        entry = self.entry(spec, teacher=teacher, side=side)
        return entry.complete and not Run(spec, entry, {}, self.score_splits).unscored()

    def score(self, run: Run) -> None:
        """Score a run on those of its splits that it was not scored on yet."""
        if not (todo := run.unscored()):
            return
        router = RadarRouter.from_pretrained(run.router_folder, backbone=self.backbone(run.spec.backbone))
        if self.device != "cpu":
            spare_casts(router)
        try:
            for split in todo:
                work = partial(self._keep_scores, router, run.spec, split)
                make_together(run.scores_entry(split), work, device=self.device)
        finally:
            router.detach()

    def _fine_tune(
        self, spec: RunSpec, folder: Path, *, teacher: SoftLabels | None, side: SideFiles | None, title: str
    ) -> dict[str, Any]:
        """Train (or go on from the folder's checkpoint); leaves router and curves in `folder`."""
        config = RouterConfig(categories=spec.categories, lora_rank=spec.lora_rank, lora_alpha=spec.lora_alpha)
        router = RadarRouter(self.backbone(spec.backbone), config, seed=spec.recipe.seed)
        if self.device != "cpu":
            spare_casts(router)
        first_process = rank_and_size()[0] == 0
        if self.execution.gradient_checkpointing:
            router.backbone.model.activation_checkpointing_enable()
            # only reentrant checkpointing needs it, and it would keep the frozen tower's activations
            router.backbone.model.disable_input_require_grads()
        trained = sum(p.numel() for p in router.trainable_parameters())
        total = sum(p.numel() for p in router.parameters())
        try:
            history = run_loop(
                router, self.training_set(spec, teacher, side), spec.recipe, folder=folder, device=self.device,
                execution=self.execution, validate=self._validation(spec), title=title,
                checkpoint_seconds=self.checkpoint_seconds, bar=self.bar,
            )  # fmt: skip
            if first_process:
                router.save_pretrained(folder / ROUTER)
        finally:
            router.detach()
            if self.execution.gradient_checkpointing:
                router.backbone.model.activation_checkpointing_disable()
        if not first_process:
            return {}
        write_json(folder / "history.json", asdict(history))
        return {
            "history": asdict(history), "trainable_parameters": trained, "backbone_parameters": total - trained,
            "checkpoint": Path(self.checkpoint(spec.backbone)).name,
        }  # fmt: skip

    def _keep_scores(self, router: nn.Module, spec: RunSpec, split: str, folder: Path) -> None:
        self.write_scores(router, spec, folder / SCORES, split)

    def write_scores(
        self, router: nn.Module, spec: RunSpec, path: Path, split: str, *, rows: Sequence[int] | None = None
    ) -> None:
        """Score posts of a split and write the logits to `path`: all, or those at the positions `rows`.

        A post that others verified, and nobody for this model's categories, is passed over unless `rows` names it: an
        expert's own scores are about its own pipeline. A split without any label is scored whole.
        """
        if rows is None:
            _, known = self._verified(split, spec.categories)
            rows = np.flatnonzero(known) if known.any() else np.arange(len(known))
        ids = self.table(split)["post_id"].to_numpy()[rows].tolist()
        inputs = self.encoded(spec.backbone, split)
        inputs = inputs if len(rows) == len(inputs) else inputs.subset(rows)
        logits = predict(router, inputs, batch_size=inputs.at_once, device=self.device)
        if rank_and_size()[0] == 0:
            about = {"post_ids": ids, "splits": [split] * len(ids), "categories": spec.categories}
            scores.write_scores(path, logits=logits, **about)

    def _verified(
        self, split: str, categories: Sequence[str]
    ) -> tuple[Int8[np.ndarray, "post category"], Bool[np.ndarray, " post"]]:
        """Labels of a split, and which posts have at least one of them verified."""
        matrix = self.labels(split, categories)
        return matrix, valid_mask(matrix).any(axis=1)

    def _trained_on(self, spec: RunSpec) -> tuple[Int8[np.ndarray, "post category"], Bool[np.ndarray, " post"]]:
        """Labels of the training posts, and which posts a run trains on: verified for it and, if it has one, its fold.

        An expert sees its own pipeline's posts only.
        """
        matrix, keep = self._verified("train", spec.categories)
        if spec.fold is not None:
            number, count = spec.fold
            keep = keep & (part_of(self.table("train")["post_id"].tolist(), count) == number)
        return matrix, keep

    def training_set(
        self, spec: RunSpec, teacher: SoftLabels | None, side: SideFiles | None = None
    ) -> TrainingSet:
        """What a run trains on, with the teacher's logits where it distils and what else its objective needs."""
        matrix, keep = self._trained_on(spec)
        rows = np.flatnonzero(keep)
        ids = self.table("train")["post_id"].to_numpy()[rows].tolist()
        inputs = self.encoded(spec.backbone, "train")
        guide = teacher.logits(ids, spec.categories) if teacher is not None and spec.recipe.distils else None
        about = (side or SideFiles()).read(spec.recipe.needs, ids, spec.categories)
        return TrainingSet(inputs if keep.all() else inputs.subset(rows), matrix[rows], ids, guide, about)

    def _validation(self, spec: RunSpec) -> Callable[[RadarRouter], dict[str, float]] | None:
        """A function of the router: PR-AUC of each category on the validation posts that its pipeline verified.

        Left out are those of which all posts are violating or cleared, and of which the router says the same of all.
        """
        if "validation" not in self.posts.splits or not self._verified("validation", spec.categories)[1].any():
            return None
        matrix, keep = self._verified("validation", spec.categories)
        rows = np.flatnonzero(keep)
        inputs, known = self.encoded(spec.backbone, "validation").subset(rows), matrix[rows]

        def validate(router: RadarRouter) -> dict[str, float]:
            logits = predict(router, inputs, batch_size=inputs.at_once, device=self.device)
            quality = {}
            for k, category in enumerate(spec.categories):
                valid = valid_mask(known[:, k])
                if len(np.unique(known[valid, k])) == 2:
                    quality[category] = average_precision(known[valid, k], logits[valid, k])
            return {category: value for category, value in quality.items() if not np.isnan(value)}

        return validate
