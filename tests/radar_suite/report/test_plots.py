"""Figures say what they show: one panel per risk or metric, one line per model, and no missing label."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from radar_lib.training.loop import History
from radar_suite.report import plots, style, tables

GRID = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


@pytest.fixture(autouse=True)
def drawn():
    style.use()
    yield
    plt.close("all")


@pytest.mark.parametrize("categories", [("X",), ("LQC", "RCS", "FE"), tuple("ABCDEFG")])
def test_figure_2_has_a_panel_per_metric_and_a_line_per_risk(categories):
    lines = [{"lambda": lam, "category": c, "metric": m, "value": 0.5 + lam / 10}
             for lam in GRID for c in categories for m in tables.METRICS]  # fmt: skip
    figure = plots.lambda_study(pd.DataFrame(lines), categories)
    figure.canvas.draw()
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        f"({a}) {m}" for a, m in zip("abcd", tables.METRICS, strict=True)
    ]
    for axis in figure.axes:
        solid = [line for line in axis.lines if len(line.get_xdata()) == len(GRID)]
        assert len(solid) == len(categories) and len({line.get_marker() for line in solid}) == len(categories)


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
    assert [text.get_text() for text in ruled.legends[0].get_texts()] == ["No information"]


def test_precision_recall_panels_count_their_posts():
    truth = np.array([[1, -1], [0, 1], [-1, 0], [0, 0]], np.int8)
    figure = plots.pr_curves(truth, {"m": np.arange(8.0).reshape(4, 2)}, ("A", "B"))
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        "A: 1 of 3 posts violate",
        "B: 1 of 3 posts violate",
    ]


def test_the_other_figures_draw():
    bins = pd.DataFrame({"category": "A", "group": ["x", "y"], "predicted": [0.1, 0.9], "observed": [0.2, 0.8]})
    bins = bins.assign(low=bins["observed"] - 0.1, high=bins["observed"] + 0.1)
    assert len(plots.reliability(bins, title="t").axes) == 1


def test_words_are_sorted_by_how_well_they_are_told_and_random_comes_last():
    def words(*values):
        names = ("seen:park", "seen:dice", "read:prize")
        return {name: {"ap": ap, "prevalence": 5.0} for name, ap in zip(names, values, strict=True)}

    figure = plots.draw_words({"small": words(20.0, 60.0, 30.0), "large": words(40.0, 90.0, 50.0)})
    seen, read = figure.axes[:2]
    assert [text.get_text() for text in seen.get_xticklabels()] == ["dice", "park"]
    names = [text.get_text() for text in seen.get_yticklabels()]
    assert names == ["small, mean 40 %", "large, mean 65 %", "a random ranking, mean 5 %"]
    np.testing.assert_array_equal(seen.images[0].get_array(), [[60, 20], [90, 40], [5, 5]])
    assert read.get_title(loc="left") == "words read"


def test_verdicts_print_ours_and_the_papers_with_a_star_at_its_exceptions():
    line = {"claim": "c", "row": "a", "against": "b", "category": "LQC"}
    cells = [
        {"metric": "PR-AUC", "ours": 3.21, "paper": 2.0, "exception": False, "verdict": "holds here"},
        {"metric": "R@P60", "ours": -1.0, "paper": -4.52, "exception": True, "verdict": "exception shows"},
        {"metric": "APR@R90", "ours": -2.0, "paper": None, "exception": False, "verdict": "fails here"},
    ]
    figure = plots.verdicts(pd.DataFrame([line | cell for cell in cells]))
    figure.canvas.draw()
    axis = figure.axes[0]
    assert [text.get_text() for text in axis.texts] == ["✓ +3.2\n+2.0", "= -1.0\n-4.5*", "✗ -2.0", "c"]
    key = [text.get_text() for text in figure.legends[0].get_texts()]
    assert key == ["✓ holds here", "✗ fails here", "= exception shows"]
    assert len({patch.get_facecolor() for patch in axis.patches}) == 3


def test_claims_that_share_columns_have_lines_of_their_own_and_their_name_beside_them():
    line = {"category": "LQC", "metric": "PR-AUC", "against": "b", "ours": 1.0, "paper": None, "exception": False}
    cells = [{"claim": claim, "row": row, "verdict": verdict}
             for claim, verdict in (("wide", "holds here"), ("narrow", "inconclusive")) for row in "xy"]  # fmt: skip
    axis = plots.verdicts(pd.DataFrame([line | cell for cell in cells])).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["x\nagainst b", "y\nagainst b"] * 2
    assert [text.get_text() for text in axis.texts][-2:] == ["wide", "narrow"]
    assert [text.get_text() for text in axis.texts][:4] == ["✓ +1.0"] * 2 + ["+1.0"] * 2


def test_training_curves_without_a_validation_violation_are_empty():
    histories = {"none": History([{"step": 1, "loss": 2.0}], [{"epoch": 1}, {"epoch": 2}]), "no split": History()}
    figure = plots.training_curves(histories)
    figure.canvas.draw()
    assert np.isnan(figure.axes[1].lines[0].get_ydata()).tolist() == [True, True]
