"""The process of one notebook: it may be started before its turn, warms its kernel up, and then waits for its job."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import psutil

from radar_suite.chain.kernel import WARM_UP, imports_of
from radar_suite.chain.notebooks import Notebook
from radar_suite.chain.processes import kernel_environment, kill, tree

SPARE_BYTES = 3 << 30  # free memory below which no kernel is started before its turn


@dataclass
class Job:
    """A started process and its log. `begin` gives it its work, `end` kills it with all that it started."""

    notebook: Notebook
    process: subprocess.Popen
    log: TextIO

    @classmethod
    def start(cls, notebook: Notebook, run_dir: Path, parameters: Mapping[str, Any]) -> Job:
        """Start the process; its kernel imports what the notebook imports."""
        folder = run_dir / notebook.name
        folder.mkdir(parents=True, exist_ok=True)
        environment = kernel_environment(run_dir, parameters)
        environment |= {"RADAR_NOTEBOOK_DIGEST": notebook.code, WARM_UP: imports_of(notebook.sources)}
        log = open(folder / ".waiting.log", "w", encoding="utf-8")  # closed by `end`
        process = subprocess.Popen(
            [sys.executable, "-m", "radar_suite.chain.execute", str(os.getpid())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            cwd=notebook.path.resolve().parent, env=environment, text=True, start_new_session=True,
        )  # fmt: skip
        return cls(notebook, process, log)

    def begin(self, output: Path, parameters: Mapping[str, Any]) -> None:
        """Tell the process what to execute; its log takes the place of an earlier run's."""
        os.replace(self.log.name, Path(self.log.name).with_name("log.txt"))
        path = self.notebook.path.resolve()
        job = {"notebook": str(path), "output": str(output), "parameters": dict(parameters), "cwd": str(path.parent)}
        with contextlib.suppress(BrokenPipeError):  # it died at once; the log says why
            self.process.stdin.write(repr(job))
            self.process.stdin.close()

    def tree(self) -> list[psutil.Process]:
        """The process and everything below it."""
        return tree(self.process.pid)

    def end(self) -> None:
        """Kill what is left of it."""
        kill(reversed(self.tree()))
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.log):
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        Path(self.log.name).unlink(missing_ok=True)  # it never had its turn


def room_for_a_spare() -> bool:
    """Whether the machine can hold a waiting kernel beside a working one."""
    return (os.cpu_count() or 1) > 1 and psutil.virtual_memory().available > SPARE_BYTES


def next_to_run(notebooks: Iterable[Notebook], after: Notebook, stale: Iterable[str]) -> Notebook | None:
    """The first notebook after `after` that is stale, or reads what `after` is about to write."""
    names, later = set(stale), False
    for notebook in notebooks:
        if later and (notebook.name in names or after.name in notebook.upstream):
            return notebook
        later = later or notebook is after
    return None
