"""The figures of the notebooks, as functions of tidy frames; each returns a matplotlib Figure and saves nothing.

Colour never carries a meaning alone: markers, line styles or positions repeat it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float, Int8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from radar_lib.metrics import pr_curve
from radar_lib.training.loop import History
from radar_suite.report.claims import CHOSEN, FAILS, HOLDS, OPEN, REVERSED, SHOWS, UNTESTABLE
from radar_suite.report.drawing import fold, panels, place_legend
from radar_suite.report.style import BLACK, LINE_STYLES, LOSS_COLOURS, MARKERS, category_colour, look
from radar_suite.report.tables import AVERAGE, METRICS, ROW_ORDER

MOST_COLUMNS = 16  # of the verdicts side by side; further risks stand below
VERDICTS = {  # look of a cell, and its mark
    HOLDS: ({"facecolor": "#b7dfcb"}, "✓"),
    FAILS: ({"facecolor": "#f3c4a5"}, "✗"),
    OPEN: ({"facecolor": "#eeeeee"}, ""),
    SHOWS: ({"facecolor": "#c6dff0"}, "="),
    REVERSED: ({"facecolor": "#eed3e3"}, "↑"),
    CHOSEN: ({"facecolor": "white", "hatch": "....", "edgecolor": "#d9cfa8"}, "◦"),
    UNTESTABLE: ({"facecolor": "white", "hatch": "///", "edgecolor": "#dddddd"}, ""),
}


def training_curves(histories: Mapping[str, History], *, metric_name: str = "validation PR-AUC") -> Figure:
    """Loss by step (left) and validation PR-AUC by epoch, averaged over risks (right), one line per run."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.4))
    for position, (name, history) in enumerate(histories.items()):
        line = {
            "color": category_colour(position),
            "linestyle": LINE_STYLES[(position // 7) % len(LINE_STYLES)],
            "marker": MARKERS[position % len(MARKERS)],
            "markersize": 4,
            "label": name,
        }
        left.plot([s["step"] for s in history.steps], [s["loss"] for s in history.steps], **line)
        right.plot([e["epoch"] for e in history.epochs], 100 * np.array(history.validation()), **line)
    left.set(title="training loss", xlabel="optimiser step", ylabel="loss (nats per post)")
    right.set(title=metric_name, xlabel="epoch", ylabel="PR-AUC (%)")
    right.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.legend(*left.get_legend_handles_labels(), loc="outside right upper")
    return figure


def pr_curves(
    truth: Int8[np.ndarray, "post category"],
    logits: Mapping[str, Float[np.ndarray, "post category"]],
    categories: Sequence[str],
) -> Figure:
    """Precision against recall of several models, one panel per risk, on the posts verified for that risk.

    The dotted lines are the prevalence, and the 60 % at which R@P60 reads a curve.
    """
    figure, axes = panels(len(categories), size=(3.6, 3.3), sharey=True)
    for k, (axis, category) in enumerate(zip(axes, categories, strict=True)):
        known = truth[:, k] >= 0
        y = truth[known, k]
        for position, (name, values) in enumerate(logits.items()):
            curve = pr_curve(y, values[known, k])
            style = {"color": category_colour(position), "linestyle": LINE_STYLES[position % len(LINE_STYLES)]}
            axis.plot(100 * curve.recall, 100 * curve.precision, marker="", label=name, **style)
        for height in (100 * y.mean(), 60):
            axis.axhline(height, color=BLACK, linewidth=0.8, linestyle=":")
        title = fold(f"{category}: {int(y.sum())} of {len(y):,} posts violate", 33)
        axis.set(title=title, xlabel="recall (%)", ylim=(0, 102))
    for axis in axes[::4]:
        axis.set_ylabel("precision (%)")
    place_legend(figure, *axes[0].get_legend_handles_labels(), loc="lower center", most=4)
    return figure


def rows_against_paper(
    frame: pd.DataFrame, paper: pd.DataFrame | None, references: Mapping[str, pd.DataFrame] | None = None
) -> Figure:
    """Average of the four metrics, one line per table row: ours filled, the paper's hollow where it has one.

    Where `frame` has the columns `low` and `high`, a bar between them is the interval of ours.

    Args:
        references: by name, results of rows to read the others against, drawn as upright lines.
    """
    figure, axes = plt.subplots(1, len(METRICS), figsize=(12.5, 4.4), sharey=True)
    ours = frame[frame["category"] == AVERAGE].set_index(["loss", "method", "metric"])
    theirs = None if paper is None else paper[paper["category"] == AVERAGE].set_index(["loss", "method", "metric"])
    heights = np.arange(len(ROW_ORDER))[::-1]
    for axis, metric in zip(axes, METRICS, strict=True):
        for height, (loss, method) in zip(heights, ROW_ORDER, strict=True):
            mine, colour = ours.loc[(loss, method, metric)], LOSS_COLOURS[loss]
            value = 100 * mine["value"]
            axis.plot(value, height, marker="o", color=colour, zorder=3)
            if "low" in mine:
                ends = [100 * mine["low"], 100 * mine["high"]]
                axis.plot(ends, [height, height], marker="|", color=colour, linewidth=1.6, zorder=2)
            if theirs is not None:
                other = 100 * theirs.loc[(loss, method, metric), "value"]
                axis.plot([value, other], [height, height], color="#bbbbbb", linewidth=1, marker="", zorder=1)
                axis.plot(other, height, marker="o", markerfacecolor="white", color=colour, zorder=2)
        for (name, lines), style in zip((references or {}).items(), LINE_STYLES[3:] + LINE_STYLES, strict=False):
            (value,) = lines[(lines["category"] == AVERAGE) & (lines["metric"] == metric)]["value"]
            axis.axvline(100 * value, color="#666666", linewidth=1.2, linestyle=style, marker="", label=name, zorder=0)
        axis.set(title=metric, xlabel="average over risks (%)")
    if references:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(references))
    axes[0].set_yticks(heights, [f"{method}  ({loss})" for loss, method in ROW_ORDER])
    return figure


def lambda_study(frame: pd.DataFrame, categories: Sequence[str]) -> Figure:
    """Figure 2 a-d: each metric against lambda, one line per risk; the dotted line is lambda = 0.

    Args:
        frame: columns lambda, category, metric, value (fraction), and sd, drawn as a band, where there are seeds.
        categories: order of the lines.
    """
    figure, axes = plt.subplots(2, 2, figsize=(9.2, 6.2), sharex=True)
    for letter, axis, metric in zip("abcd", axes.flat, METRICS, strict=True):
        for k, category in enumerate(categories):
            part = frame[(frame["metric"] == metric) & (frame["category"] == category)].sort_values("lambda")
            values = 100 * part["value"].to_numpy()
            colour = category_colour(k)
            axis.plot(part["lambda"], values, label=category, **look(k))
            axis.axhline(values[0], color=colour, linewidth=0.8, linestyle=":")
            if "sd" in part:
                spread = 100 * part["sd"].to_numpy()
                axis.fill_between(part["lambda"], values - spread, values + spread, color=colour, alpha=0.15)
        axis.set(title=f"({letter}) {metric}", ylabel=f"{metric} (%)")
        if frame.loc[frame["metric"] == metric, "value"].max() == 0:
            axis.set_ylim(0, 1)
    for axis in axes[1]:
        axis.set_xlabel("distillation coefficient λ")
    place_legend(figure, *axes[0, 0].get_legend_handles_labels(), loc="upper center", most=len(categories))
    return figure


def reliability(bins: pd.DataFrame, *, title: str) -> Figure:
    """Mean predicted probability against observed rate, one panel per risk and one line per group of cells.

    Args:
        bins: columns category, group, predicted, observed, and low and high, the ends of the observed rate's interval.
        title: of the whole figure.
    """
    categories = list(dict.fromkeys(bins["category"]))
    figure, axes = panels(len(categories), size=(3.5, 3.5), sharey=True)
    for axis, category in zip(axes, categories, strict=True):
        axis.plot([0, 1], [0, 1], color="#999999", linewidth=0.9, marker="", linestyle=":")
        for position, (group, part) in enumerate(bins[bins["category"] == category].groupby("group", sort=False)):
            style = {"color": category_colour(position), "marker": MARKERS[position]}
            axis.plot(part["predicted"], part["observed"], label=group, **style)
            axis.vlines(part["predicted"], part["low"], part["high"], color=style["color"], linewidth=0.8, alpha=0.6)
        axis.set(title=category, xlabel="expert's mean probability")
    for axis in axes[::4]:
        axis.set_ylabel("observed rate of violation")
    axes[-1].legend(loc="upper left")
    figure.suptitle(title if len(categories) > 1 else fold(title, 40), fontsize=10.5)
    return figure


def draw_words(records: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure:
    """Average precision of caption words, one row per stand-in and one column per word, best told first.

    Args:
        records: by stand-in, of each word 'part:word' its `ap` and `prevalence` in percent.
    """
    frame = pd.DataFrame({name: {word: one["ap"] for word, one in words.items()} for name, words in records.items()})
    some = next(iter(records.values()))
    frame["a random ranking"] = [some[word]["prevalence"] if word in some else np.nan for word in frame.index]
    parts = list(dict.fromkeys(word.split(":")[0] for word in frame.index))
    figure, axes = plt.subplots(len(parts), 1, figsize=(13, 3.2 * len(parts)), squeeze=False)
    for axis, part in zip(axes[:, 0], parts, strict=True):
        mine = frame[frame.index.str.startswith(f"{part}:")]
        mine = mine.loc[mine.mean(axis=1).sort_values(ascending=False).index]
        image = axis.imshow(mine.T.to_numpy(), vmin=0, vmax=100, cmap="viridis", aspect="auto", interpolation="nearest")
        names = [word.split(":")[1] for word in mine.index]
        axis.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        means = [f"{name}, mean {value:.0f} %" for name, value in mine.mean().items()]
        axis.set_yticks(range(frame.shape[1]), means, fontsize=8)
        axis.set_title(f"words {part}", fontsize=9.5)
        axis.grid(False)
    figure.colorbar(image, ax=axes[:, 0].tolist(), label="average precision (%)", fraction=0.02, pad=0.01)
    return figure


def format_signed(points: float) -> str:
    """One decimal with its sign, two where one would round to zero; a dash for what is not defined.

    >>> format_signed(1.26), format_signed(-0.04), format_signed(0.0), format_signed(float("nan"))
    ('+1.3', '-0.04', '0.0', '-')
    """
    if np.isnan(points):
        return "-"
    decimals = 1 if abs(points) >= 0.05 else 2
    text = f"{points:+.{decimals}f}"
    return "0.0" if float(text) == 0 else text


def verdicts(decided: pd.DataFrame) -> Figure:
    """The comparisons behind claims as a grid: a line per pair of rows, a column per risk and metric.

    Claims about the same pair share its line if each has its own columns; the claims stand to the right of their lines,
    and heavy lines part them. Risks that would make it wider than a page stand in a further grid below.

    A cell prints ours and, below it, the paper's difference in points; a star marks the paper's exceptions. Colour and
    mark say the verdict: a tick where it holds, a cross where it fails, = where an exception shows as in the paper,
    an arrow where it is reversed, nothing where it stays open, a ring where it is by construction.

    Args:
        decided: of `claims.decide`.
    """
    pair, metrics = ["row", "against"], [metric for metric in METRICS if metric in set(decided["metric"])]
    if decided.duplicated([*pair, "category", "metric"]).any():
        pair.append("claim")
    claims = decided.groupby(pair, sort=False)["claim"].agg(lambda names: "; ".join(dict.fromkeys(names)))
    risks, at_once = list(dict.fromkeys(decided["category"])), MOST_COLUMNS // len(metrics)
    blocks = [risks[start : start + at_once] for start in range(0, len(risks), at_once)]
    width, height = len(metrics) * len(blocks[0]), 1.4 + 0.4 * len(claims)
    figure, grid = plt.subplots(len(blocks), figsize=(4.4 + 0.66 * width, height * len(blocks)), squeeze=False)
    for axis, block in zip(grid.flat, blocks, strict=True):
        columns = [(category, metric) for category in block for metric in metrics]
        _verdict_grid(axis, decided[decided["category"].isin(block)], claims, columns, width)
    seen = [verdict for verdict in VERDICTS if verdict in set(decided["verdict"])]
    key = [Patch(label=f"{mark} {verdict}".strip(), **{"edgecolor": look["facecolor"]} | look)
           for verdict in seen for look, mark in [VERDICTS[verdict]]]  # fmt: skip
    place_legend(figure, key, [patch.get_label() for patch in key], loc="lower center", most=len(key), fontsize=7)
    return figure


def mask_by_population(decided: Mapping[str, pd.DataFrame]) -> Figure:
    """What the mask changes, average over risks: a panel per metric, a line per backbone, a mark per test population.

    Bars are 95 % intervals; the paper's difference, where it has one, is a cross.

    Args:
        decided: of `claims.decide`, by the name of the population that the test posts are from.
    """
    metrics = [metric for metric in METRICS if any(metric in set(part["metric"]) for part in decided.values())]
    figure, axes = panels(len(metrics), size=(3.0, 2.6), sharey=True)
    for axis, metric in zip(axes, metrics, strict=True):
        axis.axvline(0, color=BLACK, linewidth=1, linestyle=":")
        for position, (name, part) in enumerate(decided.items()):
            own = part[(part["category"] == AVERAGE) & (part["metric"] == metric)]
            height = -np.arange(len(own)) + 0.13 * (len(decided) - 1 - 2 * position)
            ends = np.abs(own[["low", "high"]].to_numpy(float).T - own["ours"].to_numpy(float))
            axis.errorbar(own["ours"], height, xerr=ends, linestyle="", color=category_colour(position),
                          marker=MARKERS[position], markersize=5, label=name)  # fmt: skip
        if own["paper"].notna().any():
            axis.plot(own["paper"], -np.arange(len(own)), "x", color=BLACK, markersize=6, label="the paper")
        names = [row.rpartition(", ")[2] for row in own["row"]]
        axis.set(title=metric, xlabel="masked minus unmasked\n(points)", yticks=-np.arange(len(own)), yticklabels=names,
                 ylim=(0.5 - len(own), 0.5))  # fmt: skip
        axis.grid(axis="y", visible=False)
    place_legend(figure, *axes[0].get_legend_handles_labels(), loc="lower center", most=3)
    return figure


def _verdict_grid(
    axis: Axes, decided: pd.DataFrame, claims: pd.Series, columns: Sequence[tuple[str, str]], width: int
) -> None:
    """One block of `verdicts`, as wide as `width` columns; `claims` by the names of its lines."""
    lines = [name if isinstance(name, tuple) else (name,) for name in claims.index]
    for one in decided.itertuples():
        line = tuple(getattr(one, name) for name in claims.index.names)
        x, y, (look, mark) = columns.index((one.category, one.metric)), lines.index(line), VERDICTS[one.verdict]
        axis.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, **{"edgecolor": "white"} | look))
        paper = "" if pd.isna(one.paper) else f"\n{format_signed(one.paper)}{'*' if one.exception else ''}"
        axis.text(x, y, f"{mark} {format_signed(one.ours)}".strip() + paper, ha="center", va="center", fontsize=7)
    axis.set(xlim=(-0.5, width - 0.5), ylim=(len(lines) - 0.5, -0.5))
    short = all(len(category) <= 9 for category, _ in columns)
    axis.set_xticks(range(len(columns)), [f"{c}\n{m}" if short else m for c, m in columns], fontsize=7)
    axis.xaxis.tick_top()
    for category in () if short else dict.fromkeys(category for category, _ in columns):  # once, above its columns
        own = [x for x, (name, _) in enumerate(columns) if name == category]
        place = {"xycoords": axis.get_xaxis_transform(), "xytext": (0, 18), "textcoords": "offset points"}
        axis.annotate(fold(category, 9 * len(own)), (np.mean(own), 1), ha="center", fontsize=7, **place)
    axis.set_yticks(range(len(lines)), [f"{row}\nagainst {other}" for row, other, *_ in lines], fontsize=7)
    axis.tick_params(length=0)
    axis.grid(False)
    starts = [y for y in range(len(lines)) if not y or claims.iloc[y] != claims.iloc[y - 1]]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        said = textwrap.fill(claims.iloc[start], 30, max_lines=3 * (end - start))
        axis.annotate(said, (width - 0.4, (start + end - 1) / 2), va="center", fontsize=7, annotation_clip=False)
        if start:
            axis.axhline(start - 0.5, color=BLACK, linewidth=1)
