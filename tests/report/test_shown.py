"""A study's record is shown from this run's folder, with a word on whose posts it is about."""

from __future__ import annotations

import pytest

from radar_lib.errors import RadarError
from radar_lib.files import write_json
from radar_lib.report.studies.shown import posts_of, shown
from radar_lib.report.workspace import Workspace


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


def test_a_file_that_no_study_left_is_refused_with_the_command_that_makes_it(workspace):
    with pytest.raises(RadarError, match="radar studies --profile p"):
        shown(workspace, "nothing.csv")
