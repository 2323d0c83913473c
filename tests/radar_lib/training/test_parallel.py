"""Runs side by side, or over several processes, give what they give alone, and end together however they end."""

import contextlib
import os
import signal
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from joblib import cpu_count
from safetensors.torch import load_file

from radar_lib.errors import RadarError
from radar_lib.training import parallel
from radar_lib.training.cache import Cache
from radar_lib.training.lab import Lab
from radar_lib.training.loop import Execution, Recipe, no_bar
from radar_lib.training.parallel import (
    train_all,
    train_over_processes,
    worker_count,
)
from radar_lib.training.scores import write_scores
from radar_lib.training.specs import RunSpec, SideFiles, SoftLabels
from radar_lib.training.workers import side_by_side

RECIPE = Recipe(epochs=1, batch_size=8, learning_rate=5e-3)


class Bars:
    """Remembers what bars are told."""

    def __init__(self):
        self.totals, self.done = {}, {}

    def __call__(self, *, total, desc, **_):
        self.totals[desc] = total
        bar = no_bar(total=total)
        bar.update = lambda n=1: self.done.update({desc: self.done.get(desc, 0) + n})
        return bar


@pytest.fixture
def lab(posts, checkpoints, tmp_path):
    return Lab(posts, Cache(tmp_path / "together"), checkpoints=str(checkpoints), bar=no_bar)


@pytest.fixture
def specs(posts):
    router = RunSpec("SigLIP2", posts.categories, RECIPE, 4, 8)
    return [RunSpec("Qwen3-VL-8B", ("LQC",), RECIPE, 4, 8), router, router.with_recipe(objective="unmasked")]


def test_two_workers_give_what_one_gives_to_the_bit(lab, specs, tmp_path):
    ids, logits = lab.table("train")["post_id"].tolist(), np.random.default_rng(0).normal(size=(48, 3))
    path = tmp_path / "side.parquet"
    write_scores(path, post_ids=ids, splits=["train"] * 48, logits=logits, categories=lab.posts.categories)
    side = SideFiles(propensity=SoftLabels.open(path), imputed=SoftLabels.open(path))
    specs = [*specs, specs[1].with_recipe(objective="dr")]
    lab.bar = bars = Bars()
    runs = train_all(lab, specs, titles="abcd", side=side, workers=2, desc="four runs")
    read, seen = 48 + 24 + 30, 8 * (2 + 6 + 6 + 6) + 4 * (24 + 30)  # in steps of 8, and when scored
    assert bars.totals == {"reading posts": read, "four runs": seen} == bars.done  # SigLIP2's own reading counts not
    alone = Lab(lab.posts, Cache(tmp_path / "alone"), checkpoints=lab.checkpoints, bar=no_bar)
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, cpu_count() // 2))
    for spec, run in zip(specs, runs, strict=True):
        assert run.spec == spec
        pd.testing.assert_frame_equal(run.scores(), alone.train(spec, side=side).scores(), check_exact=True)
    torch.set_num_threads(threads)
    assert not workers_of(psutil.Process())  # they hold no memory afterwards
    before = bars.done.copy()
    assert [run.digest for run in train_all(lab, specs, titles="abcd", side=side)] == [run.digest for run in runs]
    assert bars.done == before  # all of it was in the cache


def test_validation_posts_are_read_with_the_others_also_where_they_are_not_scored(lab, specs):
    lab.score_splits, lab.bar = ("test",), (bars := Bars())
    pair = [specs[0], specs[0].with_recipe(seed=2)]
    train_all(lab, pair, titles="ab", workers=2, desc="two runs")
    assert bars.done["reading posts"] == 48 + 24 + 30


def workers_of(process):
    return [p for p in process.children(recursive=True) if "resource_tracker" not in " ".join(p.cmdline())]


def test_a_failing_run_stops_the_others_and_is_named(lab, specs):
    bad = specs[0].with_recipe(learning_rate=1e30, batch_size=2, warmup=0.0)
    endless = specs[0].with_recipe(epochs=100_000)
    with pytest.raises(RadarError, match="the bad one: the loss is"):
        train_all(lab, [bad, endless], titles=["the bad one", "the other"], workers=2)
    assert not workers_of(psutil.Process())


def test_as_many_workers_as_cores_runs_memory_and_device_allow(lab, specs, monkeypatch):
    monkeypatch.setattr(parallel, "cpu_count", lambda: 16)
    assert worker_count(lab, specs) == 1  # 14 steps in all
    monkeypatch.setattr(parallel, "FEWEST_STEPS", 14)
    memory = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=1 << 36))
    assert [worker_count(lab, runs) for runs in (specs, specs * 4)] == [3, parallel.MOST_WORKERS]
    assert worker_count(lab, specs, workers=2) == 2
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=1 << 28))
    assert worker_count(lab, specs) == 1
    lab.device = "cuda"
    assert worker_count(lab, specs, workers=4) == 1


def test_results_side_by_side_come_in_order():
    assert list(side_by_side(divmod, [(7, 2), (9, 4)], workers=1)) == [(3, 1), (2, 1)]
    assert list(side_by_side(divmod, [(7, 2), (9, 4), (5, 5)], workers=2)) == [(3, 1), (2, 1), (1, 0)]
    assert list(side_by_side(divmod, [])) == []


def test_a_process_that_dies_names_the_remedy():
    with pytest.raises(RadarError, match="workers=1"):
        list(side_by_side(os._exit, [(1,), (1,)], workers=2))


def weights(run):
    files = [run.router_folder / name for name in ("adapter_model.safetensors", "heads.safetensors")]
    return {name: value.numpy() for path in files for name, value in load_file(path).items()}


def assert_close(run, other):
    for curve in ("steps", "epochs"):
        pairs = zip(getattr(run.history, curve), getattr(other.history, curve), strict=True)
        assert all(entry == pytest.approx(expected, abs=2e-5) for entry, expected in pairs)
    theirs = weights(other)
    assert all(np.allclose(value, theirs[name], atol=2e-5) for name, value in weights(run).items())
    assert np.allclose(run.scores().iloc[:, 2:], other.scores().iloc[:, 2:], atol=1e-4)


def test_two_processes_train_what_one_trains_and_each_continues_what_the_other_began(lab, interrupting, tmp_path):
    # 48 posts: the router's last batch has three, so shares differ; the expert's has one, so one process goes without
    expert = RunSpec("Qwen3-VL-8B", ("LQC",), replace(RECIPE, epochs=3, batch_size=5), 4, 8)
    router = RunSpec("SigLIP2", lab.posts.categories, replace(RECIPE, epochs=3, batch_size=9), 4, 8)
    alone = Lab(lab.posts, Cache(tmp_path / "alone"), checkpoints=lab.checkpoints, bar=no_bar)

    def killing(**about):
        """A bar that kills one of the processes when the router has a checkpoint."""
        bar = no_bar(**about)
        checkpoint = together.entry(router).workplace / "checkpoint.safetensors"
        bar.update = lambda n=1: kill() if checkpoint.exists() else None
        return bar

    def kill():
        os.kill(max(workers_of(psutil.Process()), key=lambda process: process.pid).pid, signal.SIGKILL)

    together = Lab(lab.posts, lab.cache, checkpoints=lab.checkpoints, bar=interrupting(8), checkpoint_seconds=0,
                   execution=Execution(accumulate=4))  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        together.train(expert)  # one process begins, two continue
    together.bar = killing
    with pytest.raises(RadarError, match="2 processes failed"):
        train_over_processes(together, [(expert, "expert"), (router, "router")], teacher=None, side=None, processes=2,
                             desc="both")  # fmt: skip
    assert together.entry(expert).complete and not together.entry(router).complete
    together.bar = no_bar
    assert_close(together.train(expert), alone.train(expert))
    assert_close(together.train(router), alone.train(router))  # two began, one continues


MARK = "RADAR_TEST_FAMILY"  # of the environment

PARENT = """
import sys, time
from pathlib import Path
from radar_lib.training.workers import side_by_side

if __name__ == "__main__":
    how, posts, checkpoints, cache = sys.argv[1:]
    if how == "side_by_side":
        list(side_by_side(time.sleep, [(600,), (600,)], workers=2))
    from radar_lib.data.posts import open_posts
    from radar_lib.training.cache import Cache
    from radar_lib.training.lab import Lab
    from radar_lib.training.loop import Recipe
    from radar_lib.training.parallel import train_all, train_over_processes
    from radar_lib.training.specs import RunSpec

    lab = Lab(open_posts(posts), Cache(Path(cache)), checkpoints=checkpoints)
    specs = [RunSpec("Qwen3-VL-8B", ("LQC",), Recipe(epochs=10_000, seed=seed), 4, 8) for seed in (1, 2)]
    if how == "train_all":
        train_all(lab, specs, titles="ab", workers=2)
    else:
        train_over_processes(lab, [(specs[0], "a")], teacher=None, side=None, processes=2, desc="")
"""


@pytest.mark.parametrize(("how", "moment"), [("side_by_side", 0.0), ("train_all", 3.0), ("train_over_processes", 8.0)])
def test_a_killed_parent_leaves_no_process(how, moment, posts, checkpoints, tmp_path):
    command = [sys.executable, "-c", PARENT, how, str(posts.folder), str(checkpoints), str(tmp_path / "cache")]
    mark = f"{os.getpid()}-{how}"
    with open(tmp_path / "log", "wb") as log:
        parent = psutil.Popen(command, env=os.environ | {MARK: mark}, stdout=log, stderr=log)
    while len(family(mark)) < 2:
        assert parent.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.05)
    time.sleep(moment)
    assert parent.poll() is None, (tmp_path / "log").read_text()
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 120  # those that were just being started end once they have started
    while left := family(mark):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def family(mark):
    """Living processes that inherited an environment."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
