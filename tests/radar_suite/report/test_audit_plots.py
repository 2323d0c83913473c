"""The audit's figures draw for one, three and seven risks, and say what they show."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from radar_suite.intake import audit, duplicates
from radar_suite.report import audit_plots as plots
from radar_suite.report import style
from radar_suite.report.gallery import gallery_html


@pytest.fixture(autouse=True)
def drawn():
    style.use()
    yield
    plt.close("all")


def posts(categories, n=60):
    rng = np.random.default_rng(0)
    ids, pipelines = [f"p{i}" for i in range(n)], rng.choice(["x", "y"], n)
    table = pd.DataFrame({"post_id": ids, "split": "train", "pipeline": pipelines,
                          "title": "title", "ocr_text": "", "asr_text": "spoken"})  # fmt: skip
    return table.assign(**{f"label_{c}": rng.integers(-1, 2, n) for c in categories})


@pytest.mark.parametrize("categories", [("A",), ("LQC", "RCS", "FE"), tuple("ABCDEFG")])
def test_figures_of_labels(categories):
    table = posts(categories)
    figure = plots.who_labelled_what(audit.validity_matrix(table, categories), audit.co_annotation(table, categories))
    figure.canvas.draw()
    assert len(figure.axes[1].get_xticklabels()) == len(categories)
    rates = {by: audit.prevalence(table, categories, by=by) for by in ("split", "pipeline")}
    figure = plots.prevalence_panels(rates, categories, most=5)
    figure.canvas.draw()
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["by split", "by pipeline"]
    assert len(figure.axes[1].containers) == len(categories)
    labels = np.arange(20) % 2
    panels = {c: (labels, np.linspace(0, 1, 20), 3) for c in categories}
    assert "3 suspects" in plots.doubt(panels).axes[0].get_title(loc="left")
    curves = {c: (np.linspace(1, 0, 20), None, 0.05, 2) for c in categories}
    assert len(plots.precision_of_suspects(curves).axes) >= len(categories)
    hidden = pd.DataFrame({"verified": 0.3, "unverified": 0.1}, index=list(categories))
    plots.hidden_cells(hidden).canvas.draw()
    scores = pd.DataFrame([(c, p, 0.3, 0.05) for c in categories for p in ("text", "frames", "joint")],
                          columns=["category", "probe", "ap", "prevalence"])  # fmt: skip
    gains = pd.DataFrame([(c, p, 0.1, 0.0, 0.2) for c in categories for p in ("text", "frames")],
                         columns=["category", "over", "gain", "low", "high"])  # fmt: skip
    plots.modality_gains(scores, gains).canvas.draw()
    plots.agreement_of_copies(
        4, pd.DataFrame({"category": [categories[0]]}), dict.fromkeys(categories, 2)
    ).canvas.draw()


def test_figures_of_content_with_and_without_frames():
    table = posts(("A",))
    frames = pd.DataFrame(
        {"post_id": ["p0", "p1"], "frames": [2, 1], "brightness": [10.0, 20.0], "sharpness": [0.0, 9.0]}
    )
    for part in (frames, frames.iloc[:0]):
        plots.texts_and_frames(table, part).canvas.draw()
    plots.missing(audit.missing_modalities(table, frames["post_id"])).canvas.draw()
    probe = pd.DataFrame({"probe": ["text", "joint"], "pipeline": "p", "auc": [0.6, 0.7]})
    assert plots.aucs(probe).axes[0].get_xlabel() == "AUC on posts not seen"
    pairs = pd.DataFrame({"a": [0], "b": [1], "kind": ["near"], "text_similarity": [0.9], "frame_distance": [3.0]})
    shared = duplicates.between_splits(pairs, pd.Series(["train", "test"]))
    figure = plots.copies(pairs, shared, limit=14)
    figure.canvas.draw()
    assert figure.axes[1].get_legend().get_texts()[1].get_text() == "near (1)"


def test_galleries_show_labels_and_escape_what_posts_say():
    title = "<script>alert(1)</script> \u0645\u0631\u062d\u0628\u0627"
    post = {"frames": [Image.new("RGB", (300, 20))], "title": title, "ocr_text": "a & b", "asr_text": ""}
    post |= {"label_A": 1, "label_B": -1, "split": "train", "pipeline": "p", "language": "ar", "region": "EG"}
    html = gallery_html([post, {**post, "frames": [], "title": ""}], ("A", "B"), notes=["first", "second"])
    assert "<script" not in html and "&lt;script&gt;" in html and "a &amp; b" in html
    assert (
        html.count("A violating") == 2 and "B violating" not in html and "(no frames)" in html and "(no title)" in html
    )
    assert html.count("data:image/jpeg;base64,") == 1 and "second" in html
