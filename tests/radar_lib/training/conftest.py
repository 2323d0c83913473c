"""A small corpus with a learnable signal and tiny random checkpoints: enough to train for real in a second or two."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from radar_lib.data.posts import write_corpus
from radar_lib.models.backbones import BACKBONES
from radar_lib.training.loop import no_bar
from radar_suite.world.standins.checkpoint import write_random_standin
from radar_suite.world.standins.geometry import GEOMETRIES, tiny

CATEGORIES = ("LQC", "RCS", "FE")
WORDS = {"LQC": "blurry reupload", "RCS": "cheap loans", "FE": "follow to win"}


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
    sizes = {"train": 48, "validation": 24, "test": 30}
    rows = [row for split, n in sizes.items() for row in make_rows(split, n, seed=n)]
    return write_corpus(tmp_path_factory.mktemp("corpus") / "posts", rows, name="toy", kind="imported",
                        categories=CATEGORIES)  # fmt: skip


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    texts = [row["title"] for row in make_rows("pretrain", 60, seed=9)]
    for name in ("Qwen3-VL-8B", "SigLIP2"):
        standin = BACKBONES[name].folder
        write_random_standin(folder / standin, standin, texts, geometry=tiny(GEOMETRIES[standin]), vocabulary=420)
    return folder


@pytest.fixture
def interrupting():
    """Makes bars that press Ctrl-C after so many units."""

    def bars(after: int, unit: str = "step"):
        left = [after]

        def update(n: int = 1) -> None:
            left[0] -= n
            if left[0] <= 0:
                raise KeyboardInterrupt

        def bar(**about):
            shown = no_bar(**about)
            if about["unit"] == unit:
                shown.update = update
            return shown

        return bar

    return bars
