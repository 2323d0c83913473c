"""Faults, each a change of a set-up before training; and changes that do no harm.

A fault's severity lies in [0, 1]. Those of the taxonomy have its names; those outside it, and bugs that this project
had, have no entry there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import expit, logit

from radar_suite.diagnosis.bench import VARIANTS
from radar_suite.diagnosis.setups import K, Random, Setup
from radar_suite.studies.heads import initial_weights
from radar_suite.world.policies import CATEGORIES

COPIES = 3  # of each post that leaks
Fault = Callable[[Setup, float, Random], None]


# --- of the taxonomy ---


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
    table["post_id"] = [f"train-copy-{len(s.read) + i}" for i in range(len(chosen))]  # of two leaks, too, all differ
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


# --- outside the taxonomy ---


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


def strong_decay(s: Setup, severity: float, random: Random) -> None:
    """Weight decay a thousand times too high, as when it is given in the units of another optimiser."""
    s.decay = 5 * 10**severity


def dominant_risk(s: Setup, severity: float, random: Random) -> None:
    """A loss weight meant for one rare risk is far too large: the others' gradients vanish beside it."""
    s.head_weights = s.head_weights.copy()
    s.head_weights[random.integers(K)] *= 30 * 10 ** (2 * severity)


def swapped_columns(s: Setup, severity: float, random: Random) -> None:
    """One pipeline's export writes its labels into the column of another risk, for a share of its posts."""
    own, other = random.choice(K, 2, replace=False)
    for split in ("train", "validation"):
        labels = s.labels(split)
        rows = (s.posts[split]["pipeline"] == CATEGORIES[own]).to_numpy()
        rows = rows & (random.random(len(rows)) < 0.5 + 0.35 * severity)
        labels[rows, other], labels[rows, own] = labels[rows, own], -1
        s.posts[split][[f"label_{c}" for c in CATEGORIES]] = labels
        if split == "train":
            s.read = labels.copy()


def loud_modality(s: Setup, severity: float, random: Random) -> None:
    """A missing normalisation lets one modality speak several times too loud in training, and not afterwards."""
    variant = str(random.choice(["no_frames", "no_text"]))
    for split in ("train", "validation"):
        louder = (2 + 6 * severity) * (s.x["whole"][split] - s.x[variant][split])
        for other in VARIANTS:
            if other != variant:  # where it is muted, nothing is louder
                s.x[other] = {**s.x[other], split: (s.x[other][split] + louder).astype(np.float32)}


def id_collision(s: Setup, severity: float, random: Random) -> None:
    """Short keys of the feature store collide: a share of posts, in every split, get the vector of another post."""
    for split, table in s.posts.items():
        n = len(table)
        rows = np.where(random.random(n) < 0.4 + 0.5 * severity, random.integers(n, size=n), np.arange(n))
        for x in s.x.values():
            x[split] = x[split][rows]


def stale_cache(s: Setup, severity: float, random: Random) -> None:
    """The cache answers with vectors of the backbone before its update, for a share of the posts trained on."""
    old = np.linalg.qr(random.normal(size=(s.x["whole"]["train"].shape[1],) * 2))[0]
    for split in ("train", "validation"):
        rows = (random.random(len(s.posts[split])) < 0.5 + 0.45 * severity)[:, None]
        for x in s.x.values():
            x[split] = np.where(rows, x[split] @ old, x[split]).astype(np.float32)


def shuffled_dimensions(s: Setup, severity: float, random: Random) -> None:
    """Training and scoring read some of the features in different order, after a change of the store's schema."""
    hidden = s.x["whole"]["train"].shape[1]
    some, order = random.permutation(hidden)[: round((0.3 + 0.6 * severity) * hidden)], np.arange(hidden)
    order[some] = np.roll(some, 1)
    for x in s.x.values():
        x.update({split: values[:, order] for split, values in x.items() if split != "train"})


def truncated_export(s: Setup, severity: float, random: Random) -> None:
    """Training reads the first shards only."""
    n = len(s.posts["train"])
    s.keep("train", np.sort(random.permutation(n)[: round(n * 0.2 * 10 ** (-0.6 * severity))]))


def flooding_campaign(s: Setup, severity: float, random: Random) -> None:
    """A few posts, uploaded again and again, make up most of the training posts."""
    n, share = len(s.posts["train"]), 0.7 + 0.28 * severity
    rows = random.permutation(n)
    few, rest = rows[:10], rows[10 : 10 + round((1 - share) * n)]
    s.keep("train", random.permutation(np.concatenate([rest, np.resize(few, n - len(rest))])))
    ids = s.posts["train"]["post_id"]
    s.posts["train"]["post_id"] = [f"{one}-{i}" if again else one for i, (one, again) in
                                   enumerate(zip(ids, ids.duplicated(), strict=True))]  # fmt: skip


def removed_upstream(s: Setup, severity: float, random: Random) -> None:
    """A filter before the log removes what plainly violates, so that training sees the borderline alone."""
    plain = s.posterior["train"].max(axis=1)
    violating = (s.labels("train") == 1).any(axis=1)
    least = np.quantile(plain[violating], 0.5 - 0.48 * severity)
    s.keep("train", np.flatnonzero(~violating | (plain <= least)))


def permuted_teacher(s: Setup, severity: float, random: Random) -> None:
    """Soft labels whose columns stand in another order, for a share of the shards."""
    order = np.roll(np.arange(K), 1 + int(random.integers(K - 1)))
    for split, z in s.teacher.items():
        rows = random.random(len(z)) < 0.5 + 0.5 * severity
        s.teacher[split] = np.where(rows[:, None], z[:, order], z)


def inverted_teacher(s: Setup, severity: float, random: Random) -> None:
    """One expert's file holds P(cleared) where P(violating) is meant."""
    k = random.integers(K)
    for split, z in s.teacher.items():
        z = z.copy()
        rows = random.random(len(z)) < 0.7 + 0.3 * severity
        z[rows, k] = -z[rows, k]
        s.teacher[split] = z


def underflow(s: Setup, severity: float, random: Random) -> None:
    """Probabilities pass a format without small numbers: whatever lies below a floor is written as the floor."""
    floor = np.float32(-2.5 + 0.9 * severity)
    _after(s, "logits", lambda z: np.maximum(z, floor))


def foreign_shard(s: Setup, severity: float, random: Random) -> None:
    """Some units of the hidden layer are read from the checkpoint of another run."""
    seed, share = int(random.integers(2**31)), 0.3 + 0.5 * severity

    def mixed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        other = initial_weights(len(weights["weight"]), K, seed=seed)
        units = torch.rand(len(weights["bias"]), generator=torch.Generator().manual_seed(seed)) < share
        return {**weights, "weight": torch.where(units, other["weight"], weights["weight"]),
                "bias": torch.where(units, other["bias"], weights["bias"])}  # fmt: skip

    _after(s, "weights", mixed)


OUTSIDE: dict[str, Fault] = {fault.__name__: fault for fault in (
    swapped_heads, flipped_head, damaged_weights, repeated_batches, joined_labels, clipped_logits, strong_augmentation,
    strong_decay, dominant_risk, swapped_columns, loud_modality, id_collision, stale_cache, shuffled_dimensions,
    truncated_export, flooding_campaign, removed_upstream, permuted_teacher, inverted_teacher, underflow, foreign_shard,
)}  # fmt: skip


# --- bugs that this project had, as they would look; no evidence, since the taxonomy was written after them ---


def soft_labels_of_others(s: Setup, severity: float, random: Random) -> None:
    s.teacher["train"] = np.roll(s.teacher["train"], 1, axis=0)


def doubled_store(s: Setup, severity: float, random: Random) -> None:
    """A feature store written twice."""
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


def harmless(s: Setup, random: Random, *, width: float = 1.0) -> None:
    """Changes that any rerun may have: rate, length, decay, batch, lambda, order, some posts fewer, other languages.

    Args:
        width: of the ranges, relative to those of a band's reruns.
    """
    s.learning_rate *= random.uniform(1 - 0.15 * width, 1 + 0.15 * width)
    s.lam = s.lam * random.uniform(1 - 0.15 * width, 1 + 0.15 * width)
    s.decay *= 2 ** random.uniform(-width, width)
    s.epochs += int(random.integers(-1, 2))
    s.batch = round(s.batch * 1.3 ** random.uniform(-width, width))
    n = len(s.posts["train"])
    s.keep("train", random.permutation(n)[: round(random.uniform(1 - 0.1 * width, 1) * n)])
    for split in ("audit", "serve"):
        languages, n = s.posts[split]["language"], len(s.posts[split])
        known = np.unique(languages)
        weight = languages.map(dict(zip(known, random.uniform(1 - 0.4 * width, 1, len(known)), strict=True))).to_numpy()
        some = random.choice(n, round(random.uniform(0.9, 1) * n), replace=False, p=weight / weight.sum())
        s.keep(split, np.sort(some))
