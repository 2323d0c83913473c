"""Figures draw for one, three and seven risks and show every number that they are given."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from radar_lib.training.loop import History
from radar_suite.report import plots, style, tables
from radar_suite.report.overview import SIZE, draw_overview

GRID = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


@pytest.fixture(autouse=True)
def drawn():
    style.use()
    yield
    plt.close("all")


@pytest.mark.parametrize("categories", [("X",), ("hate_speech", "50 % off $now$", "x" * 60), tuple("ABCDEFG")])
def test_figures_draw_any_number_of_risks_of_any_name(categories):
    lines = [{"lambda": lam, "category": c, "metric": m, "value": 0.5 + lam / 10}
             for lam in GRID for c in categories for m in tables.METRICS]  # fmt: skip
    study = plots.lambda_study(pd.DataFrame(lines), categories)
    for axis in study.axes:
        solid = [line for line in axis.lines if len(line.get_xdata()) == len(GRID)]
        assert len(solid) == len(categories) and len({line.get_marker() for line in solid}) == len(categories)
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


def test_words_are_sorted_by_how_well_they_are_told_and_random_comes_last():
    def words(*values):
        names = ("seen:park", "seen:dice", "read:prize")
        return {name: {"ap": ap, "prevalence": 5.0} for name, ap in zip(names, values, strict=True)}

    seen, *_ = plots.draw_words({"small": words(20.0, 60.0, 30.0), "large": words(40.0, 90.0, 50.0)}).axes
    np.testing.assert_array_equal(seen.images[0].get_array(), [[60, 20], [90, 40], [5, 5]])


def test_verdicts_print_ours_and_the_papers_with_a_star_at_its_exceptions():
    line = {"claim": "c", "row": "a", "against": "b", "category": "LQC"}
    cells = [
        {"metric": "PR-AUC", "ours": 3.21, "paper": 2.0, "exception": False, "verdict": "holds here"},
        {"metric": "R@P60", "ours": -1.0, "paper": -4.52, "exception": True, "verdict": "exception shows"},
        {"metric": "APR@R90", "ours": -2.0, "paper": None, "exception": False, "verdict": "fails here"},
    ]
    (axis,) = plots.verdicts(pd.DataFrame([line | cell for cell in cells])).axes
    assert [text.get_text() for text in axis.texts] == ["✓ +3.2\n+2.0", "= -1.0\n-4.5*", "✗ -2.0", "c"]
    assert len({patch.get_facecolor() for patch in axis.patches}) == 3
    two = pd.DataFrame([line | cells[0] | {"claim": claim, "row": row} for claim in ("wide", "narrow") for row in "xy"])
    assert len(plots.verdicts(two).axes[0].get_yticklabels()) == 4, "claims that share columns have lines of their own"


def test_training_curves_without_a_validation_violation_are_empty():
    histories = {"none": History([{"step": 1, "loss": 2.0}], [{"epoch": 1}, {"epoch": 2}]), "no split": History()}
    figure = plots.training_curves(histories)
    figure.canvas.draw()
    assert np.isnan(figure.axes[1].lines[0].get_ydata()).tolist() == [True, True]
