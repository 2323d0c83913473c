"""Intervals: influences are derivatives, a plain loop and scipy agree, and about 95 % of intervals cover."""

from functools import partial

import numpy as np
import pytest
from scipy.stats import norm, t, ttest_ind, ttest_rel

from radar_lib import intervals
from radar_lib.intervals import (
    Difference,
    Interval,
    average_precision_difference,
    average_precision_influence,
    average_precision_interval,
    bootstrap_difference,
    bootstrap_interval,
    draws,
    recall_at_precision_is_reliable,
)
from radar_lib.metrics import apr_at_recall, average_precision, recall_at_precision
from radar_lib.seed_intervals import combined_difference, combined_interval, seed_difference, seed_interval

RUNS, OTHERS = [0.51, 0.55, 0.58, 0.52], [0.50, 0.49, 0.57, 0.50]
R60, R90 = partial(recall_at_precision, precision=0.6), partial(apr_at_recall, recall=0.9)


def posts(seed: int, number: int = 3000, shift: float = 2.0, prevalence: float = 0.05):
    generator = np.random.default_rng(seed)
    labels = (generator.random(number) < prevalence).astype(int)
    return labels, generator.normal(size=number) + shift * labels


@pytest.mark.parametrize("metric", [average_precision, R60, R90])
def test_equal_seeds_give_equal_intervals_around_the_estimate_in_parts_of_any_size(metric, monkeypatch):
    labels, scores = posts(0)
    first = bootstrap_interval(metric, labels, scores, replicates=200, seed=3)
    assert first.low < first.estimate == metric(labels, scores) < first.high
    assert first != bootstrap_interval(metric, labels, scores, replicates=200, seed=4)
    monkeypatch.setattr(intervals, "_CELLS_AT_ONCE", 7 * len(labels))
    assert first == bootstrap_interval(metric, labels, scores, replicates=200, seed=3)


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


@pytest.mark.parametrize(
    ("interval", "samples", "fewest"),  # a binomial of 100 at 95 % leaves [86, 100] once in a thousand times
    [(lambda *xy: bootstrap_interval(average_precision, *xy, replicates=200, seed=1), 100, 0.86),
     (average_precision_interval, 400, 0.91)],
)  # fmt: skip
def test_coverage_of_test_posts(interval, samples, fewest):
    truth = average_precision(*posts(99, 1_000_000))
    covered = [interval(*posts(seed, 1500)) for seed in range(samples)]
    assert fewest <= np.mean([one.low <= truth <= one.high for one in covered]) <= (0.98 if samples == 400 else 1)


def test_a_small_recall_at_precision_is_flagged():
    labels, scores = posts(3, 1500, shift=1.0)
    assert not recall_at_precision_is_reliable(R60(labels, scores)) and recall_at_precision_is_reliable(0.1)
    with pytest.warns(UserWarning, match="below 0.1"):
        bootstrap_interval(R60, labels, scores, replicates=100, seed=1)


def test_replicates_without_both_kinds_of_posts():
    with pytest.raises(ValueError, match="too few posts"):
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


def test_over_seeds_it_is_students_t():
    interval = seed_interval(RUNS, level=0.9)
    np.testing.assert_allclose(interval[1:], t.interval(0.9, 3, loc=np.mean(RUNS), scale=np.std(RUNS, ddof=1) / 2))
    paired, ours = ttest_rel(RUNS, OTHERS), seed_difference(RUNS, OTHERS)
    np.testing.assert_allclose(ours, [np.mean(RUNS) - np.mean(OTHERS), *paired.confidence_interval(), paired.pvalue])
    welch = ttest_ind(RUNS, OTHERS[:3], equal_var=False)
    np.testing.assert_allclose(seed_difference(RUNS, OTHERS[:3])[1:], [*welch.confidence_interval(), welch.pvalue])


def test_without_noise_of_one_source_the_combined_interval_is_that_of_the_other():
    over_posts = Interval(0.54, 0.50, 0.59)
    np.testing.assert_allclose(combined_interval(over_posts, [0.54] * 3), over_posts)
    np.testing.assert_allclose(combined_interval(Interval(0.0, 0.01, 0.2), [0.0] * 3), [0.0, 0.01, 0.2])
    one = Difference(0.02, 0.01, 0.03, 2 * norm.sf(2 * 1.959964))
    np.testing.assert_allclose(combined_difference(one, RUNS, RUNS), one)
    np.testing.assert_allclose(combined_difference(one, RUNS, np.array(RUNS) - 0.02), one, rtol=1e-6)
    np.testing.assert_allclose(combined_interval(Interval(*[np.mean(RUNS)] * 3), RUNS), seed_interval(RUNS))
    there = combined_difference(Difference(*[np.mean(RUNS) - np.mean(OTHERS)] * 3, 1.0), RUNS, OTHERS)
    np.testing.assert_allclose(there, seed_difference(RUNS, OTHERS))


def test_half_widths_add_in_squares_on_each_side():
    alone = seed_interval(RUNS)
    half = alone.high - alone.estimate
    both = combined_interval(Interval(0.54, 0.50, 0.59), RUNS)
    np.testing.assert_allclose(both, [0.54, 0.54 - np.hypot(0.04, half), 0.54 + np.hypot(0.05, half)])


@pytest.mark.parametrize("estimate", [0.0, 0.01, 0.03, 0.2])
def test_the_p_value_is_the_level_at_which_the_interval_reaches_zero(estimate):
    ours = np.array(OTHERS) + [0.002, -0.001, 0.004, 0.003]

    def at(level):
        half = norm.ppf((1 + level) / 2) * 0.01
        over_posts = Difference(estimate, estimate - half, estimate + half, 0.5)
        return combined_difference(over_posts, ours, OTHERS, level=level)

    usual = at(0.95)
    assert (usual.p_value < 0.05) == (usual.low > 0)
    if estimate:
        assert at(1 - usual.p_value).low == pytest.approx(0, abs=1e-6)
    else:
        assert usual.p_value == pytest.approx(1)


@pytest.mark.parametrize("number", [3, 5])
@pytest.mark.parametrize("spread", [0.003, 0.01, 0.03])  # of seeds; posts have 0.01
def test_coverage_under_the_model(number, spread):
    """metric = mu + a_s + b_sample: at least 95 % of 800 intervals hold mu, of differences the true difference."""
    generator = np.random.default_rng(number)
    hits = np.zeros(4)
    for _ in range(800):
        a, b = spread * generator.normal(size=(2, number)), 0.01 * generator.normal(size=2)
        runs = 0.5 + a + b[:, None]
        over_posts = Interval(runs[0].mean(), runs[0].mean() - 0.0196, runs[0].mean() + 0.0196)
        alone, both = seed_interval(runs[0]), combined_interval(over_posts, runs[0])
        apart, half = runs[0].mean() - runs[1].mean(), 0.0196 * np.sqrt(2)
        difference = combined_difference(Difference(apart, apart - half, apart + half, 0.5), *runs)
        hits += [*(one.low <= 0.5 <= one.high for one in (over_posts, alone, both)),
                 difference.low <= 0 <= difference.high]  # fmt: skip
    over_posts, alone, both, difference = hits / 800
    assert 0.93 < both < 0.99 and 0.93 < difference < 0.99
    assert over_posts < 0.8 or spread < 0.03  # test posts alone say too little of the method
    assert alone < 0.8 or spread > 0.003  # and so do seeds alone


def test_noise_of_one_seed_on_one_sample_is_counted_twice():
    """With e beside a and b the interval covers more than 95 %, as its docstring says."""
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(800):
        runs = 0.5 + 0.01 * generator.normal() + 0.03 * generator.normal(size=3)
        half = 1.96 * np.sqrt(0.01**2 + 0.03**2 / 3)
        both = combined_interval(Interval(runs.mean(), runs.mean() - half, runs.mean() + half), runs)
        hits += both.low <= 0.5 <= both.high
    assert hits / 800 > 0.98


def test_posts_that_are_there_twice_say_no_more_than_once():
    """Every post with its copy as a group: the closed form is that of the posts alone, by Student's t, the bootstrap
    has the same draws."""
    labels, scores = posts(6, 600)
    theirs = scores + np.random.default_rng(7).normal(size=len(scores))
    twice = (np.repeat(one, 2) for one in (labels, scores, theirs, np.arange(len(labels))))
    labels2, scores2, theirs2, pairs = twice
    scale = np.sqrt(len(labels) / (len(labels) - 1))
    once, grouped = (average_precision_difference(labels, scores, theirs),
                     average_precision_difference(labels2, scores2, theirs2, groups=pairs))  # fmt: skip
    assert grouped.estimate == pytest.approx(once.estimate)
    assert 1 <= (grouped.high - grouped.low) / (scale * (once.high - once.low)) < 1.1
    taken_for_new = average_precision_difference(labels2, scores2, theirs2)
    assert taken_for_new.high - taken_for_new.low < 0.75 * (grouped.high - grouped.low)
    alone, together = (average_precision_interval(labels, scores),
                       average_precision_interval(labels2, scores2, groups=pairs))  # fmt: skip
    np.testing.assert_allclose(together, alone, atol=2e-2)
    assert together.low < alone.low and alone.high < together.high
    for metric in (average_precision, R60, R90):
        options = {"replicates": 100, "seed": 3}
        np.testing.assert_allclose(bootstrap_interval(metric, labels2, scores2, groups=pairs, **options),
                                   bootstrap_interval(metric, labels, scores, **options))  # fmt: skip
        np.testing.assert_allclose(bootstrap_difference(metric, labels2, scores2, theirs2, groups=pairs, **options),
                                   bootstrap_difference(metric, labels, scores, theirs, **options))  # fmt: skip


def test_one_group_of_posts_has_no_interval():
    labels, scores = posts(6, 600)
    one = np.zeros(len(labels), int)
    assert np.isnan(average_precision_interval(labels, scores, groups=one)[1:]).all()
    assert np.isnan(bootstrap_interval(R90, labels, scores, groups=one, replicates=20, seed=1)[1:]).all()
    apart = average_precision_difference(labels, scores, -scores, groups=one)
    assert np.isnan(apart[1:3]).all() and apart.p_value == 1


@pytest.mark.parametrize("number", [3, 6, 20, 200])
def test_few_groups_are_covered_as_many(number):
    """Sums of equal normal groups, which Student's t covers: 95 %, a little more where their number is the bound."""
    generator, groups, hits = np.random.default_rng(1), np.repeat(np.arange(number), 2), 0
    for _ in range(2000):
        values = np.repeat(generator.normal(size=number), 2)
        parts = intervals.sum_within((values - values.mean()) / len(values), groups)
        hits += abs(values.mean()) <= norm.isf(0.025) * intervals.standard_error(parts, number)
    assert 0.94 < hits / 2000 < 0.98


def test_coverage_of_posts_in_groups():
    """Ten posts share most of what decides label and score: the truth is that of posts alone, the error is not."""
    def sample(seed, groups=300):
        generator = np.random.default_rng(seed)
        number = np.repeat(np.arange(groups), 10)
        common, own = generator.normal(size=(2, groups))[:, number], generator.normal(size=(2, len(number)))
        hidden, noise = 0.8**0.5 * common + 0.2**0.5 * own
        labels = (hidden > norm.isf(0.1)).astype(int)
        return labels, noise + 2 * labels, number

    truth = average_precision(*posts(99, 1_000_000, prevalence=0.1))
    hits = np.zeros(2)
    for labels, scores, groups in map(sample, range(200)):
        ends = (average_precision_interval(labels, scores, groups=one) for one in (groups, None))
        hits += [one.low <= truth <= one.high for one in ends]
    clustered, independent = hits / 200
    assert 0.9 < clustered < 0.99 and independent < 0.6
