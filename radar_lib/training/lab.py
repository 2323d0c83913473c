"""Fine-tuning runs by specification: posts in, a trained router with its curves and its scores out, each trained once.

A `Lab` holds what all runs of a chain share: posts, checkpoints, cache, device. `Lab.train` looks a run up in the cache
by the hash of everything that decides its result, and trains it only where it is absent or partial.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int8
from torch import nn
from tqdm import tqdm

from radar_lib.data.posts import LABEL_PREFIX, Posts, labels, valid_mask
from radar_lib.errors import RadarError
from radar_lib.files import digest_file, write_json
from radar_lib.metrics import average_precision
from radar_lib.models.backbones import BACKBONES, Backbone, checkpoint_digest, load_backbone, resolve_checkpoint
from radar_lib.models.base import Encoded
from radar_lib.models.families import FAMILIES
from radar_lib.models.packing import Packing
from radar_lib.models.router import RadarRouter, RouterConfig
from radar_lib.sources import digest_sources
from radar_lib.training.cache import Cache, Entry
from radar_lib.training.encoded import EncodedPosts, chunks, keep
from radar_lib.training.folds import part_of
from radar_lib.training.loop import Execution, TrainingSet, predict, spare_casts, train, weights_dtype
from radar_lib.training.processes import rank_and_size, wait_for_all
from radar_lib.training.scores import write_scores
from radar_lib.training.specs import Run, RunSpec, SideFiles, SoftLabels
from radar_lib.training.state import CHECKPOINT
from radar_lib.training.streamed import Rows, StreamedPosts, encoded_size, room_for, workers_for

DECIDING_PACKAGES = ("torch", "transformers", "peft")


class Lab:
    """Posts, checkpoints, cache and device that the runs of a chain share.

    Args:
        posts: an open corpus.
        cache: where runs are kept.
        checkpoints: 'hub', a folder of checkpoint folders, or 'package:' and its name (see `resolve_checkpoint`).
        device: 'cpu' or 'cuda'.
        score_splits: splits that each trained model is scored on; missing ones are passed over.
        checkpoint_seconds: at most this much training is lost when the process is killed.
        execution: how steps are computed.
        bar: makes progress bars, called as tqdm is.
        encoded_bytes: the most that a split's encoded posts may take; larger ones are streamed; None: see `room_for`.
        readers: processes that read a split each at the same time, this one included; they share disk and memory.
    """

    def __init__(
        self,
        posts: Posts,
        cache: Cache,
        *,
        checkpoints: str = "hub",
        device: str = "cpu",
        score_splits: Sequence[str] = ("validation", "test"),
        checkpoint_seconds: float = 30.0,
        execution: Execution | None = None,
        bar: Callable[..., Any] = tqdm,
        encoded_bytes: int | None = None,
        readers: int = 1,
    ) -> None:
        self.posts, self.cache, self.checkpoints, self.device = posts, cache, checkpoints, device
        self.encoded_bytes, self.readers = encoded_bytes, readers
        self.score_splits = tuple(split for split in score_splits if split in posts.splits)
        self.checkpoint_seconds, self.execution, self.bar = checkpoint_seconds, execution or Execution(), bar
        self._backbone: tuple[str, Backbone] | None = None
        self._encoded: dict[str, EncodedPosts] = {}

    def checkpoint(self, backbone: str) -> str:
        """Folder or Hub id that a backbone's name stands for in this lab."""
        if backbone not in BACKBONES:
            raise RadarError(f"no backbone is called {backbone!r}. Known: {', '.join(BACKBONES)}.")
        return resolve_checkpoint(BACKBONES[backbone], self.checkpoints)

    def backbone(self, name: str) -> Backbone:
        """Load a backbone; only the latest one is kept in memory, with the posts encoded for it."""
        if self._backbone is None or self._backbone[0] != name:
            self.release()
            backbone = load_backbone(self.checkpoint(name), dtype=weights_dtype(self.device), device=self.device)
            if self.execution.packing and isinstance(backbone, Packing):
                backbone.pack(True)
            self._backbone = (name, backbone)
        return self._backbone[1]

    def release(self) -> None:
        """Forget the backbone and the posts encoded for it."""
        self._backbone, self._encoded = None, {}
        gc.collect()

    def table(self, split: str) -> pd.DataFrame:
        """`post_id` and labels of a split, in the order of its encoded posts."""
        columns = ["post_id", *(f"{LABEL_PREFIX}{category}" for category in self.posts.categories)]
        return self.posts.table(split, columns=columns)

    def labels(self, split: str, categories: Sequence[str]) -> Int8[np.ndarray, "post category"]:
        """Label matrix (1, 0, -1) of a split."""
        return labels(self.table(split), categories)

    def encoded(self, backbone: str, split: str) -> EncodedPosts:
        """The posts of a split as `backbone` takes them, through its tower once and for all where that is frozen.

        They are kept on disk (or in memory, where the tower is trained), and streamed where they are too many: the one
        rule for training, teaching and scoring.
        """
        model = self.backbone(backbone)
        if split in self._encoded:
            return self._encoded[split]
        rows, entry = Rows(self.posts.folder, split), self.encoded_entry(backbone, split)

        def fits(processes: int) -> bool:
            needed, room = encoded_size(model, rows), self.encoded_bytes
            room = room_for(model, self.cache.root) // (self.readers * processes) if room is None else room
            if needed > room:
                tqdm.write(
                    f"{backbone}, {split}: {len(rows):,} posts would take {needed / 1e9:,.3g} GB once encoded and may "
                    f"take {room / 1e9:,.3g}: they are decoded whenever they are read."
                )
            return needed <= room

        kept = keep(model, partial(self._read, backbone, split), entry, fits=fits, device=self.device)
        self._encoded[split] = self.streamed(backbone, rows) if kept is None else kept
        return self._encoded[split]

    def _read(self, backbone: str, split: str) -> Iterator[list[Encoded]]:
        """Encode a split, chunk by chunk, with a bar."""
        dataset = self.posts.split(split)
        with self.bar(total=len(dataset), desc=f"{backbone}: reading {split}", unit="post", mininterval=2) as bar:
            for chunk in chunks(self.backbone(backbone), dataset):
                yield chunk
                bar.update(len(chunk))

    def streamed(self, backbone: str, rows: Rows, *, positions: Sequence[int] | None = None) -> StreamedPosts:
        """Posts (some, or all) that `backbone` decodes and encodes anew whenever a batch is asked for."""
        workers = workers_for(self.device)
        return StreamedPosts.open(self.backbone(backbone), rows, positions=positions, workers=workers)

    def shares_encoded(self, backbone: str) -> bool:
        """Whether a backbone's encoded posts are kept in the cache, for other runs and processes."""
        return FAMILIES[BACKBONES[backbone].family].features_cacheable

    def steps(self, spec: RunSpec) -> int:
        """Optimiser steps of a run."""
        posts = int(self._trained_on(spec)[1].sum())
        return math.ceil(posts / spec.recipe.batch_size) * spec.recipe.epochs

    def encoded_entry(self, backbone: str, split: str) -> Entry:
        """Cache entry of a split's encoded posts: its hash covers posts, checkpoint, device and the models' code."""
        code = digest_sources(keep.__module__, load_backbone.__module__)
        return self.cache.entry("encoded", {**self._inputs(backbone, code=code), "split": split})

    def features_entry(self, backbone: str, split: str) -> Entry:
        """Cache entry of a frozen backbone's pooled vectors of a split (see `radar_lib.training.features`)."""
        code = digest_sources("radar_lib.training.features")
        return self.cache.entry("features", {**self._inputs(backbone, code=code), "split": split})

    def _inputs(self, backbone: str, *, code: str) -> dict[str, Any]:
        """What decides any result: posts, checkpoint, device, code, package versions."""
        return {
            "posts": self.posts.digest,
            "checkpoint": checkpoint_digest(self.checkpoint(backbone)),
            "device": self.device.split(":")[0],
            "code": code,
            "packages": {package: version(package) for package in DECIDING_PACKAGES},
        }

    def entry(self, spec: RunSpec, *, teacher: SoftLabels | None = None, side: SideFiles | None = None) -> Entry:
        """Cache entry of a run: its hash covers posts, checkpoint, specification, teacher, side, device and code."""
        if spec.recipe.distils and teacher is None:
            raise RadarError(f"{spec.backbone} with a lambda above 0 needs the experts' soft labels.")
        inputs = self._inputs(spec.backbone, code=digest_sources(__name__)) | {
            "spec": {**asdict(spec), "categories": list(spec.categories)},
            "teacher": teacher.digest if teacher is not None and spec.recipe.distils else None,
            "scored": list(self.score_splits),
        }
        if spec.recipe.needs:
            inputs["side"] = (side or SideFiles()).digests(spec.recipe.needs, spec.categories)
        if self.execution != Execution():  # it changes the last bits
            inputs["execution"] = asdict(self.execution)
        return self.cache.entry("training", inputs)

    def train(
        self, spec: RunSpec, *, teacher: SoftLabels | None = None, side: SideFiles | None = None, title: str = ""
    ) -> Run:
        """The run of this specification: from the cache, else trained now (or continued) and scored.

        Args:
            teacher: read where the recipe distils.
            side: what the recipe's objective reads beside the labels, where it needs anything.

        Raises:
            RadarError: no training post carries a verified label of these categories, teacher or side information is
                missing, or the loss is not finite.
        """
        entry = self.entry(spec, teacher=teacher, side=side)
        if entry.complete:
            return Run(spec, entry, entry.record())
        router = self._new_router(spec)
        first_process = rank_and_size()[0] == 0
        if self.execution.gradient_checkpointing:
            router.backbone.model.activation_checkpointing_enable()
            # only reentrant checkpointing needs it, and it would keep the frozen tower's activations
            router.backbone.model.disable_input_require_grads()
        trained = sum(p.numel() for p in router.trainable_parameters())
        total = sum(p.numel() for p in router.parameters())
        try:
            history = train(
                router, self._training_set(spec, teacher, side), spec.recipe, folder=entry.folder, device=self.device,
                execution=self.execution, validate=self._validation(spec), title=title or spec.backbone,
                checkpoint_seconds=self.checkpoint_seconds, bar=self.bar,
            )  # fmt: skip
            if first_process:
                router.save_pretrained(entry.path("router"))
            self.write_scores(router, spec, entry.path("scores.parquet"), self.score_splits)
        finally:
            router.detach()
            if self.execution.gradient_checkpointing:
                router.backbone.model.activation_checkpointing_disable()
        if first_process:
            write_json(entry.path("history.json"), asdict(history))
            entry.finish({
                "history": asdict(history), "scores": digest_file(entry.path("scores.parquet")),
                "trainable_parameters": trained, "backbone_parameters": total - trained,
                "checkpoint": Path(self.checkpoint(spec.backbone)).name,
            })  # fmt: skip
            entry.path(CHECKPOINT).unlink(missing_ok=True)
        wait_for_all()
        return Run(spec, entry, entry.record())

    def write_scores(
        self, router: nn.Module, spec: RunSpec, path: Path, splits: Sequence[str], *, only: Sequence[int] | None = None
    ) -> None:
        """Score posts and write the logits to `path`: all, or those at the positions `only` says.

        A post that others verified, and nobody for this model's categories, is passed over unless `only` names it: an
        expert's own scores are about its own pipeline. Splits without any label are scored whole.
        """
        ids, names, logits = [], [], []
        for split in splits:
            _, keep = self._verified(split, spec.categories)
            rows = np.flatnonzero(keep) if keep.any() else np.arange(len(keep))
            rows = rows if only is None else np.asarray(only)
            ids += self.table(split)["post_id"].to_numpy()[rows].tolist()
            names += [split] * len(rows)
            inputs = self.encoded(spec.backbone, split)
            inputs = inputs if len(rows) == len(inputs) else inputs.subset(rows)
            logits.append(predict(router, inputs, batch_size=inputs.at_once, device=self.device))
        if rank_and_size()[0] == 0:
            write_scores(path, post_ids=ids, splits=names, logits=np.concatenate(logits), categories=spec.categories)

    def _new_router(self, spec: RunSpec) -> RadarRouter:
        config = RouterConfig(categories=spec.categories, lora_rank=spec.lora_rank, lora_alpha=spec.lora_alpha)
        router = RadarRouter(self.backbone(spec.backbone), config, seed=spec.recipe.seed)
        if self.device != "cpu":
            spare_casts(router)
        return router

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

    def _training_set(
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

    def _validation(self, spec: RunSpec) -> Any:
        """A function of the router: PR-AUC of each category on the validation posts that its pipeline verified.

        Left out are categories that the posts cannot judge (none violates, or none is cleared), and those of which the
        router says the same of every post.
        """
        if "validation" not in self.posts.splits:
            return None
        matrix, keep = self._verified("validation", spec.categories)
        if not keep.any():
            return None
        rows = np.flatnonzero(keep)
        inputs, known = self.encoded(spec.backbone, "validation").subset(rows), matrix[rows]

        def validate(router: RadarRouter) -> dict[str, float]:
            logits = predict(router, inputs, batch_size=inputs.at_once, device=self.device)
            found = {
                category: average_precision(known[valid, k], logits[valid, k])
                for k, category in enumerate(spec.categories)
                if len(np.unique(known[valid := known[:, k] >= 0, k])) == 2
            }
            return {category: value for category, value in found.items() if not np.isnan(value)}

        return validate
