"""The phase study: intervals of a gain, its record and captions, and a choice of recipe that reads no test post."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from radar_lib.evidence import AREA, AVERAGE
from radar_lib.intervals import average_precision_difference
from radar_lib.metrics import average_precision
from radar_lib.sources import source_digests
from radar_lib.training.cache import Cache
from radar_suite.report.record import read_record
from radar_suite.report.workspace import Workspace
from radar_suite.studies import phase
from radar_suite.studies.cells import Level, MapSettings, fit_map, gain_lines
from radar_suite.studies.frozen import Place
from radar_suite.studies.heads import HeadRecipe
from radar_suite.studies.pool import plan_pool

SMALL = MapSettings(posts=150, pool_posts=600, test_positives=4, seed=1, seeds=2, recipe=HeadRecipe(epochs=1))


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


@pytest.mark.parametrize("module", ["cells", "frozen", "propensities"])
def test_cached_work_is_keyed_by_what_decides_it(module):
    """A figure, a caption or the notebooks' workspace makes no cell, feature or propensity stale."""
    names = source_digests(f"radar_suite.studies.{module}")
    assert f"radar_suite.studies.{module}" in names
    assert not [name for name in names if name.startswith("radar_suite.report") or name.endswith((".maps", ".stage"))]


def test_every_head_of_a_map_is_in_the_record(tmp_path):
    truth, masked, unmasked = scored(["a", "b"])
    lines = pd.DataFrame(gain_lines(truth, masked, unmasked, seed=1, categories=["a", "b"]))
    lines = pd.concat([lines.assign(beta=beta, co_violation=1.0, run=f"run {beta:g}", posts="pool", seconds=6.0)
                       for beta in (0.0, 6.0)])  # fmt: skip
    workspace = Workspace.open("studies", {"runs_dir": str(tmp_path), "profile": "p", "seed": 1})
    stage = SimpleNamespace(record_path=tmp_path / "runs.parquet", workspace=workspace)
    phase.record_cells(stage, "phase", lines, "backbone", seed=4)
    kept = read_record(stage.record_path)
    assert len(kept) == 2 * 2 * 3 * 3 * 4 and set(kept["seed"]) == {4, 5, 6} and set(kept["posts_digest"]) == {"pool"}
    assert (kept["seconds"] == 1.0).all()
    one = kept.query("row == 'unmasked, beta 6, co-violation 1' and seed == 5 and category == 'b' and metric == @AREA")
    known = truth[:, 1] >= 0
    assert one["value"].item() == pytest.approx(average_precision(truth[known, 1], unmasked[1][known, 1]))


def test_recipes_are_compared_on_training_posts_only():
    pool = plan_pool(SMALL.corpus(0.5))
    rng = np.random.default_rng(0)
    facts = pool.truth @ rng.normal(size=(3, 5)) + rng.normal(size=(len(pool), 5))
    features = np.concatenate([facts, np.full((len(pool.test_labels), 5), np.nan)])  # a test post would spoil it
    recipes = [SMALL.recipe, HeadRecipe(epochs=30)]
    found = phase.compare_recipes(Level(0.5, pool, features, ""), SMALL, recipes, beta=1.5)
    assert found["used"].tolist() == [True, False]
    assert found["mean"].to_numpy() == pytest.approx(found[["masked", "unmasked"]].mean(axis=1).to_numpy())
    assert found["mean"][1] > found["mean"][0]


@pytest.mark.slow
def test_a_small_map_is_kept_and_read_again(tmp_path, monkeypatch):
    place = Place(Cache(tmp_path), "Qwen3-VL-2B", "standins", "cpu")
    found = fit_map(place, SMALL, [0.0, 6.0], [1.0], workers=1)
    assert len(found) == 2 * 4 * 4 and set(found["beta"]) == {0.0, 6.0}
    assert all(len(scores["masked"]) == len(scores["unmasked"]) == SMALL.seeds for scores in found["by_seed"])
    monkeypatch.setattr("radar_suite.studies.cells.fit_cell", None)
    monkeypatch.setattr("radar_suite.studies.frozen.encode_slice", None)
    pd.testing.assert_frame_equal(found, fit_map(place, SMALL, [0.0, 6.0], [1.0], workers=1))
