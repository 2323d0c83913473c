"""Notebook 09: routing decisions: the certified rank, slices that are below target and not by chance."""

import numpy as np
from scipy.stats import binom

from radar_suite.exercises.exercise import Exercise


def largest_rank(n, recall, delta):
    ranks = np.arange(1, n + 1)
    return int((binom.cdf(ranks - 1, n, 1 - recall) <= delta).sum())


def _calibration(generator: np.random.Generator) -> tuple[int, float, float]:
    n, recall = int(generator.integers(150, 900)), float(generator.choice([0.8, 0.9, 0.95]))
    return n, recall, float(generator.uniform(0.02, 0.1))


LARGEST_RANK = Exercise(
    name="largest_rank",
    task="""tau lies just below the k-th lowest logit of `n` violating calibration posts. Write
    `largest_rank(n, recall, delta) -> k`: the largest k for which recall of posts to come is below `recall` with
    probability `delta` at most. (`binom` of `scipy.stats` is all it takes.)""",
    hints=("Recall is too low if at most k - 1 of the n posts fell among the lowest share 1 - recall of all.",
           "`binom.cdf(k - 1, n, 1 - recall) <= delta`, for k = 1, 2, ... as long as it holds."),
    answer=largest_rank,
    why="The number of calibration posts among the lowest share is binomial whatever the router is, so the promise "
    "needs no assumption about its scores. For K risks together, call it with delta / K.",
    mistakes=(
        (lambda n, r, d: int((binom.cdf(np.arange(1, n + 1), n, 1 - r) <= d).sum()),
         "k posts may not fall there: tau lies below the k-th, so k - 1 are released"),
        (lambda n, r, d: n - int(np.ceil(n * r - 1e-9)) + 1,
         "that is the naive rank, which fails about every second time"),
        (lambda n, r, d: int((binom.cdf(np.arange(n), n, r) <= d).sum()),
         "a post falls among the lowest with probability 1 - recall, not recall"),
        (lambda n, r, d: int((binom.cdf(np.arange(n), n, 1 - r) <= 1 - d).sum()), "delta may fail, not 1 - delta"),
    ),
    case=_calibration,
)  # fmt: skip


def false_discoveries(p_values, level):
    order, m = np.argsort(p_values), len(p_values)
    under = np.flatnonzero(p_values[order] <= level * np.arange(1, m + 1) / m)
    named = np.zeros(m, bool)
    named[order[: under.max() + 1 if len(under) else 0]] = True
    return named


def _stops_early(p_values, level):
    order, m = np.argsort(p_values), len(p_values)
    under = p_values[order] <= level * np.arange(1, m + 1) / m
    named = np.zeros(m, bool)
    named[order[: m if under.all() else int(np.argmin(under))]] = True
    return named


def _slices(generator: np.random.Generator) -> tuple[np.ndarray, float]:
    """Values of which the third lies above its bound and the fourth below, so that it matters where one stops."""
    rest = generator.uniform(0.5, 1, 6)
    return generator.permutation(np.r_[0.005, 0.012, 0.03, 0.034, 0.06, rest]), 0.1


FALSE_DISCOVERIES = Exercise(
    name="false_discoveries",
    task="""Write `false_discoveries(p_values, level) -> named`, a boolean array: Benjamini and Hochberg's slices. Sort
    the m values; find the *last* i with p_(i) <= level * i / m; it and all smaller ones are named.""",
    hints=("`order = np.argsort(p_values)` sorts; `named[order[:i]] = True` goes back to the places of the slices.",
           "`np.flatnonzero(p_values[order] <= level * np.arange(1, m + 1) / m)`; its largest is the last i, less 1."),
    answer=false_discoveries,
    why="A value above its own bound is named all the same where a later one is below: together they are more than "
    "chance would give. Of the slices named, the share that is chance is `level` at most, on average.",
    mistakes=(
        (lambda p, level: p <= level, "that tests each slice by itself: of many slices, one in ten is named by chance"),
        (lambda p, level: p <= level / len(p), "that is Bonferroni: no chance finding at all, and few true ones"),
        (_stops_early, "you stop at the first value above its bound; look for the last one below"),
        (lambda p, level: ~false_discoveries(p, level), "True marks the slices that are named"),
    ),
    case=_slices,
)  # fmt: skip

EXERCISES = (LARGEST_RANK, FALSE_DISCOVERIES)
