"""The phase study: intervals of a gain, the paper's region, figures, and a choice of recipe that reads no test post."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from radar_lib.intervals import average_precision_difference
from radar_lib.report.evidence import AREA, AVERAGE
from radar_lib.report.studies import phase, phase_plots
from radar_lib.report.studies.cells import Level, MapSettings, by_seed, fit_map, gain_lines, seed_half_width
from radar_lib.report.studies.frozen import Place
from radar_lib.report.studies.pool import plan_pool
from radar_lib.training.cache import Cache
from radar_lib.training.heads import HeadRecipe

SMALL = MapSettings(posts=150, pool_posts=600, test_positives=4, seed=1, seeds=2, recipe=HeadRecipe(epochs=1))


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def scored(categories, seed=0, posts=240):
    """Truth with one verified category per post, and logits of three routers a kind; the masked ones know more."""
    rng = np.random.default_rng(seed)
    k = len(categories)
    truth = np.full((posts, k), -1, np.int8)
    truth[np.arange(posts), np.arange(posts) % k] = rng.random(posts) < 0.3
    masked, unmasked = ([rng.normal(size=(posts, k)) + shift * (truth == 1) for _ in range(3)] for shift in (1.5, 0.5))
    return truth, masked, unmasked


@pytest.mark.parametrize("categories", [["a"], ["a", "b", "c"], list("abcdefg")])
def test_gain_and_its_three_intervals(categories):
    truth, masked, unmasked = scored(categories)
    lines = pd.DataFrame(gain_lines(truth, masked, unmasked, seed=1, categories=categories))
    assert list(dict.fromkeys(lines["category"])) == [*categories, AVERAGE]
    assert lines["gain"].to_numpy() == pytest.approx((lines["masked"] - lines["unmasked"]).to_numpy())
    for line in lines.to_dict("records"):
        found = ttest_rel(line["by_seed"]["masked"], line["by_seed"]["unmasked"]).confidence_interval(0.95)
        assert (line["seed_low"], line["seed_high"]) == pytest.approx(tuple(found))
        parts = [line["test_high"] - line["gain"], line["seed_high"] - line["gain"]]
        assert line["high"] - line["gain"] == pytest.approx(np.hypot(*parts))
        assert line["gain"] - line["low"] == pytest.approx(np.hypot(*parts))


def test_one_seed_has_the_interval_over_test_posts_only():
    truth, masked, unmasked = scored(["a", "b"])
    for line in gain_lines(truth, masked[:1], unmasked[:1], seed=1, categories=["a", "b"]):
        assert line["seed_low"] is None and seed_half_width(np.array([0.1])) is None
        assert (line["low"], line["high"]) == pytest.approx((line["test_low"], line["test_high"]))
        if line["metric"] == AREA and line["category"] == "a":
            known = truth[:, 0] >= 0
            exact = average_precision_difference(truth[known, 0], masked[0][known, 0], unmasked[0][known, 0])
            assert (line["gain"], line["test_low"]) == pytest.approx((exact.estimate, exact.low))


def test_equal_routers_gain_nothing():
    truth, masked, _ = scored(["a", "b", "c"])
    for line in gain_lines(truth, masked, masked, seed=1, categories=["a", "b", "c"]):
        assert line["gain"] == line["low"] == line["high"] == 0.0


def a_map(gains, half=0.02):
    """A map of 2 x 2 cells with these average PR-AUC gains."""
    cells = [(beta, level) for beta in (0.0, 6.0) for level in (0.0, 1.0)]
    return pd.DataFrame([
        {"beta": beta, "co_violation": level, "category": category, "metric": metric, "gain": gain, "low": gain - half,
         "high": gain + half, "masked": 0.5 + gain, "unmasked": 0.5}
        for (beta, level), gain in zip(cells, gains, strict=True)
        for category in ("LQC", "RCS", "FE", AVERAGE) for metric in (AREA, "R@P60", "APR@R90", "APR@R95")])  # fmt: skip


def test_the_papers_gaps_are_its_tables_differences():
    gaps = phase.paper_gaps().set_index(["method", "category", "metric"])["gap"]
    assert gaps["Qwen3-VL-2B", AVERAGE, AREA] == pytest.approx(0.6816 - 0.6010)
    assert gaps["SigLIP2", "FE", "R@P60"] == pytest.approx(-0.0452)
    assert len(gaps) == 3 * 4 * 4


def test_cells_that_fit_the_paper_are_those_whose_interval_holds_a_gap():
    gaps = phase.paper_gaps().query("category == @AVERAGE and metric == @AREA")["gap"]
    middle = (gaps.min() + gaps.max()) / 2
    found = phase.compatible(a_map([0.0, middle, gaps.min(), -0.1]))
    assert found["fits"].tolist()[0] == found["fits"].tolist()[3] == 0 and found["fits"].tolist()[2] >= 1
    assert phase.compatible(a_map([middle] * 4, half=0.5))["fits"].tolist() == [3] * 4
    assert "outside the interval of all 4 cells" in phase.compatible_sentence(a_map([0.0, 0.01, -0.1, 0.0]))
    said = phase.compatible_sentence(a_map([0.0, 0.0, gaps.min(), 0.0]))
    assert "1 of 4 cells" in said and "beta is 6 to 6" in said and "co-violation 0 to 0" in said


def test_sentences_and_verdicts_follow_the_map():
    found = a_map([0.05, 0.0, -0.05, 0.03])
    said = phase.map_sentence(found)
    assert "helps in 2 ((0, 0), (6, 1))" in said and "hurts in 1 ((6, 0))" in said
    assert phase.verdicts(found).loc[AREA].tolist() == [4, 2, 1, 1]
    none = phase.map_sentence(a_map([0.0] * 4))
    assert "helps in 0 (none) and hurts in 0 (none)" in none
    theory = phase.limit_sentence(a_map([0.0, 0.01, 0.02, 0.015]))
    assert "+2.0 points (beta 6, co-violation 0)" in theory and "is not as large" in theory


def test_agreement_is_overlap_of_the_cells_that_both_have():
    ours, theirs = a_map([0.0, 0.1, 0.2, 0.3]), a_map([0.03, 0.1, 0.2, 0.5])
    beside = phase.agreement(ours, theirs[theirs["beta"] + theirs["co_violation"] > 0])
    area = beside[(beside["metric"] == AREA) & (beside["category"] == AVERAGE)]
    assert area["agrees"].tolist() == [True, True, False]


def test_figures_say_every_number_and_star_those_without_zero():
    found = a_map([0.05, 0.0, -0.05, 0.01])
    figure = phase_plots.by_metric(found)
    panels = [axis for axis in figure.axes if axis.texts]
    assert len(panels) == 4 and [text.get_text() for text in panels[0].texts] == ["+5.0*", "+0.0", "-5.0*", "+1.0"]
    limit = found.drop(columns=["low", "high"])
    left = phase_plots.beside_limit(found, limit).axes[0]
    assert [text.get_text() for text in left.texts] == ["+5.0", "+0.0", "-5.0", "+1.0"]
    tuned = a_map([0.02] * 4).query("beta == 6 and co_violation == 1")
    fits = phase.compatible(found).assign(fits=[1, 0, 0, 0])
    axis = phase_plots.with_paper(found, fits, tuned).axes[0]
    assert sum("LoRA" in text.get_text() for text in axis.texts) == 1
    assert len([patch for patch in axis.patches if patch.get_hatch()]) == 1
    assert len([axis for axis in phase_plots.by_risk(found).axes if axis.texts]) == 3


def test_recipes_are_compared_on_training_posts_only():
    pool = plan_pool(SMALL.corpus(0.5))
    rng = np.random.default_rng(0)
    shown = pool.truth @ rng.normal(size=(3, 5)) + rng.normal(size=(len(pool), 5))
    features = np.concatenate([shown, np.full((len(pool.test_labels), 5), np.nan)])  # a test post would spoil it
    recipes = [SMALL.recipe, HeadRecipe(epochs=30)]
    found = phase.choose(Level(0.5, pool, features, ""), SMALL, recipes, beta=1.5)
    assert found["used"].tolist() == [True, False]
    assert found["mean"].to_numpy() == pytest.approx(found[["masked", "unmasked"]].mean(axis=1).to_numpy())
    assert found["mean"][1] > found["mean"][0]


@pytest.mark.slow
def test_a_small_map_is_kept_and_read_again(tmp_path, monkeypatch):
    place = Place(Cache(tmp_path), "Qwen3-VL-2B", "standins", "cpu")
    found = fit_map(place, SMALL, [0.0, 6.0], [1.0], workers=1)
    assert len(found) == 2 * 4 * 4 and set(found["beta"]) == {0.0, 6.0}
    assert set(by_seed(found[found["beta"] == 0.0], "masked")) == {0, 1}
    monkeypatch.setattr("radar_lib.report.studies.cells.fit_cell", None)
    monkeypatch.setattr("radar_lib.report.studies.frozen.encode_slice", None)
    pd.testing.assert_frame_equal(found, fit_map(place, SMALL, [0.0, 6.0], [1.0], workers=1))
