"""Experts on one base: each gives what it gives alone; shards, processes and kills do not show in the soft labels."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from radar_lib.errors import RadarError
from radar_lib.models.router import RadarRouter, RouterConfig
from radar_lib.training import teachers
from radar_lib.training.cache import Cache
from radar_lib.training.inference import predict
from radar_lib.training.lab import Lab
from radar_lib.training.loop import Recipe, no_bar
from radar_lib.training.specs import Run, RunSpec
from radar_lib.training.teachers import Panel, in_order, look_once, parts, score_shard, soft_labels

NAME = "Qwen3-VL-8B"


@pytest.fixture(scope="module")
def trained(posts, checkpoints, tmp_path_factory):
    """A cache with the encoded posts and one expert per category."""
    lab = Lab(posts, Cache(tmp_path_factory.mktemp("trained")), checkpoints=str(checkpoints), bar=no_bar)
    recipe = Recipe(epochs=1, batch_size=8, learning_rate=5e-2)
    return lab, {category: lab.train(RunSpec(NAME, (category,), recipe, 4, 8)) for category in lab.posts.categories}


@pytest.fixture
def fresh(trained, tmp_path):
    """The same, without any soft label yet."""
    lab, experts = trained
    root = tmp_path / "cache"
    shutil.copytree(lab.cache.root, root, ignore=shutil.ignore_patterns("teacher"))
    copy = Lab(lab.posts, Cache(root), checkpoints=lab.checkpoints, bar=no_bar)
    return copy, {c: Run.load(root / "training" / run.digest) for c, run in experts.items()}


def alone(lab, run, split):
    """Logits of one expert, loaded and applied by itself."""
    router = RadarRouter.from_pretrained(run.router_folder, backbone=lab.backbone(NAME))
    try:
        return predict(router, lab.encoded(NAME, split))[:, 0]
    finally:
        router.detach()


def test_each_expert_gives_what_it_gives_alone_and_not_what_the_base_or_another_gives(trained, tmp_path):
    lab, experts = trained
    table = soft_labels(lab, experts, splits=["validation", "train"], path=tmp_path / "soft.parquet")
    assert list(table.columns) == ["post_id", "split", "logit_LQC", "logit_RCS", "logit_FE"]
    assert table["post_id"].tolist() == [*lab.table("validation")["post_id"], *lab.table("train")["post_id"]]
    assert (table.dtypes.iloc[2:] == np.float32).all()
    columns = {}
    for category, run in experts.items():
        found = table.query("split == 'train'")[f"logit_{category}"].to_numpy()
        assert np.array_equal(found, alone(lab, run, "train"))
        router = RadarRouter.from_pretrained(run.router_folder, backbone=lab.backbone(NAME))
        with torch.no_grad():
            for name, parameter in router.named_parameters():
                if "lora_B" in name:
                    parameter.zero_()  # the base below the expert's own head
        columns[category], columns[f"base {category}"] = found, predict(router, lab.encoded(NAME, "train"))[:, 0]
        router.detach()
    names = list(columns)
    distances = [np.abs(columns[a] - columns[b]).max() for i, a in enumerate(names) for b in names[:i]]
    assert min(distances) > 1e-3
    pd.testing.assert_frame_equal(table, pd.read_parquet(tmp_path / "soft.parquet"))


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(teachers, "PART_POSTS", 10)


def test_an_interrupted_inference_goes_on_with_the_parts_that_are_missing(fresh, small_parts, tmp_path, interrupting):
    lab, experts = fresh
    lab.bar = interrupting(11, unit="post")
    with pytest.raises(KeyboardInterrupt):
        soft_labels(lab, experts, splits=["train"], path=tmp_path / "cut.parquet")
    assert not (tmp_path / "cut.parquet").exists() and not hasattr(lab.backbone(NAME).model, "peft_config")
    done = {path: path.stat().st_mtime_ns for path in (lab.cache.root / "teacher").glob("*/scores.parquet")}
    assert done
    lab.bar = no_bar
    soft_labels(lab, experts, splits=["train"], path=tmp_path / "cut.parquet")
    assert all(path.stat().st_mtime_ns == time for path, time in done.items())  # none was scored again

    shutil.rmtree(lab.cache.root / "teacher")
    soft_labels(lab, experts, splits=["train"], path=tmp_path / "whole.parquet")
    assert (tmp_path / "cut.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()

    lab.bar = interrupting(1, unit="post")  # everything is there
    soft_labels(lab, experts, splits=["train"], path=tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_shards_together_are_the_whole(fresh, small_parts, tmp_path):
    lab, experts = fresh
    soft_labels(lab, experts, splits=["train", "validation"], path=tmp_path / "one.parquet")
    entries = lab.cache.root / "teacher"
    files = sorted(path.relative_to(entries) for path in entries.glob("*/scores.parquet"))
    shutil.rmtree(entries)
    panel = in_order(lab.posts.categories, experts)
    score_shard(lab, panel, splits=["train", "validation"], shard=(1, 2))
    assert sorted(path.relative_to(entries) for path in entries.glob("*/scores.parquet")) != files
    # the other one from the command line, as torchrun would start it
    teachers.main(
        ["--posts", str(lab.posts.folder), "--cache", str(lab.cache.root), "--checkpoints", lab.checkpoints,
         "--experts", *(str(run.entry.folder) for run in experts.values()), "--shard", "0/2", "--device", "cpu"]
    )  # fmt: skip
    assert sorted(path.relative_to(entries) for path in entries.glob("*/scores.parquet")) == files
    soft_labels(lab, experts, splits=["train", "validation"], path=tmp_path / "two.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


@pytest.mark.slow
def test_two_processes_give_what_one_gives_and_a_failure_is_told(fresh, tmp_path):
    lab, experts = fresh
    one = soft_labels(lab, experts, splits=["train", "validation"], path=tmp_path / "one.parquet")
    shutil.rmtree(lab.cache.root / "teacher")
    two = soft_labels(lab, experts, splits=["train", "validation"], path=tmp_path / "two.parquet", processes=2)
    np.testing.assert_allclose(two.filter(like="logit"), one.filter(like="logit"), rtol=0, atol=1e-5)

    shutil.rmtree(lab.cache.root / "teacher")
    (experts["LQC"].router_folder / "heads.safetensors").unlink()
    with pytest.raises(RadarError, match="heads.safetensors"):
        soft_labels(lab, experts, splits=["train", "validation"], path=tmp_path / "x.parquet", processes=2)


def test_streamed_posts_pass_the_tower_once_for_all_experts(fresh, tmp_path, monkeypatch):
    lab, experts = fresh
    kept = soft_labels(lab, experts, splits=["train"], path=tmp_path / "kept.parquet")
    shutil.rmtree(lab.cache.root / "teacher")
    shutil.rmtree(lab.cache.root / "encoded")
    streaming = Lab(lab.posts, lab.cache, checkpoints=lab.checkpoints, bar=no_bar, encoded_bytes=0)
    model = streaming.backbone(NAME)
    streaming.encoded(NAME, "train")
    seen = []
    tower = model.tower
    monkeypatch.setattr(model, "tower", lambda inputs: seen.append(len(inputs["image_grid_thw"])) or tower(inputs))
    streamed = soft_labels(streaming, experts, splits=["train"], path=tmp_path / "streamed.parquet")
    frames = sum(len(post["frames"]) for post in lab.posts.split("train"))
    assert sum(seen) == frames  # each frame once, not once per expert
    np.testing.assert_allclose(streamed.filter(like="logit"), kept.filter(like="logit"), rtol=0, atol=1e-5)
    assert not (lab.cache.root / "encoded").exists()


def test_three_experts_hold_one_base(trained):
    lab, experts = trained
    folders = [run.router_folder for run in experts.values()]
    one = RadarRouter.from_pretrained(folders[0], backbone=lab.backbone(NAME))
    weights, trained_ones = sum(p.numel() for p in one.parameters()), sum(p.numel() for p in one.trainable_parameters())
    one.detach()
    panel = Panel(folders, lab.backbone(NAME))
    assert sum(p.numel() for p in panel.parameters()) == weights
    assert [sum(t.numel() for t in state.values()) for state in panel.states] == [trained_ones] * 3
    panel.detach()
    assert not any("lora" in name for name, _ in lab.backbone(NAME).named_modules())


def test_looking_once_changes_nothing_but_who_runs_the_tower(trained):
    lab, _ = trained
    for name in (NAME, "SigLIP2"):
        backbone = lab.backbone(name)
        router = RadarRouter(backbone, RouterConfig(("X",), lora_rank=4, lora_alpha=8)).eval()
        batch = backbone.collate(backbone.encode([lab.posts.split("train")[i] for i in range(4)]))
        seen = look_once(backbone, batch)
        assert ("pixel_values" in seen) == (name == "SigLIP2")
        with torch.inference_mode():
            torch.testing.assert_close(router(seen), router(batch), rtol=0, atol=1e-6)
        router.detach()
        bare = backbone.collate(backbone.encode([{"title": "x", "ocr_text": "", "asr_text": "", "frames": []}]))
        assert look_once(backbone, bare) is bare


def test_parts_are_a_function_of_the_id(posts):
    ids = [f"post-{i}" for i in range(1000)]
    dealt = parts(ids, most=100)
    assert len(dealt) == 10 and sorted(np.concatenate(dealt).tolist()) == list(range(1000))
    assert all(60 < len(rows) < 150 for rows in dealt)
    other = ids[::-1]
    assert [{other[i] for i in rows} for rows in parts(other, most=100)] == [{ids[i] for i in rows} for rows in dealt]
    assert [rows.tolist() for rows in parts(ids[:5], most=100)] == [[0, 1, 2, 3, 4]]


def test_experts_that_cannot_stand_side_by_side_are_refused(trained, tmp_path):
    lab, experts = trained
    with pytest.raises(RadarError, match="no expert for FE"):
        soft_labels(lab, {c: experts[c] for c in ("LQC", "RCS")}, splits=["train"], path=tmp_path / "x.parquet")
    stranger = dataclasses.replace(experts["FE"], spec=dataclasses.replace(experts["FE"].spec, backbone="SigLIP2"))
    with pytest.raises(RadarError, match="different bases"):
        soft_labels(lab, experts | {"FE": stranger}, splits=["test"], path=tmp_path / "x.parquet")
    wide = RadarRouter(lab.backbone(NAME), RouterConfig(("X",), lora_rank=2, lora_alpha=8))
    wide.save_pretrained(tmp_path / "wide")
    wide.detach()
    panel = Panel([experts["LQC"].router_folder, tmp_path / "wide"], lab.backbone(NAME))
    with pytest.raises(RadarError, match="another backbone, rank"):
        predict(panel, lab.encoded(NAME, "test"))
    panel.detach()
