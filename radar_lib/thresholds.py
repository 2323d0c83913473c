"""Thresholds with a recall guarantee for posts that nobody has seen yet, from calibration posts (order statistics).

Eq. 2 dispatches a post whose logit lies above tau. With the n violating calibration posts' logits in ascending order,
X_(1) <= ... <= X_(n), tau = nextafter(X_(k), -inf) dispatches X_(k) and its ties. If they are independent draws from
the posts to come, recall falls below R with probability

    P(recall < R) = P(Binomial(n, 1 - R) <= k - 1)      for continuous scores; less where scores are tied,

so the largest k with at most delta gives the threshold that releases most at confidence 1 - delta (a tolerance limit:
Wilks 1941; for K risks at once, delta / K each, by Bonferroni). Nothing is assumed about the scores.

What the posts must be for it, and what is done where they are not:

- *independent*: posts that share a group (a campaign, a stream, an image) are not. `independent_positives` has one
  logit per group, its lowest. Then at least R of the violating groups are dispatched whole, so that mean recall, each
  group counting once, is at least R too. It says nothing of a random post where large groups score lower;
- *drawn like the posts to come*: an audit with unequal chances, or another intake, is thinned to equal ones (`thin`) by
  weights that are known; or a random audit of `required_posts` is labelled;
- *at the prevalence to come*: not needed. Recall is about violating posts alone; `at_prevalence` mends the rest.

Logits, not probabilities, and thresholds of their own type: rounding either would move posts across.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from scipy.stats import beta, binom

from radar_lib.errors import RadarError


@dataclass(frozen=True)
class Threshold:
    """One risk's threshold.

    Attributes:
        logit: tau; a post is dispatched if its logit is above it, or not finite.
        rank: k, of the violating logits in ascending order.
        positives: n, that were counted: independent, drawn alike.
        failure: probability that recall of posts to come is below the target, with continuous scores.
    """

    logit: float
    rank: int
    positives: int
    failure: float


def required_positives(recall: float, confidence: float, *, risks: int = 1) -> int:
    """The fewest violating calibration posts of a risk for which some threshold is certain enough: R^n <= delta / K.

    >>> [required_positives(recall, 0.95, risks=risks) for risks in (1, 3) for recall in (0.90, 0.95)]
    [29, 59, 39, 80]
    """
    delta = _delta(recall, confidence, risks)
    n = max(1, math.floor(math.log(delta) / math.log(recall)) - 1)
    while recall**n > delta:
        n += 1
    return n


def required_posts(positives: int, prevalence: float, confidence: float = 0.95) -> int:
    """Posts of a random audit that hold so many violating ones with this probability; 2 of 3 hold one:

    >>> required_posts(1, 1 / 3, 0.66)
    3
    """
    _check(prevalence=prevalence, confidence=confidence)
    low, high = positives, max(positives, 1)
    while binom.sf(positives - 1, high, prevalence) < confidence:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if binom.sf(positives - 1, middle, prevalence) >= confidence else (middle + 1, high)
    return high


def certified_rank(n: int, recall: float, confidence: float, *, risks: int = 1) -> int:
    """The largest k with P(Binomial(n, 1 - R) <= k - 1) <= delta / K; 0 if there is none.

    >>> certified_rank(28, 0.9, 0.95), certified_rank(29, 0.9, 0.95), certified_rank(1000, 0.9, 0.95)
    (0, 1, 85)
    """
    delta = _delta(recall, confidence, risks)
    at = np.arange(n + 1)
    return int((binom.cdf(at[:-1], n, 1.0 - recall) <= delta).sum()) if n else 0


def naive_rank(n: int, recall: float) -> int:
    """The largest k that keeps recall on these n posts at R or more: the usual choice, which new posts miss about every
    second time. For comparison.

    >>> naive_rank(100, 0.9)
    11
    """
    _check(recall=recall)
    return n - max(1, math.ceil(n * recall - 1e-9)) + 1


def threshold_at_rank(positives: Float[np.ndarray, " positive"], rank: int) -> float:
    """The largest number, in the logits' own type, below the rank-th lowest of them, so that it is dispatched.

    Raises:
        RadarError: there is no such rank, or a logit is not finite, or no float.

    >>> threshold_at_rank(np.array([3.0, 1.0, 2.0], np.float32), 2) < 2.0
    True
    """
    positives = _finite(positives)
    if not 1 <= rank <= len(positives):
        raise RadarError(f"rank {rank} of {len(positives)} logits: it must be from 1 to their number. Label more.")
    lowest = np.partition(positives, rank - 1)[rank - 1]
    return float(np.nextafter(lowest, lowest.dtype.type(-np.inf)))


def certified_threshold(
    positives: Float[np.ndarray, " positive"],
    *,
    recall: float,
    confidence: float = 0.95,
    risks: int = 1,
    name: str = "",
) -> Threshold:
    """The highest threshold that keeps recall of posts to come at `recall` or more, with probability `confidence`.

    Args:
        positives: logits of violating calibration posts: independent, and drawn like those to come (see the module).
        risks: K, if the guarantee is to hold for so many risks at once.
        name: of the risk, for the error.

    Raises:
        RadarError: too few posts; says how many it takes. Or a logit is not finite, or no float.

    >>> certified_threshold(np.arange(40.0), recall=0.9).rank
    1
    """
    positives = _finite(positives)
    n = len(positives)
    rank = certified_rank(n, recall, confidence, risks=risks)
    if not rank:
        needed = required_positives(recall, confidence, risks=risks)
        together = f" for {risks} risks together" if risks > 1 else ""
        raise RadarError(
            f"{name and name + ': '}{n} independent violating calibration posts; recall {recall:g} at {confidence:.4g} "
            f"confidence{together} takes {needed}. Label more, or ask for less recall or confidence."
        )
    failure = float(binom.cdf(rank - 1, n, 1.0 - recall))
    return Threshold(threshold_at_rank(positives, rank), rank, n, failure)


def independent_positives(
    logits: Float[np.ndarray, " positive"], groups: Int[np.ndarray, " positive"]
) -> Float[np.ndarray, " group"]:
    """The lowest logit of each group of violating posts, so that groups are dispatched whole and count once.

    Args:
        groups: number of each post's group (`schema.group_numbers`); a post on its own has one of its own.

    >>> independent_positives(np.array([2.0, -1.0, 5.0]), np.array([7, 7, 9])).tolist()
    [-1.0, 5.0]
    """
    logits = _finite(logits)
    _same_length(logits, groups)
    order = np.argsort(logits, kind="stable")
    return logits[order[np.unique(np.asarray(groups)[order], return_index=True)[1]]]


def thin(
    weights: Num[np.ndarray, " post"], *, groups: Int[np.ndarray, " post"] | None = None, seed: int = 1
) -> Bool[np.ndarray, " post"]:
    """Which posts to keep so that they are as if drawn evenly: each with probability weight / largest weight.

    By rejection, the posts kept are a plain sample of the population that the weights lead to: 1 / (chance of being
    drawn) of a stratified audit, or the density of the posts to come over that of the calibration posts, where a post's
    chance of intake is known.

    Args:
        weights: positive, up to a factor. They must be known, not estimated from these posts' labels or logits.
        groups: are kept or left as a whole; all posts of one have the same weight.

    Raises:
        RadarError: a weight is not positive and finite (a post that could not have been drawn stands for nobody), or
            differs within a group.
    """
    weights = np.asarray(weights, float)
    if wrong := np.flatnonzero(~(np.isfinite(weights) & (weights > 0))).tolist():
        raise RadarError(f"the weight of post {wrong[0]} is {weights[wrong[0]]}; it must be above 0 and finite.")
    drawn = np.random.default_rng(seed).random(len(weights))
    if groups is not None:
        _same_length(weights, groups)
        _, first, of = np.unique(groups, return_index=True, return_inverse=True)
        if (uneven := np.flatnonzero(weights[first][of] != weights)).size:
            raise RadarError(f"post {uneven[0]} has another weight than its group. Weigh groups as a whole, or audit "
                             "posts that share none.")  # fmt: skip
        drawn = drawn[first][of]
    return drawn * weights.max(initial=0) < weights


class OperatingPoint(NamedTuple):
    """Shares: violating posts dispatched, cleared ones dispatched, all released; dispatched that violate (or NaN)."""

    recall: float
    false_positive_rate: float
    apr: float
    precision: float


def operating_point(
    labels: Int[np.ndarray, " post"], logits: Float[np.ndarray, " post"], threshold: float
) -> OperatingPoint:
    """What a threshold does on verified posts (1 violating, 0 cleared). A logit that is not finite is dispatched.

    >>> operating_point(np.array([1, 1, 0, 0]), np.array([2.0, 0.0, 1.0, -1.0]), 0.5)
    OperatingPoint(recall=0.5, false_positive_rate=0.5, apr=0.5, precision=0.5)
    """
    labels, out = np.asarray(labels), dispatched(logits, threshold)
    _same_length(labels, out)
    if not np.isin(labels, (0, 1)).all():
        raise RadarError("an operating point takes labels 1 and 0. Leave out posts that are not verified.")
    violating = labels == 1
    if violating.all() or not violating.any():
        raise RadarError("an operating point takes violating and cleared posts. Verify some of both.")
    return at_prevalence(float(out[violating].mean()), float(out[~violating].mean()), float(violating.mean()))


def at_prevalence(recall: float, false_positive_rate: float, prevalence: float) -> OperatingPoint:
    """The same threshold at another prevalence (prior shift: violating and cleared posts stay what they are).

    APR = 1 - pi TPR - (1 - pi) FPR; precision = pi TPR / (pi TPR + (1 - pi) FPR); recall and FPR are unaffected.

    >>> at_prevalence(0.9, 0.1, 0.5).precision, at_prevalence(0.9, 0.1, 0.01).apr.__round__(6)
    (0.9, 0.892)
    """
    for share in (recall, false_positive_rate, prevalence):
        if not 0.0 <= share <= 1.0:
            raise RadarError(f"a recall, false positive rate or prevalence is {share}; it must lie between 0 and 1.")
    found, false = prevalence * recall, (1.0 - prevalence) * false_positive_rate
    precision = found / (found + false) if found + false else math.nan
    return OperatingPoint(recall, false_positive_rate, 1.0 - found - false, precision)


def dispatched(
    logits: Float[np.ndarray, "*post"], threshold: Float[np.ndarray, "*risk"] | float
) -> Bool[np.ndarray, "*post"]:
    """Eq. 2, failing closed: above the threshold, or either of them no number, or the logit infinite.

    The threshold stays float64: rounded to a coarser logit's type it would stand on the logits that it must lie below.

    >>> dispatched(np.array([0.5, 0.4, np.nan, -np.inf]), 0.4).tolist()
    [True, False, True, True]
    """
    return ~np.isfinite(logits) | ~(np.asarray(logits) <= np.asarray(threshold, dtype=float))


def recall_upper(found: int, positives: int, *, confidence: float = 0.95) -> float:
    """The largest recall that `found` of so many violating posts leave likely (Clopper and Pearson, one-sided).

    >>> recall_upper(7, 10).__round__(3), recall_upper(3, 3)
    (0.913, 1.0)
    """
    _check(confidence=confidence)
    if not 0 <= found <= positives:
        raise RadarError(f"{found} of {positives} violating posts were found: it must be from 0 to their number.")
    return 1.0 if found == positives else float(beta.ppf(confidence, found + 1, positives - found))


def _delta(recall: float, confidence: float, risks: int) -> float:
    _check(recall=recall, confidence=confidence)
    if not risks >= 1:
        raise RadarError(f"risks is {risks}; it must be 1 or more.")
    return (1.0 - confidence) / risks


def _check(**values: float) -> None:
    for name, value in values.items():
        if not 0.0 < value < 1.0:
            raise RadarError(f"{name} is {value}; it must lie between 0 and 1.")


def _same_length(one: Num[np.ndarray, " post"], other: Num[np.ndarray, " post"]) -> None:
    if (n := np.shape(one)) != (m := np.shape(other)):
        raise RadarError(f"columns of shapes {n} and {m} do not belong together. Give one value of each per post.")


def _finite(positives: Float[np.ndarray, " positive"]) -> Float[np.ndarray, " positive"]:
    positives = np.asarray(positives)
    if positives.dtype.kind != "f" or positives.ndim != 1:
        raise RadarError(f"logits are {positives.dtype} of shape {positives.shape}; they must be one column of floats.")
    if not np.isfinite(positives).all():
        raise RadarError("a calibration logit is not finite. Leave out posts that the router could not score.")
    return positives
