"""Write a model as an ordinary checkpoint folder, and make one with random weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from radar_lib.files import atomic_path
from radar_lib.models.quiet import quiet_transformers
from radar_lib.models.standins.geometry import GEOMETRIES, Geometry, build_image_processor, build_model
from radar_lib.models.standins.tokenizers import VOCABULARY, train_tokenizer


def write_checkpoint(folder: Path, model: Any, tokenizer: Any, image_processor: Any) -> None:
    """Save float16 safetensors, configuration, tokenizer and image processor as one folder, whole or not at all."""
    with atomic_path(folder) as temporary, quiet_transformers():
        saved = type(model)(model.config)
        saved.load_state_dict(model.state_dict())
        saved.to(torch.float16).save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        image_processor.save_pretrained(temporary)


def write_random_standin(
    folder: Path, name: str, texts: Iterable[str], *, seed: int = 1, geometry: Geometry | None = None,
    vocabulary: int = VOCABULARY,
) -> None:  # fmt: skip
    """A stand-in before pretraining: the named geometry, random weights, a tokenizer trained on `texts`."""
    geometry = geometry or GEOMETRIES[name]
    tokenizer = train_tokenizer(geometry.family, texts, vocabulary=vocabulary)
    model = build_model(geometry, tokenizer, seed=seed)
    write_checkpoint(folder, model, tokenizer, build_image_processor(geometry))
