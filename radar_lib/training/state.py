"""What a run keeps while it lasts: its curves, and a checkpoint from which it continues to the bit.

A checkpoint holds the trainable weights and AdamW's state in float32. It is safetensors; nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

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
    curves = {"step": step, "steps": history.steps, "epochs": history.epochs, "seconds": history.seconds}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"state": json.dumps(curves)})


def load_checkpoint(
    path: Path, parameters: Mapping[str, nn.Parameter], optimiser: torch.optim.AdamW
) -> tuple[History, int]:
    """Load a checkpoint, if there is one, into parameters and optimiser; returns the curves and the steps done."""
    if not path.exists():
        return History(), 0
    with safe_open(path, framework="pt") as file:
        curves: dict[str, Any] = json.loads(file.metadata()["state"])
        names = set(file.keys())
        for name, parameter in parameters.items():
            with torch.no_grad():
                parameter.copy_(file.get_tensor(f"weight/{name}"))
            state = {key: file.get_tensor(f"{key}/{name}") for key in ADAMW_STATE if f"{key}/{name}" in names}
            # AdamW counts steps on the CPU
            optimiser.state[parameter] = {k: v if k == "step" else v.to(parameter.device) for k, v in state.items()}
    return History(curves["steps"], curves["epochs"], curves["seconds"]), curves["step"]
