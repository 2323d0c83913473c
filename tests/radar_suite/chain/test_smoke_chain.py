"""The whole chain at its smallest size, as a user runs it: to the end, again, and killed in the middle."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from radar_lib.files import read_json
from radar_suite.chain import exits
from radar_suite.chain.cli import main
from radar_suite.chain.publish import publish
from radar_suite.report.record import read_record
from radar_suite.studies.controls import ROWS

ROOT = Path(__file__).parents[3]
TABLES = [f"06_tables_1_and_2/figures/table{n}.csv" for n in (1, 2)]


def reproduce(runs: Path, *options: str, **process) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "radar_suite", "reproduce", "--profile", "smoke", "--runs", str(runs), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **process)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One uninterrupted run."""
    runs = tmp_path_factory.mktemp("smoke") / "runs"
    result = reproduce(runs)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return runs


def test_the_chain_ends_with_tables_figures_and_a_report(finished):
    run = finished / "smoke"
    for table in TABLES:
        lines = (run / table).read_text().splitlines()
        assert len(lines) == 14 and all(len(line.split(",")) == 10 for line in lines)
    for suffix in ("svg", "png"):
        assert (run / f"07_lambda_study/figures/figure2.{suffix}").stat().st_size > 500
    assert (run / "report/index.html").stat().st_size > 10_000


def test_every_row_and_point_is_its_own_run_and_two_are_shared(finished):
    run = finished / "smoke"
    experts = {entry["run"] for entry in read_json(run / "03_expert_training/experts.json")}
    routers = [entry["run"] for entry in read_json(run / "05_router_training/routers.json")]
    grid = read_json(run / "07_lambda_study/lambda.json")["runs"]
    assert len(experts) == 3 and len(set(routers)) == 12
    shared = {entry["lambda"] for entry in grid if entry["run"] in routers}
    assert shared == {0.0, 0.5} and len({entry["run"] for entry in grid} - set(routers)) == 5
    references = read_json(run / "05_router_training/references.json")
    assert len({entry["run"] for entry in references} - set(routers)) == 2  # one is trained, one is fitted
    assert len(list((finished / "cache/training").iterdir())) == 3 + 12 + 5 + 1


def test_what_is_published_follows_from_its_scores_and_a_changed_result_does_not(finished, tmp_path, capsys):
    run, record = finished / "smoke", tmp_path / "figures"
    publish(run, ["06_tables_1_and_2", "07_lambda_study"], record)
    command = ["verify", "--profile", "smoke", "--runs", str(finished), "--against", str(record)]
    assert main(command) == exits.OK, capsys.readouterr().out
    path = run / "06_tables_1_and_2/figures/intervals.csv"
    kept = path.read_text()
    head, first, *lines = kept.splitlines(keepends=True)
    path.write_text("".join([head, first.replace(first.split(",")[4], "0.123"), *lines]))
    try:
        assert main(command) == exits.FAILURE
    finally:
        path.write_text(kept)
    assert "intervals.csv: BCE, Individual Experts, LQC, PR-AUC; value: stated 0.123" in capsys.readouterr().out


def test_a_second_run_is_up_to_date_and_quick(finished):
    started = time.monotonic()
    result = reproduce(finished)
    assert result.returncode == 0
    assert result.stdout.count("up to date") == len(list((ROOT / "notebooks").glob("*.ipynb")))
    assert time.monotonic() - started < 60  # the bar is 20 s on a quiet machine


def test_killed_in_router_training_it_resumes_to_the_same_bytes(finished, tmp_path):
    """The earlier notebooks' results are copied; the routers are trained anew, killed half-way, and finished."""
    runs = tmp_path / "runs"
    shutil.copytree(finished, runs)
    expected = [(finished / "smoke" / table).read_bytes() for table in TABLES]
    kept = {entry["run"] for entry in read_json(runs / "smoke/03_expert_training/experts.json")}
    for folder in (runs / "cache/training").iterdir():
        if folder.name not in kept:
            shutil.rmtree(folder)
    for name in ("05_router_training", "06_tables_1_and_2", "07_lambda_study"):
        shutil.rmtree(runs / "smoke" / name)

    command = [sys.executable, "-m", "radar_suite", "reproduce", "--profile", "smoke", "--runs", str(runs)]
    with open(tmp_path / "log", "w") as log:
        chain = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + 1200
    while len(done := [p for p in (runs / "cache/training").glob("*/run.json") if p.parent.name not in kept]) < 3:
        assert chain.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()[-2000:]
        time.sleep(0.2)
    os.killpg(chain.pid, signal.SIGKILL)
    chain.wait()
    times = {path: path.stat().st_mtime_ns for path in done}

    result = reproduce(runs)
    assert result.returncode == 0, result.stdout[-3000:]
    assert all(path.stat().st_mtime_ns == when for path, when in times.items()), "finished routers were trained again"
    assert [(runs / "smoke" / table).read_bytes() for table in TABLES] == expected


@pytest.mark.slow
def test_the_study_of_losses_on_what_the_chain_left(finished, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(finished, runs)
    command = [sys.executable, "-m", "radar_suite", "studies", "--profile", "smoke", "--runs", str(runs)]
    result = subprocess.run([*command, "--only", "losses"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    figures = runs / "smoke/studies/figures"
    frame = pd.read_csv(figures / "losses.csv")
    assert frame["row"].nunique() == 8 and set(frame["category"]) == {"LQC", "RCS", "FE", "Average"}
    for name in ("losses_differences.png", "losses_side.csv", "manifest.json"):
        assert (figures / name).stat().st_size > 200
    lines = read_record(runs / "smoke/runs.parquet")
    kept = lines[lines["study"] == "losses"]
    assert kept["run"].nunique() == 16 and set(kept["seed"]) == {1, 2}
    shared = {entry["run"] for entry in read_json(runs / "smoke/05_router_training/routers.json")} & set(kept["run"])
    assert len(shared) == 2, "the masked and the unmasked run of the first seed are table rows"
    table = kept[kept["metric"] == "PR-AUC"].groupby(["row", "category"])["value"].mean()
    area = frame[frame["metric"] == "PR-AUC"].set_index(["row", "category"])["value"]
    assert (table - area).abs().max() < 1e-9


@pytest.mark.slow
def test_the_controls_are_trained_once_and_shown_by_notebook_07(finished, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(finished, runs)
    command = [sys.executable, "-m", "radar_suite", "studies", "--profile", "smoke", "--runs", str(runs)]
    command += ["--only", "controls", "--seeds", "1"]
    before = set((runs / "cache/training").iterdir())
    first = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    # 4 sets of 3 experts, and 10 students of which two are table rows
    assert len(list((runs / "cache/training").iterdir())) == len(before) + 12 + 8
    figures = runs / "smoke/studies/figures"
    expected = {path.name: path.read_bytes() for path in figures.glob("c*.csv")}
    assert set(expected) == {"controls.csv", "contrasts.csv"} and (figures / "controls_gain.png").stat().st_size > 5000
    record = read_record(runs / "smoke/runs.parquet").query("study == 'controls'")
    assert set(record["row"]) == set(ROWS) and record["run"].nunique() == len(ROWS)

    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 0 and {p.name: p.read_bytes() for p in figures.glob("c*.csv")} == expected
    assert len(list((runs / "cache/training").iterdir())) == len(before) + 12 + 8

    assert reproduce(runs, "--only", "07_lambda_study").returncode == 0
    shown = str([cell.get("outputs") for cell in read_json(runs / "smoke/07_lambda_study/executed.ipynb")["cells"]])
    assert "against no teacher" in shown and "on the posts of this run" in shown and "Nothing to show yet" not in shown


@pytest.mark.slow
def test_the_phase_study_leaves_a_whole_map_and_goes_on_where_it_was(finished):
    command = [sys.executable, "-m", "radar_suite", "studies", "--profile", "smoke", "--only", "phase", "--seeds", "1",
               "--runs", str(finished)]  # fmt: skip
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    figures = finished / "smoke/studies/figures"
    lines = (figures / "phase.csv").read_text().splitlines()
    assert len(lines) == 1 + 25 * 4 * 4 and len((figures / "phase_lora.csv").read_text().splitlines()) == 1 + 3 * 4 * 4
    assert (figures / "phase_map.png").stat().st_size > 500
    record = pd.read_parquet(finished / "smoke/runs.parquet").query("study.str.startswith('phase')", engine="python")
    assert {"masked, beta 3, co-violation 0.5", "LoRA, unmasked, beta 6, co-violation 1"} <= set(record["row"])
    times = {path: path.stat().st_mtime_ns for path in (finished / "cache/phase").glob("*/run.json")}
    assert len(times) >= 25 and subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
    assert all(path.stat().st_mtime_ns == when for path, when in times.items())
