"""Tables 1 and 2 of the paper from scores: the numbers, the paper's own beside them, and three renderings.

A results frame is long: one line per (loss, method, category, metric) with `value` as a fraction. Tables are wide and
in percent. Neither depends on how many categories there are or how they are called.
"""

from __future__ import annotations

import io
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int8

from radar_lib.data.posts import Posts, labels
from radar_lib.errors import RadarError
from radar_lib.evidence import AVERAGE, Evidence
from radar_lib.intervals import RELIABLE_RECALL, recall_at_precision_is_reliable
from radar_lib.training.scores import logits_for, read_scores
from radar_suite.report.experiments import TABLE_ROWS, by_seed
from radar_suite.report.row_scores import RowScores

TABLES: Mapping[int, tuple[str, str]] = {1: ("PR-AUC", "R@P60"), 2: ("APR@R90", "APR@R95")}
TITLES = {1: "Risk detection capability", 2: "Traffic reduction"}
METRICS = tuple(metric for pair in TABLES.values() for metric in pair)
PAPER_CATEGORIES = ("LQC", "RCS", "FE")
UNRELIABLE = f"below {100 * RELIABLE_RECALL:g} %: no coverage promised"
ROW_ORDER = [(row.loss, row.method) for row in TABLE_ROWS]


def slug(name: str) -> str:
    """Column name of the paper's CSV files: 'R@P60' becomes 'r_at_p60'."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower().replace("@", "_at_")).strip("_")


def row_logits(
    entries: Sequence[Mapping[str, Any]],
    post_ids: Sequence[str],
    truth: Int8[np.ndarray, "post category"],
    categories: Sequence[str],
    *,
    runs_dir: Path,
) -> Float[np.ndarray, "post category"]:
    """Logits of one table row in the cells that were verified, NaN elsewhere.

    The row is a router, or K experts joined, each giving its own category.

    Raises:
        RadarError: a category has no scores, or a verified post is missing from them.
    """
    joined = np.full((len(post_ids), len(categories)), np.nan, dtype=np.float32)
    ids = np.asarray(post_ids)
    for entry in entries:
        scores = read_scores(runs_dir / entry["scores_path"])
        for k, category in enumerate(categories):
            if f"logit_{category}" in scores.columns:
                known = truth[:, k] >= 0
                joined[known, k] = logits_for(scores, ids[known].tolist(), [category])[:, 0]
    absent = [c for k, c in enumerate(categories) if np.isnan(joined[truth[:, k] >= 0, k]).any()]
    if absent:
        raise RadarError(f"no scores for {', '.join(absent)} in {[entry['scores_path'] for entry in entries]}.")
    return joined


def group_rows(
    index: Sequence[Mapping[str, Any]], order: Sequence[tuple[str, str]] = ROW_ORDER
) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """Index entries of the training notebooks by (loss, method), in the order of the paper's tables.

    One entry per router and seed, K per seed for the experts.
    """
    grouped: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for entry in index:
        grouped.setdefault((entry["loss"], entry["method"]), []).append(entry)
    missing = [row for row in order if row not in grouped]
    if missing:
        raise RadarError(f"no run for the rows {missing}: run the training notebooks first.")
    return {row: grouped[row] for row in order}


def row_scores(
    index: Sequence[Mapping[str, Any]],
    posts: Posts,
    *,
    runs_dir: Path,
    order: Sequence[tuple[str, str]] = ROW_ORDER,
) -> RowScores:
    """The logits of these rows on the test posts, at every seed; each risk on the posts that its pipeline verified.

    Raises:
        RadarError: a row has no run, a risk no scores, or a verified post is missing from them.
    """
    test = posts.table("test")
    truth, ids = labels(test, posts.categories), test["post_id"].tolist()
    rows = {
        row: {one[0]["seed"]: row_logits(one, ids, truth, posts.categories, runs_dir=runs_dir) for one in by_seed(own)}
        for row, own in group_rows(index, order).items()
    }
    return RowScores(ids, truth, posts.categories, rows)


def over_seeds(scored: Sequence[Mapping[str, Mapping[str, float]]]) -> list[dict[str, Any]]:
    """The score tables of one row's seeds as lines of category, metric and value, the mean over the seeds.

    Where there are several seeds, `sd` is their sample standard deviation.
    """
    lines = []
    for category, numbers in scored[0].items():
        about = {key: numbers.get(key) for key in ("posts", "positives", "prevalence")}
        for metric in METRICS:
            values = [table[category][metric] for table in scored]
            spread = {"sd": float(np.std(values, ddof=1))} if len(values) > 1 else {}
            lines.append({"category": category, "metric": metric, "value": float(np.mean(values)), **spread, **about})
    return lines


def results_of(scores: RowScores) -> pd.DataFrame:
    """Long results of every row: loss, method, category (and Average), metric, value, posts, positives, prevalence.

    With several seeds, `value` is their mean and `sd` their standard deviation. Each risk is scored on the test posts
    that its own pipeline verified, and on no others.
    """
    return pd.DataFrame(
        [
            {"loss": loss, "method": method, **line}
            for (loss, method), by in scores.scored().items()
            for line in over_seeds(list(by.values()))
        ]
    )


def results(index: Sequence[Mapping[str, Any]], posts: Posts, *, runs_dir: Path) -> pd.DataFrame:
    """`results_of` the table rows that the training notebooks' index entries name."""
    return results_of(row_scores(index, posts, runs_dir=runs_dir))


def paper_results() -> pd.DataFrame:
    """The paper's Tables 1 and 2 as a results frame (loss, method, category, metric, value as a fraction)."""
    lines = []
    for number, metrics in TABLES.items():
        table = pd.read_csv(io.StringIO((files("radar_suite.report") / f"paper/table{number}.csv").read_text("utf-8")))
        for row in table.to_dict("records"):
            for category in (*PAPER_CATEGORIES, AVERAGE):
                for metric in metrics:
                    short = "avg" if category == AVERAGE else category
                    value = row[f"{slug(short)}_{slug(metric)}"] / 100
                    line = {"loss": row["loss"], "method": row["method"], "category": category, "metric": metric}
                    lines.append({**line, "value": value})
    return pd.DataFrame(lines)


def wide(
    frame: pd.DataFrame, number: int, values: str = "value", *, order: Sequence[tuple[str, str]] = ROW_ORDER
) -> pd.DataFrame:
    """Table 1 or 2 in percent with two decimals: rows (loss, method), columns (category, metric), as the paper.

    `values` names the column of `frame` that fills the cells: `value`, or `sd` for the spread over seeds. Rows that are
    not in `order` are left out.
    """
    shown = list(dict.fromkeys(frame["category"]))
    table = frame[frame["metric"].isin(TABLES[number])].pivot(
        index=["loss", "method"], columns=["category", "metric"], values=values
    )
    columns = pd.MultiIndex.from_tuples([(c, m) for c in shown for m in TABLES[number]], names=["category", "metric"])
    rows = pd.MultiIndex.from_tuples([row for row in order if row in table.index], names=["loss", "method"])
    return (100 * table.reindex(index=rows, columns=columns)).round(2)


def beside_paper(frame: pd.DataFrame) -> pd.DataFrame:
    """Ours and the paper's in percent, cell by cell, and their difference; only categories that the paper has."""
    keys = ["loss", "method", "category", "metric"]
    joined = frame[[*keys, "value"]].merge(paper_results(), on=keys, suffixes=("", "_paper"), how="inner", sort=False)
    ours, theirs = (100 * joined["value"]).round(2), (100 * joined["value_paper"]).round(2)
    return joined[keys].assign(ours=ours, paper=theirs, difference=(ours - theirs).round(2))


def marks(table: pd.DataFrame) -> pd.DataFrame:
    """'best', 'second' or '' for each cell of a wide table, by column; equal printed numbers share a mark."""
    marked = pd.DataFrame("", index=table.index, columns=table.columns)
    for position in range(table.shape[1]):
        column = table.iloc[:, position]
        distinct = sorted(set(column.dropna()), reverse=True)
        for mark, value in zip(("best", "second"), distinct, strict=False):
            marked.iloc[(column == value).to_numpy(), position] = mark
    return marked


def in_percent(value: float, decimals: int = 2) -> str:
    """Two decimals as the paper prints them; a dash for what is not defined.

    >>> in_percent(12.345), in_percent(float("nan"))
    ('12.35', '-')
    """
    return "-" if np.isnan(value) else f"{value:.{decimals}f}"


def to_csv(table: pd.DataFrame) -> str:
    """CSV in the layout of the paper's own files."""
    flat = table.copy()
    flat.columns = [f"{'avg' if c == AVERAGE else slug(c)}_{slug(m)}" for c, m in table.columns]
    return flat.reset_index().to_csv(index=False, float_format="%.2f", lineterminator="\n")


def to_markdown(
    table: pd.DataFrame,
    paper: pd.DataFrame | None = None,
    spread: pd.DataFrame | None = None,
    *,
    compared: bool = True,
) -> str:
    """Markdown; best in bold, second best underlined; the paper's number in brackets where it has one.

    With `spread`, a table of the same shape, each cell ends in its standard deviation over seeds, where it has one.
    Rows that are not to be `compared` with each other get no marks.
    """
    marked = marks(table) if compared else pd.DataFrame("", index=table.index, columns=table.columns)
    head = ["Loss", "Method", *(f"{c} {m}" for c, m in table.columns)]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * 2 + " ---: |" * table.shape[1]]
    for row in table.index:
        cells = []
        for column in table.columns:
            text = in_percent(table.loc[row, column])
            text = {"best": f"**{text}**", "second": f"<u>{text}</u>", "": text}[marked.loc[row, column]]
            if spread is not None and not np.isnan(spread.loc[row, column]):
                text += f" ± {spread.loc[row, column]:.2f}"
            if paper is not None and row in paper.index and column in paper.columns:
                text += f" ({paper.loc[row, column]:.2f})"
            cells.append(text)
        lines.append("| " + " | ".join([*row, *cells]) + " |")
    return "\n".join(lines) + "\n"


def plain_markdown(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table, numbers to the right, without marks."""
    sides = ["---:" if pd.api.types.is_numeric_dtype(kind) else "---" for kind in frame.dtypes]
    rows = [list(map(str, frame.columns)), sides, *([str(value) for value in row] for row in frame.to_numpy())]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def to_latex(table: pd.DataFrame, *, caption: str, label: str, spread: pd.DataFrame | None = None) -> str:
    """LaTeX (booktabs): bold and underline as in the paper, one block per loss and size group; `spread` in small."""
    marked = marks(table)
    categories = list(dict.fromkeys(table.columns.get_level_values(0)))
    metrics = list(dict.fromkeys(table.columns.get_level_values(1)))
    spans = " & ".join(f"\\multicolumn{{{len(metrics)}}}{{c}}{{{c}}}" for c in categories)
    lines = [
        "\\begin{table*}[t]\\centering\\small",
        f"\\begin{{tabular}}{{ll{'r' * table.shape[1]}}}",
        "\\toprule",
        f"Loss & Method & {spans} \\\\",
        " &  & " + " & ".join(metrics * len(categories)) + " \\\\",
    ]
    previous = None
    for position, (loss, method) in enumerate(table.index):
        if loss != previous:
            lines.append("\\midrule")
        cells = []
        for column in range(table.shape[1]):
            text = in_percent(table.iloc[position, column])
            command = {"best": "\\textbf{%s}", "second": "\\underline{%s}", "": "%s"}[marked.iloc[position, column]]
            apart = np.nan if spread is None else spread.iloc[position, column]
            small = "" if np.isnan(apart) else f" {{\\scriptsize $\\pm${apart:.2f}}}"
            cells.append(command % text + small)
        lines.append(" & ".join([loss if loss != previous else "", method, *cells]) + " \\\\")
        previous = loss
    lines += ["\\bottomrule", "\\end{tabular}", f"\\caption{{{caption}}}", f"\\label{{{label}}}", "\\end{table*}"]
    return "\n".join(lines) + "\n"


def row_evidence(index: Sequence[Mapping[str, Any]], posts: Posts, *, runs_dir: Path, seed: int) -> Evidence:
    """The table rows by (loss, method), with what intervals and differences over test posts need."""
    return row_scores(index, posts, runs_dir=runs_dir).evidence(seed=seed)


def with_intervals(frame: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
    """A results frame with the ends `low` and `high` of each cell's 95 % interval over test posts, and a `note`.

    The note marks an R@P so small that how often its interval covers is not promised. Where every row has several runs,
    there are also the intervals over seeds (`seeds_low`, `seeds_high`) and over both (`both_low`, `both_high`).
    """
    lines = zip(frame["loss"], frame["method"], frame["category"], frame["metric"], strict=True)
    places = [((loss, method), category, metric) for loss, method, category, metric in lines]
    columns: dict[str, list[Any]] = {}
    for over in ("posts", "seeds", "both") if min(map(evidence.seeds, evidence.rows)) > 1 else ("posts",):
        prefix = "" if over == "posts" else f"{over}_"
        found = [evidence.interval(*place, over=over) for place in places]
        columns |= {f"{prefix}low": [one.low for one in found], f"{prefix}high": [one.high for one in found]}
    return frame.assign(**columns, note=[coverage_note(evidence, [row], *place) for row, *place in places])


def interval_markdown(frame: pd.DataFrame, number: int) -> str:
    """Table 1 or 2 with each cell's 95 % interval over test posts, in percent, as Markdown; rows as in the frame.

    A degree sign marks an R@P so small that how often its interval covers is not promised.

    Args:
        frame: of `with_intervals`.
    """
    shown = frame[frame["metric"].isin(TABLES[number])]
    points = (100 * shown[["value", "low", "high"]].to_numpy(dtype=float)).tolist()
    texts = [
        in_percent(value, 1) + ("" if np.isnan(low) else f" [{low:.1f}, {high:.1f}]") + ("°" if note else "")
        for (value, low, high), note in zip(points, shown["note"].fillna(""), strict=True)
    ]
    named = shown.assign(cell=texts, column=shown["category"] + " " + shown["metric"])
    table = named.pivot(index=["loss", "method"], columns="column", values="cell")
    rows = pd.MultiIndex.from_frame(shown[["loss", "method"]].drop_duplicates())
    columns = [f"{category} {metric}" for category in shown["category"].unique() for metric in TABLES[number]]
    head = {"loss": "Loss", "method": "Method"}
    return plain_markdown(table.reindex(rows)[columns].reset_index().rename(columns=head))


def coverage_note(evidence: Evidence, rows: Iterable[Hashable], category: str, metric: str) -> str:
    """`UNRELIABLE` where an R@P of one of the rows is too small for a promise of coverage, else empty."""
    values = [evidence.value(row, category, metric) for row in rows if metric.startswith("R@P")]
    return "" if all(np.isnan(one) or recall_at_precision_is_reliable(one) for one in values) else UNRELIABLE


def learned(frame: pd.DataFrame, losses: Sequence[str]) -> pd.DataFrame:
    """PR-AUC with its interval beside the prevalence, which scores without information reach, by row and risk.

    `learned` is True where the interval's lower end, or a perfect order, which has none, lies above the prevalence.
    `frame`: of `with_intervals`.
    """
    kept = frame[(frame["metric"] == "PR-AUC") & (frame["category"] != AVERAGE) & frame["loss"].isin(losses)]
    columns = ["loss", "method", "category", "PR-AUC", "low", "high", "prevalence"]
    kept = kept.rename(columns={"value": "PR-AUC"})[columns]
    return kept.assign(learned=kept["low"].fillna(kept["PR-AUC"]) > kept["prevalence"]).reset_index(drop=True)
