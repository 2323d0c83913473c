"""The training loop: AdamW, cosine schedule with warm-up, gradient clipping, over accelerate; resumable to the bit.

Everything random is a function of (seed, epoch), so a killed run continues the same loss curve from its checkpoint.
The same loop runs in one process or, under torchrun, in several: each reads its share of every batch.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import gather_object, is_tensorboard_available
from jaxtyping import Float, Int8
from torch import Tensor, nn
from tqdm import tqdm

from radar_lib.errors import RadarError
from radar_lib.labels import valid_mask
from radar_lib.losses import radar_loss
from radar_lib.partial_losses import OBJECTIVES, SideInformation
from radar_lib.ranges import COUNT, POSITIVE, SHARE, Range, check_ranges
from radar_lib.training.batches import BatchSource, ahead, micro_batches, run_batches
from radar_lib.training.inference import half_precision, to_device
from radar_lib.training.state import CHECKPOINT, History, load_checkpoint, save_checkpoint

no_bar = partial(tqdm, disable=True)
CURVES = "curves"  # folder of TensorBoard's events


@dataclass(frozen=True)
class TrainingSet:
    """What the loss of a run reads: inputs, labels of its categories, and, by recipe, teacher's logits and side."""

    inputs: BatchSource
    labels: Int8[np.ndarray, "post category"]
    post_ids: Sequence[str]
    teacher_logits: Float[np.ndarray, "post category"] | None = None
    side: SideInformation = field(default_factory=SideInformation)

    def __post_init__(self) -> None:
        valid_mask(self.labels)  # before the first step: it knows what a label is


@dataclass(frozen=True)
class Recipe:
    """How a run is trained. The paper's: AdamW, 1e-5, cosine with 20 % warm-up; the rest it does not state.

    Attributes:
        objective: a name of `partial_losses.OBJECTIVES`: 'masked' (Eq. 5 and 7), 'unmasked' ('BCE w/o Mask'), or one
            of those beyond the paper, which may read side information.
        lam: lambda of Eq. 7; needs a teacher where it is above 0.
        lam_verified, lam_unverified: lambda on verified and on unverified cells, where it is not `lam` on both.
        epochs: passes over the training set.
        batch_size: posts per optimiser step, over all processes.
        learning_rate: peak of the schedule.
        warmup: share of the steps that the learning rate takes to rise.
        weight_decay: AdamW's, decoupled.
        clip: largest norm of the gradient.
        seed: decides the order of the posts and the initial weights of adapters and heads.
    """

    objective: str = "masked"
    lam: float = 0.0
    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup: float = 0.2
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 1
    lam_verified: float | None = None
    lam_unverified: float | None = None

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise RadarError(f"objective is {self.objective!r}; it must be one of {', '.join(OBJECTIVES)}.")
        if self.objective != "masked" and self.distils:
            raise RadarError(f"only 'masked' has a distillation term, {self.objective!r} has none: set lam=0.")
        check_ranges(vars(self), {
            "lam": SHARE, "lam_verified": SHARE, "lam_unverified": SHARE, "epochs": COUNT, "batch_size": COUNT,
            "learning_rate": POSITIVE, "warmup": SHARE, "weight_decay": Range(0), "clip": POSITIVE,
            "seed": Range(0, 2**63 - 1),
        })  # fmt: skip

    def steps(self, posts: int) -> int:
        """Optimiser steps of a run on so many posts."""
        return math.ceil(posts / self.batch_size) * self.epochs

    @property
    def distils(self) -> bool:
        """Whether the loss reads a teacher."""
        return any(lam is not None and lam > 0 for lam in (self.lam, self.lam_verified, self.lam_unverified))

    @property
    def needs(self) -> tuple[str, ...]:
        """Fields of `SideInformation` that the objective reads."""
        return OBJECTIVES[self.objective].needs


@dataclass(frozen=True)
class Execution:
    """How a step is computed: decides memory and speed, and the result by no more than rounding.

    Attributes:
        accumulate: micro-batches that a batch is cut into; processes share them, each does its own one by one.
        gradient_checkpointing: keep each layer's input only and compute the layer again in the backward pass.
        packing: posts end to end instead of padded, where the family can (Qwen3-VL).
    """

    accumulate: int = 1
    gradient_checkpointing: bool = False
    packing: bool = False

    def __post_init__(self) -> None:
        check_ranges(vars(self), {"accumulate": COUNT})


def learning_rate_factor(step: int, *, total: int, warmup: float) -> float:
    """Share of the peak learning rate at `step` (0-based) of `total`: linear rise from 0, then half a cosine to 0."""
    rising = int(warmup * total)
    falling = 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(total - rising, 1)))
    return step / rising if step < rising else falling


def train(
    router: nn.Module, data: TrainingSet, recipe: Recipe, *, folder: Path, device: str = "cpu",
    execution: Execution | None = None, validate: Callable[[nn.Module], dict[str, float]] | None = None,
    checkpoint_seconds: float = 30.0, title: str = "training", bar: Callable[..., Any] = tqdm,
) -> History:  # fmt: skip
    """Train the router's trainable parameters in place; continue from `folder` if it holds a checkpoint.

    Args:
        router: returns logits (post, category) of a batch of `data.inputs`.
        data: inputs, labels, the teacher's logits where the recipe distils, side information where it needs some.
        folder: of the checkpoint while the run lasts, and of curves for TensorBoard where that is installed.
        device: 'cpu' or 'cuda'.
        execution: micro-batches; the rest of it concerns the router, which comes here ready.
        validate: called after each epoch with the router, in every process; its numbers go into the history.
        checkpoint_seconds: at most this much work is lost when the process is killed.
        title, bar: of the progress bar, and what makes it, called as tqdm is.

    Raises:
        RadarError: the loss is not finite; the message names the step and its posts. Or there are no posts.
    """
    if not len(data.post_ids):
        raise RadarError(f"{title}: no training post has a verified label for its categories.")
    # a text-only batch leaves SigLIP's vision tower unused; no buffer changes in training
    distributed = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
    log_with = "tensorboard" if is_tensorboard_available() else None
    accelerator = Accelerator(
        cpu=device == "cpu", mixed_precision="no", kwargs_handlers=[distributed], log_with=log_with, project_dir=folder
    )
    on, first_process = accelerator.device, accelerator.is_main_process
    router.to(on)
    parameters = {name: p for name, p in router.named_parameters() if p.requires_grad}
    optimiser = torch.optim.AdamW(
        parameters.values(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    history, first = load_checkpoint(folder / CHECKPOINT, parameters, optimiser)
    model, prepared = accelerator.prepare(router, optimiser)
    labels = torch.tensor(data.labels, dtype=torch.int64)
    teacher = None if data.teacher_logits is None else torch.tensor(data.teacher_logits, dtype=torch.float32)

    total = recipe.steps(len(data.post_ids))
    per_epoch = total // recipe.epochs
    started, saved, shown = time.perf_counter() - history.seconds, time.perf_counter(), []
    if first_process:  # what followed the checkpoint will be logged again
        shutil.rmtree(folder / CURVES, ignore_errors=True)
    accelerator.init_trackers(CURVES)
    _log(accelerator, "step", *history.steps)
    _log(accelerator, "epoch", *history.epochs)
    shown_steps = bar(total=total, initial=first, desc=title, unit="step", mininterval=2)
    model.train()
    share = {"process": accelerator.process_index, "processes": accelerator.num_processes}
    share["accumulate"] = (execution or Execution()).accumulate
    steps = _steps(data.inputs, recipe, first=first, device=on, **share)
    for step, epoch, parts in ahead(steps) if on.type == "cuda" else steps:
        rate = recipe.learning_rate * learning_rate_factor(step, total=total, warmup=recipe.warmup)
        optimiser.param_groups[0]["lr"] = rate
        losses = []
        for posts, weight, batch in parts:
            target, guide = labels[posts], None if teacher is None else teacher[posts].to(on)
            last_part = len(losses) + 1 == len(parts)
            with nullcontext() if last_part else accelerator.no_sync(model):
                with half_precision(on):
                    logits = model(batch)
                loss = weight * _loss(logits, target, guide, data.side.of(posts, on), recipe)
                accelerator.backward(loss)
            losses.append(loss.detach())
        loss = accelerator.reduce(torch.stack(losses).sum(), "mean").item()
        if not math.isfinite(loss):
            bad = [post for part, its in zip(parts, losses, strict=True) if not its.isfinite() for post in part[0]]
            named = ", ".join(str(data.post_ids[post]) for post in gather_object(bad)[:5])
            raise RadarError(f"{title}: the loss is {loss} at step {step + 1} of {total}; posts {named}, ...")
        norm = accelerator.clip_grad_norm_(parameters.values(), recipe.clip)
        prepared.step()
        prepared.zero_grad()
        shown.append((loss, float(norm)))
        shown_steps.update()

        last_of_epoch = (step + 1) % per_epoch == 0
        if last_of_epoch or len(shown) == max(1, per_epoch // 10):
            mean_loss, mean_norm = np.mean(shown, axis=0)
            history.steps.append({"step": step + 1, "loss": mean_loss, "gradient_norm": mean_norm, "rate": rate})
            shown_steps.set_postfix_str(f"loss {mean_loss:.3f}")
            shown = []
            _log(accelerator, "step", history.steps[-1])
        if last_of_epoch and validate is not None:
            model.eval()
            history.epochs.append({"epoch": epoch + 1, **validate(router)})
            model.train()
            _log(accelerator, "epoch", history.epochs[-1])
        # Logged means restart after a checkpoint, so it is taken only where none is pending.
        if not shown and time.perf_counter() - saved > checkpoint_seconds and step + 1 < total:
            history.seconds = time.perf_counter() - started
            if first_process:
                save_checkpoint(folder / CHECKPOINT, parameters, optimiser, history, step=step + 1)
            saved = time.perf_counter()
    shown_steps.close()
    for tracker in accelerator.trackers:
        tracker.finish()
    model.eval()
    history.seconds = time.perf_counter() - started
    return history


def _log(accelerator: Accelerator, unit: str, *entries: Mapping[str, float]) -> None:
    """Entries of a run's curves for TensorBoard: `step` or `epoch` is the x axis."""
    name = {"step": "train", "epoch": "validation"}[unit]
    for entry in entries:
        accelerator.log({f"{name}/{key}": value for key, value in entry.items() if key != unit}, step=int(entry[unit]))


def _steps(
    inputs: BatchSource, recipe: Recipe, *, first: int, device: torch.device, **share: int
) -> Iterator[tuple[int, int, list[tuple[np.ndarray, float, dict[str, Tensor]]]]]:
    """(step, epoch, micro-batches) from step `first` on; a micro-batch is its posts, its loss's weight, its inputs."""
    about = {"epochs": recipe.epochs, "batch_size": recipe.batch_size, "seed": recipe.seed, "first": first}
    plan = [(*step, micro_batches(indices, **share)) for *step, indices in run_batches(inputs.lengths, **about)]
    batches = inputs.batches([posts for *_, parts in plan for posts, _ in parts])
    for step, epoch, parts in plan:
        yield step, epoch, [(posts, weight, to_device(next(batches), device)) for posts, weight in parts]


def _loss(
    logits: Tensor, target: Tensor, guide: Tensor | None, side: SideInformation, recipe: Recipe
) -> Float[Tensor, ""]:
    if recipe.objective != "masked":
        return OBJECTIVES[recipe.objective](logits, target, side)
    split = {"lam_verified": recipe.lam_verified, "lam_unverified": recipe.lam_unverified}
    return radar_loss(logits, target, guide, lam=recipe.lam, **split)
