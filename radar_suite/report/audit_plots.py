"""The larger figures of the audit, as functions of its tidy tables; each returns a Figure and saves nothing."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from radar_suite.report.drawing import draw_counts, place_legend, shorten
from radar_suite.report.style import BLACK, BLUE, GREEN, MARKERS, ORANGE, category_colour, look

MOST_PIPELINES, MOST_GROUPS = 24, 12  # that a figure shows; a year of months


def label_matrices(matrix: pd.DataFrame, both: pd.DataFrame) -> Figure:
    """Verified labels by pipeline and risk, and, where there are any, posts verified for two risks: side by side, from
    K = 5 on stacked.

    Args:
        matrix: a line per pipeline, a column per risk; the `MOST_PIPELINES` with most labels are drawn, in their order.
        both: a line and a column per risk.
    """
    shown = matrix.sum(axis=1).nlargest(MOST_PIPELINES).index
    title = "verified labels" + (f", {len(shown)} of {len(matrix)} pipelines" if len(shown) < len(matrix) else "")
    matrix, k = matrix[matrix.index.isin(shown)], len(both)
    panels = [({"title": title, "x": "risk", "y": "pipeline"}, matrix)]
    if np.triu(both, 1).any():
        panels.append(({"title": "verified for both", "x": "risk", "y": "risk"}, both))
    heights = [len(counts) for _, counts in panels]
    if k < 5:
        size = ((2.4 + 0.95 * k) * len(panels), 1.5 + 0.5 * max(*heights, k, 2))
        figure, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False)
    else:
        size = (3.6 + 1.15 * k, 1.7 * len(panels) + 0.5 * sum(heights))
        figure, axes = plt.subplots(len(panels), 1, figsize=size, height_ratios=heights, squeeze=False)
    for axis, (names, counts) in zip(axes.flat, panels, strict=True):
        draw_counts(axis, counts, **names)
    return figure


def pipeline_guesses(probe: pd.DataFrame) -> Figure:
    """How well probes guess each pipeline, a line per pipeline, at most `MOST_PIPELINES`, those guessed best.

    Args:
        probe: columns pipeline, probe, auc.
    """
    order = probe.groupby("pipeline", sort=False)["auc"].max()
    shown = [name for name in order.index if name in set(order.nlargest(MOST_PIPELINES).index)]
    figure, axes = plt.subplots(figsize=(6.4, 1.4 + 0.4 * len(shown)))
    names = {name: shorten(str(name), 26) for name in shown}
    for k, (name, part) in enumerate(probe[probe["pipeline"].isin(shown)].groupby("probe", sort=False)):
        heights = [shown.index(one) for one in part["pipeline"]]
        axes.plot(part["auc"], heights, MARKERS[k], color=category_colour(k), linestyle="", label=name)
    axes.axvline(0.5, color=BLACK, linestyle=":", marker="", linewidth=1, label="chance")
    axes.set_yticks(range(len(shown)), names.values())
    axes.set(title="which pipeline labelled the post?", xlabel="AUC on posts not seen", xlim=(0.38, 1.02))
    axes.margins(y=0.3)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def prevalence_panels(rates: Mapping[str, pd.DataFrame], categories: Sequence[str]) -> Figure:
    """Prevalence with its 95 % binomial interval, a panel per grouping: groups down, risks side by side.

    Args:
        rates: by grouping, `audit.prevalence` tables. The `MOST_GROUPS` with most verified labels are drawn,
            in their order. All panels share one scale.
    """
    panels = {}
    for name, frame in rates.items():
        verified = frame[frame["verified"] > 0]
        largest = verified.groupby("group", sort=False)["verified"].sum().nlargest(MOST_GROUPS).index
        panels[name] = verified[verified["group"].isin(largest)]
    widest = 102 * max((frame["high"].max() for frame in panels.values()), default=1)
    columns, groups_of = min(2, len(panels)), [frame["group"].nunique() for frame in panels.values()]
    thick = max(1.0, len(categories) / 4)  # of a group's line
    heights = [max(groups_of[start : start + columns]) * thick + 3 for start in range(0, len(panels), columns)]
    long = any(len(str(group)) > 20 for frame in panels.values() for group in frame["group"])
    size = ((4.9 if long else 3.9) * columns, 1.0 + 0.27 * sum(heights))
    apart = min(0.22, 0.8 / len(categories))
    figure, grid = plt.subplots(len(heights), columns, squeeze=False, height_ratios=heights, figsize=size)
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    for axes, (name, frame) in zip(grid.flat, panels.items(), strict=False):
        groups = list(dict.fromkeys(frame["group"]))
        for k, category in enumerate(categories):
            part, shift = frame[frame["category"] == category], apart * (k - (len(categories) - 1) / 2)
            height = np.array([groups.index(group) for group in part["group"]]) + shift
            mid = 100 * part["prevalence"].to_numpy()
            ends = np.abs(100 * part[["low", "high"]].to_numpy().T - mid)
            axes.errorbar(mid, height, xerr=ends, markersize=4.5, elinewidth=1.1, label=category,
                          **look(k) | {"linestyle": ""})  # fmt: skip
        axes.set_yticks(range(len(groups)), [shorten(str(group), 26) for group in groups])
        axes.set(title=f"by {name}", ylim=(len(groups) - 0.4, -0.6), xlim=(0, widest), xlabel="violating (%)")
        axes.grid(False, axis="y")
    handles = [plt.Line2D([], [], **look(k) | {"linestyle": ""}) for k in range(len(categories))]
    place_legend(figure, handles, categories, loc="upper center", most=7)
    return figure


def modality_gains(scores: pd.DataFrame, gains: pd.DataFrame) -> Figure:
    """PR-AUC of the three probes (left), and what the joint one gains over each with 95 % intervals (right).

    Args:
        scores: columns category, probe, ap, prevalence.
        gains: columns category, over, gain, low, high.
    """
    categories = list(dict.fromkeys(scores["category"]))
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 1.9 + 0.45 * len(categories)), sharey=True)
    looks = {"text": (BLUE, "o"), "frames": (ORANGE, "s"), "joint": (GREEN, "D")}
    for name, (colour, marker) in looks.items():
        part = scores[scores["probe"] == name].set_index("category").reindex(categories)
        left.plot(100 * part["ap"], range(len(categories)), marker, color=colour, linestyle="", label=name)
    chance = scores.groupby("category", sort=False)["prevalence"].first().reindex(categories)
    left.plot(100 * chance, range(len(categories)), "|", color=BLACK, markersize=11, linestyle="", label="chance")
    left.set_yticks(range(len(categories)), categories)
    left.set(title="probes on posts not seen", xlabel="PR-AUC (%)", xlim=(0, None), ylim=(len(categories) - 0.4, -0.6))
    for shift, name in ((-0.1, "text"), (0.1, "frames")):
        part = gains[gains["over"] == name].set_index("category").reindex(categories)
        mid, ends = 100 * part["gain"], 100 * part[["low", "high"]].to_numpy().T
        right.errorbar(mid, np.arange(len(categories)) + shift, xerr=np.abs(ends - mid.to_numpy()), linestyle="",
                       color=looks[name][0], marker=looks[name][1], label=f"joint over {name}")  # fmt: skip
    right.axvline(0, color=BLACK, linestyle=":", marker="", linewidth=1)
    right.set(title="gain of the joint probe", xlabel="PR-AUC points (95 % interval)")
    handles = [pair for axes in (left, right) for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    figure.legend(*zip(*handles, strict=True), loc="outside lower center", ncols=6, fontsize=8.5)
    return figure
