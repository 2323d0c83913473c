"""Controls of distillation: the 2x2 effects by hand, and words that follow the intervals and nothing else."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from radar_lib.evidence import Evidence
from radar_lib.metrics import score_table
from radar_suite.report.experiments import SMALL
from radar_suite.report.tables import METRICS, over_seeds
from radar_suite.studies.control_findings import (
    AVERAGE,
    CONTRASTS,
    DESIGN,
    EXPERTS,
    GROUPS,
    NONE,
    OTHER_FAMILY,
    ROWS,
    SAME_SIZE,
    UNVERIFIED,
    VERIFIED,
    contrast_table,
    control_figure,
    control_markdown,
    control_table,
    findings,
    teacher_of,
    twin,
)

QUALITY = {NONE: 0.5, VERIFIED: 0.7, UNVERIFIED: 1.2, EXPERTS: 1.5}


def made(categories: int, *, seeds: int = 2, posts: int = 400):
    """Evidence of all rows on posts of K pipelines; a row's signal is its quality. And the spread over seeds."""
    generator = np.random.default_rng(7)
    truth = np.full((posts, categories), -1)
    truth[np.arange(posts), np.arange(posts) % categories] = generator.random(posts) < 0.25
    names = [*ROWS, teacher_of(SAME_SIZE), teacher_of(OTHER_FAMILY)]
    names += [twin(name, distilled=distilled) for name in SMALL for distilled in (False, True)]
    logits = {
        name: [QUALITY.get(name, 1.0) * truth.clip(0) + generator.normal(size=truth.shape) for _ in range(seeds)]
        for name in names
    }
    risks = tuple("ABCDEFG"[:categories])
    spread = [
        {"row": row, "seeds": seeds, **line}
        for row in ROWS
        for line in over_seeds([score_table(truth, one, risks) for one in logits[row]])
    ]
    return Evidence(truth, logits, risks, replicates=200, seed=1), pd.DataFrame(spread)


@pytest.fixture(scope="module")
def three():
    return made(3)


def test_the_two_effects_add_up_to_the_gain_and_every_contrast_is_one():
    weights = {one.name: pd.Series({str(row): weight for row, weight in one.weights.items()}) for one in CONTRASTS}
    both = weights["targets"].add(weights["supervision"], fill_value=0)
    pd.testing.assert_series_equal(both[both != 0].sort_index(), weights["gain"].sort_index())
    apart = weights["supervision"].sub(weights["targets"], fill_value=0)
    expected = weights["supervision - targets"].sort_index()
    pd.testing.assert_series_equal(apart[apart != 0].sort_index(), expected)
    for name, one in weights.items():
        assert one.sum() == pytest.approx(0), name
        assert one[one > 0].sum() == pytest.approx(2 if name in ("interaction", "match") else 1), name
    assert len(weights) == len(CONTRASTS)


def test_effects_are_those_worked_out_by_hand(three):
    evidence, _ = three
    table = contrast_table(evidence).set_index(["contrast", "category", "metric"])["estimate"]
    for category in (AVERAGE, "A", "B", "C"):
        for metric in METRICS:
            m00, m10, m01, m11 = (100 * evidence.value(row, category, metric) for row in DESIGN)
            expected = {
                "gain": m11 - m00,
                "targets": ((m10 - m00) + (m11 - m01)) / 2,
                "supervision": ((m01 - m00) + (m11 - m10)) / 2,
                "interaction": m11 - m10 - m01 + m00,
            }
            for name, value in expected.items():
                assert table[name, category, metric] == pytest.approx(value, abs=0.0051)


@pytest.mark.parametrize("categories", [1, 3, 7])
@pytest.mark.parametrize("seeds", [1, 2])
def test_the_tables_hold_for_any_number_of_risks_and_seeds(categories, seeds):
    evidence, spread = made(categories, seeds=seeds)
    table = control_table(evidence, spread)
    assert len(table) == len(ROWS) * (categories + 1) * len(METRICS)
    assert (table["sd"].notna() == (seeds > 1)).all() and (table["seeds"] == seeds).all()
    values = table.set_index(["row", "category", "metric"])["value"]
    for reference, column in ((NONE, "gain"), (EXPERTS, "against experts")):
        own = table[table["row"] == reference]
        assert (own[[column, f"{column} low", f"{column} high"]] == 0).all(axis=None)
        expected = [values[row, c, m] - values[reference, c, m] for row, c, m in values.index]
        np.testing.assert_allclose(table[column], expected, atol=0.0151)
        assert ((table[f"{column} low"] <= table[column]) & (table[column] <= table[f"{column} high"])).all()
    text = control_markdown(table)
    assert len(text.splitlines()) == 2 + len(ROWS) * (categories + 1)
    assert findings(contrast_table(evidence))


def test_the_figure_shows_every_row_at_its_gain_and_marks_the_design(three):
    table = control_table(*three)
    figure = control_figure(table)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [row for group in GROUPS for row in group] and {NONE, *labels} == set(ROWS)
    gains = table[table["category"] == AVERAGE].set_index(["row", "metric"])["gain"]
    for axis, metric in zip(figure.axes, METRICS, strict=True):
        heights = dict(zip(axis.get_yticks(), labels, strict=True))
        dots = [line for line in axis.lines if line.get_marker() in "so" and len(line.get_xdata()) == 1]
        drawn = {heights[dot.get_ydata()[0]]: dot for dot in dots}
        assert {row: dot.get_xdata()[0] for row, dot in drawn.items()} == {row: gains[row, metric] for row in labels}
        assert {row for row, dot in drawn.items() if dot.get_marker() == "s"} == set(DESIGN) - {NONE}
    plt.close(figure)


ABOVE, OPEN, BELOW = (2.0, 1.0, 3.0), (0.5, -1.0, 2.0), (-2.0, -3.0, -1.0)
BOTH = {"targets": ABOVE, "supervision": ABOVE}


def told(intervals: dict[str, tuple[float, float, float]]) -> str:
    """The paragraph where the named contrasts have these intervals and all others are open."""
    lines = []
    for one in CONTRASTS:
        estimate, low, high = intervals.get(one.name, OPEN)
        place = {"contrast": one.name, "category": AVERAGE, "metric": "PR-AUC"}
        lines.append(place | {"estimate": estimate, "low": low, "high": high, "p": 0.5})
    return findings(pd.DataFrame(lines))


@pytest.mark.parametrize(
    ("intervals", "words"),
    [
        ({}, "neither clearly help nor harm"),
        ({"gain": ABOVE}, "clearly help: +2.00 [+1.00, +3.00] against no teacher"),
        ({"gain": BELOW}, "The experts harm"),
        ({}, "**neither explanation is shown to carry a gain**"),
        (BOTH, "**both explanations carry the gain**."),
        (BOTH | {"supervision - targets": ABOVE}, "gain**, supervision of unverified cells clearly more."),
        (BOTH | {"supervision - targets": BELOW}, "gain**, better targets on verified cells clearly more."),
        ({"supervision": ABOVE}, "something: supervision of unverified cells**, though not clearly more"),
        ({"targets": ABOVE, "supervision - targets": BELOW}, "something: better targets on verified cells**, and c"),
        ({"targets": ABOVE, "supervision - targets": ABOVE}, "**, though the other is the larger, less sure of"),
        ({"targets": BELOW}, "better targets on verified cells cost more than they bring"),
        ({"family": ABOVE, "match": ABOVE}, "both speak for a match"),
        ({"family": ABOVE}, "one of the two speaks for a match"),
        ({"match": ABOVE}, "one of the two speaks for a match"),
        ({"family": ABOVE, "family of the teacher": ABOVE}, "which may be why"),
        ({}, "neither shows that teacher and student have to match"),
        ({"family": BELOW, "match": ABOVE}, "contradict each other"),
        ({"match": BELOW}, "one of the two speaks against a match"),
        ({"shuffled": ABOVE}, "it helps, so regularisation alone brings something"),
        ({"shuffled": BELOW}, "it harms, so the gain is not regularisation"),
        ({"information": ABOVE}, "is clear of 0."),
        ({"cross-fitting": ABOVE}, "makes the experts better teachers"),
        ({"cross-fitting": BELOW}, "experts of half the posts teach worse"),
    ],
)  # fmt: skip
def test_the_paragraph_says_what_the_intervals_say(intervals, words):
    assert words in told(intervals)
    if intervals:
        assert words not in told({})


def test_the_paragraphs_numbers_are_the_tables(three):
    evidence, _ = three
    table = contrast_table(evidence)
    text = findings(table)
    place = table[(table["category"] == AVERAGE) & (table["metric"] == "PR-AUC")].set_index("contrast")
    named = ["gain", "targets", "supervision", "interaction", "family", "family of the teacher", "match", "shuffled"]
    for name in (*named, "information", "cross-fitting"):
        line = place.loc[name]
        assert f"{line['estimate']:+.2f} [{line['low']:+.2f}, {line['high']:+.2f}]" in text, name
    moved = table.assign(estimate=table["estimate"] + 40, low=table["low"] + 40, high=table["high"] + 40)
    assert "**both explanations carry the gain**" in findings(moved)
