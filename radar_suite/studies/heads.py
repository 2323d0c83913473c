"""Router heads on frozen features, many at once: what a router learns when its backbone stays as it is.

Each member is RadarRouter's MLP and heads (LayerNorm, Linear, GELU, one Linear per risk) with posts, cells and seed of
its own. Every objective here is a weighted cross-entropy: a cell has a target in [0, 1] and a weight, 0 where it is not
read. Members of equal size are trained together as one batched product, which gives each what it would get alone:
AdamW works element by element, and the loss is the sum of the members' losses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int8
from scipy.special import expit
from torch import Tensor

from radar_lib.losses import bce_cells, per_post
from radar_lib.training.loop import learning_rate_factor

Weights = dict[str, Float[Tensor, "*shape"]]
Labels = Int8[np.ndarray, "post category"]
PerCell = Float[np.ndarray, "post category"]


@dataclass(frozen=True)
class HeadRecipe:
    """How heads are trained: AdamW, cosine schedule with warm-up, as routers are."""

    epochs: int = 5
    batch_size: int = 64
    learning_rate: float = 2e-3  # peak of the schedule
    warmup: float = 0.2  # share of the steps in which it rises
    weight_decay: float = 0.01  # AdamW's, decoupled


@dataclass(frozen=True)
class Member:
    """One router to train; members that differ in their cells alone share initial weights and order of posts."""

    rows: Int[np.ndarray, " post"]  # its training posts, rows of the shared features
    targets: PerCell  # in [0, 1]
    weights: PerCell  # of the cells' cross-entropy; 0 where a cell is not read
    seed: int  # of the initial weights and the order of the posts

    @classmethod
    def of(cls, rows: Int[np.ndarray, " post"], labels: Labels, objective: str, seed: int) -> Member:
        """By labels (1, 0, or -1 where not verified): 'masked' (Eq. 5), or 'unmasked' (-1 is taken for 0).

        Raises:
            ValueError: another objective.
        """
        if objective not in ("masked", "unmasked"):
            raise ValueError(f"objective {objective!r}; it must be 'masked' or 'unmasked'")
        read = (labels >= 0) | (objective == "unmasked")
        return cls(rows, np.maximum(labels, 0).astype(np.float32), read.astype(np.float32), seed)

    @classmethod
    def distilled(
        cls, rows: Int[np.ndarray, " post"], labels: Labels, teacher_logits: PerCell, *, lam: float, seed: int
    ) -> Member:
        """By Eq. 7: towards (1 - lambda) y + lambda t where verified, and lambda times towards t elsewhere."""
        taught, known = expit(teacher_logits), labels >= 0
        targets = np.where(known, (1 - lam) * labels + lam * taught, taught)
        return cls(rows, targets.astype(np.float32), np.where(known, 1.0, lam).astype(np.float32), seed)

    def weighted(self, factors: PerCell) -> Member:
        """With its cells' weights times these."""
        return replace(self, weights=(self.weights * factors).astype(np.float32))

    def with_negatives(self, rows: Int[np.ndarray, " other"]) -> Member:
        """With more posts, every cell of which is taken for 0."""
        more = np.zeros((len(rows), self.targets.shape[1]), np.float32)
        return replace(self, rows=np.concatenate([self.rows, rows]), targets=np.concatenate([self.targets, more]),
                       weights=np.concatenate([self.weights, more + 1]))  # fmt: skip


def train_heads(
    features: Float[np.ndarray, "post hidden"], members: Sequence[Member], recipe: HeadRecipe
) -> list[Weights]:
    """Weights of each member's heads after training.

    Raises:
        ValueError: no member, or members of different size.
    """
    if not members or len({member.targets.shape for member in members}) > 1:
        raise ValueError("members are trained together: at least one, and all with as many posts and categories")
    posts, categories = members[0].targets.shape
    inputs = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))
    rows = torch.from_numpy(np.stack([member.rows for member in members]))
    targets, factors = (torch.from_numpy(np.stack([getattr(member, name) for member in members]))
                        for name in ("targets", "weights"))  # fmt: skip
    starts = [initial_weights(inputs.shape[1], categories, seed=member.seed) for member in members]
    weights = {name: torch.stack([start[name] for start in starts]).requires_grad_() for name in starts[0]}
    optimiser = torch.optim.AdamW(weights.values(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    orders = [torch.Generator().manual_seed(member.seed) for member in members]
    total, now = recipe.epochs * math.ceil(posts / recipe.batch_size), 0
    for _ in range(recipe.epochs):
        order = torch.stack([torch.randperm(posts, generator=generator) for generator in orders])
        for chosen in order.split(recipe.batch_size, dim=1):
            factor = learning_rate_factor(now, total=total, warmup=recipe.warmup)
            optimiser.param_groups[0]["lr"] = recipe.learning_rate * factor
            now += 1
            logits = apply_heads(weights, inputs[rows.gather(1, chosen)])
            cell = chosen[..., None].expand(-1, -1, categories)
            target, factor = (of.gather(1, cell).flatten(0, 1) for of in (targets, factors))
            cells = factor * bce_cells(logits.flatten(0, 1), target, factor > 0)
            loss = len(members) * per_post(cells)  # sum of the members' means
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return [{name: values[i].detach().clone() for name, values in weights.items()} for i in range(len(members))]


def initial_weights(hidden: int, categories: int, *, seed: int) -> Weights:
    """RadarRouter's: torch's defaults for LayerNorm and Linear, the heads' biases 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mlp = torch.nn.Linear(hidden, hidden)
        heads = [torch.nn.Linear(hidden, 1) for _ in range(categories)]
    return {
        "scale": torch.ones(hidden), "shift": torch.zeros(hidden),
        "weight": mlp.weight.detach().T.clone(), "bias": mlp.bias.detach().clone(),
        "heads": torch.cat([head.weight for head in heads]).detach().T.clone(), "head_bias": torch.zeros(categories),
    }  # fmt: skip


def apply_heads(
    weights: Weights, inputs: Float[Tensor, "*member post hidden"]
) -> Float[Tensor, "*member post category"]:
    """Logits of one member, or of several at once (all weights and inputs then lead with the member)."""
    row = {name: weights[name].unsqueeze(-2) for name in ("scale", "shift", "bias", "head_bias")}
    normal = F.layer_norm(inputs, inputs.shape[-1:]) * row["scale"] + row["shift"]
    return F.gelu(normal @ weights["weight"] + row["bias"]) @ weights["heads"] + row["head_bias"]


@torch.inference_mode()
def head_logits(features: Float[np.ndarray, "post hidden"], weights: Weights) -> Float[np.ndarray, "post category"]:
    """Logits (float32) of trained heads on posts."""
    return apply_heads(weights, torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))).numpy()
