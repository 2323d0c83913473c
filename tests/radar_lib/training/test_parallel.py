"""Runs side by side give what they give alone, say how far they are, and stop together when one fails."""

from __future__ import annotations

import os
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from radar_lib.errors import RadarError
from radar_lib.files import read_json
from radar_lib.training import launch, parallel
from radar_lib.training.cache import Cache
from radar_lib.training.lab import Lab, RunSpec, SideFiles, SoftLabels
from radar_lib.training.loop import Recipe, no_bar
from radar_lib.training.parallel import side_by_side, train_all, worker_count
from radar_lib.training.scores import write_scores


class Bars:
    """Remembers what bars are told."""

    def __init__(self):
        self.totals, self.done, self.texts = {}, {}, []

    def __call__(self, *, total, desc, **_):
        self.totals[desc] = total
        bar = no_bar(total=total)
        bar.update = lambda n=1: self.done.update({desc: self.done.get(desc, 0) + n})
        bar.set_postfix_str = lambda text, **_: self.texts.append(text)
        return bar


def specs(posts):
    recipe = Recipe(epochs=1, batch_size=8, learning_rate=5e-3)
    return [
        RunSpec("Qwen3-VL-8B", ("LQC",), recipe, 4, 8),
        RunSpec("SigLIP2", posts.categories, recipe, 4, 8),
        RunSpec("SigLIP2", posts.categories, Recipe(objective="unmasked", epochs=1, batch_size=8), 4, 8),
    ]


def side_files(posts, path):
    ids, logits = posts.table("train")["post_id"].tolist(), np.random.default_rng(0).normal(size=(48, 3))
    write_scores(path, post_ids=ids, splits=["train"] * 48, logits=logits, categories=posts.categories)
    return SideFiles(propensity=SoftLabels.open(path), imputed=SoftLabels.open(path))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_two_processes_give_what_one_gives(posts, checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "_cores", lambda: 2)
    bars = Bars()
    together = Lab(posts, Cache(tmp_path / "a"), checkpoints=str(checkpoints), bar=bars)
    all_specs = [*specs(posts), specs(posts)[1].with_recipe(objective="dr")]
    side = side_files(posts, tmp_path / "side.parquet")
    found = train_all(together, all_specs, titles="abcd", side=side, workers=2, desc="four runs")
    assert bars.totals == {"reading posts": 48 + 24 + 30, "four runs": 2 + 6 + 6 + 6}
    assert bars.done == {"reading posts": 102, "four runs": 20}  # the posts that SigLIP2 reads are no steps
    alone = Lab(posts, Cache(tmp_path / "b"), checkpoints=str(checkpoints), bar=no_bar)
    for spec, run in zip(all_specs, found, strict=True):
        assert run.spec == spec
        pd.testing.assert_frame_equal(run.scores(), alone.train(spec, side=side).scores(), check_exact=True)

    monkeypatch.setattr(parallel, "_train_in_processes", None)  # all are in the cache now
    again = train_all(together, all_specs, titles="abcd", side=side)
    assert [run.digest for run in again] == [run.digest for run in found]


def test_a_failing_run_stops_the_others_and_is_named(posts, checkpoints, tmp_path):
    lab = Lab(posts, Cache(tmp_path), checkpoints=str(checkpoints), bar=no_bar)
    good, *_ = specs(posts)
    bad = good.with_recipe(learning_rate=1e30, batch_size=2, warmup=0.0)
    with pytest.raises(RadarError, match="the bad one: the loss is"):
        train_all(lab, [good.with_recipe(seed=7), bad], titles=["good", "the bad one"], workers=2)
    assert not [p for p in psutil.Process().children() if "spawn_main" in " ".join(p.cmdline())]


def test_workers_follow_cores_runs_memory_and_device(posts, checkpoints, tmp_path, monkeypatch):
    lab = Lab(posts, Cache(tmp_path), checkpoints=str(checkpoints), bar=no_bar)
    monkeypatch.setattr(parallel, "_cores", lambda: 16)
    assert worker_count(lab, specs(posts)) == 1  # 14 steps in all
    monkeypatch.setattr(parallel, "FEWEST_STEPS", 14)
    memory = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=1 << 36))
    assert worker_count(lab, specs(posts)) == 3
    lab.checkpoints = "package:radar_suite.world.standins"
    assert worker_count(lab, specs(posts)) == 3
    assert worker_count(lab, specs(posts) * 4) == parallel.MOST_WORKERS
    assert worker_count(lab, specs(posts), workers=2) == 2
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=1 << 28))
    assert worker_count(lab, specs(posts)) == 1
    lab.device = "cuda"
    assert worker_count(lab, specs(posts), workers=4) == 1


def test_workers_and_torchrun_are_told_how_much_a_split_may_take(posts, checkpoints, tmp_path, monkeypatch):
    lab = Lab(posts, Cache(tmp_path), checkpoints=str(checkpoints), bar=no_bar, encoded_bytes=7)
    told = {}

    def no_pool(workers, *, mp_context, initializer, initargs):
        monkeypatch.setattr(parallel.threading, "Thread", MagicMock())  # it would wait for a parent
        monkeypatch.setattr(parallel, "_lab", None)
        initializer(*initargs)
        told["worker"] = (parallel._lab.encoded_bytes, parallel._lab.readers, parallel._lab.execution)
        raise KeyboardInterrupt

    def no_torchrun(command, **_):
        job = read_json(command[-1])
        assert SideFiles.from_json(job["side"]) == side
        told["torchrun"] = job["encoded_bytes"]
        raise KeyboardInterrupt

    side = side_files(posts, tmp_path / "side.parquet")
    monkeypatch.setattr(parallel, "ProcessPoolExecutor", no_pool)
    monkeypatch.setattr(launch.subprocess, "Popen", no_torchrun)
    with pytest.raises(KeyboardInterrupt):
        train_all(lab, specs(posts), titles="abc", workers=2)
    monkeypatch.setattr(parallel, "_devices", lambda lab: 2)
    with pytest.raises(KeyboardInterrupt):
        train_all(lab, specs(posts), titles="abc", side=side, workers=1)
    assert told == {"worker": (7, 2, lab.execution), "torchrun": 7}


def test_side_by_side_keeps_the_order():
    assert list(side_by_side(divmod, [(7, 2), (9, 4)], workers=1)) == [(3, 1), (2, 1)]
    assert list(side_by_side(divmod, [(7, 2), (9, 4), (5, 5)], workers=2)) == [(3, 1), (2, 1), (1, 0)]
    assert list(side_by_side(divmod, [])) == []


def test_side_by_side_names_the_remedy_when_a_process_dies():
    with pytest.raises(RadarError, match="workers=1"):
        list(side_by_side(os._exit, [(1,), (1,)], workers=2))
