"""For all tests: no deadline for generated examples, since a busy machine is not an error; one finished smoke chain."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

ROOT = Path(__file__).parents[1]


def reproduce(runs: Path, *options: str) -> subprocess.CompletedProcess:
    """`radar reproduce --profile smoke` into `runs`, to its end."""
    command = [sys.executable, "-m", "radar_suite", "reproduce", "--profile", "smoke", "--runs", str(runs), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Path]:
    """`<runs>/smoke` of one finished chain, the same for all tests and workers: read it, copy it, change nothing."""
    base = tmp_path_factory.getbasetemp()
    runs = (base if worker_id == "master" else base.parent) / "smoke" / "runs"
    runs.parent.mkdir(exist_ok=True)
    with FileLock(runs.with_name("lock")):  # workers that come later wait for the first, and find it finished
        result = None if (runs / "smoke/report/index.html").exists() else reproduce(runs)
    assert result is None or result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    yield runs / "smoke"
