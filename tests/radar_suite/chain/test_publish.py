"""Results are copied whole, by notebook, under one manifest; no other files are touched, and nothing for nothing."""

import subprocess
import sys

import pandas as pd
import pytest

from radar_lib.errors import RadarError
from radar_lib.files import digest_file, read_json, write_json
from radar_suite.chain.publish import publish, publish_runs, publish_studies
from radar_suite.report.manifest import read_manifest

TARGET = "figures/cpu"


def leave(run, notebook, files, *, measured=(), **about):
    """What a notebook's workspace leaves: files by entry, and its manifest."""
    folder, entries = run / notebook / "figures", {}
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (folder / file).write_text(text)
        entry = entries.setdefault(file.split(".")[0], {"kind": "figure", "files": {}})
        entry["files"][file] = digest_file(folder / file)
        entry |= {"notebook": notebook, "inputs": {}, "code": "c", "parameters": "p", "seed": 1} | about
        entry |= {"caption": "", "device": ""}
        entry["tolerance"] = None if file in measured else 0
    write_json(folder / "manifest.json", {"entries": entries})


@pytest.fixture
def run(tmp_path):
    leave(tmp_path / "run", "00_a", {"f.svg": "00 f.svg", "f.png": "00 f.png"})
    leave(tmp_path / "run", "01_b", {"t.csv": "01 t.csv", "f.svg": "01 f.svg"})
    (tmp_path / "run" / "01_b" / "figures" / "left.csv").write_text("of an earlier version of the notebook")
    return tmp_path / "run"


def ran(seconds, memory=2048.0):
    return {name: {"seconds": seconds, "peak_memory_mb": memory} for name in ("00_a", "01_b")}


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_that_is_entered_arrives_and_equal_names_are_told_apart(run, tmp_path):
    target = tmp_path / TARGET
    files = publish(run, ["00_a", "01_b"], target, ran(90))
    assert files == ["01_b_f.svg", "f.png", "f.svg", "t.csv"]
    assert (target / "f.svg").read_text() == "00 f.svg" and (target / "01_b_f.svg").read_text() == "01 f.svg"
    manifest = read_manifest(target)
    assert manifest["notebooks"]["00_a"] == {"minutes": 1.5, "peak_memory_gib": 2.0}
    for key, entry in manifest["entries"].items():
        assert entry["minutes"] == 1.5 and entry["seed"] == 1, key
        assert {file: digest_file(target / file) for file in entry["files"]} == entry["files"]
    assert sorted(manifest["entries"]) == ["01_b_f", "f", "t"]


def test_other_notebooks_and_other_files_stay_and_gone_ones_go(run, tmp_path):
    target = tmp_path / TARGET
    publish(run, ["00_a", "01_b"], target)
    (target / "README.md").write_text("mine")
    leave(run, "00_a", {"f.svg": "00 f.svg"})
    leave(run, "01_b", {"t.csv": "not published now"})
    publish(run, ["00_a"], target)
    assert sorted(files_of(target)) == ["01_b_f.svg", "README.md", "f.svg", "manifest.json", "t.csv"]
    assert (target / "t.csv").read_text() == "01 t.csv"


@pytest.mark.parametrize("seconds", [1, 90, 5000])
def test_a_rerun_that_changes_no_result_changes_no_byte(run, tmp_path, seconds):
    target = tmp_path / TARGET
    leave(run, "00_a", {"cost.csv": "1.234 s"}, measured=["cost.csv"])
    publish(run, ["00_a", "01_b"], target, ran(100))
    before = files_of(target)
    leave(run, "00_a", {"cost.csv": "1.432 s"}, measured=["cost.csv"])
    publish(run, ["00_a", "01_b"], target, ran(seconds, 999))
    assert files_of(target) == before
    leave(run, "01_b", {"t.csv": "01 t.csv", "f.svg": "01 f.svg"}, device="another", versions={"torch": "3"})
    publish(run, ["00_a", "01_b"], target, ran(seconds, 999))
    assert files_of(target) == before, "equal results keep where they were recorded"
    leave(run, "01_b", {"t.csv": "01 t.csv", "f.svg": "01 f.svg"})
    (target / "cost.csv").write_text("spoilt")
    publish(run, ["00_a", "01_b"], target, ran(seconds))
    assert (target / "cost.csv").read_text() == "1.432 s"


@pytest.mark.parametrize(
    ("seconds", "text", "about", "minutes"),
    [
        (240, "00 f.svg", {"code": "d"}, 4.0),  # as long: trained anew
        (12, "00 f.svg", {"code": "d"}, 3.0),  # found its training in the cache
        (12, "another", {}, 0.2),
        (240, "00 f.svg", {"inputs": {"posts": "q"}}, 4.0),
    ],
)
def test_times_are_those_of_the_run_that_made_the_results(run, tmp_path, seconds, text, about, minutes):
    target = tmp_path / TARGET
    publish(run, ["00_a", "01_b"], target, ran(180))
    leave(run, "00_a", {"f.svg": text, "f.png": "00 f.png"}, **about)
    publish(run, ["00_a", "01_b"], target, ran(seconds))
    manifest = read_manifest(target)
    assert manifest["notebooks"]["00_a"]["minutes"] == manifest["entries"]["f"]["minutes"] == minutes
    assert manifest["notebooks"]["01_b"]["minutes"] == 3.0
    assert about.items() <= manifest["entries"]["f"].items()


def test_a_full_disk_leaves_the_old_results(run, tmp_path, monkeypatch):
    target = tmp_path / TARGET
    publish(run, ["00_a"], target)
    before = files_of(target)
    leave(run, "00_a", {"f.svg": "new", "f.png": "new"})

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(RadarError, match="No space left"):
        publish(run, ["00_a"], target)
    assert files_of(target) == before


KILLED = """
import os, sys
from pathlib import Path
from radar_suite.chain.publish import publish
real = os.replace
def replace(*paths):
    global left
    left -= 1
    if left < 0:
        os._exit(9)
    return real(*paths)
os.replace = replace
for left, target in enumerate(sys.argv[2:]):
    if not (child := os.fork()):
        publish(Path(sys.argv[1]), ["00_a", "01_b"], Path(target))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
"""


def test_killed_at_any_moment_nothing_of_yours_is_lost_and_the_next_call_completes_it(run, tmp_path):
    targets = [tmp_path / f"killed {moment}" / TARGET for moment in range(5)]
    for target in targets:
        publish(run, ["00_a", "01_b"], target)
        (target / "mine.txt").write_text("mine")
    leave(run, "00_a", {"f.svg": "new", "f.png": "new", "g.svg": "new"})
    leave(run, "01_b", {"f.svg": "new"})
    publish(run, ["00_a", "01_b"], tmp_path / "fresh")
    (tmp_path / "fresh" / "mine.txt").write_text("mine")
    subprocess.run([sys.executable, "-W", "ignore", "-c", KILLED, run, *targets], check=True)
    for target in targets:
        assert (target / "mine.txt").read_text() == "mine"
        publish(run, ["00_a", "01_b"], target)
        assert files_of(target) == files_of(tmp_path / "fresh"), "no temporary file is left either"


def test_a_file_of_yours_with_the_name_of_a_new_one_is_renamed_and_kept(run, tmp_path):
    target = tmp_path / TARGET
    target.mkdir(parents=True)
    (target / "f.svg").write_text("drawn by hand")
    for text in ("00 f.svg", "another"):
        leave(run, "00_a", {"f.svg": text})
        publish(run, ["00_a"], target)
        assert (target / "f.svg.yours").read_text() == "drawn by hand" and (target / "f.svg").read_text() == text


def test_a_file_that_is_not_the_one_its_notebook_wrote_is_not_published(run, tmp_path):
    target = tmp_path / TARGET
    publish(run, ["00_a", "01_b"], target)
    before = files_of(target)
    leave(run, "00_a", {"f.svg": "new"})
    leave(run, "01_b", {"t.csv": "new"})
    (run / "01_b/figures/t.csv").write_text("far better")
    with pytest.raises(RadarError, match="01_b/figures/t.csv is not the file that its notebook wrote"):
        publish(run, ["00_a", "01_b"], target)
    assert files_of(target) == before


@pytest.mark.parametrize("content", [[], {"entries": []}, {"entries": {"f": {}}}, {"entries": {"f": {"files": []}}}])
def test_a_manifest_that_is_none_is_one_clear_error(run, tmp_path, content):
    write_json(run / "00_a/figures/manifest.json", content)
    with pytest.raises(RadarError, match="manifest.json.*Delete it and run its step again"):
        publish(run, ["00_a"], tmp_path / TARGET)


def test_a_manifest_names_no_file_elsewhere(run, tmp_path):
    content = read_json(run / "00_a/figures/manifest.json")
    content["entries"]["f"]["files"] = {"../../../secret": "0" * 16}
    write_json(run / "00_a/figures/manifest.json", content)
    with pytest.raises(RadarError, match="must be a path below"):
        publish(run, ["00_a"], tmp_path / TARGET)


def test_a_run_without_results_makes_no_folder(tmp_path):
    assert publish(tmp_path, ["00_a"], tmp_path / "figures") == []
    assert not (tmp_path / "figures").exists()


def test_studies_lie_below_their_name_and_those_that_did_not_run_stay(run, tmp_path):
    target = tmp_path / TARGET
    leave(run, "studies", {"losses.csv": "1", "phase.csv": "1"})
    publish_studies(run, target, ["losses", "phase"])
    leave(run, "studies", {"losses.csv": "2", "phase.csv": "of an own run"})
    publish_studies(run, target, ["losses"])
    publish(run, ["00_a", "01_b"], target)
    assert (target / "studies/losses.csv").read_text() == "2" and (target / "studies/phase.csv").read_text() == "1"
    entry = read_manifest(target)["entries"]["studies/losses"]
    assert entry["files"] == {"studies/losses.csv": digest_file(target / "studies/losses.csv")}


def lines_of(study, seed, posts="p", seconds=1.0):
    """A line of the record."""
    about = {"row": "x", "category": "A", "metric": "PR-AUC", "value": float(seed), "posts": 1, "positives": 1}
    about |= {"run": "r", "config": "{}", "seconds": seconds, "device": "d", "versions": "{}"}
    return about | {"study": study, "seed": seed, "posts_digest": posts}


def test_what_a_run_has_not_stays_in_the_committed_record_of_runs(run, tmp_path):
    target = tmp_path / TARGET
    publish_runs(run, target)
    assert not target.exists()  # nothing to copy, nowhere to
    target.mkdir(parents=True)
    committed = [("tables", 1), ("tables", 2), ("phase", 1), ("losses", 1), ("losses", 2)]
    pd.DataFrame([lines_of(*one) for one in committed]).to_parquet(target / "runs.parquet")
    now = pd.DataFrame([lines_of("tables", 1), lines_of("losses", 2)])
    now.assign(value=0.5).to_parquet(run / "runs.parquet")
    publish_runs(run, target)
    found = pd.read_parquet(target / "runs.parquet")
    values = found.set_index(["study", "seed"])["value"].to_dict()
    assert values == {("losses", 2): 0.5, ("phase", 1): 1.0, ("tables", 1): 0.5}, "a row keeps no seed of before"
    now.assign(posts_digest="other").to_parquet(run / "runs.parquet")
    publish_runs(run, target)
    assert len(pd.read_parquet(target / "runs.parquet").query("study == 'losses'")) == 1


def test_a_record_of_runs_whose_times_alone_changed_keeps_its_bytes(run, tmp_path):
    target = tmp_path / TARGET
    publish(run, ["00_a"], target)
    lines = [lines_of("tables", seed) | {"posts": None} for seed in (1, 2)]
    pd.DataFrame(lines).astype({"posts": "Int64"}).to_parquet(run / "runs.parquet")
    publish_runs(run, target)
    before = (target / "runs.parquet").read_bytes()
    now = pd.DataFrame(lines).astype({"posts": "Int64"}).assign(seconds=7.0)
    now.to_parquet(run / "runs.parquet")
    publish_runs(run, target)
    assert (target / "runs.parquet").read_bytes() == before
    now.assign(value=[1.0, 2.5]).to_parquet(run / "runs.parquet")
    publish_runs(run, target)
    assert list(pd.read_parquet(target / "runs.parquet")["seconds"]) == [1.0, 7.0]
