"""Notebook 09 on posts that are not the built-in ones: one risk with calibration posts, seven with none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

sys.modules.setdefault("rfc3987_syntax", None)  # nbformat's optional check of URLs takes seconds to import
import nbformat  # noqa: E402

from radar_lib.data.posts import write_corpus  # noqa: E402
from radar_lib.files import digest_file, read_json, write_json  # noqa: E402
from radar_lib.models.backbones import BACKBONES, load_backbone  # noqa: E402
from radar_lib.models.router import RadarRouter, RouterConfig  # noqa: E402
from radar_lib.training.scores import write_scores  # noqa: E402
from radar_suite.chain import savings  # noqa: E402
from radar_suite.chain.flops import Cost  # noqa: E402
from radar_suite.decisions.bundle import open_bundle  # noqa: E402
from radar_suite.report.experiments import ROUTER_ROWS  # noqa: E402
from radar_suite.world.standins import resolve  # noqa: E402
from tests.conftest import encoded  # noqa: E402

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "09_routing_decisions.ipynb"


@pytest.fixture
def quiet(monkeypatch):
    monkeypatch.setattr("IPython.display.display", lambda shown: None)
    monkeypatch.setitem(os.environ, "RADAR_NOTEBOOK_DIGEST", "test")
    cost = Cost(1, 1, (2.0, 4.0), (1.0, 1.0), 9, 9, 9, 2, True)  # counting takes seconds
    monkeypatch.setattr(savings, "cost_of", lambda *names, **shape: cost)
    matplotlib.use("Agg")
    yield
    matplotlib.pyplot.close("all")


def run(folder: Path, posts) -> dict:
    """The notebook's code in one namespace, after notebooks that trained nothing: logits are labels and noise."""
    home, random = folder / "runs" / "test", np.random.default_rng(0)
    about = {"folder": os.path.relpath(posts.folder, folder / "runs"), "digest": posts.digest}
    write_json(home / "01_data_audit/corpus.json", about)
    speeds = [{"backbone": name, "posts/s": 100.0 if "8B" in name else 500.0} for name in BACKBONES]
    write_json(home / "02_backbones/backbones.json", {"backbones": speeds})
    router = RadarRouter(load_backbone(resolve(BACKBONES["LLaVA-OV-0.5B"], "standins")), RouterConfig(posts.categories))
    router.save_pretrained(folder / "runs/router")
    router.detach()
    test, path = posts.table("test"), home / "05_router_training/scores.parquet"
    truth = test[[f"label_{risk}" for risk in posts.categories]].to_numpy()
    logits = (random.normal(size=truth.shape) + 2 * truth).astype(np.float32)
    path.parent.mkdir()
    names = {"post_ids": test["post_id"], "splits": ["test"] * len(test)}
    write_scores(path, **names, logits=logits, categories=posts.categories)
    entry = {"run": "r", "seed": 1, "router": "router", "scores_path": str(path.relative_to(folder / "runs")),
             "scores_digest": digest_file(path)}  # fmt: skip
    rows = [entry | {"loss": one.loss, "method": one.method, "backbone": one.backbone} for one in ROUTER_ROWS]
    write_json(path.with_name("routers.json"), rows)
    space: dict = {}
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, cell.id, "exec"), space)
            if "parameters" in cell.metadata.get("tags", []):
                space |= {"runs_dir": str(folder / "runs"), "profile": "test", "evasion_posts": 12}
    return space


def test_one_risk_is_certified_and_the_bundle_has_what_was_worked_out_by_hand(tmp_path, quiet, capsys):
    rows = [{"post_id": f"p{i}", "split": ("train", "test", "calibration")[i % 3], "title": f"post {i} of {i % 17}",
             "label_spam": int(i // 3 % 2)} for i in range(240)]  # fmt: skip
    posts = write_corpus(tmp_path / "c", rows, name="mine", kind="imported", categories=("spam",))
    found = run(tmp_path, posts)
    home = tmp_path / "runs/test/09_routing_decisions"
    bundle = open_bundle(home / "bundle")
    (line,) = read_json(home / "decisions.json")["certified"]
    assert line["positives"] == 40 and line["failure"] <= 0.05 < binom.cdf(line["rank"], 40, 0.1)
    assert line["failure"] == pytest.approx(binom.cdf(line["rank"] - 1, 40, 0.1))
    assert bundle.thresholds == (line["logit"],) == (float(found["hand_tau"]),)
    fails = pd.read_csv(home / "figures/failures.csv").set_index("threshold")
    apart = (fails["failed"] - fails["exact, these posts"]).abs()
    assert (apart <= 4 * fails["error of the draws"]).all() and fails.loc["naive", "failed"] > 0.2
    assert fails.loc["certified", "failed"] < 0.1


def test_seven_risks_without_calibration_posts_promise_nothing_and_release_nothing(tmp_path, quiet, capsys):
    random, risks = np.random.default_rng(1), [f"r{k}" for k in range(7)]
    rows = []
    for i in range(120):
        given = random.integers(0, 2, 7) if i >= 12 else np.array([i % 2] * 7)
        row = {"post_id": f"p{i}", "split": ("train", "test")[i % 3 == 0], "title": f"word {i}", "language": "pt"}
        row |= {f"label_{risk}": int(given[k]) if i % 7 <= k else -1 for k, risk in enumerate(risks)}
        rows.append(row | {"frames": [encoded(60, 40, seed=i)] if i % 2 else []})
    posts = write_corpus(tmp_path / "c", rows, name="mine", kind="imported", categories=risks)
    run(tmp_path, posts)
    home = tmp_path / "runs/test/09_routing_decisions"
    assert "No bundle" in capsys.readouterr().out and not (home / "bundle").exists()
    landed = pd.read_csv(home / "figures/operating_points.csv").set_index(["threshold", "risk"])
    assert (landed.loc["certified", "APR"] == 0).all() and (landed.loc["in-sample", "APR"].iloc[:7] > 0).any()
    assert (home / "figures/apr_recall.png").stat().st_size > 10_000
