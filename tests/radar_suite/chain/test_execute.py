"""The process that runs one notebook: where a cell is, what a failure says, and papermill behind one function."""

import io
import json
import os
import sys
import tempfile

import pytest

from radar_suite.chain.execute import describe, execute, sections, start_kernel
from radar_suite.chain.processes import kernel_environment

TRACEBACK = """\
\x1b[31mValueError\x1b[39m      Traceback (most recent call last)
Cell \x1b[32mIn[3]\x1b[39m\x1b[32m, line 2\x1b[39m
      1 x = 1
----> 2 f(x)

File /project/radar_lib/losses.py:42, in masked_bce(logits)
     41 pass
---> 42 raise ValueError

ValueError: shapes do not match"""


def test_sections_follow_the_last_heading():
    cells = [
        {"cell_type": "code", "id": "a", "source": "1"},
        {"cell_type": "markdown", "source": ["# Title\n", "text\n", "## 1. Look\n", "```\n# code\n```"]},
        {"cell_type": "code", "id": "b", "source": "2"},
        {"cell_type": "markdown", "source": "prose only"},
        {"cell_type": "code", "id": "c", "source": "3"},
    ]
    assert sections(cells) == {"a": (1, ""), "b": (2, "1. Look"), "c": (3, "1. Look")}


def test_a_failure_names_the_cells_line_and_the_deepest_frame():
    found = describe("ValueError", "shapes do not match", TRACEBACK, "x = 1\nf(x)")
    assert found["error"] == "ValueError: shapes do not match" and found["line"] == 2
    assert found["raised"] == "/project/radar_lib/losses.py:42 in masked_bce"
    assert describe("RadarError", "the file is empty.", TRACEBACK, "")["error"] == "the file is empty."
    assert describe("KeyboardInterrupt", "", "", "x")["error"] == "KeyboardInterrupt"


CELLS = {"parameters": "grid: tuple[int, ...] = (1,)", "c1": "print('seen', grid)", "c2": "import no_such_module"}


def run(folder, monkeypatch, *, output="out.ipynb", cells=CELLS, kernel=lambda: None):
    """Whether a notebook of these cells ran, its events and its log."""
    environment = kernel_environment(folder / "00_a", {})
    for name in {*environment, "MPLBACKEND"}:
        monkeypatch.setenv(name, environment.get(name, ""))
    monkeypatch.delenv("MPLBACKEND")
    monkeypatch.setitem(sys.modules, "rfc3987_syntax", None)
    cell = {"cell_type": "code", "outputs": [], "execution_count": None}
    cells = [cell | {"id": name, "metadata": {"tags": [name]}, "source": text} for name, text in cells.items()]
    metadata = {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
    content = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    (folder / "a.ipynb").write_text(json.dumps(content))
    job = {"notebook": str(folder / "a.ipynb"), "output": str(folder / output), "cwd": str(folder)}
    events, log = [], io.StringIO()
    done = execute(job | {"parameters": {"grid": (2, 3)}}, lambda **event: events.append(event), log, manager=kernel())
    return done, events, log.getvalue()


def test_a_notebook_is_run_with_events_and_a_log(tmp_path, monkeypatch):
    done, events, log = run(tmp_path, monkeypatch)
    assert not done and [event["event"] for event in events] == ["cell"] * 4 + ["failed"]
    assert events[-1]["error"] == "ModuleNotFoundError: No module named 'no_such_module'" and events[-1]["line"] == 1
    assert "seen (2, 3)" in log and "ModuleNotFoundError" in log


@pytest.mark.parametrize(("python", "output"), [(os.devnull, "out.ipynb"), (sys.executable, "none/out.ipynb")])
def test_a_kernel_that_cannot_start_and_an_output_that_cannot_be_written(tmp_path, monkeypatch, python, output):
    monkeypatch.setattr("radar_suite.chain.processes.sys.executable", python)
    done, events, _ = run(tmp_path, monkeypatch, output=output)
    assert not done and events[-1]["setup"], "the environment's fault"


def test_a_kernel_that_was_killed_while_it_waited_is_replaced_and_leaves_nothing_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    files = []

    def killed():
        manager = start_kernel()
        files.append(manager.connection_file)
        manager.provisioner.process.kill()
        manager.provisioner.process.wait()
        return manager

    cells = {"parameters": "grid: tuple[int, ...] = (1,)", "c1": "print('ran')"}
    done, events, log = run(tmp_path, monkeypatch, cells=cells, kernel=killed)
    assert done and "ran" in log and {event["event"] for event in events} == {"cell"}
    assert files[0].startswith(str(tmp_path / ".jupyter")) and os.listdir(tmp_path / "temporary") == []
