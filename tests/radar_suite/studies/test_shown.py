"""A study's record is shown from this run's folder or the committed one, with a word on whose posts it is about."""

from __future__ import annotations

import pytest

from radar_lib.errors import RadarError
from radar_lib.files import write_json
from radar_suite.report.workspace import Workspace
from radar_suite.studies.shown import recorded

ENTRY = {"caption": "Points; n = 3.", "profile": "p", "device": "some CPU", "inputs": {"posts": "abc"}}
ENTRY |= {"notebook": "studies", "files": {}, "tolerance": 0, "seed": 1}


@pytest.fixture
def workspace(tmp_path):
    return Workspace.open("08_x", {"runs_dir": str(tmp_path / "runs"), "profile": "p", "seed": 1, "device": "cpu"})


def leave(folder, files, top, key):
    folder.mkdir(parents=True, exist_ok=True)
    files.mkdir(parents=True, exist_ok=True)
    write_json(folder / "manifest.json", {"entries": {key: ENTRY}})
    (files / "own.csv").write_text("a\n1\n")
    (top / "runs.parquet").write_text("")


@pytest.fixture(params=["this run", "the committed record"])
def left(request, workspace):
    """A study's table and the record of runs, in one of the two places."""
    run, committed = workspace.runs_dir / "p", workspace.runs_dir.parent / "figures/p"
    if request.param == "this run":
        leave(run / "studies/figures", run / "studies/figures", run, "own")
        return run
    leave(committed, committed / "studies", committed, "studies/own")
    return committed


def test_a_file_comes_with_its_provenance_and_the_record_of_runs(workspace, left):
    one = recorded(workspace, "own.csv")
    assert one.path.is_relative_to(left) and one.runs == left / "runs.parquet"
    assert one.caption.startswith("Points; n = 3. ") and "--profile p" in one.caption and "some CPU" in one.caption


def test_a_record_of_this_runs_posts_says_so_even_where_the_notebook_reads_none(workspace, left):
    before = recorded(workspace, "own.csv")
    assert before.same_posts is None and "posts" not in before.caption, "where no chain has run there are none"
    write_json(workspace.runs_dir / "p/01_data_audit/corpus.json", {"digest": "abc"})
    assert recorded(workspace, "own.csv").same_posts
    workspace.uses(posts="another")
    assert not recorded(workspace, "own.csv").same_posts


def test_a_study_of_other_posts_is_no_finding_about_ones_own(workspace, left):
    corpus = workspace.runs_dir / "p/01_data_audit/corpus.json"
    write_json(corpus, {"digest": "mine", "kind": "imported"})
    with pytest.raises(RadarError, match="says nothing of them"):
        recorded(workspace, "own.csv")
    assert not recorded(workspace, "own.csv", of_posts=False).same_posts, "what is about the built-in world is shown"
    write_json(corpus, {"digest": "abc", "kind": "imported"})
    assert recorded(workspace, "own.csv").same_posts
    write_json(corpus, {"digest": "of another size", "kind": "built-in"})
    assert not recorded(workspace, "own.csv").same_posts


def test_a_file_that_no_study_left_is_refused_with_the_command_that_makes_it(workspace):
    with pytest.raises(RadarError, match="radar studies --profile p"):
        recorded(workspace, "nothing.csv")
