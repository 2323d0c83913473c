"""The bootstrap: same seed same interval, a plain loop agrees, and about 95 % of intervals cover."""

import doctest
from functools import partial

import numpy as np
import pytest

from radar_lib import intervals
from radar_lib.intervals import bootstrap_interval
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


def test_refusals():
    labels, scores = posts(0, 50)
    with pytest.raises(ValueError, match="level"):
        bootstrap_interval(average_precision, labels, scores, level=1.0, seed=1)
    with pytest.raises(ValueError, match="no violating post"):
        bootstrap_interval(average_precision, np.zeros(50), scores, seed=1)
    one = np.zeros(2, dtype=int)
    one[0] = 1
    interval = bootstrap_interval(average_precision, one, np.array([1.0, 0.0]), seed=1)
    assert interval.estimate == 1  # a quarter of the replicates hold no violating post and are left out
