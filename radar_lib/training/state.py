"""What a run keeps while it lasts: its curves, and a checkpoint from which it continues to the bit.

A checkpoint holds the trainable weights and AdamW's state in float32. It is safetensors; nothing is unpickled. Its
checksum is checked when it is read; a damaged one is passed over, and the run starts anew.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from radar_lib.files import atomic_path

CHECKPOINT = "checkpoint.safetensors"
ADAMW_STATE = ("step", "exp_avg", "exp_avg_sq")


@dataclass
class History:
    """Curves of a run: `steps` holds the mean loss between two entries, `epochs` what validation said."""

    steps: list[dict[str, float]] = field(default_factory=list)
    epochs: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0

    def validation(self) -> list[float]:
        """By epoch, the mean over the risks that validation could judge; NaN where it could judge none."""
        found = [[value for key, value in entry.items() if key != "epoch"] for entry in self.epochs]
        return [float(np.mean(values)) if values else np.nan for values in found]


def save_checkpoint(
    path: Path, parameters: Mapping[str, nn.Parameter], optimiser: torch.optim.AdamW, history: History, *, step: int
) -> None:
    """Write weights, AdamW's state, the step and the curves so far as one file.

    A parameter that no batch has used yet (SigLIP's vision tower, where posts have no frames) has no state.
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        state = optimiser.state.get(parameter, {})
        for key, value in {"weight": parameter, **state}.items():
            tensors[f"{key}/{name}"] = value.detach().cpu().contiguous()
    state = json.dumps({"step": step, "steps": history.steps, "epochs": history.epochs, "seconds": history.seconds})
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"state": state, "checksum": str(_checksum(tensors, state))})


def _checksum(tensors: Mapping[str, Tensor], state: str) -> int:
    """CRC-32 of all that a checkpoint says: as fast as memory, and no damaged byte escapes it."""
    value = zlib.crc32(state.encode())
    for name, tensor in sorted(tensors.items()):
        value = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), value)
        value = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy(), value)
    return value


def _read_checkpoint(path: Path) -> tuple[dict[str, Tensor], str] | None:
    """Tensors and state of a checkpoint; None where there is none, or a damaged one."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
            about = file.metadata()
        if int(about["checksum"]) == _checksum(tensors, about["state"]):
            return tensors, about["state"]
    except (SafetensorError, KeyError, TypeError, ValueError):
        pass
    tqdm.write(f"{path} is not what was written: the run starts anew.", file=sys.stderr)
    return None


def load_checkpoint(
    path: Path, parameters: Mapping[str, nn.Parameter], optimiser: torch.optim.AdamW
) -> tuple[History, int]:
    """Load a checkpoint, if there is one, into parameters and optimiser; returns the curves and the steps done."""
    found = _read_checkpoint(path)
    if found is None:
        return History(), 0
    tensors, curves = found[0], json.loads(found[1])
    for name, parameter in parameters.items():
        with torch.no_grad():
            parameter.copy_(tensors[f"weight/{name}"])
        state = {key: tensors[f"{key}/{name}"] for key in ADAMW_STATE if f"{key}/{name}" in tensors}
        optimiser.state[parameter] = {k: v.to(parameter.device) for k, v in state.items()}
    return History(curves["steps"], curves["epochs"], curves["seconds"]), curves["step"]
