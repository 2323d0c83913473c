"""Streamed posts are the kept posts: same lengths, batches, training and scores; the rule says which it is."""

from __future__ import annotations

import pickle

import numpy as np
import psutil
import pytest
import torch

from radar_lib.training import runs, streamed
from radar_lib.training.cache import Cache
from radar_lib.training.encoded import EncodedPosts, StoredPosts
from radar_lib.training.lab import Lab, RunSpec
from radar_lib.training.loop import Recipe, no_bar, predict
from radar_lib.training.streamed import Rows, StreamedPosts, too_large

RECIPE = Recipe(epochs=2, batch_size=8, learning_rate=5e-3)


def make_lab(posts, checkpoints, folder, **options):
    return Lab(posts, Cache(folder), checkpoints=str(checkpoints), bar=no_bar, **options)


@pytest.fixture
def lab(posts, checkpoints, tmp_path):
    return make_lab(posts, checkpoints, tmp_path / "kept")


@pytest.fixture
def streaming(posts, checkpoints, tmp_path):
    return make_lab(posts, checkpoints, tmp_path / "streamed", encoded_bytes=0)


@pytest.mark.parametrize("name", ["Qwen3-VL-8B", "SigLIP2"])
def test_a_streamed_run_is_the_kept_run(lab, streaming, name, capsys):
    spec = RunSpec(name, lab.posts.categories, RECIPE, 4, 8)
    kept, again = lab.train(spec), streaming.train(spec)
    assert isinstance(streaming.encoded(name, "train"), StreamedPosts)
    assert not streaming.encoded_entry(name, "train").folder.exists()
    assert f"{name}, train: 48 posts would take" in capsys.readouterr().out
    assert np.array_equal(streaming.encoded(name, "test").lengths, lab.encoded(name, "test").lengths)
    exact = {"rtol": 0, "atol": 0} if name == "SigLIP2" else {"rtol": 1e-4, "atol": 1e-5}
    losses = [[step["loss"] for step in run.history.steps] for run in (kept, again)]
    np.testing.assert_allclose(*losses, **exact)
    logits = [run.scores().filter(like="logit") for run in (kept, again)]
    np.testing.assert_allclose(*logits, **exact)
    assert kept.digest == again.digest


def test_workers_make_the_same_batches_without_the_weights(streaming):
    posts = streaming.encoded("Qwen3-VL-8B", "test").subset(range(3, 11))
    pickled = pickle.dumps(posts)
    assert len(pickled) < 1 << 20
    there = pickle.loads(pickled)
    assert next(there.backbone.parameters()).device.type == "meta"
    plan = [[0, 5, 2], np.array([7])]
    for expected, found in zip(posts.batches(plan), there.batches(plan), strict=True):
        assert expected.keys() == found.keys() >= {"input_ids", "pixel_values"}
        assert all(torch.equal(expected[key], found[key]) for key in expected)


@pytest.mark.slow
def test_real_worker_processes(streaming):
    import dataclasses

    posts = streaming.encoded("Qwen3-VL-8B", "test")
    plan = [[0, 5, 2], [7], [9, 1]]
    with_workers = dataclasses.replace(posts, workers=2)
    for expected, found in zip(posts.batches(plan), with_workers.batches(plan), strict=True):
        assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_memory_does_not_grow_with_the_posts(streaming):
    posts = streaming.encoded("SigLIP2", "train")
    assert isinstance(posts.posts, Rows) and posts.all_lengths.nbytes == 8 * 48
    assert not any(isinstance(value, torch.Tensor) for value in vars(posts).values())


def test_fields_come_from_where_they_are_said_to_come(posts):
    turned = np.roll(np.arange(30), 1)
    plain = Rows(posts.folder, "test").read([0, 1, 7])
    mixed = Rows(posts.folder, "test", {"title": turned, "asr_text": None, "frames": turned}).read([1, 2, 8])
    assert [post["title"] for post in mixed] == [post["title"] for post in plain]
    assert [[frame.tobytes() for frame in post["frames"]] for post in mixed] == [
        [frame.tobytes() for frame in post["frames"]] for post in plain
    ]
    assert {post["asr_text"] for post in mixed} == {""}
    sizes = Rows(posts.folder, "test").read([0, 1, 7], sizes_only=True)
    assert [post["frames"] for post in sizes] == [[frame.size for frame in post["frames"]] for post in plain]
    dark = Rows(posts.folder, "test", retouch=darken).read([0])
    assert dark[0]["frames"][0].getextrema() == ((0, 0),) * 3


def darken(frames):
    return [frame.point(lambda _: 0) for frame in frames]


def test_the_rule_measures_the_posts_and_respects_disk_memory_and_limit(lab, monkeypatch):
    rows = Rows(lab.posts.folder, "test")
    for name in ("Qwen3-VL-8B", "SigLIP2"):
        model = lab.backbone(name)
        assert too_large(model, rows, lab.cache.root) == ""
        lab.encoded(name, "test")
        if name == "SigLIP2":
            kept = sum(t.nbytes for post in lab.encoded(name, "test").posts for t in (post.input_ids, *post.frames))
        else:
            folder = lab.encoded_entry(name, "test").folder
            kept = sum((folder / f"{part}.bin").stat().st_size for part in ("input_ids", "features_0", "features_1"))
            levels = StoredPosts(folder)[0].features
            kept += sum((folder / f"features_{i}.bin").stat().st_size for i in range(2, len(levels)))
        assert too_large(model, rows, lab.cache.root, kept + 30) == ""
        assert "of disk" in (why := too_large(model, rows, lab.cache.root, kept - 30)) or "of memory" in why
    usage = psutil.disk_usage("/")
    monkeypatch.setattr(psutil, "disk_usage", lambda _: usage._replace(free=100))
    assert "of disk" in too_large(lab.backbone("Qwen3-VL-8B"), rows, lab.cache.root)
    assert streamed.workers_for("cpu") == 0


@pytest.mark.parametrize("name", ["Qwen3-VL-8B", "SigLIP2"])
def test_processes_that_read_at_once_share_what_is_free(lab, monkeypatch, name):
    rows, model = Rows(lab.posts.folder, "test"), lab.backbone(name)
    said = too_large(model, rows, lab.cache.root, 0)
    needed = 1e9 * float(said.split(" would take ")[1].split()[0])  # three digits of it
    usage, memory = psutil.disk_usage("/"), psutil.virtual_memory()
    monkeypatch.setattr(psutil, "disk_usage", lambda _: usage._replace(free=int(3 * needed)))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=int(6 * needed)))
    assert too_large(model, rows, lab.cache.root) == "" != too_large(model, rows, lab.cache.root, readers=2)
    lab.readers = 2
    assert isinstance(lab.encoded(name, "test"), StreamedPosts)


def test_torchruns_processes_each_hold_a_split_in_memory_but_one_writes_it(lab, monkeypatch):
    asked = []
    monkeypatch.setattr(runs, "rank_and_size", lambda: (0, 4))
    monkeypatch.setattr(runs, "too_large", lambda *_, readers: asked.append(readers) or "too large")
    for name in ("SigLIP2", "Qwen3-VL-8B"):
        assert lab._kept(lab.backbone(name), name, "test") is None
    assert asked == [4, 1]


def test_scores_of_streamed_posts_equal_those_of_kept_ones(lab, streaming):
    from radar_lib.models.router import RadarRouter, RouterConfig

    found = []
    for each in (lab, streaming):
        router = RadarRouter(each.backbone("Qwen3-VL-8B"), RouterConfig(("X",), lora_rank=4, lora_alpha=8))
        inputs = each.encoded("Qwen3-VL-8B", "test")
        assert isinstance(inputs, StreamedPosts) == (each is streaming) and isinstance(inputs, EncodedPosts)
        found.append(predict(router, inputs, batch_size=7))
    np.testing.assert_allclose(*found, rtol=0, atol=1e-5)
