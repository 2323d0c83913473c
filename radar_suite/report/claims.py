"""The paper's claims, one by one: how large the difference is here, whether the paper's size is excluded, and a test.

A claim is a sentence of the paper. Its *endpoint* is one number, of the same kind for all: the mean, over the pairs of
table rows (or of lambdas) that it compares, of the difference in average PR-AUC, by which the pilot had declared to
choose the built-in world. Only the claim about traffic names its own, average APR@R95 against 80 %. The verdict on a
claim reads its endpoint's 95 % interval: above zero, below zero, or not told from zero. It is one test per claim.

Behind it stand its *cells*, a pair on one risk and metric each, with the paper's printed difference. Their intervals
are plain 95 % intervals, their verdicts are corrected over the cells of their claim (Holm 1979, 5 %). Where the paper's
difference lies outside our interval, an effect of that size is excluded here; it is below zero where the paper's own
table contradicts its sentence.

Two rows that are one run cannot be compared: where every label is verified, as with one risk, there is nothing to mask,
and the comparison is *not testable*. The built-in world was chosen, in a pilot, for the size of the paper's masking
gap: there the comparisons of mask and no mask are *by construction*, and enter no test, no count and no correction.

Where all rows were trained at `METHOD_SEEDS` seeds or more, a difference is that of the method: its error joins test
posts and seeds (`radar_lib.intervals`). With fewer it is that of these checkpoints, over test posts alone. The column
`about` says which. Either way it is about this corpus and these (stand-in) backbones.
"""

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from radar_lib.evidence import AREA, AVERAGE, Evidence, Over
from radar_lib.intervals import Difference
from radar_suite.report.experiments import EXPERTS, LAMBDA_STUDY_BACKBONE, SMALL, TINY
from radar_suite.report.row_scores import name_of
from radar_suite.report.tables import METRICS, PAPER_CATEGORIES, TABLES, coverage_note, paper_results

LEVEL = 0.05
METHOD_SEEDS = 3  # runs of a row from which a verdict is about the method
CHECKPOINTS = "these checkpoints"
ABOVE, BELOW, OPEN = "above zero", "below zero", "not told from zero"
UNTESTABLE, CHOSEN = "not testable", "by construction"
MASKING = "Masking beats training without a mask"
TRAFFIC, RELEASED = "Traffic falls by more than 80 % at recall 95 %", 0.8
BCE, UNMASKED, MASKED, DISTILLED = "BCE", "BCE w/o Mask", "Masked BCE", "Masked BCE + Distill"
STABLE_FROM = {"APR@R90": {"LQC": 0.1, "RCS": 0.3, "FE": 0.5}, "APR@R95": {"LQC": 0.1, "RCS": 0.3, "FE": 0.3}}
NOTHING = Difference(np.nan, np.nan, np.nan, np.nan)  # between a run and itself


@dataclass(frozen=True)
class Cell:
    """`row` is claimed to beat `other`. `paper` is their printed difference in points, None if the paper has none."""

    claim: str
    row: Hashable
    other: Hashable
    category: str
    metric: str
    paper: float | None


def table_cells(categories: Sequence[str]) -> list[Cell]:
    """The claims that Tables 1 and 2 make, on the risks of a corpus and, where there are several, their average.

    The paper's numbers are put beside them where the corpus has the paper's risks.
    """
    masks = [((MASKED, name), (UNMASKED, name)) for name in TINY]
    small = [((MASKED, name), (MASKED, "Qwen3-VL-2B")) for name in SMALL]
    twins = [((DISTILLED, name), (MASKED, name)) for name in SMALL]
    best = [((DISTILLED, LAMBDA_STUDY_BACKBONE), (BCE, EXPERTS))]
    claims = {
        MASKING: masks,
        "A larger router beats a smaller one (4B against Qwen3-VL-2B)": small,
        "Distillation beats its own twin": twins,
        "The distilled 4B router beats the experts": best,
    }
    keys = ["loss", "method", "category", "metric"]
    printed = (100 * paper_results().set_index(keys)["value"]).round(2)
    shared = set(categories) == set(PAPER_CATEGORIES)
    cells = []
    for claim, pairs in claims.items():
        for row, other in pairs:
            for category in with_average(categories):
                for metric in METRICS:
                    place = (category, metric)
                    paper = round(printed[*row, *place] - printed[*other, *place], 2) if shared else None
                    cells.append(Cell(claim, row, other, category, metric, paper))
    return cells


def paper_gains(categories: Sequence[str]) -> dict[tuple[str, str], float]:
    """By category and metric, points that the paper's distilled row of Figure 2's backbone gains over its twin."""
    pair = ((DISTILLED, LAMBDA_STUDY_BACKBONE), (MASKED, LAMBDA_STUDY_BACKBONE))
    return {(cell.category, cell.metric): cell.paper for cell in table_cells(categories)
            if (cell.row, cell.other) == pair and cell.paper is not None}  # fmt: skip


def lambda_cells(lambdas: Sequence[float], categories: Sequence[str]) -> list[Cell]:
    """'Models trained with lambda >= 0.5 significantly outperform lambda = 0' in PR-AUC and R@P60, for every risk.

    Before it: 'the introduction of the distillation term (lambda > 0) leads to marked improvements' in both.
    """
    claims = {"Lambda of 0.5 or more beats lambda = 0": 0.5, "Any lambda above 0 beats lambda = 0": 0.0}
    above = [lam for lam in lambdas if lam > 0 and 0 in lambdas]
    return [Cell(claim, lam, 0.0, category, metric, None) for claim, least in claims.items() for lam in above
            if lam >= least for category in categories for metric in TABLES[1]]  # fmt: skip


def holm(p_values: Sequence[float]) -> Float[np.ndarray, " test"]:
    """P-values corrected over the family (Holm 1979): the i-th smallest of m times m - i + 1, never falling.

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return corrected


def about(evidence: Evidence, *rows: Hashable) -> tuple[str, Over]:
    """What a comparison of these rows speaks of, and so which uncertainty counts: see the module.

    >>> class Once:
    ...     def seeds(self, row): return 1
    >>> about(Once(), "a row", "another")
    ('these checkpoints', 'posts')
    """
    fewest = min(evidence.seeds(row) for row in rows)
    return (f"the method, {fewest} seeds", "both") if fewest >= METHOD_SEEDS else (CHECKPOINTS, "posts")


def scope(seeds: int) -> str:
    """For captions: what the intervals of a comparison of rows with this many seeds are over."""
    return "test posts and seeds" if seeds >= METHOD_SEEDS else "test posts"


def by_construction(kind: str) -> tuple[str, ...]:
    """Claims that posts of this kind (`Posts.kind`) were made for, so that they are no evidence."""
    return (MASKING,) if kind == "built-in" else ()


def decide(cells: Sequence[Cell], evidence: Evidence, *, chosen: Collection[str] = ()) -> pd.DataFrame:
    """One line per cell: ours and its 95 % interval in points, the paper's, the corrected p-value and the verdict.

    Rows that are one run are not compared, and cells of the claims in `chosen` not tested. `note` marks an R@P of
    either row so small that how often the interval covers is not promised.
    """
    lines = []
    for claim in dict.fromkeys(cell.claim for cell in cells):
        family = [cell for cell in cells if cell.claim == claim]
        scopes = [about(evidence, cell.row, cell.other) for cell in family]
        differences = [
            NOTHING if evidence.same(cell.row, cell.other)
            else evidence.difference(cell.row, cell.other, cell.category, cell.metric, over=over)
            for cell, (_, over) in zip(family, scopes, strict=True)
        ]  # fmt: skip
        tested = claim not in chosen
        corrected = iter(holm([one.p_value for one in differences if one is not NOTHING and tested]))
        for cell, ours, (whose, _) in zip(family, differences, scopes, strict=True):
            p = next(corrected) if tested and ours is not NOTHING else np.nan
            verdict = OPEN if p >= LEVEL else ABOVE if ours.estimate > 0 else BELOW
            lines.append(
                {"claim": claim, "row": name_of(cell.row), "against": name_of(cell.other), "category": cell.category}
                | {"metric": cell.metric, "paper": cell.paper, **in_points(*ours[:3]), "p": round(float(p), 4)}
                | {"about": whose, "verdict": UNTESTABLE if ours is NOTHING else verdict if tested else CHOSEN}
                | {"note": coverage_note(evidence, (cell.row, cell.other), cell.category, cell.metric)}
            )
    return pd.DataFrame(lines)


def traffic(evidence: Evidence, row: Hashable) -> pd.DataFrame:
    """'Traffic falls by more than 80 %': APR@R95 of the distilled 4B router less 80, each risk and last the average.

    Lines are like those of `decide`; their verdicts are corrected by dividing the level among them (Bonferroni).
    """
    printed = paper_results().set_index(["loss", "method", "category", "metric"])["value"]
    shared = set(evidence.categories) == set(PAPER_CATEGORIES)
    categories = with_average(evidence.categories)
    whose, over = about(evidence, row)
    lines = []
    for category in categories:
        plain, strict = (
            [end - RELEASED for end in evidence.interval(row, category, "APR@R95", level=level, over=over)]
            for level in (1 - LEVEL, 1 - LEVEL / len(categories))
        )
        paper = printed[DISTILLED, LAMBDA_STUDY_BACKBONE, category, "APR@R95"] - RELEASED if shared else None
        lines.append(
            {"claim": TRAFFIC, "row": name_of(row), "against": f"{100 * RELEASED:g} %", "category": category}
            | {"metric": "APR@R95", "paper": None if paper is None else round(100 * paper, 2), **in_points(*plain)}
            | {"p": np.nan, "about": whose, "verdict": told(*strict[1:]), "note": ""}
        )
    return pd.DataFrame(lines)


def stability(evidence: Evidence, lambdas: Sequence[float]) -> pd.DataFrame:
    """'APR stabilises from lambda on': how far a lambda from there on falls short of any other of the grid, in points.

    `excluded above` is the smallest shortfall that the paired 95 % intervals of all pairs exclude.
    """
    lines = []
    for metric, starts in STABLE_FROM.items():
        for category, start in starts.items():
            pairs = [(a, b) for a in lambdas if a >= start for b in lambdas if a != b]
            if category not in evidence.categories or not pairs:
                continue
            whose, over = about(evidence, *lambdas)
            found = [evidence.difference(*pair, category, metric, over=over) for pair in pairs]
            short, bound = (-100 * min(getattr(one, end) for one in found) for end in ("estimate", "low"))
            lines.append(
                {"category": category, "metric": metric, "from": start, "largest shortfall": round(max(short, 0), 2)}
                | {"excluded above": round(max(bound, 0), 2), "about": whose}
            )
    return pd.DataFrame(lines)


def endpoint(cells: Sequence[Cell], evidence: Evidence) -> dict[str, Any]:
    """The endpoint of a claim with these cells: the mean over its pairs of rows of the difference in average PR-AUC.

    The paper's is the mean over the same pairs. Pairs that are one run are left out.
    """
    pairs = [pair for pair in dict.fromkeys((cell.row, cell.other) for cell in cells) if not evidence.same(*pair)]
    printed = {(c.row, c.other): c.paper for c in cells if (c.category, c.metric) == (AVERAGE, AREA)}
    paper = [printed.get(pair) for pair in pairs]
    weights: Counter[Hashable] = Counter()
    for row, other in pairs:
        weights.update({row: 1 / len(pairs), other: -1 / len(pairs)})
    whose, over = about(evidence, *(row for cell in cells for row in (cell.row, cell.other)))
    if len({evidence.seeds(row) for row in weights}) > 1:
        whose, over = CHECKPOINTS, "posts"
    ours = evidence.contrast(weights, AVERAGE, AREA, over=over) if pairs else NOTHING
    mean = None if not pairs or None in paper else round(float(np.mean(paper)), 2)
    return {"metric": AREA, **in_points(*ours[:3]), "paper": mean, "about": whose}


def summary(cells: Sequence[Cell], decided: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
    """One line per claim: its endpoint beside the paper's, the verdict, and counts of its cells.

    `paper lies` says where in our interval the paper's endpoint lies: above, inside or below. `cells` counts those that
    were tested, `paper above` and `paper below` those whose interval excludes the paper's difference. Of a claim by
    construction nothing is counted.

    Args:
        cells: behind the claims that have any.
        decided: of `decide`, or of `traffic`, whose last line is the endpoint.
    """
    lines = []
    for claim, part in decided.groupby("claim", sort=False):
        family = [cell for cell in cells if cell.claim == claim]
        ends = endpoint(family, evidence) if family else dict(part.iloc[-1])
        counted = part[~part["verdict"].isin((CHOSEN, UNTESTABLE))]
        verdict = told(ends["low"], ends["high"]) if len(counted) else part["verdict"].iloc[0]
        paper, mean = counted["paper"].astype(float), np.nan if ends["paper"] is None else ends["paper"]
        place = "above" if mean > ends["high"] else "below" if mean < ends["low"] else "inside"
        lines.append(
            {"claim": claim, "metric": ends["metric"], "ours": ends["ours"], "low": ends["low"], "high": ends["high"]}
            | {"paper": ends["paper"], "paper lies": place if mean == mean and ends["ours"] == ends["ours"] else ""}
            | {"verdict": verdict, "cells": len(counted)}
            | {side: int((counted["verdict"] == side).sum()) for side in (ABOVE, BELOW)}
            | {"paper above": int((paper > counted["high"]).sum()), "paper below": int((paper < counted["low"]).sum())}
            | {"about": ends["about"]}
        )
    return pd.DataFrame(lines)


def findings(lines: pd.DataFrame) -> pd.DataFrame:
    """Lines of `summary` as texts to read: size and interval first, then what is excluded, then tests.

    `paper's excluded` counts the cells whose interval excludes the paper's difference; it is empty, as all counts are,
    where nothing was tested or the paper prints no number.
    """
    counted = lines["cells"] > 0
    points = [points_text(one.ours, one.low, one.high) if one.ours == one.ours else "" for one in lines.itertuples()]
    printed, excluded = lines["paper"].notna(), lines["paper above"] + lines["paper below"]
    texts = {"claim": lines["claim"], "endpoint": lines["metric"], "points, 95 % interval": points}
    texts["the paper's"] = lines["paper"].astype(float).map("{:+.1f}".format).where(printed, "")
    texts |= {"which lies": lines["paper lies"].fillna(""), "interval": lines["verdict"]}
    texts |= {name: lines[name].astype(str).where(counted, "") for name in ("cells", ABOVE, BELOW)}
    texts["paper's excluded"] = excluded.astype(str).where(counted & printed, "")
    return pd.DataFrame(texts | {"about": lines["about"]})


def points_text(value: float, low: float, high: float) -> str:
    """A difference in points and its interval; to a second decimal where a first would round an end to zero.

    >>> points_text(1.04, 0.4, 1.6), points_text(0.73, 0.01, 1.45)
    ('+1.0 [+0.4, +1.6]', '+0.73 [+0.01, +1.45]')
    """
    digits = 2 if min(abs(low), abs(high)) < 0.05 else 1
    return f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def told(low: float, high: float) -> str:
    """What an interval says of zero.

    >>> told(0.1, 0.2), told(-0.1, 0.2), told(float("nan"), float("nan"))
    ('above zero', 'not told from zero', 'not told from zero')
    """
    return ABOVE if low > 0 else BELOW if high < 0 else OPEN


def in_points(estimate: float, low: float, high: float) -> dict[str, float]:
    """A difference of fractions and its interval in points, as lines of claims have them."""
    return {name: round(100 * value, 2) for name, value in (("ours", estimate), ("low", low), ("high", high))}


def with_average(categories: Sequence[str]) -> tuple[str, ...]:
    """The risks, and their average where it is not the only one again."""
    return (*categories, AVERAGE) if len(categories) > 1 else tuple(categories)
