"""The planter: finished run folders with a known fault, planted before training, and the sealed key that names it.

It knows nothing of signals or of the diagnosis. A run's name is a digest with a secret salt, and the key is written
apart, with its digest, before anything is diagnosed:

    python -m radar_suite.diagnosis.plant --plan test --runs DIR --key OTHER_DIR
"""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int, Int8
from scipy.special import expit, logit
from tqdm import tqdm

from radar_lib.files import digest_json, read_json, read_sealed, write_json, write_sealed
from radar_lib.losses import bce_cells, per_post
from radar_lib.metrics import average_precision, threshold_at_recall
from radar_lib.training.cache import Cache
from radar_lib.training.loop import learning_rate_factor
from radar_suite.diagnosis.bench import Bench, Size, open_bench
from radar_suite.diagnosis.runs import RUN, write_run
from radar_suite.diagnosis.taxonomy import read_taxonomy
from radar_suite.studies.heads import apply_heads, head_logits, initial_weights
from radar_suite.world.policies import CATEGORIES

K = len(CATEGORIES)
SEEDS = 5  # matched runs of the rule of harm
RECALL = 0.9
RELABELLED = 200  # training posts that a second look covers
PLAN = "plan.json"  # beside the key: what was planted on
COPIES = 3  # of each post that leaks
Random = np.random.Generator
Fault = Callable[["Setup", float, Random], None]


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
    known, taught = setup.read >= 0, expit(setup.teacher["train"])
    targets = torch.from_numpy(np.where(known, (1 - setup.lam) * setup.read + setup.lam * taught, taught)).float()
    factors = torch.from_numpy(np.where(known, 1.0, setup.lam) * setup.head_weights).float()
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


# --- faults of the taxonomy; severity lies in [0, 1] ---


def unmasked_loss(s: Setup, severity: float, random: Random) -> None:
    hidden = (s.read < 0) & (random.random(s.read.shape) < 0.3 + 0.7 * severity)
    s.read = np.where(hidden, 0, s.read).astype(np.int8)


def pipeline_label_noise(s: Setup, severity: float, random: Random) -> None:
    k, rate = random.integers(K), 0.12 + 0.33 * severity
    for split in ("train", "validation"):
        labels = s.labels(split)
        flip = random.random(len(labels)) < rate
        labels[flip, k] = 1 - labels[flip, k]
        s.relabel(split, labels)


def _leak(s: Setup, severity: float, random: Random, *, exact: bool) -> None:
    n = len(s.posts["validation"])
    chosen = np.repeat(random.permutation(n)[: round((0.3 + 0.7 * severity) * n)], COPIES)
    table = s.posts["validation"].iloc[chosen].reset_index(drop=True)
    table["post_id"] = [f"train-copy-{i}" for i in range(len(chosen))]
    if not exact:
        table["content"] = table["post_id"]
    s.add(table, s, "validation", chosen)
    spread = 0.0 if exact else 0.15 * s.x["whole"]["validation"].std()
    moved = random.normal(0, 1, (len(chosen), s.x["whole"]["train"].shape[1])) * spread
    for x in s.x.values():
        x["train"] = np.concatenate([x["train"][: -len(chosen)], x["train"][-len(chosen) :] + moved]).astype(np.float32)


def copies_across_splits(s: Setup, severity: float, random: Random) -> None:
    _leak(s, severity, random, exact=True)


def streams_across_splits(s: Setup, severity: float, random: Random) -> None:
    _leak(s, severity, random, exact=False)


def _some(values: pd.Series, random: Random, low: float, high: float) -> list[str]:
    """Values that together make up a share of the rows between the two, drawn at random."""
    shares = values.value_counts(normalize=True)
    chosen: list[str] = []
    for name in random.permutation(shares.index.to_numpy(str)):
        if shares[[*chosen, name]].sum() <= high:
            chosen.append(name)
        if shares[chosen].sum() >= low:
            break
    return chosen


def language_hole(s: Setup, severity: float, random: Random) -> None:
    lost = s.posts["train"]["language"].isin(_some(s.posts["audit"]["language"], random, 0.2, 0.45))
    s.keep("train", np.flatnonzero(~lost | (random.random(len(lost)) > 0.75 + 0.25 * severity)))


def modality_lost(s: Setup, severity: float, random: Random) -> None:
    variant, share = str(random.choice(["no_frames", "no_text"])), 0.6 + 0.4 * severity
    for split in ("train", "validation"):
        s.mix(split, variant, random.random(len(s.posts[split])) < share)
    s.said[f"train_{variant}"] = share


def unstable_training(s: Setup, severity: float, random: Random) -> None:
    s.learning_rate *= 10 ** (0.9 + 1.1 * severity)


def undertrained(s: Setup, severity: float, random: Random) -> None:
    s.stop = 0.3 * 10 ** (-severity)


def low_capacity(s: Setup, severity: float, random: Random) -> None:
    hidden = s.x["whole"]["train"].shape[1]
    s.basis = np.linalg.qr(random.normal(size=(hidden, round(9 - 7 * severity))))[0]


def overfit(s: Setup, severity: float, random: Random) -> None:
    s.epochs, s.learning_rate, s.decay = round(s.epochs * (2 + 3 * severity)), 4 * s.learning_rate, 0.0


def collapsed_head(s: Setup, severity: float, random: Random) -> None:
    s.head_weights = s.head_weights.copy()
    s.head_weights[random.integers(K)] = 1e-4 * (1 - severity)


def overconfident_teacher(s: Setup, severity: float, random: Random) -> None:
    for of in (s.teacher, s.file):
        of.update({split: z * (2 + 5 * severity) for split, z in of.items()})


def misjoined_teacher(s: Setup, severity: float, random: Random) -> None:
    z = s.teacher["train"].copy()
    rows = np.arange(round((0.4 + 0.6 * severity) * len(z)))
    z[rows] = np.roll(z[rows], int(random.integers(20, 150)), axis=0)
    s.teacher["train"], s.said["teacher_mismatch"] = z, len(rows) / len(z)


def weak_teacher(s: Setup, severity: float, random: Random) -> None:
    k, share = random.integers(K), 0.5 + 0.5 * severity
    for split, z in s.file.items():
        noise = random.normal(z[:, k].mean(), z[:, k].std(), len(z))
        own = np.arange(K) == k
        for of in (s.teacher, s.file):
            of[split] = np.where(own, (1 - share) * of[split] + share * noise[:, None], of[split])


def distillation_too_strong(s: Setup, severity: float, random: Random) -> None:
    s.lam = 0.75 + 0.24 * severity


def serving_modality(s: Setup, severity: float, random: Random) -> None:
    variant, share = str(random.choice(["no_frames", "no_text"])), 0.4 + 0.6 * severity
    s.blank[variant] = s.said[f"serve_{variant}"] = share


def serving_truncation(s: Setup, severity: float, random: Random) -> None:
    s.blank["cut"] = 0.4 + 0.6 * severity
    s.said["served_text_share"] = 1 - 0.5 * s.blank["cut"]


def serving_precision(s: Setup, severity: float, random: Random) -> None:
    s.noise = s.said["served_rounding"] = 0.7 + 1.3 * severity


def prevalence_shift(s: Setup, severity: float, random: Random) -> None:
    violating = (s.truth["serve"] == 1).any(axis=1)
    s.keep("serve", np.flatnonzero(violating | (random.random(len(violating)) < 1 / (2 + 3 * severity))))


def threshold_drift(s: Setup, severity: float, random: Random) -> None:
    s.shift = s.shift + (0.3 + 0.9 * severity)


def _lenient(s: Setup, where: Callable[[pd.DataFrame], pd.Series], rate: float, random: Random) -> None:
    for split in ("train", "validation"):
        labels = s.labels(split)
        cleared = where(s.posts[split]).to_numpy()[:, None] & (labels == 1) & (random.random(labels.shape) < rate)
        s.relabel(split, np.where(cleared, 0, labels))


def regional_policy(s: Setup, severity: float, random: Random) -> None:
    regions = _some(s.posts["train"]["region"], random, 0.25, 0.45)
    _lenient(s, lambda posts: posts["region"].isin(regions), 0.5 + 0.5 * severity, random)


def policy_change(s: Setup, severity: float, random: Random) -> None:
    month = random.integers(4, 8)
    _lenient(s, lambda posts: posts["month"] < month, 0.5 + 0.5 * severity, random)


def label_ambiguity(s: Setup, severity: float, random: Random) -> None:
    for split in ("train", "validation"):
        tempered = expit(logit(np.clip(s.posterior[split], 1e-4, 1 - 1e-4)) * (0.6 - 0.4 * severity))
        s.relabel(split, (random.random(tempered.shape) < tempered).astype(np.int8))


def unseen_language(s: Setup, severity: float, random: Random) -> None:
    s.unseen = _some(s.posts["audit"]["language"], random, 0.2, 0.45), 0.6 + 0.4 * severity


def wrong_transcripts(s: Setup, severity: float, random: Random) -> None:
    for split in s.posts:
        s.mix(split, "garbled", random.random(len(s.posts[split])) < 0.5 + 0.5 * severity)


FAULTS: dict[str, Fault] = {fault.__name__: fault for fault in (
    unmasked_loss, pipeline_label_noise, copies_across_splits, streams_across_splits, language_hole, modality_lost,
    unstable_training, undertrained, low_capacity, overfit, collapsed_head, overconfident_teacher, misjoined_teacher,
    weak_teacher, distillation_too_strong, serving_modality, serving_truncation, serving_precision, prevalence_shift,
    threshold_drift, regional_policy, policy_change, label_ambiguity, unseen_language, wrong_transcripts,
)}  # fmt: skip


# --- faults outside the taxonomy ---


def _after(s: Setup, what: str, change: Callable[[Any], Any]) -> None:
    s.after.append(lambda kind, value: change(value) if kind == what else value)


def swapped_heads(s: Setup, severity: float, random: Random) -> None:
    order = np.roll(np.arange(K), 1 + int(random.integers(K - 1)))
    _after(s, "logits", lambda z: z[:, order])


def flipped_head(s: Setup, severity: float, random: Random) -> None:
    sign = np.where(np.arange(K) == random.integers(K), -1.0, 1.0).astype(np.float32)
    _after(s, "logits", lambda z: z * sign)


def damaged_weights(s: Setup, severity: float, random: Random) -> None:
    seed = int(random.integers(2**31))

    def damage(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        w = weights["weight"]
        noise = torch.randn(w.shape, generator=torch.Generator().manual_seed(seed))
        return {**weights, "weight": w + (0.5 + severity) * w.std() * noise}

    _after(s, "weights", damage)


def repeated_batches(s: Setup, severity: float, random: Random) -> None:
    n = len(s.posts["train"])
    some = random.permutation(n)[: round(n * (0.2 - 0.15 * severity))]
    for x in s.x.values():
        x["train"] = x["train"][np.resize(some, n)]
    s.read, s.teacher["train"] = s.read[np.resize(some, n)], s.teacher["train"][np.resize(some, n)]


def joined_labels(s: Setup, severity: float, random: Random) -> None:
    rows = np.arange(round((0.4 + 0.6 * severity) * len(s.read)))
    s.read = s.read.copy()
    s.read[rows] = np.roll(s.read[rows], 17, axis=0)


def clipped_logits(s: Setup, severity: float, random: Random) -> None:
    most = -2.5 - severity
    _after(s, "logits", lambda z: np.minimum(z, most + 1e-3 * z))


def strong_augmentation(s: Setup, severity: float, random: Random) -> None:
    x = s.x["whole"]["train"]
    noisy = x + (1 + 2 * severity) * x.std() * random.normal(size=x.shape)
    s.x["whole"]["train"] = noisy.astype(np.float32)


OUTSIDE: dict[str, Fault] = {fault.__name__: fault for fault in (
    swapped_heads, flipped_head, damaged_weights, repeated_batches, joined_labels, clipped_logits, strong_augmentation,
)}  # fmt: skip


# --- bugs that this project had, as they would look; no evidence, since the taxonomy was written after them ---


def soft_labels_of_others(s: Setup, severity: float, random: Random) -> None:
    s.teacher["train"] = np.roll(s.teacher["train"], 1, axis=0)


def doubled_store(s: Setup, severity: float, random: Random) -> None:
    for x in s.x.values():  # each slice twice, so that most rows are another post's
        n = len(x["train"])
        x["train"] = np.concatenate([x["train"][i : i + 64] for i in range(0, n, 64) for _ in range(2)])[:n]


def nothing_trained(s: Setup, severity: float, random: Random) -> None:
    s.learning_rate = 0.0


def black_frames(s: Setup, severity: float, random: Random) -> None:
    for split in s.posts:
        s.mix(split, "no_frames", np.ones(len(s.posts[split]), bool))


def text_cut_unseen(s: Setup, severity: float, random: Random) -> None:
    s.blank["cut"] = 1.0


HISTORY: dict[Fault, str] = {  # and the verdict that is right
    soft_labels_of_others: "misjoined_teacher", doubled_store: "unknown", nothing_trained: "undertrained",
    black_frames: "modality_lost", text_cut_unseen: "serving_truncation",
}  # fmt: skip


def harmless(s: Setup, random: Random) -> None:
    """Changes that any rerun may have: step size, length, batch, some posts fewer."""
    s.learning_rate *= random.uniform(0.85, 1.15)
    s.epochs += int(random.integers(-1, 2))
    s.batch = int(random.integers(56, 73))
    for split, least in (("train", 0.95), ("audit", 0.92), ("serve", 0.9)):
        n = len(s.posts[split])
        s.keep(split, np.sort(random.permutation(n)[: round(random.uniform(least, 1) * n)]))


# --- plans ---


@dataclass(frozen=True)
class Plan:
    """What is planted; development and test differ in backbone, world and severities."""

    backbone: str
    world: int
    severities: tuple[float, ...]
    repeats: int  # of each cause and severity
    band: int
    healthy: int
    pairs: int
    outside: int = 0  # of each fault outside the taxonomy
    size: Size = Size()
    judged: bool = False  # apply the rule of harm


DEVELOPED = (0.2, 0.5, 0.8)
TESTED = (0.1, 0.4, 0.65, 0.95)
SMALL = Size(500, 200, 600, 500)
FULL = {"healthy": 40, "pairs": 20, "repeats": 2, "band": 20}
QUICK = {"healthy": 24, "pairs": 6, "repeats": 1, "band": 16}
PLANS = {
    "full-dev-1": Plan("facts", 101, DEVELOPED, **FULL),
    "full-dev-2": Plan("SigLIP2", 103, DEVELOPED, **FULL),
    "quick-dev-1": Plan("facts", 101, DEVELOPED, size=SMALL, **QUICK),
    "quick-dev-2": Plan("facts", 102, DEVELOPED, size=SMALL, **QUICK),
    "quick-test": Plan(
        "facts", 902, (0.4, 0.95), repeats=1, band=12, healthy=30, pairs=6, outside=1, size=SMALL, judged=True
    ),
    "smoke-dev-1": Plan("facts", 201, (0.5, 0.8), repeats=1, band=6, healthy=6, pairs=2, size=SMALL),
    "smoke-test": Plan("facts", 903, (0.65,), repeats=1, band=6, healthy=6, pairs=2, outside=1, size=SMALL),
}  # fmt: skip
HEALTHY, BAND = "healthy", "band"


@dataclass(frozen=True)
class Makings:
    """What a plan draws from: faults outside the taxonomy, and changes that do no harm."""

    outside: dict[str, Fault]
    harmless: Callable[[Setup, Random], None]

    def fault(self, name: str) -> Fault:
        return (FAULTS | self.outside | {fault.__name__: fault for fault in HISTORY})[name]


DEVELOPMENT = Makings(OUTSIDE, harmless)


def runs_of(plan: Plan, makings: Makings = DEVELOPMENT) -> list[dict[str, Any]]:
    """What each run of a plan is: kind, causes and severity, in a fixed order."""
    kinds = [(BAND, [], 0.0)] * plan.band + [(HEALTHY, [], 0.0)] * plan.healthy
    kinds += [("single", [c], v) for c in FAULTS for v in plan.severities for _ in range(plan.repeats)]
    random = np.random.default_rng(plan.world)
    for _ in range(plan.pairs):
        kinds.append(("pair", sorted(random.choice(list(FAULTS), 2, replace=False).tolist()),
                      float(random.choice(plan.severities))))  # fmt: skip
    kinds += [("outside", [c], v) for c in makings.outside for v in np.resize(plan.severities, plan.outside).tolist()]
    kinds += [("history", [fault.__name__], 1.0) for fault in HISTORY if plan.outside]
    return [{"number": n, "kind": kind, "causes": causes, "severity": severity}
            for n, (kind, causes, severity) in enumerate(kinds)]  # fmt: skip


def planted(
    bench: Bench, one: dict[str, Any], *, world: int, ill: bool = True, makings: Makings = DEVELOPMENT
) -> Setup:
    """The set-up of a run, or of the healthy run that it is matched with; all but a band's have harmless changes."""
    setup = Setup.of(bench)
    if one["kind"] != BAND:
        makings.harmless(setup, np.random.default_rng([world, one["number"]]))
    random = np.random.default_rng([world, one["number"], 2])
    for cause in one["causes"] if ill else ():
        makings.fault(cause)(setup, one["severity"], random)
    return setup


def plant(plan: Plan, runs: Path, key: Path, cache: Cache, makings: Makings = DEVELOPMENT) -> None:
    """Write the runs of a plan that are not there yet, and the key; goes on where it was stopped."""
    bench, listed = open_bench(plan.backbone, seed=plan.world, size=plan.size, cache=cache), runs_of(plan, makings)
    if not (key / "salt.json").is_file():
        write_json(key / "salt.json", secrets.token_hex(16))
    write_json(key / PLAN, asdict(plan) | {"held_out": makings is not DEVELOPMENT})
    salt, harm = read_json(key / "salt.json"), {c.name: c.harm for c in read_taxonomy().causes}
    answers = {}
    for one in tqdm(listed, desc="runs planted"):
        name = digest_json([salt, one["number"]])
        place, answer = runs / name, key / f"{name}.json"
        if not (place / RUN).is_file() or not answer.is_file():
            judged, hurt = plan.judged and bool(one["causes"]), None
            seeds = [1000 * one["number"] + i for i in range(SEEDS if judged else 1)]
            setup = planted(bench, one, world=plan.world, makings=makings)
            trained, curve = learn(setup, seeds)
            scores = [score(setup, weights) for weights in trained]
            if judged:
                matched = planted(bench, one, world=plan.world, ill=False, makings=makings)
                well = [harms(matched, score(matched, weights)) for weights in learn(matched, seeds)[0]]
                ill = [harms(setup, its) for its in scores]
                hurt = {c: all(a[m] > b[m] for a, b in zip(ill, well, strict=True))
                        for c in one["causes"] for m in [harm.get(c, "pr_auc")]}  # fmt: skip
            about = {"categories": list(CATEGORIES), "recall": RECALL, "thresholds": deployed(setup, scores[0]),
                     "contract": contract_of(setup)}  # fmt: skip
            relabels = relabels_of(setup, np.random.default_rng([plan.world, one["number"], 1]))
            write_run(place, about, posts_of(setup, scores[0]), curve, relabels)
            write_json(answer, {**one, "hurt": hurt})
        answers[name] = read_json(answer)
    band = [name for name, one in answers.items() if one["kind"] == BAND]
    write_json(runs / "band.json", band)
    write_sealed(key / "key.json", {"answers": answers})
    write_json(runs / "key_digest.json", digest_json(read_sealed(key / "key.json")))


def main() -> None:
    """Plant one plan."""
    from radar_suite.diagnosis import held_out  # which is written on this module

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", choices=list(PLANS | held_out.PLANS), required=True)
    for name in ("runs", "key", "cache"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    makings = Makings(held_out.OUTSIDE, held_out.harmless) if args.plan in held_out.PLANS else DEVELOPMENT
    plant((PLANS | held_out.PLANS)[args.plan], args.runs, args.key, Cache(args.cache), makings)


if __name__ == "__main__":
    main()
