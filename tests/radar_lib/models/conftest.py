"""Tiny random checkpoints of all seven stand-ins, and a handful of awkward posts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from radar_lib.models.backbones import load_backbone
from radar_suite.world.standins.checkpoint import write_random_standin
from radar_suite.world.standins.geometry import GEOMETRIES, tiny

NAMES = tuple(GEOMETRIES)
PX = 48
SHARDS = 3
TEXTS = [
    "Title: follow me and win a prize today",
    "OCR: comparte y gana un premio hoy",
    "ASR: hallo zusammen, heute kochen wir",
    "Title: сегодня в зале день ног",
    "OCR: مرحبا بالجميع",
]


def frame(seed: int, size: tuple[int, int] = (PX, PX), mode: str = "RGB") -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny tensors: a second thread only waits, and sums in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_frame():
    return frame


@pytest.fixture(scope="session")
def awkward_posts() -> list[dict]:
    """No frames, no text, neither, several frames, one frame, frames of other sizes and modes, a long text."""
    return [
        {"title": "win a prize", "ocr_text": "", "asr_text": "", "frames": []},
        {"title": "", "ocr_text": "", "asr_text": "", "frames": [frame(1), frame(2), frame(3)]},
        {"title": "", "ocr_text": "", "asr_text": "", "frames": []},
        {"title": "مرحبا", "ocr_text": "gana", "asr_text": "hallo", "frames": [frame(4)]},
        {"title": "day", "ocr_text": "", "asr_text": "", "frames": [frame(5, (96, 96), "L"), frame(6, mode="RGBA")]},
        {"title": "follow me " * 40, "ocr_text": "never read", "asr_text": "nor this", "frames": [frame(7), frame(8)]},
    ]


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    for seed, name in enumerate(NAMES):  # a seed each: the tiny geometries of one family are alike
        geometry = tiny(GEOMETRIES[name])
        write_random_standin(folder / name, name, TEXTS * 20, seed=seed, geometry=geometry, vocabulary=380)
    return folder


@pytest.fixture(scope="session")
def loaded(checkpoints):
    """Backbones by name, each loaded once and shared: a test must leave it as it was."""
    kept = {}

    def get(name: str):
        if name not in kept:
            kept[name] = load_backbone(checkpoints / name)
            if name == "gemma3-4b":  # its projector starts at zero, which would hide the frames
                projector = kept[name].model.multi_modal_projector.mm_input_projection_weight
                torch.nn.init.normal_(projector, std=0.2, generator=torch.Generator().manual_seed(1))
        return kept[name]

    return get


def write_shards(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Several shards and their index, as `save_pretrained` would name them."""
    names, weight_map = sorted(tensors), {}
    for i in range(SHARDS):
        file = f"model-{i + 1:05d}-of-{SHARDS:05d}.safetensors"
        part = {name: tensors[name].contiguous() for name in names[i::SHARDS]}
        save_file(part, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    total = sum(value.numel() * value.element_size() for value in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def change(path: Path, **values: Any) -> None:
    """Set (None: remove) values of a JSON file."""
    content = (json.loads(path.read_text()) if path.is_file() else {}) | values
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


@pytest.fixture(scope="session")
def shards():
    """Writes tensors as several shards with their index."""
    return write_shards


@pytest.fixture(scope="session")
def change_json():
    """Changes values of a JSON file."""
    return change
