"""The study of objectives, on made-up scores: what it compares, prints, draws and says follows the numbers."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from radar_lib.evidence import AVERAGE
from radar_lib.intervals import average_precision_difference
from radar_lib.metrics import average_precision
from radar_suite.report.tables import METRICS
from radar_suite.studies import other_losses as losses

BETTER = "Non-negative PU"
ESTIMATED, KNOWN = "Doubly robust, estimated propensities", "Doubly robust, known propensities"


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


@pytest.fixture(scope="module")
def case():
    truth, rows = world(("A", "B", "C"), gain=1.0)
    return truth, rows, losses.lines_of(truth, rows, ("A", "B", "C"), seed=1)


def test_lines_are_means_over_seeds_and_paired_differences(case):
    truth, rows, frame = case
    assert len(frame) == 4 * 4 * len(METRICS)
    assert not frame.drop(columns=["posts", "positives", *losses.KNOWN]).isna().any().any()
    assert frame["row"][frame[losses.KNOWN[0]].notna()].unique().tolist() == [KNOWN]
    line = frame.set_index(["row", "category", "metric"]).loc[(BETTER, "B", "PR-AUC")]
    known = truth[:, 1] >= 0
    values = [average_precision(truth[known, 1], one[known, 1]) for one in rows[BETTER]]
    reference = [average_precision(truth[known, 1], one[known, 1]) for one in rows[losses.MASKED]]
    assert line["value"] == pytest.approx(np.mean(values)) and line["sd"] == pytest.approx(np.std(values, ddof=1))
    assert line["difference"] == pytest.approx(np.mean(values) - np.mean(reference))
    assert line["posts"] == 1200 and line["low"] < line["difference"] < line["high"]
    one = {name: runs[:1] for name, runs in rows.items()}
    single = losses.lines_of(truth, one, ("A", "B", "C"), seed=1).set_index(["row", "category", "metric"])
    expected = average_precision_difference(truth[known, 1], one[BETTER][0][known, 1], one[losses.MASKED][0][known, 1])
    found = single.loc[(BETTER, "B", "PR-AUC"), ["difference", "low", "high", "p_value"]]
    assert tuple(found) == pytest.approx(expected)


def test_the_table_prints_the_lines(case):
    frame = case[2]
    table = losses.table(frame, [AVERAGE])
    assert list(table["unverified cells"]) == list(case[1]) and set(table["risk"]) == {AVERAGE}
    line = frame.set_index(["row", "category", "metric"]).loc[(BETTER, AVERAGE, "PR-AUC")]
    cell = table.set_index("unverified cells").loc[BETTER, "PR-AUC"]
    assert cell.startswith(f"{100 * line['value']:.1f} (+{100 * line['difference']:.1f} [")
    assert "(" not in table.set_index("unverified cells").loc[losses.MASKED, "PR-AUC"]
    assert len(losses.table(frame)) == 16


def test_known_propensities_are_held_against_estimated_ones_post_by_post(case):
    truth, rows, frame = case
    known = truth[:, 1] >= 0
    one = losses.lines_of(truth, {name: runs[:1] for name, runs in rows.items()}, ("A", "B", "C"), seed=1)
    line = one.set_index(["row", "category", "metric"]).loc[(KNOWN, "B", "PR-AUC")]
    expected = average_precision_difference(truth[known, 1], rows[KNOWN][0][known, 1], rows[ESTIMATED][0][known, 1])
    assert tuple(line[list(losses.KNOWN)]) == pytest.approx(expected)
    line = frame.set_index(["row", "category", "metric"]).loc[(KNOWN, AVERAGE, "PR-AUC")]
    points = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * line[list(losses.KNOWN[:3])].astype(float)))
    assert f"change average PR-AUC of doubly robust by {points} points" in losses.findings(frame)
    older = losses.findings(frame.drop(columns=list(losses.KNOWN)))
    assert "cannot be said: this record is older" in older and "change average" not in older


def test_the_sentence_says_what_it_is_about(case):
    truth, rows, frame = case
    assert losses.findings(frame).endswith("(On this corpus; about these checkpoints.)")
    more = {name: [*runs, runs[0]] for name, runs in rows.items()}
    said = losses.findings(losses.lines_of(truth, more, ("A", "B", "C"), seed=1), where="other posts")
    assert said.endswith("(On other posts; about the method, 3 seeds.)")
    older = losses.findings(frame.drop(columns="about"))
    assert older.endswith("(On this corpus; for their intervals see the caption.)")


def test_the_sentence_follows_the_numbers(case):
    truth, rows, frame = case
    said = losses.findings(frame)
    assert f"in PR-AUC above the mask lies {BETTER}" in said and "below the mask" not in said
    assert f"Highest average PR-AUC: {BETTER}" in said
    worse = losses.lines_of(*world(("A", "B", "C"), gain=-1.0), ("A", "B", "C"), seed=1)
    said = losses.findings(worse)
    assert "above the mask" not in said and f"in PR-AUC below the mask lies {BETTER}" in said
    plain = frame[~frame["row"].str.contains("known")]
    assert "propensities change" not in losses.findings(plain) and "cannot be said" not in losses.findings(plain)
    equal = losses.findings(frame.assign(p_value=1.0))
    assert "in PR-AUC, R@P60, APR@R90 and APR@R95 no treatment is shown to differ from the mask" in equal


@pytest.mark.parametrize("categories", [("A",), tuple("ABCDEFG")])
def test_one_risk_and_seven(categories):
    frame = losses.lines_of(*world(categories, gain=1.0), categories, seed=1)
    figure = losses.differences(frame)
    assert len(figure.axes) == len(METRICS)
    marks = [line for line in figure.axes[0].lines if line.get_linestyle() == "None"]
    assert len(marks) == 3 * (1 + len(categories))
    plt.close(figure)
    assert BETTER in losses.findings(frame)


def test_a_row_says_what_it_was_told():
    assert [losses.side_of(row) for row in (KNOWN, ESTIMATED, BETTER)] == ["known", "estimated", ""]
