"""Every figure that has a panel, line or column per risk can be read with 1 to 10 risks whose names have 20 letters."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from radar_lib.training.loop import History
from radar_suite.intake import audit
from radar_suite.report import audit_plots, plots, reliance, style, tables
from radar_suite.report.claims import CHOSEN, MASKING, OPEN, name_of, table_cells, with_average
from radar_suite.report.drawing import WIDEST
from radar_suite.report.overview import SIZE, draw_overview
from radar_suite.studies import other_losses

NAMES = ("misleading_headlines", "dangerous_challenges", "counterfeit-products", "x" * 20, "hateful_text_in_memes",
         "undisclosed_advert_s", "graphic_violence_now", "unlicensed_gambling_", "stolen_celebrity_pic",
         "harassment_of_minors")  # fmt: skip
SMALLEST, SLACK = 7, 1.5  # points; pixels by which boxes of letters may touch


@pytest.fixture(autouse=True)
def drawn():
    style.use()
    yield
    plt.close("all")


def illegible(figure: Figure) -> list[str]:
    """What of a figure's texts and legends is too small, covers another or leaves the figure, and the figure itself if
    it is wider than the page that shows it."""
    figure.draw_without_rendering()
    width = figure.get_figwidth()
    faults = [f"the figure is {width:.1f} inches wide"] if width > WIDEST else []
    axes = [axis for one in figure.axes for axis in (one.xaxis, one.yaxis)]
    hidden = {text for axis in axes if not axis.axes.axison for text in axis.findobj(Text)}
    hidden |= {text for axis in axes for tick in ticks_outside(axis) for text in (tick.label1, tick.label2)}
    texts = [text for text in figure.findobj(lambda one: isinstance(one, Text) and one.get_visible())
             if text.get_text().strip() and text not in hidden]  # fmt: skip
    names = [text.get_text() for text in texts]
    faults += [f"{name!r} is small" for name, text in zip(names, texts, strict=True) if text.get_fontsize() < SMALLEST]
    low, high = np.moveaxis([text.get_window_extent().get_points() for text in texts], 1, 0)
    out = (low < -SLACK).any(axis=1) | (high > figure.bbox.max + SLACK).any(axis=1)
    faults += [f"{names[i]!r} leaves the figure" for i in np.flatnonzero(out)]
    shared = np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None])
    covered = np.argwhere(np.triu((shared > SLACK).all(axis=2), 1))
    return faults + [f"{names[i]!r} and {names[j]!r} overlap" for i, j in covered]


def ticks_outside(axis) -> list:
    """Ticks beyond the limits of their axis, which are not drawn."""
    low, high = sorted(axis.get_view_interval())
    ticks = axis.get_major_ticks() + axis.get_minor_ticks()
    return [tick for tick in ticks if not low <= tick.get_loc() <= high]


def posts(risks) -> pd.DataFrame:
    rng, n = np.random.default_rng(0), 120
    pipelines = [risks[i % len(risks)] for i in range(n)]
    table = pd.DataFrame({"post_id": [f"p{i}" for i in range(n)], "split": "train", "pipeline": pipelines})
    return table.assign(**{f"label_{c}": rng.integers(-1, 2, n) for c in risks}, region=rng.choice(["BR", "US"], n))


def forest(risks):
    cells = table_cells(risks)
    average = with_average(risks)[-1]
    lines = pd.DataFrame([
        {"claim": c.claim, "row": name_of(c.row), "against": name_of(c.other), "category": c.category,
         "metric": c.metric, "paper": -12.3, "ours": 12.34, "low": -20.0, "high": 30.0,
         "verdict": CHOSEN if c.claim == MASKING else OPEN}
        for c in cells if c.category == average])  # fmt: skip
    ends = lines[lines["metric"] == "PR-AUC"].drop_duplicates("claim")
    return plots.forest({"blind traffic": lines, "each pipeline's own stream": lines}, ends)


def lambda_study(risks):
    lines = [{"lambda": lam, "category": c, "metric": m, "value": 0.5, "difference": lam / 9, "low": -0.1, "high": 0.2}
             for lam in (0.0, 0.5, 1.0) for c in with_average(risks) for m in tables.METRICS]  # fmt: skip
    return plots.lambda_study(pd.DataFrame(lines), with_average(risks), {(risks[0], "PR-AUC"): 3.0})


def words(_):
    told = {f"{part}:{name}": {"ap": 10.0 * k, "prevalence": 5.0}
            for part in ("seen", "read") for k, name in enumerate(NAMES)}  # fmt: skip
    return plots.draw_words(dict.fromkeys(NAMES[:7], told))


def pr_curves(risks):
    truth = np.tile(np.array([[1], [0], [-1], [0]], np.int8), len(risks))
    names = ("Individual Experts, BCE", "Qwen3-VL-2B, BCE w/o Mask", "Qwen3-VL-2B, Masked BCE",
             "Qwen3-VL-4B, Masked BCE + Distill")  # fmt: skip
    return plots.pr_curves(truth, {name: np.arange(4.0 * len(risks)).reshape(4, -1) for name in names}, risks)


def reliability(risks):
    lines = [{"category": c, "group": group, "predicted": p, "observed": p, "low": p, "high": p}
             for c in risks for group in ("own, trained on", "own, held out") for p in (0.1, 0.9)]  # fmt: skip
    title = "Reliability of the experts; each point is a tenth of the cells"
    return plots.reliability(pd.DataFrame(lines), title=title)


def training_curves(risks):
    history = History([{"step": 1, "loss": 2.0}], [{"epoch": 1, risks[0]: 0.5}])
    return plots.training_curves(dict.fromkeys(risks, history))


def expert_reliance(risks):
    lines = [{"category": c, "kind": kind, "what": what, "loss": 0.1, "low": 0.0, "high": 0.2}
             for c in risks for kind in ("blank", "permute", "replay") for what in ("frames", "title")]  # fmt: skip
    return reliance.figure(pd.DataFrame(lines))


def prevalence(risks):
    rates = {by: audit.prevalence(posts(risks), risks, by=by) for by in ("split", "pipeline", "region")}
    return audit_plots.prevalence_panels(rates, risks)


def modality_gains(risks):
    scores = [{"category": c, "probe": p, "ap": 0.3, "prevalence": 0.05} for c in risks for p in ("text", "joint")]
    gains = [{"category": c, "over": "text", "gain": 0.1, "low": 0.0, "high": 0.2} for c in risks]
    return audit_plots.modality_gains(pd.DataFrame(scores), pd.DataFrame(gains))


def label_matrices(risks):
    table = posts(risks)
    return audit_plots.label_matrices(audit.validity_matrix(table, risks), audit.co_annotation(table, risks))


def pipeline_guesses(risks):
    lines = [(probe, "+".join(NAMES[: k + 1]), 0.6) for k in range(len(risks)) for probe in ("text", "frames", "joint")]
    return audit_plots.pipeline_guesses(pd.DataFrame(lines, columns=["probe", "pipeline", "auc"]))


def other_treatments(risks):
    rows = (other_losses.MASKED, "Assume negative", "Doubly robust, estimated propensities")
    lines = [{"row": row, "category": c, "metric": m, "difference": 0.1, "low": 0.0, "high": 0.2}
             for row in rows for c in (*risks, tables.AVERAGE) for m in tables.METRICS]  # fmt: skip
    return other_losses.difference_figure(pd.DataFrame(lines))


def overview(risks):
    figure, axes = plt.subplots(figsize=SIZE)
    draw_overview(axes, categories=risks)
    return figure


FIGURES = (
    forest, lambda_study, words, pr_curves, reliability, training_curves, expert_reliance, prevalence,
    modality_gains, label_matrices, pipeline_guesses, other_treatments, overview,
)  # fmt: skip


@pytest.mark.parametrize("count", [1, *(pytest.param(count, marks=pytest.mark.slow) for count in (3, 7)), 10])
@pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)
def test_figures_can_be_read_with_any_number_of_risks(draw, count):
    assert not illegible(draw(NAMES[:count]))
