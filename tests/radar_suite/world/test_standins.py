"""Sizes and tokenizers of the stand-ins, and the recipe: it learns, resumes to the bit, and leaves finished folders."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from radar_lib.errors import RadarError
from radar_lib.models.backbones import load_backbone
from radar_lib.models.checkpoints import open_checkpoint
from radar_lib.models.text import post_text
from radar_suite.world.standins import FOLDER as STANDINS
from radar_suite.world.standins import WORD, locate_checkpoints, recipe
from radar_suite.world.standins.checkpoint import write_random_standin
from radar_suite.world.standins.describe import (
    caption_targets,
    caption_vocabulary,
    caption_words,
    description_loss,
    description_quality,
    word_quality,
    word_weights,
)
from radar_suite.world.standins.geometry import GEOMETRIES, tiny
from radar_suite.world.standins.tokenizers import train_tokenizer

TARGETS = {  # design, section 6, in millions of parameters
    "qwen3-vl-8b": 2.2, "qwen3-vl-4b": 1.0, "gemma3-4b": 1.0, "llava-ov-1.5-4b": 1.0, "qwen3-vl-2b": 0.6,
    "llava-ov-0.5b": 0.35, "siglip2": 0.35,
}  # fmt: skip
# Parameters that the task does not use: the contrastive loss's, and a norm after the layer that LLaVA reads.
UNUSED = {"siglip2": "logit_", "llava-ov-0.5b": "post_layernorm", "llava-ov-1.5-4b": "post_layernorm"}
FAMILIES = ("qwen3-vl-2b", "gemma3-4b", "llava-ov-1.5-4b", "llava-ov-0.5b", "siglip2")
LINES = ["Title: follow me and win", "OCR: مرحبا بالجميع", "ASR: сегодня в зале", "Title: 今日は नमस्ते"]


@pytest.mark.parametrize("family", ["qwen3_vl", "llava_onevision", "gemma3", "siglip"])
def test_tokenizers_take_any_script_and_keep_special_tokens_whole(family):
    tokenizer = train_tokenizer(family, LINES * 20, vocabulary=400)
    for line in [*LINES, "never seen: ☃ ꙮ \u202e"]:
        ids = tokenizer(line, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == line and tokenizer.unk_token_id not in ids
    assert tokenizer.pad_token_id is not None and len(tokenizer) <= 401
    frame = {"qwen3_vl": "<|image_pad|>", "llava_onevision": "<image>", "gemma3": "<image_soft_token>"}.get(family)
    if frame:
        assert len(tokenizer(frame, add_special_tokens=False)["input_ids"]) == 1
    if family == "siglip":
        ids = tokenizer("win", padding="max_length", max_length=8)["input_ids"]
        assert len(ids) == 8 and tokenizer.eos_token_id in ids and ids[-1] == tokenizer.pad_token_id


def test_caption_words_by_part():
    assert caption_words("Seen: park; two people. Read: about pets; in English.") == {
        "seen:park", "seen:two", "seen:people", "read:about", "read:pets", "read:in", "read:English",
    }  # fmt: skip
    with pytest.raises(RadarError, match='must read "Seen'):
        caption_words("a park")


def test_vocabulary_leaves_out_constant_and_rare_words():
    captions = ["Seen: park. Read: about pets."] * 60 + ["Seen: gym. Read: about music."] * 39
    captions += ["Seen: gym; ghost. Read: about music."]
    vocabulary = caption_vocabulary(captions, least=0.02)
    assert vocabulary == ["read:music", "read:pets", "seen:gym", "seen:park"]  # 'about' is constant, 'ghost' rare
    targets = caption_targets(captions, vocabulary)
    assert targets.sum(axis=0).tolist() == [40, 60, 40, 60]
    words = word_quality(targets - 0.5, targets, vocabulary)
    assert words["read:pets"] == {"ap": 100.0, "prevalence": 60.0}
    expected = {"seen_map": 100.0, "seen_prevalence": 50.0, "read_map": 100.0, "read_prevalence": 50.0}
    assert description_quality(words) == expected
    np.testing.assert_allclose(word_weights(targets), [np.sqrt(1.5), np.sqrt(2 / 3)] * 2, rtol=1e-5)
    assert word_weights(np.eye(100, dtype=bool)).max() == 5


def test_loss_is_weighted_binary_cross_entropy_plus_its_auxiliary_part():
    generator = torch.Generator().manual_seed(1)
    logits, aux = torch.randn(5, 3, generator=generator), torch.randn(5, 2, generator=generator)
    targets = (torch.rand(5, 3, generator=generator) > 0.5).float()
    words, weights = torch.tensor([True, False, True]), torch.tensor([1.0, 2.0, 3.0])

    def brute(x, y, w):
        p = x.double().sigmoid()
        return float(-(w * y * p.log() + (1 - y) * (1 - p).log()).mean())

    expected = brute(logits, targets, weights) + 0.25 * brute(aux, targets[:, words], weights[words])
    mine = description_loss((logits, [(aux, words)]), targets, weights=weights, auxiliary=0.25)
    assert mine.item() == pytest.approx(expected, rel=1e-5)
    plain = description_loss((logits, []), targets)
    assert plain.item() == pytest.approx(brute(logits, targets, torch.ones(3)), rel=1e-5)


@pytest.fixture(scope="module")
def pretrain_posts() -> recipe.PretrainPosts:
    """Posts whose frame is dark or bright and whose text names one of two things."""
    random = np.random.default_rng(5)
    bright, topic = random.integers(0, 2, 240), random.integers(0, 2, 240)
    frames = (bright[:, None, None, None] * 150 + random.integers(0, 60, (240, 3, 48, 48))).astype(np.uint8)
    texts = [{"title": ("win a prize", "calm walk")[t], "ocr_text": "", "asr_text": ""} for t in topic]
    words = [(("dark", "bright")[b], ("prize", "walk")[t]) for b, t in zip(bright, topic, strict=True)]
    captions = [f"Seen: {seen}. Read: {read}." for seen, read in words]
    vocabulary = caption_vocabulary(captions)
    targets = caption_targets(captions, vocabulary)
    return recipe.PretrainPosts(texts, frames, np.arange(241), targets, vocabulary, 40, {"name": "toy"})


SETTINGS = recipe.PretrainingRecipe(posts=240, epochs=3, batch_size=16, learning_rate=8e-3)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Tiny folders with random weights; one thread, since sums in another order differ."""
    before, folder = torch.get_num_threads(), tmp_path_factory.mktemp("checkpoints")
    torch.set_num_threads(1)
    for seed, name in enumerate(FAMILIES):
        geometry = tiny(GEOMETRIES[name])
        write_random_standin(folder / name, name, LINES * 20, seed=seed, geometry=geometry, vocabulary=400)
    yield folder
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", FAMILIES)
def test_pretraining_learns_to_describe(checkpoints, pretrain_posts, tmp_path, name):
    backbone = load_backbone(checkpoints / name)
    start = {n: p.clone() for n, p in backbone.model.named_parameters()}
    record = recipe.pretrain(backbone, pretrain_posts, SETTINGS, name=name, state_file=tmp_path / "run.safetensors")
    quality = record["quality"]
    assert record["steps"] == 36 and record["loss_every_20_steps"][-1] < 0.7 * record["loss_every_20_steps"][0]
    assert quality["seen_map"] > 80 and quality["read_map"] > 80, quality
    assert not any(p.requires_grad for p in backbone.model.parameters())
    untrained = [n for n, p in backbone.model.named_parameters() if torch.equal(p, start[n])]
    assert all(UNUSED.get(name, "none") in n for n in untrained)  # nothing else keeps its random start


def test_a_stopped_run_goes_on_to_the_same_weights(checkpoints, pretrain_posts, tmp_path):
    def run(state_file, **options):
        backbone = load_backbone(checkpoints / "llava-ov-0.5b")
        record = recipe.pretrain(backbone, pretrain_posts, SETTINGS, name="x", state_file=state_file, **options)
        return backbone.model.state_dict(), record

    whole, expected = run(tmp_path / "whole.safetensors")
    run(tmp_path / "parts.safetensors", max_steps=17)
    parts, record = run(tmp_path / "parts.safetensors")
    assert record["loss_every_20_steps"] == expected["loss_every_20_steps"] and record["quality"] == expected["quality"]
    assert all(torch.equal(parts[key], whole[key]) for key in whole)


def test_the_whole_recipe_on_a_few_posts(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "SAVE_EVERY", 1)
    argv = ["--posts", "80", "--epochs", "1", "--only", "llava-ov-0.5b", "--out", str(tmp_path / "out")]
    recipe.main([*argv, "--work", str(tmp_path / "work"), "--threads", "1"])
    folder = tmp_path / "out" / "llava-ov-0.5b"
    record = json.loads((folder / "record.json").read_text())
    assert record["steps"] == 4 and record["held_out_posts"] == 16 and record["words"] > 20
    assert 0 < record["quality"]["seen_map"] <= 100 and record["corpus"]["seed"] == recipe.CORPUS_SEED
    card = (folder / "README.md").read_text()
    assert "64 posts" in card and record["corpus"]["digest"] in card and "llava-onevision-qwen2-0.5b-ov-hf" in card
    assert open_checkpoint(folder).verified == 1  # the record holds the hash of the weights
    backbone = load_backbone(folder)
    assert {p.dtype for p in backbone.model.parameters()} == {torch.float32}  # stored in float16, loaded as asked
    before = (folder / "model.safetensors").stat().st_mtime_ns
    recipe.main([*argv, "--work", str(tmp_path / "work"), "--threads", "1"])  # finished: left alone
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


@pytest.fixture(scope="module")
def committed():
    """Records of the committed folders, by name."""
    return {name: json.loads((STANDINS / name / "record.json").read_text()) for name in GEOMETRIES}


def test_committed_folders_load_and_are_small(committed):
    post = {"title": "Gana un premio", "ocr_text": "تابعنا", "asr_text": "", "frames": [Image.new("RGB", (96, 96))]}
    size = 0
    for name, record in committed.items():
        backbone = load_backbone(reference := f"{locate_checkpoints(WORD)}/{name}")
        size += sum(path.stat().st_size for path in (STANDINS / name).iterdir())
        assert backbone.checkpoint == reference and backbone.family == GEOMETRIES[name].family
        assert sum(p.numel() for p in backbone.model.parameters()) == record["parameters"]
        assert abs(record["parameters"] / 1e6 - TARGETS[name]) <= 0.15 * TARGETS[name]
        with torch.no_grad():
            out = backbone(backbone.collate(backbone.encode([post])))
        assert out.isfinite().all() and (name == "siglip2" or backbone.encode([post])[0].frame_tokens in ((9,), (10,)))
        assert f"{record['parameters']:,} parameters" in (STANDINS / name / "README.md").read_text()
    assert size < 16e6


def test_the_smallest_starts_again_as_recorded(committed, tmp_path):
    """60 of its steps, on as many posts as they take: the loss falls as the record's does."""
    record = committed["llava-ov-0.5b"]
    settings = recipe.PretrainingRecipe(**record["recipe"])
    posts = recipe.load_posts(tmp_path, posts=700, workers=1)
    texts = [post_text(row) for row in posts.texts]
    write_random_standin(tmp_path / "start", "llava-ov-0.5b", texts, seed=settings.seed)
    per_epoch = (len(posts.texts) - posts.held_out) // settings.batch_size
    again = recipe.pretrain(
        load_backbone(tmp_path / "start"), posts, replace(settings, epochs=record["steps"] / per_epoch),
        name="again", state_file=tmp_path / "run.safetensors", max_steps=60,
    )  # fmt: skip
    np.testing.assert_allclose(again["loss_every_20_steps"], record["loss_every_20_steps"][:3], rtol=0.12)


def quality(record) -> float:
    return (record["quality"]["seen_map"] + record["quality"]["read_map"]) / 2


def test_committed_folders_describe_held_out_posts_the_larger_the_better(committed):
    for record in committed.values():
        parts = record["quality"]
        assert all(parts[f"{part}_map"] > 5 * parts[f"{part}_prevalence"] for part in ("seen", "read"))
        assert record["loss_every_20_steps"][-1] < 0.5 * record["loss_every_20_steps"][0]
        assert parts == description_quality(record["by_word"]) and len(record["by_word"]) == record["words"]
    by_size = [quality(committed[name]) for name in ("qwen3-vl-8b", "qwen3-vl-4b", "qwen3-vl-2b", "llava-ov-0.5b")]
    assert by_size == sorted(by_size, reverse=True)
    sizes = [committed[name]["parameters"] for name in ("qwen3-vl-8b", "qwen3-vl-4b", "qwen3-vl-2b", "llava-ov-0.5b")]
    assert sizes == sorted(sizes, reverse=True)
