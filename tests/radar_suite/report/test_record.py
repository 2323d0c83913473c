"""The record of runs: a line per seed, and no line twice."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from radar_lib.errors import RadarError
from radar_suite.report import record
from radar_suite.report.row_scores import RowScores
from radar_suite.report.workspace import Workspace

EXPERTS, ROUTER = ("BCE", "Individual Experts"), ("Masked BCE", "x")


def entry(row, seed, run, **config):
    return {"loss": row[0], "method": row[1], "seed": seed, "run": run, "seconds": 10.0, "config": config}


@pytest.fixture
def world(tmp_path):
    generator = np.random.default_rng(0)
    truth = np.full((60, 2), -1)
    truth[np.arange(60), np.arange(60) % 2] = np.arange(60) % 5 == 0
    rows = {row: {seed: generator.normal(size=truth.shape) for seed in (1, 2)} for row in (EXPERTS, ROUTER)}
    scores = RowScores([str(i) for i in range(60)], truth, ("A", "B"), rows)
    index = [entry(EXPERTS, seed, f"{c}{seed}", lora_rank=8) for seed in (1, 2) for c in "AB"]
    index += [entry(ROUTER, seed, f"r{seed}", lora_rank=4, lam=0.5) for seed in (1, 2)]
    ws = Workspace.open("06", {"runs_dir": str(tmp_path), "profile": "p", "seed": 1, "device": "cpu"})
    return ws, scores, index


def test_every_seed_is_a_line_of_its_own_and_a_second_run_doubles_none(world):
    ws, scores, index = world
    path = record.enter(ws, "tables", scores, index)
    first = record.read_record(path)
    assert path == ws.runs_dir / "p" / record.FILE and len(first) == 2 * 2 * 3 * 4
    assert len(record.read_record(record.enter(ws, "tables", scores, index))) == len(first)
    scored = scores.scored()
    for line in first.to_dict("records"):
        row = tuple(line["row"].split(", "))
        assert line["value"] == scored[row][line["seed"]][line["category"]][line["metric"]]


def test_a_line_says_what_ran_and_how_long_and_experts_are_joined(world):
    ws, scores, index = world
    lines = record.read_record(record.enter(ws, "tables", scores, index)).set_index(["row", "seed"])
    experts, router = (lines.loc[(", ".join(row), 2)].iloc[0] for row in (EXPERTS, ROUTER))
    assert (experts["run"], experts["seconds"]) == ("A2 B2", 20.0) and (router["run"], router["seconds"]) == ("r2", 10)
    assert json.loads(router["config"]) == {"lora_rank": 4, "lam": 0.5} and "torch" in json.loads(router["versions"])
    assert router["device"]


def test_other_studies_stay_and_a_missing_record_is_named(world):
    ws, scores, index = world
    record.enter(ws, "tables", scores, index)
    both = record.read_record(record.enter(ws, "again", scores.only(lambda row: row == ROUTER), index))
    assert both["study"].value_counts().to_dict() == {"tables": 48, "again": 24}
    with pytest.raises(RadarError, match="does not exist"):
        record.read_record(ws.runs_dir / "none.parquet")


def test_times_alone_change_no_line(world):
    ws, scores, index = world
    path = record.enter(ws, "tables", scores, index)
    before = path.read_bytes()
    longer = [one | {"seconds": 99.0} for one in index]
    assert record.enter(ws, "tables", scores, longer).read_bytes() == before
    moved = replace(scores, rows={row: {seed: one + (row == ROUTER) * np.arange(120).reshape(60, 2) for seed, one in
                                        runs.items()} for row, runs in scores.rows.items()})  # fmt: skip
    seconds = entered(ws, moved, longer).groupby("row")["seconds"].agg(set).to_dict()
    assert seconds["BCE, Individual Experts"] == {20.0} and 99.0 in seconds["Masked BCE, x"]


def entered(ws, scores, index, study="tables"):
    return record.read_record(record.enter(ws, study, scores, index))


def seeds_of(scores, *seeds):
    return replace(scores, rows={row: {seed: runs[seed] for seed in seeds} for row, runs in scores.rows.items()})


def test_a_study_that_is_entered_whole_keeps_no_seed_row_or_risk_of_before(world):
    ws, scores, index = world
    entered(ws, scores, index, "lambda")
    entered(ws, scores, index)
    found = entered(ws, seeds_of(scores, 1).only(lambda row: row == ROUTER), index)
    tables = found[found["study"] == "tables"]
    assert set(tables["seed"]) == {1} and set(tables["row"]) == {"Masked BCE, x"}
    assert set(found[found["study"] == "lambda"]["seed"]) == {1, 2}
    other = replace(scores, categories=("A", "C"))
    assert set(entered(ws, other, index).query("study == 'tables'")["category"]) == {"A", "C", "Average"}


def test_a_study_that_is_entered_row_by_row_keeps_its_other_rows_but_none_on_other_posts(world):
    ws, scores, index = world

    def add(row, posts, seeds=(1,)):
        ws.uses(posts=posts)
        lines = [record.run_lines("losses", row, seed, scores.scored()[ROUTER][1], run="r", config={}, seconds=1.0,
                                  workspace=ws) for seed in seeds]  # fmt: skip
        record.record(ws.runs_dir / "p" / record.FILE, pd.concat(lines))
        return record.read_record(ws.runs_dir / "p" / record.FILE)

    ws.uses(posts="one")
    entered(ws, scores, index)
    assert set(add("Mask", "one", seeds=(1, 2, 3)).query("study == 'losses'")["seed"]) == {1, 2, 3}
    assert set(add("Mask", "one").query("study == 'losses'")["seed"]) == {1}, "no seed is left of a run with more"
    found = add("Doubly robust", "one")
    assert set(found.query("study == 'losses'")["row"]) == {"Mask", "Doubly robust"}
    found = add("Mask", "two")
    assert set(found.query("study == 'losses'")["row"]) == {"Mask"}
    assert set(found.query("study == 'losses'")["posts_digest"]) == {"two"}
    assert set(found.query("study == 'tables'")["posts_digest"]) == {"one"}, "another study has its own posts"
