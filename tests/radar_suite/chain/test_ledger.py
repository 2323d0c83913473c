"""The ledger: success is what it says, and each reason to run again has a name."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from radar_lib import sources
from radar_lib.errors import RadarError
from radar_suite.chain import ledger as module
from radar_suite.chain.ledger import Ledger, sources_of
from radar_suite.chain.notebooks import discover

ROOT = Path(__file__).parents[3]
SOURCES = {"losses": "1", "metrics": "2"}
PACKAGES = {"python": "3.11", "torch": "2.13.0"}


@pytest.fixture
def world(project, monkeypatch):
    """Two finished notebooks; `world.why` gives the second one's reasons to run."""
    monkeypatch.setattr(module, "sources_of", lambda notebook: dict(SOURCES))
    monkeypatch.setattr(module, "package_versions", lambda: dict(PACKAGES))
    project.add("00_a", "seed: int = 1", "print(seed)", writes=["out.json"])
    project.add("01_b", "seed: int = 1", "print(seed)", reads=["00_a/out.json"], writes=["scores", "b.json"])
    run = project.runs / "cpu"
    for name in ("00_a/out.json", "00_a/executed.ipynb", "01_b/scores/x.parquet", "01_b/b.json", "01_b/executed.ipynb"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(name)
    ledger = Ledger(run)
    for notebook in discover(project.notebooks):
        ledger.start(notebook)
        ledger.finish(notebook, {"seed": 1, "runs_dir": "/somewhere"}, seconds=1.0, peak_memory_mb=10.0)
    project.run_dir = run

    def why(**parameters):
        return Ledger(run).why(discover(project.notebooks)[1], {"seed": 1, "runs_dir": "/else", **parameters})

    project.why = why
    return project


def test_an_unchanged_notebook_is_up_to_date_wherever_its_runs_lie(world):
    assert world.why() == []


def test_never_run_interrupted_and_failed_are_told_apart(world):
    ledger, notebook = Ledger(world.run_dir), discover(world.notebooks)[1]
    ledger.start(notebook)
    assert world.why() == ["interrupted last time"]
    ledger.fail(notebook, error="ValueError: no", where="3.2 Training")
    assert world.why() == ["failed last time (3.2 Training): ValueError: no"]
    (world.run_dir / "ledger.json").unlink()
    assert world.why() == ["never run"]


def test_changed_code_is_a_reason_and_changed_prose_is_none(world):
    radar = {"reads": ["00_a/out.json"], "writes": ["scores", "b.json"]}
    world.add("01_b", "seed: int = 1", "# Prose", "print(seed)", **radar)
    assert world.why() == []
    world.add("01_b", "seed: int = 1", "print(seed + 1)", **radar)
    assert world.why() == ["code changed"]


def test_parameters_are_named_with_both_values(world):
    assert world.why(seed=2) == ["parameter seed changed 1 -> 2"]
    assert world.why(extra=[1]) == ["parameter extra changed nothing -> [1]"]


def test_sources_and_packages_are_named_and_many_counted(world, monkeypatch):
    monkeypatch.setattr(module, "package_versions", lambda: PACKAGES | {"torch": "2.11.0"})
    monkeypatch.setattr(module, "sources_of", lambda notebook: SOURCES | {"losses": "9", "new": "3"})
    assert world.why() == ["library changed: losses", "library changed: new", "torch changed '2.13.0' -> '2.11.0'"]
    monkeypatch.setattr(module, "sources_of", lambda notebook: {f"m{n}": "x" for n in range(5)})
    assert "4 more sources changed" in world.why()


def test_upstream_and_outputs_are_named(world):
    (world.run_dir / "00_a/out.json").write_text("other")
    assert world.why() == ["upstream 00_a/out.json changed"]
    (world.run_dir / "01_b/b.json").unlink()
    (world.run_dir / "01_b/scores/x.parquet").write_text("tampered")
    (world.run_dir / "01_b/executed.ipynb").unlink()
    assert world.why()[1:] == [
        "output b.json missing or changed on disk", "output scores missing or changed on disk",
        "01_b/executed.ipynb missing or changed on disk",
    ]  # fmt: skip


def test_cached_work_that_a_notebook_names_must_still_be_there(world):
    run = world.runs / "cache/training/0123456789abcdef"
    for folder in (run, world.runs / "cache/training/fedcba9876543210"):
        folder.mkdir(parents=True)
    (world.run_dir / "01_b/b.json").write_text('{"run": "0123456789abcdef"}')
    notebook = discover(world.notebooks)[1]
    Ledger(world.run_dir).finish(notebook, {"seed": 1}, seconds=1.0, peak_memory_mb=1.0)
    assert "fedcba" not in str(world.entries()["01_b"]) and world.why() == []
    (run / ".lock").touch()
    assert world.why() == []
    (run / "scores.parquet").write_text("tampered")
    assert world.why() == ["../cache/training/0123456789abcdef missing or changed on disk"]
    shutil.rmtree(run)
    assert world.why() == ["../cache/training/0123456789abcdef missing or changed on disk"]


def test_hidden_files_of_a_folder_do_not_count(world):
    (world.run_dir / "01_b/scores/.cache").mkdir()
    (world.run_dir / "01_b/scores/.cache/copy.arrow").write_text("x")
    assert world.why() == []


def edit(path, text="tampered"):
    """Other bytes of the same length, at the same time."""
    about = path.stat()
    path.write_text(text.ljust(about.st_size)[: about.st_size])
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


@pytest.mark.parametrize(("name", "reason"), [
    ("00_a/out.json", "upstream 00_a/out.json changed"),
    ("01_b/scores/x.parquet", "output scores missing or changed on disk"),
    ("01_b/b.json", "output b.json missing or changed on disk"),
    ("01_b/executed.ipynb", "01_b/executed.ipynb missing or changed on disk"),
])  # fmt: skip
def test_bytes_that_were_edited_are_named_whatever_size_and_time_say(world, name, reason):
    edit(world.run_dir / name)
    assert world.why() == [reason]


def executed(world):
    """An executed notebook as papermill leaves it: a figure, a table, a bar of progress in two pieces."""
    png, table = (
        {"image/png": "aGVsbG8=\n", "text/plain": ["<Figure>"]},
        {"text/html": ["<table>\n", "1\n", "</table>"]},
    )
    outputs = [{"output_type": "stream", "name": "stderr", "text": ["0 %\r"]},
               {"output_type": "stream", "name": "stderr", "text": ["50 %\r100 %\n"]},
               {"output_type": "display_data", "data": png, "metadata": {"image/png": {"width": 3}}},
               {"output_type": "execute_result", "data": table, "metadata": {}, "execution_count": 3}]  # fmt: skip
    cell = {"cell_type": "code", "source": ["a\n", "b"], "outputs": outputs, "metadata": {"papermill": {"d": 1}}}
    content = {"cells": [cell | {"execution_count": 3}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path = world.run_dir / "01_b/executed.ipynb"
    path.write_text(json.dumps(content))
    Ledger(world.run_dir).finish(discover(world.notebooks)[1], {"seed": 1}, seconds=1.0, peak_memory_mb=1.0)
    return path, content, outputs


def test_a_notebook_that_was_opened_and_saved_in_an_editor_is_as_it_was(world):
    path, content, outputs = executed(world)
    content["metadata"] = {"kernelspec": {"name": "other"}}
    content["cells"][0] |= {"source": "a\nb", "id": "x", "metadata": {}, "execution_count": 7}
    outputs[:2] = [{"output_type": "stream", "name": "stderr", "text": "100 %\n"}]
    outputs[1]["metadata"] = {}
    outputs[2] |= {"execution_count": 7, "data": {"text/html": "<table>\n1\n</table>"}}
    path.write_text(json.dumps(content, indent=1))
    assert world.why() == []


@pytest.mark.parametrize("change", [
    lambda content, outputs: outputs[3]["data"].update({"text/html": "<table>\n2\n</table>"}),
    lambda content, outputs: outputs[2]["data"].update({"image/png": "Hello"}), lambda content, outputs: outputs.pop(),
    lambda content, outputs: outputs[1].update(text="50 %\r99 %\n"), lambda content, outputs: content["cells"].pop(),
    lambda content, outputs: content["cells"][0].update(source="c"), lambda content, outputs: content.pop("cells"),
])  # fmt: skip
def test_what_an_executed_notebook_shows_was_changed(world, change):
    path, content, outputs = executed(world)
    assert world.why() == []
    change(content, outputs)
    path.write_text(json.dumps(content))
    assert world.why() == ["01_b/executed.ipynb missing or changed on disk"]


def test_a_preview_reads_no_weights_and_a_run_reads_them_all(world, monkeypatch):
    folder, notebook = world.root / "models", discover(world.notebooks)[1]
    (folder / "a").mkdir(parents=True)
    weights = folder / "a/model.safetensors"
    weights.write_text("weights")
    Ledger(world.run_dir).finish(notebook, {"checkpoints": str(folder)}, seconds=1.0, peak_memory_mb=1.0)

    def why(kinds):
        return Ledger(world.run_dir).why(notebook, {"checkpoints": str(folder)}, kinds=kinds)

    with monkeypatch.context() as patch:
        digest_file = module.digest_file
        patch.setattr(module, "digest_file", lambda path: path == weights and 1 / 0 or digest_file(path))
        assert why(module.GLANCE) == []
    edit(weights, "Weights")
    assert (why(module.GLANCE), why(module.WHOLE)) == ([], ["checkpoints: the folder's content changed"])
    weights.write_text("longer weights")
    assert why(module.GLANCE) == ["checkpoints: the folder's files, their sizes or times changed"]


def test_a_command_reads_each_file_once_and_again_after_a_notebook_ran(world, monkeypatch):
    read, digest_file = [], module.digest_file
    monkeypatch.setattr(module, "digest_file", lambda path: read.append(path) or digest_file(path))
    ledger, notebooks = Ledger(world.run_dir), discover(world.notebooks)
    for _ in range(3):
        assert [ledger.why(notebook, {"seed": 1}) for notebook in notebooks] == [[], []]
    assert len(read) == len(set(read)) == 5
    ledger.start(notebooks[1])
    (world.run_dir / "01_b/b.json").write_text("new")
    ledger.finish(notebooks[1], {"seed": 1}, seconds=1.0, peak_memory_mb=1.0)
    assert ledger.why(notebooks[1], {"seed": 1}) == world.why() == []


@pytest.mark.parametrize("name", ["posts", "public_sources"])
def test_the_bytes_of_your_folder_decide_and_not_what_it_says_of_itself(world, tmp_path, name):
    shard = tmp_path / name / "data/shard.parquet"
    shard.parent.mkdir(parents=True)
    shard.write_text("labels 0 1 0")
    (tmp_path / name / "corpus.json").write_text('{"digest": "0123456789abcdef"}')
    notebook, parameters = discover(world.notebooks)[1], {"seed": 1, name: str(tmp_path / name)}
    Ledger(world.run_dir).finish(notebook, parameters, seconds=1.0, peak_memory_mb=1.0)
    assert world.why(**parameters) == []
    edit(shard, "labels 1 1 1")
    assert world.why(**parameters) == [f"{name}: the folder's content changed"]


def test_a_ledger_is_plain_json_and_a_broken_or_older_one_says_so(world):
    content = json.loads((world.run_dir / "ledger.json").read_text())
    entry = content["notebooks"]["01_b"]
    assert entry["state"] == "done" and entry["reads"].keys() == {"00_a/out.json"}
    assert entry["parameters"] == {"seed": 1}
    del entry["packages"]
    (world.run_dir / "ledger.json").write_text(json.dumps(content))
    assert world.why() == ["recorded by an older version of the chain"]


@pytest.mark.parametrize("content", [
    b"{", b"\xff", b"[]", b'{"x": 1}', b'{"notebooks": []}', b'{"notebooks": {"01_b": 1}}',
    b'{"notebooks": {"01_b": {}}}',
    b'{"notebooks": {"01_b": {"state": "failed"}}}', b'{"notebooks": {"01_b": {"state": "done", "seconds": "1"}}}',
])  # fmt: skip
def test_a_ledger_that_is_none_is_one_clear_error(world, content):
    (world.run_dir / "ledger.json").write_bytes(content)
    with pytest.raises(RadarError, match="ledger.json.* Delete it and run its step again"):
        world.why()


def test_versions_are_read_without_importing(monkeypatch):
    monkeypatch.setattr(module, "PACKAGES", ("pytest", "no-such-package"))
    versions = module.package_versions.__wrapped__()
    assert versions["pytest"] == pytest.__version__ and versions["no-such-package"] == "absent"


def stale(file: str, text: str) -> set[str]:
    """Which of the project's own notebooks become stale when `text` is appended to one of its sources."""
    notebooks, changed = discover(ROOT / "notebooks"), ROOT / file
    before = [sources_of(notebook) for notebook in notebooks]
    digest_syntax = sources.digest_syntax
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        copy = Path(folder) / changed.name
        copy.write_text(changed.read_text() + text)
        patch.setattr(sources, "digest_syntax", lambda path: digest_syntax(copy if path == changed else path))
        now = [sources_of(notebook) for notebook in notebooks]
    return {notebook.name for notebook, a, b in zip(notebooks, before, now, strict=True) if a != b}


def test_a_plotting_file_makes_stale_what_draws_with_it_and_a_comment_there_nothing():
    file, notebooks = "radar_suite/report/plots.py", discover(ROOT / "notebooks")
    drawing = {notebook.name for notebook in notebooks if "radar_suite.report.plots" in sources_of(notebook)}
    assert stale(file, "\n# a comment\n") == set()
    assert stale(file, "\nADDED = 1\n") == drawing and 0 < len(drawing) < len(notebooks)


def test_an_exercise_makes_nothing_stale_and_a_line_in_the_loss_all_training():
    for path in (ROOT / "radar_suite/exercises").rglob("*.py"):
        assert stale(str(path.relative_to(ROOT)), "\nADDED = 1\n") == set()
    trained = {"03_expert_training", "05_router_training", "07_lambda_study"}
    assert trained <= stale("radar_lib/losses.py", "\nADDED = 1\n")
