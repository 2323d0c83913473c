"""Ablated scores against posts changed by hand, donors of the same pipeline, and what a model loses with a modality."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from radar_lib.data.posts import write_corpus
from radar_lib.errors import RadarError
from radar_lib.metrics import average_precision
from radar_lib.models.backbones import BACKBONES
from radar_lib.models.router import RadarRouter
from radar_lib.training.cache import Cache
from radar_lib.training.inference import predict
from radar_lib.training.lab import Lab, RunSpec
from radar_lib.training.loop import Recipe, no_bar
from radar_suite.report import reliance
from radar_suite.report.reliance import Ablation, ablated_posts, ablated_scores, donors, jpeg60
from radar_suite.world.standins.checkpoint import write_random_standin
from radar_suite.world.standins.geometry import GEOMETRIES, tiny

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
        return [{**post, "frames": jpeg60(post["frames"])} for post in posts]
    column = reliance.MODALITIES[what]
    if kind == "blank":
        return [{**post, column: [] if what == "frames" else ""} for post in posts]
    others = donors([post["pipeline"] for post in posts], seed=1)
    return [{**post, column: posts[i][column]} for post, i in zip(posts, others, strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_ablated_scores_equal_posts_changed_by_hand(trained, name):
    lab, runs = trained
    run = runs[name]
    wanted = [Ablation("blank", "title"), Ablation("blank", "frames"), Ablation("permute", "title"),
              Ablation("permute", "frames"), Ablation("replay", "jpeg60")]  # fmt: skip
    found = ablated_scores(lab, run, wanted)
    own = run.scores("test")
    for ablation in wanted:
        scores = found[ablation.name]
        assert scores["post_id"].tolist() == own["post_id"].tolist() and set(scores["split"]) == {"test"}
        by_hand = scored_by_hand(lab, run, lambda posts, ablation=ablation: changed_by_hand(ablation.name, posts))
        np.testing.assert_allclose(scores.filter(like="logit"), by_hand, rtol=0, atol=1e-5)
        if ablation.kind != "replay":
            assert np.abs(by_hand - own.filter(like="logit").to_numpy()).max() > 1e-4


def test_what_was_scored_is_not_scored_again_and_kept_features_spare_the_tower(trained, monkeypatch):
    lab, runs = trained
    run, asr = runs["Qwen3-VL-8B"], Ablation("permute", "asr", seed=5)
    monkeypatch.setattr(lab.backbone("Qwen3-VL-8B"), "tower", None)  # not needed
    ids = run.scores("test")["post_id"].tolist()
    some = ablated_scores(lab, run, [asr], post_ids=ids[3:7])[asr.name]
    every = ablated_scores(lab, run, [asr])[asr.name]
    assert some["post_id"].tolist() == ids[3:7] and every["post_id"].tolist() == ids
    monkeypatch.setattr(RadarRouter, "from_pretrained", None)  # nor this
    assert ablated_scores(lab, run, [asr], post_ids=ids[3:7])[asr.name].equals(some)


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
        else:
            assert 0 <= out[at[0]] < len(names)


@pytest.mark.parametrize(
    ("make", "word"),
    [(lambda: Ablation("burn", "title"), "burn"), (lambda: Ablation("blank", "jpeg60"), "jpeg60"),
     (lambda: donors(["a"], seed=1), "two or more")],
)  # fmt: skip
def test_what_cannot_be_ablated_is_refused(make, word):
    with pytest.raises(RadarError, match=word):
        make()


def test_jpeg_keeps_the_number_and_size_of_frames_and_changes_pixels():
    noise = np.random.default_rng(0).integers(0, 255, (48, 40, 3), dtype=np.uint8)
    frames = [Image.fromarray(noise), Image.new("RGB", (16, 16), "red")]
    out = jpeg60(frames)
    assert [f.size for f in out] == [f.size for f in frames] and all(f.mode == "RGB" for f in out)
    assert out[0].tobytes() != frames[0].tobytes() and jpeg60([]) == []


def test_posts_that_all_look_alike_leave_chance():
    generator = np.random.default_rng(0)
    truth = (generator.random(400) < 0.2).astype(int)
    clean = generator.normal(size=400) + 2 * truth
    found = reliance.precision_lost(truth, clean, np.zeros(400))
    assert found.estimate == pytest.approx(average_precision(truth, clean) - truth.mean())
    assert 0 < found.low < found.estimate < found.high
    own_order = 1e-3 * generator.normal(size=400)  # chance all the same
    nearly = reliance.precision_lost(truth, clean, own_order)
    assert nearly.estimate == pytest.approx(found.estimate, abs=0.1)


def test_the_sample_holds_so_many_posts_of_each_kind_at_most():
    labels = np.array([-1, 0, 1, 0, 0, 1, -1, 0], np.int8)
    found = reliance.sample(labels, most=2, seed=3)
    assert np.bincount(labels[found]).tolist() == [2, 2] and (np.diff(found) > 0).all()
    assert reliance.sample(labels, most=9, seed=3).tolist() == [1, 2, 3, 4, 5, 7]


def test_a_model_that_reads_titles_loses_what_titles_tell(tmp_path):
    words = ["calm walk by the sea", "cheap loans now"]
    rows = [{"post_id": f"{split}-{i}", "split": split, "title": words[i % 4 == 0], "ocr_text": f"note {i % 7}",
             "label_X": int(i % 4 == 0)} for split in ("train", "test") for i in range(48)]  # fmt: skip
    posts = write_corpus(tmp_path / "posts", rows, name="toy", kind="imported", categories=("X",))
    standin = BACKBONES["Qwen3-VL-8B"].folder
    write_random_standin(tmp_path / "checkpoints" / standin, standin, words * 20, geometry=tiny(GEOMETRIES[standin]),
                         vocabulary=300)  # fmt: skip
    lab = Lab(posts, Cache(tmp_path / "cache"), checkpoints=str(tmp_path / "checkpoints"), bar=no_bar)
    run = lab.train(RunSpec("Qwen3-VL-8B", ("X",), Recipe(epochs=5, batch_size=8, learning_rate=2e-2), 4, 8))
    ablations = reliance.ablations_for(posts, "test")
    assert [a.name for a in ablations] == ["blank-title", "blank-ocr", "permute-title-own-1", "permute-ocr-own-1"]
    table = reliance.reliance(lab, run, ablations, most=20)
    assert (table["posts"] == 32).all() and (table["PR-AUC"] > 0.95).all()
    losses = table.set_index(["kind", "what"])["loss"]
    assert losses["permute", "title"] > 0.3 and abs(losses["permute", "ocr"]) < 0.1
    nothing = reliance.reliance(lab, run, [])  # of posts that hold nothing
    assert nothing.empty and nothing.columns.equals(table.columns)
    reliance.figure(table).canvas.draw()
    text = reliance.in_points(table)
    assert text.loc[("title", "permute"), "X"].startswith(f"{100 * losses['permute', 'title']:.1f} [")
