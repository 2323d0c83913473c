"""The guarantee against the exact binomial value and by simulation: plain, tied, grouped, thinned, jointly."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from radar_lib.errors import RadarError
from radar_lib.thresholds import (
    at_prevalence,
    certified_rank,
    certified_threshold,
    dispatched,
    independent_positives,
    naive_rank,
    operating_point,
    recall_upper,
    required_positives,
    required_posts,
    thin,
    threshold_at_rank,
)


@given(st.integers(1, 400), st.floats(0.5, 0.99), st.floats(0.5, 0.999), st.integers(1, 7))
def test_the_rank_is_the_largest_that_is_certain_enough(n, recall, confidence, risks):
    delta = (1 - confidence) / risks
    ranks = [k for k in range(1, n + 1) if binom.cdf(k - 1, n, 1 - recall) <= delta]
    assert certified_rank(n, recall, confidence, risks=risks) == max(ranks, default=0)
    assert (n >= required_positives(recall, confidence, risks=risks)) == bool(ranks)


@given(st.integers(1, 60), st.floats(0.05, 0.9), st.floats(0.5, 0.99))
def test_an_audit_is_as_large_as_it_must_be(positives, prevalence, confidence):
    posts = required_posts(positives, prevalence, confidence)
    assert binom.sf(positives - 1, posts, prevalence) >= confidence
    assert posts == positives or binom.sf(positives - 1, posts - 1, prevalence) < confidence


@given(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=40), st.data())
def test_what_stands_at_the_rank_is_dispatched_and_what_is_lower_is_not(values, data):
    positives, k = np.array(values, np.float32), data.draw(st.integers(1, len(values)))
    out = dispatched(positives, threshold_at_rank(positives, k))
    assert np.array_equal(out, positives >= np.sort(positives)[k - 1])


@pytest.mark.parametrize("n", [7, 10, 29, 100, 1000])
@pytest.mark.parametrize("recall", [0.9, 0.95, 0.5])
def test_the_naive_rule_reaches_the_target_on_its_own_posts_only_just(n, recall):
    k, target = naive_rank(n, recall), round(recall * 100)
    assert 100 * (n - k + 1) >= target * n > 100 * (n - k)


def test_too_few_are_refused_with_the_number_it_takes():
    with pytest.raises(RadarError, match=r"FE: 29 .* 0\.95 .* takes 59"):
        certified_threshold(np.zeros(29), recall=0.95, name="FE")
    with pytest.raises(RadarError, match="3 risks together takes 39"):
        certified_threshold(np.zeros(38), recall=0.9, risks=3)
    assert certified_threshold(np.zeros(39), recall=0.9, risks=3).failure <= 0.05 / 3


@pytest.mark.parametrize(
    "call",
    [
        lambda: certified_threshold(np.array([math.nan] * 40), recall=0.9),
        lambda: certified_threshold(np.arange(40), recall=0.9),
        lambda: certified_threshold(np.zeros(40), recall=1.0),
        lambda: certified_threshold(np.zeros(40), recall=0.9, confidence=0.0),
        lambda: certified_threshold(np.zeros(40), recall=0.9, risks=0),
        lambda: thin(np.array([1.0, 0.0])),
        lambda: thin(np.array([1.0, math.inf])),
        lambda: thin(np.array([1.0, 2.0]), groups=np.array([3, 3])),
        lambda: thin(np.ones(3), groups=np.array([1, 2])),
        lambda: operating_point(np.ones(3), np.zeros(3), 0.5),
        lambda: operating_point(np.array([1, 0, -1]), np.zeros(3), 0.5),
        lambda: operating_point(np.array([1, 0]), np.zeros(1), 0.5),
        lambda: at_prevalence(0.9, 0.1, 2.0),
        lambda: threshold_at_rank(np.arange(5.0), 0),
        lambda: threshold_at_rank(np.arange(5.0), 6),
        lambda: naive_rank(10, 1.5),
        lambda: independent_positives(np.zeros(2), np.array([1, 2, 3])),
        lambda: recall_upper(5, 3),
        lambda: required_positives(0.9, 0.95, risks=math.nan),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(RadarError):
        call()


def violations(draw, true_recall, *, runs=2000, seed=5, **options):
    """Share of calibrations whose threshold misses recall .9 of the population, and 3 Monte-Carlo errors of 5 %."""
    random = np.random.default_rng(seed)
    missed = [true_recall(certified_threshold(draw(random), recall=0.9, **options).logit) < 0.9 for _ in range(runs)]
    return float(np.mean(missed)), 3 * math.sqrt(0.05 * 0.95 / runs)


def test_coverage_with_continuous_scores_is_the_binomial_value():
    rate, error = violations(lambda random: random.random(100), lambda tau: 1 - tau)
    exact = binom.cdf(certified_rank(100, 0.9, 0.95) - 1, 100, 0.1)
    assert abs(rate - exact) < error


def test_coverage_of_all_risks_together():
    random, taus = np.random.default_rng(3), []
    for _ in range(2000):
        shared = random.normal(size=100)  # risks may be as dependent as they like
        taus.append([certified_threshold(shared * sign, recall=0.9, risks=3).logit for sign in (1, -1, 1)])
    from scipy.stats import norm

    assert (norm.sf(np.array(taus)).min(axis=1) < 0.9).mean() < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


def campaigns(random, n):
    """Groups of 1 or 20 violating posts, whose posts score alike; large ones score lower. Logits, groups."""
    large = random.random(n) < 0.1
    level = random.normal(size=n) - 1.5 * large
    groups = np.repeat(np.arange(n), np.where(large, 20, 1))
    return level[groups] + 0.1 * random.normal(size=len(groups)), groups


@pytest.fixture(scope="module")
def population():
    logits, groups = campaigns(np.random.default_rng(0), 100_000)
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    return np.sort(logits), np.sort(np.minimum.reduceat(logits, starts))


def share_above(ascending):
    return lambda tau: 1 - np.searchsorted(ascending, tau, side="right") / len(ascending)


def test_groups_that_count_once_guarantee_groups_and_not_posts(population):
    posts, lowest = population

    def draw(random):
        return independent_positives(*campaigns(random, 150))

    rate, error = violations(draw, share_above(lowest))
    assert rate < 0.05 + error
    assert violations(draw, share_above(posts), runs=300)[0] > 0.5  # which the docstring warns of
    dependent, _ = violations(lambda random: campaigns(random, 40)[0], share_above(posts), runs=300)
    assert dependent > 0.1  # every post counted as independent: what groups are for


def test_a_stratified_audit_is_thinned_to_a_plain_sample():
    """High scores were audited ten times as often: unthinned, the threshold comes out far too high."""

    def draw(random, *, thinned=True):
        logits = random.random(4000)
        chance = np.where(logits > 0.5, 1.0, 0.1)
        taken = random.random(4000) < chance
        kept = thin(1 / chance[taken], seed=int(random.integers(1 << 30))) if thinned else slice(None)
        return logits[taken][kept]

    rate, error = violations(draw, lambda tau: 1 - tau, runs=500)
    assert rate < 0.05 + 2 * error
    assert violations(lambda random: draw(random, thinned=False), lambda tau: 1 - tau, runs=100)[0] > 0.9


def test_groups_are_thinned_as_a_whole():
    groups = np.repeat(np.arange(400), 3)
    kept = thin(np.where(groups % 2, 4.0, 1.0), groups=groups)
    assert set(np.bincount(groups, kept)) == {0.0, 3.0}
    assert kept[groups % 2 == 1].all() and 0.15 < kept[groups % 2 == 0].mean() < 0.35


def test_prior_shift_moves_all_but_recall():
    random = np.random.default_rng(2)
    labels = (random.random(40_000) < 0.3).astype(int)
    logits = random.normal(size=40_000) + 2 * labels
    point = operating_point(labels, logits, 0.5)
    kept = (labels == 0) | (random.random(40_000) < 0.1)  # violating posts become ten times rarer
    rarer = operating_point(labels[kept], logits[kept], 0.5)
    derived = at_prevalence(point.recall, point.false_positive_rate, float(labels[kept].mean()))
    assert np.allclose(derived, rarer, atol=0.02) and abs(point.precision - rarer.precision) > 0.2


def test_what_is_no_number_is_dispatched_and_thresholds_are_not_rounded():
    logits = np.array([[math.nan, 0.0], [math.inf, -math.inf], [-1.0, -1.0]], np.float32)
    assert dispatched(logits, np.array([0.0, 0.0])).tolist() == [[True, False], [True, True], [False, False]]
    assert dispatched(logits, np.array([math.nan, 0.0]))[:, 0].all()
    half = np.array([1.0], np.float16)
    assert dispatched(half, threshold_at_rank(half.astype(np.float32), 1)).all()
