"""What mends a mask: weights that stand for another population, and ordinary posts that close a gap they caused."""

import numpy as np
import pandas as pd
import pytest

from radar_lib.training.cache import Cache
from radar_suite.report.comparison import study_values
from radar_suite.studies.cells import Level, MapSettings
from radar_suite.studies.heads import HeadRecipe
from radar_suite.studies.interventions import (
    QUEUES,
    TRAFFIC,
    Variant,
    fit_interventions,
    inverse_weights,
    member_of,
    variants,
)
from radar_suite.studies.maps import cells_of
from radar_suite.studies.pool import BLIND, Cell, draw_traffic, draw_training_set, plan_pool
from radar_suite.world.dials import sizes_of
from radar_suite.world.pipelines import Intake

SETTINGS = MapSettings(posts=800, pool_posts=6000, test_posts=1500, own_posts=200, seed=1, seeds=2,
                       recipe=HeadRecipe(epochs=8))  # fmt: skip
STRONG = Cell(Intake(6.0), 0.9)


@pytest.fixture(scope="module")
def level():
    """A pool whose features are noisy posteriors, and how much a post looks like what its queues hunt."""
    pool = plan_pool(SETTINGS.corpus(0.9))
    test = type(pool.signals).of(pool.selections[-1].facts)
    rng, parts = np.random.default_rng(0), []
    for signals in (pool.signals, test):
        odds = np.log(signals.posteriors.clip(1e-4, 0.99))
        parts.append(np.column_stack([odds, 4 * signals.cues]) + rng.normal(0, 0.5, (len(odds), 6)))
    return Level(
        0.9, pool, np.concatenate(parts).astype(np.float32) @ rng.normal(size=(6, 12)).astype(np.float32), "pool"
    )


@pytest.fixture(scope="module")
def drawn(level):
    return draw_training_set(level.pool, intake=Intake(1.5), sizes=sizes_of(2400), seed=1)


def test_weights_have_mean_one_where_verified_and_follow_the_inverse_chance(level, drawn):
    cell, known = Cell(Intake(1.5), 0.9), drawn.labels >= 0
    for population in (QUEUES, TRAFFIC):
        weights = inverse_weights(level, cell, drawn, population)
        assert (weights[~known] == 0).all() and (weights[known] > 0).all()
        assert weights.sum(axis=0) == pytest.approx(known.sum(axis=0))
    chance = np.exp(1.5 * level.pool.signals.cues[drawn.rows, 0])
    product = (weights[:, 0] * chance)[known[:, 0]]  # those to traffic
    assert product == pytest.approx(product[0])


def test_weighed_cells_stand_for_the_posts_of_all_queues(level, drawn):
    """Means of cues over a risk's verified cells, weighed, against those of all training posts."""
    weights, known = inverse_weights(level, Cell(Intake(1.5), 0.9), drawn, QUEUES), drawn.labels >= 0
    for k in range(3):
        cues = level.pool.signals.cues[drawn.rows]
        every, own = cues.mean(axis=0)[k], cues[known[:, k], k].mean()
        weighed = np.average(cues[:, k], weights=weights[:, k])
        assert abs(weighed - every) < 0.35 * abs(own - every), "most of the way from its own queue to all"


def test_ordinary_posts_are_traffic_that_nobody_drew_and_more_hold_fewer(level, drawn):
    taken = drawn.rows[:200]
    few, many = (draw_traffic(level.pool, posts=n, seed=1, without=taken) for n in (300, 900))
    assert set(few) <= set(many) and not set(many) & (set(taken) | set(np.flatnonzero(level.pool.held_out)))
    cues, share = level.pool.signals.cues, level.pool.weight / level.pool.weight.sum()
    traffic, pool = share @ cues, cues.mean(axis=0)
    assert (np.abs(cues[few].mean(axis=0) - traffic) < 0.5 * np.abs(pool - traffic)).all()


def test_a_variants_member_has_its_posts_and_cells(level, drawn):
    plain, more = (member_of(level, STRONG, Variant("masked", n), drawn, 1) for n in (0, 50))
    assert (more.rows[: len(plain.rows)] == plain.rows).all() and len(more.rows) == len(plain.rows) + 50
    assert (more.targets[-50:] == 0).all() and (more.weights[-50:] == 1).all()


def test_a_gap_that_ordinary_posts_cause_is_closed_by_them_and_all_of_it_is_kept(level, tmp_path, monkeypatch):
    found = fit_interventions(Cache(tmp_path), [(level, STRONG, SETTINGS)], workers=1)
    assert set(found["row"]) == {variant.name for variant in variants(800)} and len(found) == 10 * 2 * 4 * 4
    area = cells_of(found, population=BLIND).set_index("row")
    untouched, most = area.loc["masked, 0 ordinary posts"], area.loc["masked, 800 ordinary posts"]
    assert untouched["high"] < 0, "it loses"
    assert most["moved_low"] > 0, "and is mended"
    assert most["moved"] > area.loc["unmasked, 800 ordinary posts", "gain"], "not only by posts as such"
    assert untouched["moved"] == area.loc["unmasked, 0 ordinary posts", "gain"] == 0
    means = found.assign(value=found["by_seed"].map(np.mean), row=found["row"] + ", " + found["population"])
    means = means.groupby(["row", "category", "metric"])["value"].mean()
    for line in found.to_dict("records")[::7]:
        said = study_values("phase interventions", line, means)
        assert said == pytest.approx({name: line[name] for name in said})
    monkeypatch.setattr("radar_suite.studies.interventions.fit_intervention", None)
    pd.testing.assert_frame_equal(found, fit_interventions(Cache(tmp_path), [(level, STRONG, SETTINGS)], workers=1))
