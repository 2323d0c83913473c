"""The held-out test: faults outside the taxonomy, harmless changes, severities and worlds that nobody developed on.

Written from a run's contract, the bench and the planter, without sight of what diagnoses. Every fault here happens to
routers in production, and no name in `faults.FAULTS` is the right one for it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import expit, logsumexp

from radar_suite.diagnosis.faults import Fault
from radar_suite.diagnosis.plant import SMALL, Plan
from radar_suite.diagnosis.setups import K, Random, Setup

SEVERITIES = (0.12, 0.37, 0.68, 0.97)
SCORED = ("audit", "serve")  # what no training saw


# --- what is collected ---


def enforcement_banner(s: Setup, severity: float, random: Random) -> None:
    """Posts are encoded after enforcement: those found violating carry its banner, which live posts do not."""
    whole = s.x["whole"]["train"]
    banner = random.normal(size=whole.shape[1]) * whole.std() * (0.5 + 1.5 * severity)
    for split in ("train", "validation"):
        stamp = (s.labels(split) == 1).any(axis=1)[:, None] * banner
        for x in s.x.values():
            x[split] = (x[split] + stamp).astype(np.float32)


def confounded_collection(s: Setup, severity: float, random: Random) -> None:
    """Violating posts were collected in some languages and cleared ones in the others: language stands for risk."""
    language = s.posts["train"]["language"].to_numpy(str)
    inside = np.isin(language, np.array_split(random.permutation(np.unique(language)), 2)[0])
    violating = (s.labels("train") == 1).any(axis=1)
    s.keep("train", np.flatnonzero((inside == violating) | (random.random(len(inside)) > 0.7 + 0.3 * severity)))


def positive_only_log(s: Setup, severity: float, random: Random) -> None:
    """The review tool stores decisions that had a consequence: most cleared posts were never logged."""
    violating = (s.labels("train") == 1).any(axis=1)
    s.keep("train", np.flatnonzero(violating | (random.random(len(violating)) > 0.85 + 0.15 * severity)))


def evasion(s: Setup, severity: float, random: Random) -> None:
    """Violators learned what passes: since training, most dress their posts as a cleared one."""
    for split in SCORED:
        violating = (s.truth[split] == 1).any(axis=1)
        dressed = (violating & (random.random(len(violating)) < 0.6 + 0.4 * severity))[:, None]
        model = random.choice(np.flatnonzero(~violating), len(violating))
        for x in s.x.values():
            x[split] = np.where(dressed, x[split] + (0.3 + 0.4 * severity) * (x[split][model] - x[split]), x[split])


# --- what is encoded and stored ---


def mispaired_frames(s: Setup, severity: float, random: Random) -> None:
    """The joiner of frames and text is off by one for a share of posts: title and speech are of another post."""
    for split, table in s.posts.items():
        n = len(table)
        rows = np.where(random.random(n) < 0.5 + 0.5 * severity, np.roll(np.arange(n), 1), np.arange(n))
        frames = s.x["whole"][split] - s.x["no_frames"][split]
        for variant, x in s.x.items():
            if variant != "no_frames":
                x[split] = x[split][rows] if variant == "no_text" else x[split] + frames[rows] - frames


def packed_neighbours(s: Setup, severity: float, random: Random) -> None:
    """Posts are packed in one sequence and pooled without its boundaries: each vector holds some of the next post."""
    share = 0.3 + 0.35 * severity
    for x in s.x.values():
        for split, own in x.items():
            x[split] = (own + share * (np.roll(own, 1, axis=0) - own)).astype(np.float32)


def wrapped_integers(s: Setup, severity: float, random: Random) -> None:
    """Vectors are stored as small integers with too fine a step: what does not fit wraps around."""
    most = (1.4 - 0.9 * severity) * s.x["whole"]["train"].std()
    for x in s.x.values():
        x.update({split: ((own + most) % (2 * most) - most).astype(np.float32) for split, own in x.items()})


def attention_sink(s: Setup, severity: float, random: Random) -> None:
    """Pooling includes the first token, whose activation in one direction is enormous, and not equally in all posts."""
    hidden, height = s.x["whole"]["train"].shape[1], 20 * 10 ** (1.3 * severity) * s.x["whole"]["train"].std()
    sink = np.arange(hidden) == random.integers(hidden)
    for split, table in s.posts.items():
        tall = height * np.exp(random.normal(0, 0.7, len(table)))[:, None]
        for x in s.x.values():
            x[split] = (x[split] + tall * sink).astype(np.float32)


def dropout_left_on(s: Setup, severity: float, random: Random) -> None:
    """The encoder was never switched from training to inference: every pass drops features at random."""
    lost = 0.35 + 0.45 * severity
    for x in s.x.values():
        x.update({split: (own * (random.random(own.shape) > lost) / (1 - lost)).astype(np.float32)
                  for split, own in x.items()})  # fmt: skip


def default_vectors(s: Setup, severity: float, random: Random) -> None:
    """The encoder times out under load, and the store answers with its default vector."""
    default = s.x["whole"]["train"].mean(axis=0)
    for split, table in s.posts.items():
        late = random.random((len(table), 1)) < 0.25 + 0.6 * severity
        for x in s.x.values():
            x[split] = np.where(late, default, x[split])


def other_normaliser(s: Setup, severity: float, random: Random) -> None:
    """Scoring scales each feature by statistics of another data set than training did."""
    scale = np.exp((0.5 + 1.2 * severity) * random.normal(size=s.x["whole"]["train"].shape[1]))
    for x in s.x.values():
        x.update({split: (own * scale).astype(np.float32) for split, own in x.items() if split != "train"})


def probabilities_as_logits(s: Setup, severity: float, random: Random) -> None:
    """Most shards of the experts' files hold probabilities where logits are expected."""
    for split, table in s.posts.items():
        wrong = (random.random(len(table)) < 0.7 + 0.3 * severity)[:, None]
        for of in (s.teacher, s.file):
            of[split] = np.where(wrong, expit(of[split]), of[split])


# --- what is exported and answered ---


def _answered(s: Setup, change: Callable[[np.ndarray], np.ndarray]) -> None:
    s.after.append(lambda what, value: change(value) if what == "logits" else value)


def softmax_for_sigmoid(s: Setup, severity: float, random: Random) -> None:
    """The export makes the risks exclude each other: a softmax over all of them stands where each had its sigmoid."""
    sharp = 0.6 + 1.4 * severity

    def exclusive(z: np.ndarray) -> np.ndarray:
        others = [logsumexp(sharp * np.delete(z, k, axis=1), axis=1) for k in range(K)]
        return (sharp * z - np.stack(others, axis=1)).astype(np.float32)

    _answered(s, exclusive)


def mixed_fleet(s: Setup, severity: float, random: Random) -> None:
    """A rollout stopped half-way: half of the replicas answer with the version before, on another scale."""
    seed, scale, offset = int(random.integers(2**31)), 1 - 0.5 * severity, 1 + 2 * severity

    def answers(z: np.ndarray) -> np.ndarray:
        before = np.random.default_rng([seed, len(z)]).random((len(z), 1)) < 0.5
        return np.where(before, scale * z + offset, z).astype(np.float32)

    _answered(s, answers)


def crossed_responses(s: Setup, severity: float, random: Random) -> None:
    """A race in the scorer: a share of requests gets the answer to another one that was in flight."""
    seed, share = int(random.integers(2**31)), 0.3 + 0.5 * severity

    def raced(z: np.ndarray) -> np.ndarray:
        late = np.random.default_rng([seed, len(z)]).random((len(z), 1)) < share
        return np.where(late, np.roll(z, 1, axis=0), z)

    _answered(s, raced)


OUTSIDE: dict[str, Fault] = {fault.__name__: fault for fault in (
    enforcement_banner, confounded_collection, positive_only_log, evasion, mispaired_frames, packed_neighbours,
    wrapped_integers, attention_sink, dropout_left_on, default_vectors, other_normaliser, probabilities_as_logits,
    softmax_for_sigmoid, mixed_fleet, crossed_responses,
)}  # fmt: skip


def harmless(s: Setup, random: Random) -> None:
    """What may differ between two healthy runs: hyper-parameters a little, which posts, and who posts what where."""
    s.learning_rate *= float(np.exp(random.uniform(-0.12, 0.12)))
    s.batch = int(random.choice([56, 60, 64, 68, 72]))
    s.stop = random.uniform(0.93, 1)
    s.decay *= float(random.choice([0.5, 1, 2]))
    for split, least in (("train", 0.93), ("validation", 0.96)):
        order = random.permutation(len(s.posts[split]))
        s.keep(split, order[: round(random.uniform(least, 1) * len(order))])
    for split in SCORED:
        table = s.posts[split]
        tilt = np.ones(len(table))
        for of in ("language", "region"):
            known, place = np.unique(table[of].to_numpy(str), return_inverse=True)
            tilt *= np.exp(random.normal(0, 0.25, len(known)))[place]
        kept = round(random.uniform(0.92, 1) * len(table))
        s.keep(split, np.sort(random.choice(len(table), kept, replace=False, p=tilt / tilt.sum())))


TESTED = {"band": 30, "healthy": 100, "repeats": 2, "pairs": 40, "outside": 4, "size": SMALL, "judged": True}
PLANS = {
    "held-out-facts": Plan("facts", 7351, SEVERITIES, **TESTED),
    "held-out-standin": Plan("LLaVA-OV-0.5B", 8264, SEVERITIES, **TESTED),
}
