"""The held-out test of the diagnosis: faults, severities and worlds chosen by someone who has not seen the diagnoser.

Written from the planter and the run's contract alone, and committed before the diagnoser's last change. Every fault
happens to routers in production, and no entry of FAULTS covers it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from radar_suite.diagnosis.bench import FACTS, VARIANTS
from radar_suite.diagnosis.plant import SMALL, Fault, K, Plan, Random, Setup, _after
from radar_suite.studies.heads import initial_weights
from radar_suite.world.policies import CATEGORIES

SEVERITIES = (0.12, 0.36, 0.67, 0.97)  # below, twice between and above those of development
FACTS_WORLD, STANDIN_WORLD = 517, 618
STANDIN = "Qwen3-VL-2B"  # in no other plan


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

    def mixed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        other = initial_weights(len(weights["weight"]), K, seed=seed)
        units = torch.rand(len(weights["bias"]), generator=torch.Generator().manual_seed(seed)) < share
        return {**weights, "weight": torch.where(units, other["weight"], weights["weight"]),
                "bias": torch.where(units, other["bias"], weights["bias"])}  # fmt: skip

    _after(s, "weights", mixed)


OUTSIDE: dict[str, Fault] = {fault.__name__: fault for fault in (
    strong_decay, dominant_risk, swapped_columns, loud_modality, id_collision, stale_cache, shuffled_dimensions,
    truncated_export, flooding_campaign, removed_upstream, permuted_teacher, inverted_teacher, underflow, foreign_shard,
)}  # fmt: skip


def harmless(s: Setup, random: Random) -> None:
    """Changes that any rerun may have: step size, decay, batch, order, some posts fewer, another mix of languages."""
    s.learning_rate *= random.uniform(0.85, 1.15)
    s.decay *= random.uniform(0.5, 2)
    s.batch = int(random.choice([48, 56, 72, 80]))
    n = len(s.posts["train"])
    s.keep("train", random.permutation(n)[: round(random.uniform(0.9, 1) * n)])
    for split in ("audit", "serve"):
        languages, n = s.posts[split]["language"], len(s.posts[split])
        known = np.unique(languages)
        chance = languages.map(dict(zip(known, random.uniform(0.6, 1, len(known)), strict=True))).to_numpy()
        some = random.choice(n, round(random.uniform(0.9, 1) * n), replace=False, p=chance / chance.sum())
        s.keep(split, np.sort(some))


EVIDENCE = {"repeats": 2, "band": 20, "healthy": 100, "pairs": 40, "outside": 4, "judged": True}
PLANS = {
    "held-out-facts": Plan(FACTS, FACTS_WORLD, SEVERITIES, size=SMALL, **EVIDENCE),
    "held-out-standin": Plan(STANDIN, STANDIN_WORLD, SEVERITIES, size=SMALL, **EVIDENCE),
}
