"""The phase study: intervals of a gain, the paper's region, figures, and a choice of recipe that reads no test post."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr, ttest_rel

from radar_lib.evidence import AREA, AVERAGE
from radar_lib.files import read_json
from radar_lib.intervals import average_precision_difference
from radar_lib.training.cache import Cache
from radar_suite.report.claims import holm
from radar_suite.report.workspace import Workspace
from radar_suite.studies import phase, phase_findings, phase_plots
from radar_suite.studies.cells import Level, MapSettings, by_seed, fit_map, gain_lines
from radar_suite.studies.frozen import Place
from radar_suite.studies.heads import HeadRecipe
from radar_suite.studies.pool import plan_pool

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
        assert line["seed_low"] is None and line["seed_high"] is None
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
         "high": gain + half, "p": 0.001 if abs(gain) > half else 0.5, "masked": 0.5 + gain, "unmasked": 0.5}
        for (beta, level), gain in zip(cells, gains, strict=True)
        for category in ("LQC", "RCS", "FE", AVERAGE) for metric in (AREA, "R@P60", "APR@R90", "APR@R95")])  # fmt: skip


def test_the_papers_gaps_are_its_tables_differences():
    gaps = phase_findings.paper_gaps().set_index(["method", "category", "metric"])["gap"]
    assert gaps["Qwen3-VL-2B", AVERAGE, AREA] == pytest.approx(0.6816 - 0.6010)
    assert gaps["SigLIP2", "FE", "R@P60"] == pytest.approx(-0.0452)
    assert len(gaps) == 3 * 4 * 4


def test_cells_that_fit_the_paper_are_those_whose_interval_holds_a_gap():
    gaps = phase_findings.paper_gaps().query("category == @AVERAGE and metric == @AREA")["gap"]
    middle = (gaps.min() + gaps.max()) / 2
    found = phase_findings.compatible(a_map([0.0, middle, gaps.min(), -0.1]))
    assert found["fits"].tolist()[0] == found["fits"].tolist()[3] == 0 and found["fits"].tolist()[2] >= 1
    assert phase_findings.compatible(a_map([middle] * 4, half=0.5))["fits"].tolist() == [3] * 4
    assert "outside the interval of all 4 cells" in phase_findings.compatible_sentence(a_map([0.0, 0.01, -0.1, 0.0]))
    said = phase_findings.compatible_sentence(a_map([0.0, 0.0, gaps.min(), 0.0]))
    assert "1 of 4 cells" in said and "beta is 6 to 6" in said and "co-violation 0 to 0" in said


def test_sentences_and_verdicts_follow_the_map():
    found = a_map([0.05, 0.0, -0.05, 0.03])
    said = phase_findings.map_sentence(found)
    assert "helps in 2 (beta 0, co-violation 0; beta 6, co-violation 1)" in said
    assert said.endswith("(beta 0, co-violation 0; beta 6, co-violation 1) and hurts in 1 (beta 6, co-violation 0).")
    assert phase_findings.verdicts(found).loc[AREA].tolist() == [4, 2, 1, 1, 2, 1]
    assert "16 comparisons" in phase_findings.verdict_sentence(found)
    assert "-5.0 points (beta 6, co-violation 0) to +5.0" in phase_findings.verdict_sentence(found)
    none = phase_findings.map_sentence(a_map([0.0] * 4))
    assert "helps in none and hurts in none" in none
    theory = phase_findings.limit_sentence(a_map([0.0, 0.01, 0.02, 0.015]))
    assert "+2.0 points (beta 6, co-violation 0)" in theory and "is not as large" in theory
    assert "reaches 50.0 to 52.0 % of Average PR-AUC" in theory


def test_verdicts_after_holm_are_those_of_the_cells_of_one_risk_and_metric():
    found = a_map([0.05, 0.03, -0.05, 0.03]).assign(p=0.02)
    found.loc[(found["metric"] == AREA) & (found["category"] == AVERAGE), "p"] = [0.001, 0.04, 0.01, 0.03]
    lines = phase_findings.decided(found)
    area = lines[(lines["metric"] == AREA) & (lines["category"] == AVERAGE)]
    sure = holm([0.001, 0.04, 0.01, 0.03]) < 0.05
    assert (area["helps after Holm"] | area["hurts after Holm"]).tolist() == sure.tolist() == [True, False, True, False]
    assert not lines.drop(area.index)[["helps after Holm", "hurts after Holm"]].any(axis=None)
    named = phase_findings.where(found[found["category"] == AVERAGE])
    assert named.loc[f"{AVERAGE} {AREA}"].tolist() == [
        4, "beta 0, co-violation 0 and 1; beta 6, co-violation 1", "beta 6, co-violation 0", "beta 0, co-violation 0",
        "beta 6, co-violation 0"]  # fmt: skip
    assert set(named.loc["Average R@P60", ["helps after Holm", "hurts after Holm"]]) == {"none"}


def test_tables_have_the_order_of_the_maps_and_signed_points():
    found = a_map([0.05, 0.0, -0.05, 0.03])
    table = phase_findings.readable(found[found["category"] == AVERAGE].sample(frac=1, random_state=1))
    assert list(dict.fromkeys(table.index.get_level_values("metric"))) == [AREA, "R@P60", "APR@R90", "APR@R95"]
    assert table.loc[AREA].index.tolist() == [("1", "0"), ("1", "6"), ("0", "0"), ("0", "6")]
    assert table.loc[(AREA, "0", "6")].tolist() == ["45.0", "50.0", "-5.0", "-7.0 to -3.0"]
    grid = phase_findings.limit_grid(found.assign(gain_se=0.001))
    assert grid.index.tolist() == ["1", "0"] and grid.loc["0", "6"] == "-5.0 ± 0.1 (50.0)"
    assert phase_findings.limit_grid(found).loc["0", "6"] == "-5.0 (50.0)"  # a record without simulation errors


def with_cues(gaps, shares):
    """A map of 2 x 2 cells whose gain falls with the cue gap; per cell the gap and the hidden violations of a risk."""
    found = a_map([0.04, 0.02, -0.02, -0.04])
    cell = found.groupby(["beta", "co_violation"], sort=False).ngroup()
    return found.assign(cue_verified=cell.map(dict(enumerate(gaps))) + 0.1, cue_unverified=0.1, strong=None,
                        violating=cell.map(dict(enumerate(shares))))  # fmt: skip


def test_what_moves_with_the_gain_is_a_rank_correlation_and_its_exception_is_named():
    found = with_cues([0.1, 0.2, 0.3, 0.4], [0.1, 0.3, 0.2, 0.25])
    table = phase_findings.moves_with(found)
    assert table.index.tolist() == ["all risks", "LQC", "RCS", "FE"]
    assert table["cells"].tolist() == [12, 4, 4, 4] and (table["cue_gap"] + 1).abs().max() < 1e-9
    lines = phase_findings.hidden(found).query("category == 'LQC'")
    assert lines[["co_violation", "beta"]].to_numpy().tolist() == [[1, 0], [1, 6], [0, 0], [0, 6]]
    assert table.loc["LQC", "violating"] == pytest.approx(spearmanr(lines["gain"], lines["violating"]).statistic)
    said = phase_findings.moves_sentence(found)
    assert "moves more closely with the cue gap, with the same sign in every risk" in said
    other = found.assign(gain=found["gain"].where(found["category"] != "LQC", -found["gain"]))
    said = phase_findings.moves_sentence(other)
    assert "The sign is the other one for LQC: +1.00, and at its largest, 0.40 (beta 6, co-violation 1), " in said
    assert "the gain is +4.0 points" in said
    assert "with beta" not in phase_findings.moves_sentence(found.query("beta == 0"))
    assert "no rank correlation is defined" in phase_findings.moves_sentence(found.query("beta + co_violation == 0"))


def test_the_grid_is_held_against_the_record_head_by_head():
    grid = a_map([0.0, 0.1, 0.2, 0.3]).assign(posts="a")
    grid["by_seed"] = [{"masked": [0.6, 0.7], "unmasked": [0.5, 0.5]}] * len(grid)
    runs = pd.DataFrame([
        {"study": "phase", "row": f"{objective}, beta 6, co-violation {level:g}", "seed": 3 + n, "value": value,
         "category": line["category"], "metric": line["metric"]}
        for line in grid.to_dict("records") if line["beta"] for level in [line["co_violation"]]
        for objective in ("masked", "unmasked") for n, value in enumerate([*line["by_seed"][objective], 0.0])
    ])  # fmt: skip
    recorded = grid[grid["beta"] == 6.0]
    same = phase_findings.reproduced(grid, recorded, runs, seed=3)
    assert same.index.tolist() == ["beta 6, co-violation 0", "beta 6, co-violation 1"]
    assert same["numbers in both"].tolist() == [2 * 2 * 16] * 2 and same["largest difference"].tolist() == [0.0, 0.0]
    assert "is 0.00 points: code and features give the recorded numbers" in phase_findings.reproduced_sentence(same)
    runs.loc[0, "value"] += 0.0125
    moved = phase_findings.reproduced(grid, recorded.assign(posts="b"), runs, seed=3)
    assert moved["largest difference"].tolist() == pytest.approx([1.25, 0.0])
    said = phase_findings.reproduced_sentence(moved)
    assert "Of 128 numbers" in said and "is 1.25 points: with other features nothing follows" in said
    said = phase_findings.reproduced_sentence(moved.assign(**{"same features": True}))
    assert "they should agree, and do not" in said
    for nothing in (runs.assign(study="tables"), runs.iloc[:0]):
        said = phase_findings.reproduced_sentence(phase_findings.reproduced(grid, recorded, nothing, seed=3))
        assert "nothing to hold it against" in said


def test_fine_tunes_are_held_against_the_nearest_cell():
    found = a_map([0.05, 0.0, -0.05, 0.03])
    tuned = a_map([0.01, 0.0, 0.02, 0.0]).query("co_violation == 0").assign(co_violation=0.4)
    said = phase_findings.confirmed_sentence(tuned, found)
    assert said.startswith("1 of 2 fine-tunes have the sign")
    assert "+2.0 [+0.0, +4.0] at beta 6, co-violation 0.4 (the map at beta 6, co-violation 0: -5.0)" in said


def test_figures_say_every_number_and_star_those_without_zero():
    found = a_map([0.05, 0.0, -0.05, 0.01])
    figure = phase_plots.by_metric(found)
    panels = [axis for axis in figure.axes if axis.texts]
    assert len(panels) == 4 and [text.get_text() for text in panels[0].texts] == ["+5.0*", "+0.0", "-5.0*", "+1.0"]
    limit = found.drop(columns=["low", "high"])
    left = phase_plots.beside_limit(found, limit).axes[0]
    assert [text.get_text() for text in left.texts] == ["+5.0", "+0.0", "-5.0", "+1.0"]
    tuned = a_map([0.02] * 4).query("beta == 6 and co_violation == 1")
    fits = phase_findings.compatible(found).assign(fits=[1, 0, 0, 0])
    axis = phase_plots.with_paper(found, fits, tuned).axes[0]
    assert [text.get_text() for text in axis.texts if "LoRA" in text.get_text()] == ["LoRA +2.0"]
    assert len([patch for patch in axis.patches if patch.get_hatch()]) == 1
    assert len([axis for axis in phase_plots.by_risk(found).axes if axis.texts]) == 3
    between = phase_plots.with_paper(found, fits, tuned.assign(co_violation=0.6)).axes[0]
    (box,) = [text for text in between.texts if "LoRA" in text.get_text()]
    assert box.get_text() == "LoRA at 0.6: +2.0" and box.xy == (1.0, pytest.approx(0.6)) and box.xyann == (0, 0)


def test_captions_say_units_n_and_what_a_star_means(tmp_path):
    ws = Workspace.open("studies", runs_dir=tmp_path, profile="p", seed=1, device="cpu")
    found = a_map([0.05, 0.0, -0.05, 0.01])
    for gains, said in (([0.0] * 4, "outside the interval of all 4 cells"), ([0.1] * 4, "hatched: cells")):
        tuned, limit = found.query("beta == 6"), found.assign(gain_se=0.002)
        phase.save_figures(ws, a_map(gains), limit, tuned, what="60 posts", tuned="LoRA, seeds: 2", seeds=3)
        captions = {path.stem: read_json(path)["caption"] for path in (ws.folder / "figures").glob("*.json")}
        assert len(captions) == 4 and said in captions["phase_paper"] and "LoRA, seeds: 2" in captions["phase_paper"]
        assert "standard error at most 0.2" in captions["phase_limit_map"]
        for caption in captions.values():
            assert "points" in caption and "60 posts" in caption
            assert "* 95 % interval over test posts and seeds" in caption and "not corrected" in caption


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
    monkeypatch.setattr("radar_suite.studies.cells.fit_cell", None)
    monkeypatch.setattr("radar_suite.studies.frozen.encode_slice", None)
    pd.testing.assert_frame_equal(found, fit_map(place, SMALL, [0.0, 6.0], [1.0], workers=1))
