"""Encoded posts on disk are the encoded posts, to the bit; older code's are removed."""

from __future__ import annotations

import os
import time

import pytest
import torch

from radar_lib.files import read_json, write_json
from radar_lib.training.cache import Cache
from radar_lib.training.encoded import EncodedPosts, chunks, store
from radar_lib.training.lab import Lab
from radar_lib.training.loop import no_bar


@pytest.fixture
def lab(posts, checkpoints, tmp_path):
    return Lab(posts, Cache(tmp_path / "cache"), checkpoints=str(checkpoints), bar=no_bar)


@pytest.mark.parametrize("name", ["Qwen3-VL-8B", "SigLIP2"])
def test_a_batch_from_the_store_is_the_batch_from_memory(lab, name):
    model = lab.backbone(name)
    fresh = EncodedPosts.in_memory(model, [post for chunk in chunks(model, lab.posts.split("test")) for post in chunk])
    kept = lab.encoded(name, "test")
    assert lab.encoded_entry(name, "test").complete == lab.shares_encoded(name) == (name != "SigLIP2")
    assert len(kept) == len(fresh) == 30 and list(kept.lengths) == list(fresh.lengths)
    for indices in ([0, 7, 3], range(30)):
        expected, found = fresh.batch(indices), kept.batch(indices)
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)
    part = kept.subset([5, 9, 2]).subset([2, 0])
    assert torch.equal(part.batch([0, 1])["input_ids"], kept.batch([2, 5])["input_ids"])
    assert list(part.lengths) == [kept.lengths[2], kept.lengths[5]]


def test_posts_without_frames_or_text_survive_the_store(lab):
    bare = [{"title": "", "ocr_text": "", "asr_text": "", "frames": []}]
    full = [{"title": "hello", "ocr_text": "", "asr_text": "", "frames": lab.posts.split("test")[0]["frames"]}]
    model = lab.backbone("Qwen3-VL-8B")
    for number, posts in enumerate((bare * 2, bare + full, full + bare)):
        encoded = model.cache_features(model.encode(posts))
        entry = lab.cache.entry("encoded", {"number": number})
        entry.make(lambda folder, posts=encoded: store([posts[:1], posts[1:]], folder))
        expected, kept = model.collate(encoded), EncodedPosts.stored(model, entry.folder)
        assert all(torch.equal(expected[key], value) for key, value in kept.batch([0, 1]).items())


def test_what_other_code_left_is_removed_and_other_splits_and_what_is_in_use_stay(lab):
    lab.encoded("Qwen3-VL-8B", "test")
    entry = lab.encoded_entry("Qwen3-VL-8B", "test")
    others = (("old", {"code": "0"}, 2), ("in use", {"code": "1"}, 0), ("other", {"split": "train"}, 2))
    for name, change, days in others:
        record = read_json(entry.folder / "run.json")
        record["inputs"] |= change
        write_json(path := entry.folder.parent / name / "run.json", record)
        os.utime(path, (time.time() - days * 86_400,) * 2)
    lab.release()
    (entry.folder / "run.json").unlink()
    lab.encoded("Qwen3-VL-8B", "test")
    assert {path.name for path in entry.folder.parent.iterdir()} == {entry.digest, "in use", "other"}
