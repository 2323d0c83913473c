"""How far a metric would move with other seeds of training, and with other seeds and other test posts together.

Runs that differ in their seed alone are a sample of what the recipe gives: Student's t over their values, on the posts
as they are. Both: by the model stated at `combined_interval`.

Degenerate input. One run is refused; runs that agree exactly have no interval over seeds (NaN ends), and leave the
interval over posts as it is; NaN ends of the interval over posts stay NaN.
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm
from scipy.stats import t as student

from radar_lib.intervals import Difference, Interval, quantile, student_difference

_LEAST = -300.0  # logarithm of the smallest p-value that is told from 0


def seed_interval(runs: Sequence[float], *, level: float = 0.95) -> Interval:
    """Where the mean over all seeds lies, on these test posts: Student's t over the values of S runs.

    Raises:
        ValueError: fewer than 2 runs; `level` outside (0, 1).

    >>> [round(end, 2) for end in seed_interval([0.5, 0.6, 0.7])]
    [0.6, 0.35, 0.85]
    """
    variance, freedom = _mean_variance(runs)
    mean, half = float(np.mean(runs)), quantile(level, freedom) * variance**0.5
    return Interval(mean, mean - half, mean + half) if half > 0 else Interval(mean, np.nan, np.nan)


def seed_difference(ours: Sequence[float], theirs: Sequence[float], *, level: float = 0.95) -> Difference:
    """The mean of `ours` minus that of `theirs` over seeds, on these test posts.

    Runs that are equally many have the same seeds in the same order, and are paired; else this is Welch's t.

    Raises:
        ValueError: as `seed_interval`.
    """
    variance, freedom = _difference_variance(ours, theirs)
    return student_difference(float(np.mean(ours) - np.mean(theirs)), variance**0.5, freedom, level=level)


def combined_interval(posts: Interval, runs: Sequence[float], *, level: float = 0.95) -> Interval:
    """Where the metric lies with other test posts and other seeds: the interval of a method, not of its checkpoints.

    The model: metric(seed s, sample) = mu + a_s + b_sample + e, all independent with mean 0. The mean of S runs that
    are scored on one sample has the variance

        V = V_posts + s^2 / S,

    where V_posts is that of the mean run over posts (b, and the part of e that averaging leaves), and s^2 the sample
    variance of the runs' values (a and e). The variance of e, over S, is in both and so counted twice.

    The half-widths of the two intervals, normal with V_posts and Student's t with s^2 / S, add in squares (Howe 1974;
    Zou and Donner 2008 for sides that differ): 95 % means 95 to 98 under the model with three seeds. One t with
    Satterthwaite's degrees of freedom would be shorter, and covers 92 % where seeds differ more than samples: by luck
    three runs lie close together, and then it also believes that it has many degrees of freedom.

    Args:
        posts: estimate of the mean run and its interval over posts, at this level.
        runs: the metric of each run on these posts.

    Raises:
        ValueError: as `seed_interval`.
    """
    variance, freedom = _mean_variance(runs)
    half = quantile(level, freedom) * variance**0.5
    below, above = posts.estimate - posts.low, posts.high - posts.estimate
    # A percentile interval may leave the estimate out; it is then moved as far.
    low, high = (np.hypot(max(side, 0.0), half) + min(side, 0.0) for side in (below, above))
    return Interval(posts.estimate, float(posts.estimate - low), float(posts.estimate + high))


def combined_difference(
    posts: Difference, ours: Sequence[float], theirs: Sequence[float], *, level: float = 0.95
) -> Difference:
    """The difference of two methods with other test posts and other seeds; paired by post and, as
    `seed_difference`, by seed. The model is that of `combined_interval`, for the difference.

    The p-value is the level at which the interval reaches 0.

    Args:
        posts: of the mean runs, over posts, at this level; its sides are equal.
        ours, theirs: the metric of each run on these posts.

    Raises:
        ValueError: as `seed_interval`.
    """
    variance, freedom = _difference_variance(ours, theirs)
    if variance == 0 or np.isnan(posts.high):
        return posts
    error = (posts.high - posts.low) / 2 / quantile(level)

    def half(log_p: float) -> float:
        tail = np.exp(log_p) / 2
        return float(np.hypot(norm.isf(tail) * error, student.isf(tail, freedom) * variance**0.5))

    estimate, width = posts.estimate, half(np.log(1 - level))
    distance = abs(estimate)
    p_value = np.exp(brentq(lambda log_p: half(log_p) - distance, _LEAST, 0.0)) if distance < half(_LEAST) else 0.0
    return Difference(estimate, estimate - width, estimate + width, float(p_value))


def _mean_variance(runs: Sequence[float]) -> tuple[float, float]:
    """Variance of the mean of independent runs, and its degrees of freedom."""
    if len(runs) < 2:
        raise ValueError(f"{len(runs)} run: how far seeds lie apart takes two or more")
    variance = float(np.var(runs, ddof=1)) if np.ptp(runs) > 0 else 0.0  # equal numbers may miss their mean by a bit
    return variance / len(runs), len(runs) - 1.0


def _difference_variance(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """As `_mean_variance`, of a difference: paired, or Welch's."""
    if len(ours) == len(theirs):
        return _mean_variance(np.subtract(ours, theirs))
    parts = [_mean_variance(runs) for runs in (ours, theirs)]
    total = sum(variance for variance, _ in parts)
    below = sum(variance**2 / freedom for variance, freedom in parts)
    return total, total**2 / below if below > 0 else np.inf
