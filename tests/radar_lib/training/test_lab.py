"""Runs end to end on tiny real models: trained once, resumed, scored; experts see their own pipeline only."""

import numpy as np
import pandas as pd
import pytest
import torch

from radar_lib.errors import RadarError
from radar_lib.models.backbones import load_backbone
from radar_lib.models.router import RadarRouter, RouterConfig
from radar_lib.training.cache import Cache
from radar_lib.training.encoded import chunks
from radar_lib.training.inference import predict, spare_casts
from radar_lib.training.lab import Lab
from radar_lib.training.loop import Execution, Recipe, no_bar
from radar_lib.training.scores import logits_for, read_scores, write_scores
from radar_lib.training.specs import Run, RunSpec, SideFiles, SoftLabels
from radar_lib.training.teachers import soft_labels

RECIPE = Recipe(epochs=2, batch_size=8, learning_rate=5e-3)


def expert(category):
    return RunSpec("Qwen3-VL-8B", (category,), RECIPE, 4, 8)


@pytest.fixture
def lab(posts, checkpoints, tmp_path):
    return Lab(posts, Cache(tmp_path / "cache"), checkpoints=str(checkpoints), bar=no_bar)


def test_a_run_is_trained_once_and_leaves_scores_curves_and_a_router(lab, interrupting):
    spec = expert("LQC")
    run = lab.train(spec)
    scores = run.scores()
    assert list(scores.columns) == ["post_id", "split", "logit_LQC"] and scores["logit_LQC"].dtype == np.float32
    assert scores["split"].value_counts().to_dict() == {"test": 10, "validation": 8}  # its own pipeline's
    assert len(run.history.epochs) == 2 and run.record["trainable_parameters"] > 0
    assert not run.entry.path("checkpoint.safetensors").exists()

    loaded = Run.load(run.entry.folder)
    assert loaded.spec == spec and loaded.digest == run.digest

    lab.bar = interrupting(1)  # a second training would fail
    assert lab.train(spec).digest == run.digest

    router = RadarRouter.from_pretrained(run.router_folder, backbone=lab.backbone("Qwen3-VL-8B"))
    own = np.flatnonzero(lab.labels("test", ["LQC"])[:, 0] >= 0)
    again = predict(router, lab.encoded("Qwen3-VL-8B", "test").subset(own))
    with pytest.raises(ValueError, match="no posts"):
        predict(router, lab.encoded("Qwen3-VL-8B", "test").subset(np.arange(0)))
    router.detach()
    assert np.array_equal(again[:, 0], run.scores("test")["logit_LQC"].to_numpy())


def test_one_more_split_is_scored_without_training_again(lab, interrupting):
    run = lab.train(expert("LQC"))
    lab.bar, lab.score_splits = interrupting(1), ("train", "test")
    assert not lab.finished(run.spec)
    more = lab.train(run.spec)
    assert more.digest == run.digest and lab.finished(run.spec)
    assert more.scores()["split"].value_counts().to_dict() == {"train": 16, "test": 10}
    pd.testing.assert_frame_equal(more.scores("validation", "test"), run.scores(), check_exact=True)
    more.scores_entry("train").path("scores.parquet").unlink()
    assert more.unscored() == ["train"]
    lab.score(more)
    assert not more.unscored() and len(more.scores()) == 26
    with pytest.raises(RadarError, match="name the splits"):
        Run.load(more.entry.folder).scores()
    with pytest.raises(RadarError, match="not scored on audit"):
        more.scores("audit")


def test_validation_leaves_out_a_risk_without_violations(lab, monkeypatch):
    known = lab.labels
    monkeypatch.setattr(lab, "labels", lambda *of: np.minimum(known(*of), 0))
    assert lab.train(expert("LQC")).history.epochs == [{"epoch": 1}, {"epoch": 2}]


def test_experts_train_on_their_own_pipeline_and_routers_on_all(lab):
    own = lab.training_set(expert("FE"), None)
    assert (own.labels >= 0).all() and len(own.post_ids) == 16
    assert len(lab.training_set(RunSpec("Qwen3-VL-8B", lab.posts.categories, RECIPE), None).post_ids) == 48


def test_the_run_hash_covers_what_decides_the_result(lab, tmp_path):
    spec = RunSpec("Qwen3-VL-8B", lab.posts.categories, RECIPE)
    path = tmp_path / "soft.parquet"
    ids = lab.table("train")["post_id"].tolist()
    write_scores(path, post_ids=ids, splits=["train"] * 48, logits=np.zeros((48, 3)), categories=lab.posts.categories)
    teacher = SoftLabels.open(path)
    base = lab.entry(spec).digest
    assert lab.entry(spec, teacher=teacher).digest == base  # lambda 0 never reads the teacher
    others = [spec.with_recipe(seed=2), spec.with_recipe(epochs=3), RunSpec("SigLIP2", spec.categories, RECIPE)]
    digests = {lab.entry(other).digest for other in others}
    digests.add(lab.entry(spec.with_recipe(lam=0.5), teacher=teacher).digest)
    assert len(digests | {base}) == 5
    with pytest.raises(RadarError, match="needs the experts' soft labels"):
        lab.entry(spec.with_recipe(lam=0.5))


def test_side_information_enters_the_hash_and_the_loss_where_the_objective_needs_it(lab, tmp_path):
    spec, ids = RunSpec("Qwen3-VL-8B", lab.posts.categories, RECIPE), lab.table("train")["post_id"].tolist()
    files = []
    for number in range(2):
        logits = np.random.default_rng(number).normal(size=(48, 3))
        about = {"post_ids": ids, "splits": ["train"] * 48, "categories": lab.posts.categories}
        write_scores(tmp_path / f"{number}.parquet", logits=logits, **about)
        files.append(SoftLabels.open(tmp_path / f"{number}.parquet"))
    prior = {"LQC": 0.1, "RCS": 0.2, "FE": 0.3}
    one, other = SideFiles(prior, files[0], files[1]), SideFiles(prior | {"FE": 0.4}, files[1], files[1])
    assert lab.entry(spec, side=one).digest == lab.entry(spec).digest  # the masked loss reads nothing of it
    for objective in ("csl", "nnpu", "ipw", "dr"):
        this = spec.with_recipe(objective=objective)
        assert lab.entry(this, side=one).digest != lab.entry(this, side=other).digest
    ipw, lone = spec.with_recipe(objective="ipw"), SideFiles(propensity=files[0])
    assert lab.entry(ipw, side=one).digest == lab.entry(ipw, side=lone).digest
    with pytest.raises(RadarError, match="needs propensity and imputed: name it in SideFiles"):
        lab.entry(spec.with_recipe(objective="dr"))
    with pytest.raises(RadarError, match="needs prior of FE"):
        lab.entry(spec.with_recipe(objective="csl"), side=SideFiles({"LQC": 0.1, "RCS": 0.1}))

    read = lab.training_set(RunSpec("Qwen3-VL-8B", ("FE", "LQC"), Recipe(objective="dr")), None, one)
    logits = files[0].logits(read.post_ids, ("FE", "LQC"))
    assert len(read.post_ids) == 32 and np.allclose(read.side.propensity, 1 / (1 + np.exp(-logits)))
    assert np.array_equal(read.side.imputed, files[1].logits(read.post_ids, ("FE", "LQC"))) and read.side.prior is None
    read = lab.training_set(RunSpec("Qwen3-VL-8B", ("FE", "LQC"), Recipe(objective="csl")), None, one)
    assert np.allclose(read.side.prior, [0.3, 0.1]) and read.side.imputed is None


def test_scores_refuse_what_would_mislead(tmp_path):
    options = {"post_ids": ["a", "b"], "splits": ["test"] * 2, "categories": ["X"]}
    with pytest.raises(RadarError, match="non-finite logit, the first is 'b'"):
        write_scores(tmp_path / "s.parquet", logits=np.array([[0.0], [np.inf]]), **options)
    with pytest.raises(RadarError, match="2 posts"):
        write_scores(tmp_path / "s.parquet", logits=np.zeros((3, 1)), **options)
    with pytest.raises(RadarError, match="does not exist"):
        read_scores(tmp_path / "s.parquet")
    write_scores(tmp_path / "s.parquet", logits=np.array([[1.0], [2.0]]), **options)
    scores = read_scores(tmp_path / "s.parquet")
    assert logits_for(scores, ["b", "a"], ["X"]).ravel().tolist() == [2.0, 1.0]
    with pytest.raises(RadarError, match="no score, the first is 'c'"):
        logits_for(scores, ["a", "c"], ["X"])
    with pytest.raises(RadarError, match="logit_Y"):
        logits_for(scores, ["a"], ["Y"])


def test_an_unknown_backbone_is_named(lab):
    with pytest.raises(RadarError, match="Qwen3-VL-4B"):
        lab.checkpoint("Qwen")


@pytest.mark.parametrize("name", ["Qwen3-VL-8B", "SigLIP2"])
def test_a_bfloat16_backbone_trains_float32_adapters_and_heads(lab, name):
    encoded = {}
    for dtype in (torch.float32, torch.bfloat16):
        backbone = load_backbone(lab.checkpoint(name), dtype=dtype)
        router = RadarRouter(backbone, RouterConfig(lab.posts.categories, 4, 8)).train()
        assert {p.dtype for p in router.trainable_parameters()} == {torch.float32}
        assert {p.dtype for p in router.parameters() if not p.requires_grad} == {dtype}
        chunk = next(chunks(backbone, lab.posts.split("test")))
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits = router(backbone.collate(chunk[:6]))
            spare_casts(router)
            assert dtype == torch.float32 or torch.equal(router(backbone.collate(chunk[:6])), logits)
        logits.sum().backward()
        assert logits.dtype == torch.float32
        encoded[dtype] = logits.detach()
    assert torch.allclose(*encoded.values(), atol=0.02)


def test_a_packed_run_gives_the_same_scores_but_for_rounding(lab, tmp_path):
    spec = expert("LQC")
    packed = Lab(lab.posts, Cache(tmp_path / "packed"), checkpoints=lab.checkpoints, bar=no_bar,
                 execution=Execution(packing=True))  # fmt: skip
    found, expected = packed.train(spec).scores(), lab.train(spec).scores()
    assert packed.backbone("Qwen3-VL-8B").packing
    pd.testing.assert_frame_equal(found, expected, atol=1e-4, check_exact=False)


def test_gradient_checkpointing_changes_no_bit_and_leaves_the_backbone_as_it_was(lab, tmp_path):
    spec = expert("RCS")
    saving = Lab(lab.posts, Cache(tmp_path / "saving"), checkpoints=lab.checkpoints, bar=no_bar,
                 execution=Execution(gradient_checkpointing=True))  # fmt: skip
    assert saving.entry(spec).digest != lab.entry(spec).digest
    pd.testing.assert_frame_equal(saving.train(spec).scores(), lab.train(spec).scores(), check_exact=True)
    model = saving.backbone("Qwen3-VL-8B").model
    assert not any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
    assert not model.get_input_embeddings()._forward_hooks


def test_every_expert_reads_every_post_and_a_student_learns_from_it(lab, tmp_path):
    experts = {category: lab.train(expert(category)) for category in reversed(lab.posts.categories)}
    table = soft_labels(lab, experts, splits=["train"], path=tmp_path / "soft.parquet")
    assert list(table.columns[2:]) == [f"logit_{category}" for category in lab.posts.categories]
    assert len(table) == 48 and table.notna().all().all()

    teacher = SoftLabels.open(tmp_path / "soft.parquet")
    spec = RunSpec("SigLIP2", lab.posts.categories, RECIPE, 4, 8)
    student = lab.train(spec.with_recipe(lam=1.0, epochs=6), teacher=teacher)
    assert student.history.steps[-1]["loss"] < student.history.steps[0]["loss"]
