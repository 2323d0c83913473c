"""The study of objectives, on made-up scores: what it compares and draws follows the numbers."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from radar_lib.intervals import average_precision_difference
from radar_lib.metrics import average_precision
from radar_suite.report.tables import METRICS
from radar_suite.studies import other_losses as losses

BETTER = "Non-negative PU"
ESTIMATED, KNOWN = "Doubly robust, estimated propensities", "Doubly robust, known propensities"
RISKS = ("A", "B", "C")


def world(categories, *, gain):
    """1,200 posts a risk, two seeds a row; `gain` moves one row's violations, the other rows differ by chance."""
    random = np.random.default_rng(4)
    k = len(categories)
    truth = np.full((1200 * k, k), -1, np.int8)
    for i in range(k):
        truth[1200 * i : 1200 * (i + 1), i] = random.random(1200) < 0.08
    signal = 1.5 * truth.clip(0) + random.normal(size=truth.shape)
    rows = {name: [signal + 0.2 * random.normal(size=truth.shape) for _ in range(2)]
            for name in (losses.MASKED, BETTER, ESTIMATED, KNOWN)}  # fmt: skip
    rows[BETTER] = [one + gain * truth.clip(0) for one in rows[BETTER]]
    return truth, rows


def compare(truth, rows, categories=RISKS):
    return losses.compare(truth, rows, categories, seed=1).set_index(["row", "category", "metric"])


@pytest.fixture(scope="module")
def case():
    truth, rows = world(RISKS, gain=1.0)
    return truth, rows, compare(truth, rows)


def test_lines_are_means_over_seeds_and_paired_differences(case):
    truth, rows, lines = case
    assert len(lines) == 4 * 4 * len(METRICS)
    assert not lines.drop(columns=["posts", "positives", *losses.KNOWN]).isna().any(axis=None)
    line = lines.loc[(BETTER, "B", "PR-AUC")]
    known = truth[:, 1] >= 0
    values = [average_precision(truth[known, 1], one[known, 1]) for one in rows[BETTER]]
    reference = [average_precision(truth[known, 1], one[known, 1]) for one in rows[losses.MASKED]]
    assert line["value"] == pytest.approx(np.mean(values)) and line["sd"] == pytest.approx(np.std(values, ddof=1))
    assert line["difference"] == pytest.approx(np.mean(values) - np.mean(reference))
    assert line["posts"] == 1200 and line["low"] < line["difference"] < line["high"]


@pytest.mark.parametrize(
    ("row", "other", "columns"),
    [(BETTER, losses.MASKED, ("difference", "low", "high", "p_value")), (KNOWN, ESTIMATED, losses.KNOWN)],
)
def test_rows_are_compared_post_by_post(case, row, other, columns):
    """With the mask, and known propensities with estimated ones: the closed form of one seed."""
    truth, rows, lines = case
    known = truth[:, 1] >= 0
    single = compare(truth, {name: runs[:1] for name, runs in rows.items()})
    expected = average_precision_difference(truth[known, 1], rows[row][0][known, 1], rows[other][0][known, 1])
    assert tuple(single.loc[(row, "B", "PR-AUC"), list(columns)]) == pytest.approx(expected)
    assert lines[losses.KNOWN[0]].dropna().index.unique("row").tolist() == [KNOWN]


@pytest.mark.parametrize("categories", [("A",), tuple("ABCDEFG")])
def test_the_figure_draws_one_risk_and_seven(categories):
    lines = losses.compare(*world(categories, gain=1.0), categories, seed=1)
    figure = losses.difference_figure(lines)
    assert len(figure.axes) == len(METRICS)
    drawn = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_linestyle() == "None"]
    expected = 100 * lines.query("metric == @METRICS[0] and row != @losses.MASKED")["difference"]
    assert sorted(drawn) == pytest.approx(sorted(expected))
    plt.close(figure)
