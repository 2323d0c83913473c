"""Risk detection and traffic reduction (paper section 3.2): PR-AUC, R@P and APR@R of one category, exactly.

All of them depend on the scores only through the order of the posts, so they take logits, and should: a sigmoid
rounds different logits to equal probabilities, and ties cost average precision. Posts with equal scores are one
block, dispatched or released together. Labels are 1 (violating) and 0 (cleared); posts that nobody verified for the
category are left out by the caller, or by `score_table`.

Every metric is a function of two counts per block: how many posts, and how many violating ones, score at least as
high. `weights` counts a post several times, or none, and may hold many such counts, one row each: the rows of a
bootstrap are evaluated together.

Degenerate input, in every function that takes posts:

- ValueError if the posts cannot tell one model from another: there is no post, or none violates (all these metrics
  divide by their number), or none is cleared (every order is perfect); also if shapes differ, a score is NaN or
  infinite, a label is neither 0 nor 1, or a weight is negative or not finite;
- NaN with a `DegenerateWarning` if the model cannot tell one post from another: all scores are equal. The definitions
  would give numbers that look like results (PR-AUC the prevalence, APR 0). `pr_curve` and `threshold_at_recall`, which
  state what dispatching does and not how good it is, give their one block or its threshold, with the warning;
- NaN, without a warning, for a row of weights that counts posts of one kind alone. A row may count posts of one score
  alone where there are others: such a replicate is what another sample could be, and has the value of one block.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Num

from radar_lib.labels import valid_mask

Labels = Num[np.ndarray, " post"]  # 1 violating, 0 cleared
Scores = Float[np.ndarray, " post"]  # logits
Weights = Num[np.ndarray, "*replicate post"]  # how often each post counts
Values = float | Float[np.ndarray, "*replicate"]  # one value, or one per row of weights


class DegenerateWarning(UserWarning):
    """All scores are equal: the model orders nothing, and a metric of its order is not defined."""


class PRCurve(NamedTuple):
    """Precision and recall of dispatching every post with score >= threshold, thresholds descending."""

    precision: Float[np.ndarray, " block"]
    recall: Float[np.ndarray, " block"]
    thresholds: Float[np.ndarray, " block"]


def pr_curve(labels: Labels, scores: Scores) -> PRCurve:
    """One point per distinct score, the highest first.

    >>> pr_curve(np.array([1, 0, 1, 0]), np.array([2.0, 1.0, 1.0, -1.0])).precision.round(3).tolist()
    [1.0, 0.667, 0.5]
    """
    blocks = _blocks(labels, scores, None)
    return PRCurve(blocks.precision, blocks.recall, blocks.scores)


def average_precision(labels: Labels, scores: Scores, *, weights: Weights | None = None) -> Values:
    """PR-AUC as the paper's tables use it here: precision at each block, weighted by the recall it adds.

    The expected value for scores without information is the prevalence.

    Returns:
        A fraction in [0, 1]; an array if `weights` has rows. NaN where degenerate, see the module.

    >>> average_precision(np.array([1, 0, 1, 0]), np.array([4.0, 3.0, 2.0, 1.0]))   # (1/1 + 2/3) / 2
    0.8333333333333333
    """
    return _average_precision(_blocks(labels, scores, weights))


def pr_auc_trapezoid(labels: Labels, scores: Scores) -> float:
    """Area under the PR curve joined by straight lines, from (recall 0, precision 1). An option, not the default.

    Points on such a line cannot be reached by any threshold, so it is optimistic where average precision is not.

    >>> pr_auc_trapezoid(np.array([1, 0, 1, 0]), np.array([4.0, 3.0, 2.0, 1.0])).__round__(4)
    0.7917
    """
    blocks = _blocks(labels, scores, None)
    return _result(np.trapezoid(np.r_[1.0, blocks.precision], np.r_[0.0, blocks.recall]), blocks)


def recall_at_precision(
    labels: Labels, scores: Scores, *, precision: float = 0.6, weights: Weights | None = None
) -> Values:
    """R@P: the largest recall among thresholds whose precision is at least `precision`; 0 if there is none.

    >>> recall_at_precision(np.array([1, 0, 1, 0]), np.array([4.0, 3.0, 2.0, 1.0]), precision=0.7)
    0.5
    """
    return _recall_at_precision(_blocks(labels, scores, weights), precision)


def apr_at_recall(labels: Labels, scores: Scores, *, recall: float, weights: Weights | None = None) -> Values:
    """APR@R: the largest share of posts with score <= tau such that recall of score > tau is at least `recall` (Eq. 3).

    tau is chosen on these same posts, as in the paper. The expected value for scores without information is
    about 1 - recall, whatever the prevalence.

    >>> apr_at_recall(np.array([1, 0, 1, 0]), np.array([4.0, 3.0, 2.0, 1.0]), recall=0.5)
    0.75
    """
    return _apr_at_recall(_blocks(labels, scores, weights), recall)


def threshold_at_recall(labels: Labels, scores: Scores, *, recall: float) -> float:
    """The tau of `apr_at_recall`: the largest number with recall of score > tau at least `recall` on these posts.

    It lies one float (of the scores' type) below the score that must be dispatched, because Eq. 2 dispatches
    strictly above tau. It holds for these posts only; new posts miss the target about every second time.

    >>> scores = np.array([4.0, 3.0, 2.0, 1.0])
    >>> tau = threshold_at_recall(np.array([1, 0, 1, 0]), scores, recall=1.0)
    >>> (scores > tau).tolist()
    [True, True, True, False]
    """
    _check_fraction(recall=recall)
    blocks = _blocks(labels, scores, None)
    needed = blocks.scores[np.argmax(blocks.recall >= recall)]
    return float(np.nextafter(needed, needed.dtype.type(-np.inf)))


def normalised_apr(apr: float, *, recall: float, prevalence: float) -> float:
    """(APR - (1 - R)) / (R (1 - prevalence)): 0 for scores without information, 1 for the perfect order.

    Raises:
        ValueError: recall or prevalence outside (0, 1] or [0, 1), such as a prevalence of 1; an APR outside [0, 1].

    >>> normalised_apr(0.96, recall=0.8, prevalence=0.05).__round__(6)   # 0.95 of cleared, 0.01 of violating posts
    1.0
    """
    _check_fraction(recall=recall)
    if not 0.0 <= prevalence < 1.0:
        raise ValueError(f"prevalence is {prevalence}; it must lie in [0, 1)")
    if not 0.0 <= apr <= 1.0:
        raise ValueError(f"apr is {apr}; it must lie in [0, 1]")
    return (apr - (1.0 - recall)) / (recall * (1.0 - prevalence))


def table_metrics(
    labels: Labels, scores: Scores, *, precision: float = 0.6, recalls: Sequence[float] = (0.9, 0.95),
    weights: Weights | None = None,
) -> dict[str, Values]:  # fmt: skip
    """The metrics of one risk in Tables 1 and 2: "PR-AUC", "R@P60", "APR@R90", "APR@R95", from one sort of the posts.

    >>> table_metrics(np.array([1, 0, 1, 0]), np.array([4.0, 3.0, 2.0, 1.0]), recalls=[0.5])
    {'PR-AUC': 0.8333333333333333, 'R@P60': 1.0, 'APR@R50': 0.75}
    """
    blocks = _blocks(labels, scores, weights)
    areas = {"PR-AUC": _average_precision(blocks), _name("R@P", precision): _recall_at_precision(blocks, precision)}
    return areas | {_name("APR@R", recall): _apr_at_recall(blocks, recall) for recall in recalls}


def uninformed_metrics(
    prevalence: float, *, precision: float = 0.6, recalls: Sequence[float] = (0.9, 0.95)
) -> dict[str, float]:
    """`table_metrics` of a random order, in the limit of many posts: the floor of Tables 1 and 2.

    Whatever is dispatched holds violations at the prevalence, so precision is the prevalence everywhere; and a share of
    the posts holds the same share of the violations, so 1 - R of them can be released.

    Raises:
        ValueError: prevalence outside [0, 1], or precision or a recall outside (0, 1].

    >>> uninformed_metrics(0.05)["PR-AUC"]
    0.05
    """
    if not 0.0 <= prevalence <= 1.0:
        raise ValueError(f"prevalence is {prevalence}; it must lie in [0, 1]")
    _check_fraction(precision=precision)
    for recall in recalls:
        _check_fraction(recall=recall)
    areas = {"PR-AUC": prevalence, _name("R@P", precision): float(prevalence >= precision)}
    return areas | {_name("APR@R", recall): 1.0 - recall for recall in recalls}


def score_table(
    labels: Num[np.ndarray, "post category"], logits: Float[np.ndarray, "post category"], categories: Sequence[str]
) -> dict[str, dict[str, float]]:
    """The numbers of one row of Tables 1 and 2, as fractions.

    Category k is scored on the posts that were verified for it (`valid_mask`).

    Returns:
        {category: `table_metrics` and "prevalence", "posts", "positives"}, and under "Average" the plain mean of the
        metrics over categories, as the paper averages. A category with equal scores, and so the average, is NaN.

    Raises:
        ValueError: as every metric, with the category's name, also where it has no verified cell; or shapes that do
            not fit the categories.
    """
    labels, logits = np.asarray(labels), np.asarray(logits)
    if labels.shape != logits.shape or labels.ndim != 2 or labels.shape[1] != len(categories):
        raise ValueError(f"labels {labels.shape}, logits {logits.shape} and {len(categories)} categories do not fit")
    table: dict[str, dict[str, float]] = {}
    for k, category in enumerate(categories):
        verified = valid_mask(labels[:, k])
        y, z = labels[verified, k], logits[verified, k]
        try:
            row = table_metrics(y, z)
        except ValueError as error:
            raise ValueError(f"{category}: {error}") from error
        table[category] = row | {"prevalence": float(y.mean()), "posts": len(y), "positives": int(y.sum())}
    return table | {"Average": {metric: float(np.mean([table[c][metric] for c in categories])) for metric in row}}


def _name(prefix: str, fraction: float) -> str:
    return f"{prefix}{100 * fraction:g}"


@dataclass(frozen=True)
class _Blocks:
    """Dispatching down to the end of each block of equal scores, highest score first."""

    caught: Num[np.ndarray, "*replicate block"]  # violating posts, by weight
    dispatched: Num[np.ndarray, "*replicate block"]  # posts, by weight
    scores: Float[np.ndarray, " block"]
    decided: bool | Bool[np.ndarray, " *replicate"]  # not degenerate

    # Both quotients are correctly rounded, so that 3 of 5 is 0.6 and 7 of 10 is 0.7 without a tolerance.
    @cached_property
    def precision(self) -> Float[np.ndarray, "*replicate block"]:
        """0 where nothing is dispatched yet."""
        return np.divide(self.caught, self.dispatched, out=np.zeros(self.caught.shape), where=self.dispatched > 0)

    @cached_property
    def recall(self) -> Float[np.ndarray, "*replicate block"]:
        """NaN where there is no violating post."""
        positives = self.caught[..., -1:]
        return self.caught / np.where(positives > 0, positives, np.nan)


def _blocks(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None) -> _Blocks:
    """All blocks of the posts as they are; of weighted posts only those with a violating post, and the last.

    The blocks between two of these dispatch more posts and catch no more, under any weights: no metric is decided
    there. So a bootstrap sums the weights of each stretch of the order once and then works on as many columns as
    there are violating posts.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    _check(labels, scores, weights)
    order = np.argsort(-scores)
    labels, scores = labels[order] == 1, scores[order]
    ends = np.r_[np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1]
    if weights is None:
        return _Blocks(np.cumsum(labels)[ends], ends + 1, scores[ends], len(ends) > 1)
    violating = np.flatnonzero(labels)
    block = np.searchsorted(ends, violating)  # of each violating post
    ends = ends[np.union1d(block, len(ends) - 1)]
    weights = np.take(weights, order, axis=-1)
    kind = np.intp if weights.dtype.kind in "biu" else float
    starts = np.r_[0, ends[:-1] + 1]
    dispatched = np.add.reduceat(weights, starts, axis=-1, dtype=kind)
    heavy = np.take(weights, violating, axis=-1).astype(kind)
    up_to = np.searchsorted(violating, ends, side="right") - 1
    caught = np.cumsum(heavy, axis=-1)[..., up_to]
    counted = weights > 0
    both = (counted & labels).any(-1) & (counted & ~labels).any(-1)
    dispatched = np.cumsum(dispatched, axis=-1, out=dispatched)
    return _Blocks(caught, dispatched, scores[ends], both & (scores[0] != scores[-1]))


def _average_precision(blocks: _Blocks) -> Values:
    gained = np.diff(blocks.recall, axis=-1, prepend=0.0)
    return _result((gained * blocks.precision).sum(-1), blocks)


def _recall_at_precision(blocks: _Blocks, precision: float) -> Values:
    _check_fraction(precision=precision)
    return _result(np.where(blocks.precision >= precision, blocks.recall, 0.0).max(-1), blocks)


def _apr_at_recall(blocks: _Blocks, recall: float) -> Values:
    _check_fraction(recall=recall)
    first = np.argmax(blocks.recall >= recall, axis=-1)[..., None]
    fewest = np.take_along_axis(blocks.dispatched, first, axis=-1)[..., 0]
    posts = blocks.dispatched[..., -1]
    share = np.divide(posts - fewest, posts, out=np.zeros(np.shape(posts)), where=posts > 0)
    return _result(share, blocks)


def _check(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None) -> None:
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise ValueError(f"labels {labels.shape} and scores {scores.shape} must be two vectors of one length")
    if not len(labels):
        raise ValueError("no post: the metric is undefined")
    if weights is not None:
        _check_weights(np.asarray(weights), len(labels))
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are NaN or infinite")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels must be 0 or 1; leave out posts that were not verified (-1)")
    if not labels.any():
        raise ValueError(f"no violating post among {len(labels)}: the metric is undefined")
    if labels.all():
        raise ValueError(f"no cleared post among {len(labels)}: every order is perfect, so the metric is undefined")
    if scores.min() == scores.max():
        warnings.warn(f"all scores are equal ({len(labels)} posts): the metric is undefined", DegenerateWarning,
                      stacklevel=4)  # fmt: skip


def _check_weights(weights: np.ndarray, posts: int) -> None:
    if weights.shape[-1:] != (posts,):
        raise ValueError(f"weights {weights.shape} must end in the number of posts, {posts}")
    if weights.dtype.kind not in "bu" and not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("weights count posts: each must be finite and at least 0")


def _check_fraction(**values: float) -> None:
    for name, value in values.items():
        if not 0.0 < value <= 1.0:
            raise ValueError(f"{name} is {value}; it must lie in (0, 1]")


def _result(value: np.ndarray | np.floating, blocks: _Blocks) -> Values:
    value = np.where(blocks.decided, value, np.nan)
    return value if value.ndim else float(value)
