"""What notebooks 06 and 07 state, from the rows' scores to the text of each file of numbers.

The notebooks show these results one by one and save them by these functions; `radar verify` calls the same functions on
the committed scores and compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from radar_suite.report import claims, references, tables
from radar_suite.report.experiments import LAMBDA_STUDY_BACKBONE
from radar_suite.report.row_scores import RowScores
from radar_suite.report.workspace import records

RELEASED_BY = (claims.DISTILLED, LAMBDA_STUDY_BACKBONE)  # the row that the claim about traffic is about
INTERVALS, VERDICTS = "intervals.csv", ("claims.csv", "lambda_claims.csv")


def table_files(scores: RowScores, *, seed: int, captions: Mapping[str, str]) -> dict[str, str]:
    """Text of each file of numbers that notebook 06 writes to `figures/`, from the scores.

    Args:
        seed: of the bootstrap.
        captions: of 'table1' and 'table2'.
    """
    rows = scores.only(lambda row: not references.is_reference(row))
    evidence = rows.evidence(seed=seed)
    frame = tables.with_intervals(tables.results_of(rows), evidence)
    beside = references.reference_results(scores, seed=seed)
    decided = claims.decide(claims.table_cells(scores.categories), evidence)
    released = claims.traffic(evidence, RELEASED_BY)
    files = {INTERVALS: interval_text(frame, beside), "references.csv": references.reference_csv(beside)}
    for number in tables.TABLES:
        for suffix, text in references.table_texts(frame, beside, number, caption=captions[f"table{number}"]).items():
            files[f"table{number}.{suffix}"] = text
        files[f"table{number}_intervals.md"] = interval_table(frame, beside, number)
    return files | claim_files("claim", [decided, released])


def grid_files(scores: RowScores, *, seed: int) -> dict[str, str]:
    """Text of each file of numbers that notebook 07 writes to `figures/`, from the scores."""
    files = {"lambda_study.csv": to_text(grid_results(scores))}
    lambdas = list(scores.rows)
    evidence = scores.evidence(seed=seed)
    parts = [claims.decide(claims.lambda_cells(lambdas, scores.categories), evidence),
             claims.stability(evidence, lambdas)]  # fmt: skip
    return files | claim_files("lambda_claim", parts)


def grid_results(scores: RowScores) -> pd.DataFrame:
    """Each metric along the lambda grid: lambda, category, metric, value (fraction), and sd where there are seeds."""
    lines = [{"lambda": lam, **line} for lam, by in scores.scored().items()
             for line in tables.over_seeds(list(by.values()))]  # fmt: skip
    return pd.DataFrame(lines).drop(columns=["posts", "positives", "prevalence"])


def above_chance(frame: pd.DataFrame) -> pd.DataFrame:
    """`tables.learned` of the rows that must rank better than chance, its answer in words as `verdict`."""
    frame = frame.astype(dict.fromkeys(("value", "low", "high", "prevalence"), float))
    found = tables.learned(frame, (claims.BCE, claims.MASKED, claims.DISTILLED))
    return found.assign(verdict=found.pop("learned").map({True: "above chance", False: "not shown"}))


def beside_paper(frame: pd.DataFrame) -> pd.DataFrame:
    """`tables.beside_paper` where the risks are the paper's, else nothing."""
    shared = set(frame["category"]) - {tables.AVERAGE} == set(tables.PAPER_CATEGORIES)
    return tables.beside_paper(frame) if shared else pd.DataFrame()


def interval_text(*frames: pd.DataFrame) -> str:
    """Results with their intervals, as fractions, as CSV."""
    return pd.concat(frames, ignore_index=True).to_csv(index=False, float_format="%.6g", lineterminator="\n")


def interval_table(frame: pd.DataFrame, beside: pd.DataFrame, number: int) -> str:
    """Table 1 or 2 with its intervals, the reference rows last, as Markdown."""
    return tables.interval_markdown(pd.concat([frame, beside], ignore_index=True), number)


def claim_files(name: str, parts: Iterable[pd.DataFrame]) -> dict[str, str]:
    """'<name>s' with a line per claim, as CSV and Markdown, and '<name>_cells.csv' with every comparison behind them.

    Args:
        parts: of `claims.decide`, `claims.traffic` and `claims.stability`; empty ones are passed over.
    """
    parts = [part for part in parts if len(part)]
    if not parts:
        return {}
    verdicts = pd.concat([claims.summary(part) for part in parts], ignore_index=True)
    verdicts = verdicts.loc[:, (verdicts != "").any()]  # the paper prints no number for any cell of the grid
    columns = list(dict.fromkeys(column for part in parts for column in part))
    lines = pd.DataFrame([line for part in parts for line in records(part)], columns=columns)
    return {f"{name}s.csv": to_text(verdicts), f"{name}s.md": tables.plain_markdown(verdicts),
            f"{name}_cells.csv": to_text(lines)}  # fmt: skip


def to_text(frame: pd.DataFrame) -> str:
    """A frame as CSV, numbers in full."""
    return frame.to_csv(index=False, lineterminator="\n")
