"""For all tests: small posts and images, one finished smoke chain, and no deadline for generated examples."""

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
CATEGORIES = ("LQC", "RCS", "FE")
WORDS = {"LQC": "blurry reupload", "RCS": "cheap loans", "FE": "follow to win"}
LONG = {"test_parallel", "test_bench", "test_interrupts", "test_audit_on_any_corpus", "test_killed", "test_standins",
        "test_build", "test_comparison", "test_planning", "test_held_out", "test_finetuned", "test_fixes", "test_plant",
        "test_decisions_on_any_corpus", "test_log"}  # files of ten seconds and more  # fmt: skip


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
    """First a file with the finished chain, so that one worker makes it while the others do the rest, and last the
    others that read it, so that nobody waits; the longest files after the first, so that none is left for the end."""
    reading = list(dict.fromkeys(item.path for item in items if "smoke_run" in getattr(item, "fixturenames", ())))
    reading.sort(key=lambda path: path.stem != "test_smoke_chain")
    place = {path: -1 if i == 0 else 1 for i, path in enumerate(reading)}
    items.sort(key=lambda item: (place.get(item.path, 0), item.path.stem not in LONG))


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


def make_rows(split: str, count: int, *, seed: int):
    """Posts of three pipelines, each verified for its own risk; a violating post says so in its title."""
    random = np.random.default_rng(seed)
    for i in range(count):
        category = CATEGORIES[i % 3]
        violating = bool(random.random() < 0.3) or i < 6
        noise = random.integers(0, 20, (48, 48, 3), np.uint8)
        pixels = np.full((48, 48, 3), 200 if violating else 40, np.uint8) + noise
        yield {
            "post_id": f"{split}-{i:04d}", "split": split, "pipeline": category, "ocr_text": "",
            "title": f"{WORDS[category] if violating else 'a calm walk'} {random.integers(100)}",
            "asr_text": "hello" if i % 2 else "", "frames": [Image.fromarray(pixels)] * int(random.integers(1, 3)),
            f"label_{category}": int(violating),
        }  # fmt: skip


@pytest.fixture(scope="session")
def posts(tmp_path_factory):
    """A small corpus with a learnable signal: enough to train for real in a second or two."""
    from radar_lib.data.posts import write_corpus

    sizes = {"train": 48, "validation": 24, "test": 30}
    rows = [row for split, n in sizes.items() for row in make_rows(split, n, seed=n)]
    return write_corpus(tmp_path_factory.mktemp("corpus") / "posts", rows, name="toy", kind="imported",
                        categories=CATEGORIES)  # fmt: skip


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Two tiny random checkpoints."""
    from radar_lib.models.backbones import BACKBONES
    from radar_suite.world.standins.checkpoint import write_random_standin
    from radar_suite.world.standins.geometry import GEOMETRIES, tiny

    folder = tmp_path_factory.mktemp("checkpoints")
    texts = [row["title"] for row in make_rows("pretrain", 60, seed=9)]
    for name in ("Qwen3-VL-8B", "SigLIP2"):
        standin = BACKBONES[name].folder
        write_random_standin(folder / standin, standin, texts, geometry=tiny(GEOMETRIES[standin]), vocabulary=420)
    return folder
