"""A pool of posts per level of co-violation, from which training sets at any dials of intake are drawn again and again.

A level's pool joins two selections of the built-in world, one without intake bias and one with the strongest, both rich
in violations, so that every kind of post that some cell of the map needs is there. A pool is therefore not traffic; but
how it was selected is known, so each post's weight against traffic is known too (the balance heuristic of multiple
importance sampling, Veach and Guibas 1995), and a cell's training set is drawn by that weight. Only facts are needed:
nothing is rendered here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Int8

from radar_lib.errors import RadarError
from radar_suite.world.dials import CorpusConfig, sizes_of
from radar_suite.world.facts import sample_block
from radar_suite.world.pipelines import (
    FALSE_ALARM,
    MISSED,
    Intake,
    Selection,
    Signals,
    check_quotas,
    quotas,
    select_annotated,
    select_traffic,
)
from radar_suite.world.policies import CATEGORIES

STRONGEST = Intake(beta=6.0, focus=1.0, overlap=3.0)  # no map goes further
RICH = (0.25, 0.30, 0.17)  # share of violations in the pool's selections, by pipeline
PARTS = {"train": Intake(), "validation": Intake(beta=STRONGEST.beta)}  # streams of the two halves, and their intake
POPULATIONS = BLIND, OWN = ("traffic", "own stream")  # of test posts: as they come, or as each queue is fed
HELD_OUT = 6  # one pool post in so many is kept for the own streams
TRAFFIC_BLOCKS = 24  # of 4,096 posts, facts only: what the pool is weighed against


def sample_traffic(seed: int, co_violation: float, *, blocks: int = TRAFFIC_BLOCKS) -> Signals:
    """Posts as they come at one level of co-violation, facts only: the population that a pool is weighed against."""
    facts = (sample_block(seed, "phase traffic", b, co_violation=co_violation) for b in range(blocks))
    return Signals.join([Signals.of(one) for one in facts])


@dataclass(frozen=True)
class Cell:
    """Dials of the world at one place of a map."""

    intake: Intake
    co_violation: float

    @property
    def dials(self) -> dict[str, float]:
        """All four, by the name of their column."""
        return {**asdict(self.intake), "co_violation": self.co_violation}


@dataclass(frozen=True)
class Pool:
    """Posts to draw training sets from, and the test posts of the same world."""

    truth: Bool[np.ndarray, "post category"]  # true labels of the pool's posts, for all K
    signals: Signals  # what decides into which queues a post comes
    weight: Float[np.ndarray, " post"]  # density in traffic over density in the pool, mean 1
    test_labels: Int8[np.ndarray, "test category"]  # blind traffic, true labels
    selections: tuple[Selection, ...]  # all of these posts in order, the pool's first: what is to be rendered

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def held_out(self) -> Bool[np.ndarray, " post"]:
        """One of `HELD_OUT` posts, which nothing trains on; they come in random order."""
        return np.arange(len(self)) % HELD_OUT == 0


@dataclass(frozen=True)
class TrainingSet:
    """Rows of a pool, and their label matrix (1, 0, -1)."""

    rows: Int[np.ndarray, " post"]
    labels: Int8[np.ndarray, "post category"]


def check_sizes(posts: int, pool_posts: int) -> None:
    """Compare the sizes of a cell's training set and of its pool with their quotas.

    Raises:
        RadarError: a pipeline's would hold no violating or no cleared post, or the pool fewer posts to train on than
            the cell needs.
    """
    check_quotas("phase_posts", sizes_of(posts), CorpusConfig.train_prevalence)
    check_quotas("phase_pool", sizes_of(pool_posts // len(PARTS)), RICH)
    if posts > (free := pool_posts - pool_posts // HELD_OUT):
        raise RadarError(f"phase_posts is {posts}, and of a phase_pool of {pool_posts} cells train on {free}: ask "
                         "for a larger pool.")  # fmt: skip


def plan_pool(config: CorpusConfig) -> Pool:
    """The pool and test posts of one level.

    Args:
        config: of the level. `train_posts` counts the pool (both halves), `co_violation` is the level, `test_posts` the
            posts of blind traffic; the dials of intake and the other splits are not read.

    Raises:
        RadarError: as `select_annotated`.
    """
    dials = {"co_violation": config.co_violation}
    sizes = sizes_of(config.train_posts // len(PARTS))
    halves = [select_annotated(config.seed, split, split, sizes, RICH, intake=intake, noisy=False, **dials)
              for split, intake in PARTS.items()]  # fmt: skip
    test = select_traffic(config.seed, "test", "test", config.test_posts, verified=True, **dials)
    for frames in (selection.facts["n_frames"] for selection in (*halves, test)):
        np.clip(frames, config.min_frames - 1, config.max_frames - 1, out=frames)
    truth = np.concatenate([s.truth for s in halves]).astype(bool)
    signals = Signals.join([Signals.of(s.facts) for s in halves])
    traffic = sample_traffic(config.seed, config.co_violation)
    weight = traffic_weights(truth, signals, traffic, quotas(sizes, RICH))
    return Pool(truth, signals, weight, test.labels, (*halves, test))


def traffic_weights(
    truth: Bool[np.ndarray, "post category"], signals: Signals, traffic: Signals,
    counts: Int[np.ndarray, "category label"],
) -> Float[np.ndarray, " post"]:  # fmt: skip
    """Weight of each pool post against traffic, mean 1.

    A half that holds n_ky posts of pipeline k and true label y, which entered with chance c_k(x), has, relative to
    traffic, the density

        sum_k n_{k, y_k(x)} c_k(x) / E[1(y_k = y_k(x)) c_k],

    the expectation over traffic; the pool's density is the sum over its halves, and the weight is its inverse.

    Args:
        counts: n_ky, of each half.
    """
    density = np.zeros(len(truth))
    for intake in PARTS.values():
        chance, normal = intake.chance(signals), intake_normaliser(traffic.posteriors, intake.chance(traffic))
        for k in range(truth.shape[1]):
            y = truth[:, k].astype(int)
            density += counts[k, y] * chance[:, k] / normal[k, y]
    return (1 / density) / np.mean(1 / density)


def intake_normaliser(
    positive: Float[np.ndarray, "post category"], chance: Float[np.ndarray, "post category"]
) -> Float[np.ndarray, "category label"]:
    """E[P(y_k = y | x) c_k(x)] over posts, by risk and label; `positive` is P(y_k = 1 | x), `chance` is c_k(x)."""
    return np.stack([((1 - positive) * chance).mean(axis=0), (positive * chance).mean(axis=0)], axis=1)


def draw_training_set(pool: Pool, *, intake: Intake, sizes: Sequence[int], seed: int) -> TrainingSet:
    """A training set as the pipelines would have annotated it at these dials.

    For pipeline k and label y (with the annotators' errors, drawn anew) posts are drawn without replacement with
    probability proportional to weight x chance of entering, as the largest of the sum of their logs and Gumbel noise,
    until the quota is full, at the world's training prevalences. Every post goes to one pipeline; the scarcest stratum
    chooses first. Rows come in random order.

    Args:
        sizes: posts per pipeline.

    Raises:
        RadarError: a dial is outside what the pool covers, or the pool holds too few posts of one kind.
    """
    generator = _generator(intake, seed)
    u = generator.random(pool.truth.shape)
    label = pool.truth ^ (u < np.where(pool.truth, MISSED, FALSE_ALARM))
    keys = _keys(pool, intake, generator)
    quota, taken = quotas(sizes, CorpusConfig.train_prevalence), np.where(pool.held_out, len(CATEGORIES), -1)
    strata = [(k, y) for k in range(len(quota)) for y in (0, 1)]
    for k, y in sorted(strata, key=lambda stratum: quota[stratum] / max(1, (label[:, stratum[0]] == stratum[1]).sum()),
                       reverse=True):  # fmt: skip
        free = np.flatnonzero((taken < 0) & (label[:, k] == y))
        taken[_largest(keys[:, k], free, quota[k, y], f"{CATEGORIES[k]} with label {y}")] = k
    rows = generator.permutation(np.flatnonzero((taken >= 0) & ~pool.held_out))
    labels = np.full((len(rows), len(quota)), -1, np.int8)
    labels[np.arange(len(rows)), taken[rows]] = label[rows, taken[rows]]
    return TrainingSet(rows, labels)


def draw_own_stream(pool: Pool, *, intake: Intake, posts: int, seed: int) -> TrainingSet:
    """Test posts of each pipeline's own stream at test prevalence, labels adjudicated; a post may serve several risks.

    Args:
        posts: of each risk.

    Raises:
        RadarError: as `draw_training_set`.
    """
    generator = _generator(intake, seed)
    keys, labels = _keys(pool, intake, generator), np.full(pool.truth.shape, -1, np.int8)
    free = np.flatnonzero(pool.held_out)
    for k, counts in enumerate(quotas([posts] * len(CATEGORIES), CorpusConfig.test_prevalence)):
        for y in (0, 1):
            mine = free[pool.truth[free, k] == y]
            labels[_largest(keys[:, k], mine, counts[y], f"{CATEGORIES[k]} with label {y}"), k] = y
    rows = np.flatnonzero((labels >= 0).any(axis=1))
    return TrainingSet(rows, labels[rows])


def draw_traffic(pool: Pool, *, posts: int, seed: int, without: Int[np.ndarray, " post"]) -> Int[np.ndarray, " other"]:
    """Rows of ordinary posts, as traffic has them, that are neither held out nor in `without`; no label is read.

    Raises:
        RadarError: the pool holds too few.
    """
    rest = np.setdiff1d(np.flatnonzero(~pool.held_out), without)
    keys = np.log(pool.weight) + np.random.default_rng([seed, 9]).gumbel(size=len(pool))
    return _largest(keys, rest, posts, "traffic")


def _generator(intake: Intake, seed: int) -> np.random.Generator:
    dials = asdict(intake)
    for name, most in asdict(STRONGEST).items():
        if not 0 <= dials[name] <= most:
            raise RadarError(f"{name} {dials[name]:g}: the pools cover 0 to {most:g}.")
    return np.random.default_rng([seed, *(round(1000 * value) for value in dials.values())])


def _keys(pool: Pool, intake: Intake, generator: np.random.Generator) -> Float[np.ndarray, "post category"]:
    with np.errstate(divide="ignore"):  # at full focus no post from elsewhere enters
        keys = np.log(pool.weight)[:, None] + np.log(intake.chance(pool.signals))
    return keys + generator.gumbel(size=keys.shape)


def _largest(
    keys: Float[np.ndarray, " post"], rows: Int[np.ndarray, " candidate"], count: int, kind: str
) -> Int[np.ndarray, " chosen"]:
    """The `count` rows with the largest keys."""
    rows = rows[np.isfinite(keys[rows])]
    if len(rows) < count:
        raise RadarError(f"the pool holds {len(rows)} posts of {kind} and the cell needs {count}: ask for a larger "
                         "pool or fewer posts.")  # fmt: skip
    return rows[np.argsort(-keys[rows], kind="stable")[:count]]


def missing_cells(pool: Pool, drawn: TrainingSet) -> dict[str, dict[str, float]]:
    """By risk, what the unverified cells of a training set hide.

    Returns:
        `violating`: share of unverified cells that are violations; `strong`: the same where the risk's own cue is at
        least one half (NaN where there is none); `cue_verified` and `cue_unverified`: mean cue of both.
    """
    hidden = {}
    for k, category in enumerate(CATEGORIES):
        truth, cue, unverified = pool.truth[drawn.rows, k], pool.signals.cues[drawn.rows, k], drawn.labels[:, k] < 0
        strong = unverified & (cue >= 0.5)
        hidden[category] = {
            "violating": float(truth[unverified].mean()),
            "strong": float(truth[strong].mean()) if strong.any() else float("nan"),
            "cue_verified": float(cue[~unverified].mean()),
            "cue_unverified": float(cue[unverified].mean()),
        }
    return hidden
