"""Risk detection and traffic reduction (paper section 3.2): PR-AUC, R@P and APR@R of one category, exactly.

All of them depend on the scores only through the order of the posts, so they take logits, and should: a sigmoid
rounds different logits to equal probabilities, and ties cost average precision. Posts with equal scores are one
block, dispatched or released together. Labels are 1 (violating) and 0 (cleared); posts that nobody verified for the
category are left out by the caller, or by `score_table`.

Every metric is a function of two counts per block: how many posts, and how many violating ones, score at least as
high. `weights` counts a post several times, or none, and may hold many such counts, one row each: the rows of a
bootstrap are evaluated together.

Scores and weights are whole numbers or floats of any width, taken as exactly the numbers that they are: see `blocks`.

Degenerate input, in every function that takes posts:

- ValueError if the posts cannot tell one model from another: there is no post, or none violates (all these metrics
  divide by their number), or none is cleared (every order is perfect); also if shapes differ, a score is NaN or
  infinite or no number, a label is neither 0 nor 1, or a weight is negative or not finite;
- NaN with a `DegenerateWarning` if the model cannot tell one post from another: all scores are equal. The definitions
  would give numbers that look like results (PR-AUC the prevalence, APR 0). `pr_curve` and `threshold_at_recall`, which
  state what dispatching does and not how good it is, give their one block or its threshold, with the warning;
- NaN, without a warning, for a row of weights that counts posts of one kind alone. A row may count posts of one score
  alone where there are others: such a replicate is what another sample could be, and has the value of one block.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num, Shaped

from radar_lib.blocks import Blocks, DegenerateWarning, Labels, Scores, Weights, blocks_of, quotient  # noqa: F401
from radar_lib.labels import check_categories, valid_mask

Values = float | Float[np.ndarray, "*replicate"]  # one value, or one per row of weights


class PRCurve(NamedTuple):
    """Precision and recall of dispatching every post with score >= threshold, thresholds descending."""

    precision: Float[np.ndarray, " block"]
    recall: Float[np.ndarray, " block"]
    thresholds: Shaped[np.ndarray, " block"]


def pr_curve(labels: Labels, scores: Scores) -> PRCurve:
    """One point per distinct score, the highest first.

    >>> pr_curve(np.array([1, 0, 1, 0]), np.array([2.0, 1.0, 1.0, -1.0])).precision.round(3).tolist()
    [1.0, 0.667, 0.5]
    """
    blocks = blocks_of(labels, scores)
    return PRCurve(blocks.precision, blocks.recall, blocks.scores)


def average_precision(labels: Labels, scores: Scores, *, weights: Weights | None = None) -> Values:
    """PR-AUC as the paper's tables use it here: precision at each block, weighted by the recall it adds.

    The expected value for scores without information is the prevalence.

    Returns:
        A fraction in [0, 1]; an array if `weights` has rows. NaN where degenerate, see the module.

    >>> average_precision(np.array([1, 0, 1, 0]), np.array([4.0, 3.0, 2.0, 1.0]))   # (1/1 + 2/3) / 2
    0.8333333333333333
    """
    return _average_precision(blocks_of(labels, scores, weights))


def pr_auc_trapezoid(labels: Labels, scores: Scores) -> float:
    """Area under the PR curve joined by straight lines, from (recall 0, precision 1). An option, not the default.

    Points on such a line cannot be reached by any threshold, so it is optimistic where average precision is not.

    >>> pr_auc_trapezoid(np.array([1, 0, 1, 0]), np.array([4.0, 3.0, 2.0, 1.0])).__round__(4)
    0.7917
    """
    blocks = blocks_of(labels, scores)
    return _result(np.trapezoid(np.r_[1.0, blocks.precision], np.r_[0.0, blocks.recall]), blocks)


def recall_at_precision(
    labels: Labels, scores: Scores, *, precision: float = 0.6, weights: Weights | None = None
) -> Values:
    """R@P: the largest recall among thresholds whose precision is at least `precision`; 0 if there is none.

    >>> recall_at_precision(np.array([1, 0, 1, 0]), np.array([4.0, 3.0, 2.0, 1.0]), precision=0.7)
    0.5
    """
    return _recall_at_precision(blocks_of(labels, scores, weights), precision)


def apr_at_recall(labels: Labels, scores: Scores, *, recall: float, weights: Weights | None = None) -> Values:
    """APR@R: the largest share of posts with score <= tau such that recall of score > tau is at least `recall` (Eq. 3).

    tau is chosen on these same posts, as in the paper. The expected value for scores without information is
    about 1 - recall, whatever the prevalence.

    >>> apr_at_recall(np.array([1, 0, 1, 0]), np.array([4.0, 3.0, 2.0, 1.0]), recall=0.5)
    0.75
    """
    return _apr_at_recall(blocks_of(labels, scores, weights), recall)


def threshold_at_recall(labels: Labels, scores: Scores, *, recall: float) -> float:
    """The tau of `apr_at_recall`: the largest number with recall of score > tau at least `recall` on these posts.

    It lies one float (of the scores' type), or 1 where scores are whole numbers, below the score that must be
    dispatched, because Eq. 2 dispatches strictly above tau. It holds for these posts only; new posts miss the target
    about every second time.

    >>> scores = np.array([4.0, 3.0, 2.0, 1.0])
    >>> tau = threshold_at_recall(np.array([1, 0, 1, 0]), scores, recall=1.0)
    >>> (scores > tau).tolist()
    [True, True, True, False]
    """
    _check_fraction(recall=recall)
    blocks = blocks_of(labels, scores)
    needed = blocks.scores[np.argmax(blocks.recall >= recall)]
    if needed.dtype.kind != "f":
        return int(needed) - 1
    return np.nextafter(needed, needed.dtype.type(-np.inf)).item()


def auto_pass(
    labels: Num[np.ndarray, "post category"], scores: Shaped[np.ndarray, "post category"], *, recall: float,
    weights: Weights | None = None,
) -> Values:  # fmt: skip
    """Share of posts that every risk releases: score <= tau_k for all k (Eq. 2), tau_k as in `apr_at_recall`.

    What a router takes off a platform as a whole: a post passes only if no risk asks for it. Never above the smallest
    APR@R of a risk. Posts must be verified for all risks.

    >>> labels, scores = np.array([[1, 0], [0, 1], [0, 0], [0, 0]]), np.array([[3.0, 1], [1, 2], [0, 0], [2, 0]])
    >>> apr_at_recall(labels[:, 0], scores[:, 0], recall=1.0), auto_pass(labels, scores, recall=1.0)
    (0.75, 0.5)
    """
    _check_fraction(recall=recall)
    counts = np.ones(len(labels)) if weights is None else np.asarray(weights)
    passed, decided = np.ones(counts.shape, dtype=bool), True
    for y, z in zip(np.asarray(labels).T, np.asarray(scores).T, strict=True):
        blocks = blocks_of(y, z, weights)
        fewest = np.argmax(blocks.reaches("recall", recall), axis=-1)
        passed &= z < blocks.scores[fewest][..., None]
        decided &= blocks.decided
    share = quotient((counts * passed).sum(axis=-1), counts.sum(axis=-1))
    return _decided(share, decided)


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
    blocks = blocks_of(labels, scores, weights)
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
        ValueError: as every metric, with the category's name, also where it has no verified cell; shapes that do not
            fit the categories, or none of these; or a name that no risk can have, such as Average.
    """
    labels, logits = np.asarray(labels), np.asarray(logits)
    if labels.shape != logits.shape or labels.ndim != 2 or labels.shape[1] != len(categories):
        raise ValueError(f"labels {labels.shape}, logits {logits.shape} and {len(categories)} categories do not fit")
    check_categories(categories)
    if not len(categories):
        raise ValueError("there are no categories")
    table: dict[str, dict[str, float]] = {}
    for k, category in enumerate(categories):
        try:
            verified = valid_mask(labels[:, k])
            y, z = labels[verified, k], logits[verified, k]
            row = table_metrics(y, z)
        except ValueError as error:
            raise ValueError(f"{category}: {error}") from error
        table[category] = row | {"prevalence": float(y.mean()), "posts": len(y), "positives": int(y.sum())}
    return table | {"Average": {metric: float(np.mean([table[c][metric] for c in categories])) for metric in row}}


def _name(prefix: str, fraction: float) -> str:
    return f"{prefix}{100 * fraction:g}"


def _average_precision(blocks: Blocks) -> Values:
    gained = np.diff(blocks.recall, axis=-1, prepend=0.0)
    return _result((gained * blocks.precision).sum(-1), blocks)


def _recall_at_precision(blocks: Blocks, precision: float) -> Values:
    _check_fraction(precision=precision)
    return _result(np.where(blocks.reaches("precision", precision), blocks.recall, 0.0).max(-1), blocks)


def _apr_at_recall(blocks: Blocks, recall: float) -> Values:
    _check_fraction(recall=recall)
    first = np.argmax(blocks.reaches("recall", recall), axis=-1)[..., None]
    fewest = np.take_along_axis(blocks.dispatched, first, axis=-1)[..., 0]
    posts = blocks.dispatched[..., -1]
    return _result(quotient(posts - fewest, posts), blocks)


def _check_fraction(**values: float) -> None:
    for name, value in values.items():
        if not 0.0 < value <= 1.0:
            raise ValueError(f"{name} is {value}; it must lie in (0, 1]")


def _result(value: np.ndarray | np.floating, blocks: Blocks) -> Values:
    return _decided(value, blocks.decided)


def _decided(value: np.ndarray | np.floating, decided: bool | np.ndarray) -> Values:
    value = np.where(decided, value, np.nan)
    return value if value.ndim else float(value)
