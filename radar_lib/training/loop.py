"""The training loop: AdamW, cosine schedule with warm-up, gradient clipping, over accelerate; resumable to the bit.

Everything random is a function of (seed, epoch), and a checkpoint holds the trainable weights and AdamW's moments
in float32, so a killed run continues the same loss curve. Checkpoints are safetensors; nothing is unpickled.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float, Int8
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from radar_lib.errors import RadarError
from radar_lib.files import atomic_path
from radar_lib.losses import radar_loss, unmasked_bce

CHECKPOINT = "checkpoint.safetensors"
no_bar = partial(tqdm, disable=True)


class BatchSource(Protocol):
    """Posts ready for one backbone: how long each is, and a padded batch of any of them."""

    lengths: Sequence[int]

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class TrainingSet:
    """What the loss of a run reads: inputs, labels of its categories, and the teacher's logits if it distils."""

    inputs: BatchSource
    labels: Int8[np.ndarray, "post category"]
    post_ids: Sequence[str]
    teacher_logits: Float[np.ndarray, "post category"] | None = None


@dataclass(frozen=True)
class Recipe:
    """How a run is trained. The paper's: AdamW, 1e-5, cosine with 20 % warm-up; the rest it does not state.

    Attributes:
        objective: 'masked' (Eq. 5 and 7) or 'unmasked' ('BCE w/o Mask').
        lam: lambda of Eq. 7; needs a teacher where it is above 0.
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

    def __post_init__(self) -> None:
        if self.objective not in ("masked", "unmasked"):
            raise RadarError(f"objective is {self.objective!r}; it must be 'masked' or 'unmasked'.")
        if self.objective == "unmasked" and self.lam > 0:
            raise RadarError("the unmasked baseline has no distillation term: set lam=0.")


@dataclass
class History:
    """Curves of a run: `steps` holds the mean loss between two entries, `epochs` what validation said."""

    steps: list[dict[str, float]] = field(default_factory=list)
    epochs: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0


def learning_rate_factor(step: int, *, total: int, warmup: float) -> float:
    """Share of the peak learning rate at `step` (0-based) of `total`: linear rise from 0, then half a cosine to 0."""
    rising = int(warmup * total)
    if step < rising:
        return step / rising
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(total - rising, 1)))


def epoch_batches(lengths: Sequence[int], *, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Batches of one epoch: shuffled, yet of similar lengths, so that little is padding.

    Posts are shuffled, cut into pools of 16 batches, sorted by length within a pool, and the batches are shuffled
    again. Each post appears exactly once.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    length = np.asarray(lengths)
    pools = [order[start : start + 16 * batch_size] for start in range(0, len(order), 16 * batch_size)]
    batches = []
    for pool in pools:
        pool = pool[np.argsort(length[pool], kind="stable")]
        batches += [pool[start : start + batch_size] for start in range(0, len(pool), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


def train(
    router: nn.Module,
    data: TrainingSet,
    recipe: Recipe,
    *,
    folder: Path,
    device: str = "cpu",
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    checkpoint_seconds: float = 30.0,
    title: str = "training",
    bar: Callable[..., Any] = tqdm,
) -> History:
    """Train the router's trainable parameters in place; continue from `folder` if it holds a checkpoint.

    Args:
        router: returns logits (post, category) of a batch of `data.inputs`.
        data: inputs, labels, and the teacher's logits where `recipe.lam` > 0.
        recipe: objective and optimisation.
        folder: where the checkpoint is kept while the run lasts.
        device: 'cpu' or 'cuda'; on CUDA the forward pass runs in bfloat16, heads and loss in float32.
        validate: called after each epoch with the router; its numbers go into the history.
        checkpoint_seconds: at most this much work is lost when the process is killed.
        title: shown by the progress bar.
        bar: makes the progress bar, called as tqdm is.

    Raises:
        RadarError: the loss is not finite; the message names the step and its posts. Or there are no posts.
    """
    if not len(data.post_ids):
        raise RadarError(f"{title}: no training post has a verified label for its categories.")
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="bf16" if device.startswith("cuda") else "no")
    router.to(accelerator.device)
    parameters = {name: p for name, p in router.named_parameters() if p.requires_grad}
    optimiser = torch.optim.AdamW(parameters.values(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    history, first = _resume(folder / CHECKPOINT, parameters, optimiser)
    model, prepared = accelerator.prepare(router, optimiser)
    labels = torch.tensor(data.labels, dtype=torch.int64)
    teacher = None if data.teacher_logits is None else torch.tensor(data.teacher_logits, dtype=torch.float32)

    per_epoch = math.ceil(len(data.post_ids) / recipe.batch_size)
    total = per_epoch * recipe.epochs
    started, saved, shown = time.perf_counter() - history.seconds, time.perf_counter(), []
    shown_steps = bar(total=total, initial=first, desc=title, unit="step", mininterval=2)
    model.train()
    for step, epoch, indices in _steps(data.inputs.lengths, recipe, first=first):
        rate = recipe.learning_rate * learning_rate_factor(step, total=total, warmup=recipe.warmup)
        for group in optimiser.param_groups:
            group["lr"] = rate
        mine = indices[accelerator.process_index :: accelerator.num_processes]
        batch = {key: value.to(accelerator.device) for key, value in data.inputs.batch(mine).items()}
        target = labels[mine].to(accelerator.device)
        with accelerator.autocast():
            logits = model(batch)
        if recipe.objective == "unmasked":
            loss = unmasked_bce(logits, target)
        else:
            guide = None if teacher is None else teacher[mine].to(accelerator.device)
            loss = radar_loss(logits, target, guide, lam=recipe.lam)
        if not torch.isfinite(loss):
            posts = ", ".join(str(data.post_ids[i]) for i in mine[:5])
            raise RadarError(f"{title}: the loss is {loss.item()} at step {step + 1} of {total}; posts {posts}, ...")
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(parameters.values(), recipe.clip)
        prepared.step()
        prepared.zero_grad()
        shown.append((loss.item(), float(norm)))
        shown_steps.update()

        last_of_epoch = (step + 1) % per_epoch == 0
        if last_of_epoch or len(shown) == max(1, per_epoch // 10):
            mean_loss, mean_norm = np.mean(shown, axis=0)
            history.steps.append({"step": step + 1, "loss": mean_loss, "gradient_norm": mean_norm, "rate": rate})
            shown_steps.set_postfix_str(f"loss {mean_loss:.3f}")
            shown = []
        if last_of_epoch and validate is not None:
            model.eval()
            history.epochs.append({"epoch": epoch + 1, **validate(router)})
            model.train()
        # Logged means restart after a checkpoint, so it is taken only where none is pending.
        if not shown and time.perf_counter() - saved > checkpoint_seconds and step + 1 < total:
            history.seconds = time.perf_counter() - started
            if accelerator.is_main_process:
                save_checkpoint(folder / CHECKPOINT, parameters, optimiser, history, step=step + 1)
            saved = time.perf_counter()
    shown_steps.close()
    model.eval()
    history.seconds = time.perf_counter() - started
    return history


def _steps(lengths: Sequence[int], recipe: Recipe, *, first: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """(step, epoch, indices) of the whole run, from step `first` on."""
    step = 0
    for epoch in range(recipe.epochs):
        for indices in epoch_batches(lengths, batch_size=recipe.batch_size, seed=recipe.seed, epoch=epoch):
            if step >= first:
                yield step, epoch, indices
            step += 1


def save_checkpoint(
    path: Path, parameters: dict[str, nn.Parameter], optimiser: torch.optim.AdamW, history: History, *, step: int
) -> None:
    """Write weights, AdamW's moments, the step and the curves so far as one safetensors file."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        tensors[f"weight/{name}"] = parameter.detach().cpu().contiguous()
        for key in ("exp_avg", "exp_avg_sq"):
            tensors[f"{key}/{name}"] = optimiser.state[parameter][key].detach().cpu().contiguous()
    state = {"step": step, "steps": history.steps, "epochs": history.epochs, "seconds": history.seconds}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"state": json.dumps(state)})


def _resume(
    path: Path, parameters: dict[str, nn.Parameter], optimiser: torch.optim.AdamW
) -> tuple[History, int]:
    """Load a checkpoint into the parameters and the optimiser; returns the curves and the steps already done."""
    if not path.exists():
        return History(), 0
    with safe_open(path, framework="pt") as file:
        state: dict[str, Any] = json.loads(file.metadata()["state"])
        for name, parameter in parameters.items():
            with torch.no_grad():
                parameter.copy_(file.get_tensor(f"weight/{name}"))
            optimiser.state[parameter] = {
                "step": torch.tensor(float(state["step"])),
                "exp_avg": file.get_tensor(f"exp_avg/{name}").to(parameter.device),
                "exp_avg_sq": file.get_tensor(f"exp_avg_sq/{name}").to(parameter.device),
            }
    return History(state["steps"], state["epochs"], state["seconds"]), state["step"]


@torch.inference_mode()
def predict(
    router: nn.Module, inputs: BatchSource, *, batch_size: int = 128, device: str = "cpu", title: str = ""
) -> Float[np.ndarray, "post category"]:
    """Logits (float32) of every post, in the order of `inputs`; a bar is shown where `title` is given."""
    router.eval()
    order = np.argsort(np.asarray(inputs.lengths), kind="stable")
    starts = range(0, len(order), batch_size)
    rows: list[np.ndarray] = []
    for start in tqdm(starts, desc=title, unit="batch", disable=not title, mininterval=2):
        batch = {key: value.to(device) for key, value in inputs.batch(order[start : start + batch_size]).items()}
        with torch.autocast(device_type="cuda", dtype=torch.bfloat16, enabled=device.startswith("cuda")):
            rows.append(router(batch).float().cpu().numpy())
    logits = np.concatenate(rows)
    result = np.empty_like(logits)
    result[order] = logits
    return result
