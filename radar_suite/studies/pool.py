"""A pool of posts per level of co-violation, from which training sets of any intake bias are drawn again and again.

A level's pool joins two selections of the built-in world, one without intake bias and one with the strongest, both rich
in violations, so that every kind of post that some cell of the map needs is there. A pool is therefore not traffic; but
how it was selected is known, so each post's weight against traffic is known too (the balance heuristic of multiple
importance sampling, Veach and Guibas 1995), and a cell's training set is drawn by that weight. Only facts are needed:
nothing is rendered here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Int8

from radar_lib.errors import RadarError
from radar_suite.world.dials import CorpusConfig, sizes_of
from radar_suite.world.facts import sample_block
from radar_suite.world.pipelines import FALSE_ALARM, MISSED, Selection, check_quotas, quotas, select_annotated
from radar_suite.world.policies import CATEGORIES, intake_cues, posteriors

STRONGEST = 6.0  # intake bias of the second half; the map goes no further
RICH = (0.35, 0.45, 0.25)  # share of violations in the pool's selections, by pipeline
PARTS = {"train": 0.0, "validation": STRONGEST}  # streams of the two halves, and their intake bias
TRAFFIC_BLOCKS = 24  # of 4,096 posts, facts only: what the pool is weighed against


@dataclass(frozen=True)
class Traffic:
    """Posts as they come at one level of co-violation, facts only: the population that a pool is weighed against."""

    posteriors: Float[np.ndarray, "post category"]
    cues: Float[np.ndarray, "post category"]

    @classmethod
    def sample(cls, seed: int, co_violation: float, *, blocks: int = TRAFFIC_BLOCKS) -> Traffic:
        facts = [sample_block(seed, "phase traffic", b, co_violation=co_violation) for b in range(blocks)]
        return cls(np.concatenate([posteriors(f) for f in facts]), np.concatenate([intake_cues(f) for f in facts]))


@dataclass(frozen=True)
class Pool:
    """Posts to draw training sets from, and the test posts of the same world."""

    truth: Bool[np.ndarray, "post category"]  # true labels of the pool's posts, for all K
    cues: Float[np.ndarray, "post category"]  # what each pipeline's recall models notice, in [0, 1]
    weight: Float[np.ndarray, " post"]  # density in traffic over density in the pool, mean 1
    test_labels: Int8[np.ndarray, "test category"]  # 1, 0 or -1: each risk on its own pipeline's posts, without errors
    selections: tuple[Selection, ...]  # all of these posts in order, the pool's first: what is to be rendered

    def __len__(self) -> int:
        return len(self.truth)


@dataclass(frozen=True)
class TrainingSet:
    """Rows of a pool, and their label matrix (1, 0, -1)."""

    rows: Int[np.ndarray, " post"]
    labels: Int8[np.ndarray, "post category"]


def check_sizes(posts: int, pool_posts: int) -> None:
    """Hold the sizes of a cell's training set and of its pool against their quotas.

    Raises:
        RadarError: a pipeline's would hold no violating or no cleared post, or the pool fewer posts than the cell.
    """
    check_quotas("phase_posts", sizes_of(posts), CorpusConfig.train_prevalence)
    check_quotas("phase_pool", sizes_of(pool_posts // len(PARTS)), RICH)
    if posts > pool_posts:
        raise RadarError(f"phase_posts is {posts}, of a phase_pool of {pool_posts}: ask for a larger pool.")


def plan_pool(config: CorpusConfig) -> Pool:
    """The pool and test posts of one level.

    Args:
        config: of the level. `train_posts` counts the pool (both halves), `co_violation` is the level, `test_positives`
            violating test posts per risk; intake bias and the other splits are not read.

    Raises:
        RadarError: as `select_annotated`.
    """
    dials = {"co_violation": config.co_violation}
    sizes = sizes_of(config.train_posts // len(PARTS))
    halves = [select_annotated(config.seed, split, split, sizes, RICH, beta=beta, noisy=False, **dials)
              for split, beta in PARTS.items()]  # fmt: skip
    tests = [int(config.test_positives / p) for p in config.test_prevalence]
    test = select_annotated(config.seed, "test", "test", tests, config.test_prevalence, beta=0.0, noisy=False, **dials)
    for frames in (selection.facts["n_frames"] for selection in (*halves, test)):
        np.clip(frames, config.min_frames - 1, config.max_frames - 1, out=frames)
    truth = np.concatenate([s.truth for s in halves]).astype(bool)
    cues = np.concatenate([intake_cues(s.facts) for s in halves])
    traffic = Traffic.sample(config.seed, config.co_violation)
    weight = traffic_weights(truth, cues, traffic, quotas(sizes, RICH))
    return Pool(truth, cues, weight, test.labels, (*halves, test))


def traffic_weights(
    truth: Bool[np.ndarray, "post category"], cues: Float[np.ndarray, "post category"], traffic: Traffic,
    counts: Int[np.ndarray, "category label"],
) -> Float[np.ndarray, " post"]:  # fmt: skip
    """Weight of each pool post against traffic, mean 1.

    A half with intake bias b that holds n_ky posts of pipeline k and true label y has, relative to traffic, the density

        sum_k n_{k, y_k(x)} exp(b cue_k(x)) / E[1(y_k = y_k(x)) exp(b cue_k)],

    the expectation over traffic; the pool's density is the sum over its halves, and the weight is its inverse.

    Args:
        counts: n_ky, of each half.
    """
    density = np.zeros(len(truth))
    for beta in PARTS.values():
        normal = intake_normaliser(traffic.posteriors, traffic.cues, beta)
        for k in range(truth.shape[1]):
            y = truth[:, k].astype(int)
            density += counts[k, y] * np.exp(beta * (cues[:, k] - 1)) / normal[k, y]
    return (1 / density) / np.mean(1 / density)


def intake_normaliser(
    positive: Float[np.ndarray, "post category"], cues: Float[np.ndarray, "post category"], beta: float
) -> Float[np.ndarray, "category label"]:
    """E[P(y_k = y | x) exp(beta (cue_k(x) - 1))] over posts, by risk and label; `positive` is P(y_k = 1 | x)."""
    tilt = np.exp(beta * (cues - 1))
    return np.stack([((1 - positive) * tilt).mean(axis=0), (positive * tilt).mean(axis=0)], axis=1)


def draw_training_set(pool: Pool, *, beta: float, sizes: Sequence[int], seed: int) -> TrainingSet:
    """A training set as the pipelines would have annotated it at intake bias `beta`.

    For pipeline k and label y (with the annotators' errors, drawn anew) posts are drawn without replacement with
    probability proportional to weight x exp(beta cue_k), as the largest of log weight + beta cue_k + Gumbel noise,
    until the quota is full, at the world's training prevalences. Every post goes to one pipeline; the scarcest stratum
    chooses first. Rows come in random order.

    Args:
        sizes: posts per pipeline.

    Raises:
        RadarError: `beta` is outside what the pool covers, or the pool holds too few posts of one kind.
    """
    if not 0 <= beta <= STRONGEST:
        raise RadarError(f"intake bias {beta:g}: the pools cover 0 to {STRONGEST:g}.")
    generator = np.random.default_rng([seed, round(1000 * beta)])
    u = generator.random(pool.truth.shape)
    label = pool.truth ^ (u < np.where(pool.truth, MISSED, FALSE_ALARM))
    keys = np.log(pool.weight)[:, None] + beta * pool.cues + generator.gumbel(size=pool.truth.shape)
    quota, taken = quotas(sizes, CorpusConfig.train_prevalence), np.full(len(pool), -1)
    strata = [(k, y) for k in range(len(quota)) for y in (0, 1)]
    for k, y in sorted(strata, key=lambda stratum: quota[stratum] / max(1, (label[:, stratum[0]] == stratum[1]).sum()),
                       reverse=True):  # fmt: skip
        free = np.flatnonzero((taken < 0) & (label[:, k] == y))
        if len(free) < quota[k, y]:
            raise RadarError(f"the pool holds {len(free)} posts of {CATEGORIES[k]} with label {y} and the cell needs "
                             f"{quota[k, y]}: ask for a larger pool or fewer training posts.")  # fmt: skip
        taken[free[np.argsort(-keys[free, k], kind="stable")[: quota[k, y]]]] = k
    rows = generator.permutation(np.flatnonzero(taken >= 0))
    labels = np.full((len(rows), len(quota)), -1, np.int8)
    labels[np.arange(len(rows)), taken[rows]] = label[rows, taken[rows]]
    return TrainingSet(rows, labels)


def missing_cells(pool: Pool, drawn: TrainingSet) -> dict[str, dict[str, float]]:
    """By risk, what the unverified cells of a training set hide.

    Returns:
        `violating`: share of unverified cells that are violations; `strong`: the same where the risk's own cue is at
        least one half (NaN where there is none); `cue_verified` and `cue_unverified`: mean cue of both.
    """
    hidden = {}
    for k, category in enumerate(CATEGORIES):
        truth, cue, unverified = pool.truth[drawn.rows, k], pool.cues[drawn.rows, k], drawn.labels[:, k] < 0
        strong = unverified & (cue >= 0.5)
        hidden[category] = {
            "violating": float(truth[unverified].mean()),
            "strong": float(truth[strong].mean()) if strong.any() else float("nan"),
            "cue_verified": float(cue[~unverified].mean()),
            "cue_unverified": float(cue[unverified].mean()),
        }
    return hidden
