"""The whole chain at its smallest size, as a user runs it: to the end, again, and killed in the middle."""

import os
import random
import shutil
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


def radar(command: str, runs: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "radar_suite", command, "--profile", "smoke", "--runs", str(runs), *options]


def run(command: str, runs: Path, *options: str) -> str:
    """A command that is to succeed; its output."""
    result = subprocess.run(radar(command, runs, *options), cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


@pytest.fixture
def copy(smoke_run, tmp_path) -> Path:
    """A runs folder of its own with the finished chain."""
    return shutil.copytree(smoke_run.parent, tmp_path / "runs")


def results(run_dir: Path) -> dict[str, bytes]:
    """Every file of numbers of the tables, the study of lambda and the claims."""
    files = sorted(run_dir.glob("0[67]_*/figures/*.csv"))
    return {path.relative_to(run_dir).as_posix(): path.read_bytes() for path in files}


def test_the_chain_ends_with_tables_figures_and_a_report(smoke_run):
    for table in TABLES:
        lines = (smoke_run / table).read_text().splitlines()
        assert len(lines) == 14 and all(len(line.split(",")) == 10 for line in lines)
    assert (smoke_run / "07_lambda_study/figures/figure2.png").stat().st_size > 500
    assert (smoke_run / "report/index.html").stat().st_size > 10_000


def test_every_row_and_point_is_its_own_run_and_two_are_shared(smoke_run):
    experts = {entry["run"] for entry in read_json(smoke_run / "03_expert_training/experts.json")}
    routers = [entry["run"] for entry in read_json(smoke_run / "05_router_training/routers.json")]
    grid = read_json(smoke_run / "07_lambda_study/lambda.json")["runs"]
    assert len(experts) == 3 and len(set(routers)) == 12
    shared = {entry["lambda"] for entry in grid if entry["run"] in routers}
    assert shared == {0.0, 0.5} and len({entry["run"] for entry in grid} - set(routers)) == 3
    references = read_json(smoke_run / "05_router_training/references.json")
    assert len({entry["run"] for entry in references} - set(routers)) == 1  # fitted, not trained
    assert len(list((smoke_run.parent / "cache/training").iterdir())) == 3 + 12 + 3


def test_what_is_published_follows_from_its_scores_and_a_changed_result_does_not(copy, tmp_path, capsys):
    record = tmp_path / "figures"
    publish(copy / "smoke", ["06_tables_1_and_2", "07_lambda_study"], record)
    command = ["verify", "--profile", "smoke", "--runs", str(copy), "--against", str(record)]
    assert main(command) == exits.OK, capsys.readouterr().out
    path = copy / "smoke/06_tables_1_and_2/figures/intervals.csv"
    head, first, *lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([head, first.replace(first.split(",")[4], "0.123"), *lines]))
    assert main(command) == exits.FAILURE
    assert "intervals.csv: BCE, Individual Experts, LQC, PR-AUC; value: stated 0.123" in capsys.readouterr().out


def test_a_second_run_is_up_to_date_and_quick(copy):
    started = time.monotonic()
    assert run("reproduce", copy).count("up to date") == len(list((ROOT / "notebooks").glob("*.ipynb")))
    assert time.monotonic() - started < 60  # the bar is 20 s on a quiet machine


def test_killed_in_router_training_it_resumes_to_the_same_bytes(smoke_run, copy, kill):
    """The last four routers and the tables are made anew: killed with one of them trained, and finished."""
    lost = [entry["run"] for entry in read_json(smoke_run / "05_router_training/routers.json")][-4:]
    again = ("05_router_training", "06_tables_1_and_2")
    for folder in (*(copy / "cache/training" / run for run in lost), *(copy / "smoke" / name for name in again)):
        shutil.rmtree(folder)

    def routers() -> list[Path]:
        return [path for run in lost if (path := copy / "cache/training" / run / "run.json").exists()]

    kill(radar("reproduce", copy, "--only", *again), copy / "smoke", when=lambda seconds: routers())
    times = {path: path.stat().st_mtime_ns for path in routers()}
    assert len(times) < len(lost)
    run("reproduce", copy, "--only", *again)
    assert all(path.stat().st_mtime_ns == when for path, when in times.items()), "finished routers were trained again"
    assert results(copy / "smoke") == results(smoke_run) and kill.half_written(copy) == []


@pytest.mark.slow
def test_killed_at_ten_random_moments_it_ends_with_the_same_bytes(smoke_run, tmp_path, kill):
    """From nothing; each attempt goes on where the last one was killed, so the moments lie all over the chain."""
    runs, moments = tmp_path / "runs", random.Random(os.environ.get("KILL_SEED", "1"))
    for _ in range(10):
        moment = moments.uniform(0.2, 25)
        kill(radar("reproduce", runs), runs / "smoke", when=lambda seconds, moment=moment: seconds > moment)
    run("reproduce", runs)
    assert results(runs / "smoke") == results(smoke_run)
    assert kill.half_written(runs) == [] and kill.running(runs / "smoke") == []


@pytest.fixture(scope="module")
def other_profile(tmp_path_factory) -> tuple[str, dict[str, bytes]]:
    """The smoke profile with another LoRA rank, and what it gives alone."""
    folder = tmp_path_factory.mktemp("other")
    text = (ROOT / "notebooks/profiles/smoke.yaml").read_text()
    for old, new in (("profile: smoke", "profile: other"), ("lora_rank: 4", "lora_rank: 2")):
        assert old in text
        text = text.replace(old, new)
    (folder / "other.yaml").write_text(text)
    run("reproduce", folder / "runs", "--profile", str(folder / "other.yaml"))
    return str(folder / "other.yaml"), results(folder / "runs/other")


@pytest.mark.slow
@pytest.mark.parametrize("start", range(5))
def test_two_profiles_at_once_in_one_folder_give_what_each_gives_alone(smoke_run, other_profile, tmp_path, start):
    profile, alone = other_profile
    runs, moments = tmp_path / "runs", random.Random(start)
    logs = [open(tmp_path / f"{name}.log", "w") for name in ("smoke", "other")]
    chains = []
    for log, options in zip(logs, ((), ("--profile", profile)), strict=True):
        command = radar("reproduce", runs, *options)
        chains.append(subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT))
        time.sleep(moments.uniform(0, 15))
    assert [chain.wait() for chain in chains] == [exits.OK] * 2, [Path(log.name).read_text()[-2000:] for log in logs]
    for log in logs:
        log.close()
    assert results(runs / "smoke") == results(smoke_run) and results(runs / "other") == alone


@pytest.mark.slow
def test_the_study_of_losses_on_what_the_chain_left(copy):
    run("studies", copy, "--only", "losses")
    figures = copy / "smoke/studies/figures"
    frame = pd.read_csv(figures / "losses.csv")
    assert frame["row"].nunique() == 8 and set(frame["category"]) == {"LQC", "RCS", "FE", "Average"}
    for name in ("losses_differences.png", "losses_side.csv", "manifest.json"):
        assert (figures / name).stat().st_size > 200
    lines = read_record(copy / "smoke/runs.parquet")
    kept = lines[lines["study"] == "losses"]
    assert kept["run"].nunique() == 16 and set(kept["seed"]) == {1, 2}
    shared = {entry["run"] for entry in read_json(copy / "smoke/05_router_training/routers.json")} & set(kept["run"])
    assert len(shared) == 2, "the masked and the unmasked run of the first seed are table rows"
    table = kept[kept["metric"] == "PR-AUC"].groupby(["row", "category"])["value"].mean()
    area = frame[frame["metric"] == "PR-AUC"].set_index(["row", "category"])["value"]
    assert (table - area).abs().max() < 1e-9


@pytest.mark.slow
def test_the_controls_are_trained_once_and_shown_by_notebook_07(copy):
    options = ("--only", "controls", "--seeds", "1")
    before = set((copy / "cache/training").iterdir())
    run("studies", copy, *options)
    # 4 sets of 3 experts, 10 students of which two are table rows, and the multi-task expert
    assert len(list((copy / "cache/training").iterdir())) == len(before) + 12 + 8 + 1
    figures = copy / "smoke/studies/figures"
    expected = {path.name: path.read_bytes() for path in figures.glob("c*.csv")}
    assert set(expected) == {"controls.csv", "contrasts.csv"} and (figures / "controls_gain.png").stat().st_size > 5000
    record = read_record(copy / "smoke/runs.parquet").query("study == 'controls'")
    assert set(record["row"]) == set(ROWS) and record["run"].nunique() == len(ROWS)

    run("studies", copy, *options)
    assert {p.name: p.read_bytes() for p in figures.glob("c*.csv")} == expected
    assert len(list((copy / "cache/training").iterdir())) == len(before) + 12 + 8 + 1

    run("reproduce", copy, "--only", "07_lambda_study")
    shown = str([cell.get("outputs") for cell in read_json(copy / "smoke/07_lambda_study/executed.ipynb")["cells"]])
    assert "against no teacher" in shown and "on the posts of this run" in shown and "Nothing to show yet" not in shown


@pytest.mark.slow
def test_the_phase_study_leaves_a_whole_map_and_goes_on_where_it_was(copy):
    options = ("--only", "phase", "--seeds", "1")
    run("studies", copy, *options)
    figures = copy / "smoke/studies/figures"
    cells, tuned = (pd.read_csv(figures / f"phase{name}.csv") for name in ("", "_lora"))
    assert (
        cells.groupby(["population", "category", "metric"]).size().eq(len(cells) / 32).all() and len(cells) >= 32 * 40
    )
    assert cells["own"].any() and tuned["own"].any() and set(cells["population"]) == set(tuned["population"])
    assert (figures / "phase_summary.png").stat().st_size > 5000
    record = pd.read_parquet(copy / "smoke/runs.parquet").query("study.str.startswith('phase')", engine="python")
    assert set(record["study"]) == {"phase", "phase LoRA", "phase interventions"}
    some = {"masked, beta 6, focus 0, overlap 0, 204 posts, own stream", "masked, 204 ordinary posts, traffic"}
    assert some <= set(record["row"])
    times = {path: path.stat().st_mtime_ns for path in (copy / "cache/phase").glob("*/run.json")}
    run("studies", copy, *options)
    assert len(times) >= 40
    assert all(path.stat().st_mtime_ns == when for path, when in times.items())
