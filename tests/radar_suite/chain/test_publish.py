"""Figures are copied whole, by notebook, and nobody else's files are touched."""

import pandas as pd
import pytest

from radar_lib.errors import RadarError
from radar_suite.chain.publish import publish, publish_runs


@pytest.fixture
def run(tmp_path):
    for name, files in {"00_a": ["f.svg", "f.png"], "01_b": ["t.md", "f.svg", ".hidden"]}.items():
        (tmp_path / "run" / name / "figures").mkdir(parents=True)
        for file in files:
            (tmp_path / "run" / name / "figures" / file).write_text(f"{name} {file}")
    return tmp_path / "run"


def test_all_figures_arrive_and_equal_names_are_told_apart(run, tmp_path):
    target = tmp_path / "figures" / "cpu"
    files = publish(run, ["00_a", "01_b"], target)
    assert files == ["01_b_f.svg", "f.png", "f.svg", "t.md"]
    assert (target / "f.svg").read_text() == "00_a f.svg" and (
        target / "01_b_f.svg"
    ).read_text() == "01_b f.svg"
    assert publish(run, ["00_a", "01_b"], target) == files


def test_other_notebooks_and_other_files_stay_and_gone_ones_go(run, tmp_path):
    target = tmp_path / "figures"
    publish(run, ["00_a", "01_b"], target)
    (target / "README.md").write_text("mine")
    (run / "00_a" / "figures" / "f.png").unlink()
    (run / "01_b" / "figures" / "t.md").write_text("not published now")
    publish(run, ["00_a"], target)
    files = sorted(path.name for path in target.iterdir())
    assert files == ["01_b_f.svg", "README.md", "f.svg", "manifest.json", "t.md"]
    assert (target / "t.md").read_text() == "01_b t.md"


def test_nothing_is_rewritten_when_nothing_changed(run, tmp_path):
    target = tmp_path / "figures"
    publish(run, ["00_a"], target)
    before = target.stat().st_ino
    publish(run, ["00_a"], target)
    assert target.stat().st_ino == before
    (target / "f.svg").write_text("spoilt")
    publish(run, ["00_a"], target)
    assert (target / "f.svg").read_text() == "00_a f.svg"


def test_a_failed_copy_leaves_the_old_figures(run, tmp_path, monkeypatch):
    target = tmp_path / "figures"
    publish(run, ["00_a"], target)
    (run / "00_a" / "figures" / "f.svg").write_text("new")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(RadarError, match="No space left"):
        publish(run, ["00_a"], target)
    assert (target / "f.svg").read_text() == "00_a f.svg"


def test_a_run_without_figures_makes_no_folder(tmp_path):
    assert publish(tmp_path, ["00_a"], tmp_path / "figures") == []
    assert not (tmp_path / "figures").exists()


def test_the_record_of_runs_goes_beside_the_figures_and_stays(run, tmp_path):
    target = tmp_path / "figures"
    publish_runs(run, target)
    assert not target.exists()  # nothing to copy, nowhere to
    publish(run, ["00_a"], target)
    (run / "runs.parquet").write_text("one")
    publish_runs(run, target)
    publish(run, ["00_a", "01_b"], target)
    assert (target / "runs.parquet").read_text() == "one"


def lines_of(study, seed, posts="p"):
    """A line of the record."""
    about = {"row": "x", "category": "A", "metric": "PR-AUC", "value": float(seed), "posts": 1, "positives": 1}
    about |= {"run": "r", "config": "{}", "seconds": 1.0, "code": "c", "device": "d", "versions": "{}"}
    return about | {"study": study, "seed": seed, "posts_digest": posts}


def test_what_a_run_has_not_stays_in_the_committed_record_of_runs(run, tmp_path):
    target = tmp_path / "figures" / "cpu"
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
