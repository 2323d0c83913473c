"""The cache: an entry is whole or absent, made once whoever asks for it, and what is damaged is noticed."""

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from radar_lib.errors import RadarError
from radar_lib.files import read_json
from radar_lib.models.router import RadarRouter
from radar_lib.training import encoded as encoded_posts
from radar_lib.training.cache import Cache
from radar_lib.training.encoder import pooled_features
from radar_lib.training.lab import Lab
from radar_lib.training.loop import Recipe, no_bar
from radar_lib.training.scores import read_scores, write_scores
from radar_lib.training.specs import Run, RunSpec, SoftLabels
from radar_lib.training.state import History, load_checkpoint, save_checkpoint
from radar_lib.training.teachers import soft_labels

NAME, FLIPS = "Qwen3-VL-8B", 20


@pytest.fixture(scope="module")
def trained(posts, checkpoints, tmp_path_factory):
    """A lab with three experts, their soft labels, encoded posts and frozen features."""
    folder = tmp_path_factory.mktemp("trained")
    lab = Lab(posts, Cache(folder / "cache"), checkpoints=str(checkpoints), bar=no_bar)
    recipe = Recipe(epochs=1, batch_size=24, learning_rate=5e-3)
    experts = {c: lab.train(RunSpec(NAME, (c,), recipe, 2, 4)) for c in lab.posts.categories}
    soft_labels(lab, experts, splits=["train"], path=folder / "soft.parquet")
    pooled_features(lab, NAME, "test")
    return lab, experts, folder / "soft.parquet"


def flips(path, seed=1):
    """Each time round, the file with one bit of one byte of it changed; afterwards it is as it was."""
    whole, chosen = path.read_bytes(), random.Random(seed)
    for _ in range(FLIPS):
        at = chosen.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[at] ^= 1 << chosen.randrange(8)
        path.write_bytes(damaged)
        yield at
    path.write_bytes(whole)


def test_processes_that_ask_for_one_entry_make_it_once_and_for_two_at_the_same_time(tmp_path):
    code = """
import os, pathlib, sys, time
from radar_lib.training.cache import Cache
root, name, log = sys.argv[1:]
def work(folder):
    with open(log, "a") as file: file.write(f"begin {name}\\n")
    (folder / "a.bin").write_bytes(b"half")
    time.sleep(0.4)
    with open(folder / "a.bin", "ab") as file: file.write(b" and half")
    with open(log, "a") as file: file.write(f"end {name}\\n")
    return {"of": name}
print(Cache(pathlib.Path(root)).entry("kind", {"name": name}).make(work)["of"])
"""
    log = tmp_path / "log"
    started = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "cache"), name, str(log)],
                                stdout=subprocess.PIPE, text=True) for name in "xxy"]  # fmt: skip
    assert [process.communicate()[0].strip().splitlines()[-1] for process in started] == ["x", "x", "y"]
    lines = log.read_text().splitlines()
    assert sorted(lines) == ["begin x", "begin y", "end x", "end y"]
    for name in "xy":
        entry = Cache(tmp_path / "cache").entry("kind", {"name": name})
        assert entry.complete and entry.path("a.bin").read_bytes() == b"half and half"
    assert sorted(path.name for path in entry.folder.parent.iterdir()) == sorted(
        Cache(tmp_path / "cache").entry("kind", {"name": name}).digest for name in "xy"
    )


def test_two_labs_that_read_the_same_posts_at_once_keep_what_one_keeps_alone(trained, tmp_path, monkeypatch):
    lab, *_ = trained

    def slowly(*of):
        for chunk in encoded_posts.chunks(*of):
            yield chunk
            time.sleep(0.2)

    monkeypatch.setattr(encoded_posts, "CHUNK", 10)
    labs = [Lab(lab.posts, Cache(tmp_path / name), checkpoints=lab.checkpoints, bar=no_bar) for name in "abb"]
    for one in labs:
        one.backbone(NAME)
    labs[0].encoded(NAME, "test")
    monkeypatch.setattr("radar_lib.training.encoder.chunks", slowly)
    threads = [threading.Thread(target=one.encoded, args=(NAME, "test")) for one in labs[1:]]
    for thread in threads:
        thread.start()
        time.sleep(0.3)
    for thread in threads:
        thread.join()
    alone, together = (one.encoded_entry(NAME, "test").folder for one in labs[:2])
    kept = [{path.name: path.read_bytes() for path in folder.glob("*.bin")} for folder in (alone, together)]
    assert kept[0] and kept[0] == kept[1]
    assert [len(one.encoded(NAME, "test")) for one in labs] == [30] * 3


def test_an_entry_is_absent_until_it_is_whole_and_goes_on_where_work_was_killed(tmp_path):
    entry = Cache(tmp_path).entry("kind", {})

    def killed(folder):
        (folder / "checkpoint").write_text("3")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        entry.make(killed)
    assert not entry.folder.exists() and not entry.complete

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(RadarError, match="cannot write .*Free some space"):
        entry.make(full)

    def resumed(folder):
        assert (folder / "checkpoint").read_text() == "3"
        (folder / "result").write_text("x")

    assert entry.make(resumed, scratch=("checkpoint",))["files"].keys() == {"result"}
    assert {path.name for path in entry.folder.iterdir()} == {"result", "run.json"}
    entry.workplace.parent.mkdir(exist_ok=True)
    os.replace(entry.folder, entry.workplace)  # killed before the last step
    assert entry.make(None)["files"].keys() == {"result"} and entry.complete


def test_a_damaged_entry_is_made_again_and_says_so(tmp_path, capsys):
    entry = Cache(tmp_path).entry("kind", {})
    entry.make(lambda folder: (folder / "a").write_text("right") and {"n": 1})
    before = entry.path("a").stat()
    entry.path("a").write_text("wrong")
    os.utime(entry.path("a"), ns=(before.st_atime_ns, before.st_mtime_ns))  # of the same size and time
    assert not entry.complete
    entry.make(lambda folder: (folder / "a").write_text("right") and {"n": 2})
    assert entry.path("a").read_text() == "right" and entry.record()["n"] == 2
    assert "a is not what" in capsys.readouterr().err
    record = json.loads(entry.path("run.json").read_text())
    entry.path("run.json").write_text(json.dumps(record | {"n": 3}))
    assert not entry.complete
    with pytest.raises(RadarError, match="run.json is not what was written"):
        entry.record()


KINDS = ("run.json", "history.json", "router/adapter_model.safetensors", "router/heads.safetensors",
         "router/router_config.json")  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_no_flipped_byte_in_a_run_is_read_as_the_run(trained, name):
    lab, experts, _ = trained
    run = experts["LQC"]
    for at in flips(run.entry.path(name)):
        assert not run.entry.complete, at
        with pytest.raises(RadarError):
            Run.load(run.entry.folder)
        if "router/" in name:
            with pytest.raises(RadarError):
                RadarRouter.from_pretrained(run.router_folder, backbone=lab.backbone(NAME))
    assert run.entry.complete and len(Run.load(run.entry.folder).scores("test"))


def test_no_flipped_byte_in_a_runs_scores_is_read(trained):
    run = trained[1]["LQC"]
    for name in ("run.json", "scores.parquet"):
        for at in flips(run.scores_entry("test").path(name)):
            assert run.unscored() == ["test"], at
            with pytest.raises(RadarError):
                run.scores("test")
    assert not run.unscored()


@pytest.mark.parametrize("kind", ["encoded", "features", "teacher"])
def test_no_flipped_byte_in_what_is_kept_is_read(trained, kind):
    lab, *_ = trained
    folder = next(path for path in (lab.cache.root / kind).iterdir())
    record = read_json(folder / "run.json")
    entry = lab.cache.entry(kind, record["inputs"])
    assert entry.folder == folder and entry.complete
    for name in (*record["files"], "run.json"):
        if entry.path(name).stat().st_size:
            assert all(not entry.complete for _ in flips(entry.path(name))), name
    assert entry.complete


def test_flipped_encoded_posts_are_encoded_again(trained, tmp_path):
    lab, *_ = trained
    shutil.copytree(lab.cache.root / "encoded", tmp_path / "encoded")
    again = Lab(lab.posts, Cache(tmp_path), checkpoints=lab.checkpoints, bar=no_bar)
    path = again.encoded_entry(NAME, "test").path("features_0.bin")
    whole = path.read_bytes()
    path.write_bytes(bytes(len(whole)))
    assert len(again.encoded(NAME, "test")) == 30 and path.read_bytes() == whole


def test_no_flipped_byte_in_soft_labels_is_learned_from(trained):
    *_, path = trained
    teacher = SoftLabels.open(path)
    for at in flips(path):
        with pytest.raises(RadarError, match="not what was written"):
            teacher.logits(["train-0000"], ("LQC",))
        with pytest.raises(RadarError, match="not what was written"):
            SoftLabels.open(path, digest=teacher.digest)
        assert at >= 0
    assert teacher.logits(["train-0000"], ("LQC",)).shape == (1, 1)


def test_two_hundred_flips_of_a_scores_file_are_all_seen(tmp_path):
    path, chosen = tmp_path / "s.parquet", np.random.default_rng(1)
    ids = [f"post {i}" for i in range(500)]
    write_scores(path, post_ids=ids, splits=["test"] * 500, logits=chosen.normal(size=(500, 3)), categories="ABC")
    digest = SoftLabels.open(path).digest
    seen = 0
    for seed in range(10):
        for _ in flips(path, seed):
            with pytest.raises(RadarError):
                read_scores(path, digest=digest)
            seen += 1
    assert seen == 200 and len(read_scores(path, digest=digest)) == 500


def test_a_flipped_checkpoint_is_passed_over_and_a_whole_one_is_read(tmp_path, capsys):
    def fresh():
        weight = {"w": torch.nn.Parameter(torch.arange(64.0))}
        return weight, torch.optim.AdamW(weight.values())

    path, (weight, optimiser) = tmp_path / "checkpoint.safetensors", fresh()
    weight["w"].grad = torch.ones(64)
    optimiser.step()
    save_checkpoint(path, weight, optimiser, History([{"step": 3, "loss": 0.5}]), step=3)
    changed = 0
    for _ in flips(path):
        found, of = fresh()
        _, step = load_checkpoint(path, found, of)
        changed += step == 0
        assert step == 0 or torch.equal(found["w"], weight["w"])
    assert changed > FLIPS // 2 and "starts anew" in capsys.readouterr().err
    found, of = fresh()
    history, step = load_checkpoint(path, found, of)
    assert step == 3 and history.steps[0]["loss"] == 0.5 and torch.equal(found["w"], weight["w"])
    assert of.state[found["w"]]["step"] == 1
