"""The thirteen rows and the grid: what is the same run, what is not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from radar_lib.data.posts import Posts, write_corpus
from radar_lib.errors import RadarError
from radar_lib.models.text import SHARED, TextLimit
from radar_suite.intake.texts import text_limit
from radar_suite.report import experiments
from radar_suite.report.experiments import ROUTER_ROWS, TABLE_ROWS, Settings

GRID = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
SETTINGS = Settings(epochs=3, batch_size=32, learning_rate=1e-3, lora_rank=8, lora_alpha=16, seed=1, expert_epochs=5)


def test_the_rows_are_the_papers():
    from importlib.resources import files

    paper = pd.read_csv(str(files("radar_suite.report") / "paper/table1.csv"))
    assert [[row.loss, row.method] for row in TABLE_ROWS] == paper[["loss", "method"]].to_numpy().tolist()


def test_two_points_of_the_grid_are_table_rows_and_no_others():
    rows = {SETTINGS.router(row, ("A", "B"), lam=0.5) for row in ROUTER_ROWS}
    grid = [SETTINGS.lambda_point(lam, ("A", "B")) for lam in GRID]
    assert [spec.recipe.lam for spec in grid if spec in rows] == [0.0, 0.5]
    assert len(rows) == 12 and len(rows | set(grid)) == 17


def test_built_in_posts_are_read_as_their_record_was_made_and_others_field_by_field():
    built_in, own = (Posts(Path("x"), {"kind": kind}) for kind in ("built-in", "imported"))
    assert text_limit(built_in) == SHARED
    assert text_limit(own) == TextLimit(256) and all(share > 0 for share in TextLimit().shares)
    assert [text_limit(posts, 512).tokens for posts in (built_in, own)] == [512, 512]


def test_there_is_a_seed_at_least():
    with pytest.raises(RadarError, match="seeds is 0"):
        experiments.train_seeds(None, [SETTINGS.expert("A")], seeds=0, titles=["a"], workers=1)


@pytest.mark.parametrize("holes, trained", [(False, 3), (True, 4)])
def test_without_unverified_cells_the_mask_makes_no_second_run(tmp_path, monkeypatch, sound, holes, trained):
    rows = sound()  # verified for both risks
    if holes:
        next(row for row in rows if row["split"] == "train")["label_B"] = -1
    posts = write_corpus(tmp_path / "c", rows, name="mine", kind="imported", categories=("A", "B"))
    asked = []
    monkeypatch.setattr(experiments, "train_all", lambda lab, specs, titles, **_: asked.extend(specs) or list(specs))
    rows = [row for row in ROUTER_ROWS if row.method in ("SigLIP2", "Qwen3-VL-4B")]
    specs = [SETTINGS.router(row, ("A", "B"), lam=0.5) for row in rows]
    found = experiments.train_seeds(SimpleNamespace(posts=posts), specs, titles=[row.loss for row in rows], seeds=2)
    assert len(asked) == len(set(asked)) == 2 * trained and experiments.nothing_to_mask(posts) is not holes
    pairs = {row.loss: runs for row, runs in zip(rows, found, strict=True) if row.method == "SigLIP2"}
    assert (pairs["BCE w/o Mask"] == pairs["Masked BCE"]) is not holes
    assert [[run.recipe.seed for run in runs] for runs in found] == [[1, 2]] * len(rows)


def test_each_backbone_is_met_once_in_training_order():
    names = [row.backbone for row in experiments.in_training_order(ROUTER_ROWS)]
    changes = sum(a != b for a, b in zip(names, names[1:], strict=False))
    assert changes == 5 and sorted(names) == sorted(row.backbone for row in ROUTER_ROWS)
