"""The larger figures of the audit, as functions of its tidy tables; each returns a Figure and saves nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from radar_suite.report.plots import MARKERS
from radar_suite.report.style import BLACK, BLUE, GREEN, ORANGE, category_colour


def prevalence_panels(rates: Mapping[str, pd.DataFrame], categories: Sequence[str], *, most: int = 14) -> Figure:
    """Prevalence with its 95 % binomial interval, a panel per grouping: groups down, risks side by side.

    Args:
        rates: by name of the grouping, `audit.prevalence` tables. The `most` groups with most verified labels are
            drawn, in their order.
    """
    panels = {}
    for name, frame in rates.items():
        verified = frame[frame["verified"] > 0]
        largest = verified.groupby("group", sort=False)["verified"].sum().nlargest(most).index
        panels[name] = verified[verified["group"].isin(largest)]
    columns, groups_of = min(3, len(panels)), [frame["group"].nunique() for frame in panels.values()]
    heights = [max(groups_of[start : start + columns]) + 3 for start in range(0, len(panels), columns)]
    size = (3.9 * columns, 1.0 + 0.27 * sum(heights))
    figure, grid = plt.subplots(len(heights), columns, squeeze=False, height_ratios=heights, figsize=size)
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    for axes, (name, frame) in zip(grid.flat, panels.items(), strict=False):
        groups = list(dict.fromkeys(frame["group"]))
        for k, category in enumerate(categories):
            part = frame[frame["category"] == category]
            height = np.array([groups.index(group) for group in part["group"]]) + 0.22 * (k - (len(categories) - 1) / 2)
            mid = 100 * part["prevalence"].to_numpy()
            ends = np.abs(100 * part[["low", "high"]].to_numpy().T - mid)
            axes.errorbar(mid, height, xerr=ends, color=category_colour(k), marker=MARKERS[k % 7], markersize=4.5,
                          linestyle="", elinewidth=1.1, label=category)  # fmt: skip
        axes.set_yticks(range(len(groups)), [str(group) for group in groups])
        axes.set(title=f"by {name}", ylim=(len(groups) - 0.4, -0.6), xlim=(0, None), xlabel="violating (%)")
        axes.grid(False, axis="y")
    handles = [plt.Line2D([], [], color=category_colour(k), marker=MARKERS[k % 7], linestyle="", label=c)
               for k, c in enumerate(categories)]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper center", ncols=min(7, len(categories)))
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
