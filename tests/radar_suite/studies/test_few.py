"""A few cells without their pool's features: the same posts, features and training sets as the whole pool gives."""

from dataclasses import replace

import numpy as np
import pytest

from radar_lib.models.backbones import BACKBONES
from radar_lib.training.cache import Cache
from radar_suite.studies.cells import MapSettings, cell_lines, open_levels
from radar_suite.studies.few import open_few, take_rows
from radar_suite.studies.frozen import Place
from radar_suite.studies.heads import HeadRecipe
from radar_suite.studies.interventions import intervention_lines
from radar_suite.studies.pool import Cell, plan_pool
from radar_suite.world.pipelines import Intake
from radar_suite.world.standins.checkpoint import write_random_standin
from radar_suite.world.standins.geometry import GEOMETRIES, tiny

SMALL = MapSettings(posts=120, pool_posts=1200, test_posts=400, own_posts=120, seed=1, seeds=2, frame_px=48,
                    recipe=HeadRecipe(epochs=1))  # fmt: skip


@pytest.fixture
def place(tmp_path):
    folder = BACKBONES["Qwen3-VL-2B"].folder
    write_random_standin(tmp_path / "checkpoints" / folder, folder, ["a post of few words"] * 9,
                         geometry=tiny(GEOMETRIES[folder]), vocabulary=300)  # fmt: skip
    return Place(Cache(tmp_path / "cache"), "Qwen3-VL-2B", str(tmp_path / "checkpoints"), "cpu")


def test_cells_are_those_of_the_whole_pool_and_nothing_else_is_encoded(place):
    cell, strong, few = Cell(Intake(1.5, 0.5, 1.0), 0.9), Cell(Intake(6.0), 0.9), replace(SMALL, posts=60)
    (whole,) = open_levels(place, SMALL, [0.9], workers=1)
    level = open_few(place, [(cell, SMALL)], [(strong, few)], workers=1)
    known = ~np.isnan(level.features).any(axis=1)
    assert 0 < (~known[: len(level.pool)]).mean() < 1 and known[len(level.pool) :].all()
    assert level.features[known] == pytest.approx(whole.features[known], abs=1e-5)
    assert level.digest != whole.digest
    for fit, *work in ((lambda *job: cell_lines(*job)["lines"], cell, SMALL), (intervention_lines, strong, few)):
        ours, theirs = fit(level, *work), fit(whole, *work)
        assert len(ours) == len(theirs) > 0
        for one, other in zip(ours, theirs, strict=True):
            assert one["gain"] == pytest.approx(other["gain"], abs=0.02)  # batches round features otherwise


def test_rows_are_counted_over_all_selections():
    pool = plan_pool(SMALL.corpus(0.9))
    rows = np.array([0, 599, 600, 1199, 1200, 1599])
    parts = take_rows(pool, rows)
    facts = np.concatenate([one.index for one in pool.selections])
    assert [len(one) for one in parts] == [2, 2, 2]
    assert np.concatenate([one.index for one in parts]).tolist() == facts[rows].tolist()
