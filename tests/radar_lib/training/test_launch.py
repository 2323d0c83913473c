"""Two processes (torchrun, gloo) train what one trains; each may continue what the other began."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import numpy as np
import psutil
import pytest
from safetensors.torch import load_file

from radar_lib.errors import RadarError
from radar_lib.training import parallel, runs
from radar_lib.training.cache import Cache
from radar_lib.training.lab import Lab, RunSpec
from radar_lib.training.loop import Execution, Recipe, no_bar

RECIPE = Recipe(epochs=3, batch_size=9, learning_rate=5e-3)  # 48 posts: the last batch has three, shares differ


def weights(run):
    files = [run.router_folder / name for name in ("adapter_model.safetensors", "heads.safetensors")]
    return {name: value.numpy() for path in files for name, value in load_file(path).items()}


def assert_same(run, other):
    for curve in ("steps", "epochs"):
        pairs = zip(getattr(run.history, curve), getattr(other.history, curve), strict=True)
        assert all(entry == pytest.approx(expected, abs=2e-5) for entry, expected in pairs)
    theirs = weights(other)
    assert all(np.allclose(value, theirs[name], atol=2e-5) for name, value in weights(run).items())
    assert np.allclose(run.scores().iloc[:, 2:], other.scores().iloc[:, 2:], atol=1e-4)


def test_two_processes_train_what_one_trains(posts, checkpoints, tmp_path, monkeypatch):
    # the expert's last batch is one post, so that a process goes without; SigLIP2 trains its towers
    expert = RunSpec("Qwen3-VL-8B", ("LQC",), replace(RECIPE, batch_size=5), 4, 8)
    router = RunSpec("SigLIP2", posts.categories, RECIPE, 4, 8)
    alone = Lab(posts, Cache(tmp_path / "alone"), checkpoints=str(checkpoints), bar=no_bar)

    def killing(**about):
        """A bar that kills one of torchrun's processes when the router has a checkpoint."""
        bar = no_bar(**about)
        bar.update = lambda n=1: kill() if together.entry(router).path("checkpoint.safetensors").exists() else None
        return bar

    def kill():
        worker = max(psutil.Process().children(recursive=True), key=lambda process: process.pid)
        os.kill(worker.pid, signal.SIGKILL)

    together = Lab(
        posts, Cache(tmp_path / "two"), checkpoints=str(checkpoints), bar=killing, checkpoint_seconds=0,
        execution=Execution(accumulate=4),
    )  # fmt: skip
    real, calls = runs.EncodedPosts.batch, []

    def dying(self, indices):
        calls.append(1)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return real(self, indices)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(runs.EncodedPosts, "batch", dying)
        together.train(expert)  # one process begins, two continue
    with monkeypatch.context() as patch, pytest.raises(RadarError, match="training over 2 processes failed"):
        patch.setattr(parallel, "_devices", lambda lab: 2)
        parallel.train_all(together, [expert, router], titles=["expert", "router"])
    assert together.entry(expert).complete and together.entry(router).state == "partial"
    together.bar = no_bar
    assert_same(together.train(expert), alone.train(expert))
    assert_same(together.train(router), alone.train(router))  # two began, one continues
