"""What notebooks 06 and 07 state, from the rows' scores to the text of each file of numbers.

The notebooks show these results and save them; `radar verify` computes them again from the committed scores and
compares the files cell by cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from radar_suite.report import claims, references, tables
from radar_suite.report.experiments import LAMBDA_STUDY_BACKBONE
from radar_suite.report.row_scores import RowScores
from radar_suite.report.workspace import Workspace, records, to_csv

RELEASED_BY = (claims.DISTILLED, LAMBDA_STUDY_BACKBONE)  # the row that the claim about traffic is about
INTERVALS, VERDICTS = "intervals.csv", ("claims.csv", "lambda_claims.csv")
CAPTIONS = {
    "intervals": "Every cell of Tables 1 and 2, reference rows last, as a fraction, with its 95 % interval over test "
    "posts and a note where no coverage is promised",
    "references": f"{references.NOTE} In %",
    "table1": f"{tables.TITLES[1]} (%)",
    "table2": f"{tables.TITLES[2]} (%)",
    "auto_pass": "Share of test posts that a row releases for all risks at once, with its 95 % interval over them",
    "own_stream": "Every cell of Tables 1 and 2 on each pipeline's own stream, as a fraction, with its 95 % interval",
    "own_stream_mask": "What the mask changes there, in points; by construction on built-in posts",
    "gains": "What two rows gain over reference rows: points of average PR-AUC, 95 % intervals",
    "claims": "The paper's claims: the endpoint of each in points with its 95 % interval, and counts of its cells",
    "claim_cells": "Every comparison behind the claims, in points, with plain 95 % intervals, a p-value corrected over "
    "the claim, and a note where no coverage is promised",
    "lambda_study": f"Figure 2 in numbers: {LAMBDA_STUDY_BACKBONE} along the lambda grid",
    "lambda_claims": "What the paper says of Figure 2: the endpoint of each claim in points with its 95 % interval",
    "lambda_claim_cells": "Every comparison behind them, in points, with p-values corrected over the claim",
    "lambda_stability": "How far APR falls short along the grid from a small lambda on, in points",
}


@dataclass(frozen=True)
class TableResults:
    """What notebook 06 states.

    Attributes:
        rows: the thirteen rows' results with their intervals (`tables.with_intervals`).
        beside: the reference rows' (`references.reference_results`).
        gains: what rows gain over reference rows (`references.gains`).
        decided: the comparisons behind the claims (`claims.decide`, `claims.traffic`).
        claims: a line per claim (`claims.summary`).
        passed: what a row releases for all risks at once (`tables.auto_pass_results`), reference rows last.
    """

    rows: pd.DataFrame
    beside: pd.DataFrame
    gains: pd.DataFrame
    decided: pd.DataFrame
    claims: pd.DataFrame
    passed: pd.DataFrame

    @classmethod
    def of(cls, scores: RowScores, *, seed: int) -> TableResults:
        """From the scores of table and reference rows; `seed` is that of the bootstrap."""
        evidence, cells = scores.evidence(seed=seed), claims.table_cells(scores.categories)
        decided = claims.decide(cells, evidence, chosen=claims.by_construction(scores.kind))
        decided = pd.DataFrame(records(decided) + records(claims.traffic(evidence, RELEASED_BY)))
        return cls(
            tables.with_intervals(tables.results(scores.only(lambda row: not references.is_reference(row))), evidence),
            references.reference_results(scores, evidence),
            references.gains(evidence),
            decided,
            claims.summary(cells, decided, evidence),
            tables.auto_pass_results(scores, seed=seed),
        )

    @property
    def paper(self) -> pd.DataFrame | None:
        """The paper's results where the risks are the paper's."""
        shared = set(self.rows["category"]) - {tables.AVERAGE} == set(tables.PAPER_CATEGORIES)
        return tables.paper_results() if shared else None

    def wide(self, number: int) -> tuple[pd.DataFrame, pd.DataFrame | None, pd.DataFrame | None]:
        """Table 1 or 2 in percent: ours, the paper's, and the standard deviation over seeds, where there are such."""
        paper = None if self.paper is None else tables.wide(self.paper, number)
        return tables.wide(self.rows, number), paper, self.spread(number)

    def spread(self, number: int) -> pd.DataFrame | None:
        """Standard deviation over seeds of Table 1 or 2; None with one seed."""
        return tables.wide(self.rows, number, "sd") if "sd" in self.rows else None

    def files(self) -> dict[str, str]:
        """CSV text of each file of numbers, by its name."""
        both = pd.concat([self.rows, self.beside], ignore_index=True)
        return {
            INTERVALS: _fractions(both),
            "references.csv": references.reference_csv(self.beside),
            **{f"table{number}.csv": tables.to_csv(self.wide(number)[0]) for number in tables.TABLES},
            **({"auto_pass.csv": _fractions(self.passed)} if len(self.passed) else {}),
            **({"gains.csv": to_csv(self.gains)} if len(self.gains) else {}),
            "claims.csv": to_csv(self.claims),
            "claim_cells.csv": to_csv(self.decided),
        }


@dataclass(frozen=True)
class GridResults:
    """What notebook 07 states of the lambda grid.

    Attributes:
        study: lambda, category, metric, value (fraction), sd where there are seeds, and the paired difference from the
            smallest lambda with its 95 % interval (`difference`, `low`, `high`).
        decided: comparisons with lambda = 0.
        claims: a line per claim (`claims.summary`).
        steady: how stable APR is from a small lambda on (`claims.stability`).
    """

    study: pd.DataFrame
    decided: pd.DataFrame
    claims: pd.DataFrame
    steady: pd.DataFrame

    @classmethod
    def of(cls, scores: RowScores, *, seed: int) -> GridResults:
        """From the scores of the grid's points; `seed` is that of the bootstrap."""
        evidence, lambdas = scores.evidence(seed=seed), list(scores.rows)
        _, over = claims.about(evidence, *lambdas)
        lines = [{"lambda": lam, **line} for lam, by in scores.scored().items()
                 for line in tables.over_seeds(list(by.values()))]  # fmt: skip
        for line in lines:
            where = (line["lambda"], min(lambdas), line["category"], line["metric"])
            line |= zip(("difference", "low", "high"), evidence.difference(*where, over=over), strict=False)
        cells = claims.lambda_cells(lambdas, scores.categories)
        decided = claims.decide(cells, evidence)
        return cls(
            pd.DataFrame(lines).drop(columns=["posts", "positives", "prevalence"]),
            decided,
            claims.summary(cells, decided, evidence) if cells else decided,
            claims.stability(evidence, lambdas),
        )

    def files(self) -> dict[str, str]:
        """CSV text of each file of numbers, by its name."""
        parts = {"study": self.study, "claims": self.claims, "claim_cells": self.decided, "stability": self.steady}
        return {f"lambda_{name}.csv": to_csv(part) for name, part in parts.items() if len(part)}


@dataclass(frozen=True)
class OwnStreamResults:
    """What notebook 06 states of each pipeline's own stream, the other population that test posts can come from.

    Attributes:
        rows: results with their intervals.
        decided: what the mask changes (`claims.decide`).
    """

    rows: pd.DataFrame
    decided: pd.DataFrame

    @classmethod
    def of(cls, scores: RowScores, *, seed: int) -> OwnStreamResults:
        """From the scores of the table rows on the split `experiments.OWN_TEST`; `seed` is that of the bootstrap."""
        evidence, cells = scores.evidence(seed=seed), claims.table_cells(scores.categories)
        cells = [cell for cell in cells if cell.claim == claims.MASKING]
        return cls(tables.with_intervals(tables.results(scores), evidence),
                   claims.decide(cells, evidence, chosen=claims.by_construction(scores.kind)))  # fmt: skip

    def files(self) -> dict[str, str]:
        """CSV text of each file of numbers, by its name."""
        return {"own_stream.csv": _fractions(self.rows), "own_stream_mask.csv": to_csv(self.decided)}


def own_stream_files(scores: RowScores, *, seed: int) -> dict[str, str]:
    """CSV text of each file of numbers that notebook 06 writes of the own streams, from the scores."""
    return OwnStreamResults.of(scores, seed=seed).files()


def table_files(scores: RowScores, *, seed: int) -> dict[str, str]:
    """CSV text of each file of numbers that notebook 06 writes, from the scores."""
    return TableResults.of(scores, seed=seed).files()


def grid_files(scores: RowScores, *, seed: int) -> dict[str, str]:
    """CSV text of each file of numbers that notebook 07 writes, from the scores."""
    return GridResults.of(scores, seed=seed).files()


def _fractions(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def save_results(workspace: Workspace, results: TableResults | OwnStreamResults | GridResults, *, about: str) -> None:
    """Write every file of numbers of a notebook, Tables 1 and 2 also as LaTeX.

    Args:
        about: what the numbers were made from, for the captions.
    """
    for file, text in results.files().items():
        name = file.removesuffix(".csv")
        caption, tex = f"{CAPTIONS[name]}; {about}.", None
        if name in ("table1", "table2"):
            table, _, spread = results.wide(int(name[-1]))
            tex = tables.to_latex(table, caption=caption, label=f"tab:{name[-1]}", spread=spread)
        workspace.save_table(text, name, caption=caption, tex=tex)
