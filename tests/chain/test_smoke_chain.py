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

ROOT = Path(__file__).parents[2]
TABLES = [f"06_tables_1_and_2/figures/table{n}.csv" for n in (1, 2)]


def reproduce(runs: Path, *options: str, **process) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "radar_lib", "reproduce", "--profile", "smoke", "--runs", str(runs), *options]
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
    for suffix in ("svg", "png", "json"):
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
    assert len(list((finished / "cache/training").iterdir())) == 3 + 12 + 5


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

    command = [sys.executable, "-m", "radar_lib", "reproduce", "--profile", "smoke", "--runs", str(runs)]
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
def test_the_phase_study_leaves_a_whole_map_and_goes_on_where_it_was(finished):
    command = [sys.executable, "-m", "radar_lib", "studies", "--profile", "smoke", "--only", "phase", "--seeds", "1",
               "--runs", str(finished)]  # fmt: skip
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    figures = finished / "smoke/studies/figures"
    lines = (figures / "phase.csv").read_text().splitlines()
    assert len(lines) == 1 + 25 * 4 * 4 and len((figures / "phase_lora.csv").read_text().splitlines()) == 1 + 3 * 4 * 4
    assert (figures / "phase_map.png").stat().st_size > 500
    record = pd.read_parquet(finished / "smoke/runs.parquet").query("study == 'phase'")
    assert {"masked, beta 3, co-violation 0.5", "LoRA, unmasked, beta 6, co-violation 1"} <= set(record["row"])
    times = {path: path.stat().st_mtime_ns for path in (finished / "cache/phase").glob("*/run.json")}
    assert len(times) >= 25 and subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
    assert all(path.stat().st_mtime_ns == when for path, when in times.items())
