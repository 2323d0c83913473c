"""How far a metric of one trained model, or the difference of two, would move with another sample of test posts.

Average precision has a closed form, by its influence function (what one post adds
to it, as DeLong's is for the ROC area): O(n log n), and for the difference of two models on the same posts as well. The
other metrics have jumps, and are bootstrapped: posts drawn with replacement, the same ones for both models of a
difference. Posts that share an image, campaign, stream or account are not independent: given their `groups`, influences
are summed within groups, and groups are drawn. How often these intervals cover is measured by
`benchmarks/interval_coverage.py`; with few groups that hold a violating post too seldom. Over seeds: `seed_intervals`.

Degenerate input. What the metric refuses (no violating or no cleared post, NaN or infinite scores), this refuses with
the same ValueError. Scores that are all equal: the metric's `DegenerateWarning`, and NaN for the estimate and its ends;
such a difference has p-value 1, being no evidence of any. A perfect order, or replicates that are all equal, say
nothing about the error: NaN ends.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.special import expit, logit
from scipy.stats import norm
from scipy.stats import t as student

from radar_lib.blocks import descending
from radar_lib.metrics import Labels, Scores, Values, average_precision, recall_at_precision

RELIABLE_RECALL = 0.1  # of R@P: the coverage of its bootstrap has a bar from this value up
_CELLS_AT_ONCE = 10_000_000  # replicates x posts held in memory together, a byte each

# A metric of `radar_lib.metrics` with its options bound by `functools.partial`: (labels, scores, *, weights=None).
Metric = Callable[..., Values]
Parts = Float[np.ndarray, " post"]  # what each post adds to an error: independent, with mean 0
Groups = Int[np.ndarray, " post"] | None  # number of each post's group, from 0 on; None where all are independent
Replicates = Float[np.ndarray, " replicate"]  # a metric under each draw of posts, NaN where it is not defined


class Interval(NamedTuple):
    """The metric on the posts as they are, and the two ends of its interval, in the metric's units."""

    estimate: float
    low: float
    high: float


class Difference(NamedTuple):
    """Our metric minus theirs on the same posts, its interval, and the two-sided p-value of no difference."""

    estimate: float
    low: float
    high: float
    p_value: float


def average_precision_influence(labels: Labels, scores: Scores) -> Parts:
    """The influence of each post on average precision: its derivative when that post's weight grows.

    With T(s) and A(s) the shares of posts, and of violating posts, that score at least s, h = A / T (precision), pi the
    prevalence and theta the average precision, a post (y, s) has the influence

        [y h(s) + y G1(s) - G2(s) - pi theta - theta (y - pi)] / pi,

    where G1 and G2 sum 1 / T and h / T over the violating posts that score at most s. Its mean is 0; its mean square
    over n is the variance of average precision.

    Raises:
        ValueError: as `average_precision`.
    """
    return _area(labels, scores)[1]


def _area(labels: Labels, scores: Scores) -> tuple[float, Parts]:
    """Average precision, and the influence of each post on it."""
    theta = average_precision(labels, scores)
    labels, scores = np.asarray(labels), np.asarray(scores)
    order = descending(scores)
    y, ranked = labels[order].astype(float), scores[order]
    block = np.cumsum(np.r_[False, ranked[1:] != ranked[:-1]])
    posts, violating = np.cumsum(np.bincount(block)), np.bincount(block, weights=y)
    precision = np.cumsum(violating) / posts
    below1 = np.cumsum((violating / posts)[::-1])[::-1]
    below2 = np.cumsum((violating * precision / posts)[::-1])[::-1]
    influence = np.empty(len(y))
    influence[order] = y * ((precision + below1)[block] - theta) - below2[block]
    return theta, influence * len(y) / y.sum()


def sum_within(parts: Parts, groups: Groups) -> Parts:
    """What each group of posts adds to an error: the sum over its posts; of independent posts the parts as they are."""
    return parts if groups is None else np.bincount(groups, weights=parts)


def count_groups(groups: Groups, *, among: Bool[np.ndarray, " post"] | None = None) -> int | None:
    """Groups that the posts are of, or those `among` them that a metric is about; None where posts are independent."""
    return None if groups is None else len(np.unique(groups if among is None else groups[among]))


def standard_error(parts: Parts, number: int | None = None) -> float:
    """Of what has the sum of `parts` as its error, one of each post, or of each group (`sum_within`).

    That of groups is scaled by the root of G / (G - 1), G being their number, as a few groups lie closer to their own
    mean than to the true one; and by t / z, the 97.5 % quantiles of Student's t and of the normal, since a variance
    that few sums decide is often too small. It has f = 2 V^2 / (Q - V^2 / G) degrees of freedom (that many equal normal
    sums would vary as it does), at most G - 1; V and Q add the sums' squares and fourth powers. So it is no sum: parts
    of several quantities are added first. NaN for a single group, which says nothing of others.

    Args:
        number: of groups (`count_groups`); None for independent posts.
    """
    total, fourth = (float(np.sum(parts**power)) for power in (2, 4))
    if number is None:
        return float(np.sqrt(total))
    if number < 2:
        return np.nan
    apart = fourth - total**2 / number
    freedom = min(2 * total**2 / apart, number - 1) if apart > 0 else number - 1
    return float(np.sqrt(total * number / (number - 1))) * quantile(0.95, freedom) / quantile(0.95)


def average_precision_interval(
    labels: Labels, scores: Scores, *, groups: Groups = None, level: float = 0.95
) -> Interval:
    """Average precision with its influence-function interval on the logit scale, which keeps it inside (0, 1).

    A perfect order has no interval (its ends are NaN): the posts say nothing about how far it is from perfect.

    Raises:
        ValueError: as `average_precision`; `level` outside (0, 1).

    >>> labels, scores = np.array([1, 1, 0, 0, 0, 0]), np.array([3.0, 1.0, 2.0, 0.0, -1.0, -2.0])
    >>> [round(end, 2) for end in average_precision_interval(labels, scores)]
    [0.83, 0.28, 0.98]
    """
    estimate, influence = _area(labels, scores)
    parts = sum_within(influence / len(labels), groups)
    return logit_interval(estimate, standard_error(parts, count_groups(groups)), level=level)


def average_precision_difference(
    labels: Labels, ours: Scores, theirs: Scores, *, groups: Groups = None, level: float = 0.95
) -> Difference:
    """Average precision of `ours` minus that of `theirs` on the same posts, by the difference of their influences.

    Raises:
        ValueError: as `average_precision`; `level` outside (0, 1).
    """
    (ours_area, ours_influence), (their_area, their_influence) = _area(labels, ours), _area(labels, theirs)
    parts = sum_within((ours_influence - their_influence) / len(labels), groups)
    return student_difference(ours_area - their_area, standard_error(parts, count_groups(groups)), level=level)


def bootstrap_difference(
    metric: Metric, labels: Labels, ours: Scores, theirs: Scores, *, groups: Groups = None, replicates: int = 1000,
    level: float = 0.95, seed: int,
) -> Difference:  # fmt: skip
    """The metric of `ours` minus that of `theirs`, each replicate on the same posts for both.

    Raises:
        ValueError: as `bootstrap_interval`.
    """
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    estimate = float(metric(labels, ours)) - float(metric(labels, theirs))
    drawn = bootstrap(
        lambda weights: metric(labels, ours, weights=weights) - metric(labels, theirs, weights=weights),
        posts=len(labels), groups=groups, replicates=replicates, seed=seed,
    )  # fmt: skip
    return replicate_difference(estimate, drawn, level=level)


def bootstrap_interval(
    metric: Metric, labels: Labels, scores: Scores, *, groups: Groups = None, replicates: int = 1000,
    level: float = 0.95, seed: int,
) -> Interval:  # fmt: skip
    """Percentile interval of `metric` over posts, or `groups` of them, drawn with replacement.

    Posts are drawn one by one, so the number of violating posts varies as it would in another sample. Replicates of one
    kind only are left out. It is too narrow where posts are near-copies of one another and no group says so. Of R@P
    below `RELIABLE_RECALL` it is computed with a UserWarning.

    Args:
        metric: called with weights of shape (replicates, posts): how often each replicate drew each post.
        labels: of verified posts only.
        level: coverage aimed at.
        seed: equal seeds give equal intervals.

    Raises:
        ValueError: as the metric; `level` outside (0, 1); fewer than 2 replicates; or more than half of them
            undefined.

    >>> labels, scores = np.array([1, 1, 0, 0, 0, 0]), np.array([3.0, 1.0, 2.0, 0.0, -1.0, -2.0])
    >>> bootstrap_interval(average_precision, labels, scores, seed=1).estimate.__round__(3)
    0.833
    """
    estimate = float(metric(labels, scores))
    if getattr(metric, "func", metric) is recall_at_precision and not recall_at_precision_is_reliable(estimate):
        warnings.warn(f"R@P is {estimate:.3f}: below {RELIABLE_RECALL} how often its interval covers is not promised",
                      stacklevel=2)  # fmt: skip
    drawn = bootstrap(
        lambda weights: metric(labels, scores, weights=weights),
        posts=len(labels), groups=groups, replicates=replicates, seed=seed,
    )  # fmt: skip
    return percentile_interval(estimate, drawn, level=level)


def recall_at_precision_is_reliable(value: float) -> bool:
    """Whether an R@P is large enough for the coverage of its bootstrap interval to be promised.

    R@P is a maximum over thresholds, and near 0 it jumps between 0 and a handful of the top-scored posts. The record of
    coverage has true values of 0.05 too, and how often this calls them, and 0.1, unreliable.

    >>> recall_at_precision_is_reliable(0.04)
    False
    """
    return bool(value >= RELIABLE_RECALL)


def bootstrap(
    values: Callable[[UInt8[np.ndarray, "replicate post"]], Float[np.ndarray, "*value replicate"]], *,
    posts: int, groups: Groups = None, replicates: int, seed: int,
) -> Float[np.ndarray, "*value replicate"]:  # fmt: skip
    """`values` of how often each replicate drew each post, a part of the replicates in memory at a time.

    Posts of one group are drawn together.

    Raises:
        ValueError: fewer than 2 replicates.
    """
    if replicates < 2:
        raise ValueError(f"replicates is {replicates}; it must be at least 2")
    generator = np.random.default_rng(seed)
    at_once = max(1, _CELLS_AT_ONCE // posts)
    sizes = [min(at_once, replicates - start) for start in range(0, replicates, at_once)]
    number = posts if groups is None else int(groups.max()) + 1
    drawn = (draws(generator, size, number) for size in sizes)
    return np.concatenate([values(one if groups is None else one[:, groups]) for one in drawn], axis=-1)


def logit_interval(estimate: float, error: float, *, level: float = 0.95) -> Interval:
    """Normal interval on the logit scale of a fraction with this standard error; NaN ends at 0 and 1."""
    z = quantile(level)
    if not 0.0 < estimate < 1.0:
        return Interval(estimate, np.nan, np.nan)
    width = z * error / (estimate * (1 - estimate))
    return Interval(estimate, float(expit(logit(estimate) - width)), float(expit(logit(estimate) + width)))


def percentile_interval(estimate: float, drawn: Replicates, *, level: float = 0.95) -> Interval:
    """Percentile interval from bootstrap replicates. Undefined ones (NaN) are left out; NaN ends if all are equal.

    Raises:
        ValueError: more than half of the replicates of a defined estimate are undefined; `level` outside (0, 1).
    """
    quantile(level)
    drawn = _defined(estimate, drawn)
    if np.isnan(estimate) or np.ptp(drawn) == 0:
        return Interval(estimate, np.nan, np.nan)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high))


def replicate_difference(estimate: float, drawn: Replicates, *, level: float = 0.95) -> Difference:
    """Interval and p-value of a difference, normal with the standard error of its bootstrap replicates.

    Not percentiles: a correction for many comparisons needs tails that no affordable number of replicates reaches.

    Raises:
        ValueError: as `percentile_interval`.
    """
    drawn = _defined(estimate, drawn)
    error = 0.0 if np.isnan(estimate) or np.ptp(drawn) == 0 else float(np.std(drawn))
    return student_difference(estimate, error, level=level)


def student_difference(estimate: float, error: float, freedom: float = np.inf, *, level: float = 0.95) -> Difference:
    """Symmetric interval and two-sided p-value of a difference with this standard error: normal, or Student's t.

    Without an error only 0 is known to be 0; the rest has no interval, and neither has anything of an unknown error.
    """
    width = quantile(level, freedom) * error
    if error > 0:
        p_value = 2 * float(student.sf(abs(estimate) / error, freedom))
        return Difference(estimate, estimate - width, estimate + width, p_value)
    width = 0.0 if estimate == error == 0 else np.nan
    return Difference(estimate, estimate - width, estimate + width, 1.0)


def _defined(estimate: float, drawn: Replicates) -> Replicates:
    """The replicates that hold posts of both kinds."""
    defined = drawn[~np.isnan(drawn)]
    if 2 * len(defined) < len(drawn) and not np.isnan(estimate):
        lost = len(drawn) - len(defined)
        raise ValueError(f"{lost} of {len(drawn)} replicates hold no violating or no cleared post; too few posts")
    return defined


def quantile(level: float, freedom: float = np.inf) -> float:
    """Of Student's t, and of the standard normal at infinite freedom, for a two-sided interval."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"level is {level}; it must lie in (0, 1)")
    return float(student.ppf((1 + level) / 2, freedom)) if np.isfinite(freedom) else float(norm.ppf((1 + level) / 2))


def draws(generator: np.random.Generator, replicates: int, posts: int) -> UInt8[np.ndarray, "replicate post"]:
    """How often each post was drawn in each replicate: `posts` draws with replacement, counted.

    A byte holds each count: that one of 256 posts or more is drawn 256 times is less likely than 1 / 256!.
    """
    counts = np.empty((replicates, posts), dtype=np.uint8)
    for row in counts:  # one at a time stays in the processor's cache
        row[:] = np.bincount(generator.integers(0, posts, posts, dtype=np.int32), minlength=posts)
    return counts
