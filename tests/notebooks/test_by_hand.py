"""What the notebooks work out by hand is what the library computes: their cells are run here, on something small."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from radar_lib.models.backbones import BACKBONES, load_backbone
from radar_suite.world.standins import resolve

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def run_cells(notebook: str, *ids: str, **names: Any) -> dict[str, Any]:
    """Run the imports of a notebook and then the cells with these ids; returns all names that there are then."""
    cells = json.loads(next(NOTEBOOKS.glob(f"{notebook}_*.ipynb")).read_text(encoding="utf-8"))["cells"]
    source = {cell["id"]: "".join(cell["source"]) for cell in cells}
    imports = next(text for text in source.values() if text.startswith(("import ", "from ")))
    exec(imports, names)
    for one in ids:
        exec(compile(source[one], f"{notebook}/{one}", "exec"), names)
    return names


def posts(number: int) -> list[dict[str, Any]]:
    """Posts of different lengths, with no frame, one or two."""
    random = np.random.default_rng(0)
    noise = lambda: Image.fromarray(random.integers(0, 255, (96, 96, 3), dtype=np.uint8))  # noqa: E731
    return [{"post_id": f"p{i}", "title": "win a prize today " * (i % 4 + 1), "ocr_text": "", "asr_text": "",
             "frames": [noise() for _ in range(i % 3)]} for i in range(number)]  # fmt: skip


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(resolve(BACKBONES["Qwen3-VL-2B"], "standins"))


def test_the_router_of_notebook_02_is_the_librarys_to_the_last_digit(backbone, capsys):
    corpus, ws = SimpleNamespace(categories=("A", "B", "C")), SimpleNamespace(device="cpu")
    known = {"corpus": corpus, "ws": ws, "limit": backbone.text, "seed": 1}
    model = load_backbone(backbone.checkpoint)
    found = run_cells("02", "router-class", "router-equal", "router-logits", model=model, rows=posts(16), **known)
    assert found["by_hand"].shape == (16, 3) and found["by_hand"].std() > 0.01
    assert torch.equal(found["by_hand"], found["theirs"])
    plain = found["model"](found["batch"])
    assert not torch.equal(plain, backbone(found["batch"]))  # LoRA takes part in it


def test_the_loop_of_notebook_05_has_the_librarys_losses_step_by_step(backbone):
    read, random = posts(32), np.random.default_rng(1)
    given = random.choice(np.array([-1, 0, 1], np.int8), (32, 2))
    lab = SimpleNamespace(backbone=lambda name: backbone, release=lambda: None)
    split = SimpleNamespace(select=lambda rows: [read[i] for i in rows])
    corpus = SimpleNamespace(categories=("A", "B"), split=lambda name: split)
    settings = {"batch_size": 8, "learning_rate": 0.01, "lora_rank": 4, "lora_alpha": 8, "seed": 1}
    known = settings | {"lab": lab, "corpus": corpus, "ws": SimpleNamespace(device="cpu", about="")}
    ids = ("loop-train", "loop-posts", "loop-library", "loop-curves", "loop-table")
    curves = run_cells("05", *ids, given=given, valid=given >= 0, **known)["curves"]
    assert len(curves) == 4 and curves.std().min() > 0.01
    for loss in ("Masked BCE", "BCE w/o Mask"):
        np.testing.assert_allclose(curves[loss, "by hand"], curves[loss, "radar_lib"], atol=1e-5)
    assert (curves["Masked BCE"] < curves["BCE w/o Mask"]).iloc[0].all()  # the same router, fewer cells
