"""What a notebook writes is stamped, and what it reads must exist and be unchanged."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from radar_lib.data.posts import write_corpus
from radar_lib.errors import RadarError
from radar_lib.files import digest_file, read_json, write_json
from radar_suite.report import workspace as module
from radar_suite.report.workspace import Workspace, resolve_device

PARAMETERS = {"profile": "p", "seed": 3, "device": "cpu", "epochs": 2, "np": object(), "_hidden": 1, "In": ["x"]}


@pytest.fixture
def workspace(tmp_path):
    return Workspace.open("05_x", PARAMETERS | {"runs_dir": str(tmp_path)})


def test_parameters_are_the_plain_values_of_a_notebooks_names(workspace, tmp_path):
    expected = {"profile": "p", "seed": 3, "device": "cpu", "epochs": 2, "runs_dir": str(tmp_path)}
    assert workspace.parameters == expected and workspace.folder == tmp_path / "p" / "05_x"


def test_a_figure_enters_the_manifest_and_has_twice_the_same_bytes(workspace):
    contents = []
    for _ in range(2):
        figure, axes = plt.subplots()
        axes.plot([1, 2, 3])
        workspace.uses(posts="abc")
        workspace.save_figure(figure, "curve", caption="n = 3", measured=True)
        plt.close(figure)
        files = ("figures/curve.png", "figures/manifest.json")
        contents.append([workspace.path(name).read_bytes() for name in files])
    assert contents[0] == contents[1]
    entry = read_json(workspace.path("figures/manifest.json"))["entries"]["curve"]
    assert entry["files"] == {"curve.png": digest_file(workspace.path("figures/curve.png"))}
    about = {"kind": "figure", "caption": "n = 3", "seed": 3, "inputs": {"posts": "abc"}, "tolerance": None}
    assert about.items() <= entry.items() and entry["versions"]["torch"] != "absent" and entry["device"]


def test_a_table_is_one_csv_whose_numbers_come_back_to_the_last_digit(workspace):
    frame = pd.DataFrame({"a": [0.1 + 0.2, 1 / 3], "b": ["x, y", "z"]})
    workspace.save_table(frame, "t", caption="c", tex="tex")
    pd.testing.assert_frame_equal(pd.read_csv(workspace.path("figures/t.csv")), frame)
    entry = read_json(workspace.path("figures/manifest.json"))["entries"]["t"]
    assert set(entry["files"]) == {"t.csv", "t.tex"} and entry["tolerance"] == 0


def test_a_table_and_a_figure_of_one_name_are_refused_and_a_second_table_takes_the_first_one_s_place(workspace):
    for value in (1, 2):
        workspace.save_table(pd.DataFrame({"a": [value]}), "t", caption="c")
    with pytest.raises(RadarError, match="another name"):
        workspace.save_figure(plt.figure(), "t", caption="c")
    plt.close("all")


def test_a_missing_input_names_the_notebook_to_run(workspace):
    with pytest.raises(RadarError, match="run notebook 01_audit first"):
        workspace.read("01_audit/corpus.json")


def test_posts_that_changed_after_the_audit_are_noticed(workspace, tmp_path):
    row = {"post_id": "a", "split": "train", "label_X": 1}
    posts = write_corpus(tmp_path / "cache/posts", [row], name="toy", kind="imported", categories=("X",))
    about = {"folder": "cache/posts", "digest": posts.digest}
    write_json(tmp_path / "p/01_data_audit/corpus.json", about)
    assert workspace.open_corpus().digest == posts.digest
    assert workspace.inputs == {"posts": posts.digest}
    write_json(tmp_path / "p/01_data_audit/corpus.json", {**about, "digest": "other"})
    with pytest.raises(RadarError, match="has changed since"):
        workspace.open_corpus()


def test_devices_are_checked():
    assert resolve_device("cpu") == "cpu" and resolve_device("auto") in ("cpu", "cuda")
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(RadarError, match="radar doctor"):
            resolve_device("cuda")


@pytest.mark.parametrize(("checkpoints", "word"), [("standins", "stand-in"), ("hub", "published"), ("/x/mine", "mine")])
def test_captions_say_what_the_checkpoints_are(tmp_path, checkpoints, word):
    row = {"post_id": "a", "split": "train", "label_X": 1}
    posts = write_corpus(tmp_path / "posts", [row], name="toy", kind="imported", categories=("X",))
    write_json(tmp_path / "p/01_data_audit/corpus.json", {"folder": "posts", "digest": posts.digest})
    workspace = Workspace.open("05_x", PARAMETERS | {"runs_dir": str(tmp_path), "checkpoints": checkpoints})
    assert "imported posts (toy)" in workspace.about and word in workspace.about


@pytest.mark.parametrize("where", ["", "notebooks", "elsewhere"])
def test_relative_runs_start_at_the_notebook_wherever_its_kernel_was_started(tmp_path, monkeypatch, where):
    for folder in ("notebooks", "elsewhere"):
        (tmp_path / folder).mkdir()
    (tmp_path / "notebooks/05_x.ipynb").touch()
    monkeypatch.chdir(tmp_path / where)
    monkeypatch.setattr(module, "CHECKOUT", tmp_path, raising=False)
    workspace = Workspace.open("05_x", PARAMETERS | {"runs_dir": "../runs"})
    assert workspace.folder == tmp_path / "runs/p/05_x" and workspace.folder.is_dir()
    assert not (tmp_path.parent / "runs").exists()


@pytest.mark.parametrize("profile", ["cache", "../p", ""])
def test_a_run_that_would_have_no_folder_of_its_own_is_refused(tmp_path, profile):
    with pytest.raises(RadarError, match="no run can be called|must be a name"):
        Workspace.open("05_x", PARAMETERS | {"runs_dir": str(tmp_path / "runs"), "profile": profile})
    assert not (tmp_path / "runs").exists()
