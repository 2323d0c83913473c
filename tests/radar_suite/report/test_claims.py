"""Claims are read off the paper's tables, decided by one rule, and follow the numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from radar_lib.evidence import Evidence
from radar_lib.intervals import Difference, Interval
from radar_lib.metrics import DegenerateWarning
from radar_suite.report import claims
from radar_suite.report.claims import FAILS, HOLDS, OPEN, REVERSED, SHOWS, Cell
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

    def value(self, row, category, metric):
        return self.values.get(f"value {row}", 0.5)

    def interval(self, row, category, metric, *, level=0.95, over):
        self.asked.add(over)
        return Interval(*self.values.get(category, (0.85, 0.82, 0.88)))


def test_sentences_and_exceptions_are_those_of_the_papers_tables():
    cells = claims.table_cells(RISKS)
    counted = pd.Series([cell.claim for cell in cells]).value_counts()
    assert counted["Masking beats training without a mask"] == 24 and len(cells) == 160
    assert counted["Masking releases more traffic"] == 24
    exceptions = {(c.claim.split()[0], c.row[1], c.category, c.metric): c.paper for c in cells if c.exception}
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
        ((0.1, 0.05, 0.15, 0.001), 2.0, HOLDS),
        ((-0.1, -0.15, -0.05, 0.001), 2.0, FAILS),
        ((0.1, -0.05, 0.25, 0.2), 2.0, OPEN),
        ((-0.1, -0.15, -0.05, 0.001), -2.0, SHOWS),  # an exception that shows here too
        ((0.1, 0.05, 0.15, 0.001), -2.0, REVERSED),
        ((0.1, 0.05, 0.15, 0.001), None, HOLDS),  # risks that the paper does not have
    ],
)
def test_a_cell_is_decided_by_sign_and_corrected_p_value(found, paper, verdict):
    decided = claims.decide([cell(paper=paper)], Said(found))
    assert decided["verdict"].tolist() == [verdict] and decided["ours"].item() == 100 * found[0]
    many = [cell(paper=paper), *[cell(category) for category in ("RCS",) * 60]]
    alone = Said(**{"x/LQC/PR-AUC": found})
    assert claims.decide(many, alone)["verdict"][0] == OPEN  # 0.001 does not stand among 61 tests


def test_a_claim_needs_all_its_cells_and_exceptions_do_not_count():
    good, bad, none = (0.1, 0.05, 0.15, 0.0), (-0.1, -0.15, -0.05, 0.0), (0.1, -0.1, 0.2, 0.5)
    cells = [cell("LQC"), cell("RCS"), cell("FE", paper=-1.0)]

    def verdict(lqc, rcs, fe):
        said = Said(**{f"x/{c}/PR-AUC": value for c, value in zip(RISKS, (lqc, rcs, fe), strict=True)})
        return claims.summary(claims.decide(cells, said)).iloc[0]

    assert verdict(good, good, good)["verdict"] == HOLDS and verdict(good, good, good)["of them shown"] == 0
    assert verdict(good, good, bad)["of them shown"] == 1
    assert verdict(good, none, good)["verdict"] == OPEN and verdict(good, bad, good)["verdict"] == FAILS


def test_stability_and_traffic_follow_their_intervals():
    lambdas = [0.0, 0.5, 1.0]
    assert set(claims.stability(Said((0.0, -0.005, 0.01, 1.0)), lambdas)["verdict"]) == {HOLDS}
    assert set(claims.stability(Said((-0.1, -0.2, -0.05, 0.0)), lambdas)["verdict"]) == {FAILS}
    assert set(claims.stability(Said(), lambdas)["verdict"]) == {OPEN} and len(claims.stability(Said(), lambdas)) == 6
    short = claims.stability(Said(), [0.0, 0.1, 0.3])  # no lambda from which FE is said to be stable at R90
    assert len(short) == 5 and ("FE", "APR@R90") not in zip(short["category"], short["metric"], strict=True)
    reached = claims.traffic(Said(FE=(0.7, 0.6, 0.75)), ("any", "row")).set_index("category")
    assert reached["verdict"].to_dict() == {"LQC": HOLDS, "RCS": HOLDS, "FE": SHOWS, "Average": HOLDS}  # FE: 77.16
    assert claims.traffic(Said(), "row").set_index("category").loc["FE", "verdict"] == REVERSED
    assert claims.summary(claims.traffic(Said(LQC=(0.8, 0.7, 0.9)), "row"))["verdict"].tolist() == [OPEN]


@pytest.mark.parametrize(
    "seeds, over",
    [(1, "posts"), (2, "posts"), (3, "both"), ({"x": 5, "y": 3}, "both"), ({"x": 5, "y": 1}, "posts")],
)
def test_three_seeds_of_either_row_make_a_verdict_one_about_the_method(seeds, over):
    said = Said(seeds=seeds)
    decided = claims.decide([cell()], said)
    assert said.asked == {over}
    assert decided["about"].tolist() == ["the method, 3 seeds" if over == "both" else "these checkpoints"]
    assert claims.summary(decided)["about"].tolist() == decided["about"].tolist()
    if isinstance(seeds, int):
        for other in (claims.stability(said, [0.0, 0.5]), claims.traffic(said, "x")):
            assert set(other["about"]) == set(decided["about"]) and said.asked == {over}


def test_seeds_that_disagree_take_a_verdict_back():
    """Three runs of each row, ahead on these posts every time, but by very different amounts: evidence end to end."""
    generator = np.random.default_rng(0)
    truth = (generator.random((3000, 1)) < 0.1).astype(np.int8)
    noise = generator.normal(size=truth.shape)
    runs = [noise + shift * truth for shift in (1.6, 2.0, 4.0)]
    for ours, verdict, about in ((runs, OPEN, "the method, 3 seeds"), (runs[:2], HOLDS, "these checkpoints")):
        rows = {"x": ours, "y": [noise + 1.5 * truth] * len(ours)}
        evidence = Evidence(truth, rows, RISKS[:1], replicates=50, seed=1)
        decided = claims.decide([cell()], evidence)
        assert decided["verdict"].tolist() == [verdict] and decided["about"].tolist() == [about]


def test_a_run_against_itself_is_not_testable_and_not_among_the_tests():
    """With one risk the rows with and without the mask are one run; a row that says nothing is no such pair."""
    generator = np.random.default_rng(0)
    truth = (generator.random((400, 1)) < 0.2).astype(np.int8)
    noise, flat = generator.normal(size=truth.shape), np.zeros(truth.shape)
    rows = {row: [truth + noise] for row in ("masked", "unmasked")} | {"good": [3 * truth + noise]}
    cells = [Cell("c", row, other, "A", "PR-AUC", None) for row, other in (("masked", "unmasked"), ("good", "masked"))]
    evidence = Evidence(truth, rows, ("A",), replicates=50, seed=1)
    decided = claims.decide(cells, evidence)
    assert decided["verdict"].tolist() == ["not testable", HOLDS]
    assert decided.loc[0, ["ours", "low", "high", "p"]].isna().all()
    alone = claims.decide(cells[1:], evidence)
    assert decided["p"][1] == alone["p"][0], "corrected for the comparisons that were made"
    both, same = claims.summary(decided).iloc[0], claims.summary(decided[:1]).iloc[0]
    assert (both["verdict"], both["cells"], both["hold"]) == (HOLDS, 1, 1)
    assert (same["verdict"], same["cells"], same["inconclusive"]) == ("not testable", 0, 0)
    with pytest.warns(DegenerateWarning):
        blind = Evidence(truth, {"masked": [flat], "unmasked": [flat]}, ("A",), replicates=50, seed=1)
    assert claims.decide(cells[:1], blind)["verdict"].tolist() == [OPEN]


def test_what_the_world_was_chosen_for_enters_no_count_and_no_correction():
    """Masking cells of the built-in world are by construction: shown with their interval, never tested."""
    found = (0.1, 0.06, 0.14, 0.001)
    cells = claims.table_cells(RISKS)
    tested = claims.decide(cells, Said(found))
    shown = claims.decide(cells, Said(found), chosen=claims.by_construction("built-in"))
    about_mask = shown["claim"].isin(claims.MASKING)
    assert about_mask.sum() == 3 * 4 * 4 and (shown.loc[about_mask, "verdict"] == claims.CHOSEN).all()
    assert shown.loc[about_mask, "p"].isna().all() and (shown.loc[about_mask, "ours"] == 10).all()
    pd.testing.assert_frame_equal(shown[~about_mask], tested[~about_mask])
    lines = claims.summary(shown).set_index("claim")
    for claim in claims.MASKING:
        assert (lines.loc[claim, ["cells", "hold", "fail", "inconclusive", "exceptions", "of them shown"]] == 0).all()
        assert lines.loc[claim, "verdict"] == claims.CHOSEN and lines.loc[claim, "paper above"] == ""
        assert lines.loc[claim, "by construction"] == 24
    assert claims.by_construction("own") == claims.by_construction("public") == ()
    assert (shown["could see"] == 4).all()


def test_the_papers_numbers_outside_our_intervals_are_counted():
    decided = pd.DataFrame({"paper": [5.0, -1.0, 2.0, None], "low": [1.0, 0.0, 1.0, 0.0], "high": [4.0, 2.0, 3.0, 1.0]})
    assert claims.paper_outside(decided) == (1, 1)
    assert claims.paper_outside(decided[3:]) == ("", "") == claims.paper_outside(decided.drop(columns="paper"))

@pytest.mark.parametrize(
    "metric, ours, theirs, doubtful",
    [("R@P60", 0.3, 0.3, False), ("R@P60", 0.09, 0.3, True), ("R@P60", 0.3, 0.0, True), ("PR-AUC", 0.05, 0.3, False)],
)
def test_a_difference_of_a_small_recall_has_a_note(metric, ours, theirs, doubtful):
    decided = claims.decide([Cell("c", "x", "y", "LQC", metric, None)], Said(**{"value x": ours, "value y": theirs}))
    assert decided["note"].tolist() == [UNRELIABLE if doubtful else ""]
