"""Recipes on held-out halves: the numbers against average precision by hand, and a better order is found better."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from radar_lib.metrics import average_precision
from radar_lib.training.batches import part_of

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "benchmarks")
    import recipes

    return recipes


def test_every_post_is_scored_by_the_run_and_the_probe_that_did_not_see_it(bench, monkeypatch):
    ids = [f"post-{i}" for i in range(60)]
    half, seen = part_of(ids, 2), []
    lab = SimpleNamespace(
        posts=SimpleNamespace(categories=("A", "B")),
        table=lambda split: pd.DataFrame({"post_id": ids}),
        labels=lambda split, categories: np.tile(np.arange(60)[:, None] % 2, 2),
    )

    def train_all(lab, specs, **_):
        return [SimpleNamespace(scores=lambda fold=spec.fold: fold) for spec in specs]

    def fit_regressions(train, known, test, *, seed):
        seen.append((len(train), len(known)))
        return np.full((len(test), 2), float(len(train)), np.float32), [1.0, 1.0]

    monkeypatch.setattr(bench, "train_all", train_all)
    monkeypatch.setattr(bench, "logits_for", lambda fold, ids, categories: np.full((60, 2), fold[0], np.float32))
    monkeypatch.setattr(bench, "pooled_features", lambda lab, backbone, split: np.random.default_rng(0).random((60, 3)))
    monkeypatch.setattr(bench, "fit_regressions", fit_regressions)
    settings = bench.Settings(epochs=1, batch_size=8, learning_rate=0.5, lora_rank=2, lora_alpha=4, seed=1)
    found = bench.held_out(lab, settings, "Qwen3-VL-4B")
    assert set(found) == {bench.name_of(*one) for one in [*bench.GRID, (0.5, 1)]} | {bench.PROBE}
    for name in set(found) - {bench.PROBE}:
        assert (found[name][:, 0] == 1 - half).all(), "scored by the run of the other half"
    sizes = [int((half == fold).sum()) for fold in range(2)]
    assert seen == [(n, n) for n in sizes] and sizes[0] != sizes[1]
    assert (found[bench.PROBE][:, 0] == np.where(half == 0, sizes[1], sizes[0])).all()


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
