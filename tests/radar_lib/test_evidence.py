"""Evidence: for one risk what the functions of two vectors say; averages know which posts the risks share."""

import numpy as np
import pytest
from scipy.stats import ttest_ind, ttest_rel

from radar_lib.evidence import AVERAGE, Evidence
from radar_lib.intervals import average_precision_difference, average_precision_interval
from radar_lib.metrics import apr_at_recall, score_table

RISKS = ("A", "B")


@pytest.fixture(scope="module")
def world():
    """600 posts, each verified for one of two risks; a good row, a noisy one, and one without information."""
    generator = np.random.default_rng(1)
    truth = np.full((600, 2), -1)
    truth[:300, 0], truth[300:, 1] = generator.random(300) < 0.2, generator.random(300) < 0.1
    signal = truth.clip(0) * 2.0 + generator.normal(size=truth.shape)
    noise = generator.normal(size=truth.shape)
    return truth, {"good": [signal], "noisy": [signal + 0.7 * noise], "blind": [noise]}


@pytest.fixture(scope="module")
def evidence(world):
    return Evidence(*world, RISKS, replicates=400, seed=3)


def test_one_risk_is_what_the_functions_of_two_vectors_say(world, evidence):
    truth, rows = world
    y, good, noisy = truth[:300, 0], rows["good"][0][:300, 0], rows["noisy"][0][:300, 0]
    assert evidence.metrics == ("PR-AUC", "R@P60", "APR@R90", "APR@R95")
    np.testing.assert_allclose(evidence.interval("good", "A", "PR-AUC"), average_precision_interval(y, good))
    expected = average_precision_difference(y, good, noisy)
    np.testing.assert_allclose(evidence.difference("good", "noisy", "A", "PR-AUC"), expected)
    assert evidence.value("good", "B", "APR@R90") == apr_at_recall(truth[300:, 1], rows["good"][0][300:, 1], recall=0.9)


def test_one_risk_with_few_groups_is_what_the_functions_of_two_vectors_say(world):
    truth, rows = world
    groups = np.random.default_rng(2).integers(0, 8, len(truth)) ** 2 // 8  # of unequal sizes, some without a post
    grouped = Evidence(truth, rows, RISKS, groups=groups, replicates=2, seed=3)
    known = truth[:, 0] >= 0
    y, good, blind, of = (one[known] for one in (truth[:, 0], rows["good"][0][:, 0], rows["blind"][0][:, 0], groups))
    expected = average_precision_interval(y, good, groups=of)
    np.testing.assert_allclose(grouped.interval("good", "A", "PR-AUC"), expected)
    expected = average_precision_difference(y, good, blind, groups=of)
    np.testing.assert_allclose(grouped.difference("good", "blind", "A", "PR-AUC"), expected)
    np.testing.assert_allclose(grouped.contrast({"good": 2.0, "blind": -2.0}, "A", "PR-AUC").low, 2 * expected.low)


@pytest.mark.parametrize("metric", ["PR-AUC", "R@P60", "APR@R90"])
def test_what_is_better_is_found_better_and_the_same_is_the_same(evidence, metric):
    for category in (*RISKS, AVERAGE):
        found = evidence.difference("good", "blind", category, metric)
        assert 0 < found.low < found.estimate < found.high and found.p_value < 0.05
        assert evidence.difference("good", "good", category, metric) == (0, 0, 0, 1)
        one = evidence.interval("good", category, metric)
        assert one.low <= one.estimate <= one.high


def error_of_a_bootstrap(labels, rows, weights):
    """Width of the percentile interval of a weighted sum of the rows' average PR-AUC, by a plain loop over posts."""
    generator, drawn = np.random.default_rng(5), []
    for _ in range(400):
        index = generator.integers(0, len(labels), len(labels))
        scored = {row: score_table(labels[index], rows[row][0][index], RISKS)[AVERAGE]["PR-AUC"] for row in weights}
        drawn.append(sum(weight * scored[row] for row, weight in weights.items()))
    return pytest.approx(np.diff(np.quantile(drawn, [0.025, 0.975]))[0], rel=0.2)


def test_the_error_of_an_average_and_of_an_interaction_is_that_of_a_bootstrap_over_posts(world, evidence):
    """Also where the risks share their posts: the second world verifies both risks on the same 300 posts."""
    truth, rows = world
    shared = truth[:300].copy()
    shared[:, 1] = truth[300:, 1]
    both = {"good": [np.stack([rows["good"][0][:300, 0]] * 2, axis=1)]}  # and one row's mistakes are shared too
    for labels, logits in ((truth, rows), (shared, both)):
        average = Evidence(labels, logits, RISKS, replicates=10, seed=1).interval("good", AVERAGE, "PR-AUC")
        assert average.high - average.low == error_of_a_bootstrap(labels, logits, {"good": 1.0})
    weights = {"good": 1.0, "noisy": -0.5, "blind": -0.5}
    interaction = evidence.contrast(weights, AVERAGE, "PR-AUC")
    assert interaction.high - interaction.low == error_of_a_bootstrap(truth, rows, weights)


def test_several_runs_are_their_mean(world):
    truth, rows = world
    runs = {"two": [rows["good"][0], rows["noisy"][0]], "same": rows["good"] * 2, "one": rows["good"]}
    evidence = Evidence(truth, runs, RISKS, replicates=200, seed=3)
    for metric in evidence.metrics:
        place = (AVERAGE, metric)
        expected = np.mean([score_table(truth, one, RISKS)[AVERAGE][metric] for one in runs["two"]])
        assert evidence.value("two", *place) == pytest.approx(expected)
        np.testing.assert_allclose(evidence.interval("same", *place), evidence.interval("one", *place))
        found = evidence.interval("two", *place)
        assert found.low <= found.estimate <= found.high


def test_equal_seeds_draw_equal_posts_in_parts_of_any_size(world, evidence, monkeypatch):
    monkeypatch.setattr("radar_lib.intervals._CELLS_AT_ONCE", 600 * 37)
    again = Evidence(*world, RISKS, replicates=400, seed=3)
    place = ("good", "noisy", AVERAGE, "R@P60")
    assert again.difference(*place) == evidence.difference(*place)


@pytest.mark.parametrize("metric", ["PR-AUC", "R@P60", "APR@R90"])
def test_a_contrast_is_the_sum_of_its_rows_and_no_wider_than_its_parts_allow(world, evidence, metric):
    place = (AVERAGE, metric)
    weights = {"good": 1.0, "noisy": -2.0, "blind": 1.0}
    found = evidence.contrast(weights, *place)
    assert found.estimate == pytest.approx(sum(w * evidence.value(row, *place) for row, w in weights.items()))
    assert evidence.contrast({"good": 1.0, "noisy": -1.0}, *place) == evidence.difference("good", "noisy", *place)
    parts = [evidence.difference("good", "noisy", *place), evidence.difference("noisy", "blind", *place)]
    widths = [part.high - part.low for part in parts]
    assert abs(widths[0] - widths[1]) <= found.high - found.low <= sum(widths)
    doubled = evidence.contrast({row: 2 * w for row, w in weights.items()}, *place)
    np.testing.assert_allclose(doubled[:3], 2 * np.array(found[:3]))


def test_seeds_and_posts_are_apart_and_join_by_the_stated_model(world):
    truth, rows = world
    generator = np.random.default_rng(4)
    runs = {
        name: [rows["good"][0] + size * generator.normal(size=truth.shape) for _ in range(3)]
        for name, size in (("x", 0.5), ("y", 0.8))
    }
    evidence = Evidence(truth, runs | {"same": rows["good"] * 3, "two": runs["x"][:2]}, RISKS, replicates=300, seed=3)
    assert (evidence.seeds("x"), evidence.seeds("two")) == (3, 2)
    for metric in evidence.metrics:
        for category in (*RISKS, AVERAGE):
            values = [score_table(truth, one, RISKS)[category][metric] for one in runs["x"]]
            others = [score_table(truth, one, RISKS)[category][metric] for one in runs["y"]]
            assert evidence.runs("x", category, metric) == values
            seeds = evidence.difference("x", "y", category, metric, over="seeds")
            assert seeds.p_value == pytest.approx(ttest_rel(values, others).pvalue)
            three = [evidence.difference("x", "y", category, metric, over=over) for over in ("posts", "seeds", "both")]
            error = np.var(np.subtract(values, others), ddof=1) / 3 + ((three[0].high - three[0].low) / 2 / 1.96) ** 2
            assert three[2].high - three[2].low >= 2 * 1.959 * error**0.5
            alone = [evidence.interval("x", category, metric, over=over) for over in ("posts", "both")]
            assert alone[1].low <= alone[0].low <= alone[0].high <= alone[1].high
            np.testing.assert_allclose(
                evidence.interval("same", category, metric, over="both"), evidence.interval("same", category, metric)
            )
            unpaired = evidence.difference("x", "two", category, metric, over="seeds")
            assert unpaired.p_value == pytest.approx(ttest_ind(values, values[:2], equal_var=False).pvalue)


def test_seeds_need_runs_and_over_is_one_of_three(evidence):
    with pytest.raises(ValueError, match="two or more"):
        evidence.interval("good", "A", "PR-AUC", over="both")
    with pytest.raises(ValueError, match="posts, seeds, both"):
        evidence.difference("good", "noisy", "A", "PR-AUC", over="runs")


def test_copies_of_posts_in_their_groups_are_no_further_evidence(world):
    """All posts twice: grouped, every interval and difference is that of the posts alone, or a little wider, by
    Student's t; and copies taken for new posts would say more."""
    truth, rows = world
    twice = {row: [np.repeat(one, 2, axis=0) for one in runs] for row, runs in rows.items()}
    pairs, options = np.repeat(np.arange(len(truth)), 2), {"replicates": 100, "seed": 3}
    alone = Evidence(truth, rows, RISKS, **options)
    grouped = Evidence(np.repeat(truth, 2, axis=0), twice, RISKS, groups=pairs, **options)
    naive = Evidence(np.repeat(truth, 2, axis=0), twice, RISKS, **options)
    for metric in alone.metrics:
        for category in (*RISKS, AVERAGE):
            place = ("good", "noisy", category, metric)
            np.testing.assert_allclose(grouped.difference(*place)[:3], alone.difference(*place)[:3], atol=5e-3)
            ends = [one.interval("good", category, metric) for one in (alone, grouped, naive)]
            np.testing.assert_allclose(ends[1], ends[0], atol=1e-2)
            assert ends[1].high - ends[1].low >= ends[0].high - ends[0].low - 1e-3
            assert ends[2].high - ends[2].low < 0.95 * (ends[1].high - ends[1].low)
