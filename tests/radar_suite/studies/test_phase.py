"""The phase study: intervals of a gain, its record and captions, and a choice of recipe that reads no test post."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from radar_lib.evidence import AREA, AVERAGE, Evidence
from radar_lib.intervals import average_precision_difference
from radar_lib.metrics import average_precision
from radar_lib.sources import source_digests
from radar_lib.training.cache import Cache
from radar_suite.report.comparison import study_values
from radar_suite.report.record import read_record
from radar_suite.report.workspace import Workspace
from radar_suite.studies import phase
from radar_suite.studies.cells import REPLICATES, Level, MapSettings, fit_cells, gain_lines
from radar_suite.studies.heads import HeadRecipe
from radar_suite.studies.pool import POPULATIONS, Cell, plan_pool
from radar_suite.studies.stage import Stage, StudiesWorkspace
from radar_suite.world.pipelines import Intake

SMALL = MapSettings(posts=150, pool_posts=900, test_posts=300, own_posts=90, seed=1, seeds=2,
                    recipe=HeadRecipe(epochs=1))  # fmt: skip


def scored(categories, seed=0, posts=240):
    """Truth with one verified category per post, and logits of three routers a kind; the masked ones know more."""
    rng = np.random.default_rng(seed)
    k = len(categories)
    truth = np.full((posts, k), -1, np.int8)
    truth[np.arange(posts), np.arange(posts) % k] = rng.random(posts) < 0.3
    masked, unmasked = ([rng.normal(size=(posts, k)) + shift * (truth == 1) for _ in range(3)] for shift in (1.5, 0.5))
    return truth, masked, unmasked


@pytest.mark.parametrize("categories", [["a"], ["a", "b", "c"], list("abcdefg")])
def test_gain_and_its_interval_over_test_posts_and_seeds(categories):
    truth, masked, unmasked = scored(categories)
    lines = pd.DataFrame(gain_lines(truth, masked, unmasked, seed=1, categories=categories))
    assert list(dict.fromkeys(lines["category"])) == [*categories, AVERAGE]
    assert lines["gain"].to_numpy() == pytest.approx((lines["masked"] - lines["unmasked"]).to_numpy())
    evidence = Evidence(truth, {"m": masked, "u": unmasked}, categories, replicates=REPLICATES, seed=1)
    for line in lines.to_dict("records"):
        posts = evidence.difference("m", "u", line["category"], line["metric"])
        seeds = ttest_rel(line["by_seed"]["masked"], line["by_seed"]["unmasked"]).confidence_interval(0.95)
        assert line["high"] - line["gain"] == pytest.approx(
            np.hypot(posts.high - line["gain"], seeds.high - line["gain"])
        )
        assert line["half_width"] == pytest.approx((line["high"] - line["low"]) / 2)


def test_one_seed_has_the_interval_over_test_posts_only():
    truth, masked, unmasked = scored(["a", "b"])
    for line in gain_lines(truth, masked[:1], unmasked[:1], seed=1, categories=["a", "b"]):
        if line["metric"] == AREA and line["category"] == "a":
            known = truth[:, 0] >= 0
            exact = average_precision_difference(truth[known, 0], masked[0][known, 0], unmasked[0][known, 0])
            assert (line["gain"], line["low"]) == pytest.approx((exact.estimate, exact.low))


def test_equal_routers_gain_nothing():
    truth, masked, _ = scored(["a", "b", "c"])
    for line in gain_lines(truth, masked, masked, seed=1, categories=["a", "b", "c"]):
        assert line["gain"] == line["low"] == line["high"] == 0.0


@pytest.mark.parametrize("module", ["cells", "frozen", "interventions", "propensities"])
def test_cached_work_is_keyed_by_what_decides_it(module):
    """A figure, a caption or the notebooks' workspace makes no cell, feature or propensity stale."""
    names = source_digests(f"radar_suite.studies.{module}")
    assert f"radar_suite.studies.{module}" in names
    assert not [name for name in names if name.startswith("radar_suite.report") or name.endswith((".maps", ".stage"))]


@pytest.mark.parametrize("intake", [Intake(1.5, 0.7, 1.5), Intake(0.3, 0.33, 0.2), Intake()])
def test_the_chains_own_setting_is_a_cell_of_the_map_of_the_intake_line_and_of_the_size_line(intake):
    own = Cell(intake, 0.8)
    for cells in (phase.map_cells(own), phase.intake_cells(own), phase.size_cells(own), phase.level_cells(own)):
        assert own in cells and len(cells) == len(set(cells)) and len(cells) >= 2
    for cells in (phase.map_cells(own), phase.intake_cells(own), phase.size_cells(own)):
        assert {cell.co_violation for cell in cells} == {0.8}, "one pool serves all"


def test_every_head_of_a_map_is_in_the_record(tmp_path):
    truth, masked, unmasked = scored(["a", "b"])
    lines = pd.DataFrame(gain_lines(truth, masked, unmasked, seed=1, categories=["a", "b"]))
    lines = lines.assign(focus=0.5, overlap=0.0, co_violation=1.0, training_posts=150, seconds=6.0, posts="pool")
    lines = pd.concat([lines.assign(beta=beta, population=population, run=f"run {beta:g}")
                       for beta in (0.0, 6.0) for population in POPULATIONS])  # fmt: skip
    stage = a_stage(tmp_path)
    phase.record_cells(stage, "phase", lines, "backbone", seed=4)
    kept = read_record(stage.record_path)
    assert (
        len(kept) == 2 * 2 * 2 * 3 * 3 * 4 and set(kept["seed"]) == {4, 5, 6} and set(kept["posts_digest"]) == {"pool"}
    )
    assert (kept["seconds"] == 0.5).all()
    one = kept[kept["row"] == "unmasked, beta 6, focus 0.5, overlap 0, 150 posts, own stream"]
    one = one[(one["seed"] == 5) & (one["category"] == "b") & (one["metric"] == AREA)]
    known = truth[:, 1] >= 0
    assert one["value"].item() == pytest.approx(average_precision(truth[known, 1], unmasked[1][known, 1]))
    means = kept.groupby(["row", "category", "metric"])["value"].mean()
    for line in lines.to_dict("records"):  # what `radar verify` holds the study's table against
        said = study_values("phase", line, means)
        assert said == pytest.approx({name: line[name] for name in said})


def a_stage(folder):
    workspace = StudiesWorkspace.of(Workspace.open("studies", {"runs_dir": str(folder), "profile": "p", "seed": 1}))
    return Stage(workspace, None, None, None, 1, 1, {})


@pytest.fixture(scope="module")
def level():
    """A small pool whose features are noisy facts, test posts' unknown."""
    pool = plan_pool(SMALL.corpus(0.9))
    rng = np.random.default_rng(0)
    parts = np.column_stack([pool.signals.cues, pool.signals.at_home, 4 * pool.truth]).astype(float)
    facts = parts @ rng.normal(size=(9, 8)) + rng.normal(size=(len(pool), 8))
    return Level(0.9, pool, np.concatenate([facts, np.full((len(pool.test_labels), 8), np.nan)]), "pool")


def test_recipes_are_compared_on_training_posts_only(level):
    features = np.where(np.append(level.pool.held_out, [True] * 300)[:, None], np.nan, level.features)
    recipes = [SMALL.recipe, HeadRecipe(epochs=30)]
    found = phase.compare_recipes(replace(level, features=features), SMALL, recipes, intake=Intake(1.5))
    assert found["used"].tolist() == [True, False]
    assert found["mean"].to_numpy() == pytest.approx(found[["masked", "unmasked"]].mean(axis=1).to_numpy())
    assert found["mean"][1] > found["mean"][0]


def test_cells_are_kept_by_setting_and_size_and_read_again(level, tmp_path, monkeypatch):
    noise = np.random.default_rng(1).normal(size=level.features.shape)
    level = replace(level, features=np.where(np.isnan(level.features), noise, level.features))
    cell, more = Cell(Intake(1.5, 0.5, 1.0), 0.9), replace(SMALL, posts=200)
    found = fit_cells(Cache(tmp_path), [(level, cell, SMALL), (level, cell, more)], workers=1)
    assert found.groupby(["training_posts", "population"]).size().tolist() == [4 * 4] * 4
    assert set(found["focus"]) == {0.5} and (found["half_width"] >= 0).all()
    assert all(len(scores["masked"]) == SMALL.seeds for scores in found["by_seed"])
    monkeypatch.setattr("radar_suite.studies.cells.fit_cell", None)
    again = fit_cells(Cache(tmp_path), [(level, cell, SMALL), (level, cell, more)], workers=1)
    pd.testing.assert_frame_equal(found, again)


@pytest.mark.slow
def test_a_whole_study_at_its_smallest_is_recorded_and_fits_nothing_twice(stage, monkeypatch):
    small = {"FOCUS": (0.0, 0.5), "OVERLAP": (0.0, 1.0), "BETAS": (0.0, 6.0), "LEVELS": (0.0, 1.0), "TIMES": (1, 2, 3)}
    small |= {"SEEDS": 2, "POOL_TIMES": 20, "OWN_SHARE": 3, "LIMIT_BLOCKS": 2, "RECIPES": (HeadRecipe(epochs=1),)}
    for name, value in small.items():
        monkeypatch.setattr(phase, name, value)
    phase.study(stage)
    folder = stage.workspace.path("figures")
    cells, limit, tuned, mended = (pd.read_csv(folder / f"phase{name}.csv")
                                   for name in ("", "_limit", "_lora", "_interventions"))  # fmt: skip
    assert len(cells) == (4 + 4 + 6) * 2 * 4 * 4 and cells["own"].sum() == 3 * 2 * 4 * 4
    assert set(limit["co_violation"]) == {0.0, 0.9, 1.0} and limit["own"].any()
    assert len(tuned) == 3 * 2 * 4 * 4 and tuned["own"].sum() == 2 * 4 * 4
    kept, tables = read_record(stage.record_path).set_index("study"), (cells, tuned, mended)
    for name, table in zip(("phase", "phase LoRA", "phase interventions"), tables, strict=True):
        means = kept.loc[name].groupby(["row", "category", "metric"])["value"].mean()
        for line in table.to_dict("records"):
            said = study_values(name, line, means)
            assert said == pytest.approx({key: line[key] for key in said}, abs=1e-5, nan_ok=True)
    figures = {"map", "limit_map", "lines", "levels", "mended", "summary"}
    assert {path.stem for path in folder.glob("phase_*.png")} == {f"phase_{name}" for name in figures}
    for module, function in (("cells", "fit_cell"), ("interventions", "fit_intervention"), ("frozen", "encode_slice")):
        monkeypatch.setattr(f"radar_suite.studies.{module}.{function}", None)
    monkeypatch.setattr("radar_lib.training.lab.Lab._fine_tune", None)
    before = (folder / "phase.csv").read_bytes()
    phase.study(stage)
    assert (folder / "phase.csv").read_bytes() == before
