"""A run agrees with a record unless a cell leaves its interval, a verdict changes, or equal causes differ in effect."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest

from radar_lib.errors import RadarError
from radar_lib.files import write_json
from radar_suite.chain.verify import LAMBDAS, ROWS, agree
from radar_suite.report import agreement
from radar_suite.report.record import COLUMNS
from radar_suite.report.row_scores import RowScores
from radar_suite.report.stated import INTERVALS
from radar_suite.report.verify import TABLES

ROW = ("Masked BCE", "x")
CELLS = [("A", "PR-AUC"), ("A", "R@P60"), ("B", "PR-AUC")]
STAMP = {"data_digests": {"posts": "p"}, "device": "CPU, 2 threads", "versions": {"torch": "2"}, "library_digest": "l",
         "seed": 1, "parameters": {}}  # fmt: skip


@pytest.mark.parametrize(("value", "agrees"), [(0.5, True), (0.59, True), (0.61, False), (0.39, False)])
def test_a_number_agrees_inside_the_committed_interval(value, agrees):
    assert agreement.within(value, {"value": 0.5, "low": 0.4, "high": 0.6}) == agrees
    assert agreement.within(value, {"value": 0.5, "low": float("nan"), "high": 0.6}) == (value == 0.5)


def write(figures, values=(0.5, 0.5, 0.5), *, verdict="holds here", seeds=(1,), config="{}", grid=None, **stamp):
    """Files of numbers, scores and stamp as a run of one row leaves them, in one folder or by notebook."""
    figures.mkdir(parents=True)
    keys = {"loss": ROW[0], "method": ROW[1]}
    lines = [keys | {"category": c, "metric": m, "value": v, "low": 0.4, "high": 0.6}
             for (c, m), v in zip(CELLS, values, strict=True)]  # fmt: skip
    pd.DataFrame(lines).to_csv(figures / INTERVALS, index=False)
    pd.DataFrame({"claim": ["masks help"], "verdict": [verdict]}).to_csv(figures / "claims.csv", index=False)
    pd.DataFrame({"claim": ["lambda helps"], "verdict": ["inconclusive"]}).to_csv(
        (grid or figures) / "lambda_claims.csv", index=False
    )
    scores = RowScores(["p"], np.ones((1, 1), dtype=np.int8), ("A",), {ROW: {seed: np.ones((1, 1)) for seed in seeds}})
    scores.write(figures / f"{TABLES}.parquet")
    write_json(figures / f"{TABLES}.json", STAMP | stamp)


@pytest.fixture
def beside(tmp_path, capsys):
    """Count of disagreements of a run with a record of one seed and values 0.5, and what was said."""
    write(tmp_path / "record")

    def run(*args, **options):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        (tmp_path / "run" / LAMBDAS / "figures").mkdir(parents=True)
        write(tmp_path / "run" / ROWS / "figures", *args, grid=tmp_path / "run" / LAMBDAS / "figures", **options)
        count = agree(tmp_path / "run", tmp_path / "record", what="run against record")
        return count, capsys.readouterr().out

    return run


def test_equal_causes_must_have_equal_effects(beside):
    count, said = beside()
    assert count == 0 and "so results must be" in said and "3 cells: all agree" in said
    count, said = beside((0.5, 0.51, 0.5))
    assert count == 1 and "A R@P60: stated 0.5000 [0.4000, 0.6000], this run 0.5100" in said


@pytest.mark.parametrize(
    ("other", "word"),
    [
        ({"device": "CPU, 8 threads"}, "device"),
        ({"versions": {"torch": "3"}}, "versions"),
        ({"library_digest": "m"}, "library code"),
        ({"data_digests": {"posts": "q"}}, "posts"),
        ({"parameters": {"checkpoints": "hub"}}, "parameters"),
        ({"seeds": (2,)}, "seeds"),
    ],
)
def test_elsewhere_small_changes_are_told_in_one_line_and_large_ones_named(beside, other, word):
    count, said = beside((0.5, 0.51, 0.48), **other)
    assert count == 0 and f"other {word}" in said
    assert "2 of 3 cells changed within their interval, largest 2.00 points" in said and "[0.4" not in said
    count, said = beside((0.5, 0.51, 0.7), **other)
    assert count == 1 and "1 differ" in said and "B PR-AUC: stated 0.5000 [0.4000, 0.6000], this run 0.7000" in said


def test_a_changed_verdict_is_named(beside):
    count, said = beside(verdict="fails here", device="another")
    assert count == 1 and "masks help; verdict: stated holds here, this run fails here" in said


def test_means_over_other_numbers_of_seeds_are_held_against_the_interval_only(beside):
    count, said = beside((0.5, 0.51, 0.5), seeds=(1, 2, 3), verdict="inconclusive")
    assert count == 0 and "means over other numbers of seeds are compared" in said
    assert "verdicts, which rest on other numbers of seeds: 1 differ" in said
    assert beside((0.5, 0.3, 0.5), seeds=(1, 2, 3))[0] == 1


def test_the_record_of_runs_tells_other_parameters_of_training(tmp_path):
    for name, config in (("run", '{"epochs": 1}'), ("record", '{"epochs": 3}')):
        write(tmp_path / name)
        line = dict.fromkeys(COLUMNS, "") | {"study": "tables", "row": "x", "config": config}
        pd.DataFrame([line]).to_parquet(tmp_path / name / "runs.parquet")
    records = tuple(tmp_path / name / "runs.parquet" for name in ("run", "record"))
    assert agreement.apart(tmp_path / "run", tmp_path / "record", records=records) == ["parameters"]
    assert agreement.apart(tmp_path / "run", tmp_path / "record", records=(records[0], records[0])) == []


def test_cells_that_only_one_has_and_folders_that_are_no_record(tmp_path):
    write(tmp_path / "record")
    path = tmp_path / "record" / INTERVALS
    frame = pd.read_csv(path)
    frame.iloc[:2].to_csv(tmp_path / "less.csv", index=False)
    found = agreement.compare({INTERVALS: tmp_path / "less.csv"}, tmp_path / "record")
    assert found.cells == 3 and [(one.stated, one.found) for one in found.outside] == [("0.5000", "(missing)")]
    with pytest.raises(RadarError, match="no intervals.csv"):
        agreement.compare({INTERVALS: path}, tmp_path)
