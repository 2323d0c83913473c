"""What a notebook writes is stamped, and what it reads must exist and be unchanged."""

from __future__ import annotations

import json

import matplotlib.pyplot as plt
import pytest

from radar_lib.data.posts import write_corpus
from radar_lib.errors import RadarError
from radar_lib.files import read_json, write_json
from radar_suite.report import style
from radar_suite.report.workspace import Workspace, resolve_device


@pytest.fixture
def workspace(tmp_path):
    return Workspace.open("05_x", runs_dir=tmp_path, profile="p", seed=3, device="cpu", parameters={"epochs": 2})


def test_a_figure_comes_with_its_stamp_and_twice_the_same_bytes(workspace):
    style.use()
    contents = []
    for _ in range(2):
        figure, axes = plt.subplots()
        axes.plot([1, 2, 3])
        workspace.uses(posts="abc")
        workspace.save_figure(figure, "curve", caption="n = 3")
        plt.close(figure)
        contents.append([workspace.path(f"figures/curve.{suffix}").read_bytes() for suffix in ("svg", "png", "json")])
    assert contents[0] == contents[1]
    stamp = read_json(workspace.path("figures/curve.json"))
    assert stamp["caption"] == "n = 3" and stamp["seed"] == 3 and stamp["data_digests"] == {"posts": "abc"}
    assert stamp["parameters"] == {"epochs": 2} and stamp["versions"]["torch"] != "absent" and stamp["device"]


def test_in_a_notebook_a_figure_is_shown_once_with_its_caption(workspace, monkeypatch):
    shown = []
    figure = plt.figure()
    monkeypatch.setattr("IPython.get_ipython", object)
    monkeypatch.setattr("IPython.display.display", lambda *parts: shown.extend(parts))
    workspace.save_figure(figure, "curve", caption="precision < 60 %, *n* = 3")
    assert shown[0] is figure and "precision &lt; 60 %, *n* = 3" in shown[1].data
    assert not plt.fignum_exists(figure.number)


def test_tables_are_written_in_each_rendering(workspace):
    workspace.save_table("t", {"csv": "a,b\n", "md": "| a |\n"}, caption="c")
    assert workspace.path("figures/t.csv").read_text() == "a,b\n"
    assert json.loads(workspace.path("figures/t.json").read_text())["formats"] == ["csv", "md"]


def test_a_missing_input_names_the_notebook_to_run(workspace):
    with pytest.raises(RadarError, match="run notebook 01_audit first"):
        workspace.read("01_audit/corpus.json")


def test_posts_that_changed_after_the_audit_are_noticed(workspace, tmp_path):
    row = {"post_id": "a", "split": "train", "label_X": 1}
    posts = write_corpus(tmp_path / "cache/posts", [row], name="toy", kind="imported", categories=("X",))
    about = {"folder": "cache/posts", "digest": posts.digest}
    write_json(tmp_path / "p/01_audit/corpus.json", about)
    assert workspace.open_corpus("01_audit/corpus.json").digest == posts.digest
    assert workspace.data == {"posts": posts.digest}
    write_json(tmp_path / "p/01_audit/corpus.json", {**about, "digest": "other"})
    with pytest.raises(RadarError, match="has changed since"):
        workspace.open_corpus("01_audit/corpus.json")


def test_devices_are_checked():
    assert resolve_device("cpu") == "cpu" and resolve_device("auto") in ("cpu", "cuda")
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(RadarError, match="radar doctor"):
            resolve_device("cuda")
