"""The thirteen rows and the grid: what is the same run, what is not."""

from __future__ import annotations

import pandas as pd
import pytest

from radar_lib.errors import RadarError
from radar_suite.report import experiments
from radar_suite.report.experiments import ROUTER_ROWS, TABLE_ROWS, Settings

GRID = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
SETTINGS = Settings(epochs=3, batch_size=32, learning_rate=1e-3, lora_rank=8, lora_alpha=16, seed=1, expert_epochs=5)


def test_the_rows_are_the_papers():
    from importlib.resources import files

    paper = pd.read_csv(str(files("radar_suite.report") / "paper/table1.csv"))
    assert [(row.loss, row.method) for row in TABLE_ROWS] == list(
        paper[["loss", "method"]].itertuples(index=False, name=None)
    )


def test_two_points_of_the_grid_are_table_rows_and_no_others():
    rows = {SETTINGS.router(row, ("A", "B"), lam=0.5) for row in ROUTER_ROWS}
    grid = [SETTINGS.lambda_point(lam, ("A", "B")) for lam in GRID]
    assert [spec.recipe.lam for spec in grid if spec in rows] == [0.0, 0.5]
    assert len(rows) == 12 and len(rows | set(grid)) == 17


def test_seeds_count_up_from_the_settings_own(monkeypatch):
    told = {}

    def train_all(lab, specs, *, titles, workers):
        told.update(titles=titles, workers=workers)
        return list(specs)

    monkeypatch.setattr(experiments, "train_all", train_all)
    specs = [SETTINGS.expert("A"), SETTINGS.expert("B")]
    options = {"titles": ["a", "b"], "workers": 2}
    assert experiments.train_seeds(None, specs, seeds=1, **options) == [[specs[0]], [specs[1]]]
    assert told == options
    found = experiments.train_seeds(None, specs, seeds=2, **options)
    assert found == [[spec, spec.with_recipe(seed=2)] for spec in specs]
    assert told["titles"] == ["a, seed 1", "a, seed 2", "b, seed 1", "b, seed 2"]
    with pytest.raises(RadarError, match="seeds is 0"):
        experiments.train_seeds(None, specs, seeds=0, **options)


def test_an_index_is_read_seed_by_seed():
    index = [{"row": row, "seed": seed} for row in "ab" for seed in (3, 4, 5)]
    assert experiments.by_seed(index)[0] == [{"row": "a", "seed": 3}, {"row": "b", "seed": 3}]


def test_an_expert_is_a_router_with_one_head_and_its_own_epochs():
    spec = SETTINGS.expert("FE")
    assert spec.categories == ("FE",) and spec.backbone == "Qwen3-VL-8B" and spec.recipe.epochs == 5


def test_each_backbone_is_met_once_in_training_order():
    names = [row.backbone for row in experiments.in_training_order(ROUTER_ROWS)]
    changes = sum(a != b for a, b in zip(names, names[1:], strict=False))
    assert changes == 5 and sorted(names) == sorted(row.backbone for row in ROUTER_ROWS)
