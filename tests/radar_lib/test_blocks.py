"""The metrics against exact fractions, whatever numbers scores and weights are made of."""

from fractions import Fraction

import numpy as np
import pytest

from radar_lib.blocks import blocks_of
from radar_lib.intervals import average_precision_difference
from radar_lib.metrics import apr_at_recall, average_precision, recall_at_precision, threshold_at_recall

KINDS = [*(np.dtype(f"{sign}int{bits}") for bits in (8, 16, 32, 64) for sign in ("", "u")), np.dtype(bool),
         np.dtype("float16"), np.dtype("float32"), np.dtype("float64"), np.dtype("longdouble")]  # fmt: skip
LEVELS = (0.05, 0.1, 0.3, 0.5, 0.6, 0.7, 0.9, 0.95, 1.0)


def random_numbers(generator, kind: np.dtype, count: int) -> np.ndarray:
    """Numbers of a kind, often close to its ends, often equal."""
    if kind.kind == "b":
        return generator.random(count) < 0.5
    if kind.kind == "f":
        steps = generator.integers(-6, 7, count) if generator.random() < 0.5 else generator.normal(size=count)
        near = np.array(generator.choice([0, 1, 1000]), dtype=kind)
        return near + (steps * generator.choice([1, 2.0 ** -(np.finfo(kind).nmant - 2)])).astype(kind)
    ends = np.iinfo(kind)
    steps = generator.integers(0, generator.choice([4, 100]), count).tolist()
    at = int(generator.choice([0, 1, 2]))
    return np.array([[ends.min + s, ends.max - s, max(ends.min, 3 - s)][at] for s in steps], dtype=kind)


def random_weights(generator, count: int) -> np.ndarray | None:
    """None, draws of a bootstrap, or floats and large integers that no double can sum exactly."""
    return [
        lambda: None, lambda: generator.integers(0, 3, count).astype(np.uint8),
        lambda: generator.choice([0.0, 0.1, 0.2, 0.7], count), lambda: generator.random(count),
        lambda: generator.random(count).astype(np.float16), lambda: generator.exponential(size=count) ** 20,
        lambda: generator.integers(2**60, 2**62, count), lambda: np.full(count, 0.1),
    ][generator.integers(8)]()  # fmt: skip


def exact(labels, scores, weights):
    """By block, highest first: score, and caught and dispatched weight as fractions."""
    weights = [1] * len(labels) if weights is None else weights.tolist()
    by_score: dict = {}
    for label, score, weight in zip(labels.tolist(), scores.tolist(), weights, strict=True):
        caught, posts = by_score.get(score, (0, 0))
        weight = Fraction(*weight.as_integer_ratio())
        by_score[score] = caught + label * weight, posts + weight
    caught = posts = Fraction(0)
    for score in sorted(by_score, reverse=True):
        caught, posts = caught + by_score[score][0], posts + by_score[score][1]
        yield score, caught, posts


def check(seed: int) -> None:
    generator = np.random.default_rng(seed)
    count, kind = int(generator.integers(2, 12)), KINDS[seed % len(KINDS)]
    labels = (generator.random(count) < generator.choice([0.2, 0.5, 0.9])).astype(np.int8)
    labels[generator.choice(count, 2, replace=False)] = 1, 0
    scores, weights = random_numbers(generator, kind, count), random_weights(generator, count)
    if (scores == scores[0]).all() or (
        weights is not None and len(np.unique(labels[weights > 0])) < 2
    ):  # degenerate, and tested elsewhere
        return
    level = float(generator.choice(LEVELS))
    curve = list(exact(labels, scores, weights))
    violating, all_posts = curve[-1][1:]
    area, before = Fraction(0), Fraction(0)
    for _, caught, posts in curve:
        area, before = area + (caught - before) * (caught / posts if posts else 0), caught
    about = f"seed {seed}: {kind}, {level}, {labels}, {scores}, {weights}"
    assert abs(average_precision(labels, scores, weights=weights) - float(area / violating)) < 1e-12, about
    # a level is reached where the exact quotient, as a double, is: 1 of 10 reaches 0.1, whatever a double makes of 0.1
    reached = [caught / violating for _, caught, posts in curve if posts and float(caught / posts) >= level]
    found = recall_at_precision(labels, scores, precision=level, weights=weights)
    assert abs(found - float(max(reached, default=0))) < 1e-12, about
    last, _, sent = next(block for block in curve if float(block[1] / violating) >= level)
    found = apr_at_recall(labels, scores, recall=level, weights=weights)
    assert abs(found - float(1 - sent / all_posts)) < 1e-12, about
    if weights is None:
        tau = threshold_at_recall(labels, scores, recall=level)
        assert [bool(score > tau) for score in scores] == [score >= last for score in scores.tolist()], about
        assert blocks_of(labels, scores).scores.tolist() == [score for score, *_ in curve], about


def test_random_cases_are_as_exact_fractions_have_them():
    for seed in range(2_000):
        check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_two_hundred_thousand_random_cases(part):
    for seed in range(10_000 * part, 10_000 * (part + 1)):
        check(seed)


def test_a_model_is_its_own_copy_in_bytes():
    labels, order = np.array([1, 0, 1, 0]), [4, 3, 2, 0]
    assert average_precision(labels, np.array(order, dtype=np.uint8)) == average_precision(labels, np.array(order))
    generator = np.random.default_rng(0)
    labels = generator.random(400) < 0.2
    ranks = np.argsort(np.argsort(generator.normal(size=400) + labels))
    for kind, centre in ((np.uint16, 0), (np.int16, 200), (np.int64, 0)):
        found = average_precision_difference(labels, (ranks - centre).astype(kind), ranks.astype(float))
        assert found.estimate == 0 and found.p_value == 1
    least = (ranks // 2 - 128).astype(np.int8)
    assert average_precision_difference(labels, least, (ranks // 2).astype(float)).estimate == 0


def test_full_precision_is_not_missed_by_rounding():
    labels, scores = np.array([1, 1, 1, 1, 1, 0]), np.array([4.0, 3.0, 3.0, 3.0, 2.0, 1.0])
    weights = np.random.default_rng(5).random((200, 6))
    assert (recall_at_precision(labels, scores, precision=1.0, weights=weights) == 1.0).all()


def test_what_is_no_number_is_refused():
    with pytest.raises(ValueError, match="scores are <U1"):
        average_precision(np.array([1, 0]), np.array(["b", "a"]))
    with pytest.raises(ValueError, match="scores are object"):
        average_precision(np.array([1, 0]), np.array([2**70, 1]))
    with pytest.raises(ValueError, match=r"not \[2, 255\]"):
        average_precision(np.array([1, 0, 2, 255], dtype=np.uint8), np.arange(4.0))
    with pytest.raises(ValueError, match="sum"):
        average_precision(np.array([1, 0]), np.arange(2.0), weights=np.array([1e308, 1e308]))
