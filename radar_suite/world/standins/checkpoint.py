"""Write a model as an ordinary checkpoint folder, and make one with random weights."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from radar_lib.files import atomic_path
from radar_lib.models.backbones import quiet_transformers
from radar_suite.world.standins.geometry import GEOMETRIES, StandinGeometry, build_image_processor, build_model
from radar_suite.world.standins.tokenizers import VOCABULARY, train_tokenizer


def write_checkpoint(folder: Path, model: Any, tokenizer: Any, image_processor: Any) -> None:
    """Save float16 safetensors, configuration, tokenizer and image processor as one folder, whole or not at all."""
    with atomic_path(folder) as temporary, quiet_transformers():
        copy.deepcopy(model).to(torch.float16).save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        image_processor.save_pretrained(temporary)


def write_random_standin(
    folder: Path, name: str, texts: Iterable[str], *, seed: int = 1, geometry: StandinGeometry | None = None,
    vocabulary: int = VOCABULARY,
) -> None:  # fmt: skip
    """A stand-in before pretraining: the named geometry, random weights, a tokenizer trained on `texts`."""
    geometry = geometry or GEOMETRIES[name]
    tokenizer = train_tokenizer(geometry.family, texts, vocabulary=vocabulary)
    model = build_model(geometry, tokenizer, seed=seed)
    write_checkpoint(folder, model, tokenizer, build_image_processor(geometry))


class RunState:
    """An unfinished training run as one safetensors file: weights, the optimisers' moments, step, losses."""

    def __init__(self, model: torch.nn.Module, optimizers: Sequence[torch.optim.Optimizer]):
        self.model = model
        self.owned = [(o, p) for o in optimizers for group in o.param_groups for p in group["params"]]

    def save(self, path: Path, step: int, losses: list[float], seconds: float) -> None:
        """Write the state, whole or not at all."""
        tensors = {f"model.{name}": p.detach() for name, p in self.model.named_parameters()}
        for i, (optimizer, parameter) in enumerate(self.owned):
            # a parameter that the forward pass does not use has no state, such as the last norm of LLaVA's tower
            tensors |= {f"moment.{i}.{key}": value for key, value in optimizer.state.get(parameter, {}).items()}
        metadata = {"step": str(step), "losses": json.dumps(losses), "seconds": str(seconds)}
        with atomic_path(path) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata)

    def load(self, path: Path) -> tuple[int, list[float], float]:
        """Restore the state in place, if there is one. Returns step, losses and seconds so far."""
        if not path.is_file():
            return 0, [], 0.0
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            with torch.no_grad():
                for name, parameter in self.model.named_parameters():
                    parameter.copy_(file.get_tensor(f"model.{name}"))
            for i, (optimizer, parameter) in enumerate(self.owned):
                keys = [key for key in file.keys() if key.startswith(f"moment.{i}.")]
                if keys:
                    optimizer.state[parameter] = {key.split(".")[2]: file.get_tensor(key) for key in keys}
        return int(metadata["step"]), json.loads(metadata["losses"]), float(metadata["seconds"])
