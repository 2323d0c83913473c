"""Streamed posts are the kept posts: same lengths, batches, training and scores; the rule says which it is."""

import dataclasses
import pickle

import numpy as np
import psutil
import pytest
import torch

from radar_lib.training.cache import Cache
from radar_lib.training.encoded import StoredPosts
from radar_lib.training.lab import Lab
from radar_lib.training.loop import Recipe, no_bar
from radar_lib.training.specs import RunSpec
from radar_lib.training.streamed import Rows, StreamedPosts, encoded_size, room_for

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
    posts = streaming.encoded(name, "train")
    assert isinstance(posts, StreamedPosts) and isinstance(posts.posts, Rows)  # memory does not grow with them
    assert not any(isinstance(value, torch.Tensor) for value in vars(posts).values())
    assert not streaming.encoded_entry(name, "train").folder.exists()
    assert f"{name}, train: 48 posts would take" in capsys.readouterr().err
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
    posts = streaming.encoded("Qwen3-VL-8B", "test")
    plan = [[0, 5, 2], [7], [9, 1]]
    with_workers = dataclasses.replace(posts, workers=2)
    for expected, found in zip(posts.batches(plan), with_workers.batches(plan), strict=True):
        assert all(torch.equal(expected[key], found[key]) for key in expected)


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


@pytest.mark.parametrize("name", ["Qwen3-VL-8B", "SigLIP2"])
def test_the_rule_measures_the_posts_and_shares_disk_or_memory_among_readers(lab, monkeypatch, name):
    rows, model = Rows(lab.posts.folder, "test"), lab.backbone(name)
    posts, needed = lab.encoded(name, "test").posts, encoded_size(model, rows)
    tensors = [t for post in posts for t in (post.input_ids, *post.frames, *(post.features or ()))]
    assert needed == pytest.approx(sum(t.nbytes for t in tensors), abs=30)
    assert isinstance(posts, StoredPosts) == (name != "SigLIP2")
    usage, memory = psutil.disk_usage("/"), psutil.virtual_memory()
    monkeypatch.setattr(psutil, "disk_usage", lambda _: usage._replace(free=int(3 * needed)))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=int(6 * needed)))
    assert room_for(model, lab.cache.root / "not there yet") == pytest.approx(1.5 * needed, rel=1e-6)
    for readers, kind in ((1, type(posts)), (2, Rows)):
        again = Lab(lab.posts, Cache(lab.cache.root / str(readers)), checkpoints=lab.checkpoints, bar=no_bar,
                    readers=readers)  # fmt: skip
        assert isinstance(again.encoded(name, "test").posts, kind)
