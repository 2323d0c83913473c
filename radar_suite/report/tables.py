"""Tables 1 and 2 of the paper from scores: the numbers, the paper's own beside them, and how they are shown.

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
from pandas.io.formats.style import Styler

from radar_lib.data.posts import Posts, labels
from radar_lib.data.schema import group_numbers
from radar_lib.errors import RadarError
from radar_lib.evidence import AVERAGE, Evidence
from radar_lib.intervals import RELIABLE_RECALL, bootstrap, percentile_interval, recall_at_precision_is_reliable
from radar_lib.labels import column_name
from radar_lib.metrics import auto_pass
from radar_lib.training.scores import logits_for, read_scores
from radar_suite.report.experiments import TABLE_ROWS, by_seed
from radar_suite.report.row_scores import RowScores

TABLES: Mapping[int, tuple[str, str]] = {1: ("PR-AUC", "R@P60"), 2: ("APR@R90", "APR@R95")}
TITLES = {1: "Risk detection capability", 2: "Traffic reduction"}
METRICS = tuple(metric for pair in TABLES.values() for metric in pair)
RECALLS, AUTO_PASS_REPLICATES = (0.9, 0.95), 500
PAPER_CATEGORIES = ("LQC", "RCS", "FE")
UNRELIABLE = f"below {100 * RELIABLE_RECALL:g} %: no coverage promised"
CSS = {"best": "font-weight: bold", "second": "text-decoration: underline", "": ""}
LATEX = {"best": "textbf:--rwrap", "second": "underline:--rwrap", "": ""}
ROW_ORDER = [(row.loss, row.method) for row in TABLE_ROWS]


def slug(name: str) -> str:
    """Column name of the paper's CSV files: 'R@P60' becomes 'r_at_p60'."""
    return column_name(name.replace("@", "_at_"))


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
        scores = read_scores(runs_dir / entry["scores_path"], digest=entry["scores_digest"])
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
    split: str = "test",
) -> RowScores:
    """The logits of these rows on the posts of a split, at every seed; each risk on the posts verified for it.

    Raises:
        RadarError: a row has no run, a risk no scores, or a verified post is missing from them.
    """
    test = posts.table(split)
    truth, ids = labels(test, posts.categories), test["post_id"].tolist()
    rows = {
        row: {one[0]["seed"]: row_logits(one, ids, truth, posts.categories, runs_dir=runs_dir) for one in by_seed(own)}
        for row, own in group_rows(index, order).items()
    }
    return RowScores(ids, truth, posts.categories, rows, group_numbers(test), posts.kind)


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


def results(scores: RowScores) -> pd.DataFrame:
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


def cell_texts(
    table: pd.DataFrame, paper: pd.DataFrame | None = None, spread: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Each cell of a wide table as text: our number, its standard deviation over seeds, the paper's in brackets."""
    texts = table.map(in_percent)
    if spread is not None:
        texts += spread.map(lambda value: "" if np.isnan(value) else f" ± {value:.2f}")
    if paper is not None:
        printed = paper.reindex(index=table.index, columns=table.columns)
        texts += printed.map(lambda value: "" if np.isnan(value) else f" ({value:.2f})")
    return texts


def style_table(
    table: pd.DataFrame, paper: pd.DataFrame | None = None, spread: pd.DataFrame | None = None, *, caption: str = ""
) -> Styler:
    """A wide table to look at: best in bold, second best underlined, by column; the cells are `cell_texts`."""
    looks = marks(table).map(CSS.get)
    return cell_texts(table, paper, spread).style.apply(lambda _: looks, axis=None).set_caption(caption)


def to_csv(table: pd.DataFrame) -> str:
    """A wide table as CSV in the layout of the paper's own files."""
    flat = table.copy()
    flat.columns = [f"{'avg' if c == AVERAGE else slug(c)}_{slug(m)}" for c, m in table.columns]
    return flat.reset_index().to_csv(index=False, float_format="%.2f", lineterminator="\n")


def to_latex(table: pd.DataFrame, *, caption: str, label: str, spread: pd.DataFrame | None = None) -> str:
    """A wide table as LaTeX (booktabs): bold and underlined as in the paper."""
    commands = marks(table).map(LATEX.get)
    styled = cell_texts(table, spread=spread).style.apply(lambda _: commands, axis=None).format(escape="latex")
    styled = styled.format_index(escape="latex", axis=0).format_index(escape="latex", axis=1)
    styled = styled.hide(names=True, axis=0).hide(names=True, axis=1)
    escaped = re.sub(r"[&%$#_{}]", r"\\\g<0>", re.sub(r"[\\~^]", " ", caption))
    text = styled.to_latex(
        hrules=True, environment="table*", position="t", position_float="centering",
        multicol_align="c", column_format="ll" + "r" * table.shape[1], label=label, caption=escaped,
    )  # fmt: skip
    return text.replace("±", "$\\pm$")


def to_markdown(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table without its index, numbers to the right; cells may hold Markdown of their own."""
    sides = ["---:" if pd.api.types.is_numeric_dtype(kind) else "---" for kind in frame.dtypes]
    cells = ([str(value).replace("|", r"\|") for value in row] for row in frame.to_numpy())
    rows = [list(map(str, frame.columns)), sides, *cells]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def with_intervals(frame: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
    """A results frame with the ends `low` and `high` of each cell's 95 % interval over test posts, and a `note`.

    The note marks an R@P so small that how often its interval covers is not promised. Where each of these rows has
    several runs, there are also the intervals over seeds (`seeds_low`, `seeds_high`) and over both (`both_low`,
    `both_high`).
    """
    lines = zip(frame["loss"], frame["method"], frame["category"], frame["metric"], strict=True)
    places = [((loss, method), category, metric) for loss, method, category, metric in lines]
    columns: dict[str, list[Any]] = {}
    fewest = min((evidence.seeds(row) for row, *_ in places), default=1)
    for over in ("posts", "seeds", "both") if fewest > 1 else ("posts",):
        prefix = "" if over == "posts" else f"{over}_"
        found = [evidence.interval(*place, over=over) for place in places]
        columns |= {f"{prefix}low": [one.low for one in found], f"{prefix}high": [one.high for one in found]}
    return frame.assign(**columns, note=[coverage_note(evidence, [row], *place) for row, *place in places])


def auto_pass_results(scores: RowScores, *, seed: int) -> pd.DataFrame:
    """Share of test posts that a row releases for all risks at once, each at its own threshold (`metrics.auto_pass`).

    Args:
        seed: of the bootstrap.

    Returns:
        A line per row and recall: loss, method, recall, value (mean over seeds) and its 95 % interval over test posts,
        as fractions. No lines where some test post was not verified for every risk.
    """
    if (scores.truth < 0).any():
        return pd.DataFrame()
    rows = {row: list(runs.values()) for row, runs in scores.rows.items()}

    def released(weights: np.ndarray | None) -> np.ndarray:
        return np.array([[np.mean([auto_pass(scores.truth, one, recall=recall, weights=weights) for one in runs], 0)
                          for recall in RECALLS] for runs in rows.values()])  # fmt: skip

    drawn = bootstrap(
        released, posts=len(scores.truth), groups=scores.groups, replicates=AUTO_PASS_REPLICATES, seed=seed
    )
    lines = []
    for (loss, method), values, replicates in zip(rows, released(None), drawn, strict=True):
        for recall, value, own in zip(RECALLS, values, replicates, strict=True):
            ends = percentile_interval(float(value), own)
            lines.append({"loss": loss, "method": method, "recall": recall, "value": ends.estimate,
                          "low": ends.low, "high": ends.high})  # fmt: skip
    return pd.DataFrame(lines)


def interval_table(frame: pd.DataFrame, number: int) -> pd.DataFrame:
    """Table 1 or 2 with each cell's 95 % interval over test posts as text, in percent; rows as in the frame.

    A degree sign marks an R@P so small that how often its interval covers is not promised.

    Args:
        frame: of `with_intervals`.
    """
    own = frame[frame["metric"].isin(TABLES[number])]
    points = (100 * own[["value", "low", "high"]].to_numpy(dtype=float)).tolist()
    texts = [
        in_percent(value, 1) + ("" if np.isnan(low) else f" [{low:.1f}, {high:.1f}]") + ("°" if note else "")
        for (value, low, high), note in zip(points, own["note"].fillna(""), strict=True)
    ]
    columns = [f"{category} {metric}" for category in own["category"].unique() for metric in TABLES[number]]
    table = own.assign(cell=texts, column=own["category"] + " " + own["metric"])
    table = table.pivot(index=["loss", "method"], columns="column", values="cell")
    rows = pd.MultiIndex.from_frame(own[["loss", "method"]].drop_duplicates())
    return table.reindex(rows)[columns].reset_index().rename(columns={"loss": "Loss", "method": "Method"})


def coverage_note(evidence: Evidence, rows: Iterable[Hashable], category: str, metric: str) -> str:
    """`UNRELIABLE` where an R@P of one of the rows is too small for a promise of coverage, else empty."""
    values = [evidence.value(row, category, metric) for row in rows if metric.startswith("R@P")]
    return "" if all(np.isnan(one) or recall_at_precision_is_reliable(one) for one in values) else UNRELIABLE


def above_chance(frame: pd.DataFrame) -> pd.DataFrame:
    """PR-AUC with its interval beside the prevalence, which scores without information reach, by row and risk.

    `verdict` is 'above chance' where the interval's lower end, or a perfect order, which has none, lies above the
    prevalence. Rows without a mask are not asked: they learn from labels that are partly wrong on purpose.

    Args:
        frame: of `with_intervals`.
    """
    frame = frame.astype(dict.fromkeys(("value", "low", "high", "prevalence"), float))
    asked = frame["loss"].isin(["BCE", "Masked BCE", "Masked BCE + Distill"])
    kept = frame[(frame["metric"] == "PR-AUC") & (frame["category"] != AVERAGE) & asked]
    columns = ["loss", "method", "category", "PR-AUC", "low", "high", "prevalence"]
    kept = kept.rename(columns={"value": "PR-AUC"})[columns].reset_index(drop=True)
    clear = kept["low"].fillna(kept["PR-AUC"]) > kept["prevalence"]
    return kept.assign(verdict=clear.map({True: "above chance", False: "not shown"}))
