"""Figures draw for one, three and seven risks and show every number that they are given."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from radar_lib.training.loop import History
from radar_suite.report import claims, plots, style, tables
from radar_suite.report.overview import SIZE, draw_overview

GRID = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


@pytest.fixture(autouse=True)
def drawn():
    style.use()
    yield
    plt.close("all")


@pytest.mark.parametrize("categories", [("X",), ("hate_speech", "50 % off $now$", "x" * 60), tuple("ABCDEFG")])
def test_figures_draw_any_number_of_risks_of_any_name(categories):
    lines = [{"lambda": lam, "category": c, "metric": m, "value": 0.5, "difference": lam / 10, "low": 0, "high": lam}
             for lam in GRID for c in categories for m in tables.METRICS]  # fmt: skip
    study = plots.lambda_study(pd.DataFrame(lines), categories)
    assert len(study.axes) == 4 * len(categories)
    truth = np.tile(np.array([[1], [0], [-1], [0]], np.int8), len(categories))
    curves = plots.pr_curves(truth, {"m": np.arange(4.0 * len(categories)).reshape(4, -1)}, categories)
    overview, axes = plt.subplots(figsize=SIZE, layout="constrained")
    draw_overview(axes, categories=categories)
    for figure in (study, curves, overview):
        figure.canvas.draw()


def test_rows_against_the_paper_with_and_without_it():
    paper = tables.paper_results()
    figure = plots.rows_against_paper(paper, paper)
    assert len(figure.axes) == 4 and len(figure.axes[0].get_yticklabels()) == 13
    assert len(plots.rows_against_paper(paper, None).axes[0].lines) == 13
    with_bars = plots.rows_against_paper(paper.assign(low=0.1, high=0.9), None).axes[0].lines
    assert len(with_bars) == 26 and [10, 90] in [list(line.get_xdata()) for line in with_bars]
    floor = pd.DataFrame({"category": "Average", "metric": tables.METRICS, "value": [0.04, 0.0, 0.1, 0.05]})
    ruled = plots.rows_against_paper(paper, None, {"No information": floor})
    assert [list(axis.lines[-1].get_xdata()) for axis in ruled.axes] == [[4, 4], [0, 0], [10, 10], [5, 5]]


def test_words_are_dots_with_their_mean_and_random_comes_last():
    def words(*values):
        names = ("seen:park", "seen:dice", "read:prize")
        return {name: {"ap": ap, "prevalence": 5.0} for name, ap in zip(names, values, strict=True)}

    seen, read = plots.draw_words({"small": words(20.0, 60.0, 30.0), "large": words(40.0, 90.0, 50.0)}).axes
    dots = [sorted(line.get_xdata()) for line in seen.lines]
    assert dots == [[20, 60], [40], [40, 90], [65], [5, 5], [5]] and len(read.lines) == 6
    assert [label.get_text() for label in seen.get_yticklabels()] == ["small", "large", "a random ranking"]


def comparison(claim, row, metric, ours, **more):
    about = {"claim": claim, "row": f"loss, {row}", "against": "b", "category": "Average", "metric": metric}
    return about | {"ours": ours, "low": ours - 1, "high": ours + 1, "paper": np.nan, "verdict": claims.OPEN} | more


def test_a_forest_has_every_interval_the_papers_number_and_fills_what_is_told_from_zero():
    lines = [comparison("c", "x", "PR-AUC", 3.0, paper=7.0, verdict=claims.ABOVE), comparison("c", "y", "PR-AUC", 0.5),
             comparison("d", "x", "APR@R95", -2.0), comparison("c", "x", "PR-AUC", 9.0, category="LQC")]  # fmt: skip
    ends = pd.DataFrame([{"claim": "c", "metric": "PR-AUC", "ours": 1.75, "low": 1.0, "high": 2.5, "paper": 8.0}])
    figure = plots.forest({"here": pd.DataFrame(lines)}, ends)
    area, released = figure.axes
    spans = [tuple(line.get_xdata()) for line in area.lines if len(set(line.get_ydata())) == 1]
    assert {(2, 4), (-0.5, 1.5), (1, 2.5), (3,), (7,), (1.75,), (8,)} <= set(spans) and (9,) not in spans
    marks = {line.get_xdata()[0]: line.get_markerfacecolor() for line in area.lines if line.get_marker() == "o"}
    assert marks[0.5] == "white" != marks[3]
    names = [label.get_text() for label in area.get_yticklabels()]
    assert names == ["c", "x", "y", plots.MEAN, "d", "x"]
    assert all(low <= -5 and high >= 5 for low, high in (axis.get_xlim() for axis in figure.axes))
    assert (-3, -1) in [tuple(line.get_xdata()) for line in released.lines]
    two = plots.forest({"here": pd.DataFrame(lines[:2]), "there": pd.DataFrame(lines[:2])})
    assert len({line.get_ydata()[0] for line in two.axes[0].lines if line.get_marker() in ("o", "s")}) == 4


def test_figure_2_draws_paired_bands_on_one_scale_per_metric_with_the_average_first():
    sizes = {"A": 0.01, "B": 0.1, "Average": 0.02}
    lines = [{"lambda": lam, "category": c, "metric": m, "value": 0.5, "difference": lam * s, "low": -s, "high": 2 * s}
             for lam in GRID for c, s in sizes.items() for m in tables.METRICS]  # fmt: skip
    drawn = plots.lambda_study(pd.DataFrame(lines), ("A", "B", "Average"), {("A", "PR-AUC"): 3.0})
    grid = np.array(drawn.axes).reshape(3, 4)
    assert [row[0].get_ylabel() for row in grid] == ["Average", "A", "B"]
    assert len({axis.get_ylim() for axis in grid.flat}) == 1 and grid[0, 0].get_ylim()[1] >= 20
    band = grid[2, 0].collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((-10, 20))
    assert [3, 3] in [list(line.get_ydata()) for line in grid[1, 0].lines]
    calm = plots.lambda_study(pd.DataFrame(lines).query("category == 'A'"), ("A",)).axes[0]
    assert calm.get_ylim()[1] >= 5, "noise is not magnified"


def test_training_curves_without_a_validation_violation_are_empty():
    histories = {"none": History([{"step": 1, "loss": 2.0}], [{"epoch": 1}, {"epoch": 2}]), "no split": History()}
    figure = plots.training_curves(histories)
    figure.canvas.draw()
    assert np.isnan(figure.axes[1].lines[0].get_ydata()).tolist() == [True, True]
