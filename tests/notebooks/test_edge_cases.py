"""Cells where the default run does not go: a model on a GPU, experts whose validation posts hold no violation."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.modules.setdefault("rfc3987_syntax", None)  # nbformat's optional check of URLs takes seconds to import
import nbformat  # noqa: E402

from radar_lib.training.state import History  # noqa: E402

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def code(name):
    cells = nbformat.read(NOTEBOOKS / name, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


def test_every_batch_of_notebook_02_goes_to_the_models_device():
    calls = [node for source in code("02_backbones.ipynb") for node in ast.walk(ast.parse(source))
             if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("model", "backbone")]  # fmt: skip
    assert len(calls) == 5
    for call in calls:
        (batch,) = call.args
        assert batch.func.id == "to_device" and ast.unparse(batch.args[1]) == "ws.device"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"A": [0.2, 0.4], "B": [0.5, 0.3]}, ["last epoch for 1 of 2 experts; it peaked earlier for B."]),
        ({"A": [0.2, 0.4], "B": None}, ["for 1 of 1 experts.", "Validation could not judge B:"]),
        ({"A": [0.2, None, 0.4]}, ["last epoch for 1 of 1 experts."]),
        ({"A": None, "B": []}, ["Validation could not judge A, B:"]),
    ],
)
def test_notebook_03_says_what_validation_can_say(values, expected):
    (source,) = [source for source in code("03_expert_training.ipynb") if "Validation PR-AUC was highest" in source]
    experts = {}
    for name, curve in values.items():
        epochs = [{"epoch": 1}, {"epoch": 2}] if curve is None else [
            {"epoch": i + 1} | ({} if value is None else {name: value}) for i, value in enumerate(curve)]  # fmt: skip
        experts[name] = SimpleNamespace(history=History(epochs=epochs))
    said = []
    epochs = max(len(curve or []) for curve in values.values())
    exec(source, {"experts": experts, "np": np, "say": said.append, "expert_epochs": epochs})
    assert len(said) == len(expected) and all(part in text for part, text in zip(expected, said, strict=True))
