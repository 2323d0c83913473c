"""The figures of the notebooks, as functions of tidy frames; each returns a matplotlib Figure and saves nothing.

Colour never carries a meaning alone: markers, line styles or positions repeat it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float, Int8
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from radar_lib.metrics import pr_curve
from radar_lib.training.loop import History
from radar_suite.report.claims import ABOVE, BELOW, CHOSEN
from radar_suite.report.drawing import fold, panels, place_legend
from radar_suite.report.style import BLACK, BLUE, LINE_STYLES, LOSS_COLOURS, MARKERS, ORANGE, category_colour
from radar_suite.report.tables import AVERAGE, METRICS, ROW_ORDER

MEAN = "endpoint: mean of these"  # a line of a forest plot
LEAST_POINTS = 5  # that an axis of differences shows to either side of zero, so that noise is not magnified


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
        axis.set(title=metric, xlabel="average over risks (%)", xlim=(-3, 103))
    if references:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(references))
    axes[0].set_yticks(heights, [f"{method}  ({loss})" for loss, method in ROW_ORDER])
    return figure


def lambda_study(
    frame: pd.DataFrame, categories: Sequence[str], paper: Mapping[tuple[str, str], float] | None = None
) -> Figure:
    """Figure 2 a-d: what each metric gains along lambda, in points; a column per metric, a row per risk.

    Bands are paired 95 % intervals of the difference from the smallest lambda, whose level is printed. The panels of a
    column share one scale, of `LEAST_POINTS` or more to either side of zero.

    Args:
        frame: columns lambda, category, metric, and as fractions value, difference, low and high.
        categories: order of the rows, below the average if it is among them.
        paper: by category and metric the paper's difference in points, drawn as a dashed line.
    """
    categories = sorted(categories, key=lambda category: category != AVERAGE)
    size = (9.2, 1.1 + 1.25 * len(categories))
    figure, grid = plt.subplots(len(categories), 4, figsize=size, sharex=True, sharey="col", squeeze=False)
    shown = frame[frame["category"].isin(categories)].groupby("metric")[["low", "high"]]
    widest = (100 * shown.agg(lambda ends: ends.abs().max()).max(axis=1)).clip(lower=LEAST_POINTS)
    for row, category in zip(grid, categories, strict=True):
        for axis, metric in zip(row, METRICS, strict=True):
            part = frame[(frame["metric"] == metric) & (frame["category"] == category)].sort_values("lambda")
            low, high = (100 * part[end].to_numpy(float) for end in ("low", "high"))
            axis.fill_between(part["lambda"], low, high, color=BLUE, alpha=0.18, linewidth=0)
            axis.axhline(0, color=BLACK, linewidth=0.8, linestyle=":", marker="")
            axis.plot(part["lambda"], 100 * part["difference"], color=BLUE, marker="o", markersize=3.5)
            if paper and (category, metric) in paper:
                axis.axhline(paper[category, metric], color=ORANGE, linewidth=1.4, linestyle="--", marker="")
            first = part.iloc[0]
            level = f"{100 * first['value']:.1f} % at {first['lambda']:g}"
            axis.text(0.03, 0.04, level, transform=axis.transAxes, fontsize=7.5, color="#444444")
            axis.set(ylim=(-1.3 * widest[metric], 1.1 * widest[metric]), xticks=[0, 0.5, 1])
            axis.tick_params(labelsize=8)
        row[0].set_ylabel(fold(category, 13), fontsize=8.5)
    for letter, top, foot, metric in zip("abcd", grid[0], grid[-1], METRICS, strict=True):
        top.set_title(f"({letter}) {metric}")
        foot.set_xlabel("λ")
    looks = {"points gained, paired 95 % interval": {"color": BLUE, "marker": "o", "markersize": 3.5},
             "the paper's distilled row": {"color": ORANGE, "linestyle": "--"}}  # fmt: skip
    names = list(looks)[: 2 if paper else 1]
    place_legend(figure, [plt.Line2D([], [], **looks[name]) for name in names], names, loc="lower center", most=2)
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
    """Average precision of caption words, a line per stand-in and a dot per word; an upright stroke is their mean.

    The last line is a random ranking. The words that are told worst of all, by their mean, are named in the titles.

    Args:
        records: by stand-in, of each word 'part:word' its `ap` and `prevalence` in percent.
    """
    frame = pd.DataFrame({name: {word: one["ap"] for word, one in words.items()} for name, words in records.items()})
    some = next(iter(records.values()))
    frame["a random ranking"] = [some[word]["prevalence"] if word in some else np.nan for word in frame.index]
    parts = list(dict.fromkeys(word.split(":")[0] for word in frame.index))
    figure, axes = panels(len(parts), size=(4.6, 1.2 + 0.3 * frame.shape[1]), sharey=True)
    for axis, part in zip(axes, parts, strict=True):
        mine = frame[frame.index.str.startswith(f"{part}:")]
        for height, name in enumerate(mine):
            colour = "#777777" if height == len(records) else BLUE
            axis.plot(
                mine[name], [height] * len(mine), linestyle="", marker="o", markersize=5, color=colour, alpha=0.25
            )
            axis.plot(
                mine[name].mean(), height, linestyle="", marker="|", markersize=15, markeredgewidth=2, color=BLACK
            )
        worst = mine[list(records)].mean(axis=1).nsmallest(4).index
        hardest = ", ".join(word.split(":")[1] for word in worst)
        axis.set(title=fold(f"{len(mine)} words {part}; hardest: {hardest}", 44), xlabel="average precision (%)")
        axis.set(
            xlim=(-3, 103), ylim=(frame.shape[1] - 0.5, -0.5), yticks=range(frame.shape[1]), yticklabels=frame.columns
        )
        axis.grid(axis="y", visible=False)
    return figure


def forest(decided: Mapping[str, pd.DataFrame], claims: pd.DataFrame | None = None) -> Figure:
    """Differences of averages over risks: a panel per metric, a line per pair of rows, our 95 % interval, the paper's.

    Lines stand under their claim. A mark is filled where the cell's corrected verdict tells it from zero, hollow where
    it does not or nothing was tested; an upright stroke is the paper's difference.

    Args:
        decided: of `claims.decide`, by the name of the population that the test posts are from.
        claims: of `claims.summary`; an endpoint that is the mean of several pairs gets a diamond, on a line of its own.
    """
    lines = pd.concat([part.assign(population=name) for name, part in decided.items()])
    lines = lines[(lines["category"] == AVERAGE) | (lines["category"].nunique() == 1)]
    metrics = [metric for metric in METRICS if metric in set(lines["metric"])]
    heights: dict[tuple[str, str], int] = {}  # of a heading, (claim, ''), and of its lines
    for claim, part in lines.groupby("claim", sort=False):
        rows = list(dict.fromkeys(part["row"]))
        for row in ("", *rows, *([MEAN] if claims is not None and len(rows) > 1 else [])):
            heights[str(claim), row] = -len(heights)
    paper = {"color": BLACK, "marker": "|", "linestyle": "", "zorder": 4}
    sizes = {"figsize": (9.2, 1.3 + 0.23 * len(heights)), "width_ratios": [1.5, 1, 1, 1][: len(metrics)]}
    figure, grid = plt.subplots(1, len(metrics), sharey=True, squeeze=False, **sizes)
    for axis, metric in zip(grid[0], metrics, strict=True):
        own = lines[(lines["metric"] == metric) & lines["ours"].notna()]
        for position, name in enumerate(decided):
            shift = 0.17 * (len(decided) - 1 - 2 * position)
            for one in own[own["population"] == name].itertuples():
                height, colour = heights[one.claim, one.row], category_colour(position)
                fill = colour if one.verdict in (ABOVE, BELOW) else "white"
                axis.plot([one.low, one.high], [height + shift] * 2, color=colour, linewidth=1.4, marker="")
                axis.plot(one.ours, height + shift, MARKERS[position], color=colour, markerfacecolor=fill, markersize=5)
                axis.plot(one.paper, height, **paper, markersize=11, markeredgewidth=1.8)
        for one in () if claims is None else claims[claims["metric"] == metric].itertuples():
            if (height := heights.get((one.claim, MEAN))) is not None:
                axis.plot([one.low, one.high], [height, height], color=BLUE, linewidth=2.6, marker="")
                axis.plot(one.ours, height, "D", color=BLUE, markersize=7)
                axis.plot(one.paper, height, **paper, markersize=14, markeredgewidth=2.4)
        axis.axvline(0, color=BLACK, linewidth=1, linestyle=":", marker="")
        low, high = axis.get_xlim()
        axis.set(title=metric, xlabel="points", ylim=(0.6 - len(heights), 0.6))
        axis.set_xlim(min(low, -LEAST_POINTS), max(high, LEAST_POINTS))
        axis.grid(axis="y", visible=False)
        axis.tick_params(labelsize=8.5)
        axis.tick_params(axis="y", length=0)
    chosen = set(lines.loc[lines["verdict"] == CHOSEN, "claim"])
    heads = {claim: fold(f"{claim}, {CHOSEN}" if claim in chosen else claim, 38) for claim, _ in heights}
    names = [row.rpartition(", ")[2] or heads[claim] for claim, row in heights]
    grid[0, 0].set_yticks(list(heights.values()), names)
    for (_, row), label in zip(heights, grid[0, 0].get_yticklabels(), strict=True):
        label.set(fontweight="normal" if row else "bold", fontsize=8.5)
    looks = [(name, {"color": category_colour(k), "marker": MARKERS[k]}) for k, name in enumerate(decided)]
    looks += (
        [(MEAN, {"color": BLUE, "marker": "D", "linewidth": 2.6})] if any(row == MEAN for _, row in heights) else []
    )
    looks += [("the paper", paper | {"markersize": 11, "markeredgewidth": 1.8})] if lines["paper"].notna().any() else []
    handles = [plt.Line2D([], [], **look) for _, look in looks]
    place_legend(figure, handles, [name for name, _ in looks], loc="lower center", most=4)
    return figure
