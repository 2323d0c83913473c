"""Intervals: influences are derivatives, a plain bootstrap loop agrees, and about 95 % of intervals cover."""

import doctest
from functools import partial

import numpy as np
import pytest

from radar_lib import intervals
from radar_lib.intervals import (
    average_precision_difference,
    average_precision_influence,
    average_precision_interval,
    bootstrap_difference,
    bootstrap_interval,
    drawn_difference,
    drawn_interval,
    draws,
    recall_at_precision_is_reliable,
)
from radar_lib.metrics import apr_at_recall, average_precision, recall_at_precision


def posts(seed: int, number: int = 3000, shift: float = 2.0):
    generator = np.random.default_rng(seed)
    labels = (generator.random(number) < 0.05).astype(int)
    return labels, generator.normal(size=number) + shift * labels


def test_doctests():
    assert doctest.testmod(intervals).failed == 0


@pytest.mark.parametrize(
    "metric", [average_precision, partial(recall_at_precision, precision=0.6), partial(apr_at_recall, recall=0.9)]
)
def test_equal_seeds_give_equal_intervals_around_the_estimate(metric):
    labels, scores = posts(0)
    first = bootstrap_interval(metric, labels, scores, replicates=200, seed=3)
    assert first == bootstrap_interval(metric, labels, scores, replicates=200, seed=3)
    assert first != bootstrap_interval(metric, labels, scores, replicates=200, seed=4)
    assert first.low < first.estimate < first.high
    assert first.estimate == metric(labels, scores)


def test_agrees_with_a_plain_loop():
    labels, scores = posts(1)
    generator = np.random.default_rng(9)
    values = []
    for _ in range(1000):
        drawn = generator.integers(0, len(labels), len(labels))
        values.append(average_precision(labels[drawn], scores[drawn]))
    ours = bootstrap_interval(average_precision, labels, scores, seed=2)
    np.testing.assert_allclose([ours.low, ours.high], np.quantile(values, [0.025, 0.975]), atol=0.01)


def test_draws_are_multinomial():
    counts = draws(np.random.default_rng(0), 4000, 50)
    assert counts.dtype == np.uint8 and (counts.sum(1) == 50).all()
    assert abs(counts.var() - 49 / 50) < 0.03 and np.abs(counts.mean(0) - 1).max() < 0.08
    again = draws(np.random.default_rng(0), 10, 50)
    drawn = np.random.default_rng(0).integers(0, 50, (10, 50), dtype=np.int32)
    np.testing.assert_array_equal(again, [np.bincount(row, minlength=50) for row in drawn])


def test_chunks_do_not_change_the_result(monkeypatch):
    labels, scores = posts(2, 400)
    whole = bootstrap_interval(average_precision, labels, scores, replicates=100, seed=1)
    monkeypatch.setattr(intervals, "_CELLS_AT_ONCE", 400 * 7)
    assert bootstrap_interval(average_precision, labels, scores, replicates=100, seed=1) == whole


def test_coverage():
    truth = average_precision(*posts(99, 1_000_000))
    hits = 0
    for seed in range(100):
        interval = bootstrap_interval(average_precision, *posts(seed, 1500), replicates=200, seed=seed)
        hits += interval.low <= truth <= interval.high
    assert 86 <= hits <= 100  # 95 expected; a binomial of 100 leaves [86, 100] once in a thousand times


def test_a_small_recall_at_precision_is_flagged():
    labels, scores = posts(3, 1500, shift=1.0)
    metric = partial(recall_at_precision, precision=0.6)
    assert not recall_at_precision_is_reliable(metric(labels, scores))
    with pytest.warns(UserWarning, match="below 0.1"):
        bootstrap_interval(metric, labels, scores, replicates=100, seed=1)
    assert recall_at_precision_is_reliable(0.1)


def test_replicates_that_agree_say_nothing_of_the_error():
    assert np.isnan(drawn_interval(0.3, np.full(50, 0.1 + 0.2)).low)
    found = drawn_difference(0.3, np.full(50, 0.1 + 0.2))
    assert np.isnan(found.low) and found.p_value == 1
    assert drawn_difference(0.0, np.zeros(50)) == (0, 0, 0, 1)
    with pytest.raises(ValueError, match="3 of 5 replicates hold no violating or no cleared post"):
        drawn_interval(0.3, np.array([0.1, 0.2, np.nan, np.nan, np.nan]))


def test_refusals():
    labels, scores = posts(0, 50)
    with pytest.raises(ValueError, match="level"):
        bootstrap_interval(average_precision, labels, scores, level=1.0, seed=1)
    with pytest.raises(ValueError, match="no violating post"):
        bootstrap_interval(average_precision, np.zeros(50), scores, seed=1)
    with pytest.raises(ValueError, match="replicates hold no violating or no cleared post"):
        bootstrap_interval(average_precision, np.array([1, 0]), np.array([0.0, 1.0]), seed=1)  # about half of them
    few = np.array([1, 0, 0])
    interval = bootstrap_interval(average_precision, few, np.array([0.0, 1.0, 2.0]), seed=1)
    assert interval.low == 1 / 3 and interval.high == 2 / 3  # 1 in 3 replicates holds posts of one kind; left out


@pytest.mark.parametrize("decimals", [None, 1, 0])  # the fewer, the more ties
def test_influence_is_the_derivative_in_a_posts_weight(decimals):
    labels, scores = posts(3, 60, shift=1.0)
    labels[:4] = 1
    scores = scores if decimals is None else scores.round(decimals)
    theta, step, n = average_precision(labels, scores), 1e-5, len(labels)
    weights = (1 - step) * np.ones((n, n)) + step * n * np.eye(n)
    slopes = (average_precision(labels, scores, weights=weights) - theta) / step
    influence = average_precision_influence(labels, scores)
    np.testing.assert_allclose(influence, slopes, atol=2e-3)
    assert abs(influence.mean()) < 1e-12


def test_closed_form_and_bootstrap_agree():
    labels, scores = posts(4)
    closed = average_precision_interval(labels, scores)
    drawn = bootstrap_interval(average_precision, labels, scores, seed=1)
    assert closed.estimate == drawn.estimate and closed.low < closed.estimate < closed.high
    np.testing.assert_allclose(closed[1:], drawn[1:], atol=0.015)
    theirs = scores + np.random.default_rng(7).normal(size=len(scores))
    ours = average_precision_difference(labels, scores, theirs)
    theirs_drawn = bootstrap_difference(average_precision, labels, scores, theirs, seed=1)
    assert ours.estimate == theirs_drawn.estimate
    np.testing.assert_allclose(ours[1:3], theirs_drawn[1:3], atol=0.015)
    assert ours.p_value < 0.01 and theirs_drawn.p_value < 0.01


@pytest.mark.parametrize(
    "difference", [average_precision_difference, partial(bootstrap_difference, average_precision, seed=1)]
)
def test_a_difference_is_signed_and_pairs_the_posts(difference):
    labels, scores = posts(5)
    assert difference(labels, scores, scores) == (0, 0, 0, 1)
    noisy = scores + 0.3 * np.random.default_rng(8).normal(size=len(scores))
    there, back = difference(labels, scores, noisy), difference(labels, noisy, scores)
    np.testing.assert_allclose(there[:3], [-back.estimate, -back.high, -back.low], atol=0.01)
    alone = average_precision_interval(labels, scores)
    assert there.high - there.low < 0.7 * (alone.high - alone.low)  # the posts' own luck cancels


def test_coverage_of_the_closed_form():
    truth = average_precision(*posts(99, 1_000_000))
    found = [average_precision_interval(*posts(seed, 1500)) for seed in range(400)]
    hits = sum(one.low <= truth <= one.high for one in found)
    assert 0.91 * 400 <= hits <= 0.98 * 400


def test_a_perfect_order_has_no_interval():
    found = average_precision_interval(np.array([1, 1, 0, 0]), np.array([4.0, 3.0, 2.0, 1.0]))
    assert found.estimate == 1 and np.isnan(found.low) and np.isnan(found.high)
    with pytest.raises(ValueError, match="no violating post"):
        average_precision_interval(np.zeros(4), np.arange(4.0))
