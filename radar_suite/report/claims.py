"""The paper's claims, one by one, and what a run says of each: holds or fails here, inconclusive, or not testable.

A claim is a sentence of the paper; its cells are comparisons of two table rows (or two lambdas) on one risk and metric,
generated from the paper's own tables. A cell whose printed numbers contradict the sentence is an exception: it has its
own line, and is asked whether it shows here as it does in the paper.

The rules were written before the run that is recorded. A cell of a table is decided by the paired difference of its
rows: it *holds* if the difference has the sentence's sign and *fails* if it has the other one, both only where
its p-value, corrected over the cells of its claim (Holm 1979, 5 %), allows; else it is *inconclusive*. An exception
*shows* or is *reversed* by the same test, and does not count. A claim fails if a cell of it fails, holds if all
hold, and is inconclusive otherwise. Two rows that are one run cannot be compared: where every label is verified, as
with one risk, there is nothing to mask, and the claims about the mask are *not testable*. The built-in world was
chosen, in a pilot, for the size of the paper's masking gap: there the comparisons of mask and no mask are *by
construction*, and enter no count and no correction. Stability and traffic have rules of their own, at `stability` and
`traffic`.

Where both rows were trained at `METHOD_SEEDS` seeds or more, the difference is that of the method: its error joins test
posts and seeds (`radar_lib.intervals`). With fewer it is that of these checkpoints, over test posts alone. The column
`about` says which. Either way a verdict is about this corpus and these (stand-in) backbones.

The paper says of the mask that it helps in both tables, and of distillation that any lambda above 0 improves PR-AUC
and R@P60 while 0.5 or more does so significantly: these are separate claims, and so are corrected separately. Its small
routers are compared with the largest tiny one, the hardest to beat.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from radar_lib.evidence import Evidence, Over
from radar_lib.intervals import Difference
from radar_suite.report.experiments import EXPERTS, LAMBDA_STUDY_BACKBONE, SMALL, TINY
from radar_suite.report.row_scores import name_of
from radar_suite.report.tables import AVERAGE, METRICS, PAPER_CATEGORIES, TABLES, coverage_note, paper_results

LEVEL = 0.05
METHOD_SEEDS = 3  # runs of a row from which a verdict is about the method
CHECKPOINTS = "these checkpoints"
HOLDS, FAILS, OPEN, UNTESTABLE = "holds here", "fails here", "inconclusive", "not testable"
SHOWS, REVERSED = "exception shows", "exception reversed"
CHOSEN = "by construction"
MASKING = ("Masking beats training without a mask", "Masking releases more traffic")
BCE, UNMASKED, MASKED, DISTILLED = "BCE", "BCE w/o Mask", "Masked BCE", "Masked BCE + Distill"
STABLE_FROM = {"APR@R90": {"LQC": 0.1, "RCS": 0.3, "FE": 0.5}, "APR@R95": {"LQC": 0.1, "RCS": 0.3, "FE": 0.3}}
NOTHING = Difference(np.nan, np.nan, np.nan, np.nan)  # between a run and itself
SHORT_OF_BEST = 0.01  # what 'stabilises' is taken to mean: within one point of the best lambda from there on


@dataclass(frozen=True)
class Cell:
    """`row` is claimed to beat `other`. `paper` is their printed difference in points, None if the paper has none."""

    claim: str
    row: Hashable
    other: Hashable
    category: str
    metric: str
    paper: float | None

    @property
    def exception(self) -> bool:
        """Whether the paper's own numbers contradict its sentence here."""
        return self.paper is not None and self.paper < 0


def table_cells(categories: Sequence[str]) -> list[Cell]:
    """The claims that Tables 1 and 2 make, on the risks of a corpus and, where there are several, their average.

    The paper's numbers are put beside them where the corpus has the paper's risks.
    """
    masks = [((MASKED, name), (UNMASKED, name)) for name in TINY]
    small = [((MASKED, name), (MASKED, "Qwen3-VL-2B")) for name in SMALL]
    twins = [((DISTILLED, name), (MASKED, name)) for name in SMALL]
    best = [((DISTILLED, LAMBDA_STUDY_BACKBONE), (BCE, EXPERTS))]
    claims = {
        MASKING[0]: (masks, TABLES[1]),
        MASKING[1]: (masks, TABLES[2]),
        "A larger router beats a smaller one (4B against Qwen3-VL-2B)": (small, METRICS),
        f"Distillation beats its own twin ({LAMBDA_STUDY_BACKBONE})": (twins[-1:], METRICS),
        "Distillation beats its own twin (the other two)": (twins[:-1], METRICS),
        "The distilled 4B router beats the experts": (best, METRICS),
    }
    keys = ["loss", "method", "category", "metric"]
    printed = (100 * paper_results().set_index(keys)["value"]).round(2)
    shared = set(categories) == set(PAPER_CATEGORIES)
    cells = []
    for claim, (pairs, metrics) in claims.items():
        for row, other in pairs:
            for category in _with_average(categories):
                for metric in metrics:
                    place = (category, metric)
                    paper = round(printed[*row, *place] - printed[*other, *place], 2) if shared else None
                    cells.append(Cell(claim, row, other, category, metric, paper))
    return cells


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
    return MASKING if kind == "built-in" else ()


def decide(cells: Sequence[Cell], evidence: Evidence, *, chosen: Collection[str] = ()) -> pd.DataFrame:
    """One line per cell: ours and its interval in points, the paper's, the corrected p-value and the verdict.

    `could see` is half the interval, the smallest difference that these posts and runs could have told from none. Rows
    that are one run are not compared, and cells of the claims in `chosen` not tested. `note` marks an R@P of either row
    so small that how often the interval covers is not promised.
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
            words = (REVERSED, SHOWS) if cell.exception else (HOLDS, FAILS)
            p = next(corrected) if tested and ours is not NOTHING else np.nan
            verdict = OPEN if p >= LEVEL else words[0] if ours.estimate > 0 else words[1]
            verdict = UNTESTABLE if ours is NOTHING else verdict if tested else CHOSEN
            points = {"ours": ours.estimate, "low": ours.low, "high": ours.high,
                      "could see": (ours.high - ours.low) / 2}  # fmt: skip
            lines.append(
                {"claim": claim, "row": name_of(cell.row), "against": name_of(cell.other), "category": cell.category}
                | {"metric": cell.metric, "paper": cell.paper, "exception": cell.exception}
                | {key: round(100 * value, 2) for key, value in points.items()}
                | {"p": round(float(p), 4), "about": whose, "verdict": verdict}
                | {"note": coverage_note(evidence, (cell.row, cell.other), cell.category, cell.metric)}
            )
    return pd.DataFrame(lines)


def stability(evidence: Evidence, lambdas: Sequence[float]) -> pd.DataFrame:
    """'APR stabilises from lambda on': no lambda from there on lies more than a point below any other of the grid.

    It holds where every paired 95 % interval says so (all of them must, which needs no correction), and fails where one
    says the opposite after correction for the number of pairs (Bonferroni).
    """
    lines = []
    for metric, starts in STABLE_FROM.items():
        for category, start in starts.items():
            pairs = [(a, b) for a in lambdas if a >= start for b in lambdas if a != b]
            if category not in evidence.categories or not pairs:
                continue
            whose, over = about(evidence, *lambdas)
            found, strict = (
                [evidence.difference(*pair, category, metric, level=level, over=over) for pair in pairs]
                for level in (1 - LEVEL, 1 - LEVEL / len(pairs))
            )
            steady = all(one.low >= -SHORT_OF_BEST for one in found)
            broken = any(one.high < -SHORT_OF_BEST for one in strict)
            worst = min(one.estimate for one in found)
            lines.append(
                {"claim": "APR is stable from a small lambda on", "category": category, "metric": metric, "from": start}
                | {"largest shortfall": round(100 * worst, 2), "about": whose}
                | {"verdict": FAILS if broken else HOLDS if steady else OPEN}
            )
    return pd.DataFrame(lines)


def traffic(evidence: Evidence, row: Hashable) -> pd.DataFrame:
    """'Traffic falls by more than 80 %': APR@R95 of the distilled 4B router, average and each risk, against 0.8.

    Each by its own 95 % interval, divided among them (Bonferroni). FE, 77.16 in the paper, is its exception.
    """
    printed = paper_results().set_index(["loss", "method", "category", "metric"])["value"]
    shared = set(evidence.categories) == set(PAPER_CATEGORIES)
    categories = _with_average(evidence.categories)
    whose, over = about(evidence, row)
    lines = []
    for category in categories:
        ours = evidence.interval(row, category, "APR@R95", level=1 - LEVEL / len(categories), over=over)
        paper = printed[DISTILLED, LAMBDA_STUDY_BACKBONE, category, "APR@R95"] if shared else None
        exception = paper is not None and paper < 0.8
        words = (REVERSED, SHOWS) if exception else (HOLDS, FAILS)
        verdict = words[0] if ours.low > 0.8 else words[1] if ours.high < 0.8 else OPEN
        points = {key: round(100 * value, 2) for key, value in ours._asdict().items()}
        lines.append(
            {"claim": "Traffic falls by more than 80 % at recall 95 %", "category": category, "exception": exception}
            | {"paper": None if paper is None else round(100 * paper, 2)} | points
            | {"about": whose, "verdict": verdict}
        )  # fmt: skip
    return pd.DataFrame(lines)


def paper_outside(decided: pd.DataFrame) -> tuple[int | str, int | str]:
    """In how many cells the paper's printed number lies above our interval, and below it; '' where it prints none.

    All cells count, exceptions included: outside the interval, an effect of the paper's size is excluded here.
    """
    if "paper" not in decided or decided["paper"].isna().all():
        return "", ""
    paper = decided["paper"].astype(float)
    return int((paper > decided["high"]).sum()), int((paper < decided["low"]).sum())


def summary(decided: pd.DataFrame) -> pd.DataFrame:
    """One line per claim: how many cells hold, fail and stay open, what they are about, and the claim's verdict.

    Exceptions are counted apart, and so are comparisons of a run with itself. Of a claim by construction nothing is.
    """
    lines = []
    for claim, part in decided.groupby("claim", sort=False):
        exceptions = part["exception"] if "exception" in part else pd.Series(False, index=part.index)
        chosen = (part["verdict"] == CHOSEN).any()
        counts = part[~exceptions & (part["verdict"] != CHOSEN)]["verdict"].value_counts()
        holds, fails, left, same = (int(counts.get(verdict, 0)) for verdict in (HOLDS, FAILS, OPEN, UNTESTABLE))
        verdict = FAILS if fails else HOLDS if holds and not left else UNTESTABLE if same and not left else OPEN
        whose, verdict = "; ".join(dict.fromkeys(part["about"])), CHOSEN if chosen else verdict
        above, below = paper_outside(part[:0] if chosen else part)
        lines.append(
            {"claim": claim, "cells": holds + fails + left, "hold": holds, "fail": fails, "inconclusive": left}
            | {"not testable": same or "", "by construction": int((part["verdict"] == CHOSEN).sum()) or ""}
            | {"exceptions": 0 if chosen else int(exceptions.sum())}
            | {"of them shown": int((part["verdict"] == SHOWS).sum())}
            | {"paper above": above, "paper below": below}
            | {"about": whose, "verdict": verdict}
        )  # fmt: skip
    return pd.DataFrame(lines)


def _with_average(categories: Sequence[str]) -> tuple[str, ...]:
    """The risks, and their average where it is not the only one again."""
    return (*categories, AVERAGE) if len(categories) > 1 else tuple(categories)
