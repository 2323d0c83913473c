"""The process that runs one notebook: where a cell is, what a failure says, and papermill behind one function."""

import io
import json
import os
import sys

from radar_suite.chain.execute import describe, execute, sections
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


def run(tmp_path, monkeypatch, source, **job):
    for name, value in kernel_environment(tmp_path, {}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.setitem(sys.modules, "rfc3987_syntax", None)
    cells = [("parameters", "grid: tuple[int, ...] = (1,)"), ("c1", "print('seen', grid)"), ("c2", source)]
    content = [
        {"cell_type": "code", "id": name, "metadata": {"tags": [name]}, "source": text, "outputs": []}
        | {"execution_count": None}
        for name, text in cells
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
    notebook = {"cells": content, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "a.ipynb").write_text(json.dumps(notebook))
    events, log = [], io.StringIO()
    base = {
        "notebook": str(tmp_path / "a.ipynb"),
        "output": str(tmp_path / "out.ipynb"),
        "cwd": str(tmp_path),
    }
    done = execute(base | {"parameters": {"grid": (2, 3)}} | job, lambda **event: events.append(event), log)
    return done, events, log.getvalue()


def test_a_notebook_is_run_with_events_and_a_log(tmp_path, monkeypatch):
    done, events, log = run(tmp_path, monkeypatch, "import no_such_module")
    assert not done and [event["event"] for event in events] == ["cell", "cell", "cell", "cell", "failed"]
    assert (
        events[-1]["error"] == "ModuleNotFoundError: No module named 'no_such_module'"
        and events[-1]["line"] == 1
    )
    assert "seen (2, 3)" in log and "ModuleNotFoundError" in log


def test_an_output_that_cannot_be_written_is_the_environments_fault(tmp_path, monkeypatch):
    done, events, _ = run(tmp_path, monkeypatch, "1", output=str(tmp_path / "none" / "out.ipynb"))
    assert not done and events[-1]["setup"] and "none" in events[-1]["error"]


def test_a_kernel_that_cannot_start_is_the_environments_fault(tmp_path, monkeypatch):
    monkeypatch.setattr("radar_suite.chain.processes.sys.executable", os.devnull)
    done, events, _ = run(tmp_path, monkeypatch, "1")
    assert not done and events[-1]["setup"], events
