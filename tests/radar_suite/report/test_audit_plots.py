"""The audit's figures draw for one, three and seven risks, and its galleries escape what posts say."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from radar_suite.intake import audit
from radar_suite.report import audit_plots as plots
from radar_suite.report import style
from radar_suite.report.drawing import draw_counts, panels
from radar_suite.report.gallery import gallery_html


@pytest.fixture(autouse=True)
def figures():
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
    rates = {by: audit.prevalence(table, categories, by=by) for by in ("split", "pipeline")}
    figure = plots.prevalence_panels(rates, categories, most=5)
    figure.canvas.draw()
    assert len(figure.axes[1].containers) == len(categories)
    scores = pd.DataFrame([(c, p, 0.3, 0.05) for c in categories for p in ("text", "frames", "joint")],
                          columns=["category", "probe", "ap", "prevalence"])  # fmt: skip
    gains = pd.DataFrame([(c, p, 0.1, 0.0, 0.2) for c in categories for p in ("text", "frames")],
                         columns=["category", "over", "gain", "low", "high"])  # fmt: skip
    plots.modality_gains(scores, gains).canvas.draw()
    figure, grid = panels(len(categories))
    draw_counts(grid[0], audit.validity_matrix(table, categories), title="labels", x="risk", y="pipeline")
    figure.canvas.draw()
    assert len(grid) == len(grid[0].get_xticklabels()) == len(categories)


def test_galleries_show_labels_and_escape_what_posts_say():
    title = "<script>alert(1)</script> \u0645\u0631\u062d\u0628\u0627"
    post = {"frames": [Image.new("RGB", (300, 20))], "title": title, "ocr_text": "a & b", "asr_text": ""}
    post |= {"label_A": 1, "label_B": -1, "split": "train", "pipeline": "p", "language": "ar", "region": "EG"}
    html = gallery_html([post, {**post, "frames": [], "title": ""}], ("A", "B"), notes=["first", "second"])
    assert "<script" not in html and "<style" not in html and "&lt;script&gt;" in html and "a &amp; b" in html
    assert html.count("A violating") == 2 and "B violating" not in html and "second" in html
    assert html.count("data:image/jpeg;base64,") == 1
