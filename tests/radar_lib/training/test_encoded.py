"""Encoded posts on disk are the encoded posts, to the bit; older code's are removed."""

import os
import pickle
import time

import numpy as np
import pytest
import torch

from radar_lib.data.posts import write_corpus
from radar_lib.errors import RadarError
from radar_lib.files import read_json, write_json
from radar_lib.models.text import TextLimit
from radar_lib.training.cache import Cache
from radar_lib.training.encoded import EncodedPosts, chunks, store
from radar_lib.training.lab import Lab, RunSpec
from radar_lib.training.loop import Recipe, no_bar
from radar_lib.training.parallel import describe, rebuild
from radar_lib.training.streamed import Rows, StreamedPosts
from radar_suite.world.standins import locate_checkpoints


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


def test_posts_encoded_for_several_backbones_at_once_are_those_of_each_alone(posts, tmp_path, monkeypatch):
    monkeypatch.setattr("radar_lib.training.encoded.CHUNK", 7)
    names = ["Qwen3-VL-2B", "Gemma3-4B", "LLaVA-OV-0.5B"]
    lab, alone = (Lab(posts, Cache(tmp_path / name), checkpoints=locate_checkpoints("standins"), bar=no_bar)
                  for name in ("together", "alone"))  # fmt: skip
    lab.encoded(names[1], "test")  # is there already
    lab.encode_together(names, "test")
    for name in names:
        alone.encoded(name, "test")
        one, other = (each.encoded_entry(name, "test") for each in (lab, alone))
        assert one.complete and one.record()["arrays"] == other.record()["arrays"]
        assert one.record()["files"] == other.record()["files"]
    lab.encoded_bytes = 1
    lab.encode_together(names, "train")
    assert not any(lab.encoded_entry(name, "train").complete for name in names)


@pytest.fixture
def spoilt(posts, image, tmp_path):
    """Opens a corpus whose second post has this second frame."""

    def open_with(frame):
        rows = [{"post_id": f"p{i}", "split": "test", "frames": [image()]} for i in range(3)]
        rows[1]["frames"].append(frame)
        return write_corpus(tmp_path / "spoilt", rows, name="x", kind="imported", categories=posts.categories)

    return open_with


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("what", ["damaged", "strip", "processor"])
def test_a_frame_that_fails_is_named_with_its_post(spoilt, checkpoints, image, tmp_path, monkeypatch, what, streamed):
    data = image(40, 40)
    posts = spoilt({"damaged": data[:-300], "strip": image(1000, 4), "processor": data}[what])
    lab = Lab(posts, Cache(tmp_path / "cache"), checkpoints=str(checkpoints), bar=no_bar)
    model = lab.backbone("Qwen3-VL-8B")
    resize = model.frame_processor.resize

    def picky(frame):
        if getattr(frame, "size", 0) == (40, 40):
            raise ValueError("it is strip, or damaged, or processor")
        return resize(frame)

    monkeypatch.setattr(model.frame_processor, "resize", picky)
    with pytest.raises(RadarError, match=f"post 'p1', frame 2.*{what}"):
        if streamed:
            StreamedPosts(model, Rows(posts.folder, "test"), np.zeros(3)).take([2, 1, 0])
        else:
            list(chunks(model, posts.split("test")))


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


def test_posts_read_to_another_length_are_encoded_anew_and_both_stay(lab, posts, tmp_path):
    """The limit goes with the lab to other processes, and to streamed posts."""
    options = {"checkpoints": lab.checkpoints, "bar": no_bar, "text": TextLimit(6, (0.2, 0.4, 0.4))}
    short, streaming = Lab(posts, lab.cache, **options), Lab(posts, Cache(tmp_path), encoded_bytes=0, **options)
    lengths = {}
    for each in (lab, short, lab, rebuild(describe(short)), streaming):
        each.release()
        kept = each.encoded("Qwen3-VL-8B", "test")
        lengths.setdefault(each.text.tokens, set()).add(tuple(kept.lengths))
    there = pickle.loads(pickle.dumps(kept))
    assert there.take([0])[0].n_tokens == kept.lengths[0]
    assert lab.encoded_entry("Qwen3-VL-8B", "test").complete and short.encoded_entry("Qwen3-VL-8B", "test").complete
    assert len(lengths[None]) == len(lengths[6]) == 1 and sum(*lengths[6]) < sum(*lengths[None]) - 30
    spec = RunSpec("Qwen3-VL-8B", posts.categories, Recipe())
    assert lab.entry(spec).digest != short.entry(spec).digest
