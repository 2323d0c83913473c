"""Recipes on held-out halves: the numbers against average precision by hand, and a better order is found better."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from radar_lib.metrics import average_precision
from radar_lib.training.folds import part_of

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "benchmarks")
    import recipes

    return recipes


def test_recipes_are_judged_half_by_half_on_verified_cells(bench):
    generator = np.random.default_rng(0)
    ids = [f"post-{i}" for i in range(800)]
    labels = np.full((800, 2), -1, dtype=np.int8)
    labels[np.arange(800), np.arange(800) % 2] = generator.random(800) < 0.2
    good = (generator.normal(size=(800, 2)) + 3 * (labels == 1)).astype(np.float32)
    poor = generator.normal(size=(800, 2)).astype(np.float32)
    lab = SimpleNamespace(
        posts=SimpleNamespace(categories=("A", "B")),
        table=lambda split: pd.DataFrame({"post_id": ids}),
        labels=lambda split, categories: labels,
    )
    used, better = bench.judged(lab, {"used": poor, "better": good}, "used")
    half = part_of(ids, 2)
    for line, logits in ((used, poor), (better, good)):
        areas = [[average_precision(labels[rows, k], logits[rows, k]) for k in range(2)
                  if (rows := np.flatnonzero((half == fold) & (labels[:, k] >= 0))) is not None]
                 for fold in range(2)]  # fmt: skip
        assert line["average"] == pytest.approx(100 * np.mean(areas), abs=0.01)
        assert [line["A"], line["B"]] == pytest.approx(100 * np.mean(areas, axis=0), abs=0.01)
    assert (used["difference"], used["low"], used["high"]) == (0, 0, 0)
    assert better["difference"] == pytest.approx(better["average"] - used["average"], abs=0.02) and better["low"] > 0
