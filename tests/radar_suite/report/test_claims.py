"""Claims are read off the paper's tables, decided by one rule, and follow the numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from radar_lib.evidence import AVERAGE, Evidence
from radar_lib.intervals import Difference, Interval
from radar_lib.metrics import DegenerateWarning
from radar_suite.report import claims
from radar_suite.report.claims import ABOVE, BELOW, OPEN, Cell
from radar_suite.report.tables import UNRELIABLE

RISKS = ("LQC", "RCS", "FE")


class Said:
    """Evidence that says what it is told: differences by (row, category, metric), else `default`."""

    categories = RISKS

    def __init__(self, default=(0.0, -0.1, 0.1, 1.0), seeds=1, **values):
        self.default, self.values, self.runs, self.asked = default, values, seeds, set()

    def same(self, row, other):
        return False

    def seeds(self, row):
        return self.runs[row] if isinstance(self.runs, dict) else self.runs

    def difference(self, row, other, category, metric, *, level=0.95, over):
        self.asked.add(over)
        return Difference(*self.values.get(f"{row}/{category}/{metric}", self.default))

    def contrast(self, weights, category, metric, *, level=0.95, over):
        assert abs(sum(weights.values())) < 1e-12
        return self.difference(None, None, category, metric, over=over)

    def value(self, row, category, metric):
        return self.values.get(f"value {row}", 0.5)

    def interval(self, row, category, metric, *, level=0.95, over):
        self.asked.add(over)
        return Interval(*self.values.get(category, (0.85, 0.82, 0.88)))


def test_sentences_and_cells_that_contradict_them_are_those_of_the_papers_tables():
    cells = claims.table_cells(RISKS)
    counted = pd.Series([cell.claim for cell in cells]).value_counts()
    assert counted[claims.MASKING] == 48 and len(cells) == 160
    exceptions = {(c.claim.split()[0], c.row[1], c.category, c.metric): c.paper for c in cells if c.paper < 0}
    assert exceptions["Masking", "SigLIP2", "FE", "R@P60"] == -4.52
    assert exceptions["The", "Qwen3-VL-4B", "FE", "R@P60"] == -2.91
    assert exceptions["The", "Qwen3-VL-4B", "RCS", "APR@R90"] == -0.53
    distil = {key[1:] for key in exceptions if key[0] == "Distillation"}
    llava = [("LQC", "APR@R90"), ("LQC", "APR@R95"), ("FE", "APR@R95"), ("Average", "APR@R90"), ("Average", "APR@R95")]
    gemma = [("FE", "APR@R90"), ("FE", "APR@R95")]
    assert distil == {("LLaVA-OV-1.5-4B", *place) for place in llava} | {("Gemma3-4B", *place) for place in gemma}
    larger = [key for key in exceptions if key[:2] == ("A", "Qwen3-VL-4B")]
    assert {key[2:] for key in larger} == {("LQC", "APR@R90"), ("RCS", "APR@R90"), ("RCS", "APR@R95")}


def test_other_risks_have_the_sentences_without_the_papers_numbers():
    cells = claims.table_cells(("spam",))
    assert len(cells) == 3 * 4 + 3 * 4 + 3 * 4 + 4 and all(cell.paper is None for cell in cells)
    both = claims.table_cells(("LQC", "spam"))  # with an average, which the paper has of other risks
    assert len(both) == 3 * len(cells) and all(cell.paper is None for cell in both)


def test_lambda_cells_need_lambda_0():
    cells = pd.Series([cell.claim for cell in claims.lambda_cells([0, 0.3, 0.5, 1], RISKS)]).value_counts()
    assert cells["Lambda of 0.5 or more beats lambda = 0"] == 2 * 3 * 2
    assert cells["Any lambda above 0 beats lambda = 0"] == 3 * 3 * 2
    assert claims.lambda_cells([0.1, 0.5, 1], RISKS) == []


def test_holm_is_the_step_down_rule():
    generator = np.random.default_rng(0)
    for _ in range(20):
        p = generator.random(9) ** 3
        rejected, order = set(), np.argsort(p)
        for i, k in enumerate(order):
            if p[k] > 0.05 / (9 - i):
                break
            rejected.add(k)
        assert set(np.flatnonzero(claims.holm(p) <= 0.05)) == rejected
    assert claims.holm([0.02, 0.02]).tolist() == [0.04, 0.04]


def cell(category="LQC", paper=1.0, row="x"):
    return Cell("c", row, "y", category, "PR-AUC", paper)


@pytest.mark.parametrize(
    "found, paper, verdict",
    [
        ((0.1, 0.05, 0.15, 0.001), 2.0, ABOVE),
        ((-0.1, -0.15, -0.05, 0.001), 2.0, BELOW),
        ((0.1, -0.05, 0.25, 0.2), 2.0, OPEN),
        ((0.1, 0.05, 0.15, 0.001), None, ABOVE),  # risks that the paper does not have
    ],
)
def test_a_cell_is_decided_by_sign_and_corrected_p_value(found, paper, verdict):
    decided = claims.decide([cell(paper=paper)], Said(found))
    assert decided["verdict"].tolist() == [verdict] and decided["ours"].item() == 100 * found[0]
    many = [cell(paper=paper), *[cell(category) for category in ("RCS",) * 60]]
    alone = Said(**{"x/LQC/PR-AUC": found})
    assert claims.decide(many, alone)["verdict"][0] == OPEN  # 0.001 does not stand among 61 tests


def logits_and_truth(*shifts, n=2000, risks=2):
    """Truth, and noise that leans towards it by each shift."""
    generator = np.random.default_rng(0)
    truth = (generator.random((n, risks)) < 0.1).astype(np.int8)
    noise = generator.normal(size=truth.shape)
    return truth, [noise + shift * truth for shift in shifts]


def test_the_endpoint_is_the_mean_over_pairs_of_the_difference_in_average_pr_auc():
    truth, (weak, middle, strong) = logits_and_truth(1.0, 1.5, 2.0)
    evidence = Evidence(truth, {"a": [middle], "b": [strong], "c": [weak]}, RISKS[:2], replicates=50, seed=1)
    cells = [Cell("c", row, "c", category, metric, paper) for row, paper in (("a", 2.0), ("b", 100.0))
             for category in (*RISKS[:2], AVERAGE) for metric in ("PR-AUC", "R@P60")]  # fmt: skip
    decided = claims.decide(cells, evidence)
    (line,) = claims.summary(cells, decided, evidence).to_dict("records")
    own = decided[(decided["category"] == AVERAGE) & (decided["metric"] == "PR-AUC")]
    assert line["ours"] == pytest.approx(own["ours"].mean(), abs=0.01) and line["paper"] == 51
    assert own["low"].min() < line["low"] < line["ours"] < line["high"] < own["high"].max()
    assert (line["verdict"], line["paper lies"], line["cells"]) == (ABOVE, "above", 12)
    assert line[ABOVE] == (decided["verdict"] == ABOVE).sum() and line[BELOW] == 0
    assert line["paper above"] == (decided["paper"] > decided["high"]).sum() >= 6
    (swapped,) = claims.summary(
        [Cell("c", "c", "a", AVERAGE, "PR-AUC", -99.0)],
        claims.decide([Cell("c", "c", "a", AVERAGE, "PR-AUC", -99.0)], evidence),
        evidence,
    ).to_dict("records")
    assert (swapped["verdict"], swapped["paper lies"], swapped[BELOW]) == (BELOW, "below", 1)


def test_a_claim_s_verdict_reads_its_interval_and_says_the_same_as_its_p_value():
    truth, rows = logits_and_truth(1.5, 1.5)
    rows[1] = rows[1] + 0.4 * np.random.default_rng(1).normal(size=truth.shape)
    for share in (0.0, 0.1, 0.2, 0.4, 0.8):
        evidence = Evidence(truth, {"x": [rows[0] + share * truth], "y": [rows[1]]}, RISKS[:2], replicates=20, seed=1)
        cells = [Cell("c", "x", "y", AVERAGE, "PR-AUC", None)]
        decided = claims.decide(cells, evidence)
        (line,) = claims.summary(cells, decided, evidence).to_dict("records")
        assert line["verdict"] == decided["verdict"].item(), "one cell needs no correction"
        assert line["paper lies"] == ""


def test_traffic_is_measured_from_80_percent_and_its_endpoint_is_the_average():
    lines = claims.traffic(Said(FE=(0.7, 0.6, 0.75), Average=(0.82, 0.79, 0.85)), ("any", "row"))
    by = lines.set_index("category")
    assert by["verdict"].to_dict() == {"LQC": ABOVE, "RCS": ABOVE, "FE": BELOW, "Average": OPEN}
    assert by["ours"].to_dict() == {"LQC": 5, "RCS": 5, "FE": -10, "Average": 2} and by["paper"]["FE"] == -2.84
    (line,) = claims.summary([], lines, Said()).to_dict("records")
    assert (line["metric"], line["ours"], line["verdict"], line["cells"]) == ("APR@R95", 2, OPEN, 4)
    assert (line[ABOVE], line[BELOW], line["paper above"], line["paper lies"]) == (2, 1, 1, "inside")


def test_stability_is_the_worst_shortfall_and_what_the_intervals_exclude():
    lambdas = [0.0, 0.5, 1.0]
    lines = claims.stability(Said((-0.02, -0.05, 0.01, 1.0)), lambdas)
    assert len(lines) == 6 and set(lines["largest shortfall"]) == {2} and set(lines["excluded above"]) == {5}
    assert set(claims.stability(Said((0.02, 0.01, 0.03, 0.0)), lambdas)["excluded above"]) == {0}
    short = claims.stability(Said(), [0.0, 0.1, 0.3])  # no lambda from which FE is said to be stable at R90
    assert len(short) == 5 and ("FE", "APR@R90") not in zip(short["category"], short["metric"], strict=True)


@pytest.mark.parametrize(
    "seeds, over",
    [(1, "posts"), (2, "posts"), (3, "both"), ({"x": 5, "y": 3}, "both"), ({"x": 5, "y": 1}, "posts")],
)
def test_three_seeds_of_either_row_make_a_verdict_one_about_the_method(seeds, over):
    said = Said(seeds=seeds)
    decided = claims.decide([cell()], said)
    assert said.asked == {over}
    assert decided["about"].tolist() == ["the method, 3 seeds" if over == "both" else "these checkpoints"]
    if isinstance(seeds, int):
        for other in (claims.stability(said, [0.0, 0.5]), claims.traffic(said, "x")):
            assert set(other["about"]) == set(decided["about"]) and said.asked == {over}


def test_seeds_that_disagree_take_a_verdict_back():
    """Three runs of each row, ahead on these posts every time, but by very different amounts: evidence end to end."""
    generator = np.random.default_rng(0)
    truth = (generator.random((3000, 1)) < 0.1).astype(np.int8)
    noise = generator.normal(size=truth.shape)
    runs = [noise + shift * truth for shift in (1.6, 2.0, 4.0)]
    for ours, verdict, about in ((runs, OPEN, "the method, 3 seeds"), (runs[:2], ABOVE, "these checkpoints")):
        rows = {"x": ours, "y": [noise + 1.5 * truth] * len(ours)}
        evidence = Evidence(truth, rows, RISKS[:1], replicates=50, seed=1)
        decided = claims.decide([cell()], evidence)
        assert decided["verdict"].tolist() == [verdict] and decided["about"].tolist() == [about]
        (line,) = claims.summary([cell()], decided, evidence).to_dict("records")
        assert (line["verdict"], line["about"]) == (verdict, about)


def test_a_run_against_itself_is_not_testable_and_not_among_the_tests():
    """With one risk the rows with and without the mask are one run; a row that says nothing is no such pair."""
    generator = np.random.default_rng(0)
    truth = (generator.random((400, 1)) < 0.2).astype(np.int8)
    noise, flat = generator.normal(size=truth.shape), np.zeros(truth.shape)
    rows = {row: [truth + noise] for row in ("masked", "unmasked")} | {"good": [3 * truth + noise]}
    cells = [Cell("c", row, other, "A", "PR-AUC", None) for row, other in (("masked", "unmasked"), ("good", "masked"))]
    evidence = Evidence(truth, rows, ("A",), replicates=50, seed=1)
    decided = claims.decide(cells, evidence)
    assert decided["verdict"].tolist() == ["not testable", ABOVE]
    assert decided.loc[0, ["ours", "low", "high", "p"]].isna().all()
    alone = claims.decide(cells[1:], evidence)
    assert decided["p"][1] == alone["p"][0], "corrected for the comparisons that were made"
    both, same = (claims.summary(cells, part, evidence).iloc[0] for part in (decided, decided[:1]))
    assert (both["verdict"], both["cells"], both[ABOVE]) == (ABOVE, 1, 1)
    assert both["ours"] == alone["ours"][0], "a pair that is one run has no part in the mean"
    assert (same["verdict"], same["cells"], same[ABOVE]) == ("not testable", 0, 0)
    assert claims.summary(cells[:1], decided[:1], evidence)["ours"].isna().all()
    with pytest.warns(DegenerateWarning):
        blind = Evidence(truth, {"masked": [flat], "unmasked": [flat]}, ("A",), replicates=50, seed=1)
    assert claims.decide(cells[:1], blind)["verdict"].tolist() == [OPEN]


def test_what_the_world_was_chosen_for_enters_no_count_and_no_correction():
    """Masking cells of the built-in world are by construction: shown with their interval, never tested."""
    found = (0.1, 0.06, 0.14, 0.001)
    cells = claims.table_cells(RISKS)
    tested = claims.decide(cells, Said(found))
    shown = claims.decide(cells, Said(found), chosen=claims.by_construction("built-in"))
    about_mask = shown["claim"] == claims.MASKING
    assert about_mask.sum() == 3 * 4 * 4 and (shown.loc[about_mask, "verdict"] == claims.CHOSEN).all()
    assert shown.loc[about_mask, "p"].isna().all() and (shown.loc[about_mask, "ours"] == 10).all()
    pd.testing.assert_frame_equal(shown[~about_mask], tested[~about_mask])
    line = claims.summary(cells, shown, Said(found)).set_index("claim").loc[claims.MASKING]
    assert (line[["cells", ABOVE, BELOW, "paper above", "paper below"]] == 0).all()
    assert line["verdict"] == claims.CHOSEN and (line["ours"], line["low"], line["high"]) == (10, 6, 14)
    assert line["paper"] == 10.47, "the mean of 11.72, 11.63 and 8.06 of the paper's Table 1"
    assert claims.by_construction("own") == claims.by_construction("public") == ()


def test_findings_are_texts_that_leave_out_what_was_not_counted():
    found = (0.1, 0.06, 0.14, 0.001)
    cells = claims.table_cells(RISKS)
    shown = claims.decide(cells, Said(found), chosen=(claims.MASKING,))
    lines = claims.findings(claims.summary(cells, shown, Said(found))).set_index("claim")
    assert set(lines["points, 95 % interval"]) == {"+10.0 [+6.0, +14.0]"} and lines.loc[claims.MASKING, "cells"] == ""
    assert lines.loc["Distillation beats its own twin", ["cells", ABOVE]].tolist() == ["48", "48"]
    assert lines.loc["Distillation beats its own twin", "paper's excluded"] == "48"
    unknown = claims.table_cells(("spam",))
    own = claims.findings(claims.summary(unknown, claims.decide(unknown, Said(found)), Said(found)))
    assert (own[["the paper's", "which lies", "paper's excluded"]] == "").all(axis=None)


@pytest.mark.parametrize(
    "metric, ours, theirs, doubtful",
    [("R@P60", 0.3, 0.3, False), ("R@P60", 0.09, 0.3, True), ("R@P60", 0.3, 0.0, True), ("PR-AUC", 0.05, 0.3, False)],
)
def test_a_difference_of_a_small_recall_has_a_note(metric, ours, theirs, doubtful):
    decided = claims.decide([Cell("c", "x", "y", "LQC", metric, None)], Said(**{"value x": ours, "value y": theirs}))
    assert decided["note"].tolist() == [UNRELIABLE if doubtful else ""]
