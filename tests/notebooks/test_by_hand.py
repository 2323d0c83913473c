"""What the notebooks work out by hand is what the library computes: their cells are run here, on something small."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import expit, logit

from radar_lib.intervals import average_precision_influence
from radar_lib.models.backbones import BACKBONES, load_backbone
from radar_lib.models.router import RadarRouter, RouterConfig
from radar_lib.training.teachers import Panel
from radar_suite.report.claims import holm
from radar_suite.studies.limit import limit_scores
from radar_suite.studies.pool import draw_training_set, plan_pool
from radar_suite.world.dials import CorpusConfig, sizes_of
from radar_suite.world.pipelines import Intake
from radar_suite.world.standins import resolve

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def run_cells(notebook: str, *ids: str, **names: Any) -> dict[str, Any]:
    """Run the imports of a notebook and then the cells with these ids; returns all names that there are then."""
    cells = json.loads(next(NOTEBOOKS.glob(f"{notebook}_*.ipynb")).read_text(encoding="utf-8"))["cells"]
    source = {cell["id"]: "".join(cell["source"]) for cell in cells}
    imports = next(text for text in source.values() if text.startswith(("import ", "from ")))
    exec(imports, names)
    for one in ids:
        exec(compile(source[one], f"{notebook}/{one}", "exec"), names)
    return names


def posts(number: int) -> list[dict[str, Any]]:
    """Posts of different lengths, with no frame, one or two."""
    random = np.random.default_rng(0)
    noise = lambda: Image.fromarray(random.integers(0, 255, (96, 96, 3), dtype=np.uint8))  # noqa: E731
    return [{"post_id": f"p{i}", "title": "win a prize today " * (i % 4 + 1), "ocr_text": "", "asr_text": "",
             "frames": [noise() for _ in range(i % 3)]} for i in range(number)]  # fmt: skip


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(resolve(BACKBONES["Qwen3-VL-2B"], "standins"))


def test_the_router_of_notebook_02_is_the_librarys_to_the_last_digit(backbone, capsys):
    corpus, ws = SimpleNamespace(categories=("A", "B", "C")), SimpleNamespace(device="cpu")
    known = {"corpus": corpus, "ws": ws, "limit": backbone.text, "seed": 1}
    found = run_cells("02", "router-class", "router-equal", "router-logits", model=backbone, rows=posts(16), **known)
    assert found["by_hand"].shape == (16, 3) and found["by_hand"].std() > 0.01
    assert torch.equal(found["by_hand"], found["theirs"])
    adapted = found["router"].backbone(found["batch"])
    assert not torch.equal(adapted, backbone(found["batch"]))  # LoRA takes part in it


def test_the_loop_of_notebook_05_has_the_librarys_losses_step_by_step(backbone):
    read, random = posts(32), np.random.default_rng(1)
    given = random.choice(np.array([-1, 0, 1], np.int8), (32, 2))
    lab = SimpleNamespace(backbone=lambda name: backbone, release=lambda: None)
    split = SimpleNamespace(select=lambda rows: [read[i] for i in rows])
    corpus = SimpleNamespace(categories=("A", "B"), split=lambda name: split)
    settings = {"batch_size": 8, "learning_rate": 0.01, "lora_rank": 4, "lora_alpha": 8, "seed": 1}
    known = settings | {"lab": lab, "corpus": corpus, "ws": SimpleNamespace(device="cpu", about="")}
    ids = ("loop-train", "loop-posts", "loop-library", "loop-curves", "loop-table")
    curves = run_cells("05", *ids, given=given, valid=given >= 0, **known)["curves"]
    assert len(curves) == 4 and curves.std().min() > 0.01
    for loss in ("Masked BCE", "BCE w/o Mask"):
        np.testing.assert_allclose(curves[loss, "by hand"], curves[loss, "radar_lib"], atol=1e-5)
    assert (curves["Masked BCE"] < curves["BCE w/o Mask"]).iloc[0].all()  # the same router, fewer cells


def test_the_loop_over_the_experts_of_notebook_04_is_the_librarys_panel(backbone, tmp_path):
    experts = {}
    for seed, category in enumerate("AB", 1):
        router = RadarRouter(backbone, RouterConfig((category,), lora_rank=2), seed=seed)
        router.save_pretrained(tmp_path / category)
        router.detach()
        experts[category] = SimpleNamespace(router_folder=tmp_path / category)
    lab, split = SimpleNamespace(backbone=lambda name: backbone), SimpleNamespace(select=lambda rows: posts(len(rows)))
    corpus = SimpleNamespace(categories=("A", "B"), split=lambda name: split)
    found = run_cells("04", "teacher-loop", experts=experts, lab=lab, corpus=corpus, ws=SimpleNamespace(device="cpu"))
    panel = Panel([tmp_path / category for category in "AB"], backbone).eval()
    with torch.inference_mode():
        np.testing.assert_array_equal(found["by_hand"], panel(found["batch"]))
    panel.detach()
    assert found["by_hand"].std().min() > 0


def test_reliability_of_a_calibrated_and_of_an_over_confident_teacher():
    random, audit = np.random.default_rng(0), run_cells("04", "bins", "quality")
    logits = random.normal(size=40_000)
    labels = (random.random(40_000) < expit(logits)).astype(np.int8)
    bins = audit["reliability_bins"](labels, logits)
    assert ((bins["low"] <= bins["predicted"]) & (bins["predicted"] <= bins["high"])).sum() >= 8
    assert len(bins) == 10 and bins["posts"].sum() == 40_000 and bins["predicted"].is_monotonic_increasing
    assert audit["quality"](labels, logits, bins)["calibration error"] < 0.01
    sure = audit["reliability_bins"](labels, 3 * logits)
    assert audit["quality"](labels, 3 * logits, sure)["calibration error"] > 0.1


def test_quality_of_a_teacher_by_hand():
    audit, labels, logits = run_cells("04", "bins", "quality"), np.array([0, 1, 1, 1]), logit([0.2, 0.2, 0.6, 0.6])
    bins = audit["reliability_bins"](labels, logits, bins=2)
    np.testing.assert_allclose(bins[["predicted", "observed", "posts"]], [[0.2, 0.5, 2], [0.6, 1, 2]])
    quality = audit["quality"](labels, logits, bins)
    assert quality["observed rate"] == 0.75 and quality["mean probability"] == pytest.approx(0.4)
    assert quality["agreement"] == 0.75 and quality["kappa"] == pytest.approx((0.75 - 0.5) / 0.5)  # chance: 1/2
    assert quality["log loss"] == pytest.approx(-np.log([0.8, 0.2, 0.6, 0.6]).mean())
    assert quality["calibration error"] == pytest.approx((0.3 + 0.4) / 2)
    one_kind = audit["quality"](np.zeros(3, np.int8), np.zeros(3), audit["reliability_bins"](np.zeros(3), np.zeros(3)))
    assert np.isnan(one_kind["PR-AUC"]) and np.isnan(one_kind["kappa"])


def test_one_comparison_of_notebook_06_is_the_librarys():
    random = np.random.default_rng(3)
    truth = (random.random((900, 2)) < 0.1).astype(np.int8)
    truth[:50, 1] = -1
    backbones = ("Gemma3-4B", "LLaVA-OV-1.5-4B", "Qwen3-VL-4B")
    noisy = lambda: {1: (truth + random.normal(size=truth.shape)).round(1).astype(np.float32)}  # noqa: E731  with ties
    rows = {(loss, one): noisy() for loss in ("Masked BCE", "Masked BCE + Distill") for one in backbones}
    scores, corpus = SimpleNamespace(truth=truth, rows=rows), SimpleNamespace(categories=("A", "B"))
    cells = [f"hand-{one}" for one in ("influence", "pair", "difference", "bootstrap", "holm")]
    found = run_cells("06", *cells, scores=scores, corpus=corpus, seed=1)
    np.testing.assert_allclose(found["influence"], average_precision_influence(found["y"], found["ours"]), atol=1e-9)
    compared = found["compared"]
    np.testing.assert_allclose(compared["by hand"], compared["radar_lib"], rtol=1e-9)
    np.testing.assert_allclose(compared["by hand, bootstrap"], compared["radar_lib, bootstrap"], rtol=1e-9)
    np.testing.assert_allclose(found["corrected"], holm(found["p"]))
    assert len(found["p"]) == 6


def test_the_limit_of_notebook_08_is_the_studys():
    settings = {"phase_betas": [1.5, 6.0], "phase_focus": [0.0, 0.7], "phase_overlap": [0.0, 1.5]}
    found = run_cells("08", "limit-hand", "limit-shown", seed=1, level=0.9, **settings)
    masked, unmasked = limit_scores(found["traffic"], intake=Intake(1.5, 0.7, 1.5))
    np.testing.assert_allclose(found["masked"], masked, rtol=1e-12)
    np.testing.assert_allclose(found["unmasked"], unmasked, rtol=1e-12)
    areas = found["areas"]
    assert (np.array(areas["masked"]) > np.array(areas["unmasked"])).all()  # at these dials


def test_the_draw_of_notebook_08_is_the_studys():
    intake = Intake(1.5, 0.7, 1.5)
    pool = plan_pool(CorpusConfig(seed=1, train_posts=900, test_posts=60, co_violation=0.9))
    known = {"world": SimpleNamespace(pool=pool), "intake": intake, "phase_posts": 150, "seed": 2}
    given = run_cells("08", "draw-hand", "draw-shown", **known)["given"]
    drawn = draw_training_set(pool, intake=intake, sizes=sizes_of(150), seed=2)
    assert (given[drawn.rows] == drawn.labels).all() and (given >= 0).sum() == len(drawn.rows) == 150
