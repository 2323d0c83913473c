"""A study's record is shown from this run's folder, with a word on whose posts it is about."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest

from radar_lib.errors import RadarError
from radar_lib.files import write_json
from radar_suite.report.workspace import Workspace
from radar_suite.studies.shown import posts_of, shown


@pytest.fixture
def workspace(tmp_path):
    return Workspace.open("08_x", runs_dir=tmp_path / "runs", profile="p", seed=1, device="cpu")


def recorded(workspace, posts):
    folder = workspace.runs_dir / "p/studies/figures"
    write_json(folder / "own.json", {"data_digests": {"posts": posts}, "profile": "p", "device": "CPU"})
    (folder / "own.csv").write_text("a\n1\n")


def test_a_record_of_this_runs_posts_says_so_even_where_the_notebook_reads_none(workspace):
    recorded(workspace, "abc")
    assert posts_of(workspace) is None and shown(workspace, "own.csv").where == "other posts than this run's"
    write_json(workspace.runs_dir / "p/01_data_audit/corpus.json", {"digest": "abc"})
    found = shown(workspace, "own.csv")
    assert found.where == "the posts of this run" and "on CPU, on the posts of this run" in found.note
    workspace.uses(posts="another")
    assert shown(workspace, "own.csv").where == "other posts than this run's"


def test_figures_are_shown_at_the_size_of_their_letters_with_their_caption(workspace, monkeypatch):
    recorded(workspace, "abc")
    folder = workspace.runs_dir / "p/studies/figures"
    stamp = {"data_digests": {}, "profile": "p", "device": "CPU", "caption": "Points; n = 3."}
    displayed = []
    monkeypatch.setattr("IPython.display.display", lambda *parts: displayed.extend(parts))
    for name, inches, dpi in (("wide", 4, 160), ("narrow", 2, 80)):
        write_json(folder / f"{name}.json", stamp)
        figure = plt.figure(figsize=(inches, 1))
        figure.savefig(folder / f"{name}.png", dpi=dpi)
        plt.close(figure)
    monkeypatch.setattr("IPython.get_ipython", object)
    for name in ("wide", "narrow"):
        shown(workspace, f"{name}.png").display()
    (wide, text, narrow, _) = displayed
    assert (wide.width, narrow.width) == (4 * 96, 2 * 96)
    assert "Points; n = 3. This figure is recorded by `radar studies --profile p`" in text.data


def test_the_record_of_runs_is_found_beside_a_study(workspace):
    recorded(workspace, "abc")
    assert shown(workspace, "own.csv").runs is None
    (workspace.runs_dir / "p/runs.parquet").write_text("")
    assert shown(workspace, "own.csv").runs == workspace.runs_dir / "p/runs.parquet"
    folder = workspace.runs_dir.parent / "figures/p"
    (workspace.runs_dir / "p/studies").rename(workspace.runs_dir / "p/moved")
    write_json(folder / "studies/own.json", {"data_digests": {"posts": "abc"}, "profile": "p", "device": "CPU"})
    (folder / "studies/own.csv").write_text("a\n1\n")
    (folder / "runs.parquet").write_text("")
    assert shown(workspace, "own.csv").runs == folder / "runs.parquet"


def test_a_file_that_no_study_left_is_refused_with_the_command_that_makes_it(workspace):
    with pytest.raises(RadarError, match="radar studies --profile p"):
        shown(workspace, "nothing.csv")
