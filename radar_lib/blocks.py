"""The posts of a metric as blocks of equal scores, and how many posts each cut between them dispatches, exactly.

Scores and weights are whole numbers or floats of any width, and are taken as exactly the numbers that they are: scores
are compared as they come, and whether a precision or recall is reached is decided by the exact quotient, rounded once
to a double, so that 3 of 5 reach 0.6. Values of float weights have their rounding, far below 1e-12.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Num, Shaped

Labels = Num[np.ndarray, " post"]  # 1 violating, 0 cleared
Scores = Shaped[np.ndarray, " post"]  # logits, or any real numbers
Weights = Num[np.ndarray, "*replicate post"]  # how often each post counts


class DegenerateWarning(UserWarning):
    """All scores are equal: the model orders nothing, and a metric of its order is not defined."""


@dataclass(frozen=True)
class Blocks:
    """Dispatching down to the end of each block of equal scores, highest score first."""

    caught: Shaped[np.ndarray, "*replicate block"]  # violating posts, by weight
    dispatched: Shaped[np.ndarray, "*replicate block"]  # posts, by weight
    scores: Shaped[np.ndarray, " block"]
    decided: bool | Bool[np.ndarray, " *replicate"]  # not degenerate
    error: float = 0.0  # bound of the rounding in precision and recall; where it is not 0, `exactly` has none
    exactly: Callable[[], "Blocks"] | None = None

    @cached_property
    def precision(self) -> Float[np.ndarray, "*replicate block"]:
        """0 where nothing is dispatched yet."""
        return quotient(self.caught, self.dispatched)

    @cached_property
    def recall(self) -> Float[np.ndarray, "*replicate block"]:
        """0 where there is no violating post."""
        return quotient(self.caught, self.caught[..., -1:])

    def reaches(self, quotient: Literal["precision", "recall"], least: float) -> Bool[np.ndarray, "*replicate block"]:
        """Where precision or recall is at least `least`, whatever sums were rounded."""
        values = getattr(self, quotient)
        reached = values >= least
        if self.exactly and (close := np.abs(values - least) <= self.error).any():
            return np.where(close, self.exactly().reaches(quotient, least), reached)
        return reached


def blocks_of(labels: Labels, scores: Scores, weights: Weights | None = None) -> Blocks:
    """All blocks of the posts as they are; of weighted posts only those with a violating post, and the last.

    The blocks between two of these dispatch more posts and catch no more, under any weights: no metric is decided
    there. So a bootstrap sums the weights of each stretch of the order once and then works on as many columns as
    there are violating posts.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    _check(labels, scores, weights)
    order = descending(scores)
    labels, scores = labels[order] == 1, scores[order]
    ends = np.r_[np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1]
    if weights is None:
        return Blocks(np.cumsum(labels)[ends], ends + 1, scores[ends], len(ends) > 1)
    violating = np.flatnonzero(labels)
    block = np.searchsorted(ends, violating)  # of each violating post
    ends = ends[np.union1d(block, len(ends) - 1)]
    starts, up_to = np.r_[0, ends[:-1] + 1], np.searchsorted(violating, ends, side="right") - 1

    def weighted(weights: np.ndarray, **rounding: Any) -> Blocks:
        kind = {"f": float, "O": object}.get(weights.dtype.kind, np.intp)
        dispatched = np.add.reduceat(weights, starts, axis=-1, dtype=kind)
        heavy = np.take(weights, violating, axis=-1).astype(kind)
        caught = np.cumsum(heavy, axis=-1)[..., up_to]
        counted = weights > 0
        both = (counted & labels).any(-1) & (counted & ~labels).any(-1)
        dispatched = np.cumsum(dispatched, axis=-1, out=dispatched)
        return Blocks(caught, dispatched, scores[ends], both & (scores[0] != scores[-1]), **rounding)

    weights = np.take(weights, order, axis=-1)
    if _sums_exactly(weights):
        return weighted(weights)
    error = 4 * len(order) * np.finfo(float).eps
    return weighted(weights.astype(float), error=error, exactly=lambda: weighted(_whole(weights)))


def descending(scores: Scores) -> Int[np.ndarray, " post"]:
    """Positions of the posts, the highest score first.

    >>> descending(np.array([4, 0, 9], dtype=np.uint8)).tolist()
    [2, 0, 1]
    """
    return np.argsort(-scores if scores.dtype.kind == "f" else ~scores)  # not every integer has a negative


def _sums_exactly(weights: np.ndarray) -> bool:
    """Whether sums of the weights are exact as they are: whole numbers whose sum is below 2^53."""
    if weights.dtype.kind in "biu" and weights.dtype.itemsize < 4:
        return True
    return bool((weights == np.rint(weights)).all()) and int(weights.max(initial=0)) * weights.shape[-1] < 2**53


def _whole(weights: np.ndarray) -> np.ndarray:
    """The weights' common multiple as whole numbers of Python's, which have no largest one."""
    ratios = [weight.as_integer_ratio() for weight in weights.ravel().tolist()]
    unit = max(below for _, below in ratios)  # of a float it is a power of two
    return np.array([above * (unit // below) for above, below in ratios], dtype=object).reshape(weights.shape)


def quotient(part: np.ndarray, whole: np.ndarray) -> Float[np.ndarray, "*replicate block"]:
    """part / whole, 0 where that is 0; of whole numbers rounded once: below 2^53 by numpy, above by Python."""
    return np.asarray(np.divide(part, np.where(whole > 0, whole, 1)), dtype=float)


def _check(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None) -> None:
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise ValueError(f"labels {labels.shape} and scores {scores.shape} must be two vectors of one length")
    if not len(labels):
        raise ValueError("no post: the metric is undefined")
    if weights is not None:
        _check_weights(np.asarray(weights), len(labels))
    if scores.dtype.kind not in "biuf":
        raise ValueError(f"scores are {scores.dtype}; they must be real numbers, which numpy can compare")
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are NaN or infinite")
    wrong = np.unique(labels[~np.isin(labels, (0, 1))])[:3].tolist()
    if wrong:
        raise ValueError(f"labels must be 0 or 1, not {wrong}; leave out posts that were not verified (-1)")
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
    if weights.dtype.kind in "bu":
        return
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(weights.sum(axis=-1, dtype=float)).all()
    if not (finite and (weights >= 0).all()):
        raise ValueError("weights count posts: each must be at least 0, and their sum a finite number")
