"""For all tests: small posts and images, one finished smoke chain, and no deadline for generated examples."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import settings
from PIL import Image

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the finished chain first: one worker runs it while the others do the rest."""
    first = {item.path for item in items if "smoke_run" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path not in first)


def encoded(width=20, height=12, *, seed=0, kind="PNG", **options):
    """An image of noise, as bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, size=(height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind, **options)
    return buffer.getvalue()


def sound_rows(n=24, *, categories=("A", "B"), frames=True):
    """Posts of all kinds of splits, with both labels of each category in train and in test."""
    splits = ("train", "test", "validation", "calibration", "unlabelled")
    rows = []
    for i in range(n):
        row = {"post_id": f"p{i}", "split": splits[i % len(splits)], "title": f'héllo, "{i}"\nline', "region": "BR"}
        row |= {f"label_{c}": (i // len(splits) + k) % 2 for k, c in enumerate(categories)}
        if row["split"] == "unlabelled":
            row |= {f"label_{c}": -1 for c in categories}
        if frames:
            row["frames"] = [encoded(seed=i + j) for j in range(i % 3)]
        rows.append(row)
    return rows


@pytest.fixture
def image():
    return encoded


@pytest.fixture
def sound():
    return sound_rows
