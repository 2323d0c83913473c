"""Set-ups: what a run trains, scores and serves. A fault changes one; `harms` says what that costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int, Int8
from scipy.special import expit

from radar_lib.losses import bce_cells, per_post
from radar_lib.metrics import average_precision, threshold_at_recall
from radar_lib.training.loop import learning_rate_factor
from radar_suite.diagnosis.bench import Bench
from radar_suite.studies.heads import Member, apply_heads, head_logits, initial_weights
from radar_suite.world.policies import CATEGORIES

K = len(CATEGORIES)
SEEDS = 5  # matched runs of the rule of harm
RECALL = 0.9
RELABELLED = 200  # training posts that a second look covers
Random = np.random.Generator


@dataclass
class Setup:
    """What is trained, scored and served; a fault changes it in place.

    Attributes:
        posts: by split, as `Bench.posts`; the labels are what the run records.
        x: by variant and split, features of the posts as they are.
        read: labels that the loss reads (a share of 1, or -1), train posts.
        teacher: by split, soft labels as logits, as they were joined.
        file: the same as the teacher wrote them.
        bench: where the posts come from; the ones that are not in training can be sampled.
        looks: by variant and split, posts that the intake made look so.
        basis: directions of the features that the backbone can use; None for all.
        unseen: languages that it reads nothing of, and how little.
        prior: added to served logits.
        blank: by variant, posts of serve that are served so.
        noise: relative size of the steps that served features are rounded to.
        shift: of the deployed thresholds, in standard deviations of the logits.
        after: changes of the trained weights, and of all logits of a split.
        said: what training and serving say of themselves.
    """

    posts: dict[str, pd.DataFrame]
    x: dict[str, dict[str, Float[np.ndarray, "post hidden"]]]
    truth: dict[str, Int8[np.ndarray, "post category"]]
    posterior: dict[str, Float[np.ndarray, "post category"]]
    read: Int8[np.ndarray, "post category"]
    teacher: dict[str, Float[np.ndarray, "post category"]]
    file: dict[str, Float[np.ndarray, "post category"]]
    bench: Bench
    looks: dict[str, dict[str, Bool[np.ndarray, " post"]]] = field(default_factory=dict)
    basis: Float[np.ndarray, "hidden direction"] | None = None
    unseen: tuple[list[str], float] = ([], 0.0)
    prior: Float[np.ndarray, " category"] = field(default_factory=lambda: np.zeros(K))
    lam: float | Float[np.ndarray, " category"] = 0.3
    learning_rate: float = 4e-3
    epochs: int = 10
    batch: int = 64
    decay: float = 0.01
    stop: float = 1.0  # share of the steps that are done
    head_weights: Float[np.ndarray, " category"] = field(default_factory=lambda: np.ones(K))
    blank: dict[str, float] = field(default_factory=dict)
    noise: float = 0.0
    shift: Float[np.ndarray, " category"] = field(default_factory=lambda: np.zeros(K))
    after: list[Callable[[str, Any], Any]] = field(default_factory=list)
    said: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, bench: Bench) -> Setup:
        """A healthy run's."""
        x = {variant: dict(features) for variant, features in bench.features.items()}
        setup = cls({split: table.copy() for split, table in bench.posts.items()}, x, dict(bench.truth),
                    dict(bench.posterior), np.empty(0), dict(bench.teacher), dict(bench.teacher), bench)  # fmt: skip
        setup.read = setup.labels("train").copy()
        return setup

    def copy(self) -> Setup:
        """One that can be changed while this stays."""
        by_split = {name: dict(getattr(self, name)) for name in ("truth", "posterior", "teacher", "file")}
        nested = {name: {of: dict(values) for of, values in getattr(self, name).items()} for name in ("x", "looks")}
        return replace(self, posts={split: table.copy() for split, table in self.posts.items()}, **by_split, **nested,
                       blank=dict(self.blank), after=list(self.after), said=dict(self.said))  # fmt: skip

    def labels(self, split: str) -> Int8[np.ndarray, "post category"]:
        return self.posts[split][[f"label_{c}" for c in CATEGORIES]].to_numpy(np.int8, copy=True)

    def relabel(self, split: str, labels: Int8[np.ndarray, "post category"]) -> None:
        """Record other labels, where a label was recorded; training reads them."""
        known = self.labels(split) >= 0
        self.posts[split][[f"label_{c}" for c in CATEGORIES]] = np.where(known, labels, -1).astype(np.int8)
        if split == "train":
            self.read = np.where(known, labels, self.read).astype(np.int8)

    def keep(self, split: str, rows: Int[np.ndarray, " post"]) -> None:
        """Take these posts of a split, in this order, possibly several times."""
        self.posts[split] = self.posts[split].iloc[rows].reset_index(drop=True)
        for of in self._by_post():
            if split in of:
                of[split] = of[split][rows]
        if split == "train":
            self.read = self.read[rows]

    def _by_post(self) -> list[dict[str, np.ndarray]]:
        """What has one row per post, by split."""
        return [self.truth, self.posterior, self.teacher, self.file, *self.x.values(), *self.looks.values()]

    def add(self, posts: pd.DataFrame, source: Setup, split: str, rows: Int[np.ndarray, " post"]) -> None:
        """Add posts to training; all else about them is that of rows of a split of a set-up."""
        self.posts["train"] = pd.concat([self.posts["train"], posts], ignore_index=True)
        for look, chosen in self.looks.items():
            if "train" in chosen:
                source.looks.setdefault(look, {}).setdefault(split, np.zeros(len(source.posts[split]), bool))
        for own, other in zip(self._by_post(), source._by_post(), strict=True):
            if "train" in own:
                own["train"] = np.concatenate([own["train"], other[split][rows]])
        self.read = np.concatenate([self.read, self.labels("train")[len(self.read) :]])

    def mix(self, split: str, variant: str, chosen: Bool[np.ndarray, " post"]) -> None:
        """Let chosen posts of a split look like a variant of themselves, in every ablation too."""
        self.looks.setdefault(variant, {})[split] = chosen

    def features(self, variant: str, split: str) -> Float[np.ndarray, "post hidden"]:
        """What the heads are given: of the posts as the intake left them, what the backbone passes on."""
        seen = {name: x[split] for name, x in self.x.items()}
        for look, chosen in self.looks.items():
            if split in chosen:
                change = np.where(chosen[split][:, None], seen[look] - seen["whole"], 0)
                for other in {"whole", "no_frames", "no_text"} - ({look} & {"no_frames", "no_text"}):
                    seen[other] = seen[other] + change
        values, (languages, share) = seen[variant], self.unseen
        if languages:
            unread = self.posts[split]["language"].isin(languages).to_numpy()[:, None]
            values = np.where(unread, (1 - share) * values + share * self.x["whole"]["train"].mean(axis=0), values)
        if self.basis is not None:
            values = values @ self.basis @ self.basis.T
        return np.ascontiguousarray(values, dtype=np.float32)


def learn(setup: Setup, seeds: list[int]) -> tuple[list[dict[str, torch.Tensor]], pd.DataFrame]:
    """Weights of one run per seed, all trained at once, and the curve of the first."""
    x = torch.from_numpy(setup.features("whole", "train"))
    cells = Member.distilled(np.arange(len(x)), setup.read, setup.teacher["train"], lam=setup.lam, seed=0)
    targets, factors = map(torch.from_numpy, (cells.targets, cells.weighted(setup.head_weights).weights))
    held, check = torch.from_numpy(setup.features("whole", "validation")), torch.from_numpy(setup.labels("validation"))
    starts = [initial_weights(x.shape[1], K, seed=seed) for seed in seeds]
    for start in starts:  # a head that gets no gradient says nothing
        start["heads"] = start["heads"] * torch.from_numpy(setup.head_weights > 0.1).float()
    weights = {name: torch.stack([start[name] for start in starts]).requires_grad_() for name in starts[0]}
    optimiser = torch.optim.AdamW(weights.values(), lr=setup.learning_rate, weight_decay=setup.decay)
    orders = [torch.Generator().manual_seed(seed) for seed in seeds]
    every = -(-len(x) // setup.batch)
    total, last, lines = setup.epochs * every, max(2, round(setup.stop * setup.epochs * every)), []
    for now in range(last):
        if now % every == 0:
            order = torch.stack([torch.randperm(len(x), generator=generator) for generator in orders])
        chosen = order[:, now % every * setup.batch : (now % every + 1) * setup.batch]
        optimiser.param_groups[0]["lr"] = setup.learning_rate * learning_rate_factor(now, total=total, warmup=0.2)
        logits = apply_heads(weights, x[chosen])
        factor = factors[chosen]
        cells = factor * bce_cells(logits.flatten(0, 1), targets[chosen].flatten(0, 1),
                                   (factor > 0).flatten(0, 1)).view_as(logits)  # fmt: skip
        optimiser.zero_grad()
        (len(seeds) * per_post(cells.flatten(0, 1))).backward()
        if now % max(1, last // 40) == 0 or now == last - 1:
            with torch.no_grad():
                seen = bce_cells(apply_heads({name: w[0] for name, w in weights.items()}, held), check, check >= 0)
                moved = (weights["weight"][0] - starts[0]["weight"]).norm() / starts[0]["weight"].norm()
                lines.append([now, *(cells[0].sum(0) / (factor[0] > 0).sum(0)).tolist(),
                              *(seen.sum(0) / (check >= 0).sum(0)).tolist(),
                              *weights["heads"].grad[0].norm(dim=0).tolist(), float(moved)])  # fmt: skip
        optimiser.step()
    names = [f"{what}_{c}" for what in ("loss", "validation", "gradient") for c in CATEGORIES]
    trained = [{name: values[i].detach().clone() for name, values in weights.items()} for i in range(len(seeds))]
    return trained, pd.DataFrame(lines, columns=["step", *names, "update"])


def score(setup: Setup, weights: dict[str, torch.Tensor]) -> dict[tuple[str, str], Float[np.ndarray, "post category"]]:
    """Logits by what (logit, no_frames, no_text, served) and split."""
    for change in setup.after:
        weights = change("weights", weights)

    def logits(x: np.ndarray) -> np.ndarray:
        z = head_logits(x, weights)
        for change in setup.after:
            z = change("logits", z)
        return z

    found = {("logit", split): logits(setup.features("whole", split)) for split in setup.posts}
    found |= {(variant, "audit"): logits(setup.features(variant, "audit")) for variant in ("no_frames", "no_text")}
    online = setup.features("whole", "serve")
    place = np.random.default_rng(len(online)).random(len(online))
    for variant, share in setup.blank.items():
        online = np.where((place < share)[:, None], setup.features(variant, "serve"), online)
    if setup.noise:
        step = setup.noise * online.std()
        online = np.round(online / step) * step
    return found | {("served", "serve"): logits(online.astype(np.float32)) + setup.prior.astype(np.float32)}


def deployed(setup: Setup, scores: dict[tuple[str, str], np.ndarray]) -> list[float]:
    """Thresholds as the run deploys them."""
    audit, labels = scores["logit", "audit"].astype(float), setup.truth["audit"]
    tau = [threshold_at_recall(labels[:, k], audit[:, k], recall=RECALL) for k in range(K)]
    return list(np.array(tau) + setup.shift * audit.std(axis=0))


def harms(setup: Setup, scores: dict[tuple[str, str], np.ndarray]) -> dict[str, float]:
    """How bad a run is by each measure of the taxonomy, against true labels; more is worse."""

    def ranking(what: str, *splits: str) -> float:
        z, y = (np.concatenate([of(split) for split in splits])
                for of in (lambda split: scores[what, split], lambda split: setup.truth[split]))  # fmt: skip
        if np.ptp(z, axis=0).min() == 0:
            return float(y.mean())
        return float(np.mean([average_precision(y[:, k], z[:, k]) for k in range(K)]))

    y, served, z = setup.truth["serve"], scores["served", "serve"], scores["logit", "audit"]
    found = ((served > deployed(setup, scores)) & (y == 1)).sum(0) / (y == 1).sum(0)
    p, t = np.clip(expit(z.astype(float)), 1e-6, 1 - 1e-6), setup.truth["audit"]
    level = expit(served.astype(float)).mean(0) / p.mean(0) * t.mean(0)  # of traffic, as the audit calibrates it
    return {
        "pr_auc": -ranking("logit", "audit", "serve"), "served_pr_auc": -ranking("served", "serve"),
        "log_loss": float(-np.where(t == 1, np.log(p), np.log(1 - p)).mean()),
        "serve_bias": float(np.abs(np.log(level / y.mean(0))).mean()),
        "recall": float(np.maximum(RECALL - found, 0).mean()),
        "optimism": ranking("logit", "validation") - ranking("logit", "audit"),
    }  # fmt: skip


def posts_of(setup: Setup, scores: dict[tuple[str, str], np.ndarray]) -> pd.DataFrame:
    """posts.parquet."""
    parts = []
    for split, table in setup.posts.items():
        part = table.assign(split=split)
        columns = {what: z for (what, of), z in scores.items() if of == split} | {"teacher": setup.teacher[split]}
        for what, z in columns.items():
            part[[f"{what}_{c}" for c in CATEGORIES]] = z.astype(np.float32)
        if split == "serve":
            part[[f"label_{c}" for c in CATEGORIES]] = np.int8(-1)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def relabels_of(setup: Setup, random: Random) -> pd.DataFrame:
    """relabels.parquet: what a careful second look says of some training posts."""
    rows = random.choice(len(setup.posts["train"]), min(RELABELLED, len(setup.posts["train"])), replace=False)
    gold = {f"gold_{c}": setup.truth["train"][rows, k] for k, c in enumerate(CATEGORIES)}
    return pd.DataFrame({"post_id": setup.posts["train"]["post_id"].to_numpy()[rows], **gold}).drop_duplicates(
        "post_id"
    )


def contract_of(setup: Setup) -> dict[str, float]:
    """What an honest training and serving log says without knowing what is wrong."""
    said = {"loss_cells": float((setup.read >= 0).sum()), "verified_cells": float((setup.labels("train") >= 0).sum())}
    usual = ("teacher_mismatch", "train_no_frames", "train_no_text", "serve_no_frames", "serve_no_text")
    served = {"served_text_share": 1.0, "served_rounding": 0.0}
    return said | dict.fromkeys(usual, 0.0) | served | setup.said
