"""How far a metric would move with another sample of test posts: the percentile bootstrap.

This is the uncertainty of the test set, for one trained model. Training again with another seed is another source of
variation, and needs other runs.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Num

_CELLS_AT_ONCE = 3_000_000  # replicates x posts held in memory together: about 24 MB per array


@runtime_checkable
class Metric(Protocol):
    """A metric of `radar_lib.metrics`, with its options bound by `functools.partial`."""

    def __call__(
        self, labels: np.ndarray, scores: np.ndarray, *, weights: np.ndarray | None = None
    ) -> float | np.ndarray: ...


class Interval(NamedTuple):
    """The metric on the posts as they are, and the two ends of its interval, in the metric's units."""

    estimate: float
    low: float
    high: float


def bootstrap_interval(
    metric: Metric,
    labels: Num[np.ndarray, " post"],
    scores: Float[np.ndarray, " post"],
    *,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int,
) -> Interval:
    """Percentile interval of `metric` over posts drawn with replacement.

    Posts are drawn one by one, so the number of violating posts varies as it would in another sample. Replicates
    without any are left out. The interval describes one model on posts like these; it is too narrow when the posts
    are near-copies of one another.

    Args:
        metric: called once with weights of shape (replicates, posts): how often each replicate drew each post.
        labels: 1 or 0, verified posts only.
        scores: logits.
        replicates: number of resamples.
        level: coverage aimed at, such as 0.95.
        seed: equal seeds give equal intervals.

    Raises:
        ValueError: as the metric; `level` outside (0, 1); fewer than 2 replicates; or more than half of the
            replicates without a violating post.

    >>> from radar_lib.metrics import average_precision
    >>> labels, scores = np.array([1, 1, 0, 0, 0, 0]), np.array([3.0, 1.0, 2.0, 0.0, -1.0, -2.0])
    >>> bootstrap_interval(average_precision, labels, scores, seed=1).estimate.__round__(3)
    0.833
    """
    if not 0.0 < level < 1.0 or replicates < 2:
        raise ValueError(f"level {level} must lie in (0, 1) and replicates {replicates} be at least 2")
    estimate = float(metric(labels, scores))
    generator = np.random.default_rng(seed)
    posts = len(labels)
    at_once = max(1, _CELLS_AT_ONCE // posts)
    values = np.concatenate(
        [
            metric(labels, scores, weights=_draws(generator, min(at_once, replicates - start), posts))
            for start in range(0, replicates, at_once)
        ]
    )
    values = values[~np.isnan(values)]
    if 2 * len(values) < replicates:
        raise ValueError(f"{replicates - len(values)} of {replicates} replicates hold no violating post; too few posts")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high))


def _draws(generator: np.random.Generator, replicates: int, posts: int) -> np.ndarray:
    """How often each post was drawn in each replicate, shape (replicates, posts), by one bincount."""
    drawn = generator.integers(0, posts, (replicates, posts)) + posts * np.arange(replicates)[:, None]
    return np.bincount(drawn.ravel(), minlength=replicates * posts).reshape(replicates, posts)
