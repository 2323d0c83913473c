"""Seeds: Student's t as scipy has it, and the combined interval covers under the model that it states."""

import doctest

import numpy as np
import pytest
from radar_lib.seeds import combined_difference, combined_interval, seed_difference, seed_interval
from scipy.stats import norm, t, ttest_ind, ttest_rel

from radar_lib import seeds
from radar_lib.intervals import Difference, Interval

RUNS, OTHERS = [0.51, 0.55, 0.58, 0.52], [0.50, 0.49, 0.57, 0.50]
POSTS = Interval(0.54, 0.50, 0.59)


def test_doctests():
    assert doctest.testmod(seeds).failed == 0


def test_over_seeds_it_is_students_t():
    found = seed_interval(RUNS, level=0.9)
    error = np.std(RUNS, ddof=1) / 2
    np.testing.assert_allclose(found[1:], t.interval(0.9, 3, loc=np.mean(RUNS), scale=error))
    paired = ttest_rel(RUNS, OTHERS)
    ours = seed_difference(RUNS, OTHERS)
    np.testing.assert_allclose(ours, [np.mean(RUNS) - np.mean(OTHERS), *paired.confidence_interval(), paired.pvalue])
    welch = ttest_ind(RUNS, OTHERS[:3], equal_var=False)
    np.testing.assert_allclose(seed_difference(RUNS, OTHERS[:3])[1:], [*welch.confidence_interval(), welch.pvalue])


def test_runs_that_agree_leave_the_posts_interval():
    np.testing.assert_allclose(combined_interval(POSTS, [0.54] * 3), POSTS)
    np.testing.assert_allclose(combined_interval(Interval(0.0, 0.01, 0.2), [0.0] * 3), [0.0, 0.01, 0.2])
    one = Difference(0.02, 0.01, 0.03, 2 * norm.sf(2 * 1.959964))
    np.testing.assert_allclose(combined_difference(one, RUNS, RUNS), one)
    np.testing.assert_allclose(combined_difference(one, RUNS, np.array(RUNS) - 0.02), one, rtol=1e-6)
    assert np.isnan(combined_interval(Interval(1.0, np.nan, np.nan), [1.0] * 3).low)


def test_without_noise_of_posts_it_is_that_over_seeds():
    point = Interval(np.mean(RUNS), np.mean(RUNS), np.mean(RUNS))
    np.testing.assert_allclose(combined_interval(point, RUNS), seed_interval(RUNS))
    there = combined_difference(Difference(*[np.mean(RUNS) - np.mean(OTHERS)] * 3, 1.0), RUNS, OTHERS)
    np.testing.assert_allclose(there, seed_difference(RUNS, OTHERS))


def test_half_widths_add_in_squares_on_each_side():
    found, alone = combined_interval(POSTS, RUNS), seed_interval(RUNS)
    half = alone.high - alone.estimate
    np.testing.assert_allclose(found, [0.54, 0.54 - np.hypot(0.04, half), 0.54 + np.hypot(0.05, half)])


def test_the_p_value_is_the_level_at_which_the_interval_reaches_zero():
    for estimate in (0.0, 0.01, 0.03, 0.2):
        ours = np.array(OTHERS) + [0.002, -0.001, 0.004, 0.003]
        posts = Difference(estimate, estimate - 1.959964 * 0.01, estimate + 1.959964 * 0.01, 0.5)
        found = combined_difference(posts, ours, OTHERS)
        assert (found.p_value < 0.05) == (found.low > 0)
        if estimate:
            level = 1 - found.p_value
            half = -norm.ppf(found.p_value / 2) * 0.01
            again = combined_difference(Difference(estimate, estimate - half, estimate + half, 0.5), ours, OTHERS,
                                        level=level)  # fmt: skip
            assert again.low == pytest.approx(0, abs=1e-6)
        else:
            assert found.p_value == pytest.approx(1)


@pytest.mark.parametrize("number", [3, 5])
@pytest.mark.parametrize("spread", [0.003, 0.01, 0.03])  # of seeds; posts have 0.01
def test_coverage_under_the_model(number, spread):
    """metric = mu + a_s + b_sample: at least 95 % of 800 intervals hold mu, of differences the true difference."""
    generator = np.random.default_rng(number)
    hits = np.zeros(4)
    for _ in range(800):
        a, b = spread * generator.normal(size=(2, number)), 0.01 * generator.normal(size=2)
        runs = 0.5 + a + b[:, None]
        posts = Interval(runs[0].mean(), runs[0].mean() - 0.0196, runs[0].mean() + 0.0196)
        alone, both = seed_interval(runs[0]), combined_interval(posts, runs[0])
        found = runs[0].mean() - runs[1].mean()
        half = 0.0196 * np.sqrt(2)
        difference = combined_difference(Difference(found, found - half, found + half, 0.5), runs[0], runs[1])
        hits += [one.low <= 0.5 <= one.high for one in (posts, alone, both)] + [difference.low <= 0 <= difference.high]
    posts, alone, both, difference = hits / 800
    assert 0.93 < both < 0.99 and 0.93 < difference < 0.99
    if spread == 0.03:
        assert posts < 0.8  # test posts alone say too little of the method
    if spread == 0.003:
        assert alone < 0.8  # and so do seeds alone


def test_noise_of_one_seed_on_one_sample_is_counted_twice():
    """With e beside a and b the interval covers more than 95 %, as its docstring says."""
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(800):
        b, e = 0.01 * generator.normal(), 0.03 * generator.normal(size=3)
        runs = 0.5 + b + e
        half = 1.96 * np.sqrt(0.01**2 + 0.03**2 / 3)
        found = combined_interval(Interval(runs.mean(), runs.mean() - half, runs.mean() + half), runs)
        hits += found.low <= 0.5 <= found.high
    assert hits / 800 > 0.98


@pytest.mark.parametrize("function", [seed_interval, lambda runs: seed_difference(runs, runs)])
def test_one_run_is_refused_and_agreeing_ones_have_no_interval(function):
    with pytest.raises(ValueError, match="1 run"):
        function([0.5])
    found = function([0.5, 0.5, 0.5])
    assert np.isnan(found.low) if found.estimate else found == (0, 0, 0, 1)
    with pytest.raises(ValueError, match="1 run"):
        combined_interval(POSTS, [0.5])
    with pytest.raises(ValueError, match="1 run"):
        combined_difference(Difference(0.0, -1.0, 1.0, 1.0), [0.5], [0.4, 0.5])
    with pytest.raises(ValueError, match="level"):
        seed_interval(RUNS, level=0)
