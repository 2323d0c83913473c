"""Ablated scores against posts that were changed by hand, and donors of the same pipeline."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from radar_lib.data.posts import write_corpus
from radar_lib.errors import RadarError
from radar_lib.models.router import RadarRouter
from radar_lib.training.cache import Cache
from radar_lib.training.inference import predict
from radar_lib.training.lab import Lab, RunSpec
from radar_lib.training.loop import Recipe, no_bar
from radar_suite.report import ablations
from radar_suite.report.ablations import REPLAYS, Ablation, ablated_posts, ablated_scores, donors

NAMES = ("Qwen3-VL-8B", "SigLIP2")
RECIPE = Recipe(epochs=1, batch_size=16, learning_rate=2e-2)


@pytest.fixture(scope="module")
def trained(posts, checkpoints, tmp_path_factory):
    lab = Lab(posts, Cache(tmp_path_factory.mktemp("runs")), checkpoints=str(checkpoints), bar=no_bar)
    return lab, {name: lab.train(RunSpec(name, posts.categories, RECIPE, 4, 8)) for name in NAMES}


def scored_by_hand(lab, run, change):
    """Logits of the test posts after `change(posts)`, through pixels, as somebody without this module would score."""
    router = RadarRouter.from_pretrained(run.router_folder, backbone=lab.backbone(run.spec.backbone)).eval()
    posts = change([dict(post) for post in lab.posts.split("test")])
    with torch.inference_mode():
        logits = router(router.backbone.collate(router.backbone.encode(posts))).numpy()
    router.detach()
    return logits


def changed_by_hand(name, posts):
    kind, what, *_ = name.split("-")
    if kind == "replay":
        return [{**post, "frames": REPLAYS[what](post["frames"])} for post in posts]
    column = ablations.MODALITIES[what]
    if kind == "blank":
        return [{**post, column: [] if what == "frames" else ""} for post in posts]
    others = donors([post["pipeline"] for post in posts], seed=1)
    return [{**post, column: posts[i][column]} for post, i in zip(posts, others, strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_ablated_scores_equal_posts_changed_by_hand(trained, name):
    lab, runs = trained
    run = runs[name]
    wanted = [Ablation("blank", "title"), Ablation("blank", "frames"), Ablation("permute", "title"),
              Ablation("permute", "frames"), Ablation("replay", "jpeg60"), Ablation("replay", "backwards")]  # fmt: skip
    found = ablated_scores(lab, run, wanted)
    own = run.scores().query("split == 'test'")
    for ablation in wanted:
        scores = found[ablation.name]
        assert scores["post_id"].tolist() == own["post_id"].tolist() and set(scores["split"]) == {"test"}
        by_hand = scored_by_hand(lab, run, lambda posts, ablation=ablation: changed_by_hand(ablation.name, posts))
        np.testing.assert_allclose(scores.filter(like="logit"), by_hand, rtol=0, atol=1e-5)
        if ablation.kind != "replay":
            assert np.abs(by_hand - own.filter(like="logit").to_numpy()).max() > 1e-4


def test_kept_features_are_used_and_only_what_is_missing_is_scored(trained, monkeypatch):
    lab, runs = trained
    run, asr = runs["Qwen3-VL-8B"], Ablation("permute", "asr", seed=5)
    monkeypatch.setattr(lab.backbone("Qwen3-VL-8B"), "tower", None)  # not needed
    ids = run.scores().query("split == 'test'")["post_id"].tolist()
    some = ablated_scores(lab, run, [asr], post_ids=ids[3:7])[asr.name]
    assert some["post_id"].tolist() == ids[3:7]
    path = run.entry.path("scores.permute-asr-own-5.parquet")
    assert pd.read_parquet(path).equals(some)
    sizes = []

    def counting(router, posts, **options):
        sizes.append(len(posts))
        return predict(router, posts, **options)

    monkeypatch.setattr(ablations, "predict", counting)
    every = ablated_scores(lab, run, [asr])[asr.name]
    assert sizes == [26] and every["post_id"].tolist() == ids
    assert every.set_index("post_id").loc[ids[3:7]].reset_index().equals(some)
    monkeypatch.setattr(ablations, "predict", None)
    assert ablated_scores(lab, run, [asr], post_ids=ids[:2])[asr.name].equals(every[:2])


def test_an_expert_is_ablated_on_its_own_posts(trained):
    lab, _ = trained
    run = lab.train(RunSpec("Qwen3-VL-8B", ("FE",), RECIPE, 4, 8))
    scores = ablated_scores(lab, run, [Ablation("blank", "ocr")], splits=["validation", "test"])["blank-ocr"]
    assert scores["post_id"].tolist() == run.scores()["post_id"].tolist()
    np.testing.assert_allclose(scores["logit_FE"], run.scores()["logit_FE"], rtol=0, atol=1e-5)  # it has no OCR


def test_permuting_the_frames_of_posts_without_frames_changes_nothing(posts, checkpoints, tmp_path):
    rows = [{"post_id": f"{split}-{i}", "split": split, "title": f"post number {i}", "label_X": i % 2}
            for split in ("train", "test") for i in range(12)]  # fmt: skip
    text = write_corpus(tmp_path / "text", rows, name="text", kind="imported", categories=("X",))
    for name in NAMES:
        lab = Lab(text, Cache(tmp_path / "cache"), checkpoints=str(checkpoints), bar=no_bar)
        run = lab.train(RunSpec(name, ("X",), RECIPE, 4, 8))
        both = ablated_scores(lab, run, [Ablation("permute", "frames"), Ablation("blank", "frames")])
        for scores in both.values():
            assert np.array_equal(scores["logit_X"], run.scores()["logit_X"])
    with pytest.raises(RadarError, match="was trained on other posts"):
        ablated_scores(Lab(posts, lab.cache, bar=no_bar), run, [])


def test_the_streaming_path_gives_the_same(trained):
    lab, runs = trained
    run = runs["Qwen3-VL-8B"]
    streaming = Lab(lab.posts, Cache(lab.cache.root / "none"), checkpoints=lab.checkpoints, bar=no_bar, encoded_bytes=0)
    router = RadarRouter.from_pretrained(run.router_folder, backbone=lab.backbone("Qwen3-VL-8B"))
    streaming._backbone = lab._backbone
    for ablation in (Ablation("permute", "frames", seed=3), Ablation("blank", "title")):
        pair = [ablated_posts(each, "Qwen3-VL-8B", "test", ablation, [9, 2, 4]) for each in (lab, streaming)]
        assert [list(posts.lengths) for posts in pair] == [list(pair[0].lengths)] * 2
        np.testing.assert_allclose(*(predict(router, posts) for posts in pair), rtol=0, atol=1e-5)
    router.detach()


@given(st.lists(st.sampled_from("abcd"), min_size=2, max_size=200), st.integers(0, 5))
def test_every_post_borrows_from_another_of_its_pipeline(pipelines, seed):
    names, out = np.array(pipelines), donors(pipelines, seed=seed)
    assert (out != np.arange(len(names))).all() and np.array_equal(out, donors(pipelines, seed=seed))
    for name in set(pipelines):
        at = np.flatnonzero(names == name)
        if len(at) > 1:
            assert sorted(out[at].tolist()) == at.tolist()


def test_the_only_post_of_a_pipeline_borrows_from_any_other():
    found = {int(donors(["a", "a", "b", "a"], seed=seed)[2]) for seed in range(40)}
    assert found == {0, 1, 3}


def test_donors_differ_by_seed_and_need_two_posts():
    assert not np.array_equal(donors(["a"] * 50, seed=1), donors(["a"] * 50, seed=2))
    with pytest.raises(RadarError, match="two or more"):
        donors(["a"] * 1, seed=1)


def test_replays_keep_the_number_and_size_of_frames_and_change_pixels():
    noise = np.random.default_rng(0).integers(0, 255, (48, 40, 3), dtype=np.uint8)
    frames = [Image.fromarray(noise), Image.new("RGB", (16, 16), "red")]
    for name, replay in REPLAYS.items():
        out = replay(frames)
        assert sorted(f.size for f in out) == sorted(f.size for f in frames) and all(f.mode == "RGB" for f in out)
        assert [f.tobytes() for f in out] != [f.tobytes() for f in frames], name
        assert len(replay([])) == 0
    assert REPLAYS["backwards"](frames)[0].tobytes() == frames[1].tobytes()


def test_unknown_ablations_are_refused():
    with pytest.raises(RadarError, match="cannot 'burn'"):
        Ablation("burn", "title")
    with pytest.raises(RadarError, match="no 'jpeg60' to blank"):
        Ablation("blank", "jpeg60")
    assert Ablation("permute", "ocr", seed=4).name == "permute-ocr-own-4"
    assert Ablation("replay", "rescaled").name == "replay-rescaled"
