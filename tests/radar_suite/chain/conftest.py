"""Toy projects: notebooks of a few cells, without torch, so that the whole chain runs in seconds."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from radar_suite.chain.processes import MARK

COMMON = 'profile: str = "cpu"\nruns_dir: str = "../runs"\nseed: int = 1\n'
WRITE = """\
import json, os, pathlib
folder = pathlib.Path(runs_dir) / profile / {name!r}
folder.mkdir(parents=True, exist_ok=True)
(folder / "out.json").write_text(json.dumps([seed, {value}]))"""


def toy(parameters: str, *cells: str, title: str = "Toy", **radar) -> dict:
    """A notebook: a parameters cell, then cells; those that start with '#' are Markdown."""
    out = [_cell("p", "code", parameters, tags=["parameters"])]
    for index, text in enumerate(cells):
        kind = "markdown" if text.startswith("# ") or text.startswith("## ") else "code"
        out.append(_cell(f"c{index}", kind, text))
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
        "radar": {"title": title, "reads": [], "writes": [], "time_limit_min": 5, **radar},
    }
    return {"cells": out, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _cell(name: str, kind: str, source: str, tags: list[str] | None = None) -> dict:
    cell = {"cell_type": kind, "id": name, "metadata": {"tags": tags} if tags else {}, "source": source}
    return cell | ({"outputs": [], "execution_count": None} if kind == "code" else {})


class Project:
    """A folder with notebooks, profiles and runs."""

    def __init__(self, root: Path) -> None:
        self.root, self.notebooks, self.runs = root, root / "notebooks", root / "runs"
        (self.notebooks / "profiles").mkdir(parents=True)
        self.profile("cpu", "seed: 1\n")

    def add(self, name: str, *args, **radar) -> None:
        (self.notebooks / f"{name}.ipynb").write_text(json.dumps(toy(*args, **radar)))

    def step(self, name: str, *cells: str, value: str = "'made'", reads: tuple[str, ...] = ()) -> None:
        """A notebook that writes out.json after the given cells."""
        self.add(
            name, COMMON, *cells, WRITE.format(name=name, value=value), reads=list(reads), writes=["out.json"]
        )

    def profile(self, name: str, text: str) -> None:
        (self.notebooks / "profiles" / f"{name}.yaml").write_text(text)

    def run(self, *arguments: str, command: str = "reproduce") -> int:
        from radar_suite.chain.cli import main

        return main([command, "--notebooks", str(self.notebooks), *arguments])

    def command(self, *arguments: str) -> list[str]:
        """The same as a process of its own."""
        return [sys.executable, "-m", "radar_suite", "reproduce", "--notebooks", str(self.notebooks), *arguments]

    def entries(self, run: str = "cpu") -> dict:
        return json.loads((self.runs / run / "ledger.json").read_text())["notebooks"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


def running(run_dir: Path) -> list[list[str]]:
    """Command lines of the processes that carry the mark of a run."""
    marked = []
    for process in psutil.process_iter():
        try:
            if f"{process.environ().get(MARK)}/".startswith(f"{run_dir}/") and process.status() != psutil.STATUS_ZOMBIE:
                marked.append(process.cmdline())
        except (psutil.Error, OSError):
            continue
    return marked


def half_written(runs: Path) -> list[Path]:
    """Temporary files below a runs folder."""
    return [path for pattern in ("*.tmp", ".running.ipynb", ".probe") for path in runs.rglob(pattern)]


@pytest.fixture
def kill(tmp_path: Path):
    """`kill(command, run_dir, when=...)`: start a chain, kill -9 its process alone when `when(seconds)` holds, and see
    that soon no process is left and no lock is held."""

    def kill(command: list[str], run_dir: Path, *, when) -> None:
        begun, log = time.monotonic(), tmp_path / "killed.log"
        process = {"stderr": subprocess.STDOUT, "start_new_session": True}
        with open(log, "a") as file, subprocess.Popen(command, stdout=file, **process) as chain:
            while not when(time.monotonic() - begun):
                assert chain.poll() is None and time.monotonic() - begun < 1200, log.read_text()[-2000:]
                time.sleep(0.02)
            chain.send_signal(signal.SIGKILL)
        if run_dir.exists():
            with FileLock(run_dir / ".lock", timeout=20):  # a child that was just being started may still hold it
                pass
        deadline = time.monotonic() + 20
        while left := running(run_dir):
            assert time.monotonic() < deadline, f"still running: {left}"
            time.sleep(0.1)

    kill.running, kill.half_written = running, half_written
    return kill
